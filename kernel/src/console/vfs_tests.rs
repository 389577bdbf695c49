use super::super::genfs::{GenFile, GenFs, RomFs};
use super::super::tmpfs::TmpFs;
use super::*;
use alloc::vec;
use proptest::prelude::*;

#[test]
fn paths_are_normalised() {
    for (cwd, path, normal) in [
        ("/", "a", "/a"),
        ("/sys", "kernel/tracing", "/sys/kernel/tracing"),
        ("/sys", "/proc", "/proc"),
        ("/sys", "..", "/"),
        ("/sys", "../../..", "/"),
        (
            "/sys/kernel",
            ".././kernel//tracing/",
            "/sys/kernel/tracing",
        ),
        ("/", "/", "/"),
        ("/", "//", "/"),
        ("/", ".", "/"),
        ("/a", "b/../c/./..", "/a"),
        ("/", "...", "/..."),
    ] {
        assert_eq!(normalize(cwd, path).as_deref(), Ok(normal), "{cwd} {path}");
    }
    assert_eq!(normalize("/", ""), Err(Errno::ENOENT));
    assert_eq!(normalize("/", "a\0b"), Err(Errno::EINVAL));
    assert_eq!(normalize("/", &"n".repeat(256)), Err(Errno::ENAMETOOLONG));
    assert_eq!(normalize("/", &"n/".repeat(2049)), Err(Errno::ENAMETOOLONG));
}

#[test]
fn below_is_about_whole_parts() {
    assert_eq!(below("/sys/kernel", "/sys"), Some("kernel"));
    assert_eq!(below("/sys", "/sys"), Some(""));
    assert_eq!(below("/system", "/sys"), None);
    assert_eq!(below("/sys", "/"), Some("sys"));
    assert_eq!(below("/", "/"), Some(""));
    assert_eq!(below("/", "/sys"), None);
}

static FILES: [GenFile; 2] = [
    GenFile::read_only("version", |out| Ok(out.write(b"Baton\n")?)),
    GenFile::read_only("sys/kernel/hostname", |out| Ok(out.write(b"baton\n")?)),
];

fn names(mounts: &Mounts<'_>, path: &str) -> Vec<String> {
    let entries = mounts.list(path).unwrap();
    entries.into_iter().map(|e| e.name).collect()
}

