//! `bench-switch`: what tracing costs where tasks wake each other.

use crate::machine::{clock, cpu};
use crate::stress::{self, Kind, Plan};
use crate::task;
use crate::tracing::tracer;
use alloc::string::{String, ToString};
use kernel::console::commands::args::nanos;
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::{Sink, Stop, print};
use trace::fs::TraceFs;

/// What `help bench-switch` prints.
pub const HELP: &str = "\
A pair of tasks on each CPU wake each other for SECONDS (default 2) with all sched\n\
events off, and as long with all of them on, in turns. The ratio is how many times as\n\
many wake-ups there are without. The events are as before afterwards.";

/// Turns of each: what else the machine does meets both alike.
const TURNS: u32 = 4;

/// Where all sched events are switched.
const ENABLE: &str = "events/sched/enable";

/// The command.
pub fn switch(_: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let ns = match args {
        [] => 2_000_000_000,
        [text] => match nanos(text) {
            Some(ns @ 10_000_000..=3_600_000_000_000) => ns,
            _ => return Err(CmdError::usage("one number of seconds, such as 2 or 0.5")),
        },
        _ => return Err(CmdError::usage("one number of seconds, such as 2 or 0.5")),
    };
    let files = tracer().map(TraceFs);
    let files = files.ok_or_else(|| CmdError::failed("there is no tracer"))?;
    let set = |on: bool| {
        let text: &[u8] = if on { b"1" } else { b"0" };
        let set = files.write(ENABLE, text, true);
        set.map_err(|why| CmdError::failed(alloc::format!("{ENABLE}: {why}")))
    };
    let mut before = String::new();
    files
        .read(ENABLE, &mut before)
        .map_err(|why| CmdError::failed(alloc::format!("{ENABLE}: {why}")))?;
    let was_on = match before.trim() {
        "0" => false,
        "1" => true,
        _ => {
            return Err(CmdError::failed(
                "some sched events are on and some are off, which could not be restored; switch all of them first",
            ));
        }
    };
    let mut rates = [0.0; 2];
    for _ in 0..TURNS {
        for (rate, on) in rates.iter_mut().zip([false, true]) {
            set(on)?;
            let measured = measure(ns / u64::from(TURNS));
            set(was_on)?;
            *rate += measured? / f64::from(TURNS);
        }
    }
    for (rate, name) in rates.iter().zip(["off", "on"]) {
        print(
            out,
            format_args!("sched events {name}: {rate:.0} wake-ups a second\n"),
        )?;
    }
    Ok(print(
        out,
        format_args!("ratio: {:.3}\n", rates[0] / rates[1].max(1.0)),
    )?)
}

/// Wake-ups a second, measured for so many nanoseconds.
fn measure(ns: u64) -> Result<f64, CmdError> {
    let plan = Plan::from([(Kind::Switch, cpu::online() as u64)]);
    let begin = clock::nanos();
    let (run, tasks) = stress::start(&plan, true).map_err(CmdError::failed)?;
    let until = task::jiffies_after(ns);
    if stress::watch(&run, &tasks, Some(until)).map_err(|why| CmdError::failed(why.to_string()))? {
        return Err(CmdError::Stopped(Stop::Interrupted));
    }
    let ns = clock::nanos() - begin;
    Ok(run.counted(Kind::Switch) as f64 * 1e9 / ns.max(1) as f64)
}
