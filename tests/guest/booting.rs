//! Starts and ends of a machine.

use boot::Ended;
use tests::{Guest, Setup};

/// The banner stands on a line of its own, before the first prompt.
fn assert_cold_banner(guest: &mut Guest, output: &str) {
    let good = |line: &str| line.starts_with("baton ") && line.contains(" generation 0 (cold)");
    if tests::lines(output).filter(|line| good(line)).count() != 1 {
        guest.fail("the banner of a cold start is missing");
    }
}

fn boots_and_powers_off(setup: &Setup) {
    let mut guest = setup.boot();
    let output = guest.first_output().to_owned();
    assert_cold_banner(&mut guest, &output);
    assert_eq!(guest.ok("echo hello").trim(), "hello");
    guest.poweroff();
}

#[test]
fn bios() {
    boots_and_powers_off(&Setup::new().variants());
}

#[test]
fn uefi() {
    boots_and_powers_off(&Setup::new().variants().uefi());
}

#[test]
fn one_cpu_and_four() {
    boots_and_powers_off(&Setup::new().smp(1));
    boots_and_powers_off(&Setup::new().smp(4));
}

#[test]
fn the_command_line_and_extra_files_arrive() {
    let setup = Setup::new()
        .append("loglevel=4 no_such_option=1")
        .file("extra/note", "a note\n");
    let mut guest = setup.boot();
    assert_eq!(
        guest.ok("cat /proc/cmdline").trim(),
        "loglevel=4 no_such_option=1"
    );
    assert_eq!(guest.ok("cat /boot/extra/note"), "a note\n");
    let names = guest.ok("ls /boot");
    for name in ["kernel", "cmdline", "README", "extra"] {
        assert!(names.contains(name), "{name} is not in /boot: {names}");
    }
    guest.poweroff();
}

#[test]
fn reboot_and_reset_start_cold() {
    let mut guest = Setup::new().boot();
    guest.kexec_to(1);
    let output = guest.run("reboot");
    assert_cold_banner(&mut guest, &output);
    guest.kexec_to(1);
    guest.monitor("system_reset");
    let output = guest.expect_prompt();
    assert_cold_banner(&mut guest, &output);
    guest.poweroff();
}

#[test]
fn every_command_named_in_the_design_is_there() {
    let mut guest = Setup::new().boot();
    let help = guest.ok("help");
    for command in [
        "cat", "dmesg", "echo", "free", "grep", "head", "help", "hexdump", "kexec", "ls", "panic",
        "poweroff", "reboot", "status", "tail", "uptime", "wc",
    ] {
        assert!(
            help.contains(command),
            "help does not name {command}:\n{help}"
        );
    }
    assert!(!guest.ok("dmesg").trim().is_empty());
    assert!(guest.ok("uptime").contains("up "));
    assert_eq!(
        guest.ok("seq 1 30 | grep 3 | tail -2 | head -1").trim(),
        "23"
    );
    assert_eq!(guest.ok("seq 1 30 | wc -l").trim(), "30");
    guest.ok("echo one > /tmp/file");
    guest.ok("echo two >> /tmp/file");
    assert_eq!(guest.ok("cat /tmp/file"), "one\ntwo\n");
    guest.poweroff();
}

#[test]
fn a_panic_is_told_apart_from_an_end() {
    let mut guest = Setup::new().boot();
    guest.send("panic on purpose\r");
    let output = guest.expect_end(Ended::Panicked);
    assert!(output.contains("KERNEL PANIC: on purpose"), "{output}");
    assert!(output.contains("backtrace:"), "{output}");
}
