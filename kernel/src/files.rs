//! The kernel's own files: the initrd under `/boot`, `/proc`, `/sys/kernel/tracing`, `/sys/kernel/debug/kho`, `/sys/fs/pstore`,
//! `/tmp`.

mod boot_files;
mod cpus;
mod kho;
mod pids;
mod proc;
pub mod processes;
mod pstore;
mod tmp;
pub mod trace_raw;
mod tracefs;

use crate::boot;
use crate::handing::{self, Outcome, outcome};
use crate::memory;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use boot_files::BootFiles;
use handover::error::Error;
use handover::range::PhysRange;
use handover::seal::PageSeals;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem, Takeover};
use kernel::console::genfs::{GenDir, GenFs, RomFs};
use kernel::console::tmpfs::{DEFAULT_LIMIT_BYTES, TmpFs};
use kernel::console::vfs::{FsError, Mounts};
use kernel::layout::{DIRECT_MAP, PAGE};
use kernel::params::Extent;
use spin::Once;
use tar_no_std::TarArchiveRef;

/// Where the initrd lies.
#[derive(Clone, Debug, Default, KState)]
#[kstate(id = 0x11, version = 1)]
struct Initrd {
    /// Physical address of its first byte.
    addr: u64,
    /// Bytes.
    size: u64,
    /// Of its pages, made when the first kernel was loaded: it never changes.
    #[kstate(subsection)]
    seals: Option<PageSeals>,
}

static INITRD: Once<Initrd> = Once::new();
static SEALS: Once<PageSeals> = Once::new();
static CRC32: Once<u32> = Once::new();
static BOOT_FILES: Once<BootFiles> = Once::new();
static PROC: pids::ProcFs = pids::ProcFs::new(GenFs::new(proc::FILES));
static CPUS: GenFs = GenFs::new(cpus::FILES);
static TMP: Once<tmp::Shared> = Once::new();
static KHO: GenFs = GenFs::new(kho::FILES);
static KHO_IN: GenDir = GenDir::new(kho::incoming_names, kho::show_incoming);
static KHO_OUT: GenDir = GenDir::new(kho::outgoing_names, kho::show_outgoing);
static KHO_SWITCH: GenFs = GenFs::new(kho::SWITCH);

/// The name under which the initrd's place crosses.
const SUBSYSTEM: &str = "initrd";

/// The initrd's part of a handover. Its pages stay where they are.
pub struct InitrdState;

impl Subsystem for InitrdState {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[Initrd::DESC]
    }

    fn size(&self) -> usize {
        encoded_size(&initrd())
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &initrd())
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let initrd: Initrd = from.get(0)?;
        check_preserved(&initrd).map_err(Refusal::Rejected)?;
        Ok(Prepared::new(move |takeover| mount(initrd, takeover)))
    }

    /// Its state has bytes, which end within a page.
    fn for_each_unlisted(&self, f: &mut dyn FnMut(PhysRange)) -> Result<(), String> {
        f(pages(&initrd()));
        Ok(())
    }

    /// The boot parameters say where it is, too, and so does the boot loader. The next life is to find it as well.
    fn anew(&self, takeover: &mut Takeover<'_>) {
        let initrd = Initrd {
            addr: boot::info().initrd.addr,
            size: boot::info().initrd.size,
            seals: None,
        };
        let kept = match outcome() {
            Outcome::Restored(_) => check_preserved(&initrd),
            Outcome::Refused(_) | Outcome::NotHandedOver(_)
                if boot::info().initrd_crc32 != Some(checksum(initrd.extent())) =>
            {
                Err("its checksum is wrong".into())
            }
            _ => memory::with_preserved(|map| map.preserve_range(pages(&initrd))),
        };
        match kept {
            Ok(()) => mount(initrd, takeover),
            Err(why) => takeover.trouble(alloc::format!(
                "the initrd at {} is lost: {why}",
                pages(&initrd)
            )),
        }
    }
}

