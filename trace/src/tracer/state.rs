//! The tracer as it crosses a kexec.
//!
//! Version 1 knew the top instance's buffers alone. Version 2 adds what is chosen beside them, snapshots, filters and triggers
//! (as the text that makes them), the other instances, and the names of tasks. A state of version 1 is still read; a kernel that
//! knows version 1 only refuses version 2 by its number.
//!
//! An instance's choices have a history of their own: their version 2 adds which tasks and CPUs are recorded, and what was
//! refused; version 3 the tracer of latencies (whose version 2 adds what is chosen for `hwlat`); version 4 which kernel's addresses the
//! records hold, and what that tracer has made of the options. A kernel that knows version 1 of them reads the others, and leaves that out.

use super::cmdlines::{Cmdlines, SavedName};
use super::conditions::SavedConditions;
use super::instance::Instance;
use super::latency::LatencyState;
use super::pids::PidList;
use super::refusals::{SavedComplaint, SavedRefusal};
use super::{DEFAULT_KB, NOP, Tracer};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{EventDesc, SavedEvent};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::ring::Shape;
use crate::sync::Ordering;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// Everything of a tracer but the pages' content: one entry of the state stream.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(id = 0x7472_6163, version = 2, min_version = 1)]
pub struct TracerState {
    /// The life that wrote it.
    pub generation: u32,
    /// `tracing_on`, of the top instance, as all up to `boundaries`.
    pub tracing_on: bool,
    /// The tracer that a kernel without those of [`LatencyState`] goes on with: `nop`.
    pub current_tracer: String,
    /// `trace_clock`.
    pub clock: ClockId,
    /// The clock `counter`'s count.
    pub counter: u64,
    /// The buffers, by ascending CPU.
    pub cpus: Vec<CpuState>,
    /// The numbers of all events.
    pub events: Vec<SavedEvent>,
    /// When the lives began whose events are in the buffers.
    pub boundaries: Vec<Boundary>,
    /// What else belongs to the top instance.
    #[kstate(since = 2, default)]
    pub extra: ExtraState,
    /// The other instances.
    #[kstate(since = 2, default)]
    pub instances: Vec<InstanceState>,
    /// `saved_cmdlines`.
    #[kstate(since = 2, default)]
    pub cmdlines: Vec<SavedName>,
    /// KiB of each CPU's buffer of a new instance.
    #[kstate(since = 2, default = DEFAULT_KB)]
    pub instance_kb: u64,
}

/// An instance other than the top one.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct InstanceState {
    /// Its name.
    pub name: String,
    /// `tracing_on`.
    pub tracing_on: bool,
    /// `trace_clock`.
    pub clock: ClockId,
    /// The clock `counter`'s count.
    pub counter: u64,
    /// The buffers, by ascending CPU.
    pub cpus: Vec<CpuState>,
    /// When the lives began whose events are in the buffers.
    pub boundaries: Vec<Boundary>,
    /// All else.
    pub extra: ExtraState,
}

/// What is chosen in an instance beside its buffers, and its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested, version = 4, min_version = 1, readable_by = 1)]
pub struct ExtraState {
    /// The options, as they are without a tracer of latencies, each by its name: what this kernel does not know is left out, what is not
    /// there has its default.
    pub options: Vec<SavedOption>,
    /// `buffer_percent`; `None` for the default.
    pub buffer_percent: Option<u8>,
    /// The snapshot's buffers, one for each CPU; none if none are allocated.
    pub snapshot: Vec<Shape>,
    /// The events that are recorded, each as `system:name`; those that are not stand among them as `system!name`, so that a trigger
    /// can still switch them when the room for this is measured. Of the top instance the table of events says that.
    pub enabled: Vec<String>,
    /// Filters and triggers, with what they have counted.
    pub conditions: Vec<SavedConditions>,
    /// Snapshots that had to wait for the end of a write.
    pub deferred: u64,
    /// `set_event_pid`.
    #[kstate(since = 2, default)]
    pub pids: Vec<i32>,
    /// `set_event_notrace_pid`.
    #[kstate(since = 2, default)]
    pub notrace_pids: Vec<i32>,
    /// The CPUs that `tracing_cpumask` leaves out.
    #[kstate(since = 2, default)]
    pub masked_cpus: Vec<u32>,
    /// When the buffers were cleared last, in units of the clock.
    #[kstate(since = 2, default)]
    pub cleared: u64,
    /// `error_log`.
    #[kstate(since = 2, default)]
    pub error_log: Vec<SavedComplaint>,
    /// What the `filter` files show of refused filters.
    #[kstate(since = 2, default)]
    pub refused: Vec<SavedRefusal>,
    /// The tracer of latencies; of the top instance alone.
    #[kstate(since = 3, default)]
    pub latency: LatencyState,
    /// The options that are otherwise while that tracer measures; a kernel that does not know it has none that are stuck.
    #[kstate(since = 4, default)]
    pub measuring: Vec<SavedOption>,
    /// [`Platform::build`] of the kernel that wrote this.
    #[kstate(since = 4, default)]
    pub build: u64,
    /// From when on the records hold addresses of this build, in units of the clock.
    #[kstate(since = 4, default)]
    pub build_since: u64,
}

