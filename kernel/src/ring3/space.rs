//! An address space: areas, and the pages that have come into them so far.
//!
//! Whatever the process does, a call here either happens wholly or changes nothing, and dropping the space gives back each
//! page that it took. TLBs are the caller's: [`Space::unmap`] hands back the pages that it took out, to be freed
//! ([`Space::free`]) when no CPU can reach them any more.

use super::abi::{PAGE_BYTES, USER_END};
use super::areas::{Area, AreaError, Areas, Backing, Bytes, Rights, SharedPages};
use super::program::{PROGRAMS, Program};
use super::stack::{STACK_BYTES, STACK_GUARD, STACK_TOP};
use super::tables::{NoMemory, UserTables};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use handover::mem::Memory;

/// Where `mmap` chooses places.
pub const MMAP: Range<u64> = PROGRAMS.end..STACK_TOP - STACK_BYTES - STACK_GUARD;

/// What an access wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To execute.
    Execute,
}

impl Access {
    /// That of a page fault, by its error code (Intel SDM vol. 3, figure 4-12).
    pub fn of_error_code(error: u64) -> Access {
        match (error >> 4 & 1, error >> 1 & 1) {
            (1, _) => Access::Execute,
            (_, 1) => Access::Write,
            _ => Access::Read,
        }
    }
}

/// As it stands before an address.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read of",
            Access::Write => "write to",
            Access::Execute => "instruction fetch from",
        })
    }
}

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no area at the address.
    NoArea,
    /// The area does not allow it.
    Rights,
    /// No memory for the page.
    NoMemory,
}

/// Why a mapping is not made or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// See [`AreaError`].
    Area(AreaError),
    /// No memory.
    NoMemory,
}

impl From<AreaError> for SpaceError {
    fn from(error: AreaError) -> Self {
        SpaceError::Area(error)
    }
}

impl From<NoMemory> for SpaceError {
    fn from(_: NoMemory) -> Self {
        SpaceError::NoMemory
    }
}

/// What [`Space::unmap`] took out of the page tables, and who is to be told.
#[derive(Default)]
#[must_use = "the pages are lost unless they are given to `Space::free`"]
pub struct Unmapped {
    pages: Vec<u64>,
    /// Whether anything was in the page tables: only then TLBs matter.
    pub flush: bool,
    /// Each whose mapping has gone; [`SharedPages::unmapped`] is to be called once the TLBs are flushed.
    pub shared: Vec<Arc<dyn SharedPages>>,
}

/// An address space.
pub struct Space<M: Memory> {
    memory: M,
    areas: Areas,
    tables: UserTables<M>,
    /// Pages of somebody else's that are mapped.
    shared_pages: u64,
}

impl<M: Memory> Space<M> {
    /// An empty one.
    pub fn new(memory: M, kernel_half: &[u64; 256]) -> Result<Self, SpaceError> {
        Ok(Space {
            tables: UserTables::new(memory.clone(), kernel_half)?,
            memory,
            areas: Areas::new(),
            shared_pages: 0,
        })
    }

    /// Physical address of the top table.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// The areas, by ascending address.
    pub fn areas(&self) -> impl Iterator<Item = &Area> {
        self.areas.iter()
    }

    /// KiB: all areas, the pages that are there, the page tables.
    pub fn sizes_kib(&self) -> (u64, u64, u64) {
        (
            self.areas.bytes() / 1024,
            (self.tables.owned_pages() + self.shared_pages) * PAGE_BYTES / 1024,
            self.tables.table_pages() * PAGE_BYTES / 1024,
        )
    }

