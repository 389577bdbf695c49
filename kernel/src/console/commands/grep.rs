//! `grep`, with the basic and extended regular expressions that people know, on the `regex` crate.

use super::super::shell::{CmdError, Command, Ctx, Filter, STATUS_FAILED, Started};
use super::super::vfs::{Sink, Stop, print};
use super::args::Args;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use regex::bytes::{Regex, RegexBuilder};

/// Longest line; a longer one is looked at in parts of this size.
pub const MAX_GREP_LINE_BYTES: usize = 64 * 1024;
/// Most memory that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// `grep`.
pub const GREP: Command = Command::filter(
    "grep",
    "grep [-v] [-i] [-c] [-n] [-o] [-q] [-w] [-x] [-E | -F] PATTERN [FILE...]",
    "print the lines that match a pattern",
    "-v  the lines that do not match\n\
     -i  upper and lower case are the same\n\
     -c  only how many there are\n\
     -n  with line numbers\n\
     -o  only the parts that match\n\
     -q  nothing: only the status\n\
     -w  only whole words\n\
     -x  only whole lines\n\
     -E  an extended pattern: ( ) | + ? { } are special\n\
     -F  nothing in the pattern is special\n\
     ^ $ . * [ ] are special unless -F is given. Status 1 without a message: no line matched.",
    start,
);

/// How a line is matched.
enum Matcher {
    /// It contains these bytes.
    Contains(Vec<u8>),
    Regex(Box<Regex>),
}

impl Matcher {
    fn matches(&self, line: &[u8]) -> bool {
        match self {
            Matcher::Contains(bytes) => contains(line, bytes),
            Matcher::Regex(regex) => regex.is_match(line),
        }
    }
}

fn contains(line: &[u8], bytes: &[u8]) -> bool {
    let Some(first) = bytes.first() else {
        return true;
    };
    let mut rest = line;
    while let Some(at) = rest.iter().position(|b| b == first) {
        if rest[at..].starts_with(bytes) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

struct Grep {
    matcher: Matcher,
    invert: bool,
    count: bool,
    number: bool,
    only: bool,
    quiet: bool,
    names: bool,
    name: Option<String>,
    /// The start of a line whose end has not come yet.
    pending: Vec<u8>,
    /// Of the line that comes next, from 1.
    line_number: u64,
    /// In this input.
    selected: u64,
    any: bool,
    /// A line with a NUL matched: the rest of the input is binary too, and is not printed.
    binary: bool,
}

fn start(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "vicnoqwxEFah", "e")?;
    let mut operands = args.operands.as_slice();
    let pattern = match args.options.iter().rfind(|(letter, _)| *letter == 'e') {
        Some((_, pattern)) => *pattern,
        None => match operands.split_first() {
            Some((pattern, rest)) => {
                operands = rest;
                *pattern
            }
            None => return Err(CmdError::usage("no pattern given")),
        },
    };
    Ok(Started {
        filter: Box::new(Grep {
            matcher: matcher(pattern, &args)?,
            invert: args.has('v'),
            count: args.has('c'),
            number: args.has('n'),
            only: args.has('o') && !args.has('v'),
            quiet: args.has('q'),
            names: operands.len() > 1 && !args.has('h'),
            name: None,
            pending: Vec::new(),
            line_number: 1,
            selected: 0,
            any: false,
            binary: false,
        }),
        files: operands.iter().map(|file| file.to_string()).collect(),
    })
}

fn matcher(pattern: &str, args: &Args<'_>) -> Result<Matcher, CmdError> {
    let is_plain = args.has('F') || !pattern.contains(SPECIAL);
    let needs_regex = ['i', 'o', 'w', 'x'].iter().any(|flag| args.has(*flag));
    if is_plain && !needs_regex {
        return Ok(Matcher::Contains(pattern.as_bytes().to_vec()));
    }
    let mut source = match () {
        () if args.has('F') => regex::escape(pattern),
        () if args.has('E') => translate(pattern, true),
        () => translate(pattern, false),
    };
    if args.has('w') {
        source = format!(r"\b(?:{source})\b");
    }
    if args.has('x') {
        source = format!("^(?:{source})$");
    }
    let regex = RegexBuilder::new(&source)
        .unicode(false)
        .case_insensitive(args.has('i'))
        .size_limit(MAX_PATTERN_BYTES)
        .nest_limit(32)
        .build();
    match regex {
        Ok(regex) => Ok(Matcher::Regex(Box::new(regex))),
        Err(regex::Error::CompiledTooBig(_)) => Err(CmdError::usage(format!(
            "{pattern}: the pattern is too large"
        ))),
        Err(error) => {
            // The crate draws a picture of several lines; its last line says what is wrong.
            let text = error.to_string();
            let why = text.lines().last().unwrap_or("it cannot be read");
            let why = why.strip_prefix("error: ").unwrap_or(why);
            Err(CmdError::usage(format!("{pattern}: {why}")))
        }
    }
}

/// Characters that may mean something in a pattern.
const SPECIAL: [char; 14] = [
    '\\', '^', '$', '.', '*', '[', ']', '(', ')', '{', '}', '|', '+', '?',
];

/// A POSIX pattern, basic or extended, in the syntax of the `regex` crate.
fn translate(pattern: &str, extended: bool) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    // Nothing stands before that a star could repeat, and a caret is an anchor.
    let mut at_start = true;
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let was_start = core::mem::replace(&mut at_start, false);
        match c {
            '\\' => {
                let Some(escaped) = rest.chars().next() else {
                    // A lone backslash at the end: the crate says what is wrong.
                    out.push('\\');
                    break;
                };
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    '(' | ')' | '{' | '}' | '|' | '+' | '?' if !extended => {
                        out.push(escaped);
                        at_start = matches!(escaped, '(' | '|');
                    }
                    // Classes and word boundaries are the same here and there.
                    'w' | 'W' | 's' | 'S' | 'd' | 'D' | 'b' | 'B' | '<' | '>' => {
                        out.push('\\');
                        out.push(escaped);
                    }
                    _ => push_literal(&mut out, escaped),
                }
            }
            '[' => rest = bracket(&mut out, rest),
            '*' if was_start => push_literal(&mut out, c),
            '*' | '.' => out.push(c),
            '^' if extended || was_start => {
                out.push('^');
                at_start = true;
            }
            '$' if extended
                || rest.is_empty()
                || rest.starts_with("\\)")
                || rest.starts_with("\\|") =>
            {
                out.push('$')
            }
            '(' | '|' if extended => {
                out.push(c);
                at_start = true;
            }
            ')' | '{' | '}' | '+' | '?' if extended => out.push(c),
            _ => push_literal(&mut out, c),
        }
    }
    out
}

