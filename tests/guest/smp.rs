//! All CPUs: each boots, ticks, records, and comes back after a kexec.

use boot::Ended;
use tests::{Guest, Setup};

/// The CPUs that the guest says are online, as Linux writes it.
fn online(guest: &mut Guest) -> String {
    guest
        .ok("cat /sys/devices/system/cpu/online")
        .trim()
        .to_owned()
}

/// The counts of a row of `/proc/interrupts`, a CPU each.
fn counts(guest: &mut Guest, row: &str) -> Vec<u64> {
    let text = guest.ok("cat /proc/interrupts");
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(row)?.strip_prefix(':'));
    let Some(line) = line else {
        guest.fail(&format!("/proc/interrupts has no row {row}"));
    };
    line.split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

/// Waits until each CPU's timer has ticked since now. A CPU that has nothing to do has no ticks, so they are given work.
fn all_tick(guest: &mut Guest, cpus: usize) {
    let before = counts(guest, "LOC");
    assert_eq!(before.len(), cpus, "a column for each CPU: {before:?}");
    let limit = std::time::Instant::now() + tests::guard();
    loop {
        guest.ok(&format!("stress --cpu {cpus} --time 1"));
        let now = counts(guest, "LOC");
        if now.iter().zip(&before).all(|(now, before)| now > before) {
            return;
        }
        if std::time::Instant::now() > limit {
            guest.fail(&format!(
                "some timer stands still: {before:?}, then {now:?}"
            ));
        }
    }
}

/// Each of `cpus` CPUs is up and ticks.
fn all_are_up(guest: &mut Guest, cpus: usize) {
    let expected = match cpus {
        1 => "0".to_owned(),
        _ => format!("0-{}", cpus - 1),
    };
    let online = online(guest);
    if online != expected {
        guest.fail(&format!("{expected} should be online, and {online} is"));
    }
    let info = guest.ok("cat /proc/cpuinfo");
    assert_eq!(info.matches("processor\t:").count(), cpus, "{info}");
    all_tick(guest, cpus);
}

#[test]
fn each_number_of_cpus_comes_up() {
    for cpus in [1, 2, 4, 8] {
        let mut guest = Setup::new().smp(cpus).boot();
        all_are_up(&mut guest, cpus as usize);
        others_are_interrupted(&mut guest, cpus as usize);
        guest.poweroff();
    }
}

/// Waits until other CPUs were asked for something of each kind: tasks that end leave stacks, which are unmapped everywhere.
fn others_are_interrupted(guest: &mut Guest, cpus: usize) {
    let limit = std::time::Instant::now() + tests::guard();
    for row in ["RES", "CAL", "TLB"] {
        while counts(guest, row).iter().sum::<u64>() == 0 && cpus > 1 {
            guest.ok("stress --switch 8 --time 0.1");
            if std::time::Instant::now() > limit {
                guest.fail(&format!("nobody is asked for {row}"));
            }
        }
        assert_eq!(counts(guest, row).len(), cpus, "{row}");
    }
}

#[test]
fn more_cpus_than_there_is_room_for_stay_parked() {
    let mut guest = Setup::new().smp(10).boot();
    let said = "this machine has 10 CPUs, and this kernel has room for 8";
    assert_eq!(guest.first_output().matches(said).count(), 1);
    all_are_up(&mut guest, 8);
    guest.kexec_to(1);
    all_are_up(&mut guest, 8);
    guest.poweroff();
}

#[test]
fn uefi_starts_all_cpus() {
    let mut guest = Setup::new().uefi().smp(4).boot();
    all_are_up(&mut guest, 4);
    guest.kexec_to(1);
    all_are_up(&mut guest, 4);
    guest.poweroff();
}

/// The kernel's page tables lie above 4 GiB there, where a starting CPU cannot be told to look for them.
#[test]
fn with_memory_above_4_gib() {
    let mut guest = Setup::new().smp(3).mem(8192).boot();
    all_are_up(&mut guest, 3);
    guest.kexec_to(1);
    all_are_up(&mut guest, 3);
    guest.poweroff();
}

/// The times of a trace's lines, in order.
fn times(text: &str) -> Vec<f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            line.split_whitespace()
                .find_map(|word| word.strip_suffix(':')?.parse().ok())
        })
        .collect()
}

