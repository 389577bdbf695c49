//! Interrupts from one CPU to others: look for another task, call a function, forget translations, do a memory barrier, stop.
//!
//! A CPU that waits here for others may hold them up itself, with interrupts off: it serves them while it waits. So do the
//! locks of `memory::IrqMutex`. A barrier is asked for by NMI, since it has to come through to a CPU that waits in the tracer
//! with interrupts off for a lock of the one that asks.

use super::apic::{self, CALL_VECTOR, RESCHEDULE_VECTOR, STOP_VECTOR, Signal};
use super::{clock, cpu, percpu};
use crate::memory::without_interrupts;
use crate::{events, hwlat};
use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
use kernel::asked::Asked;
use x86_64::VirtAddr;
use x86_64::instructions::{hlt, interrupts, tlb};

/// The numbers of the CPUs in a mask.
fn each(mut mask: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let cpu = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(cpu)
    })
}

fn send(cpus: u32, signal: Signal) {
    for cpu in each(cpus) {
        apic::send(percpu::of(cpu).apic_id.load(Relaxed), signal);
    }
}

/// All CPUs that run but this one. With preemption off.
fn others() -> u32 {
    cpu::online_mask() & !(1 << cpu::index())
}

/// Lets a CPU look for another task, soon.
pub fn reschedule(cpu: usize) {
    percpu::of(cpu).need_resched.store(true, Release);
    if cpu != cpu::index() && cpu::is_online(cpu) {
        send(1 << cpu, Signal::Vector(RESCHEDULE_VECTOR));
    }
}

/// What comes of [`reschedule`] is done at the end of each interrupt.
pub fn on_reschedule() {}

/// The function that is being called on other CPUs; one at a time.
struct Call {
    /// Somebody has it.
    taken: AtomicBool,
    /// Valid for a CPU that has taken the call, until it is done.
    function: UnsafeCell<&'static (dyn Fn() + Sync)>,
    /// Who is to call it.
    asked: Asked,
}

// SAFETY: `function` is written by who has set `taken`, while nobody is asked or at it; it is read by CPUs that have taken the call.
unsafe impl Sync for Call {}

static CALL: Call = Call {
    taken: AtomicBool::new(false),
    function: UnsafeCell::new(&|| ()),
    asked: Asked::new(),
};

/// Calls `f` on each of these CPUs that runs (a bit each), this one included, and waits until all have done it. One that stops
/// meanwhile does not call it, also where it goes on later.
///
/// `f` runs with interrupts off, in an interrupt or where that CPU waits for a lock or another CPU: it takes no lock, and
/// records no event but from such a place.
pub fn call(cpus: u32, f: &(dyn Fn() + Sync)) {
    percpu::add_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
    if cpus >> cpu::index() & 1 != 0 {
        without_interrupts(f);
    }
    let others = cpus & others();
    if others != 0 {
        while CALL
            .taken
            .compare_exchange(false, true, Acquire, Relaxed)
            .is_err()
        {
            serve();
            spin_loop();
        }
        // SAFETY: `taken` makes this CPU the only writer, and nobody reads: the call before is over. The lifetime is longer
        // than what `f` has, but this is over before `f` goes: nobody is at it then, and nobody takes it any more, also no
        // CPU that has stopped and goes on.
        unsafe {
            *CALL.function.get() =
                core::mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(f);
        }
        CALL.asked.ask(others);
        send(others, Signal::Vector(CALL_VECTOR));
        while !CALL.asked.is_over(cpu::online_mask()) {
            serve();
            spin_loop();
        }
        CALL.taken.store(false, Release);
    }
    percpu::sub_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
}

/// Calls `f` once with interrupts off, on `cpu` if that one runs, else here, and waits until it is done. What holds for [`call`] holds for `f`.
pub fn call_on(cpu: usize, f: &mut (dyn FnMut() + Send)) {
    let done = AtomicBool::new(false);
    let f = spin::Mutex::new(f);
    let once = || {
        if !done.swap(true, SeqCst) {
            (f.lock())();
        }
    };
    if cpu < cpu::MAX_CPUS && cpu::is_online(cpu) {
        call(1 << cpu, &once);
    }
    without_interrupts(once);
}

