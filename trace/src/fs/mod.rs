//! tracefs: the files under `/sys/kernel/tracing`, as text that is read and written.
//!
//! Paths are relative to that directory, without a leading slash; `""` is the directory itself. What each file says
//! and takes follows Linux's `kernel/trace/trace.c` and `trace_events.c`; where Baton differs:
//!
//! - a write that is refused has changed nothing (Linux: a truncating write to `set_event` has already cleared it, and the words
//!   before the wrong one have taken effect);
//! - `trace_marker` makes one event of each line, and of each 1024 bytes of a longer line, so that nothing is cut off;
//! - of Linux's options there are those that have something to change here ([`TraceOption`]);
//! - `trace_pipe_raw` ends as `trace_pipe` does ([`pipe`]).
//!
//! | module | files |
//! | --- | --- |
//! | `node` | which files there are |
//! | `buffer` | sizes, `stats` |
//! | `choose` | `set_event_pid`, `set_event_notrace_pid`, `tracing_cpumask` |
//! | `events` | `set_event`, `events/**` |
//! | `hwlat` | `hwlat_detector/*` |
//! | `latency` | `current_tracer`, `available_tracers`, `tracing_max_latency`, `tracing_thresh` |
//! | `marker` | `trace_marker`, `trace_marker_raw` |
//! | `options` | `options/*`, `trace_options` |
//! | [`pipe`] | `trace_pipe`, `trace_pipe_raw` |
//! | [`raw`] | `trace_pipe_raw`, mapped |
//! | `snapshot` | `snapshot` |

mod buffer;
mod choose;
mod events;
mod hwlat;
mod latency;
mod marker;
mod node;
mod options;
mod parse;
pub mod pipe;
pub mod raw;
mod readme;
mod refusal;
mod snapshot;

pub use node::Kind;
pub use pipe::{Next, Pipe};
pub use raw::RawFile;
pub use refusal::Refusal;

use crate::clock::ClockId;
use crate::errno::Errno;
use crate::event;
use crate::options::TraceOption;
use crate::page;
use crate::platform::Platform;
use crate::text;
use crate::tracer::{Instance, MAX_CMDLINES, Tracer};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use node::{Dir, Node, Own, Place};
use parse::{command, number, strip, switch, word};

/// A clock and an option have fewer bytes.
const MAX_WORD: usize = 64;

