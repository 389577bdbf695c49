//! A region with changed bits, zeroed pages, and metadata that say what cannot be.

use super::*;
use handover::state::{STREAM_OVERHEAD, StreamWriter, encoded_size};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A region with three lives of ten blocks each, none of which runs, and what their metadata say, the oldest first.
fn three_old() -> (SimMemory, Vec<Life>) {
    let (memory, mut region) = fresh();
    for _ in 0..3 {
        live(&memory, &region, 10);
        region = open(memory);
    }
    let mut lives = region.old_lives();
    lives.reverse();
    (memory, lives)
}

/// Where metadata page `copy` of a slot is.
fn metadata(slot: u64, copy: u64) -> u64 {
    let geometry = Geometry::new(RANGE.len(), CPUS).unwrap();
    RANGE.start + (1 + slot * geometry.slot_pages + copy) * PAGE_SIZE
}

fn mark(index: u64) -> u64 {
    let geometry = Geometry::new(RANGE.len(), CPUS).unwrap();
    RANGE.start + geometry.marks * PAGE_SIZE + index * 32
}

fn flip(memory: &SimMemory, at: u64, bit: u8) {
    let byte = memory.read(at, 1)[0];
    memory.write(at, &[byte ^ 1 << bit]);
}

/// Writes both metadata pages of a slot, with the number that is there, and a good checksum.
fn forge(memory: &SimMemory, slot: u64, life: &Life) {
    let mut stream = vec![0; STREAM_OVERHEAD + encoded_size(life)];
    let mut writer = StreamWriter::new(&mut stream);
    writer.put(0, life).unwrap();
    let len = writer.finish().unwrap();
    for copy in 0..2 {
        let at = metadata(slot, copy);
        let mut bytes = memory.read(at, 24);
        bytes.extend(&stream[..len]);
        bytes[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_ne_bytes());
        memory.write(at, &bytes);
    }
}

/// Whatever is in the region: all that can be asked of it ends, and what is given out is in one hand only.
fn all_is_asked(region: &Region<SimMemory>) {
    let numbers = region.old_numbers();
    assert!(numbers.len() <= SLOTS as usize);
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
    for life in region.old_lives() {
        assert!(numbers.contains(&life.number));
        region.read_state(&life);
        region.read_log(&life);
    }
    for &number in &numbers {
        region.unmarked(number);
    }
    let pages = region.marks().count();
    assert!(region.pages_available() <= pages);
    region.begin_life(&BEGINNING, 3).unwrap();
    let life = region.life();
    assert!(
        numbers
            .iter()
            .all(|&number| number < life || number & LIFE_MASK < life)
    );
    for i in 0..300 {
        region.log(&format!("line {i}"));
    }
    let (text, damaged) = region.read_log(&region.info().unwrap());
    assert!(text.ends_with("line 299\n") || region.info().unwrap().log.is_empty());
    assert_eq!(damaged, 0);
    let mut mine = BTreeSet::new();
    let log = region.info().unwrap().log;
    mine.extend(log.into_iter().map(u64::from));
    for order in [0, 2, 1, 0].into_iter().cycle().take(2 * pages as usize) {
        let Some(block) = region.alloc(1, 0, order, Kind::Events) else {
            continue;
        };
        let first = region.marks().index(block.pa).unwrap();
        for index in first..first + block.pages() {
            assert!(mine.insert(index), "page {index} given twice");
        }
    }
    for number in region.old_numbers() {
        for buffer in 0..3 {
            // The first that goes may be the last.
            let gone = region.erase_buffer(number, buffer);
            assert!(matches!(gone, Ok(()) | Err(RegionError::NoLife(_))));
        }
        let gone = region.erase_life(number);
        assert!(matches!(gone, Ok(()) | Err(RegionError::NoLife(_))));
    }
    while let Some(block) = region.alloc_page(0) {
        assert!(mine.insert(region.marks().index(block.pa).unwrap()));
    }
    assert_eq!(mine.len() as u64, pages, "all pages can be had");
    assert_eq!(region.pages_available(), 0);
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit of the whole region.
    Bit(prop::sample::Index, u8),
    /// A bit before the data pages.
    HeadBit(prop::sample::Index, u8),
    /// A page of zeroes, or of ones.
    Page(prop::sample::Index, u8),
    /// So many bytes of noise before the data pages.
    Noise(prop::sample::Index, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), 0..8u8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        6 => (index(), 0..8u8).prop_map(|(at, bit)| Damage::HeadBit(at, bit)),
        1 => (index(), prop_oneof![Just(0u8), Just(0xff)]).prop_map(|(at, byte)| Damage::Page(at, byte)),
        1 => (index(), any::<u64>()).prop_map(|(at, seed)| Damage::Noise(at, seed)),
    ]
}

