//! A trace ring that user programs have mapped (`user/src/bin/map-test.rs`, `trace-reader.rs`): docs/tracing.md, "Mapping a
//! buffer".

use tests::{Guest, Setup, number_after, readers, tracefile};

/// On one CPU, so that all that is written goes to the ring that is mapped.
#[test]
fn a_ring_is_mapped_by_programs() {
    let mut guest = Setup::new().smp(1).boot();
    checks_of_map_test(&mut guest, 0);
    // While a tracer holds the longest latency, which is no part of what is mapped.
    guest.ok(
        "cd /sys/kernel/tracing && echo irqsoff > current_tracer && echo 100 > tracing_thresh && hold-interrupts 2000",
    );
    checks_of_map_test(&mut guest, 0);
    guest.ok("echo 0 > tracing_thresh");
    let said = guest.refused("run map-test 1");
    assert!(
        said.starts_with("map-test: it cannot run on CPU 1, "),
        "{said}"
    );
    events_in_place(&mut guest);
    losses_are_told(&mut guest);
    an_ended_reader_leaves_nothing(&mut guest);
    a_mapping_ends_at_a_kexec(&mut guest);
    guest.poweroff();
}

/// What cannot be understood is named.
#[test]
fn a_reader_says_which_argument_is_wrong() {
    let mut guest = Setup::new().boot();
    for (args, why) in [
        ("", "which CPU's buffer?"),
        ("x", "x: no CPU's number"),
        ("-1", "-1: no such option"),
        ("0 --nonsense", "--nonsense: no such option"),
        ("0 --time", "--time: it needs a number"),
        ("0 --on two", "--on two: a number is wanted"),
        ("0 1", "1: one CPU is enough"),
    ] {
        let said = guest.refused(&format!("run trace-reader {args}"));
        let begin = format!("trace-reader: {why}; usage: trace-reader CPU ");
        assert!(said.starts_with(&begin), "{args}: {said}");
    }
    let said = guest.ok("run trace-reader --help");
    assert!(said.starts_with("usage: trace-reader CPU "), "{said}");
    guest.poweroff();
}

/// All events, on two CPUs under load, read at once, and over a kexec what nobody has read before it: each event decodes, no time goes
/// back, switches chain, handlers that are entered are left, and what is not shown is counted as lost (`tests::readers`; `soak` does it
/// for longer).
#[test]
fn readers_follow_two_cpus_under_load() {
    const CPUS: u32 = 2;
    let mut guest = Setup::new().smp(CPUS).boot();
    guest.ok("cd /sys/kernel/tracing");
    guest.ok("echo 1 > events/enable");
    // What was recorded before all were on has holes. What comes while the buffers are emptied would be refused, and counted.
    guest.ok("echo 0 > tracing_on; echo > trace; echo 1 > tracing_on");
    let mut lives = Vec::new();
    for generation in 0..=1 {
        if generation > 0 {
            guest.kexec_to(generation);
            guest.ok("cd /sys/kernel/tracing");
        }
        guest.ok("stress --switch 2 --cpu 2 --time 600 &");
        lives.push(readers::follow(&mut guest, CPUS, 4));
    }
    guest.ok("echo 0 > tracing_on");
    lives.push(readers::drain(&mut guest, CPUS));
    for cpu in 0..CPUS {
        let reads: Vec<_> = lives.iter().filter_map(|life| life.get(&cpu)).collect();
        assert_eq!(reads.len(), 3, "{lives:?}");
        assert_eq!(readers::together(&reads), [""; 0]);
        assert_eq!(readers::against_stats(&mut guest, cpu, &reads), [""; 0]);
        for read in &reads[..2] {
            assert!(
                read.shown > 0 && read.switches > 0 && read.handlers > 0,
                "{read:?}"
            );
        }
        // The status, too, is that of all checks.
        guest.ok(&format!("run trace-reader {cpu} --check --on {}", 1 - cpu));
    }
    guest.refused("run trace-reader 0 --on 7");
    lines_stay_whole(&mut guest);
    maps_tell_of_the_ring(&mut guest);
    // It runs where it wants its events.
    checks_of_map_test(&mut guest, 1);
    guest.poweroff();
}

/// Two readers print at once, under load.
fn lines_stay_whole(guest: &mut Guest) {
    guest.ok("echo > set_event; echo 1 > events/sched/enable; echo > trace; echo 1 > tracing_on");
    let mut text = String::new();
    for cpu in 0..2 {
        text += &guest.run(&format!("run trace-reader {cpu} --time 2 &"));
    }
    for _ in 0..2 {
        text += &guest.expect(" events shown,");
    }
    guest.send("\r");
    text += &guest.expect_prompt();
    let mut seen = [0; 2];
    for line in tests::lines(&text).filter(|line| line.contains(": sched_")) {
        // What is typed and its prompt may stand in front of a line.
        let line = line.trim_start_matches("baton# ");
        let [entry] = &tracefile::parse(line)[..] else {
            guest.fail(&format!("no event's line: {line:?}"));
        };
        if line.matches(['[', ']']).count() != 2 || line.matches(": ").count() != 2 {
            guest.fail(&format!("parts of two lines: {line:?}"));
        }
        seen[entry.cpu as usize] += 1;
    }
    assert!(seen.iter().all(|seen| *seen > 10), "{seen:?}");
}

