//! The readers' side: a consuming read, and an iterator that only looks.

use super::link::{HEAD, Link};
use super::{BufPage, CpuBuffer, Reader, Ring};
use crate::error::TraceError;
use crate::page::{Cursor, Event, HEADER_SIZE, Missed};
use crate::platform::Platform;
use crate::sync::{Ordering, fence, spin_loop};
use alloc::vec::Vec;

/// How often a reader looks again while a writer moves the head.
const HEAD_TRIES: usize = if cfg!(feature = "loom") { 2 } else { 10_000 };

/// The `seq` of a page that was consumed and not written to since.
const NO_SEQ: u64 = u64::MAX;

/// An event as a reader gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its time, in units of the buffer's clock.
    pub ts: u64,
    /// Events lost right before it.
    pub lost: Missed,
    /// Its payload, rounded up to whole words.
    pub payload: &'a [u8],
}

/// A zeroed byte vector, or the error where memory has run out.
fn zeroed(len: usize) -> Result<Vec<u8>, TraceError> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| TraceError::NoMemory)?;
    v.resize(len, 0);
    Ok(v)
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
    fn steady_head(&self, reader: &mut Reader, ring: &Ring) -> Option<(usize, u64, u64)> {
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
            let lost = overrun.saturating_sub(reader.last_overrun);
            reader.last_overrun = overrun;
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
                    reader.read = cursor.offset;
                    reader.stamp = cursor.ts;
                    reader.read_events += 1;
                    reader.page_read_events += 1;
                    for word in &words[event.payload / 4..][..event.len / 4] {
                        payload.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                    }
                    // The unit that a discarded event adds may reach over the end of its page.
                    reader.newest = reader.newest.max(event.ts);
                    return Some((reader.newest, core::mem::take(&mut reader.lost)));
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
        while self.fill_reader_page(reader, ring) {
            let buf = &ring.pages[reader.page].buf;
            // As in `consume_to`.
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
                Ok(Some(event)) => return Some((reader.newest.max(event.ts), reader.lost)),
                Ok(None) => {
                    reader.read = commit;
                    reader.stamp = cursor.ts;
                }
                Err(_) => reader.spoil(&ring.pages[reader.page], commit),
            }
        }
        None
    }

    /// An iterator over the events that are in the buffer now, from the oldest on; it consumes nothing. Events that are
    /// overwritten before it comes to them are reported as lost. Should the buffer be exchanged meanwhile (swapped, retired, given
    /// another order), the iterator comes to its end.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`]: it needs memory for a copy of one page.
    pub fn iter(&self) -> Result<CpuIter<'_, P>, TraceError> {
        let (room, epoch) = self.locked(|_, ring| (ring.room, self.epoch()));
        let data = zeroed(room.bytes())?;
        let mut iter = CpuIter {
            buffer: self,
            epoch,
            data,
            len: 0,
            cursor: Cursor::new(0),
            next_seq: 0,
            next_index: 0,
            last_seq: 0,
            last_commit: 0,
            passed: None,
            pages_read: 0,
            newest: 0,
            started: false,
            lost: Missed::None,
            done: false,
        };
        self.locked(|reader, ring| {
            if ring.pages.is_empty() || self.epoch() != epoch {
                iter.done = true;
                return;
            }
            iter.pages_read = reader.pages_read;
            let commit = ring.commit.load(Ordering::Acquire);
            iter.last_seq = ring.pages[commit].seq.load(Ordering::Acquire);
            iter.last_commit = ring.pages[commit].buf.commit();
            let reader_page = &ring.pages[reader.page];
            if commit == reader.page || reader.read < reader_page.buf.commit() {
                iter.next_seq = reader_page.seq.load(Ordering::Relaxed);
                iter.next_index = reader.page;
                iter.passed = Some(reader.last_overrun + reader.read_events);
            } else if let Some((head, seq, overrun)) = self.steady_head(reader, ring) {
                iter.next_seq = seq;
                iter.next_index = head;
                iter.passed = Some(overrun + reader.read_events);
            } else {
                iter.done = true;
            }
        });
        Ok(iter)
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

/// See [`CpuBuffer::iter`]. Holds a copy of one page.
pub struct CpuIter<'b, P: Platform> {
    buffer: &'b CpuBuffer<P>,
    /// The ring's that it goes over (I8).
    epoch: u32,
    /// The current page's data.
    data: Vec<u8>,
    /// Committed bytes in `data`.
    len: usize,
    cursor: Cursor,
    /// The page to read next.
    next_seq: u64,
    /// Where it was, or should be; checked by `seq`.
    next_index: usize,
    /// The commit page when the iterator was made, and its committed bytes: where to stop.
    last_seq: u64,
    last_commit: usize,
    /// Events that ever stood before the page to read next, where known: tells how many were lost if it is gone.
    passed: Option<u64>,
    /// Pages consumed by others when the iterator was made: what they take meanwhile is not lost.
    pages_read: u64,
    /// Time of the event before.
    newest: u64,
    /// A page was loaded.
    started: bool,
    /// Losses to report with the next event.
    lost: Missed,
    done: bool,
}

