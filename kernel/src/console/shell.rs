//! Runs a line: looks the commands up, joins them into pipelines, opens the redirects, keeps the status.
//!
//! A pipeline is pushed, not pulled, and has no threads: its first command runs to its end and writes into a
//! chain of [`Filter`]s, each of which keeps only what it needs (`head` a count, `tail` the last lines). A
//! filter that has had enough says [`Stop::Enough`], which ends everything before it early.
//!
//! The status of a pipeline is that of its last command, unless an earlier one failed with a message: then it is that
//! one's (the last such). `grep` that finds nothing prints no message, so `grep x | wc -l` is good. Statuses: 0 good,
//! 1 failed, 2 used in a wrong way, 127 no such command, 130 ended by ctrl-c.
//!
//! Nothing of a pipeline runs before all of it is known to be runnable: every name found, every
//! argument of a filter read, every redirect opened.

pub use super::command::*;

use super::command::{Console, find_command};
use super::history::History;
use super::parse::{self, Line, Pipeline, Stage, When};
use super::pipeline::{Nobody, Polled, Ready, Rest, ToFile, ToFileSink, Work};
use super::vfs::{self, FsError, Mounts, Sink, Stop, WriteMode};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

/// Who speaks where it is no command's.
const SHELL: &str = "baton";

/// Runs lines and keeps what lasts between them.
pub struct Shell<'a> {
    mounts: Mounts<'a>,
    commands: CommandSets,
    env: &'a dyn Env,
    cwd: String,
    status: i32,
    /// The lines typed so far; the caller adds to it.
    pub history: History,
    /// The last byte printed to the console was a newline.
    at_line_start: Cell<bool>,
}

impl<'a> Shell<'a> {
    /// A shell at `/` with status 0.
    pub fn new(mounts: Mounts<'a>, commands: CommandSets, env: &'a dyn Env) -> Self {
        Self {
            mounts,
            commands,
            env,
            cwd: "/".to_string(),
            status: STATUS_GOOD,
            history: History::new(),
            at_line_start: Cell::new(true),
        }
    }

