//! Buffers in the region that outlives a reset: what is there after each single step, whatever is being done; moving there and back while
//! events are recorded; crossing a kexec.

use handover::range::PhysRange;
use handover::sim::SimMemory;
use handover::state::for_each_page;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;
use trace::fs::TraceFs;
use trace::page::{Cursor, HEADER_SIZE};
use trace::ramtrace::mark::{Kind, LIFE_MASK, Owner, Seal};
use trace::ramtrace::old::{OldLife, write_text};
use trace::ramtrace::{Beginning, Region, at_each_store};
use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;
use trace::{Config, Errno, TraceError, Tracer};

const REGION: PhysRange = PhysRange::new(16 << 20, 18 << 20);

fn beginning() -> Beginning<'static> {
    Beginning {
        release: "1.0",
        build: 7,
        boot_id: [1; 16],
        cpus: 2,
        clock: "local",
        tracer: "nop",
    }
}

/// A machine with an empty region in which a life has begun.
fn machine() -> (TestPlatform, &'static Region<TestPlatform>) {
    let platform = TestPlatform::new(32);
    platform.memory.reserve(REGION);
    // SAFETY: the memory is new, and its allocator keeps off the range.
    unsafe { Region::format(&platform, REGION, 4) }.unwrap();
    let region = platform.open_region(REGION, |region| region.begin_life(&beginning(), 4).unwrap());
    (platform, region)
}

fn tracer(platform: TestPlatform, kb: u64) -> Tracer<TestPlatform> {
    let config = Config {
        nr_cpus: 2,
        buffer_kb_per_cpu: kb,
        generation: 0,
    };
    Tracer::new(platform, config, &[]).unwrap()
}

/// Writes event `number` of `len` bytes; its words after the first are the number's complement.
fn write(
    buffer: &CpuBuffer<TestPlatform>,
    platform: TestPlatform,
    level: Level,
    number: u32,
    len: usize,
) {
    platform.set_ns(platform.ns() + 100);
    let mut event = buffer.reserve(level, len, &|| platform.ns()).unwrap();
    event.write(0, &number.to_ne_bytes());
    for at in (4..len).step_by(4) {
        event.write(at, &(!number).to_ne_bytes());
    }
    event.commit();
}

/// What an independent reader finds in the region: the events of `cpu` in the order of the pages' numbers. Every page that is sealed has to be as
/// its seal says.
fn found(region: &Region<TestPlatform>, platform: TestPlatform, cpu: u8) -> Vec<u32> {
    let marks = region.marks();
    let mut pages = Vec::new();
    for index in 0..marks.count() {
        let mark = marks.at(index).unwrap();
        let Some(owner) = Owner::decode(mark.owner(), index) else {
            continue;
        };
        if owner.kind != Kind::Events || owner.cpu != cpu || owner.life != region.life() & LIFE_MASK
        {
            continue;
        }
        let len = 4096 << owner.order;
        let page = handover::mem::Memory::ptr(&platform, marks.address(index), len).unwrap();
        // SAFETY: the memory is there for good, and this thread alone uses it.
        let page = unsafe { core::slice::from_raw_parts(page.as_ptr(), len) }.to_vec();
        let word = |at: usize| u64::from_ne_bytes(page[at..at + 8].try_into().unwrap());
        let (stamp, commit) = (word(0), word(8) as usize);
        let Seal {
            crc,
            len,
            full,
            number,
        } = mark.seal();
        if commit == 0 {
            assert_eq!(len, 0, "an empty page has no seal");
            continue;
        }
        if len > 0 {
            assert_eq!(number, mark.seq() as u16);
            assert!(len <= commit && (!full || len == commit));
            let words: Vec<_> = page[HEADER_SIZE..HEADER_SIZE + len]
                .chunks(4)
                .map(|word| u32::from_ne_bytes(word.try_into().unwrap()).into())
                .collect();
            assert_eq!(mark.checksum(stamp, &words, None), crc, "page {index}");
        }
        pages.push((mark.seq(), page));
    }
    pages.sort();
    let mut numbers = Vec::new();
    let mut before = None;
    let mut first = usize::MAX;
    let mut time = 0;
    for (seq, page) in pages {
        // Behind the reader page pages may have been overwritten.
        assert!(
            before.is_none_or(|before| seq == before + 1 || numbers.len() == first),
            "{before:?} {seq}"
        );
        before = Some(seq);
        let commit = u64::from_ne_bytes(page[8..16].try_into().unwrap()) as usize;
        let data = &page[HEADER_SIZE..HEADER_SIZE + commit];
        let mut cursor = Cursor::new(u64::from_ne_bytes(page[..8].try_into().unwrap()));
        while let Some(event) = cursor.next(data).unwrap() {
            assert!(event.ts >= time, "time goes back");
            time = event.ts;
            let payload = &data[event.payload..][..event.len];
            let number = u32::from_ne_bytes(payload[..4].try_into().unwrap());
            assert!(
                payload[4..]
                    .chunks(4)
                    .all(|word| word == (!number).to_ne_bytes()),
                "event {number} is whole"
            );
            numbers.push(number);
        }
        first = first.min(numbers.len());
    }
    numbers
}

