//! What tests of a kexec share: a machine, leaving one life of it, and arriving in the next.

use handover::state::{STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size, for_each_page};
use std::borrow::Borrow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::event::EventDesc;
use trace::testing::TestPlatform;
use trace::{TraceError, Tracer, TracerState};

/// The events are statics: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine with `mib` MiB, 5 s after its start, whose clock goes on by itself.
pub fn machine(mib: u64) -> TestPlatform {
    let platform = TestPlatform::new(mib);
    platform.set_cpu(0);
    platform.set_ns(5_000_000_000);
    platform.set_step(1000);
    platform
}

/// Describes the old life, and again by `refresh`, when the room for the description is fixed. Returns what crosses, as bytes; and the
/// machine on the other side.
pub fn leave(
    whose: impl Borrow<Tracer<TestPlatform>>,
    refresh: impl FnOnce(&Tracer<TestPlatform>, &mut TracerState),
) -> (Vec<u8>, TestPlatform) {
    let old = whose.borrow();
    let mut state = old.state().unwrap();
    let size = encoded_size(&state);
    refresh(old, &mut state);
    assert_eq!(encoded_size(&state), size, "the room was measured before");
    let mut stream = vec![0; size + STREAM_OVERHEAD];
    let mut writer = StreamWriter::new(&mut stream);
    writer.put(0, &state).unwrap();
    let used = writer.finish().unwrap();
    stream.truncate(used);
    let mut pages = Vec::new();
    old.for_each_page(|page| pages.push(page));
    let mut described = Vec::new();
    for_each_page(&state, |page| described.push(page));
    pages.sort();
    described.sort();
    assert_eq!(pages, described);
    let next = old.platform().kexec(&pages);
    next.set_step(1000);
    // The old life does not clean up.
    std::mem::forget(whose);
    (stream, next)
}

/// The state that crossed.
pub fn state(stream: &[u8]) -> TracerState {
    StreamReader::new(stream).unwrap().get(0).unwrap()
}

/// The next life, of two CPUs, with these events.
pub fn arrive(
    stream: &[u8],
    platform: TestPlatform,
    generation: u32,
    events: &'static [&'static EventDesc],
) -> Result<Tracer<TestPlatform>, TraceError> {
    Tracer::adopt(platform, 2, generation, state(stream), events)
}
