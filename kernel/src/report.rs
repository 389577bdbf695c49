//! What the kernel says: its log, and the report of a fault or a panic with a symbolised backtrace.

use crate::boot::{self, paging::text_range, stacks};
use crate::machine::traps::Frame;
use crate::machine::{clock, cpu, ipi, percpu, uart};
use crate::memory::IrqMutex;
use crate::{events, power, ramtrace, task};
use core::fmt::{self, Write};
use core::hint::spin_loop;
use core::panic::PanicInfo;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use kernel::klog::{KernelLog, Level, Line};
use kernel::protocol::PANIC;
use kernel::ring3::space::Access;
use x86_64::registers::control::Cr2;
use x86_64::registers::control::Cr3;

/// Bytes that the log keeps.
pub const LOG_BYTES: usize = 128 * 1024;

static LOG: IrqMutex<KernelLog> = IrqMutex::new(KernelLog::new());
/// Messages up to this level go to the console, too.
static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(Level::Notice as u8);

/// Gives the log its room, and says which messages go to the console, too: those of a level below `loglevel=`, as in
/// Linux.
pub fn init() {
    LOG.lock().reserve(LOG_BYTES);
    if let Some(level) = boot::cmdline()
        .value("loglevel")
        .and_then(|v| v.parse::<u8>().ok())
    {
        CONSOLE_LEVEL.store(level.saturating_sub(1), Relaxed);
    }
}

/// Logs one message: to the ring that `dmesg` shows, to the trace, and to the console where it matters enough.
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    let mut line = Line::stamped(clock::nanos());
    let _ = line.write_fmt(message);
    events::console(line.as_str());
    keep(line.as_str());
    if level as u8 <= CONSOLE_LEVEL.load(Relaxed) {
        speak(&line);
    }
}

/// Lines go to the log of the ramtrace region, too.
static TO_REGION: AtomicBool = AtomicBool::new(false);

/// Adds a line to the log, and to that of the region, in the same order.
fn keep(line: &str) {
    let mut log = LOG.lock();
    log.push(line);
    if TO_REGION.load(Relaxed) {
        ramtrace::log(line);
    }
}

/// The region is there: its log gets what has been logged until now, and all that will be.
pub fn log_to_region() {
    let mut log = LOG.lock();
    log.for_each_line(ramtrace::log);
    TO_REGION.store(true, Relaxed);
}

/// The CPU that writes a line to the console, and 1; 0: none does.
static SPEAKER: AtomicUsize = AtomicUsize::new(0);

/// Writes a line to the console, and lets no other CPU's line into it. (An interrupt's comes in between: nobody waits for
/// what it holds up itself.)
fn speak(line: &Line) {
    percpu::add_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
    let this = cpu::index() + 1;
    let mut speaker = 0;
    let before = loop {
        match SPEAKER.compare_exchange(speaker, this, Acquire, Relaxed) {
            Ok(before) => break before,
            Err(other) if other == this => break this,
            // One that has stopped in the middle of a line does not end it.
            Err(other) => {
                speaker = if cpu::is_online(other.wrapping_sub(1)) {
                    0
                } else {
                    other
                }
            }
        }
        ipi::serve();
        spin_loop();
    };
    uart::write(line.as_str().as_bytes());
    uart::write(b"\n");
    if before != this {
        SPEAKER.store(0, Release);
    }
    percpu::sub_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
}

/// The log so far.
pub fn log_copy() -> alloc::vec::Vec<u8> {
    LOG.lock().copy()
}

/// Logs an error.
#[macro_export]
macro_rules! error {
    ($($arg:tt)*) => { $crate::report::log(kernel::klog::Level::Error, format_args!($($arg)*)) };
}
/// Logs a warning.
#[macro_export]
macro_rules! warning {
    ($($arg:tt)*) => { $crate::report::log(kernel::klog::Level::Warning, format_args!($($arg)*)) };
}
/// Logs something for `dmesg`.
#[macro_export]
macro_rules! info {
    ($($arg:tt)*) => { $crate::report::log(kernel::klog::Level::Info, format_args!($($arg)*)) };
}

