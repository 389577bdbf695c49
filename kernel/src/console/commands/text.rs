//! Commands that pass text on, or count it: `cat`, `head`, `tail`, `wc`.

use super::super::shell::{CmdError, Command, Ctx, Filter, Started};
use super::super::vfs::{Sink, Stop, print};
use super::args::{Args, count};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Lines that `head` and `tail` print by themselves.
const DEFAULT_LINES: u64 = 10;
/// Most bytes that `tail` keeps.
pub const MAX_TAIL_BYTES: usize = 1 << 20;
/// `tail` takes its input in pieces of this size, so that it never holds much more than it keeps.
const TAIL_PIECE_BYTES: usize = 4096;

/// `cat`.
pub const CAT: Command = Command::filter(
    "cat",
    "cat [FILE...]",
    "print files, one after the other, byte for byte",
    "",
    |_, args| {
        let args = Args::read(args, "", "")?;
        Ok(Started {
            filter: Box::new(Cat),
            files: owned(&args.operands),
        })
    },
);

/// `head`.
pub const HEAD: Command = Command::filter(
    "head",
    "head [-n LINES | -LINES | -c BYTES] [FILE...]",
    "print the start of files: 10 lines, or what is asked for",
    "K, M, G may follow a number.",
    head,
);

/// `tail`.
pub const TAIL: Command = Command::filter(
    "tail",
    "tail [-n LINES | -LINES | -c BYTES] [FILE...]",
    "print the end of files: 10 lines, or what is asked for",
    "With a + before the number: from that line or byte on. K, M, G may follow a number.\n\
     At most 1 MiB is kept; where that is less than asked for, it says so.",
    tail,
);

/// `wc`.
pub const WC: Command = Command::filter(
    "wc",
    "wc [-l] [-w] [-c] [FILE...]",
    "count lines, words and bytes",
    "-l  lines\n-w  words\n-c  bytes",
    wc,
);

fn owned(operands: &[&str]) -> Vec<String> {
    operands.iter().map(|operand| operand.to_string()).collect()
}

struct Cat;

impl Filter for Cat {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        out.write(bytes)
    }
}

/// What `head` and `tail` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Lines,
    Bytes,
}

/// The last of `-n`, `-N` and `-c`.
fn amount<'a>(args: &Args<'a>) -> (Unit, Option<&'a str>) {
    match args.options.last() {
        Some(('c', value)) => (Unit::Bytes, Some(*value)),
        Some((_, value)) => (Unit::Lines, Some(*value)),
        None => (Unit::Lines, None),
    }
}

/// The line between files, as `head` and `tail` print it where there is more than one.
struct Titles {
    wanted: bool,
    first: bool,
}

impl Titles {
    fn new(files: &[&str]) -> Self {
        Self {
            wanted: files.len() > 1,
            first: true,
        }
    }

    fn print(&mut self, name: Option<&str>, out: &mut dyn Sink) -> Result<(), Stop> {
        if !self.wanted {
            return Ok(());
        }
        let blank = if self.first { "" } else { "\n" };
        self.first = false;
        let name = name.unwrap_or("standard input");
        print(out, format_args!("{blank}==> {name} <==\n"))
    }
}

struct Head {
    unit: Unit,
    amount: u64,
    left: u64,
    titles: Titles,
}

fn head(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "", "nc#")?;
    let (unit, value) = amount(&args);
    let amount = value.map_or(Ok(DEFAULT_LINES), count)?;
    Ok(Started {
        filter: Box::new(Head {
            unit,
            amount,
            left: amount,
            titles: Titles::new(&args.operands),
        }),
        files: owned(&args.operands),
    })
}

impl Filter for Head {
    fn begin(&mut self, name: Option<&str>, out: &mut dyn Sink) -> Result<(), Stop> {
        self.left = self.amount;
        self.titles.print(name, out)?;
        if self.left == 0 {
            return Err(Stop::Enough);
        }
        Ok(())
    }

    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        let mut taken = 0;
        match self.unit {
            Unit::Bytes => {
                taken = self.left.min(bytes.len() as u64) as usize;
                self.left -= taken as u64;
            }
            Unit::Lines => {
                for line in bytes.split_inclusive(|b| *b == b'\n') {
                    if self.left == 0 {
                        break;
                    }
                    taken += line.len();
                    self.left -= u64::from(line.ends_with(b"\n"));
                }
            }
        }
        if taken > 0 {
            out.write(&bytes[..taken])?;
        }
        // Said with the last line, not at the one after it: what comes before need not make another.
        if self.left == 0 {
            return Err(Stop::Enough);
        }
        Ok(())
    }
}

struct Tail {
    unit: Unit,
    /// With `+`: what comes before that line or byte is left out. Otherwise: how much is kept.
    from_start: bool,
    amount: u64,
    /// With `+`: what is still to be left out.
    skip: u64,
    kept: VecDeque<u8>,
    newlines: u64,
    /// More was asked for than may be kept.
    cut: bool,
    titles: Titles,
}

fn tail(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "", "nc#")?;
    let (unit, value) = amount(&args);
    let from_start = value.is_some_and(|v| v.starts_with('+'));
    let amount = match value {
        None => DEFAULT_LINES,
        Some(value) => count(value.strip_prefix('+').unwrap_or(value))?,
    };
    Ok(Started {
        filter: Box::new(Tail {
            unit,
            from_start,
            amount,
            skip: 0,
            kept: VecDeque::new(),
            newlines: 0,
            cut: false,
            titles: Titles::new(&args.operands),
        }),
        files: owned(&args.operands),
    })
}

