//! Handing over and taking over: what this kernel leaves its successor, and what it accepts of its predecessor.
//!
//! The old kernel's side is [`prepare`] (freeze, describe: all that can fail), then [`Outgoing::seal`] with interrupts off
//! (nothing that can fail, no allocation). The new kernel's side is [`receive`] (check everything, believe nothing
//! before), the subsystems' [`Received::restore`], and [`finish`] (give back what nobody claimed, say what happened).

pub mod damage;
pub mod report;
pub mod seals;
pub mod switch;

use crate::boot::{self, Origin, bytes_at};
use crate::machine::clock;
use crate::memory::{self, IrqMutex, Phys};
use crate::{demo_state, events, files, kho_test, machine, terminal, tracing};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use handover::check::{Incoming, Verified, verify};
use handover::claims::Claims;
use handover::error::Error;
use handover::fdt::{self, Root, Subsystem as FdtSubsystem};
use handover::mem::Memory;
use handover::metadata::{self, KexecMetadata};
use handover::page::PageRef;
use handover::radix::PreservedMap;
use handover::range::PhysRange;
use handover::state::{Desc, KState, STREAM_OVERHEAD, StreamReader, StreamWriter};
use handover::subsystem::{Node, Outcome as Became, Report, order};
use kernel::layout::{DIRECT_MAP, PAGE};
use kernel::params::Extent;
use spin::{Mutex, Once};

/// Something with state that crosses.
pub trait Subsystem: Sync {
    /// The name of its node in the FDT.
    fn name(&self) -> &'static str;
    /// What it puts into its stream; the ids are nobody else's.
    fn states(&self) -> &'static [Desc];
    /// Asked before anything is described: stop changing, or say why the kexec cannot go on now.
    fn freeze(&self) -> Result<(), String> {
        Ok(())
    }
    /// The kexec does not happen after all: go on.
    fn thaw(&self) {}
    /// Bytes of all entries, with their headers.
    fn size(&self) -> usize;
    /// Writes the entries. Called once after `freeze`, and once more at the very end (interrupts off) for a subsystem
    /// that says `late`, into a stream of the same size.
    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error>;
    /// Whether it changes up to the jump, and is described a second time then, without allocation.
    fn late(&self) -> bool {
        false
    }
}

/// Everybody who has state, in the order of asking. The tracer is last: it records all that the others do.
fn subsystems() -> [&'static dyn Subsystem; 6] {
    [
        &machine::State,
        &files::InitrdState,
        &terminal::State,
        &demo_state::State,
        &kho_test::State,
        &tracing::State,
    ]
}

/// A block of preserved pages with bytes for the successor.
#[derive(Debug)]
struct Blob {
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

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is this value's alone, and the direct map covers it.
        unsafe {
            core::slice::from_raw_parts_mut((DIRECT_MAP + self.page.pa) as *mut u8, self.size)
        }
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

/// A handover, ready but for its last words. Dropping it thaws everybody: the kexec did not happen.
pub struct Outgoing {
    fdt: Blob,
    blobs: Vec<(&'static str, Blob, Option<&'static dyn Subsystem>)>,
    frozen: Frozen,
}

/// Those who have been frozen; dropping it thaws them, the last first.
struct Frozen(Vec<&'static dyn Subsystem>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for subsystem in self.0.drain(..).rev() {
            subsystem.thaw();
        }
    }
}

/// Freezes everybody and describes everything.
///
/// # Errors
/// A sentence that names who said no, or what there was no memory for; everybody goes on then.
pub fn prepare(cmdline: &str) -> Result<Outgoing, String> {
    prepare_with(cmdline, |phase| events::kexec_phase(generation(), phase))
}

