//! The guest's console, held by a person's terminal or fed from a script.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::machine::{Ended, Running};
use crate::protocol;

/// Finds prompts in a stream of output: [`protocol::PROMPT`] at the start of a line.
///
/// A line editor that draws its line again, after a carriage return, gives no new prompt.
#[derive(Debug)]
pub struct PromptWatch {
    /// How many bytes of "newline, prompt" stand at the end of what was seen.
    matched: usize,
}

impl Default for PromptWatch {
    fn default() -> Self {
        // The very start of the output is the start of a line too.
        Self { matched: 1 }
    }
}

impl PromptWatch {
    /// Takes the output's next bytes; returns how many prompts ended in them.
    pub fn feed(&mut self, bytes: &[u8]) -> u64 {
        let prompt = protocol::PROMPT.as_bytes();
        let mut found = 0;
        for &byte in bytes {
            self.matched = if self.matched > 0 && byte == prompt[self.matched - 1] {
                self.matched + 1
            } else if byte == b'\n' {
                1
            } else {
                0
            };
            if self.matched == prompt.len() + 1 {
                found += 1;
                self.matched = 0;
            }
        }
        found
    }
}

/// What the reader of the output tells the writer of the input: how many prompts there were.
#[derive(Default)]
struct Seen {
    prompts: Mutex<u64>,
    changed: Condvar,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // A thread that panicked left a plain counter behind, which is good.
        self.prompts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self, prompts: u64) {
        *self.lock() += prompts;
        self.changed.notify_all();
    }

    /// Waits for a prompt after the first `known` ones, and returns how many there are then. It takes as long as it takes:
    /// firmware, a replaced kernel, or a command that is at work would eat what comes earlier.
    fn wait_for_prompt(&self, known: u64) -> u64 {
        *self
            .changed
            .wait_while(self.lock(), |prompts| *prompts <= known)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feeds the guest's console from the standard input, which is not a terminal, and copies its output to
/// the standard output, until QEMU ends.
///
/// Each line is held back until the guest asks for it with a prompt, since firmware, a kernel that is
/// being replaced, and a machine that starts again would lose it. Within a line all bytes go as they
/// come; the input's end is the end of its last line. So a line's command has no input of its own, and is told so
/// ([`protocol::END_OF_INPUT`]): one that waits for keys ends, and does not keep the next line waiting for good. When that line's prompt is there, nobody can say anything more to
/// the machine, and it ends, too.
pub fn feed_script(mut running: Running) -> Result<Ended> {
    let signals = Ending::watch(&running)?;
    let mut to_guest = running
        .take_input()
        .context("the console has no input pipe")?;
    let mut from_guest = running
        .take_output()
        .context("the console has no output pipe")?;
    let seen = Arc::new(Seen::default());

    let feeder_seen = Arc::clone(&seen);
    let pid = Pid::from_raw(running.pid().cast_signed()).context("QEMU has no process id")?;
    // Not joined: it may be waiting for input that never comes.
    thread::spawn(
        move || match feed(&mut io::stdin().lock(), &mut to_guest, &feeder_seen) {
            Ok(prompts) => {
                feeder_seen.wait_for_prompt(prompts);
                eprintln!("boot: the input has ended, and with it the machine");
                // QEMU ends with status 0. It may have ended by itself in this moment.
                let _ = kill_process(pid, Signal::TERM);
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => eprintln!("boot: the input for the console was lost: {error}"),
        },
    );

    let copied = copy_output(&mut from_guest, &mut io::stdout().lock(), &seen);
    if let Err(error) = copied {
        running.kill();
        return Err(error).context("the console's output could not be written");
    }
    let ended = running.wait()?;
    signals.ended(ended)
}

fn copy_output(from: &mut impl Read, to: &mut impl Write, seen: &Seen) -> io::Result<()> {
    let mut watch = PromptWatch::default();
    let mut buffer = [0; 4096];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        to.flush()?;
        seen.output(watch.feed(&buffer[..count]));
    }
}

/// Returns how many prompts had been there when the last line went.
fn feed(from: &mut impl Read, to: &mut impl Write, seen: &Seen) -> io::Result<u64> {
    let mut buffer = [0; 4096];
    let mut prompts = 0;
    let mut inside_line = false;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => {
                if inside_line {
                    to.write_all(&[b'\n', protocol::END_OF_INPUT])?;
                    to.flush()?;
                }
                return Ok(prompts);
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for piece in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
            if !inside_line {
                prompts = seen.wait_for_prompt(prompts);
            }
            to.write_all(piece)?;
            inside_line = !piece.ends_with(b"\n");
            if !inside_line {
                to.write_all(&[protocol::END_OF_INPUT])?;
            }
            to.flush()?;
        }
    }
}

