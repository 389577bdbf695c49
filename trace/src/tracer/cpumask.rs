//! The CPUs whose events are recorded: `tracing_cpumask`.
//!
//! The hot path does not look at it. A CPU that is left out has a `last_pid` that no task has, so that each of its writes takes
//! the way of a write whose task's name is not down yet; that way looks at the mask, and refuses. Two may meet there:
//! a writer that has been allowed notes its task (a store) and then looks at the mask again (a load); who leaves a CPU out
//! says so (a store) and then forgets the task (a store). With a full barrier between the two steps on each side,
//! either the writer sees the mask, and forgets its task itself, or its note comes first and is forgotten.

use super::instance::{Cpu, Instance};
use crate::platform::Platform;
use crate::sync::{Ordering, fence};

/// A task that there is none of: the next write looks again.
pub(super) const NOBODY: u32 = u32::MAX;

impl<P: Platform> Cpu<P> {
    /// Whether this CPU's events are recorded.
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Notes that the name of `pid` is down.
    pub(super) fn note(&self, pid: u32) {
        self.last_pid.store(pid, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !self.is_allowed() {
            self.last_pid.store(NOBODY, Ordering::Relaxed);
        }
    }
}

impl<P: Platform> Instance<P> {
    /// Whether the events of `cpu` are recorded.
    pub fn cpu_allowed(&self, cpu: usize) -> bool {
        self.cpus.get(cpu).is_some_and(Cpu::is_allowed)
    }

    /// Has the names of tasks taken down anew.
    pub(super) fn forget_tasks(&self) {
        for cpu in &self.cpus {
            cpu.last_pid.store(NOBODY, Ordering::Relaxed);
        }
    }

    /// Records the events of the CPUs for which `allowed` says so, and of no other one.
    pub fn set_cpumask(&self, allowed: impl Fn(usize) -> bool) {
        let _control = self.control.lock();
        for (index, cpu) in self.cpus.iter().enumerate() {
            cpu.allowed.store(allowed(index), Ordering::Relaxed);
            fence(Ordering::SeqCst);
            cpu.last_pid.store(NOBODY, Ordering::Relaxed);
        }
    }
}
