//! Subsystems: who hands state over, in which order it is restored, and that all of it is or nothing.
//!
//! A subsystem has a name, which is that of its node in the FDT, and a blob there. Two ways to fill the blob stand side by
//! side: KSTATE's, a stream of declared states ([`Subsystem::describe`], [`Subsystem::prepare`]), and KHO's, bytes of one's
//! own ([`fdt::Subsystem`](crate::fdt::Subsystem) with whatever data, checked by its checksum).
//!
//! Both sides are transactions:
//!
//! | | prepare | commit | rollback |
//! | --- | --- | --- | --- |
//! | old kernel | [`Directory::freeze`]: each may say no | [`Frozen::commit`]: the kexec happens | dropping [`Frozen`]: all are thawed, and go on |
//! | new kernel | [`Subsystem::prepare`]: read everything, change nothing | [`Prepared::commit`], which cannot fail | dropping [`Prepared`], then [`Subsystem::anew`] |
//!
//! Restoring goes by [`after`](Subsystem::after) and [`needs`](Subsystem::needs), freezing the other way round; the order in
//! the FDT or in a stream plays no part. What becomes of each subsystem stands in a [`Report`]:
//!
//! | what is found | outcome | what happens |
//! | --- | --- | --- |
//! | its blob, all states readable | [`Outcome::Restored`] | committed; entries of ids that it does not declare are left out, and counted |
//! | no blob, or an empty one | [`Outcome::Missing`] | starts anew |
//! | two blobs of its name | [`Outcome::Doubled`] | neither is believed; starts anew |
//! | a blob that is damaged; a state missing, doubled, too new, too old, or of another layout | [`Outcome::Refused`], [`Refusal::Unreadable`] | nothing of it is restored; starts anew |
//! | a state that calls memory its own which is not preserved | [`Outcome::Refused`], [`Refusal::NotPreserved`] | nothing of it is restored; starts anew |
//! | a claim of memory that is not preserved, made at the commit | [`Outcome::ClaimRefused`] | what it claimed beside that stays its own |
//! | states that can be read, and cannot be true | [`Outcome::Refused`], [`Refusal::Rejected`] by its owner | nothing of it is restored; starts anew |
//! | a subsystem that it [`needs`](Subsystem::needs) was not restored | [`Outcome::NotWithout`] | it is not asked; starts anew |
//! | a subsystem that it is only [`after`](Subsystem::after) was not restored | that of its own blob | |
//! | a blob of a name that no subsystem has | [`Outcome::Unknown`] | left alone; it and the pages that nobody claims are given back at the end of boot ([`Claims::discard`]) |
//! | no predecessor | [`Outcome::Anew`] | starts anew |
//! | a name that none can have, two subsystems of one name, two states of one id, a dependency on nobody, a circle | [`DirectoryError`] of [`Directory::new`] | no subsystem is registered |

mod error;
mod order;
mod report;
mod takeover;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

pub use error::{Circle, DirectoryError};
pub use order::{Node, order};
pub use report::{Outcome, Report};
pub use takeover::{Prepared, Refusal, Takeover};

use crate::claims::Claims;
use crate::error::Error;
use crate::preserved::Preserved;
use crate::range::PhysRange;
use crate::state::{Desc, StreamReader, StreamWriter};

/// Something with state that crosses.
pub trait Subsystem {
    /// Its name, that of its node in the FDT (a letter, then letters, digits or `,._+-`, at most 29 bytes).
    fn name(&self) -> &'static str;

    /// The descriptions of the states that it puts into its stream; their ids are checked to be nobody else's.
    fn states(&self) -> &'static [Desc];

