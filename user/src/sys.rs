//! The system calls. `abi` says what each one is.

use crate::abi::*;
use crate::error::Error;
use core::mem::MaybeUninit;

/// A system call as it is. The result is the kernel's: -4095 to -1 are errors.
///
/// # Safety
/// What the call does with these arguments must be sound: `munmap` of memory in use is not, `read` into what is not the
/// caller's neither. Arguments that the kernel refuses are.
pub unsafe fn raw(number: u64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the caller's promise. The kernel changes RAX, RCX and R11, and memory as the call says.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

fn checked(result: i64) -> Result<u64, Error> {
    if (-4095..0).contains(&result) {
        Err(Error(-result as i32))
    } else {
        Ok(result as u64)
    }
}

/// A call whose arguments are sound, whatever the kernel makes of them.
macro_rules! call {
    ($number:expr $(, $arg:expr)* $(,)?) => {{
        let given: &[u64] = &[$($arg as u64),*];
        let mut args = [0u64; 6];
        args[..given.len()].copy_from_slice(given);
        // SAFETY: numbers, or addresses of values that live over the call and are the kernel's to use so.
        checked(unsafe { raw($number, args) })
    }};
}

/// Reads up to `to.len()` bytes of a file; 0 is the end.
pub fn read(fd: i32, to: &mut [u8]) -> Result<usize, Error> {
    call!(READ, fd, to.as_mut_ptr(), to.len()).map(|n| n as usize)
}

/// Writes up to `from.len()` bytes to a file, and says how many.
pub fn write(fd: i32, from: &[u8]) -> Result<usize, Error> {
    call!(WRITE, fd, from.as_ptr(), from.len()).map(|n| n as usize)
}

/// Writes all bytes.
pub fn write_all(fd: i32, mut from: &[u8]) -> Result<(), Error> {
    while !from.is_empty() {
        let written = write(fd, from)?;
        from = &from[written..];
    }
    Ok(())
}

/// Opens a file by its absolute path, with flags such as [`O_RDONLY`].
pub fn open(path: &str, flags: u64) -> Result<i32, Error> {
    let mut text = [0u8; 4097];
    let Some(room) = text.get_mut(..path.len()).filter(|_| path.len() < 4097) else {
        return Err(trace::errno::Errno::ENAMETOOLONG.into());
    };
    room.copy_from_slice(path.as_bytes());
    call!(OPEN, text.as_ptr(), flags, 0).map(|fd| fd as i32)
}

/// Closes a file.
pub fn close(fd: i32) -> Result<(), Error> {
    call!(CLOSE, fd).map(drop)
}

/// Zeroed memory of the process's own.
pub fn mmap_anonymous(bytes: usize, prot: u64) -> Result<*mut u8, Error> {
    call!(
        MMAP,
        0,
        bytes,
        prot,
        MAP_PRIVATE | MAP_ANONYMOUS,
        u64::MAX,
        0
    )
    .map(|at| at as *mut u8)
}

/// A file's pages, from `offset` bytes on; `flags` such as [`MAP_SHARED`].
pub fn mmap(bytes: usize, prot: u64, flags: u64, fd: i32, offset: u64) -> Result<*mut u8, Error> {
    call!(MMAP, 0, bytes, prot, flags, fd, offset).map(|at| at as *mut u8)
}

/// Undoes a mapping, or a part of one.
///
/// # Safety
/// Nothing uses the memory any more.
pub unsafe fn munmap(at: *mut u8, bytes: usize) -> Result<(), Error> {
    call!(MUNMAP, at, bytes).map(drop)
}

/// A call that only this kind of file knows.
///
/// # Safety
/// Where `arg` is an address, what the call does there is sound.
pub unsafe fn ioctl(fd: i32, cmd: u32, arg: u64) -> Result<u64, Error> {
    call!(IOCTL, fd, cmd, arg)
}

/// Lets other tasks run.
pub fn sched_yield() {
    // It has no way to fail.
    let _ = call!(SCHED_YIELD);
}

/// Runs on this CPU alone from now on; what it starts does, too.
pub fn run_on(cpu: u32) -> Result<(), Error> {
    let mask = 1u64.checked_shl(cpu).unwrap_or(0);
    call!(SCHED_SETAFFINITY, 0, size_of_val(&mask), &raw const mask).map(drop)
}

/// The CPUs on which this process may run, a bit each.
pub fn cpus() -> Result<u64, Error> {
    let mut mask = 0u64;
    call!(SCHED_GETAFFINITY, 0, size_of_val(&mask), &raw mut mask)?;
    Ok(mask)
}

/// Sleeps.
pub fn sleep_nanos(nanos: u64) -> Result<(), Error> {
    let time = TimeSpec {
        seconds: (nanos / 1_000_000_000) as i64,
        nanos: (nanos % 1_000_000_000) as i64,
    };
    call!(NANOSLEEP, &raw const time, 0).map(drop)
}

/// Nanoseconds since the machine's reset, as the trace's `local` clock counts them.
pub fn now_nanos() -> u64 {
    let mut time = TimeSpec::default();
    match call!(CLOCK_GETTIME, CLOCK_MONOTONIC, &raw mut time) {
        Ok(_) => time.seconds as u64 * 1_000_000_000 + time.nanos as u64,
        Err(error) => panic!("clock_gettime: {error}"),
    }
}

/// The number of this process.
pub fn getpid() -> i32 {
    call!(GETPID).map_or(0, |pid| pid as i32)
}

/// The number of its parent; 1, the console's: that started it, or the parent has ended.
pub fn getppid() -> i32 {
    call!(GETPPID).map_or(0, |pid| pid as i32)
}

/// Ends the process.
pub fn exit(code: i32) -> ! {
    loop {
        // It has no way to fail.
        let _ = call!(EXIT, code);
    }
}

/// Starts a program as a child with this process's files 0, 1 and 2; its pid. `args` begins with the program's own name.
pub fn spawn(path: &str, args: &[&str]) -> Result<i32, Error> {
    let mut text = [0u8; 4097];
    let Some(room) = text.get_mut(..path.len()).filter(|_| path.len() < 4097) else {
        return Err(trace::errno::Errno::ENAMETOOLONG.into());
    };
    room.copy_from_slice(path.as_bytes());
    let mut texts = [const { MaybeUninit::uninit() }; MAX_ARGS];
    if args.len() > MAX_ARGS {
        return Err(trace::errno::Errno::E2BIG.into());
    }
    for (place, arg) in texts.iter_mut().zip(args) {
        place.write(Text {
            addr: arg.as_ptr() as u64,
            len: arg.len() as u64,
        });
    }
    call!(SPAWN, text.as_ptr(), texts.as_ptr(), args.len()).map(|pid| pid as i32)
}

/// Waits for the end of a child (any, where `pid` is -1): its pid, and its status as `wait4` gives it.
pub fn wait(pid: i32) -> Result<(i32, i32), Error> {
    let mut status = 0i32;
    let pid = call!(WAIT4, pid as i64, &raw mut status, 0, 0)?;
    Ok((pid as i32, status))
}

/// Ends a process; signal 0 only asks whether it is there.
pub fn kill(pid: i32, signal: i32) -> Result<(), Error> {
    call!(KILL, pid as i64, signal).map(drop)
}
