//! Setting and clearing bits, and the pages that come and go with that.

use super::PreservedMap;
use super::cache::Around;
use super::key::{LEAF_BITS, ROOT_LEVEL, bit, covered, decode, encode, slot, window};
use super::node::Node;
use crate::error::{Claim, Error};
use crate::mem::{Memory, PAGE_SIZE};
use crate::page::PageRef;
use crate::range::{self, PhysRange};

impl<M: Memory> PreservedMap<M> {
    /// The leaf of a key, where it is known that no block of it can be anywhere that is forbidden, but for those that hold
    /// a page of the tree: these are looked for here.
    pub(super) fn known_leaf(&self, key: u64, block: PageRef) -> Option<Node> {
        let leaf = self.cache.plain(block.order, key)?;
        match self.tree_page_in(&block.range()) {
            Some(_) => None,
            None => Some(leaf),
        }
    }

    /// Sets the bit of a block that [`may_preserve`](Self::may_preserve) has passed; on failure all is as before.
    pub(super) fn insert(&mut self, block: PageRef) -> Result<(), Error> {
        let key = encode(block);
        let leaf = match self.cache.leaf(block.order, key) {
            Some(leaf) => leaf,
            None => self.make_leaf(key)?,
        };
        self.set(leaf, key, block.order);
        Ok(())
    }

