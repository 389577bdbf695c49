//! Checksums of preserved memory: for pages whose content must not have changed, and whose user cannot tell.
//!
//! It is opt-in, by range: a subsystem seals what it no longer writes to, long before the blackout, and keeps the list; the
//! list crosses as a blob of its own or inside the subsystem's, and the successor verifies each range when it takes it.
//! Nothing is done at the jump. Form of the list, native-endian:
//!
//! ```text
//!  0  u32 CRC-32 of all that follows
//!  4  u32 number of entries
//!  8  entries of 24 bytes: u64 start, u64 length in bytes, u32 CRC-32 of the memory, u32 zero
//! ```
//!
//! For a long range that shall be checked page by page, and of which a damaged page shall be named, [`PageSeals`] is the
//! smaller form: 4 bytes a page, declared state that crosses inside its owner's.

mod pages;

pub use pages::PageSeals;

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, SealFault};
use crate::mem::Memory;
use crate::page::MAX_PHYS;
use crate::radix::PreservedMap;
use crate::range::PhysRange;

/// Bytes before the entries.
pub const HEAD_SIZE: usize = 8;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 24;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    start: u64,
    len: u64,
    crc32: u32,
    zero: u32,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_SIZE);

/// A range, and the checksum that its content has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The memory; need not be of whole pages.
    pub range: PhysRange,
    /// CRC-32 of its content.
    pub crc32: u32,
}

impl Seal {
    /// Checks that the memory has the content that it was sealed with.
    ///
    /// # Errors
    ///
    /// [`Error::SealBroken`]; [`Error::SealList`] where the range is not preserved, or cannot be reached.
    ///
    /// # Safety
    ///
    /// Nobody writes to the range meanwhile.
    pub unsafe fn verify<M: Memory>(&self, map: &PreservedMap<M>) -> Result<(), Error> {
        // SAFETY: the caller's promise.
        let computed = unsafe { checksum(map, &self.range) }?;
        match computed == self.crc32 {
            true => Ok(()),
            false => Err(Error::SealBroken {
                range: self.range,
                stored: self.crc32,
                computed,
            }),
        }
    }
}

/// The seals of a subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seals(Vec<Seal>);

impl Seals {
    /// None yet.
    pub fn new() -> Self {
        Seals::default()
    }

    /// The seals, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Seal> {
        self.0.iter()
    }

    /// Seals the content that a preserved range has now.
    ///
    /// # Errors
    ///
    /// [`Error::SealList`] where the range is empty, not all preserved, or cannot be reached; [`Error::NoHeap`]. Nothing is
    /// changed then.
    ///
    /// # Safety
    ///
    /// Nobody writes to the range meanwhile. (Who does so later breaks the seal, and no more.)
    pub unsafe fn seal<M: Memory>(
        &mut self,
        map: &PreservedMap<M>,
        range: PhysRange,
    ) -> Result<Seal, Error> {
        // SAFETY: the caller's promise.
        let crc32 = unsafe { checksum(map, &range) }?;
        self.0.try_reserve(1).map_err(|_| NO_HEAP)?;
        let seal = Seal { range, crc32 };
        self.0.push(seal);
        Ok(seal)
    }

    /// Forgets every seal that shares a byte with the range, which is about to be written to. How many that were.
    pub fn forget(&mut self, range: &PhysRange) -> usize {
        let before = self.0.len();
        self.0.retain(|seal| !seal.range.overlaps(range));
        before - self.0.len()
    }

    /// Bytes of the list.
    pub fn encoded_size(&self) -> usize {
        HEAD_SIZE + self.0.len() * ENTRY_SIZE
    }

    /// Writes the list to the start of `out`; returns its length in bytes. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`] where `out` is too small.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, Error> {
        let (needed, room) = (self.encoded_size(), out.len());
        let out = out
            .get_mut(..needed)
            .ok_or(Error::StreamRoom { needed, room })?;
        let (head, entries) = out.split_at_mut(HEAD_SIZE);
        for (slot, seal) in entries.chunks_exact_mut(ENTRY_SIZE).zip(&self.0) {
            let entry = Entry {
                start: seal.range.start,
                len: seal.range.len(),
                crc32: seal.crc32,
                zero: 0,
            };
            slot.copy_from_slice(entry.as_bytes());
        }
        head[4..].copy_from_slice(&(self.0.len() as u32).to_ne_bytes());
        let crc32 = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&crc32.to_ne_bytes());
        Ok(needed)
    }

    /// Reads a list that a predecessor wrote. No memory that it names is looked at: see [`Seal::verify`].
    ///
    /// # Errors
    ///
    /// [`Error::SealList`]: a wrong size or checksum, or a range that cannot be; [`Error::NoHeap`].
    pub fn decode(bytes: &[u8]) -> Result<Seals, Error> {
        let size = bytes.len();
        let fault = |why| Error::SealList { size, why };
        let word = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
            four.map(u32::from_ne_bytes).ok_or(fault(SealFault::Size))
        };
        let (crc32, count) = (word(0)?, word(4)? as usize);
        let entries = bytes.get(HEAD_SIZE..).unwrap_or_default();
        if count.checked_mul(ENTRY_SIZE) != Some(entries.len()) {
            return Err(fault(SealFault::Size));
        }
        if crc32fast::hash(&bytes[4..]) != crc32 {
            return Err(fault(SealFault::Crc));
        }
        let mut seals = Vec::new();
        seals.try_reserve_exact(count).map_err(|_| NO_HEAP)?;
        for chunk in entries.chunks_exact(ENTRY_SIZE) {
            let entry = Entry::read_from_bytes(chunk).map_err(|_| fault(SealFault::Size))?;
            let range = PhysRange::with_len(entry.start, entry.len)
                .filter(|r| !r.is_empty() && r.end <= MAX_PHYS)
                .ok_or(fault(SealFault::Range))?;
            seals.push(Seal {
                range,
                crc32: entry.crc32,
            });
        }
        Ok(Seals(seals))
    }
}

const NO_HEAP: Error = Error::NoHeap {
    what: "a list of seals",
};

/// CRC-32 of a range that is preserved whole.
///
/// # Safety
///
/// Nobody writes to the range meanwhile.
unsafe fn checksum<M: Memory>(map: &PreservedMap<M>, range: &PhysRange) -> Result<u32, Error> {
    let fault = |why| Error::SealList {
        size: ENTRY_SIZE,
        why,
    };
    if range.is_empty() || range.end > MAX_PHYS {
        return Err(fault(SealFault::Range));
    }
    if map.first_gap(range).is_some() {
        return Err(fault(SealFault::NotPreserved));
    }
    let mut hasher = crc32fast::Hasher::new();
    // Page by page: neighbours in physical memory may belong to two pieces of RAM.
    let mut at = range.start;
    while at < range.end {
        let end = ((at / crate::mem::PAGE_SIZE + 1) * crate::mem::PAGE_SIZE).min(range.end);
        // SAFETY: the page is preserved, so nobody has it but its user, and the caller says that nobody writes to it.
        let part = unsafe { crate::check::bytes(map.memory(), &PhysRange::new(at, end)) };
        hasher.update(part.ok_or(fault(SealFault::Unreadable))?);
        at = end;
    }
    Ok(hasher.finalize())
}
