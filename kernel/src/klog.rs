//! The kernel log: a ring of bytes that keeps the newest whole lines, each with its time and level.

use alloc::collections::VecDeque;
use core::fmt;

/// How much a message matters. The numbers are Linux's (`KERN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something went wrong and a person has to know.
    Error = 3,
    /// Something is not as it should be; the kernel goes on.
    Warning = 4,
    /// Normal, and worth a line on the console.
    Notice = 5,
    /// Normal; only in `dmesg`.
    Info = 6,
}

/// The log. Before its buffer is set it keeps nothing.
#[derive(Debug, Default)]
pub struct KernelLog {
    lines: VecDeque<u8>,
    capacity: usize,
    dropped: u64,
}

/// The most bytes that one message takes; the rest is cut off.
pub const MAX_LINE: usize = 1024;

impl KernelLog {
    /// An empty log that keeps nothing yet.
    pub const fn new() -> Self {
        KernelLog {
            lines: VecDeque::new(),
            capacity: 0,
            dropped: 0,
        }
    }

    /// Gives the log room for `capacity` bytes (allocated at once, never later: logging must not allocate).
    pub fn reserve(&mut self, capacity: usize) {
        self.lines
            .reserve_exact(capacity.saturating_sub(self.lines.len()));
        self.capacity = capacity;
    }

    /// Appends one line (without its newline); the oldest lines make room.
    pub fn push(&mut self, line: &str) {
        let line = line.as_bytes();
        let need = line.len() + 1;
        if need > self.capacity {
            return;
        }
        while self.lines.len() + need > self.capacity {
            let end = self
                .lines
                .iter()
                .position(|b| *b == b'\n')
                .map_or(self.lines.len(), |at| at + 1);
            self.lines.drain(..end);
            self.dropped += 1;
        }
        self.lines
            .extend(line.iter().map(|b| if *b == b'\n' { b' ' } else { *b }));
        self.lines.push_back(b'\n');
    }

    /// Number of lines that had to make room so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Calls `f` with each line, the oldest first. No allocation.
    pub fn for_each_line(&mut self, mut f: impl FnMut(&str)) {
        let lines = self.lines.make_contiguous();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            // Lines come and go whole, and were text.
            f(core::str::from_utf8(line).unwrap_or_default());
        }
    }

    /// A copy of the log, oldest line first.
    pub fn copy(&self) -> alloc::vec::Vec<u8> {
        self.lines.iter().copied().collect()
    }
}

/// A line under construction with a fixed end: what does not fit is cut off at a character boundary.
#[derive(Debug)]
pub struct Line {
    text: arrayvec::ArrayString<MAX_LINE>,
}

impl Line {
    /// A line that starts with the time stamp of Linux's `dmesg`: `[    1.234567] `.
    pub fn stamped(nanos: u64) -> Self {
        let mut line = Line {
            text: arrayvec::ArrayString::new(),
        };
        let _ = fmt::write(
            &mut line,
            format_args!(
                "[{:5}.{:06}] ",
                nanos / 1_000_000_000,
                nanos / 1_000 % 1_000_000
            ),
        );
        line
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            if self.text.try_push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn oldest_lines_make_room() {
        let mut log = KernelLog::new();
        log.push("lost: no room yet");
        log.reserve(12);
        log.push("one");
        log.push("two");
        log.push("three");
        assert_eq!(log.copy(), b"two\nthree\n");
        assert_eq!(log.dropped(), 1);
        log.push("longer than everything");
        assert_eq!(log.copy(), b"two\nthree\n");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut line = Line::stamped(1_234_567_890);
        assert_eq!(line.as_str(), "[    1.234567] ");
        for _ in 0..1000 {
            line.write_str("äx").unwrap();
        }
        assert!(line.as_str().len() <= MAX_LINE);
    }
}
