//! The lines typed before, newest last, within limits that make them fit to be handed to the next kernel.

use super::parse::MAX_LINE_BYTES;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most lines kept.
pub const MAX_LINES: usize = 500;
/// Most bytes kept over all lines: a few of the longest lines, or [`MAX_LINES`] of ordinary ones.
pub const MAX_BYTES: usize = 64 * 1024;

/// The history. Never two equal lines in a row, never an empty one, never a control character.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines forgotten so far: numbers in the listing stay what they were.
    forgotten: usize,
}

impl History {
    /// No lines.
    pub const fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
        }
    }

    /// Adds a line; the oldest go where it gets too much.
    ///
    /// Refused silently: what is blank, equals the newest line, is longer than a line can be, or holds
    /// control characters (a damaged list from another kernel must not reach the terminal).
    pub fn push(&mut self, line: &str) {
        if line.trim().is_empty()
            || line.len() > MAX_LINE_BYTES
            || line.chars().any(char::is_control)
            || self.lines.back().is_some_and(|newest| newest == line)
        {
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_string());
        while self.lines.len() > MAX_LINES || self.bytes > MAX_BYTES {
            if let Some(oldest) = self.lines.pop_front() {
                self.bytes -= oldest.len();
                self.forgotten += 1;
            }
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// No line yet.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A line; 0 is the oldest.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.lines.get(index).map(String::as_str)
    }

    /// The lines with their numbers, oldest first; the first ever has number 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(i, line)| (self.forgotten + i + 1, line.as_str()))
    }

    /// All lines, oldest first, to hand over to the next kernel.
    pub fn export(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }

    /// Adds the lines of an [`History::export`], under the same rules as typed ones.
    pub fn import(&mut self, lines: Vec<String>) {
        for line in lines {
            self.push(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_blanks_and_control_characters_are_left_out() {
        let mut h = History::new();
        for line in ["a", "a", "", "  ", "b", "a", "x\x1b[2J", "a"] {
            h.push(line);
        }
        assert_eq!(h.export(), ["a", "b", "a"]);
        let mut next = History::new();
        next.import(h.export());
        assert_eq!(next.export(), h.export());
    }

    #[test]
    fn both_limits_hold_and_numbers_stay() {
        let mut h = History::new();
        for i in 0..MAX_LINES + 10 {
            h.push(&alloc::format!("line {i}"));
        }
        assert_eq!(h.len(), MAX_LINES);
        assert_eq!(h.get(0), Some("line 10"));
        assert_eq!(h.numbered().next(), Some((11, "line 10")));
        for i in 0..20 {
            h.push(&alloc::format!("{i}{}", "x".repeat(MAX_LINE_BYTES - 10)));
        }
        assert!(h.bytes <= MAX_BYTES && h.len() == MAX_BYTES / (MAX_LINE_BYTES - 9));
        h.push(&"x".repeat(MAX_LINE_BYTES + 1));
        assert!(h.get(h.len() - 1).unwrap().starts_with("19"));
    }
}
