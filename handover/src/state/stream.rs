//! Streams of entries: a header, the entries, an end mark.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ahead::Descriptions;
use super::codec::{Decoder, Encoder, fold};
use super::desc::{Desc, MAX_SPAN, TypeDesc};
use super::parting::{explain, reading_version};
use super::table::{Table, Types, root_name};
use super::{KState, STREAM_FORMAT};
use crate::error::{Error, Name};

/// First eight bytes of a stream.
const MAGIC: [u8; 8] = *b"BTNSTATE";
/// Last eight bytes of a stream.
const END: [u8; 8] = *b"STATEEND";
/// Entries begin at multiples of this.
const ALIGN: usize = 8;
/// The id of the entries that describe the others; their instance is the state id that they describe.
const DESCRIPTION: u32 = 0;
/// Bytes of a fingerprint.
const FINGERPRINT: usize = 8;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StreamHeader {
    magic: [u8; 8],
    format: u32,
    entries: u32,
    /// Length of the whole stream, header and end mark included.
    total: u64,
    /// CRC-32 of this header with the checksum as zero.
    crc32: u32,
    /// Zero.
    reserved: u32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EntryHeader {
    id: u32,
    instance: u32,
    version: u32,
    /// The oldest version that can read it. A fingerprint for each version from this to `version` follows the header.
    readable_by: u32,
    /// Bytes of content, after the fingerprints; zeroes follow up to a multiple of [`ALIGN`].
    size: u64,
    /// CRC-32 of header (with this as zero), fingerprints and content.
    crc32: u32,
    /// Zero.
    reserved: u32,
}

const STREAM_HEADER: usize = size_of::<StreamHeader>();
const ENTRY_HEADER: usize = size_of::<EntryHeader>();
/// Bytes of a stream without any entry.
pub const STREAM_OVERHEAD: usize = STREAM_HEADER + END.len();

impl StreamHeader {
    fn crc(mut self) -> u32 {
        self.crc32 = 0;
        crc32fast::hash(self.as_bytes())
    }
}

impl EntryHeader {
    /// Without size and checksum.
    fn new(id: u32, instance: u32, version: u32, readable_by: u32) -> Self {
        EntryHeader {
            id,
            instance,
            version,
            readable_by,
            size: 0,
            crc32: 0,
            reserved: 0,
        }
    }

    /// How many fingerprints follow; `None` where the versions contradict each other.
    fn fingerprints(&self) -> Option<usize> {
        let span = self.version.checked_sub(self.readable_by)?;
        (self.readable_by > 0 && span < MAX_SPAN).then_some(span as usize + 1)
    }

    /// `rest` is fingerprints and content.
    fn crc(mut self, rest: &[u8]) -> u32 {
        self.crc32 = 0;
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.as_bytes());
        crc.update(rest);
        crc.finalize()
    }
}

/// Where the content of an entry of this description begins.
const fn content_offset(desc: &Desc) -> usize {
    ENTRY_HEADER + FINGERPRINT * (desc.version - desc.readable_by + 1) as usize
}

/// Bytes that an entry with this value takes in a stream, header and padding and the description of its type included.
/// (The description stands in a stream once for each id, so further instances take less.)
///
/// It is the size now: a value that grows until it is written takes more.
pub fn encoded_size<T: KState>(value: &T) -> usize {
    const { assert!(T::DESC.id != 0, "an entry needs `#[kstate(id = ...)]`") };
    entry_size(value) + description_size(&T::TYPE, T::DESC.name)
}

/// The same without the description.
fn entry_size<T: KState>(value: &T) -> usize {
    let mut enc = Encoder::counting();
    // Counting has no room to run out of; what else is wrong with the value is met again, and refused, when it is written.
    let _ = value.save(&mut enc);
    (content_offset(&T::DESC) + enc.position()).next_multiple_of(ALIGN)
}

/// Bytes that a description takes as an entry.
fn description_size(root: &TypeDesc, name: &'static str) -> usize {
    let mut enc = Encoder::counting();
    let _ = Types::of(root, name).and_then(|types| types.save(root, &mut enc));
    (ENTRY_HEADER + FINGERPRINT + enc.position()).next_multiple_of(ALIGN)
}

/// Writes a stream into a slice. It never allocates.
#[derive(Debug)]
pub struct StreamWriter<'a> {
    out: &'a mut [u8],
    /// Where the next entry begins.
    at: usize,
    entries: u32,
}

impl<'a> StreamWriter<'a> {
    /// A stream at the start of `out`. That it has room is seen when entries are put.
    pub fn new(out: &'a mut [u8]) -> Self {
        StreamWriter {
            out,
            at: STREAM_HEADER,
            entries: 0,
        }
    }

