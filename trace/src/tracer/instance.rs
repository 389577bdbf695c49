//! One named set of buffers: what an instance under `instances/` is, and what the top directory is.

use super::choices::Choices;
use super::conditions::EventState;
use super::map::none_mapped;
use super::persist;
use super::pids::Pids;
use super::quiesce::{Domain, Place};
use super::refusals::Refusals;
use super::{Boundary, MAX_CPUS, pages_for};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::EventDesc;
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::ring::{CpuBuffer, Stats, room_in_region};
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use handover::page::PageRef;

/// The slot of the instance that the top directory shows.
pub(super) const TOP: u8 = 0;

pub(super) struct Cpu<P: Platform> {
    pub(super) buffer: CpuBuffer<P>,
    /// As `buffer_size_kb` tells it.
    pub(super) size_kb: AtomicU64,
    /// Without pages until a snapshot is wanted; then with as many as `buffer`.
    pub(super) snapshot: CpuBuffer<P>,
    /// The task whose name was taken down last; -1: look again.
    pub(super) last_pid: AtomicU32,
    /// A snapshot is to be taken as soon as the write that is under way has ended.
    pub(super) pending: AtomicBool,
    /// Its bit in `tracing_cpumask`. Only who looks `last_pid` up in vain looks at it: see `cpumask`.
    pub(super) allowed: AtomicBool,
}

impl<P: Platform> Cpu<P> {
    pub(super) fn new(buffer: CpuBuffer<P>, snapshot: CpuBuffer<P>, size_kb: u64) -> Self {
        Cpu {
            buffer,
            size_kb: AtomicU64::new(size_kb),
            snapshot,
            last_pid: AtomicU32::new(u32::MAX),
            pending: AtomicBool::new(false),
            allowed: AtomicBool::new(true),
        }
    }
}

/// A set of per-CPU buffers with their own sizes, switch and clock, and their own choice of events. All methods take `&self`;
/// recording is lock-free, and allowed in every context.
pub struct Instance<P: Platform> {
    pub(super) platform: P,
    /// What all instances of the tracer share.
    pub(super) shared: Arc<Shared>,
    /// Its bit in the masks of [`EventDesc`].
    pub(super) slot: u8,
    name: String,
    pub(super) cpus: Box<[Cpu<P>]>,
    on: AtomicBool,
    clock: AtomicU8,
    pub(super) counter: AtomicU64,
    pub(super) boundaries: Mutex<Vec<Boundary>>,
    pub(super) choices: Choices,
    /// Held while buffers are resized, cleared, or change their clock. A reader of text does not take it.
    pub(super) control: Mutex<()>,
    /// log2 of the pages of a sub-buffer.
    order: AtomicU8,
    /// The newest time of the clock `global`.
    newest: AtomicU64,
    /// When the buffers were cleared last, in units of the clock: what `latency-format` counts from.
    pub(super) cleared: AtomicU64,
    /// From when on the records hold addresses of this build, in units of the clock.
    build_since: AtomicU64,
    /// A tracer keeps the trace of its longest latency in the snapshot's buffers.
    pub(super) keeps_max: AtomicBool,
    /// The number of its buffers in the region that outlives a reset; [`persist::NONE`] where they are not there.
    pub(super) lodging: AtomicU8,
    /// Snapshots of single CPUs that had to wait for the end of a write.
    pub(super) deferred: AtomicU64,
    /// The declared events.
    pub(super) declared: &'static [&'static EventDesc],
    /// What is attached to each of them, in their order.
    pub(super) events: Box<[EventState]>,
    /// What is attached to `ftrace:print`, the events of `trace_marker`.
    pub(super) print: EventState,
    /// That has triggers.
    pub(super) print_seen: AtomicBool,
    /// Whose events are recorded.
    pub(super) pids: Pids,
    /// What was wrong with commands to those.
    pub(super) refusals: Refusals,
}

/// What all instances of a tracer share.
pub(super) struct Shared {
    pub(super) domain: Domain,
    /// Always there, unless a new tracer had no memory for it: then no name is known.
    pub(super) cmdlines: Place<super::cmdlines::Cmdlines>,
    /// Records that the slow path could not take.
    pub(super) oversized: AtomicU64,
    /// Some instance's buffers may be in the region that outlives a reset.
    pub(super) persistent: AtomicBool,
}