/// A reader has the meta-page, at 0, and the sub-buffers, which begin behind it.
fn maps_tell_of_the_ring(guest: &mut Guest) {
    // It has nothing to say.
    guest.ok("echo 0 > tracing_on; echo > trace");
    let started = guest.ok("run trace-reader 0 --follow --quiet &");
    let pid = number_after(&started, "[").unwrap_or_else(|| guest.fail("no pid was printed"));
    let offsets = loop {
        let maps = guest.ok(&format!("cat /proc/{pid}/maps"));
        let of_the_ring = maps
            .lines()
            .filter(|line| line.ends_with("/per_cpu/cpu0/trace_pipe_raw"));
        let offsets: Vec<String> = of_the_ring
            .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
            .collect();
        // It maps one after the other.
        if offsets.len() == 2 {
            break offsets;
        }
    };
    assert_eq!(offsets, ["00000000", "00001000"]);
    guest.ok(&format!("kill {pid}; echo 1 > tracing_on"));
}

/// The checks of Linux's `tools/testing/selftests/ring-buffer/map_test.c`, and of the errors, at 4 and 8 KiB.
fn checks_of_map_test(guest: &mut Guest, cpu: u32) {
    let text = guest.ok(&format!("run map-test {cpu}"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"1..16"), "{text}");
    for (number, line) in (1..=16).zip(&lines[1..]) {
        assert!(line.starts_with(&format!("ok {number} ")), "{text}");
    }
    assert_eq!(lines.len(), 17, "{text}");
}

/// Only markers are recorded from here on.
fn only_markers(guest: &mut Guest) {
    guest.ok("cd /sys/kernel/tracing");
    guest.ok("echo > set_event");
    guest.ok("echo > trace");
}

/// Two readers of one CPU take each other's pages. They say so, and do not call what is missing a broken chain.
#[test]
fn readers_of_one_cpu_say_that_they_are_not_alone() {
    let mut guest = Setup::new().smp(2).boot();
    guest.ok("echo 1 > /sys/kernel/tracing/events/sched/sched_switch/enable");
    // What they print may come anywhere: they are looked for in all that was printed.
    for _ in 0..2 {
        guest.run("run trace-reader 0 --follow --check --quiet --on 1 --time 3 &");
    }
    guest.run("stress --switch 2 --time 1");
    while guest.run("ps").contains("trace-reader") {}
    let text = guest.transcript();
    let said: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once("trace-reader: cpu 0: event "))
        .map(|(_, said)| said)
        .collect();
    let first = said.first().copied().unwrap_or_default();
    assert!(
        first.ends_with(": somebody else reads this buffer, too: what they took is missing here"),
        "{said:?}"
    );
    let mut all = said.iter();
    assert!(
        all.all(|line| line.contains(": somebody else reads")),
        "{said:?}"
    );
    guest.poweroff();
}

/// The numbers in the markers that `trace-reader` has shown.
fn markers(text: &str) -> Vec<u64> {
    let shown = text
        .lines()
        .filter_map(|line| line.split_once(": tracing_mark_write: "));
    shown
        .map(|(_, text)| text.parse().expect("a number"))
        .collect()
}

fn events_in_place(guest: &mut Guest) {
    only_markers(guest);
    guest.ok("seq 1 200 > trace_marker");
    let text = guest.ok("run trace-reader 0 --stats");
    assert_eq!(markers(&text), (1..=200).collect::<Vec<_>>());
    assert!(
        text.contains("\n# cpu 0: 200 events shown, 0 lost\n"),
        "{text}"
    );
    let first = text.lines().next().unwrap_or_default();
    assert!(
        first.contains("entries 200, overrun 0, read 0, unread 200,"),
        "{text}"
    );
    assert!(
        text.contains("entries 200, overrun 0, read 200, unread 0,"),
        "{text}"
    );
    // By the meta-page's names, which say what is counted.
    for name in [" lost_events 0,", " pages_touched ", " pages_lost 0"] {
        assert!(first.contains(name), "{text}");
    }
    // They are used up: by what `stats` says, and for the next reader.
    let stats = guest.ok("cat per_cpu/cpu0/stats");
    assert!(stats.contains("\nread events: 200\n"), "{stats}");
    let text = guest.ok("run trace-reader 0");
    assert_eq!(text, "# cpu 0: 0 events shown, 0 lost\n");
    // Other events, by their own formats: as the kernel shows them.
    guest.ok("echo 1 > events/enable");
    guest.ok("echo 'one and two' | cat; stress --fault 1 --time 0.02");
    guest.ok("echo 0 > events/enable");
    let trace = guest.ok("cat trace");
    let text = guest.ok("run trace-reader 0");
    // How many were overwritten before the first one, the file does not tell.
    let is_event = |line: &&str| !line.starts_with('#') && !line.contains(" [LOST ");
    let shown: Vec<&str> = text.lines().filter(is_event).collect();
    let wanted: Vec<&str> = trace.lines().filter(is_event).collect();
    if let Some((shown, wanted)) = shown.iter().zip(&wanted).find(|(a, b)| !is_same(a, b)) {
        guest.fail(&format!(
            "the reader shows {shown:?}, and the kernel {wanted:?}"
        ));
    }
    assert_eq!(shown.len(), wanted.len());
    assert!(text.contains(": console_command: "), "{text}");
    assert!(text.contains("            load-"), "{text}");
    guest.refused("run trace-reader 77");
    guest.refused("run trace-reader");
}

