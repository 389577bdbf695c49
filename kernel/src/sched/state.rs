//! Sleeping and being woken, without a lost wake-up.
//!
//! A task that waits for something does this, and so does who makes it happen:
//!
//! ```text
//! sleeper                                            waker
//!   loop {                                             make the condition true
//!     state.sleep(kind)                                if state.claim(kinds) {
//!     if the condition is true { state.run(); end }      lock the queue of the CPU that the task belongs to
//!     lock the queue of this CPU                         if state.wake() && the task is not runnable {
//!     if state.leaves() { it is not runnable }             it is runnable, on this CPU or on another
//!     run another task (unlocks)                         }
//!   }                                                    unlock
//!                                                      }
//! ```
//!
//! Either the sleeper sees the condition, or the waker sees that it sleeps: each writes before it reads. Between `sleep`
//! and the other task's run the sleeper is still runnable, so a waker that comes then only makes it stay; the queue's lock, held
//! until the CPU has left the sleeper's stack, decides which of the two it is. Of several wakers one has the claim.
//!
//! `tests/sleep.rs` runs this under loom.

#[cfg(not(feature = "loom"))]
use core::sync::atomic::{AtomicU32, Ordering::SeqCst, fence};
#[cfg(feature = "loom")]
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst, fence};

/// Runs, or would if it had a CPU. The numbers are those that Linux's `sched_switch` shows.
pub const RUNNING: u32 = 0;
/// Sleeps until it is woken or killed.
pub const INTERRUPTIBLE: u32 = 1;
/// Sleeps until it is woken.
pub const UNINTERRUPTIBLE: u32 = 2;
/// Has ended.
pub const DEAD: u32 = 0x10;
/// Somebody is about to wake it. Nobody but [`State`] sees this one.
const WAKING: u32 = 0x200;

/// What a task does.
#[derive(Debug)]
pub struct State(AtomicU32);

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Of a task that runs.
    pub fn new() -> Self {
        State(AtomicU32::new(RUNNING))
    }

    /// As Linux's `sched_switch` and `/proc` show it.
    pub fn shown(&self) -> u32 {
        match self.0.load(SeqCst) {
            WAKING => RUNNING,
            state => state,
        }
    }

    /// The task itself: it is about to sleep, unless what it looks at next says otherwise.
    pub fn sleep(&self, kind: u32) {
        // A swap: what a waker did before its claim, which this may overwrite, is seen.
        self.0.swap(kind, SeqCst);
        // Visible before the condition is looked at; the other half is in `claim`.
        fence(SeqCst);
    }

    /// The task itself: it does not sleep after all.
    pub fn run(&self) {
        self.0.swap(RUNNING, SeqCst);
    }

    /// Whether the task gives its CPU up for good or until it is woken. Under the lock of its CPU's queue.
    pub fn leaves(&self) -> bool {
        !matches!(self.0.load(SeqCst), RUNNING | WAKING)
    }

    /// Whether the caller is to wake the task: it sleeps in one of the ways `kinds`, and nobody else wakes it.
    pub fn claim(&self, kinds: u32) -> bool {
        // What made the condition true is visible before the state is looked at: without this, both could look too early.
        fence(SeqCst);
        let mut now = self.0.load(SeqCst);
        while now & kinds & (INTERRUPTIBLE | UNINTERRUPTIBLE) != 0 {
            match self.0.compare_exchange(now, WAKING, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
    }

    /// Ends a claim: the task runs. False where it went on by itself meanwhile (and is asleep again, or has ended: neither
    /// is this waker's business). Under the lock of the queue of the task's CPU.
    pub fn wake(&self) -> bool {
        self.0
            .compare_exchange(WAKING, RUNNING, SeqCst, SeqCst)
            .is_ok()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn one_waker_has_the_claim() {
        let state = State::new();
        assert!(!state.claim(INTERRUPTIBLE), "a running task is not woken");
        state.sleep(INTERRUPTIBLE);
        assert!(state.leaves());
        assert!(!state.claim(UNINTERRUPTIBLE), "not asleep in that way");
        assert!(state.claim(INTERRUPTIBLE | UNINTERRUPTIBLE));
        assert!(!state.claim(INTERRUPTIBLE), "claimed already");
        assert!(!state.leaves(), "who is claimed stays");
        assert_eq!(state.shown(), RUNNING);
        assert!(state.wake());
        assert!(!state.wake());
    }

    #[test]
    fn a_late_waker_wakes_no_dead_task() {
        let state = State::new();
        state.sleep(UNINTERRUPTIBLE);
        assert!(state.claim(UNINTERRUPTIBLE));
        state.run();
        state.sleep(DEAD);
        assert!(!state.wake());
        assert!(state.leaves());
        assert!(!state.claim(INTERRUPTIBLE | UNINTERRUPTIBLE));
    }
}
