//! Doubly linked lists of slots. A slot is in one list at a time among those that share its links.

use super::{NONE, Slot};
use alloc::boxed::Box;

/// Where the links of all slots lie.
pub trait Links {
    /// The slots before and after `slot` in its list; [`NONE`] at an end.
    fn get(&self, slot: Slot) -> (Slot, Slot);
    /// Sets the slot before `slot`.
    fn set_before(&mut self, slot: Slot, before: Slot);
    /// Sets the slot after `slot`.
    fn set_after(&mut self, slot: Slot, after: Slot);
}

/// Links in a table of their own.
#[derive(Debug)]
pub struct Table(Box<[(Slot, Slot)]>);

impl Table {
    /// Links for the slots 0 to `slots` - 1.
    pub fn new(slots: usize) -> Self {
        Table((0..slots).map(|_| (NONE, NONE)).collect())
    }
}

impl Links for Table {
    fn get(&self, slot: Slot) -> (Slot, Slot) {
        self.0[usize::from(slot)]
    }

    fn set_before(&mut self, slot: Slot, before: Slot) {
        self.0[usize::from(slot)].0 = before;
    }

    fn set_after(&mut self, slot: Slot, after: Slot) {
        self.0[usize::from(slot)].1 = after;
    }
}

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub struct List {
    first: Slot,
    last: Slot,
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list.
    pub const fn new() -> Self {
        List {
            first: NONE,
            last: NONE,
        }
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// The first slot.
    pub fn first(&self) -> Option<Slot> {
        (self.first != NONE).then_some(self.first)
    }

    /// The last slot.
    pub fn last(&self) -> Option<Slot> {
        (self.last != NONE).then_some(self.last)
    }

    /// Puts `slot`, which is in no list, at the end.
    pub fn push_back(&mut self, links: &mut impl Links, slot: Slot) {
        links.set_before(slot, self.last);
        links.set_after(slot, NONE);
        match self.last {
            NONE => self.first = slot,
            last => links.set_after(last, slot),
        }
        self.last = slot;
    }

    /// Puts `slot`, which is in no list, at the front.
    pub fn push_front(&mut self, links: &mut impl Links, slot: Slot) {
        links.set_before(slot, NONE);
        links.set_after(slot, self.first);
        match self.first {
            NONE => self.last = slot,
            first => links.set_before(first, slot),
        }
        self.first = slot;
    }

    /// Takes `slot`, which is in this list, out.
    pub fn remove(&mut self, links: &mut impl Links, slot: Slot) {
        let (before, after) = links.get(slot);
        match before {
            NONE => self.first = after,
            before => links.set_after(before, after),
        }
        match after {
            NONE => self.last = before,
            after => links.set_before(after, before),
        }
    }

    /// Takes the first slot out.
    pub fn pop_front(&mut self, links: &mut impl Links) -> Option<Slot> {
        let slot = self.first()?;
        self.remove(links, slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn does_what_a_deque_does(steps in prop::collection::vec((0u8..4, 0u16..8), 0..200)) {
            let (mut list, mut links) = (List::new(), Table::new(8));
            let mut model = VecDeque::new();
            for (step, slot) in steps {
                let inside = model.contains(&slot);
                match step {
                    0 if !inside => {
                        list.push_back(&mut links, slot);
                        model.push_back(slot);
                    }
                    1 if !inside => {
                        list.push_front(&mut links, slot);
                        model.push_front(slot);
                    }
                    2 if inside => {
                        list.remove(&mut links, slot);
                        model.retain(|s| *s != slot);
                    }
                    3 => prop_assert_eq!(list.pop_front(&mut links), model.pop_front()),
                    _ => {}
                }
                prop_assert_eq!(list.first(), model.front().copied());
                prop_assert_eq!(list.last(), model.back().copied());
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
        }
    }
}
