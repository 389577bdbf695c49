//! Subsystems: order, both transactions, and each outcome.

use std::cell::{Cell, RefCell};

use handover::claims::Claims;
use handover::preserved::Preserved;
use handover::state::{Desc, KState, STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{
    Directory, DirectoryError, Node, Outcome, Prepared, Refusal, SaysNo, Subsystem, Takeover,
    order, start_anew,
};
use handover::{Error, PageRef, PhysRange};

#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(id = 1)]
struct One(u32);

#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(id = 2)]
struct Other(u32);

/// Two states in a stream; what it did is noted.
struct Part<'a> {
    name: &'static str,
    after: &'static [&'static str],
    needs: &'static [&'static str],
    says_no: bool,
    value: Cell<u32>,
    log: &'a RefCell<Vec<String>>,
}

impl<'a> Part<'a> {
    fn new(
        name: &'static str,
        needs: &'static [&'static str],
        log: &'a RefCell<Vec<String>>,
    ) -> Self {
        Part {
            name,
            after: &[],
            needs,
            says_no: false,
            value: Cell::new(0),
            log,
        }
    }

    fn note(&self, what: &str) {
        self.log.borrow_mut().push(format!("{what} {}", self.name));
    }

    fn blob(&self) -> Vec<u8> {
        let mut bytes = vec![0; STREAM_OVERHEAD + self.size()];
        let mut stream = StreamWriter::new(&mut bytes);
        self.describe(&mut stream).unwrap();
        stream.finish().unwrap();
        bytes
    }
}

impl Subsystem for Part<'_> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn states(&self) -> &'static [Desc] {
        match self.name {
            "a" => &[One::DESC, Other::DESC],
            _ => &[],
        }
    }
    fn after(&self) -> &'static [&'static str] {
        self.after
    }
    fn needs(&self) -> &'static [&'static str] {
        self.needs
    }
    fn freeze(&self) -> Result<(), String> {
        self.note("freeze");
        match self.says_no {
            true => Err("it is busy".into()),
            false => Ok(()),
        }
    }
    fn thaw(&self) {
        self.note("thaw");
    }
    fn size(&self) -> usize {
        encoded_size(&One(0)) + encoded_size(&Other(0))
    }
    fn describe(&self, out: &mut StreamWriter<'_>) -> Result<(), Error> {
        out.put(0, &One(self.value.get()))?;
        out.put(0, &Other(self.value.get() + 1))
    }
    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let (one, other): (One, Other) = (from.get(0)?, from.get(0)?);
        if one.0 == 666 {
            return Err(Refusal::Rejected("there are no 666 of them".into()));
        }
        Ok(Prepared::new(move |takeover| {
            self.note("restore");
            self.value.set(one.0 + other.0);
            takeover.claim(page(one.0));
            takeover.remark("it is well");
        }))
    }
    fn anew(&self, takeover: &mut Takeover<'_>) {
        self.note("anew");
        takeover.trouble("it was nothing");
    }
}

/// All pages are preserved, each as a block of its own.
struct All;

impl Preserved for All {
    fn block_at(&self, pa: u64) -> Option<PageRef> {
        Some(PageRef { pa, order: 0 })
    }
    fn first_gap(&self, _range: &PhysRange) -> Option<u64> {
        None
    }
    fn for_each_part(&self, range: &PhysRange, f: &mut dyn FnMut(PhysRange)) {
        f(*range);
    }
}

fn page(number: u32) -> PhysRange {
    let start = u64::from(number) * 4096;
    PhysRange::new(start, start + 4096)
}

/// Blobs as the claims have them; where they lie is of no interest.
fn claims(names: &[&str]) -> Claims {
    let blob = |(name, number): (&&str, _)| (name.to_string(), page(number));
    Claims::new(names.iter().zip(1000..).map(blob).collect())
}

/// Who took its blob.
fn taken(claims: &Claims) -> Vec<&str> {
    let taken = claims.blobs().filter(|(_, _, taken)| *taken);
    taken.map(|(name, _, _)| name).collect()
}

