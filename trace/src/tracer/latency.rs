//! The tracers that measure latencies: `irqsoff`, how long a CPU keeps interrupts off, and `wakeup`, how long the most urgent
//! task that was woken up waits for its CPU. (`hwlat` is chosen here, too, and does the rest in a module of its own.)
//!
//! Sources in Linux's `kernel/trace`: `trace_irqsoff.c`, `trace_sched_wakeup.c`, `update_max_tr` and `update_max_tr_single` in
//! `trace.c`.
//!
//! The longest latency so far (or, with `tracing_thresh`, the last one that was at least as long) is kept with its trace: the
//! buffers, as they are at its end, change places with the snapshot's. `trace` shows those from the latency's begin on.
//!
//! The kernel tells what happens: [`Tracer::irqs_off`], [`Tracer::irqs_on`], [`Tracer::task_wakes`], [`Tracer::task_runs`], each
//! with interrupts off, and only while [`Platform::measure`] says so. So a lock taken here is never wanted by an interrupt on top
//! of its holder; a reader takes it within [`Platform::no_irq`].

mod cross;

pub use cross::{LatencyState, SavedLatency};

use super::{Instance, NOP, TaskName, Tracer};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{COMMON_SIZE, FUNCTION_ID, Record};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering, spin_loop};
use alloc::boxed::Box;

/// What is measured, if anything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Measured {
    /// Nothing: `nop`.
    #[default]
    Nothing,
    /// How long a CPU keeps interrupts off.
    IrqsOff,
    /// How long a task that was woken up waits for its CPU.
    Wakeup,
    /// What the machine takes: `hwlat`.
    Hwlat,
}

impl Measured {
    /// All, in the order of `available_tracers`.
    pub const ALL: [Measured; 4] = [
        Measured::Hwlat,
        Measured::Wakeup,
        Measured::IrqsOff,
        Measured::Nothing,
    ];

    /// Whether the longest latency is kept with its trace.
    pub(super) fn keeps_max(self) -> bool {
        matches!(self, Measured::IrqsOff | Measured::Wakeup)
    }

    /// The tracer's name.
    pub fn name(self) -> &'static str {
        match self {
            Measured::Nothing => NOP,
            Measured::IrqsOff => "irqsoff",
            Measured::Wakeup => "wakeup",
            Measured::Hwlat => "hwlat",
        }
    }

    /// The tracer of that name.
    pub fn parse(name: &str) -> Option<Measured> {
        Measured::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Where in the kernel something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// A return address in the function that does it.
    pub ip: u64,
    /// One in the function that called that.
    pub parent: u64,
}

/// The latency that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Longest {
    pub(crate) ns: u64,
    /// Its begin, in units of the clock.
    pub(crate) start: u64,
    pub(crate) cpu: u32,
    pub(crate) pid: i32,
    pub(crate) task: TaskName,
    /// In Linux's numbers.
    pub(crate) prio: i32,
    pub(crate) between: Option<(Place, Place)>,
}

/// A place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A return address in this kernel.
    At(u64),
    /// As an earlier kernel named it. Nothing is freed where a latency is replaced, with interrupts off.
    Named(PlaceName),
}

/// The longest name of a place that is kept, in bytes; the rest is cut off.
const MAX_PLACE: usize = 128;

/// A name of at most [`MAX_PLACE`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaceName {
    bytes: [u8; MAX_PLACE],
    len: usize,
}

