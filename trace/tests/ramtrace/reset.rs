//! A reset after each store: what is there then reads right.

use super::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use trace::ramtrace::at_each_store;

/// All that a life left.
#[derive(Clone, Debug, PartialEq)]
struct Left {
    life: Life,
    pages: Vec<(u64, Owner)>,
    state: Option<Vec<u8>>,
    log: String,
}

fn left(region: &Region<SimMemory>) -> BTreeMap<u64, Left> {
    let owners = owners(region);
    let of = |life: Life| {
        let owned = owners.iter().zip(0..);
        let (log, damaged) = region.read_log(&life);
        assert_eq!(damaged, 0);
        let left = Left {
            pages: owned
                .filter_map(|(owner, index)| Some((index, (*owner)?)))
                .filter(|(_, owner)| owner.life == life.number)
                .collect(),
            state: region.read_state(&life),
            log,
            life: life.clone(),
        };
        (life.number, left)
    };
    region.old_lives().into_iter().map(of).collect()
}

/// What always holds in a region that nobody has damaged, after it was opened.
fn is_sound(memory: &SimMemory, region: &Region<SimMemory>) {
    let owners = owners(region);
    let numbers = region.old_numbers();
    let free = owners.iter().filter(|owner| owner.is_none()).count() as u64;
    assert_eq!(region.pages_available(), free);
    let mut hands = vec![0; owners.len()];
    for slot in 0..SLOTS {
        for cpu in [0, 1, NO_CPU] {
            for index in bits(memory, slot, cpu) {
                let owner = owners[index as usize].expect("who has the bit has the mark");
                assert_eq!(owner.cpu, cpu);
                hands[index as usize] += 1;
            }
        }
    }
    for (index, owner) in owners.iter().enumerate() {
        assert_eq!(hands[index], u32::from(owner.is_some()), "page {index}");
        let Some(owner) = owner else { continue };
        assert!(numbers.contains(&owner.life));
        if owner.kind == Kind::Events {
            // What it holds is a page like any: its number is under its seal. One that holds nothing has no seal.
            let mark = region.marks().at(index as u64).unwrap();
            let header = memory.read(region.marks().address(index as u64), 16);
            match header[8..] == [0; 8] {
                true => assert_eq!(mark.seal().len, 0),
                false => assert_eq!(mark.seal().number, mark.seq() as u16),
            }
            // A block whose first page is marked is whole.
            let kind = Kind::Rest;
            let rest = &owners[index + 1..index + (1 << owner.order)];
            assert!(rest.iter().all(|at| *at == Some(Owner { kind, ..*owner })));
        }
    }
    for life in region.old_lives() {
        assert!(region.unmarked(life.number).is_empty());
        for (pages, kind) in [(&life.state, Kind::State), (&life.log, Kind::Log)] {
            let mut named: Vec<u64> = pages.iter().map(|&page| page.into()).collect();
            named.sort_unstable();
            assert_eq!(named, pages_of(region, life.number, kind));
        }
        assert_eq!(region.read_state(&life).is_some(), life.state_len != 0);
    }
}

/// Runs `f`, and has `check` look at what each store of it leaves. How many those were.
fn each_reset<R>(
    memory: SimMemory,
    mut check: impl FnMut(&Region<SimMemory>) + 'static,
    f: impl FnOnce() -> R,
) -> (R, u64) {
    let copy = super::memory();
    let stores = Rc::new(RefCell::new(0u64));
    let counted = stores.clone();
    let hook = move || {
        *counted.borrow_mut() += 1;
        copy.write(RANGE.start, &memory.read(RANGE.start, RANGE.len() as usize));
        let region = open(copy);
        is_sound(&copy, &region);
        check(&region);
        if counted.borrow().is_multiple_of(64) {
            every_page_once(&region);
        }
    };
    let result = at_each_store(hook, f);
    let stores = *stores.borrow();
    (result, stores)
}

/// All pages that are said to be free can be had, each once, and none of them was somebody's.
fn every_page_once(region: &Region<SimMemory>) {
    region.begin_life(&BEGINNING, 0).unwrap();
    let mut free: Vec<u64> = (0..)
        .zip(owners(region))
        .filter(|(_, o)| o.is_none())
        .map(|(i, _)| i)
        .collect();
    let marks = region.marks();
    region.with_old(|| {
        while let Some(page) = region.alloc_page(1) {
            let index = marks.index(page.pa).unwrap();
            let at = free.binary_search(&index).expect("a free page");
            free.remove(at);
        }
    });
    assert!(free.is_empty());
    assert_eq!(region.pages_available(), 0);
}

/// A region with two old lives and a running one, and what the old ones have left.
fn three_lives() -> (SimMemory, Region<SimMemory>, BTreeMap<u64, Left>) {
    let (memory, mut region) = fresh();
    for _ in 0..2 {
        live(&memory, &region, 12);
        region = open(memory);
    }
    let old = left(&region);
    live(&memory, &region, 12);
    (memory, region, old)
}

