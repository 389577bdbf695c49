//! User processes: what they can do, what they cannot, and that the kernel stays whatever they try.

use tests::{Guest, Setup, number_after};

const TRACING: &str = "/sys/kernel/tracing";

/// Misdeeds of the program `misbehave` that end it, the status, and what the report says of each.
const DEADLY: &[(&str, i32, &str)] = &[
    (
        "read-kernel",
        139,
        "read of 0xffff800000001000, where no process has anything",
    ),
    ("read-kernel-text", 139, "read of 0xffffffff80001000"),
    ("write-kernel", 139, "write to 0xffff800000001000"),
    (
        "read-null",
        139,
        "read of 0x0, where the process has nothing",
    ),
    ("read-noncanonical", 139, "SIGSEGV"),
    ("read-last-page", 139, "read of 0x7ffffffff000"),
    ("write-text", 139, "which does not allow it"),
    ("jump-null", 139, "instruction fetch from 0x0"),
    ("jump-wrong", 139, "instruction fetch from 0xdead0000"),
    (
        "jump-kernel",
        139,
        "instruction fetch from 0xffffffff80001000",
    ),
    ("jump-noncanonical", 139, "SIGSEGV"),
    ("jump-data", 139, "which does not allow it"),
    ("jump-stack", 139, "which does not allow it"),
    ("divide", 136, "ended by SIGFPE"),
    ("undefined", 132, "ended by SIGILL"),
    ("breakpoint", 133, "ended by SIGTRAP"),
    ("overflow-gate", 139, "an overflow trap"),
    ("page-fault-gate", 139, "SIGSEGV"),
    ("old-syscall-gate", 139, "SIGSEGV"),
    ("single-step", 133, "ended by SIGTRAP"),
    ("sse", 132, "ended by SIGILL"),
    ("x87", 132, "a floating-point or vector instruction"),
    ("halt", 139, "SIGSEGV"),
    ("interrupts-off", 139, "SIGSEGV"),
    ("port", 139, "SIGSEGV"),
    ("msr", 139, "SIGSEGV"),
    ("cr3", 139, "SIGSEGV"),
    ("wrgsbase", 132, "ended by SIGILL"),
    ("swapgs", 139, "SIGSEGV"),
    ("kernel-segment", 139, "SIGSEGV"),
    ("iret-to-ring-0", 139, "SIGSEGV"),
    ("lose-the-stack", 139, "write to 0xffff800000000ff8"),
    ("noncanonical-stack", 139, "SIGSEGV"),
    ("recurse", 139, "where the process has nothing"),
];

#[test]
fn misdeeds_end_their_process_alone() {
    let mut guest = Setup::new().boot();
    for (deed, status, said) in DEADLY {
        let output = guest.run(&format!("run misbehave {deed}"));
        let found = guest.status();
        if found != *status || !output.contains("misbehave[") || !output.contains(said) {
            guest.fail(&format!(
                "{deed}: status {found} and not {status}, or no report with {said:?}"
            ));
        }
    }
    // A panic is the program's own: it says so, and nothing else does.
    let output = guest.run("run misbehave panic");
    assert!(output.contains("on purpose"), "{output}");
    assert_eq!(guest.status(), 134);
    assert_eq!(guest.run("run misbehave exit-7"), "");
    assert_eq!(guest.status(), 7);
    hello(&mut guest);
    guest.poweroff();
}

