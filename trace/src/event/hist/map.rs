//! The table behind a histogram: of fixed size, filled by any context at any time.
//!
//! Linux's `tracing_map` claims a slot first and fills in the key later, so that whoever meets the half-made entry has to wait
//! or drop. Here the entry is made in private and then put in by one compare-and-exchange of the whole slot: nobody ever meets a
//! half-made one, an interrupt between any two instructions included. Who loses the race gives the unused entry back.

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A table of entries of `words` key words and `sums` sums, and `notes` words that stand beside.
#[derive(Debug)]
pub(super) struct Map {
    /// 0 empty; else the key's hash (high 32 bits) and the entry's number plus one.
    slots: Box<[AtomicU64]>,
    /// For each entry: key, notes, sums.
    cells: Box<[AtomicU64]>,
    /// For each entry that was given back: the next one plus one.
    next: Box<[AtomicU32]>,
    /// For each entry: the description that is being brought up to date has it. Of [`Map::refresh`] alone.
    described: Box<[AtomicBool]>,
    /// Entries that were given back: a stack. A count of changes (high 32 bits), the first one plus one.
    spare: AtomicU64,
    /// Entries that were ever taken.
    taken: AtomicU32,
    entries: u32,
    words: usize,
    notes: usize,
    sums: usize,
    hits: AtomicU64,
    drops: AtomicU64,
}

/// An entry as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Vec<u64>,
    pub notes: Vec<u64>,
    pub sums: Vec<u64>,
}

fn zeros<T>(n: usize, zero: fn() -> T) -> Option<Box<[T]>> {
    let mut v = Vec::new();
    v.try_reserve_exact(n).ok()?;
    v.extend((0..n).map(|_| zero()));
    Some(v.into_boxed_slice())
}

impl Map {
    /// A table for 2^`bits` entries; `None` if there is no memory for it.
    pub(super) fn new(bits: u32, words: usize, notes: usize, sums: usize) -> Option<Map> {
        let entries = 1u32 << bits;
        Some(Map {
            // Twice as many, so that a search ends soon.
            slots: zeros(2 * entries as usize, || AtomicU64::new(0))?,
            cells: zeros(entries as usize * (words + notes + sums), || {
                AtomicU64::new(0)
            })?,
            next: zeros(entries as usize, || AtomicU32::new(0))?,
            described: zeros(entries as usize, || AtomicBool::new(false))?,
            spare: AtomicU64::new(0),
            taken: AtomicU32::new(0),
            entries,
            words,
            notes,
            sums,
            hits: AtomicU64::new(0),
            drops: AtomicU64::new(0),
        })
    }

    fn cells(&self, entry: u32) -> &[AtomicU64] {
        let each = self.words + self.notes + self.sums;
        self.cells
            .get(entry as usize * each..)
            .and_then(|cells| cells.get(..each))
            .unwrap_or(&[])
    }

