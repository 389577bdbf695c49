//! What a task is.

use super::queue;
use super::stack::Stack;
use super::wait::WaitQueue;
use crate::machine::percpu;
use crate::memory::IrqMutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};
use kernel::sched::state::State;
use kernel::sched::{NONE, Slot, prio};

/// Bytes of a name, with the NUL behind it: Linux's `TASK_COMM_LEN`.
const COMM: usize = 16;

/// What kind of task it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Runs where nobody else wants to: one for each CPU, all with pid 0.
    Idle,
    /// Code of the kernel's. `essential`: the kernel is nothing without it; it cannot be killed, and must not fault.
    Kernel { essential: bool },
    /// Runs a user process.
    Process,
}

/// What the scheduler has to do for a task that runs a user process. `activate` is called with interrupts off and a run queue
/// locked: it takes no lock and allocates nothing.
pub trait ProcessHooks: Send + Sync {
    /// The task is about to run on this CPU: load its address space.
    fn activate(&self);
    /// Somebody wants it to end. The task is marked and woken besides.
    fn kill(&self);
    /// Whether it is to end: asked where the task returns to user mode.
    fn ends(&self) -> bool;
    /// Its task ends, in whatever way: called by the task itself, which may still sleep.
    fn ended(&self);
    /// The process, for who knows its type.
    fn as_any(&self) -> &dyn core::any::Any;
}

/// What a kernel thread does.
pub(super) type Entry = Box<dyn FnOnce() + Send>;

/// A task. What the scheduler changes is changed under the lock of the run queue of the task's CPU.
pub struct Task {
    pub pid: i32,
    /// Who made it, or the console, once that has ended.
    pub(super) parent: AtomicI32,
    pub kind: Kind,
    pub(super) slot: Slot,
    comm: [u8; COMM],
    pub(super) prio: AtomicU8,
    pub(super) state: State,
    /// The CPU whose run queue it belongs to.
    pub(super) cpu: AtomicU32,
    /// The CPUs on which it may run, a bit each.
    pub(super) allowed: AtomicU64,
    /// It runs, or waits in its CPU's queue.
    pub(super) on_queue: AtomicBool,
    /// Its stack pointer while it does not run.
    pub(super) rsp: AtomicU64,
    /// Its part of the CPU's preemption count while it does not run.
    pub(super) preempt_count: AtomicU32,
    /// Ticks that are left of its slice; whether the last one has used it up.
    pub(super) slice: AtomicU32,
    pub(super) expired: AtomicBool,
    /// It has used up a slice since it last slept.
    pub(super) busy: AtomicBool,
    /// Cycles that it has run, and the number of times it gave the CPU up by itself and had to.
    pub(super) cycles: AtomicU64,
    pub(super) switches: [AtomicU64; 2],
    /// The wait queue that it is in, and its neighbours there; under the queue's lock.
    pub(super) waits_in: AtomicPtr<WaitQueue>,
    pub(super) wait_links: [AtomicU16; 2],
    /// The CPU in whose wheel its timer is set (plus 1; 0: none).
    pub(super) timer_cpu: AtomicU32,
    /// Sleeping locks that it holds.
    pub(super) mutexes: AtomicU32,
    /// It is to end.
    pub(super) killed: AtomicBool,
    /// It has ended; who waits for that. `gone`: no CPU uses its stack any more either.
    pub(super) ended: AtomicBool,
    pub(super) gone: AtomicBool,
    pub(super) end: WaitQueue,
    /// `None` for the idle tasks, which run on their CPU's own stack.
    pub(super) stack: Option<Stack>,
    pub(super) entry: IrqMutex<Option<Entry>>,
    pub(super) process: Option<Arc<dyn ProcessHooks>>,
}

/// What a new task gets.
pub(super) struct New {
    pub pid: i32,
    pub parent: i32,
    pub kind: Kind,
    pub slot: Slot,
    pub prio: u8,
    pub allowed: u64,
    pub stack: Option<Stack>,
    pub entry: Option<Entry>,
    pub process: Option<Arc<dyn ProcessHooks>>,
}

