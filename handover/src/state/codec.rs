//! Reading and writing the content of an entry.

use super::KState;
use super::desc::Desc;
use crate::error::{Error, Name, Parting, Place, ValueFault};

/// Most described values inside each other; deeper ones are refused, so that a hostile stream cannot exhaust the stack.
pub const MAX_DEPTH: u32 = 32;

/// Bytes that stand in front of each described value inside another: version, and fingerprint folded to 32 bits.
pub(super) const HEAD_SIZE: usize = 8;

/// Stands before each subsection.
pub(super) const SECTION: u8 = b'S';
/// Stands after a struct's subsections, and so at the start of a struct that has none.
pub(super) const END_OF_SECTIONS: u8 = b'E';

pub(super) const fn fold(fingerprint: u64) -> u32 {
    (fingerprint >> 32) as u32 ^ fingerprint as u32
}

/// Where content is written to: a slice, or nothing where only its size is asked for. It never allocates.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: Option<&'a mut [u8]>,
    at: usize,
    depth: u32,
}

impl<'a> Encoder<'a> {
    /// Writes to `out` from `at` on.
    pub(super) fn new(out: &'a mut [u8], at: usize) -> Self {
        Encoder {
            out: Some(out),
            at,
            depth: 0,
        }
    }

    /// Only counts.
    pub(super) fn counting() -> Self {
        Encoder {
            out: None,
            at: 0,
            depth: 0,
        }
    }

    /// Enters a described value; [`leave`](Encoder::leave) goes back out.
    ///
    /// # Errors
    ///
    /// [`Error::StateDepth`] where it is one too many inside each other, which no kernel would read.
    pub fn enter(&mut self, name: &'static str) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::StateDepth {
                name,
                limit: MAX_DEPTH,
            });
        }
        self.depth += 1;
        Ok(())
    }

    /// Leaves a described value.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Bytes up to here, from the start of the slice.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let end = self.at.saturating_add(bytes.len());
        if let Some(out) = &mut self.out {
            let room = out.len();
            let fault = Error::StreamRoom { needed: end, room };
            let place = out.get_mut(self.at..end).ok_or(fault)?;
            place.copy_from_slice(bytes);
        }
        self.at = end;
        Ok(())
    }

    /// Appends a u16, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn u16(&mut self, value: u16) -> Result<(), Error> {
        self.bytes(&value.to_ne_bytes())
    }

    /// Appends a u32, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn u32(&mut self, value: u32) -> Result<(), Error> {
        self.bytes(&value.to_ne_bytes())
    }

    /// Appends a u64, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn u64(&mut self, value: u64) -> Result<(), Error> {
        self.bytes(&value.to_ne_bytes())
    }

    /// Appends the count of a list or the length of a text.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`]; also for a count above 32 bits, which no buffer holds.
    pub fn count(&mut self, count: usize) -> Result<(), Error> {
        match u32::try_from(count) {
            Ok(count) => self.u32(count),
            Err(_) => Err(Error::StreamRoom {
                needed: count,
                room: u32::MAX as usize,
            }),
        }
    }

    /// Appends a subsection, if it has a value.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`], and those of saving the value.
    pub fn section<T: KState>(&mut self, key: u32, value: Option<&T>) -> Result<(), Error> {
        let Some(value) = value else {
            return Ok(());
        };
        let mut size = Encoder {
            depth: self.depth,
            ..Encoder::counting()
        };
        T::save_head(&mut size)?;
        value.save(&mut size)?;
        self.bytes(&[SECTION])?;
        self.u32(key)?;
        self.count(size.position())?;
        T::save_head(self)?;
        value.save(self)
    }

    /// Appends the end mark of a struct's subsections; its other fields follow.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn end_of_sections(&mut self) -> Result<(), Error> {
        self.bytes(&[END_OF_SECTIONS])
    }

    /// Appends the head of a described value inside another.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    pub fn head(&mut self, desc: &Desc) -> Result<(), Error> {
        self.u32(desc.version)?;
        self.u32(fold(desc.fingerprint))
    }
}

/// A subsection that is met in the content.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Which: [`section_key`](super::section_key) of its name.
    pub key: u32,
    /// Bytes of it, its head included.
    size: usize,
}

