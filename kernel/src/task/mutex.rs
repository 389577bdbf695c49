//! A lock whose waiters sleep. For tasks only: neither interrupts nor who has preemption off may take it.

use super::record::current;
use super::wait::{Interrupted, WaitQueue};
use crate::events;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use trace::errno::Errno;

/// The flag of `lock:contention_begin` for such a lock, as in Linux (`LCB_F_MUTEX`).
const LCB_F_MUTEX: u32 = 1 << 5;

/// A lock whose waiters sleep.
pub struct Mutex<T: ?Sized> {
    locked: AtomicBool,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives the value to one task at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: as for the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

/// Proof that the lock is held.
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Who has taken it gives it back.
    own: core::marker::PhantomData<*const ()>,
}

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Mutex {
            locked: AtomicBool::new(false),
            waiters: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> Mutex<T> {
    fn take(&self) -> bool {
        // All of SeqCst, as the wait queue's own steps: a waiter sees the lock free, or is seen in the queue.
        self.locked
            .compare_exchange(false, true, SeqCst, Acquire)
            .is_ok()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        if let Some(task) = current() {
            task.mutexes.fetch_add(1, Relaxed);
        }
        MutexGuard {
            mutex: self,
            own: core::marker::PhantomData,
        }
    }

    /// Takes the lock, if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.take().then(|| self.guard())
    }

    /// Takes the lock, asleep as long as somebody else has it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if !self.take() {
            let address = &raw const self.locked as u64;
            events::contention_begin(address, LCB_F_MUTEX);
            self.waiters.wait_until(|| self.take());
            events::contention_end(address, 0);
        }
        self.guard()
    }

    /// The same, for what others may hold for long.
    ///
    /// # Errors
    /// [`Interrupted`]: the task is to end, or ctrl-c is for it.
    pub fn lock_interruptible(&self) -> Result<MutexGuard<'_, T>, Interrupted> {
        if !self.take() {
            let address = &raw const self.locked as u64;
            events::contention_begin(address, LCB_F_MUTEX);
            let waited = self.waiters.wait_interruptible(None, || self.take());
            // As Linux has it: with `EINTR` where it was not taken.
            let error = waited.map_or(-Errno::EINTR.number(), |_| 0);
            events::contention_end(address, error);
            waited?;
        }
        Ok(self.guard())
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if let Some(task) = current() {
            task.mutexes.fetch_sub(1, Relaxed);
        }
        self.mutex.locked.store(false, SeqCst);
        self.mutex.waiters.wake_one();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this is the only guard.
        unsafe { &mut *self.mutex.value.get() }
    }
}
