//! The `trace` file: Linux's text layout.
//!
//! Sources in Linux's `kernel/trace`: `print_event_info` and `print_func_help_header_irq` (`trace.c`), `trace_print_context` and
//! `trace_print_lat_fmt` (`trace_output.c`).
//!
//! Beside Linux's lines stands one where a life of the kernel begins: `#### generation 1 (kexec) starts here ####`.

use crate::event::{
    self, Common, Known, PRINT_ID, RAW_DATA_ID, STACK_ID, flags, write_bytes, write_foreign,
    write_known,
};
use crate::options::TraceOption;
use crate::page::Missed;
use crate::platform::Platform;
use crate::ring::{CpuBuffer, CpuIter};
use crate::tracer::{Boundary, Instance, STACK_AT, Tracer, split};
use alloc::vec::Vec;
use core::fmt::{self, Write};

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

/// The event that a CPU's iterator stands at: its payload is copied out, so that the iterators can be merged.
struct Pending {
    ts: u64,
    lost: Missed,
    payload: Vec<u8>,
}

struct Source<'t, P: Platform> {
    cpu: usize,
    iter: CpuIter<'t, P>,
    next: Option<Pending>,
    /// An event of it was printed already.
    started: bool,
}

impl<P: Platform> Source<'_, P> {
    fn advance(&mut self) {
        // The buffer of the event before serves again: a bounded amount of memory, however long the trace.
        let mut payload = self.next.take().map(|p| p.payload).unwrap_or_default();
        if let Some(entry) = self.iter.next() {
            payload.clear();
            // Without memory for its copy, the event cannot be shown; the trace goes on.
            if payload.try_reserve(entry.payload.len()).is_ok() {
                payload.extend_from_slice(entry.payload);
            }
            self.next = Some(Pending {
                ts: entry.ts,
                lost: entry.lost,
                payload,
            });
        }
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
    write_buffers(tracer, instance, cpu, Instance::buffer, out)
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
    write_buffers(tracer, instance, cpu, Instance::snapshot_buffer, out)
}

fn write_buffers<'t, P: Platform>(
    tracer: &Tracer<P>,
    instance: &'t Instance<P>,
    cpu: Option<usize>,
    buffer_of: impl Fn(&'t Instance<P>, usize) -> Option<&'t CpuBuffer<P>>,
    out: &mut dyn Write,
) -> fmt::Result {
    let chosen = match cpu {
        Some(cpu) => cpu..cpu + 1,
        None => 0..instance.nr_cpus(),
    };
    let mut entries = 0;
    let mut written = 0;
    let mut overrun = 0;
    let mut sources = Vec::new();
    for cpu in chosen {
        let Some(buffer) = buffer_of(instance, cpu) else {
            continue;
        };
        let stats = buffer.stats();
        entries += stats.entries;
        // As in Linux: without what was consumed.
        written += stats.entries + stats.overrun;
        overrun += stats.overrun;
        // Without memory for one page's copy this CPU's events cannot be shown.
        let Ok(iter) = buffer.iter() else {
            writeln!(out, "# CPU:{cpu} not shown: out of memory")?;
            continue;
        };
        sources.push(Source {
            cpu,
            iter,
            next: None,
            started: false,
        });
    }
    write!(out, "# tracer: {}\n#\n", tracer.current_tracer())?;
    if instance.option(TraceOption::ContextInfo) {
        let cpus = instance.nr_cpus();
        writeln!(
            out,
            "# entries-in-buffer/entries-written: {entries}/{written}   #P:{cpus}\n#"
        )?;
        out.write_str(match instance.option(TraceOption::IrqInfo) {
            true => HEADER_FLAGS,
            false => HEADER,
        })?;
    }
    for source in &mut sources {
        source.advance();
    }
    // Linux tells where a buffer begins only if any has lost events, and not for the first line of all.
    let annotate = overrun > 0 && instance.option(TraceOption::Annotate);
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
        let Some(next) = &source.next else {
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
        write_lost(source.cpu, next.lost, out)?;
        if annotate && !source.started && !first {
            writeln!(out, "##### CPU {} buffer started ####", source.cpu)?;
        }
        source.started = true;
        first = false;
        write_entry(tracer, instance, source.cpu, next.ts, &next.payload, out)?;
        source.advance();
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

/// Writes the line of one event.
///
/// # Errors
///
/// That of `out`.
pub fn write_entry<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: usize,
    ts: u64,
    payload: &[u8],
    out: &mut dyn Write,
) -> fmt::Result {
    let common = split(payload).unwrap_or_default();
    if instance.option(TraceOption::ContextInfo) {
        write_context(tracer, instance, cpu, ts, &common, out)?;
    }
    match tracer.event_by_id(common.id) {
        _ if common.id == PRINT_ID => {
            out.write_str("tracing_mark_write: ")?;
            let text = payload.get(event::COMMON_SIZE + 8..).unwrap_or(&[]);
            let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
            let text = &text[..end];
            write_bytes(out, text.strip_suffix(b"\n").unwrap_or(text))?;
        }
        _ if common.id == STACK_ID => {
            out.write_str("<stack trace>")?;
            let callers = payload.get(STACK_AT..).unwrap_or(&[]);
            for caller in callers.as_chunks().0 {
                out.write_str("\n => ")?;
                tracer.platform().symbol(u64::from_ne_bytes(*caller), out)?;
            }
        }
        _ if common.id == RAW_DATA_ID => {
            let data = payload.get(event::COMMON_SIZE..).unwrap_or(&[]);
            let (id, data) = data.split_first_chunk().unwrap_or((&[0; 4], &[]));
            write!(out, "# {:x} buf:", u32::from_ne_bytes(*id))?;
            for byte in data {
                write!(out, " {byte:02x}")?;
            }
        }
        Some(Known::Declared(desc)) => {
            write!(out, "{}: ", desc.name)?;
            write_known(desc, payload, out)?;
        }
        Some(Known::Foreign(event)) => write_foreign(event, payload, out)?,
        None => write!(out, "Unknown type {}", common.id)?,
    }
    out.write_char('\n')
}

/// What stands before the event's own text.
fn write_context<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: usize,
    ts: u64,
    common: &Common,
    out: &mut dyn Write,
) -> fmt::Result {
    let name = tracer.task_name(common.pid);
    let name = name.as_str();
    write!(out, "{name:>16}-{:<7} [{cpu:03}] ", common.pid)?;
    if instance.option(TraceOption::IrqInfo) {
        write_flags(common, out)?;
    }
    if instance.clock().in_ns() {
        let us = ts / 1000;
        write!(out, " {:5}.{:06}: ", us / 1_000_000, us % 1_000_000)
    } else {
        write!(out, " {ts:12}: ")
    }
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
