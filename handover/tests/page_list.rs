//! Lists of scattered pages: Linux's bytes, all or nothing both ways, and what is refused.

use handover::error::ListFault;
use handover::mem::PAGE_SIZE;
use handover::page::PageRef;
use handover::page_list::{ALLOC, HEAD_SIZE, HUGE_VMAP, PER_CHUNK, PageList};
use handover::radix::{Limits, PreservedMap};
use handover::sim::SimMemory;
use handover::{Error, PhysRange};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

const M: u64 = 1 << 20;
/// Chunks and tree pages come from the first, blocks lie in the second.
const RAM: [PhysRange; 2] = [PhysRange::new(M, 4 * M), PhysRange::new(16 * M, 32 * M)];

fn machine() -> (SimMemory, PreservedMap<SimMemory>) {
    let mem = SimMemory::new(&RAM);
    mem.reserve(RAM[1]);
    (mem, PreservedMap::new(mem, Vec::new()).unwrap())
}

/// Every third page, from the top down.
fn scattered(n: u64) -> Vec<u64> {
    (0..n)
        .map(|i| RAM[1].end - (3 * i + 1) * PAGE_SIZE)
        .collect()
}

fn word(mem: SimMemory, pa: u64) -> u64 {
    u64::from_ne_bytes(mem.read(pa, 8).try_into().unwrap())
}

fn set(mem: SimMemory, pa: u64, value: u64) {
    mem.write(pa, &value.to_ne_bytes());
}

#[test]
fn the_bytes_are_linuxs() {
    let (mem, mut map) = machine();
    let pages = scattered(PER_CHUNK as u64 + 1);
    let list = PageList::preserve(&mut map, &pages, 0, ALLOC).unwrap();
    let head = list.as_bytes();
    assert_eq!(head.len(), HEAD_SIZE);
    assert_eq!(head[..8], list.first.to_ne_bytes());
    assert_eq!(head[8..12], 512_u32.to_ne_bytes());
    assert_eq!(head[12..14], 1_u16.to_ne_bytes());
    assert_eq!(head[14..], [0; 2]);

    let second = word(mem, list.first);
    assert_eq!(word(mem, list.first + 8), pages[0]);
    assert_eq!(word(mem, list.first + 511 * 8), pages[510]);
    assert_eq!(word(mem, second), 0, "the last chunk");
    assert_eq!(word(mem, second + 8), pages[511]);
    assert_eq!(word(mem, second + 16), 0, "the end of the list");
    assert!(map.is_preserved(list.first) && map.is_preserved(second));
    let page = |pa| PageRef { pa, order: 0 };
    let (blocks, chunks) = list.blocks_and_chunks(&map).unwrap();
    assert!(blocks.into_iter().eq(pages.iter().copied().map(page)));
    assert_eq!(chunks, [page(list.first), page(second)]);
}

#[test]
fn a_list_crosses_and_is_taken_back_once() {
    for (n, order) in [(0, 0), (1, 0), (511, 0), (512, 0), (1200, 0), (5, 2)] {
        let (mem, mut map) = machine();
        let free = mem.free_pages_left();
        let pages: Vec<u64> = match order {
            0 => scattered(n),
            _ => (0..n)
                .rev()
                .map(|i| RAM[1].start + i * 16 * PAGE_SIZE)
                .collect(),
        };
        let list = PageList::preserve(&mut map, &pages, order, HUGE_VMAP).unwrap();
        let bytes = list.as_bytes().to_vec();

        let next = mem.kexec();
        let limits = Limits {
            ram: &RAM,
            ..Limits::default()
        };
        let mut map = PreservedMap::adopt(map.root(), next, &limits).unwrap();
        next.reserve(RAM[1]);
        map.for_each_node(|n| next.reserve(PhysRange::new(n, n + PAGE_SIZE)));
        map.for_each_block(|b| next.reserve(b.range()));

        let list = PageList::read_from_bytes(&bytes).unwrap();
        let expected: Vec<_> = pages.iter().map(|&pa| PageRef { pa, order }).collect();
        assert_eq!(list.blocks(&map), Ok(expected.clone()));
        assert_eq!(list.restore(&mut map), Ok(expected));
        assert_eq!((map.block_count(), map.node_count()), (0, 1));
        assert_eq!(next.free_pages_left(), free, "a chunk leaked");
        if n > 0 {
            assert!(matches!(
                list.restore(&mut map),
                Err(Error::ListChunk {
                    why: ListFault::NotPreserved,
                    ..
                })
            ));
        }
    }
}

#[test]
fn all_is_preserved_or_nothing() {
    let (mem, mut map) = machine();
    let free = mem.free_pages_left();
    let mut pages = scattered(600);
    for allowed in 0.. {
        mem.fail_after(Some(allowed));
        let result = PageList::preserve(&mut map, &pages, 0, 0);
        mem.fail_after(None);
        if let Ok(list) = result {
            list.restore(&mut map).unwrap();
            assert!(allowed >= 7, "five nodes, two chunks");
            break;
        }
        assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
    }
    // What is made of them can be taken back without reading it, and leaves nothing behind either.
    let list = PageList::preserve(&mut map, &pages, 0, 0).unwrap();
    let page = |pa| PageRef { pa, order: 0 };
    let second = word(mem, list.first);
    assert_eq!(list.chunks(&map), Ok(vec![page(list.first), page(second)]));
    list.withdraw(&mut map, &pages);
    assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
    assert!(list.chunks(&map).is_err());
    pages.push(pages[3]);
    assert!(matches!(
        PageList::preserve(&mut map, &pages, 0, 0),
        Err(Error::AlreadyPreserved { .. })
    ));
    assert!(matches!(
        PageList::preserve(&mut map, &[RAM[1].start + PAGE_SIZE], 1, 0),
        Err(Error::BlockUnaligned { .. })
    ));
    let refused = [(0, 4, ListFault::Flags(4))];
    for (order, flags, why) in refused {
        assert_eq!(
            PageList::preserve(&mut map, &[], order, flags),
            Err(Error::ListHead { why })
        );
    }
    assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
}

