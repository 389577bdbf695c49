//! The tracer: the buffers of all CPUs, the events, and what is switched on.

mod adopt;
mod state;

pub use adopt::Report;
pub use state::{Boundary, CpuState, TracerState};

use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{self, COMMON_SIZE, Common, EventDesc, Known, PRINT_ID, Record, Table};
use crate::platform::Platform;
use crate::ring::{CpuBuffer, MIN_PAGES, ReserveError, Stats};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use handover::mem::PAGE_SIZE;
use handover::page::PageRef;

/// The most CPUs that a tracer serves.
pub const MAX_CPUS: usize = 1024;
/// The most boundaries between lives that are kept; the oldest are forgotten first.
const MAX_BOUNDARIES: usize = 64;
/// log2 of the pages of a sub-buffer.
const ORDER: u8 = 0;
/// The only tracer.
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

struct Cpu<P: Platform> {
    buffer: CpuBuffer<P>,
    /// As `buffer_size_kb` tells it.
    size_kb: AtomicU64,
}

/// The tracer. All methods take `&self`; recording is lock-free, and allowed in every context.
pub struct Tracer<P: Platform> {
    platform: P,
    cpus: Box<[Cpu<P>]>,
    on: AtomicBool,
    clock: AtomicU8,
    counter: AtomicU64,
    generation: u32,
    events: Table,
    boundaries: Mutex<Vec<Boundary>>,
    /// Held while buffers are resized, cleared, or change their clock. A reader of text does not take it.
    control: Mutex<()>,
    report: Report,
}

