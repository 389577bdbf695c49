//! How a region is divided, and the superblock that says so.

use core::fmt;
use handover::mem::PAGE_SIZE;
use handover::range::PhysRange;

/// Lives that a region keeps apart: the running one, and those before it.
pub const SLOTS: u32 = 4;

/// The first bytes of a superblock; printable, so that a hexdump tells what it is.
pub const MAGIC: [u8; 8] = *b"BATONRAM";

/// Goes up when the layout changes. The superblock stays: see [`Sighting`].
pub const VERSION: u32 = 1;

/// The smallest region: below that hardly anything is left for data.
pub const MIN_SIZE: u64 = 1 << 20;

/// A region begins and ends at a multiple of this: so a search looks at few places.
pub const ALIGN: u64 = 1 << 20;

/// Most CPUs that a region can be divided for.
pub const MAX_CPUS: u32 = 64;

const MARK_SIZE: u64 = super::mark::SIZE as u64;

/// Why there is no region in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// Neither superblock is there.
    NoSuperblock,
    /// The range is smaller than [`MIN_SIZE`], or not aligned to [`ALIGN`].
    Range(PhysRange),
    /// It is not RAM that can be reached.
    NotReachable(PhysRange),
    /// More CPUs than [`MAX_CPUS`], or none.
    Cpus(u32),
    /// Written by a kernel with another layout: its version.
    Version(u32),
    /// No life of this number is in the region.
    NoLife(u64),
    /// No life runs that could write.
    NotBegun,
    /// A life runs, of this number: none can begin, and it cannot be erased.
    Runs(u64),
    /// Somebody reads the old lives ([`Region::with_old`](super::Region::with_old)).
    Busy,
    /// So many pages are wanted, and are neither free nor to be had from an old life.
    Full(u32),
    /// The metadata need more than these bytes.
    MetadataRoom(u32),
    /// A state of so many bytes is longer than any.
    StateSize(usize),
    /// No memory to describe the region.
    NoHeap,
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionError::NoSuperblock => f.write_str("there is no ramtrace region"),
            RegionError::Range(range) => write!(
                f,
                "a ramtrace region begins and ends at a multiple of {} KiB and has at least {} KiB, which {range} does not",
                ALIGN >> 10,
                MIN_SIZE >> 10
            ),
            RegionError::NotReachable(range) => write!(f, "{range} is not RAM"),
            RegionError::Cpus(cpus) => {
                write!(
                    f,
                    "a ramtrace region is for 1 to {MAX_CPUS} CPUs, not {cpus}"
                )
            }
            RegionError::Version(version) => write!(
                f,
                "the ramtrace region has layout version {version}, and this kernel reads {VERSION}"
            ),
            RegionError::NoLife(number) => {
                write!(f, "there is no life {number} in the ramtrace region")
            }
            RegionError::NotBegun => f.write_str("no life has begun in the ramtrace region"),
            RegionError::Runs(number) => {
                write!(f, "life {number} of the ramtrace region is the running one")
            }
            RegionError::Busy => f.write_str("the old lives of the ramtrace region are being read"),
            RegionError::Full(pages) => write!(
                f,
                "the ramtrace region has no {pages} pages left, and no old event pages to take"
            ),
            RegionError::MetadataRoom(room) => {
                write!(f, "a life's metadata do not fit into {room} bytes")
            }
            RegionError::StateSize(bytes) => write!(
                f,
                "a state of {bytes} bytes is longer than the ramtrace region keeps"
            ),
            RegionError::NoHeap => {
                f.write_str("there is no memory to describe the ramtrace region")
            }
        }
    }
}

impl core::error::Error for RegionError {}

/// How a region of some size is divided for some number of CPUs. All counts are of pages of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// CPUs that can own pages in one life.
    pub cpus: u32,
    /// Pages of the whole region.
    pub pages: u64,
    /// Pages of one bitmap.
    pub bitmap_pages: u64,
    /// Pages of one slot.
    pub slot_pages: u64,
    /// The first page of the table of marks.
    pub marks: u64,
    /// The first data page.
    pub data: u64,
    /// Number of data pages.
    pub data_pages: u64,
}

