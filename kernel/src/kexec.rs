//! In-kernel kexec: loading an image ahead of time, and the jump.
//!
//! All of the next kernel is placed in the free part of scratch at load time, page tables and stack included, exactly
//! where it is going to run. Nothing is copied at the jump, so the control page (the one page of code that runs on both
//! sets of page tables) only changes the tables and the stack. It is a page of the old kernel's text, which is neither
//! source nor destination of anything, mapped where its physical address says in both sets.

use crate::boot;
use crate::boot::paging::{MapError, Rights, Tables, text_range};
use crate::handing::{self, generation};
use crate::machine::{apic, clock, ipi};
use crate::memory::{self, IrqMutex};
use crate::user::space;
use crate::{events, files, task};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::convert::Infallible;
use core::fmt;
use handover::range::PhysRange;
use kernel::image::{Image, ImageError};
use kernel::layout::{DIRECT_MAP, PAGE, align_up};
use kernel::params::{self, BLOCK_SIZE, Extent, Header, Kind, MAX_CMDLINE, MAX_SCRATCH, Params};
use x86_64::instructions::interrupts;

/// What a loaded kernel takes beside its image and symbols on a machine with an ordinary memory map, in bytes.
pub const BESIDE_IMAGE: u64 = STACK + BLOCK_SIZE as u64 + 256 * PAGE;

/// Stack of the new kernel until it has its own, in bytes.
const STACK: u64 = 64 * 1024;

/// Why a kexec did not happen. The running kernel is unharmed.
#[derive(Debug)]
pub enum KexecError {
    /// Not a kernel: the file's name and what is wrong.
    Image(String, ImageError),
    /// A page of the file has changed since it was sealed: the file's name, and the page.
    Damaged(String, PhysRange),
    /// The image and what belongs to it need more scratch than is free: file, bytes needed, largest free piece.
    NoScratch(String, u64, u64),
    /// Scratch would leave the new kernel too little for its start: bytes that this one took, bytes that are left.
    NoEarly(u64, u64),
    /// The command line is too long: its length.
    CmdLine(usize),
    /// The boot parameters do not fit their block.
    Params(params::ParamsError),
    /// No memory for page tables.
    Tables(MapError),
    /// Nothing is loaded.
    NothingLoaded,
    /// Somebody else loads or describes.
    Busy,
    /// CPUs that hold off interrupts or preemption for too long, a bit each.
    NotStopped(u32),
    /// The kexec would have to hand over, and this kernel cannot: why, and what to do.
    NothingToHandOver(String),
    /// Somebody said no, or there was no memory to describe the state.
    Handover(String),
}

impl fmt::Display for KexecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KexecError::Image(file, error) => write!(f, "{file}: {error}; nothing was loaded"),
            KexecError::Damaged(file, page) => write!(
                f,
                "{file}: the memory {page} in which it lies has changed since it was sealed, and cannot be trusted (a \
                 reboot brings the whole file); nothing was loaded"
            ),
            KexecError::NoScratch(file, need, free) => write!(
                f,
                "{file}: the image needs {} KiB of scratch, and the largest free piece has {} KiB{}; nothing was loaded",
                need.div_ceil(1024),
                free / 1024,
                // What a refused handover left alone comes back with a reset only.
                if memory::left_alone() > 0 {
                    " (a reboot gives back what a refused handover left alone)"
                } else {
                    ""
                }
            ),
            KexecError::NoEarly(need, left) => write!(
                f,
                "beside the image scratch has {} KiB for the new kernel's start, which takes {} KiB; nothing was loaded",
                left / 1024,
                need / 1024
            ),
            KexecError::CmdLine(len) => {
                write!(
                    f,
                    "a command line of {len} bytes is longer than {MAX_CMDLINE}; nothing was loaded"
                )
            }
            KexecError::Params(error) => write!(f, "{error}; nothing was loaded"),
            KexecError::Tables(error) => {
                write!(f, "no room for page tables ({error:?}); nothing was loaded")
            }
            KexecError::NothingLoaded => f.write_str("no kernel is loaded; `kexec -l` loads one"),
            KexecError::Busy => write!(f, "{}; try again", handing::BUSY),
            KexecError::NotStopped(cpus) => write!(
                f,
                "the CPUs {cpus:#b} (a bit each) came to no point at which they can be stopped; this kernel runs on"
            ),
            KexecError::NothingToHandOver(why) => write!(f, "{why}; nothing was loaded"),
            KexecError::Handover(why) => write!(f, "{why}; this kernel runs on"),
        }
    }
}

