//! Does what a program must not do, one thing a run, for the tests: the kernel has to stay, whatever it is.
#![no_std]
#![no_main]

use core::arch::asm;
use user::abi::*;
use user::{Args, Error, eprintln, println, sys};

user::program!(main);

/// One or a few instructions after which the process should be gone.
macro_rules! deed {
    ($($asm:tt)*) => {
        |_| {
            // SAFETY: none; the kernel has to end the process here.
            unsafe { asm!($($asm)*) };
            println!("went on");
            0
        }
    };
}

/// A name, and what is done under it. What comes back did not end the process.
type Deed = (&'static str, fn(Args) -> i32);

const DEEDS: &[Deed] = &[
    ("read-kernel", |_| read(0xffff_8000_0000_1000)),
    ("read-kernel-text", |_| read(0xffff_ffff_8000_1000)),
    ("write-kernel", |_| write(0xffff_8000_0000_1000)),
    ("read-null", |_| read(0)),
    ("read-noncanonical", |_| read(0x8000_0000_0000_0000)),
    ("read-last-page", |_| read(USER_END)),
    ("write-text", |_| write(main as *const () as u64)),
    ("jump-null", |_| jump(0)),
    ("jump-wrong", |_| jump(0xdead_0000)),
    ("jump-kernel", |_| jump(0xffff_ffff_8000_1000)),
    ("jump-noncanonical", |_| jump(0x8000_0000_0000)),
    ("jump-data", |_| {
        static DATA: [u64; 2] = [0xc3c3_c3c3_c3c3_c3c3; 2];
        jump(&raw const DATA as u64)
    }),
    ("jump-stack", |_| {
        let code = [0xc3c3_c3c3_c3c3_c3c3u64; 2];
        jump(&raw const code as u64)
    }),
    (
        "divide",
        deed!("xor ecx, ecx", "mov eax, 1", "cdq", "div ecx", out("eax") _, out("ecx") _, out("edx") _),
    ),
    ("undefined", deed!("ud2")),
    ("breakpoint", deed!("int3")),
    ("overflow-gate", deed!("int 4")),
    ("page-fault-gate", deed!("int 14")),
    ("old-syscall-gate", deed!("int 0x80")),
    ("sysenter", deed!("sysenter")),
    (
        "single-step",
        deed!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"),
    ),
    ("sse", deed!(".byte 0x66, 0x0f, 0xef, 0xc0")),
    ("x87", deed!(".byte 0xd9, 0xee")),
    ("halt", deed!("hlt")),
    ("interrupts-off", deed!("cli")),
    (
        "port",
        deed!("mov dx, 0x3f8", "in al, dx", out("al") _, out("dx") _),
    ),
    (
        "msr",
        deed!("mov ecx, 0xc0000082", "rdmsr", out("eax") _, out("ecx") _, out("edx") _),
    ),
    ("cr3", deed!("mov rax, cr3", out("rax") _)),
    (
        "wrgsbase",
        deed!("mov rax, 0xffff800000000000", ".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8", out("rax") _),
    ),
    ("swapgs", deed!("swapgs")),
    (
        "kernel-segment",
        deed!("mov eax, 0x10", "mov ss, ax", out("eax") _),
    ),
    (
        "iret-to-ring-0",
        deed!(
            "push 0x10",
            "push rsp",
            "pushfq",
            "push 8",
            "push 0",
            "iretq"
        ),
    ),
    (
        "lose-the-stack",
        deed!("mov rsp, 0xffff800000001000", "push rax"),
    ),
    (
        "noncanonical-stack",
        deed!("mov rsp, 0x8000000000000000", "push rax"),
    ),
    ("recurse", |_| recurse(1) as i32),
    ("panic", |_| panic!("on purpose")),
    ("syscall-without-a-stack", |_| syscall_without_a_stack()),
    ("syscall-with-flags", |_| syscall_with_flags()),
    ("bad-pointers", |_| bad_pointers()),
    ("bad-calls", |_| bad_calls()),
    ("fuzz", fuzz),
    ("fork-bomb", fork_bomb),
    ("map-flood", |_| map_flood()),
    ("eat-memory", |_| eat_memory()),
    ("file-flood", |_| file_flood()),
    ("exit-7", |_| 7),
    ("orphan", |_| orphan()),
    ("spawn", spawn_many),
];

fn main(args: Args) -> i32 {
    let wanted = args.get(1).unwrap_or_default();
    if wanted == "list" {
        for (name, _) in DEEDS {
            println!("{name}");
        }
        return 0;
    }
    match DEEDS.iter().find(|(name, _)| *name == wanted) {
        Some((_, deed)) => deed(args),
        None => {
            eprintln!("misbehave: {wanted:?} is no misdeed; `list` lists them");
            2
        }
    }
}

fn read(address: u64) -> i32 {
    // SAFETY: none; the kernel has to end the process here.
    let value = unsafe { (address as *const u64).read_volatile() };
    println!("read {value:#x}");
    0
}

fn write(address: u64) -> i32 {
    // SAFETY: none; the kernel has to end the process here.
    unsafe { (address as *mut u64).write_volatile(0x6666) };
    println!("written");
    0
}

fn jump(address: u64) -> i32 {
    // SAFETY: none; the kernel has to end the process here.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("C")) };
    println!("came back");
    0
}

#[inline(never)]
#[allow(
    unconditional_recursion,
    reason = "it is what the stack's guard is for"
)]
fn recurse(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[depth as usize % 64]
}

