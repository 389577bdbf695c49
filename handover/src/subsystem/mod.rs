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
//! Restoring goes by [`after`](Subsystem::after), freezing the other way round; the order in the FDT or in a stream
//! plays no part. What becomes of each subsystem stands in a [`Report`]:
//!
//! | what is found | outcome | what happens |
//! | --- | --- | --- |
//! | its blob, all states readable | [`Outcome::Restored`] | committed; entries of ids that it does not declare are left out, and counted |
//! | no blob, or an empty one | [`Outcome::Missing`] | starts anew |
//! | two blobs of its name | [`Outcome::Doubled`] | neither is believed; starts anew |
//! | a blob that is damaged; a state missing, doubled, too new, too old, or of another layout | [`Outcome::Refused`] with the error | nothing of it is restored; starts anew |
//! | a subsystem that it is [`after`](Subsystem::after) was not restored | [`Outcome::NotWithout`] | starts anew |
//! | a blob of a name that no subsystem has | [`Outcome::Unknown`] | left alone; its pages are given back at the end of boot |
//! | two subsystems of one name, two states of one id, a dependency on nobody, a circle | error of [`Directory::new`] | no subsystem is registered |

mod order;
mod report;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use order::{Node, order};
pub use report::{Outcome, Report};

use crate::error::Error;
use crate::state::{Desc, StreamReader, StreamWriter};

/// Something with state that crosses.
pub trait Subsystem {
    /// Its name, that of its node in the FDT (a letter, then letters, digits or `,._+-`, at most 29 bytes).
    fn name(&self) -> &'static str;

    /// The descriptions of the states that it puts into its stream; their ids are checked to be nobody else's.
    fn states(&self) -> &'static [Desc];

    /// Names of the subsystems that are restored before this one, and without which it is not.
    fn after(&self) -> &'static [&'static str] {
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

    /// Writes the entries.
    ///
    /// # Errors
    ///
    /// Those of [`StreamWriter::put`].
    fn describe(&self, out: &mut StreamWriter<'_>) -> Result<(), Error>;

    /// New kernel, prepare: read and check all that is needed from the predecessor's stream, and change nothing. What is
    /// to be done with it is handed back, to be done or dropped.
    ///
    /// # Errors
    ///
    /// Those of [`StreamReader::get`], or what speaks against a value that was read.
    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Error>;

    /// New kernel: nothing was restored.
    fn anew(&self) {}
}

/// A restoring that is ready. Dropped, it never happened.
pub struct Prepared<'a>(Box<dyn FnOnce() + 'a>);

impl<'a> Prepared<'a> {
    /// With what is to be done at the commit. It owns all that was read, and cannot fail.
    pub fn new(commit: impl FnOnce() + 'a) -> Self {
        Prepared(Box::new(commit))
    }

    /// Does it.
    pub fn commit(self) {
        (self.0)();
    }
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

/// All subsystems of a kernel, checked against each other.
pub struct Directory<'a> {
    /// In the order of restoring.
    subsystems: Vec<&'a dyn Subsystem>,
}

impl fmt::Debug for Directory<'_> {
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

impl<'a> Directory<'a> {
    /// Registers the subsystems, of which the order is found from their dependencies.
    ///
    /// # Errors
    ///
    /// Those of [`order`].
    pub fn new(subsystems: &[&'a dyn Subsystem]) -> Result<Self, Error> {
        let nodes: Vec<Node> = subsystems
            .iter()
            .map(|s| Node {
                name: s.name(),
                after: s.after(),
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

    /// Freezes all, those that depend on others first. One that says no undoes it: those asked before are thawed.
    ///
    /// # Errors
    ///
    /// Who says no, and why.
    pub fn freeze(&self) -> Result<Frozen<'a>, SaysNo> {
        let mut frozen = Frozen(Vec::with_capacity(self.subsystems.len()));
        for &subsystem in self.subsystems.iter().rev() {
            let name = subsystem.name();
            subsystem.freeze().map_err(|why| SaysNo { name, why })?;
            frozen.0.push(subsystem);
        }
        Ok(frozen)
    }

    /// Restores each from the blob of its name, wholly or not at all; [outcomes](Outcome) are in the report, first those of
    /// the subsystems in the order of restoring, then of names that nobody has.
    ///
    /// The blobs are those that [`check::verify`](crate::check::verify) has found to lie where they may; their content is
    /// not trusted.
    pub fn restore(&self, blobs: &[(&str, &[u8])]) -> Report {
        let mut report = Report::default();
        for &subsystem in &self.subsystems {
            let name = subsystem.name();
            let needs = subsystem.after().iter();
            let without = needs.copied().find(|n| !report.restored(n));
            let outcome = match without {
                Some(on) => Outcome::NotWithout(on),
                None => restore(subsystem, blobs),
            };
            if !matches!(outcome, Outcome::Restored { .. }) {
                subsystem.anew();
            }
            report.note(name, outcome);
        }
        for (name, _) in blobs {
            if report.of(name).is_none() {
                report.note(name, Outcome::Unknown);
            }
        }
        report
    }
}

fn restore(subsystem: &dyn Subsystem, blobs: &[(&str, &[u8])]) -> Outcome {
    let mut own = blobs.iter().filter(|(n, _)| *n == subsystem.name());
    let blob = match (own.next(), own.next()) {
        (None, _) => return Outcome::Missing,
        (Some((_, [])), None) => return Outcome::Missing,
        (Some((_, blob)), None) => blob,
        (Some(_), Some(_)) => return Outcome::Doubled,
    };
    let prepared = StreamReader::new(blob).and_then(|stream| {
        let states = subsystem.states();
        let known = |id| states.iter().any(|desc| desc.id == id);
        let left_out = stream.entries().filter(|e| !known(e.id)).count();
        Ok((subsystem.prepare(&stream)?, left_out))
    });
    match prepared {
        Ok((prepared, left_out)) => {
            prepared.commit();
            Outcome::Restored { left_out }
        }
        Err(error) => Outcome::Refused(error),
    }
}

/// Subsystems that have been frozen. Dropping it thaws them, the last first.
pub struct Frozen<'a>(Vec<&'a dyn Subsystem>);

impl<'a> Frozen<'a> {
    /// Those that are frozen, to be described.
    pub fn subsystems(&self) -> impl Iterator<Item = &'a dyn Subsystem> {
        self.0.iter().copied()
    }

    /// The kexec happens: nobody is thawed any more.
    pub fn commit(mut self) {
        self.0.clear();
    }
}

impl fmt::Debug for Frozen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|s| s.name()))
            .finish()
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        for subsystem in self.0.drain(..).rev() {
            subsystem.thaw();
        }
    }
}
