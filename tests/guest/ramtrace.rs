//! What outlives a reset: trace buffers and the kernel's log, and how they are read and erased afterwards.

use tests::damaging::Random;
use tests::scarring::{self, Kind, Scarred};
use tests::{Guest, Setup};

const TRACING: &str = "/sys/kernel/tracing";
const PSTORE: &str = "/sys/fs/pstore";

fn records(guest: &mut Guest) -> Vec<String> {
    let names = guest.ok(&format!("ls {PSTORE}"));
    let mut names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    names.sort();
    names
}

/// The lines of a trace that hold a marker's text, as numbers.
fn markers(trace: &str) -> Vec<u64> {
    let texts = trace
        .lines()
        .filter_map(|line| line.split_once("tracing_mark_write: "));
    texts
        .filter_map(|(_, text)| text.trim().parse().ok())
        .collect()
}

/// The region of the memory map, as it stands there.
fn region(guest: &mut Guest) -> String {
    let map = guest.ok("cat /proc/iomem");
    let line = map.lines().find(|line| line.ends_with(" : ramtrace"));
    match line {
        Some(line) => line.to_owned(),
        None => guest.fail("/proc/iomem names no ramtrace region"),
    }
}

/// A life that records into the region, ended by `reset`: the next one finds all of it, at the same place, up to the last event.
fn survives(guest: &mut Guest, life: u64, reset: &dyn Fn(&mut Guest)) {
    let place = region(guest);
    guest.ok(&format!("echo 1 > {TRACING}/options/persist"));
    guest.ok(&format!("seq 1 3000 > {TRACING}/trace_marker"));
    guest.ok(&format!("echo {life} > {TRACING}/trace_marker"));
    reset(guest);
    let banner = guest.expect_prompt();
    if !banner.contains("generation 0 (cold)") {
        guest.fail("no cold start after the reset");
    }
    assert_eq!(region(guest), place);
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-0"));
    let head = format!("# ramtrace: life {life} of kernel ");
    assert!(trace.starts_with(&head), "{trace}");
    assert!(
        trace.contains(" 0 dropped\n") && !trace.contains("; dropped"),
        "{trace}"
    );
    let expected: Vec<u64> = (1..=3000).chain([life]).collect();
    assert_eq!(markers(&trace), expected);
    let log = guest.ok(&format!("cat {PSTORE}/dmesg-ramtrace-0"));
    assert!(log.contains(&format!(": life {life} begins")), "{log}");
    assert!(log.contains("baton 0."), "{log}");
}

fn reboot(guest: &mut Guest) {
    guest.send("reboot\r");
}

fn triple_fault(guest: &mut Guest) {
    guest.send("reboot --triple-fault\r");
}

fn reset_line(guest: &mut Guest) {
    guest.monitor("system_reset");
}

#[test]
fn a_life_is_read_after_each_kind_of_reset_and_erased() {
    // Where the boot loader's stages are at each start is no place for it.
    let asked = "ramtrace.mem_address=0x100000";
    let mut guest = Setup::new().append(asked).boot();
    let said = guest.first_output().to_owned();
    let why = " reaches into [0x100000, 0x200000), which the boot loader writes to at each start";
    assert!(said.contains(why), "{said}");
    assert_eq!(records(&mut guest), [""; 0]);
    let free = guest.ok("grep MemTotal /proc/meminfo");
    survives(&mut guest, 1, &reboot);
    survives(&mut guest, 2, &triple_fault);
    survives(&mut guest, 3, &reset_line);
    assert_eq!(guest.ok("grep MemTotal /proc/meminfo"), free);
    let mut expected = Vec::new();
    for ago in 0..3 {
        expected.extend([
            format!("dmesg-ramtrace-{ago}"),
            format!("trace-ramtrace-{ago}"),
            format!("trace-ramtrace-{ago}.raw"),
        ]);
    }
    expected.sort();
    assert_eq!(records(&mut guest), expected);

    // A long text ends when its reader has had enough.
    let head = guest.ok(&format!("head -n 1 {PSTORE}/trace-ramtrace-2"));
    assert!(head.starts_with("# ramtrace: life 1 "), "{head}");
    // Or its user: what is removed below is not held by this any more.
    guest.send(format!("cat {PSTORE}/trace-ramtrace-1\r"));
    guest.expect("tracing_mark_write: 10");
    guest.send("\x03");
    guest.expect_prompt();
    // Whole pages.
    let raw = guest.ok(&format!("wc -c {PSTORE}/trace-ramtrace-0.raw"));
    let bytes: u64 = raw
        .split_whitespace()
        .next()
        .map_or(0, |n| n.parse().unwrap_or(0));
    assert!(bytes > 0 && bytes.is_multiple_of(4096), "{raw}");

    // Text and pages are one record, the log another; the others keep their names.
    guest.ok(&format!("rm {PSTORE}/trace-ramtrace-1"));
    expected.retain(|name| !name.starts_with("trace-ramtrace-1"));
    assert_eq!(records(&mut guest), expected);
    guest.ok(&format!(
        "rm {PSTORE}/dmesg-ramtrace-1 {PSTORE}/trace-ramtrace-0.raw"
    ));
    expected.retain(|name| {
        ![
            "dmesg-ramtrace-1",
            "trace-ramtrace-0",
            "trace-ramtrace-0.raw",
        ]
        .contains(&name.as_str())
    });
    assert_eq!(records(&mut guest), expected);
    for gone in ["trace-ramtrace-1", "dmesg-ramtrace-7", "nothing"] {
        let said = guest.refused(&format!("cat {PSTORE}/{gone}"));
        assert!(said.contains("ENOENT"), "{said}");
        guest.refused(&format!("rm {PSTORE}/{gone}"));
    }
    let said = guest.refused(&format!("echo x > {PSTORE}/trace-ramtrace-2"));
    assert!(said.contains("EACCES"), "{said}");
    guest.poweroff();
}

