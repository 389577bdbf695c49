//! By how much one CPU's time stamp counter is ahead of another's, from messages that go there and back.
//!
//! The one asks at `asked` on its own counter, the other answers with its counter's value, and the answer is there at
//! `answered`. Whatever the way took, the other looked at its counter between the two: it is ahead by at most
//! `answer - asked` and at least `answer - answered`. All rounds together leave the narrowest of these.

use alloc::format;
use alloc::string::String;

/// What the rounds so far leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    least: i64,
    most: i64,
}

impl Default for Comparison {
    fn default() -> Self {
        Comparison {
            least: i64::MIN,
            most: i64::MAX,
        }
    }
}

impl Comparison {
    /// Takes a round into account: all three in cycles.
    pub fn add(&mut self, asked: u64, answer: u64, answered: u64) {
        self.least = self.least.max(answer.wrapping_sub(answered).cast_signed());
        self.most = self.most.min(answer.wrapping_sub(asked).cast_signed());
    }

    /// How far apart the two bounds are, in cycles: no offset is known better. Saturates before the first round.
    pub fn width(&self) -> u64 {
        self.least.abs_diff(self.most)
    }

    /// How many cycles the other one is ahead: none, where that cannot be excluded, else the middle of what is possible.
    pub fn offset(&self) -> i64 {
        if self.least <= 0 && 0 <= self.most {
            return 0;
        }
        self.least.midpoint(self.most)
    }
}

/// Up to this width, in cycles, a comparison shows that two counters are in step.
pub const NARROW: u64 = 2000;

/// What a comparison says of a CPU's counter, as a clause: `offset` cycles ahead, from a comparison of `width` cycles, which
/// take `width_ns`.
pub fn verdict(offset: i64, width: u64, width_ns: u64) -> String {
    let us = width_ns.div_ceil(1000);
    match offset {
        0 if width <= NARROW => {
            format!("its TSC is in step with CPU 0's, to within {width} cycles")
        }
        0 => format!(
            "its TSC cannot be told apart from CPU 0's, but the comparison was no more exact than {us} us (a busy host?)"
        ),
        _ => format!(
            "its TSC is {offset} cycles ahead of CPU 0's, to within {us} us, which is taken off"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_in_step_have_no_offset() {
        let mut found = Comparison::default();
        found.add(1000, 1100, 1300);
        found.add(2000, 2190, 2200);
        assert_eq!(found.offset(), 0);
        assert_eq!(found.width(), 110);
    }

    #[test]
    fn counters_that_were_set_apart_have_one() {
        let mut found = Comparison::default();
        found.add(1000, 900_050, 1100);
        assert_eq!(found.offset(), 899_000);
        let mut found = Comparison::default();
        found.add(900_000, 50, 900_100);
        assert_eq!(found.offset(), -900_000);
    }

    #[test]
    fn a_wide_comparison_is_no_proof() {
        assert_eq!(
            verdict(0, NARROW, 700),
            "its TSC is in step with CPU 0's, to within 2000 cycles"
        );
        let wide = verdict(0, 10_477_168, 3_492_389);
        assert!(
            wide.contains("cannot be told apart") && wide.contains("3493 us"),
            "{wide}"
        );
        assert!(!wide.contains("in step"), "{wide}");
        assert!(verdict(-7000, 90, 30).contains("-7000 cycles ahead"));
    }

    proptest! {
        /// Whatever the ways took, the true offset lies within the bounds, so that the error is at most their width.
        #[test]
        fn the_error_is_at_most_the_width(
            ahead in -1_000_000_000i64..1_000_000_000,
            start in any::<u64>(),
            rounds in proptest::collection::vec((0u64..100_000, 0u64..100_000, 0u64..1_000_000), 1..50),
        ) {
            let mut found = Comparison::default();
            let mut now = start;
            for (there, back, pause) in rounds {
                let asked = now;
                let answer = now.wrapping_add(there).wrapping_add_signed(ahead);
                now = now.wrapping_add(there + back);
                found.add(asked, answer, now);
                now = now.wrapping_add(pause);
            }
            prop_assert!(found.offset().abs_diff(ahead) <= found.width());
        }
    }
}
