//! What an old life left in a region: read exactly as it was recorded, and shown as its own kernel would have shown it.

mod damage;
mod life;
mod reasons;

use life::{
    ALL, alone, begin, events, lay, leave, lines, machine, open, raw, read, record, text, tracer,
};
use trace::page::{HEADER_SIZE, Missed};
use trace::ramtrace::mark::Kind;
use trace::ramtrace::old::{self, OldError, OldLife};
use trace::text::write_trace;

#[test]
fn an_old_life_reads_as_its_own_kernel_would_have_shown_it() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 400);
    let written = leave(platform, t, ALL);
    let mut expected = String::new();
    write_trace(t, t, None, &mut expected).unwrap();

    let old = read(platform, 1);
    assert!(old.metadata_good && old.strays.is_empty());
    assert_eq!(old.buffers.len(), 1);
    let mut kept = 0;
    for cpu in &old.buffers[0].cpus {
        assert!(cpu.dropped.is_empty() && cpu.missing == 0);
        for page in &cpu.pages {
            let one = &written[&page.index];
            assert!(life::is(platform, page, one) && one.cpu == cpu.cpu);
            kept += 1;
        }
    }
    assert_eq!(kept, written.len());

    let told = text(platform, 1, 0);
    let (head, rest) = told.split_at(told.find("# tracer:").unwrap());
    assert_eq!(
        head,
        "# ramtrace: life 1 of kernel 0.9.1, generation 0, boot id 01010101-0101-0101-0101-010101010101\n\
         # buffer: of the top instance, in sub-buffers of 4 KiB\n\
         # clock: local, tracer: nop, CPUs: 2\n\
         # CPU 0: 2 pages kept, 0 of them not sealed to their end, 0 cut to their seal; 0 missing, 0 dropped\n\
         # CPU 1: 2 pages kept, 0 of them not sealed to their end, 0 cut to their seal; 0 missing, 0 dropped\n"
    );
    for (line, should) in rest.lines().zip(expected.lines()) {
        assert_eq!(line, should);
    }
    assert_eq!(rest, expected);
}

#[test]
fn pages_are_given_as_they_are() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 300);
    let written = leave(platform, t, ALL);
    let mut should: Vec<_> = written.values().collect();
    should.sort_by_key(|one| (one.cpu, one.seq));
    let pages = raw(platform, 1, 0);
    assert_eq!(pages.len(), should.len());
    for (page, one) in pages.iter().zip(should) {
        assert_eq!(page.len(), 4096);
        let header = trace::page::header(page).unwrap();
        assert_eq!(header.missed, Missed::None);
        assert_eq!(page[..8], one.stamp);
        assert_eq!(page[HEADER_SIZE..][..header.commit], one.data);
        assert!(page[HEADER_SIZE + header.commit..].iter().all(|b| *b == 0));
    }
}

