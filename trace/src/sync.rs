//! Atomics and locks, all from here: the one place to swap `core` for a model checker's types.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence,
    fence,
};

/// A spin lock. Only readers and set-up take one; no lock stands in a writer's way.
pub(crate) type Mutex<T> = spin::mutex::SpinMutex<T>;