impl Damage {
    /// The bytes of the region that are other ones afterwards.
    fn apply(self, memory: &SimMemory) -> std::ops::Range<u64> {
        let geometry = Geometry::new(RANGE.len(), CPUS).unwrap();
        let head = (geometry.data * PAGE_SIZE) as usize;
        let (at, len) = match self {
            Damage::Bit(at, bit) => {
                let at = at.index(RANGE.len() as usize) as u64;
                flip(memory, RANGE.start + at, bit);
                (at, 1)
            }
            Damage::HeadBit(at, bit) => {
                let at = at.index(head) as u64;
                flip(memory, RANGE.start + at, bit);
                (at, 1)
            }
            Damage::Page(at, byte) => {
                let at = at.index(geometry.pages as usize) as u64 * PAGE_SIZE;
                memory.write(RANGE.start + at, &[byte; PAGE_SIZE as usize]);
                (at, PAGE_SIZE)
            }
            Damage::Noise(at, seed) => {
                let at = at.index(head - 300) as u64;
                let noise: Vec<u8> = (1..=300u64)
                    .map(|i| (seed.wrapping_mul(i * i + 77) >> 13) as u8)
                    .collect();
                memory.write(RANGE.start + at, &noise);
                (at, 300)
            }
        };
        at..at + len
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_damaged_is_kept(damages in prop::collection::vec(damage(), 1..40)) {
        let (memory, lives) = three_old();
        let before = owners(&open(memory));
        let states: Vec<_> = lives.iter().map(|life| open(memory).read_state(life)).collect();
        let hit: Vec<_> = damages.iter().map(|damage| damage.apply(&memory)).collect();
        let is_hit = |at: u64, len: u64| hit.iter().any(|hit| hit.start < at + len && at < hit.end);
        let hits = |pa: u64, len: u64| is_hit(pa - RANGE.start, len);
        let last = RANGE.end - PAGE_SIZE;
        let region = match open_at(memory, RANGE) {
            Ok(region) => region,
            Err(_) => {
                prop_assert!(hits(RANGE.start, 40) && hits(last, 40));
                return Ok(());
            }
        };
        let found = region.old_lives();
        let after = owners(&region);
        for (slot, (life, state)) in lives.iter().zip(states).enumerate() {
            let slot = slot as u64;
            let kept = found.iter().find(|kept| kept.number == life.number);
            let copy_whole = (0..2).any(|copy| !hits(metadata(slot, copy), PAGE_SIZE));
            let Some(kept) = kept else {
                prop_assert!(!copy_whole, "life {}", life.number);
                continue;
            };
            if copy_whole {
                prop_assert_eq!(kept, life);
            }
            // A state that is given is the one that was saved.
            let whole = |pages: &[u32]| pages.iter().all(|&page| !hits(region.marks().address(page.into()), PAGE_SIZE));
            let read = region.read_state(kept);
            prop_assert!(read == state || read.is_none() && !whole(&life.state));
            // The lines are those that were written, in order; for what is missing something is counted.
            let (text, damaged) = region.read_log(kept);
            let all: Vec<String> = (0..5).map(|i| format!("life {} says {i}", life.number)).collect();
            let mut rest = all.iter();
            for line in text.lines() {
                prop_assert!(rest.any(|wanted| wanted == line), "{}", line);
            }
            prop_assert!(text.lines().count() == 5 || !whole(&life.log));
            let zeroed = life.log.iter().any(|&page| memory.read(region.marks().address(page.into()), 4096) == [0; 4096]);
            prop_assert!(damaged != 0 || text.lines().count() == 5 || zeroed);
            // Pages with a whole mark are the life's.
            for (index, owner) in before.iter().enumerate() {
                if owner.is_some_and(|o| o.life == life.number) && !hits(mark(index as u64), 32) {
                    prop_assert_eq!(after[index], *owner, "page {}", index);
                }
            }
        }
        all_is_asked(&region);
        // And in the next life.
        let next = open(memory);
        next.old_lives();
        next.begin_life(&BEGINNING, 2).unwrap();
    }

    #[test]
    fn nothing_comes_of_noise(seed in any::<u64>(), bytes in prop_oneof![Just(1u8), Just(0x0f), Just(0xff)]) {
        let (memory, _) = three_old();
        let geometry = Geometry::new(RANGE.len(), CPUS).unwrap();
        let mut x = seed | 1;
        let noise: Vec<u8> = (0..(geometry.data - 1) * PAGE_SIZE).map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8 & bytes
        }).collect();
        memory.write(RANGE.start + PAGE_SIZE, &noise);
        all_is_asked(&open(memory));
    }
}

