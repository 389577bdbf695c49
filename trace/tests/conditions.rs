//! The files `filter`, `trigger`, `hist`, `error_log`, and what they do to events that happen; after Linux's selftests in
//! `test.d/filter` and `test.d/trigger`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use trace::fs::TraceFs;
use trace::testing::TestPlatform;
use trace::{Errno, Tracer};

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// A task begins.
        event sched:fork(child: i32, comm: str) {
            print("child=%d comm=%s", child, comm)
        }

        /// Another task runs.
        event sched:switch(next: i32) {
            print("next=%d", next)
        }

        /// Memory is given.
        event kmem:alloc(bytes: u32) {
            print("bytes=%u", bytes)
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| TestPlatform::new(8).tracer(events::ALL)))
}

struct Files {
    fs: TraceFs<'static, TestPlatform>,
    _one: MutexGuard<'static, ()>,
}

const FORK: &str = "events/sched/fork";
const SWITCH: &str = "events/sched/switch";

/// The tracer, for one test at a time, as it is after a start.
fn setup() -> Files {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tracer = tracer_of_this_test().unwrap();
    tracer.platform().set_cpu(0);
    let files = Files {
        fs: TraceFs(tracer),
        _one: one,
    };
    for event in [FORK, SWITCH, "events/kmem/alloc"] {
        files.put(&format!("{event}/filter"), "0");
        files.reset(&format!("{event}/trigger"));
    }
    files.put("tracing_on", "1");
    files.put("events/enable", "0");
    files.put("error_log", "");
    files.put("trace", "");
    files
}

impl Files {
    fn read(&self, path: &str) -> String {
        self.fs.text(path)
    }

    /// `echo TEXT > PATH`
    fn put(&self, path: &str, text: &str) {
        self.try_put(path, text)
            .unwrap_or_else(|e| panic!("{text} > {path}: {e}"));
    }

    fn try_put(&self, path: &str, text: &str) -> Result<(), Errno> {
        self.fs.put(path, text)
    }

    /// `echo TEXT >> PATH`
    fn add(&self, path: &str, text: &str) {
        self.fs.write(path, text.as_bytes(), false).unwrap();
    }

    /// `reset_trigger_file` of the selftests.
    fn reset(&self, path: &str) {
        for line in self.read(path).lines().filter(|l| !l.starts_with('#')) {
            let line = line.split(" [").next().unwrap();
            // `name:count=3 if x` is taken away by its command alone.
            let command = match line.strip_prefix("hist:") {
                Some(_) => line.split(" if ").next().unwrap(),
                None => line.split(":count=").next().unwrap(),
            };
            let command = command.split(":unlimited").next().unwrap();
            self.add(path, &format!("!{command}"));
        }
        assert!(self.read(path).starts_with("# Available triggers:\n"));
    }

    /// The events in the trace: what stands after the time.
    fn trace(&self) -> Vec<String> {
        let text = self.read("trace");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| match line.split_once(": ") {
                Some((_, event)) => event.to_string(),
                None => line.to_string(),
            })
            .collect()
    }
}

#[test]
fn a_filter_keeps_what_matches() {
    let files = setup();
    files.put("events/enable", "1");
    let filter = format!("{FORK}/filter");
    assert_eq!(files.read(&filter), "none\n");
    files.put(&filter, "child > 5 && comm ~ \"sh*\"\n");
    assert_eq!(files.read(&filter), "child > 5 && comm ~ \"sh*\"\n");
    events::fork(5, "shell");
    events::fork(6, "shell");
    events::fork(7, "idle");
    events::switch(1);
    assert_eq!(
        files.trace(),
        ["fork: child=6 comm=shell", "switch: next=1"]
    );
    files.put(&filter, "0");
    assert_eq!(files.read(&filter), "none\n");
    events::fork(5, "shell");
    assert_eq!(files.trace().len(), 3);
}

#[test]
fn a_wrong_filter_is_shown_and_has_no_effect() {
    let files = setup();
    files.put("events/enable", "1");
    let filter = format!("{FORK}/filter");
    files.put(&filter, "child == 1");
    assert_eq!(files.try_put(&filter, "parent == 1"), Err(Errno::EINVAL));
    let caret = "parent == 1\n       ^\nparse_error: Field not found\n";
    // What is in force stays visible.
    let both = format!("{caret}# in force: child == 1\n");
    assert_eq!(files.read(&filter), both);
    let log = files.read("error_log");
    let (_, log) = log.split_once("] ").unwrap();
    assert_eq!(
        log,
        "event filter parse error: error: Field not found\n  Command: parent == 1\n                  ^\n"
    );
    events::fork(1, "a");
    events::fork(2, "a");
    assert_eq!(files.trace(), ["fork: child=1 comm=a"]);
    files.put(&filter, "child == 2");
    assert_eq!(files.read(&filter), "child == 2\n");
    files.put(&filter, "0");
    files.try_put(&filter, "parent == 1").unwrap_err();
    assert_eq!(files.read(&filter), caret);
    for _ in 0..20 {
        files.try_put(&filter, "(").unwrap_err();
    }
    assert_eq!(files.read("error_log").matches("Command:").count(), 8);
    files.put("error_log", "");
    assert_eq!(files.read("error_log"), "");
}

