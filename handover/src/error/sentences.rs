//! The sentence of each error.

use core::fmt;

use super::{Error, Name, Parting};
use crate::mem::PAGE_SIZE;
use crate::page::MAX_ORDER;
use crate::scratch;
use crate::state::STREAM_OVERHEAD;

/// What happens instead, where a predecessor's data is read.
pub(super) const REFUSED: &str = "the handover is refused";
/// What happens instead, where one entry of a stream is read.
const NOT_RESTORED: &str = "it is not restored";

/// Words before a field's name; nothing where the name is empty.
struct AtField(&'static str, Name);

impl fmt::Display for AtField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.as_str() {
            "" => Ok(()),
            _ => write!(f, "{} `{}`", self.0, self.1),
        }
    }
}

/// An entry of a stream, by the name of its type where that is known.
struct EntryOf {
    id: u32,
    instance: u32,
    name: Name,
}

impl fmt::Display for EntryOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EntryOf { id, instance, name } = self;
        match (id, name.as_str()) {
            // A description, whose instance is the id of what it describes.
            (0, "") => write!(f, "the description of id {instance:#x}"),
            (0, _) => write!(f, "the description of `{name}` (id {instance:#x})"),
            (_, "") => write!(f, "the entry of id {id:#x}, instance {instance},"),
            (_, _) => write!(f, "`{name}` (id {id:#x}, instance {instance})"),
        }
    }
}

/// The fingerprints of a version in stream and kernel.
struct Prints {
    stream: u64,
    known: u64,
}

impl fmt::Display for Prints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Prints { stream, known } = self;
        write!(
            f,
            "(fingerprint {stream:#x} in the stream, {known:#x} in this kernel)"
        )
    }
}

/// What differs first, after the words that something does; nothing where that is not known.
struct FirstAt(Parting);

impl fmt::Display for FirstAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Parting::Unknown => Ok(()),
            Parting::Type { known, stream } => write!(
                f,
                ", first at field `{}`, which is {} here and was written as {stream}",
                known.name, known.ty
            ),
            Parting::OnlyStream(name) => {
                write!(f, ", first at field `{name}`, which only the stream has")
            }
            Parting::OnlyHere(name) => {
                write!(
                    f,
                    ", first at field `{name}`, which the stream does not have"
                )
            }
            Parting::Variant(name) => write!(f, ", first at variant `{name}`"),
            Parting::Order(name) => write!(f, ", from field `{name}` on"),
        }
    }
}