/// A bracket expression, after its `[`; what follows it. In POSIX, a backslash in it is a backslash.
fn bracket<'p>(out: &mut String, pattern: &'p str) -> &'p str {
    out.push('[');
    let mut rest = pattern;
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        if c == '['
            && rest.starts_with("[:")
            && let Some(end) = rest.find(":]")
        {
            out.push_str(&rest[..end + 2]);
            rest = &rest[end + 2..];
        } else {
            rest = &rest[c.len_utf8()..];
            match c {
                ']' if !first => {
                    out.push(']');
                    return rest;
                }
                // What the crate would take for an operation on sets.
                ']' | '[' | '\\' | '&' | '~' | '^' => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        first = false;
    }
    rest
}

fn push_literal(out: &mut String, c: char) {
    let mut utf8 = [0; 4];
    out.push_str(&regex::escape(c.encode_utf8(&mut utf8)));
}

impl Grep {
    /// A whole line, without its newline.
    fn line(&mut self, line: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        let number = self.line_number;
        self.line_number += 1;
        if self.matcher.matches(line) == self.invert {
            return Ok(());
        }
        self.selected += 1;
        self.any = true;
        if self.quiet {
            return Err(Stop::Enough);
        }
        if self.count {
            return Ok(());
        }
        if line.contains(&0) {
            self.binary = true;
            return Err(Stop::Enough);
        }
        match &self.matcher {
            Matcher::Regex(regex) if self.only => {
                for part in regex.find_iter(line).filter(|part| !part.is_empty()) {
                    self.selected_line(number, part.as_bytes(), out)?;
                }
                Ok(())
            }
            _ => self.selected_line(number, line, out),
        }
    }

