//! System calls with arguments that are wrong.

use user::abi::*;
use user::{Args, Error, println, sys};

/// A call as it is, with whatever arguments.
fn call(number: u64, args: [u64; 6]) -> Result<u64, Error> {
    // SAFETY: none is promised: the kernel has to refuse what is wrong.
    match unsafe { sys::raw(number, args) } {
        error @ -4095..0 => Err(Error(-error as i32)),
        value => Ok(value as u64),
    }
}

/// Addresses at which a process has nothing.
const BAD: [u64; 12] = [
    8,
    USER_START - 8,
    0x2000_0000,
    USER_END - 8,
    USER_END - 1,
    USER_END,
    0x7fff_ffff_ffff,
    0x8000_0000_0000,
    0xffff_8000_0000_1000,
    0xffff_ffff_8000_1000,
    u64::MAX - 7,
    u64::MAX,
];

/// Bad pointers to every system call that takes one: each has to answer EFAULT.
pub fn bad_pointers() -> i32 {
    const EFAULT: Error = Error(14);
    let file = sys::open("/proc/version", O_RDONLY).unwrap_or(-1) as u64;
    let mut wrong = 0;
    let mut tried = 0;
    let mut expect = |name: &str, address: u64, result: Result<u64, Error>| {
        tried += 1;
        if result != Err(EFAULT) {
            println!("{name} with {address:#x}: {result:?}");
            wrong += 1;
        }
    };
    let good = [0u64; 4];
    let good_text = c"/boot/bin/hello".as_ptr() as u64;
    // What is only read must not be written to either: the program's constants.
    static CONSTANT: [u8; 64] = [7; 64];
    let constant = &raw const CONSTANT as u64;
    for bad in BAD.into_iter().chain([0]) {
        expect("read", bad, call(READ, [file, bad, 8, 0, 0, 0]));
        expect("write", bad, call(WRITE, [1, bad, 8, 0, 0, 0]));
        expect("open", bad, call(OPEN, [bad, 0, 0, 0, 0, 0]));
        expect("nanosleep", bad, call(NANOSLEEP, [bad, 0, 0, 0, 0, 0]));
        expect(
            "clock_gettime",
            bad,
            call(CLOCK_GETTIME, [CLOCK_MONOTONIC, bad, 0, 0, 0, 0]),
        );
        expect(
            "sched_setaffinity",
            bad,
            call(SCHED_SETAFFINITY, [0, 8, bad, 0, 0, 0]),
        );
        expect(
            "sched_getaffinity",
            bad,
            call(SCHED_GETAFFINITY, [0, 8, bad, 0, 0, 0]),
        );
        expect(
            "spawn",
            bad,
            call(SPAWN, [bad, good.as_ptr() as u64, 0, 0, 0, 0]),
        );
        expect("spawn argv", bad, call(SPAWN, [good_text, bad, 2, 0, 0, 0]));
        let text = Text { addr: bad, len: 8 };
        expect(
            "spawn argument",
            bad,
            call(SPAWN, [good_text, &raw const text as u64, 1, 0, 0, 0]),
        );
    }
    for (name, result) in [
        (
            "read into a constant",
            call(READ, [file, constant, 8, 0, 0, 0]),
        ),
        (
            "clock_gettime into a constant",
            call(CLOCK_GETTIME, [CLOCK_MONOTONIC, constant, 0, 0, 0, 0]),
        ),
        (
            "sched_getaffinity into a constant",
            call(SCHED_GETAFFINITY, [0, 8, constant, 0, 0, 0]),
        ),
        (
            "write across the end",
            call(WRITE, [1, constant, USER_END, 0, 0, 0]),
        ),
        (
            "write that wraps",
            call(WRITE, [1, constant, u64::MAX, 0, 0, 0]),
        ),
    ] {
        expect(name, constant, result);
    }
    // A child whose status has no place to go is still waited for, as in Linux.
    for bad in BAD {
        if let Ok(child) = sys::spawn("/boot/bin/misbehave", &["misbehave", "exit-7"]) {
            let result = call(WAIT4, [child as u64, bad, 0, 0, 0, 0]);
            expect("wait4", bad, result);
        } else {
            println!("no child");
            return 1;
        }
    }
    if CONSTANT != [7; 64] {
        println!("a constant was written to");
        return 1;
    }
    println!("{tried} bad pointers, {wrong} not refused");
    i32::from(wrong > 0)
}