    fn hash(key: &[u64]) -> u32 {
        // FNV-1a over words, its bits mixed at the end (MurmurHash3's finalizer).
        let mut h = 0xcbf2_9ce4_8422_2325u64;
        for word in key {
            h = (h ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            h ^= h >> 32;
        }
        h ^= h >> 33;
        h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
        (h >> 32) as u32
    }

    /// Takes an entry that nobody sees.
    fn take(&self) -> Option<u32> {
        let mut head = self.spare.load(Ordering::Acquire);
        while head as u32 != 0 {
            let entry = head as u32 - 1;
            let next = self.next.get(entry as usize)?.load(Ordering::Relaxed);
            // The count makes a head that went and came back differ.
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
            match self
                .spare
                .compare_exchange(head, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(entry),
                Err(now) => head = now,
            }
        }
        let entries = self.entries;
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < entries).then_some(n + 1)
            })
            .ok()
    }

    fn give_back(&self, entry: u32) {
        let Some(link) = self.next.get(entry as usize) else {
            return;
        };
        let mut head = self.spare.load(Ordering::Relaxed);
        loop {
            link.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32).wrapping_add(1) << 32) | u64::from(entry + 1);
            match self
                .spare
                .compare_exchange(head, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn same_key(&self, entry: u32, key: &[u64]) -> bool {
        let cells = self.cells(entry);
        cells.len() >= key.len()
            && key
                .iter()
                .zip(cells)
                .all(|(word, cell)| cell.load(Ordering::Relaxed) == *word)
    }

    /// The entry of `key`, made if there is none.
    fn find(&self, key: &[u64], notes: &[u64]) -> Option<u32> {
        let hash = Self::hash(key);
        let mask = self.slots.len() - 1;
        let mut mine: Option<u32> = None;
        let mut at = hash as usize & mask;
        for _ in 0..self.slots.len() {
            let slot = &self.slots[at];
            let mut value = slot.load(Ordering::Acquire);
            if value == 0 {
                let entry = mine.or_else(|| self.take())?;
                for (cell, word) in self.cells(entry).iter().zip(key.iter().chain(notes)) {
                    cell.store(*word, Ordering::Relaxed);
                }
                mine = Some(entry);
                let new = (u64::from(hash) << 32) | u64::from(entry + 1);
                match slot.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(entry),
                    Err(now) => value = now,
                }
            }
            let entry = (value as u32).wrapping_sub(1);
            if (value >> 32) as u32 == hash && self.same_key(entry, key) {
                if let Some(mine) = mine {
                    self.give_back(mine);
                }
                return Some(entry);
            }
            at = (at + 1) & mask;
        }
        if let Some(mine) = mine {
            self.give_back(mine);
        }
        None
    }

    /// Counts a record with this key: adds `sums` to its entry's.
    pub(super) fn add(&self, key: &[u64], notes: &[u64], sums: &[u64]) {
        if self.add_to(key, notes, sums) {
            self.hits.fetch_add(1, Ordering::Relaxed);
        } else {
            self.drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn add_to(&self, key: &[u64], notes: &[u64], sums: &[u64]) -> bool {
        if key.len() != self.words || notes.len() != self.notes {
            return false;
        }
        let Some(entry) = self.find(key, notes) else {
            return false;
        };
        let cells = self.cells(entry);
        for (cell, value) in cells[self.words + self.notes..].iter().zip(sums) {
            cell.fetch_add(*value, Ordering::Relaxed);
        }
        true
    }

    /// Puts back what [`Map::snapshot`] gave, in an earlier life; false if it does not fit.
    pub(super) fn restore(&self, entries: &[Entry], hits: u64, drops: u64) -> bool {
        self.hits.store(hits, Ordering::Relaxed);
        self.drops.store(drops, Ordering::Relaxed);
        entries
            .iter()
            .all(|e| e.sums.len() == self.sums && self.add_to(&e.key, &e.notes, &e.sums))
    }

    /// The entry of `key`, if there is one.
    fn entry_of(&self, key: &[u64]) -> Option<u32> {
        let hash = Self::hash(key);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..self.slots.len() {
            let value = self.slots[at].load(Ordering::Acquire);
            if value == 0 {
                return None;
            }
            let entry = (value as u32).wrapping_sub(1);
            if (value >> 32) as u32 == hash && self.same_key(entry, key) {
                return Some(entry);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Brings `words` up to date in place: entries, each of key, notes and sums; those whose first sum is 0 are empty, and take
    /// what has come beside. Returns the sum of all first sums. One call at a time.
    ///
    /// Each entry is looked up once from each side, so that this takes one walk over the table, however many keys are in it.
    pub(super) fn refresh(&self, words: &mut [u64]) -> u64 {
        let (sums_at, each) = (self.words + self.notes, self.words + self.notes + self.sums);
        let mut counted = 0u64;
        for entry in &self.described {
            entry.store(false, Ordering::Relaxed);
        }
        for place in words.chunks_exact_mut(each) {
            if place[sums_at] == 0 {
                continue;
            }
            match self.entry_of(&place[..self.words]) {
                Some(entry) => {
                    if let Some(described) = self.described.get(entry as usize) {
                        described.store(true, Ordering::Relaxed);
                    }
                    self.copy(entry, sums_at, &mut place[sums_at..]);
                }
                // The histogram was cleared since.
                None => place[sums_at..].fill(0),
            }
            counted = counted.wrapping_add(place[sums_at]);
        }
        let mut empty = words
            .chunks_exact_mut(each)
            .filter(|place| place[sums_at] == 0);
        for slot in &self.slots {
            let value = slot.load(Ordering::Acquire);
            let entry = (value as u32).wrapping_sub(1);
            let new = self
                .described
                .get(entry as usize)
                .is_some_and(|described| !described.load(Ordering::Relaxed));
            if value == 0 || !new || !self.is_counted(entry) {
                continue;
            }
            let Some(place) = empty.next() else {
                break;
            };
            self.copy(entry, 0, place);
            counted = counted.wrapping_add(place[sums_at]);
        }
        counted
    }

    /// Copies an entry's cells from number `from` on.
    fn copy(&self, entry: u32, from: usize, to: &mut [u64]) {
        for (to, cell) in to.iter_mut().zip(self.cells(entry).iter().skip(from)) {
            *to = cell.load(Ordering::Relaxed);
        }
    }

    /// Whether anything was added to its sums: not so right after it was put in.
    fn is_counted(&self, entry: u32) -> bool {
        self.cells(entry)
            .get(self.words + self.notes)
            .is_some_and(|hits| hits.load(Ordering::Relaxed) != 0)
    }

    /// Entries that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.entries as usize
    }

    /// Hits and drops.
    pub(super) fn totals(&self) -> (u64, u64) {
        let (hits, drops) = (&self.hits, &self.drops);
        (hits.load(Ordering::Relaxed), drops.load(Ordering::Relaxed))
    }

    /// All entries, in no order; hits; drops.
    pub(super) fn snapshot(&self) -> (Vec<Entry>, u64, u64) {
        let mut entries = Vec::new();
        for slot in &self.slots {
            let value = slot.load(Ordering::Acquire);
            if value == 0 {
                continue;
            }
            let cells = self.cells(value as u32 - 1);
            let mut words = cells.iter().map(|cell| cell.load(Ordering::Relaxed));
            entries.push(Entry {
                key: words.by_ref().take(self.words).collect(),
                notes: words.by_ref().take(self.notes).collect(),
                sums: words.collect(),
            });
        }
        (
            entries,
            self.hits.load(Ordering::Relaxed),
            self.drops.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Map;
    use alloc::vec;
    use std::thread;

    #[test]
    fn threads_lose_nothing() {
        let map = Map::new(7, 2, 0, 1).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..20_000u64 {
                        map.add(&[i % 100, 7], &[], &[1]);
                    }
                });
            }
        });
        let (entries, hits, drops) = map.snapshot();
        assert_eq!((entries.len(), hits, drops), (100, 80_000, 0));
        assert!(entries.iter().all(|e| e.sums == vec![800]));
    }

    #[test]
    fn a_full_table_counts_what_it_drops() {
        let map = Map::new(7, 1, 0, 1).unwrap();
        for i in 0..200 {
            map.add(&[i], &[], &[1]);
        }
        map.add(&[5], &[], &[1]);
        let (entries, hits, drops) = map.snapshot();
        assert_eq!((entries.len(), hits, drops), (128, 129, 72));
    }
}