#[test]
fn one_copy_of_the_metadata_saves_the_other() {
    let (memory, lives) = three_old();
    let whole = memory.read(RANGE.start, RANGE.len() as usize);
    for copy in 0..2 {
        let at = metadata(1, copy);
        let page = memory.read(at, PAGE_SIZE as usize);
        for damaged in (0..4096).step_by(37) {
            flip(&memory, at + damaged, 3);
            let region = open(memory);
            assert_eq!(region.damaged_lives(), []);
            let mut found = region.old_lives();
            found.reverse();
            assert_eq!(found, lives);
        }
        memory.write(at, &[0; 4096]);
        assert_eq!(open(memory).old_lives()[1], lives[1]);
        let used = 24 + u32::from_ne_bytes(page[4..8].try_into().unwrap()) as usize;
        assert_eq!(memory.read(at, used), page[..used], "it was repaired");
        memory.write(RANGE.start, &whole);
    }
    // Likewise the superblocks.
    for at in [RANGE.start, RANGE.end - PAGE_SIZE] {
        let block = memory.read(at, 40);
        memory.write(at, &[0xff; 40]);
        assert_eq!(open(memory).old_numbers(), [3, 2, 1]);
        assert_eq!(memory.read(at, 40), block);
    }
}

/// Whichever copies two lives have exchanged: each is found where its bitmaps are.
#[test]
fn metadata_that_were_exchanged_between_lives_are_told_apart() {
    for copies in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (memory, _) = three_old();
        // One of them has lost pages to a later life, and keeps its count.
        let region = open(memory);
        region.begin_life(&BEGINNING, 0).unwrap();
        while region.old_lives().last().unwrap().taken_pages < 2 {
            region.alloc_page(0).unwrap();
        }
        let mut lives = open(memory).old_lives();
        lives.reverse();
        assert_eq!(lives[0].taken_pages, 2);
        let [a, b] = [metadata(0, copies.0), metadata(2, copies.1)];
        let [of_a, of_b] = [a, b].map(|at| memory.read(at, 4096));
        memory.write(a, &of_b);
        memory.write(b, &of_a);
        let region = open(memory);
        let mut found = region.old_lives();
        found.reverse();
        assert_eq!(found, lives);
        for life in &lives[..3] {
            assert!(region.read_state(life).is_some());
            assert_eq!(region.unmarked(life.number), []);
        }
        all_is_asked(&region);
    }
}

#[test]
fn a_life_without_metadata_is_known_by_its_marks() {
    // Changed in both pages, and nothing but zeroes in both.
    for zeroes in [false, true] {
        let (memory, lives) = three_old();
        for copy in 0..2 {
            match zeroes {
                true => memory.write(metadata(1, copy), &[0; 4096]),
                false => flip(&memory, metadata(1, copy) + 100, 0),
            }
        }
        let before = owners(&open(memory));
        let region = open(memory);
        assert_eq!(region.old_numbers(), [3, 2, 1]);
        assert_eq!(region.old_lives(), [lives[2].clone(), lives[0].clone()]);
        assert_eq!(region.damaged_lives(), [2]);
        assert_eq!(region.go_on(2), Err(RegionError::NoLife(2)));
        region.begin_life(&BEGINNING, 0).unwrap();
        assert_eq!(owners(&region), before);
        assert!(
            region.unmarked(2).is_empty(),
            "its bitmaps are in the slot that it has got"
        );
        // The next one costs the oldest, not this one.
        let region = open(memory);
        region.begin_life(&BEGINNING, 0).unwrap();
        assert_eq!(region.info().unwrap().erased_lives, 0, "life 4 had nothing");
        assert_eq!(region.old_numbers(), [3, 2, 1]);
        for buffer in 0..3 {
            region.erase_buffer(2, buffer).unwrap();
        }
        region.erase_log(2).unwrap();
        assert_eq!(region.old_numbers(), [3, 1]);
        assert_eq!(open(memory).old_numbers(), [5, 3, 1]);
    }
}

