//! Instances that cannot be, numbers and texts that nobody wrote: what is given up, and what is kept.

use crate::crossed::{self, alone};
use crate::{furnish, leave, number, numbers, old, tracer, values};
use handover::mem::Memory;
use handover::state::for_each_page;
use proptest::prelude::*;
use trace::options::TraceOption;
use trace::{Tracer, TracerState};

#[test]
fn a_broken_instance_is_given_up_alone() {
    let _alone = alone();
    type Change = fn(&mut TracerState);
    let changes: [(&str, Change); 8] = [
        ("too few for a ring", |s| {
            s.instances[0].cpus[0].shape.ring.truncate(1)
        }),
        ("twice", |s| {
            s.instances[0].cpus[0].shape.ring[0] = s.instances[0].cpus[1].shape.ring[0]
        }),
        ("twice", |s| {
            // The second half of a larger page.
            let mut page = s.instances[0].cpus[0].shape.ring[0];
            page.order = 0;
            page.pa = s.cpus[0].shape.ring[0].pa;
            s.instances[0].extra.snapshot = s.cpus.iter().map(|c| c.shape.clone()).collect();
            s.instances[0].extra.snapshot[0].ring[0] = page;
        }),
        ("name", |s| s.instances[0].name = "a/b".into()),
        ("name", |s| s.instances[0].name = String::new()),
        ("CPU 9", |s| s.instances[0].cpus[0].cpu = 9),
        ("events written", |s| {
            s.instances[0].cpus[0].shape.overrun = u64::MAX
        }),
        ("1 to 1024 CPUs", |s| s.instances[0].cpus.clear()),
    ];
    for (what, change) in changes {
        let t = tracer();
        furnish(&t);
        let (stream, next) = leave(t, |_| {});
        let mut state = crossed::state(&stream);
        change(&mut state);
        let t = Tracer::adopt(next, 2, 1, state, old::ALL).unwrap();
        let told = t.troubles().join("\n");
        assert!(
            t.troubles().len() == 1 && told.contains("given up") && told.contains(what),
            "{told}"
        );
        assert!(t.instance("a").is_none());
        let b = t.instance("b").unwrap();
        // The event itself is the last in it, as it was reserved when its trigger was pulled.
        assert_eq!(values(b.snapshot_buffer(0).unwrap()), [1, 10, 50]);
        assert_eq!(numbers(&t), [10, 50, 11]);
        // Its slot and name are free again.
        t.create_instance("a").unwrap();
    }
}

#[test]
fn a_broken_top_instance_leaves_the_others() {
    let _alone = alone();
    let t = tracer();
    furnish(&t);
    let (stream, next) = leave(t, |_| {});
    let mut state = crossed::state(&stream);
    state.cpus[0].shape.ring.clear();
    let t = Tracer::adopt(next, 2, 1, state, old::ALL).unwrap();
    assert!(t.troubles().join("").contains("top instance"));
    assert!(numbers(&t).is_empty());
    assert!(!t.option(TraceOption::IrqInfo));
    assert_eq!(t.filter_text(&old::number::DESC).as_deref(), Some("a > 9"));
    assert_eq!(
        numbers(&t.instance("a").unwrap()),
        [1, 10, 50, 11, 1],
        "events of others are kept"
    );
    number(&t, &old::number::DESC, 10);
    assert_eq!(numbers(&t), [10]);
}

#[test]
fn a_damaged_page_of_an_instance_costs_that_page_only() {
    let _alone = alone();
    let t = tracer();
    furnish(&t);
    let desc = &old::number::DESC;
    let b = t.instance("b").unwrap();
    (0..2000).for_each(|i| number(&t, desc, 100 + i));
    let before = b.stats(0).unwrap();
    drop(b);
    let (stream, next) = leave(t, |_| {});
    let state = crossed::state(&stream);
    let pa = state.instances[1].cpus[0].shape.ring[1].pa;
    let p = next.ptr(pa + 8, 8).unwrap();
    // SAFETY: simulated RAM that nobody else accesses now.
    unsafe { p.as_ptr().copy_from(5000u64.to_ne_bytes().as_ptr(), 8) };
    let t = Tracer::adopt(next, 2, 1, state, old::ALL).unwrap();
    assert_eq!(t.report().damaged_pages, 1);
    let stats = t.instance("b").unwrap().stats(0).unwrap();
    assert_eq!(stats.written(), before.written());
    assert_eq!(stats.overrun, before.overrun + t.report().lost_events);
}

