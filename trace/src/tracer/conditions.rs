//! What is attached to events in an instance: filters and triggers, as their files set and show them.

use super::instance::{Instance, Shared};
use super::map::none_mapped;
use super::quiesce::{Guard, Place};
use crate::errno::Errno;
use crate::event::filter::{Filter, FilterError, FilterErrorKind};
use crate::event::hist::{self, Names};
use crate::event::trigger::{AVAILABLE, Actions, SavedTrigger, Subject, TriggerList};
use crate::event::{EventDesc, PRINT, Record, STACK_AT, STACK_ID};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::sync::{Mutex, Ordering};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use handover::KState;

/// Callers that `stacktrace` records at most.
const MAX_CALLERS: usize = 32;

/// What is attached to an event in one instance.
#[derive(Default)]
pub(super) struct EventState {
    pub(super) filter: Place<Filter>,
    pub(super) triggers: Place<TriggerList>,
    /// What the `filter` file shows of the last expression, if that was refused.
    pub(super) refused: Mutex<Option<String>>,
}

impl<T: Send + Sync + 'static> Default for Place<T> {
    fn default() -> Self {
        Place::empty()
    }
}

/// What is attached to an event, as it crosses a kexec.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedConditions {
    /// The event's group.
    pub system: String,
    /// The event's name.
    pub name: String,
    /// Its filter's expression; empty if it has none.
    pub filter: String,
    /// Its triggers.
    pub triggers: Vec<SavedTrigger>,
}

/// The declared events, as the triggers of one of them find the others.
type Events = &'static [&'static EventDesc];

fn find(events: Events) -> impl Fn(&str, &str) -> Option<usize> {
    move |system, name| {
        events
            .iter()
            .position(|event| event.system == system && event.name == name)
    }
}

/// The event of this name that can have triggers.
fn subject_named(events: Events, system: &str, name: &str) -> Option<&'static EventDesc> {
    let mut subjects = events.iter().copied().chain([&PRINT]);
    subjects.find(|event| event.system == system && event.name == name)
}

fn subject<'a>(
    event: &'static EventDesc,
    find: &'a dyn Fn(&str, &str) -> Option<usize>,
) -> Subject<'a> {
    Subject {
        system: event.system,
        name: event.name,
        fields: event.fields,
        find,
    }
}

