//! Files that use up what they show, markers, and options.

use trace::fs::{Next, TraceFs};
use trace::testing::TestPlatform;
use trace::{Errno, Tracer, page};

/// A tracer of two CPUs without events but markers.
fn tracer() -> Tracer<TestPlatform> {
    let tracer = TestPlatform::new(4).tracer(&[]);
    tracer.platform().set_cpu(0);
    tracer.platform().set_step(1000);
    tracer
}

fn mark(fs: &TraceFs<'_, TestPlatform>, text: &str) {
    fs.write("trace_marker", text.as_bytes(), false).unwrap();
}

/// What is read of `path` until there is nothing, line by line without what stands before the event's name, and why there
/// is nothing.
fn drain(fs: &TraceFs<'_, TestPlatform>, path: &str) -> (Vec<String>, Next) {
    let mut pipe = fs.pipe(path).unwrap().unwrap();
    let mut bytes = Vec::new();
    loop {
        match pipe.next(&mut bytes).unwrap() {
            Next::Data => {}
            end => {
                assert_eq!(pipe.ready(), end == Next::End);
                let text = String::from_utf8(bytes).unwrap();
                let strip = |line: &str| match line.split_once("tracing_mark_write: ") {
                    Some((_, text)) => text.to_owned(),
                    None => line.to_owned(),
                };
                return (text.lines().map(strip).collect(), end);
            }
        }
    }
}

#[test]
fn each_event_is_read_once_and_in_the_order_of_time() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    for i in 0..10 {
        tracer.platform().set_cpu(i % 2);
        mark(&fs, &format!("line {i}"));
    }
    let mut pipe = fs.pipe("trace_pipe").unwrap().unwrap();
    assert!(pipe.ready());
    let mut bytes = Vec::new();
    assert_eq!(pipe.next(&mut bytes), Ok(Next::Data));
    let line = String::from_utf8(bytes).unwrap();
    assert!(line.ends_with(": tracing_mark_write: line 0\n"), "{line}");
    assert!(
        line.starts_with("          <idle>-0       [000] ....."),
        "{line}"
    );
    // What was handed out is gone from `trace`, and nothing else is.
    let shown = fs.text("trace");
    assert!(
        !shown.contains("line 0") && shown.contains("line 1\n"),
        "{shown}"
    );
    assert!(fs.text("per_cpu/cpu0/stats").contains("\nread events: 1\n"));
    drop(pipe);
    let (lines, end) = drain(&fs, "trace_pipe");
    let expected: Vec<String> = (1..10).map(|i| format!("line {i}")).collect();
    assert_eq!((lines, end), (expected, Next::Wait));
    assert_eq!(drain(&fs, "trace_pipe").0.len(), 0);

    tracer.platform().set_cpu(1);
    mark(&fs, "on one");
    assert_eq!(drain(&fs, "per_cpu/cpu0/trace_pipe").0.len(), 0);
    assert_eq!(drain(&fs, "per_cpu/cpu1/trace_pipe").0, ["on one"]);
}

#[test]
fn lost_events_are_told_in_order() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    for i in 0..1000 {
        mark(&fs, &format!("line {i:04}"));
    }
    let (lines, _) = drain(&fs, "trace_pipe");
    let lost: usize = lines[0]
        .strip_prefix("CPU:0 [LOST ")
        .and_then(|rest| rest.strip_suffix(" EVENTS]"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(lost + lines.len() - 1, 1000);
    assert_eq!(lines[1], format!("line {lost:04}"));
    assert_eq!(lines.iter().filter(|l| l.contains("LOST")).count(), 1);
    // With the old ones kept, nothing is lost before what is read, and the rest is dropped.
    fs.write("options/overwrite", b"0", true).unwrap();
    let refused = (0..1000)
        .filter(|i| {
            fs.write("trace_marker", format!("line {i:04}").as_bytes(), false) == Err(Errno::EBADF)
        })
        .count();
    let (lines, _) = drain(&fs, "trace_pipe");
    assert_eq!(lines.len() + refused, 1000);
    assert_eq!(lines[0], "line 0000");
    assert!(
        fs.text("per_cpu/cpu0/stats")
            .contains(&format!("\ndropped events: {refused}\n"))
    );
}

#[test]
fn who_stops_at_the_line_of_a_loss_loses_no_event() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    for path in ["trace_pipe", "per_cpu/cpu0/trace_pipe"] {
        fs.write("trace", b"", true).unwrap();
        for i in 0..1000 {
            mark(&fs, &format!("line {i:04}"));
        }
        let mut pipe = fs.pipe(path).unwrap().unwrap();
        let mut bytes = Vec::new();
        assert_eq!(pipe.next(&mut bytes), Ok(Next::Data));
        drop(pipe);
        let line = String::from_utf8(bytes).unwrap();
        let lost: usize = line
            .strip_prefix("CPU:0 [LOST ")
            .and_then(|rest| rest.strip_suffix(" EVENTS]\n"))
            .unwrap()
            .parse()
            .unwrap();
        assert!(fs.text("per_cpu/cpu0/stats").contains("\nread events: 0\n"));
        // The event stays, also if a writer comes round the ring; what comes behind it is another loss.
        for i in 1000..2000 {
            mark(&fs, &format!("line {i:04}"));
        }
        // The loss was told, and is not again.
        let (lines, _) = drain(&fs, path);
        assert_eq!(lines[0], format!("line {lost:04}"), "{path}");
        let again: Vec<&String> = lines.iter().filter(|l| l.contains("LOST")).collect();
        assert_eq!(again.len(), 1, "{path}: {again:?}");
        assert_eq!(lines.last().unwrap(), "line 1999");
    }
}