    /// A stream that begins with descriptions written before: those of the types that are put are not worked out again. Where
    /// there is no room for them, they are left out.
    pub fn with_descriptions(out: &'a mut [u8], ready: &Descriptions) -> Self {
        let mut writer = StreamWriter::new(out);
        let end = STREAM_HEADER + ready.bytes.len();
        if let Some(place) = writer.out.get_mut(STREAM_HEADER..end) {
            place.copy_from_slice(&ready.bytes);
            (writer.at, writer.entries) = (end, ready.entries);
        }
        writer
    }

    /// Appends an entry. Where it fails, the stream is as it was before.
    ///
    /// A type without a state id of its own is refused when it is compiled.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`], with what the stream takes if this is its last entry; [`Error::EntryTwice`] where that instance has been put; [`Error::IdTaken`] where another type
    /// has been put under the same id.
    pub fn put<T: KState>(&mut self, instance: u32, value: &T) -> Result<(), Error> {
        const { assert!(T::DESC.id != 0, "an entry needs `#[kstate(id = ...)]`") };
        let desc = &T::DESC;
        let (at, entries) = (self.at, self.entries);
        let put = self.put_description(desc, &T::TYPE).and_then(|()| {
            if self.find(desc.id, instance).is_some() {
                return Err(Error::EntryTwice {
                    name: desc.name,
                    id: desc.id,
                    instance,
                });
            }
            let fingerprints =
                (desc.readable_by..=desc.version).map(|version| desc.fingerprint_at(version));
            let header = EntryHeader::new(desc.id, instance, desc.version, desc.readable_by);
            self.append(header, fingerprints, |enc| value.save(enc))
        });
        let Err(error) = put else {
            return Ok(());
        };
        (self.at, self.entries) = (at, entries);
        Err(match error {
            // The writing ended at the first byte that had no room; a caller wants to know of the last.
            Error::StreamRoom { room, .. } if room == self.out.len() => Error::StreamRoom {
                needed: self.needed_with(value),
                room,
            },
            error => error,
        })
    }

    /// Bytes of the stream with one entry more, its end included.
    fn needed_with<T: KState>(&self, value: &T) -> usize {
        let description = match self.find(DESCRIPTION, T::DESC.id) {
            Some(_) => 0,
            None => description_size(&T::TYPE, T::DESC.name),
        };
        self.at + description + entry_size(value) + END.len()
    }

    /// Appends the description of a state id, unless it is there. One of another type under that id would make its readers
    /// take the one for the other.
    fn put_description(&mut self, desc: &Desc, ty: &TypeDesc) -> Result<(), Error> {
        if let Some(there) = self.find(DESCRIPTION, desc.id) {
            return match there.written_as() == (desc.version, Some(desc.fingerprint)) {
                true => Ok(()),
                false => Err(Error::IdTaken {
                    name: desc.name,
                    id: desc.id,
                    by: root_name(there.data),
                }),
            };
        }
        let types = Types::of(ty, desc.name)?;
        let header = EntryHeader::new(DESCRIPTION, desc.id, desc.version, desc.version);
        self.append(header, [desc.fingerprint].into_iter(), |enc| {
            types.save(ty, enc)
        })
    }

    fn append(
        &mut self,
        mut header: EntryHeader,
        fingerprints: impl Iterator<Item = u64>,
        save: impl FnOnce(&mut Encoder<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let rest = self.at + ENTRY_HEADER;
        let mut enc = Encoder::new(self.out, rest);
        for fingerprint in fingerprints {
            enc.u64(fingerprint)?;
        }
        let content = enc.position();
        save(&mut enc)?;
        let end = enc.position();
        enc.bytes(&[0; ALIGN][..end.next_multiple_of(ALIGN) - end])?;
        let next = enc.position();

        header.size = (end - content) as u64;
        header.crc32 = header.crc(&self.out[rest..end]);
        self.out[self.at..rest].copy_from_slice(header.as_bytes());
        self.at = next;
        self.entries += 1;
        Ok(())
    }

    fn find(&self, id: u32, instance: u32) -> Option<Entry<'_>> {
        let entries = self.out.get(STREAM_HEADER..self.at).unwrap_or_default();
        Entries { rest: entries }
            .with_descriptions()
            .find(|e| e.id == id && e.instance == instance)
    }

