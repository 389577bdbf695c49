//! The boot parameters of a kexec: what the old kernel tells the new one before anything else is believed.
//!
//! One block of at most [`BLOCK_SIZE`] bytes inside the new kernel's own part of scratch, its address in `rdi` at the
//! entry: a [`Header`], then memory regions, scratch regions and the command line, all under one CRC.
//! The block can be read without a heap. Addresses are physical unless they are called virtual; sizes are bytes;
//! integers are native-endian.

use crate::layout::PAGE;
use arrayvec::ArrayVec;
use core::fmt;
use handover::range::PhysRange;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Room for the whole block.
pub const BLOCK_SIZE: usize = 16384;
/// Printable, so that a hexdump tells what it is.
pub const MAGIC: [u8; 8] = *b"BATONKX\n";
/// Goes up when the block's layout changes; the ELF note of a kernel names the one it understands.
pub const VERSION: u32 = 3;
/// Limits of the arrays in the block.
pub const MAX_REGIONS: usize = 256;
/// See [`MAX_REGIONS`].
pub const MAX_SCRATCH: usize = handover::scratch::MAX_REGIONS;
/// Longest command line in bytes.
pub const MAX_CMDLINE: usize = 2048;

/// In place of the FDT's: nothing is handed over, since the old kernel's command line says so.
pub const OFF_BY_CMDLINE: Extent = Extent { addr: 0, size: 0 };
/// The same, since somebody said so while the old kernel ran.
pub const OFF_AT_RUN_TIME: Extent = Extent { addr: 1, size: 0 };

const _: () = assert!(
    size_of::<Header>()
        + MAX_REGIONS * size_of::<Region>()
        + MAX_SCRATCH * size_of::<Extent>()
        + MAX_CMDLINE
        <= BLOCK_SIZE
);

/// A range of physical memory: start and length in bytes. The form of KHO's scratch array.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Extent {
    /// First byte.
    pub addr: u64,
    /// Length in bytes; 0 where there is nothing.
    pub size: u64,
}

impl Extent {
    /// The same as a range; `None` where its end is beyond the address space.
    pub fn range(&self) -> Option<PhysRange> {
        Some(PhysRange {
            start: self.addr,
            end: self.addr.checked_add(self.size)?,
        })
    }
}

impl From<PhysRange> for Extent {
    fn from(range: PhysRange) -> Self {
        Extent {
            addr: range.start,
            size: range.end - range.start,
        }
    }
}

/// What a region of the memory map is good for. Where two overlap the higher number wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// RAM that a kernel may use (as far as it is not preserved).
    Ram = 1,
    /// RAM of the ramtrace region, which outlives a reset: no allocator of any life has it, and it is no part of a handover.
    Persistent = 2,
    /// RAM that a kernel which refused a handover must not touch: whose it is, is not known.
    LeftAlone = 3,
    /// Firmware's, or no RAM.
    Reserved = 4,
}

impl Kind {
    fn from_u32(value: u32) -> Option<Kind> {
        [Kind::Ram, Kind::Persistent, Kind::LeftAlone, Kind::Reserved]
            .into_iter()
            .find(|k| *k as u32 == value)
    }
}

/// A region of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    /// Where it lies.
    pub extent: Extent,
    /// A [`Kind`].
    pub kind: u32,
    /// Zero.
    pub zero: u32,
}

