//! The ring under a model checker: `cargo test -p trace --release --features loom --test model`.
//!
//! loom runs each test once for every way in which the threads' accesses can interleave, and for every value that the
//! memory model lets a load see, within a bound: at most [`PREEMPTIONS`] switches away from a thread that could go on (1 where a
//! test says so; `TRACE_MODEL_PREEMPTIONS` sets another for all). Pages
//! hold 20 bytes there: two events of a word. Interrupts are calls at the places where the writer lets a caller in: each look
//! at the clock (between the stamps and the reservation), between reservation and commit, and each step.
//!
//! Without the feature each test runs on plain threads, some hundred times.
//!
//! Where an interrupt can come at any step of a write, `tests/nesting.rs` tries all nestings on one CPU; here two tests let one come
//! at each step while another thread reads, or exchanges the buffer.
//!
//! What loom does not model: a machine on which the writer's accesses are ordered by
//! [`barrier_all`](trace::Platform::barrier_all) alone ([`Locality::pinned`](trace::Locality::pinned)); `tests/ring.rs` runs that on the
//! machine that is there.
//!
//! # Mutations tried
//!
//! Each stands as a patch in `tests/mutations`, with the test that fails of it; `scripts/mutations.sh` applies each to a copy of the
//! sources, runs the test, and prints the table. Two survive; their patches say why.
//!
//! What loom hides, and how the tests get around it: a thread that yields ([`core::hint::spin_loop`]) goes on after all others have, so a
//! wait looks first, and yields then; and an end of an inner write, or the beginning of the next one, publishes what came before, so
//! that some tests have one write alone.

#[path = "mapped/page.rs"]
mod mapped;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use trace::meta::Meta;
use trace::page::{Cursor, Missed};
use trace::ring::{CpuBuffer, Level, ReserveError};
use trace::testing::TestPlatform;

#[cfg(feature = "loom")]
use loom::thread;
#[cfg(not(feature = "loom"))]
use std::thread;

/// The bound of the search: switches away from a thread that could go on. `TRACE_MODEL_PREEMPTIONS` sets another.
const PREEMPTIONS: usize = 2;

#[cfg(feature = "loom")]
fn model_within(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let asked = std::env::var("TRACE_MODEL_PREEMPTIONS").ok();
    let asked = asked.map(|text| text.parse().expect("a number"));
    builder.preemption_bound = Some(asked.unwrap_or(preemptions));
    builder.max_branches = 100_000;
    builder.check(f);
}

#[cfg(not(feature = "loom"))]
fn model_within(_: usize, f: impl Fn() + Send + Sync + 'static) {
    for _ in 0..300 {
        f();
    }
}

fn model(f: impl Fn() + Send + Sync + 'static) {
    model_within(PREEMPTIONS, f);
}

/// One machine for all executions: its memory is never given back to the host.
fn machine() -> TestPlatform {
    static MACHINE: OnceLock<TestPlatform> = OnceLock::new();
    *MACHINE.get_or_init(|| TestPlatform::new(4))
}

/// A buffer on a machine that all executions of a test share: its memory is never given back to the host.
fn buffer_on(machine: TestPlatform, pages: usize) -> Arc<CpuBuffer<TestPlatform>> {
    Arc::new(CpuBuffer::new(machine, pages, 0).expect("a few pages"))
}

/// As `buffer_on`, without interrupts.
fn buffer(pages: usize) -> Arc<CpuBuffer<TestPlatform>> {
    buffer_on(machine(), pages)
}

/// Writes events numbered from 1 on.
struct Writer<'b> {
    buffer: &'b CpuBuffer<TestPlatform>,
    now: Cell<u64>,
    next: Cell<u32>,
    written: Cell<u64>,
    refused: Cell<u64>,
}

impl<'b> Writer<'b> {
    fn new(buffer: &'b CpuBuffer<TestPlatform>) -> Self {
        Writer {
            buffer,
            now: Cell::new(100),
            next: Cell::new(1),
            written: Cell::new(0),
            refused: Cell::new(0),
        }
    }

