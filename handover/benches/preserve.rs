//! What it costs to preserve memory, hand it over and take it back: 48 GiB in blocks of one page, in one table.
//!
//! `cargo bench -p handover [-- PART-OF-A-NAME]`. Nothing is asserted about times. The simulated machine's RAM is address
//! space of which only the tree's pages are ever touched, so the bench takes some 300 MiB, not 48 GiB. The tree lies in large
//! pages of the host, where it gives some, as it does in a kernel's direct map.
//!
//! The floors are loops over one flat bitmap of 1.5 MiB: a bare one, that sets a bit for each page of the same list and does nothing
//! else (what memory alone costs); and one that does with each bit what the map owes its callers whatever it is made of: it looks
//! whether the bit was clear (or set), counts it, and adds it to the digest. What the map takes beyond that is the tree.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::hint::black_box;
use std::ptr::NonNull;
use std::rc::Rc;

use handover::mem::{Memory, PAGE_SIZE};
use handover::page::PageRef;
use handover::radix::{Limits, PreservedMap};
use handover::range::PhysRange;

/// Where the memory to be preserved begins, and the pages of it.
const START: u64 = 4 << 30;
const PAGES: u64 = (48 << 30) / PAGE_SIZE;
/// The tree's pages come from here: the last of the machine's RAM.
const TREE: PhysRange = PhysRange::new(START + PAGES * PAGE_SIZE, START + (49 << 30));
const RAM: PhysRange = PhysRange::new(START, TREE.end);
const SCRATCH: PhysRange = PhysRange::new(TREE.end - (64 << 20), TREE.end);
/// Each figure is the best of so many runs.
const RUNS: usize = 5;

/// Linux's, for the same 48 GiB: ms to preserve, to serialise, to deserialise (shared figures of the KHO series; another
/// machine, so an order of magnitude and no more).
const LINUX: [(&str, f64); 3] = [
    ("preserve", 577.0),
    ("serialise", 469.0),
    ("deserialise", 2000.0),
];

#[derive(Clone)]
struct Machine {
    start: NonNull<u8>,
    /// The next page for the tree, and those that were given back.
    free: Rc<RefCell<(u64, Vec<u64>)>>,
}

impl Machine {
    fn new() -> Machine {
        // SAFETY: a new mapping at a place of the system's choice; nothing else is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                RAM.len() as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(
            start != libc::MAP_FAILED,
            "this host gives no {} GiB of address space (vm.overcommit_memory=2?)",
            RAM.len() >> 30
        );
        let tree = start
            .cast::<u8>()
            .wrapping_add((TREE.start - RAM.start) as usize);
        advise_large_pages(tree, TREE.len() as usize);
        Machine {
            start: NonNull::new(start.cast()).expect("mmap gives no null"),
            free: Rc::new(RefCell::new((TREE.start, Vec::new()))),
        }
    }
}

/// Asks for large pages where memory is going to be touched; a host without them goes on with small ones.
fn advise_large_pages(start: *mut u8, len: usize) {
    const LARGE: usize = 2 << 20;
    let skip = start.align_offset(LARGE).min(len);
    // SAFETY: advice about a part of a mapping of the caller's; its content stays.
    unsafe {
        libc::madvise(
            start.wrapping_add(skip).cast(),
            (len - skip) / LARGE * LARGE,
            libc::MADV_HUGEPAGE,
        )
    };
}

/// The best of some runs of `f` over an empty bitmap with a bit for each page, in large pages of the host.
fn best_over_bitmap(f: impl Fn(&mut [u64]) -> (f64, f64)) -> (f64, f64) {
    let words = (PAGES / 64) as usize;
    let mut bits = vec![0_u64; words + (4 << 20) / 8];
    advise_large_pages(bits.as_mut_ptr().cast(), bits.len() * 8);
    // Where the large pages begin.
    let skip = bits.as_ptr().align_offset(2 << 20).min(bits.len() - words);
    let bits = &mut bits[skip..skip + words];
    let mut run = || {
        bits.fill(0);
        f(bits)
    };
    (0..RUNS)
        .map(|_| run())
        .fold((f64::MAX, f64::MAX), |a, b| (a.0.min(b.0), a.1.min(b.1)))
}

