//! What an event costs, beside the floor and beside others' buffers: one table in one run, `cargo bench -p trace`.
//!
//! Every row does the same work: take the time stamp counter, write that stamp and the payload, and make both visible to a
//! reader. The floor does it with plain stores to a flat array. A figure is the best of many rounds, so that whatever else
//! the machine does meanwhile does not count. Nothing is read while events are timed; rows of queues that cannot overwrite are
//! emptied between the rounds.
//!
//! Instructions are counted by single steps (the processor's trap flag), not by a performance counter: virtual machines
//! often have none.

mod host;
mod linux;
mod lttng;
mod steps;

use bbqueue::BBQueue;
use bbqueue::traits::coordination::cas::AtomicCoord;
use bbqueue::traits::notifier::polling::Polling;
use bbqueue::traits::storage::Inline;
use host::{Host, rdtsc};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::time::Instant;
use trace::mapped::MappedReader;
use trace::ring::{CpuBuffer, Level};
use trace::{Config, Tracer};

/// Bytes of each buffer that takes part.
const ROOM: usize = 256 << 10;
/// Events of a round. Even the largest, of 64 bytes and a stamp, fit `ROOM`.
const EVENTS: usize = 2048;
const ROUNDS: usize = 400;
/// The payload in whose floor the rows without a payload of their own are measured.
const USUAL: usize = 16;

static TRACER: OnceLock<Tracer<Host>> = OnceLock::new();

fn tracer() -> Option<&'static Tracer<Host>> {
    TRACER.get()
}

mod events {
    trace::define_events! {
        tracer = crate::tracer;

        /// Two numbers: 16 bytes, and the 8 that every record begins with.
        event bench:pair(a: u64, b: u64) {
            print("a=%lu b=%lu", a, b)
        }

        /// Never enabled.
        event bench:silent(a: u64, b: u64) {
            print("a=%lu b=%lu", a, b)
        }
    }
}

/// What one event costs.
#[derive(Clone, Copy)]
struct Cost {
    ns: f64,
    instructions: Option<f64>,
}

/// Measures `events(n)`, which does `n` events; `between` is called between the rounds and not measured.
fn cost(mut events: impl FnMut(usize), mut between: impl FnMut()) -> Cost {
    // Opaque, so that the same code is timed and counted.
    let events: &mut dyn FnMut(usize) = black_box(&mut events);
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        between();
        let start = Instant::now();
        events(EVENTS);
        best = best.min(start.elapsed().as_secs_f64());
    }
    between();
    // The difference of two counts leaves out what is not per event.
    let mut steps = |n| steps::count(|| events(n));
    let instructions = match (steps(256), steps(768)) {
        (Some(few), Some(many)) => Some((many as f64 - few as f64) / 512.0),
        _ => None,
    };
    Cost {
        ns: best * 1e9 / EVENTS as f64,
        instructions,
    }
}

fn row(name: &str, cost: Cost, floor: Cost) {
    let instructions = match cost.instructions {
        Some(n) => format!("{n:.0}"),
        None => "-".into(),
    };
    println!(
        "{name:<48} {:>8.2} {instructions:>8} {:>8.2}",
        cost.ns,
        cost.ns / floor.ns
    );
}

fn payload<const N: usize>() -> [u8; N] {
    black_box(std::array::from_fn(|i| i as u8))
}

/// The floor: the stamp and the payload into a flat array, from its start again when it is full.
fn floor<const N: usize>() -> Cost {
    let mut array = vec![0u8; ROOM];
    let bytes = payload::<N>();
    let mut at = 0;
    let cost = cost(
        |n| {
            for _ in 0..n {
                if at + 8 + N > ROOM {
                    at = 0;
                }
                let slot = &mut array[at..at + 8 + N];
                slot[..8].copy_from_slice(&rdtsc().to_ne_bytes());
                slot[8..].copy_from_slice(&bytes);
                at += 8 + N;
            }
        },
        || {},
    );
    black_box(array);
    cost
}

fn buffer() -> CpuBuffer<Host> {
    CpuBuffer::new(Host::new(), ROOM / 4096, 0).expect("256 KiB")
}

fn ring<const N: usize>() -> Cost {
    ring_of::<N>(&buffer())
}

/// As `ring`, while a reader has it mapped.
fn mapped() -> Cost {
    let buffer = buffer();
    buffer.map(0, 1).expect("a page");
    ring_of::<USUAL>(&buffer)
}