/// Looks at what is attached to an event.
fn look<R>(shared: &Shared, f: impl FnOnce(&Guard<'_>) -> Option<R>) -> Option<R> {
    let guard = shared.domain.enter(0)?;
    f(&guard)
}

impl<P: Platform> Instance<P> {
    pub(super) fn triggers_of(&self, event: &EventDesc) -> TriggerList {
        look(&self.shared, |guard| {
            let state = self.state_of(event)?;
            state.triggers.get(guard).cloned()
        })
        .unwrap_or_default()
    }

    /// Whether a trigger takes a snapshot, of whatever event.
    pub(super) fn snapshot_armed(&self) -> bool {
        self.events.iter().chain([&self.print]).any(|state| {
            look(&self.shared, |guard| {
                state.triggers.get(guard).map(TriggerList::needs_snapshot)
            })
            .unwrap_or(false)
        })
    }

    /// What is attached to `event`.
    pub(super) fn state_of(&self, event: &EventDesc) -> Option<&EventState> {
        match core::ptr::eq(event, &PRINT) {
            true => Some(&self.print),
            false => self.events.get(event.index()),
        }
    }

    /// The declared events, and that of `trace_marker`.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &'static EventDesc> + use<P> {
        self.declared.iter().copied().chain([&PRINT])
    }

    /// Brings the event's masks up to date. Called under the lock.
    pub(super) fn update_masks(&self, event: &EventDesc) {
        let has = |f: &dyn Fn(&EventState, &Guard<'_>) -> bool| {
            look(&self.shared, |guard| Some(f(self.state_of(event)?, guard))).unwrap_or(false)
        };
        let triggers = has(&|state, guard| state.triggers.get(guard).is_some());
        if core::ptr::eq(event, &PRINT) {
            self.print_seen.store(triggers, Ordering::Relaxed);
            return;
        }
        let filter = has(&|state, guard| {
            state.filter.get(guard).is_some()
                || self.has_pids(guard)
                || self.option(TraceOption::Stacktrace)
        });
        // A writer that still finds the event plain records it unfiltered: it happened before this.
        event.set_special(self.slot, filter || triggers, triggers);
    }

    /// Brings the masks of all events up to date.
    pub(super) fn refresh_masks(&self) {
        let _control = self.control.lock();
        for event in self.declared {
            self.update_masks(event);
        }
    }

    fn put_filter(&self, event: &EventDesc, filter: Option<Filter>) {
        if let Some(state) = self.state_of(event) {
            *state.refused.lock() = None;
            state.filter.put(filter.map(Arc::new), &self.shared.domain);
            self.update_masks(event);
        }
    }

    pub(super) fn put_triggers(&self, event: &EventDesc, list: TriggerList) {
        if let Some(state) = self.state_of(event) {
            let list = (!list.is_empty()).then(|| Arc::new(list));
            state.triggers.put(list, &self.shared.domain);
            self.update_masks(event);
        }
    }

    /// Puts a filter to `event`, or takes it away.
    pub fn set_filter(&self, event: &'static EventDesc, filter: Option<Filter>) {
        let _control = self.control.lock();
        self.put_filter(event, filter);
    }

    /// The text of the filter of `event`.
    pub fn filter_text(&self, event: &EventDesc) -> Option<String> {
        let _control = self.control.lock();
        look(&self.shared, |guard| {
            let state = self.state_of(event)?;
            Some(state.filter.get(guard)?.text().into())
        })
    }

    /// What is written to the `filter` file of `event`: an expression, or `0` for none. A wrong one is shown by the file
    /// until the next write; the filter that is there stays in force.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub fn write_filter(&self, event: &'static EventDesc, text: &str) -> Result<(), Errno> {
        if text.trim() == "0" {
            self.set_filter(event, None);
            return Ok(());
        }
        match Filter::parse(event.fields, text) {
            Ok(filter) => self.set_filter(event, Some(filter)),
            Err(e) => {
                let shown = shown(&e);
                if let Some(state) = self.state_of(event) {
                    *state.refused.lock() = Some(shown);
                }
                return Err(self.complain(e.into()));
            }
        }
        Ok(())
    }

    /// What is written to the `filter` file of a system: a filter for each of its events that has the fields. The others keep
    /// what they have.
    ///
    /// # Errors
    ///
    /// `EINVAL` if no event takes it; then the file shows why.
    pub fn write_system_filter(
        &self,
        events: Events,
        system: &'static str,
        text: &str,
    ) -> Result<(), Errno> {
        let clear = text.trim() == "0";
        let mut taken = false;
        for event in events.iter().filter(|event| event.system == system) {
            if clear {
                self.set_filter(event, None);
                taken = true;
            } else if let Ok(filter) = Filter::parse(event.fields, text) {
                self.set_filter(event, Some(filter));
                taken = true;
            }
        }
        if taken {
            self.refusals.forget(system);
            return Ok(());
        }
        let e = FilterError {
            kind: FilterErrorKind::BadSubsysFilter,
            position: 0,
            text: text.trim().chars().take(1024).collect(),
        };
        self.refusals.note(system, shown(&e));
        Err(self.complain(e.into()))
    }

    /// What is written to the `trigger` file of `event`. `truncate` as by `>`: then the histograms that are there go first.
    ///
    /// # Errors
    ///
    /// Those of [`TriggerList::command`], and of the snapshot's allocation; `EBUSY` for a snapshot while a buffer is mapped. Then
    /// nothing has changed.
    pub fn write_trigger(
        &self,
        events: Events,
        event: &'static EventDesc,
        text_given: &str,
        truncate: bool,
    ) -> Result<(), Errno> {
        let control = self.control.lock();
        let mut list = self.triggers_of(event);
        if truncate {
            list = list.without_hists();
        }
        let before = list.clone();
        if !(text_given.is_empty() && truncate) {
            let find = find(events);
            match list.command(&subject(event, &find), text_given) {
                Ok(new) => list = new,
                Err(complaint) => {
                    drop(control);
                    return Err(self.complain(complaint));
                }
            }
        }
        let list = match self.share_named(event, &before, list) {
            Ok(list) => list,
            Err(name) => {
                drop(control);
                let text =
                    "Named hist trigger doesn't match existing named trigger (includes variables)";
                let at = text_at(text_given, &name);
                return Err(self.complain(hist::complain(
                    Errno::EINVAL,
                    (event.system, event.name),
                    text_given,
                    at,
                    text,
                )));
            }
        };
        if list.needs_snapshot() {
            let ready = none_mapped(&self.cpus).and_then(|()| self.allocate_locked());
            if let Err(error) = ready {
                drop(control);
                return Err(self.explain("trigger", text_given, error));
            }
        }
        self.put_triggers(event, list);
        Ok(())
    }

    /// What the `trigger` file of `event` shows.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn print_trigger(&self, event: &EventDesc, out: &mut dyn Write) -> fmt::Result {
        let list = self.triggers_of(event);
        if list.is_empty() {
            return out.write_str(AVAILABLE);
        }
        list.write(out)
    }

    /// What the `hist` file of `event` shows.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn print_hist(&self, event: &EventDesc, out: &mut dyn Write) -> fmt::Result {
        let names = Names {
            function: &|address, out| self.platform.function(address, out),
            place: &|address, out| self.platform.place(address, out),
        };
        self.triggers_of(event).write_hist_with(names, out)
    }

    /// Whether a trigger has to do with the recording of `event`: its own, or one that switches it. Its `enable` file
    /// shows a `*` then.
    pub fn event_is_soft(&self, events: Events, event: &EventDesc) -> bool {
        !self.triggers_of(event).is_empty()
            || (events.iter().copied().chain([&PRINT]))
                .any(|other| self.triggers_of(other).switches(event.index()))
    }

    /// What is attached to events, as it crosses a kexec.
    pub fn save_conditions(&self, events: Events) -> Vec<SavedConditions> {
        let mut saved = Vec::new();
        for event in events.iter().copied().chain([&PRINT]) {
            let filter = self.filter_text(event).unwrap_or_default();
            let triggers = self.triggers_of(event).save();
            if !filter.is_empty() || !triggers.is_empty() {
                saved.push(SavedConditions {
                    system: event.system.into(),
                    name: event.name.into(),
                    filter,
                    triggers,
                });
            }
        }
        saved
    }

    /// Brings counts and histograms in `saved`, one of [`save_conditions`](Self::save_conditions), up to date without allocating.
    pub(super) fn refresh_conditions(&self, events: Events, saved: &mut [SavedConditions]) {
        for saved in saved {
            let event = subject_named(events, &saved.system, &saved.name);
            let Some(state) = event.and_then(|event| self.state_of(event)) else {
                continue;
            };
            look(&self.shared, |guard| {
                state.triggers.get(guard)?.refresh(&mut saved.triggers);
                Some(())
            });
        }
    }

    /// Takes over what an earlier life saved. Returns the commands that make nothing here, each as `SYSTEM:EVENT: COMMAND`.
    pub fn restore_conditions(&self, events: Events, saved: &[SavedConditions]) -> Vec<String> {
        let mut lost = Vec::new();
        let find = find(events);
        let _control = self.control.lock();
        for saved in saved {
            let mut lose = |command: &str| {
                lost.push(alloc::format!("{}:{}: {command}", saved.system, saved.name));
            };
            let Some(event) = subject_named(events, &saved.system, &saved.name) else {
                lose(&saved.filter);
                saved.triggers.iter().for_each(|t| lose(&t.command));
                continue;
            };
            if !saved.filter.is_empty() {
                match Filter::parse(event.fields, &saved.filter) {
                    Ok(filter) => self.put_filter(event, Some(filter)),
                    Err(_) => lose(&saved.filter),
                }
            }
            let (list, gone) = TriggerList::restore(&subject(event, &find), &saved.triggers);
            gone.iter().for_each(|command| lose(command));
            // Each has brought the counts that they have in common.
            let list = match self.share_named(event, &TriggerList::default(), list) {
                Ok(list) => list,
                Err(name) => {
                    lose(&name);
                    continue;
                }
            };
            if list.needs_snapshot() && self.allocate_locked().is_err() {
                lose("snapshot (no memory)");
            }
            self.put_triggers(event, list);
        }
        lost
    }

    /// Records who called, as `ftrace:kernel_stack`.
    pub(super) fn record_stack(&self) {
        let mut callers = [0u64; MAX_CALLERS];
        let n = self.platform.callers(&mut callers).min(MAX_CALLERS);
        let words = &callers[..n];
        let size = STACK_AT + 8 * n;
        // Its counters say what becomes of it.
        let _ = self.write(STACK_ID, size, 0, None, |record: &mut Record<'_, '_, P>| {
            record.put(crate::event::COMMON_SIZE, &(n as u32).to_ne_bytes());
            for (i, caller) in words.iter().enumerate() {
                record.put(STACK_AT + 8 * i, &caller.to_ne_bytes());
            }
        });
    }
}

