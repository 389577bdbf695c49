//! Tables for ranges and for scratch planning, and ranges against a plain model.

use std::collections::BTreeSet;

use handover::error::{Name, ScratchFault, ScratchPart};
use handover::page::{Blocks, MAX_ORDER, PageRef};
use handover::range::{find_space, normalize, subtract, without};
use handover::scratch::{self, ScratchSize, Usage};
use handover::{Error, PhysRange};
use proptest::prelude::*;

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end)
}

#[test]
fn minus() {
    let a = r(10, 20);
    for (b, expected) in [
        (r(0, 5), [Some(a), None]),
        (r(0, 10), [Some(a), None]),
        (r(0, 15), [None, Some(r(15, 20))]),
        (r(10, 12), [None, Some(r(12, 20))]),
        (r(12, 15), [Some(r(10, 12)), Some(r(15, 20))]),
        (r(15, 20), [Some(r(10, 15)), None]),
        (r(15, 30), [Some(r(10, 15)), None]),
        (r(20, 30), [Some(a), None]),
        (r(10, 20), [None, None]),
        (r(0, 30), [None, None]),
        (r(13, 13), [Some(a), None]),
    ] {
        assert_eq!(a.minus(&b), expected, "{a} minus {b}");
    }
    assert_eq!(r(5, 5).minus(&r(0, 9)), [None, None]);
}

#[test]
fn overlap_and_intersection() {
    for (a, b, both) in [
        (r(0, 10), r(10, 20), None),
        (r(0, 11), r(10, 20), Some(r(10, 11))),
        (r(12, 13), r(10, 20), Some(r(12, 13))),
        (r(5, 5), r(0, 10), None),
        (r(7, 3), r(0, 10), None),
        (r(0, 10), r(0, 10), Some(r(0, 10))),
    ] {
        assert_eq!(a.intersect(&b), both, "{a} {b}");
        assert_eq!(b.intersect(&a), both, "{b} {a}");
        assert_eq!(a.overlaps(&b), both.is_some(), "{a} {b}");
        assert_eq!(b.overlaps(&a), both.is_some(), "{b} {a}");
    }
    assert!(r(0, 10).contains_range(&r(3, 10)) && !r(0, 10).contains_range(&r(3, 11)));
    assert!(
        r(0, 10).contains_range(&r(50, 50)),
        "nothing lies everywhere"
    );
    assert!(r(0, 10).contains(0) && !r(0, 10).contains(10));
    assert_eq!(r(9, 4).len(), 0);
    assert_eq!(PhysRange::with_len(u64::MAX, 1), None);
    assert_eq!(r(0x1000, 0x3000).to_string(), "[0x1000, 0x3000)");
}

#[test]
fn page_alignment() {
    for (range, inwards, outwards) in [
        (r(0x1000, 0x3000), r(0x1000, 0x3000), r(0x1000, 0x3000)),
        (r(0x1001, 0x3000), r(0x2000, 0x3000), r(0x1000, 0x3000)),
        (r(0x1000, 0x2fff), r(0x1000, 0x2000), r(0x1000, 0x3000)),
        (r(0x1001, 0x1002), r(0x2000, 0x2000), r(0x1000, 0x2000)),
        (r(0x1800, 0x1800), r(0x2000, 0x2000), r(0x1000, 0x1000)),
        (
            r(u64::MAX - 1, u64::MAX),
            r(u64::MAX - 1, u64::MAX - 1),
            r(!0xfff, u64::MAX),
        ),
    ] {
        assert_eq!(range.page_align_inwards(), inwards, "{range}");
        assert_eq!(range.page_align_outwards(), outwards, "{range}");
    }
}

#[test]
fn normal_form() {
    let mut ranges = vec![
        r(30, 40),
        r(5, 5),
        r(0, 10),
        r(10, 12),
        r(35, 36),
        r(20, 25),
        r(9, 3),
    ];
    normalize(&mut ranges);
    assert_eq!(ranges, [r(0, 12), r(20, 25), r(30, 40)]);
}

