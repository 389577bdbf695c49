//! A page of simulated memory.

use core::sync::atomic::AtomicU64;
use handover::mem::{Memory, PAGE_SIZE};
use trace::testing::TestPlatform;

/// The page at this physical address.
pub fn page(platform: TestPlatform, pa: u64) -> &'static [AtomicU64] {
    let base = platform.ptr(pa, PAGE_SIZE as usize).expect("RAM");
    // SAFETY: simulated memory stays for the whole test, and its pages begin at a page's boundary; whoever else knows the page
    // accesses it by atomics of this size.
    unsafe {
        core::slice::from_raw_parts(base.cast::<AtomicU64>().as_ptr(), PAGE_SIZE as usize / 8)
    }
}
