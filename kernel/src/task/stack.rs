//! Kernel stacks of tasks: pages of the frame allocator at an address that goes with the slot, and unmapped ones below them.

use crate::boot::paging::Rights;
use crate::memory::{self, IrqMutex, Phys};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use handover::mem::Memory;
use kernel::layout::{PAGE, TASK_STACK_STRIDE, TASK_STACKS};
use kernel::sched::Slot;

/// Size of a kernel thread's stack in bytes, where nothing else is asked for.
pub const SIZE: u64 = 64 * 1024;
/// The largest stack: at least a page of each stride stays unmapped.
pub const MAX_SIZE: u64 = TASK_STACK_STRIDE - PAGE;
/// The most that are freed at once.
pub const BATCH: usize = 64;

/// A mapped stack.
pub struct Stack {
    slot: Slot,
    /// Its pages in physical memory, from the bottom; none any more after [`Stack::withdraw`].
    pages: IrqMutex<Vec<u64>>,
}

/// Sizes of the stacks that are mapped, by slot, in pages.
static PAGES: [AtomicU64; super::table::SLOTS] = [const { AtomicU64::new(0) }; _];

fn top_of(slot: usize) -> u64 {
    TASK_STACKS + (slot as u64 + 1) * TASK_STACK_STRIDE
}

impl Stack {
    /// Maps the stack of a slot, which has none; `None` where there is no memory.
    pub fn new(slot: Slot, size: u64) -> Option<Stack> {
        let count = size.clamp(PAGE, MAX_SIZE).div_ceil(PAGE);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count as usize).ok()?;
        let bottom = top_of(usize::from(slot)) - count * PAGE;
        for at in (bottom..).step_by(PAGE as usize).take(count as usize) {
            let page = Phys.alloc_pages(0);
            let mapped = page.filter(|pa| {
                let mapped = memory::map_pages(at, *pa, PAGE, Rights::ReadWrite).is_ok();
                if !mapped {
                    // SAFETY: allocated just now, and mapped nowhere.
                    unsafe { Phys.free_pages(*pa, 0) };
                }
                mapped
            });
            let Some(page) = mapped else {
                // SAFETY: nobody has been told of it.
                unsafe {
                    memory::unmap_pages(bottom, pages.len() as u64);
                    free(&pages);
                }
                return None;
            };
            pages.push(page);
        }
        PAGES[usize::from(slot)].store(count, Relaxed);
        Some(Stack {
            slot,
            pages: IrqMutex::new(pages),
        })
    }

    /// The same stack, for who sees to its end. What is left only knows where it was.
    pub fn withdraw(&self) -> Stack {
        let pages = core::mem::take(&mut *self.pages.lock());
        Stack {
            slot: self.slot,
            pages: IrqMutex::new(pages),
        }
    }

    /// The slot with which its address goes.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.pages.lock().len() as u64 * PAGE
    }

    /// The address just above it.
    pub fn top(&self) -> u64 {
        top_of(usize::from(self.slot))
    }
}

/// Unmaps stacks on all CPUs, which are asked once, and frees their memory.
///
/// # Safety
/// No CPU uses them, or will.
pub unsafe fn free_all(stacks: ArrayVec<Stack, BATCH>) {
    let ranges: ArrayVec<(u64, u64), BATCH> = stacks
        .iter()
        .map(|stack| (stack.top() - stack.size(), stack.size() / PAGE))
        .collect();
    for stack in &stacks {
        PAGES[usize::from(stack.slot)].store(0, Relaxed);
    }
    // SAFETY: the caller's promise; and then no CPU can reach the pages through the stacks' addresses any more.
    unsafe {
        memory::unmap_ranges(&ranges);
        stacks.iter().for_each(|stack| free(&stack.pages.lock()));
    }
}

/// # Safety
/// The pages are nobody's any more.
unsafe fn free(pages: &[u64]) {
    for pa in pages {
        // SAFETY: the caller's promise.
        unsafe { Phys.free_pages(*pa, 0) };
    }
}

/// Pages of memory that the stacks of tasks take, also those that are kept for the next ones.
pub fn pages() -> u64 {
    PAGES.iter().map(|pages| pages.load(Relaxed)).sum()
}

/// The slot in whose stride an address lies.
fn slot_of(address: u64) -> Option<usize> {
    let slot = (address.checked_sub(TASK_STACKS)? / TASK_STACK_STRIDE) as usize;
    (slot < super::table::SLOTS).then_some(slot)
}

/// Whether `len` bytes at `address` lie inside a task's stack.
pub fn holds(address: u64, len: u64) -> bool {
    slot_of(address).is_some_and(|slot| {
        let (top, size) = (top_of(slot), PAGES[slot].load(Relaxed) * PAGE);
        address >= top - size && address.checked_add(len).is_some_and(|end| end <= top)
    })
}

/// Whether `address` lies below a task's stack, where nothing is mapped.
pub fn guard_of(address: u64) -> bool {
    slot_of(address).is_some_and(|slot| {
        let size = PAGES[slot].load(Relaxed) * PAGE;
        size > 0 && address < top_of(slot) - size
    })
}
