//! What is claimed stays, what nobody claims is named and given back; and sealed memory that changed is found.

use std::collections::BTreeSet;

use handover::claims::Claims;
use handover::error::SealFault;
use handover::mem::PAGE_SIZE;
use handover::radix::PreservedMap;
use handover::seal::{ENTRY_SIZE, HEAD_SIZE, PageSeals, Seal, Seals};
use handover::sim::SimMemory;
use handover::state::{STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
use handover::{Error, PhysRange};
use proptest::prelude::*;

const M: u64 = 1 << 20;
const RAM: [PhysRange; 2] = [PhysRange::new(M, 2 * M), PhysRange::new(2 * M, 4 * M)];

fn r(start: u64, end: u64) -> PhysRange {
    PhysRange::new(start, end)
}

fn pages(first: u64, count: u64) -> PhysRange {
    let start = 2 * M + first * PAGE_SIZE;
    r(start, start + count * PAGE_SIZE)
}

fn machine() -> (SimMemory, PreservedMap<SimMemory>) {
    let mem = SimMemory::new(&RAM);
    mem.reserve(RAM[1]);
    (mem, PreservedMap::new(mem, Vec::new()).unwrap())
}

fn seal_now(
    seals: &mut Seals,
    map: &PreservedMap<SimMemory>,
    range: PhysRange,
) -> Result<Seal, Error> {
    // SAFETY: nothing else runs on this memory.
    unsafe { seals.seal(map, range) }
}

fn verify(seal: &Seal, map: &PreservedMap<SimMemory>) -> Result<(), Error> {
    // SAFETY: as above.
    unsafe { seal.verify(map) }
}

#[test]
fn what_nobody_claims_is_named_and_given_back() {
    let (_, mut map) = machine();
    map.preserve_range(pages(0, 64)).unwrap();
    let blobs = vec![
        ("trace".to_string(), pages(0, 1)),
        ("demo".to_string(), pages(1, 1)),
        ("empty".to_string(), pages(2, 0)),
    ];
    map.restore_range(pages(0, 64)).unwrap();
    map.preserve_blocks(pages(0, 64), 0).unwrap();
    let mut claims = Claims::new(blobs);
    assert_eq!(claims.take("trace"), Some(pages(0, 1)));
    assert_eq!(claims.take("empty"), None);
    assert_eq!(claims.take("nobody"), None);
    claims.claim("trace", pages(8, 8));
    claims.claim("trace", pages(12, 8));
    claims.claim("initrd", r(pages(32, 1).start + 5, pages(32, 1).start + 7));
    claims.claim("none", pages(9, 0));
    let expected = [
        ("trace".to_string(), vec![pages(8, 12)]),
        ("initrd".to_string(), vec![pages(32, 1)]),
    ];
    assert_eq!(claims.claimed(), expected);

    let mut freed = BTreeSet::new();
    let discarded = claims.discard(&mut map, |b| assert!(freed.insert(b.pa)));
    assert_eq!(discarded.owners, ["demo"]);
    assert_eq!(discarded.pages, 64 - 13 - 2);
    assert_eq!(freed.len(), 64 - 13);
    assert_eq!(map.block_count(), 13);
    assert_eq!(
        discarded.to_string(),
        "nobody claimed `demo`: its state and 49 preserved pages were given back (no state lists them, so whose they were \
         is not known)"
    );
    assert_eq!(claims.into_claimed(), expected);

    let (_, mut map) = machine();
    assert!(Claims::default().discard(&mut map, |_| ()).is_empty());
    map.preserve_range(pages(0, 2)).unwrap();
    let nobodys = Claims::default().discard(&mut map, |_| ());
    assert!(
        nobodys.to_string().contains("2 preserved pages"),
        "{nobodys}"
    );
}

#[test]
fn a_block_that_is_partly_claimed_stays_whole() {
    let (_, mut map) = machine();
    map.preserve_range(pages(0, 16)).unwrap();
    let mut claims = Claims::new(Vec::new());
    claims.claim("trace", pages(3, 1));
    assert_eq!(claims.discard(&mut map, |_| panic!("freed")).pages, 0);
    assert_eq!(map.preserved_pages(), 16);
}

#[test]
fn sealed_memory_that_changed_is_found() {
    let (mem, mut map) = machine();
    let range = r(pages(0, 1).start + 100, pages(2, 1).start + 50);
    map.preserve_range(pages(0, 3)).unwrap();
    mem.write(range.start, &[7; 5000]);
    let mut seals = Seals::new();
    let seal = seal_now(&mut seals, &map, range).unwrap();
    assert_eq!(
        seal.crc32,
        crc32fast::hash(&mem.read(range.start, range.len() as usize))
    );
    verify(&seal, &map).unwrap();

    let mut blob = vec![0; seals.encoded_size()];
    assert_eq!(seals.encode(&mut blob), Ok(HEAD_SIZE + ENTRY_SIZE));
    let read = Seals::decode(&blob).unwrap();
    assert_eq!(read, seals);
    for at in [range.start, range.end - 1] {
        mem.write(at, &[mem.read(at, 1)[0] ^ 4]);
        let broken = read.iter().map(|s| verify(s, &map));
        let broken: Vec<_> = broken.collect();
        assert!(matches!(broken[..], [Err(Error::SealBroken { range: r, .. })] if r == range));
        mem.write(at, &[mem.read(at, 1)[0] ^ 4]);
    }
    mem.write(range.start - 1, &[1]);
    mem.write(range.end, &[1]);
    verify(&seal, &map).unwrap();

    let fault = |why| {
        Err(Error::SealList {
            size: ENTRY_SIZE,
            why,
        })
    };
    for (range, why) in [
        (pages(0, 0), SealFault::Range),
        (pages(2, 2), SealFault::NotPreserved),
        (r(0, 1 << 60), SealFault::Range),
    ] {
        assert_eq!(seal_now(&mut seals, &map, range), fault(why));
    }
    map.unpreserve_range(pages(0, 2)).unwrap();
    assert_eq!(
        verify(&seal, &map),
        fault(SealFault::NotPreserved).map(|_| ())
    );
    assert_eq!(seals.forget(&pages(4, 1)), 0);
    assert_eq!(seals.forget(&pages(1, 1)), 1);
    assert_eq!(
        seals.encode(&mut [0; 7]),
        Err(Error::StreamRoom { needed: 8, room: 7 })
    );
    assert_eq!(seals.encode(&mut [0; 8]), Ok(8));
}

#[derive(handover::KState, Clone, Debug, PartialEq)]
#[kstate(id = 1, version = 1)]
struct Owner {
    seals: PageSeals,
}

fn seal_pages(map: &PreservedMap<SimMemory>, range: PhysRange) -> Result<PageSeals, Error> {
    let mut seals = PageSeals::new(range)?;
    // SAFETY: nothing else runs on this memory.
    while unsafe { seals.seal_next(map) }? {}
    Ok(seals)
}

#[test]
fn seals_by_page_name_the_page() {
    let (mem, mut map) = machine();
    map.preserve_range(pages(0, 5)).unwrap();
    // From within the second page to within the fourth.
    let range = r(pages(1, 1).start + 100, pages(3, 1).start + 50);
    mem.write(range.start, &[7; 5000]);
    let sealed = seal_pages(&map, range).unwrap();
    assert_eq!((sealed.len(), sealed.page(3)), (3, None));

    // It crosses as declared state.
    let owner = Owner { seals: sealed };
    let mut blob = vec![0; STREAM_OVERHEAD + encoded_size(&owner)];
    let mut writer = StreamWriter::new(&mut blob);
    writer.put(0, &owner).unwrap();
    writer.finish().unwrap();
    let read: Owner = StreamReader::new(&blob).and_then(|r| r.get(0)).unwrap();
    assert_eq!(read, owner);
    let seals = read.seals;
    assert_eq!(seals.agrees(&range), Ok(()));

    let broken = || -> Vec<usize> {
        let bad = |i: &usize| verify(&seals.page(*i).unwrap(), &map).is_err();
        (0..seals.len()).filter(bad).collect()
    };
    assert_eq!(broken(), [0; 0]);
    for (at, page) in [
        (range.start, 0),
        (pages(2, 1).start - 1, 0),
        (pages(2, 1).start, 1),
        (range.end - 1, 2),
    ] {
        let was = mem.read(at, 1)[0];
        mem.write(at, &[was ^ 16]);
        assert_eq!(broken(), [page]);
        let seal = seals.page(page).unwrap();
        assert!(seal.range.contains(at) && range.contains_range(&seal.range));
        mem.write(at, &[was]);
    }
    // Bytes beside the range do not matter.
    mem.write(range.start - 1, &[1]);
    mem.write(range.end, &[1]);
    assert_eq!(broken(), [0; 0]);
}

#[test]
fn seals_of_another_range_or_of_a_part_are_refused() {
    let (_, mut map) = machine();
    map.preserve_range(pages(0, 3)).unwrap();
    let fault = |size, why| Err(Error::SealList { size, why });
    let seals = seal_pages(&map, pages(0, 2)).unwrap();
    for other in [pages(0, 3), pages(1, 2), pages(0, 0), r(0, 1 << 60)] {
        assert_eq!(seals.agrees(&other), fault(0, SealFault::Range), "{other}");
    }
    let mut part = PageSeals::new(pages(0, 2)).unwrap();
    // SAFETY: nothing else runs on this memory.
    assert_eq!(unsafe { part.seal_next(&map) }, Ok(true));
    assert_eq!(part.agrees(&pages(0, 2)), fault(4, SealFault::Size));
    assert_eq!(
        PageSeals::default().agrees(&pages(0, 1)),
        fault(0, SealFault::Range)
    );
    // The last page is not preserved.
    let not_preserved = fault(ENTRY_SIZE, SealFault::NotPreserved).map(|()| PageSeals::default());
    assert_eq!(seal_pages(&map, pages(2, 2)), not_preserved);
}

proptest! {
    #[test]
    fn any_list_of_seals_is_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..100), flip in 0..256usize,
    ) {
        let _ = Seals::decode(&bytes);
        let (_, mut map) = machine();
        map.preserve_range(pages(0, 3)).unwrap();
        let mut seals = Seals::new();
        seal_now(&mut seals, &map, pages(1, 1)).unwrap();
        let mut blob = vec![0; seals.encoded_size()];
        seals.encode(&mut blob).unwrap();
        blob[flip / 8] ^= 1 << (flip % 8);
        let refused = matches!(Seals::decode(&blob), Err(Error::SealList { .. }));
        prop_assert!(refused);
    }
}
