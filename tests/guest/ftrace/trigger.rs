//! `test.d/trigger`: its tests on the event of the commands that are typed, as Linux's are on the events of tasks that fork.

use super::{enter, error_is_at, marked};
use tests::{Guest, Setup};

const EVENT: &str = "events/baton/console_command";
const OTHER: &str = "events/irq_vectors/local_timer_entry";

/// What `reset_trigger_file` does: takes each trigger away by its own line.
fn reset(guest: &mut Guest) {
    let text = guest.ok(&format!("cat {EVENT}/trigger"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let command = line.split(" [").next().unwrap_or(line);
        let command = command.split(":unlimited").next().unwrap_or(command);
        let command = command.split(":count=").next().unwrap_or(command);
        let command = command.split(" if ").next().unwrap_or(command);
        guest.ok(&format!("echo '!{command}' >> {EVENT}/trigger"));
    }
    let text = guest.ok(&format!("cat {EVENT}/trigger"));
    assert!(
        text.starts_with("# Available triggers:\n# traceon"),
        "{text}"
    );
}

fn set(guest: &mut Guest, text: &str) {
    guest.ok(&format!("echo '{text}' > {EVENT}/trigger"));
}

fn refused(guest: &mut Guest, text: &str, errno: &str) {
    let why = guest.refused(&format!("echo '{text}' > {EVENT}/trigger"));
    assert!(why.contains(errno), "{text}: {why}");
}

#[test]
fn triggers_do_what_they_say() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    trigger_traceonoff(&mut guest);
    trigger_eventonoff(&mut guest);
    trigger_filter(&mut guest);
    trigger_snapshot(&mut guest);
    trigger_stacktrace(&mut guest);
    trace_marker_hist(&mut guest);
    trace_marker_snapshot(&mut guest);
    guest.poweroff();
}

fn trigger_traceonoff(guest: &mut Guest) {
    set(guest, "traceoff if line == \"pwd\"");
    guest.ok("pwd");
    assert_eq!(guest.ok("cat tracing_on"), "0\n");
    reset(guest);
    set(guest, "traceon");
    guest.ok("pwd");
    assert_eq!(guest.ok("cat tracing_on"), "1\n");
    refused(guest, "traceoff", "EEXIST");
    refused(guest, "traceoff:badparam", "EINVAL");
    refused(guest, "traceoff+0", "EINVAL");
    reset(guest);
}

fn trigger_eventonoff(guest: &mut Guest) {
    set(
        guest,
        "enable_event:irq_vectors:local_timer_entry if line == \"pwd\"",
    );
    assert_eq!(guest.ok(&format!("cat {OTHER}/enable")), "0*\n");
    guest.ok("pwd");
    assert_eq!(guest.ok(&format!("cat {OTHER}/enable")), "1*\n");
    reset(guest);
    set(
        guest,
        "disable_event:irq_vectors:local_timer_entry:1 if line == \"pwd\"",
    );
    guest.ok("pwd");
    assert_eq!(guest.ok(&format!("cat {OTHER}/enable")), "0*\n");
    refused(guest, "enable_event:nogroup:noevent", "EINVAL");
    refused(guest, "disable_event+1", "EINVAL");
    refused(
        guest,
        "enable_event:irq_vectors:local_timer_entry",
        "EEXIST",
    );
    reset(guest);
}

fn trigger_filter(guest: &mut Guest) {
    set(guest, "traceoff if common_pid == -1");
    guest.ok("pwd");
    assert_eq!(guest.ok("cat tracing_on"), "1\n");
    reset(guest);
    refused(guest, "traceoff if a", "EINVAL");
    refused(guest, "traceoff if common_pid=0", "EINVAL");
    refused(guest, "traceoff if common_pid==b", "EINVAL");
    reset(guest);
}

fn trigger_snapshot(guest: &mut Guest) {
    set(guest, "snapshot:1 if line == \"pwd\"");
    guest.ok("echo > trace");
    guest.ok("echo marked > trace_marker");
    guest.ok("pwd");
    assert!(!guest.ok("cat trace").contains("marked"));
    let snapshot = guest.ok("cat snapshot");
    assert!(snapshot.contains("marked"), "{snapshot}");
    assert!(
        guest
            .ok(&format!("cat {EVENT}/trigger"))
            .contains("snapshot:count=0")
    );
    reset(guest);
}

fn trigger_stacktrace(guest: &mut Guest) {
    set(guest, "stacktrace:1 if line == \"pwd\"");
    guest.ok("pwd");
    let text = guest.ok("cat trace");
    assert!(text.contains("<stack trace>\n => "), "{text}");
    refused(guest, "stacktrace:foo", "EINVAL");
    reset(guest);
}

const PRINT: &str = "events/ftrace/print";

/// `trigger-trace-marker-hist.tc`
fn trace_marker_hist(guest: &mut Guest) {
    guest.ok(&format!("echo 'hist:keys=common_pid' > {PRINT}/trigger"));
    for _ in 0..10 {
        guest.ok("echo hello > trace_marker");
    }
    let text = guest.ok(&format!("cat {PRINT}/hist"));
    assert!(text.contains("hitcount:         10\n"), "{text}");
    guest.ok(&format!("echo '!hist:keys=common_pid' > {PRINT}/trigger"));
}

