//! Triggers of `trace_marker`, of tasks that are left out, and histograms that belong together.

use super::{NUMBER, SWITCH, events, machine};
use trace::Errno;

/// `trace_event_ignore_this_pid`: who is left out is shown to no filter and no trigger that looks at the record.
#[test]
fn triggers_of_tasks_that_are_left_out() {
    let m = machine(1);
    m.put("set_event_pid", "6");
    m.put(&format!("{NUMBER}/trigger"), "hist:keys=common_pid");
    for pid in [5, 6, 6] {
        m.happen(pid, &events::number::DESC, 1);
    }
    assert!(m.read(&format!("{NUMBER}/hist")).contains("Hits: 2\n"));
    m.put(&format!("{NUMBER}/trigger"), "!hist:keys=common_pid");
    m.put(&format!("{NUMBER}/trigger"), "traceoff if a == 1");
    m.happen(5, &events::number::DESC, 1);
    assert_eq!(m.read("tracing_on"), "1\n");
    m.put("tracing_on", "0");
    m.put(&format!("{NUMBER}/trigger"), "!traceoff");
    // One that asks nothing is pulled.
    m.put(&format!("{NUMBER}/trigger"), "traceon");
    m.happen(5, &events::number::DESC, 1);
    assert_eq!(m.read("tracing_on"), "1\n");
}

/// `trigger-trace-marker-hist.tc`, `trigger-trace-marker-snapshot.tc`.
#[test]
fn triggers_of_trace_marker() {
    let m = machine(1);
    let print = "events/ftrace/print";
    assert!(
        m.read(&format!("{print}/trigger"))
            .starts_with("# Available triggers:\n# traceon traceoff snapshot stacktrace")
    );
    m.put(&format!("{print}/trigger"), "hist:keys=common_pid");
    for _ in 0..10 {
        m.put("trace_marker", "hello");
    }
    assert!(
        m.read(&format!("{print}/hist"))
            .lines()
            .any(|line| line.ends_with("hitcount:         10"))
    );
    assert_eq!(m.events("trace").len(), 10);
    m.put(&format!("{print}/trigger"), "!hist:keys=common_pid");
    // The text is looked at without the newline that is put behind it.
    m.put(&format!("{print}/trigger"), "traceoff if buf == \"stop\"");
    m.put("trace_marker", "stop it");
    assert_eq!(m.read("tracing_on"), "1\n");
    m.put("trace_marker", "stop");
    assert_eq!(m.read("tracing_on"), "0\n");
    assert_eq!(
        m.events("trace").last().unwrap(),
        "tracing_mark_write: stop"
    );
    m.put("tracing_on", "1");
    m.put(&format!("{print}/trigger"), "!traceoff");
    // Each event stands in the buffer that is set aside then.
    m.put("trace", "");
    m.put(&format!("{print}/trigger"), "snapshot");
    assert!(m.read("snapshot").contains("# * Snapshot is allocated *"));
    for i in 1..=10 {
        m.put("trace_marker", &format!("hello >{i}<"));
    }
    let of = |file: &str| -> Vec<String> {
        m.events(file)
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.to_string())
            .collect()
    };
    assert_eq!(of("trace"), [">1<", ">3<", ">5<", ">7<", ">9<"]);
    assert_eq!(of("snapshot"), [">2<", ">4<", ">6<", ">8<", ">10<"]);
    // Another event can be switched by it, and it by none.
    m.put(&format!("{print}/trigger"), "!snapshot");
    m.put(
        &format!("{print}/trigger"),
        "enable_event:test:number if buf ~ \"go*\"",
    );
    m.put("trace_marker", "go on");
    assert_eq!(m.read(&format!("{NUMBER}/enable")), "1*\n");
    assert_eq!(
        m.try_put(&format!("{NUMBER}/trigger"), "enable_event:ftrace:print"),
        Err(Errno::EINVAL)
    );
}

/// Linux fires an unconditional snapshot before the event has its place, and a conditional one after.
#[test]
fn a_snapshot_holds_the_event_that_a_filter_chose() {
    let m = machine(1);
    m.put("events/enable", "1");
    let trigger = format!("{NUMBER}/trigger");
    m.put(&trigger, "snapshot:1 if a == 2");
    for a in [1, 2, 3] {
        m.happen(1, &events::number::DESC, a);
    }
    assert_eq!(m.events("snapshot"), ["number: a=1", "number: a=2"]);
    assert_eq!(m.events("trace"), ["number: a=3"]);
    m.put(&trigger, "!snapshot");
    m.put("snapshot", "2");
    m.put("trace", "");
    m.put(&trigger, "snapshot:1");
    m.happen(1, &events::number::DESC, 4);
    assert_eq!(m.events("trace"), ["number: a=4"]);
}

