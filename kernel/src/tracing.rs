//! The tracer on this machine: its clock, its pages, its part of a handover.

use crate::handing::{Outcome, generation, outcome, take_phases};
use crate::machine::{clock, cpu, ipi, percpu};
use crate::memory::{self, IrqMutex, Phys, without_interrupts};
use crate::{boot, events, latency, ramtrace, task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use handover::error::Error;
use handover::page::PageRef;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size, for_each_page};
use handover::subsystem::{Prepared, Refusal, Subsystem, Takeover};
use kernel::cmdline::parse_size;
use kernel::trace_instance::{TraceInstance, TraceInstanceError};
use spin::Once;
use trace::errno::Errno;
use trace::fs::TraceFs;
use trace::ramtrace::Region;
use trace::tracer::DEFAULT_KB;
use trace::{Config, TracerState};
use trace::{Context, Locality, Platform, Tracer};

static TRACER: Once<Tracer<Phys>> = Once::new();

/// The tracer, once there is one.
#[inline]
pub fn tracer() -> Option<&'static Tracer<Phys>> {
    TRACER.get()
}

/// Sub-buffers that there was no memory to preserve: as long as there are any, no kexec loses them.
static UNPRESERVED: AtomicU64 = AtomicU64::new(0);

impl Platform for Phys {
    // SAFETY: a buffer is the CPU's whose number it has, and a write to it has preemption off from its begin to its end
    // (`no_preempt`): no other CPU is in one, and interrupts nest. `barrier_all` comes through by NMI.
    const LOCALITY: Locality = unsafe { Locality::pinned() };

    fn barrier_all(&self) {
        ipi::barrier_all();
    }

    #[inline(always)]
    fn cpu(&self) -> usize {
        cpu::index()
    }

    fn cycles(&self) -> u64 {
        clock::tsc()
    }

    fn cycles_to_nanos(&self, cycles: u64) -> u64 {
        clock::nanos_at(cycles)
    }

    /// Called with preemption off, once more than where the event is.
    fn context(&self) -> Context {
        let count = percpu::preempt_count();
        Context {
            pid: task::current_pid(),
            irqs_off: !x86_64::instructions::interrupts::are_enabled(),
            in_hardirq: count & percpu::HARDIRQ_MASK != 0,
            in_softirq: count & percpu::SOFTIRQ_MASK != 0,
            in_nmi: count & percpu::NMI_MASK != 0,
            need_resched: percpu::this().need_resched.load(Relaxed),
            preempt_count: (count & percpu::PREEMPT_MASK).saturating_sub(1).min(15) as u8,
        }
    }

    #[inline(always)]
    fn no_preempt<R>(&self, f: impl FnOnce() -> R) -> R {
        task::without_preemption(f)
    }

    fn comm(&self, pid: i32, out: &mut dyn fmt::Write) {
        // All idle tasks have the same pid, so that it stands for none of their names, as in Linux.
        if pid == 0 {
            let _ = out.write_str("<idle>");
        } else if !task::write_name(pid, out) {
            let _ = out.write_str("<...>");
        }
    }

    fn no_irq<R>(&self, f: impl FnOnce() -> R) -> R {
        without_interrupts(f)
    }

    fn ramtrace(&self) -> Option<&'static Region<Self>> {
        ramtrace::region()
    }

    fn ramtrace_changed(&self) {
        ramtrace::changed();
    }

    fn page_owned(&self, page: PageRef) {
        if ramtrace::owns(page.pa) {
            return;
        }
        if let Err(why) = memory::with_preserved(|map| map.preserve(page)) {
            UNPRESERVED.fetch_add(1, Relaxed);
            crate::error!("trace: the page at {:#x} is not preserved: {why}", page.pa);
        }
    }

    fn page_released(&self, page: PageRef) {
        if ramtrace::owns(page.pa) {
            return;
        }
        let released = memory::with_preserved(|map| match map.block_at(page.pa) {
            Some(_) => map.unpreserve(page).map(|()| true),
            None => Ok(false),
        });
        match released {
            Ok(true) => {}
            Ok(false) => {
                UNPRESERVED.fetch_sub(1, Relaxed);
            }
            Err(why) => crate::error!("trace: the page at {:#x} stays preserved: {why}", page.pa),
        }
    }

    fn on_cpu(&self, cpu: usize, f: &mut (dyn FnMut() + Send)) {
        ipi::call_on(cpu, f);
    }

    fn pages_available(&self) -> Option<u64> {
        Some(memory::free_pages().saturating_sub(memory::reserve_pages()))
    }

    fn callers(&self, out: &mut [u64]) -> usize {
        crate::report::callers(out)
    }

    fn build(&self) -> u64 {
        crate::report::build()
    }

    fn symbol(&self, address: u64, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        crate::report::write_function(address, out)
    }

    fn function(&self, address: u64, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        crate::report::write_function_at(address, address, out)
    }

    fn place(&self, address: u64, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        crate::report::write_place(address, out)
    }

    fn priority(&self) -> i32 {
        task::current().map_or(120, |task| i32::from(task.prio()))
    }

    fn measure(&self, measured: trace::tracer::Measured) {
        latency::measure(measured);
    }

    fn marker_ip(&self) -> u64 {
        marker_ip as *const () as u64
    }
}

