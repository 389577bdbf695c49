//! Triggers: what is done when an event happens.
//!
//! ```text
//! COMMAND[:COUNT] [if FILTER]     adds one; COUNT times at most
//! !COMMAND...                     takes it away; nothing happens if it is not there
//! ```
//!
//! | command | what it does |
//! | --- | --- |
//! | `traceon`, `traceoff` | switches recording |
//! | `snapshot` | swaps the buffers with the snapshot's |
//! | `stacktrace` | records who called |
//! | `enable_event:SYSTEM:EVENT`, `disable_event:...` | switches another event |
//! | `enable_hist:SYSTEM:EVENT`, `disable_hist:...` | lets that event's histograms count, or pauses them |
//! | `hist:keys=...` | counts, see [`super::hist`] |
//!
//! An event has at most one trigger of each of these kinds (`traceon` and `traceoff` are one kind), one
//! `enable_event` or `disable_event` and one `enable_hist` or `disable_hist` for each other event, and any number of different
//! histograms. `traceoff` and `stacktrace` are done after the event is recorded, the others before. `snapshot` is done after
//! it, so that the snapshot ends with the event, if any of the event's triggers looks at the record ([conditional]); else
//! before it: as in Linux, where a snapshot swaps the buffers while the event is reserved in one, or is not yet. A count
//! goes down only where something was done.
//!
//! [conditional]: TriggerList::is_conditional
//!
//! A [`TriggerList`] never changes, but for its counts and histograms, so that a writer in any context can walk it without a lock:
//! a command makes a new one, which shares the triggers that stay.
//!
//! Source: Linux's `trace_events_trigger.c`. Where Baton differs: an event takes at most [`MAX_TRIGGERS`].

mod cross;
mod parse;

pub use cross::SavedTrigger;

use super::FieldDesc;
use super::complaint::Complaint;
use super::filter::{Filter, Recorder};
use super::hist::{Counts, Hist, Names, Spec};
use crate::errno::Errno;
use crate::sync::{AtomicU64, Ordering};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The most triggers of one event: they fit the bits of [`After`].
pub const MAX_TRIGGERS: usize = 64;
/// The longest command in bytes: Linux takes less than a page.
pub const MAX_COMMAND: usize = 4095;
/// A count that never ends.
const UNLIMITED: u64 = u64::MAX;

/// What a `trigger` file shows where no trigger is set.
pub const AVAILABLE: &str = "# Available triggers:\n\
    # traceon traceoff snapshot stacktrace enable_event disable_event enable_hist disable_hist hist\n";

/// What triggers do to their instance. Called by writers in every context: nothing in it may lock, wait or allocate.
pub trait Actions {
    /// Whether recording is on.
    fn tracing_on(&self) -> bool;
    /// Switches recording.
    fn set_tracing_on(&self, on: bool);
    /// Swaps the buffers with the snapshot's.
    fn snapshot(&self);
    /// Records the callers.
    fn stack_trace(&self);
    /// Whether the event with this number among the declared ones is recorded.
    fn event_enabled(&self, event: usize) -> bool;
    /// Switches it.
    fn set_event_enabled(&self, event: usize, on: bool);
    /// Pauses its histograms, or lets them go on.
    fn pause_hists(&self, event: usize, paused: bool) {
        let _ = (event, paused);
    }
}

/// The event whose triggers are changed.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its group.
    pub system: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its own fields.
    pub fields: &'a [FieldDesc],
    /// The number among the declared events of that of this system and name.
    pub find: &'a dyn Fn(&str, &str) -> Option<usize>,
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("system", &self.system)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Action {
    TraceOn,
    TraceOff,
    Snapshot,
    StackTrace,
    Event(Target),
    Hists(Target),
    Hist(Hist),
}

/// An event that is switched, or whose histograms are.
#[derive(Debug)]
struct Target {
    on: bool,
    system: String,
    name: String,
    index: usize,
}

/// One trigger.
#[derive(Debug)]
struct Trigger {
    action: Action,
    /// How often still.
    count: AtomicU64,
    filter: Option<Filter>,
    /// As it can be given again.
    command: String,
}

/// The triggers of an event in an instance.
#[derive(Clone, Debug, Default)]
pub struct TriggerList {
    triggers: Vec<Arc<Trigger>>,
    needs_comm: bool,
    conditional: bool,
}

/// Triggers that are to be done once the event is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct After(u64);

impl Action {
    /// Whether the other may not stand beside it.
    fn clashes(&self, other: &Action) -> bool {
        use Action::*;
        match (self, other) {
            (TraceOn | TraceOff, TraceOn | TraceOff)
            | (Snapshot, Snapshot)
            | (StackTrace, StackTrace) => true,
            (Event(a), Event(b)) | (Hists(a), Hists(b)) => a.index == b.index,
            (Hist(a), Hist(b)) => a.spec().same(b.spec()),
            _ => false,
        }
    }

