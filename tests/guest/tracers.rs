//! The tracers next to `nop`: what they find, and that nothing of it is lost over a kexec.

use tests::{Guest, Setup};

const TRACING: &str = "/sys/kernel/tracing";

fn read(guest: &mut Guest, file: &str) -> String {
    guest.ok(&format!("cat {TRACING}/{file}"))
}

fn write(guest: &mut Guest, text: &str, file: &str) {
    guest.ok(&format!("echo {text} > {TRACING}/{file}"));
}

/// A number of microseconds.
fn micros(guest: &mut Guest, file: &str) -> u64 {
    let text = read(guest, file);
    let number = text.trim().parse();
    number.unwrap_or_else(|_| panic!("{file}: {text}"))
}

/// The latency in the head of a trace.
fn latency(trace: &str) -> u64 {
    let number = trace
        .split_once("# latency: ")
        .and_then(|(_, rest)| rest.split_once(" us, #"))
        .and_then(|(number, _)| number.parse().ok());
    number.unwrap_or_else(|| panic!("no latency in the head:\n{trace}"))
}

/// The place in the head of a trace.
fn place<'t>(trace: &'t str, what: &str) -> &'t str {
    let line = trace.lines().find_map(|line| line.split_once(what));
    line.map(|(_, place)| place.trim())
        .unwrap_or_else(|| panic!("no {what:?} in the head:\n{trace}"))
}

/// Keeps interrupts off for so long, and has `irqsoff` keep that: whatever was kept before, only what takes as long counts.
fn hold(guest: &mut Guest, us: u64) -> String {
    write(guest, &(us - 1).to_string(), "tracing_max_latency");
    guest.ok(&format!("hold-interrupts {us}"));
    let trace = read(guest, "trace");
    assert!(latency(&trace) >= us, "{trace}");
    assert!(micros(guest, "tracing_max_latency") >= us, "{trace}");
    trace
}

/// Longer than anything takes, in microseconds.
const NEVER: &str = "3000000000";

#[test]
fn irqsoff_finds_where_interrupts_are_kept_off() {
    let mut guest = Setup::new().smp(2).boot();
    write(&mut guest, "1", "events/irq_vectors/enable");
    write(&mut guest, "irqsoff", "current_tracer");
    assert_eq!(read(&mut guest, "current_tracer"), "irqsoff\n");
    // Far longer than anything else takes.
    let trace = hold(&mut guest, 400_000);
    // The ticks that wait come when it has ended: in its trace is none of them.
    assert!(!trace.contains("local_timer_entry"), "{trace}");
    assert!(trace.starts_with("# tracer: irqsoff\n#\n# irqsoff latency trace v1.1.5 on "));
    assert!(trace.contains("#P:2)"), "{trace}");
    assert!(trace.contains("    | task: console-1 (uid:0 nice:-10 policy:0 rt_prio:0)"));
    for what in ["=> started at: ", "=> ended at: "] {
        let place = place(&trace, what);
        assert!(place.contains("hold"), "{place}\n{trace}");
    }
    // The trace is that of the section: from its begin to its end, and who was there.
    let lines: Vec<&str> = trace
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert!(lines[0].contains(" 0us"), "{trace}");
    assert!(
        lines[0].contains("hold") && lines[0].contains(" <-"),
        "{trace}"
    );
    assert!(
        lines.iter().any(|line| line.contains("<stack trace>")),
        "{trace}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.trim().starts_with("=> ") && line.contains("hold")),
        "{trace}"
    );
    guest.refused("hold-interrupts 0");
    guest.refused("hold-interrupts 500001");
    guest.refused("hold-interrupts");
    // A shorter one does not take its place, unless the threshold says so.
    write(&mut guest, NEVER, "tracing_max_latency");
    guest.ok("hold-interrupts 100000");
    assert_eq!(read(&mut guest, "tracing_max_latency").trim(), NEVER);
    assert_eq!(latency(&read(&mut guest, "trace")), latency(&trace));
    write(&mut guest, "100000", "tracing_thresh");
    guest.ok("hold-interrupts 100000");
    let now = micros(&mut guest, "tracing_max_latency");
    assert!(now >= 100_000 && now.to_string() != NEVER, "{now}");
    guest.poweroff();
}

