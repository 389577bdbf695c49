//! A life that left its pages in a region: recorded by ordinary rings, whose pages are then laid where rings in a region would have them.

use handover::page::PageRef;
use handover::range::PhysRange;
use handover::state::{STREAM_OVERHEAD, StreamWriter, encoded_size};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use trace::page::{COMMIT_MASK, HEADER_SIZE};
use trace::ramtrace::mark::{Kind, Mark, Seal};
use trace::ramtrace::old::{self, OldLife, OldPage};
use trace::ramtrace::{Beginning, Buffer, Life, Region, RegionError};
use trace::testing::TestPlatform;
use trace::tracer::CpuState;
use trace::{Config, Tracer, TracerState};

/// Where the region lies.
pub const RANGE: PhysRange = PhysRange::new(2 << 20, 3 << 20);

static RUNNING: Mutex<Option<&'static Tracer<TestPlatform>>> = Mutex::new(None);

/// The tracer that records.
pub fn running() -> Option<&'static Tracer<TestPlatform>> {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub mod events {
    trace::define_events! {
        tracer = crate::life::running;
        /// One with a number.
        event test:number(a: u32) { print("a=%u", a) }
        /// One with a string.
        event test:text(who: str) { print("who=%s", who) }
    }
}

/// The events are statics: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine whose allocator keeps off the region, which is empty.
pub fn machine() -> TestPlatform {
    let platform = TestPlatform::new(16);
    platform.memory.reserve(RANGE);
    platform.set_cpu(0);
    platform.set_ns(5_000_000_000);
    platform.set_step(1000);
    // SAFETY: the memory is new, and its allocator keeps off the range.
    unsafe { Region::format(&platform, RANGE, 4) }.unwrap();
    platform
}

/// Its region.
pub fn open(platform: TestPlatform) -> Region<TestPlatform> {
    try_open(platform).unwrap()
}

/// Its region, if there is one.
pub fn try_open(platform: TestPlatform) -> Result<Region<TestPlatform>, RegionError> {
    // SAFETY: the allocator keeps off the range (`machine`), and tests use the region that they opened last.
    unsafe { Region::open(platform, RANGE) }
}

/// A life begins there.
pub fn begin(platform: TestPlatform, number: u8) -> Region<TestPlatform> {
    let region = open(platform);
    region
        .begin_life(
            &Beginning {
                release: "0.9.1",
                build: 77,
                boot_id: [number; 16],
                cpus: 2,
                clock: "local",
                tracer: "nop",
            },
            2,
        )
        .unwrap();
    region
}

/// A tracer that records from now on, with so many KiB for each CPU.
pub fn tracer(platform: TestPlatform, kb: u64) -> &'static Tracer<TestPlatform> {
    let config = Config {
        nr_cpus: 2,
        buffer_kb_per_cpu: kb,
        generation: 0,
    };
    let tracer = Box::leak(Box::new(
        Tracer::new(platform, config, events::ALL).unwrap(),
    ));
    for desc in events::ALL {
        tracer.set_event_enabled(desc, true);
    }
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(tracer);
    tracer
}

/// Records `n` numbers, and a text after each fifth, on both CPUs in turns.
pub fn record(tracer: &Tracer<TestPlatform>, n: u32) {
    for a in 0..n {
        tracer.platform().set_cpu(a as usize % 2);
        events::number(a);
        if a % 5 == 0 {
            events::text("somebody");
            // A buffer that is full may refuse it.
            let _ = tracer.mark(format!("mark {a}").as_bytes());
        }
    }
    tracer.platform().set_cpu(0);
}

/// Records `n` long texts and numbers: more pages than lines.
pub fn record_long(tracer: &Tracer<TestPlatform>, n: u32) {
    for a in 0..n {
        tracer.platform().set_cpu(a as usize % 2);
        events::text(&format!("{a} {}", "x".repeat(400)));
        events::number(a);
    }
    tracer.platform().set_cpu(0);
}

/// What is written of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub buffer: u8,
    pub cpu: u8,
    pub seq: u64,
    /// Time stamp, and data up to the commit word.
    pub stamp: [u8; 8],
    pub data: Vec<u8>,
    pub sealed: usize,
}

/// How far a page of so many bytes is sealed, and whether to its end.
pub type Sealing = fn(last: bool, commit: usize) -> Option<(usize, bool)>;

/// All pages are sealed, the newest of each CPU up to some place, or not at all.
pub const ALL: Sealing = |last, commit| Some((commit, !last));

/// Writes a page as a ring would.
pub fn put(
    region: &Region<TestPlatform>,
    platform: TestPlatform,
    page: PageRef,
    (seq, refused): (u64, u64),
    bytes: &[u8],
    sealed: Option<(usize, bool)>,
) {
    let mark = region.marks().of(page.pa).unwrap();
    mark.unseal(seq);
    mark.begin(seq, refused);
    platform.memory.write(page.pa, bytes);
    if let Some((len, full)) = sealed {
        seal(mark, bytes, (seq, len, full));
    }
}

