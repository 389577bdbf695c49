//! tracefs: the files under `/sys/kernel/tracing`, as text that is read and written.
//!
//! Paths are relative to that directory, without a leading slash; `""` is the directory itself. What each file says
//! and takes follows Linux's `kernel/trace/trace.c` and `trace_events.c`; where Baton differs:
//!
//! - a write that is refused has changed nothing (Linux: a truncating write to `set_event` has already cleared it, and the words
//!   before the wrong one have taken effect);
//! - `trace_marker` makes one event of each line, and of each 1024 bytes of a longer line, so that nothing is cut off.

mod node;
mod set_event;

pub use node::Kind;
use node::Node;

use crate::clock::ClockId;
use crate::errno::Errno;
use crate::event::{self, EventDesc};
use crate::page;
use crate::platform::Platform;
use crate::ring::ReserveError;
use crate::text;
use crate::tracer::{NOP, Tracer};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The text of `README`.
const README: &str = "\
tracing mini-HOWTO of Baton: the files work as in Linux's tracefs.

  echo 0 > tracing_on                       stops recording; echo 1 goes on
  echo 1 > events/enable                    records every event
  echo 'irq:*' > set_event                  records these events only; >> adds, !irq:* takes away
  cat trace                                 shows the buffers and leaves them as they are
  echo > trace                              empties them
  echo text > trace_marker                  puts a text into the trace

 files:
  tracing_on current_tracer available_tracers trace trace_marker trace_clock
  available_events set_event buffer_size_kb buffer_total_size_kb README
  events/enable events/header_page events/header_event
  events/<system>/enable events/<system>/<event>/{enable,format,id}
  per_cpu/cpu<N>/{trace,stats,buffer_size_kb}
";

/// The name of an entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// Directory or file.
    pub kind: Kind,
    /// Whether it can be written to.
    pub writable: bool,
}

/// The files of a tracer.
pub struct TraceFs<'a, P: Platform>(pub &'a Tracer<P>);

impl<P: Platform> Clone for TraceFs<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for TraceFs<'_, P> {}

impl<P: Platform> fmt::Debug for TraceFs<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceFs").field(self.0).finish()
    }
}

