//! The work queue: functions that a task is to call later, when whoever asks is where it must not sleep, or wait. Each CPU has a
//! list and a task that works it off, `kworker/N:0`.

use super::table::{Error, Options, spawn_with};
use super::wait::WaitQueue;
use crate::events;
use crate::machine::cpu;
use crate::memory::IrqMutex;
use core::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{AcqRel, Relaxed, Release},
};

/// The name of the one work queue, as Linux calls its own of this kind.
const NAME: &str = "events";
/// What `workqueue_queue_work` says where no CPU was asked for: more than there are.
const UNBOUND: i32 = cpu::MAX_CPUS as i32;

/// Something to be called, time and again: a static.
pub struct Work {
    function: fn(),
    /// It is in a list.
    pending: AtomicBool,
    next: AtomicPtr<Work>,
}

impl Work {
    pub const fn new(function: fn()) -> Self {
        Work {
            function,
            pending: AtomicBool::new(false),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    fn address(&self) -> u64 {
        &raw const *self as u64
    }
}

struct Lists {
    /// The first and the last of [`Work`]s; null: none.
    first: *const Work,
    last: *const Work,
}

// SAFETY: the pointers are to statics.
unsafe impl Send for Lists {}

struct Pool {
    lists: IrqMutex<Lists>,
    /// The worker, while there is nothing.
    idle: WaitQueue,
}

static POOLS: [Pool; cpu::MAX_CPUS] = [const {
    Pool {
        lists: IrqMutex::new(Lists {
            first: core::ptr::null(),
            last: core::ptr::null(),
        }),
        idle: WaitQueue::new(),
    }
}; cpu::MAX_CPUS];

/// Lets this CPU's worker call `work`, in any context but an NMI; false where it is in a list already.
pub fn queue_work(work: &'static Work) -> bool {
    if work.pending.swap(true, AcqRel) {
        return false;
    }
    super::without_preemption(|| {
        let cpu = cpu::index();
        let pool = &POOLS[cpu];
        let (address, function) = (work.address(), work.function as usize as u64);
        events::workqueue_queue_work(address, function, NAME, UNBOUND, cpu as i32);
        // There is no limit on what is active at once: it is from the start.
        events::workqueue_activate_work(address, function);
        {
            let mut lists = pool.lists.lock();
            work.next.store(core::ptr::null_mut(), Relaxed);
            // SAFETY: what is in the list is a static.
            match unsafe { lists.last.as_ref() } {
                Some(last) => last.next.store((&raw const *work).cast_mut(), Relaxed),
                None => lists.first = work,
            }
            lists.last = work;
        }
        pool.idle.wake_one();
    });
    true
}

impl Lists {
    fn take(&mut self) -> Option<&'static Work> {
        // SAFETY: as in `queue_work`.
        let work = unsafe { self.first.as_ref() }?;
        self.first = work.next.load(Relaxed);
        if self.first.is_null() {
            self.last = core::ptr::null();
        }
        Some(work)
    }
}

fn worker(cpu: usize) {
    let pool = &POOLS[cpu];
    loop {
        let job = pool.lists.lock().take();
        let Some(work) = job else {
            // Interruptibly, so that it does not count as blocked; nobody kills it.
            let has_work = || !pool.lists.lock().first.is_null();
            let _ = pool.idle.wait_interruptible(None, has_work);
            continue;
        };
        // From here on it may be asked for again.
        work.pending.store(false, Release);
        let (address, function) = (work.address(), work.function as usize as u64);
        events::workqueue_execute_start(address, function);
        (work.function)();
        events::workqueue_execute_end(address, function);
    }
}

/// Makes the worker of a CPU, which calls this when it starts.
///
/// # Errors
/// [`Error`]; the CPU has none then.
pub(super) fn start(cpu: usize) -> Result<(), Error> {
    let mut name = arrayvec::ArrayString::<15>::new();
    let _ = core::fmt::write(&mut name, format_args!("kworker/{cpu}:0"));
    let options = Options {
        allowed: 1 << cpu,
        essential: true,
        ..Options::default()
    };
    spawn_with(&name, options, move || worker(cpu)).map(drop)
}
