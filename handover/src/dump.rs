//! State streams as readable text, by the description tables in them: no struct has to be known.
//!
//! ```
//! use handover::dump::dump;
//! use handover::state::{KState, StreamWriter};
//!
//! #[derive(KState)]
//! enum Mode {
//!     Quiet,
//!     Loud { volume: u8 },
//! }
//!
//! #[derive(KState)]
//! #[kstate(id = 0x21, version = 2)]
//! struct Speaker {
//!     name: String,
//!     modes: Vec<Mode>,
//! }
//!
//! let speaker = Speaker { name: "left".into(), modes: vec![Mode::Quiet, Mode::Loud { volume: 9 }] };
//! let mut bytes = [0; 400];
//! let mut stream = StreamWriter::new(&mut bytes);
//! stream.put(0, &speaker)?;
//! let used = stream.finish()?;
//! assert_eq!(
//!     dump(&bytes[..used])?,
//!     "\
//! Speaker (id 0x21, instance 0), version 2, readable from version 2 on, 30 bytes
//!   name: String = \"left\"
//!   modes: Vec<Mode> = 2 elements
//!     [0] = Quiet
//!     [1] = Loud
//!       volume: u8 = 9
//! "
//! );
//! # Ok::<(), handover::Error>(())
//! ```

use alloc::string::String;
use core::fmt::{self, Write};

use crate::error::{Error, ValueFault};
use crate::page::PageRef;
use crate::state::table::{Table, TableBody, TableField, TableType, Word};
use crate::state::{Decoder, Entry, MAX_DEPTH, StreamReader, section_key};

/// Values in a row of a list of numbers.
const PER_LINE: usize = 16;

/// A stream as text: each entry with its type, version and fields, one to a line, nested ones indented.
///
/// What is wrong with one entry, or its table, stands at that place in the text; the other entries are shown.
///
/// # Errors
///
/// Those of [`StreamReader::new`].
pub fn dump(stream: &[u8]) -> Result<String, Error> {
    let mut text = String::new();
    let reader = StreamReader::new(stream)?;
    // Writing to a `String` has no error of its own.
    let _ = write_stream(&reader, &mut text);
    Ok(text)
}

/// The same for a stream that has been checked, to anything that takes text.
///
/// # Errors
///
/// That of `out`.
pub fn write_stream(stream: &StreamReader<'_>, out: &mut dyn Write) -> fmt::Result {
    for entry in stream.entries() {
        let table = stream.table(&entry);
        let root = table.as_ref().ok().and_then(Table::root_type);
        let name = root.map_or("?", |described| described.name);
        writeln!(
            out,
            "{} (id {:#x}, instance {}), version {}, readable from version {} on, {} bytes",
            Word(name),
            entry.id,
            entry.instance,
            entry.version,
            entry.readable_by,
            entry.data.len()
        )?;
        match table {
            Ok(table) => write_entry(&table, &entry, out)?,
            Err(error) => writeln!(out, "  (not readable: {error})")?,
        }
    }
    Ok(())
}

fn write_entry(table: &Table<'_>, entry: &Entry<'_>, out: &mut dyn Write) -> fmt::Result {
    let mut text = Text {
        table,
        dec: Decoder::new(entry.data),
        out,
        // Each value takes a byte at least, but for those of empty arrays and the like, which a hostile table could have
        // millions of.
        budget: entry.data.len().saturating_mul(4).saturating_add(1000),
    };
    match text.content(&table.root, 0) {
        Err(Stop::Fault(error)) => writeln!(text.out, "  (not readable from here on: {error})"),
        Err(Stop::Out) => Err(fmt::Error),
        Ok(()) if text.dec.left() > 0 => {
            writeln!(text.out, "  ({} bytes are left over)", text.dec.left())
        }
        Ok(()) => Ok(()),
    }
}

/// Why the text ends.
enum Stop {
    /// What is read cannot be so.
    Fault(Error),
    /// The text is not taken.
    Out,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Fault(error)
    }
}

impl From<fmt::Error> for Stop {
    fn from(_: fmt::Error) -> Self {
        Stop::Out
    }
}

struct Text<'t, 'a, 'o> {
    table: &'t Table<'a>,
    dec: Decoder<'t>,
    out: &'o mut dyn Write,
    /// Values that may be shown yet.
    budget: usize,
}

