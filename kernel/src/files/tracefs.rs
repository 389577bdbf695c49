//! `/sys/kernel/tracing`: the trace library's files in the kernel's tree.

use crate::memory::Phys;
use crate::task;
use crate::tracing::tracer;
use alloc::vec::Vec;
use kernel::console::vfs::{DirEntry, FileSystem, FmtSink, FsError, Sink, Stat, Stop, WriteMode};
use trace::errno::Errno;
use trace::fs::{self, Next, Pipe, TraceFs};

/// The mounted tree.
pub static TRACEFS: Mounted = Mounted;

/// See [`TRACEFS`].
pub struct Mounted;

/// The tracer's files; without a tracer there are none.
fn files() -> Result<TraceFs<'static, Phys>, Errno> {
    tracer().map(TraceFs).ok_or(Errno::ENODEV)
}

fn stat(kind: fs::Kind, readable: bool, writable: bool) -> Stat {
    match kind {
        fs::Kind::Dir => Stat::dir(writable),
        fs::Kind::File => Stat::file(0, readable, writable),
    }
}

/// Hands on what the pipe gives, and sleeps where there is nothing yet, until it ends or the reader has had enough.
fn follow(mut pipe: Pipe<'_, Phys>, out: &mut dyn Sink) -> Result<(), FsError> {
    let mut piece = Vec::new();
    loop {
        // Asked before anything is used up.
        out.poll()?;
        piece.clear();
        match pipe.next(&mut piece)? {
            Next::Data => out.write(&piece)?,
            // Nobody wakes a reader: a writer, in whatever context, does not have to care. It looks at each tick.
            Next::Wait => {
                while !pipe.ready() && out.poll().is_ok() {
                    task::sleep_interruptible(1).map_err(|_| Stop::Interrupted)?;
                }
            }
            Next::End => return Ok(()),
        }
    }
}

impl FileSystem for Mounted {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        let entries = files()?.list(path)?;
        Ok(entries
            .into_iter()
            .map(|entry| DirEntry {
                stat: stat(entry.kind, true, entry.writable),
                name: entry.name,
            })
            .collect())
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        let (kind, readable, writable) = files()?.kind(path)?;
        Ok(stat(kind, readable, writable))
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        if let Some(pipe) = files()?.pipe(path)? {
            return follow(pipe, out);
        }
        let mut text = FmtSink::new(out);
        files()?.read(path, &mut text)?;
        Ok(text.finish()?)
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        Ok(files()?.write(path, data, mode == WriteMode::Truncate)?)
    }

    /// Only instances can be removed, and `rmdir` does it: `rm` has no file to remove.
    fn remove(&self, path: &str) -> Result<(), FsError> {
        match files()?.rmdir(path) {
            Err(Errno::ENOTDIR) if files()?.kind(path).is_ok() => Err(Errno::EPERM.into()),
            result => Ok(result?),
        }
    }

    fn mkdir(&self, path: &str) -> Result<(), FsError> {
        Ok(files()?.mkdir(path)?)
    }
}
