//! A ring that is mapped by a reader in another address space: Linux's `ring_buffer_map` and what belongs to it
//! (`kernel/trace/ring_buffer.c`, Donnefort's series).
//!
//! # How it works
//!
//! The reader sees the pages themselves, read-only: the meta-page ([`crate::meta`]) and every sub-buffer, by numbers that are given when
//! the ring is mapped first: 0 for the reader page, then the others in the order of the ring. It reads the reader page alone, which no
//! writer touches below what was committed (I1), and asks for the next one by a call. So a writer knows nothing of the mapping,
//! and its code has nothing for it: what there is to do is done by the call, under the reader lock.
//!
//! [`CpuBuffer::get_reader`] counts all that is committed in the reader page as read, or, where all of it was read, takes the head page first. A
//! later call may find that a page that is still written to has become longer. Events are counted as read when they are shown, not when
//! they were looked at: who maps a ring, and goes away, has read them.
//!
//! # What it excludes
//!
//! As long as a ring is mapped, its pages are the same: resizing, another order, exchange with a snapshot and the end of the buffer are
//! refused ([`TraceError::Mapped`]). Clearing is not. All other readers go on, and use up what the mapped one does not see
//! then; a page of which one has taken a part is shown whole.
//!
//! # Losses
//!
//! They are told twice, when the page after them is shown first: as `reader.lost_events` of the meta-page, and, as Linux does it, in the
//! commit word of the page itself, with their number after the data. The second is possible only where the writer has left the page. The
//! bits are taken away again when the last mapping ends, and when the buffer is described for another life: pages inside a
//! buffer have none.
//!
//! # Invariants
//!
//! - **M1** `Reader::mapping` is there if and only if the ring is mapped at least once.
//! - **M2** While it is, no page leaves the ring, comes to it, or changes its index, but for [`Mapping::swapped`].

use super::meta_page::MetaPage;
use super::raw::Rest;
use super::reshape::reserved;
use super::subbuf;
use super::{CpuBuffer, Reader, Ring};
use crate::error::TraceError;
use crate::meta::{LOST_UNKNOWN, META_LEN, Meta, MetaReader};
use crate::page::{self, COMMIT_MASK, MISSED_EVENTS, MISSED_STORED, Missed};
use crate::platform::Platform;
use crate::sync::Ordering;
use alloc::vec::Vec;
use handover::mem::PAGE_SIZE;

/// What a mapped ring has beside an ordinary one. Under the reader lock.
pub(super) struct Mapping {
    /// How often it is mapped; not 0.
    count: u32,
    page: MetaPage,
    /// Of each page of the ring by its index: its number.
    ids: Vec<u32>,
    /// Of each page of the ring by its number: its physical address.
    places: Vec<u64>,
    /// Which reader page was shown last, by `Reader::pages_read`; and what was lost before it.
    shown: Option<u64>,
    lost: Missed,
}

impl Mapping {
    /// For a ring of `count` pages; the lists are empty, with room for all.
    fn new<P: Platform>(p: &P, count: usize, order: u8) -> Result<Self, TraceError> {
        let ids = reserved(count)?;
        let places = reserved(count)?;
        Ok(Mapping {
            count: 0,
            page: MetaPage::alloc(p, order).ok_or(TraceError::NoMemory)?,
            ids,
            places,
            shown: None,
            lost: Missed::None,
        })
    }

    /// Numbers the pages: the reader page, then the ring's from `head` on.
    fn number(&mut self, reader_page: usize, head: usize, ring: &Ring) {
        self.ids.resize(ring.pages.len(), 0);
        let mut at = reader_page;
        for id in 0..ring.pages.len() {
            self.ids[at] = id as u32;
            self.places.push(ring.pages[at].buf.page_ref(ring.order).pa);
            at = if id == 0 { head } else { ring.next(at) };
        }
    }

    /// The pages `a` and `b` have changed their indices, and the ring is empty.
    pub(super) fn swapped(&mut self, a: usize, b: usize) {
        self.ids.swap(a, b);
        self.shown = None;
        self.lost = Missed::None;
    }

    /// The page of 4 KiB that stands at `index` of the whole mapping.
    fn place(&self, index: u64, order: u8) -> Option<u64> {
        let each = 1u64 << order;
        let within = index % each;
        match (index / each).checked_sub(1) {
            None if within == 0 => Some(self.page.meta()),
            None => Some(self.page.zeroes()),
            Some(id) => {
                let place = self.places.get(usize::try_from(id).ok()?)?;
                Some(place + within * PAGE_SIZE)
            }
        }
    }

    pub(super) fn free<P: Platform>(self, p: &P) {
        self.page.free(p);
    }
}

