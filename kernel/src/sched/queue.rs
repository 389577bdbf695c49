//! The tasks that wait for a CPU: a list for each priority, and a bit for each list that is not empty.

use super::list::{List, Table};
use super::prio::LEVELS;
use super::{Slot, list::Links};

/// A run queue. It has room for a fixed number of slots.
#[derive(Debug)]
pub struct RunQueue {
    lists: [List; LEVELS],
    filled: [u64; LEVELS.div_ceil(64)],
    links: Table,
    len: usize,
}

impl RunQueue {
    /// An empty queue for the slots 0 to `slots` - 1.
    pub fn new(slots: usize) -> Self {
        RunQueue {
            lists: [List::new(); LEVELS],
            filled: [0; _],
            links: Table::new(slots),
            len: 0,
        }
    }

    /// Number of tasks in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a task, which is in no queue, behind its equals; `first`: before them, as one that has not used its slice up.
    ///
    /// # Panics
    /// If `prio` is not less than [`LEVELS`].
    pub fn put(&mut self, slot: Slot, prio: u8, first: bool) {
        let list = &mut self.lists[usize::from(prio)];
        if first {
            list.push_front(&mut self.links, slot);
        } else {
            list.push_back(&mut self.links, slot);
        }
        self.filled[usize::from(prio) / 64] |= 1 << (prio % 64);
        self.len += 1;
    }

    /// Takes a task that is in this queue, with this priority, out of it.
    pub fn remove(&mut self, slot: Slot, prio: u8) {
        let list = &mut self.lists[usize::from(prio)];
        list.remove(&mut self.links, slot);
        if list.is_empty() {
            self.filled[usize::from(prio) / 64] &= !(1 << (prio % 64));
        }
        self.len -= 1;
    }

    /// The most urgent priority that is here.
    pub fn best(&self) -> Option<u8> {
        let word = self.filled.iter().position(|word| *word != 0)?;
        Some((word * 64) as u8 + self.filled[word].trailing_zeros() as u8)
    }

    /// Takes the task out that runs next: the first of the most urgent ones.
    pub fn take(&mut self) -> Option<Slot> {
        let prio = self.best()?;
        let slot = self.lists[usize::from(prio)].first()?;
        self.remove(slot, prio);
        Some(slot)
    }

    /// Takes a task out that another CPU may run instead: of those for which `movable` holds, the one that would have to wait
    /// here longest.
    pub fn give(&mut self, movable: impl Fn(Slot) -> bool) -> Option<Slot> {
        for word in (0..self.filled.len()).rev() {
            let mut bits = self.filled[word];
            while bits != 0 {
                let bit = 63 - bits.leading_zeros();
                bits &= !(1 << bit);
                let prio = (word * 64) as u8 + bit as u8;
                let mut at = self.lists[usize::from(prio)].last();
                while let Some(slot) = at {
                    if movable(slot) {
                        self.remove(slot, prio);
                        return Some(slot);
                    }
                    let before = self.links.get(slot).0;
                    at = (before != super::NONE).then_some(before);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a queue should do, the plain way: everybody in order of arrival.
    #[derive(Default)]
    struct Model(Vec<(u8, Slot)>);

    impl Model {
        fn put(&mut self, slot: Slot, prio: u8, first: bool) {
            let at = match first {
                true => self.0.iter().position(|(p, _)| *p >= prio),
                false => self.0.iter().position(|(p, _)| *p > prio),
            };
            self.0.insert(at.unwrap_or(self.0.len()), (prio, slot));
        }

        fn take(&mut self) -> Option<Slot> {
            (!self.0.is_empty()).then(|| self.0.remove(0).1)
        }

        fn give(&mut self, movable: impl Fn(Slot) -> bool) -> Option<Slot> {
            let at = self.0.iter().rposition(|(_, s)| movable(*s))?;
            Some(self.0.remove(at).1)
        }

        fn prio(&self, slot: Slot) -> Option<u8> {
            Some(self.0.iter().find(|(_, s)| *s == slot)?.0)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(Slot, u8, bool),
        Remove(Slot),
        Take,
        Give(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..32, prop_oneof![0u8..140, 118u8..122], any::<bool>())
                .prop_map(|(s, p, f)| Step::Put(s, p, f)),
            1 => (0u16..32).prop_map(Step::Remove),
            2 => Just(Step::Take),
            1 => any::<u16>().prop_map(Step::Give),
        ]
    }

    proptest! {
        #[test]
        fn does_what_the_model_does(steps in prop::collection::vec(step(), 0..300)) {
            let (mut queue, mut model) = (RunQueue::new(32), Model::default());
            for step in steps {
                match step {
                    Step::Put(slot, prio, first) if model.prio(slot).is_none() => {
                        queue.put(slot, prio, first);
                        model.put(slot, prio, first);
                    }
                    Step::Remove(slot) => {
                        if let Some(prio) = model.prio(slot) {
                            queue.remove(slot, prio);
                            model.0.retain(|(_, s)| *s != slot);
                        }
                    }
                    Step::Put(..) => {}
                    Step::Take => prop_assert_eq!(queue.take(), model.take()),
                    Step::Give(mask) => {
                        let movable = |s: Slot| mask >> (s % 16) & 1 != 0;
                        prop_assert_eq!(queue.give(movable), model.give(movable));
                    }
                }
                prop_assert_eq!(queue.len(), model.0.len());
                prop_assert_eq!(queue.best(), model.0.first().map(|(p, _)| *p));
            }
        }
    }
}
