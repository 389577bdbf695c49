//! An iterator that only looks: it copies page by page, and consumes nothing.

use super::read::HEAD_TRIES;
use super::{CpuBuffer, Reader, Ring, missing};
use crate::error::TraceError;
use crate::page::{Cursor, Event, Missed};
use crate::platform::Platform;
use crate::sync::{Ordering, fence, spin_loop};
use alloc::vec::Vec;

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
            turned_away: None,
            gaps_from: 0,
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
            iter.gaps_from = iter.next_seq;
        });
        Ok(iter)
    }
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
    /// That of the page before, once there is one (I11).
    turned_away: Option<u64>,
    /// Losses inside the buffer that stand before a page of this number, or a later one, are not told yet.
    gaps_from: u64,
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
        let turned_away = page.turned_away.get();
        fence(Ordering::Acquire);
        if page.seq.load(Ordering::Relaxed) != want {
            // Overwritten meanwhile (I2): what was copied is worth nothing.
            self.len = 0;
            self.cursor = Cursor::new(0);
            return None;
        }
        self.len = commit;
        self.cursor = Cursor::new(stamp);
        // As with overwritten ones, what is missing before the first page is not told to one who only looks.
        let before = self.turned_away.replace(turned_away);
        match before.map_or(0, |before| missing(before, turned_away)) {
            0 => {}
            n => self.lost = self.lost.plus(Missed::Count(n)),
        }
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
        // Also those before pages that are gone. `passed` has nothing of them: `overrun` counts what damage has cost from the start,
        // and what was refused not at all.
        for (at, lost) in &reader.gaps {
            if (self.gaps_from..=want).contains(at) {
                self.lost = self.lost.plus(*lost);
            }
        }
        self.gaps_from = want + 1;
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
