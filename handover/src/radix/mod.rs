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
//! What it costs (`cargo bench -p handover`, docs/measurements.md): for 48 GiB in blocks of one page, 2.4 ns a page to
//! preserve one by one in order, 4.2 in random order, 3.3 as a list in random order, 0.2 as a range, 0.9 to take back in bulk
//! (checking the tree included), and one bit of leaf a page. At the jump only [`digest`](PreservedMap::digest) is read, which is kept up to date.
//!
//! The pages of the tree itself are not in the map (nor are they in Linux's): a successor learns them from the walk,
//! and [`PreservedMap::for_each_node`] tells its frame allocator to keep off them.

mod adopt;
mod bulk;
mod cache;
mod edit;
mod key;
mod node;

pub use adopt::Limits;

use alloc::vec::Vec;

use crate::error::Error;
use crate::mem::{Memory, PAGE_SHIFT, PAGE_SIZE};
use crate::page::{Blocks, MAX_ORDER, MAX_PHYS, PageRef};
use crate::range::{self, PhysRange};
use cache::Cache;
use key::{Digest, LEAF_BITS, ROOT_LEVEL, SLOT_BITS, bit, decode, encode, order_of, slot};
pub(crate) use node::{Node, SLOTS};

const ORDERS: usize = MAX_ORDER as usize + 1;
/// How many blocks have their words asked for before the first of them is set: enough for the misses to overlap.
const BATCH: usize = 64;

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
    /// A bit for each order of which there are blocks.
    in_use: u32,
    /// Of all nodes and of all words of leaves.
    digest: Digest,
    cache: Cache,
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
            in_use: 0,
            digest: Digest::default(),
            cache: Cache::default(),
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
    #[inline]
    pub fn preserve(&mut self, block: PageRef) -> Result<(), Error> {
        // Not all of `check`: no leaf is known of a block that lies too high.
        if block.is_aligned()
            && let key = encode(block)
            && let Some(leaf) = self.cache.simple(block.order, key)
            && self.try_set(leaf, key, block.order)
        {
            return Ok(());
        }
        self.preserve_unknown(block)
    }

    #[inline(never)]
    fn preserve_unknown(&mut self, block: PageRef) -> Result<(), Error> {
        block.check()?;
        let key = encode(block);
        if let Some(leaf) = self.known_leaf(key, block)
            && self.try_set(leaf, key, block.order)
        {
            return Ok(());
        }
        self.may_preserve(block)?;
        self.insert(block)
    }

    /// Preserves scattered blocks, in any order: all, or nothing where it fails. Faster than one by one where they are many of
    /// one order: they are done in batches, of which all words are asked for before the first is needed.
    ///
    /// # Errors
    ///
    /// Those of [`preserve`](PreservedMap::preserve), also for a block that stands twice.
    pub fn preserve_each(
        &mut self,
        blocks: impl Iterator<Item = PageRef> + Clone,
    ) -> Result<(), Error> {
        let mut done = 0;
        let mut rest = blocks.clone();
        loop {
            let batch = rest.clone();
            let simple = self.preserve_simple(&mut rest);
            done += simple;
            if simple == BATCH {
                continue;
            }
            // What is left of the batch, one by one, for whatever speaks against it; `rest` may be ahead of that.
            rest = batch;
            for _ in 0..simple {
                rest.next();
            }
            for _ in simple..BATCH {
                let Some(block) = rest.next() else {
                    return Ok(());
                };
                if let Err(error) = self.preserve(block) {
                    for done in blocks.take(done) {
                        // Preserved just now.
                        self.remove(done);
                    }
                    return Err(error);
                }
                done += 1;
            }
        }
    }

    /// Preserves up to [`BATCH`] blocks, as long as there is nothing special about them: how many. First all their words are
    /// looked up and asked for, then all their bits are set, so that the misses of one batch are waited for together.
    fn preserve_simple(&mut self, blocks: &mut impl Iterator<Item = PageRef>) -> usize {
        let Some(first) = blocks.next().filter(|first| first.check().is_ok()) else {
            return 0;
        };
        let order = first.order;
        if self.in_use & !(1 << order) != 0 {
            return 0;
        }
        // Aligned, and below the end.
        let wrong = ((PAGE_SIZE << order) - 1) | !(MAX_PHYS - 1);
        let order_bit = encode(PageRef { pa: 0, order });
        let shift = PAGE_SHIFT + u32::from(order);
        let mut found = [(None, 0); BATCH];
        let mut count = 0;
        let blocks = core::iter::once(first).chain(blocks.take(BATCH - 1));
        for (place, block) in found.iter_mut().zip(blocks) {
            let key = order_bit | block.pa >> shift;
            if block.order != order || block.pa & wrong != 0 {
                break;
            }
            let Some(leaf) = self.cache.simple(order, key) else {
                break;
            };
            leaf.prefetch(bit(key).0);
            *place = (Some(leaf), key);
            count += 1;
        }
        let mut done = 0;
        // Not through `self`: each addition would wait for the last one's store.
        let mut digest = self.digest;
        for &(leaf, key) in &found[..count] {
            let (word, mask) = bit(key);
            let Some(leaf) = leaf else { break };
            let there = leaf.get(word);
            if there & mask != 0 {
                break;
            }
            leaf.set(word, there | mask);
            digest.set(key, mask);
            done += 1;
        }
        if done > 0 {
            self.digest = digest;
            self.blocks[usize::from(order)] += done as u64;
            self.in_use |= 1 << order;
        }
        done
    }

    /// Preserves a range of whole pages as the fewest aligned blocks: all of it, or nothing where it fails. An empty
    /// range is no error.
    ///
    /// # Errors
    ///
    /// [`Error::RangeBackward`], [`Error::RangeUnaligned`], and those of [`preserve`](PreservedMap::preserve).
    pub fn preserve_range(&mut self, range: PhysRange) -> Result<(), Error> {
        range.check_forward()?;
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
    #[inline]
    pub fn unpreserve(&mut self, block: PageRef) -> Result<(), Error> {
        block.check()?;
        match self.remove(block) {
            true => Ok(()),
            false => Err(self.not_this_one(block)),
        }
    }

    /// Why a block that can be is not preserved as such.
    #[cold]
    fn not_this_one(&self, block: PageRef) -> Error {
        match self.block_at(block.pa) {
            Some(found) => Error::OtherBlock {
                asked: block,
                found,
            },
            None => Error::NotPreserved { pa: block.pa },
        }
    }

    /// Takes a range back out, in whatever blocks it was preserved. Nothing is changed where it fails. An empty range
    /// is no error.
    ///
    /// # Errors
    ///
    /// [`Error::RangeBackward`]; [`Error::RangeUnaligned`]; [`Error::NotPreserved`] for the first page that is not;
    /// [`Error::CutsBlock`] where the range holds only a part of a block.
    pub fn unpreserve_range(&mut self, range: PhysRange) -> Result<(), Error> {
        range.check_forward()?;
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
        orders(self.in_use)
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
        self.digest.value()
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
        if self.known_leaf(encode(block), block).is_none() {
            self.may_lie_in(block)?;
        }
        match self.overlapping(block) {
            Some(by) => Err(Error::AlreadyPreserved { block, by }),
            None => Ok(()),
        }
    }

    /// Every reason against the block's place.
    fn may_lie_in(&self, block: PageRef) -> Result<(), Error> {
        let bytes = block.range();
        if self.mem.ptr(block.pa, block.size() as usize).is_none() {
            return Err(Error::NotRam { block });
        }
        if let Some(scratch) = range::find_overlap(&self.forbidden, &bytes) {
            return Err(Error::InScratch { block, scratch });
        }
        match self.tree_page_in(&bytes) {
            Some(node) => Err(Error::HoldsTreePage { block, node }),
            None => Ok(()),
        }
    }

    /// The first page of the tree itself that starts in a range.
    fn tree_page_in(&self, bytes: &PhysRange) -> Option<u64> {
        let after = self.nodes.partition_point(|&node| node < bytes.start);
        self.nodes
            .get(after)
            .copied()
            .filter(|&n| bytes.contains(n))
    }

    /// A preserved block that shares a page with `block`.
    fn overlapping(&self, block: PageRef) -> Option<PageRef> {
        // As large or larger ones: at most one of each order can hold it.
        let larger = self.block_at(block.pa).filter(|b| b.order >= block.order);
        larger.or_else(|| self.smaller_inside(block))
    }

    /// A preserved block of a lower order inside `block`.
    fn smaller_inside(&self, block: PageRef) -> Option<PageRef> {
        orders(self.in_use & ((1 << block.order) - 1))
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
        if let Some(leaf) = self.cache.leaf(order_of(key)?, key) {
            return Some(leaf);
        }
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

/// The orders whose bits are set, ascending.
fn orders(mut set: u32) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let order = (set != 0).then(|| set.trailing_zeros() as u8)?;
        set &= set - 1;
        Some(order)
    })
}

/// The blocks of a leaf's word, which begins with this key.
fn blocks_of(key: u64, mut bits: u64) -> impl Iterator<Item = PageRef> {
    // All blocks of a word are of one order: the order bit lies above the leaf's bits. The word's first block can lie too
    // high to be one only where all do.
    let first = decode(key);
    core::iter::from_fn(move || {
        let PageRef { pa, order } = first.filter(|_| bits != 0)?;
        let pa = pa + (u64::from(bits.trailing_zeros()) << (PAGE_SHIFT + u32::from(order)));
        bits &= bits - 1;
        Some(PageRef { pa, order })
    })
}
