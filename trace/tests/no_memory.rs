//! What is shown where memory runs out.

use std::cell::Cell;
use trace::testing::TestPlatform;
use trace::{Config, Tracer};

/// Has no memory for pieces of [`REFUSED`] bytes, in threads that say so.
struct Scarce;

std::thread_local! {
    static SCARCE: Cell<bool> = const { Cell::new(false) };
}

const REFUSED: std::ops::Range<usize> = 700..900;

// SAFETY: all is passed on to the system's allocator, or refused.
unsafe impl std::alloc::GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if SCARCE.get() && REFUSED.contains(&layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { std::alloc::System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

#[test]
fn an_event_that_there_is_no_memory_for_is_told_as_lost() {
    let platform = TestPlatform::new(1);
    platform.set_cpu(0);
    platform.set_step(1000);
    let config = Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    let t = Tracer::new(platform, config, &[]).unwrap();
    let long = [b'x'; 800];
    for text in [&b"first"[..], &long, &long, b"last"] {
        t.mark(text).unwrap();
    }
    let mut text = String::with_capacity(10_000);
    SCARCE.set(true);
    let written = trace::text::write_trace(&t, &t, None, &mut text);
    SCARCE.set(false);
    written.unwrap();
    let shown: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let [first, lost, last] = &shown[..] else {
        panic!("{text}");
    };
    assert!(first.ends_with("first") && last.ends_with("last"), "{text}");
    assert_eq!(*lost, "CPU:0 [LOST 2 EVENTS]");
}