    fn tick(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    /// Writes an event; `early` is what interrupts it before its reservation, `late` after it.
    fn write(&self, level: Level, early: impl Fn(), late: impl Fn()) {
        let first = Cell::new(true);
        let clock = || {
            // The interrupt comes before the clock is read, or after.
            let stale = self.next.get().is_multiple_of(2);
            let now = stale.then(|| self.tick());
            if first.replace(false) {
                early();
            }
            now.unwrap_or_else(|| self.tick())
        };
        let reserved = self.buffer.reserve(level, 4, &clock);
        let id = self.next.get();
        let mut event = match reserved {
            Ok(event) => event,
            Err(why) => {
                self.refused.set(self.refused.get() + 1);
                if why == ReserveError::Full {
                    // Readers are told of it, in its place.
                    self.next.set(id + 1);
                }
                return;
            }
        };
        self.next.set(id + 1);
        late();
        let word = id | (event.time() as u32) << 16;
        event.write(0, &word.to_ne_bytes());
        event.commit();
        self.written.set(self.written.get() + 1);
    }

    fn plain(&self) {
        self.write(Level::Task, || (), || ());
    }

    /// What another writer of the same buffer needs to go on where this one is.
    fn place(&self) -> (u64, u32) {
        (self.now.get(), self.next.get())
    }

    /// Goes on at another's [`place`](Writer::place).
    fn at(buffer: &'b CpuBuffer<TestPlatform>, (now, next): (u64, u32)) -> Self {
        let writer = Writer::new(buffer);
        writer.now.set(now);
        writer.next.set(next);
        writer
    }
}

/// A buffer that holds as many events, and the place where its writer is.
fn holding(pages: usize, events: usize) -> (Arc<CpuBuffer<TestPlatform>>, (u64, u32)) {
    let buffer = buffer(pages);
    let writer = Writer::new(&buffer);
    for _ in 0..events {
        writer.plain();
    }
    let place = writer.place();
    (buffer, place)
}

/// Calls `model` with 0, 1, 2...: at which step of the outermost writes an interrupt is to come; until there are no so many.
fn at_every_step(model: impl Fn(TestPlatform, usize, Arc<AtomicBool>)) {
    let machine = TestPlatform::new(4);
    for step in 0.. {
        let came = Arc::new(AtomicBool::new(false));
        model(machine, step, came.clone());
        if !came.load(Ordering::Relaxed) {
            assert!(step > 20, "a write has more steps than {step}");
            return;
        }
    }
}

/// Does `write`; the step of that number is interrupted by `interrupt`. Says whether there was one.
fn interrupted_at(
    machine: TestPlatform,
    step: usize,
    came: &AtomicBool,
    interrupt: impl Fn(),
    write: impl FnOnce(),
) -> bool {
    let steps = Cell::new(0);
    let call = |_: &'static std::panic::Location<'static>| {
        let now = steps.replace(steps.get() + 1);
        if now == step {
            came.store(true, Ordering::Relaxed);
            interrupt();
        }
    };
    machine.interrupted(&call, write);
    steps.get() > step
}

/// What a consuming reader has seen.
#[derive(Default)]
struct Seen {
    read: u64,
    lost: u64,
    last: u32,
    ts: u64,
    /// The numbers are in no order: those of interrupts at any step.
    unordered: bool,
}

impl Seen {
    fn unordered() -> Self {
        Seen {
            unordered: true,
            ..Seen::default()
        }
    }

    /// Consumes until nothing is there, at most `limit` events.
    fn consume(&mut self, buffer: &CpuBuffer<TestPlatform>, limit: usize) {
        let mut bytes = Vec::new();
        for _ in 0..limit {
            let Some((ts, lost)) = buffer.consume(&mut bytes).expect("memory") else {
                return;
            };
            self.one(ts, lost, &bytes);
        }
    }

    /// The next event.
    fn one(&mut self, ts: u64, lost: Missed, payload: &[u8]) {
        let word = u32::from_ne_bytes(payload.try_into().expect("a word"));
        let id = word & 0xffff;
        // One that was interrupted before its reservation may get the time of the event before it.
        assert!(ts <= u64::from(word >> 16), "later than it was");
        let lost = match lost {
            Missed::None => 0,
            Missed::Count(n) => n,
            Missed::Unknown => panic!("the number is known"),
        };
        if self.unordered {
            assert!(id != self.last, "an event that comes twice");
        } else {
            assert_eq!(
                u64::from(id),
                u64::from(self.last) + lost + 1,
                "a hole, or an event that comes twice"
            );
        }
        assert!(ts >= self.ts, "time goes back");
        (self.last, self.ts) = (id, ts);
        self.read += 1;
        self.lost += lost;
    }

