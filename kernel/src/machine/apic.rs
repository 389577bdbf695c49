//! The local APIC of each CPU (timer, end of interrupt, interrupts to other CPUs) and the I/O APIC (the serial port's line).

use super::Found;
use super::cpu::{self, MAX_CPUS};
use crate::memory::{self, IrqMutex, without_interrupts};
use core::cell::UnsafeCell;
use spin::Once;
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x2apic::lapic::{LocalApic, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// Timer interrupts a second and CPU.
pub const HZ: u64 = 100;

/// Interrupt vectors. 0 to 31 are the CPU's exceptions. Those between CPUs have Linux's numbers.
pub const TIMER_VECTOR: u8 = 0x20;
pub const UART_VECTOR: u8 = 0x24;
pub const STOP_VECTOR: u8 = 0xf8;
pub const CALL_VECTOR: u8 = 0xfc;
pub const RESCHEDULE_VECTOR: u8 = 0xfd;
pub const ERROR_VECTOR: u8 = 0xfe;
pub const SPURIOUS_VECTOR: u8 = 0xff;

/// A CPU's local APIC as the crate has it.
struct Own(UnsafeCell<Option<LocalApic>>);

// SAFETY: each CPU touches its own element only (see `with_local`).
unsafe impl Sync for Own {}

static LOCAL: [Own; MAX_CPUS] = [const { Own(UnsafeCell::new(None)) }; MAX_CPUS];

/// Works with the running CPU's local APIC, with interrupts off: no lock, so that it works in a panic, too.
fn with_local<R>(f: impl FnOnce(&mut LocalApic) -> R) -> R {
    without_interrupts(|| {
        // SAFETY: the element is this CPU's alone, and no interrupt comes in between. An NMI does not come here, unless it
        // never returns.
        let local = unsafe { &mut *LOCAL[cpu::index()].0.get() };
        f(local.get_or_insert_with(build))
    })
}

/// Whether the local APICs are driven by MSRs (x2APIC) and not by memory: where the CPU says that it can.
fn is_x2apic() -> bool {
    static IS: Once<bool> = Once::new();
    // CPUID 1, ECX bit 21 (Intel SDM vol. 3, 11.12.1). The crate goes by the same bit.
    *IS.call_once(|| core::arch::x86_64::__cpuid(1).ecx & 1 << 21 != 0)
}

fn build() -> LocalApic {
    /// All CPUs have theirs at the same address.
    static REGISTERS: Once<u64> = Once::new();
    const IA32_APIC_BASE: u32 = 0x1b;
    if is_x2apic() {
        let mut base = Msr::new(IA32_APIC_BASE);
        // SAFETY: bits 11 and 10 turn the APIC on in x2APIC mode, which this CPU has (Intel SDM vol. 3, 11.12.1). Before
        // that its MSRs are not there.
        unsafe {
            let value = base.read();
            base.write(value | 1 << 11);
            base.write(value | 3 << 10);
        }
    }
    let registers = *REGISTERS.call_once(|| {
        // SAFETY: reads IA32_APIC_BASE.
        memory::map_device(unsafe { xapic_base() }, 4096)
    });
    LocalApicBuilder::new()
        .timer_vector(TIMER_VECTOR as usize)
        .error_vector(ERROR_VECTOR as usize)
        .spurious_vector(SPURIOUS_VECTOR as usize)
        .timer_divide(TimerDivide::Div16)
        .timer_mode(TimerMode::Periodic)
        .set_xapic_base(registers)
        .build()
        .expect("all vectors are set")
}

/// An interrupt for another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Vector(u8),
    Nmi,
    /// Resets the CPU; it then waits for the next one.
    Init,
    /// Starts it in real mode at the page with this number.
    Startup(u8),
}

/// Sends an interrupt to the CPU whose APIC has this id.
pub fn send(apic_id: u32, signal: Signal) {
    with_local(|local| {
        // SAFETY: reads the command register. Where the one before is never delivered, nothing helps.
        let busy = |local: &LocalApic| unsafe { local.get_ipi_delivery_status() };
        for _ in 0..100_000 {
            if is_x2apic() || !busy(local) {
                break;
            }
            core::hint::spin_loop();
        }
        // The destination of an xAPIC is in the top byte of the command (Intel SDM vol. 3, 11.6.1 and 11.12.9).
        let to = if is_x2apic() { apic_id } else { apic_id << 24 };
        // SAFETY: the vectors have handlers; who sends the others knows what becomes of the CPU.
        unsafe {
            match signal {
                Signal::Vector(vector) => local.send_ipi(vector, to),
                Signal::Nmi => local.send_nmi(to),
                Signal::Init => local.send_init_ipi(to),
                Signal::Startup(page) => local.send_sipi(page, to),
            }
        }
    });
}

/// Lets the timer count down from the top without interrupting, for calibration.
pub fn timer_free_run() {
    with_local(|local| {
        // SAFETY: the timer is masked first, so nothing fires.
        unsafe {
            local.disable_timer();
            local.set_timer_mode(TimerMode::OneShot);
            local.set_timer_divide(TimerDivide::Div16);
            local.set_timer_initial(u32::MAX);
        }
    });
}

