//! Scratch: the regions that never hold anything preserved, so that the next kernel can start inside them.
//!
//! They are chosen once, at cold boot; every later kernel inherits them. The array that names them is KHO's (`struct
//! kho_scratch { phys_addr_t addr; phys_addr_t size; }` of Linux), native-endian u64s.

mod usage;

pub use usage::{Usage, WARN_PERCENT};

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, Name, ScratchFault, ScratchPart};
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
/// Where low memory ends: what a device with 32-bit addresses can reach.
pub const LOW_LIMIT: u64 = 1 << 32;
/// Bytes of one entry of the scratch array.
pub const ENTRY_SIZE: usize = 16;

/// How much scratch is wanted: the value of `kho_scratch=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchSize {
    /// This many bytes.
    Bytes(u64),
    /// This percentage of what boot needs.
    PercentOfBoot(u64),
    /// Linux's three parts, in bytes; each may be 0, but not all.
    Parts {
        /// Below [`LOW_LIMIT`].
        low: u64,
        /// Anywhere.
        global: u64,
        /// In the memory of each NUMA node.
        per_node: u64,
    },
}

impl ScratchSize {
    /// Reads `16M`, `64K`, `1G`, `4194304`, `200%`, or Linux's `LOW,GLOBAL,PER-NODE` of three amounts (`8M,16M,0`).
    /// Suffixes are powers of 1024, in either case.
    ///
    /// # Errors
    ///
    /// [`Error::ScratchSyntax`], which says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let fault_in = |part| {
            move |why| Error::ScratchSyntax {
                given: Name::new(text),
                part,
                why,
            }
        };
        let fault = fault_in(ScratchPart::Whole);
        let mut parts = text.split(',');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
        let size = match parts {
            [Some(one), None, ..] => match one.strip_suffix('%') {
                Some(number) => ScratchSize::PercentOfBoot(percent(number).map_err(fault)?),
                None => ScratchSize::Bytes(amount(one).map_err(fault)?),
            },
            [Some(low), Some(global), Some(per_node), None] => {
                let part = |text, part| amount(text).map_err(fault_in(part));
                ScratchSize::Parts {
                    low: part(low, ScratchPart::Low)?,
                    global: part(global, ScratchPart::Global)?,
                    per_node: part(per_node, ScratchPart::PerNode)?,
                }
            }
            _ => return Err(fault(ScratchFault::PartCount)),
        };
        match size {
            ScratchSize::Bytes(0)
            | ScratchSize::PercentOfBoot(0)
            | ScratchSize::Parts {
                low: 0,
                global: 0,
                per_node: 0,
            } => Err(fault(ScratchFault::Zero)),
            size => Ok(size),
        }
    }

    /// The size in bytes, in whole pages; in whole large pages from one of those on. Of three parts their sum, with one
    /// node.
    pub fn bytes(&self, needed_by_boot: u64) -> u64 {
        match *self {
            ScratchSize::Bytes(bytes) => rounded(bytes.max(1)),
            ScratchSize::PercentOfBoot(percent) => {
                let wanted = (u128::from(needed_by_boot) * u128::from(percent)).div_ceil(100);
                rounded((wanted as u64).max(1))
            }
            ScratchSize::Parts {
                low,
                global,
                per_node,
            } => rounded(low)
                .saturating_add(rounded(global))
                .saturating_add(rounded(per_node)),
        }
    }

    /// Chooses the regions in `usable` memory, off everything in `avoid` and off the first mebibyte; the machine is one
    /// node. See [`plan_nodes`](ScratchSize::plan_nodes).
    ///
    /// # Errors
    ///
    /// Those of [`plan_nodes`](ScratchSize::plan_nodes).
    pub fn plan(
        &self,
        usable: &[PhysRange],
        needed_by_boot: u64,
        avoid: &[PhysRange],
    ) -> Result<Vec<PhysRange>, Error> {
        self.plan_nodes(usable, needed_by_boot, avoid, &[ANYWHERE])
    }

    /// Chooses the regions in `usable` memory, off everything in `avoid` and off the first mebibyte. `nodes` is the memory
    /// of each NUMA node.
    ///
    /// Each part is one region at a large page's boundary where there is such a place; else one at a page's; else as few
    /// as it takes, the largest first. `needed_by_boot` is what boot allocates, in bytes; only a percentage looks at it.
    ///
    /// # Errors
    ///
    /// [`Error::ScratchTooLarge`] where more than half of the usable memory would go; [`Error::ScratchNoSpace`]
    /// where it is too scattered, or a part's place has too little; none is chosen then.
    pub fn plan_nodes(
        &self,
        usable: &[PhysRange],
        needed_by_boot: u64,
        avoid: &[PhysRange],
        nodes: &[PhysRange],
    ) -> Result<Vec<PhysRange>, Error> {
        let mut keep_off = avoid.to_vec();
        keep_off.push(PhysRange::new(0, LOW_MEMORY));
        let free: Vec<PhysRange> = range::subtract(usable, &keep_off)
            .iter()
            .map(PhysRange::page_align_inwards)
            .filter(|r| !r.is_empty())
            .collect();
        let mut parts: Vec<(u64, PhysRange)> = Vec::new();
        match *self {
            ScratchSize::Parts {
                low,
                global,
                per_node,
            } => {
                parts.push((rounded(low), PhysRange::new(0, LOW_LIMIT)));
                // The nodes before the part that can lie anywhere, which would take their place.
                parts.extend(nodes.iter().map(|&node| (rounded(per_node), node)));
                parts.push((rounded(global), ANYWHERE));
            }
            _ => parts.push((self.bytes(needed_by_boot), ANYWHERE)),
        }
        let wanted = parts.iter().fold(0, |sum: u64, p| sum.saturating_add(p.0));
        let total: u64 = free.iter().map(PhysRange::len).sum();
        if wanted > total / 2 {
            return Err(Error::ScratchTooLarge {
                wanted,
                usable: total,
            });
        }
        let mut regions = Vec::new();
        for (wanted, within) in parts.into_iter().filter(|(wanted, _)| *wanted > 0) {
            choose(&free, wanted, &within, &mut regions)?;
        }
        regions.sort_unstable();
        Ok(regions)
    }
}

