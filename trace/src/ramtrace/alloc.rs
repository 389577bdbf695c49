//! Who gets a region's pages: allocation, and what old lives give back.
//!
//! The truth is in the marks; a set of the pages that are nobody's is kept beside them in ordinary memory, made when the region is
//! opened, so that a free page is found without reading them. The bitmaps are written along, for whoever reads the region later: a
//! bit without a mark tells of damage.
//!
//! # What is taken from old lives
//!
//! Where no page is free, event pages of old lives are taken: first those that hold nothing, then those of the oldest life, then of the next. Within a life
//! sub-buffers go that hold nothing, then the others by the time stamp in their header, the oldest first; but within a ring never one
//! before those that were begun before it, whatever a damaged header says. Always whole sub-buffers, and only those that are in the way:
//! for a block of several pages the place is chosen whose youngest sub-buffer is the oldest, so that a ring may lose pages that are
//! not its oldest then.
//!
//! How many a life has lost is counted before each is taken, by one store to each of its metadata pages: a reset between may leave the
//! count one too high, never too low. With its last event page a life loses its state, which nothing needs any more; its log stays until
//! it is erased. The running life counts it as one that was erased. Logs are never taken.
//!
//! # What is set aside
//!
//! A page whose mark is damaged is nobody's. If a bitmap of a life that is kept says that it is that life's, and it holds something, it is given away after all
//! others: as long as it is nobody's, it is told that the life has lost it; when it is given away, it is counted as taken from it. With the life's last event page it is free like any other.
//! Pages of a log, and of a state that reads right, are named by the metadata, too: their marks are written anew.

use super::layout::{RegionError, SLOTS};
use super::life::{Buffer, Life};
use super::mark::{Kind, LIFE_MASK, Owner};
use super::meta;
use super::region::{NO_CPU, Region};
use super::store::{fill_zero, put};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use handover::mem::{Memory, PAGE_SHIFT};
use handover::page::PageRef;

/// Largest order of a block: what a mark can say.
pub const MAX_ORDER: u8 = 15;

/// Most lives without metadata that are told apart when a region is opened; marks of further ones are nobody's.
const MAX_ORPHANS: usize = 64;

/// What is known of a slot.
#[derive(Default)]
pub(super) struct Slot {
    /// The life's number; 0: the slot is free.
    pub number: u64,
    /// Its metadata; `None` where both pages are damaged.
    pub life: Option<Life>,
    /// How often they were written.
    pub updates: u64,
    /// Pages of its buffers.
    pub events: u64,
    /// Pages of its state and its log.
    pub own: u64,
}

impl Slot {
    /// Whether the life has no page.
    pub fn is_empty(&self) -> bool {
        self.events + self.own == 0
    }

    fn count(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Events | Kind::Rest => &mut self.events,
            Kind::State | Kind::Log => &mut self.own,
        }
    }
}

/// What is known of a region's pages.
pub(super) struct Alloc {
    pub slots: [Slot; SLOTS as usize],
    /// The running life's slot.
    pub running: Option<usize>,
    /// Room for a metadata page.
    pub scratch: Vec<u8>,
    nobodys: Pages,
    /// What is set aside: see the module.
    aside: Pages,
    /// How many of those cannot be given away yet.
    kept_aside: u64,
    /// For each order, where the search for a free block goes on: an index.
    hints: [u64; MAX_ORDER as usize + 1],
    prey: Option<Prey>,
}

impl Alloc {
    /// Of a region that has not been read.
    pub fn none() -> Self {
        Alloc {
            slots: Default::default(),
            running: None,
            scratch: Vec::new(),
            nobodys: Pages(Vec::new()),
            aside: Pages(Vec::new()),
            kept_aside: 0,
            hints: [0; MAX_ORDER as usize + 1],
            prey: None,
        }
    }

    /// The slot of the life whose number has these low bits.
    pub fn slot_of(&self, life: u64) -> Option<usize> {
        let is = |slot: &Slot| slot.number != 0 && slot.number & LIFE_MASK == life & LIFE_MASK;
        self.slots.iter().position(is)
    }

    /// The running life's slot, and its number.
    pub fn running(&self) -> Option<(usize, u64)> {
        let slot = self.running?;
        Some((slot, self.slots[slot].number))
    }

