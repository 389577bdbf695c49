//! Several instances, filters, snapshots, options: what the tracer does above the rings.

use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::errno::Errno;
use trace::event::filter::Filter;
use trace::fs::TraceFs;
use trace::options::TraceOption;
use trace::testing::TestPlatform;
use trace::tracer::{MAX_INSTANCES, PidList};
use trace::{ClockId, Instance, Tracer};

#[allow(dead_code)]
fn no_tracer() -> Option<&'static Tracer<TestPlatform>> {
    None
}

mod events {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// One with a number.
        event test:number(a: u32) { print("a=%u", a) }
        /// One with a string.
        event test:text(who: str) { print("who=%s", who) }
    }
}

/// The events are statics: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tracer() -> Tracer<TestPlatform> {
    let platform = TestPlatform::new(16);
    platform.set_cpu(0);
    platform.set_step(1000);
    platform.tracer(events::ALL)
}

fn number(tracer: &Tracer<TestPlatform>, a: u32) {
    let desc = &events::number::DESC;
    if desc.enabled() {
        tracer.record(desc, None, desc.size, 0, |r| r.put(8, &a.to_ne_bytes()));
    }
}

/// The values of `test:number` in CPU 0's buffer, in order.
fn numbers(instance: &Instance<TestPlatform>) -> Vec<u32> {
    values(instance.buffer(0).unwrap())
}

fn values(buffer: &trace::ring::CpuBuffer<TestPlatform>) -> Vec<u32> {
    let mut iter = buffer.iter().unwrap();
    let mut found = Vec::new();
    while let Some(entry) = iter.next() {
        found.push(u32::from_ne_bytes(entry.payload[8..12].try_into().unwrap()));
    }
    found
}

#[test]
fn names_are_checked_and_slots_come_back() {
    let _alone = alone();
    let t = tracer();
    for bad in ["", "a/b", ".", ".."] {
        assert_eq!(t.create_instance(bad).unwrap_err(), Errno::EINVAL, "{bad}");
    }
    let long = "x".repeat(256);
    assert_eq!(t.create_instance(&long).unwrap_err(), Errno::ENAMETOOLONG);
    let before = t.platform().owned();
    for i in 1..MAX_INSTANCES {
        t.create_instance(&format!("i{i}")).unwrap();
    }
    assert_eq!(t.create_instance("one more").unwrap_err(), Errno::ENOSPC);
    assert_eq!(t.create_instance("i7").unwrap_err(), Errno::EEXIST);
    assert_eq!(t.remove_instance("nobody").unwrap_err(), Errno::ENOENT);
    let held = t.instance("i7").unwrap();
    assert_eq!(t.remove_instance("i7").unwrap_err(), Errno::EBUSY);
    drop(held);
    for i in 1..MAX_INSTANCES {
        t.remove_instance(&format!("i{i}")).unwrap();
    }
    assert_eq!(t.platform().owned(), before);
    t.create_instance("again").unwrap();
    assert_eq!(t.instances().len(), 1);
}

#[test]
fn each_instance_has_its_own_events_switch_and_filter() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    let a = t.create_instance("a").unwrap();
    let b = t.create_instance("b").unwrap();
    number(&t, 0);
    a.set_event_enabled(desc, true);
    number(&t, 1);
    t.set_event_enabled(desc, true);
    number(&t, 2);
    b.set_event_enabled(desc, true);
    b.set_filter(desc, Some(Filter::parse(desc.fields, "a > 3").unwrap()));
    number(&t, 3);
    number(&t, 4);
    a.set_tracing_on(false);
    number(&t, 5);
    t.set_event_enabled(desc, false);
    number(&t, 6);
    assert_eq!(numbers(&a), [1, 2, 3, 4]);
    assert_eq!(numbers(&b), [4, 5, 6]);
    assert_eq!(numbers(&t), [2, 3, 4, 5]);
    assert_eq!(b.filter_text(desc).as_deref(), Some("a > 3"));
    b.set_filter(desc, None);
    number(&t, 1);
    assert_eq!(numbers(&b), [4, 5, 6, 1]);
    drop((a, b));
    t.remove_instance("a").unwrap();
    t.remove_instance("b").unwrap();
    assert!(!desc.enabled(), "nobody is left who wants it");
}

#[test]
fn a_filter_of_the_top_instance_works_alone_too() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    t.set_event_enabled(desc, true);
    t.set_filter(desc, Some(Filter::parse(desc.fields, "a == 2").unwrap()));
    (0..4).for_each(|a| number(&t, a));
    assert_eq!(numbers(&t), [2]);
    t.set_filter(desc, None);
    (0..2).for_each(|a| number(&t, a));
    assert_eq!(numbers(&t), [2, 0, 1]);
}

#[test]
fn instances_come_and_go_under_writers() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    t.set_event_enabled(desc, true);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let start = std::sync::Barrier::new(3);
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (t, stop, start) = (&t, &stop, &start);
            scope.spawn(move || {
                t.platform().set_cpu(cpu);
                let mut a = 0;
                number(t, a);
                start.wait();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    number(t, a);
                    a += 1;
                }
            });
        }
        start.wait();
        for round in 0..100 {
            let instance = t.create_instance("short").unwrap();
            instance.set_event_enabled(desc, true);
            let filter = Filter::parse(desc.fields, "a & 1").unwrap();
            instance.set_filter(desc, Some(filter));
            if round % 2 == 0 {
                instance.set_filter(desc, None);
            }
            drop(instance);
            t.remove_instance("short").unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(t.stats(0).unwrap().written() > 0);
    // What could not be freed then is, at the next change.
    t.create_instance("last").unwrap();
    t.remove_instance("last").unwrap();
    let platform = *t.platform();
    let mut pages = Vec::new();
    t.for_each_page(|page| pages.push(page));
    assert_eq!(platform.owned().len(), pages.len());
}

