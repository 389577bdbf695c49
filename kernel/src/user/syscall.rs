//! A system call: from the registers to the events and to what it does, and back.

use super::calls;
use crate::events;
use crate::machine::traps::Frame;
use kernel::ring3::abi::*;
use x86_64::instructions::interrupts;

/// Does the call that a process's registers ask for. Interrupts are off, and off again afterwards.
pub fn handle(frame: &mut Frame) {
    interrupts::enable();
    let number = frame.rax;
    let args = [
        frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9,
    ];
    events::sys_enter(number as i64, args);
    enter(number, args);
    let result = match calls::call(number, args) {
        Ok(value) => value as i64,
        Err(errno) => -i64::from(errno.number()),
    };
    frame.rax = result as u64;
    // As in Linux, where it does not come back.
    if number != EXIT {
        exit(number, result);
        events::sys_exit(number as i64, result);
    }
    interrupts::disable();
}

/// The event of one call's start.
fn enter(number: u64, [a, b, c, d, e, f]: [u64; 6]) {
    let nr = number as i32;
    match number {
        READ => events::sys_enter_read(nr, a, b, c),
        WRITE => events::sys_enter_write(nr, a, b, c),
        OPEN => events::sys_enter_open(nr, a, b, c),
        CLOSE => events::sys_enter_close(nr, a),
        MMAP => events::sys_enter_mmap(nr, a, b, c, d, e, f),
        MUNMAP => events::sys_enter_munmap(nr, a, b),
        IOCTL => events::sys_enter_ioctl(nr, a, b, c),
        SCHED_YIELD => events::sys_enter_sched_yield(nr),
        NANOSLEEP => events::sys_enter_nanosleep(nr, a, b),
        GETPID => events::sys_enter_getpid(nr),
        EXIT => events::sys_enter_exit(nr, a),
        WAIT4 => events::sys_enter_wait4(nr, a, b, c, d),
        KILL => events::sys_enter_kill(nr, a, b),
        GETPPID => events::sys_enter_getppid(nr),
        SCHED_SETAFFINITY => events::sys_enter_sched_setaffinity(nr, a, b, c),
        SCHED_GETAFFINITY => events::sys_enter_sched_getaffinity(nr, a, b, c),
        CLOCK_GETTIME => events::sys_enter_clock_gettime(nr, a, b),
        SPAWN => events::sys_enter_spawn(nr, a, b, c),
        _ => {}
    }
}

/// The event of its end. (That of `exit` is there and never comes.)
fn exit(number: u64, result: i64) {
    let nr = number as i32;
    match number {
        READ => events::sys_exit_read(nr, result),
        WRITE => events::sys_exit_write(nr, result),
        OPEN => events::sys_exit_open(nr, result),
        CLOSE => events::sys_exit_close(nr, result),
        MMAP => events::sys_exit_mmap(nr, result),
        MUNMAP => events::sys_exit_munmap(nr, result),
        IOCTL => events::sys_exit_ioctl(nr, result),
        SCHED_YIELD => events::sys_exit_sched_yield(nr, result),
        NANOSLEEP => events::sys_exit_nanosleep(nr, result),
        GETPID => events::sys_exit_getpid(nr, result),
        EXIT => events::sys_exit_exit(nr, result),
        WAIT4 => events::sys_exit_wait4(nr, result),
        KILL => events::sys_exit_kill(nr, result),
        GETPPID => events::sys_exit_getppid(nr, result),
        SCHED_SETAFFINITY => events::sys_exit_sched_setaffinity(nr, result),
        SCHED_GETAFFINITY => events::sys_exit_sched_getaffinity(nr, result),
        CLOCK_GETTIME => events::sys_exit_clock_gettime(nr, result),
        SPAWN => events::sys_exit_spawn(nr, result),
        _ => {}
    }
}