fn count_set(bits: &[u64]) -> u64 {
    let bits = black_box(bits).iter();
    bits.map(|word| u64::from(word.count_ones())).sum()
}

/// The floor: to set, to clear, ns a page.
fn floor(pages: &[u32]) -> (f64, f64) {
    let n = pages.len() as u64;
    best_over_bitmap(|bits| {
        let set = per_page(n, || {
            for &n in pages {
                bits[n as usize / 64] |= 1 << (n % 64);
            }
        });
        assert_eq!(count_set(bits), n);
        let clear = per_page(n, || {
            for &n in pages {
                bits[n as usize / 64] &= !(1 << (n % 64));
            }
        });
        assert_eq!(count_set(bits), 0);
        (set, clear)
    })
}

/// What a digest adds for a bit: the map's own formula.
fn weighted(page: u32) -> u128 {
    let x = u64::from(page / 64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let weight = (x ^ (x >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb) | 1;
    u128::from(weight) * u128::from(1_u64.rotate_left(page % 64))
}

/// The same with what is owed for each bit.
fn floor_with_checks(pages: &[u32]) -> (f64, f64) {
    let n = pages.len() as u64;
    best_over_bitmap(|bits| {
        let (mut count, mut digest) = (0, 0_u128);
        let set = per_page(n, || {
            for &n in pages {
                let (word, mask) = (&mut bits[n as usize / 64], 1_u64.rotate_left(n % 64));
                assert_eq!(*word & mask, 0);
                *word |= mask;
                digest = digest.wrapping_add(weighted(n));
                count += 1;
            }
        });
        assert_eq!((count_set(bits), black_box(count)), (n, n));
        let clear = per_page(n, || {
            for &n in pages {
                let (word, mask) = (&mut bits[n as usize / 64], 1_u64.rotate_left(n % 64));
                assert_ne!(*word & mask, 0);
                *word ^= mask;
                digest = digest.wrapping_sub(weighted(n));
                count -= 1;
            }
        });
        assert_eq!((black_box(digest), black_box(count)), (0, 0));
        (set, clear)
    })
}

// SAFETY: the mapping is never removed; pages of the tree are given out once each until they come back.
unsafe impl Memory for Machine {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        let range = PhysRange::with_len(pa, len as u64)?;
        if !RAM.contains_range(&range) {
            return None;
        }
        // SAFETY: inside the mapping.
        Some(unsafe { self.start.add((pa - RAM.start) as usize) })
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        assert_eq!(order, 0);
        let (next, free) = &mut *self.free.borrow_mut();
        free.pop().or_else(|| {
            let pa = *next;
            *next += PAGE_SIZE;
            (*next <= SCRATCH.start).then_some(pa)
        })
    }

    unsafe fn free_pages(&self, pa: u64, _order: u32) {
        self.free.borrow_mut().1.push(pa);
    }
}

fn page(n: u64) -> PageRef {
    PageRef {
        pa: START + n * PAGE_SIZE,
        order: 0,
    }
}

/// The pages by number, in a random order that is the same each time (Fisher-Yates, xorshift).
fn shuffled(n: u64) -> Vec<u32> {
    let mut pages: Vec<u32> = (0..n as u32).collect();
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..pages.len()).rev() {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        pages.swap(i, (x % (i as u64 + 1)) as usize);
    }
    pages
}

/// This thread's CPU time in ns: on a shared machine, waiting for a core is not part of the work.
fn cpu_time() -> f64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// ns a page of one run.
fn per_page(pages: u64, f: impl FnOnce()) -> f64 {
    let start = cpu_time();
    f();
    (cpu_time() - start) / pages as f64
}

#[derive(Clone, Copy)]
struct Row {
    preserve: f64,
    /// The digest, which is all that is done at the jump: ns in all.
    seal: f64,
    adopt: f64,
    walk: f64,
    bulk: f64,
    single: f64,
    /// Bits a preserved page: of leaves, of inner nodes.
    leaves: f64,
    inner: f64,
}

