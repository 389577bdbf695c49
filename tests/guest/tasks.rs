//! Tasks: on which CPUs they run, preemption, sleep, faults, what the trace says of them, and kexecs under load.

use std::collections::HashMap;

use tests::{Guest, Setup};

const TRACING: &str = "/sys/kernel/tracing";

/// A line of `trace`.
struct Event {
    /// `comm-pid`, as it stands there.
    task: String,
    cpu: usize,
    /// Microseconds.
    time: u64,
    name: String,
    text: String,
}

impl Event {
    /// `     comm-12      [003] d..1.     6.123456: name: text`; `None` for anything else.
    fn parse(line: &str) -> Option<Event> {
        let (head, rest) = line.split_once(" [")?;
        let (cpu, rest) = rest.split_once("] ")?;
        let (_flags, rest) = rest.split_once(' ')?;
        let (time, rest) = rest.trim_start().split_once(": ")?;
        let (name, text) = rest.split_once(": ")?;
        let (seconds, micros) = time.split_once('.')?;
        Some(Event {
            task: head.trim().to_owned(),
            cpu: cpu.parse().ok()?,
            time: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The value of `name=` in its text.
    fn field(&self, name: &str) -> &str {
        let start = self
            .text
            .split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        start.unwrap_or_else(|| panic!("no {name} in {:?}", self.text))
    }
}

/// Stops tracing and takes the trace, which must be complete from its first event on.
fn take_trace(guest: &mut Guest) -> Vec<Event> {
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    let text = guest.ok(&format!("cat {TRACING}/trace"));
    if text.contains("LOST") {
        guest.fail("events were lost");
    }
    let events: Vec<Event> = text.lines().filter_map(Event::parse).collect();
    if events.is_empty() {
        guest.fail("there is nothing in the trace");
    }
    events
}

fn trace_events(guest: &mut Guest, events: &[&str]) {
    for event in events {
        guest.ok(&format!("echo 1 > {TRACING}/events/{event}/enable"));
    }
}

/// On each CPU, time does not go back, who is switched from is who was switched to (also over a kexec), and it is the task that
/// records the switch. Returns the number of switches of each CPU.
fn check_chain(guest: &mut Guest, events: &[Event]) -> HashMap<usize, usize> {
    let mut running: HashMap<usize, (String, String)> = HashMap::new();
    let mut times: HashMap<usize, u64> = HashMap::new();
    let mut switches = HashMap::new();
    for event in events {
        let time = times.entry(event.cpu).or_default();
        if event.time < *time {
            guest.fail(&format!(
                "time goes back on CPU {}: {}",
                event.cpu, event.text
            ));
        }
        *time = event.time;
        if event.name != "sched_switch" {
            continue;
        }
        let side = |side: &str| {
            let comm = event.field(&format!("{side}_comm")).to_owned();
            (comm, event.field(&format!("{side}_pid")).to_owned())
        };
        let (prev, next) = (side("prev"), side("next"));
        if let Some(before) = running.insert(event.cpu, next.clone())
            && before != prev
        {
            guest.fail(&format!(
                "CPU {} went to {before:?}, and then leaves {prev:?}: {}",
                event.cpu, event.text
            ));
        }
        if event.task.rsplit_once('-').map(|(_, pid)| pid) != Some(prev.1.as_str()) {
            guest.fail(&format!("{} records the switch of {prev:?}", event.task));
        }
        if prev == next {
            guest.fail(&format!("a switch to the same task: {}", event.text));
        }
        *switches.entry(event.cpu).or_default() += 1;
    }
    switches
}

/// The pid in `[PID]`, with which a background job answers.
fn job(guest: &mut Guest, command: &str) -> String {
    let output = guest.ok(command);
    let pid = output
        .trim()
        .strip_prefix('[')
        .and_then(|p| p.strip_suffix("] stress"));
    match pid {
        Some(pid) => pid.to_owned(),
        None => guest.fail(&format!("{command:?} should answer with a pid")),
    }
}

#[test]
fn tasks_run_on_all_cpus() {
    let mut guest = Setup::new().smp(4).boot();
    let list = guest.ok("ps -a");
    let row = |name: &str| {
        let row = list
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        row.map(|row| {
            row.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    for cpu in 0..4 {
        // PID PPID CPU PRI STAT TIME COMMAND; an idle task and a worker for each CPU.
        let idle = row(&format!("swapper/{cpu}")).unwrap_or_default();
        let worker = row(&format!("kworker/{cpu}:0")).unwrap_or_default();
        if idle.len() != 7 || idle[0] != "0" || idle[2] != cpu.to_string() {
            guest.fail(&format!("the idle task of CPU {cpu}: {idle:?}"));
        }
        if worker.len() != 7 || worker[2] != cpu.to_string() {
            guest.fail(&format!("the worker of CPU {cpu}: {worker:?}"));
        }
    }
    if row("console").is_none_or(|row| row[0] != "1" || row[4] != "R") {
        guest.fail("the console is task 1 and runs `ps`");
    }
    // A CPU whose tick has stopped is idle all the same.
    let top = guest.ok("top -n 1");
    for cpu in 0..4 {
        let start = format!("cpu{cpu}: ");
        let row = top.lines().find_map(|line| line.strip_prefix(&start));
        if row.is_none_or(|row| row == "0.0% idle") {
            guest.fail(&format!("CPU {cpu} had nothing to do: {row:?}"));
        }
    }
    // Keys that mean nothing to it do not hide those that do.
    for end in ["xyq", "x\x04", "\x1c"] {
        guest.send("top\r");
        guest.expect("%CPU ");
        guest.send(end);
        guest.expect_prompt();
        assert_eq!(guest.status(), 0);
    }
    assert!(guest.refused("top -n 0").contains("from 1 on"));
    assert!(guest.refused("top x").contains("x: one argument too many"));
    trace_events(&mut guest, &["sched/sched_switch"]);
    let output = guest.ok("stress --cpu 4 --time 1");
    assert!(output.starts_with("stress: cpu: 4 workers, "), "{output}");
    let events = take_trace(&mut guest);
    for cpu in 0..4 {
        let runs = |e: &Event| e.cpu == cpu && e.field("next_comm") == "stress-cpu";
        let has_run = events.iter().any(|e| e.name == "sched_switch" && runs(e));
        if !has_run {
            guest.fail(&format!("none of four busy tasks has run on CPU {cpu}"));
        }
    }
    let stat = guest.ok("cat /proc/stat");
    for name in [
        "cpu  ",
        "cpu0 ",
        "cpu3 ",
        "ctxt ",
        "processes ",
        "procs_running ",
        "softirq ",
    ] {
        assert!(
            stat.lines().any(|line| line.starts_with(name)),
            "{name:?} in {stat}"
        );
    }
    // Where CPUs are busy ticks come, and take time.
    let irq_time = |stat: &str| -> Option<u64> {
        let all = stat.lines().find(|line| line.starts_with("cpu "))?;
        all.split_whitespace().nth(6)?.parse().ok()
    };
    let mut rounds = 0;
    while irq_time(&guest.ok("cat /proc/stat")) == Some(0) && rounds < 100 {
        guest.ok("stress --cpu 4 --time 1");
        rounds += 1;
    }
    let stat = guest.ok("cat /proc/stat");
    if irq_time(&stat).is_none_or(|ticks| ticks == 0) {
        guest.fail("interrupts have taken no time");
    }
    // A rest counts as it goes on: the CPUs that nothing wakes meanwhile have been idle for all of it.
    let idle = |stat: &str| -> Vec<u64> {
        let cpus = stat.lines().filter(|line| line.starts_with("cpu"));
        let column = cpus.filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
        column.skip(1).collect()
    };
    guest.ok("sleep 1");
    let before = idle(&guest.ok("cat /proc/stat"));
    guest.ok("sleep 1");
    let after = idle(&guest.ok("cat /proc/stat"));
    // /proc/uptime has the sum of it, in seconds: by then, and not more than after it.
    let uptime = guest.ok("cat /proc/uptime");
    let together = uptime
        .trim_end()
        .split_once(' ')
        .and_then(|(_, idle)| idle.parse::<f64>().ok());
    let together = together.map_or(0, |seconds| (seconds * 100.0).round() as u64);
    let least = after.iter().sum::<u64>();
    let most = idle(&guest.ok("cat /proc/stat")).iter().sum::<u64>();
    assert!(
        (least..=most).contains(&together),
        "{uptime}: {least} to {most} ticks"
    );
    let grown = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| **after >= **before + 90);
    if before.len() != 4 || grown.count() < 2 {
        guest.fail(&format!("idle were {before:?}, and then {after:?}"));
    }
    let status = guest.ok("cat /proc/1/status");
    for line in [
        "Name:\tconsole",
        "State:\tR (running)",
        "Pid:\t1",
        "Kthread:\t1",
    ] {
        assert!(status.lines().any(|l| l == line), "{line:?} in {status}");
    }
    guest.ok("ls /proc/1");
    guest.refused("cat /proc/4711/status");
    guest.poweroff();
}

#[test]
fn busy_tasks_are_preempted() {
    let mut guest = Setup::new().smp(1).boot();
    trace_events(&mut guest, &["sched/sched_switch"]);
    let pid = job(&mut guest, "stress --cpu 2 &");
    // The console answers, and sleeps, and is woken, while two tasks never give the only CPU up.
    for _ in 0..3 {
        assert_eq!(guest.ok("echo alive"), "alive\n");
        guest.ok("sleep 0.2");
    }
    let list = guest.ok("ps");
    assert_eq!(list.matches(" stress-cpu\n").count(), 2, "{list}");
    guest.ok(&format!("kill {pid}"));
    // It ends when its workers have, and says so wherever the console is then.
    while guest.ok("ps").contains("stress") {}
    if !guest.transcript().contains("stress: cpu: 2 workers, ") {
        guest.fail("the job should have told what it did");
    }
    let events = take_trace(&mut guest);
    check_chain(&mut guest, &events);
    // They take turns, and each was made to.
    let turns = events.iter().filter(|e| {
        e.name == "sched_switch"
            && e.field("prev_comm") == "stress-cpu"
            && e.field("prev_state") == "R+"
            && e.field("next_comm") == "stress-cpu"
    });
    if turns.count() < 2 {
        guest.fail("two busy tasks should take turns");
    }
    guest.poweroff();
}

/// An idle CPU that records an event on its way out of the halt gives itself away only when it has its ticks again: who came by
/// then would never be preempted.
#[test]
fn busy_tasks_are_preempted_with_all_events_on() {
    let mut guest = Setup::new().smp(2).boot();
    guest.ok(&format!("echo 1 > {TRACING}/events/enable"));
    // It runs to the end: what it says when it is killed would stand between what is typed.
    job(&mut guest, "stress --cpu 2 &");
    for _ in 0..9 {
        let output = guest.ok("run hello");
        if !output.contains("hello, world") {
            guest.fail("a program should run beside it");
        }
    }
    guest.poweroff();
}

#[test]
fn switches_chain_and_wakeups_have_their_cause() {
    let mut guest = Setup::new().smp(4).boot();
    guest.ok(&format!("echo 128 > {TRACING}/buffer_size_kb"));
    let systems = ["sched", "timer", "workqueue", "lock", "irq"];
    trace_events(&mut guest, &systems);
    guest.ok("stress --cpu 2 --switch 2 --alloc 4 --time 0.3");
    // The begin of that may be overwritten by its end.
    guest.ok("stress --cpu 1 --time 0.01");
    guest.ok("sleep 0.05");
    let events = take_trace(&mut guest);
    let switches = check_chain(&mut guest, &events);
    assert_eq!(switches.len(), 4, "all CPUs switch: {switches:?}");
    // Sleep: a timer is set, expires in the soft interrupt, and wakes the console.
    let expired: Vec<usize> = (0..events.len())
        .filter(|at| events[*at].name == "timer_expire_entry")
        .collect();
    let wakes = |at: &usize| {
        let cpu = events[*at].cpu;
        let mut next = events[at + 1..].iter().filter(|e| e.cpu == cpu);
        next.next()
            .is_some_and(|e| e.name == "sched_waking" && e.field("comm") == "console")
    };
    if !expired.iter().any(wakes) {
        guest.fail("no timer has woken the console from its sleep");
    }
    for cpu in 0..4 {
        let mut inside = None;
        for event in events.iter().filter(|e| e.cpu == cpu) {
            match event.name.as_str() {
                "softirq_entry" => inside = Some(event.text.clone()),
                "softirq_exit" => {
                    let entered = inside.take();
                    if entered.is_some_and(|text| text != event.text) {
                        guest.fail(&format!("the wrong soft interrupt ends: {}", event.text));
                    }
                }
                _ => {}
            }
        }
    }
    // In Linux, too, a timer that goes off is taken out of the wheel first, which is a cancelling.
    for cpu in 0..4 {
        let of_timers = events
            .iter()
            .filter(|e| e.cpu == cpu && e.name.starts_with("timer_"));
        let of_timers: Vec<&Event> = of_timers.collect();
        for pair in of_timers
            .windows(2)
            .filter(|pair| pair[1].name == "timer_expire_entry")
        {
            let same = pair[0].field("timer") == pair[1].field("timer");
            if pair[0].name != "timer_cancel" || !same {
                guest.fail(&format!("{} comes before {}", pair[0].text, pair[1].text));
            }
        }
    }
    for name in [
        "sched_wakeup",
        "sched_wakeup_new",
        "sched_process_exit",
        "timer_start",
        "timer_expire_exit",
        "softirq_raise",
        "tick_stop",
        "workqueue_execute_start",
    ] {
        if !events.iter().any(|e| e.name == name) {
            guest.fail(&format!("there is no {name} in the trace"));
        }
    }
    guest.poweroff();
}

#[test]
fn a_sleeping_task_leaves_the_cpu() {
    let mut guest = Setup::new().smp(1).boot();
    trace_events(&mut guest, &["sched/sched_switch"]);
    let seconds = |guest: &mut Guest| -> f64 {
        let text = guest.ok("cat /proc/uptime");
        text.split(' ')
            .next()
            .and_then(|s| s.parse().ok())
            .unwrap_or_default()
    };
    let before = seconds(&mut guest);
    guest.ok("sleep 0.3");
    let after = seconds(&mut guest);
    // /proc/uptime has hundredths.
    assert!(after - before >= 0.29, "slept from {before} to {after}");
    // Ctrl-c ends a sleep that would outlast every test.
    guest.send("sleep 100000\r");
    guest.expect("sleep 100000\r\n");
    guest.send("\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    let events = take_trace(&mut guest);
    let slept = |e: &Event| {
        e.name == "sched_switch"
            && e.field("prev_comm") == "console"
            && e.field("prev_state") == "S"
            && e.field("next_comm") == "swapper/0"
    };
    if !events.iter().any(slept) {
        guest.fail("the idle task runs while the console sleeps");
    }
    guest.poweroff();
}

#[test]
fn a_faulting_task_ends_alone() {
    let mut guest = Setup::new().smp(2).boot();
    trace_events(&mut guest, &["sched/sched_process_exit"]);
    for (fault, cause) in super::faults::FAULTS {
        let output = guest.ok(&format!("fault --task {fault}"));
        for part in [
            "(faulty) faulted: ",
            cause,
            "rip 0x",
            "backtrace:",
            "commands::fault",
            "the task ends, and the kernel goes on",
        ] {
            // A jump to data has no frame of the kernel's above it.
            if !output.contains(part) && (*fault, part) != ("exec", "commands::fault") {
                guest.fail(&format!("the report of {fault:?} does not have {part:?}"));
            }
        }
        assert_eq!(guest.ok("echo on"), "on\n");
    }
    let exits = take_trace(&mut guest);
    let faulty = exits
        .iter()
        .filter(|e| e.name == "sched_process_exit" && e.field("comm") == "faulty");
    assert_eq!(faulty.count(), super::faults::FAULTS.len());
    // The kernel's own tasks are not to be had.
    assert!(
        guest
            .refused("kill 1")
            .contains("the kernel needs this task")
    );
    assert!(guest.refused("kill 31999").contains("no such task"));
    for word in ["stress", "0", "1x", "99999999999"] {
        let said = guest.refused(&format!("kill {word}"));
        let why = format!("kill: {word}: a task's number is wanted, the PID that `ps` shows;");
        assert!(said.starts_with(&why), "{said}");
    }
    assert!(guest.refused("kill -9 1").contains("no signals"));
    guest.poweroff();
}

#[test]
fn stress_tells_what_it_did() {
    let mut guest = Setup::new().smp(2).boot();
    let output = guest.ok("stress --cpu 1 --switch 1 --alloc 2 --time 0.5");
    for (line, start) in output.lines().zip([
        "stress: cpu: 1 worker, ",
        "stress: switch: 1 pair, ",
        "stress: alloc: 2 workers, ",
    ]) {
        let count: Option<u64> = line
            .strip_prefix(start)
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        assert!(count.is_some_and(|count| count > 0), "{start:?}: {output}");
    }
    assert_eq!(output.lines().count(), 3, "{output}");
    guest.send("stress --switch 1\r");
    // Behind the end of the line a ctrl-c is for the command.
    guest.expect("stress --switch 1\r\n");
    guest.send("\x03");
    guest.expect("stress: switch: 1 pair, ");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    for wrong in [
        "stress --cpu 0",
        "stress --cpu",
        "stress --cpu many",
        "stress --cpu 257",
        "stress --disk 1",
    ] {
        guest.refused(wrong);
    }
    for time in [
        "soon",
        "0",
        "0.000",
        "1e3",
        "nan",
        "+1",
        "-1",
        ".",
        "1000000001",
    ] {
        let said = guest.refused(&format!("stress --time {time}"));
        let why =
            format!("stress: --time {time}: seconds are wanted, more than 0, such as 2 or 0.5;");
        assert!(said.starts_with(&why), "{said}");
    }
    assert!(
        guest
            .refused("echo a &")
            .contains("cannot run in the background")
    );
    guest.poweroff();
}

#[test]
fn the_cost_of_the_events_is_told() {
    let mut guest = Setup::new().smp(2).boot();
    let output = guest.ok("bench-switch 0.3");
    let numbers: Vec<f64> = output
        .lines()
        .zip(["sched events off: ", "sched events on: ", "ratio: "])
        .filter_map(|(line, start)| line.strip_prefix(start)?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(numbers.len(), 3, "{output}");
    assert!(numbers.iter().all(|n| *n > 0.0), "{output}");
    // The events are as before.
    assert_eq!(
        guest.ok(&format!("cat {TRACING}/events/sched/enable")),
        "0\n"
    );
    trace_events(&mut guest, &["sched/sched_switch"]);
    guest.refused("bench-switch 0.1");
    guest.refused("bench-switch soon");
    guest.poweroff();
}

#[test]
fn kexecs_under_load() {
    const CPUS: usize = 4;
    let mut guest = Setup::new().smp(CPUS as u32).boot();
    guest.ok(&format!("echo 256 > {TRACING}/buffer_size_kb"));
    trace_events(
        &mut guest,
        &["sched/sched_switch", "sched/sched_process_exit", "baton"],
    );
    for generation in 1..=3 {
        // No pairs that wake each other here: they would fill the buffers with their switches.
        job(&mut guest, "stress --cpu 6 --alloc 2 &");
        guest.kexec_to(generation);
        let list = guest.ok("ps");
        assert!(!list.contains("stress"), "{list}");
    }
    let events = take_trace(&mut guest);
    let switches = check_chain(&mut guest, &events);
    assert_eq!(switches.len(), CPUS, "all CPUs switch: {switches:?}");
    // In each of the three lives that ended: everybody's end, between `quiesce` and `jump`.
    let mut ended = Vec::new();
    let mut now: Option<Vec<&str>> = None;
    for event in &events {
        match event.name.as_str() {
            "kexec_phase" if event.field("phase") == "quiesce" => now = Some(Vec::new()),
            "kexec_phase" if event.field("phase") == "jump" => ended.extend(now.take()),
            "sched_process_exit" => {
                if let Some(now) = &mut now {
                    now.push(event.field("comm"));
                }
            }
            _ => {}
        }
    }
    assert_eq!(ended.len(), 3);
    for names in ended {
        let count = |name: &str| names.iter().filter(|n| **n == name).count();
        assert_eq!(
            (
                count("stress-cpu"),
                count("stress-alloc"),
                count("stress"),
                count("console")
            ),
            (6, 2, 1, 1),
            "{names:?}"
        );
    }
    guest.poweroff();
}

#[test]
fn kexecs_while_tasks_wake_each_other() {
    let mut guest = Setup::new().smp(4).boot();
    for generation in 1..=3 {
        job(&mut guest, "stress --switch 6 --alloc 2 &");
        guest.kexec_to(generation);
        assert_eq!(guest.ok("cat /proc/uptime").split(' ').count(), 2);
    }
    guest.poweroff();
}
