//! Print formats read back from their text, as it stands in a format file: for records of an event that this kernel does not
//! declare, or declares otherwise (the text crossed with them), and for readers that have nothing but the format file.
//!
//! Read is what [`write_print_format`](super::write_print_format) writes. A text of another form is none of ours; its
//! records are shown field by field.

use super::format::View;
use super::printed::{Payload, Shown, Symbols, write_printed};
use super::{SavedEvent, write_call, write_unknown};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Most arguments of a print format, and names of one argument's values, that are believed.
const MOST: usize = 64;

/// Names of values or of bits.
type Names = Vec<(u64, String)>;

/// A print format, read from its text. Fields are named by their place among the event's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadPrint {
    format: String,
    args: Vec<ReadArg>,
}

/// An argument of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ReadArg {
    value: Value,
    choice: Option<(String, String)>,
    none: Option<String>,
    symbols: Names,
    flags: Names,
}

/// The expression of an integer argument; of others, the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value {
    field: usize,
    index: Option<usize>,
    minus: Option<usize>,
    mask: Option<u64>,
    shift: Option<u32>,
    left: Option<u32>,
    with: Option<u64>,
}

impl Value {
    fn plain(field: usize) -> Self {
        Value {
            field,
            index: None,
            minus: None,
            mask: None,
            shift: None,
            left: None,
            with: None,
        }
    }
}

impl ReadArg {
    fn plain(value: Value) -> Self {
        ReadArg {
            value,
            choice: None,
            none: None,
            symbols: Names::new(),
            flags: Names::new(),
        }
    }

    /// With its fields, which `view` looks up.
    fn shown<'a>(&'a self, view: &dyn Fn(usize) -> Option<View<'a>>) -> Option<Shown<'a, String>> {
        let value = &self.value;
        let choice = self.choice.as_ref();
        Some(Shown {
            field: view(value.field)?.element(value.index),
            minus: value.minus.and_then(view),
            mask: value.mask,
            shift: value.shift,
            left: value.left,
            with: value.with,
            choice: choice.map(|(yes, no)| (yes.as_str(), no.as_str())),
            none: self.none.as_deref(),
            symbols: &self.symbols,
            flags: &self.flags,
        })
    }
}

/// Writes a record with its event's name before it.
pub(crate) fn write_foreign(
    event: &SavedEvent,
    payload: &[u8],
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> fmt::Result {
    let views = || event.fields.iter().map(|field| field.view());
    if let Some(written) = write_call(&event.name, views(), payload, out) {
        return written;
    }
    write!(out, "{}:", event.name)?;
    let Some(print) = ReadPrint::read(&event.print, &views().collect::<Vec<_>>()) else {
        return write_unknown(views(), payload, out);
    };
    out.write_char(' ')?;
    let view = |at: usize| event.fields.get(at).map(|field| field.view());
    print.write(&view, payload, symbols, out)
}

impl ReadPrint {
    /// Reads what follows `print fmt: ` in the format file of an event that has these fields. `None`, where it is in another form.
    pub(crate) fn read(text: &str, fields: &[View<'_>]) -> Option<Self> {
        let mut text = Text(text, fields);
        let format = text.quoted()?;
        let mut args = Vec::new();
        while !text.0.is_empty() {
            text.take(", ")?;
            if args.len() == MOST {
                return None;
            }
            args.push(text.arg()?);
        }
        Some(ReadPrint { format, args })
    }

    /// Writes a record; `view` looks up the fields that the format was read with.
    pub(crate) fn write<'a, B: Payload + ?Sized>(
        &'a self,
        view: &dyn Fn(usize) -> Option<View<'a>>,
        payload: &B,
        symbols: &mut dyn Symbols,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let mut args = self.args.iter();
        let mut next = || args.next()?.shown(view);
        write_printed(&self.format, &mut next, payload, symbols, out)
    }
}

/// What is left to be read, and the event's fields.
struct Text<'a>(&'a str, &'a [View<'a>]);

impl<'a> Text<'a> {
    /// Goes past this, which stands next.
    fn take(&mut self, what: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(what)?;
        Some(())
    }

