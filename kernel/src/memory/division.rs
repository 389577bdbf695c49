//! How physical memory is divided at a start: scratch, free memory, and what is left alone (docs/architecture.md has the
//! table). Nothing is changed here.

use super::{Phys, persistent};
use crate::boot::{self, Info, early};
use crate::kexec;
use alloc::vec::Vec;
use handover::radix::PreservedMap;
use handover::range::{PhysRange, normalize, subtract, without};
use handover::scratch::ScratchSize;
use kernel::layout::{PAGE, align_up};
use kernel::params::{Extent, Kind, MAX_REGIONS, Region};

/// Least and most that scratch takes without `kho_scratch=`, and the part of RAM that it takes in between.
const SCRATCH_LEAST: u64 = 16 << 20;
const SCRATCH_MOST: u64 = 64 << 20;
const SCRATCH_PART: u64 = 8;
/// Ranges that are taken of free memory beside scratch and what is preserved, at most: what was placed for this kernel, its early pages,
/// the frame allocator's bitmaps.
const TAKEN_BESIDE: usize = 3;
/// What a kernel that refused a handover takes of scratch as ordinary memory, if that is no more than half of what is free.
const REFUSED_LEAST: u64 = 6 << 20;

/// The result: the early pages and what was placed for this kernel are still to be [taken](Division::take).
pub struct Division {
    pub scratch: Vec<PhysRange>,
    /// What there is, and what of it is somebody's; both in order. What is free is not listed: where much is preserved all over the
    /// place, one list of that kind is long enough for the first pages that a start has.
    from: Vec<PhysRange>,
    taken: Vec<PhysRange>,
    /// The memory map, as this life sees it and hands it on.
    pub regions: arrayvec::ArrayVec<Region, MAX_REGIONS>,
}

impl Division {
    fn new(
        info: &Info,
        scratch: Vec<PhysRange>,
        from: &[PhysRange],
        mut taken: Vec<PhysRange>,
    ) -> Division {
        let mut from = from.to_vec();
        normalize(&mut from);
        normalize(&mut taken);
        Division {
            scratch,
            from,
            taken,
            regions: info.regions.clone(),
        }
    }

    /// These are not free, either.
    pub fn take(&mut self, ranges: &[PhysRange]) {
        self.taken.extend(ranges);
        normalize(&mut self.taken);
    }

    /// What is free, by ascending address.
    pub fn free(&self) -> impl Iterator<Item = PhysRange> {
        without(&self.from, &self.taken)
    }

    /// After a cold start: the ramtrace region is found or taken, scratch is planned, and all that is not the boot loader's is free.
    pub fn cold(info: &Info, ram: &[PhysRange]) -> Division {
        let mut taken: Vec<PhysRange> = info.boot_owned.iter().copied().collect();
        let early = early::used();
        let mut usable = subtract(ram, &[taken.as_slice(), &[early]].concat());
        let mut regions = info.regions.clone();
        let region = persistent::plan(info, ram, &usable);
        if let Some(region) =
            region.filter(|region| kernel::persistent::mark(&mut regions, *region))
        {
            usable = subtract(&usable, &[region]);
            taken.push(region);
        }
        let scratch = plan_scratch(&usable, ram, early.end - early.start);
        taken.extend(&scratch);
        Division {
            regions,
            ..Division::new(info, scratch, ram, taken)
        }
    }

    /// With a handover: all is free that is neither scratch nor preserved.
    pub fn handed_over(info: &Info, ram: &[PhysRange], map: &PreservedMap<Phys>) -> Division {
        let scratch: Vec<PhysRange> = info.scratch.iter().filter_map(Extent::range).collect();
        // Counted before: a list that grows is copied, and there for a while twice.
        let mut count = scratch.len() + map.node_count() + TAKEN_BESIDE;
        map.for_each_range(|_| count += 1);
        let mut taken: Vec<PhysRange> = Vec::with_capacity(count);
        taken.extend(&scratch);
        // The walk ascends: what lies side by side becomes one range, so that a large buffer is a short list.
        let mut add = |range: PhysRange| match taken.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => taken.push(range),
        };
        map.for_each_range(&mut add);
        map.for_each_node(|pa| {
            add(PhysRange {
                start: pa,
                end: pa + PAGE,
            })
        });
        Division::new(info, scratch, ram, taken)
    }

    /// After a kexec over which nothing was handed on purpose: all is free but scratch and the initrd.
    pub fn not_handed_over(info: &Info, ram: &[PhysRange]) -> Division {
        let scratch: Vec<PhysRange> = info.scratch.iter().filter_map(Extent::range).collect();
        let mut taken = scratch.clone();
        taken.extend(info.initrd.range().map(|r| r.page_align_outwards()));
        Division::new(info, scratch, ram, taken)
    }

    /// Where the handover cannot be trusted: a quarter of the largest free part of scratch (at least 6 MiB, at most half of
    /// it) becomes ordinary memory, the rest goes on being scratch, and all else but the initrd is left alone, for
    /// this life and the ones that it starts.
    pub fn inside_scratch(info: &Info) -> Division {
        let inherited: Vec<PhysRange> = info.scratch.iter().filter_map(Extent::range).collect();
        let mut used: Vec<PhysRange> = info.placed.range().into_iter().collect();
        used.push(early::used());
        let hole = subtract(&inherited, &used)
            .into_iter()
            .max_by_key(|r| r.end - r.start)
            .unwrap_or(PhysRange { start: 0, end: 0 });
        let size = hole.end - hole.start;
        let part = (size / 2).min((size / 4).max(REFUSED_LEAST)) / PAGE * PAGE;
        let ours = PhysRange {
            start: hole.end - part,
            end: hole.end,
        };
        // The initrd's place comes from the boot parameters, which have a checksum of their own.
        let mut trusted = inherited.clone();
        trusted.extend(info.initrd.range().map(|r| r.page_align_outwards()));
        normalize(&mut trusted);
        let mut parts: Vec<(PhysRange, Kind)> = Vec::new();
        for region in &info.regions {
            let Some(range) = region.extent.range() else {
                continue;
            };
            if region.kind() != Kind::Ram {
                parts.push((range, region.kind()));
                continue;
            }
            parts.extend(
                subtract(&[range], &trusted)
                    .into_iter()
                    .map(|r| (r, Kind::LeftAlone)),
            );
            parts.extend(
                trusted
                    .iter()
                    .filter_map(|t| range.intersect(t))
                    .map(|r| (r, Kind::Ram)),
            );
        }
        Division {
            scratch: subtract(&inherited, &[ours]),
            from: alloc::vec![ours],
            taken: Vec::new(),
            regions: memory_map(parts),
        }
    }
}