/// Ticks since [`timer_free_run`].
pub fn timer_elapsed() -> u64 {
    // SAFETY: reads a counter.
    with_local(|local| unsafe { (u32::MAX - local.timer_current()) as u64 })
}

/// Counts of the timer from one tick to the next.
fn tick_counts(found: &Found) -> u32 {
    (found.apic_timer_hz / HZ).clamp(1000, u32::MAX as u64) as u32
}

/// Lets the running CPU's timer go off once, in `ticks` ticks or as late as it can, in place of at each one.
pub fn stop_tick(found: &Found, ticks: u64) {
    let counts = u64::from(tick_counts(found)).saturating_mul(ticks);
    with_local(|local| {
        // SAFETY: changes when the timer's interrupt comes, which has a handler.
        unsafe {
            local.set_timer_mode(TimerMode::OneShot);
            local.set_timer_initial(counts.min(u32::MAX as u64) as u32);
        }
    });
}

/// Ends [`stop_tick`].
pub fn resume_tick(found: &Found) {
    with_local(|local| {
        // SAFETY: as in `stop_tick`.
        unsafe {
            local.set_timer_mode(TimerMode::Periodic);
            local.set_timer_initial(tick_counts(found));
        }
    });
}

/// Turns the running CPU's local APIC on with its periodic timer.
pub fn init(found: &Found) {
    with_local(|local| {
        // SAFETY: the IDT has a handler for each of the vectors, and interrupts are still off.
        unsafe {
            local.enable();
            local.set_timer_divide(TimerDivide::Div16);
            local.set_timer_mode(TimerMode::Periodic);
            local.set_timer_initial(tick_counts(found));
            local.enable_timer();
        }
    });
}

/// Ends the interrupt being handled.
pub fn end_of_interrupt() {
    // SAFETY: called once at the end of each handler of an APIC interrupt.
    with_local(|local| unsafe { local.end_of_interrupt() });
}

/// The id of this CPU's APIC.
pub fn id() -> u32 {
    // SAFETY: reads the id register.
    let register = with_local(|local| unsafe { local.id() });
    // An xAPIC has it in the top byte (Intel SDM vol. 3, 11.4.6).
    if is_x2apic() {
        register
    } else {
        register >> 24
    }
}

/// Silences the timer before a jump: the next kernel finds no interrupt pending from it.
pub fn quiet() {
    // SAFETY: masks one interrupt source.
    with_local(|local| unsafe { local.disable_timer() });
}

/// The 8259 PICs: remapped off the exceptions, every line masked. A spurious IRQ 7 would otherwise be exception 15.
pub fn mask_pics() {
    let writes: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11), // ICW1: edge, cascade, ICW4 follows
        (0x21, 0xf0),
        (0xa1, 0xf8), // ICW2: vectors
        (0x21, 4),
        (0xa1, 2), // ICW3: the slave is at line 2
        (0x21, 1),
        (0xa1, 1), // ICW4: 8086 mode
        (0x21, 0xff),
        (0xa1, 0xff), // all lines masked
    ];
    for (port, value) in writes {
        // SAFETY: the documented initialisation of the 8259 (Intel data sheet); interrupts are off.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

fn with_io_apic(found: &Found, f: impl FnOnce(&mut IoApic, u8)) {
    static REGISTERS: Once<u64> = Once::new();
    /// A register is reached in two steps, which nobody's others may come between.
    static STEPS: IrqMutex<()> = IrqMutex::new(());
    if found.io_apic == 0 {
        return;
    }
    let registers = *REGISTERS.call_once(|| memory::map_device(found.io_apic, 4096));
    let _steps = STEPS.lock();
    // SAFETY: firmware's MADT says that an I/O APIC is there, and it is mapped uncached.
    let mut io_apic = unsafe { IoApic::new(registers) };
    // SAFETY: reads the version register.
    let lines = unsafe { io_apic.max_table_entry() };
    match u8::try_from(found.uart_gsi.saturating_sub(found.io_apic_base)) {
        Ok(line) if line <= lines => f(&mut io_apic, line),
        _ => {}
    }
}

/// Routes the serial port's line to this CPU. `false` where there is no I/O APIC with that line.
pub fn route_uart(found: &Found) -> bool {
    let mut routed = false;
    with_io_apic(found, |io_apic, line| {
        let mut entry = RedirectionTableEntry::default();
        let mut flags = IrqFlags::empty();
        flags.set(IrqFlags::LEVEL_TRIGGERED, found.uart_level);
        flags.set(IrqFlags::LOW_ACTIVE, found.uart_low);
        entry.set_vector(UART_VECTOR);
        entry.set_mode(IrqMode::Fixed);
        entry.set_flags(flags);
        entry.set_dest(id() as u8);
        // SAFETY: the vector has a handler.
        unsafe { io_apic.set_table_entry(line, entry) };
        routed = true;
    });
    routed
}

/// Masks the serial port's line before a jump.
pub fn mask_uart(found: &Found) {
    // SAFETY: masks one line.
    with_io_apic(found, |io_apic, line| unsafe { io_apic.disable_irq(line) });
}
