//! Kernels of different versions after each other: what both know is kept, the rest has its default, and what cannot be
//! read is refused by name.

use tests::tracefile::{self, Entry};
use tests::{Guest, Setup};

const KHO: &str = "/sys/kernel/debug/kho";
const TRACING: &str = "/sys/kernel/tracing";

fn demo(guest: &mut Guest) -> Vec<String> {
    let text = guest.ok(&format!("cat {KHO}/demo"));
    text.trim_end().lines().map(str::to_owned).collect()
}

fn report(guest: &mut Guest) -> String {
    guest.ok(&format!("cat {KHO}/in/report"))
}

/// The report's line about a subsystem.
fn became(guest: &mut Guest, name: &str) -> String {
    let report = report(guest);
    let mut lines = report.lines();
    match lines.find_map(|line| line.strip_prefix(&format!("{name}: "))) {
        Some(outcome) => outcome.to_owned(),
        None => guest.fail(&format!("in/report says nothing about {name}: {report}")),
    }
}

fn trace(guest: &mut Guest) -> Vec<Entry> {
    tracefile::parse(&guest.ok(&format!("cat {TRACING}/trace")))
}

/// Texts of an event, in the lives of a parity: those of `kernel` are even, those of `kernel-next` odd.
fn texts(entries: &[Entry], event: &str, odd: u32) -> Vec<String> {
    let wanted = |e: &&Entry| e.event == event && e.generation % 2 == odd;
    entries
        .iter()
        .filter(wanted)
        .map(|e| e.text.clone())
        .collect()
}

/// Pages that were preserved and claimed by nobody, as the report has them.
fn discarded(guest: &mut Guest) -> u64 {
    let report = report(guest);
    let line = report.lines().find(|line| line.contains("pages discarded"));
    let pages = line.and_then(|line| line.split(' ').next()?.parse().ok());
    pages.unwrap_or_else(|| guest.fail(&format!("no discarded pages in the report: {report}")))
}

#[test]
fn two_versions_back_and_forth_keep_what_both_know() {
    let mut guest = Setup::new().variants().boot();
    guest.ok(&format!("echo first > {KHO}/demo"));
    guest.ok(&format!("echo hello > {KHO}/demo"));
    assert_eq!(demo(&mut guest), ["boots: 1", "note: hello", "notes: 2"]);
    guest.ok(&format!("echo 0 > {TRACING}/events/irq/enable"));
    guest.ok(&format!("echo marker 0 > {TRACING}/trace_marker"));
    for hop in 1..=10 {
        let next = hop % 2 == 1;
        let file = if next { "kernel-next" } else { "kernel" };
        let banner = guest.kexec_into(file, hop);
        assert_eq!(
            banner.contains("baton 0.1.0-next") || banner.contains("-next generation"),
            next,
            "{file} was to come up: {banner}"
        );
        for name in ["machine", "trace", "initrd", "console", "demo"] {
            let outcome = became(&mut guest, name);
            assert_eq!(outcome, "restored", "{name} in life {hop} ({file})");
        }
        let boots = format!("boots: {}", hop + 1);
        let expected = match next {
            // What was added has its default, and this life's own share; nobody is known to have written the note.
            true => vec![
                boots,
                "note: hello".into(),
                "streak: 1".into(),
                "author: unknown".into(),
            ],
            // What the other version does not have any more has its default.
            false => vec![boots, "note: hello".into(), "notes: 0".into()],
        };
        assert_eq!(demo(&mut guest), expected, "life {hop} ({file})");
        if next {
            let attic = became(&mut guest, "attic");
            assert!(attic.starts_with("missing"), "{attic}");
            let log = guest.ok("dmesg | grep 'handover: attic'");
            assert!(
                log.contains("starts anew with 24 pages") && !log.contains("took over"),
                "{log}"
            );
            // What is new to the tracer is off, as all events are that nobody has asked for.
            guest.ok(&format!("echo 1 > {TRACING}/events/baton/demo_note/enable"));
            guest.ok(&format!("echo hello > {KHO}/demo"));
        } else {
            // A subsystem of which this kernel knows nothing.
            let attic = became(&mut guest, "attic");
            assert!(attic.starts_with("unknown"), "{attic}");
            assert_eq!(discarded(&mut guest), 24, "the attic's pages");
            let report = report(&mut guest);
            assert!(
                report.contains("claimed by nobody (24 of `attic`)\n"),
                "{report}"
            );
            let state = guest.ok(&format!("cat {KHO}/in/state"));
            assert!(state.contains("Attic (id 0x14"), "{state}");
            let ours = guest.ok(&format!("ls {KHO}/out/sub_fdts"));
            let theirs = guest.ok(&format!("ls {KHO}/in/sub_fdts"));
            assert_eq!(
                (ours.contains("attic"), theirs.contains("attic")),
                (false, true),
                "{ours}{theirs}"
            );
            guest.ok(&format!("hexdump {KHO}/in/sub_fdts/attic | head -n 1"));
        }
        guest.ok(&format!("echo marker {hop} > {TRACING}/trace_marker"));
        check_events(&mut guest, hop);
    }
    // Programs have the formats of events that only the other kernel declares. Their reading takes the events out.
    let cpus = guest.ok(&format!("ls {TRACING}/per_cpu"));
    let read: String = cpus
        .split_whitespace()
        .filter_map(|cpu| cpu.strip_prefix("cpu"))
        .map(|cpu| guest.ok(&format!("run trace-reader {}", cpu.trim_end_matches('/'))))
        .collect();
    assert!(
        read.contains("demo_note: length=5 note=\"hello\""),
        "{read}"
    );
    assert!(!read.contains("unknown event"), "{read}");
    guest.poweroff();
}

