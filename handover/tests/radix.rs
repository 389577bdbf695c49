//! The preserved map against a plain model, under failing allocation, and adopted from trees that are damaged.

use std::collections::{BTreeMap, BTreeSet};

use handover::error::Claim;
use handover::mem::{Memory, PAGE_SIZE};
use handover::page::{Blocks, PageRef};
use handover::radix::{Limits, PreservedMap};
use handover::sim::SimMemory;
use handover::{Error, PhysRange};
use proptest::prelude::*;

const M: u64 = 1 << 20;

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end)
}

fn block(pa: u64, order: u8) -> PageRef {
    PageRef::new(pa, order).unwrap()
}

/// Tree pages come from the first range, blocks lie in the others, scratch at 40 MiB.
const RAM: [PhysRange; 3] = [
    PhysRange::new(M, 4 * M),
    PhysRange::new(16 * M, 48 * M),
    PhysRange::new(1 << 32, (1 << 32) + 4 * M),
];
const SCRATCH: PhysRange = PhysRange::new(40 * M, 42 * M);

fn machine() -> SimMemory {
    let mem = SimMemory::new(&RAM);
    RAM[1..].iter().for_each(|&range| mem.reserve(range));
    mem
}

fn new_map(mem: SimMemory) -> PreservedMap<SimMemory> {
    PreservedMap::new(mem, vec![SCRATCH]).unwrap()
}

fn limits() -> Limits<'static> {
    Limits {
        ram: &RAM,
        scratch: &[SCRATCH],
        image: &[PhysRange {
            start: 46 * M,
            end: 47 * M,
        }],
    }
}

fn blocks<T: Memory>(map: &PreservedMap<T>) -> BTreeSet<PageRef> {
    let mut all = BTreeSet::new();
    map.for_each_block(|b| assert!(all.insert(b), "{b} twice"));
    all
}

#[test]
fn the_tree_is_linuxs() {
    let mem = machine();
    let mut map = new_map(mem);
    map.preserve(block(16 * M, 0)).unwrap();
    map.preserve(block(18 * M, 9)).unwrap();
    map.preserve(block((1 << 32) + 4096, 0)).unwrap();

    // Followed by hand, with the numbers of include/linux/kho/abi/radix_tree.h.
    for (pa, order) in [(16 * M, 0u32), (18 * M, 9), ((1 << 32) + 4096, 0)] {
        let key: u64 = 1 << (52 - order) | pa >> (12 + order);
        let mut node = map.root();
        for low in [51, 42, 33, 24, 15] {
            let slot = key >> low & 511;
            let bytes = mem.read(node + slot * 8, 8);
            node = u64::from_ne_bytes(bytes.try_into().unwrap());
            assert_ne!(node, 0, "{pa:#x} {low}");
        }
        let word = mem.read(node + (key & 0x7fff) / 64 * 8, 8);
        let word = u64::from_ne_bytes(word.try_into().unwrap());
        assert_ne!(word >> (key % 64) & 1, 0, "{pa:#x}");
    }
    assert_eq!(map.preserved_pages(), 514);
    assert_eq!(map.block_count(), 3);
}

#[test]
fn overlaps_are_seen_across_orders() {
    let mut map = new_map(machine());
    let large = block(20 * M, 8);
    map.preserve(large).unwrap();
    for inside in [
        block(20 * M, 0),
        block(21 * M - 4096, 0),
        block(20 * M + 8192, 1),
        large,
    ] {
        let refused = Error::AlreadyPreserved {
            block: inside,
            by: large,
        };
        assert_eq!(map.preserve(inside), Err(refused));
    }
    let around = block(20 * M, 10);
    assert_eq!(
        map.preserve(around),
        Err(Error::AlreadyPreserved {
            block: around,
            by: large
        })
    );
    map.preserve(block(21 * M, 0)).unwrap();
    map.preserve(block(20 * M - 4096, 0)).unwrap();
    // Within one word of a leaf: a neighbour is no overlap.
    let pair = block(24 * M, 1);
    map.preserve(block(24 * M + 8192, 0)).unwrap();
    map.preserve(pair).unwrap();
    let quad = block(24 * M, 2);
    assert!(matches!(
        map.preserve(quad),
        Err(Error::AlreadyPreserved { .. })
    ));
    // The last pages of a word.
    map.preserve(block(25 * M - 4096, 0)).unwrap();
    let last = block(25 * M - 8192, 1);
    assert!(matches!(
        map.preserve(last),
        Err(Error::AlreadyPreserved { .. })
    ));
    assert_eq!(map.block_at(20 * M + 5000), Some(large));
    assert!(map.is_preserved(20 * M) && !map.is_preserved(22 * M));
}