fn prepare_with(cmdline: &str, phase: impl Fn(&str)) -> Result<Outgoing, String> {
    phase("freeze");
    let mut frozen = Frozen(Vec::new());
    for subsystem in subsystems() {
        subsystem
            .freeze()
            .map_err(|why| format!("{} says no: {why}", subsystem.name()))?;
        frozen.0.push(subsystem);
    }
    phase("describe");
    let mut blobs = Vec::new();
    let count = KexecMetadata::new(crate::VERSION, generation() + 1)
        .map_err(|e| e.to_string())?
        .encode();
    let mut metadata = Blob::new(count.len())?;
    metadata.bytes().copy_from_slice(&count);
    blobs.push((metadata::NAME, metadata, None));
    for subsystem in subsystems() {
        let mut blob = Blob::new(STREAM_OVERHEAD + subsystem.size())?;
        describe(subsystem, blob.bytes()).map_err(|e| format!("{}: {e}", subsystem.name()))?;
        blobs.push((subsystem.name(), blob, Some(subsystem)));
    }
    let root = Root {
        map_root: memory::with_preserved(|map| Ok(map.root()))?,
        subsystems: blobs
            .iter_mut()
            .map(|(name, blob, _)| FdtSubsystem {
                name: (*name).into(),
                data: blob.page.pa,
                size: blob.size as u64,
                crc32: crc32fast::hash(blob.bytes()),
            })
            .collect(),
        bootargs: cmdline.into(),
    };
    let built = fdt::build(&root).map_err(|e| e.to_string())?;
    let mut fdt = Blob::new(built.len())?;
    fdt.bytes().copy_from_slice(&built);
    Ok(Outgoing { fdt, blobs, frozen })
}

fn describe(subsystem: &dyn Subsystem, out: &mut [u8]) -> Result<usize, Error> {
    let mut stream = StreamWriter::new(out);
    subsystem.describe(&mut stream)?;
    stream.finish()
}

impl Outgoing {
    /// The last words: those who changed until now are described again, in place. Interrupts are off; nothing here
    /// allocates. Returns where the FDT lies.
    pub fn seal(&mut self) -> Extent {
        for (name, blob, subsystem) in &mut self.blobs {
            let Some(subsystem) = *subsystem else {
                continue;
            };
            if !subsystem.late() {
                continue;
            }
            // The stream has the size of the first time, when it did fit. Should it not, its checksum below is that of
            // what is there, the successor finds an unfinished stream, says so, and starts that subsystem cold.
            let _ = describe(subsystem, blob.bytes());
            let (size, crc32) = (blob.size as u64, crc32fast::hash(blob.bytes()));
            let _ = fdt::set_subsystem(self.fdt.bytes(), name, size, crc32);
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
    pub fn fdt(&mut self) -> Vec<u8> {
        self.fdt.bytes().to_vec()
    }

    /// The kexec happens: nobody is thawed any more, and nothing is given back.
    pub fn go(self) {
        core::mem::forget(self.frozen);
        core::mem::forget(self.blobs);
        core::mem::forget(self.fdt);
    }
}

/// How a life began, as the banner has it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No predecessor.
    Cold,
    /// An ordinary kexec: the predecessor was told to hand nothing over.
    NotHandedOver,
    /// The predecessor's state is here: its release.
    Restored(String),
    /// There was a predecessor, and what it handed over cannot be trusted: why.
    Refused(String),
}

static OUTCOME: Once<Outcome> = Once::new();

/// How this life began.
pub fn outcome() -> &'static Outcome {
    OUTCOME.get().unwrap_or(&Outcome::Cold)
}

/// Which life this is, counted from 0 at the last cold start.
pub fn generation() -> u32 {
    match outcome() {
        Outcome::Restored(_) => boot::info().generation,
        _ => 0,
    }
}

/// The FDT that this kernel was handed, for `/sys/kernel/debug/kho/in/fdt`.
static INCOMING_FDT: Once<Vec<u8>> = Once::new();

/// See [`INCOMING_FDT`]. `None` after a cold start.
pub fn incoming_fdt() -> Option<&'static [u8]> {
    INCOMING_FDT.get().map(Vec::as_slice)
}

