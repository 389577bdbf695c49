//! `map-test [CPU]`: the checks of Linux's `tools/testing/selftests/ring-buffer/map_test.c`, and the errors of a mapping, done from ring 3.
//!
//! It changes what is traced, and runs on the CPU whose buffer it looks at (as the original does); nobody else may write markers meanwhile.
//! One line for each check, in the form that kselftest has; the status says how many have failed.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::sync::atomic::Ordering;
use trace::errno::Errno;
use trace::meta::{META_LEN, Meta};
use user::abi::{
    MAP_PRIVATE, MAP_SHARED, O_NONBLOCK, O_RDONLY, PAGE_BYTES, PROT_EXEC, PROT_READ, PROT_WRITE,
};
use user::ring::{Pages, RawPipe, Ring, TRACING};
use user::{Args, Error, files, println, sys};

user::program!(main);

const PAGE: usize = PAGE_BYTES as usize;
/// Of an event that does not come while this runs.
const TRIGGER: &str = "events/baton/kexec_phase/trigger";

type Check = Result<(), String>;

/// An error that says what is not as it should be.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, is: T, should: T) -> Check {
    match is == should {
        true => Ok(()),
        false => Err(format!("{what}: {is:?}, not {should:?}")),
    }
}

fn write(file: &str, text: &str) -> Result<(), Error> {
    files::write_text(&format!("{TRACING}/{file}"), text)
}

fn must(file: &str, text: &str) -> Check {
    write(file, text).map_err(|e| format!("writing \"{text}\" to {file}: {e}"))
}

/// Nothing is traced, and nothing is in the buffers.
fn reset() -> Check {
    must("tracing_on", "0")?;
    // A tracer of latencies has the longest one in `trace`, and the buffers behind it: first.
    must("current_tracer", "nop")?;
    must("set_event", "")?;
    must("trace", "")
}

/// A buffer whose meta-page is mapped.
struct Mapped {
    meta: Pages,
    pipe: RawPipe,
}

impl Mapped {
    fn new(cpu: u32) -> Result<Self, Error> {
        let pipe = RawPipe::open(cpu, O_NONBLOCK)?;
        let meta = Pages::map(pipe.fd(), 0, PAGE)?;
        Ok(Mapped { meta, pipe })
    }

    fn meta(&self) -> Result<Meta, String> {
        Meta::load(self.meta.long_words()).ok_or("no meta-page".into())
    }

    fn get_reader(&self) -> Check {
        self.pipe
            .get_reader()
            .map_err(|e| format!("TRACE_MMAP_IOCTL_GET_READER: {e}"))
    }

    /// Maps `bytes` from `offset` on; whether it did.
    fn can_map(&self, offset: usize, bytes: usize) -> Result<(), Error> {
        Pages::map(self.pipe.fd(), offset as u64, bytes).map(drop)
    }
}

fn mapped(cpu: u32) -> Result<Mapped, String> {
    Mapped::new(cpu).map_err(|e| format!("mapping cpu {cpu}: {e}"))
}

/// `map.meta_page_check`.
fn meta_page_check(cpu: u32) -> Check {
    let map = mapped(cpu)?;
    let meta = map.meta()?;
    same(
        "entries, overrun, read",
        (meta.entries, meta.overrun, meta.read),
        (0, 0, 0),
    )?;
    same(
        "reader id, read",
        (meta.reader.id, meta.reader.read),
        (0, 0),
    )?;
    map.get_reader()?;
    same("reader id", map.meta()?.reader.id, 0)?;
    must("tracing_on", "1")?;
    for i in 0..16 {
        must("trace_marker", &format!("{i}"))?;
    }
    for _ in 0..2 {
        map.get_reader()?;
        let meta = map.meta()?;
        same(
            "entries, overrun, read",
            (meta.entries, meta.overrun, meta.read),
            (16, 0, 16),
        )?;
        same("reader id", meta.reader.id, 1)?;
    }
    Ok(())
}

/// `map.data_mmap`.
fn data_mmap(cpu: u32) -> Check {
    let map = mapped(cpu)?;
    let meta = map.meta()?;
    let (head, size) = (meta.meta_page_size as usize, meta.subbuf_size as usize);
    let all = size * meta.nr_subbufs as usize;
    same("all sub-buffers", map.can_map(head, all), Ok(()))?;
    same("all but one", map.can_map(head, all - size), Ok(()))?;
    same(
        "one, from the second on",
        map.can_map(head + size, size),
        Ok(()),
    )?;
    let invalid = Err(Error::from(Errno::EINVAL));
    same(
        "one too many",
        map.can_map(head + 2 * size, all - size),
        invalid,
    )?;
    same("beyond the end", map.can_map(head + all, size), invalid)?;
    same("a page too many", map.can_map(head, all + PAGE), invalid)?;
    if head > PAGE {
        same("from within the padding", map.can_map(PAGE, PAGE), invalid)?;
        same(
            "from within a sub-buffer",
            map.can_map(head + PAGE, PAGE),
            invalid,
        )?;
    }
    // The padding behind the struct.
    let whole = Pages::map(map.pipe.fd(), 0, head).map_err(|e| format!("the meta-page: {e}"))?;
    same(
        "the struct's length",
        meta.meta_struct_len as usize,
        META_LEN,
    )?;
    let padding = &whole.words()[META_LEN / 4..];
    let zero = padding.iter().all(|word| word.load(Ordering::Relaxed) == 0);
    same("the padding is zero", zero, true)
}

