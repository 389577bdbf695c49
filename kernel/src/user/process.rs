//! A process's life: made of a program's file, run by a task, ended by itself or by others, waited for.
//!
//! A process has one task, whose pid is its own. It belongs to its parent until that has waited for it; an orphan falls to the
//! console, as to Linux's init, which waits for nobody: what is the console's is gone when it ends. The relations, and who has ended, change under the lock of [`ALL`].

mod spawn;

pub use spawn::{Parent, spawn};

use super::file::File;
use super::space::{InForce, UserPages};
use crate::events;
use crate::memory::IrqMutex;
use crate::task::{self, Interrupted, ProcessHooks, WaitQueue};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{
    AtomicI32, AtomicI64, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use kernel::ring3::abi::{exited, signal, signalled};
use kernel::ring3::space::{Access, Refused, Space};
use trace::errno::Errno;

/// The most processes, ended ones that nobody has waited for among them.
pub const MAX_PROCESSES: usize = 256;
/// The most open files of one process.
pub const MAX_FILES: usize = 64;

/// An open file in a process's table.
#[derive(Clone)]
pub struct OpenFile {
    pub file: Arc<dyn File>,
    /// Can be read.
    pub read: bool,
    /// Can be written.
    pub write: bool,
    /// `EAGAIN` instead of a wait.
    pub nonblock: bool,
}

/// A process.
pub struct Process {
    /// Its task's pid; 0 until that runs.
    pid: AtomicI32,
    /// The parent's pid. Changes under [`ALL`].
    parent: AtomicI32,
    /// The pid of the process that `run` started, which ctrl-c ends with all that came of it. 0: its own.
    group: i32,
    /// The program's path.
    path: String,
    args: Vec<Vec<u8>>,
    /// `None` once it has ended.
    space: task::Mutex<Option<Space<UserPages>>>,
    in_force: InForce,
    /// Where it starts: instruction and stack pointer.
    start: (u64, u64),
    files: task::Mutex<Vec<Option<OpenFile>>>,
    /// Why it is to end: a signal's number, 0 for none.
    signal: AtomicI32,
    /// What it has given to `exit`; [`NOT_YET`].
    exit: AtomicI64,
    /// How it has ended, as `wait4` tells; [`NOT_YET`]. Changes under [`ALL`].
    status: AtomicI64,
    /// Who waits for its end.
    end: WaitQueue,
    /// Where it waits for its children's.
    child_end: WaitQueue,
    /// Page faults of its own, and system calls.
    faults: AtomicU64,
    calls: AtomicU64,
    /// What is done at its end.
    on_end: IrqMutex<Option<OnEnd>>,
}

/// What somebody wants done at a process's end.
type OnEnd = Box<dyn FnOnce(&Process) + Send>;

/// No status yet.
const NOT_YET: i64 = -1;

/// All processes, the ended ones that are to be waited for among them. Locked inside of the tasks' table, and
/// not the other way round.
static ALL: IrqMutex<Vec<Arc<Process>>> = IrqMutex::new(Vec::new());

/// Makes room for all processes: the list does not grow under its lock.
pub fn init() {
    let mut all = Vec::with_capacity(MAX_PROCESSES);
    core::mem::swap(&mut *ALL.lock(), &mut all);
}

/// Works with the running process; `None` where a kernel thread runs.
pub fn with_current<R>(work: impl FnOnce(&Process) -> R) -> Option<R> {
    let task = task::current()?;
    let process = task.process()?.as_any().downcast_ref::<Process>()?;
    Some(work(process))
}

/// Whether the running process is to end: a call that waits gives up then.
pub fn interrupted() -> bool {
    with_current(ProcessHooks::ends).unwrap_or(false)
}

/// Takes a process out of the list; its memory goes outside of the lock.
fn forget(process: &Process) {
    let forgotten = {
        let mut all = ALL.lock();
        let at = all.iter().position(|p| core::ptr::eq(&**p, process));
        at.map(|at| all.swap_remove(at))
    };
    drop(forgotten);
}

/// The process with this pid, ended or not.
pub fn find(pid: i32) -> Option<Arc<Process>> {
    let all = ALL.lock();
    all.iter().find(|p| p.pid() == pid && pid != 0).cloned()
}

/// Whether a process has this pid, ended or not, or one is known by it to belong to its group: nobody else gets it then.
pub fn is_known_by(pid: i32) -> bool {
    let all = ALL.lock();
    all.iter().any(|p| p.pid() == pid || p.group() == pid)
}

/// Ends a process and all that came of it, as ctrl-c does.
pub fn end_group(leader: &Arc<Process>, signal: i32) {
    let pid = leader.pid();
    let mut members: Vec<Arc<Process>> = Vec::with_capacity(MAX_PROCESSES);
    {
        let all = ALL.lock();
        let alive = all.iter().filter(|p| p.status().is_none());
        members.extend(alive.filter(|p| p.group() == pid && pid != 0).cloned());
        for process in &members {
            process.set_signal(signal);
        }
    }
    for process in members {
        process.wake_to_end();
    }
}

/// Ends a process by a signal; 0 only asks whether it is there.
///
/// # Errors
/// `ESRCH`: there is no such process. `EPERM`: it is a kernel thread, which a process may not end.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    let Some(process) = find(pid).filter(|p| p.status().is_none()) else {
        return Err(match task::find(pid) {
            Some(_) => Errno::EPERM,
            None => Errno::ESRCH,
        });
    };
    if signal != 0 {
        process.set_signal(signal);
        process.wake_to_end();
    }
    Ok(())
}

