//! The tracer `hwlat`: looks for times that the machine takes from the kernel without its knowing (firmware, a hypervisor), by reading the clock
//! over and over with interrupts off.
//!
//! Linux: `kernel/trace/trace_hwlat.c`, `Documentation/trace/hwlat_detector.rst`. The kernel's threads take a sample in each window
//! ([`Tracer::hwlat_round`], [`Sampling`], [`Tracer::hwlat_found`]); what is found is recorded as `ftrace:hwlat`.

use super::{Measured, Tracer};
use crate::error::TraceError;
use crate::event::{COMMON_SIZE, HWLAT_ID, HWLAT_SIZE, Record};
use crate::platform::Platform;
use crate::sync::{Mutex, Ordering};
use handover::KState;

/// Which CPUs are looked at: `hwlat_detector/mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HwlatMode {
    /// One thread, wherever it happens to run.
    None,
    /// One thread, which goes to the next CPU of `tracing_cpumask` after each sample.
    #[default]
    RoundRobin,
    /// A thread on each CPU of `tracing_cpumask`.
    PerCpu,
}

impl HwlatMode {
    /// All, in the order of `mode`.
    pub const ALL: [HwlatMode; 3] = [HwlatMode::None, HwlatMode::RoundRobin, HwlatMode::PerCpu];

    /// As `mode` has it.
    pub fn name(self) -> &'static str {
        match self {
            HwlatMode::None => "none",
            HwlatMode::RoundRobin => "round-robin",
            HwlatMode::PerCpu => "per-cpu",
        }
    }

    /// The mode of that name.
    pub fn parse(name: &str) -> Option<HwlatMode> {
        HwlatMode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// The longest sample, in us: so long a CPU has interrupts off, and others wait for it.
pub const MAX_WIDTH_US: u64 = 500_000;
/// A window of more has no meaning: a day.
const MAX_WINDOW_US: u64 = 24 * 60 * 60 * 1_000_000;
const DEFAULT_WIDTH_US: u64 = 500_000;
const DEFAULT_WINDOW_US: u64 = 1_000_000;
/// What `tracing_thresh` is set to where it is 0 when the tracer begins, the first time.
const DEFAULT_THRESH_NS: u64 = 10_000;

/// What is chosen, as it crosses a kexec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct HwlatState {
    /// `hwlat_detector/width`: how long a sample takes, in us.
    pub width_us: u64,
    /// `hwlat_detector/window`: from the begin of one sample to that of the next.
    pub window_us: u64,
    /// The place of `hwlat_detector/mode` in [`HwlatMode::ALL`].
    pub mode: u8,
    /// Samples that found something, since the tracer was chosen.
    pub found: u64,
    /// `tracing_thresh` as it was before the tracer was chosen, in ns.
    pub thresh_before_ns: u64,
    /// `tracing_thresh` as it was when the tracer ended last.
    pub thresh_own_ns: u64,
}

impl Default for HwlatState {
    fn default() -> Self {
        HwlatState {
            width_us: DEFAULT_WIDTH_US,
            window_us: DEFAULT_WINDOW_US,
            mode: HwlatMode::default() as u8,
            found: 0,
            thresh_before_ns: 0,
            thresh_own_ns: DEFAULT_THRESH_NS,
        }
    }
}

impl HwlatState {
    fn mode(&self) -> Option<HwlatMode> {
        HwlatMode::ALL.get(usize::from(self.mode)).copied()
    }

    /// Whether nobody could have chosen it.
    fn is_damaged(&self) -> bool {
        self.mode().is_none()
            || self.width_us > self.window_us.min(MAX_WIDTH_US)
            || self.window_us > MAX_WINDOW_US
    }
}

pub(super) type Detector = Mutex<HwlatState>;

/// What a thread is to do in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HwlatRound {
    /// How long the sample takes, in ns; `None`: no sample is taken, as `tracing_on` is 0.
    pub width_ns: Option<u64>,
    /// From which length on a gap counts, in ns.
    pub least_ns: u64,
    /// How long it sleeps then, in ns.
    pub rest_ns: u64,
    /// Which CPUs are looked at.
    pub mode: HwlatMode,
}

/// What a sample has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The longest time between two readings right after one another, in us.
    pub inner_us: u64,
    /// The longest between two pairs of them.
    pub outer_us: u64,
    /// Gaps that count.
    pub count: u32,
    /// When the first was, in ns.
    pub first_ns: u64,
    /// Non-maskable interrupts that came meanwhile, and how long they took.
    pub nmis: u32,
    /// See `nmis`.
    pub nmi_us: u64,
}

/// A sample that is being taken.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    start: u64,
    width: u64,
    least: u64,
    /// The second reading of the last pair.
    last: Option<u64>,
    inner: u64,
    outer: u64,
    count: u32,
    first: u64,
}

impl Sampling {
    /// One that begins now and takes `width_ns`; gaps of `least_ns` and more count.
    pub fn new(now: u64, width_ns: u64, least_ns: u64) -> Self {
        Sampling {
            start: now,
            width: width_ns,
            least: least_ns,
            last: None,
            inner: 0,
            outer: 0,
            count: 0,
            first: 0,
        }
    }

    /// A pair of readings of the clock, right after one another, in ns. False: that was the last one.
    #[inline]
    pub fn pair(&mut self, one: u64, other: u64) -> bool {
        let inner = other.saturating_sub(one);
        let outer = self.last.map_or(0, |last| one.saturating_sub(last));
        self.last = Some(other);
        self.inner = self.inner.max(inner);
        self.outer = self.outer.max(outer);
        if inner >= self.least || outer >= self.least {
            if self.count == 0 {
                self.first = other;
            }
            self.count = self.count.saturating_add(1);
        }
        other.saturating_sub(self.start) <= self.width
    }

