//! Soft interrupts: what an interrupt's handler leaves for the moment after it, with interrupts on. Linux's numbers and names.
//!
//! They run at the end of a hard interrupt that is no part of another one, on the stack of the task that it came in, which is
//! not preempted meanwhile. They must not sleep.

use super::{queue, stat, timer};
use crate::machine::{cpu, percpu};
use crate::{events, latency, tracing};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Kernel timers.
pub const TIMER: u32 = 1;
/// Sealing of what was recorded in the region that outlives a reset.
pub const TASKLET: u32 = 6;
/// Balancing.
pub const SCHED: u32 = 7;
/// Linux has as many.
const COUNT: usize = 10;

/// What is asked for, a bit each.
static PENDING: [AtomicU32; cpu::MAX_CPUS] = [const { AtomicU32::new(0) }; _];
/// How often each has run, on all CPUs.
static RUNS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; _];

/// How often each soft interrupt has run.
pub fn runs() -> [u64; COUNT] {
    core::array::from_fn(|vec| RUNS[vec].load(Relaxed))
}

/// Asks for one on this CPU. Interrupts are off.
pub fn raise(vec: u32) {
    events::softirq_raise(vec);
    PENDING[cpu::index()].fetch_or(1 << vec, Relaxed);
}

/// How often soft interrupts that are asked for meanwhile are run at once; after that they wait for the next interrupt, or
/// a task would never go on. Linux's `MAX_SOFTIRQ_RESTART`.
const ROUNDS: usize = 10;

/// Runs what is asked for, unless this is inside of it. Interrupts are off before and after.
pub fn run() {
    let nested = percpu::SOFTIRQ_MASK | percpu::HARDIRQ_MASK | percpu::NMI_MASK;
    let pending = &PENDING[cpu::index()];
    if percpu::preempt_count() & nested != 0 || pending.load(Relaxed) == 0 {
        return;
    }
    stat::interrupt_time();
    percpu::add_preempt_count::<{ percpu::SOFTIRQ_OFFSET }>();
    for _ in 0..ROUNDS {
        let now = pending.swap(0, Relaxed);
        if now == 0 {
            break;
        }
        latency::enable_interrupts();
        for vec in (0..COUNT as u32).filter(|vec| now >> vec & 1 != 0) {
            RUNS[vec as usize].fetch_add(1, Relaxed);
            events::softirq_entry(vec);
            match vec {
                TIMER => timer::expire(),
                TASKLET => tracing::tick(),
                SCHED => queue::balance(),
                _ => {}
            }
            events::softirq_exit(vec);
        }
        latency::disable_interrupts();
    }
    stat::interrupt_time();
    percpu::sub_preempt_count::<{ percpu::SOFTIRQ_OFFSET }>();
}

/// Ticks between two looks at the balance.
const BALANCE_TICKS: u64 = 8;

/// At each tick: the CPUs look at the balance one after the other.
pub fn tick() {
    if (timer::jiffies() + cpu::index() as u64).is_multiple_of(BALANCE_TICKS) && cpu::online() > 1 {
        raise(SCHED);
    }
    if tracing::tracer().is_some_and(|tracer| tracer.any_persistent()) {
        raise(TASKLET);
    }
}
