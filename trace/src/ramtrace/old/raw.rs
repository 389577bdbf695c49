//! The events of kept pages, and the pages themselves, as copies.

use super::{OldCpu, OldError, OldPage};
use crate::page::{Cursor, HEADER_SIZE, Missed};
use crate::ring::{Entry, MAX_ORDER, Room, SubBuf, put_missed, read_page};
use crate::sync::Ordering;
use crate::text::Events;
use alloc::vec::Vec;
use handover::mem::{Memory, PAGE_SIZE};

/// The events of a CPU, the oldest first. They are walked again: a page may change that nobody writes to.
pub(super) struct OldEvents<'a, M> {
    mem: &'a M,
    pages: core::slice::Iter<'a, OldPage>,
    /// The current page's data.
    data: Vec<u8>,
    len: usize,
    cursor: Cursor,
    /// Time of the event before: time does not go back, see [`CpuBuffer::consume`](crate::ring::CpuBuffer::consume).
    newest: u64,
    /// To be told with the next event.
    lost: Missed,
}

impl<'a, M: Memory> OldEvents<'a, M> {
    pub(super) fn new(mem: &'a M, cpu: &'a OldCpu) -> Result<Self, OldError> {
        let largest = cpu.pages.iter().map(|page| page.commit).max();
        let mut data = Vec::new();
        data.try_reserve_exact(largest.unwrap_or(0))?;
        data.resize(largest.unwrap_or(0), 0);
        Ok(OldEvents {
            mem,
            pages: cpu.pages.iter(),
            data,
            len: 0,
            cursor: Cursor::new(0),
            newest: 0,
            lost: Missed::None,
        })
    }

    /// Copies the next page. False at the end.
    fn load(&mut self) -> bool {
        let Some(page) = self.pages.next() else {
            return false;
        };
        self.lost = self.lost.plus(page.lost);
        self.len = 0;
        if let Some(buf) = SubBuf::at(self.mem, page.page) {
            buf.copy_data(Room::of(page.page.order), page.commit, &mut self.data);
            self.len = page.commit;
            self.cursor = Cursor::new(buf.time_stamp().load(Ordering::Relaxed));
        }
        true
    }
}

impl<M: Memory> Events for OldEvents<'_, M> {
    fn next(&mut self) -> Option<Entry<'_>> {
        let event = loop {
            match self.cursor.next(&self.data[..self.len]) {
                Ok(Some(event)) => break event,
                Ok(None) => {}
                Err(_) => self.lost = Missed::Unknown,
            }
            if !self.load() {
                self.len = 0;
                return None;
            }
        };
        self.newest = self.newest.max(event.ts);
        Some(Entry {
            ts: self.newest,
            lost: core::mem::take(&mut self.lost),
            payload: &self.data[event.payload..event.payload + event.len],
        })
    }
}

impl OldPage {
    /// Bytes of the whole page, as in `.raw`.
    pub fn size(&self) -> usize {
        (PAGE_SIZE as usize) << self.page.order.min(MAX_ORDER)
    }

    /// A copy of the page in `out`, of which it is the whole length: as `trace_pipe_raw` gives pages, with what was lost before it in its
    /// header, and zeroes behind its data.
    ///
    /// # Errors
    ///
    /// [`OldError::NoMemory`].
    pub(super) fn copy(&self, mem: &impl Memory, out: &mut Vec<u8>) -> Result<(), OldError> {
        out.clear();
        out.try_reserve_exact(self.size())?;
        out.resize(self.size(), 0);
        let Some(buf) = SubBuf::at(mem, self.page) else {
            return Ok(());
        };
        read_page(&buf, self.page.order, out);
        let (header, data) = out.split_at_mut(HEADER_SIZE);
        data[self.commit..].fill(0);
        let missed = put_missed(self.lost, self.commit, data);
        header[8..].copy_from_slice(&(self.commit as u64 | missed).to_ne_bytes());
        Ok(())
    }
}
