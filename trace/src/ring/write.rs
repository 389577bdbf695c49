//! The writer's side: reserve, commit, discard.
//!
//! `barrier()` marks where the compiler must keep the order that an interrupt on this CPU sees.
//!
//! The usual write is inlined where it is made, so that a payload of fixed size is a few stores: [`CpuBuffer::reserve`] with
//! `reserve_fast`, [`Reservation::write`], [`Reservation::commit`] with `end_write`. Whatever is rarer is called out of line:
//! the first event of a page, a full page, a long time since the event before, a write that was interrupted.

use super::link::{HEAD, Link, UPDATE};
use super::{
    BEGUN_ONE, BufPage, CONTEXTS, COUNT_MASK, CpuBuffer, Level, RECYCLED_ONE, ReserveError, Ring,
};
use crate::page::{self, DELTA_LIMIT, EVENT_HEADER_SIZE, MIN_EVENT_SIZE, TIME_EVENT_SIZE};
use crate::platform::Platform;
use crate::sync::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
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
struct Request<'c, C: ?Sized> {
    /// Bytes of the event without a time event.
    size: usize,
    /// The time asked for, if not now.
    at: Option<u64>,
    clock: &'c C,
    /// Our own `before_stamp`, and the `write_stamp` seen then, of a try that had to start over.
    own: Option<(u64, u64)>,
    /// `writers` before the first try: it changes with each write that comes.
    writers: u64,
    /// That try found no other's stamps different.
    was_clean: bool,
}

/// A try that ran over the end of its page.
struct Over {
    /// The page's index.
    index: usize,
    /// Where the event would have stood.
    start: usize,
    /// As in [`Request`].
    own: (u64, u64),
}

/// Where an event was reserved.
#[derive(Clone, Copy)]
struct Slot<'b> {
    page: &'b BufPage,
    /// The page's index.
    index: usize,
    /// Offset of the first word (a time event's, if there is one) in the page's data, in bytes.
    start: usize,
    /// Offset of the data event's header.
    event: usize,
    ts: u64,
    /// What the data event's header has to say of the time.
    delta: u64,
}

