//! The workers of `stress` that are user processes: the program `load`.

use super::process::{self, Parent};
use super::stdio;
use crate::stress::{Kind, Run, USER_LOAD, UserLoad};
use crate::task::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// The program.
const PATH: &str = "/boot/bin/load";

struct Load;

/// `stress` has user processes from now on.
pub fn init() {
    USER_LOAD.call_once(|| &Load);
}

impl UserLoad for Load {
    /// The process runs until it is ended; what it has done is counted then.
    fn start(&self, kind: Kind, run: &Arc<Run>) -> Result<Arc<Task>, String> {
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
}
