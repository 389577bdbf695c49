//! Histograms: what they count, and that they show it in Linux's layout; after `test.d/trigger/trigger-hist*.tc`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trace::Errno;
use trace::event::complaint::Complaint;
use trace::event::filter::Recorder;
use trace::event::trigger::{Actions, Subject, TriggerList};
use trace::event::{Common, EventDesc};

mod events {
    #[allow(dead_code)]
    pub fn tracer() -> Option<&'static trace::Tracer<trace::testing::TestPlatform>> {
        None
    }

    trace::define_events! {
        tracer = crate::events::tracer;

        /// Memory is given.
        event kmem:alloc(site: u64, bytes: i32, name: str) {
            print("%lx %d %s", site, bytes, name)
        }
    }
}

const DESC: &EventDesc = &events::alloc::DESC;

#[derive(Debug)]
struct Nothing;

impl Actions for Nothing {
    fn tracing_on(&self) -> bool {
        true
    }
    fn set_tracing_on(&self, _: bool) {}
    fn snapshot(&self) {}
    fn stack_trace(&self) {}
    fn event_enabled(&self, _: usize) -> bool {
        true
    }
    fn set_event_enabled(&self, _: usize, _: bool) {}
}

fn command(list: &TriggerList, text: &str) -> Result<TriggerList, Complaint> {
    let subject = Subject {
        system: "kmem",
        name: "alloc",
        fields: DESC.fields,
        find: &|_, _| None,
    };
    list.command(&subject, text)
}

