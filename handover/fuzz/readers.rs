//! What each fuzz target does with its bytes. The targets include this, and so does `tests/fuzz_replay.rs`, which runs
//! the corpora and random changes to them under a plain `cargo test`.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use handover::mem::PAGE_SIZE;
use handover::metadata::KexecMetadata;
use handover::radix::{Limits, PreservedMap};
use handover::scratch::{self, ScratchSize};
use handover::seal::Seals;
use handover::sim::SimMemory;
use handover::state::{KState, STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
use handover::{PageRef, PhysRange, dump, fdt};

/// The reader of the root FDT.
pub fn blob(bytes: &[u8]) {
    let _ = fdt::map_digest(bytes);
    if let Ok(root) = fdt::parse(bytes) {
        // What is accepted can be written again, and says the same.
        if let Ok(again) = fdt::build(&root) {
            assert_eq!(fdt::parse(&again), Ok(root));
        }
    }
    // Damage under a checksum that is right again, as a hostile kernel would write it.
    let mut sealed = bytes.to_vec();
    if sealed.len() <= 1 << 16 && fdt::reseal(&mut sealed).is_ok() {
        let _ = fdt::parse(&sealed);
        let _ = fdt::set_subsystem(&mut sealed, "trace", 1, 2);
        let _ = fdt::set_map_digest(&mut sealed, 3);
        let _ = fdt::parse(&sealed);
    }
}

#[derive(KState, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Name(String),
    Number { n: u16, on: bool },
}

#[derive(KState, Clone, Debug, PartialEq)]
struct Leaf {
    next: Option<Box<Leaf>>,
    #[kstate(subsection)]
    note: Option<String>,
}

/// A state with every kind of field.
#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(id = 1, version = 3, min_version = 1, readable_by = 2)]
pub struct All {
    on: bool,
    wide: u128,
    small: i8,
    text: String,
    leaf: Leaf,
    map: BTreeMap<Key, Vec<Leaf>>,
    #[kstate(pages)]
    pages: Vec<PageRef>,
    #[kstate(pages)]
    memory: PhysRange,
    #[kstate(offset_from = 0x1000u64..0x2000)]
    place: u64,
    #[kstate(subsection)]
    extra: Option<Vec<[Option<Key>; 2]>>,
    #[kstate(since = 2, default)]
    two: usize,
    #[kstate(deprecated = 2, default)]
    one: u16,
    #[kstate(since = 3, default)]
    three: u64,
}

/// The stream of a value, and of a second one without most of it.
pub fn good_stream() -> Vec<u8> {
    let leaf = Leaf {
        next: Some(Box::new(Leaf {
            next: None,
            note: Some("inner".into()),
        })),
        note: None,
    };
    let page = PageRef {
        pa: 0x20_0000,
        order: 9,
    };
    let all = All {
        on: true,
        wide: 1 << 100,
        small: -3,
        text: "größe".into(),
        leaf: leaf.clone(),
        map: [
            (Key::Name("a".into()), vec![leaf.clone()]),
            (Key::Number { n: 7, on: false }, vec![]),
        ]
        .into(),
        pages: vec![page; 3],
        memory: PhysRange::new(0x4000, 0x9000),
        place: 0x1234,
        extra: Some(vec![[None, Some(Key::Number { n: 1, on: true })]]),
        two: 2,
        one: 1,
        three: 3,
    };
    let less = All {
        map: BTreeMap::new(),
        pages: vec![],
        extra: None,
        ..all.clone()
    };
    let mut bytes = vec![0; STREAM_OVERHEAD + encoded_size(&all) + encoded_size(&less)];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(0, &all).expect("it has room");
    writer.put(1, &less).expect("it has room");
    let used = writer.finish().expect("it has room");
    bytes.truncate(used);
    bytes
}

/// The reader of state streams, and their text. The input is taken as a stream, and then its checksums are made right.
pub fn stream(bytes: &[u8]) {
    one_stream(bytes);
    let mut sealed = bytes.to_vec();
    reseal_stream(&mut sealed);
    one_stream(&sealed);
}

