//! Memory before there is an allocator: pages from one range, one after the other. After a kexec that range is scratch.
//!
//! A start that needs more than there is cannot go on; [`Shortage`] says by how much.

use crate::memory::IrqMutex;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use handover::range::PhysRange;
use kernel::layout::PAGE;

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

    /// Takes `pages` pages in a row. What is in them is what was there: page tables and bitmaps are zeroed by who makes them, and a heap
    /// and stacks need not be, which in a blackout is time.
    pub fn take(&mut self, pages: u64) -> Option<u64> {
        let end = self.next.checked_add(pages.checked_mul(PAGE)?)?;
        if end > self.range.end {
            return None;
        }
        Some(core::mem::replace(&mut self.next, end))
    }

    /// What is short where so many pages more are needed.
    pub fn shortage(&self, pages: u64) -> Shortage {
        let left = (self.range.end - self.next) / PAGE;
        Shortage {
            given: self.range.end - self.range.start,
            missing: pages.saturating_sub(left) * PAGE,
        }
    }

    /// What has been taken.
    pub fn used(&self) -> PhysRange {
        PhysRange {
            start: self.range.start,
            end: self.next,
        }
    }
}

/// Early pages do not suffice: bytes.
#[derive(Clone, Copy, Debug)]
pub struct Shortage {
    /// What there is.
    given: u64,
    /// What is known to be needed beyond that; what would come after it is not.
    missing: u64,
}

/// `this start has 300 KiB of early memory, and needs 1020 KiB more at least`.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this start has {} KiB of early memory, and needs {} KiB more at least",
            self.given / 1024,
            self.missing.div_ceil(1024)
        )
    }
}

/// What was short last, in bytes; 0 as long as nothing was.
static MISSING: AtomicU64 = AtomicU64::new(0);

static EARLY: IrqMutex<Option<Early>> = IrqMutex::new(None);

/// Keeps the allocator for the time until the frame allocator is there.
pub fn keep(early: Early) {
    *EARLY.lock() = Some(early);
}

/// Takes pages. `None` after [`close`], or where there are none left.
pub fn take(pages: u64) -> Option<u64> {
    EARLY.lock().as_mut()?.take(pages)
}

/// Says that so many pages are needed, of which some were not to be had.
pub fn miss(pages: u64) {
    if let Some(early) = EARLY.lock().as_ref() {
        MISSING.store(early.shortage(pages).missing, Relaxed);
    }
}

/// What is short, in a start that has not come to its frame allocator: for its last words.
pub fn shortage() -> Option<Shortage> {
    let missing = MISSING.load(Relaxed);
    let early = EARLY.lock();
    let shortage = early.as_ref()?.shortage(0);
    (missing > 0).then_some(Shortage {
        missing,
        ..shortage
    })
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