/// The piece `part` of `text`, as a piece of it.
fn text_at<'t>(text: &'t str, part: &str) -> &'t str {
    text.find(part).map_or("", |at| &text[at..at + part.len()])
}

fn shown(e: &FilterError) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = e.write_file(&mut text);
    text.to_string()
}

/// An instance, as the triggers of its events act on it.
pub(super) struct Acting<'i, P: Platform> {
    pub(super) instance: &'i Instance<P>,
}

impl<P: Platform> Actions for Acting<'_, P> {
    fn tracing_on(&self) -> bool {
        self.instance.tracing_on()
    }

    fn set_tracing_on(&self, on: bool) {
        self.instance.set_tracing_on(on);
    }

    fn snapshot(&self) {
        self.instance.snapshot_now();
    }

    fn stack_trace(&self) {
        self.instance.record_stack();
    }

    fn event_enabled(&self, event: usize) -> bool {
        let event = self.instance.declared.get(event);
        event.is_some_and(|event| self.instance.event_enabled(event))
    }

    fn set_event_enabled(&self, event: usize, on: bool) {
        if let Some(event) = self.instance.declared.get(event) {
            self.instance.set_event_enabled(event, on);
        }
    }

    fn pause_hists(&self, event: usize, paused: bool) {
        let Some(state) = self.instance.events.get(event) else {
            return;
        };
        look(&self.instance.shared, |guard| {
            state.triggers.get(guard)?.pause_hists(paused);
            Some(())
        });
    }
}
