//! A ring that is mapped: what it shows, and what it excludes. Its reader: `mapped_reader.rs`.

mod mapped;
#[path = "mapped/ring.rs"]
mod ring;

use mapped::page;
use ring::{PER_PAGE, map, reader, turn, write, write_long};
use std::sync::atomic::Ordering;
use trace::TraceError;
use trace::meta::Meta;
use trace::page::{self as format, Missed};
use trace::ring::{CpuBuffer, Plan};
use trace::testing::TestPlatform;

/// The checks of `meta_page_check` in Linux's `map_test.c`, for each size of sub-buffers.
#[test]
fn the_meta_page_tells_of_sixteen_events() {
    for order in 0..=4 {
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 4, order).unwrap();
        let mapped = map(&buffer, platform);
        let meta = || Meta::load(mapped.meta).unwrap();
        let size = 4096u32 << order;
        assert_eq!((meta().meta_page_size, meta().subbuf_size), (size, size));
        assert_eq!((meta().meta_struct_len, meta().nr_subbufs), (80, 5));
        assert_eq!((meta().entries, meta().overrun, meta().read), (0, 0, 0));
        assert_eq!((meta().reader.id, meta().reader.read), (0, 0));
        buffer.get_reader().unwrap();
        assert_eq!(meta().reader.id, 0);
        write(&buffer, 0..16);
        // The writer leaves the meta-page alone.
        assert_eq!(meta().entries, 0);
        buffer.refresh_meta().unwrap();
        assert_eq!((meta().entries, meta().read, meta().reader.id), (16, 0, 0));
        for _ in 0..2 {
            buffer.get_reader().unwrap();
            let now = meta();
            assert_eq!((now.entries, now.overrun, now.read), (16, 0, 16));
            assert_eq!((now.reader.id, now.reader.lost_events), (1, 0));
            assert_eq!((now.flags, now.pages_lost, now.pages_touched), (0, 0, 0));
            assert_eq!(now.unread(), 0);
        }
        // The page is still written to: what comes to it is shown by the next call.
        write(&buffer, 16..20);
        buffer.get_reader().unwrap();
        assert_eq!((meta().entries, meta().read, meta().reader.id), (20, 20, 1));
    }
}

