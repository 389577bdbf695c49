//! The old kernel's side: freeze, describe, seal, go.

use super::incoming::FDT;
use super::{Live, Member, contradiction, damage, directory, generation};
use crate::memory::{self, IrqMutex};
use crate::{boot, events};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use handover::error::Error;
use handover::fdt::{self, Root, Subsystem as FdtSubsystem};
use handover::metadata::{self, KexecMetadata};
use handover::page::PageRef;
use handover::range::{self, PhysRange};
use handover::state::{Descriptions, STREAM_OVERHEAD, StreamReader, StreamWriter};
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
        let page = memory::with_preserved(|map| map.alloc_preserved(order as u8))
            .map_err(|error| format!("there is no memory to describe the state in: {error}"))?;
        let mut blob = Blob { page, size };
        blob.bytes().fill(0);
        Ok(blob)
    }

    /// A block with these bytes: the one that was ready for them, if they fit there.
    fn with(bytes: &[u8], ready: Option<Blob>) -> Result<Blob, String> {
        let mut blob = match ready {
            Some(blob) if bytes.len() as u64 <= blob.page.size() => blob,
            _ => Blob::new(bytes.len())?,
        };
        blob.size = bytes.len();
        blob.bytes().copy_from_slice(bytes);
        Ok(blob)
    }

    /// All of its pages.
    fn room(&mut self) -> &mut [u8] {
        // SAFETY: the block is this value's alone, and the direct map covers it.
        unsafe {
            core::slice::from_raw_parts_mut(
                (DIRECT_MAP + self.page.pa) as *mut u8,
                self.page.size() as usize,
            )
        }
    }

    /// What of it is used.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        let size = self.size;
        &mut self.room()[..size]
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
    /// What its stream begins with.
    descriptions: Descriptions,
    /// Whose it is; nobody's is what this module says itself.
    member: Option<&'static Member>,
}

