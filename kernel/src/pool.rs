//! Who has which part of scratch: the running kernel's own part, and what a loaded image has been given.
//!
//! A kernel that came by kexec lies in scratch itself, so the next image goes into what is free there: the two change
//! places at each hop, and nothing has to be copied at the jump.

use alloc::vec::Vec;
use handover::range::PhysRange;
use handover::scratch::Usage;

/// The scratch regions, and what is taken of them.
#[derive(Clone, Debug, Default)]
pub struct ScratchPool {
    regions: Vec<PhysRange>,
    taken: Vec<PhysRange>,
    /// The most bytes that were taken at once.
    peak: u64,
}

impl ScratchPool {
    /// A pool of `regions`, with `taken` (which may reach beyond them) in use.
    pub fn new(regions: Vec<PhysRange>, taken: &[PhysRange]) -> Self {
        let mut pool = ScratchPool {
            regions,
            taken: taken.to_vec(),
            peak: 0,
        };
        pool.peak = pool.used();
        pool
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        let size: u64 = self.regions.iter().map(PhysRange::len).sum();
        size - self.free_bytes().0
    }

    /// How full it is. `needed` is what a crossing needs, in bytes.
    pub fn usage(&self, needed: u64) -> Usage {
        Usage {
            size: self.regions.iter().map(PhysRange::len).sum(),
            used: self.used(),
            peak: self.peak,
            needed,
        }
    }

    /// The regions.
    pub fn regions(&self) -> &[PhysRange] {
        &self.regions
    }

    /// What is free, in ascending order.
    pub fn free(&self) -> Vec<PhysRange> {
        handover::range::subtract(&self.regions, &self.taken)
    }

    /// Free bytes, and the size of the largest hole.
    pub fn free_bytes(&self) -> (u64, u64) {
        let free = self.free();
        let sizes = || free.iter().map(|r| r.end - r.start);
        (sizes().sum(), sizes().max().unwrap_or(0))
    }

    /// Takes `size` bytes at a multiple of `align` (a power of two), in the lowest hole that has them.
    pub fn take(&mut self, size: u64, align: u64) -> Option<PhysRange> {
        let range = self.free().into_iter().find_map(|hole| {
            let start = hole.start.checked_next_multiple_of(align)?;
            let end = start.checked_add(size)?;
            (end <= hole.end).then_some(PhysRange { start, end })
        })?;
        self.taken.push(range);
        self.peak = self.peak.max(self.used());
        Some(range)
    }

    /// Gives back what [`take`](ScratchPool::take) gave; anything else is ignored.
    pub fn give_back(&mut self, range: PhysRange) {
        self.taken.retain(|r| *r != range);
    }

    /// The largest hole as it will be once everything but `keep` is free again: the successor's early memory.
    pub fn largest_hole_around(&self, keep: PhysRange) -> Option<PhysRange> {
        handover::range::subtract(&self.regions, &[keep])
            .into_iter()
            .max_by_key(|r| r.end - r.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn image_and_successor_change_places() {
        let mut pool = ScratchPool::new(vec![r(0x10000, 0x20000)], &[r(0x10000, 0x14000)]);
        assert_eq!(pool.free_bytes(), (0xc000, 0xc000));
        let a = pool.take(0x3000, 0x2000).unwrap();
        assert_eq!(a, r(0x14000, 0x17000));
        assert_eq!(pool.take(0xa000, 0x1000), None);
        assert_eq!(pool.largest_hole_around(a), Some(r(0x17000, 0x20000)));
        pool.give_back(a);
        assert_eq!(pool.free_bytes().0, 0xc000);
        let usage = pool.usage(0x8000);
        assert_eq!((usage.size, usage.used), (0x10000, 0x4000));
        assert_eq!((usage.peak, usage.needed), (0x7000, 0x8000));
        assert_eq!(pool.take(u64::MAX, 0x1000), None);
        // The next life: it lies where `a` was, and its successor goes below it.
        let mut next = ScratchPool::new(vec![r(0x10000, 0x20000)], &[r(0x14000, 0x17000)]);
        assert_eq!(next.take(0x3000, 0x1000), Some(r(0x10000, 0x13000)));
    }
}
