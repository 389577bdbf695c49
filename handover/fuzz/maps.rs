//! Fuzz targets over a preserved map that is in use: lists of pages that lie, and any calls against a plain model. What
//! `readers.rs` says of itself holds here, too.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use handover::mem::PAGE_SIZE;
use handover::page::Blocks;
use handover::page_list::PageList;
use handover::radix::{Limits, PreservedMap};
use handover::sim::SimMemory;
use handover::{PageRef, PhysRange};

/// Nodes and chunks come from the first, which an allocator fills from below; the blocks lie in the second.
const RAM: [PhysRange; 2] = [
    PhysRange::new(0x10_0000, 0x20_0000),
    PhysRange::new(0x100_0000, 0x180_0000),
];
const SCRATCH: PhysRange = PhysRange::new(0x110_0000, 0x120_0000);

fn memory() -> SimMemory {
    thread_local! {
        static MEMORY: OnceCell<SimMemory> = const { OnceCell::new() };
    }
    // Simulated memory is never given back to the host, so one serves for all inputs; each gives back what it took.
    MEMORY.with(|cell| {
        *cell.get_or_init(|| {
            let mem = SimMemory::new(&RAM);
            mem.reserve(RAM[1]);
            mem
        })
    })
}

/// Pages that are given to lists as chunks.
const CHUNKS: usize = 4;

/// Lists of pages: four preserved pages are written by the input (8 bytes a word: u8 page, u16 word, u8 kind, u32 value),
/// after a head of 16 bytes, and read as a list; then it is taken back.
///
/// Gives the number of blocks, where the list was accepted.
pub fn page_list(bytes: &[u8]) -> Option<usize> {
    let mem = memory();
    let free = mem.free_pages_left();
    let mut map = PreservedMap::new(mem, vec![SCRATCH]).expect("there is memory for a root");
    let blocks = PhysRange::new(RAM[1].start, RAM[1].start + 64 * PAGE_SIZE);
    map.preserve_blocks(blocks, 0).expect("all of it is free");
    let large = PageRef {
        pa: RAM[1].start + 64 * PAGE_SIZE,
        order: 1,
    };
    map.preserve(large).expect("it is free");
    let chunks: Vec<u64> = (0..CHUNKS)
        .map(|_| map.alloc_preserved(0).expect("there is memory").pa)
        .collect();
    for &chunk in &chunks {
        mem.write(chunk, &[0; PAGE_SIZE as usize]);
    }
    let place = |kind: u8, value: u32| match kind % 4 {
        0 => chunks[value as usize % CHUNKS],
        1 => RAM[1].start + u64::from(value % 80) * PAGE_SIZE,
        2 => u64::from(value),
        _ => u64::from(value) << 32 | u64::from(value),
    };
    let before = map.preserved_pages();
    let accepted = bytes.split_at_checked(16).and_then(|(head, words)| {
        let number =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        for &[page, low, high, kind, value @ ..] in words.as_chunks::<8>().0.iter().take(4096) {
            let pa = chunks[usize::from(page) % CHUNKS];
            let word = u64::from(u16::from_ne_bytes([low, high])) % 512;
            let value = place(kind, u32::from_ne_bytes(value));
            mem.write(pa + word * 8, &value.to_ne_bytes());
        }
        let list = PageList {
            first: place(head[0], number(4)),
            total_pages: number(8),
            flags: u16::from_ne_bytes([head[12], head[13]]),
            order: u16::from_ne_bytes([head[14], head[15]]),
        };
        let read = list.blocks_and_chunks(&map);
        assert_eq!(map.preserved_pages(), before, "reading takes nothing");
        let Ok((blocks, links)) = read else {
            assert!(
                list.restore(&mut map).is_err(),
                "what cannot be read is not taken back"
            );
            assert_eq!(map.preserved_pages(), before);
            return None;
        };
        // Each is preserved as the list says, and none of them twice.
        let all: BTreeSet<PageRef> = blocks.iter().chain(&links).copied().collect();
        assert_eq!(all.len(), blocks.len() + links.len());
        assert!(
            all.iter()
                .all(|block| map.block_at(block.pa) == Some(*block))
        );
        assert_eq!(list.restore(&mut map).as_deref(), Ok(&blocks[..]));
        assert!(all.iter().all(|block| !map.is_preserved(block.pa)));
        if !blocks.is_empty() {
            assert!(list.restore(&mut map).is_err(), "it is taken back once");
        }
        // A page that served as a chunk has been freed, wherever it lay; the blocks' memory is not the allocator's.
        for link in links.iter().filter(|link| RAM[1].contains(link.pa)) {
            mem.reserve(link.range());
            mem.write(link.pa, &[0; PAGE_SIZE as usize]);
        }
        // A block of the list that was a chunk of another is the caller's now.
        for block in &blocks {
            if chunks.contains(&block.pa) {
                // SAFETY: allocated above, restored, and used by nobody.
                unsafe { handover::mem::Memory::free_pages(&mem, block.pa, 0) };
            }
        }
        Some(blocks.len())
    });
    for &chunk in &chunks {
        if map.is_preserved(chunk) {
            // SAFETY: allocated above, and used by nobody.
            unsafe {
                map.free_preserved(PageRef {
                    pa: chunk,
                    order: 0,
                })
            }
            .expect("it is preserved");
        }
    }
    map.restore_all(|_| ());
    map.release();
    assert_eq!(mem.free_pages_left(), free, "a page is lost");
    accepted
}

