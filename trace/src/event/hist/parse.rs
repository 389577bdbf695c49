//! From the text of a `hist` command to what is to be counted.

use super::{By, Form, Key, Sort, Source, Spec, Val};
use crate::errno::Errno;
use crate::event::complaint::Complaint;
use crate::event::filter::find_field;
use crate::event::{FieldDesc, Kind};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

const MAX_KEYS: usize = 3;
const MAX_VALS: usize = 3;
const MAX_SORTS: usize = 2;
/// As `TRACING_MAP_BITS_DEFAULT`, `_MIN` and `_MAX`.
const BITS: (u32, u32, u32) = (11, 7, 17);

/// What a command asks of a histogram that may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing: a new one.
    Add,
    /// `pause`
    Pause,
    /// `continue`
    Continue,
    /// `clear`
    Clear,
}

/// A `hist` command.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) spec: Spec,
    /// What to do.
    pub(crate) order: Order,
}

/// A complaint about the part `part` of `command`.
pub(crate) fn complain(
    errno: Errno,
    event: (&str, &str),
    command: &str,
    part: &str,
    text: &'static str,
) -> Complaint {
    let (system, name) = event;
    let location = format!("hist:{system}:{name}");
    Complaint::at(errno, location, command, part, text)
}

struct Parser<'a> {
    event: (&'a str, &'a str),
    fields: &'a [FieldDesc],
    command: &'a str,
}

/// Parses what stands after `hist:` in `command`, without its filter.
pub(crate) fn parse(
    event: (&str, &str),
    fields: &[FieldDesc],
    command: &str,
    attributes: &str,
) -> Result<Attributes, Complaint> {
    Parser {
        event,
        fields,
        command,
    }
    .run(attributes)
}