#[test]
fn what_is_refused() {
    let mem = machine();
    let mut map = new_map(mem);
    let raw = |pa, order| PageRef { pa, order };
    for (b, refused) in [
        (raw(17, 0), Error::BlockUnaligned { block: raw(17, 0) }),
        (
            raw(17 * M + 4096, 1),
            Error::BlockUnaligned {
                block: raw(17 * M + 4096, 1),
            },
        ),
        (raw(0, 19), Error::BlockOrder { block: raw(0, 19) }),
        (raw(0, 255), Error::BlockOrder { block: raw(0, 255) }),
        (
            raw(1 << 52, 0),
            Error::BlockTooHigh {
                block: raw(1 << 52, 0),
            },
        ),
        (
            raw(5 * M, 0),
            Error::NotRam {
                block: raw(5 * M, 0),
            },
        ),
        (
            raw(32 * M, 13),
            Error::NotRam {
                block: raw(32 * M, 13),
            },
        ),
        (
            raw(41 * M, 0),
            Error::InScratch {
                block: raw(41 * M, 0),
                scratch: SCRATCH,
            },
        ),
        (
            raw(32 * M, 12),
            Error::InScratch {
                block: raw(32 * M, 12),
                scratch: SCRATCH,
            },
        ),
        (
            raw(map.root(), 0),
            Error::HoldsTreePage {
                block: raw(map.root(), 0),
                node: map.root(),
            },
        ),
    ] {
        assert_eq!(map.preserve(b), Err(refused), "{b}");
        assert!(map.unpreserve(b).is_err(), "{b}");
    }
    let odd = r(17 * M, 17 * M + 1);
    assert_eq!(
        map.preserve_range(odd),
        Err(Error::RangeUnaligned { range: odd })
    );
    assert_eq!(map.preserve_range(r(17 * M, 17 * M)), Ok(()));
    assert_eq!(
        map.unpreserve(block(17 * M, 0)),
        Err(Error::NotPreserved { pa: 17 * M })
    );
    map.preserve(block(17 * M, 1)).unwrap();
    assert_eq!(
        map.unpreserve(block(17 * M, 0)),
        Err(Error::OtherBlock {
            asked: block(17 * M, 0),
            found: block(17 * M, 1)
        })
    );
    let part = r(17 * M, 17 * M + 4096);
    assert_eq!(
        map.unpreserve_range(part),
        Err(Error::CutsBlock {
            range: part,
            block: block(17 * M, 1)
        })
    );
    let more = r(17 * M, 17 * M + 16384);
    assert_eq!(
        map.unpreserve_range(more),
        Err(Error::NotPreserved { pa: 17 * M + 8192 })
    );
    assert_eq!(map.preserved_pages(), 2);
    assert_eq!(map.first_gap(&more), Some(17 * M + 8192));
    assert_eq!(map.first_gap(&r(17 * M + 100, 17 * M + 8192)), None);
}

#[test]
fn a_range_is_preserved_whole_or_not_at_all() {
    let mem = machine();
    let range = r(17 * M + 4096, 38 * M - 8192);
    // However many pages there are for the tree, until it succeeds.
    let mut failures = 0;
    for pages in 0.. {
        let mut map = new_map(mem);
        let free = mem.free_pages_left();
        mem.fail_after(Some(pages));
        let result = map.preserve_range(range);
        mem.fail_after(None);
        if result.is_ok() {
            assert_eq!(map.preserved_pages(), range.len() / PAGE_SIZE);
            map.unpreserve_range(range).unwrap();
        } else {
            assert_eq!(result, Err(Error::NoTreePage));
            failures += 1;
        }
        assert_eq!(blocks(&map).len(), 0);
        assert_eq!((map.preserved_pages(), map.node_count()), (0, 1));
        assert_eq!(mem.free_pages_left(), free, "after {pages} pages");
        map.release();
        assert_eq!(mem.free_pages_left(), free + 1);
        if result.is_ok() {
            break;
        }
    }
    assert!(failures > 20, "{failures}");
    mem.fail_after(Some(0));
    assert!(matches!(
        PreservedMap::new(mem, vec![]),
        Err(Error::NoTreePage)
    ));
}

