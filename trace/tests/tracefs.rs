//! The files of tracefs: their text as Linux prints it, and what they answer to good and bad input.

use proptest::prelude::*;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use trace::fs::{Kind, TraceFs};
use trace::testing::TestPlatform;
use trace::{Context, Errno, Tracer};

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// A handler begins.
        event irq:irq_handler_entry(irq: i32, name: str) {
            print("irq=%d name=%s", irq, name)
        }

        /// A handler ends.
        event irq:irq_handler_exit(irq: i32, ret: i32) {
            print("irq=%d ret=%s", irq, ret { 0 => "unhandled", 1 => "handled" })
        }

        /// All kinds of fields.
        event test:everything(a: u8, b: i64, comm: [char; 16], list: [u16; 3], on: bool, x: u32, late: str) {
            print("a=%u b=%lld comm=%s list=%s on=%d x=%#06x 100%% late=\"%s\"", a, b, comm, list, on, x, late)
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| {
        let platform = TestPlatform::new(4);
        platform.tracer(events::ALL)
    }))
}

/// The tracer, for one test at a time, as it is after a start.
fn setup() -> (
    MutexGuard<'static, ()>,
    TraceFs<'static, TestPlatform>,
    TestPlatform,
) {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tracer = tracer_of_this_test().unwrap();
    let fs = TraceFs(tracer);
    let platform = *tracer.platform();
    platform.set_cpu(0);
    platform.set_step(0);
    platform.set_context(Context::default());
    fs.write("tracing_on", b"1", true).unwrap();
    fs.write("trace_clock", b"local", true).unwrap();
    fs.write("events/enable", b"0", true).unwrap();
    fs.write("buffer_size_kb", b"16", true).unwrap();
    fs.write("trace", b"", true).unwrap();
    (guard, fs, platform)
}

const EMPTY: &str = "\
# tracer: nop
#
# entries-in-buffer/entries-written: 0/0   #P:2
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
";

/// The lines after the header.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with("# ") && *line != "#")
        .filter(|l| !l.starts_with("#  "))
        .collect()
}

#[test]
fn trace_is_linux_text() {
    let (_guard, fs, platform) = setup();
    assert_eq!(fs.text("trace"), EMPTY);
    fs.write("set_event", b"*:*", true).unwrap();
    platform.set_ns(1_234_567_891_999);
    events::irq_handler_entry(4, "uart");
    platform.set_cpu(1);
    platform.set_ns(1_234_567_893_000);
    platform.set_context(Context {
        pid: 1,
        irqs_off: true,
        in_hardirq: true,
        need_resched: true,
        preempt_count: 0x21,
        ..Context::default()
    });
    events::irq_handler_exit(4, 1);
    platform.set_cpu(0);
    platform.set_context(Context {
        pid: 4711,
        in_softirq: true,
        ..Context::default()
    });
    platform.set_ns(1_234_567_894_000);
    events::everything(
        7,
        -5,
        "a-name-too-long-for-16",
        [1, 2, 0xffff],
        true,
        0x2a,
        "end",
    );
    fs.write("trace_marker", b"hello\n", false).unwrap();
    let text = fs.text("trace");
    let head = EMPTY.replace("0/0", "4/4");
    assert_eq!(
        text,
        head + "          <idle>-0       [000] .....  1234.567891: irq_handler_entry: irq=4 name=uart
            init-1       [001] dNh12  1234.567893: irq_handler_exit: irq=4 ret=handled
           <...>-4711    [000] ..s..  1234.567894: everything: a=7 b=-5 comm=a-name-too-long list={0x1,0x2,0xffff} on=1 x=0x002a 100% late=\"end\"
           <...>-4711    [000] ..s..  1234.567894: tracing_mark_write: hello
"
    );
    assert_eq!(lines(&fs.text("per_cpu/cpu1/trace")).len(), 1);
    // Reading consumes nothing; a write without truncation clears nothing; one with it clears.
    assert_eq!(lines(&fs.text("trace")).len(), 4);
    fs.write("trace", b"x", false).unwrap();
    assert_eq!(lines(&fs.text("trace")).len(), 4);
    fs.write("per_cpu/cpu0/trace", b"", true).unwrap();
    assert_eq!(lines(&fs.text("trace")).len(), 1);
    fs.write("trace", b"\n", true).unwrap();
    assert_eq!(fs.text("trace"), EMPTY);
}

