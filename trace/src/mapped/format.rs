//! `events/SYSTEM/EVENT/format`, read back: which fields a record has, and their text.
//!
//! Grammar: `f_show` in Linux's `kernel/trace/trace_events.c`. A record is shown as the kernel's own `trace` shows it, by its print
//! format ([`Format::print`]), or as `name=value` for each of its fields ([`Format::write`]).

use super::Record;
use crate::event::{Kind, NoSymbols, ReadPrint, View, write_call, write_own, write_unknown};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// An event, as its `format` file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its name.
    pub name: String,
    /// Its number: the `common_type` of its records.
    pub id: u16,
    /// Its fields, those that all events have first.
    pub fields: Vec<Field>,
    /// Its print format, where that is of a form that is understood.
    print: Option<ReadPrint>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub offset: usize,
    /// Its bytes.
    pub size: usize,
    /// Whether the type is signed.
    pub signed: bool,
    /// What the bytes mean.
    pub shape: Shape,
}

/// What the bytes of a field mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A number.
    Number,
    /// A pointer: a number, shown in hexadecimal.
    Pointer,
    /// Characters up to a NUL, or the field's end; with the size 0, up to the record's.
    Text,
    /// Numbers of as many bytes each; with the size 0, up to the record's end.
    Numbers(usize),
    /// Where in the record the characters are, and how many bytes: `__data_loc`.
    TextAt,
    /// The same of numbers, of as many bytes each.
    NumbersAt(usize),
}

/// Which line of a `format` file (from 1 on) cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError(pub usize);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the format file cannot be understood", self.0)
    }
}

impl core::error::Error for FormatError {}

impl Format {
    /// Reads a `format` file.
    ///
    /// # Errors
    ///
    /// [`FormatError`]; of line 0 where name or number are missing.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut name = None;
        let mut id = None;
        let mut fields: Vec<Field> = Vec::new();
        let mut print = None;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim_start();
            if let Some(rest) = line.strip_prefix("print fmt: ") {
                let views: Vec<View<'_>> = fields.iter().map(Field::view).collect();
                print = ReadPrint::read(rest, &views);
                break;
            }
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("name: ") {
                name = Some(rest.into());
            } else if let Some(rest) = line.strip_prefix("ID: ") {
                id = Some(rest.parse().map_err(|_| FormatError(number))?);
            } else if let Some(rest) = line.strip_prefix("field:") {
                fields.push(Field::parse(rest).ok_or(FormatError(number))?);
            }
        }
        Ok(Format {
            name: name.ok_or(FormatError(0))?,
            id: id.ok_or(FormatError(0))?,
            fields,
            print,
        })
    }

    /// Reads `events/foreign_formats`: the format files of earlier kernels' events, a line `system: NAME` before each.
    ///
    /// # Errors
    ///
    /// [`FormatError`], with the line counted from the beginning of `text`, or 0.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, FormatError> {
        let mut formats = Vec::new();
        // How many lines and bytes are behind.
        let (mut line, mut at, mut begun) = (0, 0, None);
        let mut one = |text: &str, before: usize| {
            let format = Format::parse(text).map_err(|FormatError(n)| match n {
                0 => FormatError(0),
                n => FormatError(before + n),
            })?;
            formats.push(format);
            Ok(())
        };
        for whole in text.split_inclusive('\n') {
            if whole.starts_with("system: ") {
                if let Some((from, before)) = begun {
                    one(&text[from..at], before)?;
                }
                begun = Some((at, line));
            } else if begun.is_none() {
                return Err(FormatError(line + 1));
            }
            line += 1;
            at += whole.len();
        }
        if let Some((from, before)) = begun {
            one(&text[from..], before)?;
        }
        Ok(formats)
    }

    /// The field `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Writes a record as the kernel's `trace` does, from the event's name on, without the end of the line. The names of functions are the
    /// kernel's to know: here they are addresses.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn print(&self, record: Record<'_>, out: &mut dyn Write) -> fmt::Result {
        if let Some(written) = write_own(self.id, &record, &mut NoSymbols, out) {
            return written;
        }
        let own = || self.fields.iter().filter(|field| !field.is_common());
        if let Some(written) = write_call(&self.name, own().map(Field::view), &record, out) {
            return written;
        }
        write!(out, "{}:", self.name)?;
        match &self.print {
            Some(print) => {
                out.write_char(' ')?;
                let view = |at: usize| self.fields.get(at).map(Field::view);
                print.write(&view, &record, &mut NoSymbols, out)
            }
            None => write_unknown(own().map(Field::view), &record, out),
        }
    }

    /// Writes a record as `name=value`, separated by spaces, without the fields that all events have.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(&self, record: Record<'_>, out: &mut dyn Write) -> fmt::Result {
        let own = self.fields.iter().filter(|field| !field.is_common());
        for (i, field) in own.enumerate() {
            let space = if i > 0 { " " } else { "" };
            write!(out, "{space}{}=", field.name)?;
            field.write(record, out)?;
        }
        Ok(())
    }
}

