//! The Baton kernel for x86-64: start-up as a straight list of steps, then the console.
//!
//! On entry (cold, from the bootloader crate; or by kexec, from another Baton): one CPU in long mode, interrupts off,
//! the image mapped at its link address, all RAM in a direct map, a stack. Other CPUs rest where firmware parked them.
#![no_std]
#![no_main]
#![allow(
    missing_docs,
    reason = "a binary: its modules are documented, its items are nobody's API"
)]

extern crate alloc;

#[cfg(feature = "next")]
mod attic;
mod boot;
mod commands;
#[cfg_attr(any(feature = "next", feature = "broken"), path = "demo_changed.rs")]
mod demo_state;
mod events;
mod files;
mod handing;
mod hwlat;
mod kexec;
mod kho_test;
mod latency;
mod machine;
mod memory;
mod power;
mod ramtrace;
mod report;
mod stress;
mod task;
mod terminal;
mod tracing;
mod user;

/// What `uname -r` would say: it stands in the banner, in `/proc/version`, and crosses as the previous release.
const VERSION: &str = if cfg!(feature = "next") {
    concat!(env!("CARGO_PKG_VERSION"), "-next")
} else if cfg!(feature = "broken") {
    concat!(env!("CARGO_PKG_VERSION"), "-broken")
} else {
    env!("CARGO_PKG_VERSION")
};

#[cfg(all(feature = "next", feature = "broken"))]
compile_error!("a kernel is one variant: `next` or `broken`");

/// The rest of the start, on the kernel's own page tables and stack, with a heap.
fn run() -> ! {
    machine::cpu::init();
    report::init();
    terminal::early_init();
    let received = handing::receive();
    memory::init(&received);
    handing::restore(received);
    files::check_cmdline();
    user::init();
    task::init();
    machine::start_interrupts();
    machine::smp::start_others();
    hwlat::start();
    ramtrace::start();
    terminal::start();
    task::idle_loop()
}
