//! The library of Baton's user programs: the entry, system calls, printing.
//!
//! A program is one file in `src/bin`, with its entry in `Cargo.toml`:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! use user::{Args, println};
//! user::program!(main);
//!
//! fn main(args: Args) -> i32 {
//!     println!("hello, {}", args.get(1).unwrap_or("world"));
//!     0
//! }
//! ```
//!
//! Programs are built like the kernel (soft-float, static, no red zone): the kernel switches no FPU state, and an x87 or SSE
//! instruction ends the process.
#![no_std]

extern crate alloc;

#[path = "../../kernel/src/ring3/abi.rs"]
pub mod abi;
mod args;
pub mod chains;
mod error;
pub mod files;
#[cfg(feature = "ring3")]
mod heap;
pub mod io;
pub mod names;
pub mod ring;
pub mod sharing;
pub mod sys;

#[doc(hidden)]
pub use args::__start;
pub use args::Args;
pub use error::Error;

/// Makes `fn NAME(args: Args) -> i32` the program. What it returns is the exit code.
///
/// The kernel starts a program with the stack of the System V ABI, of which the stack pointer is the address; the frame
/// pointer is zero, for whoever walks the frames.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        core::arch::global_asm!(
            ".section .text._start, \"ax\"",
            ".global _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {entry}",
            "ud2",
            ".text",
            entry = sym __program_entry,
        );

        extern "C" fn __program_entry(stack: *const u64) -> ! {
            let main: fn($crate::Args) -> i32 = $main;
            // SAFETY: the stack pointer of `_start`, as the kernel set it.
            let args = unsafe { $crate::__start(stack) };
            $crate::sys::exit(main(args))
        }
    };
}

#[cfg(feature = "ring3")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    eprintln!("{info}");
    sys::exit(128 + abi::signal::ABRT)
}
