//! Who may be in the ring: writers who come and go, and, alone, who changes it.
//!
//! A writer says in `writers` that it begins, and then looks at `disabled`; who changes the ring says in `disabled` that nobody
//! may begin, and then looks at `writers`. [`Locality`](crate::platform::Locality) tells how one of them always sees the other.

use super::{BEGUN_ONE, CONTEXTS, CpuBuffer, Level, Reader, ReserveError, Ring, WAIT_LIMIT};
use crate::error::TraceError;
use crate::platform::Platform;
use crate::sync::{Ordering, barrier, spin_loop};

impl<P: Platform> CpuBuffer<P> {
    /// Begins a write: from here to `end_write` the ring keeps its shape.
    #[inline(always)]
    pub(super) fn begin(&self, level: Level, len: usize) -> Result<(&Ring, u64), ReserveError> {
        let Some(bit) = self.enter(level) else {
            self.dropped.add(1);
            return Err(ReserveError::Recursion);
        };
        self.platform.may_interrupt();
        if self.disabled.load(Ordering::SeqCst) != 0 {
            self.leave(bit);
            self.platform.may_interrupt();
            return Err(self.shut_out());
        }
        // SAFETY: our bit is in `writers`, and `disabled` was zero after that: the ring is shared only until `leave` or
        // `try_leave` (I5).
        let ring = unsafe { &*self.ring.get() };
        let max = ring.max_payload();
        if len > max {
            self.end_slow(ring, bit);
            return Err(ReserveError::TooLarge { len, max });
        }
        Ok((ring, bit))
    }

    #[cold]
    fn shut_out(&self) -> ReserveError {
        self.refused.add(1);
        ReserveError::Disabled
    }

    /// Here the compiler keeps the order of accesses, as an interrupt sees it.
    #[inline(always)]
    #[track_caller]
    pub(super) fn barrier(&self) {
        barrier();
        self.platform.may_interrupt();
    }

    /// Marks the context as writing, with the bit that is returned; `None` if it is writing, and the one spare bit is taken
    /// too. The spare bit is for the moment in which an interrupt has come but the context does not say so yet.
    #[inline(always)]
    fn enter(&self, level: Level) -> Option<u64> {
        loop {
            let now = self.writers.get();
            self.platform.may_interrupt();
            let mut bit = 1 << level as u32;
            if now & bit != 0 {
                bit = 1;
                if now & bit != 0 {
                    return None;
                }
            }
            if P::LOCALITY.is_pinned() {
                // Who comes before this has left again when we go on: only the number of begun writes has changed.
                self.writers.add(BEGUN_ONE + bit);
                self.barrier();
                return Some(bit);
            }
            // Locked; and by exchange, so that even two CPUs that write, which they must not, take different bits.
            let writers = self.writers.shared();
            if writers
                .compare_exchange(
                    now,
                    now.wrapping_add(BEGUN_ONE + bit),
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                return Some(bit);
            }
        }
    }

    /// Takes the context's bit back. From here on the ring may change.
    pub(super) fn leave(&self, bit: u64) {
        self.barrier();
        if P::LOCALITY.is_pinned() {
            self.writers.sub(bit);
        } else {
            self.writers.shared().fetch_sub(bit, Ordering::SeqCst);
        }
    }