/// Whether `pages` pages from page `offset` on lie within the mapping of a ring of `count` sub-buffers: Linux's `__rb_map_vma`.
fn check(offset: u64, pages: u64, count: usize, order: u8) -> Result<(), TraceError> {
    let each = 1u64 << order;
    let of = (count as u64 + 1) << order;
    let end = offset.checked_add(pages);
    if !offset.is_multiple_of(each) || pages == 0 || end.is_none_or(|end| end > of) {
        return Err(TraceError::MapRange { offset, pages, of });
    }
    Ok(())
}

impl Reader {
    /// An error while the ring is mapped.
    pub(super) fn not_mapped(&self) -> Result<(), TraceError> {
        match self.mapping {
            None => Ok(()),
            Some(_) => Err(TraceError::Mapped),
        }
    }
}

impl<P: Platform> CpuBuffer<P> {
    /// Maps the ring once more. Returns the physical addresses of the pages (of 4 KiB) of the mapping from page `offset` on, as many as
    /// `pages`, in order: page 0 is the meta-page, [`crate::meta`] says what comes after it. `offset` is a multiple of a sub-buffer's pages;
    /// the last sub-buffer may be mapped in part.
    ///
    /// Whoever maps them lets nobody write to them, nor execute them, and calls [`unmap`](Self::unmap) once for each success, after they are gone from the
    /// address space. They are the buffer's, and stay so.
    ///
    /// # Errors
    ///
    /// [`TraceError::MapRange`], [`TraceError::NoMemory`], [`TraceError::Retired`]; [`TraceError::Busy`] if the buffer is being
    /// changed, or is mapped too often. Then nothing has changed.
    pub fn map(&self, offset: u64, pages: u64) -> Result<Vec<u64>, TraceError> {
        let (count, order, mapped) =
            self.locked(|reader, ring| (ring.pages.len(), ring.order, reader.mapping.is_some()));
        if count == 0 {
            return Err(TraceError::Retired);
        }
        check(offset, pages, count, order)?;
        let mut list = reserved(usize::try_from(pages).map_err(|_| TraceError::NoMemory)?)?;
        // Memory is asked for outside of the lock.
        let mut fresh = match mapped {
            true => None,
            false => Some(Mapping::new(&self.platform, count, order)?),
        };
        let result = self.locked(|reader, ring| {
            if ring.pages.len() != count || ring.order != order {
                return Err(TraceError::Busy);
            }
            if reader.mapping.is_none() {
                let mut mapping = fresh.take().ok_or(TraceError::Busy)?;
                let head = match self.find_head(reader, ring) {
                    Some((head, _)) => head,
                    // A writer keeps moving it: any place in the ring will do to begin with.
                    None => ring.next(reader.page),
                };
                mapping.number(reader.page, head, ring);
                reader.mapping = Some(mapping);
            }
            let mapping = reader.mapping.as_mut().ok_or(TraceError::Busy)?;
            mapping.count = mapping.count.checked_add(1).ok_or(TraceError::Busy)?;
            let places = (offset..offset + pages).filter_map(|index| mapping.place(index, order));
            list.extend(places);
            self.refresh(reader, ring);
            Ok(())
        });
        // It was not needed.
        if let Some(fresh) = fresh {
            fresh.free(&self.platform);
        }
        result?;
        Ok(list)
    }

    /// Ends one mapping; the last one's end undoes all that the first one's beginning did. Does nothing to a ring that is not
    /// mapped.
    pub fn unmap(&self) {
        let last = self.locked(|reader, ring| {
            let mapping = reader.mapping.as_mut()?;
            mapping.count -= 1;
            if mapping.count > 0 {
                return None;
            }
            take_flags(reader, ring);
            reader.mapping.take()
        });
        if let Some(mapping) = last {
            mapping.free(&self.platform);
        }
    }

    /// How often the ring is mapped.
    pub fn mapped(&self) -> u32 {
        self.locked(|reader, _| reader.mapping.as_ref().map_or(0, |mapping| mapping.count))
    }

    /// [`GET_READER`](crate::meta::GET_READER): shows what comes next, and counts it as read. That is what has come to the reader page since the last call, or,
    /// where nothing has, the oldest page. Where there is nothing, the meta-page alone is refreshed.
    ///
    /// # Errors
    ///
    /// [`TraceError::NotMapped`].
    pub fn get_reader(&self) -> Result<(), TraceError> {
        self.locked(|reader, ring| {
            if reader.mapping.is_none() {
                return Err(TraceError::NotMapped);
            }
            // A page with nothing but padding is nothing to show; what was lost before it is told with the next one.
            while self.fill_reader_page(reader, ring) {
                // First where the commit page is, then the reader page's bytes: if the writer has left the page, they are final.
                let written_to = ring.commit.load(Ordering::Acquire) == reader.page;
                let rest = self.consume_rest(reader, ring);
                if rest.events > 0 {
                    show(reader, ring, rest, written_to);
                    break;
                }
            }
            self.refresh(reader, ring);
            Ok(())
        })
    }