impl Process {
    /// Its number; 0 before its task has run.
    pub fn pid(&self) -> i32 {
        self.pid.load(Acquire)
    }

    /// Its parent's number; the console's, where the kernel started it, or its parent has ended.
    pub fn parent(&self) -> i32 {
        self.parent.load(Relaxed)
    }

    fn group(&self) -> i32 {
        match self.group {
            0 => self.pid(),
            group => group,
        }
    }

    /// The arguments, the program's name first.
    pub fn args(&self) -> &[Vec<u8>] {
        &self.args
    }

    /// The program's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How it has ended, as `wait4` tells; `None`: not yet.
    pub fn status(&self) -> Option<i32> {
        let status = self.status.load(Acquire);
        (status != NOT_YET).then_some(status as i32)
    }

    /// `act` is called once when the process ends, by its own task, which may sleep; or now, where it has ended.
    pub fn on_end(&self, act: impl FnOnce(&Process) + Send + 'static) {
        *self.on_end.lock() = Some(Box::new(act));
        if self.status().is_some() {
            self.do_on_end();
        }
    }

    fn do_on_end(&self) {
        let act = self.on_end.lock().take();
        if let Some(act) = act {
            act(self);
        }
    }

    /// Page faults of user mode so far, and system calls.
    pub fn counts(&self) -> (u64, u64) {
        (self.faults.load(Relaxed), self.calls.load(Relaxed))
    }

    /// A page fault of user mode.
    pub(super) fn count_fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    /// A system call.
    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// Sleeps until it has ended, whatever comes.
    pub fn join(&self) {
        self.end.wait_until(|| self.status().is_some());
    }

