//! File systems whose files are made elsewhere: [`GenFs`] from functions, [`GenDir`] from names that are only known at run
//! time, [`RomFs`] from bytes that stay.

use super::vfs::{DirEntry, FileSystem, FsError, Kind, Sink, Stat, WriteMode, below};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use trace::errno::Errno;

/// How much a [`RomFs`] hands to a sink at a time: small enough that ctrl-c is heard soon.
const PIECE_BYTES: usize = 4096;

/// Prints a file.
pub type ReadFn = fn(&mut dyn Sink) -> Result<(), FsError>;
/// Takes one write to a file.
pub type WriteFn = fn(&[u8]) -> Result<(), FsError>;

/// A file whose content a function makes when it is read, or that does something when it is written.
pub struct GenFile {
    /// Where, relative to the mount point, without a leading slash. Directories follow from it.
    pub path: &'static str,
    /// Prints the file; `None` where it can only be written.
    pub read: Option<ReadFn>,
    /// Takes one write, with surrounding white space as it came; `None` where it can only be read.
    pub write: Option<WriteFn>,
}

impl GenFile {
    /// A file that can only be read.
    pub const fn read_only(path: &'static str, read: ReadFn) -> Self {
        Self {
            path,
            read: Some(read),
            write: None,
        }
    }

    /// A file that can only be written.
    pub const fn write_only(path: &'static str, write: WriteFn) -> Self {
        Self {
            path,
            read: None,
            write: Some(write),
        }
    }

    fn stat(&self) -> Stat {
        Stat::file(0, self.read.is_some(), self.write.is_some())
    }
}

/// A tree of [`GenFile`]s. The empty write that stands for a truncation (`> file`) reaches `write` as no bytes.
pub struct GenFs {
    files: &'static [GenFile],
}

impl GenFs {
    /// The tree of these files; their paths are distinct, and none is a directory of another.
    pub const fn new(files: &'static [GenFile]) -> Self {
        Self { files }
    }

    fn file(&self, path: &str) -> Result<&'static GenFile, Errno> {
        match self.files.iter().find(|file| file.path == path) {
            Some(file) => Ok(file),
            None => Err(self.stat(path).map_or_else(|e| e, |_| Errno::EISDIR)),
        }
    }
}

impl FileSystem for GenFs {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        list(self.files.iter().map(|f| (f.path, f.stat())), path)
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        stat(self.files.iter().map(|f| (f.path, f.stat())), path)
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        match self.file(path)?.read {
            Some(read) => read(out),
            None => Err(Errno::EACCES.into()),
        }
    }

    fn write(&self, path: &str, data: &[u8], _mode: WriteMode) -> Result<(), FsError> {
        match self.file(path)?.write {
            Some(write) => write(data),
            None => Err(Errno::EACCES.into()),
        }
    }
}

/// One directory of read-only files whose names follow from something: they are asked for each time.
pub struct GenDir {
    /// The names, none with a slash in it.
    names: fn() -> Vec<String>,
    /// Prints the file of that name.
    read: fn(&str, &mut dyn Sink) -> Result<(), FsError>,
}

impl GenDir {
    /// The directory of these names, each of which `read` can print.
    pub const fn new(
        names: fn() -> Vec<String>,
        read: fn(&str, &mut dyn Sink) -> Result<(), FsError>,
    ) -> Self {
        Self { names, read }
    }

    fn with_stats<T>(
        &self,
        f: impl FnOnce(&mut dyn Iterator<Item = (&str, Stat)>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let names = (self.names)();
        f(&mut names
            .iter()
            .map(|name| (name.as_str(), Stat::file(0, true, false))))
    }
}

impl FileSystem for GenDir {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        self.with_stats(|files| list(files, path))
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.with_stats(|files| stat(files, path))
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        match self.stat(path)?.kind {
            Kind::Dir => Err(Errno::EISDIR.into()),
            Kind::File => (self.read)(path, out),
        }
    }

    fn write(&self, _path: &str, _data: &[u8], _mode: WriteMode) -> Result<(), FsError> {
        Err(Errno::EACCES.into())
    }
}