/// What `left` gives in the next life.
fn after(memory: SimMemory) -> BTreeMap<u64, Left> {
    let copy = super::memory();
    copy.write(RANGE.start, &memory.read(RANGE.start, RANGE.len() as usize));
    left(&open(copy))
}

/// Does `f` in a region with three lives: whenever it ends, the old lives are whole, and the running life's metadata, state and log are
/// those before it or those after it. `pages` says whether its pages are, too (else they are in between).
fn old_lives_stay(pages: bool, f: impl FnOnce(&SimMemory, &Region<SimMemory>)) -> u64 {
    let (memory, region, old) = three_lives();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let before = after(memory)[&3].clone();
    let note = seen.clone();
    let ((), stores) = each_reset(
        memory,
        move |next| {
            let mut left = left(next);
            let running = left.remove(&3).unwrap();
            assert_eq!(left, old);
            note.borrow_mut().push(running);
        },
        || f(&memory, &region),
    );
    let end = after(memory)[&3].clone();
    for running in seen.borrow().iter() {
        // The metadata name the pages of state and log: these go together.
        assert!(
            running.life == before.life || running.life == end.life,
            "{running:?}"
        );
        let same = match running.life == before.life {
            true => &before,
            false => &end,
        };
        assert_eq!(running.state, same.state);
        assert!(running.log == before.log || running.log == end.log);
        assert!(!pages || running.pages == before.pages || running.pages == end.pages);
    }
    stores
}

#[test]
fn in_format_there_is_no_region_or_an_empty_one() {
    let (memory, _, _) = three_lives();
    let copy = super::memory();
    let seen = Rc::new(RefCell::new((0, 0)));
    let note = seen.clone();
    let hook = move || {
        copy.write(RANGE.start, &memory.read(RANGE.start, RANGE.len() as usize));
        match open_at(copy, RANGE) {
            Ok(region) if region.old_numbers().is_empty() => {
                is_sound(&copy, &region);
                note.borrow_mut().1 += 1;
            }
            Ok(region) => {
                // The first of all stores: the other superblock was still there.
                assert_eq!(region.old_numbers(), [3, 2, 1]);
                assert_eq!(*note.borrow(), (0, 0));
            }
            Err(error) => {
                assert_eq!(error, RegionError::NoSuperblock);
                note.borrow_mut().0 += 1;
            }
        }
    };
    at_each_store(hook, || format(&memory, RANGE, CPUS)).unwrap();
    let (none, empty) = *seen.borrow();
    assert!(none > 20 && empty > 0, "{none} {empty}");
}

#[test]
fn in_begin_life_it_has_begun_or_not_and_the_others_are_whole() {
    let (memory, region, mut old) = three_lives();
    let region = {
        drop(region);
        open(memory)
    };
    old = {
        old.extend(left(&region));
        old
    };
    let begun = Rc::new(RefCell::new(0));
    let note = begun.clone();
    let (result, stores) = each_reset(
        memory,
        move |next| {
            let mut left = left(next);
            if let Some(new) = left.remove(&4) {
                assert_eq!(new.life.release, BEGINNING.release);
                assert!(matches!(new.life.log.len(), 0 | 2));
                *note.borrow_mut() += 1;
            }
            assert_eq!(left, old);
        },
        || region.begin_life(&BEGINNING, 2),
    );
    result.unwrap();
    assert!(stores > 100 && *begun.borrow() > 50, "{stores}");
}

fn is_event(owner: &Owner) -> bool {
    matches!(owner.kind, Kind::Events | Kind::Rest)
}

#[test]
fn in_begin_life_in_a_full_region_the_oldest_is_erased_only() {
    let (memory, _, _) = three_lives();
    let region = open(memory);
    live(&memory, &region, 6);
    let region = open(memory);
    let old = left(&region);
    assert_eq!(old.len(), 4);
    let number_of_oldest = Rc::new(RefCell::new(Vec::new()));
    let note = number_of_oldest.clone();
    let (result, _) = each_reset(
        memory,
        move |next| {
            let left = left(next);
            for number in 2..=4 {
                assert_eq!(left[&number], old[&number]);
            }
            if let Some(one) = left.get(&1) {
                // Of what is being erased nothing is shown that looks as if some were lost.
                let events = |left: &Left| left.pages.iter().filter(|(_, o)| is_event(o)).count();
                assert!([0, events(&old[&1])].contains(&events(one)));
            }
            note.borrow_mut()
                .push((left.contains_key(&1), left.contains_key(&5)));
        },
        || region.begin_life(&BEGINNING, 2),
    );
    result.unwrap();
    assert_eq!(region.info().unwrap().erased_lives, 1);
    let mut states = number_of_oldest.borrow().clone();
    states.dedup();
    assert_eq!(states, [(true, false), (false, false), (false, true)]);
}

#[test]
fn in_update_the_metadata_are_those_before_or_after() {
    let stores = old_lives_stay(true, |_, region| {
        region
            .update(|life| {
                life.generation += 1;
                life.clock = "a clock with a longer name".into();
                life.buffers.pop();
            })
            .unwrap();
    });
    assert!(stores > 100, "{stores}");
}

