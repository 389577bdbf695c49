//! Records of the events that no kernel declares: markers, stacks, and what tracers record of their own.

use super::printed::{Payload, Symbols};
use super::{
    COMMON_SIZE, FUNCTION_ID, HWLAT_ID, PRINT_ID, RAW_DATA_ID, STACK_ID, write_bytes, write_hwlat,
};
use core::fmt::{self, Write};

/// Where the callers stand in a record of `ftrace:kernel_stack`: after the common fields and their number, aligned.
pub(crate) const STACK_AT: usize = COMMON_SIZE + 8;

/// Writes a record of event `id`, where that is one of these, without the newline of a line; `symbols` names functions.
pub(crate) fn write_own<B: Payload + ?Sized>(
    id: u16,
    payload: &B,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> Option<fmt::Result> {
    Some(match id {
        PRINT_ID => write_marker(payload, out),
        RAW_DATA_ID => write_raw_marker(payload, out),
        STACK_ID => write_stack(payload, symbols, out),
        FUNCTION_ID => write_function(payload, symbols, out),
        HWLAT_ID => write_hwlat(payload, out),
        _ => return None,
    })
}

fn write_marker<B: Payload + ?Sized>(payload: &B, out: &mut dyn Write) -> fmt::Result {
    out.write_str("tracing_mark_write: ")?;
    let at = COMMON_SIZE + 8;
    let len = payload.size().saturating_sub(at);
    let written = payload.with_text(at, len, &mut |text| {
        write_bytes(out, text.strip_suffix(b"\n").unwrap_or(text))
    });
    written.unwrap_or(Ok(()))
}

fn write_raw_marker<B: Payload + ?Sized>(payload: &B, out: &mut dyn Write) -> fmt::Result {
    let id = payload.unsigned(COMMON_SIZE, 4).unwrap_or(0);
    write!(out, "# {id:x} buf:")?;
    for at in COMMON_SIZE + 4..payload.size() {
        let byte = payload.unsigned(at, 1).unwrap_or(0);
        write!(out, " {byte:02x}")?;
    }
    Ok(())
}

/// The addresses from `at` on.
fn addresses<B: Payload + ?Sized>(payload: &B, at: usize) -> impl Iterator<Item = u64> {
    (at..).step_by(8).map_while(|at| payload.unsigned(at, 8))
}

fn write_stack<B: Payload + ?Sized>(
    payload: &B,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> fmt::Result {
    out.write_str("<stack trace>")?;
    for caller in addresses(payload, STACK_AT) {
        out.write_str("\n => ")?;
        symbols.caller(caller, out)?;
    }
    Ok(())
}

fn write_function<B: Payload + ?Sized>(
    payload: &B,
    symbols: &mut dyn Symbols,
    out: &mut dyn Write,
) -> fmt::Result {
    for (i, place) in addresses(payload, COMMON_SIZE).take(2).enumerate() {
        out.write_str(if i > 0 { " <-" } else { "" })?;
        symbols.caller(place, out)?;
    }
    Ok(())
}
