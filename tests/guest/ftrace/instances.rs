//! `test.d/instances`.

use super::{enter, events};
use tests::{Guest, Setup};

#[test]
fn instances() {
    let mut guest = Setup::new().boot();
    enter(&mut guest);
    guest.ok("cd instances");
    instance(&mut guest);
    instance_event(&mut guest);
    of_its_own(&mut guest);
    guest.poweroff();
}

/// `instance.tc`: made and removed again and again, while files in them are read.
fn instance(guest: &mut Guest) {
    for _ in 0..3 {
        guest.ok("mkdir x y z");
        guest.ok("cat x/trace y/trace z/trace > /tmp/out");
        guest.ok("rmdir x y z");
    }
    guest.ok("mkdir x y z");
    assert_eq!(guest.ok("ls -1"), "x\ny\nz\n");
    for file in [
        "trace",
        "trace_pipe",
        "trace_options",
        "set_event",
        "events",
        "per_cpu",
    ] {
        assert!(
            guest.ok("ls -1 x").lines().any(|name| name == file),
            "{file}"
        );
    }
    guest.ok("rmdir x y z");
    assert_eq!(guest.ok("ls -1"), "");
    for (command, errno) in [
        ("rmdir x", "ENOENT"),
        ("mkdir /sys/kernel/tracing/x", "EPERM"),
        ("mkdir /sys/kernel/tracing/events/x", "EPERM"),
        ("rmdir /sys/kernel/tracing/events", "EPERM"),
        ("rmdir /sys/kernel/tracing/trace", "ENOTDIR"),
        ("rm /sys/kernel/tracing/trace", "EPERM"),
        ("mkdir /sys/kernel/tracing/instances", "EEXIST"),
    ] {
        let why = guest.refused(command);
        assert!(why.contains(&format!("({errno})")), "{command}: {why}");
    }
}

/// `instance-event.tc`: removed while an event is on in it.
fn instance_event(guest: &mut Guest) {
    for _ in 0..3 {
        guest.ok("mkdir foo");
        guest.ok("echo 1 > foo/events/irq_vectors/local_timer_entry/enable");
        guest.ok("sleep 0.05; cat foo/trace > /tmp/out");
        guest.ok("rmdir foo");
        guest.refused("ls foo");
    }
    assert_eq!(
        guest
            .ok("cat ../events/irq_vectors/local_timer_entry/enable")
            .trim(),
        "0"
    );
}

/// Each instance records its own.
fn of_its_own(guest: &mut Guest) {
    guest.ok("mkdir a b");
    guest.ok("echo 1 > a/events/irq_vectors/local_timer_entry/enable");
    guest.ok("sleep 0.1");
    guest.ok("echo 0 > a/tracing_on");
    assert!(events(&guest.ok("cat a/trace")) > 0);
    assert_eq!(events(&guest.ok("cat b/trace")), 0);
    assert_eq!(guest.ok("cat b/tracing_on ../tracing_on"), "1\n1\n");
    guest.ok("echo in b > b/trace_marker");
    assert_eq!(
        guest
            .ok("cat b/trace_pipe | head -n 1 | grep -c 'in b'")
            .trim(),
        "1"
    );
    assert_eq!(
        guest.ok("cat ../trace | grep -c 'in b' || true").trim(),
        "0"
    );
    guest.ok("echo 8 > a/buffer_size_kb");
    assert_eq!(
        guest
            .ok("cat a/buffer_size_kb b/buffer_size_kb")
            .lines()
            .next(),
        Some("8")
    );
    guest.ok("echo 1 > b/snapshot");
    assert!(
        guest
            .ok("cat snapshot ../snapshot || true")
            .contains("freed")
    );
    guest.ok("rmdir a b");
}