/// Waits for a machine whose console is this process's terminal, and puts the terminal back in order
/// afterwards, whatever QEMU did with it.
pub fn attach_terminal(mut running: Running) -> Result<Ended> {
    let signals = Ending::watch(&running)?;
    let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
    // Bracketed paste (xterm's mode 2004): the terminal marks what is pasted, so that a tab in it is text.
    eprint!("\x1b[?2004h");
    let ended = running.wait();
    eprint!("\x1b[?2004l");
    if let Some(before) = before {
        // Fails only when the terminal is gone.
        let _ = rustix::termios::tcsetattr(
            rustix::stdio::stdin(),
            rustix::termios::OptionalActions::Drain,
            &before,
        );
    }
    signals.ended(ended?)
}

/// Ends QEMU when this process is told to end, so that what it owns is cleaned up.
struct Ending {
    signal: Arc<AtomicI32>,
}

impl Ending {
    fn watch(running: &Running) -> Result<Self> {
        let pid = Pid::from_raw(running.pid().cast_signed()).context("QEMU has no process id")?;
        let signal = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&signal);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        thread::spawn(move || {
            for number in signals.forever() {
                seen.store(number, Ordering::SeqCst);
                // It may have ended by itself in this moment.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        Ok(Self { signal })
    }

    fn ended(&self, ended: Ended) -> Result<Ended> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(ended),
            number => Err(anyhow!("ended by signal {number}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_found_at_line_starts_only() {
        let count = |text: &str| PromptWatch::default().feed(text.as_bytes());
        assert_eq!(count("baton# "), 1);
        assert_eq!(count("hello\r\nbaton# "), 1);
        assert_eq!(count("say baton# "), 0);
        assert_eq!(count("\nbaton# ls\rbaton# ls -l\r\nbaton# "), 2);
        assert_eq!(count("\n\nbaton# "), 1);
        assert_eq!(count("\nbaton\nbaton# "), 1);
    }

    #[test]
    fn a_prompt_may_come_in_pieces() {
        let mut watch = PromptWatch::default();
        assert_eq!(watch.feed(b"x\r\nbat"), 0);
        assert_eq!(watch.feed(b"on#"), 0);
        assert_eq!(watch.feed(b" "), 1);
        assert_eq!(watch.feed(b" "), 0);
    }

    #[test]
    fn each_line_waits_for_its_prompt_and_no_byte_is_changed() {
        let seen = Arc::new(Seen::default());
        let (mut reader, writer) = io::pipe().unwrap();
        let script = b"first\r\n\x00\xff\x1b[A binary\nrest".to_vec();
        let feeder_seen = Arc::clone(&seen);
        let feeder = thread::spawn(move || {
            let mut writer = writer;
            feed(&mut script.as_slice(), &mut writer, &feeder_seen).unwrap();
        });
        let mut got = Vec::new();
        for expected in [
            &b"first\r\n\x1c"[..],
            b"\x00\xff\x1b[A binary\n\x1c",
            b"rest\n\x1c",
        ] {
            // Nothing can have come before its prompt.
            seen.output(1);
            let mut piece = vec![0; expected.len()];
            reader.read_exact(&mut piece).unwrap();
            assert_eq!(piece, expected);
            got.extend(piece);
        }
        feeder.join().unwrap();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
