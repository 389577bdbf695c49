//! Faults on purpose, before a kexec and after one: registers, cause, symbolised backtrace.

use boot::Ended;
use tests::{Guest, Setup};

/// What `fault NAME` makes happen, and the clause that says so.
pub const FAULTS: &[(&str, &str)] = &[
    ("read", "read of address"),
    ("write", "write to address"),
    ("exec", "instruction fetch"),
    ("ud", "invalid opcode"),
    ("div", "divide error"),
    ("gp", "general protection"),
    ("stack", "stack overflow"),
];

fn assert_report(guest: &mut Guest, report: &str, cause: &str, generation: u32) {
    let generation = format!("generation {generation}");
    for part in [
        "KERNEL PANIC",
        cause,
        &generation,
        "rip 0x",
        "rax 0x",
        "cr2 0x",
        "backtrace:",
        "commands::",
    ] {
        if !report.contains(part) {
            guest.fail(&format!("the report of a fault does not have {part:?}"));
        }
    }
}

/// After a kexec: one with an error code and an address, one without, and one on a stack of its own.
const AGAIN: [&str; 3] = ["read", "div", "stack"];

#[test]
fn every_fault_is_reported_and_some_in_both_lives() {
    // With panic=-1 a panic resets the machine at once, so that one QEMU serves for all.
    let mut guest = Setup::new().append("panic=-1").boot();
    for generation in [0, 1] {
        for (fault, cause) in FAULTS {
            if generation == 1 {
                if !AGAIN.contains(fault) {
                    continue;
                }
                guest.kexec_to(1);
            }
            let output = guest.run(&format!("fault {fault}"));
            assert_report(&mut guest, &output, cause, generation);
            if !output.contains("generation 0 (cold)") {
                guest.fail("the machine should have started cold after the panic");
            }
        }
    }
    guest.poweroff();
}

#[test]
fn a_fault_ends_qemu_with_the_status_of_a_panic() {
    let mut guest = Setup::new().boot();
    guest.kexec_to(1);
    guest.send("fault write\r");
    let report = guest.expect_end(Ended::Panicked);
    assert_report(&mut guest, &report, "write to address", 1);
}
