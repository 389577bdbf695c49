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

/// A spin lock. Only readers and set-up take one; no lock stands in a writer's way. Preemption is off while it is held
/// (see [`preemption`]): who spins would otherwise wait for a task that waits for its CPU.
#[cfg(not(feature = "loom"))]
#[derive(Default)]
pub(crate) struct Mutex<T>(spin::mutex::SpinMutex<T>);

/// Proof that the lock is held.
#[cfg(not(feature = "loom"))]
pub(crate) struct MutexGuard<'a, T> {
    // Dropped first: the lock is free before preemption comes back.
    guard: core::mem::ManuallyDrop<spin::mutex::SpinMutexGuard<'a, T>>,
}

#[cfg(not(feature = "loom"))]
impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(spin::mutex::SpinMutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            // With preemption on: the one that has the lock may be on its way to this CPU's next task.
            while self.0.is_locked() {
                spin_loop();
            }
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        preemption::off();
        match self.0.try_lock() {
            Some(guard) => Some(MutexGuard {
                guard: core::mem::ManuallyDrop::new(guard),
            }),
            None => {
                preemption::on();
                None
            }
        }
    }
}

#[cfg(not(feature = "loom"))]
impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: dropped once, here.
        unsafe { core::mem::ManuallyDrop::drop(&mut self.guard) };
        preemption::on();
    }
}

#[cfg(not(feature = "loom"))]
impl<T> core::ops::Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

#[cfg(not(feature = "loom"))]
impl<T> core::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Preemption around this crate's spin locks: one pair of functions for all tracers of a program, since a lock knows no platform.
/// Without them, as where threads are the host's, nothing is done.
pub(crate) mod preemption {
    use core::sync::atomic::{AtomicPtr, Ordering};

    static OFF: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
    static ON: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    pub(crate) fn set(off: fn(), on: fn()) {
        OFF.store(off as *mut (), Ordering::Relaxed);
        ON.store(on as *mut (), Ordering::Relaxed);
    }

    #[cfg_attr(feature = "loom", allow(dead_code))]
    fn call(function: &AtomicPtr<()>) {
        let function = function.load(Ordering::Relaxed);
        if !function.is_null() {
            // SAFETY: `set` put a function of this type there.
            unsafe { core::mem::transmute::<*mut (), fn()>(function)() };
        }
    }

    #[cfg_attr(feature = "loom", allow(dead_code))]
    pub(crate) fn off() {
        call(&OFF);
    }

    #[cfg_attr(feature = "loom", allow(dead_code))]
    pub(crate) fn on() {
        call(&ON);
    }
}

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