/// Stands as `ip` in the events of `trace_marker`, as the function of that name does in Linux.
fn marker_ip() {}

/// The name under which the tracer crosses.
pub const SUBSYSTEM: &str = "trace";

/// Pages that a tick seals at most, in each buffer: what a CPU records in that time under load.
const SEALED_BY_TICK: usize = 16;

/// Has what was recorded in the region that outlives a reset under a checksum soon: in the soft interrupt of each tick.
pub fn tick() {
    if let Some(tracer) = tracer() {
        tracer.seal(SEALED_BY_TICK);
    }
}

/// The same for a CPU that has nothing else to do: one page. False if there was none.
pub fn seal_one() -> bool {
    tracer().is_some_and(|tracer| tracer.seal(1) > 0)
}

/// What of a predecessor's state was given up before the rest of it was adopted: a sentence each.
type GivenUp = Vec<String>;

/// Takes the predecessor's buffers over, if each of their pages was preserved as what it is said to be. An instance with a page
/// that was not is given up alone.
fn adopt(mut state: TracerState) -> Result<(Tracer<Phys>, GivenUp), String> {
    let mut stray = None;
    let mut given_up = GivenUp::new();
    memory::with_preserved(|map| {
        // Of one in the region the library asks its mark.
        let good = |page: PageRef| ramtrace::owns(page.pa) || map.block_at(page.pa) == Some(page);
        state.instances.retain(|instance| {
            let mut stray = None;
            for_each_page(instance, |page| {
                if !good(page) {
                    stray = Some(page.pa);
                }
            });
            if let Some(pa) = stray {
                given_up.push(format!(
                    "the instance {:.64} is given up, with its events: its sub-buffer at {pa:#x} was not preserved",
                    instance.name
                ));
            }
            stray.is_none()
        });
        for_each_page(&state, |page| {
            if !good(page) {
                stray = Some(page.pa);
            }
        });
        Ok(())
    })?;
    if let Some(pa) = stray {
        let why = format!("the sub-buffer at {pa:#x} was not preserved");
        if state.instances.is_empty() {
            return Err(why);
        }
        given_up.push(why);
        // The library gives the top instance up then, and keeps the others.
        state.cpus.clear();
        state.extra.snapshot.clear();
    }
    let tracer = Tracer::adopt(Phys, cpu::count(), generation(), state, events::ALL);
    Ok((tracer.map_err(|e| e.to_string())?, given_up))
}

