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
        let page = &ring.pages[reader.page];
        let (header, data) = out.split_at_mut(HEADER_SIZE);
        // Nobody writes below the commit word, and the page is ours (I1).
        let commit = page.buf.commit().min(ring.room.bytes());
        let words = &page.buf.words(ring.room)[..commit / 4];
        if reader.read == 0 {
            reader.stamp = page.buf.time_stamp().load(Ordering::Relaxed);
        }
        let (from, stamp) = (reader.read, reader.stamp);
        let mut cursor = Cursor {
            offset: from,
            ts: stamp,
        };
        let mut events = 0;
        let mut end = from;
        let damaged = loop {
            match cursor.next_in(words) {
                Ok(Some(event)) => {
                    events += 1;
                    end = cursor.offset;
                    reader.newest = reader.newest.max(event.ts);
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        reader.read = commit;
        reader.stamp = cursor.ts;
        reader.read_events += events;
        reader.page_read_events += events;
        let lost = match events {
            0 => Missed::None,
            _ => core::mem::take(&mut reader.lost),
        };
        if damaged {
            reader.spoil(page, commit);
        }
        if events == 0 {
            return None;
        }
        // Without the padding after the last event: the number of missed ones may fit there.
        let len = end - from;
        for (word, bytes) in words[from / 4..end / 4]
            .iter()
            .zip(data.chunks_exact_mut(4))
        {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        data[len..].fill(0);
        let missed = put_missed(lost, len, data);
        header[..8].copy_from_slice(&stamp.to_ne_bytes());
        header[8..].copy_from_slice(&(len as u64 | missed).to_ne_bytes());
        Some(HEADER_SIZE + len)
    }
}

/// The bits of the commit word that tell of `lost`; stores their number after `len` bytes of `data`, if it fits there.
fn put_missed(lost: Missed, len: usize, data: &mut [u8]) -> u64 {
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
