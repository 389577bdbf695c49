//! Allocation, giving back, taking and erasing, against a plain model.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A block: its index, order, CPU, buffer, and what kind it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    index: u64,
    order: u8,
    cpu: u8,
    buffer: u8,
    /// 0: it holds nothing.
    time: u64,
}

impl Block {
    fn pages(&self) -> std::ops::Range<u64> {
        self.index..self.index + (1 << self.order)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc {
        cpu: u8,
        buffer: u8,
        order: u8,
        filled: bool,
    },
    /// So many single pages.
    Fill(u8),
    /// One of those that there are.
    Free(prop::sample::Index),
    /// Also so many neighbours.
    FreeSome(prop::sample::Index, u8),
    EraseBuffer(prop::sample::Index, u8),
    NextLife,
    Kexec,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..CPUS as u8, 0..3u8, 0..=4u8, prop::bool::weighted(0.8))
            .prop_map(|(cpu, buffer, order, filled)| Step::Alloc { cpu, buffer, order, filled }),
        3 => (1..60u8).prop_map(Step::Fill),
        4 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => (any::<prop::sample::Index>(), 1..20u8).prop_map(|(at, n)| Step::FreeSome(at, n)),
        1 => (any::<prop::sample::Index>(), 0..3u8).prop_map(|(at, buffer)| Step::EraseBuffer(at, buffer)),
        1 => Just(Step::NextLife),
        1 => Just(Step::Kexec),
    ]
}

struct Model {
    memory: SimMemory,
    region: Region<SimMemory>,
    /// Blocks of each life that has any or runs.
    lives: BTreeMap<u64, Vec<Block>>,
    taken: BTreeMap<u64, u64>,
    clock: u64,
}

impl Model {
    fn new() -> Self {
        let (memory, region) = fresh();
        let mut model = Model {
            memory,
            region,
            lives: BTreeMap::new(),
            taken: BTreeMap::new(),
            clock: 0,
        };
        model.next_life();
        model
    }

    fn running(&mut self) -> &mut Vec<Block> {
        let life = self.region.life();
        self.lives.entry(life).or_default()
    }

    fn next_life(&mut self) {
        self.region = open(self.memory);
        // One with nothing goes first, when all slots are in use.
        if self.lives.len() == SLOTS as usize {
            let empty = self.lives.iter().find(|(_, blocks)| blocks.is_empty());
            let oldest = empty
                .or(self.lives.iter().next())
                .map(|(&number, _)| number);
            self.lives.remove(&oldest.unwrap());
        }
        self.region.begin_life(&BEGINNING, 0).unwrap();
        self.running();
    }

    fn alloc(&mut self, cpu: u8, buffer: u8, order: u8, filled: bool) {
        let before = self.used();
        let free = self.region.marks().count() - before.len() as u64;
        let page = self.region.alloc(cpu, buffer, order, Kind::Events);
        let life = self.region.life();
        let Some(page) = page else {
            // Nothing has changed, and there really is no place among what is free or old.
            let mine = |index| matches!(before.get(&index), Some(&owner) if owner == life);
            assert!(
                !self
                    .places(order)
                    .any(|start| (start..start + (1 << order)).all(|at| !mine(at)))
            );
            return;
        };
        assert_eq!(page.check(), Ok(()));
        assert_eq!(page.order, order);
        let index = self.region.marks().index(page.pa).unwrap();
        let mut block = Block {
            index,
            order,
            cpu,
            buffer,
            time: 0,
        };
        let content = self.memory.read(page.pa, page.size() as usize);
        assert!(content.iter().all(|&byte| byte == 0));
        if free == 0 && order == 0 {
            self.was_the_oldest(index, life);
        }
        let was_free = self
            .places(order)
            .any(|start| (start..start + (1 << order)).all(|at| !before.contains_key(&at)));
        for at in block.pages() {
            let owner = before.get(&at);
            assert_ne!(owner, Some(&life), "page {at} given twice");
            assert!(!was_free || owner.is_none(), "taken without need");
        }
        // What the old lives have lost: whole blocks, and only those in the way.
        for (&number, blocks) in self.lives.iter_mut().filter(|(number, _)| **number != life) {
            blocks.retain(|old| {
                let hit = old.pages().any(|at| block.pages().contains(&at));
                if hit && old.time != 0 {
                    *self.taken.entry(number).or_default() += 1;
                }
                !hit
            });
        }
        self.lives.retain(|&number, blocks| {
            number == life || !blocks.is_empty() || !before.values().any(|&o| o == number)
        });
        if filled {
            self.clock += 1;
            block.time = self.clock;
            fill(&self.memory, page, self.clock, self.clock, &self.region);
        }
        self.running().push(block);
    }

