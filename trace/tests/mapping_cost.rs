//! What a mapping costs whoever writes: nothing, to the instruction.

#[path = "../benches/record/steps.rs"]
mod steps;

use std::cell::Cell;
use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;

/// Instructions of some writes, a few within others, to a ring that overwrites: two events fill a page.
fn writes(buffer: &CpuBuffer<TestPlatform>) -> Option<u64> {
    let now = Cell::new(0u64);
    let clock = || {
        now.set(now.get() + 3);
        now.get()
    };
    steps::count(|| {
        for i in 0..10u64 {
            let mut event = buffer.reserve(Level::Task, 1900, &clock).expect("room");
            event.write(0, &i.to_ne_bytes());
            if i % 5 == 0 {
                let inner = buffer.reserve(Level::Irq, 40, &clock).expect("room");
                inner.commit();
            }
            event.commit();
        }
    })
}

/// The only test here: the count is of the whole process.
#[test]
fn a_writer_does_not_know_whether_its_ring_is_mapped() {
    let platform = TestPlatform::new(4);
    let plain = CpuBuffer::new(platform, 3, 0).unwrap();
    let mapped = CpuBuffer::new(platform, 3, 0).unwrap();
    mapped.map(0, 5).unwrap();
    let (before, with) = (writes(&plain), writes(&mapped));
    assert_eq!(plain.stats(), mapped.stats());
    let (Some(before), Some(with)) = (before, with) else {
        assert!(
            std::env::var_os("BATON_TESTS_COMPLETE").is_none(),
            "this machine cannot count its instructions one by one"
        );
        eprintln!("skipped: this machine cannot count its instructions one by one");
        return;
    };
    println!("instructions of 10 writes: {before} and, mapped, {with}");
    assert_eq!(before, with);
}
