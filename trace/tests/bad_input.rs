//! What each file of tracefs answers to bad input: the error that Linux's answers with, and nothing has changed.
//!
//! The answers are those of `kernel/trace/*.c`, `lib/kstrtox.c` and `lib/bitmap-str.c` of Linux: see the functions named below.

use std::sync::OnceLock;
use trace::fs::{Kind, TraceFs};
use trace::testing::TestPlatform;
use trace::{Config, Errno, Tracer};

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// A task begins.
        event sched:fork(child: i32, comm: str) {
            print("child=%d comm=%s", child, comm)
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| TestPlatform::new(8).tracer(events::ALL)))
}

use Errno::{EBADF, EINVAL, ENOMEM, EOVERFLOW, ERANGE};

/// Bytes that are no number, whoever asks, and no name of anything.
const NONSENSE: &[&[u8]] = &[
    b"\n",
    b" ",
    b"x",
    b"-",
    b"+",
    b"\0",
    b"\0\x31",
    b"\xff\xfe",
    b"1.5",
    b"1 1",
    b"nothing\0",
    b"\x1b[31m",
];

/// Numbers as `kstrtoul_from_user` with base 10 refuses them.
const NO_NUMBERS: &[(&[u8], Errno)] = &[
    (b"-1", EINVAL),
    (b"-0", EINVAL),
    (b"0x1", EINVAL),
    (b" 1", EINVAL),
    (b"1 ", EINVAL),
    (b"1\n\n", EINVAL),
    (b"1\t", EINVAL),
    (b"18446744073709551616", ERANGE),
    (b"99999999999999999999999999", ERANGE),
];

/// Every file's text, but those that change by themselves.
fn everything(fs: &TraceFs<'_, TestPlatform>, path: &str, out: &mut String) {
    for entry in fs.list(path).unwrap() {
        let path = match path {
            "" => entry.name,
            dir => format!("{dir}/{}", entry.name),
        };
        if entry.kind == Kind::Dir {
            everything(fs, &path, out);
        } else if fs.kind(&path).unwrap().1
            && fs.pipe(&path).unwrap().is_none()
            // These say what was refused; `stats` says what the time is.
            && !path.ends_with("error_log")
            && !path.ends_with("/filter")
            && !path.ends_with("/stats")
        {
            out.push_str(&format!("{path}:\n"));
            fs.read(&path, out).unwrap();
        }
    }
}

