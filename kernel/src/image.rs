//! A kernel image as a file: what is checked before `kexec -l` believes it.
//!
//! The image is a static ELF64 for x86-64 with page-aligned segments inside the area of [`layout`](crate::layout), none
//! of them both writable and executable, and a note that says which version of the boot parameters it reads and where a
//! kexec enters it.

use crate::layout::{IMAGE, IMAGE_END, PAGE, align_up};
use crate::params::VERSION;
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;
use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;

/// The note's owner name, without its zero byte.
pub const NOTE_NAME: &str = "Baton";
/// The most segments that an image may have.
pub const MAX_SEGMENTS: usize = 8;
/// The note's type.
pub const NOTE_TYPE: u64 = 1;

/// A loadable segment. Page-aligned; `file` is what the file has of it, the rest up to `size` is zero.
#[derive(Clone, Copy, Debug)]
pub struct ImageSegment<'a> {
    /// Virtual address, a multiple of the page size.
    pub vaddr: u64,
    /// Bytes in memory, a multiple of the page size.
    pub size: u64,
    /// ELF's `p_flags`.
    pub flags: u32,
    /// Where `file` goes within the segment, in bytes.
    pub skip: u64,
    /// The bytes in the file.
    pub file: &'a [u8],
}

/// A kernel image that passed every check.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The segments, in the file's order.
    pub segments: ArrayVec<ImageSegment<'a>, MAX_SEGMENTS>,
    /// Virtual address where a kexec enters.
    pub entry: u64,
    /// The symbol table as it is in the file; empty for a stripped image.
    pub symtab: &'a [u8],
    /// The symbol table's strings.
    pub strtab: &'a [u8],
}

/// Why a file is no kernel that can be loaded. Each displays as one clause that follows the file's name and a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Nothing in it.
    Empty,
    /// No ELF magic.
    NotElf,
    /// Ends before its headers or segments do: what is missing.
    Truncated(&'static str),
    /// 32 bits or big-endian.
    Class,
    /// For another machine: its `e_machine`.
    Machine(u16),
    /// Not an executable at a fixed address: its `e_type`.
    Type(u16),
    /// Its headers contradict themselves: how.
    Malformed(&'static str),
    /// A segment outside the kernel's area: its address and size.
    Place(u64, u64),
    /// A segment that is writable and executable: its address.
    WriteExecute(u64),
    /// Two segments share a page: at this address.
    Overlap(u64),
    /// More segments than a kernel may have.
    TooManySegments,
    /// Nothing to load in it.
    NoSegments,
    /// Not a Baton kernel: the note is missing.
    NoNote,
    /// Reads another version of the boot parameters.
    ParamsVersion(u32),
    /// The kexec entry is in no executable segment.
    Entry(u64),
    /// The ELF header's entry is in no executable segment.
    Start(u64),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Empty => f.write_str("the file is empty"),
            ImageError::NotElf => f.write_str("not an ELF file"),
            ImageError::Truncated(what) => {
                write!(f, "truncated: {what} lies beyond the end of the file")
            }
            ImageError::Class => f.write_str("not a 64-bit little-endian ELF file"),
            ImageError::Machine(m) => write!(
                f,
                "an ELF file for another machine (e_machine {m}, and x86-64 is 62)"
            ),
            ImageError::Type(t) => write!(
                f,
                "not a static executable (e_type {t}, and it has to be 2)"
            ),
            ImageError::Malformed(how) => write!(f, "malformed ELF file: {how}"),
            ImageError::Place(at, size) => write!(
                f,
                "a segment of {size:#x} bytes at {at:#x} lies outside the kernel area {IMAGE:#x}..{IMAGE_END:#x}"
            ),
            ImageError::WriteExecute(at) => {
                write!(f, "the segment at {at:#x} is writable and executable")
            }
            ImageError::Overlap(at) => write!(f, "two segments share the page at {at:#x}"),
            ImageError::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments to load"),
            ImageError::NoSegments => f.write_str("no segment to load"),
            ImageError::NoNote => {
                f.write_str("not a Baton kernel (no Baton note that says where a kexec enters)")
            }
            ImageError::ParamsVersion(v) => {
                write!(
                    f,
                    "the kernel reads boot parameters of version {v}, and this one writes {VERSION}"
                )
            }
            ImageError::Start(at) => {
                write!(
                    f,
                    "the entry {at:#x} of the ELF header is in no executable segment"
                )
            }
            ImageError::Entry(at) => {
                write!(f, "the kexec entry {at:#x} is in no executable segment")
            }
        }
    }
}

