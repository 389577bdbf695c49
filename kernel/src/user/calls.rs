//! What the system calls do. `kernel::ring3::abi` says what they are.
//!
//! Every argument is a number until it has been checked: addresses by [`UserSlice`], file numbers by the process's table,
//! lengths and flags here.

use super::copy::{UserSlice, read_user, write_user};
use super::file::MapRequest;
use super::process::{self, MAX_FILES, OpenFile, Parent, Process, with_current};
use super::{open, space};
use crate::machine::{clock, cpu};
use crate::task;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::console::vfs::MAX_PATH_BYTES;
use kernel::ring3::abi::*;
use kernel::ring3::areas::{AreaError, Rights};
use kernel::ring3::space::SpaceError;
use trace::errno::Errno;

/// Does a call.
pub fn call(number: u64, args: [u64; 6]) -> Result<u64, Errno> {
    with_current(|process| dispatch(process, number, args)).unwrap_or(Err(Errno::ENOSYS))
}

fn dispatch(process: &Process, number: u64, args: [u64; 6]) -> Result<u64, Errno> {
    process.count_call();
    let [a, b, c, d, e, f] = args;
    match number {
        READ => read(process, a, b, c),
        WRITE => write(process, a, b, c),
        OPEN => open_file(process, a, b),
        CLOSE => close(process, a),
        MMAP => mmap(process, b, c, d, e, f),
        MUNMAP => munmap(process, a, b),
        IOCTL => process.file(a)?.file.ioctl(b as u32, c),
        SCHED_YIELD => {
            task::yield_now();
            Ok(0)
        }
        NANOSLEEP => nanosleep(a),
        GETPID => Ok(process.pid() as u64),
        GETPPID => Ok(process.parent() as u64),
        EXIT => {
            process.set_exit(a as i32);
            Ok(0)
        }
        WAIT4 => wait4(process, a, b, c, d),
        KILL => kill(a, b),
        SCHED_SETAFFINITY => sched_setaffinity(process, a, b, c),
        SCHED_GETAFFINITY => sched_getaffinity(process, a, b, c),
        CLOCK_GETTIME => clock_gettime(a, b),
        SPAWN => spawn(process, a, b, c),
        _ => Err(Errno::ENOSYS),
    }
}

fn read(process: &Process, fd: u64, addr: u64, len: u64) -> Result<u64, Errno> {
    let open = process.file(fd)?;
    if !open.read {
        return Err(Errno::EBADF);
    }
    let to = UserSlice::new(addr, len)?;
    open.file.read(to, open.nonblock).map(|n| n as u64)
}

fn write(process: &Process, fd: u64, addr: u64, len: u64) -> Result<u64, Errno> {
    let open = process.file(fd)?;
    if !open.write {
        return Err(Errno::EBADF);
    }
    let from = UserSlice::new(addr, len)?;
    open.file.write(from, open.nonblock).map(|n| n as u64)
}

/// A path that a process gave: text that ends in a zero byte.
fn path_at(addr: u64) -> Result<alloc::string::String, Errno> {
    const PIECE: usize = 64;
    let mut bytes = Vec::new();
    loop {
        // Piece by piece, none of which crosses a page: the text may end right before one that is not there.
        let at = addr.checked_add(bytes.len() as u64).ok_or(Errno::EFAULT)?;
        let len = PIECE.min((PAGE_BYTES - at % PAGE_BYTES) as usize);
        let mut piece = [0; PIECE];
        UserSlice::new(at, len as u64)?.copy_in(0, &mut piece[..len])?;
        match piece[..len].iter().position(|b| *b == 0) {
            Some(end) => {
                bytes.extend_from_slice(&piece[..end]);
                // A name that is no text is nobody's.
                return alloc::string::String::from_utf8(bytes).map_err(|_| Errno::ENOENT);
            }
            None if bytes.len() + len > MAX_PATH_BYTES => return Err(Errno::ENAMETOOLONG),
            None => bytes.extend_from_slice(&piece[..len]),
        }
    }
}

fn open_file(process: &Process, path: u64, flags: u64) -> Result<u64, Errno> {
    let path = path_at(path)?;
    // What is open costs a little, and a file that is made costs a node of its file system.
    open::enough_for(1)?;
    let file = open::open(&path, flags)?;
    process.with_files(|files| {
        let free = files.iter().position(Option::is_none);
        match free {
            Some(fd) => {
                files[fd] = Some(file);
                Ok(fd as u64)
            }
            None if files.len() < MAX_FILES => {
                files.push(Some(file));
                Ok(files.len() as u64 - 1)
            }
            None => Err(Errno::EMFILE),
        }
    })
}

