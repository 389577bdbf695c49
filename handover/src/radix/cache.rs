//! Leaves that were used lately, so that the next block beside the last one costs no walk from the root.
//!
//! A table with one place for each leaf, or nearly: scattered blocks find their leaf in one step as well. It is the running
//! kernel's own and is not handed over; where the heap has no room for it, the map works without.

use alloc::vec::Vec;

use super::key::window;
use super::node::Node;

/// Most places in the table (of 32 bytes): one for each leaf of 512 GiB in blocks of one page.
const MAX_PLACES: usize = 4096;
/// Bits of a tag that are the window's: `key >> 15` of keys below 2^53.
const WINDOW_BITS: u32 = 38;

/// What is known of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The window, and above it the stamp of the table at that time. 0: nothing.
    tag: u64,
    pub(super) leaf: Node,
    /// First of the tree's own pages in the memory that the leaf covers, as an index into the list of them.
    pub(super) nodes_from: u32,
    /// One past the last of them.
    pub(super) nodes_to: u32,
    /// Whether all memory that the leaf covers is RAM and off scratch.
    pub(super) plain: bool,
}

impl Seen {
    pub(super) fn new(leaf: Node, nodes: core::ops::Range<usize>, plain: bool) -> Self {
        Seen {
            tag: 0,
            leaf,
            nodes_from: nodes.start as u32,
            nodes_to: nodes.end as u32,
            plain,
        }
    }

    /// Whether a block of the leaf can be anywhere in what it covers.
    #[inline]
    pub(super) fn is_simple(&self) -> bool {
        self.plain && self.nodes_from == self.nodes_to
    }
}

/// The table. Empty where there is no heap for it.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// A power of two of places, or none.
    places: Vec<Option<Seen>>,
    stamp: u64,
}

impl Cache {
    fn tag(&self, key: u64) -> u64 {
        window(key) | self.stamp << WINDOW_BITS
    }

    /// What is known of `key`'s leaf.
    #[inline]
    pub(super) fn find(&self, key: u64) -> Option<&Seen> {
        let index = window(key) as usize & self.places.len().wrapping_sub(1);
        let seen = self.places.get(index)?.as_ref()?;
        (seen.tag == self.tag(key)).then_some(seen)
    }

    /// Keeps what is known of `key`'s leaf.
    pub(super) fn put(&mut self, key: u64, mut seen: Seen) {
        seen.tag = self.tag(key);
        let index = window(key) as usize & self.places.len().wrapping_sub(1);
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(seen);
        }
    }

    /// Forgets everything: a page joined the tree or left it. Makes room for `nodes` of them where that is too little.
    pub(super) fn forget(&mut self, nodes: usize) {
        self.stamp += 1;
        let wanted = (nodes * 2).next_power_of_two().min(MAX_PLACES);
        let more = wanted.saturating_sub(self.places.len());
        if more > 0 && self.places.try_reserve_exact(more).is_ok() {
            self.places.resize(wanted, None);
        }
        if self.stamp >> (64 - WINDOW_BITS) != 0 {
            self.places.fill(None);
            self.stamp = 0;
        }
    }
}
