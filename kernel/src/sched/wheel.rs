//! Timers: a hierarchical wheel, as of Varghese and Lauck (SOSP 1987), scheme 7, with cascading.
//!
//! Level 0 has a bucket for each of the next 64 ticks; level n one for each of 64 times as many. When the hand has gone round a
//! level, the next bucket of the level above is spread over it. Setting and cancelling take constant time.

use super::list::{List, Table};
use super::{NONE, Slot};
use alloc::boxed::Box;

/// Levels; four reach 2^24 ticks. What is due later waits in the last level, and goes round again.
const LEVELS: usize = 4;
const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;
const MASK: u64 = BUCKETS as u64 - 1;

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: u64,
    /// Which bucket it is in, all levels counted through; [`NONE`]: it is not set.
    bucket: u16,
}

/// Timers of one CPU, by number.
#[derive(Debug)]
pub struct Wheel {
    buckets: [[List; BUCKETS]; LEVELS],
    links: Table,
    entries: Box<[Entry]>,
    /// All ticks before this one, and the cascades of this one, are done.
    now: u64,
    /// Timers in all levels but the first.
    far: usize,
    near: usize,
}

impl Wheel {
    /// A wheel at tick `now`, for the timers 0 to `timers` - 1.
    pub fn new(timers: usize, now: u64) -> Self {
        let unset = Entry {
            due: 0,
            bucket: NONE,
        };
        Wheel {
            buckets: [[List::new(); BUCKETS]; LEVELS],
            links: Table::new(timers),
            entries: (0..timers).map(|_| unset).collect(),
            now,
            far: 0,
            near: 0,
        }
    }

