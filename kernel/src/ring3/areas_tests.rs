use super::*;
use proptest::prelude::*;

const BASE: u64 = 0x10_0000;
/// Pages that the model has.
const PAGES: u64 = 64;

fn address(page: u64) -> u64 {
    BASE + page * PAGE_BYTES
}

fn area(from: u64, to: u64) -> Area {
    Area {
        start: address(from),
        end: address(to),
        rights: Rights::READ_WRITE,
        backing: Backing::Zero,
        name: "",
    }
}

struct Counted;

impl SharedPages for Counted {
    fn mapped(&self) {}
    fn unmapped(&self) {}
    fn name(&self) -> &str {
        "shared"
    }
    fn offset(&self) -> u64 {
        0
    }
}

fn ranges(areas: &Areas) -> Vec<(u64, u64)> {
    let pages = |addr| (addr - BASE) / PAGE_BYTES;
    areas
        .iter()
        .map(|a| (pages(a.start), pages(a.end)))
        .collect()
}

#[test]
fn what_lies_outside_the_user_half_or_off_the_pages_is_refused() {
    let mut areas = Areas::new();
    for (start, end) in [
        (0, PAGE_BYTES),
        (USER_START - PAGE_BYTES, USER_START),
        (BASE, BASE),
        (BASE + PAGE_BYTES, BASE),
        (BASE + 1, BASE + PAGE_BYTES),
        (BASE, BASE + 1),
        (USER_END - PAGE_BYTES, USER_END + PAGE_BYTES),
        (0xffff_8000_0000_0000, 0xffff_8000_0000_1000),
        (USER_START, !(PAGE_BYTES - 1)),
    ] {
        let bad = Area {
            start,
            end,
            ..area(0, 1)
        };
        assert_eq!(
            areas.insert(bad),
            Err(AreaError::Range),
            "{start:x}-{end:x}"
        );
        assert_eq!(areas.remove(start..end).err(), Some(AreaError::Range));
    }
    for start in [USER_START, USER_END - PAGE_BYTES] {
        let good = Area {
            start,
            end: start + PAGE_BYTES,
            ..area(0, 1)
        };
        assert_eq!(areas.insert(good), Ok(()));
    }
}

#[test]
fn a_hole_in_the_middle_makes_two() {
    let mut areas = Areas::new();
    areas.insert(area(10, 20)).unwrap();
    let pieces = areas.remove(address(12)..address(15)).unwrap();
    assert_eq!(format!("{pieces:?}"), "[10c000-10f000 rw-]");
    assert_eq!(ranges(&areas), [(10, 12), (15, 20)]);
    assert!(areas.at(address(12) - 1).is_some());
    assert!(areas.at(address(12)).is_none());
    assert!(areas.at(address(15)).is_some());
}

#[test]
fn a_shared_mapping_goes_whole() {
    let mut areas = Areas::new();
    let shared = Area {
        backing: Backing::Shared(Arc::new(Counted)),
        ..area(10, 20)
    };
    areas.insert(shared).unwrap();
    for (from, to) in [(10, 19), (11, 20), (12, 13), (0, 15)] {
        let refused = areas.remove(address(from)..address(to));
        assert_eq!(refused.err(), Some(AreaError::Cut));
        assert_eq!(ranges(&areas), [(10, 20)]);
    }
    assert_eq!(areas.remove(address(5)..address(25)).unwrap().len(), 1);
}

#[test]
fn there_is_a_limit_to_how_many() {
    let mut areas = Areas::new();
    for n in 0..MAX_AREAS as u64 {
        areas.insert(area(4 * n, 4 * n + 3)).unwrap();
    }
    let last = area(4 * MAX_AREAS as u64, 4 * MAX_AREAS as u64 + 1);
    assert_eq!(areas.insert(last), Err(AreaError::TooMany));
    // A hole would make one more; taking an end off does not.
    let hole = areas.remove(address(1)..address(2));
    assert_eq!(hole.err(), Some(AreaError::TooMany));
    assert_eq!(areas.remove(address(2)..address(3)).unwrap().len(), 1);
}

#[test]
fn gaps_have_a_free_page_on_both_sides() {
    let mut areas = Areas::new();
    let within = address(0)..address(20);
    assert_eq!(areas.gap(4 * PAGE_BYTES, within.clone()), Ok(address(1)));
    areas.insert(area(1, 5)).unwrap();
    assert_eq!(areas.gap(4 * PAGE_BYTES, within.clone()), Ok(address(6)));
    areas.insert(area(10, 12)).unwrap();
    // Between 5 and 10 there are three pages with one on each side.
    assert_eq!(areas.gap(3 * PAGE_BYTES, within.clone()), Ok(address(6)));
    assert_eq!(areas.gap(4 * PAGE_BYTES, within.clone()), Ok(address(13)));
    let too_much = areas.gap(7 * PAGE_BYTES, within.clone());
    assert_eq!(too_much, Err(AreaError::NoRoom));
    let absurd = areas.gap(!(PAGE_BYTES - 1), within);
    assert_eq!(absurd, Err(AreaError::NoRoom));
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    Remove(u64, u64),
    Gap(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..PAGES, 1..12u64).prop_map(|(from, len)| (from, (from + len).min(PAGES)));
    prop_oneof![
        range.clone().prop_map(|(from, to)| Op::Insert(from, to)),
        range.prop_map(|(from, to)| Op::Remove(from, to)),
        (1..10u64).prop_map(Op::Gap),
    ]
}

proptest! {
    /// Against an array that has for each page the number of the area that it was inserted with.
    #[test]
    fn areas_are_what_an_array_of_pages_says(ops in prop::collection::vec(op(), 1..80)) {
        let mut areas = Areas::new();
        let mut model = [None; PAGES as usize];
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Insert(from, to) => {
                    let pages = from as usize..to as usize;
                    let taken = model[pages.clone()].iter().any(|page| page.is_some());
                    let result = areas.insert(area(from, to));
                    prop_assert_eq!(result, if taken { Err(AreaError::Overlap) } else { Ok(()) });
                    if !taken {
                        model[pages].fill(Some(number));
                    }
                }
                Op::Remove(from, to) => {
                    let pages = from as usize..to as usize;
                    let pieces = areas.remove(address(from)..address(to)).unwrap();
                    let mut removed = [false; PAGES as usize];
                    for piece in &pieces {
                        for page in (piece.start - BASE) / PAGE_BYTES..(piece.end - BASE) / PAGE_BYTES {
                            removed[page as usize] = true;
                        }
                    }
                    for (page, was) in model.iter().enumerate() {
                        prop_assert_eq!(removed[page], pages.contains(&page) && was.is_some());
                    }
                    model[pages].fill(None);
                }
                Op::Gap(len) => {
                    // The same by trying each place.
                    let free = |from: u64| (from..from + len + 2).all(|p| model[p as usize].is_none());
                    let first = (0..PAGES - len - 1).find(|from| free(*from)).map(|from| address(from + 1));
                    let found = areas.gap(len * PAGE_BYTES, BASE..address(PAGES));
                    prop_assert_eq!(found.ok(), first);
                }
            }
            for page in 0..PAGES {
                for addr in [address(page), address(page) + PAGE_BYTES - 1] {
                    prop_assert_eq!(areas.at(addr).is_some(), model[page as usize].is_some());
                }
            }
            let mut last = 0;
            for area in areas.iter() {
                prop_assert!(area.start >= last && area.start < area.end);
                last = area.end;
            }
        }
    }
}
