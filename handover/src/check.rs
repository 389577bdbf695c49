//! The receiving side's whole check, before anything of a handover is believed.
//!
//! What is held against what:
//!
//! | | scratch | image | FDT | blobs | tree pages | preserved blocks |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | scratch | disjoint | (1) | disjoint | disjoint | disjoint | disjoint |
//! | image | | | disjoint | disjoint | disjoint | disjoint |
//! | FDT | | | | disjoint | disjoint | lies inside |
//! | blobs | | | | disjoint | disjoint | lie inside |
//! | tree pages | | | | | disjoint | disjoint |
//! | preserved blocks | | | | | | disjoint |
//!
//! (1) The image of a kernel that was started by kexec lies in scratch on purpose.
//!
//! And: scratch, FDT, blobs, tree pages and preserved blocks lie in RAM; the checksums of FDT and blobs and the
//! digest of the map are right.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Claim, Error, FdtError, Name};
use crate::fdt::{self, Root, Subsystem};
use crate::mem::Memory;
use crate::radix::{Limits, PreservedMap};
use crate::range::{self, PhysRange};

/// What a kernel is handed (from its boot information), and what it knows by itself.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Physical address of the FDT, as the boot information has it.
    pub fdt_pa: u64,
    /// Its size in bytes: at least its `totalsize`.
    pub fdt_size: u64,
    /// All RAM, from the firmware's memory map.
    pub ram: &'a [PhysRange],
    /// The scratch regions (see [`scratch::decode`](crate::scratch::decode)).
    pub scratch: &'a [PhysRange],
    /// What the kernel itself occupies: its image, page tables, boot information, initrd.
    pub image: &'a [PhysRange],
}

/// A handover that has passed every check.
#[derive(Debug)]
pub struct Verified<M: Memory> {
    /// What the FDT says.
    pub root: Root,
    /// The preserved map, taken over in place.
    pub map: PreservedMap<M>,
    /// Each subsystem's blob by name; an empty range for one that was announced and never filled.
    pub blobs: Vec<(String, PhysRange)>,
}

impl<M: Memory> Verified<M> {
    /// Where the blob of a subsystem lies; `None` where there is no such subsystem, or its blob is empty.
    pub fn blob(&self, name: &str) -> Option<PhysRange> {
        let (_, range) = self.blobs.iter().find(|(n, _)| n == name)?;
        (!range.is_empty()).then_some(*range)
    }
}

/// Checks a handover. Nothing is written; on success the preserved map is taken over.
///
/// # Errors
///
/// The first reason found against it. Those of [`fdt::parse`] and [`PreservedMap::adopt`], and
/// [`Error::NotInRam`], [`Error::Overlap`], [`Error::MapDigest`], [`Error::NotPreservedWhole`], [`Error::BlobCrc`], [`Error::Unreadable`].
pub fn verify<M: Memory>(mem: M, incoming: &Incoming<'_>) -> Result<Verified<M>, Error> {
    let mut ram = incoming.ram.to_vec();
    range::normalize(&mut ram);
    let check = Check { ram, incoming };

    check.scratch()?;
    let fdt = check.fdt_range(incoming.fdt_size)?;
    let (root, digest) = {
        // SAFETY: nobody else runs on what a predecessor left before it has been checked, so nothing writes to it while
        // the slice lives.
        let bytes = unsafe { bytes(&mem, &fdt) }.ok_or(Error::Unreadable {
            claim: Claim::Fdt,
            range: fdt,
        })?;
        (fdt::parse(bytes)?, fdt::map_digest(bytes)?)
    };

    // Where the blobs lie is checked before the tree is walked, their content after it: it may be long.
    let mut taken: Vec<(Claim, PhysRange)> = Vec::with_capacity(root.subsystems.len() + 1);
    taken.push((Claim::Fdt, fdt));
    let mut blobs = Vec::with_capacity(root.subsystems.len());
    for s in &root.subsystems {
        let range = check.blob_range(s)?;
        let claim = Claim::Blob(Name::new(&s.name));
        if let Some(other) = taken.iter().find(|(_, r)| r.overlaps(&range)) {
            return Err(overlap((claim, range), *other));
        }
        taken.push((claim, range));
        blobs.push((s.name.clone(), range));
    }

    let limits = Limits {
        ram: incoming.ram,
        scratch: incoming.scratch,
        image: incoming.image,
    };
    let map = PreservedMap::adopt(root.map_root, mem, &limits)?;
    if let Some(stored) = digest.filter(|&d| d != map.digest()) {
        return Err(Error::MapDigest {
            stored,
            computed: map.digest(),
        });
    }
    for &(claim, range) in taken.iter().filter(|(_, r)| !r.is_empty()) {
        // This also keeps them off the tree's pages, since no block holds one of those.
        if let Some(pa) = map.first_gap(&range) {
            return Err(Error::NotPreservedWhole { claim, range, pa });
        }
    }
    for (s, (_, range)) in root.subsystems.iter().zip(&blobs) {
        check_crc(map.memory(), s, range)?;
    }
    Ok(Verified { root, map, blobs })
}

