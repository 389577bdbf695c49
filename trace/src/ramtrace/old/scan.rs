//! The scan: every data page by its mark.

use super::{DropReason, Dropped, OldCpu, OldError, OldPage};
use crate::page::{self, BadPage, HEADER_SIZE, Missed, Summary};
use crate::ramtrace::mark::{Kind, LIFE_MASK, Mark, Marks, Owner};
use crate::ring::{MAX_ORDER, NO_SEQ, Room, SubBuf, missing, read_page};
use crate::sync::Ordering;
use alloc::vec::Vec;
use handover::mem::Memory;
use handover::page::PageRef;

/// No event is later: when a life ended is not known, but time that counts from a machine's start does not come there.
pub(super) const NEWEST: u64 = u64::MAX / 4;

/// What is looked at, and for which life.
pub(super) struct Scan<'a, M: Memory> {
    pub(super) mem: &'a M,
    pub(super) marks: Marks,
    /// CPUs that can own pages.
    pub(super) cpus: u32,
    pub(super) life: u64,
    /// Which CPU of the life owns a page, as its bitmaps have it.
    pub(super) bitmaps: &'a dyn Fn(u64) -> Option<u8>,
}

/// What a scan finds.
#[derive(Default)]
pub(super) struct Scanned {
    /// Of each buffer and CPU, in order.
    pub(super) cpus: Vec<(u8, OldCpu)>,
    pub(super) strays: Vec<Dropped>,
}

/// A page that may be kept.
#[derive(Clone, Copy)]
struct Seen {
    page: OldPage,
    sum: Summary,
    /// The low 16 bits of the number that the page is about to get.
    anew: Option<u16>,
}

impl Seen {
    /// All of it is under a good checksum.
    fn sure(&self) -> bool {
        self.page.sealed == self.page.commit
    }

    /// The page is the one that was written to before all others, and is about to be number `number`, the next one after `newest`.
    fn makes_way(&self, number: u16, newest: &Seen) -> bool {
        number == newest.page.seq.wrapping_add(1) as u16
            && self.page.seq < newest.page.seq
            && self.end() <= newest.sum.first_ts
    }

    /// A time that the events of the next page do not come before. They may read late by a unit for each discarded event before
    /// them, which takes eight bytes at least; the next page has a stamp of its own, and knows nothing of that.
    fn end(&self) -> u64 {
        let late = self.page.commit as u64 / 8;
        self.sum.last_event_ts.saturating_sub(late)
    }
}

/// The pages of one buffer and CPU.
struct Group {
    buffer: u8,
    cpu: u8,
    seen: Vec<Seen>,
    dropped: Vec<Dropped>,
}

impl Group {
    fn drop(&mut self, seen: &Seen, why: DropReason) -> Result<(), OldError> {
        self.dropped.try_reserve(1)?;
        self.dropped.push(Dropped {
            index: seen.page.index,
            cpu: self.cpu,
            why,
            seq: Some(seen.page.seq).filter(|_| why != DropReason::Number),
        });
        Ok(())
    }
}

/// The number of a page, if its seal agrees. A page that was never written to has none.
fn believed(mark: &Mark) -> Option<u64> {
    let seq = mark.seq();
    (seq != 0 && mark.seal().number == seq as u16).then_some(seq)
}

