//! Scratch: the regions that never hold anything preserved, so that the next kernel can start inside them.
//!
//! They are chosen once, at cold boot; every later kernel inherits them. The array that names them is KHO's (`struct
//! kho_scratch { phys_addr_t addr; phys_addr_t size; }` of Linux), native-endian u64s.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, ScratchFault};
use crate::mem::PAGE_SIZE;
use crate::page::MAX_PHYS;
use crate::range::{self, PhysRange};

/// Most regions that a plan makes and a decoder accepts.
pub const MAX_REGIONS: usize = 16;
/// Where possible, regions start and end at multiples of this: a large page of x86_64.
pub const LARGE_PAGE: u64 = 2 << 20;
/// The first mebibyte belongs to firmware and to the start of further CPUs; a plan keeps off it.
pub const LOW_MEMORY: u64 = 1 << 20;
/// Largest percentage that [`ScratchSize::parse`] accepts.
pub const MAX_PERCENT: u64 = 10_000;
/// Bytes of one entry of the scratch array.
pub const ENTRY_SIZE: usize = 16;

/// How much scratch is wanted: the value of `kho_scratch=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchSize {
    /// This many bytes.
    Bytes(u64),
    /// This percentage of what boot needs.
    PercentOfBoot(u64),
}

impl ScratchSize {
    /// Reads `16M`, `64K`, `1G`, `4194304` or `200%`. Suffixes are powers of 1024, in either case.
    ///
    /// # Errors
    ///
    /// [`Error::ScratchSyntax`], which says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fault = |why| Error::ScratchSyntax { why };
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(fault(ScratchFault::NoNumber));
        }
        let number: u64 = number.parse().map_err(|_| fault(ScratchFault::TooLarge))?;
        if number == 0 {
            return Err(fault(ScratchFault::Zero));
        }
        let shift = match unit {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            "%" if number <= MAX_PERCENT => return Ok(ScratchSize::PercentOfBoot(number)),
            "%" => return Err(fault(ScratchFault::TooLarge)),
            _ => return Err(fault(ScratchFault::Unit)),
        };
        match number.checked_mul(1 << shift) {
            Some(bytes) if bytes <= MAX_PHYS => Ok(ScratchSize::Bytes(bytes)),
            _ => Err(fault(ScratchFault::TooLarge)),
        }
    }

    /// The size in bytes, in whole pages; in whole large pages from one of those on.
    pub fn bytes(&self, needed_by_boot: u64) -> u64 {
        let wanted = match *self {
            ScratchSize::Bytes(bytes) => bytes,
            ScratchSize::PercentOfBoot(percent) => {
                (u128::from(needed_by_boot) * u128::from(percent)).div_ceil(100) as u64
            }
        };
        let unit = if wanted >= LARGE_PAGE {
            LARGE_PAGE
        } else {
            PAGE_SIZE
        };
        wanted
            .max(1)
            .checked_next_multiple_of(unit)
            .unwrap_or(u64::MAX / unit * unit)
    }

    /// Chooses the regions in `usable` memory, off everything in `avoid` and off the first mebibyte.
    ///
    /// One region at a large page's boundary where there is such a place; else one at a page's; else as few as it
    /// takes, the largest first. `needed_by_boot` is what boot allocates, in bytes; only a percentage looks at it.
    ///
    /// # Errors
    ///
    /// [`Error::ScratchTooLarge`] where more than half of the usable memory would go; [`Error::ScratchNoSpace`]
    /// where it is too scattered.
    pub fn plan(
        &self,
        usable: &[PhysRange],
        needed_by_boot: u64,
        avoid: &[PhysRange],
    ) -> Result<Vec<PhysRange>, Error> {
        let wanted = self.bytes(needed_by_boot);
        let mut keep_off = avoid.to_vec();
        keep_off.push(PhysRange::new(0, LOW_MEMORY));
        let mut free: Vec<PhysRange> = range::subtract(usable, &keep_off)
            .iter()
            .map(PhysRange::page_align_inwards)
            .filter(|r| !r.is_empty())
            .collect();
        let total: u64 = free.iter().map(PhysRange::len).sum();
        if wanted > total / 2 {
            return Err(Error::ScratchTooLarge {
                wanted,
                usable: total,
            });
        }
        for align in [LARGE_PAGE, PAGE_SIZE] {
            if let Some(region) = range::find_space(&free, wanted, align, &[]) {
                return Ok([region].into());
            }
        }
        free.sort_unstable_by_key(|r| core::cmp::Reverse(r.len()));
        let mut regions = Vec::new();
        let mut left = wanted;
        for r in free.iter().take(MAX_REGIONS) {
            let part = r.len().min(left);
            regions.push(PhysRange::new(r.start, r.start + part));
            left -= part;
            if left == 0 {
                regions.sort_unstable();
                return Ok(regions);
            }
        }
        Err(Error::ScratchNoSpace {
            wanted,
            missing: left,
        })
    }
}

/// KHO's `struct kho_scratch`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    addr: u64,
    size: u64,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_SIZE);

/// Writes the scratch array to the start of `out`; returns its length in bytes. Does not allocate.
///
/// # Errors
///
/// [`Error::ScratchArrayRoom`] where `out` is too small.
pub fn encode(regions: &[PhysRange], out: &mut [u8]) -> Result<usize, Error> {
    let len = regions.len() * ENTRY_SIZE;
    let room = out.len();
    let Some(out) = out.get_mut(..len) else {
        return Err(Error::ScratchArrayRoom { needed: len, room });
    };
    for (slot, r) in out.chunks_exact_mut(ENTRY_SIZE).zip(regions) {
        let entry = Entry {
            addr: r.start,
            size: r.len(),
        };
        slot.copy_from_slice(entry.as_bytes());
    }
    Ok(len)
}

/// Reads a scratch array that a predecessor wrote; the regions come in its order.
///
/// # Errors
///
/// [`Error::ScratchArraySize`] where the length is not that of 1 to [`MAX_REGIONS`] entries;
/// [`Error::ScratchRegion`] for a region that is empty, not page-aligned, beyond physical memory, or overlaps another.
pub fn decode(bytes: &[u8]) -> Result<Vec<PhysRange>, Error> {
    let count = bytes.len() / ENTRY_SIZE;
    if !bytes.len().is_multiple_of(ENTRY_SIZE) || count == 0 || count > MAX_REGIONS {
        return Err(Error::ScratchArraySize { size: bytes.len() });
    }
    let mut regions: Vec<PhysRange> = Vec::with_capacity(count);
    for (index, chunk) in bytes.chunks_exact(ENTRY_SIZE).enumerate() {
        let Ok(Entry { addr, size }) = Entry::read_from_bytes(chunk) else {
            return Err(Error::ScratchArraySize { size: bytes.len() });
        };
        let fault = |why| Error::ScratchRegion {
            index,
            addr,
            size,
            why,
        };
        let region = PhysRange::with_len(addr, size)
            .filter(|r| r.end <= MAX_PHYS)
            .ok_or(fault(ScratchFault::TooLarge))?;
        if region.is_empty() {
            return Err(fault(ScratchFault::Zero));
        }
        if !region.is_page_aligned() {
            return Err(fault(ScratchFault::Unaligned));
        }
        if regions.iter().any(|r| r.overlaps(&region)) {
            return Err(fault(ScratchFault::Overlap));
        }
        regions.push(region);
    }
    Ok(regions)
}