impl Tail {
    /// Takes in a piece, and drops what is no longer among the last.
    fn keep(&mut self, piece: &[u8]) {
        if self.kept.try_reserve(piece.len()).is_err() {
            // No memory for more: the oldest half makes room, and the reader is told that it is not all there.
            self.cut = true;
            self.drop_bytes(self.kept.len() / 2);
            if self.kept.capacity() - self.kept.len() < piece.len() {
                return;
            }
        }
        self.kept.extend(piece);
        self.newlines += newlines(piece);
        match self.unit {
            Unit::Bytes => {
                let extra = (self.kept.len() as u64).saturating_sub(self.amount);
                self.drop_bytes(extra as usize);
            }
            Unit::Lines => {
                // A last line without a newline is one too.
                let open = u64::from(self.kept.back().is_some_and(|b| *b != b'\n'));
                while self.newlines + open > self.amount && self.newlines > 0 {
                    let end = self.kept.iter().position(|b| *b == b'\n');
                    self.drop_bytes(end.map_or(self.kept.len(), |end| end + 1));
                }
                if self.amount == 0 {
                    self.drop_bytes(self.kept.len());
                }
            }
        }
        if self.kept.len() > MAX_TAIL_BYTES {
            self.drop_bytes(self.kept.len() - MAX_TAIL_BYTES);
            self.cut = true;
        }
    }

    fn drop_bytes(&mut self, count: usize) {
        let dropped = self.kept.drain(..count);
        self.newlines -= dropped.filter(|b| *b == b'\n').count() as u64;
    }

    /// With `+`: what of a piece is printed.
    fn after_skipped<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.unit == Unit::Bytes {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            return &bytes[skipped as usize..];
        }
        let mut rest = bytes;
        while self.skip > 0 {
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                return &[];
            };
            rest = &rest[end + 1..];
            self.skip -= 1;
        }
        rest
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

impl Filter for Tail {
    fn begin(&mut self, name: Option<&str>, out: &mut dyn Sink) -> Result<(), Stop> {
        self.skip = self.amount.saturating_sub(1);
        self.kept.clear();
        self.newlines = 0;
        self.titles.print(name, out)
    }

    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        if self.from_start {
            let rest = self.after_skipped(bytes);
            return if rest.is_empty() {
                Ok(())
            } else {
                out.write(rest)
            };
        }
        for piece in bytes.chunks(TAIL_PIECE_BYTES) {
            self.keep(piece);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Stop> {
        let (first, second) = self.kept.as_slices();
        for part in [first, second] {
            if !part.is_empty() {
                out.write(part)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut dyn Sink) -> Result<(), CmdError> {
        if self.cut {
            return Err(CmdError::failed(format!(
                "only the last {MAX_TAIL_BYTES} bytes are kept: they are less than was asked for"
            )));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    lines: u64,
    words: u64,
    bytes: u64,
}

struct Wc {
    lines: bool,
    words: bool,
    bytes: bool,
    now: Counts,
    in_word: bool,
    name: Option<String>,
    total: Counts,
    inputs: usize,
}

fn wc(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "lwc", "")?;
    let all = args.options.is_empty();
    Ok(Started {
        filter: Box::new(Wc {
            lines: all || args.has('l'),
            words: all || args.has('w'),
            bytes: all || args.has('c'),
            now: Counts::default(),
            in_word: false,
            name: None,
            total: Counts::default(),
            inputs: 0,
        }),
        files: owned(&args.operands),
    })
}

impl Wc {
    fn print(&self, counts: Counts, name: &str, out: &mut dyn Sink) -> Result<(), Stop> {
        let columns = [
            (self.lines, counts.lines),
            (self.words, counts.words),
            (self.bytes, counts.bytes),
        ];
        let shown = columns.iter().filter(|(wanted, _)| *wanted);
        // One number by itself stands at the start of the line, where scripts want it.
        let width = if shown.clone().count() == 1 { 0 } else { 7 };
        let mut text = String::new();
        for (index, (_, count)) in shown.enumerate() {
            let blank = if index == 0 { "" } else { " " };
            text.push_str(&format!("{blank}{count:width$}"));
        }
        if !name.is_empty() {
            text.push(' ');
            text.push_str(name);
        }
        text.push('\n');
        out.write(text.as_bytes())
    }
}

impl Filter for Wc {
    fn begin(&mut self, name: Option<&str>, _out: &mut dyn Sink) -> Result<(), Stop> {
        self.name = name.map(String::from);
        self.now = Counts::default();
        self.in_word = false;
        Ok(())
    }

    fn push(&mut self, bytes: &[u8], _out: &mut dyn Sink) -> Result<(), Stop> {
        self.now.bytes += bytes.len() as u64;
        for byte in bytes {
            // With the vertical tab, which Rust's idea of white space leaves out.
            let blank = byte.is_ascii_whitespace() || *byte == 0x0b;
            self.now.lines += u64::from(*byte == b'\n');
            if blank {
                self.in_word = false;
            } else if !byte.is_ascii_control() && !self.in_word {
                // What cannot be printed makes no word, as on Linux.
                self.now.words += 1;
                self.in_word = true;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Stop> {
        self.inputs += 1;
        self.total.lines += self.now.lines;
        self.total.words += self.now.words;
        self.total.bytes += self.now.bytes;
        self.print(self.now, self.name.as_deref().unwrap_or(""), out)
    }

    fn finish(&mut self, out: &mut dyn Sink) -> Result<(), CmdError> {
        if self.inputs > 1 {
            self.print(self.total, "total", out)?;
        }
        Ok(())
    }
}
