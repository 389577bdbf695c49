//! User processes: what of ring 3 needs the machine. The rest is in the library, `kernel::ring3`.
//!
//! | file | what |
//! | --- | --- |
//! | `entry.rs` | into user mode and out of it: `syscall`, `sysret`, what each CPU is set to |
//! | `copy.rs` | copying from and to user memory |
//! | `space.rs` | address spaces: which CPU has which in force, where their memory comes from |
//! | `fault.rs` | exceptions of user mode, and page faults of both modes at user addresses |
//! | `process.rs`, `process/spawn.rs` | a process's life: spawn, end, wait, kill |
//! | `syscall.rs`, `calls.rs` | the system calls: numbers, traces, what they do |
//! | `file.rs` | what an open file is |
//! | `load.rs` | the workers of `stress` that are processes |
//! | `open.rs`, `stdio.rs` | files of the tree; the input and output that `run` gives |
//!
//! What is checked, and the memory map, is in docs/architecture.md ("Ring 3").

mod calls;
pub mod copy;
mod entry;
mod fault;
pub mod file;
pub mod load;
pub mod open;
pub mod process;
pub mod space;
pub mod stdio;
mod syscall;

pub use entry::{init_cpu, return_to_user};
pub use fault::exception;

/// Makes ready for processes. Once, when the kernel's page tables stand and there is a heap.
pub fn init() {
    space::init();
    process::init();
}
