//! What can go wrong with a tracer as a whole.

use crate::errno::Errno;
use core::fmt;

/// Why a tracer could not be made, adopted or changed. Its text is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceError {
    /// No memory for pages or for their description.
    NoMemory,
    /// A write or a reader that does not end holds the buffer.
    Busy,
    /// A number of CPUs that cannot be served.
    CpuCount {
        /// What was given.
        given: usize,
        /// The largest number.
        max: usize,
    },
    /// A buffer size of nothing.
    Size,
    /// A sub-buffer of `2^n` pages, which cannot be.
    Order(u8),
    /// The buffer was retired: it has no pages.
    Retired,
    /// A reader has the buffer mapped, so that it cannot change.
    Mapped,
    /// Nobody has the buffer mapped.
    NotMapped,
    /// The buffer may be exchanged with its snapshot at any time, so that it cannot be mapped.
    SnapshotArmed,
    /// A mapping that does not begin at a sub-buffer, is empty, or goes beyond the end.
    MapRange {
        /// Its first page of 4 KiB.
        offset: u64,
        /// Its pages.
        pages: u64,
        /// How many there are to map.
        of: u64,
    },
    /// The same event was declared twice.
    EventTwice {
        /// `system:name`.
        system: &'static str,
        /// `system:name`.
        name: &'static str,
    },
    /// There are more events than numbers for them.
    TooManyEvents,
    /// Saved state names a buffer for a CPU twice, or for one beyond the CPUs of the state.
    StateCpu(u32),
    /// Saved state of a CPU has too few pages for a ring.
    StatePages {
        /// The CPU.
        cpu: u32,
        /// The pages of its ring.
        pages: usize,
    },
    /// Saved state names a page twice.
    StatePageTwice(u64),
    /// Saved state names a page that is not RAM, or not of the buffer's order.
    StatePage {
        /// Its physical address.
        pa: u64,
        /// Its order.
        order: u8,
    },
    /// A number in the saved state of a CPU is out of range.
    StateNumber {
        /// The CPU.
        cpu: u32,
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The saved table of events has an entry twice, or a number that no event can have.
    StateEvent(u16),
    /// State to be refreshed was made before the tracer changed its shape (size, events).
    StateShape,
    /// Saved state has an instance with a name that cannot be, or that another one has.
    StateName,
    /// Saved state has more instances than there can be.
    StateInstances,
    /// The saved state names a tracer that this kernel does not have.
    StateTracer,
    /// There is no region that outlives a reset, or no life runs in it.
    NoRegion,
    /// The region that outlives a reset has no page left that could be had.
    RegionFull,
    /// The region that outlives a reset has not as many pages, those of old lives with them.
    RegionRoom {
        /// Pages of 4 KiB that were asked for, beyond those that the buffer has there.
        wanted: u64,
        /// How many can be had.
        left: u64,
    },
    /// The buffer lives in the region that outlives a reset, and can have no snapshot there.
    Persistent,
    /// The buffer has a snapshot, and can therefore not go to the region that outlives a reset.
    HasSnapshot,
    /// What the tracer `hwlat` was to be set to cannot be.
    Detector,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TraceError::*;
        match self {
            NoMemory => write!(f, "there is not enough memory for the trace buffer"),
            Busy => write!(
                f,
                "the trace buffer is held by a write or a reader that does not end"
            ),
            CpuCount { given, max } => {
                write!(f, "a tracer serves 1 to {max} CPUs, not {given}")
            }
            Size => write!(f, "a trace buffer of size 0 cannot be"),
            Order(order) => write!(f, "a sub-buffer of 2^{order} pages cannot be"),
            Retired => write!(f, "the trace buffer was removed"),
            Mapped => write!(f, "a reader has the trace buffer mapped"),
            NotMapped => write!(f, "nobody has the trace buffer mapped"),
            SnapshotArmed => write!(
                f,
                "a trigger may take a snapshot of the trace buffer at any time"
            ),
            MapRange { offset, pages, of } => write!(
                f,
                "a mapping of {pages} pages from page {offset} on does not begin at a sub-buffer, or goes beyond the {of} pages that there are"
            ),
            EventTwice { system, name } => {
                write!(f, "the event {system}:{name} is declared twice")
            }
            TooManyEvents => write!(f, "there are more trace events than numbers for them"),
            StateCpu(cpu) => write!(f, "the saved trace state has a wrong or doubled CPU {cpu}"),
            StatePages { cpu, pages } => write!(
                f,
                "the saved trace state of CPU {cpu} has {pages} pages, too few for a ring"
            ),
            StatePageTwice(pa) => write!(f, "the saved trace state names the page {pa:#x} twice"),
            StatePage { pa, order } => write!(
                f,
                "the saved trace state names {pa:#x} (order {order}), which cannot be a sub-buffer"
            ),
            StateNumber { cpu, what, value } => write!(
                f,
                "the saved trace state of CPU {cpu} has {what} = {value}, which cannot be"
            ),
            StateEvent(id) => write!(
                f,
                "the saved table of trace events has a wrong or doubled entry with number {id}"
            ),
            StateShape => write!(
                f,
                "the trace buffers changed their shape after their state was described"
            ),
            StateName => write!(f, "its name cannot be, or another instance has it"),
            StateInstances => write!(f, "there are more instances than there can be"),
            StateTracer => write!(f, "the saved trace state names a tracer that is not here"),
            NoRegion => write!(f, "there is no ramtrace region on this machine"),
            RegionFull => write!(
                f,
                "the ramtrace region is full; a smaller buffer_size_kb, or rm in /sys/fs/pstore, helps"
            ),
            RegionRoom { wanted, left } => write!(
                f,
                "{wanted} more pages of the ramtrace region are needed, and it has {left} to give, those of old lives with them; \
                 a smaller buffer_size_kb helps"
            ),
            Persistent => write!(
                f,
                "the trace buffer lives in the ramtrace region, where it can have no snapshot"
            ),
            HasSnapshot => write!(
                f,
                "the trace buffer has a snapshot, and cannot go to the ramtrace region with it; 0 in `snapshot` gives it back"
            ),
            Detector => write!(
                f,
                "a sample of hwlat cannot be longer than its window, nor either than they may be"
            ),
        }
    }
}

impl core::error::Error for TraceError {}

/// What a control file answers.
impl From<TraceError> for Errno {
    fn from(e: TraceError) -> Errno {
        match e {
            TraceError::NoMemory => Errno::ENOMEM,
            TraceError::RegionFull | TraceError::RegionRoom { .. } => Errno::ENOSPC,
            TraceError::Busy
            | TraceError::Mapped
            | TraceError::SnapshotArmed
            | TraceError::Persistent
            | TraceError::HasSnapshot => Errno::EBUSY,
            TraceError::Retired | TraceError::NotMapped | TraceError::NoRegion => Errno::ENODEV,
            _ => Errno::EINVAL,
        }
    }
}