impl Parser<'_> {
    fn wrong(&self, part: &str, text: &'static str) -> Complaint {
        complain(Errno::EINVAL, self.event, self.command, part, text)
    }

    fn run(&self, attributes: &str) -> Result<Attributes, Complaint> {
        // Linux logs nothing of these three; `part` says where.
        let no_size = |part| self.wrong(part, "Invalid size (a number, 128 to 131072)");
        let no_keys = || self.wrong(attributes, "Missing keys");
        let (mut keys, mut vals, mut sort, mut name) = (None, None, None, None);
        let mut bits = BITS.0;
        let mut order = Order::Add;
        let mut no_hitcount = false;
        for part in attributes.split(':') {
            match part.split_once('=') {
                Some((_, "")) => return Err(self.wrong(part, "Empty assignment")),
                Some(("keys" | "key", list)) => keys = Some(list),
                Some(("vals" | "val" | "values", list)) => vals = Some(list),
                Some(("sort", list)) => sort = Some((part, list)),
                Some(("name", text)) => name = Some(String::from(text)),
                Some(("size", text)) => {
                    let size: u32 = text.parse().map_err(|_| no_size(text))?;
                    let entries = size.checked_next_power_of_two();
                    bits = entries.ok_or_else(|| no_size(text))?.ilog2();
                    if !(BITS.1..=BITS.2).contains(&bits) {
                        return Err(no_size(text));
                    }
                }
                Some(_) => return Err(self.wrong(part, "Malformed assignment")),
                None => match part {
                    "pause" => order = Order::Pause,
                    "continue" | "cont" => order = Order::Continue,
                    "clear" => order = Order::Clear,
                    "nohitcount" | "NOHC" => no_hitcount = true,
                    _ => return Err(self.wrong(part, "Unknown attribute")),
                },
            }
        }
        let keys = self.keys(keys.ok_or_else(no_keys)?)?;
        let vals = self.vals(vals.unwrap_or("hitcount"))?;
        if no_hitcount && vals.is_empty() {
            let text = "Need at least one value for hist if hitcount is suppressed";
            return Err(self.wrong("", text));
        }
        let mut spec = Spec {
            name,
            keys,
            vals,
            sort: Vec::new(),
            bits,
            no_hitcount,
        };
        spec.sort = self.sorts(&spec, sort)?;
        Ok(Attributes { spec, order })
    }

    fn keys(&self, list: &str) -> Result<Vec<Key>, Complaint> {
        let mut keys = Vec::new();
        for part in list.split(',') {
            if keys.len() == MAX_KEYS {
                return Err(self.wrong(part, "Too many keys (Max = 3)"));
            }
            keys.push(self.key(part)?);
        }
        Ok(keys)
    }

    fn key(&self, part: &str) -> Result<Key, Complaint> {
        let (name, modifier) = match part.split_once('.') {
            Some((name, modifier)) => (name, Some(modifier)),
            None => (part, None),
        };
        let source = match find_field(self.fields, name) {
            Some(field) => {
                let (offset, size) = (field.offset, field.proto.size);
                match field.proto.kind {
                    Kind::Int => Source::Int {
                        offset,
                        size,
                        signed: field.proto.signed,
                    },
                    Kind::Chars => Source::Chars { offset, size },
                    Kind::Str => Source::Str { offset },
                    Kind::Rest => Source::Rest { offset },
                    Kind::Array(_) | Kind::Dynamic(_) => {
                        return Err(self.wrong(part, "Couldn't find field"));
                    }
                }
            }
            None => match name {
                "common_cpu" | "cpu" | "CPU" => Source::Cpu,
                "common_timestamp" => Source::Timestamp,
                _ => return Err(self.wrong(part, "Couldn't find field")),
            },
        };
        let number = !source.is_text();
        let form = match modifier {
            None => Form::Plain,
            Some("hex") if number => Form::Hex,
            Some("log2") if number => Form::Log2,
            Some("sym") if number => Form::Sym,
            Some("sym-offset") if number => Form::SymOffset,
            Some("usecs") if source == Source::Timestamp => Form::Usecs,
            Some("execname") if name == "common_pid" => Form::Execname,
            Some(text) => match text.strip_prefix("buckets=").map(str::parse::<u64>) {
                Some(Ok(each)) if number && each > 0 => Form::Buckets(each),
                _ => return Err(self.wrong(text, "Invalid field modifier")),
            },
        };
        let name = match source {
            Source::Cpu => "common_cpu",
            _ => name,
        };
        Ok(Key {
            name: name.into(),
            source,
            form,
        })
    }

    fn vals(&self, list: &str) -> Result<Vec<Val>, Complaint> {
        let mut vals = Vec::new();
        for part in list.split(',') {
            if part == "hitcount" {
                continue;
            }
            if vals.len() == MAX_VALS {
                return Err(self.wrong(part, "Too many vals (Max = 3)"));
            }
            let (name, hex) = match part.split_once('.') {
                None => (part, false),
                Some((name, "hex")) => (name, true),
                Some((_, modifier)) => {
                    return Err(self.wrong(modifier, "Invalid field modifier"));
                }
            };
            let field = find_field(self.fields, name)
                .filter(|field| field.proto.kind == Kind::Int)
                .ok_or_else(|| self.wrong(part, "Couldn't find field"))?;
            vals.push(Val {
                name: name.into(),
                offset: field.offset,
                size: field.proto.size,
                signed: field.proto.signed,
                hex,
            });
        }
        Ok(vals)
    }

    /// `sort` is the whole assignment, and what is assigned.
    fn sorts(&self, spec: &Spec, sort: Option<(&str, &str)>) -> Result<Vec<Sort>, Complaint> {
        let (whole, list) = sort.unwrap_or(("", "hitcount"));
        let mut sorts = Vec::new();
        for part in list.split(',') {
            if part.is_empty() {
                return Err(self.wrong(whole, "Empty sort field"));
            }
            if sorts.len() == MAX_SORTS {
                return Err(self.wrong(whole, "Too many sort fields (Max = 2)"));
            }
            // A field may be named with its own modifier, as the `trigger` file shows it.
            let (field, descending) = match part.rsplit_once('.') {
                Some((field, "descending")) => (field, true),
                Some((field, "ascending")) => (field, false),
                _ => (part, false),
            };
            let named = |name: &str| {
                field == name
                    || field
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('.'))
            };
            let by = if field == "hitcount" {
                By::Hitcount
            } else if let Some(i) = spec.vals.iter().position(|val| named(&val.name)) {
                By::Val(i)
            } else if let Some(i) = spec.keys.iter().position(|key| named(&key.name)) {
                By::Key(i)
            } else {
                return Err(self.wrong(part, "Sort field must be a key or a val"));
            };
            if let Some((_, modifier)) = field.split_once('.') {
                let known = ["hex", "log2", "sym", "sym-offset", "execname", "usecs"]
                    .contains(&modifier)
                    || modifier.starts_with("buckets=");
                if !known {
                    return Err(self.wrong(modifier, "Invalid sort modifier"));
                }
            }
            sorts.push(Sort { by, descending });
        }
        Ok(sorts)
    }
}
