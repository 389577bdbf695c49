//! What Linux's ftrace selftests check (`tools/testing/selftests/ftrace/test.d`), at Baton's console: a file here for each group there, and
//! a check for each test, named after it. `docs/selftests.md` has the list of all of them, and says why some are not here.

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

/// The text of all markers in a trace, joined: a long one stands there in pieces.
fn marked(text: &str) -> String {
    text.lines()
        .filter_map(|line| Some(line.split_once("tracing_mark_write: ")?.1))
        .collect()
}

/// `functions`' `ftrace_errlog_check`: the command, with a caret before the place, is refused, and the log's last caret stands
/// under that place.
fn error_is_at(guest: &mut Guest, prefix: &str, command: &str, file: &str) {
    let (before, _) = command
        .split_once('^')
        .unwrap_or_else(|| panic!("{command}"));
    let text = command.replace('^', "");
    guest.ok("echo > error_log");
    let why = guest.refused(&format!("echo -n '{text}' >> {file}"));
    assert!(why.contains("(EINVAL)"), "{text}: {why}");
    let log = guest.ok("cat error_log");
    assert!(log.contains(&format!("{prefix}: error:")), "{log}");
    // "  Command: ", the place, the caret, the newline.
    let last = guest.ok("tail -n 1 error_log | wc -c");
    let bytes = 13 + before.len();
    assert_eq!(last.trim(), bytes.to_string(), "{text}\n{log}");
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
