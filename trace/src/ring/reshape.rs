//! What changes the set of a ring's pages: making, clearing, resizing, describing for the crossing.

use super::home::Home;
use super::link::{HEAD, Link, MAX_COUNT};
use super::read::NO_SEQ;
use super::subbuf::{Room, SubBuf};
use super::{BufPage, CpuBuffer, MAX_ORDER, MIN_PAGES, Reader, Ring, map, missing};
use crate::error::TraceError;
use crate::local::LocalU64;
use crate::page::Missed;
use crate::platform::Platform;
use crate::sync::{AtomicUsize, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use handover::KState;
use handover::page::PageRef;

/// A loss inside a buffer that `overrun` does not tell of: events are missing right before a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct Gap {
    /// Position of the page: 0 the reader page, 1 the head page, and so on; one more than those in use for the page that will be
    /// begun next.
    pub position: u32,
    /// How many are missing, 0 for none; `u64::MAX` where that is not known.
    pub lost: u64,
}

/// A buffer as it is described for another life. The events are in the pages, which stay where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct Shape {
    /// The reader page.
    #[kstate(pages)]
    pub reader: PageRef,
    /// The ring's pages from the head page on.
    #[kstate(pages)]
    pub ring: Vec<PageRef>,
    /// How many of them hold events (up to the commit page); 0: the reader page is the commit page.
    pub used: u32,
    /// Bytes of the reader page's data that have been consumed.
    pub reader_read: u32,
    /// Events ever committed.
    pub committed: u64,
    /// See [`Stats`](super::Stats), as all that follow.
    pub overrun: u64,
    /// Refused: ring full of uncommitted events.
    pub commit_overrun: u64,
    /// Refused for another reason.
    pub dropped: u64,
    /// Consumed.
    pub read_events: u64,
    /// Pages consumed.
    pub pages_read: u64,
    /// Pages overwritten.
    pub pages_lost: u64,
    /// Pages that the tail has moved to.
    pub pages_touched: u64,
    /// `overrun` when the reader page was taken.
    pub last_overrun: u64,
    /// Losses inside the buffer: what a full buffer refused, and what damaged pages have cost.
    pub gaps: Vec<Gap>,
    /// Whether a full buffer overwrites.
    pub overwrite: bool,
}

/// What adopting found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Events that are in the buffer.
    pub events: u64,
    /// Pages whose content was no such page: emptied, their events counted as overrun.
    pub damaged_pages: u64,
    /// Events that the counters knew of and no page holds.
    pub lost_events: u64,
    /// Events in the pages that the counters did not know of: written after the state was described.
    pub late_events: u64,
}

pub(super) fn alloc_pages<P: Platform>(
    platform: &P,
    count: usize,
    order: u8,
    home: Home,
) -> Result<Vec<BufPage>, TraceError> {
    if count > MAX_COUNT {
        return Err(TraceError::NoMemory);
    }
    let each = 1u64 << order;
    let wanted = (count as u64).checked_mul(each);
    match (wanted, platform.pages_available()) {
        (None, _) => return Err(TraceError::NoMemory),
        (Some(wanted), Some(free)) if wanted > free && home.is_none() => {
            return Err(TraceError::NoMemory);
        }
        (Some(wanted), _) if home.is_some() => room_in_region(platform, wanted)?,
        _ => {}
    }
    let mut pages = reserved(count)?;
    for _ in 0..count {
        match SubBuf::alloc(platform, order, home) {
            Some(buf) => pages.push(BufPage::new(buf)),
            None => {
                free_pages(platform, pages.into_iter(), order);
                return Err(match home {
                    Some(_) => TraceError::RegionFull,
                    None => TraceError::NoMemory,
                });
            }
        }
    }
    Ok(pages)
}

/// Whether the region has so many pages of 4 KiB to give, before any is taken from an old life.
///
/// # Errors
///
/// [`TraceError::RegionRoom`].
pub(crate) fn room_in_region<P: Platform>(platform: &P, wanted: u64) -> Result<(), TraceError> {
    let Some(region) = platform.ramtrace() else {
        return Ok(());
    };
    let left = region.pages_obtainable();
    match wanted > left {
        true => Err(TraceError::RegionRoom { wanted, left }),
        false => Ok(()),
    }
}

