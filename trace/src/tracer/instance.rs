//! One named set of buffers: what an instance under `instances/` is, and what the top directory is.

use super::choices::Choices;
use super::{Boundary, MAX_CPUS, ORDER, pages_for};
use crate::clock::ClockId;
use crate::error::TraceError;
use crate::event::{self, COMMON_SIZE, EventDesc, PRINT_ID, Record};
use crate::platform::Platform;
use crate::ring::{CpuBuffer, ReserveError, Stats};
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, Ordering};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use handover::page::PageRef;

/// The slot of the instance that the top directory shows.
pub(super) const TOP: u8 = 0;

pub(super) struct Cpu<P: Platform> {
    pub(super) buffer: CpuBuffer<P>,
    /// As `buffer_size_kb` tells it.
    pub(super) size_kb: AtomicU64,
}

/// A set of per-CPU buffers with their own sizes, switch and clock, and their own choice of events. All methods take `&self`;
/// recording is lock-free, and allowed in every context.
pub struct Instance<P: Platform> {
    platform: P,
    /// Its bit in the masks of [`EventDesc`].
    slot: u8,
    name: String,
    pub(super) cpus: Box<[Cpu<P>]>,
    on: AtomicBool,
    clock: AtomicU8,
    pub(super) counter: AtomicU64,
    pub(super) boundaries: Mutex<Vec<Boundary>>,
    pub(super) choices: Choices,
    /// Held while buffers are resized, cleared, or change their clock. A reader of text does not take it.
    pub(super) control: Mutex<()>,
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
}

/// Empty buffers of `size_kb` KiB for each CPU.
pub(super) fn fresh_cpus<P: Platform>(
    platform: &P,
    nr_cpus: usize,
    size_kb: u64,
) -> Result<Vec<Cpu<P>>, TraceError> {
    if size_kb == 0 {
        return Err(TraceError::Size);
    }
    let pages = pages_for(size_kb).ok_or(TraceError::NoMemory)?;
    let mut cpus = Vec::new();
    cpus.try_reserve_exact(nr_cpus.min(MAX_CPUS))
        .map_err(|_| TraceError::NoMemory)?;
    for _ in 0..nr_cpus {
        cpus.push(Cpu {
            buffer: CpuBuffer::new(platform.clone(), pages, ORDER)?,
            size_kb: AtomicU64::new(size_kb),
        });
    }
    Ok(cpus)
}

impl<P: Platform> Instance<P> {
    pub(super) fn from_parts(platform: P, parts: Parts<P>) -> Self {
        Instance {
            platform,
            slot: parts.slot,
            name: parts.name,
            cpus: parts.cpus.into_boxed_slice(),
            on: AtomicBool::new(parts.on),
            clock: AtomicU8::new(parts.clock as u8),
            counter: AtomicU64::new(parts.counter),
            boundaries: Mutex::new(parts.boundaries),
            choices: Choices::default(),
            control: Mutex::new(()),
        }
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
    pub(super) fn time_of(&self, cycles: u64) -> Option<u64> {
        match self.clock() {
            ClockId::X86Tsc => Some(cycles),
            ClockId::Counter => None,
            _ => Some(self.platform.cycles_to_nanos(cycles)),
        }
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