struct Check<'a> {
    /// Sorted, disjoint.
    ram: Vec<PhysRange>,
    incoming: &'a Incoming<'a>,
}

impl Check<'_> {
    fn scratch(&self) -> Result<(), Error> {
        let regions = self.incoming.scratch;
        for (i, range) in regions.iter().enumerate() {
            self.in_ram(Claim::Scratch, *range)?;
            if let Some(other) = regions[..i].iter().find(|r| r.overlaps(range)) {
                return Err(overlap((Claim::Scratch, *range), (Claim::Scratch, *other)));
            }
        }
        Ok(())
    }

    fn fdt_range(&self, size: u64) -> Result<PhysRange, Error> {
        let too_large = Error::Fdt(FdtError::TooLarge {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            limit: fdt::MAX_SIZE,
        });
        if size > fdt::MAX_SIZE as u64 {
            return Err(too_large);
        }
        let start = self.incoming.fdt_pa;
        let range = PhysRange::with_len(start, size).ok_or(too_large)?;
        self.place(Claim::Fdt, range)?;
        Ok(range)
    }

    fn blob_range(&self, s: &Subsystem) -> Result<PhysRange, Error> {
        let claim = Claim::Blob(Name::new(&s.name));
        if s.size == 0 {
            return Ok(PhysRange::new(s.data, s.data));
        }
        let range = PhysRange::with_len(s.data, s.size).ok_or(Error::NotInRam {
            claim,
            range: PhysRange::new(s.data, u64::MAX),
        })?;
        self.place(claim, range)?;
        Ok(range)
    }

    /// In RAM, and off scratch and image.
    fn place(&self, claim: Claim, range: PhysRange) -> Result<(), Error> {
        self.in_ram(claim, range)?;
        let scratch = self.incoming.scratch.iter().map(|r| (Claim::Scratch, *r));
        let image = self.incoming.image.iter().map(|r| (Claim::Image, *r));
        match scratch.chain(image).find(|(_, r)| r.overlaps(&range)) {
            Some(other) => Err(overlap((claim, range), other)),
            None => Ok(()),
        }
    }

    fn in_ram(&self, claim: Claim, range: PhysRange) -> Result<(), Error> {
        match range::find_containing(&self.ram, range.start) {
            Some(r) if r.contains_range(&range) => Ok(()),
            _ => Err(Error::NotInRam { claim, range }),
        }
    }
}

fn overlap(a: (Claim, PhysRange), b: (Claim, PhysRange)) -> Error {
    Error::Overlap {
        a: a.0,
        a_range: a.1,
        b: b.0,
        b_range: b.1,
    }
}

fn check_crc<M: Memory>(mem: &M, s: &Subsystem, range: &PhysRange) -> Result<(), Error> {
    let name = Name::new(&s.name);
    let computed = if range.is_empty() {
        0
    } else {
        // SAFETY: as in `verify`: nothing writes to it while the slice lives.
        let bytes = unsafe { bytes(mem, range) }.ok_or(Error::Unreadable {
            claim: Claim::Blob(name),
            range: *range,
        })?;
        crc32fast::hash(bytes)
    };
    if computed == s.crc32 {
        return Ok(());
    }
    Err(Error::BlobCrc {
        name,
        stored: s.crc32,
        computed,
    })
}

/// The bytes of `range` of physical memory; `None` where that is not all RAM.
///
/// # Safety
///
/// Nothing writes to the range while the slice lives, and it is initialised memory.
pub(crate) unsafe fn bytes<'m, M: Memory>(mem: &'m M, range: &PhysRange) -> Option<&'m [u8]> {
    let len = usize::try_from(range.len()).ok()?;
    if len == 0 {
        return Some(&[]);
    }
    let start = mem.ptr(range.start, len)?;
    // SAFETY: `Memory::ptr` vouches for `len` mapped, readable bytes that stay so; the caller for nothing writing to
    // them.
    Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) })
}
