//! `run`: a program, in the foreground or in the background.

use crate::user::process::{self, Parent, Process};
use crate::user::stdio::{self, Keys, Pipe};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::{Sink, Stop, print};
use kernel::ring3::abi::{shell_status, signal};
use trace::errno::Errno;

pub const HELP: &str = "\
NAME is a program in /boot/bin, or a path with a slash in it. Its output can go\n\
through a pipe or into a file; ctrl-c ends it, and all that it has started. With an &\n\
behind it, it runs in the background: its pid is printed, `ps` and /proc/PID show it,\n\
`kill PID` ends it. The status is its exit code, or 128 and the number of the signal\n\
that ended it (a program that faults: 139).";

/// Where a program is that was named without a path.
const FOLDER: &str = "/boot/bin/";

pub fn run(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let [name, ..] = args else {
        return Err(CmdError::usage(
            "the program's name is missing; `ls /boot/bin` lists them",
        ));
    };
    let path: String = if name.contains('/') {
        ctx.path(name)
            .map_err(|error| CmdError::file(name, error))?
    } else {
        format!("{FOLDER}{name}")
    };
    let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    let start = |files| {
        process::spawn(Parent::Kernel, &path, &bytes, files)
            .map(|(process, _)| process)
            .map_err(|error| {
                let hint = match error.errno() == Errno::ENOENT && !name.contains('/') {
                    true => "; `ls /boot/bin` lists the programs",
                    false => "",
                };
                CmdError::failed(format!("{name}: {error}{hint}"))
            })
    };
    if ctx.background {
        let process = start(stdio::background())?;
        return Ok(print(out, format_args!("[{}] {name}\n", process.pid()))?);
    }
    let (pipe, output) = Pipe::new();
    let keys = Keys::new();
    let process = start(stdio::foreground(keys.clone(), output))?;
    let wakes = pipe.clone();
    process.on_end(move |_| wakes.wake_reader());
    let result = pass_on(&process, &pipe, out);
    pipe.close();
    keys.close();
    if let Err(stop) = result {
        let number = match stop {
            Stop::Interrupted => signal::INT,
            // As where the reader of a pipe has gone.
            Stop::Enough | Stop::Failed => signal::PIPE,
        };
        process::end_group(&process, number);
        process.join();
        return Err(stop.into());
    }
    match shell_status(process.status().unwrap_or(0)) {
        0 => Ok(()),
        status => Err(CmdError::Quiet(status)),
    }
}

/// Passes on what the program writes, until it has ended and all of it is out.
fn pass_on(process: &Arc<Process>, pipe: &Arc<Pipe>, out: &mut dyn Sink) -> Result<(), Stop> {
    let mut piece = Vec::new();
    loop {
        // First the end, then what is there: all that the program itself has written is in it.
        let ended = process.status().is_some();
        let open = pipe.take(&mut piece);
        if !piece.is_empty() {
            out.write(&piece)?;
        }
        if ended || !open {
            // A program may close its output and go on: it is in the foreground until it ends.
            return process.join_interruptible().map_err(|_| Stop::Interrupted);
        }
        if piece.is_empty() {
            out.poll()?;
            pipe.wait(|| process.status().is_some() || out.poll().is_err())
                .map_err(|_| Stop::Interrupted)?;
        }
    }
}
