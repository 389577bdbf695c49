//! The snapshot of an instance: a second set of buffers, with which the first one changes places.
//!
//! What a number written to `snapshot` does is Linux's: 0 gives the buffers back, 1 allocates them if needed and takes a
//! snapshot, any other number clears the snapshot if there is one.

use super::instance::{Cpu, Instance};
use super::map::none_mapped;
use super::pages_for;
use crate::error::TraceError;
use crate::platform::Platform;
use crate::ring::CpuBuffer;
use crate::sync::Ordering;

impl<P: Platform> Instance<P> {
    /// The snapshot of `cpu`; without pages if none is allocated.
    pub fn snapshot_buffer(&self, cpu: usize) -> Option<&CpuBuffer<P>> {
        self.cpus.get(cpu).map(|cpu| &cpu.snapshot)
    }

    /// Whether there are buffers for a snapshot.
    pub fn snapshot_allocated(&self) -> bool {
        self.cpus.iter().any(|cpu| !cpu.snapshot.is_retired())
    }

    /// Allocates the buffers for a snapshot, as large as the main ones, where there are none yet.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Busy`]; then none are allocated that were not before.
    pub fn allocate_snapshot(&self) -> Result<(), TraceError> {
        let _control = self.control.lock();
        self.allocate_locked()
    }

    pub(super) fn allocate_locked(&self) -> Result<(), TraceError> {
        if self.is_persistent() {
            return Err(TraceError::Persistent);
        }
        let mut fresh = 0u64;
        for (index, cpu) in self.cpus.iter().enumerate() {
            if !cpu.snapshot.is_retired() {
                fresh = index as u64 + 1;
                continue;
            }
            let order = cpu.buffer.order();
            let size_kb = cpu.size_kb.load(Ordering::Relaxed);
            let made = pages_for(size_kb, order)
                .ok_or(TraceError::NoMemory)
                .and_then(|pages| cpu.snapshot.revive(pages, order));
            if let Err(e) = made {
                for cpu in &self.cpus[fresh as usize..index] {
                    // Nobody has written to it.
                    let _ = cpu.snapshot.retire();
                }
                return Err(e);
            }
        }
        Ok(())
    }

    /// Takes a snapshot of one CPU, or of all: the buffers change places with the snapshot's, which are allocated first where
    /// there are none.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`]; [`TraceError::Busy`] if a write does not end; [`TraceError::CpuCount`]; [`TraceError::Mapped`] if any
    /// of the instance's buffers is mapped.
    pub fn take_snapshot(&self, cpu: Option<usize>) -> Result<(), TraceError> {
        let _control = self.control.lock();
        let chosen = match cpu {
            Some(cpu) => core::slice::from_ref(self.one(cpu)?),
            None => &self.cpus[..],
        };
        none_mapped(&self.cpus)?;
        self.allocate_locked()?;
        for cpu in chosen {
            cpu.buffer.swap(&cpu.snapshot)?;
            // One that still had to wait is taken with it.
            cpu.pending.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes a snapshot of all CPUs from any context, without waiting. Where a write is under way on a CPU, that one's is taken
    /// as soon as the write has ended, and counted as [deferred](Self::deferred_snapshots). Without allocated buffers
    /// nothing happens, nor on a CPU whose buffer is mapped, nor while a tracer [keeps](Self::keeps_max) its own there.
    pub fn snapshot_now(&self) {
        if !self.keeps_max() {
            self.swap_now(None);
        }
    }

    /// The same for one CPU or all, also for the tracer itself.
    pub(super) fn swap_now(&self, cpu: Option<usize>) {
        let chosen = match cpu {
            Some(cpu) => self.cpus.get(cpu..=cpu).unwrap_or_default(),
            None => &self.cpus[..],
        };
        for cpu in chosen {
            cpu.snapshot_or_defer(&self.deferred);
        }
    }

    /// Whether a CPU's buffers are to change places as soon as a write has ended.
    pub(super) fn is_swap_pending(&self) -> bool {
        (self.cpus.iter()).any(|cpu| cpu.pending.load(Ordering::Relaxed))
    }

    /// Whether a tracer keeps the trace of its longest latency in the snapshot's buffers, as it does in Linux: then they are no
    /// snapshot.
    pub fn keeps_max(&self) -> bool {
        self.keeps_max.load(Ordering::Relaxed)
    }

    /// Allocates the snapshot's buffers for a tracer.
    pub(super) fn keep_max(&self) -> Result<(), TraceError> {
        let _control = self.control.lock();
        none_mapped(&self.cpus)?;
        self.allocate_locked()?;
        self.keeps_max.store(true, Ordering::Relaxed);
        for cpu in &self.cpus {
            // The tracer's buffers are exchanged by the tracer alone.
            cpu.pending.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends that, and frees them, unless a trigger needs them.
    pub(super) fn keep_no_max(&self) {
        let _control = self.control.lock();
        self.keeps_max.store(false, Ordering::Relaxed);
        let done = match self.snapshot_armed() {
            true => self.clear_locked(&self.cpus),
            false => self.free_locked(),
        };
        // Where a write does not end, what the tracer has kept stays as a snapshot, until somebody clears it.
        let _ = done;
    }

    /// How many snapshots of single CPUs had to wait for the end of a write.
    pub fn deferred_snapshots(&self) -> u64 {
        self.deferred.load(Ordering::Relaxed)
    }

    /// Gives the snapshot's buffers back.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end.
    pub fn free_snapshot(&self) -> Result<(), TraceError> {
        let _control = self.control.lock();
        self.free_locked()
    }

    fn free_locked(&self) -> Result<(), TraceError> {
        for cpu in &self.cpus {
            cpu.pending.store(false, Ordering::Relaxed);
            cpu.snapshot.retire()?;
        }
        Ok(())
    }

    /// Clears the snapshot of one CPU, or of all. Without a snapshot nothing happens, as in Linux.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`], [`TraceError::CpuCount`].
    pub fn clear_snapshot(&self, cpu: Option<usize>) -> Result<(), TraceError> {
        let _control = self.control.lock();
        let chosen = match cpu {
            Some(cpu) => core::slice::from_ref(self.one(cpu)?),
            None => &self.cpus[..],
        };
        self.clear_locked(chosen)
    }

    pub(super) fn clear_locked(&self, chosen: &[Cpu<P>]) -> Result<(), TraceError> {
        for cpu in chosen {
            cpu.pending.store(false, Ordering::Relaxed);
            if !cpu.snapshot.is_retired() {
                cpu.snapshot.clear()?;
            }
        }
        Ok(())
    }
}

impl<P: Platform> Cpu<P> {
    fn snapshot_or_defer(&self, deferred: &crate::sync::AtomicU64) {
        if self.buffer.try_swap(&self.snapshot) == Err(TraceError::Busy)
            && !self.pending.swap(true, Ordering::Relaxed)
        {
            deferred.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// At the end of a write: takes the snapshot that had to wait for it. A write that this one has interrupted defers it again.
    #[cold]
    #[inline(never)]
    pub(super) fn overdue_snapshot(&self) {
        if self.pending.swap(false, Ordering::Relaxed)
            && self.buffer.try_swap(&self.snapshot) == Err(TraceError::Busy)
        {
            self.pending.store(true, Ordering::Relaxed);
        }
    }
}
