//! Load: tasks that compute, wake each other, allocate; to trace, and to kexec under.

use crate::machine::cpu;
use crate::task::{self, Mutex, Task, Timer, WaitQueue};
use crate::user;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use kernel::sched::prio;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Computes. Counts rounds of 4096 steps.
    Cpu,
    /// Two tasks that wake each other in turn. Counts wake-ups.
    Switch,
    /// A user process that faults pages in. Counts page faults.
    Fault,
    /// Allocates and frees. Counts blocks.
    Alloc,
    /// A user process that makes system calls. Counts calls.
    Syscall,
}

/// All kinds, in the order in which they are told.
pub const KINDS: [Kind; 5] = [
    Kind::Cpu,
    Kind::Switch,
    Kind::Fault,
    Kind::Alloc,
    Kind::Syscall,
];

impl Kind {
    /// As it is typed and told.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::Switch => "switch",
            Kind::Fault => "fault",
            Kind::Alloc => "alloc",
            Kind::Syscall => "syscall",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Kind::Cpu => "rounds",
            Kind::Switch => "wake-ups",
            Kind::Fault => "page faults",
            Kind::Alloc => "blocks",
            Kind::Syscall => "calls",
        }
    }
}

/// The most workers of a kind.
pub const MAX_WORKERS: u64 = 256;

/// A load that runs.
pub struct Run {
    stop: AtomicBool,
    counts: [AtomicU64; KINDS.len()],
    /// Each pair of switching tasks stays on a CPU.
    pinned: bool,
    /// What each pair of switching tasks waits in, both alike.
    pairs: Vec<Pair>,
    /// Blocks that the allocating tasks hand to each other.
    shared: Mutex<Vec<Vec<u8>>>,
    /// Who waits for the end.
    end: WaitQueue,
}

#[derive(Default)]
struct Pair {
    turn: AtomicUsize,
    waits: [WaitQueue; 2],
}

impl Run {
    /// Adds to a kind's count.
    pub fn count(&self, kind: Kind, n: u64) {
        self.counts[kind as usize].fetch_add(n, Relaxed);
    }

    /// A kind's count.
    pub fn counted(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Relaxed)
    }

    /// Whether the workers are to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Acquire) || task::killed()
    }

    /// The workers are to end: they look by themselves, those that sleep are woken.
    fn stop(&self) {
        self.stop.store(true, Release);
        for pair in &self.pairs {
            pair.waits.iter().for_each(WaitQueue::wake_all);
        }
        self.end.wake_all();
    }
}

/// How many workers of each kind.
pub type Plan = BTreeMap<Kind, u64>;

/// Starts the workers. Those that there are end where one cannot be made. `pinned`: each pair of switching tasks stays on a CPU, the
/// next pair on the next one.
///
/// # Errors
/// A sentence.
pub fn start(plan: &Plan, pinned: bool) -> Result<(Arc<Run>, Vec<Arc<Task>>), String> {
    let wanted = |kind: Kind| plan.get(&kind).copied().unwrap_or(0);
    let run = Arc::new(Run {
        stop: AtomicBool::new(false),
        pinned,
        counts: [const { AtomicU64::new(0) }; _],
        pairs: (0..wanted(Kind::Switch)).map(|_| Pair::default()).collect(),
        shared: Mutex::new(Vec::new()),
        end: WaitQueue::new(),
    });
    let mut tasks = Vec::new();
    for kind in KINDS {
        for n in 0..wanted(kind) as usize {
            if let Err(why) = start_one(kind, n, &run, &mut tasks) {
                finish(&run, &tasks);
                return Err(format!(
                    "a worker of --{} cannot be made: {why}",
                    kind.name()
                ));
            }
        }
    }
    Ok((run, tasks))
}

fn start_one(
    kind: Kind,
    n: usize,
    run: &Arc<Run>,
    tasks: &mut Vec<Arc<Task>>,
) -> Result<(), String> {
    let name = format!("stress-{}", kind.name());
    let mut spawn = |work: fn(&Run, usize, usize), part: usize| {
        let own = run.clone();
        let task = task::spawn(&name, prio::DEFAULT, move || work(&own, n, part));
        tasks.push(task.map_err(|why| why.to_string())?);
        Ok(())
    };
    match kind {
        Kind::Cpu => spawn(compute, 0),
        Kind::Alloc => spawn(allocate, 0),
        Kind::Switch => spawn(switch, 0).and_then(|()| spawn(switch, 1)),
        Kind::Fault | Kind::Syscall => {
            tasks.push(user::load::start(kind, run)?);
            Ok(())
        }
    }
}

