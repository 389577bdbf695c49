//! Atomics and locks, all from here: the one place where the feature `loom` swaps `core` for a model checker's types.
//!
//! What stands in a `static` keeps to `core`, see [`fixed`]: the checker's types are made anew for each execution.

#[cfg(not(feature = "loom"))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(feature = "loom"))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence,
    fence,
};

#[cfg(feature = "loom")]
pub(crate) use loom::hint::spin_loop;
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// The checker never reorders what the compiler must not.
#[cfg(feature = "loom")]
pub(crate) fn compiler_fence(_: Ordering) {}

/// Here the compiler keeps the order of accesses, as an interrupt on this CPU sees it.
#[inline(always)]
pub(crate) fn barrier() {
    compiler_fence(Ordering::SeqCst);
}

/// For statics.
pub(crate) mod fixed {
    pub(crate) use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};
}

/// A spin lock. Only readers and set-up take one; no lock stands in a writer's way.
#[cfg(not(feature = "loom"))]
pub(crate) type Mutex<T> = spin::mutex::SpinMutex<T>;

/// The checker's lock, with the spin lock's face.
#[cfg(feature = "loom")]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(feature = "loom")]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        // A panic under the lock has ended the execution.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

#[cfg(feature = "loom")]
impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}
