//! Does what a program must not do, one thing a run, for the tests: the kernel has to stay, whatever it is.
#![no_std]
#![no_main]

extern crate alloc;

#[path = "misbehave/calls.rs"]
mod calls;
#[path = "misbehave/floods.rs"]
mod floods;

use alloc::format;
use alloc::string::String;
use calls::{bad_calls, bad_pointers, fuzz};
use core::arch::asm;
use floods::{
    available, close_output, crowd, eat_memory, file_flood, fork_bomb, map_flood, orphan,
    share_input, spawn_many, tmp_files, tmp_flood,
};
use user::abi::*;
use user::{Args, eprintln, println, sys};

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

/// An argument of a deed.
enum Word {
    Number,
    /// This one and no other.
    Only(&'static str),
}

/// What a deed takes.
struct Takes {
    deed: &'static str,
    /// As `list` shows it. What a deed tells its own children alone is not shown.
    shown: &'static str,
    words: &'static [Word],
    /// How many of them cannot be left out.
    needed: usize,
}

/// Tells a child that it is one.
const CHILD: &str = "child";

/// The deeds that take arguments.
const TAKES: &[Takes] = &[
    takes("fuzz", "[SEED]", &[Word::Number], 0),
    takes("fork-bomb", "", &[Word::Only(CHILD), Word::Number], 0),
    takes("crowd", "", &[Word::Only(CHILD)], 0),
    takes("share-input", "", &[Word::Only(CHILD)], 0),
    takes(
        "tmp-files",
        "[COUNT [written]]",
        &[Word::Number, Word::Only("written")],
        0,
    ),
    takes("frame-pointer", "SLOT", &[Word::Number], 1),
    takes("spawn", "[COUNT]", &[Word::Number], 0),
];

const fn takes(
    deed: &'static str,
    shown: &'static str,
    words: &'static [Word],
    needed: usize,
) -> Takes {
    Takes {
        deed,
        shown,
        words,
        needed,
    }
}

/// What is to be known of a deed before it is done.
const NOTES: &[(&str, &str)] = &[
    ("fork-bomb", "goes on for 5 s, 256 processes at a time"),
    (
        "crowd",
        "stays until ctrl-c, with as many children as there can be",
    ),
    (
        "close-output",
        "goes on without an output, until ctrl-c; the report is its child's",
    ),
    (
        "frame-pointer",
        "SLOT is that of its kernel stack; computes until ctrl-c",
    ),
];

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
    ("crowd", crowd),
    ("map-flood", |_| map_flood()),
    ("eat-memory", |_| eat_memory()),
    ("available", |_| available()),
    ("file-flood", |_| file_flood()),
    ("tmp-flood", |_| tmp_flood()),
    ("tmp-files", tmp_files),
    ("close-output", |_| close_output()),
    ("share-input", share_input),
    ("frame-pointer", frame_pointer),
    ("exit-7", |_| 7),
    ("orphan", |_| orphan()),
    ("spawn", spawn_many),
];

fn main(args: Args) -> i32 {
    let Some(wanted) = args.get(1) else {
        eprintln!("usage: misbehave MISDEED [ARGUMENT...]; `misbehave list` lists them");
        return 2;
    };
    let deed = DEEDS.iter().find(|(name, _)| *name == wanted);
    if deed.is_none() && wanted != "list" {
        eprintln!("misbehave: {wanted:?} is no misdeed; `list` lists them");
        return 2;
    }
    if let Err(why) = check(wanted, args) {
        eprintln!("misbehave: {wanted}: {why}");
        return 2;
    }
    match deed {
        Some((_, deed)) => deed(args),
        None => {
            list();
            0
        }
    }
}

/// The deeds with their arguments.
fn list() {
    for (name, _) in DEEDS {
        let mut line = String::from(*name);
        if let Some(takes) = TAKES.iter().find(|takes| takes.deed == *name)
            && !takes.shown.is_empty()
        {
            line = line + " " + takes.shown;
        }
        if let Some((_, note)) = NOTES.iter().find(|(of, _)| of == name) {
            line = line + "  (" + note + ")";
        }
        println!("{line}");
    }
}

/// Whether the arguments are those of `name`; if not, why.
fn check(name: &str, args: Args) -> Result<(), String> {
    let takes = TAKES.iter().find(|takes| takes.deed == name);
    let (shown, words, needed) = takes.map_or(("", &[][..], 0), |takes| {
        (takes.shown, takes.words, takes.needed)
    });
    for n in 0..args.len().saturating_sub(2) {
        // What is no UTF-8 is nobody's argument.
        let given = args.get(2 + n).unwrap_or("\u{fffd}");
        let why = match words.get(n) {
            Some(Word::Number) if given.parse::<u64>().is_ok() => continue,
            Some(Word::Number) => "a number is wanted",
            Some(Word::Only(word)) if given == *word => continue,
            _ if shown.is_empty() => return Err(format!("{given:?}: it takes no arguments")),
            _ => "one argument too many, or a wrong one",
        };
        return Err(format!("{given:?}: {why}: {name} {shown}"));
    }
    match args.len() < 2 + needed {
        true => Err(format!("an argument is missing: {name} {shown}")),
        false => Ok(()),
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

/// Computes for good with a frame pointer that leads into the kernel: to this process's own registers, as an interrupt of ring 3 saves
/// them at the top of the kernel stack. There R14 and R13 look like a frame. The argument is the task's slot.
fn frame_pointer(args: Args) -> i32 {
    /// `TASK_STACKS` and `TASK_STACK_STRIDE` of `kernel::layout`.
    const STACKS: u64 = 0xffff_c040_0000_0000;
    const STRIDE: u64 = 0x4_0000;
    /// Words of `machine::traps::Frame`, of which R15, R14 and R13 are the first.
    const FRAME: u64 = 22;
    // It was looked at.
    let slot = args.get(2).and_then(|slot| slot.parse::<u64>().ok());
    let slot = slot.unwrap_or_default();
    let frame = STACKS + (slot + 1) * STRIDE - FRAME * 8;
    // SAFETY: registers alone are changed, and nothing comes after it.
    unsafe {
        asm!(
            "mov rbp, {rbp}",
            "xor r14d, r14d",
            "mov r13d, 0x0badc0de",
            "2:",
            "pause",
            "jmp 2b",
            rbp = in(reg) frame + 8,
            options(noreturn)
        )
    }
}