/// The writer has gone around, a reader holds a page of before that, and a full buffer has refused events.
#[test]
fn what_readers_and_full_buffers_do_is_no_damage() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 900);
    // The reader takes the oldest page, and leaves most of it.
    t.buffer(0).unwrap().consume(&mut Vec::new()).unwrap();
    record(t, 9000);
    let lost = t.stats(0).unwrap().pages_lost;
    assert!(lost > 4, "{lost}");
    leave(platform, t, ALL);
    let old = read(platform, 1);
    for cpu in &old.buffers[0].cpus {
        assert_eq!((cpu.missing, cpu.dropped.len()), (0, 0));
        assert!(
            cpu.pages
                .iter()
                .skip(2)
                .all(|page| page.lost == Missed::None)
        );
    }
    assert_eq!(old.buffers[0].cpus[0].pages[1].lost, Missed::Unknown);
    assert_eq!(old.buffers[0].cpus[1].pages[1].lost, Missed::None);
    // What is not there any more is said: how many events, nobody knows.
    let told = text(platform, 1, 0);
    let kept: u64 = old.buffers[0].pages().map(|page| page.events).sum();
    assert!(
        told.contains(&format!(
            "entries-in-buffer/entries-written: {kept}/?   #P:2\n"
        )),
        "{told}"
    );
    for cpu in &old.buffers[0].cpus {
        let gone = cpu.pages.last().unwrap().seq - cpu.pages.len() as u64;
        let line = format!(
            "\n# CPU {}: older pages that were overwritten, read, cleared or taken: {gone}\n",
            cpu.cpu
        );
        assert!(gone >= lost && told.contains(&line), "{line}{told}");
    }

    let platform = machine();
    let t = tracer(platform, 16);
    t.set_option(trace::options::TraceOption::Overwrite, false);
    record(t, 2000);
    let refused = t.stats(0).unwrap().dropped_events;
    assert!(refused > 100);
    // A page is read, and makes room.
    let buffer = t.buffer(0).unwrap();
    let mut page = vec![0; 4096];
    assert!(buffer.read_page(&mut page, false).is_some());
    assert!(buffer.read_page(&mut page, false).is_some());
    record(t, 10);
    leave(platform, t, ALL);
    let old = read(platform, 1);
    let last = old.buffers[0].cpus[0].pages.last().unwrap();
    assert_eq!(last.lost, Missed::Count(refused));
    let told = text(platform, 1, 0);
    assert!(
        told.contains(&format!("CPU:0 [LOST {refused} EVENTS]\n")),
        "{told}"
    );
    let line =
        format!("\n# CPU 0: events that the full buffer refused before its last page: {refused}\n");
    assert!(
        told.contains(&line) && told.contains("/?   #P:2\n"),
        "{told}"
    );
    let raw = raw(platform, 1, 0);
    let of_cpu_0 = old.buffers[0].cpus[0].pages.len();
    let header = trace::page::header(&raw[of_cpu_0 - 1]).unwrap();
    assert_eq!(header.missed, Missed::Count(refused));
}

#[test]
fn another_kernels_events_are_shown_by_its_own_formats() {
    let _alone = alone();
    // Two events of the same numbers as those of `life`, with other names and fields.
    mod others {
        trace::define_events! {
            tracer = crate::life::running;
            /// The one.
            event other:first(b: u32) { print("b is %u", b) }
            /// The other.
            event other:second(c: u64) { print("c is %llx", c) }
        }
    }
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 50);
    leave(platform, t, ALL);
    let mut expected = String::new();
    write_trace(t, t, None, &mut expected).unwrap();
    // The kernel that reads knows other events, and its tracer is at work.
    let config = trace::Config {
        nr_cpus: 1,
        buffer_kb_per_cpu: 16,
        generation: 0,
    };
    let running = trace::Tracer::new(platform, config, others::ALL).unwrap();
    let told = text(platform, 1, 0);
    assert_eq!(lines(&told), lines(&expected));
    assert!(told.contains("number: a=7") && !told.contains("b is"));
    assert_eq!(running.events().len(), 2);
    assert_ne!(others::first::DESC.id(), 0);
}

#[test]
fn an_instance_is_a_buffer_of_its_own() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    let a = t.create_instance("boot map").unwrap();
    a.set_clock(trace::ClockId::Counter).unwrap();
    a.set_event_enabled(&events::number::DESC, true);
    record(t, 40);
    let mut expected = String::new();
    write_trace(t, &a, None, &mut expected).unwrap();
    let region = begin(platform, 1);
    let state = t.state().unwrap();
    lay(&region, platform, 0, &state.cpus, ALL);
    lay(&region, platform, 1, &state.instances[0].cpus, ALL);
    life::save(&region, t);
    let told = text(platform, 1, 1);
    assert!(
        told.contains("# buffer: of the instance boot map,"),
        "{told}"
    );
    assert!(told.contains("# clock: counter,"), "{told}");
    assert!(told.ends_with(&expected), "{told}\n{expected}");
    assert!(lines(&text(platform, 1, 0)).len() > lines(&told).len());
    let region = open(platform);
    let none = old::write_text(&region, 1, 2, &mut String::new());
    assert_eq!(none, Err(OldError::NoBuffer(2)));
    assert_eq!(OldLife::read(&region, 2).unwrap_err(), OldError::NoLife(2));
    assert_eq!(
        OldLife::read(&begin(platform, 2), 2).unwrap_err(),
        OldError::NoLife(2)
    );
}

