//! Whose events are recorded: `set_event_pid`, `set_event_notrace_pid`, `tracing_cpumask`.
//!
//! Linux's `trace_pid_write` (`trace_pid.c`), `tracing_cpumask_write` and `tracing_cpumask_read` (`trace.c`).

use super::parse;
use crate::errno::Errno;
use crate::platform::Platform;
use crate::tracer::{Instance, PidList};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The largest number of a task, and one: Linux's `PID_MAX_LIMIT`'s successor in `trace_pid_list`, 30 bits.
const MAX_PID: u64 = 1 << 30;

/// The numbers, one a line.
pub(super) fn print_pids<P: Platform>(
    instance: &Instance<P>,
    list: PidList,
    out: &mut dyn Write,
) -> fmt::Result {
    let pids = instance.pids(list);
    pids.iter().try_for_each(|pid| writeln!(out, "{pid}"))
}

/// Adds numbers to the list, which is emptied first if the file was truncated; all of them, or none.
pub(super) fn set_pids<P: Platform>(
    instance: &Instance<P>,
    list: PidList,
    data: &[u8],
    truncate: bool,
) -> Result<(), Errno> {
    let mut pids = Vec::new();
    for word in parse::words(data) {
        // What is too large for a number is wrong like what is none.
        let pid = parse::any_number(word?).map_err(|_| Errno::EINVAL)?;
        if pid >= MAX_PID {
            return Err(Errno::EINVAL);
        }
        pids.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        pids.push(pid as i32);
    }
    match truncate {
        true => instance.set_pids(list, pids),
        false => instance.add_pids(list, pids),
    }
    Ok(())
}

/// The CPUs as hexadecimal digits, as many as there are CPUs for; a comma between groups of 32.
pub(super) fn print_cpumask<P: Platform>(
    instance: &Instance<P>,
    out: &mut dyn Write,
) -> fmt::Result {
    let nr_cpus = instance.nr_cpus();
    let groups = nr_cpus.div_ceil(32);
    for group in (0..groups).rev() {
        let cpus = group * 32..nr_cpus.min(group * 32 + 32);
        let width = cpus.len().div_ceil(4);
        let bits = cpus
            .enumerate()
            .filter(|(_, cpu)| instance.cpu_allowed(*cpu))
            .fold(0u32, |bits, (bit, _)| bits | 1 << bit);
        let comma = if group > 0 { "," } else { "\n" };
        write!(out, "{bits:0width$x}{comma}")?;
    }
    Ok(())
}

/// Chooses the CPUs.
pub(super) fn set_cpumask<P: Platform>(instance: &Instance<P>, data: &[u8]) -> Result<(), Errno> {
    let cpus = parse::cpus(data, instance.nr_cpus())?;
    instance.set_cpumask(|cpu| cpus.binary_search(&cpu).is_ok());
    Ok(())
}