/// The kernel must not use the stack pointer that a process has at a system call.
fn syscall_without_a_stack() -> i32 {
    for stack in [
        0u64,
        8,
        0xffff_8000_0000_1000,
        0x8000_0000_0000_0000,
        u64::MAX,
    ] {
        let pid: u64;
        // SAFETY: the stack pointer is put back before anything uses the stack.
        unsafe {
            asm!(
                "mov r12, rsp",
                "mov rsp, {stack}",
                "syscall",
                "mov rsp, r12",
                stack = in(reg) stack,
                inlateout("rax") GETPID => pid,
                out("r12") _,
                out("rcx") _,
                out("r11") _,
            );
        }
        if pid != sys::getpid() as u64 {
            println!("with the stack at {stack:#x}: pid {pid}");
            return 1;
        }
    }
    println!("good");
    0
}

/// Direction, nested task, alignment check: flags that are a process's own business, and not the kernel's.
fn syscall_with_flags() -> i32 {
    for flags in [0x400u64, 0x4000, 0x4_0000, 0x20_0000] {
        let (pid, after): (u64, u64);
        // SAFETY: the flags are put back at once.
        unsafe {
            asm!(
                "pushfq",
                "pushfq",
                "or [rsp], {flags}",
                "popfq",
                "syscall",
                "pushfq",
                "pop {after}",
                "popfq",
                flags = in(reg) flags,
                after = lateout(reg) after,
                inlateout("rax") GETPID => pid,
                out("rcx") _,
                out("r11") _,
            );
        }
        if pid != sys::getpid() as u64 || after & flags != flags {
            println!("with flags {flags:#x}: pid {pid}, flags {after:#x}");
            return 1;
        }
    }
    println!("good");
    0
}

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
fn bad_pointers() -> i32 {
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
fn bad_calls() -> i32 {
    let mut wrong = 0;
    let mut expect = |name: &str, result: Result<u64, Error>, number: i32| {
        if result != Err(Error(number)) {
            println!("{name}: {result:?} and not {:?}", Error(number));
            wrong += 1;
        }
    };
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
fn fuzz(args: Args) -> i32 {
    let mut state = args
        .get(2)
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1)
        .max(1);
    const CALLS: [u64; 14] = [
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

/// Each child does the same, until the kernel says no; then all wait for their children. Prints nothing but the first one's
/// refusal: hundreds of lines help nobody.
fn fork_bomb(args: Args) -> i32 {
    let first = args.get(2).is_none();
    let mut children = 0;
    let refused = loop {
        match sys::spawn("/boot/bin/misbehave", &["misbehave", "fork-bomb", "child"]) {
            Ok(_) => children += 1,
            Err(error) => break error,
        }
    };
    while sys::wait(-1).is_ok() {}
    if first {
        println!("after {children} children of this one: {refused}");
    }
    0
}

fn map_flood() -> i32 {
    let mut maps = 0;
    loop {
        match sys::mmap_anonymous(4096, PROT_READ) {
            Ok(_) => maps += 1,
            Err(error) => {
                println!("after {maps} mappings: {error}");
                return 0;
            }
        }
    }
}

/// Touches memory until the kernel has no more for it.
fn eat_memory() -> i32 {
    let mut bytes = 64 << 20;
    loop {
        match sys::mmap_anonymous(bytes, PROT_READ | PROT_WRITE) {
            Ok(at) => {
                for page in 0..bytes / 4096 {
                    // SAFETY: mapped just now; the kernel may end the process here.
                    unsafe { at.add(page * 4096).write_volatile(1) };
                }
            }
            Err(_) if bytes > 4096 => bytes /= 2,
            Err(error) => {
                println!("all memory eaten: {error}");
                return 0;
            }
        }
    }
}

fn file_flood() -> i32 {
    let mut files = 0;
    loop {
        match sys::open("/proc/version", O_RDONLY) {
            Ok(_) => files += 1,
            Err(error) => {
                println!("after {files} files: {error}");
                return 0;
            }
        }
    }
}

/// Starts as many children as the first argument says, one after the other, each of which exits with a status of its own.
fn spawn_many(args: Args) -> i32 {
    let count = args
        .get(2)
        .and_then(|count| count.parse::<u32>().ok())
        .unwrap_or(1);
    for _ in 0..count {
        let ended = sys::spawn("/boot/bin/misbehave", &["misbehave", "exit-7"])
            .and_then(|child| Ok((child, sys::wait(child)?)));
        match ended {
            Ok((child, (pid, status))) if child == pid && status == exited(7) => {}
            other => {
                println!("{other:?}");
                return 1;
            }
        }
    }
    println!("{count} children, all with their own status");
    0
}

/// Leaves a child behind.
fn orphan() -> i32 {
    match sys::spawn("/boot/bin/spin", &["spin", "1"]) {
        Ok(pid) => {
            println!("child {pid} stays");
            0
        }
        Err(error) => {
            println!("{error}");
            1
        }
    }
}
