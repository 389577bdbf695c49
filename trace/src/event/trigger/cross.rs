//! Triggers as they cross a kexec.

use super::{Action, Subject, TriggerList};
use crate::event::hist::HistState;
use crate::sync::Ordering;
use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// A trigger as it crosses a kexec.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedTrigger {
    /// The command that makes it.
    pub command: String,
    /// How often still; `u64::MAX` without end.
    pub count: u64,
    /// What a histogram has counted: one, or none.
    pub hist: Vec<HistState>,
}

impl TriggerList {
    /// All triggers as they cross a kexec, in the order in which [`TriggerList::restore`] wants them.
    pub fn save(&self) -> Vec<SavedTrigger> {
        self.triggers
            .iter()
            .map(|t| SavedTrigger {
                command: t.command.clone(),
                count: t.count.load(Ordering::Relaxed),
                hist: match &t.action {
                    Action::Hist(hist) => alloc::vec![hist.save()],
                    _ => Vec::new(),
                },
            })
            .collect()
    }

    /// Brings the counts and histograms of `saved`, one of [`save`](Self::save), up to date, without allocating and without
    /// changing its size.
    pub fn refresh(&self, saved: &mut [SavedTrigger]) {
        for (saved, trigger) in saved.iter_mut().zip(&self.triggers) {
            saved.count = trigger.count.load(Ordering::Relaxed);
            if let (Action::Hist(hist), Some(state)) = (&trigger.action, saved.hist.first_mut()) {
                hist.refresh(state);
            }
        }
    }

    /// The list that an earlier life saved. Also returns the commands that make nothing here any more, because a field or an
    /// event is gone, and those whose counts do not fit.
    pub fn restore(subject: &Subject<'_>, saved: &[SavedTrigger]) -> (TriggerList, Vec<String>) {
        let mut list = TriggerList::default();
        let mut lost = Vec::new();
        // The last first: a new one goes to the front. Histograms go to the back, so those in their order.
        let is_hist = |s: &&SavedTrigger| !s.hist.is_empty();
        let hists = saved.iter().filter(is_hist);
        let others = saved.iter().rev().filter(|s| s.hist.is_empty());
        for saved in others.chain(hists) {
            match list.command(subject, &saved.command) {
                Ok(new) if new.triggers.len() == list.triggers.len() + 1 => {
                    list = new;
                    let at = if saved.hist.is_empty() {
                        0
                    } else {
                        list.triggers.len() - 1
                    };
                    list.triggers[at]
                        .count
                        .store(saved.count, Ordering::Relaxed);
                    if let (Action::Hist(hist), Some(state)) =
                        (&list.triggers[at].action, saved.hist.first())
                        && !hist.restore(state)
                    {
                        lost.push(saved.command.clone());
                    }
                }
                _ => lost.push(saved.command.clone()),
            }
        }
        (list, lost)
    }
}
