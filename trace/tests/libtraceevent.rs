//! Our `format` files are read by libtraceevent, and with them it prints our records as we do.
//!
//! Needs a C compiler and libtraceevent's header; without them the test says so and checks nothing.

mod cc;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use trace::fs::TraceFs;
use trace::testing::TestPlatform;
use trace::{Config, Tracer};

mod events {
    trace::define_events! {
        tracer = crate::tracer_of_this_test;

        /// Integers of all sizes.
        event test:ints(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32, g: u64, h: i64, i: bool) {
            print("a=%u b=%hhd c=%u d=%hd e=%08x f=%d g=%llu h=%lld i=%d", a, b, c, d, e, f, g, h, i)
        }

        /// Strings: fixed, dynamic, two of them.
        event test:texts(fixed: [char; 12], first: str, n: u32, second: str) {
            print("fixed=%s first=%s n=%u second=\"%s\"", fixed, first, n, second)
        }

        /// Arrays: fixed, dynamic.
        event test:arrays(bytes: [u8; 4], words: [u32; 3], list: [u64], shorts: [u16], after: str) {
            print("bytes=%s words=%s list=%s shorts=%s after=%s", bytes, words, list, shorts, after)
        }

        /// Names for values and for bits.
        event test:names(state: u32, mode: u32) {
            print("state=%s mode=%s", state { 0 => "idle", 1 => "busy" }, mode | { 1 => "READ", 2 => "WRITE", 0x10 => "EXEC" })
        }

        /// Types under C's names.
        event test:named(pid: pid_t, state: c_u32, a: long, b: ulong, size: size_t, args: [ulong; 6], ptr: ptr, site: const_ptr) {
            print("pid=%d state=%lu a=%ld b=%lu size=%zu (%lx, %lx, %lx) ptr=%lx site=%lx", pid, state, a, b, size, args[0], args[1], args[5], ptr, site)
        }

        /// Expressions: differences, parts, choices.
        event test:parts(expires: ulong, now: ulong, flags: u32, state: long) {
            print("timeout=%ld at=%lx cpu=%u idx=%u state=%s%s", expires - now, now << 12 | 0xffff800000000000, flags & 0x3ffff, flags >> 22, state & 0xff | { 1 => "S", 2 => "D" } else "R", state & 0x100 ? "+" : "")
        }
    }
}

static TRACER: OnceLock<Tracer<TestPlatform>> = OnceLock::new();

fn tracer_of_this_test() -> Option<&'static Tracer<TestPlatform>> {
    Some(TRACER.get_or_init(|| {
        let config = Config {
            nr_cpus: 1,
            buffer_kb_per_cpu: 64,
            generation: 0,
        };
        Tracer::new(TestPlatform::new(4), config, events::ALL).unwrap()
    }))
}

/// An array is written `{0x1,0x2}` by the kernel, and `1 2` by libtraceevent.
fn as_libtraceevent(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        let (list, after) = after.split_once('}').unwrap();
        let numbers: Vec<_> = list
            .split(',')
            .map(|n| u64::from_str_radix(n.trim_start_matches("0x"), 16).unwrap())
            .map(|n| n.to_string())
            .collect();
        text += before;
        text += &numbers.join(" ");
        rest = after;
    }
    text + rest
}

#[test]
fn prints_the_same() {
    let Some(program) = cc::program("libtraceevent") else {
        return;
    };
    let tracer = tracer_of_this_test().unwrap();
    let fs = TraceFs(tracer);
    fs.write("events/enable", b"1", true).unwrap();
    events::ints(
        255,
        -128,
        65535,
        -32768,
        u32::MAX,
        i32::MIN,
        u64::MAX,
        i64::MIN,
        true,
    );
    events::ints(0, 0, 0, 0, 0, 0, 0, 0, false);
    events::ints(1, -1, 2, -2, 0x3a, -3, 4, -4, true);
    events::texts("fixed", "", 7, "the second");
    events::texts("cut off where it is too long", "first", 8, "");
    events::arrays(
        [1, 2, 3, 255],
        [0, 1 << 31, 7],
        &[1, u64::MAX],
        &[9, 8, 7],
        "after",
    );
    events::arrays([0; 4], [5; 3], &[3], &[2], "");
    events::names(0, 1);
    events::names(1, 3);
    events::names(1, 0x13);
    events::named(
        -1,
        u32::MAX,
        i64::MIN,
        u64::MAX,
        7,
        [1, 2, 3, 4, 5, u64::MAX],
        8,
        9,
    );
    events::named(9, 1, -2, 3, 4, [0; 6], 0, 0);
    events::parts(10, 4, 5 << 22 | 3, 0x100);
    events::parts(4, 10, u32::MAX, 0);
    events::parts(0, 0, 0, 1);
    events::parts(0, 0, 0, 0x103);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut formats = Vec::new();
    for event in events::ALL {
        let mut text = String::new();
        fs.read(&format!("events/test/{}/format", event.name), &mut text)
            .unwrap();
        let file = dir.join(format!("{}.format", event.name));
        std::fs::write(&file, text).unwrap();
        formats.push(file);
    }
    let mut raw = Vec::new();
    let mut iter = tracer.buffer(0).unwrap().iter().unwrap();
    while let Some(entry) = iter.next() {
        raw.extend_from_slice(&(entry.payload.len() as u32).to_ne_bytes());
        raw.extend_from_slice(entry.payload);
    }
    let records = dir.join("records");
    std::fs::write(&records, raw).unwrap();
    let out = Command::new(program)
        .arg(&records)
        .args(&formats)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{:?} {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    let theirs = String::from_utf8(out.stdout).unwrap();
    let mut ours = String::new();
    fs.read("trace", &mut ours).unwrap();
    let ours: Vec<_> = ours
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| as_libtraceevent(line.split_once(": ").unwrap().1))
        .collect();
    let theirs: Vec<_> = theirs.lines().collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 16);
    let tail: Vec<_> = ours[12..].iter().map(String::as_str).collect();
    assert_eq!(
        tail,
        [
            "parts: timeout=6 at=ffff800000004000 cpu=3 idx=5 state=R+",
            "parts: timeout=-6 at=ffff80000000a000 cpu=262143 idx=1023 state=R",
            "parts: timeout=0 at=ffff800000000000 cpu=0 idx=0 state=S",
            "parts: timeout=0 at=ffff800000000000 cpu=0 idx=0 state=S|D+",
        ]
    );
}
