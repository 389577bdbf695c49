//! The reader that decodes a mapped ring's events in place.

mod mapped;
#[path = "mapped/ring.rs"]
mod ring;

use ring::{PER_PAGE, map, reader, turn, write, write_long};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use trace::mapped::{MappedError, MappedReader};
use trace::meta::Meta;
use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;

#[test]
fn every_event_is_shown_once_and_losses_are_counted() {
    for order in 0..=4 {
        let platform = TestPlatform::new(16);
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let mapped = map(&buffer, platform);
        let mut reader = reader(&mapped);
        let per_page = ((4096u64 << order) - 16) / 12;
        let (mut next, mut lost_sum) = (0, 0);
        let mut written = 0;
        // Less than the ring holds, exactly a page, far more than it holds, and nothing.
        for count in [10, per_page, 7, 5 * per_page, 0, 1, 40 * per_page + 3, 2] {
            write(&buffer, written..written + count);
            written += count;
            loop {
                let (ids, lost) = turn(&buffer, &mut reader);
                lost_sum += lost;
                next += lost;
                if ids.is_empty() {
                    assert_eq!(lost, 0);
                    break;
                }
                for id in ids {
                    assert_eq!(id, next);
                    next += 1;
                }
            }
            let meta = reader.meta().unwrap();
            assert_eq!((next, meta.entries), (written, written));
            assert_eq!((meta.overrun, meta.read), (lost_sum, written - lost_sum));
            assert_eq!(meta.unread(), 0);
        }
        assert!(lost_sum > 0 && reader.meta().unwrap().pages_lost > 0);
    }
}

/// A page of the ring that is damaged costs its own events alone, and they are counted.
#[test]
fn a_damaged_page_is_counted_as_lost() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 4, 0).unwrap();
    let mapped = map(&buffer, platform);
    write(&buffer, 0..PER_PAGE * 3);
    // The tenth event of the second page becomes one that runs over the end.
    mapped.subs[2][4 + 3 * 9].store(0, Ordering::Relaxed);
    mapped.subs[2][4 + 3 * 9 + 1].store(1 << 20, Ordering::Relaxed);
    let mut reader = reader(&mapped);
    assert_eq!(turn(&buffer, &mut reader), ((0..PER_PAGE).collect(), 0));
    buffer.get_reader().unwrap();
    assert_eq!(reader.turn().unwrap().lost, 0);
    for id in PER_PAGE..PER_PAGE + 9 {
        let event = reader.next().unwrap().unwrap();
        assert_eq!(event.record.unsigned(0, 8), Some(id));
    }
    assert!(matches!(reader.next(), Err(MappedError::Page(_))));
    assert!(reader.next().unwrap().is_none());
    let (ids, lost) = turn(&buffer, &mut reader);
    assert_eq!((ids[0], lost), (PER_PAGE * 2, PER_PAGE - 9));
    let meta = reader.meta().unwrap();
    assert_eq!(
        (meta.overrun, meta.read + meta.overrun),
        (PER_PAGE - 9, meta.entries)
    );
}

#[test]
fn what_is_no_mapping_is_refused() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 3, 0).unwrap();
    let mapped = map(&buffer, platform);
    let subs: &'static [_] = mapped.subs.clone().leak();
    write(&buffer, 0..5);
    buffer.get_reader().unwrap();
    let fails = |change: fn(&mut Meta)| {
        let mut meta = Meta::load(mapped.meta).unwrap();
        let good = meta.to_words();
        change(&mut meta);
        let put = |words: [u64; 10]| {
            for (place, word) in mapped.meta.iter().zip(words) {
                place.store(word, Ordering::Relaxed);
            }
        };
        put(meta.to_words());
        let result = MappedReader::new(mapped.meta, subs).map(|_| ());
        put(good);
        result.expect_err("no mapping").to_string()
    };
    assert_eq!(
        fails(|m| m.meta_struct_len = 72),
        "the meta-page has 72 bytes, too few"
    );
    let text = "the meta-page tells of 5 sub-buffers of 4096 bytes, which are not what is mapped";
    assert_eq!(fails(|m| m.nr_subbufs = 5), text);
    assert!(fails(|m| m.subbuf_size = 0).contains("of 0 bytes"));
    assert!(fails(|m| m.subbuf_size = 16).contains("of 16 bytes"));
    assert!(fails(|m| m.subbuf_size = u32::MAX).contains("which are not"));
    let text = "the meta-page tells of 60 bytes read of sub-buffer 4, which cannot be";
    assert_eq!(fails(|m| m.reader.id = 4), text);
    assert!(fails(|m| m.reader.id = u32::MAX).contains("cannot be"));
    assert!(
        fails(|m| m.reader.read = 64).contains("cannot be"),
        "more than is committed"
    );
    assert!(fails(|m| m.reader.read = 58).contains("cannot be"));
    assert!(fails(|m| m.reader.read = u32::MAX - 3).contains("cannot be"));
    let short = MappedReader::new(&mapped.meta[..9], subs).map(|_| ());
    assert_eq!(short, Err(MappedError::MetaLen(72)));
}