fn initrd() -> Initrd {
    Initrd {
        seals: SEALS.get().cloned(),
        ..INITRD.get().cloned().unwrap_or_default()
    }
}

/// Where the initrd lies in physical memory.
pub fn initrd_extent() -> Extent {
    INITRD.get().map_or(Extent::default(), Initrd::extent)
}

impl Initrd {
    fn extent(&self) -> Extent {
        Extent {
            addr: self.addr,
            size: self.size,
        }
    }
}

fn checksum(initrd: Extent) -> u32 {
    // SAFETY: the initrd lies in RAM, by the boot loader's word or by that of checked boot parameters, and nobody writes there.
    let bytes = unsafe { boot::bytes_at(initrd) };
    crc32fast::hash(bytes)
}

/// CRC-32 of the initrd, as it was in the first life.
pub fn initrd_crc32() -> u32 {
    let now = || checksum(initrd_extent());
    *CRC32.call_once(|| boot::info().initrd_crc32.unwrap_or_else(now))
}

/// Seals the initrd's pages, so that each later life can tell whether they are as they were. Done once in all lives, when a
/// kernel is loaded.
pub fn seal_initrd() {
    let Some(range) = initrd_extent().range().filter(|range| !range.is_empty()) else {
        return;
    };
    if SEALS.is_completed() {
        return;
    }
    let sealed = PageSeals::new(range).map_err(|e| e.to_string());
    let sealed = sealed.and_then(|mut seals| {
        // Page by page, so that interrupts are never off for long.
        // SAFETY: nobody writes to the initrd.
        while memory::with_preserved(|map| unsafe { seals.seal_next(map) })? {}
        Ok(seals)
    });
    match sealed {
        Ok(seals) => {
            SEALS.call_once(|| seals);
        }
        Err(why) => crate::warning!("initrd: it crosses without seals: {why}"),
    }
}

/// The seals that the predecessor handed over: they count in this life, too, and are checked in its idle time.
fn take_seals(initrd: &Initrd, takeover: &mut Takeover<'_>) {
    let (Some(seals), Some(range)) = (&initrd.seals, initrd.extent().range()) else {
        return;
    };
    match seals.agrees(&range) {
        Ok(()) => {
            SEALS.call_once(|| seals.clone());
            handing::seals::check_later(SUBSYSTEM, seals.clone());
        }
        Err(error) => takeover.trouble(error.to_string()),
    }
}

/// The first page of these bytes, which may be the initrd's, that has changed since it was sealed.
pub fn damaged_page(bytes: &[u8]) -> Option<PhysRange> {
    let start = (bytes.as_ptr() as u64).checked_sub(DIRECT_MAP)?;
    let range = PhysRange::with_len(start, bytes.len() as u64)?;
    initrd_extent()
        .range()
        .filter(|initrd| initrd.contains_range(&range))?;
    handing::seals::damage_in(&range)
}

/// The whole pages that an initrd lies in.
fn pages(initrd: &Initrd) -> PhysRange {
    PhysRange {
        start: initrd.addr,
        end: initrd.addr.saturating_add(initrd.size),
    }
    .page_align_outwards()
}

/// An initrd that came with a handover is believed where the preserved map has all of it.
fn check_preserved(initrd: &Initrd) -> Result<(), String> {
    match memory::with_preserved(|map| Ok(map.first_gap(&pages(initrd))))? {
        None => Ok(()),
        Some(pa) => Err(alloc::format!("the page at {pa:#x} of it is not preserved")),
    }
}

/// From now on this is the initrd.
fn mount(initrd: Initrd, takeover: &mut Takeover<'_>) {
    takeover.claim(pages(&initrd));
    take_seals(&initrd, takeover);
    INITRD.call_once(|| initrd);
    BOOT_FILES.call_once(|| BootFiles(RomFs::new(unpack())));
}