/// Everything that was recorded is there, each event in the format of the kernel that recorded it.
fn check_events(guest: &mut Guest, hop: u32) {
    let all = trace(guest);
    for pair in all.windows(2) {
        assert!(pair[0].micros <= pair[1].micros, "time goes back: {pair:?}");
        assert!(pair[0].generation <= pair[1].generation, "{pair:?}");
    }
    let markers: Vec<&Entry> = all
        .iter()
        .filter(|e| e.event == "tracing_mark_write")
        .collect();
    let written: Vec<String> = (0..=hop).map(|n| format!("marker {n}")).collect();
    assert_eq!(
        markers.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(),
        written
    );
    for (marker, life) in markers.iter().zip(0..) {
        assert_eq!(marker.generation, life, "{marker:?}");
    }

    // The first two commands of `kernel-next` are the harness's; each command of it says its length.
    let plain = texts(&all, "console_command", 0);
    let changed = texts(&all, "console_command", 1);
    assert!(plain.iter().any(|text| text == "kexec -e"), "{plain:?}");
    for text in &plain {
        assert!(!text.starts_with("length="), "a line of `kernel`: {text}");
    }
    for text in &changed {
        let parts = text
            .strip_prefix("length=")
            .and_then(|rest| rest.split_once(" line="));
        let Some((length, line)) = parts else {
            guest.fail(&format!(
                "a line of `kernel-next` in another format: {text}"
            ));
        };
        assert_eq!(length, line.len().to_string(), "{text}");
    }
    assert!(!changed.is_empty());

    // An event that `kernel` does not have.
    let notes = texts(&all, "demo_note", 1);
    assert_eq!(
        notes,
        vec!["length=5 note=\"hello\""; hop.div_ceil(2) as usize]
    );
    assert!(texts(&all, "demo_note", 0).is_empty());
}

