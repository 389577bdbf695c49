//! What the tracers of latencies (`trace::tracer`) are told of: interrupts off and on, who wakes up, who gets a CPU. As long as
//! no such tracer is chosen, each of these is a load and a branch.

use crate::tracing::tracer;
use crate::{hwlat, report};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use trace::tracer::{Measured, Site};
use x86_64::instructions::interrupts;

/// `irqsoff` is to be told.
static IRQS: AtomicBool = AtomicBool::new(false);
/// `wakeup` is.
static WAKEUPS: AtomicBool = AtomicBool::new(false);
/// Threads of `hwlat` take samples ([`hwlat`]).
static SAMPLES: AtomicBool = AtomicBool::new(false);
/// What the tracer wants.
static WANTED: AtomicU8 = AtomicU8::new(Measured::Nothing as u8);
/// A handover is being described, with what was measured up to now.
static HELD: AtomicBool = AtomicBool::new(false);

/// From now on the tracer is told of this.
pub fn measure(measured: Measured) {
    WANTED.store(measured as u8, Relaxed);
    apply();
    hwlat::call();
}

/// Whether samples are taken.
#[inline]
pub fn samples() -> bool {
    SAMPLES.load(Relaxed)
}

/// Whether nothing is measured for the time being: what a handover has described no longer changes.
pub fn hold(held: bool) {
    HELD.store(held, Relaxed);
    apply();
    // Another CPU may be keeping one that it was told of before.
    if let Some(tracer) = tracer() {
        tracer.hold_latencies(held);
    }
}

fn apply() {
    let wanted = match HELD.load(Relaxed) {
        true => Measured::Nothing as u8,
        false => WANTED.load(Relaxed),
    };
    IRQS.store(wanted == Measured::IrqsOff as u8, Relaxed);
    WAKEUPS.store(wanted == Measured::Wakeup as u8, Relaxed);
    SAMPLES.store(wanted == Measured::Hwlat as u8, Relaxed);
}

/// Switches interrupts off, which are on.
#[inline(always)]
pub fn disable_interrupts() {
    interrupts::disable();
    irqs_off();
}

/// Switches interrupts on, which are off.
#[inline(always)]
pub fn enable_interrupts() {
    irqs_on();
    interrupts::enable();
}

/// Interrupts have just gone off on this CPU; they were on.
#[inline(always)]
pub fn irqs_off() {
    if IRQS.load(Relaxed) {
        tell_off();
    }
}

/// Interrupts are about to come on on this CPU.
#[inline(always)]
pub fn irqs_on() {
    if IRQS.load(Relaxed) {
        tell_on();
    }
}

/// A task was woken up, and is to run on `cpu` at once. Interrupts are off.
#[inline(always)]
pub fn task_wakes(pid: i32, prio: i32, cpu: usize) {
    if WAKEUPS.load(Relaxed) {
        tell_wakes(pid, prio, cpu);
    }
}

/// This CPU goes over to task `pid`. Interrupts are off.
#[inline(always)]
pub fn task_runs(pid: i32) {
    if WAKEUPS.load(Relaxed) {
        tell_runs(pid);
    }
}

#[cold]
#[inline(never)]
fn tell_off() {
    let site = site();
    if let Some(tracer) = tracer() {
        tracer.irqs_off(site);
    }
}

#[cold]
#[inline(never)]
fn tell_on() {
    let site = site();
    if let Some(tracer) = tracer() {
        tracer.irqs_on(site);
    }
}

#[cold]
#[inline(never)]
fn tell_wakes(pid: i32, prio: i32, cpu: usize) {
    let site = site();
    if let Some(tracer) = tracer() {
        tracer.task_wakes(site, pid, prio, cpu);
    }
}

#[cold]
#[inline(never)]
fn tell_runs(pid: i32) {
    let site = site();
    if let Some(tracer) = tracer() {
        tracer.task_runs(site, pid);
    }
}

/// Where the function that this is part of was called.
#[inline(always)]
fn site() -> Site {
    // The first leads back to here.
    let mut callers = [0; 3];
    report::callers(&mut callers);
    let [_, ip, parent] = callers;
    Site { ip, parent }
}
