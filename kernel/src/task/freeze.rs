//! A kexec: first all tasks but one stand still, then all end, and CPU 0's idle task jumps.
//!
//! A task that is frozen stays where it is, in its queue or asleep, and holds what it holds: nothing on the way of a kexec takes a
//! sleeping lock. That the idle task does the rest makes the switches chain over the jump: it is what runs first in the next life, too.

use super::queue;
use super::record::{Task, current};
use super::table;
use crate::events;
use crate::machine::{clock, cpu, ipi};
use crate::memory::IrqMutex;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst};
use kernel::sched::state::UNINTERRUPTIBLE;

/// The pid of the only task that may run; [`NOT`]: all may; [`NOBODY`]: none.
static ONLY: AtomicI32 = AtomicI32::new(NOT);
const NOT: i32 = 0;
const NOBODY: i32 = -1;

/// Nanoseconds in which a CPU comes to rest. Nobody has a reason to keep one busy, without preemption, for nearly as long.
const REST_NS: u64 = 10_000_000_000;

/// The CPUs on which the only task could run before.
static ALLOWED: AtomicU64 = AtomicU64::new(0);

type LastWords = Box<dyn FnOnce() + Send>;

/// What CPU 0's idle task does last.
static LAST_WORDS: IrqMutex<Option<LastWords>> = IrqMutex::new(None);

/// Whether tasks stand still.
pub fn is_frozen() -> bool {
    ONLY.load(SeqCst) != NOT
}

/// `None`: nobody is frozen. Else whether `task` is the one that is not.
pub(super) fn only(task: &Task) -> Option<bool> {
    match ONLY.load(SeqCst) {
        NOT => None,
        pid => Some(pid == task.pid),
    }
}

fn others() -> impl Iterator<Item = usize> {
    let active = queue::active();
    (0..cpu::MAX_CPUS).filter(move |cpu| active >> cpu & 1 != 0 && *cpu != cpu::index())
}

/// Lets all other tasks stand still; the running one is on CPU 0 afterwards. When this returns, every other CPU that takes tasks runs its
/// idle task, and takes no other one until [`thaw`]; interrupts still come there.
///
/// # Errors
/// A sentence, where somebody else does the same, or a CPU does not come to rest; all tasks run on then.
pub fn freeze() -> Result<(), String> {
    let Some(task) = current() else {
        return Ok(());
    };
    let allowed = task.allowed.load(SeqCst);
    queue::pin(1);
    if ONLY
        .compare_exchange(NOT, task.pid, SeqCst, SeqCst)
        .is_err()
    {
        queue::pin(allowed);
        return Err("a kexec is under way already".into());
    }
    ALLOWED.store(allowed, SeqCst);
    for cpu in others() {
        ipi::reschedule(cpu);
    }
    let end = clock::nanos() + REST_NS;
    for cpu in others() {
        // As long as that CPU has preemption off.
        while !queue::is_idle(cpu) {
            if clock::nanos() > end {
                thaw();
                return Err(format!(
                    "CPU {cpu} has not come to rest within {} s, since it holds off interrupts or preemption",
                    REST_NS / 1_000_000_000
                ));
            }
            core::hint::spin_loop();
        }
    }
    Ok(())
}

/// The kexec does not happen: all tasks go on.
pub fn thaw() {
    ONLY.store(NOT, SeqCst);
    if let Some(task) = current() {
        task.allowed.store(ALLOWED.load(SeqCst), SeqCst);
    }
    for cpu in others() {
        ipi::reschedule(cpu);
    }
}

/// Ends all tasks, this one included, and does `last`, which does not come back, in CPU 0's idle task, with interrupts off. After [`freeze`].
pub fn end_all_and_run(last: LastWords) -> ! {
    *LAST_WORDS.lock() = Some(last);
    ONLY.store(NOBODY, SeqCst);
    loop {
        if let Some(task) = current() {
            task.state.sleep(UNINTERRUPTIBLE);
        }
        queue::give_up();
    }
}

/// In each round of a CPU's idle task, interrupts off: what [`end_all_and_run`] has asked for.
pub(super) fn last_words(cpu: usize) {
    if cpu != 0 || ONLY.load(SeqCst) != NOBODY {
        return;
    }
    let Some(last) = LAST_WORDS.lock().take() else {
        return;
    };
    table::for_each(|task| {
        if !task.is_idle() && !task.has_ended() {
            events::sched_process_exit(task.comm(), task.pid, i32::from(task.prio()), true);
        }
    });
    last();
    panic!("a kexec came back");
}