/// What is done is what was asked for: arguments that mean nothing are refused, and `list` says which are wanted.
#[test]
fn misdeeds_take_their_own_arguments_only() {
    let mut guest = Setup::new().boot();
    for (args, why) in [
        ("list extra", "list: \"extra\": it takes no arguments"),
        ("fork-bomb x", "fork-bomb: \"x\": it takes no arguments"),
        ("divide 0", "divide: \"0\": it takes no arguments"),
        ("fuzz x", "fuzz: \"x\": a number is wanted: fuzz [SEED]"),
        (
            "spawn 1 2",
            "spawn: \"2\": one argument too many, or a wrong one: spawn [COUNT]",
        ),
        (
            "tmp-files 1 read",
            "tmp-files: \"read\": one argument too many, or a wrong one: tmp-files [COUNT [written]]",
        ),
        (
            "frame-pointer",
            "frame-pointer: an argument is missing: frame-pointer SLOT",
        ),
        ("nothing", "\"nothing\" is no misdeed; `list` lists them"),
    ] {
        let said = guest.refused(&format!("run misbehave {args}"));
        assert_eq!(said, format!("misbehave: {why}"));
    }
    let list = guest.ok("run misbehave list");
    for line in ["divide", "fuzz [SEED]", "spawn [COUNT]"] {
        assert!(list.lines().any(|other| other == line), "{list}");
    }
    assert!(list.contains("frame-pointer SLOT  ("), "{list}");
    assert!(list.contains("close-output  (goes on without an output, until ctrl-c"));
    guest.poweroff();
}

/// The kernel still runs programs.
fn hello(guest: &mut Guest) {
    let output = guest.ok("run hello you");
    if !output.starts_with("hello, you, from process ") {
        guest.fail("the program `hello` does not say hello");
    }
}

/// What system calls are given: every wrong address, number, flag and length has its error.
#[test]
fn system_calls_believe_nothing() {
    let mut guest = Setup::new().boot();
    for deed in ["syscall-without-a-stack", "syscall-with-flags"] {
        assert_eq!(guest.ok(&format!("run misbehave {deed}")), "good\n");
    }
    let output = guest.ok("run misbehave bad-pointers");
    assert!(
        output.ends_with("bad pointers, 0 not refused\n"),
        "{output}"
    );
    assert_eq!(guest.ok("run misbehave bad-calls"), "0 wrong answers\n");
    let output = guest.ok("run misbehave file-flood");
    assert_eq!(output, "after 61 files: Too many open files (EMFILE)\n");
    for seed in 1..=6 {
        let output = guest.ok(&format!("run misbehave fuzz {seed}"));
        assert_eq!(output, "20000 calls survived\n", "seed {seed}");
    }
    hello(&mut guest);
    guest.poweroff();
}

/// KiB that are free and KiB that processes have, once the tasks that have ended are cleared away.
fn settled(guest: &mut Guest) -> (u64, u64) {
    // `grep -c` that counts none has status 1.
    while guest.run("ps | grep -c misbehave").trim() != "0" {}
    let text = guest.ok("cat /proc/meminfo");
    match (
        number_after(&text, "MemFree:"),
        number_after(&text, "UserPages:"),
    ) {
        (Some(free), Some(user)) => (free, user),
        _ => guest.fail("/proc/meminfo has no MemFree or no UserPages"),
    }
}

/// What the kernel keeps of page tables for its stacks and its heap when it has had many tasks, and of heap, in KiB.
const KEPT: u64 = 4096;

#[test]
fn a_thousand_processes_leave_no_page_behind() {
    let mut guest = Setup::new().boot();
    let (before, none) = settled(&mut guest);
    assert_eq!(none, 0);
    let flushes = format!("{TRACING}/events/tlb/tlb_flush");
    // Linux's TLB_REMOTE_SHOOTDOWN; what a process and its end forget for themselves is no question to others.
    guest.ok(&format!(
        "echo 'hist:keys=reason if reason == 1' > {flushes}/trigger"
    ));
    let output = guest.ok("run misbehave spawn 1000");
    assert_eq!(output, "1000 children, all with their own status\n");
    // A stack is kept for the next child: none of them costs a question to all CPUs.
    let asked = guest.ok(&format!("cat {flushes}/hist"));
    if number_after(&asked, "Hits:").is_none_or(|asked| asked >= 1000) {
        guest.fail("each child had its translations forgotten");
    }
    let (after, left) = settled(&mut guest);
    if left != 0 || before.saturating_sub(after) > KEPT {
        guest.fail(&format!(
            "{left} KiB are left of processes; {before} KiB were free, and now {after} KiB"
        ));
    }
    guest.poweroff();
}

