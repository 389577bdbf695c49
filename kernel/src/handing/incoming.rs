//! The new kernel's side: check, restore, give back.

use super::{
    Live, OUTCOME, OffBy, Outcome, SUBSYSTEMS, contradiction, directory, outcome, phase, report,
    switch,
};
use crate::boot::{self, Origin, bytes_at};
use crate::memory::{self, Phys};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use handover::check::{Incoming, Verified, verify};
use handover::claims::Claims;
use handover::mem::Memory;
use handover::metadata::{self, KexecMetadata};
use handover::page::PageRef;
use handover::radix::PreservedMap;
use handover::range::{self, PhysRange};
use handover::subsystem::{Report, start_anew};
use kernel::layout::PAGE;
use kernel::params::Extent;
use spin::{Mutex, Once};

/// The FDT that this kernel was handed, for `/sys/kernel/debug/kho/in/fdt`.
static INCOMING_FDT: Once<Vec<u8>> = Once::new();

/// See [`INCOMING_FDT`]. `None` after a cold start.
pub fn incoming_fdt() -> Option<&'static [u8]> {
    INCOMING_FDT.get().map(Vec::as_slice)
}

/// The name under which the FDT stands among the blobs; no subsystem can be called so (see `fdt::build`).
pub(super) const FDT: &str = "the FDT";

/// What came over, checked.
pub struct Received {
    map: Mutex<Option<PreservedMap<Phys>>>,
    /// Who takes what; the FDT counts as a blob.
    claims: Claims,
}

impl Received {
    /// The predecessor's map, once.
    pub fn take_map(&self) -> Option<PreservedMap<Phys>> {
        self.map.lock().take()
    }
}

/// Checks what the predecessor left, if there was one.
pub fn receive() -> Received {
    let info = boot::info();
    let mut received = Received {
        map: Mutex::new(None),
        claims: Claims::default(),
    };
    if info.origin == Origin::Cold {
        OUTCOME.call_once(|| Outcome::Cold);
        return received;
    }
    if let Some(by) = OffBy::read(info.fdt) {
        OUTCOME.call_once(|| Outcome::NotHandedOver(by));
        return received;
    }
    phase("check");
    match check(info) {
        Ok(verified) => {
            let release = release(&verified);
            let mut blobs = verified.blobs;
            blobs.push((FDT.into(), whole_pages(info.fdt)));
            let mut claims = Claims::new(blobs);
            // These two have been read.
            for name in [FDT, metadata::NAME] {
                claims.take(name);
            }
            received.claims = claims;
            *received.map.lock() = Some(verified.map);
            OUTCOME.call_once(|| Outcome::Restored(release));
        }
        Err(why) => {
            OUTCOME.call_once(|| Outcome::Refused(why));
        }
    }
    received
}

fn whole_pages(extent: Extent) -> PhysRange {
    PhysRange {
        start: extent.addr,
        end: extent.addr + extent.size,
    }
    .page_align_outwards()
}

fn check(info: &boot::Info) -> Result<Verified<Phys>, String> {
    if info.fdt.size == 0 {
        return Err("the predecessor handed nothing over".into());
    }
    // A kernel whose own list contradicts itself has nobody to restore, and must not give back what it cannot tell.
    directory().map_err(|error| error.to_string())?;
    let ram = memory::ram();
    let scratch: Vec<PhysRange> = info.scratch.iter().filter_map(Extent::range).collect();
    let image: Vec<PhysRange> = info.placed.range().into_iter().collect();
    let verified = verify(
        Phys,
        &Incoming {
            fdt_pa: info.fdt.addr,
            fdt_size: info.fdt.size,
            ram: &ram,
            scratch: &scratch,
            image: &image,
        },
    )
    .map_err(|error| error.to_string())?;
    // SAFETY: checked to be RAM, outside of scratch and preserved: nobody writes there.
    INCOMING_FDT.call_once(|| unsafe { bytes_at(info.fdt) }.to_vec());
    Ok(verified)
}

fn release(verified: &Verified<Phys>) -> String {
    let blob = verified.blob(metadata::NAME);
    // SAFETY: verified: in RAM, preserved, nobody's to write.
    let bytes = blob.map(|range| unsafe { bytes_at(range.into()) });
    match bytes.map(KexecMetadata::decode) {
        Some(Ok(metadata)) => metadata.previous_release().into(),
        _ => "an unknown release".into(),
    }
}

