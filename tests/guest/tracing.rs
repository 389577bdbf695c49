//! `/sys/kernel/tracing`, as people who trace Linux know it.

use tests::{Setup, tracefile};

const TRACING: &str = "/sys/kernel/tracing";

#[test]
fn files_and_events_are_linuxs() {
    let mut guest = Setup::new().boot();
    let names = guest.ok(&format!("ls {TRACING}"));
    for name in [
        "available_events",
        "available_tracers",
        "buffer_size_kb",
        "current_tracer",
        "events",
        "per_cpu",
        "set_event",
        "trace",
        "trace_clock",
        "trace_marker",
        "tracing_on",
    ] {
        assert!(names.contains(name), "{name} is missing:\n{names}");
    }
    let events = guest.ok(&format!("cat {TRACING}/available_events"));
    for event in [
        "ftrace:print",
        "irq:irq_handler_entry",
        "irq:irq_handler_exit",
        "irq_vectors:local_timer_entry",
        "irq_vectors:local_timer_exit",
        "kmem:mm_page_alloc",
        "kmem:mm_page_free",
        "printk:console",
        "baton:kexec_phase",
    ] {
        // Linux leaves its own ftrace events out of the list.
        if !event.starts_with("ftrace:") {
            assert!(
                events.lines().any(|line| line == event),
                "{event} is missing:\n{events}"
            );
        }
        let folder = event.replace(':', "/");
        let format = guest.ok(&format!("cat {TRACING}/events/{folder}/format"));
        let id = guest.ok(&format!("cat {TRACING}/events/{folder}/id"));
        assert!(format.contains(&format!("ID: {}\n", id.trim())), "{format}");
        assert!(
            format.contains("field:unsigned short common_type;\toffset:0;\tsize:2;"),
            "{format}"
        );
        assert!(format.contains("print fmt: \""), "{format}");
    }
    crate::formats::check(&mut guest);
    guest.poweroff();
}

#[test]
fn switches_do_what_they_say() {
    let mut guest = Setup::new().boot();
    let count = |text: &str, event: &str| {
        tracefile::parse(text)
            .iter()
            .filter(|entry| entry.event == event)
            .count()
    };
    let timer = "local_timer_entry";
    let enable = format!("{TRACING}/events/irq_vectors/{timer}/enable");

    guest.ok(&format!("echo > {TRACING}/set_event"));
    guest.ok(&format!("echo > {TRACING}/trace"));
    guest.ok("sleep 0.2");
    assert_eq!(count(&guest.ok(&format!("cat {TRACING}/trace")), timer), 0);
    guest.ok(&format!("echo 1 > {enable}"));
    assert_eq!(guest.ok(&format!("cat {enable}")).trim(), "1");
    guest.ok("sleep 0.2");
    guest.ok(&format!("echo 0 > {enable}"));
    let text = guest.ok(&format!("cat {TRACING}/trace"));
    assert!(count(&text, timer) > 0, "no tick was recorded:\n{text}");
    assert!(text.starts_with("# tracer: nop\n"), "{text}");
    assert!(
        text.contains("TASK-PID"),
        "the header of Linux's layout:\n{text}"
    );

    // A switch that is off records nothing, markers included.
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    guest.run(&format!("echo unheard > {TRACING}/trace_marker"));
    guest.ok(&format!("echo 1 > {TRACING}/tracing_on"));
    guest.ok(&format!("echo heard > {TRACING}/trace_marker"));
    let text = guest.ok(&format!("cat {TRACING}/trace"));
    assert!(
        text.contains("heard") && !text.contains("unheard"),
        "{text}"
    );

    guest.ok(&format!("echo > {TRACING}/trace"));
    assert_eq!(
        tracefile::parse(&guest.ok(&format!("cat {TRACING}/trace"))).len(),
        0
    );

    // Wrong input: a reason, and nothing has changed.
    for (text, file) in [
        ("maybe", "tracing_on"),
        ("no_such_tracer", "current_tracer"),
        ("no:such_event", "set_event"),
        ("no-such-clock", "trace_clock"),
        ("-5", "buffer_size_kb"),
    ] {
        let before = guest.ok(&format!("cat {TRACING}/{file}"));
        guest.refused(&format!("echo {text} > {TRACING}/{file}"));
        assert_eq!(guest.ok(&format!("cat {TRACING}/{file}")), before, "{file}");
    }
    guest.poweroff();
}
