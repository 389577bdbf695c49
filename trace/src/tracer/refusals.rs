//! What an instance keeps of wrong commands: `error_log`, and what the `filter` files show after one. It crosses a kexec.

use super::instance::Instance;
use crate::errno::Errno;
use crate::error::TraceError;
use crate::event::EventDesc;
use crate::event::complaint::{Complaint, LogEntry};
use crate::platform::Platform;
use crate::sync::Mutex;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use handover::KState;

/// Entries that `error_log` keeps: Linux's `TRACING_LOG_ERRS_MAX`.
const MAX_LOG: usize = 8;
/// The place in a command that is pointed at, at most: no command is longer than a page. That of a life before is not trusted, and a
/// line cannot be padded to any width.
const MAX_POSITION: u32 = 4095;
/// Filters that systems may have been refused, of those that crossed.
const MAX_SYSTEMS: usize = 1024;

/// What a system's `filter` file shows while nothing went wrong.
const SYSTEM_FILTER: &str = "\
### global filter ###
# Use this to set filters for multiple events.
# Only events with the given fields will be affected.
# If no events are modified, an error message will be displayed here
";

/// See the head of the module.
#[derive(Default)]
pub(super) struct Refusals {
    log: Mutex<VecDeque<(u64, LogEntry)>>,
    /// What the `filter` file of a system shows.
    systems: Mutex<Vec<(String, String)>>,
}

/// An entry of `error_log`, as it crosses a kexec.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedComplaint {
    /// When, in nanoseconds.
    pub ts: u64,
    /// Who complained.
    pub location: String,
    /// What was wrong.
    pub text: String,
    /// The command.
    pub command: String,
    /// Where in it, in bytes.
    pub position: u32,
}

/// What a `filter` file shows of a filter that was refused, as it crosses a kexec.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedRefusal {
    /// The system.
    pub system: String,
    /// The event; empty where the filter was for all of the system.
    pub name: String,
    /// The text.
    pub text: String,
}

impl Refusals {
    /// What the `filter` file of `system` shows, if a filter was refused.
    pub(super) fn of(&self, system: &str) -> Option<String> {
        let systems = self.systems.lock();
        let found = systems.iter().find(|(name, _)| name == system);
        found.map(|(_, text)| text.clone())
    }

    /// It shows this from now on.
    pub(super) fn note(&self, system: &str, text: String) {
        self.forget(system);
        self.systems.lock().push((system.into(), text));
    }

    /// It shows nothing of the kind any more.
    pub(super) fn forget(&self, system: &str) {
        self.systems.lock().retain(|(name, _)| name != system);
    }
}

impl<P: Platform> Instance<P> {
    pub(super) fn complain(&self, complaint: Complaint) -> Errno {
        if let Some(entry) = complaint.entry {
            let mut log = self.refusals.log.lock();
            if log.len() == MAX_LOG {
                log.pop_front();
            }
            log.push_back((self.platform.nanos(), entry));
        }
        complaint.errno
    }

    /// The answer of a control file to `command`, which was refused: `error_log` says why.
    pub(crate) fn explain(&self, file: &str, command: &str, error: TraceError) -> Errno {
        let text = error.to_string();
        self.complain(Complaint::at(
            error.into(),
            file.into(),
            command,
            &command[..0],
            text,
        ))
    }

    /// What the `filter` file of `event` shows: its filter, or the one that was refused last, and then which one is in force.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn print_filter(&self, event: &EventDesc, out: &mut dyn Write) -> fmt::Result {
        let state = self.state_of(event);
        if let Some(refused) = state.and_then(|state| state.refused.lock().clone()) {
            out.write_str(&refused)?;
            return match self.filter_text(event) {
                Some(text) => writeln!(out, "# in force: {text}"),
                None => Ok(()),
            };
        }
        match self.filter_text(event) {
            Some(text) => writeln!(out, "{text}"),
            None => out.write_str("none\n"),
        }
    }

    /// What the `filter` file of a system shows.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn print_system_filter(&self, system: &str, out: &mut dyn Write) -> fmt::Result {
        let refused = self.refusals.of(system);
        out.write_str(refused.as_deref().unwrap_or(SYSTEM_FILTER))
    }

    /// Writes `error_log`: the last wrong commands.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write_error_log(&self, out: &mut dyn Write) -> fmt::Result {
        let log = self.refusals.log.lock();
        log.iter().try_for_each(|(ts, entry)| entry.write(*ts, out))
    }

    /// Empties `error_log`.
    pub fn clear_error_log(&self) {
        self.refusals.log.lock().clear();
    }

    /// `error_log` as it crosses.
    pub(super) fn save_log(&self) -> Vec<SavedComplaint> {
        let log = self.refusals.log.lock();
        log.iter()
            .map(|(ts, entry)| SavedComplaint {
                ts: *ts,
                location: entry.location.clone(),
                text: entry.text.clone().into_owned(),
                command: entry.command.clone(),
                position: entry.position as u32,
            })
            .collect()
    }

    /// Takes over the newest of what an earlier life complained of.
    pub(super) fn restore_log(&self, saved: &[SavedComplaint]) {
        let newest = &saved[saved.len().saturating_sub(MAX_LOG)..];
        *self.refusals.log.lock() = newest
            .iter()
            .map(|saved| {
                let entry = LogEntry {
                    location: saved.location.clone(),
                    text: saved.text.clone().into(),
                    command: saved.command.clone(),
                    position: saved.position.min(MAX_POSITION) as usize,
                };
                (saved.ts, entry)
            })
            .collect();
    }

    /// What the `filter` files show of refused filters, as it crosses.
    pub(super) fn save_refused(&self) -> Vec<SavedRefusal> {
        let of_events = self.subjects().filter_map(|event| {
            let text = self.state_of(event)?.refused.lock().clone()?;
            Some(SavedRefusal {
                system: event.system.into(),
                name: event.name.into(),
                text,
            })
        });
        let systems = self.refusals.systems.lock();
        let of_systems = systems.iter().map(|(system, text)| SavedRefusal {
            system: system.clone(),
            name: String::new(),
            text: text.clone(),
        });
        of_events.chain(of_systems).collect()
    }

    /// Takes it over, as far as the events are here.
    pub(super) fn restore_refused(&self, saved: &[SavedRefusal]) {
        for saved in saved.iter().take(MAX_SYSTEMS) {
            if saved.name.is_empty() {
                if self.subjects().any(|event| event.system == saved.system) {
                    self.refusals.note(&saved.system, saved.text.clone());
                }
                continue;
            }
            let event = self
                .subjects()
                .find(|event| event.system == saved.system && event.name == saved.name);
            if let Some(state) = event.and_then(|event| self.state_of(event)) {
                *state.refused.lock() = Some(saved.text.clone());
            }
        }
    }
}