/// The fixed part of the block.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// CRC-32 of the whole block with this field zero.
    pub crc32: u32,
    /// Bytes of the block in all.
    pub size: u32,
    /// Number of [`Region`]s that follow.
    pub regions: u32,
    /// Number of scratch [`Extent`]s behind those.
    pub scratch: u32,
    /// Bytes of the command line behind those.
    pub cmdline: u32,
    /// CRC-32 of the initrd, for a kernel that has nothing else to believe in.
    pub initrd_crc32: u32,
    /// Which life this is for the successor, counted from 0 at the cold start.
    pub generation: u32,
    /// Virtual address of physical address 0 while the successor has no page tables of its own.
    pub direct_map: u64,
    /// TSC at the old kernel's last look at it before the jump.
    pub jump_tsc: u64,
    /// The handover FDT; size 0 where nothing is handed over: [`OFF_BY_CMDLINE`] or [`OFF_AT_RUN_TIME`].
    pub fdt: Extent,
    /// All that the old kernel placed for the new one: image, stack, page tables, symbols, this block.
    pub placed: Extent,
    /// Scratch for the new kernel's first allocations: inside scratch, disjoint from `placed`.
    pub early: Extent,
    /// ELF symbol table of the image (`Elf64_Sym`).
    pub symtab: Extent,
    /// Its string table.
    pub strtab: Extent,
    /// The initrd.
    pub initrd: Extent,
    /// ACPI's RSDP; 0 where none is known.
    pub rsdp: u64,
    /// Pages below 1 MiB that are no kernel's but for the start of other CPUs; size 0 where there are none.
    pub low: Extent,
    /// Multiplier and shift of the clock: ns = TSC * mult >> 32. All lives count with the same.
    pub clock_mult: u64,
}

/// The block, decoded and checked.
#[derive(Clone, Debug)]
pub struct Params {
    /// The fixed part.
    pub header: Header,
    /// The memory map.
    pub regions: ArrayVec<Region, MAX_REGIONS>,
    /// The scratch regions.
    pub scratch: ArrayVec<Extent, MAX_SCRATCH>,
    /// The command line.
    pub cmdline: arrayvec::ArrayString<MAX_CMDLINE>,
}

/// Why a block cannot be believed. The new kernel knows nothing then, and resets the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// The first bytes are not [`MAGIC`].
    Magic,
    /// Written for another version of the block.
    Version(u32),
    /// A size or count that does not fit the block; the field's name.
    Size(&'static str),
    /// The checksum does not match: (found, computed).
    Crc(u32, u32),
    /// A field with an impossible value; its name.
    Value(&'static str),
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("boot parameters: ")?;
        match self {
            ParamsError::Magic => f.write_str("the magic is missing"),
            ParamsError::Version(v) => write!(f, "version {v}, and this kernel reads {VERSION}"),
            ParamsError::Size(what) => write!(f, "{what} does not fit the block"),
            ParamsError::Crc(found, want) => {
                write!(f, "checksum {found:#010x}, and the bytes give {want:#010x}")
            }
            ParamsError::Value(what) => write!(f, "{what} has an impossible value"),
        }
    }
}

impl core::error::Error for ParamsError {}