/// TSC values of the new kernel's phases, recorded once there is a tracer.
static PHASES: IrqMutex<arrayvec::ArrayVec<(&'static str, u64), 8>> =
    IrqMutex::new(arrayvec::ArrayVec::new_const());

/// Notes that a phase of the start begins now.
pub fn phase(name: &'static str) {
    let _ = PHASES.lock().try_push((name, clock::tsc()));
}

/// The phases so far, for the tracer.
pub fn take_phases() -> arrayvec::ArrayVec<(&'static str, u64), 8> {
    core::mem::take(&mut *PHASES.lock())
}

/// The name under which the FDT stands among the blobs; no subsystem can be called so (see `fdt::build`).
const FDT: &str = "the FDT";

/// What came over, checked.
pub struct Received {
    map: Mutex<Option<PreservedMap<Phys>>>,
    /// Who takes what; the FDT counts as a blob.
    claims: Mutex<Claims>,
    /// What became of each subsystem.
    report: Mutex<Report>,
    /// Sentences about what could not be restored.
    troubles: Mutex<Vec<String>>,
}

/// Checks what the predecessor left, if there was one.
pub fn receive() -> Received {
    let nodes = subsystems().map(|s| Node {
        name: s.name(),
        after: &[],
        states: s.states(),
    });
    if let Err(error) = order(&nodes) {
        // A mistake of who wrote this kernel; each subsystem's own stream is still read as it was written.
        crate::error!("handover: {error}");
    }
    let info = boot::info();
    let received = Received {
        map: Mutex::new(None),
        claims: Mutex::new(Claims::default()),
        report: Mutex::new(Report::default()),
        troubles: Mutex::new(Vec::new()),
    };
    if info.origin == Origin::Cold {
        OUTCOME.call_once(|| Outcome::Cold);
        return received;
    }
    if info.fdt == Extent::default() {
        OUTCOME.call_once(|| Outcome::NotHandedOver);
        return received;
    }
    phase("check");
    match check(info) {
        Ok(verified) => {
            let release = release(&verified);
            let mut blobs = verified.blobs;
            blobs.push((FDT.into(), whole_pages(info.fdt)));
            let mut claims = Claims::new(blobs);
            // These two have been read.
            for name in [FDT, metadata::NAME] {
                claims.take(name);
            }
            *received.claims.lock() = claims;
            *received.map.lock() = Some(verified.map);
            OUTCOME.call_once(|| Outcome::Restored(release));
        }
        Err(why) => {
            OUTCOME.call_once(|| Outcome::Refused(why));
        }
    }
    received
}

fn whole_pages(extent: Extent) -> PhysRange {
    PhysRange {
        start: extent.addr,
        end: extent.addr + extent.size,
    }
    .page_align_outwards()
}

fn check(info: &boot::Info) -> Result<Verified<Phys>, String> {
    if info.fdt.size == 0 {
        return Err("the predecessor handed nothing over".into());
    }
    let ram = memory::ram();
    let scratch: Vec<PhysRange> = info.scratch.iter().filter_map(Extent::range).collect();
    let image: Vec<PhysRange> = info.placed.range().into_iter().collect();
    let verified = verify(
        Phys,
        &Incoming {
            fdt_pa: info.fdt.addr,
            fdt_size: info.fdt.size,
            ram: &ram,
            scratch: &scratch,
            image: &image,
        },
    )
    .map_err(|error| error.to_string())?;
    // SAFETY: checked to be RAM, outside of scratch and preserved: nobody writes there.
    INCOMING_FDT.call_once(|| unsafe { bytes_at(info.fdt) }.to_vec());
    Ok(verified)
}

fn release(verified: &Verified<Phys>) -> String {
    let blob = verified.blob(metadata::NAME);
    // SAFETY: verified: in RAM, preserved, nobody's to write.
    let bytes = blob.map(|range| unsafe { bytes_at(range.into()) });
    match bytes.map(KexecMetadata::decode) {
        Some(Ok(metadata)) => metadata.previous_release().into(),
        _ => "an unknown release".into(),
    }
}

impl Received {
    /// The predecessor's map, once.
    pub fn take_map(&self) -> Option<PreservedMap<Phys>> {
        self.map.lock().take()
    }

    /// A subsystem's only entry of type `T`. `None` after a cold start; and where it cannot be read, which is noted.
    pub fn restore<T: KState>(&self, subsystem: &str) -> Option<T> {
        let stream = self.blob(subsystem)?;
        match StreamReader::new(stream).and_then(|reader| reader.get::<T>(0)) {
            Ok(value) => {
                let restored = Became::Restored { left_out: 0 };
                self.report.lock().note(subsystem, restored);
                Some(value)
            }
            Err(error) => {
                self.report.lock().note(subsystem, Became::Refused(error));
                self.trouble(format!("{subsystem}: {error}"));
                None
            }
        }
    }

    fn blob(&self, name: &str) -> Option<&'static [u8]> {
        if !matches!(outcome(), Outcome::Restored(_)) {
            return None;
        }
        let taken = self.claims.lock().take(name);
        let Some(range) = taken else {
            self.report.lock().note(name, Became::Missing);
            self.trouble(format!(
                "{name}: the predecessor handed nothing over for it; it starts anew"
            ));
            return None;
        };
        // SAFETY: verified: in RAM, preserved, nobody's to write until `finish` frees it.
        Some(unsafe { bytes_at(range.into()) })
    }

    /// Notes what could not be restored.
    pub fn trouble(&self, sentence: String) {
        self.troubles.lock().push(sentence);
    }

    /// Says that preserved memory is in use in this life, too, and by which subsystem.
    pub fn claim(&self, owner: &str, range: PhysRange) {
        self.claims.lock().claim(owner, range);
    }
}

