//! The areas of an address space: which addresses mean something, and what comes there at a page fault. Linux's VMAs.

use super::abi::{PAGE_BYTES, USER_END, USER_START};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// The most areas that an address space may have: what they cost the kernel's heap is bounded.
pub const MAX_AREAS: usize = 1024;

/// What a process may do in an area. There is no writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Executing.
    pub execute: bool,
}

impl Rights {
    /// Nothing at all: each access ends the process.
    pub const NONE: Rights = Rights {
        read: false,
        write: false,
        execute: false,
    };
    /// Reading and writing.
    pub const READ_WRITE: Rights = Rights {
        read: true,
        write: true,
        execute: false,
    };
    /// Reading only.
    pub const READ: Rights = Rights {
        read: true,
        write: false,
        execute: false,
    };
}

/// `rw-`, as `/proc/<pid>/maps` has it.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (has, letter) in [(self.read, "r"), (self.write, "w"), (self.execute, "x")] {
            f.write_str(if has { letter } else { "-" })?;
        }
        Ok(())
    }
}

/// Pages that belong to somebody else and are mapped into a process. They must stay where they are from [`mapped`] until
/// the same number of [`unmapped`] calls has come; those come for each mapping once, also when its process ends.
///
/// [`mapped`]: SharedPages::mapped
/// [`unmapped`]: SharedPages::unmapped
pub trait SharedPages: Send + Sync {
    /// A mapping is there. Called by the process that maps, before it can use the pages; may sleep.
    fn mapped(&self);
    /// A mapping has gone: no CPU can reach the pages through it any more. May sleep.
    fn unmapped(&self);
    /// What `/proc/<pid>/maps` calls it.
    fn name(&self) -> &str;
    /// Where in what has that name the mapping begins, in bytes.
    fn offset(&self) -> u64;
}

/// The bytes of a program's file.
#[derive(Clone)]
pub enum Bytes {
    /// In the initrd, which stays.
    Static(&'static [u8]),
    /// Read into memory.
    Shared(Arc<Vec<u8>>),
}

impl Bytes {
    /// The bytes.
    pub fn get(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

/// Where an area's pages come from.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes, at the first access.
    Zero,
    /// A program's file, at the first access; zeroes before and behind its part.
    File {
        /// The file.
        bytes: Bytes,
        /// Address at which its part starts.
        at: u64,
        /// The part.
        part: Range<usize>,
    },
    /// Pages of somebody else's, all mapped from the start. Such an area is not cut.
    Shared(Arc<dyn SharedPages>),
}

/// A range of whole pages of one kind.
#[derive(Clone)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// The address behind it.
    pub end: u64,
    /// What the process may do there.
    pub rights: Rights,
    /// Where its pages come from.
    pub backing: Backing,
    /// What `/proc/<pid>/maps` calls it: `[stack]`.
    pub name: &'static str,
}

impl fmt::Debug for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x} {}", self.start, self.end, self.rights)
    }
}

/// Why areas are not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaError {
    /// Empty, not page-aligned, or not in the user half.
    Range,
    /// Something is there already.
    Overlap,
    /// There are [`MAX_AREAS`].
    TooMany,
    /// No gap of this size.
    NoRoom,
    /// A shared mapping goes whole or not at all.
    Cut,
}

/// The areas of one address space, disjoint.
#[derive(Default)]
pub struct Areas {
    by_start: BTreeMap<u64, Area>,
}

fn check(range: &Range<u64>) -> Result<(), AreaError> {
    let aligned = range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES);
    if !aligned || range.start >= range.end || range.start < USER_START || range.end > USER_END {
        return Err(AreaError::Range);
    }
    Ok(())
}

impl Areas {
    /// None.
    pub const fn new() -> Self {
        Areas {
            by_start: BTreeMap::new(),
        }
    }

    /// By ascending address.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.by_start.values()
    }

    /// Bytes of all areas.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|area| area.end - area.start).sum()
    }

    /// The area that has this address.
    pub fn at(&self, addr: u64) -> Option<&Area> {
        let (_, area) = self.by_start.range(..=addr).next_back()?;
        (addr < area.end).then_some(area)
    }

    /// The areas that have a page of the range.
    fn touching(&self, range: Range<u64>) -> impl Iterator<Item = &Area> {
        let first = self.at(range.start).map_or(range.start, |area| area.start);
        self.by_start.range(first..range.end).map(|(_, area)| area)
    }

    /// Adds an area.
    ///
    /// # Errors
    /// [`AreaError`]; nothing has changed then.
    pub fn insert(&mut self, area: Area) -> Result<(), AreaError> {
        let range = area.start..area.end;
        check(&range)?;
        if self.touching(range).next().is_some() {
            return Err(AreaError::Overlap);
        }
        if self.by_start.len() >= MAX_AREAS {
            return Err(AreaError::TooMany);
        }
        self.by_start.insert(area.start, area);
        Ok(())
    }

    /// The lowest address in `within` at which `bytes` (a multiple of the page size) are free, with a free page before and
    /// behind them, so that running over an end faults.
    ///
    /// # Errors
    /// [`AreaError::NoRoom`].
    pub fn gap(&self, bytes: u64, within: Range<u64>) -> Result<u64, AreaError> {
        let need = bytes.checked_add(2 * PAGE_BYTES).ok_or(AreaError::NoRoom)?;
        let mut from = within.start;
        for area in self.touching(within.clone()) {
            if area.start.saturating_sub(from) >= need {
                break;
            }
            from = from.max(area.end);
        }
        match from.checked_add(need) {
            Some(end) if end <= within.end => Ok(from + PAGE_BYTES),
            _ => Err(AreaError::NoRoom),
        }
    }

    /// Takes a range out, and hands back the pieces of areas that were in it, by ascending address. What has no area stays so.
    ///
    /// # Errors
    /// [`AreaError`]; nothing has changed then.
    pub fn remove(&mut self, range: Range<u64>) -> Result<Vec<Area>, AreaError> {
        check(&range)?;
        let hit: Vec<u64> = self.touching(range.clone()).map(|a| a.start).collect();
        let mut rest = 0;
        for area in self.touching(range.clone()) {
            let cut = (area.start < range.start) as usize + (area.end > range.end) as usize;
            if cut > 0 && matches!(area.backing, Backing::Shared(_)) {
                return Err(AreaError::Cut);
            }
            rest += cut;
        }
        if self.by_start.len() - hit.len() + rest > MAX_AREAS {
            return Err(AreaError::TooMany);
        }
        let mut pieces = Vec::new();
        for start in hit {
            let Some(area) = self.by_start.remove(&start) else {
                continue;
            };
            if area.start < range.start {
                let before = Area {
                    end: range.start,
                    ..area.clone()
                };
                self.by_start.insert(before.start, before);
            }
            if area.end > range.end {
                let behind = Area {
                    start: range.end,
                    ..area.clone()
                };
                self.by_start.insert(behind.start, behind);
            }
            pieces.push(Area {
                start: area.start.max(range.start),
                end: area.end.min(range.end),
                ..area
            });
        }
        Ok(pieces)
    }

    /// Takes all of them.
    pub fn take(&mut self) -> Vec<Area> {
        core::mem::take(&mut self.by_start).into_values().collect()
    }
}

#[cfg(test)]
#[path = "areas_tests.rs"]
mod tests;
