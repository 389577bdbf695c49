//! The tasks whose events are recorded: `set_event_pid` and `set_event_notrace_pid`.
//!
//! Linux's `trace_ignore_this_task` and the probes of `trace_events.c` that keep `ignore_pid`. An event counts as its recorder's;
//! one that tells of another task (`sched_switch`, `sched_wakeup`) as that one's, too.

use super::instance::Instance;
use super::quiesce::{Guard, Place};
use crate::event::EventDesc;
use crate::event::filter::find_field;
use crate::platform::Platform;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Which of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidList {
    /// `set_event_pid`: if there is one, the events of these tasks are recorded.
    Only,
    /// `set_event_notrace_pid`: the events of these are not.
    Not,
}

/// The lists of an instance, each sorted; none where it is empty.
#[derive(Default)]
pub(super) struct Pids {
    only: Place<Vec<i32>>,
    not: Place<Vec<i32>>,
}

impl Pids {
    fn place(&self, list: PidList) -> &Place<Vec<i32>> {
        match list {
            PidList::Only => &self.only,
            PidList::Not => &self.not,
        }
    }

    fn leaves_out(&self, guard: &Guard<'_>, pid: i32, only: bool) -> bool {
        let listed = |pids: &Vec<i32>| pids.binary_search(&pid).is_ok();
        match only {
            true => self.only.get(guard).is_some_and(|pids| !listed(pids)),
            false => self.not.get(guard).is_some_and(listed),
        }
    }

    /// Whether an event of `pid` that tells of the task `other` is left out.
    pub(super) fn ignore(&self, guard: &Guard<'_>, pid: i32, other: Option<Other>) -> bool {
        let ignores = |pid| self.leaves_out(guard, pid, true) || self.leaves_out(guard, pid, false);
        match other {
            None => ignores(pid),
            // Linux: left out only if both are, by each list on its own.
            Some(Other::Next(next)) => [true, false].into_iter().any(|only| {
                self.leaves_out(guard, pid, only) && self.leaves_out(guard, next, only)
            }),
            Some(Other::Woken(woken)) => ignores(pid) && ignores(woken),
        }
    }
}

/// The task that an event tells of beside the one that records it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Other {
    /// It is about to run.
    Next(i32),
    /// It may run.
    Woken(i32),
}

impl Other {
    /// That of a record of `event`.
    pub(super) fn of(event: &EventDesc, record: &[u8]) -> Option<Other> {
        if event.system != "sched" {
            return None;
        }
        let (field, other): (_, fn(i32) -> Other) = match event.name {
            "sched_switch" => ("next_pid", Other::Next),
            "sched_waking" | "sched_wakeup" | "sched_wakeup_new" => ("pid", Other::Woken),
            _ => return None,
        };
        let at = find_field(event.fields, field)?.offset;
        let bytes = record.get(at..)?.first_chunk()?;
        Some(other(i32::from_ne_bytes(*bytes)))
    }
}

impl<P: Platform> Instance<P> {
    /// The tasks in one of the lists, in order.
    pub fn pids(&self, list: PidList) -> Vec<i32> {
        let guard = self.shared.domain.enter(0);
        let place = self.pids.place(list);
        let pids = guard
            .as_ref()
            .and_then(|guard| place.get(guard).cloned())
            .unwrap_or_default();
        drop(guard);
        pids
    }

    /// Makes one of the lists these tasks. An empty list is none: it leaves nothing out.
    pub fn set_pids(&self, list: PidList, pids: Vec<i32>) {
        self.put_pids(list, pids, false);
    }

    /// Adds these tasks to one of the lists.
    pub fn add_pids(&self, list: PidList, pids: Vec<i32>) {
        self.put_pids(list, pids, true);
    }

    fn put_pids(&self, list: PidList, mut pids: Vec<i32>, keep: bool) {
        // Of two that add at once, the later one adds to what the earlier one has made.
        let control = self.control.lock();
        if keep {
            pids.append(&mut self.pids(list));
        }
        pids.sort_unstable();
        pids.dedup();
        let pids = (!pids.is_empty()).then(|| Arc::new(pids));
        self.pids.place(list).put(pids, &self.shared.domain);
        drop(control);
        self.refresh_masks();
    }

    /// Whether there is a list.
    pub(super) fn has_pids(&self, guard: &Guard<'_>) -> bool {
        self.pids.only.get(guard).is_some() || self.pids.not.get(guard).is_some()
    }
}