/// The checks of `data_mmap` in Linux's `map_test.c`, and more at the edges.
#[test]
fn what_lies_within_can_be_mapped_and_nothing_beyond() {
    for order in 0..=4u8 {
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let each = 1u64 << order;
        let all = 5 * each;
        let whole = buffer.map(0, all).unwrap();
        assert_eq!(whole.len() as u64, all);
        // Every sub-buffer is there once.
        let mut owned = Vec::new();
        buffer.for_each_page(&mut |page| owned.push(page.pa));
        let mut shown: Vec<u64> = whole[each as usize..]
            .iter()
            .step_by(each as usize)
            .copied()
            .collect();
        shown.sort_unstable();
        owned.sort_unstable();
        assert_eq!(shown, owned);
        for offset in 0..=all + each {
            for pages in 0..=all + 1 {
                let good = offset % each == 0 && pages > 0 && offset + pages <= all;
                match buffer.map(offset, pages) {
                    Ok(list) => {
                        assert!(good, "{pages} from {offset}");
                        let (from, to) = (offset as usize, (offset + pages) as usize);
                        assert_eq!(list, whole[from..to]);
                        buffer.unmap();
                    }
                    Err(TraceError::MapRange { of, .. }) => {
                        assert!(!good, "{pages} from {offset}");
                        assert_eq!(of, all);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
        for huge in [u64::MAX, u64::MAX - each + 1, 1 << 62] {
            let range = |r: Result<Vec<u64>, _>| matches!(r, Err(TraceError::MapRange { .. }));
            assert!(range(buffer.map(huge, each)) && range(buffer.map(0, huge)));
            assert!(range(buffer.map(each, huge)));
        }
        assert_eq!(buffer.mapped(), 1);
    }
}

/// A process sees nothing but what was recorded: not even what was in the pages before.
#[test]
fn what_holds_no_event_is_zero() {
    for order in 0..=4u8 {
        // Its memory is filled with something else where it is allocated.
        let platform = TestPlatform::new(8);
        let buffer = CpuBuffer::new(platform, 3, order).unwrap();
        let pages = buffer.map(0, 5 << order).unwrap();
        let zero = |pa: u64, from: usize| {
            let words = &page(platform, pa)[from..];
            words.iter().all(|word| word.load(Ordering::Relaxed) == 0)
        };
        assert!(zero(pages[0], 10), "behind the meta-page's struct");
        assert!(pages[1..].iter().all(|page| zero(*page, 0)));
        write(&buffer, 0..100);
        buffer.get_reader().unwrap();
        assert!(zero(pages[0], 10));
        assert!(pages[1..1 << order].iter().all(|page| zero(*page, 0)));
    }
}

/// As Linux does it, so that tools which read pages find it: bits in the page's commit word, the number after the data.
#[test]
fn a_loss_stands_in_the_page_too_until_the_last_mapping_ends() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
    let mapped = map(&buffer, platform);
    let bytes = |id: u32| -> Vec<u8> {
        let words = mapped.subs[id as usize].iter();
        words
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect()
    };
    // 145 events of 28 bytes leave room for the number; 340 of 12 leave none.
    for (len, per_page, size, stored) in [(24, 145, 28, true), (8, PER_PAGE, 12, false)] {
        buffer.clear().unwrap();
        write_long(&buffer, len, 0..per_page * 5);
        buffer.get_reader().unwrap();
        let meta = Meta::load(mapped.meta).unwrap();
        let shown = bytes(meta.reader.id);
        let header = format::header(&shown).unwrap();
        let missed = match stored {
            true => Missed::Count(per_page * 3),
            false => Missed::Unknown,
        };
        assert_eq!(header.missed, missed);
        assert_eq!(meta.reader.lost_events, per_page * 3);
        assert_eq!(header.commit as u64, per_page * size);
        assert_eq!(u64::from(meta.reader.read), per_page * size);
        assert_eq!(format::check(&shown).unwrap().events, per_page);
        // Another call brings another page, and no loss.
        let first = meta.reader.id;
        buffer.get_reader().unwrap();
        let meta = Meta::load(mapped.meta).unwrap();
        assert_ne!(meta.reader.id, first);
        assert_eq!(meta.reader.lost_events, 0);
        let header = format::header(&bytes(meta.reader.id)).unwrap();
        assert_eq!(header.missed, Missed::None);
        assert_eq!(meta.unread(), 0);
    }
    // A reader page that has the bits when all ends.
    write(&buffer, 0..PER_PAGE * 5);
    buffer.get_reader().unwrap();
    let id = Meta::load(mapped.meta).unwrap().reader.id;
    let missed = || format::header(&bytes(id)).unwrap().missed;
    assert_ne!(missed(), Missed::None);
    buffer.map(0, 1).unwrap();
    buffer.unmap();
    assert_ne!(missed(), Missed::None);
    buffer.unmap();
    assert_eq!(missed(), Missed::None);
}

/// A reader that has mapped the ring, dies, and leaves all as it was for those that come after it.
#[test]
fn while_mapped_the_ring_keeps_its_shape() {
    let platform = TestPlatform::new(8);
    let (buffer, other) = (
        CpuBuffer::new(platform, 4, 0).unwrap(),
        CpuBuffer::new(platform, 4, 0).unwrap(),
    );
    write(&buffer, 0..2000);
    write(&other, 0..3);
    let before = buffer.stats();
    buffer.map(0, 6).unwrap();
    buffer.map(1, 1).unwrap();
    assert_eq!(buffer.mapped(), 2);
    for left in [2, 1] {
        assert_eq!(buffer.mapped(), left);
        assert_eq!(buffer.resize(8), Err(TraceError::Mapped));
        assert_eq!(buffer.resize(2), Err(TraceError::Mapped));
        assert_eq!(buffer.set_order(1, 4), Err(TraceError::Mapped));
        assert_eq!(buffer.swap(&other), Err(TraceError::Mapped));
        assert_eq!(other.swap(&buffer), Err(TraceError::Mapped));
        assert_eq!(buffer.try_swap(&other), Err(TraceError::Mapped));
        assert_eq!(other.try_swap(&buffer), Err(TraceError::Mapped));
        assert_eq!(buffer.retire(), Err(TraceError::Mapped));
        assert_eq!((buffer.stats(), buffer.pages()), (before, 4));
        buffer.unmap();
    }
    assert_eq!(buffer.mapped(), 0);
    assert_eq!(buffer.get_reader(), Err(TraceError::NotMapped));
    assert_eq!(buffer.refresh_meta(), Err(TraceError::NotMapped));
    buffer.unmap();
    buffer.swap(&other).unwrap();
    buffer.swap(&other).unwrap();
    buffer.resize(8).unwrap();
    assert_eq!(buffer.stats().entries, before.entries);
    buffer.set_order(1, 4).unwrap();
    buffer.map(2, 1).unwrap();
    buffer.unmap();
    buffer.retire().unwrap();
    assert_eq!(buffer.map(0, 1), Err(TraceError::Retired));
}

/// Where memory runs out, nothing has changed, and nothing is kept.
#[test]
fn a_mapping_that_cannot_be_had_leaves_nothing() {
    for order in [0, 1] {
        let platform = TestPlatform::new(1);
        let buffer = CpuBuffer::new(platform, 4, order).unwrap();
        platform.memory.fail_after(Some(0));
        assert_eq!(buffer.map(0, 1), Err(TraceError::NoMemory));
        assert_eq!(buffer.mapped(), 0);
        buffer.resize(4).unwrap();
        platform.memory.fail_after(None);
        let free = platform.memory.free_pages_left();
        buffer.map(0, 1).unwrap();
        buffer.map(0, 1).unwrap();
        assert_eq!(platform.memory.free_pages_left(), free - (1 << order));
        buffer.unmap();
        buffer.unmap();
        assert_eq!(platform.memory.free_pages_left(), free);
        // A buffer that ends while it is mapped takes the meta-page with it.
        let other = CpuBuffer::new(platform, 4, order).unwrap();
        other.map(0, 1).unwrap();
        drop(other);
        assert_eq!(platform.memory.free_pages_left(), free);
    }
}

#[test]
fn clearing_is_seen_and_what_comes_after_it_too() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 3, 0).unwrap();
    let mapped = map(&buffer, platform);
    let mut reader = reader(&mapped);
    // Each page of the ring is the reader page once.
    for round in 0..9 {
        write(&buffer, 0..400);
        assert_eq!(
            turn(&buffer, &mut reader).0.first(),
            Some(&0),
            "round {round}"
        );
        assert_eq!(turn(&buffer, &mut reader).0.last(), Some(&399));
        write(&buffer, 400..410);
        let id = reader.meta().unwrap().reader.id;
        buffer.clear().unwrap();
        let meta = reader.meta().unwrap();
        assert_eq!((meta.entries, meta.read, meta.overrun), (0, 0, 0));
        // The reader page is what it was, and empty: whoever still looks at it sees no other event come to it.
        assert_eq!((meta.reader.id, meta.reader.read), (id, 0));
        assert_eq!(turn(&buffer, &mut reader), (vec![], 0));
        write(&buffer, 0..7);
        assert_eq!(turn(&buffer, &mut reader), ((0..7).collect(), 0));
        buffer.clear().unwrap();
    }
}

/// Whatever was read before it was mapped is not shown; what another reader takes meanwhile is gone, and counted as read.
#[test]
fn other_readers_use_up_what_is_not_shown() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 4, 0).unwrap();
    write(&buffer, 0..20);
    let mut bytes = Vec::new();
    for _ in 0..5 {
        buffer.consume(&mut bytes).unwrap().unwrap();
    }
    let mapped = map(&buffer, platform);
    assert_eq!(Meta::load(mapped.meta).unwrap().reader.id, 0);
    let mut reader = reader(&mapped);
    assert_eq!(turn(&buffer, &mut reader), ((5..20).collect(), 0));
    write(&buffer, 20..800);
    let mut whole = vec![0; 4096];
    buffer.read_page(&mut whole, false).unwrap();
    let taken = format::check(&whole).unwrap().events;
    let (ids, lost) = turn(&buffer, &mut reader);
    assert_eq!((ids[0], lost), (20 + taken, 0));
    let mut seen = ids.len() as u64;
    while let (ids, 0) = turn(&buffer, &mut reader)
        && !ids.is_empty()
    {
        seen += ids.len() as u64;
    }
    assert_eq!(20 + taken + seen, 800);
    assert_eq!(reader.meta().unwrap().read, 800);
}

