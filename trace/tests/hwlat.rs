//! The tracer `hwlat`: what a sample finds, what is recorded and shown of it, what its files take, and that it crosses a kexec.

mod crossed;

use crossed::{alone, arrive, leave, machine};
use trace::fs::TraceFs;
use trace::fs::raw::Access;
use trace::mapped::Record;
use trace::mapped::format::Format;
use trace::options::TraceOption;
use trace::testing::TestPlatform;
use trace::tracer::{Found, HwlatMode, HwlatState, MAX_WIDTH_US, Sampling};
use trace::{Errno, Tracer};

const FOUND: Found = Found {
    inner_us: 12,
    outer_us: 1234567,
    count: 3,
    first_ns: 5_000_000_678,
    nmis: 0,
    nmi_us: 0,
};

fn tracer() -> (Tracer<TestPlatform>, TestPlatform) {
    let platform = machine(8);
    platform.set_step(0);
    (platform.tracer(&[]), platform)
}

/// What a sample of these pairs of readings finds, from 1000 on, where more than 10 us count; the last of them is beyond its width.
fn sample(pairs: &[(u64, u64)]) -> Option<Found> {
    let mut sampling = Sampling::new(1000, 100_000, 11_000);
    let (last, before) = pairs.split_last().unwrap();
    for (one, other) in before {
        assert!(sampling.pair(*one, *other), "{one}");
    }
    assert!(!sampling.pair(last.0, last.1));
    sampling.found(0, 0)
}

#[test]
fn a_sample_finds_gaps_within_pairs_of_readings_and_between_them() {
    // What comes before the first pair is no gap, and neither is what is as long as the threshold in whole microseconds.
    assert_eq!(
        sample(&[(50_000, 50_010), (61_009, 72_008), (100_000, 101_001)]),
        Some(Found {
            inner_us: 10,
            outer_us: 27,
            count: 1,
            first_ns: 101_001,
            nmis: 0,
            nmi_us: 0,
        })
    );
    assert_eq!(
        sample(&[(90_000, 90_010), (101_000, 101_000), (101_000, 111_999)]),
        None
    );
    assert_eq!(
        sample(&[(2000, 14_000), (14_010, 40_020), (90_000, 101_001)]),
        Some(Found {
            inner_us: 26,
            outer_us: 49,
            count: 3,
            first_ns: 14_000,
            nmis: 0,
            nmi_us: 0,
        })
    );
    // A clock that goes back finds nothing.
    assert_eq!(
        sample(&[(60_000, 50_000), (40_000, 49_000), (59_000, 101_001)]).map(|f| f.inner_us),
        Some(42)
    );
    let mut sampling = Sampling::new(0, 10, 5);
    assert!(!sampling.pair(0, 20));
    let found = sampling.found(2, 7_999).unwrap();
    assert_eq!((found.nmis, found.nmi_us), (2, 7));
}

#[test]
fn what_was_found_is_shown_as_in_linux() {
    let _alone = alone();
    let (t, p) = tracer();
    t.hwlat_found(&FOUND);
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    p.set_ns(7_000_000_000);
    t.hwlat_found(&FOUND);
    let found = Found {
        nmis: 2,
        nmi_us: 99,
        ..FOUND
    };
    t.hwlat_found(&found);
    let trace = TraceFs(&t).text("trace");
    assert!(
        trace.starts_with("# tracer: hwlat\n#\n# entries-in-buffer/entries-written: 2/2   #P:2\n")
    );
    let lines: Vec<&str> = (trace.lines().filter(|line| !line.starts_with('#')))
        .filter_map(|line| line.split_once(": "))
        .map(|(_, text)| text)
        .collect();
    assert_eq!(
        lines,
        [
            "#1     inner/outer(us):   12/1234567 ts:5.000000678 count:3",
            "#2     inner/outer(us):   12/1234567 ts:5.000000678 count:3 nmi-total:99 nmi-count:2"
        ]
    );
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "1234567\n");
    // Nothing is told while nothing is recorded, or by who has not heard yet.
    TraceFs(&t).put("tracing_on", "0").unwrap();
    t.hwlat_found(&FOUND);
    assert_eq!(t.hwlat_round().unwrap().width_ns, None);
    TraceFs(&t).put("tracing_on", "1").unwrap();
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    t.hwlat_found(&FOUND);
    assert_eq!(t.hwlat_round(), None);
    assert_eq!(TraceFs(&t).text("trace").matches("inner/outer").count(), 2);
}