    /// `written` is how many were written or refused for want of room, the newest not among these.
    fn check(&mut self, buffer: &CpuBuffer<TestPlatform>, written: u64) {
        self.consume(buffer, 100);
        assert!(
            self.unordered || u64::from(self.last) == written,
            "the newest is there"
        );
        assert_eq!(self.read + self.lost, written);
        let stats = buffer.stats();
        assert_eq!(
            (stats.entries, stats.overrun + stats.commit_overrun),
            (0, self.lost)
        );
    }
}

/// `write` in one thread, a reader that consumes up to `limit` events in another, and the rest afterwards.
fn against_a_reader(pages: usize, limit: usize, write: fn(&Writer<'_>)) {
    against_a_reader_within(PREEMPTIONS, pages, limit, write);
}

fn against_a_reader_within(preemptions: usize, pages: usize, limit: usize, write: fn(&Writer<'_>)) {
    model_within(preemptions, move || {
        let buffer = buffer(pages);
        let writing = buffer.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::new(&writing);
            write(&writer);
            u64::from(writer.next.get()) - 1
        });
        let mut seen = Seen::default();
        seen.consume(&buffer, limit);
        let written = writer.join().expect("no panic");
        seen.check(&buffer, written);
    });
}

/// The reader swaps while the writer goes from page to page; nothing is overwritten. Bound: 5 events, 3 pages, 2 switches.
#[test]
fn a_writer_and_the_swap() {
    against_a_reader(3, 2, |writer| {
        for _ in 0..5 {
            writer.plain();
        }
    });
}

/// The writer goes around: its head moves and the reader's swap meet. Bound: 8 events, 2 pages, 1 switch; with 2 it takes some
/// minutes, and passes.
#[test]
fn overwriting_and_the_swap() {
    against_a_reader_within(1, 2, 2, |writer| {
        for _ in 0..8 {
            writer.plain();
        }
        assert_eq!(writer.refused.get(), 0, "there is always room");
    });
}

/// The head moves on, once, while a reader takes it that looked for it before: it gets the next one, with what was lost, and holds up
/// no write. Bound: 4 events before, 3 at the same time, 2 pages, 2 switches.
#[test]
fn a_swap_that_comes_late() {
    model(|| {
        let (buffer, place) = holding(2, 4);
        let writing = buffer.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::at(&writing, place);
            for _ in 0..3 {
                writer.plain();
            }
            assert_eq!(writer.refused.get(), 0, "there is always room");
        });
        let mut seen = Seen::default();
        seen.consume(&buffer, 1);
        writer.join().expect("no panic");
        seen.check(&buffer, 7);
    });
}

/// Nested writes over a page's end, while a reader waits for them: nothing is seen before the outermost has committed, and
/// then all in order. Bound: 4 events, 3 pages, 2 switches.
#[test]
fn nested_writes_and_a_reader() {
    against_a_reader(3, 3, |writer| {
        let irq = || writer.write(Level::Irq, || (), || ());
        writer.plain();
        writer.write(Level::Task, || (), irq);
        writer.plain();
    });
}

/// As above, where the interrupts come between stamp and reservation, and go around. Bound: 6 events, 2 pages, 1 switch.
#[test]
fn nested_overwriting_and_the_swap() {
    against_a_reader_within(1, 2, 2, |writer| {
        let irq = || writer.write(Level::Irq, || (), || ());
        for _ in 0..2 {
            writer.write(Level::Task, irq, || ());
            writer.plain();
        }
    });
}

/// Interrupts come all the way around while the page that they interrupted a write on is the reader's. Bound: 9 writes, 2 pages,
/// 2 switches.
#[test]
fn around_a_write_that_is_under_way() {
    against_a_reader(2, 1, |writer| {
        let irqs = || {
            for _ in 0..6 {
                writer.write(Level::Irq, || (), || ());
            }
        };
        writer.plain();
        writer.write(Level::Task, || (), irqs);
        writer.plain();
    });
}

