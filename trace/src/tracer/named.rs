//! Histograms that have a name count together, whichever events of the instance they belong to.
//!
//! Linux's `hist_register_trigger` and `hist_trigger_match` (`trace_events_hist.c`).

use super::instance::Instance;
use crate::event::EventDesc;
use crate::event::hist::{Counts, Spec};
use crate::event::trigger::TriggerList;
use crate::platform::Platform;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The histograms of this name.
fn of_name<'l>(
    list: &'l TriggerList,
    name: &'l str,
) -> impl Iterator<Item = (&'l Spec, &'l Arc<Counts>)> {
    list.named()
        .filter(move |(spec, _)| spec.name() == Some(name))
}

impl<P: Platform> Instance<P> {
    /// Lets the named histograms of `list`, which is to take the place of `before` as the triggers of `event`, count together
    /// with those of their names that are there. Those of one that has been cleared follow it: it has new counts.
    /// Called under the instance's lock.
    ///
    /// # Errors
    ///
    /// The name of a histogram that counts by something else than those that are there; then nothing has changed.
    pub(super) fn share_named(
        &self,
        event: &'static EventDesc,
        before: &TriggerList,
        list: TriggerList,
    ) -> Result<TriggerList, String> {
        let mut names: Vec<String> = list
            .named()
            .filter_map(|(spec, _)| spec.name().map(String::from))
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(list);
        }
        let others: Vec<(&'static EventDesc, TriggerList)> = self
            .subjects()
            .filter(|other| !core::ptr::eq(*other, event))
            .map(|other| (other, self.triggers_of(other)))
            .collect();
        let mut new = list.clone();
        let mut follow = Vec::new();
        for name in &names {
            let theirs = others
                .iter()
                .find_map(|(_, triggers)| of_name(triggers, name).next());
            let mine = of_name(before, name).next();
            let Some((spec, counts)) = mine.or(theirs).or(of_name(&list, name).next()) else {
                continue;
            };
            if !of_name(&list, name).all(|(new, _)| new.is_like(spec)) {
                return Err(name.clone());
            }
            let cleared = of_name(&list, name)
                .find(|(_, new)| !Arc::ptr_eq(new, counts))
                .filter(|_| of_name(&list, name).count() == of_name(before, name).count());
            match cleared {
                Some((_, fresh)) if mine.is_some() => {
                    new = new.sharing(name, fresh);
                    follow.push((name, fresh));
                }
                _ => new = new.sharing(name, counts),
            }
        }
        for (other, triggers) in &others {
            let mut list = triggers.clone();
            for (name, fresh) in &follow {
                list = list.sharing(name, fresh);
            }
            if !follow.is_empty() {
                self.put_triggers(other, list);
            }
        }
        Ok(new)
    }
}
