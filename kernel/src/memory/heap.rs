//! The heap: [`kernel::heap`] over virtual memory that grows as it is needed.
//!
//! Interrupts are off for a bounded time only: a large block is grown for step by step, its bytes are zeroed or copied by who asks for
//! it, and the bookkeeping looks at no more than a few blocks.

use super::{Gfp, IrqMutex, map_pages, table_page};
use crate::boot::early;
use crate::boot::paging::Rights;
use crate::events;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use kernel::heap::Heap;
use kernel::layout::{HEAP, HEAP_MAX, PAGE};

/// What the heap has before the frame allocator is there: a start allocates about a third of it.
pub const FIRST: u64 = 1 << 20;
/// It grows by this much at a time, with interrupts off.
const STEP: u64 = 16 * PAGE;

struct KernelHeap {
    heap: Heap,
    /// Mapped bytes from [`HEAP`] on; pages of a growth that failed half-way stay for the next one.
    mapped: u64,
}

struct Global(IrqMutex<KernelHeap>);

#[global_allocator]
static GLOBAL: Global = Global(IrqMutex::new(KernelHeap {
    heap: Heap::empty(),
    mapped: 0,
}));

impl KernelHeap {
    /// Maps up to `size` bytes in all.
    fn map_to(&mut self, size: u64) -> Option<()> {
        while self.mapped < size {
            let page = table_page()?;
            map_pages(HEAP + self.mapped, page, PAGE, Rights::ReadWrite).ok()?;
            self.mapped += PAGE;
        }
        Some(())
    }

    /// The size, in whole steps, at which the heap is sure to have room for a block. `None` where it is clear that there is not enough memory: a request
    /// that cannot be met must not take what others need.
    fn goal(&self, layout: Layout) -> Option<u64> {
        let more = Heap::block_size(layout)? as u64;
        let goal = (self.heap.size() as u64).checked_add(more)?;
        let goal = goal.checked_next_multiple_of(STEP)?;
        let pages = goal.saturating_sub(self.mapped).div_ceil(PAGE);
        let tables = pages / 512 + 4;
        let enough = super::pages_left().is_none_or(|left| pages + tables <= left);
        (goal <= HEAP_MAX && enough).then_some(goal)
    }

    /// Grows by a step.
    fn grow(&mut self) -> Option<()> {
        let size = self.heap.size() as u64;
        self.map_to(size + STEP)?;
        self.extend_to(size + STEP);
        Some(())
    }

    /// Makes what is mapped up to `size` bytes part of the heap.
    fn extend_to(&mut self, size: u64) {
        let old = self.heap.size() as u64;
        assert!(size <= self.mapped);
        let end = (HEAP + old) as *mut u8;
        let memory = core::ptr::slice_from_raw_parts_mut(end, (size - old) as usize);
        if let Some(memory) = NonNull::new(memory) {
            // SAFETY: mapped for good, behind the heap's end, and nothing else uses that area.
            unsafe { self.heap.extend(memory) };
        }
    }
}

/// Maps the heap's first pages. Called once, before anything is allocated.
pub fn init() {
    let mut global = GLOBAL.0.lock();
    let mapped = match early::take(FIRST / PAGE) {
        Some(pages) => map_pages(HEAP, pages, FIRST, Rights::ReadWrite)
            .map(|()| global.mapped = FIRST)
            .inspect_err(|_| early::miss(1))
            .ok(),
        // Page by page it comes out how many are missing.
        None => {
            let mapped = global.map_to(FIRST);
            mapped.or_else(|| {
                early::miss((FIRST - global.mapped) / PAGE);
                None
            })
        }
    };
    if mapped.is_none() {
        match early::shortage() {
            Some(shortage) => {
                crate::power::reset_with(format_args!("baton: {shortage}; the machine is reset"))
            }
            None => crate::power::reset_with(format_args!(
                "baton: no memory for the first {FIRST} bytes of heap; the machine is reset"
            )),
        }
    }
    global.extend_to(FIRST);
}

/// Bytes of the heap: in use, in all.
pub fn heap_use() -> (usize, usize) {
    let global = GLOBAL.0.lock();
    (global.heap.used(), global.heap.size())
}

/// The nearest caller outside of the allocator, for the trace: behind this module's function, the allocator's own and the shim
/// that the compiler puts before it.
#[inline(always)]
fn call_site() -> u64 {
    let mut callers = [0; 3];
    let found = crate::report::callers(&mut callers);
    callers[found.clamp(1, callers.len()) - 1]
}

#[cold]
#[inline(never)]
fn tell_allocated(block: u64, layout: Layout, gfp: Gfp) {
    let taken = Heap::block_size(layout).unwrap_or(0) as u64;
    // No memory nodes: -1, as in Linux where none was asked for.
    events::kmalloc(
        call_site(),
        block,
        layout.size() as u64,
        taken,
        gfp.bits(),
        -1,
    );
}

#[cold]
#[inline(never)]
fn tell_freed(block: u64) {
    events::kfree(call_site(), block);
}

impl Global {
    /// A block, or null.
    fn take(&self, layout: Layout) -> *mut u8 {
        // The size up to which it is being grown for this block.
        let mut goal = 0;
        loop {
            // Free in between: others may take of what the heap has grown by, and then it grows further.
            let mut global = self.0.lock();
            if let Some(block) = global.heap.allocate(layout) {
                return block.as_ptr();
            }
            if goal <= global.heap.size() as u64 {
                match global.goal(layout) {
                    Some(new) => goal = new,
                    None => return core::ptr::null_mut(),
                }
            }
            if global.grow().is_none() {
                early::miss(goal.saturating_sub(global.mapped).div_ceil(PAGE));
                return core::ptr::null_mut();
            }
        }
    }
}

// SAFETY: the heap's blocks are disjoint and aligned as asked; the lock serialises.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.take(layout);
        if events::kmalloc::enabled() && !block.is_null() {
            tell_allocated(block as u64, layout, Gfp::KERNEL);
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = self.take(layout);
        if !block.is_null() {
            // SAFETY: the block is of that size, and nobody else's.
            unsafe { block.write_bytes(0, layout.size()) };
            if events::kmalloc::enabled() {
                tell_allocated(block as u64, layout, Gfp::KERNEL.zeroed());
            }
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if events::kfree::enabled() {
            tell_freed(block as u64);
        }
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the block came from `alloc` with this layout.
            unsafe { self.0.lock().heap.deallocate(block, layout) };
        }
    }
}
