//! Making and removing instances: `mkdir` and `rmdir` in `instances/`.

use super::instance::{Instance, Parts, Shared, TOP, fresh_cpus};
use super::quiesce::{Domain, Place};
use super::{Tracer, cmdlines::Cmdlines};
use crate::errno::Errno;
use crate::platform::Platform;
use crate::sync::{AtomicBool, AtomicU64};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The most instances, the top one counted: each has a bit in a word.
pub const MAX_INSTANCES: usize = 64;
/// Bytes of the longest name: Linux's `NAME_MAX`.
const NAME_MAX: usize = 255;

/// What instances share; with room for the names of `names` tasks.
pub(super) fn shared(nr_cpus: usize, names: usize) -> Arc<Shared> {
    let shared = Shared {
        domain: Domain::new(nr_cpus),
        cmdlines: Place::empty(),
        oversized: AtomicU64::new(0),
        persistent: AtomicBool::new(false),
    };
    let cmdlines = Cmdlines::new(names).map(Arc::new);
    shared.cmdlines.put(cmdlines, &shared.domain);
    Arc::new(shared)
}

pub(super) fn no_slots<P: Platform>() -> Box<[Place<Instance<P>>]> {
    (1..MAX_INSTANCES).map(|_| Place::empty()).collect()
}

/// Whether it can be the name of a directory.
pub(super) fn check_name(name: &str) -> Result<(), Errno> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Errno::EINVAL);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(())
}

impl<P: Platform> Tracer<P> {
    /// The instances beside the top one, in the order in which they were made. As long as one of them is held, it cannot be removed.
    pub fn instances(&self) -> Vec<Arc<Instance<P>>> {
        self.named.lock().clone()
    }

    /// The instance of this name.
    pub fn instance(&self, name: &str) -> Option<Arc<Instance<P>>> {
        self.named
            .lock()
            .iter()
            .find(|instance| instance.name() == name)
            .cloned()
    }

    /// Makes an instance: on, empty, clock `local`, no event enabled, the options of the top one, and the buffer size that the
    /// tracer began with (Linux: `trace_buf_size=`).
    ///
    /// # Errors
    ///
    /// `EEXIST`; `EINVAL` for a name that cannot be, `ENAMETOOLONG` for one of more than 255 bytes; `ENOSPC` if there are
    /// 63 already; `ENOMEM`.
    pub fn create_instance(&self, name: &str) -> Result<Arc<Instance<P>>, Errno> {
        check_name(name)?;
        let mut named = self.named.lock();
        if named.iter().any(|instance| instance.name() == name) {
            return Err(Errno::EEXIST);
        }
        let taken = |slot: u8| named.iter().any(|instance| instance.slot == slot);
        let slot = (TOP + 1..MAX_INSTANCES as u8)
            .find(|slot| !taken(*slot))
            .ok_or(Errno::ENOSPC)?;
        named.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let cpus = fresh_cpus(&self.platform, self.top.nr_cpus(), self.instance_kb, 0)?;
        let mut parts = Parts::new(slot, String::from(name), cpus, self.events());
        parts.options = self.top.options();
        let instance = Instance::from_parts(self.platform.clone(), self.shared.clone(), parts);
        let instance = self.publish(&mut named, instance);
        // One of the options wants to see events.
        instance.refresh_masks();
        Ok(instance)
    }

    /// Shows an instance to everybody. Its slot must be free.
    pub(super) fn publish(
        &self,
        named: &mut Vec<Arc<Instance<P>>>,
        instance: Instance<P>,
    ) -> Arc<Instance<P>> {
        let instance = Arc::new(instance);
        named.push(instance.clone());
        self.slots[usize::from(instance.slot) - 1].put(Some(instance.clone()), &self.shared.domain);
        instance
    }

    /// Removes the instance of this name: nothing is recorded in it any more, its pages are given back.
    ///
    /// # Errors
    ///
    /// `ENOENT`; `EBUSY` while somebody holds it: a file of it is open.
    pub fn remove_instance(&self, name: &str) -> Result<(), Errno> {
        let mut named = self.named.lock();
        let at = named
            .iter()
            .position(|instance| instance.name() == name)
            .ok_or(Errno::ENOENT)?;
        // One is the list's, one the slot's; nobody gets another one but under the lock.
        if Arc::strong_count(&named[at]) > 2 {
            return Err(Errno::EBUSY);
        }
        let instance = named.remove(at);
        let slot = instance.slot;
        for event in self.events() {
            event.clear_slot(slot);
        }
        let place = &self.slots[usize::from(slot) - 1];
        // The slot's count is the last one then: what frees the pages is that nobody can look at them any more.
        let was_persistent = instance.is_persistent();
        drop(instance);
        place.put(None, &self.shared.domain);
        // A trigger that was still at work may have switched an event there.
        for event in self.events() {
            event.clear_slot(slot);
        }
        if was_persistent {
            self.platform.ramtrace_changed();
        }
        Ok(())
    }

    /// The top instance and all others.
    pub(super) fn for_each_instance(&self, mut f: impl FnMut(&Instance<P>)) {
        f(&self.top);
        for instance in self.named.lock().iter() {
            f(instance);
        }
    }

    /// Calls `f` with every page that the buffers of all instances own.
    pub fn for_each_page(&self, mut f: impl FnMut(handover::page::PageRef)) {
        self.for_each_instance(|instance| instance.for_each_page(&mut f));
    }
}