impl<P: Platform> CpuIter<'_, P> {
    /// The next event; `None` at the end.
    ///
    /// Should a page turn out damaged, the rest of it is left out and reported as lost.
    // Not an Iterator: the entry borrows the page's copy.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Entry<'_>> {
        let event = self.advance()?;
        // As in `consume`.
        self.newest = self.newest.max(event.ts);
        Some(Entry {
            ts: self.newest,
            lost: core::mem::take(&mut self.lost),
            payload: &self.data[event.payload..event.payload + event.len],
        })
    }

    fn advance(&mut self) -> Option<Event> {
        loop {
            match self.cursor.next(&self.data[..self.len]) {
                Ok(Some(event)) => {
                    if let Some(n) = &mut self.passed {
                        *n += 1;
                    }
                    return Some(event);
                }
                Ok(None) => {}
                Err(_) => {
                    self.lost = Missed::Unknown;
                    self.passed = None;
                    self.cursor.offset = self.len;
                }
            }
            if self.done || !self.load_page() {
                self.done = true;
                return None;
            }
        }
    }

    /// Copies the next page. False at the end.
    fn load_page(&mut self) -> bool {
        let buffer = self.buffer;
        for _ in 0..HEAD_TRIES {
            if self.next_seq > self.last_seq {
                return false;
            }
            let loaded = buffer.locked(|reader, ring| self.try_load(reader, ring));
            match loaded {
                Some(true) => return true,
                Some(false) => return false,
                None => spin_loop(),
            }
        }
        false
    }

    /// One try: `None` if it has to be repeated, `Some(false)` at the end.
    fn try_load(&mut self, reader: &mut Reader, ring: &Ring) -> Option<bool> {
        if self.buffer.epoch() != self.epoch {
            // The ring is another one's now, or gone.
            return Some(false);
        }
        let want = self.next_seq;
        let seq_at = |index: usize| ring.pages[index].seq.load(Ordering::Acquire);
        let index = if seq_at(reader.page) == want {
            reader.page
        } else if self.next_index < ring.pages.len() && seq_at(self.next_index) == want {
            self.next_index
        } else {
            // Gone, or elsewhere since a resize.
            let (head, head_seq, overrun) = self.buffer.steady_head(reader, ring)?;
            if head_seq > want {
                let reader_page = &ring.pages[reader.page];
                let reader_seq = seq_at(reader.page);
                // Where to go on: the reader page has what comes before the head, unless it stands behind us.
                let (index, seq, before) =
                    if reader_seq > want && reader.read < reader_page.buf.commit() {
                        (
                            reader.page,
                            reader_seq,
                            reader.last_overrun + reader.read_events,
                        )
                    } else {
                        let unread = reader_page
                            .entry_count()
                            .saturating_sub(reader.page_read_events);
                        (head, head_seq, overrun + reader.read_events + unread)
                    };
                let lost = match self.passed {
                    Some(n) if reader.pages_read == self.pages_read => before.saturating_sub(n),
                    // Some of it was consumed meanwhile.
                    _ => u64::MAX,
                };
                self.lost = self.lost.plus(match lost {
                    0 => Missed::None,
                    u64::MAX => Missed::Unknown,
                    n => Missed::Count(n),
                });
                self.passed = Some(before);
                self.pages_read = reader.pages_read;
                self.started = false;
                self.next_seq = seq;
                self.next_index = index;
                return None;
            }
            let mut at = head;
            for _ in 1..ring.pages.len() {
                if seq_at(at) == want {
                    break;
                }
                at = ring.next(at);
            }
            if seq_at(at) != want {
                // It was cleared away, with all before it.
                return Some(false);
            }
            at
        };
        let page = &ring.pages[index];
        let stamp = page.buf.time_stamp().load(Ordering::Acquire);
        let mut commit = page.buf.commit().min(self.data.len());
        if want == self.last_seq {
            commit = commit.min(self.last_commit);
        }
        page.buf.copy_data(ring.room, commit, &mut self.data);
        let next = ring.next(index);
        fence(Ordering::Acquire);
        if page.seq.load(Ordering::Relaxed) != want {
            // Overwritten meanwhile (I2): what was copied is worth nothing.
            self.len = 0;
            self.cursor = Cursor::new(0);
            return None;
        }
        self.len = commit;
        self.cursor = Cursor::new(stamp);
        // What was consumed before the iterator came to its first event is not shown; what is consumed while it goes on is.
        if !self.started && index == reader.page {
            self.passed = Some(reader.last_overrun + reader.read_events);
            if reader.read > 0 {
                self.cursor = Cursor {
                    offset: reader.read,
                    ts: reader.stamp,
                };
            }
        }
        self.started = true;
        for (at, lost) in &reader.gaps {
            if *at == want {
                self.lost = self.lost.plus(*lost);
                self.passed = match (self.passed, lost) {
                    (Some(n), Missed::Count(lost)) => Some(n + lost),
                    _ => None,
                };
            }
        }
        self.next_seq = want + 1;
        self.next_index = next;
        Some(true)
    }
}

impl<P: Platform> core::fmt::Debug for CpuIter<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CpuIter")
            .field("next_seq", &self.next_seq)
            .field("last_seq", &self.last_seq)
            .finish_non_exhaustive()
    }
}

const _: () = assert!(HEADER_SIZE == 16);
