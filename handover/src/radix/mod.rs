//! The preserved-memory map: KHO's radix tree, in place.
//!
//! Source: `include/linux/kho/abi/radix_tree.h` and `kernel/liveupdate/kho_radix.c` of Linux. Each node is one page. A
//! leaf is a bitmap of 32,768 bits, one bit per preserved block; an inner node is 512 physical addresses (u64,
//! native-endian, 0 = nothing below). The key of a block of order `o` at `pa` is `(1 << (52 - o)) | (pa >> (12 + o))`,
//! so that the place of the highest bit tells the order:
//!
//! ```text
//!    63:60   59:51    50:42    41:33    32:24    23:15         14:0
//!  +-------+--------+--------+--------+--------+--------+----------------+
//!  |   0   | level 5| level 4| level 3| level 2| level 1| level 0: bitmap|
//!  +-------+--------+--------+--------+--------+--------+----------------+
//! ```
//!
//! The tree that a kernel keeps all its life is the one that its successor reads: nothing is serialised at the jump,
//! and a successor that has checked it ([`PreservedMap::adopt`]) goes on with the same pages.
//!
//! Invariants of a [`PreservedMap`], whether new or adopted:
//! - no page is in two blocks, whatever their orders;
//! - no block touches scratch, and none holds a page of the tree;
//! - each node is a page of its own, reached by one path, and never lies in scratch.
//!
//! The pages of the tree itself are not in the map (nor are they in Linux's): a successor learns them from the walk,
//! and [`PreservedMap::for_each_node`] tells its frame allocator to keep off them.

mod adopt;
mod node;

pub use adopt::Limits;

use alloc::vec::Vec;

use crate::error::{Claim, Error};
use crate::mem::{Memory, PAGE_SHIFT, PAGE_SIZE};
use crate::page::{Blocks, MAX_ORDER, PageRef};
use crate::range::{self, PhysRange};
use node::{Node, SLOTS};

/// The place of the order bit of a block of order 0 (`KHO_ORDER_0_LOG2`).
const ORDER_0_BIT: u32 = 64 - PAGE_SHIFT;
/// log2 of the bits in a leaf.
const LEAF_BITS: u32 = 15;
/// log2 of the slots in an inner node.
const SLOT_BITS: u32 = 9;
/// The root's level; leaves are level 0.
const ROOT_LEVEL: u32 = 5;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// The key of a block. Valid blocks only (see [`PageRef::check`]).
const fn encode(block: PageRef) -> u64 {
    let order = block.order as u32;
    1 << (ORDER_0_BIT - order) | block.pa >> (PAGE_SHIFT + order)
}

