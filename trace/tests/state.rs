//! What a person has chosen crosses a kexec: instances, options, filters, triggers, histograms, snapshots, names of tasks.

mod crossed;

use crossed::alone;
use handover::KState;
use handover::mem::Memory;
use handover::state::{STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size, for_each_page};
use proptest::prelude::*;
use trace::errno::Errno;
use trace::event::EventDesc;
use trace::event::hist::SPARE_ENTRIES;
use trace::fs::TraceFs;
use trace::mapped::format::{Format, FormatError};
use trace::options::TraceOption;
use trace::ring::CpuBuffer;
use trace::testing::TestPlatform;
use trace::{ClockId, Config, Context, Instance, Tracer, TracerState};

/// Counts the allocations of each thread.
struct Counting;

std::thread_local! {
    static ALLOCATIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { std::alloc::System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(dead_code)]
fn no_tracer() -> Option<&'static Tracer<TestPlatform>> {
    None
}

mod old {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// Stays.
        event test:number(a: u32) { print("a=%u", a) }
        /// Loses a field.
        event test:shrinks(a: u32, b: u32) { print("a=%u b=%u", a, b) }
    }
}

mod new {
    trace::define_events! {
        tracer = crate::no_tracer;
        /// Without `b`.
        event test:shrinks(a: u32) { print("a=%u", a) }
        /// As before.
        event test:number(a: u32) { print("a=%u", a) }
    }
}

fn tracer() -> Tracer<TestPlatform> {
    let platform = crossed::machine(8);
    let config = Config {
        nr_cpus: 2,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    Tracer::new(platform, config, old::ALL).unwrap()
}

fn number(tracer: &Tracer<TestPlatform>, desc: &'static EventDesc, a: u32) {
    if desc.enabled() {
        tracer.record(desc, None, desc.size, 0, |r| r.put(8, &a.to_ne_bytes()));
    }
}

fn values(buffer: &CpuBuffer<TestPlatform>) -> Vec<u32> {
    let mut iter = buffer.iter().unwrap();
    let mut found = Vec::new();
    while let Some(entry) = iter.next() {
        found.push(u32::from_ne_bytes(entry.payload[8..12].try_into().unwrap()));
    }
    found
}

fn numbers(instance: &Instance<TestPlatform>) -> Vec<u32> {
    values(instance.buffer(0).unwrap())
}

fn hist(instance: &Instance<TestPlatform>, event: &'static EventDesc) -> String {
    let mut text = String::new();
    instance.print_hist(event, &mut text).unwrap();
    text
}

fn triggers(instance: &Instance<TestPlatform>, event: &'static EventDesc) -> String {
    let mut text = String::new();
    instance.print_trigger(event, &mut text).unwrap();
    text
}

/// As bytes of a stream; and the machine on the other side. `late` happens after the description.
fn leave(
    old: Tracer<TestPlatform>,
    late: impl FnOnce(&Tracer<TestPlatform>),
) -> (Vec<u8>, TestPlatform) {
    crossed::leave(old, |old, state| {
        late(old);
        let before = ALLOCATIONS.get();
        old.refresh_state(state).unwrap();
        assert_eq!(ALLOCATIONS.get(), before, "nothing is allocated any more");
    })
}

fn arrive(
    stream: &[u8],
    platform: TestPlatform,
    generation: u32,
    events: &'static [&'static EventDesc],
) -> Tracer<TestPlatform> {
    crossed::arrive(stream, platform, generation, events).unwrap()
}

/// Two instances, with one of everything.
fn furnish(t: &Tracer<TestPlatform>) {
    let desc = &old::number::DESC;
    t.set_event_enabled(desc, true);
    t.write_filter(desc, "a > 9").unwrap();
    t.set_option(TraceOption::IrqInfo, false);
    t.set_buffer_percent(75);
    t.platform().set_context(Context {
        pid: 1,
        ..Context::default()
    });
    let a = t.create_instance("a").unwrap();
    a.set_event_enabled(desc, true);
    a.set_clock(ClockId::Counter).unwrap();
    a.set_option(TraceOption::Overwrite, false);
    a.set_subbuf_order(1).unwrap();
    a.resize(Some(1), 64).unwrap();
    let trigger = |text| a.write_trigger(old::ALL, desc, text, false);
    trigger("hist:keys=a").unwrap();
    trigger("traceoff:3 if a == 99").unwrap();
    let b = t.create_instance("b").unwrap();
    b.write_trigger(old::ALL, desc, "snapshot:2 if a == 50", false)
        .unwrap();
    b.set_event_enabled(desc, true);
    for value in [1, 10, 50, 11, 1] {
        number(t, desc, value);
    }
}

