//! The run queues: which task runs on which CPU, switching, waking up, balancing.
//!
//! A queue's lock is taken with interrupts off, and is handed over in a switch: who goes on unlocks it ([`finish_switch`]). So
//! who has the lock of the queue that a task belongs to knows that no CPU is on that task's stack, unless it is its queue's running one.
//! Two queues are locked at once only where the second one is free.

use super::record::{Kind, Task, current};
use super::{freeze, preempt, switch, table, timer, work};
use crate::machine::cpu::MAX_CPUS;
use crate::machine::{clock, cpu, ipi, percpu};
use crate::memory::without_interrupts;
use crate::{events, latency};
use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicU16, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use kernel::sched::queue::RunQueue;
use kernel::sched::{Slot, place, prio};
use spin::{Mutex, MutexGuard};
use x86_64::instructions::interrupts;

struct Queue {
    /// Who waits; `None` before there are tasks.
    ready: Option<RunQueue>,
    /// Who runs.
    running: Slot,
    /// TSC at which the running task's time has been counted up to.
    since: u64,
}

static QUEUES: [Mutex<Queue>; MAX_CPUS] = [const {
    Mutex::new(Queue {
        ready: None,
        running: 0,
        since: 0,
    })
}; MAX_CPUS];

/// Who ran before, while a switch is under way; changed by its own CPU, with the queue locked.
static BEFORE: [AtomicU16; MAX_CPUS] = [const { AtomicU16::new(0) }; _];

/// Runnable tasks of each CPU, and the rank of the one that runs ([`NOBODY`]: the idle task), to look at without a lock.
static LOADS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; _];
static RUNNING: [AtomicU16; MAX_CPUS] = [const { AtomicU16::new(NOBODY) }; _];
const NOBODY: u16 = u16::MAX;

/// CPUs that run tasks, a bit each.
static ACTIVE: AtomicU64 = AtomicU64::new(0);

/// Switches on all CPUs in this life.
static SWITCHES: AtomicU64 = AtomicU64::new(0);

/// How many switches there were.
pub fn switches() -> u64 {
    SWITCHES.load(Relaxed)
}

/// The CPUs that run tasks, a bit each.
pub fn active() -> u64 {
    ACTIVE.load(Acquire)
}

/// Runnable tasks of a CPU.
pub(super) fn load(cpu: usize) -> u32 {
    LOADS[cpu].load(Relaxed)
}

/// Runnable tasks on all CPUs.
pub fn runnable() -> u32 {
    loads().into_iter().flatten().sum()
}

fn loads() -> [Option<u32>; MAX_CPUS] {
    let active = active();
    core::array::from_fn(|cpu| (active >> cpu & 1 != 0).then(|| LOADS[cpu].load(Relaxed)))
}

impl Queue {
    fn ready(&mut self) -> &mut RunQueue {
        self.ready.as_mut().expect("task::init comes first")
    }

    /// Publishes what has changed.
    fn publish(&mut self, cpu: usize) {
        let running = table::by_slot(self.running);
        let busy = u32::from(!running.is_idle());
        let rank = match running.is_idle() {
            true => NOBODY,
            false => prio::rank(running.prio(), running.busy.load(Relaxed)),
        };
        LOADS[cpu].store(self.ready().len() as u32 + busy, Relaxed);
        RUNNING[cpu].store(rank, Release);
    }

    /// Counts the running task's time.
    fn account(&mut self) {
        let now = clock::tsc();
        let ran = now.saturating_sub(core::mem::replace(&mut self.since, now));
        table::by_slot(self.running).cycles.fetch_add(ran, Relaxed);
    }

    /// Makes a task runnable here.
    fn enqueue(&mut self, task: &Task, cpu: usize, first: bool) {
        task.on_queue.store(true, Relaxed);
        task.cpu.store(cpu as u32, Relaxed);
        self.ready().put(task.slot, task.prio(), first);
    }
}

/// Makes room for tasks, and turns what runs into CPU 0's idle task.
pub fn init() {
    trace::set_preemption(preempt::preempt_disable, preempt::preempt_enable);
    table::init();
    for (cpu, queue) in QUEUES.iter().enumerate().take(cpu::count()) {
        let idle = table::add_idle(cpu);
        let mut queue = queue.lock();
        queue.ready = Some(RunQueue::new(table::SLOTS));
        queue.running = idle.slot;
        timer::init(cpu);
    }
    go_active(cpu::index());
}