#[test]
fn snapshots_as_the_file_asks_for_them() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    t.set_event_enabled(desc, true);
    let pages = t.platform().owned().len();
    t.clear_snapshot(None).unwrap();
    assert!(!t.snapshot_allocated());
    number(&t, 1);
    t.take_snapshot(None).unwrap();
    assert!(t.snapshot_allocated());
    assert_eq!(t.platform().owned().len(), 2 * pages);
    number(&t, 2);
    assert_eq!(values(t.snapshot_buffer(0).unwrap()), [1]);
    assert_eq!(numbers(&t), [2]);
    t.snapshot_now();
    assert_eq!(values(t.snapshot_buffer(0).unwrap()), [2]);
    assert_eq!(t.deferred_snapshots(), 0);
    // The sizes stay together.
    t.resize(None, 64).unwrap();
    t.take_snapshot(Some(0)).unwrap();
    assert_eq!(values(t.snapshot_buffer(0).unwrap()), [1]);
    assert_eq!(t.buffer(0).unwrap().pages(), 16);
    assert_eq!(t.snapshot_buffer(0).unwrap().pages(), 16);
    t.set_subbuf_order(2).unwrap();
    assert_eq!(t.snapshot_buffer(1).unwrap().pages(), 4);
    t.clear_snapshot(None).unwrap();
    assert!(values(t.snapshot_buffer(0).unwrap()).is_empty());
    t.free_snapshot().unwrap();
    assert!(!t.snapshot_allocated());
    assert!(t.take_snapshot(Some(2)).is_err());
}

#[test]
fn a_snapshot_within_a_write_is_taken_when_it_has_ended() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    t.set_event_enabled(desc, true);
    t.allocate_snapshot().unwrap();
    number(&t, 1);
    t.record(desc, None, desc.size, 0, |r| {
        r.put(8, &2u32.to_ne_bytes());
        t.snapshot_now();
    });
    assert_eq!(t.deferred_snapshots(), 1);
    assert_eq!(values(t.snapshot_buffer(0).unwrap()), [1, 2]);
    number(&t, 3);
    assert_eq!(numbers(&t), [3]);
}

#[test]
fn a_snapshot_that_still_waits_is_not_taken_after_it_was_cleared() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::number::DESC;
    let within = |f: &dyn Fn()| {
        t.record(desc, None, desc.size, 0, |r| {
            r.put(8, &1u32.to_ne_bytes());
            t.snapshot_now();
            f();
        });
        values(t.snapshot_buffer(0).unwrap())
    };
    t.set_event_enabled(desc, true);
    t.allocate_snapshot().unwrap();
    assert_eq!(within(&|| ()), [1]);
    assert_eq!(within(&|| t.clear_snapshot(None).unwrap()), []);
}

/// Two that add to a list at once.
#[test]
fn numbers_that_are_added_at_once_are_all_added() {
    let _alone = alone();
    let t = tracer();
    let fs = TraceFs(&t);
    let add = |from: u32| {
        for pid in (from..2000).step_by(2) {
            let text = pid.to_string();
            fs.write("set_event_pid", text.as_bytes(), false).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| add(0));
        scope.spawn(|| add(1));
    });
    assert_eq!(t.pids(PidList::Only), (0..2000).collect::<Vec<_>>());
}

#[test]
fn options_and_clocks_belong_to_an_instance() {
    let _alone = alone();
    let t = tracer();
    t.set_option(TraceOption::Overwrite, false);
    t.set_option(TraceOption::IrqInfo, false);
    let a = t.create_instance("a").unwrap();
    assert!(!a.option(TraceOption::IrqInfo) && a.option(TraceOption::ContextInfo));
    assert!(!a.buffer(0).unwrap().overwrite());
    a.set_option(TraceOption::Overwrite, true);
    assert!(a.buffer(1).unwrap().overwrite() && !t.buffer(1).unwrap().overwrite());
    a.set_clock(ClockId::Counter).unwrap();
    assert_eq!((a.now(), a.now(), t.clock()), (1, 2, ClockId::Local));
    a.set_clock(ClockId::Global).unwrap();
    let first = a.now();
    t.platform().set_ns(5);
    assert!(a.now() >= first);
    assert!(t.now() < first);
    a.set_buffer_percent(0);
    assert_eq!((a.buffer_percent(), t.buffer_percent()), (0, 50));
}

#[test]
fn names_of_tasks_are_taken_down() {
    let _alone = alone();
    let t = tracer();
    let on = |pid| trace::Context {
        pid,
        ..Default::default()
    };
    t.platform().set_context(on(1));
    t.mark(b"x").unwrap();
    t.set_option(TraceOption::RecordCmd, false);
    t.platform().set_context(on(0));
    t.mark(b"x").unwrap();
    let names: Vec<_> = t
        .saved_cmdlines()
        .map(|(pid, name)| (pid, name.as_str().to_string()))
        .collect();
    assert_eq!(names, [(1, "init".to_string())]);
    assert_eq!(t.task_name(1).as_str(), "init");
    assert_eq!(t.task_name(77).as_str(), "<...>");
}

#[test]
fn a_record_that_cannot_be_looked_at_is_counted() {
    let _alone = alone();
    let t = tracer();
    let desc = &events::text::DESC;
    t.create_instance("a")
        .unwrap()
        .set_event_enabled(desc, true);
    t.record(desc, None, desc.size, 5000, |_| {});
    assert_eq!(t.oversized(), 1);
    t.record(desc, None, desc.size, 2, |r| r.put(12, b"x\0"));
    assert_eq!(t.oversized(), 1);
    assert_eq!(t.instance("a").unwrap().stats(0).unwrap().entries, 1);
}