#[test]
fn space() {
    let free = [r(0, 100), r(200, 300)];
    for (size, align, avoid, expected) in [
        (10, 1, vec![], Some(r(0, 10))),
        (10, 64, vec![r(0, 1)], Some(r(64, 74))),
        (50, 64, vec![r(0, 1)], None),
        (44, 64, vec![r(0, 1)], Some(r(256, 300))),
        (100, 1, vec![r(50, 60)], Some(r(200, 300))),
        (101, 1, vec![], None),
        (0, 1, vec![], None),
        (1, 3, vec![], None),
        (1, 1, vec![r(0, 1000)], None),
    ] {
        assert_eq!(
            find_space(&free, size, align, &avoid),
            expected,
            "{size} {align} {avoid:?}"
        );
    }
}

#[test]
fn scratch_sizes() {
    use ScratchFault::*;
    let fault_in = |part, why| Err((part, why));
    let fault = |why| fault_in(ScratchPart::Whole, why);
    let parts = |low, global, per_node| {
        Ok(ScratchSize::Parts {
            low,
            global,
            per_node,
        })
    };
    for (text, expected) in [
        ("16M", Ok(ScratchSize::Bytes(16 << 20))),
        ("64k", Ok(ScratchSize::Bytes(64 << 10))),
        ("1G", Ok(ScratchSize::Bytes(1 << 30))),
        ("4096", Ok(ScratchSize::Bytes(4096))),
        (" 200% ", Ok(ScratchSize::PercentOfBoot(200))),
        ("", fault(NoNumber)),
        ("M", fault(NoNumber)),
        ("-1M", fault(NoNumber)),
        ("0", fault(Zero)),
        ("0%", fault(Zero)),
        ("16X", fault(Unit)),
        ("16MB", fault(Unit)),
        ("1.5M", fault(Unit)),
        ("10001%", fault(Percent)),
        ("99999999999999999999%", fault(Percent)),
        ("99999999G", fault(TooLarge)),
        ("18446744073709551615G", fault(TooLarge)),
        ("99999999999999999999", fault(TooLarge)),
        ("8M,16M,1G", parts(8 << 20, 16 << 20, 1 << 30)),
        ("0,16M,0", parts(0, 16 << 20, 0)),
        ("0,0,0", fault(Zero)),
        ("8M,16M", fault(PartCount)),
        ("1,2,3,4", fault(PartCount)),
        ("1M,2M,3M,", fault(PartCount)),
        (",,", fault_in(ScratchPart::Low, NoNumber)),
        ("8M,16M,", fault_in(ScratchPart::PerNode, NoNumber)),
        ("8M, 16M,0", fault_in(ScratchPart::Global, NoNumber)),
        ("8M,50%,0", fault_in(ScratchPart::Global, PercentInParts)),
        ("50%%", fault(Unit)),
    ] {
        let expected = expected.map_err(|(part, why)| Error::ScratchSyntax {
            given: Name::new(text.trim()),
            part,
            why,
        });
        assert_eq!(ScratchSize::parse(text), expected, "{text:?}");
    }
    let said = |text| ScratchSize::parse(text).unwrap_err().to_string();
    let write = "write an amount (16M), a percentage of what boot needs (200%), or low, global and per-node amounts (8M,16M,0)";
    for (text, why) in [
        ("lots", "it does not begin with a number"),
        ("20000%", "it is above 10000 %, the most that is taken"),
        (
            "8M,,0",
            "its second part, for memory anywhere, does not begin with a number",
        ),
        ("1M,2M", "it has neither one part nor three"),
    ] {
        assert_eq!(
            said(text),
            format!("`{text}` is no size of scratch: {why}; {write}")
        );
    }
}

