//! From one task's stack to another's.

use super::queue;
use super::record::Task;
use crate::latency;
use core::arch::naked_asm;
use core::sync::atomic::Ordering::Relaxed;

/// Saves the registers that a call preserves (System V ABI, 3.2.1) on this stack and its pointer in `save`, and goes on where the
/// stack `load` was left in the same way. The kernel is built without floating point, so there is nothing else to save.
///
/// # Safety
/// Interrupts are off. `load` was saved by this function, or made by [`first_frame`], and nobody has used that stack since.
#[unsafe(naked)]
pub unsafe extern "C" fn stacks(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Prepares a new stack, so that [`stacks`] goes on in [`begin`]. Returns the stack pointer.
///
/// # Safety
/// `top` is the top of a mapped stack that nobody uses.
pub unsafe fn first_frame(top: u64) -> u64 {
    // From the top: where `begin` would return to (nowhere, which also ends a backtrace); `begin`, to which `stacks` returns,
    // with the stack aligned as behind a call; six registers, all 0.
    let words: [u64; 8] = [0, 0, 0, 0, 0, 0, begin as *const () as u64, 0];
    let at = top - size_of_val(&words) as u64;
    // SAFETY: the caller's promise.
    unsafe { (at as *mut [u64; 8]).write(words) };
    at
}

/// Where a new task starts, interrupts off.
extern "C" fn begin() -> ! {
    queue::finish_switch();
    latency::enable_interrupts();
    if let Some(entry) = super::record::current().and_then(|task| task.entry.lock().take()) {
        entry();
    }
    super::exit()
}

/// Goes from one task to another.
///
/// # Safety
/// As [`stacks`]: `prev` runs here, `next` nowhere.
pub unsafe fn tasks(prev: &Task, next: &Task) {
    // SAFETY: the caller's promise.
    unsafe { stacks(prev.rsp.as_ptr(), next.rsp.load(Relaxed)) };
}
