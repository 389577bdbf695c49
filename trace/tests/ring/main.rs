//! The ring buffer: single cases; in `queue` against a plain model, in `threads` against readers and resizes on other CPUs.

mod queue;
mod threads;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use trace::page::Missed;
use trace::ring::{CpuBuffer, Level, Reservation, ReserveError};
use trace::testing::TestPlatform;

const LEVELS: [Level; 4] = [Level::Task, Level::SoftIrq, Level::Irq, Level::Nmi];

/// A payload that tells its number and can be checked whole.
fn payload(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend((8..len).map(|i| (id as usize * 31 + i * 7) as u8));
    bytes.truncate(len.max(8));
    bytes
}

/// The number in a payload, after a look at all of it. The length is rounded up to words.
fn check_payload(bytes: &[u8], len_of: impl Fn(u64) -> usize) -> u64 {
    let id = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    let len = len_of(id);
    assert_eq!(bytes.len(), len.next_multiple_of(4), "length of {id}");
    assert_eq!(bytes[..len], payload(id, len), "content of {id}");
    assert!(bytes[len..].iter().all(|b| *b == 0));
    id
}

/// Writes nest at each look at the clock: between the stamps and the reservation, and again in the slow path after it.
#[test]
fn interrupted_before_the_reservation() {
    struct Nest<'b> {
        buffer: &'b CpuBuffer<TestPlatform>,
        now: Cell<u64>,
        random: Cell<u64>,
        next: Cell<u64>,
        committed: RefCell<HashSet<u64>>,
        refused: Cell<u64>,
    }
    impl Nest<'_> {
        fn random(&self, below: u64) -> u64 {
            let mut x = self.random.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            self.random.set(x);
            (x >> 20) % below
        }
        fn write(&self, depth: usize) {
            let id = self.next.get();
            self.next.set(id + 1);
            let len = 8 + self.random(if self.random(20) == 0 { 3900 } else { 60 }) as usize;
            let clock = || {
                // Interrupted before the clock is read, or after. An interrupt takes time.
                let tick = || {
                    self.now
                        .set(self.now.get() + 1 + self.random(3) * self.random(100))
                };
                tick();
                let early = self.random(2) == 0;
                let mut now = self.now.get();
                if depth + 1 < LEVELS.len() && self.random(4) == 0 {
                    self.write(depth + 1);
                    tick();
                    if early {
                        now = self.now.get();
                    }
                }
                self.now
                    .set(self.now.get() + self.random(3) * self.random(100));
                now
            };
            let reserved = if self.random(10) == 0 {
                let at = self.now.get() - self.random(1000);
                self.buffer.reserve_at(LEVELS[depth], len, at, &clock)
            } else {
                self.buffer.reserve(LEVELS[depth], len, &clock)
            };
            let Ok(mut r) = reserved else {
                self.refused.set(self.refused.get() + 1);
                return;
            };
            r.write(0, &payload(id, len));
            if depth + 1 < LEVELS.len() && self.random(3) == 0 {
                self.write(depth + 1);
            }
            if self.random(8) == 0 {
                r.discard();
            } else {
                r.commit();
                self.committed.borrow_mut().insert(id);
            }
        }
    }
    for seed in 1..40u64 {
        let platform = TestPlatform::new(1);
        let buffer = CpuBuffer::new(platform, 2 + (seed % 5) as usize, 0).unwrap();
        let nest = Nest {
            buffer: &buffer,
            now: Cell::new(1 << 30),
            random: Cell::new(seed * 0x9e37_79b9),
            next: Cell::new(0),
            committed: RefCell::default(),
            refused: Cell::new(0),
        };
        for round in 0..2000 {
            nest.write(0);
            let stats = buffer.stats();
            assert_eq!(stats.written(), nest.committed.borrow().len() as u64);
            assert_eq!(
                stats.commit_overrun + stats.dropped_events,
                nest.refused.get()
            );
            if round % 50 == 0 {
                let mut iter = buffer.iter().unwrap();
                let mut last = 0;
                let mut seen = 0;
                while let Some(entry) = iter.next() {
                    assert!(entry.ts >= last, "time goes back: {last} {}", entry.ts);
                    assert!(
                        entry.ts <= nest.now.get() + 200,
                        "{} is later than {} (seed {seed} round {round} after {last})",
                        entry.ts,
                        nest.now.get()
                    );
                    last = entry.ts;
                    seen += 1;
                    let id = u64::from_ne_bytes(entry.payload[..8].try_into().unwrap());
                    assert_eq!(entry.payload[..8], id.to_ne_bytes());
                    assert!(nest.committed.borrow().contains(&id));
                }
                assert_eq!(seen, stats.entries);
            }
        }
    }
}

