//! What a life that is over left behind is shown by a tracer of its own: it knows the formats, names and choices of that life, and
//! has no buffers. Nothing of this kernel is in it.

use super::adopt::{options, overwrites};
use super::cmdlines::{MAX_SIZE, SIZE};
use super::instance::{Cpu, Instance, Parts, TOP};
use super::instances::{no_slots, shared};
use super::latency::Latencies;
use super::{Boundary, ExtraState, HwlatState, Report, Tracer, TracerState, check_cpus};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::Table;
use crate::platform::Platform;
use crate::ring::CpuBuffer;
use crate::sync::{Mutex, Ordering};
use alloc::string::String;
use alloc::vec::Vec;

/// What is chosen in one of the instances of a life.
struct Chosen {
    clock: ClockId,
    boundaries: Vec<Boundary>,
    extra: ExtraState,
    overwrite: bool,
}

impl Chosen {
    /// Takes it out of `state`: of the instance `name`, of the top one if that is empty. One that is not there has chosen nothing.
    fn take(state: &mut TracerState, name: &str) -> Option<Self> {
        if name.is_empty() {
            return Some(Chosen {
                clock: state.clock,
                boundaries: core::mem::take(&mut state.boundaries),
                extra: core::mem::take(&mut state.extra),
                overwrite: overwrites(&state.cpus),
            });
        }
        let at = state.instances.iter().position(|one| one.name == name)?;
        let found = state.instances.swap_remove(at);
        Some(Chosen {
            clock: found.clock,
            boundaries: found.boundaries,
            extra: found.extra,
            overwrite: overwrites(&found.cpus),
        })
    }
}

impl<P: Platform> Tracer<P> {
    /// A tracer that shows events of a life that left `state`: its top instance stands for that life's instance `name` (empty: the top
    /// one). It owns no page and records nothing. Without a state it knows the clock alone.
    ///
    /// Nothing of the state is trusted. Addresses are named where the kernel of that life was the platform's build.
    ///
    /// # Errors
    ///
    /// [`TraceError::CpuCount`], [`TraceError::NoMemory`]; [`TraceError::StateEvent`] and [`TraceError::TooManyEvents`] of a state
    /// whose events cannot be.
    pub(crate) fn of_another_life(
        platform: P,
        nr_cpus: usize,
        name: &str,
        clock: ClockId,
        state: Option<TracerState>,
    ) -> Result<Self, TraceError> {
        check_cpus(nr_cpus)?;
        let mut chosen = None;
        let mut saved = Vec::new();
        let mut cmdlines = Vec::new();
        let mut generation = 0;
        if let Some(mut state) = state {
            chosen = Chosen::take(&mut state, name);
            generation = state.generation;
            saved = state.events;
            cmdlines = state.cmdlines;
        }
        let (events, _) = Table::adopt(&[], saved)?;
        let tasks = match cmdlines.len() {
            tasks @ 1..=MAX_SIZE => tasks,
            _ => SIZE,
        };
        let shared = shared(nr_cpus, tasks);
        shared.with_cmdlines(|names| names.restore(&cmdlines));
        let mut cpus = Vec::new();
        cpus.try_reserve_exact(nr_cpus)
            .map_err(|_| TraceError::NoMemory)?;
        cpus.extend((0..nr_cpus).map(|_| {
            let none = || CpuBuffer::retired(platform.clone());
            Cpu::new(none(), none(), 0)
        }));
        let mut parts = Parts::new(TOP, String::new(), cpus, &[]);
        parts.on = false;
        parts.clock = clock;
        let mut build_since = u64::MAX;
        let mut cleared = 0;
        if let Some(mut chosen) = chosen {
            chosen.boundaries.sort_by_key(|b| (b.start, b.generation));
            parts.clock = chosen.clock;
            parts.boundaries = chosen.boundaries;
            parts.options = options(&chosen.extra, chosen.overwrite);
            cleared = chosen.extra.cleared;
            if platform.build() != 0 && platform.build() == chosen.extra.build {
                build_since = chosen.extra.build_since;
            }
        }
        let top = Instance::from_parts(platform.clone(), shared.clone(), parts);
        top.cleared.store(cleared, Ordering::Relaxed);
        top.set_build_since(build_since);
        Ok(Tracer {
            platform,
            generation,
            events,
            latencies: Latencies::new(nr_cpus),
            detector: Mutex::new(HwlatState::default()),
            top,
            shared,
            slots: no_slots(),
            named: Mutex::new(Vec::new()),
            instance_kb: super::DEFAULT_KB,
            report: Report::default(),
            troubles: Vec::new(),
        })
    }
}
