//! The description table: what makes a stream readable without the structs that wrote it.
//!
//! Before the first entry of a state id stands an entry with id 0, whose instance is that id. Its content, all numbers
//! native-endian, a text as u16 length and UTF-8:
//!
//! ```text
//! type       of the entry's content
//! u16        number of described types, then each of them:
//!   text     name
//!   u32      version that was written
//!   u32      fingerprint of that version, folded
//!   u8       1 = struct: fields, then subsections
//!            2 = enum: u16 number of variants, each u32 tag, text name, fields
//! fields     u16 number, each text name, u8 (1 = its pages are handed over), type
//! type       u8 code, and what it needs:
//!            1 bool, 2 unsigned (u8 bits), 3 signed (u8 bits), 4 text, 5 page, 6 array (u32 length, type),
//!            7 list (type), 8 optional (type), 9 described (u16 number in the table), 10 offset, 11 memory,
//!            12 map (type, type)
//! ```
//!
//! Only fields and variants that the written version has are listed, so the table says exactly what the bytes mean.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::codec::{Decoder, Encoder, fold};
use super::desc::{Body, Desc, DescRef, FieldDesc, TypeDesc};
use crate::error::{Error, Name, ValueFault};

/// Most described types in one table. Enough by far for one entry, and small enough for a kernel's stack: the table is
/// written without a heap.
pub const MAX_TYPES: usize = 64;

/// Most types inside each other in a field's type (`Vec<Option<Vec<...>>>`) that are read.
const MAX_TYPE_DEPTH: u32 = 16;

/// The described types that a type is made of, each once, itself first.
pub(super) struct Types {
    list: [Option<DescRef>; MAX_TYPES],
    len: usize,
}

impl Types {
    /// Everything that values of the type can hold.
    pub(super) fn of(root: &TypeDesc, name: &'static str) -> Result<Self, Error> {
        let mut types = Types {
            list: [None; MAX_TYPES],
            len: 0,
        };
        let full = Error::DescriptionTypes {
            name,
            limit: MAX_TYPES,
        };
        types.note(root).ok_or(full)?;
        let mut at = 0;
        while let Some(desc) = types.get(at) {
            let desc = desc.desc();
            each_field(desc, &mut |field| types.note(&field.ty)).ok_or(full)?;
            at += 1;
        }
        Ok(types)
    }

