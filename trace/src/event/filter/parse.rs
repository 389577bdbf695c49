//! From the text of a filter to its program.

use super::glob::Pattern;
use super::{
    DROP, Filter, FilterError, FilterErrorKind, KEEP, MAX_OPERAND, MAX_TEXT, Number, NumberOp,
    Step, Term, Text, find_field,
};
use crate::event::{FieldDesc, Kind};
use alloc::vec::Vec;

/// What is wrong, and where.
type Wrong = (FilterErrorKind, usize);

/// A part of the expression. Its parts stand before it in the list; `first` is its first term's number.
#[derive(Clone, Copy, Debug)]
enum Node {
    Term { number: u32 },
    Not { of: usize },
    And { left: usize, right: usize },
    Or { left: usize, right: usize },
}

/// What waits for the part that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Open,
    Not,
    And,
    Or,
}

fn is_space(b: u8) -> bool {
    b.is_ascii_whitespace() || b == 0x0b
}

pub(super) fn parse(fields: &[FieldDesc], text: &str) -> Result<Filter, FilterError> {
    let text = text.trim_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let wrong = |(kind, position): Wrong| FilterError {
        kind,
        position,
        text: text.chars().take(MAX_TEXT).collect(),
    };
    if text.len() > MAX_TEXT {
        return Err(wrong((FilterErrorKind::Malformed, 0)));
    }
    check_pairs(text.as_bytes()).map_err(wrong)?;
    let mut parser = Parser {
        text: text.as_bytes(),
        fields,
        terms: Vec::new(),
        nodes: Vec::new(),
        parts: Vec::new(),
        waiting: Vec::new(),
    };
    let root = parser.run().map_err(wrong)?;
    let needs_comm = parser.terms.iter().any(|term| {
        matches!(
            term,
            Term::Text {
                value: Text::Comm,
                ..
            }
        )
    });
    let steps = parser.program(root);
    Ok(Filter {
        text: text.into(),
        steps: steps.into(),
        needs_comm,
    })
}