impl core::error::Error for ImageError {}

impl<'a> Image<'a> {
    /// Checks a file and finds what a kexec needs of it. Nothing is copied.
    ///
    /// # Errors
    /// [`ImageError`], with the first thing that is wrong.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let elf = open(file)?;
        let headers = elf.segments().ok_or(ImageError::NoSegments)?;
        let mut segments = ArrayVec::new();
        for header in headers
            .iter()
            .filter(|h| h.p_type == abi::PT_LOAD && h.p_memsz > 0)
        {
            let segment = segment(file, &header)?;
            segments
                .try_push(segment)
                .map_err(|_| ImageError::TooManySegments)?;
        }
        if segments.is_empty() {
            return Err(ImageError::NoSegments);
        }
        for (n, a) in segments.iter().enumerate() {
            for b in &segments[..n] {
                if a.vaddr < b.vaddr + b.size && b.vaddr < a.vaddr + a.size {
                    return Err(ImageError::Overlap(a.vaddr.max(b.vaddr)));
                }
            }
        }
        let entry = kexec_entry(file, &segments, &headers)?;
        let executable = |s: &&ImageSegment| s.flags & abi::PF_X != 0;
        if !segments
            .iter()
            .filter(executable)
            .any(|s| entry >= s.vaddr && entry < s.vaddr + s.size)
        {
            return Err(ImageError::Entry(entry));
        }
        // A boot loader would enter there. A kexec does not, but a file that is wrong about it is damaged.
        let start = elf.ehdr.e_entry;
        if !segments
            .iter()
            .filter(executable)
            .any(|s| start >= s.vaddr && start < s.vaddr + s.size)
        {
            return Err(ImageError::Start(start));
        }
        let (symtab, strtab) = symbols(file);
        Ok(Image {
            segments,
            entry,
            symtab,
            strtab,
        })
    }

    /// Bytes that the segments take in memory.
    pub fn memory(&self) -> u64 {
        self.segments.iter().map(|s| s.size).sum()
    }
}

/// Checks what kernels and programs have in common: a static executable for x86-64.
pub(crate) fn open(file: &[u8]) -> Result<ElfBytes<'_, LittleEndian>, ImageError> {
    check_ident(file)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)
        .map_err(|_| ImageError::Truncated("a header table"))?;
    if elf.ehdr.e_machine != abi::EM_X86_64 {
        return Err(ImageError::Machine(elf.ehdr.e_machine));
    }
    if elf.ehdr.version != u32::from(abi::EV_CURRENT) {
        return Err(ImageError::Malformed("its e_version is not 1"));
    }
    if elf.ehdr.e_type != abi::ET_EXEC {
        return Err(ImageError::Type(elf.ehdr.e_type));
    }
    Ok(elf)
}

/// Where a segment's bytes are in the file.
pub(crate) fn part_of_file(
    file: &[u8],
    header: &elf::segment::ProgramHeader,
) -> Result<Range<usize>, ImageError> {
    if header.p_filesz > header.p_memsz {
        return Err(ImageError::Malformed(
            "a segment is larger in the file than in memory",
        ));
    }
    usize::try_from(header.p_offset)
        .ok()
        .zip(usize::try_from(header.p_filesz).ok())
        .and_then(|(at, len)| Some(at..at.checked_add(len)?))
        .filter(|part| part.end <= file.len())
        .ok_or(ImageError::Truncated("a segment"))
}

fn check_ident(file: &[u8]) -> Result<(), ImageError> {
    if file.is_empty() {
        return Err(ImageError::Empty);
    }
    if !file.starts_with(&abi::ELFMAGIC) {
        return Err(ImageError::NotElf);
    }
    if file.len() < 64 {
        return Err(ImageError::Truncated("the ELF header"));
    }
    if file[abi::EI_CLASS] != abi::ELFCLASS64 || file[abi::EI_DATA] != abi::ELFDATA2LSB {
        return Err(ImageError::Class);
    }
    Ok(())
}

