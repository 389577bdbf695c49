//! The ring buffer against a plain model, and against readers on other threads.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use trace::Platform;
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

#[derive(Clone, Debug)]
enum Op {
    /// A write begins, inside of those that are open.
    Begin {
        len: usize,
        step: u64,
        at: Option<u64>,
    },
    Commit,
    Discard,
    Consume,
    Iterate,
    Resize(usize),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![6 => 8..64usize, 2 => 64..600usize, 1 => 3000..4073usize];
    let step = prop_oneof![5 => 0..1000u64, 1 => Just(0), 1 => (1u64 << 27) - 2..1u64 << 31];
    let at = prop_oneof![6 => Just(None), 1 => (0..10_000u64).prop_map(Some)];
    let op = prop_oneof![
        20 => (len, step, at).prop_map(|(len, step, at)| Op::Begin { len, step, at }),
        18 => Just(Op::Commit),
        3 => Just(Op::Discard),
        4 => Just(Op::Consume),
        2 => Just(Op::Iterate),
        1 => (0..9usize).prop_map(Op::Resize),
        1 => Just(Op::Clear).prop_filter("rarely", |_| true),
    ];
    prop::collection::vec(op, 1..600)
}

struct Event {
    id: u64,
    ts: u64,
    /// It was refused, for the ring was full: nothing of it is there but the word that it is missing.
    refused: bool,
}

struct Model<'b> {
    buffer: &'b CpuBuffer<TestPlatform>,
    open: Vec<(Reservation<'b, TestPlatform>, u64)>,
    /// In the order of the buffer; `None` where discarded.
    pending: Vec<Option<Event>>,
    /// Visible and not consumed, oldest first, overwritten ones included until a reader has passed them.
    visible: VecDeque<Event>,
    lens: Vec<usize>,
    written: u64,
    read: u64,
    refused: u64,
    last_ts: u64,
    discarded: bool,
    /// Lost events that a consuming read has passed.
    passed: u64,
}

impl<'b> Model<'b> {
    fn begin(&mut self, len: usize, now: u64, at: Option<u64>) {
        let Some(level) = LEVELS.get(self.open.len()).copied() else {
            return;
        };
        let id = self.lens.len() as u64;
        self.lens.push(len);
        let clock = || now;
        let reserved = match at {
            None => self.buffer.reserve(level, len, &clock),
            Some(back) => self
                .buffer
                .reserve_at(level, len, now.saturating_sub(back), &clock),
        };
        match reserved {
            Ok(mut r) => {
                r.write(0, &payload(id, len));
                // Time never goes back, and is exact but for the unit that a discarded event may add.
                assert!(
                    r.time() >= self.last_ts && r.time() <= now + 200,
                    "{} {} {now}",
                    r.time(),
                    self.last_ts
                );
                self.last_ts = r.time();
                self.pending.push(Some(Event {
                    id,
                    ts: r.time(),
                    refused: false,
                }));
                let place = self.pending.len() as u64 - 1;
                self.open.push((r, place));
            }
            Err(ReserveError::Full) => {
                self.refused += 1;
                let event = Event {
                    id,
                    ts: now,
                    refused: true,
                };
                match self.open.is_empty() {
                    true => self.visible.push_back(event),
                    false => self.pending.push(Some(event)),
                }
            }
            Err(e) => panic!("{e}"),
        }
    }

    fn end(&mut self, commit: bool) {
        let Some((r, place)) = self.open.pop() else {
            return;
        };
        if commit {
            r.commit();
        } else {
            r.discard();
            self.discarded = true;
            self.pending[place as usize] = None;
        }
        if self.open.is_empty() {
            for event in self.pending.drain(..).flatten() {
                self.written += u64::from(!event.refused);
                self.visible.push_back(event);
            }
        }
    }

    fn check_counters(&self) {
        if self.open.is_empty() {
            let stats = self.buffer.stats();
            assert_eq!(stats.written(), self.written);
            assert_eq!(stats.read_events, self.read);
            assert_eq!(stats.commit_overrun + stats.dropped_events, self.refused);
        }
    }

