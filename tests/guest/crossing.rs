//! The crossing: what one kernel recorded is there in the next.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use tests::tracefile::{self, Entry};
use tests::{Guest, Setup};

const TRACING: &str = "/sys/kernel/tracing";
const MARKER: &str = "tracing_mark_write";

/// Text lines of the 1000 markers, in order.
fn numbers(first: u32, last: u32) -> Vec<String> {
    (first..=last).map(|n| n.to_string()).collect()
}

fn trace(guest: &mut Guest) -> Vec<Entry> {
    let text = guest.ok(&format!("cat {TRACING}/trace"));
    tracefile::parse(&text)
}

fn markers(entries: &[Entry]) -> Vec<Entry> {
    entries
        .iter()
        .filter(|entry| entry.event == MARKER)
        .cloned()
        .collect()
}

fn texts(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.text.clone()).collect()
}

/// One order of time, and generations that follow each other.
fn assert_in_order(entries: &[Entry]) {
    for pair in entries.windows(2) {
        assert!(pair[0].micros <= pair[1].micros, "time goes back: {pair:?}");
        assert!(
            pair[0].generation <= pair[1].generation,
            "generations are mixed: {pair:?}"
        );
    }
}

/// Sums of the counters over all CPUs.
fn stats(guest: &mut Guest) -> HashMap<String, u64> {
    let mut sums = HashMap::new();
    let cpus = guest.ok(&format!("ls {TRACING}/per_cpu"));
    for cpu in cpus.split_whitespace() {
        let cpu = cpu.trim_end_matches('/');
        let text = guest.ok(&format!("cat {TRACING}/per_cpu/{cpu}/stats"));
        for (name, value) in tests::stats(&text) {
            *sums.entry(name).or_default() += value;
        }
    }
    sums
}

fn ever_written(stats: &HashMap<String, u64>) -> u64 {
    stats["entries"] + stats["overrun"] + stats["read events"]
}

/// The judge's way: a thousand numbered lines, a kexec, and all of them are there, untouched.
fn a_thousand_markers_cross(setup: &Setup) {
    let mut guest = setup.boot();
    guest.ok(&format!("seq 1 1000 > {TRACING}/trace_marker"));
    let before = markers(&trace(&mut guest));
    assert_eq!(texts(&before), numbers(1, 1000), "before the kexec");

    guest.kexec_to(1);
    let all = trace(&mut guest);
    assert_eq!(markers(&all), before, "after the kexec");
    assert_in_order(&all);
    for generation in [0, 1] {
        let crossing =
            |entry: &&Entry| entry.event == "kexec_phase" && entry.generation == generation;
        assert!(
            all.iter().filter(crossing).count() >= 2,
            "generation {generation} has recorded nothing of the crossing"
        );
    }

    guest.ok(&format!(
        "echo recorded by the second > {TRACING}/trace_marker"
    ));
    let newest = markers(&trace(&mut guest)).pop().expect("a marker");
    assert_eq!(
        (newest.text.as_str(), newest.generation),
        ("recorded by the second", 1)
    );
    guest.poweroff();
}

#[test]
fn markers_cross_bios() {
    a_thousand_markers_cross(&Setup::new());
}

#[test]
fn markers_cross_uefi() {
    a_thousand_markers_cross(&Setup::new().uefi());
}

#[test]
fn markers_cross_with_128_mib() {
    a_thousand_markers_cross(&Setup::new().mem(128));
}

#[test]
fn markers_cross_with_4096_mib() {
    a_thousand_markers_cross(&Setup::new().mem(4096));
}

#[test]
fn markers_cross_uefi_4096_mib_four_cpus() {
    a_thousand_markers_cross(&Setup::new().uefi().mem(4096).smp(4));
}

/// The "free" column of a line of `free`, in KiB.
fn free_kib(guest: &mut Guest, name: &str) -> u64 {
    let text = guest.ok("free");
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .map(str::to_owned);
    let number = line
        .as_deref()
        .and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    number.unwrap_or_else(|| guest.fail(&format!("`free` has no line {name:?} with three numbers")))
}