impl Task {
    pub(super) fn new(name: &str, new: New) -> Task {
        let mut comm = [0; COMM];
        let mut end = name.len().min(COMM - 1);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        comm[..end].copy_from_slice(&name.as_bytes()[..end]);
        Task {
            pid: new.pid,
            parent: AtomicI32::new(new.parent),
            kind: new.kind,
            slot: new.slot,
            comm,
            prio: AtomicU8::new(new.prio),
            state: State::new(),
            cpu: AtomicU32::new(0),
            allowed: AtomicU64::new(new.allowed),
            on_queue: AtomicBool::new(false),
            rsp: AtomicU64::new(0),
            preempt_count: AtomicU32::new(0),
            slice: AtomicU32::new(prio::SLICE_TICKS),
            expired: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            cycles: AtomicU64::new(0),
            switches: [const { AtomicU64::new(0) }; 2],
            waits_in: AtomicPtr::default(),
            wait_links: [const { AtomicU16::new(NONE) }; 2],
            timer_cpu: AtomicU32::new(0),
            mutexes: AtomicU32::new(0),
            killed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            end: WaitQueue::new(),
            stack: new.stack,
            entry: IrqMutex::new(new.entry),
            process: new.process,
        }
    }

    /// Its name, at most 15 bytes.
    pub fn comm(&self) -> &str {
        let end = self.comm.iter().position(|b| *b == 0).unwrap_or(COMM);
        core::str::from_utf8(&self.comm[..end]).unwrap_or("<...>")
    }

    /// The pid of the task that made it; the console's, once that has ended.
    pub fn parent(&self) -> i32 {
        self.parent.load(Relaxed)
    }

    /// Its priority, with Linux's numbers (`kernel::sched::prio`).
    pub fn prio(&self) -> u8 {
        self.prio.load(Relaxed)
    }

    /// The CPUs on which it may run, a bit each.
    pub fn allowed(&self) -> u64 {
        self.allowed.load(Relaxed)
    }

    /// The CPU on which it runs, or last did.
    pub fn cpu(&self) -> usize {
        self.cpu.load(Relaxed) as usize
    }

    /// Whether it is an idle task.
    pub fn is_idle(&self) -> bool {
        self.kind == Kind::Idle
    }

    /// Whether it runs or waits for a CPU.
    pub fn is_runnable(&self) -> bool {
        self.on_queue.load(Relaxed)
    }

    /// Its state as a letter, as Linux's `ps` shows it: R, S, D, X.
    pub fn letter(&self) -> char {
        match self.state.shown() {
            kernel::sched::state::RUNNING => 'R',
            kernel::sched::state::INTERRUPTIBLE => 'S',
            kernel::sched::state::UNINTERRUPTIBLE => 'D',
            _ => 'X',
        }
    }

    /// TSC cycles that it has run, up to now.
    pub fn cycles(&self) -> u64 {
        queue::cycles(self)
    }

    /// How often it gave its CPU up by itself, and how often it had to.
    pub fn switches(&self) -> (u64, u64) {
        (
            self.switches[0].load(Relaxed),
            self.switches[1].load(Relaxed),
        )
    }

    /// Where its kernel stack starts; the stack on which a process comes in from user mode.
    pub fn kernel_stack_top(&self) -> Option<u64> {
        self.stack.as_ref().map(Stack::top)
    }

    /// Its user process.
    pub fn process(&self) -> Option<&Arc<dyn ProcessHooks>> {
        self.process.as_ref()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// Waits until it has ended.
    pub fn join(&self) {
        self.end.wait_until(|| self.has_ended());
    }
}

/// The running task, for the task itself: it lives as long as it runs.
#[derive(Clone, Copy)]
pub struct Current {
    task: &'static Task,
    /// Not for other tasks.
    own: PhantomData<*const ()>,
}

impl Deref for Current {
    type Target = Task;
    fn deref(&self) -> &Task {
        self.task
    }
}

#[inline]
fn running() -> *const Task {
    let task: *const Task;
    // SAFETY: reads a word of this CPU's area in one instruction: a move to another CPU comes before or after it, and the
    // answer is the same task.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{at}]",
            out(reg) task,
            at = const core::mem::offset_of!(percpu::PerCpu, current),
            options(nostack, preserves_flags, readonly)
        );
    }
    task
}

/// The running task; `None` before there are tasks.
#[inline]
pub fn current() -> Option<Current> {
    // SAFETY: the scheduler keeps the pointer to a task that the table holds until no CPU runs it any more.
    unsafe { running().as_ref() }.map(|task| Current {
        task,
        own: PhantomData,
    })
}

/// The running task's pid: 0 for the idle tasks, and before there are tasks.
#[inline]
pub fn current_pid() -> i32 {
    current().map_or(0, |task| task.pid)
}

/// The running task's name; before there are tasks, that of CPU 0's idle task.
pub fn current_name() -> arrayvec::ArrayString<COMM> {
    let name = |text: &str| arrayvec::ArrayString::from(text).unwrap_or_default();
    current().map_or_else(|| name("swapper/0"), |task| name(task.comm()))
}