#[test]
fn each_cpu_records_its_ticks_in_order() {
    let setup = Setup::new().smp(4).append(
        "trace_event=irq_vectors:local_timer_entry,irq_vectors:local_timer_exit,power:cpu_idle",
    );
    let mut guest = setup.boot();
    guest.ok("cd /sys/kernel/tracing");
    for life in 0..2 {
        if life == 1 {
            guest.kexec_to(1);
            guest.ok("cd /sys/kernel/tracing");
        }
        all_tick(&mut guest, 4);
        for cpu in 0..4 {
            let text = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
            assert!(text.contains("#P:4"), "{text}");
            let own = format!("[{cpu:03}]");
            let events: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert!(events.iter().all(|line| line.contains(&own)), "{text}");
            let times = times(&text);
            assert_eq!(times.len(), events.len(), "{text}");
            assert!(times.len() > 1 && times.is_sorted(), "{text}");
            // Entries and exits take turns; the first may have been overwritten.
            let ticks: Vec<_> = events
                .iter()
                .filter_map(|line| {
                    ["local_timer_entry: vector=", "local_timer_exit: vector="]
                        .iter()
                        .position(|name| line.contains(name))
                })
                .collect();
            assert!(ticks.len() > 1, "{text}");
            assert!(ticks.windows(2).all(|pair| pair[0] != pair[1]), "{text}");
        }
    }
    guest.poweroff();
}

/// When all CPUs have been started, the pages of their start are unmapped, and each CPU has to forget them.
#[test]
fn translations_are_forgotten_on_all_cpus() {
    let setup = Setup::new().smp(4).append(
        "trace_event=tlb:tlb_flush,irq_vectors:call_function_entry,irq_vectors:call_function_exit",
    );
    let mut guest = setup.boot();
    for cpu in 0..4 {
        let text = guest.ok(&format!("cat /sys/kernel/tracing/per_cpu/cpu{cpu}/trace"));
        let names = [
            ": call_function_entry: ",
            ": tlb_flush: pages:5 ",
            ": call_function_exit: ",
        ];
        let found: Vec<_> = text
            .lines()
            .filter_map(|line| {
                let at = names.iter().find_map(|name| line.find(name))?;
                Some(&line[at + 2..])
            })
            .collect();
        let expected: &[&str] = match cpu {
            0 => &[
                "tlb_flush: pages:5 reason:local shootdown (2)",
                "tlb_flush: pages:5 reason:remote IPI send (4)",
            ],
            _ => &[
                "call_function_entry: vector=252",
                "tlb_flush: pages:5 reason:remote shootdown (1)",
                "call_function_exit: vector=252",
            ],
        };
        // What comes after the start is of other pages.
        assert!(found.starts_with(expected), "{text}");
    }
    guest.poweroff();
}

#[test]
fn ten_kexecs_with_four_cpus() {
    let mut guest = Setup::new()
        .smp(4)
        .append("trace_event=baton:*,irq_vectors:*")
        .boot();
    for generation in 1..=10 {
        guest.kexec_to(generation);
        all_are_up(&mut guest, 4);
        let log = guest.ok("dmesg | grep smp:");
        assert_eq!(
            log.matches("its TSC is taken to be in step with CPU 0's, as it was found")
                .count(),
            3,
            "what was measured is not measured again: {log}"
        );
    }
    guest.ok("cd /sys/kernel/tracing");
    guest.ok("echo 0 > tracing_on");
    for cpu in 0..4 {
        let text = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
        assert!(times(&text).is_sorted(), "{text}");
        let first = text.lines().find(|line| line.contains("local_timer"));
        assert!(first.is_some(), "{text}");
    }
    guest.poweroff();
}

/// The buffers of CPUs that the next life does not run stay readable, and are written on in a later one.
#[test]
fn fewer_cpus_and_then_more() {
    let setup = Setup::new()
        .smp(4)
        .append("trace_event=irq_vectors:local_timer_entry");
    let mut guest = setup.boot();
    all_tick(&mut guest, 4);
    guest.ok("kexec -l --append 'maxcpus=2'");
    let output = guest.run("kexec -e");
    assert!(output.contains("generation 1 (kexec)"), "{output}");
    all_are_up(&mut guest, 2);
    guest.ok("cd /sys/kernel/tracing");
    let ticks = |text: &str| text.matches("local_timer_entry").count();
    let mut kept = Vec::new();
    for cpu in 2..4 {
        let text = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
        assert!(ticks(&text) > 0, "CPU {cpu}'s buffer is gone: {text}");
        let again = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
        assert_eq!(ticks(&text), ticks(&again), "nobody writes to it");
        kept.push(ticks(&text));
    }
    guest.ok("kexec -l --append 'loglevel=5'");
    let output = guest.run("kexec -e");
    assert!(output.contains("generation 2 (kexec)"), "{output}");
    all_are_up(&mut guest, 4);
    guest.ok("cd /sys/kernel/tracing");
    for cpu in 2..4 {
        let text = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
        assert!(ticks(&text) > kept[cpu - 2], "CPU {cpu} goes on: {text}");
        assert!(times(&text).is_sorted(), "{text}");
    }
    guest.poweroff();
}