fn one_stream(bytes: &[u8]) {
    let Ok(reader) = StreamReader::new(bytes) else {
        assert!(dump::dump(bytes).is_err());
        return;
    };
    let text = dump::dump(bytes).expect("a stream that is read can be shown");
    // No text is out of all proportion to its stream.
    assert!(text.len() < (bytes.len() + 1000) * 4 * 400);
    for entry in reader.entries() {
        let _ = reader.for_each_holding(&entry, &mut |holding| {
            let range = holding.range();
            // All but the end in the last page of all, which cannot be named.
            let aligned = range.is_page_aligned() || range.end == u64::MAX;
            assert!(range.start < range.end && aligned);
            assert!(!holding.is_preserved(&()));
        });
    }
    for instance in 0..2 {
        if let Ok(value) = reader.get::<All>(instance) {
            // What is accepted is a value of the type: it crosses again. (Deprecated fields do not.)
            let mut again = vec![0; STREAM_OVERHEAD + encoded_size(&value)];
            let mut writer = StreamWriter::new(&mut again);
            writer.put(0, &value).expect("it has room");
            writer.finish().expect("it has room");
            let read: All = StreamReader::new(&again)
                .and_then(|reader| reader.get(0))
                .expect("what was written is read");
            assert_eq!(read, All { one: 0, ..value });
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// Makes the checksums right of as many entries as can be found. The form is at the head of `handover::state`.
fn reseal_stream(bytes: &mut [u8]) {
    const HEADER: usize = 32;
    fn number(bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }
    fn seal(bytes: &mut [u8], at: usize, end: usize, crc: usize) -> Option<()> {
        let all = bytes.get_mut(at..end)?;
        all.get_mut(crc..crc + 4)?.fill(0);
        let sum = crc32(all);
        all.get_mut(crc..crc + 4)?
            .copy_from_slice(&sum.to_ne_bytes());
        Some(())
    }
    let _ = seal(bytes, 0, HEADER, 24);
    let mut at = HEADER;
    while let (Some(version), Some(by), Some(size)) = (
        number(bytes, at + 8),
        number(bytes, at + 12),
        number(bytes, at + 16),
    ) {
        let prints = version.wrapping_sub(by).min(64) as usize + 1;
        let end = at + 32 + 8 * prints + size as usize;
        if seal(bytes, at, end, 24).is_none() {
            break;
        }
        at = end.next_multiple_of(8);
    }
}

const RAM: [PhysRange; 2] = [
    PhysRange::new(0x1000, 0x20_0000),
    PhysRange::new(0x100_0000, 0x140_0000),
];
/// Pages from here on hold the nodes of the tree under test.
const NODES: u64 = 0x1_0000;
/// And so many of them.
const NODE_COUNT: u64 = 32;

thread_local! {
    /// Simulated memory is never given back to the host, so one serves for all inputs. Which of its pages are in use does
    /// not matter: the reader allocates none.
    static MEMORY: OnceCell<SimMemory> = const { OnceCell::new() };
}

/// The reader of the preserved map: the input is a list of u64s to write into pages that a tree of nodes could be made of,
/// 8 bytes each: u8 page, u16 word, u8 kind, u32 value. The tree is then taken over, checked, changed and taken apart.
///
/// Gives the number of preserved blocks, where the tree was accepted.
pub fn tree(bytes: &[u8]) -> Option<usize> {
    let mem = MEMORY.with(|cell| *cell.get_or_init(|| SimMemory::new(&RAM)));
    for n in 0..NODE_COUNT {
        mem.write(NODES + n * PAGE_SIZE, &[0; PAGE_SIZE as usize]);
    }
    let (words, _) = bytes.as_chunks::<8>();
    for &[page, low, high, kind, value @ ..] in words.iter().take(4096) {
        let value = u32::from_ne_bytes(value);
        let pa = NODES + u64::from(page) % NODE_COUNT * PAGE_SIZE;
        let word = u64::from(u16::from_ne_bytes([low, high])) % 512;
        let value = match kind % 4 {
            // A node, aligned, or nearly so.
            0 => NODES + u64::from(value) % NODE_COUNT * PAGE_SIZE,
            1 => NODES + u64::from(value),
            // Bits of a leaf.
            2 => 1 << (value % 64),
            _ => u64::from(value) << 32 | u64::from(value),
        };
        mem.write(pa + word * 8, &value.to_ne_bytes());
    }
    let scratch = [PhysRange::new(0x110_0000, 0x120_0000)];
    let image = [PhysRange::new(0x110_0000, 0x111_0000)];
    let limits = Limits {
        ram: &RAM,
        scratch: &scratch,
        image: &image,
    };
    let mut map = PreservedMap::adopt(NODES, mem, &limits).ok()?;
    let mut blocks = Vec::new();
    map.for_each_block(|block| blocks.push(block));
    map.for_each_node(|node| mem.reserve(PhysRange::new(node, node + PAGE_SIZE)));
    for block in &blocks {
        // What is accepted lies in RAM and outside scratch, and is found again.
        assert!(RAM.iter().any(|ram| ram.contains_range(&block.range())));
        assert!(!scratch[0].overlaps(&block.range()));
        assert_eq!(map.block_at(block.pa), Some(*block));
        mem.reserve(block.range());
    }
    for block in &blocks {
        map.unpreserve(*block).expect("it is preserved");
    }
    map.for_each_block(|block| panic!("{block} is left"));
    Some(blocks.len())
}

/// A tree with two blocks: pages 0 to 5 are one below the other, the last a leaf with two bits.
pub fn good_tree() -> Vec<u8> {
    // Key of order 0 at 4 MiB boundaries of RAM: the bit of the order, then the page's number.
    let key = (1u64 << 52) | (0x100_0000 >> 12);
    let mut words = Vec::new();
    for level in 0..5u8 {
        // Level 0 is the root; a leaf covers 15 bits of the key, each level above 9.
        let word = (key >> (15 + 9 * (4 - u32::from(level)))) % 512;
        let [low, high] = (word as u16).to_ne_bytes();
        words.extend([level, low, high, 0]);
        words.extend(u32::from(level + 1).to_ne_bytes());
    }
    for (next, bit) in [(0u16, 0u32), (1, 3)] {
        let word = (key % (1 << 15) / 64) as u16 + next;
        let [low, high] = word.to_ne_bytes();
        words.extend([5, low, high, 2]);
        words.extend(bit.to_ne_bytes());
    }
    words
}

/// The small readers: scratch sizes and arrays, lists of seals, the metadata. What is accepted can be written again, and says
/// the same.
pub fn small(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(size) = ScratchSize::parse(text)
    {
        size.bytes(u64::MAX);
        if let Ok(plan) = size.plan(&RAM, 1 << 20, &[PhysRange::new(0x8_0000, 0x9_0800)]) {
            let mut array = [0; scratch::ENTRY_SIZE * scratch::MAX_REGIONS];
            let used = scratch::encode(&plan, &mut array).expect("it has room");
            assert_eq!(scratch::decode(&array[..used]), Ok(plan));
        }
    }
    if let Ok(regions) = scratch::decode(bytes) {
        let mut again = vec![0; bytes.len()];
        let used = scratch::encode(&regions, &mut again).expect("it has room");
        assert_eq!(again[..used], *bytes);
    }
    if let Ok(metadata) = KexecMetadata::decode(bytes) {
        let _ = metadata.previous_release();
    }
    let mut sealed = bytes.to_vec();
    for _ in 0..2 {
        if let Ok(seals) = Seals::decode(&sealed) {
            let mut again = vec![0; seals.encoded_size()];
            assert_eq!(seals.encode(&mut again), Ok(again.len()));
            assert_eq!(Seals::decode(&again), Ok(seals));
        }
        // And under a checksum that is right.
        if let Some((sum, rest)) = sealed.split_at_mut_checked(4) {
            sum.copy_from_slice(&crc32(rest).to_ne_bytes());
        }
    }
}

/// A list of two seals.
pub fn good_small() -> Vec<u8> {
    let mut bytes = 2_u32.to_ne_bytes().to_vec();
    for (start, len, sum) in [(0x4000_u64, 0x1000_u64, 7_u32), (0x9010, 5, 8)] {
        bytes.extend(start.to_ne_bytes());
        bytes.extend(len.to_ne_bytes());
        bytes.extend(sum.to_ne_bytes());
        bytes.extend([0; 4]);
    }
    let sum = crc32(&bytes);
    [&sum.to_ne_bytes(), &bytes[..]].concat()
}
