//! The head of a trace, and what stands in a line before the event's own text.
//!
//! Sources in Linux's `kernel/trace`: `print_trace_header`, `print_lat_help_header` (`trace.c`), `trace_print_lat_context`,
//! `lat_print_timestamp`, `trace_find_mark` (`trace_output.c`).

use super::Shown;
use crate::event::{Common, flags};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::tracer::{Instance, Longest, Tracer};
use alloc::string::{String, ToString};
use core::fmt::{self, Write};

/// When an event happened, in units of the clock, and when the one that is shown after it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) ts: u64,
    pub(crate) next: Option<u64>,
    /// From when on `latency-format` counts.
    pub(crate) start: u64,
}

/// `print_func_help_header_irq`: with the column of flags.
const HEADER_FLAGS: &str = "\
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
";

/// `print_func_help_header`: without it.
const HEADER: &str = "\
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
#              | |         |         |         |
";

/// `print_lat_help_header`: of the lines of `latency-format`.
const HEADER_LATENCY: &str = concat!(
    "#                    _------=> CPU#            \n",
    "#                   / _-----=> irqs-off/BH-disabled\n",
    "#                  | / _----=> need-resched    \n",
    "#                  || / _---=> hardirq/softirq \n",
    "#                  ||| / _--=> preempt-depth   \n",
    "#                  |||| / _-=> migrate-disable \n",
    "#                  ||||| /     delay           \n",
    "#  cmd     pid     |||||| time  |   caller     \n",
    "#     \\   /        ||||||  \\    |    /       \n",
);

/// Gaps of more than so many nanoseconds, each with its mark.
const MARKS: [(u64, char); 6] = [
    (1_000_000_000, '$'),
    (100_000_000, '@'),
    (10_000_000, '*'),
    (1_000_000, '#'),
    (100_000, '!'),
    (10_000, '+'),
];

/// Writes what stands between the tracer's name and the first line; `entries` are those in the buffers, and those written, if that is known.
pub(super) fn write_header<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    shown: &Shown<'_>,
    (entries, written): (u64, Option<u64>),
    out: &mut dyn Write,
) -> fmt::Result {
    if !instance.option(TraceOption::ContextInfo) {
        return Ok(());
    }
    let cpus = instance.nr_cpus();
    let written = written.map_or(String::from("?"), |written| written.to_string());
    if instance.option(TraceOption::LatencyFormat) {
        if entries == 0 {
            return Ok(());
        }
        let line = "-".repeat(68);
        // Where no latency was measured, there is no task that it belongs to: 0 and none, as Linux's `nop` prints.
        let none = Longest {
            cpu: cpu.unwrap_or(0) as u32,
            prio: DEFAULT_PRIO,
            ..Longest::default()
        };
        let longest = shown.longest.as_ref().unwrap_or(&none);
        writeln!(
            out,
            "# {} latency trace v1.1.5 on {}\n# {line}",
            shown.tracer, shown.release
        )?;
        writeln!(
            out,
            "# latency: {} us, #{entries}/{written}, CPU#{} | (M:server VP:0, KP:0, SP:0 HP:0 #P:{cpus})",
            in_usecs(longest.ns),
            longest.cpu,
        )?;
        write_task(longest, out)?;
        if let Some((from, to)) = &longest.between {
            out.write_str("#  => started at: ")?;
            from.write(tracer.platform(), out)?;
            out.write_str("\n#  => ended at:   ")?;
            to.write(tracer.platform(), out)?;
            out.write_str("\n#\n")?;
        }
        out.write_str("#\n")?;
        return out.write_str(HEADER_LATENCY);
    }
    writeln!(
        out,
        "# entries-in-buffer/entries-written: {entries}/{written}   #P:{cpus}\n#"
    )?;
    out.write_str(match instance.option(TraceOption::IrqInfo) {
        true => HEADER_FLAGS,
        false => HEADER,
    })
}

/// Whole microseconds, rounded as Linux's `nsecs_to_usecs` does.
pub(crate) fn in_usecs(ns: u64) -> u64 {
    ns.saturating_add(500) / 1000
}

/// Linux's priority of nice 0, and how many are for real-time tasks (`MAX_RT_PRIO`); those have policy 1, `SCHED_FIFO`.
const DEFAULT_PRIO: i32 = 120;
const RT_PRIOS: i32 = 100;

