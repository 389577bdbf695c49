//! A region: its lives, and what is known of each.

use super::alloc::{Alloc, Slot};
use super::layout::{ALIGN, Geometry, RegionError, SLOTS, SUPERBLOCK_SIZE, Superblock};
use super::life::Life;
use super::log::{Log, MAX_LOG_PAGES, MIN_LOG_PAGES};
use super::mark::{Kind, LIFE_MASK, Mark, Marks};
use super::meta;
use super::store::{fill_zero, get_bytes, put, put_bytes};
use crate::sync::Mutex;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use handover::mem::{Memory, PAGE_SIZE};
use handover::range::PhysRange;

/// The owner's CPU, in bitmaps and marks, of what belongs to the life itself.
pub const NO_CPU: u8 = u8::MAX;

/// Most pages of a life's state: 1 MiB.
pub const MAX_STATE_PAGES: usize = 256;

/// A range of RAM that outlives a reset, as the running life uses it.
///
/// All of it is safe to be called on any CPU; what is not said to be otherwise takes a spin lock, and is for task context.
pub struct Region<M: Memory> {
    mem: M,
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    marks: Marks,
    pub(super) alloc: Mutex<Alloc>,
    pub(super) log: Mutex<Log>,
    /// Lines that were not logged, since the lock was held for too long.
    pub(super) not_logged: AtomicU64,
    /// The running life's number; 0: none.
    life: AtomicU64,
    /// Data pages that are nobody's.
    pub(super) available: AtomicU64,
    /// How many hold the old lives as they are.
    pub(super) held: AtomicU32,
    /// See [`lives_taken`](Self::lives_taken).
    pub(super) lives_taken: AtomicU32,
}

/// What a life says of itself when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    /// The kernel's release.
    pub release: &'a str,
    /// [`Platform::build`](crate::Platform::build) of it.
    pub build: u64,
    /// Drawn anew at each cold start.
    pub boot_id: [u8; 16],
    /// CPUs that it has.
    pub cpus: u32,
    /// The clock of the top instance.
    pub clock: &'a str,
    /// The tracer of the top instance.
    pub tracer: &'a str,
}

/// In the form of a UUID.
fn uuid(bytes: [u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.into_iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        };
        let _ = write!(text, "{dash}{byte:02x}");
    }
    text
}

/// The words of `pages` pages of a region from `pa` on, where they are RAM.
fn words<M: Memory>(mem: &M, pa: u64, pages: u64) -> Option<&[AtomicU64]> {
    let len = usize::try_from(pages.checked_mul(PAGE_SIZE)?).ok()?;
    if !pa.is_multiple_of(PAGE_SIZE) {
        return None;
    }
    let start = mem.ptr(pa, len)?;
    // SAFETY: `ptr` vouches for `len` bytes that stay mapped, readable and writable as long as the program runs; they begin at
    // a page's boundary, so that the words are aligned. A region is nobody else's memory (its maker's promise: `format`, `open`), and
    // what is in it is accessed through atomics only.
    Some(unsafe { core::slice::from_raw_parts(start.cast().as_ptr(), len / 8) })
}

/// Whether a region can be there: that of `cpus` CPUs, if its range is all RAM.
fn check<M: Memory>(mem: &M, range: PhysRange, cpus: u32) -> Result<Geometry, RegionError> {
    if !range.start.is_multiple_of(ALIGN) || range.is_empty() {
        return Err(RegionError::Range(range));
    }
    let geometry = Geometry::new(range.len(), cpus).map_err(|error| match error {
        RegionError::Range(_) => RegionError::Range(range),
        error => error,
    })?;
    match words(mem, range.start, geometry.pages) {
        Some(_) => Ok(geometry),
        None => Err(RegionError::NotReachable(range)),
    }
}

impl<M: Memory> Region<M> {
    /// Makes `range` an empty region for lives of up to `cpus` CPUs: superblocks, empty slots, no page with an owner. Whatever was there
    /// is gone, also when a reset comes before the end; then there is no region.
    ///
    /// # Safety
    ///
    /// What of `range` is RAM is no allocator's, and nobody else's who reads or writes it, as long as the program runs. (For the region
    /// to be found later, that has to be so in all lives until then; this is no question of safety.)
    ///
    /// # Errors
    ///
    /// [`RegionError::Range`], [`RegionError::Cpus`], [`RegionError::NotReachable`]; nothing is written then.
    pub unsafe fn format(mem: &M, range: PhysRange, cpus: u32) -> Result<(), RegionError> {
        let geometry = check(mem, range, cpus)?;
        let unreachable = RegionError::NotReachable(range);
        let pages = |page: u64, count: u64| {
            words(mem, range.start + page * PAGE_SIZE, count).ok_or(unreachable)
        };
        let (first, last) = (pages(0, 1)?, pages(geometry.pages - 1, 1)?);
        for superblock in [first, last] {
            put(&superblock[0], 0);
            fill_zero(superblock);
        }
        fill_zero(pages(1, geometry.data - 1)?);
        let bytes = Superblock { range, cpus }.encode();
        for superblock in [last, first] {
            put_bytes(superblock, &bytes);
        }
        Ok(())
    }

