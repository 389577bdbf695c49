//! Memory before there is an allocator: pages from one range, one after the other. After a kexec that range is scratch.

use crate::memory::IrqMutex;
use handover::range::PhysRange;
use kernel::layout::{DIRECT_MAP, PAGE};

/// A range of which pages are taken from the front.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    range: PhysRange,
    next: u64,
}

impl Early {
    pub fn new(range: PhysRange) -> Self {
        Early {
            range,
            next: range.start,
        }
    }

    /// Takes `pages` zeroed pages in a row.
    pub fn take(&mut self, pages: u64) -> Option<u64> {
        let end = self.next.checked_add(pages.checked_mul(PAGE)?)?;
        if end > self.range.end {
            return None;
        }
        let at = core::mem::replace(&mut self.next, end);
        // SAFETY: the range is RAM that this allocator alone gives out, and the direct map covers it.
        unsafe { core::ptr::write_bytes((DIRECT_MAP + at) as *mut u8, 0, (pages * PAGE) as usize) };
        Some(at)
    }

    /// What has been taken.
    pub fn used(&self) -> PhysRange {
        PhysRange {
            start: self.range.start,
            end: self.next,
        }
    }
}

static EARLY: IrqMutex<Option<Early>> = IrqMutex::new(None);

/// Keeps the allocator for the time until the frame allocator is there.
pub fn keep(early: Early) {
    *EARLY.lock() = Some(early);
}

/// Takes pages. `None` after [`close`], or where there are none left.
pub fn take(pages: u64) -> Option<u64> {
    EARLY.lock().as_mut()?.take(pages)
}

/// What has been taken so far.
pub fn used() -> PhysRange {
    EARLY
        .lock()
        .as_ref()
        .map_or(PhysRange { start: 0, end: 0 }, Early::used)
}

/// Ends it; what was taken in all.
pub fn close() -> PhysRange {
    EARLY
        .lock()
        .take()
        .map_or(PhysRange { start: 0, end: 0 }, |early| early.used())
}
