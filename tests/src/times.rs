//! `cargo run -p tests --bin times`: how long things take. A table, no verdict.

use std::time::{Duration, Instant};

use tests::{Setup, tracefile};

/// Each time is the best of so many runs: what disturbs a run only makes it longer.
const RUNS: usize = 3;

fn main() {
    let elf = tests::kernel_elf();
    let sizes = Setup::new().variants().boot();
    let rows = [
        (
            "kernel image (ELF with symbols)",
            format!("{} KiB", sizes.image().kernel_bytes().div_ceil(1024)),
        ),
        (
            "initrd",
            format!("{} KiB", sizes.image().initrd_bytes().div_ceil(1024)),
        ),
    ];
    drop(sizes);
    println!("kernel: {}", elf.display());
    println!("QEMU, software emulation (TCG), 2 CPUs, 256 MiB; times are the best of {RUNS} runs");
    println!();
    for (name, value) in rows {
        row(name, &value);
    }
    row(
        "cold boot to the prompt, BIOS",
        &millis(best(|| cold_boot(&Setup::new().variants()))),
    );
    row(
        "cold boot to the prompt, UEFI",
        &millis(best(|| cold_boot(&Setup::new().variants().uefi()))),
    );
    row(
        "kexec -l",
        &millis(best(|| kexec(&Setup::new().variants()).0)),
    );
    row(
        "kexec -e to the prompt",
        &millis(best(|| kexec(&Setup::new().variants()).1)),
    );
    println!();
    println!("the crossing in guest instructions (-icount shift=0), by phase:");
    phases();
}

fn row(name: &str, value: &str) {
    println!("{name:<34} {value:>14}");
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}

fn cold_boot(setup: &Setup) -> Duration {
    let mut guest = setup.start();
    guest.expect_prompt();
    guest.started().elapsed()
}

/// Wall-clock time of loading and of going.
fn kexec(setup: &Setup) -> (Duration, Duration) {
    let mut guest = setup.boot();
    let start = Instant::now();
    guest.run("kexec -l");
    let load = start.elapsed();
    let start = Instant::now();
    guest.run("kexec -e");
    (load, start.elapsed())
}

/// With `-icount shift=0` an instruction takes a virtual nanosecond, and the trace's clock counts them, to
/// the microsecond that its text shows.
fn phases() {
    let mut guest = Setup::new().variants().icount().boot();
    guest.run("kexec -l");
    guest.run("kexec -e");
    let text = guest.ok("grep kexec_phase /sys/kernel/tracing/trace");
    let phases = tracefile::parse(&text);
    let of_the_crossing: Vec<_> = phases
        .iter()
        // The command that asks for them stands in the trace, too.
        .filter(|entry| entry.event == "kexec_phase")
        .skip_while(|entry| !entry.text.contains("freeze"))
        .collect();
    let (Some(first), Some(last)) = (of_the_crossing.first(), of_the_crossing.last()) else {
        guest.fail("the trace has no phases of a kexec");
    };
    for pair in of_the_crossing.windows(2) {
        row(
            &format!("  {}", pair[0].text),
            &instructions(pair[1].micros - pair[0].micros),
        );
    }
    row(
        "  freeze to the prompt",
        &instructions(last.micros - first.micros),
    );
}

fn instructions(micros: u64) -> String {
    format!("{}.{:03} M", micros / 1000, micros % 1000)
}
