//! Filters: which records of an event are kept.
//!
//! ```text
//! expression = term, or terms joined by && (binds tighter) and ||, with ! before any, in parentheses
//! term       = FIELD == != < <= > >= & NUMBER          decimal, 0x..., 0..., negative for a signed field
//!            | FIELD == != ~ "TEXT"                    ~ takes * ? [a-z] [!a-z] \x; quotes are " or '
//! ```
//!
//! Fields are the event's own and the common ones; `CPU` (also `cpu`, `common_cpu`) and `COMM` (`comm`, `common_comm`) mean the
//! CPU and the task that record, where the event has no field of that name.
//!
//! [`Filter::parse`] makes a program of it once: one step for each term, in the order of the text, each with the step that
//! follows if it holds and the one if it does not, always further on. [`Filter::matches`] walks it: no recursion, no
//! allocation, no lock, at most one look at each term.
//!
//! Source of the grammar, the sentences and the positions: Linux's `kernel/trace/trace_events_filter.c`. Where Baton differs:
//!
//! - every wrong expression is `EINVAL` (Linux gives `EPERM`, `ENOENT` or `ESRCH` for parentheses and quotes, by accident);
//! - where a field is missing (`a == 1 &&`, `&& a == 1`, `()`), that is said, with a caret (Linux: `Error: (-22)`, or a filter without it);
//! - a fixed array of integers cannot be compared (Linux takes the term and never matches it);
//! - a pattern after `~` that begins with a digit is a pattern (Linux compares it literally).

mod error;
mod glob;
mod parse;

pub use error::{FilterError, FilterErrorKind};

use super::printed::int_at;
use super::{COMMON_SIZE, FieldDesc, FieldProto, Kind};
use alloc::boxed::Box;
use alloc::string::String;
use core::cmp::Ordering;
use glob::Pattern;

/// The longest expression in bytes: Linux takes less than a page.
pub const MAX_TEXT: usize = 4095;
/// Bytes of the longest string in a term: less than Linux's `MAX_FILTER_STR_VAL`.
pub const MAX_OPERAND: usize = 255;

/// What a filter may ask beyond the record: who records it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recorder<'a> {
    /// The CPU.
    pub cpu: u32,
    /// The task's name; needed only where [`Filter::needs_comm`].
    pub comm: &'a str,
    /// When, in units of the clock: for the histogram key `common_timestamp`.
    pub ts: u64,
}

/// A filter for the records of one event.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    steps: Box<[Step]>,
    needs_comm: bool,
}

/// A term, and where it leads.
#[derive(Clone, Debug)]
struct Step {
    term: Term,
    if_true: u32,
    if_false: u32,
}

/// A step's end: the record is kept.
const KEEP: u32 = u32::MAX;
/// A step's end: the record is dropped.
const DROP: u32 = u32::MAX - 1;

#[derive(Clone, Debug)]
enum Term {
    Number {
        value: Number,
        op: NumberOp,
        operand: u64,
    },
    Text {
        value: Text,
        pattern: Pattern,
        /// `!=`.
        not: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Field {
        offset: usize,
        size: usize,
        signed: bool,
    },
    Cpu,
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Chars { offset: usize, size: usize },
    Str { offset: usize },
    Rest { offset: usize },
    Comm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
}

impl Filter {
    /// Makes a filter of `text` for an event with these fields.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as Linux finds it.
    pub fn parse(fields: &[FieldDesc], text: &str) -> Result<Filter, FilterError> {
        parse::parse(fields, text)
    }

    /// The expression, without white space around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether [`Recorder::comm`] is looked at.
    pub fn needs_comm(&self) -> bool {
        self.needs_comm
    }

    /// Whether `record` (with its common fields) is kept. A term about bytes that a record does not have does not hold.
    pub fn matches(&self, record: &[u8], recorder: &Recorder<'_>) -> bool {
        let mut at = 0;
        while let Some(step) = self.steps.get(at as usize) {
            at = if step.term.holds(record, recorder) {
                step.if_true
            } else {
                step.if_false
            };
        }
        at == KEEP
    }
}

impl Term {
    fn holds(&self, record: &[u8], recorder: &Recorder<'_>) -> bool {
        match self {
            Term::Number { value, op, operand } => {
                let (value, signed) = match *value {
                    Number::Field {
                        offset,
                        size,
                        signed,
                    } => match int_at(record, offset, size, signed) {
                        Some(value) => (value, signed),
                        None => return false,
                    },
                    Number::Cpu => (u64::from(recorder.cpu), true),
                };
                op.holds(value, *operand, signed)
            }
            Term::Text {
                value,
                pattern,
                not,
            } => match value.of(record, recorder) {
                Some(text) => pattern.matches(text) != *not,
                None => false,
            },
        }
    }
}

impl NumberOp {
    fn holds(self, value: u64, operand: u64, signed: bool) -> bool {
        let order = if signed {
            (value as i64).cmp(&(operand as i64))
        } else {
            value.cmp(&operand)
        };
        match self {
            NumberOp::Eq => order == Ordering::Equal,
            NumberOp::Ne => order != Ordering::Equal,
            NumberOp::Lt => order == Ordering::Less,
            NumberOp::Le => order != Ordering::Greater,
            NumberOp::Gt => order == Ordering::Greater,
            NumberOp::Ge => order != Ordering::Less,
            NumberOp::And => value & operand != 0,
        }
    }
}

impl Text {
    /// The bytes up to the NUL.
    fn of<'r>(self, record: &'r [u8], recorder: &Recorder<'r>) -> Option<&'r [u8]> {
        let bytes = match self {
            Text::Chars { offset, size } => record.get(offset..offset.checked_add(size)?)?,
            Text::Str { offset } => {
                let place = int_at(record, offset, 4, false)?;
                let (at, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
                record.get(at..at + len)?
            }
            Text::Rest { offset } => record.get(offset..)?,
            Text::Comm => recorder.comm.as_bytes(),
        };
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(&bytes[..end])
    }
}

const fn common(
    name: &'static str,
    c_type: &'static str,
    offset: usize,
    size: usize,
    signed: bool,
) -> FieldDesc {
    FieldDesc {
        proto: FieldProto {
            name,
            c_type,
            count: None,
            size,
            align: size,
            signed,
            kind: Kind::Int,
        },
        offset,
    }
}

/// The fields that every record begins with.
pub const COMMON_FIELDS: [FieldDesc; 4] = [
    common("common_type", "unsigned short", 0, 2, false),
    common("common_flags", "unsigned char", 2, 1, false),
    common("common_preempt_count", "unsigned char", 3, 1, false),
    common("common_pid", "int", 4, 4, true),
];

/// The fields of `ftrace:print`, the events of `trace_marker`.
pub const PRINT_FIELDS: [FieldDesc; 2] = [
    common("ip", "unsigned long", COMMON_SIZE, 8, false),
    FieldDesc {
        proto: FieldProto {
            name: "buf",
            c_type: "char",
            count: Some(0),
            size: 0,
            align: 1,
            signed: false,
            kind: Kind::Rest,
        },
        offset: COMMON_SIZE + 8,
    },
];

/// The field `name` of an event, or the common one.
pub(crate) fn find_field<'f>(fields: &'f [FieldDesc], name: &str) -> Option<&'f FieldDesc> {
    fields
        .iter()
        .chain(&COMMON_FIELDS)
        .find(|field| field.proto.name == name)
}
