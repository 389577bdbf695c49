//! What a person has chosen crosses a kexec: instances, options, filters, triggers, histograms, snapshots, names of tasks; and,
//! in `damage`, what of that is doubted.

#[path = "../crossed/mod.rs"]
mod crossed;
mod damage;

use crossed::alone;
use handover::KState;
use handover::state::{STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
use trace::errno::Errno;
use trace::event::EventDesc;
use trace::event::hist::SPARE_ENTRIES;
use trace::fs::TraceFs;
use trace::mapped::format::{Format, FormatError};
use trace::options::TraceOption;
use trace::ring::CpuBuffer;
use trace::testing::TestPlatform;
use trace::{ClockId, Context, Instance, Tracer};

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
    platform.tracer(old::ALL)
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
