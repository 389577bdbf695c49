//! All tasks: by slot for the scheduler, by pid for people. Making one, and clearing away what is left of one that has ended.

use super::record::{Entry, Kind, New, ProcessHooks, Task, current_name, current_pid};
use super::stack::{self, Stack};
use super::work::Work;
use super::{queue, timer};
use crate::events;
use crate::machine::cpu::MAX_CPUS;
use crate::memory::IrqMutex;
use crate::user::{process, space};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use kernel::layout::PAGE;
use kernel::sched::{Slot, pids, prio};

/// Slots for tasks; the first ones are the idle tasks'.
pub const SLOTS: usize = 1024;
/// Stacks of tasks that have ended that are kept, mapped, for new ones: to unmap one, all CPUs have to be asked. Where there are more,
/// half of them go at once.
const KEPT: usize = 16;

/// Why a task was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no memory for its stack.
    NoMemory,
    /// There are as many tasks as there can be.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoMemory => f.write_str("there is no memory for another task's stack"),
            Error::TooMany => write!(f, "there are {SLOTS} tasks already, which is the most"),
        }
    }
}

impl core::error::Error for Error {}

struct Table {
    /// Room for all is made at the start: nothing grows under the lock.
    slots: Vec<Option<Arc<Task>>>,
    /// Slots that are taken, also those whose task is not made yet and those whose stack is kept.
    reserved: Vec<bool>,
    /// Stacks of the default size that nobody uses, the one used last at the end.
    kept: ArrayVec<Stack, KEPT>,
    last_pid: i32,
}

static TABLE: IrqMutex<Table> = IrqMutex::new(Table {
    slots: Vec::new(),
    reserved: Vec::new(),
    kept: ArrayVec::new_const(),
    last_pid: CONSOLE_PID,
});

/// The same for the scheduler, without a lock: a slot that it knows is a task's until that is gone from every CPU.
static BY_SLOT: [AtomicPtr<Task>; SLOTS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; _];

/// Tasks that have been made in this life.
static MADE: AtomicU64 = AtomicU64::new(0);

/// How many tasks have been made.
pub fn made() -> u64 {
    MADE.load(Relaxed)
}

/// Makes room. Once.
pub(super) fn init() {
    let mut table = TABLE.lock();
    table.slots = (0..SLOTS).map(|_| None).collect();
    table.reserved = alloc::vec![false; SLOTS];
    table.reserved[..MAX_CPUS].fill(true);
}

/// Puts an idle task into its CPU's slot.
pub(super) fn add_idle(cpu: usize) -> Arc<Task> {
    let mut name = arrayvec::ArrayString::<15>::new();
    let _ = fmt::write(&mut name, format_args!("swapper/{cpu}"));
    let new = New {
        pid: 0,
        parent: 0,
        kind: Kind::Idle,
        slot: cpu as Slot,
        prio: prio::DEFAULT,
        allowed: 1 << cpu,
        stack: None,
        entry: None,
        process: None,
    };
    let task = Arc::new(Task::new(&name, new));
    task.cpu.store(cpu as u32, Relaxed);
    publish(&task);
    task
}

fn publish(task: &Arc<Task>) {
    BY_SLOT[usize::from(task.slot)].store(Arc::as_ptr(task).cast_mut(), Release);
    TABLE.lock().slots[usize::from(task.slot)] = Some(task.clone());
}

/// The task in a slot.
///
/// # Panics
/// Where there is none: the scheduler's lists are wrong then.
pub(super) fn by_slot(slot: Slot) -> &'static Task {
    let task = BY_SLOT[usize::from(slot)].load(Acquire);
    // SAFETY: the table holds the task until it is gone from every list and CPU (`clear_away`); the callers are those lists'
    // owners.
    unsafe { task.as_ref() }.expect("a slot in a list has a task")
}

/// All tasks, the idle ones first, else by pid.
pub fn all() -> Vec<Arc<Task>> {
    let mut tasks = Vec::with_capacity(SLOTS);
    tasks.extend(TABLE.lock().slots.iter().flatten().cloned());
    tasks.sort_by_key(|task| (task.pid, task.slot));
    tasks
}

/// Has a look at each task, by slot, without taking memory. The table is locked meanwhile.
pub(super) fn for_each(f: impl FnMut(&Arc<Task>)) {
    TABLE.lock().slots.iter().flatten().for_each(f);
}

