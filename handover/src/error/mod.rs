//! Why something was refused: one sentence each, with what, where, and what happens instead.
//!
//! The enum stands here, its sentences in `sentences`, and what it names in `parts`; what can be wrong with an FDT in `fdt`, both.

mod fdt;
mod parts;
mod sentences;

pub use fdt::FdtError;
pub use parts::{
    Claim, FdtBlock, FdtFault, ListFault, Name, PageFault, Parting, Place, ScratchFault,
    ScratchPart, SealFault, ValueFault,
};

use crate::page::PageRef;
use crate::range::PhysRange;

/// Why something was refused.
///
/// `Display` gives one sentence that names what, where, and what happens instead. It is `Copy` and holds nothing
/// allocated, so that it can be made in the last moments of a kernel and the first of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    // Blocks and ranges.
    /// An order above [`MAX_ORDER`](crate::page::MAX_ORDER).
    BlockOrder {
        /// The block.
        block: PageRef,
    },
    /// A block that is not aligned to its size.
    BlockUnaligned {
        /// The block.
        block: PageRef,
    },
    /// A block beyond the 52 bits of a physical address.
    BlockTooHigh {
        /// The block.
        block: PageRef,
    },
    /// A range that is not of whole pages.
    RangeUnaligned {
        /// The range.
        range: PhysRange,
    },
    /// A range that ends before it starts.
    RangeBackward {
        /// The range.
        range: PhysRange,
    },

    // The preserved map, on the side that writes.
    /// No page for a node of the tree.
    NoTreePage,
    /// No free block of pages.
    NoPages {
        /// The order that was asked for.
        order: u8,
    },
    /// The heap is exhausted.
    NoHeap {
        /// What was to be held there.
        what: &'static str,
    },
    /// The block is not RAM.
    NotRam {
        /// The block.
        block: PageRef,
    },
    /// The block touches scratch.
    InScratch {
        /// The block.
        block: PageRef,
        /// The scratch region.
        scratch: PhysRange,
    },
    /// The block holds a page of the tree itself.
    HoldsTreePage {
        /// The block.
        block: PageRef,
        /// The tree's page.
        node: u64,
    },
    /// The block, or a part of it, is preserved already.
    AlreadyPreserved {
        /// The block.
        block: PageRef,
        /// What it shares a page with.
        by: PageRef,
    },
    /// The page is not preserved.
    NotPreserved {
        /// Physical address of the page.
        pa: u64,
    },
    /// The memory is preserved, but in another block.
    OtherBlock {
        /// The block that was named.
        asked: PageRef,
        /// The block that holds it.
        found: PageRef,
    },
    /// A range holds a part of a block.
    CutsBlock {
        /// The range.
        range: PhysRange,
        /// The block.
        block: PageRef,
    },

    // Lists of scattered pages.
    /// A chunk of a page list that cannot be one.
    ListChunk {
        /// Physical address of the chunk.
        chunk: u64,
        /// Why.
        why: ListFault,
    },
    /// A page list whose length is not the one that it was announced with.
    ListCount {
        /// Pages, as its head says.
        said: u32,
        /// Pages that its chunks name.
        found: u64,
    },
    /// A page list's head that cannot be one.
    ListHead {
        /// Why.
        why: ListFault,
    },
    /// A block that stands twice in a page list, or in it and as one of its chunks.
    ListTwice {
        /// The block.
        block: PageRef,
    },

    // Checksums of preserved memory.
    /// Preserved memory whose content is not what it was sealed with.
    SealBroken {
        /// The memory.
        range: PhysRange,
        /// The checksum that it was sealed with.
        stored: u32,
        /// The one that it has.
        computed: u32,
    },
    /// A list of seals that cannot be one.
    SealList {
        /// Its size in bytes.
        size: usize,
        /// Why.
        why: SealFault,
    },

    // The preserved map, on the side that reads.
    /// A node that is not page-aligned.
    NodeUnaligned {
        /// Its physical address.
        node: u64,
        /// Its level; the root's is 5, a leaf's 0.
        level: u32,
    },
    /// A node that is not in RAM.
    NodeOutsideRam {
        /// Its physical address.
        node: u64,
        /// Its level.
        level: u32,
    },
    /// A node that was met before: a cycle, or two paths to it.
    NodeShared {
        /// Its physical address.
        node: u64,
        /// The level at which it was met again.
        level: u32,
    },
    /// A node in memory that has another use.
    TreePageForbidden {
        /// Its physical address.
        node: u64,
        /// Whose memory it is.
        claim: Claim,
        /// That memory.
        range: PhysRange,
    },
    /// A node that is preserved as data too.
    NodePreserved {
        /// Its physical address.
        node: u64,
        /// The block that holds it.
        by: PageRef,
    },
    /// More nodes than this machine's RAM can need.
    TreeTooLarge {
        /// The most that are accepted.
        limit: usize,
    },
    /// A set bit that stands for no block.
    BadKey {
        /// Its key.
        key: u64,
    },
    /// A block that is not in RAM.
    BlockOutsideRam {
        /// The block.
        block: PageRef,
    },
    /// A block in memory that has another use.
    BlockForbidden {
        /// The block.
        block: PageRef,
        /// Whose memory it is.
        claim: Claim,
        /// That memory.
        range: PhysRange,
    },
    /// A page that is in two blocks.
    BlockTwice {
        /// The larger block.
        large: PageRef,
        /// The smaller one inside it.
        small: PageRef,
    },

    /// The map is not the one that was handed over.
    MapDigest {
        /// The digest that the FDT has.
        stored: u64,
        /// The one that the tree has.
        computed: u64,
    },

    // The FDT.
    /// The FDT is refused.
    Fdt(FdtError),

    // Scratch.
    /// `kho_scratch=` could not be read.
    ScratchSyntax {
        /// What was given.
        given: Name,
        /// Which of it.
        part: ScratchPart,
        /// What is wrong with it.
        why: ScratchFault,
    },
    /// More scratch than half of the memory.
    ScratchTooLarge {
        /// Bytes wanted.
        wanted: u64,
        /// Usable memory in bytes.
        usable: u64,
    },
    /// Memory is too scattered for the scratch that is wanted.
    ScratchNoSpace {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes that found no place.
        missing: u64,
    },
    /// No room to write the scratch array.
    ScratchArrayRoom {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        room: usize,
    },
    /// A scratch array of no possible size.
    ScratchArraySize {
        /// Its size in bytes.
        size: usize,
    },
    /// A scratch region that cannot be one.
    ScratchRegion {
        /// Which entry of the array, from 0.
        index: usize,
        /// Its address.
        addr: u64,
        /// Its size in bytes.
        size: u64,
        /// What is wrong with it.
        why: ScratchFault,
    },

    // kexec-metadata.
    /// A metadata blob that is too short.
    MetadataSize {
        /// Its size in bytes.
        size: usize,
    },
    /// Metadata of another version.
    MetadataVersion {
        /// The version.
        version: u32,
    },
    /// A release name that is too long, unterminated, or no text.
    MetadataRelease,

    // State streams.
    /// The buffer is too small for the stream.
    StreamRoom {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        room: usize,
    },
    /// Not a state stream.
    StreamMagic,
    /// A stream of another format.
    StreamFormat {
        /// Its format version.
        format: u32,
    },
    /// The stream's header is damaged.
    StreamHeader,
    /// Less is there than the stream's header says.
    StreamCut {
        /// Size according to the header, in bytes.
        total: u64,
        /// Bytes that are there.
        have: usize,
    },
    /// An entry that does not fit the stream, or whose header contradicts itself.
    EntryForm {
        /// Where in the stream.
        offset: usize,
        /// Its state id, as it stands there.
        id: u32,
    },
    /// An entry's checksum is wrong.
    EntryCrc {
        /// Its state id; 0 for a description.
        id: u32,
        /// Its instance; of a description the id of what it describes.
        instance: u32,
        /// The struct, as the stream describes it; empty where it does not.
        name: Name,
        /// The one that it carries.
        stored: u32,
        /// The one that it has.
        computed: u32,
    },
    /// An entry stands twice.
    EntryTwice {
        /// The struct.
        name: &'static str,
        /// Its state id.
        id: u32,
        /// The instance.
        instance: u32,
    },
    /// Another type has been put under the same state id.
    IdTaken {
        /// The struct.
        name: &'static str,
        /// The state id.
        id: u32,
        /// The other struct; empty where it has no name.
        by: Name,
    },
    /// An entry of another type than the one that is described under its id.
    EntryDescription {
        /// Its state id.
        id: u32,
        /// Its instance.
        instance: u32,
    },
    /// An entry is missing.
    EntryMissing {
        /// The struct.
        name: &'static str,
        /// Its state id.
        id: u32,
        /// The instance.
        instance: u32,
    },
    /// Written by a newer kernel, in a form that it does not offer to older ones.
    StateTooNew {
        /// The struct.
        name: &'static str,
        /// The stream's version.
        stream: u32,
        /// The oldest version that can read it.
        readable_by: u32,
        /// The version that this kernel knows.
        known: u32,
        /// The first field that only one of the two has; empty where that is not known.
        field: Name,
    },
    /// Written by a kernel that is too old.
    StateTooOld {
        /// The struct.
        name: &'static str,
        /// The stream's version.
        stream: u32,
        /// The oldest version that this kernel reads.
        min: u32,
        /// The version that it writes.
        known: u32,
        /// The first field that only one of the two has; empty where that is not known.
        field: Name,
    },
    /// Same version, other fields.
    StateLayout {
        /// The struct.
        name: &'static str,
        /// The version that both describe, and not alike.
        version: u32,
        /// The version that the stream was written in: not below that one.
        written: u32,
        /// The version that this kernel writes: not below it either.
        writes: u32,
        /// Fingerprint of that version in the stream. (Of a value inside another: folded to 32 bits, as `known`.)
        stream: u64,
        /// Fingerprint of it in this kernel.
        known: u64,
        /// What differs first.
        at: Parting,
    },
    /// Another type under the same state id.
    StateOther {
        /// The struct.
        name: &'static str,
        /// Its state id.
        id: u32,
        /// The struct that was written under it.
        stream: Name,
        /// Whether that has the same fields: a struct that was renamed.
        renamed: bool,
    },
    /// Descriptions of more types in one entry than a table holds.
    DescriptionTypes {
        /// The struct.
        name: &'static str,
        /// The most that a table holds.
        limit: usize,
    },
    /// Values inside each other that are more than a stream may have.
    StateDepth {
        /// The struct that is one too many.
        name: &'static str,
        /// The most that may be.
        limit: u32,
    },
    /// An address that is to be stored as an offset, and lies outside of what it is an offset into.
    OffsetOutside {
        /// Which field.
        place: Place,
        /// Its value.
        address: u64,
        /// Where it may lie.
        base: PhysRange,
    },
    /// A page that a state names as its own, and cannot be.
    StatePage {
        /// The struct.
        name: &'static str,
        /// The page.
        page: PageRef,
        /// Why not.
        why: PageFault,
    },

    /// A value that cannot be.
    StateValue {
        /// Where.
        place: Place,
        /// What is wrong.
        why: ValueFault,
    },
    /// An entry that holds more than its description says.
    StateLeftOver {
        /// The struct.
        name: &'static str,
        /// Bytes that are left.
        bytes: usize,
    },

    // The whole check.
    /// Something is not in RAM.
    NotInRam {
        /// What.
        claim: Claim,
        /// Where it should lie.
        range: PhysRange,
    },
    /// Two things overlap that must not.
    Overlap {
        /// One.
        a: Claim,
        /// Where it lies.
        a_range: PhysRange,
        /// The other.
        b: Claim,
        /// Where that lies.
        b_range: PhysRange,
    },
    /// Something is not wholly inside preserved memory.
    NotPreservedWhole {
        /// What.
        claim: Claim,
        /// Where it lies.
        range: PhysRange,
        /// Its first page that is not preserved.
        pa: u64,
    },
    /// A blob's checksum is wrong.
    BlobCrc {
        /// The subsystem.
        name: Name,
        /// The one that the FDT has.
        stored: u32,
        /// The one that the blob has.
        computed: u32,
    },
    /// Memory that is RAM by the memory map, but cannot be reached.
    Unreadable {
        /// What lies there.
        claim: Claim,
        /// Where.
        range: PhysRange,
    },
}

impl core::error::Error for Error {}

impl From<FdtError> for Error {
    fn from(error: FdtError) -> Self {
        Error::Fdt(error)
    }
}
