//! What an allocation is for, and its flags in the bits of Linux's `gfp_t` (`include/linux/gfp_types.h`), as the events of `kmem` tell them.
//!
//! No allocation sleeps here, so that no caller has to say whether it may. The flags are those that it would have to give in Linux,
//! where it is at that moment.

use crate::machine::percpu;
use x86_64::instructions::interrupts;

const HIGH: u64 = 0x20;
const IO: u64 = 0x40;
const FS: u64 = 0x80;
const ZERO: u64 = 0x100;
const DIRECT_RECLAIM: u64 = 0x400;
const KSWAPD_RECLAIM: u64 = 0x800;
const HARDWALL: u64 = 0x10_0000;

/// Where one may sleep.
const GFP_KERNEL: u64 = DIRECT_RECLAIM | KSWAPD_RECLAIM | IO | FS;
/// Where one may not: in an interrupt, or with interrupts or preemption off.
const GFP_ATOMIC: u64 = HIGH | KSWAPD_RECLAIM;
const GFP_USER: u64 = GFP_KERNEL | HARDWALL;

/// What an allocation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gfp {
    user: bool,
    zeroed: bool,
}

impl Gfp {
    /// The kernel's own.
    pub const KERNEL: Gfp = Gfp {
        user: false,
        zeroed: false,
    };
    /// A process's: what the kernel reserves for itself is not touched for it.
    pub const USER: Gfp = Gfp {
        user: true,
        zeroed: false,
    };

    /// The same, with a content of zeroes.
    pub const fn zeroed(self) -> Gfp {
        Gfp {
            zeroed: true,
            ..self
        }
    }

    /// Whether the content has to be zeroes.
    pub const fn is_zeroed(self) -> bool {
        self.zeroed
    }

    /// The flags of such an allocation here and now.
    pub fn bits(self) -> u64 {
        let may_sleep = || interrupts::are_enabled() && percpu::preempt_count() == 0;
        let base = match self.user {
            true => GFP_USER,
            false if may_sleep() => GFP_KERNEL,
            false => GFP_ATOMIC,
        };
        base | if self.zeroed { ZERO } else { 0 }
    }
}
