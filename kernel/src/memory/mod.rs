//! Memory once the direct map stands: frames, the preserved map, the heap, windows to devices.
//!
//! Who owns which page: a page frame is the buddy's (free), preserved (in [`PRESERVED`], whoever asked for it), inside a
//! scratch region (the running image, its early pages, a loaded image), boot-owned (cold start only), or an allocated
//! frame of this life, which the next life finds free.

mod division;
mod gfp;
mod heap;
mod lock;
pub mod persistent;

pub use gfp::Gfp;
pub use heap::{FIRST as FIRST_HEAP, heap_use, init as init_heap};
pub use lock::{IrqMutex, without_interrupts};

use crate::boot::paging::{MapError, Rights, Tables};
use crate::boot::{self, Origin, early};
use crate::events;
use crate::handing::{Outcome, Received, outcome, phase};
use crate::machine::ipi::{self, Flush};
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use division::Division;
use handover::mem::Memory;
use handover::radix::PreservedMap;
use handover::range::PhysRange;
use kernel::buddy::{Buddy, words_needed};
use kernel::layout::{DIRECT_MAP, PAGE, WINDOW, align_up};
use kernel::params::{Kind, MAX_REGIONS, Region};
use kernel::pool::ScratchPool;
use spin::Once;

/// All of this machine's memory, as a handle: `handover`'s and `trace`'s door to it.
#[derive(Clone, Copy, Debug)]
pub struct Phys;

/// The frame allocator.
static FRAMES: IrqMutex<Option<Buddy<'static>>> = IrqMutex::new(None);
/// What is preserved for the next life; it is handed over in place.
static PRESERVED: IrqMutex<Option<PreservedMap<Phys>>> = IrqMutex::new(None);
/// The scratch regions, and who has what of them.
static SCRATCH: IrqMutex<Option<ScratchPool>> = IrqMutex::new(None);
/// The memory map as this life sees it, and hands it on.
static REGIONS: Once<arrayvec::ArrayVec<Region, MAX_REGIONS>> = Once::new();

/// Bytes of early pages that this start took.
static EARLY_USED: AtomicU64 = AtomicU64::new(0);

/// Bytes of early pages that a start like this one takes.
pub fn early_used() -> u64 {
    EARLY_USED.load(Relaxed)
}

// SAFETY: `ptr` gives addresses in the direct map, which covers all RAM for the kernel's whole life; `alloc_pages` gives
// out what the buddy has, which never holds scratch.
unsafe impl Memory for Phys {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        let end = pa.checked_add(len as u64)?;
        let regions = REGIONS.get().unwrap_or(&boot::info().regions);
        regions
            .iter()
            .filter(|r| matches!(r.kind(), Kind::Ram | Kind::Persistent))
            .any(|r| pa >= r.extent.addr && end <= r.extent.addr + r.extent.size)
            .then(|| NonNull::new((DIRECT_MAP + pa) as *mut u8))?
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        alloc(order, Gfp::KERNEL)
    }

    fn alloc_zeroed_pages(&self, order: u32) -> Option<u64> {
        alloc(order, Gfp::KERNEL.zeroed())
    }

    unsafe fn free_pages(&self, pa: u64, order: u32) {
        events::mm_page_free(pa / PAGE, order);
        // A range: the preserved map knows larger blocks than this allocator.
        let pfn = pa / PAGE;
        let freed = FRAMES
            .lock()
            .as_mut()
            .map(|frames| frames.free_range(pfn, pfn + (1 << order)));
        if let Some(Err(error)) = freed {
            crate::error!("memory: {error}");
        }
    }
}

/// Allocates `1 << order` page frames, zeroed where `gfp` says so; their physical address.
pub fn alloc(order: u32, gfp: Gfp) -> Option<u64> {
    let pfn = FRAMES.lock().as_mut()?.alloc(order)?;
    let pa = pfn * PAGE;
    if gfp.is_zeroed() {
        // SAFETY: the frames are nobody else's, and all RAM is in the direct map.
        unsafe {
            core::ptr::write_bytes((DIRECT_MAP + pa) as *mut u8, 0, (PAGE << order) as usize)
        };
    }
    trace::event!(events::mm_page_alloc(pfn, order, gfp.bits(), UNMOVABLE));
    Some(pa)
}

/// Linux's `MIGRATE_UNMOVABLE`: nobody moves a page here.
const UNMOVABLE: i32 = 0;

/// RAM of the memory map, as ranges.
pub fn ram() -> Vec<PhysRange> {
    let regions = REGIONS.get().unwrap_or(&boot::info().regions);
    regions
        .iter()
        .filter(|r| r.kind() == Kind::Ram)
        .filter_map(|r| r.extent.range())
        .collect()
}

/// The RAM of the ramtrace region.
pub fn persistent() -> Option<PhysRange> {
    let mut persistent = regions().iter().filter(|r| r.kind() == Kind::Persistent);
    persistent.next()?.extent.range()
}

