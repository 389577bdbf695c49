//! Damage on purpose: what `/sys/kernel/debug/kho/out/damage` asks for is done to the next handover, after everything is
//! sealed, so that the receiving kernel's checks can be tried out. It holds for one kexec.

use super::Outgoing;
use crate::memory::{self, IrqMutex};
use alloc::format;
use alloc::string::String;
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
# BIT, BYTES and N count on from the start where there are fewer (but for \"cut BYTES\")
";

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
        Some(Damage::Cut(bytes)) => format!("cut {bytes}"),
        Some(Damage::CutBlob(name, bytes)) => format!("cut {name} {bytes}"),
        Some(Damage::CutParams(bytes)) => format!("cut {PARAMS} {bytes}"),
        Some(Damage::Magic) => "magic".into(),
        Some(Damage::Map(address)) => format!("map {address:#x}"),
    }
}

/// Sets what is wanted. `None` for text that is no kind of damage; then nothing has changed.
pub fn want(text: &str) -> Option<()> {
    let mut words = text.split_ascii_whitespace();
    let damage = match (words.next()?, words.next(), words.next(), words.next()) {
        ("none", None, None, None) => None,
        ("magic", None, None, None) => Some(Damage::Magic),
        ("cut", Some(n), None, None) => Some(Damage::Cut(n.parse().ok()?)),
        ("cut", Some(PARAMS), Some(n), None) => Some(Damage::CutParams(n.parse().ok()?)),
        ("cut", Some(name), Some(n), None) => {
            Some(Damage::CutBlob(subsystem(name)?.into(), n.parse().ok()?))
        }
        ("flip", Some(n), None, None) => Some(Damage::Flip(n.parse().ok()?)),
        ("flip", Some(PARAMS), Some(n), None) => Some(Damage::FlipParams(n.parse().ok()?)),
        ("flip", Some(name), Some(n), None) => {
            Some(Damage::FlipBlob(subsystem(name)?.into(), n.parse().ok()?))
        }
        ("node", Some(n), None, None) => Some(Damage::FlipNode(0, n.parse().ok()?)),
        ("node", Some(n), Some(bit), None) => {
            Some(Damage::FlipNode(n.parse().ok()?, bit.parse().ok()?))
        }
        ("page", Some(pa), Some(bit), None) => {
            let pa = number(pa)? & !(PAGE - 1);
            memory::with_preserved(|map| Ok(map.is_preserved(pa)))
                .ok()
                .filter(|is| *is)?;
            Some(Damage::FlipPage(pa, bit.parse().ok()?))
        }
        ("map", Some(n), None, None) => Some(Damage::Map(number(n)?)),
        _ => return None,
    };
    *WANTED.lock() = damage;
    Some(())
}

/// A name that has a blob.
fn subsystem(name: &str) -> Option<&str> {
    super::names().any(|n| n == name).then_some(name)
}

/// A decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
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
        None | Some(Damage::FlipParams(_) | Damage::CutParams(_)) => return,
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
