//! The writer's side: reserve, commit, discard.
//!
//! `barrier()` marks where the compiler must keep the order that an interrupt on this CPU sees.

use super::{
    BufPage, COUNT_MASK, CpuBuffer, FLAGS, HEAD, Level, RECYCLED_ONE, ReserveError, Ring, UPDATE,
    WRITER_BEGINS, WRITERS_MASK, link,
};
use crate::page::{self, DELTA_LIMIT, EVENT_HEADER_SIZE, MIN_EVENT_SIZE, TIME_EVENT_SIZE};
use crate::platform::Platform;
use crate::sync::{AtomicU32, Ordering, compiler_fence, fence};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

/// How often a reservation starts over before it gives up: each time either a nested write or a reader came between.
const MAX_TRIES: usize = 1000;

#[inline(always)]
fn barrier() {
    compiler_fence(Ordering::SeqCst);
}

/// How an event's time is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stamp {
    /// As a delta in the event's own header.
    Short,
    /// With a time extend before it.
    Extend,
    /// With an absolute stamp before it.
    Absolute,
}

/// What a reservation has to know over its tries.
struct Request<'c> {
    /// Bytes of the event without a time event.
    size: usize,
    /// The time asked for, if not now.
    at: Option<u64>,
    clock: &'c dyn Fn() -> u64,
    /// Our own `before_stamp`, and the `write_stamp` seen then, of a try that had to start over.
    own: Option<(u64, u64)>,
}

/// Where an event was reserved.
struct Slot {
    page: usize,
    /// Offset of the first word (a time event's, if there is one) in the page's data, in bytes.
    start: usize,
    /// Offset of the data event's header.
    event: usize,
    /// Offset of the payload.
    payload: usize,
    ts: u64,
}

enum Try {
    Got(Slot),
    Again,
    Full,
}

/// What a compare-and-exchange on a link found there: the flags, or that the link leads elsewhere by now.
#[derive(PartialEq, Eq)]
enum Found {
    Flags(usize),
    Moved,
}

