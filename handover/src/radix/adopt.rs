//! Taking over a predecessor's tree: every address in it is doubted before it is followed.

use alloc::vec::Vec;

use super::cache::Cache;
use super::key::{Digest, LEAF_BITS, ROOT_LEVEL, SLOT_BITS, decode};
use super::node::{Node, SLOTS};
use super::{ORDERS, PreservedMap, blocks_of};
use crate::error::{Claim, Error};
use crate::mem::{Memory, PAGE_SIZE};
use crate::page::{MAX_ORDER, PageRef};
use crate::range::{self, PhysRange};

/// What the receiving kernel knows by itself, and holds an untrusted tree against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits<'a> {
    /// All RAM, from the firmware's memory map.
    pub ram: &'a [PhysRange],
    /// The scratch regions; nothing preserved may touch them.
    pub scratch: &'a [PhysRange],
    /// What the receiving kernel itself occupies; nothing preserved may touch it.
    pub image: &'a [PhysRange],
}

impl<M: Memory> PreservedMap<M> {
    /// Checks the tree at `root`, which a predecessor left, and takes it over in place: nothing is copied, and the
    /// predecessor's blocks and nodes are this map's from here on.
    ///
    /// Nothing is written. The time taken goes with the number of nodes, and of words in leaves that are not zero.
    ///
    /// # Errors
    ///
    /// For a node: [`Error::NodeUnaligned`], [`Error::NodeOutsideRam`], [`Error::TreePageForbidden`],
    /// [`Error::NodeShared`] (a cycle, or two paths to it), [`Error::TreeTooLarge`], [`Error::NodePreserved`]. For a
    /// block: [`Error::BadKey`], [`Error::BlockOutsideRam`], [`Error::BlockForbidden`], [`Error::BlockTwice`]. And
    /// [`Error::NoHeap`].
    pub fn adopt(root: u64, mem: M, limits: &Limits<'_>) -> Result<Self, Error> {
        let sorted = |ranges: &[PhysRange]| {
            let mut ranges = ranges.to_vec();
            range::normalize(&mut ranges);
            ranges
        };
        let mut walk = Walk {
            mem: &mem,
            ram: sorted(limits.ram),
            claims: [
                (Claim::Scratch, sorted(limits.scratch)),
                (Claim::Image, sorted(limits.image)),
            ],
            nodes: Vec::new(),
            max_nodes: max_nodes(limits.ram),
            blocks: [0; ORDERS],
            digest: Digest::default(),
        };
        walk.visit(root, ROOT_LEVEL, 0)?;
        let Walk {
            nodes,
            blocks,
            digest,
            claims: [(_, forbidden), _],
            ..
        } = walk;

        let in_use = (0..).zip(&blocks).filter(|(_, n)| **n > 0);
        let in_use = in_use.fold(0, |all, (order, _)| all | 1 << order);
        let map = PreservedMap {
            mem,
            root,
            forbidden,
            nodes,
            blocks,
            in_use,
            digest,
            cache: Cache::default(),
        };
        for &node in &map.nodes {
            if let Some(by) = map.block_at(node) {
                return Err(Error::NodePreserved { node, by });
            }
        }
        map.check_orders_disjoint()?;
        Ok(map)
    }

    /// No block lies within a block of another order. (Within an order, each block has one bit.)
    fn check_orders_disjoint(&self) -> Result<(), Error> {
        if self.in_use.count_ones() < 2 {
            return Ok(());
        }
        let mut clash = None;
        self.for_each_word(&mut |key, bits| {
            // Blocks of one page have nothing inside them, and are nearly always the most.
            if clash.is_none() && decode(key).is_some_and(|b| b.order > 0) {
                clash = blocks_of(key, bits)
                    .find_map(|large| self.smaller_inside(large).map(|small| (large, small)));
            }
        });
        match clash {
            Some((large, small)) => Err(Error::BlockTwice { large, small }),
            None => Ok(()),
        }
    }
}

/// More nodes than any tree needs that holds blocks in this RAM only: 128 MiB per leaf in order 0, half as many leaves
/// in each further order, and above those at most as many inner nodes again, and one path for each order.
fn max_nodes(ram: &[PhysRange]) -> usize {
    let top = ram.iter().map(|r| r.end).max().unwrap_or(0);
    let leaves = (top >> LEAF_BITS) / PAGE_SIZE + 1;
    (leaves as usize)
        .saturating_mul(4)
        .saturating_add(ORDERS * (ROOT_LEVEL as usize + 1))
}

