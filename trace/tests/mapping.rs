//! A ring that is mapped, and the reader that decodes its events in place.

mod mapped;

use mapped::{Mapped, page};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use trace::TraceError;
use trace::mapped::{MappedError, MappedReader};
use trace::meta::Meta;
use trace::page::{self as format, Missed};
use trace::ring::{CpuBuffer, Level, Plan};
use trace::testing::TestPlatform;

type Buffer = CpuBuffer<TestPlatform>;
type Reader = MappedReader<'static, &'static [&'static [AtomicU32]]>;

/// Events of 8 bytes on a page of 4 KiB: they fill it wholly.
const PER_PAGE: u64 = 340;

fn write(buffer: &Buffer, ids: std::ops::Range<u64>) {
    write_long(buffer, 8, ids);
}

fn write_long(buffer: &Buffer, len: usize, ids: std::ops::Range<u64>) {
    for id in ids {
        let mut event = buffer
            .reserve(Level::Task, len, &|| 1000 + id)
            .expect("room");
        event.write(0, &id.to_ne_bytes());
        event.commit();
    }
}

fn map(buffer: &Buffer, platform: TestPlatform) -> Mapped {
    let order = buffer.order();
    let pages = buffer
        .map(0, (buffer.pages() as u64 + 2) << order)
        .expect("all of it");
    Mapped::new(platform, &pages, order)
}

/// What a turn brings: the numbers of the events, and how many were lost before the first.
fn turn(buffer: &Buffer, reader: &mut Reader) -> (Vec<u64>, u64) {
    buffer.get_reader().expect("mapped");
    let lost = reader.turn().expect("a meta-page").lost;
    let mut ids = Vec::new();
    while let Some(event) = reader.next().expect("a page") {
        let id = event.record.unsigned(0, 8).expect("a payload");
        assert_eq!(event.ts, 1000 + id);
        ids.push(id);
    }
    (ids, lost)
}

fn reader(mapped: &Mapped) -> Reader {
    let subs: &'static [_] = mapped.subs.clone().leak();
    MappedReader::new(mapped.meta, subs).expect("a mapping")
}

/// The checks of `meta_page_check` in Linux's `map_test.c`, for each size of sub-buffers.
#[test]
fn the_meta_page_tells_of_sixteen_events() {
    for order in 0..=4 {
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 4, order).unwrap();
        let mapped = map(&buffer, platform);
        let meta = || Meta::load(mapped.meta).unwrap();
        let size = 4096u32 << order;
        assert_eq!((meta().meta_page_size, meta().subbuf_size), (size, size));
        assert_eq!((meta().meta_struct_len, meta().nr_subbufs), (80, 5));
        assert_eq!((meta().entries, meta().overrun, meta().read), (0, 0, 0));
        assert_eq!((meta().reader.id, meta().reader.read), (0, 0));
        buffer.get_reader().unwrap();
        assert_eq!(meta().reader.id, 0);
        write(&buffer, 0..16);
        // The writer leaves the meta-page alone.
        assert_eq!(meta().entries, 0);
        buffer.refresh_meta().unwrap();
        assert_eq!((meta().entries, meta().read, meta().reader.id), (16, 0, 0));
        for _ in 0..2 {
            buffer.get_reader().unwrap();
            let now = meta();
            assert_eq!((now.entries, now.overrun, now.read), (16, 0, 16));
            assert_eq!((now.reader.id, now.reader.lost_events), (1, 0));
            assert_eq!((now.flags, now.pages_lost, now.pages_touched), (0, 0, 0));
            assert_eq!(now.unread(), 0);
        }
        // The page is still written to: what comes to it is shown by the next call.
        write(&buffer, 16..20);
        buffer.get_reader().unwrap();
        assert_eq!((meta().entries, meta().read, meta().reader.id), (20, 20, 1));
    }
}

