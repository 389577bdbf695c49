//! `trace-reader CPU [--follow] [--stats] [--quiet] [--check] [--time SECONDS] [--on CPU]`: the events of a CPU's trace buffer, decoded where they lie.
//!
//! The buffer is mapped; nothing is copied but the text that is printed: lines as the kernel's `trace` has them, each written in one go, so
//! that those of several readers stay whole. Without `--follow` it ends when it has come to what was there when
//! it began (the events that its own printing makes would else keep it going); with it, it goes on until it is killed, or the time has
//! passed. `--quiet` decodes every event and prints none; `--check` looks whether they fit one another (`user::chains`); `--stats` prints the meta-page's counters at the beginning, at the end, and,
//! following, each second, by its fields' names; `--on` runs it on one CPU, whose buffer then has the events of the reader's own. At the end it says how many events it has shown, and how many were lost: together they are all that
//! the meta-page counts, which it checks at each turn: where they are not, somebody else reads, which it says before anything else. Whatever cannot be (an event that does not decode, a time that goes back) makes its status 1.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use trace::clock::ClockId;
use trace::mapped::format::Format;
use trace::mapped::{Line, MappedEvent, MappedReader, SubBuffers};
use trace::meta::{LOST_UNKNOWN, Meta};
use user::abi::O_NONBLOCK;
use user::chains::Chains;
use user::names::Names;
use user::ring::{Ring, TRACING};
use user::sharing::{Sharing, Turn};
use user::{Args, Error, eprintln, files, println, sys};

user::program!(main);

const USAGE: &str =
    "usage: trace-reader CPU [--follow] [--stats] [--quiet] [--check] [--time SECONDS] [--on CPU]";

/// How long it sleeps where there is nothing to show, in ns.
const NAP: u64 = 10_000_000;
/// How often it prints the counters while it follows, in ns.
const STATS_EVERY: u64 = 1_000_000_000;

/// The events that no system declares.
const OWN: [&str; 5] = [
    "ftrace:function",
    "ftrace:hwlat",
    "ftrace:kernel_stack",
    "ftrace:print",
    "ftrace:raw_data",
];

/// What it was asked to do.
#[derive(Clone, Copy, Default)]
struct Asked {
    cpu: u32,
    follow: bool,
    stats: bool,
    quiet: bool,
    check: bool,
    /// In seconds.
    time: Option<u64>,
    /// Where it runs.
    on: Option<u32>,
}

/// What is asked for; where that cannot be understood, why.
fn asked(args: Args) -> Result<Asked, String> {
    fn number<T: core::str::FromStr>(option: &str, word: Option<&str>) -> Result<T, String> {
        let word = word.ok_or_else(|| format!("{option}: it needs a number"))?;
        word.parse()
            .map_err(|_| format!("{option} {word}: a number is wanted"))
    }
    let mut asked = Asked::default();
    let mut words = args.rest();
    let mut cpu = None;
    while let Some(word) = words.next() {
        match word {
            "--follow" => asked.follow = true,
            "--stats" => asked.stats = true,
            "--quiet" => asked.quiet = true,
            "--check" => asked.check = true,
            "--time" => {
                asked.time = Some(number(word, words.next())?);
                asked.follow = true;
            }
            "--on" => asked.on = Some(number(word, words.next())?),
            option if option.starts_with('-') => return Err(format!("{option}: no such option")),
            word if cpu.is_none() => {
                let parsed = word.parse();
                cpu = Some(parsed.map_err(|_| format!("{word}: no CPU's number"))?);
            }
            word => return Err(format!("{word}: one CPU is enough")),
        }
    }
    asked.cpu = cpu.ok_or("which CPU's buffer?")?;
    Ok(asked)
}