/// Does what another CPU has asked this one to do, if it has: for those who wait with interrupts off.
#[inline]
pub fn serve() {
    if CALL.asked.is_asked(cpu::index()) {
        on_call();
    }
}

/// Calls the function that is asked for, once: also where it waits for something itself, and [serves](serve) meanwhile.
pub fn on_call() {
    without_interrupts(|| {
        let cpu = cpu::index();
        if CALL.asked.take(cpu) {
            // SAFETY: this CPU has taken the call, so the caller waits for it and keeps the function alive.
            let function = unsafe { *CALL.function.get() };
            function();
            CALL.asked.done(cpu);
        }
    });
}

/// Translations to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    All,
    /// Of this many pages from a virtual address on.
    Pages(u64, u64),
}

/// Linux's reasons in `tlb_flush`.
const REMOTE_SHOOTDOWN: i32 = 1;
const LOCAL_SHOOTDOWN: i32 = 2;
const LOCAL_MM_SHOOTDOWN: i32 = 3;
const REMOTE_SEND_IPI: i32 = 4;
/// Where it is more pages than this, all translations are forgotten: Linux's `tlb_single_page_flush_ceiling`.
const MANY_PAGES: u64 = 33;

/// How often each CPU has forgotten translations for another one, for `/proc/interrupts`.
static SHOOTDOWNS: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(0) }; _];

/// How often a CPU has forgotten translations for another one, in this life.
pub fn shootdowns(cpu: usize) -> u64 {
    SHOOTDOWNS[cpu].load(Relaxed)
}

impl Flush {
    /// Makes this CPU forget them. With interrupts off, or what follows may run on another one.
    pub fn forget(self) {
        match self {
            Flush::Pages(start, pages) if pages <= MANY_PAGES => {
                for page in 0..pages {
                    tlb::flush(VirtAddr::new_truncate(start + page * 4096));
                }
            }
            // No page is global and there are no PCIDs: CR3 has all.
            _ => tlb::flush_all(),
        }
    }

    fn here(self, reason: i32) {
        self.forget();
        if reason == REMOTE_SHOOTDOWN {
            SHOOTDOWNS[cpu::index()].fetch_add(1, Relaxed);
        }
        events::tlb_flush(reason, self.pages());
    }

    /// Makes this CPU forget those of the running process's.
    pub fn forget_own(self) {
        without_interrupts(|| self.here(LOCAL_MM_SHOOTDOWN));
    }

    /// As the event has it: all of them are -1.
    fn pages(self) -> u64 {
        match self {
            Flush::All => u64::MAX,
            Flush::Pages(_, pages) => pages,
        }
    }
}

/// Makes all CPUs forget translations, after the page tables have changed; when it returns, none knows them any more.
pub fn tlb_shootdown(what: Flush) {
    percpu::add_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
    without_interrupts(|| what.here(LOCAL_SHOOTDOWN));
    let others = others();
    if others != 0 {
        events::tlb_flush(REMOTE_SEND_IPI, what.pages());
        call(others, &|| what.here(REMOTE_SHOOTDOWN));
    }
    percpu::sub_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
}

/// Makes every CPU that runs do a full memory barrier at some moment during the call, whatever it is in.
pub fn barrier_all() {
    fence(SeqCst);
    let others = others();
    if others == 0 {
        return;
    }
    let before: [u64; cpu::MAX_CPUS] =
        core::array::from_fn(|cpu| percpu::of(cpu).barriers.load(SeqCst));
    send(others, Signal::Nmi);
    for cpu in each(others) {
        // One that was asked for by somebody else meanwhile is as good.
        while percpu::of(cpu).barriers.load(SeqCst) == before[cpu] && cpu::is_online(cpu) {
            spin_loop();
        }
    }
    fence(SeqCst);
}

