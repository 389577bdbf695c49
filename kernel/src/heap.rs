//! The heap's bookkeeping: TLSF (two-level segregated fit), by the crate `rlsf`. Giving out a block and taking one back each take
//! a bounded number of steps, however many blocks there are and however the memory lies in pieces: the kernel does it with
//! interrupts off.
//!
//! Of its free lists, each of which holds the blocks of a class of sizes, it looks only into those in which every block is
//! large enough. A block that is only just large enough would therefore not be found again once it is free. So each
//! block is given the least size of its class, and serves the same request the next time.

use core::alloc::Layout;
use core::ptr::NonNull;
use rlsf::{GRANULARITY, Tlsf};

/// With so many first-level classes, powers of two, `rlsf` knows no largest piece of memory, and lets one grow in place.
const POWERS: usize = (usize::BITS - GRANULARITY.trailing_zeros()) as usize;
/// Classes to each power of two: what a block has beyond what was asked for is less than a 32nd of it, and 48 bytes.
const CLASSES: usize = 32;
/// What precedes a block's first byte, at least: its size, and where the block before it begins.
const HEADER: usize = GRANULARITY / 2;

/// One piece of memory, from which blocks are given out, and which may grow at its end.
pub struct Heap {
    tlsf: Tlsf<'static, u64, u32, POWERS, CLASSES>,
    end: *mut u8,
    size: usize,
    used: usize,
}

// SAFETY: the pointer is that to the end of memory which is the heap's alone.
unsafe impl Send for Heap {}

impl Heap {
    /// A heap without memory.
    pub const fn empty() -> Self {
        Heap {
            tlsf: Tlsf::new(),
            end: core::ptr::null_mut(),
            size: 0,
            used: 0,
        }
    }

    /// Adds memory: the first, or what follows the end of what the heap has. Only its ends are written to.
    ///
    /// # Panics
    /// Where the memory is neither, or no multiple of 64 bytes at a multiple of 64.
    ///
    /// # Safety
    /// It can be read and written as long as there is the heap, and is nobody else's.
    pub unsafe fn extend(&mut self, memory: NonNull<[u8]>) {
        let (start, len) = (memory.cast::<u8>().as_ptr(), memory.len());
        assert!(start.addr().is_multiple_of(64) && len.is_multiple_of(64) && len > 0);
        // SAFETY: the caller's promise; what is appended starts where the only pool ends, since all of each piece before went into it.
        let taken = unsafe {
            if self.end.is_null() {
                let taken = self.tlsf.insert_free_block_ptr(memory);
                taken.map_or(0, |taken| taken.get())
            } else {
                assert!(start == self.end, "a heap grows at its end");
                self.tlsf.append_free_block_ptr(memory)
            }
        };
        assert!(taken == len, "all of an aligned piece goes into the heap");
        self.end = start.wrapping_add(len);
        self.size += len;
    }

    /// Bytes that a block takes, or at most where it is aligned to more than 16 bytes. So many more memory is sure to have room for it.
    /// `None`: no memory could.
    pub const fn block_size(layout: Layout) -> Option<usize> {
        let Some(size) = layout.size().checked_add(padding(layout)) else {
            return None;
        };
        let Some(size) = size.checked_next_multiple_of(GRANULARITY) else {
            return None;
        };
        // From one power of two to the next, classes are so far apart.
        let step = (1 << size.ilog2()) / CLASSES;
        match step > GRANULARITY {
            true => size.checked_next_multiple_of(step),
            false => Some(size),
        }
    }