/// Bytes of RAM that this life must not touch, since a handover was refused.
pub fn left_alone() -> u64 {
    let left = regions().iter().filter(|r| r.kind() == Kind::LeftAlone);
    left.map(|r| r.extent.size).sum()
}

/// The memory map as this kernel hands it on.
pub fn regions() -> &'static [Region] {
    REGIONS.get().unwrap_or(&boot::info().regions)
}

/// Brings up the frame allocator and the preserved map. With a handover, what is preserved is left out of the former and
/// the map is the predecessor's, in place. A kernel that refused a handover keeps to scratch.
pub fn init(received: &Received) {
    phase("start");
    let info = boot::info();
    let mut map = received.take_map();
    let ram: Vec<PhysRange> = ram();
    // The frame allocator's bitmaps lie in early pages, which a kexec finds in scratch: of ordinary memory there may be
    // nothing in a row.
    let words = words_needed(ram.iter().map(|r| r.end).max().unwrap_or(0) / PAGE);
    let bitmaps = early::take((words as u64 * 8).div_ceil(PAGE));
    let mut division = match (info.origin, &map) {
        (Origin::Cold, _) => Division::cold(info, &ram),
        (Origin::Kexec, Some(map)) => Division::handed_over(info, &ram, map),
        (Origin::Kexec, None) if matches!(outcome(), Outcome::NotHandedOver(_)) => {
            Division::not_handed_over(info, &ram)
        }
        (Origin::Kexec, None) => Division::inside_scratch(info),
    };
    // Up to here the heap could still grow, from early pages.
    let early = early::close();
    EARLY_USED.store(early.end - early.start, Relaxed);
    let placed = info
        .placed
        .range()
        .into_iter()
        .chain([early])
        .collect::<Vec<_>>();
    division.take(&placed);
    REGIONS.call_once(|| division.regions.clone());
    init_frames(&mut division, &ram, bitmaps);
    if map.is_none() {
        match PreservedMap::new(Phys, division.scratch.clone()) {
            Ok(new) => map = Some(new),
            Err(error) => crate::error!("handover: {error}"),
        }
    }
    *PRESERVED.lock() = map;
    *SCRATCH.lock() = Some(ScratchPool::new(division.scratch, &placed));
    crate::info!(
        "memory: {} MiB of RAM, {} KiB free, {} KiB of scratch, {} pages preserved",
        self::ram().iter().map(|r| r.end - r.start).sum::<u64>() >> 20,
        free_pages() * 4,
        with_scratch(|pool| pool.regions().iter().map(|r| r.end - r.start).sum::<u64>()) >> 10,
        preserved_pages()
    );
    crate::info!("scratch: {}", scratch_usage());
}

/// Hands what is free to a new buddy, whose bitmaps are at `bitmaps`, or come out of the first range that has room for them.
fn init_frames(division: &mut Division, ram: &[PhysRange], bitmaps: Option<u64>) {
    let pages = ram.iter().map(|r| r.end).max().unwrap_or(0) / PAGE;
    let words = words_needed(pages);
    let bytes = align_up(words as u64 * 8, PAGE);
    let in_free = |division: &mut Division| {
        let start = division.free().find(|r| r.end - r.start >= bytes)?.start;
        division.take(&[PhysRange::new(start, start + bytes)]);
        Some(start)
    };
    let Some(at) = bitmaps.or_else(|| in_free(division)) else {
        crate::power::reset_with(format_args!(
            "baton: no {} KiB of free memory in a row for the frame allocator; the machine is reset",
            bytes >> 10
        ));
    };
    // SAFETY: early pages, or free RAM that nobody has yet, taken out of the free list just now, in the direct map, 8-byte
    // aligned; it stays the allocator's.
    let memory = unsafe { core::slice::from_raw_parts_mut((DIRECT_MAP + at) as *mut u64, words) };
    let mut frames = Buddy::new(pages, memory);
    for range in division.free() {
        if let Err(error) = frames.free_range(range.start / PAGE, range.end / PAGE) {
            crate::error!("memory: {error}");
        }
    }
    *FRAMES.lock() = Some(frames);
}

/// Pages that the heap may still take; `None` before there is a frame allocator.
fn pages_left() -> Option<u64> {
    FRAMES.lock().as_ref().map(Buddy::free_pages)
}

/// Pages that are kept for the kernel's own needs (heap, a handover's blobs) when somebody asks for many at once: a 16th
/// of the memory, at least 4 MiB, at most half of what is free.
pub fn reserve_pages() -> u64 {
    let total: u64 = regions()
        .iter()
        .filter(|r| r.kind() == Kind::Ram)
        .map(|r| r.extent.size / PAGE)
        .sum();
    (total / 16).max(1024).min(free_pages() / 2)
}

