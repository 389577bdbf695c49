//! Damage on purpose: what `/sys/kernel/debug/kho/out/damage` asks for is done to the next handover, after everything is
//! sealed, so that the receiving kernel's checks can be tried out. It holds for one kexec.

use super::Outgoing;
use crate::memory::IrqMutex;
use alloc::string::String;
use handover::fdt;
use kernel::layout::{DIRECT_MAP, PAGE};

/// A kind of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit of the FDT.
    Flip(usize),
    /// One bit of a subsystem's blob.
    FlipBlob(String, usize),
    /// One bit of the preserved map's root page.
    FlipNode(usize),
    /// The FDT ends after so many bytes.
    Cut(usize),
    /// Another magic.
    Magic,
    /// The preserved map is said to be at this address, under a right checksum.
    Map(u64),
}

static WANTED: IrqMutex<Option<Damage>> = IrqMutex::new(None);

/// How the file is used; it is what reading it shows.
pub const USAGE: &str = "\
# write one of these; it is done to the next handover, once
# none             nothing
# magic            another magic in the FDT
# cut BYTES        the FDT ends after BYTES
# flip BIT         one bit of the FDT (counted on from its start where it is shorter)
# flip NAME BIT    one bit of the blob of subsystem NAME (as in in/fdt), counted likewise
# node BIT         one bit of the preserved map's root page, counted likewise
# map ADDRESS      the preserved map is elsewhere, under a right checksum
";

/// What is wanted, as one would write it.
pub fn wanted() -> String {
    match &*WANTED.lock() {
        None => "none".into(),
        Some(Damage::Flip(bit)) => alloc::format!("flip {bit}"),
        Some(Damage::FlipBlob(name, bit)) => alloc::format!("flip {name} {bit}"),
        Some(Damage::FlipNode(bit)) => alloc::format!("node {bit}"),
        Some(Damage::Cut(bytes)) => alloc::format!("cut {bytes}"),
        Some(Damage::Magic) => "magic".into(),
        Some(Damage::Map(address)) => alloc::format!("map {address:#x}"),
    }
}

/// Sets what is wanted. `None` for text that is no kind of damage; then nothing has changed.
pub fn want(text: &str) -> Option<()> {
    let mut words = text.split_ascii_whitespace();
    let damage = match (words.next()?, words.next(), words.next(), words.next()) {
        ("none", None, None, None) => None,
        ("magic", None, None, None) => Some(Damage::Magic),
        ("cut", Some(n), None, None) => Some(Damage::Cut(n.parse().ok()?)),
        ("flip", Some(n), None, None) => Some(Damage::Flip(n.parse().ok()?)),
        ("flip", Some(name), Some(n), None) => {
            super::names().find(|n| *n == name)?;
            Some(Damage::FlipBlob(name.into(), n.parse().ok()?))
        }
        ("node", Some(n), None, None) => Some(Damage::FlipNode(n.parse().ok()?)),
        ("map", Some(n), None, None) => {
            let address = match n.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => n.parse(),
            };
            Some(Damage::Map(address.ok()?))
        }
        _ => return None,
    };
    *WANTED.lock() = damage;
    Some(())
}

fn flip(bytes: &mut [u8], bit: usize) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Does the damage. No allocation.
pub(super) fn apply(outgoing: &mut Outgoing) {
    match WANTED.lock().take() {
        None => {}
        Some(Damage::Flip(bit)) => flip(outgoing.fdt().bytes(), bit),
        Some(Damage::FlipBlob(name, bit)) => {
            if let Some(blob) = outgoing.blob(&name) {
                flip(blob.bytes(), bit);
            }
        }
        Some(Damage::FlipNode(bit)) => {
            let root = crate::memory::with_preserved(|map| Ok(map.root()));
            if let Ok(root) = root {
                // SAFETY: the root page is the map's, which is not used any more in this life.
                let bytes = unsafe {
                    core::slice::from_raw_parts_mut((DIRECT_MAP + root) as *mut u8, PAGE as usize)
                };
                flip(bytes, bit);
            }
        }
        Some(Damage::Cut(bytes)) => outgoing.fdt().cut(bytes),
        Some(Damage::Magic) => outgoing.fdt().bytes()[..4].copy_from_slice(b"oops"),
        Some(Damage::Map(address)) => {
            let bytes = outgoing.fdt().bytes();
            let root = crate::memory::with_preserved(|map| Ok(map.root()))
                .unwrap_or(0)
                .to_ne_bytes();
            if let Some(at) = bytes.windows(8).position(|w| w == root) {
                bytes[at..at + 8].copy_from_slice(&address.to_ne_bytes());
            }
            let _ = fdt::reseal(bytes);
        }
    }
}
