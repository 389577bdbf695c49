//! Many blocks at once, new ones, and the way back: what a successor takes out of the map is its own.

use super::PreservedMap;
use super::key::{encode, window};
use super::orders;
use crate::error::Error;
use crate::mem::{Memory, PAGE_SHIFT, PAGE_SIZE};
use crate::page::{MAX_ORDER, PageRef};
use crate::range::{self, PhysRange};

impl<M: Memory> PreservedMap<M> {
    /// Allocates a block and preserves it. Its content is undefined.
    ///
    /// # Errors
    ///
    /// [`Error::BlockOrder`]; [`Error::NoPages`] where there is no such block; those of
    /// [`preserve`](PreservedMap::preserve), and the block is given back then.
    pub fn alloc_preserved(&mut self, order: u8) -> Result<PageRef, Error> {
        let size = PageRef { pa: 0, order };
        size.check()?;
        let pa = self
            .memory()
            .alloc_pages(u32::from(order))
            .ok_or(Error::NoPages { order })?;
        let block = PageRef { pa, order };
        self.preserve(block).inspect_err(|_| {
            // SAFETY: allocated above, with this order, and used by nobody.
            unsafe { self.memory().free_pages(pa, u32::from(order)) }
        })?;
        Ok(block)
    }

    /// Takes a block out of the map, and frees it.
    ///
    /// # Errors
    ///
    /// Those of [`unpreserve`](PreservedMap::unpreserve); nothing is freed then.
    ///
    /// # Safety
    ///
    /// Nobody uses the block any more.
    pub unsafe fn free_preserved(&mut self, block: PageRef) -> Result<(), Error> {
        self.unpreserve(block)?;
        // SAFETY: the caller's promise; the block was preserved, so it was allocated once, by this kernel or one before.
        unsafe { self.memory().free_pages(block.pa, u32::from(block.order)) };
        Ok(())
    }

    /// Preserves all of `range` in blocks of this one order, of which each can be restored by itself: all of it, or nothing
    /// where it fails. Much faster than one by one; [`preserve_range`](PreservedMap::preserve_range) takes fewer blocks.
    ///
    /// # Errors
    ///
    /// [`Error::RangeBackward`]; [`Error::BlockOrder`], [`Error::BlockUnaligned`] (an end that is not at the end of a block),
    /// [`Error::BlockTooHigh`]; those of [`preserve`](PreservedMap::preserve).
    pub fn preserve_blocks(&mut self, range: PhysRange, order: u8) -> Result<(), Error> {
        let Some((first, count)) = keys_of(range, order)? else {
            return Ok(());
        };
        self.may_lie_within(range, order)?;
        if let Some(by) = self.any_block_in(range) {
            let pa = by.pa.max(range.start) & !(size_of_order(order) - 1);
            return Err(Error::AlreadyPreserved {
                block: PageRef { pa, order },
                by,
            });
        }
        self.make_leaves(first, count)?;
        self.fill(range, order, true);
        Ok(())
    }

    /// Takes a block back, exactly as the predecessor preserved it: from here on it is the caller's, and the map knows
    /// nothing of it. A second time it is refused.
    ///
    /// # Errors
    ///
    /// Those of [`PageRef::check`]; [`Error::NotRam`] and [`Error::InScratch`] for what never can be preserved;
    /// [`Error::NotPreserved`] for what never was or has been restored; [`Error::OtherBlock`] for another order.
    #[inline]
    pub fn restore(&mut self, block: PageRef) -> Result<PageRef, Error> {
        block.check()?;
        match self.remove(block) {
            true => Ok(block),
            false => Err(self.not_restored(block)),
        }
    }

    /// Whether [`restore`](PreservedMap::restore) would take this block back.
    ///
    /// # Errors
    ///
    /// Those of [`restore`](PreservedMap::restore).
    pub fn is_preserved_as(&self, block: PageRef) -> Result<(), Error> {
        block.check()?;
        match self.block_at(block.pa) == Some(block) {
            true => Ok(()),
            false => Err(self.not_restored(block)),
        }
    }

    #[cold]
    fn not_restored(&self, block: PageRef) -> Error {
        match self.may_lie_in(block) {
            Err(error @ (Error::NotRam { .. } | Error::InScratch { .. })) => error,
            _ => self.not_this_one(block),
        }
    }

    /// Takes a range back, in whatever blocks it was preserved: all of it, or nothing where it fails.
    ///
    /// The map holds blocks, not the ranges that they once made up. A range with an end inside a block is refused; one that is
    /// shorter than what was preserved, and ends where a block does, takes its part back, and the rest stays preserved:
    /// [`block_at`](PreservedMap::block_at) says so of the page after it, [`for_each_range`](PreservedMap::for_each_range)
    /// lists all that is left, and [`Claims::discard`](crate::claims::Claims::discard) names what nobody has claimed
    /// and gives it back. Whoever has to know that nothing is left keeps the length in a state of its own.
    ///
    /// # Errors
    ///
    /// [`Error::RangeBackward`], [`Error::RangeUnaligned`], [`Error::NotPreserved`] (a page that is not, so also a range that
    /// is too long), [`Error::CutsBlock`] (an end inside a block).
    pub fn restore_range(&mut self, range: PhysRange) -> Result<PhysRange, Error> {
        self.unpreserve_range(range)?;
        Ok(range)
    }