enum Try<'b> {
    Got(Slot<'b>),
    Again,
    Full,
}

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

    /// Begins a write: from here to `end_write` the ring keeps its shape.
    #[inline(always)]
    fn begin(&self, level: Level, len: usize) -> Result<(&Ring, u64), ReserveError> {
        let Some(bit) = self.enter(level) else {
            self.dropped.add(1);
            return Err(ReserveError::Recursion);
        };
        if self.disabled.load(Ordering::SeqCst) != 0 {
            self.leave(bit);
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

    /// Marks the context as writing, with the bit that is returned; `None` if it is writing, and the one spare bit is taken
    /// too. The spare bit is for the moment in which an interrupt has come but the context does not say so yet.
    #[inline(always)]
    fn enter(&self, level: Level) -> Option<u64> {
        loop {
            let now = self.writers.get();
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
                barrier();
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
    fn leave(&self, bit: u64) {
        barrier();
        if P::LOCALITY.is_pinned() {
            self.writers.sub(bit);
        } else {
            self.writers.shared().fetch_sub(bit, Ordering::SeqCst);
        }
    }

    /// As `leave`, if no write has come since `writers` was `now`.
    #[inline(always)]
    fn try_leave(&self, now: u64, bit: u64) -> bool {
        barrier();
        if P::LOCALITY.is_pinned() {
            return self.writers.cmpxchg(now, now - bit);
        }
        self.writers
            .shared()
            .compare_exchange(now, now - bit, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether the write that asks interrupted none.
    fn outermost(&self) -> bool {
        (self.writers.get() & CONTEXTS).is_power_of_two()
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
        slot.page.entries.inc();
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

    /// The usual reservation: on a page that has events, not interrupted, not long after the event before. `try_reserve`
    /// does the same and all else, and explains it.
    #[inline(always)]
    fn reserve_fast<'b, C: Fn() -> u64 + ?Sized>(
        &self,
        ring: &'b Ring,
        bit: u64,
        size: usize,
        clock: &C,
    ) -> Result<Slot<'b>, ReserveError> {
        let mut over = None;
        let index = ring.tail.load(Ordering::Relaxed);
        let page = &ring.pages[index];
        // Point A.
        let w = page.written();
        barrier();
        let before = self.before_stamp.get();
        let after = self.write_stamp.get();
        barrier();
        if w != 0 && before == after {
            let ts = clock().max(after);
            let delta = ts - after;
            if delta < DELTA_LIMIT {
                // Point B.
                self.before_stamp.set(ts);
                barrier();
                // Point C.
                let end = (page.write.add_return(size as u64) & COUNT_MASK) as usize;
                barrier();
                let start = end - size;
                if end <= ring.room.bytes() {
                    if start != w {
                        let (ts, delta) = self.interrupted(page, end, Stamp::Short, clock);
                        return Ok(Slot {
                            page,
                            index,
                            start,
                            event: start,
                            ts,
                            delta,
                        });
                    }
                    // Point D.
                    self.write_stamp.set(ts);
                    barrier();
                    return Ok(Slot {
                        page,
                        index,
                        start,
                        event: start,
                        ts,
                        delta,
                    });
                }
                over = Some(Over {
                    index,
                    start,
                    own: (ts, after),
                });
            }
        }
        // Filled by reference and copied field by field: were it returned, the fast way's slot too would go through memory.
        let mut slow = Slot {
            page,
            index,
            start: 0,
            event: 0,
            ts: 0,
            delta: 0,
        };
        if !self.reserve_slow(ring, bit, size, None, clock, over, &mut slow) {
            return Err(ReserveError::Full);
        }
        let Slot {
            page,
            index,
            start,
            event,
            ts,
            delta,
        } = slow;
        Ok(Slot {
            page,
            index,
            start,
            event,
            ts,
            delta,
        })
    }

    /// Reserves by as many tries as it takes, after one that may have run over its page. False if there is no room
    /// (which is counted); the write has ended then.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn reserve_slow<'b, C: Fn() -> u64 + ?Sized>(
        &self,
        ring: &'b Ring,
        bit: u64,
        size: usize,
        at: Option<u64>,
        clock: &C,
        over: Option<Over>,
        slot: &mut Slot<'b>,
    ) -> bool {
        let mut request = Request {
            size,
            at,
            clock,
            own: None,
            writers: self.writers.get(),
            // The usual way comes to a try only so.
            was_clean: true,
        };
        let mut tried = Try::Again;
        if let Some(over) = over {
            request.own = Some(over.own);
            tried = self.move_tail(ring, over.index, over.start, size);
        }
        for _ in 0..MAX_TRIES {
            match tried {
                Try::Got(got) => {
                    *slot = got;
                    return true;
                }
                Try::Again => tried = self.try_reserve(ring, &mut request),
                Try::Full => {
                    self.end_slow(ring, bit);
                    return false;
                }
            }
        }
        self.dropped.add(1);
        self.end_slow(ring, bit);
        false
    }

    fn try_reserve<'b, C: Fn() -> u64 + ?Sized>(
        &self,
        ring: &'b Ring,
        request: &mut Request<'_, C>,
    ) -> Try<'b> {
        let index = ring.tail.load(Ordering::Relaxed);
        let page = &ring.pages[index];
        // Point A: whatever comes between here and C moves `write`.
        let w = page.written();
        barrier();
        let before = self.before_stamp.get();
        let after = self.write_stamp.get();
        barrier();
        // Equal stamps: no write was interrupted between its B and D. Our own try may have left them different.
        let unchanged = request.own == Some((before, after));
        let clean = before == after || unchanged && request.was_clean;
        // Writes that have come since our first try may be later than all that the stamps still tell; `writers` counts them.
        let alone = self.writers.get() == request.writers;
        let mut ts = match request.at {
            Some(at) if alone && (clean || self.outermost()) => at.min((request.clock)()),
            _ => (request.clock)(),
        };
        // The clock is trusted to be monotonic on one CPU; an earlier life's, or a caller's time, may not be.
        ts = ts.max(after);
        if !clean {
            // One that was interrupted before its reservation has left its time there only.
            ts = ts.max(before);
        }
        let mut delta = 0;
        let mut stamp = Stamp::Short;
        let mut size = request.size;
        if w == 0 {
            // The first event of a page has the page's own stamp.
        } else if !clean {
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
        request.was_clean = clean;
        barrier();
        // Point C: from here on the bytes are ours.
        let end = (page.write.add_return(size as u64) & COUNT_MASK) as usize;
        barrier();
        let start = end - size;
        if end > ring.room.bytes() {
            return self.move_tail(ring, index, start, size);
        }
        if start != w {
            (ts, delta) = self.interrupted(page, end, stamp, request.clock);
            if stamp == Stamp::Absolute {
                // There is room for a time event, and something has to stand in it.
                stamp = Stamp::Extend;
            }
            let slot = self.slot(ring, page, index, end, request.size, stamp, ts, delta);
            return Try::Got(slot);
        }
        // Nothing came between A and C. Point D: if something comes before it, the stamps differ, and the next event
        // gets an absolute one.
        self.write_stamp.set(ts);
        barrier();
        if start == 0 {
            page.buf.time_stamp().store(ts, Ordering::Relaxed);
        }
        Try::Got(self.slot(ring, page, index, end, request.size, stamp, ts, delta))
    }

    /// Something came between A and C: its events stand before ours, which ends at `end`, and are later than our `ts`. Returns our new time,
    /// and its delta.
    #[cold]
    #[inline(never)]
    fn interrupted<C: Fn() -> u64 + ?Sized>(
        &self,
        page: &BufPage,
        end: usize,
        stamp: Stamp,
        clock: &C,
    ) -> (u64, u64) {
        let before = self.before_stamp.get();
        let now = clock().max(before);
        // Point E: the stamps differ from here on, so that who comes now takes an absolute one.
        self.before_stamp.set(now);
        barrier();
        let after = self.write_stamp.get();
        barrier();
        let mut delta = if end == page.written() && after == before && after < now {
            // Point F: nothing came since C, `after` is the time of the event right before ours.
            now - after
        } else {
            0
        };
        if stamp == Stamp::Short {
            // No room to say it all; the next event's absolute stamp sets time right.
            delta = delta.min(DELTA_LIMIT - 1);
        }
        (now, delta)
    }

    /// The place of an event of `size` bytes that ends at `end`; puts a time event before it where it takes one.
    #[allow(clippy::too_many_arguments)]
    fn slot<'b>(
        &self,
        ring: &'b Ring,
        page: &'b BufPage,
        index: usize,
        end: usize,
        size: usize,
        stamp: Stamp,
        ts: u64,
        delta: u64,
    ) -> Slot<'b> {
        let event = end - size;
        let time = match stamp {
            Stamp::Short => None,
            Stamp::Extend => Some(page::time_extend(delta)),
            Stamp::Absolute => Some(page::time_stamp(ts)),
        };
        let start = match time {
            None => event,
            Some(time) => {
                let start = event - TIME_EVENT_SIZE;
                put_time(page.buf.words(ring.room), start, time);
                start
            }
        };
        Slot {
            page,
            index,
            start,
            event,
            ts,
            delta: if time.is_some() { 0 } else { delta },
        }
    }

    /// The event did not fit the tail page `index`, where it would have stood at `start`: goes to the next page.
    fn move_tail<'b>(&self, ring: &'b Ring, index: usize, start: usize, size: usize) -> Try<'b> {
        let page = &ring.pages[index];
        let to_next = page.link();
        let next = to_next.index();
        let commit = ring.commit.load(Ordering::Relaxed);
        if next == commit {
            // Nested writes have come all the way around (I3).
            self.commit_overrun.add(1);
            self.reset_tail(ring, page, start, size);
            return Try::Full;
        }
        if to_next.flags() != 0 {
            let taking = ring.taking.load(Ordering::SeqCst);
            if commit == taking && commit != index {
                // The commit page is out of the ring, with the reader; the head page holds what comes right after it. (The
                // tail page itself is in the ring, whatever a reader tries to take: its link has a flag.)
                self.commit_overrun.add(1);
                self.reset_tail(ring, page, start, size);
                return Try::Full;
            }
            if !self.overwrite.load(Ordering::Relaxed) {
                self.dropped.add(1);
                self.reset_tail(ring, page, start, size);
                return Try::Full;
            }
            if !self.move_head(ring, index, to_next) {
                return self.start_over(ring, page, start, size);
            }
        }
        self.advance_tail(ring, index, next);
        self.start_over(ring, page, start, size)
    }

    fn start_over<'b>(&self, ring: &'b Ring, page: &BufPage, start: usize, size: usize) -> Try<'b> {
        self.reset_tail(ring, page, start, size);
        // Commit what there is, so that the commit page does not stand in the way. We stay counted as a writer, unlike in
        // Linux: else a resize could change the ring.
        if self.outermost() {
            self.commit_to_write(ring);
        }
        Try::Again
    }

    /// The tail, on page `index`, has come to the head page, to which `to_head` leads: its events are lost, the page after it
    /// becomes the head. False if someone else has moved the head, and all is to be looked at again.
    fn move_head(&self, ring: &Ring, index: usize, to_head: Link) -> bool {
        let page = &ring.pages[index];
        let old_head = &ring.pages[to_head.index()];
        let entries = old_head.entry_count();
        let update = to_head.with(UPDATE);
        // From here to the end no reader can swap the page out. The version tells that nobody has moved the head since
        // `to_head` was read, so `entries` are those of the page that is lost.
        let found = exchange(&page.next, to_head.with(HEAD), update);
        if found != to_head.with(HEAD) && found != update {
            return false;
        }
        // We may have interrupted another writer right here, which has set UPDATE; or been interrupted by one, which found it.
        // Who comes first sets HEAD (I10).
        let to_next = old_head.link();
        let to_new_head = to_next.with(HEAD).after(to_head);
        if !to_next.same_version(to_new_head) {
            exchange(&old_head.next, to_next, to_new_head);
        }
        if found == to_head.with(HEAD) {
            exchange(&page.next, update, to_head.with(0));
            // Last, and `pages_lost` after `overrun`: when that has the version of the head's link, no UPDATE stands, and all
            // is counted.
            self.overrun.add(entries);
            self.pages_lost.add(1);
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
    fn reset_tail(&self, ring: &Ring, page: &BufPage, start: usize, size: usize) {
        let room = ring.room.bytes();
        if start >= room {
            page.write.sub(size as u64);
            return;
        }
        let words = page.buf.words(ring.room);
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

    /// Ends a write on page `index`; the outermost makes everything visible that was written.
    #[inline(always)]
    fn end_write(&self, ring: &Ring, page: &BufPage, index: usize, bit: u64) {
        let now = self.writers.get();
        barrier();
        if now & CONTEXTS == bit
            && ring.commit.load(Ordering::Relaxed) == index
            && ring.tail.load(Ordering::Relaxed) == index
        {
            page.buf
                .commit_word()
                .store(page.written() as u64, Ordering::Release);
            // Should a write have come since `now`, its commit was left to us.
            if self.try_leave(now, bit) {
                return;
            }
        }
        self.end_slow(ring, bit);
    }

    /// As `end_write`, in all cases.
    #[inline(never)]
    fn end_slow(&self, ring: &Ring, bit: u64) {
        loop {
            let now = self.writers.get();
            barrier();
            if now & CONTEXTS != bit {
                self.leave(bit);
                return;
            }
            self.commit_to_write(ring);
            // Fails if another write came since: it saw that it was not the outermost, and left its commit to us.
            if self.try_leave(now, bit) {
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

/// Exchanges a link; tells what stood there before.
fn exchange(link: &AtomicU64, old: Link, new: Link) -> Link {
    match link.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
        Ok(found) | Err(found) => Link(found),
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

impl<P: Platform> CpuBuffer<P> {
    /// Ends a write whose event of `size` bytes is not to be seen.
    #[cold]
    #[inline(never)]
    fn discard(&self, ring: &Ring, slot: Slot<'_>, size: usize, bit: u64) {
        self.take_back(ring, slot, size);
        self.end_slow(ring, bit);
    }

    /// Makes the stamps different: `write_stamp` the later of both and `more`, the other one 0.
    fn part_stamps(&self, more: u64) {
        let before = self.before_stamp.get();
        self.before_stamp.set(0);
        barrier();
        let after = self.write_stamp.get();
        self.write_stamp.set(before.max(after).saturating_add(more));
    }

    fn take_back(&self, ring: &Ring, slot: Slot<'_>, size: usize) {
        let page = slot.page;
        page.entries.sub(1);
        let end = slot.event + size;
        let write = page.write.get();
        if (write & COUNT_MASK) as usize == end && ring.tail.load(Ordering::Relaxed) == slot.index {
            // Ours is the last: give the bytes back. `write_stamp` is of an event that is gone; with the stamps made
            // different first, the next event, and one that comes in between, takes an absolute stamp.
            self.part_stamps(0);
            let taken = (end - slot.start) as u64;
            if page.write.cmpxchg(write, write - taken) {
                return;
            }
        }
        let words = page.buf.words(ring.room);
        let head = words[slot.event / 4].load(Ordering::Relaxed);
        let mut delta = u64::from(head >> 5);
        if delta == 0 {
            // Zero would make it the end of the page. So one unit of time goes by here for who decodes the page, and has to
            // for who writes on; with the stamps made different first, whoever comes next takes an absolute one.
            delta = 1;
            self.part_stamps(1);
        }
        words[slot.event / 4 + 1].store((size - EVENT_HEADER_SIZE) as u32, Ordering::Relaxed);
        words[slot.event / 4].store(
            page::event_header(page::TYPE_PADDING, delta),
            Ordering::Relaxed,
        );
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
