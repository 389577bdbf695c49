//! The `trace` file: Linux's text layout.
//!
//! Sources in Linux's `kernel/trace`: `print_event_info` and `print_func_help_header_irq` (`trace.c`), `trace_print_context` and
//! `trace_print_lat_fmt` (`trace_output.c`).
//!
//! Beside Linux's lines stands one where a life of the kernel begins: `#### generation 1 (kexec) starts here ####`.

mod line;

pub(crate) use line::{Times as LineTimes, in_usecs, write_place, write_time};

use crate::event::{
    EventDesc, Known, NoSymbols, PRINT, PRINT_ID, Symbols, write_declared_call, write_fields,
    write_foreign, write_known, write_own,
};
use crate::options::TraceOption;
use crate::page::Missed;
use crate::platform::Platform;
use crate::ring::{CpuBuffer, CpuIter, Entry};
use crate::tracer::{Boundary, Instance, Longest, Tracer, split};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use line::{Times, write_context, write_header};

/// The event that a CPU's iterator stands at: its payload is copied out, so that the iterators can be merged.
struct Pending {
    ts: u64,
    lost: Missed,
    payload: Vec<u8>,
}

/// The events of one CPU, the oldest first.
pub(crate) trait Events {
    /// The next one; `None` at the end.
    fn next(&mut self) -> Option<Entry<'_>>;
}

impl<P: Platform> Events for CpuIter<'_, P> {
    fn next(&mut self) -> Option<Entry<'_>> {
        CpuIter::next(self)
    }
}

struct Source<I> {
    cpu: usize,
    iter: I,
    next: Option<Pending>,
    /// Of the event before the next: it serves again, so that memory stays bounded, however long the trace.
    spare: Vec<u8>,
    /// An event of it was printed already.
    started: bool,
}

impl<I: Events> Source<I> {
    fn new(cpu: usize, iter: I) -> Self {
        Source {
            cpu,
            iter,
            next: None,
            spare: Vec::new(),
            started: false,
        }
    }

    /// Takes the next event, and looks at the one after it.
    fn advance(&mut self) -> Option<Pending> {
        let current = self.next.take();
        let mut payload = core::mem::take(&mut self.spare);
        payload.clear();
        let mut lost = Missed::None;
        while let Some(entry) = self.iter.next() {
            lost = lost.plus(entry.lost);
            // Without memory for its copy, the event cannot be shown, and is told like a lost one; the trace goes on.
            if payload.try_reserve(entry.payload.len()).is_err() {
                lost = lost.plus(Missed::Count(1));
                continue;
            }
            payload.extend_from_slice(entry.payload);
            self.next = Some(Pending {
                ts: entry.ts,
                lost,
                payload,
            });
            break;
        }
        current
    }
}

/// Writes the trace of one CPU of `instance`, or of all merged by time, as it is when the call begins.
///
/// # Errors
///
/// That of `out`, at once.
pub fn write_trace<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    if instance.keeps_max() {
        // To the end of this call: what is shown is one latency.
        let reader = tracer.read_longest();
        let longest = reader.longest();
        let shown = Shown {
            start: longest.as_ref().map(|longest| longest.start),
            longest,
            ..Shown::all(tracer, instance)
        };
        let found = look(instance, cpu, Instance::snapshot_buffer);
        return write_found(tracer, instance, cpu, shown, found, out);
    }
    let found = look(instance, cpu, Instance::buffer);
    write_found(
        tracer,
        instance,
        cpu,
        Shown::all(tracer, instance),
        found,
        out,
    )
}

/// The same of the instance's snapshot.
///
/// # Errors
///
/// That of `out`, at once.
pub fn write_snapshot<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let found = look(instance, cpu, Instance::snapshot_buffer);
    write_found(
        tracer,
        instance,
        cpu,
        Shown::all(tracer, instance),
        found,
        out,
    )
}

/// What of the buffers is shown, and how.
pub(crate) struct Shown<'a> {
    /// The events from then on, in units of the clock.
    start: Option<u64>,
    /// The latency that the head tells of.
    longest: Option<Longest>,
    /// The tracer's name, and the kernel's release.
    tracer: &'a str,
    release: &'a str,
    /// The bytes of an event of an unknown number, too.
    bytes: bool,
}

impl Shown<'static> {
    /// All of it, by this kernel.
    fn all<P: Platform>(tracer: &Tracer<P>, instance: &Instance<P>) -> Self {
        Shown {
            start: None,
            longest: None,
            tracer: tracer.tracer_of(instance),
            release: env!("CARGO_PKG_VERSION"),
            bytes: false,
        }
    }
}