    /// The same, until ctrl-c is typed for who waits, or that is to end.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn join_interruptible(&self) -> Result<(), Interrupted> {
        self.end
            .wait_interruptible(None, || self.status().is_some())
            .map(drop)
    }

    /// Its first steps, in its own task: instruction and stack pointer of its start.
    pub(super) fn begin(&self) -> (u64, u64) {
        self.pid.store(task::current_pid(), Release);
        events::sched_process_exec(&self.path, self.pid(), self.pid());
        self.start
    }

    /// Works with its address space; `None` once it has ended.
    pub fn with_space<R>(&self, work: impl FnOnce(&mut Space<UserPages>) -> R) -> Option<R> {
        self.space.lock().as_mut().map(work)
    }

    /// Brings a page in. See [`Space::fault`]. `was_there`: the CPU found a page, and refused the access.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn fault(&self, addr: u64, access: Access, was_there: bool) -> Result<(), Refused> {
        self.with_space(|space| match was_there && space.has_page(addr) {
            true => Err(Refused::Rights),
            false => space.fault(addr, access),
        })
        .unwrap_or(Err(Refused::NoArea))
    }

    /// Works with its open files.
    pub fn with_files<R>(&self, work: impl FnOnce(&mut Vec<Option<OpenFile>>) -> R) -> R {
        work(&mut self.files.lock())
    }

    /// The open file of this number.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file(&self, fd: u64) -> Result<OpenFile, Errno> {
        // Linux takes 32 bits of it.
        let fd = fd as u32 as usize;
        self.with_files(|files| files.get(fd).cloned().flatten())
            .ok_or(Errno::EBADF)
    }

    /// It is to end with this exit code, as soon as it leaves the kernel.
    pub fn set_exit(&self, code: i32) {
        self.exit.store(i64::from(exited(code)), SeqCst);
    }

    /// It is to end by this signal, as soon as it leaves the kernel; the first one counts.
    pub fn set_signal(&self, signal: i32) {
        let _ = self.signal.compare_exchange(0, signal, SeqCst, SeqCst);
    }

    /// Wakes it where it sleeps, so that it sees that it is to end.
    fn wake_to_end(&self) {
        // Not there any more: it has ended. Not there yet: it looks before it enters user mode.
        let _ = task::kill(self.pid());
    }

    /// Waits for the end of a child: of that one, or where `pid` is -1 of any. Its pid and status.
    ///
    /// # Errors
    /// `ECHILD`: there is no such child. `EINTR`: the caller is to end. `Ok(None)`: `nohang`, and none has ended.
    pub fn wait(&self, pid: i32, nohang: bool) -> Result<Option<(i32, i32)>, Errno> {
        let me = self.pid();
        let mut result = Err(Errno::ECHILD);
        let mut found = None;
        let look = || {
            let mut all = ALL.lock();
            let mut any = false;
            result = Err(Errno::ECHILD);
            for at in 0..all.len() {
                let child = &all[at];
                if child.parent() != me || (pid != -1 && child.pid() != pid) {
                    continue;
                }
                any = true;
                if let Some(status) = child.status() {
                    result = Ok(Some((child.pid(), status)));
                    found = Some(all.swap_remove(at));
                    return true;
                }
            }
            if any {
                result = Ok(None);
            }
            !any || nohang
        };
        let waited = self.child_end.wait_interruptible(None, look);
        drop(found);
        waited.map_err(|_| Errno::EINTR)?;
        result
    }

    /// Gives the address space back, and tells those whose pages it shared. Again: nothing.
    fn leave_space(&self) {
        let space = self.space.lock().take();
        if let Some(mut space) = space {
            let shared = space.take_shared();
            self.in_force.leave();
            drop(space);
            for object in shared {
                object.unmapped();
            }
        }
    }

    /// How it ends, if it is to.
    fn wanted_status(&self) -> Option<i32> {
        match (self.exit.load(SeqCst), self.signal.load(SeqCst)) {
            (NOT_YET, 0) => None,
            (NOT_YET, signal) => Some(signalled(signal)),
            (status, _) => Some(status as i32),
        }
    }
}

impl ProcessHooks for Process {
    fn activate(&self) {
        self.in_force.activate();
    }

    fn kill(&self) {
        self.set_signal(signal::KILL);
    }

    fn ends(&self) -> bool {
        self.wanted_status().is_some()
    }

    /// Called by its own task, which is about to end: all that the process has goes, children fall to the console, and the parent
    /// is told.
    fn ended(&self) {
        let files = core::mem::take(&mut *self.files.lock());
        drop(files);
        self.leave_space();
        // A task that ends without either has faulted in the kernel.
        let status = self.wanted_status().unwrap_or(signalled(signal::SEGV));
        let mut gone: Vec<Arc<Process>> = Vec::with_capacity(MAX_PROCESSES);
        let parent = {
            let mut all = ALL.lock();
            self.status.store(status.into(), Release);
            let me = self.pid();
            // What nobody waits for goes: children that have ended, and this process where it is the console's.
            let mut at = 0;
            while at < all.len() {
                let process = &all[at];
                let own = process.parent() == me && me != 0;
                if own {
                    process.parent.store(task::CONSOLE_PID, Relaxed);
                }
                let waited_for = !own || process.status().is_none();
                let the_consoles = self.parent() == task::CONSOLE_PID;
                if !waited_for || (the_consoles && core::ptr::eq(&**process, self)) {
                    gone.push(all.swap_remove(at));
                } else {
                    at += 1;
                }
            }
            let parent = self.parent();
            all.iter().find(|p| p.pid() == parent).cloned()
        };
        drop(gone);
        if let Some(parent) = parent {
            parent.child_end.wake_all();
        }
        self.end.wake_all();
        self.do_on_end();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Process {
    /// A process whose task was never made, or died in the kernel.
    fn drop(&mut self) {
        self.leave_space();
    }
}