impl core::error::Error for KexecError {}

/// A kernel that waits for its jump.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file that it came from.
    pub name: String,
    /// All that was placed.
    pub block: PhysRange,
    /// Its command line.
    pub cmdline: String,
    entry: u64,
    stack_top: u64,
    params: u64,
    root: u64,
}

static LOADED: IrqMutex<Option<Loaded>> = IrqMutex::new(None);

/// What is loaded.
pub fn loaded() -> Option<Loaded> {
    LOADED.lock().clone()
}

// The control page. rdi = boot parameters, rsi = new page tables, rdx = new stack, rcx = entry. It runs where its physical
// address says, on both sets of tables. Alone on its page: nothing else of the old kernel is executable in the new tables.
core::arch::global_asm!(
    ".section .text.control_page, \"ax\"",
    ".balign 4096",
    ".global control_page",
    "control_page:",
    "mov cr3, rsi",
    "mov rsp, rdx",
    "xor ebp, ebp",
    "jmp rcx",
    ".balign 4096, 0xcc",
    ".text",
);

unsafe extern "C" {
    static control_page: u8;
}

/// Where the control page lies in physical memory.
fn control_page_address() -> u64 {
    let virt = &raw const control_page as u64;
    debug_assert!(virt >= text_range().0 && virt < text_range().1);
    // SAFETY: the tables are only read.
    let tables = unsafe { Tables::current() };
    tables.translate(virt).expect("the kernel's text is mapped")
}

/// Checks an image and places it, in place of one that was loaded before.
///
/// # Errors
/// [`KexecError`]; what was loaded before still is then, unless there was no room for both and placing the new one failed.
pub fn load(name: &str, file: &[u8], cmdline: &str) -> Result<Loaded, KexecError> {
    let turn = handing::take_turn().ok_or(KexecError::Busy)?;
    if handing::switch::active()
        && let Some(why) = handing::contradiction()
    {
        return Err(KexecError::NothingToHandOver(why));
    }
    events::kexec_phase(generation(), "load");
    if let Some(page) = files::damaged_page(file) {
        return Err(KexecError::Damaged(name.into(), page));
    }
    files::seal_initrd();
    let image = Image::parse(file).map_err(|error| KexecError::Image(name.into(), error))?;
    if cmdline.len() > MAX_CMDLINE {
        return Err(KexecError::CmdLine(cmdline.len()));
    }
    let tables = table_budget() * PAGE;
    let symbols =
        align_up(image.symtab.len() as u64, PAGE) + align_up(image.strtab.len() as u64, PAGE);
    let size = image.memory() + STACK + BLOCK_SIZE as u64 + symbols + tables;
    let before = loaded();
    let (block, early) = take_scratch(name, size, before.as_ref())?;
    let loaded = match place(name, &image, block, early, cmdline) {
        Ok(loaded) => loaded,
        Err(error) => {
            memory::with_scratch(|pool| pool.give_back(block));
            return Err(error);
        }
    };
    *LOADED.lock() = Some(loaded.clone());
    let usage = memory::scratch_usage();
    if usage.is_nearly_full() {
        crate::warning!("scratch: {usage}");
    }
    if let Some(before) = before.filter(|b| !b.block.overlaps(&block)) {
        memory::with_scratch(|pool| pool.give_back(before.block));
    }
    handing::prepare_ahead(&turn);
    events::kexec_phase(generation(), "loaded");
    Ok(loaded)
}

