//! The other side of a mapping: whoever has mapped a ring, and decodes its events where they lie.
//!
//! [`MappedReader`] walks the reader page, [`format`] says what stands in a record, [`Line`] prints it. All take the mapping as slices of atomics, copy
//! nothing, and touch no system call: who uses them makes the calls ([`crate::meta::GET_READER`]) in between. So they run in user programs,
//! and in tests on the host.
//!
//! ```text
//! loop {
//!     ioctl(fd, GET_READER);
//!     let turn = reader.turn()?;          // another page? what was lost before it?
//!     while let Some(event) = reader.next()? { ... }
//! }
//! ```
//!
//! What is read is what the kernel counts as read: the events of all turns, with those that [`Turn::lost`] tells of, are all that were written,
//! as long as nobody else reads the buffer or clears it.

pub mod format;
mod line;

pub use line::Line;

use crate::event::{Common, Payload};
use crate::meta::{META_LEN, Meta};
use crate::page::{BadPage, BadReason, COMMIT_MASK, Cursor, HEADER_SIZE};
use crate::sync::{AtomicU32, Ordering, fixed};
use alloc::vec::Vec;
use core::fmt;

/// Why a mapping cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MappedError {
    /// The meta-page is shorter than its struct, or says so.
    MetaLen(u32),
    /// The sub-buffers that the meta-page tells of (number, bytes of each) are not what is mapped.
    SubBuffers(u32, u32),
    /// The reader page (its number, bytes read) is none.
    Reader(u32, u32),
    /// An event of the reader page cannot be.
    Page(BadPage),
}

impl fmt::Display for MappedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MappedError::MetaLen(len) => {
                write!(f, "the meta-page has {len} bytes, too few")
            }
            MappedError::SubBuffers(count, size) => write!(
                f,
                "the meta-page tells of {count} sub-buffers of {size} bytes, which are not what is mapped"
            ),
            MappedError::Reader(id, read) => write!(
                f,
                "the meta-page tells of {read} bytes read of sub-buffer {id}, which cannot be"
            ),
            MappedError::Page(bad) => bad.fmt(f),
        }
    }
}

impl core::error::Error for MappedError {}

impl From<BadPage> for MappedError {
    fn from(bad: BadPage) -> Self {
        MappedError::Page(bad)
    }
}

/// What a call has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The meta-page after it.
    pub meta: Meta,
    /// It is another page than before.
    pub new_page: bool,
    /// Events lost before the next one; [`LOST_UNKNOWN`](crate::meta::LOST_UNKNOWN) for an unknown number.
    pub lost: u64,
}

/// The reader page that is being read.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: u32,
    cursor: Cursor,
    /// Events before this offset were read before we came.
    skip: usize,
    /// Events up to this offset may be read.
    end: usize,
    /// What was lost before it has been told.
    told: bool,
}

/// An event, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct MappedEvent<'m> {
    /// Its time, in units of the buffer's clock.
    pub ts: u64,
    /// Its record.
    pub record: Record<'m>,
}

/// The bytes of an event, where they lie. Nobody writes to them until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Record<'m>(&'m [AtomicU32]);

impl<'m> Record<'m> {
    /// Of these words.
    pub fn new(words: &'m [AtomicU32]) -> Self {
        Record(words)
    }

    /// Its bytes, rounded up to whole words.
    pub fn len(&self) -> usize {
        4 * self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The four bytes from `at / 4 * 4` on.
    fn word(&self, at: usize) -> Option<[u8; 4]> {
        let word = self.0.get(at / 4)?.load(Ordering::Relaxed);
        Some(word.to_ne_bytes())
    }

    /// The byte at `at`.
    pub fn byte(&self, at: usize) -> Option<u8> {
        self.word(at)?.get(at % 4).copied()
    }

    /// The unsigned integer of `size` bytes (1, 2, 4 or 8) at `at`.
    pub fn unsigned(&self, at: usize, size: usize) -> Option<u64> {
        if !matches!(size, 1 | 2 | 4 | 8) {
            return None;
        }
        // A field lies within a word, or begins with one.
        let mut bytes = [0; 8];
        let within = at % 4;
        if within + size <= 4 || within == 0 {
            bytes[..4].copy_from_slice(&self.word(at)?);
            if size > 4 {
                bytes[4..].copy_from_slice(&self.word(at.checked_add(4)?)?);
            }
            bytes.rotate_left(within);
        } else {
            for (i, place) in bytes.iter_mut().enumerate().take(size) {
                *place = self.byte(at.checked_add(i)?)?;
            }
        }
        let [a, b, c, d, ..] = bytes;
        Some(match size {
            1 => u64::from(a),
            2 => u64::from(u16::from_ne_bytes([a, b])),
            4 => u64::from(u32::from_ne_bytes([a, b, c, d])),
            8 => u64::from_ne_bytes(bytes),
            _ => return None,
        })
    }

    /// The signed integer of `size` bytes (1, 2, 4 or 8) at `at`.
    pub fn signed(&self, at: usize, size: usize) -> Option<i64> {
        // `unsigned` knows no other sizes.
        let value = self.unsigned(at, size)?;
        let unused = 64 - 8 * size as u32;
        Some(((value << unused) as i64) >> unused)
    }
}

impl Payload for Record<'_> {
    fn size(&self) -> usize {
        self.len()
    }

