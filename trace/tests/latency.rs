//! The tracers `irqsoff` and `wakeup`: what they keep, what their files show and take, and that they cross a kexec.

mod crossed;

use crossed::{alone, arrive, leave, machine};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use trace::fs::TraceFs;
use trace::fs::raw::Access;
use trace::options::TraceOption;
use trace::testing::TestPlatform;
use trace::tracer::{Measured, Site};
use trace::{Errno, Tracer};

const READ: Access = Access {
    write: false,
    exec: false,
    shared: true,
};
const ON: Site = Site {
    ip: 0x10,
    parent: 0x11,
};
const OFF: Site = Site {
    ip: 0x20,
    parent: 0x21,
};

fn tracer() -> (Tracer<TestPlatform>, TestPlatform) {
    let platform = machine(8);
    platform.set_step(0);
    (platform.tracer(&[]), platform)
}

/// Interrupts are off for so long, with a mark in the middle.
fn section(t: &Tracer<TestPlatform>, p: &TestPlatform, ns: u64, mark: &str) {
    t.irqs_off(OFF);
    p.set_ns(p.ns() + ns / 2);
    t.mark(mark.as_bytes()).unwrap();
    p.set_ns(p.ns() + ns.div_ceil(2));
    t.irqs_on(ON);
    p.set_ns(p.ns() + 1_000_000);
}

/// A task waits so long, marked in the middle.
fn wait(t: &Tracer<TestPlatform>, p: &TestPlatform, pid: i32, prio: i32, ns: u64) {
    t.task_wakes(OFF, pid, prio, 1);
    p.set_ns(p.ns() + ns);
    t.mark(format!("waited {ns}").as_bytes()).unwrap();
    t.task_runs(ON, pid);
    p.set_ns(p.ns() + 1_000_000);
}

/// A wait that begins while another is about to be kept: its begin goes to the snapshot with that one's trace, so it is not believed.
#[test]
fn a_wait_whose_begin_another_has_taken_along_is_not_kept() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "wakeup").unwrap();
    t.task_wakes(OFF, 1, 110, 0);
    p.set_ns(p.ns() + 10_000);
    let began = AtomicBool::new(false);
    let begins = |_| {
        if !began.swap(true, Ordering::Relaxed) {
            t.task_wakes(OFF, 2, 110, 0);
        }
    };
    p.interrupted(&begins, || t.task_runs(ON, 1));
    assert!(began.load(Ordering::Relaxed));
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "10\n");
    p.set_ns(p.ns() + 50_000);
    t.task_runs(ON, 2);
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "10\n");
    // The next one is.
    wait(&t, &p, 3, 110, 20_000);
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "20\n");
    assert!(TraceFs(&t).text("trace").contains("0us+: 0x20 <-0x21\n"));
}

#[test]
fn the_longest_section_is_kept_with_its_trace() {
    let _alone = alone();
    let (t, p) = tracer();
    t.mark(b"before").unwrap();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    assert_eq!(TraceFs(&t).text("current_tracer"), "irqsoff\n");
    assert_eq!(
        TraceFs(&t).text("available_tracers"),
        "hwlat wakeup irqsoff nop\n"
    );
    assert_eq!(TraceFs(&t).text("trace"), "# tracer: irqsoff\n#\n");
    section(&t, &p, 20_000, "shorter");
    section(&t, &p, 42_000, "longest");
    section(&t, &p, 30_000, "later");
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "42\n");
    let trace = TraceFs(&t).text("trace");
    let head = trace.split("cmd     pid").next().unwrap();
    let mut expected = String::from("# tracer: irqsoff\n#\n# irqsoff latency trace v1.1.5 on ");
    let _ = writeln!(
        expected,
        "{}\n# {}",
        env!("CARGO_PKG_VERSION"),
        "-".repeat(68)
    );
    expected += "\
# latency: 42 us, #4/4, CPU#0 | (M:server VP:0, KP:0, SP:0 HP:0 #P:2)
#    -----------------
#    | task: <idle>-0 (uid:0 nice:0 policy:0 rt_prio:0)
#    -----------------
#  => started at: 0x20
#  => ended at:   0x10
#
#
";
    assert!(head.starts_with(&expected), "{trace}\n{expected}");
    // Only what happened from its begin on, counted from there.
    let body = trace.split("|    /       \n").nth(1).unwrap();
    assert_eq!(
        body,
        "  <idle>-0         0.....    0us+: 0x20 <-0x21
  <idle>-0         0.....   21us+: tracing_mark_write: longest
  <idle>-0         0.....   42us : 0x10 <-0x11
  <idle>-0         0.....   42us : <stack trace>
 => 0x1000
 => 0x2000
"
    );
}

