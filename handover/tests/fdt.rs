//! The root FDT: what is built is read back, and everything else is refused without a panic.

use handover::Error;
use handover::error::{FdtError, FdtFault, Name};
use handover::fdt::{self, Root, Subsystem};
use proptest::prelude::*;

fn subsystem(name: &str) -> Subsystem {
    Subsystem {
        name: name.into(),
        data: 0x12_3000,
        size: 777,
        crc32: 0xdead_beef,
    }
}

fn root() -> Root {
    Root {
        map_root: 0x1234_5000,
        subsystems: vec![
            subsystem("kexec-metadata"),
            subsystem("trace"),
            subsystem("console"),
        ],
        bootargs: "kho_scratch=16M loglevel=7".into(),
    }
}

/// Replaces bytes that occur once, and seals again.
fn replaced(blob: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut places = (0..blob.len()).filter(|&i| blob[i..].starts_with(from));
    let at = places.next().unwrap();
    assert_eq!(places.next(), None);
    let mut blob = blob.to_vec();
    blob[at..at + from.len()].copy_from_slice(to);
    let _ = fdt::reseal(&mut blob);
    blob
}

#[test]
fn what_is_built_is_read_back() {
    for root in [root(), Root::default()] {
        let blob = fdt::build(&root).unwrap();
        assert_eq!(fdt::parse(&blob), Ok(root.clone()));
        assert_eq!(fdt::total_size(&blob), Ok(blob.len()));
        // In a page of its own, with anything behind it; and at an odd address.
        let longer = [&[0xff], blob.as_slice(), &[0xff; 999]].concat();
        assert_eq!(fdt::parse(&longer[1..]), Ok(root));
    }
    assert_eq!(root().subsystem("trace"), Some(&subsystem("trace")));
    assert_eq!(root().subsystem("race"), None);
}

#[test]
fn numbers_are_native_endian() {
    let blob = fdt::build(&root()).unwrap();
    assert!(blob.windows(8).any(|w| w == 0x1234_5000u64.to_ne_bytes()));
    assert!(
        blob.windows(26)
            .any(|w| w == b"kho-v4\0baton,handover-v1\0\0")
    );
}

/// The numbers of fdt.dts are those of dtc, where it is there.
#[test]
fn dtc_reads_it() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let child = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("dtc is not installed: not tried");
        return;
    };
    let blob = fdt::build(&root()).unwrap();
    child.stdin.take().unwrap().write_all(&blob).unwrap();
    let out = child.wait_with_output().unwrap();
    let (dts, said) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}");
    assert!(
        dts.contains("compatible = \"kho-v4\\0baton,handover-v1\"")
            || dts.contains("\"kho-v4\", \"baton,handover-v1\""),
        "{dts}"
    );
    assert!(
        dts.contains("bootargs = \"kho_scratch=16M loglevel=7\""),
        "{dts}"
    );
    assert!(dts.contains("trace {"), "{dts}");
}

#[test]
fn what_cannot_be_built() {
    let with = |subsystems| {
        fdt::build(&Root {
            subsystems,
            ..root()
        })
    };
    for name in [
        "",
        "chosen",
        "a b",
        "1st",
        "a\0b",
        "ä",
        "a@1",
        "a-name-that-is-longer-than-29-b",
    ] {
        let refused = Error::Fdt(FdtError::BadName {
            name: Name::new(name),
        });
        assert_eq!(with(vec![subsystem(name)]), Err(refused), "{name}");
    }
    assert_eq!(
        with(vec![subsystem("a"), subsystem("b"), subsystem("a")]),
        Err(Error::Fdt(FdtError::NodeTwice {
            name: Name::new("a")
        }))
    );
    let many = |n| {
        (0..n)
            .map(|i| subsystem(&format!("s{i}")))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with(many(65)),
        Err(Error::Fdt(FdtError::TooMany { limit: 64 }))
    );
    let most = Root {
        subsystems: many(64),
        ..root()
    };
    assert_eq!(fdt::parse(&fdt::build(&most).unwrap()), Ok(most));
    let longest = "a-name-of-exactly-29-bytes-xy";
    assert_eq!(longest.len(), Name::MAX);
    assert!(fdt::parse(&with(vec![subsystem(longest)]).unwrap()).is_ok());
    let args = |bootargs: String| fdt::build(&Root { bootargs, ..root() });
    assert_eq!(args("a\0b".into()), Err(Error::Fdt(FdtError::Bootargs)));
    assert!(matches!(
        args("x".repeat(65_500)),
        Err(Error::Fdt(FdtError::TooLarge { .. }))
    ));
    assert!(matches!(
        args("x".repeat(1 << 20)),
        Err(Error::Fdt(FdtError::TooLarge { .. }))
    ));
}