    fn unsigned(&self, at: usize, size: usize) -> Option<u64> {
        Record::unsigned(self, at, size)
    }

    /// Text is copied, to be printed.
    fn with_text(
        &self,
        at: usize,
        len: usize,
        act: &mut dyn FnMut(&[u8]) -> fmt::Result,
    ) -> Option<fmt::Result> {
        if at.checked_add(len)? > self.len() {
            return None;
        }
        let bytes = (at..at + len).map_while(|at| self.byte(at));
        let text: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        Some(act(&text))
    }
}

impl Record<'_> {
    /// The fields that all records begin with; `None`, where it is too short.
    pub fn common(&self) -> Option<Common> {
        Some(Common {
            id: u16::try_from(self.unsigned(0, 2)?).ok()?,
            flags: self.byte(2)?,
            preempt_count: self.byte(3)?,
            pid: i32::try_from(self.signed(4, 4)?).ok()?,
        })
    }
}

/// Where the sub-buffers are mapped.
pub trait SubBuffers<'m> {
    /// Whether there are `count` of `bytes` bytes each.
    fn are(&self, count: usize, bytes: usize) -> bool;

    /// The one with the number `id`, where each has `bytes` bytes.
    fn get(&self, id: u32, bytes: usize) -> Option<&'m [AtomicU32]>;
}

/// All in one place.
impl<'m> SubBuffers<'m> for &'m [AtomicU32] {
    fn are(&self, count: usize, bytes: usize) -> bool {
        bytes.checked_mul(count) == Some(4 * self.len())
    }

    fn get(&self, id: u32, bytes: usize) -> Option<&'m [AtomicU32]> {
        self.chunks_exact(bytes / 4).nth(id as usize)
    }
}

/// Each on its own.
impl<'m> SubBuffers<'m> for &'m [&'m [AtomicU32]] {
    fn are(&self, count: usize, bytes: usize) -> bool {
        self.len() == count && self.iter().all(|words| 4 * words.len() == bytes)
    }

    fn get(&self, id: u32, _: usize) -> Option<&'m [AtomicU32]> {
        <[_]>::get(self, id as usize).copied()
    }
}

/// A reader of a mapped ring.
#[derive(Debug)]
pub struct MappedReader<'m, S> {
    meta: &'m [fixed::AtomicU64],
    data: S,
    /// Bytes of a sub-buffer.
    each: usize,
    place: Place,
}

