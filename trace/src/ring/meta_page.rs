//! The memory of a mapped ring's meta-page, and of the zeroes behind it.

use crate::meta::Meta;
use crate::platform::Platform;
use crate::sync::fixed::AtomicU64;
use core::ptr::NonNull;
use handover::mem::PAGE_SIZE;

/// Words of a page.
const WORDS: usize = PAGE_SIZE as usize / 8;

/// One page for the meta-page; where sub-buffers are larger than a page, a second one that stays zero, and fills the mapping up to the
/// first sub-buffer. Not freed on drop, see [`MetaPage::free`].
pub(super) struct MetaPage {
    base: NonNull<u8>,
    pa: u64,
    order: u8,
}

// SAFETY: the block is owned by the mapping, reachable from every CPU, and accessed through atomics only.
unsafe impl Send for MetaPage {}

impl MetaPage {
    /// Zeroed pages for a ring with sub-buffers of `subbuf_order`; `None` where memory has run out.
    pub(super) fn alloc<P: Platform>(p: &P, subbuf_order: u8) -> Option<Self> {
        let order = u8::from(subbuf_order > 0);
        let pa = p.alloc_zeroed_pages(u32::from(order))?;
        let Some(base) = p.ptr(pa, (PAGE_SIZE as usize) << order) else {
            // SAFETY: the block was allocated just now, with this order, and nobody else knows of it.
            unsafe { p.free_pages(pa, u32::from(order)) };
            return None;
        };
        Some(MetaPage { base, pa, order })
    }

    /// The first `len` words of the block, which has that many.
    fn words(&self, len: usize) -> &[AtomicU64] {
        // SAFETY: `ptr` gave the whole block, which begins at a page's boundary; it is accessed through these atomics only,
        // and is owned as long as `self` lives.
        unsafe { core::slice::from_raw_parts(self.base.cast::<AtomicU64>().as_ptr(), len) }
    }

    /// Makes the meta-page say so.
    pub(super) fn store(&self, meta: &Meta) {
        meta.store(self.words(WORDS));
    }

    /// Physical address of the meta-page.
    pub(super) fn meta(&self) -> u64 {
        self.pa
    }

    /// Physical address of the page of zeroes; where there is none, that of the meta-page.
    pub(super) fn zeroes(&self) -> u64 {
        self.pa + PAGE_SIZE * u64::from(self.order)
    }

    /// Gives the block back to the machine.
    pub(super) fn free<P: Platform>(self, p: &P) {
        // SAFETY: the block was allocated with this order by `alloc`; `self` was the only handle to it. Whoever had it mapped has
        // unmapped it, see `CpuBuffer::unmap`.
        unsafe { p.free_pages(self.pa, u32::from(self.order)) };
    }
}
