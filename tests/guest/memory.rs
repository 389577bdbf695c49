//! Memory at its limits: large buffers, small scratch, requests that cannot be met.

use tests::{Guest, Setup};

const TRACING: &str = "/sys/kernel/tracing";

fn free_memory(guest: &mut Guest) -> u64 {
    let text = guest.ok("cat /proc/meminfo");
    match tests::number_after(&text, "MemFree:") {
        Some(kib) => kib,
        None => guest.fail("/proc/meminfo has no MemFree"),
    }
}

/// A list of all preserved pages does not fit the heap of a starting kernel: it must not need one.
#[test]
fn a_buffer_of_most_of_the_memory_crosses() {
    let mut guest = Setup::new().smp(1).mem(128).boot();
    guest.ok(&format!("echo 80000 > {TRACING}/buffer_size_kb"));
    guest.ok(&format!("seq 1 1000 > {TRACING}/trace_marker"));
    for generation in 1..=2 {
        guest.kexec_to(generation);
        let count = guest.ok(&format!(
            "grep -c 'tracing_mark_write: [0-9]' {TRACING}/trace"
        ));
        assert_eq!(count.trim(), "1000");
        let size = guest.ok(&format!("cat {TRACING}/buffer_size_kb"));
        assert_eq!(size.trim(), "80000");
    }
    guest.poweroff();
}

/// What cannot be given is refused, and takes nothing from those who come after it.
#[test]
fn a_request_beyond_the_memory_changes_nothing() {
    let mut guest = Setup::new().smp(1).mem(128).boot();
    let before = free_memory(&mut guest);
    for size in ["112000", "99999999999", "18446744073709551615"] {
        guest.refused(&format!("echo {size} > {TRACING}/buffer_size_kb"));
    }
    let after = free_memory(&mut guest);
    // The heap may have grown by a step.
    assert!(
        before.abs_diff(after) <= 2048,
        "{before} KiB, then {after} KiB"
    );

    // Long, and no kernel: only its start is read.
    guest.ok(&format!("echo 60000 > {TRACING}/buffer_size_kb"));
    guest.ok(&format!("seq 1 300000 > {TRACING}/trace_marker"));
    let before = free_memory(&mut guest);
    let said = guest.refused(&format!("kexec -l {TRACING}/trace"));
    assert!(said.contains("not an ELF file"), "{said}");
    assert_eq!(free_memory(&mut guest), before);
    guest.kexec_to(1);
    guest.poweroff();
}

/// The smallest machine that is started: there is room for what two kernels need of scratch, and hardly any more.
#[test]
fn the_smallest_machine_has_as_much_scratch_as_two_kernels_need() {
    let mut guest = Setup::new().mem(52).variants().boot();
    let log = guest.ok("dmesg | grep scratch:");
    assert!(!log.contains("there is no room"), "{log}");
    assert!(!log.contains("cannot kexec"), "{log}");
    for generation in 1..=3 {
        guest.kexec_to(generation);
    }
    guest.poweroff();
}

/// The images change places in scratch, also where there is just enough of it.
#[test]
fn small_scratch_is_enough_for_hop_after_hop() {
    let mut guest = Setup::new().append("kho_scratch=100%").boot();
    for generation in 1..=5 {
        guest.kexec_to(generation);
    }
    guest.poweroff();
}

/// Too little of it is said at the start, and `kexec -l` refuses what does not fit, with both sizes. A switch that is neither on nor
/// off is said, too.
#[test]
fn too_small_scratch_is_said() {
    let mut guest = Setup::new().append("kho_scratch=25% kho=maybe").boot();
    for warning in [
        "KiB that two kernels need; `kexec -l` may refuse to load one; kho_scratch=100% (",
        "kho: `maybe` is neither on nor off; it stays on",
    ] {
        assert!(guest.first_output().contains(warning), "no {warning}");
    }
    let said = guest.refused("kexec -l");
    assert!(
        said.contains("KiB") && said.contains("nothing was loaded"),
        "{said}"
    );
    guest.refused("kexec -e");
    guest.poweroff();
}

/// Each kernel that refuses a handover takes less, and goes on: it can load, and hand over, again.
#[test]
fn refusal_after_refusal_is_survived() {
    let mut guest = Setup::new().append("kho_scratch=32Q").boot();
    // What is wrong with it is said once, and the default is named as it is taken.
    assert!(
        guest.first_output().contains(
            "kho_scratch: `32Q` is no size of scratch: it has a unit that is none of K, M, G, %; write an amount (16M), a percentage of what \
             boot needs (200%), or low, global and per-node amounts (8M,16M,0); it is not taken, and the default of 32768 KiB is tried"
        ),
        "{}",
        guest.first_output()
    );
    for _ in 0..3 {
        guest.ok("echo magic > /sys/kernel/debug/kho/out/damage");
        let output = guest.kexec();
        assert!(output.contains("generation 0 (cold)"), "{output}");
        let report = guest.ok("cat /sys/kernel/debug/kho/in/report");
        let began = report.lines().next().unwrap_or_default();
        assert!(began.starts_with("kexec with a handover: "), "{report}");
        assert_eq!(began.matches("refused").count(), 1, "{report}");
        guest.ok("ls /boot/kernel");
    }
    guest.ok(&format!("echo kept > {TRACING}/trace_marker"));
    guest.kexec_to(1);
    guest.ok(&format!("grep 'tracing_mark_write: kept' {TRACING}/trace"));
    guest.poweroff();
}
