//! The first steps of a life, cold or by kexec, up to the kernel's own page tables and stack.
//!
//! Both ways end in [`Info`]: what the kernel knows before it has asked anybody. From there on nothing depends on which
//! way it was, except that a cold start has no predecessor to hear.

pub mod early;
pub mod paging;
pub mod stacks;

use crate::machine::{clock, percpu, trampoline};
use crate::memory::persistent;
use arrayvec::{ArrayString, ArrayVec};
use bootloader_api::config::Mapping;
use bootloader_api::info::MemoryRegionKind;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use early::Early;
use handover::range::PhysRange;
use kernel::cmdline::CmdLine;
use kernel::layout::{DIRECT_MAP, PAGE, align_up};
use kernel::params::{
    BLOCK_SIZE, Extent, Kind, MAX_CMDLINE, MAX_REGIONS, MAX_SCRATCH, Params, Region, VERSION,
};
use kernel::persistent::Findings;
use spin::Once;

static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(DIRECT_MAP));
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(cold_start, config = &CONFIG);

// The entry of a kexec. On entry: rdi = virtual address of the boot parameters in the direct map, rsp = a stack in the
// new kernel's part of scratch, interrupts off, on the page tables that the old kernel made. The time is taken first.
//
// The note tells a loader where that is, and which version of the boot parameters is read (kernel::image has the format).
core::arch::global_asm!(
    ".section .text.kexec_entry, \"ax\"",
    ".global kexec_entry",
    "kexec_entry:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov rsi, rax",
    "xor ebp, ebp",
    "call {start}",
    "ud2",
    ".section .note.baton, \"a\", @note",
    ".balign 4",
    ".long 6, 16, 1",
    ".asciz \"Baton\"",
    ".balign 4",
    ".long {version}, 0",
    ".quad kexec_entry - .",
    ".text",
    start = sym kexec_start,
    version = const VERSION,
);

/// How this life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Cold,
    Kexec,
}

/// What a kernel knows at its start.
pub struct Info {
    pub origin: Origin,
    /// 0 after a cold start; what the predecessor says otherwise.
    pub generation: u32,
    /// TSC at the kernel's first instruction; at the predecessor's last one before the jump (0: none).
    pub entry_tsc: u64,
    pub jump_tsc: u64,
    /// The memory map, sorted, without overlaps, whole pages.
    pub regions: ArrayVec<Region, MAX_REGIONS>,
    /// RAM that the boot loader's structures are in (cold start): not used in this life, free in the next.
    pub boot_owned: ArrayVec<PhysRange, MAX_REGIONS>,
    /// What has been found of ramtrace regions (cold start).
    pub ramtrace: Findings,
    /// Scratch as inherited; empty after a cold start.
    pub scratch: ArrayVec<Extent, MAX_SCRATCH>,
    /// What the predecessor placed for this kernel; empty after a cold start.
    pub placed: Extent,
    /// The handover FDT; size 0: none.
    pub fdt: Extent,
    /// The image's ELF symbols and their names.
    pub symtab: &'static [u8],
    pub strtab: &'static [u8],
    /// Where the initrd lies.
    pub initrd: Extent,
    /// Its CRC-32, as the predecessor had it; `None` after a cold start.
    pub initrd_crc32: Option<u32>,
    /// Physical address of ACPI's RSDP, or 0.
    pub rsdp: u64,
    /// Pages below 1 MiB for the start of other CPUs; size 0: none.
    pub low: Extent,
    /// The command line that came with a kexec; after a cold start it is in the initrd.
    pub cmdline: ArrayString<MAX_CMDLINE>,
}

static INFO: Once<Info> = Once::new();

/// What this kernel knew at its start.
pub fn info() -> &'static Info {
    INFO.get().expect("set before anything else runs")
}

/// Whether [`info`] is there: a panic may be earlier than anything.
pub fn begun() -> bool {
    INFO.is_completed()
}

