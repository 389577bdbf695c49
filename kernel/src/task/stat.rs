//! What the CPUs spend their time on, by ticks, and other counts for `/proc/stat`.

use super::record::current;
use super::{queue, softirq, table};
use crate::machine::{cpu, percpu};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ticks of one CPU: what it was doing when the timer interrupt came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    pub user: u64,
    pub system: u64,
    pub idle: u64,
    pub softirq: u64,
}

struct Counters {
    user: AtomicU64,
    system: AtomicU64,
    idle: AtomicU64,
    softirq: AtomicU64,
}

static COUNTERS: [Counters; cpu::MAX_CPUS] = [const {
    Counters {
        user: AtomicU64::new(0),
        system: AtomicU64::new(0),
        idle: AtomicU64::new(0),
        softirq: AtomicU64::new(0),
    }
}; cpu::MAX_CPUS];

/// Counts a tick of this CPU.
pub(super) fn tick(user: bool) {
    let counters = &COUNTERS[cpu::index()];
    let counter = if user {
        &counters.user
    } else if percpu::preempt_count() & percpu::SOFTIRQ_MASK != 0 {
        &counters.softirq
    } else if current().is_none_or(|task| task.is_idle()) {
        &counters.idle
    } else {
        &counters.system
    };
    counter.fetch_add(1, Relaxed);
}

/// Counts ticks of this CPU that did not come, since it was idle.
pub(super) fn idle_for(ticks: u64) {
    COUNTERS[cpu::index()].idle.fetch_add(ticks, Relaxed);
}

/// The ticks of a CPU so far.
pub fn ticks(cpu: usize) -> Ticks {
    let counters = &COUNTERS[cpu];
    Ticks {
        user: counters.user.load(Relaxed),
        system: counters.system.load(Relaxed),
        idle: counters.idle.load(Relaxed),
        softirq: counters.softirq.load(Relaxed),
    }
}

pub use super::stack::pages as stack_pages;
pub use queue::{runnable, switches};
pub use softirq::runs as softirqs;
pub use table::made as tasks_made;

/// Tasks that sleep uninterruptibly.
pub fn blocked() -> usize {
    table::all()
        .iter()
        .filter(|task| task.letter() == 'D')
        .count()
}
