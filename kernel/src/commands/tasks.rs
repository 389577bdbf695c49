//! `ps`, `top`, `kill`.

use crate::files::processes;
use crate::machine::{clock, uart};
use crate::task::{self, Task, stat};
use crate::terminal;
use crate::user::stdio::CTRL_D;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use kernel::console::commands::args::{Args, count};
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::{Sink, Stop, print};
use kernel::protocol::END_OF_INPUT;

/// What `help ps` prints.
pub const PS_HELP: &str = "\
CPU: where it runs, or last did. PRI: Linux's numbers, 120 is nice 0, less is more\n\
urgent. STAT: R runs or waits for a CPU, S sleeps and can be interrupted, D sleeps,\n\
X ends. TIME: of a CPU, in minutes and seconds. With -a the idle tasks, too.";

/// What `help top` prints.
pub const TOP_HELP: &str = "\
Anew each second until ctrl-c, q or ctrl-d, or COUNT times. %CPU is the share of one CPU\n\
since the table before.";

/// `ps`.
pub fn ps(_: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "ae", "")?;
    args.operands_at_most(0)?;
    let idle_too = args.has('a');
    print(
        out,
        format_args!("  PID  PPID CPU PRI STAT     TIME COMMAND\n"),
    )?;
    for task in task::all()
        .iter()
        .filter(|task| idle_too || !task.is_idle())
    {
        print(
            out,
            format_args!(
                "{:5} {:5} {:3} {:3} {:<4} {} {}\n",
                task.pid,
                processes::parent(task),
                task.cpu(),
                task.prio(),
                letter(task),
                time(task.cycles()),
                task.comm()
            ),
        )?;
    }
    Ok(())
}

/// An idle task is runnable always, and so says nothing.
fn letter(task: &Task) -> char {
    if task.is_idle() { 'I' } else { task.letter() }
}

/// Cycles as minutes, seconds, hundredths.
fn time(cycles: u64) -> String {
    let hundredths = clock::nanos_at(cycles) / 10_000_000;
    format!(
        "{:2}:{:02}.{:02}",
        hundredths / 6000,
        hundredths / 100 % 60,
        hundredths % 100
    )
}

/// `top`.
pub fn top(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let args = Args::read(args, "", "n")?;
    args.operands_at_most(0)?;
    let mut rounds = match args.options.last() {
        Some((_, text)) => Some(count(text)?),
        None if ctx.to_console => None,
        // Nobody could end it.
        None => Some(1),
    };
    if rounds == Some(0) {
        return Err(CmdError::usage("-n 0: a number from 1 on is wanted"));
    }
    let mut before = Snapshot::take();
    while rounds != Some(0) {
        // With a number, keys are for whoever comes after it.
        let keys = wait_a_second(rounds.is_none())?;
        let now = Snapshot::take();
        let mut text = String::new();
        if ctx.to_console && rounds.is_none() && keys != Keys::End {
            text.push_str("\x1b[H\x1b[2J");
        }
        now.write_since(&before, &mut text);
        out.write(text.as_bytes())?;
        before = now;
        if keys != Keys::Others {
            break;
        }
        rounds = rounds.map(|rounds| rounds - 1);
    }
    Ok(())
}

/// What was typed while a table stood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// `q`: it ends at once.
    Quit,
    /// The end of the input: nobody could type a `q` any more, so that the next table is the last one.
    End,
    /// Nothing, or what means nothing here.
    Others,
}

impl Keys {
    /// Takes what was typed.
    fn take(self) -> Keys {
        let mut keys = self;
        while let Some(byte) = uart::take_byte() {
            match byte {
                b'q' => return Keys::Quit,
                CTRL_D | END_OF_INPUT => keys = Keys::End,
                _ => {}
            }
        }
        keys
    }
}

/// Less than a second where a `q` is typed. Without `look`, keys stay.
fn wait_a_second(look: bool) -> Result<Keys, CmdError> {
    let end = task::jiffies_after(1_000_000_000);
    let mut keys = Keys::Others;
    terminal::wait_for_input_until(end, || {
        if look && keys != Keys::Quit {
            keys = keys.take();
        }
        keys == Keys::Quit
    })
    .map_err(|_| CmdError::Stopped(Stop::Interrupted))?;
    Ok(keys)
}

struct Snapshot {
    tsc: u64,
    tasks: Vec<(Arc<Task>, u64)>,
}

impl Snapshot {
    fn take() -> Self {
        let tasks = task::all();
        Snapshot {
            tsc: clock::tsc(),
            tasks: tasks
                .into_iter()
                .map(|task| {
                    let cycles = task.cycles();
                    (task, cycles)
                })
                .collect(),
        }
    }

    fn write_since(&self, before: &Snapshot, text: &mut String) {
        let all = self.tsc.saturating_sub(before.tsc).max(1);
        let ran = |task: &Arc<Task>, cycles: u64| {
            let old = before.tasks.iter().find(|(old, _)| Arc::ptr_eq(old, task));
            cycles - old.map_or(0, |(_, cycles)| *cycles).min(cycles)
        };
        // In tenths of a percent.
        let share = |cycles: u64| (u128::from(cycles) * 1000 / u128::from(all)).min(1000) as u64;
        let mut rows: Vec<(u64, &Arc<Task>, u64)> = self
            .tasks
            .iter()
            .map(|(task, cycles)| (share(ran(task, *cycles)), task, *cycles))
            .collect();
        let (idle, mut rows): (Vec<_>, Vec<_>) =
            rows.drain(..).partition(|(_, task, _)| task.is_idle());
        rows.sort_by_key(|(share, task, _)| (core::cmp::Reverse(*share), task.pid));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "tasks: {}, {} runnable; {} switches",
            rows.len(),
            stat::runnable(),
            stat::switches()
        );
        for (share, task, _) in idle {
            let _ = writeln!(
                text,
                "cpu{}: {}.{}% idle",
                task.cpu(),
                share / 10,
                share % 10
            );
        }
        let _ = writeln!(text, "  PID CPU PRI STAT  %CPU     TIME COMMAND");
        for (share, task, cycles) in rows {
            let _ = writeln!(
                text,
                "{:5} {:3} {:3} {:<4} {:3}.{} {} {}",
                task.pid,
                task.cpu(),
                task.prio(),
                letter(task),
                share / 10,
                share % 10,
                time(cycles),
                task.comm()
            );
        }
    }
}

/// `kill`.
pub fn kill(ctx: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    if args.is_empty() {
        return Err(CmdError::usage("which task? `ps` lists them"));
    }
    let pids = args
        .iter()
        .map(|arg| match arg.parse::<i32>() {
            Ok(pid) if pid > 0 => Ok(pid),
            _ if arg.starts_with('-') => Err(CmdError::usage(format!(
                "{arg}: there are no signals and no groups here; the task that a PID names ends"
            ))),
            _ => Err(CmdError::usage(format!(
                "{arg}: a task's number is wanted, the PID that `ps` shows"
            ))),
        })
        .collect::<Result<Vec<i32>, _>>()?;
    for pid in pids {
        if let Err(why) = task::kill(pid) {
            ctx.complain(format_args!("{pid}: {why}"));
        }
    }
    Ok(())
}
