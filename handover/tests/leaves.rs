//! The map remembers where its leaves are: whatever comes and goes, it never believes what is no longer so. Leaves far apart and side
//! by side, of several orders, with pages of the tree in the memory that they cover, against a set.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use handover::PhysRange;
use handover::mem::PAGE_SIZE;
use handover::page::PageRef;
use handover::radix::PreservedMap;
use handover::sim::SimMemory;
use proptest::prelude::*;

const M: u64 = 1 << 20;
/// What a leaf of blocks of one page covers.
const LEAF: u64 = 128 * M;
/// Five leaves' worth side by side, one far off, and one so far that no table reaches from the first to it.
const PLACES: [u64; 7] = [
    LEAF,
    2 * LEAF,
    3 * LEAF,
    4 * LEAF,
    5 * LEAF,
    20 << 30,
    3 << 40,
];
/// The tree begins here.
const FEW: PhysRange = PhysRange::new(M, M + 6 * PAGE_SIZE);
const SCRATCH: PhysRange = PhysRange::new(3 * LEAF + 100 * M, 3 * LEAF + 110 * M);
/// In each place the tree may have the pages from the middle on.
const SPARE: u64 = 8;

fn memory() -> SimMemory {
    thread_local! {
        static MEMORY: OnceCell<SimMemory> = const { OnceCell::new() };
    }
    // Simulated memory is never given back to the host.
    MEMORY.with(|cell| {
        *cell.get_or_init(|| {
            let far = PLACES[5..].iter().map(|&pa| PhysRange::new(pa, pa + LEAF));
            let near = PhysRange::new(PLACES[0], PLACES[5 - 1] + LEAF);
            let ram: Vec<_> = [FEW, near].into_iter().chain(far).collect();
            let mem = SimMemory::new(&ram);
            for pa in PLACES {
                let middle = pa + LEAF / 2;
                mem.reserve(PhysRange::new(pa, middle));
                mem.reserve(PhysRange::new(middle + SPARE * PAGE_SIZE, pa + LEAF));
            }
            mem
        })
    })
}

fn any_block(order: impl Strategy<Value = u8>) -> impl Strategy<Value = PageRef> {
    let page = prop_oneof![2 => 0..4_u64, 2 => LEAF / PAGE_SIZE / 2..LEAF / PAGE_SIZE / 2 + 10, 1 => 25_590..25_610_u64];
    (0..PLACES.len(), page, order).prop_map(|(place, page, order)| {
        let pa = PLACES[place] + page * PAGE_SIZE;
        let pa = pa >> (12 + order) << (12 + order);
        PageRef { pa, order }
    })
}

#[derive(Clone, Debug)]
enum Op {
    Preserve(PageRef),
    PreserveEach(Vec<PageRef>),
    Restore(PageRef),
    /// The whole way round: everything is taken back, and preserved again.
    Drain,
}

fn ops_with(order: impl Strategy<Value = u8> + Clone + 'static) -> BoxedStrategy<Vec<Op>> {
    let block = || any_block(order.clone());
    let op = prop_oneof![
        8 => block().prop_map(Op::Preserve),
        1 => prop::collection::vec(block(), 1..5).prop_map(Op::PreserveEach),
        8 => block().prop_map(Op::Restore),
        1 => Just(Op::Drain),
    ];
    prop::collection::vec(op, 1..80).boxed()
}

/// Blocks of one order, which take the shortest way, or of several.
fn any_ops() -> impl Strategy<Value = Vec<Op>> {
    let several = prop_oneof![4 => Just(0_u8), 1 => Just(1), 1 => Just(9), 1 => Just(14)];
    let several = several.boxed();
    prop_oneof![ops_with(Just(0)), ops_with(Just(9)), ops_with(several)]
}

fn may(map: &PreservedMap<SimMemory>, model: &BTreeSet<PageRef>, block: PageRef) -> bool {
    let bytes = block.range();
    let mut is_clear = !bytes.overlaps(&SCRATCH);
    map.for_each_node(|node| is_clear &= !bytes.contains(node));
    is_clear && model.iter().all(|other| !other.range().overlaps(&bytes))
}

/// Whether the tree might come to lie in the block: a kernel preserves nothing that its allocator has yet to give.
fn is_spare(block: PageRef) -> bool {
    PLACES.iter().any(|pa| {
        let middle = pa + LEAF / 2;
        block
            .range()
            .overlaps(&PhysRange::new(middle, middle + SPARE * PAGE_SIZE))
    })
}

fn run(map: &mut PreservedMap<SimMemory>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mem = *map.memory();
    let free = mem.free_pages_left() + 1;
    let mut model = BTreeSet::new();
    for op in ops {
        match op {
            Op::Preserve(block) => {
                let wanted = may(map, &model, block);
                if wanted && is_spare(block) {
                    continue;
                }
                let result = map.preserve(block);
                prop_assert_eq!(result.is_ok(), wanted, "{} {:?}", block, result);
                if wanted {
                    model.insert(block);
                }
            }
            Op::PreserveEach(mut list) => {
                list.retain(|&block| !is_spare(block));
                let result = map.preserve_each(list.iter().copied());
                let is_apart = |i| {
                    let earlier = model.iter().chain(&list[..i]).copied().collect();
                    may(map, &earlier, list[i])
                };
                prop_assert_eq!(
                    result.is_ok(),
                    (0..list.len()).all(is_apart),
                    "{:?}",
                    result
                );
                if result.is_ok() {
                    model.extend(list);
                }
            }
            Op::Restore(block) => {
                prop_assert_eq!(
                    map.restore(block).is_ok(),
                    model.remove(&block),
                    "{}",
                    block
                );
            }
            Op::Drain => {
                let mut all = BTreeSet::new();
                map.restore_all(|block| assert!(all.insert(block)));
                prop_assert_eq!(&all, &model);
                prop_assert_eq!(map.node_count(), 1);
                for &block in &model {
                    prop_assert_eq!(map.preserve(block), Ok(()));
                }
            }
        }
        let mut all = BTreeSet::new();
        map.for_each_block(|block| assert!(all.insert(block)));
        prop_assert_eq!(&all, &model);
        for &block in &model {
            prop_assert_eq!(map.is_preserved_as(block), Ok(()));
        }
        let mut nodes = 0;
        map.for_each_node(|node| {
            nodes += 1;
            assert!(mem.is_used(node));
            assert!(!map.is_preserved(node), "{node:#x}");
        });
        prop_assert_eq!(
            mem.free_pages_left() + nodes,
            free,
            "a page of the tree is lost"
        );
    }
    for block in model {
        prop_assert_eq!(map.restore(block), Ok(block));
    }
    prop_assert_eq!((map.preserved_pages(), map.node_count()), (0, 1));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_remembered_is_so(ops in any_ops()) {
        let mem = memory();
        let free = mem.free_pages_left();
        let mut map = PreservedMap::new(mem, vec![SCRATCH]).unwrap();
        let result = run(&mut map, ops);
        map.release();
        result?;
        prop_assert_eq!(mem.free_pages_left(), free);
    }
}
