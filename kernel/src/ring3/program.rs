//! A program as a file: what is checked before a process may be made of it.
//!
//! A static ELF64 executable for x86-64 whose segments lie in the part of the user half that is for programs
//! ([`PROGRAMS`]), none of them writable and executable, no two on one page.

use super::abi::{PAGE_BYTES, USER_START};
use super::areas::Rights;
use crate::image::{ImageError, open, part_of_file};
use arrayvec::ArrayVec;
use core::fmt;
use core::ops::Range;
use elf::abi;

/// Where programs may lie. Above it `mmap` chooses its places, and above those is the stack.
pub const PROGRAMS: Range<u64> = USER_START..0x1000_0000_0000;
/// The most segments that a program may have.
pub const MAX_SEGMENTS: usize = 16;

/// A part of a program in memory, in whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The pages.
    pub pages: Range<u64>,
    /// What the program may do there.
    pub rights: Rights,
    /// Address of its first byte from the file.
    pub at: u64,
    /// Its bytes in the file; all else in the pages is zero.
    pub part: Range<usize>,
}

/// A program that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its segments, in the file's order.
    pub segments: ArrayVec<Segment, MAX_SEGMENTS>,
    /// Where it starts.
    pub entry: u64,
}

/// Why a file is no program that can run. Each displays as one clause that follows the file's name and a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramError {
    /// Not a static executable for this machine.
    Elf(ImageError),
    /// It wants a dynamic linker.
    Interpreter,
    /// It wants to execute its stack.
    ExecutableStack,
    /// A segment outside of [`PROGRAMS`]: its address and size.
    Place(u64, u64),
    /// A segment that is writable and executable: its address.
    WriteExecute(u64),
    /// Two segments share the page at this address.
    Overlap(u64),
    /// More segments than a program may have.
    TooManySegments,
    /// Nothing to load in it.
    NoSegments,
    /// The entry is in no executable segment.
    Entry(u64),
}

impl From<ImageError> for ProgramError {
    fn from(error: ImageError) -> Self {
        ProgramError::Elf(error)
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Elf(error) => write!(f, "{error}"),
            ProgramError::Interpreter => {
                f.write_str("it needs a dynamic linker, and only static programs run here")
            }
            ProgramError::ExecutableStack => {
                f.write_str("it asks for an executable stack, and there is none here")
            }
            ProgramError::Place(at, size) => write!(
                f,
                "a segment of {size:#x} bytes at {at:#x} lies outside the area for programs {:#x}..{:#x}",
                PROGRAMS.start, PROGRAMS.end
            ),
            ProgramError::WriteExecute(at) => {
                write!(f, "the segment at {at:#x} is writable and executable")
            }
            ProgramError::Overlap(at) => write!(f, "two segments share the page at {at:#x}"),
            ProgramError::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments to load"),
            ProgramError::NoSegments => f.write_str("no segment to load"),
            ProgramError::Entry(at) => {
                write!(f, "the entry {at:#x} is in no executable segment")
            }
        }
    }
}

impl core::error::Error for ProgramError {}

impl Program {
    /// Checks a file and finds what a process needs of it. Nothing is copied.
    ///
    /// # Errors
    /// [`ProgramError`], with the first thing that is wrong.
    pub fn parse(file: &[u8]) -> Result<Program, ProgramError> {
        let elf = open(file)?;
        let headers = elf.segments().ok_or(ProgramError::NoSegments)?;
        let mut segments: ArrayVec<Segment, MAX_SEGMENTS> = ArrayVec::new();
        for header in headers.iter() {
            match header.p_type {
                abi::PT_INTERP | abi::PT_DYNAMIC => return Err(ProgramError::Interpreter),
                abi::PT_GNU_STACK if header.p_flags & abi::PF_X != 0 => {
                    return Err(ProgramError::ExecutableStack);
                }
                abi::PT_LOAD if header.p_memsz > 0 => {
                    let segment = segment(file, &header)?;
                    segments
                        .try_push(segment)
                        .map_err(|_| ProgramError::TooManySegments)?;
                }
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(ProgramError::NoSegments);
        }
        for (n, a) in segments.iter().enumerate() {
            for b in &segments[..n] {
                if a.pages.start < b.pages.end && b.pages.start < a.pages.end {
                    return Err(ProgramError::Overlap(a.pages.start.max(b.pages.start)));
                }
            }
        }
        let entry = elf.ehdr.e_entry;
        let executable = |s: &Segment| s.rights.execute && s.pages.contains(&entry);
        if !segments.iter().any(executable) {
            return Err(ProgramError::Entry(entry));
        }
        Ok(Program { segments, entry })
    }

    /// Bytes that its segments take in memory at most.
    pub fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|s| s.pages.end - s.pages.start)
            .sum()
    }
}

fn segment(file: &[u8], header: &elf::segment::ProgramHeader) -> Result<Segment, ProgramError> {
    let part = part_of_file(file, header)?;
    let end = header
        .p_vaddr
        .checked_add(header.p_memsz)
        .filter(|end| *end <= PROGRAMS.end && header.p_vaddr >= PROGRAMS.start)
        .ok_or(ProgramError::Place(header.p_vaddr, header.p_memsz))?;
    let rights = Rights {
        read: header.p_flags & abi::PF_R != 0,
        write: header.p_flags & abi::PF_W != 0,
        execute: header.p_flags & abi::PF_X != 0,
    };
    if rights.write && rights.execute {
        return Err(ProgramError::WriteExecute(header.p_vaddr));
    }
    Ok(Segment {
        pages: header.p_vaddr / PAGE_BYTES * PAGE_BYTES..end.next_multiple_of(PAGE_BYTES),
        rights,
        at: header.p_vaddr,
        part,
    })
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
