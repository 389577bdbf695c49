//! `test.d/filter` and `test.d/trigger`, with the timer's tick as the event.

use super::{enter, events, refused};
use tests::{Guest, Setup};

const TICK: &str = "events/irq_vectors/local_timer_entry";

#[test]
fn conditions() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    filter(&mut guest);
    trigger_traceonoff(&mut guest);
    trigger_snapshot(&mut guest);
    trigger_stacktrace(&mut guest);
    trigger_hist(&mut guest);
    crossing(&mut guest);
    guest.poweroff();
}

/// Sets the trigger, lets the timer tick, and takes the trigger away again.
fn with_trigger(guest: &mut Guest, trigger: &str) {
    guest.ok(&format!("echo '{trigger}' > {TICK}/trigger"));
    guest.ok("sleep 0.1");
}

fn without_trigger(guest: &mut Guest, trigger: &str) {
    guest.ok(&format!("echo '!{trigger}' >> {TICK}/trigger"));
    let text = guest.ok(&format!("cat {TICK}/trigger"));
    assert!(text.starts_with("# Available triggers:\n"), "{text}");
}

/// A filter decides what is recorded; a wrong one is refused, and changes nothing.
fn filter(guest: &mut Guest) {
    let filter = format!("{TICK}/filter");
    guest.ok(&format!("echo 1 > {TICK}/enable"));
    for (expression, passes) in [
        ("vector == 0", false),
        ("vector != 0", true),
        ("vector != 0 && common_pid == 4711", false),
        ("!(vector == 0) || common_pid == 4711", true),
    ] {
        guest.ok(&format!("echo '{expression}' > {filter}"));
        assert_eq!(guest.ok(&format!("cat {filter}")).trim(), expression);
        guest.ok("echo > trace; sleep 0.1; echo 0 > tracing_on");
        let count = events(&guest.ok("cat trace"));
        assert_eq!(count > 0, passes, "{expression}");
        guest.ok("echo 1 > tracing_on");
    }
    for wrong in [
        "'vector =='",
        "'nothing == 1'",
        "'(vector == 1'",
        "'vector == word'",
    ] {
        let why = guest.refused(&format!("echo {wrong} > {filter}"));
        assert!(why.contains("(EINVAL)"), "{wrong}: {why}");
    }
    guest.ok(&format!("echo 0 > {filter}; echo 0 > {TICK}/enable"));
    // A system's filter goes to the events that have the fields.
    guest.ok("echo 'vector == 7' > events/irq_vectors/filter");
    assert_eq!(guest.ok(&format!("cat {filter}")).trim(), "vector == 7");
    guest.ok("echo 0 > events/irq_vectors/filter");
    assert_eq!(guest.ok(&format!("cat {filter}")).trim(), "none");
}

/// `trigger-traceonoff.tc`, `trigger-filter.tc`.
fn trigger_traceonoff(guest: &mut Guest) {
    with_trigger(guest, "traceoff");
    assert_eq!(guest.ok("cat tracing_on").trim(), "0");
    assert_eq!(
        guest.ok(&format!("cat {TICK}/trigger")).trim(),
        "traceoff:unlimited"
    );
    let why = guest.refused(&format!("echo traceoff >> {TICK}/trigger"));
    assert!(why.contains("(EEXIST)"), "{why}");
    without_trigger(guest, "traceoff");
    with_trigger(guest, "traceon:1");
    assert_eq!(guest.ok("cat tracing_on").trim(), "1");
    without_trigger(guest, "traceon");
    with_trigger(guest, "traceoff if vector == 0");
    assert_eq!(guest.ok("cat tracing_on").trim(), "1");
    without_trigger(guest, "traceoff");
    for wrong in [
        "nothing",
        "traceoff:x",
        "'traceoff if nothing == 1'",
        "hist:keys=nothing",
    ] {
        refused(guest, wrong, &format!("{TICK}/trigger"), "EINVAL");
    }
}

/// `trigger-snapshot.tc`.
fn trigger_snapshot(guest: &mut Guest) {
    guest.ok("echo > trace; echo kept > trace_marker");
    with_trigger(guest, "snapshot:1");
    let text = guest.ok("cat snapshot");
    assert!(text.contains("tracing_mark_write: kept\n"), "{text}");
    without_trigger(guest, "snapshot");
    guest.ok("echo 0 > snapshot");
}

/// `trigger-stacktrace.tc`.
fn trigger_stacktrace(guest: &mut Guest) {
    guest.ok("echo > trace");
    with_trigger(guest, "stacktrace:1");
    let text = guest.ok("cat trace");
    assert!(text.contains(": <stack trace>\n => "), "{text}");
    without_trigger(guest, "stacktrace");
}

/// `trigger-hist.tc`.
fn trigger_hist(guest: &mut Guest) {
    with_trigger(guest, "hist:keys=vector:vals=hitcount:sort=hitcount");
    let text = guest.ok(&format!("cat {TICK}/hist"));
    assert!(text.contains("# trigger info: hist:keys=vector"), "{text}");
    assert!(
        text.contains("{ vector:") && text.contains("\nTotals:\n    Hits: "),
        "{text}"
    );
    without_trigger(guest, "hist:keys=vector:vals=hitcount:sort=hitcount");
}

/// All that was chosen is there in the next life, too.
fn crossing(guest: &mut Guest) {
    guest.ok("mkdir instances/mine; echo 8 > instances/mine/buffer_size_kb");
    guest.ok("echo 0 > instances/mine/options/overwrite; echo 70 > instances/mine/buffer_percent");
    guest.ok("echo counter > instances/mine/trace_clock");
    guest.ok("seq 1 5 > instances/mine/trace_marker");
    guest.ok("head -n 2 instances/mine/trace_pipe");
    guest.ok(&format!(
        "echo 'vector == 7' > instances/mine/{TICK}/filter"
    ));
    guest.ok(&format!("echo 1 > instances/mine/{TICK}/enable"));
    guest.ok(&format!(
        "echo 'traceoff:5 if vector == 7' > {TICK}/trigger"
    ));
    guest.ok("echo aside > trace_marker; echo 1 > snapshot");
    let files = [
        "buffer_size_kb".to_owned(),
        "options/overwrite".to_owned(),
        "buffer_percent".to_owned(),
        "trace_clock".to_owned(),
        "set_event".to_owned(),
        format!("{TICK}/filter"),
    ];
    let read = |guest: &mut Guest| {
        let of_mine = files.iter().map(|file| format!(" instances/mine/{file}"));
        let all: String = of_mine.collect();
        guest.ok(&format!("cat{all} {TICK}/trigger"))
    };
    let before = read(guest);
    guest.kexec_to(1);
    guest.ok("cd /sys/kernel/tracing");
    assert_eq!(read(guest), before);
    assert!(guest.ok("cat snapshot").contains(": aside\n"));
    let text = guest.ok("head -n 3 instances/mine/trace_pipe");
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, number) in lines.iter().zip(["3", "4", "5"]) {
        assert!(
            line.ends_with(&format!(": tracing_mark_write: {number}")),
            "{text}"
        );
    }
}
