//! The `format` file, and records printed as text.
//!
//! Grammar of the file: `f_show` in Linux's `kernel/trace/trace_events.c`; printing of a record without a print format:
//! `print_fields` in `trace_output.c`.

use super::{Arg, COMMON_SIZE, EventDesc, Kind};
use core::fmt::{self, Write};

/// A field as printing sees it, of a declared event or of a saved one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub name: &'a str,
    pub c_type: &'a str,
    pub count: Option<usize>,
    pub offset: usize,
    pub size: usize,
    pub signed: bool,
    pub kind: Kind,
}

fn write_field(out: &mut dyn Write, f: &View<'_>) -> fmt::Result {
    write!(out, "\tfield:{} {}", f.c_type, f.name)?;
    match f.count {
        Some(0) => write!(out, "[]")?,
        Some(n) => write!(out, "[{n}]")?,
        None => {}
    }
    let signed = u8::from(f.signed);
    writeln!(
        out,
        ";\toffset:{};\tsize:{};\tsigned:{signed};",
        f.offset, f.size
    )
}

fn write_common(out: &mut dyn Write, name: &str, id: u16) -> fmt::Result {
    write!(out, "name: {name}\nID: {id}\nformat:\n")?;
    for (c_type, name, offset, size, signed) in [
        ("unsigned short", "common_type", 0, 2, false),
        ("unsigned char", "common_flags", 2, 1, false),
        ("unsigned char", "common_preempt_count", 3, 1, false),
        ("int", "common_pid", 4, 4, true),
    ] {
        let field = View {
            name,
            c_type,
            count: None,
            offset,
            size,
            signed,
            kind: Kind::Int,
        };
        write_field(out, &field)?;
    }
    out.write_char('\n')
}

/// Writes an event's `format` file.
pub fn write_format(desc: &EventDesc, out: &mut dyn Write) -> fmt::Result {
    write_common(out, desc.name, desc.id())?;
    for field in views(desc) {
        write_field(out, &field)?;
    }
    out.write_str("\nprint fmt: ")?;
    write_print_format(desc, out)?;
    out.write_char('\n')
}

/// Writes the format file that an event of an earlier life had, with its group before it.
pub(crate) fn write_saved_format(event: &super::SavedEvent, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "system: {}", event.system)?;
    write_common(out, &event.name, event.id)?;
    for field in &event.fields {
        write_field(out, &field.view())?;
    }
    writeln!(out, "\nprint fmt: {}", event.print)
}

/// The format file of `ftrace:print`, the event of `trace_marker`.
pub(crate) fn write_marker_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "print", super::PRINT_ID)?;
    write_own(out, "unsigned long", "ip", None, COMMON_SIZE, 8)?;
    write_own(out, "char", "buf", Some(0), COMMON_SIZE + 8, 0)?;
    out.write_str("\nprint fmt: \"%ps: %s\", (void *)REC->ip, REC->buf\n")
}

/// The format file of `ftrace:raw_data`, the event of `trace_marker_raw`.
pub(crate) fn write_raw_marker_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "raw_data", super::RAW_DATA_ID)?;
    write_own(out, "unsigned int", "id", None, COMMON_SIZE, 4)?;
    write_own(out, "char", "buf", Some(0), COMMON_SIZE + 4, 0)?;
    out.write_str("\nprint fmt: \"id:%04x %08x\", REC->id, (int)REC->buf[0]\n")
}

/// The format file of `ftrace:kernel_stack`, what the trigger `stacktrace` records.
pub(crate) fn write_stack_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "kernel_stack", super::STACK_ID)?;
    write_own(out, "int", "size", None, COMMON_SIZE, 4)?;
    write_own(out, "unsigned long", "caller", Some(0), COMMON_SIZE + 8, 0)?;
    out.write_str("\nprint fmt: \"\\t=> %ps\\n\", (void *)REC->caller[0]\n")
}

/// The format file of `ftrace:function`.
pub(crate) fn write_function_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "function", super::FUNCTION_ID)?;
    write_own(out, "unsigned long", "ip", None, COMMON_SIZE, 8)?;
    write_own(out, "unsigned long", "parent_ip", None, COMMON_SIZE + 8, 8)?;
    out.write_str("\nprint fmt: \" %ps <-- %ps\", (void *)REC->ip, (void *)REC->parent_ip\n")
}

