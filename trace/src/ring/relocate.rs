//! Moving a ring to other pages while it is recorded in: into the region that outlives a reset, and back.
//!
//! All pages are copied ahead, one by one, while writers go on; what was written since is copied again when the ring is quiet, and the
//! pages are exchanged. That last step is done on the buffer's own CPU with interrupts off: there nobody writes meanwhile, so that
//! no event is refused (but a non-maskable interrupt's, which is counted as dropped).
//!
//! In the region the newest page is shown first: a reset in the middle finds the newest pages without a hole. From the region
//! the oldest goes first.

use super::home::Home;
use super::read::NO_SEQ;
use super::reshape::reserved;
use super::subbuf::SubBuf;
use super::{BufPage, CpuBuffer, Reader, Ring, TURNED_AWAY_MASK};
use crate::error::TraceError;
use crate::platform::Platform;
use crate::sync::{Ordering, spin_loop};
use alloc::vec::Vec;

/// How often the moment is looked for in which no write is under way.
const TRIES: u32 = if cfg!(feature = "loom") { 2 } else { 100_000 };

/// A page of the new home, and then of the old one.
struct Ahead {
    buf: SubBuf,
    /// What of the page with this number was copied, up to this commit word.
    copied: Option<(u64, usize)>,
    /// It has changed places.
    done: bool,
}

impl<P: Platform> CpuBuffer<P> {
    /// Where its pages are.
    pub(crate) fn home(&self) -> Home {
        self.locked(|_, ring| ring.home)
    }

    /// Moves all pages to `home`, with all that is in them; `cpu` is the one that records here. Readers and iterators go on.
    ///
    /// # Errors
    ///
    /// [`TraceError::RegionFull`], [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::Retired`], [`TraceError::Mapped`]; then
    /// nothing has changed.
    pub(crate) fn relocate(&self, cpu: usize, home: Home) -> Result<(), TraceError> {
        let (count, order) = self.locked(|reader, ring| {
            reader.not_mapped()?;
            Ok((ring.pages.len(), ring.order))
        })?;
        if count == 0 {
            return Err(TraceError::Retired);
        }
        let mut pages = reserved::<Ahead>(count)?;
        while pages.len() < count {
            let Some(buf) = SubBuf::alloc(&self.platform, order, home) else {
                self.give_back(pages, order);
                return Err(match home {
                    Some(_) => TraceError::RegionFull,
                    None => TraceError::NoMemory,
                });
            };
            pages.push(Ahead {
                buf,
                copied: None,
                done: false,
            });
        }
        for (index, ahead) in pages.iter_mut().enumerate() {
            self.locked(|_, ring| {
                if ring.pages.len() == count && ring.order == order {
                    ahead.copy(ring, &ring.pages[index]);
                }
            });
        }
        let mut result = Err(TraceError::Busy);
        for _ in 0..TRIES {
            self.platform.on_cpu(cpu, &mut || {
                result = self.exclusive_now(|reader, ring| {
                    reader.not_mapped()?;
                    if ring.pages.len() != count || ring.order != order {
                        // Someone else has changed it since we looked.
                        return Err(TraceError::Busy);
                    }
                    self.exchange_pages(reader, ring, &mut pages, home)
                });
            });
            if result != Err(TraceError::Busy) {
                break;
            }
            spin_loop();
        }
        self.give_back(pages, order);
        // The model checker has no region.
        #[cfg(not(feature = "loom"))]
        if result.is_ok() {
            // All that was recorded before: a tick would need many for it. What is recorded meanwhile is the tick's.
            for _ in 0..count {
                if self.seal(1) == 0 {
                    break;
                }
            }
        }
        result
    }

    fn give_back(&self, mut pages: Vec<Ahead>, order: u8) {
        pages.sort_unstable_by_key(|page| page.copied.map_or(NO_SEQ, |(seq, _)| seq));
        for page in pages {
            page.buf.free(&self.platform, order);
        }
    }

    /// With the ring to oneself.
    fn exchange_pages(
        &self,
        reader: &mut Reader,
        ring: &mut Ring,
        pages: &mut [Ahead],
        home: Home,
    ) -> Result<(), TraceError> {
        let (head, _) = self.find_head(reader, ring).ok_or(TraceError::Busy)?;
        ring.home = home;
        // Of the copies none is sealed, though it may have been where it was before.
        reader.sealed = 0;
        let mut at = ring.commit.load(Ordering::Relaxed);
        // From the commit page back to the head page, then the reader page.
        for _ in 0..pages.len() {
            exchange(ring, at, &mut pages[at]);
            // A reset may, that is.
            self.platform.may_interrupt();
            if at == reader.page {
                break;
            }
            at = match at == head {
                true => reader.page,
                false => ring.pages[at].prev.load(Ordering::Relaxed),
            };
        }
        for (index, page) in pages.iter_mut().enumerate() {
            if !page.done {
                exchange(ring, index, page);
            }
        }
        Ok(())
    }
}

/// Puts `ahead` in the place of page `index`, and what was there into `ahead`.
fn exchange(ring: &mut Ring, index: usize, ahead: &mut Ahead) {
    ahead.copy(ring, &ring.pages[index]);
    core::mem::swap(&mut ring.pages[index].buf, &mut ahead.buf);
    ahead.done = true;
    let page = &ring.pages[index];
    let word = ahead.buf.commit_word().load(Ordering::Acquire);
    let seq = page.seq.load(Ordering::Relaxed);
    // Also of an empty page, which may be the one that is written to next.
    ring.unseal(page, seq);
    ring.begun(page, seq, page.turned_away.get() & TURNED_AWAY_MASK);
    page.buf.commit_word().store(word, Ordering::Release);
}

impl Ahead {
    /// Copies what is committed in `page`, unless that was done already. The commit word stays 0: nobody reads it yet.
    fn copy(&mut self, ring: &Ring, page: &BufPage) {
        let seq = page.seq.load(Ordering::Acquire);
        let commit = page.buf.commit();
        if self.copied == Some((seq, commit)) {
            return;
        }
        // Should a writer begin the page anew meanwhile, its number will be another one when it counts (I2).
        self.buf.copy_from(&page.buf, ring.room, commit);
        self.copied = Some((seq, commit));
    }
}
