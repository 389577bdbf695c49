//! Commands that touch no file: `echo`, `true`, `false`, `status`, `history`, `clear`.

use super::super::shell::{CmdError, Command, Complete, Ctx, STATUS_FAILED};
use super::super::vfs::{FmtSink, Sink, print};
use alloc::vec::Vec;
use core::fmt::Write as _;

/// `echo`.
pub const ECHO: Command = Command::new(
    "echo",
    "echo [-n] [-e] [ARG...]",
    "print the arguments",
    "-n  without a newline at the end\n\
     -e  with \\n, \\t, \\\\, \\e, \\r, \\0NNN, \\xHH and the like put in; \\c ends the output\n\
     The output is one write, so `echo TEXT > trace_marker` is one marker.",
    echo,
);

/// `true`.
pub const TRUE: Command =
    Command::new("true", "true", "succeed", "", |_, _, _| Ok(())).completing(Complete::Nothing);

/// `false`.
pub const FALSE: Command = Command::new("false", "false", "fail", "", |_, _, _| {
    Err(CmdError::Quiet(STATUS_FAILED))
})
.completing(Complete::Nothing);

/// `status`.
pub const STATUS: Command = Command::new(
    "status",
    "status",
    "print the status of the command before",
    "0 good, 1 failed, 2 used in a wrong way, 127 no such command, 130 ended by ctrl-c.\n\
     `$?` in a line stands for the same number.",
    |ctx, _, out| Ok(print(out, format_args!("{}\n", ctx.status))?),
)
.completing(Complete::Nothing);

/// `history`.
pub const HISTORY: Command =
    Command::new("history", "history", "the lines typed so far", "", history)
        .completing(Complete::Nothing);

/// `clear`.
pub const CLEAR: Command = Command::new("clear", "clear", "clear the screen", "", |_, _, out| {
    Ok(out.write(b"\x1b[H\x1b[2J")?)
})
.completing(Complete::Nothing);

fn history(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    if !args.is_empty() {
        return Err(CmdError::usage("it takes no arguments"));
    }
    let mut text = FmtSink::new(out);
    for (number, line) in ctx.history.numbered() {
        if writeln!(text, "{number:5}  {line}").is_err() {
            break;
        }
    }
    Ok(text.finish()?)
}

fn echo(_ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let mut newline = true;
    let mut escapes = false;
    let mut words = args;
    // As everywhere, the first word that is no option, and all after it, are printed.
    while let [first, rest @ ..] = words {
        match first.strip_prefix('-') {
            Some(letters)
                if !letters.is_empty() && letters.bytes().all(|b| b"neE".contains(&b)) =>
            {
                for letter in letters.bytes() {
                    match letter {
                        b'n' => newline = false,
                        letter => escapes = letter == b'e',
                    }
                }
                words = rest;
            }
            _ => break,
        }
    }
    let text = words.join(" ");
    let mut bytes = if escapes {
        let (bytes, cut) = unescape(&text);
        newline &= !cut;
        bytes
    } else {
        text.into_bytes()
    };
    if newline {
        bytes.push(b'\n');
    }
    // `echo -n > FILE` is a file opened and not written.
    if bytes.is_empty() {
        return Ok(());
    }
    Ok(out.write(&bytes)?)
}

/// What `-e` makes of the text; true: a `\c` cut it off.
fn unescape(text: &str) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let Some((letter, tail)) = rest.split_first() else {
            bytes.push(b'\\');
            break;
        };
        rest = tail;
        let simple = match letter {
            b'a' => 0x07,
            b'b' => 0x08,
            b'c' => return (bytes, true),
            b'e' => 0x1b,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'\\' => b'\\',
            b'0' => digits(&mut rest, 8, 3).unwrap_or(0),
            b'x' => match digits(&mut rest, 16, 2) {
                Some(byte) => byte,
                None => {
                    bytes.extend_from_slice(b"\\x");
                    continue;
                }
            },
            other => {
                bytes.extend_from_slice(&[b'\\', *other]);
                continue;
            }
        };
        bytes.push(simple);
    }
    (bytes, false)
}

/// Takes at most `most` digits off `rest`; the low byte of the number.
fn digits(rest: &mut &[u8], radix: u32, most: usize) -> Option<u8> {
    let mut value: Option<u32> = None;
    for _ in 0..most {
        let Some(digit) = rest.first().and_then(|b| char::from(*b).to_digit(radix)) else {
            break;
        };
        value = Some(value.unwrap_or(0) * radix + digit);
        *rest = &rest[1..];
    }
    value.map(|v| v as u8)
}
