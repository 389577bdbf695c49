use super::*;
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};
use handover::range::PhysRange;
use handover::sim::SimMemory;
use proptest::prelude::*;

const RAM: PhysRange = PhysRange {
    start: 0x10_0000,
    end: 0x80_0000,
};

fn kernel_half() -> [u64; 256] {
    core::array::from_fn(|n| 0xabc_0000_0000 + n as u64)
}

fn space() -> (SimMemory, Space<SimMemory>) {
    let memory = SimMemory::new(&[RAM]);
    let space = Space::new(memory, &kernel_half()).unwrap();
    (memory, space)
}

/// Counts its mappings.
#[derive(Default)]
struct Shared(AtomicI32);

impl SharedPages for Shared {
    fn mapped(&self) {
        self.0.fetch_add(1, Relaxed);
    }
    fn unmapped(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
    fn name(&self) -> &str {
        "shared"
    }
    fn offset(&self) -> u64 {
        0
    }
}

/// Walks the tables as a CPU would: the entry for `addr`, or 0.
fn walk(memory: &SimMemory, root: u64, addr: u64) -> u64 {
    let mut table = root;
    for shift in [39, 30, 21, 12] {
        let at = table + (addr >> shift) % 512 * 8;
        // SAFETY: a table in simulated memory.
        let entry = unsafe { *memory.ptr(at, 8).unwrap().as_ptr().cast::<u64>() };
        if entry & 1 == 0 || shift == 12 {
            return entry;
        }
        // User and writable on the way down: the last level decides.
        assert_eq!(entry & 6, 6);
        table = entry & 0x000f_ffff_ffff_f000;
    }
    0
}

fn read(memory: &SimMemory, space: &Space<SimMemory>, addr: u64) -> Option<u8> {
    let mapped = space.tables.lookup(addr)?;
    let at = mapped.page + addr % PAGE_BYTES;
    // SAFETY: a page in simulated memory.
    Some(unsafe { *memory.ptr(at, 1).unwrap().as_ptr() })
}

#[test]
fn the_kernel_half_is_the_kernels() {
    let (memory, space) = space();
    for (n, entry) in kernel_half().into_iter().enumerate() {
        let at = space.root() + (256 + n as u64) * 8;
        let place = memory.ptr(at, 8).unwrap();
        // SAFETY: the top table in simulated memory.
        let found = unsafe { place.cast::<u64>().read() };
        assert_eq!(found, entry);
    }
}

#[test]
fn pages_come_when_they_are_touched_zeroed_and_with_the_areas_rights() {
    let (memory, mut space) = space();
    let at = space.map_zero(3 * PAGE_BYTES, Rights::READ_WRITE).unwrap();
    assert_eq!(walk(&memory, space.root(), at), 0);
    assert_eq!(space.fault(at + 5, Access::Execute), Err(Refused::Rights));
    space.fault(at + PAGE_BYTES + 5, Access::Write).unwrap();
    assert_eq!(space.sizes_kib().1, 4);
    let entry = walk(&memory, space.root(), at + PAGE_BYTES);
    // Present, writable, user; not executable.
    assert_eq!(entry & 7, 7);
    assert_eq!(entry >> 63, 1);
    assert_eq!(read(&memory, &space, at + PAGE_BYTES + 4095), Some(0));
    assert_eq!(read(&memory, &space, at), None);
    // Again: the same page.
    space.fault(at + PAGE_BYTES, Access::Read).unwrap();
    assert_eq!(walk(&memory, space.root(), at + PAGE_BYTES), entry);
    for outside in [
        0,
        at - 1,
        at + 3 * PAGE_BYTES,
        USER_END,
        u64::MAX,
        0xffff_8000_0000_0000,
    ] {
        assert_eq!(space.fault(outside, Access::Read), Err(Refused::NoArea));
    }
}

#[test]
fn only_a_hole_in_the_middle_makes_one_area_more() {
    let (_, mut space) = space();
    let at = space.map_zero(4 * PAGE_BYTES, Rights::READ).unwrap();
    let page = |n: u64| at + n * PAGE_BYTES;
    for (from, to, splits) in [
        (0, 4, false),
        (0, 3, false),
        (1, 4, false),
        (1, 3, true),
        (5, 6, false),
    ] {
        assert_eq!(
            space.splits(&(page(from)..page(to))),
            splits,
            "{from}..{to}"
        );
    }
    let before = space.areas().count();
    let mut out = space.unmap(page(1)..page(3)).unwrap();
    space.free(&mut out);
    assert_eq!(space.areas().count(), before + 1);
}

#[test]
fn a_read_only_area_is_not_written_and_none_is_not_read() {
    let (_, mut space) = space();
    let read = space.map_zero(PAGE_BYTES, Rights::READ).unwrap();
    let none = space.map_zero(PAGE_BYTES, Rights::NONE).unwrap();
    space.fault(read, Access::Read).unwrap();
    assert!(!space.tables.lookup(read).unwrap().writable);
    assert_eq!(space.fault(read, Access::Write), Err(Refused::Rights));
    assert_eq!(space.write(read, b"x"), Err(Refused::Rights));
    for access in [Access::Read, Access::Write, Access::Execute] {
        assert_eq!(space.fault(none, access), Err(Refused::Rights));
    }
}

fn program() -> (Program, Bytes) {
    let file: Vec<u8> = (0..0x3000u32).map(|n| (n % 251) as u8 + 1).collect();
    let segment = |pages, write, execute, at, part| super::super::program::Segment {
        pages,
        rights: Rights {
            read: true,
            write,
            execute,
        },
        at,
        part,
    };
    let program = Program {
        segments: [
            segment(0x40_0000..0x40_2000, false, true, 0x40_0010, 0x10..0x1234),
            segment(0x40_2000..0x40_6000, true, false, 0x40_2ff0, 0x1234..0x1300),
        ]
        .into_iter()
        .collect(),
        entry: 0x40_0010,
    };
    (program, Bytes::Shared(file.into()))
}

#[test]
fn a_programs_bytes_stand_where_its_file_says_and_zeroes_around_them() {
    let (memory, mut space) = space();
    let (program, bytes) = program();
    space.load(&program, &bytes).unwrap();
    let file = bytes.get();
    for (segment, access) in program
        .segments
        .iter()
        .zip([Access::Execute, Access::Write])
    {
        for addr in segment.pages.clone() {
            if addr % PAGE_BYTES == 0 {
                space.fault(addr, access).unwrap();
            }
            let in_part = addr
                .checked_sub(segment.at)
                .map(|skip| segment.part.start + skip as usize)
                .filter(|at| segment.part.contains(at));
            let wanted = in_part.map_or(0, |at| file[at]);
            assert_eq!(read(&memory, &space, addr), Some(wanted), "{addr:#x}");
        }
    }
    assert!(space.tables.lookup(0x40_0000).unwrap().executable);
    assert!(!space.tables.lookup(0x40_2000).unwrap().executable);
}

#[test]
fn the_stack_takes_what_is_written_and_ends_below() {
    let (memory, mut space) = space();
    let (program, bytes) = program();
    space.load(&program, &bytes).unwrap();
    let at = STACK_TOP - 5000;
    let text: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
    space.write(at, &text).unwrap();
    for (n, byte) in text.iter().enumerate() {
        assert_eq!(read(&memory, &space, at + n as u64), Some(*byte));
    }
    space.fault(STACK_TOP - STACK_BYTES, Access::Write).unwrap();
    let below = STACK_TOP - STACK_BYTES - 1;
    assert_eq!(space.fault(below, Access::Write), Err(Refused::NoArea));
    assert_eq!(space.write(STACK_TOP - 1, b"ab"), Err(Refused::NoArea));
}

#[test]
fn shared_pages_are_mapped_at_once_and_never_freed() {
    let (memory, mut space) = space();
    let pages: Vec<u64> = (0..600).map(|_| memory.alloc_pages(0).unwrap()).collect();
    let used = memory.free_pages_left();
    let object = Arc::new(Shared::default());
    object.mapped();
    let at = space.map_shared(&pages, false, object.clone()).unwrap();
    for (n, page) in pages.iter().enumerate() {
        let mapped = space.tables.lookup(at + n as u64 * PAGE_BYTES).unwrap();
        assert_eq!(
            (
                mapped.page,
                mapped.owned,
                mapped.writable,
                mapped.executable
            ),
            (*page, false, false, false)
        );
    }
    assert_eq!(space.sizes_kib().1, 600 * 4);
    assert_eq!(space.fault(at, Access::Write), Err(Refused::Rights));
    assert_eq!(space.unmap(at..at + PAGE_BYTES).err(), Some(AreaError::Cut));
    let end = at + pages.len() as u64 * PAGE_BYTES;
    let mut out = space.unmap(at..end).unwrap();
    assert!(out.flush && out.pages.is_empty() && out.shared.len() == 1);
    out.shared.drain(..).for_each(|object| object.unmapped());
    assert_eq!(object.0.load(Relaxed), 0);
    // A second time it goes with the space.
    object.mapped();
    space.map_shared(&pages, false, object.clone()).unwrap();
    let shared = space.take_shared();
    drop(space);
    shared.iter().for_each(|object| object.unmapped());
    assert_eq!(object.0.load(Relaxed), 0);
    assert_eq!(Arc::strong_count(&object), 2);
    // The tables came back, and the shared pages did not.
    assert!(memory.free_pages_left() > used);
    assert_eq!(memory.free_pages_left(), RAM.len() / PAGE_BYTES - 600);
}

#[test]
fn when_memory_ends_a_call_fails_and_nothing_is_lost() {
    let memory = SimMemory::new(&[RAM]);
    let total = memory.free_pages_left();
    let (program, bytes) = program();
    let pages = [0x10_0000, 0x10_1000];
    for allowed in 0..24 {
        memory.fail_after(Some(allowed));
        let mut failed = false;
        if let Ok(mut space) = Space::new(memory, &kernel_half()) {
            failed |= space.load(&program, &bytes).is_err();
            failed |= space.write(STACK_TOP - 16, &[1; 16]).is_err();
            failed |= space.fault(program.entry, Access::Execute).is_err();
            let object = Arc::new(Shared::default());
            match space.map_shared(&pages, false, object) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, SpaceError::NoMemory);
                    failed = true;
                    // Nothing of it is left.
                    assert_eq!(space.shared_pages, 0);
                    assert!(space.tables.lookup(MMAP.start + PAGE_BYTES).is_none());
                }
            }
        } else {
            failed = true;
        }
        memory.fail_after(None);
        assert_eq!(
            memory.free_pages_left(),
            total,
            "with {allowed} allocations"
        );
        // The top table; three tables and a page for the stack, as many for the text; three tables for the shared pages.
        assert_eq!(failed, allowed < 12, "with {allowed} allocations");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Map(u64, bool),
    Unmap(u64, u64),
    Touch(u64, Access),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (1..6u64, any::<bool>()).prop_map(|(pages, write)| Op::Map(pages, write)),
        (0..40u64, 1..8u64).prop_map(|(from, pages)| Op::Unmap(from, pages)),
        (
            0..40u64,
            prop_oneof![
                Just(Access::Read),
                Just(Access::Write),
                Just(Access::Execute)
            ]
        )
            .prop_map(|(page, access)| Op::Touch(page, access)),
    ]
}

