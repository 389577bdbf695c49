//! Any operations, against a queue that does the same.

use crate::{LEVELS, check_payload, payload};
use proptest::prelude::*;
use std::collections::VecDeque;
use trace::page::Missed;
use trace::ring::{CpuBuffer, Reservation, ReserveError};
use trace::testing::TestPlatform;

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
