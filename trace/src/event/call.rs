//! The events of system calls, one pair for each call, as the `trace` file shows them: not by their print formats.
//!
//! Sources: `print_syscall_enter` and `print_syscall_exit` in Linux's `kernel/trace/trace_syscalls.c` (from 6.19 on: before, arguments
//! had no `0x`).

use super::EventDesc;
use super::format::{View, views};
use super::printed::{Payload, int_at};
use core::fmt::{self, Write};

/// The field that such an event has first, and no other event.
const NUMBER: &str = "__syscall_nr";

/// Writes a record of a declared event, where that is one of these.
pub(crate) fn write_declared_call(
    event: &EventDesc,
    payload: &[u8],
    out: &mut dyn Write,
) -> Option<fmt::Result> {
    write_call(event.name, views(event), payload, out)
}

/// Writes a record of the event `name`, which has these fields beside the common ones, where that is one of these.
pub(crate) fn write_call<'v, B: Payload + ?Sized>(
    name: &str,
    mut fields: impl Iterator<Item = View<'v>>,
    payload: &B,
    out: &mut dyn Write,
) -> Option<fmt::Result> {
    let (call, starts) = match name.strip_prefix("sys_enter_") {
        Some(call) => (call, true),
        None => (name.strip_prefix("sys_exit_")?, false),
    };
    fields.next().filter(|field| field.name == NUMBER)?;
    Some(match starts {
        true => write_enter(call, fields, payload, out),
        false => write_exit(call, fields.next(), payload, out),
    })
}

fn value<B: Payload + ?Sized>(field: &View<'_>, payload: &B) -> Option<u64> {
    int_at(payload, field.offset, field.size, field.signed)
}

fn write_enter<'v, B: Payload + ?Sized>(
    call: &str,
    fields: impl Iterator<Item = View<'v>>,
    payload: &B,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, "sys_{call}(")?;
    for (i, field) in fields.enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(out, "{comma}{}: ", field.name)?;
        match value(&field, payload) {
            Some(digit @ ..10) => write!(out, "{digit}")?,
            Some(value) => write!(out, "{value:#x}")?,
            None => out.write_str("<OVERFLOW>")?,
        }
    }
    out.write_char(')')
}

fn write_exit<B: Payload + ?Sized>(
    call: &str,
    ret: Option<View<'_>>,
    payload: &B,
    out: &mut dyn Write,
) -> fmt::Result {
    write!(out, "sys_{call} -> ")?;
    match ret.and_then(|ret| value(&ret, payload)) {
        Some(ret) => write!(out, "{ret:#x}"),
        None => out.write_str("<OVERFLOW>"),
    }
}