#[test]
fn an_allocator_that_hands_out_scratch_is_refused() {
    let mem = SimMemory::new(&[r(M, 2 * M)]);
    let map = PreservedMap::new(mem, vec![r(M, 2 * M)]);
    assert!(matches!(
        map,
        Err(Error::TreePageForbidden {
            claim: Claim::Scratch,
            ..
        })
    ));
    assert_eq!(mem.free_pages_left(), 256);
}

#[derive(Clone, Debug)]
enum Op {
    Preserve(PageRef),
    PreserveRange(PhysRange, u64),
    Unpreserve(PageRef),
    UnpreserveRange(PhysRange),
}

fn any_block() -> impl Strategy<Value = PageRef> {
    (0..64u64, 0..=6u8).prop_map(|(n, order)| {
        // In two places that are far apart, so that leaves come and go.
        let base = if n % 2 == 0 { 39 * M + M / 2 } else { 1 << 32 };
        let pa = base + (n * 7 % 64) * PAGE_SIZE;
        PageRef {
            pa: pa >> (12 + order) << (12 + order),
            order,
        }
    })
}

fn any_range() -> impl Strategy<Value = PhysRange> {
    (0..200u64, 0..40u64).prop_map(|(n, len)| {
        let start = 39 * M + M / 2 + n * PAGE_SIZE;
        r(start, start + len * PAGE_SIZE)
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => any_block().prop_map(Op::Preserve),
        2 => (any_range(), 0..30u64).prop_map(|(range, pages)| Op::PreserveRange(range, pages)),
        3 => any_block().prop_map(Op::Unpreserve),
        2 => any_range().prop_map(Op::UnpreserveRange),
    ]
}

/// The model: each preserved page, with the block that it belongs to.
#[derive(Default)]
struct Model(BTreeMap<u64, PageRef>);

impl Model {
    fn pages(b: PageRef) -> impl Iterator<Item = u64> {
        (b.range().start..b.range().end).step_by(PAGE_SIZE as usize)
    }

    fn may(&self, b: PageRef) -> bool {
        !b.range().overlaps(&SCRATCH) && Self::pages(b).all(|p| !self.0.contains_key(&p))
    }

    fn preserve(&mut self, b: PageRef) {
        self.0.extend(Self::pages(b).map(|p| (p, b)));
    }

    fn unpreserve(&mut self, b: PageRef) {
        self.0.retain(|_, of| *of != b);
    }

    /// The blocks of a range that is preserved whole, in whole blocks.
    fn blocks_of(&self, range: PhysRange) -> Option<BTreeSet<PageRef>> {
        let pages = (range.start..range.end).step_by(PAGE_SIZE as usize);
        let blocks: Option<BTreeSet<_>> = pages.map(|p| self.0.get(&p).copied()).collect();
        blocks.filter(|b| b.iter().all(|b| range.contains_range(&b.range())))
    }

    fn blocks(&self) -> BTreeSet<PageRef> {
        self.0.values().copied().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(any_op(), 1..60)) {
        let mem = machine();
        let free = mem.free_pages_left();
        let mut map = new_map(mem);
        let mut model = Model::default();
        for op in ops {
            match op {
                Op::Preserve(b) => {
                    let may = model.may(b);
                    prop_assert_eq!(map.preserve(b).is_ok(), may, "{}", b);
                    if may {
                        model.preserve(b);
                    }
                }
                Op::PreserveRange(range, pages) => {
                    let may = Blocks::of(range).all(|b| model.may(b));
                    mem.fail_after(Some(pages));
                    let result = map.preserve_range(range);
                    mem.fail_after(None);
                    match result {
                        Ok(()) => {
                            prop_assert!(may);
                            Blocks::of(range).for_each(|b| model.preserve(b));
                        }
                        Err(e) => prop_assert!(!may || e == Error::NoTreePage, "{}", e),
                    }
                }
                Op::Unpreserve(b) => {
                    let is = model.0.get(&b.pa) == Some(&b);
                    prop_assert_eq!(map.unpreserve(b).is_ok(), is, "{}", b);
                    if is {
                        model.unpreserve(b);
                    }
                }
                Op::UnpreserveRange(range) => match model.blocks_of(range) {
                    Some(blocks) => {
                        prop_assert_eq!(map.unpreserve_range(range), Ok(()));
                        blocks.iter().for_each(|&b| model.unpreserve(b));
                    }
                    None => prop_assert!(map.unpreserve_range(range).is_err()),
                },
            }
            prop_assert_eq!(blocks(&map), model.blocks());
            prop_assert_eq!(map.preserved_pages(), model.0.len() as u64);
            let mut nodes = BTreeSet::new();
            map.for_each_node(|n| assert!(nodes.insert(n) && mem.is_used(n)));
            prop_assert_eq!(nodes.len(), map.node_count());
            prop_assert_eq!(mem.free_pages_left() + nodes.len() as u64, free, "a node leaked");
        }

        // The next life takes it over as it is.
        let root = map.root();
        let (pages, nodes) = (map.preserved_pages(), map.node_count());
        let next = mem.kexec();
        let mut adopted = PreservedMap::adopt(root, next, &limits()).unwrap();
        prop_assert_eq!(blocks(&adopted), model.blocks());
        prop_assert_eq!((adopted.preserved_pages(), adopted.node_count()), (pages, nodes));
        adopted.for_each_node(|n| next.reserve(r(n, n + PAGE_SIZE)));
        RAM[1..].iter().for_each(|&range| next.reserve(range));
        // And it is a map like any other.
        for b in model.blocks() {
            prop_assert_eq!(adopted.unpreserve(b), Ok(()));
        }
        prop_assert_eq!((adopted.preserved_pages(), adopted.node_count()), (0, 1));
        adopted.release();
        prop_assert_eq!(next.free_pages_left(), free);
    }

    /// Whatever a tree's pages hold, walking it ends without a panic, and what is taken over keeps the invariants.
    #[test]
    fn any_damage_is_refused_or_harmless(
        damage in prop::collection::vec((0..6usize, 0..512u64, damaged_word()), 1..4),
    ) {
        let mem = machine();
        let map = filled(mem);
        let mut nodes = Vec::new();
        map.for_each_node(|n| nodes.push(n));
        for (node, word, (value, flip)) in damage {
            let pa = nodes[node * 7 % nodes.len()] + word * 8;
            let old = u64::from_ne_bytes(mem.read(pa, 8).try_into().unwrap());
            let new = if flip { old ^ 1 << (value % 64) } else { value };
            mem.write(pa, &new.to_ne_bytes());
        }
        match PreservedMap::adopt(map.root(), mem, &limits()) {
            Ok(adopted) => holds_invariants(&adopted)?,
            Err(e) => prop_assert!(e.to_string().ends_with("; the handover is refused"), "{}", e),
        }
    }

    #[test]
    fn any_root_is_refused_or_harmless(root in prop_oneof![any::<u64>(), 0..64 * M, (0..64u64).prop_map(|n| n * M)]) {
        let mem = machine();
        filled(mem);
        if let Ok(map) = PreservedMap::adopt(root, mem, &limits()) {
            holds_invariants(&map)?;
        }
    }
}

/// A value that is a plausible address or key part, or anything; and whether it names a bit to flip instead.
fn damaged_word() -> impl Strategy<Value = (u64, bool)> {
    prop_oneof![
        any::<u64>().prop_map(|v| (v, true)),
        any::<u64>().prop_map(|v| (v, false)),
        (0..50 * M).prop_map(|v| (v, false)),
        (M / 4096..50 * M / 4096).prop_map(|v| (v * 4096, false)),
    ]
}

fn filled(mem: SimMemory) -> PreservedMap<SimMemory> {
    let mut map = new_map(mem);
    map.preserve_range(r(17 * M + 4096, 30 * M - 4096)).unwrap();
    map.preserve(block(1 << 32, 0)).unwrap();
    map.preserve(block(31 * M, 0)).unwrap();
    map
}

fn holds_invariants(map: &PreservedMap<SimMemory>) -> Result<(), TestCaseError> {
    let image = limits().image[0];
    let mut all: Vec<PhysRange> = blocks(map).iter().map(PageRef::range).collect();
    map.for_each_node(|n| all.push(r(n, n + PAGE_SIZE)));
    all.sort();
    for range in &all {
        prop_assert!(RAM.iter().any(|ram| ram.contains_range(range)), "{}", range);
        prop_assert!(
            !range.overlaps(&SCRATCH) && !range.overlaps(&image),
            "{}",
            range
        );
    }
    prop_assert!(all.windows(2).all(|w| w[0].end <= w[1].start));
    Ok(())
}

/// Changes one thing in a good tree, and expects this refusal.
#[test]
fn each_damage_has_its_sentence() {
    // Physical addresses of the nodes on the path to a key, the root first.
    fn path(mem: SimMemory, root: u64, key: u64) -> Vec<u64> {
        let mut nodes = vec![root];
        for low in [51, 42, 33, 24, 15] {
            let slot = nodes.last().unwrap() + (key >> low & 511) * 8;
            nodes.push(u64::from_ne_bytes(mem.read(slot, 8).try_into().unwrap()));
        }
        nodes
    }
    let key = 1 << 52 | (31 * M) >> 12;
    let slot_of_leaf = |nodes: &[u64]| nodes[4] + (key >> 15 & 511) * 8;
    let set_bit = |mem: SimMemory, leaf: u64, key: u64| {
        let at = leaf + (key & 0x7fff) / 8;
        let byte = mem.read(at, 1)[0];
        mem.write(at, &[byte | 1 << (key % 8)]);
    };
    type Damage<'a> = &'a dyn Fn(SimMemory, &[u64]);
    let cases: [(Damage<'_>, &str); 11] = [
        (
            &|mem, n| mem.write(slot_of_leaf(n), &(n[5] + 8).to_ne_bytes()),
            "at level 0 is not page-aligned",
        ),
        (
            &|mem, n| mem.write(slot_of_leaf(n), &(8 * M).to_ne_bytes()),
            "node 0x800000 at level 0 is not in RAM",
        ),
        (
            &|mem, n| mem.write(slot_of_leaf(n), &n[0].to_ne_bytes()),
            "was met before",
        ),
        (
            &|mem, n| mem.write(slot_of_leaf(n) + 8, &n[5].to_ne_bytes()),
            "was met before",
        ),
        (
            &|mem, n| mem.write(slot_of_leaf(n), &(40 * M).to_ne_bytes()),
            "lies in the scratch region [0x2800000, 0x2a00000)",
        ),
        (
            &|mem, n| mem.write(slot_of_leaf(n), &(46 * M).to_ne_bytes()),
            "lies in the running kernel [0x2e00000, 0x2f00000)",
        ),
        (
            &|mem, n| set_bit(mem, n[5], 1 << 52 | (8 * M) >> 12),
            "block 0x800000 (order 0) is not in RAM",
        ),
        (
            &|mem, n| set_bit(mem, n[5], 1 << 52 | (41 * M) >> 12),
            "block 0x2900000 (order 0) overlaps the scratch region",
        ),
        (
            &|mem, n| set_bit(mem, n[5], 1 << 52 | (46 * M) >> 12),
            "block 0x2e00000 (order 0) overlaps the running kernel",
        ),
        (
            &|mem, n| set_bit(mem, n[5], 1 << 52 | (20 * M) >> 12),
            "block 0x1400000 (order 0) lies inside block 0x1400000 (order 10)",
        ),
        (
            &|mem, n| set_bit(mem, n[5], 1 << 52 | n[3] >> 12),
            "is also preserved as data",
        ),
    ];
    for (damage, sentence) in cases {
        let mem = machine();
        let root = filled(mem).root();
        damage(mem, &path(mem, root, key));
        let said = PreservedMap::adopt(root, mem, &limits())
            .unwrap_err()
            .to_string();
        assert!(said.contains(sentence), "{said}, not: {sentence}");
        assert!(said.ends_with("; the handover is refused"), "{said}");
    }
    // A bit under a key that has no order.
    let mem = machine();
    let root = filled(mem).root();
    let nodes = path(mem, root, key);
    let fresh = [0, 1, 2, 3, 4].map(|_| mem.alloc_pages(0).unwrap());
    fresh.iter().for_each(|&n| mem.write(n, &[0; 4096]));
    mem.write(nodes[0], &fresh[0].to_ne_bytes());
    fresh
        .windows(2)
        .for_each(|w| mem.write(w[0], &w[1].to_ne_bytes()));
    mem.write(fresh[4], &[2]);
    assert_eq!(
        PreservedMap::adopt(root, mem, &limits()).unwrap_err(),
        Error::BadKey { key: 1 }
    );
}
