//! A ring and its mapped reader, for tests of either.
#![allow(dead_code, reason = "each test file uses its part")]

use crate::mapped::Mapped;
use std::sync::atomic::AtomicU32;
use trace::mapped::MappedReader;
use trace::ring::{CpuBuffer, Level};
use trace::testing::TestPlatform;

pub type Buffer = CpuBuffer<TestPlatform>;
pub type Reader = MappedReader<'static, &'static [&'static [AtomicU32]]>;

/// Events of 8 bytes on a page of 4 KiB: they fill it wholly.
pub const PER_PAGE: u64 = 340;

pub fn write(buffer: &Buffer, ids: std::ops::Range<u64>) {
    write_long(buffer, 8, ids);
}

pub fn write_long(buffer: &Buffer, len: usize, ids: std::ops::Range<u64>) {
    for id in ids {
        let mut event = buffer
            .reserve(Level::Task, len, &|| 1000 + id)
            .expect("room");
        event.write(0, &id.to_ne_bytes());
        event.commit();
    }
}

pub fn map(buffer: &Buffer, platform: TestPlatform) -> Mapped {
    let order = buffer.order();
    let pages = buffer
        .map(0, (buffer.pages() as u64 + 2) << order)
        .expect("all of it");
    Mapped::new(platform, &pages, order)
}

/// What a turn brings: the numbers of the events, and how many were lost before the first.
pub fn turn(buffer: &Buffer, reader: &mut Reader) -> (Vec<u64>, u64) {
    buffer.get_reader().expect("mapped");
    let lost = reader.turn().expect("a meta-page").lost;
    let mut ids = Vec::new();
    while let Some(event) = reader.next().expect("a page") {
        let id = event.record.unsigned(0, 8).expect("a payload");
        assert_eq!(event.ts, 1000 + id);
        ids.push(id);
    }
    (ids, lost)
}

pub fn reader(mapped: &Mapped) -> Reader {
    let subs: &'static [_] = mapped.subs.clone().leak();
    MappedReader::new(mapped.meta, subs).expect("a mapping")
}