#[test]
fn format_files() {
    let (_guard, fs, _) = setup();
    let id = fs.text("events/irq/irq_handler_entry/id");
    assert_eq!(
        fs.text("events/irq/irq_handler_entry/format"),
        format!(
            "name: irq_handler_entry
ID: {id}format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int irq;\toffset:8;\tsize:4;\tsigned:1;
\tfield:__data_loc char[] name;\toffset:12;\tsize:4;\tsigned:0;

print fmt: \"irq=%d name=%s\", REC->irq, __get_str(name)
"
        )
    );
    let exit = fs.text("events/irq/irq_handler_exit/format");
    assert!(exit.ends_with("print fmt: \"irq=%d ret=%s\", REC->irq, __print_symbolic(REC->ret, { 0, \"unhandled\" }, { 1, \"handled\" })\n"));
    let all = fs.text("events/test/everything/format");
    for line in [
        "\tfield:unsigned char a;\toffset:8;\tsize:1;\tsigned:0;",
        "\tfield:s64 b;\toffset:16;\tsize:8;\tsigned:1;",
        "\tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;",
        "\tfield:unsigned short list[3];\toffset:40;\tsize:6;\tsigned:0;",
        "\tfield:bool on;\toffset:46;\tsize:1;\tsigned:0;",
        "\tfield:unsigned int x;\toffset:48;\tsize:4;\tsigned:0;",
        "\tfield:__data_loc char[] late;\toffset:52;\tsize:4;\tsigned:0;",
        "print fmt: \"a=%u b=%lld comm=%s list=%s on=%d x=%#06x 100%% late=\\\"%s\\\"\", REC->a, REC->b, REC->comm, __print_array(REC->list, 3, 2), REC->on, REC->x, __get_str(late)",
    ] {
        assert!(all.lines().any(|l| l == line), "{line}\n{all}");
    }
    let print = fs.text("events/ftrace/print/format");
    assert!(print.starts_with("name: print\nID: 5\nformat:\n"));
    assert!(print.ends_with(
        "\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;
\tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;

print fmt: \"%ps: %s\", (void *)REC->ip, REC->buf\n"
    ));
    assert!(
        fs.text("events/header_page")
            .contains("\tfield: char data;\toffset:16;\tsize:4080;")
    );
    assert!(
        fs.text("events/header_event")
            .starts_with("# compressed entry header\n\ttype_len    :    5 bits\n")
    );
}

