//! What a person chooses beside events and filters: tasks, CPUs, the names that are kept; triggers of `trace_marker`;
//! histograms that count together. After Linux's selftests `event-pid.tc`, `event-no-pid.tc`, `snapshot1.tc`,
//! `trigger-trace-marker-hist.tc`, `trigger-trace-marker-snapshot.tc`, `trigger-multihist.tc`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::event::EventDesc;
use trace::fs::TraceFs;
use trace::testing::TestPlatform;
use trace::{Config, Context, Errno, Tracer};

#[allow(dead_code)]
fn no_tracer() -> Option<&'static Tracer<TestPlatform>> {
    None
}

mod events {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// Any event.
        event test:number(a: i32) { print("a=%d", a) }
        /// Another task runs.
        event sched:sched_switch(next_pid: i32) { print("next_pid=%d", next_pid) }
        /// A task may run.
        event sched:sched_wakeup(pid: i32) { print("pid=%d", pid) }
    }
}

const NUMBER: &str = "events/test/number";
const SWITCH: &str = "events/sched/sched_switch";

/// The events are statics: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Machine {
    tracer: Tracer<TestPlatform>,
    _alone: MutexGuard<'static, ()>,
}

fn machine(nr_cpus: usize) -> Machine {
    let alone = alone();
    let platform = TestPlatform::new(16);
    platform.set_cpu(0);
    platform.set_step(1000);
    let config = Config {
        nr_cpus,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    Machine {
        tracer: Tracer::new(platform, config, events::ALL).unwrap(),
        _alone: alone,
    }
}

impl Machine {
    fn read(&self, path: &str) -> String {
        let mut text = String::new();
        TraceFs(&self.tracer).read(path, &mut text).unwrap();
        text
    }

    /// `echo TEXT > PATH`
    fn put(&self, path: &str, text: &str) {
        self.try_put(path, text)
            .unwrap_or_else(|e| panic!("{text} > {path}: {e}"));
    }

    fn try_put(&self, path: &str, text: &str) -> Result<(), Errno> {
        TraceFs(&self.tracer).write(path, text.as_bytes(), true)
    }

    /// `echo TEXT >> PATH`
    fn add(&self, path: &str, text: &str) -> Result<(), Errno> {
        TraceFs(&self.tracer).write(path, text.as_bytes(), false)
    }

    fn happen(&self, pid: i32, desc: &'static EventDesc, value: i32) {
        self.tracer.platform().set_context(Context {
            pid,
            ..Context::default()
        });
        if desc.enabled() {
            let bytes = value.to_ne_bytes();
            self.tracer
                .record(desc, None, desc.size, 0, |r| r.put(8, &bytes));
        }
    }

    /// The events in a file: what stands after the time.
    fn events(&self, path: &str) -> Vec<String> {
        let text = self.read(path);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.split_once(": ").unwrap_or(("", line)).1.to_string())
            .collect()
    }

    /// The events that each task left, by its number and the value.
    fn taken(&self) -> Vec<String> {
        let text = self.events("trace");
        self.put("trace", "");
        text.iter()
            .map(|line| line.rsplit_once('=').unwrap().1.to_string())
            .collect()
    }
}

#[test]
fn events_of_chosen_tasks() {
    let m = machine(1);
    m.put("events/enable", "1");
    let all = || {
        for pid in [5, 6, 7] {
            m.happen(pid, &events::number::DESC, pid);
        }
        m.taken()
    };
    assert_eq!(m.read("set_event_pid"), "");
    assert_eq!(all(), ["5", "6", "7"]);
    m.put("set_event_pid", "6\n");
    assert_eq!(m.read("set_event_pid"), "6\n");
    assert_eq!(all(), ["6"]);
    m.add("set_event_pid", "0x7 6").unwrap();
    assert_eq!(m.read("set_event_pid"), "6\n7\n");
    assert_eq!(all(), ["6", "7"]);
    m.put("set_event_notrace_pid", "7");
    assert_eq!(all(), ["6"]);
    assert_eq!(m.add("set_event_pid", "5 nobody"), Err(Errno::EINVAL));
    assert_eq!(m.read("set_event_pid"), "6\n7\n");
    m.put("set_event_pid", "\n");
    assert_eq!(all(), ["5", "6"]);
    // Markers are everybody's, as in Linux.
    m.put("trace_marker", "by 7");
    assert_eq!(m.events("trace"), ["tracing_mark_write: by 7"]);
    m.put("trace", "");
    // An instance has lists of its own.
    m.tracer.create_instance("foo").unwrap();
    m.put(&format!("instances/foo/{NUMBER}/enable"), "1");
    m.put("instances/foo/set_event_pid", "5");
    assert_eq!(all(), ["5", "6"]);
    assert_eq!(m.events("instances/foo/trace"), ["number: a=5"]);
    m.put("set_event_notrace_pid", "");
    assert_eq!(all(), ["5", "6", "7"]);
}

