//! The threads of the tracer `hwlat` (`trace::tracer`): each takes a sample in each window, with interrupts off, and looks for gaps in its own
//! time. Linux's names: `hwlatd`, and `hwlatd/N` where each CPU has one.

use crate::latency;
use crate::machine::{clock, cpu};
use crate::memory::without_interrupts;
use crate::task::{self, Options, WaitQueue};
use crate::tracing::tracer;
use alloc::format;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use kernel::sched::prio;
use trace::tracer::{HwlatMode, HwlatRound, Sampling};

/// Tasks can be made.
static STARTED: AtomicBool = AtomicBool::new(false);
/// Counts up where other threads are wanted, or none: those of before end.
static CALL: AtomicU64 = AtomicU64::new(0);
/// Where the threads wait for their next window.
static REST: WaitQueue = WaitQueue::new();

/// What came to a CPU during its sample, though interrupts are off.
struct Nmis {
    sampling: AtomicBool,
    count: AtomicU32,
    ns: AtomicU64,
}

static NMIS: [Nmis; cpu::MAX_CPUS] = [const {
    Nmis {
        sampling: AtomicBool::new(false),
        count: AtomicU32::new(0),
        ns: AtomicU64::new(0),
    }
}; _];

/// From here on tasks can be made: those of a tracer that was taken over.
pub fn start() {
    STARTED.store(true, Relaxed);
    if latency::samples() {
        call();
    }
}

/// Ends the threads that there are, and makes those that are wanted now.
pub fn call() {
    let own = CALL.fetch_add(1, Relaxed) + 1;
    REST.wake_all();
    let Some(tracer) = tracer().filter(|_| STARTED.load(Relaxed) && latency::samples()) else {
        return;
    };
    let thread = |name: &str, allowed: u64| {
        let options = Options {
            prio: prio::DEFAULT,
            allowed,
            ..Options::default()
        };
        if let Err(why) = task::spawn_with(name, options, move || sampler(own)) {
            crate::error!("hwlat_detector: {name} cannot be made: {why}");
        }
    };
    match tracer.hwlat_mode() {
        HwlatMode::PerCpu => {
            for cpu in cpus() {
                thread(&format!("hwlatd/{cpu}"), 1 << cpu);
            }
        }
        HwlatMode::None | HwlatMode::RoundRobin => thread("hwlatd", u64::MAX),
    }
}

/// The CPUs that run, and are to be looked at.
fn cpus() -> impl Iterator<Item = usize> {
    (0..cpu::count()).filter(|cpu| {
        cpu::is_online(*cpu) && tracer().is_some_and(|tracer| tracer.cpu_allowed(*cpu))
    })
}

/// A thread: until others are wanted.
fn sampler(own: u64) {
    let over = || CALL.load(Relaxed) != own;
    while !over() && !task::killed() {
        let Some(round) = tracer().and_then(|tracer| tracer.hwlat_round()) else {
            return;
        };
        if round.mode == HwlatMode::RoundRobin {
            go_to_the_next();
        }
        sample(&round);
        let until = task::jiffies_after(round.rest_ns);
        // Interrupted: looked at above.
        let _ = REST.wait_interruptible(Some(until), over);
    }
}

/// To the CPU after this one, of those that are to be looked at.
fn go_to_the_next() {
    let here = cpu::index();
    let next = cpus().find(|cpu| *cpu > here).or_else(|| cpus().next());
    if let Some(next) = next {
        task::pin(1 << next);
    }
}

/// A sample on this CPU. It ends early where a kexec or another tracer is at hand, and tells nothing then.
fn sample(round: &HwlatRound) {
    let (Some(tracer), Some(width_ns)) = (tracer(), round.width_ns) else {
        return;
    };
    without_interrupts(|| {
        let now = || clock::nanos_at(clock::tsc());
        let nmis = &NMIS[cpu::index()];
        nmis.count.store(0, Relaxed);
        nmis.ns.store(0, Relaxed);
        nmis.sampling.store(true, Relaxed);
        let mut sampling = Sampling::new(now(), width_ns, round.least_ns);
        while latency::samples() && sampling.pair(now(), now()) {}
        nmis.sampling.store(false, Relaxed);
        let found = sampling.found(nmis.count.load(Relaxed), nmis.ns.load(Relaxed));
        if let Some(found) = found.filter(|_| latency::samples()) {
            tracer.hwlat_found(&found);
        }
    });
}

/// Does what an NMI asks for, and counts it where it comes into a sample.
pub fn within_nmi(work: impl FnOnce()) {
    let nmis = &NMIS[cpu::index()];
    if !nmis.sampling.load(Relaxed) {
        return work();
    }
    let begin = clock::tsc();
    work();
    let ns = clock::nanos_at(clock::tsc()).saturating_sub(clock::nanos_at(begin));
    nmis.count.fetch_add(1, Relaxed);
    nmis.ns.fetch_add(ns, Relaxed);
}
