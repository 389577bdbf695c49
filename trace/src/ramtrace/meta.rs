//! A life's two metadata pages.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0..4 | CRC-32 of bytes 4 to the end of the stream |
//! | 4..8 | bytes of the stream; 0: nothing is here |
//! | 8..16 | how often the metadata were written |
//! | 16..24 | the life's number, with a check of its own: so that the slot of a life with damaged metadata is known |
//! | 24.. | a state stream with a [`Life`] |
//! | 4088..4096 | event pages taken from it, with a check of its own: a word that is written at each taking, without all the rest |

use super::layout::RegionError;
use super::life::Life;
use super::mark::check;
use super::store::{WORD, get_bytes, put, put_bytes};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use handover::mem::PAGE_SIZE;
use handover::state::{StreamReader, StreamWriter};

/// Bytes before the stream.
const HEAD: usize = 24;
/// The word with the number.
const NUMBER: usize = 2;
/// The word with the taken pages.
const TAKEN: usize = PAGE_SIZE as usize / WORD - 1;
/// Bytes of a page without the last word.
pub(super) const SIZE: usize = TAKEN * WORD;
/// Most bytes of a stream.
pub(super) const ROOM: usize = SIZE - HEAD;

/// Higher numbers are damage: a life a second would take 30,000 years.
pub(super) const MAX_NUMBER: u64 = 1 << 40;

/// A number below 2^48 with a check, which is another one for each use.
fn sealed(value: u64, place: usize) -> u64 {
    value | check(value, !(place as u64)) << 48
}

fn unsealed(word: u64, place: usize) -> Option<u64> {
    let value = word & ((1 << 48) - 1);
    (word != 0 && sealed(value, place) == word).then_some(value)
}

/// What one metadata page says.
#[derive(Default)]
pub(super) struct Found {
    /// The metadata, and how often they were written; `None` where they are damaged, or of a version that cannot be read.
    pub life: Option<(Life, u64)>,
    /// The life's number, also where no more can be read.
    pub number: Option<u64>,
}

/// A metadata page that is about to be written: a slice of [`SIZE`] bytes is filled; gives the bytes in use.
///
/// # Errors
///
/// [`RegionError::MetadataRoom`].
pub(super) fn encode(life: &Life, updates: u64, out: &mut [u8]) -> Result<usize, RegionError> {
    let too_long = |_| RegionError::MetadataRoom(ROOM as u32);
    let mut stream = StreamWriter::new(&mut out[HEAD..]);
    stream.put(0, life).map_err(too_long)?;
    let len = stream.finish().map_err(too_long)?;
    let end = HEAD + len;
    out[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
    out[8..16].copy_from_slice(&updates.to_ne_bytes());
    out[16..24].copy_from_slice(&sealed(life.number, NUMBER).to_ne_bytes());
    let crc = crc32fast::hash(&out[4..end]);
    out[..4].copy_from_slice(&crc.to_ne_bytes());
    Ok(end)
}

/// Writes a page that was encoded: it is no good until its last store.
pub(super) fn write(page: &[AtomicU64], bytes: &[u8]) {
    put(&page[0], 0);
    put_bytes(&page[1..TAKEN], &bytes[WORD..]);
    put_bytes(&page[..1], &bytes[..WORD]);
}

/// Nothing is there any more.
pub(super) fn clear(page: &[AtomicU64]) {
    for at in [0, NUMBER, TAKEN] {
        put(&page[at], 0);
    }
}

/// Reads a page. `bytes` is room for [`SIZE`] of them, and holds them afterwards.
pub(super) fn read(page: &[AtomicU64], bytes: &mut [u8]) -> Found {
    get_bytes(page, bytes);
    let number = unsealed(page[NUMBER].load(Ordering::Acquire), NUMBER)
        .filter(|number| (1..=MAX_NUMBER).contains(number));
    Found {
        life: number.and_then(|number| decode(number, bytes)),
        number,
    }
}

fn decode(number: u64, bytes: &[u8]) -> Option<(Life, u64)> {
    let half = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let end = HEAD.checked_add(half(4)? as usize)?;
    if half(0)? != crc32fast::hash(bytes.get(4..end)?) {
        return None;
    }
    let updates = u64::from_ne_bytes(bytes[8..16].try_into().ok()?);
    let life: Life = StreamReader::new(&bytes[HEAD..end]).ok()?.get(0).ok()?;
    (life.number == number).then_some((life, updates))
}

/// How many event pages were taken, as both pages say.
pub(super) fn taken(pages: [&[AtomicU64]; 2]) -> u64 {
    let of = |page: &[AtomicU64]| unsealed(page[TAKEN].load(Ordering::Acquire), TAKEN);
    pages.into_iter().filter_map(of).max().unwrap_or(0)
}

/// Notes how many event pages were taken.
pub(super) fn set_taken(pages: [&[AtomicU64]; 2], taken: u64) {
    for page in pages {
        put(&page[TAKEN], sealed(taken & ((1 << 48) - 1), TAKEN));
    }
}

/// Room for a metadata page.
///
/// # Errors
///
/// [`RegionError::NoHeap`].
pub(super) fn scratch() -> Result<Vec<u8>, RegionError> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(SIZE)
        .map_err(|_| RegionError::NoHeap)?;
    bytes.resize(SIZE, 0);
    Ok(bytes)
}