    fn consume(&mut self) {
        let mut bytes = Vec::new();
        // Every other time it is looked at before, and the loss is told apart from the event.
        let peeked = self.read.is_multiple_of(2).then(|| self.buffer.peek());
        let taken = peeked.map(|peeked| {
            let taken = self.buffer.take_lost();
            let without = peeked.map(|(ts, _)| (ts, Missed::None));
            assert_eq!(self.buffer.peek(), without);
            assert_eq!(taken, peeked.map_or(Missed::None, |(_, lost)| lost));
            taken
        });
        let consumed = self.buffer.consume(&mut bytes).unwrap();
        if let Some(peeked) = peeked {
            let without = peeked.map(|(ts, _)| (ts, Missed::None));
            assert_eq!(consumed, without);
        }
        let Some((ts, lost)) = consumed else {
            if self.open.is_empty() {
                // Nothing left: all that is still in the model has been overwritten.
                assert_eq!(self.buffer.stats().entries, 0);
            }
            return;
        };
        let id = check_payload(&bytes, |id| self.lens[id as usize]);
        let (mut skipped, mut overwritten) = (0, 0);
        while self.visible[0].id != id {
            let event = self.visible.pop_front().unwrap();
            skipped += 1;
            overwritten += u64::from(!event.refused);
        }
        let event = self.visible.pop_front().unwrap();
        assert!(ts.abs_diff(event.ts) <= 200, "{ts} for {}", event.ts);
        let told = match taken.unwrap_or(lost) {
            Missed::None => 0,
            Missed::Count(n) => n,
            Missed::Unknown => panic!("the number is known"),
        };
        assert_eq!(told, skipped, "lost before {id}");
        self.passed += overwritten;
        self.read += 1;
    }

    /// All that can be seen is what the model has, in its order, without a hole but the one that is told.
    fn iterate(&self) {
        let stats = self.buffer.stats();
        let mut iter = self.buffer.iter().unwrap();
        let mut model = self.visible.iter();
        let mut first = true;
        let mut seen = 0;
        let mut last = 0;
        while let Some(entry) = iter.next() {
            let id = check_payload(entry.payload, |id| self.lens[id as usize]);
            let mut skipped = 0;
            let event = loop {
                let event = model.next().expect("an event that the model does not have");
                if event.id == id {
                    break event;
                }
                skipped += 1;
            };
            if !first {
                let told = match entry.lost {
                    Missed::None => 0,
                    Missed::Count(n) => n,
                    Missed::Unknown => panic!("the number is known"),
                };
                assert_eq!(told, skipped, "lost before {id}");
            }
            assert!(entry.ts >= last);
            assert!(entry.ts.abs_diff(event.ts) <= 200);
            last = entry.ts;
            first = false;
            seen += 1;
        }
        if self.open.is_empty() {
            // Only discarded events can have overwritten the newest without being there themselves.
            if !self.discarded {
                assert!(model.all(|event| event.refused), "the newest are missing");
            }
            let events = self.visible.iter().filter(|event| !event.refused);
            let missing = events.count() as u64 - seen;
            assert_eq!(stats.overrun, self.passed + missing);
            assert_eq!(seen, stats.entries);
        }
        if stats.entries == 0 {
            assert_eq!((stats.bytes, stats.oldest_ts), (0, 0));
        }
    }
}

