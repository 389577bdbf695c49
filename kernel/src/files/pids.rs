//! `/proc`: the kernel's own files, and a directory for each task.

use super::processes;
use crate::machine::clock;
use crate::task::{self, Kind, Task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::console::genfs::GenFs;
use kernel::console::vfs::{DirEntry, FileSystem, FsError, Sink, Stat, WriteMode};
use trace::errno::Errno;

/// `/proc`.
pub struct ProcFs {
    own: GenFs,
}

/// A file of each task.
struct TaskFile {
    name: &'static str,
    read: fn(&Task) -> String,
}

const TASK_FILES: &[TaskFile] = &[
    TaskFile {
        name: "cmdline",
        read: |task| processes::cmdline(task.pid),
    },
    TaskFile {
        name: "comm",
        read: |task| format!("{}\n", task.comm()),
    },
    TaskFile {
        name: "maps",
        read: |task| processes::maps(task.pid),
    },
    TaskFile {
        name: "status",
        read: status,
    },
];

fn status(task: &Task) -> String {
    let (voluntary, involuntary) = task.switches();
    let state = match task.letter() {
        'R' => "R (running)",
        'S' => "S (sleeping)",
        'D' => "D (disk sleep)",
        _ => "X (dead)",
    };
    let mut text = format!(
        "Name:\t{}\nState:\t{state}\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{}\nKthread:\t{}\nPriority:\t{}\nCpu:\t{}\n\
         CpuTime:\t{} us\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n",
        task.comm(),
        processes::parent(task),
        u8::from(task.kind != Kind::Process),
        task.prio(),
        task.cpu(),
        clock::nanos_at(task.cycles()) / 1000,
        pid = task.pid,
    );
    text.push_str(&processes::status(task.pid));
    text
}

/// What a path below `/proc` leads to.
enum Place {
    Own,
    Task,
    File(&'static TaskFile, Arc<Task>),
}

impl ProcFs {
    pub const fn new(own: GenFs) -> Self {
        ProcFs { own }
    }

    fn find(&self, path: &str) -> Result<Place, Errno> {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let Some(pid) = pid_of(first) else {
            return Ok(Place::Own);
        };
        let task = task::find(pid).ok_or(Errno::ENOENT)?;
        if rest.is_empty() {
            return Ok(Place::Task);
        }
        let file = TASK_FILES.iter().find(|file| file.name == rest);
        Ok(Place::File(file.ok_or(Errno::ENOENT)?, task))
    }
}

/// A pid as a directory's name: no sign, no leading zero.
fn pid_of(name: &str) -> Option<i32> {
    let pid: i32 = name.parse().ok()?;
    (pid > 0 && pid.to_string() == name).then_some(pid)
}

impl FileSystem for ProcFs {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        match self.find(path)? {
            Place::Own => {
                let mut entries = self.own.list(path)?;
                if path.is_empty() {
                    let tasks = task::all();
                    entries.extend(tasks.iter().filter(|task| !task.is_idle()).map(|task| {
                        DirEntry {
                            name: task.pid.to_string(),
                            stat: Stat::dir(false),
                        }
                    }));
                }
                Ok(entries)
            }
            Place::Task => Ok(TASK_FILES
                .iter()
                .map(|file| DirEntry {
                    name: file.name.into(),
                    stat: Stat::file(0, true, false),
                })
                .collect()),
            Place::File(..) => Err(Errno::ENOTDIR),
        }
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        match self.find(path)? {
            Place::Own => self.own.stat(path),
            Place::Task => Ok(Stat::dir(false)),
            Place::File(..) => Ok(Stat::file(0, true, false)),
        }
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        match self.find(path)? {
            Place::Own => self.own.read(path, out),
            Place::Task => Err(Errno::EISDIR.into()),
            Place::File(file, task) => Ok(out.write((file.read)(&task).as_bytes())?),
        }
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        match self.find(path)? {
            Place::Own => self.own.write(path, data, mode),
            _ => Err(Errno::EACCES.into()),
        }
    }
}
