//! Which CPUs are asked to do something (`machine::ipi::call`), and which are at it.
//!
//! A CPU takes what it is asked for before it does it: should it look again from inside, there is nothing. And who asks takes back what
//! a CPU that does not answer has not taken: should that come back, it does nothing that has ended.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The CPUs that are asked, a bit each, and above them those that are at it.
pub struct Asked(AtomicU64);

/// From the bit of a CPU that is asked to that of the same one at it.
const AT_IT: u32 = u32::BITS;

impl Default for Asked {
    fn default() -> Self {
        Self::new()
    }
}

impl Asked {
    /// Nobody is asked.
    pub const fn new() -> Self {
        Asked(AtomicU64::new(0))
    }

    /// Asks CPUs, a bit each. What was before [is over](Asked::is_over).
    pub fn ask(&self, cpus: u32) {
        self.0.store(cpus.into(), Release);
    }

    /// Whether a CPU is asked, and has not taken it.
    #[inline]
    pub fn is_asked(&self, cpu: usize) -> bool {
        self.0.load(Relaxed) as u32 >> cpu & 1 != 0
    }

    /// A CPU takes what it is asked for. True: it does it, and then says [`Asked::done`]; who asks waits for that. False: it has
    /// nothing to do, or has taken it before.
    pub fn take(&self, cpu: usize) -> bool {
        let asked = 1u64 << cpu;
        let take = |now: u64| (now & asked != 0).then_some(now ^ asked | asked << AT_IT);
        self.0.fetch_update(Acquire, Relaxed, take).is_ok()
    }

    /// What a CPU has taken is done.
    pub fn done(&self, cpu: usize) {
        self.0.fetch_and(!(1u64 << cpu << AT_IT), Release);
    }

    /// Whether all is done but by CPUs that do not answer: `answering` has a bit for each that does. True: nobody is at it, and nobody
    /// takes it any more.
    pub fn is_over(&self, answering: u32) -> bool {
        let now = self.0.load(Acquire);
        let waits = now & u64::from(answering) != 0 || now >> AT_IT != 0;
        // In one step: one that has come back may take it just now.
        !waits && self.0.compare_exchange(now, 0, Acquire, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    #[test]
    fn each_cpu_does_it_once_also_when_it_looks_from_inside() {
        let asked = Asked::new();
        assert!(!asked.take(1));
        asked.ask(0b1010);
        assert!(asked.is_asked(1) && !asked.is_asked(2));
        assert!(asked.take(1));
        assert!(!asked.is_asked(1) && !asked.take(1), "it is at it");
        assert!(!asked.is_over(0b1111), "two have not done it");
        asked.done(1);
        assert!(!asked.is_over(0b1111), "one has not done it");
        assert!(asked.take(3));
        assert!(!asked.is_over(0b1111));
        asked.done(3);
        assert!(asked.is_over(0b1111));
    }

    #[test]
    fn who_comes_back_finds_nothing_that_has_ended() {
        let asked = Asked::new();
        asked.ask(0b0110);
        assert!(asked.take(1));
        // CPU 2 does not answer, but CPU 1 is at it, whether it still answers or not.
        assert!(!asked.is_over(0b0011) && !asked.is_over(0b0001));
        asked.done(1);
        assert!(asked.is_over(0b0011));
        assert!(!asked.take(2), "it is taken back");
        asked.ask(0b0100);
        assert!(asked.take(2), "the next one is its own");
    }

    /// CPUs that come and go while they are asked: nobody is at it after its end.
    #[test]
    fn nobody_is_at_it_after_the_end() {
        let asked = Asked::new();
        let (valid, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let (online, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for cpu in 1..3 {
                let (asked, valid, stop, online, done) = (&asked, &valid, &stop, &online, &done);
                scope.spawn(move || {
                    while !stop.load(SeqCst) {
                        online.fetch_or(1 << cpu, SeqCst);
                        if asked.take(cpu) {
                            assert!(valid.load(SeqCst), "CPU {cpu} does what has ended");
                            done.fetch_add(1, SeqCst);
                            asked.done(cpu);
                        }
                        online.fetch_and(!(1 << cpu), SeqCst);
                    }
                });
            }
            while done.load(SeqCst) < 500 {
                valid.store(true, SeqCst);
                asked.ask(0b110);
                while !asked.is_over(online.load(SeqCst) as u32) {
                    std::hint::spin_loop();
                }
                valid.store(false, SeqCst);
            }
            stop.store(true, SeqCst);
        });
    }
}
