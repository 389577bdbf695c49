//! The machine that the tracer runs on, as a trait.

use core::fmt;
use handover::mem::Memory;
use handover::page::PageRef;

/// What a CPU was doing when it recorded an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The running task's number; 0 is the idle task.
    pub pid: i32,
    /// Interrupts were off.
    pub irqs_off: bool,
    /// In a hardware interrupt's handler.
    pub in_hardirq: bool,
    /// In a soft interrupt.
    pub in_softirq: bool,
    /// In a non-maskable interrupt.
    pub in_nmi: bool,
    /// The task is to be rescheduled.
    pub need_resched: bool,
    /// Depth of preemption-off in the low 4 bits, of migration-off in the high 4 bits.
    pub preempt_count: u8,
}

/// The machine that the tracer runs on: a cheap handle. Nothing here allocates but [`Memory::alloc_pages`].
///
/// The task that records must not be moved to another CPU, nor be preempted, between an event's reservation and its
/// commit: [`no_preempt`](Platform::no_preempt) is called around each write. Interrupts may come at any instruction.
pub trait Platform: Memory + Send + Sync + 'static {
    /// Index of the current CPU, less than the number of CPUs that the tracer was made for.
    fn cpu(&self) -> usize;

    /// The raw time stamp counter, in cycles.
    fn cycles(&self) -> u64;

    /// The time of `cycles` in ns on the clock [`nanos`](Platform::nanos).
    fn cycles_to_nanos(&self, cycles: u64) -> u64;

    /// Time in ns: one clock for all CPUs and all lives, never backwards on one CPU.
    fn nanos(&self) -> u64 {
        self.cycles_to_nanos(self.cycles())
    }

    /// What the current CPU is doing.
    fn context(&self) -> Context;

    /// Writes the name of task `pid` (Linux writes `<...>` for one that it does not know).
    fn comm(&self, pid: i32, out: &mut dyn fmt::Write);

    /// Runs `f` with preemption off (not: with interrupts off). The default is for kernels that never preempt.
    #[inline(always)]
    fn no_preempt<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    /// Runs `f` with interrupts off on this CPU: readers hold their lock so, for at most one page's copy.
    /// The default suits machines on which no interrupt parks a CPU for good.
    #[inline(always)]
    fn no_irq<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    /// The tracer has taken `page` and keeps it: whoever describes preserved memory adds it.
    fn page_owned(&self, page: PageRef) {
        let _ = page;
    }

    /// The tracer gives `page` back, and is about to free it.
    fn page_released(&self, page: PageRef) {
        let _ = page;
    }

    /// How many pages of 4 KiB could be allocated now, where that is known: a resize to more is refused at once.
    fn pages_available(&self) -> Option<u64> {
        None
    }

    /// The address that stands as `ip` in the events of `trace_marker`.
    fn marker_ip(&self) -> u64 {
        0
    }
}