#[test]
fn a_page_whose_mark_is_damaged_is_nobodys_and_named() {
    let (memory, lives) = three_old();
    let region = open(memory);
    let pages = pages_of(&region, 2, Kind::Events);
    let free = region.pages_available();
    let cpu = owners(&region)[pages[1] as usize].unwrap().cpu;
    flip(&memory, mark(pages[1]) + 2, 5);
    // A bit that says too much, too.
    let spare = owners(&region).iter().rposition(Option::is_none).unwrap() as u64;
    let bitmap = metadata(1, 3);
    flip(&memory, bitmap + spare / 8, (spare % 8) as u8);
    let region = open(memory);
    assert_eq!(region.old_lives()[1], lives[1]);
    assert_eq!(region.unmarked(2), [(pages[1], cpu), (spare, 1)]);
    assert_eq!(region.unmarked(1), []);
    // What it holds is not overwritten as long as there is another page, so that it can be told; but before any page is taken.
    assert_eq!(region.pages_available(), free);
    region.begin_life(&BEGINNING, 0).unwrap();
    let index = |page: PageRef| region.marks().index(page.pa).unwrap();
    let mut expected = region.old_lives();
    for _ in 0..free {
        assert_ne!(index(region.alloc_page(0).unwrap()), pages[1]);
    }
    assert_eq!(region.old_lives(), expected);
    assert_eq!(region.unmarked(2), [(pages[1], cpu), (spare, 1)]);
    // Then it is one that was taken, as any other.
    assert_eq!(index(region.alloc_page(0).unwrap()), pages[1]);
    expected[1].taken_pages = 1;
    assert_eq!(region.old_lives(), expected);
    assert_eq!(open(memory).old_lives()[1..], expected);
    assert_eq!(open(memory).unmarked(2), [(spare, 1)]);
    all_is_asked(&open(memory));
}

/// What metadata name as a life's state and log stays its own: neither the next life's pages nor a kexec's log come upon them.
#[test]
fn a_mark_of_a_state_or_a_log_that_is_damaged_is_written_anew() {
    let (memory, lives) = three_old();
    let before = open(memory);
    let (marks, free) = (owners(&before), before.pages_available());
    let state = before.read_state(&lives[1]).unwrap();
    let log = before.read_log(&lives[1]);
    for &page in lives[1].state.iter().chain(&lives[1].log) {
        flip(&memory, mark(page.into()) + 2, 5);
        // Damaged twice: the bitmap does not tell of it either.
        let bitmap = metadata(1, 2 + u64::from(CPUS));
        flip(&memory, bitmap + u64::from(page) / 8, (page % 8) as u8);
    }
    let region = open(memory);
    assert_eq!(owners(&region), marks);
    assert_eq!(region.pages_available(), free);
    assert_eq!(region.unmarked(2), []);
    region.begin_life(&BEGINNING, 0).unwrap();
    while region.pages_available() > 0 {
        region.alloc_page(0).unwrap();
    }
    let region = open(memory);
    assert_eq!(region.read_state(&lives[1]), Some(state));
    assert_eq!(region.read_log(&lives[1]), log);
    all_is_asked(&region);
}

/// A state that is not as it was written explains nothing: its page is named as lost.
#[test]
fn a_mark_of_a_state_that_is_damaged_itself_is_not_written_anew() {
    let (memory, lives) = three_old();
    let page = u64::from(lives[1].state[0]);
    flip(&memory, open(memory).marks().address(page), 0);
    flip(&memory, mark(page) + 2, 5);
    let region = open(memory);
    assert_eq!(owners(&region)[page as usize], None);
    assert_eq!(region.unmarked(2), [(page, NO_CPU)]);
    assert_eq!(region.read_state(&lives[1]), None);
}