/// The checks of `data_mmap` in Linux's `map_test.c`, and more at the edges.
#[test]
fn what_lies_within_can_be_mapped_and_nothing_beyond() {
    for order in 0..=4u8 {
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let each = 1u64 << order;
        let all = 5 * each;
        let whole = buffer.map(0, all).unwrap();
        assert_eq!(whole.len() as u64, all);
        // Every sub-buffer is there once.
        let mut owned = Vec::new();
        buffer.for_each_page(&mut |page| owned.push(page.pa));
        let mut shown: Vec<u64> = whole[each as usize..]
            .iter()
            .step_by(each as usize)
            .copied()
            .collect();
        shown.sort_unstable();
        owned.sort_unstable();
        assert_eq!(shown, owned);
        for offset in 0..=all + each {
            for pages in 0..=all + 1 {
                let good = offset % each == 0 && pages > 0 && offset + pages <= all;
                match buffer.map(offset, pages) {
                    Ok(list) => {
                        assert!(good, "{pages} from {offset}");
                        let (from, to) = (offset as usize, (offset + pages) as usize);
                        assert_eq!(list, whole[from..to]);
                        buffer.unmap();
                    }
                    Err(TraceError::MapRange { of, .. }) => {
                        assert!(!good, "{pages} from {offset}");
                        assert_eq!(of, all);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
        for huge in [u64::MAX, u64::MAX - each + 1, 1 << 62] {
            let range = |r: Result<Vec<u64>, _>| matches!(r, Err(TraceError::MapRange { .. }));
            assert!(range(buffer.map(huge, each)) && range(buffer.map(0, huge)));
            assert!(range(buffer.map(each, huge)));
        }
        assert_eq!(buffer.mapped(), 1);
    }
}

/// A process sees nothing but what was recorded: not even what was in the pages before.
#[test]
fn what_holds_no_event_is_zero() {
    for order in 0..=4u8 {
        // Its memory is filled with something else where it is allocated.
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let pages = buffer.map(0, 5 << order).unwrap();
        let zero = |pa: u64, from: usize| {
            let words = &page(platform, pa)[from..];
            words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
        };
        assert!(zero(pages[0], 10), "behind the meta-page's struct");
        assert!(pages[1..].iter().all(|page| zero(*page, 0)));
        write(&buffer, 0..100);
        buffer.get_reader().unwrap();
        assert!(zero(pages[0], 10));
        assert!(pages[1..1 << order].iter().all(|page| zero(*page, 0)));
    }
}

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

/// As Linux does it, so that tools which read pages find it: bits in the page's commit word, the number after the data.
#[test]
fn a_loss_stands_in_the_page_too_until_the_last_mapping_ends() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
    let mapped = map(&buffer, platform);
    let bytes = |id: u32| -> Vec<u8> {
        let words = mapped.subs[id as usize].iter();
        words
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect()
    };
    // 145 events of 28 bytes leave room for the number; 340 of 12 leave none.
    for (len, per_page, size, stored) in [(24, 145, 28, true), (8, PER_PAGE, 12, false)] {
        buffer.clear().unwrap();
        write_long(&buffer, len, 0..per_page * 5);
        buffer.get_reader().unwrap();
        let meta = Meta::load(mapped.meta).unwrap();
        let shown = bytes(meta.reader.id);
        let header = format::header(&shown).unwrap();
        let missed = match stored {
            true => Missed::Count(per_page * 3),
            false => Missed::Unknown,
        };
        assert_eq!(header.missed, missed);
        assert_eq!(meta.reader.lost_events, per_page * 3);
        assert_eq!(header.commit as u64, per_page * size);
        assert_eq!(u64::from(meta.reader.read), per_page * size);
        assert_eq!(format::check(&shown).unwrap().events, per_page);
        // Another call brings another page, and no loss.
        let first = meta.reader.id;
        buffer.get_reader().unwrap();
        let meta = Meta::load(mapped.meta).unwrap();
        assert_ne!(meta.reader.id, first);
        assert_eq!(meta.reader.lost_events, 0);
        let header = format::header(&bytes(meta.reader.id)).unwrap();
        assert_eq!(header.missed, Missed::None);
        assert_eq!(meta.unread(), 0);
    }
    // A reader page that has the bits when all ends.
    write(&buffer, 0..PER_PAGE * 5);
    buffer.get_reader().unwrap();
    let id = Meta::load(mapped.meta).unwrap().reader.id;
    let missed = || format::header(&bytes(id)).unwrap().missed;
    assert_ne!(missed(), Missed::None);
    buffer.map(0, 1).unwrap();
    buffer.unmap();
    assert_ne!(missed(), Missed::None);
    buffer.unmap();
    assert_eq!(missed(), Missed::None);
}

/// A reader that has mapped the ring, dies, and leaves all as it was for those that come after it.
#[test]
fn while_mapped_the_ring_keeps_its_shape() {
    let platform = TestPlatform::new(8);
    let (buffer, other) = (
        CpuBuffer::new(platform, 4, 0).unwrap(),
        CpuBuffer::new(platform, 4, 0).unwrap(),
    );
    write(&buffer, 0..2000);
    write(&other, 0..3);
    let before = buffer.stats();
    buffer.map(0, 6).unwrap();
    buffer.map(1, 1).unwrap();
    assert_eq!(buffer.mapped(), 2);
    for left in [2, 1] {
        assert_eq!(buffer.mapped(), left);
        assert_eq!(buffer.resize(8), Err(TraceError::Mapped));
        assert_eq!(buffer.resize(2), Err(TraceError::Mapped));
        assert_eq!(buffer.set_order(1, 4), Err(TraceError::Mapped));
        assert_eq!(buffer.swap(&other), Err(TraceError::Mapped));
        assert_eq!(other.swap(&buffer), Err(TraceError::Mapped));
        assert_eq!(buffer.try_swap(&other), Err(TraceError::Mapped));
        assert_eq!(other.try_swap(&buffer), Err(TraceError::Mapped));
        assert_eq!(buffer.retire(), Err(TraceError::Mapped));
        assert_eq!((buffer.stats(), buffer.pages()), (before, 4));
        buffer.unmap();
    }
    assert_eq!(buffer.mapped(), 0);
    assert_eq!(buffer.get_reader(), Err(TraceError::NotMapped));
    assert_eq!(buffer.refresh_meta(), Err(TraceError::NotMapped));
    buffer.unmap();
    buffer.swap(&other).unwrap();
    buffer.swap(&other).unwrap();
    buffer.resize(8).unwrap();
    assert_eq!(buffer.stats().entries, before.entries);
    buffer.set_order(1, 4).unwrap();
    buffer.map(2, 1).unwrap();
    buffer.unmap();
    buffer.retire().unwrap();
    assert_eq!(buffer.map(0, 1), Err(TraceError::Retired));
}

/// Where memory runs out, nothing has changed, and nothing is kept.
#[test]
fn a_mapping_that_cannot_be_had_leaves_nothing() {
    for order in [0, 1] {
        let platform = TestPlatform::new(1);
        let buffer = CpuBuffer::new(platform, 4, order).unwrap();
        platform.memory.fail_after(Some(0));
        assert_eq!(buffer.map(0, 1), Err(TraceError::NoMemory));
        assert_eq!(buffer.mapped(), 0);
        buffer.resize(4).unwrap();
        platform.memory.fail_after(None);
        let free = platform.memory.free_pages_left();
        buffer.map(0, 1).unwrap();
        buffer.map(0, 1).unwrap();
        assert_eq!(platform.memory.free_pages_left(), free - (1 << order));
        buffer.unmap();
        buffer.unmap();
        assert_eq!(platform.memory.free_pages_left(), free);
        // A buffer that ends while it is mapped takes the meta-page with it.
        let other = CpuBuffer::new(platform, 4, order).unwrap();
        other.map(0, 1).unwrap();
        drop(other);
        assert_eq!(platform.memory.free_pages_left(), free);
    }
}

#[test]
fn clearing_is_seen_and_what_comes_after_it_too() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 3, 0).unwrap();
    let mapped = map(&buffer, platform);
    let mut reader = reader(&mapped);
    // Each page of the ring is the reader page once.
    for round in 0..9 {
        write(&buffer, 0..400);
        assert_eq!(
            turn(&buffer, &mut reader).0.first(),
            Some(&0),
            "round {round}"
        );
        assert_eq!(turn(&buffer, &mut reader).0.last(), Some(&399));
        write(&buffer, 400..410);
        let id = reader.meta().unwrap().reader.id;
        buffer.clear().unwrap();
        let meta = reader.meta().unwrap();
        assert_eq!((meta.entries, meta.read, meta.overrun), (0, 0, 0));
        // The reader page is what it was, and empty: whoever still looks at it sees no other event come to it.
        assert_eq!((meta.reader.id, meta.reader.read), (id, 0));
        assert_eq!(turn(&buffer, &mut reader), (vec![], 0));
        write(&buffer, 0..7);
        assert_eq!(turn(&buffer, &mut reader), ((0..7).collect(), 0));
        buffer.clear().unwrap();
    }
}

/// Whatever was read before it was mapped is not shown; what another reader takes meanwhile is gone, and counted as read.
#[test]
fn other_readers_use_up_what_is_not_shown() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 4, 0).unwrap();
    write(&buffer, 0..20);
    let mut bytes = Vec::new();
    for _ in 0..5 {
        buffer.consume(&mut bytes).unwrap().unwrap();
    }
    let mapped = map(&buffer, platform);
    assert_eq!(Meta::load(mapped.meta).unwrap().reader.id, 0);
    let mut reader = reader(&mapped);
    assert_eq!(turn(&buffer, &mut reader), ((5..20).collect(), 0));
    write(&buffer, 20..800);
    let mut whole = vec![0; 4096];
    buffer.read_page(&mut whole, false).unwrap();
    let taken = format::check(&whole).unwrap().events;
    let (ids, lost) = turn(&buffer, &mut reader);
    assert_eq!((ids[0], lost), (20 + taken, 0));
    let mut seen = ids.len() as u64;
    while let (ids, 0) = turn(&buffer, &mut reader)
        && !ids.is_empty()
    {
        seen += ids.len() as u64;
    }
    assert_eq!(20 + taken + seen, 800);
    assert_eq!(reader.meta().unwrap().read, 800);
}