/// What can be had ready for a handover before there is one: blobs as large as what they are for is now, or larger, by name (the
/// FDT among them), and the descriptions, which do not change.
type Ahead = Vec<(&'static str, Blob, Descriptions)>;

static AHEAD: IrqMutex<Ahead> = IrqMutex::new(Vec::new());

/// What of it is ready for a name.
fn take_ready(ahead: &mut Ahead, name: &str) -> Option<(Blob, Descriptions)> {
    let at = ahead.iter().position(|(ready, ..)| *ready == name)?;
    let (_, blob, descriptions) = ahead.swap_remove(at);
    Some((blob, descriptions))
}

/// Held by whoever loads a kernel, or freezes and describes: a subsystem does not count how many have frozen it, and would be
/// thawed by the first of two while the other describes it.
static TURN: spin::Mutex<()> = spin::Mutex::new(());

/// The right to do that, until it is dropped. Whoever has it may be a task that a kexec finds asleep: nobody waits for it.
pub type Turn = spin::MutexGuard<'static, ()>;

/// Why there is no [`Turn`] to be had.
pub const BUSY: &str =
    "a kernel is being loaded, or what would be handed over is being read, at this moment";

/// The right to load a kernel, or to freeze and describe; `None` while somebody else has it.
pub fn take_turn() -> Option<Turn> {
    TURN.try_lock()
}

/// Gets that ready, in place of what was before. It is no error where it cannot be had: [`prepare`] does without.
pub fn prepare_ahead(turn: &Turn) {
    forget_ahead();
    let Ok(rehearsed) = prepare_with(turn, boot::cmdline().0, Vec::new(), |_| {}) else {
        return;
    };
    let mut ahead = Vec::new();
    let mut get_ready = |name, size: usize, descriptions| {
        // Some room to grow, without work at the end.
        if let Ok(blob) = Blob::new(size + size / 4) {
            ahead.push((name, blob, descriptions));
        }
    };
    get_ready(FDT, rehearsed.fdt.size, Descriptions::default());
    for mut part in rehearsed.parts {
        // What is no stream has none.
        let descriptions = StreamReader::new(part.blob.bytes())
            .map(|stream| stream.descriptions())
            .unwrap_or_default();
        get_ready(part.name, part.blob.size, descriptions);
    }
    *AHEAD.lock() = ahead;
}

/// Gives that back.
pub fn forget_ahead() {
    // Dropped after the lock is free.
    let _before = core::mem::take(&mut *AHEAD.lock());
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
pub fn prepare(turn: &Turn, cmdline: &str) -> Result<Outgoing, String> {
    let ahead = core::mem::take(&mut *AHEAD.lock());
    let mut outgoing = prepare_with(turn, cmdline, ahead, |phase| {
        events::kexec_phase(generation(), phase)
    })?;
    outgoing.check()?;
    Ok(outgoing)
}

fn prepare_with(
    _turn: &Turn,
    cmdline: &str,
    mut ahead: Ahead,
    phase: impl Fn(&str),
) -> Result<Outgoing, String> {
    if let Some(why) = contradiction() {
        return Err(why);
    }
    let directory = directory().map_err(|error| error.to_string())?;
    phase("freeze");
    let frozen = directory.freeze().map_err(|no| no.to_string())?;
    phase("describe");
    let mut parts = Vec::new();
    let count = KexecMetadata::new(crate::VERSION, generation() + 1)
        .map_err(|e| e.to_string())?
        .encode();
    let ready = take_ready(&mut ahead, metadata::NAME);
    let blob = Blob::with(&count, ready.map(|(blob, _)| blob))?;
    parts.push(Part {
        name: metadata::NAME,
        blob,
        descriptions: Descriptions::default(),
        member: None,
    });
    for subsystem in frozen.subsystems() {
        let ready = take_ready(&mut ahead, subsystem.name());
        parts.push(part(subsystem, ready)?);
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
    let ready = take_ready(&mut ahead, FDT);
    let fdt = Blob::with(&built, ready.map(|(blob, _)| blob))?;
    Ok(Outgoing { fdt, parts, frozen })
}

/// A subsystem's part, in the blob that was ready for it if it fits there.
fn part(subsystem: &'static Member, ready: Option<(Blob, Descriptions)>) -> Result<Part, String> {
    let name = subsystem.name();
    let failed = |error: Error| format!("{name}: {error}");
    let mut part = match ready {
        Some((blob, descriptions)) => Part {
            name,
            blob,
            descriptions,
            member: Some(subsystem),
        },
        None => Part {
            name,
            blob: Blob::new(STREAM_OVERHEAD + subsystem.size())?,
            descriptions: Descriptions::default(),
            member: Some(subsystem),
        },
    };
    match part.describe(subsystem) {
        Ok(()) => {}
        // It has grown since.
        Err(Error::StreamRoom { .. }) => {
            part.blob = Blob::new(STREAM_OVERHEAD + subsystem.size() + part.descriptions.len())?;
            part.describe(subsystem).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(part)
}

impl Part {
    /// Writes the stream. No allocation.
    fn describe(&mut self, subsystem: &Member) -> Result<(), Error> {
        let mut stream = StreamWriter::with_descriptions(self.blob.room(), &self.descriptions);
        subsystem.describe(&mut stream)?;
        self.blob.size = stream.finish()?;
        Ok(())
    }
}

impl Outgoing {
    /// Nothing is handed over whose memory the successor would give to somebody else: all is preserved that the states call
    /// their own.
    fn check(&mut self) -> Result<(), String> {
        for part in &mut self.parts {
            let checks_itself = part.member.is_none_or(|member| member.checks_pages());
            if checks_itself {
                continue;
            }
            let name = part.name;
            let lost = StreamReader::new(part.blob.bytes())
                .map_err(|error| format!("{name}: {error}"))?
                .check_holdings(&Live, |_| true);
            lost.map_err(|lost| format!("{name}: {lost}; it cannot be handed over"))?;
        }
        Ok(())
    }

    /// The last words: those who changed until now are described again, in place. Interrupts are off; nothing here
    /// allocates. Returns where the FDT lies.
    pub fn seal(&mut self) -> Extent {
        for part in &mut self.parts {
            let Some(subsystem) = part.member.filter(|member| member.late()) else {
                continue;
            };
            // The stream has the size of the first time, when it did fit. Should it not, its checksum below is that of
            // what is there, the successor finds an unfinished stream, says so, and starts that subsystem cold.
            let _ = part.describe(subsystem);
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
/// As [`prepare`]; or somebody else has the [`Turn`].
pub fn rehearse() -> Result<Box<[u8]>, String> {
    let turn = take_turn().ok_or(BUSY)?;
    let mut outgoing = prepare_with(&turn, boot::cmdline().0, Vec::new(), |_| {})?;
    outgoing.check()?;
    Ok(outgoing.fdt.bytes().to_vec().into_boxed_slice())
}

/// What each subsystem calls its own now: whole pages, in order. Not all of it need be preserved.
///
/// # Errors
/// As [`rehearse`]; or there is no memory for the list.
pub fn holdings() -> Result<Vec<(&'static str, Vec<PhysRange>)>, String> {
    let turn = take_turn().ok_or(BUSY)?;
    let mut outgoing = prepare_with(&turn, boot::cmdline().0, Vec::new(), |_| {})?;
    let mut all = Vec::new();
    for part in &mut outgoing.parts {
        let Some(member) = part.member else {
            continue;
        };
        let name = part.name;
        let mut ranges: Vec<PhysRange> = Vec::new();
        let mut full = false;
        let mut note = |range: PhysRange| {
            if let Some(last) = ranges.last_mut().filter(|last| last.end == range.start) {
                last.end = range.end;
            } else if ranges.try_reserve(1).is_ok() {
                ranges.push(range);
            } else {
                full = true;
            }
        };
        let stream =
            StreamReader::new(part.blob.bytes()).map_err(|error| format!("{name}: {error}"))?;
        for entry in stream.entries() {
            let listed = stream.for_each_holding(&entry, &mut |held| note(held.range()));
            listed.map_err(|error| format!("{name}: {error}"))?;
        }
        let unlisted = member.for_each_unlisted(&mut note);
        unlisted.map_err(|why| format!("{name}: {why}"))?;
        if full {
            return Err(format!(
                "{name}: there is no memory for a list of its pages"
            ));
        }
        range::normalize(&mut ranges);
        all.push((name, ranges));
    }
    Ok(all)
}

/// The blobs of such a rehearsal, by name.
///
/// # Errors
/// As [`rehearse`].
pub fn rehearse_blobs() -> Result<Vec<(String, Vec<u8>)>, String> {
    let turn = take_turn().ok_or(BUSY)?;
    let mut outgoing = prepare_with(&turn, boot::cmdline().0, Vec::new(), |_| {})?;
    outgoing.check()?;
    let mut blobs = Vec::new();
    for part in &mut outgoing.parts {
        let bytes = part.blob.bytes();
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(|_| {
            let (name, len) = (part.name, bytes.len());
            format!("{name}: there is no memory for a copy of its {len} bytes")
        })?;
        copy.extend_from_slice(bytes);
        blobs.push((part.name.into(), copy));
    }
    Ok(blobs)
}
