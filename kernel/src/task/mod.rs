//! Tasks: none yet. This much the machine names (issue 4).

use crate::machine::traps::Frame;

/// A task, once there are any.
pub enum Task {}

/// Called at the end of each interrupt that came with preemption on, after its end at the APIC, interrupts off.
pub fn on_interrupt_exit(_: &mut Frame) {}

/// What a CPU does that has nothing to do: it halts until interrupts come.
pub fn idle_loop() -> ! {
    loop {
        crate::power::wait(|| false);
    }
}
