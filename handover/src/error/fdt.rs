//! Why an FDT was refused, or not written: the cases and their sentences.

use core::fmt;

use super::sentences::REFUSED;
use super::{FdtBlock, FdtFault, Name};

/// Why an FDT was refused, or not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FdtError {
    /// Shorter than a header.
    Short {
        /// Its size in bytes.
        size: usize,
    },
    /// Not an FDT.
    Magic {
        /// What stands in the place of the magic number.
        found: u32,
    },
    /// A version other than 17.
    Version {
        /// The version.
        version: u32,
    },
    /// Larger than [`fdt::MAX_SIZE`](crate::fdt::MAX_SIZE).
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Less is there than the header says.
    Cut {
        /// Size according to the header, in bytes.
        total: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A block outside the blob, unaligned, or overlapping the one before.
    Block {
        /// Which block.
        which: FdtBlock,
        /// Where it begins.
        offset: usize,
        /// Its size in bytes.
        size: usize,
        /// The whole blob's size.
        total: usize,
    },
    /// Something wrong in the structure block.
    Structure {
        /// Where in the blob.
        offset: usize,
        /// What.
        what: FdtFault,
    },
    /// The blob's checksum is wrong.
    Crc {
        /// The one that it carries.
        stored: u32,
        /// The one that it has.
        computed: u32,
    },
    /// Written for another protocol.
    Compatible {
        /// The string that it lacks.
        wanted: &'static str,
    },
    /// A property is missing.
    Missing {
        /// In which node.
        node: Name,
        /// Which property.
        prop: &'static str,
    },
    /// A property has the wrong size.
    PropSize {
        /// In which node.
        node: Name,
        /// Which property.
        prop: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The right size.
        wanted: usize,
    },
    /// Two nodes have one name.
    NodeTwice {
        /// The name.
        name: Name,
    },
    /// A name that a subsystem's node cannot have.
    BadName {
        /// The name.
        name: Name,
    },
    /// A command line that is no NUL-free string.
    Bootargs,
    /// Too many subsystems.
    TooMany {
        /// The most that may be.
        limit: usize,
    },
    /// No subsystem of that name.
    NoNode {
        /// The name.
        name: Name,
    },
    /// The FDT writer refused.
    Write,
    /// The FDT reader refused what the check had let pass.
    Reader,
}

impl core::error::Error for FdtError {}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FdtError::Short { size } => write!(
                f,
                "FDT: {size} bytes are too few for a header (40); {REFUSED}"
            ),
            FdtError::Magic { found } => write!(
                f,
                "FDT: the magic number is {found:#010x}, not 0xd00dfeed; {REFUSED}"
            ),
            FdtError::Version { version } => write!(
                f,
                "FDT: version {version} is not 17, the one that is read; {REFUSED}"
            ),
            FdtError::TooLarge { size, limit } => write!(
                f,
                "FDT: {size} bytes are more than the {limit} that are allowed; {REFUSED}"
            ),
            FdtError::Cut { total, have } => write!(
                f,
                "FDT: the header says {total} bytes, but {have} are there; {REFUSED}"
            ),
            FdtError::Block {
                which,
                offset,
                size,
                total,
            } => write!(
                f,
                "FDT: the {which} ({size} bytes at {offset}) does not fit its place in {total} bytes; {REFUSED}"
            ),
            FdtError::Structure { offset, what } => {
                write!(f, "FDT: at byte {offset} stands {what}; {REFUSED}")
            }
            FdtError::Crc { stored, computed } => write!(
                f,
                "FDT: the checksum is {computed:#010x}, but {stored:#010x} is stored: the blob is damaged; {REFUSED}"
            ),
            FdtError::Compatible { wanted } => write!(
                f,
                "FDT: `compatible` does not hold \"{wanted}\", so it was written for another protocol; {REFUSED}"
            ),
            FdtError::Missing { node, prop } => {
                write!(f, "FDT: node `{node}` has no property `{prop}`; {REFUSED}")
            }
            FdtError::PropSize {
                node,
                prop,
                size,
                wanted,
            } => write!(
                f,
                "FDT: property `{prop}` of node `{node}` has {size} bytes, not {wanted}; {REFUSED}"
            ),
            FdtError::NodeTwice { name } => {
                write!(f, "FDT: two nodes are called `{name}`; {REFUSED}")
            }
            FdtError::BadName { name } => write!(
                f,
                "FDT: a subsystem cannot be called `{name}` (a letter, then letters, digits or ,._+- , at most {} \
                 bytes, not `chosen`); no FDT is written",
                Name::MAX
            ),
            FdtError::Bootargs => write!(
                f,
                "FDT: the command line is not one text without NUL; {REFUSED}"
            ),
            FdtError::TooMany { limit } => {
                write!(f, "FDT: more than {limit} subsystems; {REFUSED}")
            }
            FdtError::NoNode { name } => {
                write!(
                    f,
                    "FDT: there is no subsystem `{name}`; the FDT is unchanged"
                )
            }
            FdtError::Write => {
                f.write_str("FDT: the writer refused what it was given; no FDT is written")
            }
            FdtError::Reader => write!(f, "FDT: the reader cannot make sense of it; {REFUSED}"),
        }
    }
}
