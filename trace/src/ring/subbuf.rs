//! The memory of one sub-buffer. All unsafe access to page content is here.
//!
//! The writer may overwrite a page while a reader copies it; the reader finds out afterwards and throws the copy
//! away. So that this is no data race, both sides use relaxed atomic words, of one size for each place.

use super::home::Home;
use crate::page::COMMIT_MASK;
#[cfg(not(feature = "loom"))]
use crate::page::{self, HEADER_SIZE};
use crate::platform::Platform;
use crate::ramtrace::mark::Kind;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use core::ptr::NonNull;
use handover::mem::{Memory, PAGE_SIZE};
use handover::page::PageRef;

/// A sub-buffer: a block of pages that this buffer owns. Not freed on drop, see [`SubBuf::free`].
pub(crate) struct SubBuf {
    base: NonNull<u8>,
    pa: u64,
    #[cfg(feature = "loom")]
    model: Model,
}

/// What stands for the page's memory under the model checker, whose atomics are no plain words.
#[cfg(feature = "loom")]
struct Model {
    time_stamp: AtomicU64,
    commit: AtomicU64,
    words: alloc::boxed::Box<[AtomicU32]>,
}

/// Bytes of data of a page under the model checker: two events of a word, and a rest that is too small for any.
#[cfg(feature = "loom")]
const MODEL_ROOM: usize = 20;

// SAFETY: the block is owned by the buffer, reachable from every CPU, and accessed through atomics only.
unsafe impl Send for SubBuf {}
// SAFETY: as above.
unsafe impl Sync for SubBuf {}

/// Bytes of a sub-buffer of `order`.
pub(super) const fn bytes(order: u8) -> usize {
    (PAGE_SIZE as usize) << order
}

/// How much data a sub-buffer of some order has room for: worked out once.
#[derive(Clone, Copy)]
pub(crate) struct Room(usize);

impl Room {
    /// That of `order`.
    pub(crate) const fn of(order: u8) -> Self {
        #[cfg(feature = "loom")]
        let room = {
            let _ = order;
            MODEL_ROOM
        };
        #[cfg(not(feature = "loom"))]
        let room = page::data_size(bytes(order));
        Room(room)
    }

    /// In bytes.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> usize {
        self.0
    }
}

impl SubBuf {
    /// Allocates a block and makes it an empty page; `None` where memory has run out.
    pub(super) fn alloc<P: Platform>(p: &P, order: u8, home: Home) -> Option<Self> {
        if let Some(home) = home {
            // Its content is zero.
            let page = p
                .ramtrace()?
                .alloc(home.cpu(), home.buffer(), order, Kind::Events)?;
            let buf = Self::at(p, page);
            if buf.is_none() {
                p.ramtrace()?.free(page);
            }
            return buf;
        }
        // Readers in user space see all of the page (see `map`): nothing that was in it before may stay.
        let pa = p.alloc_zeroed_pages(u32::from(order))?;
        let page = PageRef { pa, order };
        let Some(buf) = Self::at(p, page) else {
            // SAFETY: the block was allocated just now, with this order, and nobody else knows of it.
            unsafe { p.free_pages(pa, u32::from(order)) };
            return None;
        };
        p.page_owned(page);
        Some(buf)
    }

    /// The block `page`, where it lies; `None` where it is not RAM or not aligned to its size.
    pub(crate) fn at<M: Memory>(p: &M, page: PageRef) -> Option<Self> {
        let len = bytes(page.order);
        if !page.pa.is_multiple_of(len as u64) {
            return None;
        }
        let base = p.ptr(page.pa, len)?;
        Some(SubBuf {
            base,
            pa: page.pa,
            #[cfg(feature = "loom")]
            model: Model {
                time_stamp: AtomicU64::new(0),
                commit: AtomicU64::new(0),
                words: (0..MODEL_ROOM / 4).map(|_| AtomicU32::new(0)).collect(),
            },
        })
    }

