//! Counters that one CPU writes, with interrupts nesting inside one another, and any CPU may read.
//!
//! Linux has `local_t` for this: a read-modify-write that an interrupt on the same CPU cannot split, which on
//! x86 needs no `lock` prefix. This is the portable fallback, on ordinary atomics with relaxed order; where a write
//! has to be seen by another CPU in order, the code that needs it says so with a fence of its own.

use crate::sync::{AtomicU64, Ordering};

/// A 64-bit counter owned by one CPU.
#[derive(Debug, Default)]
pub struct LocalU64(AtomicU64);

impl LocalU64 {
    /// A counter that starts at `v`.
    pub const fn new(v: u64) -> Self {
        LocalU64(AtomicU64::new(v))
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value. An interrupt's addition between a `get` and a `set` is lost: only for owners who rule that out.
    #[inline]
    pub fn set(&self, v: u64) {
        self.0.store(v, Ordering::Relaxed);
    }

    /// Adds (wrapping) and returns the new value.
    #[inline]
    pub fn add_return(&self, v: u64) -> u64 {
        self.0.fetch_add(v, Ordering::Relaxed).wrapping_add(v)
    }

    /// Adds (wrapping).
    #[inline]
    pub fn add(&self, v: u64) {
        self.0.fetch_add(v, Ordering::Relaxed);
    }

    /// Subtracts (wrapping).
    #[inline]
    pub fn sub(&self, v: u64) {
        self.0.fetch_sub(v, Ordering::Relaxed);
    }

    /// Sets `new` if the value is `old`; says whether it did.
    #[inline]
    pub fn cmpxchg(&self, old: u64, new: u64) -> bool {
        self.0
            .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}
