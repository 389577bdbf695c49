//! The machine: CPU tables, interrupts, timers, the serial port. What was measured or discovered once is [`Found`], and
//! crosses a kexec, so that no calibration and no discovery is repeated.

pub mod apic;
pub mod clock;
pub mod cpu;
pub mod firmware;
pub mod ipi;
pub mod percpu;
pub mod smp;
pub mod trampoline;
pub mod traps;
pub mod uart;

use alloc::vec::Vec;
use handover::error::Error;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem, Takeover};
use spin::Once;

/// What a kernel found out about the machine.
#[derive(Clone, Debug, KState)]
#[kstate(id = 0x10, version = 3, min_version = 1)]
pub struct Found {
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// Ticks of the local APIC's timer a second, at divider 16.
    pub apic_timer_hz: u64,
    /// CPUs that firmware says there are and are usable.
    pub cpus: u32,
    /// Physical address of the I/O APIC that has the serial port's interrupt; 0: there is none.
    pub io_apic: u64,
    /// Its first global interrupt number.
    pub io_apic_base: u32,
    /// The serial port's global interrupt number, and whether it is level-triggered and active-low.
    pub uart_gsi: u32,
    /// See `uart_gsi`.
    pub uart_level: bool,
    /// See `uart_gsi`.
    pub uart_low: bool,
    /// The TSC when generation 0 was entered. (It runs on over a reset.)
    #[kstate(since = 2, default = 0)]
    pub cold_start_tsc: u64,
    /// The CPUs in the order of their numbers, CPU 0 first. Empty where a predecessor did not tell.
    #[kstate(since = 3, default)]
    pub each: Vec<FoundCpu>,
}

/// A CPU.
#[derive(Clone, Debug, KState)]
#[kstate(nested)]
pub struct FoundCpu {
    /// The id of its local APIC.
    pub apic_id: u32,
    /// By how many cycles its TSC is ahead of CPU 0's, where that has been measured.
    pub tsc_offset: Option<i64>,
}

static FOUND: Once<Found> = Once::new();

/// What is known of the machine.
pub fn found() -> &'static Found {
    FOUND
        .get()
        .expect("the machine is the first to be restored, and nothing asks before")
}

/// From now on this is known.
fn know(mut found: Found) {
    clock::set(found.tsc_hz);
    if found.each.is_empty() {
        // A predecessor that ran one CPU did not look for the others.
        found.each = firmware::discover(crate::boot::info().rsdp).each;
    }
    crate::info!(
        "machine: {} CPUs; TSC at {} MHz",
        found.cpus,
        found.tsc_hz / 1_000_000
    );
    let found = FOUND.call_once(|| found);
    smp::choose(found);
}

/// Timer and serial port start to interrupt.
pub fn start_interrupts() {
    apic::mask_pics();
    apic::init(found());
    cpu::set_online();
    uart::start_interrupts(found());
    x86_64::instructions::interrupts::enable();
}

/// What is known, with what this life has learnt.
fn now() -> Found {
    Found {
        each: smp::known(),
        ..found().clone()
    }
}

/// The name under which [`Found`] crosses.
pub const SUBSYSTEM: &str = "machine";

/// The machine's part of a handover.
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[Found::DESC]
    }

    fn size(&self) -> usize {
        encoded_size(&now())
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &now())
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let found: Found = from.get(0)?;
        Ok(Prepared::new(move |_| know(found)))
    }

    /// Discovers and measures.
    fn anew(&self, _: &mut Takeover<'_>) {
        let firmware = firmware::discover(crate::boot::info().rsdp);
        let speed = clock::calibrate();
        know(Found {
            tsc_hz: speed.tsc_hz,
            apic_timer_hz: speed.apic_timer_hz,
            cold_start_tsc: crate::boot::info().entry_tsc,
            ..firmware
        });
    }
}