    /// All files.
    pub fn mounts(&self) -> &Mounts<'a> {
        &self.mounts
    }

    /// All commands, in groups.
    pub fn commands(&self) -> CommandSets {
        self.commands
    }

    /// The directory that relative paths start at.
    pub fn cwd(&self) -> &str {
        &self.cwd
    }

    /// The status of the last line, as `status` prints it.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// The console's output ended in a newline, so that a prompt would stand at the start of a line.
    pub fn at_line_start(&self) -> bool {
        self.at_line_start.get()
    }

    /// The cursor stands at the start of a line: whoever printed past the shell says so.
    pub fn set_at_line_start(&self) {
        self.at_line_start.set(true);
    }

    /// Runs a line and gives its status. A blank line or a comment leaves the status as it is.
    pub fn run(&mut self, line: &str) -> i32 {
        let parsed = match parse::parse(line) {
            Ok(parsed) if parsed.pipelines.is_empty() => return self.status,
            parsed => parsed,
        };
        self.env.on_command(line);
        match parsed {
            Ok(parsed) => self.run_line(&parsed),
            Err(error) => {
                self.refuse(error);
            }
        }
        self.status
    }

    /// Says why a line is not run at all, and gives its status.
    pub fn refuse(&mut self, why: impl core::fmt::Display) -> i32 {
        self.console().message(SHELL, &why);
        self.status = STATUS_USAGE;
        self.status
    }

    /// Ctrl-c at the prompt: as if a line had been interrupted.
    pub fn interrupt(&mut self) {
        self.status = STATUS_INTERRUPTED;
    }

    fn console(&self) -> Console<'_> {
        Console {
            env: self.env,
            at_line_start: &self.at_line_start,
        }
    }

    fn run_line(&mut self, line: &Line) {
        for (when, pipeline) in &line.pipelines {
            let runs = match when {
                When::Always => true,
                When::IfGood => self.status == STATUS_GOOD,
                When::IfBad => self.status != STATUS_GOOD,
            };
            if !runs {
                continue;
            }
            self.status = self.run_pipeline(pipeline);
            if self.status == STATUS_INTERRUPTED {
                // Ctrl-c ends the whole line.
                self.console().print(b"^C\n");
                return;
            }
        }
    }

    /// A context for the command `name`, apart from what it may change.
    fn ctx<'s>(&'s self, name: &'s str, cwd: &'s mut String, to_console: bool) -> Ctx<'s> {
        Ctx {
            mounts: &self.mounts,
            env: self.env,
            commands: self.commands,
            history: &self.history,
            status: self.status,
            cwd,
            to_console,
            background: false,
            name,
            console: self.console(),
            complained: false,
        }
    }

    fn run_pipeline(&mut self, pipeline: &Pipeline) -> i32 {
        // A command may change the directory, for itself and all after it.
        let mut cwd = core::mem::take(&mut self.cwd);
        let status = match self.prepare(pipeline, &mut cwd) {
            Ok(mut stages) => self.drive(&mut stages, &mut cwd),
            Err(status) => status,
        };
        self.cwd = cwd;
        status
    }

    /// Everything that can go wrong before anything runs.
    fn prepare(&self, pipeline: &Pipeline, cwd: &mut String) -> Result<Vec<Ready>, i32> {
        let words: Vec<Vec<String>> = pipeline
            .stages
            .iter()
            .map(|stage| stage.words.iter().map(|w| w.expand(self.status)).collect())
            .collect();
        for name in words.iter().filter_map(|words| words.first()) {
            if find_command(self.commands, name).is_none() {
                self.console().message(
                    &printable(name),
                    &"unknown command; `help` lists those there are",
                );
                return Err(STATUS_UNKNOWN);
            }
        }
        let mut stages: Vec<Ready> = Vec::with_capacity(words.len());
        for (index, words) in words.into_iter().enumerate() {
            stages.push(self.start(words, index > 0, cwd)?);
        }
        if pipeline.background {
            self.check_background(pipeline, &stages)?;
            stages.iter_mut().for_each(|stage| stage.background = true);
        }
        for (stage, typed) in stages.iter_mut().zip(&pipeline.stages) {
            stage.redirect = self.open(typed, cwd)?;
        }
        Ok(stages)
    }

    /// Only what says so runs behind a `&`, and alone: pipes and redirects are the console task's.
    fn check_background(&self, pipeline: &Pipeline, stages: &[Ready]) -> Result<(), i32> {
        let alone = pipeline.stages.len() == 1 && pipeline.stages[0].redirects.is_empty();
        let stage = &stages[stages.len() - 1];
        let can = find_command(self.commands, &stage.name).is_some_and(|c| c.background);
        let why = match (can, alone) {
            (true, true) => return Ok(()),
            (true, false) => "it runs in the background without pipes and redirects only",
            (false, _) => "it cannot run in the background",
        };
        self.console().message(&stage.name, &why);
        Err(STATUS_USAGE)
    }

    /// Looks the command up, and lets a filter read its arguments.
    fn start(
        &self,
        mut words: Vec<String>,
        has_upstream: bool,
        cwd: &mut String,
    ) -> Result<Ready, i32> {
        let mut ready = Ready {
            name: SHELL.to_string(),
            args: Vec::new(),
            usage: "",
            work: Work::Nothing,
            redirect: None,
            background: false,
            done: false,
            status: STATUS_GOOD,
            reported: false,
        };
        if words.is_empty() {
            return Ok(ready);
        }
        ready.name = words.remove(0);
        ready.args = words;
        let Some(command) = find_command(self.commands, &ready.name) else {
            return Err(STATUS_UNKNOWN);
        };
        ready.usage = command.usage;
        let start = match command.action {
            // Every command but the one that prints its arguments explains itself.
            _ if ready.args == ["--help"] && ready.name != "echo" => {
                ready.args = Vec::from([core::mem::replace(&mut ready.name, "help".to_string())]);
                ready.work = Work::Run(super::commands::help::run);
                return Ok(ready);
            }
            Action::Run(run) => {
                ready.work = Work::Run(run);
                return Ok(ready);
            }
            Action::Filter(start) => start,
        };
        let args: Vec<&str> = ready.args.iter().map(String::as_str).collect();
        let mut ctx = self.ctx(&ready.name, cwd, false);
        let result = start(&mut ctx, &args);
        let complained = ctx.complained;
        let started = match result {
            Ok(started) => started,
            Err(error) => {
                let status = if complained {
                    STATUS_FAILED
                } else {
                    STATUS_GOOD
                };
                return Err(self.report(&mut ready, error).max(status));
            }
        };
        let mut before = started.files;
        let mut after = Vec::new();
        let mut upstream = before.is_empty();
        if let Some(dash) = before.iter().position(|file| file == "-") {
            after = before.split_off(dash);
            after.remove(0);
            upstream = true;
        }
        if upstream && !has_upstream {
            let error = CmdError::usage("nothing to read: name a file, or put it behind a `|`");
            return Err(self.report(&mut ready, error));
        }
        ready.work = Work::Filter {
            filter: started.filter,
            before,
            upstream,
            after,
        };
        Ok(ready)
    }

    /// Opens all redirects of a stage; the last takes the output. One that cannot be opened is the shell's to tell, as in every shell: the
    /// command has not begun.
    fn open(&self, stage: &Stage, cwd: &str) -> Result<Option<ToFile>, i32> {
        let mut last: Option<ToFile> = None;
        for redirect in &stage.redirects {
            let typed = redirect.path.expand(self.status);
            let mode = if redirect.append {
                WriteMode::Append
            } else {
                WriteMode::Truncate
            };
            let opened = vfs::normalize(cwd, &typed)
                .map_err(FsError::from)
                .and_then(|path| self.mounts.open(&path, mode).map(|()| path));
            match opened {
                Ok(path) => {
                    // Nothing will be written to the one before.
                    if let Some(mut file) = last.take() {
                        self.close(&mut file);
                    }
                    last = Some(ToFile {
                        typed,
                        path,
                        mode,
                        error: None,
                    });
                }
                Err(error) => {
                    self.console().message(SHELL, &format!("{typed}: {error}"));
                    return Err(STATUS_FAILED);
                }
            }
        }
        Ok(last)
    }

    /// Step 3 of writing (see [`vfs`]): truncates a file to which nothing was written.
    fn close(&self, file: &mut ToFile) {
        if file.mode == WriteMode::Truncate && file.error.is_none() {
            file.error = self
                .mounts
                .write(&file.path, b"", WriteMode::Truncate)
                .err();
        }
    }

    /// Runs what was prepared. The stages fall into groups: one that makes its own output, and those that read it.
    fn drive(&self, stages: &mut [Ready], cwd: &mut String) -> i32 {
        let mut interrupted = false;
        let mut start = 0;
        while start < stages.len() && !interrupted {
            let mut end = start + 1;
            while end < stages.len() && stages[end].reads_upstream() {
                end += 1;
            }
            // What comes after the group, if anything, does not read.
            let is_last = end == stages.len();
            interrupted = self.drive_group(&mut stages[start..end], is_last, cwd);
            start = end;
        }
        for stage in stages.iter_mut() {
            let Some(file) = &mut stage.redirect else {
                continue;
            };
            self.close(file);
            if let Some(error) = file.error.take()
                && !matches!(error, FsError::Stopped(_))
            {
                let text = format!("{}: {error}", file.typed);
                self.console().message(&stage.name, &text);
                stage.status = STATUS_FAILED;
                stage.reported = true;
            }
        }
        if interrupted {
            return STATUS_INTERRUPTED;
        }
        let failed = stages.iter().rev().find(|s| s.reported && s.status != 0);
        failed.or(stages.last()).map_or(STATUS_GOOD, |s| s.status)
    }

    /// Runs the first stage into the others. True: ctrl-c.
    fn drive_group(&self, stages: &mut [Ready], is_last: bool, cwd: &mut String) -> bool {
        let mut console = self.console();
        let mut nobody = Nobody;
        let last: &mut dyn Sink = if is_last { &mut console } else { &mut nobody };
        // Files that a filter reads before its upstream, from the last stage to the first: what an earlier stage
        // makes of its own is upstream to the later.
        for index in (0..stages.len()).rev() {
            if self.inputs(&mut stages[index..], last, cwd, false) {
                return true;
            }
        }
        if let Work::Run(run) = stages[0].work
            && self.run_first(run, stages, last, is_last, cwd)
        {
            return true;
        }
        for index in 0..stages.len() {
            if self.inputs(&mut stages[index..], last, cwd, true)
                || self.finish(&mut stages[index..], last)
            {
                return true;
            }
        }
        false
    }

    fn run_first(
        &self,
        run: RunFn,
        stages: &mut [Ready],
        last: &mut dyn Sink,
        is_last: bool,
        cwd: &mut String,
    ) -> bool {
        let Some((first, rest)) = stages.split_first_mut() else {
            return false;
        };
        let to_console = is_last && rest.is_empty() && first.redirect.is_none();
        let name = first.name.clone();
        let args: Vec<&str> = first.args.iter().map(String::as_str).collect();
        let mut ctx = self.ctx(&name, cwd, to_console);
        ctx.background = first.background;
        let result = match &mut first.redirect {
            Some(file) => run(
                &mut ctx,
                &args,
                &mut Polled {
                    env: self.env,
                    out: ToFileSink {
                        mounts: &self.mounts,
                        file,
                    },
                },
            ),
            None => run(
                &mut ctx,
                &args,
                &mut Rest {
                    stages: rest,
                    mounts: &self.mounts,
                    last,
                    env: self.env,
                    made: true,
                },
            ),
        };
        if ctx.complained {
            first.status = STATUS_FAILED;
            first.reported = true;
        }
        self.settle(first, result)
    }

    /// Lets the first of `stages` read its named files: those before its upstream, or (`after`) the end of the upstream
    /// and those after it. True: ctrl-c.
    fn inputs(
        &self,
        stages: &mut [Ready],
        last: &mut dyn Sink,
        cwd: &str,
        after_upstream: bool,
    ) -> bool {
        let Work::Filter {
            before,
            upstream,
            after,
            ..
        } = &mut stages[0].work
        else {
            return false;
        };
        let upstream = *upstream;
        let files = core::mem::take(if after_upstream { after } else { before });
        let mut rest = Rest {
            stages,
            mounts: &self.mounts,
            last,
            env: self.env,
            made: true,
        };
        let mut result = Ok(());
        if after_upstream && upstream {
            result = rest
                .with_first(true, |filter, out| filter.end(out))
                .unwrap_or(Ok(()));
        }
        for typed in &files {
            if matches!(result, Err(Stop::Interrupted | Stop::Failed)) {
                break;
            }
            // It may have had enough of one file and yet want the next.
            rest.stages[0].done = false;
            result = self.input(&mut rest, typed, cwd);
        }
        if !after_upstream && upstream && !matches!(result, Err(Stop::Interrupted | Stop::Failed)) {
            rest.stages[0].done = false;
            result = rest
                .with_first(true, |filter, out| filter.begin(None, out))
                .unwrap_or(Ok(()));
        }
        if result.is_err() {
            rest.stages[0].done = true;
        }
        result == Err(Stop::Interrupted)
    }

    fn input(&self, rest: &mut Rest<'_>, typed: &str, cwd: &str) -> Result<(), Stop> {
        let path = match vfs::normalize(cwd, typed).map_err(FsError::from) {
            // A file that cannot be read is not begun, as if it had not been named.
            Ok(path) => self.readable(&path).map(|()| path),
            Err(error) => Err(error),
        };
        let result = match path {
            Err(error) => Err(error),
            Ok(path) => {
                rest.with_first(true, |filter, out| filter.begin(Some(typed), out))
                    .unwrap_or(Ok(()))?;
                let read = self.mounts.read(&path, rest);
                // A filter that has had enough of this file still ends it.
                if !matches!(
                    read,
                    Err(FsError::Stopped(Stop::Interrupted | Stop::Failed))
                ) {
                    rest.with_first(true, |filter, out| filter.end(out))
                        .unwrap_or(Ok(()))?;
                }
                read
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(FsError::Stopped(stop)) => Err(stop),
            Err(error) => {
                let stage = &mut rest.stages[0];
                self.console()
                    .message(&stage.name, &format!("{typed}: {error}"));
                stage.status = STATUS_FAILED;
                stage.reported = true;
                Ok(())
            }
        }
    }

    fn readable(&self, path: &str) -> Result<(), FsError> {
        use trace::errno::Errno;
        let stat = self.mounts.stat(path)?;
        match stat.kind {
            vfs::Kind::Dir => Err(Errno::EISDIR.into()),
            vfs::Kind::File if !stat.readable => Err(Errno::EACCES.into()),
            vfs::Kind::File => Ok(()),
        }
    }

    fn finish(&self, stages: &mut [Ready], last: &mut dyn Sink) -> bool {
        let mut rest = Rest {
            stages,
            mounts: &self.mounts,
            last,
            env: self.env,
            made: true,
        };
        let Some(result) = rest.with_first(true, |filter, out| filter.finish(out)) else {
            return false;
        };
        self.settle(&mut stages[0], result)
    }

    /// Puts the outcome of a stage into its status. True: ctrl-c.
    fn settle(&self, stage: &mut Ready, result: Result<(), CmdError>) -> bool {
        match result {
            Ok(()) | Err(CmdError::Stopped(Stop::Enough)) => false,
            Err(CmdError::Stopped(Stop::Interrupted)) => true,
            // The redirect's own error is reported when it is closed.
            Err(CmdError::Stopped(Stop::Failed)) => false,
            Err(error) => {
                let status = self.report(stage, error);
                // A failure that was reported is not covered up by a quiet status.
                if !stage.reported || status != STATUS_GOOD {
                    stage.status = status;
                }
                false
            }
        }
    }

    /// Prints the message of an error, if it has one, and gives its status.
    fn report(&self, stage: &mut Ready, error: CmdError) -> i32 {
        match error {
            CmdError::Failed(text) => {
                self.console().message(&stage.name, &text);
                stage.reported = true;
                STATUS_FAILED
            }
            CmdError::Usage(text) => {
                let text = format!("{text}; usage: {}", stage.usage);
                self.console().message(&stage.name, &text);
                stage.reported = true;
                STATUS_USAGE
            }
            CmdError::Quiet(status) => status,
            CmdError::Stopped(Stop::Interrupted) => STATUS_INTERRUPTED,
            CmdError::Stopped(_) => STATUS_GOOD,
        }
    }
}

/// A name as it can be shown: at most 64 characters, control characters replaced.
fn printable(name: &str) -> String {
    const MAX_SHOWN_CHARS: usize = 64;
    let mut shown: String = name
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if name.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
#[path = "shell_tests.rs"]
pub(super) mod tests;