#[test]
fn bad_input_is_answered_as_linux_does_and_changes_nothing() {
    let tracer = tracer_of_this_test().unwrap();
    let fs = TraceFs(tracer);
    tracer.platform().set_cpu(0);
    tracer.create_instance("foo").unwrap();
    for (path, text) in [
        ("set_event", "sched:fork"),
        ("set_event_pid", "7 8"),
        ("set_event_notrace_pid", "9"),
        ("events/sched/fork/filter", "child == 3"),
        ("events/sched/fork/trigger", "traceoff:5 if child == 4"),
        ("events/ftrace/print/trigger", "hist:keys=common_pid"),
        ("trace_marker", "here"),
        ("snapshot", "1"),
        ("trace_marker", "and here"),
    ] {
        fs.write(path, text.as_bytes(), true).unwrap();
    }
    events::fork(1, "");

    let mut cases: Vec<(&str, Vec<u8>, Errno)> = Vec::new();
    // Files that take a number: rb_simple_write, tracing_entries_write, tracing_snapshot_write, buffer_percent_write,
    // buffer_subbuf_size_write, tracing_saved_cmdlines_size_write, trace_options_core_write, event_enable_write,
    // system_enable_write.
    let numbers = [
        "tracing_on",
        "buffer_size_kb",
        "per_cpu/cpu1/buffer_size_kb",
        "snapshot",
        "per_cpu/cpu0/snapshot",
        "buffer_percent",
        "buffer_subbuf_size_kb",
        "saved_cmdlines_size",
        "options/overwrite",
        "events/enable",
        "events/sched/enable",
        "events/sched/fork/enable",
        "instances/foo/tracing_on",
        "instances/foo/buffer_size_kb",
    ];
    for file in numbers {
        for nonsense in NONSENSE {
            cases.push((file, nonsense.to_vec(), EINVAL));
        }
        for (text, errno) in NO_NUMBERS {
            cases.push((file, text.to_vec(), *errno));
        }
        // Of a long text the front alone is looked at, as in Linux: nonsense stays nonsense.
        cases.push((file, vec![b'z'; 5000], EINVAL));
        cases.push((file, vec![b'9'; 5000], ERANGE));
    }
    for (file, text, errno) in [
        // Out of range.
        ("buffer_size_kb", "0", EINVAL),
        ("buffer_size_kb", "18446744073709551615", ENOMEM),
        ("buffer_size_kb", "99999999", ENOMEM),
        ("per_cpu/cpu0/buffer_size_kb", "99999999", ENOMEM),
        ("buffer_percent", "101", EINVAL),
        ("buffer_subbuf_size_kb", "0", EINVAL),
        ("buffer_subbuf_size_kb", "1000", EINVAL),
        ("buffer_subbuf_size_kb", "18446744073709551615", EINVAL),
        ("saved_cmdlines_size", "0", EINVAL),
        ("saved_cmdlines_size", "32769", EINVAL),
        ("options/overwrite", "2", EINVAL),
        ("events/enable", "2", EINVAL),
        ("events/sched/enable", "2", EINVAL),
        ("events/sched/fork/enable", "2", EINVAL),
        ("per_cpu/cpu0/snapshot", "0", EINVAL),
        // Names: set_tracer_option, tracing_set_clock, tracing_set_trace_write, ftrace_set_clr_event.
        ("trace_options", "nothing", EINVAL),
        ("trace_options", "no", EINVAL),
        ("trace_options", "overwrite x", EINVAL),
        ("trace_clock", "sundial", EINVAL),
        ("trace_clock", "loca", EINVAL),
        ("trace_clock", "[local]", EINVAL),
        ("current_tracer", "function", EINVAL),
        ("set_event", "nothing", EINVAL),
        ("set_event", "sched:nothing", EINVAL),
        ("set_event", "sched:fork nothing", EINVAL),
        ("set_event", "!nothing", EINVAL),
        ("set_event", "sched:fork:more", EINVAL),
        // trace_pid_write: whatever is wrong with a number, and all or nothing.
        ("set_event_pid", "x", EINVAL),
        ("set_event_pid", "-1", EINVAL),
        ("set_event_pid", "5 x", EINVAL),
        ("set_event_pid", "1073741824", EINVAL),
        ("set_event_pid", "99999999999999999999", EINVAL),
        ("set_event_notrace_pid", "5 08", EINVAL),
        // tracing_cpumask_write, bitmap_parse.
        ("tracing_cpumask", "x", EINVAL),
        ("tracing_cpumask", "\n", EINVAL),
        ("tracing_cpumask", "-1", EINVAL),
        ("tracing_cpumask", "1,,1", EINVAL),
        ("tracing_cpumask", "4", EOVERFLOW),
        ("tracing_cpumask", "1,0", EOVERFLOW),
        ("tracing_cpumask", "123456789", EOVERFLOW),
        // event_filter_write, event_trigger_regex_write.
        ("events/sched/fork/filter", "\n", EINVAL),
        ("events/sched/fork/filter", "child", EINVAL),
        ("events/sched/fork/filter", "nothing == 1", EINVAL),
        ("events/sched/filter", "nothing == 1", EINVAL),
        ("events/sched/fork/trigger", "nothing", EINVAL),
        ("events/sched/fork/trigger", "traceoff:x", EINVAL),
        ("events/sched/fork/trigger", "traceoff if", EINVAL),
        ("events/sched/fork/trigger", "hist:", EINVAL),
        ("events/sched/fork/trigger", "hist:keys=nothing", EINVAL),
        ("events/sched/fork/trigger", "enable_event:x:y", EINVAL),
        ("events/sched/fork/trigger", "enable_hist:x:y", EINVAL),
        (
            "events/sched/fork/trigger",
            "enable_hist:sched:fork:x",
            EINVAL,
        ),
        ("events/ftrace/print/trigger", "hist:keys=nothing", EINVAL),
        // tracing_mark_raw_write.
        ("trace_marker_raw", "abc", EINVAL),
        // Files that are read only.
        ("README", "1", EINVAL),
        ("available_events", "1", EINVAL),
        ("available_tracers", "1", EINVAL),
        ("buffer_total_size_kb", "1", EINVAL),
        ("timestamp_mode", "1", EINVAL),
        ("saved_cmdlines", "1", EINVAL),
        ("printk_formats", "1", EINVAL),
        ("events/header_page", "1", EINVAL),
        ("events/foreign_formats", "1", EINVAL),
        ("events/sched/fork/format", "1", EINVAL),
        ("events/sched/fork/id", "1", EINVAL),
        ("events/sched/fork/hist", "1", EINVAL),
        ("events/ftrace/print/format", "1", EINVAL),
        ("per_cpu/cpu0/stats", "1", EINVAL),
        ("trace_pipe", "1", EINVAL),
        ("per_cpu/cpu0/trace_pipe_raw", "1", EINVAL),
    ] {
        cases.push((file, text.as_bytes().to_vec(), errno));
    }
    for file in ["trace_options", "trace_clock", "current_tracer"] {
        for nonsense in NONSENSE {
            cases.push((file, nonsense.to_vec(), EINVAL));
        }
        cases.push((file, vec![b'z'; 5000], EINVAL));
    }
    // 64 bytes are too many, although white space is taken off.
    let padded = |text: &str| format!("{text:<64}").into_bytes();
    cases.push(("trace_options", padded("overwrite"), EINVAL));
    cases.push(("trace_clock", padded("counter"), EINVAL));
    for file in ["set_event", "set_event_pid", "tracing_cpumask"] {
        cases.push((file, vec![b'z'; 5000], EINVAL));
        cases.push((file, b"\xff\xfe".to_vec(), EINVAL));
    }
    // Words of a list have at most 127 bytes.
    cases.push(("set_event_pid", vec![b'0'; 128], EINVAL));
    // A page is too much.
    for file in [
        "events/sched/fork/filter",
        "events/sched/filter",
        "events/sched/fork/trigger",
        "events/ftrace/print/trigger",
    ] {
        let mut text = b"child == 3".to_vec();
        text.resize(4096, b' ');
        cases.push((file, text, EINVAL));
        cases.push((file, b"\xff\xfe".to_vec(), EINVAL));
    }
    cases.push(("trace_marker_raw", vec![b'X'; 4090], EINVAL));

    let mut before = String::new();
    everything(&fs, "", &mut before);
    for (file, data, errno) in &cases {
        for truncate in [false, true] {
            let answer = fs.write(file, data, truncate);
            let shown = String::from_utf8_lossy(&data[..data.len().min(40)]).into_owned();
            assert_eq!(answer, Err(*errno), "{shown:?} > {file} ({truncate})");
            let mut after = String::new();
            everything(&fs, "", &mut after);
            assert!(after == before, "{shown:?} > {file} changed something");
        }
    }
    // The filters that were there are in force.
    assert_eq!(
        tracer.filter_text(&events::fork::DESC).as_deref(),
        Some("child == 3")
    );

    // tracing_mark_write: while nothing is recorded, on any CPU or on this.
    fs.write("tracing_on", b"0", true).unwrap();
    assert_eq!(fs.write("trace_marker", b"x", false), Err(EBADF));
    assert_eq!(fs.write("trace_marker_raw", b"xxxx", false), Err(EBADF));
    fs.write("tracing_on", b"1", true).unwrap();
    fs.write("tracing_cpumask", b"2", true).unwrap();
    assert_eq!(fs.write("trace_marker", b"x", false), Err(EBADF));
    assert_eq!(fs.write("trace_marker_raw", b"xxxx", false), Err(EBADF));
    tracer.platform().set_cpu(1);
    fs.write("trace_marker", b"x", false).unwrap();
    tracer.platform().set_cpu(0);
    fs.write("tracing_cpumask", b"3", true).unwrap();
    fs.write("options/markers", b"0", true).unwrap();
    assert_eq!(fs.write("trace_marker", b"x", false), Err(EINVAL));
    assert_eq!(fs.write("trace_marker_raw", b"xxxx", false), Err(EINVAL));
}