/// Content that is read. Everything that it gives out has been found to be there.
#[derive(Debug)]
pub struct Decoder<'a> {
    data: &'a [u8],
    place: Place,
    depth: u32,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Decoder {
            data,
            place: Place::default(),
            depth: 0,
        }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.data.len()
    }

    /// Says which field is read next; errors name it.
    pub fn field(&mut self, of: &'static str, field: &'static str) {
        self.place = Place { of, field };
    }

    /// An error at the field that is being read.
    pub fn fault(&self, why: ValueFault) -> Error {
        Error::StateValue {
            place: self.place,
            why,
        }
    }

    /// Enters a described value; [`leave`](Decoder::leave) goes back out.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where it is one too many inside each other.
    pub fn enter(&mut self, name: &'static str) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(self.fault(ValueFault::Depth));
        }
        self.depth += 1;
        self.field(name, "");
        Ok(())
    }

    /// Leaves a described value.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where there are fewer.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        match self.data.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.data = rest;
                Ok(bytes)
            }
            None => Err(self.fault(ValueFault::Cut {
                needed: len,
                left: self.data.len(),
            })),
        }
    }

    /// Takes `N` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// Takes a u16, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where there are fewer bytes.
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_ne_bytes)
    }

    /// Takes a u32, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where there are fewer bytes.
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_ne_bytes)
    }

    /// Takes a u64, native-endian.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where there are fewer bytes.
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_ne_bytes)
    }

    /// Takes the count of a list whose elements take `min_size` bytes each at least; it is no larger than what the bytes
    /// left can hold.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`].
    pub fn count(&mut self, min_size: usize) -> Result<usize, Error> {
        let count = self.u32()?;
        if count as usize > self.left() / min_size.max(1) {
            return Err(self.fault(ValueFault::Length(count)));
        }
        Ok(count as usize)
    }

    /// Begins the next subsection: its key, and the bytes of it that follow; `None` at the end mark.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`].
    pub fn section(&mut self) -> Result<Option<Section>, Error> {
        match self.array()? {
            [END_OF_SECTIONS] => Ok(None),
            [SECTION] => {
                let key = self.u32()?;
                let size = self.count(1)?;
                Ok(Some(Section { key, size }))
            }
            [other] => Err(self.fault(ValueFault::Mark(other))),
        }
    }

    /// Reads the value of a subsection, which takes all of its bytes.
    ///
    /// # Errors
    ///
    /// Those of restoring it; [`Error::StateValue`] where bytes are left over.
    pub fn in_section<T: KState>(&mut self, section: Section) -> Result<T, Error> {
        let content = self.bytes(section.size)?;
        let rest = core::mem::replace(&mut self.data, content);
        let place = self.place;
        let version = T::restore_head(self)?;
        self.place = place;
        let value = T::restore(self, version)?;
        let left = core::mem::replace(&mut self.data, rest).len();
        self.place = place;
        match left {
            0 => Ok(value),
            _ => Err(self.fault(ValueFault::LeftOver(left))),
        }
    }

    /// Skips a subsection that is not known.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`].
    pub fn skip_section(&mut self, section: Section) -> Result<(), Error> {
        self.bytes(section.size).map(|_| ())
    }

    /// Takes the head of a described value inside another; gives the version that its content has.
    ///
    /// # Errors
    ///
    /// [`Error::StateTooNew`], [`Error::StateTooOld`], [`Error::StateLayout`].
    pub fn head(&mut self, desc: &Desc) -> Result<u32, Error> {
        let stream = self.u32()?;
        let fingerprint = self.u32()?;
        let name = desc.name;
        if stream > desc.version {
            return Err(Error::StateTooNew {
                name,
                stream,
                readable_by: stream,
                known: desc.version,
                field: Name::new(""),
            });
        }
        if stream < desc.min_version {
            return Err(Error::StateTooOld {
                name,
                stream,
                min: desc.min_version,
                known: desc.version,
                field: Name::new(""),
            });
        }
        let known = fold(desc.fingerprint_at(stream));
        if fingerprint != known {
            return Err(Error::StateLayout {
                name,
                version: stream,
                written: stream,
                writes: desc.version,
                stream: u64::from(fingerprint),
                known: u64::from(known),
                at: Parting::Unknown,
            });
        }
        Ok(stream)
    }
}