fn run(pages: usize, overwrite: bool, ops: Vec<Op>) {
    let platform = TestPlatform::new(1);
    let buffer = CpuBuffer::new(platform, pages, 0).unwrap();
    buffer.set_overwrite(overwrite);
    let mut now = 1 << 40;
    let mut model = Model {
        buffer: &buffer,
        open: Vec::new(),
        pending: Vec::new(),
        visible: VecDeque::new(),
        lens: Vec::new(),
        written: 0,
        read: 0,
        refused: 0,
        last_ts: 0,
        discarded: false,
        passed: 0,
    };
    for op in ops {
        match op {
            Op::Begin { len, step, at } => {
                now += step;
                model.begin(len, now, at);
            }
            Op::Commit => model.end(true),
            Op::Discard => model.end(false),
            Op::Consume => model.consume(),
            Op::Iterate => model.iterate(),
            Op::Resize(pages) if model.open.is_empty() => {
                let before = buffer.stats();
                buffer.resize(pages).unwrap();
                let after = buffer.stats();
                assert_eq!(buffer.pages(), pages.max(2));
                assert_eq!(before.written(), after.written());
                model.iterate();
            }
            Op::Clear if model.open.is_empty() && now % 7 == 0 => {
                buffer.clear().unwrap();
                model.visible.clear();
                (model.written, model.read, model.refused) = (0, 0, 0);
                (model.last_ts, model.passed, model.discarded) = (0, 0, false);
            }
            Op::Resize(_) | Op::Clear => {}
        }
        model.check_counters();
    }
    while !model.open.is_empty() {
        model.end(true);
    }
    model.check_counters();
    model.iterate();
    while buffer.stats().entries > 0 {
        model.consume();
    }
    model.check_counters();
    drop(model);
    let owned = platform.owned().len();
    assert_eq!(owned, buffer.pages() + 1);
    drop(buffer);
    assert!(platform.owned().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_queue(
        pages in 2..6usize,
        overwrite in prop::bool::weighted(0.8),
        discards: bool,
        mut ops in ops(),
    ) {
        if !discards {
            ops.retain(|op| !matches!(op, Op::Discard));
        }
        run(pages, overwrite, ops);
    }
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

/// One thread writes, with nested writes; others look and consume. No event is torn, none comes twice or out of order.
#[test]
fn readers_on_other_cpus() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 3, 0).unwrap();
    let done = AtomicBool::new(false);
    let time = AtomicU64::new(1);
    let clock = || time.fetch_add(1, Ordering::Relaxed);
    let len_of = |id: u64| 8 + (id % 57) as usize;
    const TOTAL: u64 = 300_000;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut id = 0;
            while id < TOTAL {
                let mut r = buffer.reserve(Level::Task, len_of(id), &clock).unwrap();
                r.write(0, &payload(id, len_of(id)));
                id += 1;
                if id % 3 == 0 && id < TOTAL {
                    let mut r = buffer.reserve(Level::Irq, len_of(id), &clock).unwrap();
                    r.write(0, &payload(id, len_of(id)));
                    r.commit();
                    id += 1;
                }
                r.commit();
            }
            done.store(true, Ordering::Release);
        });
        let looker = scope.spawn(|| {
            let mut seen = 0u64;
            while !done.load(Ordering::Acquire) {
                let mut iter = buffer.iter().unwrap();
                let mut last: Option<(u64, u64)> = None;
                while let Some(entry) = iter.next() {
                    let id = check_payload(entry.payload, len_of);
                    if let Some((last_id, last_ts)) = last {
                        assert!(id > last_id && entry.ts >= last_ts);
                        if entry.lost == Missed::None {
                            assert_eq!(id, last_id + 1, "a hole that is not told");
                        }
                    }
                    last = Some((id, entry.ts));
                    seen += 1;
                }
            }
            seen
        });
        let mut bytes = Vec::new();
        let mut next = 0;
        let mut lost_total = 0;
        let mut read = 0;
        loop {
            let finished = done.load(Ordering::Acquire);
            match buffer.consume(&mut bytes).unwrap() {
                Some((_, lost)) => {
                    let id = check_payload(&bytes, len_of);
                    assert!(id >= next, "{id} comes again, or late");
                    if let Missed::Count(n) = lost {
                        lost_total += n;
                    }
                    next = id + 1;
                    read += 1;
                }
                None if finished => break,
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap();
        looker.join().unwrap();
        let stats = buffer.stats();
        assert_eq!(next, TOTAL, "the newest is there");
        assert_eq!(stats.read_events, read);
        assert_eq!(stats.overrun, lost_total);
        assert_eq!(stats.entries, 0);
        assert_eq!(stats.written(), TOTAL);
    });
}