impl<'a, P: Platform> TraceFs<'a, P> {
    fn resolve(&self, path: &str) -> Result<Node<'a>, Errno> {
        node::resolve(self.0.events(), self.0.nr_cpus(), path)
    }

    /// What is in the directory at `path`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        node::list(self.0.events(), self.0.nr_cpus(), self.resolve(path)?)
    }

    /// What is at `path`: its kind, and whether it can be read and written.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn kind(&self, path: &str) -> Result<(Kind, bool, bool), Errno> {
        let node = self.resolve(path)?;
        Ok((node.kind(), node.readable(), node.writable()))
    }

    /// Writes the content of the file at `path` to `out`. If `out` answers with an error, it has had enough: that ends the
    /// call, with success.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR`; `EINVAL` for a file that cannot be read.
    pub fn read(&self, path: &str, out: &mut dyn Write) -> Result<(), Errno> {
        let node = self.resolve(path)?;
        if node.kind() == Kind::Dir {
            return Err(Errno::EISDIR);
        }
        if !node.readable() {
            return Err(Errno::EINVAL);
        }
        // See above for what an error means.
        let _ = self.print(node, out);
        Ok(())
    }

    fn print(&self, node: Node<'a>, out: &mut dyn Write) -> fmt::Result {
        let tracer = self.0;
        match node {
            Node::TracingOn => writeln!(out, "{}", u8::from(tracer.tracing_on())),
            Node::CurrentTracer => writeln!(out, "{}", tracer.current_tracer()),
            Node::AvailableTracers => writeln!(out, "{NOP}"),
            Node::AvailableEvents => list_events(tracer.events(), |_| true, out),
            Node::SetEvent => list_events(tracer.events(), EventDesc::enabled, out),
            Node::TraceClock => {
                for (i, clock) in ClockId::ALL.into_iter().enumerate() {
                    let space = if i > 0 { " " } else { "" };
                    let name = clock.name();
                    if clock == tracer.clock() {
                        write!(out, "{space}[{name}]")?;
                    } else {
                        write!(out, "{space}{name}")?;
                    }
                }
                out.write_char('\n')
            }
            Node::BufferSize(None) => {
                let mut sizes = (0..tracer.nr_cpus()).filter_map(|cpu| tracer.size_kb(cpu));
                let first = sizes.next().unwrap_or(0);
                if sizes.all(|size| size == first) {
                    writeln!(out, "{first}")
                } else {
                    out.write_str("X\n")
                }
            }
            Node::BufferSize(Some(cpu)) => writeln!(out, "{}", tracer.size_kb(cpu).unwrap_or(0)),
            Node::BufferTotal => {
                let sizes = (0..tracer.nr_cpus()).filter_map(|cpu| tracer.size_kb(cpu));
                writeln!(out, "{}", sizes.fold(0u64, u64::saturating_add))
            }
            Node::Trace(cpu) => text::write_trace(tracer, tracer.top(), cpu, out),
            Node::Stats(cpu) => self.print_stats(cpu, out),
            Node::Readme => out.write_str(README),
            Node::HeaderPage => {
                let size = tracer.buffer(0).map_or(4096, |buffer| buffer.page_size());
                page::write_header_page(size, out)
            }
            Node::HeaderEvent => page::write_header_event(out),
            Node::Enable(system) => {
                let mut of_system = tracer
                    .events()
                    .iter()
                    .filter(|event| system.is_none_or(|system| event.system == system));
                let first = of_system.next().map(|event| event.enabled());
                out.write_str(match first {
                    Some(first) if of_system.any(|event| event.enabled() != first) => "X\n",
                    Some(true) => "1\n",
                    Some(false) => "0\n",
                    None => "?\n",
                })
            }
            Node::EventEnable(event) => writeln!(out, "{}", u8::from(event.enabled())),
            Node::EventFormat(event) => event::write_format(event, out),
            Node::EventId(event) => writeln!(out, "{}", event.id()),
            Node::MarkerFormat => event::write_marker_format(out),
            Node::MarkerId => writeln!(out, "{}", event::PRINT_ID),
            Node::TraceMarker | Node::Dir(_) => Ok(()),
        }
    }

    /// Linux's `tracing_stats_read`.
    fn print_stats(&self, cpu: usize, out: &mut dyn Write) -> fmt::Result {
        let tracer = self.0;
        let Some(stats) = tracer.stats(cpu) else {
            return Ok(());
        };
        writeln!(out, "entries: {}", stats.entries)?;
        writeln!(out, "overrun: {}", stats.overrun)?;
        writeln!(out, "commit overrun: {}", stats.commit_overrun)?;
        writeln!(out, "bytes: {}", stats.bytes)?;
        for (name, ts) in [
            ("oldest event ts", stats.oldest_ts),
            ("now ts", tracer.peek_now()),
        ] {
            if tracer.clock().in_ns() {
                let us = ts / 1000;
                writeln!(out, "{name}: {:5}.{:06}", us / 1_000_000, us % 1_000_000)?;
            } else {
                writeln!(out, "{name}: {ts}")?;
            }
        }
        writeln!(out, "dropped events: {}", stats.dropped_events)?;
        writeln!(out, "read events: {}", stats.read_events)
    }

    /// Writes `data` to the file at `path`. `truncate` says that the file was opened as by `>`, not by `>>`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR`; `EINVAL` for a file that cannot be written and for wrong data; `ERANGE` for a number that is
    /// too large; `ENOMEM` for a buffer size that cannot be had; `EBUSY` where a write to the buffer does not end; `EBADF`
    /// for `trace_marker` while `tracing_on` is 0. After an error nothing has changed.
    pub fn write(&self, path: &str, data: &[u8], truncate: bool) -> Result<(), Errno> {
        let tracer = self.0;
        let node = self.resolve(path)?;
        if node.kind() == Kind::Dir {
            return Err(Errno::EISDIR);
        }
        match node {
            Node::TracingOn => {
                tracer.set_tracing_on(number(data)? != 0);
                Ok(())
            }
            Node::CurrentTracer => match word(data)? {
                NOP => Ok(()),
                _ => Err(Errno::EINVAL),
            },
            Node::TraceClock => {
                let clock = ClockId::parse(word(data)?).ok_or(Errno::EINVAL)?;
                Ok(tracer.set_clock(clock)?)
            }
            Node::SetEvent => set_event::write(tracer.events(), data, truncate),
            Node::BufferSize(cpu) => Ok(tracer.resize(cpu, number(data)?)?),
            Node::Trace(cpu) => {
                if truncate {
                    tracer.clear(cpu)?;
                }
                Ok(())
            }
            Node::TraceMarker => self.mark(data),
            Node::Enable(system) => {
                let on = switch(data)?;
                for event in tracer.events() {
                    if system.is_none_or(|system| event.system == system) {
                        event.set_enabled(on);
                    }
                }
                Ok(())
            }
            Node::EventEnable(event) => {
                event.set_enabled(switch(data)?);
                Ok(())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn mark(&self, data: &[u8]) -> Result<(), Errno> {
        if data.is_empty() {
            return Ok(());
        }
        if !self.0.tracing_on() {
            return Err(Errno::EBADF);
        }
        let data = data.strip_suffix(b"\n").unwrap_or(data);
        for mut line in data.split(|b| *b == b'\n') {
            loop {
                let (part, rest) = split_text(line);
                match self.0.mark(part) {
                    Ok(()) => {}
                    Err(ReserveError::TooLarge { .. }) => return Err(Errno::EINVAL),
                    // It is counted as dropped.
                    Err(_) => return Err(Errno::EBUSY),
                }
                if rest.is_empty() {
                    break;
                }
                line = rest;
            }
        }
        Ok(())
    }
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

fn list_events(
    events: &[&EventDesc],
    mut chosen: impl FnMut(&EventDesc) -> bool,
    out: &mut dyn Write,
) -> fmt::Result {
    for event in events {
        if chosen(event) {
            writeln!(out, "{}:{}", event.system, event.name)?;
        }
    }
    Ok(())
}

/// The text without white space around it.
fn word(data: &[u8]) -> Result<&str, Errno> {
    Ok(core::str::from_utf8(data)
        .map_err(|_| Errno::EINVAL)?
        .trim())
}

/// A decimal number, as Linux's `kstrtoul`: a sign `+` may stand before it, nothing but white space around it.
fn number(data: &[u8]) -> Result<u64, Errno> {
    let text = word(data)?;
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    digits.parse().map_err(|_| Errno::ERANGE)
}

/// `0` or `1`.
fn switch(data: &[u8]) -> Result<bool, Errno> {
    match number(data)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}