    /// Gives out a block; `None` where there is no piece of free memory that is large enough.
    pub fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let size = Self::block_size(layout)?;
        let whole = Layout::from_size_align(size - padding(layout), layout.align()).ok()?;
        let block = self.tlsf.allocate(whole)?;
        self.used += size;
        Some(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// It came from [`Heap::allocate`] of this heap, with this layout, and nobody uses it any more.
    pub unsafe fn deallocate(&mut self, block: NonNull<u8>, layout: Layout) {
        self.used -= Self::block_size(layout).unwrap_or(0);
        // SAFETY: the caller's promise; the alignment is that of the allocation.
        unsafe { self.tlsf.deallocate(block, layout.align()) };
    }

    /// Bytes of all blocks that are given out, as [`Heap::block_size`] has them.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes of memory that it has.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The most that precedes a block's first byte: blocks are aligned to [`GRANULARITY`].
const fn padding(layout: Layout) -> usize {
    HEADER + layout.align().saturating_sub(HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::alloc::{alloc, dealloc};

    /// Memory of the host's, into which a heap grows.
    struct Area {
        start: NonNull<u8>,
        layout: Layout,
        given: usize,
    }

    impl Area {
        fn new(size: usize) -> Area {
            let layout = Layout::from_size_align(size, 4096).unwrap();
            // SAFETY: the size is not 0.
            let start = NonNull::new(unsafe { alloc(layout) }).unwrap();
            Area {
                start,
                layout,
                given: 0,
            }
        }

        /// Lets the heap, always the same one, grow; false at the area's end.
        fn grow(&mut self, heap: &mut Heap, size: usize) -> bool {
            if self.given + size > self.layout.size() {
                return false;
            }
            // SAFETY: inside the area, and given to nobody yet.
            unsafe {
                heap.extend(NonNull::slice_from_raw_parts(
                    self.start.add(self.given),
                    size,
                ));
            }
            self.given += size;
            true
        }
    }

    impl Drop for Area {
        fn drop(&mut self) {
            // SAFETY: from `new`; its heap is not used any more.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }

    fn bytes(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        let size = prop_oneof![4 => 0..200usize, 2 => 200..5000usize, 1 => 5000..100_000usize];
        let align = prop_oneof![6 => 0..5u32, 1 => 5..13u32];
        (size, align).prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).unwrap())
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(Layout),
        Give(prop::sample::Index),
        Grow(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => layouts().prop_map(Step::Take),
            4 => any::<prop::sample::Index>().prop_map(Step::Give),
            1 => (1..17usize).prop_map(|pages| Step::Grow(pages * 4096)),
        ];
        prop::collection::vec(step, 1..400)
    }

    proptest! {
        /// Blocks are aligned, inside what the heap has, and their bytes nobody else's; what is counted adds up; and when all are back,
        /// the memory is one piece again, however it came.
        #[test]
        fn blocks_are_apart_and_memory_comes_together_again(steps in steps()) {
            let mut area = Area::new(4 << 20);
            let mut heap = Heap::empty();
            let mut blocks: Vec<(NonNull<u8>, Layout, u8)> = Vec::new();
            let mut used = 0;
            let give = |heap: &mut Heap, (block, layout, mark): (NonNull<u8>, Layout, u8)| {
                // SAFETY: given out with this layout, and not yet given back.
                unsafe {
                    let bytes = core::slice::from_raw_parts(block.as_ptr(), layout.size());
                    assert!(bytes.iter().all(|byte| *byte == mark), "a block was written to");
                    heap.deallocate(block, layout);
                }
                Heap::block_size(layout).unwrap()
            };
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Grow(size) => {
                        area.grow(&mut heap, size);
                    }
                    Step::Give(index) if !blocks.is_empty() => {
                        let index = index.index(blocks.len());
                        used -= give(&mut heap, blocks.swap_remove(index));
                    }
                    Step::Give(_) => {}
                    Step::Take(layout) => {
                        let Some(block) = heap.allocate(layout) else { continue };
                        let start = block.addr().get() - area.start.addr().get();
                        prop_assert!(block.addr().get().is_multiple_of(layout.align()));
                        prop_assert!(start + layout.size() <= heap.size());
                        // SAFETY: so many bytes were asked for.
                        unsafe { block.write_bytes(n as u8, layout.size()) };
                        blocks.push((block, layout, n as u8));
                        used += Heap::block_size(layout).unwrap();
                    }
                }
                prop_assert_eq!(heap.used(), used);
                prop_assert_eq!(heap.size(), area.given);
            }
            for block in blocks {
                give(&mut heap, block);
            }
            prop_assert_eq!(heap.used(), 0);
            // All but the last header, and what the class's size leaves.
            let most = heap.size().saturating_sub(heap.size() / CLASSES + 4 * GRANULARITY);
            prop_assert!(most == 0 || heap.allocate(bytes(most)).is_some());
        }

        /// Where a block found no room, it does after the heap has grown by what the block takes.
        #[test]
        fn a_block_fits_what_is_added_for_it(
            layouts in prop::collection::vec(layouts(), 1..100),
        ) {
            let mut area = Area::new(32 << 20);
            let mut heap = Heap::empty();
            prop_assert!(area.grow(&mut heap, 4096));
            for layout in layouts {
                if heap.allocate(layout).is_none() {
                    let more = Heap::block_size(layout).unwrap().next_multiple_of(4096);
                    prop_assert!(area.grow(&mut heap, more));
                    prop_assert!(heap.allocate(layout).is_some(), "{:?}", layout);
                }
            }
        }
    }

    /// The place of a block between two others is found again, whatever its size: the heap does not grow while equal blocks come
    /// and go.
    #[test]
    fn a_place_serves_the_same_request_again() {
        for size in (0..20_000).step_by(97) {
            let mut area = Area::new(128 << 10);
            let mut heap = Heap::empty();
            assert!(area.grow(&mut heap, 128 << 10));
            let [_before, block, _behind] =
                [1, size, 1].map(|size| heap.allocate(bytes(size)).unwrap());
            while heap.allocate(bytes(1)).is_some() {}
            // SAFETY: given out just now.
            unsafe { heap.deallocate(block, bytes(size)) };
            assert_eq!(heap.allocate(bytes(size)), Some(block), "{size} bytes");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut heap = Heap::empty();
        assert_eq!(heap.allocate(bytes(1)), None);
        let mut area = Area::new(64 << 10);
        assert!(area.grow(&mut heap, 64 << 10));
        let largest = isize::MAX as usize;
        for (size, align) in [
            (64 << 10, 1),
            (largest, 1),
            (largest - 4095, 4096),
            (0, 1 << 62),
            (1, 64 << 10),
        ] {
            let layout = Layout::from_size_align(size, align).unwrap();
            assert_eq!(heap.allocate(layout), None, "{layout:?}");
        }
        assert_eq!(heap.used(), 0);
        assert!(heap.allocate(bytes(60 << 10)).is_some());
    }
}
