//! Each reason for which a page is dropped, or cut to its seal, or is nothing.

use crate::life::{
    ALL, Sealing, Written, alone, leave, lines, machine, open, put, read, record, seal, text,
    tracer,
};
use handover::page::PageRef;
use std::collections::BTreeMap;
use trace::page::{HEADER_SIZE, MISSED_EVENTS, Missed};
use trace::ramtrace::mark::{Kind, Owner, Seal};
use trace::ramtrace::old::{DropReason, OldCpu, OldPage};
use trace::testing::TestPlatform;

/// A life of which CPU 0 has some pages that are full, and a last one.
struct Left {
    platform: TestPlatform,
    written: BTreeMap<u64, Written>,
    /// Of CPU 0, the oldest first.
    pages: Vec<OldPage>,
}

fn left(sealing: Sealing) -> Left {
    let platform = machine();
    let t = tracer(platform, 32);
    record(t, 1500);
    let written = leave(platform, t, sealing);
    let pages = read(platform, 1).buffers[0].cpus[0].pages.clone();
    assert!(pages.len() >= 5, "{}", pages.len());
    Left {
        platform,
        written,
        pages,
    }
}

impl Left {
    fn cpu(&self) -> OldCpu {
        read(self.platform, 1).buffers[0].cpus[0].clone()
    }

    fn bytes(&self, page: &OldPage) -> Vec<u8> {
        self.platform.memory.read(page.page.pa, page.size())
    }

    fn write(&self, page: &OldPage, at: usize, bytes: &[u8]) {
        self.platform.memory.write(page.page.pa + at as u64, bytes);
    }

    /// A further page of CPU 0, with this content.
    fn add(
        &self,
        order: u8,
        numbers: (u64, u64),
        bytes: &[u8],
        sealed: Option<(usize, bool)>,
    ) -> u64 {
        // As if it had been written before the life ended.
        let region = open(self.platform);
        region.go_on(1).unwrap();
        let page: PageRef = region.alloc(0, 0, order, Kind::Events).unwrap();
        put(&region, self.platform, page, numbers, bytes, sealed);
        region.marks().index(page.pa).unwrap()
    }