/// The numbers are for one mapping; the pages and what was read go on, and nothing of the mapping crosses.
#[test]
fn a_mapped_ring_crosses_as_any_other() {
    let platform = TestPlatform::new(4);
    let buffer = CpuBuffer::new(platform, 2, 0).unwrap();
    map(&buffer, platform);
    write(&buffer, 0..PER_PAGE * 5);
    // The reader page has the bits of a loss now.
    buffer.get_reader().unwrap();
    write(&buffer, PER_PAGE * 5..PER_PAGE * 5 + 10);
    let before = buffer.stats();
    let shape = buffer.shape().unwrap();
    let mut pages = Vec::new();
    buffer.for_each_page(&mut |page| pages.push(page));
    std::mem::forget(buffer);
    let platform = platform.kexec(&pages);
    let plan = Plan::new(platform, 0, shape, 1_000_000).unwrap();
    assert_eq!(plan.found().damaged_pages, 0);
    assert_eq!(plan.found().lost_events, 0);
    let buffer = plan.adopt(0);
    assert_eq!(buffer.stats(), before);
    assert_eq!(buffer.mapped(), 0);
    let mapped = map(&buffer, platform);
    let meta = Meta::load(mapped.meta).unwrap();
    assert_eq!((meta.reader.id, meta.read), (0, before.read_events));
    let mut reader = reader(&mapped);
    assert_eq!(turn(&buffer, &mut reader).0[0], PER_PAGE * 4);
}