/// Whether a line of the reader's is the kernel's: but for functions, which a program has no names for.
fn is_same(shown: &str, wanted: &str) -> bool {
    let mut parts = shown.split("0xffffffff8");
    let Some(mut rest) = parts.next().and_then(|first| wanted.strip_prefix(first)) else {
        return false;
    };
    let behind = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    let behind: Vec<&str> = behind.collect();
    let Some((last, others)) = behind.split_last() else {
        return rest.is_empty();
    };
    for part in others {
        match rest.split_once(part) {
            Some((name, after)) if !name.is_empty() => rest = after,
            _ => return false,
        }
    }
    rest.len() > last.len() && rest.ends_with(last)
}

fn losses_are_told(guest: &mut Guest) {
    only_markers(guest);
    let size = guest.ok("cat buffer_size_kb");
    guest.ok("echo 8 > buffer_size_kb");
    guest.ok("echo > trace");
    guest.ok("seq 1 1000 > trace_marker");
    // Its status says that what it has shown and lost is what the meta-page counts.
    let text = guest.ok("run trace-reader 0");
    let lost = text
        .lines()
        .find_map(|line| line.strip_prefix("CPU:0 [LOST ")?.strip_suffix(" EVENTS]"));
    let lost: u64 = lost
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .expect("a number");
    assert!(lost > 0);
    assert_eq!(markers(&text), (lost + 1..=1000).collect::<Vec<_>>());
    let shown = 1000 - lost;
    assert!(
        text.ends_with(&format!("\n# cpu 0: {shown} events shown, {lost} lost\n")),
        "{text}"
    );
    let stats = guest.ok("cat per_cpu/cpu0/stats");
    assert!(stats.contains(&format!("\noverrun: {lost}\n")), "{stats}");
    guest.ok(&format!("echo {} > buffer_size_kb", size.trim()));
}

/// Starts a reader in the background; its pid, once it has mapped the ring.
fn follow(guest: &mut Guest) -> String {
    let text = guest.ok("run trace-reader 0 --follow --quiet &");
    let pid = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .unwrap_or_else(|| panic!("{text}"))
        .0
        .to_owned();
    let busy = |guest: &mut Guest| guest.run("echo 16 > buffer_size_kb").contains("(EBUSY)");
    // Until it has mapped the ring, the size can be set (to what it is).
    while !busy(guest) {}
    pid
}

/// Whatever ends it.
fn an_ended_reader_leaves_nothing(guest: &mut Guest) {
    only_markers(guest);
    guest.ok("echo 16 > buffer_size_kb");
    let pid = follow(guest);
    for command in [
        "echo 32 > buffer_size_kb",
        "echo 8 > buffer_subbuf_size_kb",
        "echo 1 > snapshot",
        "echo snapshot > events/baton/kexec_phase/trigger",
    ] {
        let why = guest.refused(command);
        assert!(why.contains("(EBUSY)"), "{command}: {why}");
    }
    guest.ok(&format!("kill {pid}"));
    while guest.ok("ps").contains("trace-reader") {}
    for command in [
        "echo 32 > buffer_size_kb",
        "echo 8 > buffer_subbuf_size_kb",
        "echo 4 > buffer_subbuf_size_kb",
        "echo 1 > snapshot",
        "echo 0 > snapshot",
    ] {
        guest.ok(command);
    }
    // By ctrl-c, in the foreground.
    guest.send("run trace-reader 0 --follow --stats\r");
    guest.expect("# cpu 0: ");
    guest.send(b"\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    guest.ok("echo 16 > buffer_size_kb");
}

/// The reader ends with its process; the buffer goes on, with what it has read.
fn a_mapping_ends_at_a_kexec(guest: &mut Guest) {
    only_markers(guest);
    // It takes what there is, be it a part of a page.
    guest.ok("echo 0 > buffer_percent");
    follow(guest);
    guest.ok("seq 1 100 > trace_marker");
    while !guest
        .ok("cat per_cpu/cpu0/stats")
        .contains("read events: 100\n")
    {}
    guest.kexec_to(1);
    guest.ok("cd /sys/kernel/tracing");
    assert_eq!(markers(&guest.ok("cat trace")), [0; 0]);
    let stats = guest.ok("cat per_cpu/cpu0/stats");
    assert!(stats.contains("read events: 100\n"), "{stats}");
    guest.ok("echo 32 > buffer_size_kb");
    guest.ok("echo > set_event");
    guest.ok("echo > trace");
    guest.ok("seq 1 100 > trace_marker");
    let text = guest.ok("run trace-reader 0");
    assert_eq!(markers(&text), (1..=100).collect::<Vec<_>>());
}
