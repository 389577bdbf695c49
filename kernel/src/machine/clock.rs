//! Time: the TSC, and nanoseconds from it by one multiplier that all lives share.

use super::percpu;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::instructions::port::Port;

/// ns = TSC * MULT >> 32. 0 until known.
static MULT: AtomicU64 = AtomicU64::new(0);

/// The TSC now: CPU 0's, on whichever CPU this runs. (Others subtract what they are ahead of it.)
#[inline]
pub fn tsc() -> u64 {
    loop {
        let offset = percpu::tsc_offset();
        let tsc = raw_tsc();
        // Another one: the task has been moved to another CPU in between, and the two do not belong together.
        if percpu::tsc_offset() == offset {
            return tsc.wrapping_sub(offset);
        }
    }
}

/// The running CPU's own TSC.
#[inline]
pub fn raw_tsc() -> u64 {
    // SAFETY: reads a counter, no side effects; every x86-64 CPU has it, and CR4.TSD is clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the machine's reset, at the given TSC value; 0 before the clock is known.
#[inline]
pub fn nanos_at(tsc: u64) -> u64 {
    ((tsc as u128 * MULT.load(Relaxed) as u128) >> 32) as u64
}

/// Nanoseconds since the machine's reset.
#[inline]
pub fn nanos() -> u64 {
    nanos_at(tsc())
}

/// The multiplier, for the boot parameters.
pub fn mult() -> u64 {
    MULT.load(Relaxed)
}

/// Sets the clock from a known multiplier.
pub fn set_mult(mult: u64) {
    MULT.store(mult, Relaxed);
}

/// Sets the clock from the TSC's speed, unless it runs already: a multiplier never changes, or time would jump.
pub fn set(tsc_hz: u64) {
    let mult = ((1_000_000_000u128 << 32) / tsc_hz.max(1) as u128) as u64;
    let _ = MULT.compare_exchange(0, mult, Relaxed, Relaxed);
}

/// How often a measurement is tried.
const ATTEMPTS: u32 = 50;

/// What [`calibrate`] measures, in ticks a second.
pub struct Speed {
    pub tsc_hz: u64,
    pub apic_timer_hz: u64,
}

/// Input clock of the 8254 timer in Hz.
const PIT_HZ: u64 = 1_193_182;
/// How long to measure, in PIT ticks: 20 ms. The counter of 16 bits wraps after 55 ms.
const WINDOW: u64 = PIT_HZ / 50;

/// Measures TSC and APIC timer against channel 2 of the 8254, once in the machine's life. Each end of the window is a
/// PIT reading bracketed by two TSC readings, and the tightest bracket of several counts: a host that takes the CPU
/// away in between costs a retry, not accuracy.
pub fn calibrate() -> Speed {
    for _ in 0..ATTEMPTS {
        start_pit();
        super::apic::timer_free_run();
        let a = tight_sample();
        let b = loop {
            let b = tight_sample();
            if b.pit_elapsed.saturating_sub(a.pit_elapsed) >= WINDOW || pit_expired() {
                break b;
            }
            core::hint::spin_loop();
        };
        if pit_expired() {
            continue;
        }
        let ticks = b.pit_elapsed - a.pit_elapsed;
        return Speed {
            tsc_hz: (b.tsc - a.tsc) * PIT_HZ / ticks,
            apic_timer_hz: (b.apic - a.apic) * PIT_HZ / ticks,
        };
    }
    crate::warning!(
        "clock: the 8254 timer does not run; 1 GHz is assumed, and all times are wrong"
    );
    Speed {
        tsc_hz: 1_000_000_000,
        apic_timer_hz: 62_500_000,
    }
}

struct Sample {
    tsc: u64,
    apic: u64,
    pit_elapsed: u64,
}

fn tight_sample() -> Sample {
    let mut best: Option<(u64, Sample)> = None;
    for _ in 0..8 {
        let before = tsc();
        let pit_elapsed = 0xffff - pit_count();
        let apic = super::apic::timer_elapsed();
        let width = tsc() - before;
        if best.as_ref().is_none_or(|(w, _)| width < *w) {
            best = Some((
                width,
                Sample {
                    tsc: before + width / 2,
                    apic,
                    pit_elapsed,
                },
            ));
        }
    }
    best.expect("eight samples were taken").1
}

/// Starts channel 2 in mode 0 (one shot) at 65,535 with the speaker off. Intel 8254 data sheet; port 0x61 as in every PC.
fn start_pit() {
    let (mut command, mut data, mut gate) = (
        Port::<u8>::new(0x43),
        Port::<u8>::new(0x42),
        Port::<u8>::new(0x61),
    );
    // SAFETY: channel 2 and its gate drive the speaker only; nobody else uses them.
    unsafe {
        let value = gate.read();
        gate.write(value & !3);
        command.write(0b1011_0000);
        data.write(0xff);
        data.write(0xff);
        gate.write((value & !2) | 1);
    }
}

fn pit_count() -> u64 {
    let (mut command, mut data) = (Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    // SAFETY: as in `start_pit`; latching the count changes nothing.
    unsafe {
        command.write(0b1000_0000);
        let low = data.read() as u64;
        low | (data.read() as u64) << 8
    }
}

fn pit_expired() -> bool {
    // SAFETY: reads the status of channel 2's output.
    unsafe { Port::<u8>::new(0x61).read() & 0x20 != 0 }
}
