//! Patterns: from the syntax of POSIX to that of the `regex` crate.

use super::super::super::shell::CmdError;
use super::super::args::Args;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use regex::bytes::{Regex, RegexBuilder};

/// Most memory that a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// How a line is matched.
pub(super) enum Matcher {
    /// It contains these bytes.
    Contains(Vec<u8>),
    Regex(Box<Regex>),
}

impl Matcher {
    /// Whether `line`, without its newline, is matched.
    pub(super) fn matches(&self, line: &[u8]) -> bool {
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

/// How `pattern` is to be matched with these options.
pub(super) fn matcher(pattern: &str, args: &Args<'_>) -> Result<Matcher, CmdError> {
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
