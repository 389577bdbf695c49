//! A whole handover in simulated memory: from one life to the next and on, and damaged in every way.

use handover::check::{Incoming, Verified, verify};
use handover::error::{Claim, FdtError};
use handover::fdt::{self, Root, Subsystem};
use handover::mem::{Memory, PAGE_SIZE};
use handover::metadata::KexecMetadata;
use handover::page::PageRef;
use handover::radix::PreservedMap;
use handover::scratch::{self, ScratchSize};
use handover::sim::SimMemory;
use handover::state::{KState, StreamReader, StreamWriter, for_each_page};
use handover::{Error, PhysRange, metadata};
use proptest::prelude::*;

const M: u64 = 1 << 20;
const RAM: [PhysRange; 3] = [
    PhysRange::new(0x1000, 0x9_f000),
    PhysRange::new(M, 16 * M),
    PhysRange::new(1 << 32, (1 << 32) + 4 * M),
];

#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(id = 1)]
struct Recorder {
    written: u64,
    #[kstate(pages)]
    buffers: Vec<PageRef>,
}

/// A kernel: what of it takes part in a handover.
struct Kernel {
    mem: SimMemory,
    scratch: Vec<PhysRange>,
    image: PhysRange,
    map: PreservedMap<SimMemory>,
    recorder: Recorder,
    kexecs: u32,
}

/// What the boot information tells the next kernel.
struct Passed {
    fdt: PhysRange,
    scratch: Vec<u8>,
}

/// The start of scratch, where each next kernel lies.
fn image_in(scratch: &[PhysRange]) -> PhysRange {
    PhysRange::with_len(scratch[0].start, 256 << 10).unwrap()
}

fn page_of(pa: u64) -> PhysRange {
    PhysRange::new(pa, pa + PAGE_SIZE)
}

impl Kernel {
    fn cold() -> Kernel {
        let mem = SimMemory::new(&RAM);
        let image = PhysRange::new(4 * M, 5 * M);
        let scratch = ScratchSize::parse("2M").unwrap();
        let scratch = scratch.plan(&mem.ram(), 0, &[image]).unwrap();
        mem.reserve(image);
        scratch.iter().for_each(|&s| mem.reserve(s));
        let mut map = PreservedMap::new(mem, scratch.clone()).unwrap();
        let buffers = [0, 3, 0, 9, 0].map(|order| PageRef {
            pa: mem.alloc_pages(order).unwrap(),
            order: order as u8,
        });
        let recorder = Recorder {
            written: 0,
            buffers: buffers.into(),
        };
        for_each_page(&recorder, |p| map.preserve(p).unwrap());
        Kernel {
            mem,
            scratch,
            image,
            map,
            recorder,
            kexecs: 0,
        }
    }

    /// A page of its own for a blob, preserved.
    fn blob(&mut self, bytes: &[u8]) -> PhysRange {
        let order = (bytes.len() as u64)
            .div_ceil(PAGE_SIZE)
            .next_power_of_two()
            .ilog2();
        let pa = self.mem.alloc_pages(order).unwrap();
        self.map
            .preserve(PageRef {
                pa,
                order: order as u8,
            })
            .unwrap();
        self.mem.write(pa, bytes);
        PhysRange::with_len(pa, bytes.len() as u64).unwrap()
    }

    fn describe(&mut self) -> Passed {
        let metadata = KexecMetadata::new("baton-test", self.kexecs + 1).unwrap();
        let metadata = self.blob(&metadata.encode());
        let state = self.blob(&[0; 512]);
        let subsystem = |name: &str, data: u64| Subsystem {
            name: name.into(),
            data,
            size: 0,
            crc32: 0,
        };
        let root = Root {
            map_root: self.map.root(),
            subsystems: vec![
                subsystem(metadata::NAME, metadata.start),
                subsystem("recorder", state.start),
                subsystem("never-filled", 0),
            ],
            bootargs: "quiet".into(),
        };
        let mut tree = fdt::build(&root).unwrap();

        // The last moments: no allocation from here on.
        self.recorder.written += 1000;
        let mut bytes = [0; 512];
        let mut stream = StreamWriter::new(&mut bytes);
        stream.put(0, &self.recorder).unwrap();
        let used = stream.finish().unwrap();
        self.mem.write(state.start, &bytes[..used]);
        let crc = crc32fast::hash(&bytes[..used]);
        fdt::set_subsystem(&mut tree, "recorder", used as u64, crc).unwrap();
        let bytes = self.mem.read(metadata.start, metadata.len() as usize);
        let crc = crc32fast::hash(&bytes);
        fdt::set_subsystem(&mut tree, metadata::NAME, metadata.len(), crc).unwrap();
        let fdt = self.blob(&tree);
        fdt::set_map_digest(&mut tree, self.map.digest()).unwrap();
        self.mem.write(fdt.start, &tree);
        let mut scratch = vec![0; 16 * self.scratch.len()];
        scratch::encode(&self.scratch, &mut scratch).unwrap();
        Passed { fdt, scratch }
    }