/// A caret at any place that a life before names.
#[test]
fn a_complaint_of_an_earlier_life_is_shown_whatever_it_says() {
    let _alone = alone();
    let t = tracer();
    t.write_filter(&old::number::DESC, "a == x").unwrap_err();
    let (stream, next) = leave(t, |_| {});
    let mut state = crossed::state(&stream);
    let entry = &mut state.extra.error_log[0];
    entry.command = "x".repeat(100_000);
    entry.position = 99_999;
    let t = Tracer::adopt(next, 2, 1, state, old::ALL).unwrap();
    let mut text = String::new();
    t.write_error_log(&mut text).unwrap();
    assert!(text.contains("error: ") && text.ends_with(" ^\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the numbers and pages of the instances are turned into: a tracer that works; no panic, and no page that two use.
    #[test]
    fn any_damage_to_instances_is_survived(
        changes in prop::collection::vec(
            (0..3usize, 0..2usize, 0..10usize, prop_oneof![0..40u64, 0..4000u64, any::<u64>()]),
            1..5,
        ),
        bytes in prop::collection::vec((0..3usize, 0..4096usize, any::<u8>()), 0..8),
    ) {
        let _alone = alone();
        let t = tracer();
        furnish(&t);
        let (stream, next) = leave(t, |_| {});
        let mut state = crossed::state(&stream);
        for (which, at, value) in bytes {
            let shape = match which {
                0 => &state.cpus[0].shape,
                1 => &state.instances[1].cpus[0].shape,
                _ => &state.instances[1].extra.snapshot[0],
            };
            let p = next.ptr(shape.ring[0].pa + at as u64, 1).unwrap();
            // SAFETY: simulated RAM that nobody else accesses now.
            unsafe { p.as_ptr().write(value) };
        }
        let mut known = Vec::new();
        for_each_page(&state, |page| known.push(page));
        for (instance, cpu, which, value) in changes {
            let (cpus, extra) = match instance {
                0 => (&mut state.cpus, &mut state.extra),
                n => {
                    let instance = &mut state.instances[n - 1];
                    (&mut instance.cpus, &mut instance.extra)
                }
            };
            let shape = match extra.snapshot.get_mut(cpu) {
                Some(snapshot) if value % 2 == 0 => snapshot,
                _ => &mut cpus[cpu].shape,
            };
            match which {
                0 => shape.used = value as u32,
                1 => shape.committed = value,
                2 => shape.overrun = value,
                // One that has an owner already, or none that there is.
                3 => shape.ring[0].pa = known.get(value as usize).map_or(value, |page| page.pa),
                4 => shape.reader.order = value as u8 % 6,
                5 => shape.read_events = value,
                6 => cpus[cpu].size_kb = value,
                7 => extra.buffer_percent = Some(value as u8),
                8 => {
                    for saved in extra.conditions.iter_mut().flat_map(|c| &mut c.triggers) {
                        saved.count = value;
                        for hist in &mut saved.hist {
                            hist.key_words = value as u32;
                            hist.words.truncate(value as usize % 8);
                        }
                    }
                }
                _ => {
                    let keep = value as usize % 12;
                    extra.conditions.iter_mut().for_each(|c| {
                        c.filter.truncate(keep.min(c.filter.len()));
                        c.triggers.iter_mut().for_each(|t| t.command.truncate(keep));
                    });
                }
            }
        }
        // As the kernel does: what names memory that was not preserved as such is not even looked at.
        state.instances.retain(|instance| {
            let mut good = true;
            for_each_page(instance, |page| good &= known.contains(&page));
            good
        });
        let mut good = true;
        for_each_page(&state.cpus, |page| good &= known.contains(&page));
        for_each_page(&state.extra, |page| good &= known.contains(&page));
        prop_assume!(good);
        let others = state.instances.len();
        let t = match Tracer::adopt(next, 2, 1, state, old::ALL) {
            Ok(t) => t,
            Err(why) => {
                prop_assert_eq!(others, 0, "{}", why);
                return Ok(());
            }
        };
        let desc = &old::number::DESC;
        t.set_tracing_on(true);
        t.set_event_enabled(desc, true);
        (0..600).for_each(|i| number(&t, desc, i));
        for instance in t.instances() {
            instance.take_snapshot(None).unwrap();
        }
        let mut pages = std::collections::BTreeSet::new();
        t.for_each_page(|page| assert!(pages.insert(page), "{page:?} has two owners"));
    }
}
