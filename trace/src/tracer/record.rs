//! The way of an event into the buffers.
//!
//! An event that the top instance alone wants, unseen by filters and triggers, is written where it stays
//! ([`Instance::write`]). Any other takes the slow path: its record is built once on the stack; each instance that wants
//! something of it (a bit in the event's mask) shows the bytes to its filter, and copies them into its buffer.
//! No lock is taken; see `quiesce` for what is found by pointers.

use super::cmdlines::{Cmdlines, TaskName};
use super::conditions::Acting;
use super::instance::{Cpu, Instance, Shared, TOP};
use super::pids::Other;
use super::quiesce::{Guard, with_scratch};
use super::{MAX_CMDLINES, Tracer, quiesce};
use crate::error::TraceError;
use crate::event::filter::{Filter, Recorder};
use crate::event::trigger::TriggerList;
use crate::event::{self, COMMON_SIZE, EventDesc, PRINT_ID, RAW_DATA_ID, Record};
use crate::options::TraceOption;
use crate::platform::{Context, Platform};
use crate::ring::ReserveError;
use crate::sync::Ordering;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One event on its way through the slow path.
struct Passing<'a> {
    desc: &'static EventDesc,
    cycles: Option<u64>,
    cpu: usize,
    context: Context,
    record: &'a [u8],
}

impl<P: Platform> Tracer<P> {
    /// Records an event with `size` bytes of fixed fields and `dynamic` bytes of strings, at a past time (`cycles` of the
    /// time stamp counter) or now. Called by what [`define_events!`](crate::define_events) makes. An event that cannot be
    /// recorded is counted.
    ///
    /// Where several instances, a filter or a trigger look at it, a record of more than 4096 bytes is left out, and
    /// [counted](Self::oversized).
    #[inline(always)]
    pub fn record(
        &self,
        desc: &'static EventDesc,
        cycles: Option<u64>,
        size: usize,
        dynamic: usize,
        fill: impl FnOnce(&mut Record<'_, '_, P>),
    ) {
        let id = desc.id();
        if id == 0 {
            return;
        }
        if desc.is_plain() {
            // The event's counters say what becomes of it.
            let _ = self.top.write(id, size, dynamic, cycles, fill);
        } else {
            self.record_slow(desc, cycles, size, dynamic, fill);
        }
    }

    /// Records an event at a past time, given as raw cycles of the time stamp counter. The same as [`record`](Self::record)
    /// with a time.
    pub fn record_at(
        &self,
        desc: &'static EventDesc,
        cycles: u64,
        dynamic: usize,
        fill: impl FnOnce(&mut Record<'_, '_, P>),
    ) {
        self.record(desc, Some(cycles), desc.size, dynamic, fill);
    }