/// Whether CPUs are to stop, and where.
static STOPPING: AtomicU8 = AtomicU8::new(RUN);
const RUN: u8 = 0;
/// Where nothing is half done: interrupts and preemption on.
const SAFELY: u8 = 1;
/// Wherever they are.
const AT_ONCE: u8 = 2;

/// How long a CPU has to come to a safe point, in ns: far longer than any code keeps preemption off.
const SAFELY_NS: u64 = 1_000_000_000;
/// How long it has to take an interrupt, and then an NMI.
const AT_ONCE_NS: u64 = 20_000_000;
/// How long until it is asked again.
const AGAIN_NS: u64 = 100_000;

/// Stops all other CPUs, each at a safe point: no lock is held and no event half written. With interrupts off.
///
/// # Errors
/// The CPUs that did not come to one in time, a bit each; then all run on.
pub fn stop_others_safely() -> Result<(), u32> {
    let all = others();
    STOPPING.store(SAFELY, SeqCst);
    // One that is to stop may wait for this one.
    wait_for_stop(SAFELY_NS, serve);
    let late = others();
    if late == 0 {
        return Ok(());
    }
    STOPPING.store(RUN, SeqCst);
    while others() != all {
        spin_loop();
    }
    Err(late)
}

/// Stops all other CPUs at once, by NMI where an interrupt does not do it. With interrupts off.
pub fn stop_others() {
    STOPPING.store(AT_ONCE, SeqCst);
    // Nobody is served: this may be the end of a panic in what was asked for.
    wait_for_stop(AT_ONCE_NS, || ());
    if others() != 0 {
        send(others(), Signal::Nmi);
        let end = clock::nanos() + AT_ONCE_NS;
        while others() != 0 && clock::nanos() < end {
            spin_loop();
        }
    }
}

fn wait_for_stop(limit: u64, meanwhile: impl Fn()) {
    let end = clock::nanos() + limit;
    while others() != 0 && clock::nanos() < end {
        send(others(), Signal::Vector(STOP_VECTOR));
        let again = clock::nanos() + AGAIN_NS;
        while others() != 0 && clock::nanos() < again {
            meanwhile();
            spin_loop();
        }
    }
}

/// Stops here if it is asked for and this is a good place; who asks does so again.
pub fn on_stop() {
    match STOPPING.load(SeqCst) {
        // This interrupt alone.
        SAFELY if percpu::preempt_count() == percpu::HARDIRQ_OFFSET => stop_safely(),
        AT_ONCE => stop(),
        _ => {}
    }
}

/// Waits for the end of this life, or for the word that it goes on after all.
fn stop_safely() {
    cpu::set_offline(cpu::index());
    loop {
        match STOPPING.load(SeqCst) {
            SAFELY => spin_loop(),
            AT_ONCE => stop(),
            _ => break,
        }
    }
    cpu::set_online();
    // What was asked for meanwhile was not done here. Who asks from now on waits for this CPU; before that it may have been for
    // translations. (No address space has gone: all tasks stand still.)
    Flush::All.forget();
}

/// An NMI came: a barrier is asked for, or an end.
pub fn on_nmi() {
    if STOPPING.load(SeqCst) == AT_ONCE {
        stop();
    }
    hwlat::within_nmi(|| {
        // A locked instruction is a full barrier (Intel SDM vol. 3, 9.2.2); so are the interrupt and its return.
        percpu::this().barriers.fetch_add(1, SeqCst);
    });
}

/// The end of the running CPU in this life: it answers no more.
pub fn stop() -> ! {
    interrupts::disable();
    cpu::set_offline(cpu::index());
    loop {
        hlt();
    }
}

/// Puts all CPUs that have been started, but CPU 0, which calls this, back to where a CPU waits to be started: it uses no
/// memory there.
pub fn reset_others() {
    for cpu in 1..cpu::count() {
        if percpu::of(cpu).started.load(Acquire) {
            send(1 << cpu, Signal::Init);
        }
    }
}
