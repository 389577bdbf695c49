//! A checksum for each page of a range.

use alloc::vec::Vec;

use super::{NO_HEAP, Seal, checksum};
use crate::error::{Error, SealFault};
use crate::mem::{Memory, PAGE_SIZE};
use crate::page::MAX_PHYS;
use crate::radix::PreservedMap;
use crate::range::PhysRange;
use crate::state::KState;

/// The seals of a range's pages: 4 bytes each, so that a damaged page is named, and each can be checked by itself, whenever
/// there is time.
///
/// It is declared state, which crosses as a field of its owner's; a stream has a checksum of its own. What a predecessor
/// says is held against what the owner knows by [`agrees`](PageSeals::agrees) before anything else is asked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
pub struct PageSeals {
    /// First byte of the range; need not be a page's.
    start: u64,
    /// Bytes.
    len: u64,
    /// CRC-32 of the part of the range in each page that it touches, by ascending address.
    crc32: Vec<u32>,
}

impl PageSeals {
    /// The seals of a range, of which no page is sealed yet.
    ///
    /// # Errors
    ///
    /// [`Error::SealList`] for an empty range, or one that cannot be; [`Error::NoHeap`].
    pub fn new(range: PhysRange) -> Result<Self, Error> {
        if range.is_empty() || range.end > MAX_PHYS {
            return Err(fault(SealFault::Range));
        }
        let mut seals = PageSeals {
            start: range.start,
            len: range.len(),
            crc32: Vec::new(),
        };
        let pages = seals.page_count() as usize;
        seals.crc32.try_reserve_exact(pages).map_err(|_| NO_HEAP)?;
        Ok(seals)
    }

    /// Seals the content that the next page has now; whether there was one left.
    ///
    /// # Errors
    ///
    /// [`Error::SealList`] where the page is not preserved, or cannot be reached; [`Error::NoHeap`].
    ///
    /// # Safety
    ///
    /// Nobody writes to the page meanwhile. (Who does so later breaks the seal, and no more.)
    pub unsafe fn seal_next<M: Memory>(&mut self, map: &PreservedMap<M>) -> Result<bool, Error> {
        let index = self.crc32.len() as u64;
        if index >= self.page_count() {
            return Ok(false);
        }
        // SAFETY: the caller's promise.
        let crc32 = unsafe { checksum(map, &self.part(index)) }?;
        self.crc32.try_reserve(1).map_err(|_| NO_HEAP)?;
        self.crc32.push(crc32);
        Ok(true)
    }

    /// Whether these are seals of just this range, one for each of its pages.
    ///
    /// # Errors
    ///
    /// [`Error::SealList`].
    pub fn agrees(&self, range: &PhysRange) -> Result<(), Error> {
        if range.is_empty() || range.end > MAX_PHYS {
            return Err(fault(SealFault::Range));
        }
        if (self.start, self.len) != (range.start, range.len()) {
            return Err(fault(SealFault::Range));
        }
        match self.crc32.len() as u64 == self.page_count() {
            true => Ok(()),
            false => Err(Error::SealList {
                size: self.crc32.len() * size_of::<u32>(),
                why: SealFault::Size,
            }),
        }
    }

    /// The seal of page `index` of the range, counted from 0; `None` behind the last.
    pub fn page(&self, index: usize) -> Option<Seal> {
        Some(Seal {
            crc32: *self.crc32.get(index)?,
            range: self.part(index as u64),
        })
    }

    /// Number of pages that are sealed.
    pub fn len(&self) -> usize {
        self.crc32.len()
    }

    /// Whether there is no seal.
    pub fn is_empty(&self) -> bool {
        self.crc32.is_empty()
    }

    fn page_count(&self) -> u64 {
        PhysRange::with_len(self.start, self.len)
            .map_or(0, |range| range.page_align_outwards().len() / PAGE_SIZE)
    }

    /// The part of the range in the page `index` pages behind the first one.
    fn part(&self, index: u64) -> PhysRange {
        let end = self.start.saturating_add(self.len);
        let page = (self.start & !(PAGE_SIZE - 1)).saturating_add(index.saturating_mul(PAGE_SIZE));
        let start = page.clamp(self.start, end);
        PhysRange::new(start, page.saturating_add(PAGE_SIZE).clamp(start, end))
    }
}

fn fault(why: SealFault) -> Error {
    Error::SealList { size: 0, why }
}