/// What to write so that a version stays as it was while a later one differs: `since` and `deprecated` of that one, where it is
/// known which.
struct Mark {
    at: Parting,
    version: Option<u32>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Number(Option<u32>);
        impl fmt::Display for Number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Some(version) => write!(f, "{version}"),
                    None => f.write_str("N"),
                }
            }
        }
        let n = Number(self.version);
        match self.at {
            Parting::Type { known, stream } => write!(
                f,
                "leave `{}` as {stream}, with `deprecated = {n}`, and add a field of the new type, with `since = {n}`",
                known.name
            )?,
            Parting::OnlyStream(name) => write!(f, "keep `{name}`, with `deprecated = {n}`")?,
            Parting::OnlyHere(name) => write!(f, "mark `{name}` with `since = {n}`")?,
            Parting::Order(_) => f.write_str("fields stay in their order")?,
            Parting::Unknown | Parting::Variant(_) => {
                write!(
                    f,
                    "mark what is new with `since = {n}`, and what is old with `deprecated = {n}`"
                )?;
            }
        }
        match (self.version, self.at) {
            (Some(_), _) | (_, Parting::Order(_)) => Ok(()),
            _ => f.write_str(", N being the version that changed it"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match *self {
            BlockOrder { block } => write!(
                f,
                "block {block}: the order is above {MAX_ORDER}; nothing was changed"
            ),
            BlockUnaligned { block } => write!(
                f,
                "block {block} is not aligned to its size; nothing was changed"
            ),
            BlockTooHigh { block } => write!(
                f,
                "block {block} lies beyond physical memory (52 bits); nothing was changed"
            ),
            RangeUnaligned { range } => write!(
                f,
                "range {range} is not of whole pages ({PAGE_SIZE} bytes); nothing was changed"
            ),
            RangeBackward { range } => write!(
                f,
                "range {range} ends before it starts; nothing was changed"
            ),

            NoTreePage => f.write_str(
                "preserved map: no free page for a node of the tree; nothing was changed",
            ),
            NoPages { order } => write!(
                f,
                "there is no free block of order {order} ({} KiB); nothing was changed",
                PAGE_SIZE.checked_shl(u32::from(order)).unwrap_or(0) >> 10
            ),
            NoHeap { what } => write!(f, "the heap has no room for {what}; nothing was changed"),
            NotRam { block } => write!(
                f,
                "preserved map: block {block} is not in RAM; it is not preserved"
            ),
            InScratch { block, scratch } => write!(
                f,
                "preserved map: block {block} touches scratch {scratch}, which the next kernel overwrites; it is not \
                 preserved"
            ),
            HoldsTreePage { block, node } => write!(
                f,
                "preserved map: block {block} holds page {node:#x} of the tree itself; it is not preserved"
            ),
            AlreadyPreserved { block, by } => write!(
                f,
                "preserved map: block {block} overlaps block {by}, which is preserved already; nothing was changed"
            ),
            NotPreserved { pa } => write!(
                f,
                "preserved map: the page at {pa:#x} is not preserved; nothing was changed"
            ),
            OtherBlock { asked, found } => write!(
                f,
                "preserved map: block {asked} was named, but the memory is preserved as block {found}; nothing was \
                 changed"
            ),
            CutsBlock { range, block } => write!(
                f,
                "preserved map: range {range} holds a part of block {block}; nothing was changed"
            ),

            ListChunk { chunk, why } => write!(
                f,
                "page list: the chunk at {chunk:#x} {why}; nothing was changed"
            ),
            ListCount { said, found } => write!(
                f,
                "page list: its head says {said} pages, but its chunks name {found}; nothing was changed"
            ),
            ListHead { why } => write!(f, "page list: its head {why}; nothing was changed"),
            ListTwice { block } => write!(
                f,
                "page list: block {block} stands in it twice; nothing was changed"
            ),

            SealBroken {
                range,
                stored,
                computed,
            } => write!(
                f,
                "preserved memory {range} has checksum {computed:#010x}, but was sealed with {stored:#010x}: it has \
                 changed since, and what it holds cannot be trusted"
            ),
            SealList { size, why } => write!(
                f,
                "seals: the list of {size} bytes {why}; nothing that it names is believed"
            ),

            NodeUnaligned { node, level } => write!(
                f,
                "preserved map: node {node:#x} at level {level} is not page-aligned; {REFUSED}"
            ),
            NodeOutsideRam { node, level } => write!(
                f,
                "preserved map: node {node:#x} at level {level} is not in RAM; {REFUSED}"
            ),
            NodeShared { node, level } => write!(
                f,
                "preserved map: node {node:#x} at level {level} was met before (a cycle, or two paths to it); {REFUSED}"
            ),
            TreePageForbidden { node, claim, range } => write!(
                f,
                "preserved map: node {node:#x} lies in {claim} {range}; {REFUSED}"
            ),
            NodePreserved { node, by } => write!(
                f,
                "preserved map: node {node:#x} is also preserved as data, in block {by}; {REFUSED}"
            ),
            TreeTooLarge { limit } => write!(
                f,
                "preserved map: more than {limit} nodes, which no tree over this machine's RAM needs; {REFUSED}"
            ),
            BadKey { key } => write!(
                f,
                "preserved map: key {key:#x} is set, but stands for no block; {REFUSED}"
            ),
            BlockOutsideRam { block } => write!(
                f,
                "preserved map: block {block} is not in RAM; {REFUSED}"
            ),
            BlockForbidden {
                block,
                claim,
                range,
            } => write!(
                f,
                "preserved map: block {block} overlaps {claim} {range}; {REFUSED}"
            ),
            BlockTwice { large, small } => write!(
                f,
                "preserved map: block {small} lies inside block {large}, both preserved; {REFUSED}"
            ),

            MapDigest { stored, computed } => write!(
                f,
                "preserved map: its digest is {computed:#018x}, but the FDT says {stored:#018x}: it is damaged; {REFUSED}"
            ),

            Fdt(error) => error.fmt(f),

            ScratchSyntax { given, part, why } => write!(
                f,
                "`{given}` is no size of scratch: {part} {why}; write an amount (16M), a percentage of what boot needs (200%), or low, global and \
                 per-node amounts (8M,16M,0)"
            ),
            ScratchTooLarge { wanted, usable } => write!(
                f,
                "{} KiB of scratch are wanted, more than half of the {} KiB that are usable",
                wanted >> 10,
                usable >> 10
            ),
            ScratchNoSpace { wanted, missing } => write!(
                f,
                "{} KiB of scratch are wanted, but for {} of them there is no place in {} regions",
                wanted >> 10,
                missing >> 10,
                scratch::MAX_REGIONS
            ),
            ScratchArrayRoom { needed, room } => write!(
                f,
                "scratch array: it takes {needed} bytes, but there is room for {room}; nothing was written"
            ),
            ScratchArraySize { size } => write!(
                f,
                "scratch array: {size} bytes are not 1 to {} entries of {} bytes; {REFUSED}",
                scratch::MAX_REGIONS,
                scratch::ENTRY_SIZE
            ),
            ScratchRegion {
                index,
                addr,
                size,
                why,
            } => write!(
                f,
                "scratch array: entry {index} ({size:#x} bytes at {addr:#x}) cannot be a region: it {why}; {REFUSED}"
            ),

            MetadataSize { size } => write!(
                f,
                "kexec-metadata: {size} bytes are not the {} of the structure; it is not believed",
                crate::metadata::SIZE
            ),
            MetadataVersion { version } => write!(
                f,
                "kexec-metadata: version {version} is not {}; it is not believed",
                crate::metadata::VERSION
            ),
            MetadataRelease => f.write_str(
                "kexec-metadata: the release name is not a NUL-terminated text of at most 64 bytes; it is not believed",
            ),

            StreamRoom { needed, room } => write!(
                f,
                "state stream: {needed} bytes are needed, but the buffer has {room}; the entry is not written"
            ),
            StreamMagic => write!(f, "state stream: it does not begin as one; {NOT_RESTORED}"),
            StreamFormat { format } => write!(
                f,
                "state stream: format {format} is not {}; {NOT_RESTORED}",
                crate::state::STREAM_FORMAT
            ),
            StreamHeader => write!(f, "state stream: its header is damaged; {NOT_RESTORED}"),
            StreamCut { have, .. } if have < STREAM_OVERHEAD => write!(
                f,
                "state stream: {have} bytes are there, fewer than the {STREAM_OVERHEAD} of one without any entry; {NOT_RESTORED}"
            ),
            StreamCut { total, have } => write!(
                f,
                "state stream: the header says {total} bytes, but {have} are there; {NOT_RESTORED}"
            ),
            EntryForm { offset, id } => write!(
                f,
                "state stream: the entry at byte {offset} (id {id:#x}) does not fit; the stream is not restored"
            ),
            EntryCrc {
                id,
                instance,
                name,
                stored,
                computed,
            } => write!(
                f,
                "state stream: {} has checksum {computed:#010x}, but {stored:#010x} is stored; the stream \
                 is not restored",
                EntryOf { id, instance, name }
            ),
            EntryTwice { name, id, instance } => write!(
                f,
                "state `{name}` (id {id:#x}, instance {instance}) stands twice in the stream; {NOT_RESTORED}"
            ),
            IdTaken { name, id, by } => write!(
                f,
                "state `{name}`: its id {id:#x} is that of another type in the stream{}: give each its own id; the entry is not \
                 written",
                AtField(",", by)
            ),
            EntryDescription { id, instance } => write!(
                f,
                "state stream: entry {id:#x}.{instance} has not the version and fingerprint of the type that is described under \
                 its id, so it is another type's; it is not read by that description"
            ),
            EntryMissing { name, id, instance } => write!(
                f,
                "state `{name}` (id {id:#x}, instance {instance}) is missing in the stream; {NOT_RESTORED}"
            ),
            StateTooNew {
                name,
                stream,
                readable_by,
                known,
                field,
            } => write!(
                f,
                "state `{name}`: the stream has version {stream}, readable from version {readable_by} on; this kernel \
                 knows version {known}{}; {NOT_RESTORED}",
                AtField("; they part at field", field)
            ),
            StateTooOld {
                name,
                stream,
                min,
                known,
                field,
            } => write!(
                f,
                "state `{name}`: the stream has version {stream}; this kernel knows version {known} and reads from version \
                 {min} on{}; {NOT_RESTORED}",
                AtField("; they part at field", field)
            ),
            StateLayout {
                name,
                version,
                written,
                writes,
                stream,
                known,
                at,
            } => {
                let prints = Prints { stream, known };
                if written > version {
                    write!(
                        f,
                        "state `{name}`: the stream has version {written} and says that version {version} can read it, but what it \
                         has for that is not version {version} as this kernel knows it{} {prints}: the newer kernel's struct \
                         changed without `since` or `deprecated`; {NOT_RESTORED}",
                        FirstAt(at)
                    )
                } else if writes > version {
                    write!(
                        f,
                        "state `{name}`: the stream has version {version}, and this kernel, which knows version {writes}, describes \
                         version {version} otherwise{} {prints}: {}; {NOT_RESTORED}",
                        FirstAt(at),
                        Mark {
                            at,
                            version: (writes == version + 1).then_some(writes)
                        }
                    )
                } else {
                    let differ = match at {
                        Parting::Order(_) => "its fields stand in another order",
                        _ => "its fields differ",
                    };
                    write!(
                        f,
                        "state `{name}`: both kernels call it version {version}, but {differ}{} {prints}: the layout changed \
                         without a version bump; {NOT_RESTORED}",
                        FirstAt(at)
                    )
                }
            }
            StateOther {
                name,
                id,
                stream,
                renamed: false,
            } => write!(
                f,
                "state `{name}`: its id {id:#x} belongs to another type in the stream, `{stream}`: give each its own id; \
                 {NOT_RESTORED}"
            ),
            StateOther {
                name,
                id,
                stream,
                renamed: true,
            } => write!(
                f,
                "state `{name}`: its id {id:#x} belongs to `{stream}` in the stream, which has the same fields: a struct that is \
                 renamed is another type, so call it `{stream}` as before; {NOT_RESTORED}"
            ),
            DescriptionTypes { name, limit } => write!(
                f,
                "state `{name}`: it is made of more than {limit} described types; the entry is not written"
            ),
            StateDepth { name, limit } => write!(
                f,
                "state `{name}`: more than {limit} described values stand inside each other; the entry is not written"
            ),
            OffsetOutside {
                place,
                address,
                base,
            } => write!(
                f,
                "state: {place} is address {address:#x}, outside of {base}; the entry is not written"
            ),
            StatePage { name, page, why } => {
                write!(f, "state `{name}`: its page {page} {why}; {NOT_RESTORED}")
            }

            StateValue { place, why } => write!(f, "state: {place} {why}; {NOT_RESTORED}"),
            StateLeftOver { name, bytes } => write!(
                f,
                "state `{name}`: {bytes} bytes are left over after its last field; {NOT_RESTORED}"
            ),

            NotInRam { claim, range } => write!(f, "{claim} {range} is not in RAM; {REFUSED}"),
            Overlap {
                a,
                a_range,
                b,
                b_range,
            } => write!(f, "{a} {a_range} overlaps {b} {b_range}; {REFUSED}"),
            NotPreservedWhole { claim, range, pa } => write!(
                f,
                "{claim} {range} is not preserved whole: page {pa:#x} is missing; {REFUSED}"
            ),
            BlobCrc {
                name,
                stored,
                computed,
            } => write!(
                f,
                "the blob of subsystem `{name}` has checksum {computed:#010x}, but the FDT says {stored:#010x}: it is \
                 damaged; {REFUSED}"
            ),
            Unreadable { claim, range } => {
                write!(f, "{claim} {range} cannot be reached; {REFUSED}")
            }
        }
    }
}