impl Params {
    /// Writes the block to the start of `block` and seals it; returns its size.
    ///
    /// # Errors
    /// [`ParamsError::Size`] where `block` is too small.
    pub fn encode(&self, block: &mut [u8]) -> Result<usize, ParamsError> {
        let parts: [&[u8]; 3] = [
            self.regions.as_bytes(),
            self.scratch.as_bytes(),
            self.cmdline.as_bytes(),
        ];
        let size = size_of::<Header>() + parts.iter().map(|p| p.len()).sum::<usize>();
        if size > block.len() {
            return Err(ParamsError::Size("the block itself"));
        }
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            crc32: 0,
            size: size as u32,
            regions: self.regions.len() as u32,
            scratch: self.scratch.len() as u32,
            cmdline: self.cmdline.len() as u32,
            ..self.header
        };
        let mut at = size_of::<Header>();
        block[..at].copy_from_slice(header.as_bytes());
        for part in parts {
            block[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        seal(&mut block[..size]);
        Ok(size)
    }

    /// Decodes and checks a block; `block` may be longer than it.
    ///
    /// # Errors
    /// [`ParamsError`], with the first thing that is wrong.
    pub fn decode(block: &[u8]) -> Result<Params, ParamsError> {
        let (header, _) =
            Header::read_from_prefix(block).map_err(|_| ParamsError::Size("the header"))?;
        if header.magic != MAGIC {
            return Err(ParamsError::Magic);
        }
        if header.version != VERSION {
            return Err(ParamsError::Version(header.version));
        }
        let size = header.size as usize;
        let block = block.get(..size).ok_or(ParamsError::Size("the block"))?;
        let computed = crc_of(block).ok_or(ParamsError::Size("the block"))?;
        if computed != header.crc32 {
            return Err(ParamsError::Crc(header.crc32, computed));
        }
        let mut rest = &block[size_of::<Header>()..];
        let regions: ArrayVec<Region, MAX_REGIONS> =
            array(&mut rest, header.regions, "the memory map")?;
        let scratch: ArrayVec<Extent, MAX_SCRATCH> =
            array(&mut rest, header.scratch, "the scratch list")?;
        if rest.len() != header.cmdline as usize {
            return Err(ParamsError::Size("the command line"));
        }
        let text =
            core::str::from_utf8(rest).map_err(|_| ParamsError::Value("the command line"))?;
        let cmdline =
            arrayvec::ArrayString::from(text).map_err(|_| ParamsError::Size("the command line"))?;
        for region in &regions {
            if Kind::from_u32(region.kind).is_none() || region.extent.range().is_none() {
                return Err(ParamsError::Value("a memory region"));
            }
        }
        for extent in scratch.iter().chain([
            &header.fdt,
            &header.placed,
            &header.early,
            &header.symtab,
            &header.strtab,
            &header.initrd,
            &header.low,
        ]) {
            extent
                .range()
                .ok_or(ParamsError::Value("an address range"))?;
        }
        Ok(Params {
            header,
            regions,
            scratch,
            cmdline,
        })
    }
}

impl Region {
    /// The kind; regions of a decoded block always have one.
    pub fn kind(&self) -> Kind {
        Kind::from_u32(self.kind).unwrap_or(Kind::Reserved)
    }
}

/// Writes the time of the jump and the FDT's place into a sealed block and seals it again. No allocation: this is among
/// the last things that the old kernel does.
///
/// # Errors
/// [`ParamsError::Size`] where `block` is shorter than it says.
pub fn finish(block: &mut [u8], fdt: Extent, jump_tsc: u64) -> Result<(), ParamsError> {
    let (header, _) =
        Header::mut_from_prefix(block).map_err(|_| ParamsError::Size("the header"))?;
    header.fdt = fdt;
    header.jump_tsc = jump_tsc;
    let size = header.size as usize;
    seal(
        block
            .get_mut(..size)
            .ok_or(ParamsError::Size("the block"))?,
    );
    Ok(())
}

/// Bytes that the block in `block` says it has, where `block` is no shorter.
pub fn size(block: &[u8]) -> Option<usize> {
    let (header, _) = Header::read_from_prefix(block).ok()?;
    Some(header.size as usize).filter(|size| *size <= block.len())
}

/// Cuts the early range of a block to `bytes`, in whole pages. [`finish`] seals it.
///
/// # Errors
/// [`ParamsError::Size`] where `block` is shorter than a header.
pub fn limit_early(block: &mut [u8], bytes: u64) -> Result<(), ParamsError> {
    let (header, _) =
        Header::mut_from_prefix(block).map_err(|_| ParamsError::Size("the header"))?;
    header.early.size = header.early.size.min(bytes / PAGE * PAGE);
    Ok(())
}

fn array<T: FromBytes + Immutable + KnownLayout, const N: usize>(
    rest: &mut &[u8],
    count: u32,
    what: &'static str,
) -> Result<ArrayVec<T, N>, ParamsError> {
    let count = count as usize;
    let bytes = count
        .checked_mul(size_of::<T>())
        .filter(|b| *b <= rest.len() && count <= N);
    let (head, tail) = rest.split_at(bytes.ok_or(ParamsError::Size(what))?);
    *rest = tail;
    Ok(head
        .chunks_exact(size_of::<T>())
        .filter_map(|chunk| T::read_from_bytes(chunk).ok())
        .collect())
}

const CRC_AT: usize = core::mem::offset_of!(Header, crc32);

fn crc_of(block: &[u8]) -> Option<u32> {
    if block.len() < size_of::<Header>() {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..CRC_AT]);
    hasher.update(&[0; 4]);
    hasher.update(&block[CRC_AT + 4..]);
    Some(hasher.finalize())
}