#[test]
fn a_filter_for_a_system() {
    let files = setup();
    let filter = "events/sched/filter";
    assert!(
        files
            .read(filter)
            .starts_with("### global filter ###\n# Use")
    );
    files.put(&format!("{SWITCH}/filter"), "next == 3");
    files.put(filter, "child == 1");
    assert_eq!(files.read(&format!("{FORK}/filter")), "child == 1\n");
    assert_eq!(files.read(&format!("{SWITCH}/filter")), "next == 3\n");
    files.put(filter, "common_pid >= 0");
    assert_eq!(files.read(&format!("{SWITCH}/filter")), "common_pid >= 0\n");
    assert_eq!(files.read("events/kmem/alloc/filter"), "none\n");
    assert_eq!(files.try_put(filter, "nothing == 1"), Err(Errno::EINVAL));
    assert_eq!(
        files.read(filter),
        "nothing == 1\n^\nparse_error: Couldn't find or set field in one of a subsystem's events\n"
    );
    assert_eq!(files.read(&format!("{FORK}/filter")), "common_pid >= 0\n");
    files.put(filter, "0");
    assert_eq!(files.read(&format!("{FORK}/filter")), "none\n");
    assert!(files.read(filter).starts_with("### global filter ###"));
}

/// `trigger-traceonoff.tc`
#[test]
fn traceonoff() {
    let files = setup();
    let trigger = format!("{FORK}/trigger");
    files.put(&trigger, "traceoff if child > 2");
    events::fork(1, "");
    assert_eq!(files.read("tracing_on"), "1\n");
    // The event is off: its trigger sees it all the same.
    assert_eq!(files.read(&format!("{FORK}/enable")), "0*\n");
    events::fork(3, "");
    assert_eq!(files.read("tracing_on"), "0\n");
    assert!(files.trace().is_empty());
    files.reset(&trigger);
    assert_eq!(files.read(&format!("{FORK}/enable")), "0\n");
    files.put(&trigger, "traceon");
    assert_eq!(files.try_put(&trigger, "traceoff"), Err(Errno::EEXIST));
    events::fork(3, "");
    assert_eq!(files.read("tracing_on"), "1\n");
    files.reset(&trigger);
    assert_eq!(
        files.try_put(&trigger, "traceoff:badparam"),
        Err(Errno::EINVAL)
    );
    assert_eq!(files.try_put(&trigger, "traceoff+0"), Err(Errno::EINVAL));
    files.put(&trigger, "!traceon");
}

/// `trigger-eventonoff.tc`
#[test]
fn eventonoff() {
    let files = setup();
    let (trigger, enable) = (format!("{FORK}/trigger"), format!("{SWITCH}/enable"));
    assert_eq!(files.read(&enable), "0\n");
    files.put(&trigger, "enable_event:sched:switch");
    assert_eq!(files.read(&enable), "0*\n");
    events::switch(1);
    events::fork(1, "");
    assert_eq!(files.read(&enable), "1*\n");
    events::switch(2);
    assert_eq!(files.trace(), ["switch: next=2"]);
    files.reset(&trigger);
    files.put(&enable, "1");
    files.put(&trigger, "disable_event:sched:switch:1 if child == 2");
    events::fork(1, "");
    assert_eq!(files.read(&enable), "1*\n");
    events::fork(2, "");
    assert_eq!(files.read(&enable), "0*\n");
    assert_eq!(
        files.try_put(&trigger, "enable_event:nogroup:noevent"),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        files.try_put(&trigger, "disable_event+1"),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        files.try_put(&trigger, "enable_event:sched:switch"),
        Err(Errno::EEXIST)
    );
}