#[test]
fn larger_sub_buffers_are_read() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 64);
    t.set_subbuf_order(1).unwrap();
    record(t, 6000);
    let written = leave(platform, t, ALL);
    let mut expected = String::new();
    write_trace(t, t, None, &mut expected).unwrap();
    let old = read(platform, 1);
    assert_eq!(old.buffers[0].pages().count(), written.len());
    assert!(old.buffers[0].pages().all(|page| page.size() == 8192));
    let told = text(platform, 1, 0);
    assert!(told.contains("in sub-buffers of 8 KiB"), "{told}");
    assert_eq!(lines(&told), lines(&expected));
    assert!(raw(platform, 1, 0).iter().all(|page| page.len() == 8192));
}

#[test]
fn lives_are_kept_apart() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 400);
    leave(platform, t, ALL);
    let first = text(platform, 1, 0);
    record(t, 500);
    let region = begin(platform, 2);
    lay(&region, platform, 0, &t.state().unwrap().cpus, ALL);
    life::save(&region, t);
    assert_eq!(text(platform, 1, 0), first);
    let second = text(platform, 2, 0);
    assert!(lines(&second).len() > lines(&first).len());
    assert!(second.starts_with("# ramtrace: life 2 "), "{second}");
    // A page that a third life takes is gone without damage.
    let region = begin(platform, 3);
    let mut taken = 0;
    while taken < 2 {
        region.alloc(0, 0, 0, Kind::Events).unwrap();
        taken = region.old_lives().pop().unwrap().taken_pages;
    }
    let told = text(platform, 1, 0);
    let line = format!("# {taken} pages, the oldest first, were taken by a later life");
    assert!(told.contains(&line), "{told}");
    assert!(told.contains("0 missing, 0 dropped\n"), "{told}");
}

/// Where only the marks are left, events are shown by their bytes.
#[test]
fn without_formats_events_are_shown_by_their_bytes() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 10);
    leave(platform, t, ALL);
    let with = text(platform, 1, 0);
    let state = life::metadata(platform, 1).state[0];
    let region = open(platform);
    let page = region.marks().address(state.into());
    platform.memory.write(page + 100, &[0xff; 8]);
    let told = text(platform, 1, 0);
    assert!(told.contains("# its formats are lost"), "{told}");
    let id = events::number::DESC.id();
    assert_eq!(lines(&told).len(), lines(&with).len());
    for (line, with) in lines(&told).iter().zip(lines(&with)) {
        match with.split_once("number: a=") {
            Some((before, a)) => {
                // Names of tasks are lost, too.
                let (_, before) = before.split_once('[').unwrap();
                let bytes = format!(
                    "[{before}Unknown type {id} buf: {:02x} 00 00 00",
                    a.parse::<u8>().unwrap()
                );
                assert!(line.ends_with(&bytes), "{line}\n{bytes}");
            }
            // Linux's own events have numbers that mean the same everywhere.
            None if with.contains("tracing_mark_write: ") => {
                assert_eq!(
                    line.split_once('[').unwrap().1,
                    with.split_once('[').unwrap().1
                )
            }
            None => assert!(line.contains(" buf: 0c 00 09 00 73 6f 6d 65 62"), "{line}"),
        }
    }
}

/// Addresses are named where the kernel is the same build, and nowhere else.
#[test]
fn addresses_of_another_build_are_not_named() {
    let _alone = alone();
    for (now, shown) in [(77, " => build_77_at_1000"), (78, " => 0x1000")] {
        let platform = machine();
        platform.set_build(77);
        let t = tracer(platform, 16);
        t.set_option(trace::options::TraceOption::Stacktrace, true);
        record(t, 3);
        leave(platform, t, ALL);
        platform.set_build(now);
        let told = text(platform, 1, 0);
        assert!(told.lines().any(|line| line == shown), "{told}");
    }
}

