//! Every nesting of writes, within a bound: an interrupt at every step of a write, and at every step of what it does.
//!
//! The platform says at each step of a write that an interrupt may come ([`Platform::may_interrupt`]). Each time this test
//! chooses what comes: nothing, a write, a write that is discarded, so many writes that they go around the ring, or (as on
//! another CPU at this moment) a reader. All choices are tried, one run for each, as long as a run has at most [`interrupts`] of
//! them. There are two or four events on a page, and two or three pages, so that three writes meet a page's end and the head.
//!
//! What must hold in each run, at any moment: what a reader gets was committed, comes once, and in an order in which it can have
//! been written; what is missing before it is told, as many as can be missing there; and its time lies within its write. After the last write,
//! all is there, and the counters add up.
//!
//! `TRACE_NESTING_INTERRUPTS` sets the bound (default: 1, or 2 with optimization, which takes a minute of CPU time; 3 takes
//! hours) of the large families; where writers make no promise ([`Locality::UNKNOWN`](trace::Locality::UNKNOWN)), it is one less for two of the three lengths, but
//! not 0. The small families at the end have one interrupt, at the place that they are about.

use std::cell::{Cell, RefCell};
use std::panic::Location;

use trace::Platform;
use trace::page::Missed;
use trace::ring::{CpuBuffer, Level, ReserveError};
use trace::testing::{Pinned, TestPlatform};

const LEVELS: [Level; 4] = [Level::Task, Level::SoftIrq, Level::Irq, Level::Nmi];

/// Between two looks at the clock.
const TICK: u64 = 100;

fn interrupts() -> usize {
    match std::env::var("TRACE_NESTING_INTERRUPTS") {
        Ok(text) => text.parse().expect("a number"),
        Err(_) if cfg!(debug_assertions) => 1,
        Err(_) => 2,
    }
}

/// The choices of a run. The next run takes the next alternative of the last that has one, and is as this one up to there.
#[derive(Default)]
struct Choices {
    /// What was chosen, of how many.
    taken: RefCell<Vec<(usize, usize)>>,
    at: Cell<usize>,
}

impl Choices {
    /// One of `0..of`.
    fn choose(&self, of: usize) -> usize {
        let mut taken = self.taken.borrow_mut();
        let at = self.at.replace(self.at.get() + 1);
        if at == taken.len() {
            taken.push((0, of));
        }
        assert_eq!(taken[at].1, of, "a run is repeated differently");
        taken[at].0
    }

