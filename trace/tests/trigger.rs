//! Triggers: commands, files, counts, and what is done; after Linux's selftests `test.d/trigger`.

use std::cell::RefCell;

use proptest::prelude::*;
use trace::Errno;
use trace::event::complaint::Complaint;
use trace::event::filter::Recorder;
use trace::event::trigger::{AVAILABLE, Actions, Subject, TriggerList};
use trace::event::{Common, EventDesc};

mod events {
    #[allow(dead_code)]
    pub fn tracer() -> Option<&'static trace::Tracer<trace::testing::TestPlatform>> {
        None
    }

    trace::define_events! {
        tracer = crate::events::tracer;

        /// A number.
        event test:number(x: i32) {
            print("%d", x)
        }
    }
}

const DESC: &EventDesc = &events::number::DESC;

fn find(system: &str, name: &str) -> Option<usize> {
    match (system, name) {
        ("test", "number") => Some(0),
        ("sched", "switch") => Some(1),
        _ => None,
    }
}

fn subject() -> Subject<'static> {
    Subject {
        system: "test",
        name: "number",
        fields: DESC.fields,
        find: &find,
    }
}

#[derive(Debug)]
struct State {
    on: bool,
    enabled: [bool; 2],
    log: Vec<&'static str>,
}

#[derive(Debug)]
struct Instance(RefCell<State>);

impl Instance {
    fn new() -> Self {
        Instance(RefCell::new(State {
            on: true,
            enabled: [true, false],
            log: Vec::new(),
        }))
    }
}

impl Actions for Instance {
    fn tracing_on(&self) -> bool {
        self.0.borrow().on
    }
    fn set_tracing_on(&self, on: bool) {
        let mut state = self.0.borrow_mut();
        state.on = on;
        state.log.push(if on { "on" } else { "off" });
    }
    fn snapshot(&self) {
        self.0.borrow_mut().log.push("snapshot");
    }
    fn stack_trace(&self) {
        self.0.borrow_mut().log.push("stack");
    }
    fn event_enabled(&self, event: usize) -> bool {
        self.0.borrow().enabled[event]
    }
    fn set_event_enabled(&self, event: usize, on: bool) {
        let mut state = self.0.borrow_mut();
        state.enabled[event] = on;
        state.log.push(if on { "enable" } else { "disable" });
    }
}

fn record(x: i32) -> Vec<u8> {
    let mut bytes = Common::default().encode().to_vec();
    bytes.extend_from_slice(&x.to_ne_bytes());
    bytes
}

/// The event happens: what is done, in order, with "record" where it is recorded.
fn happen(list: &TriggerList, instance: &Instance, x: i32) -> Vec<&'static str> {
    let after = list.fire(&record(x), &Recorder::default(), instance);
    instance.0.borrow_mut().log.push("record");
    list.fire_after(after, instance);
    std::mem::take(&mut instance.0.borrow_mut().log)
}

fn shown(list: &TriggerList) -> String {
    let mut text = String::new();
    list.write(&mut text).unwrap();
    text
}

