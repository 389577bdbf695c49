//! Keys of the tree: which bit stands for which block, and what it adds to the digest.

use super::node::SLOTS;
use crate::mem::PAGE_SHIFT;
use crate::page::{MAX_ORDER, MAX_PHYS, PageRef};
use crate::range::PhysRange;

/// The place of the order bit of a block of order 0 (`KHO_ORDER_0_LOG2`).
pub(super) const ORDER_0_BIT: u32 = 64 - PAGE_SHIFT;
/// log2 of the bits in a leaf.
pub(super) const LEAF_BITS: u32 = 15;
/// log2 of the slots in an inner node.
pub(super) const SLOT_BITS: u32 = 9;
/// The root's level; leaves are level 0.
pub(super) const ROOT_LEVEL: u32 = 5;

/// The key of a block. Valid blocks only (see [`PageRef::check`]).
pub(super) const fn encode(block: PageRef) -> u64 {
    let order = block.order as u32;
    1 << (ORDER_0_BIT - order) | block.pa >> (PAGE_SHIFT + order)
}

/// The block of a key; `None` where no block that may be preserved has that key.
pub(super) fn decode(key: u64) -> Option<PageRef> {
    let order = order_of(key)?;
    let order_bit = ORDER_0_BIT - u32::from(order);
    // At most 52 - order bits are left, so nothing is shifted out, and the block is aligned; but it may lie too high.
    let pa = (key ^ (1 << order_bit)) << (PAGE_SHIFT + u32::from(order));
    (pa < MAX_PHYS).then_some(PageRef { pa, order })
}

/// The order of the blocks whose keys are like this one; `None` for a key that no block can have.
pub(super) fn order_of(key: u64) -> Option<u8> {
    let order = ORDER_0_BIT.wrapping_sub(key.checked_ilog2()?);
    (order <= u32::from(MAX_ORDER)).then_some(order as u8)
}

/// Which slot of a node at `level` (1..=5) leads to `key`.
pub(super) const fn slot(key: u64, level: u32) -> usize {
    (key >> (LEAF_BITS + SLOT_BITS * (level - 1))) as usize % SLOTS
}

/// Word and mask of `key` in its leaf.
pub(super) const fn bit(key: u64) -> (usize, u64) {
    let bit = key % (1 << LEAF_BITS);
    // Rotated, not shifted: so the digest's product stays one multiplication, and is not taken apart into eight instructions.
    ((bit / 64) as usize, 1_u64.rotate_left(bit as u32))
}

/// The number of a key's leaf among all that can be; never 0, since a block's key has its order bit far above the leaf's.
pub(super) const fn window(key: u64) -> u64 {
    key >> LEAF_BITS
}

/// The order of the blocks of a window and the memory that they cover; `None` for a window that no block can be in.
pub(super) fn covered(window: u64) -> Option<(u8, PhysRange)> {
    let first = decode(window << LEAF_BITS)?;
    let bytes = PhysRange::with_len(first.pa, first.size() << LEAF_BITS)?;
    Some((first.order, bytes))
}

/// The digest of a tree: of the pages that it is made of, and of the bits that are set in its leaves.
///
/// Each word of a leaf has a weight, an odd number that its place decides; the digest is the sum over all words of
/// weight times word, in 128 bits, so that no bit of it is lost. It is kept up to date with one multiplication a block, and
/// computed anew with one a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Digest {
    /// A node joins the tree.
    pub(super) fn add_node(&mut self, pa: u64) {
        self.0 = self.0.wrapping_add(u128::from(mix(!pa)));
    }

    /// A node leaves the tree.
    pub(super) fn remove_node(&mut self, pa: u64) {
        self.0 = self.0.wrapping_sub(u128::from(mix(!pa)));
    }

    /// These bits of the word that holds `key`'s are set; they were not.
    #[inline]
    pub(super) fn set(&mut self, key: u64, bits: u64) {
        let sum = u128::from(weight(key)) * u128::from(bits);
        self.0 = self.0.wrapping_add(sum);
    }

    /// These bits of the word that holds `key`'s are cleared; they were set.
    #[inline]
    pub(super) fn clear(&mut self, key: u64, bits: u64) {
        let sum = u128::from(weight(key)) * u128::from(bits);
        self.0 = self.0.wrapping_sub(sum);
    }

    /// The digest in 64 bits; never 0.
    pub(super) fn value(self) -> u64 {
        (mix(self.0 as u64) ^ mix(!(self.0 >> 64) as u64)).max(1)
    }
}

/// The weight of the word that holds `key`'s bit; odd. One-to-one but for that, and no sum of keys gives a sum of weights: two words
/// or two leaves that change places are found. As short as that can be, for it is a good part of what a block costs.
#[inline]
const fn weight(key: u64) -> u64 {
    let x = (key / 64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb) | 1
}

/// Spreads every bit over the whole number, and is one-to-one (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
