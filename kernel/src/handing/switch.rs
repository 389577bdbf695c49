//! Whether a kexec hands over: `kho=on|off` on the command line (or 1, 0 and what else [`cmdline::parse_switch`] takes),
//! `/sys/kernel/kho/active` at run time.
//!
//! Off, a kexec is an ordinary one: nobody is frozen or described, nothing crosses, and the new kernel, which is told so by
//! its boot parameters (an FDT of no size, and why), starts cold in all of memory. The switch is about what this kernel
//! leaves; what it was left is taken over in any case. Scratch stays as it is, so that it can be switched on again.

use crate::boot;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::cmdline;
use kernel::params::{Extent, OFF_AT_RUN_TIME, OFF_BY_CMDLINE};

static ACTIVE: AtomicBool = AtomicBool::new(true);
/// It was the command line that switched last.
static BY_CMDLINE: AtomicBool = AtomicBool::new(false);

/// Who has switched it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffBy {
    /// `kho=off`.
    CommandLine,
    /// A write to `active`.
    RunTime,
}

impl OffBy {
    /// What the boot parameters of a kexec say in place of an FDT's; `None`: they say where there is one.
    pub(super) fn read(fdt: Extent) -> Option<OffBy> {
        match fdt {
            OFF_BY_CMDLINE => Some(OffBy::CommandLine),
            OFF_AT_RUN_TIME => Some(OffBy::RunTime),
            _ => None,
        }
    }
}

impl fmt::Display for OffBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OffBy::CommandLine => "switched off by kho= on its command line",
            OffBy::RunTime => "0 in its /sys/kernel/kho/active",
        })
    }
}

/// Reads the command line. Called once, before the first prompt.
pub fn init() {
    let Some(value) = boot::cmdline().value("kho") else {
        return;
    };
    match cmdline::parse_switch(value) {
        Some(on) => {
            set(on);
            BY_CMDLINE.store(true, Relaxed);
        }
        None => crate::warning!("kho: `{value}` is neither on nor off; it stays on"),
    }
}

/// Whether the next kexec hands over.
pub fn active() -> bool {
    ACTIVE.load(Relaxed)
}

/// What the boot parameters say where no FDT is handed over.
pub fn no_fdt() -> Extent {
    match BY_CMDLINE.load(Relaxed) {
        true => OFF_BY_CMDLINE,
        false => OFF_AT_RUN_TIME,
    }
}

/// Switches; what has been loaded stays loaded.
pub fn set(on: bool) {
    BY_CMDLINE.store(false, Relaxed);
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
