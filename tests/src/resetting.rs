//! Machines that are reset in the middle of their work, and what the next start finds of them. `tests/guest/ramtrace.rs` does some of it in
//! each run, `cargo run -p tests --bin resets` all of it.
//!
//! A life counts: each number goes into the trace, which lies in the region that outlives a reset, and then onto the console. Then the machine
//! is reset, in one of several ways, or stopped at a random moment and reset. What the next life finds must hold every number that the
//! console has had, up to the last, as far as the buffers reach back; no other; in order; and as many events as it says.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::{Guest, Setup, lines};

const PSTORE: &str = "/sys/fs/pstore";

/// How a machine is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// `reboot`.
    Reboot,
    /// An exception that nobody handles.
    TripleFault,
    /// The machine's reset line: QEMU's `system_reset`.
    Line,
    /// A panic, after which the kernel resets (`panic=-1`).
    Panic,
    /// QEMU is stopped at some moment, reset and let go on.
    Stopped,
}

impl Reset {
    /// All of them.
    pub const ALL: [Reset; 5] = [
        Reset::Reboot,
        Reset::TripleFault,
        Reset::Line,
        Reset::Panic,
        Reset::Stopped,
    ];
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reset::Reboot => "reboot",
            Reset::TripleFault => "triple fault",
            Reset::Line => "system_reset",
            Reset::Panic => "panic",
            Reset::Stopped => "stopped at random",
        })
    }
}

/// What a life left, as the next one tells it.
#[derive(Debug, Default)]
pub struct Left {
    /// Numbers found in the trace.
    pub numbers: Vec<u64>,
    /// All events found.
    pub events: usize,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

/// The machine for this: its buffers live in the region from the start.
pub fn setup(cpus: u32) -> Setup {
    Setup::new()
        .smp(cpus)
        .append("trace_options=persist trace_buf_size=64K panic=-1")
}

/// Lets the machine count, under a load on all its CPUs, until the console has had `counted` numbers. Returns the last one; it counts on.
pub fn count(guest: &mut Guest, cpus: u32, counted: u32) -> u64 {
    // Not those that a busy machine has thousands of: the numbers are to be in the buffers for longer than the console needs for them.
    guest.ok("echo 1 > /sys/kernel/tracing/events/irq/irq_handler_entry/enable");
    guest.ok("echo 1 > /sys/kernel/tracing/events/syscalls/sys_enter_write/enable");
    guest.ok(&format!("stress --switch {cpus} --time 100000 &"));
    guest.send("run count &\r");
    let mut last = 0;
    for _ in 0..counted {
        let text = guest.expect("counted ") + &guest.expect("\n");
        last = number(&text).unwrap_or(last);
    }
    last
}

/// Lets the machine [`count`]; resets it; waits for the next prompt. Returns the last number on the console.
pub fn reset(guest: &mut Guest, cpus: u32, how: Reset, counted: u32, wait: Duration) -> u64 {
    let mut last = count(guest, cpus, counted);
    let before = guest.transcript().len();
    match how {
        Reset::Reboot => guest.send("reboot\r"),
        Reset::TripleFault => guest.send("reboot --triple-fault\r"),
        Reset::Panic => guest.send("panic\r"),
        Reset::Line => {
            guest.monitor("system_reset");
        }
        Reset::Stopped => {
            thread::sleep(wait);
            guest.monitor("stop");
            guest.monitor("system_reset");
            guest.monitor("cont");
        }
    }
    guest.expect("generation 0 (cold)");
    guest.expect_prompt();
    // What came between the last look and the reset.
    let transcript = guest.transcript();
    let end = transcript[before..]
        .find("generation 0 (cold)")
        .map_or(transcript.len(), |at| before + at);
    for line in lines(&transcript[before..end]) {
        // A number that the reset has cut off in the middle is none.
        if let Some(n) = line
            .strip_prefix("counted ")
            .and_then(|rest| rest.parse().ok())
        {
            last = last.max(n);
        }
    }
    last
}

fn number(text: &str) -> Option<u64> {
    lines(text)
        .filter_map(|line| line.rsplit("counted ").next()?.trim().parse().ok())
        .last()
}

/// Looks at what the last life left; `last` is the last number that its console has had.
pub fn look(guest: &mut Guest, last: u64) -> Left {
    let text = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-0"));
    let mut left = Left::default();
    let mut said = None;
    let mut times = std::collections::BTreeMap::new();
    for line in lines(&text) {
        if let Some(rest) = line.split_once("entries-in-buffer/entries-written: ") {
            said = rest
                .1
                .split('/')
                .next()
                .and_then(|n| n.parse::<usize>().ok());
        }
        if line.starts_with('#') || line.is_empty() || line.contains("[LOST ") {
            continue;
        }
        let Some((cpu, time, rest)) = event(line) else {
            left.wrong.push(format!("no event: {line:?}"));
            continue;
        };
        left.events += 1;
        let before = times.insert(cpu, time);
        if before.is_some_and(|before| before > time) {
            left.wrong.push(format!("time goes back: {line:?}"));
        }
        if let Some(n) = rest
            .split("count ")
            .nth(1)
            .filter(|_| rest.contains("tracing_mark_write"))
        {
            match n.trim().parse() {
                Ok(n) => left.numbers.push(n),
                Err(_) => left.wrong.push(format!("no number: {line:?}")),
            }
        }
    }
    if said != Some(left.events) {
        left.wrong.push(format!(
            "{} events, and the head says {said:?}",
            left.events
        ));
    }
    // Merged by time; the counter moves from CPU to CPU.
    if left.numbers.windows(2).any(|pair| pair[0] + 1 != pair[1]) && !text.contains("[LOST ") {
        left.wrong
            .push(format!("numbers are missing: {:?}", left.numbers));
    }
    match left.numbers.last() {
        // What the console has been given goes out at the serial port's speed, and a reset forgets it there.
        Some(found) if *found >= last => {}
        found => left
            .wrong
            .push(format!("the console had {last}, the trace has {found:?}")),
    }
    let log = guest.ok(&format!("cat {PSTORE}/dmesg-ramtrace-0"));
    if !log.contains("generation 0 (cold)") {
        left.wrong
            .push(format!("the log does not begin at the start: {log:?}"));
    }
    left
}

/// CPU, time in microseconds, and what stands behind it: `  count-12  [001] .....  12.345678: tracing_mark_write: count 7`.
fn event(line: &str) -> Option<(u32, u64, &str)> {
    let (_, rest) = line.split_once('[')?;
    let (cpu, rest) = rest.split_once(']')?;
    let (_, rest) = rest.trim_start().split_once(' ')?;
    let (time, rest) = rest.trim_start().split_once(": ")?;
    let (seconds, micros) = time.split_once('.')?;
    let time = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    Some((cpu.parse().ok()?, time, rest))
}