    /// Opens the region in `range`: either superblock will do, and the other one is repaired, like a damaged copy of metadata. No life
    /// runs yet: next comes [`begin_life`](Self::begin_life) or [`go_on`](Self::go_on). Reads all marks.
    ///
    /// # Safety
    ///
    /// What of `range` is RAM is no allocator's, and nobody else's who reads or writes it, as long as the program runs. Of several regions
    /// that were opened in it only the last one is used: each would give pages away that are somebody's by another one.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoSuperblock`] (also where one names another range), [`RegionError::Version`], [`RegionError::Range`],
    /// [`RegionError::NotReachable`], [`RegionError::NoHeap`].
    pub unsafe fn open(mem: M, range: PhysRange) -> Result<Self, RegionError> {
        check(&mem, range, 1)?;
        let block = |pa: u64| {
            let words = words(&mem, pa, 1).ok_or(RegionError::NotReachable(range))?;
            let mut bytes = [0; SUPERBLOCK_SIZE];
            get_bytes(words, &mut bytes);
            let found = Superblock::decode(&bytes).and_then(|block| match block.range == range {
                true => Ok(block),
                false => Err(RegionError::NoSuperblock),
            });
            Ok((words, found))
        };
        let (first, in_first) = block(range.start)?;
        let (last, in_last) = block(range.end - PAGE_SIZE)?;
        let superblock = match (in_first, in_last) {
            (Ok(found), _) | (_, Ok(found)) => found,
            (Err(RegionError::NoSuperblock), Err(error)) | (Err(error), Err(_)) => {
                return Err(error);
            }
        };
        for (words, found) in [(first, in_first), (last, in_last)] {
            if found != Ok(superblock) {
                put_bytes(words, &superblock.encode());
            }
        }
        let geometry = check(&mem, range, superblock.cpus)?;
        let at = |page: u64| range.start + page * PAGE_SIZE;
        let table = mem
            .ptr(
                at(geometry.marks),
                ((geometry.data - geometry.marks) * PAGE_SIZE) as usize,
            )
            .ok_or(RegionError::NotReachable(range))?;
        // SAFETY: the table begins at a page's boundary, and has room for a mark of each data page (`Geometry`); it stays mapped, and the
        // region is nobody else's memory.
        let marks = unsafe { Marks::new(table, at(geometry.data), geometry.data_pages) };
        let region = Region {
            mem,
            superblock,
            geometry,
            marks,
            alloc: Mutex::new(Alloc::none()),
            log: Mutex::new(Log::default()),
            not_logged: AtomicU64::new(0),
            life: AtomicU64::new(0),
            available: AtomicU64::new(0),
            lives_taken: AtomicU32::new(0),
            held: AtomicU32::new(0),
        };
        let found = region.scan()?;
        *region.alloc.lock() = found;
        Ok(region)
    }

    /// The words of `pages` pages of the region from `page` on.
    fn words(&self, page: u64, pages: u64) -> &[AtomicU64] {
        words(
            &self.mem,
            self.superblock.range.start + page * PAGE_SIZE,
            pages,
        )
        .expect("all of the region was reached when it was opened")
    }

    /// The memory that it lies in.
    pub(super) fn memory(&self) -> &M {
        &self.mem
    }

