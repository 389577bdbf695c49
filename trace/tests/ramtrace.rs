//! The region library of ramtrace: lives, pages, metadata, state and log, whatever happens to the memory they lie in.

#[path = "ramtrace/damage.rs"]
mod damage;
#[path = "ramtrace/log.rs"]
mod log;
#[path = "ramtrace/model.rs"]
mod model;
#[path = "ramtrace/reset.rs"]
mod reset;

use handover::mem::PAGE_SIZE;
use handover::page::PageRef;
use handover::range::PhysRange;
use handover::sim::SimMemory;
use trace::ramtrace::mark::{Kind, LIFE_MASK, Owner, Seal};
use trace::ramtrace::{Beginning, Buffer, Geometry, Life, NO_CPU, Region, RegionError, SLOTS};

const MIB: u64 = 1 << 20;
const RANGE: PhysRange = PhysRange::new(4 * MIB, 5 * MIB);
const CPUS: u32 = 2;

const BEGINNING: Beginning<'static> = Beginning {
    release: "6.1-test",
    build: 7,
    boot_id: [0xab; 16],
    cpus: CPUS,
    clock: "local",
    tracer: "nop",
};

fn memory() -> SimMemory {
    SimMemory::new(&[RANGE])
}

fn open(memory: SimMemory) -> Region<SimMemory> {
    open_at(memory, RANGE).unwrap()
}

fn open_at(memory: SimMemory, range: PhysRange) -> Result<Region<SimMemory>, RegionError> {
    // SAFETY: nobody allocates in these memories but a region, and tests use the one that they opened last.
    unsafe { Region::open(memory, range) }
}

fn format(memory: &SimMemory, range: PhysRange, cpus: u32) -> Result<(), RegionError> {
    // SAFETY: as above.
    unsafe { Region::format(memory, range, cpus) }
}

/// A formatted region in which nobody runs.
fn fresh() -> (SimMemory, Region<SimMemory>) {
    let memory = memory();
    format(&memory, RANGE, CPUS).unwrap();
    (memory, open(memory))
}

/// Writes the header of an event page that holds something, and seals it.
fn fill(memory: &SimMemory, page: PageRef, time: u64, seq: u64, region: &Region<SimMemory>) {
    memory.write(page.pa, &time.to_ne_bytes());
    memory.write(page.pa + 8, &64u64.to_ne_bytes());
    let mark = region.marks().of(page.pa).unwrap();
    mark.unseal(seq);
    mark.begin(seq, 0);
    let none = Seal::none(seq);
    assert!(mark.set_seal(none, Seal { len: 64, ..none }));
}

/// Who owns each data page.
fn owners(region: &Region<SimMemory>) -> Vec<Option<Owner>> {
    let marks = region.marks();
    let of = |index| Owner::decode(marks.at(index).unwrap().owner(), index);
    (0..marks.count()).map(of).collect()
}

/// The pages of a life of some kind, by index.
fn pages_of(region: &Region<SimMemory>, life: u64, kind: Kind) -> Vec<u64> {
    let owned = owners(region).into_iter().enumerate();
    owned
        .filter(|(_, owner)| owner.is_some_and(|o| o.life == life & LIFE_MASK && o.kind == kind))
        .map(|(index, _)| index as u64)
        .collect()
}

/// The bits of a bitmap, as they lie in memory.
fn bits(memory: &SimMemory, slot: u32, cpu: u8) -> Vec<u64> {
    let geometry = Geometry::new(RANGE.len(), CPUS).unwrap();
    let at = if cpu == NO_CPU { CPUS } else { cpu.into() };
    let page =
        1 + u64::from(slot) * geometry.slot_pages + 2 + u64::from(at) * geometry.bitmap_pages;
    let bytes = memory.read(RANGE.start + page * PAGE_SIZE, PAGE_SIZE as usize);
    let has = |index: &u64| bytes[(index / 8) as usize] >> (index % 8) & 1 != 0;
    (0..geometry.data_pages).filter(has).collect()
}

/// A life with a log, a state, and three buffers: number 0 with single pages, 1 with blocks of four, 2 with some of either CPU.
fn live(memory: &SimMemory, region: &Region<SimMemory>, pages: u64) {
    region.begin_life(&BEGINNING, 2).unwrap();
    let number = region.life();
    region.save_state(&vec![number as u8; 5000]).unwrap();
    for i in 0..pages {
        let (buffer, order) = [(0, 0), (1, 2), (2, 0)][(i % 3) as usize];
        let page = region.alloc(i as u8 % 2, buffer, order, Kind::Events);
        let page = page.expect("room for the test's lives");
        fill(memory, page, 1000 * number + i, i, region);
    }
    region
        .update(|life| {
            life.buffers = (0..3u8)
                .map(|number| Buffer {
                    number,
                    name: format!("buffer {number}"),
                    pages: vec![1; 2],
                })
                .collect();
        })
        .unwrap();
    for i in 0..5 {
        region.log(&format!("life {number} says {i}"));
    }
}

