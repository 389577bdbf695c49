//! The readers' side: a consuming read.

use super::link::{HEAD, Link};
use super::{BufPage, CpuBuffer, Reader, Ring, missing};
use crate::error::TraceError;
use crate::page::{Cursor, Missed};
use crate::platform::Platform;
use crate::sync::{AtomicU32, Ordering, fence, spin_loop};
use alloc::vec::Vec;

/// How often a reader looks again while a writer moves the head.
pub(super) const HEAD_TRIES: usize = if cfg!(feature = "loom") { 2 } else { 10_000 };

/// The `seq` of a page that was consumed and not written to since.
pub(crate) const NO_SEQ: u64 = u64::MAX;

/// An event on the reader page that was not consumed.
struct Unread<'r> {
    /// Its payload, rounded up to whole words.
    payload: &'r [AtomicU32],
    /// Right behind it; with its time.
    end: Cursor,
}

impl<P: Platform> CpuBuffer<P> {
    /// The head page: the one that a flagged link leads to; and that link. `None` while a writer keeps moving it.
    pub(super) fn find_head(&self, reader: &mut Reader, ring: &Ring) -> Option<(usize, Link)> {
        let mut at = match reader.head_hint {
            // The hint may have become the reader page.
            hint if hint != reader.page => hint,
            _ => ring.next(reader.page),
        };
        // A writer may move the head behind us: then it is found in the next round.
        for _ in 0..3 * ring.pages.len() {
            let prev = ring.pages[at].prev.load(Ordering::Relaxed);
            let to = ring.pages[prev].link();
            if to.index() == at && to.flags() != 0 {
                reader.head_hint = at;
                return Some((at, to));
            }
            at = ring.next(at);
        }
        None
    }

    /// The head page at a moment when no writer is moving it, with its `seq` and the number of events ever lost before it.
    pub(super) fn steady_head(
        &self,
        reader: &mut Reader,
        ring: &Ring,
    ) -> Option<(usize, u64, u64)> {
        for _ in 0..HEAD_TRIES {
            let (head, to) = self.find_head(reader, ring)?;
            let prev = ring.pages[head].prev.load(Ordering::Relaxed);
            let pages_lost = self.pages_lost.get_acquire();
            let overrun = self.lost(reader);
            fence(Ordering::SeqCst);
            let seq = reader
                .base
                .wrapping_add(pages_lost)
                .wrapping_add(reader.pages_read);
            // All moves of the head up to this link are counted, and there was none since: the counts belong to it (I7).
            if to.is_steady(pages_lost) && ring.pages[prev].link() == to {
                return Some((head, seq, overrun));
            }
            spin_loop();
        }
        None
    }

    /// Makes the reader page one with unread events; false if there are none.
    pub(super) fn fill_reader_page(&self, reader: &mut Reader, ring: &Ring) -> bool {
        if ring.pages.is_empty() || self.nothing_unread(reader) {
            // Empty. Else the page that is being written would become the reader page for nothing.
            return false;
        }
        // Discarded events may leave a page with nothing to read; each round consumes a page.
        for _ in 0..=ring.pages.len() {
            // First where the commit page is, then the reader page's bytes: if the writer has left the page by then, they
            // are final.
            let commit = ring.commit.load(Ordering::Acquire);
            if reader.read < ring.pages[reader.page].buf.commit() {
                return true;
            }
            if commit == reader.page || !self.take_head(reader, ring) {
                return false;
            }
        }
        false
    }

    /// Exchanges the reader page, read to its end, for the head page. The commit page is not the reader page.
    fn take_head(&self, reader: &mut Reader, ring: &Ring) -> bool {
        let old = reader.page;
        let page = &ring.pages[old];
        page.write.set(0);
        page.entries.set(0);
        ring.unseal(page, NO_SEQ);
        page.buf.clear();
        // Who still looks for this page must not take it, empty as it is, for the one that it was.
        let seq = page.seq.load(Ordering::Relaxed);
        page.seq.store(NO_SEQ, Ordering::Relaxed);
        for _ in 0..HEAD_TRIES {
            let Some((head, to)) = self.find_head(reader, ring) else {
                break;
            };
            // What was lost up to this head is counted (I10), and should more be lost, the exchange fails: so this is how many
            // were lost before its first event.
            let pages_lost = self.pages_lost.get_acquire();
            let overrun = self.lost(reader);
            if !to.is_steady(pages_lost) {
                spin_loop();
                continue;
            }
            let after = ring.next(head);
            let before = ring.pages[head].prev.load(Ordering::Relaxed);
            let to_after = Link::new(after, HEAD, pages_lost);
            page.next.store(to_after.0, Ordering::Relaxed);
            page.prev.store(before, Ordering::Relaxed);
            // Writers must know of it before the page is out of the ring.
            ring.taking.store(head, Ordering::SeqCst);
            if ring.pages[before]
                .next
                .compare_exchange(
                    to.0,
                    Link::new(old, 0, pages_lost).0,
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                )
                .is_err()
            {
                spin_loop();
                continue;
            }
            ring.pages[after].prev.store(old, Ordering::Relaxed);
            reader.head_hint = after;
            reader.page = head;
            reader.read = 0;
            reader.page_read_events = 0;
            reader.pages_read += 1;
            // Its writer set this when it began the page (I11).
            let turned_away = ring.pages[head].turned_away.get();
            let lost = overrun.saturating_sub(reader.last_overrun)
                + missing(reader.last_turned_away, turned_away);
            reader.last_overrun = overrun;
            reader.last_turned_away = turned_away;
            if lost > 0 {
                reader.lost = reader.lost.plus(Missed::Count(lost));
            }
            let seq = ring.pages[head].seq.load(Ordering::Relaxed);
            let gone = take_gaps(&mut reader.gaps, seq);
            reader.lost = reader.lost.plus(gone);
            return true;
        }
        page.seq.store(seq, Ordering::Relaxed);
        ring.taking.store(old, Ordering::SeqCst);
        false
    }