    /// Writes header and end mark; gives the bytes used.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn finish(self) -> Result<usize, Error> {
        let total = self.at + END.len();
        let room = self.out.len();
        let Some(out) = self.out.get_mut(..total) else {
            return Err(Error::StreamRoom {
                needed: total,
                room,
            });
        };
        let mut header = StreamHeader {
            magic: MAGIC,
            format: STREAM_FORMAT,
            entries: self.entries,
            total: total as u64,
            crc32: 0,
            reserved: 0,
        };
        header.crc32 = header.crc();
        out[..STREAM_HEADER].copy_from_slice(header.as_bytes());
        out[self.at..].copy_from_slice(&END);
        Ok(total)
    }
}

/// An entry of a stream that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// State id.
    pub id: u32,
    /// Instance.
    pub instance: u32,
    /// Version that it was written in.
    pub version: u32,
    /// Oldest version that can read it.
    pub readable_by: u32,
    /// Content.
    pub data: &'a [u8],
    fingerprints: &'a [u8],
}

impl Entry<'_> {
    /// The fingerprint of what a kernel of this version reads from the entry; `None` for a version that cannot.
    pub fn fingerprint(&self, version: u32) -> Option<u64> {
        let index = version.checked_sub(self.readable_by)? as usize;
        let bytes = self.fingerprints.chunks_exact(FINGERPRINT).nth(index)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// The version that it was written in, and the fingerprint of that: what tells its type.
    fn written_as(&self) -> (u32, Option<u64>) {
        (self.version, self.fingerprint(self.version))
    }
}

/// Splits the first entry off, with what follows it: `None` where it does not fit. Checksum and padding are not checked.
fn split_entry(bytes: &[u8]) -> Option<(EntryHeader, Entry<'_>, &[u8])> {
    let (header, rest) = EntryHeader::read_from_prefix(bytes).ok()?;
    let (fingerprints, rest) = rest.split_at_checked(header.fingerprints()? * FINGERPRINT)?;
    let size = usize::try_from(header.size).ok()?;
    let padding = size.checked_next_multiple_of(ALIGN)? - size;
    let (data, rest) = rest.split_at_checked(size)?;
    let (_, rest) = rest.split_at_checked(padding)?;
    let entry = Entry {
        id: header.id,
        instance: header.instance,
        version: header.version,
        readable_by: header.readable_by,
        data,
        fingerprints,
    };
    Some((header, entry, rest))
}

/// The entries of a stream, in its order, without the descriptions between them.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The descriptions, too.
    fn with_descriptions(mut self) -> impl Iterator<Item = Entry<'a>> {
        core::iter::from_fn(move || self.next_of_all())
    }

    fn next_of_all(&mut self) -> Option<Entry<'a>> {
        let (_, entry, rest) = split_entry(self.rest)?;
        self.rest = rest;
        Some(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let entry = self.next_of_all()?;
            if entry.id != DESCRIPTION {
                return Some(entry);
            }
        }
    }
}

/// A stream that a predecessor left, checked as a whole: form, lengths and checksums. What the entries mean is checked
/// when they are [got](StreamReader::get).
#[derive(Clone, Debug)]
pub struct StreamReader<'a> {
    entries: &'a [u8],
}

