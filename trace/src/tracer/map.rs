//! Buffers that are mapped, and snapshots: one excludes the other, as in Linux (`get_snapshot_map` and `tracing_arm_snapshot` in
//! `kernel/trace/trace.c`).
//!
//! While any buffer of an instance is mapped, none of them changes its size, no snapshot is taken, and no trigger that would take one
//! is set. While such a trigger is set, or a tracer of latencies, none is mapped. Both are looked at under the lock of whoever changes the instance. (A
//! snapshot that was taken before, or its empty buffers, are in nobody's way.)

use super::instance::{Cpu, Instance};
use crate::error::TraceError;
use crate::platform::Platform;
use alloc::vec::Vec;

/// An error if one of them is mapped.
pub(super) fn none_mapped<P: Platform>(cpus: &[Cpu<P>]) -> Result<(), TraceError> {
    match cpus.iter().any(|cpu| cpu.buffer.mapped() > 0) {
        true => Err(TraceError::Mapped),
        false => Ok(()),
    }
}

impl<P: Platform> Instance<P> {
    /// Maps the buffer of `cpu`: see [`CpuBuffer::map`](crate::ring::CpuBuffer::map), whose rules hold here too. The instance is kept by who
    /// has mapped it.
    pub(crate) fn map(&self, cpu: usize, offset: u64, pages: u64) -> Result<Vec<u64>, TraceError> {
        let _control = self.control.lock();
        if self.snapshot_armed() || self.keeps_max() {
            return Err(TraceError::SnapshotArmed);
        }
        self.one(cpu)?.buffer.map(offset, pages)
    }
}
