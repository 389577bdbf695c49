//! Scheduling without a machine: which task runs next, where one that wakes up goes, when a timer is due.
//!
//! Nothing here allocates after it was made, takes a lock or knows what a task is: tasks and timers are numbers
//! ([`Slot`]), and whoever calls holds the lock of the structure. The kernel's `task` modules put this to work.
//!
//! | module | what |
//! | --- | --- |
//! | [`list`] | doubly linked lists of slots, whose links lie elsewhere |
//! | [`pids`] | which number a new task gets |
//! | [`prio`] | priorities, time slices |
//! | [`queue`] | the tasks that wait for a CPU: the best one in constant time |
//! | [`place`] | which CPU a task goes to; what an idle or a less busy CPU takes over |
//! | [`state`] | sleeping and being woken, without a lost wake-up |
//! | [`wheel`] | timers |

pub mod list;
pub mod pids;
pub mod place;
pub mod prio;
pub mod queue;
pub mod state;
pub mod wheel;

/// A task or a timer, as its index in the table it stands in.
pub type Slot = u16;

/// No slot.
pub const NONE: Slot = Slot::MAX;
