//! The tracer over a kexec: described, put into a stream, read back by another life, adopted where it lies; and, in `damage`, what of
//! that is doubted.

#[path = "../crossed/mod.rs"]
mod crossed;
mod damage;

use crossed::{alone, arrive};
use trace::Tracer;
use trace::fs::TraceFs;
use trace::page::Missed;
use trace::testing::TestPlatform;

// What is recorded here is recorded by hand, on the tracer of the test.
#[allow(dead_code)]
fn no_tracer() -> Option<&'static Tracer<TestPlatform>> {
    None
}

mod old {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// Stays as it is.
        event test:same(a: u32) { print("a=%u", a) }
        /// Gets another layout.
        event test:changed(a: u32, who: str) { print("a=%u who=%s", a, who) }
        /// Is not there in the new kernel.
        event test:gone(list: [u8; 2], s: i16) { print("list=%s s=%d", list, s) }
    }
}

mod new {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// The new kernel has this one first, so that numbers would differ.
        event test:added(b: u8) { print("b=%u", b) }
        /// With more fields.
        event test:changed(a: u64, who: str, why: u8) { print("a=%llu who=%s why=%u", a, who, why) }
        /// As before.
        event test:same(a: u32) { print("a=%u", a) }
    }
}

fn machine() -> TestPlatform {
    crossed::machine(4)
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|l| !l.starts_with("# ") && *l != "#" && !l.starts_with("#  "))
        .map(String::from)
        .collect()
}

/// What crosses, as bytes, with last events after the state was described; and the machine on the other side.
fn leave(old: Tracer<TestPlatform>) -> (Vec<u8>, TestPlatform) {
    crossed::leave(old, |old, state| {
        old.mark(b"last words").unwrap();
        old.refresh_state(state).unwrap();
    })
}

#[test]
fn nothing_is_lost_over_ten_hops() {
    let _alone = alone();
    let mut t = machine().tracer(old::ALL);
    let fs = TraceFs(&t);
    fs.write("buffer_size_kb", b"256", true).unwrap();
    fs.write("set_event", b"test:same test:gone", true).unwrap();
    for i in 0..1000 {
        t.mark(format!("line {i}").as_bytes()).unwrap();
    }
    let mut before = lines(&TraceFs(&t).text("trace"));
    let mut free = None;
    for hop in 1..=10 {
        let (stream, next) = leave(t);
        t = arrive(&stream, next, hop, old::ALL).unwrap();
        assert_eq!(t.report().damaged_pages + t.report().lost_events, 0);
        assert_eq!(t.report().late_events, 0);
        assert_eq!(t.report().events, t.stats(0).unwrap().entries);
        assert_eq!(t.generation(), hop);
        assert_eq!(TraceFs(&t).text("set_event"), "test:same\ntest:gone\n");
        assert_eq!(TraceFs(&t).text("buffer_size_kb"), "256\n");
        // A life that has recorded nothing yet is there, too.
        let separator = format!("#### generation {hop} (kexec) starts here ####");
        let mut after = lines(&TraceFs(&t).text("trace"));
        assert_eq!(after.pop(), Some(separator.clone()));
        assert_eq!(after.len(), before.len() + 1);
        assert_eq!(after[..before.len()], before, "hop {hop}");
        assert!(after.last().unwrap().ends_with("last words"));
        t.mark(format!("hello from {hop}").as_bytes()).unwrap();
        before = lines(&TraceFs(&t).text("trace"));
        assert_eq!(before[before.len() - 2], separator);
        let stats = t.stats(0).unwrap();
        assert_eq!(stats.written(), 1000 + 2 * u64::from(hop));
        assert_eq!(stats.overrun, 0);
        assert_eq!(*free.get_or_insert(next.owned().len()), next.owned().len());
    }
    assert_eq!(before.iter().filter(|l| l.contains("line ")).count(), 1000);
    let platform = *t.platform();
    drop(t);
    assert!(platform.owned().is_empty());
}

#[test]
fn who_stops_at_the_line_of_a_generation_loses_no_event() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    t.mark(b"before").unwrap();
    let (stream, next) = leave(t);
    let t = arrive(&stream, next, 1, old::ALL).unwrap();
    t.mark(b"after").unwrap();
    let fs = TraceFs(&t);
    let mut text = Vec::new();
    let mut pipe = fs.pipe("trace_pipe").unwrap().unwrap();
    while !String::from_utf8_lossy(&text).contains("generation 1") {
        assert_eq!(pipe.next(&mut text).unwrap(), trace::fs::Next::Data);
    }
    assert!(!String::from_utf8_lossy(&text).contains("after"));
    // It is told once, to this reader and to the next.
    text.clear();
    assert_eq!(pipe.next(&mut text).unwrap(), trace::fs::Next::Data);
    let line = String::from_utf8_lossy(&text);
    assert!(
        line.ends_with(": after\n") && line.lines().count() == 1,
        "{line}"
    );
    t.mark(b"more").unwrap();
    drop(pipe);
    let mut pipe = fs.pipe("trace_pipe").unwrap().unwrap();
    text.clear();
    assert_eq!(pipe.next(&mut text).unwrap(), trace::fs::Next::Data);
    assert!(String::from_utf8_lossy(&text).ends_with(": more\n"));
}