#[test]
fn wakeup_finds_how_long_a_task_waits_for_its_cpu() {
    let mut guest = Setup::new().smp(2).boot();
    write(&mut guest, "1", "events/sched/enable");
    write(&mut guest, "wakeup", "current_tracer");
    // All CPUs have work, and some tasks wake up. Not thousands in a millisecond: where the host keeps one of the guest's CPUs from running
    // for a while, what the other one records meanwhile must not overwrite the latency's begin.
    guest.ok("stress --cpu 4 --time 600 &");
    for _ in 0..5 {
        guest.ok("sleep 0.1");
    }
    // Nothing new comes from here on.
    write(&mut guest, "0", "tracing_on");
    let head = guest.ok(&format!("head -n 19 {TRACING}/trace"));
    assert!(head.starts_with("# tracer: wakeup\n#\n# wakeup latency trace v1.1.5 on "));
    assert_ne!(latency(&head), 0, "{head}");
    let (name, pid) = place(&head, "    | task: ")
        .split_once(" (uid")
        .and_then(|(task, _)| task.rsplit_once('-'))
        .unwrap_or_else(|| panic!("{head}"));
    // The task that is named is woken up, and then a CPU goes over to it. (Another CPU's lines may stand before the first of these, and
    // behind the last, as long as the trace is not kept yet.)
    let mut events = |pattern: &str| {
        guest
            .ok(&format!("grep -c '{pattern}' {TRACING}/trace"))
            .trim()
            .to_owned()
    };
    assert_ne!(
        events(&format!("sched_wakeup.*: comm={name} pid={pid} ")),
        "0"
    );
    for pattern in [
        "expect_switch <-",
        &format!(" ==> next_comm={name} next_pid={pid} "),
        "switch_task <-",
    ] {
        assert_ne!(events(pattern), "0", "{pattern}");
    }
    guest.poweroff();
}

#[test]
fn tracers_change_while_events_are_recorded() {
    let mut guest = Setup::new().smp(4).boot();
    write(&mut guest, "1", "events/enable");
    // Its samples are not what is tried here.
    write(&mut guest, "1000", "hwlat_detector/width");
    guest.ok("stress --switch 4 --syscall 2 --alloc 2 --time 600 &");
    let tracers = [
        "irqsoff", "wakeup", "nop", "hwlat", "wakeup", "irqsoff", "hwlat", "nop",
    ];
    for tracer in tracers.repeat(2) {
        write(&mut guest, tracer, "current_tracer");
        assert_eq!(read(&mut guest, "current_tracer").trim(), tracer);
        guest.ok("sleep 0.1");
        if ["irqsoff", "wakeup"].contains(&tracer) {
            let why = guest.refused(&format!("echo 1 > {TRACING}/snapshot"));
            assert!(why.contains("(EBUSY)"), "{why}");
            assert_ne!(micros(&mut guest, "tracing_max_latency"), 0, "{tracer}");
        }
        for bad in ["function", "irqsof", "osnoise", "irqsoff1"] {
            let why = guest.refused(&format!("echo {bad} > {TRACING}/current_tracer"));
            assert!(why.contains("(EINVAL)"), "{why}");
        }
    }
    let text = guest.ok(&format!("head -n 1 {TRACING}/trace"));
    assert_eq!(text, "# tracer: nop\n");
    write(&mut guest, "1", "snapshot");
    guest.poweroff();
}

