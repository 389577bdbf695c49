//! What a person chooses beside events and filters: tasks, CPUs, the names that are kept; triggers of `trace_marker`;
//! histograms that count together. After Linux's selftests `event-pid.tc`, `event-no-pid.tc`, `snapshot1.tc`,
//! `trigger-trace-marker-hist.tc`, `trigger-trace-marker-snapshot.tc`, `trigger-multihist.tc`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::event::EventDesc;
use trace::fs::TraceFs;
use trace::testing::TestPlatform;
use trace::{Context, Errno, Tracer};

mod lines;
mod triggers;

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
    Machine {
        tracer: platform.tracer_of(nr_cpus, events::ALL),
        _alone: alone,
    }
}

impl Machine {
    fn read(&self, path: &str) -> String {
        TraceFs(&self.tracer).text(path)
    }

    /// `echo TEXT > PATH`
    fn put(&self, path: &str, text: &str) {
        self.try_put(path, text)
            .unwrap_or_else(|e| panic!("{text} > {path}: {e}"));
    }

    fn try_put(&self, path: &str, text: &str) -> Result<(), Errno> {
        TraceFs(&self.tracer).put(path, text)
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
    assert!(
        before[6].contains("^\nparse_error: ") && before[6].ends_with("\n# in force: a == 1\n")
    );

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
