//! What is shown where memory runs out.

use std::cell::Cell;
use trace::page::{HEADER_SIZE, data_header};
use trace::ramtrace::mark::Kind;
use trace::ramtrace::old::{OldError, OldLife, write_raw, write_text};
use trace::ramtrace::{Beginning, Region};
use trace::testing::TestPlatform;
use trace::{Config, Tracer};

/// Has no memory for pieces of so many bytes as a thread says.
struct Scarce;

std::thread_local! {
    static REFUSED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: all is passed on to the system's allocator, or refused.
unsafe impl std::alloc::GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let (from, to) = REFUSED.get();
        if (from..to).contains(&layout.size()) {
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
    REFUSED.set((700, 900));
    let written = trace::text::write_trace(&t, &t, None, &mut text);
    REFUSED.set((0, 0));
    written.unwrap();
    let shown: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let [first, lost, last] = &shown[..] else {
        panic!("{text}");
    };
    assert!(first.ends_with("first") && last.ends_with("last"), "{text}");
    assert_eq!(*lost, "CPU:0 [LOST 2 EVENTS]");
}

#[test]
fn an_old_life_that_there_is_no_memory_for_is_not_shown() {
    let platform = TestPlatform::new(4);
    let range = handover::range::PhysRange::new(2 << 20, 3 << 20);
    platform.memory.reserve(range);
    // SAFETY: the memory is new, and its allocator keeps off the range.
    unsafe { Region::format(&platform, range, 1) }.unwrap();
    // SAFETY: as above; the last one is used.
    let open = || unsafe { Region::open(platform, range) }.unwrap();
    let beginning = Beginning {
        release: "1.0",
        build: 0,
        boot_id: [1; 16],
        cpus: 1,
        clock: "local",
        tracer: "nop",
    };
    let region = open();
    region.begin_life(&beginning, 2).unwrap();
    // A page with one event.
    let page = region.alloc(0, 0, 0, Kind::Events).unwrap();
    let (head, _) = data_header(104, 1);
    let at = page.pa + HEADER_SIZE as u64;
    platform.memory.write(at, &head.to_ne_bytes());
    region.marks().of(page.pa).unwrap().unseal(1);
    region.marks().of(page.pa).unwrap().begin(1, 0);
    platform.memory.write(page.pa + 8, &104u64.to_ne_bytes());
    drop(region);

    let region = open();
    let show = || write_text(&region, 1, 0, &mut String::with_capacity(10_000));
    // The scan's copy of the largest page there can be, a copy of the page's data, and of the whole page.
    REFUSED.set((65536, 65537));
    let scanned = OldLife::read(&region, 1).map(|_| ());
    REFUSED.set((104, 105));
    let shown = show();
    REFUSED.set((4096, 4097));
    let given = write_raw(&region, 1, 0, &mut |_| Ok(()));
    REFUSED.set((0, 0));
    assert_eq!(scanned, Err(OldError::NoMemory));
    assert_eq!(shown, Err(OldError::NoMemory));
    assert_eq!(given, Err(OldError::NoMemory));
    show().unwrap();
}
