//! Counts instructions by executing them one by one: with the processor's trap flag set, each raises SIGTRAP.

/// Instructions that `f` executes in user mode, and a few more; `None` where that cannot be told.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn count(f: impl FnOnce()) -> Option<u64> {
    use core::arch::asm;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static STEPS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn on_trap(_: libc::c_int) {
        STEPS.fetch_add(1, Relaxed);
    }

    // SAFETY: the handler touches nothing but an atomic, so that it may run between any two instructions.
    let before = unsafe { libc::signal(libc::SIGTRAP, on_trap as *const () as libc::sighandler_t) };
    if before == libc::SIG_ERR {
        return None;
    }
    STEPS.store(0, Relaxed);
    // SAFETY: sets the trap flag and nothing else; the kernel turns it off while the handler runs.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    f();
    // SAFETY: takes the trap flag away again.
    unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    // SAFETY: what was there before is put back.
    unsafe { libc::signal(libc::SIGTRAP, before) };
    Some(STEPS.load(Relaxed)).filter(|steps| *steps > 0)
}

/// Elsewhere it cannot be told.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn count(f: impl FnOnce()) -> Option<u64> {
    f();
    None
}
