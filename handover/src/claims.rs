//! Claim or discard: what a predecessor left is each subsystem's to take, and what is left over is named and given back.
//!
//! An owner costs no metadata per page. A blob's owner is the node of the FDT that names it; a page's owner is the subsystem
//! whose blob lists it, which is known to that subsystem alone, and said by it when it claims the page. So a blob that was
//! taken by nobody is reported by its name, and what its pages were is reported with it: preserved memory that nobody
//! claimed is that of the subsystems whose blobs nobody took, or else nobody's.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::mem::{Memory, PAGE_SIZE};
use crate::page::PageRef;
use crate::radix::PreservedMap;
use crate::range::{self, PhysRange};

/// What came over, and who took what of it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    blobs: Vec<Blob>,
    /// In the order of their first claims.
    owners: Vec<String>,
    /// Owner and memory of each claim; those that lie side by side are one.
    claimed: Vec<(usize, PhysRange)>,
}

#[derive(Clone, Debug)]
struct Blob {
    name: String,
    range: PhysRange,
    taken: bool,
}

impl Claims {
    /// Nobody has taken anything yet of these blobs (see [`Verified::blobs`](crate::check::Verified::blobs)).
    pub fn new(blobs: Vec<(String, PhysRange)>) -> Self {
        let blob = |(name, range)| Blob {
            name,
            range,
            taken: false,
        };
        Claims {
            blobs: blobs.into_iter().map(blob).collect(),
            ..Claims::default()
        }
    }

    /// The blob of a subsystem, which is taken by it from now on; `None` where there is none, or an empty one.
    pub fn take(&mut self, name: &str) -> Option<PhysRange> {
        let blob = self.blobs.iter_mut().find(|b| b.name == name)?;
        blob.taken = true;
        (!blob.range.is_empty()).then_some(blob.range)
    }

    /// Says that memory is in use in this life, too, and whose it is.
    pub fn claim(&mut self, owner: &str, range: PhysRange) {
        if range.is_empty() {
            return;
        }
        let index = match self.owners.iter().position(|name| name == owner) {
            Some(index) => index,
            None => {
                self.owners.push(owner.into());
                self.owners.len() - 1
            }
        };
        match self.claimed.last_mut() {
            Some((last, before)) if *last == index && before.end == range.start => {
                before.end = range.end;
            }
            _ => self.claimed.push((index, range)),
        }
    }

    /// Name, memory, and whether it was taken, of each blob.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, PhysRange, bool)> {
        self.blobs
            .iter()
            .map(|blob| (blob.name.as_str(), blob.range, blob.taken))
    }

    /// What each owner has claimed, in the order of their first claims.
    pub fn claimed(&self) -> impl Iterator<Item = (&str, Vec<PhysRange>)> {
        self.owners.iter().enumerate().map(|(owner, name)| {
            let of_owner = self
                .claimed
                .iter()
                .filter(move |(index, _)| *index == owner);
            (name.as_str(), of_owner.map(|(_, range)| *range).collect())
        })
    }

    /// Pages claimed by each owner, in the order of their first claims.
    pub fn by_owner(&self) -> Vec<(&str, u64)> {
        let pages = |ranges: Vec<PhysRange>| {
            let mut ranges: Vec<PhysRange> =
                ranges.iter().map(PhysRange::page_align_outwards).collect();
            range::normalize(&mut ranges);
            ranges.iter().map(PhysRange::len).sum::<u64>() / PAGE_SIZE
        };
        self.claimed()
            .map(|(owner, ranges)| (owner, pages(ranges)))
            .collect()
    }

    /// Ends the taking over: every block that nobody claimed leaves the map, and `free` gets it; blobs, which are
    /// preserved for one hop only, among them. A block of which a part is claimed stays whole.
    pub fn discard<M: Memory>(
        self,
        map: &mut PreservedMap<M>,
        mut free: impl FnMut(PageRef),
    ) -> Discarded {
        let mut keep: Vec<PhysRange> = self.claimed.into_iter().map(|(_, range)| range).collect();
        range::normalize(&mut keep);
        let mut blobs: Vec<PhysRange> = self.blobs.iter().map(|b| b.range).collect();
        range::normalize(&mut blobs);
        let mut unclaimed = Vec::new();
        map.for_each_block(|block| {
            if range::find_overlap(&keep, &block.range()).is_none() {
                unclaimed.push(block);
            }
        });
        let mut pages = 0;
        for block in unclaimed {
            if map.restore(block).is_ok() {
                if range::find_overlap(&blobs, &block.range()).is_none() {
                    pages += block.pages();
                }
                free(block);
            }
        }
        let untaken = self.blobs.into_iter().filter(|b| !b.taken);
        Discarded {
            owners: untaken.map(|b| b.name).collect(),
            pages,
        }
    }
}

/// What nobody claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Subsystems of the predecessor that nobody here asked for.
    pub owners: Vec<String>,
    /// Pages that were given back, blobs not counted.
    pub pages: u64,
}

impl Discarded {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.pages == 0
    }
}

/// One sentence: `nobody claimed subsystem demo: its state and 12 preserved pages were given back`.
impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.pages;
        match &self.owners[..] {
            [] => write!(
                f,
                "{pages} preserved pages that nobody claimed were given back; no subsystem's state is left over, so \
                 whose they were is not known"
            ),
            owners => {
                f.write_str("nobody claimed ")?;
                for (i, owner) in owners.iter().enumerate() {
                    write!(f, "{}`{owner}`", if i == 0 { "" } else { ", " })?;
                }
                write!(f, ": its state and {pages} preserved pages were given back")
            }
        }
    }
}
