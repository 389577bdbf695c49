//! The old kernel's side: freeze, describe, seal, go.

use super::{Member, damage, directory, generation};
use crate::memory;
use crate::{boot, events};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use handover::error::Error;
use handover::fdt::{self, Root, Subsystem as FdtSubsystem};
use handover::metadata::{self, KexecMetadata};
use handover::page::PageRef;
use handover::state::{STREAM_OVERHEAD, StreamWriter};
use handover::subsystem::Frozen;
use kernel::layout::{DIRECT_MAP, PAGE};
use kernel::params::Extent;

/// A block of preserved pages with bytes for the successor.
#[derive(Debug)]
pub(super) struct Blob {
    page: PageRef,
    size: usize,
}

impl Blob {
    /// Allocates and preserves room for `size` bytes, zeroed.
    fn new(size: usize) -> Result<Blob, String> {
        let pages = (size.max(1) as u64).div_ceil(PAGE);
        let order = pages.next_power_of_two().trailing_zeros();
        let page =
            memory::with_preserved(|map| map.alloc_preserved(order as u8)).map_err(|error| {
                alloc::format!("there is no memory to describe the state in: {error}")
            })?;
        let mut blob = Blob { page, size };
        blob.bytes().fill(0);
        Ok(blob)
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is this value's alone, and the direct map covers it.
        unsafe {
            core::slice::from_raw_parts_mut((DIRECT_MAP + self.page.pa) as *mut u8, self.size)
        }
    }

    /// Makes it end earlier.
    pub(super) fn cut(&mut self, size: usize) {
        self.size = self.size.min(size);
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        // SAFETY: the block is this value's, which ends.
        let freed = memory::with_preserved(|map| unsafe { map.free_preserved(self.page) });
        if let Err(error) = freed {
            crate::error!("handover: a blob's pages stay preserved: {error}");
        }
    }
}

/// What one name hands over.
struct Part {
    name: &'static str,
    blob: Blob,
    /// Whose it is, if it is described again at the end.
    late: Option<&'static Member>,
}

/// A handover, ready but for its last words. Dropping it thaws everybody: the kexec did not happen.
pub struct Outgoing {
    fdt: Blob,
    parts: Vec<Part>,
    frozen: Frozen<'static, Member>,
}

/// Freezes everybody and describes everything.
///
/// # Errors
/// A sentence that names who said no, or what there was no memory for; everybody goes on then.
pub fn prepare(cmdline: &str) -> Result<Outgoing, String> {
    prepare_with(cmdline, |phase| events::kexec_phase(generation(), phase))
}

fn prepare_with(cmdline: &str, phase: impl Fn(&str)) -> Result<Outgoing, String> {
    let directory = directory().map_err(|error| error.to_string())?;
    phase("freeze");
    let frozen = directory.freeze().map_err(|no| no.to_string())?;
    phase("describe");
    let mut parts = Vec::new();
    let count = KexecMetadata::new(crate::VERSION, generation() + 1)
        .map_err(|e| e.to_string())?
        .encode();
    let mut blob = Blob::new(count.len())?;
    blob.bytes().copy_from_slice(&count);
    parts.push(Part {
        name: metadata::NAME,
        blob,
        late: None,
    });
    for subsystem in frozen.subsystems() {
        let name = subsystem.name();
        let mut blob = Blob::new(STREAM_OVERHEAD + subsystem.size())?;
        describe(subsystem, blob.bytes()).map_err(|e| alloc::format!("{name}: {e}"))?;
        let late = subsystem.late().then_some(subsystem);
        parts.push(Part { name, blob, late });
    }
    let root = Root {
        map_root: memory::with_preserved(|map| Ok(map.root()))?,
        subsystems: parts
            .iter_mut()
            .map(|part| FdtSubsystem {
                name: part.name.into(),
                data: part.blob.page.pa,
                size: part.blob.size as u64,
                crc32: crc32fast::hash(part.blob.bytes()),
            })
            .collect(),
        bootargs: cmdline.into(),
    };
    let built = fdt::build(&root).map_err(|e| e.to_string())?;
    let mut fdt = Blob::new(built.len())?;
    fdt.bytes().copy_from_slice(&built);
    Ok(Outgoing { fdt, parts, frozen })
}

fn describe(subsystem: &Member, out: &mut [u8]) -> Result<usize, Error> {
    let mut stream = StreamWriter::new(out);
    subsystem.describe(&mut stream)?;
    stream.finish()
}

impl Outgoing {
    /// The last words: those who changed until now are described again, in place. Interrupts are off; nothing here
    /// allocates. Returns where the FDT lies.
    pub fn seal(&mut self) -> Extent {
        for part in &mut self.parts {
            let Some(subsystem) = part.late else {
                continue;
            };
            // The stream has the size of the first time, when it did fit. Should it not, its checksum below is that of
            // what is there, the successor finds an unfinished stream, says so, and starts that subsystem cold.
            let _ = describe(subsystem, part.blob.bytes());
            let (size, crc32) = (part.blob.size as u64, crc32fast::hash(part.blob.bytes()));
            let _ = fdt::set_subsystem(self.fdt.bytes(), part.name, size, crc32);
        }
        // The map changes no more: from now on a flipped bit in one of its pages is found, too.
        if let Ok(digest) = memory::with_preserved(|map| Ok(map.digest())) {
            let _ = fdt::set_map_digest(self.fdt.bytes(), digest);
        }
        damage::apply(self);
        Extent {
            addr: self.fdt.page.pa,
            size: self.fdt.size as u64,
        }
    }

    /// The FDT as it stands.
    pub(super) fn fdt(&mut self) -> &mut Blob {
        &mut self.fdt
    }

    /// A name's blob.
    pub(super) fn blob(&mut self, name: &str) -> Option<&mut Blob> {
        let part = self.parts.iter_mut().find(|part| part.name == name)?;
        Some(&mut part.blob)
    }

    /// The kexec happens: nobody is thawed any more, and nothing is given back.
    pub fn go(self) {
        self.frozen.commit();
        core::mem::forget(self.parts);
        core::mem::forget(self.fdt);
    }
}

/// What would be handed over now: the FDT of a rehearsal, after which everybody goes on.
///
/// # Errors
/// As [`prepare`].
pub fn rehearse() -> Result<Box<[u8]>, String> {
    let mut outgoing = prepare_with(boot::cmdline().0, |_| {})?;
    Ok(outgoing.fdt.bytes().to_vec().into_boxed_slice())
}

/// The blobs of such a rehearsal, by name.
///
/// # Errors
/// As [`prepare`].
pub fn rehearse_blobs() -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut outgoing = prepare_with(boot::cmdline().0, |_| {})?;
    let parts = outgoing.parts.iter_mut();
    Ok(parts
        .map(|part| (part.name.into(), part.blob.bytes().to_vec()))
        .collect())
}