#[test]
fn a_threshold_keeps_each_that_is_as_long_and_0_begins_anew() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    section(&t, &p, 50_000, "long");
    TraceFs(&t).put("tracing_thresh", "10").unwrap();
    assert_eq!(TraceFs(&t).text("tracing_thresh"), "10\n");
    section(&t, &p, 9_999, "below");
    assert!(TraceFs(&t).text("trace").contains("long\n"));
    section(&t, &p, 10_000, "as long");
    assert!(TraceFs(&t).text("trace").contains("as long\n"));
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "10\n");
    TraceFs(&t).put("tracing_thresh", "0").unwrap();
    section(&t, &p, 10_000, "no longer");
    assert!(TraceFs(&t).text("trace").contains("as long\n"));
    TraceFs(&t).put("tracing_max_latency", "0").unwrap();
    section(&t, &p, 5_000, "anew");
    assert!(TraceFs(&t).text("trace").contains("anew\n"));
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "5\n");
    // While nothing is recorded nothing is measured.
    TraceFs(&t).put("tracing_on", "0").unwrap();
    t.irqs_off(OFF);
    p.set_ns(p.ns() + 1_000_000);
    TraceFs(&t).put("tracing_on", "1").unwrap();
    t.irqs_on(ON);
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "5\n");
}

#[test]
fn the_most_urgent_that_wakes_up_is_waited_for() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "wakeup").unwrap();
    wait(&t, &p, 7, 120, 30_000);
    wait(&t, &p, 8, 120, 20_000);
    let trace = TraceFs(&t).text("trace");
    assert!(trace.contains("# wakeup latency trace v1.1.5 on "));
    assert!(trace.contains("# latency: 30 us, #4/4, CPU#1 |"), "{trace}");
    assert!(trace.contains("| task: <...>-7 (uid:0 nice:0 policy:0 rt_prio:0)"));
    assert!(!trace.contains("started at"));
    // An equal does not come first, one that is more urgent does; and both wait on.
    t.task_wakes(OFF, 9, 110, 0);
    p.set_ns(p.ns() + 40_000);
    t.task_wakes(OFF, 10, 110, 0);
    t.task_wakes(OFF, 11, 98, 1);
    p.set_ns(p.ns() + 50_000);
    t.task_runs(ON, 9);
    t.task_runs(ON, 10);
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "30\n");
    t.task_runs(ON, 11);
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "50\n");
    let trace = TraceFs(&t).text("trace");
    assert!(trace.contains("| task: <...>-11 (uid:0 nice:0 policy:1 rt_prio:1)"));
}

/// All CPUs' events of the time are shown, not those of the CPU alone.
#[test]
fn the_trace_of_a_wakeup_is_that_of_all_cpus() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "wakeup").unwrap();
    t.mark(b"earlier").unwrap();
    p.set_ns(p.ns() + 1);
    t.task_wakes(OFF, 7, 120, 1);
    p.set_ns(p.ns() + 1000);
    t.mark(b"on cpu 0").unwrap();
    p.set_cpu(1);
    t.mark(b"on cpu 1").unwrap();
    t.task_runs(ON, 7);
    p.set_cpu(0);
    let trace = TraceFs(&t).text("trace");
    assert!(trace.contains("on cpu 0") && trace.contains("on cpu 1"));
    assert!(!trace.contains("earlier"), "{trace}");
}