    /// What it has found; `None`: no gap that counts.
    pub fn found(&self, nmis: u32, nmi_ns: u64) -> Option<Found> {
        (self.count > 0).then_some(Found {
            inner_us: self.inner / 1000,
            outer_us: self.outer / 1000,
            count: self.count,
            first_ns: self.first,
            nmis,
            nmi_us: nmi_ns / 1000,
        })
    }
}

impl<P: Platform> Tracer<P> {
    /// What is chosen for the tracer `hwlat`.
    pub fn hwlat(&self) -> HwlatState {
        self.platform.no_irq(|| *self.detector.lock())
    }

    /// Its mode.
    pub fn hwlat_mode(&self) -> HwlatMode {
        self.hwlat().mode().unwrap_or_default()
    }

    /// Changes what is chosen, if that can be.
    fn set_hwlat(&self, change: impl FnOnce(&mut HwlatState)) -> Result<(), TraceError> {
        self.platform.no_irq(|| {
            let mut chosen = self.detector.lock();
            let mut new = *chosen;
            change(&mut new);
            if new.is_damaged() {
                return Err(TraceError::Detector);
            }
            *chosen = new;
            Ok(())
        })
    }

    /// Sets `hwlat_detector/width`, in us.
    ///
    /// # Errors
    ///
    /// [`TraceError::Detector`] for one longer than the window, or than [`MAX_WIDTH_US`].
    pub fn set_hwlat_width_us(&self, us: u64) -> Result<(), TraceError> {
        self.set_hwlat(|chosen| chosen.width_us = us)
    }

    /// Sets `hwlat_detector/window`, in us.
    ///
    /// # Errors
    ///
    /// [`TraceError::Detector`] for one shorter than the width, or longer than a day.
    pub fn set_hwlat_window_us(&self, us: u64) -> Result<(), TraceError> {
        self.set_hwlat(|chosen| chosen.window_us = us)
    }

    /// Sets `hwlat_detector/mode`.
    pub fn set_hwlat_mode(&self, mode: HwlatMode) {
        let _tracer = self.latencies.options.lock();
        if self.set_hwlat(|chosen| chosen.mode = mode as u8).is_ok()
            && self.measured() == Measured::Hwlat
        {
            // With other threads.
            self.platform.measure(Measured::Hwlat);
        }
    }

    /// The tracer begins: `tracing_thresh` is its own from now on.
    pub(super) fn hwlat_begins(&self) {
        let before = self.latency_thresh_ns();
        let own = self.platform.no_irq(|| {
            let mut chosen = self.detector.lock();
            chosen.found = 0;
            chosen.thresh_before_ns = before;
            chosen.thresh_own_ns
        });
        if before == 0 {
            self.set_latency_thresh_ns(own);
        }
    }

    /// It ends.
    pub(super) fn hwlat_ends(&self) {
        let own = self.latency_thresh_ns();
        let before = self.platform.no_irq(|| {
            let mut chosen = self.detector.lock();
            chosen.thresh_own_ns = own;
            chosen.thresh_before_ns
        });
        self.set_latency_thresh_ns(before);
    }

    /// What is chosen crosses, damaged or not known as it may be.
    pub(super) fn restore_hwlat(&self, saved: HwlatState) {
        if !saved.is_damaged() {
            self.platform.no_irq(|| *self.detector.lock() = saved);
        }
    }

    /// What a thread of the tracer is to do next; `None`: to end.
    pub fn hwlat_round(&self) -> Option<HwlatRound> {
        if self.measured() != Measured::Hwlat {
            return None;
        }
        let chosen = self.hwlat();
        // In whole microseconds, as it tells them: only more than the threshold counts.
        let thresh_us = self.latency_thresh_ns() / 1000;
        Some(HwlatRound {
            width_ns: self.top.tracing_on().then_some(chosen.width_us * 1000),
            least_ns: thresh_us.saturating_add(1).saturating_mul(1000),
            rest_ns: (chosen.window_us - chosen.width_us).max(1000) * 1000,
            mode: chosen.mode().unwrap_or_default(),
        })
    }

    /// Records what a sample on this CPU has found, as `ftrace:hwlat`; the longest is told by `tracing_max_latency`. With interrupts off.
    pub fn hwlat_found(&self, found: &Found) {
        if self.measured() != Measured::Hwlat || !self.top.tracing_on() {
            return;
        }
        let number = {
            let mut chosen = self.detector.lock();
            chosen.found += 1;
            chosen.found
        };
        let (seconds, nanos) = (
            found.first_ns / 1_000_000_000,
            found.first_ns % 1_000_000_000,
        );
        let fill = |record: &mut Record<'_, '_, P>| {
            let mut at = COMMON_SIZE;
            let words = [found.inner_us, found.outer_us, found.nmi_us, seconds, nanos];
            for word in words {
                record.put(at, &word.to_ne_bytes());
                at += 8;
            }
            // The last fills the struct up.
            for half in [found.nmis, number as u32, found.count, 0] {
                record.put(at, &half.to_ne_bytes());
                at += 4;
            }
        };
        // Its counters say what becomes of it.
        let _ = self.top.write(HWLAT_ID, HWLAT_SIZE, 0, None, fill);
        let longest = found.inner_us.max(found.outer_us).saturating_mul(1000);
        self.latencies.max_ns.fetch_max(longest, Ordering::Relaxed);
    }
}
