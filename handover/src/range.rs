//! Ranges of physical memory, and their algebra.

use alloc::vec::Vec;
use core::fmt;

use crate::error::Error;
use crate::mem::PAGE_SIZE;

/// A half-open range `[start, end)` of physical addresses, in bytes.
///
/// A range whose `end` is not above its `start` is empty, wherever it lies; every function here treats it so. What preserves,
/// restores or describes a range refuses one whose `end` lies below its `start` ([`Error::RangeBackward`]).
/// `end` is exclusive, so the last byte of the 64-bit address space cannot be named; no machine has one there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysRange {
    /// First byte.
    pub start: u64,
    /// First byte after the range.
    pub end: u64,
}

impl PhysRange {
    /// The range `[start, end)`.
    pub const fn new(start: u64, end: u64) -> Self {
        PhysRange { start, end }
    }

    /// The `len` bytes from `start` on; `None` where that passes the end of the address space.
    pub const fn with_len(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(PhysRange { start, end }),
            None => None,
        }
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no byte in the range.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// That the range does not end before it starts: asked of what a caller means to be done with, who has mistaken the ends
    /// or computed one wrong.
    pub(crate) fn check_forward(&self) -> Result<(), Error> {
        match self.end < self.start {
            true => Err(Error::RangeBackward { range: *self }),
            false => Ok(()),
        }
    }

    /// Whether `pa` lies in the range.
    pub const fn contains(&self, pa: u64) -> bool {
        self.start <= pa && pa < self.end
    }

    /// Whether all of `other` lies in the range. An empty `other` lies in every range.
    pub const fn contains_range(&self, other: &PhysRange) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// Whether the two share a byte.
    pub const fn overlaps(&self, other: &PhysRange) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// What the two share, or `None`.
    pub fn intersect(&self, other: &PhysRange) -> Option<PhysRange> {
        let both = PhysRange::new(self.start.max(other.start), self.end.min(other.end));
        (!both.is_empty()).then_some(both)
    }

    /// What is left of the range without `other`: the part below it and the part above it.
    pub fn minus(&self, other: &PhysRange) -> [Option<PhysRange>; 2] {
        if !self.overlaps(other) {
            return [(!self.is_empty()).then_some(*self), None];
        }
        let below = PhysRange::new(self.start, other.start);
        let above = PhysRange::new(other.end, self.end);
        [
            (!below.is_empty()).then_some(below),
            (!above.is_empty()).then_some(above),
        ]
    }

    /// The whole pages inside the range; may be empty.
    pub fn page_align_inwards(&self) -> PhysRange {
        match self.start.checked_next_multiple_of(PAGE_SIZE) {
            Some(start) => {
                let end = self.end / PAGE_SIZE * PAGE_SIZE;
                PhysRange::new(start, end.max(start))
            }
            None => PhysRange::new(self.start, self.start),
        }
    }

    /// The pages that the range touches. An empty range touches none. In the last page of the address space, which
    /// cannot be named whole, the range is left short of its end.
    pub fn page_align_outwards(&self) -> PhysRange {
        let start = self.start / PAGE_SIZE * PAGE_SIZE;
        if self.is_empty() {
            return PhysRange::new(start, start);
        }
        let end = self.end.checked_next_multiple_of(PAGE_SIZE);
        PhysRange::new(start, end.unwrap_or(u64::MAX))
    }

    /// Whether start and end lie on page boundaries.
    pub const fn is_page_aligned(&self) -> bool {
        self.start.is_multiple_of(PAGE_SIZE) && self.end.is_multiple_of(PAGE_SIZE)
    }
}

/// `[0x1000, 0x3000)`.
impl fmt::Display for PhysRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.start, self.end)
    }
}

/// Sorts the ranges, drops empty ones, and joins those that overlap or touch.
pub fn normalize(ranges: &mut Vec<PhysRange>) {
    ranges.retain(|r| !r.is_empty());
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.start <= kept.end;
        if joined {
            kept.end = kept.end.max(next.end);
        }
        joined
    });
}

/// What is left of `from` without `minus`, by ascending address. Both have to be as [`normalize`] leaves them.
///
/// Each range is found when it is asked for: no heap is taken, and no range is looked at twice.
pub fn without<'a>(
    from: &'a [PhysRange],
    minus: &'a [PhysRange],
) -> impl Iterator<Item = PhysRange> + Clone + 'a {
    let mut from = from.iter().copied();
    let mut holes = minus;
    let mut rest = PhysRange::default();
    core::iter::from_fn(move || {
        loop {
            while rest.is_empty() {
                rest = from.next()?;
            }
            match holes.split_first() {
                // What follows lies higher: this one is of no more use.
                Some((hole, others)) if hole.end <= rest.start => holes = others,
                Some((hole, _)) if hole.start < rest.end => {
                    let below = PhysRange::new(rest.start, hole.start);
                    rest.start = hole.end;
                    if !below.is_empty() {
                        return Some(below);
                    }
                }
                _ => return Some(core::mem::take(&mut rest)),
            }
        }
    })
}

/// What is left of `from` without `minus`; sorted, disjoint, not touching (see [`normalize`]).
///
/// For short lists, as a memory map is one: it takes heap for copies of both. [`without`] takes none.
pub fn subtract(from: &[PhysRange], minus: &[PhysRange]) -> Vec<PhysRange> {
    let mut from = from.to_vec();
    let mut minus = minus.to_vec();
    normalize(&mut from);
    normalize(&mut minus);
    without(&from, &minus).collect()
}

/// The lowest place for `size` bytes at a multiple of `align` in `free` that touches nothing of `avoid`.
///
/// `None` where there is none, where `size` is 0, or where `align` is no power of two.
pub fn find_space(
    free: &[PhysRange],
    size: u64,
    align: u64,
    avoid: &[PhysRange],
) -> Option<PhysRange> {
    if size == 0 || !align.is_power_of_two() {
        return None;
    }
    subtract(free, avoid).iter().find_map(|r| {
        let start = r.start.checked_next_multiple_of(align)?;
        let found = PhysRange::with_len(start, size)?;
        r.contains_range(&found).then_some(found)
    })
}

/// The range of the sorted, disjoint `ranges` that holds `pa`.
pub(crate) fn find_containing(ranges: &[PhysRange], pa: u64) -> Option<&PhysRange> {
    let above = ranges.partition_point(|r| r.start <= pa);
    ranges[..above].last().filter(|r| r.contains(pa))
}

/// The first of the sorted, disjoint `ranges` that overlaps `range`.
pub(crate) fn find_overlap(ranges: &[PhysRange], range: &PhysRange) -> Option<PhysRange> {
    let first = ranges.partition_point(|r| r.end <= range.start);
    ranges.get(first).filter(|r| r.overlaps(range)).copied()
}