/// Room for a new image, and what it leaves for the new kernel's first pages. Where there is not enough, the room of the
/// image loaded before counts, too. Nothing has changed where this fails.
fn take_scratch(
    name: &str,
    size: u64,
    before: Option<&Loaded>,
) -> Result<(PhysRange, PhysRange), KexecError> {
    memory::with_scratch(|pool| {
        let mut tried = pool.clone();
        let block = tried.take(size, PAGE).or_else(|| {
            tried.give_back(before?.block);
            tried.take(size, PAGE)
        });
        let block =
            block.ok_or_else(|| KexecError::NoScratch(name.into(), size, tried.free_bytes().1))?;
        let early = tried
            .largest_hole_around(block)
            .unwrap_or(PhysRange { start: 0, end: 0 });
        // A start of another kernel may take a little more than this one's did.
        let need = memory::early_used() + memory::early_used() / 4;
        if early.len() < need {
            return Err(KexecError::NoEarly(need, early.len()));
        }
        if before.is_some_and(|b| b.block.overlaps(&block)) {
            // It is about to be overwritten.
            *LOADED.lock() = None;
        }
        *pool = tried;
        Ok((block, early))
    })
}

/// What a loaded image of this kernel's own size takes of scratch.
pub fn own_size() -> u64 {
    let info = boot::info();
    boot::image_size() + (info.symtab.len() + info.strtab.len()) as u64 + BESIDE_IMAGE
}

/// The most pages that the first page tables of the new kernel can take: four levels for the image and for the control
/// page, for each region of RAM two tables at each of its ends, one for each GiB of it, and in the direct map two for each
/// end of a read-only piece.
fn table_budget() -> u64 {
    let (mut regions, mut gibs) = (0, 0);
    for region in memory::regions()
        .iter()
        .filter(|r| r.kind() != Kind::Reserved)
    {
        regions += 1;
        gibs += region.extent.size >> 30;
    }
    64 + 4 * kernel::image::MAX_SEGMENTS as u64 + 6 * regions + gibs
}

/// Gives out the block from the front.
struct Placer {
    next: u64,
    end: u64,
}

impl Placer {
    fn take(&mut self, size: u64) -> u64 {
        let at = self.next;
        self.next += align_up(size, PAGE);
        debug_assert!(self.next <= self.end);
        at
    }

    fn copy(&mut self, bytes: &[u8]) -> Extent {
        let addr = self.take(bytes.len() as u64);
        // SAFETY: the block has just been taken from scratch for this, and the direct map covers it.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (DIRECT_MAP + addr) as *mut u8,
                bytes.len(),
            )
        };
        Extent {
            addr,
            size: bytes.len() as u64,
        }
    }
}