/// As `ring`, in the region that outlives a reset; and there with each page sealed after it was written, which no writer waits for.
fn persistent(sealed: bool) -> Cost {
    let config = Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: (ROOM >> 10) as u64,
        generation: 0,
    };
    let tracer = Tracer::new(Host::with_region(), config, &[]).expect("256 KiB");
    let moved = tracer.set_persistent(tracer.top(), true);
    moved.expect("the region has 2 MiB");
    let buffer = tracer.buffer(0).expect("there is a CPU");
    if !sealed {
        return ring_of::<USUAL>(buffer);
    }
    let bytes = payload::<USUAL>();
    cost(
        |n| {
            for _ in 0..n {
                write(buffer, Level::Task, &bytes);
            }
            tracer.seal(usize::MAX);
        },
        || {},
    )
}

fn ring_of<const N: usize>(buffer: &CpuBuffer<Host>) -> Cost {
    let bytes = payload::<N>();
    cost(
        |n| {
            for _ in 0..n {
                write(buffer, Level::Task, &bytes);
            }
        },
        || {},
    )
}

#[inline(always)]
fn write<const N: usize>(buffer: &CpuBuffer<Host>, level: Level, bytes: &[u8; N]) {
    if let Ok(mut event) = buffer.reserve(level, N, &rdtsc) {
        event.write(0, bytes);
        event.commit();
    }
}

/// Each second event is written while the one before it is.
fn nested() -> Cost {
    let buffer = buffer();
    let bytes = payload::<USUAL>();
    cost(
        |n| {
            for _ in 0..n / 2 {
                let Ok(mut event) = buffer.reserve(Level::Task, USUAL, &rdtsc) else {
                    continue;
                };
                write(&buffer, Level::Irq, &bytes);
                event.write(0, &bytes);
                event.commit();
            }
        },
        || {},
    )
}

fn consume() -> Cost {
    let buffer = buffer();
    let bytes = payload::<USUAL>();
    let mut out = Vec::new();
    cost(
        |n| {
            for _ in 0..n {
                black_box(buffer.consume(&mut out).is_ok_and(|event| event.is_some()));
            }
        },
        || {
            for _ in 0..EVENTS {
                write(&buffer, Level::Task, &bytes);
            }
        },
    )
}

/// As a reader that has the ring mapped: a call for each page, and every event looked at in place.
fn in_place() -> Cost {
    let host = Host::new();
    let buffer = CpuBuffer::new(host, ROOM / 4096, 0).expect("256 KiB");
    let bytes = payload::<USUAL>();
    let pages = buffer.map(0, (ROOM / 4096 + 2) as u64).expect("all of it");
    let subs: Vec<_> = pages[1..].iter().map(|page| host.words(*page)).collect();
    let mut reader = MappedReader::new(host.long_words(pages[0]), &subs[..]).expect("a mapping");
    cost(
        |n| {
            let mut left = n;
            while left > 0 {
                let Ok(Some(event)) = reader.next() else {
                    let shown = buffer.get_reader().is_ok() && reader.turn().is_ok();
                    if !black_box(shown) {
                        return;
                    }
                    continue;
                };
                black_box(event.record.unsigned(0, 8));
                left -= 1;
            }
        },
        || {
            for _ in 0..EVENTS {
                write(&buffer, Level::Task, &bytes);
            }
        },
    )
}

fn enabled_event() -> Cost {
    let values = black_box([7u64, 9]);
    cost(
        |n| {
            for _ in 0..n {
                events::pair(values[0], values[1]);
            }
        },
        || {},
    )
}

fn disabled_event() -> Cost {
    let values = black_box([7u64, 9]);
    cost(
        |n| {
            for _ in 0..n {
                events::silent(black_box(values[0]), values[1]);
            }
        },
        || {},
    )
}

fn bbqueue<const N: usize>() -> Cost {
    type Queue = BBQueue<Inline<ROOM>, AtomicCoord, Polling>;
    let queue: Box<Queue> = Box::new(BBQueue::new());
    let bytes = payload::<N>();
    let (producer, consumer) = (queue.stream_producer(), queue.stream_consumer());
    cost(
        |n| {
            for _ in 0..n {
                if let Ok(mut grant) = producer.grant_exact(8 + N) {
                    grant[..8].copy_from_slice(&rdtsc().to_ne_bytes());
                    grant[8..].copy_from_slice(&bytes);
                    grant.commit(8 + N);
                }
            }
        },
        || {
            while let Ok(grant) = consumer.read() {
                let len = grant.len();
                grant.release(len);
            }
        },
    )
}

