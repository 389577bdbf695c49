//! `/boot`: the files of the initrd. Where one is missing since its place in the archive cannot be read any more, or has a page that
//! has changed, that page is named: "no such file", or bytes that nobody wrote, would send the reader the wrong way.

use super::{damaged_page, initrd_extent};
use crate::handing;
use alloc::format;
use alloc::vec::Vec;
use kernel::console::genfs::RomFs;
use kernel::console::vfs::{DirEntry, FileSystem, FsError, Sink, Stat, WriteMode};
use trace::errno::Errno;

/// The files of the initrd, in place.
pub struct BootFiles(pub RomFs<'static>);

impl BootFiles {
    /// The bytes of a file in place, if there is one of that name.
    ///
    /// # Errors
    /// `EIO`, where a page of it has changed.
    pub fn bytes(&self, path: &str) -> Result<Option<&'static [u8]>, FsError> {
        let Some(bytes) = self.0.bytes(path) else {
            return Ok(None);
        };
        match damaged_page(bytes) {
            None => Ok(Some(bytes)),
            Some(page) => Err(FsError::new(
                Errno::EIO,
                format!(
                    "the memory {page} in which it lies has changed since it was sealed (a reboot brings the whole file)"
                ),
            )),
        }
    }
}

impl FileSystem for BootFiles {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        self.0.list(path)
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.0.stat(path)
    }

    fn why(&self, errno: Errno) -> FsError {
        let missing = match errno {
            Errno::ENOENT => missing(),
            _ => None,
        };
        missing.unwrap_or(errno.into())
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        self.bytes(path)?;
        self.0.read(path, out)
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        self.0.write(path, data, mode)
    }

    fn open(&self, path: &str, mode: WriteMode) -> Result<(), FsError> {
        self.0.open(path, mode)
    }
}

/// Why a file may be missing, if there is more to say than that it is.
fn missing() -> Option<FsError> {
    let page = handing::seals::damage_in(&initrd_extent().range()?)?;
    Some(FsError::new(
        Errno::EIO,
        format!(
            "it is not among the files that can be read: the initrd is damaged, its page {page} has changed since it was \
             sealed (a reboot brings the whole initrd)"
        ),
    ))
}
