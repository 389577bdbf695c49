//! Handovers that were damaged on purpose: said in one line, started cold, nothing touched.

use tests::{Guest, Setup, damaging};

const DAMAGE: &str = "/sys/kernel/debug/kho/out/damage";

/// Does the damage to a kexec, and goes back to an undamaged generation 0 by a reset.
fn refused_with(guest: &mut Guest, damage: &str, reason: &str) {
    guest.ok("seq 1 100 > /sys/kernel/tracing/trace_marker");
    guest.ok(&format!("echo {damage} > {DAMAGE}"));
    let output = guest.kexec();
    let sentences: Vec<&str> = tests::lines(&output)
        .filter(|line| line.contains("this kernel starts cold"))
        .collect();
    if sentences.len() != 1 || !sentences[0].to_lowercase().contains(reason) {
        guest.fail(&format!(
            "after the damage `{damage}` one line should refuse the handover and name {reason:?}: {sentences:?}"
        ));
    }
    if !output.contains("generation 0 (cold)") {
        guest.fail(&format!(
            "after the damage `{damage}` the start should be a cold one"
        ));
    }
    // A whole kernel: its console, memory and tracer work.
    guest.ok("free");
    guest.ok("echo after > /sys/kernel/tracing/trace_marker");
    let trace = guest.ok("cat /sys/kernel/tracing/trace");
    if !trace.contains("tracing_mark_write: after") {
        guest.fail("the tracer does not record after a refused handover");
    }
    guest.refused("cat /sys/kernel/debug/kho/in/fdt");
    let output = guest.run("reboot");
    if !output.contains("generation 0 (cold)") {
        guest.fail("no cold start after a reboot");
    }
}

#[test]
fn a_damaged_tree_is_refused() {
    let mut guest = Setup::new().boot();
    for (damage, reason) in [
        ("magic", "the magic number"),
        ("cut 60", "60 are there"),
        ("cut 3", "too few for a header"),
        ("cut 0", "handed nothing over"),
        // In the header, in the structure block, and at its very end.
        ("flip 40", "fdt:"),
        ("flip 1001", "fdt:"),
        ("flip 4000", "checksum"),
    ] {
        refused_with(&mut guest, damage, reason);
    }
    guest.poweroff();
}

#[test]
fn a_damaged_map_or_blob_is_refused() {
    let mut guest = Setup::new().boot();
    for (damage, reason) in [
        ("map 0x7f00000000000", "not in ram"),
        ("map 0xfffffffffffff000", "not in ram"),
        ("map 0x1003", "not page-aligned"),
        ("map 0", "preserved map"),
        ("node 13", "preserved map"),
        ("node 70", "preserved map"),
        ("flip console 100", "subsystem `console`"),
        ("flip trace 500", "subsystem `trace`"),
    ] {
        refused_with(&mut guest, damage, reason);
    }
    guest.poweroff();
}

#[test]
fn no_such_damage_is_refused_and_none_is_none() {
    let mut guest = Setup::new().boot();
    guest.refused(&format!("echo explode > {DAMAGE}"));
    guest.ok(&format!("echo magic > {DAMAGE}"));
    guest.ok(&format!("echo none > {DAMAGE}"));
    guest.kexec_to(1);
    // It held for one kexec only; the next one is whole as well.
    guest.kexec_to(2);
    guest.poweroff();
}

/// A part of what `cargo run -p tests --bin damage` does, which has the results in a table.
#[test]
fn random_flips_and_cuts_are_refused_or_harmless() {
    const FLIPS: usize = 60;
    const CUTS: usize = 20;
    let mut damages = damaging::flips(FLIPS, 2);
    damages.extend(damaging::cuts(CUTS, 2));
    let table = damaging::run(&damages, |_, _, _| {});
    assert_eq!(table.total(), FLIPS + CUTS);
    // Most of the damage is to what has a checksum.
    assert!(table.count("refused") > FLIPS / 2, "{table}");
}