impl PlaceName {
    fn new(name: &str) -> Self {
        let len = name.floor_char_boundary(MAX_PLACE);
        let mut bytes = [0; MAX_PLACE];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        PlaceName { bytes, len }
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Place {
    pub(crate) fn write<P: Platform>(
        &self,
        platform: &P,
        out: &mut dyn core::fmt::Write,
    ) -> core::fmt::Result {
        match self {
            Place::At(address) => platform.symbol(*address, out),
            Place::Named(name) => out.write_str(name.as_str()),
        }
    }
}

/// What a CPU measures. Only it writes here, with interrupts off, but for who changes the tracer.
#[derive(Default)]
struct Section {
    /// When interrupts went off, in ns; 0: they are on, or nobody saw it.
    begun: AtomicU64,
    /// The same on the instance's clock.
    stamp: AtomicU64,
    /// Where.
    place: AtomicU64,
    /// [`Latencies::sequence`] at that moment.
    sequence: AtomicU64,
    /// What is done here is not to be measured itself.
    busy: AtomicBool,
}

/// The task that is waited for.
struct Waking {
    prio: i32,
    cpu: u32,
    begun: u64,
    stamp: u64,
    /// [`Latencies::sequence`] before its begin was recorded.
    sequence: u64,
}

const NOBODY: u32 = u32::MAX;

/// Of the top instance.
pub(super) struct Latencies {
    measured: AtomicU8,
    pub(super) max_ns: AtomicU64,
    thresh_ns: AtomicU64,
    /// How often a latency was kept: storing one disturbs what other CPUs measure at that moment, which is not believed then.
    sequence: AtomicU64,
    sections: Box<[Section]>,
    /// The pid that is waited for, or [`NOBODY`]. Written with `waking` locked.
    waking_pid: AtomicU32,
    waking: Mutex<Option<Waking>>,
    longest: Mutex<Option<Longest>>,
    /// None is kept for the time being. Written with `longest` locked.
    held: AtomicBool,
    /// Who reads the one that is kept. Written with `longest` locked.
    readers: AtomicU32,
    /// Held by who changes the tracer: the options `latency-format` and `overwrite` as they were before.
    pub(super) options: Mutex<(bool, bool)>,
}

impl Latencies {
    pub(super) fn new(nr_cpus: usize) -> Self {
        Latencies {
            measured: AtomicU8::new(Measured::Nothing as u8),
            max_ns: AtomicU64::new(0),
            thresh_ns: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            sections: (0..nr_cpus).map(|_| Section::default()).collect(),
            waking_pid: AtomicU32::new(NOBODY),
            waking: Mutex::new(None),
            longest: Mutex::new(None),
            held: AtomicBool::new(false),
            readers: AtomicU32::new(0),
            options: Mutex::new((false, true)),
        }
    }

    fn measured(&self) -> Measured {
        let now = self.measured.load(Ordering::Relaxed);
        let mut all = Measured::ALL.into_iter();
        all.find(|one| *one as u8 == now).unwrap_or_default()
    }

    /// Whether a latency is to be kept.
    fn counts(&self, ns: u64) -> bool {
        match self.thresh_ns.load(Ordering::Relaxed) {
            0 => ns > self.max_ns.load(Ordering::Relaxed),
            thresh => ns >= thresh,
        }
    }

    /// Forgets what is under way.
    fn forget(&self) {
        for section in &self.sections {
            section.begun.store(0, Ordering::Relaxed);
        }
        let mut waking = self.waking.lock();
        self.waking_pid.store(NOBODY, Ordering::Relaxed);
        *waking = None;
    }
}

impl<P: Platform> Tracer<P> {
    /// The name of the current tracer.
    pub fn current_tracer(&self) -> &'static str {
        self.measured().name()
    }

    /// The name of the tracer of `instance`: one that measures is the top one's alone.
    pub(crate) fn tracer_of(&self, instance: &Instance<P>) -> &'static str {
        match instance.is_top() {
            true => self.current_tracer(),
            false => NOP,
        }
    }

    /// What the current tracer measures.
    pub fn measured(&self) -> Measured {
        self.latencies.measured()
    }