impl<M: Memory> Scan<'_, M> {
    /// Looks at all pages.
    pub(super) fn run(&self) -> Result<Scanned, OldError> {
        let mut scratch = Vec::new();
        scratch.try_reserve_exact((handover::mem::PAGE_SIZE as usize) << MAX_ORDER)?;
        let mut groups: Vec<Group> = Vec::new();
        let mut strays: Vec<Dropped> = Vec::new();
        // Where what was dropped last ends.
        let mut told = 0;
        for index in 0..self.marks.count() {
            let Some(mark) = self.marks.at(index) else {
                break;
            };
            let owner = Owner::decode(mark.owner(), index);
            let Some(owner) = owner.filter(|owner| self.can_be(owner)) else {
                if index >= told
                    && let Some(cpu) = (self.bitmaps)(index)
                    && !self.is_empty(index)
                {
                    strays.try_reserve(1)?;
                    strays.push(Dropped {
                        index,
                        cpu,
                        why: DropReason::Mark,
                        seq: believed(mark),
                    });
                }
                continue;
            };
            if owner.life != self.life & LIFE_MASK || owner.kind != Kind::Events {
                continue;
            }
            let found = self.look(index, &owner, mark, &mut scratch);
            let Some(found) = found.transpose() else {
                continue;
            };
            let at = groups.binary_search_by_key(&(owner.buffer, owner.cpu), |g| (g.buffer, g.cpu));
            let at = match at {
                Ok(at) => at,
                Err(at) => {
                    groups.try_reserve(1)?;
                    let group = Group {
                        buffer: owner.buffer,
                        cpu: owner.cpu,
                        seen: Vec::new(),
                        dropped: Vec::new(),
                    };
                    groups.insert(at, group);
                    at
                }
            };
            let group = &mut groups[at];
            match found {
                Ok(seen) => {
                    group.seen.try_reserve(1)?;
                    group.seen.push(seen);
                }
                Err(why) => {
                    group.dropped.try_reserve(1)?;
                    group.dropped.push(Dropped {
                        index,
                        cpu: owner.cpu,
                        why,
                        seq: believed(mark),
                    });
                    // Its further pages are dropped with it, whatever became of their marks.
                    told = index + (1 << owner.order.min(MAX_ORDER));
                }
            }
        }
        self.settle(groups, strays, &mut scratch)
    }

    /// Whether there can be such a page.
    fn can_be(&self, owner: &Owner) -> bool {
        matches!(owner.kind, Kind::State | Kind::Log) || u32::from(owner.cpu) < self.cpus
    }

    /// Whether nothing was written to a page. What cannot be reached is nothing, too.
    fn is_empty(&self, index: u64) -> bool {
        let page = PageRef {
            pa: self.marks.address(index),
            order: 0,
        };
        let buf = SubBuf::at(self.mem, page);
        buf.is_none_or(|buf| buf.commit_word().load(Ordering::Acquire) == 0)
    }

    /// Whether the further pages of a sub-buffer are there.
    fn is_whole(&self, index: u64, owner: &Owner) -> bool {
        let rest = Owner {
            kind: Kind::Rest,
            ..*owner
        };
        (index + 1..index + (1 << owner.order)).all(|index| {
            let mark = self.marks.at(index);
            mark.is_some_and(|mark| Owner::decode(mark.owner(), index) == Some(rest))
        })
    }

    /// What the page is; nothing, if it is empty.
    fn look(
        &self,
        index: u64,
        owner: &Owner,
        mark: &Mark,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Seen>, DropReason> {
        let (seal, seq) = (mark.seal(), mark.seq());
        if seal.len == 0 && self.is_empty(index) {
            return Ok(None);
        }
        let page = PageRef {
            pa: self.marks.address(index),
            order: owner.order,
        };
        if owner.order > MAX_ORDER || !self.is_whole(index, owner) {
            return Err(DropReason::Block);
        }
        let buf = SubBuf::at(self.mem, page).ok_or(DropReason::Block)?;
        let room = Room::of(owner.order);
        if seal.len > 0 {
            let sealed = buf.words(room).get(..seal.len / 4);
            let sealed = sealed.filter(|_| seal.number == seq as u16);
            let stamp = buf.time_stamp().load(Ordering::Relaxed);
            if sealed.is_none_or(|sealed| mark.checksum(stamp, sealed, None) != seal.crc) {
                return Err(DropReason::Checksum);
            }
        }
        read_page(&buf, owner.order, scratch);
        let header = page::header(scratch).map_err(DropReason::Header)?;
        if header.missed != Missed::None {
            return Err(DropReason::Flags);
        }
        let full = seal.full && !seal.renumbers();
        if header.commit < seal.len || full && header.commit != seal.len {
            return Err(DropReason::Seal {
                commit: header.commit,
                sealed: seal.len,
            });
        }
        let mut seen = Seen {
            page: OldPage {
                page,
                index,
                seq,
                refused: mark.refused(),
                commit: header.commit,
                sealed: seal.len,
                full,
                events: 0,
                lost: Missed::None,
                cut: None,
            },
            sum: Summary::default(),
            anew: (seal.number != seq as u16 && !seal.renumbers()).then_some(seal.number),
        };
        if let Err(why) = walk(&mut seen, scratch) {
            self.cut(&mut seen, why, scratch)?;
        }
        Ok(Some(seen))
    }

    /// Leaves of a page what was sealed, if anything is and there is more.
    fn cut(
        &self,
        seen: &mut Seen,
        why: DropReason,
        scratch: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let sealed = seen.page.sealed;
        if sealed == 0 || seen.sure() {
            return Err(why);
        }
        let buf = SubBuf::at(self.mem, seen.page.page).ok_or(why)?;
        read_page(&buf, seen.page.page.order, scratch);
        seen.page.commit = sealed;
        seen.page.cut = Some(why);
        walk(seen, scratch)
    }

    /// What the pages say together.
    fn settle(
        &self,
        groups: Vec<Group>,
        strays: Vec<Dropped>,
        scratch: &mut Vec<u8>,
    ) -> Result<Scanned, OldError> {
        let mut cpus = Vec::new();
        cpus.try_reserve_exact(groups.len())?;
        for mut group in groups {
            let mut seen = core::mem::take(&mut group.seen);
            seen.sort_unstable_by_key(|one| (one.page.seq, one.page.index));
            let seen = self.numbers_that_can_be(seen, &mut group)?;
            let seen = one_of_each(seen, &mut group)?;
            let mut seen = self.in_order(seen, &mut group, scratch)?;
            losses(&mut seen);
            let missing = self.missing(&seen, &group, &strays)?;
            group.dropped.sort_unstable_by_key(|one| one.index);
            let mut pages = Vec::new();
            pages.try_reserve_exact(seen.len())?;
            pages.extend(seen.iter().map(|one| one.page));
            let cpu = OldCpu {
                cpu: group.cpu,
                pages,
                dropped: group.dropped,
                missing,
            };
            cpus.push((group.buffer, cpu));
        }
        Ok(Scanned { cpus, strays })
    }

    /// Takes out pages whose numbers cannot be among those of all others: a ring has no more numbers than the region has pages, but for its
    /// reader page, which the others leave behind as far as they like as long as nobody reads. A page that was about to be begun anew is
    /// nothing any more.
    fn numbers_that_can_be(
        &self,
        seen: Vec<Seen>,
        group: &mut Group,
    ) -> Result<Vec<Seen>, OldError> {
        let written = || seen.iter().filter(|one| one.anew.is_none());
        let sealed = written().rfind(|one| one.page.sealed > 0);
        // Where none is sure, most are right.
        let middle = written().nth(written().count() / 2);
        let near = sealed.or(middle).map_or(0, |one| one.page.seq);
        let far = near.saturating_add(self.marks.count());
        // Where the sealed ones are left behind, too: the numbers that more than half of all pages have.
        let loose = || written().filter(|one| one.page.sealed == 0);
        let around = loose().nth(loose().count() / 2).map(|one| {
            let (seq, reach) = (one.page.seq, self.marks.count());
            seq.saturating_sub(reach)..=seq.saturating_add(reach)
        });
        let around = around.filter(|around| {
            let inside = loose().filter(|one| around.contains(&one.page.seq));
            inside.count() * 2 > written().count()
        });
        let can_be =
            |seq: u64| seq <= far || around.as_ref().is_some_and(|around| around.contains(&seq));
        let newest = written().rfind(|one| can_be(one.page.seq));
        let mut kept = Vec::new();
        kept.try_reserve_exact(seen.len())?;
        for one in &seen {
            match one.anew {
                None if one.page.sealed > 0 || can_be(one.page.seq) => kept.push(*one),
                // Readers and who clears a buffer give a page no number until it is begun.
                Some(number) if number == NO_SEQ as u16 => {}
                Some(number) if newest.is_some_and(|newest| one.makes_way(number, newest)) => {}
                _ => group.drop(one, DropReason::Number)?,
            }
        }
        Ok(kept)
    }

    /// Takes out pages that do not follow in time: of two that are in the wrong order the one that is not sealed; if that cannot
    /// tell, the earlier one if the later one fits what stands before both.
    fn in_order(
        &self,
        seen: Vec<Seen>,
        group: &mut Group,
        scratch: &mut Vec<u8>,
    ) -> Result<Vec<Seen>, OldError> {
        let mut kept: Vec<Seen> = Vec::new();
        kept.try_reserve_exact(seen.len())?;
        'pages: for one in seen {
            if one.sum.events == 0 {
                kept.push(one);
                continue;
            }
            loop {
                let mut before = (0..kept.len()).rev().filter(|at| kept[*at].sum.events > 0);
                let last = before.next();
                let Some(last) = last.filter(|last| one.sum.first_ts < kept[*last].end()) else {
                    break;
                };
                let fits = before
                    .next()
                    .is_none_or(|before| one.sum.first_ts >= kept[before].end());
                let to_blame = match (kept[last].sure(), one.page.sealed > 0) {
                    (false, true) => true,
                    (true, false) => false,
                    _ => fits,
                };
                if !to_blame {
                    group.drop(&one, DropReason::Order)?;
                    continue 'pages;
                }
                let wrong = &mut kept[last];
                if self.cut(wrong, DropReason::Order, scratch).is_err() {
                    let wrong = kept.remove(last);
                    group.drop(&wrong, DropReason::Order)?;
                }
            }
            kept.push(one);
        }
        Ok(kept)
    }

    /// How many pages are missing between others, that no dropped page explains.
    fn missing(&self, kept: &[Seen], group: &Group, strays: &[Dropped]) -> Result<u64, OldError> {
        let holes = kept.windows(2).skip(1).map(|pair| {
            let between = pair[1].page.seq - pair[0].page.seq;
            between.saturating_sub(1)
        });
        let holes = holes.fold(0, u64::saturating_add);
        let Some((first, last)) = kept.get(1).zip(kept.last()) else {
            return Ok(0);
        };
        let (first, last) = (first.page.seq, last.page.seq);
        let far = self.marks.count();
        let mut explained = 0;
        let mut before = None;
        let strays = strays.iter().filter(|stray| stray.cpu == group.cpu);
        let of_cpu = || group.dropped.iter().chain(strays.clone());
        let mut dropped = Vec::new();
        dropped.try_reserve_exact(of_cpu().count())?;
        dropped.extend(of_cpu().map(|one| one.seq));
        dropped.sort_unstable();
        for seq in dropped {
            let hole = match seq {
                // It stands at either end.
                Some(seq) if seq < first => first - seq > far,
                Some(seq) if seq > last => seq - last > far,
                Some(seq) => {
                    let there = kept.binary_search_by_key(&seq, |one| one.page.seq).is_ok();
                    !there && before != Some(seq)
                }
                None => true,
            };
            before = seq.or(before);
            explained += u64::from(hole);
        }
        Ok(holes.saturating_sub(explained))
    }
}