    /// Whether it is done once the event is recorded; `late`: the event stands in the buffer already when triggers are asked.
    fn is_after(&self, late: bool) -> bool {
        match self {
            Action::TraceOff | Action::StackTrace => true,
            Action::Snapshot => late,
            _ => false,
        }
    }

    /// The command of one that switches something of another event.
    fn switch(&self) -> &'static str {
        match self {
            Action::Event(Target { on: true, .. }) => "enable_event",
            Action::Event(_) => "disable_event",
            Action::Hists(Target { on: true, .. }) => "enable_hist",
            _ => "disable_hist",
        }
    }
}

impl Trigger {
    fn counts_down(&self) -> bool {
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| match n {
                0 | UNLIMITED => None,
                n => Some(n - 1),
            })
            .map_or_else(|n| n == UNLIMITED, |_| true)
    }

    fn act(&self, record: &[u8], recorder: &Recorder<'_>, actions: &dyn Actions) {
        // What would change nothing does not use up the count.
        let idle = match &self.action {
            Action::TraceOn => actions.tracing_on(),
            Action::TraceOff => !actions.tracing_on(),
            Action::Event(to) => actions.event_enabled(to.index) == to.on,
            _ => false,
        };
        if idle || !self.counts_down() {
            return;
        }
        match &self.action {
            Action::TraceOn => actions.set_tracing_on(true),
            Action::TraceOff => actions.set_tracing_on(false),
            Action::Snapshot => actions.snapshot(),
            Action::StackTrace => actions.stack_trace(),
            Action::Event(to) => actions.set_event_enabled(to.index, to.on),
            Action::Hists(to) => actions.pause_hists(to.index, !to.on),
            Action::Hist(hist) => hist.record(record, recorder),
        }
    }

    fn filter_text(&self) -> Option<&str> {
        self.filter.as_ref().map(Filter::text)
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        match &self.action {
            Action::Hist(hist) => return hist.write_trigger(self.filter_text(), out),
            Action::TraceOn => out.write_str("traceon")?,
            Action::TraceOff => out.write_str("traceoff")?,
            Action::Snapshot => out.write_str("snapshot")?,
            Action::StackTrace => out.write_str("stacktrace")?,
            Action::Event(to) | Action::Hists(to) => {
                let Target { system, name, .. } = to;
                write!(out, "{}:{system}:{name}", self.action.switch())?;
            }
        }
        match self.count.load(Ordering::Relaxed) {
            UNLIMITED => out.write_str(":unlimited")?,
            count => write!(out, ":count={count}")?,
        }
        if let Some(filter) = self.filter_text() {
            write!(out, " if {filter}")?;
        }
        out.write_char('\n')
    }
}