    /// Lays out a program and its stack. For a space without areas; on an error it is only good for dropping.
    ///
    /// # Errors
    /// [`SpaceError`]; a parsed program on an empty space has no reason but memory.
    pub fn load(&mut self, program: &Program, bytes: &Bytes) -> Result<(), SpaceError> {
        for segment in &program.segments {
            self.areas.insert(Area {
                start: segment.pages.start,
                end: segment.pages.end,
                rights: segment.rights,
                backing: Backing::File {
                    bytes: bytes.clone(),
                    at: segment.at,
                    part: segment.part.clone(),
                },
                name: "",
            })?;
        }
        Ok(self.areas.insert(Area {
            start: STACK_TOP - STACK_BYTES,
            end: STACK_TOP,
            rights: Rights::READ_WRITE,
            backing: Backing::Zero,
            name: "[stack]",
        })?)
    }

    /// Makes `bytes` (rounded up to pages) of zeroed memory at a place of the space's choice.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn map_zero(&mut self, bytes: u64, rights: Rights) -> Result<u64, SpaceError> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE_BYTES)
            .ok_or(AreaError::NoRoom)?;
        let start = self.areas.gap(bytes, MMAP)?;
        self.areas.insert(Area {
            start,
            end: start + bytes,
            rights,
            backing: Backing::Zero,
            name: "",
        })?;
        Ok(start)
    }

    /// Maps somebody else's pages at a place of the space's choice. The caller has told `object` of it.
    ///
    /// # Errors
    /// [`SpaceError`]; `object` is to be told then that it has gone.
    pub fn map_shared(
        &mut self,
        pages: &[u64],
        write: bool,
        object: Arc<dyn SharedPages>,
    ) -> Result<u64, SpaceError> {
        let bytes = pages.len() as u64 * PAGE_BYTES;
        let start = self.areas.gap(bytes, MMAP)?;
        let rights = Rights {
            write,
            ..Rights::READ
        };
        // The area last: until then nothing but the tables knows of it.
        for (n, page) in pages.iter().enumerate() {
            let addr = start + n as u64 * PAGE_BYTES;
            if let Err(error) = self.tables.map(addr, *page, rights, false) {
                self.unmap_shared(start, n as u64);
                return Err(error.into());
            }
        }
        let area = Area {
            start,
            end: start + bytes,
            rights,
            backing: Backing::Shared(object),
            name: "",
        };
        if let Err(error) = self.areas.insert(area) {
            self.unmap_shared(start, pages.len() as u64);
            return Err(error.into());
        }
        self.shared_pages += pages.len() as u64;
        Ok(start)
    }

    /// Takes pages out again that no CPU has seen.
    fn unmap_shared(&mut self, start: u64, pages: u64) {
        for n in 0..pages {
            self.tables.unmap(start + n * PAGE_BYTES);
        }
    }

    /// Whether undoing the mappings of a range would leave one area more than there is: it lies in the middle of one.
    pub fn splits(&self, range: &Range<u64>) -> bool {
        let area = self.areas.at(range.start);
        area.is_some_and(|area| area.start < range.start && range.end < area.end)
    }

    /// Undoes all mappings in a range of whole pages.
    ///
    /// # Errors
    /// [`AreaError`]; nothing has changed then.
    pub fn unmap(&mut self, range: Range<u64>) -> Result<Unmapped, AreaError> {
        let areas = self.areas.remove(range)?;
        Ok(self.take_out(areas))
    }

    fn take_out(&mut self, areas: Vec<Area>) -> Unmapped {
        let mut out = Unmapped::default();
        for area in areas {
            let mut addr = self.tables.skip_holes(area.start);
            while addr < area.end {
                if let Some(mapped) = self.tables.unmap(addr) {
                    out.flush = true;
                    if mapped.owned {
                        out.pages.push(mapped.page);
                    } else {
                        self.shared_pages -= 1;
                    }
                }
                addr = self.tables.skip_holes(addr + PAGE_BYTES);
            }
            if let Backing::Shared(object) = area.backing {
                out.shared.push(object);
            }
        }
        out
    }

    /// Frees the pages that [`Space::unmap`] took out: no TLB has them any more.
    pub fn free(&self, unmapped: &mut Unmapped) {
        for page in unmapped.pages.drain(..) {
            // SAFETY: the page was the process's own, is mapped nowhere, and is taken out of the list here.
            unsafe { self.memory.free_pages(page, 0) };
        }
    }

    /// Takes all areas out, as when the process ends: what is shared is to be told when no CPU has the tables in force, and
    /// all pages of the process's own go when this value is dropped.
    pub fn take_shared(&mut self) -> Vec<Arc<dyn SharedPages>> {
        self.areas
            .take()
            .into_iter()
            .filter_map(|area| match area.backing {
                Backing::Shared(object) => Some(object),
                _ => None,
            })
            .collect()
    }

    /// Brings in the page at an address, where that is allowed and it is not there yet.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn fault(&mut self, addr: u64, access: Access) -> Result<(), Refused> {
        if addr >= USER_END {
            return Err(Refused::NoArea);
        }
        let area = self.areas.at(addr).ok_or(Refused::NoArea)?;
        let allowed = match access {
            Access::Read => area.rights.read,
            Access::Write => area.rights.write,
            Access::Execute => area.rights.execute,
        };
        if !allowed {
            return Err(Refused::Rights);
        }
        let addr = addr / PAGE_BYTES * PAGE_BYTES;
        if self.tables.lookup(addr).is_some() {
            return Ok(());
        }
        let page = self.memory.alloc_zeroed_pages(0).ok_or(Refused::NoMemory)?;
        self.fill(page, addr, area);
        let rights = area.rights;
        self.tables.map(addr, page, rights, true).map_err(|_| {
            // SAFETY: allocated just now, and mapped nowhere.
            unsafe { self.memory.free_pages(page, 0) };
            Refused::NoMemory
        })
    }

    /// Whether a page has come in at an address. Its rights are its area's from the start, so that a CPU that found it and
    /// refused an access will refuse it again. (QEMU does so where an `iretq` of ring 3 pops from its stack under SMAP.)
    pub fn has_page(&self, addr: u64) -> bool {
        self.tables.lookup(addr).is_some()
    }

    /// Works with the bytes of a page that is this space's own.
    fn with_page(&self, page: u64, work: impl FnOnce(&mut [u8])) {
        let place = self
            .memory
            .ptr(page, PAGE_BYTES as usize)
            .expect("this memory gave the page out");
        // SAFETY: the page is this space's own, whose lock the caller has; a process that runs meanwhile sees bytes change,
        // which is what it asked for. The borrow ends with `work`.
        work(unsafe { core::slice::from_raw_parts_mut(place.as_ptr(), PAGE_BYTES as usize) });
    }

    /// Gives a page of zeroes the content that an area has at `addr`.
    fn fill(&self, page: u64, addr: u64, area: &Area) {
        let Backing::File { bytes, at, part } = &area.backing else {
            return;
        };
        let file = &bytes.get()[part.clone()];
        let from = addr.max(*at);
        let to = (addr + PAGE_BYTES).min(at + file.len() as u64);
        if from < to {
            self.with_page(page, |content| {
                content[(from - addr) as usize..(to - addr) as usize]
                    .copy_from_slice(&file[(from - at) as usize..(to - at) as usize]);
            });
        }
    }

    /// Writes into the space from outside, as to a stack before the process runs.
    ///
    /// # Errors
    /// [`Refused`]; part of it may have been written.
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr.checked_add(done as u64).ok_or(Refused::NoArea)?;
            self.fault(at, Access::Write)?;
            let mapped = self.tables.lookup(at).ok_or(Refused::NoArea)?;
            let skip = (at % PAGE_BYTES) as usize;
            let len = (PAGE_BYTES as usize - skip).min(bytes.len() - done);
            self.with_page(mapped.page, |content| {
                content[skip..skip + len].copy_from_slice(&bytes[done..done + len]);
            });
            done += len;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