    fn get(&self, at: usize) -> Option<DescRef> {
        self.list.get(at).copied().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = DescRef> {
        self.list[..self.len].iter().copied().flatten()
    }

    /// Adds the described types that stand in a field's type; `None` where there is no room.
    fn note(&mut self, ty: &TypeDesc) -> Option<()> {
        match ty {
            TypeDesc::Array(inner, _) | TypeDesc::List(inner) | TypeDesc::Optional(inner) => {
                self.note(inner)
            }
            TypeDesc::Map(key, value) => {
                self.note(key)?;
                self.note(value)
            }
            TypeDesc::Described(desc) => {
                if self.iter().all(|known| known != *desc) {
                    *self.list.get_mut(self.len)? = Some(*desc);
                    self.len += 1;
                }
                Some(())
            }
            _ => Some(()),
        }
    }

    fn number(&self, desc: &DescRef) -> u16 {
        // Every type that is asked for has been noted.
        self.iter().position(|known| known == *desc).unwrap_or(0) as u16
    }

    /// Writes the table.
    pub(super) fn save(&self, root: &TypeDesc, enc: &mut Encoder<'_>) -> Result<(), Error> {
        self.save_type(root, enc)?;
        enc.u16(self.len as u16)?;
        for desc in self.iter() {
            let desc = desc.desc();
            save_text(desc.name, enc)?;
            enc.u32(desc.version)?;
            enc.u32(fold(desc.fingerprint))?;
            match desc.body {
                Body::Value => enc.bytes(&[1, 0, 0, 0, 0])?,
                Body::Struct(fields) => {
                    enc.bytes(&[1])?;
                    let now = |f: &&FieldDesc| !f.section && f.is_in(desc.version);
                    self.save_fields(fields.iter().filter(now), enc)?;
                    self.save_fields(fields.iter().filter(|f| f.section), enc)?;
                }
                Body::Enum(variants) => {
                    enc.bytes(&[2])?;
                    enc.u16(variants.len() as u16)?;
                    for variant in variants {
                        enc.u32(variant.tag)?;
                        save_text(variant.name, enc)?;
                        self.save_fields(variant.fields.iter(), enc)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn save_fields<'a>(
        &self,
        fields: impl Iterator<Item = &'a FieldDesc> + Clone,
        enc: &mut Encoder<'_>,
    ) -> Result<(), Error> {
        enc.u16(fields.clone().count() as u16)?;
        for field in fields {
            save_text(field.name, enc)?;
            enc.bytes(&[u8::from(field.pages)])?;
            self.save_type(&field.ty, enc)?;
        }
        Ok(())
    }

    fn save_type(&self, ty: &TypeDesc, enc: &mut Encoder<'_>) -> Result<(), Error> {
        match ty {
            TypeDesc::Bool => enc.bytes(&[1]),
            TypeDesc::Unsigned(bits) => enc.bytes(&[2, *bits]),
            TypeDesc::Signed(bits) => enc.bytes(&[3, *bits]),
            TypeDesc::Text => enc.bytes(&[4]),
            TypeDesc::Page => enc.bytes(&[5]),
            TypeDesc::Array(inner, len) => {
                enc.bytes(&[6])?;
                enc.count(*len)?;
                self.save_type(inner, enc)
            }
            TypeDesc::List(inner) => {
                enc.bytes(&[7])?;
                self.save_type(inner, enc)
            }
            TypeDesc::Optional(inner) => {
                enc.bytes(&[8])?;
                self.save_type(inner, enc)
            }
            TypeDesc::Described(desc) => {
                enc.bytes(&[9])?;
                enc.u16(self.number(desc))
            }
            TypeDesc::Offset => enc.bytes(&[10]),
            TypeDesc::Memory => enc.bytes(&[11]),
            TypeDesc::Map(key, value) => {
                enc.bytes(&[12])?;
                self.save_type(key, enc)?;
                self.save_type(value, enc)
            }
        }
    }
}

fn each_field(desc: &Desc, f: &mut impl FnMut(&FieldDesc) -> Option<()>) -> Option<()> {
    match desc.body {
        Body::Value => Some(()),
        Body::Struct(fields) => fields
            .iter()
            .filter(|field| field.section || field.is_in(desc.version))
            .try_for_each(f),
        Body::Enum(variants) => variants.iter().flat_map(|v| v.fields).try_for_each(f),
    }
}

fn save_text(text: &str, enc: &mut Encoder<'_>) -> Result<(), Error> {
    // No identifier is this long; one that is stays readable.
    let mut len = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    enc.u16(len as u16)?;
    enc.bytes(&text.as_bytes()[..len])
}

/// A type, as a table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TableType {
    Bool,
    Unsigned(u8),
    Signed(u8),
    Text,
    Page,
    Array(Box<TableType>, u32),
    List(Box<TableType>),
    Optional(Box<TableType>),
    /// A number in the table, which has that many.
    Described(u16),
    Offset,
    Memory,
    Map(Box<TableType>, Box<TableType>),
}

/// A field, as a table has it.
#[derive(Clone, Debug)]
pub(crate) struct TableField<'a> {
    pub name: &'a str,
    pub pages: bool,
    pub ty: TableType,
}

/// A variant, as a table has it.
#[derive(Clone, Debug)]
pub(crate) struct TableVariant<'a> {
    pub tag: u32,
    pub name: &'a str,
    pub fields: Vec<TableField<'a>>,
}

/// What a described type is.
#[derive(Clone, Debug)]
pub(crate) enum TableBody<'a> {
    Struct {
        fields: Vec<TableField<'a>>,
        sections: Vec<TableField<'a>>,
    },
    Enum(Vec<TableVariant<'a>>),
}

/// A described type, as a table has it.
#[derive(Clone, Debug)]
pub(crate) struct Described<'a> {
    pub name: &'a str,
    pub version: u32,
    pub fingerprint: u32,
    pub body: TableBody<'a>,
}

/// A table that was read; all numbers of types in it are in range.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a> {
    pub root: TableType,
    pub types: Vec<Described<'a>>,
}

impl<'a> Table<'a> {
    /// Reads a table. Nothing in it is trusted.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`].
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let dec = &mut Decoder::new(bytes);
        dec.field("description table", "root");
        let mut highest = 0;
        let root = read_type(dec, 0, &mut highest)?;
        dec.field("description table", "types");
        let count = dec.u16()?;
        let mut types = Vec::new();
        for _ in 0..count {
            let name = read_text(dec)?;
            let (version, fingerprint) = (dec.u32()?, dec.u32()?);
            let body = match dec.array()? {
                [1] => TableBody::Struct {
                    fields: read_fields(dec, &mut highest)?,
                    sections: read_fields(dec, &mut highest)?,
                },
                [2] => {
                    let count = dec.u16()?;
                    let mut variants = Vec::new();
                    for _ in 0..count {
                        variants.push(TableVariant {
                            tag: dec.u32()?,
                            name: read_text(dec)?,
                            fields: read_fields(dec, &mut highest)?,
                        });
                    }
                    TableBody::Enum(variants)
                }
                [code] => return Err(dec.fault(ValueFault::Code(code))),
            };
            types.push(Described {
                name,
                version,
                fingerprint,
                body,
            });
        }
        if highest as usize > types.len() {
            return Err(dec.fault(ValueFault::Range(u64::from(highest))));
        }
        match dec.left() {
            0 => Ok(Table { root, types }),
            left => Err(dec.fault(ValueFault::LeftOver(left))),
        }
    }

    /// The described type that the entry itself is, where it is one.
    pub(crate) fn root_type(&self) -> Option<&Described<'a>> {
        match self.root {
            TableType::Described(number) => self.described(number),
            _ => None,
        }
    }

    /// Whether any field hands memory over.
    pub(crate) fn has_pages(&self) -> bool {
        self.types.iter().any(|described| {
            let pages = |fields: &[TableField<'_>]| fields.iter().any(|field| field.pages);
            match &described.body {
                TableBody::Struct { fields, sections } => pages(fields) || pages(sections),
                TableBody::Enum(variants) => variants.iter().any(|v| pages(&v.fields)),
            }
        })
    }

    /// The type of this number.
    pub(crate) fn described(&self, number: u16) -> Option<&Described<'a>> {
        self.types.get(usize::from(number))
    }

    /// For people: the type as it is written in Rust.
    pub(crate) fn shown<'t>(&'t self, ty: &'t TableType) -> Shown<'t, 'a> {
        Shown(self, ty)
    }
}