/// Quotes and parentheses must come in pairs: looked at before anything else, as in Linux.
fn check_pairs(text: &[u8]) -> Result<(), Wrong> {
    let mut opened = Vec::new();
    let mut quote: Option<(u8, usize)> = None;
    for (i, b) in text.iter().enumerate() {
        match (quote, b) {
            (Some((q, _)), _) => {
                if *b == q {
                    quote = None;
                }
            }
            (None, b'"' | b'\'') => quote = Some((*b, i)),
            (None, b'(') => opened.push(i),
            (None, b')') if opened.pop().is_none() => {
                return Err((FilterErrorKind::TooManyClose, i));
            }
            _ => {}
        }
    }
    if let Some((_, at)) = quote {
        return Err((FilterErrorKind::MissingQuote, at));
    }
    match opened.last() {
        Some(at) => Err((FilterErrorKind::TooManyOpen, *at)),
        None => Ok(()),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    fields: &'a [FieldDesc],
    terms: Vec<Term>,
    nodes: Vec<(Node, u32)>,
    /// Complete parts that wait for an operator.
    parts: Vec<usize>,
    waiting: Vec<Waiting>,
}

impl Parser<'_> {
    fn at(&self, i: usize) -> u8 {
        self.text.get(i).copied().unwrap_or(0)
    }

    /// Parses all; returns the root.
    fn run(&mut self) -> Result<usize, Wrong> {
        let mut i = 0;
        loop {
            // Before a term.
            match self.at(i) {
                0 if i >= self.text.len() => {
                    let kind = match self.terms.is_empty() {
                        true => FilterErrorKind::NoFilter,
                        // `a == 1 &&`
                        false => FilterErrorKind::MissingField,
                    };
                    return Err((kind, i));
                }
                b if is_space(b) => {
                    i += 1;
                    continue;
                }
                b'(' => {
                    self.waiting.push(Waiting::Open);
                    i += 1;
                    continue;
                }
                b'!' if !matches!(self.at(i + 1), b'=' | b'~') => {
                    self.waiting.push(Waiting::Not);
                    i += 1;
                    continue;
                }
                _ => {}
            }
            let (term, next) = self.term(i)?;
            let number = self.terms.len() as u32;
            self.terms.push(term);
            self.push(Node::Term { number }, number);
            i = next;
            // After a term.
            loop {
                let b = self.at(i);
                if i >= self.text.len() {
                    self.close(Waiting::Or);
                    return Ok(self.parts.pop().unwrap_or(0));
                }
                if is_space(b) {
                    i += 1;
                } else if b == b')' {
                    self.close(Waiting::Or);
                    if self.waiting.pop() != Some(Waiting::Open) {
                        return Err((FilterErrorKind::TooManyClose, i));
                    }
                    self.close_not();
                    i += 1;
                } else if (b == b'&' || b == b'|') && self.at(i + 1) == b {
                    let op = match b {
                        b'&' => Waiting::And,
                        _ => Waiting::Or,
                    };
                    self.close(op);
                    self.waiting.push(op);
                    i += 2;
                    break;
                } else {
                    return Err((FilterErrorKind::TooManyPreds, i));
                }
            }
        }
    }

    fn push(&mut self, node: Node, first: u32) {
        self.nodes.push((node, first));
        self.parts.push(self.nodes.len() - 1);
        if matches!(node, Node::Term { .. }) {
            self.close_not();
        }
    }

    /// Every `!` right before the last part belongs to it.
    fn close_not(&mut self) {
        while self.waiting.last() == Some(&Waiting::Not) {
            self.waiting.pop();
            let Some(of) = self.parts.pop() else { return };
            let first = self.nodes[of].1;
            self.push(Node::Not { of }, first);
        }
    }

    /// Joins what binds at least as tightly as `upto`, back to the last parenthesis.
    fn close(&mut self, upto: Waiting) {
        while let Some(op) = self.waiting.last().copied() {
            let joins = match op {
                Waiting::And => true,
                Waiting::Or => upto == Waiting::Or,
                Waiting::Open | Waiting::Not => false,
            };
            if !joins {
                return;
            }
            self.waiting.pop();
            let (Some(right), Some(left)) = (self.parts.pop(), self.parts.pop()) else {
                return;
            };
            let first = self.nodes[left].1;
            let node = match op {
                Waiting::And => Node::And { left, right },
                _ => Node::Or { left, right },
            };
            self.push(node, first);
        }
    }

    /// Gives each term the steps that follow it, from the root down.
    fn program(self, root: usize) -> Vec<Step> {
        let mut follow = alloc::vec![(DROP, DROP); self.terms.len()];
        let mut todo = alloc::vec![(root, KEEP, DROP)];
        while let Some((node, if_true, if_false)) = todo.pop() {
            match self.nodes[node].0 {
                Node::Term { number } => follow[number as usize] = (if_true, if_false),
                Node::Not { of } => todo.push((of, if_false, if_true)),
                Node::And { left, right } => {
                    todo.push((left, self.nodes[right].1, if_false));
                    todo.push((right, if_true, if_false));
                }
                Node::Or { left, right } => {
                    todo.push((left, if_true, self.nodes[right].1));
                    todo.push((right, if_true, if_false));
                }
            }
        }
        self.terms
            .into_iter()
            .zip(follow)
            .map(|(term, (if_true, if_false))| Step {
                term,
                if_true,
                if_false,
            })
            .collect()
    }

    /// The term that begins at `start`, and where it ends.
    fn term(&self, start: usize) -> Result<(Term, usize), Wrong> {
        // Linux counts the places within a term from the byte after its first.
        let place = |i: usize| i + 1;
        let mut i = start;
        while self.at(i).is_ascii_alphanumeric() || self.at(i) == b'_' {
            i += 1;
        }
        if i == start {
            return Err((FilterErrorKind::MissingField, start));
        }
        let name = core::str::from_utf8(&self.text[start..i]).unwrap_or("");
        let value =
            value_of(self.fields, name).ok_or((FilterErrorKind::FieldNotFound, place(i)))?;
        while is_space(self.at(i)) {
            i += 1;
        }
        let rest = &self.text[i.min(self.text.len())..];
        let (op, len) = Op::parse(rest).ok_or((FilterErrorKind::InvalidOp, place(i)))?;
        i += len;
        while is_space(self.at(i)) {
            i += 1;
        }
        match self.at(i) {
            b'"' | b'\'' => self.text_term(value, op, i),
            b if b.is_ascii_digit() || b == b'-' => self.number_term(value, op, i),
            _ => Err((FilterErrorKind::InvalidValue, place(i))),
        }
    }

    fn text_term(&self, value: Value, op: Op, quote_at: usize) -> Result<(Term, usize), Wrong> {
        let wrong = |kind, i: usize| (kind, i + 1);
        if !matches!(op, Op::Glob | Op::Number(NumberOp::Eq | NumberOp::Ne)) {
            return Err(wrong(FilterErrorKind::IllegalFieldOp, quote_at));
        }
        let Value::Text(value) = value else {
            return Err(wrong(FilterErrorKind::ExpectDigit, quote_at));
        };
        let quote = self.text[quote_at];
        let from = quote_at + 1;
        let Some(len) = self.text[from..].iter().position(|b| *b == quote) else {
            return Err(wrong(FilterErrorKind::MissingQuote, self.text.len()));
        };
        if len > MAX_OPERAND {
            return Err(wrong(FilterErrorKind::OperandTooLong, from + len));
        }
        let text = core::str::from_utf8(&self.text[from..from + len])
            .map_err(|_| wrong(FilterErrorKind::InvalidValue, quote_at))?;
        let term = Term::Text {
            value,
            pattern: match op {
                Op::Glob => Pattern::glob(text),
                Op::Number(_) => Pattern::Exact(text.into()),
            },
            not: op == Op::Number(NumberOp::Ne),
        };
        Ok((term, from + len + 1))
    }

    fn number_term(&self, value: Value, op: Op, from: usize) -> Result<(Term, usize), Wrong> {
        let wrong = |kind, i: usize| (kind, i + 1);
        let value = match value {
            Value::Number(value) => value,
            Value::Text(_) => return Err(wrong(FilterErrorKind::ExpectString, from)),
            Value::Array => return Err(wrong(FilterErrorKind::IllegalFieldOp, from)),
        };
        let Op::Number(op) = op else {
            return Err(wrong(FilterErrorKind::IllegalFieldOp, from));
        };
        let mut to = from + usize::from(self.at(from) == b'-');
        while self.at(to).is_ascii_alphanumeric() {
            to += 1;
        }
        // `0xfeedfacedeadbeef` is the longest that makes sense; Linux takes 23.
        if to - from > 23 {
            return Err(wrong(FilterErrorKind::OperandTooLong, to));
        }
        let text = core::str::from_utf8(&self.text[from..to]).unwrap_or("");
        let (size, signed) = match value {
            Number::Field { size, signed, .. } => (size, signed),
            Number::Cpu => (4, true),
        };
        let number = number(text, signed).ok_or(wrong(FilterErrorKind::IllegalIntval, from))?;
        let term = Term::Number {
            value,
            op,
            operand: fit(number, size, signed),
        };
        Ok((term, to))
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Value {
    Number(Number),
    Text(Text),
    Array,
}

fn value_of(fields: &[FieldDesc], name: &str) -> Option<Value> {
    let Some(field) = find_field(fields, name) else {
        return match name {
            "CPU" | "cpu" | "common_cpu" => Some(Value::Number(Number::Cpu)),
            "COMM" | "comm" | "common_comm" => Some(Value::Text(Text::Comm)),
            _ => None,
        };
    };
    let (offset, size) = (field.offset, field.proto.size);
    Some(match field.proto.kind {
        Kind::Int => Value::Number(Number::Field {
            offset,
            size,
            signed: field.proto.signed,
        }),
        Kind::Array(_) | Kind::Dynamic(_) => Value::Array,
        Kind::Chars => Value::Text(Text::Chars { offset, size }),
        Kind::Str => Value::Text(Text::Str { offset }),
        Kind::Rest => Value::Text(Text::Rest { offset }),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Number(NumberOp),
    Glob,
}

impl Op {
    fn parse(text: &[u8]) -> Option<(Op, usize)> {
        // `<=` before `<`.
        const OPS: [(&[u8], Op); 8] = [
            (b"~", Op::Glob),
            (b"!=", Op::Number(NumberOp::Ne)),
            (b"==", Op::Number(NumberOp::Eq)),
            (b"<=", Op::Number(NumberOp::Le)),
            (b"<", Op::Number(NumberOp::Lt)),
            (b">=", Op::Number(NumberOp::Ge)),
            (b">", Op::Number(NumberOp::Gt)),
            (b"&", Op::Number(NumberOp::And)),
        ];
        OPS.iter()
            .find(|(name, _)| text.starts_with(name))
            .map(|(name, op)| (*op, name.len()))
    }
}

/// A number as `kstrtoll` and `kstrtoull` read it with base 0; as the 64 bits that it is.
fn number(text: &str, signed: bool) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let value = u64::from_str_radix(digits, radix).ok()?;
    match (signed, negative) {
        (false, true) => None,
        (false, false) => Some(value),
        (true, true) => (value <= 1 << 63).then(|| value.wrapping_neg()),
        (true, false) => i64::try_from(value).ok().map(|value| value as u64),
    }
}

/// Cut to the field's size, as C assigns it.
fn fit(value: u64, size: usize, signed: bool) -> u64 {
    match (size, signed) {
        (1, true) => i64::from(value as i8) as u64,
        (1, false) => u64::from(value as u8),
        (2, true) => i64::from(value as i16) as u64,
        (2, false) => u64::from(value as u16),
        (4, true) => i64::from(value as i32) as u64,
        (4, false) => u64::from(value as u32),
        _ => value,
    }
}