#[test]
fn the_newest_survive_and_the_rest_is_counted() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 2, 0).unwrap();
    let clock = || 5;
    for id in 0..10_000u64 {
        let mut r = buffer.reserve(Level::Task, 8, &clock).unwrap();
        r.write(0, &id.to_ne_bytes());
        r.commit();
    }
    let stats = buffer.stats();
    assert_eq!(stats.entries + stats.overrun, 10_000);
    // 12 bytes each, two pages of 4080 bytes, of which the newest is partly full.
    assert!((340..=680).contains(&stats.entries), "{}", stats.entries);
    let mut iter = buffer.iter().unwrap();
    let mut want = stats.overrun;
    while let Some(entry) = iter.next() {
        assert_eq!(entry.payload, want.to_ne_bytes());
        want += 1;
    }
    assert_eq!(want, 10_000);
}

#[test]
fn sizes_from_nothing_to_a_page() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 4, 0).unwrap();
    let clock = || 7;
    let max = buffer.max_payload();
    assert_eq!(max, 4072);
    let error = buffer.reserve(Level::Task, max + 1, &clock).unwrap_err();
    assert_eq!(error, ReserveError::TooLarge { len: max + 1, max });
    let lens = [0, 1, 4, 108, 111, 112, 113, 116, 4000, max, max];
    for len in lens {
        let mut r = buffer.reserve(Level::Task, len, &clock).unwrap();
        r.write(0, &vec![0xab; len]);
        // What does not fit is cut off.
        r.write(len, &[1, 2, 3]);
        r.commit();
    }
    let mut iter = buffer.iter().unwrap();
    for len in lens {
        let entry = iter.next().unwrap();
        assert_eq!(entry.payload.len(), len.max(1).next_multiple_of(4));
        assert!(entry.payload[..len].iter().all(|b| *b == 0xab));
        assert!(entry.payload[len..].iter().all(|b| *b == 0));
    }
    assert!(iter.next().is_none());
}

#[test]
fn recursion_is_refused_and_counted() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 2, 0).unwrap();
    let clock = || 7;
    let a = buffer.reserve(Level::Irq, 8, &clock).unwrap();
    // One more of a level is let in: the context may say "irq" a little late.
    let b = buffer.reserve(Level::Irq, 8, &clock).unwrap();
    let error = buffer.reserve(Level::Irq, 8, &clock).unwrap_err();
    assert_eq!(error, ReserveError::Recursion);
    b.commit();
    a.commit();
    let stats = buffer.stats();
    assert_eq!((stats.entries, stats.dropped_events), (2, 1));
    buffer.reserve(Level::Irq, 8, &clock).unwrap().commit();
    assert_eq!(buffer.stats().entries, 3);
}