/// What a task that ends has made falls to the console, as to init: its pid may be somebody else's soon.
pub(super) fn leave_children(pid: i32) {
    for_each(|task| {
        // What an idle task has made stays with that.
        if pid != 0 && task.parent() == pid {
            task.parent.store(CONSOLE_PID, Relaxed);
        }
    });
}

/// The task with this pid; not an idle one.
pub fn find(pid: i32) -> Option<Arc<Task>> {
    let table = TABLE.lock();
    let mut tasks = table.slots.iter().flatten();
    tasks.find(|task| task.pid == pid && pid != 0).cloned()
}

/// Writes the name of a task, if it is known and the table is not in use: in any context.
pub fn write_name(pid: i32, out: &mut dyn fmt::Write) -> bool {
    if pid == current_pid() {
        return out.write_str(&current_name()).is_ok();
    }
    let Some(table) = TABLE.try_lock() else {
        return false;
    };
    let task = table.slots.iter().flatten().find(|task| task.pid == pid);
    task.is_some_and(|task| out.write_str(task.comm()).is_ok())
}

/// How a task is made, where the default is not wanted.
#[derive(Clone)]
pub struct Options {
    /// Linux's number.
    pub prio: u8,
    /// The CPUs on which it may run, a bit each.
    pub allowed: u64,
    /// Bytes of its kernel stack.
    pub stack: u64,
    /// The kernel is nothing without it.
    pub essential: bool,
    /// It runs a user process.
    pub process: Option<Arc<dyn ProcessHooks>>,
    /// The pid, where it is a certain one: [`CONSOLE_PID`].
    pub pid: Option<i32>,
}

/// The console task's pid, which nobody else gets.
pub const CONSOLE_PID: i32 = 1;

impl Default for Options {
    fn default() -> Self {
        Options {
            prio: prio::DEFAULT,
            allowed: u64::MAX,
            stack: stack::SIZE,
            essential: false,
            process: None,
            pid: None,
        }
    }
}

/// Makes a kernel thread, which runs `entry` and ends with it.
///
/// # Errors
/// [`Error`]; nothing has been made then.
pub fn spawn(
    name: &str,
    prio: u8,
    entry: impl FnOnce() + Send + 'static,
) -> Result<Arc<Task>, Error> {
    spawn_with(
        name,
        Options {
            prio,
            ..Options::default()
        },
        entry,
    )
}

/// Makes a task for a user process, which may run on these CPUs: `entry` runs in the kernel, on its stack and with its address space, and enters user
/// mode.
///
/// # Errors
/// [`Error`]; nothing has been made then.
pub fn spawn_process(
    name: &str,
    process: Arc<dyn ProcessHooks>,
    allowed: u64,
    entry: impl FnOnce() + Send + 'static,
) -> Result<Arc<Task>, Error> {
    let process = Some(process);
    spawn_with(
        name,
        Options {
            process,
            allowed,
            ..Options::default()
        },
        entry,
    )
}

/// Makes a task.
///
/// # Errors
/// [`Error`]; nothing has been made then.
pub fn spawn_with(
    name: &str,
    options: Options,
    entry: impl FnOnce() + Send + 'static,
) -> Result<Arc<Task>, Error> {
    let entry: Entry = Box::new(entry);
    let size = options.stack;
    let ((slot, kept), pid) = reserve(options.pid, size)
        .or_else(|| {
            give_back_stacks();
            reserve(options.pid, size)
        })
        .ok_or(Error::TooMany)?;
    let stack = kept.or_else(|| Stack::new(slot, size)).or_else(|| {
        give_back_stacks();
        Stack::new(slot, size)
    });
    let Some(stack) = stack else {
        TABLE.lock().reserved[usize::from(slot)] = false;
        return Err(Error::NoMemory);
    };
    // SAFETY: mapped, and used by nobody.
    let rsp = unsafe { super::switch::first_frame(stack.top()) };
    let kind = match options.process {
        Some(_) => Kind::Process,
        None => Kind::Kernel {
            essential: options.essential,
        },
    };
    let new = New {
        pid,
        parent: current_pid(),
        kind,
        slot,
        prio: options.prio.min(prio::LEVELS as u8 - 1),
        allowed: options.allowed,
        stack: Some(stack),
        entry: Some(entry),
        process: options.process,
    };
    let task = Arc::new(Task::new(name, new));
    task.rsp.store(rsp, Relaxed);
    publish(&task);
    MADE.fetch_add(1, Relaxed);
    events::sched_process_fork(&current_name(), current_pid(), task.comm(), pid);
    queue::wake_up_new(&task);
    Ok(task)
}

