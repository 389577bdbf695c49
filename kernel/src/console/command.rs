//! What a command is, and what it sees: for those who write one. [`super::shell`] runs them.

use super::history::History;
use super::vfs::{self, FsError, Mounts, Sink, Stop};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

/// Status of a command that did what it was told.
pub const STATUS_GOOD: i32 = 0;
/// Status of a command that failed.
pub const STATUS_FAILED: i32 = 1;
/// Status of a command that was used in a wrong way, and of a line that could not be read.
pub const STATUS_USAGE: i32 = 2;
/// Status of a name that is no command.
pub const STATUS_UNKNOWN: i32 = 127;
/// Status after ctrl-c: 128 + SIGINT, as in every shell.
pub const STATUS_INTERRUPTED: i32 = 130;

/// What the machine gives to the console.
pub trait Env {
    /// Prints to the console, bytes as they are. A terminal needs CR LF for the LF in them: the machine adds the CR.
    fn print(&self, bytes: &[u8]);

    /// True from a ctrl-c typed while a line runs until the line has ended. Polled at each write of
    /// each command, so it must be cheap.
    fn interrupted(&self) -> bool;

    /// A line was typed, and is the newest of the history: note it, for the next kernel.
    fn on_typed(&self, line: &str) {
        let _ = line;
    }

    /// A line that is not blank is about to run: record the event.
    fn on_command(&self, line: &str);
}

/// Why a command ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdError {
    /// It could not do what it was told. "what: why", without the command's name, full stop or newline; status 1.
    Failed(Cow<'static, str>),
    /// Its arguments are wrong: what about them, in the same form; the shell adds the usage. Status 2.
    Usage(Cow<'static, str>),
    /// A status without a message (`false`, `grep` without a match).
    Quiet(i32),
    /// The sink took no more. No failure of the command.
    Stopped(Stop),
}

impl CmdError {
    /// Failed, with "what: why".
    pub fn failed(text: impl Into<Cow<'static, str>>) -> Self {
        CmdError::Failed(text.into())
    }

    /// Used in a wrong way, with what is wrong about the arguments.
    pub fn usage(text: impl Into<Cow<'static, str>>) -> Self {
        CmdError::Usage(text.into())
    }

    /// An operation on the file `path` failed; a stop of the sink stays one.
    pub fn file(path: &str, error: impl Into<FsError>) -> Self {
        match error.into() {
            FsError::Stopped(stop) => CmdError::Stopped(stop),
            error => CmdError::Failed(format!("{path}: {error}").into()),
        }
    }
}

impl From<Stop> for CmdError {
    fn from(stop: Stop) -> Self {
        CmdError::Stopped(stop)
    }
}

/// A command that runs to its end and takes no input from a pipe.
pub type RunFn = fn(&mut Ctx<'_>, &[&str], &mut dyn Sink) -> Result<(), CmdError>;
/// Reads the arguments of a filter.
pub type StartFn = fn(&mut Ctx<'_>, &[&str]) -> Result<Started, CmdError>;

/// What a command does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Runs to its end.
    Run(RunFn),
    /// Reads its input piece by piece: the files named, or the command before it.
    Filter(StartFn),
}

/// A filter and the files that it reads; none: the command before it in the pipeline. `-` stands for that too.
pub struct Started {
    /// What is done with the bytes.
    pub filter: Box<dyn Filter>,
    /// Paths as typed.
    pub files: Vec<String>,
}

/// The working part of a command that reads. For each input: `begin`, `push` for each piece, `end`; after all of them
/// `finish`, also where the filter stopped early (but not after ctrl-c).
pub trait Filter {
    /// An input starts. `name` is the path as typed, or `None` for the command before in the pipeline.
    fn begin(&mut self, name: Option<&str>, out: &mut dyn Sink) -> Result<(), Stop> {
        let _ = (name, out);
        Ok(())
    }

    /// A piece of input. Pieces have no meaning of their own: lines may be split anywhere.
    fn push(&mut self, bytes: &[u8], out: &mut dyn Sink) -> Result<(), Stop>;

    /// An input ended.
    fn end(&mut self, out: &mut dyn Sink) -> Result<(), Stop> {
        let _ = out;
        Ok(())
    }

    /// All inputs ended.
    fn finish(&mut self, out: &mut dyn Sink) -> Result<(), CmdError> {
        let _ = out;
        Ok(())
    }
}

/// What the tab key completes in a command's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    /// Nothing.
    Nothing,
    /// Paths.
    Paths,
    /// Names of commands.
    Commands,
}

/// A command of the console.
#[derive(Clone, Copy)]
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// The whole synopsis: `head [-n N | -c N] [FILE...]`.
    pub usage: &'static str,
    /// What it does, in a few words, for the list that `help` prints.
    pub summary: &'static str,
    /// More, for `help NAME`; may be empty. Lines end in a newline except the last.
    pub help: &'static str,
    /// What the tab key completes in its arguments.
    pub complete: Complete,
    /// What it does.
    pub action: Action,
    /// It can be followed by `&`: it looks at [`Ctx::background`], starts what it does and comes back.
    pub background: bool,
}