/// What else can be wrong about calls: each has to answer with its error, and do nothing.
pub fn bad_calls() -> i32 {
    let mut wrong = 0;
    let mut expect = |name: &str, result: Result<u64, Error>, number: i32| {
        if result != Err(Error(number)) {
            println!("{name}: {result:?} and not {:?}", Error(number));
            wrong += 1;
        }
    };
    const EPERM: i32 = 1;
    const ENOENT: i32 = 2;
    const ESRCH: i32 = 3;
    const EBADF: i32 = 9;
    const ECHILD: i32 = 10;
    const ENOMEM: i32 = 12;
    const ENODEV: i32 = 19;
    const EISDIR: i32 = 21;
    const EINVAL: i32 = 22;
    const ENOTTY: i32 = 25;
    const ENOSYS: i32 = 38;
    const E2BIG: i32 = 7;
    const ENOEXEC: i32 = 8;
    let file = sys::open("/proc/version", O_RDONLY).unwrap_or(-1) as u64;
    let byte = [0u8; 8];
    let at = byte.as_ptr() as u64;
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    for number in [5, 57, 59, 333, 1023, SPAWN + 1, u64::MAX, 1 << 63, 1 << 32] {
        expect("an unknown call", call(number, [0; 6]), ENOSYS);
    }
    for fd in [99, u64::MAX, 1 << 31] {
        expect("read", call(READ, [fd, at, 1, 0, 0, 0]), EBADF);
        expect("close", call(CLOSE, [fd, 0, 0, 0, 0, 0]), EBADF);
        expect("ioctl", call(IOCTL, [fd, 0, 0, 0, 0, 0]), EBADF);
        let map = [0, 4096, PROT_READ, MAP_SHARED, fd, 0];
        expect("mmap", call(MMAP, map), EBADF);
    }
    expect(
        "write to what is open for reading",
        call(WRITE, [file, at, 1, 0, 0, 0]),
        EBADF,
    );
    expect("ioctl", call(IOCTL, [file, 0x5220, 0, 0, 0, 0]), ENOTTY);
    expect(
        "mmap of such a file",
        call(MMAP, [0, 4096, PROT_READ, MAP_SHARED, file, 0]),
        ENODEV,
    );
    expect(
        "mmap of nothing",
        call(MMAP, [0, 0, PROT_READ, anonymous, 0, 0]),
        EINVAL,
    );
    expect(
        "mmap of all",
        call(MMAP, [0, 1 << 47, PROT_READ, anonymous, 0, 0]),
        ENOMEM,
    );
    expect(
        "mmap that wraps",
        call(MMAP, [0, u64::MAX, PROT_READ, anonymous, 0, 0]),
        ENOMEM,
    );
    expect(
        "mmap of both kinds",
        call(MMAP, [0, 4096, PROT_READ, anonymous | MAP_SHARED, 0, 0]),
        EINVAL,
    );
    expect(
        "mmap at a place",
        call(
            MMAP,
            [0x5000_0000, 4096, PROT_READ, anonymous | MAP_FIXED, 0, 0],
        ),
        EINVAL,
    );
    expect(
        "mmap to execute and write",
        call(MMAP, [0, 4096, PROT_WRITE | PROT_EXEC, anonymous, 0, 0]),
        EINVAL,
    );
    expect(
        "mmap with odd rights",
        call(MMAP, [0, 4096, 8, anonymous, 0, 0]),
        EINVAL,
    );
    expect(
        "mmap at an odd offset",
        call(MMAP, [0, 4096, PROT_READ, MAP_SHARED, file, 1]),
        EINVAL,
    );
    for (start, len) in [
        (1, 4096),
        (0x5000_0000, 0),
        (0, 4096),
        (USER_END, 4096),
        (0xffff_8000_0000_0000, 4096),
        (!4095, 4096),
        (0x5000_0000, u64::MAX),
    ] {
        expect("munmap", call(MUNMAP, [start, len, 0, 0, 0, 0]), EINVAL);
    }
    expect(
        "wait4 without children",
        call(WAIT4, [u64::MAX, 0, 0, 0, 0, 0]),
        ECHILD,
    );
    expect(
        "wait4 for no child",
        call(WAIT4, [1, 0, 0, 0, 0, 0]),
        ECHILD,
    );
    expect(
        "wait4 with odd options",
        call(WAIT4, [u64::MAX, 0, 77, 0, 0, 0]),
        EINVAL,
    );
    expect(
        "kill of nobody",
        call(KILL, [999_999, 9, 0, 0, 0, 0]),
        ESRCH,
    );
    expect(
        "kill with no signal",
        call(KILL, [sys::getpid() as u64, 65, 0, 0, 0, 0]),
        EINVAL,
    );
    expect(
        "clock_gettime of an unknown clock",
        call(CLOCK_GETTIME, [77, at, 0, 0, 0, 0]),
        EINVAL,
    );
    // A mask of no CPU, in one way or another; of others' tasks; too short for what is answered.
    let cpus = [1u64, 0, 1 << 63];
    let mask = |n: usize| &raw const cpus[n] as u64;
    let mut set = |name: &str, pid, len, mask, number| {
        expect(
            name,
            call(SCHED_SETAFFINITY, [pid, len, mask, 0, 0, 0]),
            number,
        );
    };
    set("no CPU", 0, 8, mask(1), EINVAL);
    set("a CPU that is not there", 0, 8, mask(2), EINVAL);
    set("a mask of no bytes", 0, 0, mask(0), EINVAL);
    set("the console's CPUs", 1, 8, mask(0), EPERM);
    set("nobody's CPUs", 999_999, 8, mask(0), ESRCH);
    for (len, number) in [(4, EINVAL), (12, EINVAL), (0, EINVAL)] {
        let mut answer = [0u64; 2];
        let at = &raw mut answer as u64;
        expect(
            "a short mask",
            call(SCHED_GETAFFINITY, [0, len, at, 0, 0, 0]),
            number,
        );
    }
    let bad_time = TimeSpec {
        seconds: 0,
        nanos: 1_000_000_000,
    };
    expect(
        "nanosleep",
        call(NANOSLEEP, [&raw const bad_time as u64, 0, 0, 0, 0, 0]),
        EINVAL,
    );
    let bad_time = TimeSpec {
        seconds: -1,
        nanos: 0,
    };
    expect(
        "nanosleep",
        call(NANOSLEEP, [&raw const bad_time as u64, 0, 0, 0, 0, 0]),
        EINVAL,
    );
    let open =
        |path: &core::ffi::CStr, flags| call(OPEN, [path.as_ptr() as u64, flags, 0, 0, 0, 0]);
    expect("open of nothing", open(c"/nothing", 0), ENOENT);
    expect("open of no name", open(c"", 0), ENOENT);
    expect("open of a directory", open(c"/proc", O_RDONLY), EISDIR);
    expect("open with odd flags", open(c"/proc/version", 3), EINVAL);
    let spawn =
        |path: &core::ffi::CStr, count| call(SPAWN, [path.as_ptr() as u64, at, count, 0, 0, 0]);
    expect("spawn of nothing", spawn(c"/boot/bin/nothing", 0), ENOENT);
    expect("spawn of no program", spawn(c"/boot/README", 0), ENOEXEC);
    expect("spawn of the kernel", spawn(c"/boot/kernel", 0), ENOEXEC);
    expect(
        "spawn with many arguments",
        spawn(c"/boot/bin/hello", u64::MAX),
        E2BIG,
    );
    println!("{wrong} wrong answers");
    i32::from(wrong > 0)
}