/// A list of two blocks in one chunk.
pub fn good_page_list() -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(2_u32.to_ne_bytes());
    bytes.extend([0; 4]);
    for (slot, page) in [(1_u16, 7_u32), (2, 3)] {
        let [low, high] = slot.to_ne_bytes();
        bytes.extend([0, low, high, 1]);
        bytes.extend(page.to_ne_bytes());
    }
    bytes
}

/// Pages of the memory that blocks lie in.
const PAGES: usize = (RAM[1].len() / PAGE_SIZE) as usize;

/// The map as it should be: for each page of RAM the block that it is in.
struct Model {
    blocks: [Option<PageRef>; PAGES],
    preserved: u64,
}

impl Model {
    /// The places of a range; `None` where a part of it is not RAM.
    fn places(&mut self, range: PhysRange) -> Option<&mut [Option<PageRef>]> {
        let place = |pa| ((pa - RAM[1].start) / PAGE_SIZE) as usize;
        RAM[1]
            .contains_range(&range)
            .then(|| &mut self.blocks[place(range.start)..place(range.end)])
    }

    /// The block that the page is in.
    fn at(&mut self, pa: u64) -> Option<PageRef> {
        self.places(PhysRange::new(pa, pa + PAGE_SIZE))?[0]
    }

    fn add(&mut self, block: PageRef) -> bool {
        if block.check().is_err() || SCRATCH.overlaps(&block.range()) {
            return false;
        }
        let places = self.places(block.range());
        let Some(places) = places.filter(|all| all.iter().all(Option::is_none)) else {
            return false;
        };
        places.fill(Some(block));
        self.preserved += block.pages();
        true
    }

    /// All of the blocks, or none.
    fn add_all(&mut self, blocks: &[PageRef]) -> bool {
        let done = blocks.iter().take_while(|block| self.add(**block)).count();
        if done < blocks.len() {
            for &block in &blocks[..done] {
                assert!(self.remove(block));
            }
        }
        done == blocks.len()
    }

    fn remove(&mut self, block: PageRef) -> bool {
        let is_there = self.at(block.pa) == Some(block);
        if is_there {
            let places = self.places(block.range()).expect("it was preserved");
            assert!(places.iter().all(|place| *place == Some(block)));
            places.fill(None);
            self.preserved -= block.pages();
        }
        is_there
    }

    /// Whole blocks that fill the range.
    fn remove_range(&mut self, range: PhysRange) -> bool {
        if range.is_empty() {
            return true;
        }
        let whole = |place: &Option<PageRef>| {
            place.is_some_and(|block| range.contains_range(&block.range()))
        };
        let places = self.places(range);
        let Some(places) = places.filter(|all| all.iter().all(whole)) else {
            return false;
        };
        places.fill(None);
        self.preserved -= range.len() / PAGE_SIZE;
        true
    }

    fn blocks(&self) -> BTreeSet<PageRef> {
        self.blocks.iter().copied().flatten().collect()
    }
}

