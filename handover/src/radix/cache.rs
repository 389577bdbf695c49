//! Where the leaves are, so that a block costs no walk from the root, wherever the last one was.
//!
//! A flat table for each order, from the first leaf to the last, or nearly. It is the running kernel's own and is not handed over;
//! what it does not know, or has no heap for, is found by the walk.

use alloc::vec::Vec;

use super::ORDERS;
use super::key::{encode, window};
use super::node::Node;
use crate::mem::PAGE_SIZE;
use crate::page::PageRef;

/// Most places in a table: the leaves of 2 TiB in blocks of one page.
const MAX_PLACES: u64 = 1 << 14;
/// Fewest: those of 1 GiB.
const MIN_PLACES: u64 = 8;

/// What the memory that a leaf covers is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Around {
    /// Some of it is no RAM, or scratch.
    Mixed,
    /// All of it is RAM and off scratch, but there are pages of the tree in it.
    Plain,
    /// Blocks can be anywhere in it.
    Simple,
}

/// The leaves of one order, by their [`window`].
#[derive(Debug, Default)]
struct Table {
    /// The window of the first place; a multiple of the number of places, which is a power of two or 0.
    first: u64,
    leaves: Vec<Option<Node>>,
    /// Of these, those whose memory is [`Around::Simple`]. By themselves, so that all that most blocks ask is answered by one load
    /// from few lines.
    simple: Vec<Option<Node>>,
    /// Of those, whether their memory is [`Around::Plain`], or more than that.
    plain: Vec<bool>,
}

impl Table {
    /// The place of a window; a large number for one that has none.
    #[inline]
    fn index(&self, window: u64) -> usize {
        window.wrapping_sub(self.first) as usize
    }

    fn forget(&mut self, window: u64) {
        let index = self.index(window);
        if let Some(leaf) = self.leaves.get_mut(index) {
            *leaf = None;
        }
        if let Some(leaf) = self.simple.get_mut(index) {
            *leaf = None;
        }
    }

    /// Makes the table one that has a place for this window, where there is heap for it; what it knew is forgotten then.
    fn reach(&mut self, window: u64) {
        let have = self.leaves.len() as u64;
        if self.first ^ window < have {
            return;
        }
        let apart = match have {
            0 => 0,
            _ => self.first ^ window,
        };
        let want = (apart + 1).next_power_of_two().max(MIN_PLACES);
        if want > MAX_PLACES {
            return;
        }
        self.leaves.clear();
        self.simple.clear();
        self.plain.clear();
        let len = want as usize;
        if self.leaves.try_reserve_exact(len).is_ok()
            && self.simple.try_reserve_exact(len).is_ok()
            && self.plain.try_reserve_exact(len).is_ok()
        {
            self.leaves.resize(len, None);
            self.simple.resize(len, None);
            self.plain.resize(len, false);
            self.first = window & !(want - 1);
        }
    }
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Cache {
    orders: [Table; ORDERS],
}

impl Cache {
    /// The leaf of `key`, which is one of `order`, where it is known that its blocks can be anywhere in what it covers. None is known
    /// for a key of no block.
    #[inline]
    pub(super) fn simple(&self, order: u8, key: u64) -> Option<Node> {
        let table = self.orders.get(usize::from(order))?;
        *table.simple.get(table.index(window(key)))?
    }

    /// The leaf of `key`, which is one of `order`, where it is known. None is for a key of no block.
    #[inline]
    pub(super) fn leaf(&self, order: u8, key: u64) -> Option<Node> {
        let table = self.orders.get(usize::from(order))?;
        *table.leaves.get(table.index(window(key)))?
    }

    /// The same, where it is known as well that all memory that the leaf covers is RAM and off scratch.
    pub(super) fn plain(&self, order: u8, key: u64) -> Option<Node> {
        let table = self.orders.get(usize::from(order))?;
        let is_plain = *table.plain.get(table.index(window(key)))?;
        self.leaf(order, key).filter(|_| is_plain)
    }

    /// Keeps what is known of the leaf of `key`, which is one of a block of `order`.
    pub(super) fn put(&mut self, order: u8, key: u64, leaf: Node, around: Around) {
        let Some(table) = self.orders.get_mut(usize::from(order)) else {
            return;
        };
        table.reach(window(key));
        let index = table.index(window(key));
        if let (Some(known), Some(simple), Some(plain)) = (
            table.leaves.get_mut(index),
            table.simple.get_mut(index),
            table.plain.get_mut(index),
        ) {
            *known = Some(leaf);
            *simple = (around == Around::Simple).then_some(leaf);
            *plain = around >= Around::Plain;
        }
    }

    /// The leaf of `key` is about to leave the tree.
    pub(super) fn forget_leaf(&mut self, key: u64) {
        for table in &mut self.orders {
            table.forget(window(key));
        }
    }

    /// The page at `pa` joined the tree, or left it: whether blocks can be anywhere around it is to be found out anew.
    pub(super) fn forget_around(&mut self, pa: u64) {
        for (order, table) in (0..).zip(&mut self.orders) {
            let pa = pa & !((PAGE_SIZE << order) - 1);
            table.forget(window(encode(PageRef { pa, order })));
        }
    }

    /// Forgets everything.
    pub(super) fn forget_all(&mut self) {
        *self = Cache::default();
    }
}
