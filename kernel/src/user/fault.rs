//! Exceptions of user mode: a page comes in, or the process ends. And page faults of the kernel at user addresses.

use super::copy;
use super::process::{Process, with_current};
use crate::machine::percpu;
use crate::machine::traps::Frame;
use crate::{events, latency};
use core::fmt;
use kernel::ring3::abi::{USER_END, signal};
use kernel::ring3::space::{Access, Refused};
use x86_64::registers::control::Cr2;
use x86_64::registers::rflags::RFlags;

const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// Handles an exception where it is a process's, or a page fault at which the kernel copies from or to one. False: it is the
/// kernel's own.
///
/// Called with interrupts off; on for the time that it takes to bring a page in.
pub fn exception(frame: &mut Frame) -> bool {
    let from_user = frame.cs & 3 != 0;
    match frame.vector {
        PAGE_FAULT if from_user => user_page_fault(frame),
        PAGE_FAULT => kernel_page_fault(frame),
        // These are nobody's fault.
        DOUBLE_FAULT | MACHINE_CHECK => false,
        _ if from_user => {
            let (signal, why) = cause(frame.vector);
            end_by(frame, signal, format_args!("{why}"))
        }
        _ => false,
    }
}

/// The signal that Linux has for an exception, and what it means.
fn cause(vector: u64) -> (i32, &'static str) {
    match vector {
        0 => (signal::FPE, "division by zero, or a quotient too large"),
        1 => (signal::TRAP, "a single step"),
        3 => (signal::TRAP, "a breakpoint"),
        4 => (signal::SEGV, "an overflow trap"),
        6 => (
            signal::ILL,
            "the bytes there are no instruction of this CPU, or of ring 3",
        ),
        7 => (
            signal::ILL,
            "a floating-point or vector instruction, which programs here have not",
        ),
        11 => (signal::BUS, "a segment that is not there"),
        12 => (signal::BUS, "a stack access at a non-canonical address"),
        13 => (
            signal::SEGV,
            "a privileged instruction, a gate or selector that is the kernel's, or a non-canonical address",
        ),
        9 | 16 | 19 => (signal::FPE, "a floating-point error"),
        17 => (signal::BUS, "an unaligned access"),
        _ => (signal::SEGV, "an exception that no program should raise"),
    }
}

/// The names of the signals that exceptions and the kernel send.
pub fn signal_name(number: i32) -> &'static str {
    match number {
        signal::INT => "SIGINT",
        signal::ILL => "SIGILL",
        signal::TRAP => "SIGTRAP",
        signal::ABRT => "SIGABRT",
        signal::BUS => "SIGBUS",
        signal::FPE => "SIGFPE",
        signal::KILL => "SIGKILL",
        signal::SEGV => "SIGSEGV",
        signal::PIPE => "SIGPIPE",
        signal::TERM => "SIGTERM",
        _ => "a signal",
    }
}

/// Says why the running process ends, and lets it: at the return to user mode.
fn end_by(frame: &Frame, signal: i32, why: fmt::Arguments<'_>) -> bool {
    with_current(|process| {
        let name = process.path().rsplit('/').next().unwrap_or_default();
        crate::warning!(
            "{name}[{}]: ended by {} at {:#x}: {why}",
            process.pid(),
            signal_name(signal),
            frame.rip,
        );
        process.set_signal(signal);
    })
    .is_some()
}

/// There was a page.
const PRESENT: u64 = 1 << 0;
/// A bit that must be zero in the page tables was set: they are damaged.
const RESERVED: u64 = 1 << 3;

fn user_page_fault(frame: &mut Frame) -> bool {
    let addr = Cr2::read_raw();
    events::page_fault_user(addr, frame.rip, frame.error);
    if frame.error & RESERVED != 0 {
        return false;
    }
    let access = Access::of_error_code(frame.error);
    latency::enable_interrupts();
    let brought = with_current(|process| {
        process.count_fault();
        process.fault(addr, access, frame.error & PRESENT != 0)
    });
    let handled = match brought {
        Some(Ok(())) => true,
        Some(Err(refused)) => refuse(frame, addr, access, refused),
        None => false,
    };
    latency::disable_interrupts();
    handled
}

fn refuse(frame: &Frame, addr: u64, access: Access, refused: Refused) -> bool {
    match refused {
        Refused::NoArea => end_by(
            frame,
            signal::SEGV,
            format_args!(
                "{access} {addr:#x}, where {}",
                if addr < USER_END {
                    "the process has nothing"
                } else {
                    "no process has anything"
                }
            ),
        ),
        Refused::Rights => end_by(
            frame,
            signal::SEGV,
            format_args!("{access} {addr:#x}, which does not allow it"),
        ),
        Refused::NoMemory => end_by(
            frame,
            signal::KILL,
            format_args!("there is no memory left for processes"),
        ),
    }
}

/// The kernel touched an address of the lower half: in the copy routines it may, anywhere else it is a mistake.
fn kernel_page_fault(frame: &mut Frame) -> bool {
    let addr = Cr2::read_raw();
    if addr >= USER_END {
        return false;
    }
    let Some(recovery) = copy::recovery(frame.rip) else {
        return false;
    };
    events::page_fault_kernel(addr, frame.rip, frame.error);
    // A page can be brought in only where the copying code may sleep.
    let may_sleep =
        frame.rflags & RFlags::INTERRUPT_FLAG.bits() != 0 && percpu::preempt_count() == 0;
    let access = Access::of_error_code(frame.error);
    let brought = may_sleep && {
        latency::enable_interrupts();
        let result = with_current(|process: &Process| {
            process.fault(addr, access, frame.error & PRESENT != 0)
        });
        latency::disable_interrupts();
        result == Some(Ok(()))
    };
    if !brought {
        frame.rip = recovery;
    }
    true
}
