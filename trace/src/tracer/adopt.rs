//! Taking over the buffers of the life before.

use super::instance::{Cpu, Parts, TOP, fresh_cpus};
use super::instances::{MAX_INSTANCES, check_name, no_slots, shared};
use super::latency::Latencies;
use super::pids::PidList;
use super::state::{CpuState, ExtraState, InstanceState};
use super::{
    Boundary, CMDLINES, DEFAULT_PERCENT, Instance, MAX_BOUNDARIES, MAX_CMDLINES, NOP, Tracer,
    TracerState, check_cpus, pages_for,
};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{EventDesc, Table};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::ring::{CpuBuffer, MAX_ORDER, Plan};
use crate::sync::{Mutex, Ordering};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::page::PageRef;

/// What taking the buffers over found, in all instances and their snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that were kept.
    pub events: u64,
    /// Sub-buffers whose content could not be: they were emptied, all others kept.
    pub damaged_pages: u64,
    /// Events that the damage cost; they are counted as overrun from now on.
    pub lost_events: u64,
    /// Events written after the state was described for the last time.
    pub late_events: u64,
    /// CPUs whose buffers stay readable though this kernel does not run on them.
    pub silent_cpus: u32,
}

/// The buffers of one instance, looked at, with nothing changed yet.
struct Buffers<P: Platform> {
    /// Of each CPU of the state: buffer, snapshot, size.
    cpus: Vec<(Plan<P>, Option<Plan<P>>, u64)>,
    /// Of CPUs that the state does not know.
    fresh: Vec<Cpu<P>>,
    oldest: Option<u64>,
    /// The earliest time that this life may record.
    start: u64,
    found: Report,
}

/// What is known about an instance before anything of it is taken over.
struct Chosen {
    on: bool,
    clock: ClockId,
    counter: u64,
    boundaries: Vec<Boundary>,
    extra: ExtraState,
    /// As the buffers had it, for a state that knows no options.
    overwrite: bool,
}

