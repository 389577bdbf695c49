//! A line of the kernel's `trace`, of an event in a mapped ring.

use super::MappedEvent;
use super::format::Format;
use crate::text::{write_place, write_time};
use core::fmt::{self, Write};

/// What a reader knows of the ring that it reads.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The CPU whose ring it is.
    pub cpu: usize,
    /// Whether times are in nanoseconds: [`ClockId::in_ns`](crate::clock::ClockId::in_ns).
    pub in_ns: bool,
}

impl Line {
    /// Writes an event as the kernel's `trace` has it (with `irq-info`), with the end of the line. `task` is its task's name, as
    /// `saved_cmdlines` has it; `format` its format, if it is known.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(
        &self,
        event: &MappedEvent<'_>,
        format: Option<&Format>,
        task: &str,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let common = event.record.common().unwrap_or_default();
        write_place(task, self.cpu, &common, true, out)?;
        write_time(event.ts, self.in_ns, out)?;
        match format {
            Some(format) => format.print(event.record, out)?,
            None => write!(out, "Unknown type {}", common.id)?,
        }
        out.write_char('\n')
    }
}