fn place(
    name: &str,
    image: &Image,
    block: PhysRange,
    early: PhysRange,
    cmdline: &str,
) -> Result<Loaded, KexecError> {
    // SAFETY: as in `Placer::copy`. Zeroing all of it now means that no .bss has to be zeroed at the jump.
    unsafe {
        core::ptr::write_bytes(
            (DIRECT_MAP + block.start) as *mut u8,
            0,
            (block.end - block.start) as usize,
        );
    }
    let mut placer = Placer {
        next: block.start,
        end: block.end,
    };
    let mut segments =
        arrayvec::ArrayVec::<(u64, u64, u64, Rights), { kernel::image::MAX_SEGMENTS }>::new();
    for segment in &image.segments {
        let addr = placer.take(segment.size);
        // SAFETY: as in `Placer::copy`; Image::parse checked that skip + file fit the segment.
        unsafe {
            core::ptr::copy_nonoverlapping(
                segment.file.as_ptr(),
                (DIRECT_MAP + addr + segment.skip) as *mut u8,
                segment.file.len(),
            );
        }
        let rights = match (
            segment.flags & elf::abi::PF_X != 0,
            segment.flags & elf::abi::PF_W != 0,
        ) {
            (true, _) => Rights::ReadExecute,
            (false, true) => Rights::ReadWrite,
            (false, false) => Rights::Read,
        };
        segments.push((segment.vaddr, addr, segment.size, rights));
    }
    let stack = placer.take(STACK);
    let params_at = placer.take(BLOCK_SIZE as u64);
    let symtab = placer.copy(image.symtab);
    let strtab = placer.copy(image.strtab);
    let root = build_tables(&segments, &mut placer).map_err(KexecError::Tables)?;

    let info = boot::info();
    let params = Params {
        header: Header {
            generation: generation() + 1,
            direct_map: DIRECT_MAP,
            placed: block.into(),
            early: early.into(),
            symtab,
            strtab,
            initrd: files::initrd_extent(),
            initrd_crc32: files::initrd_crc32(),
            rsdp: info.rsdp,
            low: info.low,
            clock_mult: clock::mult(),
            ..Header::default()
        },
        regions: memory::regions().iter().copied().collect(),
        scratch: scratch_list()?,
        cmdline: arrayvec::ArrayString::from(cmdline)
            .map_err(|_| KexecError::CmdLine(cmdline.len()))?,
    };
    params
        .encode(params_block(params_at))
        .map_err(KexecError::Params)?;
    Ok(Loaded {
        name: name.into(),
        block,
        cmdline: cmdline.into(),
        entry: image.entry,
        // As behind a call: the entry's own call finds the stack aligned.
        stack_top: DIRECT_MAP + stack + STACK,
        params: params_at,
        root,
    })
}

fn scratch_list() -> Result<arrayvec::ArrayVec<Extent, MAX_SCRATCH>, KexecError> {
    let mut list = arrayvec::ArrayVec::new();
    for region in memory::with_scratch(|pool| pool.regions().to_vec()) {
        list.try_push(region.into())
            .map_err(|_| KexecError::Params(params::ParamsError::Size("the scratch list")))?;
    }
    Ok(list)
}

fn params_block(at: u64) -> &'static mut [u8] {
    // SAFETY: the block belongs to the loaded image, which only its loader touches; the direct map covers it.
    unsafe { core::slice::from_raw_parts_mut((DIRECT_MAP + at) as *mut u8, BLOCK_SIZE) }
}

/// The page tables on which the new kernel starts: image, direct map, control page.
fn build_tables(
    segments: &[(u64, u64, u64, Rights)],
    placer: &mut Placer,
) -> Result<u64, MapError> {
    let control = control_page_address();
    // What the new kernel may execute has no writable second name, also on these first tables. (The control page has
    // one there: it is in memory that the new kernel may take for its first pages.)
    let mut constant = arrayvec::ArrayVec::<(u64, u64), { kernel::image::MAX_SEGMENTS }>::new();
    let read_only = |rights: Rights| rights != Rights::ReadWrite;
    constant.extend(
        segments
            .iter()
            .filter(|s| read_only(s.3))
            .map(|s| (s.1, s.1 + s.2)),
    );
    let mut source = || (placer.next < placer.end).then(|| placer.take(PAGE));
    let mut tables = Tables::new(&mut source).ok_or(MapError::NoMemory)?;
    for (virt, phys, size, rights) in segments {
        tables.map(*virt, *phys, *size, *rights, &mut source)?;
    }
    for region in memory::regions()
        .iter()
        .filter(|r| r.kind() != Kind::Reserved)
    {
        tables.map_direct(
            region.extent.addr,
            region.extent.addr + region.extent.size,
            &constant,
            &mut source,
        )?;
    }
    tables.map(control, control, PAGE, Rights::ReadExecute, &mut source)?;
    Ok(tables.root())
}

/// Forgets what is loaded.
///
/// # Errors
/// [`KexecError::NothingLoaded`], [`KexecError::Busy`].
pub fn unload() -> Result<(), KexecError> {
    let _turn = handing::take_turn().ok_or(KexecError::Busy)?;
    let loaded = LOADED.lock().take().ok_or(KexecError::NothingLoaded)?;
    memory::with_scratch(|pool| pool.give_back(loaded.block));
    handing::forget_ahead();
    Ok(())
}