#[test]
fn who_wants_all_memory_or_all_processes_gets_an_error() {
    let mut guest = Setup::new().mem(128).boot();
    let (before, _) = settled(&mut guest);
    let output = guest.ok("run misbehave map-flood");
    assert!(
        output.contains("Cannot allocate memory (ENOMEM)"),
        "{output}"
    );
    let output = guest.run("run misbehave eat-memory");
    match guest.status() {
        // It is refused more memory, or there is none for what it was given.
        0 => assert!(output.contains("all memory eaten"), "{output}"),
        137 => assert!(output.contains("no memory left for processes"), "{output}"),
        status => guest.fail(&format!("eat-memory: status {status}")),
    }
    // What there is for processes, as the kernel tells it, is what they get: no less, and no more.
    assert_eq!(guest.ok("run misbehave available"), "good\n");
    let text = guest.ok("head -n 3 /proc/meminfo");
    let names: Vec<_> = text
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["MemTotal", "MemFree", "MemAvailable"]);
    let output = guest.ok("run misbehave fork-bomb");
    let refused = ["EAGAIN", "ENOMEM"];
    if !refused.iter().any(|name| output.contains(name)) {
        guest.fail("the fork bomb was not refused");
    }
    hello(&mut guest);
    let (after, left) = settled(&mut guest);
    if left != 0 || before.saturating_sub(after) > KEPT {
        guest.fail(&format!(
            "{left} KiB are left of processes; {before} KiB were free, and now {after} KiB"
        ));
    }
    // What the kernel holds for a process is not taken out of its own reserve either.
    let output = guest.ok("run misbehave tmp-flood");
    let none = "Cannot allocate memory (ENOMEM)";
    assert_eq!(
        output,
        format!("no file more: {none}; no byte more: {none}\n")
    );
    guest.kexec_to(1);
    hello(&mut guest);
    guest.poweroff();
}

/// Where there is no place for a process more, who asks for one costs no memory: not even for a moment.
#[test]
fn a_process_too_many_is_refused_before_anything_is_made_for_it() {
    let mut guest = Setup::new().boot();
    // What the console makes for a process; those of the crowd come to their own pages whenever they run.
    let event = format!("{TRACING}/events/kmem/mm_page_alloc/enable");
    let made = format!("grep console-1 {TRACING}/trace | grep -c gfp_flags=GFP_USER");
    guest.ok(&format!("echo 1 > {event}"));
    guest.ok("run hello");
    guest.ok(&format!("echo 0 > {event}"));
    assert_ne!(guest.run(&made), "0\n");
    guest.ok("run misbehave crowd &");
    while guest.run("ps | grep -c misbehave").trim() != "256" {}
    guest.ok(&format!("echo > {TRACING}/trace; echo 1 > {event}"));
    let said = guest.refused("run hello");
    assert!(said.contains("256 processes"), "{said}");
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    assert_eq!(guest.run(&made), "0\n");
    guest.poweroff();
}