    /// False if all runs were made.
    fn next(&self) -> bool {
        self.at.set(0);
        let mut taken = self.taken.borrow_mut();
        while let Some((chosen, of)) = taken.pop() {
            if chosen + 1 < of {
                taken.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

/// What may come at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    Write,
    /// The context does not say yet that it is an interrupt's.
    WriteUnsaid,
    Discard,
    /// As many writes as go around.
    Burst,
    /// A reader, of one event.
    Consume,
    /// A reader, of all.
    ConsumeAll,
    /// A reader, of all, and then a write, which finds room.
    ConsumeAllAndWrite,
}

/// A family of runs.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    overwrite: bool,
    /// In the ring.
    pages: usize,
    /// Bytes of each payload.
    len: usize,
    /// Events written before, and of these consumed.
    before: usize,
    consumed: usize,
    /// The second write is discarded.
    discard: bool,
    /// What may come.
    choice: &'static [Interrupt],
}

fn pinned(platform: TestPlatform) -> Pinned {
    // SAFETY: there is one thread, whose accesses are in order for itself.
    unsafe { Pinned::new(platform, || ()) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Committed,
    Discarded,
    Refused,
}

/// A write, its number is its index.
#[derive(Clone, Copy, Debug)]
struct Write {
    state: State,
    /// When it began and ended.
    from: u64,
    to: u64,
    /// When it was reserved for, if it was.
    ts: u64,
    seen: bool,
}

struct Run<'r, P: Platform> {
    scenario: Scenario,
    buffer: &'r CpuBuffer<P>,
    choices: &'r Choices,
    now: Cell<u64>,
    /// Interrupts that may still come.
    left: Cell<usize>,
    depth: Cell<usize>,
    writes: RefCell<Vec<Write>>,
    /// The interrupts that came, and where: for who looks for a fault.
    came: RefCell<Vec<(Interrupt, &'static Location<'static>)>>,
    seen: RefCell<Seen>,
}

/// What the reader has seen.
#[derive(Default)]
struct Seen {
    /// Events, and told losses.
    passed: usize,
    ts: u64,
    /// When the latest of them began.
    from: u64,
}

impl<P: Platform> Run<'_, P> {
    fn tick(&self) -> u64 {
        self.now.set(self.now.get() + TICK);
        self.now.get()
    }

    /// A step.
    fn step(&self, at: &'static Location<'static>) {
        if self.left.get() == 0 {
            return;
        }
        let choice = self.scenario.choice;
        let Some(chosen) = self.choices.choose(1 + choice.len()).checked_sub(1) else {
            return;
        };
        self.left.set(self.left.get() - 1);
        self.came.borrow_mut().push((choice[chosen], at));
        match choice[chosen] {
            Interrupt::Write => self.write(0, false),
            Interrupt::WriteUnsaid => self.write(1, false),
            Interrupt::Discard => self.write(0, true),
            Interrupt::Burst => {
                for _ in 0..6 {
                    self.write(0, false);
                }
            }
            Interrupt::Consume => {
                self.consume();
            }
            Interrupt::ConsumeAll => while self.consume() {},
            Interrupt::ConsumeAllAndWrite => {
                while self.consume() {}
                self.write(0, false);
            }
        }
    }

    /// A write; its context is that of the one that it interrupted, for `unsaid` 1.
    fn write(&self, unsaid: usize, discard: bool) {
        let depth = self.depth.get();
        let Some(level) = LEVELS.get(depth - unsaid.min(depth)) else {
            return;
        };
        self.depth.set(depth + 1);
        let id = self.writes.borrow().len();
        let from = self.tick();
        self.writes.borrow_mut().push(Write {
            state: State::UnderWay,
            from,
            to: u64::MAX,
            ts: 0,
            seen: false,
        });
        // Before the clock is read, and after.
        let clock = || {
            self.step(Location::caller());
            let now = self.tick();
            self.step(Location::caller());
            now
        };
        let state = match self.buffer.reserve(*level, self.scenario.len, &clock) {
            Ok(mut event) => {
                assert!((from..=self.now.get() + TICK / 2).contains(&event.time()));
                event.write(0, &(id as u32).to_ne_bytes());
                self.writes.borrow_mut()[id].ts = event.time();
                self.step(Location::caller());
                if discard {
                    event.discard();
                    State::Discarded
                } else {
                    // A reader may have it before `commit` returns.
                    self.writes.borrow_mut()[id].state = State::Committed;
                    event.commit();
                    State::Committed
                }
            }
            Err(ReserveError::Full) => State::Refused,
            Err(e) => panic!("{e}"),
        };
        let to = self.tick();
        let write = &mut self.writes.borrow_mut()[id];
        (write.state, write.to) = (state, to);
        self.depth.set(depth);
    }

    /// Consumes an event, and checks it; false if there is none.
    fn consume(&self) -> bool {
        let mut bytes = Vec::new();
        let Some((ts, lost)) = self.buffer.consume(&mut bytes).expect("memory") else {
            return false;
        };
        let lost = match lost {
            Missed::None => 0,
            Missed::Count(n) => n as usize,
            Missed::Unknown => panic!("the number is known"),
        };
        let id = u32::from_ne_bytes(bytes[..4].try_into().expect("a word")) as usize;
        let mut writes = self.writes.borrow_mut();
        let mut seen = self.seen.borrow_mut();
        assert!(id < writes.len(), "nobody wrote {id:#x}");
        let write = writes[id];
        assert_eq!(write.state, State::Committed, "{id} is seen");
        assert!(!write.seen, "{id} comes twice");
        writes[id].seen = true;
        // Each discarded event may add a unit.
        let slack = writes
            .iter()
            .filter(|write| write.state == State::Discarded)
            .count() as u64;
        assert!(ts >= seen.ts, "time goes back");
        assert!(
            ts >= write.from && ts <= write.to.min(self.now.get()) + slack,
            "{id} was written at {write:?}, and has {ts}"
        );
        assert!(write.to > seen.from, "{id} comes after a later one");
        // How many come before it for certain, and at most.
        // Those that were refused are missing too, one that is under way may have been.
        let counts = |write: &&Write| write.state != State::Discarded;
        let least = writes.iter().filter(counts).filter(|w| w.to < write.from);
        let most = writes.iter().filter(counts).filter(|w| w.from < write.to);
        let (least, most) = (least.count(), most.count() - 1);
        seen.passed += lost;
        assert!(
            (least..=most).contains(&seen.passed),
            "{least} to {most} come before {id}, not {}",
            seen.passed
        );
        seen.passed += 1;
        seen.ts = ts;
        seen.from = seen.from.max(write.from);
        true
    }

    fn count(&self, state: State) -> u64 {
        let writes = self.writes.borrow();
        writes.iter().filter(|write| write.state == state).count() as u64
    }

    /// No write is under way.
    fn check(&self) {
        let stats = self.buffer.stats();
        assert_eq!(stats.written(), self.count(State::Committed));
        assert_eq!(
            stats.commit_overrun + stats.dropped_events,
            self.count(State::Refused)
        );
        if !self.scenario.overwrite {
            assert_eq!(stats.overrun, 0);
        }
        let mut iter = self.buffer.iter().expect("memory");
        let mut looked = 0;
        while iter.next().is_some() {
            looked += 1;
        }
        assert_eq!(looked, stats.entries, "all that was committed can be seen");
        while self.consume() {}
        assert!(self.buffer.is_empty());
        // What was refused is told with the next event.
        self.write(0, false);
        assert!(self.consume());
        assert_eq!(
            self.seen.borrow().passed as u64,
            self.count(State::Committed) + self.count(State::Refused)
        );
    }

    fn run(&self, platform: TestPlatform, interrupts: usize) {
        for _ in 0..self.scenario.before {
            self.write(0, false);
        }
        for _ in 0..self.scenario.consumed {
            self.consume();
        }
        self.left.set(interrupts);
        platform.interrupted(&|at| self.step(at), || {
            self.write(0, false);
            self.write(0, self.scenario.discard);
            self.write(0, false);
        });
        self.left.set(0);
        self.check();
        // And it goes on as if nothing had been.
        for _ in 0..2 * self.scenario.pages + 1 {
            self.write(0, false);
        }
        self.check();
    }
}

impl<P: Platform> Drop for Run<'_, P> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", self.scenario);
            for (id, write) in self.writes.borrow().iter().enumerate() {
                eprintln!("{id} {write:?}");
            }
            for (what, at) in self.came.borrow().iter() {
                eprintln!("{what:?} at {at}");
            }
        }
    }
}

