//! The running parts of a pipeline: stages that are ready to run, and the sinks between them.
//!
//! Ctrl-c is looked at where output is made, once a piece of it is where it goes, and never on the way there: whoever has used
//! something up to make it (an event of `trace_pipe`) has not done so for nothing.

use super::command::{Env, Filter, RunFn};
use super::vfs::{FsError, Mounts, Sink, Stop, WriteMode};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Takes nothing: what a command writes that nobody reads.
pub(super) struct Nobody;

impl Sink for Nobody {
    fn write(&mut self, _bytes: &[u8]) -> Result<(), Stop> {
        Err(Stop::Enough)
    }
}

/// A redirect that was opened.
pub(super) struct ToFile {
    pub(super) typed: String,
    pub(super) path: String,
    /// Of the next write.
    pub(super) mode: WriteMode,
    pub(super) error: Option<FsError>,
}

pub(super) struct ToFileSink<'s> {
    pub(super) mounts: &'s Mounts<'s>,
    pub(super) file: &'s mut ToFile,
}

impl Sink for ToFileSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.file.error.is_some() {
            return Err(Stop::Failed);
        }
        let mode = core::mem::replace(&mut self.file.mode, WriteMode::Append);
        match self.mounts.write(&self.file.path, bytes, mode) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.file.error = Some(error);
                Err(Stop::Failed)
            }
        }
    }
}

/// A stage of a pipeline that is ready to run.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) usage: &'static str,
    pub(super) work: Work,
    pub(super) redirect: Option<ToFile>,
    /// It was followed by `&`.
    pub(super) background: bool,
    /// It wants no more input.
    pub(super) done: bool,
    pub(super) status: i32,
    /// It printed a message.
    pub(super) reported: bool,
}

pub(super) enum Work {
    /// Only redirects: `> trace`.
    Nothing,
    Run(RunFn),
    Filter {
        filter: Box<dyn Filter>,
        /// Files read before the command before it is.
        before: Vec<String>,
        /// The command before it is read.
        upstream: bool,
        /// Files read after that.
        after: Vec<String>,
    },
}

impl Ready {
    /// It takes what the stage before it makes.
    pub(super) fn reads_upstream(&self) -> bool {
        matches!(self.work, Work::Filter { upstream: true, .. })
    }
}

/// What follows a stage: the stages after it, then where the last one's output goes.
pub(super) struct Rest<'s> {
    pub(super) stages: &'s mut [Ready],
    pub(super) mounts: &'s Mounts<'s>,
    pub(super) last: &'s mut dyn Sink,
    pub(super) env: &'s dyn Env,
    /// What comes here was made by the stage before, not passed on by it: ctrl-c is looked at.
    pub(super) made: bool,
}

impl Rest<'_> {
    /// Runs `act` on the first of these stages, with the sink that its output goes to; `made`: it makes output of its own.
    pub(super) fn with_first<T>(
        &mut self,
        made: bool,
        act: impl FnOnce(&mut dyn Filter, &mut dyn Sink) -> T,
    ) -> Option<T> {
        let (first, stages) = self.stages.split_first_mut()?;
        let Work::Filter { filter, .. } = &mut first.work else {
            return None;
        };
        let mut to_file;
        let mut rest;
        let out: &mut dyn Sink = match &mut first.redirect {
            Some(file) => {
                to_file = ToFileSink {
                    mounts: self.mounts,
                    file,
                };
                &mut to_file
            }
            None => {
                rest = Rest {
                    stages,
                    mounts: self.mounts,
                    last: self.last,
                    env: self.env,
                    made,
                };
                &mut rest
            }
        };
        Some(act(filter.as_mut(), out))
    }
}

impl Sink for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let result = match self.stages.first() {
            None => self.last.write(bytes),
            Some(stage) if stage.done => Err(Stop::Enough),
            Some(_) => {
                let result = self.with_first(false, |filter, out| filter.push(bytes, out));
                let result = result.unwrap_or(Err(Stop::Enough));
                if result.is_err() {
                    self.stages[0].done = true;
                }
                result
            }
        };
        if self.made && self.env.interrupted() {
            return Err(Stop::Interrupted);
        }
        result
    }

    fn poll(&self) -> Result<(), Stop> {
        if self.env.interrupted() {
            return Err(Stop::Interrupted);
        }
        // Behind a redirect nobody reads what the stage before it makes.
        let to_redirect = self.stages.iter().position(|s| s.redirect.is_some());
        let readers = &self.stages[..to_redirect.map_or(self.stages.len(), |at| at + 1)];
        if readers.iter().any(|stage| stage.done) {
            return Err(Stop::Enough);
        }
        Ok(())
    }
}

/// Polls ctrl-c for a write that goes straight to a file.
pub(super) struct Polled<'s> {
    pub(super) env: &'s dyn Env,
    pub(super) out: ToFileSink<'s>,
}

impl Sink for Polled<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.out.write(bytes)?;
        self.poll()
    }

    fn poll(&self) -> Result<(), Stop> {
        match self.env.interrupted() {
            true => Err(Stop::Interrupted),
            false => Ok(()),
        }
    }
}