impl<P: Platform> Buffers<P> {
    /// Looks at everything, trusting nothing.
    fn look(
        platform: &P,
        nr_cpus: usize,
        now: u64,
        cpus: Vec<CpuState>,
        snapshot: Vec<crate::ring::Shape>,
    ) -> Result<Self, TraceError> {
        check_cpus(cpus.len())?;
        for (index, cpu) in cpus.iter().enumerate() {
            if cpu.cpu as usize != index {
                return Err(TraceError::StateCpu(cpu.cpu));
            }
            if cpu.size_kb == 0 || pages_for(cpu.size_kb, 0).is_none() {
                return Err(TraceError::StateNumber {
                    cpu: cpu.cpu,
                    what: "size in KiB",
                    value: cpu.size_kb,
                });
            }
        }
        if !snapshot.is_empty() && snapshot.len() != cpus.len() {
            return Err(TraceError::StateCpu(snapshot.len() as u32));
        }
        let order = cpus.first().map_or(0, |cpu| cpu.shape.reader.order);
        let has_snapshot = !snapshot.is_empty();
        let mut found = Report::default();
        let mut look = |cpu: u32, shape| -> Result<Plan<P>, TraceError> {
            let plan = Plan::new(platform.clone(), cpu, shape, now)?;
            let one = plan.found();
            found.events += one.events;
            found.damaged_pages += one.damaged_pages;
            found.lost_events += one.lost_events;
            found.late_events += one.late_events;
            Ok(plan)
        };
        let new_cpus = nr_cpus.saturating_sub(cpus.len());
        let silent_cpus = cpus.len().saturating_sub(nr_cpus) as u32;
        let mut plans = Vec::new();
        let mut newest = None;
        let mut oldest: Option<u64> = None;
        let mut size_kb = 1;
        let mut snapshot = snapshot.into_iter();
        for cpu in cpus {
            size_kb = cpu.size_kb;
            let plan = look(cpu.cpu, cpu.shape)?;
            let kept = match snapshot.next() {
                Some(shape) => Some(look(cpu.cpu, shape)?),
                None => None,
            };
            for plan in [Some(&plan), kept.as_ref()].into_iter().flatten() {
                newest = newest.max(plan.newest());
                oldest = match (oldest, plan.oldest()) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            plans.push((plan, kept, size_kb));
        }
        found.silent_cpus = silent_cpus;
        let fresh = fresh_cpus(platform, new_cpus, size_kb, order)?;
        if has_snapshot {
            for cpu in &fresh {
                cpu.snapshot.revive(cpu.buffer.pages(), order)?;
            }
        }
        Ok(Buffers {
            cpus: plans,
            fresh,
            oldest,
            // Later than all that the lives before have recorded, and not later than what this one will: the buffers let no
            // time go back.
            start: newest.map_or(now, |newest: u64| newest.saturating_add(1)),
            found,
        })
    }

    /// Nothing to take over.
    fn empty(platform: &P, nr_cpus: usize, now: u64, size_kb: u64) -> Result<Self, TraceError> {
        Ok(Buffers {
            cpus: Vec::new(),
            fresh: fresh_cpus(platform, nr_cpus, size_kb, 0)?,
            oldest: None,
            start: now,
            found: Report::default(),
        })
    }

    /// Takes the pages over. Cannot fail.
    fn adopt(
        self,
        platform: &P,
        shared: &alloc::sync::Arc<super::Shared>,
        (slot, name): (u8, String),
        declared: &'static [&'static EventDesc],
        generation: u32,
        chosen: Chosen,
    ) -> Instance<P> {
        let start = self.start;
        let mut boundaries = chosen.boundaries;
        // A life that began later than this one is damage.
        boundaries.retain(|boundary| boundary.start <= start);
        boundaries.sort_by_key(|b| (b.start, b.generation));
        boundaries.push(Boundary { generation, start });
        prune(&mut boundaries, self.oldest);
        let mut cpus: Vec<Cpu<P>> = self
            .cpus
            .into_iter()
            .map(|(plan, kept, size_kb)| {
                let snapshot = match kept {
                    Some(plan) => plan.adopt(start),
                    None => CpuBuffer::retired(platform.clone()),
                };
                Cpu::new(plan.adopt(start), snapshot, size_kb)
            })
            .collect();
        for cpu in &self.fresh {
            cpu.buffer.set_floor(start);
        }
        cpus.extend(self.fresh);
        let mut parts = Parts::new(slot, name, cpus, declared);
        parts.on = chosen.on;
        parts.clock = chosen.clock;
        parts.counter = chosen.counter;
        parts.boundaries = boundaries;
        parts.order = parts.cpus.first().map_or(0, |cpu| cpu.buffer.order());
        parts.options = options(&chosen.extra, chosen.overwrite);
        parts.buffer_percent = chosen.extra.buffer_percent.unwrap_or(DEFAULT_PERCENT);
        let instance = Instance::from_parts(platform.clone(), shared.clone(), parts);
        instance
            .deferred
            .store(chosen.extra.deferred, Ordering::Relaxed);
        let build = platform.build();
        instance.set_build_since(match build != 0 && build == chosen.extra.build {
            true => chosen.extra.build_since,
            false => start,
        });
        instance
    }
}

/// The time now on a clock whose count was `counter`.
fn now_on<P: Platform>(platform: &P, clock: ClockId, counter: u64) -> u64 {
    match clock {
        ClockId::Counter => counter,
        ClockId::X86Tsc => platform.cycles(),
        _ => platform.nanos(),
    }
}

pub(super) fn options(extra: &ExtraState, overwrite: bool) -> u32 {
    let mut bits = TraceOption::DEFAULT;
    let mut set = |option: TraceOption, on: bool| match on {
        true => bits |= option.bit(),
        false => bits &= !option.bit(),
    };
    set(TraceOption::Overwrite, overwrite);
    for saved in &extra.options {
        if let Some(option) = TraceOption::parse(&saved.name) {
            set(option, saved.on);
        }
    }
    bits
}

