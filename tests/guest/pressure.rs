//! Handovers of nearly all memory, in scattered pages, and sealed memory: everything comes back, and what does not is named.

use tests::{Guest, Setup, number_after};

const KHO: &str = "/sys/kernel/debug/kho";

/// The numbers of a line of `free`, in KiB.
fn row(guest: &mut Guest, name: &str) -> Vec<u64> {
    let text = guest.ok("free");
    let line = text.lines().find(|line| line.starts_with(name));
    let numbers = line.map(|line| line.split_whitespace().skip(1).map(str::parse).collect());
    match numbers {
        Some(Ok(numbers)) => numbers,
        _ => guest.fail(&format!("`free` has no line {name:?} of numbers")),
    }
}

/// Every page of the test memory, checked; the text is the same as long as all of it is there and unchanged.
fn test_memory(guest: &mut Guest) -> String {
    let text = guest.ok(&format!("cat {KHO}/test"));
    let pages = number_after(&text, "pages:");
    if pages == Some(0) || number_after(&text, "intact:") != pages {
        guest.fail("not all of the test memory is intact");
    }
    text
}

/// Preserves memory as asked for, goes ten times, and has all of it each time; then gives it back.
fn ten_hops_under_pressure(mib: u32, request: &str, percent: u64) {
    let mut guest = Setup::new().mem(mib).boot();
    // From here on the kernel lies in scratch, and what the boot loader took is free.
    guest.kexec_to(1);
    let free_before = row(&mut guest, "memory")[2];
    guest.ok(&format!("echo preserve {request} > {KHO}/test"));
    let ordinary = row(&mut guest, "memory")[0];
    let preserved = row(&mut guest, "preserved")[0];
    assert!(
        preserved * 100 >= ordinary * percent,
        "{preserved} KiB of {ordinary} KiB are preserved"
    );
    let before = test_memory(&mut guest);
    guest.ok("echo under pressure > /sys/kernel/tracing/trace_marker");
    for hop in 2..=11 {
        guest.kexec_to(hop);
        assert_eq!(test_memory(&mut guest), before, "hop {hop}");
        assert_eq!(row(&mut guest, "preserved"), [preserved], "hop {hop}");
    }
    let report = guest.ok(&format!("cat {KHO}/in/report"));
    assert!(report.contains("kho_test: restored\n"), "{report}");
    assert!(!report.contains("trouble"), "{report}");
    guest.ok("grep 'tracing_mark_write: under pressure' /sys/kernel/tracing/trace");

    guest.ok(&format!("echo release > {KHO}/test"));
    assert_eq!(guest.ok(&format!("cat {KHO}/test")).trim(), "pages: 0");
    let free_after = row(&mut guest, "memory")[2];
    // The heap has grown.
    assert!(
        free_after + free_before / 10 >= free_before,
        "free: {free_before} KiB before, {free_after} KiB after"
    );
    guest.kexec_to(12);
    guest.poweroff();
}

#[test]
fn nearly_all_memory_in_random_pages_crosses_ten_times() {
    ten_hops_under_pressure(256, "95%", 95);
}

#[test]
fn nearly_all_of_128_mib_in_random_pages_crosses_ten_times() {
    ten_hops_under_pressure(128, "95%", 95);
}

#[test]
fn every_other_page_crosses_ten_times() {
    ten_hops_under_pressure(128, "45% every-other seed=5", 45);
}

#[test]
fn nearly_all_memory_in_blocks_of_eight_pages_crosses_ten_times() {
    ten_hops_under_pressure(256, "95% order=3 seed=9", 95);
}

#[test]
fn test_memory_is_taken_whole_or_not_at_all() {
    let mut guest = Setup::new().mem(128).boot();
    let free = row(&mut guest, "memory")[2];
    for (request, reason) in [
        ("preserve", "an amount"),
        ("preserve 99999M", "KiB are free"),
        ("preserve 100%", "KiB are free"),
        ("preserve 95% every-other", "KiB are free"),
        ("preserve 1M sometimes", "every-other"),
        ("preserve 1M order=11", "order"),
        ("release", "no preserved test memory"),
        ("explode", "write `preserve"),
    ] {
        let said = guest.refused(&format!("echo {request} > {KHO}/test"));
        assert!(said.contains(reason), "{request}: {said}");
    }
    let now = row(&mut guest, "memory")[2];
    // The heap may have grown by a step.
    assert!(free - now <= 2048, "{free} KiB, then {now} KiB");
    guest.ok(&format!("echo preserve 8M > {KHO}/test"));
    let said = guest.refused(&format!("echo preserve 1M > {KHO}/test"));
    assert!(said.contains("already"), "{said}");
    assert_eq!(number_after(&test_memory(&mut guest), "pages:"), Some(2048));
    guest.poweroff();
}