/// The command line of this life: that of the kexec, or after a cold start that of the initrd.
pub fn cmdline() -> CmdLine<'static> {
    let info = info();
    CmdLine(match info.origin {
        Origin::Kexec => &info.cmdline,
        Origin::Cold => crate::files::initrd_cmdline().unwrap_or(""),
    })
}

/// Bytes that the running image takes in memory.
pub fn image_size() -> u64 {
    paging::image_size()
}

/// The bytes at a physical range, through the direct map.
///
/// # Safety
/// The range is RAM, nobody writes to it as long as the slice lives, and the direct map covers it.
pub unsafe fn bytes_at(extent: Extent) -> &'static [u8] {
    if extent.size == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe {
        core::slice::from_raw_parts(
            (DIRECT_MAP + extent.addr) as *const u8,
            extent.size as usize,
        )
    }
}

fn cold_start(boot: &'static mut BootInfo) -> ! {
    percpu::load(0);
    let entry_tsc = clock::tsc();
    let mut regions = ArrayVec::new();
    let mut boot_owned = ArrayVec::new();
    let mut low = Extent::default();
    for region in boot.memory_regions.iter() {
        let kind = match region.kind {
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader => Kind::Ram,
            _ => Kind::Reserved,
        };
        add_region(&mut regions, region.start, region.end, kind);
        if region.kind == MemoryRegionKind::Usable {
            low = low_pages(region.start, region.end).unwrap_or(low);
        }
        if region.kind == MemoryRegionKind::Bootloader {
            let range = PhysRange {
                start: region.start & !(PAGE - 1),
                end: align_up(region.end, PAGE),
            };
            boot_owned
                .try_push(range)
                .expect("as many as there are regions");
        }
    }
    let kernel = Extent {
        addr: boot.kernel_addr,
        size: boot.kernel_len,
    };
    // SAFETY: the boot loader keeps the kernel's file in memory that it marks as its own, and that this kernel does not
    // touch in this life.
    let (symtab, strtab) = kernel::image::symbols(unsafe { bytes_at(kernel) });
    // SAFETY: still on the boot loader's page tables, which have the direct map where CONFIG asks for it.
    let tables = unsafe { paging::Tables::current() };
    let initrd = boot
        .ramdisk_addr
        .into_option()
        .and_then(|virt| tables.translate(virt))
        .map(|addr| Extent {
            addr,
            size: boot.ramdisk_len,
        })
        .unwrap_or_default();
    let cmdline = CmdLine(crate::files::cmdline_in(initrd).unwrap_or(""));
    let ramtrace = persistent::find(&mut regions, &boot_owned, cmdline);
    let early = largest_free(&regions, &boot_owned);
    begin(
        Info {
            origin: Origin::Cold,
            generation: 0,
            entry_tsc,
            jump_tsc: 0,
            regions,
            boot_owned,
            ramtrace,
            scratch: ArrayVec::new(),
            placed: Extent::default(),
            fdt: Extent::default(),
            symtab,
            strtab,
            initrd,
            initrd_crc32: None,
            rsdp: boot.rsdp_addr.into_option().unwrap_or(0),
            low,
            cmdline: ArrayString::new(),
        },
        early,
    )
}

/// Called by `kexec_entry` only.
unsafe extern "C" fn kexec_start(params: u64, entry_tsc: u64) -> ! {
    percpu::load(0);
    // SAFETY: by the contract of the entry `params` points to a block of that size that nobody else uses.
    let block = unsafe { core::slice::from_raw_parts(params as *const u8, BLOCK_SIZE) };
    let params = match Params::decode(block) {
        Ok(params) => params,
        Err(error) => crate::power::reset_with(format_args!(
            "baton: {error}; nothing is known of this machine, so it is reset"
        )),
    };
    let header = params.header;
    clock::set_mult(header.clock_mult);
    // SAFETY: the old kernel placed the symbols in this kernel's own part of scratch.
    let (symtab, strtab) = unsafe { (bytes_at(header.symtab), bytes_at(header.strtab)) };
    let early = header.early.range().expect("decode checks it");
    begin(
        Info {
            origin: Origin::Kexec,
            generation: header.generation,
            entry_tsc,
            jump_tsc: header.jump_tsc,
            regions: params.regions,
            boot_owned: ArrayVec::new(),
            ramtrace: Findings::default(),
            scratch: params.scratch,
            placed: header.placed,
            fdt: header.fdt,
            symtab,
            strtab,
            initrd: header.initrd,
            initrd_crc32: Some(header.initrd_crc32),
            rsdp: header.rsdp,
            low: header.low,
            cmdline: params.cmdline,
        },
        early,
    )
}

