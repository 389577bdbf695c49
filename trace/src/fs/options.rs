//! `options/*` and `trace_options`.
//!
//! Linux's `trace_options_write` and `tracing_trace_options_write` (`kernel/trace/trace.c`).

use super::MAX_WORD;
use super::parse::word;
use super::refusal::Refusal;
use crate::errno::Errno;
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::tracer::{Instance, Tracer};
use core::fmt::{self, Write};

/// All options, one a line; `no` before one that is off.
pub(super) fn print<P: Platform>(instance: &Instance<P>, out: &mut dyn Write) -> fmt::Result {
    TraceOption::ALL.into_iter().try_for_each(|option| {
        let no = if instance.option(option) { "" } else { "no" };
        writeln!(out, "{no}{}", option.name())
    })
}

/// The name of an option, with `no` before it to switch it off.
pub(super) fn write<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    data: &[u8],
) -> Result<(), Refusal> {
    if data.len() >= MAX_WORD {
        return Err(Errno::EINVAL.into());
    }
    let word = word(data)?;
    let (on, name) = match word.strip_prefix("no") {
        Some(name) => (false, name),
        None => (true, word),
    };
    let option = TraceOption::parse(name).ok_or(Errno::EINVAL)?;
    set(tracer, instance, option, on)
}

/// Switches an option on or off.
pub(super) fn set<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    option: TraceOption,
    on: bool,
) -> Result<(), Refusal> {
    match option {
        TraceOption::Persist => tracer.set_persistent(instance, on)?,
        _ => instance.set_option(option, on),
    }
    Ok(())
}