/// Resizing and clearing while another CPU writes.
#[test]
fn resize_while_recording() {
    let platform = TestPlatform::new(4);
    resize_while_recording_on(platform, platform);
}

/// The same where writers use no locked instruction.
#[cfg(target_os = "linux")]
#[test]
fn resize_while_a_pinned_writer_records() {
    pinned::membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    let platform = TestPlatform::new(4);
    resize_while_recording_on(pinned::Pinned(platform), platform);
}

/// A platform whose writers are promised to stay on one CPU: here, in one thread.
#[cfg(target_os = "linux")]
mod pinned {
    use handover::mem::Memory;
    use handover::page::PageRef;
    use std::ptr::NonNull;
    use trace::testing::TestPlatform;
    use trace::{Context, Locality, Platform};

    #[derive(Clone, Copy)]
    pub struct Pinned(pub TestPlatform);

    pub fn membarrier(command: libc::c_int) {
        // SAFETY: the call touches no memory of ours.
        let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
        assert_eq!(done, 0, "membarrier {command}");
    }

    // SAFETY: all is passed on to `TestPlatform`, which keeps the contract.
    unsafe impl Memory for Pinned {
        fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
            self.0.ptr(pa, len)
        }

        fn alloc_pages(&self, order: u32) -> Option<u64> {
            self.0.alloc_pages(order)
        }

        unsafe fn free_pages(&self, pa: u64, order: u32) {
            // SAFETY: the caller's promise is the one that is asked for.
            unsafe { self.0.free_pages(pa, order) }
        }
    }

    impl Platform for Pinned {
        // SAFETY: the test writes in one thread, and `barrier_all` is one.
        const LOCALITY: Locality = unsafe { Locality::pinned() };

        fn barrier_all(&self) {
            membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        }

        fn cpu(&self) -> usize {
            self.0.cpu()
        }

        fn cycles(&self) -> u64 {
            self.0.cycles()
        }

        fn cycles_to_nanos(&self, cycles: u64) -> u64 {
            self.0.cycles_to_nanos(cycles)
        }

        fn context(&self) -> Context {
            self.0.context()
        }

        fn comm(&self, pid: i32, out: &mut dyn std::fmt::Write) {
            self.0.comm(pid, out);
        }

        fn page_owned(&self, page: PageRef) {
            self.0.page_owned(page);
        }

        fn page_released(&self, page: PageRef) {
            self.0.page_released(page);
        }
    }
}

fn resize_while_recording_on<P: Platform>(on: P, platform: TestPlatform) {
    let buffer = CpuBuffer::new(on, 3, 0).unwrap();
    let done = AtomicBool::new(false);
    let time = AtomicU64::new(1);
    let clock = || time.fetch_add(1, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut ok, mut refused) = (0u64, 0u64);
            while !done.load(Ordering::Acquire) {
                match buffer.reserve(Level::Task, 24, &clock) {
                    Ok(mut r) => {
                        r.write(0, &payload(ok, 24));
                        r.commit();
                        ok += 1;
                    }
                    Err(ReserveError::Disabled) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            (ok, refused)
        });
        for i in 0..300 {
            buffer.resize(2 + (i * 7) % 40).unwrap();
            let mut iter = buffer.iter().unwrap();
            while let Some(entry) = iter.next() {
                check_payload(entry.payload, |_| 24);
            }
        }
        done.store(true, Ordering::Release);
        let (ok, refused) = writer.join().unwrap();
        let stats = buffer.stats();
        assert_eq!(stats.written(), ok);
        assert_eq!(stats.dropped_events, refused);
        assert_eq!(platform.owned().len(), buffer.pages() + 1);
    });
}
