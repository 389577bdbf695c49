//! A block of pages, by its physical address.

use core::fmt;

use crate::error::Error;
use crate::mem::{PAGE_SHIFT, PAGE_SIZE};
use crate::range::PhysRange;

/// The largest order of a block that may be preserved: 1 GiB. KHO's key could hold up to 52; a bound keeps the search
/// for overlaps short, and a range that is larger is simply several blocks.
pub const MAX_ORDER: u8 = 18;

/// One past the highest physical address of x86_64 (52 bits).
pub const MAX_PHYS: u64 = 1 << 52;

/// A block of `1 << order` page frames at physical address `pa`, aligned to its size.
///
/// The fields are public, so a value is not valid by itself; [`PageRef::new`] and [`PageRef::check`] are the gates,
/// and whatever is read from a stream has passed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// Physical address of the first byte.
    pub pa: u64,
    /// log2 of the number of pages.
    pub order: u8,
}

impl PageRef {
    /// The block at `pa`, checked.
    ///
    /// # Errors
    ///
    /// Those of [`PageRef::check`].
    pub const fn new(pa: u64, order: u8) -> Result<Self, Error> {
        let block = PageRef { pa, order };
        match block.check() {
            Ok(()) => Ok(block),
            Err(e) => Err(e),
        }
    }

    /// Whether the block is one that can be: order at most [`MAX_ORDER`], aligned to its size, below [`MAX_PHYS`].
    ///
    /// # Errors
    ///
    /// [`Error::BlockOrder`], [`Error::BlockUnaligned`], [`Error::BlockTooHigh`].
    pub const fn check(&self) -> Result<(), Error> {
        if self.order > MAX_ORDER {
            return Err(Error::BlockOrder { block: *self });
        }
        if !self.is_aligned() {
            return Err(Error::BlockUnaligned { block: *self });
        }
        // Aligned to its size and starting below the bound, which is a multiple of every size: it ends there at most.
        if self.pa >= MAX_PHYS {
            return Err(Error::BlockTooHigh { block: *self });
        }
        Ok(())
    }

    /// Whether the block's order is one that can be, and it is aligned to its size.
    #[inline]
    pub(crate) const fn is_aligned(&self) -> bool {
        // A mask, for a division by a size that the compiler does not know would cost more than all the rest.
        self.order <= MAX_ORDER && self.pa & ((PAGE_SIZE << self.order) - 1) == 0
    }

    /// Size in bytes; of the largest order where the order is out of range.
    pub const fn size(&self) -> u64 {
        let order = if self.order > MAX_ORDER {
            MAX_ORDER
        } else {
            self.order
        };
        1 << (PAGE_SHIFT + order as u32)
    }

    /// The bytes of the block.
    pub const fn range(&self) -> PhysRange {
        PhysRange::new(self.pa, self.pa.saturating_add(self.size()))
    }

    /// Number of pages.
    pub const fn pages(&self) -> u64 {
        self.size() / PAGE_SIZE
    }
}

/// `0x200000 (order 9)`.
impl fmt::Display for PageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} (order {})", self.pa, self.order)
    }
}

/// Splits a page-aligned range into the fewest aligned blocks, by ascending address.
#[derive(Clone, Debug)]
pub struct Blocks {
    rest: PhysRange,
}

impl Blocks {
    /// The blocks of `range`; of the whole pages in it where it is not page-aligned.
    pub fn of(range: PhysRange) -> Self {
        Blocks {
            rest: range.page_align_inwards(),
        }
    }
}

impl Iterator for Blocks {
    type Item = PageRef;

    fn next(&mut self) -> Option<PageRef> {
        if self.rest.is_empty() {
            return None;
        }
        let aligned_to = (self.rest.start >> PAGE_SHIFT).trailing_zeros();
        let fits = (self.rest.len() >> PAGE_SHIFT).ilog2();
        let order = aligned_to.min(fits).min(u32::from(MAX_ORDER)) as u8;
        let block = PageRef {
            pa: self.rest.start,
            order,
        };
        self.rest.start += block.size();
        Some(block)
    }
}