/// Writes a report: to the console as it comes, and line by line to the log.
struct Report {
    line: Line,
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if uart::present() {
            uart::write(text.as_bytes());
        } else {
            power::BarePort.write_str(text)?;
        }
        for (n, part) in text.split('\n').enumerate() {
            if n > 0 {
                keep(self.line.as_str());
                self.line = Line::stamped(clock::nanos());
            }
            self.line.write_str(part)?;
        }
        Ok(())
    }
}

/// The CPU that has begun a report, and 1; 0: none has. A fault inside of it is not reported the same way.
static REPORTING: AtomicUsize = AtomicUsize::new(0);

/// Starts the last report of this life, or ends it all where it has failed before. One CPU reports; the others stop.
fn begin_report() -> Report {
    x86_64::instructions::interrupts::disable();
    let this = cpu::index() + 1;
    let first = REPORTING.compare_exchange(0, this, Relaxed, Relaxed);
    if first.is_err_and(|other| other != this) {
        ipi::stop();
    }
    ipi::stop_others();
    // SAFETY: interrupts are off, the other CPUs have stopped, and this never returns to whoever held the locks.
    unsafe {
        uart::break_lock();
        LOG.force_unlock();
    }
    if first.is_err() {
        uart::write(b"\na fault inside the report of a fault; nothing more can be said\n");
        power::after_panic(None);
    }
    Report {
        line: Line::stamped(clock::nanos()),
    }
}

fn end_report(mut report: Report) -> ! {
    let _ = report.write_str("\n");
    let cmdline = boot::begun().then(boot::cmdline);
    let seconds = cmdline.and_then(|c| c.value("panic")?.parse().ok());
    power::after_panic(seconds)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut report = begin_report();
    let _ = write!(report, "\n{PANIC}: {}", info.message());
    if let Some(location) = info.location() {
        let _ = write!(report, "\n  at {location}");
    }
    if let Some(shortage) = boot::early::shortage() {
        let _ = write!(report, "\n  {shortage}");
    }
    let _ = writeln!(
        report,
        "\n  generation {}, CPU {}",
        crate::handing::generation(),
        cpu::index()
    );
    let rbp: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp) };
    backtrace(&mut report, None, rbp);
    end_report(report)
}

/// Names of the exceptions. Intel SDM vol. 3, table 6-1; AMD APM vol. 2, table 8-1.
const EXCEPTIONS: [&str; 32] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "reserved exception 15",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
    "reserved exception 22",
    "reserved exception 23",
    "reserved exception 24",
    "reserved exception 25",
    "reserved exception 26",
    "reserved exception 27",
    "hypervisor injection exception",
    "VMM communication exception",
    "security exception",
    "reserved exception 31",
];

/// Reports an exception of the kernel's own code. It ends the task, where that can be (`task::fault_ends_task`), and the kernel
/// otherwise.
pub fn fault(frame: &mut Frame) {
    if task::fault_ends_task(frame) {
        let mut report = Report {
            line: Line::stamped(clock::nanos()),
        };
        let _ = write!(
            report,
            "\ntask {} ({}) faulted: ",
            task::current_pid(),
            task::current_name()
        );
        describe_fault(&mut report, frame);
        let _ = report.write_str("the task ends, and the kernel goes on\n");
        task::end_by_fault(frame);
        return;
    }
    let mut report = begin_report();
    let _ = write!(report, "\n{PANIC}: ");
    describe_fault(&mut report, frame);
    end_report(report)
}

