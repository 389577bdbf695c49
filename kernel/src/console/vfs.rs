//! The console's view of files: what a file system must answer, and the table of what is mounted where.
//!
//! Everything streams. A read pushes its bytes into a [`Sink`] piece by piece, so that no file is ever
//! held in memory as a whole, and the sink can say that it has had [`Stop`]: `head` after its tenth
//! line, the console after ctrl-c.
//!
//! Writing follows what a Linux process would do with `open`, `write`, `close`, but without handles:
//!
//! 1. [`FileSystem::open`] once per redirect, before the command runs. It refuses what cannot be written,
//!    creates what may be created, and, where a file is plain data, truncates it there and then.
//! 2. [`FileSystem::write`] once per piece the command writes: each call is one `write(2)`. The first after an
//!    open with [`WriteMode::Truncate`] carries `Truncate`, all later ones `Append`.
//! 3. Where the command wrote nothing at all after an open with `Truncate`, one `write` of no bytes with `Truncate`:
//!    `> trace` clears the trace as `O_TRUNC` does on Linux.
//!
//! A control file may thus treat "truncate and write" as one step and leave its state alone when the data is
//! wrong, although Linux would have truncated by then.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use trace::errno::Errno;

/// Longest path, in bytes, as on Linux (`PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;
/// Longest name of one file or directory, in bytes, as on Linux (`NAME_MAX`).
pub const MAX_NAME_BYTES: usize = 255;
/// How much formatted text a [`FmtSink`] gathers before it passes it on.
const FMT_SINK_BYTES: usize = 1024;

/// Why a sink takes no more bytes. The writer ends quietly: whoever holds the sink knows the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The reader has had enough (`head`), which is no failure.
    Enough,
    /// The person typed ctrl-c.
    Interrupted,
    /// The reader failed, and reports that itself (a redirect to a full file system).
    Failed,
}

/// Where bytes go: the console, a file, the next stage of a pipeline.
pub trait Sink {
    /// Takes all of `bytes`, or says that no more is wanted. One call is one `write(2)` where the sink is a file.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop>;

    /// Whether more is wanted at all: asked by who waits for something to write, and before anything is used up for it.
    fn poll(&self) -> Result<(), Stop> {
        Ok(())
    }
}

/// A sink into memory, with a limit; for commands that need a file as a whole, and for tests.
#[derive(Debug)]
pub struct VecSink {
    bytes: Vec<u8>,
    limit: usize,
    failed: Option<Errno>,
}

impl VecSink {
    /// A sink that takes at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            failed: None,
        }
    }

    /// What was written; `Err(EFBIG)` where it was more than the limit, `Err(ENOMEM)` where it was more than there is
    /// memory for.
    pub fn into_bytes(self) -> Result<Vec<u8>, Errno> {
        self.failed.map_or(Ok(self.bytes), Err)
    }
}

impl Sink for VecSink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.failed = Some(Errno::EFBIG);
        } else if self.bytes.try_reserve(bytes.len()).is_err() {
            self.failed = Some(Errno::ENOMEM);
        }
        if self.failed.is_some() {
            return Err(Stop::Enough);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Turns formatted text into sink writes of up to 1 KiB, for code that prints through [`core::fmt::Write`].
///
/// End with [`FmtSink::finish`], which passes on the rest and tells whether the reader stopped.
pub struct FmtSink<'a> {
    out: &'a mut dyn Sink,
    pending: String,
    stop: Option<Stop>,
}

impl<'a> FmtSink<'a> {
    /// Text written here goes to `out`.
    pub fn new(out: &'a mut dyn Sink) -> Self {
        Self {
            out,
            pending: String::with_capacity(FMT_SINK_BYTES),
            stop: None,
        }
    }

    /// Passes on what was gathered so far.
    pub fn flush(&mut self) -> Result<(), Stop> {
        if let Some(stop) = self.stop {
            return Err(stop);
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = self.out.write(self.pending.as_bytes());
        self.pending.clear();
        self.stop = result.err();
        result
    }

    /// Passes on the rest; the reader's [`Stop`], if it had enough at any time.
    pub fn finish(mut self) -> Result<(), Stop> {
        self.flush()
    }
}

impl fmt::Write for FmtSink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.pending.len() + text.len() > FMT_SINK_BYTES {
            self.flush().map_err(|_| fmt::Error)?;
        }
        if self.stop.is_some() {
            return Err(fmt::Error);
        }
        if text.len() > FMT_SINK_BYTES {
            let result = self.out.write(text.as_bytes());
            self.stop = result.err();
            return result.map_err(|_| fmt::Error);
        }
        self.pending.push_str(text);
        Ok(())
    }
}