pub(super) fn reserved<T>(count: usize) -> Result<Vec<T>, TraceError> {
    let mut list = Vec::new();
    list.try_reserve_exact(count)
        .map_err(|_| TraceError::NoMemory)?;
    Ok(list)
}

/// Gives pages back that belong to no ring any more.
pub(super) fn free_pages<P: Platform>(
    platform: &P,
    pages: impl Iterator<Item = BufPage>,
    order: u8,
) {
    for page in pages {
        page.buf.free(platform, order);
    }
}

/// Gives back a ring that nobody uses any more, the oldest page first: as [`CpuBuffer::clear`].
pub(super) fn free_ring<P: Platform>(platform: &P, ring: Ring) {
    let mut pages = ring.pages.into_vec();
    pages.sort_unstable_by_key(|page| page.seq.load(Ordering::Relaxed));
    free_pages(platform, pages.into_iter(), ring.order);
}

/// An empty ring of `pages` sub-buffers (at least [`MIN_PAGES`]) and a reader page, of number 0.
pub(super) fn new_ring<P: Platform>(
    platform: &P,
    pages: usize,
    order: u8,
    home: Home,
) -> Result<Ring, TraceError> {
    if order > MAX_ORDER {
        return Err(TraceError::Order(order));
    }
    let count = pages.max(MIN_PAGES).checked_add(1);
    let list = alloc_pages(platform, count.ok_or(TraceError::NoMemory)?, order, home)?;
    let ring = Ring {
        pages: list.into_boxed_slice(),
        home,
        ..no_ring(order)
    };
    for page in &ring.pages {
        clear(&ring, page);
    }
    number(&ring, 0);
    relink(&ring, 1, 0);
    Ok(ring)
}

/// A ring without pages.
pub(super) fn no_ring(order: u8) -> Ring {
    Ring {
        pages: Box::default(),
        order,
        room: Room::of(order),
        home: None,
        tail: AtomicUsize::new(0),
        commit: AtomicUsize::new(0),
        taking: AtomicUsize::new(0),
    }
}

/// Numbers the first two pages of an empty ring.
fn number(ring: &Ring, seq: u64) {
    for (page, seq) in ring.pages.iter().zip([seq, seq.wrapping_add(1)]) {
        page.seq.store(seq, Ordering::Relaxed);
        ring.unseal(page, seq);
        ring.begun(page, seq, 0);
    }
}

fn clear(ring: &Ring, page: &BufPage) {
    ring.unseal(page, NO_SEQ);
    page.write.set(0);
    page.entries.set(0);
    page.turned_away.set(0);
    page.buf.clear();
}

/// Links pages 1.. to a ring with page 1 as its head, page 0 as reader page, page `used` as tail and commit page.
/// `pages_lost` is what the counter of that name says.
pub(super) fn relink(ring: &Ring, used: usize, pages_lost: u64) {
    let count = ring.pages.len();
    for (index, page) in ring.pages.iter().enumerate() {
        let next = if index + 1 < count { index + 1 } else { 1 };
        let flag = if index + 1 == count { HEAD } else { 0 };
        let next = Link::new(next, flag, pages_lost);
        page.next.store(next.0, Ordering::Relaxed);
        let prev = if index > 1 { index - 1 } else { count - 1 };
        page.prev.store(prev, Ordering::Relaxed);
    }
    ring.tail.store(used, Ordering::Relaxed);
    ring.taking.store(0, Ordering::Relaxed);
    ring.commit.store(used, Ordering::Release);
}

/// `seq` of the head page of a ring after `relink`.
fn head_seq(ring: &Ring, used: usize) -> u64 {
    let seq = |index: usize| ring.pages[index].seq.load(Ordering::Relaxed);
    if used > 0 {
        seq(1)
    } else {
        seq(0).wrapping_add(1)
    }
}

