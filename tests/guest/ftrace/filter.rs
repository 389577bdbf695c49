//! `test.d/filter`, and what Linux's documentation says of filters (`Documentation/trace/events.rst`, "Event filtering").

use super::enter;
use tests::{Guest, Setup, tracefile};

const EVENT: &str = "events/baton/console_command";

/// The lines of the commands in the trace.
fn commands(guest: &mut Guest) -> Vec<String> {
    let text = guest.ok("cat trace");
    tracefile::parse(&text)
        .into_iter()
        .filter(|entry| entry.event == "console_command")
        .map(|entry| entry.text.trim().to_string())
        .collect()
}

#[test]
fn filters_keep_what_matches() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    assert_eq!(guest.ok(&format!("cat {EVENT}/filter")), "none\n");
    guest.ok(&format!(
        "echo 'line ~ \"echo [a-z]*\" && line != \"echo two\"' > {EVENT}/filter"
    ));
    assert_eq!(
        guest.ok(&format!("cat {EVENT}/filter")),
        "line ~ \"echo [a-z]*\" && line != \"echo two\"\n"
    );
    guest.ok(&format!("echo 1 > {EVENT}/enable"));
    for command in ["echo one", "echo two", "pwd", "echo three"] {
        guest.ok(command);
    }
    guest.ok(&format!("cat {EVENT}/enable"));
    assert_eq!(commands(&mut guest), ["echo one", "echo three"]);

    // A wrong one: the caret line, and no effect.
    let why = guest.refused(&format!("echo 'word == \"x\"' > {EVENT}/filter"));
    assert!(why.contains("EINVAL"), "{why}");
    assert_eq!(
        guest.ok(&format!("cat {EVENT}/filter")),
        "word == \"x\"\n     ^\nparse_error: Field not found\n\
         # in force: line ~ \"echo [a-z]*\" && line != \"echo two\"\n"
    );
    let log = guest.ok("cat error_log");
    assert!(
        log.contains("event filter parse error: error: Field not found\n  Command: word == \"x\"\n                ^\n"),
        "{log}"
    );
    guest.ok("echo > error_log");
    assert_eq!(guest.ok("cat error_log"), "");
    guest.ok("pwd");
    guest.ok("echo four");
    assert_eq!(
        commands(&mut guest),
        ["echo one", "echo three", "echo four"]
    );

    // Of a system: events that have the field.
    guest.ok("echo 'generation == 7' > events/baton/filter");
    assert_eq!(
        guest.ok("cat events/baton/kexec_phase/filter"),
        "generation == 7\n"
    );
    guest.refused("echo 'nothing == 1' > events/baton/filter");
    assert!(
        guest
            .ok("cat events/baton/filter")
            .contains("parse_error: Couldn't find or set field")
    );
    guest.ok("echo 0 > events/baton/filter");
    assert_eq!(guest.ok(&format!("cat {EVENT}/filter")), "none\n");
    assert!(
        guest
            .ok("cat events/baton/filter")
            .starts_with("### global filter ###")
    );

    // A common field, and another clock's event.
    guest.ok("echo 'common_pid == -1' > events/irq_vectors/filter");
    guest.ok("echo 1 > events/irq_vectors/enable");
    guest.ok("sleep 0.1");
    let text = guest.ok("cat trace");
    assert!(!text.contains("local_timer"), "{text}");
    guest.poweroff();
}
