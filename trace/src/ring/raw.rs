//! Whole pages for a consuming reader: `trace_pipe_raw`.

use super::{CpuBuffer, Reader, Ring};
use crate::page::{self, Cursor, HEADER_SIZE, MISSED_EVENTS, MISSED_STORED, Missed};
use crate::platform::Platform;
use crate::sync::Ordering;

impl<P: Platform> CpuBuffer<P> {
    /// Consumes the rest of the oldest page: copies it to `out`, header and all, as Linux's `ring_buffer_read_page` does.
    /// Returns the bytes of the header and the data without what is stored of missed events; `None` if there is
    /// nothing to read, or `out` is smaller than [`page_size`](Self::page_size).
    ///
    /// Of a page that was read in part, and of one that is still written to, the copy holds what is committed and unread,
    /// with the time that its first delta counts from in its header. Losses before it stand in the header: [`MISSED_EVENTS`],
    /// and where their number is known and there is room after the data, [`MISSED_STORED`] and the number. What is not used of
    /// `out` is zeroed.
    ///
    /// With `full`, only a page that is not written to any more, nor was read in part, is consumed.
    pub fn read_page(&self, out: &mut [u8], full: bool) -> Option<usize> {
        self.locked(|reader, ring| {
            let out = out.get_mut(..HEADER_SIZE + ring.room.bytes())?;
            while self.fill_reader_page(reader, ring) {
                let written_to = ring.commit.load(Ordering::Acquire) == reader.page;
                if full && (written_to || reader.read > 0) {
                    return None;
                }
                if let Some(len) = self.copy_page(reader, ring, out) {
                    return Some(len);
                }
            }
            None
        })
    }

    /// Copies and consumes what is unread of the reader page; `None` if that holds no event.
    fn copy_page(&self, reader: &mut Reader, ring: &Ring, out: &mut [u8]) -> Option<usize> {
        let rest = self.consume_rest(reader, ring);
        if rest.events == 0 {
            return None;
        }
        let words = ring.pages[reader.page].buf.words(ring.room);
        let (header, data) = out.split_at_mut(HEADER_SIZE);
        // Without the padding after the last event: the number of missed ones may fit there.
        let len = rest.end - rest.from;
        for (word, bytes) in words[rest.from / 4..rest.end / 4]
            .iter()
            .zip(data.chunks_exact_mut(4))
        {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        data[len..].fill(0);
        let missed = put_missed(rest.lost, len, data);
        header[..8].copy_from_slice(&rest.stamp.to_ne_bytes());
        header[8..].copy_from_slice(&(len as u64 | missed).to_ne_bytes());
        Some(HEADER_SIZE + len)
    }

    /// Consumes what is unread of the reader page.
    pub(super) fn consume_rest(&self, reader: &mut Reader, ring: &Ring) -> Rest {
        let page = &ring.pages[reader.page];
        // Nobody writes below the commit word, and the page is ours (I1).
        let commit = page.buf.commit().min(ring.room.bytes());
        let words = &page.buf.words(ring.room)[..commit / 4];
        if reader.read == 0 {
            reader.stamp = page.buf.time_stamp().load(Ordering::Relaxed);
        }
        let mut rest = Rest {
            from: reader.read,
            end: reader.read,
            stamp: reader.stamp,
            events: 0,
            lost: Missed::None,
        };
        let mut cursor = Cursor {
            offset: rest.from,
            ts: rest.stamp,
        };
        let damaged = loop {
            match cursor.next_in(words) {
                Ok(Some(event)) => {
                    rest.events += 1;
                    rest.end = cursor.offset;
                    reader.newest = reader.newest.max(event.ts);
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        reader.read = commit;
        reader.stamp = cursor.ts;
        reader.read_events += rest.events;
        reader.page_read_events += rest.events;
        if rest.events > 0 {
            rest.lost = core::mem::take(&mut reader.lost);
        }
        if damaged {
            reader.spoil(page, commit);
        }
        rest
    }
}

/// What was unread of a page.
pub(super) struct Rest {
    /// Where it begins in the page's data.
    pub(super) from: usize,
    /// Where its last event ends.
    pub(super) end: usize,
    /// The time that its first delta counts from.
    pub(super) stamp: u64,
    /// Its events.
    pub(super) events: u64,
    /// Events lost before the first of them; there is none without one.
    pub(super) lost: Missed,
}

/// The bits of the commit word that tell of `lost`; stores their number after `len` bytes of `data`, if it fits there.
pub(crate) fn put_missed(lost: Missed, len: usize, data: &mut [u8]) -> u64 {
    match lost {
        Missed::None => 0,
        Missed::Unknown => MISSED_EVENTS,
        Missed::Count(n) => match data.get_mut(len..len + page::MISSED_SIZE) {
            Some(place) => {
                place.copy_from_slice(&n.to_ne_bytes());
                MISSED_EVENTS | MISSED_STORED
            }
            None => MISSED_EVENTS,
        },
    }
}