    /// Names of the subsystems that are restored, or have started anew, before this one.
    fn after(&self) -> &'static [&'static str] {
        &[]
    }

    /// Names of the subsystems that are restored before this one, and without which it is not.
    fn needs(&self) -> &'static [&'static str] {
        &[]
    }

    /// Old kernel, prepare: stop changing, or say why the kexec cannot go on now.
    ///
    /// # Errors
    ///
    /// A clause that says why, as in "a write is under way".
    fn freeze(&self) -> Result<(), String> {
        Ok(())
    }

    /// Old kernel, rollback: the kexec does not happen after all.
    fn thaw(&self) {}

    /// Bytes of all entries: the sum of [`encoded_size`](crate::state::encoded_size) of each.
    fn size(&self) -> usize;

    /// Writes the entries. Called after [`freeze`](Subsystem::freeze), and once more at the very end, where nothing may
    /// allocate, if it is [`late`](Subsystem::late).
    ///
    /// # Errors
    ///
    /// Those of [`StreamWriter::put`].
    fn describe(&self, out: &mut StreamWriter<'_>) -> Result<(), Error>;

    /// Whether it changes up to the jump, and is described a second time then, in a stream of the same size.
    fn late(&self) -> bool {
        false
    }

    /// Whether it sees itself to it that the memory is preserved which its states call their own, on both sides: as one that can do
    /// without some of it, or has some elsewhere. Of all others it is checked for them.
    fn checks_pages(&self) -> bool {
        false
    }

    /// Calls `f` with memory of its own that is preserved, and that no field with `#[kstate(pages)]` names: for people who look at
    /// what is preserved.
    ///
    /// # Errors
    ///
    /// A clause that says why it cannot be listed.
    fn for_each_unlisted(&self, f: &mut dyn FnMut(PhysRange)) -> Result<(), String> {
        let _ = f;
        Ok(())
    }

    /// New kernel, prepare: read and check all that is needed from the predecessor's stream, and change nothing. What is
    /// to be done with it is handed back, to be done or dropped.
    ///
    /// # Errors
    ///
    /// Those of [`StreamReader::get`] (`?` turns them into a [`Refusal`]), or what speaks against a value that was read.
    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal>;

    /// New kernel: nothing was restored, or there is no predecessor.
    fn anew(&self, takeover: &mut Takeover<'_>) {
        let _ = takeover;
    }
}

/// All subsystems of a kernel, checked against each other. `S` is what they have in common, as `dyn Subsystem + Sync`.
pub struct Directory<'a, S: Subsystem + ?Sized> {
    /// In the order of restoring.
    subsystems: Vec<&'a S>,
}

impl<S: Subsystem + ?Sized> fmt::Debug for Directory<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// One that says no: its name and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaysNo {
    /// The subsystem.
    pub name: &'static str,
    /// Its reason.
    pub why: String,
}

impl fmt::Display for SaysNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} says no: {}", self.name, self.why)
    }
}

impl<'a, S: Subsystem + ?Sized> Directory<'a, S> {
    /// Registers the subsystems, of which the order is found from their dependencies.
    ///
    /// # Errors
    ///
    /// Those of [`order`].
    pub fn new(subsystems: &[&'a S]) -> Result<Self, DirectoryError> {
        let nodes: Vec<Node> = subsystems
            .iter()
            .map(|s| Node {
                name: s.name(),
                after: s.after(),
                needs: s.needs(),
                states: s.states(),
            })
            .collect();
        let order = order(&nodes)?;
        Ok(Directory {
            subsystems: order.into_iter().map(|i| subsystems[i]).collect(),
        })
    }

    /// The names in the order of restoring.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.subsystems.iter().map(|s| s.name())
    }

    /// All, in the order of restoring.
    pub fn subsystems(&self) -> &[&'a S] {
        &self.subsystems
    }

    /// Freezes all, those that depend on others first. One that says no undoes it: those asked before are thawed.
    ///
    /// # Errors
    ///
    /// Who says no, and why.
    pub fn freeze(&self) -> Result<Frozen<'a, S>, SaysNo> {
        let mut frozen = Frozen(Vec::with_capacity(self.subsystems.len()));
        for &subsystem in self.subsystems.iter().rev() {
            let name = subsystem.name();
            subsystem.freeze().map_err(|why| SaysNo { name, why })?;
            frozen.0.push(subsystem);
        }
        Ok(frozen)
    }

    /// Restores each from the blob of its name, wholly or not at all; [outcomes](Outcome) are in the report, first those of
    /// the subsystems in the order of restoring, then of names that nobody has. In `claims` the blobs of all subsystems are
    /// taken then, whatever has become of them, and what a subsystem goes on using is claimed under its name.
    ///
    /// The blobs are those that [`check::verify`](crate::check::verify) has found to lie where they may; their content is
    /// not trusted. `preserved` is the map that came with them: what is not in it is nobody's to take over.
    pub fn restore(
        &self,
        blobs: &[(&str, &[u8])],
        claims: &mut Claims,
        preserved: &dyn Preserved,
    ) -> Report {
        let mut report = Report::default();
        for &subsystem in &self.subsystems {
            let name = subsystem.name();
            claims.take(name);
            let mut takeover = Takeover::new(name, claims, &mut report);
            let mut needs = subsystem.needs().iter().copied();
            let mut outcome = match needs.find(|n| !takeover.report.restored(n)) {
                Some(on) => Outcome::NotWithout(on),
                None => restore(subsystem, blobs, &mut takeover, preserved),
            };
            let restored = matches!(outcome, Outcome::Restored { .. });
            if !restored {
                subsystem.anew(&mut takeover);
            }
            if let Err(refused) = claims.check(name, preserved) {
                match restored {
                    true => outcome = Outcome::ClaimRefused(refused),
                    false => report.trouble(name, refused.to_string()),
                }
            }
            report.note(name, outcome);
        }
        note_listed(blobs, claims);
        for (name, _) in blobs {
            if report.of(name).is_none() {
                report.note(name, Outcome::Unknown);
            }
        }
        report
    }

    /// Starts each anew, in the order of restoring: there is no predecessor.
    pub fn start_anew(&self, claims: &mut Claims) -> Report {
        start_anew(&self.subsystems, claims)
    }
}

