//! Which CPU a task goes to, from the number of runnable tasks on each: what runs there counts, an idle task does not.

/// Tasks that one pull moves at most: the queue of the other CPU is locked for as long.
pub const MAX_PULL: usize = 8;

/// The CPU for a task that wakes up or is new. `loads` has a number for each CPU, `None` for one that is not there;
/// `allowed` a bit for each on which the task may run. `last`: where it ran before, whose caches may still know it; `here`: who
/// wakes it.
///
/// An idle CPU is best, the last one before this one before any other; else the least busy one, with the same order among
/// equals. `None` where no CPU is allowed.
pub fn for_wakeup(loads: &[Option<u32>], allowed: u64, last: usize, here: usize) -> Option<usize> {
    let load = |cpu: usize| {
        let is_allowed = cpu < 64 && allowed >> cpu & 1 != 0;
        loads.get(cpu).copied().flatten().filter(|_| is_allowed)
    };
    let others = (0..loads.len()).filter(|cpu| *cpu != last && *cpu != here);
    [last, here]
        .into_iter()
        .chain(others)
        .filter_map(|cpu| Some((load(cpu)?, cpu)))
        .reduce(|best, next| if next.0 < best.0 { next } else { best })
        .map(|(_, cpu)| cpu)
}

/// From which CPU `here` should take how many tasks, so that nobody waits there while less is to be done here. Half the
/// difference, rounded down: two CPUs never hand one task to and fro.
pub fn pull(loads: &[Option<u32>], here: usize) -> Option<(usize, usize)> {
    let own = loads.get(here).copied().flatten()?;
    let (busiest, most) = loads
        .iter()
        .enumerate()
        .filter_map(|(cpu, load)| Some((cpu, (*load)?)))
        .max_by_key(|(_, load)| *load)?;
    let count = (most.saturating_sub(own) / 2) as usize;
    (count > 0).then_some((busiest, count.min(MAX_PULL)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wakeups() {
        let all = u64::MAX;
        let loads = [Some(1), Some(0), Some(0), None];
        assert_eq!(
            for_wakeup(&loads, all, 2, 0),
            Some(2),
            "the last one is idle"
        );
        assert_eq!(for_wakeup(&loads, all, 0, 1), Some(1), "here is idle");
        assert_eq!(for_wakeup(&loads, all, 0, 0), Some(1), "another is idle");
        assert_eq!(
            for_wakeup(&loads, 1, 2, 2),
            Some(0),
            "only CPU 0 is allowed"
        );
        assert_eq!(for_wakeup(&loads, 8, 2, 2), None, "not there");
        assert_eq!(for_wakeup(&[Some(2), Some(2)], all, 1, 0), Some(1));
        assert_eq!(for_wakeup(&[Some(1), Some(2)], all, 1, 0), Some(0));
    }

    #[test]
    fn one_task_stays_where_it_is() {
        assert_eq!(pull(&[Some(1), Some(0)], 1), None);
        assert_eq!(pull(&[Some(2), Some(0)], 1), Some((0, 1)));
        assert_eq!(pull(&[Some(2), Some(1)], 1), None);
        assert_eq!(pull(&[Some(2), None], 1), None);
    }

    proptest! {
        /// Whatever the start, balancing ends, and then no two CPUs differ by more than one task.
        #[test]
        fn balancing_settles(start in prop::collection::vec(0u32..50, 1..9)) {
            let mut loads: Vec<Option<u32>> = start.iter().map(|l| Some(*l)).collect();
            let total: u32 = start.iter().sum();
            for _ in 0..1000 {
                let moved: usize = (0..loads.len()).map(|here| {
                    let Some((from, count)) = pull(&loads, here) else { return 0 };
                    loads[from] = loads[from].map(|l| l - count as u32);
                    loads[here] = loads[here].map(|l| l + count as u32);
                    count
                }).sum();
                if moved == 0 {
                    break;
                }
            }
            let loads: Vec<u32> = loads.into_iter().flatten().collect();
            prop_assert_eq!(loads.iter().sum::<u32>(), total);
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }

        /// Nobody is sent to a busier CPU than another that is allowed.
        #[test]
        fn the_least_busy_one_is_chosen(
            loads in prop::collection::vec(prop::option::of(0u32..4), 1..9),
            allowed in any::<u64>(),
            last in 0usize..9,
            here in 0usize..9,
        ) {
            let least = loads.iter().enumerate()
                .filter(|(cpu, _)| allowed >> cpu & 1 != 0)
                .filter_map(|(_, load)| *load)
                .min();
            let chosen = for_wakeup(&loads, allowed, last, here);
            prop_assert_eq!(chosen.and_then(|cpu| loads[cpu]), least);
            if let Some(cpu) = chosen {
                prop_assert!(allowed >> cpu & 1 != 0);
            }
        }
    }
}