impl<'a> Shown<'a> {
    /// All of what a kernel of that release left, whose tracer was that one.
    pub(crate) fn left(tracer: &'a str, release: &'a str, bytes: bool) -> Self {
        Shown {
            start: None,
            longest: None,
            tracer,
            release,
            bytes,
        }
    }
}

/// The buffers at the begin of the call.
pub(crate) struct Found<I> {
    sources: Vec<Source<I>>,
    /// CPUs without memory for one page's copy.
    not_shown: Vec<usize>,
    entries: u64,
    /// Unknown of a life before, where any are gone.
    written: Option<u64>,
    /// Events were overwritten.
    overrun: bool,
}

impl<I: Events> Found<I> {
    /// `events` of each CPU, `entries` in all; those before them were overwritten, if `overrun`. `all`: nothing else was ever to be written.
    pub(crate) fn left(events: Vec<(usize, I)>, entries: u64, overrun: bool, all: bool) -> Self {
        let sources = events.into_iter().map(|(cpu, iter)| Source::new(cpu, iter));
        Found {
            sources: sources.collect(),
            not_shown: Vec::new(),
            entries,
            written: all.then_some(entries),
            overrun,
        }
    }
}

fn look<'t, P: Platform>(
    instance: &'t Instance<P>,
    cpu: Option<usize>,
    buffer_of: impl Fn(&'t Instance<P>, usize) -> Option<&'t CpuBuffer<P>>,
) -> Found<CpuIter<'t, P>> {
    let chosen = match cpu {
        Some(cpu) => cpu..cpu + 1,
        None => 0..instance.nr_cpus(),
    };
    let mut found = Found {
        sources: Vec::new(),
        not_shown: Vec::new(),
        entries: 0,
        written: None,
        overrun: false,
    };
    let mut written = 0;
    for cpu in chosen {
        let Some(buffer) = buffer_of(instance, cpu) else {
            continue;
        };
        let stats = buffer.stats();
        found.entries += stats.entries;
        // As in Linux: without what was consumed.
        written += stats.entries + stats.overrun;
        found.overrun |= stats.overrun > 0;
        let Ok(iter) = buffer.iter() else {
            found.not_shown.push(cpu);
            continue;
        };
        found.sources.push(Source::new(cpu, iter));
    }
    found.written = Some(written);
    found
}

/// Writes what was found.
pub(crate) fn write_found<P: Platform, I: Events>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    shown: Shown<'_>,
    found: Found<I>,
    out: &mut dyn Write,
) -> fmt::Result {
    let Found {
        mut sources,
        not_shown,
        mut entries,
        mut written,
        overrun,
    } = found;
    for cpu in not_shown {
        writeln!(out, "# CPU:{cpu} not shown: out of memory")?;
    }
    let mut skipped = false;
    write!(out, "# tracer: {}\n#\n", shown.tracer)?;
    for source in &mut sources {
        source.advance();
        let start = shown.start.unwrap_or(0);
        while source.next.as_ref().is_some_and(|next| next.ts < start) {
            source.advance();
            entries = entries.saturating_sub(1);
            skipped = true;
        }
    }
    if skipped {
        // As in Linux (`get_total_entries`).
        written = Some(entries);
    }
    write_header(tracer, instance, cpu, &shown, (entries, written), out)?;
    // Linux tells where a buffer begins only if any has lost events, and not for the first line of all.
    let annotate = overrun && instance.option(TraceOption::Annotate);
    let boundaries = instance.boundaries();
    let mut boundaries = boundaries.iter().peekable();
    let mut first = true;
    loop {
        let soonest = sources
            .iter_mut()
            .filter(|source| source.next.is_some())
            .min_by_key(|source| source.next.as_ref().map_or(u64::MAX, |next| next.ts));
        let Some(source) = soonest else {
            break;
        };
        let (cpu, started) = (source.cpu, core::mem::replace(&mut source.started, true));
        let Some(next) = source.advance() else {
            break;
        };
        // Before the first event only the last: it says whose event that is. What came before it was overwritten.
        let mut passed: Option<&Boundary> = None;
        while let Some(boundary) = boundaries.next_if(|b| b.start <= next.ts) {
            if let Some(boundary) = passed.replace(boundary).filter(|_| !first) {
                write_boundary(boundary, out)?;
            }
        }
        if let Some(boundary) = passed {
            write_boundary(boundary, out)?;
        }
        write_lost(cpu, next.lost, out)?;
        if annotate && !started && !first {
            writeln!(out, "##### CPU {cpu} buffer started ####")?;
        }
        first = false;
        let coming = sources.iter().filter_map(|s| s.next.as_ref());
        let times = Times {
            ts: next.ts,
            next: coming.map(|next| next.ts).min(),
            start: shown.start.unwrap_or_else(|| instance.cleared_at()),
        };
        write_line(
            tracer,
            instance,
            cpu,
            times,
            &next.payload,
            shown.bytes,
            out,
        )?;
        if let Some(source) = sources.iter_mut().find(|source| source.cpu == cpu) {
            source.spare = next.payload;
        }
    }
    // Lives that have recorded nothing yet; in an empty trace there is nothing to set apart.
    boundaries
        .filter(|_| !first)
        .try_for_each(|boundary| write_boundary(boundary, out))
}

