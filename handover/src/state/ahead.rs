//! Descriptions that were written ahead of time.

use alloc::vec::Vec;

/// The descriptions of a stream's types, to be copied into later streams of the same subsystem. They never change while a
/// kernel runs, and working them out takes longer than the values do: a kernel that has no time to lose at its end has them
/// ready before.
///
/// See [`StreamReader::descriptions`](super::StreamReader::descriptions) and
/// [`StreamWriter::with_descriptions`](super::StreamWriter::with_descriptions).
#[derive(Clone, Debug, Default)]
pub struct Descriptions {
    /// Whole entries.
    pub(super) bytes: Vec<u8>,
    /// How many.
    pub(super) entries: u32,
}

impl Descriptions {
    /// Bytes that they take in a stream. [`encoded_size`](super::encoded_size) counts those of the values that are put, too.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