impl Row {
    fn best(self, other: Row) -> Row {
        Row {
            preserve: self.preserve.min(other.preserve),
            seal: self.seal.min(other.seal),
            adopt: self.adopt.min(other.adopt),
            walk: self.walk.min(other.walk),
            bulk: self.bulk.min(other.bulk),
            single: self.single.min(other.single),
            ..self
        }
    }
}

/// One life to the next: `preserve` fills the map, `order` is that of the single restores.
fn crossing(
    pages: u64,
    preserve: &dyn Fn(&mut PreservedMap<Machine>),
    restore: &dyn Fn(&mut PreservedMap<Machine>),
) -> Row {
    let machine = Machine::new();
    let mut map = PreservedMap::new(machine.clone(), vec![SCRATCH]).unwrap();
    let preserving = per_page(pages, || preserve(&mut map));
    assert_eq!(map.preserved_pages(), pages);
    let seal = per_page(1, || {
        black_box(map.digest());
    });
    let (root, digest, nodes) = (map.root(), map.digest(), map.node_count() as u64);
    drop(map);

    let limits = Limits {
        ram: &[RAM],
        scratch: &[SCRATCH],
        image: &[PhysRange::new(SCRATCH.start, SCRATCH.start + (2 << 20))],
    };
    let take_over = || PreservedMap::adopt(root, machine.clone(), &limits).unwrap();
    let mut adopted = None;
    let adopt = per_page(pages, || adopted = Some(take_over()));
    let mut adopted = adopted.unwrap();
    assert_eq!(adopted.digest(), digest);
    let mut sum = 0;
    let walk = per_page(pages, || adopted.for_each_range(|r| sum += r.len()));
    assert_eq!(sum, pages * PAGE_SIZE);
    let single = per_page(pages, || restore(&mut adopted));
    assert_eq!((adopted.preserved_pages(), adopted.node_count()), (0, 1));

    preserve(&mut adopted);
    // No sum over them: adding to a number in memory, block after block, takes as long as all the rest.
    let bulk = per_page(pages, || {
        adopted.restore_all(|block| {
            black_box(block);
        });
    });
    assert_eq!(adopted.preserved_pages(), 0);
    // SAFETY: the mapping of `Machine::new`; the map over it is dropped with no more access.
    unsafe { libc::munmap(machine.start.as_ptr().cast(), RAM.len() as usize) };

    let leaves = nodes - 5; // The root, and one inner node at each of levels 4 to 1.
    let bits = |nodes: u64| (nodes * PAGE_SIZE * 8) as f64 / pages as f64;
    Row {
        preserve: preserving,
        seal,
        adopt,
        walk,
        bulk,
        single,
        leaves: bits(leaves),
        inner: bits(5),
    }
}

fn print(name: &str, row: Row) {
    println!(
        "| {name:<41} | {:>8.2} | {:>7.0} | {:>6.2} | {:>6.2} | {:>8.2} | {:>7.2} | {:>6.3} | {:>6.4} |",
        row.preserve, row.seal, row.adopt, row.walk, row.bulk, row.single, row.leaves, row.inner
    );
}

/// Whether the command line asks for this row; without a name it asks for all.
fn is_wanted(name: &str) -> bool {
    let mut names = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .peekable();
    names.peek().is_none() || names.any(|part| name.contains(&part))
}

fn best(
    name: &str,
    pages: u64,
    preserve: &dyn Fn(&mut PreservedMap<Machine>),
    restore: &dyn Fn(&mut PreservedMap<Machine>),
) {
    if !is_wanted(name) {
        return;
    }
    let rows = (0..RUNS).map(|_| crossing(pages, preserve, restore));
    print(name, rows.reduce(Row::best).unwrap());
}

