//! The new kernel's side of one subsystem: what it makes of what it was handed.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use super::Report;
use crate::claims::Claims;
use crate::error::Error;
use crate::preserved::NotPreserved;
use crate::range::PhysRange;

/// Why nothing of a subsystem is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its stream cannot be read.
    Unreadable(Error),
    /// One of its states calls memory its own that is not preserved.
    NotPreserved(NotPreserved),
    /// Its states can be read, and its owner does not accept them: a clause that says why.
    Rejected(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Unreadable(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unreadable(error) => error.fmt(f),
            Refusal::NotPreserved(error) => error.fmt(f),
            Refusal::Rejected(why) => f.write_str(why),
        }
    }
}

/// What a subsystem can say and claim while it takes over.
pub struct Takeover<'a> {
    name: &'a str,
    claims: &'a mut Claims,
    pub(super) report: &'a mut Report,
}

impl<'a> Takeover<'a> {
    pub(super) fn new(name: &'a str, claims: &'a mut Claims, report: &'a mut Report) -> Self {
        Takeover {
            name,
            claims,
            report,
        }
    }

    /// Preserved memory is in use in this life: what came over, and also what has been preserved anew here, since what is
    /// preserved and claimed by nobody is given back when all have taken over.
    ///
    /// Memory that is not preserved cannot be claimed: that is seen when the subsystem has done, and told by its name
    /// ([`Outcome::ClaimRefused`](super::Outcome::ClaimRefused)).
    pub fn claim(&mut self, range: PhysRange) {
        self.claims.claim(self.name, range);
    }

    /// A sentence for the report: what else a person may want to know.
    pub fn remark(&mut self, sentence: impl Into<String>) {
        self.report.remark(self.name, sentence.into());
    }

    /// A sentence for the report, and a warning: what was lost, or is not as it should be, beside the outcome.
    pub fn trouble(&mut self, sentence: impl Into<String>) {
        self.report.trouble(self.name, sentence.into());
    }
}

impl fmt::Debug for Takeover<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Takeover({})", self.name)
    }
}

/// What is to be done at the commit.
type Commit<'a> = dyn FnOnce(&mut Takeover<'_>) + 'a;

/// A restoring that is ready. Dropped, it never happened.
pub struct Prepared<'a>(Box<Commit<'a>>);

impl<'a> Prepared<'a> {
    /// With what is to be done at the commit. It owns all that was read, and cannot fail.
    pub fn new(commit: impl FnOnce(&mut Takeover<'_>) + 'a) -> Self {
        Prepared(Box::new(commit))
    }

    /// Does it.
    pub fn commit(self, takeover: &mut Takeover<'_>) {
        (self.0)(takeover);
    }
}

impl fmt::Debug for Prepared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}
