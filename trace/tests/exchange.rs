//! What puts another ring into a buffer (swap, order, retire), and whole pages for a reader.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use trace::TraceError;
use trace::page::{self, Cursor, HEADER_SIZE, Missed};
use trace::ring::{CpuBuffer, Level, MAX_ORDER, Plan, ReserveError};
use trace::testing::TestPlatform;

type Buffer = CpuBuffer<TestPlatform>;

fn buffer(platform: TestPlatform, pages: usize) -> Buffer {
    CpuBuffer::new(platform, pages, 0).unwrap()
}

/// Writes the events of these numbers, each at its number.
fn write(buffer: &Buffer, ids: std::ops::Range<u64>) {
    for id in ids {
        let mut r = buffer.reserve(Level::Task, 8, &|| id).unwrap();
        r.write(0, &id.to_ne_bytes());
        r.commit();
    }
}

/// Events of 8 bytes on a page.
const PER_PAGE: u64 = 340;

fn id_of(payload: &[u8]) -> u64 {
    u64::from_ne_bytes(payload.try_into().unwrap())
}

fn consume(buffer: &Buffer) -> Option<(u64, Missed)> {
    let mut bytes = Vec::new();
    let (_, lost) = buffer.consume(&mut bytes).unwrap()?;
    Some((id_of(&bytes), lost))
}

fn look(buffer: &Buffer) -> Vec<u64> {
    let mut iter = buffer.iter().unwrap();
    std::iter::from_fn(|| iter.next().map(|entry| id_of(entry.payload))).collect()
}

/// The events of a raw page.
fn decode(bytes: &[u8]) -> (Missed, Vec<(u64, u64)>) {
    let header = page::header(bytes).unwrap();
    let data = &bytes[HEADER_SIZE..][..header.commit];
    let mut cursor = Cursor::new(header.time_stamp);
    let mut events = Vec::new();
    while let Some(event) = cursor.next(data).unwrap() {
        events.push((event.ts, id_of(&data[event.payload..][..event.len])));
    }
    (header.missed, events)
}

/// A reader that gives its page back, read to the end, and finds the head being moved: the page is empty then, and still his.
#[test]
fn a_page_that_was_emptied_in_vain_is_described_as_empty() {
    let mut in_vain = 0;
    for step in 0..80 {
        let platform = TestPlatform::new(1);
        let a = buffer(platform, 2);
        // The ring is full, and the reader page read to its end.
        write(&a, 0..2 * PER_PAGE);
        a.peek().unwrap();
        write(&a, 2 * PER_PAGE..3 * PER_PAGE);
        (0..PER_PAGE).for_each(|id| assert_eq!(consume(&a), Some((id, Missed::None))));
        assert_eq!(a.stats().overrun, 0);
        let (now, got) = (std::cell::Cell::new(0), std::cell::Cell::new(None));
        let reader = |_: &'static std::panic::Location<'static>| {
            if now.replace(now.get() + 1) == step {
                got.set(Some(consume(&a).is_some()));
            }
        };
        platform.interrupted(&reader, || write(&a, 3 * PER_PAGE..3 * PER_PAGE + 3));
        in_vain += u32::from(got.get() == Some(false));
        let found = Plan::new(platform, 0, a.shape().unwrap(), 2000).map(|plan| plan.found());
        assert_eq!(found.map(|found| found.damaged_pages), Ok(0), "step {step}");
    }
    assert!(in_vain > 0);
}

#[test]
fn a_swap_takes_everything_along() {
    let platform = TestPlatform::new(2);
    let (a, b) = (buffer(platform, 2), buffer(platform, 5));
    b.set_overwrite(false);
    write(&a, 0..2000);
    let first = consume(&a).unwrap();
    assert!(matches!(first.1, Missed::Count(n) if n == first.0));
    write(&b, 5000..5003);
    let (of_a, of_b) = (a.stats(), b.stats());
    let seen = look(&a);
    a.swap(&b).unwrap();
    assert_eq!((a.stats(), b.stats()), (of_b, of_a));
    assert_eq!((a.pages(), b.pages()), (5, 2));
    assert_eq!((a.overwrite(), b.overwrite()), (true, false));
    assert_eq!(look(&a), [5000, 5001, 5002]);
    assert_eq!(look(&b), seen);
    assert_eq!(consume(&b), Some((first.0 + 1, Missed::None)));
    // Both go on, never back in time.
    write(&a, 6000..6001);
    assert_eq!(look(&a), [5000, 5001, 5002, 6000]);
    b.try_swap(&a).unwrap();
    a.swap(&a).unwrap();
    write(&a, 7000..7001);
    assert_eq!(look(&a).last(), Some(&7000));
    assert_eq!(look(&b), [5000, 5001, 5002, 6000]);
    drop((a, b));
    assert!(platform.owned().is_empty());
}

