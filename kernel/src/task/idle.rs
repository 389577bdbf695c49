//! What a CPU does that has nothing to do: it halts, and where no timer is due soon, without ticks.

use super::{freeze, queue, stat, timer};
use crate::machine::{apic, cpu, found, percpu, uart};
use crate::{events, latency, power, ramtrace, tracing};
use core::sync::atomic::Ordering::Relaxed;

/// Linux's `TICK_DEP_MASK_NONE`: nothing needs the tick.
const NO_DEPENDENCY: i32 = 0;

/// What a CPU does from its start on: what is left to set up, and then nothing, until there is a task.
pub fn idle_loop() -> ! {
    let cpu = cpu::index();
    queue::go_active(cpu);
    loop {
        latency::disable_interrupts();
        let busy = || {
            percpu::this().need_resched.load(Relaxed)
                || (queue::load(cpu) > 0 && !freeze::is_frozen())
        };
        if !busy() {
            // The last events are to have their checksums while the CPU does nothing. A worker may have something to do then.
            ramtrace::tick();
        }
        if busy() {
            queue::switch_task(false);
            // Before an interrupt comes: the task that has just gone may have been the last one.
            freeze::last_words(cpu);
            latency::enable_interrupts();
        } else if tracing::seal_one() {
            latency::enable_interrupts();
        } else {
            rest(cpu);
        }
    }
}

/// Halts until an interrupt comes. Interrupts are off before, and on after it.
fn rest(cpu: usize) {
    let now = timer::jiffies();
    let free = timer::next_due(cpu).map_or(u64::MAX, |due| due.saturating_sub(now));
    // A port without an interrupt is looked at by the tick.
    if free <= 1 || uart::is_polled() {
        power::halt_until_interrupt();
        return;
    }
    apic::stop_tick(found(), free);
    stat::rests_from(now);
    events::tick_stop(1, NO_DEPENDENCY);
    power::halt_until_interrupt();
    latency::disable_interrupts();
    apic::resume_tick(found());
    // The tick that came for a timer has counted itself.
    stat::has_rested((timer::jiffies() - now).saturating_sub(1));
    latency::enable_interrupts();
}