struct Walk<'a, M> {
    mem: &'a M,
    /// Sorted, disjoint; as are those in `claims`.
    ram: Vec<PhysRange>,
    claims: [(Claim, Vec<PhysRange>); 2],
    /// Nodes seen, sorted.
    nodes: Vec<u64>,
    max_nodes: usize,
    blocks: [u64; ORDERS],
    digest: Digest,
}

impl<M: Memory> Walk<'_, M> {
    /// Checks the node at `pa` and everything below it. `prefix` is the part of the keys that led here.
    fn visit(&mut self, pa: u64, level: u32, prefix: u64) -> Result<(), Error> {
        let node = self.enter(pa, level)?;
        for index in 0..SLOTS {
            let value = node.get(index);
            if value == 0 {
                continue;
            }
            if level == 0 {
                self.check_word(prefix | (index as u64 * 64), value)?;
            } else {
                let below = prefix | (index as u64) << (LEAF_BITS + SLOT_BITS * (level - 1));
                self.visit(value, level - 1, below)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, pa: u64, level: u32) -> Result<Node, Error> {
        if !pa.is_multiple_of(PAGE_SIZE) {
            return Err(Error::NodeUnaligned { node: pa, level });
        }
        let outside = Error::NodeOutsideRam { node: pa, level };
        let page = PhysRange::with_len(pa, PAGE_SIZE).ok_or(outside)?;
        // Page 0 cannot be a node: its address means "nothing below".
        if pa == 0 || !self.in_ram(&page) {
            return Err(outside);
        }
        if let Some((claim, range)) = self.claimed(&page) {
            return Err(Error::TreePageForbidden {
                node: pa,
                claim,
                range,
            });
        }
        let Err(place) = self.nodes.binary_search(&pa) else {
            return Err(Error::NodeShared { node: pa, level });
        };
        if self.nodes.len() >= self.max_nodes {
            return Err(Error::TreeTooLarge {
                limit: self.max_nodes,
            });
        }
        self.nodes.try_reserve(1).map_err(|_| Error::NoHeap {
            what: "the list of the preserved map's pages",
        })?;
        self.nodes.insert(place, pa);
        self.digest.add_node(pa);
        Node::at(self.mem, pa).ok_or(outside)
    }

    /// Checks the 64 blocks from `key` on, of which those in `bits` are preserved.
    fn check_word(&mut self, key: u64, bits: u64) -> Result<(), Error> {
        let lowest = key | u64::from(bits.trailing_zeros());
        // The order bit lies above the leaf's bits for every order that is allowed, so one block tells all.
        let order = decode(lowest).ok_or(Error::BadKey { key: lowest })?.order;
        self.blocks[usize::from(order)] += u64::from(bits.count_ones());
        self.digest.set(key, bits);

        // Nearly always, all 64 places are plain RAM.
        let first = decode(key).map(|b| b.pa);
        let all = first.and_then(|pa| PhysRange::with_len(pa, (64 * PAGE_SIZE) << order));
        if all.is_some_and(|all| self.in_ram(&all) && self.claimed(&all).is_none()) {
            return Ok(());
        }
        let mut bits = bits;
        while bits != 0 {
            let key = key | u64::from(bits.trailing_zeros());
            bits &= bits - 1;
            // Not `blocks_of`, which would end at a key that stands for no block.
            self.check_block(decode(key).ok_or(Error::BadKey { key })?)?;
        }
        Ok(())
    }

    fn check_block(&self, block: PageRef) -> Result<(), Error> {
        debug_assert!(block.order <= MAX_ORDER);
        let bytes = block.range();
        if !self.in_ram(&bytes) {
            return Err(Error::BlockOutsideRam { block });
        }
        match self.claimed(&bytes) {
            Some((claim, range)) => Err(Error::BlockForbidden {
                block,
                claim,
                range,
            }),
            None => Ok(()),
        }
    }

    fn in_ram(&self, bytes: &PhysRange) -> bool {
        range::find_containing(&self.ram, bytes.start).is_some_and(|r| r.contains_range(bytes))
    }

    fn claimed(&self, bytes: &PhysRange) -> Option<(Claim, PhysRange)> {
        self.claims.iter().find_map(|(claim, ranges)| {
            range::find_overlap(ranges, bytes).map(|range| (*claim, range))
        })
    }
}
