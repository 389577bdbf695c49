//! The heap: `linked_list_allocator` over virtual memory that grows page by page as it is needed.

use super::{IrqMutex, map_pages, table_page};
use crate::boot::early;
use crate::boot::paging::Rights;
use crate::events;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use kernel::layout::{HEAP, HEAP_MAX, PAGE, align_up};
use linked_list_allocator::Heap;

/// What the heap has before the frame allocator is there: a start allocates about a fifth of it.
pub const FIRST: u64 = 1 << 20;
/// It grows by at least this much.
const STEP: u64 = 1 << 20;

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
    /// Maps up to `size` bytes in all, or nothing where it is clear that there is not enough memory: a request that
    /// cannot be met must not take what others need.
    fn map_to(&mut self, size: u64) -> Option<()> {
        let pages = size.saturating_sub(self.mapped).div_ceil(PAGE);
        let tables = pages / 512 + 4;
        if size > HEAP_MAX || super::pages_left().is_some_and(|left| pages + tables > left) {
            return None;
        }
        while self.mapped < size {
            let mapped = table_page()
                .and_then(|page| map_pages(HEAP + self.mapped, page, PAGE, Rights::ReadWrite).ok());
            if mapped.is_none() {
                early::miss((size - self.mapped) / PAGE);
                return None;
            }
            self.mapped += PAGE;
        }
        Some(())
    }

    fn grow(&mut self, layout: Layout) -> Option<()> {
        let more = align_up(layout.size() as u64 + layout.align() as u64 + 64, PAGE).max(STEP);
        let size = self.heap.size() as u64;
        self.map_to(size.checked_add(more)?)?;
        // SAFETY: the memory behind the heap's end has just been mapped, and nothing else uses that area.
        unsafe { self.heap.extend(more as usize) };
        Some(())
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
        None => global.map_to(FIRST),
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
    // SAFETY: mapped just now, and used by nothing else.
    unsafe { global.heap.init(HEAP as *mut u8, FIRST as usize) };
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
fn tell_allocated(block: u64, layout: Layout) {
    // As the crate rounds it up: room for a hole's header, and whole words.
    let taken = align_up((layout.size() as u64).max(16), 8);
    // Linux's flags of an allocation that may sleep, and of one that may not (`GFP_KERNEL`, `GFP_ATOMIC`).
    let flags = match x86_64::instructions::interrupts::are_enabled() {
        true => 0xcc0,
        false => 0x820,
    };
    // No memory nodes: -1, as in Linux where none was asked for.
    events::kmalloc(call_site(), block, layout.size() as u64, taken, flags, -1);
}

#[cold]
#[inline(never)]
fn tell_freed(block: u64) {
    events::kfree(call_site(), block);
}

// SAFETY: the list allocator's blocks are disjoint and aligned as asked; the lock serialises.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = {
            let mut global = self.0.lock();
            let block = global.heap.allocate_first_fit(layout).or_else(|()| {
                global.grow(layout).ok_or(())?;
                global.heap.allocate_first_fit(layout)
            });
            block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
        };
        if events::kmalloc::enabled() && !block.is_null() {
            tell_allocated(block as u64, layout);
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
