//! Damage on purpose: what `/sys/kernel/debug/kho/out/damage` asks for is done to the next handover, after everything is
//! sealed, so that the receiving kernel's checks can be tried out. It holds for one kexec.

use super::Outgoing;
use crate::memory::{self, IrqMutex};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::fdt;
use kernel::layout::{DIRECT_MAP, PAGE};

/// A kind of damage. Bits are counted on from the start where what is damaged is shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit of the FDT.
    Flip(usize),
    /// One bit of a subsystem's blob.
    FlipBlob(String, usize),
    /// One bit of one of the preserved map's pages: its number, counted on from the root where there are fewer.
    FlipNode(usize, usize),
    /// One bit of the boot parameters.
    FlipParams(usize),
    /// One bit of the page at this address.
    FlipPage(u64, usize),
    /// The block that holds the page at this address is preserved no more, under a right digest of the map.
    Lose(u64),
    /// The FDT ends after so many bytes.
    Cut(usize),
    /// A subsystem's blob ends after so many bytes, counted as bits are, and is said to do so, under right checksums.
    CutBlob(String, usize),
    /// The boot parameters are zero after so many bytes, counted as bits are.
    CutParams(usize),
    /// Another magic.
    Magic,
    /// The preserved map is said to be at this address, under a right checksum.
    Map(u64),
    /// The next kernel gets so many bytes for its early pages.
    Early(u64),
}

static WANTED: IrqMutex<Option<Damage>> = IrqMutex::new(None);

/// How the file is used; it is what reading it shows.
pub const USAGE: &str = "\
# write one of these; it is done to the next handover, once
# none               nothing
# magic              another magic in the FDT
# map ADDRESS        the preserved map is elsewhere, under a right checksum
# cut BYTES          the FDT ends after BYTES
# cut NAME BYTES     the blob of subsystem NAME (as in in/fdt) does, under right checksums
# cut params BYTES   the boot parameters are zero after BYTES
# flip BIT           one bit of the FDT
# flip NAME BIT      one bit of the blob of subsystem NAME
# flip params BIT    one bit of the boot parameters
# node N BIT         one bit of page N of the preserved map, of which the root is 0
# page ADDRESS BIT   one bit of a page that is preserved now (as in out/preserved)
# lose ADDRESS       the block that holds the page at ADDRESS is not preserved, under a right digest of the map
# early BYTES        the next kernel has BYTES for the time before it has an allocator (not of the handover: of its start)
# BIT, BYTES and N count on from the start where there are fewer (but for \"cut BYTES\")
";

/// The words that a damage begins with.
const KINDS: &str = "none, magic, cut, flip, node, page, lose, map, early";

/// What stands for the boot parameters where a subsystem could.
const PARAMS: &str = "params";

