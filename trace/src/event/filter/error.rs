//! What is wrong with a filter, and how Linux shows it.

use alloc::string::String;
use core::fmt::{self, Write};

/// Why an expression is no filter. The texts are those of Linux's `ERRORS` in `trace_events_filter.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterErrorKind {
    /// No operator stands after the field.
    InvalidOp,
    /// A `(` is never closed.
    TooManyOpen,
    /// A `)` closes nothing.
    TooManyClose,
    /// A quote is never closed.
    MissingQuote,
    /// A number or a string is too long.
    OperandTooLong,
    /// A number is compared with a string field.
    ExpectString,
    /// A string is compared with a numeric field.
    ExpectDigit,
    /// The operator does not go with the field's type.
    IllegalFieldOp,
    /// The event has no such field.
    FieldNotFound,
    /// What should be a number is none, or does not fit.
    IllegalIntval,
    /// No event of the system could take the filter.
    BadSubsysFilter,
    /// More follows where `&&`, `||` or the end should.
    TooManyPreds,
    /// What follows the operator is neither number nor quoted string.
    InvalidValue,
    /// Something else stands where a field should, or nothing. Linux 6 has no sentence for it (it shows `Error: (-22)`, and takes
    /// a `&&` with nothing behind it); this is its own of 3.x.
    MissingField,
    /// The text is longer than [`super::MAX_TEXT`]. No place in it is wrong, so there is no caret.
    Malformed,
    /// The expression has no term.
    NoFilter,
}

impl FilterErrorKind {
    /// Linux's sentence.
    pub fn text(self) -> &'static str {
        use FilterErrorKind::*;
        match self {
            InvalidOp => "Invalid operator",
            TooManyOpen => "Too many '('",
            TooManyClose => "Too few '('",
            MissingQuote => "Missing matching quote",
            OperandTooLong => "Operand too long",
            ExpectString => "Expecting string field",
            ExpectDigit => "Expecting numeric field",
            IllegalFieldOp => "Illegal operation for field type",
            FieldNotFound => "Field not found",
            IllegalIntval => "Illegal integer value",
            BadSubsysFilter => "Couldn't find or set field in one of a subsystem's events",
            TooManyPreds => "Too many terms in predicate expression",
            InvalidValue => "Invalid value (did you forget quotes)?",
            MissingField => "Missing field name and/or value",
            Malformed => "Error",
            NoFilter => "No filter found",
        }
    }
}

/// An expression that is no filter: what is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// What.
    pub kind: FilterErrorKind,
    /// Where, as Linux counts it: bytes from the start of the text, at most its length.
    pub position: usize,
    /// The expression.
    pub text: String,
}

impl FilterError {
    /// Writes what the `filter` file shows after the attempt: the text, a caret under the place, the sentence.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write_file(&self, out: &mut dyn Write) -> fmt::Result {
        let (text, at) = (&self.text, self.position.min(self.text.len()));
        match self.kind {
            FilterErrorKind::Malformed => write!(out, "{text}\nError: (-22)\n"),
            kind => writeln!(out, "{text}\n{:at$}^\nparse_error: {}", "", kind.text(),),
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.kind.text(), self.position)
    }
}

impl core::error::Error for FilterError {}
