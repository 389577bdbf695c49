//! Simulated physical memory, for tests on the host: several ranges of RAM with holes between them, and a page allocator
//! that checks its callers.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use crate::mem::{Memory, PAGE_SIZE};
use crate::page::PageRef;
use crate::range::PhysRange;

/// Filled into allocated pages: their content is undefined, so tests meet something that is not zero.
const FRESH: u8 = 0xa5;
/// Filled into freed pages, so that a use after free shows.
const FREED: u8 = 0xdf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Given out, taken over or reserved.
    Used,
}

#[derive(Debug)]
struct Ram {
    range: PhysRange,
    memory: NonNull<u8>,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    /// One per page.
    states: Vec<State>,
    /// No page below this one is free.
    first_free: usize,
    /// How many are free.
    free: u64,
}

// SAFETY: the memory is reached through raw pointers only; who uses them keeps out of another's pages, as with real
// physical memory. Nothing is tied to a thread.
unsafe impl Send for Ram {}
// SAFETY: as above; the states are behind a mutex.
unsafe impl Sync for Ram {}

#[derive(Debug)]
struct Life {
    ram: &'static [Ram],
    /// Allocations that still succeed; `None` = no limit.
    allowed: Mutex<Option<u64>>,
}

/// A simulated machine's memory; a `Copy` handle, like the kernel's own.
///
/// The memory is never given back to the host, so that handles and pointers stay valid for the whole test; RAM that a
/// test does not touch costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct SimMemory(&'static Life);