/// A reader that has mapped the ring: it sees the pages themselves, after the call.
struct InPlace {
    buffer: Arc<CpuBuffer<TestPlatform>>,
    meta: &'static [core::sync::atomic::AtomicU64],
    page: Option<u32>,
    cursor: Cursor,
    seen: Seen,
}

impl InPlace {
    fn new(buffer: &Arc<CpuBuffer<TestPlatform>>) -> Self {
        let meta = buffer.map(0, 1).expect("memory")[0];
        InPlace {
            buffer: buffer.clone(),
            meta: mapped::page(machine(), meta),
            page: None,
            cursor: Cursor::new(0),
            seen: Seen::default(),
        }
    }

    /// One call, and what it shows; false if that is nothing.
    fn turn(&mut self) -> bool {
        self.buffer.get_reader().expect("mapped");
        let meta = Meta::load(self.meta).expect("a page");
        let id = meta.reader.id;
        let look = self.buffer.look_in_place(id, meta.reader.read as usize);
        let (stamp, data) = look.expect("mapped");
        let mut lost = 0;
        if self.page != Some(id) {
            self.page = Some(id);
            self.cursor = Cursor::new(stamp);
            lost = meta.reader.lost_events;
        } else if self.cursor.offset == 0 {
            // The page gets its time, and what was lost before it is told, with its first event.
            self.cursor = Cursor::new(stamp);
            lost = meta.reader.lost_events;
        }
        let mut any = false;
        while let Some(event) = self.cursor.next(&data).expect("a page") {
            let payload = &data[event.payload..][..event.len];
            let lost = match core::mem::take(&mut lost) {
                0 => Missed::None,
                n => Missed::Count(n),
            };
            self.seen.one(event.ts, lost, payload);
            any = true;
        }
        assert_eq!(lost, 0, "a loss before nothing");
        assert_eq!(meta.read, self.seen.read);
        any
    }
}

fn against_a_mapped_reader(pages: usize, write: fn(&Writer<'_>)) {
    model_within(1, move || {
        let buffer = buffer(pages);
        let mut reader = InPlace::new(&buffer);
        // The page that it has now holds nothing yet.
        reader.turn();
        let writing = buffer.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::new(&writing);
            write(&writer);
            writer.written.get()
        });
        for _ in 0..2 {
            reader.turn();
        }
        let written = writer.join().expect("no panic");
        while reader.turn() {}
        reader.seen.check(&buffer, written);
        buffer.unmap();
    });
}

/// The pages stay what they were shown as while the writer goes around. Bound: 6 events, 2 pages, 1 switch.
#[test]
fn a_writer_and_a_mapped_reader() {
    against_a_mapped_reader(2, |writer| {
        for _ in 0..6 {
            writer.plain();
        }
    });
}

/// As above, with interrupts, the commit page behind the tail page. Bound: 6 events, 2 pages, 1 switch.
#[test]
fn a_writer_and_a_mapped_reader_with_interrupts() {
    against_a_mapped_reader(2, |writer| {
        let irq = || writer.write(Level::Irq, || (), || ());
        for _ in 0..3 {
            writer.write(Level::Task, || (), irq);
        }
    });
}

/// The mapped reader takes the page that is still written to, with a loss before it: nothing of that is put where the writer's next
/// event stands. Bound: 3 events before, 2 (one nested, which goes around) at the same time, 2 pages, 2 switches.
#[test]
fn a_loss_before_the_page_that_is_written_to() {
    model(|| {
        let (buffer, place) = holding(2, 3);
        let mut reader = InPlace::new(&buffer);
        let reading = thread::spawn(move || {
            reader.turn();
            reader
        });
        let writer = Writer::at(&buffer, place);
        let irq = || writer.write(Level::Irq, || (), || ());
        // The first page is lost to the interrupt; then the head is the page that this write stands on.
        writer.write(Level::Task, || (), irq);
        let mut reader = reading.join().expect("no panic");
        while reader.turn() {}
        reader.seen.check(&buffer, 5);
        buffer.unmap();
    });
}

