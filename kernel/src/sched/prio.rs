//! Priorities, with Linux's numbers: less is more urgent. 0 to 99 are Linux's real-time priorities, 100 to 139 stand for
//! nice -20 to 19.

/// Number of priorities.
pub const LEVELS: usize = 140;
/// That of nice 0.
pub const DEFAULT: u8 = 120;
/// The console's (nice -10): it answers while everybody else computes.
pub const CONSOLE: u8 = 110;

/// Timer ticks for which a task runs before the next one of its priority does.
pub const SLICE_TICKS: u32 = 3;

/// The priority of a nice value; values beyond -20 to 19 count as those.
pub const fn of_nice(nice: i32) -> u8 {
    let nice = if nice < -20 {
        -20
    } else if nice > 19 {
        19
    } else {
        nice
    };
    (DEFAULT as i32 + nice) as u8
}

/// How urgent a task is against one that runs: the lower rank goes first at once. Among equals that is one that has woken up,
/// against one that has used up a whole slice since it last slept (`busy`). It cannot keep that one from running: what it runs counts
/// against its own slice, which sleeping does not fill, and when that is used up it goes behind.
pub const fn rank(prio: u8, busy: bool) -> u16 {
    prio as u16 * 2 + busy as u16
}

/// Counts a tick against a slice; true when it is used up: then it starts anew, and the task goes behind its equals.
pub fn tick(left: &mut u32) -> bool {
    *left = left.saturating_sub(1);
    let over = *left == 0;
    if over {
        *left = SLICE_TICKS;
    }
    over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nice_values() {
        assert_eq!(
            [-21, -20, 0, 19, 20].map(of_nice),
            [100, 100, 120, 139, 139]
        );
        assert!(usize::from(of_nice(19)) < LEVELS);
    }

    #[test]
    fn ranks() {
        assert!(rank(110, true) < rank(120, false), "priorities first");
        assert!(rank(120, false) < rank(120, true));
        assert!(rank(120, true) < rank(121, false));
    }

    #[test]
    fn a_slice_lasts_its_ticks() {
        let mut left = SLICE_TICKS;
        for _ in 0..3 {
            let ticks: Vec<bool> = (0..SLICE_TICKS).map(|_| tick(&mut left)).collect();
            let (last, before) = ticks.split_last().unwrap();
            assert!(*last && before.iter().all(|over| !over));
        }
    }
}