/// The running code is a CPU's idle task from now on, and the CPU takes tasks; where that is so already, nothing is done. Its
/// worker comes first: who keeps the CPU busy must not keep it from being made. Without one the CPU takes no tasks; it answers the
/// others, and that is all.
///
/// # Panics
/// Where CPU 0 has none: the kernel is nothing without tasks.
pub(super) fn go_active(cpu: usize) {
    if active() >> cpu & 1 != 0 {
        return;
    }
    adopt_idle(cpu);
    match work::start(cpu) {
        Ok(()) => {}
        Err(why) if cpu == 0 => {
            panic!("CPU 0 cannot take tasks, since its worker cannot be made: {why}")
        }
        Err(why) => {
            crate::warning!(
                "smp: CPU {cpu} takes no tasks, since its worker cannot be made: {why}"
            );
            return;
        }
    }
    ACTIVE.fetch_or(1 << cpu, AcqRel);
}

/// The running code is a CPU's idle task from now on.
fn adopt_idle(cpu: usize) {
    without_interrupts(|| {
        let idle = table::by_slot(cpu as Slot);
        idle.on_queue.store(true, Relaxed);
        QUEUES[cpu].lock().since = clock::tsc();
        percpu::this()
            .current
            .store((&raw const *idle).cast_mut(), Release);
    });
}

/// Gives the CPU to another task: for good or until it is woken, if the state says so and `preempted` does not. Interrupts are
/// off.
pub(super) fn switch_task(preempted: bool) {
    debug_assert!(!interrupts::are_enabled());
    let Some(prev) = current() else {
        return;
    };
    percpu::add_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
    let cpu = cpu::index();
    let mut queue = QUEUES[cpu].lock();
    percpu::this().need_resched.store(false, Relaxed);
    queue.account();
    let next = choose(&mut queue, cpu, &prev, preempted);
    if next.slot == prev.slot {
        queue.publish(cpu);
        drop(queue);
        percpu::sub_preempt_count::<{ percpu::PREEMPT_OFFSET }>();
        return;
    }
    queue.running = next.slot;
    BEFORE[cpu].store(prev.slot, Relaxed);
    queue.publish(cpu);
    SWITCHES.fetch_add(1, Relaxed);
    prev.switches[usize::from(preempted)].fetch_add(1, Relaxed);
    let state = match prev.kind {
        Kind::Idle => 0,
        _ if preempted => PREEMPTED,
        _ => i64::from(prev.state.shown()),
    };
    trace::event!(events::sched_switch(
        prev.comm(),
        prev.pid,
        i32::from(prev.prio()),
        state,
        next.comm(),
        next.pid,
        i32::from(next.prio())
    ));
    latency::task_runs(next.pid);
    let count = percpu::preempt_count() - percpu::PREEMPT_OFFSET;
    prev.preempt_count.store(count, Relaxed);
    percpu::this()
        .current
        .store((&raw const *next).cast_mut(), Relaxed);
    if let Some(top) = next
        .kernel_stack_top()
        .filter(|_| next.kind == Kind::Process)
    {
        cpu::set_kernel_stack(top);
    }
    if let Some(process) = next.process() {
        process.activate();
    }
    // Handed over.
    core::mem::forget(queue);
    // SAFETY: interrupts are off; this is `prev`'s stack, and `next`, which was in a queue or is this CPU's idle task, runs
    // nowhere.
    unsafe { switch::tasks(&prev, next) };
    finish_switch();
}

/// The state that Linux's `sched_switch` shows for a task that could go on: `R+`.
const PREEMPTED: i64 = 0x100;

/// Puts `prev` where it belongs, and takes out who runs next.
fn choose(queue: &mut Queue, cpu: usize, prev: &Task, preempted: bool) -> &'static Task {
    let idle = table::by_slot(cpu as Slot);
    let only = freeze::only(prev);
    if only == Some(true) {
        // The one that is not frozen goes on, whatever it waits for.
        prev.state.run();
        return table::by_slot(prev.slot);
    }
    let expired = prev.expired.swap(false, Relaxed);
    if !prev.is_idle() {
        if preempted || !prev.state.leaves() {
            // Who was only pushed aside goes on before its equals.
            queue.enqueue(prev, cpu, preempted && !expired);
        } else {
            prev.on_queue.store(false, Relaxed);
            prev.busy.store(false, Relaxed);
        }
    }
    if only.is_some() {
        // The others stand still: asleep, or in their queues.
        return idle;
    }
    if queue.ready().is_empty() {
        pull(queue, cpu);
    }
    queue.ready().take().map_or(idle, table::by_slot)
}

