//! What the kernel and user programs agree on: numbers and layouts of the system calls.
//!
//! Constants and plain structs only, and nothing but `core`: `user/` compiles this very file with `#[path]`. Where Linux has
//! the call, number, arguments, flags and layout are those of Linux on x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`,
//! `include/uapi`), so that tools for Linux traces name it right. Calls that only Baton has are numbered from
//! [`OWN_CALLS`] on, where Linux has none.
//!
//! A call: number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9, then `syscall`. RAX comes back with the result, or with
//! a negated error number (-4095 to -1); RCX and R11 are lost, all other registers stay.

/// `read(fd, buf, count)`.
pub const READ: u64 = 0;
/// `write(fd, buf, count)`.
pub const WRITE: u64 = 1;
/// `open(filename, flags, mode)`; the mode is ignored.
pub const OPEN: u64 = 2;
/// `close(fd)`.
pub const CLOSE: u64 = 3;
/// `mmap(addr, len, prot, flags, fd, off)`; the address is a hint that is not taken.
pub const MMAP: u64 = 9;
/// `munmap(addr, len)`.
pub const MUNMAP: u64 = 11;
/// `ioctl(fd, cmd, arg)`.
pub const IOCTL: u64 = 16;
/// `sched_yield()`.
pub const SCHED_YIELD: u64 = 24;
/// `nanosleep(rqtp, rmtp)`.
pub const NANOSLEEP: u64 = 35;
/// `getpid()`.
pub const GETPID: u64 = 39;
/// `exit(error_code)`.
pub const EXIT: u64 = 60;
/// `wait4(upid, stat_addr, options, ru)`; `ru` has to be null.
pub const WAIT4: u64 = 61;
/// `kill(pid, sig)`; each signal but 0 ends the process.
pub const KILL: u64 = 62;
/// `getppid()`.
pub const GETPPID: u64 = 110;
/// `sched_setaffinity(pid, len, user_mask_ptr)`: on which CPUs the caller runs, a bit each. `pid` is 0 or its own.
pub const SCHED_SETAFFINITY: u64 = 203;
/// `sched_getaffinity(pid, len, user_mask_ptr)`; the number of bytes that the mask has.
pub const SCHED_GETAFFINITY: u64 = 204;
/// `clock_gettime(which_clock, tp)`.
pub const CLOCK_GETTIME: u64 = 228;

/// The first number of Baton's own calls. Linux's x86-64 table ends below 1024.
pub const OWN_CALLS: u64 = 1024;
/// `spawn(filename, argv, count)`: starts a program as a child of the caller, with its files 0, 1 and 2. `argv` is an array of
/// `count` [`Text`]s, the first of which is the program's own name. Returns the child's pid.
pub const SPAWN: u64 = OWN_CALLS;

/// Bytes of a user program's: an argument of [`SPAWN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Text {
    /// Address of the first byte.
    pub addr: u64,
    /// Number of bytes, with no terminator among them.
    pub len: u64,
}

/// The most arguments of a program, its name among them.
pub const MAX_ARGS: usize = 64;
/// The most bytes that they have together, with a terminator each.
pub const MAX_ARG_BYTES: usize = 16 * 1024;

/// Linux's `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeSpec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanos: i64,
}

/// Nanoseconds since the machine's reset (over all kexecs), for [`CLOCK_GETTIME`]: the time of the trace. The only clock there is, so that
/// `CLOCK_REALTIME` (0) is refused.
pub const CLOCK_MONOTONIC: u64 = 1;

/// `open`: for reading.
pub const O_RDONLY: u64 = 0;
/// `open`: for writing.
pub const O_WRONLY: u64 = 1;
/// `open`: for both.
pub const O_RDWR: u64 = 2;
/// `open`: the bits that say for what.
pub const O_ACCMODE: u64 = 3;
/// `open`: the file is made where there is none.
pub const O_CREAT: u64 = 0o100;
/// `open`: what was in the file goes.
pub const O_TRUNC: u64 = 0o1000;
/// `open`: writes go to the end. They always do: files here have no writing position.
pub const O_APPEND: u64 = 0o2000;
/// `open`: a read that would wait answers `EAGAIN`.
pub const O_NONBLOCK: u64 = 0o4000;

/// `mmap`: pages can be read.
pub const PROT_READ: u64 = 1;
/// `mmap`: pages can be written.
pub const PROT_WRITE: u64 = 2;
/// `mmap`: pages can be executed.
pub const PROT_EXEC: u64 = 4;
/// `mmap`: the pages are the file's own.
pub const MAP_SHARED: u64 = 1;
/// `mmap`: the pages are the process's own.
pub const MAP_PRIVATE: u64 = 2;
/// `mmap`: exactly at this address; refused, as nothing here needs it.
pub const MAP_FIXED: u64 = 0x10;
/// `mmap`: zeroed memory, of no file.
pub const MAP_ANONYMOUS: u64 = 0x20;
/// `mmap`: all pages are there at once.
pub const MAP_POPULATE: u64 = 0x8000;

/// `write`: so many bytes come to a pipe or to the console in one piece, with nothing of other writers in between.
pub const PIPE_BUF: usize = 4096;

/// `wait4`: answer 0 at once where no child has ended.
pub const WNOHANG: u64 = 1;

/// Size of a page in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// What a user address is at least: lower ones are never mapped, so that null pointers fault.
pub const USER_START: u64 = 0x1_0000;
/// What a user address is less than. The last page of the lower half is left out: a `syscall` instruction at its very end
/// would return to a non-canonical address, at which `sysret` faults in ring 0 on Intel's CPUs.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Signals that end processes here, by Linux's numbers. There are no handlers.
pub mod signal {
    /// Ctrl-c.
    pub const INT: i32 = 2;
    /// An instruction that is none.
    pub const ILL: i32 = 4;
    /// Single step, breakpoint.
    pub const TRAP: i32 = 5;
    /// The program gave up (its panic handler exits with 128 plus this).
    pub const ABRT: i32 = 6;
    /// A page that its file has no bytes for, an unaligned access.
    pub const BUS: i32 = 7;
    /// Division by zero.
    pub const FPE: i32 = 8;
    /// Ended by force: by a person, by a kexec, or since memory ran out.
    pub const KILL: i32 = 9;
    /// An address that is not the process's.
    pub const SEGV: i32 = 11;
    /// Nobody reads what it writes.
    pub const PIPE: i32 = 13;
    /// Asked to end.
    pub const TERM: i32 = 15;
}

/// The status that `wait4` reports for a process that called `exit(code)` (Linux's encoding).
pub const fn exited(code: i32) -> i32 {
    (code & 0xff) << 8
}

/// The status that `wait4` reports for a process that a signal ended.
pub const fn signalled(signal: i32) -> i32 {
    signal & 0x7f
}

/// What a shell makes of such a status: the exit code, or 128 plus the signal.
pub const fn shell_status(status: i32) -> i32 {
    match status & 0x7f {
        0 => status >> 8 & 0xff,
        signal => 128 + signal,
    }
}