/// Number of free page frames.
pub fn free_pages() -> u64 {
    FRAMES.lock().as_ref().map_or(0, Buddy::free_pages)
}

/// Free blocks of each order.
pub fn free_blocks() -> [u64; kernel::buddy::MAX_ORDER as usize + 1] {
    FRAMES.lock().as_ref().map_or([0; _], Buddy::free_blocks)
}

/// Works with the preserved map.
///
/// # Errors
/// Passes on what `f` answers, or says that there is no map.
pub fn with_preserved<R>(
    f: impl FnOnce(&mut PreservedMap<Phys>) -> Result<R, handover::error::Error>,
) -> Result<R, alloc::string::String> {
    match PRESERVED.lock().as_mut() {
        Some(map) => f(map).map_err(|error| alloc::format!("{error}")),
        None => Err("this kernel has no preserved map, since there was no memory for it".into()),
    }
}

/// Number of preserved pages.
pub fn preserved_pages() -> u64 {
    PRESERVED
        .lock()
        .as_ref()
        .map_or(0, |map| map.preserved_pages())
}

/// Works with the scratch pool.
pub fn with_scratch<R>(f: impl FnOnce(&mut ScratchPool) -> R) -> R {
    f(SCRATCH.lock().get_or_insert_default())
}

/// How full scratch is, and what a crossing needs of it.
pub fn scratch_usage() -> handover::scratch::Usage {
    let needed = division::needed_by_a_crossing(early_used());
    with_scratch(|pool| pool.usage(needed))
}

/// Next free address in the window for devices and firmware tables.
static NEXT_WINDOW: AtomicU64 = AtomicU64::new(WINDOW);
/// Serialises changes to the page tables in force.
static TABLES: IrqMutex<()> = IrqMutex::new(());

/// Maps pages into the tables in force.
///
/// # Errors
/// [`MapError`].
pub fn map_pages(virt: u64, phys: u64, size: u64, rights: Rights) -> Result<(), MapError> {
    let _serialised = TABLES.lock();
    // SAFETY: the lock makes this the only change to the tables.
    let mut tables = unsafe { Tables::current() };
    tables.map(virt, phys, size, rights, &mut table_page)
}

/// Takes pages out of the tables in force, and out of what all CPUs remember of them. What they led to is not freed.
///
/// # Safety
/// Nobody uses these addresses any more.
pub unsafe fn unmap_pages(virt: u64, pages: u64) {
    // SAFETY: the caller's promise.
    unsafe { unmap_ranges(&[(virt, pages)]) };
}

/// The same for several ranges (virtual address, pages): the CPUs are asked once.
///
/// # Safety
/// Nobody uses these addresses any more.
pub unsafe fn unmap_ranges(ranges: &[(u64, u64)]) {
    for (virt, pages) in ranges {
        // Interrupts are off for one of them at a time.
        let _serialised = TABLES.lock();
        // SAFETY: the lock makes this the only change to the tables.
        let mut tables = unsafe { Tables::current() };
        for page in 0..*pages {
            // SAFETY: the caller's promise.
            unsafe { tables.unmap(virt + page * PAGE) };
        }
    }
    match *ranges {
        [] => {}
        [(virt, pages)] => ipi::tlb_shootdown(Flush::Pages(virt, pages)),
        _ => ipi::tlb_shootdown(Flush::All),
    }
}

/// A page for page tables or the heap: early memory first, the frame allocator once it is there.
pub fn table_page() -> Option<u64> {
    early::take(1).or_else(|| Phys.alloc_pages(0))
}

fn try_map_window(pa: u64, size: u64, rights: Rights) -> Result<u64, MapError> {
    let start = pa & !(PAGE - 1);
    let size = align_up(pa + size - start, PAGE);
    let virt = NEXT_WINDOW.fetch_add(size, Relaxed);
    map_pages(virt, start, size, rights)?;
    Ok(virt + (pa - start))
}

fn map_window(pa: u64, size: u64, rights: Rights) -> u64 {
    match try_map_window(pa, size, rights) {
        Ok(virt) => virt,
        Err(error) => {
            panic!("the window of {size:#x} bytes at {pa:#x} cannot be mapped: {error:?}")
        }
    }
}

/// Maps pages below 1 MiB, which are in no direct map; where they appear.
///
/// # Errors
/// [`MapError`].
pub fn map_low(pa: u64, size: u64) -> Result<u64, MapError> {
    try_map_window(pa, size, Rights::ReadWrite)
}

/// Maps device registers, uncached; where they appear.
pub fn map_device(pa: u64, size: u64) -> u64 {
    map_window(pa, size, Rights::Device)
}

/// Maps a table of the firmware's, read-only; where it appears.
pub fn map_firmware(pa: u64, size: u64) -> u64 {
    map_window(pa, size, Rights::Read)
}