/// Makes all runs with at most so many interrupts; returns how many runs there were.
fn explore<P: Platform + Copy>(
    on: P,
    platform: TestPlatform,
    scenario: Scenario,
    interrupts: usize,
) -> u64 {
    let choices = Choices::default();
    let mut runs = 0;
    loop {
        let buffer = CpuBuffer::new(on, scenario.pages, 0).expect("a few pages");
        buffer.set_overwrite(scenario.overwrite);
        let run = Run {
            scenario,
            buffer: &buffer,
            choices: &choices,
            now: Cell::new(1000 * TICK),
            left: Cell::new(0),
            depth: Cell::new(0),
            writes: RefCell::default(),
            came: RefCell::default(),
            seen: RefCell::default(),
        };
        run.run(platform, interrupts);
        runs += 1;
        if !choices.next() {
            return runs;
        }
    }
}

/// Two events fill a page, or do where none has a time event before it; four fill it.
const LENGTHS: [usize; 3] = [2032, 2026, 1010];

fn explore_all(overwrite: bool, choice: &'static [Interrupt]) {
    let platform = TestPlatform::new(4);
    let mut runs = 0;
    for (before, consumed) in [(0, 0), (1, 0), (2, 1), (3, 0), (4, 0), (5, 2), (6, 6)] {
        for len in LENGTHS {
            let scenario = Scenario {
                overwrite,
                pages: 2,
                len,
                before,
                consumed,
                discard: len == LENGTHS[1],
                choice,
            };
            runs += explore(pinned(platform), platform, scenario, interrupts());
            // Only how a write begins and ends is another one: fewer will do.
            let fewer = usize::from(len != LENGTHS[0]);
            let interrupts = interrupts().saturating_sub(fewer).max(1);
            runs += explore(platform, platform, scenario, interrupts);
        }
    }
    eprintln!("{runs} runs");
}

#[test]
fn writes_in_writes_that_overwrite() {
    explore_all(true, &[Interrupt::Write, Interrupt::Burst]);
}

#[test]
fn writes_in_writes_of_a_full_buffer() {
    explore_all(false, &[Interrupt::Write, Interrupt::ConsumeAll]);
}

#[test]
fn discarded_writes_in_writes() {
    explore_all(true, &[Interrupt::WriteUnsaid, Interrupt::Discard]);
}

#[test]
fn readers_within_writes() {
    explore_all(true, &[Interrupt::Burst, Interrupt::Consume]);
}

/// Runs with one interrupt, in a ring of `pages` pages that is full, or has room for one or two events. `per_page` events stand on a page.
fn explore_full(overwrite: bool, pages: usize, per_page: usize, choice: &'static [Interrupt]) {
    let platform = TestPlatform::new(4);
    let full = pages * per_page;
    for before in full - 2..=full {
        let scenario = Scenario {
            overwrite,
            pages,
            len: if per_page == 2 {
                LENGTHS[1]
            } else {
                LENGTHS[2]
            },
            before,
            consumed: 0,
            discard: false,
            choice,
        };
        explore(platform, platform, scenario, 1);
        explore(pinned(platform), platform, scenario, 1);
    }
}

/// In a ring of three pages, an interrupt's writes may move the head twice while a write moves it once; and leave room, so that nobody
/// moves it again before a reader looks for it.
#[test]
fn the_head_moves_twice_within_a_move() {
    explore_full(true, 3, 4, &[Interrupt::Burst]);
}

/// An interrupt's write finds room, and begins a page, within a write that has found none.
#[test]
fn room_is_found_within_a_refusal() {
    explore_full(false, 2, 2, &[Interrupt::ConsumeAllAndWrite]);
}
