//! What the errors name: memory's users, places, and what is wrong with a value.

use core::fmt::{self, Write};

use crate::scratch::MAX_PERCENT;
use crate::state::FieldDesc;

/// A short name held by value, so that errors can be made where nothing may be allocated: a node of the FDT, a
/// subsystem. A longer one is cut, and shows that by `...`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    len: u8,
    cut: bool,
    bytes: [u8; Name::MAX],
}

impl Name {
    /// Longest name in bytes; also the longest of a subsystem (`fdt-rs` reads no longer node names).
    pub const MAX: usize = 29;

    /// The name, cut at [`Name::MAX`] bytes.
    pub fn new(name: &str) -> Self {
        let mut len = name.len().min(Name::MAX);
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; Name::MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Name {
            len: len as u8,
            cut: len < name.len(),
            bytes,
        }
    }

    /// The name, or its beginning.
    pub fn as_str(&self) -> &str {
        // `new` cut at a character's boundary.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may come out of a stream: what a terminal would act on is escaped.
        for c in self.as_str().chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        f.write_str(if self.cut { "..." } else { "" })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Who has a claim on a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A scratch region.
    Scratch,
    /// What the receiving kernel occupies.
    Image,
    /// The root FDT.
    Fdt,
    /// The blob of this subsystem.
    Blob(Name),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Scratch => f.write_str("the scratch region"),
            Claim::Image => f.write_str("the running kernel"),
            Claim::Fdt => f.write_str("the FDT"),
            Claim::Blob(name) => write!(f, "the blob of subsystem `{name}`"),
        }
    }
}

/// A block of the FDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtBlock {
    /// The memory reservation block.
    Reservations,
    /// The structure block.
    Structure,
    /// The strings block.
    Strings,
}

impl fmt::Display for FdtBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FdtBlock::Reservations => "memory reservation block",
            FdtBlock::Structure => "structure block",
            FdtBlock::Strings => "strings block",
        })
    }
}

/// What is wrong at a place of the FDT's structure block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtFault {
    /// No such token.
    Token,
    /// The block ends in the middle of something.
    Cut,
    /// A name that is empty, too long, unterminated, not printable, or outside the strings block.
    Name,
    /// A property where none may stand: before the root or after a child.
    PropPlace,
    /// A property that stands twice in its node, or one of too many.
    PropTwice,
    /// A node deeper than the root's children.
    Depth,
    /// Padding that is not zero.
    Padding,
    /// An end without a beginning, or the end of the tree in the wrong place.
    Unbalanced,
}

impl fmt::Display for FdtFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FdtFault::Token => "an unknown token",
            FdtFault::Cut => "something that the block's end cuts off",
            FdtFault::Name => "a name that is empty, too long, not printable, or outside its block",
            FdtFault::PropPlace => "a property where none may stand",
            FdtFault::PropTwice => "a property twice in one node, or more than 64 in it",
            FdtFault::Depth => "a node deeper than the root's children",
            FdtFault::Padding => "padding that is not zero",
            FdtFault::Unbalanced => {
                "an end without a beginning, or the tree's end too early or late"
            }
        })
    }
}

/// What is wrong with a scratch size or region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchFault {
    /// The text begins with no number.
    NoNumber,
    /// A size of nothing.
    Zero,
    /// More than a machine has.
    TooLarge,
    /// A percentage above [`MAX_PERCENT`](crate::scratch::MAX_PERCENT).
    Percent,
    /// A unit other than K, M, G, %.
    Unit,
    /// Neither one part nor three.
    PartCount,
    /// A percentage as one of three parts.
    PercentInParts,
    /// Not in whole pages.
    Unaligned,
    /// Overlaps another region.
    Overlap,
}

impl fmt::Display for ScratchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScratchFault::NoNumber => "does not begin with a number",
            ScratchFault::Zero => "is of size 0",
            ScratchFault::TooLarge => "is larger than any machine's memory",
            ScratchFault::Percent => {
                return write!(f, "is above {MAX_PERCENT} %, the most that is taken");
            }
            ScratchFault::Unit => "has a unit that is none of K, M, G, %",
            ScratchFault::PartCount => "has neither one part nor three",
            ScratchFault::PercentInParts => "is a percentage, which none of three parts can be",
            ScratchFault::Unaligned => "is not in whole pages",
            ScratchFault::Overlap => "overlaps another region",
        })
    }
}

/// Which part of `kho_scratch=` something is said of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScratchPart {
    /// All of it.
    #[default]
    Whole,
    /// The first of three.
    Low,
    /// The second.
    Global,
    /// The third.
    PerNode,
}

impl fmt::Display for ScratchPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScratchPart::Whole => "it",
            ScratchPart::Low => "its first part, for low memory,",
            ScratchPart::Global => "its second part, for memory anywhere,",
            ScratchPart::PerNode => "its third part, for each node,",
        })
    }
}

/// What is wrong with a list of scattered pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// The chunk's address is not that of a page of RAM.
    NotAPage,
    /// The chunk is not preserved as a block of one page.
    NotPreserved,
    /// More chunks than the announced pages need: a cycle, or a wrong link.
    TooLong,
    /// A flag that this kernel does not know.
    Flags(u16),
    /// A number of pages that is no whole number of blocks of the list's order, or an order that cannot be.
    Order(u16),
    /// More pages than a list can name.
    TooMany,
    /// With it the list names more pages than there are preserved in all: a cycle.
    NotSoMany,
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListFault::NotAPage => f.write_str("is not a page of RAM"),
            ListFault::NotPreserved => f.write_str("is not preserved as one page"),
            ListFault::TooLong => f.write_str("is one more than the announced pages need"),
            ListFault::Flags(flags) => {
                write!(f, "has flags {flags:#x}, not all of which are known")
            }
            ListFault::Order(order) => write!(
                f,
                "has order {order}, which is too high or does not divide its number of pages"
            ),
            ListFault::TooMany => f.write_str("cannot count that many pages"),
            ListFault::NotSoMany => {
                f.write_str("makes up more pages than are preserved in all: the chain is a circle")
            }
        }
    }
}