fn set(list: &TriggerList, text: &str) -> TriggerList {
    list.command(&subject(), text)
        .unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn refused(list: &TriggerList, text: &str) -> Complaint {
    match list.command(&subject(), text) {
        Ok(_) => panic!("{text} was taken"),
        Err(e) => e,
    }
}

#[test]
fn an_empty_file_tells_the_commands() {
    assert_eq!(shown(&TriggerList::default()), AVAILABLE);
    assert!(AVAILABLE.starts_with("# Available triggers:\n# traceon traceoff snapshot"));
}

#[test]
fn shown_as_linux_shows_them() {
    let mut list = TriggerList::default();
    for (text, line) in [
        ("traceoff:3 if x == 1", "traceoff:count=3 if x == 1\n"),
        ("snapshot", "snapshot:unlimited\n"),
        ("  stacktrace:0x10\n", "stacktrace:count=16\n"),
        (
            "enable_event:sched:switch:1 if x > 0",
            "enable_event:sched:switch:count=1 if x > 0\n",
        ),
    ] {
        let before = shown(&list);
        let before = if list.is_empty() { "" } else { &before };
        let new = set(&list, text);
        assert_eq!(shown(&new), format!("{line}{before}"));
        list = new;
    }
    assert!(list.switches(1) && !list.switches(0) && list.needs_snapshot());
}

#[test]
fn one_of_a_kind() {
    let list = set(&TriggerList::default(), "traceoff:1");
    for twice in ["traceoff", "traceon", "traceoff:5 if x == 1"] {
        assert_eq!(refused(&list, twice).errno, Errno::EEXIST);
    }
    let list = set(&list, "enable_event:sched:switch");
    assert_eq!(
        refused(&list, "disable_event:sched:switch").errno,
        Errno::EEXIST
    );
    let list = set(&list, "enable_event:test:number");
    assert_eq!(shown(&list).lines().count(), 3);
}

#[test]
fn taken_away_by_kind() {
    let list = set(&TriggerList::default(), "traceoff:1 if x == 1");
    let list = set(&list, "enable_event:sched:switch");
    assert_eq!(shown(&set(&list, "!snapshot")), shown(&list));
    let list = set(&list, "!traceon");
    assert_eq!(shown(&list), "enable_event:sched:switch:unlimited\n");
    assert!(set(&list, "!enable_event:sched:switch:1").is_empty());
}

#[test]
fn a_colon_without_a_count_is_no_count() {
    // Since 5.12 `trigger_process_regex` takes what is left after the colon, if that is nothing but blanks, as no parameter.
    for text in ["traceoff:", "traceoff: ", "traceoff: if x == 1"] {
        let list = set(&TriggerList::default(), text);
        let shown = shown(&list);
        assert!(shown.starts_with("traceoff:unlimited"), "{text}: {shown}");
    }
    for text in ["traceoff::", "traceoff:: if x == 1"] {
        assert_eq!(
            refused(&TriggerList::default(), text).errno,
            Errno::EINVAL,
            "{text}"
        );
    }
}

#[test]
fn wrong_ones() {
    let list = set(&TriggerList::default(), "snapshot");
    for text in [
        "",
        "!",
        "nothing",
        "traceoff:x",
        "traceoff:-1",
        "traceoff:1x",
        "traceoff if",
        "traceoff x == 1",
        "traceoff if nothing == 1",
        "enable_event",
        "enable_event:sched",
        "enable_event:sched:nothing",
        "enable_event:sched:switch:",
        "hist",
        "hist:",
        "hist:if x == 1",
        "hist:vals=x",
    ] {
        assert_eq!(refused(&list, text).errno, Errno::EINVAL, "{text}");
    }
    let long = "traceoff".to_string() + &" ".repeat(5000) + "if x == 1";
    assert_eq!(refused(&list, &long).errno, Errno::EINVAL);
    let entry = refused(&list, "traceoff if nothing == 1").entry.unwrap();
    let mut text = String::new();
    entry.write(12_345_678_000, &mut text).unwrap();
    assert_eq!(
        text,
        "[   12.345678] event filter parse error: error: Field not found\n  \
         Command: nothing == 1\n                   ^\n"
    );
}

/// Each has a reason in `error_log`, with its place.
#[test]
fn what_is_wrong_is_told() {
    let list = TriggerList::default();
    for (command, location, why) in [
        ("^bogus", "trigger", "Unknown trigger"),
        ("!^bogus:1", "trigger", "Unknown trigger"),
        ("traceoff:^abc", "trigger", "Invalid count"),
        ("snapshot:^1x if x == 1", "trigger", "Invalid count"),
        ("traceoff ^x == 1", "trigger", "Expected 'if FILTER'"),
        ("traceoff:1 ^if", "trigger", "Expected 'if FILTER'"),
        ("enable_event:^sched", "trigger", "Expected SYSTEM:EVENT"),
        (
            "enable_event:^sched:nothing:1",
            "trigger",
            "Event not found",
        ),
        ("enable_event:sched:switch:^", "trigger", "Invalid count"),
        ("enable_event:sched:switch:^no", "trigger", "Invalid count"),
        ("hist:^vals=x", "hist", "Missing keys"),
        ("hist:^if x == 1", "hist", "Malformed assignment"),
        (
            "hist:keys=x:size=^abc",
            "hist",
            "Invalid size (a number, 128 to 131072)",
        ),
        (
            "hist:keys=x:size=^1",
            "hist",
            "Invalid size (a number, 128 to 131072)",
        ),
        (
            "hist:keys=x:size=^4294967295",
            "hist",
            "Invalid size (a number, 128 to 131072)",
        ),
        ("hist:keys=x:^bogus", "hist", "Unknown attribute"),
        ("hist:keys=x,x,x,^x", "hist", "Too many keys (Max = 3)"),
        (
            "hist:keys=x:vals=x,x,x,^x",
            "hist",
            "Too many vals (Max = 3)",
        ),
        ("hist^", "hist", "Missing keys"),
    ] {
        let (at, text) = (command.find('^').unwrap(), command.replace('^', ""));
        let complaint = refused(&list, &text);
        assert_eq!(complaint.errno, Errno::EINVAL, "{text}");
        let entry = complaint
            .entry
            .unwrap_or_else(|| panic!("{text}: no reason"));
        let by = entry.location.split(':').next().unwrap();
        assert_eq!((by, &*entry.text), (location, why), "{text}");
        assert_eq!((&*entry.command, entry.position), (&*text, at), "{text}");
    }
}

#[test]
fn counts_go_down_where_something_is_done() {
    let instance = Instance::new();
    let list = set(&TriggerList::default(), "traceoff:2 if x == 1");
    assert_eq!(happen(&list, &instance, 0), ["record"]);
    assert_eq!(happen(&list, &instance, 1), ["record", "off"]);
    assert_eq!(happen(&list, &instance, 1), ["record"]);
    assert_eq!(shown(&list), "traceoff:count=1 if x == 1\n");
    instance.0.borrow_mut().on = true;
    assert_eq!(happen(&list, &instance, 1), ["record", "off"]);
    instance.0.borrow_mut().on = true;
    assert_eq!(happen(&list, &instance, 1), ["record"]);
    assert_eq!(shown(&list), "traceoff:count=0 if x == 1\n");
}

#[test]
fn events_are_switched() {
    let instance = Instance::new();
    let list = set(&TriggerList::default(), "enable_event:sched:switch:1");
    assert_eq!(happen(&list, &instance, 0), ["enable", "record"]);
    assert_eq!(happen(&list, &instance, 0), ["record"]);
    instance.0.borrow_mut().enabled[1] = false;
    assert_eq!(happen(&list, &instance, 0), ["record"]);
}

#[test]
fn before_and_after_the_record() {
    let instance = Instance::new();
    let list = set(&TriggerList::default(), "snapshot");
    assert!(!list.is_conditional());
    assert_eq!(happen(&list, &instance, 0), ["snapshot", "record"]);
    // Beside one that waits for the record, all are asked while it stands in the buffer already.
    let orders = [["stacktrace:1", "snapshot"], ["snapshot", "stacktrace:1"]];
    for order in orders {
        let list = set(&set(&TriggerList::default(), order[0]), order[1]);
        assert!(list.is_conditional());
        assert_eq!(happen(&list, &instance, 0), ["record", "snapshot", "stack"]);
        assert_eq!(happen(&list, &instance, 0), ["record", "snapshot"]);
    }
    let list = set(&TriggerList::default(), "snapshot if x == 1");
    assert_eq!(happen(&list, &instance, 0), ["record"]);
    assert_eq!(happen(&list, &instance, 1), ["record", "snapshot"]);
}

#[test]
fn crossing() {
    let instance = Instance::new();
    let mut list = TriggerList::default();
    for text in [
        "traceoff:3 if x == 1",
        "hist:keys=x:vals=x:sort=x.descending:size=128 if x > 0",
        "hist:keys=x.log2:pause",
        "enable_event:sched:switch:7",
        "snapshot",
    ] {
        list = set(&list, text);
    }
    for x in 0..5 {
        happen(&list, &instance, x);
    }
    let saved = list.save();
    let (again, lost) = TriggerList::restore(&subject(), &saved);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(shown(&again), shown(&list));
    assert_eq!(again.save().len(), saved.len());
    let (mut a, mut b) = (String::new(), String::new());
    list.write_hist(&mut a).unwrap();
    again.write_hist(&mut b).unwrap();
    assert_eq!(a, b);
    // An event that is gone takes its triggers with it, and no other.
    let gone = Subject {
        find: &|_, _| None,
        ..subject()
    };
    let (rest, lost) = TriggerList::restore(&gone, &saved);
    assert_eq!(lost, ["enable_event:sched:switch"]);
    assert_eq!(rest.save().len(), saved.len() - 1);
}

proptest! {
    #[test]
    fn no_command_panics(
        text in prop_oneof![
            ".{0,60}",
            "(!|traceon|traceoff|hist|enable_event|:|keys=|vals=|x|common_pid|\\.log2|\\.buckets=|sort=|size=|name=|clear|pause|,| |if|==|1|sched|switch|é){0,16}",
        ],
    ) {
        let list = set(&TriggerList::default(), "hist:keys=x");
        let before = shown(&list);
        match list.command(&subject(), &text) {
            Ok(new) => {
                let _ = new.fire(&record(1), &Recorder::default(), &Instance::new());
                let _ = shown(&new);
            }
            Err(e) => {
                if let Some(entry) = e.entry {
                    entry.write(1, &mut String::new()).unwrap();
                }
                prop_assert_eq!(shown(&list), before);
            }
        }
    }
}