    /// No page was free: the one that was taken was the first of a block that holds nothing, of the oldest life that has one, or else of the
    /// oldest block of the oldest life.
    fn was_the_oldest(&self, index: u64, life: u64) {
        let old = || self.lives.iter().filter(|(number, _)| **number != life);
        let oldest_of = |blocks: &Vec<Block>| blocks.iter().map(|block| block.time).min();
        let (_, blocks) = old()
            .find(|(_, blocks)| oldest_of(blocks) == Some(0))
            .or_else(|| old().find(|(_, blocks)| !blocks.is_empty()))
            .unwrap();
        let oldest = oldest_of(blocks).unwrap();
        assert!(
            blocks
                .iter()
                .any(|block| block.time == oldest && block.index == index)
        );
    }

    /// Where a block of an order may begin.
    fn places(&self, order: u8) -> impl Iterator<Item = u64> + use<> {
        let marks = self.region.marks();
        let fits = move |start: &u64| {
            marks.address(*start).is_multiple_of(PAGE_SIZE << order)
                && start + (1 << order) <= marks.count()
        };
        (0..marks.count()).filter(fits)
    }

    /// Whose each page is.
    fn used(&self) -> BTreeMap<u64, u64> {
        let mut used = BTreeMap::new();
        for (&number, blocks) in &self.lives {
            for index in blocks.iter().flat_map(Block::pages) {
                assert_eq!(
                    used.insert(index, number),
                    None,
                    "page {index} is in two hands"
                );
            }
        }
        used
    }