/// `trigger-snapshot.tc`, `trigger-stacktrace.tc`
#[test]
fn snapshot_and_stack() {
    let files = setup();
    let trigger = format!("{FORK}/trigger");
    files.put("events/enable", "1");
    files.put(&trigger, "snapshot:1");
    events::switch(1);
    events::fork(1, "");
    // What was there before is in the snapshot.
    assert_eq!(files.trace(), ["fork: child=1 comm="]);
    let tracer = tracer_of_this_test().unwrap();
    let snapshot = tracer.snapshot_buffer(0).unwrap();
    assert_eq!(snapshot.stats().entries, 1);
    events::fork(2, "");
    assert_eq!(files.trace().len(), 2);
    files.reset(&trigger);
    files.put("trace", "");
    files.put(&trigger, "stacktrace if child == 2");
    events::fork(1, "");
    events::fork(2, "");
    let lines = files.trace();
    assert_eq!(lines[..2], ["fork: child=1 comm=", "fork: child=2 comm="]);
    assert!(lines[2].contains("<stack trace>"), "{lines:?}");
    assert_eq!(lines[3..], [" => 0x1000", " => 0x2000"]);
    assert_eq!(
        files.try_put(&trigger, "stacktrace:foo"),
        Err(Errno::EINVAL)
    );
}

/// `trigger-filter.tc`
#[test]
fn a_trigger_with_a_filter() {
    let files = setup();
    let trigger = format!("{FORK}/trigger");
    files.put(&trigger, "traceoff if child == 0");
    for _ in 0..3 {
        events::fork(7, "");
    }
    assert_eq!(files.read("tracing_on"), "1\n");
    for text in [
        "traceoff if a",
        "traceoff if common_pid=0",
        "traceoff if common_pid==b",
    ] {
        assert_eq!(files.try_put(&trigger, text), Err(Errno::EINVAL), "{text}");
    }
    assert_eq!(files.read("error_log").matches("Command:").count(), 3);
}

/// `trigger-hist.tc`, `trigger-multihist.tc`
#[test]
fn hist() {
    let files = setup();
    let (trigger, hist) = (format!("{FORK}/trigger"), format!("{FORK}/hist"));
    files.put(&trigger, "hist:keys=child");
    for child in [3, 4, 3] {
        events::fork(child, "x");
    }
    assert!(
        files
            .read(&hist)
            .contains("{ child:          3 } hitcount:          2\n")
    );
    // Written anew.
    files.put(
        &trigger,
        "hist:keys=child,comm:vals=child:sort=child.descending",
    );
    files.add(&trigger, "hist:keys=comm");
    events::fork(3, "x");
    let text = files.read(&hist);
    assert_eq!(text.matches("# event histogram").count(), 2);
    assert_eq!(text.matches("Hits: 1").count(), 2);
    assert_eq!(
        files.try_put(&trigger, "hist:keys=nothing"),
        Err(Errno::EINVAL)
    );
    assert!(
        files
            .read("error_log")
            .contains("hist:sched:fork: error: Couldn't find field")
    );
    assert_eq!(files.read(&hist), text);
    assert!(files.trace().is_empty());
    // The files of an event without one.
    assert_eq!(files.read("events/kmem/alloc/hist"), "");
}

#[test]
fn instances_have_their_own() {
    let files = setup();
    let tracer = tracer_of_this_test().unwrap();
    let foo = tracer.create_instance("conditions").unwrap();
    files.put("events/enable", "1");
    foo.set_event_enabled(&events::fork::DESC, true);
    files.put(&format!("{FORK}/filter"), "child == 1");
    foo.write_trigger(
        tracer.events(),
        &events::fork::DESC,
        "traceoff if child == 2",
        true,
    )
    .unwrap();
    for child in 1..4 {
        events::fork(child, "");
    }
    assert!(tracer.tracing_on() && !foo.tracing_on());
    assert_eq!(files.trace().len(), 1);
    assert_eq!(foo.stats(0).unwrap().entries, 2);
    drop(foo);
    tracer.remove_instance("conditions").unwrap();
}

#[test]
fn crossing() {
    let files = setup();
    let tracer = tracer_of_this_test().unwrap();
    files.put(&format!("{FORK}/filter"), "child == 1");
    files.put(&format!("{FORK}/trigger"), "hist:keys=child");
    files.add(&format!("{SWITCH}/trigger"), "traceoff:5 if next == 9");
    events::fork(3, "");
    let (hist, saved) = (
        files.read(&format!("{FORK}/hist")),
        tracer.save_conditions(tracer.events()),
    );
    assert!(hist.contains("Hits: 1"));
    assert_eq!(saved.len(), 2);
    files.put(&format!("{FORK}/filter"), "0");
    files.reset(&format!("{FORK}/trigger"));
    files.reset(&format!("{SWITCH}/trigger"));
    let lost = tracer.restore_conditions(tracer.events(), &saved);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(files.read(&format!("{FORK}/filter")), "child == 1\n");
    assert_eq!(files.read(&format!("{FORK}/hist")), hist);
    assert_eq!(
        files.read(&format!("{SWITCH}/trigger")),
        "traceoff:count=5 if next == 9\n"
    );
}