    /// Whether the timer is set.
    pub fn is_set(&self, timer: Slot) -> bool {
        self.entries[usize::from(timer)].bucket != NONE
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.near + self.far
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets a timer, which is not set, to go off at tick `due`; what is past already goes off at once.
    pub fn set(&mut self, timer: Slot, due: u64) {
        debug_assert!(!self.is_set(timer));
        let due = due.max(self.now);
        self.entries[usize::from(timer)].due = due;
        self.place(timer, due);
    }

    fn place(&mut self, timer: Slot, due: u64) {
        let ahead = due - self.now;
        let level = (0..LEVELS)
            .find(|level| ahead >> (BITS * (*level as u32 + 1)) == 0)
            .unwrap_or(LEVELS - 1);
        // Too far for the last level: as far as it reaches, and then it is placed anew.
        let reach = self.now + (1 << (BITS * LEVELS as u32)) - 1;
        let index = (due.min(reach) >> (BITS * level as u32) & MASK) as usize;
        self.buckets[level][index].push_back(&mut self.links, timer);
        self.entries[usize::from(timer)].bucket = (level * BUCKETS + index) as u16;
        *(if level == 0 {
            &mut self.near
        } else {
            &mut self.far
        }) += 1;
    }

    /// Stops a timer; whether it was set.
    pub fn cancel(&mut self, timer: Slot) -> bool {
        let bucket = usize::from(self.entries[usize::from(timer)].bucket);
        if bucket == usize::from(NONE) {
            return false;
        }
        let level = bucket / BUCKETS;
        self.buckets[level][bucket % BUCKETS].remove(&mut self.links, timer);
        self.entries[usize::from(timer)].bucket = NONE;
        *(if level == 0 {
            &mut self.near
        } else {
            &mut self.far
        }) -= 1;
        true
    }

    /// Where no timer is set, the hand goes on to tick `now` at once: nobody may have turned it for long.
    pub fn catch_up(&mut self, now: u64) {
        if self.is_empty() {
            self.now = self.now.max(now);
        }
    }

    /// Takes out a timer that is due at tick `to` or before, in the order of time: the timer, and when it was due. Called
    /// until there is none.
    pub fn expire(&mut self, to: u64) -> Option<(Slot, u64)> {
        loop {
            if self.now > to {
                return None;
            }
            let index = (self.now & MASK) as usize;
            if let Some(timer) = self.buckets[0][index].first() {
                self.cancel(timer);
                return Some((timer, self.entries[usize::from(timer)].due));
            }
            if self.is_empty() {
                // Nothing to turn for.
                self.now = to + 1;
                return None;
            }
            self.now += 1;
            self.cascade();
        }
    }

    /// Spreads the buckets whose time has come over the levels below.
    fn cascade(&mut self) {
        for level in 1..LEVELS {
            if self.now & ((1 << (BITS * level as u32)) - 1) != 0 {
                break;
            }
            let index = (self.now >> (BITS * level as u32) & MASK) as usize;
            // As many as there are now: one that is too far may come back into the same bucket.
            let mut moving = core::mem::take(&mut self.buckets[level][index]);
            while let Some(timer) = moving.pop_front(&mut self.links) {
                self.far -= 1;
                let due = self.entries[usize::from(timer)].due;
                self.place(timer, due);
            }
        }
    }

    /// A tick before which no timer is due; `None` where none is set.
    pub fn next(&self) -> Option<u64> {
        let near = (self.now..self.now + BUCKETS as u64)
            .find(|tick| !self.buckets[0][(tick & MASK) as usize].is_empty());
        // At the end of this round level 0 is filled from above.
        let far = (self.far > 0).then(|| (self.now | MASK) + 1);
        near.into_iter().chain(far).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TIMERS: usize = 16;

    fn drain(wheel: &mut Wheel, to: u64) -> Vec<(Slot, u64)> {
        std::iter::from_fn(|| wheel.expire(to)).collect()
    }

    #[test]
    fn goes_off_when_it_is_due_on_each_level() {
        for start in [0, 1, 63, 64, 4095, 4096, (1 << 24) - 1, 1 << 40] {
            for ahead in [
                0,
                1,
                63,
                64,
                65,
                4095,
                4096,
                4097,
                262_143,
                262_144,
                1 << 24,
            ] {
                let mut wheel = Wheel::new(1, start);
                let due = start + ahead;
                wheel.set(0, due);
                if due > start {
                    assert_eq!(drain(&mut wheel, due - 1), [], "{start} {ahead}");
                }
                assert_eq!(drain(&mut wheel, due), [(0, due)], "{start} {ahead}");
                assert!(wheel.is_empty() && !wheel.is_set(0));
            }
        }
    }

    #[test]
    fn the_past_goes_off_at_once() {
        let mut wheel = Wheel::new(2, 100);
        assert_eq!(drain(&mut wheel, 100), []);
        wheel.set(1, 3);
        assert_eq!(drain(&mut wheel, 101), [(1, 101)]);
    }

    proptest! {
        #[test]
        fn does_what_a_sorted_map_does(
            start in 0u64..1 << 30,
            steps in prop::collection::vec(
                (0u8..4, 0u16..TIMERS as Slot, prop_oneof![0u64..100, 0u64..10_000, 0u64..40_000_000]),
                0..100,
            ),
        ) {
            let mut wheel = Wheel::new(TIMERS, start);
            let mut model: BTreeMap<Slot, u64> = BTreeMap::new();
            let mut now = start;
            for (step, timer, n) in steps {
                match step {
                    0 | 1 if !model.contains_key(&timer) => {
                        wheel.catch_up(now);
                        wheel.set(timer, now + n);
                        model.insert(timer, now + n);
                    }
                    2 => prop_assert_eq!(wheel.cancel(timer), model.remove(&timer).is_some()),
                    3 => {
                        // A step of 40 million ticks takes a debug build a while.
                        let to = now + n % 30_000;
                        let fired = drain(&mut wheel, to);
                        let mut due: Vec<(u64, Slot)> = model.iter()
                            .filter(|(_, due)| **due <= to).map(|(t, d)| (*d, *t)).collect();
                        due.sort_unstable();
                        let times: Vec<u64> = fired.iter().map(|(_, d)| *d).collect();
                        prop_assert!(times.is_sorted());
                        let mut fired: Vec<(u64, Slot)> = fired.into_iter().map(|(t, d)| (d, t)).collect();
                        fired.sort_unstable();
                        prop_assert_eq!(fired, due);
                        model.retain(|_, due| *due > to);
                        now = to + 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(wheel.len(), model.len());
                let first = model.values().min().copied();
                prop_assert_eq!(wheel.next().is_some(), first.is_some());
                if let (Some(bound), Some(first)) = (wheel.next(), first) {
                    prop_assert!(bound <= first && bound >= now);
                }
            }
        }
    }
}
