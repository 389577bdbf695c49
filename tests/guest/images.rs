//! Kernels that are none: refused in one sentence, and the running kernel is unharmed.

use std::fs;

use tests::{Setup, elf};

#[test]
fn bad_images_are_refused_and_the_good_one_still_goes() {
    let good = fs::read(tests::kernel_elf()).expect("the kernel is built");
    let half = good.len() / 2;
    let mut guest = Setup::new()
        .file("text", "This is no kernel.\n".repeat(50))
        .file("empty", "")
        .file("truncated", &good[..half])
        .file("header-only", &good[..20])
        .file("aarch64", elf::for_machine(&good, elf::AARCH64))
        .file("huge", elf::with_last_segment_of(&good, 1 << 50))
        // Fits the area for kernels, and not the memory.
        .file("large", elf::with_last_segment_of(&good, 512 << 20))
        .boot();
    let memory_before = guest.ok("free");

    guest.refused("kexec -e");
    guest.refused("kexec -u");
    for (name, reason) in [
        ("text", "elf"),
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("header-only", "truncated"),
        ("aarch64", "machine"),
        ("huge", ""),
        ("large", ""),
        ("no-such-file", ""),
    ] {
        let sentence = guest.refused(&format!("kexec -l /boot/{name}"));
        assert!(
            sentence.contains(name),
            "{sentence:?} does not name the file {name}"
        );
        assert!(
            sentence.to_lowercase().contains(reason),
            "{sentence:?} does not name {reason:?}"
        );
        guest.refused("kexec -e");
    }
    let memory_after = guest.ok("free");
    let scratch = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("scratch"))
            .map(str::to_owned)
    };
    assert_eq!(
        scratch(&memory_after),
        scratch(&memory_before),
        "refused images keep no scratch"
    );

    // A bad one does not unload a good one.
    guest.ok("kexec -l");
    guest.refused("kexec -l /boot/text");
    let output = guest.run("kexec -e");
    assert!(output.contains("generation 1 (kexec)"), "{output}");
    guest.poweroff();
}

#[test]
fn a_kernel_copied_to_another_file_goes_too() {
    let good = fs::read(tests::kernel_elf()).expect("the kernel is built");
    let mut guest = Setup::new().file("other", good).boot();
    guest.ok("kexec -l /boot/other");
    let output = guest.run("kexec -e");
    assert!(output.contains("generation 1 (kexec)"), "{output}");
    guest.poweroff();
}