    /// [`REFRESH_META`](crate::meta::REFRESH_META): the meta-page tells how things are now. Nothing is taken.
    ///
    /// # Errors
    ///
    /// [`TraceError::NotMapped`].
    pub fn refresh_meta(&self) -> Result<(), TraceError> {
        self.locked(|reader, ring| {
            if reader.mapping.is_none() {
                return Err(TraceError::NotMapped);
            }
            self.refresh(reader, ring);
            Ok(())
        })
    }

    /// For tests, where a mapping cannot be had: what a process would see in the sub-buffer with the number `id`, its time stamp and its first
    /// `len` bytes of data. Nothing that a writer knows of orders this after anything.
    #[cfg(feature = "sim")]
    pub fn look_in_place(&self, id: u32, len: usize) -> Option<(u64, Vec<u8>)> {
        self.locked(|reader, ring| {
            let ids = &reader.mapping.as_ref()?.ids;
            let buf = &ring.pages[ids.iter().position(|at| *at == id)?].buf;
            let mut data = alloc::vec![0; len.min(ring.room.bytes())];
            buf.copy_data(ring.room, data.len(), &mut data);
            Some((buf.time_stamp().load(Ordering::Relaxed), data))
        })
    }

    /// Makes the meta-page tell how things are now; does nothing to a ring that is not mapped. Under the reader lock.
    pub(super) fn refresh(&self, reader: &Reader, ring: &Ring) {
        let Some(mapping) = &reader.mapping else {
            return;
        };
        let size = subbuf::bytes(ring.order) as u32;
        // Whatever is counted as lost or read was counted as committed before.
        let overrun = self.lost(reader);
        // Emptied to be given back, while a writer moved the head away again and again: it is the reader page still, of no events.
        let emptied = ring
            .pages
            .get(reader.page)
            .is_none_or(|page| page.buf.commit() < reader.read);
        let shown = mapping.shown == Some(reader.pages_read) && !emptied;
        mapping.page.store(&Meta {
            meta_page_size: size,
            meta_struct_len: META_LEN as u32,
            subbuf_size: size,
            nr_subbufs: ring.pages.len() as u32,
            reader: MetaReader {
                lost_events: match mapping.lost {
                    Missed::Count(n) if shown => n,
                    Missed::Unknown if shown => LOST_UNKNOWN,
                    _ => 0,
                },
                id: mapping.ids.get(reader.page).copied().unwrap_or(0),
                read: if emptied { 0 } else { reader.read as u32 },
            },
            flags: 0,
            overrun,
            read: reader.read_events,
            entries: self.committed.get(),
            pages_lost: self.pages_lost.get(),
            pages_touched: self.pages_touched.get(),
        });
    }
}

/// Tells of the losses before the reader page, if it is shown for the first time. `rest` is what there is to see of it; `written_to`
/// says that there may be more at any time.
fn show(reader: &mut Reader, ring: &Ring, rest: Rest, written_to: bool) {
    let Some(mapping) = &mut reader.mapping else {
        return;
    };
    if mapping.shown == Some(reader.pages_read) {
        // What was lost since then is before the next page for who sees whole pages.
        reader.lost = rest.lost.plus(reader.lost);
        return;
    }
    mapping.shown = Some(reader.pages_read);
    mapping.lost = rest.lost;
    if mapping.lost == Missed::None || written_to || rest.from > 0 {
        return;
    }
    // Nobody writes to the page any more, nor reads beyond its last event.
    let buf = &ring.pages[reader.page].buf;
    let mut commit = rest.end as u64 | MISSED_EVENTS;
    if let Missed::Count(n) = mapping.lost
        && let Some(place) = buf.words(ring.room)[rest.end / 4..].get(..page::MISSED_SIZE / 4)
    {
        for (word, bytes) in place.iter().zip(n.to_ne_bytes().as_chunks::<4>().0) {
            word.store(u32::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        commit |= MISSED_STORED;
    }
    buf.commit_word().store(commit, Ordering::Release);
    reader.read = rest.end;
}

/// Takes the bits for losses out of the reader page's commit word, if it has any.
pub(super) fn take_flags(reader: &Reader, ring: &Ring) {
    let Some(page) = ring.pages.get(reader.page) else {
        return;
    };
    let word = page.buf.commit_word();
    let commit = word.load(Ordering::Acquire);
    // Only a page that no writer comes to has some.
    if commit & !COMMIT_MASK != 0 {
        word.store(commit & COMMIT_MASK, Ordering::Release);
    }
}