/// A reader that only looks, at a page that a writer begins anew meanwhile: it shows what stood there, or tells that it is lost.
/// Bound: 4 events before, 1 at the same time, 2 pages, 2 switches.
#[test]
fn looking_while_the_writer_goes_around() {
    model(|| {
        let (buffer, place) = holding(2, 4);
        let mut iter = buffer.iter().expect("memory");
        let writing = buffer.clone();
        let writer = thread::spawn(move || Writer::at(&writing, place).plain());
        let mut seen = Seen::default();
        while let Some(entry) = iter.next() {
            seen.one(entry.ts, entry.lost, entry.payload);
        }
        assert!(seen.last <= 4, "it ends where the buffer ended");
        drop(iter);
        writer.join().expect("no panic");
    });
}

/// A reader that only looks, page by page, while another consumes and gives pages back. Bound: 7 events before, 3 pages, 2 switches.
#[test]
fn looking_while_another_consumes() {
    model(|| {
        let buffer = buffer(3);
        let writer = Writer::new(&buffer);
        for _ in 0..7 {
            writer.plain();
        }
        let consuming = buffer.clone();
        let consumer = thread::spawn(move || {
            let mut seen = Seen::default();
            seen.consume(&consuming, 7);
        });
        let mut iter = buffer.iter().expect("memory");
        let mut last = 0;
        while let Some(entry) = iter.next() {
            let id = 0xffff & u32::from_ne_bytes(entry.payload.try_into().expect("a word"));
            assert!(id > last);
            if last > 0 && entry.lost == Missed::None {
                assert_eq!(id, last + 1, "a hole that is not told");
            }
            last = id;
        }
        drop(iter);
        consumer.join().expect("no panic");
    });
}

/// Writes three events, one with another in it, while `change` is done once; then all that was written stands in the buffers, in
/// this order, and what was refused is counted.
fn against_a_change(change: fn(&CpuBuffer<TestPlatform>, &CpuBuffer<TestPlatform>)) {
    model(move || {
        let (main, other) = (buffer(2), buffer(2));
        let writing = main.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::new(&writing);
            writer.plain();
            writer.write(
                Level::Task,
                || (),
                || writer.write(Level::Irq, || (), || ()),
            );
            (writer.written.get(), writer.refused.get())
        });
        change(&main, &other);
        let (written, refused) = writer.join().expect("no panic");
        let dropped = main.stats().dropped_events + other.stats().dropped_events;
        assert_eq!(dropped, refused);
        let mut seen = Seen::default();
        seen.consume(&other, 100);
        seen.consume(&main, 100);
        assert_eq!(
            (u64::from(seen.last), seen.read + seen.lost),
            (written, written)
        );
        assert_eq!(main.stats().entries + other.stats().entries, 0);
    });
}

/// An interrupt's write at each step of a write and of the one after it, over a page's end, while a reader waits for them. Bound: 4
/// events, 2 pages, 1 switch, for each step.
#[test]
fn a_write_at_every_step_and_a_reader() {
    at_every_step(|machine, step, came| {
        model_within(1, move || {
            let buffer = buffer_on(machine, 2);
            let writing = buffer.clone();
            let came = came.clone();
            let writer = thread::spawn(move || {
                let writer = Writer::new(&writing);
                let irq = || writer.write(Level::Irq, || (), || ());
                writer.plain();
                interrupted_at(machine, step, &came, irq, || {
                    writer.plain();
                    writer.plain();
                });
                writer.written.get()
            });
            let mut seen = Seen::unordered();
            seen.consume(&buffer, 2);
            let written = writer.join().expect("no panic");
            seen.check(&buffer, written);
        });
    });
}