#[test]
fn the_format_file_describes_the_record() {
    let _alone = alone();
    let (t, _) = tracer();
    let text = TraceFs(&t).text("events/ftrace/hwlat/format");
    assert_eq!(TraceFs(&t).text("events/ftrace/hwlat/id"), "15\n");
    assert!(
        text.contains("\tfield:s64 tv_sec;\toffset:32;\tsize:8;\tsigned:1;\n"),
        "{text}"
    );
    assert!(text.contains(
        "\nprint fmt: \"cnt:%u\\tts:%010llu.%010lu\\tinner:%llu\\touter:%llu\\tcount:%d\\tnmi-ts:%llu\\tnmi-count:%u\\n\", REC->seqnum, REC->tv_sec,"
    ), "{text}");
    let format = Format::parse(&text).unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    t.hwlat_found(&Found {
        nmis: 7,
        nmi_us: 8,
        ..FOUND
    });
    TraceFs(&t).put("buffer_percent", "0").unwrap();
    let mut bytes = Vec::new();
    let mut pipe = TraceFs(&t)
        .pipe("per_cpu/cpu0/trace_pipe_raw")
        .unwrap()
        .unwrap();
    pipe.next(&mut bytes).unwrap();
    // After the page's head and the event's own word.
    let words: Vec<core::sync::atomic::AtomicU32> = bytes[20..84]
        .chunks(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()).into())
        .collect();
    let record = Record::new(&words);
    let number = |name: &str| format.field(name).unwrap().number(record).unwrap();
    for (name, value) in [
        ("common_type", 15),
        ("duration", 12),
        ("outer_duration", 1234567),
        ("nmi_total_ts", 8),
        ("tv_sec", 5),
        ("tv_nsec", 678),
        ("nmi_count", 7),
        ("seqnum", 1),
        ("count", 3),
    ] {
        assert_eq!(number(name), value, "{name}");
    }
}

#[test]
fn its_files_take_what_can_be() {
    let _alone = alone();
    let (t, p) = tracer();
    let file = |name: &str| format!("hwlat_detector/{name}");
    assert_eq!(TraceFs(&t).text(&file("width")), "500000\n");
    assert_eq!(TraceFs(&t).text(&file("window")), "1000000\n");
    assert_eq!(
        TraceFs(&t).text(&file("mode")),
        "none [round-robin] per-cpu\n"
    );
    for (name, bad) in [
        ("width", "500001"),
        ("window", "499999"),
        ("window", "86400000001"),
        ("mode", "per_cpu"),
        ("mode", ""),
        ("width", "long"),
    ] {
        let refused = TraceFs(&t).write(&file(name), bad.as_bytes(), false);
        assert_eq!(refused, Err(Errno::EINVAL), "{name}: {bad}");
    }
    TraceFs(&t).put(&file("window"), "3000000").unwrap();
    assert_eq!(
        TraceFs(&t).put(&file("width"), &(MAX_WIDTH_US + 1).to_string()),
        Err(Errno::EINVAL)
    );
    TraceFs(&t).put(&file("width"), "20").unwrap();
    TraceFs(&t).put(&file("mode"), "per-cpu").unwrap();
    assert_eq!(
        TraceFs(&t).text(&file("mode")),
        "none round-robin [per-cpu]\n"
    );
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    let round = t.hwlat_round().unwrap();
    assert_eq!(round.width_ns, Some(20_000));
    assert_eq!(round.rest_ns, 2_999_980_000);
    assert_eq!(round.least_ns, 11_000);
    assert_eq!(round.mode, HwlatMode::PerCpu);
    // Another mode needs other threads.
    let told = p.told();
    TraceFs(&t).put(&file("mode"), "none").unwrap();
    assert_eq!(p.told(), told + 1);
    // It sleeps a little at least.
    TraceFs(&t).put(&file("window"), "20").unwrap();
    assert_eq!(t.hwlat_round().unwrap().rest_ns, 1_000_000);
}

