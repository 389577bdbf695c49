//! `test.d/00basic`.

use super::{enter, events, marked, refused};
use tests::{Guest, Setup};

/// Bytes of `/boot/long`: as many as a sub-buffer of 32 KiB has for data.
const LONG: usize = 32 * 1024 - 16;

#[test]
fn basic() {
    // More than a line that can be typed.
    let long = "X".repeat(LONG);
    // With one CPU, what is written stands in the buffer of that.
    let mut guest = Setup::new().smp(1).file("long", long).boot();
    enter(&mut guest);
    basic1_to_4(&mut guest);
    trace_marker(&mut guest);
    trace_marker_raw(&mut guest);
    trace_pipe(&mut guest);
    snapshot(&mut guest);
    snapshot1(&mut guest);
    ringbuffer_size(&mut guest);
    ringbuffer_subbuf_size(&mut guest);
    options(&mut guest);
    guest.poweroff();
}

/// `basic1.tc` (control files are there), `basic2.tc` (a tracer can be chosen), `basic3.tc` (trace clocks),
/// `basic4.tc` (a wrong clock or tracer is refused).
fn basic1_to_4(guest: &mut Guest) {
    for file in ["available_tracers", "trace_clock", "trace"] {
        guest.ok(&format!("cat {file}"));
    }
    for tracer in guest.ok("cat available_tracers").split_whitespace() {
        guest.ok(&format!("echo {tracer} > current_tracer"));
        assert_eq!(guest.ok("cat current_tracer").trim(), tracer);
    }
    let clocks = guest.ok("cat trace_clock").replace(['[', ']'], "");
    for clock in clocks.split_whitespace() {
        guest.ok(&format!("echo {clock} > trace_clock"));
        assert!(guest.ok("cat trace_clock").contains(&format!("[{clock}]")));
    }
    guest.ok("echo local > trace_clock");
    refused(guest, "nothing", "current_tracer", "EINVAL");
    refused(guest, "nothing", "trace_clock", "EINVAL");
    guest.refused("echo 1 > README");
    guest.refused("cat nothing");
}

/// The bytes of a sub-buffer that are for data, as the selftests read them.
fn data_size(guest: &mut Guest) -> usize {
    let header = guest.ok("cat events/header_page");
    let data = header.lines().find(|line| line.contains("char data;"));
    let size = data.and_then(|line| line.split_once("size:")?.1.split_once(';'));
    size.and_then(|(size, _)| size.parse().ok())
        .unwrap_or_else(|| panic!("{header}"))
}

/// `trace_marker.tc`: what is written is there, a long line in pieces that join to the whole.
fn trace_marker(guest: &mut Guest) {
    guest.ok("echo > trace");
    let long = "X".repeat(data_size(guest) - 2);
    guest.ok(&format!("echo -n {long} > trace_marker"));
    let text = guest.ok("cat trace");
    assert!(events(&text) > 1, "the line was broken");
    assert_eq!(marked(&text), long);
    guest.ok("echo > trace");
    guest.ok("echo 0 > tracing_on");
    let why = guest.refused("echo unheard > trace_marker");
    assert!(why.contains("(EBADF)"), "{why}");
    guest.ok("echo 1 > tracing_on");
}

/// `trace_marker_raw.tc`: three bytes are too few, a page's data too many; what fits is there, rounded up to four bytes.
fn trace_marker_raw(guest: &mut Guest) {
    guest.ok("echo > trace");
    let why = guest.refused("echo -n abc > trace_marker_raw");
    assert!(why.contains("(EINVAL)"), "{why}");
    let large = "X".repeat(data_size(guest));
    let why = guest.refused(&format!(
        "echo -ne '\\xef\\xbe\\xad\\xde{large}' > trace_marker_raw"
    ));
    assert!(why.contains("(EINVAL)"), "{why}");
    let counts = || (1..=10).chain(101..=110).chain(1001..=1010usize);
    for count in counts() {
        let data = "X".repeat(count);
        let (low, high) = (count & 0xff, count >> 8);
        guest.ok(&format!(
            "echo -ne '\\x{low:02x}\\x{high:02x}\\x00\\x00{data}' > trace_marker_raw"
        ));
    }
    let text = guest.ok("cat trace");
    for count in counts() {
        let start = format!(": # {count:x} buf: ");
        let line = text
            .lines()
            .find_map(|line| Some(line.split_once(&start)?.1));
        let bytes = line.unwrap_or_else(|| panic!("{start}\n{text}"));
        assert_eq!(
            bytes.split(' ').count(),
            count.next_multiple_of(4),
            "{text}"
        );
    }
}