#[test]
fn mount_points_make_directories() {
    let (gen_fs, tmp) = (GenFs::new(&FILES), TmpFs::new(1 << 16));
    let rom = RomFs::new(vec![("kernel".into(), b"ELF")]);
    let mut mounts = Mounts::new();
    mounts.mount("/proc", &gen_fs).unwrap();
    mounts.mount("/sys/kernel/debug/kho", &rom).unwrap();
    mounts.mount("/sys/kernel/tracing/", &gen_fs).unwrap();
    mounts.mount("/tmp", &tmp).unwrap();
    assert_eq!(mounts.mount("/tmp/", &tmp), Err(Errno::EBUSY));
    assert_eq!(mounts.mount("tmp2", &tmp), Err(Errno::EINVAL));

    assert_eq!(names(&mounts, "/"), ["proc", "sys", "tmp"]);
    assert_eq!(names(&mounts, "/sys"), ["kernel"]);
    assert_eq!(names(&mounts, "/sys/kernel"), ["debug", "tracing"]);
    assert_eq!(names(&mounts, "/sys/kernel/debug"), ["kho"]);
    assert_eq!(names(&mounts, "/sys/kernel/debug/kho"), ["kernel"]);
    assert_eq!(names(&mounts, "/proc/sys"), ["kernel"]);
    assert_eq!(mounts.list("/none").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(mounts.list("/sysx").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(
        mounts.list("/proc/version").unwrap_err().errno(),
        Errno::ENOTDIR
    );
    assert_eq!(mounts.stat("/sys/kernel").unwrap().kind, Kind::Dir);
    assert!(mounts.list("/").unwrap()[2].stat.writable);

    assert_eq!(mounts.read_all("/proc/version", 6).unwrap(), b"Baton\n");
    assert_eq!(
        mounts.read_all("/proc/version", 5).unwrap_err().errno(),
        Errno::EFBIG
    );
    for dir in ["/", "/sys", "/tmp", "/proc/sys"] {
        assert_eq!(mounts.read_all(dir, 9).unwrap_err().errno(), Errno::EISDIR);
        assert_eq!(
            mounts.open(dir, WriteMode::Append).unwrap_err().errno(),
            Errno::EISDIR
        );
    }
    assert_eq!(
        mounts.open("/x", WriteMode::Truncate).unwrap_err().errno(),
        Errno::ENOENT
    );
    assert_eq!(
        mounts
            .open("/proc/new", WriteMode::Truncate)
            .unwrap_err()
            .errno(),
        Errno::ENOENT
    );
    for busy in ["/", "/sys", "/tmp", "/sys/kernel/debug"] {
        assert_eq!(
            mounts.remove(busy).unwrap_err().errno(),
            Errno::EBUSY,
            "{busy}"
        );
    }
    assert_eq!(mounts.mkdir("/sys").unwrap_err().errno(), Errno::EEXIST);
    assert_eq!(mounts.mkdir("/new").unwrap_err().errno(), Errno::ENOENT);
    assert_eq!(
        mounts.remove("/proc/version").unwrap_err().errno(),
        Errno::EPERM
    );
    mounts.mkdir("/tmp/d").unwrap();
    mounts.remove("/tmp/d").unwrap();
}

#[test]
fn a_mount_inside_a_mount_is_seen_and_wins() {
    let outer = TmpFs::new(1 << 16);
    let inner = TmpFs::new(1 << 16);
    let mut mounts = Mounts::new();
    mounts.mount("/", &outer).unwrap();
    mounts.mount("/a/b", &inner).unwrap();
    // /a does not exist in the file system around it.
    assert_eq!(names(&mounts, "/"), ["a"]);
    assert_eq!(names(&mounts, "/a"), ["b"]);
    mounts.open("/a/b/f", WriteMode::Truncate).unwrap();
    mounts.open("/g", WriteMode::Truncate).unwrap();
    assert_eq!(names(&mounts, "/a/b"), ["f"]);
    assert_eq!(names(&mounts, "/"), ["a", "g"]);
    assert_eq!(inner.list("").unwrap().len(), 1);
}

#[test]
fn formatted_text_goes_out_in_pieces_and_a_stop_comes_back() {
    struct Pieces(Vec<usize>, usize);
    impl Sink for Pieces {
        fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
            if self.0.len() == self.1 {
                return Err(Stop::Enough);
            }
            self.0.push(bytes.len());
            Ok(())
        }
    }
    let mut out = Pieces(Vec::new(), 99);
    let mut text = FmtSink::new(&mut out);
    for _ in 0..300 {
        text.write_str("0123456789").unwrap();
    }
    text.write_str(&"x".repeat(5000)).unwrap();
    text.finish().unwrap();
    assert_eq!(out.0.iter().sum::<usize>(), 8000);
    assert!(out.0.len() < 8);

    let mut out = Pieces(Vec::new(), 1);
    let mut text = FmtSink::new(&mut out);
    let result = (0..300).try_for_each(|_| text.write_str("0123456789"));
    assert!(result.is_err());
    assert_eq!(text.finish(), Err(Stop::Enough));
}

proptest! {
    #[test]
    fn normal_paths_stay_as_they_are(path in "[/a.b]{1,40}", cwd in "(/[ab]{1,3}){0,4}") {
        let cwd = if cwd.is_empty() { "/".into() } else { cwd };
        let normal = normalize(&cwd, &path).unwrap();
        prop_assert!(normal.starts_with('/') && !normal.contains("//"));
        prop_assert!(normal == "/" || !normal.ends_with('/'));
        prop_assert!(!normal.split('/').any(|part| part == "." || part == ".."));
        prop_assert_eq!(normalize("/x", &normal).unwrap(), normal);
    }
}

/// A file system that knows more of a missing file than that it is missing.
struct Damaged;

impl FileSystem for Damaged {
    fn list(&self, _path: &str) -> Result<Vec<DirEntry>, Errno> {
        Ok(Vec::new())
    }

    fn stat(&self, _path: &str) -> Result<Stat, Errno> {
        Err(Errno::ENOENT)
    }

    fn why(&self, _errno: Errno) -> FsError {
        FsError::new(Errno::EIO, "its page has changed")
    }

    fn read(&self, _path: &str, _out: &mut dyn Sink) -> Result<(), FsError> {
        Err(Errno::ENOENT.into())
    }

    fn write(&self, _path: &str, _data: &[u8], _mode: WriteMode) -> Result<(), FsError> {
        Err(Errno::EROFS.into())
    }
}

#[test]
fn a_file_that_cannot_be_found_is_missing_for_its_file_systems_reason() {
    let mut mounts = Mounts::new();
    mounts.mount("/boot", &Damaged).unwrap();
    let why = FsError::new(Errno::EIO, "its page has changed");
    assert_eq!(mounts.stat("/boot/x").unwrap_err(), why);
    assert_eq!(
        mounts.read("/boot/x", &mut VecSink::new(1)).unwrap_err(),
        why
    );
}
