//! Stores to a region, one word at a time: a reset may come after each of them.

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(any(test, feature = "sim"))]
pub use hook::at_each_store;
#[cfg(any(test, feature = "sim"))]
pub(super) use hook::stored;

/// Bytes of a word.
pub(super) const WORD: usize = 8;

/// A store that no later one overtakes.
#[inline(always)]
pub(super) fn put(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
    stored();
}

/// Stores `bytes`, filled up with zeroes to whole words, at the start of `words`; what does not fit is left out.
pub(super) fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, part) in words.iter().zip(bytes.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..part.len()].copy_from_slice(part);
        put(word, u64::from_ne_bytes(value));
    }
}

/// Fills what is nobody's: no store of these is of interest by itself, so that a test looks after some of them only.
pub(super) fn fill_zero(words: &[AtomicU64]) {
    for part in words.chunks(64) {
        for word in part {
            word.store(0, Ordering::Release);
        }
        stored();
    }
}

/// Copies the words' bytes out, as many as `bytes` has room for.
pub(super) fn get_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
    for (word, part) in words.iter().zip(bytes.chunks_mut(WORD)) {
        let value = word.load(Ordering::Acquire).to_ne_bytes();
        part.copy_from_slice(&value[..part.len()]);
    }
}

/// A store has been made: where a test makes a reset.
#[cfg(not(any(test, feature = "sim")))]
#[inline(always)]
pub(super) fn stored() {}

#[cfg(any(test, feature = "sim"))]
mod hook {
    use core::cell::RefCell;
    use std::boxed::Box;

    type Hook = Box<dyn FnMut()>;

    std::thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Calls the hook. What that stores itself does not count.
    pub(in super::super) fn stored() {
        let Some(mut hook) = HOOK.take() else {
            return;
        };
        hook();
        HOOK.set(Some(hook));
    }

    /// Runs `f`, in which `hook` is called after each store that this thread makes to a region through this module.
    pub fn at_each_store<R>(hook: impl FnMut() + 'static, f: impl FnOnce() -> R) -> R {
        HOOK.set(Some(Box::new(hook)));
        let result = f();
        HOOK.set(None);
        result
    }
}