    /// What stands before the next of these, which is left.
    fn up_to(&mut self, ends: &[char]) -> Option<&'a str> {
        let (found, rest) = self.0.split_at(self.0.find(ends)?);
        self.0 = rest;
        Some(found)
    }

    /// A name; it ends with the text or before what no name holds.
    fn name(&mut self) -> &'a str {
        let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let (found, rest) = self.0.split_at(self.0.find(end).unwrap_or(self.0.len()));
        self.0 = rest;
        found
    }

    /// A text in quotation marks.
    fn quoted(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        let mut chars = self.0.char_indices();
        loop {
            let c = match chars.next()?.1 {
                '"' => break,
                '\\' => match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    c @ ('"' | '\\') => c,
                    _ => return None,
                },
                c => c,
            };
            text.push(c);
        }
        self.0 = chars.as_str();
        Some(text)
    }

    /// The field whose name stands next.
    fn field(&mut self) -> Option<usize> {
        let name = self.name();
        self.1.iter().position(|field| field.name == name)
    }

    /// A number, which ends before what no number holds.
    fn number(&mut self) -> Option<u64> {
        let word = self.name();
        match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => word.parse().ok(),
        }
    }

    /// `REC->a`, `REC->a[1]`, `REC->a - REC->b & 0xf >> 2 << 1 | 0x80` and parts of it.
    fn value(&mut self) -> Option<Value> {
        self.take("REC->")?;
        let mut value = Value::plain(self.field()?);
        if self.take("[").is_some() {
            let index = usize::try_from(self.number()?).ok()?;
            let count = self.1.get(value.field)?.count;
            if count.is_none_or(|count| index >= count) {
                return None;
            }
            self.take("]")?;
            value.index = Some(index);
        }
        if self.take(" - REC->").is_some() {
            value.minus = Some(self.field()?);
        }
        if self.take(" & ").is_some() {
            value.mask = Some(self.number()?);
        }
        if self.take(" >> ").is_some() {
            value.shift = Some(u32::try_from(self.number()?).ok()?);
        }
        if self.take(" << ").is_some() {
            value.left = Some(u32::try_from(self.number()?).ok()?);
        }
        if self.take(" | ").is_some() {
            value.with = Some(self.number()?);
        }
        Some(value)
    }

    fn arg(&mut self) -> Option<ReadArg> {
        if self.take("__get_str(").is_some() {
            let arg = ReadArg::plain(Value::plain(self.field()?));
            self.take(")")?;
            return Some(arg);
        }
        if self.take("__print_array(").is_some() {
            let dynamic = self.take("__get_dynamic_array(").is_some();
            if !dynamic {
                self.take("REC->")?;
            }
            // Length and size of an element are the field's, too.
            let arg = ReadArg::plain(Value::plain(self.field()?));
            self.up_to(&[','])?;
            self.take(", ")?;
            self.up_to(&[','])?;
            self.up_to(&[')'])?;
            self.take(")")?;
            return Some(arg);
        }
        if self.0.starts_with("REC->") {
            let arg = ReadArg::plain(self.value()?);
            if self.take(" ? ").is_none() {
                return Some(arg);
            }
            if self.0.starts_with('"') {
                let yes = self.quoted()?;
                self.take(" : ")?;
                let choice = Some((yes, self.quoted()?));
                return Some(ReadArg { choice, ..arg });
            }
            // Names, but for 0: the value stands there once more.
            let named = self.named()?;
            self.take(" : ")?;
            let none = Some(self.quoted()?);
            return Some(ReadArg { none, ..named });
        }
        self.named()
    }

    /// `__print_symbolic(...)` or `__print_flags(...)`.
    fn named(&mut self) -> Option<ReadArg> {
        let of_bits = self.take("__print_flags(").is_some();
        if !of_bits {
            self.take("__print_symbolic(")?;
        }
        let mut arg = ReadArg::plain(self.value()?);
        if of_bits {
            self.take(", \"|\"")?;
            arg.flags = self.names()?;
        } else {
            arg.symbols = self.names()?;
        }
        Some(arg)
    }

    /// `, { 1, "good" }, { 2, "bad" })`.
    fn names(&mut self) -> Option<Names> {
        let mut names = Names::new();
        while self.take(")").is_none() {
            self.take(", { ")?;
            let value = self.up_to(&[','])?.parse().ok()?;
            self.take(", ")?;
            if names.len() == MOST {
                return None;
            }
            names.push((value, self.quoted()?));
            self.take(" }")?;
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoSymbols, SavedField};
    use super::*;
    use alloc::format;

    fn event(print: &str) -> SavedEvent {
        let field = |name: &str, offset, size, signed, kind| SavedField {
            name: name.into(),
            c_type: "".into(),
            count: (kind == 1).then_some(2),
            offset,
            size,
            signed,
            kind,
        };
        SavedEvent {
            id: 30,
            system: "test".into(),
            name: "event".into(),
            fingerprint: 0,
            enabled: false,
            fields: [
                field("status", 8, 4, false, 0),
                field("mode", 12, 4, true, 0),
                field("pair", 16, 4, false, 1),
                field("who", 20, 4, false, 3),
                field("list", 24, 4, false, 5),
            ]
            .into(),
            print: print.into(),
        }
    }

    fn shown(print: &str) -> String {
        let mut payload = [0; 40];
        payload[8] = 1;
        payload[12] = 6;
        payload[16] = 3;
        payload[18] = 4;
        // __data_loc: offset in the low half, length in the high one.
        payload[20..24].copy_from_slice(&(28u32 | 4 << 16).to_ne_bytes());
        payload[24..28].copy_from_slice(&(32u32 | 4 << 16).to_ne_bytes());
        payload[28..32].copy_from_slice(b"who\0");
        payload[32] = 5;
        payload[34] = 6;
        let mut out = String::new();
        write_foreign(&event(print), &payload, &mut NoSymbols, &mut out).unwrap();
        out
    }

    #[test]
    fn each_kind_of_argument_is_printed_as_its_own_kernel_did() {
        assert_eq!(
            shown(
                r#""%s \"%-4s\"\\ %s %s %s %d%%\n", __print_symbolic(REC->status, { 0, "good" }, { 1, "bad\t" }), __get_str(who), __print_flags(REC->mode, "|", { 2, "READ" }, { 4, "WRITE" }), __print_array(REC->pair, 2, 2), __print_array(__get_dynamic_array(list), __get_dynamic_array_len(list) / 2, 2), REC->mode"#
            ),
            "event: bad\t \"who \"\\ READ|WRITE {0x3,0x4} {0x5,0x6} 6%\n"
        );
        assert_eq!(
            shown(
                r#""%d %d %x %x %s %s %s %s", REC->pair[1], REC->mode - REC->status, REC->mode & 0x3 >> 1, REC->mode << 4 | 0x1000, REC->status ? "yes" : "no", REC->status & 0x2 ? "yes" : "no", REC->status & 0x2 ? __print_flags(REC->status & 0x2, "|", { 2, "B" }) : "none", REC->status ? __print_flags(REC->status, "|", { 1, "A" }) : "none""#
            ),
            "event: 4 5 1 1060 yes no none A"
        );
        assert_eq!(shown(r#""no argument""#), "event: no argument");
        assert_eq!(shown(r#""%s""#), "event: ");
    }

    #[test]
    fn another_form_is_shown_field_by_field() {
        let plain = "event: status=0x1 (1) mode=0x6 (6) pair={0x3,0x4} who=who list={0x5,0x6}";
        for print in [
            "",
            "%s",
            "\"%s",
            "\"%s\\",
            "\"\\x\"",
            "\"%s\",",
            "\"%s\", ",
            "\"%s\", REC->nobody",
            "\"%s\", REC->status + 1",
            "\"%s\", __get_str(who",
            "\"%s\", __print_array(REC->pair",
            "\"%s\", __print_array(REC->pair, 2, 2",
            "\"%s\", __print_symbolic(REC->status, { x, \"good\" })",
            "\"%s\", __print_symbolic(REC->status, { 0, \"good\" }",
            "\"%s\", __print_flags(REC->status, \"&\", { 1, \"a\" })",
            "\"%s\", panic()",
            "\"%d\", REC->pair[2]",
            "\"%d\", REC->status[0]",
            "\"%d\", REC->status - 1",
            "\"%d\", REC->status & x",
            "\"%d\", REC->status << x",
            "\"%d\", REC->status | x",
            "\"%s\", REC->status ? \"a\"",
            "\"%s\", REC->status ? __print_flags(REC->status, \"|\", { 1, \"a\" })",
        ] {
            assert_eq!(shown(print), plain, "{print}");
        }
        // Nobody waits for a format without end.
        let long = format!("\"\"{}", ", REC->status".repeat(MOST + 1));
        assert_eq!(shown(&long), plain);
    }
}