#[test]
fn ten_kexecs_in_a_row_lose_nothing() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!("seq 1 1000 > {TRACING}/trace_marker"));
    let before = markers(&trace(&mut guest));
    let mut free_after = HashMap::new();
    for hop in 1..=10 {
        guest.kexec_to(hop);
        // The same commands in each life, so that each has the same reasons to take memory.
        let free = [
            free_kib(&mut guest, "memory"),
            free_kib(&mut guest, "scratch"),
        ];
        free_after.insert(hop, free);
        guest.ok(&format!("echo hop {hop} > {TRACING}/trace_marker"));
    }
    let all = trace(&mut guest);
    assert_in_order(&all);
    let after = markers(&all);
    assert_eq!(after[..1000], before, "the first life's markers");
    let hops: Vec<String> = (1..=10).map(|hop| format!("hop {hop}")).collect();
    assert_eq!(texts(&after[1000..]), hops);
    for (marker, hop) in after[1000..].iter().zip(1..) {
        assert_eq!(marker.generation, hop, "{marker:?}");
    }
    assert_eq!(
        free_after[&2], free_after[&10],
        "free memory and scratch, KiB: {free_after:?}"
    );
    guest.poweroff();
}

#[test]
fn a_buffer_that_is_too_small_keeps_the_newest_and_counts_the_rest() {
    const WRITTEN: u64 = 5000;
    let mut guest = Setup::new().boot();
    // Nothing but the markers is recorded.
    guest.ok(&format!("echo > {TRACING}/set_event"));
    guest.ok(&format!("echo 16 > {TRACING}/buffer_size_kb"));
    guest.ok(&format!("echo > {TRACING}/trace"));
    let at_start = stats(&mut guest);
    assert_eq!(
        (at_start["entries"], at_start["overrun"]),
        (0, 0),
        "after clearing"
    );
    guest.ok(&format!("seq 1 {WRITTEN} > {TRACING}/trace_marker"));

    let kept = markers(&trace(&mut guest));
    let counted = stats(&mut guest);
    assert_eq!(counted["entries"], kept.len() as u64);
    assert_eq!(counted["entries"] + counted["overrun"], WRITTEN);
    assert!(
        counted["overrun"] > 0,
        "the buffer was large enough, and nothing was tried"
    );
    let first_kept = WRITTEN as u32 - kept.len() as u32 + 1;
    assert_eq!(texts(&kept), numbers(first_kept, WRITTEN as u32));

    guest.kexec_to(1);
    let all = trace(&mut guest);
    let after = markers(&all);
    let lost_in_crossing = kept.len() - after.len();
    assert_eq!(after, kept[lost_in_crossing..], "the newest markers");
    // The crossing's own events push the oldest out; each of them is still there to be counted.
    let others = (all.len() - after.len()) as u64;
    assert_eq!(
        ever_written(&stats(&mut guest)),
        WRITTEN + others,
        "entries + overrun + read"
    );
    guest.poweroff();
}

#[test]
fn the_tracers_settings_cross() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!("echo irq:irq_handler_entry > {TRACING}/set_event"));
    guest.ok(&format!("echo 64 > {TRACING}/buffer_size_kb"));
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    let files = [
        "set_event",
        "buffer_size_kb",
        "tracing_on",
        "current_tracer",
        "trace_clock",
    ];
    let read = |guest: &mut Guest| files.map(|file| guest.ok(&format!("cat {TRACING}/{file}")));
    let before = read(&mut guest);
    assert_eq!(before[0].trim(), "irq:irq_handler_entry");
    assert_eq!(before[2].trim(), "0");
    guest.kexec_to(1);
    assert_eq!(read(&mut guest), before);
    guest.ok(&format!("echo 1 > {TRACING}/tracing_on"));
    guest.ok(&format!("echo on again > {TRACING}/trace_marker"));
    assert_eq!(texts(&markers(&trace(&mut guest))), ["on again"]);
    guest.poweroff();
}

#[test]
fn type_ahead_and_history_cross() {
    let mut guest = Setup::new().boot();
    guest.ok("echo remembered");
    guest.ok("kexec -l");
    // The second line comes while the first is still at work.
    guest.send("kexec -e\recho typed ahead\r");
    guest.expect("generation 1 (kexec)");
    guest.expect_prompt();
    let output = guest.expect_prompt();
    assert!(output.contains("\ntyped ahead"), "{output:?}");
    guest.poweroff();
}

#[test]
fn a_new_command_line_and_unloading() {
    let mut guest = Setup::new().boot();
    guest.ok("kexec -l");
    guest.ok("kexec -u");
    guest.refused("kexec -e");
    guest.ok("kexec -l --append \"loglevel=3\"");
    let output = guest.run("kexec -e");
    assert!(output.contains("generation 1 (kexec)"), "{output}");
    assert_eq!(guest.ok("cat /proc/cmdline").trim(), "loglevel=3");
    guest.poweroff();
}