/// The format file of `ftrace:hwlat`.
pub(crate) fn write_hwlat_format(out: &mut dyn Write) -> fmt::Result {
    write_common(out, "hwlat", super::HWLAT_ID)?;
    for (c_type, name, offset, size, signed) in [
        ("u64", "duration", COMMON_SIZE, 8, false),
        ("u64", "outer_duration", COMMON_SIZE + 8, 8, false),
        ("u64", "nmi_total_ts", COMMON_SIZE + 16, 8, false),
        ("s64", "tv_sec", COMMON_SIZE + 24, 8, true),
        ("long", "tv_nsec", COMMON_SIZE + 32, 8, true),
        ("unsigned int", "nmi_count", COMMON_SIZE + 40, 4, false),
        ("unsigned int", "seqnum", COMMON_SIZE + 44, 4, false),
        ("unsigned int", "count", COMMON_SIZE + 48, 4, false),
    ] {
        let field = View {
            name,
            c_type,
            count: None,
            offset,
            size,
            signed,
            kind: Kind::Int,
        };
        write_field(out, &field)?;
    }
    out.write_str(concat!(
        r#"
print fmt: "cnt:%u\tts:%010llu.%010lu\tinner:%llu\touter:%llu\tcount:%d\tnmi-ts:%llu\tnmi-count:%u\n", "#,
        "REC->seqnum, REC->tv_sec, REC->tv_nsec, REC->duration, REC->outer_duration, REC->count, REC->nmi_total_ts, REC->nmi_count\n"
    ))
}

/// A field of an event that no kernel declares.
fn write_own(
    out: &mut dyn Write,
    c_type: &str,
    name: &str,
    count: Option<usize>,
    offset: usize,
    size: usize,
) -> fmt::Result {
    let field = View {
        name,
        c_type,
        count,
        offset,
        size,
        signed: false,
        kind: Kind::Int,
    };
    write_field(out, &field)
}

pub(super) fn views(desc: &EventDesc) -> impl Iterator<Item = View<'static>> + use<> {
    desc.fields.iter().map(|f| View {
        name: f.proto.name,
        c_type: f.proto.c_type,
        count: f.proto.count,
        offset: f.offset,
        size: f.proto.size,
        signed: f.proto.signed,
        kind: f.proto.kind,
    })
}

fn write_quoted(out: &mut dyn Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\t' => out.write_str("\\t")?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

/// Writes what follows `print fmt: `, in the form that libtraceevent evaluates.
pub fn write_print_format(desc: &EventDesc, out: &mut dyn Write) -> fmt::Result {
    write_quoted(out, desc.print.format)?;
    for arg in desc.print.args {
        out.write_str(", ")?;
        let kind = find(desc, arg.field).map(|f| f.kind);
        if let Some((yes, no)) = arg.choice {
            write_value(out, arg)?;
            out.write_str(" ? ")?;
            write_quoted(out, yes)?;
            out.write_str(" : ")?;
            write_quoted(out, no)?;
            continue;
        }
        if !arg.symbols.is_empty() || !arg.flags.is_empty() {
            if arg.none.is_some() {
                write_value(out, arg)?;
                out.write_str(" ? ")?;
            }
            match arg.flags.is_empty() {
                true => out.write_str("__print_symbolic(")?,
                false => out.write_str("__print_flags(")?,
            }
            write_value(out, arg)?;
            if !arg.flags.is_empty() {
                out.write_str(", \"|\"")?;
            }
            for (value, symbol) in arg.symbols.iter().chain(arg.flags) {
                write!(out, ", {{ {value}, ")?;
                write_quoted(out, symbol)?;
                out.write_str(" }")?;
            }
            out.write_char(')')?;
            if let Some(none) = arg.none {
                out.write_str(" : ")?;
                write_quoted(out, none)?;
            }
            continue;
        }
        match kind {
            Some(Kind::Str) => write!(out, "__get_str({})", arg.field)?,
            Some(Kind::Array(size)) if arg.index.is_none() => {
                let count = find(desc, arg.field).and_then(|f| f.count).unwrap_or(0);
                write!(out, "__print_array(REC->{}, {count}, {size})", arg.field)?;
            }
            Some(Kind::Dynamic(size)) => {
                let name = arg.field;
                write!(
                    out,
                    "__print_array(__get_dynamic_array({name}), __get_dynamic_array_len({name}) / {size}, {size})"
                )?;
            }
            _ => write_value(out, arg)?,
        }
    }
    Ok(())
}

/// The expression of an integer argument.
fn write_value(out: &mut dyn Write, arg: &Arg) -> fmt::Result {
    write!(out, "REC->{}", arg.field)?;
    if let Some(index) = arg.index {
        write!(out, "[{index}]")?;
    }
    if let Some(minus) = arg.minus {
        write!(out, " - REC->{minus}")?;
    }
    if let Some(mask) = arg.mask {
        write!(out, " & {mask:#x}")?;
    }
    match arg.shift {
        Some(shift) => write!(out, " >> {shift}"),
        None => Ok(()),
    }
}

fn find(desc: &EventDesc, name: &str) -> Option<View<'static>> {
    views(desc).find(|f| f.name == name)
}