/// What an instance begins with.
pub(super) struct Parts<P: Platform> {
    pub(super) slot: u8,
    pub(super) name: String,
    pub(super) cpus: Vec<Cpu<P>>,
    pub(super) on: bool,
    pub(super) clock: ClockId,
    pub(super) counter: u64,
    pub(super) boundaries: Vec<Boundary>,
    pub(super) options: u32,
    pub(super) buffer_percent: u8,
    pub(super) order: u8,
    pub(super) declared: &'static [&'static EventDesc],
}

impl<P: Platform> Parts<P> {
    /// Of an instance as it begins.
    pub(super) fn new(
        slot: u8,
        name: String,
        cpus: Vec<Cpu<P>>,
        declared: &'static [&'static EventDesc],
    ) -> Self {
        Parts {
            slot,
            name,
            cpus,
            on: true,
            clock: ClockId::Local,
            counter: 0,
            boundaries: Vec::new(),
            options: TraceOption::DEFAULT,
            buffer_percent: super::DEFAULT_PERCENT,
            order: 0,
            declared,
        }
    }
}

/// Empty buffers of `size_kb` KiB for each CPU.
pub(super) fn fresh_cpus<P: Platform>(
    platform: &P,
    nr_cpus: usize,
    size_kb: u64,
    order: u8,
) -> Result<Vec<Cpu<P>>, TraceError> {
    if size_kb == 0 {
        return Err(TraceError::Size);
    }
    let pages = pages_for(size_kb, order).ok_or(TraceError::NoMemory)?;
    let mut cpus = Vec::new();
    cpus.try_reserve_exact(nr_cpus.min(MAX_CPUS))
        .map_err(|_| TraceError::NoMemory)?;
    for _ in 0..nr_cpus {
        cpus.push(Cpu::new(
            CpuBuffer::new(platform.clone(), pages, order)?,
            CpuBuffer::retired(platform.clone()),
            size_kb,
        ));
    }
    Ok(cpus)
}

impl<P: Platform> Cpu<P> {
    /// The buffer, and the snapshot with it.
    fn resize(&self, pages: usize) -> Result<(), TraceError> {
        let before = self.buffer.pages();
        self.buffer.resize(pages)?;
        if self.snapshot.is_retired() {
            return Ok(());
        }
        self.snapshot.resize(pages).inspect_err(|_| {
            // Shrinking back needs no memory; see `Instance::resize` for growing back.
            let _ = self.buffer.resize(before);
        })
    }

    fn set_order(&self, order: u8) -> Result<(), TraceError> {
        let size_kb = self.size_kb.load(Ordering::Relaxed);
        let pages = pages_for(size_kb, order).ok_or(TraceError::NoMemory)?;
        if self.buffer.order() != order {
            self.buffer.set_order(order, pages)?;
        }
        if !self.snapshot.is_retired() && self.snapshot.order() != order {
            self.snapshot.set_order(order, pages)?;
        }
        Ok(())
    }
}

impl<P: Platform> Instance<P> {
    pub(super) fn from_parts(platform: P, shared: Arc<Shared>, parts: Parts<P>) -> Self {
        let instance = Instance {
            platform,
            shared,
            slot: parts.slot,
            name: parts.name,
            cpus: parts.cpus.into_boxed_slice(),
            on: AtomicBool::new(parts.on),
            clock: AtomicU8::new(parts.clock as u8),
            counter: AtomicU64::new(parts.counter),
            boundaries: Mutex::new(parts.boundaries),
            choices: Choices::new(parts.options, parts.buffer_percent),
            control: Mutex::new(()),
            order: AtomicU8::new(parts.order),
            newest: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            build_since: AtomicU64::new(0),
            keeps_max: AtomicBool::new(false),
            lodging: AtomicU8::new(persist::NONE),
            deferred: AtomicU64::new(0),
            declared: parts.declared,
            events: (parts.declared.iter())
                .map(|_| EventState::default())
                .collect(),
            print: EventState::default(),
            print_seen: AtomicBool::new(false),
            pids: Pids::default(),
            refusals: Refusals::default(),
        };
        instance.find_lodging();
        instance.apply_overwrite();
        instance
    }

    /// Its name under `instances/`; empty for the top one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the one that the top directory shows.
    pub fn is_top(&self) -> bool {
        self.slot == TOP
    }