/// The formats of all events that the buffers may hold, by their numbers.
fn formats() -> Result<BTreeMap<u16, Format>, String> {
    let path = format!("{TRACING}/available_events");
    let list = files::read_text(&path).map_err(|e| format!("{path}: {e}"))?;
    let mut formats = BTreeMap::new();
    for name in list.lines().chain(OWN) {
        let Some((system, event)) = name.split_once(':') else {
            return Err(format!("{path}: \"{name}\" names no event"));
        };
        let path = format!("{TRACING}/events/{system}/{event}/format");
        let text = files::read_text(&path).map_err(|e| format!("{path}: {e}"))?;
        let format = Format::parse(&text).map_err(|e| format!("{path}: {e}"))?;
        formats.insert(format.id, format);
    }
    // Those of earlier lives that are others, or none, in this one.
    let path = format!("{TRACING}/events/foreign_formats");
    let text = files::read_text(&path).map_err(|e| format!("{path}: {e}"))?;
    for format in Format::parse_all(&text).map_err(|e| format!("{path}: {e}"))? {
        formats.insert(format.id, format);
    }
    Ok(formats)
}

/// Whether the events' times are in nanoseconds.
fn in_nanos() -> Result<bool, Error> {
    let text = files::read_text(&format!("{TRACING}/trace_clock"))?;
    let chosen = text.split(['[', ']']).nth(1);
    let clock = chosen.and_then(ClockId::parse);
    Ok(clock.is_none_or(ClockId::in_ns))
}

/// What was seen.
struct Seen {
    cpu: u32,
    formats: BTreeMap<u16, Format>,
    names: Names,
    line: Line,
    /// The line that is being made.
    text: String,
    quiet: bool,
    chains: Option<Chains>,
    /// What did not fit in this turn, and in the one before: kept until the next turn has told that nobody else has taken what is missing
    /// meanwhile, or had the page written anew while it was read.
    misfits: Vec<String>,
    held: Vec<String>,
    /// Somebody else reads the buffer; it was cleared.
    shared: bool,
    cleared: bool,
    /// Events shown, and lost ones.
    shown: u64,
    lost: u64,
    /// Some were lost, and nobody knows how many.
    unknown: bool,
    /// Time of the last event.
    last: u64,
    /// Something was wrong.
    wrong: bool,
}

impl Seen {
    fn complain(&mut self, what: &str) {
        eprintln!(
            "trace-reader: cpu {}: event {}: {what}",
            self.cpu, self.shown
        );
        self.wrong = true;
    }

    /// One event.
    fn event(&mut self, event: MappedEvent<'_>) {
        self.shown += 1;
        if event.ts < self.last {
            let (shown, ts, last) = (self.shown, event.ts, self.last);
            (self.misfits).push(format!("event {shown}: its time {ts} is before {last}"));
        }
        self.last = event.ts;
        let id = event
            .record
            .unsigned(0, 2)
            .and_then(|id| u16::try_from(id).ok());
        let Some(id) = id else {
            self.complain("it has no number");
            return;
        };
        let format = self.formats.get(&id);
        if let (Some(chains), Some(format)) = (&mut self.chains, format)
            && let Err(why) = chains.event(format, event.record)
        {
            let (shown, ts) = (self.shown, event.ts);
            self.misfits.push(format!("event {shown} at {ts}: {why}"));
            chains.gap();
        }
        if self.quiet {
            if let Some(format) = format {
                // Decoded all the same.
                let _ = format.write(event.record, &mut Nowhere);
            }
            return;
        }
        self.text.clear();
        let pid = event.record.common().map_or(-1, |common| common.pid);
        let task = self.names.of(pid);
        // Writing to a String does not fail; and a reader that has gone is told by the end of the process.
        let _ = self.line.write(&event, format, task, &mut self.text);
        let _ = sys::write_all(1, self.text.as_bytes());
    }