/// `found` at a moment when the writes up to `done` have ended and none after `begun` has begun: those that are there have no hole among
/// them (but behind the reader page, where events were consumed), and reach up to the last.
fn check(found: &[u32], done: u32, begun: u32, least: usize, read: bool) {
    let mut sorted = found.to_vec();
    sorted.sort_unstable();
    let holes = sorted
        .windows(2)
        .filter(|pair| pair[0] + 1 != pair[1] && pair[1] <= done);
    assert!(holes.count() <= usize::from(read), "{found:?} of {done}");
    assert!(
        found.iter().all(|number| *number <= begun),
        "{found:?} of {begun}"
    );
    if done > 0 {
        assert!(found.contains(&done), "{found:?} of {done}");
        assert!(
            found.len() >= least.min(done as usize),
            "{found:?} of {done}"
        );
    }
}

#[test]
fn a_reset_at_any_step_of_a_write_finds_all_that_was_committed() {
    let (platform, region) = machine();
    let tracer = tracer(platform, 12);
    tracer.set_persistent(tracer.top(), true).unwrap();
    let buffer = tracer.buffer(0).unwrap();
    let (done, begun) = (Cell::new(0), Cell::new(0));
    let looks = Cell::new(0);
    let look = |_: &'static Location<'static>| {
        // Three pages hold eight events of 900 bytes at least, whatever is begun.
        check(
            &found(region, platform, 0),
            done.get(),
            begun.get(),
            8,
            true,
        );
        looks.set(looks.get() + 1);
    };
    for number in 1..60 {
        begun.set(number);
        platform.interrupted(&look, || write(buffer, platform, Level::Task, number, 900));
        done.set(number);
        if number % 7 == 0 {
            tracer.seal(4);
        }
        if number % 11 == 0 {
            let mut payload = Vec::new();
            buffer.consume(&mut payload).unwrap();
        }
    }
    assert!(looks.get() > 500, "{}", looks.get());
}

#[test]
fn a_reset_within_nested_writes_finds_all_that_was_committed() {
    // At each step of one write, another that takes a page of its own; and at each step of both a look.
    for step in 1..200 {
        let (platform, region) = machine();
        let tracer = tracer(platform, 16);
        tracer.set_persistent(tracer.top(), true).unwrap();
        let buffer = tracer.buffer(0).unwrap();
        for number in 1..=16 {
            write(buffer, platform, Level::Task, number, 900);
        }
        let (at, nested) = (Cell::new(0), Cell::new(false));
        let begun = RefCell::new(17);
        let come = |_: &'static Location<'static>| {
            check(&found(region, platform, 0), 16, *begun.borrow(), 8, false);
            at.set(at.get() + 1);
            if at.get() == step && !nested.replace(true) {
                *begun.borrow_mut() = 19;
                write(buffer, platform, Level::Irq, 18, 900);
                write(buffer, platform, Level::Irq, 19, 2900);
            }
        };
        platform.interrupted(&come, || write(buffer, platform, Level::Task, 17, 900));
        let last = *begun.borrow();
        let all = found(region, platform, 0);
        assert!(
            (17..=last).all(|number| all.contains(&number)),
            "{step}: {all:?}"
        );
        if !nested.get() {
            assert!(step > 10, "{step}");
            return;
        }
    }
    panic!("a write has more steps than that");
}