impl Geometry {
    /// That of a region of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`RegionError::Range`], [`RegionError::Cpus`].
    pub fn new(size: u64, cpus: u32) -> Result<Self, RegionError> {
        if size < MIN_SIZE || !size.is_multiple_of(ALIGN) || size > 1 << 44 {
            return Err(RegionError::Range(PhysRange::new(0, size)));
        }
        if cpus == 0 || cpus > MAX_CPUS {
            return Err(RegionError::Cpus(cpus));
        }
        let pages = size / PAGE_SIZE;
        // As if all pages were data: too much by less than a hundredth.
        let bitmap_pages = pages.div_ceil(PAGE_SIZE * 8);
        let slot_pages = 2 + (u64::from(cpus) + 1) * bitmap_pages;
        let marks = 1 + u64::from(SLOTS) * slot_pages;
        let rest = (pages - 1).saturating_sub(marks);
        let mark_pages = (rest * MARK_SIZE).div_ceil(PAGE_SIZE + MARK_SIZE);
        let data_pages = rest.saturating_sub(mark_pages);
        if data_pages < pages / 8 {
            return Err(RegionError::Cpus(cpus));
        }
        Ok(Geometry {
            cpus,
            pages,
            bitmap_pages,
            slot_pages,
            marks,
            data: marks + mark_pages,
            data_pages,
        })
    }
}

/// What stands at the begin of the first and the last page of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Where the region lies. A copy that was moved by whoever is not believed.
    pub range: PhysRange,
    /// See [`Geometry`].
    pub cpus: u32,
}

/// Bytes of a superblock: magic, version, crc32 of all else with this field zero, start, size, cpus, zero.
pub const SUPERBLOCK_SIZE: usize = 40;

impl Superblock {
    /// As it stands in memory.
    pub fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut bytes = [0; SUPERBLOCK_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.range.start.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.range.len().to_ne_bytes());
        bytes[32..36].copy_from_slice(&self.cpus.to_ne_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_ne_bytes());
        bytes
    }

    /// Reads one, of the first page of a region or of its last.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoSuperblock`], [`RegionError::Version`].
    pub fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Result<Self, RegionError> {
        let Sighting { range, version } =
            Sighting::decode(bytes).ok_or(RegionError::NoSuperblock)?;
        if version != VERSION {
            return Err(RegionError::Version(version));
        }
        let cpus = word(bytes, 32) as u32;
        match Geometry::new(range.len(), cpus) {
            Ok(_) => Ok(Superblock { range, cpus }),
            Err(_) => Err(RegionError::NoSuperblock),
        }
    }
}

fn word(bytes: &[u8; SUPERBLOCK_SIZE], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// A region that may be another kernel's, by a superblock of any version: its magic, version, checksum, start and size are what they
/// are in this one, and its length, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where the region lies.
    pub range: PhysRange,
    /// Its layout's.
    pub version: u32,
}

impl Sighting {
    fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Option<Self> {
        let mut unsealed = *bytes;
        unsealed[12..16].fill(0);
        let (start, size) = (word(bytes, 16), word(bytes, 24));
        let range = PhysRange::new(start, start.checked_add(size)?);
        let good = bytes[..8] == MAGIC
            && (word(bytes, 8) >> 32) as u32 == crc32fast::hash(&unsealed)
            && (start | size).is_multiple_of(ALIGN)
            && !range.is_empty();
        good.then_some(Sighting {
            range,
            version: word(bytes, 8) as u32,
        })
    }
}