impl<P: Platform> CpuBuffer<P> {
    /// Throws all events away and sets the counters to zero.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end, [`TraceError::Retired`]; then nothing has changed.
    pub fn clear(&self) -> Result<(), TraceError> {
        self.exclusive(|reader, ring| {
            if ring.pages.is_empty() {
                return Err(TraceError::Retired);
            }
            let last = ring.commit.load(Ordering::Relaxed);
            let seq = ring.pages[last].seq.load(Ordering::Relaxed) + 1;
            self.clear_pages(reader.page, ring);
            // The reader page stays what it is, for who has it mapped: nobody writes to it, so it is empty for him.
            ring.pages.swap(0, reader.page);
            if let Some(mapping) = &mut reader.mapping {
                mapping.swapped(0, reader.page);
            }
            number(ring, seq);
            relink(ring, 1, 0);
            self.forget(reader, seq);
            self.refresh(reader, ring);
            Ok(())
        })
    }

    /// Empties all pages from the oldest on: what a reset leaves of them in the region has no hole.
    fn clear_pages(&self, reader_page: usize, ring: &Ring) {
        clear(ring, &ring.pages[reader_page]);
        // Behind the commit page the oldest stand, or those that are empty.
        let mut at = ring.commit.load(Ordering::Relaxed);
        for _ in 0..ring.pages.len() {
            self.platform.may_interrupt();
            at = ring.next(at);
            clear(ring, &ring.pages[at]);
        }
    }

    /// Sets all counters to zero, as of a ring that is empty, with number `seq` for its reader page.
    pub(super) fn forget(&self, reader: &mut Reader, seq: u64) {
        for counter in self.counters() {
            counter.set(0);
        }
        let mapping = reader.mapping.take();
        *reader = Reader {
            mapping,
            ..Reader::fresh(seq)
        };
    }

    /// What a ring's writers count, and the stamps: whatever belongs to the ring and not to the CPU.
    pub(super) fn counters(&self) -> [&LocalU64; 9] {
        [
            &self.committed,
            &self.overrun,
            &self.commit_overrun,
            &self.dropped,
            &self.turned_away,
            &self.pages_lost,
            &self.pages_touched,
            &self.before_stamp,
            &self.write_stamp,
        ]
    }

    /// Throws all events away, sets the counters to zero, and goes on with `pages` sub-buffers of `1 << order` pages each
    /// (4 to 64 KiB). As in Linux, where a write to `buffer_subbuf_size_kb` clears the buffer. Iterators come to their end.
    ///
    /// # Errors
    ///
    /// [`TraceError::Order`], [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::Retired`], [`TraceError::Mapped`];
    /// then nothing has changed.
    pub fn set_order(&self, order: u8, pages: usize) -> Result<(), TraceError> {
        let home = self.home();
        let mut new = new_ring(&self.platform, pages, order, home)?;
        let result = self.exclusive(|reader, ring| {
            if ring.pages.is_empty() {
                return Err(TraceError::Retired);
            }
            reader.not_mapped()?;
            // In the region the old pages and the new ones are side by side for a moment.
            let last = ring.commit.load(Ordering::Relaxed);
            let seq = ring.pages[last].seq.load(Ordering::Relaxed) + 1;
            number(&new, seq);
            core::mem::swap(ring, &mut new);
            self.forget(reader, seq);
            self.next_epoch();
            Ok(())
        });
        // The old one, or, after an error, the new one.
        free_ring(&self.platform, new);
        result
    }

