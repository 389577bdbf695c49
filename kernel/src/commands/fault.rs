//! `fault`: faults on purpose, to see the report.

use crate::task;
use alloc::format;
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::Sink;

/// What `help fault` prints.
pub const HELP: &str = "\
read, write: of an address that is not mapped; exec: jumps to data; ud: no\n\
instruction; div: by zero; gp: a non-canonical address; stack: recursion without\n\
end; int3: a breakpoint. The console task is the kernel's own, so that ends the\n\
kernel; with --task a task made for it faults, and the kernel goes on.";

/// The command.
pub fn run(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    let (args, in_task) = match args {
        ["--task", rest @ ..] => (rest, true),
        _ => (args, false),
    };
    let fault: fn() = match args {
        ["read"] => read,
        ["write"] => write,
        ["exec"] => exec,
        ["ud"] => undefined,
        ["div"] => divide,
        ["gp"] => general_protection,
        ["stack"] => || {
            overflow(0);
        },
        ["int3"] => breakpoint,
        [] => return Err(CmdError::usage("which fault?")),
        [what, ..] => return Err(CmdError::usage(format!("{what}: no such fault"))),
    };
    if !in_task {
        fault();
        return Err(CmdError::failed("the fault did not happen"));
    }
    let task = task::spawn("faulty", kernel::sched::prio::DEFAULT, fault)
        .map_err(|why| CmdError::failed(format!("no task was made: {why}")))?;
    task.join();
    Ok(())
}

/// An address that no page table of this kernel maps (kernel::layout).
const NOWHERE: u64 = 0xffff_f000_dead_beef;

#[inline(never)]
fn read() {
    // SAFETY: not safe, on purpose: it faults, and the kernel ends with a report.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) NOWHERE => _) };
}

#[inline(never)]
fn write() {
    // SAFETY: as in `read`.
    unsafe { core::arch::asm!("mov [{0}], {0}", in(reg) NOWHERE) };
}

#[inline(never)]
fn exec() {
    static DATA: [u8; 16] = [0xc3; 16];
    // SAFETY: as in `read`: constants are not executable.
    unsafe { core::arch::asm!("call {0}", in(reg) &raw const DATA as u64) };
}

#[inline(never)]
fn undefined() {
    // SAFETY: as in `read`.
    unsafe { core::arch::asm!("ud2") };
}

#[inline(never)]
fn divide() {
    // SAFETY: as in `read`.
    unsafe {
        core::arch::asm!("xor edx, edx", "mov eax, 1", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
    };
}

#[inline(never)]
fn general_protection() {
    // SAFETY: as in `read`: bit 47 and those above it differ.
    unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0x8000_0000_0000_0000u64 => _) };
}

#[inline(never)]
fn breakpoint() {
    // SAFETY: as in `read`.
    unsafe { core::arch::asm!("int3") };
}

/// Runs into the guard page under the stack.
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        return room[0];
    }
    overflow(core::hint::black_box(depth) + 1) + room[(depth % 64) as usize]
}