#[test]
fn programs_have_input_output_and_arguments() {
    let mut guest = Setup::new().file("script", "no program").boot();
    hello(&mut guest);
    let piped = guest.ok("run hello 'a b' | grep -c 'hello, a b,'");
    assert_eq!(piped, "1\n");
    guest.ok("run hello file > /tmp/out");
    assert!(guest.ok("cat /tmp/out").starts_with("hello, file, "));
    let same = guest.ok("cat /boot/README");
    assert_eq!(guest.ok("run cat /boot/README"), same);
    assert_eq!(guest.ok("run cat /tmp/out"), guest.ok("cat /tmp/out"));

    // A copy in memory runs, too.
    guest.ok("cat /boot/bin/hello > /tmp/program");
    assert!(guest.ok("run /tmp/program").starts_with("hello, world, "));

    let output = guest.run("run cat /nothing /proc");
    assert!(
        output.contains("cat: /nothing: No such file or directory (ENOENT)"),
        "{output}"
    );
    assert!(
        output.contains("cat: /proc: Is a directory (EISDIR)"),
        "{output}"
    );
    assert_eq!(guest.status(), 1);
    for (line, said) in [
        (
            "run nothing",
            "run: nothing: No such file or directory (ENOENT); `ls /boot/bin` lists the programs",
        ),
        ("run /boot/script", "not an ELF file"),
        ("run /boot/kernel", "lies outside the area for programs"),
        ("run", "the program's name is missing"),
        ("run hello > /tmp/x &", "in the background"),
    ] {
        let text = guest.refused(line);
        assert!(text.contains(said), "{line}: {text}");
    }

    // A line at a time, until ctrl-d.
    guest.send("run cat\r");
    guest.expect("run cat\r\n");
    guest.send("one\x7fe two\r");
    guest.expect("e two\r\none two\r\n");
    guest.send("\x04");
    guest.expect_prompt();
    assert_eq!(guest.status(), 0);
    // Or until the script's line ends that started it.
    guest.send("run cat\r");
    guest.expect("run cat\r\n");
    guest.send("\x1c");
    guest.expect_prompt();
    assert_eq!(guest.status(), 0);
    guest.poweroff();
}