/// Formats and writes in one piece: `vfs::print(out, format_args!("{n} pages\n"))?`.
pub fn print(out: &mut dyn Sink, text: fmt::Arguments<'_>) -> Result<(), Stop> {
    match text.as_str() {
        Some(text) => out.write(text.as_bytes()),
        None => {
            let mut line = String::new();
            // Writing to a String cannot fail; a Display that fails by itself leaves what it wrote so far.
            let _ = line.write_fmt(text);
            out.write(line.as_bytes())
        }
    }
}

/// Why an operation on a file did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsError {
    /// Refused, with Linux's error number and, where that says too little, a sentence of its own.
    Refused {
        /// Linux's number for it.
        errno: Errno,
        /// Replaces the errno's own text for the person: one sentence, no full stop, no newline.
        message: Option<Cow<'static, str>>,
    },
    /// The sink took no more. Not an error of the file.
    Stopped(Stop),
}

impl FsError {
    /// A refusal with a sentence of its own.
    pub fn new(errno: Errno, message: impl Into<Cow<'static, str>>) -> Self {
        FsError::Refused {
            errno,
            message: Some(message.into()),
        }
    }

    /// The error number; `EINTR` where the sink stopped.
    pub fn errno(&self) -> Errno {
        match self {
            FsError::Refused { errno, .. } => *errno,
            FsError::Stopped(_) => Errno::EINTR,
        }
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        FsError::Refused {
            errno,
            message: None,
        }
    }
}

impl From<Stop> for FsError {
    fn from(stop: Stop) -> Self {
        FsError::Stopped(stop)
    }
}

/// `Invalid argument (EINVAL)`, or `the sentence (EINVAL)`.
impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FsError::Refused {
                errno,
                message: Some(message),
            } => write!(f, "{message} ({errno:?})"),
            FsError::Refused {
                errno,
                message: None,
            } => write!(f, "{errno}"),
            FsError::Stopped(_) => f.write_str("stopped by the reader"),
        }
    }
}

impl core::error::Error for FsError {}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A file.
    File,
}

/// What is known about a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// File or directory.
    pub kind: Kind,
    /// Bytes in it; 0 where the content is made when read, as Linux's `/proc` has it.
    pub size: u64,
    /// Can be read (a directory: listed).
    pub readable: bool,
    /// Can be written (a directory: names can be made and removed in it).
    pub writable: bool,
}

impl Stat {
    /// A directory that can be listed.
    pub const fn dir(writable: bool) -> Self {
        Self {
            kind: Kind::Dir,
            size: 0,
            readable: true,
            writable,
        }
    }

    /// A file.
    pub const fn file(size: u64, readable: bool, writable: bool) -> Self {
        Self {
            kind: Kind::File,
            size,
            readable,
            writable,
        }
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without any slash.
    pub name: String,
    /// What it stands for.
    pub stat: Stat,
}

/// How a redirect opened the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// `>`: what was in the file goes first.
    Truncate,
    /// `>>`: at the end.
    Append,
}

/// A tree of files. Paths are relative to its root, normalised, without a leading slash; `""` is the root.
///
/// No method may hold a lock while it writes into a sink: the sink may be a file of the same file system.
pub trait FileSystem {
    /// The names in a directory, in any order. `ENOENT`, `ENOTDIR`.
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno>;

    /// What `path` is. `ENOENT`, `ENOTDIR`.
    fn stat(&self, path: &str) -> Result<Stat, Errno>;

    /// What a person is told where [`FileSystem::stat`] failed: more than the number says, where the file system knows more.
    fn why(&self, errno: Errno) -> FsError {
        errno.into()
    }

    /// Streams the file's bytes into `out`. An `Err` of `out` goes back as [`FsError::Stopped`] (the `?` operator does it).
    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError>;

    /// One `write(2)` on a file that [`FileSystem::open`] accepted; see the head of the module for `mode`.
    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError>;