/// Lets the load run until tick `until`, or until the calling task is interrupted; then ends it. True: interrupted.
///
/// # Errors
/// A sentence; the load has been ended then, too.
pub fn watch(run: &Arc<Run>, tasks: &[Arc<Task>], until: Option<u64>) -> Result<bool, String> {
    let clock = until.map(|until| {
        let run = run.clone();
        let timer = Timer::new(move || run.stop());
        timer.inspect(|timer| timer.set(until))
    });
    let result = match clock {
        Some(None) => Err("there are too many timers already".into()),
        _ => Ok(run
            .end
            .wait_interruptible(None, || run.stop.load(Acquire))
            .is_err()),
    };
    finish(run, tasks);
    result
}

/// Ends a load, and waits until it has.
pub fn finish(run: &Run, tasks: &[Arc<Task>]) {
    run.stop();
    for task in tasks {
        if task.process().is_some() && !task.has_ended() {
            // It may be in user mode. One that has ended meanwhile is no error.
            let _ = task::kill(task.pid);
        }
    }
    for task in tasks {
        task.join();
    }
}

/// What was done, a line for each kind.
pub fn report(plan: &Plan, run: &Run, ns: u64) -> String {
    let mut text = String::new();
    for (kind, workers) in plan.iter().filter(|(_, workers)| **workers > 0) {
        let count = run.counted(*kind);
        text += &format!(
            "stress: {}: {workers} {}, {count} {} in {}.{:03} s\n",
            kind.name(),
            match (kind, workers) {
                (Kind::Switch, 1) => "pair",
                (Kind::Switch, _) => "pairs",
                (_, 1) => "worker",
                _ => "workers",
            },
            kind.unit(),
            ns / 1_000_000_000,
            ns / 1_000_000 % 1000
        );
    }
    text
}

/// The next number of a linear congruential generator (Knuth, MMIX).
fn next(seed: u64) -> u64 {
    seed.wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

fn compute(run: &Run, n: usize, _: usize) {
    let mut seed = n as u64;
    while !run.stopped() {
        for _ in 0..4096 {
            seed = black_box(next(seed));
        }
        run.count(Kind::Cpu, 1);
    }
}

fn switch(run: &Run, n: usize, part: usize) {
    let pair = &run.pairs[n];
    if run.pinned {
        let online = (0..cpu::MAX_CPUS).filter(|cpu| cpu::is_online(*cpu));
        // CPU 0 is always there.
        let own = online.cycle().nth(n).unwrap_or(0);
        task::pin(1 << own);
    }
    loop {
        let waited = pair.waits[part].wait_interruptible(None, || {
            pair.turn.load(SeqCst) == part || run.stop.load(Acquire)
        });
        if waited.is_err() || run.stopped() {
            return;
        }
        pair.turn.store(1 - part, SeqCst);
        pair.waits[1 - part].wake_one();
        run.count(Kind::Switch, 1);
    }
}

fn allocate(run: &Run, n: usize, _: usize) {
    /// Blocks at a time, and bytes of the largest: together less than a MiB for each worker.
    const BLOCKS: usize = 64;
    const LARGEST: u64 = 8192;
    let mut blocks: [Vec<u8>; BLOCKS] = core::array::from_fn(|_| Vec::new());
    let mut seed = n as u64;
    while !run.stopped() {
        seed = next(seed);
        let place = &mut blocks[(seed >> 33) as usize % BLOCKS];
        let size = (seed >> 40) % LARGEST + 1;
        *place = Vec::new();
        // Less load where there is no memory, rather than an end.
        if place.try_reserve_exact(size as usize).is_ok() {
            place.push(seed as u8);
            run.count(Kind::Alloc, 1);
            if seed >> 60 == 0 {
                exchange(run, place);
            }
        } else {
            task::sleep(1);
        }
    }
}

/// Now and then a block goes to another task, which frees it; under a lock, so that there is something to wait for.
fn exchange(run: &Run, block: &mut Vec<u8>) {
    const MOST: usize = 32;
    let mut shared = run.shared.lock();
    if shared.len() < MOST {
        shared.push(core::mem::take(block));
    } else {
        let last = shared.len() - 1;
        core::mem::swap(&mut shared[last], block);
        shared.rotate_right(1);
    }
}