impl Field {
    /// Parses what follows `field:`.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let declared = parts.next()?;
        let mut number = |name: &str| {
            let part = parts.next()?.strip_prefix(name)?;
            part.parse::<usize>().ok()
        };
        let offset = number("offset:")?;
        let size = number("size:")?;
        let signed = number("signed:")? != 0;
        let (c_type, name) = declared.rsplit_once(' ')?;
        let (name, count) = match name.split_once('[') {
            Some((name, count)) => (name, Some(count.strip_suffix(']')?)),
            None => (name, None),
        };
        let data_loc = c_type.strip_prefix("__data_loc ");
        let c_type = data_loc.unwrap_or(c_type);
        let element = c_type.strip_suffix("[]").unwrap_or(c_type).trim();
        let shape = match (data_loc.is_some(), element, count) {
            (true, "char", _) => Shape::TextAt,
            (true, _, _) => Shape::NumbersAt(bytes_of(element)?),
            (false, "char", Some(_)) => Shape::Text,
            (false, _, Some(count)) => Shape::Numbers(match count.parse::<usize>() {
                Ok(count) if count > 0 => size / count,
                _ => bytes_of(element)?,
            }),
            (false, _, None) if element.ends_with('*') => Shape::Pointer,
            (false, _, None) => Shape::Number,
        };
        Some(Field {
            name: name.into(),
            offset,
            size,
            signed,
            shape,
        })
    }

    /// As printing sees it.
    fn view(&self) -> View<'_> {
        let (count, kind) = match self.shape {
            Shape::Number | Shape::Pointer => (None, Kind::Int),
            Shape::Text if self.size == 0 => (None, Kind::Rest),
            Shape::Text => (None, Kind::Chars),
            Shape::Numbers(each) => (Some(self.size / each.max(1)), Kind::Array(each)),
            Shape::TextAt => (None, Kind::Str),
            Shape::NumbersAt(each) => (None, Kind::Dynamic(each)),
        };
        View {
            name: &self.name,
            c_type: "",
            count,
            offset: self.offset,
            size: self.size,
            signed: self.signed,
            kind,
        }
    }

    /// Whether all events have it.
    pub fn is_common(&self) -> bool {
        self.name.starts_with("common_")
    }

    /// Its value, where it is a number.
    pub fn number(&self, record: Record<'_>) -> Option<i64> {
        match self.signed {
            true => record.signed(self.offset, self.size),
            false => record.unsigned(self.offset, self.size).map(|n| n as i64),
        }
    }

    /// Writes its value in `record`; `?` for what is not in there.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(&self, record: Record<'_>, out: &mut dyn Write) -> fmt::Result {
        let to_end = record.len().saturating_sub(self.offset);
        let size = if self.size == 0 { to_end } else { self.size };
        match self.shape {
            Shape::Number | Shape::Pointer => self.write_number(record, self.offset, size, out),
            Shape::Text => write_text(record, self.offset, size, out),
            Shape::Numbers(each) => self.write_numbers(record, self.offset, size, each, out),
            Shape::TextAt | Shape::NumbersAt(_) => {
                let Some(place) = record.unsigned(self.offset, 4) else {
                    return out.write_char('?');
                };
                let (at, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
                match self.shape {
                    Shape::NumbersAt(each) => self.write_numbers(record, at, len, each, out),
                    _ => write_text(record, at, len, out),
                }
            }
        }
    }

    fn write_number(
        &self,
        record: Record<'_>,
        at: usize,
        size: usize,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let Some(value) = record.unsigned(at, size) else {
            return out.write_char('?');
        };
        match (self.shape, self.signed, record.signed(at, size)) {
            (Shape::Pointer, _, _) => write!(out, "0x{value:x}"),
            (_, true, Some(value)) => write!(out, "{value}"),
            _ => write!(out, "{value}"),
        }
    }

    fn write_numbers(
        &self,
        record: Record<'_>,
        at: usize,
        len: usize,
        each: usize,
        out: &mut dyn Write,
    ) -> fmt::Result {
        out.write_char('{')?;
        for i in 0..len / each.max(1) {
            if i > 0 {
                out.write_char(',')?;
            }
            // The first is at `at`; what overflows is beyond the record.
            let place = i.checked_mul(each).and_then(|i| at.checked_add(i));
            match place.and_then(|at| record.unsigned(at, each)) {
                Some(value) => write!(out, "0x{value:x}")?,
                None => {
                    out.write_char('?')?;
                    break;
                }
            }
        }
        out.write_char('}')
    }
}

/// Bytes of a type of C, as far as they are told by its name.
fn bytes_of(c_type: &str) -> Option<usize> {
    Some(match c_type {
        "char" | "unsigned char" | "signed char" | "u8" | "s8" | "__u8" | "__s8" | "bool" => 1,
        "short" | "unsigned short" | "u16" | "s16" | "__u16" | "__s16" => 2,
        "int" | "unsigned int" | "unsigned" | "u32" | "s32" | "__u32" | "__s32" | "pid_t" => 4,
        "long" | "unsigned long" | "u64" | "s64" | "__u64" | "__s64" | "size_t"
        | "unsigned long long" | "long long" => 8,
        pointer if pointer.ends_with('*') => 8,
        _ => return None,
    })
}

/// Writes `len` bytes at `at` up to a NUL, and nothing that could send a terminal into another mode.
fn write_text(record: Record<'_>, at: usize, len: usize, out: &mut dyn Write) -> fmt::Result {
    for i in 0..len {
        match at.checked_add(i).and_then(|at| record.byte(at)) {
            Some(0) => break,
            Some(byte) if byte.is_ascii_graphic() || byte == b' ' => {
                out.write_char(char::from(byte))?;
            }
            Some(b'\n') => out.write_str("\\n")?,
            Some(_) => out.write_char('?')?,
            None => return out.write_char('?'),
        }
    }
    Ok(())
}
