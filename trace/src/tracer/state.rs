//! The tracer as it crosses a kexec.

use crate::clock::ClockId;
use crate::event::SavedEvent;
use crate::ring::Shape;
use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// Everything of a tracer but the pages' content: one entry of the state stream.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(id = 0x7472_6163, version = 1)]
pub struct TracerState {
    /// The life that wrote it.
    pub generation: u32,
    /// `tracing_on`.
    pub tracing_on: bool,
    /// `current_tracer`.
    pub current_tracer: String,
    /// `trace_clock`.
    pub clock: ClockId,
    /// The clock `counter`'s count.
    pub counter: u64,
    /// The buffers, by ascending CPU.
    pub cpus: Vec<CpuState>,
    /// The numbers of all events.
    pub events: Vec<SavedEvent>,
    /// When the lives began whose events are in the buffers.
    pub boundaries: Vec<Boundary>,
}

/// One CPU's buffer in a [`TracerState`].
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct CpuState {
    /// The CPU.
    pub cpu: u32,
    /// Its `buffer_size_kb`.
    pub size_kb: u64,
    /// Its pages and counters.
    pub shape: Shape,
}

/// Where a life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct Boundary {
    /// The life's number.
    pub generation: u32,
    /// Its first event's time at the earliest, in units of the clock.
    pub start: u64,
}