/// The name of an entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name.
    pub name: String,
    /// Directory or file.
    pub kind: Kind,
    /// Whether it can be written to; of a directory, whether names can be made and removed in it.
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
    fn resolve(&self, path: &str) -> Result<Place<'a, P>, Errno> {
        node::resolve(self.0, path)
    }

    /// What is in the directory at `path`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        node::list(self.0, &self.resolve(path)?)
    }

    /// What is at `path`: its kind, and whether it can be read and written.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn kind(&self, path: &str) -> Result<(Kind, bool, bool), Errno> {
        let node = self.resolve(path)?.node;
        Ok((node.kind(), node.readable(), node.writable()))
    }

    /// Makes the instance that the directory at `path` stands for.
    ///
    /// # Errors
    ///
    /// `EEXIST` for a path that there is; `EPERM` for one that is not right below `instances`; `ENOMEM`; `ENOSPC` where there are as many
    /// instances as can be.
    pub fn mkdir(&self, path: &str) -> Result<(), Errno> {
        match self.resolve(path) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {
                self.0.create_instance(self.instance_name(path)?)?;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Removes the instance that the directory at `path` stands for, with its buffers.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`; `EPERM` for a directory that stands for no instance; `EBUSY` for an instance in use.
    pub fn rmdir(&self, path: &str) -> Result<(), Errno> {
        // What is looked at is in use: only its kind is kept.
        let kind = self.resolve(path)?.node.kind();
        match kind {
            Kind::File => Err(Errno::ENOTDIR),
            Kind::Dir => self.0.remove_instance(self.instance_name(path)?),
        }
    }

    /// The name of the instance at `path`, which is one right below `instances`.
    fn instance_name<'p>(&self, path: &'p str) -> Result<&'p str, Errno> {
        let (parent, name) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .ok_or(Errno::EPERM)?;
        match self.resolve(parent)?.node {
            Node::Dir(Dir::Instances) => Ok(name),
            _ => Err(Errno::EPERM),
        }
    }

    /// A reader for a file that uses up what is read (`trace_pipe`, `trace_pipe_raw`); `None` for any other file.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn pipe(&self, path: &str) -> Result<Option<Pipe<'a, P>>, Errno> {
        let Place { instance, node } = self.resolve(path)?;
        Ok(match node {
            Node::Pipe(cpu) => Some(Pipe::text(self.0, instance, cpu)),
            Node::PipeRaw(cpu) => Some(Pipe::raw(self.0, instance, cpu)),
            _ => None,
        })
    }

    /// `trace_pipe_raw` at `path`, opened so that it can be mapped; `None` for any other file.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`.
    pub fn raw(&self, path: &str) -> Result<Option<RawFile<'a, P>>, Errno> {
        let Place { instance, node } = self.resolve(path)?;
        Ok(match node {
            Node::PipeRaw(cpu) => Some(RawFile::new(self.0, instance, cpu)),
            _ => None,
        })
    }

    /// Writes the content of the file at `path` to `out`. If `out` answers with an error, it has had enough: that ends the
    /// call, with success.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR`; `EINVAL` for a file that cannot be read, or is read by a [`pipe`](TraceFs::pipe); `EBUSY` for
    /// `snapshot` while a tracer keeps its longest latency there.
    pub fn read(&self, path: &str, out: &mut dyn Write) -> Result<(), Errno> {
        let place = self.resolve(path)?;
        if place.node.kind() == Kind::Dir {
            return Err(Errno::EISDIR);
        }
        if !place.node.readable() || matches!(place.node, Node::Pipe(_) | Node::PipeRaw(_)) {
            return Err(Errno::EINVAL);
        }
        if matches!(place.node, Node::Snapshot(_)) && place.instance.keeps_max() {
            return Err(Errno::EBUSY);
        }
        // See above for what an error means.
        let _ = self.print(&place, out);
        Ok(())
    }

    fn print(&self, place: &Place<'a, P>, out: &mut dyn Write) -> fmt::Result {
        let tracer = self.0;
        let instance = &*place.instance;
        match place.node {
            Node::TracingOn => writeln!(out, "{}", u8::from(instance.tracing_on())),
            Node::CurrentTracer => latency::print_current(tracer, instance, out),
            Node::AvailableTracers => latency::print_available(instance, out),
            Node::MaxLatency => latency::print_ns(tracer.max_latency_ns(), out),
            Node::Thresh => latency::print_ns(tracer.latency_thresh_ns(), out),
            Node::HwlatWidth => writeln!(out, "{}", tracer.hwlat().width_us),
            Node::HwlatWindow => writeln!(out, "{}", tracer.hwlat().window_us),
            Node::HwlatMode => hwlat::print_mode(tracer, out),
            Node::AvailableEvents => events::list(tracer, |_| true, out),
            Node::SetEvent => events::list(tracer, |event| instance.event_enabled(event), out),
            Node::TraceClock => print_clocks(instance, out),
            Node::TraceOptions => options::print(instance, out),
            Node::Option(option) => writeln!(out, "{}", u8::from(instance.option(option))),
            Node::BufferSize(cpu) => buffer::print_size(instance, cpu, out),
            Node::BufferTotal => buffer::print_total(instance, out),
            Node::BufferPercent => writeln!(out, "{}", instance.buffer_percent()),
            Node::SubBufSize => writeln!(out, "{}", buffer::sub_buffer_bytes(instance) / 1024),
            Node::Snapshot(cpu) => snapshot::print(tracer, instance, cpu, out),
            Node::Trace(cpu) => print_trace(tracer, instance, cpu, out),
            Node::Stats(cpu) => buffer::print_stats(instance, cpu, out),
            Node::SavedCmdlines => {
                let mut names = tracer.saved_cmdlines();
                names.try_for_each(|(pid, name)| writeln!(out, "{pid} {}", name.as_str()))
            }
            Node::CmdlinesSize => writeln!(out, "{}", tracer.cmdlines_size()),
            // Stamps are deltas; an absolute one is put in where there is none to count from.
            Node::TimestampMode => out.write_str("[delta] absolute\n"),
            Node::Pids(list) => choose::print_pids(instance, list, out),
            Node::Cpumask => choose::print_cpumask(instance, out),
            Node::Readme => out.write_str(readme::README),
            Node::HeaderPage => page::write_header_page(buffer::sub_buffer_bytes(instance), out),
            Node::HeaderEvent => page::write_header_event(out),
            Node::Enable(system) => events::print_enable(tracer, instance, system, out),
            Node::EventEnable(event) => {
                let on = u8::from(instance.event_enabled(event));
                let soft = instance.event_is_soft(tracer.events(), event);
                writeln!(out, "{on}{}", if soft { "*" } else { "" })
            }
            Node::EventFilter(event) => instance.print_filter(event, out),
            Node::SystemFilter(system) => instance.print_system_filter(system, out),
            Node::EventTrigger(event) => instance.print_trigger(event, out),
            Node::EventHist(event) => instance.print_hist(event, out),
            Node::ErrorLog => instance.write_error_log(out),
            Node::EventFormat(event) => event::write_format(event, out),
            Node::ForeignFormats => {
                let mut events = tracer.foreign_events();
                events.try_for_each(|event| event::write_saved_format(event, out))
            }
            Node::EventId(event) => writeln!(out, "{}", event.id()),
            Node::OwnFormat(Own::Function) => event::write_function_format(out),
            Node::OwnId(Own::Function) => writeln!(out, "{}", event::FUNCTION_ID),
            Node::OwnFormat(Own::Hwlat) => event::write_hwlat_format(out),
            Node::OwnId(Own::Hwlat) => writeln!(out, "{}", event::HWLAT_ID),
            Node::OwnFormat(Own::Print) => event::write_marker_format(out),
            Node::OwnFormat(Own::RawData) => event::write_raw_marker_format(out),
            Node::OwnFormat(Own::Stack) => event::write_stack_format(out),
            Node::OwnId(Own::Stack) => writeln!(out, "{}", event::STACK_ID),
            Node::OwnId(Own::Print) => writeln!(out, "{}", event::PRINT_ID),
            Node::OwnId(Own::RawData) => writeln!(out, "{}", event::RAW_DATA_ID),
            // No event of this kernel points to a format string. The others are not read here.
            Node::PrintkFormats
            | Node::Pipe(_)
            | Node::PipeRaw(_)
            | Node::TraceMarker
            | Node::TraceMarkerRaw
            | Node::Dir(_) => Ok(()),
        }
    }

    /// Writes `data` to the file at `path`. `truncate` says that the file was opened as by `>`, not by `>>`; with no data
    /// it was only opened so.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, `EISDIR`; `EINVAL` for a file that cannot be written and for wrong data; `ERANGE` for a number that is
    /// too large; `ENOMEM` for a buffer size that cannot be had; `EBUSY` where a write to the buffer does not end; `EBADF`
    /// for a marker while `tracing_on` is 0, and for one that there is no room for. After an error nothing has changed. Where more than the
    /// number is to be said, `error_log` says it.
    pub fn write(&self, path: &str, data: &[u8], truncate: bool) -> Result<(), Errno> {
        self.write_or_say(path, data, truncate)
            .map_err(Refusal::errno)
    }

    /// [`write`](Self::write) for who can show more than a number.
    ///
    /// # Errors
    /// As there, with the sentence that `error_log` has.
    pub fn write_or_say(&self, path: &str, data: &[u8], truncate: bool) -> Result<(), Refusal> {
        let Place { instance, node } = self.resolve(path)?;
        let taken = self.write_node(&instance, node, data, truncate);
        taken.inspect_err(|refusal| {
            if let Refusal::Reason(error) = refusal {
                let file = path.rsplit('/').next().unwrap_or(path);
                let command = String::from_utf8_lossy(strip(data));
                instance.explain(file, &command, error.clone());
            }
        })
    }

    fn write_node(
        &self,
        instance: &Instance<P>,
        node: Node,
        data: &[u8],
        truncate: bool,
    ) -> Result<(), Refusal> {
        let tracer = self.0;
        if data.is_empty() && truncate && node.kind() == Kind::File {
            return self.truncate(instance, node);
        }
        match node {
            Node::Dir(_) => Err(Errno::EISDIR.into()),
            Node::TracingOn => {
                instance.set_tracing_on(number(data)? != 0);
                Ok(())
            }
            Node::CurrentTracer => latency::choose(tracer, instance, data),
            Node::MaxLatency => {
                tracer.set_max_latency_ns(latency::nanoseconds(data)?);
                Ok(())
            }
            Node::HwlatWidth => Ok(tracer.set_hwlat_width_us(number(data)?)?),
            Node::HwlatWindow => Ok(tracer.set_hwlat_window_us(number(data)?)?),
            Node::HwlatMode => Ok(hwlat::set_mode(tracer, data)?),
            Node::Thresh => {
                tracer.set_latency_thresh_ns(latency::nanoseconds(data)?);
                Ok(())
            }
            Node::TraceClock => {
                if data.len() >= MAX_WORD {
                    return Err(Errno::EINVAL.into());
                }
                let clock = ClockId::parse(word(data)?).ok_or(Errno::EINVAL)?;
                match instance.is_top() {
                    true => Ok(tracer.set_clock(clock)?),
                    false => Ok(instance.set_clock(clock)?),
                }
            }
            Node::TraceOptions => options::write(tracer, instance, data),
            Node::Option(option) => options::set(tracer, instance, option, switch(data)?),
            Node::SetEvent => Ok(events::set(tracer, instance, data, truncate)?),
            Node::BufferSize(cpu) => Ok(instance.resize(cpu, number(data)?)?),
            Node::BufferPercent => Ok(buffer::set_percent(instance, data)?),
            Node::SubBufSize => buffer::set_sub_buffer(instance, data),
            Node::Trace(cpu) if truncate => latency::clear(instance, cpu),
            Node::Trace(_) => Ok(()),
            Node::Snapshot(_) if instance.keeps_max() => Err(Errno::EBUSY.into()),
            Node::Snapshot(cpu) => snapshot::write(instance, cpu, data),
            Node::TraceMarker => Ok(marker::mark(instance, data)?),
            Node::TraceMarkerRaw => Ok(marker::mark_raw(instance, data)?),
            Node::Enable(system) => {
                events::enable(tracer, instance, system, switch(data)?);
                Ok(())
            }
            Node::EventEnable(event) => {
                instance.set_event_enabled(event, switch(data)?);
                Ok(())
            }
            Node::EventFilter(event) => Ok(instance.write_filter(event, command(data)?)?),
            Node::SystemFilter(system) => {
                Ok(instance.write_system_filter(tracer.events(), system, command(data)?)?)
            }
            Node::EventTrigger(event) => {
                Ok(instance.write_trigger(tracer.events(), event, command(data)?, truncate)?)
            }
            Node::ErrorLog => {
                if truncate {
                    instance.clear_error_log();
                }
                Ok(())
            }
            Node::Pids(list) => Ok(choose::set_pids(instance, list, data, truncate)?),
            Node::Cpumask => Ok(choose::set_cpumask(instance, data)?),
            Node::CmdlinesSize => match number(data)? {
                size @ 1.. if size <= MAX_CMDLINES as u64 => {
                    Ok(tracer.set_cmdlines_size(size as usize)?)
                }
                _ => Err(Errno::EINVAL.into()),
            },
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// What opening a file as by `>` does of its own, where nothing is written then: in Linux, its `open` with `O_TRUNC`.
    fn truncate(&self, instance: &Instance<P>, node: Node) -> Result<(), Refusal> {
        let tracer = self.0;
        match node {
            Node::SetEvent => Ok(events::set(tracer, instance, b"", true)?),
            Node::Pids(list) => Ok(choose::set_pids(instance, list, b"", true)?),
            Node::Trace(cpu) => latency::clear(instance, cpu),
            Node::Snapshot(_) if instance.keeps_max() => Err(Errno::EBUSY.into()),
            Node::ErrorLog => {
                instance.clear_error_log();
                Ok(())
            }
            Node::EventTrigger(event) => {
                Ok(instance.write_trigger(tracer.events(), event, "", true)?)
            }
            node if node.writable() => Ok(()),
            _ => Err(Errno::EINVAL.into()),
        }
    }
}

fn print_clocks<P: Platform>(instance: &Instance<P>, out: &mut dyn Write) -> fmt::Result {
    for (i, clock) in ClockId::ALL.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        let name = clock.name();
        if clock == instance.clock() {
            write!(out, "{space}[{name}]")?;
        } else {
            write!(out, "{space}{name}")?;
        }
    }
    out.write_char('\n')
}

fn print_trace<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let pause = instance.option(TraceOption::PauseOnTrace) && instance.tracing_on();
    if pause {
        instance.set_tracing_on(false);
    }
    let result = text::write_trace(tracer, instance, cpu, out);
    if pause {
        instance.set_tracing_on(true);
    }
    result
}