/// Seals what `bytes` of a page say.
pub fn seal(mark: &Mark, bytes: &[u8], (seq, len, full): (u64, usize, bool)) {
    let stamp = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    let words: Vec<AtomicU32> = bytes[HEADER_SIZE..][..len]
        .as_chunks()
        .0
        .iter()
        .map(|word| AtomicU32::new(u32::from_ne_bytes(*word)))
        .collect();
    let done = mark.set_seal(
        Seal::none(seq),
        Seal {
            crc: mark.checksum(stamp, &words, None),
            len,
            full,
            number: seq as u16,
        },
    );
    assert!(done);
}

/// Lays the pages of `cpus` into the region. What is written where, by index.
pub fn lay(
    region: &Region<TestPlatform>,
    platform: TestPlatform,
    buffer: u8,
    cpus: &[CpuState],
    sealing: Sealing,
) -> BTreeMap<u64, Written> {
    let mut written = BTreeMap::new();
    // The pages of all CPUs lie among each other.
    let longest = cpus.iter().map(|cpu| cpu.shape.used + 1).max().unwrap();
    for at in 0..longest {
        for cpu in cpus.iter().filter(|cpu| at <= cpu.shape.used) {
            let shape = &cpu.shape;
            let (from, seq) = match at {
                0 => (shape.reader, shape.pages_read),
                at => {
                    let before = u64::from(at) + shape.pages_lost + shape.pages_read;
                    (shape.ring[at as usize - 1], before)
                }
            };
            let number = cpu.cpu as u8;
            let page = region
                .alloc(number, buffer, from.order, Kind::Events)
                .unwrap();
            let bytes = platform.memory.read(from.pa, from.size() as usize);
            let commit = u64::from_ne_bytes(bytes[8..16].try_into().unwrap()) & COMMIT_MASK;
            let commit = commit as usize;
            if commit == 0 {
                continue;
            }
            let refused = shape.gaps.iter().filter(|gap| gap.position <= at);
            let refused = refused.map(|gap| gap.lost).sum();
            let sealed = sealing(at == shape.used, commit);
            put(region, platform, page, (seq, refused), &bytes, sealed);
            written.insert(
                region.marks().index(page.pa).unwrap(),
                Written {
                    buffer,
                    cpu: number,
                    seq,
                    stamp: bytes[..8].try_into().unwrap(),
                    data: bytes[HEADER_SIZE..][..commit].into(),
                    sealed: sealed.map_or(0, |(len, _)| len),
                },
            );
        }
    }
    written
}

/// Saves the formats and all else that explains the events.
pub fn save(region: &Region<TestPlatform>, tracer: &Tracer<TestPlatform>) {
    save_state(region, tracer.state().unwrap());
    let number = |name: &str| match name {
        "" => 0,
        _ => 1,
    };
    let names = tracer.instances();
    let names = names.iter().map(|instance| instance.name());
    let buffers = [""].into_iter().chain(names).map(|name| Buffer {
        number: number(name),
        name: name.into(),
        pages: vec![4, 4],
    });
    let buffers = buffers.collect();
    region.update(|life| life.buffers = buffers).unwrap();
}

/// Saves a state without its pages.
pub fn save_state(region: &Region<TestPlatform>, mut state: TracerState) {
    state.cpus.clear();
    state.extra.snapshot.clear();
    for instance in &mut state.instances {
        instance.cpus.clear();
        instance.extra.snapshot.clear();
    }
    let mut stream = vec![0; encoded_size(&state) + STREAM_OVERHEAD];
    let mut writer = StreamWriter::new(&mut stream);
    writer.put(0, &state).unwrap();
    let used = writer.finish().unwrap();
    region.save_state(&stream[..used]).unwrap();
}

/// Lays all that `tracer` holds in its top instance into the region, as life number 1.
pub fn leave(
    platform: TestPlatform,
    tracer: &Tracer<TestPlatform>,
    sealing: Sealing,
) -> BTreeMap<u64, Written> {
    let region = begin(platform, 1);
    let cpus = tracer.state().unwrap().cpus;
    let written = lay(&region, platform, 0, &cpus, sealing);
    save(&region, tracer);
    written
}

/// What is left of life `number`.
pub fn read(platform: TestPlatform, number: u64) -> OldLife {
    OldLife::read(&open(platform), number).unwrap()
}

/// Its text.
pub fn text(platform: TestPlatform, number: u64, buffer: u8) -> String {
    let mut text = String::new();
    old::write_text(&open(platform), number, buffer, &mut text).unwrap();
    text
}

/// Its pages.
pub fn raw(platform: TestPlatform, number: u64, buffer: u8) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    let mut out = |page: &[u8]| {
        pages.push(page.to_vec());
        Ok(())
    };
    old::write_raw(&open(platform), number, buffer, &mut out).unwrap();
    pages
}

/// Whether a page that is kept is what was written.
pub fn is(platform: TestPlatform, page: &OldPage, written: &Written) -> bool {
    let now = platform.memory.read(page.page.pa, page.size());
    page.seq == written.seq
        && now[..8] == written.stamp
        && now[HEADER_SIZE..][..page.commit] == written.data
}

/// The lines of the events, and of what was lost.
pub fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// What the life says of itself.
pub fn metadata(platform: TestPlatform, number: u64) -> Life {
    let lives = open(platform).old_lives();
    lives
        .into_iter()
        .find(|life| life.number == number)
        .unwrap()
}