#[test]
fn processes_are_seen_stopped_and_orphaned() {
    let mut guest = Setup::new().boot();
    guest.send("run spin\r");
    guest.expect("run spin\r\n");
    guest.send("\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    // One that sleeps in the kernel.
    guest.send("run cat\r");
    guest.expect("run cat\r\n");
    guest.send("\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    // One that has closed its output, and goes on.
    guest.send("run misbehave close-output\r");
    // It says so first: nothing else would tell why there is no prompt.
    guest.expect("until ctrl-c ends it");
    guest.expect("ended by SIGILL");
    guest.send("\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    // One that waits for another one's call.
    assert_eq!(guest.ok("run misbehave share-input"), "Ok([9, 9])\n");

    let started = guest.ok("run spin &");
    let pid = number_after(&started, "[").unwrap_or_else(|| guest.fail("no pid was printed"));
    let status = guest.ok(&format!("cat /proc/{pid}/status"));
    for part in [
        "Name:\tspin\n",
        &format!("Pid:\t{pid}\n"),
        "PPid:\t1\n",
        "State:\tR",
        "VmRSS:",
        "Kthread:\t0",
    ] {
        assert!(status.contains(part), "{status}");
    }
    let maps = guest.ok(&format!("cat /proc/{pid}/maps"));
    let text = maps.lines().find(|line| line.contains(" r-xp "));
    assert!(
        text.is_some_and(|line| line.starts_with("0040") && line.ends_with("/boot/bin/spin")),
        "{maps}"
    );
    assert!(
        maps.contains("7fffffe00000-7ffffff00000 rw-p 00000000 00:00 0"),
        "{maps}"
    );
    assert!(maps.lines().all(|line| !line.contains("wx")), "{maps}");
    let cmdline = guest.ok(&format!("cat /proc/{pid}/cmdline"));
    // The console starts a new line for its prompt.
    assert_eq!(cmdline.trim_end(), "spin\0");
    // And `ps` says the same: PID, PPID.
    let row = guest.ok("ps");
    let row = row
        .lines()
        .find(|line| line.ends_with(" spin"))
        .unwrap_or_default();
    assert_eq!(
        row.split_whitespace().take(2).collect::<Vec<_>>(),
        [pid.to_string().as_str(), "1"],
        "{row}"
    );
    guest.ok(&format!("kill {pid}"));
    while guest
        .run(&format!("cat /proc/{pid}/status"))
        .contains("spin")
    {}

    // The child of one that has ended goes on by itself.
    let output = guest.ok("run misbehave orphan");
    let pid = number_after(&output, "child ").unwrap_or_else(|| guest.fail("no child"));
    let status = guest.run(&format!("cat /proc/{pid}/status"));
    assert!(
        status.contains("PPid:\t1\n") || status.contains("ENOENT"),
        "{status}"
    );
    while guest
        .run(&format!("cat /proc/{pid}/status"))
        .contains("spin")
    {}
    hello(&mut guest);
    guest.poweroff();
}

/// The events of a process's life, in order and with Linux's names.
#[test]
fn a_process_is_traced_from_exec_to_exit() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!("echo 1 > {TRACING}/events/syscalls/enable"));
    guest.ok(&format!("echo 1 > {TRACING}/events/raw_syscalls/enable"));
    guest.ok(&format!("echo 1 > {TRACING}/events/exceptions/enable"));
    guest.ok(&format!(
        "echo 1 > {TRACING}/events/sched/sched_process_exec/enable"
    ));
    guest.ok(&format!(
        "echo 1 > {TRACING}/events/sched/sched_process_exit/enable"
    ));
    let output = guest.ok("run hello");
    let pid = number_after(&output, "process ").unwrap_or_else(|| guest.fail("no pid"));
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    let trace = guest.ok(&format!("grep hello-{pid} {TRACING}/trace"));
    let mut rest = trace.as_str();
    for part in [
        format!("sched_process_exec: filename=/boot/bin/hello pid={pid} old_pid={pid}"),
        // The first instruction, which is not there yet: a fetch by user mode.
        "page_fault_user: address=0x40".into(),
        " error_code=0x14\n".into(),
        "sys_enter: NR 39 (".into(),
        "sys_getpid()\n".into(),
        format!("sys_getpid -> {pid:#x}\n"),
        format!("sys_exit: NR 39 = {pid}"),
        "sys_write(fd: 1, buf: 0x7fff".into(),
        format!(", count: {:#x})\n", output.len()),
        format!("sys_write -> {:#x}\n", output.len()),
        "sys_enter: NR 60 (0, ".into(),
        "sys_exit(error_code: 0)\n".into(),
        format!("sched_process_exit: comm=hello pid={pid}"),
    ] {
        match rest.find(&part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => guest.fail(&format!("{part:?} is not where it belongs in\n{trace}")),
        }
    }
    guest.poweroff();
}

/// What memory is taken for stands in its flags, by the names that Linux has for them; and places in the kernel have names.
#[test]
fn allocations_tell_what_they_are_for_and_functions_have_names() {
    let mut guest = Setup::new().boot();
    for system in ["kmem", "timer", "workqueue"] {
        guest.ok(&format!("echo 1 > {TRACING}/events/{system}/enable"));
    }
    let trigger = format!("{TRACING}/events/kmem/kmalloc/trigger");
    guest.ok(&format!(
        "echo 'hist:keys=call_site.sym-offset' > {trigger}"
    ));
    guest.ok("run hello");
    guest.ok("sleep 0.05");
    // A place in a function, as Linux has it: `[ffffffff80012345] name+0x12/0x34`.
    let hist = guest.ok(&format!("cat {TRACING}/events/kmem/kmalloc/hist"));
    guest.ok(&format!(
        "echo '!hist:keys=call_site.sym-offset' > {trigger}"
    ));
    let mut sites = hist
        .lines()
        .filter_map(|line| line.split_once("{ call_site: [ffffffff"));
    assert!(
        sites.all(|(_, site)| site.contains("+0x") && site.contains("/0x")) && hist.contains("+0x"),
        "{hist}"
    );
    // Its sub-buffers are zeroed, and come under the tracer's lock.
    guest.ok(&format!("mkdir {TRACING}/instances/zeroed"));
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    let trace = guest.ok(&format!("cat {TRACING}/trace"));
    let lines = |event: &str, part: &str| {
        let event = format!(": {event}: ");
        let found = trace.lines().filter(|line| line.contains(&event));
        found.filter(|line| line.contains(part)).count()
    };
    for (event, part) in [
        // The process's pages and tables; its kernel stack.
        ("mm_page_alloc", " gfp_flags=GFP_USER|__GFP_ZERO"),
        ("mm_page_alloc", " gfp_flags=GFP_KERNEL"),
        ("mm_page_alloc", " gfp_flags=GFP_ATOMIC|__GFP_ZERO"),
        ("kmalloc", " gfp_flags=GFP_KERNEL node=-1 accounted=false"),
        ("timer_start", " function=baton::task::"),
        ("timer_expire_entry", " function=baton::task::"),
        (
            "workqueue_queue_work",
            " function=baton::task::table::clear_away workqueue=events ",
        ),
        (
            "workqueue_execute_start",
            ": function baton::task::table::clear_away",
        ),
    ] {
        if lines(event, part) == 0 {
            guest.fail(&format!("no {event} with {part:?}"));
        }
    }
    for (event, part) in [
        ("mm_page_alloc", " gfp_flags=0x"),
        ("kmalloc", " gfp_flags=0x"),
        ("timer_start", " function=0x"),
        ("kmalloc", "call_site=0x"),
    ] {
        assert_eq!(lines(event, part), 0, "{event} with {part}");
    }
    // Where interrupts or preemption are off, or in an interrupt, one must not sleep; elsewhere one may.
    for line in trace
        .lines()
        .filter(|line| line.contains(" gfp_flags=GFP_"))
    {
        let flags = line.split("] ").nth(1).map(|rest| rest.as_bytes());
        let may_sleep = flags.is_some_and(|flags| [0, 2, 3].iter().all(|at| flags[*at] == b'.'));
        assert_eq!(may_sleep, !line.contains("=GFP_ATOMIC"), "{line}");
    }
    // `page` is where the kernel has the page: the direct map begins at 0xffff800000000000.
    let line = trace.lines().find(|line| line.contains(": mm_page_free: "));
    let line = line.unwrap_or_else(|| guest.fail("no page came back"));
    let hex = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        u64::from_str_radix(rest.split(' ').next()?, 16).ok()
    };
    let (page, pfn) = (hex(" page="), hex(" pfn=0x"));
    assert_eq!(
        page,
        pfn.map(|pfn| 0xffff_8000_0000_0000 + pfn * 4096),
        "{line}"
    );
    assert!(page.is_some(), "{line}");
    guest.poweroff();
}