/// `trigger-multihist.tc`, its second half.
#[test]
fn histograms_of_one_name_count_together() {
    let m = machine(1);
    let (number, switch) = (format!("{NUMBER}/trigger"), format!("{SWITCH}/trigger"));
    let hists = || {
        (
            m.read(&format!("{NUMBER}/hist")),
            m.read(&format!("{SWITCH}/hist")),
        )
    };
    let happen = || {
        m.happen(3, &events::number::DESC, 1);
        m.happen(3, &events::sched_switch::DESC, 4);
    };
    m.put(&number, "hist:name=both:keys=common_pid");
    happen();
    assert!(
        hists()
            .0
            .contains("# trigger info: hist:both:keys=common_pid:vals=hitcount")
    );
    m.put(&switch, "hist:name=both:keys=common_pid");
    happen();
    let (a, b) = hists();
    assert_eq!(a, b);
    assert!(
        a.contains("hitcount:          3\n") && a.contains("Hits: 3"),
        "{a}"
    );
    // What counts by something else cannot join.
    for other in [
        "hist:name=both:keys=common_pid.hex",
        "hist:name=both:keys=next_pid",
        "hist:name=both:keys=common_pid:vals=common_pid",
        "hist:name=both:keys=common_pid:sort=common_pid",
    ] {
        assert_eq!(m.add(&switch, other), Err(Errno::EINVAL), "{other}");
        assert_eq!(hists(), (a.clone(), b.clone()));
    }
    assert!(m.read("error_log").contains(
        "hist:sched:sched_switch: error: Named hist trigger doesn't match existing named trigger"
    ));
    // What is done to one is done to both.
    m.add(&switch, "hist:name=both:keys=common_pid:pause")
        .unwrap();
    happen();
    assert!(hists().0.contains("[paused]") && hists().0.contains("Hits: 3"));
    m.add(&number, "hist:name=both:keys=common_pid:cont")
        .unwrap();
    m.add(&switch, "hist:name=both:keys=common_pid:clear")
        .unwrap();
    let (a, b) = hists();
    assert!(a == b && a.contains("Hits: 0"), "{a}");
    happen();
    let (a, b) = hists();
    assert!(a == b && a.contains("Hits: 2"), "{a}");
    // Who is written anew joins again; who goes leaves the other what it has.
    m.put(&switch, "hist:name=both:keys=common_pid");
    assert!(hists().1.contains("Hits: 2"));
    m.put(&switch, "");
    assert!(hists().0.contains("Hits: 2") && hists().1.is_empty());
}

#[test]
fn histograms_are_switched_by_other_events() {
    let m = machine(1);
    let (number, switch) = (format!("{NUMBER}/trigger"), format!("{SWITCH}/trigger"));
    m.put(&number, "hist:keys=a:pause");
    m.put(&switch, "enable_hist:test:number if next_pid == 1");
    assert_eq!(
        m.read(&switch),
        "enable_hist:test:number:unlimited if next_pid == 1\n"
    );
    let paused = || m.read(&number).ends_with("[paused]\n");
    m.happen(3, &events::sched_switch::DESC, 2);
    assert!(paused());
    m.happen(3, &events::sched_switch::DESC, 1);
    assert!(!paused());
    assert_eq!(
        m.add(&switch, "disable_hist:test:number"),
        Err(Errno::EEXIST)
    );
    m.add(&switch, "!enable_hist:test:number").unwrap();
    m.add(&switch, "disable_hist:test:number:1").unwrap();
    m.happen(3, &events::sched_switch::DESC, 2);
    assert!(paused());
    assert_eq!(m.read(&switch), "disable_hist:test:number:count=0\n");
    assert_eq!(m.try_put(&switch, "enable_hist:x:y"), Err(Errno::EINVAL));
}

/// `.sym` is a function's name, `.sym-offset` also where in it the address lies, and its length.
#[test]
fn places_in_functions() {
    let m = machine(1);
    m.tracer.platform().set_build(7);
    let print = "events/ftrace/print";
    m.put(&format!("{print}/trigger"), "hist:keys=ip.sym");
    m.add(&format!("{print}/trigger"), "hist:keys=ip.sym-offset")
        .unwrap();
    m.put("trace_marker", "hello");
    let text = m.read(&format!("{print}/hist"));
    for (shown, width) in [("build_7_at_0", 45), ("build_7_at_0+0x0/0x10", 55)] {
        let line = format!("{{ ip: [0] {shown:<width$} }} hitcount:          1\n");
        assert!(text.contains(&line), "{text}");
    }
}

/// `.sym` and `.sym-offset`: what the machine calls the address; this one here knows no names.
#[test]
fn addresses_by_name() {
    let m = machine(1);
    let print = "events/ftrace/print";
    m.put(&format!("{print}/trigger"), "hist:keys=ip.sym:sort=ip.sym");
    m.add(&format!("{print}/trigger"), "hist:keys=ip.sym-offset")
        .unwrap();
    m.put("trace_marker", "hello");
    let text = m.read(&format!("{print}/hist"));
    for (key, sort, width) in [("ip.sym", "ip.sym", 45), ("ip.sym-offset", "hitcount", 55)] {
        let info = format!("hist:keys={key}:vals=hitcount:sort={sort}:size=2048 [active]");
        assert!(text.contains(&info), "{text}");
        let line = format!("{{ ip: [0] {:<width$} }} hitcount:          1\n", "0x0");
        assert!(text.contains(&line), "{text}");
    }
    assert_eq!(
        m.add(&format!("{print}/trigger"), "hist:keys=buf.sym"),
        Err(Errno::EINVAL)
    );
}
