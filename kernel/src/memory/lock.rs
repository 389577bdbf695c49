//! A lock for data that interrupt handlers use too: interrupts are off on this CPU while it is held.

use crate::machine::ipi;
use crate::{events, latency};
use core::hint::spin_loop;
use core::ops::{Deref, DerefMut};
use x86_64::instructions::interrupts;

/// The flag of `lock:contention_begin` for a spin lock, as in Linux.
const LCB_F_SPIN: u32 = 1;

/// A spin lock that keeps interrupts off while it is held.
pub struct IrqMutex<T>(spin::Mutex<T>);

/// Proof that the lock is held.
pub struct IrqGuard<'a, T> {
    // Dropped first: the lock is free before interrupts come back.
    guard: core::mem::ManuallyDrop<spin::MutexGuard<'a, T>>,
    were_on: bool,
}

impl<T> IrqMutex<T> {
    pub const fn new(value: T) -> Self {
        IrqMutex(spin::Mutex::new(value))
    }

    /// Waits for the lock. Interrupts are let in meanwhile where they were on, and what other CPUs ask for is done in any
    /// case: the one that has the lock may wait for this one.
    #[inline]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        match self.try_lock() {
            Some(guard) => guard,
            None => self.contend(),
        }
    }

    /// Takes the lock, if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let were_on = interrupts::are_enabled();
        interrupts::disable();
        if were_on {
            latency::irqs_off();
        }
        match self.0.try_lock() {
            Some(guard) => Some(IrqGuard {
                guard: core::mem::ManuallyDrop::new(guard),
                were_on,
            }),
            None => {
                if were_on {
                    latency::enable_interrupts();
                }
                None
            }
        }
    }

    #[cold]
    fn contend(&self) -> IrqGuard<'_, T> {
        let address = &raw const *self as *const () as u64;
        let were_on = interrupts::are_enabled();
        events::contention_begin(address, LCB_F_SPIN);
        loop {
            if !were_on {
                ipi::serve();
            }
            spin_loop();
            if let Some(guard) = self.try_lock() {
                events::contention_end(address, 0);
                return guard;
            }
        }
    }

    /// Opens the lock by force.
    ///
    /// # Safety
    /// Whoever holds it never goes on.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.force_unlock() };
    }
}

impl<T> Drop for IrqGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { core::mem::ManuallyDrop::drop(&mut self.guard) };
        if self.were_on {
            latency::enable_interrupts();
        }
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Runs `f` with interrupts off.
#[inline]
pub fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    if !interrupts::are_enabled() {
        return f();
    }
    latency::disable_interrupts();
    let result = f();
    latency::enable_interrupts();
    result
}