    fn free(&mut self, at: prop::sample::Index) {
        if self.running().is_empty() {
            return;
        }
        let len = self.running().len();
        let block = self.running().remove(at.index(len));
        let page = PageRef {
            pa: self.region.marks().address(block.index),
            order: block.order,
        };
        // Neither with a wrong order, nor by another CPU, nor from its middle.
        self.region.free(PageRef {
            order: block.order + 1,
            ..page
        });
        self.region.free_page(page, block.cpu ^ 1);
        if block.order != 0 {
            self.region.free(PageRef {
                pa: page.pa + PAGE_SIZE,
                ..page
            });
        }
        self.region.free_page(page, block.cpu);
        self.region.free(page);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Alloc {
                cpu,
                buffer,
                order,
                filled,
            } => self.alloc(cpu, buffer, order, filled),
            Step::Fill(n) => (0..n).for_each(|i| self.alloc(i % 2, 0, 0, true)),
            Step::Free(at) => self.free(at),
            Step::FreeSome(at, n) => (0..n).for_each(|_| self.free(at)),
            Step::EraseBuffer(at, buffer) => {
                let running = self.region.life();
                let old: Vec<u64> = self
                    .lives
                    .keys()
                    .copied()
                    .filter(|&number| number != running)
                    .collect();
                if old.is_empty() {
                    return;
                }
                let number = *at.get(&old);
                self.region.erase_buffer(number, buffer).unwrap();
                let blocks = self.lives.get_mut(&number).unwrap();
                blocks.retain(|block| block.buffer != buffer);
                if blocks.is_empty() {
                    self.lives.remove(&number);
                }
            }
            Step::NextLife => self.next_life(),
            Step::Kexec => {
                let number = self.region.life();
                self.region = open(self.memory);
                self.region.go_on(number).unwrap();
            }
        }
        self.check();
    }

    /// Marks, bitmaps and counts say what the model says.
    fn check(&self) {
        let owners = owners(&self.region);
        let used = self.used();
        assert_eq!(
            self.region.pages_available(),
            (owners.len() - used.len()) as u64
        );
        let running = self.region.life();
        let mut old: Vec<u64> = self
            .lives
            .keys()
            .copied()
            .filter(|&number| number != running)
            .collect();
        old.reverse();
        assert_eq!(self.region.old_numbers(), old);
        let mut marked = 0;
        for (&number, blocks) in &self.lives {
            for block in blocks {
                for at in block.pages() {
                    let wanted = Owner {
                        life: number,
                        buffer: block.buffer,
                        cpu: block.cpu,
                        order: block.order,
                        kind: if at == block.index {
                            Kind::Events
                        } else {
                            Kind::Rest
                        },
                    };
                    assert_eq!(owners[at as usize], Some(wanted));
                    marked += 1;
                }
            }
        }
        assert_eq!(owners.iter().flatten().count(), marked);
        let mut by_cpu: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for slot in 0..SLOTS {
            for cpu in [0, 1, NO_CPU] {
                by_cpu
                    .entry(cpu)
                    .or_default()
                    .extend(bits(&self.memory, slot, cpu));
            }
        }
        for (cpu, mut bits) in by_cpu {
            bits.sort_unstable();
            let has =
                |(_, owner): &(u64, &Option<Owner>)| owner.is_some_and(|owner| owner.cpu == cpu);
            let wanted: Vec<u64> = (0..)
                .zip(&owners)
                .filter(has)
                .map(|(index, _)| index)
                .collect();
            assert_eq!(bits, wanted, "bitmaps of CPU {cpu}");
        }
        for life in self.region.old_lives() {
            let taken = self.taken.get(&life.number).copied().unwrap_or(0);
            assert_eq!(life.taken_pages, taken, "life {}", life.number);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_page_is_in_two_hands(steps in prop::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
    }
}

#[test]
fn within_a_ring_the_order_is_that_of_its_numbers_whatever_a_header_says() {
    let (memory, region) = fresh();
    region.begin_life(&BEGINNING, 0).unwrap();
    let mut pages = Vec::new();
    while let Some(page) = region.alloc((pages.len() % 2) as u8, 0, 0, Kind::Events) {
        fill(
            &memory,
            page,
            1000 + pages.len() as u64,
            pages.len() as u64,
            &region,
        );
        pages.push(page);
    }
    // The newest page of CPU 0 says that it is the oldest, an old one of CPU 1 that it is the newest.
    let newest = pages.len() - 2 + pages.len() % 2;
    fill(&memory, pages[newest], 1, newest as u64, &region);
    fill(&memory, pages[7], u64::MAX, 7, &region);
    let region = open(memory);
    region.begin_life(&BEGINNING, 0).unwrap();
    let taken: Vec<PageRef> = (0..pages.len())
        .map(|_| region.alloc_page(0).unwrap())
        .collect();
    assert_eq!(region.alloc_page(0), None);
    assert_eq!(region.old_lives(), [], "nothing is left of it");
    let of = |cpu: usize, pages: &[PageRef]| -> Vec<PageRef> {
        let cpus = pages.iter().enumerate();
        cpus.filter(|(at, _)| at % 2 == cpu)
            .map(|(_, page)| *page)
            .collect()
    };
    for cpu in 0..2 {
        let mine = of(cpu, &pages);
        let order: Vec<PageRef> = taken
            .iter()
            .copied()
            .filter(|page| mine.contains(page))
            .collect();
        assert_eq!(order, mine);
    }
    let at = |page: usize| {
        taken
            .iter()
            .position(|taken| *taken == pages[page])
            .unwrap()
    };
    // And they go about when they would go with the right time.
    assert!(at(7).abs_diff(7) < 3 && at(newest).abs_diff(newest) < 3);
}

#[test]
fn nothing_is_taken_while_the_old_lives_are_read() {
    let (memory, region) = fresh();
    region.begin_life(&BEGINNING, 2).unwrap();
    while let Some(page) = region.alloc_page(0) {
        fill(&memory, page, 5, 5, &region);
    }
    let region = open(memory);
    region.begin_life(&BEGINNING, 0).unwrap();
    assert_eq!(region.pages_available(), 0);
    assert_eq!(region.with_old(|| region.alloc_page(0)), None);
    assert_eq!(
        region.with_old(|| region.save_state(&[1; 4097])),
        Err(RegionError::Full(2))
    );
    assert_eq!(
        region.with_old(|| region.erase_log(1)),
        Err(RegionError::Busy)
    );
    assert!(region.alloc_page(0).is_some());
    assert_eq!(region.old_lives()[0].taken_pages, 1);
    // What cannot be.
    assert_eq!(region.alloc(CPUS as u8, 0, 0, Kind::Events), None);
    assert_eq!(region.alloc(0, 0, 16, Kind::Events), None);
    assert_eq!(region.alloc(0, 0, 0, Kind::Rest), None);
    // Its log stays when all else is gone.
    while region.alloc_page(0).is_some() {}
    let old = region.old_lives();
    assert_eq!(old[0].log.len(), 2);
    region.erase_log(1).unwrap();
    assert_eq!(region.pages_available(), 2);
    assert_eq!(region.old_numbers(), []);
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let (memory, region) = fresh();
    region.begin_life(&BEGINNING, 2).unwrap();
    region.save_state(b"a state").unwrap();
    let before = region.info();
    let free = region.pages_available();
    let long = "l".repeat(5000);
    assert!(matches!(
        region.update(|life| life.clock = long.clone()),
        Err(RegionError::MetadataRoom(_))
    ));
    assert_eq!(
        region.save_state(&vec![0; 257 << 12]),
        Err(RegionError::StateSize(257 << 12))
    );
    assert_eq!(
        region.save_state(&vec![0; 256 << 12]),
        Err(RegionError::Full(256))
    );
    assert_eq!(region.info(), before);
    assert_eq!(region.pages_available(), free);
    let region = open(memory);
    let beginning = Beginning {
        release: &long,
        ..BEGINNING
    };
    assert!(matches!(
        region.begin_life(&beginning, 2),
        Err(RegionError::MetadataRoom(_))
    ));
    assert_eq!(region.life(), 0);
    assert_eq!(
        region.read_state(&region.old_lives()[0]),
        Some(b"a state".to_vec())
    );
    for range in [
        PhysRange::new(0, 4096),
        PhysRange::new(4096, MIB + 4096),
        PhysRange::new(5, 5),
    ] {
        assert_eq!(format(&memory, range, CPUS), Err(RegionError::Range(range)));
        assert_eq!(
            open_at(memory, range).unwrap_err(),
            RegionError::Range(range)
        );
    }
    let beyond = PhysRange::new(RANGE.start, RANGE.end + MIB);
    assert_eq!(
        open_at(memory, beyond).unwrap_err(),
        RegionError::NotReachable(beyond)
    );
    assert_eq!(format(&memory, RANGE, 65), Err(RegionError::Cpus(65)));
}