    /// A turn has ended. Where others have read, or the buffer was cleared, that is told, and what does not fit is no wonder.
    fn turned(&mut self, turn: Turn) {
        let told = match turn {
            Turn::Alone => {
                for what in self.held.drain(..) {
                    eprintln!("trace-reader: cpu {}: {what}", self.cpu);
                    self.wrong = true;
                }
                core::mem::swap(&mut self.held, &mut self.misfits);
                return;
            }
            Turn::Shared => core::mem::replace(&mut self.shared, true),
            Turn::Cleared => core::mem::replace(&mut self.cleared, true),
        };
        self.misfits.clear();
        self.held.clear();
        if let Some(chains) = &mut self.chains {
            chains.gap();
        }
        if !told {
            self.complain(match turn {
                Turn::Cleared => "the buffer was cleared: what was in it is missing here",
                _ => "somebody else reads this buffer, too: what they took is missing here",
            });
        }
    }

    /// What was lost before the next event.
    fn loss(&mut self, lost: u64) {
        if let (Some(chains), true) = (&mut self.chains, lost > 0) {
            chains.gap();
        }
        match lost {
            0 => {}
            LOST_UNKNOWN => {
                println!("CPU:{} [LOST EVENTS]", self.cpu);
                self.unknown = true;
            }
            lost => {
                println!("CPU:{} [LOST {lost} EVENTS]", self.cpu);
                self.lost += lost;
            }
        }
    }
}

/// Text that nobody wants.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> core::fmt::Result {
        Ok(())
    }
}

/// `lost_events` of the reader page.
struct LostEvents(u64);

impl core::fmt::Display for LostEvents {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            LOST_UNKNOWN => f.write_str("unknown"),
            lost => write!(f, "{lost}"),
        }
    }
}

fn print_stats(cpu: u32, meta: &Meta) {
    println!(
        "# cpu {cpu}: {} sub-buffers of {} bytes, reader {} at {}, lost_events {}, entries {}, overrun {}, read {}, unread {}, pages_touched {}, pages_lost {}",
        meta.nr_subbufs,
        meta.subbuf_size,
        meta.reader.id,
        meta.reader.read,
        LostEvents(meta.reader.lost_events),
        meta.entries,
        meta.overrun,
        meta.read,
        meta.unread(),
        meta.pages_touched,
        meta.pages_lost,
    );
}

/// Shows events until it is to end.
fn run<'m, S: SubBuffers<'m>>(
    ring: &Ring,
    reader: &mut MappedReader<'m, S>,
    asked: &Asked,
    seen: &mut Seen,
) -> Result<(), String> {
    let call = |result: Result<(), Error>| result.map_err(|e| format!("ioctl: {e}"));
    call(ring.pipe().refresh_meta())?;
    let first = reader.meta().map_err(|e| format!("{e}"))?;
    if asked.stats {
        print_stats(asked.cpu, &first);
    }
    let begun = sys::now_nanos();
    let end = asked
        .time
        .map(|seconds| begun.saturating_add(seconds.saturating_mul(1_000_000_000)));
    let mut next_stats = begun + STATS_EVERY;
    let mut sharing = Sharing::new(&first);
    loop {
        call(ring.pipe().get_reader())?;
        let turn = reader.turn().map_err(|e| format!("{e}"))?;
        seen.names.ask_again();
        seen.loss(turn.lost);
        let before = seen.shown;
        let mut bad_page = false;
        loop {
            match reader.next() {
                Ok(Some(event)) => seen.event(event),
                Ok(None) => break,
                Err(e) => {
                    let shown = seen.shown;
                    seen.misfits.push(format!("event {shown}: {e}"));
                    bad_page = true;
                    break;
                }
            }
        }
        let state = sharing.turn(&turn.meta, seen.shown);
        if bad_page && state == Turn::Shared {
            // The page's rest counts as read, and nobody has seen it.
            sharing.forgive(seen.shown);
            seen.turned(Turn::Alone);
        } else {
            seen.turned(state);
        }
        let now = sys::now_nanos();
        if asked.stats && asked.follow && now >= next_stats {
            print_stats(asked.cpu, &turn.meta);
            next_stats = now + STATS_EVERY;
        }
        let done = match (asked.follow, end) {
            (true, Some(end)) => now >= end,
            (true, None) => false,
            (false, _) => seen.cleared || turn.meta.read + turn.meta.overrun >= first.entries,
        };
        if done {
            // What others have done during this turn.
            call(ring.pipe().refresh_meta())?;
            let now = reader.meta().map_err(|e| format!("{e}"))?;
            seen.turned(sharing.turn(&now, seen.shown));
            check(&first, &turn.meta, sharing.counted(), seen);
            if asked.stats {
                print_stats(asked.cpu, &turn.meta);
            }
            println!(
                "# cpu {}: {} events shown, {} lost",
                asked.cpu, seen.shown, seen.lost
            );
            if let Some(chains) = &seen.chains {
                let (switches, handlers) = (chains.switches, chains.handlers);
                let pid =
                    |task: Option<i64>| task.map_or_else(|| "-".into(), |pid| format!("{pid}"));
                println!(
                    "# cpu {}: {switches} switches from {} to {}, {handlers} handlers looked at",
                    asked.cpu,
                    pid(chains.first),
                    pid(chains.running)
                );
            }
            return Ok(());
        }
        if seen.shown == before {
            sys::sleep_nanos(NAP).map_err(|e| format!("sleep: {e}"))?;
        }
    }
}

