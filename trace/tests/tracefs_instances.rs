//! The files of instances, snapshots, and sub-buffers of other sizes.

use trace::fs::{Kind, TraceFs};
use trace::testing::TestPlatform;
use trace::{Config, Errno, Tracer};

mod events {
    use trace::Tracer;
    use trace::testing::TestPlatform;

    /// The files are the subject: nothing is recorded by these.
    pub fn tracer() -> Option<&'static Tracer<TestPlatform>> {
        None
    }

    trace::define_events! {
        tracer = crate::events::tracer;

        /// One.
        event test:one(a: u32) {
            print("a=%u", a)
        }
    }
}

fn tracer() -> Tracer<TestPlatform> {
    // The declaration is shared by the tests: each has its own tracer, and looks at its own instances.
    let tracer = TestPlatform::new(4).tracer(&[]);
    tracer.platform().set_cpu(0);
    tracer
}

type Fs<'t> = TraceFs<'t, TestPlatform>;

fn names(fs: &Fs<'_>, path: &str) -> Vec<String> {
    let entries = fs.list(path).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn directories_make_and_remove_instances() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let pages = tracer.platform().owned().len();
    assert_eq!(names(&fs, "instances"), [""; 0]);
    fs.mkdir("instances/b").unwrap();
    fs.mkdir("instances/a").unwrap();
    assert_eq!(names(&fs, "instances"), ["a", "b"]);
    assert_eq!(fs.kind("instances/a").unwrap().0, Kind::Dir);
    for (path, errno) in [
        ("instances/a", Errno::EEXIST),
        ("instances", Errno::EEXIST),
        ("trace", Errno::EEXIST),
        ("none", Errno::EPERM),
        ("events/none", Errno::EPERM),
        ("instances/a/none", Errno::EPERM),
        ("instances/none/none", Errno::ENOENT),
        ("trace/none", Errno::ENOTDIR),
    ] {
        assert_eq!(fs.mkdir(path), Err(errno), "{path}");
    }
    for (path, errno) in [
        ("instances/none", Errno::ENOENT),
        ("instances", Errno::EPERM),
        ("events", Errno::EPERM),
        ("instances/a/events", Errno::EPERM),
        ("instances/a/trace", Errno::ENOTDIR),
    ] {
        assert_eq!(fs.rmdir(path), Err(errno), "{path}");
    }
    // What is open is in use.
    let pipe = fs.pipe("instances/a/trace_pipe").unwrap();
    assert_eq!(fs.rmdir("instances/a"), Err(Errno::EBUSY));
    drop(pipe);
    fs.rmdir("instances/a").unwrap();
    fs.rmdir("instances/b").unwrap();
    assert_eq!(names(&fs, "instances"), [""; 0]);
    assert_eq!(fs.kind("instances/a"), Err(Errno::ENOENT));
    assert_eq!(tracer.platform().owned().len(), pages);
}

#[test]
fn an_instance_has_files_of_its_own() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    fs.mkdir("instances/foo").unwrap();
    let mut of_top = names(&fs, "");
    of_top.retain(|name| fs.kind(&format!("instances/foo/{name}")).is_ok());
    assert_eq!(names(&fs, "instances/foo"), of_top);
    for only_top in [
        "README",
        "available_events",
        "instances",
        "printk_formats",
        "saved_cmdlines",
    ] {
        assert!(fs.kind(only_top).is_ok());
        assert!(!of_top.iter().any(|name| name == only_top), "{only_top}");
    }
    for (file, value, before) in [
        ("tracing_on", "0", "1\n"),
        ("buffer_size_kb", "32", "16\n"),
        ("buffer_percent", "7", "50\n"),
        ("options/overwrite", "0", "1\n"),
        ("buffer_subbuf_size_kb", "8", "4\n"),
    ] {
        assert_eq!(fs.text(file), before, "{file}");
        fs.put(&format!("instances/foo/{file}"), value).unwrap();
        assert_eq!(fs.text(file), before, "{file}");
        assert_eq!(fs.text(&format!("instances/foo/{file}")).trim(), value);
        fs.put(&format!("instances/foo/{file}"), before).unwrap();
    }
    fs.put("instances/foo/trace_clock", "counter").unwrap();
    assert!(fs.text("trace_clock").contains("[local]"));
    fs.write("instances/foo/trace_marker", b"there", false)
        .unwrap();
    fs.write("trace_marker", b"here", false).unwrap();
    assert!(
        fs.text("instances/foo/trace")
            .ends_with("tracing_mark_write: there\n")
    );
    assert!(!fs.text("trace").contains("there"));
    fs.put("instances/foo/trace", "").unwrap();
    assert!(fs.text("trace").contains("here"));
}

