//! The physical frame allocator: a binary buddy over bitmaps.
//!
//! One bit a block and order says "free as a whole at this order"; a second, 64 times smaller bitmap says which words
//! of the first are not zero, so that the lowest free block is found without a walk. The free pages themselves are
//! never touched: a fresh kernel does not have to write into memory that it does not know yet.
//!
//! Invariants:
//! 1. A free page is covered by exactly one set bit over all orders.
//! 2. Two free buddies of an order below [`MAX_ORDER`] are always one free block of the next order.
//! 3. `free` is the number of free pages.

use core::fmt;

/// The largest block is `1 << MAX_ORDER` pages: 4 MiB.
pub const MAX_ORDER: u32 = 10;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// A call that would break the allocator's book-keeping; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuddyError {
    /// The block lies beyond the memory that the allocator knows, or is not aligned to its size.
    BadBlock {
        /// First page frame number.
        pfn: u64,
        /// log2 of its size in pages.
        order: u32,
    },
    /// A page of the block is free already.
    DoubleFree {
        /// First page frame number.
        pfn: u64,
        /// log2 of its size in pages.
        order: u32,
    },
}

impl fmt::Display for BuddyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuddyError::BadBlock { pfn, order } => {
                write!(
                    f,
                    "page frame {pfn:#x} (order {order}) is no block of this machine's memory; nothing was freed"
                )
            }
            BuddyError::DoubleFree { pfn, order } => {
                write!(
                    f,
                    "page frame {pfn:#x} (order {order}) is free already; it was not freed again"
                )
            }
        }
    }
}

impl core::error::Error for BuddyError {}

/// Number of `u64` words that [`Buddy::new`] needs to manage `pages` page frames.
pub const fn words_needed(pages: u64) -> usize {
    let mut total = 0;
    let mut order = 0;
    while order < ORDERS {
        let words = level_words(pages, order as u32);
        total += words + words.div_ceil(64);
        order += 1;
    }
    total
}

const fn level_words(pages: u64, order: u32) -> usize {
    // One block more than whole ones fit, so that the last, partial block has a bit that is never set.
    (pages >> order).div_ceil(64) as usize + 1
}

/// The allocator. `'static` slices in the kernel, any slices in tests.
#[derive(Debug)]
pub struct Buddy<'a> {
    levels: [Level<'a>; ORDERS],
    pages: u64,
    free: u64,
}

#[derive(Debug)]
struct Level<'a> {
    bits: &'a mut [u64],
    summary: &'a mut [u64],
    blocks: u64,
}

impl Level<'_> {
    fn get(&self, block: u64) -> bool {
        self.bits
            .get((block / 64) as usize)
            .is_some_and(|w| w >> (block % 64) & 1 == 1)
    }

    fn set(&mut self, block: u64) {
        let word = (block / 64) as usize;
        self.bits[word] |= 1 << (block % 64);
        self.summary[word / 64] |= 1 << (word % 64);
        self.blocks += 1;
    }

    fn clear(&mut self, block: u64) {
        let word = (block / 64) as usize;
        self.bits[word] &= !(1 << (block % 64));
        if self.bits[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.blocks -= 1;
    }

    fn lowest(&self) -> Option<u64> {
        let (at, word) = self.summary.iter().enumerate().find(|(_, w)| **w != 0)?;
        let word_at = at * 64 + word.trailing_zeros() as usize;
        Some(word_at as u64 * 64 + self.bits[word_at].trailing_zeros() as u64)
    }
}

impl<'a> Buddy<'a> {
    /// An allocator of `pages` page frames from frame 0 on, all taken. `memory` is its book-keeping, at least
    /// [`words_needed`]`(pages)` words (it panics with fewer), and is cleared.
    pub fn new(pages: u64, memory: &'a mut [u64]) -> Self {
        memory.fill(0);
        let mut rest = memory;
        let levels = core::array::from_fn(|order| {
            let words = level_words(pages, order as u32);
            let (bits, tail) = core::mem::take(&mut rest).split_at_mut(words);
            let (summary, tail) = tail.split_at_mut(words.div_ceil(64));
            rest = tail;
            Level {
                bits,
                summary,
                blocks: 0,
            }
        });
        Buddy {
            levels,
            pages,
            free: 0,
        }
    }

    /// Number of free pages.
    pub fn free_pages(&self) -> u64 {
        self.free
    }

    /// Number of free blocks of each order, as `/proc/buddyinfo` shows them.
    pub fn free_blocks(&self) -> [u64; ORDERS] {
        core::array::from_fn(|order| self.levels[order].blocks)
    }

    /// Takes the lowest free block of `1 << order` pages; its first page frame number, or `None` where there is none
    /// (also for an order above [`MAX_ORDER`]).
    pub fn alloc(&mut self, order: u32) -> Option<u64> {
        let found = (order..=MAX_ORDER).find(|o| self.levels[*o as usize].blocks > 0)?;
        let mut block = self.levels[found as usize].lowest()?;
        self.levels[found as usize].clear(block);
        for o in (order..found).rev() {
            block *= 2;
            self.levels[o as usize].set(block + 1);
        }
        self.free -= 1 << order;
        Some(block << order)
    }