#[test]
fn a_tracer_and_its_longest_latency_cross_a_kexec() {
    let mut guest = Setup::new().smp(2).boot();
    write(&mut guest, "irqsoff", "current_tracer");
    let kept = hold(&mut guest, 400_000);
    write(&mut guest, NEVER, "tracing_thresh");
    for generation in 1..=2 {
        let max = read(&mut guest, "tracing_max_latency");
        guest.kexec_to(generation);
        assert_eq!(read(&mut guest, "current_tracer"), "irqsoff\n");
        assert_eq!(read(&mut guest, "tracing_thresh").trim(), NEVER);
        assert_eq!(read(&mut guest, "tracing_max_latency"), max);
        let trace = read(&mut guest, "trace");
        assert_eq!(latency(&trace), latency(&kept), "{trace}");
        for what in ["=> started at: ", "=> ended at: ", "    | task: "] {
            assert_eq!(place(&trace, what), place(&kept, what), "{trace}");
        }
        // It is the same build, whose functions have their names.
        let callers = |trace: &str| {
            let lines = trace.lines().filter(|line| line.starts_with(" => "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(callers(&trace), callers(&kept), "{trace}");
        assert!(callers(&kept).iter().any(|line| !line.contains("0x")));
    }
    // It goes on.
    write(&mut guest, "0", "tracing_thresh");
    hold(&mut guest, 400_000);
    // As does the other one, under load.
    write(&mut guest, "wakeup", "current_tracer");
    guest.ok("stress --switch 2 --time 30 &");
    guest.ok("sleep 0.5");
    guest.kexec_to(3);
    assert_eq!(read(&mut guest, "current_tracer"), "wakeup\n");
    let head = guest.ok(&format!("head -n 19 {TRACING}/trace"));
    assert_ne!(latency(&head), 0, "{head}");
    guest.poweroff();
}

/// Waits until `hwlat` has found something on each CPU since the line `from`; the numbers of its samples.
fn found_on_both(guest: &mut Guest, from: &str) -> Vec<u64> {
    loop {
        let trace = read(guest, "trace");
        let new = trace.split_once(from).map_or("", |(_, new)| new);
        let lines: Vec<&str> = (new
            .lines()
            .filter(|line| line.contains(" inner/outer(us): ")))
        .collect();
        if ["[000] d", "[001] d"]
            .iter()
            .all(|cpu| lines.iter().any(|line| line.contains(cpu)))
        {
            return (lines.iter())
                .filter_map(|line| tests::number_after(line, ": #"))
                .collect();
        }
    }
}

/// Under software emulation the host takes time from a CPU all along. With none in its way, a sample of this length finds some.
#[test]
fn hwlat_finds_time_that_the_host_takes_on_each_cpu_in_each_life() {
    let mut guest = Setup::new().smp(2).boot();
    write(&mut guest, "10000", "hwlat_detector/width");
    write(&mut guest, "100000", "hwlat_detector/window");
    write(&mut guest, "1", "tracing_thresh");
    write(&mut guest, "hwlat", "current_tracer");
    let threads = |guest: &mut Guest| {
        let text = guest.ok("ps");
        let mut names: Vec<String> = (text.split_whitespace())
            .filter(|word| word.starts_with("hwlatd"))
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    };
    assert_eq!(threads(&mut guest), ["hwlatd"]);
    found_on_both(&mut guest, "#");
    assert!(micros(&mut guest, "tracing_max_latency") > 1);
    write(&mut guest, "per-cpu", "hwlat_detector/mode");
    // The thread of before ends when it looks next.
    while threads(&mut guest) != ["hwlatd/0", "hwlatd/1"] {}
    let before = found_on_both(&mut guest, "#");
    guest.kexec_to(1);
    assert_eq!(
        read(&mut guest, "hwlat_detector/mode"),
        "none round-robin [per-cpu]\n"
    );
    assert_eq!(read(&mut guest, "hwlat_detector/width"), "10000\n");
    assert_eq!(read(&mut guest, "tracing_thresh"), "1\n");
    assert_eq!(threads(&mut guest), ["hwlatd/0", "hwlatd/1"]);
    let after = found_on_both(&mut guest, "generation 1 (kexec) starts here");
    assert!(after[0] > before[0], "{before:?} {after:?}");
    // With nothing recorded there are no samples; without the tracer no threads.
    write(&mut guest, "0", "tracing_on");
    write(&mut guest, "nop", "current_tracer");
    while !threads(&mut guest).is_empty() {}
    assert_eq!(read(&mut guest, "tracing_thresh"), "1\n");
    guest.poweroff();
}