    /// Changes the tracer. One that measures begins with empty buffers and with `tracing_max_latency` 0. One that keeps the longest
    /// latency also switches the options `latency-format` and `overwrite` on; they are put back at its end. It needs the snapshot's
    /// buffers, and frees them at its end where no trigger needs them.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Mapped`] while a buffer is mapped, [`TraceError::Busy`]. Then the tracer is what it was
    /// before.
    pub fn set_measured(&self, measured: Measured) -> Result<(), TraceError> {
        let mut options = self.latencies.options.lock();
        let before = self.measured();
        if measured == before {
            return Ok(());
        }
        if measured.keeps_max() && !before.keeps_max() {
            self.top.keep_max()?;
        }
        self.stop_measuring();
        // What of this fails leaves nothing measured but the old latency.
        if let Err(why) = self.clear_for(measured) {
            if measured.keeps_max() && !before.keeps_max() {
                self.top.keep_no_max();
            }
            if before != Measured::Nothing {
                self.start_measuring(before);
            }
            return Err(why);
        }
        if before == Measured::Hwlat {
            self.hwlat_ends();
        }
        if before.keeps_max() {
            self.platform
                .no_irq(|| *self.latencies.longest.lock() = None);
        }
        match (before.keeps_max(), measured.keeps_max()) {
            (true, false) => {
                self.top.set_option(TraceOption::LatencyFormat, options.0);
                self.top.set_option(TraceOption::Overwrite, options.1);
                self.top.keep_no_max();
            }
            (false, true) => *options = self.options_of_nop(),
            _ => {}
        }
        if measured.keeps_max() {
            self.top.set_option(TraceOption::LatencyFormat, true);
            self.top.set_option(TraceOption::Overwrite, true);
        }
        if measured == Measured::Nothing {
            return Ok(());
        }
        self.latencies.max_ns.store(0, Ordering::Relaxed);
        if measured == Measured::Hwlat {
            self.hwlat_begins();
        }
        self.start_measuring(measured);
        Ok(())
    }

    /// Empties what a tracer begins with.
    fn clear_for(&self, measured: Measured) -> Result<(), TraceError> {
        if measured != Measured::Nothing {
            self.top.clear(None)?;
        }
        match measured.keeps_max() {
            true => self.top.clear_snapshot(None),
            false => Ok(()),
        }
    }

    /// The options `latency-format` and `overwrite`, as long as no tracer has set them.
    fn options_of_nop(&self) -> (bool, bool) {
        (
            self.top.option(TraceOption::LatencyFormat),
            self.top.option(TraceOption::Overwrite),
        )
    }

    fn start_measuring(&self, measured: Measured) {
        self.platform.no_irq(|| self.latencies.forget());
        (self.latencies.measured).store(measured as u8, Ordering::Relaxed);
        self.platform.measure(measured);
    }

    fn stop_measuring(&self) {
        self.platform.measure(Measured::Nothing);
        // Under the lock: whoever keeps a latency has done so, and who comes later sees it.
        self.platform.no_irq(|| {
            let _longest = self.latencies.longest.lock();
            let measured = &self.latencies.measured;
            measured.store(Measured::Nothing as u8, Ordering::Relaxed);
        });
    }

    /// Changes the top instance's clock: see [`Instance::set_clock`]. What a tracer has kept goes with the buffers, and what it measures
    /// at that moment began at a time of the old clock, so it measures anew; `tracing_max_latency` stays.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end.
    pub fn set_clock(&self, clock: ClockId) -> Result<(), TraceError> {
        let _options = self.latencies.options.lock();
        let measured = self.measured();
        if measured == Measured::Nothing || clock == self.top.clock() {
            return self.top.set_clock(clock);
        }
        self.stop_measuring();
        let changed = self.top.set_clock(clock);
        if changed.is_ok() {
            self.platform
                .no_irq(|| *self.latencies.longest.lock() = None);
        }
        self.start_measuring(measured);
        changed
    }

    /// Whether no latency is kept for the time being: what a handover has described no longer changes. Who was keeping one has done so.
    pub fn hold_latencies(&self, held: bool) {
        self.platform.no_irq(|| {
            let _longest = self.latencies.longest.lock();
            self.latencies.held.store(held, Ordering::Relaxed);
        });
    }

    /// The latency that `tracing_max_latency` tells, in ns.
    pub fn max_latency_ns(&self) -> u64 {
        self.latencies.max_ns.load(Ordering::Relaxed)
    }

    /// Sets it: only a longer one is kept from now on. The trace that is kept stays until then.
    pub fn set_max_latency_ns(&self, ns: u64) {
        self.latencies.max_ns.store(ns, Ordering::Relaxed);
    }

