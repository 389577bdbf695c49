//! The harness of the integration tests: a guest that a test talks to as a person would, over its serial
//! console.
//!
//! A test waits for the thing itself (a prompt, a word), never for time to pass. The only clock is a hang
//! guard, [`guard`], far beyond anything that a working kernel takes. When something is wrong the test
//! panics with the whole transcript.

pub mod damaging;
pub mod elf;
mod guest;
pub mod readers;
pub mod resetting;
pub mod scarring;
pub mod tracefile;

pub use guest::{Guest, Setup, guard, kernel_elf, stats};

/// Splits a console's output into lines without their line ends.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

/// The first number after `name` in a text: `number_after("free: 12 pages", "free:")` is 12.
pub fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = &text[text.find(name)? + name.len()..];
    let start = rest.find(|c: char| c.is_ascii_digit())?;
    let digits = &rest[start..];
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().ok()
}
