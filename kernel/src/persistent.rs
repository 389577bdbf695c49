//! The RAM of the ramtrace region: how large a new one is, where it goes, and how the memory map has it.

use crate::params::{Kind, MAX_REGIONS, Region};
use arrayvec::ArrayVec;
use core::fmt;
use handover::range::PhysRange;

/// A region begins and ends at a multiple of this.
pub const ALIGN: u64 = 1 << 20;

/// Most that a region takes without being asked for more.
const DEFAULT_MOST: u64 = 64 << 20;
/// The part of RAM that it takes below that: on 256 MiB two lives of two CPUs with buffers of the usual size have room in it, and 95 % of the rest
/// can still be preserved by a first kernel.
const DEFAULT_PART: u64 = 24;
/// A machine with less RAM has none unless it is asked for: it needs its memory, and of 64 MiB OVMF and the boot loader leave 2 MiB alone
/// (see [`place`]). A little less than 96 MiB, of which some is not usable.
const DEFAULT_FROM: u64 = 90 << 20;

/// Where a BIOS boot loader is while it starts a kernel, and does not say so: to it this is usable RAM, and it writes there before any kernel
/// runs. In `bootloader` 0.11.15 stage 2 loads stage 3 to 0x10_0000 and stage 4 to 0x13_0000 (`STAGE_3_DST` and `STAGE_4_DST` in
/// bios/stage-2/src/main.rs); with stage 3's page tables and stage 4's data they end at 0x11_d002 and 0x15_3dd0. All else that it writes to above
/// 1 MiB its map has as its own (`construct_memory_map`: the kernel's file from 16 MiB on, the ramdisk behind it, then the page frames that it
/// takes). The rest of this MiB is there for a boot loader with longer stages. By UEFI its page frames are here, which the map has.
pub const BOOT_STAGES: PhysRange = PhysRange {
    start: 1 << 20,
    end: 2 << 20,
};

/// Bytes that a region takes where nobody says otherwise, of a machine with so much RAM; 0: there is none.
pub fn default_size(ram: u64) -> u64 {
    match ram {
        ..DEFAULT_FROM => 0,
        _ => (ram / DEFAULT_PART / ALIGN * ALIGN).clamp(ALIGN, DEFAULT_MOST),
    }
}

/// Why no region is put where it was asked for, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// No multiple of [`ALIGN`].
    NotAligned(u64),
    /// Not all of it is usable RAM.
    NotFree(PhysRange),
    /// The boot loader's stages are in it at each start: see [`BOOT_STAGES`].
    Stages(PhysRange),
    /// So many bytes are more than half of what is free in a row, which is the other number.
    TooLarge(u64, u64),
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceError::NotAligned(at) => {
                write!(f, "{at:#x} is no multiple of {} KiB", ALIGN >> 10)
            }
            PlaceError::NotFree(range) => write!(
                f,
                "{range} is not all RAM that firmware and boot loader leave alone"
            ),
            PlaceError::Stages(range) => write!(
                f,
                "{range} reaches into {BOOT_STAGES}, which the boot loader writes to at each start"
            ),
            PlaceError::TooLarge(size, free) => write!(
                f,
                "{} MiB are more than half of the {} MiB that are free in a row",
                size >> 20,
                free >> 20
            ),
        }
    }
}