/// Ends the taking over: blobs and FDT are freed, what nobody claimed is given back, and troubles are told.
pub fn finish(received: Received) {
    match outcome() {
        Outcome::Refused(why) => crate::warning!(
            "{why}; this kernel starts cold inside scratch, and leaves all other memory alone"
        ),
        Outcome::NotHandedOver => crate::warning!(
            "handover: switched off in the predecessor: nothing crossed, this kernel starts cold"
        ),
        Outcome::Cold | Outcome::Restored(_) => {}
    }
    switch::init();
    let mut lines = String::new();
    if matches!(outcome(), Outcome::Restored(_)) {
        let claims = received.claims.into_inner();
        lines = report::keep_what_came(&claims, received.report.into_inner());
        for (owner, pages) in claims.by_owner() {
            crate::info!("handover: {owner} took over {pages} pages");
        }
        let mut blocks = Vec::new();
        match memory::with_preserved(|map| Ok(claims.discard(map, |block| blocks.push(block)))) {
            Ok(discarded) => {
                lines += &format!(
                    "{} pages discarded: preserved, and claimed by nobody\n",
                    discarded.pages
                );
                if !discarded.is_empty() {
                    crate::warning!("handover: {discarded}");
                }
            }
            Err(error) => crate::error!("handover: {error}"),
        }
        report::keep_ranges("given back", blocks.iter().map(PageRef::range).collect());
        for block in blocks {
            // SAFETY: a block of the predecessor's that nobody in this life uses, no longer preserved.
            unsafe { Phys.free_pages(block.pa, u32::from(block.order)) };
        }
    }
    for trouble in received.troubles.into_inner() {
        crate::warning!("handover: {trouble}");
        lines += &format!("trouble: {trouble}\n");
    }
    report::keep(lines);
}

/// What would be handed over now: the FDT of a rehearsal, after which everybody goes on.
///
/// # Errors
/// As [`prepare`].
pub fn rehearse() -> Result<Box<[u8]>, String> {
    let mut outgoing = prepare_with(boot::cmdline().0, |_| {})?;
    Ok(outgoing.fdt().into_boxed_slice())
}

/// The blobs of such a rehearsal, by name.
///
/// # Errors
/// As [`prepare`].
pub fn rehearse_blobs() -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut outgoing = prepare_with(boot::cmdline().0, |_| {})?;
    let blobs = outgoing.blobs.iter_mut();
    Ok(blobs
        .map(|(name, blob, _)| ((*name).into(), blob.bytes().to_vec()))
        .collect())
}