#[test]
fn events_are_chosen_for_each_instance() {
    let config = Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    let tracer = Tracer::new(TestPlatform::new(4), config, events::ALL).unwrap();
    let fs = TraceFs(&tracer);
    fs.mkdir("instances/foo").unwrap();
    events::one(4);
    let event = "instances/foo/events/test/one/enable";
    fs.put(event, "1").unwrap();
    assert_eq!(fs.text("instances/foo/set_event"), "test:one\n");
    assert_eq!(fs.text("set_event"), "");
    fs.put("set_event", "test:one").unwrap();
    fs.put("instances/foo/events/enable", "0").unwrap();
    assert_eq!(
        (fs.text(event), fs.text("events/enable")),
        ("0\n".into(), "1\n".into())
    );
    let filter = "events/test/one/filter";
    assert_eq!(fs.text(filter), "none\n");
    fs.put(filter, "a > 3").unwrap();
    assert_eq!(fs.put(filter, "b > 3"), Err(Errno::EINVAL));
    assert_eq!(
        fs.text(filter),
        "b > 3\n  ^\nparse_error: Field not found\n# in force: a > 3\n"
    );
    assert!(
        fs.text("error_log")
            .contains(" event filter parse error: error: Field not found\n")
    );
    assert_eq!(fs.text("instances/foo/error_log"), "");
    assert_eq!(fs.text(&format!("instances/foo/{filter}")), "none\n");
    fs.rmdir("instances/foo").unwrap();
    assert_eq!(fs.text("events/test/one/enable"), "1\n");
}

#[test]
fn snapshots() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let help = |state: &str, rest: &str| {
        format!("# tracer: nop\n#\n#\n# * Snapshot is {state} *\n#\n# Snapshot commands:\n{rest}")
    };
    const ALL: &str = "\
# echo 0 > snapshot : Clears and frees snapshot buffer
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer.
# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')
";
    assert_eq!(fs.text("snapshot"), help("freed", ALL));
    assert!(fs.text("per_cpu/cpu1/snapshot").contains("for this cpu.\n"));
    for wrong in ["\n", "x", "-1"] {
        assert_eq!(fs.put("snapshot", wrong), Err(Errno::EINVAL), "{wrong}");
    }
    assert_eq!(fs.put("per_cpu/cpu0/snapshot", "0"), Err(Errno::EINVAL));
    fs.put("snapshot", "2").unwrap();
    assert_eq!(fs.text("snapshot"), help("freed", ALL));

    fs.put("snapshot", "1").unwrap();
    assert_eq!(fs.text("snapshot"), help("allocated", ALL));
    fs.write("trace_marker", b"before", false).unwrap();
    let shown = fs.text("trace");
    fs.put("snapshot", "1").unwrap();
    assert_eq!(fs.text("snapshot"), shown);
    assert!(!fs.text("trace").contains("before"));
    fs.write("trace_marker", b"after", false).unwrap();
    assert_eq!(fs.text("snapshot"), shown, "it stays as it is");
    assert_eq!(fs.text("per_cpu/cpu0/snapshot"), shown);
    assert!(
        fs.text("per_cpu/cpu1/snapshot")
            .contains("Snapshot is allocated")
    );
    fs.put("snapshot", "2").unwrap();
    assert_eq!(fs.text("snapshot"), help("allocated", ALL));
    fs.put("per_cpu/cpu0/snapshot", "1").unwrap();
    assert!(fs.text("snapshot").contains("after"));
    fs.put("snapshot", "0").unwrap();
    assert_eq!(fs.text("snapshot"), help("freed", ALL));
}

#[test]
fn sub_buffers_of_other_sizes() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let size = "buffer_subbuf_size_kb";
    for (asked, got) in [
        ("8", 8),
        ("16", 16),
        ("64", 64),
        ("5", 8),
        ("1", 4),
        ("4", 4),
    ] {
        fs.write("trace_marker", b"gone", false).unwrap();
        fs.put(size, asked).unwrap();
        assert_eq!(fs.text(size), format!("{got}\n"));
        let room = got * 1024 - 16;
        assert!(
            fs.text("events/header_page")
                .contains(&format!("field: char data;\toffset:16;\tsize:{room};"))
        );
        fs.write("trace_marker", b"there", false).unwrap();
        assert!(fs.text("trace").ends_with(": there\n"), "{asked}");
    }
    for (wrong, errno) in [
        ("0", Errno::EINVAL),
        ("128", Errno::EINVAL),
        ("18446744073709551615", Errno::EINVAL),
        ("x", Errno::EINVAL),
    ] {
        assert_eq!(fs.put(size, wrong), Err(errno), "{wrong}");
        assert_eq!(fs.text(size), "4\n");
        assert!(fs.text("trace").ends_with(": there\n"));
    }
}
