//! Wait queues: tasks that sleep until something is so.
//!
//! Who waits says for what, and is in the queue before it looks; who makes it so wakes the queue after that. `kernel::sched::state`
//! says why no wake-up is lost.

use super::record::{Current, current};
use super::{end, preempt, queue, table, timer};
use crate::machine::percpu;
use crate::memory::IrqMutex;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;
use kernel::sched::Slot;
use kernel::sched::list::{Links, List};
use kernel::sched::state::{INTERRUPTIBLE, UNINTERRUPTIBLE};

/// The wait ended early: the task is to end, or ctrl-c was typed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl core::error::Error for Interrupted {}

/// Tasks that wait for something, the longest-waiting one first.
pub struct WaitQueue(IrqMutex<List>);

/// The links lie in the tasks.
struct InTasks;

impl Links for InTasks {
    fn get(&self, slot: Slot) -> (Slot, Slot) {
        let [before, after] = &table::by_slot(slot).wait_links;
        (before.load(Relaxed), after.load(Relaxed))
    }

    fn set_before(&mut self, slot: Slot, before: Slot) {
        table::by_slot(slot).wait_links[0].store(before, Relaxed);
    }

    fn set_after(&mut self, slot: Slot, after: Slot) {
        table::by_slot(slot).wait_links[1].store(after, Relaxed);
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl WaitQueue {
    /// Nobody waits.
    pub const fn new() -> Self {
        WaitQueue(IrqMutex::new(List::new()))
    }

    /// Sleeps until `condition` holds. It is called in this task, any number of times, and must not sleep.
    pub fn wait_until(&self, condition: impl FnMut() -> bool) {
        let _ = self.wait(UNINTERRUPTIBLE, None, condition);
    }

    /// The same, up to the tick `until`; whether the condition holds.
    pub fn wait_until_tick(&self, until: u64, condition: impl FnMut() -> bool) -> bool {
        self.wait(UNINTERRUPTIBLE, Some(until), condition) == Ok(true)
    }

    /// The same, up to the tick `until` where there is one; whether the condition holds.
    ///
    /// # Errors
    /// [`Interrupted`]: the task is to end, or ctrl-c is for it.
    pub fn wait_interruptible(
        &self,
        until: Option<u64>,
        condition: impl FnMut() -> bool,
    ) -> Result<bool, Interrupted> {
        self.wait(INTERRUPTIBLE, until, condition)
    }

    fn wait(
        &self,
        kind: u32,
        until: Option<u64>,
        mut condition: impl FnMut() -> bool,
    ) -> Result<bool, Interrupted> {
        let Some(task) = current().filter(|task| !task.is_idle()) else {
            // Before there are tasks, and in the idle tasks, which must not sleep.
            while !condition() {
                if until.is_some_and(|until| timer::jiffies() >= until) {
                    return Ok(false);
                }
                core::hint::spin_loop();
            }
            return Ok(true);
        };
        debug_assert_eq!(percpu::preempt_count(), 0, "sleeping with preemption off");
        let result = loop {
            self.join(&task);
            task.state.sleep(kind);
            if condition() {
                break Ok(true);
            }
            if kind == INTERRUPTIBLE && end::is_interrupted(&task) {
                break Err(Interrupted);
            }
            if let Some(until) = until {
                if timer::jiffies() >= until {
                    break Ok(false);
                }
                timer::set_for(task, until);
            }
            queue::give_up();
        };
        task.state.run();
        self.leave(&task);
        if until.is_some() {
            timer::cancel_for(task);
        }
        result
    }

    /// Puts the running task in, if it is not there.
    fn join(&self, task: &Current) {
        let mut list = self.0.lock();
        if task.waits_in.load(Relaxed).is_null() {
            list.push_back(&mut InTasks, task.slot);
            task.waits_in.store((&raw const *self).cast_mut(), Relaxed);
        }
    }

    /// Takes a task out, if it is there.
    fn leave(&self, task: &super::Task) {
        let mut list = self.0.lock();
        if !task.waits_in.load(Relaxed).is_null() {
            list.remove(&mut InTasks, task.slot);
            task.waits_in.store(core::ptr::null_mut(), Relaxed);
        }
    }

    /// Takes a task that ends out of the queue it is in: it has faulted in a condition.
    pub(super) fn forget(task: &super::Task) {
        // SAFETY: who waits borrows the queue, and has not come back from there.
        if let Some(queue) = unsafe { task.waits_in.load(Relaxed).as_ref() } {
            queue.leave(task);
        }
    }

    /// Wakes one task, the one that has waited longest; whether there was one.
    pub fn wake_one(&self) -> bool {
        self.wake(1) > 0
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }

    /// Wakes up to `most` tasks, in any context but an NMI; returns how many.
    fn wake(&self, most: usize) -> usize {
        let mut woken = 0;
        {
            let mut list = self.0.lock();
            while woken < most
                && let Some(slot) = list.pop_front(&mut InTasks)
            {
                let task = table::by_slot(slot);
                task.waits_in.store(core::ptr::null_mut(), Relaxed);
                if queue::try_to_wake_up(task, INTERRUPTIBLE | UNINTERRUPTIBLE) {
                    woken += 1;
                }
            }
        }
        preempt::preempt_check();
        woken
    }
}
