//! Files of the tree, as processes open them.
//!
//! The tree's file systems stream whole files (`kernel::console::vfs`). A file that a process reads is taken at its first read,
//! as Linux's `seq_file` takes one: what comes after is of one moment. `trace_pipe` and its like, which wait for more, are read
//! piece by piece. Writes go through one by one.

use super::copy::UserSlice;
use super::file::{File, lock};
use super::process::{OpenFile, interrupted};
use super::space;
use crate::files::{
    self,
    trace_raw::{self, Piece},
};
use crate::memory::Phys;
use crate::task::Mutex;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::console::vfs::{FsError, Kind, Mounts, Sink, Stop, WriteMode, normalize};
use kernel::layout::PAGE;
use kernel::ring3::abi::{O_ACCMODE, O_CREAT, O_NONBLOCK, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use kernel::ring3::areas::Bytes;
use trace::errno::Errno;
use trace::fs::Pipe;

/// The largest file that a process reads from outside of the initrd, in bytes. It is held in the kernel's memory.
const MAX_FILE: usize = 8 << 20;

/// Whether the kernel has this much memory for what a process has it do: it keeps its reserve for itself.
///
/// # Errors
/// `ENOMEM`.
pub fn enough_for(bytes: usize) -> Result<(), Errno> {
    match space::available_pages() < (bytes as u64).div_ceil(PAGE) {
        true => Err(Errno::ENOMEM),
        false => Ok(()),
    }
}

/// The bytes of a program's file: in place where it is in the initrd.
///
/// # Errors
/// [`FsError`].
pub fn program(path: &str) -> Result<Bytes, FsError> {
    let path = normalize("/", path)?;
    if let Some(bytes) = files::sound_boot_file(&path)? {
        return Ok(Bytes::Static(bytes));
    }
    whole(&path)
}

/// A file that is not in the initrd, read into the kernel's memory.
fn whole(path: &str) -> Result<Bytes, FsError> {
    let mut sink = Whole {
        bytes: Vec::new(),
        refused: None,
    };
    let result = files::mounts().read(path, &mut sink);
    match sink.refused {
        Some(errno) => Err(errno.into()),
        None => result.map(|()| Bytes::Shared(Arc::new(sink.bytes))),
    }
}

/// Opens a file of the tree for a process.
///
/// # Errors
/// `EINVAL` for flags that mean nothing here, else the file system's.
pub fn open(path: &str, flags: u64) -> Result<OpenFile, Errno> {
    let (read, write) = match flags & O_ACCMODE {
        O_RDONLY => (true, false),
        O_WRONLY => (false, true),
        O_RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    let path = normalize("/", path)?;
    let mounts = files::mounts();
    let file: Arc<dyn File> = match special(&path, read, write, flags & O_NONBLOCK != 0) {
        Some(file) => file?,
        None => {
            check(&mounts, &path, read, write, flags)?;
            Arc::new(Node::new(path))
        }
    };
    Ok(OpenFile {
        file,
        read,
        write,
        nonblock: flags & O_NONBLOCK != 0,
    })
}

/// Files that are more than a stream of bytes: those that can be mapped. `None`: it is no such file.
fn special(
    path: &str,
    read: bool,
    write: bool,
    nonblock: bool,
) -> Option<Result<Arc<dyn File>, Errno>> {
    let file = trace_raw::open(path, nonblock)?;
    // As for any other file that cannot be written.
    Some(match read && !write {
        true => Ok(file),
        false => Err(Errno::EACCES),
    })
}

/// Whether the file may be opened so; makes or truncates it where that is asked for.
fn check(
    mounts: &Mounts<'_>,
    path: &str,
    read: bool,
    write: bool,
    flags: u64,
) -> Result<(), Errno> {
    let stat = mounts.stat(path);
    match stat {
        Ok(stat) if stat.kind == Kind::Dir => return Err(Errno::EISDIR),
        Ok(stat) if read && !stat.readable => return Err(Errno::EACCES),
        Ok(_) => {}
        Err(error) if !write || flags & O_CREAT == 0 => return Err(error.errno()),
        Err(_) => {}
    }
    if write {
        let mode = if flags & O_TRUNC != 0 {
            WriteMode::Truncate
        } else {
            WriteMode::Append
        };
        mounts.open(path, mode).map_err(|e| e.errno())?;
        if mode == WriteMode::Truncate {
            mounts.write(path, b"", mode).map_err(|e| e.errno())?;
        }
    }
    Ok(())
}

/// A file of the tree.
struct Node {
    path: String,
    /// It is read piece by piece, and who reads it may wait for more.
    goes_on: bool,
    content: Mutex<Content>,
}

enum Content {
    /// Nobody has read it yet.
    Unread,
    /// What it had at the first read, and how much of that has been read.
    Taken(Bytes, usize),
    /// Of a file that goes on: its reader, and what of that has not been read yet.
    Pipe(Pipe<'static, Phys>, Piece),
}

impl Node {
    fn new(path: String) -> Self {
        let content = match trace_raw::pipe(&path) {
            Some(pipe) => Content::Pipe(pipe, Piece::default()),
            None => Content::Unread,
        };
        Node {
            path,
            goes_on: matches!(content, Content::Pipe(..)),
            content: Mutex::new(content),
        }
    }

    fn take(&self) -> Result<Bytes, Errno> {
        let in_place = files::sound_boot_file(&self.path).map_err(|error| error.errno())?;
        if let Some(bytes) = in_place {
            return Ok(Bytes::Static(bytes));
        }
        whole(&self.path).map_err(|error| error.errno())
    }
}

/// Takes a file as a whole, unless its reader is to end.
struct Whole {
    bytes: Vec<u8>,
    /// Why it takes no more.
    refused: Option<Errno>,
}

impl Whole {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let len = self.bytes.len() + bytes.len();
        if len > MAX_FILE {
            return Err(Errno::EFBIG);
        }
        if len > self.bytes.capacity() {
            // Twice as much each time: old and new room are there at once, while the bytes move.
            let room = len.max(2 * self.bytes.capacity()).min(MAX_FILE);
            enough_for(room)?;
            self.bytes
                .try_reserve_exact(room - self.bytes.len())
                .map_err(|_| Errno::ENOMEM)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink for Whole {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.poll()?;
        self.take(bytes).map_err(|errno| {
            self.refused = Some(errno);
            Stop::Enough
        })
    }

    fn poll(&self) -> Result<(), Stop> {
        if interrupted() {
            return Err(Stop::Interrupted);
        }
        Ok(())
    }
}

impl File for Node {
    fn read(&self, to: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        // Who reads what is there already keeps it for that long only.
        let mut content = lock(&self.content, nonblock && self.goes_on)?;
        match &mut *content {
            Content::Pipe(pipe, piece) => piece.read(|bytes| pipe.next(bytes), to, nonblock),
            Content::Unread => {
                let bytes = self.take()?;
                *content = Content::Taken(bytes, 0);
                drop(content);
                self.read(to, nonblock)
            }
            Content::Taken(bytes, at) => {
                let rest = &bytes.get()[*at..];
                let len = to.len().min(rest.len());
                to.copy_out(0, &rest[..len])?;
                *at += len;
                Ok(len)
            }
        }
    }

    fn write(&self, from: UserSlice, _nonblock: bool) -> Result<usize, Errno> {
        /// A longer write is done in part, as Linux may do it too.
        const MOST: usize = 64 * 1024;
        let len = from.len().min(MOST);
        // The copy here, and the file's own.
        enough_for(2 * len)?;
        let mut data = Vec::new();
        data.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        data.resize(len, 0);
        from.copy_in(0, &mut data)?;
        files::mounts()
            .write(&self.path, &data, WriteMode::Append)
            .map_err(|error| error.errno())?;
        Ok(len)
    }
}