fn seal(block: &mut [u8]) {
    if let Some(crc) = crc_of(block) {
        block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Params {
        let region = |addr, size, kind: Kind| Region {
            extent: Extent { addr, size },
            kind: kind as u32,
            zero: 0,
        };
        Params {
            header: Header {
                generation: 3,
                direct_map: crate::layout::DIRECT_MAP,
                placed: Extent {
                    addr: 0x10_0000,
                    size: 0x20_0000,
                },
                low: Extent {
                    addr: 0x9_a000,
                    size: 0x5000,
                },
                ..Header::default()
            },
            regions: [
                region(0, 0x9f000, Kind::Ram),
                region(0x10_0000, 0x1000_0000, Kind::Ram),
                region(0x1010_0000, 0x10_0000, Kind::Persistent),
                region(0x1020_0000, 0x10_0000, Kind::LeftAlone),
                region(0x1030_0000, 0x10_0000, Kind::Reserved),
            ]
            .into_iter()
            .collect(),
            scratch: [Extent {
                addr: 0x10_0000,
                size: 0x100_0000,
            }]
            .into_iter()
            .collect(),
            cmdline: arrayvec::ArrayString::from("panic=1").unwrap(),
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        // A Vec<u64> keeps the block aligned as a page is.
        let mut words = vec![0u64; BLOCK_SIZE / 8];
        let block = words.as_mut_bytes();
        let size = sample().encode(block).unwrap();
        finish(
            block,
            Extent {
                addr: 0x5000,
                size: 77,
            },
            1234,
        )
        .unwrap();
        let back = Params::decode(block).unwrap();
        assert_eq!(back.header.size as usize, size);
        assert_eq!(super::size(block), Some(size));
        assert_eq!(super::size(&block[..size - 1]), None);
        assert_eq!(back.header.jump_tsc, 1234);
        assert_eq!(back.header.low, sample().header.low);
        assert_eq!(
            back.header.fdt,
            Extent {
                addr: 0x5000,
                size: 77
            }
        );
        assert_eq!(back.regions, sample().regions);
        assert_eq!(back.scratch, sample().scratch);
        assert_eq!(back.cmdline.as_str(), "panic=1");
        assert_eq!(
            sample().encode(&mut [0; 100]).unwrap_err(),
            ParamsError::Size("the block itself")
        );
    }

    #[test]
    fn no_block_at_all() {
        assert_eq!(
            Params::decode(&[]).unwrap_err(),
            ParamsError::Size("the header")
        );
        assert_eq!(Params::decode(&[0; 4096]).unwrap_err(), ParamsError::Magic);
    }

    proptest! {
        #[test]
        fn any_flip_is_refused(bit in 0usize..8 * 300) {
            let mut words = vec![0u64; BLOCK_SIZE / 8];
            let block = words.as_mut_bytes();
            let size = sample().encode(block).unwrap();
            prop_assume!(bit / 8 < size);
            block[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Params::decode(block).is_err());
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..1000), good in any::<bool>()) {
            if good && bytes.len() >= size_of::<Header>() {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..12].copy_from_slice(&VERSION.to_ne_bytes());
                let size = bytes.len() as u32;
                bytes[16..20].copy_from_slice(&size.to_ne_bytes());
                seal(&mut bytes);
            }
            let _ = Params::decode(&bytes);
        }
    }
}