#[test]
fn a_life_reads_as_it_was_written_in_the_next_one() {
    let (memory, region) = fresh();
    assert_eq!(region.life(), 0);
    assert_eq!(region.info(), None);
    assert_eq!(region.alloc_page(0), None);
    assert_eq!(region.update(|_| ()), Err(RegionError::NotBegun));
    assert_eq!(region.save_state(&[1]), Err(RegionError::NotBegun));
    let all = region.pages_available();
    region.begin_life(&BEGINNING, 4).unwrap();
    assert_eq!(region.begin_life(&BEGINNING, 4), Err(RegionError::Runs(1)));
    assert_eq!(region.life(), 1);
    let state: Vec<u8> = (0..10_000u32).map(|i| (i * 7) as u8).collect();
    region.save_state(&state).unwrap();
    region
        .update(|life| {
            life.generation = 3;
            life.number = 99;
            life.log.clear();
            life.buffers = vec![Buffer {
                number: 2,
                name: "mine".into(),
                pages: vec![1, 1],
            }];
        })
        .unwrap();
    let page = region.alloc(1, 2, 0, Kind::Events).unwrap();
    assert!(region.owns(page.pa) && !region.owns(RANGE.start));
    region.log("one line");
    let info = region.info().unwrap();
    assert_eq!(info.boot_id, "abababab-abab-abab-abab-abababababab");
    assert_eq!((info.number, info.generation, info.log.len()), (1, 3, 4));
    assert_eq!(region.pages_available(), all - 4 - 3 - 1);

    let next = open(memory);
    assert_eq!(next.pages_available(), all - 8);
    assert_eq!(next.old_lives(), std::slice::from_ref(&info));
    assert_eq!(next.old_numbers(), [1]);
    assert_eq!(next.read_state(&info), Some(state));
    assert_eq!(next.read_log(&info), ("one line\n".into(), 0));
    next.begin_life(&BEGINNING, 0).unwrap();
    assert_eq!(next.life(), 2);
    assert_eq!(next.old_lives(), [info]);
    assert_eq!(next.erase_buffer(2, 0), Err(RegionError::Runs(2)));
    assert_eq!(next.erase_log(3), Err(RegionError::NoLife(3)));
    assert_eq!(
        next.with_old(|| next.with_old(|| next.erase_buffer(1, 2))),
        Err(RegionError::Busy)
    );
    next.erase_buffer(1, 2).unwrap();
    assert_eq!(
        next.pages_available(),
        all - 4,
        "the state goes with the last buffer"
    );
    next.erase_log(1).unwrap();
    assert_eq!(next.pages_available(), all);
    assert_eq!(next.old_numbers(), []);
}

#[test]
fn bitmaps_of_several_pages_have_each_bit_in_its_place() {
    let range = PhysRange::new(RANGE.start, RANGE.start + 256 * MIB);
    let memory = SimMemory::new(&[range]);
    format(&memory, range, 3).unwrap();
    let geometry = Geometry::new(range.len(), 3).unwrap();
    assert_eq!(geometry.bitmap_pages, 2);
    let region = open_at(memory, range).unwrap();
    region.begin_life(&BEGINNING, 2).unwrap();
    let index = geometry.data_pages - 3;
    assert!(index > 4096 * 8);
    // As if a reset had come before the bit.
    let owner = Owner {
        life: 1,
        buffer: 0,
        cpu: 1,
        order: 0,
        kind: Kind::Events,
    };
    region.marks().at(index).unwrap().give(owner.encode(index));
    let bitmap = |cpu: u64| {
        let page = 1 + 2 + cpu * geometry.bitmap_pages;
        memory.read(range.start + page * PAGE_SIZE, 2 * PAGE_SIZE as usize)
    };
    assert!(bitmap(1).iter().all(|&byte| byte == 0));
    let region = open_at(memory, range).unwrap();
    assert_eq!(region.pages_available(), geometry.data_pages - 3);
    for cpu in 0..3 {
        let mut wanted = vec![0; 2 * PAGE_SIZE as usize];
        if cpu == 1 {
            wanted[(index / 8) as usize] = 1 << (index % 8);
        }
        assert!(bitmap(cpu) == wanted, "CPU {cpu}");
    }
    assert!(region.unmarked(1).is_empty());
    region.erase_buffer(1, 0).unwrap();
    assert!(bitmap(1).iter().all(|&byte| byte == 0));
}

#[test]
fn several_cpus_allocate_and_log_at_once() {
    let (memory, region) = fresh();
    live(&memory, &region, 10);
    let region = open(memory);
    region.begin_life(&BEGINNING, 8).unwrap();
    let all = region.pages_available();
    let (per_thread, lines) = (150, 100);
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let region = &region;
            scope.spawn(move || {
                let mut mine = std::collections::VecDeque::new();
                for i in 0..per_thread {
                    let order = i % 3;
                    if let Some(page) = region.alloc(thread % 2, thread, order, Kind::Events) {
                        let owner = region.marks().of(page.pa).unwrap().owner();
                        let index = region.marks().index(page.pa).unwrap();
                        let owner = Owner::decode(owner, index).unwrap();
                        assert_eq!((owner.buffer, owner.order), (thread, order));
                        mine.push_back(page);
                    }
                    if mine.len() > 8 {
                        region.free(mine.pop_front().unwrap());
                    }
                    if i < lines {
                        region.log(&format!("{thread} {i}"));
                    }
                }
                for page in mine {
                    region.free(page);
                }
            });
        }
    });
    assert_eq!(region.pages_available(), all);
    let (text, damaged) = region.read_log(&region.info().unwrap());
    assert_eq!(damaged, 0);
    let logged = text.lines().count() as u64;
    let notes = text
        .lines()
        .filter(|line| line.ends_with(" are left out here"))
        .count() as u64;
    assert_eq!(logged - notes + region.not_logged(), 3 * u64::from(lines));
    for thread in 0..3 {
        let of = |line: &str| line.strip_prefix(&format!("{thread} "))?.parse::<u8>().ok();
        assert!(text.lines().filter_map(of).is_sorted());
    }
}
