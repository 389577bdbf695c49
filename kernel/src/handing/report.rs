//! What is kept of a handover for people: its blobs, and what became of them. `/sys/kernel/debug/kho/in` shows it.

use super::incoming::FDT;
use super::{Outcome, outcome};
use crate::boot::bytes_at;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::claims::Claims;
use handover::range::PhysRange;
use spin::Once;

/// Most bytes of blobs that are kept: they are for looking at, and take heap in every later minute of this life.
const KEPT_BYTES: u64 = 1 << 20;

static BLOBS: Once<Vec<(String, Option<Vec<u8>>)>> = Once::new();
/// What came over preserved, by what became of it. Each list is in order.
static RANGES: Once<Vec<(String, Vec<PhysRange>)>> = Once::new();
static REPORT: Once<String> = Once::new();

/// Copies the blobs, while they are still there, as far as there is room.
pub(super) fn keep_blobs(claims: &Claims) {
    let mut left = KEPT_BYTES;
    let mut kept = Vec::new();
    for (name, range, _) in claims.blobs().filter(|(name, ..)| *name != FDT) {
        let mut copy = Vec::new();
        if range.len() > left || copy.try_reserve_exact(range.len() as usize).is_err() {
            kept.push((name.into(), None));
            continue;
        }
        left -= range.len();
        // SAFETY: verified: in RAM, preserved, nobody's to write until it is freed, which is after this.
        copy.extend_from_slice(unsafe { bytes_at(range.into()) });
        kept.push((name.into(), Some(copy)));
    }
    BLOBS.call_once(|| kept);
}

/// The blobs that this kernel was handed, by name; `None` for one that was too long to keep a copy of.
pub fn incoming_blobs() -> &'static [(String, Option<Vec<u8>>)] {
    BLOBS.get().map_or(&[], Vec::as_slice)
}

/// Keeps what became of the ranges of memory that came over preserved, each list in order.
pub(super) fn keep_ranges(ranges: Vec<(String, Vec<PhysRange>)>) {
    RANGES.call_once(|| ranges);
}

/// What came over preserved: who claimed it, and its ranges in order.
pub fn incoming_ranges() -> &'static [(String, Vec<PhysRange>)] {
    RANGES.get().map_or(&[], Vec::as_slice)
}

/// Keeps what became of each subsystem, a line each.
pub(super) fn keep(lines: String) {
    REPORT.call_once(|| lines);
}

/// What became of the handover: how this life began, then a line for each subsystem, then troubles and remarks, then
/// what sealed memory was found to be.
pub fn text() -> String {
    let began = match outcome() {
        Outcome::Cold => "cold start: nothing was handed over".into(),
        Outcome::NotHandedOver(by) => {
            format!("kexec without a handover: the predecessor had it switched off ({by})")
        }
        Outcome::Restored(release) => format!("handover from {release} accepted"),
        Outcome::Refused(why) => format!("kexec with a handover: {why}"),
    };
    let lines = REPORT.get().map_or("", String::as_str);
    format!("{began}\n{lines}{}", super::seals::text())
}