    /// Gives a block back.
    ///
    /// # Errors
    /// [`BuddyError`] where the block is not one, or is (partly) free already; then nothing has changed.
    pub fn free(&mut self, pfn: u64, order: u32) -> Result<(), BuddyError> {
        if order > MAX_ORDER
            || pfn & ((1 << order) - 1) != 0
            || pfn.checked_add(1 << order).is_none_or(|e| e > self.pages)
        {
            return Err(BuddyError::BadBlock { pfn, order });
        }
        if self.overlaps_free(pfn, order) {
            return Err(BuddyError::DoubleFree { pfn, order });
        }
        self.free += 1 << order;
        let mut block = pfn >> order;
        let mut o = order;
        while o < MAX_ORDER && self.levels[o as usize].get(block ^ 1) {
            self.levels[o as usize].clear(block ^ 1);
            block /= 2;
            o += 1;
        }
        self.levels[o as usize].set(block);
        Ok(())
    }

    /// Gives all pages of a range of frames back, in the largest blocks that fit.
    ///
    /// # Errors
    /// As [`free`](Buddy::free); blocks before the bad one have been freed then.
    pub fn free_range(&mut self, start: u64, end: u64) -> Result<(), BuddyError> {
        let mut at = start;
        while at < end {
            let order = at
                .trailing_zeros()
                .min(63 - (end - at).leading_zeros())
                .min(MAX_ORDER);
            self.free(at, order)?;
            at += 1 << order;
        }
        Ok(())
    }

    /// Whether the page frame is free.
    pub fn is_free(&self, pfn: u64) -> bool {
        pfn < self.pages && (0..=MAX_ORDER).any(|o| self.levels[o as usize].get(pfn >> o))
    }

    fn overlaps_free(&self, pfn: u64, order: u32) -> bool {
        let above = (order..=MAX_ORDER).any(|o| self.levels[o as usize].get(pfn >> o));
        let below = (0..order).any(|o| {
            let (first, count) = (pfn >> o, 1u64 << (order - o));
            if count >= 64 {
                // Both are multiples of 64: whole words.
                let words = (first / 64) as usize..((first + count) / 64) as usize;
                self.levels[o as usize].bits[words].iter().any(|w| *w != 0)
            } else {
                (first..first + count).any(|b| self.levels[o as usize].get(b))
            }
        });
        above || below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn splits_and_merges() {
        let mut memory = vec![0; words_needed(2048)];
        let mut buddy = Buddy::new(2048, &mut memory);
        assert_eq!(buddy.alloc(0), None);
        buddy.free_range(3, 2048).unwrap();
        assert_eq!(buddy.free_pages(), 2045);
        assert_eq!(buddy.alloc(0), Some(3));
        assert_eq!(buddy.alloc(MAX_ORDER), Some(1024));
        assert_eq!(buddy.alloc(MAX_ORDER), None);
        assert_eq!(buddy.alloc(MAX_ORDER + 1), None);
        buddy.free(1024, MAX_ORDER).unwrap();
        buddy.free(3, 0).unwrap();
        assert_eq!(
            buddy.free(3, 0),
            Err(BuddyError::DoubleFree { pfn: 3, order: 0 })
        );
        assert_eq!(
            buddy.free(1024, 3),
            Err(BuddyError::DoubleFree {
                pfn: 1024,
                order: 3
            })
        );
        assert_eq!(
            buddy.free(0, 2),
            Err(BuddyError::DoubleFree { pfn: 0, order: 2 })
        );
        assert_eq!(
            buddy.free(1, 1),
            Err(BuddyError::BadBlock { pfn: 1, order: 1 })
        );
        assert_eq!(
            buddy.free(2048, 0),
            Err(BuddyError::BadBlock {
                pfn: 2048,
                order: 0
            })
        );
        assert_eq!(
            buddy.free(u64::MAX, 0),
            Err(BuddyError::BadBlock {
                pfn: u64::MAX,
                order: 0
            })
        );
        assert_eq!(buddy.free_pages(), 2045);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_pages(pages in 1u64..3000, ops in proptest::collection::vec((any::<bool>(), 0u32..12, any::<u64>()), 1..200)) {
            let mut memory = vec![0; words_needed(pages)];
            let mut buddy = Buddy::new(pages, &mut memory);
            buddy.free_range(0, pages).unwrap();
            let mut taken: Vec<(u64, u32)> = Vec::new();
            let mut model: BTreeSet<u64> = (0..pages).collect();
            for (take, order, pick) in ops {
                if take {
                    if let Some(pfn) = buddy.alloc(order) {
                        prop_assert_eq!(pfn % (1 << order), 0);
                        for p in pfn..pfn + (1 << order) {
                            prop_assert!(model.remove(&p));
                        }
                        taken.push((pfn, order));
                    } else if order <= MAX_ORDER {
                        // None means: no aligned block of that size is wholly free.
                        let whole = (0..pages >> order).any(|b| (b << order..(b + 1) << order).all(|p| model.contains(&p)));
                        prop_assert!(!whole);
                    }
                } else if !taken.is_empty() {
                    let (pfn, order) = taken.swap_remove((pick % taken.len() as u64) as usize);
                    buddy.free(pfn, order).unwrap();
                    model.extend(pfn..pfn + (1 << order));
                }
                prop_assert_eq!(buddy.free_pages(), model.len() as u64);
            }
            for p in 0..pages {
                prop_assert_eq!(buddy.is_free(p), model.contains(&p));
            }
        }
    }
}