/// Looks for a region in `ram`, which can be read at `direct_map + pa`: at the first and the last page of each place where one could
/// begin or end. Of several the first is taken, of whichever version. Reads some bytes for each MiB, and needs no memory.
///
/// # Safety
///
/// All of `ram` is mapped at `direct_map + pa`, and nobody writes to it meanwhile.
pub unsafe fn probe(ram: PhysRange, direct_map: u64) -> Option<Sighting> {
    // SAFETY: by the caller's promise for all of `ram`, within which `pa` and the bytes behind it lie.
    let look =
        |pa: u64| unsafe { core::ptr::read((direct_map + pa) as *const [u8; SUPERBLOCK_SIZE]) };
    let sight = |pa: u64| {
        let bytes = look(pa);
        let good = !matches!(Superblock::decode(&bytes), Err(RegionError::NoSuperblock));
        Sighting::decode(&bytes).filter(|_| good)
    };
    let within = |found: &Sighting| ram.start <= found.range.start && found.range.end <= ram.end;
    let mut at = ram.start.next_multiple_of(ALIGN);
    while at <= ram.end {
        if at + PAGE_SIZE <= ram.end
            && let Some(found) = sight(at)
            && found.range.start == at
            && within(&found)
        {
            return Some(found);
        }
        if at >= ram.start + PAGE_SIZE
            && let Some(found) = sight(at - PAGE_SIZE)
            && found.range.end == at
            && within(&found)
        {
            return Some(found);
        }
        at += ALIGN;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_reads_as_it_was_written_and_no_changed_bit_passes() {
        let block = Superblock {
            range: PhysRange::new(5 << 20, 21 << 20),
            cpus: 8,
        };
        let bytes = block.encode();
        assert_eq!(Superblock::decode(&bytes), Ok(block));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_region_has_room_for_all_its_parts() {
        for (mib, cpus) in [(1, 1), (1, 8), (16, 8), (64, 64), (3, 5), (4096, 64)] {
            let geometry = Geometry::new(mib << 20, cpus).unwrap();
            assert!(
                geometry.data + geometry.data_pages < geometry.pages,
                "{geometry:?}"
            );
            let marks = (geometry.data - geometry.marks) * PAGE_SIZE / MARK_SIZE;
            assert!(marks >= geometry.data_pages, "{geometry:?}");
            assert!(geometry.bitmap_pages * PAGE_SIZE * 8 >= geometry.data_pages);
            assert!(
                geometry.data_pages * 10 > geometry.pages * 8,
                "{geometry:?}"
            );
        }
        assert!(Geometry::new(1 << 20, 64).is_err());
        assert!(Geometry::new(1 << 19, 1).is_err());
        assert!(Geometry::new(1 << 20, 0).is_err());
    }

    #[test]
    fn a_region_is_found_by_either_superblock_at_its_own_place_only() {
        let memory = std::vec![0u64; 8 << 17];
        let base = memory.as_ptr() as u64;
        // Physical memory that begins at 2 MiB.
        let ram = PhysRange::new(2 << 20, 10 << 20);
        let direct_map = base.wrapping_sub(ram.start);
        let at = |pa: u64| (base + pa - ram.start) as *mut [u8; SUPERBLOCK_SIZE];
        // SAFETY: `memory` is as long as `ram`.
        let find = || unsafe { probe(ram, direct_map) };
        assert_eq!(find(), None);
        let block = Superblock {
            range: PhysRange::new(4 << 20, 7 << 20),
            cpus: 2,
        };
        // SAFETY: within `memory`; nobody else uses it.
        let put = |pa: u64, bytes: [u8; SUPERBLOCK_SIZE]| unsafe { at(pa).write(bytes) };
        put(5 << 20, block.encode());
        assert_eq!(find(), None);
        let sighting = Sighting {
            range: block.range,
            version: VERSION,
        };
        put(4 << 20, block.encode());
        assert_eq!(find(), Some(sighting));
        put(4 << 20, [0; SUPERBLOCK_SIZE]);
        put((7 << 20) - PAGE_SIZE, block.encode());
        assert_eq!(find(), Some(sighting));
        // One of another version is one, too, that nobody may take for memory; what its CPUs are is not ours to say.
        let mut other = block.encode();
        other[8..16].copy_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        other[32..40].fill(0xff);
        let crc = crc32fast::hash(&other);
        other[12..16].copy_from_slice(&crc.to_ne_bytes());
        assert_eq!(Superblock::decode(&other), Err(RegionError::Version(9)));
        put((7 << 20) - PAGE_SIZE, other);
        let version = 9;
        assert_eq!(
            find(),
            Some(Sighting {
                version,
                ..sighting
            })
        );
        // One that would reach beyond the RAM is none.
        put((7 << 20) - PAGE_SIZE, [0; SUPERBLOCK_SIZE]);
        let beyond = Superblock {
            range: PhysRange::new(9 << 20, 12 << 20),
            cpus: 2,
        };
        put(9 << 20, beyond.encode());
        assert_eq!(find(), None);
        drop(memory);
    }
}