/// Sub-buffers in the ring for a size in KiB; `None` for a size that no machine has.
fn pages_for(size_kb: u64) -> Option<usize> {
    let bytes = size_kb.checked_mul(1024)?;
    let pages = bytes.div_ceil(PAGE_SIZE << ORDER);
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
        if size_kb == 0 {
            return Err(TraceError::Size);
        }
        let pages = pages_for(size_kb).ok_or(TraceError::NoMemory)?;
        let events = Table::new(events)?;
        let mut cpus = Vec::new();
        for _ in 0..nr_cpus {
            cpus.push(Cpu {
                buffer: CpuBuffer::new(platform.clone(), pages, ORDER)?,
                size_kb: AtomicU64::new(size_kb),
            });
        }
        events.apply();
        for desc in events.declared() {
            desc.set_enabled(false);
        }
        Ok(Tracer {
            platform,
            cpus: cpus.into_boxed_slice(),
            on: AtomicBool::new(true),
            clock: AtomicU8::new(ClockId::Local as u8),
            counter: AtomicU64::new(0),
            generation,
            events,
            boundaries: Mutex::new(Vec::with_capacity(1)),
            control: Mutex::new(()),
            report: Report::default(),
        })
    }

    /// The machine that it runs on.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Number of CPUs that have a buffer.
    pub fn nr_cpus(&self) -> usize {
        self.cpus.len()
    }

    /// The number of this life.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Where the lives began whose events may be in the buffers, in order.
    pub fn boundaries(&self) -> Vec<Boundary> {
        self.boundaries.lock().clone()
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

    /// The buffer of `cpu`.
    pub fn buffer(&self, cpu: usize) -> Option<&CpuBuffer<P>> {
        self.cpus.get(cpu).map(|cpu| &cpu.buffer)
    }

    /// The counters of `cpu`.
    pub fn stats(&self, cpu: usize) -> Option<Stats> {
        self.buffer(cpu).map(CpuBuffer::stats)
    }

    /// The declared events.
    pub fn events(&self) -> &'static [&'static EventDesc] {
        self.events.declared()
    }

    pub(crate) fn event_by_id(&self, id: u16) -> Option<&Known> {
        self.events.get(id)
    }

    /// Whether events are recorded at all.
    pub fn tracing_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Switches recording on or off; what is recorded stays.
    pub fn set_tracing_on(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// The name of the current tracer.
    pub fn current_tracer(&self) -> &'static str {
        NOP
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
        let cleared = self.clear_all();
        if cleared.is_err() {
            self.clock.store(before, Ordering::Relaxed);
        }
        cleared
    }

    /// The time on the current clock.
    #[inline]
    pub fn now(&self) -> u64 {
        const TSC: u8 = ClockId::X86Tsc as u8;
        const COUNTER: u8 = ClockId::Counter as u8;
        match self.clock.load(Ordering::Relaxed) {
            TSC => self.platform.cycles(),
            COUNTER => self.counter.fetch_add(1, Ordering::Relaxed) + 1,
            _ => self.platform.nanos(),
        }
    }

    /// The time on the current clock without moving it on.
    pub(crate) fn peek_now(&self) -> u64 {
        match self.clock() {
            ClockId::Counter => self.counter.load(Ordering::Relaxed),
            _ => self.now(),
        }
    }

    /// The time of `cycles` on the current clock; `None` where that has none for it.
    fn time_of(&self, cycles: u64) -> Option<u64> {
        match self.clock() {
            ClockId::X86Tsc => Some(cycles),
            ClockId::Counter => None,
            _ => Some(self.platform.cycles_to_nanos(cycles)),
        }
    }

    /// Records an event with `size` bytes of fixed fields and `dynamic` bytes of strings, at a past time (`cycles` of the time stamp counter) or now. Called
    /// by what [`define_events!`](crate::define_events) makes. An event that cannot be recorded is counted.
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
        if id != 0 {
            // The event's counters say what becomes of it.
            let _ = self.write(id, size, dynamic, cycles, fill);
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

    #[inline(always)]
    fn write(
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
            let level = event::level_of(&context);
            let clock = || self.now();
            let len = size + dynamic;
            let mut reservation = match cycles.and_then(|cycles| self.time_of(cycles)) {
                Some(ts) => cpu.buffer.reserve_at(level, len, ts, &clock)?,
                None => cpu.buffer.reserve(level, len, &clock)?,
            };
            fill(&mut Record::begin(&mut reservation, id, size, &context));
            reservation.commit();
            Ok(())
        })
    }

    /// Records `text` as `ftrace:print`, as a write to `trace_marker` does: a newline is added where there is none at the
    /// end. At most [`event::MAX_STRING`] bytes are kept.
    ///
    /// # Errors
    ///
    /// Those of [`CpuBuffer::reserve`].
    pub fn mark(&self, text: &[u8]) -> Result<(), ReserveError> {
        const IP: usize = 8;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = &text[..text.len().min(event::MAX_STRING)];
        let ip = self.platform.marker_ip().to_ne_bytes();
        let size = COMMON_SIZE + IP + text.len() + 2;
        self.write(PRINT_ID, size, 0, None, |record| {
            record.put(COMMON_SIZE, &ip);
            record.put(COMMON_SIZE + IP, text);
            record.put(COMMON_SIZE + IP + text.len(), b"\n\0");
        })
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
        Ok(())
    }

    fn one(&self, cpu: usize) -> Result<&Cpu<P>, TraceError> {
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
    /// [`TraceError::Size`], [`TraceError::NoMemory`], [`TraceError::Busy`], [`TraceError::CpuCount`]; then every buffer has
    /// its old size (and all its events, unless one had been made smaller already before another could not be).
    pub fn resize(&self, cpu: Option<usize>, size_kb: u64) -> Result<(), TraceError> {
        if size_kb == 0 {
            return Err(TraceError::Size);
        }
        let pages = pages_for(size_kb).ok_or(TraceError::NoMemory)?;
        let _control = self.control.lock();
        let chosen = match cpu {
            Some(cpu) => core::slice::from_ref(self.one(cpu)?),
            None => &self.cpus[..],
        };
        for (done, cpu) in chosen.iter().enumerate() {
            if let Err(e) = cpu.buffer.resize(pages) {
                for cpu in &chosen[..done] {
                    let old = pages_for(cpu.size_kb.load(Ordering::Relaxed));
                    // Growing back can fail only where shrinking had come before; the buffer is then smaller, and says so.
                    if old.is_none_or(|old| cpu.buffer.resize(old).is_err()) {
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

    /// Calls `f` with every page that the buffers own.
    pub fn for_each_page(&self, mut f: impl FnMut(PageRef)) {
        for cpu in &self.cpus {
            cpu.buffer.for_each_page(&mut f);
        }
    }

    /// Describes the tracer for the next life. To be brought up to date by [`refresh_state`](Self::refresh_state) at the
    /// last moment.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Busy`].
    pub fn state(&self) -> Result<TracerState, TraceError> {
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
        Ok(TracerState {
            generation: self.generation,
            tracing_on: self.tracing_on(),
            current_tracer: self.current_tracer().into(),
            clock: self.clock(),
            counter: self.counter.load(Ordering::Relaxed),
            cpus,
            events: self.events.save(),
            boundaries: self.boundaries(),
        })
    }

    /// Brings `state` up to date without allocating, and without changing its encoded size. To be called when nobody
    /// else runs any more, as the last thing before the jump; what is recorded on the same page after it is still found.
    ///
    /// # Errors
    ///
    /// [`TraceError::StateShape`] if a buffer was resized or cleared of its boundaries since; [`TraceError::Busy`] if a
    /// CPU that stands still holds a reader's lock.
    pub fn refresh_state(&self, state: &mut TracerState) -> Result<(), TraceError> {
        if state.cpus.len() != self.cpus.len() {
            return Err(TraceError::StateShape);
        }
        for (saved, cpu) in state.cpus.iter_mut().zip(&self.cpus) {
            cpu.buffer.describe(&mut saved.shape)?;
            saved.size_kb = cpu.size_kb.load(Ordering::Relaxed);
        }
        self.events.refresh(&mut state.events)?;
        state.tracing_on = self.tracing_on();
        state.clock = self.clock();
        state.counter = self.counter.load(Ordering::Relaxed);
        Ok(())
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
            .field("nr_cpus", &self.cpus.len())
            .field("generation", &self.generation)
            .field("on", &self.tracing_on())
            .field("clock", &self.clock())
            .finish_non_exhaustive()
    }
}

/// The common fields of a record, and the rest of it.
pub(crate) fn split(payload: &[u8]) -> Option<Common> {
    Common::parse(payload)
}
