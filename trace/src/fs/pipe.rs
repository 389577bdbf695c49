//! `trace_pipe` and `trace_pipe_raw`: reading that uses events up.
//!
//! Linux's `tracing_read_pipe`, `tracing_buffers_read` (`kernel/trace/trace.c`) and `ring_buffer_wait`. Whoever reads asks for the next
//! piece; where there is none yet, it waits in its own way until [`Pipe::ready`] says that there may be one.
//!
//! - An event is consumed when it is handed out, one at a time, and never before: who stops reading loses none. The lines that may
//!   stand before it (where a life begins, what was lost) are handed out each on its own, and are not told again.
//! - Both end, once something was read, when there is nothing left and `tracing_on` is 0. In Linux only `trace_pipe` does.
//! - `trace_pipe` goes on at the first event. `trace_pipe_raw` waits until `buffer_percent` of the ring is filled,
//!   then hands out all there is; while `tracing_on` is 0 it does not wait for more.

use super::node::Held;
use crate::errno::Errno;
use crate::options::TraceOption;
use crate::page::Missed;
use crate::platform::Platform;
use crate::ring::CpuBuffer;
use crate::text;
use crate::tracer::{Boundary, Instance, Tracer};
use alloc::string::String;
use alloc::vec::Vec;

/// What [`Pipe::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something was handed out.
    Data,
    /// There is nothing yet.
    Wait,
    /// There will be nothing more.
    End,
}

/// A reader of `trace_pipe` or `trace_pipe_raw`.
pub struct Pipe<'t, P: Platform> {
    tracer: &'t Tracer<P>,
    instance: Held<'t, P>,
    cpus: core::ops::Range<usize>,
    kind: Kind,
    /// Something was read.
    read: bool,
}

enum Kind {
    Text(Text),
    /// True: the ring was emptied, and has to fill up again.
    Raw(bool),
}

/// What is kept from one event to the next.
#[derive(Default)]
struct Text {
    payload: Vec<u8>,
    /// Time of the next event of each CPU, where it is known.
    times: Vec<Option<u64>>,
    /// Time of the event before.
    last: Option<u64>,
    /// The latest life whose beginning was told.
    told: Option<u32>,
}

impl<'t, P: Platform> Pipe<'t, P> {
    /// A reader of the text of all CPUs, or of one.
    pub(super) fn text(tracer: &'t Tracer<P>, instance: Held<'t, P>, cpu: Option<usize>) -> Self {
        let cpus = cpu.map_or(0..instance.nr_cpus(), |cpu| cpu..cpu + 1);
        Pipe {
            tracer,
            instance,
            kind: Kind::Text(Text::default()),
            cpus,
            read: false,
        }
    }

    /// A reader of one CPU's pages.
    pub(super) fn raw(tracer: &'t Tracer<P>, instance: Held<'t, P>, cpu: usize) -> Self {
        Pipe {
            tracer,
            instance,
            cpus: cpu..cpu + 1,
            kind: Kind::Raw(true),
            read: false,
        }
    }

    /// Appends what comes next to `out` and consumes it: one event's line, or one that stands before it, where the event stays; or
    /// a whole sub-buffer.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; then nothing is consumed.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Next, Errno> {
        let found = match &mut self.kind {
            Kind::Raw(waiting) => {
                let Some(buffer) = self.instance.buffer(self.cpus.start) else {
                    return Ok(Next::End);
                };
                if *waiting && !filled(&self.instance, buffer) {
                    false
                } else {
                    let found = read_page(buffer, out)?;
                    *waiting = !found;
                    found
                }
            }
            Kind::Text(text) => text.next(self.tracer, &self.instance, &self.cpus, out)?,
        };
        self.read |= found;
        Ok(if found {
            Next::Data
        } else if self.ended() {
            Next::End
        } else {
            Next::Wait
        })
    }

    /// Whether there may be something to read, or nothing to wait for. Takes no memory.
    pub fn ready(&self) -> bool {
        let mut buffers = self
            .cpus
            .clone()
            .filter_map(|cpu| self.instance.buffer(cpu));
        self.ended()
            || buffers.any(|buffer| match self.kind {
                Kind::Raw(_) => filled(&self.instance, buffer),
                Kind::Text(_) => !buffer.is_empty(),
            })
    }

    fn ended(&self) -> bool {
        self.read && !self.instance.tracing_on()
    }
}

