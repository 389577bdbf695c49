//! What the CPUs spend their time on, and other counts for `/proc/stat`.
//!
//! As Linux has it with `CONFIG_IRQ_TIME_ACCOUNTING`: no tick comes in the middle of an interrupt, so the time of interrupts is
//! measured, at the begin and the end of each; a tick finds what else the CPU does, unless interrupts have taken its time.

use super::record::current;
use super::{queue, softirq, table, timer};
use crate::machine::apic::HZ;
use crate::machine::{clock, cpu, percpu};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// Ticks of one CPU: what it was doing when the timer interrupt came; of interrupts, what they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    pub user: u64,
    pub system: u64,
    pub idle: u64,
    pub irq: u64,
    pub softirq: u64,
}

/// Of one CPU, which alone changes it, with interrupts off.
struct Counters {
    user: AtomicU64,
    system: AtomicU64,
    idle: AtomicU64,
    /// Cycles in hard and soft interrupts.
    irq: AtomicU64,
    softirq: AtomicU64,
    /// TSC at the last begin or end of one.
    since: AtomicU64,
    /// Since when it is idle without ticks, in jiffies plus one; 0: it is not.
    resting: AtomicU64,
    /// Odd while `idle` and `resting` change together.
    seq: AtomicU64,
    /// Ticks that are in `irq` and `softirq` and were left out of the others.
    left_out: AtomicU64,
}

static COUNTERS: [Counters; cpu::MAX_CPUS] = [const {
    Counters {
        user: AtomicU64::new(0),
        system: AtomicU64::new(0),
        idle: AtomicU64::new(0),
        irq: AtomicU64::new(0),
        softirq: AtomicU64::new(0),
        since: AtomicU64::new(0),
        resting: AtomicU64::new(0),
        seq: AtomicU64::new(0),
        left_out: AtomicU64::new(0),
    }
}; cpu::MAX_CPUS];

/// Right before this CPU's `preempt_count` goes up by a hard or soft interrupt, and right before it comes down again: the time since
/// the last call was spent in what the count says now. Linux's `irqtime_account_irq`. Interrupts are off.
pub fn interrupt_time() {
    let counters = &COUNTERS[cpu::index()];
    let now = clock::tsc();
    let taken = now.saturating_sub(counters.since.load(Relaxed));
    counters.since.store(now, Relaxed);
    let count = percpu::preempt_count();
    let counter = if count & percpu::HARDIRQ_MASK != 0 {
        &counters.irq
    } else if count & percpu::SOFTIRQ_MASK != 0 {
        &counters.softirq
    } else {
        return;
    };
    counter.store(counter.load(Relaxed) + taken, Relaxed);
}

/// Cycles as ticks.
fn as_ticks(cycles: u64) -> u64 {
    clock::nanos_at(cycles) / (1_000_000_000 / HZ)
}

/// Counts a tick of this CPU.
pub(super) fn tick(user: bool) {
    let counters = &COUNTERS[cpu::index()];
    let in_interrupts = as_ticks(counters.irq.load(Relaxed) + counters.softirq.load(Relaxed));
    let counter = if in_interrupts > counters.left_out.load(Relaxed) {
        &counters.left_out
    } else if user {
        &counters.user
    } else if current().is_none_or(|task| task.is_idle()) {
        &counters.idle
    } else {
        &counters.system
    };
    counter.fetch_add(1, Relaxed);
}

/// This CPU is idle, and its ticks stop.
pub(super) fn rests_from(jiffies: u64) {
    COUNTERS[cpu::index()].resting.store(jiffies + 1, SeqCst);
}

/// They go on; so many have not come. Interrupts are off.
pub(super) fn has_rested(ticks: u64) {
    let counters = &COUNTERS[cpu::index()];
    counters.seq.fetch_add(1, SeqCst);
    counters.idle.fetch_add(ticks, SeqCst);
    counters.resting.store(0, SeqCst);
    counters.seq.fetch_add(1, SeqCst);
}

/// Ticks of a CPU that came while it was idle, or that did not come since; those of a rest that has not ended included.
fn idle(counters: &Counters) -> u64 {
    loop {
        let seq = counters.seq.load(SeqCst);
        let resting = counters.resting.load(SeqCst);
        let counted = counters.idle.load(SeqCst);
        if seq.is_multiple_of(2) && counters.seq.load(SeqCst) == seq {
            return match resting {
                0 => counted,
                since => counted + timer::jiffies().saturating_sub(since),
            };
        }
        core::hint::spin_loop();
    }
}

/// The ticks of a CPU so far.
pub fn ticks(cpu: usize) -> Ticks {
    let counters = &COUNTERS[cpu];
    Ticks {
        user: counters.user.load(Relaxed),
        system: counters.system.load(Relaxed),
        idle: idle(counters),
        irq: as_ticks(counters.irq.load(Relaxed)),
        softirq: as_ticks(counters.softirq.load(Relaxed)),
    }
}

pub use super::stack::pages as stack_pages;
pub use queue::{runnable, switches};
pub use softirq::runs as softirqs;
pub use table::made as tasks_made;

/// Tasks that sleep uninterruptibly.
pub fn blocked() -> usize {
    let mut blocked = 0;
    table::for_each(|task| blocked += usize::from(task.letter() == 'D'));
    blocked
}
