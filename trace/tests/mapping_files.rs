//! `trace_pipe_raw` as an open file that is mapped; and what its reader makes of the events.

mod mapped;

use mapped::Mapped;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use trace::event::EventDesc;
use trace::fs::raw::{Access, Mapping, RawFile};
use trace::fs::{Next, TraceFs};
use trace::mapped::format::{Format, FormatError};
use trace::mapped::{Line, MappedReader};
use trace::meta::{GET_READER, Meta, REFRESH_META};
use trace::platform::Context;
use trace::testing::TestPlatform;
use trace::{Errno, TraceError, Tracer};

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// All kinds of fields.
        event test:everything(a: u8, b: i64, comm: [char; 16], list: [u16; 3], on: bool, x: u32, late: str, more: [u32]) {
            print("a=%u b=%lld comm=%s list=%s on=%d x=%#06x late=\"%s\" more=%s", a, b, comm, list, on, x, late, more)
        }

        /// Addresses, and what is made of values.
        event test:made(ptr: ptr, site: const_ptr, from: ulong, to: ulong, flags: u32, args: [ulong; 2]) {
            print("ptr=%p site=%pS took=%ld %s%s %s cpu=%u (%lx)", ptr, site, to - from,
                flags & 0xf | { 1 => "S", 2 => "D" } else "R", flags & 0x10 ? "+" : "", flags { 1 => "ONE" }, flags >> 4, args[1])
        }

        /// A system call starts.
        event test:sys_enter_write(__syscall_nr: i32, fd: (arg UInt), buf: (arg ConstChars), count: (arg Size)) {
            print("fd: 0x%08lx, buf: 0x%08lx, count: 0x%08lx", fd, buf, count)
        }

        /// It ends.
        event test:sys_exit_write(__syscall_nr: i32, ret: long) {
            print("0x%lx", ret)
        }

        /// With a negative number.
        event test:small(a: i16, b: i32) {
            print("a=%d b=%d", a, b)
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| TestPlatform::new(8).tracer(events::ALL)))
}

type Fs = TraceFs<'static, TestPlatform>;

/// The tracer, for one test at a time, as it is after a start.
fn setup() -> (MutexGuard<'static, ()>, Fs, TestPlatform) {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tracer = tracer_of_this_test().unwrap();
    let fs = TraceFs(tracer);
    let platform = *tracer.platform();
    platform.set_cpu(0);
    platform.set_step(10);
    for (path, text) in [
        ("tracing_on", "1"),
        ("events/enable", "0"),
        ("buffer_subbuf_size_kb", "4"),
        ("buffer_size_kb", "16"),
        ("buffer_percent", "50"),
        ("snapshot", "0"),
        ("trace", ""),
    ] {
        fs.put(path, text).unwrap();
    }
    (guard, fs, platform)
}

fn open(fs: &Fs, path: &str) -> RawFile<'static, TestPlatform> {
    fs.raw(path).unwrap().expect("trace_pipe_raw")
}

const RAW: &str = "per_cpu/cpu0/trace_pipe_raw";
const READ: Access = Access {
    write: false,
    exec: false,
    shared: true,
};

