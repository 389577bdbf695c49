//! The kernel's own files: the initrd under `/boot`, `/proc`, `/sys/kernel/tracing`, `/sys/kernel/debug/kho`, `/tmp`.

mod cpus;
mod kho;
mod pids;
mod proc;
mod processes;
mod tmp;
mod tracefs;

use crate::boot;
use crate::handing::{Outcome, Received, Subsystem, outcome};
use crate::memory;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use handover::error::Error;
use handover::range::PhysRange;
use handover::state::{Desc, KState, StreamWriter, encoded_size};
use kernel::console::genfs::{GenFs, RomFs};
use kernel::console::tmpfs::{DEFAULT_LIMIT_BYTES, TmpFs};
use kernel::console::vfs::Mounts;
use kernel::layout::PAGE;
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
}

static INITRD: Once<Initrd> = Once::new();
static BOOT_FILES: Once<RomFs<'static>> = Once::new();
static PROC: pids::ProcFs = pids::ProcFs::new(GenFs::new(proc::FILES));
static CPUS: GenFs = GenFs::new(cpus::FILES);
static TMP: Once<tmp::Shared> = Once::new();
static KHO: GenFs = GenFs::new(kho::FILES);
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
}

fn initrd() -> Initrd {
    INITRD.get().cloned().unwrap_or_default()
}

/// Where the initrd lies in physical memory.
pub fn initrd_extent() -> Extent {
    let initrd = initrd();
    Extent {
        addr: initrd.addr,
        size: initrd.size,
    }
}

fn checksum(initrd: &Initrd) -> u32 {
    // SAFETY: the initrd lies in RAM, by the boot loader's word or by that of checked boot parameters, and nobody writes there.
    crc32fast::hash(unsafe {
        boot::bytes_at(Extent {
            addr: initrd.addr,
            size: initrd.size,
        })
    })
}

/// CRC-32 of the initrd.
pub fn initrd_crc32() -> u32 {
    checksum(&initrd())
}

/// Finds the initrd, and makes sure that the next life will.
pub fn init(received: &Received) {
    let given = Initrd {
        addr: boot::info().initrd.addr,
        size: boot::info().initrd.size,
    };
    // The boot parameters say it, too, for a kernel that cannot read the entry.
    let initrd = match outcome() {
        Outcome::Restored(_) => received.restore::<Initrd>(SUBSYSTEM).unwrap_or(given),
        _ => given,
    };
    let pages = PhysRange {
        start: initrd.addr,
        end: initrd.addr.saturating_add(initrd.size),
    }
    .page_align_outwards();
    let kept = match outcome() {
        // It is believed where the preserved map has all of it.
        Outcome::Restored(_) => {
            memory::with_preserved(|map| Ok(map.first_gap(&pages))).and_then(|gap| match gap {
                None => Ok(()),
                Some(pa) => Err(alloc::format!("the page at {pa:#x} of it is not preserved")),
            })
        }
        Outcome::Refused(_) | Outcome::NotHandedOver
            if boot::info().initrd_crc32 != Some(checksum(&initrd)) =>
        {
            Err("its checksum is wrong".into())
        }
        _ => memory::with_preserved(|map| map.preserve_range(pages)),
    };
    match kept {
        Ok(()) => received.claim(SUBSYSTEM, pages),
        Err(why) => {
            received.trouble(alloc::format!("the initrd at {pages} is lost: {why}"));
            return;
        }
    }
    INITRD.call_once(|| initrd);
    BOOT_FILES.call_once(|| RomFs::new(unpack()));
    check_cmdline();
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

/// A file of the initrd, in place.
pub fn boot_file(name: &str) -> Option<&'static [u8]> {
    BOOT_FILES.get()?.bytes(name)
}

/// The command line that stands in the initrd: that of a cold start.
pub fn initrd_cmdline() -> Option<&'static str> {
    // Asked for before the file tree exists, too: it says how large that and everything else may become.
    let given = boot::info().initrd;
    // SAFETY: the boot loader marks the initrd's memory as its own; nothing writes there.
    let archive = TarArchiveRef::new(unsafe { boot::bytes_at(given) }).ok()?;
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
    let boot_files = BOOT_FILES.call_once(|| RomFs::new(Vec::new()));
    let tmp = TMP.call_once(|| tmp::Shared::new(TmpFs::new(tmp_limit())));
    let all: [(&str, &'static dyn kernel::console::vfs::FileSystem); 8] = [
        ("/boot", boot_files),
        ("/proc", &PROC),
        ("/sys/devices/system/cpu", &CPUS),
        ("/sys/kernel/tracing", &tracefs::TRACEFS),
        // The path from before 2015, which many fingers still know.
        ("/sys/kernel/debug/tracing", &tracefs::TRACEFS),
        ("/sys/kernel/debug/kho", &KHO),
        ("/sys/kernel/kho", &KHO_SWITCH),
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
fn check_cmdline() {
    for (name, value, wanted) in boot::cmdline().wrong() {
        crate::warning!("{name}={value}: {wanted} is wanted here; the default counts");
    }
    for name in boot::cmdline().unknown() {
        crate::warning!("command line: \"{name}\" means nothing to this kernel");
    }
}