#[test]
fn a_tracer_has_the_snapshot_and_puts_options_back() {
    let _alone = alone();
    let (t, p) = tracer();
    t.set_option(TraceOption::Overwrite, false);
    let free = p.owned().len();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    assert!(t.option(TraceOption::LatencyFormat) && t.option(TraceOption::Overwrite));
    assert_eq!(TraceFs(&t).put("snapshot", "1"), Err(Errno::EBUSY));
    assert_eq!(TraceFs(&t).put("snapshot", ""), Err(Errno::EBUSY));
    let mut out = String::new();
    assert_eq!(TraceFs(&t).read("snapshot", &mut out), Err(Errno::EBUSY));
    assert_eq!(
        TraceFs(&t).read("per_cpu/cpu0/snapshot", &mut out),
        Err(Errno::EBUSY)
    );
    let raw = TraceFs(&t).raw("per_cpu/cpu0/trace_pipe_raw").unwrap();
    assert_eq!(raw.unwrap().map(0, 1, READ).err(), Some(Errno::EBUSY));
    section(&t, &p, 10_000, "kept");
    // A trigger's snapshot would take the place of what is kept.
    t.snapshot_now();
    assert!(TraceFs(&t).text("trace").contains("kept"));
    TraceFs(&t).put("trace", "").unwrap();
    assert_eq!(TraceFs(&t).text("trace"), "# tracer: irqsoff\n#\n");
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "10\n");
    for bad in ["function", "irqsof", "", "irqsoff nop", "osnoise"] {
        assert_eq!(
            TraceFs(&t).write("current_tracer", bad.as_bytes(), false),
            Err(Errno::EINVAL),
            "{bad}"
        );
    }
    assert_eq!(TraceFs(&t).text("current_tracer"), "irqsoff\n");
    TraceFs(&t).put("current_tracer", "wakeup").unwrap();
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert!(!t.option(TraceOption::LatencyFormat) && !t.option(TraceOption::Overwrite));
    assert_eq!(p.owned().len(), free);
    for file in ["tracing_thresh", "tracing_max_latency"] {
        assert_eq!(TraceFs(&t).put(file, "many"), Err(Errno::EINVAL));
        assert_eq!(
            TraceFs(&t).put(file, "18446744073709551615"),
            Err(Errno::ERANGE)
        );
    }
    // What is told of now, by who has not heard yet, is not recorded.
    let before = t.stats(0).unwrap().entries;
    section(&t, &p, 99_000, "nop");
    wait(&t, &p, 7, 1, 99_000);
    assert_eq!(t.stats(0).unwrap().entries, before + 2);
}

#[test]
fn a_buffer_that_is_mapped_has_no_tracer_of_latencies() {
    let _alone = alone();
    let (t, _) = tracer();
    let fs = TraceFs(&t);
    let raw = fs.raw("per_cpu/cpu1/trace_pipe_raw").unwrap().unwrap();
    let mapping = raw.map(0, 1, READ).unwrap();
    assert_eq!(
        TraceFs(&t).put("current_tracer", "irqsoff"),
        Err(Errno::EBUSY)
    );
    assert_eq!(TraceFs(&t).text("current_tracer"), "nop\n");
    assert!(!t.option(TraceOption::LatencyFormat) && !t.snapshot_allocated());
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert_eq!(t.measured(), Measured::Nothing);
    drop(mapping);
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
}

#[test]
fn an_instance_has_nop_alone() {
    let _alone = alone();
    let (t, _) = tracer();
    TraceFs(&t).mkdir("instances/mine").unwrap();
    assert_eq!(
        TraceFs(&t).text("instances/mine/available_tracers"),
        "nop\n"
    );
    TraceFs(&t).put("current_tracer", "wakeup").unwrap();
    assert_eq!(TraceFs(&t).text("instances/mine/current_tracer"), "nop\n");
    TraceFs(&t)
        .put("instances/mine/current_tracer", "nop")
        .unwrap();
    assert_eq!(
        TraceFs(&t).put("instances/mine/current_tracer", "irqsoff"),
        Err(Errno::EINVAL)
    );
    TraceFs(&t).put("instances/mine/snapshot", "1").unwrap();
    // Nor do heads of its traces say otherwise.
    TraceFs(&t)
        .write("instances/mine/trace_marker", b"marked", false)
        .unwrap();
    let mine = TraceFs(&t).text("instances/mine/trace");
    assert!(mine.starts_with("# tracer: nop\n"), "{mine}");
    TraceFs(&t)
        .put("instances/mine/options/latency-format", "1")
        .unwrap();
    let mine = TraceFs(&t).text("instances/mine/trace");
    assert!(
        mine.starts_with("# tracer: nop\n#\n# nop latency trace"),
        "{mine}"
    );
}

/// Times of two clocks cannot be compared: not that of a latency under way, nor that of the one that is kept.
#[test]
fn another_clock_begins_anew() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    section(&t, &p, 42_000, "kept");
    t.irqs_off(OFF);
    TraceFs(&t).put("trace_clock", "counter").unwrap();
    assert_eq!(TraceFs(&t).text("trace"), "# tracer: irqsoff\n#\n");
    p.set_ns(p.ns() + 50_000);
    t.irqs_on(ON);
    assert_eq!(
        TraceFs(&t).text("tracing_max_latency"),
        "42\n",
        "it began with the other clock"
    );
    section(&t, &p, 60_000, "counted");
    let trace = TraceFs(&t).text("trace");
    assert!(trace.contains("latency: 60 us, #4/4"), "{trace}");
    assert!(trace.contains("counted"), "{trace}");
}