/// An option.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedOption {
    /// Linux's name of it.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
}

/// One CPU's buffer in a [`TracerState`].
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct CpuState {
    /// The CPU.
    pub cpu: u32,
    /// Its `buffer_size_kb`.
    pub size_kb: u64,
    /// Its pages and counters.
    pub shape: Shape,
}

/// Where a life began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct Boundary {
    /// The life's number.
    pub generation: u32,
    /// Its first event's time at the earliest, in units of the clock.
    pub start: u64,
}

impl<P: Platform> Tracer<P> {
    /// Describes the tracer for the next life. To be brought up to date by [`refresh_state`](Self::refresh_state) at the
    /// last moment.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Busy`].
    pub fn state(&self) -> Result<TracerState, TraceError> {
        self.state_with(true)
    }

    /// The same, or without the buffers and snapshots, which are not touched then.
    pub(super) fn state_with(&self, buffers: bool) -> Result<TracerState, TraceError> {
        let named = self.named.lock();
        let mut instances = Vec::new();
        instances
            .try_reserve_exact(named.len())
            .map_err(|_| TraceError::NoMemory)?;
        for instance in named.iter() {
            instances.push(InstanceState {
                name: instance.name().into(),
                tracing_on: instance.tracing_on(),
                clock: instance.clock(),
                counter: instance.counter.load(Ordering::Relaxed),
                cpus: instance.save_cpus(buffers)?,
                boundaries: instance.boundaries(),
                extra: instance.save_extra(self, buffers)?,
            });
        }
        Ok(TracerState {
            generation: self.generation,
            tracing_on: self.tracing_on(),
            current_tracer: NOP.into(),
            clock: self.clock(),
            counter: self.counter.load(Ordering::Relaxed),
            cpus: self.top.save_cpus(buffers)?,
            events: self.events.save(),
            boundaries: self.boundaries(),
            extra: self.top.save_extra(self, buffers)?,
            instances,
            cmdlines: (self.shared)
                .with_cmdlines(Cmdlines::save)
                .unwrap_or_default(),
            instance_kb: self.instance_kb,
        })
    }