/// From here both ways are one: own page tables, own stack, a first heap; then [`crate::run`].
fn begin(info: Info, early: PhysRange) -> ! {
    let info = INFO.call_once(|| info);
    let mut early = Early::new(early);
    let tables = paging::build_own(info, &mut early);
    early::keep(early);
    // SAFETY: the tables map the image, the stacks and the direct map as this code uses them; what was on the old stack
    // is not used again.
    unsafe { paging::switch(tables, stacks::top(0, stacks::Stack::Main), after_switch) }
}

extern "C" fn after_switch() -> ! {
    crate::memory::init_heap();
    crate::run()
}

/// The last pages of a free region below 640 KiB that are enough for `machine::trampoline`: the boot loader takes nothing
/// below 1 MiB, and firmware says what it keeps there. Page 0 is left alone, whatever the map says of it.
fn low_pages(start: u64, end: u64) -> Option<Extent> {
    const LOW_END: u64 = 0xa_0000;
    const SIZE: u64 = trampoline::PAGES * PAGE;
    let start = align_up(start, PAGE).max(PAGE);
    let end = end.min(LOW_END) & !(PAGE - 1);
    (start.checked_add(SIZE)? <= end).then(|| Extent {
        addr: end - SIZE,
        size: SIZE,
    })
}

/// Adds a region, in whole pages (RAM shrinks, anything else grows), merged with the one before where they touch. The
/// first MiB is never RAM: firmware's data, and the page from which other CPUs start, are there.
fn add_region(regions: &mut ArrayVec<Region, MAX_REGIONS>, start: u64, end: u64, kind: Kind) {
    const LOW: u64 = 1 << 20;
    let (start, end) = match kind {
        Kind::Ram => (align_up(start, PAGE).max(LOW), end & !(PAGE - 1)),
        _ => (start & !(PAGE - 1), align_up(end, PAGE)),
    };
    if start >= end {
        return;
    }
    if let Some(last) = regions.last_mut()
        && last.kind() == kind
        && last.extent.addr + last.extent.size == start
    {
        last.extent.size += end - start;
        return;
    }
    // A map with more regions than there is room for loses the last ones; less memory is better than none.
    let _ = regions.try_push(Region {
        extent: Extent {
            addr: start,
            size: end - start,
        },
        kind: kind as u32,
        zero: 0,
    });
}

/// The largest piece of RAM without anything of the boot loader's in it.
fn largest_free(regions: &[Region], taken: &[PhysRange]) -> PhysRange {
    let mut best = PhysRange { start: 0, end: 0 };
    for region in regions.iter().filter(|r| r.kind() == Kind::Ram) {
        let end = region.extent.addr + region.extent.size;
        let mut at = region.extent.addr;
        while at < end {
            // `taken` is short; the next obstacle at or after `at` is looked up each time.
            let inside = taken.iter().find(|t| t.start <= at && at < t.end);
            if let Some(range) = inside {
                at = range.end;
                continue;
            }
            let stop = taken
                .iter()
                .map(|t| t.start)
                .filter(|s| *s > at)
                .min()
                .unwrap_or(end)
                .min(end);
            if stop - at > best.end - best.start {
                best = PhysRange {
                    start: at,
                    end: stop,
                };
            }
            at = stop;
        }
    }
    best
}
