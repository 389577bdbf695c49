//! Blocks of one order by the range, restoring, and allocating: against a plain set, and refusal by refusal.

use std::collections::BTreeSet;

use handover::mem::PAGE_SIZE;
use handover::page::PageRef;
use handover::radix::{Limits, PreservedMap};
use handover::sim::SimMemory;
use handover::{Error, PhysRange};
use proptest::prelude::*;

const M: u64 = 1 << 20;
/// Tree pages from the first, blocks in the second (which goes over a leaf's border at 128 MiB), scratch at its end.
const RAM: [PhysRange; 2] = [PhysRange::new(M, 4 * M), PhysRange::new(120 * M, 140 * M)];
const SCRATCH: PhysRange = PhysRange::new(138 * M, 140 * M);

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end)
}

fn block(pa: u64, order: u8) -> PageRef {
    PageRef::new(pa, order).unwrap()
}

fn machine() -> SimMemory {
    let mem = SimMemory::new(&RAM);
    mem.reserve(RAM[1]);
    mem
}

fn new_map(mem: SimMemory) -> PreservedMap<SimMemory> {
    PreservedMap::new(mem, vec![SCRATCH]).unwrap()
}

fn next_life(map: &PreservedMap<SimMemory>, mem: SimMemory) -> PreservedMap<SimMemory> {
    let next = mem.kexec();
    let limits = Limits {
        ram: &RAM,
        scratch: &[SCRATCH],
        image: &[],
    };
    let adopted = PreservedMap::adopt(map.root(), next, &limits).unwrap();
    assert_eq!(adopted.digest(), map.digest());
    next.reserve(RAM[1]);
    adopted.for_each_node(|n| next.reserve(r(n, n + PAGE_SIZE)));
    adopted
}

fn blocks(map: &PreservedMap<SimMemory>) -> BTreeSet<PageRef> {
    let mut all = BTreeSet::new();
    map.for_each_block(|b| assert!(all.insert(b), "{b} twice"));
    all
}

#[test]
fn each_is_restored_once() {
    let mem = machine();
    let mut map = new_map(mem);
    map.preserve(block(121 * M, 3)).unwrap();
    let mut map = next_life(&map, mem);

    let refused = [
        (block(122 * M, 3), Error::NotPreserved { pa: 122 * M }),
        (
            block(121 * M, 0),
            Error::OtherBlock {
                asked: block(121 * M, 0),
                found: block(121 * M, 3),
            },
        ),
        (
            block(SCRATCH.start, 0),
            Error::InScratch {
                block: block(SCRATCH.start, 0),
                scratch: SCRATCH,
            },
        ),
        (
            block(200 * M, 0),
            Error::NotRam {
                block: block(200 * M, 0),
            },
        ),
    ];
    for (asked, error) in refused {
        assert_eq!(map.restore(asked), Err(error), "{asked}");
    }
    let odd = PageRef {
        pa: 121 * M + 4096,
        order: 3,
    };
    assert_eq!(map.restore(odd), Err(Error::BlockUnaligned { block: odd }));
    assert_eq!(map.preserved_pages(), 8, "a refusal changes nothing");

    assert_eq!(map.restore(block(121 * M, 3)), Ok(block(121 * M, 3)));
    assert_eq!(
        map.restore(block(121 * M, 3)),
        Err(Error::NotPreserved { pa: 121 * M }),
        "a second time"
    );
    assert_eq!((map.preserved_pages(), map.node_count()), (0, 1));
}

#[test]
fn ranges_of_the_wrong_length_are_not_restored() {
    let mut map = new_map(machine());
    let range = r(121 * M, 121 * M + 6 * PAGE_SIZE); // blocks of 4 and of 2 pages
    map.preserve_range(range).unwrap();
    let short = r(range.start, range.end - PAGE_SIZE);
    let long = r(range.start, range.end + PAGE_SIZE);
    assert!(matches!(
        map.restore_range(short),
        Err(Error::CutsBlock { .. })
    ));
    assert_eq!(
        map.restore_range(long),
        Err(Error::NotPreserved { pa: range.end })
    );
    assert_eq!(map.restore_range(range), Ok(range));
    assert_eq!(
        map.restore_range(range),
        Err(Error::NotPreserved { pa: range.start })
    );
}