/// `trace_pipe.tc`: `trace` does not use events up, `trace_pipe` does; it blocks, and ctrl-c ends it.
fn trace_pipe(guest: &mut Guest) {
    guest.ok("echo > trace");
    for i in 1..=4 {
        guest.ok(&format!("echo 'test input {i}' > trace_marker"));
    }
    for _ in 0..2 {
        assert_eq!(guest.ok("cat trace | grep -c 'test input'").trim(), "4");
    }
    let first = guest.ok("head -n 1 trace_pipe");
    assert!(
        first.ends_with("tracing_mark_write: test input 1\n"),
        "{first}"
    );
    assert_eq!(guest.ok("cat trace | grep -c 'test input'").trim(), "3");
    let next = guest.ok("cat trace_pipe | head -n 2");
    assert!(
        next.contains("test input 2") && next.contains("test input 3"),
        "{next}"
    );
    // Only the last is left; then it waits for more, until ctrl-c.
    guest.send("cat trace_pipe\r");
    guest.expect("test input 4\r\n");
    guest.send("\x03");
    guest.expect_prompt();
    assert_eq!(guest.status(), 130);
    assert_eq!(events(&guest.ok("cat trace")), 0);
    // Events that come while it waits are printed.
    guest.ok("echo 1 > events/irq_vectors/local_timer_entry/enable");
    let ticks = guest.ok("cat trace_pipe | head -n 3");
    assert_eq!(ticks.matches("local_timer_entry").count(), 3, "{ticks}");
    guest.ok("echo 0 > events/irq_vectors/local_timer_entry/enable");
    // Where tracing is off, it ends after what there is.
    guest.ok("echo last > trace_marker; echo 0 > tracing_on");
    assert!(guest.ok("cat trace_pipe").ends_with(": last\n"));
    guest.ok("echo 1 > tracing_on");
    // Lost events are told.
    guest.ok(
        "echo > trace; echo 8 > buffer_size_kb; seq 1 2000 > trace_marker; echo 0 > tracing_on",
    );
    // Who takes that line alone leaves the event behind it.
    let mut text = guest.ok("head -n 1 per_cpu/cpu0/trace_pipe");
    assert_eq!(text.lines().count(), 1, "{text}");
    text += &guest.ok("cat per_cpu/cpu0/trace_pipe");
    let lost = text.lines().next().unwrap_or_default();
    let lost: usize = lost
        .strip_prefix("CPU:0 [LOST ")
        .and_then(|rest| rest.strip_suffix(" EVENTS]")?.parse().ok())
        .unwrap_or_else(|| panic!("{text}"));
    assert_eq!(lost + text.lines().count() - 1, 2000);
    guest.ok("echo 1 > tracing_on; echo 1408 > buffer_size_kb");
    // Pages, as they are.
    guest.ok("echo > trace; echo 0 > buffer_percent; echo page > trace_marker");
    let dump = guest.ok("hexdump -n 4096 per_cpu/cpu0/trace_pipe_raw");
    assert!(
        dump.contains("page") && dump.ends_with("00001000\n"),
        "{dump}"
    );
    guest.ok("echo 50 > buffer_percent");
    refused(guest, "101", "buffer_percent", "EINVAL");
}

/// `snapshot1.tc`: a snapshot while no CPU records does not stop it for good; and what the mask is for.
fn snapshot1(guest: &mut Guest) {
    let before = guest.ok("cat tracing_cpumask");
    guest.ok("echo > trace");
    guest.ok("echo 0 > tracing_cpumask");
    let why = guest.refused("echo unheard > trace_marker");
    assert!(why.contains("(EBADF)"), "{why}");
    guest.ok("echo 1 > snapshot");
    guest.ok(&format!("echo {} > tracing_cpumask", before.trim()));
    guest.ok("echo 1 > tracing_on");
    guest.ok("echo 'test input 1' > trace_marker");
    assert_eq!(marked(&guest.ok("cat trace")), "test input 1");
    refused(guest, "x", "tracing_cpumask", "EINVAL");
    refused(guest, "1,00000000,00000000", "tracing_cpumask", "EOVERFLOW");
    guest.ok("echo 0 > snapshot");
}

/// `snapshot.tc`.
fn snapshot(guest: &mut Guest) {
    guest.ok("echo > trace");
    assert!(
        guest
            .ok("cat snapshot")
            .contains("# * Snapshot is freed *\n")
    );
    guest.ok("echo 0 > tracing_on");
    guest.ok("echo 1 > snapshot");
    let text = guest.ok("cat snapshot");
    assert!(text.contains("# * Snapshot is allocated *\n"), "{text}");
    assert_eq!(guest.ok("cat tracing_on").trim(), "0");
    guest.ok("echo 1 > tracing_on");
    guest.ok("echo kept > trace_marker");
    guest.ok("echo 1 > snapshot");
    assert_eq!(guest.ok("cat tracing_on").trim(), "1");
    assert!(guest.ok("cat snapshot").ends_with(": kept\n"));
    assert!(guest.ok("cat per_cpu/cpu0/snapshot").ends_with(": kept\n"));
    assert_eq!(events(&guest.ok("cat trace")), 0);
    let why = guest.refused("echo 0 > per_cpu/cpu0/snapshot");
    assert!(why.contains("(EINVAL)"), "{why}");
    refused(guest, "x", "snapshot", "EINVAL");
    guest.ok("echo 2 > snapshot");
    assert!(guest.ok("cat snapshot").contains("allocated"));
    guest.ok("echo 0 > snapshot");
    assert!(guest.ok("cat snapshot").contains("freed"));
}

