//! Tasks: kernel threads and the frame in which user processes run. Preemptive, with a run queue for each CPU.
//!
//! | file | what |
//! | --- | --- |
//! | `record.rs` | what a task is |
//! | `table.rs` | all tasks, by slot and by pid; making one, and what is left of one that has ended |
//! | `stack.rs` | kernel stacks |
//! | `queue.rs` | the run queues: switching, waking, balancing |
//! | `switch.rs` | from one stack to another |
//! | `preempt.rs` | preemption off and on; what is done at the end of an interrupt; the tick |
//! | `softirq.rs` | soft interrupts: timers, balancing |
//! | `timer.rs` | kernel timers, sleep |
//! | `wait.rs`, `mutex.rs` | wait queues; a lock whose waiters sleep |
//! | `work.rs` | the work queue and its `kworker`s |
//! | `end.rs` | how tasks end: by themselves, killed, by a fault |
//! | `idle.rs` | what a CPU does that has nothing to do |
//! | `freeze.rs` | a kexec: all others stand still, then end |
//! | `stat.rs` | what `/proc` tells |
//!
//! What holds, and who may sleep where, is in docs/architecture.md ("Tasks, locks, preemption"). The decisions are
//! taken in the library, `kernel::sched`, which the host tests.

mod end;
mod freeze;
mod idle;
mod mutex;
mod preempt;
mod queue;
mod record;
mod softirq;
mod stack;
pub mod stat;
mod switch;
mod table;
mod timer;
mod wait;
mod work;

pub use end::{end_by_fault, exit, fault_ends_task, interrupt, kill, killed};
pub use freeze::{end_all_and_run, freeze, is_frozen, thaw};
pub use idle::idle_loop;
pub use mutex::{Mutex, MutexGuard};
pub use preempt::{on_interrupt_exit, tick, without_preemption};
pub use queue::{init, pin, yield_now};
pub use record::{Kind, ProcessHooks, Task, current, current_name, current_pid};
pub use stack::{guard_of, holds};
pub use table::{
    CONSOLE_PID, Error, Options, all, find, give_back_stacks, kept_stack_pages, spawn,
    spawn_process, spawn_with, write_name,
};
pub use timer::{Timer, jiffies, jiffies_after, sleep, sleep_interruptible};
pub use wait::{Interrupted, WaitQueue};
pub use work::{Work, queue_work};
