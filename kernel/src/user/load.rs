//! The workers of `stress` that are user processes: the program `load`.

use super::process::{self, Parent};
use super::stdio;
use crate::stress::{Kind, Run};
use crate::task::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// The program.
const PATH: &str = "/boot/bin/load";

/// Starts one worker of the kind [`Kind::Fault`] or [`Kind::Syscall`]. It knows nothing of the load and works until it is ended
/// (`stress::finish` kills it); what it has done is counted into `run` then.
///
/// # Errors
/// A sentence.
pub fn start(kind: Kind, run: &Arc<Run>) -> Result<Arc<Task>, String> {
    let work = match kind {
        Kind::Fault => "fault",
        _ => "syscall",
    };
    let args: [&[u8]; 2] = [b"load", work.as_bytes()];
    let (process, task) = process::spawn(Parent::Kernel, PATH, &args, stdio::background())
        .map_err(|error| format!("{PATH}: {error}"))?;
    let run = run.clone();
    process.on_end(move |process| {
        let (faults, calls) = process.counts();
        run.count(kind, if kind == Kind::Fault { faults } else { calls });
    });
    Ok(task)
}
