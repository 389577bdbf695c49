//! Claim or discard: what a predecessor left is each subsystem's to take, and what is left over is named and given back.
//!
//! An owner costs no metadata per page. A blob's owner is the node of the FDT that names it; a page's owner is the subsystem
//! whose blob lists it, and which says so when it claims the page. A blob that was taken by nobody is reported by its name.
//! Preserved memory that nobody claimed is reported by the name of the blob whose states call it their own (as
//! `#[kstate(pages)]` has it), whatever became of the subsystem: refused, unknown, or restored and forgetful. Only of pages that
//! are listed in some other way it is not known whose they were.
//!
//! A claim does not fail when it is made, for there is no way back any more then; that all of it is preserved is asked when the
//! claimant has done ([`Claims::check`]). Where the heap has no room to note one, nothing is given back: what could be is not
//! known.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::mem::Memory;
use crate::page::PageRef;
use crate::preserved::{ClaimRefused, Preserved};
use crate::radix::PreservedMap;
use crate::range::{self, PhysRange};
use crate::state::table::Word;

/// What came over, and who took what of it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    blobs: Vec<Blob>,
    /// Owners and what they claimed, in the order of their first claims. Claims that lie side by side are one.
    claimed: Vec<(String, Vec<PhysRange>)>,
    /// Names and what their blobs list, as far as nobody claimed it.
    listed: Vec<(String, Vec<PhysRange>)>,
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
        self.incomplete |= !note(&mut self.claimed, owner, range);
    }

    /// Whether all is preserved that an owner has claimed. What is not is no claim any more.
    ///
    /// # Errors
    ///
    /// The first claim of what is not.
    pub fn check(&mut self, owner: &str, preserved: &dyn Preserved) -> Result<(), ClaimRefused> {
        let mut first = Ok(());
        let Some((_, ranges)) = self.claimed.iter_mut().find(|(name, _)| name == owner) else {
            return first;
        };
        // What of the claims that are struck out is preserved: nobody may free that.
        let mut parts = Vec::new();
        let mut full = false;
        ranges.retain(|range| {
            let range = range.page_align_outwards();
            let Some(pa) = preserved.first_gap(&range) else {
                return true;
            };
            first = first.and(Err(ClaimRefused { range, pa }));
            preserved.for_each_part(&range, &mut |part| match parts.try_reserve(1) {
                Ok(()) => parts.push(part),
                Err(_) => full = true,
            });
            false
        });
        full |= ranges.try_reserve(parts.len()).is_err();
        if full {
            // Nothing is given back then.
            self.incomplete = true;
        } else {
            ranges.append(&mut parts);
        }
        first
    }

    /// Says that the blob of this name lists the memory as its subsystem's own; of no interest where somebody claimed it.
    pub fn note_listed(&mut self, name: &str, range: PhysRange) {
        let block = range.page_align_outwards();
        let claimed = |(_, ranges): &(String, Vec<PhysRange>)| {
            range::find_overlap(ranges, &block).is_some_and(|found| found.contains_range(&block))
        };
        if self.claimed.iter().any(claimed) {
            return;
        }
        note(&mut self.listed, name, block);
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
        for (_, ranges) in &mut self.listed {
            range::normalize(ranges);
        }
        let mut discarded = Discarded {
            owners: untaken.map(|b| b.name).collect(),
            pages: 0,
            of: Vec::new(),
            kept: match self.incomplete {
                true => map.preserved_pages(),
                false => 0,
            },
        };
        if self.incomplete {
            return discarded;
        }
        let listed = core::mem::take(&mut self.listed);
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
                        discarded.count(&block, &listed);
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

/// Adds memory to that of a name; false where there is no heap for it.
fn note(lists: &mut Vec<(String, Vec<PhysRange>)>, name: &str, range: PhysRange) -> bool {
    let place = lists.iter().position(|(there, _)| there == name);
    let place = place.unwrap_or_else(|| {
        lists.push((name.into(), Vec::new()));
        lists.len() - 1
    });
    let ranges = &mut lists[place].1;
    if let Some(before) = ranges.last_mut().filter(|r| r.end == range.start) {
        before.end = range.end;
    } else if ranges.try_reserve(1).is_ok() {
        ranges.push(range);
    } else {
        return false;
    }
    true
}

/// What nobody claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Subsystems of the predecessor that nobody here asked for.
    pub owners: Vec<String>,
    /// Pages that were given back, blobs not counted.
    pub pages: u64,
    /// How many of them the blob of which name lists, in the order of the blobs; of the others it is not known whose they were.
    pub of: Vec<(String, u64)>,
    /// Pages that stay preserved, though nobody may have claimed them: there was no heap to tell what is claimed.
    pub kept: u64,
}

impl Discarded {
    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.pages == 0 && self.kept == 0
    }
}

impl Discarded {
    fn count(&mut self, block: &PageRef, listed: &[(String, Vec<PhysRange>)]) {
        self.pages += block.pages();
        let range = block.range();
        let lists =
            |(_, ranges): &&(String, Vec<PhysRange>)| range::find_overlap(ranges, &range).is_some();
        let Some((name, _)) = listed.iter().find(lists) else {
            return;
        };
        match self.of.iter_mut().find(|(owner, _)| owner == name) {
            Some((_, pages)) => *pages += block.pages(),
            None => self.of.push((name.clone(), block.pages())),
        }
    }

    /// Whose the pages were, as a clause: ``24 of `attic`, 2 of which it is not known whose they were``. Empty where there are no
    /// pages.
    pub fn whose(&self) -> impl fmt::Display + '_ {
        Whose(self)
    }
}

struct Whose<'a>(&'a Discarded);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Discarded { pages, of, .. } = self.0;
        for (i, (owner, pages)) in of.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{pages} of `{}`", Word(owner))?;
        }
        match pages - of.iter().map(|(_, pages)| pages).sum::<u64>() {
            0 => Ok(()),
            _ if of.is_empty() => {
                f.write_str("no state lists them, so whose they were is not known")
            }
            rest => write!(f, ", and {rest} that no state lists"),
        }
    }
}

/// One sentence: ``nobody claimed `demo`: its state and 12 preserved pages were given back (12 of `demo`)``.
impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Discarded { pages, kept, .. } = self;
        match &self.owners[..] {
            [] => write!(
                f,
                "{pages} preserved pages that nobody claimed were given back"
            )?,
            owners => {
                f.write_str("nobody claimed ")?;
                for (i, owner) in owners.iter().enumerate() {
                    write!(f, "{}`{}`", if i == 0 { "" } else { ", " }, Word(owner))?;
                }
                write!(f, ": its state and {pages} preserved pages were given back")?;
            }
        }
        if *pages > 0 {
            write!(f, " ({})", self.whose())?;
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
