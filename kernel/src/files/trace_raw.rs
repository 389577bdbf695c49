//! `per_cpu/cpuN/trace_pipe_raw`, as a process opens it: to be read, and to be mapped; and what reading `trace_pipe` has of the same.
//!
//! What it does is the trace library's (`trace::fs::raw`); here is what needs processes: who waits sleeps, what is read is copied to the
//! process, and a mapping ends when it has left the address space, be it by `munmap` or with its process.

use crate::memory::Phys;
use crate::task::{self, Mutex};
use crate::tracing::tracer;
use crate::user::copy::UserSlice;
use crate::user::file::{File, MapRequest, Mapping, SharedPages, lock};
use crate::user::process::interrupted;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use handover::mem::PAGE_SIZE;
use trace::errno::Errno;
use trace::fs::raw::{Access, RawFile};
use trace::fs::{Next, Pipe, TraceFs};

/// Where tracefs is mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/", "/sys/kernel/debug/tracing/"];
/// How long who waits for events sleeps before it looks again, in ns.
const NAP: u64 = 10_000_000;

/// An open `trace_pipe_raw`.
struct TraceRaw {
    path: String,
    /// For calls and mappings.
    file: RawFile<'static, Phys>,
    nonblock: bool,
    reading: Mutex<(RawFile<'static, Phys>, Piece)>,
}

/// What a reader was handed last, of which a part may have been copied to the process.
#[derive(Default)]
pub struct Piece {
    bytes: Vec<u8>,
    read: usize,
}

impl Piece {
    /// What is left of it, or what `next` has, for which a process waits if it may. Linux gives as much of one as was asked for, too.
    ///
    /// # Errors
    ///
    /// `EAGAIN`, `EINTR`, `EFAULT`; those of `next`.
    pub fn read(
        &mut self,
        mut next: impl FnMut(&mut Vec<u8>) -> Result<Next, Errno>,
        to: UserSlice,
        nonblock: bool,
    ) -> Result<usize, Errno> {
        if to.is_empty() {
            return Ok(0);
        }
        let Piece { bytes, read } = self;
        while *read == bytes.len() {
            bytes.clear();
            *read = 0;
            match next(bytes)? {
                Next::Data => {}
                Next::End => return Ok(0),
                Next::Wait if nonblock => return Err(Errno::EAGAIN),
                Next::Wait => nap()?,
            }
        }
        let len = to.len().min(bytes.len() - *read);
        to.copy_out(0, &bytes[*read..*read + len])?;
        *read += len;
        Ok(len)
    }
}

/// A reader for the file at `path`, if it is a `trace_pipe`: it knows what it has told already, and so is kept from one read to the
/// next.
pub fn pipe(path: &str) -> Option<Pipe<'static, Phys>> {
    let fs = TraceFs(tracer()?);
    fs.pipe(within(path)?).ok().flatten()
}

/// A path of tracefs, as that has it.
fn within(path: &str) -> Option<&str> {
    TRACEFS.iter().find_map(|at| path.strip_prefix(at))
}

/// Opens the file at `path`, if it is one of these; `nonblock` says that no call is to wait.
pub fn open(path: &str, nonblock: bool) -> Option<Arc<dyn File>> {
    let fs = TraceFs(tracer()?);
    let within = within(path)?;
    // What is wrong with another path is said by who opens that.
    let open = || fs.raw(within).ok().flatten();
    Some(Arc::new(TraceRaw {
        path: path.to_string(),
        file: open()?,
        nonblock,
        reading: Mutex::new((open()?, Piece::default())),
    }))
}

/// Sleeps a while.
///
/// # Errors
///
/// `EINTR` if the process is to end.
fn nap() -> Result<(), Errno> {
    match task::sleep_interruptible(NAP) {
        Ok(()) if !interrupted() => Ok(()),
        _ => Err(Errno::EINTR),
    }
}

impl File for TraceRaw {
    fn read(&self, to: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        let (file, piece) = &mut *lock(&self.reading, nonblock)?;
        piece.read(|bytes| file.next(bytes), to, nonblock)
    }

    fn ioctl(&self, cmd: u32, _arg: u64) -> Result<u64, Errno> {
        if !self.nonblock && self.file.waits(cmd) {
            while !self.file.ready() {
                nap()?;
            }
        }
        self.file.ioctl(cmd).map(|()| 0)
    }

    fn mmap(&self, request: &MapRequest) -> Result<Mapping, Errno> {
        let access = Access {
            write: request.write,
            exec: request.execute,
            shared: request.shared,
        };
        let len = request.pages.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
        let mapping = self.file.map(request.offset, len, access)?;
        let mut pages = Vec::new();
        pages
            .try_reserve_exact(mapping.pages().len())
            .map_err(|_| Errno::ENOMEM)?;
        pages.extend_from_slice(mapping.pages());
        Ok(Mapping {
            pages,
            write: false,
            object: Arc::new(RingPages {
                name: self.path.clone(),
                offset: request.offset,
                count: AtomicUsize::new(0),
                mapping: Mutex::new(Some(mapping)),
            }),
        })
    }
}

/// A part of a ring in an address space. The ring is mapped until it has left it.
struct RingPages {
    name: String,
    offset: u64,
    /// How often it is there.
    count: AtomicUsize,
    mapping: Mutex<Option<trace::fs::raw::Mapping<'static, Phys>>>,
}

impl SharedPages for RingPages {
    fn mapped(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    fn unmapped(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 {
            self.mapping.lock().take();
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn offset(&self) -> u64 {
        self.offset
    }
}
