//! `test.d/event`, and `test.d/ftrace/tracing-error-log.tc`.

use super::{enter, error_is_at, refused};
use tests::{Guest, Setup, tracefile};

const TICK: &str = "events/irq_vectors/local_timer_entry";

#[test]
fn event() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    event_enable(&mut guest);
    subsystem_enable(&mut guest);
    toplevel_enable(&mut guest);
    set_event(&mut guest);
    event_pid(&mut guest);
    error_log(&mut guest);
    guest.poweroff();
}

/// Ticks in the trace after some time.
fn ticks(guest: &mut Guest) -> usize {
    guest.ok("echo > trace");
    guest.ok("sleep 0.1");
    guest.ok("echo 0 > tracing_on");
    let text = guest.ok("cat trace");
    guest.ok("echo 1 > tracing_on");
    let ticks = tracefile::parse(&text);
    ticks
        .iter()
        .filter(|e| e.event == "local_timer_entry")
        .count()
}

/// `event-enable.tc`.
fn event_enable(guest: &mut Guest) {
    guest.ok("echo irq_vectors:local_timer_entry > set_event");
    assert!(ticks(guest) > 0, "set_event");
    guest.ok(&format!("echo 0 > {TICK}/enable"));
    assert_eq!(ticks(guest), 0);
    guest.ok(&format!("echo 1 > {TICK}/enable"));
    assert!(ticks(guest) > 0, "enable");
    guest.ok(&format!("echo 0 > {TICK}/enable"));
    assert_eq!(ticks(guest), 0);
    refused(guest, "2", &format!("{TICK}/enable"), "EINVAL");
}

/// `subsystem-enable.tc`.
fn subsystem_enable(guest: &mut Guest) {
    let enable = "events/irq_vectors/enable";
    for on in [
        "echo 'irq_vectors:*' > set_event",
        "echo irq_vectors > set_event",
    ] {
        guest.ok(on);
        assert_eq!(guest.ok(&format!("cat {enable}")).trim(), "1");
        assert!(ticks(guest) > 0, "{on}");
        guest.ok(&format!("echo 0 > {TICK}/enable"));
        assert_eq!(guest.ok(&format!("cat {enable}")).trim(), "X");
        guest.ok(&format!("echo 0 > {enable}"));
        assert_eq!(ticks(guest), 0);
    }
    refused(guest, "on", enable, "EINVAL");
}

/// `toplevel-enable.tc`.
fn toplevel_enable(guest: &mut Guest) {
    guest.ok("echo '*:*' > set_event");
    assert!(ticks(guest) > 0, "*:*");
    guest.ok("echo 0 > events/enable");
    assert_eq!(ticks(guest), 0);
    guest.ok("echo 1 > events/enable");
    assert_eq!(guest.ok("cat events/enable").trim(), "1");
    assert!(ticks(guest) > 0, "events/enable");
    guest.ok("echo 0 > events/enable");
    assert_eq!(ticks(guest), 0);
    refused(guest, "x", "events/enable", "EINVAL");
}

fn set_event(guest: &mut Guest) {
    guest.ok("echo irq: > set_event; echo ':local_timer_exit' >> set_event");
    for not in [
        "irq_handler_exit",
        "softirq_raise",
        "softirq_entry",
        "softirq_exit",
    ] {
        guest.ok(&format!("echo '!irq:{not}' >> set_event"));
    }
    assert_eq!(
        guest.ok("cat set_event"),
        "irq:irq_handler_entry\nirq_vectors:local_timer_exit\n"
    );
    refused(guest, "no:such", "set_event", "EINVAL");
    refused(guest, "irq no_such", "set_event", "EINVAL");
    guest.ok("echo > set_event");
    assert_eq!(guest.ok("cat set_event"), "");
}

/// The tasks that have left events in the trace.
fn pids(guest: &mut Guest) -> Vec<String> {
    guest.ok("echo 0 > tracing_on");
    let text = guest.ok("cat trace");
    guest.ok("echo 1 > tracing_on");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut pids: Vec<String> = lines
        .filter_map(|line| {
            let (task, _) = line.split_once(" [")?;
            Some(task.trim_end().rsplit_once('-')?.1.to_owned())
        })
        .collect();
    pids.sort();
    pids.dedup();
    pids
}

/// `event-pid.tc`, `event-no-pid.tc`, but for `options/event-fork`: nothing forks here.
fn event_pid(guest: &mut Guest) {
    let names = guest.ok("cat saved_cmdlines");
    let console = names.lines().find_map(|line| line.strip_suffix(" console"));
    let console = console.unwrap_or_else(|| panic!("{names}"));
    // Events of the console, and of the idle task while it sleeps.
    guest.ok("echo 1 > events/irq_vectors/enable; echo 1 > events/baton/enable");
    guest.ok("echo > trace; sleep 0.1");
    let all = pids(guest);
    assert!(
        all.len() > 1 && all.iter().any(|pid| pid == console),
        "{all:?}"
    );
    guest.ok(&format!("echo {console} > set_event_pid"));
    assert_eq!(guest.ok("cat set_event_pid").trim(), console);
    guest.ok("echo > trace; sleep 0.1");
    assert_eq!(pids(guest), [console]);
    guest.ok("echo > set_event_pid");
    guest.ok(&format!("echo {console} > set_event_notrace_pid"));
    assert_eq!(guest.ok("cat set_event_notrace_pid").trim(), console);
    guest.ok("echo > trace; sleep 0.1");
    let others = pids(guest);
    assert!(
        !others.is_empty() && !others.iter().any(|pid| pid == console),
        "{others:?}"
    );
    refused(guest, "nobody", "set_event_notrace_pid", "EINVAL");
    refused(guest, "-1", "set_event_pid", "EINVAL");
    guest.ok("echo > set_event_notrace_pid; echo 0 > events/enable");
}

/// `tracing-error-log.tc`: a wrong filter is refused, told with a caret, and logged until the log is cleared.
fn error_log(guest: &mut Guest) {
    assert_eq!(guest.ok("cat error_log"), "");
    let filter = format!("{TICK}/filter");
    guest.ok(&format!("echo 'common_pid == 0' > {filter}"));
    let why = guest.refused(&format!(
        "echo '((sig >= 10 && sig < 15) || dsig == 17) && comm != bash' > {filter}"
    ));
    assert!(why.contains("(EINVAL)"), "{why}");
    error_is_at(
        guest,
        "event filter parse error",
        "((vector >= 10 && vector < 15) || dsig ^== 17) && comm != bash",
        &filter,
    );
    guest.refused(&format!(
        "echo '((sig >= 10 && sig < 15) || dsig == 17) && comm != bash' > {filter}"
    ));
    let shown = guest.ok(&format!("cat {filter}"));
    let caret = shown.lines().nth(1).unwrap_or_default();
    assert!(
        caret.trim_start() == "^" && shown.contains("parse_error: "),
        "{shown}"
    );
    let log = guest.ok("cat error_log");
    assert!(
        log.contains("event filter parse error: error: Field not found\n  Command: ((sig"),
        "{log}"
    );
    guest.ok("echo > error_log");
    assert_eq!(guest.ok("cat error_log"), "");
    guest.ok(&format!("echo 0 > {filter}"));
    assert_eq!(guest.ok(&format!("cat {filter}")).trim(), "none");
}