/// The map does not know which blocks were one range: it says what is left of them.
#[test]
fn a_range_that_ends_where_a_block_does_takes_its_part_back() {
    let mut map = new_map(machine());
    let (part, rest) = (r(120 * M, 122 * M), r(122 * M, 124 * M));
    map.preserve_blocks(r(part.start, rest.end), 9).unwrap();
    assert_eq!(map.restore_range(part), Ok(part));
    assert_eq!(
        map.block_at(part.end),
        Some(PageRef {
            pa: rest.start,
            order: 9
        })
    );
    let mut left = Vec::new();
    map.for_each_range(|range| left.push(range));
    assert_eq!(left, [rest]);
    assert_eq!(map.restore_range(rest), Ok(rest));
    assert!(map.block_count() == 0);
}

#[test]
fn a_range_that_ends_before_it_starts_is_refused() {
    let mut map = new_map(machine());
    let range = r(121 * M, 121 * M + 6 * PAGE_SIZE);
    map.preserve_range(range).unwrap();
    let blocks = map.block_count();
    let backward = r(range.end, range.start);
    let refused = Error::RangeBackward { range: backward };
    assert_eq!(map.preserve_range(backward), Err(refused));
    assert_eq!(map.unpreserve_range(backward), Err(refused));
    assert_eq!(map.restore_range(backward), Err(refused));
    assert_eq!(map.preserve_blocks(backward, 0), Err(refused));
    assert_eq!(map.restore_blocks(backward, 0), Err(refused));
    assert_eq!(map.block_count(), blocks);
    assert_eq!(
        refused.to_string(),
        "range [0x7906000, 0x7900000) ends before it starts; nothing was changed"
    );
    let empty = r(range.end, range.end);
    assert_eq!(map.preserve_range(empty), Ok(()));
    assert_eq!(map.restore_range(empty), Ok(empty));
    assert_eq!(map.restore_blocks(empty, 0), Ok(empty));
}

#[test]
fn blocks_of_one_order_fill_a_range_or_nothing() {
    let mem = machine();
    let range = r(126 * M, 131 * M);
    // However many pages there are for the tree, until it succeeds.
    for pages in 0.. {
        let mut map = new_map(mem);
        let free = mem.free_pages_left();
        mem.fail_after(Some(pages));
        let result = map.preserve_blocks(range, 0);
        mem.fail_after(None);
        if result.is_ok() {
            assert_eq!(map.block_count(), range.len() / PAGE_SIZE);
            assert_eq!(map.restore_blocks(range, 0), Ok(range));
            assert_eq!((map.block_count(), map.node_count()), (0, 1));
            assert!(pages > 5);
            break;
        }
        assert_eq!(result, Err(Error::NoTreePage));
        assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
        map.release();
    }

    let mut map = new_map(mem);
    let taken = block(128 * M, 0);
    map.preserve(taken).unwrap();
    for order in [0, 4] {
        assert_eq!(
            map.preserve_blocks(range, order),
            Err(Error::AlreadyPreserved {
                block: block(128 * M, order),
                by: taken
            })
        );
    }
    assert!(matches!(
        map.preserve_blocks(r(137 * M, 139 * M), 1),
        Err(Error::InScratch { .. })
    ));
    assert!(matches!(
        map.preserve_blocks(r(119 * M, 121 * M), 0),
        Err(Error::NotRam { block }) if block.pa == 119 * M
    ));
    assert!(matches!(
        map.preserve_blocks(r(121 * M, 121 * M + 4096), 1),
        Err(Error::BlockUnaligned { .. })
    ));
    assert!(matches!(
        map.preserve_blocks(range, 19),
        Err(Error::BlockOrder { .. })
    ));
    assert_eq!(map.preserve_blocks(r(0, 0), 0), Ok(()));
    assert_eq!(
        map.restore_blocks(r(128 * M, 128 * M + 8192), 0),
        Err(Error::NotPreserved { pa: 128 * M + 4096 })
    );
    assert_eq!(
        map.restore_blocks(r(128 * M, 128 * M + 8192), 1),
        Err(Error::OtherBlock {
            asked: block(128 * M, 1),
            found: taken
        })
    );
    assert_eq!(map.block_count(), 1);
}