/// Whether what was shown and lost is what the meta-page counts, `read` as read and the rest from `first` to `last`. Losses are told with
/// the event after them: with events unread, some may be counted that were not told yet.
fn check(first: &Meta, last: &Meta, read: u64, seen: &mut Seen) {
    if read != seen.shown {
        let shown = seen.shown;
        seen.complain(&format!(
            "{shown} were shown, {read} count as read: somebody else reads"
        ));
    }
    if seen.shared || seen.cleared {
        // Losses were told to others, or not at all.
        return;
    }
    // What was lost before we came may have been told to another reader.
    let least = last.overrun.saturating_sub(first.overrun);
    if last.unread() == 0 && !seen.unknown && !(least..=last.overrun).contains(&seen.lost) {
        let lost = seen.lost;
        seen.complain(&format!(
            "{lost} were told as lost, {least} to {} count as that",
            last.overrun
        ));
    }
}

fn follow(asked: &Asked) -> Result<bool, String> {
    if let Some(cpu) = asked.on {
        sys::run_on(cpu).map_err(|e| format!("running on cpu {cpu}: {e}"))?;
    }
    let mut seen = Seen {
        cpu: asked.cpu,
        formats: formats()?,
        names: Names::read().map_err(|e| format!("saved_cmdlines: {e}"))?,
        line: Line {
            cpu: asked.cpu as usize,
            in_ns: in_nanos().map_err(|e| format!("trace_clock: {e}"))?,
        },
        text: String::new(),
        quiet: asked.quiet,
        chains: asked.check.then(Chains::new),
        misfits: Vec::new(),
        held: Vec::new(),
        shared: false,
        cleared: false,
        shown: 0,
        lost: 0,
        unknown: false,
        last: 0,
        wrong: false,
    };
    let ring = Ring::map(asked.cpu, O_NONBLOCK).map_err(|e| format!("cpu {}: {e}", asked.cpu))?;
    let mut reader = ring.reader().map_err(|e| format!("{e}"))?;
    run(&ring, &mut reader, asked, &mut seen)?;
    Ok(!seen.wrong)
}

fn main(args: Args) -> i32 {
    if args.rest().any(|word| word == "--help") {
        println!("{USAGE}");
        return 0;
    }
    let asked = match asked(args) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("trace-reader: {why}; {USAGE}");
            return 2;
        }
    };
    match follow(&asked) {
        Ok(good) => i32::from(!good),
        Err(why) => {
            eprintln!("trace-reader: {why}");
            1
        }
    }
}
