//! Sizes and counters of the buffers.

use super::parse::number;
use super::refusal::Refusal;
use crate::errno::Errno;
use crate::platform::Platform;
use crate::tracer::Instance;
use core::fmt::{self, Write};

/// `buffer_size_kb`: of one CPU, or of all; `X` where those differ.
pub(super) fn print_size<P: Platform>(
    instance: &Instance<P>,
    cpu: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let chosen = cpu.map_or(0..instance.nr_cpus(), |cpu| cpu..cpu + 1);
    let mut sizes = chosen.filter_map(|cpu| instance.size_kb(cpu));
    let first = sizes.next().unwrap_or(0);
    if sizes.all(|size| size == first) {
        writeln!(out, "{first}")
    } else {
        out.write_str("X\n")
    }
}

/// `buffer_total_size_kb`.
pub(super) fn print_total<P: Platform>(instance: &Instance<P>, out: &mut dyn Write) -> fmt::Result {
    let sizes = (0..instance.nr_cpus()).filter_map(|cpu| instance.size_kb(cpu));
    writeln!(out, "{}", sizes.fold(0u64, u64::saturating_add))
}

/// Bytes of a sub-buffer.
pub(super) fn sub_buffer_bytes<P: Platform>(instance: &Instance<P>) -> usize {
    let buffer = instance.buffer(0);
    buffer.map_or(4096, |buffer| buffer.page_size())
}

/// `buffer_subbuf_size_kb`: rounded up to a power of two of pages, as in Linux.
pub(super) fn set_sub_buffer<P: Platform>(
    instance: &Instance<P>,
    data: &[u8],
) -> Result<(), Refusal> {
    let kb = number(data)?;
    if kb == 0 {
        return Err(Errno::EINVAL.into());
    }
    let order = kb.div_ceil(4).checked_next_power_of_two().map(u64::ilog2);
    let order = order.and_then(|order| u8::try_from(order).ok());
    Ok(instance.set_subbuf_order(order.ok_or(Errno::EINVAL)?)?)
}

/// `buffer_percent`: 0 to 100.
pub(super) fn set_percent<P: Platform>(instance: &Instance<P>, data: &[u8]) -> Result<(), Errno> {
    match number(data)? {
        percent @ 0..=100 => {
            instance.set_buffer_percent(percent as u8);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `per_cpu/cpuN/stats`: Linux's `tracing_stats_read`.
pub(super) fn print_stats<P: Platform>(
    instance: &Instance<P>,
    cpu: usize,
    out: &mut dyn Write,
) -> fmt::Result {
    let Some(stats) = instance.stats(cpu) else {
        return Ok(());
    };
    writeln!(out, "entries: {}", stats.entries)?;
    writeln!(out, "overrun: {}", stats.overrun)?;
    writeln!(out, "commit overrun: {}", stats.commit_overrun)?;
    writeln!(out, "bytes: {}", stats.bytes)?;
    for (name, ts) in [
        ("oldest event ts", stats.oldest_ts),
        ("now ts", instance.peek_now()),
    ] {
        if instance.clock().in_ns() {
            let us = ts / 1000;
            writeln!(out, "{name}: {:5}.{:06}", us / 1_000_000, us % 1_000_000)?;
        } else {
            writeln!(out, "{name}: {ts}")?;
        }
    }
    writeln!(out, "dropped events: {}", stats.dropped_events)?;
    writeln!(out, "read events: {}", stats.read_events)
}