#[test]
fn scratch_plans() {
    const M: u64 = 1 << 20;
    let plan = |size: &str, usable: &[PhysRange], avoid: &[PhysRange]| {
        ScratchSize::parse(size).unwrap().plan(usable, 3 * M, avoid)
    };
    let ram = [r(0, 640 << 10), r(M, 128 * M)];
    // At the lowest large page off the first mebibyte.
    assert_eq!(plan("16M", &ram, &[]), Ok(vec![r(2 * M, 18 * M)]));
    assert_eq!(plan("200%", &ram, &[]), Ok(vec![r(2 * M, 8 * M)]));
    assert_eq!(
        plan("64K", &ram, &[]),
        Ok(vec![r(2 * M, 2 * M + (64 << 10))])
    );
    // Rounded up to whole pages, and from a large page on to whole large pages.
    assert_eq!(plan("5000", &ram, &[]), Ok(vec![r(2 * M, 2 * M + 8192)]));
    assert_eq!(plan("3M", &ram, &[]), Ok(vec![r(2 * M, 6 * M)]));
    // Off what is in use.
    assert_eq!(
        plan("16M", &ram, &[r(9 * M, 9 * M + 1)]),
        Ok(vec![r(10 * M, 26 * M)])
    );
    // No large page's boundary fits.
    let odd = [r(5 * M, 7 * M + 4096), r(9 * M, 10 * M), r(11 * M, 13 * M)];
    assert_eq!(plan("2M", &odd, &[]), Ok(vec![r(5 * M, 7 * M)]));
    // In pieces, the largest first.
    let pieces = [
        r(3 * M, 5 * M),
        r(7 * M, 8 * M),
        r(9 * M, 12 * M),
        r(20 * M, 22 * M),
    ];
    assert_eq!(
        plan("4M", &pieces, &[]),
        Ok(vec![r(3 * M, 4 * M), r(9 * M, 12 * M)])
    );
    assert_eq!(
        plan("64M", &ram, &[]),
        Err(Error::ScratchTooLarge {
            wanted: 64 * M,
            usable: 127 * M
        })
    );
    let crumbs: Vec<_> = (1..100).map(|i| r(i * 2 * M, i * 2 * M + 4096)).collect();
    assert_eq!(
        plan("128K", &crumbs, &[]),
        Err(Error::ScratchNoSpace {
            wanted: 128 << 10,
            missing: 64 << 10
        })
    );
    assert!(plan("16M", &[], &[]).is_err());
    // As all sizes of scratch are said: in KiB.
    let sentences = [
        plan("64M", &ram, &[]).unwrap_err().to_string(),
        plan("128K", &crumbs, &[]).unwrap_err().to_string(),
    ];
    assert_eq!(
        sentences,
        [
            "65536 KiB of scratch are wanted, more than half of the 130048 KiB that are usable",
            "128 KiB of scratch are wanted, but for 64 of them there is no place in 16 regions"
        ]
    );
}

#[test]
fn scratch_in_three_parts() {
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;
    let plan = |size: &str, usable: &[PhysRange], nodes: &[PhysRange]| {
        let size = ScratchSize::parse(size).unwrap();
        size.plan_nodes(usable, 3 * M, &[r(2 * M, 4 * M)], nodes)
    };
    let ram = [r(0, 3 * G), r(4 * G, 8 * G)];
    let nodes = [r(0, 5 * G), r(5 * G, 8 * G)];
    // Low, one in each node, and the one that may lie anywhere.
    assert_eq!(
        plan("8M,16M,4M", &ram, &nodes),
        Ok(vec![
            r(4 * M, 12 * M),
            r(12 * M, 16 * M),
            r(16 * M, 32 * M),
            r(5 * G, 5 * G + 4 * M)
        ])
    );
    assert_eq!(
        plan("0,0,2M", &ram, &nodes[1..]),
        Ok(vec![r(5 * G, 5 * G + 2 * M)])
    );
    // There is memory, but none of it is low; or none in the second node.
    assert_eq!(
        plan("8M,0,0", &ram[1..], &nodes),
        Err(Error::ScratchNoSpace {
            wanted: 8 * M,
            missing: 8 * M
        })
    );
    assert_eq!(
        plan("0,0,8M", &ram[..1], &nodes),
        Err(Error::ScratchNoSpace {
            wanted: 8 * M,
            missing: 8 * M
        })
    );
    assert!(matches!(
        plan("3G,1G,0", &ram, &nodes),
        Err(Error::ScratchTooLarge { .. })
    ));
}