    /// Brings `state` up to date without allocating, and without changing its encoded size. To be called when nobody
    /// else runs any more, as the last thing before the jump; what is recorded on the same page after it is still found.
    ///
    /// # Errors
    ///
    /// [`TraceError::StateShape`] if a buffer was resized, a snapshot or an instance made or removed since;
    /// [`TraceError::Busy`] if a CPU that stands still holds a lock.
    pub fn refresh_state(&self, state: &mut TracerState) -> Result<(), TraceError> {
        let named = self.named.try_lock().ok_or(TraceError::Busy)?;
        if state.instances.len() != named.len() {
            return Err(TraceError::StateShape);
        }
        let events = self.events();
        self.top
            .refresh(events, &mut state.cpus, &mut state.extra)?;
        self.events.refresh(&mut state.events)?;
        state.tracing_on = self.tracing_on();
        state.clock = self.clock();
        state.counter = self.counter.load(Ordering::Relaxed);
        if self.cmdlines_size() != state.cmdlines.len() {
            return Err(TraceError::StateShape);
        }
        self.shared
            .with_cmdlines(|cmdlines| cmdlines.refresh(&mut state.cmdlines));
        for (saved, instance) in state.instances.iter_mut().zip(named.iter()) {
            if saved.name != instance.name() {
                return Err(TraceError::StateShape);
            }
            instance.refresh(events, &mut saved.cpus, &mut saved.extra)?;
            saved.tracing_on = instance.tracing_on();
            saved.clock = instance.clock();
            saved.counter = instance.counter.load(Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<P: Platform> Instance<P> {
    fn save_cpus(&self, buffers: bool) -> Result<Vec<CpuState>, TraceError> {
        if !buffers {
            return Ok(Vec::new());
        }
        let _control = self.control.lock();
        let mut cpus = Vec::new();
        cpus.try_reserve_exact(self.cpus.len())
            .map_err(|_| TraceError::NoMemory)?;
        for (index, cpu) in self.cpus.iter().enumerate() {
            cpus.push(CpuState {
                cpu: index as u32,
                size_kb: cpu.size_kb.load(Ordering::Relaxed),
                shape: cpu.buffer.shape()?,
            });
        }
        Ok(cpus)
    }

    fn save_extra(&self, tracer: &Tracer<P>, buffers: bool) -> Result<ExtraState, TraceError> {
        let mut snapshot = Vec::new();
        if buffers && self.snapshot_allocated() {
            for cpu in &self.cpus {
                snapshot.push(cpu.snapshot.shape()?);
            }
        }
        let enabled = match self.is_top() {
            true => Vec::new(),
            false => tracer
                .events()
                .iter()
                .map(|event| format!("{}{}{}", event.system, self.mark_of(event), event.name))
                .collect(),
        };
        let latency = match self.is_top() {
            true => tracer.save_latency(),
            false => LatencyState::default(),
        };
        let without = |option| match option {
            TraceOption::LatencyFormat if latency.measures() => latency.latency_format,
            TraceOption::Overwrite if latency.measures() => latency.overwrite,
            option => self.option(option),
        };
        let saved = |option: TraceOption, on| SavedOption {
            name: option.name().into(),
            on,
        };
        let all = TraceOption::ALL.into_iter();
        Ok(ExtraState {
            options: (all.clone())
                .map(|option| saved(option, without(option)))
                .collect(),
            measuring: all
                .filter(|option| self.option(*option) != without(*option))
                .map(|option| saved(option, self.option(option)))
                .collect(),
            buffer_percent: Some(self.buffer_percent()),
            snapshot,
            enabled,
            conditions: self.save_conditions(tracer.events()),
            deferred: self.deferred_snapshots(),
            pids: self.pids(PidList::Only),
            notrace_pids: self.pids(PidList::Not),
            masked_cpus: (0..self.nr_cpus())
                .filter(|cpu| !self.cpu_allowed(*cpu))
                .map(|cpu| cpu as u32)
                .collect(),
            cleared: self.cleared_at(),
            error_log: self.save_log(),
            refused: self.save_refused(),
            latency,
            build: self.platform.build(),
            build_since: self.build_since(),
        })
    }

    /// What stands between the system and the name of an event that crosses. An earlier kernel finds no event without a colon.
    fn mark_of(&self, event: &EventDesc) -> &'static str {
        match self.event_enabled(event) {
            true => ":",
            false => "!",
        }
    }

    fn refresh(
        &self,
        events: &'static [&'static EventDesc],
        cpus: &mut [CpuState],
        extra: &mut ExtraState,
    ) -> Result<(), TraceError> {
        let snapshots = match self.snapshot_allocated() {
            true => self.cpus.len(),
            false => 0,
        };
        if cpus.len() != self.cpus.len() || extra.snapshot.len() != snapshots {
            return Err(TraceError::StateShape);
        }
        for (saved, cpu) in cpus.iter_mut().zip(&self.cpus) {
            cpu.buffer.describe(&mut saved.shape)?;
            saved.size_kb = cpu.size_kb.load(Ordering::Relaxed);
        }
        for (saved, cpu) in extra.snapshot.iter_mut().zip(&self.cpus) {
            cpu.snapshot.describe(saved)?;
        }
        for (saved, event) in extra.enabled.iter_mut().zip(events) {
            let at = event.system.len();
            saved.replace_range(at..=at, self.mark_of(event));
        }
        self.refresh_conditions(events, &mut extra.conditions);
        extra.deferred = self.deferred_snapshots();
        Ok(())
    }
}
