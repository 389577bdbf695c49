//! Ending a write: commit, discard.

use super::reserve::Slot;
use super::{BufPage, CONTEXTS, COUNT_MASK, CpuBuffer, Ring, missing};
use crate::page::{self, EVENT_HEADER_SIZE};
use crate::platform::Platform;
use crate::sync::Ordering;

impl<P: Platform> CpuBuffer<P> {
    /// Ends a write on page `index`; the outermost makes everything visible that was written.
    #[inline(always)]
    pub(super) fn end_write(&self, ring: &Ring, page: &BufPage, index: usize, bit: u64) {
        let now = self.writers.get();
        self.barrier();
        if now & CONTEXTS == bit
            && ring.commit.load(Ordering::Relaxed) == index
            && ring.tail.load(Ordering::Relaxed) == index
        {
            let word = page.buf.commit_word();
            self.platform.may_interrupt();
            let written = page.written() as u64;
            self.platform.may_interrupt();
            word.store(written, Ordering::Release);
            // Should a write have come since `now`, its commit was left to us.
            if self.try_leave(now, bit) {
                return;
            }
        }
        self.end_slow(ring, bit);
    }

    /// As `end_write`, in all cases.
    #[inline(never)]
    pub(super) fn end_slow(&self, ring: &Ring, bit: u64) {
        loop {
            let now = self.writers.get();
            self.barrier();
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
                let written = page.written() as u64;
                self.platform.may_interrupt();
                page.buf.commit_word().store(written, Ordering::Release);
                index = ring.next(index);
                self.platform.may_interrupt();
                ring.commit.store(index, Ordering::Release);
                self.barrier();
            }
            let page = &ring.pages[index];
            loop {
                let written = page.written() as u64;
                if page.buf.commit_word().load(Ordering::Relaxed) == written {
                    break;
                }
                self.platform.may_interrupt();
                page.buf.commit_word().store(written, Ordering::Release);
                self.barrier();
            }
            self.barrier();
            if index == ring.tail.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Ends a write whose event of `size` bytes is not to be seen.
    #[cold]
    #[inline(never)]
    pub(super) fn discard(&self, ring: &Ring, slot: Slot<'_>, size: usize, bit: u64) {
        self.platform.may_interrupt();
        self.take_back(ring, slot, size);
        self.platform.may_interrupt();
        self.end_slow(ring, bit);
    }

    /// Makes the stamps different: `before_stamp` one unit later than both. By an exchange, so that the time of an interrupt's write is not
    /// lost; and there, since a write below, which goes on later, may set `write_stamp` back to its own time.
    fn part_stamps(&self) {
        loop {
            let before = self.before_stamp.get();
            self.barrier();
            let after = self.write_stamp.get();
            self.barrier();
            let later = before.max(after).saturating_add(1);
            if self.before_stamp.cmpxchg(before, later) {
                return;
            }
        }
    }

    fn take_back(&self, ring: &Ring, slot: Slot<'_>, size: usize) {
        let page = slot.page;
        page.entries.sub(1);
        self.platform.may_interrupt();
        let end = slot.event + size;
        let write = page.write.get();
        self.platform.may_interrupt();
        // Where an event was refused since the page was begun, none may follow on it (I11); who refuses one from here on changes
        // `write`.
        if (write & COUNT_MASK) as usize == end
            && ring.tail.load(Ordering::Relaxed) == slot.index
            && missing(page.turned_away.get(), self.turned_away.get()) == 0
        {
            // Ours is the last: give the bytes back. `write_stamp` is of an event that is gone; with the stamps made
            // different first, the next event, and one that comes in between, takes an absolute stamp.
            self.part_stamps();
            self.platform.may_interrupt();
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
            self.part_stamps();
            self.platform.may_interrupt();
        }
        words[slot.event / 4 + 1].store((size - EVENT_HEADER_SIZE) as u32, Ordering::Relaxed);
        words[slot.event / 4].store(
            page::event_header(page::TYPE_PADDING, delta),
            Ordering::Relaxed,
        );
    }
}