#[test]
fn what_only_the_next_version_knows_crosses_to_its_like() {
    let mut guest = Setup::new().variants().boot();
    guest.kexec_into("kernel-next", 1);
    guest.ok(&format!("echo signed > {KHO}/demo"));
    guest.kexec_into("kernel-next", 2);
    assert_eq!(
        demo(&mut guest),
        ["boots: 3", "note: signed", "streak: 2", "author: console"]
    );
    assert_eq!(became(&mut guest, "attic"), "restored");
    assert_eq!(discarded(&mut guest), 0);
    let claimed = guest.ok(&format!("cat {KHO}/in/preserved"));
    assert!(claimed.contains("total 96 KiB attic"), "{claimed}");
    let log = guest.ok("dmesg");
    assert!(log.contains("handover: attic took over 24 pages"), "{log}");
    assert!(
        log.contains("attic: 2 lives have been in these 24 pages"),
        "{log}"
    );
    // A remark is no trouble.
    let report = report(&mut guest);
    let remark = "remark: attic: 2 lives have been in these 24 pages\n";
    assert!(
        report.contains(remark) && !report.contains("trouble"),
        "{report}"
    );
    // Its own pages are its own on the way out, too.
    let owned = guest.ok(&format!("cat {KHO}/out/preserved"));
    assert!(owned.contains("total 96 KiB attic"), "{owned}");
    guest.poweroff();
}

/// A state that names a page which is not preserved is refused by the kernel itself, and its other pages are given back under its
/// name.
#[test]
fn a_state_whose_page_was_not_preserved_is_refused_by_name() {
    let mut guest = Setup::new().variants().boot();
    guest.kexec_into("kernel-next", 1);
    let owned = guest.ok(&format!("grep '^.0x.* attic' {KHO}/out/preserved"));
    let page = owned
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(','));
    let Some((page, _)) = page else {
        guest.fail(&format!("no page of the attic's: {owned}"));
    };
    guest.ok(&format!("echo lose {page} > {KHO}/out/damage"));
    guest.kexec_into("kernel-next", 2);
    assert_eq!(
        became(&mut guest, "attic"),
        format!(
            "refused: state `Attic` (id 0x14, instance 0) calls the block {page} (order 0) its own, which is not \
             preserved as that block: it may be anybody's; it starts anew"
        )
    );
    let report = report(&mut guest);
    assert!(
        report.contains("23 pages discarded: preserved, and claimed by nobody (23 of `attic`)\n"),
        "{report}"
    );
    for name in ["machine", "trace", "initrd", "console", "demo"] {
        assert_eq!(became(&mut guest, name), "restored", "{name}");
    }
    // Starts anew with pages of this life.
    let owned = guest.ok(&format!("cat {KHO}/out/preserved"));
    assert!(owned.contains("total 96 KiB attic"), "{owned}");
    guest.poweroff();
}

#[test]
fn a_layout_that_changed_under_its_version_is_refused_by_name() {
    let mut guest = Setup::new().variants().boot();
    guest.ok(&format!("echo hello > {KHO}/demo"));
    guest.ok("echo remembered");
    guest.ok(&format!("echo before > {TRACING}/trace_marker"));
    // There, and back: each finds the other's layout.
    for (hop, file) in [(1, "kernel-broken"), (2, "kernel")] {
        guest.kexec_into(file, hop);
        let refused = became(&mut guest, "demo");
        for part in [
            "refused: state `Boots`: both kernels call it version 1",
            "first at field `count`",
            "(fingerprint 0x",
            " in the stream, 0x",
            "the layout changed without a version bump",
            "it starts anew",
        ] {
            assert!(refused.contains(part), "{file}: {refused}");
        }
        let log = guest.ok("dmesg");
        let told = log
            .lines()
            .filter(|line| line.contains("handover: demo: refused"));
        assert_eq!(told.count(), 1, "{log}");
        assert_eq!(
            demo(&mut guest),
            ["boots: 1", "note: ", "notes: 0"],
            "{file}"
        );
        for name in ["machine", "trace", "initrd", "console"] {
            assert_eq!(became(&mut guest, name), "restored", "{name} in {file}");
        }
        assert_eq!(discarded(&mut guest), 0);
        let markers = trace(&mut guest);
        assert!(markers.iter().any(|e| e.text == "before"), "{file}");
        guest.ok(&format!("echo {hop} > {KHO}/demo"));
    }
    guest.poweroff();
}