/// Any calls, 8 bytes each (u8 which, u8 order, u16 page, u16 pages, u16 more), against the model.
pub fn model(bytes: &[u8]) {
    let mem = memory();
    let free = mem.free_pages_left();
    let mut map = PreservedMap::new(mem, vec![SCRATCH]).expect("there is memory for a root");
    let mut model = Model {
        blocks: [None; PAGES],
        preserved: 0,
    };
    for &[which, order, a, b, c, d, e, f] in bytes.as_chunks::<8>().0.iter().take(256) {
        let number = |low, high| u64::from(u16::from_ne_bytes([low, high]));
        let order = order % 12;
        // Some lie beyond the end of RAM.
        let start = RAM[1].start + number(a, b) % 0x900 * PAGE_SIZE;
        let range = PhysRange::new(start, start + number(c, d) % 0x300 * PAGE_SIZE);
        let block = PageRef { pa: start, order };
        match which % 9 {
            0 => assert_eq!(map.preserve(block).is_ok(), model.add(block)),
            1 => assert_eq!(map.unpreserve(block).is_ok(), model.remove(block)),
            2 => assert_eq!(map.restore(block).is_ok(), model.remove(block)),
            3 => {
                let blocks: Vec<PageRef> = Blocks::of(range).collect();
                assert_eq!(map.preserve_range(range).is_ok(), model.add_all(&blocks));
            }
            4 => assert_eq!(
                map.unpreserve_range(range).is_ok(),
                model.remove_range(range)
            ),
            5 => {
                let size = PAGE_SIZE << order;
                let range = PhysRange::new(range.start & !(size - 1), range.end & !(size - 1));
                let blocks: Vec<PageRef> = pages_of_order(range, order).collect();
                assert_eq!(
                    map.preserve_blocks(range, order).is_ok(),
                    model.add_all(&blocks)
                );
            }
            6 => {
                let size = PAGE_SIZE << order;
                let range = PhysRange::new(range.start & !(size - 1), range.end & !(size - 1));
                let all = pages_of_order(range, order).all(|b| model.at(b.pa) == Some(b));
                assert_eq!(map.restore_blocks(range, order).is_ok(), all);
                if all {
                    pages_of_order(range, order).for_each(|b| assert!(model.remove(b)));
                }
            }
            7 => {
                // Scattered, by a step that meets every page once before it comes back.
                let step = number(e, f) | 1;
                let blocks: Vec<PageRef> = (0..number(c, d) % 200)
                    .map(|n| PageRef {
                        pa: RAM[1].start + (number(a, b) + n * step) % 0x800 * PAGE_SIZE,
                        order: if order == 11 && n == 100 { 1 } else { 0 },
                    })
                    .collect();
                assert_eq!(
                    map.preserve_each(blocks.iter().copied()).is_ok(),
                    model.add_all(&blocks)
                );
            }
            _ => {
                // The next life reads the same tree.
                let limits = Limits {
                    ram: &RAM,
                    scratch: &[SCRATCH],
                    image: &[],
                };
                let adopted = PreservedMap::adopt(map.root(), mem, &limits).expect("a good tree");
                assert_eq!(adopted.digest(), map.digest());
                assert_eq!(adopted.node_count(), map.node_count());
                map = adopted;
            }
        }
        assert_eq!(map.preserved_pages(), model.preserved);
        assert_eq!(
            mem.free_pages_left() + map.node_count() as u64,
            free,
            "a node is lost"
        );
    }
    let mut found = BTreeSet::new();
    map.for_each_block(|block| assert!(found.insert(block)));
    assert_eq!(found, model.blocks());
    map.restore_all(|block| assert!(model.remove(block)));
    map.release();
    assert_eq!(mem.free_pages_left(), free, "a page is lost");
}

fn pages_of_order(range: PhysRange, order: u8) -> impl Iterator<Item = PageRef> {
    (range.start..range.end)
        .step_by((PAGE_SIZE << order) as usize)
        .map(move |pa| PageRef { pa, order })
}

/// A call of each kind.
pub fn good_model() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (which, order, page, pages, more) in [
        (0_u8, 3_u8, 8_u16, 0_u16, 0_u16),
        (3, 0, 600, 77, 0),
        (8, 0, 0, 0, 0),
        (5, 2, 1024, 64, 0),
        (7, 0, 1500, 150, 3),
        (4, 0, 600, 77, 0),
        (1, 3, 8, 0, 0),
        (6, 2, 1024, 64, 0),
        (2, 0, 1503, 0, 0),
    ] {
        bytes.extend([which, order]);
        for number in [page, pages, more] {
            bytes.extend(number.to_ne_bytes());
        }
    }
    bytes
}
