//! Page tables: building a set, switching to it, and the rights of each page (kernel::layout has the map).

use super::early::Early;
use super::{Info, stacks};
use kernel::layout::{AREAS, DIRECT_MAP, IMAGE, PAGE};
use kernel::params::Kind;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::mapper::{MapToError, Translate};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

/// What a page may be used for. There is no writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    Read,
    ReadWrite,
    ReadExecute,
    /// Device registers: read, write, uncached.
    Device,
}

impl Rights {
    fn flags(self) -> PageTableFlags {
        let base = PageTableFlags::PRESENT;
        match self {
            Rights::Read => base | PageTableFlags::NO_EXECUTE,
            Rights::ReadWrite => base | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE,
            Rights::ReadExecute => base,
            Rights::Device => {
                base | PageTableFlags::WRITABLE
                    | PageTableFlags::NO_EXECUTE
                    | PageTableFlags::NO_CACHE
                    | PageTableFlags::WRITE_THROUGH
            }
        }
    }
}

/// Why a mapping was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No page for a table.
    NoMemory,
    /// Something is mapped there already.
    Taken,
}

/// Where the pages of the tables themselves come from: zeroed or not, the caller of [`Tables`] does not care.
pub type Source<'a> = &'a mut dyn FnMut() -> Option<u64>;

struct Frames<'a>(Source<'a>);

// SAFETY: the sources give out each page once.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame<Size4KiB>> {
        (self.0)().map(|pa| PhysFrame::containing_address(PhysAddr::new(pa)))
    }
}

/// The upper half of a top table: entries 256 to 511, which are the same in all.
///
/// # Safety
/// There is one at `root`, in the direct map, and its upper half does not change meanwhile.
pub unsafe fn upper_half(root: u64) -> [u64; 256] {
    // SAFETY: the caller's promise.
    unsafe { ((DIRECT_MAP + root + 256 * 8) as *const [u64; 256]).read_volatile() }
}

/// A set of page tables, in force or not.
pub struct Tables {
    root: u64,
    mapper: OffsetPageTable<'static>,
}

impl Tables {
    /// The tables in force.
    ///
    /// # Safety
    /// The direct map is at [`DIRECT_MAP`], and nobody else changes the tables while this value lives.
    pub unsafe fn current() -> Tables {
        let root = Cr3::read().0.start_address().as_u64();
        // SAFETY: the CPU uses the table at `root`, so it is one; the caller vouches for the rest.
        unsafe { Tables::at(root) }
    }

    /// An empty set.
    pub fn new(source: Source) -> Option<Tables> {
        let root = source()?;
        // SAFETY: a fresh page from the allocator, reachable through the direct map, made an empty table first.
        unsafe {
            core::ptr::write_bytes((DIRECT_MAP + root) as *mut u8, 0, PAGE as usize);
            Some(Tables::at(root))
        }
    }

    /// # Safety
    /// There is a level 4 table at physical address `root`, and it is this value's alone.
    unsafe fn at(root: u64) -> Tables {
        // SAFETY: the caller's promise.
        let table: &'static mut PageTable =
            unsafe { &mut *((DIRECT_MAP + root) as *mut PageTable) };
        Tables {
            root,
            // SAFETY: all page tables lie in RAM, which the direct map covers.
            mapper: unsafe { OffsetPageTable::new(table, VirtAddr::new(DIRECT_MAP)) },
        }
    }

    /// Physical address of the top table, as CR3 wants it.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Where a virtual address leads.
    pub fn translate(&self, virt: u64) -> Option<u64> {
        let virt = VirtAddr::try_new(virt).ok()?;
        self.mapper.translate_addr(virt).map(|pa| pa.as_u64())
    }

    /// Maps `size` bytes (whole pages) from `virt` to `phys`, with the largest pages that fit.
    ///
    /// # Errors
    /// [`MapError`]; pages before the one that failed are mapped then.
    pub fn map(
        &mut self,
        virt: u64,
        phys: u64,
        size: u64,
        rights: Rights,
        source: Source,
    ) -> Result<(), MapError> {
        let (mut at, end) = (0, size);
        while at < end {
            let (v, p, rest) = (virt + at, phys + at, end - at);
            let fits = |page: u64| (v | p) & (page - 1) == 0 && rest >= page;
            at += if fits(Size1GiB::SIZE) && has_1g_pages() {
                self.map_one::<Size1GiB>(v, p, rights, source)?
            } else if fits(Size2MiB::SIZE) {
                self.map_one::<Size2MiB>(v, p, rights, source)?
            } else {
                self.map_small(v, p, rest, rights, source)?
            };
        }
        Ok(())
    }

