//! What files tell of the CPUs: `/proc/interrupts`, `/proc/cpuinfo`, `/sys/devices/system/cpu`, in Linux's layouts.

use crate::machine::{self, apic, cpu, ipi, percpu, traps};
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;
use kernel::console::genfs::GenFile;
use kernel::console::vfs::{FsError, Sink, print};

/// `/sys/devices/system/cpu`.
pub const FILES: &[GenFile] = &[
    GenFile::read_only("kernel_max", kernel_max),
    GenFile::read_only("online", online),
    GenFile::read_only("possible", possible),
    GenFile::read_only("present", present),
];

fn kernel_max(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(out, format_args!("{}\n", cpu::MAX_CPUS - 1))?)
}

fn online(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(out, format_args!("{}\n", list(cpu::online_mask())))?)
}

fn possible(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(
        out,
        format_args!("{}\n", list((1 << cpu::count()) - 1)),
    )?)
}

fn present(out: &mut dyn Sink) -> Result<(), FsError> {
    let present = machine::found().each.len().clamp(1, cpu::MAX_CPUS);
    Ok(print(out, format_args!("{}\n", list((1 << present) - 1)))?)
}

/// A mask as a list of ranges: `0-2,5`.
fn list(mask: u32) -> String {
    let mut text = String::new();
    let mut cpu = 0;
    while mask >> cpu != 0 {
        cpu += (mask >> cpu).trailing_zeros();
        let last = cpu + (mask >> cpu).trailing_ones() - 1;
        if !text.is_empty() {
            text.push(',');
        }
        let _ = match last == cpu {
            true => write!(text, "{cpu}"),
            false => write!(text, "{cpu}-{last}"),
        };
        cpu = last + 1;
    }
    text
}

/// The CPUs that run.
fn each() -> impl Iterator<Item = usize> {
    (0..cpu::count()).filter(|cpu| cpu::is_online(*cpu))
}

/// A column a CPU. Linux: `show_interrupts` in `kernel/irq/proc.c`, `arch_show_interrupts` in `arch/x86/kernel/irq.c`.
pub fn interrupts(out: &mut dyn Sink) -> Result<(), FsError> {
    let mut line = String::from("           ");
    for cpu in each() {
        let _ = write!(line, "CPU{cpu:<8}");
    }
    print(out, format_args!("{line}\n"))?;
    let found = machine::found();
    let uart = alloc::format!(
        " {:>8} {:3}-{:<8}  uart",
        "IO-APIC",
        found.uart_gsi.saturating_sub(found.io_apic_base),
        if found.uart_level { "fasteoi" } else { "edge" }
    );
    let gsi = alloc::format!("{}", found.uart_gsi);
    let mut row = |name: &str, count: &dyn Fn(usize) -> u64, what: &str| {
        line.clear();
        let _ = write!(line, "{name:>3}: ");
        for cpu in each() {
            let _ = write!(line, "{:10} ", count(cpu));
        }
        print(out, format_args!("{line}{what}\n"))
    };
    for (name, vector, what) in [
        (gsi.as_str(), apic::UART_VECTOR, uart.as_str()),
        ("NMI", traps::NMI, "  Non-maskable interrupts"),
        ("LOC", apic::TIMER_VECTOR, "  Local timer interrupts"),
        ("SPU", apic::SPURIOUS_VECTOR, "  Spurious interrupts"),
        ("RES", apic::RESCHEDULE_VECTOR, "  Rescheduling interrupts"),
        ("CAL", apic::CALL_VECTOR, "  Function call interrupts"),
    ] {
        row(name, &|cpu| traps::count(cpu, vector), what)?;
    }
    // Most of them by interrupts that CAL counts; a CPU that waits for something with interrupts off serves others there.
    row("TLB", &ipi::shootdowns, "  TLB shootdowns")?;
    let errors: u64 = each()
        .map(|cpu| traps::count(cpu, apic::ERROR_VECTOR))
        .sum();
    Ok(print(out, format_args!("ERR: {errors:10}\n"))?)
}

/// A paragraph a CPU, as far as it is known here. Linux: `arch/x86/kernel/cpu/proc.c`.
pub fn cpuinfo(out: &mut dyn Sink) -> Result<(), FsError> {
    let leaf = core::arch::x86_64::__cpuid;
    let first = leaf(0);
    let mut vendor = String::new();
    for word in [first.ebx, first.edx, first.ecx] {
        vendor.extend(word.to_le_bytes().map(char::from));
    }
    // Leaves 0x8000_0002 to 4: the brand, 16 bytes each (Intel SDM vol. 2, "CPUID").
    let mut brand = String::new();
    if leaf(0x8000_0000).eax >= 0x8000_0004 {
        for number in 0x8000_0002..=0x8000_0004 {
            let leaf = leaf(number);
            for word in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
                brand.extend(word.to_le_bytes().map(char::from));
            }
        }
    }
    let hz = machine::found().tsc_hz;
    for cpu in each() {
        print(
            out,
            format_args!(
                "processor\t: {cpu}\nvendor_id\t: {vendor}\nmodel name\t: {}\ncpu MHz\t\t: {}.{:03}\napicid\t\t: {}\n\n",
                brand.trim_matches(['\0', ' ']),
                hz / 1_000_000,
                hz / 1000 % 1000,
                percpu::of(cpu).apic_id.load(Relaxed),
            ),
        )?;
    }
    Ok(())
}
