//! What runs last before the jump does not allocate; what has no heap left goes on without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use handover::claims::Claims;
use handover::fdt::{self, Root, Subsystem};
use handover::mem::PAGE_SIZE;
use handover::page_list::PageList;
use handover::radix::PreservedMap;
use handover::range::{self, PhysRange};
use handover::scratch;
use handover::sim::SimMemory;
use handover::state::{KState, StreamReader, StreamWriter, encoded_size};
use handover::{Error, PageRef};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// The largest piece that can be had.
    static LARGEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

// SAFETY: everything is passed on to `System`, or refused; counting touches thread-locals that need no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        if layout.size() > LARGEST.get() {
            return std::ptr::null_mut();
        }
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

/// Runs `f` with a heap of which no more than this can be had in one piece.
fn with_heap_of<T>(bytes: usize, f: impl FnOnce() -> T) -> T {
    LARGEST.set(bytes);
    let result = f();
    LARGEST.set(usize::MAX);
    result
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

#[test]
fn what_is_left_of_ranges_takes_no_heap() {
    let each = |from: u64| (from..from + 0x4000).map(|n| PhysRange::new(n * 4, n * 4 + 2));
    let (from, minus): (Vec<_>, Vec<_>) = (each(0).collect(), each(0x1000).collect());
    let (allocations, bytes) = allocations_in(|| {
        let left = range::without(&from, &minus);
        left.map(|range| range.len()).sum::<u64>()
    });
    assert_eq!((allocations, bytes), (0, 2 * 0x1000));
}

const RAM: PhysRange = PhysRange::new(0x10_0000, 0x100_0000);

/// Every second page of the upper half, each a block of its own.
fn scattered() -> (SimMemory, PreservedMap<SimMemory>, Vec<PageRef>) {
    let mem = SimMemory::new(&[RAM]);
    let upper = PhysRange::new(0x80_0000, RAM.end);
    mem.reserve(upper);
    let mut map = PreservedMap::new(mem, Vec::new()).unwrap();
    let blocks: Vec<PageRef> = (upper.start..upper.end)
        .step_by(2 * PAGE_SIZE as usize)
        .map(|pa| PageRef { pa, order: 0 })
        .collect();
    map.preserve_each(blocks.iter().copied()).unwrap();
    (mem, map, blocks)
}

/// What nobody claimed is given back piece by piece where its list is longer than the heap has room for.
#[test]
fn a_short_heap_gives_back_in_pieces() {
    let (_, mut map, blocks) = scattered();
    let mut claims = Claims::default();
    for block in &blocks[..10] {
        claims.claim("trace", block.range());
    }
    let mut freed = Vec::with_capacity(blocks.len());
    let discarded = with_heap_of(1024, || claims.discard(&mut map, |b| freed.push(b)));
    assert_eq!((discarded.pages, discarded.kept), (1024 - 10, 0));
    assert_eq!(freed, blocks[10..]);
    assert_eq!(map.preserved_pages(), 10);
}

/// Nothing that may be claimed is given back.
#[test]
fn without_heap_for_claims_nothing_is_given_back() {
    let (_, mut map, blocks) = scattered();
    let mut claims = Claims::default();
    let discarded = with_heap_of(1024, || {
        for block in &blocks[..200] {
            claims.claim("trace", block.range());
        }
        claims.discard(&mut map, |block| panic!("{block} is given back"))
    });
    assert_eq!((discarded.pages, discarded.kept), (0, 1024));
    assert_eq!(map.preserved_pages(), 1024);
    assert_eq!(
        discarded.to_string(),
        "0 preserved pages that nobody claimed were given back; 1024 pages stay preserved, claimed or not, since there \
         was no heap to list what is claimed"
    );
}

/// Without heap for its list of unclaimed blocks at all, they stay, and the rest of the start goes on.
#[test]
fn without_heap_for_a_list_blocks_stay() {
    let (_, mut map, _) = scattered();
    let mut claims = Claims::default();
    let discarded = with_heap_of(0, || claims.discard(&mut map, |_| panic!("given back")));
    assert_eq!((discarded.pages, discarded.kept), (0, 1024));
}

/// A list of pages is refused where it cannot be read, and stays where it is.
#[test]
fn a_list_that_the_heap_has_no_room_for_is_refused() {
    let (mem, mut map, blocks) = scattered();
    for block in &blocks {
        map.restore(*block).unwrap();
    }
    let addresses: Vec<u64> = blocks.iter().map(|block| block.pa).collect();
    let free = mem.free_pages_left();
    let short = with_heap_of(16, || PageList::preserve(&mut map, &addresses, 0, 0));
    assert!(matches!(short, Err(Error::NoHeap { .. })), "{short:?}");
    assert_eq!((map.preserved_pages(), mem.free_pages_left()), (0, free));
    let list = PageList::preserve(&mut map, &addresses, 0, 0).unwrap();
    for bytes in [16, 64, 1024, 8 << 10] {
        let read = with_heap_of(bytes, || list.restore(&mut map).map(|_| ()));
        assert!(matches!(read, Err(Error::NoHeap { .. })), "{read:?}");
    }
    assert_eq!(list.restore(&mut map), Ok(blocks));
}