/// What is wanted, as one would write it.
pub fn wanted() -> String {
    match &*WANTED.lock() {
        None => "none".into(),
        Some(Damage::Flip(bit)) => format!("flip {bit}"),
        Some(Damage::FlipBlob(name, bit)) => format!("flip {name} {bit}"),
        Some(Damage::FlipNode(n, bit)) => format!("node {n} {bit}"),
        Some(Damage::FlipParams(bit)) => format!("flip {PARAMS} {bit}"),
        Some(Damage::FlipPage(pa, bit)) => format!("page {pa:#x} {bit}"),
        Some(Damage::Lose(pa)) => format!("lose {pa:#x}"),
        Some(Damage::Cut(bytes)) => format!("cut {bytes}"),
        Some(Damage::CutBlob(name, bytes)) => format!("cut {name} {bytes}"),
        Some(Damage::CutParams(bytes)) => format!("cut {PARAMS} {bytes}"),
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
    const PAGE_NUMBER: &str = "the number of a page";
    const ADDRESS: &str = "a physical address";
    let size = |word: &str| number(word, BYTES).map(|n| n as usize);
    let bit = |word: &str| number(word, BIT).map(|n| n as usize);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let damage = match words[..] {
        [] => return Err(format!("say what is to be done: one of {KINDS}")),
        ["none"] => None,
        ["magic"] => Some(Damage::Magic),
        [kind @ ("cut" | "flip"), name] if name == PARAMS || is_handed_over(name) => {
            let what = if kind == "cut" { BYTES } else { BIT };
            return Err(format!("{kind} {name}: {what} is missing"));
        }
        ["cut", n] => Some(Damage::Cut(size(n)?)),
        ["cut", PARAMS, n] => Some(Damage::CutParams(size(n)?)),
        ["cut", name, n] => Some(Damage::CutBlob(subsystem(name)?, size(n)?)),
        ["early", n] => Some(Damage::Early(number(n, BYTES)?)),
        ["map", address] => Some(Damage::Map(number(address, ADDRESS)?)),
        ["node", n] => Some(Damage::FlipNode(0, bit(n)?)),
        ["node", page, n] => Some(Damage::FlipNode(
            number(page, PAGE_NUMBER)? as usize,
            bit(n)?,
        )),
        ["page", address, n] => Some(Damage::FlipPage(preserved_page(address, ADDRESS)?, bit(n)?)),
        ["lose", address] => Some(Damage::Lose(preserved_page(address, ADDRESS)?)),
        ["flip", n] => Some(Damage::Flip(bit(n)?)),
        ["flip", PARAMS, n] => Some(Damage::FlipParams(bit(n)?)),
        ["flip", name, n] => Some(Damage::FlipBlob(subsystem(name)?, bit(n)?)),
        [kind @ ("cut" | "early")] => return Err(format!("{kind}: {BYTES} is missing")),
        [kind @ ("node" | "flip")] => return Err(format!("{kind}: {BIT} is missing")),
        ["page", address] => return Err(format!("page {address:.32}: {BIT} is missing")),
        [kind @ ("map" | "page" | "lose")] => return Err(format!("{kind}: {ADDRESS} is missing")),
        ["none" | "magic", more, ..]
        | ["early" | "map" | "lose", _, more, ..]
        | ["flip" | "cut" | "node" | "page", _, _, more, ..] => {
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

fn is_handed_over(name: &str) -> bool {
    super::names().any(|known| known == name)
}

/// A name that has a blob.
fn subsystem(name: &str) -> Result<String, String> {
    if is_handed_over(name) {
        return Ok(name.into());
    }
    let names: Vec<&str> = super::names().collect();
    Err(format!(
        "nothing is handed over under the name \"{name:.32}\"; there are {}",
        names.join(", ")
    ))
}

/// The page at an address, which is preserved.
fn preserved_page(word: &str, what: &str) -> Result<u64, String> {
    let pa = number(word, what)? & !(PAGE - 1);
    match memory::with_preserved(|map| Ok(map.is_preserved(pa)))? {
        true => Ok(pa),
        false => Err(format!("the page at {pa:#x} is not preserved")),
    }
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

fn flip_in_page(pa: u64, bit: usize) {
    // SAFETY: a page of RAM that is preserved, or a node of the preserved map; nobody uses either any more in this life, of
    // which this is nearly the last step.
    flip(
        unsafe { core::slice::from_raw_parts_mut((DIRECT_MAP + pa) as *mut u8, PAGE as usize) },
        bit,
    );
}

/// Does the damage to all but the boot parameters. No allocation.
pub(super) fn apply(outgoing: &mut Outgoing) {
    let mut wanted = WANTED.lock();
    match &*wanted {
        None | Some(Damage::FlipParams(_) | Damage::CutParams(_) | Damage::Early(_)) => return,
        Some(Damage::Flip(bit)) => flip(outgoing.fdt().bytes(), *bit),
        Some(Damage::FlipBlob(name, bit)) => {
            if let Some(blob) = outgoing.blob(name) {
                flip(blob.bytes(), *bit);
            }
        }
        Some(Damage::FlipNode(n, bit)) => {
            let page = memory::with_preserved(|map| {
                let (mut at, n) = (0, n % map.node_count());
                let mut page = map.root();
                // The root is number 0; the others follow by address.
                let root = page;
                map.for_each_node(|node| {
                    if node != root {
                        at += 1;
                        if at == n {
                            page = node;
                        }
                    }
                });
                Ok(page)
            });
            if let Ok(page) = page {
                flip_in_page(page, *bit);
            }
        }
        Some(Damage::FlipPage(pa, bit)) => flip_in_page(*pa, *bit),
        Some(Damage::Lose(pa)) => {
            let digest = memory::with_preserved(|map| {
                if let Some(block) = map.block_at(*pa) {
                    map.unpreserve(block)?;
                }
                Ok(map.digest())
            });
            if let Ok(digest) = digest {
                let _ = fdt::set_map_digest(outgoing.fdt().bytes(), digest);
            }
        }
        Some(Damage::Cut(bytes)) => outgoing.fdt().cut(*bytes),
        Some(Damage::CutBlob(name, bytes)) => {
            if let Some(blob) = outgoing.blob(name) {
                let bytes = bytes % blob.bytes().len().max(1);
                let crc32 = crc32fast::hash(&blob.bytes()[..bytes]);
                let _ = fdt::set_subsystem(outgoing.fdt().bytes(), name, bytes as u64, crc32);
            }
        }
        Some(Damage::Magic) => outgoing.fdt().bytes()[..4].copy_from_slice(b"oops"),
        Some(Damage::Map(address)) => {
            let bytes = outgoing.fdt().bytes();
            let root = memory::with_preserved(|map| Ok(map.root()))
                .unwrap_or(0)
                .to_ne_bytes();
            if let Some(at) = bytes.windows(8).position(|w| w == root) {
                bytes[at..at + 8].copy_from_slice(&address.to_ne_bytes());
            }
            let _ = fdt::reseal(bytes);
        }
    }
    // The string that it may hold stays: freeing it would be a risk for nothing, this close to the jump.
    core::mem::forget(wanted.take());
}

/// Does the damage to the boot parameters, which are finished. No allocation.
pub fn apply_to_params(block: &mut [u8]) {
    let size = kernel::params::size(block).unwrap_or(block.len());
    let block = &mut block[..size];
    match &*WANTED.lock() {
        Some(Damage::FlipParams(bit)) => flip(block, *bit),
        Some(Damage::CutParams(bytes)) => block[bytes % size.max(1)..].fill(0),
        _ => {}
    }
}
