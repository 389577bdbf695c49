//! Where a ring's pages are: in ordinary memory, or in the region that outlives a reset ([`crate::ramtrace`]).
//!
//! A writer knows nothing of it, but for what it notes of a page when it begins it (`advance_tail`): once in some hundred events.

use super::{BufPage, Ring};
use crate::platform::Platform;
use crate::ramtrace::mark::{Kind, Mark, Marks, Owner};
use handover::page::PageRef;

/// Whose the pages of a ring in the region are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lodging {
    marks: Marks,
    /// The CPU.
    cpu: u8,
    /// The buffer's number in the region.
    buffer: u8,
    /// Added to `turned_away` in the marks: what was refused before the ring was adopted.
    refused: u64,
}

/// `None`: ordinary memory.
pub(crate) type Home = Option<Lodging>;

/// One in the platform's region; `None` where there is none, or no life runs in it.
pub(crate) fn lodging<P: Platform>(p: &P, cpu: usize, buffer: u8) -> Home {
    let region = p.ramtrace().filter(|region| region.life() != 0)?;
    Some(Lodging {
        marks: region.marks(),
        cpu: u8::try_from(cpu).ok()?,
        buffer,
        refused: 0,
    })
}

/// Where `pages` are said to be (at least one), all in the same place; an error names one that is not. `refused` of the ring comes from
/// its last page in use, `pages[last]`.
pub(super) fn found<P: Platform>(
    p: &P,
    cpu: u32,
    mut pages: impl Iterator<Item = PageRef> + Clone,
    last: usize,
) -> Result<Home, PageRef> {
    let Some(region) = p.ramtrace() else {
        return Ok(None);
    };
    let mut first = None;
    for page in pages.clone() {
        let index = region.marks().index(page.pa);
        let owner = index.and_then(|index| Owner::decode(region.marks().at(index)?.owner(), index));
        let here = match (index, owner) {
            (None, _) => None,
            (Some(_), Some(owner))
                if owner.kind == Kind::Events
                    && owner.life == region.life() & crate::ramtrace::mark::LIFE_MASK
                    && owner.order == page.order
                    && u32::from(owner.cpu) == cpu =>
            {
                Some(owner.buffer)
            }
            _ => return Err(page),
        };
        if *first.get_or_insert(here) != here {
            return Err(page);
        }
    }
    Ok(first.flatten().and_then(|buffer| {
        let lodging = lodging(p, cpu as usize, buffer)?;
        let last = pages.nth(last).and_then(|page| lodging.marks.of(page.pa));
        Some(Lodging {
            refused: last.map_or(0, Mark::refused),
            ..lodging
        })
    }))
}

impl Lodging {
    /// The buffer's number in the region.
    pub(crate) fn buffer(&self) -> u8 {
        self.buffer
    }

    pub(super) fn cpu(&self) -> u8 {
        self.cpu
    }

    /// What the mark of the page at `pa` says of it.
    pub(super) fn mark(&self, pa: u64) -> Option<&'static Mark> {
        self.marks.of(pa)
    }
}

impl Ring {
    /// The mark of a page, where it has one.
    #[inline]
    pub(super) fn mark(&self, page: &BufPage) -> Option<&'static Mark> {
        self.home.as_ref()?.mark(page.buf.pa())
    }

    /// To be called before a page's commit word goes to 0; `seq` is the number that it will have, if any.
    #[inline]
    pub(super) fn unseal(&self, page: &BufPage, seq: u64) {
        if let Some(mark) = self.mark(page) {
            mark.unseal(seq);
        }
    }

    /// The page is begun, with its numbers: to be called after its commit word has gone to 0.
    #[inline]
    pub(super) fn begun(&self, page: &BufPage, seq: u64, turned_away: u64) {
        if let Some(home) = &self.home
            && let Some(mark) = home.mark(page.buf.pa())
        {
            mark.begin(seq, home.refused.wrapping_add(turned_away));
        }
    }
}