/// Where a new region of `size` bytes goes in `free`: to `address`, if one is asked for, else to the middle of the largest piece.
///
/// Firmware and boot loader must not write there at a later start, which may have a larger initrd. They work from both ends. What the
/// boot loader writes to is known, and refused; what firmware does while it starts, and gives back, no map says: an address that is asked for may be
/// hit by that, and then the next start says which lives are damaged.
/// Measured under QEMU, with all RAM filled with a pattern before a reset; what had another content at the kernel's entry, in MiB:
///
/// | RAM | firmware | initrd | written to | largest free piece |
/// | --- | --- | --- | --- | --- |
/// | 64 | SeaBIOS | 3 | 1.0-1.3, 16-26, 47.9-48, 63.9-64 | 26-63.9 |
/// | 128 | SeaBIOS | 3 | 1.0-1.3, 16-26, 111.9-112, 127.9-128 | 26-127.9 |
/// | 128 | SeaBIOS | 9 | 1.0-1.3, 16-32, 111.9-112, 127.9-128 | 32-127.9 |
/// | 256 | SeaBIOS | 3 | 1.0-1.3, 16-26, 239.9-240, 255.9-256 | 26-255.9 |
/// | 512 | SeaBIOS | 19 | 1.0-1.3, 16-42, 495.9-496, 511.9-512 | 42-511.9 |
/// | 3072 | SeaBIOS | 3 | 1.0-1.3, 16-26, 2031.9-2032, 2047.9-2048 | 26-2047.9 |
/// | 64 | OVMF | 3 | 1.0-1.3, 8-23, 24.6-40, 42-60, 62.5-62.9 | 9-24.6 |
/// | 128 | OVMF | 3 | 1.0-1.3, 8-23, 59.5-59.6, 88.6-104, 106-124, 126.5-126.9 | 9-88.6 |
/// | 128 | OVMF | 19 | 1.0-1.3, 8-23, 59.5-59.6, 72.6-104, 106-124, 126.5-126.9 | 9-72.6 |
/// | 256 | OVMF | 3 | 1.0-1.3, 8-23, 187.5-187.6, 216.6-232, 234-252, 254.5-254.9 | 9-216.6 |
/// | 256 | OVMF | 19 | 1.0-1.3, 8-23, 187.5-187.6, 200.6-232, 234-252, 254.5-254.9 | 9-200.6 |
/// | 512 | OVMF | 3 | 1.0-1.3, 8-23, 443.5-443.6, 472.6-488, 490-508, 510.5-510.9 | 9-472.6 |
///
/// # Errors
/// [`PlaceError`].
pub fn place(free: &[PhysRange], size: u64, address: Option<u64>) -> Result<PhysRange, PlaceError> {
    if let Some(at) = address {
        if !at.is_multiple_of(ALIGN) {
            return Err(PlaceError::NotAligned(at));
        }
        let range = PhysRange::new(at, at.saturating_add(size));
        let fits = free.iter().any(|free| free.contains_range(&range));
        return match (fits, range.overlaps(&BOOT_STAGES)) {
            (false, _) => Err(PlaceError::NotFree(range)),
            (true, true) => Err(PlaceError::Stages(range)),
            (true, false) => Ok(range),
        };
    }
    // No RAM of the map is below the stages.
    let above = free.iter().map(|range| {
        let start = range.start.max(BOOT_STAGES.end).min(range.end);
        PhysRange::new(start, range.end)
    });
    let largest = above.max_by_key(PhysRange::len).unwrap_or_default();
    if size > largest.len() / 2 {
        return Err(PlaceError::TooLarge(size, largest.len()));
    }
    let start = (largest.start + (largest.len() - size) / 2) / ALIGN * ALIGN;
    Ok(PhysRange::new(start, start + size))
}

/// Makes `range` the region's in a memory map in which it is RAM. False if it is not, or the map is full: nothing is changed then.
pub fn mark(regions: &mut ArrayVec<Region, MAX_REGIONS>, range: PhysRange) -> bool {
    let whole = regions.iter().enumerate().find_map(|(at, region)| {
        let whole = region.extent.range()?;
        (region.kind() == Kind::Ram && whole.contains_range(&range)).then_some((at, whole))
    });
    let Some((at, whole)) = whole.filter(|_| !range.is_empty()) else {
        return false;
    };
    let parts = [
        (PhysRange::new(whole.start, range.start), Kind::Ram),
        (range, Kind::Persistent),
        (PhysRange::new(range.end, whole.end), Kind::Ram),
    ];
    let parts = parts.into_iter().filter(|(range, _)| !range.is_empty());
    if regions.remaining_capacity() + 1 < parts.clone().count() {
        return false;
    }
    regions.remove(at);
    for (n, (range, kind)) in parts.enumerate() {
        regions.insert(
            at + n,
            Region {
                extent: range.into(),
                kind: kind as u32,
                zero: 0,
            },
        );
    }
    true
}