#[test]
fn a_full_buffer_crosses_and_overwrites_on() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    for i in 0..3000 {
        t.mark(format!("line {i:05}").as_bytes()).unwrap();
    }
    let before = t.stats(0).unwrap();
    assert!(before.overrun > 0);
    let (stream, next) = leave(t);
    let t = arrive(&stream, next, 1, old::ALL).unwrap();
    assert_eq!(t.stats(0).unwrap().written(), before.written() + 1);
    for i in 3000..6000 {
        t.mark(format!("line {i:05}").as_bytes()).unwrap();
    }
    let stats = t.stats(0).unwrap();
    assert_eq!(stats.written(), 6001);
    let text = lines(&TraceFs(&t).text("trace"));
    let text: Vec<_> = text.iter().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(text.len() as u64, stats.entries);
    assert!(text.last().unwrap().ends_with("line 05999"));
    assert!(text[0].ends_with(&format!("line {:05}", stats.overrun - 1)));
}

#[test]
fn what_was_consumed_stays_consumed() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    for i in 0..300 {
        t.mark(format!("line {i:05}").as_bytes()).unwrap();
    }
    let mut bytes = Vec::new();
    for _ in 0..150 {
        t.buffer(0).unwrap().consume(&mut bytes).unwrap().unwrap();
    }
    let before = lines(&TraceFs(&t).text("trace"));
    let (stream, next) = leave(t);
    let t = arrive(&stream, next, 1, old::ALL).unwrap();
    let after = lines(&TraceFs(&t).text("trace"));
    assert_eq!(after[..before.len()], before);
    assert!(after[0].ends_with("line 00150"));
    let stats = t.stats(0).unwrap();
    assert_eq!((stats.read_events, stats.entries), (150, 151));
    t.buffer(0).unwrap().consume(&mut bytes).unwrap().unwrap();
    assert!(bytes.windows(10).any(|w| w == b"line 00150"));
    assert_eq!(t.stats(0).unwrap().written(), 301);
}

/// What a full buffer refused is told in its place, whether the page behind it was begun before the state was described, or after that,
/// or is in the next life.
#[test]
fn refused_events_are_told_in_the_next_life() {
    let _alone = alone();
    for begun in 0..3 {
        let t = machine().tracer(old::ALL);
        TraceFs(&t).write("options/overwrite", b"0", true).unwrap();
        let count = std::cell::Cell::new(0);
        let mark = |t: &Tracer<TestPlatform>| {
            let id: u32 = count.replace(count.get() + 1);
            t.mark(format!("line {id:05}").as_bytes()).is_ok()
        };
        while mark(&t) {}
        for _ in 0..9 {
            assert!(!mark(&t));
        }
        let mut bytes = Vec::new();
        for _ in 0..150 {
            t.buffer(0).unwrap().consume(&mut bytes).unwrap().unwrap();
        }
        if begun == 0 {
            assert!(mark(&t));
        }
        let (stream, next) = crossed::leave(t, |t, state| {
            if begun == 1 {
                assert!(mark(t));
            }
            t.refresh_state(state).unwrap();
        });
        let t = arrive(&stream, next, 1, old::ALL).unwrap();
        if begun == 2 {
            assert!(mark(&t));
        }
        let mut losses = Vec::new();
        while let Some((_, lost)) = t.buffer(0).unwrap().consume(&mut bytes).unwrap() {
            if lost != Missed::None {
                let at = bytes.windows(5).position(|w| w == b"line ").unwrap();
                losses.push((
                    String::from_utf8_lossy(&bytes[at..at + 10]).into_owned(),
                    lost,
                ));
            }
        }
        let last = format!("line {:05}", count.get() - 1);
        assert_eq!(losses, [(last, Missed::Count(10))], "{begun}");
    }
}

