//! A writer in one thread; readers, and who changes the ring, in others.

use crate::{check_payload, payload};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use trace::Platform;
use trace::TraceError;
use trace::page::Missed;
use trace::ring::{CpuBuffer, Level, ReserveError};
use trace::testing::TestPlatform;

/// One thread writes, with nested writes; others look and consume. No event is torn, none comes twice or out of order.
#[test]
fn readers_on_other_cpus() {
    let buffer = CpuBuffer::new(TestPlatform::new(1), 3, 0).unwrap();
    let done = AtomicBool::new(false);
    let time = AtomicU64::new(1);
    let clock = || time.fetch_add(1, Ordering::Relaxed);
    let len_of = |id: u64| 8 + (id % 57) as usize;
    const TOTAL: u64 = 300_000;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut id = 0;
            while id < TOTAL {
                let mut r = buffer.reserve(Level::Task, len_of(id), &clock).unwrap();
                r.write(0, &payload(id, len_of(id)));
                id += 1;
                if id % 3 == 0 && id < TOTAL {
                    let mut r = buffer.reserve(Level::Irq, len_of(id), &clock).unwrap();
                    r.write(0, &payload(id, len_of(id)));
                    r.commit();
                    id += 1;
                }
                r.commit();
            }
            done.store(true, Ordering::Release);
        });
        let looker = scope.spawn(|| {
            let mut seen = 0u64;
            while !done.load(Ordering::Acquire) {
                let mut iter = buffer.iter().unwrap();
                let mut last: Option<(u64, u64)> = None;
                while let Some(entry) = iter.next() {
                    let id = check_payload(entry.payload, len_of);
                    if let Some((last_id, last_ts)) = last {
                        assert!(id > last_id && entry.ts >= last_ts);
                        if entry.lost == Missed::None {
                            assert_eq!(id, last_id + 1, "a hole that is not told");
                        }
                    }
                    last = Some((id, entry.ts));
                    seen += 1;
                }
            }
            seen
        });
        let mut bytes = Vec::new();
        let mut next = 0;
        let mut lost_total = 0;
        let mut read = 0;
        loop {
            let finished = done.load(Ordering::Acquire);
            match buffer.consume(&mut bytes).unwrap() {
                Some((_, lost)) => {
                    let id = check_payload(&bytes, len_of);
                    assert!(id >= next, "{id} comes again, or late");
                    if let Missed::Count(n) = lost {
                        lost_total += n;
                    }
                    next = id + 1;
                    read += 1;
                }
                None if finished => break,
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap();
        looker.join().unwrap();
        let stats = buffer.stats();
        assert_eq!(next, TOTAL, "the newest is there");
        assert_eq!(stats.read_events, read);
        assert_eq!(stats.overrun, lost_total);
        assert_eq!(stats.entries, 0);
        assert_eq!(stats.written(), TOTAL);
    });
}

/// Resizing and clearing while another CPU writes.
#[test]
fn resize_while_recording() {
    let platform = TestPlatform::new(4);
    resize_while_recording_on(platform, platform);
}

/// The same where writers use no locked instruction.
#[cfg(target_os = "linux")]
#[test]
fn resize_while_a_pinned_writer_records() {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    let platform = TestPlatform::new(4);
    let barrier = || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    // SAFETY: the test writes in one thread, and this is such a barrier.
    let pinned = unsafe { trace::testing::Pinned::new(platform, barrier) };
    resize_while_recording_on(pinned, platform);
}

#[cfg(target_os = "linux")]
fn membarrier(command: libc::c_int) {
    // SAFETY: the call touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    assert_eq!(done, 0, "membarrier {command}");
}

fn resize_while_recording_on<P: Platform>(on: P, platform: TestPlatform) {
    let buffer = CpuBuffer::new(on, 3, 0).unwrap();
    let done = AtomicBool::new(false);
    let time = AtomicU64::new(1);
    let clock = || time.fetch_add(1, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut ok, mut refused) = (0u64, 0u64);
            while !done.load(Ordering::Acquire) {
                match buffer.reserve(Level::Task, 24, &clock) {
                    Ok(mut r) => {
                        r.write(0, &payload(ok, 24));
                        r.commit();
                        ok += 1;
                    }
                    Err(ReserveError::Disabled) => refused += 1,
                    Err(e) => panic!("{e}"),
                }
            }
            (ok, refused)
        });
        for i in 0..300 {
            buffer.resize(2 + (i * 7) % 40).unwrap();
            let mut iter = buffer.iter().unwrap();
            while let Some(entry) = iter.next() {
                check_payload(entry.payload, |_| 24);
            }
        }
        done.store(true, Ordering::Release);
        let (ok, refused) = writer.join().unwrap();
        let stats = buffer.stats();
        assert_eq!(stats.written(), ok);
        assert_eq!(stats.dropped_events, refused);
        assert_eq!(platform.owned().len(), buffer.pages() + 1);
    });
}

/// Who tries to swap at the end of each write asks nobody for a barrier as long as a write below is under way: under interrupts, that
/// costs more than there is time between them.
#[test]
fn a_swap_that_cannot_be_asks_for_no_barrier() {
    static BARRIERS: AtomicU64 = AtomicU64::new(0);
    // SAFETY: there is one thread, whose accesses are in order for itself.
    let pinned = unsafe {
        trace::testing::Pinned::new(TestPlatform::new(4), || {
            BARRIERS.fetch_add(1, Ordering::Relaxed);
        })
    };
    let new = || CpuBuffer::new(pinned, 2, 0).unwrap();
    let (buffer, snapshot) = (new(), new());
    let write = buffer.reserve(Level::Task, 8, &|| 1).unwrap();
    assert_eq!(buffer.try_swap(&snapshot), Err(TraceError::Busy));
    assert_eq!(BARRIERS.load(Ordering::Relaxed), 0);
    write.commit();
    assert_eq!(buffer.try_swap(&snapshot), Ok(()));
    assert_ne!(BARRIERS.load(Ordering::Relaxed), 0);
    assert_eq!(snapshot.stats().entries, 1);
}