proptest! {
    /// Each page is there if it was touched since it was mapped, with its area's rights; in the end all memory is back.
    #[test]
    fn the_tables_follow_the_areas(ops in prop::collection::vec(op(), 1..60)) {
        let memory = SimMemory::new(&[RAM]);
        let total = memory.free_pages_left();
        let mut space = Space::new(memory, &kernel_half()).unwrap();
        let base = MMAP.start;
        // Per page: mapped (and writable), touched.
        let mut model = std::collections::BTreeMap::<u64, (bool, bool)>::new();
        for op in ops {
            match op {
                Op::Map(pages, write) => {
                    let rights = if write { Rights::READ_WRITE } else { Rights::READ };
                    let at = space.map_zero(pages * PAGE_BYTES, rights).unwrap();
                    for page in 0..pages {
                        let old = model.insert((at - base) / PAGE_BYTES + page, (write, false));
                        prop_assert!(old.is_none());
                    }
                }
                Op::Unmap(from, pages) => {
                    let range = base + from * PAGE_BYTES..base + (from + pages) * PAGE_BYTES;
                    let mut out = space.unmap(range).unwrap();
                    let touched = (from..from + pages).filter_map(|page| model.remove(&page)).filter(|p| p.1).count();
                    prop_assert_eq!(out.pages.len(), touched);
                    prop_assert_eq!(out.flush, touched > 0);
                    space.free(&mut out);
                }
                Op::Touch(page, access) => {
                    let result = space.fault(base + page * PAGE_BYTES + 7, access);
                    let wanted = match model.get_mut(&page) {
                        None => Err(Refused::NoArea),
                        Some((write, touched)) => match access {
                            Access::Execute => Err(Refused::Rights),
                            Access::Write if !*write => Err(Refused::Rights),
                            _ => {
                                *touched = true;
                                Ok(())
                            }
                        },
                    };
                    prop_assert_eq!(result, wanted);
                }
            }
            for page in 0..60 {
                let mapped = space.tables.lookup(base + page * PAGE_BYTES);
                let wanted = model.get(&page).filter(|p| p.1);
                prop_assert_eq!(mapped.map(|m| m.writable), wanted.map(|p| p.0));
            }
            let there = model.values().filter(|p| p.1).count() as u64;
            prop_assert_eq!(space.sizes_kib().1, there * 4);
        }
        drop(space);
        prop_assert_eq!(memory.free_pages_left(), total);
    }
}
