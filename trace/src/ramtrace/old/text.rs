//! An old life as text.

use super::raw::OldEvents;
use super::{Dropped, OldBuffer, OldError, OldLife, OldPage};
use crate::clock::ClockId;
use crate::options::TraceOption;
use crate::page::Missed;
use crate::platform::{Context, Platform};
use crate::text::{Found, Shown, write_found};
use crate::tracer::{MAX_CPUS, NOP, Tracer, TracerState};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::ptr::NonNull;
use handover::mem::Memory;
use handover::state::StreamReader;

/// Most pages that are named one by one.
const MOST_NAMED: usize = 32;

/// The machine of a life that is over: it has no memory, and nothing happens on it. Addresses are named by `names`, where the tracer
/// finds that they are of the same build.
#[derive(Clone)]
struct OldPlatform<P>(P);

// SAFETY: it gives no memory at all.
unsafe impl<P: Platform> Memory for OldPlatform<P> {
    fn ptr(&self, _: u64, _: usize) -> Option<NonNull<u8>> {
        None
    }

    fn alloc_pages(&self, _: u32) -> Option<u64> {
        None
    }

    unsafe fn free_pages(&self, _: u64, _: u32) {}
}

impl<P: Platform> Platform for OldPlatform<P> {
    fn cpu(&self) -> usize {
        0
    }

    fn cycles(&self) -> u64 {
        super::scan::NEWEST
    }

    fn cycles_to_nanos(&self, cycles: u64) -> u64 {
        cycles
    }

    fn context(&self) -> Context {
        Context::default()
    }

    /// One whose name was not saved.
    fn comm(&self, pid: i32, out: &mut dyn Write) {
        // A name that does not fit is cut off; there is no error.
        let _ = out.write_str(if pid == 0 { "<idle>" } else { "<...>" });
    }

    fn build(&self) -> u64 {
        self.0.build()
    }

    fn symbol(&self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.symbol(address, out)
    }

    fn function(&self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.function(address, out)
    }

    fn place(&self, address: u64, out: &mut dyn Write) -> fmt::Result {
        self.0.place(address, out)
    }

    fn no_preempt<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.no_preempt(f)
    }

    fn no_irq<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.no_irq(f)
    }
}

/// Whether the formats of a life can be read.
enum Formats {
    Good,
    /// There are none, or not whole.
    Lost,
}

/// A tracer that explains the buffer's events, with the life's formats if there are any that can be read.
fn tracer_of<P: Platform>(
    platform: &P,
    old: &OldLife,
    buffer: &OldBuffer,
    state: Option<&[u8]>,
) -> Result<(Tracer<OldPlatform<P>>, Formats), OldError> {
    let highest = buffer.cpus.iter().map(|cpu| usize::from(cpu.cpu) + 1).max();
    let cpus = highest.unwrap_or(1).max(old.life.cpus as usize);
    let cpus = cpus.clamp(1, MAX_CPUS);
    let clock = ClockId::parse(&old.life.clock).unwrap_or_default();
    let state = state.and_then(|bytes| {
        let stream = StreamReader::new(bytes).ok()?;
        stream.get::<TracerState>(0).ok()
    });
    let make = |state| {
        Tracer::of_another_life(
            OldPlatform(platform.clone()),
            cpus,
            &buffer.name,
            clock,
            state,
        )
    };
    if let Some(state) = state
        && let Ok(tracer) = make(Some(state))
    {
        return Ok((tracer, Formats::Good));
    }
    Ok((make(None)?, Formats::Lost))
}

/// Writes one buffer of an old life: what is known of the life, then its events in the layout of `trace`, those of all CPUs merged by
/// time. `state` is what was found of the life's state.
pub(super) fn write<P: Platform>(
    mem: &P,
    old: &OldLife,
    number: u8,
    state: Option<&[u8]>,
    out: &mut dyn Write,
) -> Result<(), OldError> {
    let buffer = old.buffer(number).ok_or(OldError::NoBuffer(number))?;
    let (tracer, formats) = tracer_of(mem, old, buffer, state)?;
    let mut events = Vec::new();
    events.try_reserve_exact(buffer.cpus.len())?;
    for cpu in &buffer.cpus {
        events.push((usize::from(cpu.cpu), OldEvents::new(mem, cpu)?));
    }
    write_head(old, buffer, &formats, tracer.clock(), out)?;
    let entries = buffer.pages().map(|page| page.events).sum();
    // A CPU's first page has number 1.
    let oldest = buffer.cpus.iter().filter_map(|cpu| cpu.pages.first());
    let overrun = oldest.map(|page| page.seq).any(|seq| seq > 1);
    let all = buffer.cpus.iter().all(|cpu| {
        let untouched =
            |page: &OldPage| page.refused == 0 && page.lost == Missed::None && page.cut.is_none();
        cpu.missing == 0 && cpu.dropped.is_empty() && cpu.pages.iter().all(untouched)
    });
    // Where a full buffer refuses events, the last ones are counted nowhere.
    let all = all && !overrun && tracer.option(TraceOption::Overwrite) && old.strays.is_empty();
    let name = match buffer.number {
        0 if !old.life.tracer.is_empty() => &old.life.tracer,
        _ => NOP,
    };
    let unknown = matches!(formats, Formats::Lost);
    let shown = Shown::left(name, &old.life.release, unknown);
    let found = Found::left(events, entries, overrun, all);
    write_found(&tracer, &tracer, None, shown, found, out)?;
    Ok(())
}