/// Linux keeps an event that tells of a chosen task, whoever records it.
#[test]
fn events_that_tell_of_a_chosen_task() {
    let m = machine(1);
    m.put("events/enable", "1");
    let (switch, wakeup) = (&events::sched_switch::DESC, &events::sched_wakeup::DESC);
    let all = || {
        m.happen(5, switch, 6);
        m.happen(6, switch, 7);
        m.happen(7, switch, 8);
        m.happen(5, wakeup, 6);
        m.happen(6, wakeup, 7);
        m.happen(7, wakeup, 8);
        m.taken()
    };
    m.put("set_event_pid", "6");
    assert_eq!(all(), ["6", "7", "6", "7"]);
    m.put("set_event_pid", "");
    m.put("set_event_notrace_pid", "6 7");
    assert_eq!(all(), ["6", "8", "6", "8"]);
    // A wakeup by a task that is left out of one that is, too; a switch only if one list leaves both out.
    m.put("set_event_pid", "5");
    m.put("set_event_notrace_pid", "6");
    assert_eq!(all(), ["6", "6"]);
}

/// `trace_event_ignore_this_pid`: who is left out is shown to no filter and no trigger that looks at the record.
#[test]
fn triggers_of_tasks_that_are_left_out() {
    let m = machine(1);
    m.put("set_event_pid", "6");
    m.put(&format!("{NUMBER}/trigger"), "hist:keys=common_pid");
    for pid in [5, 6, 6] {
        m.happen(pid, &events::number::DESC, 1);
    }
    assert!(m.read(&format!("{NUMBER}/hist")).contains("Hits: 2\n"));
    m.put(&format!("{NUMBER}/trigger"), "!hist:keys=common_pid");
    m.put(&format!("{NUMBER}/trigger"), "traceoff if a == 1");
    m.happen(5, &events::number::DESC, 1);
    assert_eq!(m.read("tracing_on"), "1\n");
    m.put("tracing_on", "0");
    m.put(&format!("{NUMBER}/trigger"), "!traceoff");
    // One that asks nothing is pulled.
    m.put(&format!("{NUMBER}/trigger"), "traceon");
    m.happen(5, &events::number::DESC, 1);
    assert_eq!(m.read("tracing_on"), "1\n");
}

/// `snapshot1.tc`, and what the mask is for.
#[test]
fn events_of_chosen_cpus() {
    let m = machine(3);
    m.put("events/enable", "1");
    assert_eq!(m.read("tracing_cpumask"), "7\n");
    let all = || {
        for cpu in [0, 1, 2] {
            m.tracer.platform().set_cpu(cpu);
            m.happen(9, &events::number::DESC, cpu as i32);
        }
        m.tracer.platform().set_cpu(0);
        m.taken()
    };
    assert_eq!(all(), ["0", "1", "2"]);
    m.put("tracing_cpumask", "5\n");
    assert_eq!(m.read("tracing_cpumask"), "5\n");
    assert_eq!(all(), ["0", "2"]);
    assert_eq!(m.try_put("tracing_cpumask", "8"), Err(Errno::EOVERFLOW));
    assert_eq!(m.read("tracing_cpumask"), "5\n");
    m.put("tracing_cpumask", "0");
    m.put("snapshot", "1");
    assert!(all().is_empty());
    assert_eq!(m.try_put("trace_marker", "no"), Err(Errno::EBADF));
    m.put("tracing_cpumask", "7");
    m.put("tracing_on", "1");
    m.put("trace_marker", "test input 1");
    assert_eq!(m.events("trace"), ["tracing_mark_write: test input 1"]);
    m.put("trace", "");
    // With another task before and after, too: that is where the mask is looked at.
    m.put("tracing_cpumask", "6");
    for pid in [1, 2, 1] {
        m.happen(pid, &events::number::DESC, pid);
    }
    assert!(m.taken().is_empty());
    m.put("tracing_cpumask", "7");
    m.happen(2, &events::number::DESC, 2);
    assert_eq!(m.taken(), ["2"]);
    // More CPUs than a group has digits for.
    drop(m);
    let m = machine(40);
    assert_eq!(m.read("tracing_cpumask"), "ff,ffffffff\n");
    m.put("tracing_cpumask", "80,00000001");
    assert_eq!(m.read("tracing_cpumask"), "80,00000001\n");
    assert!(m.tracer.cpu_allowed(39) && !m.tracer.cpu_allowed(38));
}