/// Who may not map it, and what may not be done with it.
fn refusals(cpu: u32) -> Check {
    let pipe = RawPipe::open(cpu, O_NONBLOCK).map_err(|e| format!("open: {e}"))?;
    let none = Err(Error::from(Errno::ENODEV));
    same("a reader page of no mapping", pipe.get_reader(), none)?;
    same("a meta-page of no mapping", pipe.refresh_meta(), none)?;
    for (what, prot, flags) in [
        ("writable", PROT_READ | PROT_WRITE, MAP_SHARED),
        ("executable", PROT_READ | PROT_EXEC, MAP_SHARED),
        ("private", PROT_READ, MAP_PRIVATE),
    ] {
        let refused = sys::mmap(PAGE, prot, flags, pipe.fd(), 0).map(drop);
        same(what, refused, Err(Errno::EPERM.into()))?;
    }
    same("still no mapping", pipe.get_reader(), none)?;
    // SAFETY: the call is refused; it has no argument.
    let unknown = unsafe { sys::ioctl(pipe.fd(), 0x5222, 0) }.map(drop);
    same("another call", unknown, Err(Errno::ENOTTY.into()))
}

/// While mapped, sizes stay; after it they need not.
fn sizes_excluded_by_map(cpu: u32) -> Check {
    let busy = Err(Error::from(Errno::EBUSY));
    let first = mapped(cpu)?;
    let second = mapped(cpu)?;
    for map in [first, second] {
        same("buffer_size_kb", write("buffer_size_kb", "64"), busy)?;
        same(
            "buffer_subbuf_size_kb",
            write("buffer_subbuf_size_kb", "16"),
            busy,
        )?;
        map.get_reader()?;
        drop(map);
    }
    let size = files::read_text(&format!("{TRACING}/buffer_size_kb"))
        .map_err(|e| format!("buffer_size_kb: {e}"))?;
    must("buffer_size_kb", "64")?;
    must("buffer_size_kb", size.trim())
}

/// `snapshot.excludes_map`.
fn snapshot_excludes_map(cpu: u32) -> Check {
    must(TRIGGER, "snapshot")?;
    let refused = Mapped::new(cpu).map(drop);
    must(TRIGGER, "!snapshot")?;
    same("mapping", refused, Err(Errno::EBUSY.into()))?;
    must("snapshot", "0")
}

/// `snapshot.excluded_by_map`.
fn snapshot_excluded_by_map(cpu: u32) -> Check {
    let busy = Err(Error::from(Errno::EBUSY));
    let map = mapped(cpu)?;
    same("a trigger", write(TRIGGER, "snapshot"), busy)?;
    same("a snapshot", write("snapshot", "1"), busy)?;
    drop(map);
    must("snapshot", "1")?;
    must("snapshot", "0")
}

/// Does `test` with a small buffer, and gives it its size back.
fn in_small_buffer(test: impl FnOnce() -> Check) -> Check {
    let size = files::read_text(&format!("{TRACING}/buffer_size_kb"))
        .map_err(|e| format!("buffer_size_kb: {e}"))?;
    must("buffer_size_kb", "64")?;
    let done = test();
    must("buffer_size_kb", size.trim())?;
    done
}

/// Markers, read in place, from a ring that is too small for all of them.
fn markers_in_place(cpu: u32) -> Check {
    in_small_buffer(|| markers_in_small_place(cpu))
}