#[test]
fn a_subsystem_is_patched_in_place() {
    let mut blob = fdt::build(&root()).unwrap();
    fdt::set_subsystem(&mut blob, "trace", 4242, 0x0102_0304).unwrap();
    let mut expected = root();
    expected.subsystems[1].size = 4242;
    expected.subsystems[1].crc32 = 0x0102_0304;
    assert_eq!(fdt::parse(&blob), Ok(expected));

    let before = blob.clone();
    for name in ["tracer", "chosen", "", "kho"] {
        let refused = fdt::set_subsystem(&mut blob, name, 1, 1).unwrap_err();
        assert!(refused.to_string().starts_with("FDT: "), "{refused}");
    }
    assert_eq!(blob, before);
    // In a buffer that is larger than the blob, too.
    blob.resize(4096, 0xee);
    fdt::set_subsystem(&mut blob, "trace", 777, 0xdead_beef).unwrap();
    assert_eq!(fdt::parse(&blob), Ok(root()));
}

#[test]
fn each_refusal_has_its_sentence() {
    let good = fdt::build(&root()).unwrap();
    let header = |at: usize, value: u32| {
        let mut blob = good.clone();
        blob[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let _ = fdt::reseal(&mut blob);
        blob
    };
    let total = good.len() as u32;
    let mut flipped = good.clone();
    let at = good.windows(5).position(|w| w == b"trace").unwrap();
    flipped[at] ^= 1;
    for (blob, sentence) in [
        (vec![], "0 bytes are too few for a header"),
        (good[..39].to_vec(), "39 bytes are too few for a header"),
        (good[..40].to_vec(), "but 40 are there"),
        (
            good[..good.len() - 1].to_vec(),
            "are there; the handover is refused",
        ),
        (
            header(0, 0x1234_5678),
            "the magic number is 0x12345678, not 0xd00dfeed",
        ),
        (header(4, 39), "39 bytes are too few"),
        (
            header(4, 1 << 20),
            "1048576 bytes are more than the 65536 that are allowed",
        ),
        (header(4, total + 1), "but"),
        (header(4, total - 1), "strings block"),
        (header(8, 1 << 30), "the structure block"),
        (header(8, 58), "the structure block"),
        (header(8, 40), "the structure block"),
        (header(12, 0), "the strings block"),
        (header(12, u32::MAX), "the strings block"),
        (header(16, 41), "the memory reservation block"),
        (header(16, 0), "the memory reservation block"),
        (header(20, 16), "version 16 is not 17"),
        (header(24, 18), "version 17 is not 17"),
        (header(32, 0), "a name that is"),
        (header(36, 12), "cuts off"),
        (flipped, "the blob is damaged"),
        (
            replaced(&good, b"kho-v4", b"kho-v3"),
            "\"kho-v4\", so it was written for another protocol",
        ),
        (
            replaced(&good, b"handover-v1", b"handover-v2"),
            "\"baton,handover-v1\"",
        ),
        (
            replaced(&good, b"preserved-memory-map", b"preserved-memory-mop"),
            "node `/` has no property `preserved-memory-map`",
        ),
        (
            replaced(&good, b"baton,tree-crc32", b"baton,tree-crc64"),
            "node `/` has no property `baton,tree-crc32`",
        ),
        (
            replaced(&good, b"blob-size", b"blob-sise"),
            "node `kexec-metadata` has no property `blob-size`",
        ),
        (
            replaced(&good, b"console\0", b"trace\0\0\0"),
            "two nodes are called `trace`",
        ),
        (
            replaced(&good, b"loglevel=7\0", b"loglevel=77"),
            "not one text without NUL",
        ),
        (
            replaced(&good, b"loglevel=7\0", b"loglevel\xff7\0"),
            "not one text without NUL",
        ),
        (
            replaced(&good, b"trace\0\0\0", b"trace\0\0x"),
            "padding that is not zero",
        ),
        (
            replaced(&good, b"trace\0\0\0", b"\0\0\0\0\0\0\0\0"),
            "a name that is",
        ),
    ] {
        let said = fdt::parse(&blob).unwrap_err().to_string();
        assert!(
            said.starts_with("FDT: ") && said.contains(sentence),
            "{said}, not: {sentence}"
        );
        assert!(said.ends_with("; the handover is refused"), "{said}");
    }
}

/// Trees that are well-formed by the specification, but not ours.
#[test]
fn other_trees() {
    let tree = |f: &dyn Fn(&mut vm_fdt::FdtWriter)| {
        let mut w = vm_fdt::FdtWriter::new().unwrap();
        let top = w.begin_node("").unwrap();
        w.property("baton,tree-crc32", &[0; 4]).unwrap();
        w.property("preserved-memory-map", &[1; 8]).unwrap();
        f(&mut w);
        w.end_node(top).unwrap();
        let mut blob = w.finish().unwrap();
        let sealed = fdt::reseal(&mut blob);
        sealed.and_then(|()| fdt::parse(&blob))
    };
    let compatible = |w: &mut vm_fdt::FdtWriter| {
        let both = vec!["kho-v4".into(), "baton,handover-v1".into()];
        w.property_string_list("compatible", both).unwrap();
    };
    // Unknown properties are skipped.
    let newer = tree(&|w| {
        compatible(w);
        w.property_u32("baton,colour", 3).unwrap();
        let node = w.begin_node("x").unwrap();
        w.property("preserved-data", &[1; 8]).unwrap();
        w.property("baton,weight", &[9; 3]).unwrap();
        w.property("blob-size", &[2; 8]).unwrap();
        w.property("baton,crc32", &[3; 4]).unwrap();
        w.end_node(node).unwrap();
    });
    assert_eq!(newer.unwrap().subsystems.len(), 1);
    assert_eq!(
        tree(&|_| ()),
        Err(Error::Fdt(FdtError::Compatible { wanted: "kho-v4" }))
    );
    let fault = |result: Result<Root, Error>| match result {
        Err(Error::Fdt(FdtError::Structure { what, .. })) => what,
        other => panic!("{other:?}"),
    };
    let deep = tree(&|w| {
        compatible(w);
        let a = w.begin_node("a").unwrap();
        let b = w.begin_node("b").unwrap();
        w.end_node(b).unwrap();
        w.end_node(a).unwrap();
    });
    assert_eq!(fault(deep), FdtFault::Depth);
    let twice = tree(&|w| {
        compatible(w);
        compatible(w);
    });
    assert_eq!(fault(twice), FdtFault::PropTwice);
    let sealed_twice = tree(&|w| {
        compatible(w);
        w.property("baton,tree-crc32", &[0; 4]).unwrap();
    });
    assert_eq!(fault(sealed_twice), FdtFault::PropTwice);
    let wide = tree(&|w| {
        compatible(w);
        let node = w.begin_node("x").unwrap();
        w.property("preserved-data", &[1; 16]).unwrap();
        w.end_node(node).unwrap();
    });
    let node = Name::new("x");
    assert_eq!(
        wide,
        Err(Error::Fdt(FdtError::PropSize {
            node,
            prop: "preserved-data",
            size: 16,
            wanted: 8
        }))
    );
    let long = tree(&|w| {
        compatible(w);
        let node = w.begin_node("a-name-that-is-longer-than-29-b").unwrap();
        w.end_node(node).unwrap();
    });
    assert_eq!(fault(long), FdtFault::Name);
}

#[test]
fn any_single_flip_is_refused() {
    let good = fdt::build(&root()).unwrap();
    for bit in 0..good.len() * 8 {
        let mut blob = good.clone();
        blob[bit / 8] ^= 1 << (bit % 8);
        let refused = fdt::parse(&blob)
            .expect_err("a flip was accepted")
            .to_string();
        assert!(refused.ends_with("; the handover is refused"), "{refused}");
    }
    for len in 0..good.len() {
        assert!(fdt::parse(&good[..len]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_root_is_read_back(
        map_root in any::<u64>(),
        names in prop::collection::btree_set("[a-zA-Z][a-zA-Z0-9,._+-]{0,28}", 0..8),
        numbers in prop::collection::vec(any::<(u64, u64, u32)>(), 8),
        bootargs in "[^\0]{0,80}",
    ) {
        let subsystems = names.into_iter().zip(numbers);
        let root = Root {
            map_root,
            subsystems: subsystems
                .filter(|(name, _)| name != "chosen")
                .map(|(name, (data, size, crc32))| Subsystem { name, data, size, crc32 })
                .collect(),
            bootargs,
        };
        prop_assert_eq!(fdt::parse(&fdt::build(&root).unwrap()), Ok(root));
    }

    /// Damage under a checksum that is right again: it is refused, or read without harm.
    #[test]
    fn any_damage_is_read_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        words in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0..12u32, any::<u32>()]), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut blob = fdt::build(&root()).unwrap();
        for (at, byte) in damage {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        for (at, word) in words {
            let at = at.index(blob.len() / 4) * 4;
            blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        if let Some(cut) = cut {
            blob.truncate(cut.index(blob.len()));
        }
        let _ = fdt::set_subsystem(&mut blob, "trace", 1, 2);
        let _ = fdt::reseal(&mut blob);
        let _ = fdt::parse(&blob);
    }

    /// Streams of tokens that look like a tree.
    #[test]
    fn any_tokens_are_read_or_refused(
        tokens in prop::collection::vec(prop_oneof![
            4 => Just(vec![1u32, 0x6100_0000]),
            1 => Just(vec![1, 0]),
            4 => Just(vec![2]),
            3 => (0..20u32, 0..60u32).prop_map(|(len, name)| {
                let mut prop = vec![3, len, name];
                prop.resize(3 + len.div_ceil(4) as usize, 0);
                prop
            }),
            1 => Just(vec![4]),
            1 => Just(vec![9]),
            1 => any::<u32>().prop_map(|w| vec![w]),
        ], 0..40),
        begun in any::<bool>(),
    ) {
        let good = fdt::build(&root()).unwrap();
        let word = |at: usize| u32::from_be_bytes(good[at..at + 4].try_into().unwrap());
        let (from, size) = (word(8) as usize, word(36) as usize);
        let mut blob = good[..from].to_vec();
        // A good beginning or none, then anything.
        let head: usize = if begun { 64 } else { 0 };
        blob.extend(&good[from..from + head]);
        blob.extend(tokens.concat().iter().flat_map(|w| w.to_be_bytes()));
        let tokens_end = blob.len();
        blob.extend(&good[from + size..]);
        let total = blob.len();
        for (at, value) in [(4, total), (12, tokens_end), (36, tokens_end - from)] {
            blob[at..at + 4].copy_from_slice(&(value as u32).to_be_bytes());
        }
        let _ = fdt::reseal(&mut blob);
        let _ = fdt::parse(&blob);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(fdt::parse(&bytes).is_err());
    }
}
