//! Making a process of a program's file.

use super::super::space::{self, InForce, UserPages};
use super::super::{entry, open};
use super::{ALL, MAX_PROCESSES, NOT_YET, OpenFile, Process, forget};
use crate::memory::IrqMutex;
use crate::task::{self, ProcessHooks, Task, WaitQueue};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Release};
use kernel::ring3::program::{Program, ProgramError};
use kernel::ring3::space::{Refused, Space, SpaceError};
use kernel::ring3::stack;
use trace::errno::Errno;

/// Pages beside those of its space that a process takes: kernel stack, page tables, heap.
const PAGES_BESIDE: u64 = 48;

/// Why a process was not made.
#[derive(Debug)]
pub enum SpawnError {
    /// The file cannot be read.
    File(kernel::console::vfs::FsError),
    /// It is no program.
    Program(ProgramError),
    /// Too many arguments.
    Arguments,
    /// Too many processes.
    TooMany,
    /// No memory.
    NoMemory,
    /// Who wants it is to end itself.
    Ending,
}

impl SpawnError {
    /// What a system call answers.
    pub fn errno(&self) -> Errno {
        match self {
            SpawnError::File(error) => error.errno(),
            SpawnError::Program(_) => Errno::ENOEXEC,
            SpawnError::Arguments => Errno::E2BIG,
            SpawnError::TooMany => Errno::EAGAIN,
            SpawnError::NoMemory => Errno::ENOMEM,
            SpawnError::Ending => Errno::EINTR,
        }
    }
}

/// A clause that follows the program's path and a colon.
impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::File(error) => write!(f, "{error}"),
            SpawnError::Program(error) => write!(f, "{error}"),
            SpawnError::Arguments => write!(
                f,
                "more arguments than {} or {} bytes, or one with a zero byte in it",
                kernel::ring3::abi::MAX_ARGS,
                kernel::ring3::abi::MAX_ARG_BYTES
            ),
            SpawnError::TooMany => write!(
                f,
                "there are as many processes or tasks as there can be ({MAX_PROCESSES} processes)"
            ),
            SpawnError::NoMemory => f.write_str("there is no memory for another process"),
            SpawnError::Ending => f.write_str("interrupted"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl From<SpaceError> for SpawnError {
    /// A parsed program on an empty space fails for memory alone.
    fn from(_: SpaceError) -> Self {
        SpawnError::NoMemory
    }
}

/// Who starts a process.
#[derive(Clone, Copy)]
pub enum Parent<'a> {
    /// The kernel, in the console's name: nobody waits by `wait4`.
    Kernel,
    /// A process.
    Process(&'a Process),
}

/// Starts a program. `files` are its files 0, 1 and 2.
///
/// # Errors
/// [`SpawnError`]; nothing has been made then.
pub fn spawn(
    parent: Parent<'_>,
    path: &str,
    args: &[&[u8]],
    files: Vec<Option<OpenFile>>,
) -> Result<(Arc<Process>, Arc<Task>), SpawnError> {
    // Who comes when all places are taken is not to cost a whole address space first. It is asked again below.
    if ALL.lock().len() >= MAX_PROCESSES {
        return Err(SpawnError::TooMany);
    }
    let bytes = open::program(path).map_err(SpawnError::File)?;
    let program = Program::parse(bytes.get()).map_err(SpawnError::Program)?;
    let (stack, rsp) = stack::initial(args).ok_or(SpawnError::Arguments)?;
    if space::available_pages() < PAGES_BESIDE {
        return Err(SpawnError::NoMemory);
    }
    let mut space = Space::new(UserPages, &space::kernel_half())?;
    space.load(&program, &bytes)?;
    space
        .write(rsp, &stack)
        .map_err(|_: Refused| SpawnError::NoMemory)?;
    let (parent_pid, group) = match parent {
        Parent::Kernel => (task::CONSOLE_PID, 0),
        Parent::Process(parent) => (parent.pid(), parent.group()),
    };
    let process = Arc::new(Process {
        pid: AtomicI32::new(0),
        parent: AtomicI32::new(parent_pid),
        group,
        path: path.to_string(),
        args: args.iter().map(|arg| arg.to_vec()).collect(),
        in_force: InForce::new(space.root()),
        space: task::Mutex::new(Some(space)),
        start: (program.entry, rsp),
        files: task::Mutex::new(files),
        signal: AtomicI32::new(0),
        exit: AtomicI64::new(NOT_YET),
        status: AtomicI64::new(NOT_YET),
        end: WaitQueue::new(),
        child_end: WaitQueue::new(),
        faults: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        on_end: IrqMutex::new(None),
    });
    {
        let mut all = ALL.lock();
        if all.len() >= MAX_PROCESSES {
            return Err(SpawnError::TooMany);
        }
        // Who ends a group looks at all of it under this lock: a parent that is to end has no more children.
        if let Parent::Process(parent) = parent
            && parent.ends()
        {
            return Err(SpawnError::Ending);
        }
        all.push(process.clone());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    // As in Linux, a child runs where its parent may.
    let allowed = match (parent, task::current()) {
        (Parent::Process(_), Some(task)) => task.allowed(),
        _ => u64::MAX,
    };
    match task::spawn_process(name, process.clone(), allowed, entry::start) {
        Ok(task) => {
            // The task may have run and done the same already, or ended.
            process.pid.store(task.pid, Release);
            Ok((process, task))
        }
        Err(error) => {
            forget(&process);
            Err(match error {
                task::Error::NoMemory => SpawnError::NoMemory,
                task::Error::TooMany => SpawnError::TooMany,
            })
        }
    }
}
