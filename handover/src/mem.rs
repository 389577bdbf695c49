//! Physical memory as this library sees it: the one door to the machine.

use core::ptr::NonNull;

/// Size of a page frame in bytes. The formats of this crate are defined for 4 KiB pages.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Physical memory: how to reach it, and where pages come from.
///
/// In the kernel this is the direct map and the frame allocator; on the host it is simulated memory.
/// Implementations are cheap handles (often zero-sized) to shared state.
///
/// # Safety
///
/// - Where [`ptr`](Memory::ptr) returns `Some(p)`, the `len` bytes at `p` are mapped, readable and writable,
///   and stay so as long as the program runs; equal physical addresses give equal pointers.
/// - [`alloc_pages`](Memory::alloc_pages) returns memory that nobody else uses until it is freed; so does
///   [`alloc_zeroed_pages`](Memory::alloc_zeroed_pages), and all of it is zero.
pub unsafe trait Memory: Clone {
    /// The address at which `len` bytes from physical address `pa` on can be reached, or `None` where that range
    /// is not wholly RAM.
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>>;

    /// Allocates a block of `1 << order` pages, aligned to its size; its content is undefined.
    /// Never returns memory inside a scratch region. `None` if there is none left.
    fn alloc_pages(&self, order: u32) -> Option<u64>;

    /// The same with a content of zeroes. `None` also where the block cannot be reached.
    fn alloc_zeroed_pages(&self, order: u32) -> Option<u64> {
        let pa = self.alloc_pages(order)?;
        match self.ptr(pa, (PAGE_SIZE as usize) << order) {
            Some(block) => {
                // SAFETY: all of the block is writable, and nobody else uses it.
                unsafe { block.write_bytes(0, (PAGE_SIZE as usize) << order) };
                Some(pa)
            }
            None => {
                // SAFETY: the block was allocated just now, with this order, and nobody knows of it.
                unsafe { self.free_pages(pa, order) };
                None
            }
        }
    }

    /// Gives back a block of [`alloc_pages`](Memory::alloc_pages), or one taken over from a predecessor.
    ///
    /// # Safety
    ///
    /// Nobody uses the block any more, and it is freed once only, with the order that it was allocated with.
    unsafe fn free_pages(&self, pa: u64, order: u32);
}
