//! The machine that the tracer runs on, as a trait.

use crate::ramtrace::Region;
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

/// What a platform promises about who writes to a CPU's buffer. The promise is made by an unsafe constructor, for memory
/// safety rests on it: with it, a write begins and ends without a locked instruction.
///
/// A resize has to know that no write is under way. A writer says that it begins (a store) and then looks
/// whether it may (a load); who resizes says that nobody may (a store) and then looks whether anybody has begun (a load).
/// One of them has to see the other, so neither load may be done before its own store is visible. Without a promise, the
/// writer pays for that with a locked instruction in each write. With it, only who resizes pays:
/// [`Platform::barrier_all`] makes the writer's CPU order its accesses at some moment between the other's store and
/// load. A writer whose store comes before that moment is seen; one whose load comes after it sees.
#[derive(Clone, Copy, Debug)]
pub struct Locality {
    pinned: bool,
}

impl Locality {
    /// No promise.
    pub const UNKNOWN: Self = Locality { pinned: false };

    /// Each buffer is written to by one CPU.
    ///
    /// # Safety
    ///
    /// For all buffers on the platform:
    ///
    /// - At any time at most one CPU (or thread, with its signal handlers) is between the begin of a write (the call of
    ///   `reserve`, or of what calls it) and the end of it (`commit`, `discard`, or an error); within that CPU, writes end
    ///   in the reverse order of their begins. Where another CPU goes on, the one before synchronizes with it.
    /// - [`Platform::barrier_all`] keeps its contract.
    pub const unsafe fn pinned() -> Self {
        Locality { pinned: true }
    }

    /// Whether the promise was made.
    #[inline(always)]
    pub const fn is_pinned(self) -> bool {
        self.pinned
    }
}

/// Tells this crate how a kernel keeps a task from being preempted and lets it be again; the two nest. It does so around its spin
/// locks, which readers and settings take: one that is held by a task that waits for its CPU would keep others spinning. To be
/// called before there are tasks that can be preempted; a kernel without them, and a program with threads, needs it not.
pub fn set_preemption(off: fn(), on: fn()) {
    crate::sync::preemption::set(off, on);
}

/// The machine that the tracer runs on: a cheap handle. Nothing here allocates but [`Memory::alloc_pages`].
///
/// The task that records must not be moved to another CPU, nor be preempted, between an event's reservation and its
/// commit: [`no_preempt`](Platform::no_preempt) is called around each write. Interrupts may come at any instruction.
pub trait Platform: Memory + Send + Sync + 'static {
    /// What is promised about writers. Without a promise they take a slower way.
    const LOCALITY: Locality = Locality::UNKNOWN;

    /// Makes every CPU that may write do a full memory barrier at some moment during the call, as Linux's `membarrier` does
    /// and an interrupt sent to all CPUs and waited for; on a machine with one CPU nothing has to be done. Called with a
    /// [`LOCALITY`](Platform::LOCALITY) that promises it only, and only to resize, clear or describe; within
    /// [`no_irq`](Platform::no_irq), so that a CPU that waits so itself must still do it.
    fn barrier_all(&self) {}

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

    /// An interrupt may come here, within a write, and write too. For tests, which do it: called between any two steps of a write
    /// whose order an interrupt can see. Does nothing by default, and is no instruction then.
    #[inline(always)]
    #[track_caller]
    fn may_interrupt(&self) {}

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

    /// The region that outlives a reset, where there is one.
    fn ramtrace(&self) -> Option<&'static Region<Self>> {
        None
    }

    /// What the region says of the running life is to be brought up to date: buffers have come to it or left it, or a clock, a tracer
    /// or an option is another one. Whoever keeps the region does so soon, from a task.
    fn ramtrace_changed(&self) {}

    /// Runs `f` on that CPU with interrupts off, and returns when that is done: there as an interrupt, or here, if it is this CPU or one that
    /// does not run. Called with interrupts on. The default is for machines on which all is done by one thread.
    fn on_cpu(&self, cpu: usize, f: &mut (dyn FnMut() + Send)) {
        let _ = cpu;
        f();
    }

    /// How many pages of 4 KiB could be allocated now, where that is known: a resize to more is refused at once.
    fn pages_available(&self) -> Option<u64> {
        None
    }

    /// Puts the return addresses of the callers into `out`, the nearest first; returns how many. In any context.
    fn callers(&self, out: &mut [u64]) -> usize {
        let _ = out;
        0
    }

    /// What tells this kernel's build from any other, if only by their addresses; 0 where that is not known. A record of an earlier life
    /// may hold addresses ([`callers`](Platform::callers)): they are named only if the kernel of that life was the same build.
    fn build(&self) -> u64 {
        0
    }

    /// Writes the name of the function that the return address `address` leads back to, as the `trace` file shows a caller.
    fn symbol(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "0x{address:x}")
    }

    /// Writes the name of the function in which `address` lies, as a histogram's `.sym` shows it.
    fn function(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "0x{address:x}")
    }

    /// The same with the place in the function and its length, as `%pS` and a histogram's `.sym-offset` show it in Linux:
    /// `name+0x12/0x34`.
    fn place(&self, address: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        self.function(address, out)
    }

    /// The running task's priority in Linux's numbers: 0 to 139, less is more urgent; 120 is nice 0.
    fn priority(&self) -> i32 {
        120
    }

    /// From now on the tracer wants to be told of what `measured` names, and of nothing else: see
    /// [`Tracer::irqs_off`](crate::Tracer::irqs_off) and the functions after it. For `hwlat` it wants threads that take samples
    /// ([`Tracer::hwlat_round`](crate::Tracer::hwlat_round)), and is told so again where its mode changes. Called also while a tracer is
    /// adopted.
    fn measure(&self, measured: crate::tracer::Measured) {
        let _ = measured;
    }

    /// The address that stands as `ip` in the events of `trace_marker`.
    fn marker_ip(&self) -> u64 {
        0
    }
}