/// The first thing that a task does after a switch to it. Interrupts are off.
pub(super) fn finish_switch() {
    let cpu = cpu::index();
    let before = table::by_slot(BEFORE[cpu].load(Relaxed));
    // Asked while the queue is locked: one that lives on may be woken on another CPU after that, and end, and be cleared away.
    let dead = before.has_ended() && before.state.shown() == kernel::sched::state::DEAD;
    // SAFETY: locked by the task before, on this CPU, and handed over.
    unsafe { QUEUES[cpu].force_unlock() };
    if let Some(task) = current() {
        preempt::restore(task.preempt_count.load(Relaxed));
    }
    if dead {
        // A dead one stays until this mark is there.
        before.gone.store(true, Release);
        work::queue_work(&table::CLEAR_AWAY);
    }
}

/// Lets another task of the same priority run.
pub fn yield_now() {
    without_interrupts(|| {
        if let Some(task) = current() {
            task.expired.store(true, Relaxed);
            switch_task(false);
        }
    });
}

/// Gives the CPU up until somebody wakes this task, if its state says that it sleeps.
pub(super) fn give_up() {
    without_interrupts(|| switch_task(false));
}

/// Wakes a task that sleeps in one of the ways `kinds`, in any context but an NMI, and with any lock but those of queues.
/// Who calls it sees to [`preempt::preempt_check`].
pub(super) fn try_to_wake_up(task: &Task, kinds: u32) -> bool {
    if !task.state.claim(kinds) {
        return false;
    }
    without_interrupts(|| {
        let shown_prio = i32::from(task.prio());
        trace::event!(events::sched_waking(
            task.comm(),
            task.pid,
            shown_prio,
            task.cpu() as i32
        ));
        let (mut queue, mut cpu) = lock_of(task);
        if !task.state.wake() {
            return false;
        }
        if !task.is_runnable() {
            let allowed = task.allowed.load(Relaxed);
            let here = cpu::index();
            let target = place::for_wakeup(&loads(), allowed, cpu, here).unwrap_or(cpu);
            if target != cpu {
                trace::event!(events::sched_migrate_task(
                    task.comm(),
                    task.pid,
                    shown_prio,
                    cpu as i32,
                    target as i32
                ));
                drop(queue);
                // Nobody else has it meanwhile: it does not sleep, and is in no queue.
                queue = QUEUES[target].lock();
                cpu = target;
            }
            // Before its equals: they have used more of their slices. Its own goes on to count.
            queue.enqueue(task, cpu, true);
            queue.publish(cpu);
            expect_switch(cpu, task);
        }
        trace::event!(events::sched_wakeup(
            task.comm(),
            task.pid,
            shown_prio,
            cpu as i32
        ));
        true
    })
}

/// TSC cycles that a task has run, up to now: a CPU that is idle counts nothing by itself, since its tick has stopped.
pub(super) fn cycles(task: &Task) -> u64 {
    without_interrupts(|| {
        let (queue, _) = lock_of(task);
        let running = core::ptr::eq(table::by_slot(queue.running), task);
        let since = running.then(|| clock::tsc().saturating_sub(queue.since));
        task.cycles.load(Relaxed) + since.unwrap_or(0)
    })
}

/// The queue that a task belongs to, locked.
fn lock_of(task: &Task) -> (MutexGuard<'static, Queue>, usize) {
    loop {
        let cpu = task.cpu();
        let queue = QUEUES[cpu].lock();
        if task.cpu() == cpu {
            return (queue, cpu);
        }
    }
}

/// A task that has woken up waits on a CPU: it runs at once if it is more urgent than what runs there, and how long that takes is
/// what the tracer `wakeup` measures, whose trace begins with this name.
#[inline(never)]
fn expect_switch(cpu: usize, task: &Task) {
    if prio::rank(task.prio(), false) < RUNNING[cpu].load(Relaxed) {
        latency::task_wakes(task.pid, i32::from(task.prio()), cpu);
        ipi::reschedule(cpu);
    }
}

