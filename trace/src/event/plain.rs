//! A record printed by its fields, without its print format: of an event that this kernel does not know, and of any with
//! `options/fields`.
//!
//! Source: `print_fields` in Linux's `trace_output.c`.

use super::format::{View, views};
use super::printed::{Payload, int_at, mask, with_text_of, write_array, write_bytes};
use super::{COMMON_SIZE, EventDesc, Kind};
use core::fmt::{self, Write};

/// Writes a record by these fields, which its own kernel described.
pub(crate) fn write_unknown<'v, B: Payload + ?Sized>(
    fields: impl Iterator<Item = View<'v>>,
    payload: &B,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut fields = fields.peekable();
    if fields.peek().is_none() {
        return write!(out, " [unknown format, {} bytes]", payload.size());
    }
    fields.try_for_each(|field| write_field(&field, payload, out))
}

/// Writes a record of `event` by its fields.
pub(crate) fn write_fields(event: &EventDesc, payload: &[u8], out: &mut dyn Write) -> fmt::Result {
    if event.fields.is_empty() {
        return out.write_str("No fields found");
    }
    views(event).try_for_each(|field| write_field(&field, payload, out))
}

fn write_field<B: Payload + ?Sized>(
    view: &View<'_>,
    payload: &B,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, " {}=", view.name)?;
    match view.kind {
        Kind::Int => match int_at(payload, view.offset, view.size, view.signed) {
            Some(value) if view.signed => {
                write!(out, "0x{:x} ({})", mask(value, view), value as i64)
            }
            Some(value) => write!(out, "0x{value:x} ({value})"),
            None => out.write_str("<OVERFLOW>"),
        },
        Kind::Array(each) | Kind::Dynamic(each) => write_array(out, view, each, payload),
        _ => {
            let written = with_text_of(payload, view, &mut |text| write_bytes(out, text));
            written.unwrap_or_else(|| out.write_str("<OVERFLOW>"))
        }
    }
}

/// Writes what a record of `ftrace:hwlat` tells, as Linux's `trace_hwlat_print` does.
pub(crate) fn write_hwlat<B: Payload + ?Sized>(payload: &B, out: &mut dyn Write) -> fmt::Result {
    let part = |at, size| payload.unsigned(COMMON_SIZE + at, size).unwrap_or(0);
    let (word, half) = (|at| part(at, 8), |at| part(at, 4));
    let (inner, outer, nmi_us, seconds, nanos) = (word(0), word(8), word(16), word(24), word(32));
    let (nmis, number, count) = (half(40), half(44), half(48));
    write!(
        out,
        "#{number:<5} inner/outer(us): {inner:4}/{outer:<5} ts:{seconds}.{nanos:09} count:{count}"
    )?;
    match nmis {
        0 => Ok(()),
        nmis => write!(out, " nmi-total:{nmi_us} nmi-count:{nmis}"),
    }
}
