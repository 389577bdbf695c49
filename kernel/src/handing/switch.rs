//! Whether a kexec hands over: `kho=on|off` on the command line, `/sys/kernel/kho/active` at run time.
//!
//! Off, a kexec is an ordinary one: nobody is frozen or described, nothing crosses, and the new kernel, which is told so by
//! its boot parameters (an FDT of no place and no size), starts cold in all of memory. The switch is about what this kernel
//! leaves; what it was left is taken over in any case. Scratch stays as it is, so that it can be switched on again.

use crate::boot;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::cmdline;

static ACTIVE: AtomicBool = AtomicBool::new(true);

/// Reads the command line. Called once, before the first prompt.
pub fn init() {
    match boot::cmdline().value("kho").map(cmdline::parse_switch) {
        None => {}
        Some(Some(on)) => set(on),
        Some(None) => crate::warning!("kho: it is either on or off; it stays on"),
    }
}

/// Whether the next kexec hands over.
pub fn active() -> bool {
    ACTIVE.load(Relaxed)
}

/// Switches; what has been loaded stays loaded.
pub fn set(on: bool) {
    if ACTIVE.swap(on, Relaxed) != on {
        crate::info!(
            "handover: {}",
            match on {
                true => "on: a kexec hands over",
                false => "off: the next kexec is an ordinary one, over which nothing crosses",
            }
        );
    }
}