#[test]
fn a_life_is_read_after_a_reset_through_uefi() {
    // What cannot be is said; then as much elsewhere, then as always.
    let asked = "ramtrace.mem_size=4096G ramtrace.mem_address=0x100000";
    let mut guest = Setup::new().uefi().smp(1).append(asked).boot();
    let log = guest.ok("dmesg");
    for said in [
        "ramtrace: no region of 4194304 MiB: [0x100000, 0x40000100000) is not all RAM that firmware and boot loader leave alone",
        "ramtrace: no region of 4194304 MiB: 4194304 MiB are more than half of the ",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    survives(&mut guest, 1, &reset_line);
    // The one that is found stays, whatever is asked for.
    let log = guest.ok("dmesg");
    let kept = "is kept, with the lives in it, though the command line asks for another";
    assert!(log.contains(kept) && !log.contains("no region of"), "{log}");
    survives(&mut guest, 2, &reboot);
    guest.poweroff();
}

/// A kexec carries the region over, and its life goes on; a panic that nobody caught is found afterwards.
#[test]
fn a_life_goes_on_over_a_kexec_and_a_panic_is_found() {
    let setup = Setup::new().append(
        "panic=-1 trace_options=persist trace_instance=early^traceoff@trace,sched trace_instance=later,sched:sched_switch \
         trace_instance=bad@elsewhere trace_instance=later@trace ramtrace.mem_size=7200K ramtrace.mem_address=0x6000000",
    );
    let mut guest = setup.boot();
    let said = guest.first_output().to_owned();
    for what in [
        "trace_instance=bad@elsewhere: there is no region \"elsewhere\"",
        "trace_instance=later@trace: there is an instance \"later\" already",
        "ramtrace.mem_size is taken as 8 MiB: a region is of whole MiB",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(region(&mut guest).starts_with("06000000-067fffff"));
    for (file, content) in [
        ("options/persist", "1"),
        ("instances/early/options/persist", "1"),
        ("instances/early/tracing_on", "0"),
        ("instances/early/events/sched/enable", "1"),
        ("instances/later/options/persist", "0"),
        ("instances/later/events/sched/sched_switch/enable", "1"),
    ] {
        assert_eq!(
            guest.ok(&format!("cat {TRACING}/{file}")).trim(),
            content,
            "{file}"
        );
    }
    let before = region(&mut guest);
    guest.ok(&format!("seq 1 500 > {TRACING}/trace_marker"));
    guest.kexec_to(1);
    assert_eq!(region(&mut guest), before);
    assert_eq!(
        guest.ok(&format!("cat {TRACING}/options/persist")).trim(),
        "1"
    );
    let log = guest.ok("dmesg");
    assert!(log.contains(": life 1 goes on"), "{log}");
    assert!(!log.contains("handover: trace:"), "{log}");
    guest.ok(&format!("seq 501 900 > {TRACING}/trace_marker"));
    let running = guest.ok(&format!(
        "grep -c 'tracing_mark_write: [0-9]' {TRACING}/trace"
    ));
    assert_eq!(running.trim(), "900");
    guest.ok(&format!("echo 1 > {TRACING}/instances/early/tracing_on"));
    guest.ok(&format!("echo 7 > {TRACING}/instances/early/trace_marker"));

    // Two whose names look like the pages of others.
    for (name, number) in [("raw", 8), ("early.raw", 9)] {
        let at = format!("{TRACING}/instances/{name}");
        guest.ok(&format!("mkdir {at}"));
        guest.ok(&format!("echo 64 > {at}/buffer_size_kb"));
        guest.ok(&format!("echo 1 > {at}/options/persist"));
        guest.ok(&format!("echo {number} > {at}/trace_marker"));
    }

    // The handover refused: another life, on other pages.
    guest.ok("echo magic > /sys/kernel/debug/kho/out/damage");
    let output = guest.kexec();
    assert!(output.contains("generation 0 (cold)"), "{output}");
    assert_eq!(region(&mut guest), before);
    guest.ok("dmesg | grep ': life 2 begins'");
    guest.ok(&format!("echo 901 > {TRACING}/trace_marker"));
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-0"));
    assert_eq!(markers(&trace), (1..=900).collect::<Vec<_>>());
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-0.early"));
    assert_eq!(markers(&trace), [7]);
    for (name, number) in [("raw_", 8), ("early.raw_", 9)] {
        let file = format!("{PSTORE}/trace-ramtrace-0.{name}");
        let trace = guest.ok(&format!("cat {file}"));
        assert_eq!(markers(&trace), [number]);
        guest.ok(&format!("rm {file}.raw"));
        guest.refused(&format!("cat {file}"));
    }
    let names = records(&mut guest);
    for name in ["", ".raw", ".early", ".early.raw"] {
        let name = format!("trace-ramtrace-0{name}");
        assert!(names.contains(&name), "{name}: {names:?}");
    }

    guest.send("panic on purpose\r");
    guest.expect_prompt();
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-0"));
    assert_eq!(markers(&trace), [901]);
    let log = guest.ok(&format!("cat {PSTORE}/dmesg-ramtrace-0"));
    for part in [
        "KERNEL PANIC: on purpose",
        "backtrace:",
        "baton::commands::panic",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-1"));
    assert_eq!(markers(&trace), (1..=900).collect::<Vec<_>>());
    // A record keeps its name, whichever is erased before it.
    guest.ok(&format!("rm {PSTORE}/trace-ramtrace-1"));
    let names = records(&mut guest);
    assert!(!names.contains(&"trace-ramtrace-1".into()), "{names:?}");
    let trace = guest.ok(&format!("cat {PSTORE}/trace-ramtrace-1.early"));
    assert_eq!(markers(&trace), [7]);
    guest.poweroff();
}

#[test]
fn a_machine_can_be_without() {
    let mut guest = Setup::new()
        .smp(1)
        .append("ramtrace.mem_size=0 trace_options=persist,nonsense")
        .boot();
    let said = guest.first_output().to_owned();
    for wrong in [
        "trace_options=persist: there is no ramtrace region on this machine (ENODEV)",
        "trace_options=nonsense: Invalid argument (EINVAL)",
    ] {
        assert!(said.contains(wrong), "{wrong}: {said}");
    }
    let map = guest.ok("cat /proc/iomem");
    assert!(!map.contains("ramtrace"), "{map}");
    assert_eq!(records(&mut guest), [""; 0]);
    guest.refused(&format!("echo 1 > {TRACING}/options/persist"));
    guest.kexec_to(1);
    guest.run("reboot");
    assert_eq!(records(&mut guest), [""; 0]);
    guest.poweroff();
}

/// A part of what `cargo run -p tests --bin scars` and `resets` do, which have the results in tables.
#[test]
fn damage_to_the_region_and_starts_that_are_broken_off_cost_nothing_else() {
    let mut random = Random::new(3);
    let mut scarred = Scarred::new(&scarring::setup(2), 2, 0, &mut random);
    let mut outcome = scarred.round(&[Kind::Marks, Kind::UsedBits], &mut random);
    outcome.add(scarred.round(&[Kind::UsedZeroes, Kind::Bitmaps], &mut random));
    assert!(outcome.dropped > 0, "{outcome:?}");
    // Both copies of a life's metadata.
    outcome.add(scarred.round(&[Kind::Metadata; 4], &mut random));
    assert!(outcome.without_metadata > 0, "{outcome:?}");
    outcome.add(scarred.broken_starts(1, &mut random));
    assert!(outcome.wrong.is_empty(), "{:#?}", outcome.wrong);
    scarred.poweroff();
}