/// The block of a key; `None` where no block that may be preserved has that key.
const fn decode(key: u64) -> Option<PageRef> {
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
const fn slot(key: u64, level: u32) -> usize {
    (key >> (LEAF_BITS + SLOT_BITS * (level - 1))) as usize % SLOTS
}

/// Word and mask of `key` in its leaf.
const fn bit(key: u64) -> (usize, u64) {
    let bit = key % (1 << LEAF_BITS);
    ((bit / 64) as usize, 1 << (bit % 64))
}

/// Spreads every bit over the whole number, and is one-to-one (the finalizer of SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What a node adds to the tree's digest.
const fn node_digest(pa: u64) -> u64 {
    mix(!pa)
}

/// What the word that holds `key`'s bit adds to the tree's digest; nothing where no bit is set.
const fn word_digest(key: u64, bits: u64) -> u64 {
    match bits {
        0 => 0,
        _ => mix(mix(key | 63) ^ bits),
    }
}

/// The map of preserved memory; see the [module's text](self).
///
/// Dropping it frees nothing: the tree is there for the next kernel. [`release`](PreservedMap::release) gives the
/// pages of the tree back.
#[derive(Debug)]
pub struct PreservedMap<M: Memory> {
    mem: M,
    root: u64,
    /// Scratch; sorted, disjoint.
    forbidden: Vec<PhysRange>,
    /// Physical addresses of all nodes, sorted.
    nodes: Vec<u64>,
    /// Number of blocks of each order. An order with none needs no search.
    blocks: [u64; ORDERS],
    /// Sum of the digests of all nodes and of all words of leaves.
    digest: u64,
}

impl<M: Memory> PreservedMap<M> {
    /// An empty map that refuses everything in `forbidden` (scratch). Allocates the root page.
    ///
    /// # Errors
    ///
    /// [`Error::NoTreePage`], [`Error::NoHeap`], or [`Error::TreePageForbidden`] where the allocator hands out
    /// scratch.
    pub fn new(mem: M, mut forbidden: Vec<PhysRange>) -> Result<Self, Error> {
        range::normalize(&mut forbidden);
        let mut map = PreservedMap {
            mem,
            root: 0,
            forbidden,
            nodes: Vec::new(),
            blocks: [0; ORDERS],
            digest: 0,
        };
        map.root = map.new_node()?;
        Ok(map)
    }

    /// Physical address of the root page: `preserved-memory-map` of the FDT. It never changes.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The memory that the map lies in.
    pub fn memory(&self) -> &M {
        &self.mem
    }

    /// Preserves a block. Nothing is changed where it fails.
    ///
    /// # Errors
    ///
    /// Those of [`PageRef::check`]; [`Error::NotRam`], [`Error::InScratch`], [`Error::HoldsTreePage`],
    /// [`Error::AlreadyPreserved`] (also where only a part is, or as part of a larger block); [`Error::NoTreePage`], [`Error::NoHeap`].
    pub fn preserve(&mut self, block: PageRef) -> Result<(), Error> {
        self.may_preserve(block)?;
        self.insert(block)
    }

    /// Preserves a range of whole pages as the fewest aligned blocks: all of it, or nothing where it fails. An empty
    /// range is no error.
    ///
    /// # Errors
    ///
    /// [`Error::RangeUnaligned`], and those of [`preserve`](PreservedMap::preserve).
    pub fn preserve_range(&mut self, range: PhysRange) -> Result<(), Error> {
        if !range.is_page_aligned() {
            return Err(Error::RangeUnaligned { range });
        }
        for block in Blocks::of(range) {
            self.may_preserve(block)?;
        }
        for block in Blocks::of(range) {
            if let Err(e) = self.insert(block) {
                self.remove_all_in(PhysRange::new(range.start, block.pa));
                return Err(e);
            }
        }
        Ok(())
    }

    /// Takes a block back out, exactly as it was preserved, and frees the nodes that this leaves empty.
    ///
    /// # Errors
    ///
    /// Those of [`PageRef::check`]; [`Error::NotPreserved`]; [`Error::OtherBlock`] where the memory is preserved as part
    /// of a block of another order.
    pub fn unpreserve(&mut self, block: PageRef) -> Result<(), Error> {
        block.check()?;
        match self.block_at(block.pa) {
            Some(found) if found == block => {
                self.remove(block);
                Ok(())
            }
            Some(found) => Err(Error::OtherBlock {
                asked: block,
                found,
            }),
            None => Err(Error::NotPreserved { pa: block.pa }),
        }
    }

    /// Takes a range back out, in whatever blocks it was preserved. Nothing is changed where it fails. An empty range
    /// is no error.
    ///
    /// # Errors
    ///
    /// [`Error::RangeUnaligned`]; [`Error::NotPreserved`] for the first page that is not; [`Error::CutsBlock`] where the
    /// range holds only a part of a block.
    pub fn unpreserve_range(&mut self, range: PhysRange) -> Result<(), Error> {
        if !range.is_page_aligned() {
            return Err(Error::RangeUnaligned { range });
        }
        let mut at = range.start;
        while at < range.end {
            let block = self.block_at(at).ok_or(Error::NotPreserved { pa: at })?;
            if !range.contains_range(&block.range()) {
                return Err(Error::CutsBlock { range, block });
            }
            at = block.range().end;
        }
        self.remove_all_in(range);
        Ok(())
    }

    /// Whether the page at `pa` is preserved, in a block of whatever order.
    pub fn is_preserved(&self, pa: u64) -> bool {
        self.block_at(pa).is_some()
    }

    /// The preserved block that holds `pa`.
    pub fn block_at(&self, pa: u64) -> Option<PageRef> {
        (0..=MAX_ORDER)
            .filter(|&order| self.blocks[usize::from(order)] > 0)
            .map(|order| PageRef {
                pa: pa & !((PAGE_SIZE << order) - 1),
                order,
            })
            .find(|block| block.check().is_ok() && self.has(encode(*block)))
    }

    /// The first page of `range` that is not preserved; `None` where all pages that it touches are.
    pub fn first_gap(&self, range: &PhysRange) -> Option<u64> {
        let pages = range.page_align_outwards();
        let mut at = pages.start;
        while at < pages.end {
            match self.block_at(at) {
                Some(block) => at = block.range().end,
                None => return Some(at),
            }
        }
        None
    }

    /// Calls `f` with each preserved block: by descending order, and by ascending address within an order.
    pub fn for_each_block(&self, mut f: impl FnMut(PageRef)) {
        self.for_each_word(&mut |key, bits| blocks_of(key, bits).for_each(&mut f));
    }

    /// Calls `f` with the physical address of each page of the tree itself, the root among them.
    pub fn for_each_node(&self, f: impl FnMut(u64)) {
        self.nodes.iter().copied().for_each(f);
    }

    /// Number of pages preserved; those of the tree itself do not count.
    pub fn preserved_pages(&self) -> u64 {
        (0..).zip(&self.blocks).map(|(order, n)| n << order).sum()
    }

    /// Number of blocks preserved.
    pub fn block_count(&self) -> u64 {
        self.blocks.iter().sum()
    }

    /// Number of pages of the tree itself.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// A digest of the whole tree: of which blocks are preserved, and of which pages the tree is made. It is kept up to
    /// date as blocks come and go, so that nothing is left to compute at the jump; a successor computes it along the
    /// walk. Never 0. Not a cryptographic one: it finds damage, not malice.
    pub fn digest(&self) -> u64 {
        self.digest.max(1)
    }

    /// Frees the pages of the tree. What was preserved is so no more; the blocks themselves stay as they are.
    pub fn release(self) {
        for pa in self.nodes {
            // SAFETY: each node is a page that the map allocated or took over, it stands in `nodes` once, and the map
            // ends here.
            unsafe { self.mem.free_pages(pa, 0) };
        }
    }

    /// Every reason against preserving `block` but a lack of memory.
    fn may_preserve(&self, block: PageRef) -> Result<(), Error> {
        block.check()?;
        let bytes = block.range();
        if self.mem.ptr(block.pa, block.size() as usize).is_none() {
            return Err(Error::NotRam { block });
        }
        if let Some(scratch) = range::find_overlap(&self.forbidden, &bytes) {
            return Err(Error::InScratch { block, scratch });
        }
        let after = self.nodes.partition_point(|&node| node < bytes.start);
        if let Some(&node) = self.nodes.get(after).filter(|&&n| bytes.contains(n)) {
            return Err(Error::HoldsTreePage { block, node });
        }
        match self.overlapping(block) {
            Some(by) => Err(Error::AlreadyPreserved { block, by }),
            None => Ok(()),
        }
    }

    /// A preserved block that shares a page with `block`.
    fn overlapping(&self, block: PageRef) -> Option<PageRef> {
        // As large or larger ones: at most one of each order can hold it.
        let larger = self.block_at(block.pa).filter(|b| b.order >= block.order);
        larger.or_else(|| self.smaller_inside(block))
    }

    /// A preserved block of a lower order inside `block`.
    fn smaller_inside(&self, block: PageRef) -> Option<PageRef> {
        (0..block.order)
            .filter(|&order| self.blocks[usize::from(order)] > 0)
            .find_map(|order| {
                let first = encode(PageRef {
                    pa: block.pa,
                    order,
                });
                self.first_set(first, 1 << (block.order - order))
            })
            .and_then(decode)
    }

    /// The lowest key that is set among the `count` from `first` on. `count` is a power of two, `first` a multiple of
    /// it.
    fn first_set(&self, first: u64, count: u64) -> Option<u64> {
        let end = first + count;
        let mut key = first;
        while key < end {
            let Some(leaf) = self.leaf(key) else {
                key = (key | ((1 << LEAF_BITS) - 1)) + 1;
                continue;
            };
            let (word, mask) = bit(key);
            // Bits from `key` on; then, where fewer than 64 are asked for, only those.
            let mut bits = leaf.get(word) & !(mask - 1);
            if count < 64 {
                bits &= (mask << count).wrapping_sub(mask);
            }
            if bits != 0 {
                return Some(key & !63 | u64::from(bits.trailing_zeros()));
            }
            key = (key | 63) + 1;
        }
        None
    }

    fn has(&self, key: u64) -> bool {
        let (word, mask) = bit(key);
        self.leaf(key).is_some_and(|l| l.get(word) & mask != 0)
    }

    /// The leaf of `key`.
    fn leaf(&self, key: u64) -> Option<Node> {
        let mut node = self.node(self.root)?;
        for level in (1..=ROOT_LEVEL).rev() {
            node = self.node(node.get(slot(key, level)))?;
        }
        Some(node)
    }

    fn node(&self, pa: u64) -> Option<Node> {
        // 0 is "nothing below", though page 0 can be RAM.
        (pa != 0).then(|| Node::at(&self.mem, pa)).flatten()
    }

    /// Sets the bit of a block that [`may_preserve`](Self::may_preserve) has passed; on failure all is as before.
    fn insert(&mut self, block: PageRef) -> Result<(), Error> {
        let key = encode(block);
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
        self.change(leaf, key, |bits, mask| bits | mask);
        self.blocks[usize::from(block.order)] += 1;
        Ok(())
    }

    /// Clears the bit of a block that is preserved.
    fn remove(&mut self, block: PageRef) {
        let key = encode(block);
        if let Some(leaf) = self.leaf(key) {
            self.change(leaf, key, |bits, mask| bits & !mask);
            self.blocks[usize::from(block.order)] -= 1;
            self.prune(key);
        }
    }

    /// Changes the word of a leaf that holds `key`'s bit.
    fn change(&mut self, leaf: Node, key: u64, f: impl FnOnce(u64, u64) -> u64) {
        let (word, mask) = bit(key);
        let old = leaf.get(word);
        let new = f(old, mask);
        leaf.set(word, new);
        let of = |bits| word_digest(key, bits);
        self.digest = self.digest.wrapping_sub(of(old)).wrapping_add(of(new));
    }

    /// Takes out every block that starts in `range`, where all of `range` is preserved.
    fn remove_all_in(&mut self, range: PhysRange) {
        let mut at = range.start;
        while at < range.end
            && let Some(block) = self.block_at(at)
        {
            self.remove(block);
            at = block.range().end;
        }
    }

    /// Frees the nodes on the path to `key` that have nothing below them, from the lowest upwards. The root stays.
    fn prune(&mut self, key: u64) {
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
        for (parent, slot, child) in path.into_iter().rev().flatten() {
            if !self.node(child).is_some_and(Node::is_empty) {
                break;
            }
            parent.set(slot, 0);
            if let Ok(index) = self.nodes.binary_search(&child) {
                self.nodes.remove(index);
                self.digest = self.digest.wrapping_sub(node_digest(child));
                // SAFETY: the node has left the tree and `nodes`; nobody else knew of it.
                unsafe { self.mem.free_pages(child, 0) };
            }
        }
    }

    /// Allocates an empty node.
    fn new_node(&mut self) -> Result<u64, Error> {
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
        self.digest = self.digest.wrapping_add(node_digest(pa));
        Ok(pa)
    }

    /// Calls `f` with each word of a leaf that is not zero, and the key of its lowest bit, by ascending key.
    fn for_each_word(&self, f: &mut impl FnMut(u64, u64)) {
        self.walk(self.root, ROOT_LEVEL, 0, f);
    }

    fn walk(&self, pa: u64, level: u32, prefix: u64, f: &mut impl FnMut(u64, u64)) {
        let Some(node) = self.node(pa) else { return };
        for index in 0..SLOTS {
            match (node.get(index), level) {
                (0, _) => {}
                (bits, 0) => f(prefix | (index as u64 * 64), bits),
                (below, _) => {
                    let part = (index as u64) << (LEAF_BITS + SLOT_BITS * (level - 1));
                    self.walk(below, level - 1, prefix | part, f);
                }
            }
        }
    }
}

/// The blocks of a leaf's word, whose lowest bit has this key.
fn blocks_of(key: u64, mut bits: u64) -> impl Iterator<Item = PageRef> {
    core::iter::from_fn(move || {
        let lowest = (bits != 0).then(|| key | u64::from(bits.trailing_zeros()))?;
        bits &= bits - 1;
        decode(lowest)
    })
}
