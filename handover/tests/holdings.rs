//! Memory that states call their own: found in a stream by its description, taken over only where it is preserved, and given back
//! under its owner's name.

use std::cell::RefCell;
use std::collections::BTreeMap;

use handover::claims::Claims;
use handover::error::Name;
use handover::preserved::{ClaimRefused, Holding, NotPreserved, Preserved};
use handover::radix::PreservedMap;
use handover::sim::SimMemory;
use handover::state::{
    Desc, KState, STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size, for_each_page,
};
use handover::subsystem::{Directory, Outcome, Prepared, Refusal, Subsystem, Takeover};
use handover::{Error, PageRef, PhysRange};

const M: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn block(number: u64, order: u8) -> PageRef {
    PageRef::new(2 * M + number * PAGE, order).unwrap()
}

fn machine() -> PreservedMap<SimMemory> {
    let mem = SimMemory::new(&[PhysRange::new(M, 2 * M), PhysRange::new(2 * M, 4 * M)]);
    mem.reserve(PhysRange::new(2 * M, 4 * M));
    PreservedMap::new(mem, Vec::new()).unwrap()
}

fn stream<T: KState>(value: &T) -> Vec<u8> {
    let mut blob = vec![0; STREAM_OVERHEAD + encoded_size(value)];
    let mut stream = StreamWriter::new(&mut blob);
    stream.put(3, value).unwrap();
    stream.finish().unwrap();
    blob
}

#[derive(KState)]
enum Store {
    Empty,
    Full {
        name: String,
        #[kstate(pages)]
        at: Option<PageRef>,
        note: PageRef,
    },
}

#[derive(KState)]
struct Shelf {
    bytes: Vec<u8>,
    #[kstate(pages)]
    rows: [PageRef; 2],
    stores: Vec<Store>,
    below: Option<Box<Shelf>>,
}

#[derive(KState)]
#[kstate(id = 0x30, version = 2, min_version = 1)]
struct Cellar {
    empty: [[u8; 0]; 9],
    #[kstate(pages)]
    by_number: BTreeMap<u16, PageRef>,
    #[kstate(pages)]
    reserved: Vec<PhysRange>,
    /// Somebody else's.
    others: Vec<PageRef>,
    shelves: Vec<Shelf>,
    by_name: BTreeMap<String, Shelf>,
    #[kstate(since = 2, default)]
    last: u128,
    #[kstate(subsection)]
    attic: Option<Shelf>,
}

fn shelf(first: u64, below: Option<Shelf>) -> Shelf {
    Shelf {
        bytes: vec![1; 77],
        rows: [block(first, 0), block(first + 1, 0)],
        stores: vec![
            Store::Full {
                name: "wine".into(),
                at: Some(block(first + 2, 1)),
                note: block(400, 0),
            },
            Store::Empty,
            Store::Full {
                name: String::new(),
                at: None,
                note: block(401, 0),
            },
        ],
        below: below.map(Box::new),
    }
}

/// The same memory as `for_each_page` finds in the value, in every kind of field.
#[test]
fn what_a_stream_lists_is_what_the_value_holds() {
    let cellar = Cellar {
        empty: [[]; 9],
        by_number: [(7, block(0, 3)), (9, block(8, 0))].into(),
        reserved: vec![
            PhysRange::new(2 * M + 16 * PAGE, 2 * M + 20 * PAGE),
            PhysRange::new(5, 5),
        ],
        others: vec![block(402, 0)],
        shelves: vec![shelf(32, Some(shelf(36, None))), shelf(40, None)],
        by_name: [("north".to_string(), shelf(44, None))].into(),
        last: 1,
        attic: Some(shelf(48, None)),
    };
    let mut held = Vec::new();
    for_each_page(&cellar, |page| held.push(page.range()));
    let blob = stream(&cellar);
    let reader = StreamReader::new(&blob).unwrap();
    let entry = reader.entries().next().unwrap();
    let mut listed = Vec::new();
    reader
        .for_each_holding(&entry, &mut |holding| listed.push(holding.range()))
        .unwrap();
    assert_eq!(held.len(), 2 + 1 + 5 * 3);
    held.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, held);
}

#[derive(KState, Clone, Debug, Default, PartialEq)]
#[kstate(id = 0x31)]
struct Visits {
    #[kstate(pages)]
    pages: Vec<PageRef>,
    #[kstate(pages)]
    room: Option<PhysRange>,
}

/// A subsystem with pages.
#[derive(Default)]
struct Guest {
    visits: RefCell<Visits>,
    /// It does not claim what it goes on using.
    forgets: bool,
    /// It looks after its pages itself.
    checks: bool,
    refuses: bool,
    /// What it claims at its commit, beside its pages.
    claims: Vec<PhysRange>,
}