/// Read-only files over bytes that lie in memory anyway, as the initrd's do.
pub struct RomFs<'a> {
    files: Vec<(String, &'a [u8])>,
}

impl<'a> RomFs<'a> {
    /// The tree of these files: (path relative to the mount point without a leading slash, content).
    pub fn new(files: Vec<(String, &'a [u8])>) -> Self {
        Self { files }
    }

    /// The bytes of a file, without copying them.
    pub fn bytes(&self, path: &str) -> Option<&'a [u8]> {
        let (_, bytes) = self.files.iter().find(|(name, _)| name == path)?;
        Some(bytes)
    }

    fn stats(&self) -> impl Iterator<Item = (&str, Stat)> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), Stat::file(bytes.len() as u64, true, false)))
    }
}

impl FileSystem for RomFs<'_> {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        list(self.stats(), path)
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        stat(self.stats(), path)
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        let Some(bytes) = self.bytes(path) else {
            return Err(self.stat(path).map_or_else(|e| e, |_| Errno::EISDIR).into());
        };
        for piece in bytes.chunks(PIECE_BYTES) {
            out.write(piece)?;
        }
        Ok(())
    }

    fn write(&self, _path: &str, _data: &[u8], _mode: WriteMode) -> Result<(), FsError> {
        Err(Errno::EROFS.into())
    }

    fn open(&self, path: &str, _mode: WriteMode) -> Result<(), FsError> {
        match self.stat(path) {
            Ok(stat) if stat.kind == Kind::Dir => Err(Errno::EISDIR.into()),
            _ => Err(Errno::EROFS.into()),
        }
    }

    fn remove(&self, path: &str) -> Result<(), FsError> {
        self.stat(path)?;
        Err(Errno::EROFS.into())
    }

    fn mkdir(&self, path: &str) -> Result<(), FsError> {
        match self.stat(path) {
            Ok(_) => Err(Errno::EEXIST.into()),
            Err(_) => Err(Errno::EROFS.into()),
        }
    }
}

/// What `path` is among `files`, where every directory is one because a file lies below it.
fn stat<'f>(files: impl Iterator<Item = (&'f str, Stat)>, path: &str) -> Result<Stat, Errno> {
    let mut answer = if path.is_empty() {
        Ok(Stat::dir(false))
    } else {
        Err(Errno::ENOENT)
    };
    for (name, stat) in files {
        if name == path {
            return Ok(stat);
        }
        if below(name, path).is_some() {
            answer = Ok(Stat::dir(false));
        } else if below(path, name).is_some() {
            // A file is used as a directory.
            answer = Err(Errno::ENOTDIR);
        }
    }
    answer
}

