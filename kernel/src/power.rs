//! Ends: power off, reset, and the last words of a kernel that cannot go on.

use crate::events;
use crate::machine::{clock, cpu, firmware, ipi};
use core::fmt::{self, Write};
use kernel::protocol::{CONSOLE_PORT, EXIT_PANIC, EXIT_PORT};
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

/// Turns the machine off. Returns only where firmware does not say how: why. A machine that does not react stands still: its
/// other CPUs have stopped in the middle of what they did.
pub fn off(rsdp: u64) -> &'static str {
    let how = match firmware::power_off(rsdp) {
        Ok(how) => how,
        Err(why) => return why,
    };
    // SLP_TYP is in bits 10 to 12 of PM1_CNT, SLP_EN in bit 13 (ACPI 6.5, table 4.18).
    let value = |kind: u8| (kind as u16 & 7) << 10 | 1 << 13;
    interrupts::disable();
    ipi::stop_others();
    // SAFETY: the registers and values are those that firmware names for this; nothing runs after it.
    unsafe {
        Port::<u16>::new(how.pm1a).write(value(how.types.0));
        if let Some(pm1b) = how.pm1b {
            Port::<u16>::new(pm1b).write(value(how.types.1));
        }
    }
    // The write acts a moment later under emulation.
    for _ in 0..1_000_000_000u64 {
        core::hint::spin_loop();
    }
    let _ = BarePort.write_str(
        "\r\nthe machine does not react to the ACPI power-off; all its CPUs have stopped, and its switch alone turns it off\r\n",
    );
    halt()
}

/// Resets the machine: the chipset's reset register, then the keyboard controller's line, then a triple fault.
pub fn reset() -> ! {
    interrupts::disable();
    ipi::stop_others();
    // A reset forgets what is in the caches and not in RAM yet: the ramtrace region is to have it.
    // SAFETY: writes the caches back.
    unsafe { core::arch::asm!("wbinvd", options(nostack, preserves_flags)) };
    // SAFETY: 0xcf9 is the reset control register of every PC chipset with PCI; 0xfe to port 0x64 pulses the reset line.
    unsafe {
        Port::<u8>::new(0xcf9).write(0x02);
        Port::<u8>::new(0xcf9).write(0x06);
        Port::<u8>::new(0x64).write(0xfe);
    }
    for _ in 0..100_000_000u64 {
        core::hint::spin_loop();
    }
    triple_fault()
}

/// Resets the machine in the middle of what its CPUs do: by an exception that cannot be delivered, nor the next one.
pub fn triple_fault() -> ! {
    interrupts::disable();
    let nothing = x86_64::structures::DescriptorTablePointer {
        limit: 0,
        base: x86_64::VirtAddr::zero(),
    };
    // SAFETY: an empty IDT and an exception are a triple fault, which resets the CPU: that is what is wanted.
    unsafe {
        x86_64::instructions::tables::lidt(&nothing);
        core::arch::asm!("ud2", options(noreturn));
    }
}

/// A port that can be written to before anything is set up: no locks, no heap.
pub struct BarePort;

impl Write for BarePort {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: COM1's registers; a machine without it ignores them. Not forever: it may not be there.
            unsafe {
                for _ in 0..100_000 {
                    if Port::<u8>::new(CONSOLE_PORT + 5).read() & 0x20 != 0 {
                        break;
                    }
                }
                Port::<u8>::new(CONSOLE_PORT).write(byte);
            }
        }
        Ok(())
    }
}

/// Says why a kernel cannot even start, and resets the machine.
pub fn reset_with(message: fmt::Arguments<'_>) -> ! {
    interrupts::disable();
    let _ = write!(BarePort, "\r\n{message}\r\n");
    reset()
}

/// What happens after a panic's report: as `panic=` says (seconds until a reset; negative: at once), else the end of the
/// emulator where there is one, else a halt.
pub fn after_panic(seconds: Option<i64>) -> ! {
    match seconds {
        // Without a clock a wait would never end.
        Some(s) if s < 0 || (s > 0 && clock::mult() == 0) => reset(),
        Some(s) if s > 0 => {
            let end = clock::nanos().saturating_add((s as u64).saturating_mul(1_000_000_000));
            while clock::nanos() < end {
                core::hint::spin_loop();
            }
            reset()
        }
        Some(_) => {}
        // SAFETY: on a machine without QEMU's device nobody listens at this port.
        None => unsafe { Port::<u8>::new(EXIT_PORT).write(EXIT_PANIC) },
    }
    halt()
}

/// Stops for good.
pub fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// The state of `cpu_idle` in which a CPU is halted, and the one that says that it is idle no more, as in Linux.
const HALTED: u32 = 1;
const BUSY: u32 = u32::MAX;

/// Halts this CPU until an interrupt comes, and handles that. Interrupts are off before, and on after it.
pub fn halt_until_interrupt() {
    events::cpu_idle(HALTED, cpu::index() as u32);
    // `sti` takes effect after the next instruction, so no interrupt gets between the look and the halt.
    crate::latency::irqs_on();
    interrupts::enable_and_hlt();
    events::cpu_idle(BUSY, cpu::index() as u32);
}
