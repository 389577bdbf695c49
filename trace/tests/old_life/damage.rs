//! Damage anywhere in a region, thousands of times: what is kept is what was written, all else is dropped and told.

use crate::life::{
    ALL, RANGE, Sealing, Written, alone, begin, is, leave, lines, machine, open, record_long,
    tracer, try_open,
};
use handover::mem::PAGE_SIZE;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use trace::page::HEADER_SIZE;
use trace::ramtrace::mark::{Kind, Owner};
use trace::ramtrace::old::{self, OldError, OldLife};
use trace::ramtrace::{Geometry, Region, RegionError};
use trace::testing::TestPlatform;

/// Numbers that look random: the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A region with one life, and what it looked like before the damage.
struct Whole {
    platform: TestPlatform,
    bytes: Vec<u8>,
    written: BTreeMap<u64, Written>,
    geometry: Geometry,
    lines: BTreeSet<String>,
    /// The pages of its state.
    state: Vec<u32>,
    /// Pages that were written to since it was whole.
    touched: RefCell<BTreeSet<u64>>,
    /// How often it was looked at: each eighth time the text, too, which takes longer than all else.
    looks: Cell<u32>,
}

fn whole(sealing: Sealing) -> Whole {
    let platform = machine();
    let t = tracer(platform, 48);
    record_long(t, 200);
    let written = leave(platform, t, sealing);
    assert!(written.len() > 16, "{}", written.len());
    let bytes = platform.memory.read(RANGE.start, RANGE.len() as usize);
    let mut text = String::new();
    old::write_text(&open(platform), 1, 0, &mut text).unwrap();
    let state = open(platform).old_lives()[0].state.clone();
    Whole {
        platform,
        bytes,
        written,
        geometry: Geometry::new(RANGE.len(), 4).unwrap(),
        lines: lines(&text).into_iter().map(String::from).collect(),
        state,
        touched: RefCell::default(),
        looks: Cell::new(0),
    }
}