/// Linux's `full_hit`: whether `buffer_percent` of the sub-buffers hold something. The one that is written to counts.
fn filled<P: Platform>(instance: &Instance<P>, buffer: &CpuBuffer<P>) -> bool {
    if buffer.is_empty() {
        return false;
    }
    let percent = u64::from(instance.buffer_percent());
    if percent == 0 || !instance.tracing_on() {
        return true;
    }
    let stats = buffer.stats();
    let gone = stats.pages_lost + stats.pages_read;
    let dirty = stats.pages_touched.saturating_sub(gone) + 1;
    dirty * 100 >= percent * buffer.pages() as u64
}

/// Appends the oldest page to `out`, header and all; false if there is none.
fn read_page<P: Platform>(buffer: &CpuBuffer<P>, out: &mut Vec<u8>) -> Result<bool, Errno> {
    let start = out.len();
    let size = buffer.page_size();
    out.try_reserve(size).map_err(|_| Errno::ENOMEM)?;
    out.resize(start + size, 0);
    let found = buffer.read_page(&mut out[start..], false).is_some();
    if !found {
        out.truncate(start);
    }
    Ok(found)
}

impl Text {
    /// The oldest event of all CPUs.
    fn next<P: Platform>(
        &mut self,
        tracer: &Tracer<P>,
        instance: &Instance<P>,
        cpus: &core::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Errno> {
        // Where there is nothing to compare, nothing has to be looked up.
        if cpus.len() == 1 {
            return self.step(tracer, instance, cpus, cpus.start, out);
        }
        self.times.resize(cpus.len(), None);
        let mut oldest: Option<(u64, usize)> = None;
        for (time, cpu) in self.times.iter_mut().zip(cpus.clone()) {
            let Some(buffer) = instance.buffer(cpu).filter(|b| !b.is_empty()) else {
                continue;
            };
            if time.is_none() {
                *time = buffer.peek().map(|(ts, _)| ts);
            }
            if let Some(ts) = *time
                && oldest.is_none_or(|(least, _)| ts < least)
            {
                oldest = Some((ts, cpu));
            }
        }
        let Some((_, cpu)) = oldest else {
            return Ok(false);
        };
        self.times[cpu - cpus.start] = None;
        self.step(tracer, instance, cpus, cpu, out)
    }

    /// One line of what `cpu` has next.
    fn step<P: Platform>(
        &mut self,
        tracer: &Tracer<P>,
        instance: &Instance<P>,
        cpus: &core::ops::Range<usize>,
        cpu: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, Errno> {
        let Some(buffer) = instance.buffer(cpu) else {
            return Ok(false);
        };
        let Some((ts, lost)) = buffer.peek() else {
            return Ok(false);
        };
        let mut line = String::new();
        // Writing to a String cannot fail.
        if let Some(boundary) = self.passed(instance, ts) {
            let _ = text::write_boundary(&boundary, &mut line);
            self.told = Some(boundary.generation);
        } else if lost != Missed::None {
            let _ = text::write_lost(cpu, buffer.take_lost(), &mut line);
        } else {
            let Some((ts, lost)) = buffer.consume(&mut self.payload)? else {
                return Ok(false);
            };
            // Only where another reader came between: what `consume` tells of must be told.
            let _ = text::write_lost(cpu, lost, &mut line);
            let times = text::LineTimes {
                ts,
                next: self.coming(instance, cpus),
                start: instance.cleared_at(),
            };
            let _ = text::write_entry(tracer, instance, cpu, times, &self.payload, &mut line);
            self.last = Some(ts);
        }
        out.extend_from_slice(line.as_bytes());
        Ok(true)
    }

    /// When the next event happened, of those that are there: only `latency-format` asks.
    fn coming<P: Platform>(
        &self,
        instance: &Instance<P>,
        cpus: &core::ops::Range<usize>,
    ) -> Option<u64> {
        if !instance.option(TraceOption::LatencyFormat) {
            return None;
        }
        let buffers = cpus.clone().filter_map(|cpu| instance.buffer(cpu));
        buffers
            .filter_map(|buffer| buffer.peek().map(|(ts, _)| ts))
            .min()
    }

    /// The first life that begins between the event before and one at `ts`, and was not told.
    fn passed<P: Platform>(&self, instance: &Instance<P>, ts: u64) -> Option<Boundary> {
        let last = self.last?;
        let passed = |boundary: &Boundary| {
            last < boundary.start
                && boundary.start <= ts
                && self.told.is_none_or(|told| told < boundary.generation)
        };
        instance.boundaries().into_iter().find(passed)
    }
}

impl<P: Platform> core::fmt::Debug for Pipe<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pipe")
            .field("instance", &*self.instance)
            .field("cpus", &self.cpus)
            .finish_non_exhaustive()
    }
}