/// `trigger-trace-marker-snapshot.tc`
fn trace_marker_snapshot(guest: &mut Guest) {
    guest.ok("echo 0 > events/enable; echo 0 > snapshot; echo > trace");
    guest.ok(&format!("echo snapshot > {PRINT}/trigger"));
    assert!(guest.ok("cat snapshot").contains("Snapshot is allocated"));
    guest.ok("seq -f 'hello >%g<' 1 10 > trace_marker");
    let odd: String = (1..10).step_by(2).map(|i| format!("hello >{i}<")).collect();
    let even: String = (2..=10)
        .step_by(2)
        .map(|i| format!("hello >{i}<"))
        .collect();
    assert_eq!(marked(&guest.ok("cat trace")), odd);
    assert_eq!(marked(&guest.ok("cat snapshot")), even);
    guest.ok(&format!("echo '!snapshot' > {PRINT}/trigger"));
}

#[test]
fn histograms_count() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    // trigger-hist.tc
    set(&mut guest, "hist:keys=common_pid,line if line ~ \"[hp]*\"");
    for command in ["pwd", "pwd", "help"] {
        guest.ok(command);
    }
    let text = guest.ok(&format!("cat {EVENT}/hist"));
    assert!(text.starts_with("# event histogram\n#\n# trigger info: hist:keys=common_pid,line:vals=hitcount:sort=hitcount:size=2048 if line ~ \"[hp]*\" [active]\n#\n\n{ "), "{text}");
    assert!(
        text.contains("\nTotals:\n    Hits: 3\n    Entries: 2\n    Dropped: 0\n"),
        "{text}"
    );
    // trigger-hist-mod.tc
    for (keys, shown) in [
        (
            "common_pid.execname",
            "{ common_pid: console         [         1] }",
        ),
        ("common_pid.hex", "{ common_pid: 1 }"),
        ("common_pid.log2", "{ common_pid: ~ 2^0  }"),
        ("common_pid.buckets=4", "{ common_pid: ~ 0-3 }"),
    ] {
        set(&mut guest, &format!("hist:keys={keys}"));
        guest.ok("pwd");
        let text = guest.ok(&format!("cat {EVENT}/hist"));
        assert!(text.contains(shown), "{keys}: {text}");
    }
    guest.ok(&format!("echo 'hist:keys=ip.sym' > {PRINT}/trigger"));
    guest.ok("echo hello > trace_marker");
    let text = guest.ok(&format!("cat {PRINT}/hist"));
    // A name, not an address.
    let named = text.split_once("{ ip: [ffffffff8").map(|(_, rest)| rest);
    let name = named.and_then(|rest| rest.split_once("] ")?.1.split(' ').next());
    assert!(
        name.is_some_and(|name| name.contains("marker_ip")),
        "{text}"
    );
    guest.ok(&format!("> {PRINT}/trigger"));
    // trigger-multihist.tc
    guest.ok(&format!("echo 'hist:keys=line' >> {EVENT}/trigger"));
    guest.ok("pwd");
    let text = guest.ok(&format!("cat {EVENT}/hist"));
    assert_eq!(text.matches("# event histogram").count(), 2, "{text}");
    // Its second half: one name, two events.
    guest.ok(&format!("> {EVENT}/trigger"));
    set(&mut guest, "hist:name=test_hist:keys=common_pid");
    guest.ok("pwd");
    assert!(guest.ok(&format!("cat {EVENT}/hist")).contains("test_hist"));
    guest.ok(&format!(
        "echo 'hist:name=test_hist:keys=common_pid' > {PRINT}/trigger"
    ));
    guest.ok("echo hello > trace_marker");
    // The commands between the two looks count, too: one command shows both.
    let both = guest.ok(&format!("cat {EVENT}/hist {PRINT}/hist"));
    let half = both.len() / 2;
    assert!(
        both.contains("test_hist") && both[..half] == both[half..],
        "{both}"
    );
    guest.ok(&format!("> {PRINT}/trigger; > {EVENT}/trigger"));
    // trigger-hist-syntax-errors.tc
    for command in [
        "hist:keys=common_pid:vals=common_pid:sort=common_pid,^junk",
        "hist:keys=common_pid:vals=common_pid:^sort=",
        "hist:keys=common_pid:vals=common_pid:^sort=common_pid,",
        "hist:keys=common_pid:vals=common_pid:sort=common_pid.^junk",
        "hist:keys=common_pid:vals=common_flags:^sort=common_pid,common_flags,hitcount",
    ] {
        let trigger = format!("{EVENT}/trigger");
        error_is_at(&mut guest, "hist:baton:console_command", command, &trigger);
    }
    set(&mut guest, "hist:keys=common_pid");
    refused(&mut guest, "hist:keys=nothing", "EINVAL");
    let log = guest.ok("cat error_log");
    assert!(
        log.contains(
            "hist:baton:console_command: error: Couldn't find field\n  Command: hist:keys=nothing\n"
        ),
        "{log}"
    );
    reset(&mut guest);

    // What was counted crosses a kexec.
    set(&mut guest, "hist:keys=line if line == \"pwd\"");
    guest.ok("pwd");
    let before = guest.ok(&format!("cat {EVENT}/hist"));
    assert!(before.contains("Hits: 1"), "{before}");
    guest.kexec_to(1);
    guest.ok("cd /sys/kernel/tracing");
    assert_eq!(guest.ok(&format!("cat {EVENT}/hist")), before);
    guest.ok("pwd");
    assert!(guest.ok(&format!("cat {EVENT}/hist")).contains("Hits: 2"));
    guest.poweroff();
}