/// xorshift64: any sequence does.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Calls with random numbers and arguments, from a seed.
pub fn fuzz(args: Args) -> i32 {
    let mut state = args
        .get(2)
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1)
        .max(1);
    const CALLS: [u64; 15] = [
        READ,
        WRITE,
        OPEN,
        CLOSE,
        MMAP,
        MUNMAP,
        IOCTL,
        SCHED_YIELD,
        GETPID,
        WAIT4,
        GETPPID,
        SCHED_GETAFFINITY,
        CLOCK_GETTIME,
        SPAWN,
        SPAWN + 1,
    ];
    let page = [0u64; 8];
    for _ in 0..20_000 {
        let mut number = CALLS[random(&mut state) as usize % CALLS.len()];
        let mut values = [0; 6];
        for value in &mut values {
            *value = match random(&mut state) % 8 {
                0 => random(&mut state) % 8,
                1 => random(&mut state),
                2 => page.as_ptr() as u64,
                3 => BAD[random(&mut state) as usize % BAD.len()],
                4 => (random(&mut state) % USER_END) & !4095,
                5 => 4096 << (random(&mut state) % 20),
                6 => 0,
                _ => random(&mut state) % 100,
            };
        }
        // The output, and waiting at the input, are not what it is about. (Of a file's number 32 bits count.)
        if matches!(number, READ | WRITE | CLOSE) && (values[0] as u32) < 3 {
            number = GETPID;
        }
        // Nor is losing its own program or stack.
        let end = values[0].saturating_add(values[1].min(USER_END).next_multiple_of(4096));
        let own = |from: u64, to: u64| values[0] < to && end > from;
        if number == MUNMAP && (own(0x40_0000, 0x50_0000) || own(0x7f00_0000_0000, USER_END)) {
            number = GETPID;
        }
        let _ = call(number, values);
    }
    println!("20000 calls survived");
    0
}
