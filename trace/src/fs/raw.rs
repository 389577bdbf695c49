//! `trace_pipe_raw` as an open file: to be read, mapped, and asked for its next page.
//!
//! Linux's `tracing_buffers_mmap` and `tracing_buffers_ioctl` (`kernel/trace/trace.c`). Where Baton differs: who asks for a page of a buffer that
//! nobody has mapped is answered `ENODEV` at once (Linux waits for events first), and a mapping that could be written to is answered `EPERM`
//! also where the file was opened for reading only (Linux: `EACCES`).

use super::node::Held;
use super::pipe::{Next, Pipe};
use crate::errno::Errno;
use crate::meta;
use crate::platform::Platform;
use crate::ring::CpuBuffer;
use crate::tracer::{Instance, Tracer};
use alloc::vec::Vec;
use handover::mem::PAGE_SIZE;

/// How somebody wants to map a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// To write to it.
    pub write: bool,
    /// To execute it.
    pub exec: bool,
    /// Whether he wants to see what others write, and not a copy of his own.
    pub shared: bool,
}

/// `trace_pipe_raw` of one CPU, opened.
pub struct RawFile<'t, P: Platform> {
    pipe: Pipe<'t, P>,
    instance: Held<'t, P>,
    cpu: usize,
}

impl<'t, P: Platform> RawFile<'t, P> {
    pub(super) fn new(tracer: &'t Tracer<P>, instance: Held<'t, P>, cpu: usize) -> Self {
        RawFile {
            pipe: Pipe::raw(tracer, instance.clone(), cpu),
            instance,
            cpu,
        }
    }

    fn buffer(&self) -> Result<&CpuBuffer<P>, Errno> {
        self.instance.buffer(self.cpu).ok_or(Errno::ENODEV)
    }

    /// Appends the next sub-buffer to `out`, a copy: see [`Pipe::next`]. It is used up for who has the buffer mapped, too.
    ///
    /// # Errors
    ///
    /// Those of [`Pipe::next`].
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<Next, Errno> {
        self.pipe.next(out)
    }

    /// Whether there is something to read, or, for [`ioctl`](Self::ioctl), to be shown; or nothing to wait for.
    pub fn ready(&self) -> bool {
        self.pipe.ready()
    }

    /// Whether the call `command` waits, in a file that may wait, until the file is [`ready`](Self::ready).
    pub fn waits(&self, command: u32) -> bool {
        command == meta::GET_READER && self.instance.mapped(self.cpu)
    }

    /// The calls of [`crate::meta`]; and 0, which in Linux wakes all who wait, and does nothing here. Does not wait.
    ///
    /// # Errors
    ///
    /// `ENODEV` if nobody has the buffer mapped, `ENOTTY` for another call.
    pub fn ioctl(&self, command: u32) -> Result<(), Errno> {
        match command {
            meta::GET_READER => Ok(self.buffer()?.get_reader()?),
            meta::REFRESH_META => Ok(self.buffer()?.refresh_meta()?),
            0 => Ok(()),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// Maps `len` bytes from `offset` on; `len` is rounded up to whole pages of 4 KiB. What is where: [`crate::meta`].
    ///
    /// # Errors
    ///
    /// `EBUSY` while a trigger may take a snapshot, `EPERM` unless it is shared, and only read; `EINVAL` for an offset that is no
    /// sub-buffer's, and beyond the end; `ENOMEM`.
    pub fn map(&self, offset: u64, len: u64, access: Access) -> Result<Mapping<'t, P>, Errno> {
        if access.write || access.exec || !access.shared {
            return Err(Errno::EPERM);
        }
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let pages = len.div_ceil(PAGE_SIZE);
        let pages = self.instance.map(self.cpu, offset / PAGE_SIZE, pages)?;
        Ok(Mapping {
            instance: self.instance.clone(),
            cpu: self.cpu,
            pages,
        })
    }
}

/// A part of a buffer that somebody has mapped. It ends when this is dropped: the pages must have left the address space by then. It keeps the
/// instance, whether the file is still open or not.
pub struct Mapping<'t, P: Platform> {
    instance: Held<'t, P>,
    cpu: usize,
    pages: Vec<u64>,
}

impl<P: Platform> Mapping<'_, P> {
    /// The physical addresses of its pages, in order. They are to be read only, and not to be executed.
    pub fn pages(&self) -> &[u64] {
        &self.pages
    }
}

impl<P: Platform> Drop for Mapping<'_, P> {
    fn drop(&mut self) {
        if let Some(buffer) = self.instance.buffer(self.cpu) {
            buffer.unmap();
        }
    }
}

impl<P: Platform> Instance<P> {
    fn mapped(&self, cpu: usize) -> bool {
        self.buffer(cpu).is_some_and(|buffer| buffer.mapped() > 0)
    }
}

impl<P: Platform> core::fmt::Debug for RawFile<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RawFile")
            .field("instance", &*self.instance)
            .field("cpu", &self.cpu)
            .finish_non_exhaustive()
    }
}

impl<P: Platform> core::fmt::Debug for Mapping<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mapping")
            .field("instance", &*self.instance)
            .field("cpu", &self.cpu)
            .field("pages", &self.pages.len())
            .finish()
    }
}