/// The reader may get a page before its first event is there, and the page's time with it.
#[test]
fn the_time_of_a_page_is_that_of_its_first_event() {
    let platform = TestPlatform::new(1);
    let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
    let mapped = map(&buffer, platform);
    let mut reader = reader(&mapped);
    let page = mapped.subs[0];
    page[0].store(7, Ordering::Relaxed);
    reader.turn().unwrap();
    assert!(reader.next().unwrap().is_none());
    // An event of 8 bytes 5 after the page's time.
    for (at, word) in [(0, 1000), (2, 12), (4, 5 << 5 | 2), (5, 42), (6, 0)] {
        page[at].store(word, Ordering::Relaxed);
    }
    let meta = Meta::load(mapped.meta).unwrap();
    let words = Meta {
        reader: trace::meta::MetaReader {
            read: 12,
            ..meta.reader
        },
        ..meta
    };
    for (place, word) in mapped.meta.iter().zip(words.to_words()) {
        place.store(word, Ordering::Relaxed);
    }
    assert!(!reader.turn().unwrap().new_page);
    let event = reader.next().unwrap().unwrap();
    assert_eq!((event.ts, event.record.unsigned(0, 8)), (1005, Some(42)));
    assert!(reader.next().unwrap().is_none());
}

/// A writer with interrupts, and a reader in another thread that sees the pages themselves: every event once, in order, or
/// counted as lost.
#[test]
fn a_writer_and_a_mapped_reader() {
    for (pages, order) in [(2, 0), (5, 0), (3, 1), (2, 4)] {
        let platform = TestPlatform::new(16);
        let buffer = CpuBuffer::new(platform, pages, order).unwrap();
        let mapped = map(&buffer, platform);
        let mut reader = reader(&mapped);
        let done = AtomicBool::new(false);
        let total = 60_000u64;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (now, next) = (Cell::new(0u64), Cell::new(0u64));
                let clock = || {
                    now.set(now.get() + 1);
                    now.get()
                };
                let write = |level, inner: &dyn Fn()| {
                    let len = 8 + (next.get() as usize * 7) % 60;
                    let mut event = buffer.reserve(level, len, &clock).expect("room");
                    let id = next.get();
                    next.set(id + 1);
                    event.write(0, &id.to_ne_bytes());
                    inner();
                    event.commit();
                };
                while next.get() < total {
                    let irq = next.get() % 3 == 0;
                    write(Level::Task, &|| {
                        if irq {
                            write(Level::Irq, &|| ());
                        }
                    });
                    if next.get() % 1000 < 2 {
                        std::thread::yield_now();
                    }
                }
                done.store(true, Ordering::Release);
            });
            let (mut expected, mut lost_sum, mut seen, mut last) = (0, 0, 0, 0);
            loop {
                let ended = done.load(Ordering::Acquire);
                buffer.get_reader().unwrap();
                let turn = reader.turn().unwrap();
                expected += turn.lost;
                lost_sum += turn.lost;
                let mut any = false;
                while let Some(event) = reader.next().unwrap() {
                    any = true;
                    assert_eq!(event.record.unsigned(0, 8), Some(expected));
                    assert!(event.ts >= last, "time goes back");
                    last = event.ts;
                    expected += 1;
                    seen += 1;
                }
                assert_eq!(turn.meta.read, seen, "what is shown is what counts as read");
                assert!(any || turn.lost == 0);
                if ended && !any {
                    break;
                }
            }
            let meta = reader.meta().unwrap();
            assert_eq!(meta.entries, seen + lost_sum);
            assert_eq!((meta.overrun, meta.read), (lost_sum, seen));
            assert!(meta.entries >= total && expected == meta.entries);
        });
    }
}

/// As on another CPU, the reader asks for a page at one step of a write that overwrites: at each step once, before and after it
/// has read all of its page. A writer that moves the head at that moment keeps it from taking one.
#[test]
fn a_reader_asks_at_every_step_of_a_write() {
    // Four events a page, two pages and the reader's.
    const LEN: usize = 1000;
    for unread in [0, 3] {
        let mut at = 0;
        loop {
            let platform = TestPlatform::new(1);
            let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
            let mapped = map(&buffer, platform);
            let reader = RefCell::new(reader(&mapped));
            let next = Cell::new(0);
            // What comes is the next event, or what is before it is lost.
            let turn = || {
                let (ids, lost) = turn(&buffer, &mut reader.borrow_mut());
                next.set(next.get() + lost);
                for id in &ids {
                    assert_eq!(*id, next.get(), "step {at}");
                    next.set(id + 1);
                }
                !ids.is_empty()
            };
            write_long(&buffer, LEN, 0..9 - unread);
            turn();
            write_long(&buffer, LEN, 9 - unread..15);
            let steps = Cell::new(0);
            let step = |_| {
                if steps.replace(steps.get() + 1) == at {
                    turn();
                }
            };
            platform.interrupted(&step, || write_long(&buffer, LEN, 15..23));
            while turn() {}
            assert_eq!(next.get(), 23);
            let meta = reader.borrow().meta().unwrap();
            assert_eq!((meta.entries, meta.read + meta.overrun), (23, 23));
            if steps.get() <= at {
                break;
            }
            at += 1;
        }
        assert!(at > 100, "the writes have steps");
    }
}