/// Processes end at a kexec, and that is in the trace; the next kernel has its own.
#[test]
fn processes_end_at_a_kexec_with_their_exit_in_the_trace() {
    let mut guest = Setup::new().boot();
    guest.ok(&format!(
        "echo 1 > {TRACING}/events/sched/sched_process_exit/enable"
    ));
    let mut pids = Vec::new();
    for _ in 0..3 {
        let started = guest.ok("run load fault &");
        pids.push(number_after(&started, "[").unwrap_or_else(|| guest.fail("no pid")));
    }
    guest.kexec_to(1);
    let trace = guest.ok(&format!("grep sched_process_exit {TRACING}/trace"));
    for pid in pids {
        assert!(trace.contains(&format!("comm=load pid={pid} ")), "{trace}");
    }
    hello(&mut guest);
    guest.kexec_to(2);
    hello(&mut guest);
    guest.poweroff();
}

/// `stress` has workers in user mode, which count their page faults and calls.
#[test]
fn stress_runs_processes() {
    let mut guest = Setup::new().smp(2).boot();
    let output = guest.ok("stress --fault 2 --syscall 2 --time 2");
    for (name, unit) in [("fault", "page faults"), ("syscall", "calls")] {
        let line = output
            .lines()
            .find(|line| line.contains(name) && line.contains(unit))
            .unwrap_or_else(|| guest.fail(&format!("stress says nothing of {name}")));
        if number_after(line, "workers, ").is_none_or(|count| count < 128) {
            guest.fail(&format!("{line:?}: that is next to nothing"));
        }
    }
    guest.poweroff();
}