    fn selected_line(&self, number: u64, line: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        let mut text = Vec::with_capacity(line.len() + 32);
        self.prefix(&mut text);
        if self.number {
            text.extend_from_slice(format!("{number}:").as_bytes());
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        out.write(&text)
    }

    fn prefix(&self, text: &mut Vec<u8>) {
        if self.names {
            text.extend_from_slice(self.input_name().as_bytes());
            text.push(b':');
        }
    }

    fn input_name(&self) -> &str {
        self.name.as_deref().unwrap_or("(standard input)")
    }
}

impl Filter for Grep {
    fn begin(&mut self, name: Option<&str>, _out: &mut dyn Sink) -> Result<(), Stop> {
        self.name = name.map(String::from);
        self.line_number = 1;
        self.selected = 0;
        self.binary = false;
        self.pending.clear();
        if self.quiet && self.any {
            return Err(Stop::Enough);
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if complete && self.pending.is_empty() {
                self.line(text, out)?;
                continue;
            }
            for part in text.chunks(MAX_GREP_LINE_BYTES) {
                if self.pending.len() + part.len() > MAX_GREP_LINE_BYTES {
                    let line = core::mem::take(&mut self.pending);
                    self.line(&line, out)?;
                }
                self.pending.extend_from_slice(part);
            }
            if complete {
                let mut line = core::mem::take(&mut self.pending);
                let result = self.line(&line, out);
                // The memory serves the next line.
                line.clear();
                self.pending = line;
                result?;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Stop> {
        if !self.pending.is_empty() && !self.binary {
            let line = core::mem::take(&mut self.pending);
            // Enough: of this input, which has ended anyway.
            match self.line(&line, out) {
                Ok(()) | Err(Stop::Enough) => {}
                Err(stop) => return Err(stop),
            }
        }
        if self.quiet {
            return Ok(());
        }
        if self.count {
            let mut text = Vec::new();
            self.prefix(&mut text);
            text.extend_from_slice(format!("{}\n", self.selected).as_bytes());
            return out.write(&text);
        }
        if self.binary {
            let name = self.input_name();
            return print(out, format_args!("grep: {name}: binary file matches\n"));
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Sink) -> Result<(), CmdError> {
        if self.any {
            Ok(())
        } else {
            Err(CmdError::Quiet(STATUS_FAILED))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_and_extended_patterns() {
        for (basic, extended, line, hit) in [
            ("a.c", "a.c", "xabcx", true),
            ("^abc$", "^abc$", "abc", true),
            ("^abc$", "^abc$", "abcd", false),
            ("ab*c", "ab*c", "ac", true),
            ("*x", r"\*x", "a*x", true),
            ("a+b", r"a\+b", "a+b", true),
            (r"a\+b", "a+b", "aab", true),
            (r"\(ab\)\{2\}", "(ab){2}", "abab", true),
            (r"a\|b", "a|b", "b", true),
            ("a^b", r"a\^b", "a^b", true),
            ("a$b", r"a\$b", "a$b", true),
            ("[]x]y", "[]x]y", "]y", true),
            (r"[\.]", r"[\.]", r"\", true),
            ("[^[:digit:]]", "[^[:digit:]]", "12", false),
            ("[a&&b]", "[a&&b]", "a", true),
            (r"\<irq\>", r"\<irq\>", "an irq here", true),
            (r"\<irq\>", r"\<irq\>", "irqs", false),
            ("f(x)", r"f\(x\)", "f(x)", true),
            ("{x}", r"\{x\}", "{x}", true),
        ] {
            for (pattern, is_extended) in [(basic, false), (extended, true)] {
                let args = Args {
                    options: if is_extended {
                        [('E', "")].into()
                    } else {
                        [].into()
                    },
                    operands: [].into(),
                };
                let matcher = matcher(pattern, &args).unwrap();
                assert_eq!(
                    matcher.matches(line.as_bytes()),
                    hit,
                    "{pattern} {is_extended} on {line}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_one_line() {
        for (pattern, extended) in [
            ("a[b", false),
            (r"\(a", false),
            ("(a", true),
            (r"a\", false),
            ("a{9999999}", true),
            ("(((a{1000}){1000}){1000})", true),
        ] {
            let args = Args {
                options: if extended {
                    [('E', "")].into()
                } else {
                    [].into()
                },
                operands: [].into(),
            };
            match matcher(pattern, &args) {
                Err(CmdError::Usage(text)) => assert!(
                    !text.contains('\n') && text.len() > pattern.len() + 4,
                    "{text}"
                ),
                _ => panic!("{pattern} was accepted"),
            }
        }
    }
}