#[test]
fn events_are_matched_by_name_and_layout() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    TraceFs(&t).write("events/enable", b"1", true).unwrap();
    t.record(&old::same::DESC, None, old::same::DESC.size, 0, |r| {
        r.put(8, &7u32.to_ne_bytes())
    });
    t.record(&old::changed::DESC, None, old::changed::DESC.size, 4, |r| {
        r.put(8, &8u32.to_ne_bytes());
        r.put(12, &(16u32 | 4 << 16).to_ne_bytes());
        r.put(16, b"who\0");
    });
    t.record(&old::gone::DESC, None, old::gone::DESC.size, 0, |r| {
        r.put(8, &[1, 2]);
        r.put(10, &(-3i16).to_ne_bytes());
    });
    old::gone::DESC.set_enabled(false);
    let (stream, next) = leave(t);
    let t = arrive(&stream, next, 1, new::ALL).unwrap();
    assert_eq!(new::same::DESC.id(), old::same::DESC.id());
    assert_ne!(new::changed::DESC.id(), old::changed::DESC.id());
    assert_eq!(TraceFs(&t).text("set_event"), "test:changed\ntest:same\n");
    t.record(&new::same::DESC, None, new::same::DESC.size, 0, |r| {
        r.put(8, &9u32.to_ne_bytes())
    });
    let text = lines(&TraceFs(&t).text("trace"));
    let shown: Vec<_> = text
        .iter()
        .map(|l| l.split(": ").skip(1).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        shown,
        [
            "same: a=7",
            "changed: a=8 who=who",
            "gone: list={0x1,0x2} s=-3",
            "tracing_mark_write: last words",
            "",
            "same: a=9",
        ]
    );
    // And on to a third life, of the old kernel again.
    let (stream, next) = leave(t);
    let t = arrive(&stream, next, 2, old::ALL).unwrap();
    let text = lines(&TraceFs(&t).text("trace"));
    assert!(
        text[1].ends_with("changed: a=8 who=who") && text[2].ends_with("gone: list={0x1,0x2} s=-3"),
        "{text:?}"
    );
}

#[test]
fn past_events_stand_in_order() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    t.mark(b"old").unwrap();
    let (stream, next) = leave(t);
    // The new kernel had been running for a while before it had a tracer.
    let start = next.ns();
    next.set_ns(start + 10_000_000);
    let t = arrive(&stream, next, 1, old::ALL).unwrap();
    old::same::DESC.set_enabled(true);
    t.record_at(&old::same::DESC, 2 * (start + 1_000_000), 0, |r| {
        r.put(8, &0u32.to_ne_bytes())
    });
    t.record_at(&old::same::DESC, 2 * (start + 2_000_000), 0, |r| {
        r.put(8, &1u32.to_ne_bytes())
    });
    t.record_at(&old::same::DESC, 2 * (start + 1_000_000), 0, |r| {
        r.put(8, &2u32.to_ne_bytes())
    });
    t.mark(b"now").unwrap();
    t.life_began(2 * (start + 2_000_000));
    let text = lines(&TraceFs(&t).text("trace"));
    let us = |line: &str| -> u64 {
        let time = line.split(": ").next().unwrap().rsplit(' ').next().unwrap();
        time.replace('.', "").parse().unwrap()
    };
    assert_eq!(us(&text[2]), (start + 1_000_000) / 1000);
    assert!(text[3].contains("generation 1"), "{text:?}");
    assert_eq!(us(&text[4]), (start + 2_000_000) / 1000);
    assert_eq!(us(&text[5]), us(&text[4]), "the newest one's time");
    assert!(us(&text[6]) >= (start + 10_000_000) / 1000);
}

#[test]
fn events_after_the_last_description_are_kept() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    t.mark(b"before").unwrap();
    let state = t.state().unwrap();
    t.mark(b"after").unwrap();
    let mut pages = Vec::new();
    t.for_each_page(|page| pages.push(page));
    let next = t.platform().kexec(&pages);
    std::mem::forget(t);
    let t = Tracer::adopt(next, 2, 1, state, old::ALL).unwrap();
    assert_eq!(t.report().late_events, 1);
    assert_eq!(t.stats(0).unwrap().written(), 2);
    // Two events, and the line where this life begins.
    assert_eq!(lines(&TraceFs(&t).text("trace")).len(), 3);
}

#[test]
fn cpus_come_and_go() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    t.platform().set_cpu(1);
    t.mark(b"on cpu 1").unwrap();
    t.platform().set_cpu(0);
    let (stream, next) = leave(t);
    let state = crossed::state(&stream);
    let t = Tracer::adopt(next, 1, 1, state, old::ALL).unwrap();
    assert_eq!((t.nr_cpus(), t.report().silent_cpus), (2, 1));
    assert_eq!(lines(&TraceFs(&t).text("per_cpu/cpu1/trace")).len(), 2);
    let (stream, next) = leave(t);
    let state = crossed::state(&stream);
    let t = Tracer::adopt(next, 4, 2, state, old::ALL).unwrap();
    assert_eq!(t.nr_cpus(), 4);
    t.platform().set_cpu(3);
    t.mark(b"on cpu 3").unwrap();
    t.platform().set_cpu(0);
    assert_eq!(TraceFs(&t).text("per_cpu/cpu3/buffer_size_kb"), "16\n");
    assert_eq!(lines(&TraceFs(&t).text("per_cpu/cpu3/trace")).len(), 2);
}