#[test]
fn a_swap_that_cannot_be_done_now_says_so_at_once() {
    let platform = TestPlatform::new(2);
    let (a, b) = (buffer(platform, 2), buffer(platform, 2));
    write(&a, 0..10);
    let open = a.reserve(Level::Task, 8, &|| 20).unwrap();
    assert_eq!(a.try_swap(&b), Err(TraceError::Busy));
    assert_eq!(b.try_swap(&a), Err(TraceError::Busy));
    // The write that is under way, and others, go on.
    a.reserve(Level::Irq, 8, &|| 21).unwrap().discard();
    open.discard();
    assert_eq!(look(&a), (0..10).collect::<Vec<_>>());
    b.try_swap(&a).unwrap();
    assert!(a.is_empty() && !b.is_empty());
    let gone = CpuBuffer::retired(platform);
    assert_eq!(gone.swap(&a), Err(TraceError::Retired));
    assert_eq!(a.try_swap(&gone), Err(TraceError::Retired));
    assert_eq!(look(&b).len(), 10);
}

/// An iterator never goes on in another ring, whose numbers could look like those of its own.
#[test]
fn an_iterator_ends_where_the_ring_is_exchanged() {
    let platform = TestPlatform::new(2);
    let (a, b) = (buffer(platform, 6), buffer(platform, 6));
    let changes: [&dyn Fn(); 3] = [
        &|| a.swap(&b).unwrap(),
        &|| a.set_order(1, 4).unwrap(),
        &|| a.retire().unwrap(),
    ];
    for change in changes {
        write(&a, 0..1000);
        write(&b, 1000..2000);
        let mut iter = a.iter().unwrap();
        let first = id_of(iter.next().unwrap().payload);
        change();
        // Not more than the page that it had copied.
        let rest: Vec<_> =
            std::iter::from_fn(|| iter.next().map(|entry| id_of(entry.payload))).collect();
        assert!(rest.len() < 1000);
        assert!(rest.iter().zip(first + 1..).all(|(got, want)| *got == want));
        b.clear().unwrap();
    }
    assert!(a.iter().unwrap().next().is_none());
}

#[test]
fn all_orders() {
    let platform = TestPlatform::new(4);
    let a = buffer(platform, 4);
    for order in (0..=MAX_ORDER).chain([0]) {
        write(&a, 0..3);
        a.set_order(order, 3).unwrap();
        assert!(a.is_empty());
        assert_eq!(a.stats(), Default::default());
        let size = 4096usize << order;
        assert_eq!((a.order(), a.page_size(), a.pages()), (order, size, 3));
        let max = a.max_payload();
        assert_eq!(max, page::max_payload(size));
        let refused = a.reserve(Level::Task, max + 1, &|| 1).unwrap_err();
        assert_eq!(refused, ReserveError::TooLarge { len: max + 1, max });
        for len in [0, 1, 112, 113, max - 1, max, 5, max] {
            let mut r = a.reserve(Level::Task, len, &|| 1).unwrap();
            r.write(0, &vec![0xcd; len]);
            r.commit();
        }
        // Reader page and three more: one event of `max` in each, with the small ones before.
        let mut bytes = Vec::new();
        let mut lens = Vec::new();
        while a.consume(&mut bytes).unwrap().is_some() {
            lens.push(bytes.len());
        }
        assert_eq!(lens[lens.len() - 3..], [max, 8, max]);
        write(&a, 10..2000 << order);
        let stats = a.stats();
        assert_eq!(
            stats.written(),
            stats.entries + stats.overrun + stats.read_events
        );
        a.clear().unwrap();
    }
    assert_eq!(a.set_order(MAX_ORDER + 1, 2), Err(TraceError::Order(5)));
    assert_eq!(a.set_order(4, 1 << 40), Err(TraceError::NoMemory));
    write(&a, 0..3);
    assert_eq!(look(&a), [0, 1, 2]);
}

