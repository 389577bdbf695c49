//! Handing over and taking over: what this kernel leaves its successor, and what it accepts of its predecessor.
//!
//! The old kernel's side is [`prepare_ahead`] when an image is loaded, [`prepare`] (freeze, describe: all that can fail), then [`Outgoing::seal`] with interrupts off
//! (nothing that can fail, no allocation). The new kernel's side is [`receive`] (check everything, believe nothing
//! before) and [`restore`]: each subsystem from its own blob, wholly or not at all, after those that it depends on; then
//! what nobody claimed is given back, and it is said what happened.

pub mod damage;
mod incoming;
mod outgoing;
pub mod report;
pub mod seals;
pub mod switch;

pub use incoming::{Received, incoming_fdt, receive, restore};
pub use outgoing::{
    BUSY, Outgoing, Turn, forget_ahead, holdings, prepare, prepare_ahead, rehearse, rehearse_blobs,
    take_turn,
};
pub use switch::OffBy;

use crate::machine::clock;
use crate::memory::{self, IrqMutex};
use crate::{boot, demo_state, files, kho_test, machine, ramtrace, terminal, tracing};
use alloc::format;
use alloc::string::String;
use handover::page::PageRef;
use handover::preserved::Preserved;
use handover::range::PhysRange;
use handover::subsystem::{Directory, DirectoryError, Subsystem};
use spin::Once;

/// A subsystem of this kernel.
type Member = dyn Subsystem + Sync;

/// Everybody who has state. They are restored in this order, as far as their dependencies leave a choice: the tracer early,
/// since it records all that the others do.
static SUBSYSTEMS: &[&Member] = &[
    &machine::State,
    &ramtrace::State,
    &tracing::State,
    &files::InitrdState,
    &terminal::State,
    &demo_state::State,
    &kho_test::State,
    #[cfg(feature = "next")]
    &crate::attic::State,
];

static DIRECTORY: Once<Result<Directory<'static, Member>, DirectoryError>> = Once::new();

/// All of them, or what is wrong with the list: then this kernel neither takes over nor hands over.
fn directory() -> Result<&'static Directory<'static, Member>, DirectoryError> {
    let directory = DIRECTORY.call_once(|| Directory::new(SUBSYSTEMS));
    directory.as_ref().map_err(|error| *error)
}

/// Why this kernel hands nothing over, if its list contradicts itself: said at the start, and by whatever would hand over.
pub fn contradiction() -> Option<String> {
    directory().err().map(|error| {
        format!(
            "{error}; this kernel can hand nothing over, and 0 in /sys/kernel/kho/active makes a kexec an ordinary one"
        )
    })
}

/// The preserved map of this kernel, which is asked under its lock, one question at a time.
struct Live;

impl Preserved for Live {
    fn block_at(&self, pa: u64) -> Option<PageRef> {
        memory::with_preserved(|map| Ok(map.block_at(pa)))
            .ok()
            .flatten()
    }

    fn first_gap(&self, range: &PhysRange) -> Option<u64> {
        match memory::with_preserved(|map| Ok(map.first_gap(range))) {
            Ok(gap) => gap,
            // There is no map.
            Err(_) => Some(range.start),
        }
    }

    fn for_each_part(&self, range: &PhysRange, f: &mut dyn FnMut(PhysRange)) {
        // Without a map there is none.
        let _ = memory::with_preserved(|map| {
            map.for_each_part(range, f);
            Ok(())
        });
    }
}

/// The names under which this kernel hands something over.
pub fn names() -> impl Iterator<Item = &'static str> {
    let subsystems = SUBSYSTEMS.iter().map(|s| s.name());
    subsystems.chain([handover::metadata::NAME])
}

/// How a life began, as the banner has it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No predecessor.
    Cold,
    /// An ordinary kexec: the predecessor was told to hand nothing over.
    NotHandedOver(OffBy),
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