fn main() {
    let random = shuffled(PAGES);
    let half: Vec<u32> = random[..PAGES as usize / 2].to_vec();
    println!(
        "48 GiB, blocks of one page; ns a page (seal: ns in all), bits of metadata a preserved page"
    );
    println!(
        "| {:<41} | preserve |    seal |  adopt |   walk | take all | restore | leaves |  inner |",
        "pages"
    );
    println!(
        "| ----------------------------------------- | -------- | ------- | ------ | ------ | -------- | ------- | ------ | ------ |"
    );
    type Map = PreservedMap<Machine>;
    let each = |map: &mut Map, pages: &mut dyn Iterator<Item = u64>, back: bool| {
        for n in pages {
            if back {
                black_box(map.restore(page(n)).unwrap());
            } else {
                map.preserve(page(n)).unwrap();
            }
        }
    };
    best(
        "contiguous, one by one",
        PAGES,
        &|map| each(map, &mut (0..PAGES), false),
        &|map| each(map, &mut (0..PAGES), true),
    );
    let all = PhysRange::new(START, TREE.start);
    best(
        "contiguous, as a range",
        PAGES,
        &|map| map.preserve_blocks(all, 0).unwrap(),
        &|map| {
            map.restore_blocks(all, 0).unwrap();
        },
    );
    best(
        "every second page",
        PAGES / 2,
        &|map| each(map, &mut (0..PAGES).step_by(2), false),
        &|map| each(map, &mut (0..PAGES).step_by(2), true),
    );
    let numbers = |pages: &'static [u32]| pages.iter().map(|&n| u64::from(n));
    let random: &'static [u32] = random.leak();
    let half: &'static [u32] = half.leak();
    best(
        "all, in random order",
        PAGES,
        &|map| each(map, &mut numbers(random), false),
        &|map| each(map, &mut numbers(random), true),
    );
    best(
        "all, in random order, as a list",
        PAGES,
        &|map| map.preserve_each(numbers(random).map(page)).unwrap(),
        &|map| each(map, &mut numbers(random), true),
    );
    best(
        "a random half, in random order",
        PAGES / 2,
        &|map| each(map, &mut numbers(half), false),
        &|map| each(map, &mut numbers(half), true),
    );
    best(
        "a random half, in random order, as a list",
        PAGES / 2,
        &|map| map.preserve_each(numbers(half).map(page)).unwrap(),
        &|map| each(map, &mut numbers(half), true),
    );
    type Floor = fn(&[u32]) -> (f64, f64);
    let floors: [(&str, Floor); 2] = [
        ("the floor", floor),
        ("the floor, with what is owed", floor_with_checks),
    ];
    for (floor_name, floor) in floors {
        for (order, pages) in [("all", random), ("half", half)] {
            let name = format!("{floor_name}: {order}");
            if is_wanted(&name) {
                let (set, clear) = floor(pages);
                println!("| {name:<41} | {set:>8.2} | {:>44.2} |", clear);
            }
        }
    }
    if std::env::args().skip(1).any(|arg| !arg.starts_with('-')) {
        return;
    }

    println!(
        "\nFor comparison, the same pages in sets of std (preserve = insert, restore = remove), one run:"
    );
    reference(
        "BTreeSet, contiguous",
        &mut (0..PAGES),
        BTreeSet::<u64>::insert,
        BTreeSet::<u64>::remove,
    );
    reference(
        "BTreeSet, random half",
        &mut numbers(half),
        BTreeSet::<u64>::insert,
        BTreeSet::<u64>::remove,
    );
    reference(
        "HashSet, contiguous",
        &mut (0..PAGES),
        HashSet::<u64>::insert,
        HashSet::<u64>::remove,
    );
    reference(
        "HashSet, random half",
        &mut numbers(half),
        HashSet::<u64>::insert,
        HashSet::<u64>::remove,
    );
    println!("\nLinux's KHO, as published, 48 GiB in order-0 pages:");
    for (what, ms) in LINUX {
        println!(
            "| {what:<34} | {:>8.1} ns a page ({ms} ms) |",
            ms * 1e6 / PAGES as f64
        );
    }
}

fn reference<S: Default>(
    name: &str,
    pages: &mut dyn Iterator<Item = u64>,
    insert: impl Fn(&mut S, u64) -> bool,
    remove: impl Fn(&mut S, &u64) -> bool,
) {
    let pages: Vec<u64> = pages.map(|n| page(n).pa).collect();
    let mut set = S::default();
    let n = pages.len() as u64;
    let inserted = per_page(n, || {
        pages.iter().for_each(|&pa| assert!(insert(&mut set, pa)))
    });
    let removed = per_page(n, || {
        pages.iter().for_each(|pa| assert!(remove(&mut set, pa)))
    });
    println!("| {name:<34} | {inserted:>8.2} | restore {removed:>8.2} |");
}
