//! `/proc/<pid>`: what the kernel knows of each task. The rest of `/proc` is fixed (`proc.rs`).

use super::proc;
use crate::task::{self, Task};
use crate::user::process::{self, Process};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::console::genfs::GenFs;
use kernel::console::vfs::{DirEntry, FileSystem, FmtSink, FsError, Sink, Stat, WriteMode, below};
use kernel::ring3::areas::Backing;
use trace::errno::Errno;

/// `/proc`.
pub static PROC: Proc = Proc {
    fixed: GenFs::new(proc::FILES),
};

/// See [`PROC`].
pub struct Proc {
    fixed: GenFs,
}

/// Prints one of the files of a task.
type Show = fn(&Entry, &mut dyn core::fmt::Write) -> core::fmt::Result;

/// The files of each task.
const FILES: [(&str, Show); 3] = [("cmdline", cmdline), ("maps", maps), ("status", status)];

/// What has a pid: a task, or a process that has ended and is to be waited for.
struct Entry {
    pid: i32,
    task: Option<Arc<Task>>,
    process: Option<Arc<Process>>,
}

impl Entry {
    fn find(pid: i32) -> Option<Entry> {
        let entry = Entry {
            pid,
            task: task::find(pid),
            process: process::find(pid),
        };
        (entry.task.is_some() || entry.process.is_some()).then_some(entry)
    }

    fn name(&self) -> &str {
        match (&self.task, &self.process) {
            (Some(task), _) => task.comm(),
            (None, Some(process)) => process.path().rsplit('/').next().unwrap_or_default(),
            (None, None) => "",
        }
    }
}

/// The arguments, each with a zero byte behind it; nothing for kernel threads, as in Linux.
fn cmdline(entry: &Entry, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    for arg in entry.process.iter().flat_map(|process| process.args()) {
        write!(out, "{}\0", String::from_utf8_lossy(arg))?;
    }
    Ok(())
}

/// The areas, in Linux's layout: range, rights, private or shared, offset, device, inode, name.
fn maps(entry: &Entry, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    let Some(process) = &entry.process else {
        return Ok(());
    };
    // Not written out under the space's lock.
    let areas = process.with_space(|space| space.areas().cloned().collect::<Vec<_>>());
    for area in areas.unwrap_or_default() {
        let (kind, offset, name) = match &area.backing {
            Backing::Zero => ('p', 0, area.name),
            Backing::File { at, part, .. } => (
                'p',
                (part.start as u64).saturating_sub(at - area.start),
                process.path(),
            ),
            Backing::Shared(object) => ('s', 0, object.name()),
        };
        let line = format!(
            "{:08x}-{:08x} {}{kind} {offset:08x} 00:00 0",
            area.start, area.end, area.rights
        );
        match name {
            "" => writeln!(out, "{line}")?,
            // Linux pads so that names stand in one column.
            name => writeln!(out, "{line:<73}{name}")?,
        }
    }
    Ok(())
}

/// Linux's `status`, as far as there is something to tell.
fn status(entry: &Entry, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    let letter = match &entry.task {
        Some(task) if !task.has_ended() => task.letter(),
        _ => 'Z',
    };
    let state = match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'Z' => "zombie",
        _ => "dead",
    };
    let parent = match (&entry.process, &entry.task) {
        (Some(process), _) => process.parent(),
        (None, Some(task)) => task.parent,
        (None, None) => 0,
    };
    write!(
        out,
        "Name:\t{}\nState:\t{letter} ({state})\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{parent}\n",
        entry.name(),
        pid = entry.pid,
    )?;
    if let Some(process) = &entry.process {
        let open = process.with_files(|files| files.iter().flatten().count());
        writeln!(out, "FDSize:\t{open}")?;
        if let Some((size, resident, tables)) = process.with_space(|space| space.sizes_kib()) {
            write!(
                out,
                "VmSize:\t{size:8} kB\nVmRSS:\t{resident:8} kB\nVmPTE:\t{tables:8} kB\n"
            )?;
        }
    }
    if let Some(task) = &entry.task {
        let (voluntary, involuntary) = task.switches();
        write!(
            out,
            "Cpu:\t{}\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n",
            task.cpu()
        )?;
    }
    Ok(())
}

/// What a path under `/proc` is about.
enum Place {
    /// None of ours.
    Fixed,
    /// A task's directory.
    Dir(Entry),
    /// A file in it.
    File(Entry, Show),
}

/// # Errors
/// `ENOENT`, `ENOTDIR`, for what has the form of a task's.
fn place(path: &str) -> Result<Place, Errno> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if first.is_empty() || !first.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Place::Fixed);
    }
    // As Linux has it: no leading zeroes.
    let pid = first.parse().map_err(|_| Errno::ENOENT)?;
    let entry = Entry::find(pid).filter(|_| !first.starts_with('0')).ok_or(Errno::ENOENT)?;
    if rest.is_empty() {
        return Ok(Place::Dir(entry));
    }
    for (name, show) in FILES {
        match below(rest, name) {
            Some("") => return Ok(Place::File(entry, show)),
            Some(_) => return Err(Errno::ENOTDIR),
            None => {}
        }
    }
    Err(Errno::ENOENT)
}

impl FileSystem for Proc {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        match place(path)? {
            Place::Fixed => {}
            Place::Dir(_) => {
                return Ok(FILES
                    .iter()
                    .map(|(name, _)| DirEntry {
                        name: name.to_string(),
                        stat: Stat::file(0, true, false),
                    })
                    .collect());
            }
            Place::File(..) => return Err(Errno::ENOTDIR),
        }
        let mut entries = self.fixed.list(path)?;
        if path.is_empty() {
            let tasks = task::all();
            let mut pids: Vec<i32> = tasks.iter().map(|task| task.pid).collect();
            pids.extend(process::pids());
            pids.sort_unstable();
            pids.dedup();
            entries.extend(pids.into_iter().filter(|pid| *pid > 0).map(|pid| DirEntry {
                name: pid.to_string(),
                stat: Stat::dir(false),
            }));
        }
        Ok(entries)
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        match place(path)? {
            Place::Fixed => self.fixed.stat(path),
            Place::Dir(_) => Ok(Stat::dir(false)),
            Place::File(..) => Ok(Stat::file(0, true, false)),
        }
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        match place(path)? {
            Place::Fixed => self.fixed.read(path, out),
            Place::Dir(_) => Err(Errno::EISDIR.into()),
            Place::File(entry, show) => {
                let mut text = FmtSink::new(out);
                // What fails is the sink, and says so below.
                let _ = show(&entry, &mut text);
                Ok(text.finish()?)
            }
        }
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        match place(path)? {
            Place::Fixed => self.fixed.write(path, data, mode),
            _ => Err(Errno::EACCES.into()),
        }
    }
}