/// `len` bytes of zeroes at a page's boundary, for good.
fn host_pages(len: usize) -> NonNull<u8> {
    // A page more than asked for, and aligned here: an allocation that is aligned by the host is filled with zeroes by
    // hand, so that all of the RAM would be resident.
    let layout = Layout::array::<u8>(len + PAGE_SIZE as usize)
        .expect("a range of RAM is no larger than the host's address space");
    // SAFETY: the layout's size is not 0.
    let start =
        NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
    let skip = start.align_offset(PAGE_SIZE as usize);
    // SAFETY: less than a page is skipped, and there is a page more than `len`.
    unsafe { start.add(skip) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock has already failed; others may go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimMemory {
    /// A machine with these ranges of RAM (page-aligned, disjoint), all free and zero.
    ///
    /// # Panics
    ///
    /// Where a range is empty, not page-aligned, or overlaps another.
    pub fn new(ram: &[PhysRange]) -> Self {
        let mut all: Vec<Ram> = Vec::new();
        for &range in ram {
            assert!(!range.is_empty() && range.is_page_aligned(), "{range}");
            assert!(all.iter().all(|r| !r.range.overlaps(&range)), "{range}");
            let memory = host_pages(range.len() as usize);
            let pages = (range.len() / PAGE_SIZE) as usize;
            all.push(Ram {
                range,
                memory,
                pages: Mutex::new(Pages {
                    states: std::vec![State::Free; pages],
                    first_free: 0,
                    free: pages as u64,
                }),
            });
        }
        all.sort_by_key(|r| r.range);
        SimMemory::life(all.leak())
    }

    fn life(ram: &'static [Ram]) -> Self {
        SimMemory(Box::leak(Box::new(Life {
            ram,
            allowed: Mutex::new(None),
        })))
    }

    /// The ranges of RAM, sorted.
    pub fn ram(&self) -> Vec<PhysRange> {
        self.0.ram.iter().map(|r| r.range).collect()
    }

    /// What a kexec does to memory: its content stays, the allocator forgets everything. The old handle must not be used
    /// any more.
    pub fn kexec(self) -> SimMemory {
        for ram in self.0.ram {
            let mut pages = lock(&ram.pages);
            pages.states.fill(State::Free);
            pages.first_free = 0;
            pages.free = pages.states.len() as u64;
        }
        SimMemory::life(self.0.ram)
    }

    /// Keeps the allocator off the pages that `range` touches (scratch, an image, what a predecessor preserved); pages
    /// that are not RAM or already in use do not matter.
    pub fn reserve(&self, range: PhysRange) {
        self.each_page(range, |state| *state = State::Used);
    }

    /// From here on, `n` more allocations succeed; the next ones fail. `None`: no limit.
    pub fn fail_after(&self, n: Option<u64>) {
        *lock(&self.0.allowed) = n;
    }

    /// Number of free pages.
    pub fn free_pages_left(&self) -> u64 {
        self.0.ram.iter().map(|ram| lock(&ram.pages).free).sum()
    }

    /// Whether the page at `pa` is RAM and in use.
    pub fn is_used(&self, pa: u64) -> bool {
        let mut used = false;
        self.each_page(PhysRange::new(pa, pa + 1), |state| {
            used = *state == State::Used
        });
        used
    }

    /// Copies bytes out.
    ///
    /// # Panics
    ///
    /// Where the range is not RAM.
    pub fn read(&self, pa: u64, len: usize) -> Vec<u8> {
        let from = self.ptr(pa, len).expect("a range of RAM");
        let mut bytes = std::vec![0; len];
        // SAFETY: `ptr` vouches for `len` bytes there, which are initialised from the start; the vector is another
        // allocation of that length.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(bytes.as_mut_slice()).cast(), len) };
        bytes
    }

    /// Copies bytes in.
    ///
    /// # Panics
    ///
    /// Where the range is not RAM.
    pub fn write(&self, pa: u64, bytes: &[u8]) {
        let to = self.ptr(pa, bytes.len()).expect("a range of RAM");
        // SAFETY: `ptr` vouches for that many bytes there, and nobody holds references into simulated memory across a
        // call of this.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    fn each_page(&self, range: PhysRange, mut f: impl FnMut(&mut State)) {
        let range = range.page_align_outwards();
        for ram in self.0.ram {
            if let Some(part) = ram.range.intersect(&range) {
                let first = ((part.start - ram.range.start) / PAGE_SIZE) as usize;
                let count = (part.len() / PAGE_SIZE) as usize;
                let pages = &mut *lock(&ram.pages);
                pages.first_free = pages.first_free.min(first);
                for state in &mut pages.states[first..first + count] {
                    pages.free -= u64::from(*state == State::Free);
                    f(state);
                    pages.free += u64::from(*state == State::Free);
                }
            }
        }
    }

    fn fill(&self, block: PageRef, byte: u8) {
        if let Some(start) = self.ptr(block.pa, block.size() as usize) {
            // SAFETY: the block is RAM, and belongs to nobody: it is just being allocated or freed.
            unsafe { start.write_bytes(byte, block.size() as usize) };
        }
    }
}

// SAFETY: each range of RAM is one allocation of the host, initialised, aligned to a page and never freed; `ptr` gives
// pointers into it only where the whole range lies inside. `alloc_pages` gives out free pages only.
unsafe impl Memory for SimMemory {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        let wanted = PhysRange::with_len(pa, len as u64)?;
        let ram = self.0.ram.iter().find(|r| r.range.contains(pa))?;
        if !ram.range.contains_range(&wanted) {
            return None;
        }
        // SAFETY: the offset lies within the allocation of this range.
        Some(unsafe { ram.memory.add((pa - ram.range.start) as usize) })
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        let order = u8::try_from(order).ok()?;
        if let Some(left) = lock(&self.0.allowed).as_mut() {
            *left = left.checked_sub(1)?;
        }
        for ram in self.0.ram {
            let mut pages = lock(&ram.pages);
            let used = |state: &State| *state == State::Used;
            while pages.states.get(pages.first_free).is_some_and(used) {
                pages.first_free += 1;
            }
            let mut pa = ram.range.start + pages.first_free as u64 * PAGE_SIZE;
            loop {
                let size = PageRef { pa, order }.size();
                // Page 0 is RAM on many machines, and given out by none.
                pa = pa.max(PAGE_SIZE).next_multiple_of(size);
                let block = PageRef::new(pa, order).ok()?;
                if !ram.range.contains_range(&block.range()) {
                    break;
                }
                let first = ((pa - ram.range.start) / PAGE_SIZE) as usize;
                let states = &mut pages.states[first..first + block.pages() as usize];
                if !states.iter().any(used) {
                    states.fill(State::Used);
                    pages.free -= block.pages();
                    self.fill(block, FRESH);
                    return Some(pa);
                }
                pa += size;
            }
        }
        None
    }

    /// # Panics
    ///
    /// Where a page of the block is not in use: it was freed twice, or never was RAM.
    unsafe fn free_pages(&self, pa: u64, order: u32) {
        let block = PageRef {
            pa,
            order: order as u8,
        };
        block.check().expect("a block that can be freed");
        let mut pages = 0;
        self.each_page(block.range(), |state| {
            assert_eq!(*state, State::Used, "{block} is freed, but is not in use");
            *state = State::Free;
            pages += 1;
        });
        assert_eq!(pages, block.pages(), "{block} is freed, but is not all RAM");
        self.fill(block, FREED);
    }
}