    /// Consumes the oldest event: copies its payload to `payload` (emptied first) and returns its time and the events lost
    /// before it. `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`] where `payload` cannot grow; then nothing is consumed.
    pub fn consume(&self, payload: &mut Vec<u8>) -> Result<Option<(u64, Missed)>, TraceError> {
        payload.clear();
        loop {
            let done = self.locked(|reader, ring| {
                let max = ring.max_payload();
                if payload.capacity() < max {
                    return Err(max);
                }
                Ok(self.consume_to(payload, reader, ring))
            });
            match done {
                Ok(done) => return Ok(done),
                // Memory is asked for outside of the lock.
                Err(max) => payload.try_reserve(max).map_err(|_| TraceError::NoMemory)?,
            }
        }
    }

    /// As `consume`, to a vector with room for any payload.
    fn consume_to(
        &self,
        payload: &mut Vec<u8>,
        reader: &mut Reader,
        ring: &Ring,
    ) -> Option<(u64, Missed)> {
        let next = self.next_unread(reader, ring)?;
        reader.read = next.end.offset;
        reader.stamp = next.end.ts;
        reader.read_events += 1;
        reader.page_read_events += 1;
        for word in next.payload {
            payload.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        // The unit that a discarded event adds may reach over the end of its page.
        reader.newest = reader.newest.max(next.end.ts);
        Some((reader.newest, core::mem::take(&mut reader.lost)))
    }

    /// The oldest unread event, whose page becomes the reader's, or is it. What stands before it and is none (padding, memory that
    /// was overwritten) is passed for good; the event itself is not.
    #[inline]
    fn next_unread<'r>(&self, reader: &mut Reader, ring: &'r Ring) -> Option<Unread<'r>> {
        while self.fill_reader_page(reader, ring) {
            let buf = &ring.pages[reader.page].buf;
            // Nobody writes below the commit word, and the page is ours (I1).
            let commit = buf.commit().min(ring.room.bytes());
            let words = &buf.words(ring.room)[..commit / 4];
            if reader.read == 0 {
                reader.stamp = buf.time_stamp().load(Ordering::Relaxed);
            }
            let mut cursor = Cursor {
                offset: reader.read,
                ts: reader.stamp,
            };
            match cursor.next_in(words) {
                Ok(Some(event)) => {
                    return Some(Unread {
                        payload: &words[event.payload / 4..][..event.len / 4],
                        end: cursor,
                    });
                }
                // Only padding was left.
                Ok(None) => {
                    reader.read = commit;
                    reader.stamp = cursor.ts;
                }
                Err(_) => reader.spoil(&ring.pages[reader.page], commit),
            }
        }
        None
    }

    /// The time of the event that [`consume`](Self::consume) gives next, and what it would tell of losses. `None` if there is no
    /// event. Consumes nothing, but the page of the event is the reader's from now on: writers do not overwrite it any more, and
    /// what comes next stays the same.
    pub fn peek(&self) -> Option<(u64, Missed)> {
        self.locked(|reader, ring| self.peek_locked(reader, ring))
    }

    /// Takes what [`peek`](Self::peek) tells of losses, for who has told of it: the event stays, and comes without. Nothing is taken
    /// where there is no event behind the loss.
    pub fn take_lost(&self) -> Missed {
        self.locked(|reader, ring| match self.peek_locked(reader, ring) {
            Some(_) => core::mem::take(&mut reader.lost),
            None => Missed::None,
        })
    }

    fn peek_locked(&self, reader: &mut Reader, ring: &Ring) -> Option<(u64, Missed)> {
        let next = self.next_unread(reader, ring)?;
        Some((reader.newest.max(next.end.ts), reader.lost))
    }
}

impl Reader {
    /// Memory of the reader page was overwritten under us: what it still held is lost.
    pub(super) fn spoil(&mut self, page: &BufPage, commit: usize) {
        let rest = page.entry_count().saturating_sub(self.page_read_events);
        self.spoilt += rest;
        self.last_overrun += rest;
        self.page_read_events += rest;
        self.lost = self.lost.plus(Missed::Count(rest));
        self.read = commit;
    }
}

/// Takes all gaps before the page `seq` out of the list.
fn take_gaps(gaps: &mut Vec<(u64, Missed)>, seq: u64) -> Missed {
    let mut sum = Missed::None;
    gaps.retain(|(at, lost)| {
        if *at <= seq {
            sum = sum.plus(*lost);
        }
        *at > seq
    });
    sum
}
