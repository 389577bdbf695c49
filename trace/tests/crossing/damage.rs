//! A state that cannot be, pages that hold what no page can: what is refused, and what is kept.

use crate::crossed::{self, alone, arrive};
use crate::{leave, lines, machine, old};
use handover::mem::Memory;
use proptest::prelude::*;
use trace::fs::TraceFs;
use trace::testing::TestPlatform;
use trace::tracer::CpuState;
use trace::{ClockId, Tracer, TracerState};

/// Bytes `at` of a page, changed.
fn damage(platform: &TestPlatform, pa: u64, at: usize, bytes: &[u8]) {
    let p = platform.ptr(pa + at as u64, bytes.len()).unwrap();
    // SAFETY: simulated RAM that nobody else accesses now.
    unsafe { p.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
}

#[test]
fn a_damaged_page_costs_that_page_only() {
    let _alone = alone();
    let kinds: [(&str, usize, Vec<u8>); 6] = [
        ("commit too large", 8, 5000u64.to_ne_bytes().to_vec()),
        (
            "commit with flags",
            8,
            (1u64 << 31 | 64).to_ne_bytes().to_vec(),
        ),
        (
            "time stamp of the future",
            0,
            (1u64 << 60).to_ne_bytes().to_vec(),
        ),
        ("time stamp of the past", 0, 1u64.to_ne_bytes().to_vec()),
        (
            "an event that runs over",
            16 + 32,
            0u32.to_ne_bytes().to_vec(),
        ),
        (
            "a page of noise",
            0,
            (0..4096u32).map(|i| ((i * 167) >> 3) as u8 | 1).collect(),
        ),
    ];
    for (kind, at, bytes) in kinds {
        for which in [0, 1, 3] {
            if kind == "time stamp of the past" && which == 0 {
                // Nothing tells that the oldest events are not that old.
                continue;
            }
            let t = machine().tracer(old::ALL);
            for i in 0..3000 {
                t.mark(format!("line {i:05}").as_bytes()).unwrap();
            }
            let before = t.stats(0).unwrap();
            let (stream, next) = leave(t);
            let state = crossed::state(&stream);
            damage(&next, state.cpus[0].shape.ring[which].pa, at, &bytes);
            let mut t = arrive(&stream, next, 1, old::ALL).unwrap();
            let report = t.report();
            assert_eq!(report.damaged_pages, 1, "{kind} {which}");
            let stats = t.stats(0).unwrap();
            assert_eq!(stats.written(), before.written() + 1, "{kind}");
            assert_eq!(stats.overrun, before.overrun + report.lost_events);
            assert!(stats.entries > before.entries / 2);
            let text = lines(&TraceFs(&t).text("trace"));
            assert_eq!(
                text.iter().filter(|l| l.contains("tracing_mark")).count() as u64,
                stats.entries
            );
            let loss = format!("CPU:0 [LOST {} EVENTS]", report.lost_events);
            let told = text.iter().position(|l| *l == loss);
            assert_eq!(
                told.is_some(),
                which != 3,
                "{kind} {which}: told before the event that follows"
            );
            // Which may come two lives later.
            let mut next = next;
            if which == 3 {
                let (stream, third) = crossed::leave(t, |t, state| t.refresh_state(state).unwrap());
                next = third;
                t = arrive(&stream, next, 2, old::ALL).unwrap();
                t.mark(b"follows").unwrap();
                let text = lines(&TraceFs(&t).text("trace"));
                let [.., told, follows] = &text[..] else {
                    panic!("{text:?}");
                };
                assert!(*told == loss && follows.ends_with("follows"), "{text:?}");
            }
            let before = t.stats(0).unwrap();
            // And on it goes.
            for i in 0..3000 {
                t.mark(format!("again {i:05}").as_bytes()).unwrap();
            }
            assert_eq!(t.stats(0).unwrap().written(), before.written() + 3000);
            drop(t);
            assert!(next.owned().is_empty());
        }
    }
}

#[test]
fn impossible_state_is_refused_whole() {
    let _alone = alone();
    let t = machine().tracer(old::ALL);
    for i in 0..500 {
        t.mark(format!("line {i}").as_bytes()).unwrap();
    }
    let (stream, next) = leave(t);
    let good = crossed::state(&stream);
    type Change = fn(&mut TracerState);
    let changes: [(&str, Change); 16] = [
        ("twice", |s| {
            s.cpus[0].shape.ring[1] = s.cpus[0].shape.ring[0]
        }),
        ("twice", |s| {
            s.cpus[1].shape.reader = s.cpus[0].shape.ring[0]
        }),
        ("cannot be a sub-buffer", |s| {
            s.cpus[0].shape.ring[1].pa = 1 << 40
        }),
        ("cannot be a sub-buffer", |s| {
            s.cpus[0].shape.ring[1].pa += 8
        }),
        ("cannot be a sub-buffer", |s| {
            s.cpus[0].shape.ring[1].order = 1
        }),
        ("cannot be a sub-buffer", |s| {
            s.cpus[0].shape.reader.order = 200
        }),
        ("too few for a ring", |s| s.cpus[0].shape.ring.truncate(1)),
        ("pages in use", |s| s.cpus[0].shape.used = 99),
        ("events written", |s| s.cpus[0].shape.overrun = 1 << 20),
        ("events written", |s| s.cpus[0].shape.read_events = u64::MAX),
        ("overrun before", |s| {
            s.cpus[0].shape.last_overrun = u64::MAX
        }),
        ("pages lost", |s| s.cpus[0].shape.pages_lost = u64::MAX),
        ("wrong or doubled CPU 7", |s| s.cpus[1].cpu = 7),
        ("tracer that is not here", |s| {
            s.current_tracer = "function".into()
        }),
        ("number 5", |s| s.events[0].id = 5),
        ("size in KiB", |s| s.cpus[0].size_kb = u64::MAX),
    ];
    let owned = next.owned();
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let error = Tracer::adopt(next, 2, 1, bad, old::ALL).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(next.owned(), owned);
    }
    // Nothing of it was touched.
    let t = Tracer::adopt(next, 2, 1, good, old::ALL).unwrap();
    assert_eq!(t.report().damaged_pages, 0);
    assert_eq!(t.stats(0).unwrap().written(), 501);
    assert_eq!(t.clock(), ClockId::Local);
}