impl Text<'_, '_, '_> {
    fn indent(&mut self, depth: u32) -> fmt::Result {
        write!(self.out, "{:width$}", "", width = depth as usize * 2)
    }

    fn fault(&self, why: ValueFault) -> Stop {
        Stop::Fault(self.dec.fault(why))
    }

    /// Counts a value, and how deep it stands.
    fn enter(&mut self, depth: u32) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(self.fault(ValueFault::Depth));
        }
        self.budget = self
            .budget
            .checked_sub(1)
            .ok_or(self.fault(ValueFault::Length(u32::MAX)))?;
        Ok(())
    }

    /// The head of a described type, or of a list of it, which must be the one in the table.
    fn head(&mut self, ty: &TableType) -> Result<(), Stop> {
        match ty {
            TableType::Array(inner, _) | TableType::List(inner) | TableType::Optional(inner) => {
                self.head(inner)
            }
            TableType::Described(number) => {
                let (version, fingerprint) = (self.dec.u32()?, self.dec.u32()?);
                match self.table.described(*number) {
                    Some(d) if (d.version, d.fingerprint) == (version, fingerprint) => Ok(()),
                    _ => Err(self.fault(ValueFault::Range(u64::from(version)))),
                }
            }
            _ => Ok(()),
        }
    }

    /// Fields, one to a line.
    fn fields(&mut self, fields: &[TableField<'_>], depth: u32) -> Result<(), Stop> {
        let table = self.table;
        for field in fields {
            self.enter(depth)?;
            self.indent(depth)?;
            let pages = if field.pages { ", handed over" } else { "" };
            let ty = table.shown(&field.ty);
            write!(self.out, "{}: {ty}{pages} = ", Word(field.name))?;
            self.head(&field.ty)?;
            self.value(&field.ty, depth)?;
        }
        Ok(())
    }

    /// What a type holds, below a line that names it.
    fn content(&mut self, ty: &TableType, depth: u32) -> Result<(), Stop> {
        let TableType::Described(number) = ty else {
            self.indent(depth + 1)?;
            return self.value(ty, depth + 1);
        };
        let table = self.table;
        let Some(described) = table.described(*number) else {
            return Err(self.fault(ValueFault::Range(u64::from(*number))));
        };
        match &described.body {
            TableBody::Struct { fields, sections } => {
                self.sections(sections, depth + 1)?;
                self.fields(fields, depth + 1)
            }
            TableBody::Enum(_) => {
                self.indent(depth + 1)?;
                self.value(ty, depth + 1)
            }
        }
    }

    fn sections(&mut self, sections: &[TableField<'_>], depth: u32) -> Result<(), Stop> {
        let table = self.table;
        while let Some(section) = self.dec.section()? {
            self.enter(depth)?;
            self.indent(depth)?;
            let known = sections.iter().find(|s| section_key(s.name) == section.key);
            let Some(field) = known else {
                writeln!(self.out, "(a subsection {:#x})", section.key)?;
                self.dec.skip_section(section)?;
                continue;
            };
            let ty = table.shown(&field.ty);
            write!(self.out, "{}: subsection {ty} = ", Word(field.name))?;
            self.head(&field.ty)?;
            self.value(&field.ty, depth)?;
        }
        Ok(())
    }

    /// A value, the rest of its line and what stands below.
    fn value(&mut self, ty: &TableType, depth: u32) -> Result<(), Stop> {
        self.enter(depth)?;
        if is_short(ty) {
            self.short(ty)?;
            return Ok(writeln!(self.out)?);
        }
        match ty {
            TableType::Optional(inner) => match self.dec.array()? {
                [0] => Ok(writeln!(self.out, "None")?),
                [1] => {
                    write!(self.out, "Some ")?;
                    self.value(inner, depth)
                }
                [other] => Err(self.fault(ValueFault::Bool(other))),
            },
            TableType::Array(inner, len) => self.list(inner, *len as usize, depth),
            TableType::List(inner) => {
                let count = self.dec.count(1)?;
                self.list(inner, count, depth)
            }
            TableType::Map(key, value) => {
                let count = self.dec.count(1)?;
                writeln!(self.out, "{count} elements")?;
                self.head(key)?;
                self.head(value)?;
                for _ in 0..count {
                    self.indent(depth + 1)?;
                    self.value(key, depth + 1)?;
                    self.indent(depth + 1)?;
                    write!(self.out, "=> ")?;
                    self.value(value, depth + 1)?;
                }
                Ok(())
            }
            TableType::Described(number) => {
                let table = self.table;
                let Some(described) = table.described(*number) else {
                    return Err(self.fault(ValueFault::Range(u64::from(*number))));
                };
                match &described.body {
                    TableBody::Struct { fields, sections } => {
                        let (name, version) = (Word(described.name), described.version);
                        writeln!(self.out, "{name} (version {version})")?;
                        self.sections(sections, depth + 1)?;
                        self.fields(fields, depth + 1)
                    }
                    TableBody::Enum(variants) => {
                        let tag = self.dec.u32()?;
                        let Some(variant) = variants.iter().find(|v| v.tag == tag) else {
                            return Err(self.fault(ValueFault::Tag(tag)));
                        };
                        writeln!(self.out, "{}", Word(variant.name))?;
                        self.fields(&variant.fields, depth + 1)
                    }
                }
            }
            // All others are short.
            _ => Ok(()),
        }
    }

    fn list(&mut self, inner: &TableType, count: usize, depth: u32) -> Result<(), Stop> {
        if !is_short(inner) {
            writeln!(self.out, "{count} elements")?;
            for index in 0..count {
                self.indent(depth + 1)?;
                write!(self.out, "[{index}] = ")?;
                self.value(inner, depth + 1)?;
            }
            return Ok(());
        }
        write!(self.out, "[")?;
        for index in 0..count {
            self.enter(depth)?;
            match index {
                0 => {}
                _ if index % PER_LINE == 0 => {
                    writeln!(self.out, ",")?;
                    self.indent(depth + 1)?;
                }
                _ => write!(self.out, ", ")?,
            }
            self.short(inner)?;
        }
        Ok(writeln!(self.out, "]")?)
    }

    /// A value without line ends.
    fn short(&mut self, ty: &TableType) -> Result<(), Stop> {
        match ty {
            TableType::Bool => match self.dec.array()? {
                [0] => write!(self.out, "false")?,
                [1] => write!(self.out, "true")?,
                [other] => return Err(self.fault(ValueFault::Bool(other))),
            },
            TableType::Unsigned(bits) => {
                let n = self.integer(*bits)?;
                write!(self.out, "{n}")?;
            }
            TableType::Signed(bits) => {
                // The sign bit is moved to the top and back.
                let unused = 128 - u32::from((*bits).min(128));
                let n = (self.integer(*bits)? << unused) as i128 >> unused;
                write!(self.out, "{n}")?;
            }
            TableType::Text => {
                let len = self.dec.count(1)?;
                let bytes = self.dec.bytes(len)?;
                let text = core::str::from_utf8(bytes).map_err(|_| self.fault(ValueFault::Text))?;
                write!(self.out, "{text:?}")?;
            }
            TableType::Page => {
                let raw = self.dec.u64()?;
                match PageRef::new(raw & !0xff, raw as u8) {
                    Ok(page) => write!(self.out, "{page}")?,
                    Err(_) => return Err(self.fault(ValueFault::Page(raw))),
                }
            }
            TableType::Offset => {
                let offset = self.dec.u64()?;
                write!(self.out, "base + {offset:#x}")?;
            }
            TableType::Memory => {
                let (start, end) = (self.dec.u64()?, self.dec.u64()?);
                write!(self.out, "[{start:#x}, {end:#x})")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// `bits` is 8 to 128, as the table's reader has made sure.
    fn integer(&mut self, bits: u8) -> Result<u128, Stop> {
        Ok(match bits {
            8 => u128::from(u8::from_ne_bytes(self.dec.array()?)),
            16 => u128::from(u16::from_ne_bytes(self.dec.array()?)),
            32 => u128::from(u32::from_ne_bytes(self.dec.array()?)),
            64 => u128::from(u64::from_ne_bytes(self.dec.array()?)),
            _ => u128::from_ne_bytes(self.dec.array()?),
        })
    }
}

fn is_short(ty: &TableType) -> bool {
    matches!(
        ty,
        TableType::Bool
            | TableType::Unsigned(_)
            | TableType::Signed(_)
            | TableType::Text
            | TableType::Page
            | TableType::Offset
            | TableType::Memory
    )
}
