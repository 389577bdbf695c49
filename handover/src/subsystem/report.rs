//! What became of each subsystem.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Refusal;
use crate::preserved::ClaimRefused;
use crate::state::table::Word;

/// What became of a subsystem; the module's table says what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is restored.
    Restored {
        /// Entries of its stream whose ids it does not declare.
        left_out: usize,
    },
    /// The predecessor handed nothing over for it.
    Missing,
    /// The predecessor handed two blobs over for it.
    Doubled,
    /// It cannot be restored, or it rejects what it was handed.
    Refused(Refusal),
    /// It was restored, and then claimed memory that is not preserved: what it does with that, nobody can tell.
    ClaimRefused(ClaimRefused),
    /// One that it needs is not restored.
    NotWithout(&'static str),
    /// A blob of a name that no subsystem has.
    Unknown,
    /// There was no predecessor to hear.
    Anew,
}

impl Outcome {
    /// Whether nothing was lost: all is restored, or there was nothing.
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Restored { .. } | Outcome::Anew)
    }
}

/// A clause: `restored`, or what happened and what is done instead.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Restored { left_out: 0 } => f.write_str("restored"),
            Outcome::Restored { left_out } => write!(
                f,
                "restored, without {left_out} entries of ids that this kernel does not know"
            ),
            Outcome::Missing => {
                f.write_str("missing: the predecessor handed nothing over for it; it starts anew")
            }
            Outcome::Doubled => f.write_str(
                "refused: the predecessor handed two blobs over for it; neither is believed, it starts anew",
            ),
            Outcome::Refused(Refusal::Unreadable(error)) => {
                write!(f, "refused: {error}; it starts anew")
            }
            Outcome::Refused(Refusal::Rejected(why)) => {
                write!(f, "rejected by its owner: {why}; it starts anew")
            }
            Outcome::Refused(Refusal::NotPreserved(error)) => {
                write!(f, "refused: {error}; it starts anew")
            }
            Outcome::ClaimRefused(refused) => write!(f, "restored, but {refused}"),
            Outcome::NotWithout(on) => {
                write!(f, "not restored, since `{on}` was not; it starts anew")
            }
            Outcome::Unknown => {
                f.write_str("unknown: no subsystem of this kernel has this name; it is discarded")
            }
            Outcome::Anew => f.write_str("starts anew"),
        }
    }
}

/// What became of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    outcomes: Vec<(String, Outcome)>,
    remarks: Vec<(String, String)>,
    troubles: Vec<(String, String)>,
}

impl Report {
    /// Notes what became of a subsystem, in place of what was noted before.
    pub fn note(&mut self, name: &str, outcome: Outcome) {
        match self.outcomes.iter_mut().find(|(n, _)| n == name) {
            Some((_, noted)) => *noted = outcome,
            None => self.outcomes.push((name.into(), outcome)),
        }
    }

    /// Notes a sentence of a subsystem's own.
    pub fn remark(&mut self, name: &str, sentence: String) {
        self.remarks.push((name.into(), sentence));
    }

    /// Notes a sentence about what is not as it should be with a subsystem.
    pub fn trouble(&mut self, name: &str, sentence: String) {
        self.troubles.push((name.into(), sentence));
    }

    /// What became of one; `None` where nothing is noted.
    pub fn of(&self, name: &str) -> Option<&Outcome> {
        let found = self.outcomes.iter().find(|(n, _)| n == name);
        found.map(|(_, outcome)| outcome)
    }

    /// Whether one has its states back: restored, or restored and then refused a claim.
    pub fn has_its_states(&self, name: &str) -> bool {
        self.restored(name) || matches!(self.of(name), Some(Outcome::ClaimRefused(_)))
    }

    /// Whether one is restored.
    pub fn restored(&self, name: &str) -> bool {
        matches!(self.of(name), Some(Outcome::Restored { .. }))
    }

    /// All, in the order in which they were noted.
    pub fn outcomes(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.outcomes.iter().map(|(n, o)| (n.as_str(), o))
    }

    /// Sentences of the subsystems' own, each with whose it is.
    pub fn remarks(&self) -> impl Iterator<Item = (&str, &str)> {
        self.remarks.iter().map(|(n, s)| (n.as_str(), s.as_str()))
    }

    /// What is not as it should be, beside the outcomes: sentences, each with whose it is.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.troubles.iter().map(|(n, s)| (n.as_str(), s.as_str()))
    }
}

/// A line each: `NAME: OUTCOME`; then `trouble: NAME: SENTENCE`; then `remark: NAME: SENTENCE`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcomes()
            .try_for_each(|(name, outcome)| writeln!(f, "{}: {outcome}", Word(name)))?;
        self.troubles()
            .try_for_each(|(name, trouble)| writeln!(f, "trouble: {}: {trouble}", Word(name)))?;
        self.remarks()
            .try_for_each(|(name, remark)| writeln!(f, "remark: {}: {remark}", Word(name)))
    }
}
