//! Entries of `error_log`: what was wrong with a command, with a caret under the place.
//!
//! Source of the form: `tracing_log_err` and `tracing_err_log_seq_show` in Linux's `trace.c`.

use super::filter::FilterError;
use crate::errno::Errno;
use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::{self, Write};

/// A command that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What the writer of the file is answered.
    pub errno: Errno,
    /// What `error_log` says; nothing where Linux logs nothing.
    pub entry: Option<LogEntry>,
}

/// An entry of `error_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Who complains: `event filter parse error`, `hist:SYSTEM:EVENT`.
    pub location: String,
    /// What is wrong.
    pub text: Cow<'static, str>,
    /// The command as it was given.
    pub command: String,
    /// Where in the command, in bytes.
    pub position: usize,
}

impl LogEntry {
    /// Writes the entry as `error_log` shows it; `ts` is when, in nanoseconds.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(&self, ts: u64, out: &mut dyn Write) -> fmt::Result {
        let us = ts / 1000;
        let (s, us) = (us / 1_000_000, us % 1_000_000);
        let (location, text, command) = (&self.location, &self.text, &self.command);
        writeln!(out, "[{s:5}.{us:06}] {location}: error: {text}")?;
        let at = self.position.min(command.len());
        writeln!(out, "  Command: {command}\n           {:at$}^", "")
    }
}

impl Complaint {
    /// About the part `part` of `command`.
    pub(crate) fn at(
        errno: Errno,
        location: String,
        command: &str,
        part: &str,
        text: impl Into<Cow<'static, str>>,
    ) -> Complaint {
        Complaint {
            errno,
            entry: Some(LogEntry {
                location,
                text: text.into(),
                command: command.into(),
                // `part` is a piece of `command` as a rule; where it is not, Linux points at the start.
                position: (part.as_ptr() as usize)
                    .checked_sub(command.as_ptr() as usize)
                    .filter(|at| *at <= command.len())
                    .unwrap_or(0),
            }),
        }
    }

    /// An answer without an entry.
    pub fn quiet(errno: Errno) -> Complaint {
        Complaint { errno, entry: None }
    }
}

impl From<FilterError> for Complaint {
    fn from(e: FilterError) -> Complaint {
        Complaint {
            errno: Errno::EINVAL,
            entry: Some(LogEntry {
                location: "event filter parse error".into(),
                text: e.kind.text().into(),
                position: e.position,
                command: e.text,
            }),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "{}: {}", entry.location, entry.text),
            None => write!(f, "{}", self.errno),
        }
    }
}

impl core::error::Error for Complaint {}
