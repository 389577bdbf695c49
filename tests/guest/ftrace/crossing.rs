//! What people chose in the files is there in the next life, too. (No selftest of Linux's: it has no such thing.)

use super::enter;
use tests::{Guest, Setup};

const TICK: &str = "events/irq_vectors/local_timer_entry";

#[test]
fn what_was_chosen_crosses() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
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
    guest
        .ok("echo 1 > instances/mine/set_event_pid; echo 7 > instances/mine/set_event_notrace_pid");
    guest.ok("echo 0 > instances/mine/tracing_cpumask; echo 33 > saved_cmdlines_size");
    guest.refused(&format!("echo 'vectr == 7' > {TICK}/filter"));
    guest.ok("echo aside > trace_marker; echo 1 > snapshot; echo before > trace_marker");
    let files = [
        "buffer_size_kb".to_owned(),
        "options/overwrite".to_owned(),
        "buffer_percent".to_owned(),
        "trace_clock".to_owned(),
        "set_event".to_owned(),
        "set_event_pid".to_owned(),
        "set_event_notrace_pid".to_owned(),
        "tracing_cpumask".to_owned(),
        format!("{TICK}/filter"),
    ];
    let read = |guest: &mut Guest| {
        let of_mine = files.iter().map(|file| format!(" instances/mine/{file}"));
        let all: String = of_mine.collect();
        guest.ok(&format!(
            "cat{all} {TICK}/trigger {TICK}/filter error_log saved_cmdlines_size"
        ))
    };
    let before = read(&mut guest);
    guest.kexec_to(1);
    guest.ok("cd /sys/kernel/tracing");
    assert_eq!(read(&mut guest), before);
    assert!(guest.ok("cat snapshot").contains(": aside\n"));
    // A process that reads piece by piece is told where a life begins, and comes to an end where tracing is off.
    guest.ok("echo after > trace_marker; echo 0 > tracing_on");
    let text = guest.ok("run cat /sys/kernel/tracing/trace_pipe");
    let lines: Vec<&str> = text.lines().collect();
    let [before, boundary, after] = lines[..] else {
        panic!("{text}");
    };
    assert!(
        before.ends_with(": before")
            && boundary.starts_with("#### generation 1 ")
            && after.ends_with(": after"),
        "{text}"
    );
    guest.ok("echo 1 > tracing_on");
    let text = guest.ok("head -n 3 instances/mine/trace_pipe");
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, number) in lines.iter().zip(["3", "4", "5"]) {
        assert!(
            line.ends_with(&format!(": tracing_mark_write: {number}")),
            "{text}"
        );
    }
    guest.poweroff();
}

/// Pages that are allocated for the kexec itself are counted too, each under a key that the histogram did not have before.
#[test]
fn what_the_crossing_itself_does_is_counted() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    let event = "events/kmem/mm_page_alloc";
    guest.ok(&format!("echo 'hist:keys=pfn' > {event}/trigger"));
    guest.ok(&format!("echo 1 > {event}/enable"));
    guest.kexec_to(1);
    guest.ok("cd /sys/kernel/tracing");
    let text = guest.ok(&format!("cat {event}/hist"));
    assert!(text.contains("\n    Dropped: 0\n"), "{text}");
    guest.poweroff();
}
