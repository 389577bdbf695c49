//! Claim or discard: what a predecessor left is each subsystem's to take, and what is left over is named and given back.
//!
//! An owner costs no metadata per page. A blob's owner is the node of the FDT that names it; a page's owner is the subsystem
//! whose blob lists it, which is known to that subsystem alone, and said by it when it claims the page. So a blob that was
//! taken by nobody is reported by its name, and what its pages were is reported with it: preserved memory that nobody
//! claimed is that of the subsystems whose blobs nobody took, or else nobody's.
//!
//! A claim cannot fail, for it is made when there is no way back any more. Where the heap has no room to note one, nothing is
//! given back: what could be is not known.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::mem::Memory;
use crate::page::PageRef;
use crate::radix::PreservedMap;
use crate::range::{self, PhysRange};

/// What came over, and who took what of it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    blobs: Vec<Blob>,
    /// Owners and what they claimed, in the order of their first claims. Claims that lie side by side are one.
    claimed: Vec<(String, Vec<PhysRange>)>,
    /// There was no heap to note a claim.
    incomplete: bool,
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
        let place = self.claimed.iter().position(|(name, _)| name == owner);
        let place = place.unwrap_or_else(|| {
            self.claimed.push((owner.into(), Vec::new()));
            self.claimed.len() - 1
        });
        let ranges = &mut self.claimed[place].1;
        if let Some(before) = ranges.last_mut().filter(|r| r.end == range.start) {
            before.end = range.end;
        } else if ranges.try_reserve(1).is_ok() {
            ranges.push(range);
        } else {
            self.incomplete = true;
        }
    }

    /// Name, memory, and whether it was taken, of each blob.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, PhysRange, bool)> {
        self.blobs
            .iter()
            .map(|blob| (blob.name.as_str(), blob.range, blob.taken))
    }

    /// What each owner has claimed, in the order of their first claims: whole pages, in order (see [`range::normalize`]).
    pub fn claimed(&mut self) -> &[(String, Vec<PhysRange>)] {
        for (_, ranges) in &mut self.claimed {
            for range in ranges.iter_mut() {
                *range = range.page_align_outwards();
            }
            range::normalize(ranges);
        }
        &self.claimed
    }

    /// [`claimed`](Claims::claimed), to keep.
    pub fn into_claimed(mut self) -> Vec<(String, Vec<PhysRange>)> {
        self.claimed();
        self.claimed
    }

    /// Ends the taking over: every block that nobody claimed leaves the map, and `free` gets it; blobs, which are
    /// preserved for one hop only, among them. A block of which a part is claimed stays whole.
    ///
    /// They are listed before, as many at a time as the heap has room for: it may be that what `free` has got makes more. What
    /// there is no room for at all stays in the map.
    pub fn discard<M: Memory>(
        &mut self,
        map: &mut PreservedMap<M>,
        mut free: impl FnMut(PageRef),
    ) -> Discarded {
        let blobs = core::mem::take(&mut self.blobs);
        let mut of_blobs: Vec<PhysRange> = blobs.iter().map(|b| b.range).collect();
        range::normalize(&mut of_blobs);
        let untaken = blobs.into_iter().filter(|b| !b.taken);
        let mut discarded = Discarded {
            owners: untaken.map(|b| b.name).collect(),
            pages: 0,
            kept: match self.incomplete {
                true => map.preserved_pages(),
                false => 0,
            },
        };
        if self.incomplete {
            return discarded;
        }
        let claimed = self.claimed();
        let is_claimed = |block: &PhysRange| {
            let mut lists = claimed.iter();
            lists.any(|(_, ranges)| range::find_overlap(ranges, block).is_some())
        };
        let mut unclaimed = Vec::new();
        loop {
            discarded.kept = 0;
            map.for_each_block(|block| {
                if is_claimed(&block.range()) {
                    return;
                }
                match discarded.kept == 0 && unclaimed.try_reserve(1).is_ok() {
                    true => unclaimed.push(block),
                    false => discarded.kept += block.pages(),
                }
            });
            let mut given_back = 0;
            for block in unclaimed.drain(..) {
                if map.restore(block).is_ok() {
                    given_back += 1;
                    if range::find_overlap(&of_blobs, &block.range()).is_none() {
                        discarded.pages += block.pages();
                    }
                    free(block);
                }
            }
            if given_back == 0 || discarded.kept == 0 {
                return discarded;
            }
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
    /// Pages that stay preserved, though nobody may have claimed them: there was no heap to tell what is claimed.
    pub kept: u64,
}

impl Discarded {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.pages == 0 && self.kept == 0
    }
}

/// One sentence: `nobody claimed subsystem demo: its state and 12 preserved pages were given back`.
impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Discarded { pages, kept, .. } = self;
        match &self.owners[..] {
            [] if *kept > 0 => write!(
                f,
                "{pages} preserved pages that nobody claimed were given back"
            )?,
            [] => write!(
                f,
                "{pages} preserved pages that nobody claimed were given back; no subsystem's state is left over, so \
                 whose they were is not known"
            )?,
            owners => {
                f.write_str("nobody claimed ")?;
                for (i, owner) in owners.iter().enumerate() {
                    write!(f, "{}`{owner}`", if i == 0 { "" } else { ", " })?;
                }
                write!(f, ": its state and {pages} preserved pages were given back")?;
            }
        }
        match kept {
            0 => Ok(()),
            kept => write!(
                f,
                "; {kept} pages stay preserved, claimed or not, since there was no heap to list what is claimed"
            ),
        }
    }
}