/// The option `overwrite` is switched off, as by another CPU, while a write moves the head, and one that has interrupted it has begun the
/// next page: who comes then goes along, for a refusal would be told behind that page.
#[test]
fn whoever_finds_the_head_being_moved_goes_along() {
    const LEN: usize = 1500;
    const PER_PAGE: u64 = 2;
    let mut refused_at = HashSet::new();
    for (below, above) in (0..40).flat_map(|below| (0..50).map(move |above| (below, above))) {
        let platform = TestPlatform::new(1);
        let buffer = CpuBuffer::new(platform, 4, 0).unwrap();
        let write = |level, id| {
            let clock = || id;
            buffer.reserve(level, LEN, &clock).map(|mut event| {
                event.write(0, &payload(id, LEN));
                event.commit();
            })
        };
        let full = 4 * PER_PAGE;
        (0..full).for_each(|id| write(Level::Task, id).unwrap());
        let (depth, refused) = (Cell::new(0), Cell::new(false));
        let steps = [Cell::new(0), Cell::new(0)];
        let interrupt = |_: &'static std::panic::Location<'static>| {
            let level = depth.replace(depth.get() + 1);
            let step = steps.get(level).map(|step| step.replace(step.get() + 1));
            if level == 0 && step == Some(below) {
                write(Level::SoftIrq, full + 1).unwrap();
            } else if level == 1 && step == Some(above) {
                buffer.set_overwrite(false);
                refused.set(write(Level::Irq, full + 2).is_err());
                buffer.set_overwrite(true);
            }
            depth.set(level);
        };
        platform.interrupted(&interrupt, || write(Level::Task, full).unwrap());
        (0..PER_PAGE + 1).for_each(|id| write(Level::Task, full + 3 + id).unwrap());
        let mut bytes = Vec::new();
        let mut told = Vec::new();
        while let Some((_, lost)) = buffer.consume(&mut bytes).unwrap() {
            if lost != Missed::None {
                told.push(check_payload(&bytes, |_| LEN));
            }
        }
        // The first is what was overwritten. A refusal stands before the first event of the page that was begun then.
        let late = told.iter().skip(1).find(|id| **id > full + 2);
        assert_eq!(late, None, "steps {below} and {above}");
        if refused.get() {
            refused_at.insert(below);
        }
    }
    assert!(!refused_at.is_empty());
}

/// Padding is no data: neither that of discarded events, nor what refused ones and the ends of pages leave.
#[test]
fn a_buffer_without_events_has_no_bytes_and_no_oldest_event() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 2, 0).unwrap();
    let time = Cell::new(1000);
    let clock = || {
        time.set(time.get() + 10);
        time.get()
    };
    buffer.set_overwrite(false);
    let none = |what: &str| {
        let stats = buffer.stats();
        let found = (stats.entries, stats.bytes, stats.oldest_ts);
        assert_eq!(found, (0, 0, 0), "{what}");
    };
    none("a new one");
    buffer.reserve(Level::Task, 40, &clock).unwrap().discard();
    none("an event discarded");
    // Where pages end depends on the length.
    for len in [16, 52, 100, 600, 2000] {
        let mut events = 0;
        let first = time.get() + 10;
        while let Ok(event) = buffer.reserve(Level::Task, len, &clock) {
            event.commit();
            events += 1;
        }
        for small in [600, 8, 8] {
            let _ = buffer
                .reserve(Level::Task, small, &clock)
                .map(Reservation::commit);
        }
        let mut payload = Vec::new();
        let mut seen = 0;
        loop {
            let before = buffer.stats();
            let Some((ts, _)) = buffer.consume(&mut payload).unwrap() else {
                break;
            };
            assert!(ts >= first);
            assert_eq!(before.oldest_ts, ts, "event {seen} of {len} bytes");
            let least = before.entries * 12;
            assert!(before.bytes >= least, "{before:?}");
            seen += 1;
        }
        assert!(seen >= events);
        none("all consumed");
        let event = buffer.reserve(Level::Task, 8, &clock).unwrap();
        event.discard();
        none("and an event discarded");
    }
}

#[test]
fn no_memory_leaves_the_buffer_as_it_was() {
    let platform = TestPlatform::new(1);
    let buffer = CpuBuffer::new(platform, 4, 0).unwrap();
    let clock = || 7;
    for _ in 0..100 {
        buffer.reserve(Level::Task, 8, &clock).unwrap().commit();
    }
    let before = buffer.stats();
    assert!(buffer.resize(100_000).is_err());
    assert_eq!((buffer.stats(), buffer.pages()), (before, 4));
    assert_eq!(platform.owned().len(), 5);
    assert!(CpuBuffer::new(platform, 100_000, 0).is_err());
    assert_eq!(platform.owned().len(), 5);
}