    /// From which length on each latency is kept, in ns; 0: only one that is longer than all before.
    pub fn latency_thresh_ns(&self) -> u64 {
        self.latencies.thresh_ns.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_latency_thresh_ns(&self, ns: u64) {
        self.latencies.thresh_ns.store(ns, Ordering::Relaxed);
    }

    /// The latency that is kept, if one is.
    fn longest(&self) -> Option<Longest> {
        let longest = &self.latencies.longest;
        self.platform.no_irq(|| longest.lock().clone())
    }

    /// The latency that is kept, to be read with its trace: no other one takes its place as long as the answer lives. Reading makes
    /// latencies of its own, and who reads would else be shown their begins.
    pub(crate) fn read_longest(&self) -> LongestReader<'_, P> {
        let latencies = &self.latencies;
        self.platform.no_irq(|| {
            let _longest = latencies.longest.lock();
            latencies.readers.fetch_add(1, Ordering::Relaxed);
        });
        // From here on no more wait for the end of a write, and that of one that does comes soon: preemption is off in it.
        for _ in 0..LOOKS {
            if !self.top.is_swap_pending() {
                break;
            }
            spin_loop();
        }
        LongestReader(self)
    }

    /// Interrupts have just gone off on this CPU.
    pub fn irqs_off(&self, site: Site) {
        if self.measured() != Measured::IrqsOff || !self.top.tracing_on() {
            return;
        }
        self.aside(|section| {
            let latencies = &self.latencies;
            self.record_site(site);
            let sequence = latencies.sequence.load(Ordering::Relaxed);
            section.sequence.store(sequence, Ordering::Relaxed);
            section.place.store(site.ip, Ordering::Relaxed);
        });
    }

    /// Interrupts are about to come on on this CPU.
    pub fn irqs_on(&self, site: Site) {
        let Some(section) = self.latencies.sections.get(self.platform.cpu()) else {
            return;
        };
        if section.busy.load(Ordering::Relaxed) {
            return;
        }
        let begun = section.begun.swap(0, Ordering::Relaxed);
        if begun == 0 || self.measured() != Measured::IrqsOff || !self.top.tracing_on() {
            return;
        }
        let ns = self.platform.nanos().saturating_sub(begun);
        let latencies = &self.latencies;
        let cpu = self.platform.cpu();
        section.busy.store(true, Ordering::Relaxed);
        self.record_site(site);
        if latencies.counts(ns) {
            let undisturbed = || {
                section.sequence.load(Ordering::Relaxed)
                    == latencies.sequence.load(Ordering::Relaxed)
            };
            let pid = self.platform.context().pid;
            let longest = Longest {
                ns,
                start: section.stamp.load(Ordering::Relaxed),
                cpu: cpu as u32,
                pid,
                task: self.name_of(pid),
                prio: self.platform.priority(),
                between: Some((
                    Place::At(section.place.load(Ordering::Relaxed)),
                    Place::At(site.ip),
                )),
            };
            self.keep(Measured::IrqsOff, longest, Some(cpu), undisturbed);
        }
        section.busy.store(false, Ordering::Relaxed);
    }

    /// Task `pid` of priority `prio` (Linux's numbers) was woken up, and is to run on `cpu` at once. It is what is measured, unless a
    /// task is that is as urgent.
    pub fn task_wakes(&self, site: Site, pid: i32, prio: i32, cpu: usize) {
        if self.measured() != Measured::Wakeup || !self.top.tracing_on() {
            return;
        }
        self.aside(|section| {
            let latencies = &self.latencies;
            {
                let mut waking = latencies.waking.lock();
                if waking.as_ref().is_some_and(|waking| waking.prio <= prio) {
                    return;
                }
                *waking = Some(Waking {
                    prio,
                    cpu: cpu as u32,
                    begun: section.begun.load(Ordering::Relaxed),
                    stamp: section.stamp.load(Ordering::Relaxed),
                    sequence: latencies.sequence.load(Ordering::Relaxed),
                });
                latencies.waking_pid.store(pid as u32, Ordering::Relaxed);
            }
            self.record_site(site);
        });
    }

