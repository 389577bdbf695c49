//! What runs last before the jump does not allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use handover::fdt::{self, Root, Subsystem};
use handover::range::PhysRange;
use handover::scratch;
use handover::state::{KState, StreamReader, StreamWriter, encoded_size};
use handover::{Error, PageRef};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

// SAFETY: everything is passed on to `System`; counting touches a thread-local that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_in<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = f();
    (ALLOCATIONS.with(Cell::get) - before, result)
}

#[derive(KState)]
#[kstate(id = 1, version = 2, min_version = 1, readable_by = 1)]
struct State {
    name: String,
    #[kstate(since = 2, default)]
    pages: Vec<Option<PageRef>>,
}

#[test]
fn the_last_moments_do_not_allocate() {
    let state = State {
        name: "x".repeat(100),
        pages: vec![Some(PageRef { pa: 4096, order: 0 }); 1000],
    };
    let subsystem = Subsystem {
        name: "trace".into(),
        data: 0,
        size: 0,
        crc32: 0,
    };
    let root = Root {
        subsystems: vec![subsystem],
        ..Root::default()
    };
    let mut blob = fdt::build(&root).unwrap();
    let mut bytes = vec![0; 32 << 10];
    let scratch_regions = [PhysRange::new(0x20_0000, 0x40_0000)];

    let (allocations, used) = allocations_in(|| -> Result<usize, Error> {
        let mut stream = StreamWriter::new(&mut bytes);
        encoded_size(&state);
        stream.put(0, &state)?;
        stream.put(1, &state)?;
        let used = stream.finish()?;
        let crc = crc32fast::hash(&bytes[..used]);
        fdt::set_subsystem(&mut blob, "trace", used as u64, crc)?;
        fdt::set_map_digest(&mut blob, 5)?;
        fdt::reseal(&mut blob)?;
        scratch::encode(&scratch_regions, &mut [0; 16])?;
        // Nor do refusals.
        assert!(fdt::set_subsystem(&mut blob, "a name that no subsystem has", 1, 1).is_err());
        assert!(StreamWriter::new(&mut [0; 40]).put(0, &state).is_err());
        Ok(used)
    });
    assert_eq!(allocations, 0);
    let stream = StreamReader::new(&bytes[..used.unwrap()]).unwrap();
    assert_eq!(stream.get::<State>(1).unwrap().pages.len(), 1000);
    // The counter counts.
    assert_eq!(allocations_in(|| Box::new(1)).0, 1);
}