impl Command {
    /// A command that runs to its end; its arguments complete as paths.
    pub const fn new(
        name: &'static str,
        usage: &'static str,
        summary: &'static str,
        help: &'static str,
        run: RunFn,
    ) -> Self {
        Self {
            name,
            usage,
            summary,
            help,
            complete: Complete::Paths,
            action: Action::Run(run),
            background: false,
        }
    }

    /// A command that reads files or a pipe; its arguments complete as paths.
    pub const fn filter(
        name: &'static str,
        usage: &'static str,
        summary: &'static str,
        help: &'static str,
        start: StartFn,
    ) -> Self {
        Self {
            name,
            usage,
            summary,
            help,
            complete: Complete::Paths,
            action: Action::Filter(start),
            background: false,
        }
    }

    /// The same, and it can be followed by `&`.
    pub const fn in_background(mut self) -> Self {
        self.background = true;
        self
    }

    /// The same with another completion.
    pub const fn completing(mut self, complete: Complete) -> Self {
        self.complete = complete;
        self
    }
}

/// Commands in groups: the machine independent ones of [`super::commands::ALL`], and the machine's.
pub type CommandSets = &'static [&'static [Command]];

/// What a command sees of the shell.
pub struct Ctx<'s> {
    /// All files.
    pub mounts: &'s Mounts<'s>,
    /// The machine.
    pub env: &'s dyn Env,
    /// All commands, in groups.
    pub commands: CommandSets,
    /// The lines typed so far.
    pub history: &'s History,
    /// Status of the line or pipeline before this one.
    pub status: i32,
    /// The directory that relative paths start at; normalised.
    pub cwd: &'s mut String,
    /// The output goes straight to the console, where people like columns.
    pub to_console: bool,
    /// It was followed by `&`: it starts what it does, and comes back.
    pub background: bool,
    pub(super) name: &'s str,
    pub(super) console: Console<'s>,
    /// It printed a message.
    pub(super) complained: bool,
}

impl Ctx<'_> {
    /// The absolute path of what was typed.
    pub fn path(&self, typed: &str) -> Result<String, FsError> {
        Ok(vfs::normalize(self.cwd, typed)?)
    }

    /// Streams a file, by the path as typed.
    pub fn read(&self, typed: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        self.mounts.read(&self.path(typed)?, out)
    }

    /// A whole file of at most `limit` bytes, by the path as typed.
    pub fn read_all(&self, typed: &str, limit: usize) -> Result<Vec<u8>, FsError> {
        self.mounts.read_all(&self.path(typed)?, limit)
    }

    /// Ctrl-c was typed: for loops that write nothing for long. End with `Err(CmdError::Stopped(Stop::Interrupted))`.
    pub fn interrupted(&self) -> bool {
        self.env.interrupted()
    }

    /// Reports a failure and goes on; the command's status will be 1. `text` is "what: why".
    pub fn complain(&mut self, text: impl fmt::Display) {
        self.complained = true;
        self.console.message(self.name, &text);
    }

    /// [`Ctx::complain`] about a file, or the reader's stop, with which a command ends.
    pub fn complain_file(&mut self, path: &str, error: FsError) -> Result<(), Stop> {
        match error {
            FsError::Stopped(stop) => Err(stop),
            error => {
                self.complain(format_args!("{path}: {error}"));
                Ok(())
            }
        }
    }

    /// The command of this name.
    pub fn command(&self, name: &str) -> Option<&'static Command> {
        find_command(self.commands, name)
    }
}

/// The command of this name.
pub(super) fn find_command(sets: CommandSets, name: &str) -> Option<&'static Command> {
    sets.iter()
        .flat_map(|set| set.iter())
        .find(|c| c.name == name)
}

/// The console as a sink, and as the place for messages.
#[derive(Clone, Copy)]
pub(super) struct Console<'s> {
    pub(super) env: &'s dyn Env,
    /// The last byte printed was a newline.
    pub(super) at_line_start: &'s Cell<bool>,
}

impl Console<'_> {
    pub(super) fn print(&self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.env.print(bytes);
            self.at_line_start.set(*last == b'\n');
        }
    }

    /// `NAME: text`, on a line of its own.
    pub(super) fn message(&self, name: &str, text: &dyn fmt::Display) {
        let fresh = if self.at_line_start.get() { "" } else { "\n" };
        self.print(format!("{fresh}{name}: {text}\n").as_bytes());
    }
}

impl Sink for Console<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.print(bytes);
        Ok(())
    }
}