/// The last life that tells of a damaged page goes, and the page is free.
#[test]
fn a_page_whose_mark_is_damaged_is_free_when_nobody_tells_of_it() {
    let (memory, _) = three_old();
    let region = open(memory);
    let pages = pages_of(&region, 2, Kind::Events);
    flip(&memory, mark(pages[1]) + 2, 5);
    let region = open(memory);
    let left = owners(&region).into_iter().flatten();
    let own = left.filter(|owner| owner.life == 2).count() as u64;
    let free = region.pages_available();
    region.erase_life(2).unwrap();
    assert_eq!(region.pages_available(), free + own + 1);
    assert_eq!(open(memory).pages_available(), free + own + 1);
}

#[test]
fn metadata_that_say_what_cannot_be_do_no_harm() {
    type Change = dyn Fn(&mut Life, &[Life]);
    let changes: [&Change; 9] = [
        &|life, _| life.state = vec![u32::MAX, 1],
        &|life, _| life.state = vec![0; 700],
        &|life, _| (life.state, life.state_len) = (vec![0; 700], 700 << 12),
        &|life, _| life.state_len = u32::MAX,
        &|life, _| (life.state_len, life.state_crc) = (0, 0),
        &|life, _| life.log = vec![u32::MAX, 5, 5, 1 << 20],
        &|life, _| life.log = vec![life.log[0]; 500],
        &|life, lives| life.log = lives[0].log.clone(),
        &|life, _| life.taken_pages = u64::MAX,
    ];
    for (which, change) in changes.into_iter().enumerate() {
        let (memory, lives) = three_old();
        let mut life = lives[1].clone();
        change(&mut life, &lives);
        forge(&memory, 1, &life);
        let region = open(memory);
        let found = region.old_lives();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], life);
        let same = life.state == lives[1].state && life.state_len == lives[1].state_len;
        assert_eq!(region.read_state(&life).is_some(), same, "{which}");
        // After a kexec: no page of another life is written to, and none is given back that is not its own.
        let others = memory.read(region.marks().address(lives[0].log[0].into()), 4096);
        region.go_on(2).unwrap();
        region.log("a line");
        region.save_state(b"state").unwrap();
        assert_eq!(
            memory.read(region.marks().address(lives[0].log[0].into()), 4096),
            others
        );
        let next = open(memory);
        assert_eq!(next.old_lives()[2], lives[0]);
        let whole = "life 1 says 0\nlife 1 says 1\nlife 1 says 2\nlife 1 says 3\nlife 1 says 4\n";
        assert_eq!(next.read_log(&lives[0]).0, whole);
        all_is_asked(&next);
    }
}

#[test]
fn a_number_that_is_there_twice_is_believed_once() {
    let (memory, lives) = three_old();
    for copy in 0..2 {
        let page = memory.read(metadata(0, copy), 4096);
        memory.write(metadata(2, copy), &page);
    }
    let region = open(memory);
    let numbers = region.old_numbers();
    // Life 3 has lost its metadata, and is known by its marks.
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(region.old_lives(), [lives[1].clone(), lives[0].clone()]);
    all_is_asked(&region);
}

#[test]
fn a_number_is_never_used_again_under_another_ones_marks() {
    // Of the only life all is lost but its marks, and more lives than there are slots are said to be there.
    let (memory, region) = fresh();
    region.begin_life(&BEGINNING, 2).unwrap();
    for copy in 0..2 {
        memory.write(metadata(0, copy), &[0; 4096]);
    }
    let index = |i: u64| 200 + i;
    for i in 0..10 {
        let owner = Owner {
            life: i + 1,
            buffer: 0,
            cpu: 0,
            order: 0,
            kind: Kind::Events,
        };
        memory.write(mark(index(i)), &owner.encode(index(i)).to_ne_bytes());
    }
    let region = open(memory);
    let numbers = region.old_numbers();
    assert_eq!(numbers.len(), SLOTS as usize);
    region.begin_life(&BEGINNING, 0).unwrap();
    let life = region.life();
    assert!(
        owners(&region)
            .iter()
            .flatten()
            .all(|owner| owner.life != life)
    );
    drop(region);
    all_is_asked(&open(memory));
}