/// A task of this priority waits on a CPU: whether it runs at once is decided there.
fn ask_for_switch(cpu: usize, prio: u8) {
    if prio::rank(prio, false) < RUNNING[cpu].load(Relaxed) {
        ipi::reschedule(cpu);
    }
}

/// Lets a new task run.
pub(super) fn wake_up_new(task: &Arc<Task>) {
    without_interrupts(|| {
        let here = cpu::index();
        let allowed = task.allowed.load(Relaxed);
        let target = place::for_wakeup(&loads(), allowed, here, here);
        // Before its CPU is active (its own kworker is made first) it waits there.
        let cpu =
            target.unwrap_or_else(|| (allowed.trailing_zeros() as usize).min(cpu::count() - 1));
        let mut queue = QUEUES[cpu].lock();
        queue.enqueue(task, cpu, false);
        queue.publish(cpu);
        expect_switch(cpu, task);
        trace::event!(events::sched_wakeup_new(
            task.comm(),
            task.pid,
            i32::from(task.prio()),
            cpu as i32
        ));
    });
    preempt::preempt_check();
}

/// Takes tasks over from the busiest CPU, if that leaves both better off, and its queue is free.
fn pull(queue: &mut Queue, here: usize) {
    let Some((from, count)) = place::pull(&loads(), here) else {
        return;
    };
    let Some(mut other) = (from != here).then(|| QUEUES[from].try_lock()).flatten() else {
        return;
    };
    for _ in 0..count {
        let movable = |slot| table::by_slot(slot).allowed.load(Relaxed) >> here & 1 != 0;
        let Some(slot) = other.ready().give(movable) else {
            break;
        };
        let task = table::by_slot(slot);
        trace::event!(events::sched_migrate_task(
            task.comm(),
            task.pid,
            i32::from(task.prio()),
            from as i32,
            here as i32
        ));
        queue.enqueue(task, here, false);
    }
    other.publish(from);
}

/// Evens the load out, from this CPU's view: the soft interrupt `SCHED` does it every now and then.
pub(super) fn balance() {
    without_interrupts(|| {
        if freeze::is_frozen() {
            return;
        }
        let here = cpu::index();
        let mut queue = QUEUES[here].lock();
        pull(&mut queue, here);
        queue.publish(here);
        if let Some(best) = queue.ready().best() {
            ask_for_switch(here, best);
            // An idle CPU looks when it is told to: it may have no ticks.
            let idle = loads().iter().position(|load| *load == Some(0));
            if let Some(idle) = idle {
                ipi::reschedule(idle);
            }
        }
    });
}

/// The running task's tick: its time, its slice. Interrupts are off.
pub(super) fn tick() {
    let Some(task) = current() else {
        return;
    };
    let cpu = cpu::index();
    let mut queue = QUEUES[cpu].lock();
    queue.account();
    if task.is_idle() {
        return;
    }
    let mut left = task.slice.load(Relaxed);
    if prio::tick(&mut left) {
        task.expired.store(true, Relaxed);
        task.busy.store(true, Relaxed);
        queue.publish(cpu);
        percpu::this().need_resched.store(true, Relaxed);
    }
    task.slice.store(left, Relaxed);
}

/// Lets the running task run on these CPUs only (a bit each), from now on. Sleeps where it is on another one: a tick or two, which is
/// no part of a kexec's blackout, since nobody stands still yet. A task that runs can be taken to another CPU by nobody but that
/// sleep: everything else moves tasks that wait.
pub fn pin(cpus: u64) {
    let Some(task) = current() else {
        return;
    };
    task.allowed.store(cpus, Relaxed);
    while cpus & active() != 0 && cpus >> task.cpu() & 1 == 0 {
        // Who wakes up goes to a CPU on which it may run.
        timer::sleep(1);
    }
}

/// Whether a CPU runs its idle task. Where it is on its way to another task, that is waited for: `RUNNING` alone may tell of before.
pub(super) fn is_idle(cpu: usize) -> bool {
    without_interrupts(|| table::by_slot(QUEUES[cpu].lock().running).is_idle())
}