#[test]
fn it_ends_when_something_was_read_and_tracing_is_off() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    fs.write("tracing_on", b"0", true).unwrap();
    assert_eq!(drain(&fs, "trace_pipe").1, Next::Wait);
    fs.write("tracing_on", b"1", true).unwrap();
    mark(&fs, "one");
    fs.write("tracing_on", b"0", true).unwrap();
    assert_eq!(drain(&fs, "trace_pipe"), (vec!["one".into()], Next::End));
}

#[test]
fn pages_come_when_the_buffer_is_as_full_as_asked() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let path = "per_cpu/cpu0/trace_pipe_raw";
    for (percent, pages_needed) in [("0", 1), ("50", 2), ("100", 4)] {
        fs.write("trace", b"", true).unwrap();
        fs.write("buffer_percent", percent.as_bytes(), true)
            .unwrap();
        let mut pipe = fs.pipe(path).unwrap().unwrap();
        let mut bytes = Vec::new();
        let mut written = 0;
        let touched = || tracer.stats(0).unwrap().pages_touched;
        let before = touched();
        while !pipe.ready() {
            assert_eq!(pipe.next(&mut bytes), Ok(Next::Wait));
            mark(&fs, "some text that takes up room");
            written += 1;
        }
        assert_eq!(touched() - before + 1, pages_needed, "{percent}%");
        while pipe.next(&mut bytes) == Ok(Next::Data) {}
        assert_eq!(bytes.len() % 4096, 0);
        let mut events = 0;
        for page in bytes.chunks(4096) {
            let commit = page::header(page).unwrap().commit;
            let mut cursor = page::Cursor::new(0);
            while let Ok(Some(_)) = cursor.next(&page[page::HEADER_SIZE..][..commit]) {
                events += 1;
            }
        }
        assert_eq!(events, written, "{percent}%");
    }
    // Where nothing more will come, what there is need not be enough.
    mark(&fs, "last");
    let mut pipe = fs.pipe(path).unwrap().unwrap();
    assert!(!pipe.ready());
    fs.write("tracing_on", b"0", true).unwrap();
    assert!(pipe.ready());
    let mut bytes = Vec::new();
    assert_eq!(pipe.next(&mut bytes), Ok(Next::Data));
    assert_eq!(pipe.next(&mut bytes), Ok(Next::End));
    for wrong in ["101", "-1", "\n", "half"] {
        assert_eq!(
            fs.write("buffer_percent", wrong.as_bytes(), true),
            Err(Errno::EINVAL)
        );
        assert_eq!(fs.text("buffer_percent"), "100\n");
    }
}