/// From now on this is the tracer.
fn install(tracer: Tracer<Phys>, takeover: &mut Takeover<'_>) -> &'static Tracer<Phys> {
    tracer.for_each_page(|page| {
        if !ramtrace::owns(page.pa) {
            takeover.claim(page.range());
        }
    });
    let tracer = TRACER.call_once(|| tracer);
    let report = tracer.report();
    if report.damaged_pages > 0 {
        takeover.trouble(format!(
            "{} damaged sub-buffers were emptied; {} events are lost with them, and counted",
            report.damaged_pages, report.lost_events
        ));
    }
    for sentence in tracer.troubles() {
        takeover.trouble(sentence.as_str());
    }
    tracer
}

/// Empty buffers, of the size that was asked for or of one that there is memory for.
fn fresh() -> Option<Tracer<Phys>> {
    let asked = boot::cmdline().value("trace_buf_size");
    let asked = asked.and_then(parse_size).filter(|bytes| *bytes > 0);
    let wanted = asked.map_or(DEFAULT_KB, |bytes| bytes.div_ceil(1024));
    // No more than a quarter of the memory for a start; a person can ask for more later.
    let most = memory::free_pages() * 4 / 4 / cpu::count() as u64;
    let size_kb = wanted.clamp(8, most.max(8));
    if size_kb < wanted {
        crate::warning!(
            "trace: {wanted} KiB for each CPU's buffer is more than a quarter of the free memory; {size_kb} KiB are taken"
        );
    }
    let config = Config {
        nr_cpus: cpu::count(),
        buffer_kb_per_cpu: size_kb,
        generation: generation(),
    };
    match Tracer::new(Phys, config, events::ALL) {
        Ok(tracer) => Some(tracer),
        Err(error) => {
            crate::error!("trace: {error}; nothing is traced in this life");
            None
        }
    }
}

/// What the command line says about events and the clock.
fn settings(tracer: &'static Tracer<Phys>) {
    let cmdline = boot::cmdline();
    let files = TraceFs(tracer);
    if let Some(name) = cmdline.value("trace_clock")
        && let Err(error) = files.write_or_say("trace_clock", name.as_bytes(), true)
    {
        crate::warning!("trace_clock={name}: {error}");
    }
    for option in cmdline
        .value("trace_options")
        .unwrap_or_default()
        .split(',')
    {
        if !option.is_empty()
            && let Err(error) = files.write_or_say("trace_options", option.as_bytes(), true)
        {
            crate::warning!("trace_options={option}: {error}");
        }
    }
    let events = match cmdline.value("trace_event") {
        Some(list) => list.replace(',', "\n"),
        None => events::DEFAULT.to_string(),
    };
    for event in events.lines() {
        if let Err(error) = files.write_or_say("set_event", event.as_bytes(), false) {
            crate::warning!("trace_event={event}: {error}");
        }
    }
    let instances = cmdline
        .words()
        .filter(|(name, _)| *name == "trace_instance");
    for (_, value) in instances {
        let value = value.unwrap_or_default();
        let made = TraceInstance::parse(value).map_err(|error| error.to_string());
        if let Err(why) = made.and_then(|asked| make_instance(&files, &asked)) {
            crate::warning!("trace_instance={value}: {why}");
        }
    }
}

/// Makes an instance that the command line asks for. What of it cannot be is left out, and said.
fn make_instance(files: &TraceFs<'_, Phys>, asked: &TraceInstance<'_>) -> Result<(), String> {
    let name = asked.name;
    let at = format!("instances/{name}");
    files.mkdir(&at).map_err(|error| match error {
        Errno::EEXIST => TraceInstanceError::Twice(name).to_string(),
        error => error.to_string(),
    })?;
    let write = |file: &str, text: &str| {
        if let Err(error) = files.write_or_say(&format!("{at}/{file}"), text.as_bytes(), false) {
            crate::warning!("trace_instance={name}: {file}: {text}: {error}");
        }
    };
    if asked.off {
        write("tracing_on", "0");
    }
    if asked.traceprintk {
        crate::warning!("trace_instance={name}: traceprintk: this kernel has no trace_printk()");
    }
    if asked.persistent {
        write("options/persist", "1");
    }
    for event in asked.events() {
        write("set_event", event);
    }
    Ok(())
}

/// Records what happened while there was no tracer: the predecessor's jump, and the steps of this start.
fn tell_phases(tracer: &Tracer<Phys>) {
    let phases = take_phases();
    let info = boot::info();
    if !matches!(outcome(), Outcome::Restored(_)) {
        return;
    }
    events::kexec_phase::at(info.jump_tsc, generation() - 1, "jump");
    tracer.life_began(info.entry_tsc);
    events::kexec_phase::at(info.entry_tsc, generation(), "entry");
    for (name, cycles) in phases {
        events::kexec_phase::at(cycles, generation(), name);
    }
}

static SAVED: IrqMutex<Option<TracerState>> = IrqMutex::new(None);

/// The tracer's part of a handover. Its pages are preserved since they were allocated.
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[TracerState::DESC]
    }

    fn freeze(&self) -> Result<(), String> {
        let strays = UNPRESERVED.load(Relaxed);
        if strays > 0 {
            return Err(format!(
                "{strays} of its sub-buffers could not be preserved; a smaller buffer_size_kb gives them back"
            ));
        }
        latency::hold(true);
        let state = tracer().map(Tracer::state).transpose();
        let state = state.map_err(|error| {
            latency::hold(false);
            error.to_string()
        })?;
        *SAVED.lock() = state;
        Ok(())
    }

    fn thaw(&self) {
        latency::hold(false);
        *SAVED.lock() = None;
    }

    fn size(&self) -> usize {
        SAVED.lock().as_ref().map_or(0, encoded_size)
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        let mut saved = SAVED.lock();
        let (Some(state), Some(tracer)) = (saved.as_mut(), tracer()) else {
            return Ok(());
        };
        // What was described at the freeze still holds where this fails: a little older, found to be so by the adopter.
        let _ = tracer.refresh_state(state);
        out.put(0, state)
    }

    fn late(&self) -> bool {
        true
    }

    /// It can do without an instance whose pages are lost, and has some in the region that outlives a reset.
    fn checks_pages(&self) -> bool {
        true
    }

    /// The clock's speed is the machine's to know, and pages may lie in the region.
    fn after(&self) -> &'static [&'static str] {
        &[crate::machine::SUBSYSTEM, ramtrace::SUBSYSTEM]
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let state: TracerState = from.get(0)?;
        // All of the tracer is adopted here or nothing is; what is left for the commit is to use it.
        let (tracer, given_up) = adopt(state).map_err(Refusal::Rejected)?;
        Ok(Prepared::new(move |takeover| {
            tell_phases(install(tracer, takeover));
            for sentence in given_up {
                takeover.trouble(sentence);
            }
        }))
    }

    /// Empty buffers.
    fn anew(&self, takeover: &mut Takeover<'_>) {
        if let Some(tracer) = fresh() {
            let tracer = install(tracer, takeover);
            settings(tracer);
            tell_phases(tracer);
        }
    }
}