/// Opening a file as by `>` and writing nothing: only what `O_TRUNC` does.
#[test]
fn nothing_written_is_nothing_wrong() {
    mod own {
        trace::define_events! {
            tracer = crate::tracer_of_this_test;
            /// Stays.
            event own:event(a: u32) { print("a=%u", a) }
        }
    }
    let config = Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    let tracer = Tracer::new(TestPlatform::new(4), config, own::ALL).unwrap();
    let fs = TraceFs(&tracer);
    let read = |path: &str| {
        let mut text = String::new();
        fs.read(path, &mut text).unwrap();
        text
    };
    for (path, text) in [
        ("set_event", "own:event"),
        ("set_event_pid", "7 8"),
        ("buffer_size_kb", "64"),
        ("events/own/event/filter", "a == 3"),
        ("events/own/event/trigger", "traceoff"),
    ] {
        fs.write(path, text.as_bytes(), true).unwrap();
    }
    fs.write("events/own/event/trigger", b"hist:keys=a", false)
        .unwrap();
    fs.write("trace_marker", b"here", true).unwrap();
    for file in [
        "tracing_on",
        "buffer_size_kb",
        "trace_clock",
        "trace_options",
        "current_tracer",
        "snapshot",
        "tracing_cpumask",
        "saved_cmdlines_size",
        "events/enable",
        "events/own/event/filter",
        "trace_marker",
        "trace_marker_raw",
        "options/overwrite",
    ] {
        let readable = fs.kind(file).unwrap().1;
        let before = readable.then(|| read(file));
        fs.write(file, b"", true).unwrap();
        assert_eq!(readable.then(|| read(file)), before, "{file}");
    }
    assert!(read("trace").contains("here"));
    fs.write("trace", b"", true).unwrap();
    assert!(!read("trace").contains("here"));
    assert_eq!(read("set_event_pid"), "7\n8\n");
    fs.write("set_event_pid", b"", true).unwrap();
    assert_eq!(read("set_event_pid"), "");
    fs.write("set_event", b"", true).unwrap();
    assert_eq!(read("set_event"), "");
    fs.write("events/own/event/trigger", b"", true).unwrap();
    assert_eq!(read("events/own/event/trigger"), "traceoff:unlimited\n");
    // Not a word of no bytes, but a write of none.
    assert_eq!(fs.write("tracing_on", b"", false), Err(EINVAL));
    assert_eq!(fs.write("tracing_cpumask", b"", false), Err(EINVAL));
}
