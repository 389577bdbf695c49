//! Preemption: off and on, at the end of an interrupt, at the tick.

use super::{queue, softirq, stat, timer};
use crate::latency;
use crate::machine::percpu;
use crate::machine::traps::Frame;
use core::sync::atomic::Ordering::Relaxed;
use x86_64::instructions::interrupts;

/// The task keeps its CPU from now on; nests. It must not sleep until [`preempt_enable`].
#[inline(always)]
pub fn preempt_disable() {
    percpu::add_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
}

/// Ends [`preempt_disable`]; another task may run at once, if one should.
#[inline(always)]
pub fn preempt_enable() {
    percpu::sub_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
    preempt_check();
}

/// Runs `f` with preemption off.
#[inline(always)]
pub fn without_preemption<R>(f: impl FnOnce() -> R) -> R {
    preempt_disable();
    let result = f();
    preempt_enable();
    result
}

/// Lets another task run, if one should and may.
#[inline(always)]
pub fn preempt_check() {
    // A move to another CPU between the two reads costs a look for nothing there.
    if percpu::this().need_resched.load(Relaxed) && percpu::preempt_count() == 0 {
        check_slow();
    }
}

#[cold]
#[inline(never)]
fn check_slow() {
    if interrupts::are_enabled() {
        latency::disable_interrupts();
        if percpu::this().need_resched.load(Relaxed) && !is_idle() {
            queue::switch_task(true);
        }
        latency::enable_interrupts();
    }
}

/// Whether the idle task runs. It gives the CPU away by itself only: before that it has to tell the trace that it is idle no more, and
/// to let the CPU have its ticks again.
fn is_idle() -> bool {
    super::record::current().is_none_or(|task| task.is_idle())
}

/// Makes the CPU's count that of the task that has just come. Interrupts are off.
pub(super) fn restore(count: u32) {
    let now = percpu::preempt_count();
    percpu::this().set_preempt_count(now & !percpu::PREEMPT_MASK & !percpu::SOFTIRQ_MASK | count);
}

/// Called at the end of each interrupt, after its end at the APIC, when it is no part of another one. Interrupts are off. Soft
/// interrupts that were asked for run, and then another task, if one should and may.
pub fn on_interrupt_exit(_frame: &mut Frame) {
    softirq::run();
    if percpu::preempt_count() == 0 && percpu::this().need_resched.load(Relaxed) && !is_idle() {
        queue::switch_task(true);
    }
}

/// The timer interrupt of this CPU. `user`: it came in user mode.
pub fn tick(user: bool) {
    stat::tick(user);
    queue::tick();
    timer::tick();
    softirq::tick();
    crate::ramtrace::tick();
}
