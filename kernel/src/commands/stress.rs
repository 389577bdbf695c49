//! `stress`.

use crate::machine::{clock, cpu};
use crate::stress::{self, KINDS, MAX_WORKERS, Plan};
use crate::task;
use alloc::format;
use kernel::console::commands::args::nanos;
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::{Sink, Stop, print};
use kernel::klog::Level;
use kernel::sched::prio;

/// What `help stress` prints.
pub const HELP: &str = "\
--cpu N      N tasks that compute\n\
--switch N   N pairs of tasks that wake each other\n\
--fault N    N user processes that fault pages in\n\
--alloc N    N tasks that allocate and free\n\
--syscall N  N user processes that make system calls\n\
--time S     ends after S seconds; otherwise with ctrl-c, or in the background with\n\
             `kill PID`\n\
Without numbers: --cpu, --switch and --alloc with one for each CPU.\n\
At the end it tells what each kind has done.";

/// The command.
pub fn run(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let (plan, ns) = read(args)?;
    // Tried before it goes to the background, so that a refusal is this command's.
    let (load, tasks) = stress::start(&plan, false).map_err(CmdError::failed)?;
    let begin = clock::nanos();
    let until = ns.map(task::jiffies_after);
    if ctx.background {
        let watcher = task::spawn("stress", prio::CONSOLE, {
            let (load, tasks, plan) = (load.clone(), tasks.clone(), plan.clone());
            move || {
                if let Err(why) = stress::watch(&load, &tasks, until) {
                    crate::warning!("stress: {why}");
                }
                for line in stress::report(&plan, &load, clock::nanos() - begin).lines() {
                    crate::report::log(Level::Notice, format_args!("{line}"));
                }
            }
        });
        return match watcher {
            Ok(watcher) => Ok(print(
                out,
                format_args!("[{}] {}\n", watcher.pid, watcher.comm()),
            )?),
            Err(why) => {
                stress::finish(&load, &tasks);
                Err(CmdError::failed(format!("it cannot be watched: {why}")))
            }
        };
    }
    let interrupted = stress::watch(&load, &tasks, until).map_err(CmdError::failed)?;
    let report = stress::report(&plan, &load, clock::nanos() - begin);
    if interrupted {
        // A sink takes nothing after ctrl-c.
        ctx.env.print(report.as_bytes());
        return Err(CmdError::Stopped(Stop::Interrupted));
    }
    Ok(out.write(report.as_bytes())?)
}

/// The plan, and the time in ns.
fn read(args: &[&str]) -> Result<(Plan, Option<u64>), CmdError> {
    let (mut plan, mut time) = (Plan::new(), None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let (name, attached) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (*arg, None),
        };
        let option = name.strip_prefix("--");
        let kind = KINDS.into_iter().find(|kind| Some(kind.name()) == option);
        if kind.is_none() && option != Some("time") {
            return Err(CmdError::usage(format!("{arg}: no such option")));
        }
        let value = match attached.or_else(|| rest.next().copied()) {
            Some(value) => value,
            None => return Err(CmdError::usage(format!("{name}: it needs a number"))),
        };
        match kind {
            Some(kind) => match value.parse::<u64>() {
                Ok(n) if n <= MAX_WORKERS => {
                    plan.insert(kind, n);
                }
                _ => {
                    return Err(CmdError::usage(format!(
                        "{name} {value}: a number up to {MAX_WORKERS} is wanted"
                    )));
                }
            },
            None => match nanos(value) {
                Some(ns @ 1..) => time = Some(ns),
                _ => {
                    return Err(CmdError::usage(format!(
                        "{name} {value}: seconds are wanted, more than 0, such as 2 or 0.5"
                    )));
                }
            },
        }
    }
    if plan.is_empty() {
        for kind in [stress::Kind::Cpu, stress::Kind::Switch, stress::Kind::Alloc] {
            plan.insert(kind, cpu::online() as u64);
        }
    }
    if plan.values().all(|workers| *workers == 0) {
        return Err(CmdError::usage("it has nothing to do: every number is 0"));
    }
    Ok((plan, time))
}