#[test]
fn a_buffer_moves_there_and_back_with_all_that_is_in_it() {
    for (written, consumed) in [
        (0, 0),
        (1, 0),
        (3, 2),
        (20, 0),
        (20, 9),
        (100, 0),
        (100, 100),
    ] {
        let (platform, region) = machine();
        let free = region.pages_available();
        let tracer = tracer(platform, 32);
        let ordinary = platform.owned().len();
        let buffer = tracer.buffer(0).unwrap();
        for number in 1..=written {
            write(buffer, platform, Level::Task, number, 900);
        }
        let mut payload = Vec::new();
        for _ in 0..consumed {
            buffer.consume(&mut payload).unwrap();
        }
        let stats = buffer.stats();
        let before = contents(buffer);
        let mut iter = buffer.iter().unwrap();
        let first = iter.next().map(|entry| entry.payload.to_vec());
        tracer.set_persistent(tracer.top(), true).unwrap();
        assert!(tracer.top().is_persistent());
        assert_eq!(platform.owned().len(), 0, "all pages are the region's");
        assert_eq!(buffer.stats(), stats);
        assert_eq!(contents(buffer), before);
        // An iterator goes on.
        let mut rest: Vec<_> = first.into_iter().collect();
        while let Some(entry) = iter.next() {
            rest.push(entry.payload.to_vec());
        }
        assert_eq!(rest.len(), before.len());
        let there = found(region, platform, 0);
        assert!(there.ends_with(&before), "{there:?} {before:?}");
        // It goes on there, and comes back.
        write(buffer, platform, Level::Task, written + 1, 900);
        assert_eq!(found(region, platform, 0).last(), Some(&(written + 1)));
        let before = contents(buffer);
        tracer.set_persistent(tracer.top(), false).unwrap();
        assert_eq!(contents(buffer), before);
        assert_eq!(platform.owned().len(), ordinary);
        assert_eq!(found(region, platform, 0), []);
        write(buffer, platform, Level::Task, written + 2, 900);
        assert_eq!(contents(buffer).last(), Some(&(written + 2)));
        drop(tracer);
        // But the state, which is there until there is another one.
        let state = region.info().unwrap().state.len() as u64;
        assert_eq!(region.pages_available() + state, free);
    }
}

fn contents(buffer: &CpuBuffer<TestPlatform>) -> Vec<u32> {
    let mut all = Vec::new();
    let mut iter = buffer.iter().unwrap();
    while let Some(entry) = iter.next() {
        all.push(u32::from_ne_bytes(entry.payload[..4].try_into().unwrap()));
    }
    all
}