/// An interrupt's write at each step of a write, while the buffer is exchanged: what was committed is there, also where the
/// write that was to commit it is refused. Bound: 2 events, 1 switch, for each step.
#[test]
fn a_write_at_every_step_and_a_snapshot() {
    at_every_step(|machine, step, came| {
        model_within(1, move || {
            let (main, other) = (buffer_on(machine, 2), buffer_on(machine, 2));
            let writing = main.clone();
            let came = came.clone();
            let writer = thread::spawn(move || {
                let writer = Writer::new(&writing);
                let irq = || writer.write(Level::Irq, || (), || ());
                let two = interrupted_at(machine, step, &came, irq, || writer.plain());
                assert_eq!(
                    writer.written.get() + writer.refused.get(),
                    1 + u64::from(two)
                );
                (writer.written.get(), writer.refused.get())
            });
            main.swap(&other).expect("the write ends");
            // All that stands there was committed before.
            let mut seen = Seen::unordered();
            let before = other.stats().entries;
            seen.consume(&other, 100);
            assert_eq!(seen.read, before);
            let (written, refused) = writer.join().expect("no panic");
            seen.consume(&main, 100);
            assert_eq!(seen.read, written, "all is in the one or the other");
            let dropped = main.stats().dropped_events + other.stats().dropped_events;
            assert_eq!(dropped, refused);
        });
    });
}

/// All that a write did is there for who exchanges the buffer after it. Without an interrupt, whose own end would have told of it.
/// Bound: 1 write, one swap, 2 switches.
#[test]
fn one_write_and_a_snapshot() {
    model(|| {
        let (main, other) = (buffer(2), buffer(2));
        let writing = main.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::new(&writing);
            writer.plain();
            writer.written.get()
        });
        main.swap(&other).expect("the write ends");
        let written = writer.join().expect("no panic");
        let mut seen = Seen::default();
        seen.consume(&other, 10);
        seen.consume(&main, 10);
        assert_eq!(seen.read, written);
    });
}

/// A snapshot: what was committed before it stands in the one, what comes later in the other. Bound: 3 writes, one nested, one
/// swap, 2 switches.
#[test]
fn a_writer_and_a_snapshot() {
    against_a_change(|main, other| main.swap(other).expect("the write ends"));
}

/// A snapshot that does not wait: all is exchanged, or nothing. Bound: as above.
#[test]
fn a_writer_and_a_snapshot_that_does_not_wait() {
    against_a_change(|main, other| {
        let _ = other.try_swap(main);
    });
}

/// Bound: 3 writes, one nested, one resize, 2 switches.
#[test]
fn a_writer_and_growing() {
    against_a_change(|main, _| main.resize(3).expect("the write ends"));
}

/// A ring of three pages that holds three shrinks to two while its writer goes on. Bound: 5 events, 2 writes at the same time,
/// 2 switches.
#[test]
fn a_writer_and_shrinking() {
    model(|| {
        let (main, place) = holding(3, 5);
        let writing = main.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::at(&writing, place);
            writer.plain();
            writer.plain();
            (writer.written.get(), writer.refused.get())
        });
        main.resize(2).expect("the write ends");
        let (written, refused) = writer.join().expect("no panic");
        assert_eq!(main.stats().dropped_events, refused);
        Seen::default().check(&main, 5 + written);
    });
}

/// Two snapshots of the same two buffers, each with its own first: nobody waits for ever (I9). And a reader in between.
/// Bound: 2 events before, 2 swaps, 2 switches.
#[test]
fn two_snapshots_and_a_reader() {
    model(|| {
        let (a, b) = (buffer(2), buffer(2));
        let writer = Writer::new(&a);
        writer.plain();
        writer.plain();
        let (a2, b2) = (a.clone(), b.clone());
        let other = thread::spawn(move || b2.swap(&a2).expect("nobody writes"));
        a.swap(&b).expect("nobody writes");
        let mut seen = Seen::default();
        seen.consume(&a, 1);
        other.join().expect("no panic");
        seen.consume(&a, 10);
        seen.consume(&b, 10);
        assert_eq!((seen.read, seen.lost), (2, 0));
    });
}

/// A buffer that is retired while its writer goes on: the write that is under way ends, the next is refused.
/// Bound: 2 writes, 2 switches.
#[test]
fn a_writer_and_the_end_of_its_buffer() {
    model(|| {
        let main = buffer(2);
        let writing = main.clone();
        let writer = thread::spawn(move || {
            let writer = Writer::new(&writing);
            writer.plain();
            writer.plain();
            writer.written.get() + writer.refused.get()
        });
        main.retire().expect("the write ends");
        assert_eq!(writer.join().expect("no panic"), 2);
        assert!(main.is_empty());
        main.revive(2, 0).expect("a few pages");
        let writer = Writer::new(&main);
        writer.plain();
        Seen::default().check(&main, 1);
    });
}