    /// The slots of the other lives, the oldest first.
    pub fn old(&self) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let mut slots: [usize; SLOTS as usize] = core::array::from_fn(|slot| slot);
        slots.sort_by_key(|&slot| self.slots[slot].number);
        let wanted = slots.map(|slot| {
            let old = self.slots[slot].number != 0 && self.running != Some(slot);
            old.then_some(slot)
        });
        wanted.into_iter().flatten()
    }
}

/// A set of data pages.
struct Pages(Vec<u64>);

impl Pages {
    /// None of `count` pages.
    fn none(count: u64) -> Result<Self, RegionError> {
        let words = count.div_ceil(64) as usize;
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(words)
            .map_err(|_| RegionError::NoHeap)?;
        pages.resize(words, 0);
        Ok(Pages(pages))
    }

    fn copy(&self) -> Option<Self> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(self.0.len()).ok()?;
        pages.extend_from_slice(&self.0);
        Some(Pages(pages))
    }

    fn has(&self, index: u64) -> bool {
        self.0
            .get((index / 64) as usize)
            .is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    fn set(&mut self, index: u64, on: bool) {
        if let Some(word) = self.0.get_mut((index / 64) as usize) {
            let bit = 1 << (index % 64);
            match on {
                true => *word |= bit,
                false => *word &= !bit,
            }
        }
    }

    fn has_all(&self, first: u64, count: u64) -> bool {
        (first..first + count).all(|index| self.has(index))
    }

    /// The first one of `from..to`.
    fn next(&self, from: u64, to: u64) -> Option<u64> {
        let mut at = from;
        while at < to {
            let word = self.0.get((at / 64) as usize)? >> (at % 64);
            if word != 0 {
                let found = at + u64::from(word.trailing_zeros());
                return (found < to).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

/// What can be taken from old lives: the first pages of blocks, in the order in which they go. A list made once: old lives only lose
/// pages, so that what is not there any more is passed over.
struct Prey {
    list: Vec<u32>,
    /// What stands before this is gone.
    next: usize,
}

/// An event page of an old life, as it is put in order.
struct Victim {
    /// How many lives are older.
    age: u8,
    buffer: u8,
    cpu: u8,
    /// 0 for a page that holds nothing.
    time: u64,
    seq: u64,
    index: u32,
}

/// Sees to it that the pages of a ring, in the order in which they were begun, have no earlier time than the one before. A time that
/// is damaged lies outside those of its neighbours, and is no more than the nearer one of them.
fn in_order(pages: &mut [Victim]) {
    let mut before = 0;
    for at in 0..pages.len() {
        let time = pages[at].time;
        let after = pages.get(at + 1).map_or(u64::MAX, |page| page.time);
        pages[at].time = time.clamp(before.min(after), before.max(after));
        before = time;
    }
    let mut after = u64::MAX;
    for page in pages.iter_mut().rev() {
        page.time = page.time.min(after);
        after = page.time;
    }
}

impl<M: Memory> Region<M> {
    /// Reads all slots and marks. Stores what is needed so that metadata copies agree, and neither a bit nor the mark of a page that
    /// metadata name is missing; gives back pages that belong
    /// to a readable life, but that its metadata do not name, or have as erased.
    pub(super) fn scan(&self) -> Result<Alloc, RegionError> {
        let count = self.geometry.data_pages;
        let mut alloc = Alloc {
            scratch: meta::scratch()?,
            nobodys: Pages::none(count)?,
            aside: Pages::none(count)?,
            ..Alloc::none()
        };
        for slot in 0..alloc.slots.len() {
            alloc.slots[slot] = self.read_slot(slot, &mut alloc.scratch);
        }
        // A number that is there twice is believed where more is known, else of the one that was written more often.
        for slot in 0..alloc.slots.len() {
            for other in 0..alloc.slots.len() {
                let (a, b) = (&alloc.slots[slot], &alloc.slots[other]);
                let worth = |slot: &Slot| (slot.life.is_some(), slot.updates);
                let same = a.number != 0 && b.number != 0 && (a.number ^ b.number) & LIFE_MASK == 0;
                if slot != other && same && worth(a) >= worth(b) {
                    alloc.slots[other] = Slot::default();
                }
            }
        }
        for slot in &alloc.slots {
            slot.life.iter().for_each(|life| self.mark_named(life));
        }
        self.find_orphans(&mut alloc);
        let mut free = 0;
        for index in 0..count {
            let owner = self.owner(index);
            let owned = owner.and_then(|owner| Some((owner, alloc.slot_of(owner.life)?)));
            match owned {
                Some((owner, slot)) => {
                    *alloc.slots[slot].count(owner.kind) += 1;
                    if !self.bit(slot, owner.cpu, index) {
                        self.set_bit(slot, owner.cpu, index, true);
                    }
                }
                None => {
                    if owner.is_some() {
                        // No later life may come to have the number of one that nothing else tells of.
                        self.mark(index).take();
                    }
                    alloc.nobodys.set(index, true);
                    free += 1;
                }
            }
        }
        self.available.store(free, Ordering::Relaxed);
        for slot in 0..alloc.slots.len() {
            if alloc.slots[slot].life.is_none() && alloc.slots[slot].events == 0 {
                // Nothing can be read of it.
                self.release_all(&mut alloc, slot, |_, _| true);
                alloc.slots[slot] = Slot::default();
            } else if let Some(life) = alloc.slots[slot].life.clone() {
                let erased = |number| {
                    let mut buffers = life.buffers.iter();
                    buffers.any(|buffer| buffer.number == number && buffer.is_erased())
                };
                let named = |owner: &Owner, index: u64| match owner.kind {
                    Kind::State => life.state.iter().any(|&page| u64::from(page) == index),
                    Kind::Log => life.log.iter().any(|&page| u64::from(page) == index),
                    Kind::Events | Kind::Rest => !erased(owner.buffer),
                };
                self.release_all(&mut alloc, slot, |owner, index| !named(owner, index));
                let erased = !life.buffers.is_empty() && life.buffers.iter().all(Buffer::is_erased);
                let left = alloc.slots[slot].is_empty() || !life.state.is_empty();
                if erased && alloc.slots[slot].events == 0 && left {
                    self.without_events(&mut alloc, slot);
                }
            }
        }
        for slot in 0..alloc.slots.len() {
            if alloc.slots[slot].number != 0 {
                self.set_aside(&mut alloc, slot);
            }
        }
        Ok(alloc)
    }

    /// Writes anew the marks of pages that a life's metadata name as its own, if they are damaged: metadata name only what is marked, so
    /// that the page has not been anybody else's since. Of a state only if it is as it was written; else it is told that it was lost.
    fn mark_named(&self, life: &Life) {
        let state: &[u32] = match self.read_state(life) {
            Some(_) => &life.state,
            None => &[],
        };
        let state = state.iter().map(|&page| (page, Kind::State));
        let log = life.log.iter().map(|&page| (page, Kind::Log));
        for (index, kind) in state.chain(log).map(|(page, kind)| (u64::from(page), kind)) {
            if index < self.geometry.data_pages && self.owner(index).is_none() {
                let owner = Owner {
                    life: life.number,
                    buffer: 0,
                    cpu: NO_CPU,
                    order: 0,
                    kind,
                };
                self.mark(index).give(owner.encode(index));
            }
        }
    }

    /// Calls `found` with the index of each data page that some bitmap of `slot` has.
    fn in_bitmaps(&self, slot: usize, mut found: impl FnMut(u64)) {
        for word in 0..self.geometry.data_pages.div_ceil(64) {
            let cpus = (0..self.geometry.cpus as u8).chain([NO_CPU]);
            let bits = cpus.fold(0, |bits, cpu| {
                bits | self.bitmap(slot, cpu)[word as usize].load(Ordering::Acquire)
            });
            let set = (0..64).filter(|bit| bits >> bit & 1 != 0);
            let indices = set.map(|bit| word * 64 + bit);
            indices
                .filter(|&index| index < self.geometry.data_pages)
                .for_each(&mut found);
        }
    }

    /// Sets aside what is nobody's, but of the life in `slot` by its bitmaps, and holds something.
    fn set_aside(&self, alloc: &mut Alloc, slot: usize) {
        self.in_bitmaps(slot, |index| {
            if alloc.nobodys.has(index) && self.commit_word(index).load(Ordering::Acquire) != 0 {
                alloc.nobodys.set(index, false);
                alloc.aside.set(index, true);
                alloc.kept_aside += 1;
                self.available.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }

    /// What was set aside for the life in `slot` is free.
    pub(super) fn no_more_aside(&self, alloc: &mut Alloc, slot: usize) {
        self.in_bitmaps(slot, |index| {
            self.give_up(alloc, index);
            alloc.aside.set(index, false);
        });
    }

    /// A page can be given away, if it is set aside and could not yet.
    fn give_up(&self, alloc: &mut Alloc, index: u64) -> bool {
        let could_not = alloc.aside.has(index) && !alloc.nobodys.has(index);
        if could_not {
            alloc.nobodys.set(index, true);
            alloc.kept_aside -= 1;
            self.available.fetch_add(1, Ordering::Relaxed);
        }
        could_not
    }

    /// A block of pages that are free, or would be if nothing was set aside.
    fn find_aside(&self, alloc: &mut Alloc, order: u8) -> Option<u64> {
        let mut any = false;
        for index in 0..self.geometry.data_pages {
            any |= self.give_up(alloc, index);
        }
        any.then(|| self.find(alloc, order))?
    }

    /// A page that was set aside is about to be given away: the old lives that have it by their bitmaps have lost it, which is counted.
    fn lose_aside(&self, alloc: &mut Alloc, index: u64) {
        if !alloc.aside.has(index) {
            return;
        }
        alloc.aside.set(index, false);
        for slot in alloc.old() {
            for cpu in (0..self.geometry.cpus as u8).filter(|&cpu| self.bit(slot, cpu, index)) {
                self.count_taken(alloc, slot);
                self.set_bit(slot, cpu, index, false);
            }
        }
    }

    /// What the metadata pages of a slot say. The better one is written over the other: of two lives that of which the slot's bitmaps tell.
    fn read_slot(&self, slot: usize, scratch: &mut [u8]) -> Slot {
        let pages = self.metadata(slot);
        let [a, b] = pages.map(|page| meta::read(page, scratch));
        let number = a.number.or(b.number).unwrap_or(0);
        let updates = |found: &meta::Found| found.life.as_ref().map(|life| life.1);
        let agrees = |found: &meta::Found| self.agrees(slot, found.number.unwrap_or(0));
        let (good, from, to) = match (updates(&a), updates(&b)) {
            (None, None) => {
                return Slot {
                    number,
                    ..Slot::default()
                };
            }
            // A slot is empty before another life gets it: one of them has come from another slot, and is believed there.
            (Some(_), Some(_)) if a.number != b.number => {
                let (good, from) = match agrees(&a) >= agrees(&b) {
                    true => (a, 0),
                    false => (b, 1),
                };
                meta::set_taken(pages, meta::taken([pages[from]; 2]));
                (good, from, true)
            }
            (of_a, of_b) if of_a >= of_b => (a, 0, of_a != of_b),
            _ => (b, 1, true),
        };
        let taken = meta::taken(pages);
        if to {
            meta::read(pages[from], scratch);
            meta::write(pages[1 - from], scratch);
        }
        let mut slot = Slot::default();
        if let Some((mut life, updates)) = good.life {
            life.taken_pages = life.taken_pages.max(taken);
            slot.number = life.number;
            slot.updates = updates;
            slot.life = Some(life);
        }
        slot
    }

    /// The pages of events that are somebody's by their marks, and whose.
    fn event_pages(&self) -> impl Iterator<Item = (u64, Owner)> {
        let owners = (0..self.geometry.data_pages).map(|index| (index, self.owner(index)));
        owners.filter_map(|(index, owner)| match owner {
            Some(owner) if owner.kind == Kind::Events && owner.life != 0 => Some((index, owner)),
            _ => None,
        })
    }

    /// Of how many pages of a life's events the bitmaps of `slot` say what the marks say.
    fn agrees(&self, slot: usize, number: u64) -> u64 {
        let of_it = |(_, owner): &(u64, Owner)| owner.life == number & LIFE_MASK;
        let pages = self.event_pages().filter(of_it);
        pages
            .map(|(index, owner)| u64::from(self.bit(slot, owner.cpu, index)))
            .sum()
    }

    /// Lives that are known by their marks only get slots in which no other is: those with most pages, each the slot whose bitmaps say
    /// most of what the marks say.
    fn find_orphans(&self, alloc: &mut Alloc) {
        let mut orphans: [(u64, u64); MAX_ORPHANS] = [(0, 0); MAX_ORPHANS];
        for (_, owner) in self.event_pages() {
            if alloc.slot_of(owner.life).is_some() {
                continue;
            }
            let at = |orphan: &&mut (u64, u64)| orphan.0 == owner.life || orphan.1 == 0;
            if let Some(orphan) = orphans.iter_mut().find(at) {
                *orphan = (owner.life, orphan.1 + 1);
            }
        }
        orphans.sort_by_key(|&(number, pages)| (u64::MAX - pages, number));
        for (number, _) in orphans.into_iter().take_while(|orphan| orphan.1 != 0) {
            let free = (0..alloc.slots.len()).filter(|&slot| alloc.slots[slot].number == 0);
            match free.max_by_key(|&slot| self.agrees(slot, number)) {
                Some(slot) => alloc.slots[slot].number = number,
                None => break,
            }
        }
    }

    /// The owner of a data page, if its mark is good, and names a CPU that there can be.
    pub(super) fn owner(&self, index: u64) -> Option<Owner> {
        let owner = Owner::decode(self.marks().at(index)?.owner(), index)?;
        let good = owner.cpu == NO_CPU || u32::from(owner.cpu) < self.geometry.cpus;
        good.then_some(owner)
    }

    /// Pages of the block that begins at `index` and belongs to `head`: only those whose marks say so, too.
    pub(super) fn block(&self, index: u64, head: &Owner) -> u64 {
        let rest = match head.kind {
            Kind::Rest => return 1,
            _ => Owner {
                kind: Kind::Rest,
                ..*head
            },
        };
        let more = (1..1 << head.order).take_while(|at| self.owner(index + at) == Some(rest));
        1 + more.count() as u64
    }

    /// A block of `1 << order` pages in a row, aligned to its size, for `cpu` (of the life itself: [`NO_CPU`]) and a buffer. Its content is
    /// zero, it is marked, and in the CPU's bitmap. Where nothing is free, event pages of old lives are taken (see the module), unless
    /// somebody reads those. `None` where there is none, no life runs, or CPU or order is one that cannot be.
    ///
    /// Takes a spin lock: to be called where nothing is interrupted that may hold it.
    pub fn alloc(&self, cpu: u8, buffer: u8, order: u8, kind: Kind) -> Option<PageRef> {
        let index = self.alloc_in(&mut self.alloc.lock(), cpu, buffer, order, kind)?;
        Some(PageRef {
            pa: self.marks().address(index),
            order,
        })
    }

    /// A page for events of the top instance on `cpu`.
    pub fn alloc_page(&self, cpu: u8) -> Option<PageRef> {
        self.alloc(cpu, 0, 0, Kind::Events)
    }

    /// Data pages that are nobody's: what can be allocated without taking any from an old life.
    pub fn pages_available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// Data pages that can be had, those of old lives' events with them: what is more is refused before any of them is taken.
    pub fn pages_obtainable(&self) -> u64 {
        let alloc = self.alloc.lock();
        let old = match self.held.load(Ordering::Acquire) {
            0 => alloc.old().map(|slot| alloc.slots[slot].events).sum(),
            _ => 0,
        };
        self.pages_available() + alloc.kept_aside + old
    }

    /// Old lives that have lost all of their events since the region was opened, for it was full.
    pub fn lives_taken(&self) -> u32 {
        self.lives_taken.load(Ordering::Relaxed)
    }

    /// As [`alloc`](Self::alloc), by index.
    pub(super) fn alloc_in(
        &self,
        alloc: &mut Alloc,
        cpu: u8,
        buffer: u8,
        order: u8,
        kind: Kind,
    ) -> Option<u64> {
        let (slot, life) = alloc.running()?;
        if order > MAX_ORDER || kind == Kind::Rest {
            return None;
        }
        if cpu != NO_CPU && u32::from(cpu) >= self.geometry.cpus {
            return None;
        }
        let found = self
            .find(alloc, order)
            .or_else(|| self.find_aside(alloc, order));
        let first = match found {
            Some(first) => first,
            None => self.take_from_old(alloc, order)?,
        };
        let owner = |kind| Owner {
            life,
            buffer,
            cpu,
            order,
            kind,
        };
        let pages = 1u64 << order;
        for index in first..first + pages {
            self.lose_aside(alloc, index);
            fill_zero(self.data(index));
        }
        // The first page last: a block whose first page is marked is whole.
        for index in (first..first + pages).rev() {
            let owner = owner(if index == first { kind } else { Kind::Rest });
            self.mark(index).give(owner.encode(index));
            self.set_bit(slot, cpu, index, true);
            alloc.nobodys.set(index, false);
            *alloc.slots[slot].count(owner.kind) += 1;
        }
        self.available.fetch_sub(pages, Ordering::Relaxed);
        Some(first)
    }

    /// The first index at or after `index` at which a block of `pages` pages may begin.
    fn aligned(&self, index: u64, pages: u64) -> u64 {
        let base = self.marks().address(0) >> PAGE_SHIFT;
        (base + index).next_multiple_of(pages) - base
    }

    /// A block of free pages.
    fn find(&self, alloc: &mut Alloc, order: u8) -> Option<u64> {
        let pages = 1 << order;
        if self.pages_available() < pages {
            return None;
        }
        let hint = alloc.hints[usize::from(order)];
        let count = self.geometry.data_pages;
        let found = self
            .find_between(&alloc.nobodys, hint, count, pages)
            .or_else(|| self.find_between(&alloc.nobodys, 0, (hint + pages).min(count), pages))?;
        alloc.hints[usize::from(order)] = found + pages;
        Some(found)
    }

    fn find_between(&self, free: &Pages, from: u64, to: u64, pages: u64) -> Option<u64> {
        let mut at = from;
        loop {
            let first = free.next(at, to)?;
            let start = self.aligned(first, pages);
            if start + pages > to {
                return None;
            }
            if free.has_all(start, pages) {
                return Some(start);
            }
            // Nothing begins before the next place: also where `start` is behind `first`.
            at = start + 1;
        }
    }

    /// Gives back a block of the running life. One that is not allocated so (another order, no first page) stays as it is.
    pub fn free(&self, page: PageRef) {
        self.free_if(page, |_| true);
    }

    /// Gives back a block of the running life that `cpu` owns. Another's stays as it is.
    pub fn free_page(&self, page: PageRef, cpu: u8) {
        self.free_if(page, |owner| owner.cpu == cpu);
    }

    fn free_if(&self, page: PageRef, wanted: impl FnOnce(&Owner) -> bool) {
        let mut alloc = self.alloc.lock();
        let Some(((slot, life), index)) = alloc.running().zip(self.marks().index(page.pa)) else {
            return;
        };
        if let Some(owner) = self.owner(index)
            && owner.life == life & LIFE_MASK
            && owner.kind != Kind::Rest
            && owner.order == page.order
            && self.marks().address(index) == page.pa
            && wanted(&owner)
        {
            self.release_block(&mut alloc, slot, index, &owner);
        }
    }

    /// Gives back a block of the life in `slot`.
    pub(super) fn release_block(&self, alloc: &mut Alloc, slot: usize, index: u64, head: &Owner) {
        for at in index..index + self.block(index, head) {
            let owner = Owner {
                kind: if at == index { head.kind } else { Kind::Rest },
                ..*head
            };
            self.release(alloc, slot, at, &owner);
        }
    }

    /// Gives back one page of the life in `slot`. In this order of stores: see the module above.
    fn release(&self, alloc: &mut Alloc, slot: usize, index: u64, owner: &Owner) {
        let mark = self.mark(index);
        if owner.kind != Kind::Rest {
            // Until it is empty it is a page like any that was not sealed yet.
            mark.unseal(mark.seq());
            put(self.commit_word(index), 0);
        }
        self.set_bit(slot, owner.cpu, index, false);
        mark.take();
        let count = alloc.slots[slot].count(owner.kind);
        *count = count.saturating_sub(1);
        alloc.nobodys.set(index, true);
        self.available.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives back all pages of the life in `slot` that are `wanted`.
    pub(super) fn release_all(
        &self,
        alloc: &mut Alloc,
        slot: usize,
        wanted: impl Fn(&Owner, u64) -> bool,
    ) {
        let life = alloc.slots[slot].number;
        if life == 0 || alloc.slots[slot].is_empty() {
            return;
        }
        for index in 0..self.geometry.data_pages {
            if let Some(owner) = self.owner(index)
                && owner.life == life & LIFE_MASK
                && wanted(&owner, index)
            {
                self.release(alloc, slot, index, &owner);
            }
        }
    }

    /// The oldest event pages of old lives are given back until there is a block of `order`: its first page.
    fn take_from_old(&self, alloc: &mut Alloc, order: u8) -> Option<u64> {
        if self.held.load(Ordering::Acquire) != 0 {
            return None;
        }
        let mut prey = match alloc.prey.take() {
            Some(prey) => prey,
            None => self.list_prey(alloc)?,
        };
        let found = self.hunt(alloc, &mut prey, 1 << order);
        alloc.prey = Some(prey);
        found
    }

    /// The block of an old life that begins at `index`, if it is still one that can be taken.
    fn victim(&self, alloc: &Alloc, index: u64) -> Option<(usize, Owner)> {
        let owner = self.owner(index)?;
        let slot = alloc.slot_of(owner.life)?;
        let can_be = alloc.running != Some(slot) && matches!(owner.kind, Kind::Events | Kind::Rest);
        can_be.then_some((slot, owner))
    }

    fn hunt(&self, alloc: &mut Alloc, prey: &mut Prey, pages: u64) -> Option<u64> {
        // As if all were taken, one after the other, until there is room.
        let mut free = match pages {
            1 => Pages(Vec::new()),
            _ => alloc.nobodys.copy()?,
        };
        let mut room = None;
        let mut end = prey.next;
        'search: while let Some(&index) = prey.list.get(end) {
            let index = u64::from(index);
            end += 1;
            let Some((_, owner)) = self.victim(alloc, index) else {
                if end == prey.next + 1 {
                    prey.next = end;
                }
                continue;
            };
            if pages == 1 {
                room = Some(index);
                break;
            }
            let after = index + self.block(index, &owner);
            (index..after).for_each(|at| free.set(at, true));
            // The first place whose block reaches to `index`.
            let mut start = self.aligned((index + 1).saturating_sub(pages), pages);
            while start < after && start + pages <= self.geometry.data_pages {
                if free.has_all(start, pages) {
                    room = Some(start);
                    break 'search;
                }
                start += pages;
            }
        }
        let room = room?;
        for at in prey.next..end {
            let index = u64::from(prey.list[at]);
            let Some((slot, owner)) = self.victim(alloc, index) else {
                continue;
            };
            if index < room + pages && room < index + self.block(index, &owner) {
                self.take_block(alloc, slot, index, &owner);
            }
        }
        Some(room)
    }

    /// Takes a block of an old life's events, which is counted if it holds any.
    fn take_block(&self, alloc: &mut Alloc, slot: usize, index: u64, owner: &Owner) {
        if owner.kind == Kind::Events && !self.is_blank(index) {
            self.count_taken(alloc, slot);
        }
        if alloc.slots[slot].events <= self.block(index, owner) {
            self.count_life_taken(alloc);
        }
        self.release_block(alloc, slot, index, owner);
        if alloc.slots[slot].events == 0 {
            self.without_events(alloc, slot);
        }
    }

    /// Counts one more event page that the life in `slot` has lost to a later one.
    fn count_taken(&self, alloc: &mut Alloc, slot: usize) {
        let life = alloc.slots[slot].life.as_mut();
        let taken = life.map(|life| {
            life.taken_pages = life.taken_pages.saturating_add(1);
            life.taken_pages
        });
        let pages = self.metadata(slot);
        meta::set_taken(pages, taken.unwrap_or_else(|| meta::taken(pages) + 1));
    }

    /// Counts one more life that is erased for the running one: in the metadata of that, which outlive the other's.
    fn count_life_taken(&self, alloc: &mut Alloc) {
        self.lives_taken.fetch_add(1, Ordering::Relaxed);
        if let Some((slot, _)) = alloc.running()
            && let Some(mut life) = alloc.slots[slot].life.clone()
        {
            life.erased_lives = life.erased_lives.saturating_add(1);
            // Metadata of the same length fit.
            let _ = self.write(alloc, slot, life);
        }
    }

    /// A life has lost its last event page: its state goes, too, and the slot if nothing is left.
    pub(super) fn without_events(&self, alloc: &mut Alloc, slot: usize) {
        if let Some(mut life) = alloc.slots[slot].life.clone() {
            life.buffers.iter_mut().for_each(|one| one.pages.clear());
            life.state.clear();
            (life.state_len, life.state_crc) = (0, 0);
            // Metadata that are shorter than before fit.
            let _ = self.write(alloc, slot, life);
        }
        self.release_all(alloc, slot, |owner, _| owner.kind == Kind::State);
        self.no_more_aside(alloc, slot);
        if alloc.slots[slot].is_empty() {
            self.clear_slot(alloc, slot);
        }
    }

    /// A life loses its log, and its slot if nothing is left.
    pub(super) fn without_log(&self, alloc: &mut Alloc, slot: usize) {
        if let Some(mut life) = alloc.slots[slot].life.clone()
            && !life.log.is_empty()
        {
            // First: no page is named that somebody else may get.
            life.log.clear();
            // As above.
            let _ = self.write(alloc, slot, life);
        }
        self.release_all(alloc, slot, |owner, _| owner.kind == Kind::Log);
        if alloc.slots[slot].is_empty() {
            self.clear_slot(alloc, slot);
        }
    }

    /// A life loses all that it has, and its slot: events as long as there is a state that explains them.
    pub(super) fn erase_slot(&self, alloc: &mut Alloc, slot: usize) {
        self.forget_prey(alloc);
        if let Some(mut life) = alloc.slots[slot].life.clone() {
            // First: what a reset leaves of it is not shown as damage, but goes at the next start.
            life.buffers.iter_mut().for_each(|one| one.pages.clear());
            // Metadata that are shorter than before fit.
            let _ = self.write(alloc, slot, life);
        }
        self.release_all(alloc, slot, |owner, _| {
            matches!(owner.kind, Kind::Events | Kind::Rest)
        });
        self.without_events(alloc, slot);
        self.without_log(alloc, slot);
        self.clear_slot(alloc, slot);
    }

    /// Whether an event page holds nothing.
    fn is_blank(&self, index: u64) -> bool {
        self.commit_word(index).load(Ordering::Acquire) & crate::page::COMMIT_MASK == 0
    }

    fn list_prey(&self, alloc: &Alloc) -> Option<Prey> {
        let mut ages = [0u8; SLOTS as usize];
        for (age, slot) in alloc.old().enumerate() {
            ages[slot] = age as u8;
        }
        let events: u64 = alloc.old().map(|slot| alloc.slots[slot].events).sum();
        let mut victims: Vec<Victim> = Vec::new();
        victims.try_reserve_exact(events as usize).ok()?;
        let mut covered = Pages::none(self.geometry.data_pages).ok()?;
        for index in 0..self.geometry.data_pages {
            let Some((slot, owner)) = self.victim(alloc, index) else {
                continue;
            };
            let blank = owner.kind == Kind::Rest || self.is_blank(index);
            if owner.kind == Kind::Events {
                let after = index + self.block(index, &owner);
                (index..after).for_each(|at| covered.set(at, true));
            } else if covered.has(index) {
                continue;
            }
            if victims.len() == victims.capacity() {
                // More than were counted: some will do.
                break;
            }
            victims.push(Victim {
                age: ages[slot],
                buffer: owner.buffer,
                cpu: owner.cpu,
                time: if blank {
                    0
                } else {
                    self.time_stamp(index).max(1)
                },
                seq: self.mark(index).seq(),
                index: index as u32,
            });
        }
        let ring = |v: &Victim| (v.age, v.buffer, v.cpu, v.time != 0);
        victims.sort_unstable_by_key(|v| (ring(v), v.seq, v.index));
        for pages in victims.chunk_by_mut(|a, b| ring(a) == ring(b)) {
            in_order(pages);
        }
        // Pages that hold nothing first, whose ever they are.
        victims.sort_unstable_by_key(|v| (v.time != 0, v.age, v.time, v.seq, v.index));
        let mut list = Vec::new();
        list.try_reserve_exact(victims.len()).ok()?;
        list.extend(victims.iter().map(|victim| victim.index));
        Some(Prey { list, next: 0 })
    }

    /// Old lives are not as they were.
    pub(super) fn forget_prey(&self, alloc: &mut Alloc) {
        alloc.prey = None;
    }
}