#[test]
fn a_retired_buffer_has_no_pages_and_refuses() {
    let platform = TestPlatform::new(2);
    let a = CpuBuffer::retired(platform);
    for round in 0..3 {
        assert!(a.is_retired() && a.is_empty());
        assert!(platform.owned().is_empty());
        let refused = a.reserve(Level::Task, 8, &|| 1).unwrap_err();
        assert_eq!(refused, ReserveError::Disabled);
        assert_eq!(consume(&a), None);
        assert_eq!(a.read_page(&mut [0; 1 << 16], false), None);
        assert_eq!(look(&a), []);
        assert_eq!(a.stats().written(), 0);
        assert_eq!(a.clear(), Err(TraceError::Retired));
        assert_eq!(a.resize(7), Err(TraceError::Retired));
        assert_eq!(a.set_order(0, 7), Err(TraceError::Retired));
        assert_eq!(a.shape().unwrap_err(), TraceError::Retired);
        a.retire().unwrap();
        a.revive(3, round).unwrap();
        assert_eq!(a.revive(2, 0), Err(TraceError::Busy));
        assert_eq!(platform.owned().len(), 4);
        assert_eq!(a.stats(), Default::default());
        write(&a, 0..300);
        assert_eq!(look(&a).len(), 300);
        a.retire().unwrap();
    }
}

#[test]
fn raw_pages_hold_what_is_unread() {
    let platform = TestPlatform::new(2);
    let a = buffer(platform, 2);
    let mut out = vec![0xee; 4096];
    assert_eq!(a.read_page(&mut out, false), None);
    assert_eq!(a.read_page(&mut out[..4095], false), None);
    write(&a, 0..5);
    // The page is still written to: a part of it, and then the next part.
    assert_eq!(a.read_page(&mut out, true), None);
    assert_eq!(a.read_page(&mut out, false), Some(16 + 5 * 12));
    let want: Vec<_> = (0..5).map(|n| (n, n)).collect();
    assert_eq!(decode(&out), (Missed::None, want));
    assert!(out[16 + 5 * 12..].iter().all(|b| *b == 0));
    assert_eq!(a.read_page(&mut out, false), None);
    write(&a, 5..9);
    assert_eq!(consume(&a), Some((5, Missed::None)));
    a.read_page(&mut out, false).unwrap();
    assert_eq!(decode(&out), (Missed::None, vec![(6, 6), (7, 7), (8, 8)]));
    // 340 events fit a page. Now one that is done, but was read in part.
    write(&a, 9..345);
    assert_eq!(consume(&a), Some((9, Missed::None)));
    assert_eq!(a.read_page(&mut out, true), None);
    a.read_page(&mut out, false).unwrap();
    assert_eq!(decode(&out).1.first(), Some(&(10, 10)));
    assert_eq!(decode(&out).1.last(), Some(&(339, 339)));
    let stats = a.stats();
    assert_eq!((stats.entries, stats.read_events), (5, 340));
    // Overwritten: told in the header of the next one, which is full, so that the number does not fit.
    write(&a, 345..2000);
    let lost = a.stats().overrun;
    assert!(lost > 0);
    let len = a.read_page(&mut out, true).unwrap();
    assert_eq!(len, 4096);
    let (missed, events) = decode(&out);
    assert_eq!(
        (missed, events[0]),
        (Missed::Unknown, (340 + lost, 340 + lost))
    );
    while a.read_page(&mut out, false).is_some() {}
    let stats = a.stats();
    assert_eq!((stats.entries, stats.written()), (0, 2000));
}

#[test]
fn the_number_of_missed_events_is_stored_where_there_is_room() {
    let a = buffer(TestPlatform::new(1), 2);
    let mut next = 0;
    // 1000 bytes each: 4 to a page, with 48 bytes to spare.
    let mut put = |n: u64| {
        for _ in 0..n {
            let mut r = a.reserve(Level::Task, 1000, &|| 1).unwrap();
            r.write(0, &u64::to_ne_bytes(next));
            r.commit();
            next += 1;
        }
        next
    };
    let mut want = 0;
    let mut out = [0; 4096];
    let mut told = 0;
    for n in [3, 30, 1, 17, 40, 8] {
        let end = put(n);
        while a.read_page(&mut out, false).is_some() {
            let header = page::header(&out).unwrap();
            let lost = match header.missed {
                Missed::Count(n) => n,
                Missed::None => 0,
                Missed::Unknown => panic!("there is room"),
            };
            told += lost;
            want += lost;
            let data = &out[16..16 + header.commit];
            let mut cursor = Cursor::new(header.time_stamp);
            while let Some(event) = cursor.next(data).unwrap() {
                let id = u64::from_ne_bytes(data[event.payload..][..8].try_into().unwrap());
                assert_eq!(id, want);
                want += 1;
            }
        }
        assert_eq!(want, end);
        assert_eq!(a.stats().overrun, told);
    }
    assert!(told > 60);
}