impl Whole {
    /// Undoes all damage; and what was repaired of it, which is in front of the data.
    fn restore(&self) {
        let touched = self.touched.take();
        let data = touched.range(self.geometry.data..).copied();
        for page in (0..self.geometry.data)
            .chain(data)
            .chain([self.geometry.pages - 1])
        {
            let at = page * PAGE_SIZE;
            let bytes = &self.bytes[at as usize..][..PAGE_SIZE as usize];
            self.platform.memory.write(RANGE.start + at, bytes);
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.touched.borrow_mut().insert(at / PAGE_SIZE);
        self.platform.memory.write(RANGE.start + at, bytes);
    }

    fn flip(&self, at: u64, bit: u64) {
        let byte = self.platform.memory.read(RANGE.start + at, 1)[0];
        self.write(at, &[byte ^ 1 << bit]);
    }

    fn pages(&self, wanted: fn(&Written) -> bool) -> Vec<u64> {
        let pages = self.written.iter().filter(|one| wanted(one.1));
        pages.map(|one| *one.0).collect()
    }

    fn data(&self, index: u64) -> u64 {
        (self.geometry.data + index) * PAGE_SIZE
    }

    fn mark(&self, index: u64) -> u64 {
        self.geometry.marks * PAGE_SIZE + index * 32
    }

    /// Kept pages are what they were, and each other one is told. With `all`, each by its index. Returns those that are kept.
    #[track_caller]
    fn check(&self, all: bool) -> BTreeSet<u64> {
        let region = open(self.platform);
        let old = match OldLife::read(&region, 1) {
            // Nothing is left of it but pages without marks.
            Err(OldError::NoLife(1)) => {
                assert!(!all);
                return BTreeSet::new();
            }
            old => old.unwrap(),
        };
        let mut told: BTreeSet<u64> = old.strays.iter().map(|stray| stray.index).collect();
        let mut kept = BTreeSet::new();
        let mut missing = 0;
        for buffer in &old.buffers {
            for cpu in &buffer.cpus {
                missing += cpu.missing;
                told.extend(cpu.dropped.iter().map(|dropped| dropped.index));
                for page in &cpu.pages {
                    let one = self.written.get(&page.index);
                    let one = one.expect("no page is kept that was not written");
                    assert!(is(self.platform, page, one), "{page:?}");
                    assert_eq!((one.cpu, one.buffer), (cpu.cpu, buffer.number));
                    assert_eq!(page.sealed, one.sealed);
                    kept.insert(page.index);
                }
            }
        }
        assert!(kept.is_disjoint(&told));
        let untold = self
            .written
            .keys()
            .filter(|index| !kept.contains(index) && !told.contains(index));
        let untold = untold.count() as u64;
        assert!(!all || untold == 0 && missing == 0, "{untold} {missing}");

        let look = self.looks.get();
        self.looks.set(look + 1);
        if look.is_multiple_of(8) {
            self.check_text(&region, told.len());
        }
        kept
    }

    /// No event is shown that was not recorded, and what was dropped is named.
    #[track_caller]
    fn check_text(&self, region: &Region<TestPlatform>, dropped: usize) {
        let mut text = String::new();
        old::write_text(region, 1, 0, &mut text)
            .or_else(no_buffer)
            .unwrap();
        if text.contains("# its formats are lost") {
            return;
        }
        for line in lines(&text) {
            let lost = line.ends_with(" EVENTS]") && line.contains(" [LOST");
            assert!(
                lost || self.lines.contains(line) || line.starts_with("##### CPU"),
                "{line}"
            );
        }
        let damage = text
            .lines()
            .filter(|line| line.starts_with("# page "))
            .count();
        assert_eq!(damage, dropped.min(32), "{text}");
    }
}

fn no_buffer(error: OldError) -> Result<(), OldError> {
    match error {
        OldError::NoBuffer(0) => Ok(()),
        error => Err(error),
    }
}

#[test]
fn bits_that_flip_in_marks_and_data_cost_the_pages_that_they_are_in() {
    let _alone = alone();
    let whole = whole(ALL);
    whole.check(true);
    let mut random = Random(1);
    let pages: Vec<u64> = whole.written.keys().copied().collect();
    for round in 0..1500 {
        let mut hit = BTreeSet::new();
        for _ in 0..=random.below(4) {
            let index = random.one_of(&pages);
            let (bit, one) = (random.below(8), &whole.written[&index]);
            let at = match random.below(2) {
                0 => whole.mark(index) + random.below(32),
                _ => whole.data(index) + random.below((HEADER_SIZE + one.data.len()) as u64),
            };
            whole.flip(at, bit);
            hit.insert(index);
        }
        let kept = whole.check(true);
        let whole_ones = pages.iter().filter(|index| !hit.contains(index));
        for index in whole_ones {
            assert!(
                kept.contains(index),
                "round {round}: page {index} was not damaged"
            );
        }
        whole.restore();
    }
}

#[test]
fn bits_that_flip_in_bitmaps_and_metadata_cost_no_event() {
    let _alone = alone();
    let whole = whole(ALL);
    let mut random = Random(2);
    let last = whole.geometry.pages - 1;
    for _ in 0..600 {
        // One of two superblocks, one of two metadata pages of each slot, and any bitmap.
        let superblock = random.one_of(&[0, last]);
        let copy = random.below(2);
        for _ in 0..=random.below(20) {
            let slot = 1 + whole.geometry.slot_pages * random.below(4);
            let page = match random.below(4) {
                0 => superblock,
                1 => slot + copy,
                _ => slot + 2 + random.below(whole.geometry.slot_pages - 2),
            };
            whole.flip(page * PAGE_SIZE + random.below(200), random.below(8));
        }
        assert_eq!(whole.check(false).len(), whole.written.len());
        whole.restore();
    }
}

#[test]
fn zeroed_pages_cost_what_was_in_them() {
    let _alone = alone();
    let whole = whole(ALL);
    for page in 0..whole.geometry.pages {
        whole.write(page * PAGE_SIZE, &[0; PAGE_SIZE as usize]);
        let kept = whole.check(true).len();
        let data = page.checked_sub(whole.geometry.data);
        let marks = (whole.geometry.marks..whole.geometry.data).contains(&page);
        if !marks {
            let cost = data.is_some_and(|index| whole.written.contains_key(&index));
            assert_eq!(kept + usize::from(cost), whole.written.len(), "page {page}");
        }
        whole.restore();
    }
}

#[test]
fn damage_everywhere_keeps_what_is_whole() {
    let _alone = alone();
    let whole = whole(ALL);
    let mut random = Random(3);
    for _ in 0..600 {
        for _ in 0..1 << random.below(12) {
            whole.flip(random.below(RANGE.len()), random.below(8));
        }
        for _ in 0..random.below(4) {
            let page = random.below(whole.geometry.pages) * PAGE_SIZE;
            whole.write(page, &[0; PAGE_SIZE as usize]);
        }
        if try_open(whole.platform).is_ok() {
            whole.check(false);
        }
        whole.restore();
    }
    // The state is in one of them.
    assert!(!whole.state.is_empty());
    let at = whole.data(whole.state[0].into());
    whole.flip(at + 77, 3);
    whole.check(true);
}

/// Whatever is in the region: reading it ends, and says a sentence at most.
#[test]
fn random_bytes_are_no_life() {
    let _alone = alone();
    let platform = machine();
    let region = begin(platform, 1);
    let formatted = platform.memory.read(RANGE.start, RANGE.len() as usize);
    let geometry = Geometry::new(RANGE.len(), 4).unwrap();
    let marks = region.marks();
    let mut random = Random(4);
    for round in 0..60 {
        platform.memory.write(RANGE.start, &formatted);
        let mut noise = vec![0; RANGE.len() as usize];
        for word in noise.as_chunks_mut().0 {
            *word = random.next().to_ne_bytes();
        }
        let from = match round % 3 {
            // All of it, all but the superblocks, or data and marks alone.
            0 => 0,
            1 => PAGE_SIZE,
            _ => geometry.marks * PAGE_SIZE,
        };
        let to = RANGE.len() - PAGE_SIZE;
        platform
            .memory
            .write(RANGE.start + from, &noise[from as usize..to as usize]);
        if round % 3 == 2 {
            // Marks with good checks, and seals that fit what cannot be.
            for index in 0..marks.count() {
                let mark = marks.at(index).unwrap();
                let kind = random.one_of(&[Kind::Events, Kind::Events, Kind::Rest, Kind::Log]);
                let owner = Owner {
                    life: 1 + random.below(2),
                    buffer: random.below(3) as u8,
                    cpu: random.below(5) as u8,
                    order: random.one_of(&[0, 0, 0, 1, 4, 15]),
                    kind,
                };
                let seq = random.below(300);
                mark.give(owner.encode(index));
                mark.unseal(seq);
                mark.begin(seq, random.below(3));
                let len = 4 * random.below(1020) as usize;
                let bytes = platform
                    .memory
                    .read(marks.address(index), PAGE_SIZE as usize);
                if random.below(2) == 0 {
                    crate::life::seal(mark, &bytes, (seq, len, random.below(2) == 0));
                }
                if random.below(2) == 0 {
                    let commit = len as u64 + 4 * random.below(9);
                    platform
                        .memory
                        .write(marks.address(index) + 8, &commit.to_ne_bytes());
                }
            }
        }
        let region = match try_open(platform) {
            Ok(region) => region,
            Err(RegionError::NoSuperblock) => continue,
            Err(error) => panic!("{error}"),
        };
        for number in region.old_numbers() {
            let old = OldLife::read(&region, number).unwrap();
            for buffer in &old.buffers {
                let mut text = String::new();
                old::write_text(&region, number, buffer.number, &mut text).unwrap();
                let mut size = 0;
                let mut out = |page: &[u8]| {
                    size += page.len();
                    trace::page::check(page).unwrap();
                    Ok(())
                };
                old::write_raw(&region, number, buffer.number, &mut out).unwrap();
                assert_eq!(size, buffer.pages().map(|page| page.size()).sum::<usize>());
            }
        }
    }
}

/// What was written after the last seal is walked, and shown; damage to it may change it, and nothing else.
#[test]
fn damage_to_what_is_not_sealed_changes_nothing_else() {
    let _alone = alone();
    let whole = whole(|last, commit| (!last).then_some((commit, true)));
    let (platform, written) = (whole.platform, &whole.written);
    let loose: Vec<u64> = whole.pages(|one| one.sealed == 0);
    assert_eq!(loose.len(), 2);
    let mut random = Random(5);
    for _ in 0..1000 {
        let index = random.one_of(&loose);
        let one = &written[&index];
        let at = match random.below(3) {
            0 => whole.mark(index) + random.below(32),
            1 => whole.data(index) + random.below(16),
            _ => whole.data(index) + random.below((HEADER_SIZE + one.data.len()) as u64),
        };
        whole.flip(at, random.below(8));
        let region = open(platform);
        let old = OldLife::read(&region, 1).unwrap();
        let kept = old.buffers[0].pages().map(|page| (page.index, *page));
        let kept: BTreeMap<u64, _> = kept.collect();
        for index in whole.pages(|one| one.sealed > 0) {
            assert!(is(platform, &kept[&index], &written[&index]));
        }
        let dropped = old.buffers[0].cpus.iter().flat_map(|cpu| &cpu.dropped);
        let dropped = dropped.chain(&old.strays).count();
        assert_eq!(kept.len() + dropped, written.len());
        old::write_text(&region, 1, 0, &mut String::new()).unwrap();
        whole.restore();
    }
}