#[test]
fn raw_markers() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let raw = |data: &[u8]| fs.write("trace_marker_raw", data, false);
    raw(b"\x01\0\0\0ab").unwrap();
    raw(b"\xef\xbe\xad\xde").unwrap();
    raw(&[0x41; 600]).unwrap();
    assert_eq!(raw(b"abc"), Err(Errno::EINVAL));
    assert_eq!(raw(&[0; 4080]), Err(Errno::EINVAL));
    let text = fs.text("trace");
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|l| Some(l.split_once(": ")?.1))
        .collect();
    let lines = &lines[lines.len() - 3..];
    assert_eq!(lines[0], "# 1 buf: 61 62 00 00");
    assert_eq!(lines[1], "# deadbeef buf:");
    assert_eq!(lines[2].split(' ').count(), 3 + 596);
    let format = fs.text("events/ftrace/raw_data/format");
    assert!(format.starts_with("name: raw_data\nID: 18\nformat:\n"));
    assert!(format.ends_with(
        "\tfield:unsigned int id;\toffset:8;\tsize:4;\tsigned:0;
\tfield:char buf[];\toffset:12;\tsize:0;\tsigned:0;

print fmt: \"id:%04x %08x\", REC->id, (int)REC->buf[0]\n"
    ));
    assert_eq!(fs.text("events/ftrace/raw_data/id"), "18\n");
    fs.write("tracing_on", b"0", true).unwrap();
    assert_eq!(raw(b"\x01\0\0\0"), Err(Errno::EBADF));
    assert_eq!(raw(b"abc"), Err(Errno::EINVAL));
}

#[test]
fn options_do_what_linuxs_do() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let all = "nofields\nannotate\ncontext-info\nnolatency-format\nrecord-cmd\noverwrite\nirq-info\nmarkers\nnopause-on-trace\nnostacktrace\nnopersist\n";
    assert_eq!(fs.text("trace_options"), all);
    mark(&fs, "text");
    fs.write("trace_options", b"noirq-info\n", true).unwrap();
    assert_eq!(fs.text("options/irq-info"), "0\n");
    assert_eq!(
        fs.text("trace"),
        "# tracer: nop
#
# entries-in-buffer/entries-written: 1/1   #P:2
#
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
#              | |         |         |         |
          <idle>-0       [000]      1.000000: tracing_mark_write: text
"
    );
    fs.write("options/context-info", b"0", true).unwrap();
    assert_eq!(
        fs.text("trace"),
        "# tracer: nop\n#\ntracing_mark_write: text\n"
    );
    fs.write("trace_options", b"context-info", true).unwrap();
    fs.write("options/irq-info", b"1", true).unwrap();
    fs.write("trace_options", b"nomarkers", true).unwrap();
    assert_eq!(fs.write("trace_marker", b"x", false), Err(Errno::EINVAL));
    assert_eq!(
        fs.write("trace_marker_raw", b"\0\0\0\0", false),
        Err(Errno::EINVAL)
    );
    fs.write("trace_options", b"markers", true).unwrap();
    fs.write("options/pause-on-trace", b"1", true).unwrap();
    fs.text("trace");
    assert_eq!(fs.text("tracing_on"), "1\n");
    fs.write("options/pause-on-trace", b"0", true).unwrap();
    for wrong in [
        "nothing",
        "no",
        "nono",
        "overwrite markers",
        "x".repeat(64).as_str(),
    ] {
        assert_eq!(
            fs.write("trace_options", wrong.as_bytes(), true),
            Err(Errno::EINVAL),
            "{wrong}"
        );
    }
    for wrong in ["2", "\n", "on"] {
        assert_eq!(
            fs.write("options/markers", wrong.as_bytes(), true),
            Err(Errno::EINVAL),
            "{wrong}"
        );
    }
    assert_eq!(fs.text("trace_options"), all);
    assert_eq!(fs.kind("options/none").unwrap_err(), Errno::ENOENT);
}

#[test]
fn buffers_that_lost_events_are_annotated() {
    let tracer = tracer();
    let fs = TraceFs(&tracer);
    let begins = |text: &str| text.matches("##### CPU 1 buffer started ####\n").count();
    mark(&fs, "first");
    tracer.platform().set_cpu(1);
    mark(&fs, "second");
    assert_eq!(begins(&fs.text("trace")), 0, "nothing was lost");
    for _ in 0..1000 {
        mark(&fs, "more");
    }
    let text = fs.text("trace");
    assert_eq!(begins(&text), 1);
    assert!(
        !text.contains("CPU 0 buffer started"),
        "not before the first line"
    );
    assert_eq!(begins(&fs.text("per_cpu/cpu1/trace")), 0);
    fs.write("options/annotate", b"0", true).unwrap();
    assert_eq!(begins(&fs.text("trace")), 0);
}