    /// Prepares writing. As given it only checks that `path` is a file that can be written; a file system
    /// that makes files or holds plain data creates and truncates here.
    fn open(&self, path: &str, mode: WriteMode) -> Result<(), FsError> {
        let _ = mode;
        let stat = self.stat(path)?;
        match stat.kind {
            Kind::Dir => Err(Errno::EISDIR.into()),
            Kind::File if !stat.writable => Err(Errno::EACCES.into()),
            Kind::File => Ok(()),
        }
    }

    /// Removes a file or an empty directory.
    fn remove(&self, path: &str) -> Result<(), FsError> {
        self.stat(path)?;
        Err(Errno::EPERM.into())
    }

    /// Makes a directory.
    fn mkdir(&self, path: &str) -> Result<(), FsError> {
        match self.stat(path) {
            Ok(_) => Err(Errno::EEXIST.into()),
            Err(_) => Err(Errno::EPERM.into()),
        }
    }
}

/// Which file system is mounted where. All paths given to it are absolute; it normalises them itself.
///
/// Directories that exist only as parents of mount points (`/`, `/sys`) are there and can be listed.
#[derive(Default)]
pub struct Mounts<'a> {
    /// By mount point, normalised; "/" is allowed.
    table: Vec<(String, &'a dyn FileSystem)>,
}

/// What a path leads to.
enum Place<'a, 'p> {
    /// Inside a mounted file system, with the path in it.
    Fs(&'a dyn FileSystem, &'p str),
    /// A parent of mount points only.
    Parent,
}

impl<'a> Mounts<'a> {
    /// Nothing but an empty `/`.
    pub const fn new() -> Self {
        Self { table: Vec::new() }
    }

    /// Mounts `fs` at the absolute path `point`. `EBUSY` where something is mounted already, `EINVAL` for a relative path.
    pub fn mount(&mut self, point: &str, fs: &'a dyn FileSystem) -> Result<(), Errno> {
        if !point.starts_with('/') {
            return Err(Errno::EINVAL);
        }
        let point = normalize("/", point)?;
        if self.table.iter().any(|(p, _)| *p == point) {
            return Err(Errno::EBUSY);
        }
        self.table.push((point, fs));
        Ok(())
    }

