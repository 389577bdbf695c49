//! The fuzzers' corpora, and random changes to them, under a plain `cargo test`. To fuzz: `fuzz/README.md`.

use std::fs;
use std::path::Path;

#[path = "../fuzz/maps.rs"]
mod maps;
#[path = "../fuzz/readers.rs"]
mod readers;

use handover::fdt::{self, Root, Subsystem};

/// Changes tried on each file.
const CHANGES: u64 = 300;

/// SplitMix64: the same changes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next() as u8),
            _ => {
                let len = random.below(bytes.len() - at.min(bytes.len())).min(32);
                let piece = bytes[at..at + len].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

fn replay(target: &str, reader: fn(&[u8]), seed: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<Vec<u8>> = fs::read_dir(&folder)
        .expect("the corpus is committed")
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.push(seed.to_vec());
    let mut random = Random(1);
    for file in &files {
        reader(file);
        for _ in 0..CHANGES {
            let mut bytes = file.clone();
            change(&mut bytes, &mut random);
            reader(&bytes);
        }
    }
}

fn good_blob() -> Vec<u8> {
    let subsystem = |name: &str| Subsystem {
        name: name.into(),
        data: 0x1000,
        size: 100,
        crc32: 5,
    };
    let root = Root {
        map_root: 0x7000,
        subsystems: vec![subsystem("trace"), subsystem("kexec-metadata")],
        bootargs: "quiet".into(),
    };
    fdt::build(&root).unwrap()
}

#[test]
fn blob() {
    replay("blob", readers::blob, &good_blob());
}

#[test]
fn tree() {
    let reader = |bytes: &[u8]| {
        readers::tree(bytes);
    };
    replay("tree", reader, &readers::good_tree());
}

#[test]
fn stream() {
    replay("stream", readers::stream, &readers::good_stream());
}

#[test]
fn small() {
    replay("small", readers::small, &readers::good_small());
}

#[test]
fn page_list() {
    let reader = |bytes: &[u8]| {
        maps::page_list(bytes);
    };
    replay("page_list", reader, &maps::good_page_list());
}

#[test]
fn model() {
    replay("model", maps::model, &maps::good_model());
}

/// The seeds are what they are meant to be: good ones.
#[test]
fn seeds_are_accepted() {
    assert_eq!(maps::page_list(&maps::good_page_list()), Some(2));
    handover::seal::Seals::decode(&readers::good_small()).unwrap();
    fdt::parse(&good_blob()).unwrap();
    let bytes = readers::good_stream();
    let stream = handover::state::StreamReader::new(&bytes).unwrap();
    stream.get::<readers::All>(1).unwrap();
    assert_eq!(readers::tree(&readers::good_tree()), Some(2));
}

/// Writes the seeds anew, after a format has changed: `cargo test -p handover --test fuzz_replay -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn write_seeds() {
    for (target, seed) in [
        ("blob", good_blob()),
        ("tree", readers::good_tree()),
        ("stream", readers::good_stream()),
        ("small", readers::good_small()),
        ("page_list", maps::good_page_list()),
        ("model", maps::good_model()),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("seed"), seed).unwrap();
    }
}