/// Restores all subsystems, each in its turn, or starts them anew; frees blobs and FDT, gives back what nobody claimed, and
/// tells what happened.
pub fn restore(received: Received) {
    match outcome() {
        Outcome::Refused(why) => crate::warning!(
            "{why}; this kernel starts cold inside scratch, and leaves all other memory alone (a reset alone gives that back)"
        ),
        Outcome::NotHandedOver(by) => crate::warning!(
            "handover: switched off in the predecessor: nothing crossed, this kernel starts cold ({by})"
        ),
        Outcome::Cold | Outcome::Restored(_) => {}
    }
    phase("restore");
    let mut claims = received.claims;
    let became = match directory() {
        Ok(directory) if matches!(outcome(), Outcome::Restored(_)) => {
            let came: Vec<(String, PhysRange)> = claims
                .blobs()
                .filter(|(name, ..)| ![FDT, metadata::NAME].contains(name))
                .map(|(name, range, _)| (name.into(), range))
                .collect();
            let blobs: Vec<(&str, &[u8])> = came
                .iter()
                // SAFETY: verified: in RAM, preserved, nobody's to write until `give_back` frees it.
                .map(|(name, range)| (name.as_str(), unsafe { bytes_at((*range).into()) }))
                .collect();
            directory.restore(&blobs, &mut claims, &Live)
        }
        Ok(directory) => directory.start_anew(&mut claims),
        Err(_) => {
            crate::error!("handover: {}", contradiction().unwrap_or_default());
            start_anew(SUBSYSTEMS, &mut claims)
        }
    };
    switch::init();
    let mut lines = String::new();
    if matches!(outcome(), Outcome::Restored(_)) {
        lines = give_back(claims, &became);
    }
    tell(&became, &mut lines);
    report::keep(lines);
}

/// Frees blobs and FDT, and all that nobody claimed; what became of each subsystem and of the pages, a line each.
fn give_back(mut claims: Claims, became: &Report) -> String {
    report::keep_blobs(&claims);
    let mut lines: String = became
        .outcomes()
        .map(|(name, outcome)| format!("{name}: {outcome}\n"))
        .collect();
    for (owner, ranges) in claims.claimed() {
        // Who starts anew claims what it has now, too, so that nobody gives it back.
        let has = match became.has_its_states(owner) {
            true => "took over",
            false => "starts anew with",
        };
        let pages = ranges.iter().map(PhysRange::len).sum::<u64>() / PAGE;
        crate::info!("handover: {owner} {has} {pages} pages");
    }
    let mut given_back: Vec<PhysRange> = Vec::new();
    let give_back = |block: PageRef| {
        let range = block.range();
        if let Some(last) = given_back.last_mut().filter(|r| r.end == range.start) {
            last.end = range.end;
        } else if given_back.try_reserve(1).is_ok() {
            // Without heap the list for people stays short; the block is given back all the same.
            given_back.push(range);
        }
        // SAFETY: a block of the predecessor's that nobody in this life uses, no longer preserved.
        unsafe { Phys.free_pages(block.pa, u32::from(block.order)) };
    };
    match memory::with_preserved(|map| Ok(claims.discard(map, give_back))) {
        Ok(discarded) => {
            lines += &format!(
                "{} pages discarded: preserved, and claimed by nobody",
                discarded.pages
            );
            lines += &match discarded.pages {
                0 => "\n".into(),
                _ => format!(" ({})\n", discarded.whose()),
            };
            if !discarded.is_empty() {
                crate::warning!("handover: {discarded}");
            }
        }
        Err(error) => crate::error!("handover: {error}"),
    }
    range::normalize(&mut given_back);
    let mut ranges = claims.into_claimed();
    for (owner, _) in &mut ranges {
        // It may have preserved some of it in this life.
        if !became.has_its_states(owner) {
            owner.push_str(" (anew)");
        }
    }
    ranges.push(("given back".into(), given_back));
    report::keep_ranges(ranges);
    lines
}

/// Says in the log who was not restored, and what the subsystems have to say; that makes lines of the report, too.
fn tell(became: &Report, lines: &mut String) {
    for (name, outcome) in became.outcomes() {
        if !outcome.is_good() {
            crate::warning!("handover: {name}: {outcome}");
        }
    }
    for (name, trouble) in became.troubles() {
        crate::warning!("handover: {name}: {trouble}");
        *lines += &format!("trouble: {name}: {trouble}\n");
    }
    for (name, remark) in became.remarks() {
        crate::info!("handover: {name}: {remark}");
        *lines += &format!("remark: {name}: {remark}\n");
    }
}