#[test]
fn scratch_use_is_explained() {
    const M: u64 = 1 << 20;
    let usage = |size, peak, needed| Usage {
        size: size * M,
        used: M,
        peak: peak * M,
        needed: needed * M,
    };
    for (usage, missing, nearly_full, says) in [
        (
            usage(16, 4, 6),
            0,
            false,
            "16384 KiB, 1024 KiB in use, at most 4096 KiB, 6144 KiB needed by a crossing",
        ),
        (
            usage(16, 14, 6),
            0,
            true,
            "; nearly full: kho_scratch=18M would leave room",
        ),
        (
            usage(16, 4, 16),
            0,
            true,
            "; nearly full: kho_scratch=20M would leave room",
        ),
        (
            usage(16, 4, 20),
            4 * M,
            true,
            "; 4096 KiB too few: kho_scratch=24M would do",
        ),
        (usage(0, 0, 1), M, true, "too few"),
    ] {
        assert_eq!(
            (usage.missing(), usage.is_nearly_full()),
            (missing, nearly_full)
        );
        let text = usage.to_string();
        assert!(text.contains(says), "{text}");
        let advised = Usage {
            size: usage.advised(),
            ..usage
        };
        assert!(!advised.is_nearly_full(), "{advised}");
    }
    let most = Usage {
        size: u64::MAX,
        used: 0,
        peak: u64::MAX,
        needed: 0,
    };
    assert!(most.is_nearly_full() && most.missing() == 0);
    assert_eq!(most.advised() % scratch::LARGE_PAGE, 0);
}

#[test]
fn scratch_array() {
    let regions = [r(0x20_0000, 0x40_0000), r(0x1000, 0x2000)];
    let mut bytes = [0; 40];
    assert_eq!(scratch::encode(&regions, &mut bytes), Ok(32));
    assert_eq!(scratch::decode(&bytes[..32]), Ok(regions.to_vec()));
    assert_eq!(bytes[8..16], 0x20_0000u64.to_ne_bytes());
    assert_eq!(
        scratch::encode(&regions, &mut bytes[..31]),
        Err(Error::ScratchArrayRoom {
            needed: 32,
            room: 31
        })
    );
    for size in [0, 1, 15, 17, 16 * 17] {
        assert_eq!(
            scratch::decode(&vec![0x10; size]),
            Err(Error::ScratchArraySize { size })
        );
    }
    for (addr, size, why) in [
        (0x1000u64, 0u64, ScratchFault::Zero),
        (0x1001, 0x1000, ScratchFault::Unaligned),
        (0x1000, 0x1001, ScratchFault::Unaligned),
        (u64::MAX - 0xfff, 0x1000, ScratchFault::TooLarge),
        (1 << 52, 0x1000, ScratchFault::TooLarge),
        (0x3f_f000, 0x2000, ScratchFault::Overlap),
    ] {
        bytes[16..24].copy_from_slice(&addr.to_ne_bytes());
        bytes[24..32].copy_from_slice(&size.to_ne_bytes());
        let refused = Error::ScratchRegion {
            index: 1,
            addr,
            size,
            why,
        };
        assert_eq!(scratch::decode(&bytes[..32]), Err(refused));
    }
}

fn ranges() -> impl Strategy<Value = Vec<PhysRange>> {
    prop::collection::vec((0..60u64, 0..12u64).prop_map(|(s, l)| r(s, s + l)), 0..8)
}

fn set(ranges: &[PhysRange]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|r| r.start..r.end).collect()
}

fn is_normal(ranges: &[PhysRange]) -> bool {
    ranges.iter().all(|r| !r.is_empty()) && ranges.windows(2).all(|w| w[0].end < w[1].start)
}