/// Goes. Returns only where it cannot.
///
/// # Errors
/// [`KexecError`]; everybody who was frozen is thawed, and the kernel runs on.
pub fn execute() -> Result<Infallible, KexecError> {
    // Before all others stand still: who has it then would keep it.
    let turn = handing::take_turn().ok_or(KexecError::Busy)?;
    let loaded = loaded().ok_or(KexecError::NothingLoaded)?;
    let control = control_page_address();
    map_control_page(control)?;
    task::freeze().map_err(KexecError::Handover)?;
    let outgoing = prepare(&turn, &loaded).inspect_err(|_| task::thaw())?;
    interrupts::disable();
    events::kexec_phase(generation(), "quiesce");
    if let Err(late) = ipi::stop_others_safely() {
        interrupts::enable();
        // What was got ready goes while the others still stand still, as it came.
        drop(outgoing);
        task::thaw();
        return Err(KexecError::NotStopped(late));
    }
    // Nothing that can fail comes after this.
    task::end_all_and_run(Box::new(move || jump(&loaded, control, outgoing)))
}

/// All that can fail once everybody stands still.
fn prepare(turn: &handing::Turn, loaded: &Loaded) -> Result<Option<handing::Outgoing>, KexecError> {
    match handing::switch::active() {
        true => {
            let outgoing = handing::prepare(turn, &loaded.cmdline);
            outgoing.map(Some).map_err(KexecError::Handover)
        }
        false => Ok(None),
    }
}

/// Maps the control page where its physical address says. It stays so where the kexec does not happen.
fn map_control_page(control: u64) -> Result<(), KexecError> {
    // Into the kernel's own tables: those of a process, whose lower half is its own, may still be in force here.
    let mapped = memory::without_interrupts(|| {
        space::load_kernel_tables();
        memory::map_pages(control, control, PAGE, Rights::ReadExecute)
    });
    match mapped {
        // Taken: from an attempt before this one.
        Ok(()) | Err(MapError::Taken) => Ok(()),
        Err(MapError::NoMemory) => Err(KexecError::Handover(
            "no memory for the control page's mapping".to_string(),
        )),
    }
}

/// The end of this life, on CPU 0, which alone runs, with interrupts off.
fn jump(loaded: &Loaded, control: u64, mut outgoing: Option<handing::Outgoing>) -> ! {
    // Others' may have come into force since the control page was mapped in these.
    space::load_kernel_tables();
    ipi::reset_others();
    apic::quiet();
    let fdt = outgoing.as_mut().map(handing::Outgoing::seal);
    if let Some(outgoing) = outgoing {
        outgoing.go();
    }
    let fdt = fdt.unwrap_or_else(handing::switch::no_fdt);
    if let Some(bytes) = handing::damage::take_early() {
        let _ = params::limit_early(params_block(loaded.params), bytes);
    }
    let _ = params::finish(params_block(loaded.params), fdt, clock::tsc());
    handing::damage::apply_to_params(params_block(loaded.params));
    // SAFETY: interrupts are off and the devices quiet. The control page is mapped at its physical address in both sets of
    // tables; the new set maps the image at its entry, its stack and the parameters; all of it lies in memory that this
    // kernel does not use. This kernel does not run again.
    unsafe {
        core::arch::asm!(
            "jmp {control}",
            control = in(reg) control,
            in("rdi") DIRECT_MAP + loaded.params,
            in("rsi") loaded.root,
            in("rdx") loaded.stack_top,
            in("rcx") loaded.entry,
            options(noreturn)
        )
    }
}

/// A summary of what is loaded, for people.
pub fn describe(loaded: &Loaded) -> String {
    format!(
        "{} is loaded at {} ({} KiB), command line \"{}\"",
        loaded.name,
        loaded.block,
        (loaded.block.end - loaded.block.start) / 1024,
        loaded.cmdline
    )
}
