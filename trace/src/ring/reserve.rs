//! Reserving: how a write finds its place on the tail page, and its time.
//!
//! The points A to F are those of the module's documentation on time.

use super::{BufPage, COUNT_MASK, CpuBuffer, ReserveError, Ring};
use crate::page::{self, DELTA_LIMIT, TIME_EVENT_SIZE};
use crate::platform::Platform;
use crate::sync::{AtomicU32, Ordering};

/// How often a reservation starts over before it gives up: each time either a nested write or a reader came between.
const MAX_TRIES: usize = 1000;

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
    /// Our own `before_stamp`, and the `write_stamp` seen then, of a try that had to start over; `None` where something came between
    /// its A and its C, which may have left the same stamps behind, but later events.
    own: Option<(u64, u64)>,
    /// `writers` before the first try: it changes with each write that comes.
    writers: u64,
    /// That try found no other's stamps different.
    was_clean: bool,
}

/// A try that ran over the end of its page.
pub(super) struct Over {
    /// The page's index.
    index: usize,
    /// Where the event would have stood.
    start: usize,
    /// As in [`Request`].
    own: Option<(u64, u64)>,
}

/// Where an event was reserved.
#[derive(Clone, Copy)]
pub(super) struct Slot<'b> {
    pub(super) page: &'b BufPage,
    /// The page's index.
    pub(super) index: usize,
    /// Offset of the first word (a time event's, if there is one) in the page's data, in bytes.
    pub(super) start: usize,
    /// Offset of the data event's header.
    pub(super) event: usize,
    pub(super) ts: u64,
    /// What the data event's header has to say of the time.
    pub(super) delta: u64,
}

pub(super) enum Try<'b> {
    Got(Slot<'b>),
    Again,
    Full,
}

impl<P: Platform> CpuBuffer<P> {
    /// The usual reservation: on a page that has events, not interrupted, not long after the event before. `try_reserve`
    /// does the same and all else, and explains it.
    #[inline(always)]
    pub(super) fn reserve_fast<'b, C: Fn() -> u64 + ?Sized>(
        &self,
        ring: &'b Ring,
        bit: u64,
        size: usize,
        clock: &C,
    ) -> Result<Slot<'b>, ReserveError> {
        let mut over = None;
        let index = ring.tail.load(Ordering::Relaxed);
        let page = &ring.pages[index];
        self.platform.may_interrupt();
        // Point A.
        let w = page.written();
        self.barrier();
        let before = self.before_stamp.get();
        self.platform.may_interrupt();
        let after = self.write_stamp.get();
        self.barrier();
        if w != 0 && before == after {
            let ts = clock().max(after);
            let delta = ts - after;
            if delta < DELTA_LIMIT {
                // Point B.
                self.before_stamp.set(ts);
                self.barrier();
                // Point C.
                let end = (page.write.add_return(size as u64) & COUNT_MASK) as usize;
                self.barrier();
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
                    self.barrier();
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
                    own: (start == w).then_some((ts, after)),
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
    pub(super) fn reserve_slow<'b, C: Fn() -> u64 + ?Sized>(
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
            request.own = over.own;
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
        self.platform.may_interrupt();
        // Point A: whatever comes between here and C moves `write`.
        let w = page.written();
        self.barrier();
        let before = self.before_stamp.get();
        self.platform.may_interrupt();
        let after = self.write_stamp.get();
        self.barrier();
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
        request.was_clean = clean;
        self.barrier();
        // Point C: from here on the bytes are ours.
        let end = (page.write.add_return(size as u64) & COUNT_MASK) as usize;
        self.barrier();
        let start = end - size;
        if end > ring.room.bytes() {
            request.own = (start == w).then_some((ts, after));
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
        self.barrier();
        if start == 0 {
            page.buf.time_stamp().store(ts, Ordering::Relaxed);
            self.platform.may_interrupt();
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
        self.platform.may_interrupt();
        let now = clock().max(before);
        self.platform.may_interrupt();
        // Point E: the stamps differ from here on, so that who comes now takes an absolute one.
        self.before_stamp.set(now);
        self.barrier();
        let after = self.write_stamp.get();
        self.barrier();
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
}

fn put_time(words: &[AtomicU32], at: usize, [a, b]: [u32; 2]) {
    words[at / 4].store(a, Ordering::Relaxed);
    words[at / 4 + 1].store(b, Ordering::Relaxed);
}
