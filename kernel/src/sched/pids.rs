//! Which pid a new task gets: Linux's way, the next one that nobody has.

/// pids are below this: Linux's `PID_MAX_DEFAULT`.
pub const PID_MAX: i32 = 32768;
/// Where they start again: lower ones are the kernel's own, as in Linux (`RESERVED_PIDS`).
pub const RESERVED: i32 = 300;

/// The pid behind `last`. `is_taken`: somebody has it, or is still known by it. That is so for far fewer than there are pids.
pub fn next(last: i32, is_taken: impl Fn(i32) -> bool) -> i32 {
    let mut pid = last;
    loop {
        pid = if pid + 1 < PID_MAX { pid + 1 } else { RESERVED };
        if !is_taken(pid) {
            return pid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_go_up_and_around_and_past_those_that_are_taken() {
        assert_eq!(next(1, |_| false), 2);
        assert_eq!(next(7, |pid| pid < 12), 12);
        assert_eq!(next(PID_MAX - 1, |_| false), RESERVED);
        let taken = [PID_MAX - 1, RESERVED, RESERVED + 1];
        assert_eq!(next(PID_MAX - 2, |pid| taken.contains(&pid)), RESERVED + 2);
    }
}