fn segment<'a>(
    file: &'a [u8],
    header: &elf::segment::ProgramHeader,
) -> Result<ImageSegment<'a>, ImageError> {
    let part = part_of_file(file, header)?;
    let end = header.p_vaddr.checked_add(header.p_memsz);
    if header.p_vaddr < IMAGE || end.is_none_or(|e| e > IMAGE_END) {
        return Err(ImageError::Place(header.p_vaddr, header.p_memsz));
    }
    if header.p_flags & abi::PF_W != 0 && header.p_flags & abi::PF_X != 0 {
        return Err(ImageError::WriteExecute(header.p_vaddr));
    }
    let skip = header.p_vaddr % PAGE;
    Ok(ImageSegment {
        vaddr: header.p_vaddr - skip,
        size: align_up(skip + header.p_memsz, PAGE),
        flags: header.p_flags,
        skip,
        file: &file[part],
    })
}

/// The note's content: version of the boot parameters (u32), zero (u32), and the entry as a distance from the address of
/// this very field (i64). The assembler writes it so because it needs no relocation.
fn kexec_entry(
    file: &[u8],
    segments: &[ImageSegment],
    headers: &elf::segment::SegmentTable<LittleEndian>,
) -> Result<u64, ImageError> {
    for header in headers.iter().filter(|h| h.p_type == abi::PT_NOTE) {
        let Some(bytes) = usize::try_from(header.p_offset)
            .ok()
            .zip(usize::try_from(header.p_filesz).ok())
            .and_then(|(at, len)| file.get(at..at.checked_add(len)?))
        else {
            return Err(ImageError::Truncated("a note"));
        };
        if let Some((at, desc)) = find_note(bytes) {
            let version = u32::from_le_bytes([desc[0], desc[1], desc[2], desc[3]]);
            if version != VERSION {
                return Err(ImageError::ParamsVersion(version));
            }
            let distance = i64::from_le_bytes(desc[8..16].try_into().unwrap_or_default());
            let field = header.p_vaddr.wrapping_add(at as u64 + 8);
            if !segments
                .iter()
                .any(|s| field >= s.vaddr && field < s.vaddr + s.size)
            {
                return Err(ImageError::Malformed("the note is in no segment"));
            }
            return Ok(field.wrapping_add_signed(distance));
        }
    }
    Err(ImageError::NoNote)
}

/// Finds Baton's note among the notes of a segment: offset and content of its descriptor (16 bytes).
/// Layout: System V ABI, "Note Section": namesz, descsz, type (u32 each), name and desc padded to 4 bytes.
fn find_note(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut at = 0usize;
    loop {
        let word = |n: usize| {
            let from = at.checked_add(n * 4)?;
            Some(u32::from_le_bytes(bytes.get(from..from + 4)?.try_into().ok()?) as usize)
        };
        let (namesz, descsz, kind) = (word(0)?, word(1)?, word(2)?);
        let name_at = at + 12;
        let desc_at = name_at.checked_add(namesz.checked_next_multiple_of(4)?)?;
        let name = bytes.get(name_at..name_at.checked_add(namesz)?)?;
        let desc = bytes.get(desc_at..desc_at.checked_add(descsz)?)?;
        if kind as u64 == NOTE_TYPE
            && name.strip_suffix(b"\0") == Some(NOTE_NAME.as_bytes())
            && descsz == 16
        {
            return Some((desc_at, desc));
        }
        at = desc_at.checked_add(descsz.checked_next_multiple_of(4)?)?;
    }
}

/// The symbol table and its strings, or empty slices: a kernel without them loads, and its backtraces show numbers.
pub fn symbols(file: &[u8]) -> (&[u8], &[u8]) {
    let find = || -> Option<(&[u8], &[u8])> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).ok()?;
        let headers = elf.section_headers()?;
        let symtab = headers.iter().find(|s| s.sh_type == abi::SHT_SYMTAB)?;
        let strtab = headers.get(symtab.sh_link as usize).ok()?;
        Some((
            elf.section_data(&symtab).ok()?.0,
            elf.section_data(&strtab).ok()?.0,
        ))
    };
    find().unwrap_or((&[], &[]))
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