    fn start(mem: SimMemory, passed: &Passed) -> Result<Kernel, Error> {
        let scratch = scratch::decode(&passed.scratch)?;
        let image = image_in(&scratch);
        let Verified {
            root,
            mut map,
            blobs,
        } = check(mem, passed)?;
        assert_eq!(root.bootargs, "quiet");
        for range in scratch.iter().chain([&image]) {
            mem.reserve(*range);
        }
        map.for_each_node(|n| mem.reserve(page_of(n)));
        map.for_each_block(|b| mem.reserve(b.range()));

        let read = |i: usize| mem.read(blobs[i].1.start, blobs[i].1.len() as usize);
        let kexecs = KexecMetadata::decode(&read(0))?.kexec_count;
        let recorder: Recorder = StreamReader::new(&read(1))?.get(0)?;
        // Blobs and FDT have been read: their pages are given back.
        let used = blobs.iter().map(|(_, r)| *r).chain([passed.fdt]);
        for range in used.filter(|r| !r.is_empty()) {
            let block = map.block_at(range.start).unwrap();
            map.unpreserve(block).unwrap();
            // SAFETY: nobody uses the predecessor's blobs any more, and no block holds two of them.
            unsafe { mem.free_pages(block.pa, u32::from(block.order)) };
        }
        Ok(Kernel {
            mem,
            scratch,
            image,
            map,
            recorder,
            kexecs,
        })
    }
}

fn check(mem: SimMemory, passed: &Passed) -> Result<Verified<SimMemory>, Error> {
    let scratch = scratch::decode(&passed.scratch)?;
    let incoming = Incoming {
        fdt_pa: passed.fdt.start,
        fdt_size: passed.fdt.len(),
        ram: &RAM,
        scratch: &scratch,
        image: &[image_in(&scratch)],
    };
    verify(mem, &incoming)
}

#[test]
fn ten_lives() {
    let mut kernel = Kernel::cold();
    let buffers = kernel.recorder.buffers.clone();
    for (n, b) in buffers.iter().enumerate() {
        kernel.mem.write(b.pa, &[n as u8; 64]);
    }
    let mut free = None;
    for life in 1..=10u32 {
        let passed = kernel.describe();
        let mem = kernel.mem.kexec();
        kernel = Kernel::start(mem, &passed).unwrap();
        assert_eq!(kernel.kexecs, life);
        assert_eq!(kernel.recorder.written, u64::from(life) * 1000);
        assert_eq!(kernel.recorder.buffers, buffers);
        for (n, b) in buffers.iter().enumerate() {
            assert_eq!(mem.read(b.pa, 64), [n as u8; 64], "life {life}");
        }
        assert_eq!(kernel.map.block_count(), 5);
        let now = mem.free_pages_left();
        assert_eq!(
            *free.get_or_insert(now),
            now,
            "memory is lost in life {life}"
        );
        assert!(
            kernel
                .scratch
                .iter()
                .any(|s| s.contains_range(&kernel.image))
        );
    }
}

#[test]
fn blobs_are_found_by_name() {
    let mut kernel = Kernel::cold();
    let passed = kernel.describe();
    let verified = check(kernel.mem, &passed).unwrap();
    assert_eq!(verified.blob(metadata::NAME).unwrap().len(), 73);
    assert_eq!(verified.blob("never-filled"), None);
    assert_eq!(verified.blob("unknown"), None);
    assert_eq!(verified.blobs.len(), 3);
}

/// Builds a handover, changes the FDT's content (sealed again), and gives the refusal.
fn refused_with(change: impl Fn(&mut Kernel, &mut Root)) -> String {
    let mut kernel = Kernel::cold();
    let passed = kernel.describe();
    let blob = kernel.mem.read(passed.fdt.start, passed.fdt.len() as usize);
    let mut root = fdt::parse(&blob).unwrap();
    change(&mut kernel, &mut root);
    // No digest here, so that each change meets its own check.
    let blob = fdt::build(&root).unwrap();
    kernel.mem.write(passed.fdt.start, &blob);
    let fdt = PhysRange::with_len(passed.fdt.start, blob.len() as u64).unwrap();
    let refused = check(kernel.mem, &Passed { fdt, ..passed }).unwrap_err();
    refused.to_string()
}