/// The integer at `offset`, sign-extended where it is signed.
pub(super) fn int_at(payload: &[u8], offset: usize, size: usize, signed: bool) -> Option<u64> {
    let bytes = payload.get(offset..offset.checked_add(size)?)?;
    Some(match (size, signed) {
        (1, false) => u64::from(bytes[0]),
        (1, true) => i64::from(bytes[0] as i8) as u64,
        (2, false) => u64::from(u16::from_ne_bytes(bytes.try_into().ok()?)),
        (2, true) => i64::from(i16::from_ne_bytes(bytes.try_into().ok()?)) as u64,
        (4, false) => u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)),
        (4, true) => i64::from(i32::from_ne_bytes(bytes.try_into().ok()?)) as u64,
        (8, _) => u64::from_ne_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

/// The bytes of a string field up to its NUL.
pub(super) fn text_of<'p>(payload: &'p [u8], f: &View<'_>) -> Option<&'p [u8]> {
    let bytes = match f.kind {
        Kind::Str => {
            let place = int_at(payload, f.offset, 4, false)? as u32;
            let (at, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
            payload.get(at..at + len)?
        }
        Kind::Chars => payload.get(f.offset..f.offset.checked_add(f.size)?)?,
        Kind::Rest => payload.get(f.offset..)?,
        _ => return None,
    };
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    Some(&bytes[..end])
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
            // Linux's extensions (%ps, %px) need a kernel to ask; the address says enough.
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
pub(crate) fn write_known(desc: &EventDesc, payload: &[u8], out: &mut dyn Write) -> fmt::Result {
    let mut args = desc.print.args.iter();
    let mut next = || {
        let arg = args.next()?;
        Some(Shown {
            field: find(desc, arg.field)?.element(arg.index),
            minus: arg.minus.and_then(|name| find(desc, name)),
            mask: arg.mask,
            shift: arg.shift,
            choice: arg.choice,
            none: arg.none,
            symbols: arg.symbols,
            flags: arg.flags,
        })
    };
    write_printed(desc.print.format, &mut next, payload, out)
}

/// An argument of a print format as printing sees it, of a declared event or of a saved one: an [`Arg`] with its fields looked up.
pub(super) struct Shown<'a, S> {
    pub field: View<'a>,
    pub minus: Option<View<'a>>,
    pub mask: Option<u64>,
    pub shift: Option<u32>,
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
pub(super) fn write_printed<'a, S: AsRef<str> + 'a>(
    format: &str,
    next: &mut dyn FnMut() -> Option<Shown<'a, S>>,
    payload: &[u8],
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
            write_arg(out, &spec, &arg, payload)?;
        }
    }
    out.write_str(rest)
}

fn write_arg<S: AsRef<str>>(
    out: &mut dyn Write,
    spec: &Spec,
    arg: &Shown<'_, S>,
    payload: &[u8],
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
            match spec.conversion {
                b'c' => {
                    let c = char::from(value as u8);
                    out.write_char(if c.is_ascii_graphic() || c == ' ' {
                        c
                    } else {
                        '.'
                    })
                }
                _ => spec.int(out, value, field),
            }
        }
        Kind::Array(each) | Kind::Dynamic(each) => write_array(out, field, each, payload),
        Kind::Chars | Kind::Str | Kind::Rest => match text_of(payload, field) {
            Some(text) => spec.text(out, text),
            None => overflow(out),
        },
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

pub(super) fn write_array(
    out: &mut dyn Write,
    field: &View<'_>,
    each: usize,
    payload: &[u8],
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
        match int_at(payload, at + i * each, each, false) {
            Some(value) => write!(out, "0x{value:x}")?,
            None => return out.write_str("<OVERFLOW>}"),
        }
    }
    out.write_char('}')
}