fn markers_in_small_place(cpu: u32) -> Check {
    /// Markers of a write.
    const LINES: u64 = 50;
    /// Writes.
    const WRITES: u64 = 150;
    /// After how many writes what is there is read: sometimes too late.
    const READ_AFTER: [u64; 3] = [7, 60, 22];
    let ring = Ring::map(cpu, O_NONBLOCK).map_err(|e| format!("mapping all of it: {e}"))?;
    let mut reader = ring.reader().map_err(|e| format!("{e}"))?;
    must("tracing_on", "1")?;
    let (mut written, mut shown, mut lost) = (0, 0, 0);
    let mut pauses = READ_AFTER.iter().cycle();
    let mut left = 0;
    for _ in 0..WRITES {
        let mut text = String::new();
        for _ in 0..LINES {
            text += &format!("{written:08}\n");
            written += 1;
        }
        must("trace_marker", &text)?;
        if left > 0 && written < LINES * WRITES {
            left -= 1;
            continue;
        }
        left = pauses.next().copied().unwrap_or(0);
        loop {
            ring.pipe()
                .get_reader()
                .map_err(|e| format!("ioctl: {e}"))?;
            let turn = reader.turn().map_err(|e| format!("{e}"))?;
            lost += turn.lost;
            let before = shown;
            while let Some(event) = reader.next().map_err(|e| format!("{e}"))? {
                // ftrace:print: the common fields, ip, then the text.
                let digit = |at| event.record.byte(16 + at).map_or(0, |b| u64::from(b) % 16);
                let number = (0..8usize).fold(0u64, |number, at| 10 * number + digit(at));
                same("a marker", number, shown + lost)?;
                shown += 1;
            }
            if shown == before {
                break;
            }
        }
    }
    same("shown and lost", shown + lost, written)?;
    let meta = reader.meta().map_err(|e| format!("{e}"))?;
    let counted = (meta.entries, meta.overrun, meta.read);
    same("entries, overrun, read", counted, (written, lost, shown))?;
    same("some were lost", lost > 0, true)
}

/// `trace_pipe` with `O_NONBLOCK`: what there is, then `EAGAIN`, and the end where tracing is off.
fn pipe_waits_for_nobody(cpu: u32) -> Check {
    let path = format!("{TRACING}/per_cpu/cpu{cpu}/trace_pipe");
    let fd = sys::open(&path, O_RDONLY | O_NONBLOCK).map_err(|e| format!("open: {e}"))?;
    let mut piece = [0; 256];
    let mut read = || sys::read(fd, &mut piece);
    let nothing = Err(Error::from(Errno::EAGAIN));
    same("of an empty ring", read(), nothing)?;
    must("tracing_on", "1")?;
    must("trace_marker", "here")?;
    same("a marker was read", read().map(|len| len > 0), Ok(true))?;
    same("of a ring that is empty again", read(), nothing)?;
    must("tracing_on", "0")?;
    same("where tracing is off", read(), Ok(0))?;
    let text = core::str::from_utf8(&piece).unwrap_or_default();
    let shown = text.contains("tracing_mark_write: here\n");
    same("the marker is shown", shown, true)?;
    sys::close(fd).map_err(|e| format!("close: {e}"))
}

fn main(args: Args) -> i32 {
    let cpu = match args.get(1).map(str::parse) {
        None => 0,
        Some(Ok(cpu)) if args.len() == 2 => cpu,
        _ => {
            user::eprintln!("usage: map-test [CPU]");
            return 2;
        }
    };
    let here = sys::run_on(cpu).and_then(|()| sys::cpus());
    let elsewhere = match here {
        Ok(cpus) if cpus == 1 << cpu => None,
        Ok(_) => Some("it is on others".into()),
        Err(error) => Some(format!("{error}")),
    };
    if let Some(why) = elsewhere {
        user::eprintln!("map-test: it cannot run on CPU {cpu}, whose buffer it is to map: {why}");
        return 1;
    }
    type Test = (&'static str, fn(u32) -> Check);
    let tests: [Test; 8] = [
        ("map.meta_page_check", meta_page_check),
        ("map.data_mmap", data_mmap),
        ("map.refusals", refusals),
        ("map.sizes_excluded_by_map", sizes_excluded_by_map),
        ("map.markers_in_place", markers_in_place),
        ("pipe.waits_for_nobody", pipe_waits_for_nobody),
        ("snapshot.excludes_map", snapshot_excludes_map),
        ("snapshot.excluded_by_map", snapshot_excluded_by_map),
    ];
    let mut failed = 0;
    let mut number = 0;
    println!("1..{}", 2 * tests.len());
    for kb in [4, 8] {
        for (name, test) in tests {
            number += 1;
            let done = reset()
                .and_then(|()| must("buffer_subbuf_size_kb", &format!("{kb}")))
                .and_then(|()| test(cpu));
            match done {
                Ok(()) => println!("ok {number} {name} at {kb} KiB"),
                Err(why) => {
                    failed += 1;
                    println!("not ok {number} {name} at {kb} KiB: {why}");
                }
            }
        }
    }
    // As it was.
    for (file, text) in [
        ("buffer_subbuf_size_kb", "4"),
        ("trace", ""),
        ("tracing_on", "1"),
    ] {
        if let Err(why) = must(file, text) {
            failed += 1;
            println!("# {why}");
        }
    }
    failed
}