impl Subsystem for Guest {
    fn name(&self) -> &'static str {
        "visits"
    }
    fn states(&self) -> &'static [Desc] {
        &[Visits::DESC]
    }
    fn size(&self) -> usize {
        encoded_size(&*self.visits.borrow())
    }
    fn describe(&self, out: &mut StreamWriter<'_>) -> Result<(), Error> {
        out.put(3, &*self.visits.borrow())
    }
    fn checks_pages(&self) -> bool {
        self.checks
    }
    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let visits: Visits = from.get(3)?;
        if self.refuses {
            return Err(Refusal::Rejected("it does not like it".into()));
        }
        Ok(Prepared::new(move |takeover| {
            if !self.forgets {
                for_each_page(&visits, |page| takeover.claim(page.range()));
            }
            self.take(takeover);
            *self.visits.borrow_mut() = visits;
        }))
    }
    fn anew(&self, takeover: &mut Takeover<'_>) {
        self.take(takeover);
    }
}

impl Guest {
    fn take(&self, takeover: &mut Takeover<'_>) {
        for range in &self.claims {
            takeover.claim(*range);
        }
    }
}

fn visits(pages: &[PageRef], room: Option<PhysRange>) -> Visits {
    Visits {
        pages: pages.to_vec(),
        room,
    }
}

fn blobs() -> Claims {
    Claims::new(vec![("visits".into(), block(100, 0).range())])
}

/// Restores from this state; what becomes of it, and of its memory.
fn restore(guest: &Guest, state: &Visits, map: &dyn Preserved) -> (Outcome, Claims) {
    let mut claims = blobs();
    let blob = stream(state);
    let directory = Directory::new(&[guest]).unwrap();
    let report = directory.restore(&[("visits", &blob)], &mut claims, map);
    (report.of("visits").unwrap().clone(), claims)
}

#[test]
fn a_state_is_refused_whose_pages_are_not_preserved_as_it_says() {
    let mut map = machine();
    map.preserve(block(4, 2)).unwrap();
    let room = PhysRange::new(2 * M + 16 * PAGE, 2 * M + 18 * PAGE);
    map.preserve_blocks(room, 0).unwrap();
    let whole = visits(&[block(4, 2)], Some(room));
    let (outcome, claims) = restore(&Guest::default(), &whole, &map);
    assert_eq!(outcome, Outcome::Restored { left_out: 0 });
    let claimed = [("visits".to_string(), vec![block(4, 2).range(), room])];
    assert_eq!(claims.into_claimed(), claimed);

    let longer = PhysRange::new(room.start, room.end + PAGE);
    for (lost, holding) in [
        (visits(&[block(8, 2)], None), Holding::Block(block(8, 2))),
        // A part of a block, and one that is said to be larger.
        (
            visits(&[block(4, 2), block(4, 0)], None),
            Holding::Block(block(4, 0)),
        ),
        (visits(&[block(0, 3)], None), Holding::Block(block(0, 3))),
        (visits(&[], Some(longer)), Holding::Range(longer)),
    ] {
        let guest = Guest::default();
        let (outcome, claims) = restore(&guest, &lost, &map);
        let refused = NotPreserved {
            name: Name::new("Visits"),
            id: 0x31,
            instance: 3,
            holding,
        };
        assert_eq!(
            outcome,
            Outcome::Refused(Refusal::NotPreserved(refused)),
            "{lost:?}"
        );
        assert_eq!(*guest.visits.borrow(), Visits::default());
        assert!(claims.into_claimed().is_empty());
    }
    let (outcome, _) = restore(&Guest::default(), &visits(&[block(8, 2)], None), &map);
    assert_eq!(
        outcome.to_string(),
        "refused: state `Visits` (id 0x31, instance 3) calls the block 0x208000 (order 2) its own, which is not \
         preserved as that block: it may be anybody's; it starts anew"
    );
}

/// The way out asks the same.
#[test]
fn a_stream_says_which_of_its_states_has_lost_memory() {
    let mut map = machine();
    map.preserve(block(4, 2)).unwrap();
    let blob = stream(&visits(&[block(4, 2), block(9, 0)], None));
    let reader = StreamReader::new(&blob).unwrap();
    let lost = reader.check_holdings(&map, |_| true).unwrap_err();
    assert_eq!(lost.holding, Holding::Block(block(9, 0)));
    assert_eq!(reader.check_holdings(&map, |id| id != 0x31), Ok(()));
    map.preserve(block(9, 0)).unwrap();
    assert_eq!(reader.check_holdings(&map, |_| true), Ok(()));
    assert!(reader.check_holdings(&(), |_| true).is_err());
}