/// `ringbuffer_size.tc`: a buffer can be made small, large, and as it was.
fn ringbuffer_size(guest: &mut Guest) {
    let before = guest.ok("cat buffer_size_kb");
    let kb: u64 = before.trim().parse().expect("a number");
    for file in ["buffer_size_kb", "per_cpu/cpu0/buffer_size_kb"] {
        for kb in [kb / 2, kb * 2, kb] {
            guest.ok(&format!("echo {kb} > {file}"));
            assert_eq!(guest.ok(&format!("cat {file}")).trim(), kb.to_string());
            guest.ok("seq 1 500 > trace_marker");
            assert!(guest.ok("cat trace | tail -n 1").ends_with(": 500\n"));
        }
    }
    for (wrong, errno) in [("0", "EINVAL"), ("x", "EINVAL"), ("99999999999", "ENOMEM")] {
        refused(guest, wrong, "buffer_size_kb", errno);
        refused(guest, wrong, "per_cpu/cpu0/buffer_size_kb", errno);
    }
    guest.ok("echo 64 > per_cpu/cpu0/buffer_size_kb");
    let others = guest.ok("ls per_cpu").split_whitespace().count() as u64 - 1;
    let total = 64 + others * kb;
    assert_eq!(
        guest.ok("cat buffer_total_size_kb").trim(),
        total.to_string()
    );
    guest.ok(&format!("echo {} > buffer_size_kb", before.trim()));
}

/// `ringbuffer_subbuf_size.tc`.
fn ringbuffer_subbuf_size(guest: &mut Guest) {
    let before = guest.ok("cat buffer_subbuf_size_kb");
    for kb in [4, 8, 16, 32] {
        guest.ok(&format!("echo {kb} > buffer_subbuf_size_kb"));
        let size = data_size(guest);
        assert_eq!(size, kb * 1024 - 16);
        guest.ok("echo > trace");
        guest.ok(&format!("head -c {size} /boot/long > trace_marker"));
        let shown = guest.ok("cat trace");
        assert!(events(&shown) > 1, "the line was broken");
        let marked = marked(&shown);
        assert!(marked.bytes().all(|b| b == b'X'), "{shown}");
        assert_eq!(marked.len(), size);
    }
    refused(guest, "0", "buffer_subbuf_size_kb", "EINVAL");
    refused(guest, "128", "buffer_subbuf_size_kb", "EINVAL");
    guest.ok(&format!("echo {} > buffer_subbuf_size_kb", before.trim()));
}

/// The options, one by one and together; `saved_cmdlines`.
fn options(guest: &mut Guest) {
    guest.ok("echo nooverwrite > trace_options");
    assert_eq!(guest.ok("cat options/overwrite").trim(), "0");
    guest.ok("echo 1 > options/overwrite");
    let all = guest.ok("cat trace_options");
    assert!(all.lines().any(|line| line == "overwrite"), "{all}");
    refused(guest, "nothing", "trace_options", "EINVAL");
    refused(guest, "2", "options/overwrite", "EINVAL");
    guest.ok("echo nomarkers > trace_options");
    let why = guest.refused("echo x > trace_marker");
    assert!(why.contains("(EINVAL)"), "{why}");
    guest.ok("echo markers > trace_options");
    assert!(guest.ok("cat saved_cmdlines").contains("1 console\n"));
    assert_eq!(guest.ok("cat saved_cmdlines_size"), "128\n");
    guest.ok("echo 16 > saved_cmdlines_size; echo here > trace_marker");
    assert!(guest.ok("cat saved_cmdlines").contains("1 console\n"));
    refused(guest, "0", "saved_cmdlines_size", "EINVAL");
    refused(guest, "32769", "saved_cmdlines_size", "EINVAL");
    assert_eq!(guest.ok("cat timestamp_mode"), "[delta] absolute\n");
    // Other forms of a line.
    guest.ok("echo > trace; echo latency-format > trace_options; echo here > trace_marker");
    let text = guest.ok("cat trace");
    assert!(text.contains("# nop latency trace v1.1.5 on "), "{text}");
    let line = text.lines().last().unwrap_or_default();
    let (head, tail) = line.split_at(line.find("us").unwrap_or(0));
    assert!(head.starts_with(" console-1         0....."), "{text}");
    assert!(tail.ends_with(": tracing_mark_write: here"), "{text}");
    guest.ok("echo nolatency-format > trace_options; echo 1 > options/fields");
    let line = guest.ok("cat trace | tail -n 1");
    assert!(
        line.contains(": print: ip=0x") && line.ends_with(" buf=here\n"),
        "{line}"
    );
    guest.ok("echo 0 > options/fields");
    assert_eq!(guest.ok("cat printk_formats"), "");
}
