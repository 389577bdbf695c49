//! All CPUs: which there are, how the others are started, and how far apart their clocks are.

use super::apic::{self, Signal};
use super::trampoline::Trampoline;
use super::{Found, FoundCpu, clock, cpu, found, percpu};
use crate::boot::{self, stacks};
use crate::memory::without_interrupts;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use kernel::tsc::{self, Comparison, NARROW};
use x86_64::instructions::interrupts;

/// How long after a start-up interrupt comes the second one, as Intel asks for (SDM vol. 3, 9.4.4), in ns.
const AGAIN_NS: u64 = 200_000;
/// How long a CPU may take to come up, in ns; on a busy host an emulated one takes its time.
const PATIENCE_NS: u64 = 10_000_000_000;

/// The CPUs whose offset to CPU 0 is known, a bit each.
static MEASURED: AtomicU32 = AtomicU32::new(0);

/// Says which of the CPUs that were found this life runs: `maxcpus=`, as in Linux, and the room that there is.
pub fn choose(found: &Found) {
    let there = found.each.len();
    if there > cpu::MAX_CPUS {
        crate::warning!(
            "smp: this machine has {there} CPUs, and this kernel has room for {}; the others stay parked",
            cpu::MAX_CPUS
        );
    }
    let cmdline = boot::cmdline();
    let most = match cmdline.value("maxcpus").map(str::parse::<usize>) {
        // 0 means in Linux: no multiprocessing at all.
        Some(Ok(most)) => most.max(1),
        _ if cmdline.words().any(|(name, _)| name == "nosmp") => 1,
        _ => cpu::MAX_CPUS,
    };
    for (index, known) in found.each.iter().take(cpu::MAX_CPUS).enumerate() {
        let area = percpu::of(index);
        area.apic_id.store(known.apic_id, Relaxed);
        if let Some(offset) = known.tsc_offset {
            area.tsc_offset.store(offset.cast_unsigned(), Relaxed);
            MEASURED.fetch_or(1 << index, Relaxed);
        }
    }
    // CPU 0 is what the others are compared with.
    MEASURED.fetch_or(1, Relaxed);
    let mut count = there.min(most);
    let (this, first) = (apic::id(), percpu::of(0).apic_id.load(Relaxed));
    if this != first {
        crate::warning!(
            "smp: CPU 0 should have APIC id {first}, and this one has {this}; it runs alone"
        );
        count = 1;
    }
    if count > 1 && boot::info().low.size == 0 {
        crate::warning!(
            "smp: the boot loader knows no free memory below 1 MiB, from which CPUs start; CPU 0 runs alone"
        );
        count = 1;
    }
    cpu::set_count(count);
}

/// What is known of the CPUs now, for the next life.
pub fn known() -> Vec<FoundCpu> {
    let measured = MEASURED.load(Relaxed);
    let each = found().each.iter().enumerate();
    each.map(|(index, was)| FoundCpu {
        apic_id: was.apic_id,
        tsc_offset: match index < cpu::MAX_CPUS && measured >> index & 1 != 0 {
            true => Some(percpu::of(index).tsc_offset.load(Relaxed).cast_signed()),
            false => was.tsc_offset,
        },
    })
    .collect()
}

/// Starts the other CPUs, one after the other. One that cannot be is told, and does not hold the others up.
pub fn start_others() {
    let count = cpu::count();
    if count == 1 {
        return;
    }
    let trampoline = match Trampoline::new(boot::info().low, &raw const ap_kernel_entry as u64) {
        Ok(trampoline) => trampoline,
        Err(error) => {
            crate::warning!(
                "smp: the start-up code cannot be mapped ({error:?}); CPU 0 runs alone"
            );
            return;
        }
    };
    for cpu in 1..count {
        if let Err(error) = stacks::add(cpu) {
            crate::warning!("smp: there is no memory for the stacks of CPU {cpu} ({error:?})");
            // The stacks are numbered through: the CPUs behind it have none either.
            break;
        }
        start(cpu, &trampoline);
    }
    crate::info!("smp: {} of {} CPUs run", cpu::online(), found().each.len());
}

/// Starts one CPU, and waits until it is up. Intel SDM vol. 3, 9.4.4: INIT, start-up, and start-up once more if it was not
/// heard. The pause behind INIT is for CPUs that have no APIC of their own on the chip, which no 64-bit one is.
fn start(cpu: usize, trampoline: &Trampoline) {
    let area = percpu::of(cpu);
    let id = area.apic_id.load(Relaxed);
    let is_known = MEASURED.load(Relaxed) >> cpu & 1 != 0;
    trampoline.aim(stacks::top(cpu, stacks::Stack::Main), cpu as u64);
    ARRIVED.store(0, Relaxed);
    RELEASED.store(if is_known { cpu as u32 } else { 0 }, Release);
    area.started.store(true, Release);
    apic::send(id, Signal::Init);
    let has_arrived = || ARRIVED.load(Acquire) == cpu as u32;
    let arrived = [AGAIN_NS, PATIENCE_NS].into_iter().any(|patience| {
        apic::send(id, Signal::Startup(trampoline.page()));
        wait_for(has_arrived, patience)
    });
    let mut width = 0;
    if arrived && !is_known {
        width = without_interrupts(|| compare(cpu));
        RELEASED.store(cpu as u32, Release);
    }
    let is_up = || cpu::is_online(cpu);
    if !(arrived && wait_for(is_up, PATIENCE_NS) || goes_on(cpu) && wait_for(is_up, PATIENCE_NS)) {
        // It must not come up later, when its way is another CPU's.
        apic::send(id, Signal::Init);
        // One that has gone on and does not get there, should it have got there now.
        cpu::set_offline(cpu);
        crate::warning!("smp: CPU {cpu} (APIC id {id}) does not come up; it stays parked");
        return;
    }
    tell(cpu, id, (!is_known).then_some(width));
}