/// Walks what is kept of a page, a copy of which is in `scratch`.
fn walk(seen: &mut Seen, scratch: &mut [u8]) -> Result<(), DropReason> {
    let commit = (seen.page.commit as u64).to_ne_bytes();
    scratch[8..HEADER_SIZE].copy_from_slice(&commit);
    let sum: Result<Summary, BadPage> = page::check(scratch);
    let sum = sum.map_err(DropReason::Walk)?;
    if sum.last_ts > NEWEST {
        return Err(DropReason::Late);
    }
    seen.page.events = sum.events;
    seen.sum = sum;
    Ok(())
}

/// Takes out pages that have the same number: the one that is sealed stays, if there is one such.
fn one_of_each(seen: Vec<Seen>, group: &mut Group) -> Result<Vec<Seen>, OldError> {
    let mut kept = Vec::new();
    kept.try_reserve_exact(seen.len())?;
    for same in seen.chunk_by(|a, b| a.page.seq == b.page.seq) {
        let mut sealed = same.iter().filter(|one| one.page.sealed > 0);
        let winner = match (same, sealed.next(), sealed.next()) {
            ([one], ..) => Some(one),
            (_, Some(one), None) => Some(one),
            _ => None,
        };
        for one in same {
            match winner {
                Some(winner) if winner.page.index == one.page.index => kept.push(*one),
                _ => group.drop(one, DropReason::Twice(one.page.seq))?,
            }
        }
    }
    Ok(kept)
}

/// Says what was lost before each page.
fn losses(kept: &mut [Seen]) {
    for at in 1..kept.len() {
        let before = kept[at - 1].page;
        let page = &mut kept[at].page;
        let refused = match page.refused < before.refused {
            // A buffer that was adopted counts anew.
            true => page.refused,
            false => missing(before.refused, page.refused),
        };
        page.lost = match refused {
            _ if page.seq - before.seq != 1 || before.cut.is_some() => Missed::Unknown,
            0 => Missed::None,
            n => Missed::Count(n),
        };
    }
}