/// The files of the initrd. A damaged archive has as many as can be read.
fn unpack() -> Vec<(String, &'static [u8])> {
    // SAFETY: the initrd is preserved and never written to.
    let bytes = unsafe { boot::bytes_at(initrd_extent()) };
    let Ok(archive) = TarArchiveRef::new(bytes) else {
        crate::warning!("initrd: not a tar archive; /boot is empty");
        return Vec::new();
    };
    archive
        .entries()
        .filter_map(|entry| Some((entry.filename().as_str().ok()?.to_string(), entry.data())))
        .collect()
}

/// A file of the initrd, in place, whatever became of its bytes: see [`damaged_page`].
pub fn boot_file(name: &str) -> Option<&'static [u8]> {
    BOOT_FILES.get()?.0.bytes(name)
}

/// The same by its whole path, for who believes the bytes. `None`: it is elsewhere, or not there.
///
/// # Errors
/// `EIO`, where a page of it has changed since it was sealed.
pub fn sound_boot_file(path: &str) -> Result<Option<&'static [u8]>, FsError> {
    match (path.strip_prefix("/boot/"), BOOT_FILES.get()) {
        (Some(name), Some(files)) => files.bytes(name),
        _ => Ok(None),
    }
}

/// The command line that stands in the initrd: that of a cold start.
pub fn initrd_cmdline() -> Option<&'static str> {
    // Asked for before the file tree exists, too: it says how large that and everything else may become.
    cmdline_in(boot::info().initrd)
}

/// The command line in an initrd that a boot loader has given.
pub fn cmdline_in(initrd: Extent) -> Option<&'static str> {
    // SAFETY: the boot loader marks the initrd's memory as its own; nothing writes there.
    let archive = TarArchiveRef::new(unsafe { boot::bytes_at(initrd) }).ok()?;
    let entry = archive
        .entries()
        .find(|e| e.filename().as_str() == Ok("cmdline"))?;
    core::str::from_utf8(entry.data()).ok()
}

/// What `/tmp` may take, in bytes: an eighth of the free memory, so that it never runs the kernel out of it.
fn tmp_limit() -> usize {
    DEFAULT_LIMIT_BYTES.min((memory::free_pages() * PAGE / 8) as usize)
}

/// Everything that is mounted: the same files, whoever asks.
pub fn mounts() -> Mounts<'static> {
    let mut mounts = Mounts::new();
    let boot_files = BOOT_FILES.call_once(|| BootFiles(RomFs::new(Vec::new())));
    let tmp = TMP.call_once(|| tmp::Shared::new(TmpFs::new(tmp_limit())));
    let all: [(&str, &'static dyn kernel::console::vfs::FileSystem); 11] = [
        ("/boot", boot_files),
        ("/proc", &PROC),
        ("/sys/devices/system/cpu", &CPUS),
        ("/sys/kernel/tracing", &tracefs::TRACEFS),
        // The path from before 2015, which many fingers still know.
        ("/sys/kernel/debug/tracing", &tracefs::TRACEFS),
        ("/sys/kernel/debug/kho", &KHO),
        ("/sys/kernel/debug/kho/in/sub_fdts", &KHO_IN),
        ("/sys/kernel/debug/kho/out/sub_fdts", &KHO_OUT),
        ("/sys/kernel/kho", &KHO_SWITCH),
        ("/sys/fs/pstore", &pstore::PSTORE),
        ("/tmp", tmp),
    ];
    for (point, fs) in all {
        if let Err(error) = mounts.mount(point, fs) {
            crate::warning!("{point}: cannot be mounted: {error}");
        }
    }
    mounts
}

/// Says which words of the command line mean nothing to this kernel.
pub fn check_cmdline() {
    for (name, value, wanted) in boot::cmdline().wrong() {
        crate::warning!("{name}={value}: {wanted} is wanted here; the default counts");
    }
    for name in boot::cmdline().unknown() {
        crate::warning!("command line: \"{name}\" means nothing to this kernel");
    }
}
