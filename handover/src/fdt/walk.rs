//! A strict walk over an FDT that nobody vouches for. It does not allocate, never reads outside the blob, and refuses
//! all that is not well-formed.
//!
//! Source: Devicetree Specification v0.4, chapter 5. Stricter than that: version 17 only, the blocks in the order
//! reservations, structure, strings, without overlap; two levels of nodes; names of printable ASCII, with a node's of at
//! most [`Name::MAX`] bytes (fdt-rs reads no longer ones) and no property twice in a node; padding of zero; nothing
//! between the end token and the end of the structure block.

use core::ops::Range;

use crate::error::{Error, FdtBlock, FdtError, FdtFault, Name};

const HEADER_SIZE: usize = 40;
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
/// The oldest version that a writer of version 17 may call itself compatible with.
const LAST_COMPATIBLE: u32 = 16;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// The root and its children.
const MAX_DEPTH: u32 = 2;
/// Most properties in a node; it bounds the search for doubled ones.
const MAX_PROPS: u32 = 64;
/// Longest property name (Devicetree Specification, 2.2.4.1).
const MAX_PROP_NAME: usize = 31;

/// What stands next in the tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A node begins; the root's name is empty.
    Begin { name: &'a str },
    /// A property of the node that began last; `value` is its place in the blob.
    Prop { name: &'a str, value: Range<usize> },
    /// The innermost open node ends.
    End,
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

pub(super) fn total_size(blob: &[u8]) -> Result<usize, Error> {
    let short = Error::Fdt(FdtError::Short { size: blob.len() });
    if blob.len() < HEADER_SIZE {
        return Err(short);
    }
    let magic = be32(blob, 0).ok_or(short)?;
    if magic != MAGIC {
        return Err(Error::Fdt(FdtError::Magic { found: magic }));
    }
    let size = be32(blob, 4).ok_or(short)? as usize;
    if size < HEADER_SIZE {
        return Err(Error::Fdt(FdtError::Short { size }));
    }
    if size > super::MAX_SIZE {
        return Err(Error::Fdt(FdtError::TooLarge {
            size,
            limit: super::MAX_SIZE,
        }));
    }
    Ok(size)
}

/// The walk; after an error it is over.
pub(super) struct Walk<'a> {
    blob: &'a [u8],
    /// The structure block's end.
    end: usize,
    /// The strings block.
    strings: &'a [u8],
    /// Next token.
    at: usize,
    depth: u32,
    /// Where the properties of the innermost node begin, while they still may come.
    props_from: Option<usize>,
    /// Whether the root has been met.
    begun: bool,
    done: bool,
}

impl<'a> Walk<'a> {
    /// Checks the header.
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, Error> {
        let total = total_size(blob)?;
        let have = blob.len();
        let Some(blob) = blob.get(..total) else {
            return Err(Error::Fdt(FdtError::Cut { total, have }));
        };
        let field = |at| be32(blob, at).ok_or(Error::Fdt(FdtError::Short { size: total }));
        let version = field(20)?;
        let compatible = field(24)?;
        if version != VERSION || !(LAST_COMPATIBLE..=VERSION).contains(&compatible) {
            return Err(Error::Fdt(FdtError::Version { version }));
        }

        let block = |which, offset: u32, size: u32, align: usize, after: usize| {
            let (offset, size) = (offset as usize, size as usize);
            let fault = Error::Fdt(FdtError::Block {
                which,
                offset,
                size,
                total,
            });
            match offset.checked_add(size) {
                Some(end) if end <= total && offset >= after && offset.is_multiple_of(align) => {
                    Ok(offset..end)
                }
                _ => Err(fault),
            }
        };
        // Reservations end with an empty one, so there is room for that at least.
        let reserved = block(FdtBlock::Reservations, field(16)?, 16, 8, HEADER_SIZE)?;
        let tokens = block(FdtBlock::Structure, field(8)?, field(36)?, 4, reserved.end)?;
        let strings = block(FdtBlock::Strings, field(12)?, field(32)?, 1, tokens.end)?;
        Ok(Walk {
            blob,
            end: tokens.end,
            strings: &blob[strings],
            at: tokens.start,
            depth: 0,
            props_from: None,
            begun: false,
            done: false,
        })
    }

    /// The next item; `None` after the root's end, with all of the structure block read.
    pub(super) fn next(&mut self) -> Result<Option<Item<'a>>, Error> {
        if self.done {
            return Ok(None);
        }
        loop {
            let at = self.at;
            let fault = |what| Error::Fdt(FdtError::Structure { offset: at, what });
            match self.word()? {
                NOP => continue,
                BEGIN_NODE => {
                    let name = self.node_name()?;
                    // Only the root has no name, and there is one root only, at the very start.
                    if (self.depth == 0) != name.is_empty() || self.depth == 0 && self.begun {
                        return Err(fault(FdtFault::Name));
                    }
                    self.begun = true;
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(fault(FdtFault::Depth));
                    }
                    self.props_from = Some(self.at);
                    return Ok(Some(Item::Begin { name }));
                }
                PROP => {
                    let from = self.props_from.ok_or(fault(FdtFault::PropPlace))?;
                    let (name, value) = self.prop()?;
                    if self.is_doubled(from, at, name)? {
                        return Err(fault(FdtFault::PropTwice));
                    }
                    return Ok(Some(Item::Prop { name, value }));
                }
                END_NODE => {
                    if self.depth == 0 {
                        return Err(fault(FdtFault::Unbalanced));
                    }
                    self.depth -= 1;
                    self.props_from = None;
                    return Ok(Some(Item::End));
                }
                END if self.depth == 0 && self.begun && self.at == self.end => {
                    self.done = true;
                    return Ok(None);
                }
                END => return Err(fault(FdtFault::Unbalanced)),
                _ => return Err(fault(FdtFault::Token)),
            }
        }
    }

    /// Whether a property called `name` stands among the tokens in `[from, to)`, which hold properties only.
    fn is_doubled(&self, from: usize, to: usize, name: &str) -> Result<bool, Error> {
        let mut earlier = Walk { at: from, ..*self };
        let mut count = 0;
        while earlier.at < to {
            if earlier.word()? == PROP {
                count += 1;
                if earlier.prop()?.0 == name || count == MAX_PROPS {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn word(&mut self) -> Result<u32, Error> {
        let fault = Error::Fdt(FdtError::Structure {
            offset: self.at,
            what: FdtFault::Cut,
        });
        let word = be32(&self.blob[..self.end], self.at).ok_or(fault)?;
        self.at += 4;
        Ok(word)
    }

    /// Takes `len` bytes and the padding behind them, which must be zero.
    fn take(&mut self, len: usize) -> Result<Range<usize>, Error> {
        let start = self.at;
        let fault = |what| {
            Error::Fdt(FdtError::Structure {
                offset: start,
                what,
            })
        };
        let end = start.checked_add(len).ok_or(fault(FdtFault::Cut))?;
        let next = end.checked_next_multiple_of(4).filter(|&n| n <= self.end);
        let next = next.ok_or(fault(FdtFault::Cut))?;
        if self.blob[end..next].iter().any(|&b| b != 0) {
            return Err(fault(FdtFault::Padding));
        }
        self.at = next;
        Ok(start..end)
    }

    fn node_name(&mut self) -> Result<&'a str, Error> {
        let fault = Error::Fdt(FdtError::Structure {
            offset: self.at,
            what: FdtFault::Name,
        });
        let blob = self.blob;
        let name = printable(&blob[self.at..self.end], Name::MAX).ok_or(fault)?;
        self.take(name.len() + 1)?;
        Ok(name)
    }

    fn prop(&mut self) -> Result<(&'a str, Range<usize>), Error> {
        let offset = self.at;
        let len = self.word()? as usize;
        let name_at = self.word()? as usize;
        let name = self.strings.get(name_at..);
        let name = name.and_then(|s| printable(s, MAX_PROP_NAME));
        let name = name
            .filter(|n| !n.is_empty())
            .ok_or(Error::Fdt(FdtError::Structure {
                offset,
                what: FdtFault::Name,
            }))?;
        Ok((name, self.take(len)?))
    }
}

/// The NUL-terminated string of at most `max` printable ASCII characters that `bytes` begins with.
fn printable(bytes: &[u8], max: usize) -> Option<&str> {
    let len = bytes.iter().take(max + 1).position(|&b| b == 0)?;
    let name = &bytes[..len];
    if !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    core::str::from_utf8(name).ok()
}