/// A memory map of these parts, neighbours of one kind merged. Should there be more than it has room for, RAM comes first.
fn memory_map(mut parts: Vec<(PhysRange, Kind)>) -> arrayvec::ArrayVec<Region, MAX_REGIONS> {
    parts.sort_by_key(|(range, _)| range.start);
    parts.dedup_by(|(range, kind), (before, before_kind)| {
        let merges = kind == before_kind && range.start == before.end;
        if merges {
            before.end = range.end;
        }
        merges
    });
    parts.sort_by_key(|(_, kind)| *kind);
    parts.truncate(MAX_REGIONS);
    parts.sort_by_key(|(range, _)| range.start);
    parts
        .into_iter()
        .map(|(range, kind)| Region {
            extent: range.into(),
            kind: kind as u32,
            zero: 0,
        })
        .collect()
}

/// Bytes of scratch that crossings need, hop after hop, of kernels like this one, whose start took `early` bytes: the running
/// image and the loaded one, and the first pages of one of them, of which another kernel may take a little more. And one
/// image again: what is free lies before and behind the running image, and neither piece may be large enough when the
/// first pages have grown by one.
pub fn needed_by_a_crossing(early: u64) -> u64 {
    align_up(3 * kexec::own_size() + early + early / 4, PAGE)
}

/// Scratch in `usable` memory. Two kernels lie there at once, the running one and the one that is loaded, and the first
/// pages of one of them.
fn plan_scratch(usable: &[PhysRange], ram: &[PhysRange], early: u64) -> Vec<PhysRange> {
    let total: u64 = ram.iter().map(|r| r.end - r.start).sum();
    let needed = needed_by_a_crossing(early);
    let default_bytes = (total / SCRATCH_PART).clamp(SCRATCH_LEAST, SCRATCH_MOST);
    let default = ScratchSize::Bytes(default_bytes);
    // As it is taken: in whole large pages.
    let default_kib = default.bytes(needed) >> 10;
    let asked = boot::cmdline().value("kho_scratch").map(ScratchSize::parse);
    let asked = asked.map(|size| size.and_then(|size| size.plan(usable, needed, &[])));
    let is_default = !matches!(asked, Some(Ok(_)));
    let planned = match asked {
        Some(Ok(planned)) => Ok(planned),
        Some(Err(error)) => {
            crate::warning!(
                "kho_scratch: {error}; it is not taken, and the default of {default_kib} KiB is tried"
            );
            default.plan(usable, needed, &[])
        }
        None => default.plan(usable, needed, &[]),
    };
    let scratch = planned.unwrap_or_else(|_| least_scratch(usable, needed, default_kib));
    let planned: u64 = scratch.iter().map(|r| r.end - r.start).sum();
    if !scratch.is_empty() && planned < needed {
        let whose = match is_default {
            true => "scratch: the default of",
            false => "kho_scratch:",
        };
        crate::warning!(
            "{whose} {} KiB is less than the {} KiB that two kernels need; `kexec -l` may refuse to load one; kho_scratch=100% \
             ({} KiB) would do",
            planned >> 10,
            needed >> 10,
            ScratchSize::PercentOfBoot(100).bytes(needed) >> 10
        );
    }
    scratch
}

/// Scratch that is just enough, where there is no room for the default of so many KiB; none, where that is too much as well.
fn least_scratch(usable: &[PhysRange], needed: u64, default_kib: u64) -> Vec<PhysRange> {
    match ScratchSize::Bytes(needed).plan(usable, needed, &[]) {
        Ok(scratch) => {
            let bytes: u64 = scratch.iter().map(|r| r.end - r.start).sum();
            crate::warning!(
                "scratch: there is no room for the default of {default_kib} KiB; {} KiB are reserved, which is what two \
                 kernels need",
                bytes >> 10
            );
            scratch
        }
        Err(error) => {
            crate::warning!(
                "scratch: there is no room for the default of {default_kib} KiB, nor for the {} KiB that two kernels \
                 need: {error}; this kernel runs without scratch and cannot kexec",
                needed >> 10
            );
            Vec::new()
        }
    }
}
