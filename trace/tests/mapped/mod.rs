//! A mapping as a user process would have it: the pages themselves, by their physical addresses.

mod page;

use core::sync::atomic::{AtomicU32, AtomicU64};
use handover::mem::{Memory, PAGE_SIZE};
pub use page::page;
use trace::testing::TestPlatform;

/// The whole of a mapping.
pub struct Mapped {
    pub meta: &'static [AtomicU64],
    pub subs: Vec<&'static [AtomicU32]>,
}

impl Mapped {
    /// Of these pages, for sub-buffers of `order`.
    pub fn new(platform: TestPlatform, pages: &[u64], order: u8) -> Self {
        let each = 1 << order;
        let bytes = (PAGE_SIZE as usize) << order;
        let subs = pages[each..].chunks(each).map(|pages| {
            for (i, page) in pages.iter().enumerate() {
                assert_eq!(*page, pages[0] + i as u64 * PAGE_SIZE);
            }
            let base = platform.ptr(pages[0], bytes).expect("RAM");
            // SAFETY: simulated memory stays for the whole test, and its pages begin at a page's boundary. The ring accesses
            // them by atomics only.
            unsafe { core::slice::from_raw_parts(base.cast::<AtomicU32>().as_ptr(), bytes / 4) }
        });
        let subs = subs.collect();
        Mapped {
            meta: page(platform, pages[0]),
            subs,
        }
    }
}