    #[cold]
    #[inline(never)]
    fn record_slow(
        &self,
        desc: &'static EventDesc,
        cycles: Option<u64>,
        size: usize,
        dynamic: usize,
        fill: impl FnOnce(&mut Record<'_, '_, P>),
    ) {
        self.platform.no_preempt(|| {
            let cpu = self.platform.cpu();
            let Some(guard) = self.shared.domain.enter(cpu) else {
                return;
            };
            let context = self.platform.context();
            let done = with_scratch(size + dynamic, |bytes| {
                fill(&mut Record::begin_in(bytes, desc.id(), size, &context));
                let passing = Passing {
                    desc,
                    cycles,
                    cpu,
                    context,
                    record: bytes,
                };
                self.distribute(&guard, &passing);
            });
            if done.is_none() {
                self.shared.oversized.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Lets each instance that wants something of the event have it.
    #[inline(never)]
    fn distribute(&self, guard: &Guard<'_>, event: &Passing<'_>) {
        let mut wanted = event.desc.wanted();
        while wanted != 0 {
            let slot = wanted.trailing_zeros() as u8;
            wanted &= wanted - 1;
            if slot == TOP {
                self.top.pass(guard, event);
            } else if let Some(instance) = self
                .slots
                .get(usize::from(slot) - 1)
                .and_then(|place| place.get(guard))
            {
                instance.pass(guard, event);
            }
        }
    }

    /// Records that were left out because they are too long to be looked at.
    pub fn oversized(&self) -> u64 {
        self.shared.oversized.load(Ordering::Relaxed)
    }

    /// The name of task `pid` as it was when it recorded, or as the machine knows it.
    pub fn task_name(&self, pid: i32) -> TaskName {
        let saved = self.shared.with_cmdlines(|cmdlines| cmdlines.get(pid));
        saved.flatten().unwrap_or_else(|| {
            let mut name = TaskName::default();
            self.platform.comm(pid, &mut name);
            name
        })
    }

    /// The tasks whose names were taken down when they recorded.
    pub fn saved_cmdlines(&self) -> impl Iterator<Item = (i32, TaskName)> + '_ {
        let all = self
            .shared
            .with_cmdlines(|cmdlines| cmdlines.all().collect::<Vec<_>>());
        all.unwrap_or_default().into_iter()
    }

    /// How many names there is room for.
    pub fn cmdlines_size(&self) -> usize {
        self.shared.with_cmdlines(Cmdlines::size).unwrap_or(0)
    }

    /// Makes room for the names of `size` tasks. Those that were taken down are forgotten, as in Linux.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`]; then all is as it was.
    pub fn set_cmdlines_size(&self, size: usize) -> Result<(), TraceError> {
        let new = Cmdlines::new(size.min(MAX_CMDLINES)).ok_or(TraceError::NoMemory)?;
        let shared = &self.shared;
        shared.cmdlines.put(Some(Arc::new(new)), &shared.domain);
        // Every task is to be taken down again.
        self.for_each_instance(Instance::forget_tasks);
        Ok(())
    }
}

impl Shared {
    /// Does something with the table of names; `None` if there is none.
    pub(super) fn with_cmdlines<R>(&self, f: impl FnOnce(&Cmdlines) -> R) -> Option<R> {
        let guard = self.domain.enter(0)?;
        self.cmdlines.get(&guard).map(f)
    }
}

impl<P: Platform> Instance<P> {
    /// What this instance does with an event.
    fn pass(&self, guard: &Guard<'_>, event: &Passing<'_>) {
        let Some(state) = self.events.get(event.desc.index()) else {
            return;
        };
        let filter = state.filter.get(guard);
        // The event of a task that is left out is shown to nobody; only a trigger that asks nothing of it is pulled.
        let other = Other::of(event.desc, event.record);
        let ignored = self.pids.ignore(guard, event.context.pid, other);
        let triggers = state.triggers.get(guard);
        let triggers = triggers.filter(|list| !ignored || !list.is_conditional());
        let mut name = TaskName::default();
        if filter.is_some_and(Filter::needs_comm) || triggers.is_some_and(TriggerList::needs_comm) {
            self.platform.comm(event.context.pid, &mut name);
        }
        let recorder = Recorder {
            cpu: event.cpu as u32,
            comm: name.as_str(),
            ts: triggers.map_or(0, |_| self.peek_now()),
        };
        let acting = Acting { instance: self };
        // A trigger sees the event whether it is recorded or not, and may be what switches recording on.
        let after = triggers.map(|list| (list, list.fire(event.record, &recorder, &acting)));
        if !ignored
            && event.desc.enabled_in(self.slot)
            && self.tracing_on()
            && filter.is_none_or(|filter| filter.matches(event.record, &recorder))
        {
            // Its counters say what becomes of it.
            if self.copy_in(event).is_ok() && self.option(TraceOption::Stacktrace) {
                self.record_stack();
            }
        }
        if let Some((list, after)) = after {
            list.fire_after(after, &acting);
        }
    }

    fn copy_in(&self, event: &Passing<'_>) -> Result<(), ReserveError> {
        let Some(cpu) = self.cpus.get(event.cpu) else {
            return Ok(());
        };
        self.write_on(cpu, &event.context, event.record.len(), event.cycles, |r| {
            r.write(0, event.record);
        })
    }

    #[inline(always)]
    pub(super) fn write(
        &self,
        id: u16,
        size: usize,
        dynamic: usize,
        cycles: Option<u64>,
        fill: impl FnOnce(&mut Record<'_, '_, P>),
    ) -> Result<(), ReserveError> {
        if !self.tracing_on() {
            return Ok(());
        }
        self.platform.no_preempt(|| {
            let Some(cpu) = self.cpus.get(self.platform.cpu()) else {
                return Ok(());
            };
            let context = self.platform.context();
            self.write_on(cpu, &context, size + dynamic, cycles, |reservation| {
                fill(&mut Record::begin(reservation, id, size, &context));
            })
        })
    }

    #[inline(always)]
    fn write_on<'c>(
        &self,
        cpu: &'c Cpu<P>,
        context: &Context,
        len: usize,
        cycles: Option<u64>,
        fill: impl FnOnce(&mut crate::ring::Reservation<'c, P>),
    ) -> Result<(), ReserveError> {
        if cpu.last_pid.load(Ordering::Relaxed) != context.pid as u32
            && !self.take_down(cpu, context.pid)
        {
            return Err(ReserveError::Disabled);
        }
        let level = event::level_of(context);
        let clock = || self.now();
        let mut reservation = match cycles.and_then(|cycles| self.time_of(cycles)) {
            Some(ts) => cpu.buffer.reserve_at(level, len, ts, &clock)?,
            None => cpu.buffer.reserve(level, len, &clock)?,
        };
        fill(&mut reservation);
        reservation.commit();
        if cpu.pending.load(Ordering::Relaxed) {
            cpu.overdue_snapshot();
        }
        Ok(())
    }

    /// Takes the task's name down, if that is wanted; false if this CPU's events are not: see `cpumask`.
    #[cold]
    #[inline(never)]
    fn take_down(&self, cpu: &Cpu<P>, pid: i32) -> bool {
        if !cpu.is_allowed() {
            return false;
        }
        if self.option(TraceOption::RecordCmd) {
            let mut name = TaskName::default();
            self.platform.comm(pid, &mut name);
            let put = |cmdlines: &Cmdlines| cmdlines.put(pid, &name);
            if self.shared.with_cmdlines(put) == Some(false) {
                return true;
            }
        }
        cpu.note(pid as u32);
        true
    }

    /// Records `text` as `ftrace:print`, as a write to `trace_marker` does: a newline is added where there is none at the
    /// end. At most [`event::MAX_STRING`] bytes are kept.
    ///
    /// # Errors
    ///
    /// Those of [`CpuBuffer::reserve`](crate::ring::CpuBuffer::reserve).
    pub fn mark(&self, text: &[u8]) -> Result<(), ReserveError> {
        const IP: usize = 8;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = &text[..text.len().min(event::MAX_STRING)];
        let ip = self.platform.marker_ip().to_ne_bytes();
        let size = COMMON_SIZE + IP + text.len() + 2;
        let write = || {
            self.write(PRINT_ID, size, 0, None, |record| {
                record.put(COMMON_SIZE, &ip);
                record.put(COMMON_SIZE + IP, text);
                record.put(COMMON_SIZE + IP + text.len(), b"\n\0");
            })
        };
        if !self.print_seen.load(Ordering::Relaxed) {
            return write();
        }
        self.platform.no_preempt(|| {
            let cpu = self.platform.cpu();
            let Some(guard) = self.shared.domain.enter(cpu) else {
                return write();
            };
            let acting = Acting { instance: self };
            let triggers = self.print.triggers.get(&guard);
            let after = triggers.and_then(|list| {
                let context = self.platform.context();
                // As in Linux, triggers see the text without the newline that is put behind it.
                with_scratch(size, |bytes| {
                    let mut record: Record<'_, '_, P> =
                        Record::begin_in(bytes, PRINT_ID, size, &context);
                    record.put(COMMON_SIZE, &ip);
                    record.put(COMMON_SIZE + IP, text);
                    let mut name = TaskName::default();
                    if list.needs_comm() {
                        self.platform.comm(context.pid, &mut name);
                    }
                    let recorder = Recorder {
                        cpu: cpu as u32,
                        comm: name.as_str(),
                        ts: self.peek_now(),
                    };
                    (list, list.fire_late(bytes, &recorder, &acting))
                })
            });
            let written = write();
            if let Some((list, after)) = after {
                list.fire_after(after, &acting);
            }
            written
        })
    }

    /// Records `data` as `ftrace:raw_data`, as a write to `trace_marker_raw` does. It begins with a number of 4 bytes that the writer
    /// has chosen.
    ///
    /// # Errors
    ///
    /// Those of [`CpuBuffer::reserve`](crate::ring::CpuBuffer::reserve).
    pub fn mark_raw(&self, data: &[u8]) -> Result<(), ReserveError> {
        self.write(RAW_DATA_ID, COMMON_SIZE + data.len(), 0, None, |record| {
            record.put(COMMON_SIZE, data);
        })
    }
}

const _: () = assert!(quiesce::SCRATCH >= event::MAX_STRING + COMMON_SIZE);