impl<P: Platform> Tracer<P> {
    /// Takes the tracer over that `state` describes: its pages stay where they lie, and are recorded on.
    ///
    /// Nothing in the state or in the pages is trusted. A sub-buffer that does not hold what a sub-buffer can hold is
    /// emptied and [reported](Tracer::report), with its events counted as overrun; the others are kept. A CPU that the state does
    /// not know gets a new buffer; the buffer of one that is not there any more is kept for reading. An instance whose
    /// description cannot be is given up as a whole, without touching its pages, and [told](Tracer::troubles); so is a filter or
    /// a trigger that does not fit its event any more. All else is kept. If it is the top instance, it begins empty, as long as
    /// there are others to be kept; else nothing is adopted.
    ///
    /// The events' numbers stay. Events that are declared here in the same form are enabled as they were.
    ///
    /// # Errors
    ///
    /// Those `State...` of [`TraceError`] about the events, or about the top instance if it is the only one, [`TraceError::NoMemory`] and those of
    /// [`Tracer::new`]. Then nothing has been adopted or changed, and no page of the state was freed.
    pub fn adopt(
        platform: P,
        nr_cpus: usize,
        generation: u32,
        state: TracerState,
        events: &'static [&'static EventDesc],
    ) -> Result<Self, TraceError> {
        check_cpus(nr_cpus)?;
        if state.current_tracer != NOP {
            return Err(TraceError::StateTracer);
        }
        let (table, enabled) = Table::adopt(events, state.events)?;
        let mut troubles = Vec::new();
        let mut taken = Taken::default();
        let mut extra = state.extra;
        let mut chosen = Chosen {
            on: state.tracing_on,
            clock: state.clock,
            counter: state.counter,
            boundaries: state.boundaries,
            overwrite: overwrites(&state.cpus),
            extra: ExtraState::default(),
        };
        let kb = match pages_for(state.instance_kb, 0) {
            Some(_) if state.instance_kb > 0 => state.instance_kb,
            _ => super::DEFAULT_KB,
        };
        let now = now_on(&platform, chosen.clock, chosen.counter);
        let top = taken.add(&state.cpus, &extra).and_then(|()| {
            let snapshot = core::mem::take(&mut extra.snapshot);
            Buffers::look(&platform, nr_cpus, now, state.cpus, snapshot)
        });
        let top = match top {
            Ok(top) => top,
            Err(why) if state.instances.is_empty() => return Err(why),
            Err(why) => {
                troubles.push(format!(
                    "the top instance's buffers are given up and start empty: {why}"
                ));
                chosen.boundaries.clear();
                Buffers::empty(&platform, nr_cpus, now, kb)?
            }
        };
        chosen.extra = extra;

        let mut names: Vec<String> = Vec::new();
        let mut others = Vec::new();
        for mut saved in state.instances {
            let name = core::mem::take(&mut saved.name);
            match look_at(&platform, nr_cpus, &mut taken, &names, &name, saved) {
                Ok(instance) => {
                    names.push(name);
                    others.push(instance);
                }
                Err(why) => troubles.push(format!(
                    "the instance {name:.64} is given up, with its events: {why}"
                )),
            }
        }

        // Nothing can fail from here on.
        let mut report = top.found;
        let tasks = match state.cmdlines.len() {
            tasks @ 1..=MAX_CMDLINES => tasks,
            _ => CMDLINES,
        };
        let shared = shared(nr_cpus.max(top.cpus.len()), tasks);
        shared.with_cmdlines(|cmdlines| cmdlines.restore(&state.cmdlines));
        table.apply();
        for (desc, on) in events.iter().zip(enabled) {
            desc.clear_masks();
            desc.set_enabled(on);
        }
        let latency = core::mem::take(&mut chosen.extra.latency);
        let measuring = core::mem::take(&mut chosen.extra.measuring);
        let top_extra = chosen.extra.clone();
        let top = top.adopt(
            &platform,
            &shared,
            (TOP, String::new()),
            events,
            generation,
            chosen,
        );
        let mut tracer = Tracer {
            platform,
            generation,
            events: table,
            latencies: Latencies::new(top.nr_cpus()),
            detector: Mutex::new(super::HwlatState::default()),
            top,
            shared,
            slots: no_slots(),
            named: Mutex::new(Vec::new()),
            instance_kb: kb,
            report: Report::default(),
            troubles: Vec::new(),
        };
        tracer.top.attach(events, &top_extra, &mut troubles);
        let mut named = Vec::new();
        for (index, (name, (buffers, chosen))) in names.into_iter().zip(others).enumerate() {
            report.events += buffers.found.events;
            report.damaged_pages += buffers.found.damaged_pages;
            report.lost_events += buffers.found.lost_events;
            report.late_events += buffers.found.late_events;
            let extra = chosen.extra.clone();
            let instance = buffers.adopt(
                &tracer.platform,
                &tracer.shared,
                (index as u8 + 1, name),
                events,
                generation,
                chosen,
            );
            let instance = tracer.publish(&mut named, instance);
            instance.attach(events, &extra, &mut troubles);
        }
        *tracer.named.lock() = named;
        tracer.restore_latency(latency, &measuring, &mut troubles);
        tracer.report = report;
        tracer.troubles = troubles;
        Ok(tracer)
    }
}