    /// Gives the area at `virt` its entry in the top table, with an empty table behind it.
    ///
    /// # Errors
    /// [`MapError::NoMemory`].
    fn reserve(&mut self, virt: u64, source: Source) -> Result<(), MapError> {
        let table = source().ok_or(MapError::NoMemory)?;
        // SAFETY: a fresh page from the allocator, reachable through the direct map.
        unsafe { core::ptr::write_bytes((DIRECT_MAP + table) as *mut u8, 0, PAGE as usize) };
        let index = VirtAddr::new(virt).p4_index();
        self.mapper.level_4_table_mut()[index].set_addr(
            PhysAddr::new(table),
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE,
        );
        Ok(())
    }

    /// Maps the page at `virt`, and those behind it that need no more than a look into the same table: up to one for which a
    /// larger page would do, in all at most `size` bytes. Says how many bytes.
    fn map_small(
        &mut self,
        virt: u64,
        phys: u64,
        size: u64,
        rights: Rights,
        source: Source,
    ) -> Result<u64, MapError> {
        let mut at = self.map_one::<Size4KiB>(virt, phys, rights, source)?;
        let up_to_next = Size2MiB::SIZE - virt % Size2MiB::SIZE;
        let Some(table) = self.last_table(virt) else {
            return Ok(at);
        };
        while at < size.min(up_to_next) {
            let entry = &mut table[VirtAddr::new_truncate(virt + at).p1_index()];
            if !entry.is_unused() {
                return Err(MapError::Taken);
            }
            entry.set_addr(PhysAddr::new(phys + at), rights.flags());
            at += PAGE;
        }
        Ok(at)
    }

    /// The table that a page of 4 KiB at `virt` is in.
    fn last_table(&mut self, virt: u64) -> Option<&mut PageTable> {
        let virt = VirtAddr::try_new(virt).ok()?;
        let mut table = self.mapper.level_4_table_mut();
        for index in [virt.p4_index(), virt.p3_index(), virt.p2_index()] {
            let entry = &table[index];
            if !entry.flags().contains(PageTableFlags::PRESENT)
                || entry.flags().contains(PageTableFlags::HUGE_PAGE)
            {
                return None;
            }
            // SAFETY: a present entry of these levels that is no large page names a table of this set; all tables lie in RAM, which
            // the direct map covers, and are reached through `self` alone.
            table = unsafe { &mut *((DIRECT_MAP + entry.addr().as_u64()) as *mut PageTable) };
        }
        Some(table)
    }

    fn map_one<S: PageSize + core::fmt::Debug>(
        &mut self,
        virt: u64,
        phys: u64,
        rights: Rights,
        source: Source,
    ) -> Result<u64, MapError>
    where
        OffsetPageTable<'static>: Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new(virt));
        let frame = PhysFrame::<S>::containing_address(PhysAddr::new(phys));
        let parents = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        // SAFETY: callers map memory that they own to addresses that nothing else uses (kernel::layout).
        let mapped = unsafe {
            self.mapper.map_to_with_table_flags(
                page,
                frame,
                rights.flags(),
                parents,
                &mut Frames(source),
            )
        };
        match mapped {
            // A page that was not mapped before is in no TLB.
            Ok(flush) => flush.ignore(),
            Err(MapToError::FrameAllocationFailed) => return Err(MapError::NoMemory),
            Err(_) => return Err(MapError::Taken),
        }
        Ok(S::SIZE)
    }

    /// Takes a page of 4 KiB out, if it is there. Who remembers it is to be told by the caller.
    ///
    /// # Safety
    /// Nobody uses the address any more.
    pub unsafe fn unmap(&mut self, virt: u64) {
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(virt));
        if let Ok((_, flush)) = self.mapper.unmap(page) {
            flush.ignore();
        }
    }

    /// Maps `size` bytes from `start` on in the direct map, read-only where `constant` says so of a page.
    ///
    /// # Errors
    /// As [`map`](Tables::map).
    pub fn map_direct(
        &mut self,
        start: u64,
        end: u64,
        constant: &[(u64, u64)],
        source: Source,
    ) -> Result<(), MapError> {
        let mut at = start;
        while at < end {
            let inside = constant.iter().find(|(from, to)| *from <= at && at < *to);
            let (stop, rights) = match inside {
                Some((_, to)) => (*to, Rights::Read),
                None => {
                    let next = constant
                        .iter()
                        .map(|(from, _)| *from)
                        .filter(|from| *from > at)
                        .min();
                    (next.unwrap_or(end), Rights::ReadWrite)
                }
            };
            let stop = stop.min(end);
            self.map(DIRECT_MAP + at, at, stop - at, rights, source)?;
            at = stop;
        }
        Ok(())
    }
}

fn has_1g_pages() -> bool {
    // CPUID 0x8000_0001, EDX bit 26: 1 GiB pages (AMD64 APM vol. 3, appendix E).
    core::arch::x86_64::__cpuid(0x8000_0001).edx & 1 << 26 != 0
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __image_end: u8;
}

