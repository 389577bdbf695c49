//! Leaves that were used lately, so that the next block beside the last one costs no walk from the root.
//!
//! A table with one place for each leaf, or nearly: scattered blocks find their leaf in one step as well. It is the running
//! kernel's own and is not handed over; where the heap has no room for it, the map works without.

use alloc::vec::Vec;
use core::ops::Range;

use super::key::window;
use super::node::Node;

/// Most places in the table (of 32 bytes): one for each leaf of 512 GiB in blocks of one page.
const MAX_PLACES: usize = 4096;
/// Bits of a tag that are the window's: `key >> 15` of keys below 2^53.
const WINDOW_BITS: u32 = 38;
/// In a tag: a block of the leaf cannot be anywhere in what it covers. Below it, above the window, lies the table's stamp.
const IS_SPECIAL: u64 = 1 << 63;
/// The bits of the stamp.
const STAMP_BITS: u32 = 63 - WINDOW_BITS;

/// What is known of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The window, and the stamp of the table at that time; [`IS_SPECIAL`]. 0: nothing. All that has to be asked about most leaves
    /// is whether it is this number.
    tag: u64,
    leaf: Option<Node>,
    /// First of the tree's own pages in the memory that the leaf covers, as an index into the list of them.
    nodes_from: u32,
    /// One past the last of them.
    nodes_to: u32,
    /// Whether all memory that the leaf covers is RAM and off scratch.
    plain: bool,
}

impl Seen {
    const NOTHING: Seen = Seen {
        tag: 0,
        leaf: None,
        nodes_from: 0,
        nodes_to: 0,
        plain: false,
    };

    /// A leaf; the tree's own pages in the memory that it covers, by their place in the list of them; whether all of that is RAM and
    /// off scratch.
    pub(super) fn new(leaf: Node, nodes: Range<usize>, plain: bool) -> Self {
        let simple = plain && nodes.is_empty();
        Seen {
            tag: if simple { 0 } else { IS_SPECIAL },
            leaf: Some(leaf),
            nodes_from: nodes.start as u32,
            nodes_to: nodes.end as u32,
            plain,
        }
    }
}

/// The table. Empty where there is no heap for it.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// A power of two of places, or none.
    places: Vec<Seen>,
    /// At its place in a tag.
    stamp: u64,
}

impl Cache {
    fn place(&self, key: u64) -> usize {
        window(key) as usize & self.places.len().wrapping_sub(1)
    }

    fn tag(&self, key: u64) -> u64 {
        window(key) | self.stamp
    }

    /// `key`'s leaf, where it is known that its blocks can be anywhere in what it covers.
    #[inline]
    pub(super) fn simple(&self, key: u64) -> Option<Node> {
        let seen = self.places.get(self.place(key))?;
        match seen.tag == self.tag(key) {
            true => seen.leaf,
            false => None,
        }
    }

    /// `key`'s leaf, where it is known.
    #[inline]
    pub(super) fn leaf(&self, key: u64) -> Option<Node> {
        let seen = self.places.get(self.place(key))?;
        match seen.tag & !IS_SPECIAL == self.tag(key) {
            true => seen.leaf,
            false => None,
        }
    }

    /// `key`'s leaf, where it is known that all memory that it covers is RAM and off scratch; and which of the tree's own pages lie
    /// there.
    pub(super) fn plain(&self, key: u64) -> Option<(Node, Range<usize>)> {
        let seen = self.places.get(self.place(key))?;
        let is_it = seen.plain && seen.tag & !IS_SPECIAL == self.tag(key);
        let nodes = seen.nodes_from as usize..seen.nodes_to as usize;
        seen.leaf.filter(|_| is_it).map(|leaf| (leaf, nodes))
    }

    /// Keeps what is known of `key`'s leaf.
    pub(super) fn put(&mut self, key: u64, mut seen: Seen) {
        seen.tag |= self.tag(key);
        let index = self.place(key);
        if let Some(place) = self.places.get_mut(index) {
            *place = seen;
        }
    }

    /// Forgets everything: a page joined the tree or left it. Makes room for `nodes` of them where that is too little.
    pub(super) fn forget(&mut self, nodes: usize) {
        self.stamp += 1 << WINDOW_BITS;
        let wanted = (nodes * 2).next_power_of_two().min(MAX_PLACES);
        let more = wanted.saturating_sub(self.places.len());
        if more > 0 && self.places.try_reserve_exact(more).is_ok() {
            self.places.resize(wanted, Seen::NOTHING);
        }
        if self.stamp >> (WINDOW_BITS + STAMP_BITS) != 0 {
            self.places.fill(Seen::NOTHING);
            self.stamp = 0;
        }
    }
}
