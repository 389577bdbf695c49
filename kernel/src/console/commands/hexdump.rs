//! `hexdump`, whose output is byte for byte that of util-linux's `hexdump -C`.

use super::super::shell::{CmdError, Command, Ctx, Filter, Started};
use super::super::vfs::{Sink, Stop};
use super::args::{Args, count};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt::Write as _;

/// Bytes shown in one line.
const ROW_BYTES: usize = 16;
/// Text is passed on in pieces of about this size.
const PIECE_BYTES: usize = 2048;

/// `hexdump`.
pub const HEXDUMP: Command = Command::filter(
    "hexdump",
    "hexdump [-C] [-v] [-s SKIP] [-n LENGTH] [FILE...]",
    "print bytes in hexadecimal and ASCII",
    "-C  the form it always has here\n\
     -v  equal lines in full, instead of a `*`\n\
     -s  leave out so many bytes at the start; K, M, G may follow the number\n\
     -n  so many bytes at most",
    start,
);

struct Hexdump {
    squeeze: bool,
    skip: u64,
    left: u64,
    /// Of the first byte in `row`.
    offset: u64,
    row: [u8; ROW_BYTES],
    filled: usize,
    /// The last full row, if it may be repeated by a `*`.
    last: Option<[u8; ROW_BYTES]>,
    starred: bool,
    text: String,
}

fn start(_ctx: &mut Ctx<'_>, args: &[&str]) -> Result<Started, CmdError> {
    let args = Args::read(args, "Cv", "sn")?;
    let mut dump = Hexdump {
        squeeze: !args.has('v'),
        skip: 0,
        left: u64::MAX,
        offset: 0,
        row: [0; ROW_BYTES],
        filled: 0,
        last: None,
        starred: false,
        text: String::new(),
    };
    for (letter, value) in &args.options {
        match letter {
            's' => {
                dump.skip = count(value)?;
                dump.offset = dump.skip;
            }
            'n' => dump.left = count(value)?,
            _ => {}
        }
    }
    Ok(Started {
        filter: Box::new(dump),
        files: args.operands.iter().map(|f| f.to_string()).collect(),
    })
}

impl Hexdump {
    /// Prints the row, which is full or the last one.
    fn row(&mut self) {
        let bytes = &self.row[..self.filled];
        // A short last row is always printed.
        if self.squeeze && self.filled == ROW_BYTES && self.last == Some(self.row) {
            if !self.starred {
                self.text.push_str("*\n");
                self.starred = true;
            }
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "{:08x}  ", self.offset);
            for index in 0..ROW_BYTES {
                let _ = match bytes.get(index) {
                    Some(byte) => write!(self.text, "{byte:02x} "),
                    None => write!(self.text, "   "),
                };
                if index == 7 {
                    self.text.push(' ');
                }
            }
            self.text.push_str(" |");
            for byte in bytes {
                let shown = matches!(byte, 0x20..=0x7e);
                self.text.push(if shown { char::from(*byte) } else { '.' });
            }
            self.text.push_str("|\n");
            self.starred = false;
        }
        self.last = Some(self.row);
        self.offset += self.filled as u64;
        self.filled = 0;
    }

    fn flush(&mut self, out: &mut dyn Sink) -> Result<(), Stop> {
        if self.text.is_empty() {
            return Ok(());
        }
        let result = out.write(self.text.as_bytes());
        self.text.clear();
        result
    }
}

impl Filter for Hexdump {
    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let bytes = &bytes[skipped as usize..];
        let taken = self.left.min(bytes.len() as u64);
        self.left -= taken;
        for byte in &bytes[..taken as usize] {
            self.row[self.filled] = *byte;
            self.filled += 1;
            if self.filled == ROW_BYTES {
                self.row();
                if self.text.len() >= PIECE_BYTES {
                    self.flush(out)?;
                }
            }
        }
        self.flush(out)?;
        if self.left == 0 {
            return Err(Stop::Enough);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn Sink) -> Result<(), CmdError> {
        if self.filled > 0 {
            self.row();
        }
        // Nothing was dumped: nothing is printed, not even an offset.
        if self.last.is_some() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{:08x}", self.offset);
        }
        Ok(self.flush(out)?)
    }
}