fn rtrb<const N: usize>() -> Cost {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<(u64, [u8; N])>::new(EVENTS);
    let bytes = payload::<N>();
    cost(
        |n| {
            for _ in 0..n {
                let _ = producer.push((rdtsc(), bytes));
            }
        },
        || while consumer.pop().is_ok() {},
    )
}

/// Keeps this thread on one of the CPUs that the program may use.
fn pin(which: usize) {
    // SAFETY: the sets are of the size that is told, and plain bits.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &mut allowed) != 0 {
            return;
        }
        let cpus = 0..libc::CPU_SETSIZE as usize;
        if let Some(cpu) = cpus
            .filter(|cpu| libc::CPU_ISSET(*cpu, &allowed))
            .nth(which)
        {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut one);
            libc::sched_setaffinity(0, size, &one);
        }
    }
}

/// Events that `cpus` threads record together in a second, each on a CPU and in a buffer of its own.
fn rate(cpus: usize) -> f64 {
    const LONG: usize = 100 * EVENTS;
    let buffers: Vec<_> = (0..cpus).map(|_| buffer()).collect();
    let bytes = payload::<USUAL>();
    let mut best: f64 = 0.0;
    for _ in 0..40 {
        let start = Barrier::new(cpus);
        let slowest = Cell::new(0f64);
        std::thread::scope(|scope| {
            let threads: Vec<_> = buffers
                .iter()
                .enumerate()
                .map(|(cpu, buffer)| {
                    let (start, bytes) = (&start, &bytes);
                    scope.spawn(move || {
                        pin(cpu);
                        start.wait();
                        let began = Instant::now();
                        for _ in 0..LONG {
                            write(buffer, Level::Task, bytes);
                        }
                        began.elapsed().as_secs_f64()
                    })
                })
                .collect();
            for thread in threads {
                let took = thread.join().expect("no panic");
                slowest.set(slowest.get().max(took));
            }
        });
        best = best.max((cpus * LONG) as f64 / slowest.get());
    }
    best
}

fn main() {
    // Without it, this is `cargo test --benches`, which only wants to know that it builds and starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let config = Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: (ROOM >> 10) as u64,
        generation: 0,
    };
    let tracer = Tracer::new(Host::new(), config, events::ALL).expect("256 KiB");
    tracer
        .set_clock(trace::ClockId::X86Tsc)
        .expect("nobody writes");
    assert!(TRACER.set(tracer).is_ok());
    events::pair::DESC.set_enabled(true);

    println!(
        "{:<48} {:>8} {:>8} {:>8}",
        "an event", "ns", "instr.", "x floor"
    );
    let usual = floor::<USUAL>();
    macro_rules! sizes {
        ($($n:literal)*) => {$(
            let lowest = floor::<$n>();
            row(concat!("floor: rdtsc, stores, ", $n, " bytes"), lowest, lowest);
            row(concat!("ring: reserve, write, commit, ", $n, " bytes"), ring::<$n>(), lowest);
            row(concat!("bbqueue, ", $n, " bytes"), bbqueue::<$n>(), lowest);
            row(concat!("rtrb, ", $n, " bytes"), rtrb::<$n>(), lowest);
        )*};
    }
    sizes!(0 16 64);
    row("ring: nested, half of them within another", nested(), usual);
    row("ring: consuming read, 16 bytes", consume(), usual);
    row("ring: write of 16 bytes while mapped", mapped(), usual);
    row(
        "ring: write of 16 bytes in the region",
        persistent(false),
        usual,
    );
    row(
        "ring: the same, and its page sealed",
        persistent(true),
        usual,
    );
    row("ring: mapped, read in place, 16 bytes", in_place(), usual);
    row("event of two u64, enabled", enabled_event(), usual);
    row("event of two u64, disabled", disabled_event(), usual);
    linux::rows(usual);
    let (one, two) = (rate(1), rate(2));
    println!(
        "two CPUs record {:.2} times as many events a second as one",
        two / one
    );
    if steps::count(|| {}).is_none() {
        println!("instr.: left out, this machine cannot single-step itself");
    }
}
