//! The switch of the handover: off, a kexec is an ordinary one, and says so; on again, everything crosses.

use tests::Setup;

const ACTIVE: &str = "/sys/kernel/kho/active";
const TRACING: &str = "/sys/kernel/tracing";

#[test]
fn switched_off_nothing_crosses() {
    let mut guest = Setup::new().boot();
    assert_eq!(guest.ok(&format!("cat {ACTIVE}")).trim(), "1");
    let said = guest.refused(&format!("echo perhaps > {ACTIVE}"));
    assert!(said.contains("write 1"), "{said}");

    let free = |guest: &mut tests::Guest| -> u64 {
        let text = guest.ok("grep MemFree /proc/meminfo");
        let number = text.split_whitespace().nth(1).map(str::parse);
        number
            .and_then(Result::ok)
            .expect("MemFree of /proc/meminfo")
    };
    let before = free(&mut guest);
    guest.ok(&format!("echo lost > {TRACING}/trace_marker"));
    guest.ok(&format!("echo 0 > {ACTIVE}"));
    let output = guest.kexec();
    assert!(
        output.contains(
            "generation 0 (cold) after a kexec without a handover (0 in its /sys/kernel/kho/active)"
        ),
        "{output}"
    );
    let log = guest.ok("dmesg");
    assert!(
        log.contains("switched off in the predecessor: nothing crossed"),
        "{log}"
    );
    guest.refused("cat /sys/kernel/debug/kho/in/fdt");
    let trace = guest.ok(&format!("cat {TRACING}/trace"));
    assert!(!trace.contains("tracing_mark_write: lost"), "{trace}");
    // All memory is the new kernel's, not scratch alone, and it has its files.
    assert!(free(&mut guest) * 10 > before * 9, "memory is missing");
    guest.ok("ls /boot/kernel");
    let scratch = guest.ok("cat /sys/kernel/debug/kho/out/scratch_use");
    assert!(scratch.contains("needed by a crossing"), "{scratch}");

    // The switch does not cross either: the next kexec hands over.
    guest.ok(&format!("echo kept > {TRACING}/trace_marker"));
    guest.kexec_to(1);
    guest.ok(&format!("grep 'tracing_mark_write: kept' {TRACING}/trace"));
    guest.poweroff();
}

#[test]
fn the_command_line_switches_it_off() {
    let mut guest = Setup::new().append("kho=off").boot();
    assert_eq!(guest.ok(&format!("cat {ACTIVE}")).trim(), "0");
    guest.ok(&format!("echo 1 > {ACTIVE}"));
    guest.ok(&format!("echo kept > {TRACING}/trace_marker"));
    guest.kexec_to(1);
    guest.ok(&format!("grep 'tracing_mark_write: kept' {TRACING}/trace"));
    // The command line crosses with `kexec -l`.
    assert_eq!(guest.ok(&format!("cat {ACTIVE}")).trim(), "0");
    let output = guest.kexec();
    assert!(
        output.contains("without a handover (switched off by kho= on its command line)"),
        "{output}"
    );
    guest.poweroff();
}