/// What happened, the registers, where.
fn describe_fault(report: &mut Report, frame: &Frame) {
    let vector = frame.vector as usize % 32;
    let _ = write!(
        report,
        "{} (vector {vector}), error code {:#x}: ",
        EXCEPTIONS[vector], frame.error
    );
    let _ = cause(report, frame);
    let _ = write!(
        report,
        "\n  generation {}, CPU {}\n\
         rip {:#018x}  rsp {:#018x}  rflags {:#010x}  cs {:#x}  ss {:#x}\n\
         rax {:#018x}  rbx {:#018x}  rcx {:#018x}  rdx {:#018x}\n\
         rsi {:#018x}  rdi {:#018x}  rbp {:#018x}  r8  {:#018x}\n\
         r9  {:#018x}  r10 {:#018x}  r11 {:#018x}  r12 {:#018x}\n\
         r13 {:#018x}  r14 {:#018x}  r15 {:#018x}\n\
         cr2 {:#018x}  cr3 {:#018x}\n",
        crate::handing::generation(),
        cpu::index(),
        frame.rip,
        frame.rsp,
        frame.rflags,
        frame.cs,
        frame.ss,
        frame.rax,
        frame.rbx,
        frame.rcx,
        frame.rdx,
        frame.rsi,
        frame.rdi,
        frame.rbp,
        frame.r8,
        frame.r9,
        frame.r10,
        frame.r11,
        frame.r12,
        frame.r13,
        frame.r14,
        frame.r15,
        Cr2::read_raw(),
        Cr3::read().0.start_address().as_u64(),
    );
    backtrace(report, Some(frame.rip), frame.rbp);
}

/// A clause about why: the part of a report that a person reads first.
fn cause(report: &mut Report, frame: &Frame) -> fmt::Result {
    match frame.vector {
        14 => {
            let address = Cr2::read_raw();
            let access = Access::of_error_code(frame.error);
            let why = if frame.error & 1 == 0 {
                "is not mapped"
            } else {
                "does not allow it"
            };
            write!(report, "{access} address {address:#x}, which {why}")
        }
        8 if task::guard_of(Cr2::read_raw()) || task::guard_of(frame.rsp) => write!(
            report,
            "kernel stack overflow: the stack of task {} ({}) ran into its guard page",
            task::current_pid(),
            task::current_name()
        ),
        8 => match stacks::guard_of(Cr2::read_raw()).or_else(|| stacks::guard_of(frame.rsp)) {
            Some(stack) => write!(
                report,
                "kernel stack overflow: the {stack:?} stack ran into its guard page"
            ),
            None => report.write_str("an exception while another one was being delivered"),
        },
        13 if frame.error != 0 => {
            write!(report, "bad segment selector {:#x}", frame.error & 0xfff8)
        }
        13 => report.write_str("a privileged or malformed operation, or a non-canonical address"),
        6 => report.write_str("the bytes at rip are no instruction"),
        0 => report.write_str("division by zero, or a quotient too large"),
        _ => report.write_str("unexpected in the kernel"),
    }
}

/// The most frames that a backtrace shows.
const MAX_FRAMES: usize = 64;

/// Walks the frame pointers from `rbp` on, within the kernel's stacks only.
fn backtrace(report: &mut Report, rip: Option<u64>, mut rbp: u64) {
    let _ = report.write_str("backtrace:\n");
    let mut n = 0;
    if let Some(rip) = rip {
        frame_line(report, n, rip, false);
        n += 1;
    }
    let (mut last, mut repeated) = (0, 0);
    while n < MAX_FRAMES && rbp.is_multiple_of(8) && stacks::holds(rbp, 16) {
        // SAFETY: both words lie inside a mapped stack.
        let (next, back) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if back == 0 {
            break;
        }
        // Recursion is one line and a count.
        if back == last {
            repeated += 1;
        } else {
            tell_repeated(report, core::mem::take(&mut repeated));
            frame_line(report, n, back, true);
            n += 1;
            last = back;
        }
        // Stacks grow down: a caller's frame is above. Anything else is damage, or another stack's (after an IST switch).
        if next <= rbp && stacks::holds(next, 16) {
            break;
        }
        rbp = next;
    }
    tell_repeated(report, repeated);
}