    /// The mount points, in the order in which they were mounted.
    pub fn points(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|(point, _)| point.as_str())
    }

    /// `path` is normalised.
    fn find<'p>(&self, path: &'p str) -> Result<Place<'a, 'p>, Errno> {
        let best = self
            .table
            .iter()
            .filter_map(|(point, fs)| Some((point.len(), *fs, below(path, point)?)))
            .max_by_key(|(length, ..)| *length);
        // A parent of a mount point is a directory even where the file system around it knows nothing of it.
        let is_parent = path == "/"
            || self
                .table
                .iter()
                .any(|(p, _)| below(p, path).is_some_and(|rest| !rest.is_empty()));
        match best {
            Some((_, fs, rest)) if !is_parent || fs.stat(rest).is_ok() => Ok(Place::Fs(fs, rest)),
            _ if is_parent => Ok(Place::Parent),
            Some((_, fs, rest)) => Ok(Place::Fs(fs, rest)),
            None => Err(Errno::ENOENT),
        }
    }

    /// The names in the directory `path`, sorted; mount points in it among them.
    pub fn list(&self, path: &str) -> Result<Vec<DirEntry>, FsError> {
        let path = normalize("/", path)?;
        let mut names: BTreeMap<String, Stat> = BTreeMap::new();
        if let Place::Fs(fs, rest) = self.find(&path)? {
            for entry in fs.list(rest)? {
                names.insert(entry.name, entry.stat);
            }
        }
        for (point, fs) in &self.table {
            let Some(rest) = below(point, &path) else {
                continue;
            };
            match rest.split_once('/') {
                None if rest.is_empty() => {}
                None => {
                    names.insert(rest.to_string(), fs.stat("").unwrap_or(Stat::dir(false)));
                }
                Some((first, _)) => {
                    names.entry(first.to_string()).or_insert(Stat::dir(false));
                }
            }
        }
        Ok(names
            .into_iter()
            .map(|(name, stat)| DirEntry { name, stat })
            .collect())
    }

    /// What `path` is.
    pub fn stat(&self, path: &str) -> Result<Stat, FsError> {
        let path = normalize("/", path)?;
        match self.find(&path)? {
            Place::Fs(fs, rest) => fs.stat(rest).map_err(|errno| fs.why(errno)),
            Place::Parent => Ok(Stat::dir(false)),
        }
    }

    /// Streams the file into `out`. A directory is refused with `EISDIR`, whatever its file system would say.
    pub fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        let path = normalize("/", path)?;
        let Place::Fs(fs, rest) = self.find(&path)? else {
            return Err(Errno::EISDIR.into());
        };
        let stat = fs.stat(rest).map_err(|errno| fs.why(errno))?;
        match stat.kind {
            Kind::Dir => Err(Errno::EISDIR.into()),
            Kind::File if !stat.readable => Err(Errno::EACCES.into()),
            Kind::File => fs.read(rest, out),
        }
    }

    /// The whole file, where it has at most `limit` bytes; `EFBIG` otherwise.
    pub fn read_all(&self, path: &str, limit: usize) -> Result<Vec<u8>, FsError> {
        let mut sink = VecSink::new(limit);
        match self.read(path, &mut sink) {
            Ok(()) | Err(FsError::Stopped(Stop::Enough)) => Ok(sink.into_bytes()?),
            Err(error) => Err(error),
        }
    }

    /// Step 1 of writing; see the head of the module.
    pub fn open(&self, path: &str, mode: WriteMode) -> Result<(), FsError> {
        self.at(path, Errno::EISDIR, |fs, rest| fs.open(rest, mode))
    }

    /// Step 2 of writing: one `write(2)`.
    pub fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        self.at(path, Errno::EISDIR, |fs, rest| fs.write(rest, data, mode))
    }

    /// Removes a file or an empty directory. `EBUSY` for a mount point and its parents.
    pub fn remove(&self, path: &str) -> Result<(), FsError> {
        let normal = normalize("/", path)?;
        if self.table.iter().any(|(p, _)| below(p, &normal).is_some()) {
            return Err(Errno::EBUSY.into());
        }
        self.at(path, Errno::EBUSY, |fs, rest| fs.remove(rest))
    }

    /// Removes an empty directory. `ENOTDIR` for a file; `EBUSY` for a mount point and its parents.
    pub fn rmdir(&self, path: &str) -> Result<(), FsError> {
        match self.stat(path)?.kind {
            Kind::Dir => self.remove(path),
            Kind::File => Err(Errno::ENOTDIR.into()),
        }
    }

    /// Makes a directory.
    pub fn mkdir(&self, path: &str) -> Result<(), FsError> {
        self.at(path, Errno::EEXIST, |fs, rest| fs.mkdir(rest))
    }

    fn at<T>(
        &self,
        path: &str,
        if_parent: Errno,
        act: impl FnOnce(&'a dyn FileSystem, &str) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let path = normalize("/", path)?;
        match self.find(&path)? {
            Place::Fs(fs, rest) => act(fs, rest),
            Place::Parent => Err(if_parent.into()),
        }
    }
}

/// Where `path` lies below the directory `dir` (both normalised): the rest without a leading slash, `""` for `dir` itself.
pub fn below<'p>(path: &'p str, dir: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(dir.strip_suffix('/').unwrap_or(dir))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

/// The absolute form of `path` as seen from the directory `cwd`: no `.`, no `..`, no doubled or trailing slash.
///
/// `..` at the root stays there. Purely textual, since nothing here has links. `ENAMETOOLONG`
/// beyond [`MAX_PATH_BYTES`] or a part beyond [`MAX_NAME_BYTES`], `ENOENT` for an empty path, `EINVAL` for a NUL byte.
pub fn normalize(cwd: &str, path: &str) -> Result<String, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.contains('\0') {
        return Err(Errno::EINVAL);
    }
    let start = if path.starts_with('/') { "" } else { cwd };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ if part.len() > MAX_NAME_BYTES => return Err(Errno::ENAMETOOLONG),
            _ => parts.push(part),
        }
    }
    let mut absolute = String::new();
    for part in &parts {
        absolute.push('/');
        absolute.push_str(part);
    }
    if absolute.len() > MAX_PATH_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    if absolute.is_empty() {
        absolute.push('/');
    }
    Ok(absolute)
}

#[cfg(test)]
#[path = "vfs_tests.rs"]
mod tests;