#[test]
fn names_are_kept_for_as_many_tasks_as_asked() {
    let m = machine(1);
    m.put("events/enable", "1");
    assert_eq!(m.read("saved_cmdlines_size"), "128\n");
    m.happen(1, &events::number::DESC, 1);
    assert_eq!(m.read("saved_cmdlines"), "1 init\n");
    m.put("saved_cmdlines_size", "2");
    assert_eq!(m.read("saved_cmdlines_size"), "2\n");
    // Linux forgets, too; the next event is enough to know it again.
    assert_eq!(m.read("saved_cmdlines"), "");
    for pid in [1, 2, 3, 4] {
        m.happen(pid, &events::number::DESC, pid);
    }
    assert_eq!(m.read("saved_cmdlines"), "4 <...>\n3 <...>\n");
    let state = m.tracer.state().unwrap();
    assert_eq!(state.cmdlines.len(), 2);
}

/// `trigger-trace-marker-hist.tc`, `trigger-trace-marker-snapshot.tc`.
#[test]
fn triggers_of_trace_marker() {
    let m = machine(1);
    let print = "events/ftrace/print";
    assert!(
        m.read(&format!("{print}/trigger"))
            .starts_with("# Available triggers:\n# traceon traceoff snapshot stacktrace")
    );
    m.put(&format!("{print}/trigger"), "hist:keys=common_pid");
    for _ in 0..10 {
        m.put("trace_marker", "hello");
    }
    assert!(
        m.read(&format!("{print}/hist"))
            .lines()
            .any(|line| line.ends_with("hitcount:         10"))
    );
    assert_eq!(m.events("trace").len(), 10);
    m.put(&format!("{print}/trigger"), "!hist:keys=common_pid");
    // The text is looked at without the newline that is put behind it.
    m.put(&format!("{print}/trigger"), "traceoff if buf == \"stop\"");
    m.put("trace_marker", "stop it");
    assert_eq!(m.read("tracing_on"), "1\n");
    m.put("trace_marker", "stop");
    assert_eq!(m.read("tracing_on"), "0\n");
    assert_eq!(
        m.events("trace").last().unwrap(),
        "tracing_mark_write: stop"
    );
    m.put("tracing_on", "1");
    m.put(&format!("{print}/trigger"), "!traceoff");
    // Each event stands in the buffer that is set aside then.
    m.put("trace", "");
    m.put(&format!("{print}/trigger"), "snapshot");
    assert!(m.read("snapshot").contains("# * Snapshot is allocated *"));
    for i in 1..=10 {
        m.put("trace_marker", &format!("hello >{i}<"));
    }
    let of = |file: &str| -> Vec<String> {
        m.events(file)
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.to_string())
            .collect()
    };
    assert_eq!(of("trace"), [">1<", ">3<", ">5<", ">7<", ">9<"]);
    assert_eq!(of("snapshot"), [">2<", ">4<", ">6<", ">8<", ">10<"]);
    // Another event can be switched by it, and it by none.
    m.put(&format!("{print}/trigger"), "!snapshot");
    m.put(
        &format!("{print}/trigger"),
        "enable_event:test:number if buf ~ \"go*\"",
    );
    m.put("trace_marker", "go on");
    assert_eq!(m.read(&format!("{NUMBER}/enable")), "1*\n");
    assert_eq!(
        m.try_put(&format!("{NUMBER}/trigger"), "enable_event:ftrace:print"),
        Err(Errno::EINVAL)
    );
}

/// Linux fires an unconditional snapshot before the event has its place, and a conditional one after.
#[test]
fn a_snapshot_holds_the_event_that_a_filter_chose() {
    let m = machine(1);
    m.put("events/enable", "1");
    let trigger = format!("{NUMBER}/trigger");
    m.put(&trigger, "snapshot:1 if a == 2");
    for a in [1, 2, 3] {
        m.happen(1, &events::number::DESC, a);
    }
    assert_eq!(m.events("snapshot"), ["number: a=1", "number: a=2"]);
    assert_eq!(m.events("trace"), ["number: a=3"]);
    m.put(&trigger, "!snapshot");
    m.put("snapshot", "2");
    m.put("trace", "");
    m.put(&trigger, "snapshot:1");
    m.happen(1, &events::number::DESC, 4);
    assert_eq!(m.events("trace"), ["number: a=4"]);
}

