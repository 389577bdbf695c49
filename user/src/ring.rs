//! The trace ring of a CPU, mapped: the meta-page and all sub-buffers, by `trace_pipe_raw`.

use crate::abi::{MAP_SHARED, O_RDONLY, PAGE_BYTES, PROT_READ};
use crate::{Error, sys};
use alloc::format;
use core::sync::atomic::{AtomicU32, AtomicU64};
use trace::errno::Errno;
use trace::mapped::{MappedError, MappedReader};
use trace::meta::{GET_READER, Meta, REFRESH_META};

/// Where tracefs is.
pub const TRACING: &str = "/sys/kernel/tracing";

/// Some pages of a file, mapped to be read, as others write to them.
pub struct Pages {
    at: *mut u8,
    bytes: usize,
}

impl Pages {
    /// `bytes` bytes from `offset` on.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn map(fd: i32, offset: u64, bytes: usize) -> Result<Self, Error> {
        let at = sys::mmap(bytes, PROT_READ, MAP_SHARED, fd, offset)?;
        Ok(Pages { at, bytes })
    }

    /// As words of 8 bytes.
    pub fn long_words(&self) -> &[AtomicU64] {
        // SAFETY: mapped for reading as long as `self` lives, from a page's boundary on; the kernel may write to it at any time, which
        // loads of atomics bear, and nobody here does anything but load.
        unsafe { core::slice::from_raw_parts(self.at.cast::<AtomicU64>(), self.bytes / 8) }
    }

    /// As words of 4 bytes.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(self.at.cast::<AtomicU32>(), self.bytes / 4) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: what was lent of it has ended. It was mapped as a whole, and can fail only where it is not there.
        let _ = unsafe { sys::munmap(self.at, self.bytes) };
    }
}

/// An open `trace_pipe_raw`.
pub struct RawPipe(i32);

impl RawPipe {
    /// That of `cpu`, with flags such as [`O_NONBLOCK`](crate::abi::O_NONBLOCK).
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(cpu: u32, flags: u64) -> Result<Self, Error> {
        let path = format!("{TRACING}/per_cpu/cpu{cpu}/trace_pipe_raw");
        sys::open(&path, O_RDONLY | flags).map(RawPipe)
    }

    /// Its file descriptor.
    pub fn fd(&self) -> i32 {
        self.0
    }

    /// Shows the next events: what has come to the reader page, or another page.
    ///
    /// # Errors
    /// `ENODEV` where it is not mapped, `EINTR`.
    pub fn get_reader(&self) -> Result<(), Error> {
        self.call(GET_READER)
    }

    /// Brings the meta-page up to date.
    ///
    /// # Errors
    /// `ENODEV` where it is not mapped.
    pub fn refresh_meta(&self) -> Result<(), Error> {
        self.call(REFRESH_META)
    }

    fn call(&self, command: u32) -> Result<(), Error> {
        // SAFETY: these calls have no argument. They change what the mapped pages hold, which are read by atomics only.
        unsafe { sys::ioctl(self.0, command, 0) }.map(drop)
    }
}

impl Drop for RawPipe {
    fn drop(&mut self) {
        // It was open.
        let _ = sys::close(self.0);
    }
}

/// A CPU's ring, mapped as a whole.
pub struct Ring {
    meta: Pages,
    data: Pages,
    /// Last, so that it is closed when nothing of it is mapped any more.
    pipe: RawPipe,
}

impl Ring {
    /// That of `cpu`: first the meta-page, then, since that tells how many, all sub-buffers.
    ///
    /// # Errors
    /// Those of `open` and `mmap`: `EBUSY` where a snapshot may be taken at any time.
    pub fn map(cpu: u32, flags: u64) -> Result<Self, Error> {
        let pipe = RawPipe::open(cpu, flags)?;
        let meta = Pages::map(pipe.fd(), 0, PAGE_BYTES as usize)?;
        let now = Meta::load(meta.long_words()).ok_or(Errno::EINVAL)?;
        let bytes = now.subbuf_size as usize * now.nr_subbufs as usize;
        let data = Pages::map(pipe.fd(), u64::from(now.meta_page_size), bytes)?;
        Ok(Ring { meta, data, pipe })
    }

    /// Its file.
    pub fn pipe(&self) -> &RawPipe {
        &self.pipe
    }

    /// A reader of its events, from what was not read by now.
    ///
    /// # Errors
    /// [`MappedError`].
    pub fn reader(&self) -> Result<MappedReader<'_, &[AtomicU32]>, MappedError> {
        MappedReader::new(self.meta.long_words(), self.data.words())
    }
}