/// Says how a CPU's clock goes: by a comparison of that many cycles' width, or as it is known from an earlier life.
fn tell(cpu: usize, id: u32, width: Option<u64>) {
    let offset = percpu::of(cpu).tsc_offset.load(Relaxed).cast_signed();
    let verdict = match (width, offset) {
        (Some(width), _) => tsc::verdict(offset, width, clock::nanos_at(width)),
        (None, 0) => "its TSC is taken to be in step with CPU 0's, as it was found".into(),
        (None, _) => alloc::format!(
            "its TSC is taken to be {offset} cycles ahead of CPU 0's, as it was found, which is taken off"
        ),
    };
    crate::info!("smp: CPU {cpu} (APIC id {id}) runs; {verdict}");
}

/// Waits until something is so, for at most `limit` ns.
fn wait_for(is_so: impl Fn() -> bool, limit: u64) -> bool {
    let end = clock::nanos() + limit;
    while !is_so() {
        if clock::nanos() >= end {
            return false;
        }
        spin_loop();
    }
    true
}

/// The CPU that has come up and answers questions for its TSC; 0: none.
static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// The CPU that is to go on; 0: none, or not yet; [`GOES_ON`]: it does.
static RELEASED: AtomicU32 = AtomicU32::new(0);
const GOES_ON: u32 = u32::MAX;

/// The number of the question, that of the last answer, and the answer.
static QUESTION: AtomicU64 = AtomicU64::new(0);
static ANSWERED: AtomicU64 = AtomicU64::new(0);
static ANSWER: AtomicU64 = AtomicU64::new(0);

/// Takes back that a CPU may go on; whether it does so already. Where not, it never will.
fn goes_on(cpu: usize) -> bool {
    let taken_back = RELEASED.compare_exchange(cpu as u32, 0, AcqRel, Acquire);
    taken_back == Err(GOES_ON)
}

/// A comparison has at least so many rounds, and ends when it is [`NARROW`] or has taken this long (in ns): two
/// emulated CPUs on one of the host's wait for each other's time slices.
const ROUNDS: u32 = 8;
const COMPARE_NS: u64 = 20_000_000;

/// This CPU's counter, read after all before it and before all after it.
fn ordered_tsc() -> u64 {
    let fence = || {
        // SAFETY: orders instructions, changes nothing.
        unsafe { core::arch::asm!("lfence", options(nostack, preserves_flags)) }
    };
    fence();
    let tsc = clock::raw_tsc();
    fence();
    tsc
}

/// Compares a CPU's TSC with this one's; how exactly it could be done, in cycles.
fn compare(cpu: usize) -> u64 {
    let mut found = Comparison::default();
    let end = clock::nanos() + COMPARE_NS;
    for round in 1.. {
        let number = QUESTION.load(Relaxed) + 1;
        let asked = ordered_tsc();
        QUESTION.store(number, Release);
        while ANSWERED.load(Acquire) != number {
            spin_loop();
        }
        let answered = ordered_tsc();
        found.add(asked, ANSWER.load(Relaxed), answered);
        if round >= ROUNDS && (found.width() <= NARROW || clock::nanos() >= end) {
            break;
        }
    }
    let offset = found.offset().cast_unsigned();
    percpu::of(cpu).tsc_offset.store(offset, Relaxed);
    MEASURED.fetch_or(1 << cpu, Release);
    found.width()
}

/// The other side of [`compare`], until it is over.
fn answer(cpu: usize) {
    let mut answered = ANSWERED.load(Relaxed);
    ARRIVED.store(cpu as u32, Release);
    let may_go_on = || {
        let released = RELEASED.compare_exchange(cpu as u32, GOES_ON, AcqRel, Relaxed);
        released.is_ok()
    };
    // First without a write, which would hold the other side up.
    while RELEASED.load(Relaxed) != cpu as u32 || !may_go_on() {
        let number = QUESTION.load(Acquire);
        if number != answered {
            ANSWER.store(ordered_tsc(), Relaxed);
            ANSWERED.store(number, Release);
            answered = number;
        }
        spin_loop();
    }
}

core::arch::global_asm!(
    ".global ap_kernel_entry",
    "ap_kernel_entry:",
    "mov cr3, rsi",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    main = sym ap_main,
);

unsafe extern "C" {
    static ap_kernel_entry: u8;
}

/// A CPU's first steps in the kernel, on its own stack, interrupts off, with CPU 0's control registers.
extern "C" fn ap_main(cpu: usize) -> ! {
    percpu::load(cpu);
    cpu::init();
    answer(cpu);
    apic::init(found());
    cpu::set_online();
    interrupts::enable();
    crate::task::idle_loop()
}
