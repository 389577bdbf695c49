//! `trace_marker` and `trace_marker_raw`: what people write into the trace.
//!
//! Linux's `tracing_mark_write` and `tracing_mark_raw_write` (`kernel/trace/trace.c`).

use crate::errno::Errno;
use crate::event;
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::ring::ReserveError;
use crate::tracer::Instance;

/// Bytes of the number that a raw marker begins with.
const ID_SIZE: usize = 4;

/// Whether markers are taken now: `EINVAL` where `options/markers` is off, `EBADF` while nothing is recorded.
fn taken<P: Platform>(instance: &Instance<P>) -> Result<(), Errno> {
    if !instance.option(TraceOption::Markers) {
        return Err(Errno::EINVAL);
    }
    if !instance.tracing_on() {
        return Err(Errno::EBADF);
    }
    Ok(())
}

fn refused(error: ReserveError) -> Errno {
    match error {
        ReserveError::TooLarge { .. } => Errno::EINVAL,
        // It is counted as dropped.
        _ => Errno::EBADF,
    }
}

/// One event of each line.
pub(super) fn mark<P: Platform>(instance: &Instance<P>, data: &[u8]) -> Result<(), Errno> {
    if data.is_empty() {
        return Ok(());
    }
    taken(instance)?;
    let data = data.strip_suffix(b"\n").unwrap_or(data);
    for mut line in data.split(|b| *b == b'\n') {
        loop {
            let (part, rest) = split_text(line);
            instance.mark(part).map_err(refused)?;
            if rest.is_empty() {
                break;
            }
            line = rest;
        }
    }
    Ok(())
}

/// One event of the whole write, which begins with its number.
pub(super) fn mark_raw<P: Platform>(instance: &Instance<P>, data: &[u8]) -> Result<(), Errno> {
    if data.is_empty() {
        return Ok(());
    }
    if !instance.option(TraceOption::Markers) || data.len() < ID_SIZE {
        return Err(Errno::EINVAL);
    }
    taken(instance)?;
    instance.mark_raw(data).map_err(refused)
}

/// The first [`event::MAX_STRING`] bytes, not split within a UTF-8 character, and the rest.
fn split_text(text: &[u8]) -> (&[u8], &[u8]) {
    if text.len() <= event::MAX_STRING {
        return (text, &[]);
    }
    let mut at = event::MAX_STRING;
    // A character has at most three continuation bytes; more is not UTF-8.
    while at > event::MAX_STRING - 3 && text[at] & 0xc0 == 0x80 {
        at -= 1;
    }
    text.split_at(at)
}