/// Another latency comes while the file is read, wherever in that: the head is that of the lines below it, and those are whole.
#[test]
fn head_and_lines_belong_together() {
    let _alone = alone();
    let (t, p) = tracer();
    // What comes between is not bound to this test's life.
    let t: &'static Tracer<TestPlatform> = Box::leak(Box::new(t));
    TraceFs(t).put("current_tracer", "irqsoff").unwrap();
    for locks in 1..20 {
        let us = 10 * u64::from(locks);
        section(t, &p, us * 1000, "earlier");
        let came: &'static AtomicBool = Box::leak(Box::default());
        let other = p;
        p.after_locks(locks, move || {
            section(t, &other, (us + 1) * 1000, "later");
            came.store(true, Ordering::Relaxed);
        });
        // It may have to wait for longer than the file is read.
        while !came.load(Ordering::Relaxed) {
            let trace = TraceFs(t).text("trace");
            let earlier = trace.contains(&format!("latency: {us} us, #4/4"));
            let later = trace.contains(&format!("latency: {} us, #4/4", us + 1));
            assert!(earlier || later, "{trace}");
            assert_eq!(trace.contains("earlier"), earlier, "{trace}");
            assert_eq!(trace.contains("later"), later, "{trace}");
        }
    }
}

/// An output that makes latencies, as the console does, each time that something is written to it.
struct Makes<'t> {
    tracer: &'t Tracer<TestPlatform>,
    platform: &'t TestPlatform,
    text: String,
}

impl std::fmt::Write for Makes<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        section(self.tracer, self.platform, 99_000, "made by reading");
        self.text.push_str(text);
        Ok(())
    }
}

/// Reading makes latencies that would count: what is read stays what it was when that began, and the next one after it is kept.
#[test]
fn while_one_is_read_no_other_takes_its_place() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    for thresh in ["10", "0"] {
        TraceFs(&t).put("tracing_thresh", thresh).unwrap();
        TraceFs(&t).put("tracing_max_latency", "0").unwrap();
        section(&t, &p, 42_000, "kept");
        for file in ["trace", "per_cpu/cpu0/trace"] {
            let before = TraceFs(&t).text(file);
            assert!(before.contains("kept"), "{before}");
            let mut out = Makes {
                tracer: &t,
                platform: &p,
                text: String::new(),
            };
            TraceFs(&t).read(file, &mut out).unwrap();
            assert_eq!(out.text, before);
            assert_eq!(TraceFs(&t).text("tracing_max_latency"), "42\n");
        }
        section(&t, &p, 43_000, "after");
        assert!(TraceFs(&t).text("trace").contains("after"));
        assert_eq!(TraceFs(&t).text("tracing_max_latency"), "43\n");
    }
}

/// What was described for a handover stays as it is.
#[test]
fn while_held_no_latency_is_kept() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    section(&t, &p, 42_000, "kept");
    t.hold_latencies(true);
    section(&t, &p, 50_000, "held");
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "42\n");
    assert!(TraceFs(&t).text("trace").contains("kept"));
    t.hold_latencies(false);
    section(&t, &p, 50_000, "after");
    assert!(TraceFs(&t).text("trace").contains("after"));
}

/// A kernel that does not know the tracer finds the options as they are without it.
#[test]
fn options_that_the_tracer_sets_cross_beside_the_others() {
    let _alone = alone();
    let (t, _) = tracer();
    t.set_option(TraceOption::Overwrite, false);
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    t.set_option(TraceOption::Overwrite, false);
    let (stream, next) = leave(t, |old, state| old.refresh_state(state).unwrap());
    let mut state = crossed::state(&stream);
    let saved = |option: TraceOption| {
        let mut options = state.extra.options.iter();
        options
            .find(|saved| saved.name == option.name())
            .unwrap()
            .on
    };
    assert!(!saved(TraceOption::LatencyFormat) && !saved(TraceOption::Overwrite));
    let t = arrive(&stream, next, 1, &[]).unwrap();
    assert!(t.option(TraceOption::LatencyFormat) && !t.option(TraceOption::Overwrite));
    let (stream, next) = leave(t, |old, state| old.refresh_state(state).unwrap());
    state = crossed::state(&stream);
    state.extra.latency = Default::default();
    state.extra.measuring.clear();
    let t = Tracer::adopt(next, 2, 2, state, &[]).unwrap();
    assert_eq!(TraceFs(&t).text("current_tracer"), "nop\n");
    assert!(!t.option(TraceOption::LatencyFormat) && !t.option(TraceOption::Overwrite));
}

