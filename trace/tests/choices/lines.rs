//! Options that change how an event is shown, or what is recorded with it.

use super::{events, machine};
use trace::fs::TraceFs;

/// `options/latency-format`, `options/fields`.
#[test]
fn other_forms_of_a_line() {
    let m = machine(2);
    m.tracer.platform().set_step(0);
    m.tracer.platform().set_ns(2_000_000_000);
    m.put("events/enable", "1");
    m.put("trace", "");
    m.put("options/latency-format", "1");
    // Of empty buffers Linux shows no header.
    assert_eq!(m.read("trace"), "# tracer: nop\n#\n");
    // The gap to the event after it marks an event.
    for (us, cpu) in [(3, 0), (20, 1), (200, 0), (1_201, 1), (1_001_300, 0)] {
        m.tracer.platform().set_cpu(cpu);
        m.tracer.platform().set_ns(2_000_000_000 + 1000 * us);
        m.happen(1, &events::number::DESC, cpu as i32);
    }
    let text = m.read("trace");
    let head = "# tracer: nop\n#\n# nop latency trace v1.1.5 on ";
    assert!(text.starts_with(head), "{text}");
    assert!(
        text.contains("# latency: 0 us, #5/5, CPU#0 | (M:server VP:0, KP:0, SP:0 HP:0 #P:2)\n")
    );
    assert!(text.contains("#  cmd     pid     |||||| time  |   caller     \n"));
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let wanted = [
        "    init-1         0.....    3us+: number: a=0",
        "    init-1         1.....   20us!: number: a=1",
        "    init-1         0.....  200us#: number: a=0",
        "    init-1         1..... 1201us$: number: a=1",
        "    init-1         0..... 1001300us : number: a=0",
    ];
    assert_eq!(lines, wanted);
    let fs = TraceFs(&m.tracer);
    let mut pipe = fs.pipe("trace_pipe").unwrap().unwrap();
    for line in wanted {
        let mut out = Vec::new();
        pipe.next(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
    }
    m.put("trace_options", "nolatency-format");
    m.put("trace_options", "fields");
    m.tracer.platform().set_cpu(0);
    m.happen(1, &events::number::DESC, -1);
    m.put("trace_marker", "text");
    m.put("options/context-info", "0");
    let text = m.read("trace");
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        ["number: a=0xffffffff (-1)", "print: ip=0x0 (0) buf=text"]
    );
    assert!(
        m.read("trace_options")
            .starts_with("fields\nannotate\nnocontext-info\nnolatency-format\n")
    );
}

/// `options/stacktrace`: of events, not of markers, as in Linux; in each instance for itself.
#[test]
fn a_stack_after_each_event() {
    let m = machine(1);
    m.put("events/test/enable", "1");
    m.put("options/stacktrace", "1");
    m.tracer.create_instance("foo").unwrap();
    m.put("instances/foo/events/test/enable", "1");
    m.put("instances/foo/options/stacktrace", "0");
    m.happen(1, &events::number::DESC, 1);
    m.put("trace_marker", "text");
    let stack = ["<stack trace>", " => 0x1000", " => 0x2000"];
    let lines = m.events("trace");
    assert_eq!(lines[0], "number: a=1");
    assert_eq!(lines[1..4], stack);
    assert_eq!(lines[4..], ["tracing_mark_write: text"]);
    assert_eq!(m.events("instances/foo/trace"), ["number: a=1"]);
    // A new one has the top one's options.
    m.tracer.create_instance("bar").unwrap();
    m.put("instances/bar/events/test/enable", "1");
    m.happen(1, &events::number::DESC, 2);
    assert_eq!(m.events("instances/bar/trace").len(), 4);
    m.put("options/stacktrace", "0");
    m.put("trace", "");
    m.happen(1, &events::number::DESC, 3);
    assert_eq!(m.events("trace"), ["number: a=3"]);
}