fn set(text: &str) -> TriggerList {
    command(&TriggerList::default(), text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn hit(list: &TriggerList, pid: i32, site: u64, bytes: i32, name: &str) {
    let common = Common {
        pid,
        ..Common::default()
    };
    let mut record = common.encode().to_vec();
    record.extend_from_slice(&site.to_ne_bytes());
    record.extend_from_slice(&bytes.to_ne_bytes());
    let place = DESC.size as u32 | ((name.len() as u32 + 1) << 16);
    record.extend_from_slice(&place.to_ne_bytes());
    record.extend_from_slice(name.as_bytes());
    record.push(0);
    let recorder = Recorder {
        cpu: 2,
        comm: "shell",
        ts: 5000u64.wrapping_add(bytes as u64),
    };
    let _ = list.fire(&record, &recorder, &Nothing);
}

fn shown(list: &TriggerList) -> String {
    let mut text = String::new();
    list.write_hist(&mut text).unwrap();
    text
}

#[test]
fn the_layout() {
    let list = set("hist:keys=common_pid:vals=hitcount,bytes:size=256 if bytes > 0");
    for (pid, bytes) in [(1, 10), (2, 5), (1, 20), (3, 0)] {
        hit(&list, pid, 0, bytes, "");
    }
    assert_eq!(
        shown(&list),
        "\
# event histogram
#
# trigger info: hist:keys=common_pid:vals=hitcount,bytes:sort=hitcount:size=256 if bytes > 0 [active]
#

{ common_pid:          2 } hitcount:          1  bytes:          5
{ common_pid:          1 } hitcount:          2  bytes:         30

Totals:
    Hits: 3
    Entries: 2
    Dropped: 0
"
    );
}

/// The lines of the entries.
fn entries(command: &str) -> Vec<String> {
    let list = set(command);
    for (pid, site, bytes, name) in [
        (7, 0xab, -3, "vfs"),
        (8, 0xab, 100, "net"),
        (7, 0xcd, 6, "vfs"),
    ] {
        hit(&list, pid, site, bytes, name);
    }
    shown(&list)
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(String::from)
        .collect()
}

#[test]
fn modifiers() {
    assert_eq!(
        entries("hist:keys=site.hex:sort=site"),
        [
            "{ site: ab } hitcount:          2",
            "{ site: cd } hitcount:          1"
        ]
    );
    assert_eq!(
        entries("hist:keys=common_pid.execname:sort=common_pid.descending"),
        [
            "{ common_pid: shell           [         8] } hitcount:          1",
            "{ common_pid: shell           [         7] } hitcount:          2"
        ]
    );
    assert_eq!(
        entries("hist:keys=site.log2"),
        ["{ site: ~ 2^8  } hitcount:          3"]
    );
    assert_eq!(
        entries("hist:keys=site.buckets=100:sort=site"),
        [
            "{ site: ~ 100-199 } hitcount:          2",
            "{ site: ~ 200-299 } hitcount:          1"
        ]
    );
    assert_eq!(
        entries("hist:keys=name:vals=bytes.hex"),
        [
            format!(
                "{{ name: {:50} }} hitcount:          1  bytes:         64",
                "net"
            ),
            format!(
                "{{ name: {:50} }} hitcount:          2  bytes:          3",
                "vfs"
            ),
        ]
    );
    assert_eq!(
        entries("hist:keys=common_cpu,common_timestamp.usecs:sort=hitcount"),
        [
            "{ common_cpu:          2, common_timestamp:          4 } hitcount:          1",
            "{ common_cpu:          2, common_timestamp:          5 } hitcount:          2",
        ]
    );
    // A signed key is put in order as such.
    assert!(
        entries("hist:keys=bytes:sort=bytes")[0].starts_with("{ bytes: 18446744073709551613 }")
    );
    assert_eq!(
        entries("hist:keys=common_pid:vals=bytes:nohitcount:sort=bytes.descending").len(),
        2
    );
}

#[test]
fn two_on_one_event_and_their_removal() {
    let list = set("hist:keys=common_pid");
    let list = command(&list, "hist:keys=site.hex:vals=bytes").unwrap();
    hit(&list, 1, 2, 3, "");
    assert_eq!(shown(&list).matches("# event histogram").count(), 2);
    let again = command(&list, "hist:keys=common_pid").unwrap_err();
    assert_eq!(again.errno, Errno::EEXIST);
    assert_eq!(again.entry.unwrap().text, "Hist trigger already exists");
    let list = command(&list, "!hist:keys=common_pid if bytes == 1").unwrap();
    let mut text = String::new();
    list.write(&mut text).unwrap();
    assert_eq!(
        text,
        "hist:keys=site.hex:vals=hitcount,bytes:sort=hitcount:size=2048 [active]\n"
    );
    assert!(list.without_hists().is_empty());
}

#[test]
fn pause_continue_clear() {
    let list = set("hist:keys=common_pid:pause");
    hit(&list, 1, 0, 0, "");
    assert!(shown(&list).contains("[paused]") && shown(&list).contains("Hits: 0"));
    let list = command(&list, "hist:keys=common_pid:continue").unwrap();
    hit(&list, 1, 0, 0, "");
    assert!(shown(&list).contains("[active]") && shown(&list).contains("Hits: 1"));
    let list = command(&list, "hist:keys=common_pid:clear").unwrap();
    assert!(shown(&list).contains("Hits: 0") && shown(&list).contains("Entries: 0"));
    let none = command(&list, "hist:keys=site:clear").unwrap_err();
    assert_eq!(none.errno, Errno::ENOENT);
}

#[test]
fn a_full_one_drops_and_counts() {
    let list = set("hist:keys=site:size=100");
    for site in 0..1000 {
        hit(&list, 0, site, 0, "");
    }
    let text = shown(&list);
    assert!(text.contains("Hits: 128\n    Entries: 128\n    Dropped: 872"));
}

#[test]
fn syntax_errors() {
    for (text, want, at) in [
        ("hist:keys=junk", "Couldn't find field", "junk"),
        ("hist:keys=site:vals=junk", "Couldn't find field", "junk"),
        ("hist:keys=site:vals=name", "Couldn't find field", "name"),
        ("hist:keys=site.junk", "Invalid field modifier", "junk"),
        (
            "hist:keys=site.execname",
            "Invalid field modifier",
            "execname",
        ),
        (
            "hist:keys=site.buckets=0",
            "Invalid field modifier",
            "buckets",
        ),
        ("hist:keys=", "Empty assignment", "keys="),
        ("hist:keys=site:sort=", "Empty assignment", "sort="),
        ("hist:keys=site:sort=site,", "Empty sort field", "sort="),
        (
            "hist:keys=site:sort=junk",
            "Sort field must be a key or a val",
            "junk",
        ),
        (
            "hist:keys=site:sort=site.junk",
            "Invalid sort modifier",
            "junk",
        ),
        (
            "hist:keys=site:vals=bytes:sort=site,hitcount,bytes",
            "Too many sort fields (Max = 2)",
            "sort=",
        ),
    ] {
        let e = command(&TriggerList::default(), text).unwrap_err();
        let entry = e.entry.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(e.errno, Errno::EINVAL, "{text}");
        assert_eq!(
            (&*entry.text, &*entry.location),
            (want, "hist:kmem:alloc"),
            "{text}"
        );
        assert!(
            entry.command[entry.position..].starts_with(at),
            "{text} {entry:?}"
        );
    }
    for text in [
        "hist:keys=site:size=64",
        "hist:keys=site:size=x",
        "hist:keys=site:junk",
    ] {
        let e = command(&TriggerList::default(), text).unwrap_err();
        assert_eq!(e.errno, Errno::EINVAL, "{text}");
    }
}

proptest! {
    #[test]
    fn as_a_map_counts(hits in prop::collection::vec((0i32..5, 0u64..5, -9i32..9, "[ab]{0,3}"), 0..200)) {
        let list = set("hist:keys=common_pid,site,name:vals=bytes:size=1024");
        let mut model: BTreeMap<(i32, u64, String), (u64, u64)> = BTreeMap::new();
        for (pid, site, bytes, name) in &hits {
            hit(&list, *pid, *site, *bytes, name);
            let entry = model.entry((*pid, *site, name.clone())).or_default();
            entry.0 += 1;
            entry.1 = entry.1.wrapping_add(*bytes as u64);
        }
        let mut want: Vec<String> = model
            .iter()
            .map(|((pid, site, name), (n, sum))| {
                format!("{{ common_pid: {pid:10}, site: {site:10}, name: {name:50} }} hitcount: {n:10}  bytes: {sum:10}")
            })
            .collect();
        let text = shown(&list);
        let mut got: Vec<_> = text.lines().filter(|l| l.starts_with('{')).map(String::from).collect();
        want.sort();
        got.sort();
        prop_assert_eq!(got, want);
    }
}
