//! One page of the radix tree. This module holds the `unsafe` of the map: reading and writing nodes.

use core::ptr::NonNull;

use crate::mem::{Memory, PAGE_SIZE};

/// u64 words in a node: slots of an inner node, words of a leaf's bitmap.
pub(crate) const SLOTS: usize = PAGE_SIZE as usize / 8;

/// A page of the tree.
///
/// Invariant: the pointer came from [`Memory::ptr`] for a whole page, and is aligned for u64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node(NonNull<u64>);

impl Node {
    /// The node at `pa`; `None` where there is no whole page of RAM.
    pub(crate) fn at(mem: &impl Memory, pa: u64) -> Option<Node> {
        if !pa.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let page = mem.ptr(pa, PAGE_SIZE as usize)?.cast::<u64>();
        page.is_aligned().then_some(Node(page))
    }

    /// Word `index` (taken modulo [`SLOTS`]).
    pub(crate) fn get(self, index: usize) -> u64 {
        // SAFETY: by the type's invariant the page is readable and aligned, and the index stays within it. Nodes are
        // only ever reached through raw pointers, so no reference says that the word cannot change.
        unsafe { self.0.add(index % SLOTS).read() }
    }

    /// Writes word `index` (taken modulo [`SLOTS`]).
    pub(crate) fn set(self, index: usize, value: u64) {
        // SAFETY: by the type's invariant the page is writable and aligned, and the index stays within it; whoever
        // holds the map exclusively is the only one to write to its nodes.
        unsafe { self.0.add(index % SLOTS).write(value) }
    }

    /// Asks the CPU for word `index` (taken modulo [`SLOTS`]); nothing happens where it has no such instruction.
    #[inline]
    pub(crate) fn prefetch(self, index: usize) {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse"))]
        // SAFETY: a hint that touches nothing; the address lies in the page.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.0.add(index % SLOTS).as_ptr().cast());
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse")))]
        let _ = index;
    }

    /// Fills the node with zeroes.
    pub(crate) fn clear(self) {
        // SAFETY: as in `set`, for all `SLOTS` words.
        unsafe { self.0.write_bytes(0, SLOTS) }
    }

    /// Whether nothing is set. Begins at word `first`: what is left of a page that was filled or emptied in order stands
    /// near the place of the last change.
    pub(crate) fn is_empty_from(self, first: usize) -> bool {
        (first..first + SLOTS).all(|index| self.get(index) == 0)
    }
}

// SAFETY: a node is a place in physical memory, which is tied to no thread; who may write to it is said by the borrow of
// the map that holds it.
unsafe impl Send for Node {}
// SAFETY: as above; through a shared borrow of the map, nodes are read only.
unsafe impl Sync for Node {}