/// The numbers are for one mapping; the pages and what was read go on, and nothing of the mapping crosses.
#[test]
fn a_mapped_ring_crosses_as_any_other() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
    map(&buffer, platform);
    write(&buffer, 0..PER_PAGE * 5);
    // The reader page has the bits of a loss now.
    buffer.get_reader().unwrap();
    write(&buffer, PER_PAGE * 5..PER_PAGE * 5 + 10);
    let before = buffer.stats();
    let shape = buffer.shape().unwrap();
    let mut pages = Vec::new();
    buffer.for_each_page(&mut |page| pages.push(page));
    std::mem::forget(buffer);
    let platform = platform.kexec(&pages);
    let plan = Plan::new(platform, 0, shape, 1_000_000).unwrap();
    assert_eq!(plan.found().damaged_pages, 0);
    assert_eq!(plan.found().lost_events, 0);
    let buffer = plan.adopt(0);
    assert_eq!(buffer.stats(), before);
    assert_eq!(buffer.mapped(), 0);
    let mapped = map(&buffer, platform);
    let meta = Meta::load(mapped.meta).unwrap();
    assert_eq!((meta.reader.id, meta.read), (0, before.read_events));
    let mut reader = reader(&mapped);
    assert_eq!(turn(&buffer, &mut reader).0[0], PER_PAGE * 4);
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
