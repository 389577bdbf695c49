//! `current_tracer`, `available_tracers`, `tracing_max_latency`, `tracing_thresh`.
//!
//! Linux's `tracing_set_trace_write`, `tracing_nsecs_write` (`kernel/trace/trace.c`). A tracer that measures latencies is the top
//! directory's alone.

use super::parse::{number, word};
use super::refusal::Refusal;
use crate::errno::Errno;
use crate::platform::Platform;
use crate::text::in_usecs;
use crate::tracer::{Instance, Measured, NOP, Tracer};
use core::fmt::{self, Write};

/// Bytes of a tracer's name that are looked at: Linux's `MAX_TRACER_SIZE`.
const MAX_TRACER_NAME: usize = 100;

pub(super) fn print_current<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    out: &mut dyn Write,
) -> fmt::Result {
    writeln!(out, "{}", tracer.tracer_of(instance))
}

pub(super) fn print_available<P: Platform>(
    instance: &Instance<P>,
    out: &mut dyn Write,
) -> fmt::Result {
    for measured in Measured::ALL {
        if instance.is_top() && measured != Measured::Nothing {
            write!(out, "{} ", measured.name())?;
        }
    }
    writeln!(out, "{NOP}")
}

pub(super) fn choose<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    data: &[u8],
) -> Result<(), Refusal> {
    let name = word(&data[..data.len().min(MAX_TRACER_NAME)])?;
    match Measured::parse(name) {
        Some(measured) if instance.is_top() => Ok(tracer.set_measured(measured)?),
        Some(Measured::Nothing) => Ok(()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// A time as files show it: in whole microseconds.
pub(super) fn print_ns(ns: u64, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "{}", in_usecs(ns))
}

/// A time that was written in microseconds.
pub(super) fn nanoseconds(data: &[u8]) -> Result<u64, Errno> {
    number(data)?.checked_mul(1000).ok_or(Errno::ERANGE)
}

/// What `trace` shows is emptied: of a tracer that measures, what it keeps.
pub(super) fn clear<P: Platform>(
    instance: &Instance<P>,
    cpu: Option<usize>,
) -> Result<(), Refusal> {
    match instance.keeps_max() {
        true => Ok(instance.clear_snapshot(cpu)?),
        false => Ok(instance.clear(cpu)?),
    }
}
