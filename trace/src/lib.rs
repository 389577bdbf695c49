#![no_std]
extern crate alloc;
// The macro writes `trace::...` in its documentation, and `$crate` in its code.
extern crate self as trace;
#[cfg(any(test, feature = "sim"))]
extern crate std;
pub mod clock;
pub mod errno;
pub mod error;
pub mod event;
pub mod fs;
pub mod local;
pub mod page;
pub mod platform;
pub mod ring;
mod sync;
#[cfg(any(test, feature = "sim"))]
pub mod testing;
pub mod text;
pub mod tracer;
pub use clock::ClockId;
pub use errno::Errno;
pub use error::TraceError;
pub use platform::{Context, Platform};
pub use tracer::{Boundary, Config, Tracer, TracerState};
