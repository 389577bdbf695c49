//! Memory for `alloc`: one mapping, made at the first allocation. Its pages come as they are used.

use crate::abi::{PROT_READ, PROT_WRITE};
use crate::sys;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use linked_list_allocator::Heap;

/// Bytes that a program can allocate.
const HEAP_BYTES: usize = 16 << 20;

struct UserHeap(UnsafeCell<Heap>);

// SAFETY: a process has one thread, and there are no signal handlers: nothing comes between.
unsafe impl Sync for UserHeap {}

#[global_allocator]
static HEAP: UserHeap = UserHeap(UnsafeCell::new(Heap::empty()));

// SAFETY: the list allocator's blocks are disjoint and aligned as asked.
unsafe impl GlobalAlloc for UserHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the process's only thread, and the borrow ends here.
        let heap = unsafe { &mut *self.0.get() };
        if heap.size() == 0 {
            let Ok(at) = sys::mmap_anonymous(HEAP_BYTES, PROT_READ | PROT_WRITE) else {
                return core::ptr::null_mut();
            };
            // SAFETY: mapped just now, for this alone, for good.
            unsafe { heap.init(at, HEAP_BYTES) };
        }
        heap.allocate_first_fit(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the process's only thread; the block came from `alloc` with this layout.
            unsafe { (*self.0.get()).deallocate(block, layout) };
        }
    }
}