impl<'m, S: SubBuffers<'m>> MappedReader<'m, S> {
    /// Of a mapping: its meta-page, and all of its sub-buffers. What was read of the reader page by now is not read again.
    ///
    /// # Errors
    ///
    /// [`MappedError`] where the two are no mapping.
    pub fn new(meta: &'m [fixed::AtomicU64], data: S) -> Result<Self, MappedError> {
        let now = load(meta)?;
        let each = now.subbuf_size as usize;
        let sensible = each > HEADER_SIZE && each.is_multiple_of(4);
        if !sensible || !data.are(now.nr_subbufs as usize, each) {
            return Err(MappedError::SubBuffers(now.nr_subbufs, now.subbuf_size));
        }
        let mut reader = MappedReader {
            meta,
            data,
            each,
            place: Place {
                id: 0,
                cursor: Cursor::new(0),
                skip: 0,
                end: 0,
                told: false,
            },
        };
        reader.place = reader.place_at(&now)?;
        reader.place.skip = reader.place.end;
        reader.place.told = now.reader.lost_events != 0;
        Ok(reader)
    }

    /// The meta-page now.
    ///
    /// # Errors
    ///
    /// [`MappedError::MetaLen`].
    pub fn meta(&self) -> Result<Meta, MappedError> {
        load(self.meta)
    }

    /// What the call that was just made has brought.
    ///
    /// # Errors
    ///
    /// [`MappedError::MetaLen`], [`MappedError::Reader`].
    pub fn turn(&mut self) -> Result<Turn, MappedError> {
        let meta = load(self.meta)?;
        let fresh = self.place_at(&meta)?;
        // A page that has become shorter was cleared.
        let new_page = fresh.id != self.place.id || fresh.end < self.place.cursor.offset;
        if new_page {
            self.place = fresh;
        } else {
            if self.place.cursor.offset == 0 {
                // The page gets its time with its first event.
                self.place.cursor = fresh.cursor;
            }
            self.place.end = fresh.end;
        }
        let lost = match self.place.told {
            true => 0,
            false => meta.reader.lost_events,
        };
        self.place.told |= lost != 0;
        Ok(Turn {
            meta,
            new_page,
            lost,
        })
    }

    /// The next event that may be read; `None` until there is another turn.
    ///
    /// # Errors
    ///
    /// [`MappedError::Page`]. The rest of the page is not read then; the kernel counts it as lost.
    // Not an Iterator: it fails, and goes on after `None`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<MappedEvent<'m>>, MappedError> {
        let (_, words) = self.sub_buffer(self.place.id)?;
        let words = words.get(..self.place.end / 4).unwrap_or_default();
        loop {
            let event = match self.place.cursor.next_in(words) {
                Ok(event) => event,
                Err(bad) => {
                    self.place.cursor.offset = self.place.end;
                    return Err(bad.into());
                }
            };
            let Some(event) = event else {
                return Ok(None);
            };
            if event.offset < self.place.skip {
                continue;
            }
            let record = words[event.payload / 4..].get(..event.len / 4);
            return Ok(Some(MappedEvent {
                ts: event.ts,
                record: Record(record.unwrap_or_default()),
            }));
        }
    }

    /// The beginning of the reader page.
    fn place_at(&self, meta: &Meta) -> Result<Place, MappedError> {
        let id = meta.reader.id;
        let wrong = MappedError::Reader(id, meta.reader.read);
        let (header, words) = self.sub_buffer(id).map_err(|_| wrong)?;
        let end = meta.reader.read as usize;
        if end > 4 * words.len() || !end.is_multiple_of(4) {
            return Err(wrong);
        }
        // Bits above those that count tell of losses, which the meta-page does too.
        let committed = header[1] & COMMIT_MASK;
        if (committed as usize) < end {
            return Err(wrong);
        }
        Ok(Place {
            id,
            cursor: Cursor::new(header[0]),
            skip: 0,
            end,
            told: false,
        })
    }

    /// Header and data of the sub-buffer `id`.
    fn sub_buffer(&self, id: u32) -> Result<([u64; 2], &'m [AtomicU32]), MappedError> {
        let words = self.data.get(id, self.each);
        let words = words.ok_or(MappedError::Reader(id, 0))?;
        let (header, data) = words.split_at_checked(HEADER_SIZE / 4).ok_or(BadPage {
            offset: 0,
            reason: BadReason::NoHeader,
        })?;
        let long = |at: usize| Record(header).unsigned(8 * at, 8).unwrap_or(0);
        Ok(([long(0), long(1)], data))
    }
}

fn load(page: &[fixed::AtomicU64]) -> Result<Meta, MappedError> {
    let meta = Meta::load(page).ok_or(MappedError::MetaLen(8 * page.len() as u32))?;
    match meta.meta_struct_len as usize {
        len if len >= META_LEN => Ok(meta),
        _ => Err(MappedError::MetaLen(meta.meta_struct_len)),
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    /// Of every size, at every offset, and beyond the end.
    #[test]
    fn integers_are_read_wherever_they_stand() {
        let bytes: [u8; 16] = core::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0x80);
        let words: [AtomicU32; 4] = core::array::from_fn(|i| {
            let word = [0, 1, 2, 3].map(|n| bytes[4 * i + n]);
            AtomicU32::new(u32::from_ne_bytes(word))
        });
        let record = Record::new(&words);
        assert_eq!((record.len(), record.is_empty()), (16, false));
        for at in (0..20).chain([usize::MAX - 7, usize::MAX - 3, usize::MAX]) {
            for size in (0..20).chain([usize::MAX - 1, usize::MAX]) {
                let there = at.checked_add(size).and_then(|end| bytes.get(at..end));
                let expected = there.filter(|_| [1, 2, 4, 8].contains(&size)).map(|there| {
                    let there: std::vec::Vec<u8> = match cfg!(target_endian = "little") {
                        true => there.iter().rev().copied().collect(),
                        false => there.to_vec(),
                    };
                    there.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
                });
                assert_eq!(record.unsigned(at, size), expected, "{size} at {at}");
                let signed = expected.map(|n| match size {
                    1 => i64::from(n as i8),
                    2 => i64::from(n as i16),
                    4 => i64::from(n as i32),
                    _ => n as i64,
                });
                assert_eq!(record.signed(at, size), signed, "{size} at {at}");
            }
        }
    }
}