#[test]
fn scattered_blocks_are_preserved_all_or_none() {
    let mem = machine();
    let mut map = new_map(mem);
    let free = mem.free_pages_left();
    let mut wanted: Vec<PageRef> = (0..100)
        .rev()
        .map(|i| block(121 * M + i * 8192, 0))
        .collect();
    wanted.push(block(130 * M, 3));
    for pages in 0.. {
        mem.fail_after(Some(pages));
        let result = map.preserve_each(wanted.iter().copied());
        mem.fail_after(None);
        if result.is_ok() {
            break;
        }
        assert_eq!(result, Err(Error::NoTreePage));
        assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
    }
    assert_eq!(blocks(&map), wanted.iter().copied().collect());
    map.restore_all(|_| ());
    wanted.push(wanted[50]);
    let twice = map.preserve_each(wanted.iter().copied());
    assert!(matches!(twice, Err(Error::AlreadyPreserved { .. })));
    let bad = PageRef { pa: 1, order: 99 };
    assert_eq!(
        map.preserve_each([bad; 40].into_iter()),
        Err(Error::BlockOrder { block: bad })
    );
    assert_eq!((map.block_count(), mem.free_pages_left()), (0, free));
}

#[test]
fn new_blocks_are_preserved_or_not_allocated() {
    let mem = SimMemory::new(&RAM);
    mem.reserve(SCRATCH);
    let free = mem.free_pages_left();
    for pages in 0.. {
        let Ok(mut map) = PreservedMap::new(mem, vec![SCRATCH]) else {
            unreachable!("there is memory for a root");
        };
        mem.fail_after(Some(pages));
        let result = map.alloc_preserved(2);
        mem.fail_after(None);
        match result {
            Ok(block) => {
                assert!(map.is_preserved(block.pa) && mem.is_used(block.pa));
                // SAFETY: nobody uses it.
                unsafe { map.free_preserved(block) }.unwrap();
                // SAFETY: nothing is freed where it fails.
                let again = unsafe { map.free_preserved(block) };
                assert_eq!(again, Err(Error::NotPreserved { pa: block.pa }));
                map.release();
                break;
            }
            Err(Error::NoPages { order: 2 } | Error::NoTreePage) => map.release(),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(mem.free_pages_left(), free);
    }
    assert_eq!(mem.free_pages_left(), free);
    let mut map = PreservedMap::new(mem, vec![SCRATCH]).unwrap();
    assert_eq!(map.alloc_preserved(18), Err(Error::NoPages { order: 18 }));
    assert!(matches!(
        map.alloc_preserved(19),
        Err(Error::BlockOrder { .. })
    ));
}

#[derive(Clone, Debug)]
enum Op {
    Preserve(PhysRange, u8),
    RestoreBlocks(PhysRange, u8),
    Restore(PageRef),
}

/// Around the border between two leaves, and at a word's.
fn any_range() -> impl Strategy<Value = PhysRange> {
    (0..300u64, 0..200u64).prop_map(|(n, len)| {
        let start = 128 * M - 150 * PAGE_SIZE + n * PAGE_SIZE;
        r(start, start + len * PAGE_SIZE)
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let aligned = |(range, order): (PhysRange, u8)| {
        let size = PAGE_SIZE << order;
        (r(range.start & !(size - 1), range.end & !(size - 1)), order)
    };
    let ranges = (any_range(), 0..4u8).prop_map(aligned).boxed();
    prop_oneof![
        3 => ranges.clone().prop_map(|(range, order)| Op::Preserve(range, order)),
        2 => ranges.clone().prop_map(|(range, order)| Op::RestoreBlocks(range, order)),
        2 => ranges.prop_map(|(range, order)| Op::Restore(PageRef { pa: range.start, order })),
    ]
}

fn of_order(range: PhysRange, order: u8) -> impl Iterator<Item = PageRef> {
    let size = PAGE_SIZE << order;
    (range.start..range.end)
        .step_by(size as usize)
        .map(move |pa| PageRef { pa, order })
}

fn pages_of(block: &PageRef) -> impl Iterator<Item = u64> + use<> {
    (block.pa..block.range().end).step_by(PAGE_SIZE as usize)
}

/// Scattered blocks around the border between two leaves, nearly all of one page, some of them twice.
fn scattered() -> impl Strategy<Value = Vec<PageRef>> {
    let order = prop_oneof![300 => Just(0u8), 1 => 0..4u8];
    let block = (0..4000u64, order).prop_map(|(n, order)| PageRef {
        pa: (126 * M + n * PAGE_SIZE) & !((PAGE_SIZE << order) - 1),
        order,
    });
    (prop::collection::vec(block, 0..400), any::<bool>()).prop_map(|(mut blocks, once)| {
        if once {
            let mut seen = BTreeSet::new();
            blocks.retain(|block| seen.insert(*block));
        }
        blocks
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A list is preserved as its blocks would be one by one; and nothing of it where one of them could not.
    #[test]
    fn a_list_is_as_good_as_its_blocks(before in scattered(), mut list in scattered(), apart: bool) {
        if apart {
            // Nothing speaks against these.
            let mut taken: BTreeSet<u64> = before.iter().flat_map(pages_of).collect();
            list.retain(|block| pages_of(block).all(|pa| taken.insert(pa)));
        }
        let (one, all) = (machine(), machine());
        let (mut one, mut all) = (new_map(one), new_map(all));
        for block in before {
            prop_assert_eq!(one.preserve(block), all.preserve_each([block].into_iter()));
        }
        prop_assert_eq!(one.digest(), all.digest());
        let as_before = (all.digest(), all.preserved_pages(), all.node_count());
        let each = list.iter().try_for_each(|block| one.preserve(*block));
        prop_assert_eq!(all.preserve_each(list.iter().copied()), each);
        match each {
            Ok(()) => {
                prop_assert_eq!(one.digest(), all.digest());
                prop_assert_eq!(blocks(&one), blocks(&all));
                prop_assert_eq!(one.preserved_pages(), all.preserved_pages());
            }
            Err(_) => prop_assert_eq!((all.digest(), all.preserved_pages(), all.node_count()), as_before),
        }
    }

    #[test]
    fn behaves_as_a_set(ops in prop::collection::vec(any_op(), 1..40)) {
        let mem = machine();
        let free = mem.free_pages_left();
        let mut map = new_map(mem);
        let mut model: BTreeSet<PageRef> = BTreeSet::new();
        for op in ops {
            match op {
                Op::Preserve(range, order) => {
                    let may = model.iter().all(|b| !b.range().overlaps(&range));
                    prop_assert_eq!(map.preserve_blocks(range, order).is_ok(), may || range.is_empty());
                    if may {
                        model.extend(of_order(range, order));
                    }
                }
                Op::RestoreBlocks(range, order) => {
                    let all = of_order(range, order).all(|b| model.contains(&b));
                    prop_assert_eq!(map.restore_blocks(range, order).is_ok(), all);
                    if all {
                        of_order(range, order).for_each(|b| assert!(model.remove(&b)));
                    }
                }
                Op::Restore(b) => prop_assert_eq!(map.restore(b).is_ok(), model.remove(&b)),
            }
            prop_assert_eq!(blocks(&map), model.clone());
            let mut pages = 0;
            map.for_each_range(|range| pages += range.len() / PAGE_SIZE);
            prop_assert_eq!(pages, map.preserved_pages());
            prop_assert_eq!(mem.free_pages_left() + map.node_count() as u64, free, "a node leaked");
        }
        let mut map = next_life(&map, mem);
        let mut taken = BTreeSet::new();
        map.restore_all(|b| assert!(taken.insert(b)));
        prop_assert_eq!(taken, model);
        prop_assert_eq!((map.block_count(), map.node_count()), (0, 1));
        // The digest of an empty map again, and a map like any other.
        let digest = map.digest();
        map.preserve_blocks(r(127 * M, 129 * M), 0).unwrap();
        map.memory().fail_after(None);
        map.restore_blocks(r(127 * M, 129 * M), 0).unwrap();
        prop_assert_eq!(map.digest(), digest);
    }
}
