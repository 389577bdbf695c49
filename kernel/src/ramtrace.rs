//! The ramtrace region on this machine: which life runs in it, its log, and when what it says is brought up to date.
//!
//! The region is there from the restore of subsystems on: before the tracer, whose pages may lie in it. A handover carries nothing but
//! its place and the number of the life that goes on; without one a new life begins, and the predecessor is an old one.

use crate::handing::generation;
use crate::machine::{clock, cpu};
use crate::memory::{self, Phys};
use crate::task::{self, Work};
use crate::tracing::tracer;
use crate::{boot, report};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use handover::error::Error;
use handover::mem::PAGE_SIZE;
use handover::range::PhysRange;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem, Takeover};
use spin::Once;
use trace::ClockId;
use trace::ramtrace::{Beginning, Region, RegionError};

static REGION: Once<Region<Phys>> = Once::new();

/// The region, where there is one and a life runs in it.
#[inline]
pub fn region() -> Option<&'static Region<Phys>> {
    REGION.get()
}

/// Whether the page at `pa` is one of the region's.
pub fn owns(pa: u64) -> bool {
    region().is_some_and(|region| region.owns(pa))
}

/// What crosses.
#[derive(Clone, Debug, Default, KState)]
#[kstate(id = 0x19, version = 1)]
struct Saved {
    /// Physical address of the region.
    addr: u64,
    /// Its length in bytes.
    size: u64,
    /// The number of the life that goes on; 0: there is none.
    life: u64,
}

/// The name under which the region crosses.
pub const SUBSYSTEM: &str = "ramtrace";

/// The region's part of a handover. The memory map has it whatever becomes of this.
pub struct State;

fn saved() -> Saved {
    region().map_or_else(Saved::default, |region| Saved {
        addr: region.range().start,
        size: region.range().len(),
        life: region.life(),
    })
}

impl Subsystem for State {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[Saved::DESC]
    }

    fn size(&self) -> usize {
        encoded_size(&saved())
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &saved())
    }

    /// The clock is the machine's to know.
    fn after(&self) -> &'static [&'static str] {
        &[crate::machine::SUBSYSTEM]
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let saved: Saved = from.get(0)?;
        if saved.life == 0 {
            // Nor is there any memory for one.
            return match memory::persistent() {
                None => Ok(Prepared::new(|_| ())),
                Some(_) => Err(Refusal::Rejected("no life ran in the region".into())),
            };
        }
        let range = PhysRange::with_len(saved.addr, saved.size);
        if range.is_none() || range != memory::persistent() {
            let why = "the region is not where the memory map has one";
            return Err(Refusal::Rejected(why.into()));
        }
        let goes_on = open().and_then(|region| region.go_on(saved.life).map(|()| region));
        let region = goes_on.map_err(|error| Refusal::Rejected(error.to_string()))?;
        Ok(Prepared::new(move |_| install(region, "goes on")))
    }

    fn anew(&self, takeover: &mut Takeover<'_>) {
        let Some(range) = memory::persistent() else {
            return;
        };
        match begin(range) {
            Ok(region) => install(region, "begins"),
            Err(error @ RegionError::Version(_)) => takeover.trouble(alloc::format!(
                "{error}; what is in it is left alone, and nothing of this life will outlive a reset: \
                 another kernel may read it, and a start with ramtrace.mem_size=0 gives it up"
            )),
            Err(error) => takeover.trouble(alloc::format!(
                "{error}; nothing of this life will outlive a reset"
            )),
        }
    }
}

/// Most pages of a life's log, as many bytes as `dmesg` keeps; a smaller region gives one of 64 of its pages.
const LOG_PAGES: u64 = report::LOG_BYTES as u64 / PAGE_SIZE;

/// Opens the region of the memory map.
fn open() -> Result<Region<Phys>, RegionError> {
    let range = memory::persistent().ok_or(RegionError::NoSuperblock)?;
    // SAFETY: the memory map has the range as the region's: no allocator gets it. Where it is opened twice, the first one was refused,
    // and is gone.
    unsafe { Region::open(Phys, range) }
}

