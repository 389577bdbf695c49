//! Checksums of pages in the region that outlives a reset, made while nothing waits for them: no writer knows of it.
//!
//! A page that is full does not change until it is begun anew; the commit page grows. So a seal says how much of the page it covers, and
//! goes on from there. Whoever seals does not keep a writer from beginning the page anew meanwhile: that is found out when the seal is put
//! ([`Mark::set_seal`](crate::ramtrace::mark::Mark::set_seal)).

use super::{CpuBuffer, Reader, Ring};
use crate::platform::Platform;
use crate::ramtrace::mark::Seal;
use crate::sync::Ordering;

impl<P: Platform> CpuBuffer<P> {
    /// Seals what was committed since it was last called, in at most `most` pages, the oldest first; does nothing where the pages are not in the
    /// region, or a reader holds the lock. Returns how many pages there were to seal. From any context.
    pub(crate) fn seal(&self, most: usize) -> usize {
        self.platform.no_irq(|| {
            let Some(mut reader) = self.reader.try_lock() else {
                return 0;
            };
            // SAFETY: under the reader lock the ring is shared only (I5).
            let ring = unsafe { &*self.ring.get() };
            if ring.home.is_none() || ring.pages.is_empty() {
                return 0;
            }
            self.seal_locked(&mut reader, ring, most)
        })
    }

    fn seal_locked(&self, reader: &mut Reader, ring: &Ring, most: usize) -> usize {
        let commit = ring.commit.load(Ordering::Acquire);
        let seq_of = |index: usize| ring.pages[index].seq.load(Ordering::Relaxed);
        let newest = seq_of(commit);
        let mut done = 0;
        // The reader page is not in the ring.
        if commit != reader.page && ring.seal_page(reader.page, true) {
            done += 1;
        }
        // Back to the oldest that is not sealed. Numbers that do not descend by one are those of a page that is begun just now.
        let mut at = commit;
        let mut back = 0;
        if commit != reader.page {
            while back + 1 < ring.pages.len() && seq_of(at) > reader.sealed {
                let before = ring.pages[at].prev.load(Ordering::Relaxed);
                if seq_of(before).wrapping_add(1) != seq_of(at) {
                    break;
                }
                at = before;
                back += 1;
            }
        }
        for left in (0..=back).rev() {
            if done >= most {
                break;
            }
            let seq = seq_of(at);
            done += usize::from(ring.seal_page(at, left > 0));
            if left > 0 {
                reader.sealed = seq.wrapping_add(1);
                at = ring.next(at);
            } else {
                // It grows.
                reader.sealed = newest;
            }
        }
        done
    }
}

impl Ring {
    /// Seals all that is committed in a page; `full` says that nothing more will be. False if there is nothing to do.
    fn seal_page(&self, index: usize, full: bool) -> bool {
        let page = &self.pages[index];
        let Some(mark) = self.mark(page) else {
            return false;
        };
        let before = mark.seal();
        let seq = page.seq.load(Ordering::Acquire);
        let len = page.buf.commit();
        if before.number != seq as u16 || mark.seq() != seq || len > self.room.bytes() {
            // It is being begun, or was emptied.
            return false;
        }
        if len == 0 || before.full || (before.len == len && !full) {
            return false;
        }
        let words = &page.buf.words(self.room)[..len.div_ceil(4)];
        let stamp = page.buf.time_stamp().load(Ordering::Relaxed);
        let from = (before.len > 0 && before.len <= len).then_some((before.crc, before.len));
        let seal = Seal {
            crc: mark.checksum(stamp, words, from),
            len,
            full,
            number: seq as u16,
        };
        // Fails where the page was begun anew meanwhile.
        mark.set_seal(before, seal);
        true
    }
}
