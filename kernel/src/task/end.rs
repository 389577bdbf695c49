//! How tasks end: by themselves, because somebody wants it, by a fault.

use super::queue;
use super::record::{Kind, Task, current};
use super::wait::WaitQueue;
use super::{table, timer};
use crate::boot::stacks;
use crate::machine::percpu;
use crate::machine::traps::Frame;
use crate::terminal;
use crate::{events, latency};
use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use kernel::sched::state::{DEAD, INTERRUPTIBLE};

/// Ends the running task. What is on its stack is not dropped.
pub fn exit() -> ! {
    if let Some(task) = current() {
        WaitQueue::forget(&task);
        if let Some(process) = task.process() {
            process.ended();
        }
        timer::cancel_for(task);
        table::leave_children(task.pid);
        // Each task is a thread group of its own.
        events::sched_process_exit(task.comm(), task.pid, i32::from(task.prio()), true);
        task.ended.store(true, Release);
        task.end.wake_all();
        latency::disable_interrupts();
        task.state.sleep(DEAD);
        queue::switch_task(false);
    }
    panic!("a task that has ended goes on");
}

/// Why a task was not killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillError {
    /// There is no such task.
    NotThere,
    /// The kernel is nothing without it.
    Essential,
}

impl fmt::Display for KillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KillError::NotThere => "no such task",
            KillError::Essential => "the kernel needs this task",
        })
    }
}

impl core::error::Error for KillError {}

/// Asks a task to end: it does so when it looks next, and is woken where it sleeps interruptibly.
///
/// # Errors
/// [`KillError`].
pub fn kill(pid: i32) -> Result<(), KillError> {
    let task = table::find(pid).filter(|task| !task.has_ended());
    let task = task.ok_or(KillError::NotThere)?;
    if task.kind == (Kind::Kernel { essential: true }) {
        return Err(KillError::Essential);
    }
    task.killed.store(true, Release);
    if let Some(process) = task.process() {
        process.kill();
    }
    interrupt(&task);
    Ok(())
}

/// Wakes a task that sleeps interruptibly: it looks why.
pub fn interrupt(task: &Task) {
    queue::try_to_wake_up(task, INTERRUPTIBLE);
    super::preempt::preempt_check();
}

/// Whether somebody has asked the running task to end.
pub fn killed() -> bool {
    current().is_some_and(|task| task.killed.load(Acquire))
}

/// Whether an interruptible wait of the task ends.
pub(super) fn is_interrupted(task: &Task) -> bool {
    task.killed.load(Acquire) || (terminal::is_console(task.pid) && terminal::interrupted())
}

/// Where a task goes on that has faulted: on its own stack, from its top, with interrupts on.
extern "C" fn after_fault() -> ! {
    exit()
}

/// Whether a fault of the kernel's own code costs its task only, not the kernel: no interrupt was being handled, preemption and
/// interrupts were on and no sleeping lock was held, so that nothing of the kernel's is half done; and the kernel can do without the
/// task.
pub fn fault_ends_task(frame: &Frame) -> bool {
    let Some(task) = current() else {
        return false;
    };
    let survivable = match frame.vector {
        // Of the stack only: anything else may be in the middle of a delivery.
        8 => {
            stacks::is_guard(frame.rsp)
                || stacks::is_guard(x86_64::registers::control::Cr2::read_raw())
        }
        // Machine checks are the machine's fault.
        18 => false,
        _ => true,
    };
    let interrupts_on = x86_64::registers::rflags::RFlags::INTERRUPT_FLAG.bits();
    survivable
        && frame.cs & 3 == 0
        && task.kind != Kind::Idle
        && task.kind != (Kind::Kernel { essential: true })
        && percpu::preempt_count() == 0
        && frame.rflags & interrupts_on != 0
        && task.mutexes.load(Relaxed) == 0
        && task.kernel_stack_top().is_some()
}

/// Makes a fault's return the end of its task; after [`fault_ends_task`] has said so.
pub fn end_by_fault(frame: &mut Frame) {
    let Some(top) = current().and_then(|task| task.kernel_stack_top()) else {
        return;
    };
    frame.rip = after_fault as *const () as u64;
    // As behind a call; the return address there is 0 (`switch::first_frame`), which ends any backtrace.
    frame.rsp = top - 8;
    frame.rbp = 0;
    // Interrupts on, all else as after a reset.
    frame.rflags = 0x202;
}