impl TriggerList {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.triggers.is_empty()
    }

    /// Whether [`Recorder::comm`] is looked at.
    pub fn needs_comm(&self) -> bool {
        self.needs_comm
    }

    /// Whether one takes snapshots: then their buffers have to be there.
    pub fn needs_snapshot(&self) -> bool {
        self.triggers
            .iter()
            .any(|t| matches!(t.action, Action::Snapshot))
    }

    /// Whether one switches the declared event of this number: then its `enable` file shows a `*`.
    pub fn switches(&self, event: usize) -> bool {
        self.triggers
            .iter()
            .any(|t| matches!(&t.action, Action::Event(to) if to.index == event))
    }

    /// Whether one of them looks at the record, or waits until it is written: all are asked with the record in hand then.
    pub fn is_conditional(&self) -> bool {
        self.conditional
    }

    /// Pauses the histograms, or lets them go on. In any context.
    pub fn pause_hists(&self, paused: bool) {
        for trigger in &self.triggers {
            if let Action::Hist(hist) = &trigger.action {
                hist.set_paused(paused);
            }
        }
    }

    /// Does what is to be done before the event is recorded; returns what is left for [`TriggerList::fire_after`].
    pub fn fire(&self, record: &[u8], recorder: &Recorder<'_>, actions: &dyn Actions) -> After {
        self.fire_as(self.conditional, record, recorder, actions)
    }

    /// The same for an event whose triggers Linux always asks after its place in the buffer is taken: `ftrace:print`.
    pub fn fire_late(
        &self,
        record: &[u8],
        recorder: &Recorder<'_>,
        actions: &dyn Actions,
    ) -> After {
        self.fire_as(true, record, recorder, actions)
    }

    fn fire_as(
        &self,
        late: bool,
        record: &[u8],
        recorder: &Recorder<'_>,
        actions: &dyn Actions,
    ) -> After {
        let mut after = After::default();
        for (i, trigger) in self.triggers.iter().enumerate() {
            if let Some(filter) = &trigger.filter
                && !filter.matches(record, recorder)
            {
                continue;
            }
            if trigger.action.is_after(late) {
                after.0 |= 1 << (i % MAX_TRIGGERS);
            } else {
                trigger.act(record, recorder, actions);
            }
        }
        after
    }

    /// Does what is to be done once the event is recorded.
    pub fn fire_after(&self, after: After, actions: &dyn Actions) {
        // In Linux the buffers are swapped before the event is committed, and all else is done after that.
        for snapshots in [true, false] {
            let mut bits = after.0;
            while bits != 0 {
                if let Some(trigger) = self.triggers.get(bits.trailing_zeros() as usize)
                    && matches!(trigger.action, Action::Snapshot) == snapshots
                {
                    trigger.act(&[], &Recorder::default(), actions);
                }
                bits &= bits - 1;
            }
        }
    }

    /// Writes the `trigger` file.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(&self, out: &mut dyn Write) -> fmt::Result {
        if self.triggers.is_empty() {
            return out.write_str(AVAILABLE);
        }
        self.triggers.iter().try_for_each(|t| t.write(out))
    }

    /// Writes the `hist` file: every histogram.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write_hist(&self, out: &mut dyn Write) -> fmt::Result {
        let address = |address: u64, out: &mut dyn Write| write!(out, "0x{address:x}");
        let names = Names {
            function: &address,
            place: &address,
        };
        self.write_hist_with(names, out)
    }

    /// The same with the names of functions.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write_hist_with(&self, names: Names<'_>, out: &mut dyn Write) -> fmt::Result {
        let mut first = true;
        for trigger in &self.triggers {
            if let Action::Hist(hist) = &trigger.action {
                out.write_str(if first { "" } else { "\n\n" })?;
                first = false;
                hist.write(trigger.filter_text(), names, out)?;
            }
        }
        Ok(())
    }

    /// Its histograms that have a name, each with what it counts by and what it has counted.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&Spec, &Arc<Counts>)> {
        self.triggers.iter().filter_map(|t| match &t.action {
            Action::Hist(hist) if hist.spec().name().is_some() => {
                Some((hist.spec(), hist.counts()))
            }
            _ => None,
        })
    }

    /// The list in which the histograms of this name count into `counts`, which are those of one like them.
    pub(crate) fn sharing(&self, name: &str, counts: &Arc<Counts>) -> TriggerList {
        let mut list = self.clone();
        for t in &mut list.triggers {
            if let Action::Hist(hist) = &t.action
                && hist.spec().name() == Some(name)
                && !Arc::ptr_eq(hist.counts(), counts)
            {
                *t = Arc::new(Trigger {
                    action: Action::Hist(hist.sharing(counts.clone())),
                    count: AtomicU64::new(t.count.load(Ordering::Relaxed)),
                    filter: t.filter.clone(),
                    command: t.command.clone(),
                });
            }
        }
        list
    }

    /// The list without its histograms: what opening the `trigger` file to write it anew leaves.
    pub fn without_hists(&self) -> TriggerList {
        self.only(|t| !matches!(t.action, Action::Hist(_)))
    }

    fn only(&self, stays: impl Fn(&Trigger) -> bool) -> TriggerList {
        let mut list = self.clone();
        list.triggers.retain(|t| stays(t));
        list.update();
        list
    }

    fn update(&mut self) {
        self.conditional = self.triggers.iter().any(|t| {
            t.filter.is_some()
                || matches!(
                    t.action,
                    Action::Hist(_) | Action::TraceOff | Action::StackTrace
                )
        });
        self.needs_comm = self.triggers.iter().any(|t| {
            t.filter.as_ref().is_some_and(Filter::needs_comm)
                || matches!(&t.action, Action::Hist(hist) if hist.needs_comm())
        });
    }

    /// The list with a new trigger.
    fn with(&self, trigger: Trigger) -> Result<TriggerList, Complaint> {
        if self.triggers.len() >= MAX_TRIGGERS {
            return Err(Complaint::quiet(Errno::ENOSPC));
        }
        let mut list = self.clone();
        // As in Linux: the newest first, but histograms in their order.
        let at = match trigger.action {
            Action::Hist(_) => list.triggers.len(),
            _ => 0,
        };
        list.triggers.insert(at, Arc::new(trigger));
        list.update();
        Ok(list)
    }

    /// The list that a command, as it is written to the `trigger` file, makes of this one.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what is no command, `EEXIST` for a trigger that is there, `ENOENT` for a histogram that is to be cleared or
    /// continued and is not there, `ENOMEM`, `ENOSPC` beyond [`MAX_TRIGGERS`]. This list is as it was then.
    pub fn command(&self, subject: &Subject<'_>, text: &str) -> Result<TriggerList, Complaint> {
        parse::command(self, subject, text)
    }
}
