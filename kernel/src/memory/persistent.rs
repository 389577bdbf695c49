//! Which RAM is the ramtrace region's: that which a cold start finds, or else what it takes for a new one. Later lives have it in
//! their memory map.

use crate::boot::{self, Info};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use handover::mem::PAGE_SIZE;
use handover::range::PhysRange;
use kernel::cmdline::{CmdLine, parse_address, parse_size};
use kernel::layout::DIRECT_MAP;
use kernel::params::{Kind, MAX_REGIONS, Region};
use kernel::persistent::{self, Findings};
use trace::ramtrace::probe;

/// Whether the command line says that there is to be no region.
fn unwanted(cmdline: CmdLine<'_>) -> bool {
    cmdline.value("ramtrace.mem_size").and_then(parse_size) == Some(0)
}

/// Looks for a region in the RAM of `regions`, in which `taken` is the boot loader's. Of several the first is kept. One that is not kept is
/// wiped: its memory is ordinary again, and a later start must not take what is left of it for one. For a cold start, before any memory is
/// used.
pub fn find(
    regions: &mut ArrayVec<Region, MAX_REGIONS>,
    taken: &[PhysRange],
    cmdline: CmdLine<'_>,
) -> Findings {
    let mut findings = Findings::default();
    let ram: ArrayVec<PhysRange, MAX_REGIONS> = regions
        .iter()
        .filter(|region| region.kind() == Kind::Ram)
        .filter_map(|region| region.extent.range())
        .collect();
    for mut rest in ram {
        // SAFETY: RAM by the boot loader's map, which it has mapped there (boot::CONFIG); nothing else runs yet.
        while let Some(found) = unsafe { probe(rest, DIRECT_MAP) } {
            rest.start = found.range.end;
            if !findings.add(regions, found.range, taken, unwanted(cmdline)) {
                wipe(found.range, taken);
            }
        }
    }
    findings
}

/// Ends a region: of its superblocks, which are in its first page and in its last, nothing is left that is not the boot loader's.
fn wipe(range: PhysRange, taken: &[PhysRange]) {
    for at in [range.start, range.end - PAGE_SIZE] {
        if !taken.iter().any(|taken| taken.contains(at)) {
            // SAFETY: as in `find`: RAM, mapped there, and nobody's.
            unsafe { ((DIRECT_MAP + at) as *mut u64).write_volatile(0) };
        }
    }
}

/// A new region for a cold start that has found none: as the command line says, or as large as a machine with `ram` should have one,
/// in `free`. Says what became of the one that was found.
pub fn plan(info: &Info, ram: &[PhysRange], free: &[PhysRange]) -> Option<PhysRange> {
    let cmdline = boot::cmdline();
    let asked = cmdline.value("ramtrace.mem_size").and_then(parse_size);
    let size = asked.map(|size| {
        size.saturating_add(persistent::ALIGN - 1) / persistent::ALIGN * persistent::ALIGN
    });
    let address = cmdline
        .value("ramtrace.mem_address")
        .and_then(parse_address);
    if asked != size {
        crate::warning!(
            "ramtrace: ramtrace.mem_size is taken as {} MiB: a region is of whole MiB",
            size.unwrap_or_default() >> 20
        );
    }
    for (range, why) in &info.ramtrace.given_up {
        crate::warning!("ramtrace: the region at {range} is ordinary memory again: {why}");
    }
    if let Some(range) = info.ramtrace.kept {
        let other = size.is_some_and(|size| size != range.len())
            || address.is_some_and(|at| at != range.start);
        if other {
            crate::warning!(
                "ramtrace: the region at {range} is kept, with the lives in it, though the command line asks for another: \
                 to change it, turn the machine off, or start it once with ramtrace.mem_size=0"
            );
        }
        return None;
    }
    let total: u64 = ram.iter().map(PhysRange::len).sum();
    let default = persistent::default_size(total);
    let wanted = size.unwrap_or(default);
    if wanted == 0 && size.is_none() && address.is_some() {
        crate::warning!(
            "ramtrace: a machine with so little memory has no region unless ramtrace.mem_size asks for one"
        );
    }
    // As asked for, else as much elsewhere, else as always.
    let mut tries = Vec::from([(wanted, address), (wanted, None), (default, None)]);
    tries.dedup();
    for (size, address) in tries {
        if size == 0 {
            break;
        }
        match persistent::place(free, size, address) {
            Ok(range) => return Some(range),
            Err(error) => crate::warning!("ramtrace: no region of {} MiB: {error}", size >> 20),
        }
    }
    None
}
