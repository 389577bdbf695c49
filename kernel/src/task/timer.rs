//! Kernel timers, and sleeping for a time. Each CPU has a wheel (`kernel::sched::wheel`), which the soft interrupt `TIMER`
//! turns. The unit is the tick, Linux's jiffy; it counts from the machine's reset, over all lives.

use super::record::{Current, Task, current};
use super::wait::{Interrupted, WaitQueue};
use super::{queue, softirq, table};
use crate::events;
use crate::machine::apic::HZ;
use crate::machine::{clock, cpu};
use crate::memory::IrqMutex;
use alloc::boxed::Box;
use core::pin::Pin;
use core::sync::atomic::{
    AtomicPtr, AtomicU16, AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use kernel::sched::wheel::Wheel;
use kernel::sched::{NONE, Slot};

/// Timers beside those of the tasks: each task has one, with its slot's number.
const OTHERS: usize = 128;
/// Nanoseconds in a tick.
const TICK_NS: u64 = 1_000_000_000 / HZ;

static WHEELS: [IrqMutex<Option<Wheel>>; cpu::MAX_CPUS] =
    [const { IrqMutex::new(None) }; cpu::MAX_CPUS];

/// The other timers, by number minus the tasks' ones.
static REGISTERED: [AtomicPtr<Inner>; OTHERS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; _];
/// The timer whose function each CPU is running.
static RUNNING: [AtomicU16; cpu::MAX_CPUS] = [const { AtomicU16::new(NONE) }; _];

/// Ticks since the machine's reset.
pub fn jiffies() -> u64 {
    clock::nanos() / TICK_NS
}

/// The tick at which at least `ns` nanoseconds have passed from now on.
pub fn jiffies_after(ns: u64) -> u64 {
    clock::nanos().saturating_add(ns).div_ceil(TICK_NS)
}

pub(super) fn init(cpu: usize) {
    *WHEELS[cpu].lock() = Some(Wheel::new(table::SLOTS + OTHERS, jiffies()));
}

/// A timer as the trace sees it.
struct Shown {
    address: u64,
    function: u64,
}

/// Sets timer `id` on this CPU; `place` is where it is noted (plus 1). Where it is set already, here or on another CPU, that is
/// cancelled.
fn set(id: Slot, place: &AtomicU32, due: u64, shown: &Shown) {
    super::without_preemption(|| {
        cancel(id, place, shown.address);
        let cpu = cpu::index();
        let mut wheel = WHEELS[cpu].lock();
        if let Some(wheel) = &mut *wheel {
            wheel.catch_up(jiffies());
            wheel.set(id, due);
            place.store(cpu as u32 + 1, Relaxed);
        }
        trace::event!(events::timer_start(
            shown.address,
            shown.function,
            due,
            due,
            jiffies(),
            cpu as u32
        ));
    });
}

/// Stops timer `id`; whether it was set.
fn cancel(id: Slot, place: &AtomicU32, address: u64) -> bool {
    let Some(cpu) = (place.swap(0, Relaxed) as usize).checked_sub(1) else {
        return false;
    };
    let mut wheel = WHEELS[cpu].lock();
    let was_set = wheel.as_mut().is_some_and(|wheel| wheel.cancel(id));
    if was_set {
        events::timer_cancel(address);
    }
    was_set
}

fn task_shown(task: &Task) -> Shown {
    Shown {
        address: &raw const task.timer_cpu as u64,
        function: process_timeout as *const () as u64,
    }
}

/// What a sleeping task's timer does; it has the name of Linux's.
fn process_timeout(task: &Task) {
    queue::try_to_wake_up(
        task,
        kernel::sched::state::INTERRUPTIBLE | kernel::sched::state::UNINTERRUPTIBLE,
    );
}

/// Wakes the running task at tick `due`.
pub(super) fn set_for(task: Current, due: u64) {
    set(task.slot, &task.timer_cpu, due, &task_shown(&task));
}

/// Stops the running task's timer.
pub(super) fn cancel_for(task: Current) {
    cancel(task.slot, &task.timer_cpu, task_shown(&task).address);
}

/// At each tick of this CPU: asks for the soft interrupt where a timer may be due.
pub(super) fn tick() {
    let wheel = WHEELS[cpu::index()].lock();
    let next = wheel.as_ref().and_then(Wheel::next);
    if next.is_some_and(|next| next <= jiffies()) {
        softirq::raise(softirq::TIMER);
    }
}

/// A tick before which no timer of a CPU is due; `None` where none is set.
pub(super) fn next_due(cpu: usize) -> Option<u64> {
    WHEELS[cpu].lock().as_ref().and_then(Wheel::next)
}

/// A timer that goes off. It lives until [`RUNNING`] says that its function has returned.
enum Expired {
    Task(&'static Task),
    Other(&'static Inner),
}

impl Expired {
    /// The timer of this number, which was in a wheel.
    fn of(id: Slot) -> Expired {
        match usize::from(id).checked_sub(table::SLOTS) {
            // It may be woken by somebody else, and end: it is not cleared away while this runs.
            None => Expired::Task(table::by_slot(id)),
            Some(other) => {
                let inner = REGISTERED[other].load(Acquire);
                // SAFETY: `Timer::drop` waits until the timer is neither in a wheel nor running.
                let inner = unsafe { inner.as_ref() };
                Expired::Other(inner.expect("a timer in a wheel is registered"))
            }
        }
    }

    fn shown(&self) -> Shown {
        match self {
            Expired::Task(task) => task_shown(task),
            Expired::Other(inner) => inner.shown(),
        }
    }

    fn call(&self) {
        match self {
            Expired::Task(task) => process_timeout(task),
            Expired::Other(inner) => (inner.function)(),
        }
    }
}

/// Runs what is due on this CPU.
pub(super) fn expire() {
    let cpu = cpu::index();
    loop {
        let now = jiffies();
        let due = {
            let mut wheel = WHEELS[cpu].lock();
            let due = wheel.as_mut().and_then(|wheel| wheel.expire(now));
            // Under the lock: who drops a timer finds it in the wheel, or running.
            RUNNING[cpu].store(due.map_or(NONE, |(id, _)| id), SeqCst);
            due.map(|(id, due)| {
                let expired = Expired::of(id);
                // As in Linux, where `detach_timer` records it: whoever sets it anew does so after this.
                events::timer_cancel(expired.shown().address);
                (expired, due)
            })
        };
        let Some((expired, due)) = due else {
            return;
        };
        let shown = expired.shown();
        events::timer_expire_entry(shown.address, now, shown.function, due);
        expired.call();
        events::timer_expire_exit(shown.address);
        RUNNING[cpu].store(NONE, SeqCst);
    }
}

struct Inner {
    id: Slot,
    function: Box<dyn Fn() + Send + Sync>,
    /// What the trace shows as the function.
    function_shown: u64,
    place: AtomicU32,
}

impl Inner {
    fn shown(&self) -> Shown {
        Shown {
            address: &raw const *self as u64,
            function: self.function_shown,
        }
    }
}

/// A timer that calls a function, in a soft interrupt of the CPU that set it: it must not sleep.
pub struct Timer(Pin<Box<Inner>>);

impl Timer {
    /// A timer that is not set. `None` where there are too many.
    pub fn new<F: Fn() + Send + Sync + 'static>(function: F) -> Option<Timer> {
        // A function of the closure's own, whose symbol has its name.
        fn name<F>() {}
        let mut inner = Box::pin(Inner {
            id: NONE,
            function: Box::new(function),
            function_shown: name::<F> as *const () as u64,
            place: AtomicU32::new(0),
        });
        for (n, place) in REGISTERED.iter().enumerate() {
            inner.id = (table::SLOTS + n) as Slot;
            // From its final place: a box that moves after this may not be looked at through it.
            let pointer = (&raw const *inner).cast_mut();
            if place
                .compare_exchange(core::ptr::null_mut(), pointer, SeqCst, Relaxed)
                .is_ok()
            {
                return Some(Timer(inner));
            }
        }
        None
    }

    /// Lets it go off at tick `due`, once; set before, it is set anew.
    pub fn set(&self, due: u64) {
        set(self.0.id, &self.0.place, due, &self.0.shown());
    }

    /// Stops it; whether it was set. Its function may still be running.
    pub fn cancel(&self) -> bool {
        cancel(self.0.id, &self.0.place, self.0.shown().address)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
        // Its function runs to its end: soft interrupts do not wait for tasks.
        wait_until_idle(self.0.id);
        REGISTERED[usize::from(self.0.id) - table::SLOTS].store(core::ptr::null_mut(), Release);
    }
}

/// Waits until no CPU runs the function of a timer that is not set.
pub(super) fn wait_until_idle(id: Slot) {
    while RUNNING.iter().any(|running| running.load(SeqCst) == id) {
        core::hint::spin_loop();
    }
}

/// Nobody wakes these: they wait for a time alone.
static SLEEPERS: [WaitQueue; 8] = [const { WaitQueue::new() }; 8];

fn sleepers() -> &'static WaitQueue {
    &SLEEPERS[current().map_or(0, |task| usize::from(task.slot)) % SLEEPERS.len()]
}

/// Sleeps for `ticks` ticks, the running one not counted.
pub fn sleep(ticks: u64) {
    let until = jiffies().saturating_add(ticks).saturating_add(1);
    sleepers().wait_until_tick(until, || false);
}

/// Sleeps until at least `ns` nanoseconds have passed, to a tick.
///
/// # Errors
/// [`Interrupted`], where the task is to end, or ctrl-c is for it.
pub fn sleep_interruptible(ns: u64) -> Result<(), Interrupted> {
    let until = jiffies_after(ns);
    sleepers()
        .wait_interruptible(Some(until), || false)
        .map(|_| ())
}