/// Opens the region, which is at `range`, or makes one where there is none, and begins a life. Whatever else is wrong with it, nothing
/// of it is written to.
fn begin(range: PhysRange) -> Result<Region<Phys>, RegionError> {
    let opened = open().or_else(|error| {
        if error != RegionError::NoSuperblock {
            return Err(error);
        }
        if boot::info().ramtrace.kept == Some(range) {
            crate::warning!("ramtrace: {error} any more; it is begun anew");
        }
        // A machine keeps its CPUs over a reset; some more cost little.
        let cpus = cpu::count().next_multiple_of(8).min(cpu::MAX_CPUS);
        // SAFETY: as in `open`.
        unsafe { Region::format(&Phys, range, cpus as u32)? };
        open()
    })?;
    let beginning = Beginning {
        release: crate::VERSION,
        build: report::build(),
        boot_id: random_uuid(),
        cpus: cpu::count() as u32,
        clock: ClockId::default().name(),
        tracer: "nop",
    };
    let log_pages = (range.len() / PAGE_SIZE / 64).min(LOG_PAGES);
    opened.begin_life(&beginning, log_pages as u32)?;
    Ok(opened)
}

/// From now on this is the region: its log has all that has been logged in this life of the kernel, and all that will be.
fn install(region: Region<Phys>, how: &str) {
    let region = REGION.call_once(|| region);
    let goes_on = region.update(|life| {
        life.generation = generation();
        life.release = crate::VERSION.into();
        life.build = report::build();
        life.cpus = cpu::count() as u32;
    });
    report::log_to_region();
    crate::info!(
        "ramtrace: {} MiB at {}: life {} {how}; {} before it, {} pages are free",
        region.range().len() >> 20,
        region.range(),
        region.life(),
        match region.old_numbers().len() {
            0 => String::from("none"),
            n => n.to_string(),
        },
        region.pages_available()
    );
    if let Err(error) = goes_on {
        crate::warning!("ramtrace: {error}");
    }
    let erased = region.info().map_or(0, |life| life.erased_lives);
    if erased > 0 && how == "begins" {
        crate::warning!("ramtrace: the oldest life was erased to make room for this one");
    }
    // Whoever reads the log need not have looked at the records.
    let damaged = match how {
        "begins" => region.damaged_lives(),
        _ => Vec::new(),
    };
    for number in damaged {
        crate::warning!(
            "ramtrace: the metadata of life {number} are damaged: its log and what explains its trace are lost; \
             /sys/fs/pstore has what is left of its pages"
        );
    }
    changed();
}

/// Adds a line to the life's log, in any context.
pub fn log(line: &str) {
    if let Some(region) = region() {
        region.log(line);
    }
}

/// A random number as a version 4 UUID: the CPU's, where it has some, and else made of the time.
fn random_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    for (n, half) in bytes.chunks_exact_mut(8).enumerate() {
        let random = random().unwrap_or(0);
        // The finalizer of splitmix64: each bit of the time changes half of the bits.
        let mut time =
            clock::tsc().wrapping_add((n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        time = (time ^ time >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        time = (time ^ time >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        half.copy_from_slice(&(random ^ time ^ time >> 31).to_ne_bytes());
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

/// Of RDSEED, or else of RDRAND. Intel SDM vol. 1, 7.3.17: they may have none for a moment.
fn random() -> Option<u64> {
    let has_rdrand = __cpuid_count(1, 0).ecx & 1 << 30 != 0;
    let has_rdseed = __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).ebx & 1 << 18 != 0;
    for _ in 0..10 {
        let (mut value, mut good): (u64, u8) = (0, 0);
        // SAFETY: CPUID says that the CPU has the instruction; it writes a register and the flags.
        unsafe {
            if has_rdseed {
                core::arch::asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) good);
            } else if has_rdrand {
                core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) good);
            }
        }
        if good != 0 {
            return Some(value);
        }
    }
    None
}

