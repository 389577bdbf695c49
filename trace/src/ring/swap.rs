//! Exchanging the contents of two buffers: a snapshot.
//!
//! The pages do not move: the two rings change places, with all that belongs to them. What is the buffer's own stays where it
//! is: who writes to it now (`writers`), whether anybody may (`disabled`), and the settings.
//!
//! Lock order (**I9**): who needs two reader locks takes the one of the buffer at the lower address first. Nobody takes any
//! other lock under a reader lock. So no two can wait for one another.

use super::{CpuBuffer, Reader, WAIT_LIMIT};
use crate::error::TraceError;
use crate::platform::Platform;
use crate::sync::spin_loop;

impl<P: Platform> CpuBuffer<P> {
    /// Exchanges the contents of both buffers: events, counters, what was consumed, size and sub-buffer order. Settings
    /// ([`set_overwrite`](Self::set_overwrite)) stay. Iterators on either come to their end.
    ///
    /// Both must be for the same CPU and on the same machine: only that CPU may write to either. Not to be called from
    /// within a write, nor from where a reader may have been interrupted: see [`try_swap`](Self::try_swap). Events that are
    /// written meanwhile (less than a microsecond, once the writes under way have ended) are refused and counted as dropped.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end, [`TraceError::Retired`], [`TraceError::Mapped`]; then nothing has changed.
    pub fn swap(&self, other: &CpuBuffer<P>) -> Result<(), TraceError> {
        let Some((first, second)) = self.in_order(other) else {
            return Ok(());
        };
        self.platform.no_irq(|| {
            let mut a = first.reader.lock();
            let mut b = second.reader.lock();
            first.swap_locked(second, &mut a, &mut b, WAIT_LIMIT)
        })
    }

    /// As [`swap`](Self::swap), but never waits: for interrupts (the non-maskable too), and for where a write may be under way
    /// on this CPU. With a [`Locality`](crate::platform::Locality) that promises
    /// [`barrier_all`](Platform::barrier_all), that is called, and has to work there.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] at once if a write to either is under way, or a reader holds either; [`TraceError::Retired`],
    /// [`TraceError::Mapped`]; then nothing has changed.
    pub fn try_swap(&self, other: &CpuBuffer<P>) -> Result<(), TraceError> {
        let Some((first, second)) = self.in_order(other) else {
            return Ok(());
        };
        self.platform.no_irq(|| {
            let mut a = first.reader.try_lock().ok_or(TraceError::Busy)?;
            let mut b = second.reader.try_lock().ok_or(TraceError::Busy)?;
            // Before all CPUs are asked for a barrier: who tries at the end of each write that is nested in another one would spend
            // longer with that than it is until the next interrupt, and the write below would never end.
            if !(first.is_quiet() && second.is_quiet()) {
                return Err(TraceError::Busy);
            }
            first.swap_locked(second, &mut a, &mut b, 1)
        })
    }

    /// The two in the order of their locks; `None` if it is one.
    fn in_order<'b>(
        &'b self,
        other: &'b CpuBuffer<P>,
    ) -> Option<(&'b CpuBuffer<P>, &'b CpuBuffer<P>)> {
        let at = |buffer: &CpuBuffer<P>| core::ptr::from_ref(buffer).addr();
        match at(self).cmp(&at(other)) {
            core::cmp::Ordering::Less => Some((self, other)),
            core::cmp::Ordering::Equal => None,
            core::cmp::Ordering::Greater => Some((other, self)),
        }
    }

    /// With both locks held: looks up to `looks` times whether both are quiet.
    fn swap_locked(
        &self,
        other: &CpuBuffer<P>,
        mine: &mut Reader,
        others: &mut Reader,
        looks: u32,
    ) -> Result<(), TraceError> {
        self.shut();
        other.shut();
        self.barrier_all();
        // Shut, a buffer that is quiet once stays so.
        let quiet = (0..looks).any(|look| {
            if look > 0 {
                spin_loop();
            }
            self.is_quiet() && other.is_quiet()
        });
        let result = if quiet {
            self.swap_quiet(other, mine, others)
        } else {
            Err(TraceError::Busy)
        };
        other.open();
        self.open();
        result
    }

    /// With both locks held, and both shut and quiet.
    fn swap_quiet(
        &self,
        other: &CpuBuffer<P>,
        mine: &mut Reader,
        others: &mut Reader,
    ) -> Result<(), TraceError> {
        // SAFETY: both reader locks are held, no writer is within either ring nor can enter it (I5), and they are two.
        let (a, b) = unsafe { (&mut *self.ring.get(), &mut *other.ring.get()) };
        if a.pages.is_empty() || b.pages.is_empty() {
            return Err(TraceError::Retired);
        }
        mine.not_mapped().and(others.not_mapped())?;
        self.settle(a);
        other.settle(b);
        core::mem::swap(a, b);
        core::mem::swap(mine, others);
        for (a, b) in self.counters().into_iter().zip(other.counters()) {
            let value = a.get();
            a.set(b.get());
            b.set(value);
        }
        self.next_epoch();
        other.next_epoch();
        Ok(())
    }
}