/// Puts the return addresses of the callers into `out`, the nearest first; returns how many there are. In any context.
#[inline(never)]
pub fn callers(out: &mut [u64]) -> usize {
    let mut rbp: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp) };
    let mut n = 0;
    while n < out.len() && rbp.is_multiple_of(8) && stacks::holds(rbp, 16) {
        // SAFETY: both words lie inside a mapped stack.
        let (next, back) = unsafe { (*(rbp as *const u64), *((rbp + 8) as *const u64)) };
        if back == 0 {
            break;
        }
        out[n] = back;
        n += 1;
        // As in `backtrace`.
        if next <= rbp {
            break;
        }
        rbp = next;
    }
    n
}

/// Writes the name of the function that a return address is in, or the address.
///
/// # Errors
///
/// That of `out`.
pub fn write_function(address: u64, out: &mut dyn Write) -> fmt::Result {
    write_function_at(address.wrapping_sub(1), address, out)
}

/// Writes the name of the function in which `found` lies; where there is none, `address`.
pub fn write_function_at(found: u64, address: u64, out: &mut dyn Write) -> fmt::Result {
    match function_of(found) {
        Some(symbol) => write!(out, "{:#}", rustc_demangle::demangle(symbol.name)),
        None => write!(out, "{address:#x}"),
    }
}

/// Writes the name of the function in which `address` lies, how far it is in it, and its length; where there is none, `address`.
///
/// # Errors
///
/// That of `out`.
pub fn write_place(address: u64, out: &mut dyn Write) -> fmt::Result {
    match function_of(address) {
        Some(Symbol { name, start, size }) => {
            let name = rustc_demangle::demangle(name);
            write!(out, "{name:#}+{:#x}/{size:#x}", address - start)
        }
        None => write!(out, "{address:#x}"),
    }
}

/// The function of the kernel's text that an address is in.
fn function_of(address: u64) -> Option<Symbol> {
    let (text, text_end) = text_range();
    match (text..text_end).contains(&address) {
        true => symbol(address),
        false => None,
    }
}

fn tell_repeated(report: &mut Report, times: u64) {
    if times > 0 {
        let _ = writeln!(report, "     the line above {times} times more");
    }
}

fn frame_line(report: &mut Report, n: usize, address: u64, is_return: bool) {
    let (text, text_end) = text_range();
    // A return address is that of the next instruction, which may belong to the next function already.
    let looked_up = if is_return {
        address.wrapping_sub(1)
    } else {
        address
    };
    let _ = write!(report, " {n:2}: {address:#018x} ");
    let _ = if looked_up < text || looked_up >= text_end {
        report.write_str("(not kernel text)\n")
    } else {
        match symbol(looked_up) {
            Some(symbol) => {
                writeln!(
                    report,
                    "{:#}+{:#x}",
                    rustc_demangle::demangle(symbol.name),
                    address - symbol.start
                )
            }
            None => report.write_str("(no symbol)\n"),
        }
    };
}

unsafe extern "C" {
    static __build_id: u64;
}

/// What tells this kernel from any other build.
pub fn build() -> u64 {
    // SAFETY: kernel.ld has the symbol point to the last 8 bytes of the linker's note, whose start and length are aligned; nobody writes there.
    unsafe { __build_id }
}

/// A function of the kernel's.
struct Symbol {
    name: &'static str,
    start: u64,
    /// Its bytes.
    size: u64,
}

/// The function that an address is in. From the image's ELF symbol table (System V ABI, "Symbol Table").
fn symbol(address: u64) -> Option<Symbol> {
    if !boot::begun() {
        return None;
    }
    let info = boot::info();
    let word = |entry: &[u8], at: usize| {
        u64::from_le_bytes(entry[at..at + 8].try_into().unwrap_or_default())
    };
    let best = info
        .symtab
        .chunks_exact(24)
        .filter(|e| e[4] & 0xf <= 2 && word(e, 8) <= address)
        .filter(|e| e[0..4] != [0; 4])
        .max_by_key(|e| word(e, 8))?;
    let name_at = u32::from_le_bytes(best[..4].try_into().ok()?) as usize;
    let name = info.strtab.get(name_at..)?;
    let name = &name[..name.iter().position(|b| *b == 0)?];
    Some(Symbol {
        name: core::str::from_utf8(name).ok()?,
        start: word(best, 8),
        size: word(best, 16),
    })
}