    /// The leaf of `key`, and the nodes above it, allocated where they are missing; on failure all is as before.
    fn make_leaf(&mut self, key: u64) -> Result<Node, Error> {
        let mut pa = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            let node = self
                .node(pa)
                .ok_or(Error::NodeOutsideRam { node: pa, level })?;
            let slot = slot(key, level);
            pa = node.get(slot);
            if pa == 0 {
                pa = self.new_node().inspect_err(|_| self.prune(key))?;
                node.set(slot, pa);
            }
        }
        let leaf = self
            .node(pa)
            .ok_or(Error::NodeOutsideRam { node: pa, level: 0 })?;
        self.remember(key, leaf);
        Ok(leaf)
    }

    /// Notes what there is to know about the leaf of `key`.
    fn remember(&mut self, key: u64, leaf: Node) {
        let Some((order, bytes)) = covered(window(key)) else {
            return;
        };
        let around = if self.mem.ptr(bytes.start, bytes.len() as usize).is_none()
            || range::find_overlap(&self.forbidden, &bytes).is_some()
        {
            Around::Mixed
        } else if self.tree_page_in(&bytes).is_some() {
            Around::Plain
        } else {
            Around::Simple
        };
        self.cache.put(order, key, leaf, around);
    }

    /// Sets the bit of a block that may be where it is, if there are blocks of this order and no other, and it is clear. Whether it
    /// did.
    #[inline]
    pub(super) fn try_set(&mut self, leaf: Node, key: u64, order: u8) -> bool {
        let (word, mask) = bit(key);
        let there = leaf.get(word);
        let may = self.in_use == 1 << order && there & mask == 0;
        if may {
            leaf.set(word, there | mask);
            self.digest.set(key, mask);
            self.blocks[usize::from(order)] += 1;
        }
        may
    }

    /// Sets a bit that is clear.
    pub(super) fn set(&mut self, leaf: Node, key: u64, order: u8) {
        let (word, mask) = bit(key);
        leaf.set(word, leaf.get(word) | mask);
        self.digest.set(key, mask);
        self.blocks[usize::from(order)] += 1;
        self.in_use |= 1 << order;
    }

    /// Clears the bit of a block, where it is set, and frees the nodes that this leaves empty. Whether it was.
    #[inline]
    pub(super) fn remove(&mut self, block: PageRef) -> bool {
        let key = encode(block);
        let known = self.cache.leaf(block.order, key);
        let Some(leaf) = known.or_else(|| self.look_up(key)) else {
            return false;
        };
        let (word, mask) = bit(key);
        let there = leaf.get(word);
        if there & mask == 0 {
            return false;
        }
        let left = there ^ mask;
        leaf.set(word, left);
        self.digest.clear(key, mask);
        self.count_out(block.order, 1);
        if left == 0 {
            self.prune_if_empty(leaf, key);
        }
        true
    }

    /// The leaf of a key; after it, it is known.
    #[cold]
    fn look_up(&mut self, key: u64) -> Option<Node> {
        let leaf = self.leaf(key)?;
        self.remember(key, leaf);
        Some(leaf)
    }

    #[cold]
    fn prune_if_empty(&mut self, leaf: Node, key: u64) {
        if leaf.is_empty_from(bit(key).0) {
            self.prune(key);
        }
    }

    /// `n` blocks fewer of an order.
    pub(super) fn count_out(&mut self, order: u8, n: u64) {
        let left = &mut self.blocks[usize::from(order)];
        *left -= n;
        if *left == 0 {
            self.in_use &= !(1 << order);
        }
    }

    /// Takes out every block that starts in `range`, where all of `range` is preserved.
    pub(super) fn remove_all_in(&mut self, range: PhysRange) {
        let mut at = range.start;
        while at < range.end
            && let Some(block) = self.block_at(at)
        {
            self.remove(block);
            at = block.range().end;
        }
    }

    /// Frees the nodes on the path to `key` that have nothing below them, from the lowest upwards. The root stays.
    #[cold]
    pub(super) fn prune(&mut self, key: u64) {
        // The slots that were followed, from the root's down.
        let mut path = [None; ROOT_LEVEL as usize];
        let mut pa = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            let Some(node) = self.node(pa) else { break };
            let slot = slot(key, level);
            pa = node.get(slot);
            if pa == 0 {
                break;
            }
            path[(ROOT_LEVEL - level) as usize] = Some((node, slot, pa));
        }
        for (level, step) in (0..).zip(path.into_iter().rev()) {
            let Some((parent, slot, child)) = step else {
                continue;
            };
            if !self.node(child).is_some_and(|node| node.is_empty_from(0)) {
                break;
            }
            parent.set(slot, 0);
            if level == 0 {
                self.cache.forget_leaf(key);
            }
            self.free_node(child);
        }
    }

    /// Frees a node that has left the tree, and of which, where it was a leaf, the cache knows no more.
    fn free_node(&mut self, pa: u64) {
        if let Ok(index) = self.nodes.binary_search(&pa) {
            self.nodes.remove(index);
            self.cache.forget_around(pa);
            self.digest.remove_node(pa);
            // SAFETY: the node has left the tree and `nodes`; nobody else knew of it, and the cache has forgotten it.
            unsafe { self.mem.free_pages(pa, 0) };
        }
    }

    /// Allocates an empty node.
    pub(super) fn new_node(&mut self) -> Result<u64, Error> {
        self.nodes.try_reserve(1).map_err(|_| Error::NoHeap {
            what: "the list of the preserved map's pages",
        })?;
        let pa = self.mem.alloc_pages(0).ok_or(Error::NoTreePage)?;
        let claim = range::find_overlap(&self.forbidden, &PhysRange::new(pa, pa + PAGE_SIZE));
        let node = Node::at(&self.mem, pa).filter(|_| pa != 0 && claim.is_none());
        let Some(node) = node else {
            // SAFETY: the page was allocated just now and is used by nobody.
            unsafe { self.mem.free_pages(pa, 0) };
            return Err(match claim {
                Some(range) => Error::TreePageForbidden {
                    node: pa,
                    claim: Claim::Scratch,
                    range,
                },
                None => Error::NoTreePage,
            });
        };
        node.clear();
        let place = self.nodes.partition_point(|&n| n < pa);
        self.nodes.insert(place, pa);
        self.cache.forget_around(pa);
        self.digest.add_node(pa);
        Ok(pa)
    }

    /// Empties the map, and frees all of the tree but the root. Calls `f` with each block first, as
    /// [`for_each_block`](Self::for_each_block) does.
    pub(super) fn drain(&mut self, f: impl FnMut(PageRef)) {
        self.for_each_block(f);
        if let Some(root) = self.node(self.root) {
            root.clear();
        }
        let root = self.root;
        self.cache.forget_all();
        self.blocks = Default::default();
        self.in_use = 0;
        self.digest = Default::default();
        self.digest.add_node(root);
        for pa in core::mem::take(&mut self.nodes) {
            if pa == root {
                self.nodes.push(pa);
            } else {
                // SAFETY: the root leads to nothing any more, and the cache has forgotten the node.
                unsafe { self.mem.free_pages(pa, 0) };
            }
        }
    }

    /// Fills whole words: sets, or clears, the bits of all blocks of one order that lie in `range`, which is aligned to
    /// them. Every block was found to be clear, or set; the leaves that are filled exist.
    pub(super) fn fill(&mut self, range: PhysRange, order: u8, preserve: bool) {
        let first = encode(PageRef {
            pa: range.start,
            order,
        });
        let count = range.len() >> (12 + order);
        each_word(first, count, |key, bits| {
            let Some(leaf) = self.leaf(key) else { return };
            let word = bit(key).0;
            if preserve {
                leaf.set(word, leaf.get(word) | bits);
                self.digest.set(key, bits);
                self.blocks[usize::from(order)] += u64::from(bits.count_ones());
                self.in_use |= 1 << order;
            } else {
                leaf.set(word, leaf.get(word) & !bits);
                self.digest.clear(key, bits);
                self.count_out(order, u64::from(bits.count_ones()));
            }
        });
    }

    /// Makes every leaf that the `count` blocks from `first` on need; on failure all is as before.
    pub(super) fn make_leaves(&mut self, first: u64, count: u64) -> Result<(), Error> {
        let mut at = first;
        while at < first + count {
            if self.leaf(at).is_none()
                && let Err(error) = self.make_leaf(at)
            {
                self.prune_leaves(first, at - first);
                return Err(error);
            }
            at = (window(at) + 1) << LEAF_BITS;
        }
        Ok(())
    }

    /// Frees each leaf of the `count` blocks from `first` on that is empty.
    pub(super) fn prune_leaves(&mut self, first: u64, count: u64) {
        let mut at = first;
        while at < first + count {
            self.prune(at);
            at = (window(at) + 1) << LEAF_BITS;
        }
    }

    /// The first block among the `count` from `first` on whose bit is not `set`.
    pub(super) fn first_other(&self, first: u64, count: u64, set: bool) -> Option<PageRef> {
        let mut found = None;
        each_word(first, count, |key, bits| {
            if found.is_some() {
                return;
            }
            let there = self.leaf(key).map_or(0, |leaf| leaf.get(bit(key).0));
            let other = if set { !there } else { there } & bits;
            if other != 0 {
                found = decode(key | u64::from(other.trailing_zeros()));
            }
        });
        found
    }
}

/// Calls `f` with each word of the `count` keys from `first` on: the key of its lowest bit, and the bits meant.
fn each_word(first: u64, count: u64, mut f: impl FnMut(u64, u64)) {
    let end = first + count;
    let mut key = first;
    while key < end {
        let n = (64 - key % 64).min(end - key);
        let bits = (u64::MAX >> (64 - n)) << (key % 64);
        f(key & !63, bits);
        key += n;
    }
}
