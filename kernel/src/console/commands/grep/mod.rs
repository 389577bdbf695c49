//! `grep`, with the basic and extended regular expressions that people know, on the `regex` crate.

mod context;
mod pattern;

use super::super::shell::{CmdError, Command, Ctx, Filter, STATUS_FAILED, Started};
use super::super::vfs::{Sink, Stop, print};
use super::args::Args;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use context::Context;
use pattern::{Matcher, matcher};

/// Longest line; a longer one is looked at in parts of this size.
pub const MAX_GREP_LINE_BYTES: usize = 64 * 1024;

/// `grep`.
pub const GREP: Command = Command::filter(
    "grep",
    "grep [-v] [-i] [-c] [-n] [-o] [-q] [-w] [-x] [-A NUM] [-B NUM] [-C NUM] [-E | -F] PATTERN [FILE...]",
    "print the lines that match a pattern",
    "-v  the lines that do not match\n\
     -i  upper and lower case are the same\n\
     -c  only how many there are\n\
     -n  with line numbers\n\
     -o  only the parts that match\n\
     -q  nothing: only the status\n\
     -w  only whole words\n\
     -x  only whole lines\n\
     -A  that many lines after each one, too; -B before, -C (or -NUM) both; `--` where lines are left out between\n\
     -E  an extended pattern: ( ) | + ? { } are special\n\
     -F  nothing in the pattern is special\n\
     ^ $ . * [ ] are special unless -F is given. Status 1 without a message: no line matched.",
    start,
);

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
    /// The lines around those, if they are wanted.
    context: Option<Context>,
    /// A line with a NUL matched: the rest of the input is binary too, and is not printed.
    binary: bool,
}

fn start(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "vicnoqwxEFah", "eABC#")?;
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
            context: Context::wanted(&args)?,
            binary: false,
        }),
        files: operands.iter().map(|file| file.to_string()).collect(),
    })
}

impl Grep {
    /// A whole line, without its newline.
    fn line(&mut self, line: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        let number = self.line_number;
        self.line_number += 1;
        if self.matcher.matches(line) == self.invert {
            return self.rejected(number, line, out);
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
        if let Some(context) = &mut self.context {
            let before = context.selected(number);
            if before.separated {
                out.write(b"--\n")?;
            }
            if before.forgotten > 0 && !self.only {
                let n = before.forgotten;
                let note = format_args!("grep: {n} lines before are not kept: they are too long\n");
                print(out, note)?;
            }
            for (number, line) in before.lines {
                self.context_line(number, &line, out)?;
            }
        }
        match &self.matcher {
            Matcher::Regex(regex) if self.only => {
                for part in regex.find_iter(line).filter(|part| !part.is_empty()) {
                    self.print_line(number, b':', part.as_bytes(), out)?;
                }
                Ok(())
            }
            _ => self.print_line(number, b':', line, out),
        }
    }

    /// A line that is not asked for; it may stand near one that is.
    fn rejected(&mut self, number: u64, line: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        if self.count || self.quiet {
            return Ok(());
        }
        let context = self.context.as_mut();
        match context.is_some_and(|context| context.rejected(number, line)) {
            true => self.context_line(number, line, out),
            false => Ok(()),
        }
    }

    fn context_line(&mut self, number: u64, line: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        if self.only {
            return Ok(());
        }
        if line.contains(&0) {
            self.binary = true;
            return Err(Stop::Enough);
        }
        self.print_line(number, b'-', line, out)
    }

    /// `mark` stands between a line and what is before it.
    fn print_line(
        &self,
        number: u64,
        mark: u8,
        line: &[u8],
        out: &mut dyn Sink,
    ) -> Result<(), Stop> {
        let mut text = Vec::with_capacity(line.len() + 32);
        self.prefix(mark, &mut text);
        if self.number {
            text.extend_from_slice(format!("{number}").as_bytes());
            text.push(mark);
        }
        text.extend_from_slice(line);
        text.push(b'\n');
        out.write(&text)
    }

    fn prefix(&self, mark: u8, text: &mut Vec<u8>) {
        if self.names {
            text.extend_from_slice(self.input_name().as_bytes());
            text.push(mark);
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
        if let Some(context) = &mut self.context {
            context.begin();
        }
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
            self.prefix(b':', &mut text);
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
