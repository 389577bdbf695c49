//! The parts of the Baton kernel that need no machine, so that the host builds and tests them.
//!
//! The binary (`main.rs`) owns the hardware and calls these; nothing here names it back.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod asked;
pub mod buddy;
pub mod cmdline;
pub mod console;
pub mod heap;
pub mod image;
pub mod input;
pub mod klog;
pub mod layout;
pub mod params;
pub mod persistent;
pub mod pool;
pub mod protocol;
pub mod pstore;
pub mod ring3;
pub mod scattered;
pub mod sched;
pub mod trace_instance;
pub mod tsc;
