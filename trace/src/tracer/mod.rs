//! The tracer: the events, and the instances that record them.
//!
//! An [`Instance`] is a set of per-CPU buffers with its own sizes, clock, options, choice of events, filters, triggers and
//! snapshot; the top directory of tracefs shows the first of them. An event has a bit for each instance that wants something of
//! it: no bit, and nothing is done.
//!
//! | module | subject |
//! | --- | --- |
//! | `instance` | one instance: buffers, switch, clock, sizes |
//! | `instances` | making and removing them by name |
//! | `record` | the way of an event into the buffers |
//! | `conditions` | filters and triggers, as files set and show them |
//! | `named` | histograms that count together |
//! | `hwlat` | the tracer that looks for times which the machine takes |
//! | `latency` | the tracers that measure latencies |
//! | `refusals` | what was wrong: `error_log` |
//! | `snapshot` | the second set of buffers |
//! | `choices` | options |
//! | `pids` | the tasks whose events are recorded |
//! | `cpumask` | the CPUs whose events are recorded |
//! | `cmdlines` | the names of tasks that recorded |
//! | `quiesce` | when what writers find by pointers may be freed |
//! | `state`, `adopt` | the crossing |
//! | `left` | what another life left, shown |

mod adopt;
mod choices;
mod cmdlines;
mod conditions;
mod cpumask;
mod hwlat;
mod instance;
mod instances;
mod latency;
mod left;
mod map;
mod named;
mod persist;
mod pids;
mod quiesce;
mod record;
mod refusals;
mod snapshot;
mod state;

pub use adopt::Report;
pub use choices::DEFAULT_PERCENT;
pub use cmdlines::{MAX_SIZE as MAX_CMDLINES, SIZE as CMDLINES, SavedName, TaskName};
pub use conditions::SavedConditions;
pub use hwlat::{Found, HwlatMode, HwlatRound, HwlatState, MAX_WIDTH_US, Sampling};
pub use instance::Instance;
pub use instances::MAX_INSTANCES;
pub(crate) use latency::Longest;
pub use latency::{LatencyState, Measured, SavedLatency, Site};
pub use pids::PidList;
pub use refusals::{SavedComplaint, SavedRefusal};
pub use state::{Boundary, CpuState, ExtraState, InstanceState, SavedOption, TracerState};

use crate::error::TraceError;
use crate::event::{Common, EventDesc, Known, Table};
use crate::platform::Platform;
use crate::ring::{MAX_ORDER, MIN_PAGES};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use handover::mem::PAGE_SIZE;
use instance::{Parts, Shared, TOP, fresh_cpus};
use quiesce::Place;

/// The most CPUs that a tracer serves.
pub const MAX_CPUS: usize = 1024;
/// The most boundaries between lives that are kept; the oldest are forgotten first.
const MAX_BOUNDARIES: usize = 64;
/// KiB of each CPU's buffer where nobody says otherwise: Linux's default.
pub const DEFAULT_KB: u64 = 1408;
/// The tracer that does nothing of its own.
pub const NOP: &str = "nop";

/// What a new tracer begins with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of CPUs, each with a buffer of its own.
    pub nr_cpus: usize,
    /// Size of each buffer in KiB; at least two sub-buffers are made.
    pub buffer_kb_per_cpu: u64,
    /// The number of this life: 0 after a cold start.
    pub generation: u32,
}

/// The tracer: the events, and the instances that record them. All methods take `&self`; recording is lock-free, and
/// allowed in every context. It dereferences to its top instance.
pub struct Tracer<P: Platform> {
    platform: P,
    generation: u32,
    events: Table,
    top: Instance<P>,
    latencies: latency::Latencies,
    detector: hwlat::Detector,
    shared: Arc<Shared>,
    /// All others, as the slow path finds them: the one of slot `i` at `i - 1`.
    slots: Box<[Place<Instance<P>>]>,
    /// The same, as everybody else finds them, by name.
    named: Mutex<Vec<Arc<Instance<P>>>>,
    /// The size that new instances begin with.
    instance_kb: u64,
    report: Report,
    /// What could not be restored, a sentence each.
    troubles: Vec<String>,
}

impl<P: Platform> core::ops::Deref for Tracer<P> {
    type Target = Instance<P>;

    fn deref(&self) -> &Instance<P> {
        &self.top
    }
}

