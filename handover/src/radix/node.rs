//! One page of the radix tree. This module holds the `unsafe` of the map: reading and writing nodes.

use core::ptr::NonNull;

use crate::mem::{Memory, PAGE_SIZE};

/// u64 words in a node: slots of an inner node, words of a leaf's bitmap.
pub(super) const SLOTS: usize = PAGE_SIZE as usize / 8;

/// A page of the tree.
///
/// Invariant: the pointer came from [`Memory::ptr`] for a whole page, and is aligned for u64.
#[derive(Clone, Copy)]
pub(super) struct Node(NonNull<u64>);

impl Node {
    /// The node at `pa`; `None` where there is no whole page of RAM.
    pub(super) fn at(mem: &impl Memory, pa: u64) -> Option<Node> {
        if !pa.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let page = mem.ptr(pa, PAGE_SIZE as usize)?.cast::<u64>();
        page.is_aligned().then_some(Node(page))
    }

    /// Word `index` (taken modulo [`SLOTS`]).
    pub(super) fn get(self, index: usize) -> u64 {
        // SAFETY: by the type's invariant the page is readable and aligned, and the index stays within it. Nodes are
        // only ever reached through raw pointers, so no reference says that the word cannot change.
        unsafe { self.0.add(index % SLOTS).read() }
    }

    /// Writes word `index` (taken modulo [`SLOTS`]).
    pub(super) fn set(self, index: usize, value: u64) {
        // SAFETY: by the type's invariant the page is writable and aligned, and the index stays within it; whoever
        // holds the map exclusively is the only one to write to its nodes.
        unsafe { self.0.add(index % SLOTS).write(value) }
    }

    /// Fills the node with zeroes.
    pub(super) fn clear(self) {
        // SAFETY: as in `set`, for all `SLOTS` words.
        unsafe { self.0.write_bytes(0, SLOTS) }
    }

    /// Whether nothing is set.
    pub(super) fn is_empty(self) -> bool {
        (0..SLOTS).all(|index| self.get(index) == 0)
    }
}