#[test]
fn a_reset_while_a_buffer_moves_finds_the_newest_events() {
    let (platform, region) = machine();
    let tracer = tracer(platform, 32);
    let buffer = tracer.buffer(0).unwrap();
    for number in 1..=40 {
        write(buffer, platform, Level::Task, number, 900);
    }
    let most = Cell::new(0);
    let look = |_: &'static Location<'static>| {
        let found = found(region, platform, 0);
        assert!(found.is_empty() || found.ends_with(&[40]), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert!(found.len() >= most.replace(found.len()));
    };
    platform
        .interrupted(&look, || tracer.set_persistent(tracer.top(), true))
        .unwrap();
    assert!(most.get() > 30);
}

/// Pages of the running life's events that hold something, and how many of them are sealed to their end.
fn sealed(region: &Region<TestPlatform>, platform: TestPlatform) -> (usize, usize) {
    let marks = region.marks();
    let (mut pages, mut whole) = (0, 0);
    for index in 0..marks.count() {
        let mark = marks.at(index).unwrap();
        let owner = Owner::decode(mark.owner(), index);
        if owner.is_none_or(|owner| owner.kind != Kind::Events) {
            continue;
        }
        let head = platform.memory.read(marks.address(index), HEADER_SIZE);
        let commit = u64::from_ne_bytes(head[8..16].try_into().unwrap()) as usize;
        pages += usize::from(commit > 0);
        whole += usize::from(commit > 0 && mark.seal().len == commit);
    }
    (pages, whole)
}

/// No tick is needed for what was there before; also of a buffer that was there once, and was sealed then.
#[test]
fn what_moves_is_sealed_each_time() {
    let (platform, region) = machine();
    let t = tracer(platform, 64);
    for round in 0..3 {
        for number in 1..=40 {
            write(t.buffer(0).unwrap(), platform, Level::Task, number, 900);
        }
        t.set_persistent(t.top(), true).unwrap();
        let (pages, whole) = sealed(region, platform);
        assert_eq!(pages, whole, "round {round}");
        assert!(pages >= 10);
        t.set_persistent(t.top(), false).unwrap();
    }
}

#[test]
fn what_cannot_move_says_why_and_stays() {
    let (platform, region) = machine();
    let free = region.pages_available();
    let t = tracer(platform, 64);
    let buffer = t.buffer(0).unwrap();
    write(buffer, platform, Level::Task, 1, 100);
    // A snapshot.
    t.allocate_snapshot().unwrap();
    assert_eq!(
        t.set_persistent(t.top(), true),
        Err(TraceError::HasSnapshot)
    );
    assert!(region.info().unwrap().buffers.is_empty());
    t.free_snapshot().unwrap();
    // Too large for the region: nothing is left there.
    t.resize(None, 4096).unwrap();
    assert!(no_room(t.set_persistent(t.top(), true)));
    assert!(!t.is_persistent());
    let state = region.info().unwrap().state.len() as u64;
    assert_eq!(region.pages_available() + state, free);
    assert_eq!(contents(buffer), [1]);
    // There, it has no snapshot, and grows as far as there is room.
    t.resize(None, 64).unwrap();
    t.set_persistent(t.top(), true).unwrap();
    assert_eq!(t.take_snapshot(None), Err(TraceError::Persistent));
    assert!(no_room(t.resize(None, 4096)));
    assert_eq!(contents(buffer), [1]);
    t.resize(None, 256).unwrap();
    t.set_subbuf_order(2).unwrap();
    write(buffer, platform, Level::Task, 2, 100);
    assert_eq!(found(region, platform, 0), [2]);
    t.clear(None).unwrap();
    assert_eq!(found(region, platform, 0), []);
    // A second time it is there already, under the number that it has.
    t.set_persistent(t.top(), true).unwrap();
    assert_eq!(region.info().unwrap().buffers[0].number, 0);
    // Instances have numbers of their own.
    let one = t.create_instance("one").unwrap();
    t.set_persistent(&one, true).unwrap();
    let info = region.info().unwrap();
    assert_eq!(info.buffers.len(), 2);
    assert_ne!(info.buffers[0].number, info.buffers[1].number);
    // Without a region.
    let bare = TestPlatform::new(8);
    let t = tracer(bare, 64);
    assert_eq!(t.set_persistent(t.top(), true), Err(TraceError::NoRegion));
}

/// Whether more was asked for than the region has, by what the error says.
fn no_room(result: Result<(), TraceError>) -> bool {
    matches!(result, Err(TraceError::RegionRoom { wanted, left }) if wanted > left)
}

/// What there is no room for takes nothing from those before; what there is room for takes the oldest, which is counted.
#[test]
fn what_is_refused_costs_no_old_life() {
    let (platform, _) = machine();
    let t = tracer(platform, 64);
    t.set_persistent(t.top(), true).unwrap();
    write(t.buffer(0).unwrap(), platform, Level::Task, 1, 100);
    let left = platform.memory.read(REGION.start, REGION.len() as usize);
    let platform = TestPlatform::new(32);
    platform.memory.reserve(REGION);
    platform.memory.write(REGION.start, &left);
    let region = platform.open_region(REGION, |region| region.begin_life(&beginning(), 4).unwrap());
    let old = region.old_lives();
    let kept = || {
        format!(
            "{:?}",
            OldLife::read(region, old[0].number).unwrap().buffers
        )
    };
    let pages = kept();
    let t = tracer(platform, 4096);
    assert!(no_room(t.set_persistent(t.top(), true)));
    // As a file, it says how much there is.
    let fs = TraceFs(&t);
    let refused = fs.write("options/persist", b"1\n", true);
    assert_eq!(refused, Err(Errno::ENOSPC));
    let left = region.pages_obtainable();
    let mut log = String::new();
    fs.read("error_log", &mut log).unwrap();
    let line = format!(
        "persist: error: 2050 more pages of the ramtrace region are needed, and it has {left} to give, those of old lives with them"
    );
    assert!(
        log.contains(&line) && log.contains("  Command: 1\n           ^\n"),
        "{log}"
    );
    // And to who can show it, at once.
    let said = fs
        .write_or_say("trace_options", b"persist", true)
        .unwrap_err();
    let (sentence, line) = (
        said.to_string(),
        line.trim_start_matches("persist: error: "),
    );
    assert!(
        sentence.starts_with(line) && sentence.ends_with(" (ENOSPC)"),
        "{sentence}"
    );
    assert_eq!(said.errno(), Errno::ENOSPC);
    t.resize(None, 64).unwrap();
    t.set_persistent(t.top(), true).unwrap();
    assert!(no_room(t.resize(None, 4096)));
    assert!(no_room(t.resize(Some(1), 4096)));
    let refused = fs.write("events/ftrace/print/trigger", b"snapshot\n", false);
    assert_eq!(refused, Err(Errno::EBUSY));
    let mut log = String::new();
    fs.read("error_log", &mut log).unwrap();
    let line = "trigger: error: the trace buffer lives in the ramtrace region, where it can have no snapshot";
    assert!(log.contains(line), "{log}");
    assert_eq!(region.old_lives(), old);
    assert_eq!(kept(), pages);
    assert_eq!(region.lives_taken(), 0);
    let mut kb = 64;
    while region.lives_taken() == 0 {
        kb += 16;
        t.resize(None, kb).unwrap();
    }
    assert_eq!(region.lives_taken(), 1);
    assert_eq!(region.info().unwrap().erased_lives, 1);
    assert!(region.old_lives().iter().all(|life| life.state.is_empty()));
}

#[test]
fn a_buffer_in_the_region_crosses_a_kexec_and_keeps_its_numbers() {
    let (platform, region) = machine();
    let number = region.life();
    let t = tracer(platform, 32);
    t.set_persistent(t.top(), true).unwrap();
    let mut next = 0;
    for _ in 0..50 {
        next += 1;
        write(t.buffer(0).unwrap(), platform, Level::Task, next, 900);
    }
    t.seal(100);
    let mut t = t;
    let mut platform = platform;
    for hop in 0..4 {
        let before = found(platform.ramtrace_region(), platform, 0);
        let state = t.state().unwrap();
        let mut pages = Vec::new();
        for_each_page(&state, |page| pages.push(page));
        core::mem::forget(t);
        platform = platform.kexec(&[]);
        let region = platform.open_region(REGION, |region| region.go_on(number).unwrap());
        assert!(pages.iter().all(|page| region.owns(page.pa)));
        t = Tracer::adopt(platform, 2, hop + 1, state, &[]).unwrap();
        assert!(t.is_persistent());
        assert_eq!(t.report().damaged_pages, 0);
        assert_eq!(found(region, platform, 0), before);
        for _ in 0..if hop == 1 { 1 } else { 20 } {
            next += 1;
            write(t.buffer(0).unwrap(), platform, Level::Task, next, 900);
        }
        if hop == 2 {
            let mut payload = Vec::new();
            for _ in 0..10 {
                t.buffer(0).unwrap().consume(&mut payload).unwrap();
            }
        }
        // A buffer that was empty.
        if hop == 2 {
            platform.set_cpu(1);
            write(t.buffer(1).unwrap(), platform, Level::Task, 1, 900);
            assert_eq!(t.seal(100), 1);
            platform.set_cpu(0);
            assert_eq!(found(region, platform, 1), [1]);
        }
        t.seal(100);
        check(&found(region, platform, 0), next, next, 12, true);
        assert!(found(region, platform, 0).ends_with(&contents(t.buffer(0).unwrap())));
    }
}

/// What the next life would find of life `number` if there were a reset now.
fn as_left(platform: TestPlatform, copy: SimMemory, number: u64) -> OldLife {
    let bytes = platform.memory.read(REGION.start, REGION.len() as usize);
    copy.write(REGION.start, &bytes);
    // SAFETY: nobody but this region uses that memory, and the one that was there before is gone.
    let region = unsafe { Region::open(copy, REGION) }.unwrap();
    OldLife::read(&region, number).unwrap()
}

#[test]
fn a_reset_while_a_buffer_is_cleared_or_given_back_finds_no_damage() {
    for ends in [
        |t: &Tracer<TestPlatform>| t.clear(None),
        |t: &Tracer<TestPlatform>| t.set_subbuf_order(1),
        |t: &Tracer<TestPlatform>| t.resize(None, 12),
        |t: &Tracer<TestPlatform>| t.set_persistent(t.top(), false),
    ] {
        let (platform, region) = machine();
        let number = region.life();
        let t = tracer(platform, 32);
        t.set_persistent(t.top(), true).unwrap();
        let buffer = t.buffer(0).unwrap();
        // The ring has gone round, and some of its pages have changed places with the reader page.
        for number in 1..=90 {
            write(buffer, platform, Level::Task, number, 900);
            if number % 40 == 8 {
                t.seal(100);
                for _ in 0..6 {
                    buffer.consume(&mut Vec::new()).unwrap();
                }
            }
        }
        let copy = SimMemory::new(&[REGION]);
        let seen = Rc::new(Cell::new((usize::MAX, 0)));
        let (note, pages) = (seen.clone(), |old: &OldLife| {
            let mut cpus = old.buffers.iter().flat_map(|buffer| &buffer.cpus);
            cpus.find(|cpu| cpu.cpu == 0).cloned()
        });
        let last = pages(&as_left(platform, copy, number)).unwrap();
        let last = last.pages.last().unwrap().seq;
        let look = move || {
            let old = as_left(platform, copy, number);
            assert!(old.strays.is_empty());
            let (kept, changes) = note.get();
            let Some(cpu) = pages(&old) else {
                note.set((0, changes + 1));
                return;
            };
            assert!(cpu.dropped.is_empty(), "{cpu:?}");
            assert_eq!(cpu.missing, 0, "{cpu:?}");
            // The newest stay longest.
            assert!(cpu.pages.last().is_none_or(|page| page.seq == last));
            assert!(cpu.pages.len() <= kept);
            note.set((
                cpu.pages.len(),
                changes + usize::from(cpu.pages.len() != kept),
            ));
        };
        at_each_store(look, || ends(&t)).unwrap();
        assert!(seen.get().1 > 4, "{:?}", seen.get());
    }
}

#[test]
fn a_reset_while_damage_is_adopted_finds_all_that_was_not_damaged() {
    let (platform, region) = machine();
    let number = region.life();
    let t = tracer(platform, 32);
    t.set_persistent(t.top(), true).unwrap();
    let buffer = t.buffer(0).unwrap();
    for number in 1..=90 {
        write(buffer, platform, Level::Task, number, 900);
        if number == 40 {
            t.seal(100);
        }
    }
    let state = t.state().unwrap();
    core::mem::forget(t);
    let copy = SimMemory::new(&[REGION]);
    let before = as_left(platform, copy, number).buffers[0].cpus[0].clone();
    let good: Vec<u64> = before.pages.iter().map(|page| page.index).collect();
    // Its first event has no such type.
    let hurt = before.pages[3];
    platform.memory.write(hurt.page.pa + 16, &[0xff; 4]);
    let good: Vec<u64> = good.into_iter().filter(|at| *at != hurt.index).collect();

    let platform = platform.kexec(&[]);
    platform.open_region(REGION, |region| region.go_on(number).unwrap());
    let stores = Rc::new(Cell::new(0));
    let count = stores.clone();
    let look = move || {
        count.set(count.get() + 1);
        let old = as_left(platform, copy, number);
        let cpu = &old.buffers[0].cpus[0];
        let kept: Vec<u64> = cpu.pages.iter().map(|page| page.index).collect();
        assert_eq!(kept, good, "{cpu:?}");
        assert!(cpu.pages.is_sorted_by(|a, b| a.seq < b.seq));
        assert!(
            cpu.dropped.iter().all(|one| one.index == hurt.index),
            "{cpu:?}"
        );
        assert!(cpu.dropped.len() as u64 + cpu.missing <= 1, "{cpu:?}");
    };
    let t = at_each_store(look, || Tracer::adopt(platform, 2, 1, state, &[])).unwrap();
    assert_eq!(t.report().damaged_pages, 1);
    assert!(stores.get() > 6, "{}", stores.get());
    let events = contents(t.buffer(0).unwrap());
    assert_eq!(
        events.len(),
        found(platform.ramtrace_region(), platform, 0).len()
    );
}

#[test]
fn sealing_catches_up_in_small_parts() {
    let (platform, region) = machine();
    let t = tracer(platform, 64);
    t.set_persistent(t.top(), true).unwrap();
    for number in 1..=60 {
        write(t.buffer(0).unwrap(), platform, Level::Task, number, 900);
    }
    let sealed = || {
        let marks = region.marks();
        let all = (0..marks.count()).filter_map(|index| marks.at(index));
        all.filter(|mark| mark.seal().len > 0).count()
    };
    assert_eq!(sealed(), 0);
    for round in 1..=20 {
        t.seal(1);
        assert!(sealed() <= round);
    }
    // Four events a page.
    assert_eq!(sealed(), 15);
    // The last page grows; what is begun anew is sealed anew.
    for number in 61..=200 {
        write(t.buffer(0).unwrap(), platform, Level::Task, number, 900);
        t.seal(2);
        check(&found(region, platform, 0), number, number, 60, false);
    }
    assert_eq!(sealed(), 16);
}

/// Nobody reads for long, and nothing is sealed: the ring has gone further from its reader page than the region has pages.
#[test]
fn a_ring_that_has_left_its_reader_page_far_behind_is_found() {
    let (platform, region) = machine();
    let t = tracer(platform, 32);
    t.set_persistent(t.top(), true).unwrap();
    let buffer = t.buffer(0).unwrap();
    for number in 1..=8 {
        write(buffer, platform, Level::Task, number, 900);
    }
    buffer.consume(&mut Vec::new()).unwrap();
    t.seal(100);
    let last = 8 * region.marks().count() as u32;
    for number in 9..=last {
        write(buffer, platform, Level::Task, number, 900);
    }
    let left = as_left(platform, SimMemory::new(&[REGION]), region.life());
    let cpu = &left.buffer(0).unwrap().cpus[0];
    assert_eq!((cpu.pages.len(), cpu.dropped.len(), cpu.missing), (9, 0, 0));
}

/// The lines of events of a trace.
fn events(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') || line.starts_with("####"));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_next_life_reads_what_the_last_one_would_have_shown() {
    let (platform, region) = machine();
    let number = region.life();
    let t = tracer(platform, 32);
    let mark = |t: &Tracer<TestPlatform>, file: &str, text: &str| {
        let platform = *t.platform();
        platform.set_ns(platform.ns() + 1_000);
        let written = TraceFs(t).write(file, text.as_bytes(), true);
        written.unwrap();
    };
    let text = |t: &Tracer<TestPlatform>, file: &str| {
        let mut text = String::new();
        TraceFs(t).read(file, &mut text).unwrap();
        text
    };
    mark(&t, "trace_marker", "before it moved");
    mark(&t, "options/persist", "1");
    let one = t.create_instance("one").unwrap();
    mark(&t, "instances/one/options/persist", "1");
    assert_eq!(text(&t, "instances/one/options/persist"), "1\n");
    for n in 0..2000 {
        platform.set_cpu(n % 2);
        mark(&t, "trace_marker", &format!("number {n}"));
        mark(&t, "instances/one/trace_marker", &format!("other {n}"));
        t.seal(1);
    }
    platform.set_cpu(0);
    drop(one);
    // Over a kexec.
    let state = t.state().unwrap();
    core::mem::forget(t);
    let platform = platform.kexec(&[]);
    platform.open_region(REGION, |region| region.go_on(number).unwrap());
    let t = Tracer::adopt(platform, 2, 1, state, &[]).unwrap();
    t.save_to_region().unwrap();
    for n in 2000..2100 {
        mark(&t, "trace_marker", &format!("number {n}"));
        mark(&t, "instances/one/trace_marker", &format!("other {n}"));
    }
    let shown = [text(&t, "trace"), text(&t, "instances/one/trace")];
    core::mem::forget(t);

    // The machine is reset.
    let platform = platform.kexec(&[]);
    platform.set_ns(5);
    let region = platform.open_region(REGION, |region| region.begin_life(&beginning(), 4).unwrap());
    assert!(region.life() > number);
    let left = OldLife::read(region, number).unwrap();
    assert_eq!(left.buffers.len(), 2);
    for (buffer, shown) in left.buffers.iter().zip(&shown) {
        assert!(
            buffer
                .cpus
                .iter()
                .all(|cpu| cpu.dropped.is_empty() && cpu.missing == 0)
        );
        let mut text = String::new();
        write_text(region, number, buffer.number, &mut text).unwrap();
        assert_eq!(events(&text), events(shown), "{text}");
        assert!(text.contains("#### generation 1 (kexec) starts here ####"));
        assert!(text.contains("1.0"), "{text}");
    }
    // The new life records on other pages, and shows nothing of it.
    let t = tracer(platform, 32);
    t.set_persistent(t.top(), true).unwrap();
    mark(&t, "trace_marker", "new");
    assert_eq!(events(&text(&t, "trace")).len(), 1);
    let mut again = String::new();
    write_text(region, number, 0, &mut again).unwrap();
    assert_eq!(events(&again), events(&shown[0]));
}