/// A type as it is written in Rust.
pub(crate) struct Shown<'t, 'a>(&'t Table<'a>, &'t TableType);

impl fmt::Display for Shown<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(table, ty) = self;
        match ty {
            TableType::Bool => f.write_str("bool"),
            TableType::Unsigned(bits) => write!(f, "u{bits}"),
            TableType::Signed(bits) => write!(f, "i{bits}"),
            TableType::Text => f.write_str("String"),
            TableType::Page => f.write_str("PageRef"),
            TableType::Array(inner, len) => write!(f, "[{}; {len}]", table.shown(inner)),
            TableType::List(inner) => write!(f, "Vec<{}>", table.shown(inner)),
            TableType::Optional(inner) => write!(f, "Option<{}>", table.shown(inner)),
            TableType::Described(number) => {
                Word(table.described(*number).map_or("?", |d| d.name)).fmt(f)
            }
            TableType::Offset => f.write_str("Offset"),
            TableType::Memory => f.write_str("PhysRange"),
            TableType::Map(key, value) => {
                write!(f, "BTreeMap<{}, {}>", table.shown(key), table.shown(value))
            }
        }
    }
}

/// Characters of a name that are shown: no real one is longer, and a hostile one shall not fill the memory.
const SHOWN: usize = 64;

/// A name out of a stream, which may hold anything: what a terminal would act on is escaped, what is too long is cut.
pub(crate) struct Word<'a>(pub &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .take(SHOWN)
            .try_for_each(|c| match c.is_control() {
                true => write!(f, "{}", c.escape_default()),
                false => f.write_char(c),
            })
    }
}

/// The name of the type that a table was written for; empty where it has none. It is read without a heap.
pub(super) fn root_name(table: &[u8]) -> Name {
    let dec = &mut Decoder::new(table);
    // A type is the first in its own table.
    let name = match (dec.array(), dec.u16(), dec.u16()) {
        (Ok([9]), Ok(0), Ok(_)) => read_text(dec).unwrap_or(""),
        _ => "",
    };
    Name::new(name)
}

fn read_text<'a>(dec: &mut Decoder<'a>) -> Result<&'a str, Error> {
    let len = dec.u16()?;
    let bytes = dec.bytes(usize::from(len))?;
    core::str::from_utf8(bytes).map_err(|_| dec.fault(ValueFault::Text))
}

fn read_fields<'a>(dec: &mut Decoder<'a>, highest: &mut u32) -> Result<Vec<TableField<'a>>, Error> {
    let count = dec.u16()?;
    let mut fields = Vec::new();
    for _ in 0..count {
        let name = read_text(dec)?;
        let pages = match dec.array()? {
            [0] => false,
            [1] => true,
            [other] => return Err(dec.fault(ValueFault::Bool(other))),
        };
        let ty = read_type(dec, 0, highest)?;
        fields.push(TableField { name, pages, ty });
    }
    Ok(fields)
}

/// `highest` becomes one more than the highest number of a described type that was met.
fn read_type(dec: &mut Decoder<'_>, depth: u32, highest: &mut u32) -> Result<TableType, Error> {
    if depth == MAX_TYPE_DEPTH {
        return Err(dec.fault(ValueFault::Depth));
    }
    let mut inner = |dec: &mut Decoder<'_>| read_type(dec, depth + 1, highest).map(Box::new);
    Ok(match dec.array()? {
        [1] => TableType::Bool,
        [code @ (2 | 3)] => match (code, dec.array()?) {
            (2, [bits @ (8 | 16 | 32 | 64 | 128)]) => TableType::Unsigned(bits),
            (3, [bits @ (8 | 16 | 32 | 64 | 128)]) => TableType::Signed(bits),
            (_, [bits]) => return Err(dec.fault(ValueFault::Range(u64::from(bits)))),
        },
        [4] => TableType::Text,
        [5] => TableType::Page,
        [6] => {
            let len = dec.u32()?;
            TableType::Array(inner(dec)?, len)
        }
        [7] => TableType::List(inner(dec)?),
        [8] => TableType::Optional(inner(dec)?),
        [9] => {
            let number = dec.u16()?;
            *highest = (*highest).max(u32::from(number) + 1);
            TableType::Described(number)
        }
        [10] => TableType::Offset,
        [11] => TableType::Memory,
        [12] => TableType::Map(inner(dec)?, inner(dec)?),
        [code] => return Err(dec.fault(ValueFault::Code(code))),
    })
}
