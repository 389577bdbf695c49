//! Counters that one CPU writes, with interrupts nesting inside one another, and any CPU may read.
//!
//! Linux has `local_t` for this: a read-modify-write that an interrupt on the same CPU cannot split. On x86-64 that is one
//! instruction without the `lock` prefix, which an interrupt comes before or after, never within; elsewhere, and under
//! Miri and the model checker, it is an ordinary atomic one.
//!
//! **L1** At any time at most one CPU modifies a counter; which one may change, if the change synchronizes both (as a
//! scheduler does when it moves a thread). Who breaks this loses counts: wrong figures, but no undefined behaviour, since
//! each access is still an atomic one. Nothing that memory safety rests on is counted here, unless the
//! platform has promised L1, see [`Locality`](crate::platform::Locality).
//!
//! Orders are those of x86-64, where a store is not passed by earlier accesses, nor a load by later ones: the fallback's
//! modifications acquire and release.

use crate::sync::{AtomicU64, Ordering};

/// A 64-bit counter owned by one CPU (L1).
#[derive(Debug, Default)]
pub struct LocalU64(AtomicU64);

impl LocalU64 {
    /// A counter that starts at `v`.
    #[cfg(feature = "loom")]
    pub fn new(v: u64) -> Self {
        LocalU64(AtomicU64::new(v))
    }

    /// A counter that starts at `v`.
    #[cfg(not(feature = "loom"))]
    pub const fn new(v: u64) -> Self {
        LocalU64(AtomicU64::new(v))
    }

    /// The value now.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The value now; what was done before it was set so is visible after this.
    #[inline(always)]
    pub fn get_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value. An interrupt's addition between a `get` and a `set` is lost: only for owners who rule that out.
    #[inline(always)]
    pub fn set(&self, v: u64) {
        self.0.store(v, Ordering::Relaxed);
    }

    /// Adds (wrapping) and returns the new value.
    #[inline(always)]
    pub fn add_return(&self, v: u64) -> u64 {
        rmw::fetch_add(&self.0, v).wrapping_add(v)
    }

    /// Adds (wrapping).
    #[inline(always)]
    pub fn add(&self, v: u64) {
        rmw::add(&self.0, v);
    }

    /// Adds one (wrapping).
    #[inline(always)]
    pub fn inc(&self) {
        rmw::inc(&self.0);
    }

    /// Subtracts (wrapping).
    #[inline(always)]
    pub fn sub(&self, v: u64) {
        rmw::add(&self.0, v.wrapping_neg());
    }

    /// Sets `new` if the value is `old`; says whether it did.
    #[inline(always)]
    pub fn cmpxchg(&self, old: u64, new: u64) -> bool {
        rmw::cmpxchg(&self.0, old, new)
    }

    /// The counter as an atomic that all CPUs may modify, for an owner who cannot promise L1.
    #[inline(always)]
    pub(crate) fn shared(&self) -> &AtomicU64 {
        &self.0
    }
}

#[cfg(all(target_arch = "x86_64", not(miri), not(feature = "loom")))]
mod rmw {
    use super::AtomicU64;
    use core::arch::asm;

    // The assembler blocks are taken to access any memory, so that the compiler moves nothing over them.

    #[inline(always)]
    pub fn fetch_add(a: &AtomicU64, v: u64) -> u64 {
        let mut v = v;
        // SAFETY: the pointer is valid and aligned, and memory of an atomic may be written through `&`. The instruction is
        // a load and a store of the whole word, each of them atomic on x86-64.
        unsafe {
            asm!("xadd qword ptr [{}], {}", in(reg) a.as_ptr(), inout(reg) v, options(nostack));
        }
        v
    }

    #[inline(always)]
    pub fn add(a: &AtomicU64, v: u64) {
        // SAFETY: as in `fetch_add`.
        unsafe {
            asm!("add qword ptr [{}], {}", in(reg) a.as_ptr(), in(reg) v, options(nostack));
        }
    }

    #[inline(always)]
    pub fn inc(a: &AtomicU64) {
        // SAFETY: as in `fetch_add`.
        unsafe {
            asm!("inc qword ptr [{}]", in(reg) a.as_ptr(), options(nostack));
        }
    }

    #[inline(always)]
    pub fn cmpxchg(a: &AtomicU64, old: u64, new: u64) -> bool {
        let found: u64;
        // SAFETY: as in `fetch_add`.
        unsafe {
            asm!(
                "cmpxchg qword ptr [{}], {}",
                in(reg) a.as_ptr(),
                in(reg) new,
                inout("rax") old => found,
                options(nostack)
            );
        }
        found == old
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri), not(feature = "loom"))))]
mod rmw {
    use super::AtomicU64;
    use crate::sync::Ordering;

    pub fn fetch_add(a: &AtomicU64, v: u64) -> u64 {
        a.fetch_add(v, Ordering::AcqRel)
    }

    pub fn add(a: &AtomicU64, v: u64) {
        a.fetch_add(v, Ordering::AcqRel);
    }

    pub fn inc(a: &AtomicU64) {
        add(a, 1);
    }

    pub fn cmpxchg(a: &AtomicU64, old: u64, new: u64) -> bool {
        a.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}