#[test]
fn all_that_is_chosen_crosses_ten_times() {
    let _alone = alone();
    let mut t = tracer();
    let desc = &old::number::DESC;
    furnish(&t);
    let mut at_a = vec![1, 10, 50, 11, 1];
    let mut at_b = vec![11, 1];
    let mut at_top = vec![10, 50, 11];
    let mut pages = 0;
    for hop in 1..=10u32 {
        let (stream, next) = leave(t, |t| number(t, desc, 1));
        at_a.push(1);
        at_b.push(1);
        t = arrive(&stream, next, hop, old::ALL);
        assert_eq!(t.troubles(), [] as [String; 0]);
        assert_eq!(t.report().damaged_pages + t.report().lost_events, 0);
        assert_eq!(t.report().late_events, 0);

        assert_eq!(numbers(&t), at_top);
        assert_eq!(t.filter_text(desc).as_deref(), Some("a > 9"));
        assert!(!t.option(TraceOption::IrqInfo));
        assert_eq!(t.buffer_percent(), 75);
        assert_eq!(t.task_name(1).as_str(), "init");
        assert!(t.saved_cmdlines().any(|(pid, _)| pid == 1));

        let names: Vec<_> = t.instances().iter().map(|i| i.name().to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        let a = t.instance("a").unwrap();
        assert_eq!(numbers(&a), at_a, "hop {hop}");
        assert_eq!(a.clock(), ClockId::Counter);
        assert!(!a.option(TraceOption::Overwrite) && !a.buffer(1).unwrap().overwrite());
        assert_eq!(a.subbuf_order(), 1);
        assert_eq!((a.size_kb(0), a.size_kb(1)), (Some(16), Some(64)));
        let shown = hist(&a, desc);
        assert!(
            shown.contains(&format!("{{ a:          1 }} hitcount: {:10}", 2 + hop)),
            "{shown}"
        );
        assert!(shown.contains(&format!("Hits: {}", at_a.len())), "{shown}");
        let b = t.instance("b").unwrap();
        assert_eq!(numbers(&b), at_b);
        // The event itself is the last in it, as it was reserved when its trigger was pulled.
        assert_eq!(values(b.snapshot_buffer(0).unwrap()), [1, 10, 50]);
        assert_eq!(
            triggers(&b, desc),
            "snapshot:count=1 if a == 50\n",
            "hop {hop}"
        );
        // And on it goes, in all of them.
        number(&t, desc, 20 + hop);
        for list in [&mut at_top, &mut at_a, &mut at_b] {
            list.push(20 + hop);
        }
        let owned = t.platform().owned().len();
        assert!(pages == 0 || pages == owned, "no page is lost or made");
        pages = owned;
    }
    let a = t.instance("a").unwrap();
    number(&t, desc, 99);
    assert!(!a.tracing_on());
    let left = triggers(&a, desc);
    assert!(left.contains("traceoff:count=2 if a == 99"), "{left}");
    drop(a);
    t.remove_instance("a").unwrap();
    t.remove_instance("b").unwrap();
    assert_eq!(t.remove_instance("b").unwrap_err(), Errno::ENOENT);
    let platform = *t.platform();
    drop(t);
    assert!(platform.owned().is_empty());
}

#[test]
fn what_has_no_field_any_more_is_told_and_all_else_kept() {
    let _alone = alone();
    let t = tracer();
    let desc = &old::shrinks::DESC;
    t.set_event_enabled(desc, true);
    t.write_filter(desc, "b == 1").unwrap();
    let a = t.create_instance("a").unwrap();
    a.set_event_enabled(desc, true);
    a.write_trigger(old::ALL, desc, "hist:keys=b", false)
        .unwrap();
    a.write_trigger(old::ALL, desc, "traceoff if a == 7", false)
        .unwrap();
    drop(a);
    let (stream, next) = leave(t, |_| {});
    let t = arrive(&stream, next, 1, new::ALL);
    let troubles = t.troubles().join("\n");
    assert_eq!(t.troubles().len(), 2, "{troubles}");
    assert!(
        troubles.contains("b == 1") && troubles.contains("keys=b"),
        "{troubles}"
    );
    let a = t.instance("a").unwrap();
    let desc = &new::shrinks::DESC;
    assert!(a.event_enabled(desc) && t.event_enabled(desc));
    assert_eq!(triggers(&a, desc), "traceoff:unlimited if a == 7\n");
    number(&t, desc, 7);
    assert!(!a.tracing_on() && t.tracing_on());
}

/// User programs find the layout of what an earlier kernel recorded, by its number.
#[test]
fn formats_of_earlier_kernels_are_there() {
    let _alone = alone();
    let t = tracer();
    let path = "events/foreign_formats";
    let read = |t: &Tracer<TestPlatform>, path: &str| {
        let mut text = String::new();
        TraceFs(t).read(path, &mut text).unwrap();
        text
    };
    assert_eq!(read(&t, path), "");
    let theirs = read(&t, "events/test/shrinks/format");
    let (stream, next) = leave(t, |_| {});
    let t = arrive(&stream, next, 1, new::ALL);
    let shown = read(&t, path);
    assert_eq!(shown, format!("system: test\n{theirs}"));
    let [format] = &Format::parse_all(&shown).unwrap()[..] else {
        panic!("{shown}");
    };
    assert_eq!(format, &Format::parse(&theirs).unwrap());
    let ours = Format::parse(&read(&t, "events/test/shrinks/format")).unwrap();
    assert!(format.field("b").is_some() && ours.field("b").is_none());
    assert_ne!(format.id, ours.id);
    // Several stand after each other; what is wrong is told by its line.
    let two = shown.repeat(2);
    assert_eq!(Format::parse_all(&two).unwrap().len(), 2);
    let lines = shown.lines().count();
    let bad = two.clone() + &shown.replace("ID: ", "ID: x");
    assert_eq!(Format::parse_all(&bad), Err(FormatError(2 * lines + 3)));
    assert_eq!(Format::parse_all(&theirs), Err(FormatError(1)));
    assert_eq!(Format::parse_all("system: test\n"), Err(FormatError(0)));
    assert_eq!(Format::parse_all(""), Ok(Vec::new()));
}

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

/// What the kernels wrote that knew no instances.
mod v1 {
    use super::{ClockId, KState};
    use trace::Boundary;
    use trace::event::SavedEvent;
    use trace::tracer::CpuState;

    #[derive(Debug, KState)]
    #[kstate(id = 0x7472_6163, version = 1)]
    pub struct TracerState {
        pub generation: u32,
        pub tracing_on: bool,
        pub current_tracer: String,
        pub clock: ClockId,
        pub counter: u64,
        pub cpus: Vec<CpuState>,
        pub events: Vec<SavedEvent>,
        pub boundaries: Vec<Boundary>,
    }
}

#[test]
fn a_state_of_version_1_is_read_and_one_of_version_2_refused_by_it() {
    let _alone = alone();
    let t = tracer();
    t.set_event_enabled(&old::number::DESC, true);
    number(&t, &old::number::DESC, 3);
    let (stream, next) = leave(t, |_| {});
    let refused = StreamReader::new(&stream)
        .unwrap()
        .get::<v1::TracerState>(0)
        .unwrap_err();
    assert!(refused.to_string().contains("version 2"), "{refused}");
    let now = crossed::state(&stream);
    let older = v1::TracerState {
        generation: now.generation,
        tracing_on: now.tracing_on,
        current_tracer: now.current_tracer,
        clock: now.clock,
        counter: now.counter,
        cpus: now.cpus,
        events: now.events,
        boundaries: now.boundaries,
    };
    let mut stream = vec![0; encoded_size(&older) + STREAM_OVERHEAD];
    let mut writer = StreamWriter::new(&mut stream);
    writer.put(0, &older).unwrap();
    let used = writer.finish().unwrap();
    let t = arrive(&stream[..used], next, 1, old::ALL);
    assert_eq!(numbers(&t), [3]);
    assert_eq!(t.options(), TraceOption::DEFAULT);
    assert_eq!(t.buffer_percent(), 50);
    assert!(t.event_enabled(&old::number::DESC));
    assert!(t.instances().is_empty() && t.troubles().is_empty());
}

#[test]
fn keys_that_come_after_the_description_cross() {
    let _alone = alone();
    let mut t = tracer();
    let desc = &old::number::DESC;
    let a = t.create_instance("a").unwrap();
    // One of numbers, and one with text of a task's name beside them; both empty when they are described first.
    for text in ["hist:keys=a:size=128", "hist:keys=a,common_pid.execname"] {
        a.write_trigger(old::ALL, desc, text, false).unwrap();
    }
    drop(a);
    for hop in 0..3u32 {
        let (stream, next) = leave(t, |t| {
            for i in 0..10 {
                number(t, desc, u32::MAX - 100 * hop - i);
                number(t, desc, u32::MAX);
            }
        });
        t = arrive(&stream, next, hop + 1, old::ALL);
        assert_eq!(t.troubles(), [] as [String; 0]);
        // And the new life takes new keys at once.
        (0..20).for_each(|i| number(&t, desc, 100 * hop + i));
        let shown = hist(&t.instance("a").unwrap(), desc);
        let (hits, keys) = (40 * (hop + 1), 30 * (hop + 1));
        let totals = format!("Hits: {hits}\n    Entries: {keys}\n    Dropped: 0\n");
        assert_eq!(shown.matches(&totals).count(), 2, "{shown}");
    }
    // A table as full as it gets is described whole, and no more than that.
    (0..200).for_each(|i| number(&t, desc, 5000 + i));
    let (stream, next) = leave(t, |t| (0..100).for_each(|i| number(t, desc, 6000 + i)));
    let t = arrive(&stream, next, 4, old::ALL);
    let shown = hist(&t.instance("a").unwrap(), desc);
    assert!(
        shown.contains("Entries: 128\n    Dropped: 262\n"),
        "{shown}"
    );
}

/// A trigger that is pulled when the room is measured already.
#[test]
fn an_event_that_a_trigger_switches_late_crosses_so() {
    let _alone = alone();
    let mut t = tracer();
    let (number_desc, shrinks) = (&old::number::DESC, &old::shrinks::DESC);
    let a = t.create_instance("a").unwrap();
    a.set_event_enabled(number_desc, true);
    drop(a);
    for (hop, trigger, on) in [
        (1, "enable_event:test:shrinks", true),
        (2, "disable_event:test:shrinks", false),
    ] {
        let a = t.instance("a").unwrap();
        a.write_trigger(old::ALL, number_desc, trigger, false)
            .unwrap();
        drop(a);
        let (stream, next) = leave(t, |t| number(t, number_desc, hop));
        t = arrive(&stream, next, hop, old::ALL);
        let a = t.instance("a").unwrap();
        assert!(a.event_enabled(number_desc));
        assert_eq!(a.event_enabled(shrinks), on, "hop {hop}");
        assert!(!t.event_enabled(shrinks));
        a.write_trigger(old::ALL, number_desc, &format!("!{trigger}"), false)
            .unwrap();
    }
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

#[test]
fn a_state_is_refreshed_only_in_its_shape() {
    let _alone = alone();
    let t = tracer();
    furnish(&t);
    let desc = &old::number::DESC;
    let mut state = t.state().unwrap();
    // Keys that the histogram did not have take the description's spare entries, then they count as dropped. Doing it again
    // changes nothing.
    let spare = SPARE_ENTRIES as u32;
    (0..spare + 3).for_each(|i| number(&t, desc, 1000 + i));
    number(&t, desc, 1);
    for _ in 0..2 {
        t.refresh_state(&mut state).unwrap();
        let saved = &state.instances[0].extra.conditions[0].triggers;
        let hist = saved.iter().find_map(|t| t.hist.first()).unwrap();
        assert_eq!((hist.hits, hist.dropped), (6 + u64::from(spare), 3));
    }
    t.take_snapshot(None).unwrap();
    assert!(t.refresh_state(&mut state).is_err());
    let mut state = t.state().unwrap();
    t.create_instance("c").unwrap();
    assert!(t.refresh_state(&mut state).is_err());
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