/// Sub-buffers in the ring for a size in KiB and sub-buffers of `1 << order` pages; `None` for a size that no machine has.
fn pages_for(size_kb: u64, order: u8) -> Option<usize> {
    let bytes = size_kb.checked_mul(1024)?;
    let pages = bytes.div_ceil(PAGE_SIZE << order.min(MAX_ORDER));
    // Page indices have two bits less than a word; and no list is longer than memory.
    let pages = usize::try_from(pages).ok().filter(|n| *n < 1 << 40)?;
    Some(pages.max(MIN_PAGES))
}

impl<P: Platform> Tracer<P> {
    /// A tracer with empty buffers, switched on, with every event switched off.
    ///
    /// # Errors
    ///
    /// [`TraceError::CpuCount`], [`TraceError::Size`], [`TraceError::NoMemory`], [`TraceError::EventTwice`],
    /// [`TraceError::TooManyEvents`]; then nothing stays allocated.
    pub fn new(
        platform: P,
        config: Config,
        events: &'static [&'static EventDesc],
    ) -> Result<Self, TraceError> {
        let Config {
            nr_cpus,
            buffer_kb_per_cpu: size_kb,
            generation,
        } = config;
        check_cpus(nr_cpus)?;
        let events = Table::new(events)?;
        let cpus = fresh_cpus(&platform, nr_cpus, size_kb, 0)?;
        events.apply();
        for desc in events.declared() {
            desc.clear_masks();
        }
        let shared = instances::shared(nr_cpus, CMDLINES);
        let parts = Parts::new(TOP, String::new(), cpus, events.declared());
        let top = Instance::from_parts(platform.clone(), shared.clone(), parts);
        Ok(Tracer {
            platform,
            generation,
            events,
            latencies: latency::Latencies::new(nr_cpus),
            detector: Mutex::new(HwlatState::default()),
            top,
            shared,
            slots: instances::no_slots(),
            named: Mutex::new(Vec::new()),
            instance_kb: size_kb,
            report: Report::default(),
            troubles: Vec::new(),
        })
    }

    /// The machine that it runs on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// The instance that the top directory shows.
    pub fn top(&self) -> &Instance<P> {
        &self.top
    }

    /// The number of this life.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Says when this life really began, in cycles of the time stamp counter: before the tracer was adopted, and after all
    /// that was recorded up to now (the life before may have left word of its last moments).
    pub fn life_began(&self, cycles: u64) {
        if let (Some(start), Some(boundary)) =
            (self.time_of(cycles), self.boundaries.lock().last_mut())
            && boundary.generation == self.generation
        {
            boundary.start = boundary.start.max(start);
        }
    }

    /// What taking the buffers over found; all zero for a tracer that began empty.
    pub fn report(&self) -> Report {
        self.report
    }

    /// What could not be taken over of what the life before had chosen, a sentence each: an instance, a filter, a trigger.
    pub fn troubles(&self) -> &[String] {
        &self.troubles
    }

    /// The declared events.
    pub fn events(&self) -> &'static [&'static EventDesc] {
        self.events.declared()
    }

    /// The events of earlier lives that this kernel does not declare, or declares otherwise.
    pub(crate) fn foreign_events(&self) -> impl Iterator<Item = &crate::event::SavedEvent> {
        self.events.foreign()
    }

    pub(crate) fn event_by_id(&self, id: u16) -> Option<&Known> {
        self.events.get(id)
    }
}

impl<P: Platform> Drop for Tracer<P> {
    /// What waits to be freed would hold itself: an instance holds what all instances share, and that holds what waits.
    fn drop(&mut self) {
        self.shared.domain.collect();
    }
}

fn check_cpus(nr_cpus: usize) -> Result<(), TraceError> {
    if nr_cpus == 0 || nr_cpus > MAX_CPUS {
        return Err(TraceError::CpuCount {
            given: nr_cpus,
            max: MAX_CPUS,
        });
    }
    Ok(())
}

impl<P: Platform> core::fmt::Debug for Tracer<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tracer")
            .field("generation", &self.generation)
            .field("top", &self.top)
            .finish_non_exhaustive()
    }
}

/// The common fields of a record, and the rest of it.
pub(crate) fn split(payload: &[u8]) -> Option<Common> {
    Common::parse(payload)
}
