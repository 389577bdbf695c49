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
    match pages {
        Some(pages) if pages > 0 && number_after(&text, "intact:") == Some(pages) => text,
        _ => guest.fail("not all of the test memory is there and intact"),
    }
}

/// Preserves memory as asked for, goes `hops` times, and has all of it each time; then gives it back.
fn hops_under_pressure(mib: u32, request: &str, percent: u64, hops: u32) {
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
    for hop in 2..=hops + 1 {
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
    guest.kexec_to(hops + 2);
    guest.poweroff();
}

#[test]
fn nearly_all_memory_in_random_pages_crosses_ten_times() {
    hops_under_pressure(256, "95%", 95, 10);
}

/// On the machine that `run-qemu.sh` starts, from its first kernel on, with what the boot loader took still taken: nearly all
/// memory is preserved, crosses, and is given back; refused requests leave nothing preserved.
#[test]
fn nearly_all_memory_of_the_default_machine_crosses_from_its_first_kernel_on() {
    let mut guest = Setup::new().smp(2).mem(256).boot();
    let preserved_before = row(&mut guest, "preserved")[0];
    guest.refused(&format!("echo preserve 99% > {KHO}/test"));
    assert_eq!(row(&mut guest, "preserved")[0], preserved_before);
    for hop in 1..=3 {
        guest.ok(&format!("echo preserve 95% > {KHO}/test"));
        let before = test_memory(&mut guest);
        guest.kexec_to(hop);
        assert_eq!(test_memory(&mut guest), before, "hop {hop}");
        guest.ok(&format!("echo release > {KHO}/test"));
        assert_eq!(guest.ok(&format!("cat {KHO}/test")).trim(), "pages: 0");
    }
    guest.poweroff();
}

#[test]
fn nearly_all_of_128_mib_in_random_pages_crosses() {
    hops_under_pressure(128, "95%", 95, 3);
}

#[test]
fn every_other_page_crosses() {
    hops_under_pressure(128, "45% every-other seed=5", 45, 3);
}

#[test]
fn nearly_all_memory_in_blocks_of_eight_pages_crosses() {
    hops_under_pressure(256, "95% order=3 seed=9", 95, 3);
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

/// The last range of an owner's in `out/preserved`: its ends. (A list's own pages lie below what it lists.)
fn last_range(guest: &mut Guest, owner: &str) -> (u64, u64) {
    let text = guest.ok(&format!(
        "grep '^.0x.*{owner}' {KHO}/out/preserved | tail -n 1"
    ));
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let ends = text.trim_start_matches('[').split(')').next();
    match ends.and_then(|ends| ends.split_once(", ")) {
        Some((start, end)) => match (hex(start), hex(end)) {
            (Some(start), Some(end)) => (start, end),
            _ => guest.fail("no range"),
        },
        None => guest.fail(&format!("{owner} has no preserved memory")),
    }
}

#[test]
fn a_damaged_page_of_the_initrd_is_named_and_no_kernel_is_loaded_from_it() {
    let mut guest = Setup::new().boot();
    guest.kexec_to(1);
    let report = guest.ok(&format!("cat {KHO}/in/report"));
    let sealed = report
        .lines()
        .find(|line| line.starts_with("seals: initrd: "));
    let numbers: Vec<u64> = sealed
        .into_iter()
        .flat_map(|line| line.split(' ').filter_map(|word| word.parse().ok()))
        .collect();
    let (start, end) = last_range(&mut guest, "initrd");
    let pages = (end - start) / 4096;
    assert_eq!(numbers, [pages, pages], "{report}");

    // The kernel is the first file of the initrd.
    let page = start + pages / 8 * 4096;
    guest.ok(&format!("echo known > {KHO}/demo"));
    guest.ok(&format!("echo page {page:#x} 12345 > {KHO}/out/damage"));
    guest.kexec_to(2);
    // When the console is idle; it must not come in the middle of the next command.
    guest.expect("but was sealed with");
    let report = guest.ok(&format!("cat {KHO}/in/report"));
    let broken = format!(
        "seals: initrd: preserved memory [{page:#x}, {:#x}) has checksum",
        page + 4096
    );
    let count = format!("seals: initrd: {} of {pages} sealed pages", pages - 1);
    for part in [count.as_str(), &broken, "demo: restored"] {
        assert!(
            report.contains(part),
            "no {part:?} in the report:\n{report}"
        );
    }
    assert!(
        guest.ok("dmesg").contains(&broken["seals: ".len()..]),
        "{broken}"
    );
    for command in ["kexec -l", "cat /boot/kernel"] {
        let said = guest.refused(command);
        assert!(
            said.contains(&format!("[{page:#x}, "))
                && said.contains("has changed since it was sealed"),
            "{said}"
        );
    }
    guest.refused("kexec -e");
    guest.poweroff();
}

/// The archive's first page names its first file: with it broken, files are missing, and it is said why.
#[test]
fn a_file_that_is_missing_from_a_damaged_initrd_is_missing_for_a_named_reason() {
    let mut guest = Setup::new().boot();
    guest.kexec_to(1);
    let said = guest.refused("cat /boot/nothing");
    assert!(said.contains("No such file"), "{said}");
    let (page, _) = last_range(&mut guest, "initrd");
    guest.ok(&format!("echo page {page:#x} 3 > {KHO}/out/damage"));
    guest.kexec_to(2);
    // When the console is idle; it must not come in the middle of the next command.
    guest.expect("but was sealed with");
    let said = guest.refused("kexec -l");
    for part in [
        "the initrd is damaged",
        &format!("[{page:#x}, "),
        "since it was sealed",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let said = guest.refused("cat /boot/kernel");
    assert!(
        said.contains("(EIO)") && said.contains(&format!("[{page:#x}, ")),
        "{said}"
    );
    let report = guest.ok(&format!("cat {KHO}/in/report"));
    assert!(report.contains("cannot be trusted"), "{report}");
    assert!(!report.contains("it is not restored"), "{report}");
    guest.poweroff();
}

#[test]
fn a_damaged_page_of_the_test_memory_is_named() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!("echo preserve 4M > {KHO}/test"));
    let before = test_memory(&mut guest);
    let (page, _) = last_range(&mut guest, "kho_test");
    guest.ok(&format!("echo page {page:#x} 7777 > {KHO}/out/damage"));
    guest.kexec_to(1);
    let after = guest.ok(&format!("cat {KHO}/test"));
    let expected = before.replace("intact: 1024", "intact: 1023").replace(
        "damaged: 0",
        &format!("damaged: 1\ndamaged page: {page:#x}"),
    );
    assert_eq!(after, expected);
    guest.poweroff();
}

/// The pages of a list are sealed: a damaged one is named, and none of the addresses in it is followed.
#[test]
fn a_damaged_list_of_pages_is_refused_and_its_pages_are_given_back() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!("echo preserve 4M > {KHO}/test"));
    // The tracer, whose state has such a field as well, comes behind it.
    let state = guest.ok(&format!("grep 'first: u64' {KHO}/out/state | head -n 1"));
    let first: Option<u64> = state.trim().rsplit(' ').next().and_then(|n| n.parse().ok());
    let first = first.unwrap_or_else(|| guest.fail("where does the list begin?"));
    // A low bit of an address: that page is preserved, too.
    let bit = 8 * 8 + 12;
    guest.ok(&format!("echo page {first:#x} {bit} > {KHO}/out/damage"));
    guest.ok(&format!("echo known > {KHO}/demo"));
    guest.kexec_to(1);
    let report = guest.ok(&format!("cat {KHO}/in/report"));
    let named = format!("kho_test: rejected by its owner: preserved memory [{first:#x}, ");
    // 1024 pages, and the three of the list.
    for part in [named.as_str(), "1027 pages discarded", "demo: restored"] {
        assert!(
            report.contains(part),
            "no {part:?} in the report:\n{report}"
        );
    }
    assert_eq!(guest.ok(&format!("cat {KHO}/test")).trim(), "pages: 0");
    guest.poweroff();
}