    /// Changes the number of pages in the ring, keeping all events for which there is room: growing keeps all, shrinking
    /// drops the oldest, as Linux does, and counts them as overrun. Of two calls at once,
    /// one is refused.
    ///
    /// Events that are written during the change itself (some microseconds) are refused and counted as dropped.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::Retired`], [`TraceError::Mapped`]; then nothing has changed.
    pub fn resize(&self, pages: usize) -> Result<(), TraceError> {
        let pages = pages.max(MIN_PAGES);
        let (now, order, home) = self.locked(|_, ring| {
            let now = ring.pages.len().saturating_sub(1);
            (now, ring.order, ring.home)
        });
        if now == 0 {
            return Err(TraceError::Retired);
        }
        let mut list = reserved(pages.checked_add(1).ok_or(TraceError::NoMemory)?)?;
        let mut removed: Vec<BufPage> = reserved(now.saturating_sub(pages))?;
        let mut added = alloc_pages(&self.platform, pages.saturating_sub(now), order, home)?;
        let result = self.exclusive(|reader, ring| {
            if pages >= MAX_COUNT {
                return Err(TraceError::NoMemory);
            }
            reader.not_mapped()?;
            if ring.pages.len() != now + 1 || ring.order != order {
                // Someone else has changed it since we looked.
                return Err(TraceError::Busy);
            }
            let mut used = self.sort(reader.page, ring);
            let mut old = core::mem::take(&mut ring.pages).into_vec();
            // `sort` has put the pages in order: reader page, events from old to new, empty pages.
            while old.len() > pages + 1 && old.len() - 1 > used.max(1) {
                removed.extend(old.pop());
            }
            let surplus = old.len().saturating_sub(pages + 1);
            for page in old.drain(1..1 + surplus) {
                self.overrun.add(page.entry_count());
                self.pages_lost.add(1);
                used -= 1;
                removed.push(page);
            }
            list.append(&mut old);
            list.append(&mut added);
            ring.pages = core::mem::take(&mut list).into_boxed_slice();
            relink(ring, used, self.pages_lost.get());
            reader.page = 0;
            reader.head_hint = 1;
            reader.base = head_seq(ring, used)
                .wrapping_sub(self.pages_lost.get())
                .wrapping_sub(reader.pages_read);
            Ok(())
        });
        // Those that have left the ring, or, after an error, never came to it.
        free_pages(&self.platform, removed.into_iter().chain(added), order);
        result
    }

    /// Sorts the pages: the reader page, then the ring from the head on. Returns how many ring pages are in use; the commit
    /// page is the last of them, or, with 0, the reader page.
    fn sort(&self, reader_page: usize, ring: &mut Ring) -> usize {
        let commit = ring.commit.load(Ordering::Relaxed);
        let mut at = ring.next(reader_page);
        for _ in 1..ring.pages.len() {
            let prev = ring.pages[at].prev.load(Ordering::Relaxed);
            let to = ring.pages[prev].link();
            if to.index() == at && to.flags() == HEAD {
                break;
            }
            at = ring.next(at);
        }
        let mut used = 0;
        let count = ring.pages.len();
        // `prev` is not needed any more: the position goes there.
        for position in 1..count {
            if at == commit {
                used = position;
            }
            let next = ring.next(at);
            ring.pages[at].prev.store(position, Ordering::Relaxed);
            at = next;
        }
        ring.pages[reader_page].prev.store(0, Ordering::Relaxed);
        ring.pages
            .sort_unstable_by_key(|page| page.prev.load(Ordering::Relaxed));
        used
    }

    /// No new event will be stamped earlier than `floor`. Before the first write only.
    pub(crate) fn set_floor(&self, floor: u64) {
        // Different stamps make the next event take an absolute one. `before_stamp` is the later one, as after any write: a time of
        // the past is raised to the floor, and must not make them equal before the event is reserved, for who comes then would count
        // its delta from there.
        self.before_stamp.set(floor);
        self.write_stamp.set(floor.saturating_sub(1));
    }

    /// Calls `f` with every page that the buffer owns.
    pub fn for_each_page(&self, f: &mut dyn FnMut(PageRef)) {
        self.locked(|_, ring| {
            for page in &ring.pages {
                f(page.buf.page_ref(ring.order));
            }
        });
    }

    /// Calls `f` with each page's position before which a full ring has refused events, and how many (I11). While nobody writes.
    fn refusals(&self, reader: &mut Reader, ring: &Ring, mut f: impl FnMut(u32, u64)) {
        let commit = ring.commit.load(Ordering::Acquire);
        let mut before = reader.last_turned_away;
        let mut position = 1;
        if commit != reader.page
            && let Some((mut at, _)) = self.find_head(reader, ring)
        {
            for _ in 1..ring.pages.len() {
                let turned_away = ring.pages[at].turned_away.get();
                let missing = missing(before, turned_away);
                if missing > 0 {
                    f(position, missing);
                }
                before = turned_away;
                position += 1;
                if at == commit {
                    break;
                }
                at = ring.next(at);
            }
        }
        // Before the next page.
        let missing = missing(before, self.turned_away.get());
        if missing > 0 {
            f(position, missing);
        }
    }

