//! Records printed as text, by a print format.
//!
//! Conversions: those of Linux's `vsnprintf` (`lib/vsprintf.c`) that a kernel's events have.

use super::format::{View, find};
use super::{EventDesc, Kind};
use core::fmt::{self, Write};

/// A record's bytes, wherever they lie.
pub(crate) trait Payload {
    /// How many there are.
    fn size(&self) -> usize;

    /// The unsigned integer of `size` bytes (1, 2, 4 or 8) at `at`.
    fn unsigned(&self, at: usize, size: usize) -> Option<u64>;

    /// Hands over the `len` bytes at `at`, those before the first NUL. `None`, where they are not in the record.
    fn with_text(
        &self,
        at: usize,
        len: usize,
        act: &mut dyn FnMut(&[u8]) -> fmt::Result,
    ) -> Option<fmt::Result>;
}

impl Payload for [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    #[inline]
    fn unsigned(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.get(at..at.checked_add(size)?)?;
        Some(match size {
            1 => u64::from(bytes[0]),
            2 => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
            4 => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
            8 => u64::from_ne_bytes(bytes.try_into().ok()?),
            _ => return None,
        })
    }

    fn with_text(
        &self,
        at: usize,
        len: usize,
        act: &mut dyn FnMut(&[u8]) -> fmt::Result,
    ) -> Option<fmt::Result> {
        let bytes = self.get(at..at.checked_add(len)?)?;
        let end = bytes.iter().position(|b| *b == 0);
        Some(act(&bytes[..end.unwrap_or(bytes.len())]))
    }
}

/// The integer at `offset`, sign-extended where it is signed.
#[inline]
pub(super) fn int_at<B: Payload + ?Sized>(
    payload: &B,
    offset: usize,
    size: usize,
    signed: bool,
) -> Option<u64> {
    let value = payload.unsigned(offset, size)?;
    Some(match signed {
        true => {
            // `unsigned` knows no size of none or more than eight.
            let unused = 64 - 8 * size as u32;
            ((value << unused) as i64 >> unused) as u64
        }
        false => value,
    })
}

/// Hands over the bytes of a string field up to its NUL.
pub(super) fn with_text_of<B: Payload + ?Sized>(
    payload: &B,
    f: &View<'_>,
    act: &mut dyn FnMut(&[u8]) -> fmt::Result,
) -> Option<fmt::Result> {
    let (at, len) = match f.kind {
        Kind::Str => {
            let place = int_at(payload, f.offset, 4, false)? as u32;
            ((place & 0xffff) as usize, (place >> 16) as usize)
        }
        Kind::Chars => (f.offset, f.size),
        Kind::Rest => (f.offset, payload.size().checked_sub(f.offset)?),
        _ => return None,
    };
    payload.with_text(at, len, act)
}

/// Writes bytes as text; what is not UTF-8 becomes `?`, so that a terminal is not sent into another mode by a bad record.
pub(crate) fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        out.write_str(chunk.valid())?;
        if !chunk.invalid().is_empty() {
            out.write_char('?')?;
        }
    }
    Ok(())
}