/// What is wrong with a list of seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealFault {
    /// Not a whole number of entries.
    Size,
    /// Its own checksum is wrong.
    Crc,
    /// An entry whose range is empty or passes the end of physical memory.
    Range,
    /// A range that is not all preserved.
    NotPreserved,
    /// A range that cannot be reached.
    Unreadable,
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SealFault::Size => "is no whole number of entries",
            SealFault::Crc => "has not the checksum that it was written with",
            SealFault::Range => "names a range that cannot be",
            SealFault::NotPreserved => "names memory that is not preserved",
            SealFault::Unreadable => "names memory that cannot be reached",
        })
    }
}

/// Where in a described state something stands; both empty where that is not in a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the struct or enum.
    pub of: &'static str,
    /// Name of the field or variant; empty for the whole.
    pub field: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.of, self.field) {
            ("", _) => f.write_str("a value"),
            (of, "") => write!(f, "`{of}`"),
            (of, field) => write!(f, "field `{field}` of `{of}`"),
        }
    }
}

/// Where two descriptions of one version part: the one in the stream, and this kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parting {
    /// That is not known: the stream does not describe that version, or the two differ in what a description does not list.
    #[default]
    Unknown,
    /// A field of both, of another type.
    Type {
        /// As this kernel has it.
        known: &'static FieldDesc,
        /// Its type in the stream, as it is written in Rust.
        stream: Name,
    },
    /// A field that this kernel does not have in that version.
    OnlyStream(Name),
    /// A field that only this kernel has in that version.
    OnlyHere(&'static str),
    /// The same fields in another order, from this one of the kernel's on.
    Order(Name),
    /// A variant that only one of the two has, or with another tag or other fields, or at another place.
    Variant(Name),
}

impl Parting {
    /// The field or variant; empty where that is not known.
    pub fn name(&self) -> Name {
        match *self {
            Parting::Unknown => Name::new(""),
            Parting::Type { known, .. } => Name::new(known.name),
            Parting::OnlyHere(name) => Name::new(name),
            Parting::OnlyStream(name) | Parting::Variant(name) | Parting::Order(name) => name,
        }
    }
}

/// What is wrong with a value in a state entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFault {
    /// It takes more bytes than there are.
    Cut {
        /// Bytes that it takes.
        needed: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A bool, or an option's mark, that is neither 0 nor 1.
    Bool(u8),
    /// An enum's tag that no variant has.
    Tag(u32),
    /// A string that is not UTF-8.
    Text,
    /// A vector or string of more elements than the bytes left can hold.
    Length(u32),
    /// A page that cannot be one: order or alignment.
    Page(u64),
    /// A number that does not fit its type here.
    Range(u64),
    /// More values inside each other than [`MAX_DEPTH`](crate::state::MAX_DEPTH).
    Depth,
    /// No memory to hold it.
    NoHeap,
    /// A range of memory that ends before it begins, or beyond physical memory.
    Memory {
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// An offset that leads out of what it is an offset into.
    Offset(u64),
    /// A map's key that is not above the one before.
    KeyOrder,
    /// Neither a subsection nor the end of them.
    Mark(u8),
    /// A subsection that stands twice.
    SectionTwice,
    /// A subsection with more bytes than its value takes.
    LeftOver(usize),
    /// A code in a description table that stands for no type.
    Code(u8),
    /// What the field's own `restore` says against it.
    Custom(&'static str),
}

/// What speaks against a page that a state names as its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFault {
    /// It is not in RAM.
    NotRam,
    /// It is not preserved as that block.
    NotPreserved,
    /// The state names the memory twice.
    Twice,
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageFault::NotRam => "is not in RAM",
            PageFault::NotPreserved => "is not preserved as this block",
            PageFault::Twice => "is named twice",
        })
    }
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueFault::Cut { needed, left } => {
                write!(f, "takes {needed} bytes, but {left} are left")
            }
            ValueFault::Bool(b) => write!(f, "is {b}, where only 0 or 1 can be"),
            ValueFault::Tag(tag) => write!(f, "has variant {tag}, which this kernel does not know"),
            ValueFault::Text => f.write_str("is not UTF-8"),
            ValueFault::Length(len) => write!(f, "claims {len} elements, more than fit"),
            ValueFault::Page(raw) => write!(f, "names a page that cannot be ({raw:#x})"),
            ValueFault::Range(n) => write!(f, "is {n}, which does not fit"),
            ValueFault::Depth => f.write_str("holds too many values inside each other"),
            ValueFault::NoHeap => f.write_str("does not fit into the memory that is left"),
            ValueFault::Memory { start, end } => {
                write!(f, "names memory that cannot be ({start:#x} to {end:#x})")
            }
            ValueFault::Offset(n) => write!(f, "is offset {n:#x}, which leads out of its base"),
            ValueFault::KeyOrder => f.write_str("has a key that is not above the one before"),
            ValueFault::Mark(b) => {
                write!(
                    f,
                    "begins with {b:#04x}, neither a subsection nor the end of them"
                )
            }
            ValueFault::SectionTwice => f.write_str("stands twice"),
            ValueFault::LeftOver(bytes) => write!(f, "has {bytes} bytes left over after its value"),
            ValueFault::Code(b) => write!(f, "has code {b}, which stands for no type"),
            ValueFault::Custom(why) => f.write_str(why),
        }
    }
}