/// A newline in a marker's text would make two lines of it.
fn no_newline() -> impl Strategy<Value = u8> {
    any::<u8>().prop_map(|byte| if byte == b'\n' { 0 } else { byte })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the pages and the numbers of the state are turned into: a tracer that works, or an error; no panic.
    #[test]
    fn any_damage_is_survived(
        writes in prop::collection::vec((0..8usize, 0..4090usize, prop::collection::vec(no_newline(), 1..24)), 0..6),
        numbers in prop::collection::vec((0..9usize, prop_oneof![0..5000u64, any::<u64>()]), 0..3),
        lines_before in 0..1500u32,
    ) {
        let _alone = alone();
        let t = machine().tracer(old::ALL);
        for i in 0..lines_before {
            t.mark(format!("line {i:05}").as_bytes()).unwrap();
        }
        let (stream, next) = leave(t);
        let mut state = crossed::state(&stream);
        for (page, at, bytes) in writes {
            let CpuState { shape, .. } = &state.cpus[0];
            let pa = if page == 0 { shape.reader.pa } else { shape.ring[(page - 1) % 4].pa };
            damage(&next, pa, at.min(4096 - bytes.len()), &bytes);
        }
        for (which, value) in numbers {
            let shape = &mut state.cpus[0].shape;
            match which {
                0 => shape.used = value as u32,
                1 => shape.reader_read = value as u32,
                2 => shape.committed = value,
                3 => shape.overrun = value,
                4 => shape.read_events = value,
                5 => shape.last_overrun = value,
                6 => shape.pages_lost = value,
                7 => shape.pages_read = value,
                _ => state.boundaries.push(trace::Boundary { generation: 9, start: value }),
            }
        }
        if let Ok(t) = Tracer::adopt(next, 2, 1, state, old::ALL) {
            let before = t.stats(0).unwrap();
            let text = lines(&TraceFs(&t).text("trace"));
            let events = text.iter().filter(|l| l.starts_with(' ')).count() as u64;
            prop_assert_eq!(events, before.entries);
            let mut bytes = Vec::new();
            for i in 0..700 {
                t.mark(format!("again {i}").as_bytes()).unwrap();
                if i % 3 == 0 {
                    t.buffer(0).unwrap().consume(&mut bytes).unwrap();
                }
            }
            prop_assert_eq!(t.stats(0).unwrap().written(), before.written() + 700);
            TraceFs(&t).write("buffer_size_kb", b"32", true).unwrap();
            let text = lines(&TraceFs(&t).text("trace"));
            prop_assert!(text.last().unwrap().ends_with("again 699"));
        }
    }
}
