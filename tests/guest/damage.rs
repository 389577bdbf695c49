//! Handovers that were damaged on purpose: said in one line, started cold, nothing touched.

use tests::{Guest, Setup, damaging};

const DAMAGE: &str = "/sys/kernel/debug/kho/out/damage";

/// Does the damage to a kexec, and goes back to an undamaged generation 0 by a reset.
fn refused_with(guest: &mut Guest, damage: &str, reason: &str) {
    guest.ok("seq 1 100 > /sys/kernel/tracing/trace_marker");
    guest.ok(&format!("echo {damage} > {DAMAGE}"));
    let output = guest.kexec();
    let sentences: Vec<&str> = tests::lines(&output)
        .filter(|line| line.contains("this kernel starts cold") || line.contains("so it is reset"))
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

/// One of each kind: `handover`'s own tests, its fuzzer and `cargo run -p tests --bin damage` try more of each.
#[test]
fn a_damaged_tree_is_refused() {
    let mut guest = Setup::new().boot();
    for (damage, reason) in [
        ("magic", "the magic number"),
        ("cut 60", "60 are there"),
        ("cut 0", "handed nothing over"),
        ("flip 1001", "fdt:"),
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
        ("map 0x1003", "not page-aligned"),
        ("node 13", "preserved map"),
        ("flip trace 500", "subsystem `trace`"),
        ("cut params 700", "boot parameters"),
    ] {
        refused_with(&mut guest, damage, reason);
    }
    guest.poweroff();
}

#[test]
fn no_such_damage_is_refused_and_none_is_none() {
    let mut guest = Setup::new().boot();
    for (text, why) in [
        (
            "explode",
            "\"explode\" is no damage; there are none, magic, cut",
        ),
        ("cut", "cut: a number of bytes is missing"),
        ("cut x", "\"x\" is not a number of bytes"),
        ("flip", "flip: the number of a bit is missing"),
        ("flip trace", "flip trace: the number of a bit is missing"),
        ("flip 0x1g", "\"0x1g\" is not the number of a bit"),
        (
            "flip nobody 7",
            "nothing is handed over under the name \"nobody\"; there are machine, ramtrace, trace",
        ),
        ("map -1", "\"-1\" is not a physical address"),
        ("magic now", "\"now\" is one word too many"),
        ("node 1 2 3", "\"3\" is one word too many"),
        ("node x", "\"x\" is not the number of a bit"),
        ("cut nobody 7", "under the name \"nobody\""),
        ("cut params", "cut params: a number of bytes is missing"),
        // The first page belongs to firmware.
        ("page 0x0 7", "the page at 0x0 is not preserved"),
        ("page 0x1000", "the number of a bit is missing"),
        ("lose", "lose: a physical address is missing"),
        ("lose 0x0", "the page at 0x0 is not preserved"),
    ] {
        let refused = guest.refused(&format!("echo {text} > {DAMAGE}"));
        assert!(refused.contains(why), "{text}: {refused}");
    }
    let shown = guest.ok(&format!("cat {DAMAGE}"));
    assert_eq!(shown.lines().last(), Some("none"), "{shown}");
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
    const FLIPS: usize = 40;
    const CUTS: usize = 12;
    let mut damages = damaging::flips(FLIPS, 2);
    damages.extend(damaging::cuts(CUTS, 2));
    let table = damaging::run(&damages, |_, _, _| {});
    assert_eq!(table.total(), FLIPS + CUTS);
    // Each line of defence has had something to do.
    for result in [
        "refused: FDT: the checksum",
        "refused: preserved map: ",
        "refused: the blob of subsystem",
        "told: ",
    ] {
        assert!(table.count(result) > 0, "no {result:?}:\n{table}");
    }
}

/// A start whose early memory does not suffice says by how much, wherever it ends, and the machine starts anew.
#[test]
fn too_little_early_memory_is_told_with_how_much_is_missing() {
    let mut guest = Setup::new().boot();
    let mut last = u64::MAX;
    // In the page tables, in the stacks, in the first heap.
    for kib in [16, 200, 1100] {
        guest.ok(&format!("echo early {} > {DAMAGE}", kib * 1024));
        let output = guest.kexec();
        let said = format!("this start has {kib} KiB of early memory, and needs ");
        let Some((_, rest)) = output.split_once(&said) else {
            guest.fail(&format!("with {kib} KiB it should say {said:?}"));
        };
        let missing: Option<u64> = rest.split(' ').next().and_then(|word| word.parse().ok());
        let Some(missing) = missing.filter(|_| rest.contains("KiB more at least; the machine"))
        else {
            guest.fail("it should say how much more it needs");
        };
        assert!(missing > 0 && missing < last, "{kib} KiB: {missing}");
        last = missing;
        if !output.contains("generation 0 (cold)") {
            guest.fail("a cold start should follow");
        }
    }
    // What suffices, suffices.
    guest.ok(&format!("echo early {} > {DAMAGE}", 4 << 20));
    guest.kexec_to(1);
    guest.poweroff();
}