/// A reserved event, not visible yet. Fill it, then [`commit`](Reservation::commit) it; dropping it discards it.
///
/// Writers nest: a reservation must be ended before the context that it interrupted goes on. It holds the buffer open for
/// writing, so that it must not be forgotten, and stays on its CPU.
#[must_use = "a reservation that is dropped is discarded"]
pub struct Reservation<'b, P: Platform> {
    buffer: &'b CpuBuffer<P>,
    ring: &'b Ring,
    slot: Slot,
    len: usize,
    size: usize,
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
    #[inline]
    pub fn reserve(
        &self,
        level: Level,
        len: usize,
        clock: &dyn Fn() -> u64,
    ) -> Result<Reservation<'_, P>, ReserveError> {
        self.reserve_event(level, len, None, clock)
    }

    /// As [`reserve`](Self::reserve), with a time of one's own. A time before that of the newest event in the
    /// buffer becomes the newest event's; one that is not past, or within another write, can become the time now.
    pub fn reserve_at(
        &self,
        level: Level,
        len: usize,
        ts: u64,
        clock: &dyn Fn() -> u64,
    ) -> Result<Reservation<'_, P>, ReserveError> {
        self.reserve_event(level, len, Some(ts), clock)
    }

    fn reserve_event(
        &self,
        level: Level,
        len: usize,
        at: Option<u64>,
        clock: &dyn Fn() -> u64,
    ) -> Result<Reservation<'_, P>, ReserveError> {
        let max = self.max_payload();
        if len > max {
            return Err(ReserveError::TooLarge { len, max });
        }
        if !self.enter(level) {
            self.dropped.add(1);
            return Err(ReserveError::Recursion);
        }
        self.writers.fetch_add(WRITER_BEGINS, Ordering::SeqCst);
        if self.disabled.load(Ordering::SeqCst) != 0 {
            self.writers.fetch_sub(1, Ordering::SeqCst);
            self.leave();
            self.dropped.add(1);
            return Err(ReserveError::Disabled);
        }
        // SAFETY: we count as a writer, and `disabled` was zero after that: the ring is shared only until `end_commit` (I5).
        let ring = unsafe { &*self.ring.get() };
        let mut request = Request {
            size: page::event_size(len),
            at,
            clock,
            own: None,
        };
        for _ in 0..MAX_TRIES {
            match self.try_reserve(ring, &mut request) {
                Try::Got(slot) => {
                    let size = request.size;
                    return Ok(Reservation {
                        buffer: self,
                        ring,
                        slot,
                        len,
                        size,
                        _cpu: PhantomData,
                    });
                }
                Try::Again => {}
                Try::Full => {
                    self.end_commit(ring);
                    self.leave();
                    return Err(ReserveError::Full);
                }
            }
        }
        self.dropped.add(1);
        self.end_commit(ring);
        self.leave();
        Err(ReserveError::Full)
    }

    /// Marks the context as writing; false if it is, and its one spare bit too. The spare bit is for the moment in which an
    /// interrupt has come but the context does not say so yet.
    fn enter(&self, level: Level) -> bool {
        let now = self.context.get();
        let mut bit = 1 << level as u32;
        if now & bit != 0 {
            bit = 1;
            if now & bit != 0 {
                return false;
            }
        }
        self.context.set(now | bit);
        barrier();
        true
    }

    /// Takes back the bit of the innermost context, which is the lowest.
    fn leave(&self) {
        barrier();
        let now = self.context.get();
        self.context.set(now & now.wrapping_sub(1));
    }

    fn try_reserve(&self, ring: &Ring, request: &mut Request<'_>) -> Try {
        let index = ring.tail.load(Ordering::Relaxed);
        let page = &ring.pages[index];
        // Point A: whatever comes between here and C moves `write`.
        let w = page.written();
        barrier();
        let before = self.before_stamp.get();
        let after = self.write_stamp.get();
        barrier();
        // Equal stamps: no write was interrupted between its B and D. Our own try may have left them different.
        let clean = before == after || request.own == Some((before, after));
        let outermost = || self.writers.load(Ordering::Relaxed) & WRITERS_MASK == 1;
        let mut ts = match request.at {
            Some(at) if clean || outermost() => at.min((request.clock)()),
            Some(_) => (request.clock)(),
            None => (request.clock)(),
        };
        // The clock is trusted to be monotonic on one CPU; an earlier life's, or a caller's time, may not be.
        ts = ts.max(after);
        let mut delta = 0;
        let mut stamp = Stamp::Short;
        let mut size = request.size;
        if w == 0 {
            // The first event of a page has the page's own stamp.
        } else if !clean {
            ts = ts.max(before);
            stamp = Stamp::Absolute;
            size += TIME_EVENT_SIZE;
        } else {
            delta = ts - after;
            if delta >= DELTA_LIMIT {
                stamp = Stamp::Extend;
                size += TIME_EVENT_SIZE;
            }
        }
        // Point B.
        self.before_stamp.set(ts);
        request.own = Some((ts, after));
        barrier();
        // Point C: from here on the bytes are ours.
        let end = (page.write.add_return(size as u64) & COUNT_MASK) as usize;
        barrier();
        let start = end - size;
        if end > self.data_size() {
            return self.move_tail(ring, index, start, size);
        }
        if start == w {
            // Nothing came between A and C. Point D: if something comes before it, the stamps differ, and the next event
            // gets an absolute one.
            self.write_stamp.set(ts);
            barrier();
        } else {
            // Something came: its events stand before ours and are later than `ts`.
            let before = self.before_stamp.get();
            let now = (request.clock)().max(before);
            // Point E: the stamps differ from here on, so that who comes now takes an absolute one.
            self.before_stamp.set(now);
            barrier();
            let after = self.write_stamp.get();
            barrier();
            delta = if end == page.written() && after == before && after < now {
                // Point F: nothing came since C, `after` is the time of the event right before ours.
                now - after
            } else {
                0
            };
            ts = now;
            match stamp {
                // There is room for a time event, and something has to stand in it.
                Stamp::Absolute | Stamp::Extend => stamp = Stamp::Extend,
                // No room to say it all; the next event's absolute stamp sets time right.
                Stamp::Short => delta = delta.min(DELTA_LIMIT - 1),
            }
        }
        let words = page.buf.words(self.order);
        let mut event = start;
        match stamp {
            Stamp::Short => {}
            Stamp::Extend => {
                put_time(words, start, page::time_extend(delta));
                event += TIME_EVENT_SIZE;
                delta = 0;
            }
            Stamp::Absolute => {
                put_time(words, start, page::time_stamp(ts));
                event += TIME_EVENT_SIZE;
                delta = 0;
            }
        }
        let (head, array0) = page::data_header(request.size, delta);
        words[event / 4].store(head, Ordering::Relaxed);
        let mut payload = event + EVENT_HEADER_SIZE;
        if let Some(length) = array0 {
            words[payload / 4].store(length, Ordering::Relaxed);
            payload += 4;
        }
        // What rounds the payload up is always zero.
        words[end / 4 - 1].store(0, Ordering::Relaxed);
        page.entries.add(1);
        if start == 0 {
            page.buf.time_stamp().store(ts, Ordering::Relaxed);
        }
        Try::Got(Slot {
            page: index,
            start,
            event,
            payload,
            ts,
        })
    }

    /// The event did not fit the tail page `index`, where it would have stood at `start`: goes to the next page.
    fn move_tail(&self, ring: &Ring, index: usize, start: usize, size: usize) -> Try {
        let page = &ring.pages[index];
        let to_next = page.next.load(Ordering::Acquire);
        let next = to_next >> 2;
        let commit = ring.commit.load(Ordering::Relaxed);
        if next == commit {
            // Nested writes have come all the way around (I3).
            self.commit_overrun.add(1);
            self.reset_tail(page, start, size);
            return Try::Full;
        }
        if to_next & FLAGS != 0 {
            let taking = ring.taking.load(Ordering::SeqCst);
            if commit != taking {
                if !self.overwrite.load(Ordering::Relaxed) {
                    self.dropped.add(1);
                    self.reset_tail(page, start, size);
                    return Try::Full;
                }
                if !self.move_head(ring, index, next) {
                    return self.start_over(ring, page, start, size);
                }
            } else if commit != ring.tail.load(Ordering::Relaxed) {
                // The commit page is out of the ring, with the reader; the head page holds what comes right after it.
                self.commit_overrun.add(1);
                self.reset_tail(page, start, size);
                return Try::Full;
            }
        }
        self.advance_tail(ring, index, next);
        self.start_over(ring, page, start, size)
    }

    fn start_over(&self, ring: &Ring, page: &BufPage, start: usize, size: usize) -> Try {
        self.reset_tail(page, start, size);
        // Commit what there is, so that the commit page does not stand in the way. We stay counted as a writer, unlike in
        // Linux: else a resize could change the ring.
        if self.writers.load(Ordering::Relaxed) & WRITERS_MASK == 1 {
            self.commit_to_write(ring);
        }
        Try::Again
    }

    /// The tail, on page `index`, has come to the head page `next`: its events are lost, the page after it becomes the head.
    /// False if someone else has moved the head, and all is to be looked at again.
    fn move_head(&self, ring: &Ring, index: usize, next: usize) -> bool {
        let page = &ring.pages[index];
        let old_head = &ring.pages[next];
        let entries = old_head.entry_count();
        // From here to the end no reader can swap the page out.
        let found = exchange(page, next, HEAD, UPDATE);
        match found {
            Found::Flags(HEAD) => {
                self.overrun.add(entries);
                self.pages_lost.add(1);
            }
            // We have interrupted another writer right here: it has counted, or will.
            Found::Flags(UPDATE) => {}
            _ => return false,
        }
        let new_head = ring.next(next);
        match exchange(old_head, new_head, 0, HEAD) {
            Found::Flags(0) => {
                // Nested writers may have moved the head further on and taken HEAD from this link again; then we have just put
                // it back, wrongly. They have moved the tail too, so one can tell.
                let tail = ring.tail.load(Ordering::Relaxed);
                if tail != index && tail != next {
                    exchange(old_head, new_head, HEAD, 0);
                }
            }
            Found::Flags(HEAD) => {}
            _ => return false,
        }
        if found == Found::Flags(HEAD) {
            exchange(page, next, UPDATE, 0);
        }
        true
    }

    /// Makes `next`, the page after `index`, the tail page, if it is not yet.
    fn advance_tail(&self, ring: &Ring, index: usize, next: usize) {
        let page = &ring.pages[index];
        let new = &ring.pages[next];
        // I2. A writer that was interrupted here stores the same number again: neither page can be recycled meanwhile (I3).
        let seq = page.seq.load(Ordering::Relaxed).wrapping_add(1);
        new.seq.store(seq, Ordering::Relaxed);
        fence(Ordering::Release);
        // The count above the mask differs for each writer who comes here, so that only one who was not interrupted since
        // resets the page.
        let write = new.write.add_return(RECYCLED_ONE);
        let entries = new.entries.add_return(RECYCLED_ONE);
        barrier();
        if ring.tail.load(Ordering::Relaxed) == index {
            new.write.cmpxchg(write, write & !COUNT_MASK);
            new.entries.cmpxchg(entries, entries & !COUNT_MASK);
            // Only the outermost writer commits, and it is not done before we are.
            new.buf.commit_word().store(0, Ordering::Relaxed);
            if ring
                .tail
                .compare_exchange(index, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                self.pages_touched.add(1);
            }
        }
    }

    /// Takes back a reservation at `start` that ran over the page's end, and fills the rest of the page with padding.
    fn reset_tail(&self, page: &BufPage, start: usize, size: usize) {
        let room = self.data_size();
        if start >= room {
            page.write.sub(size as u64);
            return;
        }
        let words = page.buf.words(self.order);
        if start > room - MIN_EVENT_SIZE {
            // Too little for any event: `write` may go back, nobody fits in here.
            words[start / 4].store(page::event_header(page::TYPE_PADDING, 0), Ordering::Relaxed);
            barrier();
            page.write.sub(size as u64);
            return;
        }
        // A discarded event takes the rest: `write` must not go back, another one could slip in. Its delta is not zero since
        // that has a meaning of its own; no event of this page follows.
        let length = room - start - EVENT_HEADER_SIZE;
        words[start / 4 + 1].store(length as u32, Ordering::Relaxed);
        words[start / 4].store(page::event_header(page::TYPE_PADDING, 1), Ordering::Relaxed);
        barrier();
        page.write.sub((start + size - room) as u64);
    }

    /// Ends a write; the outermost makes everything visible that was written.
    fn end_commit(&self, ring: &Ring) {
        loop {
            let now = self.writers.load(Ordering::Relaxed);
            barrier();
            if now & WRITERS_MASK != 1 {
                self.writers.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            self.commit_to_write(ring);
            barrier();
            // Fails if another write came since: it saw that it was not the outermost, and left its commit to us.
            // From here on the ring may change.
            if self
                .writers
                .compare_exchange(now, now - 1, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }

    /// Moves the commit page to the tail page, and every commit word up to what is written.
    pub(super) fn commit_to_write(&self, ring: &Ring) {
        loop {
            let mut index = ring.commit.load(Ordering::Relaxed);
            while index != ring.tail.load(Ordering::Relaxed) {
                let page = &ring.pages[index];
                page.buf
                    .commit_word()
                    .store(page.written() as u64, Ordering::Release);
                index = ring.next(index);
                ring.commit.store(index, Ordering::Release);
                barrier();
            }
            let page = &ring.pages[index];
            loop {
                let written = page.written() as u64;
                if page.buf.commit_word().load(Ordering::Relaxed) == written {
                    break;
                }
                page.buf.commit_word().store(written, Ordering::Release);
                barrier();
            }
            barrier();
            if index == ring.tail.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Exchanges the flags of `page`'s link to `to`; tells what stood there before.
fn exchange(page: &BufPage, to: usize, old: usize, new: usize) -> Found {
    match page.next.compare_exchange(
        link(to, old),
        link(to, new),
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => Found::Flags(old),
        Err(now) if now >> 2 == to => Found::Flags(now & FLAGS),
        Err(_) => Found::Moved,
    }
}

fn put_time(words: &[AtomicU32], at: usize, [a, b]: [u32; 2]) {
    words[at / 4].store(a, Ordering::Relaxed);
    words[at / 4 + 1].store(b, Ordering::Relaxed);
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
    #[inline]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.len.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        let words = self.ring.pages[self.slot.page].buf.words(self.buffer.order);
        let mut at = self.slot.payload + offset;
        let mut rest = bytes;
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

    /// Makes the event part of the buffer: visible once every write that it interrupted has ended too.
    pub fn commit(self) {
        self.buffer.committed.add(1);
        self.end();
    }

    /// Takes the event back: it will never be seen.
    pub fn discard(self) {
        drop(self);
    }

    fn end(self) {
        let this = ManuallyDrop::new(self);
        this.buffer.end_commit(this.ring);
        this.buffer.leave();
    }

    fn take_back(&self) {
        let page = &self.ring.pages[self.slot.page];
        page.entries.sub(1);
        let end = self.slot.event + self.size;
        let write = page.write.get();
        if (write & COUNT_MASK) as usize == end
            && self.ring.tail.load(Ordering::Relaxed) == self.slot.page
        {
            // Ours is the last: give the bytes back. `write_stamp` is of an event that is gone; with the stamps made
            // different first, the next event, and one that comes in between, takes an absolute stamp.
            self.buffer.before_stamp.set(0);
            barrier();
            let taken = (end - self.slot.start) as u64;
            if page.write.cmpxchg(write, write - taken) {
                return;
            }
        }
        let words = page.buf.words(self.buffer.order);
        let head = words[self.slot.event / 4].load(Ordering::Relaxed);
        let mut delta = u64::from(head >> 5);
        if delta == 0 {
            // Zero would make it the end of the page. So one unit of time goes by here for who decodes the page, and has to
            // for who writes on; with the stamps made different first, whoever comes next takes an absolute one.
            delta = 1;
            let before = self.buffer.before_stamp.get();
            self.buffer.before_stamp.set(0);
            barrier();
            let after = self.buffer.write_stamp.get();
            self.buffer
                .write_stamp
                .set(before.max(after).saturating_add(1));
        }
        words[self.slot.event / 4 + 1]
            .store((self.size - EVENT_HEADER_SIZE) as u32, Ordering::Relaxed);
        words[self.slot.event / 4].store(
            page::event_header(page::TYPE_PADDING, delta),
            Ordering::Relaxed,
        );
    }
}

/// Discards the event.
impl<P: Platform> Drop for Reservation<'_, P> {
    fn drop(&mut self) {
        self.take_back();
        self.buffer.end_commit(self.ring);
        self.buffer.leave();
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