#[test]
fn stats_add_up() {
    let (_guard, fs, platform) = setup();
    platform.set_ns(2_000_000_000_000);
    for i in 0..5000 {
        fs.write("trace_marker", format!("line {i:06}").as_bytes(), false)
            .unwrap();
    }
    platform.set_ns(2_000_000_001_000);
    let stats = fs.text("per_cpu/cpu0/stats");
    let number = |name: &str| -> u64 {
        let line = stats
            .lines()
            .find(|l| l.starts_with(&format!("{name}: ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(number("entries") + number("overrun"), 5000);
    assert_eq!(
        number("commit overrun") + number("dropped events") + number("read events"),
        0
    );
    // 8 common, 8 ip, 11 text, newline and NUL, to words, and the header.
    assert!(number("bytes") >= number("entries") * 36 && number("bytes") <= 16 * 1024);
    assert!(stats.contains("\noldest event ts:  2000.000000\nnow ts:  2000.000001\n"));
    let text = fs.text("trace");
    let first = lines(&text)[0];
    assert!(
        first.ends_with(&format!("line {:06}", number("overrun"))),
        "{first}"
    );
    assert!(lines(&text).last().unwrap().ends_with("line 004999"));
    assert!(text.contains(&format!("entries-written: {}/5000 ", number("entries"))));
}

#[test]
fn events_are_enabled_as_in_linux() {
    let (_guard, fs, _) = setup();
    let set = |text: &str| fs.write("set_event", text.as_bytes(), true);
    let add = |text: &str| fs.write("set_event", text.as_bytes(), false);
    let enabled = || fs.text("set_event");
    assert_eq!(
        fs.text("available_events"),
        "irq:irq_handler_entry\nirq:irq_handler_exit\ntest:everything\n"
    );
    assert_eq!(enabled(), "");
    for all in ["*:*", "*:", ":*", "irq test", "irq:*\ntest:\n"] {
        set(all).unwrap();
        assert_eq!(fs.text("events/enable"), "1\n", "{all}");
    }
    set("everything").unwrap();
    assert_eq!(enabled(), "test:everything\n");
    add("irq:irq_handler_exit").unwrap();
    assert_eq!(fs.text("events/irq/enable"), "X\n");
    assert_eq!(fs.text("events/irq/irq_handler_exit/enable"), "1\n");
    add("!test:everything !irq:").unwrap();
    assert_eq!(enabled(), "");
    for wrong in [
        "nothing",
        "irq:nothing",
        "nothing:*",
        "everything irq:nothing",
        "!",
        "a:b:c",
        "\u{1f980}",
    ] {
        set("irq").unwrap();
        assert_eq!(set(wrong), Err(Errno::EINVAL), "{wrong}");
        assert_eq!(fs.text("events/irq/enable"), "1\n", "unchanged");
    }
    set("\n").unwrap();
    assert_eq!(enabled(), "");
    fs.write("events/irq/enable", b"1\n", true).unwrap();
    assert_eq!(fs.text("events/enable"), "X\n");
    assert_eq!(fs.write("events/enable", b"2", true), Err(Errno::EINVAL));
    assert_eq!(
        fs.write("events/irq/irq_handler_exit/enable", b"", false),
        Err(Errno::EINVAL)
    );
}

#[test]
fn control_files_answer_as_linux() {
    let (_guard, fs, platform) = setup();
    assert_eq!(
        fs.text("trace_clock"),
        "[local] global counter mono boot x86-tsc\n"
    );
    fs.write("trace_marker", b"gone with the clock", false)
        .unwrap();
    fs.write("trace_clock", b"x86-tsc\n", true).unwrap();
    assert_eq!(
        fs.text("trace_clock"),
        "local global counter mono boot [x86-tsc]\n"
    );
    assert_eq!(fs.text("trace"), EMPTY);
    platform.set_ns(3_000_000_000);
    fs.write("trace_marker", b"raw", false).unwrap();
    assert!(
        fs.text("trace")
            .contains("[000] .....   6000000000: tracing_mark_write: raw\n")
    );
    assert_eq!(
        fs.write("trace_clock", b"sundial", true),
        Err(Errno::EINVAL)
    );
    fs.write("trace_clock", b"counter", true).unwrap();
    fs.write("trace_marker", b"a\nb\n\nc", false).unwrap();
    assert_eq!(lines(&fs.text("trace")).len(), 4);
    assert!(fs.text("per_cpu/cpu0/stats").contains("now ts: 4\n"));

    assert_eq!(fs.text("current_tracer"), "nop\n");
    assert_eq!(fs.text("available_tracers"), "hwlat wakeup irqsoff nop\n");
    fs.write("current_tracer", b" nop \n", true).unwrap();
    assert_eq!(
        fs.write("current_tracer", b"function", true),
        Err(Errno::EINVAL)
    );

    fs.write("tracing_on", b"0", true).unwrap();
    assert_eq!(fs.text("tracing_on"), "0\n");
    assert_eq!(fs.write("trace_marker", b"x", false), Err(Errno::EBADF));
    fs.write("tracing_on", b"+17\n", true).unwrap();
    assert_eq!(fs.text("tracing_on"), "1\n");
    for (wrong, errno) in [
        ("\n", Errno::EINVAL),
        ("on", Errno::EINVAL),
        ("-1", Errno::EINVAL),
        ("1 1", Errno::EINVAL),
        ("99999999999999999999", Errno::ERANGE),
    ] {
        assert_eq!(
            fs.write("tracing_on", wrong.as_bytes(), true),
            Err(errno),
            "{wrong}"
        );
    }

    assert_eq!(fs.read("", &mut String::new()), Err(Errno::EISDIR));
    assert_eq!(fs.read("nothing", &mut String::new()), Err(Errno::ENOENT));
    assert_eq!(fs.read("trace/x", &mut String::new()), Err(Errno::ENOTDIR));
    assert_eq!(
        fs.read("trace_marker", &mut String::new()),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        fs.read("per_cpu/cpu2/stats", &mut String::new()),
        Err(Errno::ENOENT)
    );
    assert_eq!(
        fs.read("per_cpu/cpu01/stats", &mut String::new()),
        Err(Errno::ENOENT)
    );
    assert_eq!(fs.write("events", b"", true), Err(Errno::EISDIR));
    assert_eq!(fs.write("README", b"", true), Err(Errno::EINVAL));
    assert_eq!(fs.list("trace").unwrap_err(), Errno::ENOTDIR);
}

#[test]
fn sizes() {
    let (_guard, fs, platform) = setup();
    for i in 0..500 {
        fs.write("trace_marker", format!("line {i}").as_bytes(), false)
            .unwrap();
    }
    let before = fs.text("trace");
    assert_eq!(fs.text("buffer_size_kb"), "16\n");
    assert_eq!(fs.text("buffer_total_size_kb"), "32\n");
    for (wrong, errno) in [
        ("0", Errno::EINVAL),
        ("\n", Errno::EINVAL),
        ("x", Errno::EINVAL),
        ("1000000", Errno::ENOMEM),
        ("18446744073709551615", Errno::ENOMEM),
    ] {
        assert_eq!(
            fs.write("buffer_size_kb", wrong.as_bytes(), true),
            Err(errno),
            "{wrong}"
        );
        assert_eq!(fs.text("trace"), before);
        assert_eq!(fs.text("buffer_size_kb"), "16\n");
    }
    fs.write("buffer_size_kb", b"64", true).unwrap();
    assert_eq!(fs.text("trace"), before, "growing keeps all");
    fs.write("per_cpu/cpu0/buffer_size_kb", b"8", true).unwrap();
    assert_eq!(fs.text("buffer_size_kb"), "X\n");
    assert_eq!(fs.text("per_cpu/cpu1/buffer_size_kb"), "64\n");
    assert_eq!(fs.text("buffer_total_size_kb"), "72\n");
    let after = fs.text("trace");
    assert!(before.ends_with(lines(&after)[1]) || before.contains(lines(&after)[1]));
    assert!(
        after.lines().last() == before.lines().last(),
        "the newest stay"
    );
    assert!(lines(&after).len() < lines(&before).len());
    fs.write("buffer_size_kb", b"16", true).unwrap();
    // 4 pages and a reader page for each of two CPUs.
    assert_eq!(platform.owned().len(), 10);
}

#[test]
fn long_lines_lose_nothing() {
    let (_guard, fs, _) = setup();
    fs.write("buffer_size_kb", b"64", true).unwrap();
    let long = "ä".repeat(2500);
    fs.write("trace_marker", long.as_bytes(), false).unwrap();
    let text = fs.text("trace");
    let joined: String = lines(&text)
        .iter()
        .map(|l| l.split_once("tracing_mark_write: ").unwrap().1)
        .collect();
    assert_eq!(joined, long);
    fs.write("trace", b"", true).unwrap();
    fs.write("trace_marker", b"\xff\xfe\x00\x1b[31m", false)
        .unwrap();
    assert!(fs.text("trace").ends_with("tracing_mark_write: ??\n"));
}

#[test]
fn the_tree_is_whole() {
    let (_guard, fs, _) = setup();
    fn walk(fs: &TraceFs<'_, TestPlatform>, path: &str, files: &mut usize) {
        let entries = fs.list(path).unwrap();
        assert!(entries.is_sorted_by_key(|e| &e.name));
        for entry in entries {
            let path = if path.is_empty() {
                entry.name.clone()
            } else {
                format!("{path}/{}", entry.name)
            };
            let (kind, readable, writable) = fs.kind(&path).unwrap();
            assert_eq!((kind, writable), (entry.kind, entry.writable), "{path}");
            match kind {
                Kind::Dir => walk(fs, &path, files),
                Kind::File => {
                    *files += 1;
                    assert!(readable || writable);
                    if fs.pipe(&path).unwrap().is_some() {
                        assert_eq!(fs.read(&path, &mut String::new()), Err(Errno::EINVAL));
                    } else if readable {
                        let text = fs.text(&path);
                        // What there is nothing of at the start.
                        let empty = [
                            "set_event",
                            "set_event_pid",
                            "set_event_notrace_pid",
                            "printk_formats",
                            "error_log",
                            "saved_cmdlines",
                        ]
                        .contains(&path.as_str())
                            || path.ends_with("/hist")
                            || path.ends_with("events/foreign_formats");
                        assert!(text.ends_with('\n') || empty, "{path}");
                    }
                }
            }
        }
    }
    let mut files = 0;
    walk(&fs, "", &mut files);
    let top = 27;
    let options = 11;
    let hwlat = 3;
    let events = 4 + 2 * 2 + 3 * 6 + 5 * 2 + 2;
    let per_cpu = 2 * 6;
    assert_eq!(files, top + hwlat + options + events + per_cpu);
}

#[test]
fn a_reader_that_has_enough_ends_the_call() {
    struct Few(usize);
    impl std::fmt::Write for Few {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            self.0 = self.0.checked_sub(s.len()).ok_or(std::fmt::Error)?;
            Ok(())
        }
    }
    let (_guard, fs, _) = setup();
    for i in 0..100 {
        fs.write("trace_marker", format!("{i}").as_bytes(), false)
            .unwrap();
    }
    for n in 0..1200 {
        fs.read("trace", &mut Few(n)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_panics(
        path in prop_oneof![
            prop::sample::select(vec![
                "", "tracing_on", "current_tracer", "set_event", "trace", "trace_marker", "trace_clock",
                "buffer_size_kb", "events/enable", "events/irq/enable", "events/irq/irq_handler_exit/enable",
                "per_cpu/cpu0/trace", "per_cpu/cpu1/buffer_size_kb", "README", "events/ftrace/print/id",
            ]).prop_map(String::from),
            "[a-z_/.0-9]{0,30}",
            ".{0,20}",
        ],
        data in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..5000),
            "[!:* a-z_0-9\n]{0,40}".prop_map(String::into_bytes),
            "[0-9]{1,25}".prop_map(String::into_bytes),
        ],
        truncate: bool,
    ) {
        let (_guard, fs, _) = setup();
        let _ = fs.write(&path, &data, truncate);
        let _ = fs.list(&path);
        let _ = fs.kind(&path);
        let mut text = String::new();
        let _ = fs.read(&path, &mut text);
        fs.text("trace");
    }
}