    /// Takes a range back that was preserved in blocks of this one order: all of it, or nothing where it fails. The way
    /// back from [`preserve_blocks`](PreservedMap::preserve_blocks), and as fast. Fewer blocks than were preserved are no
    /// error: the others stay, as with [`restore_range`](PreservedMap::restore_range).
    ///
    /// # Errors
    ///
    /// [`Error::RangeBackward`]; [`Error::BlockOrder`], [`Error::BlockUnaligned`], [`Error::BlockTooHigh`];
    /// [`Error::NotPreserved`]; [`Error::OtherBlock`].
    pub fn restore_blocks(&mut self, range: PhysRange, order: u8) -> Result<PhysRange, Error> {
        let Some((first, count)) = keys_of(range, order)? else {
            return Ok(range);
        };
        if let Some(asked) = self.first_other(first, count, true) {
            return Err(match self.block_at(asked.pa) {
                Some(found) => Error::OtherBlock { asked, found },
                None => Error::NotPreserved { pa: asked.pa },
            });
        }
        self.fill(range, order, false);
        self.prune_leaves(first, count);
        Ok(range)
    }

    /// Takes everything back that is left: `f` gets each block, in the order of
    /// [`for_each_block`](PreservedMap::for_each_block), and the map is empty after it.
    pub fn restore_all(&mut self, f: impl FnMut(PageRef)) {
        self.drain(f);
    }

    /// Calls `f` with the preserved memory as ranges: blocks of one order that lie side by side are one. By descending
    /// order, ascending within.
    pub fn for_each_range(&self, mut f: impl FnMut(PhysRange)) {
        let mut run = PhysRange::default();
        self.for_each_run(|part| {
            if run.end == part.start && !run.is_empty() {
                run.end = part.end;
            } else {
                if !run.is_empty() {
                    f(run);
                }
                run = part;
            }
        });
        if !run.is_empty() {
            f(run);
        }
    }

    /// Calls `f` with each run of set bits within a word.
    fn for_each_run(&self, mut f: impl FnMut(PhysRange)) {
        self.for_each_word(&mut |key, mut bits| {
            let Some(first) = super::key::decode(key | u64::from(bits.trailing_zeros())) else {
                return;
            };
            let shift = PAGE_SHIFT + u32::from(first.order);
            // The place of the word's bit 0; it may lie below a block that can be, but its bit is not set then.
            let base = first.pa - (u64::from(bits.trailing_zeros()) << shift);
            while bits != 0 {
                let from = bits.trailing_zeros();
                let len = (bits >> from).trailing_ones();
                let start = base + (u64::from(from) << shift);
                f(PhysRange::new(start, start + (u64::from(len) << shift)));
                bits = match from + len {
                    64 => 0,
                    to => bits >> to << to,
                };
            }
        });
    }

    /// Every reason against the place of blocks of one order that fill a range.
    fn may_lie_within(&self, range: PhysRange, order: u8) -> Result<(), Error> {
        let size = size_of_order(order);
        let block_of = |pa: u64| PageRef {
            pa: pa.max(range.start) & !(size - 1),
            order,
        };
        if self
            .memory()
            .ptr(range.start, range.len() as usize)
            .is_none()
        {
            // Or the range goes over from one piece of RAM to the next.
            let mut pa = range.start;
            while pa < range.end {
                if self.memory().ptr(pa, size as usize).is_none() {
                    return Err(Error::NotRam {
                        block: block_of(pa),
                    });
                }
                pa += size;
            }
        }
        if let Some(scratch) = range::find_overlap(&self.forbidden, &range) {
            let block = block_of(scratch.start);
            return Err(Error::InScratch { block, scratch });
        }
        let after = self.nodes.partition_point(|&node| node < range.start);
        match self.nodes.get(after).filter(|&&n| range.contains(n)) {
            Some(&node) => Err(Error::HoldsTreePage {
                block: block_of(node),
                node,
            }),
            None => Ok(()),
        }
    }

    /// A preserved block of any order that shares a page with the range.
    fn any_block_in(&self, range: PhysRange) -> Option<PageRef> {
        orders(self.in_use).find_map(|order| {
            let size = size_of_order(order);
            let start = range.start & !(size - 1);
            let count = (range.end - start).div_ceil(size);
            self.first_other(encode(PageRef { pa: start, order }), count, false)
        })
    }
}

const fn size_of_order(order: u8) -> u64 {
    PAGE_SIZE << order
}

/// The first key of the blocks of one order that fill a range, and how many they are; `None` for none.
fn keys_of(range: PhysRange, order: u8) -> Result<Option<(u64, u64)>, Error> {
    range.check_forward()?;
    if range.is_empty() {
        return Ok(None);
    }
    let first = PageRef::new(range.start, order)?;
    let count = range.len() / first.size();
    // The last one ends where the range does.
    PageRef::new(range.end - first.size().min(range.end), order)?;
    debug_assert!(order <= MAX_ORDER && window(encode(first)) != 0);
    Ok(Some((encode(first), count)))
}