fn write_head(
    old: &OldLife,
    buffer: &OldBuffer,
    formats: &Formats,
    clock: ClockId,
    out: &mut dyn Write,
) -> fmt::Result {
    let life = &old.life;
    write!(out, "# ramtrace: life {}", life.number)?;
    if old.metadata_good {
        write!(
            out,
            " of kernel {}, generation {}, boot id {}",
            life.release, life.generation, life.boot_id
        )?;
    }
    out.write_char('\n')?;
    match (buffer.number, buffer.name.as_str()) {
        (0, _) => out.write_str("# buffer: of the top instance")?,
        (number, "") => write!(out, "# buffer: {number}, of an instance whose name is lost")?,
        (_, name) => write!(out, "# buffer: of the instance {name}")?,
    }
    match buffer.pages().next() {
        Some(page) => writeln!(out, ", in sub-buffers of {} KiB", page.size() / 1024)?,
        None => out.write_char('\n')?,
    }
    if old.metadata_good {
        let tracer = match life.tracer.as_str() {
            "" => NOP,
            tracer => tracer,
        };
        writeln!(
            out,
            "# clock: {}, tracer: {tracer}, CPUs: {}",
            clock.name(),
            life.cpus
        )?;
    } else {
        writeln!(
            out,
            "# its metadata are damaged: what is here was found page by page"
        )?;
    }
    if matches!(formats, Formats::Lost) {
        writeln!(
            out,
            "# its formats are lost: of most events only the number and the bytes can be told"
        )?;
    }
    for cpu in &buffer.cpus {
        let of = |f: fn(&OldPage) -> bool| cpu.pages.iter().filter(|page| f(page)).count();
        writeln!(
            out,
            "# CPU {}: {} pages kept, {} of them not sealed to their end, {} cut to their seal; {} missing, {} dropped",
            cpu.cpu,
            cpu.pages.len(),
            of(|page| page.sealed < page.commit),
            of(|page| page.cut.is_some()),
            cpu.missing,
            cpu.dropped.len(),
        )?;
        let number = cpu.cpu;
        let newest = cpu.pages.last();
        let refused = newest.map_or(0, |page| page.refused);
        // Between a reader's page and the oldest of the ring some may have been overwritten, too.
        let known = cpu.pages.len() as u64 + cpu.missing + cpu.dropped.len() as u64;
        let gone = newest.map_or(0, |page| page.seq.saturating_sub(known));
        if gone > 0 {
            writeln!(
                out,
                "# CPU {number}: older pages that were overwritten, read, cleared or taken: {gone}"
            )?;
        }
        if refused > 0 {
            writeln!(
                out,
                "# CPU {number}: events that the full buffer refused before its last page: {refused}"
            )?;
        }
    }
    if !old.strays.is_empty() {
        writeln!(out, "# of an unknown buffer: {} dropped", old.strays.len())?;
    }
    write_named(old, buffer, out)?;
    if life.taken_pages > 0 {
        writeln!(
            out,
            "# {} pages, the oldest first, were taken by a later life: the region was full",
            life.taken_pages
        )?;
    }
    if life.erased_lives > 0 {
        writeln!(
            out,
            "# lives before this one that were erased to make room for it: {}",
            life.erased_lives
        )?;
    }
    Ok(())
}

/// Names the pages that are not kept, or not to their end.
fn write_named(old: &OldLife, buffer: &OldBuffer, out: &mut dyn Write) -> fmt::Result {
    let dropped = buffer.cpus.iter().flat_map(|cpu| &cpu.dropped);
    let dropped = dropped
        .chain(&old.strays)
        .map(|one: &Dropped| (one.index, one.cpu, one.why, None));
    let cut = buffer
        .cpus
        .iter()
        .flat_map(|cpu| cpu.pages.iter().map(|page| (cpu.cpu, page)));
    let cut = cut.filter_map(|(cpu, page)| Some((page.index, cpu, page.cut?, Some(page.commit))));
    let all = || dropped.clone().chain(cut.clone());
    for (index, cpu, why, kept) in all().take(MOST_NAMED) {
        write!(out, "# page {index} (CPU {cpu}): {why}; ")?;
        match kept {
            None => writeln!(out, "dropped")?,
            Some(kept) => writeln!(out, "kept up to its seal, at {kept} bytes")?,
        }
    }
    match all().count().saturating_sub(MOST_NAMED) {
        0 => Ok(()),
        more => writeln!(out, "# and {more} more"),
    }
}