/// What the region says of the running life is no longer so.
static CHANGED: AtomicBool = AtomicBool::new(false);
/// Tasks can be asked to do something.
static STARTED: AtomicBool = AtomicBool::new(false);
/// It was said that the region is full; not again before it was not.
static FULL: AtomicBool = AtomicBool::new(false);
/// Buffers were in the region when it was last brought up to date.
static IN_USE: AtomicBool = AtomicBool::new(false);
/// How many lives it was said that they were given up.
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Brings it up to date.
static SAVE: Work = Work::new(save);

/// See [`trace::Platform::ramtrace_changed`].
pub fn changed() {
    CHANGED.store(true, Release);
    if STARTED.load(Acquire) {
        task::queue_work(&SAVE);
    }
}

/// From here on tasks can be made: what has changed until now is written.
pub fn start() {
    STARTED.store(true, Release);
    if CHANGED.load(Acquire) {
        task::queue_work(&SAVE);
    }
}

fn save() {
    let began = clock::nanos();
    save_now();
    // However many new names there are, and however long it takes: most of the time is left for other things.
    let took = clock::nanos().saturating_sub(began);
    NEXT_LOOK.store(
        task::jiffies_after(took.saturating_mul(SAVE_PAUSE)),
        Relaxed,
    );
}

fn save_now() {
    CHANGED.store(false, Relaxed);
    let (Some(tracer), Some(region)) = (tracer(), region()) else {
        return;
    };
    let taken = region.lives_taken();
    let told = TAKEN.swap(taken, Relaxed);
    if taken > told {
        crate::warning!(
            "ramtrace: the region is full: all events of the oldest lives were given up for this one's, lives: {}",
            taken - told
        );
    }
    let named = tracer.instances();
    let any = tracer.top().is_persistent() || named.iter().any(|named| named.is_persistent());
    IN_USE.store(any, Relaxed);
    let were = region.info().is_some_and(|life| !life.buffers.is_empty());
    if !any && !were {
        return;
    }
    NAMES.store(tracer.names_fingerprint(), Relaxed);
    match tracer.save_to_region() {
        Ok(()) => FULL.store(false, Relaxed),
        Err(error) => {
            // The next tick tries again.
            CHANGED.store(true, Relaxed);
            if !FULL.swap(true, Relaxed) {
                crate::warning!(
                    "ramtrace: what explains the trace cannot be kept beside it now: {error}"
                );
            }
        }
    }
}

/// After bringing the region up to date nobody looks for new names for so many times as long as that has taken.
const SAVE_PAUSE: u64 = 19;
/// After a look nobody looks for so many times as long as that has taken (there may be tens of thousands of names), and at least until
/// the next tick.
const LOOK_PAUSE: u64 = 199;

/// The tick of the next look.
static NEXT_LOOK: AtomicU64 = AtomicU64::new(0);
/// What [`trace::Tracer::names_fingerprint`] was when the names were kept last.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// At each tick, and when a CPU goes idle: one CPU looks whether there are new names of tasks, without which what these tasks have recorded
/// could not name them after a reset. Interrupts are off.
pub fn tick() {
    let (Some(tracer), Some(region)) = (tracer(), region()) else {
        return;
    };
    let (now, next) = (task::jiffies(), NEXT_LOOK.load(Relaxed));
    let look = now >= next
        && NEXT_LOOK
            .compare_exchange(next, now + 1, Relaxed, Relaxed)
            .is_ok();
    if !look || !STARTED.load(Acquire) {
        return;
    }
    let began = clock::nanos();
    let again = CHANGED.load(Relaxed);
    let changed = again
        || region.lives_taken() != TAKEN.load(Relaxed)
        || IN_USE.load(Relaxed) && tracer.names_fingerprint() != NAMES.load(Relaxed);
    let took = clock::nanos().saturating_sub(began);
    NEXT_LOOK.fetch_max(
        task::jiffies_after(took.saturating_mul(LOOK_PAUSE)),
        Relaxed,
    );
    if changed {
        task::queue_work(&SAVE);
    }
}
