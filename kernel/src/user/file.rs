//! What an open file of a user process is.

use super::copy::UserSlice;
use crate::task::{Interrupted, Mutex, MutexGuard};
use alloc::sync::Arc;
use alloc::vec::Vec;
pub use kernel::ring3::areas::SharedPages;
use trace::errno::Errno;

/// A mapping that `mmap` asks a file for.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Where in the file it starts, in bytes: a multiple of the page size.
    pub offset: u64,
    /// Its length in pages, at least 1.
    pub pages: u64,
    /// The process may write there.
    pub write: bool,
    /// The process may execute there.
    pub execute: bool,
    /// `MAP_SHARED`; otherwise `MAP_PRIVATE`.
    pub shared: bool,
}

/// What a file answers to it: pages that stay where they are as long as `object` counts a mapping.
pub struct Mapping {
    /// Physical addresses of the pages in order, as many as were asked for.
    pub pages: Vec<u64>,
    /// Whether they are mapped writable. They are never executable.
    pub write: bool,
    /// Is told when the mapping is there, and when it has gone.
    pub object: Arc<dyn SharedPages>,
}

/// Takes a lock of a file's for a call: several processes may have the file, and one that waits in a call of its own keeps it.
///
/// # Errors
/// `EINTR`: the process is to end. `EAGAIN`: somebody else has it, and `nonblock` says that nobody waits.
pub fn lock<T>(of: &Mutex<T>, nonblock: bool) -> Result<MutexGuard<'_, T>, Errno> {
    match nonblock {
        true => of.try_lock().ok_or(Errno::EAGAIN),
        false => of.lock_interruptible().map_err(|Interrupted| Errno::EINTR),
    }
}

/// An open file: what a file descriptor of a process stands for. Several processes may have it (spawn hands 0, 1 and 2 on).
///
/// A call may sleep. None may hold a spinning lock or the lock of the process's address space while it copies from or to a
/// [`UserSlice`]: that may fault pages in. A call that waits ends with `EINTR` when [`super::process::interrupted`] says so.
/// Dropping the last reference closes the file.
pub trait File: Send + Sync {
    /// Reads up to `to.len()` bytes; 0 is the end. `nonblock`: `EAGAIN` instead of a wait.
    fn read(&self, to: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        let _ = (to, nonblock);
        Err(Errno::EBADF)
    }

    /// Writes up to `from.len()` bytes, and says how many.
    fn write(&self, from: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        let _ = (from, nonblock);
        Err(Errno::EBADF)
    }

    /// A call that only this kind of file knows. `cmd` is Linux's 32 bits, `arg` as the process gave it: an address in it
    /// is to be checked by [`UserSlice::new`]. The result must not be negative.
    fn ioctl(&self, cmd: u32, arg: u64) -> Result<u64, Errno> {
        let _ = (cmd, arg);
        Err(Errno::ENOTTY)
    }

    /// Maps pages of the file into the calling process. `object.mapped()` is called once for the mapping, after this and
    /// before the process sees it, and `object.unmapped()` when it has gone; should the mapping fail in between, neither is.
    fn mmap(&self, request: &MapRequest) -> Result<Mapping, Errno> {
        let _ = request;
        Err(Errno::ENODEV)
    }
}