#[test]
fn each_contradiction_has_its_sentence() {
    type Change<'a> = &'a dyn Fn(&mut Kernel, &mut Root);
    let cases: [(Change<'_>, &str); 12] = [
        (
            &|_, r| r.map_root = 1 << 40,
            "node 0x10000000000 at level 5 is not in RAM",
        ),
        (&|_, r| r.map_root = 0, "node 0x0 at level 5 is not in RAM"),
        (&|_, r| r.map_root += 8, "is not page-aligned"),
        (
            &|k, r| r.map_root = k.scratch[0].end - 4096,
            "lies in the scratch region [0x200000, 0x400000)",
        ),
        (
            &|_, r| r.subsystems[1].data = 20 * M,
            "the blob of subsystem `recorder` [0x1400000, ",
        ),
        (&|_, r| r.subsystems[1].size = u64::MAX, "`recorder`"),
        (
            &|_, r| r.subsystems[1].size = 1 << 30,
            "is not in RAM; the handover is refused",
        ),
        (
            &|_, r| r.subsystems[1].data = r.subsystems[0].data + 8,
            "overlaps the blob of subsystem `kexec-metadata` [",
        ),
        (
            &|k, r| r.subsystems[1].data = k.scratch[0].end - 8,
            "the blob of subsystem `recorder` [0x3ffff8, ",
        ),
        (
            &|_, r| r.subsystems[1].data = 15 * M,
            "is not preserved whole: page 0xf00000 is missing",
        ),
        (
            &|_, r| r.subsystems[1].data = r.map_root,
            "is not preserved whole: page",
        ),
        (&|_, r| r.subsystems[1].crc32 ^= 1, "it is damaged"),
    ];
    for (change, sentence) in cases {
        let said = refused_with(change);
        assert!(said.contains(sentence), "{said}, not: {sentence}");
        assert!(said.ends_with("; the handover is refused"), "{said}");
    }
}

#[test]
fn what_the_receiver_is_told_is_checked_too() {
    let mut kernel = Kernel::cold();
    let Passed { fdt, scratch } = kernel.describe();
    let regions = scratch::decode(&scratch).unwrap();
    let good = Incoming {
        fdt_pa: fdt.start,
        fdt_size: fdt.len(),
        ram: &RAM,
        scratch: &regions,
        image: &[image_in(&regions)],
    };
    assert!(verify(kernel.mem, &good).is_ok());
    let refused = |incoming: Incoming<'_>| verify(kernel.mem, &incoming).unwrap_err();
    assert!(matches!(
        refused(Incoming {
            fdt_pa: 1 << 40,
            ..good
        }),
        Error::NotInRam {
            claim: Claim::Fdt,
            ..
        }
    ));
    assert!(matches!(
        refused(Incoming {
            fdt_pa: u64::MAX,
            ..good
        }),
        Error::Fdt(FdtError::TooLarge { .. })
    ));
    assert!(matches!(
        refused(Incoming {
            fdt_size: u64::MAX,
            ..good
        }),
        Error::Fdt(FdtError::TooLarge { .. })
    ));
    assert!(matches!(
        refused(Incoming {
            fdt_size: 0,
            ..good
        }),
        Error::Fdt(FdtError::Short { size: 0 })
    ));
    assert!(matches!(
        refused(Incoming {
            fdt_size: fdt.len() - 1,
            ..good
        }),
        Error::Fdt(FdtError::Cut { .. })
    ));
    let in_scratch = Incoming {
        fdt_pa: regions[0].start,
        ..good
    };
    assert!(matches!(
        refused(in_scratch),
        Error::Overlap {
            a: Claim::Fdt,
            b: Claim::Scratch,
            ..
        }
    ));
    let image = [PhysRange::new(0, 16 * M)];
    assert!(matches!(
        refused(Incoming {
            image: &image,
            ..good
        }),
        Error::Overlap {
            b: Claim::Image,
            ..
        }
    ));
    let outside = [PhysRange::new(1 << 40, 1 << 41)];
    assert!(matches!(
        refused(Incoming {
            scratch: &outside,
            ..good
        }),
        Error::NotInRam {
            claim: Claim::Scratch,
            ..
        }
    ));
    let twice = [regions[0], regions[0]];
    assert!(matches!(
        refused(Incoming {
            scratch: &twice,
            ..good
        }),
        Error::Overlap {
            a: Claim::Scratch,
            ..
        }
    ));
    // Scratch over what is preserved.
    let buffer = kernel.recorder.buffers[3].range();
    let over = [regions[0], buffer];
    assert!(matches!(
        refused(Incoming {
            scratch: &over,
            ..good
        }),
        Error::BlockForbidden { .. }
    ));
    assert!(verify(kernel.mem, &Incoming { ram: &[], ..good }).is_err());
    // The FDT's own page must be preserved.
    kernel
        .map
        .unpreserve(kernel.map.block_at(fdt.start).unwrap())
        .unwrap();
    assert!(matches!(refused(good), Error::MapDigest { .. }));
    let mut tree = kernel.mem.read(fdt.start, fdt.len() as usize);
    fdt::set_map_digest(&mut tree, kernel.map.digest()).unwrap();
    kernel.mem.write(fdt.start, &tree);
    let missing = verify(kernel.mem, &good).unwrap_err();
    assert!(matches!(
        missing,
        Error::NotPreservedWhole {
            claim: Claim::Fdt,
            ..
        }
    ));
}

/// Everything that is handed over, page by page: FDT, blobs, tree pages.
fn handed_over(kernel: &Kernel, passed: &Passed) -> Vec<PhysRange> {
    let verified = check(kernel.mem, passed).unwrap();
    let mut all = vec![passed.fdt];
    all.extend(
        verified
            .blobs
            .iter()
            .map(|(_, r)| *r)
            .filter(|r| !r.is_empty()),
    );
    verified.map.for_each_node(|n| all.push(page_of(n)));
    all
}

#[test]
fn any_single_flip_is_refused() {
    let mut kernel = Kernel::cold();
    let passed = kernel.describe();
    let all = handed_over(&kernel, &passed);
    let mut flips = 0;
    for (n, range) in all.iter().enumerate() {
        let in_tree = n > 2;
        // The tree's pages are nearly all zeroes: every bit of the first 64 bytes, and some of the rest.
        let bits = (0..range.len() * 8).filter(|b| !in_tree || *b < 512 || b % 97 == 0);
        for bit in bits {
            let pa = range.start + bit / 8;
            let byte = kernel.mem.read(pa, 1)[0];
            kernel.mem.write(pa, &[byte ^ 1 << (bit % 8)]);
            let refused = check(kernel.mem, &passed).expect_err("a flip was accepted");
            assert!(
                refused.to_string().ends_with("; the handover is refused"),
                "{refused}"
            );
            kernel.mem.write(pa, &[byte]);
            flips += 1;
        }
    }
    assert!(check(kernel.mem, &passed).is_ok());
    assert!(flips > 10_000, "{flips}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Several bytes anywhere in what is handed over.
    #[test]
    fn any_damage_is_refused_or_harmless(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u64>()), 1..6),
        whole_words in any::<bool>(),
    ) {
        let mut kernel = Kernel::cold();
        let passed = kernel.describe();
        let all = handed_over(&kernel, &passed);
        for (range, at, value) in damage {
            let range = range.get(&all);
            let at = range.start + at.index(range.len() as usize) as u64;
            match whole_words {
                true => kernel.mem.write(at & !7, &(value % (20 * M)).to_ne_bytes()),
                false => kernel.mem.write(at, &[value as u8]),
            }
        }
        match Kernel::start(kernel.mem.kexec(), &passed) {
            // What was written was what stood there.
            Ok(next) => prop_assert_eq!(next.recorder, kernel.recorder),
            Err(e) => prop_assert!(e.to_string().ends_with("; the handover is refused"), "{}", e),
        }
    }

    #[test]
    fn any_boot_information_is_refused_or_harmless(
        fdt_pa in prop_oneof![any::<u64>(), 0..20 * M],
        fdt_size in prop_oneof![any::<u64>(), 0..1u64 << 17],
        scratch in prop::collection::vec(any::<u8>(), 16),
    ) {
        let mut kernel = Kernel::cold();
        let mut passed = kernel.describe();
        let moved = PhysRange::new(fdt_pa, fdt_pa.saturating_add(fdt_size));
        let elsewhere = Passed { fdt: moved, scratch: passed.scratch.clone() };
        prop_assert!(check(kernel.mem, &elsewhere).is_err());
        passed.scratch = scratch;
        prop_assert!(Kernel::start(kernel.mem.kexec(), &passed).is_err());
    }
}