impl<'a> StreamReader<'a> {
    /// Checks the stream at the start of `bytes`; what follows it there is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::StreamMagic`], [`Error::StreamFormat`], [`Error::StreamHeader`], [`Error::StreamCut`],
    /// [`Error::EntryForm`], [`Error::EntryCrc`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let Ok((header, _)) = StreamHeader::read_from_prefix(bytes) else {
            return Err(Error::StreamCut {
                total: STREAM_OVERHEAD as u64,
                have: bytes.len(),
            });
        };
        if header.magic != MAGIC {
            return Err(Error::StreamMagic);
        }
        if header.crc32 != header.crc() || header.reserved != 0 {
            return Err(Error::StreamHeader);
        }
        if header.format != STREAM_FORMAT {
            return Err(Error::StreamFormat {
                format: header.format,
            });
        }
        let cut = Error::StreamCut {
            total: header.total,
            have: bytes.len(),
        };
        let total = usize::try_from(header.total).map_err(|_| cut)?;
        let stream = bytes.get(..total).ok_or(cut)?;
        if total < STREAM_OVERHEAD {
            return Err(Error::StreamHeader);
        }
        let (stream, end) = stream.split_at(total - END.len());
        let entries = &stream[STREAM_HEADER..];

        let mut rest = entries;
        for _ in 0..header.entries {
            let offset = STREAM_HEADER + (entries.len() - rest.len());
            let id = EntryHeader::read_from_prefix(rest).map_or(0, |(h, _)| h.id);
            let form = Error::EntryForm { offset, id };
            let (header, entry, after) = split_entry(rest).ok_or(form)?;
            let covered = rest.len() - after.len();
            let content_end = ENTRY_HEADER + entry.fingerprints.len() + entry.data.len();
            let padding = &rest[content_end..covered];
            if header.reserved != 0 || padding.iter().any(|&b| b != 0) {
                return Err(form);
            }
            let computed = header.crc(&rest[ENTRY_HEADER..content_end]);
            if computed != header.crc32 {
                // The name that is said to be its own, where it is a description: else of what was described before.
                let name = match id {
                    DESCRIPTION => root_name(entry.data),
                    _ => Entries { rest: entries }
                        .with_descriptions()
                        .take_while(|before| before.data.as_ptr() < entry.data.as_ptr())
                        .find(|e| e.id == DESCRIPTION && e.instance == id)
                        .map_or(Name::new(""), |described| root_name(described.data)),
                };
                return Err(Error::EntryCrc {
                    id,
                    instance: header.instance,
                    name,
                    stored: header.crc32,
                    computed,
                });
            }
            rest = after;
        }
        // All entries are counted, and nothing stands between them and the end mark.
        if !rest.is_empty() || end != END {
            return Err(Error::EntryForm {
                offset: total - END.len() - rest.len(),
                id: 0,
            });
        }
        Ok(StreamReader { entries })
    }

    /// All entries, also of ids that this kernel does not know.
    pub fn entries(&self) -> Entries<'a> {
        Entries { rest: self.entries }
    }

    /// The descriptions in it, for later streams of the kernel that wrote this one. Not for a predecessor's: what they say would
    /// be believed of this kernel's types.
    pub fn descriptions(&self) -> Descriptions {
        let mut found = Descriptions::default();
        let mut rest = self.entries;
        while let Some((header, _, after)) = split_entry(rest) {
            if header.id == DESCRIPTION {
                found
                    .bytes
                    .extend_from_slice(&rest[..rest.len() - after.len()]);
                found.entries += 1;
            }
            rest = after;
        }
        found
    }

    /// The description table of an entry's state id: what it is made of.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where it cannot be read, or is not there; [`Error::EntryDescription`] where it describes another
    /// type than the entry's.
    pub(crate) fn table(&self, entry: &Entry<'_>) -> Result<Table<'a>, Error> {
        let found = self
            .entries()
            .with_descriptions()
            .find(|e| e.id == DESCRIPTION && e.instance == entry.id);
        let another = Error::EntryDescription {
            id: entry.id,
            instance: entry.instance,
        };
        if found.is_some_and(|described| described.written_as() != entry.written_as()) {
            return Err(another);
        }
        let table = Table::read(found.map_or(&[], |described| described.data))?;
        // The table says it again, of each type.
        let (version, fingerprint) = entry.written_as();
        match table.root_type() {
            Some(root)
                if (root.version, Some(root.fingerprint)) != (version, fingerprint.map(fold)) =>
            {
                Err(another)
            }
            _ => Ok(table),
        }
    }

    /// Restores a value, wholly or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::EntryMissing`], [`Error::EntryTwice`]; [`Error::StateTooNew`], [`Error::StateTooOld`],
    /// [`Error::StateLayout`] (of the entry, or of a described value in it); [`Error::StateOther`]; [`Error::StateValue`],
    /// [`Error::StateLeftOver`].
    pub fn get<T: KState>(&self, instance: u32) -> Result<T, Error> {
        const { assert!(T::DESC.id != 0, "an entry needs `#[kstate(id = ...)]`") };
        let Desc { id, name, .. } = T::DESC;
        let mut matching = self
            .entries()
            .filter(|e| e.id == id && e.instance == instance);
        let entry = matching
            .next()
            .ok_or(Error::EntryMissing { name, id, instance })?;
        if matching.next().is_some() {
            return Err(Error::EntryTwice { name, id, instance });
        }

        self.read(&entry)
            .map_err(|error| explain(error, &T::DESC, &T::TYPE, self.table(&entry).ok()))
    }

    fn read<T: KState>(&self, entry: &Entry<'_>) -> Result<T, Error> {
        let name = T::DESC.name;
        let version = reading_version(&T::DESC, entry)?;
        let mut dec = Decoder::new(entry.data);
        let value = T::restore(&mut dec, version)?;
        // A newer kernel's additional fields stand at the end; else nothing may.
        match dec.left() {
            0 => Ok(value),
            _ if entry.version > version => Ok(value),
            bytes => Err(Error::StateLeftOver { name, bytes }),
        }
    }
}