    /// Describes the buffer. Its lists have room for what [`describe`](Self::describe) will write later.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Busy`].
    pub fn shape(&self) -> Result<Shape, TraceError> {
        let pages = self.pages();
        // What was not told yet, what stands before the page that is begun next, and one such page that is begun before
        // `describe` is called again: no second one, for a full ring stays full while nobody reads.
        let gaps = self.locked(|reader, ring| {
            let mut gaps = reader.gaps.len() + 3;
            self.refusals(reader, ring, |_, _| gaps += 1);
            gaps
        });
        let mut shape = Shape {
            ring: reserved(pages)?,
            gaps: reserved(gaps)?,
            ..Shape::default()
        };
        self.describe(&mut shape)?;
        Ok(shape)
    }

    /// Describes the buffer in `shape`, one of [`shape`](Self::shape), without allocating. While nobody writes.
    ///
    /// # Errors
    ///
    /// [`TraceError::StateShape`] if the buffer was resized since; [`TraceError::Busy`] if a reader holds it for good.
    pub fn describe(&self, shape: &mut Shape) -> Result<(), TraceError> {
        self.try_locked(|reader, ring| {
            let Some(count) = ring.pages.len().checked_sub(1) else {
                return Err(TraceError::Retired);
            };
            if shape.ring.capacity() < count {
                return Err(TraceError::StateShape);
            }
            let (head, _) = self.find_head(reader, ring).ok_or(TraceError::Busy)?;
            map::take_flags(reader, ring);
            let commit = ring.commit.load(Ordering::Acquire);
            shape.reader = ring.pages[reader.page].buf.page_ref(ring.order);
            // A page that was read to its end may have been emptied for an exchange that did not come about.
            let commit_of_reader = ring.pages[reader.page].buf.commit();
            shape.reader_read = reader.read.min(commit_of_reader) as u32;
            shape.ring.clear();
            shape.gaps.clear();
            shape.used = 0;
            let mut at = head;
            for position in 1..=count {
                let page = &ring.pages[at];
                shape.ring.push(page.buf.page_ref(ring.order));
                if at == commit {
                    shape.used = position as u32;
                }
                at = ring.next(at);
            }
            let room = shape.gaps.capacity();
            let gaps = &mut shape.gaps;
            let mut put = |position, lost| {
                if gaps.len() < room {
                    gaps.push(Gap { position, lost });
                } else if let Some(last) = gaps.last_mut() {
                    last.lost = last.lost.saturating_add(lost);
                }
            };
            // What was lost before the reader page and not told yet.
            put(0, gap_size(reader.lost));
            self.refusals(reader, ring, &mut put);
            let first = head_seq_of(reader.base, self.pages_lost.get(), reader.pages_read);
            for (seq, lost) in &reader.gaps {
                // Where the page was overwritten since, it is missing before the head page; what stood before the reader page was taken.
                let position = (seq + 1).saturating_sub(first).max(1);
                // Also before the page that will be begun next.
                if position <= u64::from(shape.used) + 1 {
                    put(position as u32, gap_size(*lost));
                }
            }
            // So that the size stays.
            shape.gaps.resize(room, Gap::default());
            shape.committed = self.committed.get();
            shape.overrun = self.lost(reader);
            shape.commit_overrun = self.commit_overrun.get();
            shape.dropped = self.dropped_events();
            shape.read_events = reader.read_events;
            shape.pages_read = reader.pages_read;
            shape.pages_lost = self.pages_lost.get();
            shape.pages_touched = self.pages_touched.get();
            shape.last_overrun = reader.last_overrun;
            shape.overwrite = self.overwrite.load(Ordering::Relaxed);
            Ok(())
        })?
    }
}

/// As [`Gap`] encodes it.
fn gap_size(lost: Missed) -> u64 {
    match lost {
        Missed::None => 0,
        Missed::Count(n) => n,
        Missed::Unknown => u64::MAX,
    }
}

fn head_seq_of(base: u64, pages_lost: u64, pages_read: u64) -> u64 {
    base.wrapping_add(pages_lost).wrapping_add(pages_read)
}