/// All physical memory.
const ANYWHERE: PhysRange = PhysRange::new(0, MAX_PHYS);

/// Adds regions of together `wanted` bytes to those chosen: inside `within`, free, and not chosen yet.
fn choose(
    free: &[PhysRange],
    wanted: u64,
    within: &PhysRange,
    chosen: &mut Vec<PhysRange>,
) -> Result<(), Error> {
    let mut free: Vec<PhysRange> = range::subtract(free, chosen)
        .iter()
        .filter_map(|r| r.intersect(within))
        .map(|r| r.page_align_inwards())
        .filter(|r| !r.is_empty())
        .collect();
    for align in [LARGE_PAGE, PAGE_SIZE] {
        if chosen.len() < MAX_REGIONS
            && let Some(region) = range::find_space(&free, wanted, align, &[])
        {
            chosen.push(region);
            return Ok(());
        }
    }
    free.sort_unstable_by_key(|r| core::cmp::Reverse(r.len()));
    let mut left = wanted;
    let before = chosen.len();
    for r in free.iter().take(MAX_REGIONS.saturating_sub(before)) {
        let part = r.len().min(left);
        chosen.push(PhysRange::new(r.start, r.start + part));
        left -= part;
        if left == 0 {
            return Ok(());
        }
    }
    Err(Error::ScratchNoSpace {
        wanted,
        missing: left,
    })
}

/// In whole pages; in whole large pages from one of those on.
fn rounded(bytes: u64) -> u64 {
    let unit = if bytes >= LARGE_PAGE {
        LARGE_PAGE
    } else {
        PAGE_SIZE
    };
    bytes
        .checked_next_multiple_of(unit)
        .unwrap_or(u64::MAX / unit * unit)
}

/// The number at the front of a text, and what follows it.
fn number(text: &str) -> Result<(u64, &str), ScratchFault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(ScratchFault::NoNumber);
    }
    let number = number.parse().map_err(|_| ScratchFault::TooLarge)?;
    Ok((number, unit))
}

fn percent(text: &str) -> Result<u64, ScratchFault> {
    match number(text) {
        Ok((_, unit)) if !unit.is_empty() => Err(ScratchFault::Unit),
        Ok((number, _)) if number <= MAX_PERCENT => Ok(number),
        Ok(_) | Err(ScratchFault::TooLarge) => Err(ScratchFault::Percent),
        Err(why) => Err(why),
    }
}

/// Not a percentage: those are told before, where one can stand.
fn amount(text: &str) -> Result<u64, ScratchFault> {
    let (number, unit) = number(text)?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "%" => return Err(ScratchFault::PercentInParts),
        _ => return Err(ScratchFault::Unit),
    };
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes <= MAX_PHYS)
        .ok_or(ScratchFault::TooLarge)
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