/// `trigger-multihist.tc`, its second half.
#[test]
fn histograms_of_one_name_count_together() {
    let m = machine(1);
    let (number, switch) = (format!("{NUMBER}/trigger"), format!("{SWITCH}/trigger"));
    let hists = || {
        (
            m.read(&format!("{NUMBER}/hist")),
            m.read(&format!("{SWITCH}/hist")),
        )
    };
    let happen = || {
        m.happen(3, &events::number::DESC, 1);
        m.happen(3, &events::sched_switch::DESC, 4);
    };
    m.put(&number, "hist:name=both:keys=common_pid");
    happen();
    assert!(
        hists()
            .0
            .contains("# trigger info: hist:both:keys=common_pid:vals=hitcount")
    );
    m.put(&switch, "hist:name=both:keys=common_pid");
    happen();
    let (a, b) = hists();
    assert_eq!(a, b);
    assert!(
        a.contains("hitcount:          3\n") && a.contains("Hits: 3"),
        "{a}"
    );
    // What counts by something else cannot join.
    for other in [
        "hist:name=both:keys=common_pid.hex",
        "hist:name=both:keys=next_pid",
        "hist:name=both:keys=common_pid:vals=common_pid",
        "hist:name=both:keys=common_pid:sort=common_pid",
    ] {
        assert_eq!(m.add(&switch, other), Err(Errno::EINVAL), "{other}");
        assert_eq!(hists(), (a.clone(), b.clone()));
    }
    assert!(m.read("error_log").contains(
        "hist:sched:sched_switch: error: Named hist trigger doesn't match existing named trigger"
    ));
    // What is done to one is done to both.
    m.add(&switch, "hist:name=both:keys=common_pid:pause")
        .unwrap();
    happen();
    assert!(hists().0.contains("[paused]") && hists().0.contains("Hits: 3"));
    m.add(&number, "hist:name=both:keys=common_pid:cont")
        .unwrap();
    m.add(&switch, "hist:name=both:keys=common_pid:clear")
        .unwrap();
    let (a, b) = hists();
    assert!(a == b && a.contains("Hits: 0"), "{a}");
    happen();
    let (a, b) = hists();
    assert!(a == b && a.contains("Hits: 2"), "{a}");
    // Who is written anew joins again; who goes leaves the other what it has.
    m.put(&switch, "hist:name=both:keys=common_pid");
    assert!(hists().1.contains("Hits: 2"));
    m.put(&switch, "");
    assert!(hists().0.contains("Hits: 2") && hists().1.is_empty());
}

#[test]
fn histograms_are_switched_by_other_events() {
    let m = machine(1);
    let (number, switch) = (format!("{NUMBER}/trigger"), format!("{SWITCH}/trigger"));
    m.put(&number, "hist:keys=a:pause");
    m.put(&switch, "enable_hist:test:number if next_pid == 1");
    assert_eq!(
        m.read(&switch),
        "enable_hist:test:number:unlimited if next_pid == 1\n"
    );
    let paused = || m.read(&number).ends_with("[paused]\n");
    m.happen(3, &events::sched_switch::DESC, 2);
    assert!(paused());
    m.happen(3, &events::sched_switch::DESC, 1);
    assert!(!paused());
    assert_eq!(
        m.add(&switch, "disable_hist:test:number"),
        Err(Errno::EEXIST)
    );
    m.add(&switch, "!enable_hist:test:number").unwrap();
    m.add(&switch, "disable_hist:test:number:1").unwrap();
    m.happen(3, &events::sched_switch::DESC, 2);
    assert!(paused());
    assert_eq!(m.read(&switch), "disable_hist:test:number:count=0\n");
    assert_eq!(m.try_put(&switch, "enable_hist:x:y"), Err(Errno::EINVAL));
}

