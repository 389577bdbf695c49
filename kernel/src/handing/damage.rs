//! Damage on purpose: what `/sys/kernel/debug/kho/out/damage` asks for is done to the next handover, after everything is
//! sealed, so that the receiving kernel's checks can be tried out. It holds for one kexec.

use super::Outgoing;
use crate::memory::IrqMutex;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
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
    /// The next kernel is given so many bytes for the time before it has an allocator.
    Early(u64),
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
# early BYTES      the next kernel has BYTES for the time before it has an allocator (not of the handover: of its start)
";

/// The words that a damage begins with.
const KINDS: &str = "none, magic, cut, flip, node, map, early";

/// What is wanted, as one would write it.
pub fn wanted() -> String {
    match &*WANTED.lock() {
        None => "none".into(),
        Some(Damage::Flip(bit)) => format!("flip {bit}"),
        Some(Damage::FlipBlob(name, bit)) => format!("flip {name} {bit}"),
        Some(Damage::FlipNode(bit)) => format!("node {bit}"),
        Some(Damage::Cut(bytes)) => format!("cut {bytes}"),
        Some(Damage::Magic) => "magic".into(),
        Some(Damage::Map(address)) => format!("map {address:#x}"),
        Some(Damage::Early(bytes)) => format!("early {bytes}"),
    }
}

/// Sets what is wanted.
///
/// # Errors
/// A sentence that says what of the text is no damage; then nothing has changed.
pub fn want(text: &str) -> Result<(), String> {
    const BIT: &str = "the number of a bit";
    const BYTES: &str = "a number of bytes";
    const ADDRESS: &str = "a physical address";
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let damage = match words[..] {
        [] => return Err(format!("say what is to be done: one of {KINDS}")),
        ["none"] => None,
        ["magic"] => Some(Damage::Magic),
        ["cut", bytes] => Some(Damage::Cut(number(bytes, BYTES)? as usize)),
        ["early", bytes] => Some(Damage::Early(number(bytes, BYTES)?)),
        ["map", address] => Some(Damage::Map(number(address, ADDRESS)?)),
        ["node", bit] => Some(Damage::FlipNode(number(bit, BIT)? as usize)),
        ["flip", name] if super::names().any(|known| known == name) => {
            return Err(format!("flip {name}: {BIT} is missing"));
        }
        ["flip", bit] => Some(Damage::Flip(number(bit, BIT)? as usize)),
        ["flip", name, bit] => {
            if !super::names().any(|known| known == name) {
                let names: Vec<&str> = super::names().collect();
                return Err(format!(
                    "nothing is handed over under the name \"{name:.32}\"; there are {}",
                    names.join(", ")
                ));
            }
            Some(Damage::FlipBlob(name.into(), number(bit, BIT)? as usize))
        }
        [kind @ ("cut" | "early")] => return Err(format!("{kind}: {BYTES} is missing")),
        [kind @ ("node" | "flip")] => return Err(format!("{kind}: {BIT} is missing")),
        ["map"] => return Err(format!("map: {ADDRESS} is missing")),
        ["none" | "magic", more, ..]
        | ["cut" | "early" | "map" | "node", _, more, ..]
        | ["flip", _, _, more, ..] => {
            return Err(format!("\"{more:.32}\" is one word too many"));
        }
        [other, ..] => return Err(format!("\"{other:.32}\" is no damage; there are {KINDS}")),
    };
    *WANTED.lock() = damage;
    Ok(())
}
/// A number in decimal, or in hexadecimal behind `0x`.
fn number(word: &str, what: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("\"{word:.32}\" is not {what}"))
}

/// What the next kernel is to have for its first pages, in bytes. It is no damage to a handover, and holds for a kexec without
/// one, too.
pub fn take_early() -> Option<u64> {
    let mut wanted = WANTED.lock();
    let Some(Damage::Early(bytes)) = *wanted else {
        return None;
    };
    *wanted = None;
    Some(bytes)
}

fn flip(bytes: &mut [u8], bit: usize) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// Does the damage. No allocation.
pub(super) fn apply(outgoing: &mut Outgoing) {
    let mut wanted = WANTED.lock();
    if matches!(*wanted, Some(Damage::Early(_))) {
        return;
    }
    match wanted.take() {
        None | Some(Damage::Early(_)) => {}
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
