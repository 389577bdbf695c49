//! `/tmp` for more than one task at a time.

use crate::task::Mutex;
use alloc::vec::Vec;
use kernel::console::tmpfs::{TmpFs, read_in_pieces};
use kernel::console::vfs::{DirEntry, FileSystem, FsError, Sink, Stat, WriteMode};
use trace::errno::Errno;

/// The tree, under a lock that is held for one step at a time; a step that frees a large file is a long one. A reader takes a piece at a time, and a file that is written
/// to meanwhile is of more than one moment, as on Linux.
pub struct Shared(Mutex<TmpFs>);

impl Shared {
    pub const fn new(tree: TmpFs) -> Self {
        Shared(Mutex::new(tree))
    }
}

impl FileSystem for Shared {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        self.0.lock().list(path)
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.0.lock().stat(path)
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        read_in_pieces(path, out, |path, at, piece| {
            self.0.lock().read_at(path, at, piece)
        })
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        self.0.lock().write(path, data, mode)
    }

    fn open(&self, path: &str, mode: WriteMode) -> Result<(), FsError> {
        self.0.lock().open(path, mode)
    }

    fn remove(&self, path: &str) -> Result<(), FsError> {
        self.0.lock().remove(path)
    }

    fn mkdir(&self, path: &str) -> Result<(), FsError> {
        self.0.lock().mkdir(path)
    }
}