    /// Gives the block back to the machine.
    pub(super) fn free<P: Platform>(self, p: &P, order: u8) {
        if let Some(region) = p.ramtrace().filter(|region| region.owns(self.pa)) {
            region.free(self.page_ref(order));
            return;
        }
        p.page_released(PageRef { pa: self.pa, order });
        // SAFETY: the block was allocated by (or handed over to) this buffer with this order; `self` was the only handle
        // to it, and is gone now.
        unsafe { p.free_pages(self.pa, u32::from(order)) };
    }

    /// The block's name for the crossing.
    pub(super) fn page_ref(&self, order: u8) -> PageRef {
        PageRef { pa: self.pa, order }
    }

    /// Its physical address.
    #[inline(always)]
    pub(super) fn pa(&self) -> u64 {
        self.pa
    }

    /// Makes it an empty page. In this order: what is committed has its time, whenever one looks.
    pub(super) fn clear(&self) {
        self.commit_word().store(0, Ordering::Relaxed);
        self.time_stamp().store(0, Ordering::Release);
    }

    /// Copies the time stamp of `from` and its first `len` bytes of data, a multiple of 4.
    pub(super) fn copy_from(&self, from: &SubBuf, room: Room, len: usize) {
        let stamp = from.time_stamp().load(Ordering::Relaxed);
        self.time_stamp().store(stamp, Ordering::Relaxed);
        let words = self.words(room).iter().zip(from.words(room));
        for (to, from) in words.take(len.div_ceil(4)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The header's time stamp.
    #[inline(always)]
    #[cfg(not(feature = "loom"))]
    pub(crate) fn time_stamp(&self) -> &AtomicU64 {
        // SAFETY: the block is mapped and aligned to its size (`at`), so that its first 8 bytes are an aligned u64 that
        // lives as long as the block is owned; every access to them is by this atomic.
        unsafe { self.base.cast::<AtomicU64>().as_ref() }
    }

    /// The header's commit word.
    #[inline(always)]
    #[cfg(not(feature = "loom"))]
    pub(crate) fn commit_word(&self) -> &AtomicU64 {
        // SAFETY: as in `time_stamp`, for bytes 8..16.
        unsafe { self.base.cast::<AtomicU64>().add(1).as_ref() }
    }

    /// Committed bytes of data. What was written to them is visible after this.
    pub(super) fn commit(&self) -> usize {
        (self.commit_word().load(Ordering::Acquire) & COMMIT_MASK) as usize
    }

    /// The data words; `room` is that of the block's order.
    #[inline(always)]
    #[cfg(not(feature = "loom"))]
    pub(crate) fn words(&self, room: Room) -> &[AtomicU32] {
        // SAFETY: bytes HEADER_SIZE.. of the block are mapped (`at` had all of its length checked), aligned to 4,
        // and accessed through these atomics only; the block is owned as long as `self` lives.
        unsafe {
            core::slice::from_raw_parts(
                self.base.add(HEADER_SIZE).cast::<AtomicU32>().as_ptr(),
                room.bytes() / 4,
            )
        }
    }

    #[cfg(feature = "loom")]
    pub(crate) fn time_stamp(&self) -> &AtomicU64 {
        &self.model.time_stamp
    }

    #[cfg(feature = "loom")]
    pub(crate) fn commit_word(&self) -> &AtomicU64 {
        &self.model.commit
    }

    #[cfg(feature = "loom")]
    pub(crate) fn words(&self, room: Room) -> &[AtomicU32] {
        &self.model.words[..room.bytes() / 4]
    }

    /// Copies the first `len` bytes of data (a multiple of 4) to `out`.
    pub(crate) fn copy_data(&self, room: Room, len: usize, out: &mut [u8]) {
        for (word, bytes) in self.words(room)[..len / 4]
            .iter()
            .zip(out.chunks_exact_mut(4))
        {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
    }
}
