//! What a buffer costs beside its pages: under one page, and 64 bytes a sub-buffer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test here, so that nobody else allocates meanwhile.
#[test]
fn under_a_page_and_64_bytes_a_sub_buffer() {
    let platform = TestPlatform::new(64);
    let check = |buffer: &CpuBuffer<TestPlatform>, before: usize| {
        let used = LIVE.load(Ordering::Relaxed) - before - owned_cost(&platform);
        let used = used + size_of_val(buffer);
        let pages = buffer.pages();
        assert!(used < 4096 + 64 * pages, "{used} bytes for {pages} pages");
    };
    for pages in [2, 3, 64, 1000, 10_000] {
        let before = LIVE.load(Ordering::Relaxed) - owned_cost(&platform);
        let buffer = CpuBuffer::new(platform, pages, 0).unwrap();
        check(&buffer, before);
        for n in 0..100_000u64 {
            let mut r = buffer.reserve(Level::Task, 8, &|| n).unwrap();
            r.write(0, &n.to_ne_bytes());
            r.commit();
        }
        check(&buffer, before);
        buffer.resize(pages / 2).unwrap();
        buffer.resize(pages + 20).unwrap();
        check(&buffer, before);
    }
}

/// What the simulated machine's own list of the pages takes: measured by a copy of it.
fn owned_cost(platform: &TestPlatform) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    let copy = platform.owned();
    let cost = LIVE.load(Ordering::Relaxed) - before;
    drop(copy);
    cost
}
