//! A life's log: what is kept of it, and in which order.

use super::*;
use trace::ramtrace::at_each_store;

/// A region whose running life, number 1, has a log of so many pages.
fn logging(pages: u32) -> (SimMemory, Region<SimMemory>) {
    let (memory, region) = fresh();
    region.begin_life(&BEGINNING, pages).unwrap();
    (memory, region)
}

fn read(memory: SimMemory) -> (String, u64) {
    let region = open(memory);
    let life = region.old_lives().remove(0);
    region.read_log(&life)
}

#[test]
fn lines_are_read_as_they_were_written() {
    let (memory, region) = logging(4);
    let long = "ä long line. ".repeat(200);
    let lines = ["", "one", "two\n", "with\nanother in it", &long, "last"];
    for line in lines {
        region.log(line);
    }
    assert_eq!(region.not_logged(), 0);
    let wanted = format!("\none\ntwo\nwith\nanother in it\n{long}\nlast\n");
    assert_eq!(read(memory), (wanted, 0));
}

/// A writer that is interrupted by others, which must not wait for it.
#[test]
fn lines_that_are_left_out_are_told_in_the_log() {
    let (memory, region) = logging(4);
    let region: &'static Region<SimMemory> = Box::leak(Box::new(region));
    let mut stores = 0;
    let interrupt = move || {
        stores += 1;
        if stores <= 3 {
            region.log("nobody reads this");
        }
    };
    at_each_store(interrupt, || region.log("one"));
    assert_eq!(region.not_logged(), 3);
    assert_eq!(read(memory), ("one\n".into(), 0));
    region.log("two");
    region.log("three");
    let wanted = "one\n# 3 lines are left out here\ntwo\nthree\n";
    assert_eq!(read(memory), (wanted.into(), 0));
}

#[test]
fn the_oldest_make_room_and_all_newer_ones_stay() {
    let (memory, region) = logging(3);
    let line = |i: u32| format!("line {i}: {}", "y".repeat(i as usize * 31 % 300));
    for i in 0..1000 {
        region.log(&line(i));
        if i % 97 != 0 {
            continue;
        }
        let (text, damaged) = read(memory);
        assert_eq!(damaged, 0);
        let kept = text.lines().count() as u32;
        let wanted: String = (i + 1 - kept..=i).map(|i| line(i) + "\n").collect();
        assert_eq!(text, wanted);
        // Two pages of three at least, each with less than a record wasted.
        assert!(
            kept == i + 1 || text.len() > 2 * (4096 - 16 - 520) / 2,
            "{kept}"
        );
    }
}

#[test]
fn a_log_of_one_page_is_none_and_one_is_never_larger_than_there_is_room() {
    let (_, region) = logging(1);
    assert!(region.info().unwrap().log.is_empty());
    region.log("nowhere");
    let (_, region) = logging(100_000);
    let log = region.info().unwrap().log;
    assert_eq!(log.len(), trace::ramtrace::MAX_LOG_PAGES);
}

#[test]
fn after_a_kexec_it_goes_on() {
    let (memory, mut region) = logging(2);
    let mut wanted = String::new();
    for hop in 0..20 {
        for i in 0..3 {
            let line = format!("hop {hop} line {i}");
            region.log(&line);
            wanted += &(line + "\n");
        }
        region = open(memory);
        assert_eq!(region.go_on(2).unwrap_err(), RegionError::NoLife(2));
        region.go_on(1).unwrap();
        assert_eq!(region.go_on(1).unwrap_err(), RegionError::Runs(1));
        assert_eq!(
            region.read_log(&region.info().unwrap()),
            (wanted.clone(), 0)
        );
    }
    // A record that was not finished is written over by none.
    let index = region.info().unwrap().log[0];
    let page = region.marks().address(index.into());
    let end = page + 16 + 60 * 24;
    assert_eq!(memory.read(end, 64), [0; 64]);
    memory.write(end + 8, b"half a li");
    region = open(memory);
    region.go_on(1).unwrap();
    region.log("in the next page");
    assert_eq!(
        region.read_log(&region.info().unwrap()),
        (wanted + "in the next page\n", 0)
    );
}

#[test]
fn a_damaged_record_costs_itself() {
    let (memory, region) = logging(2);
    for i in 0..9 {
        region.log(&format!("line {i}"));
    }
    let index = region.info().unwrap().log[0];
    let page = region.marks().address(index.into());
    let record = |i: u64| page + 16 + i * 16;
    let whole = memory.read(page, 4096);
    let without = |lost: &[u32]| -> String {
        let kept = (0..9).filter(|i| !lost.contains(i));
        kept.map(|i| format!("line {i}\n")).collect()
    };
    let damage = |at: u64, bytes: &[u8], lost: &[u32], count: u64| {
        memory.write(at, bytes);
        assert_eq!(read(memory), (without(lost), count), "{lost:?}");
        memory.write(page, &whole);
    };
    damage(record(3) + 8, b"L", &[3], 1);
    // Its length, its checksum, its word.
    damage(record(3), &[200], &[3], 1);
    damage(record(3), &[255, 255], &[3], 1);
    damage(record(3) + 4, &[0, 0, 0, 0], &[3], 1);
    damage(record(3), &[0; 8], &[3], 1);
    // The last one, and two.
    damage(record(8) + 9, b"-", &[8], 1);
    damage(record(8), &[0xff; 8], &[8], 1);
    damage(record(4) + 8, &[0xff; 24], &[4, 5], 1);
    memory.write(record(1) + 8, b"L");
    damage(record(2) + 8, b"L", &[1, 2], 2);
    // A record in the place of another.
    let other = memory.read(record(5), 16);
    damage(record(6), &other, &[6], 1);
    // One of the page's numbers, and both.
    damage(page, &[1], &[], 0);
    damage(page + 8, &[1], &[], 0);
    memory.write(page, &[0xff; 16]);
    assert_eq!(read(memory), (String::new(), 1));
    memory.write(page, &whole);
    for bit in 0..16 * 10 * 8 {
        let at = page + 16 + bit / 8;
        let byte = memory.read(at, 1)[0];
        memory.write(at, &[byte ^ 1 << (bit % 8)]);
        let (text, damaged) = read(memory);
        memory.write(at, &[byte]);
        let lost = bit as u32 / 128;
        match lost < 9 {
            true => assert!(
                text == without(&[lost]) && damaged == 1 || text == without(&[]),
                "bit {bit}: {damaged} {text}"
            ),
            // Behind the end there is something that is no record.
            false => assert_eq!(text, without(&[])),
        }
    }
}

#[test]
fn it_can_be_written_where_the_allocator_is_locked() {
    let (memory, region) = logging(2);
    region.update(|_| region.log("from within")).unwrap();
    assert_eq!(read(memory), ("from within\n".into(), 0));
}