#[test]
fn restoring_goes_by_dependencies_and_freezing_the_other_way() {
    let log = RefCell::new(vec![]);
    let c = Part::new("c", &["b", "a"], &log);
    let b = Part::new("b", &["a"], &log);
    let a = Part::new("a", &[], &log);
    let all = Directory::new(&[&c, &b, &a]).unwrap();
    assert_eq!(all.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    let frozen = all.freeze().unwrap();
    let names: Vec<_> = frozen.subsystems().map(|s| s.name()).collect();
    assert_eq!(names, ["c", "b", "a"]);
    frozen.commit();
    assert_eq!(log.take(), ["freeze c", "freeze b", "freeze a"]);
    drop(all.freeze().unwrap());
    assert_eq!(log.take()[3..], ["thaw a", "thaw b", "thaw c"]);

    for part in [&a, &b, &c] {
        part.value.set(5);
    }
    let blob = a.blob();
    let mut claims = claims(&["c", "b", "a"]);
    let report = all.restore(
        &[("c", &blob), ("b", &blob), ("a", &blob)],
        &mut claims,
        &All,
    );
    assert_eq!(log.take(), ["restore a", "restore b", "restore c"]);
    assert_eq!(a.value.get(), 11);
    assert_eq!(
        report.to_string(),
        "a: restored\nb: restored, without 2 entries of ids that this kernel does not know\nc: restored, without 2 \
         entries of ids that this kernel does not know\nremark: a: it is well\nremark: b: it is well\nremark: c: it is well\n"
    );
    assert_eq!(taken(&claims), ["c", "b", "a"]);
    let owners: Vec<&str> = claims.claimed().iter().map(|(o, _)| o.as_str()).collect();
    assert_eq!(owners, ["a", "b", "c"]);
}

/// `after` is about the order alone; `needs` is about being there, too.
#[test]
fn one_that_comes_after_another_is_restored_without_it() {
    let log = RefCell::new(vec![]);
    let b = Part {
        after: &["a"],
        ..Part::new("b", &[], &log)
    };
    let c = Part::new("c", &["a"], &log);
    let d = Part::new("d", &["c"], &log);
    let a = Part::new("a", &[], &log);
    let all = Directory::new(&[&d, &c, &b, &a]).unwrap();
    assert_eq!(all.names().collect::<Vec<_>>(), ["a", "c", "d", "b"]);
    let good = a.blob();
    let report = all.restore(
        &[("b", &good), ("c", &good), ("d", &good)],
        &mut claims(&[]),
        &All,
    );
    assert_eq!(log.take(), ["anew a", "anew c", "anew d", "restore b"]);
    assert_eq!(report.of("a"), Some(&Outcome::Missing));
    assert_eq!(report.of("c"), Some(&Outcome::NotWithout("a")));
    assert_eq!(report.of("d"), Some(&Outcome::NotWithout("c")));
}

#[test]
fn an_owner_can_reject_what_can_be_read() {
    let log = RefCell::new(vec![]);
    let a = Part::new("a", &[], &log);
    a.value.set(666);
    let blob = a.blob();
    let mut claims = claims(&["a", "else"]);
    let all = Directory::new(&[&a]).unwrap();
    let report = all.restore(&[("a", &blob)], &mut claims, &All);
    assert_eq!(log.take(), ["anew a"]);
    assert_eq!(
        report.to_string(),
        "a: rejected by its owner: there are no 666 of them; it starts anew\ntrouble: a: it was nothing\n"
    );
    assert_eq!(taken(&claims), ["a"]);
    assert!(claims.claimed().is_empty());
}

#[test]
fn without_a_predecessor_all_start_anew_in_the_same_order() {
    let log = RefCell::new(vec![]);
    let b = Part::new("b", &["a"], &log);
    let a = Part::new("a", &[], &log);
    let all = Directory::new(&[&b, &a]).unwrap();
    let report = all.start_anew(&mut claims(&[]));
    assert_eq!(log.take(), ["anew a", "anew b"]);
    assert!(report.outcomes().all(|(_, outcome)| outcome.is_good()));
    // Where they contradict each other, in the order in which they stand.
    start_anew(&[&b, &a], &mut claims(&[]));
    assert_eq!(log.take(), ["anew b", "anew a"]);
}

#[test]
fn one_that_says_no_stops_it_and_the_others_go_on() {
    let log = RefCell::new(vec![]);
    let a = Part {
        says_no: true,
        ..Part::new("a", &[], &log)
    };
    let b = Part::new("b", &["a"], &log);
    let refused = Directory::new(&[&a, &b]).unwrap().freeze().unwrap_err();
    let no = SaysNo {
        name: "a",
        why: "it is busy".into(),
    };
    assert_eq!(refused, no);
    assert_eq!(no.to_string(), "a says no: it is busy");
    assert_eq!(log.take(), ["freeze b", "freeze a", "thaw b"]);
}

#[test]
fn each_is_restored_wholly_or_not_at_all() {
    let log = RefCell::new(vec![]);
    let a = Part::new("a", &[], &log);
    let b = Part::new("b", &["a"], &log);
    let alone = Part::new("alone", &[], &log);
    let all = Directory::new(&[&a, &b, &alone]).unwrap();
    let good = alone.blob();
    // One of its two states is missing.
    let mut half = vec![0; 400];
    let mut stream = StreamWriter::new(&mut half);
    stream.put(0, &One(7)).unwrap();
    stream.finish().unwrap();
    let mut all_claims = claims(&["a", "b", "alone", "else"]);
    let blobs: [(&str, &[u8]); 4] = [
        ("a", &half),
        ("b", &good),
        ("alone", &good),
        ("else", &good),
    ];
    let report = all.restore(&blobs, &mut all_claims, &All);
    assert_eq!(taken(&all_claims), ["a", "b", "alone"]);
    assert_eq!(log.take(), ["anew a", "anew b", "restore alone"]);
    assert_eq!((a.value.get(), b.value.get()), (0, 0));
    let missing = Error::EntryMissing {
        name: "Other",
        id: 2,
        instance: 0,
    };
    assert_eq!(report.of("a"), Some(&Outcome::Refused(missing.into())));
    assert_eq!(report.of("b"), Some(&Outcome::NotWithout("a")));
    assert_eq!(report.of("else"), Some(&Outcome::Unknown));
    assert_eq!(report.of("nobody"), None);
    assert_eq!(
        report.to_string(),
        "a: refused: state `Other` (id 0x2, instance 0) is missing in the stream; it is not restored; it \
         starts anew\n\
         b: not restored, since `a` was not; it starts anew\n\
         alone: restored, without 2 entries of ids that this kernel does not know\n\
         else: unknown: no subsystem of this kernel has this name; it is discarded\n\
         trouble: a: it was nothing\ntrouble: b: it was nothing\nremark: alone: it is well\n"
    );
    log.take();

    let mut damaged = good.clone();
    damaged[70] ^= 1;
    let report = all.restore(
        &[("a", &[]), ("alone", &good), ("alone", &good)],
        &mut claims(&[]),
        &All,
    );
    assert_eq!(report.of("a"), Some(&Outcome::Missing));
    assert_eq!(report.of("alone"), Some(&Outcome::Doubled));
    let report = all.restore(&[("alone", &damaged)], &mut claims(&[]), &All);
    assert!(matches!(
        report.of("alone"),
        Some(Outcome::Refused(Refusal::Unreadable(
            Error::EntryCrc { .. }
        )))
    ));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let node = |name, needs| Node {
        name,
        after: &[],
        needs,
        states: &[],
    };
    let cycle = [
        node("x", &["a"]),
        node("a", &["b"]),
        node("b", &["c"]),
        node("c", &["a"]),
    ];
    let refused = order(&cycle).unwrap_err();
    let DirectoryError::Cycle { circle } = refused else {
        panic!("{refused}");
    };
    let mut names = circle.names().to_vec();
    names.sort_unstable();
    assert_eq!(
        names,
        ["a", "b", "c"],
        "x waits for the circle, but is not in it"
    );
    let circles = [
        "subsystem `a` is to be restored after `b`, that after `c`, that after `a`; none is registered",
        "subsystem `b` is to be restored after `c`, that after `a`, that after `b`; none is registered",
        "subsystem `c` is to be restored after `a`, that after `b`, that after `c`; none is registered",
    ];
    assert!(circles.contains(&refused.to_string().as_str()), "{refused}");
    assert_eq!(
        order(&[node("a", &["a"])]).unwrap_err().to_string(),
        "subsystem `a` is to be restored after itself; none is registered"
    );
    let two = order(&[node("a", &["b"]), node("b", &["a"])])
        .unwrap_err()
        .to_string();
    assert!(
        two.contains("`a` is to be restored after `b`, that after `a`;")
            || two.contains("`b` is to be restored after `a`, that after `b`;"),
        "{two}"
    );
    let many = [
        node("a", &["b"]),
        node("b", &["c"]),
        node("c", &["d"]),
        node("d", &["e"]),
        node("e", &["f"]),
        node("f", &["g"]),
        node("g", &["a"]),
    ];
    let many = order(&many).unwrap_err().to_string();
    assert!(
        many.contains("that after others, and those after `"),
        "{many}"
    );
    assert_eq!(
        order(&[node("a", &["z"])]),
        Err(DirectoryError::DependsOnNobody { name: "a", on: "z" })
    );
    assert_eq!(
        order(&[node("a", &[]), node("a", &[])]),
        Err(DirectoryError::NameTwice { name: "a" })
    );
    // What `fdt::build` would refuse at a kexec.
    let long = "abcdefghijklmnopqrstuvwxyz1234"; // 30 bytes
    for name in ["my visits", "", "9a", "chosen", "a/b", long] {
        let refused = order(&[node("a", &[]), node(name, &[])]).unwrap_err();
        assert_eq!(refused, DirectoryError::NoName { name });
        let sentence = refused.to_string();
        assert!(sentence.contains(&format!("`{name}`")) && sentence.contains("29 bytes"));
    }
    assert_eq!(order(&[node(&long[..29], &[])]), Ok(vec![0]));
    let name = "kexec-metadata";
    assert_eq!(
        order(&[node(name, &[])]),
        Err(DirectoryError::NameTaken { name })
    );
    let states = &[One::DESC];
    let twice = order(&[
        Node {
            states,
            ..node("a", &[])
        },
        Node {
            states,
            ..node("b", &[])
        },
    ]);
    assert_eq!(
        twice.unwrap_err().to_string(),
        "states `One` and `One` both have id 0x1; none is registered: give one of them another id"
    );
    // The two kinds of waiting count alike.
    let both = [
        Node {
            after: &["b"],
            ..node("a", &[])
        },
        node("b", &["a"]),
    ];
    assert!(matches!(order(&both), Err(DirectoryError::Cycle { .. })));
    assert_eq!(order(&[]), Ok(vec![]));
    assert_eq!(order(&[node("b", &["a"]), node("a", &[])]), Ok(vec![1, 0]));
}