fn map(file: &RawFile<'static, TestPlatform>) -> Mapping<'static, TestPlatform> {
    file.map(0, 4096, READ).unwrap()
}

/// All of it, at sub-buffers of 4 KiB.
fn map_all(
    file: &RawFile<'static, TestPlatform>,
    platform: TestPlatform,
) -> (Mapping<'static, TestPlatform>, Mapped) {
    let meta = map(file);
    let meta_page = mapped::page(platform, meta.pages()[0]);
    let nr_subbufs = Meta::load(meta_page).unwrap().nr_subbufs;
    let all = file.map(0, 4096 * u64::from(1 + nr_subbufs), READ).unwrap();
    let mapped = Mapped::new(platform, all.pages(), 0);
    (all, mapped)
}

#[test]
fn only_what_is_read_and_shared_can_be_mapped() {
    let (_guard, fs, _) = setup();
    let file = open(&fs, RAW);
    for (write, exec, shared) in [
        (true, false, true),
        (false, true, true),
        (false, false, false),
    ] {
        let access = Access {
            write,
            exec,
            shared,
        };
        assert_eq!(file.map(0, 4096, access).err(), Some(Errno::EPERM));
    }
    let meta_and_data = 4096 * (1 + 5);
    assert_eq!(file.map(0, meta_and_data, READ).unwrap().pages().len(), 6);
    assert_eq!(file.map(0, 1, READ).unwrap().pages().len(), 1);
    for (offset, len) in [
        (0, 0),
        (0, meta_and_data + 1),
        (4096, meta_and_data),
        (meta_and_data, 4096),
        (1, 4096),
        (4095, 1),
        (u64::MAX - 4095, 4096),
        (0, u64::MAX),
    ] {
        assert_eq!(
            file.map(offset, len, READ).err(),
            Some(Errno::EINVAL),
            "{offset} {len}"
        );
    }
    // Nothing was left behind by all that.
    assert_eq!(file.ioctl(GET_READER), Err(Errno::ENODEV));
    fs.put("buffer_size_kb", "20").unwrap();
    for other in ["trace", "per_cpu/cpu0/trace_pipe", "per_cpu"] {
        assert!(fs.raw(other).unwrap().is_none());
    }
    assert_eq!(
        fs.raw("per_cpu/cpu2/trace_pipe_raw").err(),
        Some(Errno::ENOENT)
    );
}

#[test]
fn the_calls_need_a_mapping_and_there_are_no_others() {
    let (_guard, fs, _) = setup();
    let file = open(&fs, RAW);
    for call in [GET_READER, REFRESH_META] {
        assert_eq!(file.ioctl(call), Err(Errno::ENODEV));
        assert!(!file.waits(call));
    }
    let mapping = map(&file);
    // A mapping of one file serves any other of the same CPU, and no other CPU.
    let second = open(&fs, RAW);
    assert_eq!(second.ioctl(GET_READER), Ok(()));
    assert_eq!(second.ioctl(REFRESH_META), Ok(()));
    assert!(second.waits(GET_READER) && !second.waits(REFRESH_META));
    assert_eq!(
        open(&fs, "per_cpu/cpu1/trace_pipe_raw").ioctl(GET_READER),
        Err(Errno::ENODEV)
    );
    assert_eq!(second.ioctl(0), Ok(()));
    for call in [1, 0x5222, 0x521f, u32::MAX] {
        assert_eq!(second.ioctl(call), Err(Errno::ENOTTY));
    }
    // It stays when the file is closed.
    drop(file);
    assert_eq!(second.ioctl(GET_READER), Ok(()));
    drop(mapping);
    assert_eq!(second.ioctl(GET_READER), Err(Errno::ENODEV));
}

#[test]
fn while_mapped_sizes_and_snapshots_are_busy() {
    let (_guard, fs, platform) = setup();
    // Far more than a smaller buffer would hold.
    for i in 0..1000 {
        fs.put("trace_marker", &format!("{i}")).unwrap();
    }
    let free = platform.memory.free_pages_left();
    let file = open(&fs, "per_cpu/cpu1/trace_pipe_raw");
    let (first, second) = (map(&file), map(&file));
    drop(file);
    let stats = tracer_of_this_test().unwrap().top().stats(0);
    for mapping in [first, second] {
        // One CPU's mapping holds all of its instance: nothing is changed on the way to the refusal.
        for (path, text) in [
            ("buffer_size_kb", "8"),
            ("buffer_size_kb", "64"),
            ("per_cpu/cpu1/buffer_size_kb", "64"),
            ("buffer_subbuf_size_kb", "8"),
            ("snapshot", "1"),
            ("per_cpu/cpu0/snapshot", "1"),
            ("per_cpu/cpu1/snapshot", "1"),
            ("events/test/small/trigger", "snapshot"),
            ("events/test/small/trigger", "snapshot:1 if a > 3"),
        ] {
            assert_eq!(fs.put(path, text), Err(Errno::EBUSY), "{path}");
        }
        assert_eq!(tracer_of_this_test().unwrap().top().stats(0), stats);
        assert!(!tracer_of_this_test().unwrap().top().snapshot_allocated());
        // What is in nobody's way goes on.
        fs.put("per_cpu/cpu0/buffer_size_kb", "16").unwrap();
        fs.put("buffer_subbuf_size_kb", "4").unwrap();
        fs.put("snapshot", "0").unwrap();
        fs.put("snapshot", "2").unwrap();
        fs.put("events/test/small/trigger", "traceoff").unwrap();
        fs.put("events/test/small/trigger", "!traceoff").unwrap();
        fs.put("per_cpu/cpu1/trace", "").unwrap();
        drop(mapping);
    }
    assert_eq!(platform.memory.free_pages_left(), free);
    fs.put("buffer_size_kb", "20").unwrap();
    fs.put("snapshot", "1").unwrap();
    fs.put("buffer_subbuf_size_kb", "8").unwrap();
}

#[test]
fn while_a_trigger_may_take_a_snapshot_nothing_is_mapped() {
    let (_guard, fs, _) = setup();
    let file = open(&fs, RAW);
    fs.put("events/test/small/trigger", "snapshot").unwrap();
    assert_eq!(file.map(0, 4096, READ).err(), Some(Errno::EBUSY));
    assert_eq!(file.ioctl(GET_READER), Err(Errno::ENODEV));
    fs.put("events/test/small/trigger", "!snapshot").unwrap();
    // A snapshot that was taken is in nobody's way.
    fs.put("snapshot", "1").unwrap();
    drop(map(&file));
    fs.put("snapshot", "0").unwrap();
    // Another instance has its own.
    fs.mkdir("instances/other").unwrap();
    fs.put("instances/other/events/test/small/trigger", "snapshot")
        .unwrap();
    drop(map(&file));
    fs.put("instances/other/events/test/small/trigger", "!snapshot")
        .unwrap();
    fs.rmdir("instances/other").unwrap();
}

#[test]
fn a_mapping_keeps_its_instance() {
    let (_guard, fs, platform) = setup();
    let free = platform.memory.free_pages_left();
    fs.mkdir("instances/mine").unwrap();
    let file = open(&fs, "instances/mine/per_cpu/cpu0/trace_pipe_raw");
    let mapping = map(&file);
    drop(file);
    assert_eq!(fs.rmdir("instances/mine"), Err(Errno::EBUSY));
    drop(mapping);
    fs.rmdir("instances/mine").unwrap();
    assert_eq!(platform.memory.free_pages_left(), free);
}

/// `read` copies, whether mapped or not; a file is ready when as much is there as `buffer_percent` asks for.
#[test]
fn reading_goes_on_and_uses_up_what_the_mapping_would_show() {
    let (_guard, fs, platform) = setup();
    let mut file = open(&fs, RAW);
    let (_mapping, mapped) = map_all(&file, platform);
    fs.put("buffer_percent", "0").unwrap();
    assert!(!file.ready());
    let mut bytes = Vec::new();
    assert_eq!(file.next(&mut bytes), Ok(Next::Wait));
    for i in 0..5 {
        fs.put("trace_marker", &format!("{i}")).unwrap();
    }
    assert!(file.ready());
    assert_eq!(file.next(&mut bytes), Ok(Next::Data));
    assert_eq!(trace::page::check(&bytes).unwrap().events, 5);
    assert!(!file.ready());
    file.ioctl(GET_READER).unwrap();
    let meta = Meta::load(mapped.meta).unwrap();
    assert_eq!((meta.entries, meta.read), (5, 5));
    fs.put("buffer_percent", "100").unwrap();
    fs.put("trace_marker", "6").unwrap();
    assert!(!file.ready());
    // With nothing more to come, nobody waits for more.
    fs.put("tracing_on", "0").unwrap();
    assert!(file.ready());
}

fn format_of(fs: &Fs, path: &str) -> Format {
    let mut text = String::new();
    fs.read(path, &mut text).unwrap();
    Format::parse(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What a user program does: reads the formats, maps the ring, decodes in place.
#[test]
fn events_are_decoded_where_they_lie_by_their_format_files() {
    let (_guard, fs, platform) = setup();
    let all: &[&EventDesc] = events::ALL;
    let mut formats = HashMap::new();
    for event in all {
        let path = format!("events/{}/{}/format", event.system, event.name);
        let format = format_of(&fs, &path);
        assert_eq!((format.id, format.name.as_str()), (event.id(), event.name));
        assert_eq!(format.fields.len(), 4 + event.fields.len());
        formats.insert(format.id, format);
    }
    for own in ["print", "raw_data", "kernel_stack"] {
        let format = format_of(&fs, &format!("events/ftrace/{own}/format"));
        formats.insert(format.id, format);
    }
    let file = open(&fs, RAW);
    let (_mapping, mapped) = map_all(&file, platform);
    let subs: &'static [_] = mapped.subs.clone().leak();
    let mut reader = MappedReader::new(mapped.meta, subs).unwrap();
    fs.put("events/test/enable", "1").unwrap();
    let comm = "a\x1bbc\n";
    events::everything(200, -5, comm, [1, 2, 0xffff], true, 7, "text", &[9, 10]);
    events::small(-3, i32::MIN);
    fs.put("trace_marker", "a mark").unwrap();
    fs.write("trace_marker_raw", b"\x2a\0\0\0abcd", true)
        .unwrap();
    fs.put("events/test/small/trigger", "stacktrace").unwrap();
    events::small(0, 1);
    fs.put("events/test/small/trigger", "!stacktrace").unwrap();
    platform.set_context(Context {
        irqs_off: true,
        need_resched: true,
        in_hardirq: true,
        preempt_count: 2,
        pid: 1,
        ..Context::default()
    });
    events::sys_enter_write(1, 2, 0x1000, 10);
    events::sys_exit_write(1, -14);
    for flags in [0, 1, 0x13] {
        events::made(u64::MAX, 0x1234, 9, 4, flags, [1, 0xabc]);
    }
    platform.set_context(Context::default());
    // What the kernel makes of them all.
    let mut trace = String::new();
    fs.read("trace", &mut trace).unwrap();
    let trace: Vec<&str> = trace
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    file.ioctl(GET_READER).unwrap();
    assert_eq!(reader.turn().unwrap().lost, 0);
    let line = Line {
        cpu: 0,
        in_ns: true,
    };
    let mut printed = String::new();
    let mut lines = Vec::new();
    let mut last = 0;
    while let Some(event) = reader.next().unwrap() {
        assert!(event.ts >= last);
        last = event.ts;
        let id = event.record.unsigned(0, 2).unwrap() as u16;
        let format = &formats[&id];
        assert_eq!(
            format.field("common_pid").unwrap().number(event.record),
            Some(event.record.common().unwrap().pid.into())
        );
        let pid = event.record.common().unwrap().pid;
        let task = if pid == 1 { "init" } else { "<idle>" };
        line.write(&event, Some(format), task, &mut printed)
            .unwrap();
        let mut text = format!("{}: ", format.name);
        format.write(event.record, &mut text).unwrap();
        lines.push(text);
    }
    assert_eq!(
        lines[..6],
        [
            "everything: a=200 b=-5 comm=a?bc\\n list={0x1,0x2,0xffff} on=1 x=7 late=text more={0x9,0xa}",
            "small: a=-3 b=-2147483648",
            "print: ip=0 buf=a mark\\n",
            "raw_data: id=42 buf=abcd",
            "small: a=0 b=1",
            "kernel_stack: size=2 caller={0x1000,0x2000}",
        ]
    );
    assert_eq!(printed.lines().collect::<Vec<_>>(), trace);
    let (place, text) = printed
        .lines()
        .next_back()
        .unwrap()
        .split_once(':')
        .unwrap();
    assert!(
        place.starts_with("            init-1       [000] dNh2. "),
        "{place}"
    );
    assert_eq!(
        text,
        " made: ptr=ffffffffffffffff site=0x1234 took=-5 S|D+ 0x13 cpu=1 (abc)"
    );
}

#[test]
fn a_wrong_format_is_told_by_its_line() {
    let parse = |text: &str| Format::parse(text);
    let line = "\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n";
    let good = format!("name: x\nID: 3\nformat:\n{line}\nprint fmt: \"field:\"\n");
    assert_eq!(parse(&good).unwrap().fields.len(), 1);
    assert_eq!(parse(""), Err(FormatError(0)));
    assert_eq!(parse("name: x\n"), Err(FormatError(0)));
    assert_eq!(
        parse(&good.replace("ID: 3", "ID: 70000")),
        Err(FormatError(2))
    );
    for (from, to) in [
        ("offset:8", "offset:"),
        ("offset:8;", ""),
        ("size:4", "size:-4"),
        ("signed:1", "signed:x"),
        ("int a", "a"),
        ("int a", "strange a[]"),
        ("int a", "int a[2"),
    ] {
        assert_eq!(parse(&good.replace(from, to)), Err(FormatError(4)), "{to}");
    }
    // Fields that are not in the record are not read, wherever they say that they are.
    let far = good.replace("offset:8", &format!("offset:{}", usize::MAX));
    let far = parse(&far).unwrap();
    let words = [const { core::sync::atomic::AtomicU32::new(0) }; 4];
    let mut text = String::new();
    far.write(trace::mapped::Record::new(&words), &mut text)
        .unwrap();
    assert_eq!(text, "a=?");
    let max = usize::MAX;
    for declared in [
        format!("int a;\toffset:8;\tsize:{max};"),
        format!("int a[2];\toffset:{max};\tsize:{max};"),
        format!("int a[];\toffset:{max};\tsize:0;"),
        format!("char a[4];\toffset:{max};\tsize:{max};"),
        format!("__data_loc int[] a;\toffset:{max};\tsize:4;"),
        "__data_loc char[] a;\toffset:14;\tsize:4;".to_string(),
    ] {
        let text = good.replace("int a;\toffset:8;\tsize:4;", &declared);
        let mut out = String::new();
        let format = parse(&text).unwrap();
        format
            .write(trace::mapped::Record::new(&words), &mut out)
            .unwrap();
        assert!(out.contains('?') || out == "a={}", "{declared}: {out}");
    }
}

#[test]
fn the_errors_say_what_is_wrong() {
    let range = TraceError::MapRange {
        offset: 1,
        pages: 2,
        of: 6,
    };
    for (error, errno, text) in [
        (
            TraceError::Mapped,
            Errno::EBUSY,
            "a reader has the trace buffer mapped",
        ),
        (
            TraceError::NotMapped,
            Errno::ENODEV,
            "nobody has the trace buffer mapped",
        ),
        (
            TraceError::SnapshotArmed,
            Errno::EBUSY,
            "a trigger may take a snapshot of the trace buffer at any time",
        ),
        (
            range,
            Errno::EINVAL,
            "a mapping of 2 pages from page 1 on does not begin at a sub-buffer, or goes beyond the 6 pages that there are",
        ),
    ] {
        assert_eq!(error.to_string(), text);
        assert_eq!(Errno::from(error), errno);
    }
}
