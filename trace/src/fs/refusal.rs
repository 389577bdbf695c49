//! Why a file does not take what was written to it.

use crate::errno::Errno;
use crate::error::TraceError;

/// An answer, or what has more to say than the number that is answered: `error_log` has its sentence.
pub(super) enum Refusal {
    Answer(Errno),
    Reason(TraceError),
}

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