fn write_task(longest: &Longest, out: &mut dyn Write) -> fmt::Result {
    let real_time = longest.prio < RT_PRIOS;
    let (nice, policy, rt_prio) = match real_time {
        true => (0, 1, RT_PRIOS - 1 - longest.prio),
        false => (longest.prio - DEFAULT_PRIO, 0, 0),
    };
    writeln!(
        out,
        "#    -----------------\n#    | task: {}-{} (uid:0 nice:{nice} policy:{policy} rt_prio:{rt_prio})\n#    -----------------",
        longest.task.as_str(),
        longest.pid
    )
}

/// What stands before the event's own text.
pub(super) fn write_context<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: usize,
    times: Times,
    common: &Common,
    out: &mut dyn Write,
) -> fmt::Result {
    let name = tracer.task_name(common.pid);
    let name = name.as_str();
    let ts = times.ts;
    if instance.option(TraceOption::LatencyFormat) {
        write!(out, "{name:>8.8}-{:<7} {cpu:3}", common.pid)?;
        write_flags(common, out)?;
        return write_delay(instance, times, out);
    }
    let irq_info = instance.option(TraceOption::IrqInfo);
    write_place(name, cpu, common, irq_info, out)?;
    write_time(ts, instance.clock().in_ns(), out)
}

/// Writes the task, the CPU, and with `irq_info` what that was doing.
pub(crate) fn write_place(
    task: &str,
    cpu: usize,
    common: &Common,
    irq_info: bool,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, "{task:>16}-{:<7} [{cpu:03}] ", common.pid)?;
    match irq_info {
        true => write_flags(common, out),
        false => Ok(()),
    }
}

/// Writes the time behind that, in seconds, or in what else the clock counts.
pub(crate) fn write_time(ts: u64, in_ns: bool, out: &mut dyn Write) -> fmt::Result {
    if in_ns {
        let us = ts / 1000;
        write!(out, " {:5}.{:06}: ", us / 1_000_000, us % 1_000_000)
    } else {
        write!(out, " {ts:12}: ")
    }
}

/// The time since the buffers were cleared, and a mark if it is long until the next event.
fn write_delay<P: Platform>(
    instance: &Instance<P>,
    times: Times,
    out: &mut dyn Write,
) -> fmt::Result {
    let since = times.ts.saturating_sub(times.start);
    if !instance.clock().in_ns() {
        return write!(out, " {since:4}: ");
    }
    let gap = times.next.map_or(0, |next| next.saturating_sub(times.ts));
    // Linux looks at whole microseconds.
    let gap = gap / 1000 * 1000;
    let mark = MARKS.iter().find(|(least, _)| gap > *least);
    let mark = mark.map_or(' ', |(_, mark)| *mark);
    write!(out, " {:4}us{mark}: ", since / 1000)
}

/// The five characters of what the CPU was doing.
fn write_flags(common: &Common, out: &mut dyn Write) -> fmt::Result {
    let has = |bits: u8| common.flags & bits == bits;
    let irqs = match (has(flags::IRQS_OFF), has(flags::BH_OFF)) {
        (true, true) => 'D',
        (true, false) => 'd',
        (false, true) => 'b',
        (false, false) => '.',
    };
    let resched = match (has(flags::NEED_RESCHED), has(flags::PREEMPT_RESCHED)) {
        (true, true) => 'N',
        (true, false) => 'n',
        (false, true) => 'p',
        (false, false) => '.',
    };
    let (nmi, hard, soft) = (has(flags::NMI), has(flags::HARDIRQ), has(flags::SOFTIRQ));
    let context = match (nmi, hard, soft) {
        (true, true, _) => 'Z',
        (true, false, _) => 'z',
        (_, true, true) => 'H',
        (_, true, false) => 'h',
        (_, _, true) => 's',
        _ => '.',
    };
    write!(out, "{irqs}{resched}{context}")?;
    for depth in [common.preempt_count & 0xf, common.preempt_count >> 4] {
        match depth {
            0 => out.write_char('.')?,
            depth => write!(out, "{depth:x}")?,
        }
    }
    Ok(())
}