    /// The marks of its data pages.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// The mark of a data page; `index` is one.
    pub(super) fn mark(&self, index: u64) -> &'static Mark {
        self.marks.at(index).expect("a data page's index")
    }

    /// Where it lies.
    pub fn range(&self) -> PhysRange {
        self.superblock.range
    }

    /// Most CPUs that can own pages.
    pub fn cpus(&self) -> u32 {
        self.geometry.cpus
    }

    /// Whether the page at `pa` is a data page of this region.
    pub fn owns(&self, pa: u64) -> bool {
        self.marks.index(pa).is_some()
    }

    /// The words of a data page; `index` is one.
    pub(super) fn data(&self, index: u64) -> &[AtomicU64] {
        assert!(index < self.geometry.data_pages, "a data page's index");
        self.words(self.geometry.data + index, 1)
    }

    /// The time stamp in the header of an event page.
    pub(super) fn time_stamp(&self, index: u64) -> u64 {
        self.data(index)[0].load(Ordering::Acquire)
    }

    /// The commit word in the header of an event page.
    pub(super) fn commit_word(&self, index: u64) -> &AtomicU64 {
        &self.data(index)[1]
    }

    /// The metadata pages of a slot, A and B.
    pub(super) fn metadata(&self, slot: usize) -> [&[AtomicU64]; 2] {
        let page = 1 + slot as u64 * self.geometry.slot_pages;
        [self.words(page, 1), self.words(page + 1, 1)]
    }

    /// The words of a bitmap of `slot`: what `cpu`, which is one of the region's or [`NO_CPU`], owns.
    pub(super) fn bitmap(&self, slot: usize, cpu: u8) -> &[AtomicU64] {
        let at = match cpu {
            NO_CPU => u64::from(self.geometry.cpus),
            cpu => u64::from(cpu),
        };
        assert!(
            at <= u64::from(self.geometry.cpus),
            "one of the region's CPUs"
        );
        let pages = self.geometry.bitmap_pages;
        let first = 1 + slot as u64 * self.geometry.slot_pages + 2 + at * pages;
        &self.words(first, pages)[..self.geometry.data_pages.div_ceil(64) as usize]
    }

    pub(super) fn bit(&self, slot: usize, cpu: u8, index: u64) -> bool {
        let word = self.bitmap(slot, cpu)[(index / 64) as usize].load(Ordering::Acquire);
        word >> (index % 64) & 1 != 0
    }

    /// Under the lock: nobody else changes a bitmap.
    pub(super) fn set_bit(&self, slot: usize, cpu: u8, index: u64, on: bool) {
        let word = &self.bitmap(slot, cpu)[(index / 64) as usize];
        let (before, bit) = (word.load(Ordering::Acquire), 1 << (index % 64));
        put(word, if on { before | bit } else { before & !bit });
    }

    /// Begins a life with a number higher than those of all others: in a free slot, else in that of the oldest life, which is erased
    /// (counted in [`Life::erased_lives`]). Gives it a log of `log_pages` pages, or of as many as there are; of fewer than
    /// [`MIN_LOG_PAGES`] there is none.
    ///
    /// # Errors
    ///
    /// [`RegionError::Runs`], [`RegionError::MetadataRoom`]; [`RegionError::Busy`] where a life has to be erased that is being read.
    /// Nothing has changed then.
    pub fn begin_life(&self, beginning: &Beginning<'_>, log_pages: u32) -> Result<(), RegionError> {
        let mut guard = self.alloc.lock();
        let alloc = &mut *guard;
        if let Some((_, number)) = alloc.running() {
            return Err(RegionError::Runs(number));
        }
        let (slot, erased) = match alloc.slots.iter().position(|slot| slot.number == 0) {
            Some(free) => (free, 0),
            // One that has nothing is no loss.
            None => match alloc.old().find(|&slot| alloc.slots[slot].is_empty()) {
                Some(empty) => (empty, 0),
                None => (alloc.old().next().unwrap_or(0), 1),
            },
        };
        if erased != 0 && self.held.load(Ordering::Acquire) != 0 {
            return Err(RegionError::Busy);
        }
        let highest = alloc.slots.iter().map(|slot| slot.number).max();
        let mut number = highest.unwrap_or(0) + 1;
        // Marks keep the low bits only. At most all slots are in the way.
        while number & LIFE_MASK == 0 || alloc.slot_of(number).is_some() {
            number += 1;
        }
        let life = Life {
            number,
            boot_id: uuid(beginning.boot_id),
            release: beginning.release.into(),
            build: beginning.build,
            cpus: beginning.cpus,
            clock: beginning.clock.into(),
            tracer: beginning.tracer.into(),
            erased_lives: erased,
            ..Life::default()
        };
        meta::encode(&life, 1, &mut alloc.scratch)?;
        self.erase_slot(alloc, slot);
        alloc.slots[slot] = Slot {
            number,
            ..Slot::default()
        };
        self.write(alloc, slot, life)?;
        self.start(alloc, slot);
        let wanted = (log_pages as usize).min(MAX_LOG_PAGES);
        let mut log = Vec::new();
        if wanted >= MIN_LOG_PAGES && log.try_reserve_exact(wanted).is_ok() {
            while log.len() < wanted {
                match self.alloc_in(alloc, NO_CPU, 0, 0, Kind::Log) {
                    Some(index) => log.push(index as u32),
                    None => break,
                }
            }
            self.give_log(alloc, slot, log);
        }
        Ok(())
    }

    /// Has the running life log to these pages, if they are enough and its metadata can name them; else they are given back.
    fn give_log(&self, alloc: &mut Alloc, slot: usize, log: Vec<u32>) {
        let mut life = alloc.slots[slot].life.clone().unwrap_or_default();
        life.log.clone_from(&log);
        if log.len() >= MIN_LOG_PAGES && self.write(alloc, slot, life).is_ok() {
            *self.log.lock() = Log::new(log);
        } else {
            self.release_all(alloc, slot, |owner, _| owner.kind == Kind::Log);
        }
    }

    /// After a kexec that handed over life `number` of this region: it goes on, with its log.
    ///
    /// # Errors
    ///
    /// [`RegionError::Runs`]; [`RegionError::NoLife`], also where its metadata cannot be read.
    pub fn go_on(&self, number: u64) -> Result<(), RegionError> {
        let mut alloc = self.alloc.lock();
        if let Some((_, running)) = alloc.running() {
            return Err(RegionError::Runs(running));
        }
        let life = |slot: &Slot| slot.life.clone().filter(|life| life.number == number);
        let mut slots = alloc.slots.iter().enumerate();
        let found = slots.find_map(|(at, slot)| Some((at, life(slot)?)));
        let (slot, life) = found.ok_or(RegionError::NoLife(number))?;
        *self.log.lock() = self.resume_log(&life);
        self.start(&mut alloc, slot);
        Ok(())
    }

    fn start(&self, alloc: &mut Alloc, slot: usize) {
        alloc.running = Some(slot);
        self.forget_prey(alloc);
        self.life.store(alloc.slots[slot].number, Ordering::Release);
    }

    /// The running life's number; 0: none runs. Takes no lock.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// The running life's metadata.
    pub fn info(&self) -> Option<Life> {
        let alloc = self.alloc.lock();
        let (slot, _) = alloc.running()?;
        alloc.slots[slot].life.clone()
    }

    /// Changes the running life's metadata, A and B. Its number, and what the region itself keeps there (log, state, counts of what
    /// was taken and erased), stay as they are.
    ///
    /// # Errors
    ///
    /// [`RegionError::NotBegun`]; [`RegionError::MetadataRoom`], and nothing has changed.
    pub fn update(&self, change: impl FnOnce(&mut Life)) -> Result<(), RegionError> {
        let mut alloc = self.alloc.lock();
        let (slot, _) = alloc.running().ok_or(RegionError::NotBegun)?;
        let before = alloc.slots[slot].life.clone().unwrap_or_default();
        let mut life = before.clone();
        change(&mut life);
        let life = Life {
            number: before.number,
            log: before.log,
            state: before.state,
            state_len: before.state_len,
            state_crc: before.state_crc,
            taken_pages: before.taken_pages,
            erased_lives: before.erased_lives,
            ..life
        };
        self.write(&mut alloc, slot, life)
    }

    /// Writes the metadata of the life in `slot`: A whole, then B whole.
    pub(super) fn write(
        &self,
        alloc: &mut Alloc,
        slot: usize,
        life: Life,
    ) -> Result<(), RegionError> {
        let updates = alloc.slots[slot].updates.wrapping_add(1);
        let used = meta::encode(&life, updates, &mut alloc.scratch)?;
        for page in self.metadata(slot) {
            meta::write(page, &alloc.scratch[..used]);
        }
        alloc.slots[slot].updates = updates;
        alloc.slots[slot].life = Some(life);
        Ok(())
    }

    /// Nobody has the slot any more.
    pub(super) fn clear_slot(&self, alloc: &mut Alloc, slot: usize) {
        self.no_more_aside(alloc, slot);
        for page in self.metadata(slot) {
            meta::clear(page);
        }
        for cpu in (0..self.geometry.cpus as u8).chain([NO_CPU]) {
            for word in self.bitmap(slot, cpu) {
                if word.load(Ordering::Acquire) != 0 {
                    put(word, 0);
                }
            }
        }
        alloc.slots[slot] = Slot::default();
    }

    /// Keeps the running life's state, in place of what was kept before: a stream that explains what is in the pages.
    ///
    /// # Errors
    ///
    /// [`RegionError::NotBegun`], [`RegionError::StateSize`], [`RegionError::Full`], [`RegionError::MetadataRoom`],
    /// [`RegionError::NoHeap`]; the state before is kept then.
    pub fn save_state(&self, bytes: &[u8]) -> Result<(), RegionError> {
        let wanted = bytes.len().div_ceil(PAGE_SIZE as usize);
        if wanted > MAX_STATE_PAGES {
            return Err(RegionError::StateSize(bytes.len()));
        }
        let mut guard = self.alloc.lock();
        let alloc = &mut *guard;
        let (slot, _) = alloc.running().ok_or(RegionError::NotBegun)?;
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(wanted)
            .map_err(|_| RegionError::NoHeap)?;
        for part in bytes.chunks(PAGE_SIZE as usize) {
            let Some(index) = self.alloc_in(alloc, NO_CPU, 0, 0, Kind::State) else {
                self.free_own(alloc, slot, &pages);
                return Err(RegionError::Full(wanted as u32));
            };
            put_bytes(self.data(index), part);
            pages.push(index as u32);
        }
        let mut life = alloc.slots[slot].life.clone().unwrap_or_default();
        let before = core::mem::replace(&mut life.state, pages.clone());
        life.state_len = bytes.len() as u32;
        life.state_crc = crc32fast::hash(bytes);
        let written = self.write(alloc, slot, life);
        self.free_own(alloc, slot, if written.is_ok() { &before } else { &pages });
        written
    }

    /// Gives back pages of the running life's state.
    fn free_own(&self, alloc: &mut Alloc, slot: usize, pages: &[u32]) {
        let life = alloc.slots[slot].number & LIFE_MASK;
        for index in pages.iter().map(|&page| u64::from(page)) {
            if let Some(owner) = self.owner(index)
                && (owner.life, owner.kind) == (life, Kind::State)
            {
                self.release_block(alloc, slot, index, &owner);
            }
        }
    }

    /// The metadata of all lives but the running one, the newest first. A life whose metadata are both damaged is not among them: see
    /// [`old_numbers`](Self::old_numbers).
    pub fn old_lives(&self) -> Vec<Life> {
        let alloc = self.alloc.lock();
        let old = alloc.old().rev();
        old.filter_map(|slot| alloc.slots[slot].life.clone())
            .collect()
    }

    /// The numbers of all lives but the running one, the newest first; also of those of which there are marks, or a number, only.
    /// (Marks keep [`LIFE_MASK`] of a number.)
    pub fn old_numbers(&self) -> Vec<u64> {
        let alloc = self.alloc.lock();
        let old = alloc.old().rev();
        old.map(|slot| alloc.slots[slot].number).collect()
    }

    /// The numbers of those old lives whose metadata are damaged in both copies, the newest first: they are among
    /// [`old_numbers`](Self::old_numbers), and not among [`old_lives`](Self::old_lives).
    pub fn damaged_lives(&self) -> Vec<u64> {
        let alloc = self.alloc.lock();
        let damaged = alloc.old().rev().map(|slot| &alloc.slots[slot]);
        let damaged = damaged.filter(|slot| slot.life.is_none());
        damaged.map(|slot| slot.number).collect()
    }

    /// The state that a life has kept. `None`: there is none, or it is not as it was written.
    pub fn read_state(&self, life: &Life) -> Option<Vec<u8>> {
        let len = life.state_len as usize;
        let page_size = PAGE_SIZE as usize;
        if len == 0
            || len.div_ceil(page_size) != life.state.len()
            || life.state.len() > MAX_STATE_PAGES
        {
            return None;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        for (part, &index) in bytes.chunks_mut(page_size).zip(&life.state) {
            if u64::from(index) >= self.geometry.data_pages {
                return None;
            }
            get_bytes(self.data(index.into()), part);
        }
        (crc32fast::hash(&bytes) == life.state_crc).then_some(bytes)
    }

    /// Pages that the bitmaps of an old life say are its, but whose marks do not: a mark was damaged, or a bitmap. Index and CPU
    /// ([`NO_CPU`]: of the life itself), by ascending index; each page once.
    pub fn unmarked(&self, life: u64) -> Vec<(u64, u8)> {
        let mut found = Vec::new();
        let alloc = self.alloc.lock();
        let Some(slot) = alloc.slot_of(life) else {
            return found;
        };
        for word in 0..self.geometry.data_pages.div_ceil(64) {
            let cpus = (0..self.geometry.cpus as u8).chain([NO_CPU]);
            let bits = cpus.map(|cpu| {
                let word = &self.bitmap(slot, cpu)[word as usize];
                (cpu, word.load(Ordering::Acquire))
            });
            let any = bits.clone().fold(0, |any, (_, bits)| any | bits);
            for bit in (0..64).filter(|bit| any >> bit & 1 != 0) {
                let index = word * 64 + bit;
                let mine = |owner: super::mark::Owner| owner.life == life & LIFE_MASK;
                if index >= self.geometry.data_pages || self.owner(index).is_some_and(mine) {
                    continue;
                }
                let cpu = bits.clone().find(|(_, bits)| bits >> bit & 1 != 0);
                if let Some((cpu, _)) = cpu
                    && found.try_reserve(1).is_ok()
                {
                    found.push((index, cpu));
                }
            }
        }
        found
    }

    /// Holds the old lives as they are while `f` runs: no page of them is taken for the running life ([`alloc`](Self::alloc) gives
    /// `None` rather), none is erased. Several may do so at once.
    pub fn with_old<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Lets go, also when `f` panics.
        struct Held<'a>(&'a AtomicU32);
        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Release);
            }
        }
        let held = {
            // Who is taking or erasing comes to an end first.
            let _alloc = self.alloc.lock();
            self.held.fetch_add(1, Ordering::AcqRel);
            Held(&self.held)
        };
        let result = f();
        drop(held);
        result
    }

    /// An old life's slot, to erase from it.
    fn to_erase(&self, alloc: &Alloc, life: u64) -> Result<usize, RegionError> {
        if let Some((_, number)) = alloc.running()
            && number == life
        {
            return Err(RegionError::Runs(number));
        }
        let is = |slot: &Slot| slot.number == life && life != 0;
        let slot = alloc.slots.iter().position(is);
        let slot = slot.ok_or(RegionError::NoLife(life))?;
        match self.held.load(Ordering::Acquire) {
            0 => Ok(slot),
            _ => Err(RegionError::Busy),
        }
    }

    /// Erases a buffer of an old life: its pages are free. With its last buffer a life loses its state, and with its last page its slot;
    /// until then its metadata have the buffer as one that [was erased](super::Buffer::is_erased). A reset in the middle ends it at the next
    /// [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`RegionError::NoLife`], [`RegionError::Runs`], [`RegionError::Busy`], [`RegionError::MetadataRoom`]; nothing has changed then.
    pub fn erase_buffer(&self, life: u64, buffer: u8) -> Result<(), RegionError> {
        let mut guard = self.alloc.lock();
        let alloc = &mut *guard;
        let slot = self.to_erase(alloc, life)?;
        self.forget_prey(alloc);
        if let Some(mut life) = alloc.slots[slot].life.clone() {
            let mut there = life.buffers.iter_mut();
            let there = there.find(|one| one.number == buffer && !one.is_erased());
            // First: what a reset leaves of it is not shown as damage.
            if there.is_some_and(|one| !core::mem::take(&mut one.pages).is_empty()) {
                self.write(alloc, slot, life)?;
            }
        }
        self.release_all(alloc, slot, |owner, _| {
            owner.buffer == buffer && matches!(owner.kind, Kind::Events | Kind::Rest)
        });
        if alloc.slots[slot].events == 0 {
            self.without_events(alloc, slot);
        }
        Ok(())
    }

    /// Erases the log of an old life: its pages are free. With its last page a life loses its slot.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoLife`], [`RegionError::Runs`], [`RegionError::Busy`].
    pub fn erase_log(&self, life: u64) -> Result<(), RegionError> {
        let mut guard = self.alloc.lock();
        let alloc = &mut *guard;
        let slot = self.to_erase(alloc, life)?;
        self.without_log(alloc, slot);
        Ok(())
    }

    /// Erases an old life whole.
    ///
    /// # Errors
    ///
    /// [`RegionError::NoLife`], [`RegionError::Runs`], [`RegionError::Busy`].
    pub fn erase_life(&self, life: u64) -> Result<(), RegionError> {
        let mut guard = self.alloc.lock();
        let alloc = &mut *guard;
        let slot = self.to_erase(alloc, life)?;
        self.erase_slot(alloc, slot);
        Ok(())
    }
}

impl<M: Memory> fmt::Debug for Region<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Superblock { range, cpus } = self.superblock;
        write!(f, "ramtrace region {range} for {cpus} CPUs, {SLOTS} lives")
    }
}
