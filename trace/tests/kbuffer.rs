//! Raw pages, decoded by libtraceevent's kbuffer as trace-cmd and KernelShark do, hold the same events at the same times.
//!
//! Needs a C compiler and libtraceevent's header; without them the test says so and checks nothing.

mod cc;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use handover::mem::Memory;
use trace::page::{self, Cursor, Missed};
use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;

/// What the C program should print for this page.
fn decode(bytes: &[u8]) -> String {
    let header = page::header(bytes).unwrap();
    let data = &bytes[16..16 + header.commit];
    let mut cursor = Cursor::new(header.time_stamp);
    let missed = match header.missed {
        Missed::None => 0,
        Missed::Unknown => -1,
        Missed::Count(n) => n as i64,
    };
    let mut text = format!("page {missed}\n");
    while let Some(event) = cursor.next(data).unwrap() {
        writeln!(text, "{} {}", event.ts, event.len).unwrap();
    }
    text
}

#[test]
fn kbuffer_sees_the_same() {
    let Some(program) = cc::program("kbuffer") else {
        return;
    };
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let platform = TestPlatform::new(1);
    let buffer = CpuBuffer::new(platform, 7, 0).unwrap();
    let now = std::cell::Cell::new(1u64 << 40);
    let clock = || now.get();
    // All kinds: short and long payloads, long pauses, nested writes, discarded events, full pages.
    for i in 0..400u64 {
        now.set(now.get() + if i % 50 == 49 { 1 << 33 } else { 700 * (i % 5) });
        let len = match i % 40 {
            39 => 4072,
            38 => 0,
            n => n as usize % 16 * 9,
        };
        let outer = buffer.reserve(Level::Task, len, &clock).unwrap();
        if i % 3 == 0 {
            now.set(now.get() + 300);
            let inner = buffer.reserve(Level::Irq, 20, &clock).unwrap();
            now.set(now.get() + 300);
            if i % 2 == 0 {
                inner.commit();
            } else {
                inner.discard();
            }
        }
        if i % 7 == 6 {
            outer.discard();
        } else {
            outer.commit();
        }
    }
    let mut raw = Vec::new();
    let mut want = String::new();
    buffer.for_each_page(&mut |page| {
        let p = platform.ptr(page.pa, 4096).unwrap();
        // SAFETY: simulated RAM that nobody writes to now.
        let bytes = unsafe { std::slice::from_raw_parts(p.as_ptr(), 4096) };
        if page::header(bytes).unwrap().commit > 0 {
            raw.extend_from_slice(bytes);
            want += &decode(bytes);
        }
    });
    let file = dir.join("kbuffer.pages");
    std::fs::write(&file, &raw).unwrap();
    let out = Command::new(&program).arg(&file).output().unwrap();
    assert!(out.status.success(), "{:?}", out.status);
    assert_eq!(String::from_utf8(out.stdout).unwrap(), want);
    assert!(want.lines().count() > 100);

    // As a reader of trace_pipe_raw gets them: overwritten before, read in part, of each order.
    for order in 0..=trace::ring::MAX_ORDER {
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let size = buffer.page_size();
        let (mut raw, mut want, mut page) = (Vec::new(), String::new(), vec![0; size]);
        let put = |n: usize| {
            for i in 0..n {
                now.set(now.get() + 100);
                let mut event = buffer.reserve(Level::Task, i % 300, &clock).unwrap();
                event.write(0, &[7; 300]);
                event.commit();
            }
        };
        put(200 << order);
        for _ in 0..5 {
            assert!(buffer.consume(&mut Vec::new()).unwrap().is_some());
        }
        for n in [0, 10, 3, 500 << order, 1] {
            put(n);
            while buffer.read_page(&mut page, false).is_some() {
                raw.extend_from_slice(&page);
                want += &decode(&page);
            }
        }
        std::fs::write(&file, &raw).unwrap();
        let out = Command::new(&program)
            .arg(&file)
            .arg(size.to_string())
            .output();
        assert_eq!(String::from_utf8(out.unwrap().stdout).unwrap(), want);
        assert!(
            want.lines()
                .any(|line| line.starts_with("page ") && line != "page 0")
        );
    }
}