proptest! {
    #[test]
    fn subtracting_is_that_of_sets(a in ranges(), b in ranges()) {
        let left = subtract(&a, &b);
        prop_assert_eq!(set(&left), &set(&a) - &set(&b));
        prop_assert!(is_normal(&left), "{:?}", left);
        // In one sweep, of lists that are in order; what is not left is found the same way.
        let (mut a, mut b) = (a, b);
        normalize(&mut a);
        normalize(&mut b);
        prop_assert!(without(&a, &b).eq(left.iter().copied()));
        let shared: Vec<PhysRange> = without(&a, &left).collect();
        prop_assert_eq!(set(&shared), &set(&a) & &set(&b));
        prop_assert!(is_normal(&shared), "{:?}", shared);
    }

    #[test]
    fn normalizing_keeps_the_set(mut a in ranges()) {
        let before = set(&a);
        normalize(&mut a);
        prop_assert_eq!(set(&a), before);
        prop_assert!(is_normal(&a), "{:?}", a);
    }

    #[test]
    fn space_is_the_lowest(free in ranges(), size in 1..20u64, align in 0..4u32, avoid in ranges()) {
        let align = 1 << align;
        let left = &set(&free) - &set(&avoid);
        let fits = |s: u64| s.is_multiple_of(align) && (s..s + size).all(|b| left.contains(&b));
        let expected = (0..80).find(|&s| fits(s)).map(|s| r(s, s + size));
        prop_assert_eq!(find_space(&free, size, align, &avoid), expected);
    }

    #[test]
    fn blocks_cover_a_range_exactly(first in 0..1u64 << 40, pages in 0..1u64 << 20) {
        let range = r(first << 12, (first + pages) << 12);
        let blocks: Vec<PageRef> = Blocks::of(range).collect();
        let mut at = range.start;
        for b in &blocks {
            prop_assert_eq!(b.pa, at);
            prop_assert_eq!(b.check(), Ok(()));
            at = b.range().end;
        }
        prop_assert_eq!(at, range.end);
        // The fewest: no two neighbours make up a larger block.
        for w in blocks.windows(2) {
            let joined = PageRef { pa: w[0].pa, order: w[0].order + 1 };
            prop_assert!(w[0].order != w[1].order || w[0].order == MAX_ORDER || joined.check().is_err());
        }
    }

    #[test]
    fn a_plan_is_usable(
        usable in ranges(), avoid in ranges(), kib in 4..40_000u64,
    ) {
        let scale = |v: Vec<PhysRange>| -> Vec<PhysRange> {
            v.iter().map(|x| r(x.start * 0x7_f800, x.end * 0x7_f800)).collect()
        };
        let (usable, avoid) = (scale(usable), scale(avoid));
        let size = ScratchSize::Bytes(kib << 10);
        if let Ok(plan) = size.plan(&usable, 0, &avoid) {
            let total: u64 = plan.iter().map(PhysRange::len).sum();
            prop_assert_eq!(total, size.bytes(0));
            prop_assert!(plan.iter().all(PhysRange::is_page_aligned));
            prop_assert!(plan.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(subtract(&plan, &usable).is_empty());
            prop_assert!(plan.iter().all(|p| avoid.iter().all(|a| !a.overlaps(p))));
            prop_assert!(plan.iter().all(|p| p.start >= scratch::LOW_MEMORY));
            let mut bytes = [0; 256];
            let used = scratch::encode(&plan, &mut bytes).unwrap();
            prop_assert_eq!(scratch::decode(&bytes[..used]), Ok(plan));
        }
    }

    /// Against a plain model, page by page: the plan is the one that is promised, and there is none only where there can be
    /// none.
    #[test]
    fn a_plan_is_the_one_that_is_promised(
        usable in prop::collection::vec((0..3000u64, 0..900u64), 0..24),
        avoid in prop::collection::vec((0..3000u64, 0..40u64), 0..24),
        pages in 1..1600u64,
    ) {
        const PAGE: u64 = 4096;
        let within = |all: &[(u64, u64)], page: u64| all.iter().any(|(start, len)| (*start..start + len).contains(&page));
        let ranges = |all: &[(u64, u64)]| -> Vec<PhysRange> {
            all.iter().map(|(start, len)| r(start * PAGE, (start + len) * PAGE)).collect()
        };
        let free: Vec<bool> = (0..4000)
            .map(|page| page * PAGE >= scratch::LOW_MEMORY && within(&usable, page) && !within(&avoid, page))
            .collect();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for page in (0..4000).filter(|page| free[*page as usize]) {
            match runs.last_mut() {
                Some((start, len)) if *start + *len == page => *len += 1,
                _ => runs.push((page, 1)),
            }
        }
        // From a large page on, in whole large pages.
        let wanted = if pages >= 512 { pages.next_multiple_of(512) } else { pages };
        let total: u64 = runs.iter().map(|(_, len)| len).sum();
        let plan = ScratchSize::Bytes(pages * PAGE).plan(&ranges(&usable), 0, &ranges(&avoid));
        if wanted * PAGE > total * PAGE / 2 {
            let refused = Error::ScratchTooLarge { wanted: wanted * PAGE, usable: total * PAGE };
            prop_assert_eq!(plan, Err(refused));
            return Ok(());
        }
        let one = |align: u64| {
            let place = |(start, len): &(u64, u64)| {
                let at = start.next_multiple_of(align);
                (at + wanted <= start + len).then_some(at)
            };
            runs.iter().find_map(place)
        };
        match one(512).or_else(|| one(1)) {
            Some(at) => prop_assert_eq!(plan, Ok(vec![r(at * PAGE, (at + wanted) * PAGE)])),
            None => {
                let mut lens: Vec<u64> = runs.iter().map(|(_, len)| *len).collect();
                lens.sort_unstable_by_key(|len| std::cmp::Reverse(*len));
                let sum = |n: usize| lens.iter().take(n).sum::<u64>();
                match (1..=scratch::MAX_REGIONS).find(|n| sum(*n) >= wanted) {
                    Some(fewest) => {
                        let plan = plan.unwrap();
                        prop_assert_eq!(plan.len(), fewest);
                        prop_assert_eq!(plan.iter().map(PhysRange::len).sum::<u64>(), wanted * PAGE);
                        prop_assert!(plan.windows(2).all(|w| w[0].end <= w[1].start));
                        let mut pages = plan.iter().flat_map(|p| p.start / PAGE..p.end / PAGE);
                        prop_assert!(pages.all(|page| free[page as usize]));
                    }
                    None => {
                        let missing = (wanted - sum(scratch::MAX_REGIONS)) * PAGE;
                        prop_assert_eq!(plan, Err(Error::ScratchNoSpace { wanted: wanted * PAGE, missing }));
                    }
                }
            }
        }
    }

    /// The three parts: each in its place, all of them together a plan like any other.
    #[test]
    fn a_plan_of_parts_is_usable(
        usable in ranges(), avoid in ranges(), kib in prop::array::uniform3(0..9_000u64), border in 0..60u64,
    ) {
        // Around the end of low memory.
        let scale = |v: Vec<PhysRange>| -> Vec<PhysRange> {
            let at = |n: u64| scratch::LOW_LIMIT - 30 * 0x20_0800 + n * 0x20_0800;
            v.iter().map(|x| r(at(x.start), at(x.end))).collect()
        };
        let (usable, avoid) = (scale(usable), scale(avoid));
        let middle = scale(vec![r(border, border + 1)])[0].start;
        let nodes = [r(0, middle), r(middle, u64::MAX)];
        let [low, global, per_node] = kib.map(|kib| kib << 10);
        let size = ScratchSize::Parts { low, global, per_node };
        if let Ok(plan) = size.plan_nodes(&usable, 0, &avoid, &nodes) {
            let total: u64 = plan.iter().map(PhysRange::len).sum();
            let part = |low, global, per_node| ScratchSize::Parts { low, global, per_node }.bytes(0);
            prop_assert_eq!(total, size.bytes(0) + part(0, 0, per_node));
            prop_assert!(plan.iter().all(|p| p.is_page_aligned() && !p.is_empty()));
            prop_assert!(plan.len() <= scratch::MAX_REGIONS);
            prop_assert!(plan.windows(2).all(|w| w[0].end <= w[1].start));
            prop_assert!(subtract(&plan, &usable).is_empty());
            prop_assert!(plan.iter().all(|p| avoid.iter().all(|a| !a.overlaps(p))));
            let within = |place: PhysRange| -> u64 {
                plan.iter().filter_map(|p| p.intersect(&place)).map(|p| p.len()).sum()
            };
            prop_assert!(within(r(0, scratch::LOW_LIMIT)) >= part(low, 0, 0));
            prop_assert!(nodes.iter().all(|&node| within(node) >= part(0, 0, per_node)));
        }
    }

    #[test]
    fn any_scratch_array_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = scratch::decode(&bytes);
    }

    #[test]
    fn any_scratch_size_is_read_or_refused(text in "\\PC{0,12}|[0-9]{1,22}[kKmMgG%]?|[0-9]{1,9}[kKmM]?,[0-9]{1,20}[gG%]?,[0-9]{0,3}") {
        if let Ok(size) = ScratchSize::parse(&text) {
            size.bytes(u64::MAX);
        }
    }
}
