//! What is recorded, in which form, and who reads it: a per-CPU trace ring buffer in Linux's sub-buffer format, its
//! events, and its tracefs.
//!
//! The way of an event through this crate: a call site made by [`define_events!`] -> [`Tracer::record`] ->
//! [`ring::CpuBuffer::reserve`] and commit -> read by [`text`] for the files of [`fs`], or described by [`Tracer::state`] and
//! taken over by the next life's [`Tracer::adopt`].
//!
//! | module | subject |
//! | --- | --- |
//! | [`page`] | the bytes of a sub-buffer, and a decoder that trusts none of them |
//! | [`ring`] | the lock-free ring of sub-buffers |
//! | [`meta`] | what a reader that has mapped a ring sees first |
//! | [`mapped`] | such a reader, in a user program: events decoded where they lie |
//! | [`mod@event`] | declarations, layouts, `format` files, numbers |
//! | [`tracer`] | instances: buffers, switches, clocks, filters, snapshots; the record path; the crossing |
//! | [`options`] | the options of an instance |
//! | [`text`] | the `trace` file |
//! | [`fs`] | the files, by path |
//! | [`ramtrace`] | buffers in memory that outlives a reset, and what earlier lives left there |
//! | [`platform`] | what the machine has to offer |
//!
//! Architecture invariants:
//!
//! - No hardware is touched but through [`Platform`]; all of the crate runs on the host.
//! - A writer takes no lock, waits for nobody, and allocates nothing. Locks are between readers and whoever resizes.
//! - `unsafe` is in `ring`: `ring::subbuf` and `ring::meta_page` for page memory, and the accesses to the ring's shape; in [`local`], for
//!   its instructions; in `tracer::quiesce`, for what writers find by pointers; and in `ramtrace`, for the region's memory.
//! - What lies in a page is believed nowhere, neither from an earlier life nor from a writer that may be overwriting it.
#![no_std]

extern crate alloc;
// So that `trace::...` means the same in the documentation's examples, in tests and here.
extern crate self as trace;
#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod clock;
pub mod errno;
pub mod error;
pub mod event;
pub mod fs;
pub mod local;
pub mod mapped;
pub mod meta;
pub mod options;
pub mod page;
pub mod platform;
pub mod ramtrace;
pub mod ring;
mod sync;
#[cfg(any(test, feature = "sim"))]
pub mod testing;
pub mod text;
pub mod tracer;

pub use clock::ClockId;
pub use errno::Errno;
pub use error::TraceError;
pub use platform::{Context, Locality, Platform, set_preemption};
pub use tracer::{Boundary, Config, Instance, Tracer, TracerState};