/// The parts of the running image as (start, end, rights).
fn image_parts() -> [(u64, u64, Rights); 3] {
    let (start, text, text_end, end) = (
        &raw const __image_start as u64,
        &raw const __text_start as u64,
        &raw const __text_end as u64,
        &raw const __image_end as u64,
    );
    debug_assert_eq!(start, IMAGE);
    [
        (start, text, Rights::Read),
        (text, text_end, Rights::ReadExecute),
        (text_end, end, Rights::ReadWrite),
    ]
}

/// Bytes that the running image takes in memory.
pub fn image_size() -> u64 {
    &raw const __image_end as u64 - &raw const __image_start as u64
}

/// Start and end of the image's text.
pub fn text_range() -> (u64, u64) {
    (&raw const __text_start as u64, &raw const __text_end as u64)
}

/// Builds the running kernel's own tables: image, direct map, stacks. The heap and windows are mapped later.
///
/// Where the early range is too small there is no console yet to say so, hence the reset with a message on the bare port.
pub fn build_own(info: &Info, early: &mut Early) -> Tables {
    // NX pages are an error on a CPU that was not told of them; boot loader or predecessor did so, and it costs nothing.
    // SAFETY: every x86-64 CPU that a boot loader starts us on has NX, and the flag changes nothing else.
    unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    // What is still to come of what a start is sure to need: stacks and heap; tables come on top of that.
    let mut to_come = stacks::each()
        .map(|(cpu, stack)| stacks::size(cpu, stack) / PAGE)
        .sum::<u64>()
        + crate::memory::FIRST_HEAP / PAGE;
    match try_build_own(info, early, &mut to_come) {
        Ok(tables) => tables,
        Err(MapError::NoMemory) => crate::power::reset_with(format_args!(
            "baton: {}; the machine is reset",
            early.shortage(to_come)
        )),
        Err(error) => crate::power::reset_with(format_args!(
            "baton: page tables: {error:?}; the machine is reset"
        )),
    }
}

/// `to_come` counts down by each page of a stack.
fn try_build_own(info: &Info, early: &mut Early, to_come: &mut u64) -> Result<Tables, MapError> {
    // SAFETY: the tables in force are only read here, and both boot paths have the direct map where it belongs.
    let old = unsafe { Tables::current() };
    let mut source = || early.take(1);
    let mut tables = Tables::new(&mut source).ok_or(MapError::NoMemory)?;
    for area in AREAS {
        tables.reserve(area, &mut source)?;
    }
    let mut constant = arrayvec::ArrayVec::<(u64, u64), 64>::new();
    for (start, end, rights) in image_parts() {
        let mut virt = start;
        while virt < end {
            let (phys, size) = run(&old, virt, end);
            tables.map(virt, phys, size, rights, &mut source)?;
            virt += size;
            if rights == Rights::ReadWrite {
                continue;
            }
            // No writable second name for text and constants: they are read-only in the direct map, too.
            match constant.last_mut() {
                Some((_, to)) if *to == phys => *to += size,
                _ => {
                    // Scattered beyond all measure (no boot loader does that): such pages keep their second name.
                    let _ = constant.try_push((phys, phys + size));
                }
            }
        }
    }
    for region in info.regions.iter().filter(|r| r.kind() != Kind::Reserved) {
        let (start, size) = (region.extent.addr, region.extent.size);
        tables.map_direct(start, start + size, &constant, &mut source)?;
    }
    for (cpu, stack) in stacks::each() {
        let size = stacks::size(cpu, stack);
        let bottom = stacks::top(cpu, stack) - size;
        for at in (0..size).step_by(PAGE as usize) {
            let phys = source().ok_or(MapError::NoMemory)?;
            *to_come -= 1;
            tables.map(bottom + at, phys, PAGE, Rights::ReadWrite, &mut source)?;
        }
    }
    Ok(tables)
}

/// Where the image lies at `virt` according to the tables in force, and how many bytes up to `end` follow there in a row.
fn run(old: &Tables, virt: u64, end: u64) -> (u64, u64) {
    let phys = |virt| {
        old.translate(virt)
            .expect("the image is mapped, or this would not run")
    };
    let (first, mut size) = (phys(virt), PAGE);
    while virt + size < end && phys(virt + size) == first + size {
        size += PAGE;
    }
    (first, size)
}

/// Puts `tables` in force and goes on in `then`, on the stack whose top is `stack`.
///
/// # Safety
/// The tables map the running code and data where they are now; `stack` is the top of a mapped stack that nobody uses;
/// nothing on the present stack is used again.
pub unsafe fn switch(tables: Tables, stack: u64, then: extern "C" fn() -> !) -> ! {
    let root = PhysFrame::containing_address(PhysAddr::new(tables.root()));
    // SAFETY: the caller's promise; `then` never returns, and finds the stack aligned as behind a call.
    unsafe {
        Cr3::write(root, Cr3Flags::empty());
        core::arch::asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {then}",
            "ud2",
            stack = in(reg) stack,
            then = in(reg) then,
            options(noreturn)
        )
    }
}