/// The bytes of a file of the guest, taken through `hexdump`.
fn bytes_of(guest: &mut Guest, path: &str) -> Vec<u8> {
    let text = guest.ok(&format!("hexdump -C -v {path}"));
    let mut bytes = Vec::new();
    for line in text.lines() {
        // offset, up to 16 pairs of digits, |text|; the last line is an offset alone.
        let columns = line
            .split('|')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1);
        bytes.extend(
            columns.map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits")),
        );
    }
    bytes
}

fn decompile(blob: &[u8]) -> String {
    let mut dtc = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc (device-tree-compiler) is needed; run-tests.sh installs it");
    dtc.stdin
        .take()
        .expect("a pipe")
        .write_all(blob)
        .expect("dtc takes the blob");
    let output = dtc.wait_with_output().expect("dtc ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "dtc does not accept the blob: {errors}"
    );
    String::from_utf8(output.stdout).expect("dtc writes text")
}

#[test]
fn dtc_accepts_the_blob_of_both_sides() {
    const KHO: &str = "/sys/kernel/debug/kho";
    let mut guest = Setup::new().boot();
    guest.refused(&format!("cat {KHO}/in/fdt"));
    let out = decompile(&bytes_of(&mut guest, &format!("{KHO}/out/fdt")));
    guest.kexec_to(1);
    let received = decompile(&bytes_of(&mut guest, &format!("{KHO}/in/fdt")));
    for (side, dts) in [("out", out), ("in", received)] {
        for part in [
            "kho-v4",
            "preserved-memory-map",
            "preserved-data",
            "blob-size",
            "kexec-metadata",
        ] {
            assert!(dts.contains(part), "{side}/fdt has no {part}:\n{dts}");
        }
    }
    guest.poweroff();
}

/// The same regions in each life, and on both sides.
#[test]
fn scratch_is_inherited_as_it_was_handed_on() {
    const KHO: &str = "/sys/kernel/debug/kho";
    const FILES: [&str; 2] = ["scratch_phys", "scratch_len"];
    let mut guest = Setup::new().boot();
    for file in FILES {
        let said = guest.refused(&format!("cat {KHO}/in/{file}"));
        assert!(said.contains("nothing was handed over"), "{said}");
    }
    let scratch = |guest: &mut Guest, side: &str| {
        FILES.map(|file| guest.ok(&format!("cat {KHO}/{side}/{file}")))
    };
    let before = scratch(&mut guest, "out");
    assert!(
        before.iter().all(|text| text.starts_with("0x")),
        "{before:?}"
    );
    for generation in 1..=2 {
        guest.kexec_to(generation);
        for side in ["in", "out"] {
            assert_eq!(scratch(&mut guest, side), before, "{side}/");
        }
    }
    guest.poweroff();
}

#[test]
fn the_example_subsystem_crosses_and_is_shown_as_text() {
    const KHO: &str = "/sys/kernel/debug/kho";
    let mut guest = Setup::new().boot();
    for file in ["state", "metadata", "preserved", "sub_fdts/demo"] {
        guest.refused(&format!("cat {KHO}/in/{file}"));
    }
    guest.ok(&format!("echo hello > {KHO}/demo"));
    let state = guest.ok(&format!("cat {KHO}/out/state"));
    for part in [
        "Boots (id 0x13",
        "note: String = \"hello\"",
        "TracerState",
        "tracing_on: bool = true",
        // The console's history, this command with it.
        "\"cat /sys/kernel/debug/kho/out/state\"",
    ] {
        assert!(state.contains(part), "out/state has no {part}:\n{state}");
    }
    guest.kexec_to(1);
    let demo = guest.ok(&format!("cat {KHO}/demo"));
    assert_eq!(demo.trim_end(), "boots: 2\nnote: hello\nnotes: 1");
    for (file, part) in [
        ("in/state", "note: String = \"hello\""),
        ("in/metadata", "kexec count: 1"),
        ("in/report", "demo: restored"),
        ("in/report", "trace: restored"),
        ("in/preserved", "trace"),
        ("in/preserved", "given back"),
        ("out/preserved", "initrd"),
        ("out/preserved", "trace"),
    ] {
        let text = guest.ok(&format!("cat {KHO}/{file}"));
        assert!(text.contains(part), "{file} has no {part}:\n{text}");
    }
    // What would be handed over says so where nothing would be.
    let said = "# 0 in /sys/kernel/kho/active: ";
    for (switch, says) in [("0", true), ("1", false)] {
        guest.ok(&format!("echo {switch} > /sys/kernel/kho/active"));
        for file in ["state", "metadata", "preserved"] {
            let text = guest.ok(&format!("cat {KHO}/out/{file}"));
            assert_eq!(text.starts_with(said), says, "{file}:\n{text}");
        }
    }
    guest.poweroff();
}