#[test]
fn what_is_not_preserved_cannot_be_claimed() {
    let mut map = machine();
    map.preserve(block(4, 2)).unwrap();
    map.preserve(block(32, 0)).unwrap();
    // Its own check passes what it should not have.
    let guest = Guest {
        checks: true,
        claims: vec![block(32, 0).range()],
        ..Guest::default()
    };
    let state = visits(&[block(4, 2), block(8, 2)], None);
    let (outcome, mut claims) = restore(&guest, &state, &map);
    let range = PhysRange::new(block(4, 2).pa, block(8, 2).range().end);
    let refused = ClaimRefused {
        range,
        pa: block(8, 2).pa,
    };
    assert_eq!(outcome, Outcome::ClaimRefused(refused));
    assert!(!outcome.is_good());
    assert_eq!(
        outcome.to_string(),
        "restored, but its claim of [0x204000, 0x20c000) is refused: the page at 0x208000 is not preserved, and may be anybody's"
    );
    // What can be its own, is; nobody frees that.
    let claimed = vec![block(4, 2).range(), block(32, 0).range()];
    assert_eq!(claims.claimed(), [("visits".to_string(), claimed)]);
    assert!(claims.discard(&mut map, |_| panic!("freed")).of.is_empty());

    // However much is claimed: what is preserved of it stays, in no more time than another claim takes.
    let guest = Guest {
        checks: true,
        claims: vec![PhysRange::new(0, u64::MAX)],
        ..Guest::default()
    };
    let (outcome, mut claims) = restore(&guest, &visits(&[], None), &map);
    let range = PhysRange::new(0, u64::MAX);
    let refused = ClaimRefused { range, pa: 0 };
    assert_eq!(outcome, Outcome::ClaimRefused(refused));
    let claimed = vec![block(4, 2).range(), block(32, 0).range()];
    assert_eq!(claims.claimed(), [("visits".to_string(), claimed)]);

    // Also where it starts anew.
    let guest = Guest {
        refuses: true,
        claims: vec![block(40, 0).range()],
        ..Guest::default()
    };
    let blob = stream(&visits(&[], None));
    let directory = Directory::new(&[&guest]).unwrap();
    let report = directory.restore(&[("visits", &blob)], &mut blobs(), &map);
    let troubles: Vec<_> = report.troubles().collect();
    assert_eq!(troubles.len(), 1);
    assert!(troubles[0].1.contains("0x228000 is not preserved"));
}

#[test]
fn pages_that_nobody_claims_are_those_of_whose_blob_lists_them() {
    let state = visits(&[block(4, 2), block(8, 0)], None);
    let forgets = Guest {
        forgets: true,
        claims: vec![block(8, 0).range()],
        ..Guest::default()
    };
    let refuses = Guest {
        refuses: true,
        ..Guest::default()
    };
    for (guest, pages) in [(&forgets, 4), (&refuses, 5)] {
        let mut map = machine();
        for block in [block(4, 2), block(8, 0), block(100, 0)] {
            map.preserve(block).unwrap();
        }
        let (_, mut claims) = restore(guest, &state, &map);
        let discarded = claims.discard(&mut map, |_| ());
        assert_eq!(discarded.of, [("visits".to_string(), pages)]);
        assert_eq!(
            discarded.to_string(),
            format!(
                "{pages} preserved pages that nobody claimed were given back ({pages} of `visits`)"
            )
        );
    }

    // Of nobody that is known here, and beside pages that no state lists.
    let mut map = machine();
    for block in [block(4, 2), block(8, 0), block(60, 1)] {
        map.preserve(block).unwrap();
    }
    let mut claims = Claims::new(vec![("visits".into(), PhysRange::new(0, 0))]);
    let nobody: Directory<'_, Guest> = Directory::new(&[]).unwrap();
    nobody.restore(&[("visits", &stream(&state))], &mut claims, &map);
    let discarded = claims.discard(&mut map, |_| ());
    assert_eq!(
        discarded.to_string(),
        "nobody claimed `visits`: its state and 7 preserved pages were given back (5 of `visits`, and 2 that no state lists)"
    );
}

/// A piece of memory that reaches to where there is none is nobody's, and costs no more than another one.
#[test]
fn memory_up_to_the_end_of_all_addresses_is_not_preserved() {
    #[derive(KState)]
    #[kstate(id = 0x39)]
    struct Piece {
        #[kstate(pages)]
        of: PhysRange,
    }
    let mut map = machine();
    map.preserve(block(0, 0)).unwrap();
    let page = block(0, 0).pa;
    for range in [
        PhysRange::new(page, u64::MAX),
        PhysRange::new(u64::MAX - 5, u64::MAX - 1),
        PhysRange::new(0, u64::MAX - 5000),
    ] {
        let blob = stream(&Piece { of: range });
        let reader = StreamReader::new(&blob).unwrap();
        let refused = reader.check_holdings(&map, |_| true).unwrap_err();
        assert_eq!(refused.holding, Holding::Range(range));
        let mut claims = Claims::default();
        claims.note_listed("piece", refused.holding.range());
        let discarded = claims.discard(&mut map, |_| ());
        assert!(discarded.pages <= 1);
        map.preserve(block(0, 0)).ok();
    }
}