/// An instance other than the top one, with nothing changed yet.
fn look_at<P: Platform>(
    platform: &P,
    nr_cpus: usize,
    taken: &mut Taken,
    names: &[String],
    name: &str,
    saved: InstanceState,
) -> Result<(Buffers<P>, Chosen), TraceError> {
    if check_name(name).is_err() || names.iter().any(|other| other == name) {
        return Err(TraceError::StateName);
    }
    if names.len() + 1 >= MAX_INSTANCES {
        return Err(TraceError::StateInstances);
    }
    let mut extra = saved.extra;
    taken.add(&saved.cpus, &extra)?;
    let overwrite = overwrites(&saved.cpus);
    let now = now_on(platform, saved.clock, saved.counter);
    let snapshot = core::mem::take(&mut extra.snapshot);
    let buffers = Buffers::look(platform, nr_cpus, now, saved.cpus, snapshot)?;
    let chosen = Chosen {
        on: saved.tracing_on,
        clock: saved.clock,
        counter: saved.counter,
        boundaries: saved.boundaries,
        extra,
        overwrite,
    };
    Ok((buffers, chosen))
}

pub(super) fn overwrites(cpus: &[CpuState]) -> bool {
    cpus.iter().all(|cpu| cpu.shape.overwrite)
}

impl<P: Platform> Instance<P> {
    /// Enables events, and puts filters and triggers to them, as they were. An event that is not here any more has nothing that
    /// could be recorded of it; its records are shown in their own format.
    fn attach(
        &self,
        events: &'static [&'static EventDesc],
        extra: &ExtraState,
        troubles: &mut Vec<String>,
    ) {
        for saved in &extra.enabled {
            let event = events.iter().find(|event| {
                saved
                    .split_once(':')
                    .is_some_and(|(system, name)| event.system == system && event.name == name)
            });
            if let Some(event) = event.filter(|_| !self.is_top()) {
                self.set_event_enabled(event, true);
            }
        }
        self.cleared.store(extra.cleared, Ordering::Relaxed);
        self.restore_log(&extra.error_log);
        for lost in self.restore_conditions(events, &extra.conditions) {
            troubles.push(format!(
                "a filter or trigger does not fit its event any more and is dropped: {lost:.256}"
            ));
        }
        // After the filters: putting one ends what was shown before.
        self.restore_refused(&extra.refused);
        self.set_pids(PidList::Only, extra.pids.clone());
        self.set_pids(PidList::Not, extra.notrace_pids.clone());
        self.set_cpumask(|cpu| !extra.masked_cpus.contains(&(cpu as u32)));
    }
}

/// The memory of all buffers that were looked at: no page may be named twice, in any of them.
#[derive(Default)]
struct Taken(Vec<(u64, u64)>);

impl Taken {
    /// Adds the pages of an instance, all or none.
    fn add(&mut self, cpus: &[CpuState], extra: &ExtraState) -> Result<(), TraceError> {
        let mut all = Vec::new();
        let count: usize = cpus
            .iter()
            .map(|cpu| &cpu.shape)
            .chain(&extra.snapshot)
            .map(|shape| shape.ring.len() + 1)
            .sum();
        all.try_reserve(self.0.len() + count)
            .map_err(|_| TraceError::NoMemory)?;
        all.extend_from_slice(&self.0);
        for shape in cpus.iter().map(|cpu| &cpu.shape).chain(&extra.snapshot) {
            let pages = core::iter::once(&shape.reader).chain(&shape.ring);
            // A page that cannot be is refused when it is looked at.
            let good = |page: &&PageRef| {
                page.order == shape.reader.order
                    && page.order <= MAX_ORDER
                    && page.pa.is_multiple_of(page.size())
            };
            all.extend(pages.filter(good).map(|page| (page.pa, page.size())));
        }
        all.sort_unstable();
        match all
            .windows(2)
            .find(|pair| pair[0].0.saturating_add(pair[0].1) > pair[1].0)
        {
            Some(pair) => Err(TraceError::StatePageTwice(pair[1].0)),
            None => {
                self.0 = all;
                Ok(())
            }
        }
    }
}

/// Forgets the boundaries of lives of which no event is left, and the oldest beyond [`MAX_BOUNDARIES`].
fn prune(boundaries: &mut Vec<Boundary>, oldest: Option<u64>) {
    let gone = boundaries
        .windows(2)
        .take_while(|pair| oldest.is_none_or(|oldest| pair[1].start <= oldest))
        .count();
    let surplus = boundaries.len().saturating_sub(MAX_BOUNDARIES);
    boundaries.drain(..gone.max(surplus));
}
