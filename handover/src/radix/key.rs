//! Keys of the tree: which bit stands for which block, and what it adds to the digest.

use super::node::SLOTS;
use crate::mem::PAGE_SHIFT;
use crate::page::{MAX_ORDER, PageRef};
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
pub(super) const fn decode(key: u64) -> Option<PageRef> {
    let Some(order_bit) = key.checked_ilog2() else {
        return None;
    };
    if order_bit > ORDER_0_BIT || ORDER_0_BIT - order_bit > MAX_ORDER as u32 {
        return None;
    }
    let order = ORDER_0_BIT - order_bit;
    // At most 52 - order bits are left, so nothing is shifted out.
    let pa = (key ^ (1 << order_bit)) << (PAGE_SHIFT + order);
    let block = PageRef {
        pa,
        order: order as u8,
    };
    match block.check() {
        Ok(()) => Some(block),
        Err(_) => None,
    }
}

/// Which slot of a node at `level` (1..=5) leads to `key`.
pub(super) const fn slot(key: u64, level: u32) -> usize {
    (key >> (LEAF_BITS + SLOT_BITS * (level - 1))) as usize % SLOTS
}

/// Word and mask of `key` in its leaf.
pub(super) const fn bit(key: u64) -> (usize, u64) {
    let bit = key % (1 << LEAF_BITS);
    ((bit / 64) as usize, 1 << (bit % 64))
}

/// The number of a key's leaf among all that can be; never 0, since a block's key has its order bit far above the leaf's.
pub(super) const fn window(key: u64) -> u64 {
    key >> LEAF_BITS
}

/// The order of the blocks of a window and the memory that they cover; `None` for a window that no block can be in.
pub(super) fn covered(window: u64) -> Option<PhysRange> {
    let first = decode(window << LEAF_BITS)?;
    PhysRange::with_len(first.pa, first.size() << LEAF_BITS)
}

/// The digest of a tree: of the pages that it is made of, and of the bits that are set in its leaves.
///
/// Each word of a leaf has a weight, an odd number that its place decides; the digest is the sum over all words of
/// weight times word, in 128 bits, so that no bit of it is lost. Setting a bit adds the weight, shifted: the digest is kept
/// up to date with one addition a block, and computed anew with one multiplication a word.
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

    /// The word that begins with `key` has these bits; it had none.
    pub(super) fn add_word(&mut self, key: u64, bits: u64) {
        let sum = u128::from(weight(key)) * u128::from(bits);
        self.0 = self.0.wrapping_add(sum);
    }

    /// These bits of the word that begins with `key` are cleared.
    pub(super) fn remove_word(&mut self, key: u64, bits: u64) {
        let sum = u128::from(weight(key)) * u128::from(bits);
        self.0 = self.0.wrapping_sub(sum);
    }

    /// The bit of `key` is set; it was not.
    pub(super) fn set(&mut self, key: u64) {
        self.0 = self.0.wrapping_add(u128::from(weight(key)) << (key % 64));
    }

    /// The bit of `key` is cleared; it was set.
    pub(super) fn clear(&mut self, key: u64) {
        self.0 = self.0.wrapping_sub(u128::from(weight(key)) << (key % 64));
    }

    /// The digest in 64 bits; never 0.
    pub(super) fn value(self) -> u64 {
        (mix(self.0 as u64) ^ mix(!(self.0 >> 64) as u64)).max(1)
    }
}

/// The weight of the word that holds `key`'s bit; odd.
const fn weight(key: u64) -> u64 {
    mix(key | 63) | 1
}

/// Spreads every bit over the whole number, and is one-to-one (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