/// Refusing instead of overwriting: what is in stays, what is refused is counted, and told in its place; and there is room again
/// once a page was consumed.
#[test]
fn a_full_buffer_that_does_not_overwrite() {
    let a = buffer(TestPlatform::new(1), 3);
    a.set_overwrite(false);
    let mut refused = 0;
    let mut kept = Vec::new();
    let mut next = 0;
    let mut read = Vec::new();
    for round in 0..50 {
        for _ in 0..1000 + 37 * round {
            match a.reserve(Level::Task, 8, &|| next) {
                Ok(mut r) => {
                    r.write(0, &next.to_ne_bytes());
                    r.commit();
                    kept.push(next);
                }
                Err(e) => {
                    assert_eq!(e, ReserveError::Full);
                    refused += 1;
                }
            }
            next += 1;
        }
        let stats = a.stats();
        assert_eq!((stats.overrun, stats.commit_overrun), (0, 0));
        assert_eq!(stats.dropped_events, refused);
        assert_eq!(stats.written(), kept.len() as u64);
        for _ in 0..(round % 7) * 200 {
            let Some((id, lost)) = consume(&a) else { break };
            check_loss(read.last(), id, lost);
            read.push(id);
        }
        // Who only looks is told of it too, but for what is missing before the first.
        let mut iter = a.iter().unwrap();
        let mut last = None;
        while let Some(entry) = iter.next() {
            let id = u64::from_ne_bytes(entry.payload.try_into().unwrap());
            if last.is_some() {
                check_loss(last.as_ref(), id, entry.lost);
            }
            last = Some(id);
        }
    }
    while let Some((id, lost)) = consume(&a) {
        check_loss(read.last(), id, lost);
        read.push(id);
    }
    assert_eq!(read, kept);
    assert!(refused > 1000);
    // What was refused last is told with the next event.
    assert!(*kept.last().unwrap() < next - 1);
    let mut r = a.reserve(Level::Task, 8, &|| next).unwrap();
    r.write(0, &next.to_ne_bytes());
    r.commit();
    let (id, lost) = consume(&a).unwrap();
    check_loss(kept.last(), id, lost);
}

/// All numbers from the last one to this one are missing, and no more.
fn check_loss(last: Option<&u64>, id: u64, lost: Missed) {
    let missing = id - last.map_or(0, |last| last + 1);
    let want = match missing {
        0 => Missed::None,
        n => Missed::Count(n),
    };
    assert_eq!(lost, want, "between {last:?} and {id}");
}

/// A snapshot while another CPU's writer records, and readers look: no event is lost, none comes twice.
#[test]
fn snapshots_while_recording() {
    let platform = TestPlatform::new(2);
    let (main, snapshot) = (buffer(platform, 8), buffer(platform, 8));
    let done = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut refused = 0u64;
            let mut id = 0u64;
            while !done.load(Ordering::Acquire) {
                match main.reserve(Level::Task, 8, &|| id) {
                    Ok(mut r) => {
                        r.write(0, &id.to_ne_bytes());
                        r.commit();
                        id += 1;
                        written.store(id, Ordering::Release);
                    }
                    Err(ReserveError::Disabled) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            (id, refused)
        });
        let mut want = 0;
        let mut dropped = 0;
        for round in 0..200 {
            let before = written.load(Ordering::Acquire);
            while written.load(Ordering::Acquire) < before + 20 {
                std::thread::yield_now();
            }
            if round % 2 == 0 {
                main.swap(&snapshot).unwrap();
            } else {
                while main.try_swap(&snapshot).is_err() {
                    std::thread::yield_now();
                }
            }
            let mut bytes = Vec::new();
            while let Some((_, lost)) = snapshot.consume(&mut bytes).unwrap() {
                if let Missed::Count(n) = lost {
                    want += n;
                }
                assert_eq!(id_of(&bytes), want);
                want += 1;
            }
            dropped += snapshot.stats().dropped_events;
            snapshot.clear().unwrap();
        }
        done.store(true, Ordering::Release);
        let (id, refused) = writer.join().unwrap();
        while let Some((got, lost)) = consume(&main) {
            if let Missed::Count(n) = lost {
                want += n;
            }
            assert_eq!(got, want);
            want += 1;
        }
        assert_eq!(want, id);
        assert_eq!(dropped + main.stats().dropped_events, refused);
    });
}