/// Found by fuzzing: the circle was followed until as many blocks were read as the head says, four thousand million.
#[test]
fn a_chain_in_a_circle_is_not_followed_for_ever() {
    let (mem, mut map) = machine();
    let list = PageList::preserve(&mut map, &scattered(511), 0, 0).unwrap();
    set(mem, list.first, list.first);
    let endless = PageList {
        total_pages: u32::MAX,
        ..list
    };
    let refused = Err(Error::ListChunk {
        chunk: list.first,
        why: ListFault::NotSoMany,
    });
    assert_eq!(endless.blocks(&map), refused);
    assert_eq!(endless.chunks(&map), refused);
    assert_eq!(endless.restore(&mut map), refused);
    // Nor is one of chunks that name nothing.
    let named = word(mem, list.first + 8);
    set(mem, list.first + 8, 0);
    assert_eq!(endless.restore(&mut map), refused);
    set(mem, list.first + 8, named);
    // Also with as many as are preserved.
    let long = PageList {
        total_pages: 512,
        ..list
    };
    assert!(matches!(
        long.restore(&mut map),
        Err(Error::ListChunk {
            why: ListFault::NotSoMany,
            ..
        })
    ));
    assert_eq!(map.preserved_pages(), 512);
}

#[test]
fn each_lie_is_refused_and_changes_nothing() {
    let (mem, mut map) = machine();
    let pages = scattered(600);
    let list = PageList::preserve(&mut map, &pages, 0, 0).unwrap();
    let second = word(mem, list.first);
    let stray = RAM[1].start;
    map.preserve(PageRef {
        pa: stray,
        order: 1,
    })
    .unwrap();
    let before = map.block_count();
    let mut refused = |list: PageList| {
        let error = list.restore(&mut map).unwrap_err();
        assert_eq!(map.block_count(), before, "{error}");
        assert!(!error.to_string().is_empty());
        error
    };

    let head = |why| Error::ListHead { why };
    let count = |said, found| Error::ListCount { said, found };
    for (change, expected) in [
        (PageList { flags: 8, ..list }, head(ListFault::Flags(8))),
        (PageList { order: 19, ..list }, head(ListFault::Order(19))),
        (PageList { order: 4, ..list }, head(ListFault::Order(4))),
        (
            PageList {
                total_pages: 599,
                ..list
            },
            count(599, 600),
        ),
        (
            PageList {
                total_pages: 601,
                ..list
            },
            count(601, 600),
        ),
        (PageList { first: 0, ..list }, count(600, 0)),
        (
            PageList {
                first: second,
                ..list
            },
            count(600, 89),
        ),
        (
            PageList { first: 1, ..list },
            Error::ListChunk {
                chunk: 1,
                why: ListFault::NotAPage,
            },
        ),
        (
            PageList {
                first: stray,
                ..list
            },
            Error::ListChunk {
                chunk: stray,
                why: ListFault::NotPreserved,
            },
        ),
    ] {
        assert_eq!(refused(change), expected);
    }

    let mut with = |pa: u64, value: u64| {
        let old = word(mem, pa);
        set(mem, pa, value);
        let error = refused(list);
        set(mem, pa, old);
        error
    };
    // A cycle.
    assert_eq!(
        with(second, list.first),
        Error::ListChunk {
            chunk: list.first,
            why: ListFault::TooLong
        }
    );
    let twice = PageRef {
        pa: pages[7],
        order: 0,
    };
    assert_eq!(
        with(list.first + 16, pages[7]),
        Error::ListTwice { block: twice }
    );
    let chunk = PageRef {
        pa: second,
        order: 0,
    };
    assert_eq!(
        with(list.first + 16, second),
        Error::ListTwice { block: chunk }
    );
    assert_eq!(
        with(list.first + 16, stray + 8 * PAGE_SIZE),
        Error::NotPreserved {
            pa: stray + 8 * PAGE_SIZE
        }
    );
    assert!(matches!(
        with(list.first + 16, stray),
        Error::OtherBlock { .. }
    ));
    assert!(matches!(
        with(list.first + 16, 12345),
        Error::BlockUnaligned { .. }
    ));
    assert!(matches!(
        with(list.first + 16, 64 * M),
        Error::NotRam { .. }
    ));
    assert_eq!(list.restore(&mut map).unwrap().len(), 600);
}

proptest! {
    /// Whatever stands in head and chunks, reading ends, and a refusal changes nothing.
    #[test]
    fn any_damage_is_refused_or_harmless(
        damage in prop::collection::vec((0..2usize, 0..512u64, any::<u64>(), any::<bool>()), 0..4),
        head in any::<(u8, u8)>(),
    ) {
        let (mem, mut map) = machine();
        let list = PageList::preserve(&mut map, &scattered(600), 0, 0).unwrap();
        let chunks = [list.first, word(mem, list.first)];
        for (chunk, index, value, flip) in damage {
            let pa = chunks[chunk] + index * 8;
            set(mem, pa, if flip { word(mem, pa) ^ 1 << (value % 64) } else { value });
        }
        let mut bytes = list.as_bytes().to_vec();
        bytes[usize::from(head.0) % HEAD_SIZE] ^= head.1;
        let before = map.block_count();
        match PageList::read_from_bytes(&bytes).unwrap().restore(&mut map) {
            Ok(blocks) => prop_assert!(before - map.block_count() >= blocks.len() as u64),
            Err(_) => prop_assert_eq!(map.block_count(), before),
        }
    }
}