/// Most regions that are told of when they are given up.
const MAX_GIVEN_UP: usize = 4;

/// What a cold start has found of regions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The region that the memory map has now.
    pub kept: Option<PhysRange>,
    /// Those whose RAM is ordinary again, and why.
    pub given_up: ArrayVec<(PhysRange, GivenUp), MAX_GIVEN_UP>,
}

/// Why a region that was found is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The boot loader has put something into it.
    Overlapped,
    /// By the command line there is to be none.
    Unwanted,
    /// There is this one already.
    Further(PhysRange),
    /// The memory map is full.
    NoRoom,
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GivenUp::Overlapped => f.write_str("the boot loader has put something into it"),
            GivenUp::Unwanted => f.write_str("the command line says ramtrace.mem_size=0"),
            GivenUp::Further(kept) => write!(f, "the one at {kept} was found before it"),
            GivenUp::NoRoom => f.write_str("the memory map has no room for it"),
        }
    }
}

impl Findings {
    /// Decides about a region in `regions`, in which `taken` is the boot loader's. False: it is given up, and nothing may be left of it
    /// that a later start takes for one.
    pub fn add(
        &mut self,
        regions: &mut ArrayVec<Region, MAX_REGIONS>,
        range: PhysRange,
        taken: &[PhysRange],
        unwanted: bool,
    ) -> bool {
        let mut taken = taken.iter().chain([&BOOT_STAGES]);
        let why = if taken.any(|taken| taken.overlaps(&range)) {
            GivenUp::Overlapped
        } else if unwanted {
            GivenUp::Unwanted
        } else if let Some(kept) = self.kept {
            GivenUp::Further(kept)
        } else if mark(regions, range) {
            self.kept = Some(range);
            return true;
        } else {
            GivenUp::NoRoom
        };
        // More of them are given up without a word.
        let _ = self.given_up.try_push((range, why));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_default_is_a_twenty_fourth_in_whole_mib_within_bounds() {
        for (ram, size) in [
            (48, 0),
            (63, 0),
            (95, 3),
            (127, 5),
            (256, 10),
            (1000, 41),
            (1 << 20, 64),
        ] {
            assert_eq!(default_size(ram * MIB), size * MIB, "{ram} MiB");
        }
    }

    #[test]
    fn it_goes_to_the_middle_or_where_it_is_asked_for() {
        let free = [
            PhysRange::new(MIB, 15 * MIB),
            PhysRange::new(26 * MIB + 0x3000, 255 * MIB + 0xf000),
        ];
        let at = |start, size| PhysRange::new(start * MIB, (start + size) * MIB);
        assert_eq!(place(&free, 16 * MIB, None), Ok(at(132, 16)));
        assert_eq!(place(&free, 4 * MIB, Some(8 * MIB)), Ok(at(8, 4)));
        for (size, address, why) in [
            (
                4,
                Some(8 * MIB + 0x1000),
                "0x801000 is no multiple of 1024 KiB",
            ),
            (
                4,
                Some(12 * MIB),
                "[0xc00000, 0x1000000) is not all RAM that firmware and boot loader leave alone",
            ),
            (
                8,
                Some(MIB),
                "[0x100000, 0x900000) reaches into [0x100000, 0x200000), which the boot loader writes to at each start",
            ),
            (
                115,
                None,
                "115 MiB are more than half of the 229 MiB that are free in a row",
            ),
        ] {
            let error = place(&free, size * MIB, address).unwrap_err();
            assert_eq!(std::format!("{error}"), why);
        }
        assert!(place(&free, 4 * MIB, Some(u64::MAX / MIB * MIB)).is_err());
        // The MiB that the boot loader's stages are in is not there for anybody.
        let low = [PhysRange::new(MIB, 5 * MIB)];
        assert_eq!(place(&low, MIB, Some(2 * MIB)), Ok(at(2, 1)));
        assert_eq!(place(&low, MIB, None), Ok(at(3, 1)));
        let all = place(&low, 2 * MIB, None);
        assert_eq!(all, Err(PlaceError::TooLarge(2 * MIB, 3 * MIB)));
        assert!(place(&[], MIB, None).is_err());
    }

    fn map(parts: &[(u64, u64, Kind)]) -> ArrayVec<Region, MAX_REGIONS> {
        let region = |(start, end, kind): &(u64, u64, Kind)| Region {
            extent: PhysRange::new(start * MIB, end * MIB).into(),
            kind: *kind as u32,
            zero: 0,
        };
        parts.iter().map(region).collect()
    }

    #[test]
    fn it_is_cut_out_of_ram_and_of_nothing_else() {
        use Kind::{Persistent, Ram, Reserved};
        let before = map(&[(1, 8, Ram), (8, 9, Reserved), (9, 20, Ram)]);
        for (start, end, after) in [
            (
                12,
                16,
                &[
                    (1, 8, Ram),
                    (8, 9, Reserved),
                    (9, 12, Ram),
                    (12, 16, Persistent),
                    (16, 20, Ram),
                ][..],
            ),
            (1, 8, &[(1, 8, Persistent), (8, 9, Reserved), (9, 20, Ram)]),
        ] {
            let mut regions = before.clone();
            assert!(mark(&mut regions, PhysRange::new(start * MIB, end * MIB)));
            assert_eq!(regions, map(after));
        }
        for (start, end) in [(7, 10), (8, 9), (19, 21), (12, 12)] {
            let mut regions = before.clone();
            assert!(!mark(&mut regions, PhysRange::new(start * MIB, end * MIB)));
            assert_eq!(regions, before);
        }
        let many: std::vec::Vec<_> = (0..MAX_REGIONS as u64)
            .map(|n| (2 * n, 2 * n + 2, Ram))
            .collect();
        let mut full = map(&many);
        assert!(!mark(&mut full, PhysRange::new(0, MIB)));
        assert_eq!(full, map(&many));
        assert!(mark(&mut full, PhysRange::new(0, 2 * MIB)));
    }

    #[test]
    fn of_several_regions_one_is_kept_that_the_boot_loader_has_left_alone_and_of_each_other_it_is_said_why_not()
     {
        use Kind::{Persistent, Ram};
        let before = map(&[(1, 64, Ram)]);
        let at = |start, end| PhysRange::new(start * MIB, end * MIB);
        // The kernel's file reaches into the first one.
        let taken = [at(3, 5)];
        let found = [at(4, 8), at(16, 20), at(30, 31)];
        let mut regions = before.clone();
        let mut findings = Findings::default();
        let kept = found.map(|range| findings.add(&mut regions, range, &taken, false));
        assert_eq!(kept, [false, true, false]);
        assert_eq!(findings.kept, Some(at(16, 20)));
        let whys: std::vec::Vec<_> = findings
            .given_up
            .iter()
            .map(|(range, why)| (*range, std::format!("{why}")))
            .collect();
        let wanted = [
            (at(4, 8), "the boot loader has put something into it"),
            (
                at(30, 31),
                "the one at [0x1000000, 0x1400000) was found before it",
            ),
        ];
        assert_eq!(whys, wanted.map(|(range, why)| (range, why.into())));
        assert_eq!(
            regions,
            map(&[(1, 16, Ram), (16, 20, Persistent), (20, 64, Ram)])
        );

        // One that an earlier kernel put where the boot loader's stages are.
        let mut regions = before.clone();
        let mut findings = Findings::default();
        assert!(!findings.add(&mut regions, at(1, 9), &[], false));
        assert_eq!(findings.given_up[0], (at(1, 9), GivenUp::Overlapped));
        assert_eq!(regions, before);

        // Where there is to be none, none is left, and the map is as it was.
        let mut regions = before.clone();
        let mut findings = Findings::default();
        assert!(
            found
                .iter()
                .all(|range| !findings.add(&mut regions, *range, &[], true))
        );
        assert_eq!((findings.kept, regions), (None, before));
        assert_eq!(findings.given_up.len(), 3);
    }
}