pub(crate) fn write_boundary(boundary: &Boundary, out: &mut dyn Write) -> fmt::Result {
    let generation = boundary.generation;
    writeln!(out, "#### generation {generation} (kexec) starts here ####")
}

/// The line that tells of events lost before the next one of `cpu`, if any were.
pub(crate) fn write_lost(cpu: usize, lost: Missed, out: &mut dyn Write) -> fmt::Result {
    match lost {
        Missed::None => Ok(()),
        Missed::Unknown => writeln!(out, "CPU:{cpu} [LOST EVENTS]"),
        Missed::Count(n) => writeln!(out, "CPU:{cpu} [LOST {n} EVENTS]"),
    }
}

/// A record of `ftrace:print` without the newline and the NULs that its text ends in.
fn without_newline(payload: &[u8]) -> &[u8] {
    let end = payload.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let text = &payload[..end];
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// This kernel's functions.
struct Own<'a, P>(&'a P);

impl<P: Platform> Symbols for Own<'_, P> {
    fn caller(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.symbol(address, out)
    }

    fn function(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.function(address, out)
    }

    fn place(&mut self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.place(address, out)
    }
}

/// Writes the line of one event.
///
/// # Errors
///
/// That of `out`.
pub(crate) fn write_entry<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: usize,
    times: Times,
    payload: &[u8],
    out: &mut dyn Write,
) -> fmt::Result {
    write_line(tracer, instance, cpu, times, payload, false, out)
}

/// The same; with `bytes`, those of an event of an unknown number are shown, too.
fn write_line<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: usize,
    times: Times,
    payload: &[u8],
    bytes: bool,
    out: &mut dyn Write,
) -> fmt::Result {
    let common = split(payload).unwrap_or_default();
    if instance.option(TraceOption::ContextInfo) {
        write_context(tracer, instance, cpu, times, &common, out)?;
    }
    let fields = instance.option(TraceOption::Fields);
    let mut own;
    let symbols: &mut dyn Symbols = match times.ts >= instance.build_since() {
        true => {
            own = Own(tracer.platform());
            &mut own
        }
        // In another build, something else lies there.
        false => &mut NoSymbols,
    };
    let by_fields = |desc: &EventDesc, payload: &[u8], out: &mut dyn Write| {
        write!(out, "{}:", desc.name)?;
        write_fields(desc, payload, out)
    };
    match tracer.event_by_id(common.id) {
        Some(Known::Declared(desc)) if fields => by_fields(desc, payload, out)?,
        _ if fields && common.id == PRINT_ID => by_fields(&PRINT, without_newline(payload), out)?,
        known => match write_own(common.id, payload, symbols, out) {
            Some(written) => written?,
            None => match known {
                Some(Known::Declared(desc)) => match write_declared_call(desc, payload, out) {
                    Some(written) => written?,
                    None => {
                        write!(out, "{}: ", desc.name)?;
                        write_known(desc, payload, symbols, out)?;
                    }
                },
                Some(Known::Foreign(event)) => write_foreign(event, payload, symbols, out)?,
                None => {
                    write!(out, "Unknown type {}", common.id)?;
                    if bytes {
                        let own = payload.get(crate::event::COMMON_SIZE..).unwrap_or(&[]);
                        out.write_str(" buf:")?;
                        own.iter().try_for_each(|byte| write!(out, " {byte:02x}"))?;
                    }
                }
            },
        },
    }
    out.write_char('\n')
}
