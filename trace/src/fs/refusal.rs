//! Why a file does not take what was written to it.

use crate::errno::Errno;
use crate::error::TraceError;
use core::fmt;

/// An answer, or what has more to say than the number that is answered: `error_log` has its sentence, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The number alone.
    Answer(Errno),
    /// A sentence, which stands for a number.
    Reason(TraceError),
}

impl Refusal {
    /// What the file answers.
    pub fn errno(self) -> Errno {
        match self {
            Refusal::Answer(errno) => errno,
            Refusal::Reason(error) => error.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Answer(errno) => errno.fmt(f),
            Refusal::Reason(error) => write!(f, "{error} ({:?})", Errno::from(error.clone())),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal::Answer(errno)
    }
}

impl From<TraceError> for Refusal {
    fn from(error: TraceError) -> Self {
        Refusal::Reason(error)
    }
}