    /// The page is dropped for that reason, all others are kept, and the text says so.
    #[track_caller]
    fn dropped(&self, index: u64, why: impl Fn(DropReason) -> bool, told: &str) {
        let cpu = self.cpu();
        let [dropped] = cpu.dropped[..] else {
            panic!("{:?}", cpu.dropped);
        };
        assert!(dropped.index == index && why(dropped.why), "{dropped:?}");
        assert_eq!(cpu.missing, 0);
        for page in &self.pages {
            let kept = cpu.pages.iter().find(|kept| kept.index == page.index);
            match kept {
                Some(kept) => assert_eq!(
                    OldPage {
                        lost: page.lost,
                        ..*kept
                    },
                    *page
                ),
                None => assert_eq!(page.index, index),
            }
        }
        let text = text(self.platform, 1, 0);
        let line = format!("# page {index} (CPU 0): {told}; dropped\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("0 missing, 1 dropped\n"));
    }
}

fn commit(n: u64) -> [u8; 8] {
    n.to_ne_bytes()
}

#[test]
fn what_is_not_as_it_was_sealed_is_dropped() {
    let _alone = alone();
    let checksum = |why| why == DropReason::Checksum;
    let told = "its checksum is wrong";
    type Change = fn(&Left, &OldPage);
    let changes: [Change; 8] = [
        // Data, the first and the last of it; the time stamp.
        |left, page| left.write(page, HEADER_SIZE + 4, &[0x55]),
        |left, page| left.write(page, HEADER_SIZE + page.commit - 1, &[0x55]),
        |left, page| left.write(page, 3, &[0x55]),
        // All of it.
        |left, page| left.write(page, 0, &[0; 4096]),
        // The number, what was refused, the seal's number, and its length.
        |left, page| {
            let marks = open(left.platform).marks();
            marks
                .of(page.page.pa)
                .unwrap()
                .begin(page.seq ^ 4, page.refused);
        },
        |left, page| {
            let marks = open(left.platform).marks();
            marks.of(page.page.pa).unwrap().begin(page.seq, 1);
        },
        |left, page| {
            let mark = open(left.platform).marks().of(page.page.pa).unwrap();
            let number = mark.seal().number ^ 1;
            assert!(mark.set_seal(
                mark.seal(),
                Seal {
                    number,
                    ..mark.seal()
                }
            ));
        },
        |left, page| {
            let mark = open(left.platform).marks().of(page.page.pa).unwrap();
            let len = 65532;
            assert!(mark.set_seal(mark.seal(), Seal { len, ..mark.seal() }));
        },
    ];
    for change in changes {
        for at in [1, 2] {
            let left = left(ALL);
            let page = left.pages[at];
            change(&left, &page);
            left.dropped(page.index, checksum, told);
            let lost = left.cpu().pages[at].lost;
            // What the writer and the reader leave behind the oldest page is no different.
            assert_eq!(lost, Missed::Unknown);
            assert!(lines(&text(left.platform, 1, 0)).contains(&"CPU:0 [LOST EVENTS]"));
        }
    }
}

#[test]
fn a_header_that_cannot_be_is_no_pages() {
    let _alone = alone();
    let header = |why| matches!(why, DropReason::Header(_));
    let seal = |why| matches!(why, DropReason::Seal { .. });
    let left = left(ALL);
    let page = left.pages[2];
    for (word, told) in [
        (commit(4084), "the page header counts 0xff4 bytes of data"),
        (commit(4079), "the page header counts 0xfef bytes of data"),
        (
            commit(1 << 40),
            "the page header counts 0x10000000000 bytes of data",
        ),
    ] {
        left.write(&page, 8, &word);
        left.dropped(page.index, header, told);
    }
    left.write(&page, 8, &commit(page.commit as u64 | MISSED_EVENTS));
    let told = "its header tells of lost events";
    left.dropped(page.index, |why| why == DropReason::Flags, told);
    for count in [0, page.commit - 4, page.commit + 4] {
        left.write(&page, 8, &commit(count as u64));
        if count > 4080 {
            continue;
        }
        let told = format!(
            "its header counts {count} bytes of data, and its seal {}",
            page.commit
        );
        left.dropped(page.index, seal, &told);
    }
}

#[test]
fn a_page_whose_mark_is_damaged_is_told_by_its_bitmap() {
    let _alone = alone();
    for word in [0, 0x1234_5678_9abc_def0] {
        let left = left(ALL);
        let page = left.pages[1];
        let mark = open(left.platform).marks().of(page.page.pa).unwrap();
        mark.give(word);
        let old = read(left.platform, 1);
        let [stray] = old.strays[..] else {
            panic!("{:?}", old.strays);
        };
        assert_eq!((stray.index, stray.cpu), (page.index, 0));
        assert_eq!(stray.why, DropReason::Mark);
        assert_eq!(left.cpu().pages.len(), left.pages.len() - 1);
        assert_eq!(left.cpu().missing, 0);
        let told = text(left.platform, 1, 0);
        let line = format!(
            "# page {} (CPU 0): its mark is damaged; dropped\n",
            page.index
        );
        assert!(told.contains(&line), "{told}");
        assert!(
            told.contains("# of an unknown buffer: 1 dropped\n"),
            "{told}"
        );
        // Nothing is lost with an empty page.
        left.write(&page, 8, &commit(0));
        assert!(read(left.platform, 1).strays.is_empty());
    }
    // Nor where a bit alone is damaged.
    let left = left(ALL);
    let none = open(left.platform).marks();
    let free = (0..none.count()).find(|index| none.at(*index).unwrap().owner() == 0);
    let pa = none.address(free.unwrap());
    left.platform.memory.write(pa, &[0; 4096]);
    assert!(read(left.platform, 1).strays.is_empty());
}

#[test]
fn pages_of_which_nothing_is_left_are_missing() {
    let _alone = alone();
    let left = left(ALL);
    for (at, missing) in [(3, 1), (2, 2), (1, 0)] {
        // As after damage to both its mark and the bitmap.
        let page = left.pages[at];
        let region = open(left.platform);
        region.go_on(1).unwrap();
        region.free(page.page);
        // Right behind the oldest page it cannot be told from where the writer has gone around.
        assert_eq!(left.cpu().missing, missing);
        assert!(left.cpu().dropped.is_empty());
    }
    let told = text(left.platform, 1, 0);
    assert!(lines(&told).contains(&"CPU:0 [LOST EVENTS]"));
}

#[test]
fn a_sub_buffer_is_whole_or_dropped() {
    let _alone = alone();
    let block = |why| why == DropReason::Block;
    let left = left(ALL);
    let last = *left.pages.last().unwrap();
    let bytes = left.bytes(&last);
    // An event of nothing but time.
    let index = left.add(1, (last.seq + 1, 0), &bytes, Some((last.commit, false)));
    assert_eq!(left.cpu().pages.last().unwrap().index, index);
    let marks = open(left.platform).marks();
    let rest = Owner::decode(marks.at(index + 1).unwrap().owner(), index + 1).unwrap();
    for other in [
        Owner { cpu: 1, ..rest },
        Owner { buffer: 1, ..rest },
        Owner { order: 0, ..rest },
        Owner {
            kind: Kind::Log,
            ..rest
        },
        Owner { life: 2, ..rest },
    ] {
        marks.at(index + 1).unwrap().give(other.encode(index + 1));
        left.dropped(index, block, "the marks of its sub-buffer do not agree");
    }
    // The bitmap knows the second page; it is told once.
    left.platform
        .memory
        .write(marks.address(index + 1), &[1; 4096]);
    marks.at(index + 1).unwrap().give(rest.encode(index));
    left.dropped(index, block, "the marks of its sub-buffer do not agree");
    assert!(read(left.platform, 1).strays.is_empty());
    // Nobody makes such ones.
    marks.at(index + 1).unwrap().give(rest.encode(index + 1));
    let head = Owner {
        kind: Kind::Events,
        order: 9,
        ..rest
    };
    marks.at(index).unwrap().give(head.encode(index));
    left.dropped(index, block, "the marks of its sub-buffer do not agree");
}

#[test]
fn what_cannot_be_walked_is_dropped_unless_it_is_sealed() {
    let _alone = alone();
    // The last page is not sealed at all.
    let left = left(|last, commit| (!last).then_some((commit, true)));
    let last = *left.pages.last().unwrap();
    assert_eq!((last.sealed, last.cut), (0, None));
    let told = text(left.platform, 1, 0);
    assert!(
        told.contains(" pages kept, 1 of them not sealed to their end, 0 cut"),
        "{told}"
    );
    // An event that runs over the end.
    let bytes = left.bytes(&last);
    left.write(&last, HEADER_SIZE, &0u32.to_ne_bytes());
    left.write(&last, HEADER_SIZE + 4, &9000u32.to_ne_bytes());
    left.dropped(
        last.index,
        |why| matches!(why, DropReason::Walk(_)),
        "the event at 0 runs over the end of the data",
    );
    // One that is later than time can be.
    left.write(&last, 0, &bytes);
    left.write(&last, 0, &(u64::MAX / 2).to_ne_bytes());
    left.dropped(
        last.index,
        |why| why == DropReason::Late,
        "its events are later than time can be",
    );

    // Half of it is sealed.
    left.write(&last, 0, &bytes);
    let half = end_of_some(&bytes, last.commit / 2);
    let mark = open(left.platform).marks().of(last.page.pa).unwrap();
    seal(mark, &bytes, (last.seq, half, false));
    let kept = *left.cpu().pages.last().unwrap();
    assert_eq!(
        (kept.sealed, kept.commit, kept.cut),
        (half, last.commit, None)
    );
    left.write(&last, HEADER_SIZE + half, &0u32.to_ne_bytes());
    left.write(&last, HEADER_SIZE + half + 4, &9000u32.to_ne_bytes());
    let cpu = left.cpu();
    let kept = cpu.pages.last().unwrap();
    assert!(cpu.dropped.is_empty() && kept.commit == half && kept.sealed == half);
    assert!(matches!(kept.cut, Some(DropReason::Walk(_))));
    let told = text(left.platform, 1, 0);
    let line = format!(
        "# page {} (CPU 0): the event at {half} runs over the end of the data; kept up to its seal, at {half} bytes\n",
        last.index
    );
    assert!(told.contains(&line), "{told}");
    assert!(told.contains(
        " 0 of them not sealed to their end, 1 cut to their seal; 0 missing, 0 dropped\n"
    ));
    let raw = crate::life::raw(left.platform, 1, 0);
    let header = trace::page::header(&raw[left.pages.len() - 1]).unwrap();
    assert_eq!(header.commit, half);
    let behind = &raw[left.pages.len() - 1][HEADER_SIZE + half..];
    assert!(behind.iter().all(|byte| *byte == 0));
}

/// Where an event ends, at `about` bytes or later.
fn end_of_some(bytes: &[u8], about: usize) -> usize {
    let header = trace::page::header(bytes).unwrap();
    let data = &bytes[HEADER_SIZE..][..header.commit];
    let mut cursor = trace::page::Cursor::new(header.time_stamp);
    while cursor.offset < about {
        cursor.next(data).unwrap().unwrap();
    }
    cursor.offset
}

#[test]
fn of_two_pages_with_one_number_the_sealed_one_is_kept() {
    let _alone = alone();
    let left = left(ALL);
    let page = left.pages[2];
    let bytes = left.bytes(&page);
    let told = format!("another page has its number, {}", page.seq);
    let twice = |why| why == DropReason::Twice(page.seq);
    let index = left.add(0, (page.seq, 0), &bytes, None);
    left.dropped(index, twice, &told);
    // If both are, none is better.
    let mark = open(left.platform).marks().at(index).unwrap();
    seal(mark, &bytes, (page.seq, page.commit, true));
    let cpu = left.cpu();
    let both: Vec<_> = cpu.dropped.iter().map(|one| (one.index, one.why)).collect();
    let mut should = [page.index, index].map(|index| (index, DropReason::Twice(page.seq)));
    should.sort_by_key(|one| one.0);
    assert_eq!(both, should);
    assert_eq!((cpu.pages.len(), cpu.missing), (left.pages.len() - 1, 0));
}

#[test]
fn numbers_that_cannot_be_are_damage() {
    let _alone = alone();
    let left = left(ALL);
    let number = |why| why == DropReason::Number;
    let told = "its number cannot be";
    let last = *left.pages.last().unwrap();
    let bytes = left.bytes(&last);
    let far = last.seq + (1 << 20);
    let index = left.add(0, (far, 0), &bytes, None);
    left.dropped(index, number, told);
    // Its seal and its mark differ.
    let mark = open(left.platform).marks().at(index).unwrap();
    mark.begin(last.seq + 1, 0);
    mark.unseal(last.seq + 3);
    left.dropped(index, number, told);
    // It would be the next one, but its events are not the oldest.
    mark.unseal(last.seq + 1);
    mark.begin(1, 0);
    left.dropped(index, number, told);
    mark.begin(last.seq + 77, 0);
    left.dropped(index, number, told);
}

/// A reset may come between the stores of a writer that begins a page anew.
#[test]
fn a_page_that_was_about_to_be_begun_anew_is_nothing() {
    let _alone = alone();
    let left = left(ALL);
    let oldest = left.pages[0];
    let last = left.pages.last().unwrap();
    let mark = open(left.platform).marks().of(oldest.page.pa).unwrap();
    let check = |left: &Left| {
        let cpu = left.cpu();
        assert!(cpu.dropped.is_empty() && cpu.missing == 0);
        assert_eq!(cpu.pages[1..], left.pages[2..]);
        assert_eq!(cpu.pages[0].index, left.pages[1].index);
    };
    // A reader has done with it, or the buffer is being cleared.
    mark.unseal(u64::MAX);
    check(&left);
    mark.unseal(last.seq + 1);
    check(&left);
    left.write(&oldest, 8, &commit(0));
    check(&left);
    mark.begin(last.seq + 1, 0);
    check(&left);
    left.write(&oldest, 0, &last_stamp(&left).to_ne_bytes());
    check(&left);
}

fn last_stamp(left: &Left) -> u64 {
    let bytes = left.bytes(left.pages.last().unwrap());
    trace::page::check(&bytes).unwrap().last_ts
}

#[test]
fn pages_out_of_the_order_of_time_are_dropped() {
    let _alone = alone();
    let order = |why| why == DropReason::Order;
    let told = "its events are out of the order of time";
    // An unsealed page that stands before, between and behind sealed ones.
    for at in [0, 2] {
        let left = left(|_, commit| Some((commit, true)));
        let page = left.pages[at];
        let mark = open(left.platform).marks().of(page.page.pa).unwrap();
        assert!(mark.set_seal(mark.seal(), Seal::none(page.seq)));
        left.write(&page, 0, &last_stamp(&left).saturating_add(1).to_ne_bytes());
        left.dropped(page.index, order, told);
        if at > 0 {
            left.write(&page, 0, &[0; 8]);
            left.dropped(page.index, order, told);
        }
    }
    // None is sealed: a page is wrong that those around it agree against.
    for (at, stamp) in [(1, u64::MAX / 8), (3, 0)] {
        let left = left(|_, _| None);
        let page = left.pages[at];
        left.write(&page, 0, &stamp.to_ne_bytes());
        left.dropped(page.index, order, told);
    }
    // Two in a row are wrong, and what is sealed behind them says so.
    let two = left(ALL);
    for page in &two.pages[2..4] {
        let mark = open(two.platform).marks().of(page.page.pa).unwrap();
        mark.unseal(page.seq);
        two.write(page, 0, &(u64::MAX / 8).to_ne_bytes());
    }
    let cpu = two.cpu();
    let dropped: Vec<_> = cpu.dropped.iter().map(|one| (one.index, one.why)).collect();
    let mut should = [2, 3].map(|at| (two.pages[at].index, DropReason::Order));
    should.sort_by_key(|one| one.0);
    assert_eq!(dropped, should);
    assert_eq!(cpu.missing, 0);
    // Of one that is sealed in part, what is sealed stays.
    let left = left(ALL);
    let page = left.pages[2];
    let bytes = left.bytes(&page);
    let half = end_of_some(&bytes, page.commit / 2);
    let mark = open(left.platform).marks().of(page.page.pa).unwrap();
    mark.unseal(page.seq);
    seal(mark, &bytes, (page.seq, half, false));
    // The event behind the seal comes ever so late.
    let word = u32::from_ne_bytes(bytes[HEADER_SIZE + half..][..4].try_into().unwrap());
    left.write(&page, HEADER_SIZE + half, &(word | !0x1f).to_ne_bytes());
    let cpu = left.cpu();
    assert!(cpu.dropped.is_empty());
    assert_eq!(cpu.pages.len(), left.pages.len());
    assert_eq!(cpu.pages[2].cut, Some(DropReason::Order));
    assert_eq!(cpu.pages[2].commit, half);
    assert_eq!(cpu.pages[3].lost, Missed::Unknown);
}

#[test]
fn many_dropped_pages_are_counted_and_some_are_named() {
    let _alone = alone();
    let platform = machine();
    let t = tracer(platform, 200);
    record(t, 12_000);
    let written = leave(platform, t, ALL);
    assert!(written.len() > 50, "{}", written.len());
    let marks = open(platform).marks();
    for index in written.keys() {
        platform
            .memory
            .write(marks.address(*index) + 20, &[0xaa; 3]);
    }
    let told = text(platform, 1, 0);
    let named = told
        .lines()
        .filter(|line| line.ends_with("its checksum is wrong; dropped"));
    assert_eq!(named.count(), 32);
    assert!(
        told.contains(&format!("# and {} more\n", written.len() - 32)),
        "{told}"
    );
    assert!(lines(&told).is_empty());
    let left = Left {
        platform,
        written,
        pages: Vec::new(),
    };
    let dropped: usize = read(platform, 1).buffers[0]
        .cpus
        .iter()
        .map(|cpu| cpu.dropped.len())
        .sum();
    assert_eq!(dropped, left.written.len());
}
