//! Taking over the buffers of the life before.

use super::instance::{Cpu, Parts, TOP, fresh_cpus};
use super::{Boundary, Instance, MAX_BOUNDARIES, NOP, Tracer, TracerState, check_cpus, pages_for};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{EventDesc, Table};
use crate::platform::Platform;
use crate::ring::{CpuBuffer, Plan};
use crate::sync::Mutex;
use alloc::string::String;
use alloc::vec::Vec;

/// What taking the buffers over found.
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

impl<P: Platform> Tracer<P> {
    /// Takes the tracer over that `state` describes: its pages stay where they lie, and are recorded on.
    ///
    /// Nothing in the state or in the pages is trusted. A sub-buffer that does not hold what a sub-buffer can hold is
    /// emptied and [reported](Tracer::report), with its events counted as overrun; the others are kept. A CPU that the state does
    /// not know gets a new buffer; the buffer of one that is not there any more is kept for reading.
    ///
    /// The events' numbers stay. Events that are declared here in the same form are enabled as they were.
    ///
    /// # Errors
    ///
    /// Those `State...` of [`TraceError`], [`TraceError::NoMemory`] and those of [`Tracer::new`]. Then nothing has been
    /// adopted or changed, and no page of the state was freed.
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
        check_cpus(state.cpus.len())?;
        for (index, cpu) in state.cpus.iter().enumerate() {
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
        check_doubles(&state)?;
        let now = match state.clock {
            ClockId::Counter => state.counter,
            ClockId::X86Tsc => platform.cycles(),
            _ => platform.nanos(),
        };
        let (table, enabled) = Table::adopt(events, state.events)?;

        let mut report = Report::default();
        let mut plans = Vec::new();
        let mut newest = None;
        let mut oldest = None;
        let new_cpus = nr_cpus.saturating_sub(state.cpus.len());
        report.silent_cpus = state.cpus.len().saturating_sub(nr_cpus) as u32;
        let mut size_kb = 1;
        for cpu in state.cpus {
            size_kb = cpu.size_kb;
            let plan = Plan::new(platform.clone(), cpu.cpu, cpu.shape, now)?;
            let found = plan.found();
            report.events += found.events;
            report.damaged_pages += found.damaged_pages;
            report.lost_events += found.lost_events;
            report.late_events += found.late_events;
            newest = newest.max(plan.newest());
            oldest = match (oldest, plan.oldest()) {
                (Some(a), Some(b)) => Some(core::cmp::min::<u64>(a, b)),
                (a, b) => a.or(b),
            };
            plans.push((plan, size_kb));
        }
        let fresh = fresh_cpus(&platform, new_cpus, size_kb, 0)?;

        // Nothing can fail from here on.
        let mut boundaries = state.boundaries;
        // Later than all that the lives before have recorded, and not later than what this one will: the buffers let no time
        // go back. A life that began later than this one is damage.
        let start = newest.map_or(now, |newest: u64| newest.saturating_add(1));
        boundaries.retain(|boundary| boundary.start <= start);
        boundaries.sort_by_key(|b| (b.start, b.generation));
        boundaries.push(Boundary { generation, start });
        prune(&mut boundaries, oldest);
        let mut cpus: Vec<Cpu<P>> = plans
            .into_iter()
            .map(|(plan, size_kb)| {
                let buffer = plan.adopt(start);
                Cpu::new(buffer, CpuBuffer::retired(platform.clone()), size_kb)
            })
            .collect();
        for cpu in &fresh {
            cpu.buffer.set_floor(start);
        }
        cpus.extend(fresh);
        table.apply();
        for (desc, on) in events.iter().zip(enabled) {
            desc.clear_masks();
            desc.set_enabled(on);
        }
        let shared = super::instances::shared(cpus.len());
        let mut parts = Parts::new(TOP, String::new(), cpus, events.len());
        parts.on = state.tracing_on;
        parts.clock = state.clock;
        parts.counter = state.counter;
        parts.boundaries = boundaries;
        let top = Instance::from_parts(platform.clone(), shared.clone(), parts);
        Ok(Tracer {
            platform,
            generation,
            events: table,
            top,
            shared,
            slots: super::instances::no_slots(),
            named: Mutex::new(Vec::new()),
            instance_kb: super::DEFAULT_KB,
            report,
        })
    }
}

/// No page may be named twice, in any buffer.
fn check_doubles(state: &TracerState) -> Result<(), TraceError> {
    let mut all = Vec::new();
    for cpu in &state.cpus {
        all.try_reserve(cpu.shape.ring.len() + 1)
            .map_err(|_| TraceError::NoMemory)?;
        all.push(cpu.shape.reader.pa);
        all.extend(cpu.shape.ring.iter().map(|page| page.pa));
    }
    all.sort_unstable();
    // Equal orders (which the buffers check) and alignment make equal addresses the only way to overlap.
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(TraceError::StatePageTwice(pair[0])),
        None => Ok(()),
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