#[test]
fn a_panic_on_one_of_four_stops_the_others() {
    let mut guest = Setup::new().smp(4).boot();
    guest.send("panic on purpose\r");
    let output = guest.expect_end(Ended::Panicked);
    assert_eq!(output.matches("KERNEL PANIC").count(), 1, "{output}");
    assert!(output.contains("generation 0, CPU "), "{output}");
}

/// The console's CPU waits with interrupts off for the one that panics: only an NMI gets through to it. The report follows no frame
/// pointer of a program's.
#[test]
fn a_panic_on_another_cpu_is_reported_from_there() {
    let mut guest = Setup::new().smp(4).boot();
    assert!(guest.refused("panic --cpu 4 there").contains("no CPU"));
    // Programs on all CPUs, whose frame pointers lead to what they have made up. Slots go on behind the eight idle tasks' ones.
    let tasks = guest.ok("ps").lines().count() - 1;
    for slot in 8 + tasks..8 + tasks + 4 {
        guest.ok(&format!("run misbehave frame-pointer {slot} &"));
    }
    let text = guest.ok("ps");
    let programs = text.lines().filter(|line| line.ends_with(" misbehave"));
    let cpu = |line: &str| line.split_whitespace().nth(2).map(str::to_owned);
    let console = text.lines().find(|line| line.ends_with(" console"));
    let other = programs
        .filter_map(cpu)
        .find(|other| Some(other) != console.and_then(cpu).as_ref())
        .unwrap_or_else(|| guest.fail("no program runs on another CPU than the console"));
    guest.send(format!("panic --cpu {other} over there\r"));
    let output = guest.expect_end(Ended::Panicked);
    assert_eq!(output.matches("KERNEL PANIC").count(), 1, "{output}");
    assert!(output.contains("KERNEL PANIC: over there"), "{output}");
    assert!(
        output.contains(&format!("generation 0, CPU {other}")),
        "{output}"
    );
    // The backtrace ends where the kernel was entered.
    assert!(!output.contains("0badc0de"), "{output}");
}

/// A kernel that starts cold after a kexec knows from the boot parameters where CPUs start.
#[test]
fn all_cpus_come_up_after_a_refused_handover() {
    let mut guest = Setup::new().smp(4).boot();
    guest.ok("echo flip 40 > /sys/kernel/debug/kho/out/damage");
    let output = guest.kexec();
    assert!(output.contains("generation 0 (cold)"), "{output}");
    all_are_up(&mut guest, 4);
    guest.kexec_to(1);
    all_are_up(&mut guest, 4);
    guest.poweroff();
}

/// Buffers change their size while their CPUs record; each other CPU is asked for a barrier by NMI.
#[test]
fn buffers_are_resized_while_all_cpus_record() {
    let setup = Setup::new()
        .smp(4)
        .append("trace_event=irq_vectors:local_timer_entry,power:cpu_idle");
    let mut guest = setup.boot();
    guest.ok("cd /sys/kernel/tracing");
    let before = counts(&mut guest, "NMI");
    for size in [64, 1408, 16, 512] {
        guest.ok(&format!("echo {size} > buffer_size_kb"));
        all_tick(&mut guest, 4);
    }
    let after = counts(&mut guest, "NMI");
    // Each time three others are asked.
    let asked = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    assert!(asked >= 4 * 3, "{before:?}, {after:?}");
    guest.ok("echo 0 > tracing_on");
    for cpu in 0..4 {
        let text = guest.ok(&format!("cat per_cpu/cpu{cpu}/trace"));
        assert!(text.contains("local_timer_entry"), "{text}");
        assert!(times(&text).is_sorted(), "{text}");
    }
    guest.poweroff();
}