/// Where a life's metadata are lost, its pages are found by their marks.
#[test]
fn a_life_without_metadata_is_found_by_its_marks() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 100);
    let written = leave(platform, t, ALL);
    platform.memory.write(life::RANGE.start + 4096, &[0; 8192]);
    assert!(open(platform).old_lives().is_empty());
    assert_eq!(open(platform).old_numbers(), [1]);
    let old = read(platform, 1);
    assert!(!old.metadata_good);
    assert_eq!(old.buffers[0].pages().count(), written.len());
    let told = text(platform, 1, 0);
    let head = "# ramtrace: life 1\n\
         # buffer: of the top instance, in sub-buffers of 4 KiB\n\
         # its metadata are damaged: what is here was found page by page\n\
         # its formats are lost: of most events only the number and the bytes can be told\n\
         # CPU 0: 1 pages kept, ";
    assert!(told.starts_with(head), "{told}");
    assert_eq!(lines(&told).len(), 140);
}

/// Nothing of the region is written to, and nothing of the life is taken while it is read.
#[test]
fn reading_changes_nothing() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 400);
    leave(platform, t, ALL);
    let region = begin(platform, 2);
    while region.pages_available() > 0 {
        region.alloc(0, 0, 0, Kind::Events).unwrap();
    }
    let all = || {
        platform
            .memory
            .read(life::RANGE.start, life::RANGE.len() as usize)
    };
    let before = all();
    struct Out<'a>(
        &'a trace::ramtrace::Region<trace::testing::TestPlatform>,
        usize,
    );
    impl std::fmt::Write for Out<'_> {
        fn write_str(&mut self, s: &str) -> std::fmt::Result {
            assert_eq!(self.0.alloc(0, 0, 0, Kind::Events), None);
            assert!(self.0.erase_buffer(1, 0).is_err());
            self.1 += s.len();
            match self.1 > 5000 {
                true => Err(std::fmt::Error),
                false => Ok(()),
            }
        }
    }
    let cut_off = old::write_text(&region, 1, 0, &mut Out(&region, 0));
    assert_eq!(cut_off, Err(OldError::Output));
    old::write_text(&region, 1, 0, &mut String::new()).unwrap();
    old::write_raw(&region, 1, 0, &mut |_| Ok(())).unwrap();
    let refused = old::write_raw(&region, 1, 0, &mut |_| Err(OldError::Output));
    assert_eq!(refused, Err(OldError::Output));
    assert!(before == all());
    assert!(region.alloc(0, 0, 0, Kind::Events).is_some());
}

/// Of each kernel of a life that went on over a kexec it is said where it begins.
#[test]
fn a_life_may_have_several_kernels() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 16);
    record(t, 5);
    let region = begin(platform, 1);
    let mut state = t.state().unwrap();
    lay(&region, platform, 0, &state.cpus, ALL);
    let mut expected = String::new();
    write_trace(t, t, None, &mut expected).unwrap();
    let stamps = lines(&expected)[3].split_once("5.0000").unwrap().1;
    let stamp: u64 = stamps[..2].parse().unwrap();
    let start = 5_000_000_000 + 1000 * stamp;
    state.boundaries.push(trace::Boundary {
        generation: 1,
        start,
    });
    life::save_state(&region, state);
    let told = text(platform, 1, 0);
    let mut should = lines(&expected);
    let shown: Vec<_> = told
        .lines()
        .filter(|line| !line.starts_with("# ") && *line != "#")
        .collect();
    should.retain(|line| !line.is_empty());
    should.insert(3, "#### generation 1 (kexec) starts here ####");
    let shown: Vec<_> = shown
        .into_iter()
        .filter(|line| !line.starts_with("#  "))
        .collect();
    assert_eq!(shown, should);
}
