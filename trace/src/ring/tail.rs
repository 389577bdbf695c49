//! Moving the tail to the next page, and the head before it.

use super::link::{HEAD, Link, UPDATE};
use super::reserve::Try;
use super::{BEGUN_PAGE_ONE, BufPage, COUNT_MASK, CpuBuffer, RECYCLED_ONE, Ring, TURNED_AWAY_MASK};
use crate::local::LocalU64;
use crate::page::{self, EVENT_HEADER_SIZE, MIN_EVENT_SIZE};
use crate::platform::Platform;
use crate::sync::{AtomicU64, Ordering, fence};

impl<P: Platform> CpuBuffer<P> {
    /// The event did not fit the tail page `index`, where it would have stood at `start`: goes to the next page.
    pub(super) fn move_tail<'b>(
        &self,
        ring: &'b Ring,
        index: usize,
        start: usize,
        size: usize,
    ) -> Try<'b> {
        let page = &ring.pages[index];
        self.platform.may_interrupt();
        let to_next = page.link();
        self.platform.may_interrupt();
        let next = to_next.index();
        let commit = ring.commit.load(Ordering::Relaxed);
        self.platform.may_interrupt();
        if next == commit {
            // Nested writes have come all the way around (I3).
            return self.refuse(&self.commit_overrun, ring, index, start, size);
        }
        if to_next.flags() != 0 {
            let taking = ring.taking.load(Ordering::SeqCst);
            self.platform.may_interrupt();
            if commit == taking && commit != index {
                // The commit page is out of the ring, with the reader; the head page holds what comes right after it. (The
                // tail page itself is in the ring, whatever a reader tries to take: its link has a flag.)
                return self.refuse(&self.commit_overrun, ring, index, start, size);
            }
            // Where a write that we have interrupted is moving the head, that was decided; another may have begun the next page since, and
            // a refusal would be told behind it (I11).
            if to_next.flags() != UPDATE && !self.overwrite.load(Ordering::Relaxed) {
                return self.refuse(&self.dropped, ring, index, start, size);
            }
            if !self.move_head(ring, index, to_next) {
                return self.start_over(ring, page, start, size);
            }
        }
        self.advance_tail(ring, index, next);
        self.start_over(ring, page, start, size)
    }

    /// There is no room for the event, and none in the rest of page `index` for any other: so this loss stands before the page that
    /// will be begun next (I11), or else is none.
    fn refuse<'b>(
        &self,
        counter: &LocalU64,
        ring: &'b Ring,
        index: usize,
        start: usize,
        size: usize,
    ) -> Try<'b> {
        let page = &ring.pages[index];
        loop {
            let now = self.turned_away.get();
            self.barrier();
            if ring.tail.load(Ordering::Relaxed) != index {
                // An interrupt's write has found room meanwhile, and begun the next page.
                return self.start_over(ring, page, start, size);
            }
            self.platform.may_interrupt();
            // Fails if one does it now.
            if self.turned_away.cmpxchg(now, now.wrapping_add(1)) {
                break;
            }
        }
        self.platform.may_interrupt();
        counter.add(1);
        self.platform.may_interrupt();
        self.reset_tail(ring, page, start, size);
        Try::Full
    }

    fn start_over<'b>(&self, ring: &'b Ring, page: &BufPage, start: usize, size: usize) -> Try<'b> {
        self.reset_tail(ring, page, start, size);
        self.platform.may_interrupt();
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
        self.platform.may_interrupt();
        let update = to_head.with(UPDATE);
        // From here to the end no reader can swap the page out. The version tells that nobody has moved the head since
        // `to_head` was read, so `entries` are those of the page that is lost.
        let found = exchange(&page.next, to_head.with(HEAD), update);
        self.platform.may_interrupt();
        if found != to_head.with(HEAD) && found != update {
            return false;
        }
        // We may have interrupted another writer right here, which has set UPDATE; or been interrupted by one, which found it.
        // Who comes first sets HEAD (I10).
        let to_next = old_head.link();
        self.platform.may_interrupt();
        let to_new_head = to_next.with(HEAD).after(to_head);
        if !to_next.same_version(to_new_head) {
            exchange(&old_head.next, to_next, to_new_head);
            self.platform.may_interrupt();
        }
        if found == to_head.with(HEAD) {
            exchange(&page.next, update, to_head.with(0));
            self.platform.may_interrupt();
            // Last, and `pages_lost` after `overrun`: when that has the version of the head's link, no UPDATE stands, and all
            // is counted.
            self.overrun.add(entries);
            self.platform.may_interrupt();
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
        self.platform.may_interrupt();
        new.seq.store(seq, Ordering::Relaxed);
        fence(Ordering::Release);
        self.platform.may_interrupt();
        // The count above the mask differs for each writer who comes here, so that only one who was not interrupted since
        // resets the page.
        let write = new.write.add_return(RECYCLED_ONE);
        self.platform.may_interrupt();
        let entries = new.entries.add_return(RECYCLED_ONE);
        self.platform.may_interrupt();
        // I11. The count only grows, so that the exchange below changes nothing where a writer came between who began the page.
        let turned_away = new.turned_away.get();
        self.platform.may_interrupt();
        let turned_away_now = self.turned_away.add_return(BEGUN_PAGE_ONE) & TURNED_AWAY_MASK;
        self.barrier();
        if ring.tail.load(Ordering::Relaxed) == index {
            self.platform.may_interrupt();
            new.turned_away.cmpxchg(turned_away, turned_away_now);
            self.platform.may_interrupt();
            new.write.cmpxchg(write, write & !COUNT_MASK);
            self.platform.may_interrupt();
            new.entries.cmpxchg(entries, entries & !COUNT_MASK);
            self.platform.may_interrupt();
            ring.unseal(new, seq);
            self.platform.may_interrupt();
            // Only the outermost writer commits, and it is not done before we are.
            new.buf.commit_word().store(0, Ordering::Relaxed);
            self.platform.may_interrupt();
            // Who comes here again says the same: both numbers are settled.
            ring.begun(new, seq, new.turned_away.get() & TURNED_AWAY_MASK);
            self.platform.may_interrupt();
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
        self.platform.may_interrupt();
        // Whoever we interrupted must not find `write` as it was, and take the page for the tail: so the count above goes on.
        let back = RECYCLED_ONE - size as u64;
        if start >= room {
            page.write.add(back);
            return;
        }
        let words = page.buf.words(ring.room);
        if start > room - MIN_EVENT_SIZE {
            // Too little for any event: `write` may go back, nobody fits in here.
            words[start / 4].store(page::event_header(page::TYPE_PADDING, 0), Ordering::Relaxed);
            self.barrier();
            page.write.add(back);
            return;
        }
        // A discarded event takes the rest: `write` must not go back, another one could slip in. Its delta is not zero since
        // that has a meaning of its own; no event of this page follows.
        let length = room - start - EVENT_HEADER_SIZE;
        words[start / 4 + 1].store(length as u32, Ordering::Relaxed);
        words[start / 4].store(page::event_header(page::TYPE_PADDING, 1), Ordering::Relaxed);
        self.barrier();
        page.write.sub((start + size - room) as u64);
    }
}

/// Exchanges a link; tells what stood there before.
fn exchange(link: &AtomicU64, old: Link, new: Link) -> Link {
    match link.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
        Ok(found) | Err(found) => Link(found),
    }
}