/// Starts subsystems anew in the order in which they stand: for a kernel that cannot make a [`Directory`] of them.
pub fn start_anew<S: Subsystem + ?Sized>(subsystems: &[&S], claims: &mut Claims) -> Report {
    let mut report = Report::default();
    for subsystem in subsystems {
        let name = subsystem.name();
        subsystem.anew(&mut Takeover::new(name, claims, &mut report));
        report.note(name, Outcome::Anew);
    }
    report
}

/// Notes whose the memory is that nobody has claimed, as far as the states say so.
fn note_listed(blobs: &[(&str, &[u8])], claims: &mut Claims) {
    // In order, so that what is claimed is found.
    claims.claimed();
    for (name, blob) in blobs {
        let Ok(stream) = StreamReader::new(blob) else {
            continue;
        };
        for entry in stream.entries() {
            // Of one that cannot be read to its end, what was read.
            let _ = stream.for_each_holding(&entry, &mut |holding| {
                claims.note_listed(name, holding.range());
            });
        }
    }
}

fn restore<S: Subsystem + ?Sized>(
    subsystem: &S,
    blobs: &[(&str, &[u8])],
    takeover: &mut Takeover<'_>,
    preserved: &dyn Preserved,
) -> Outcome {
    let mut own = blobs.iter().filter(|(n, _)| *n == subsystem.name());
    let blob = match (own.next(), own.next()) {
        (None, _) => return Outcome::Missing,
        (Some((_, [])), None) => return Outcome::Missing,
        (Some((_, blob)), None) => blob,
        (Some(_), Some(_)) => return Outcome::Doubled,
    };
    let prepared = StreamReader::new(blob)
        .map_err(Refusal::from)
        .and_then(|stream| {
            let states = subsystem.states();
            let known = |id| states.iter().any(|desc| desc.id == id);
            let left_out = stream.entries().filter(|e| !known(e.id)).count();
            if !subsystem.checks_pages() {
                stream
                    .check_holdings(preserved, known)
                    .map_err(Refusal::NotPreserved)?;
            }
            Ok((subsystem.prepare(&stream)?, left_out))
        });
    match prepared {
        Ok((prepared, left_out)) => {
            prepared.commit(takeover);
            Outcome::Restored { left_out }
        }
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// Subsystems that have been frozen. Dropping it thaws them, the last first.
pub struct Frozen<'a, S: Subsystem + ?Sized>(Vec<&'a S>);

impl<'a, S: Subsystem + ?Sized> Frozen<'a, S> {
    /// Those that are frozen, to be described.
    pub fn subsystems(&self) -> impl Iterator<Item = &'a S> {
        self.0.iter().copied()
    }

    /// The kexec happens: nobody is thawed any more.
    pub fn commit(mut self) {
        self.0.clear();
    }
}

impl<S: Subsystem + ?Sized> fmt::Debug for Frozen<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|s| s.name()))
            .finish()
    }
}

impl<S: Subsystem + ?Sized> Drop for Frozen<'_, S> {
    fn drop(&mut self) {
        for subsystem in self.0.drain(..).rev() {
            subsystem.thaw();
        }
    }
}