    /// Number of CPUs that have a buffer.
    pub fn nr_cpus(&self) -> usize {
        self.cpus.len()
    }

    /// log2 of the pages of 4 KiB of a sub-buffer.
    pub fn subbuf_order(&self) -> u8 {
        self.order.load(Ordering::Relaxed)
    }

    /// Whether `event` is recorded here.
    pub fn event_enabled(&self, event: &EventDesc) -> bool {
        event.enabled_in(self.slot)
    }

    /// Switches `event` on or off here.
    pub fn set_event_enabled(&self, event: &EventDesc, on: bool) {
        event.set_enabled_in(self.slot, on);
    }

    /// Where the lives began whose events may be in the buffers, in order.
    pub fn boundaries(&self) -> Vec<Boundary> {
        self.boundaries.lock().clone()
    }

    /// The buffer of `cpu`.
    pub fn buffer(&self, cpu: usize) -> Option<&CpuBuffer<P>> {
        self.cpus.get(cpu).map(|cpu| &cpu.buffer)
    }

    /// The counters of `cpu`.
    pub fn stats(&self, cpu: usize) -> Option<Stats> {
        self.buffer(cpu).map(CpuBuffer::stats)
    }

    /// Whether events are recorded at all.
    pub fn tracing_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Switches recording on or off; what is recorded stays.
    pub fn set_tracing_on(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// The clock.
    pub fn clock(&self) -> ClockId {
        let now = self.clock.load(Ordering::Relaxed);
        ClockId::ALL
            .into_iter()
            .find(|clock| *clock as u8 == now)
            .unwrap_or_default()
    }

    /// Changes the clock, and clears all buffers, since stamps of two clocks cannot be compared.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end.
    pub fn set_clock(&self, clock: ClockId) -> Result<(), TraceError> {
        if clock == self.clock() {
            return Ok(());
        }
        let _control = self.control.lock();
        let before = self.clock.swap(clock as u8, Ordering::Relaxed);
        let cleared = self
            .clear_all()
            .and_then(|()| self.clear_locked(&self.cpus));
        match cleared {
            Ok(()) => {
                self.set_build_since(0);
                self.region_changed();
            }
            Err(_) => self.clock.store(before, Ordering::Relaxed),
        }
        cleared
    }

    /// The time on the current clock.
    #[inline]
    pub fn now(&self) -> u64 {
        const TSC: u8 = ClockId::X86Tsc as u8;
        const COUNTER: u8 = ClockId::Counter as u8;
        const GLOBAL: u8 = ClockId::Global as u8;
        match self.clock.load(Ordering::Relaxed) {
            TSC => self.platform.cycles(),
            COUNTER => self.counter.fetch_add(1, Ordering::Relaxed) + 1,
            GLOBAL => self.global(),
            _ => self.platform.nanos(),
        }
    }

    /// Nanoseconds that never go back, whichever CPU asks.
    fn global(&self) -> u64 {
        let now = self.platform.nanos();
        self.newest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// The time on the current clock without moving it on.
    pub(crate) fn peek_now(&self) -> u64 {
        match self.clock() {
            ClockId::Counter => self.counter.load(Ordering::Relaxed),
            _ => self.now(),
        }
    }

    /// The time of `cycles` on the current clock; `None` where that has none for it.
    pub(super) fn time_of(&self, cycles: u64) -> Option<u64> {
        match self.clock() {
            ClockId::X86Tsc => Some(cycles),
            ClockId::Counter => None,
            _ => Some(self.platform.cycles_to_nanos(cycles)),
        }
    }

    /// From when on the records hold addresses of this build, in units of the clock: those of an earlier life may be of another.
    pub(crate) fn build_since(&self) -> u64 {
        self.build_since.load(Ordering::Relaxed)
    }

    pub(super) fn set_build_since(&self, ts: u64) {
        self.build_since.store(ts, Ordering::Relaxed);
    }

    /// When all buffers were cleared last, in units of the clock; 0 if they never were.
    pub fn cleared_at(&self) -> u64 {
        self.cleared.load(Ordering::Relaxed)
    }

    /// Clears the buffer of one CPU, or of all.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end; [`TraceError::CpuCount`] for a CPU that is not there.
    pub fn clear(&self, cpu: Option<usize>) -> Result<(), TraceError> {
        let _control = self.control.lock();
        match cpu {
            Some(cpu) => self.one(cpu)?.buffer.clear(),
            None => self.clear_all(),
        }
    }

    fn clear_all(&self) -> Result<(), TraceError> {
        for cpu in &self.cpus {
            cpu.buffer.clear()?;
        }
        self.boundaries.lock().clear();
        self.cleared.store(self.peek_now(), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn one(&self, cpu: usize) -> Result<&Cpu<P>, TraceError> {
        self.cpus.get(cpu).ok_or(TraceError::CpuCount {
            given: cpu,
            max: self.cpus.len(),
        })
    }

    /// The size of a CPU's buffer in KiB, as it was asked for.
    pub fn size_kb(&self, cpu: usize) -> Option<u64> {
        Some(self.cpus.get(cpu)?.size_kb.load(Ordering::Relaxed))
    }

    /// Resizes the buffer of one CPU, or of all, keeping the newest events for which there is room.
    ///
    /// # Errors
    ///
    /// [`TraceError::Size`], [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::CpuCount`],
    /// [`TraceError::Mapped`]; then every buffer has its old size (and all its events, unless one had been made smaller already before another could not be).
    pub fn resize(&self, cpu: Option<usize>, size_kb: u64) -> Result<(), TraceError> {
        if size_kb == 0 {
            return Err(TraceError::Size);
        }
        let _control = self.control.lock();
        let order = self.subbuf_order();
        let pages = pages_for(size_kb, order).ok_or(TraceError::NoMemory)?;
        let chosen = match cpu {
            Some(cpu) => core::slice::from_ref(self.one(cpu)?),
            None => &self.cpus[..],
        };
        // Before anything is lost.
        none_mapped(chosen)?;
        let in_region = chosen.iter().filter(|cpu| cpu.buffer.home().is_some());
        let growth = in_region.map(|cpu| pages.saturating_sub(cpu.buffer.pages()) as u64);
        let growth = growth.fold(0, u64::saturating_add);
        room_in_region(&self.platform, growth.saturating_mul(1 << order))?;
        for (done, cpu) in chosen.iter().enumerate() {
            if let Err(e) = cpu.resize(pages) {
                for cpu in &chosen[..done] {
                    let old = pages_for(cpu.size_kb.load(Ordering::Relaxed), order);
                    // Growing back can fail only where shrinking had come before; the buffer is then smaller, and says so.
                    if old.is_none_or(|old| cpu.resize(old).is_err()) {
                        cpu.size_kb.store(size_kb, Ordering::Relaxed);
                    }
                }
                return Err(e);
            }
        }
        for cpu in chosen {
            cpu.size_kb.store(size_kb, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes the sub-buffers of all CPUs `1 << order` pages of 4 KiB large, which clears the buffers. The sizes in KiB stay, rounded
    /// up to whole sub-buffers.
    ///
    /// # Errors
    ///
    /// [`TraceError::Order`], [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::Mapped`]; then the sub-buffers have
    /// their old size (and buffers that had been changed already are empty).
    pub fn set_subbuf_order(&self, order: u8) -> Result<(), TraceError> {
        let _control = self.control.lock();
        let old = self.subbuf_order();
        if order == old {
            return Ok(());
        }
        none_mapped(&self.cpus)?;
        for (done, cpu) in self.cpus.iter().enumerate() {
            if let Err(e) = cpu.set_order(order) {
                for cpu in &self.cpus[..=done] {
                    // Where there is no memory for that either, the CPU keeps the new one: each buffer knows its own.
                    let _ = cpu.set_order(old);
                }
                return Err(e);
            }
        }
        self.order.store(order, Ordering::Relaxed);
        self.boundaries.lock().clear();
        Ok(())
    }

    /// Calls `f` with every page that the buffers own.
    pub fn for_each_page(&self, mut f: impl FnMut(PageRef)) {
        for cpu in &self.cpus {
            cpu.buffer.for_each_page(&mut f);
            cpu.snapshot.for_each_page(&mut f);
        }
    }
}

impl<P: Platform> core::fmt::Debug for Instance<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Instance")
            .field("name", &self.name)
            .field("nr_cpus", &self.cpus.len())
            .field("on", &self.tracing_on())
            .field("clock", &self.clock())
            .finish_non_exhaustive()
    }
}