/// A free slot, with its stack where one of this size is kept, and pid.
fn reserve(pid: Option<i32>, stack: u64) -> Option<((Slot, Option<Stack>), i32)> {
    let table = &mut *TABLE.lock();
    let kept = match stack {
        stack::SIZE => table.kept.pop(),
        _ => None,
    };
    let slot = match &kept {
        Some(stack) => usize::from(stack.slot()),
        None => table.reserved.iter().position(|taken| !taken)?,
    };
    table.reserved[slot] = true;
    let place = (slot as Slot, kept);
    if let Some(pid) = pid {
        return Some((place, pid));
    }
    table.last_pid = pids::next(table.last_pid, |pid| {
        let mut tasks = table.slots.iter().flatten();
        tasks.any(|task| task.pid == pid) || process::is_known_by(pid)
    });
    Some((place, table.last_pid))
}

/// Frees the stacks that are kept, for who needs the memory or the slots; whether there were any. What there was on them is seen by
/// nobody: user mode gets no page that has not been written over.
pub fn give_back_stacks() -> bool {
    let kept = core::mem::take(&mut TABLE.lock().kept);
    if kept.is_empty() {
        return false;
    }
    free(kept.into_iter().collect());
    true
}

/// Pages of the stacks that are kept: [`give_back_stacks`] would free them.
pub fn kept_stack_pages() -> u64 {
    let table = TABLE.lock();
    table.kept.iter().map(|stack| stack.size() / PAGE).sum()
}

/// Frees stacks, and their slots.
fn free(stacks: ArrayVec<Stack, { stack::BATCH }>) {
    let slots: ArrayVec<Slot, { stack::BATCH }> = stacks.iter().map(Stack::slot).collect();
    // SAFETY: each of their tasks has ended, and the CPU that ran it last is on another stack (`queue::finish_switch`); and nobody
    // gets them, since they are in the table no more.
    unsafe { stack::free_all(stacks) };
    let table = &mut *TABLE.lock();
    for slot in slots {
        table.reserved[usize::from(slot)] = false;
    }
}

/// Clears away the tasks that are gone: a kworker does it, since CPUs may have to be asked.
pub(super) static CLEAR_AWAY: Work = Work::new(clear_away);

/// One worker does it at a time; what is asked for meanwhile it does, too. Two would ask the CPUs at the same time, and wait for each
/// other.
fn clear_away() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    if ASKED.fetch_add(1, AcqRel) != 0 {
        return;
    }
    loop {
        let asked = ASKED.load(Acquire);
        clear_away_once();
        let all = ASKED.compare_exchange(asked, 0, AcqRel, Acquire);
        if all.is_ok() {
            return;
        }
    }
}

fn clear_away_once() {
    let gone = all()
        .into_iter()
        .filter(|task| task.gone.swap(false, AcqRel));
    let mut to_free = ArrayVec::<Stack, { stack::BATCH }>::new();
    for task in gone {
        timer::wait_until_idle(task.slot);
        let slot = usize::from(task.slot);
        BY_SLOT[slot].store(core::ptr::null_mut(), Release);
        let entry = {
            let table = &mut *TABLE.lock();
            // The slot stays taken until the stack goes.
            if let Some(stack) = task.stack.as_ref().map(Stack::withdraw) {
                table.keep(stack, &mut to_free);
            }
            table.slots[slot].take()
        };
        // What a task owns may free memory: not under the lock.
        drop(entry);
        if to_free.remaining_capacity() <= KEPT {
            free(core::mem::take(&mut to_free));
        }
    }
    if !to_free.is_empty() {
        free(to_free);
    }
}

impl Table {
    /// Keeps a stack for a new task, or has it and others freed: at most [`KEPT`] and one more.
    fn keep(&mut self, stack: Stack, to_free: &mut ArrayVec<Stack, { stack::BATCH }>) {
        let most = match space::is_short() {
            true => 0,
            false if self.kept.is_full() => KEPT / 2,
            false => KEPT,
        };
        let surplus = self.kept.len().saturating_sub(most);
        to_free.extend(self.kept.drain(..surplus));
        match most > 0 && stack.size() == stack::SIZE {
            true => self.kept.push(stack),
            false => to_free.push(stack),
        }
    }
}
