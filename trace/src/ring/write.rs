//! The writer's side: reserve, commit, discard.
//!
//! `barrier()` marks where the compiler must keep the order that an interrupt on this CPU sees. There, and at the other steps of a
//! write, the platform is told that an interrupt may come ([`Platform::may_interrupt`]): tests write from within, at every step.
//!
//! The usual write is inlined where it is made, so that a payload of fixed size is a few stores: [`CpuBuffer::reserve`] with
//! `reserve_fast`, [`Reservation::write`], [`Reservation::commit`] with `end_write`. Whatever is rarer is called out of line:
//! the first event of a page, a full page, a long time since the event before, a write that was interrupted.

use super::reserve::Slot;
use super::{CpuBuffer, Level, ReserveError, Ring};
use crate::page::{self, EVENT_HEADER_SIZE};
use crate::platform::Platform;
use crate::sync::{AtomicU32, Ordering};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

/// A reserved event, not visible yet. Fill it, then [`commit`](Reservation::commit) it; dropping it discards it.
///
/// Writers nest: a reservation must be ended before the context that it interrupted goes on. It holds the buffer open for
/// writing, so that it must not be forgotten, and stays on its CPU.
#[must_use = "a reservation that is dropped is discarded"]
pub struct Reservation<'b, P: Platform> {
    buffer: &'b CpuBuffer<P>,
    ring: &'b Ring,
    slot: Slot<'b>,
    /// The payload's words.
    words: &'b [AtomicU32],
    /// Bytes of the payload.
    len: usize,
    /// Bytes of the event without a time event.
    size: usize,
    /// Our bit of `writers`.
    bit: u64,
    /// Not Send: it belongs to the CPU that it was made on.
    _cpu: PhantomData<*mut ()>,
}

impl<P: Platform> CpuBuffer<P> {
    /// Reserves an event with a payload of `len` bytes, at the time that `clock` tells. To be called on the buffer's
    /// own CPU, in the context `level`, and ended there with preemption off all the while.
    ///
    /// # Errors
    ///
    /// See [`ReserveError`]; all but `TooLarge` are counted in the buffer.
    #[inline(always)]
    pub fn reserve<C: Fn() -> u64 + ?Sized>(
        &self,
        level: Level,
        len: usize,
        clock: &C,
    ) -> Result<Reservation<'_, P>, ReserveError> {
        let (ring, bit) = self.begin(level, len)?;
        let size = page::event_size(len);
        let slot = self.reserve_fast(ring, bit, size, clock)?;
        Ok(self.reservation(ring, bit, slot, len))
    }

    /// As [`reserve`](Self::reserve), with a time of one's own. A time before that of the newest event in the
    /// buffer becomes the newest event's; one that is not past, or within another write, can become the time now.
    pub fn reserve_at<C: Fn() -> u64 + ?Sized>(
        &self,
        level: Level,
        len: usize,
        ts: u64,
        clock: &C,
    ) -> Result<Reservation<'_, P>, ReserveError> {
        let (ring, bit) = self.begin(level, len)?;
        let size = page::event_size(len);
        let index = ring.tail.load(Ordering::Relaxed);
        let mut slot = Slot {
            page: &ring.pages[index],
            index,
            start: 0,
            event: 0,
            ts,
            delta: 0,
        };
        if !self.reserve_slow(ring, bit, size, Some(ts), clock, None, &mut slot) {
            return Err(ReserveError::Full);
        }
        Ok(self.reservation(ring, bit, slot, len))
    }

    /// What comes after the place is found: the header, the count, and the payload's words.
    #[inline(always)]
    fn reservation<'b>(
        &'b self,
        ring: &'b Ring,
        bit: u64,
        slot: Slot<'b>,
        len: usize,
    ) -> Reservation<'b, P> {
        let size = page::event_size(len);
        let words = &slot.page.buf.words(ring.room)[slot.event / 4..][..size / 4];
        let (head, array0) = page::data_header(size, slot.delta);
        words[0].store(head, Ordering::Relaxed);
        let mut payload = EVENT_HEADER_SIZE / 4;
        if let Some(length) = array0 {
            words[1].store(length, Ordering::Relaxed);
            payload += 1;
        }
        // What rounds the payload up is always zero.
        if len == 0 || !len.is_multiple_of(4) {
            words[size / 4 - 1].store(0, Ordering::Relaxed);
        }
        self.platform.may_interrupt();
        slot.page.entries.inc();
        self.platform.may_interrupt();
        Reservation {
            buffer: self,
            ring,
            slot,
            words: &words[payload..],
            len,
            size,
            bit,
            _cpu: PhantomData,
        }
    }
}

impl<P: Platform> Reservation<'_, P> {
    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The event's time, in units of the buffer's clock.
    pub fn time(&self) -> u64 {
        self.slot.ts
    }

    /// Writes `bytes` at `offset` of the payload; what does not fit is cut off. Bytes that are never written are undefined.
    #[inline(always)]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.len.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        if offset.is_multiple_of(4) && bytes.len().is_multiple_of(4) {
            let (whole, _) = bytes.as_chunks::<4>();
            // Nothing to do at an offset that is beyond the end.
            let words = self.words.get(offset / 4..).unwrap_or_default();
            for (word, bytes) in words.iter().zip(whole) {
                word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
        } else {
            write_parts(self.words, offset, bytes);
        }
    }

    /// Makes the event part of the buffer: visible once every write that it interrupted has ended too.
    #[inline(always)]
    pub fn commit(self) {
        let this = ManuallyDrop::new(self);
        this.buffer.committed.inc();
        this.buffer.platform.may_interrupt();
        let Slot { page, index, .. } = this.slot;
        this.buffer.end_write(this.ring, page, index, this.bit);
    }

    /// Takes the event back: it will never be seen.
    pub fn discard(self) {
        drop(self);
    }
}

/// Writes `bytes`, which fit, at `at`, where either begins or ends within a word.
fn write_parts(words: &[AtomicU32], mut at: usize, mut rest: &[u8]) {
    while !rest.is_empty() {
        let word = &words[at / 4];
        if at.is_multiple_of(4)
            && let Some((whole, more)) = rest.split_first_chunk::<4>()
        {
            word.store(u32::from_ne_bytes(*whole), Ordering::Relaxed);
            at += 4;
            rest = more;
            continue;
        }
        // Part of a word, which nobody else writes to.
        let mut now = word.load(Ordering::Relaxed).to_ne_bytes();
        let from = at % 4;
        let n = rest.len().min(4 - from);
        now[from..from + n].copy_from_slice(&rest[..n]);
        word.store(u32::from_ne_bytes(now), Ordering::Relaxed);
        at += n;
        rest = &rest[n..];
    }
}

/// Discards the event.
impl<P: Platform> Drop for Reservation<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        // By value: a reference to us would keep all of us in memory, also where nothing is dropped.
        self.buffer
            .discard(self.ring, self.slot, self.size, self.bit);
    }
}

impl<P: Platform> core::fmt::Debug for Reservation<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reservation")
            .field("len", &self.len)
            .field("time", &self.slot.ts)
            .finish_non_exhaustive()
    }
}