fn list<'f>(
    files: impl Iterator<Item = (&'f str, Stat)>,
    path: &str,
) -> Result<Vec<DirEntry>, Errno> {
    let mut names: BTreeMap<String, Stat> = BTreeMap::new();
    let mut found = path.is_empty();
    for (name, stat) in files {
        let rest = if path.is_empty() {
            Some(name)
        } else {
            below(name, path)
        };
        match rest {
            None => {}
            Some("") => return Err(Errno::ENOTDIR),
            Some(rest) => {
                found = true;
                match rest.split_once('/') {
                    None => names.insert(rest.to_string(), stat),
                    Some((first, _)) => names.insert(first.to_string(), Stat::dir(false)),
                };
            }
        }
    }
    if !found {
        return Err(Errno::ENOENT);
    }
    Ok(names
        .into_iter()
        .map(|(name, stat)| DirEntry { name, stat })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::vfs::VecSink;
    use super::*;
    use alloc::vec;

    static FILES: [GenFile; 3] = [
        GenFile::read_only("version", |out| Ok(out.write(b"Baton\n")?)),
        GenFile::write_only("out/finalize", |data| match data {
            b"1\n" => Ok(()),
            _ => Err(Errno::EINVAL.into()),
        }),
        GenFile::read_only("out/fdt", |out| {
            out.write(b"\xd0\x0d")?;
            Ok(out.write(b"\xfe\xed")?)
        }),
    ];

    fn names(fs: &dyn FileSystem, path: &str) -> Result<Vec<String>, Errno> {
        Ok(fs.list(path)?.into_iter().map(|e| e.name).collect())
    }

    #[test]
    fn directories_follow_from_paths() {
        let fs = GenFs::new(&FILES);
        assert_eq!(names(&fs, "").unwrap(), ["out", "version"]);
        assert_eq!(names(&fs, "out").unwrap(), ["fdt", "finalize"]);
        assert_eq!(names(&fs, "version"), Err(Errno::ENOTDIR));
        assert_eq!(names(&fs, "ou"), Err(Errno::ENOENT));
        assert_eq!(fs.stat("out").unwrap().kind, Kind::Dir);
        assert_eq!(fs.stat("version/x"), Err(Errno::ENOTDIR));
        assert!(fs.stat("out/finalize").unwrap().writable);
        assert!(!fs.stat("out/finalize").unwrap().readable);
    }

    #[test]
    fn reading_and_writing_go_to_the_functions() {
        let fs = GenFs::new(&FILES);
        let mut sink = VecSink::new(100);
        fs.read("out/fdt", &mut sink).unwrap();
        assert_eq!(sink.into_bytes().unwrap(), b"\xd0\x0d\xfe\xed");
        assert_eq!(
            fs.write("out/finalize", b"1\n", WriteMode::Truncate),
            Ok(())
        );
        assert_eq!(
            fs.write("out/finalize", b"x", WriteMode::Truncate),
            Err(Errno::EINVAL.into())
        );
        assert_eq!(
            fs.open("version", WriteMode::Append),
            Err(Errno::EACCES.into())
        );
        assert_eq!(fs.open("out", WriteMode::Append), Err(Errno::EISDIR.into()));
        assert_eq!(
            fs.read("out", &mut VecSink::new(1)),
            Err(Errno::EISDIR.into())
        );
    }

    #[test]
    fn a_directory_follows_from_its_names() {
        use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
        static MORE: AtomicBool = AtomicBool::new(false);
        let fs = GenDir::new(
            || match MORE.load(Relaxed) {
                false => vec!["demo".into()],
                true => vec!["demo".into(), "trace".into()],
            },
            |name, out| Ok(out.write(name.as_bytes())?),
        );
        assert_eq!(names(&fs, "").unwrap(), ["demo"]);
        let read = |path| {
            let mut sink = VecSink::new(100);
            fs.read(path, &mut sink)
                .map(|()| sink.into_bytes().unwrap())
        };
        assert_eq!(read("trace"), Err(Errno::ENOENT.into()));
        MORE.store(true, Relaxed);
        assert_eq!(names(&fs, "").unwrap(), ["demo", "trace"]);
        assert_eq!(read("trace"), Ok(b"trace".to_vec()));
        assert_eq!(read(""), Err(Errno::EISDIR.into()));
        assert_eq!(fs.stat("demo/x"), Err(Errno::ENOTDIR));
        assert_eq!(
            fs.open("demo", WriteMode::Append),
            Err(Errno::EACCES.into())
        );
    }

    #[test]
    fn rom_files_are_read_only() {
        let kernel = vec![7u8; 10_000];
        let fs = RomFs::new(vec![
            ("kernel".into(), &kernel),
            ("etc/motd".into(), b"hi\n"),
        ]);
        let mut sink = VecSink::new(20_000);
        fs.read("kernel", &mut sink).unwrap();
        assert_eq!(sink.into_bytes().unwrap(), kernel);
        assert_eq!(fs.stat("kernel").unwrap().size, 10_000);
        assert_eq!(
            fs.open("kernel", WriteMode::Truncate),
            Err(Errno::EROFS.into())
        );
        assert_eq!(
            fs.open("new", WriteMode::Truncate),
            Err(Errno::EROFS.into())
        );
        assert_eq!(
            fs.open("etc", WriteMode::Truncate),
            Err(Errno::EISDIR.into())
        );
        assert_eq!(names(&fs, "etc").unwrap(), ["motd"]);
    }
}