/// Who knows the names of functions.
pub(crate) trait Symbols {
    /// Writes the name of the function that a return address leads back to.
    fn caller(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result;

    /// Writes the name of the function in which an address lies: `%ps`.
    fn function(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result;

    /// The same with the place in it, and its length: `%pS`.
    fn place(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result;
}

/// Nobody does: addresses stay what they are, as Linux shows those that are in no function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSymbols;

impl Symbols for NoSymbols {
    fn caller(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{address:#x}")
    }

    fn function(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{address:#x}")
    }

    fn place(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{address:#x}")
    }
}

/// What of a function an address is shown by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// `%ps`.
    Function,
    /// `%pS`.
    Place,
}

/// A conversion of a format string.
#[derive(Clone, Copy, Debug, Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    conversion: u8,
    extension: Option<Extension>,
}

impl Spec {
    /// Parses what follows a `%`; returns the rest.
    fn parse(text: &str) -> (Spec, &str) {
        let bytes = text.as_bytes();
        let mut spec = Spec::default();
        let mut i = 0;
        while let Some(b) = bytes.get(i) {
            match b {
                b'-' => spec.left = true,
                b'0' => spec.zero = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                _ => break,
            }
            i += 1;
        }
        let number = |i: &mut usize| {
            let mut n = 0usize;
            while let Some(d) = bytes.get(*i).filter(|b| b.is_ascii_digit()) {
                n = (n * 10 + usize::from(d - b'0')).min(256);
                *i += 1;
            }
            n
        };
        spec.width = number(&mut i);
        if bytes.get(i) == Some(&b'.') {
            i += 1;
            spec.precision = Some(number(&mut i));
        }
        while bytes.get(i).is_some_and(|b| b"hlLzjt".contains(b)) {
            i += 1;
        }
        spec.conversion = bytes.get(i).copied().unwrap_or(b'%');
        i = (i + 1).min(bytes.len());
        if spec.conversion == b'p' {
            spec.extension = match bytes.get(i) {
                Some(b's') => Some(Extension::Function),
                Some(b'S') => Some(Extension::Place),
                _ => None,
            };
            // Of Linux's other ones (%px, %pK) the address says enough.
            while bytes.get(i).is_some_and(|b| b"sSxKfFB".contains(b)) {
                i += 1;
            }
        }
        // A format is ASCII where it matters; never split a character.
        while !text.is_char_boundary(i) {
            i += 1;
        }
        (spec, &text[i..])
    }

    fn pad(&self, out: &mut dyn Write, sign: &str, body: &str, zero: bool) -> fmt::Result {
        let len = sign.len() + body.chars().count();
        let fill = self.width.saturating_sub(len);
        if self.left {
            write!(out, "{sign}{body}{:fill$}", "")
        } else if zero {
            write!(out, "{sign}{:0<fill$}{body}", "")
        } else {
            write!(out, "{:fill$}{sign}{body}", "")
        }
    }

    fn int(&self, out: &mut dyn Write, value: u64, field: &View<'_>) -> fmt::Result {
        let mut text = Short::default();
        let (negative, magnitude) = match self.conversion {
            b'd' | b'i' => ((value as i64) < 0, (value as i64).unsigned_abs()),
            _ => (false, mask(value, field)),
        };
        match self.conversion {
            b'x' => write!(text, "{magnitude:x}")?,
            b'X' => write!(text, "{magnitude:X}")?,
            b'o' => write!(text, "{magnitude:o}")?,
            b'p' => write!(text, "{magnitude:016x}")?,
            _ => write!(text, "{magnitude}")?,
        }
        let mut body = Short::default();
        let digits = text.as_str();
        for _ in digits.len()..self.precision.unwrap_or(0).min(64) {
            body.write_char('0')?;
        }
        body.write_str(digits)?;
        let sign = match self.conversion {
            _ if negative => "-",
            b'd' | b'i' if self.plus => "+",
            b'd' | b'i' if self.space => " ",
            b'x' if self.alternate && magnitude != 0 => "0x",
            b'X' if self.alternate && magnitude != 0 => "0X",
            b'o' if self.alternate && magnitude != 0 => "0",
            _ => "",
        };
        let zero = self.zero && self.precision.is_none();
        self.pad(out, sign, body.as_str(), zero)
    }

    fn text(&self, out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
        let bytes = &bytes[..bytes.len().min(self.precision.unwrap_or(usize::MAX))];
        let fill = self.width.saturating_sub(bytes.len());
        if !self.left {
            write!(out, "{:fill$}", "")?;
        }
        write_bytes(out, bytes)?;
        if self.left {
            write!(out, "{:fill$}", "")?;
        }
        Ok(())
    }
}

/// An unsigned conversion shows a signed field's own bits, not their extension.
pub(super) fn mask(value: u64, field: &View<'_>) -> u64 {
    match field.size {
        1 | 2 | 4 => value & ((1 << (8 * field.size)) - 1),
        _ => value,
    }
}

/// A number's text.
#[derive(Default)]
struct Short {
    bytes: [u8; 32],
    len: usize,
    /// Longer precisions are cut.
    rest: usize,
}

impl Short {
    fn as_str(&self) -> &str {
        // Only ASCII is written to it.
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl Write for Short {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let n = s.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        self.rest += s.len() - n;
        Ok(())
    }
}

/// Writes a record of a declared event, after its `name: `.
pub(crate) fn write_known(
    desc: &EventDesc,
    payload: &[u8],
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut args = desc.print.args.iter();
    let mut next = || {
        let arg = args.next()?;
        Some(Shown {
            field: find(desc, arg.field)?.element(arg.index),
            minus: arg.minus.and_then(|name| find(desc, name)),
            mask: arg.mask,
            shift: arg.shift,
            left: arg.left,
            with: arg.with,
            choice: arg.choice,
            none: arg.none,
            symbols: arg.symbols,
            flags: arg.flags,
        })
    };
    write_printed(desc.print.format, &mut next, payload, symbols, out)
}

/// An argument of a print format as printing sees it, of a declared event or of a saved one: an [`Arg`](super::Arg) with its fields looked up.
pub(super) struct Shown<'a, S> {
    pub field: View<'a>,
    pub minus: Option<View<'a>>,
    pub mask: Option<u64>,
    pub shift: Option<u32>,
    pub left: Option<u32>,
    pub with: Option<u64>,
    pub choice: Option<(&'a str, &'a str)>,
    pub none: Option<&'a str>,
    pub symbols: &'a [(u64, S)],
    pub flags: &'a [(u64, S)],
}

impl View<'_> {
    /// An array's element, which is an integer of its own.
    pub(super) fn element(self, index: Option<usize>) -> Self {
        match (index, self.kind) {
            (Some(index), Kind::Array(each)) => View {
                offset: self.offset.saturating_add(index.saturating_mul(each)),
                size: each,
                kind: Kind::Int,
                ..self
            },
            _ => self,
        }
    }
}

/// Writes a record by a format string, of which `next` gives the arguments one after another.
pub(super) fn write_printed<'a, S: AsRef<str> + 'a, B: Payload + ?Sized>(
    format: &str,
    next: &mut dyn FnMut() -> Option<Shown<'a, S>>,
    payload: &B,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.write_str(&rest[..at])?;
        let (spec, after) = Spec::parse(&rest[at + 1..]);
        rest = after;
        if spec.conversion == b'%' {
            out.write_char('%')?;
            continue;
        }
        if let Some(arg) = next() {
            write_arg(out, &spec, &arg, payload, symbols)?;
        }
    }
    out.write_str(rest)
}

fn write_arg<S: AsRef<str>, B: Payload + ?Sized>(
    out: &mut dyn Write,
    spec: &Spec,
    arg: &Shown<'_, S>,
    payload: &B,
    symbols: &mut dyn Symbols,
) -> fmt::Result {
    let overflow = |out: &mut dyn Write| out.write_str("<OVERFLOW>");
    let field = &arg.field;
    match field.kind {
        Kind::Int => {
            let int = |f: &View<'_>| int_at(payload, f.offset, f.size, f.signed);
            let (Some(mut value), Some(less)) =
                (int(field), arg.minus.as_ref().map_or(Some(0), int))
            else {
                return overflow(out);
            };
            value = value.wrapping_sub(less) & arg.mask.unwrap_or(u64::MAX);
            if let Some(shift) = arg.shift {
                value = mask(value, field).unbounded_shr(shift);
            }
            value = value.unbounded_shl(arg.left.unwrap_or(0)) | arg.with.unwrap_or(0);
            if let Some((yes, no)) = arg.choice {
                return spec.text(out, if value != 0 { yes } else { no }.as_bytes());
            }
            if let Some(none) = arg.none.filter(|_| mask(value, field) == 0) {
                return spec.text(out, none.as_bytes());
            }
            if !arg.symbols.is_empty() {
                let unsigned = mask(value, field);
                let mut symbols = arg.symbols.iter();
                return match symbols.find(|(v, _)| *v == value || *v == unsigned) {
                    Some((_, symbol)) => spec.text(out, symbol.as_ref().as_bytes()),
                    None => write!(out, "0x{unsigned:x}"),
                };
            }
            if !arg.flags.is_empty() {
                return write_bits(out, mask(value, field), arg.flags);
            }
            match (spec.conversion, spec.extension) {
                (b'c', _) => {
                    let c = char::from(value as u8);
                    out.write_char(if c.is_ascii_graphic() || c == ' ' {
                        c
                    } else {
                        '.'
                    })
                }
                (_, Some(Extension::Function)) => symbols.function(value, out),
                (_, Some(Extension::Place)) => symbols.place(value, out),
                _ => spec.int(out, value, field),
            }
        }
        Kind::Array(each) | Kind::Dynamic(each) => write_array(out, field, each, payload),
        Kind::Chars | Kind::Str | Kind::Rest => {
            let written = with_text_of(payload, field, &mut |text| spec.text(out, text));
            written.unwrap_or_else(|| overflow(out))
        }
    }
}

/// Names of bits, joined: `trace_print_flags_seq` in `trace_output.c`.
fn write_bits<S: AsRef<str>>(
    out: &mut dyn Write,
    mut value: u64,
    names: &[(u64, S)],
) -> fmt::Result {
    let mut first = true;
    for (bits, name) in names {
        if value & bits == *bits && *bits != 0 {
            write!(out, "{}{}", if first { "" } else { "|" }, name.as_ref())?;
            first = false;
            value &= !bits;
        }
    }
    match value {
        0 => Ok(()),
        rest => write!(out, "{}0x{rest:x}", if first { "" } else { "|" }),
    }
}

pub(super) fn write_array<B: Payload + ?Sized>(
    out: &mut dyn Write,
    field: &View<'_>,
    each: usize,
    payload: &B,
) -> fmt::Result {
    let (at, size) = match field.kind {
        Kind::Dynamic(_) => match int_at(payload, field.offset, 4, false) {
            Some(place) => ((place & 0xffff) as usize, (place >> 16) as usize),
            None => return out.write_str("<OVERFLOW>"),
        },
        _ => (field.offset, field.size),
    };
    out.write_char('{')?;
    for i in 0..size / each.max(1) {
        if i > 0 {
            out.write_char(',')?;
        }
        match int_at(payload, at.saturating_add(i * each), each, false) {
            Some(value) => write!(out, "0x{value:x}")?,
            None => return out.write_str("<OVERFLOW>}"),
        }
    }
    out.write_char('}')
}