    /// As `leave`, if no write has come since `writers` was `now`.
    #[inline(always)]
    pub(super) fn try_leave(&self, now: u64, bit: u64) -> bool {
        self.barrier();
        if P::LOCALITY.is_pinned() {
            return self.writers.cmpxchg(now, now - bit);
        }
        self.writers
            .shared()
            .compare_exchange(now, now - bit, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether the write that asks interrupted none.
    pub(super) fn outermost(&self) -> bool {
        (self.writers.get() & CONTEXTS).is_power_of_two()
    }

    /// Runs `f` under the reader lock.
    pub(super) fn locked<R>(&self, f: impl FnOnce(&mut Reader, &Ring) -> R) -> R {
        self.platform.no_irq(|| {
            let mut reader = self.reader.lock();
            // SAFETY: under the reader lock the ring is shared only (I5).
            let ring = unsafe { &*self.ring.get() };
            f(&mut reader, ring)
        })
    }

    /// As `locked`, but gives up after a while: for the moment when other CPUs stand still for good.
    pub(super) fn try_locked<R>(
        &self,
        f: impl FnOnce(&mut Reader, &Ring) -> R,
    ) -> Result<R, TraceError> {
        self.platform.no_irq(|| {
            for _ in 0..WAIT_LIMIT {
                if let Some(mut reader) = self.reader.try_lock() {
                    // SAFETY: under the reader lock the ring is shared only (I5).
                    let ring = unsafe { &*self.ring.get() };
                    return Ok(f(&mut reader, ring));
                }
                spin_loop();
            }
            Err(TraceError::Busy)
        })
    }

    /// Runs `f` while no write is under way, none starts, and nobody reads. Writes that are tried meanwhile are refused
    /// and counted as dropped.
    ///
    /// Must not be called from within a write.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end.
    pub(super) fn exclusive<R>(
        &self,
        f: impl FnOnce(&mut Reader, &mut Ring) -> Result<R, TraceError>,
    ) -> Result<R, TraceError> {
        self.platform.no_irq(|| {
            let mut reader = self.reader.lock();
            self.alone(&mut reader, WAIT_LIMIT, f)
        })
    }

    /// With the reader lock held: shuts the buffer, and runs `f` once no write is under way; looks for that up to `looks` times.
    fn alone<R>(
        &self,
        reader: &mut Reader,
        looks: u32,
        f: impl FnOnce(&mut Reader, &mut Ring) -> Result<R, TraceError>,
    ) -> Result<R, TraceError> {
        self.shut();
        self.barrier_all();
        let quiet = (0..looks).any(|look| {
            if look > 0 {
                spin_loop();
            }
            self.is_quiet()
        });
        let result = if quiet {
            // SAFETY: the reader lock is held, and no writer is within the ring nor can enter it (I5).
            let ring = unsafe { &mut *self.ring.get() };
            self.settle(ring);
            f(reader, ring)
        } else {
            Err(TraceError::Busy)
        };
        self.open();
        result
    }

    /// As [`exclusive`](Self::exclusive), at once or not at all: for where an interrupt may have come into a write, or into a reader.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write is under way, or a reader holds the lock.
    pub(super) fn exclusive_now<R>(
        &self,
        f: impl FnOnce(&mut Reader, &mut Ring) -> Result<R, TraceError>,
    ) -> Result<R, TraceError> {
        self.platform.no_irq(|| {
            let mut reader = self.reader.try_lock().ok_or(TraceError::Busy)?;
            // Before all CPUs are asked for a barrier, as in `try_swap`.
            if !self.is_quiet() {
                return Err(TraceError::Busy);
            }
            self.alone(&mut reader, 1, f)
        })
    }

    /// Lets no write start, once `barrier_all` has been called: either a writer sees `disabled` after that, or we see it in
    /// `writers`, see [`Locality`](crate::platform::Locality).
    pub(super) fn shut(&self) {
        self.disabled.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn barrier_all(&self) {
        if P::LOCALITY.is_pinned() {
            self.platform.barrier_all();
        }
    }

    /// Takes one `shut` back.
    pub(super) fn open(&self) {
        self.disabled.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no write is under way.
    ///
    /// Where the writers' accesses are not ordered by `barrier_all`, this is a modification (of nothing): one that a
    /// writer's own either comes before, and is seen, or comes after, and then it sees what `shut` did.
    pub(super) fn is_quiet(&self) -> bool {
        let writers = self.writers.shared();
        let now = if P::LOCALITY.is_pinned() {
            writers.load(Ordering::SeqCst)
        } else {
            writers.fetch_add(0, Ordering::SeqCst)
        };
        now & CONTEXTS == 0
    }

    /// What refused writes leave behind. To be called with the ring to oneself.
    ///
    /// They are counted apart, since they are not kept out. And one that had said that it begins, when an interrupt's write
    /// came and went, and found the buffer shut then, had that one's commit left to it.
    pub(super) fn settle(&self, ring: &Ring) {
        let refused = self.refused.get();
        let told = self.refused_told.load(Ordering::Relaxed);
        self.refused_told.store(refused, Ordering::Relaxed);
        self.dropped.add(refused.wrapping_sub(told));
        if !ring.pages.is_empty() {
            self.commit_to_write(ring);
        }
    }

    /// See I8.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The ring is another one from here on. Under the reader lock.
    pub(super) fn next_epoch(&self) {
        self.epoch
            .store(self.epoch().wrapping_add(1), Ordering::Relaxed);
    }
}