    /// The CPU goes over to task `pid`; still in the task before.
    pub fn task_runs(&self, site: Site, pid: i32) {
        let latencies = &self.latencies;
        if latencies.waking_pid.load(Ordering::Relaxed) != pid as u32 {
            return;
        }
        let now = self.platform.nanos();
        let waking = {
            let mut waking = latencies.waking.lock();
            if latencies.waking_pid.load(Ordering::Relaxed) != pid as u32 {
                return;
            }
            latencies.waking_pid.store(NOBODY, Ordering::Relaxed);
            waking.take()
        };
        let Some(waking) = waking else { return };
        if self.measured() != Measured::Wakeup || !self.top.tracing_on() {
            return;
        }
        self.record_site(site);
        let ns = now.saturating_sub(waking.begun);
        if latencies.counts(ns) {
            let longest = Longest {
                ns,
                start: waking.stamp,
                cpu: waking.cpu,
                pid,
                task: self.name_of(pid),
                prio: waking.prio,
                between: None,
            };
            // Another may have been about to be kept as this one began, whose begin went away with that one's trace.
            let undisturbed = || waking.sequence == latencies.sequence.load(Ordering::Relaxed);
            self.keep(Measured::Wakeup, longest, None, undisturbed);
        }
    }

    /// Does something that is not measured, having taken the time in this CPU's section first.
    fn aside(&self, f: impl FnOnce(&Section)) {
        let Some(section) = self.latencies.sections.get(self.platform.cpu()) else {
            return;
        };
        if section.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        // No latency begins at 0: that says that there is none.
        let (stamp, begun) = (self.top.peek_now(), self.platform.nanos().max(1));
        section.begun.store(begun, Ordering::Relaxed);
        section.stamp.store(stamp, Ordering::Relaxed);
        f(section);
        section.busy.store(false, Ordering::Relaxed);
    }

    /// Keeps a latency with its trace, of one CPU or of all, if it still counts once nobody else is at it.
    fn keep(
        &self,
        measured: Measured,
        longest: Longest,
        cpu: Option<usize>,
        undisturbed: impl FnOnce() -> bool,
    ) {
        let latencies = &self.latencies;
        let mut kept = latencies.longest.lock();
        let held =
            latencies.held.load(Ordering::Relaxed) || latencies.readers.load(Ordering::Relaxed) > 0;
        if held || self.measured() != measured || !latencies.counts(longest.ns) || !undisturbed() {
            return;
        }
        self.top.record_stack();
        latencies.max_ns.store(longest.ns, Ordering::Relaxed);
        *kept = Some(longest);
        self.top.swap_now(cpu);
        latencies.sequence.fetch_add(1, Ordering::Relaxed);
    }

    /// Records where the kernel was, as `ftrace:function`.
    fn record_site(&self, site: Site) {
        let size = COMMON_SIZE + 16;
        let fill = |record: &mut Record<'_, '_, P>| {
            record.put(COMMON_SIZE, &site.ip.to_ne_bytes());
            record.put(COMMON_SIZE + 8, &site.parent.to_ne_bytes());
        };
        // Its counters say what becomes of it.
        let _ = self.top.write(FUNCTION_ID, size, 0, None, fill);
    }

    fn name_of(&self, pid: i32) -> TaskName {
        let mut name = TaskName::default();
        self.platform.comm(pid, &mut name);
        name
    }
}

/// How often a reader looks whether a latency's trace has come to its place.
const LOOKS: u32 = 1 << 16;

/// Somebody reads the latency that is kept: see [`Tracer::read_longest`].
pub(crate) struct LongestReader<'t, P: Platform>(&'t Tracer<P>);

impl<P: Platform> LongestReader<'_, P> {
    /// The latency, if there is one.
    pub(crate) fn longest(&self) -> Option<Longest> {
        self.0.longest()
    }
}

impl<P: Platform> Drop for LongestReader<'_, P> {
    fn drop(&mut self) {
        let latencies = &self.0.latencies;
        self.0.platform.no_irq(|| {
            let _longest = latencies.longest.lock();
            latencies.readers.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