#[test]
fn in_save_state_it_is_the_old_one_or_the_new_one() {
    for len in [9000, 3, 0] {
        old_lives_stay(false, |_, region| {
            region.save_state(&vec![0x5a; len]).unwrap();
            assert_eq!(region.info().unwrap().state_len as usize, len);
        });
    }
}

#[test]
fn in_alloc_and_free_a_page_is_in_no_two_hands() {
    for order in [0, 1, 3] {
        let stores = old_lives_stay(false, |_, region| {
            let page = region.alloc(1, 9, order, Kind::Events).unwrap();
            let other = region.alloc(0, 9, order, Kind::Events).unwrap();
            region.free(page);
            region.free_page(other, 1);
            assert_eq!(pages_of(region, 3, Kind::Rest).len(), 12 + (1 << order) - 1);
            region.free_page(other, 0);
        });
        assert!(stores > 20, "{stores}");
    }
}

#[test]
fn in_log_all_records_up_to_the_last_one_are_there() {
    let (memory, region, old) = three_lives();
    let written: Rc<RefCell<Vec<String>>> = Rc::default();
    let begun = written.clone();
    let (_, stores) = each_reset(
        memory,
        move |next| {
            let mut left = left(next);
            let log = left.remove(&3).unwrap().log;
            assert_eq!(left, old);
            let lines: Vec<&str> = log.lines().collect();
            let begun = begun.borrow();
            let Some((last, before)) = begun.split_last() else {
                return;
            };
            // With the one that is being written, or without; all that goes on to it, and at least a page of them.
            let whole = lines.last().is_some_and(|line| line == last);
            let kept = lines.len() - usize::from(whole);
            assert!(kept <= before.len() + 5);
            let kept = kept.min(before.len());
            assert!(kept >= before.len().min(12), "{kept} of {}", before.len());
            assert_eq!(
                lines[lines.len() - usize::from(whole) - kept..][..kept],
                before[before.len() - kept..]
            );
        },
        || {
            for i in 0..40 {
                let line = format!("{i}: {}", "x".repeat(i * 97 % 490));
                written.borrow_mut().push(line.clone());
                region.log(&line);
            }
        },
    );
    assert!(stores > 1000, "{stores}");
    let log = after(memory)[&3].log.clone();
    assert!(!log.contains("life 3 says 0"), "the oldest have made room");
    assert!(
        log.ends_with(written.borrow().last().unwrap().as_str().trim_end()) || log.ends_with('\n')
    );
}

#[test]
fn in_taking_from_an_old_life_the_others_are_whole_and_no_page_is_lost_uncounted() {
    for order in [0, 2] {
        let (memory, region, old) = three_lives();
        region.with_old(|| while region.alloc(0, 7, 0, Kind::Events).is_some() {});
        let (taken, stores) = each_reset(
            memory,
            move |next| {
                let left = left(next);
                assert_eq!(left[&2], old[&2]);
                let heads = |left: &Left| {
                    let heads = left.pages.iter().filter(|(_, o)| o.kind == Kind::Events);
                    heads.count() as u64
                };
                let lost = heads(&old[&1]) - heads(&left[&1]);
                let counted = left[&1].life.taken_pages;
                assert!(counted == lost || counted == lost + 1, "{counted} {lost}");
                assert_eq!(left[&1].state, old[&1].state);
                assert_eq!(left[&1].log, old[&1].log);
            },
            || {
                (0..3)
                    .filter_map(|_| region.alloc(1, 8, order, Kind::Events))
                    .count()
            },
        );
        assert!(taken == 3 && stores > 30, "{taken} {stores}");
    }
}

#[test]
fn in_erasing_the_rest_stays() {
    let (memory, region, old) = three_lives();
    let log_there = Rc::new(RefCell::new(Vec::new()));
    let note = log_there.clone();
    let (_, stores) = each_reset(
        memory,
        move |next| {
            let left = left(next);
            assert_eq!(left[&2], old[&2]);
            let Some(one) = left.get(&1) else {
                note.borrow_mut().push(None);
                return;
            };
            note.borrow_mut().push(Some(!one.log.is_empty()));
            assert!(one.log.is_empty() || one.log == old[&1].log);
            let of = |left: &Left, buffer| {
                let pages = left.pages.iter();
                pages
                    .filter(|(_, o)| o.buffer == buffer && is_event(o))
                    .count()
            };
            // A buffer is there whole or not at all.
            assert!([0, of(&old[&1], 0)].contains(&of(one, 0)));
            // By number: what comes later is whole as long as anything of what comes before is there.
            if of(one, 1) != 0 {
                assert_eq!(one.state, old[&1].state);
                assert_eq!(of(one, 2), of(&old[&1], 2));
            }
        },
        || {
            region.erase_log(1).unwrap();
            region.erase_buffer(1, 0).unwrap();
            region.erase_buffer(1, 1).unwrap();
            region.erase_buffer(1, 2).unwrap();
            assert_eq!(region.old_numbers(), [2]);
        },
    );
    assert!(stores > 100);
    let mut there = log_there.borrow().clone();
    there.dedup();
    assert_eq!(there, [Some(true), Some(false), None]);
}
