//! `seq`.

use super::super::shell::{CmdError, Command, Complete, Ctx};
use super::super::vfs::{Sink, print};
use alloc::format;
use alloc::string::String;

/// Widest number that a format may ask for, in columns.
const MAX_WIDTH: usize = 1024;

/// `seq`.
pub const SEQ: Command = Command::new(
    "seq",
    "seq [-w] [-f FORMAT] [FIRST [STEP]] LAST",
    "print whole numbers in order",
    "-f  FORMAT with one %d, %g or %x in it, as printf has them: seq -f 'line %04d' 1 1000\n\
     -w  all of one width, with zeros\n\
     Each line is one write, so `seq 1 1000 > trace_marker` makes 1,000 markers.",
    run,
)
.completing(Complete::Nothing);

/// A format, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Format {
    before: String,
    after: String,
    zeros: bool,
    left: bool,
    plus: bool,
    width: usize,
    hex: bool,
}

impl Format {
    fn plain() -> Self {
        Self {
            before: String::new(),
            after: String::new(),
            zeros: false,
            left: false,
            plus: false,
            width: 0,
            hex: false,
        }
    }

    fn parse(text: &str) -> Result<Self, CmdError> {
        let wrong = |what: &str| CmdError::usage(format!("{text}: {what}"));
        let mut format = Self::plain();
        let mut seen = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let side = if seen {
                &mut format.after
            } else {
                &mut format.before
            };
            if c != '%' {
                side.push(c);
                continue;
            }
            if chars.peek() == Some(&'%') {
                chars.next();
                side.push('%');
                continue;
            }
            if seen {
                return Err(wrong("more than one number in the format"));
            }
            seen = true;
            while let Some(flag @ ('0' | '-' | '+')) = chars.peek().copied() {
                chars.next();
                match flag {
                    '0' => format.zeros = true,
                    '-' => format.left = true,
                    _ => format.plus = true,
                }
            }
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                format.width = format.width * 10 + digit as usize;
                if format.width > MAX_WIDTH {
                    return Err(wrong("the width is too large"));
                }
            }
            // The numbers are whole: a precision of none is the only one that says nothing.
            if chars.peek() == Some(&'.') {
                chars.next();
                if chars.next() != Some('0') {
                    return Err(wrong("only whole numbers are printed"));
                }
            }
            match chars.next() {
                Some('d' | 'i' | 'u' | 'g' | 'f') => {}
                Some('x') => format.hex = true,
                _ => return Err(wrong("no %d, %g or %x where the % is")),
            }
        }
        if !seen {
            return Err(wrong("no %d in the format"));
        }
        Ok(format)
    }

    fn line(&self, n: i64) -> String {
        let sign = match n {
            ..0 if !self.hex => "-",
            _ if self.plus && !self.hex => "+",
            _ => "",
        };
        let digits = if self.hex {
            format!("{n:x}")
        } else {
            format!("{}", n.unsigned_abs())
        };
        let number = if self.zeros && !self.left {
            format!(
                "{sign}{digits:0>width$}",
                width = self.width.saturating_sub(sign.len())
            )
        } else {
            format!("{sign}{digits}")
        };
        let width = self.width;
        let (before, after) = (&self.before, &self.after);
        if self.left {
            format!("{before}{number:<width$}{after}\n")
        } else {
            format!("{before}{number:>width$}{after}\n")
        }
    }
}

fn run(_ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    // Not `Args`: a negative number is no option.
    let mut format = None;
    let mut equal = false;
    let mut rest = args;
    while let [first, tail @ ..] = rest {
        match (*first, tail) {
            ("-w", _) => {
                equal = true;
                rest = tail;
            }
            ("-f", [text, tail @ ..]) => {
                format = Some(Format::parse(text)?);
                rest = tail;
            }
            ("-f", []) => return Err(CmdError::usage("-f: it needs a value")),
            _ => break,
        }
    }
    let number = |text: &&str| {
        text.parse::<i64>()
            .map_err(|_| CmdError::usage(format!("{text}: not a whole number of 64 bits")))
    };
    let (first, step, last) = match rest {
        [last] => (1, 1, number(last)?),
        [first, last] => (number(first)?, 1, number(last)?),
        [first, step, last] => (number(first)?, number(step)?, number(last)?),
        _ => return Err(CmdError::usage("one to three numbers are needed")),
    };
    if step == 0 {
        return Err(CmdError::usage("a step of 0 leads nowhere"));
    }
    let mut format = match format {
        Some(_) if equal => return Err(CmdError::usage("-w and -f exclude each other")),
        Some(format) => format,
        None => Format::plain(),
    };
    if equal {
        format.zeros = true;
        format.width = format!("{first}").len().max(format!("{last}").len());
    }
    let mut n = first;
    while if step > 0 { n <= last } else { n >= last } {
        print(out, format_args!("{}", format.line(n)))?;
        match n.checked_add(step) {
            Some(next) => n = next,
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (text, n, line) in [
            ("%d", 7, "7\n"),
            ("line %04g.", 7, "line 0007.\n"),
            ("%5d|", -7, "   -7|\n"),
            ("%-5d|", -7, "-7   |\n"),
            ("%05d", -7, "-0007\n"),
            ("%+.0f%%", 7, "+7%\n"),
            ("0x%02x", 10, "0x0a\n"),
            ("%d", i64::MIN, "-9223372036854775808\n"),
        ] {
            assert_eq!(Format::parse(text).unwrap().line(n), line, "{text}");
        }
        for bad in ["", "x", "%", "%s", "%d %d", "%.3f", "%99999d", "100%"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }
}