#[test]
fn the_threshold_is_its_own_while_it_runs() {
    let _alone = alone();
    let (t, _) = tracer();
    assert_eq!(
        TraceFs(&t).text("available_tracers"),
        "hwlat wakeup irqsoff nop\n"
    );
    let thresh = |t: &Tracer<TestPlatform>| TraceFs(t).text("tracing_thresh");
    t.mark(b"before").unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    assert_eq!(thresh(&t), "10\n");
    assert!(!TraceFs(&t).text("trace").contains("before"));
    TraceFs(&t).put("tracing_thresh", "7").unwrap();
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert_eq!(thresh(&t), "0\n");
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    assert_eq!(thresh(&t), "7\n");
    // The other tracers have theirs, and begin anew.
    t.hwlat_found(&FOUND);
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    assert_eq!(thresh(&t), "0\n");
    assert_eq!(TraceFs(&t).text("tracing_max_latency"), "0\n");
    assert!(t.option(TraceOption::LatencyFormat));
    TraceFs(&t).put("tracing_thresh", "42").unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    assert_eq!(thresh(&t), "42\n");
    assert!(!t.option(TraceOption::LatencyFormat));
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert_eq!(thresh(&t), "42\n");
}

/// It keeps nothing in the snapshot's buffers.
#[test]
fn snapshots_and_mappings_go_with_it() {
    let _alone = alone();
    let (t, p) = tracer();
    let pages = p.owned().len();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    assert_eq!(p.owned().len(), pages);
    let raw = TraceFs(&t).raw("per_cpu/cpu0/trace_pipe_raw").unwrap();
    let access = Access {
        write: false,
        exec: false,
        shared: true,
    };
    let mapping = raw.unwrap().map(0, 1, access).unwrap();
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    assert_eq!(
        TraceFs(&t).put("current_tracer", "irqsoff"),
        Err(Errno::EBUSY)
    );
    assert!(t.hwlat_round().is_some());
    drop(mapping);
    TraceFs(&t).put("snapshot", "1").unwrap();
    TraceFs(&t).put("current_tracer", "irqsoff").unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    TraceFs(&t).put("snapshot", "1").unwrap();
}

#[test]
fn it_crosses_with_what_is_chosen() {
    let _alone = alone();
    let (t, _) = tracer();
    t.set_option(TraceOption::Overwrite, false);
    TraceFs(&t).put("tracing_thresh", "5").unwrap();
    TraceFs(&t).put("current_tracer", "hwlat").unwrap();
    TraceFs(&t).put("tracing_thresh", "6").unwrap();
    TraceFs(&t).put("hwlat_detector/width", "300").unwrap();
    TraceFs(&t).put("hwlat_detector/window", "4000").unwrap();
    TraceFs(&t).put("hwlat_detector/mode", "per-cpu").unwrap();
    t.hwlat_found(&FOUND);
    let (stream, next) = leave(t, |old, state| old.refresh_state(state).unwrap());
    let t = arrive(&stream, next, 1, &[]).unwrap();
    assert!(t.troubles().is_empty(), "{:?}", t.troubles());
    assert_eq!(next.told(), 1);
    t.hwlat_found(&FOUND);
    let trace = TraceFs(&t).text("trace");
    assert!(
        trace.contains(": #1 ") && trace.contains(": #2 "),
        "{trace}"
    );
    for (file, text) in [
        ("current_tracer", "hwlat\n"),
        ("tracing_thresh", "6\n"),
        ("tracing_max_latency", "1234567\n"),
        ("hwlat_detector/width", "300\n"),
        ("hwlat_detector/window", "4000\n"),
        ("hwlat_detector/mode", "none round-robin [per-cpu]\n"),
        ("options/overwrite", "0\n"),
    ] {
        assert_eq!(TraceFs(&t).text(file), text, "{file}");
    }
    TraceFs(&t).put("current_tracer", "nop").unwrap();
    assert_eq!(TraceFs(&t).text("tracing_thresh"), "5\n");
}

#[test]
fn what_nobody_can_have_chosen_is_left() {
    let _alone = alone();
    let good = HwlatState::default();
    for bad in [
        HwlatState { mode: 3, ..good },
        HwlatState {
            width_us: MAX_WIDTH_US + 1,
            ..good
        },
        HwlatState {
            window_us: 1,
            ..good
        },
        HwlatState {
            window_us: u64::MAX,
            ..good
        },
    ] {
        let (t, p) = tracer();
        TraceFs(&t).put("current_tracer", "hwlat").unwrap();
        let mut state = t.state().unwrap();
        state.extra.latency.hwlat = bad;
        let mut pages = Vec::new();
        t.for_each_page(|page| pages.push(page));
        let next = p.kexec(&pages);
        std::mem::forget(t);
        let t = Tracer::adopt(next, 2, 1, state, &[]).unwrap();
        assert_eq!(t.hwlat(), good, "{bad:?}");
        assert!(t.hwlat_round().is_some());
    }
}