fn close(process: &Process, fd: u64) -> Result<u64, Errno> {
    let fd = fd as u32 as usize;
    // Dropped outside of the table's lock: closing may take a while.
    let closed = process.with_files(|files| files.get_mut(fd).and_then(Option::take));
    closed.map(|_| 0).ok_or(Errno::EBADF)
}

fn mmap(
    process: &Process,
    len: u64,
    prot: u64,
    flags: u64,
    fd: u64,
    offset: u64,
) -> Result<u64, Errno> {
    const KNOWN: u64 = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    let shared = match flags & (MAP_SHARED | MAP_PRIVATE) {
        MAP_SHARED => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    if flags & !KNOWN != 0 || prot & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0 || len == 0 {
        return Err(Errno::EINVAL);
    }
    if !offset.is_multiple_of(PAGE_BYTES) {
        return Err(Errno::EINVAL);
    }
    let len = len
        .checked_next_multiple_of(PAGE_BYTES)
        .filter(|len| *len <= USER_END)
        .ok_or(Errno::ENOMEM)?;
    let (write, execute) = (prot & PROT_WRITE != 0, prot & PROT_EXEC != 0);
    if flags & MAP_ANONYMOUS == 0 {
        let open = process.file(fd)?;
        let request = MapRequest {
            offset,
            pages: len / PAGE_BYTES,
            write,
            execute,
            shared,
        };
        return map_file(process, &open, &request);
    }
    // Nothing is writable and executable here; and memory of no file has nothing to execute otherwise.
    if execute {
        return Err(Errno::EINVAL);
    }
    if len / PAGE_BYTES > space::available_pages() {
        return Err(Errno::ENOMEM);
    }
    let rights = Rights {
        // The CPU has no pages that can only be written.
        read: prot != 0,
        write,
        execute: false,
    };
    let at = process
        .with_space(|space| space.map_zero(len, rights))
        .ok_or(Errno::ENOMEM)?
        .map_err(errno)?;
    if flags & MAP_POPULATE != 0 && prot != 0 {
        let access = if write {
            kernel::ring3::space::Access::Write
        } else {
            kernel::ring3::space::Access::Read
        };
        for page in (at..at + len).step_by(PAGE_BYTES as usize) {
            // As in Linux: what does not come now comes, or does not, at the access.
            if process.fault(page, access, false).is_err() {
                break;
            }
        }
    }
    Ok(at)
}

fn errno(error: SpaceError) -> Errno {
    match error {
        SpaceError::NoMemory | SpaceError::Area(AreaError::NoRoom | AreaError::TooMany) => {
            Errno::ENOMEM
        }
        SpaceError::Area(AreaError::Range | AreaError::Overlap | AreaError::Cut) => Errno::EINVAL,
    }
}

fn map_file(process: &Process, open: &OpenFile, request: &MapRequest) -> Result<u64, Errno> {
    if !open.read {
        return Err(Errno::EACCES);
    }
    let mapping = open.file.mmap(request)?;
    if mapping.pages.len() as u64 != request.pages {
        return Err(Errno::EINVAL);
    }
    mapping.object.mapped();
    let object = Arc::clone(&mapping.object);
    let mapped = process
        .with_space(|space| space.map_shared(&mapping.pages, mapping.write, object))
        .unwrap_or(Err(SpaceError::NoMemory));
    mapped.map_err(|error| {
        mapping.object.unmapped();
        errno(error)
    })
}

fn munmap(process: &Process, addr: u64, len: u64) -> Result<u64, Errno> {
    let len = len
        .checked_next_multiple_of(PAGE_BYTES)
        .filter(|len| *len > 0)
        .ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    let unmapped = process
        .with_space(|space| {
            // What areas cost is the kernel's memory.
            if space.splits(&(addr..end)) && space::available_pages() == 0 {
                return Err(AreaError::TooMany);
            }
            let mut unmapped = space.unmap(addr..end)?;
            if unmapped.flush {
                space::flush_here(addr, len);
            }
            space.free(&mut unmapped);
            Ok(unmapped)
        })
        .ok_or(Errno::EINVAL)?
        .map_err(|error: AreaError| errno(error.into()))?;
    for object in unmapped.shared {
        object.unmapped();
    }
    Ok(0)
}

const NANOS: i64 = 1_000_000_000;

fn nanosleep(time: u64) -> Result<u64, Errno> {
    let time: TimeSpec = read_user(time)?;
    if time.seconds < 0 || !(0..NANOS).contains(&time.nanos) {
        return Err(Errno::EINVAL);
    }
    let nanos = (time.seconds as u64)
        .saturating_mul(NANOS as u64)
        .saturating_add(time.nanos as u64);
    match task::sleep_interruptible(nanos) {
        Ok(()) => Ok(0),
        Err(_) => Err(Errno::EINTR),
    }
}

/// Bytes of a mask of CPUs: Linux's `cpumask_size()` for up to 64 of them.
const MASK_BYTES: u64 = 8;

/// The task that a call about CPUs is for.
fn task_of(process: &Process, pid: u64) -> Result<Arc<task::Task>, Errno> {
    let pid = match pid as i32 {
        0 => process.pid(),
        pid => pid,
    };
    task::find(pid).ok_or(Errno::ESRCH)
}

fn sched_setaffinity(process: &Process, pid: u64, len: u64, mask: u64) -> Result<u64, Errno> {
    // Linux takes 32 bits of the length. CPUs beyond the end are not in the mask.
    let len = u64::from(len as u32).min(MASK_BYTES);
    let mut bytes = [0; MASK_BYTES as usize];
    UserSlice::new(mask, len)?.copy_in(0, &mut bytes[..len as usize])?;
    // Who runs can move itself; there is nobody here who moves others.
    if task_of(process, pid)?.pid != process.pid() {
        return Err(Errno::EPERM);
    }
    let cpus = u64::from_le_bytes(bytes) & u64::from(cpu::online_mask());
    if cpus == 0 {
        return Err(Errno::EINVAL);
    }
    task::pin(cpus);
    Ok(0)
}

fn sched_getaffinity(process: &Process, pid: u64, len: u64, mask: u64) -> Result<u64, Errno> {
    let len = u64::from(len as u32);
    if len < MASK_BYTES || !len.is_multiple_of(MASK_BYTES) {
        return Err(Errno::EINVAL);
    }
    let cpus = task_of(process, pid)?.allowed() & u64::from(cpu::online_mask());
    write_user(mask, &cpus)?;
    Ok(MASK_BYTES)
}

fn clock_gettime(clock: u64, to: u64) -> Result<u64, Errno> {
    if clock != CLOCK_MONOTONIC {
        return Err(Errno::EINVAL);
    }
    let now = clock::nanos() as i64;
    let time = TimeSpec {
        seconds: now / NANOS,
        nanos: now % NANOS,
    };
    write_user(to, &time)?;
    Ok(0)
}

fn wait4(process: &Process, pid: u64, status: u64, options: u64, usage: u64) -> Result<u64, Errno> {
    let pid = pid as i32;
    if options & !WNOHANG != 0 || usage != 0 || (pid <= 0 && pid != -1) {
        return Err(Errno::EINVAL);
    }
    match process.wait(pid, options & WNOHANG != 0)? {
        None => Ok(0),
        Some((pid, value)) => {
            if status != 0 {
                write_user(status, &value)?;
            }
            Ok(pid as u64)
        }
    }
}

fn kill(pid: u64, signal: u64) -> Result<u64, Errno> {
    /// Linux's `_NSIG`.
    const SIGNALS: i32 = 64;
    let (pid, signal) = (pid as i32, signal as i32);
    if !(0..=SIGNALS).contains(&signal) || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    process::kill(pid, signal).map(|()| 0)
}

fn spawn(process: &Process, path: u64, argv: u64, count: u64) -> Result<u64, Errno> {
    let path = path_at(path)?;
    if count > MAX_ARGS as u64 {
        return Err(Errno::E2BIG);
    }
    // Also where there is none: a wrong address is told.
    UserSlice::new(argv, 1)?;
    let mut args: Vec<Vec<u8>> = Vec::new();
    let mut total = 0;
    for n in 0..count {
        let at = argv
            .checked_add(n * size_of::<Text>() as u64)
            .ok_or(Errno::EFAULT)?;
        let text: Text = read_user(at)?;
        let from = UserSlice::new(text.addr, text.len)?;
        total += from.len().min(MAX_ARG_BYTES) + 1;
        if total > MAX_ARG_BYTES {
            return Err(Errno::E2BIG);
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(from.len())
            .map_err(|_| Errno::ENOMEM)?;
        bytes.resize(from.len(), 0);
        from.copy_in(0, &mut bytes)?;
        args.push(bytes);
    }
    if args.is_empty() {
        args.push(path.clone().into_bytes());
    }
    let files = process.with_files(|files| files.iter().take(3).cloned().collect());
    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
    match process::spawn(Parent::Process(process), &path, &args, files) {
        Ok((child, _)) => Ok(child.pid() as u64),
        Err(error) => Err(error.errno()),
    }
}