/// `options/latency-format`, `options/fields`.
#[test]
fn other_forms_of_a_line() {
    let m = machine(2);
    m.tracer.platform().set_step(0);
    m.tracer.platform().set_ns(2_000_000_000);
    m.put("events/enable", "1");
    m.put("trace", "");
    m.put("options/latency-format", "1");
    // Of empty buffers Linux shows no header.
    assert_eq!(m.read("trace"), "# tracer: nop\n#\n");
    // The gap to the event after it marks an event.
    for (us, cpu) in [(3, 0), (20, 1), (200, 0), (1_201, 1), (1_001_300, 0)] {
        m.tracer.platform().set_cpu(cpu);
        m.tracer.platform().set_ns(2_000_000_000 + 1000 * us);
        m.happen(1, &events::number::DESC, cpu as i32);
    }
    let text = m.read("trace");
    let head = "# tracer: nop\n#\n# nop latency trace v1.1.5 on ";
    assert!(text.starts_with(head), "{text}");
    assert!(
        text.contains("# latency: 0 us, #5/5, CPU#0 | (M:server VP:0, KP:0, SP:0 HP:0 #P:2)\n")
    );
    assert!(text.contains("#  cmd     pid     |||||| time  |   caller     \n"));
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let wanted = [
        "    init-1         0.....    3us+: number: a=0",
        "    init-1         1.....   20us!: number: a=1",
        "    init-1         0.....  200us#: number: a=0",
        "    init-1         1..... 1201us$: number: a=1",
        "    init-1         0..... 1001300us : number: a=0",
    ];
    assert_eq!(lines, wanted);
    let fs = TraceFs(&m.tracer);
    let mut pipe = fs.pipe("trace_pipe").unwrap().unwrap();
    for line in wanted {
        let mut out = Vec::new();
        pipe.next(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
    }
    m.put("trace_options", "nolatency-format");
    m.put("trace_options", "fields");
    m.tracer.platform().set_cpu(0);
    m.happen(1, &events::number::DESC, -1);
    m.put("trace_marker", "text");
    m.put("options/context-info", "0");
    let text = m.read("trace");
    let lines: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        lines,
        ["number: a=0xffffffff (-1)", "print: ip=0x0 (0) buf=text"]
    );
    assert!(
        m.read("trace_options")
            .starts_with("fields\nannotate\nnocontext-info\nnolatency-format\n")
    );
}

/// All of it is there in the next life, and a kernel that does not know it can do without.
#[test]
fn all_of_it_crosses() {
    let m = machine(2);
    m.put("set_event_pid", "6 8");
    m.put("set_event_notrace_pid", "8");
    m.put("tracing_cpumask", "1");
    m.put("saved_cmdlines_size", "33");
    m.put("events/ftrace/print/trigger", "hist:keys=common_pid");
    m.put("trace_marker", "hello");
    m.put(
        &format!("{NUMBER}/trigger"),
        "hist:name=both:keys=common_pid",
    );
    m.put(
        &format!("{SWITCH}/trigger"),
        "hist:name=both:keys=common_pid",
    );
    m.happen(6, &events::number::DESC, 1);
    m.put(&format!("{NUMBER}/filter"), "a == 1");
    m.try_put(&format!("{NUMBER}/filter"), "b == 1")
        .unwrap_err();
    m.try_put("events/sched/filter", "b == 1").unwrap_err();
    let files = [
        "set_event_pid",
        "set_event_notrace_pid",
        "tracing_cpumask",
        "saved_cmdlines_size",
        "events/ftrace/print/trigger",
        "events/ftrace/print/hist",
        "events/test/number/filter",
        "events/test/number/hist",
        "events/sched/sched_switch/hist",
        "events/sched/filter",
        "error_log",
    ];
    let before = files.map(|file| m.read(file));
    assert!(before[10].matches("Command:").count() == 2);

    let state = m.tracer.state().unwrap();
    let mut pages = Vec::new();
    m.tracer.for_each_page(|page| pages.push(page));
    let next = m.tracer.platform().kexec(&pages);
    let Machine { tracer, _alone } = m;
    std::mem::forget(tracer);
    let tracer = Tracer::adopt(next, 2, 1, state, events::ALL).unwrap();
    assert!(tracer.troubles().is_empty(), "{:?}", tracer.troubles());
    let m = Machine { tracer, _alone };
    assert_eq!(files.map(|file| m.read(file)), before);
    // They are one still, and the filter that was not refused is in force.
    m.happen(6, &events::sched_switch::DESC, 1);
    let hist = m.read(&format!("{NUMBER}/hist"));
    assert!(hist.contains("Hits: 2"), "{hist}");
    assert_eq!(m.read(&format!("{SWITCH}/hist")), hist);
    m.put("events/enable", "1");
    m.put("trace", "");
    for (pid, a) in [(5, 1), (6, 1), (6, 2), (8, 1)] {
        m.happen(pid, &events::number::DESC, a);
    }
    assert_eq!(m.events("trace"), ["number: a=1"]);
    m.tracer.platform().set_cpu(1);
    assert_eq!(m.try_put("trace_marker", "no"), Err(Errno::EBADF));
}
