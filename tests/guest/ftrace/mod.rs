//! What Linux's ftrace selftests check (`tools/testing/selftests/ftrace/test.d`), at Baton's console: a file here for each group there, and
//! a check for each test, named after it. Left out are those whose feature is not here: `event-pid`, `event-no-pid` and `event-mod`
//! (no `set_event_pid`, no modules), `trace_printk` (a module's), `mount_options` and `test_ownership` (no mount options, no users).

mod basic;
mod crossing;
mod event;
mod filter;
mod instances;
mod trigger;

use tests::{Guest, tracefile};

/// Goes to the directory of the tracer, and leaves it as quiet as the selftests' `initialize_ftrace` does.
fn enter(guest: &mut Guest) {
    guest.ok("cd /sys/kernel/tracing");
    guest.ok("echo 0 > events/enable");
    guest.ok("echo > trace");
}

/// The number of events in a trace's text.
fn events(text: &str) -> usize {
    tracefile::parse(text).len()
}

/// Refused with this error's name, and a file that says what it said before.
fn refused(guest: &mut Guest, text: &str, file: &str, errno: &str) {
    let before = guest.ok(&format!("cat {file}"));
    let why = guest.refused(&format!("echo {text} > {file}"));
    assert!(
        why.contains(&format!("({errno})")),
        "{text} > {file}: {why}"
    );
    assert_eq!(guest.ok(&format!("cat {file}")), before, "{file}");
}
