//! The counters, as `stats` shows them.

use super::{CpuBuffer, Reader, Ring};
use crate::page;
use crate::platform::Platform;
use crate::sync::Ordering;

/// A buffer's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events in the buffer that were not consumed.
    pub entries: u64,
    /// Events overwritten before they were consumed.
    pub overrun: u64,
    /// Events refused because interrupts had filled the whole ring during one write.
    pub commit_overrun: u64,
    /// Events refused for another reason: a full buffer that does not overwrite, a write within a write of the same
    /// context, or a resize that was under way.
    pub dropped_events: u64,
    /// Events consumed.
    pub read_events: u64,
    /// Bytes of event data in the buffer that were not consumed, with the padding between them and at the ends of pages that
    /// hold some; 0 if there is no event.
    pub bytes: u64,
    /// Time of the oldest event in the buffer in units of its clock; 0 if there is none.
    pub oldest_ts: u64,
    /// How often the tail has moved to a new page.
    pub pages_touched: u64,
    /// Pages overwritten.
    pub pages_lost: u64,
    /// Pages consumed.
    pub pages_read: u64,
}

impl Stats {
    /// All events ever written (since the buffer was last cleared).
    pub fn written(&self) -> u64 {
        self.entries + self.overrun + self.read_events
    }
}

impl<P: Platform> CpuBuffer<P> {
    /// Whether there is no event to consume.
    pub fn is_empty(&self) -> bool {
        self.locked(|reader, _| self.nothing_unread(reader))
    }

    pub(super) fn nothing_unread(&self, reader: &Reader) -> bool {
        self.committed.get() == self.lost(reader) + reader.read_events
    }

    /// The counters now. Exact while nobody writes; else each is right for some moment during the call.
    pub fn stats(&self) -> Stats {
        self.locked(|reader, ring| {
            let mut stats = Stats {
                overrun: self.lost(reader),
                commit_overrun: self.commit_overrun.get(),
                dropped_events: self.dropped_events(),
                read_events: reader.read_events,
                pages_touched: self.pages_touched.get(),
                pages_lost: self.pages_lost.get(),
                pages_read: reader.pages_read,
                ..Stats::default()
            };
            stats.entries = self
                .committed
                .get()
                .saturating_sub(stats.overrun + stats.read_events);
            if ring.pages.is_empty() || stats.entries == 0 {
                // What may still stand there is padding: of discarded events, of refused ones, of the ends of pages.
                return stats;
            }
            let unread = match self.oldest_on_reader_page(reader, ring) {
                Some(ts) => {
                    stats.oldest_ts = ts;
                    ring.pages[reader.page]
                        .buf
                        .commit()
                        .saturating_sub(reader.read)
                }
                None => 0,
            };
            stats.bytes = unread as u64;
            if ring.commit.load(Ordering::Acquire) != reader.page {
                let head = match self.find_head(reader, ring) {
                    Some((head, _)) => head,
                    None => reader.head_hint,
                };
                if unread == 0 && ring.pages[head].buf.commit() > 0 {
                    stats.oldest_ts = ring.pages[head].buf.time_stamp().load(Ordering::Relaxed);
                }
                let mut at = head;
                // Bounded by the ring's length: the commit page may run away from us.
                for _ in 1..ring.pages.len() {
                    stats.bytes += ring.pages[at].buf.commit() as u64;
                    if at == ring.commit.load(Ordering::Acquire) {
                        break;
                    }
                    at = ring.next(at);
                }
            }
            stats
        })
    }

    /// The time of the first event of the reader page that was not consumed; `None` if there is at most padding. Under the
    /// reader lock.
    fn oldest_on_reader_page(&self, reader: &Reader, ring: &Ring) -> Option<u64> {
        let buf = &ring.pages[reader.page].buf;
        // Nobody writes below the commit word, and the page is the reader's (I1).
        let commit = buf.commit().min(ring.room.bytes());
        let ts = match reader.read {
            0 => buf.time_stamp().load(Ordering::Relaxed),
            _ => reader.stamp,
        };
        let mut cursor = page::Cursor {
            offset: reader.read,
            ts,
        };
        match cursor.next_in(&buf.words(ring.room)[..commit / 4]) {
            Ok(event) => event.map(|event| event.ts.max(reader.newest)),
            // Memory that was overwritten: to be found, and counted, by who consumes it.
            Err(_) => (reader.read < commit).then_some(ts),
        }
    }

    /// See [`Stats::dropped_events`]. Under the reader lock.
    pub(super) fn dropped_events(&self) -> u64 {
        let told = self.refused_told.load(Ordering::Relaxed);
        self.dropped.get() + self.refused.get().wrapping_sub(told)
    }

    /// Events ever lost of those that were committed.
    pub(super) fn lost(&self, reader: &Reader) -> u64 {
        self.overrun.get_acquire() + reader.spoilt
    }
}