/// An address of an earlier life leads somewhere else in another build.
#[test]
fn addresses_of_another_build_are_not_named() {
    let _alone = alone();
    let (t, p) = tracer();
    p.set_build(7);
    TraceFs(&t)
        .put("events/ftrace/print/trigger", "stacktrace")
        .unwrap();
    t.mark(b"marked").unwrap();
    let (mut t, mut build) = (t, 7);
    let mut named = vec![7];
    for (life, next_build) in [(1, 7), (2, 8), (3, 8), (4, 7)] {
        let (stream, next) = leave(t, |old, state| old.refresh_state(state).unwrap());
        next.set_build(next_build);
        t = arrive(&stream, next, life, &[]).unwrap();
        t.mark(b"marked").unwrap();
        if next_build != build {
            named.fill(0);
        }
        build = next_build;
        named.push(build);
        let shown: Vec<_> = (TraceFs(&t).text("trace").lines())
            .filter_map(|line| line.strip_prefix(" => "))
            .map(|name| match name.strip_prefix("build_") {
                Some(rest) => rest.split('_').next().unwrap().parse().unwrap(),
                None => 0,
            })
            .collect();
        let expected: Vec<_> = named.iter().flat_map(|build| [*build; 2]).collect();
        assert_eq!(shown, expected, "life {life}");
    }
}

/// A section that is told of in the middle of a write: the buffers change places when that has ended.
#[test]
fn a_section_within_a_write_is_kept_when_that_ends() {
    let _alone = alone();
    let (t, p) = tracer();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    let once = std::cell::Cell::new(false);
    p.interrupted(
        &|_| {
            if !once.replace(true) {
                t.irqs_off(OFF);
                p.set_ns(p.ns() + 7_000);
                t.irqs_on(ON);
            }
        },
        || t.mark(b"interrupted").unwrap(),
    );
    assert!(once.get());
    let trace = TraceFs(&t).text("trace");
    assert!(trace.contains("latency: 7 us"), "{trace}");
    assert!(trace.contains("0x20 <-0x21") && trace.contains("0x10 <-0x11"));
}

#[test]
fn the_tracer_and_what_it_has_kept_cross() {
    let _alone = alone();
    let (t, p) = tracer();
    t.set_option(TraceOption::Overwrite, false);
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    section(&t, &p, 42_000, "kept");
    TraceFs(&t).put("tracing_thresh", "40").unwrap();
    let before = TraceFs(&t).text("trace");
    let (stream, next) = leave(t, |old, state| old.refresh_state(state).unwrap());
    let t = arrive(&stream, next, 1, &[]).unwrap();
    assert!(t.troubles().is_empty(), "{:?}", t.troubles());
    assert_eq!(TraceFs(&t).text("current_tracer"), "irqsoff\n");
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "42\n");
    assert_eq!(TraceFs(&t).text("tracing_thresh"), "40\n");
    // A life that has begun is told of; the rest is the same.
    let after = TraceFs(&t).text("trace");
    assert_eq!(after.split("####").next().unwrap(), before);
    next.set_step(0);
    section(&t, &next, 41_000, "of the next life");
    assert!(TraceFs(&t).text("trace").contains("of the next life"));
    assert!(!TraceFs(&t).text("trace").contains("kept"));
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert!(!t.option(TraceOption::LatencyFormat) && !t.option(TraceOption::Overwrite));
}

#[test]
fn a_tracer_that_is_not_known_ends_at_the_crossing_and_nothing_else_is_lost() {
    let _alone = alone();
    let (t, p) = tracer();
    t.mark(b"stays").unwrap();
    TraceFs(&t).put("tracing_thresh", "40").unwrap();
    let mut state = t.state().unwrap();
    state.extra.latency.tracer = "osnoise".into();
    let mut pages = Vec::new();
    t.for_each_page(|page| pages.push(page));
    let next = p.kexec(&pages);
    std::mem::forget(t);
    let t = Tracer::adopt(next, 2, 1, state, &[]).unwrap();
    assert_eq!(t.troubles().len(), 1);
    assert!(t.troubles()[0].contains("osnoise"), "{:?}", t.troubles());
    assert_eq!(TraceFs(&t).text("current_tracer"), "nop\n");
    assert!(TraceFs(&t).text("trace").contains("stays"));
}
