//! Declared state: what crosses, between which versions, and what is refused.

use std::collections::BTreeMap;

use handover::error::{Name, Parting, Place, ValueFault};
use handover::state::{
    Body, Desc, DescRef, KState, MAX_DEPTH, STREAM_OVERHEAD, StreamReader, StreamWriter, TypeDesc,
    encoded_size, for_each_page, ids_unique,
};
use handover::{Error, PageRef};
use proptest::prelude::*;

/// The stream of one value as instance 0.
fn stream<T: KState>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0xee; STREAM_OVERHEAD + encoded_size(value)];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(0, value).unwrap();
    assert_eq!(
        writer.finish(),
        Ok(bytes.len()),
        "the size foretold is the size taken"
    );
    bytes
}

fn get<T: KState>(bytes: &[u8]) -> Result<T, Error> {
    StreamReader::new(bytes)?.get(0)
}

#[derive(KState, Clone, Copy, Debug, PartialEq)]
enum Clock {
    Local,
    Global = 7,
    Tsc,
}

#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(nested)]
enum Owner {
    Nobody,
    Cpu(u16),
    Task {
        pid: i32,
        name: String,
        #[kstate(skip, default = 9)]
        cached: u8,
    },
}

#[derive(KState, Clone, Debug, PartialEq)]
struct PerCpu {
    owner: Owner,
    written: [u64; 2],
    #[kstate(pages)]
    reader: PageRef,
    elsewhere: PageRef,
}

#[derive(KState, Clone, Debug, PartialEq)]
struct Wrapped<T>(T, u8);

#[derive(KState, Clone, Debug, PartialEq)]
#[kstate(id = 0x30, version = 3)]
struct Everything {
    on: bool,
    clock: Clock,
    ints: Wrapped<Vec<i64>>,
    small: i8,
    wide: u128,
    count: usize,
    text: String,
    maybe: Option<Box<Clock>>,
    cpus: Vec<PerCpu>,
    #[kstate(pages)]
    pages: Vec<PageRef>,
    nothing: Vec<u32>,
    r#type: [bool; 3],
    #[kstate(skip, default = 5)]
    cache: u64,
}

fn page(pa: u64, order: u8) -> PageRef {
    PageRef::new(pa, order).unwrap()
}

fn everything() -> Everything {
    let cpu = PerCpu {
        owner: Owner::Nobody,
        written: [1, u64::MAX],
        reader: page(0x3000, 0),
        elsewhere: page(0x4000, 1),
    };
    Everything {
        on: true,
        clock: Clock::Tsc,
        ints: Wrapped(vec![i64::MIN, -1, 7], 3),
        small: -5,
        wide: u128::MAX - 1,
        count: 12,
        text: "größer".into(),
        maybe: Some(Box::new(Clock::Global)),
        cpus: vec![
            cpu.clone(),
            PerCpu {
                owner: Owner::Cpu(3),
                ..cpu.clone()
            },
            PerCpu {
                owner: Owner::Task {
                    pid: -1,
                    name: "init".into(),
                    cached: 9,
                },
                ..cpu
            },
        ],
        pages: vec![page(0x20_0000, 9), page(0x1000, 0)],
        nothing: vec![],
        r#type: [true, false, true],
        cache: 5,
    }
}

#[test]
fn everything_crosses() {
    let old = everything();
    assert_eq!(get::<Everything>(&stream(&old)), Ok(old));
}

#[test]
fn what_does_not_cross_gets_its_default() {
    let old = Everything {
        cache: 77,
        ..everything()
    };
    assert_eq!(get::<Everything>(&stream(&old)).unwrap().cache, 5);
}

#[test]
fn marked_pages_are_found() {
    let mut pages = vec![];
    for_each_page(&everything(), |p| pages.push(p));
    let reader = page(0x3000, 0);
    assert_eq!(
        pages,
        [reader, reader, reader, page(0x20_0000, 9), page(0x1000, 0)]
    );
}

#[test]
fn descriptions() {
    let desc = Everything::DESC;
    assert_eq!(
        (desc.id, desc.name, desc.version, desc.min_version),
        (0x30, "Everything", 3, 3)
    );
    assert_eq!(desc.fingerprint, desc.fingerprint_at(3));
    let fields: Vec<String> = desc
        .fields()
        .iter()
        .map(|f| format!("{}: {}", f.name, f.ty))
        .collect();
    assert_eq!(fields[1], "clock: Clock");
    assert_eq!(fields[7], "maybe: Option<Clock>");
    assert_eq!(fields[9], "pages: Vec<PageRef>");
    assert_eq!(fields[11], "type: [bool; 3]");
    assert_eq!(fields.len(), 12);
    let Body::Enum(variants) = Clock::DESC.body else {
        panic!()
    };
    assert_eq!(
        variants.iter().map(|v| v.tag).collect::<Vec<_>>(),
        [0, 7, 8]
    );
    assert_eq!(
        PerCpu::TYPE,
        TypeDesc::Described(DescRef::of::<PerCpu>("PerCpu"))
    );
    assert_ne!(Wrapped::<u8>::TYPE, Wrapped::<u16>::TYPE);
    const { assert!(ids_unique(&[Everything::DESC, v1::S::DESC])) };
    assert!(!ids_unique(&[v2::S::DESC, Everything::DESC, v1::S::DESC]));
}

#[test]
fn instances_are_apart() {
    let mut bytes = [0; 2000];
    let mut writer = StreamWriter::new(&mut bytes);
    for i in [3u32, 0, 7] {
        writer.put(i, &v1::S { a: i, b: 1 }).unwrap();
    }
    let twice = Error::EntryTwice {
        name: "S",
        id: 0x40,
        instance: 0,
    };
    assert_eq!(writer.put(0, &v1::S { a: 9, b: 9 }), Err(twice));
    writer.put(0, &everything()).unwrap();
    let used = writer.finish().unwrap();

    let reader = StreamReader::new(&bytes[..used]).unwrap();
    for i in [0, 3, 7] {
        assert_eq!(reader.get(i), Ok(v1::S { a: i, b: 1 }));
    }
    let missing = Error::EntryMissing {
        name: "S",
        id: 0x40,
        instance: 1,
    };
    assert_eq!(reader.get::<v1::S>(1), Err(missing));
    assert_eq!(
        missing.to_string(),
        "state `S` (id 0x40, instance 1) is missing in the stream; it is not restored"
    );
    assert_eq!(reader.get(0), Ok(everything()));
    let listed: Vec<_> = reader
        .entries()
        .map(|e| (e.id, e.instance, e.version))
        .collect();
    assert_eq!(
        listed,
        [(0x40, 3, 1), (0x40, 0, 1), (0x40, 7, 1), (0x30, 0, 3)]
    );
}

#[test]
fn a_stream_that_has_no_room_stays_good() {
    let value = everything();
    let size = encoded_size(&value);
    for room in 0..STREAM_OVERHEAD + 48 + size {
        let mut bytes = vec![0; room];
        let mut writer = StreamWriter::new(&mut bytes);
        let small = writer.put(1, &v1::S { a: 1, b: 2 });
        let large = writer.put(0, &value);
        match writer.finish() {
            Ok(used) => {
                let reader = StreamReader::new(&bytes[..used]).unwrap();
                assert_eq!(reader.get::<v1::S>(1).is_ok(), small.is_ok());
                assert_eq!(reader.get::<Everything>(0).is_ok(), large.is_ok());
                assert_eq!(
                    reader.entries().count(),
                    small.is_ok() as usize + large.is_ok() as usize
                );
            }
            Err(e) => assert!(
                matches!(e, Error::StreamRoom { needed, .. } if needed > room),
                "{e}"
            ),
        }
        if let Err(e) = large {
            assert!(
                matches!(e, Error::StreamRoom { needed, room: r } if needed > r && r == room),
                "{e}"
            );
        }
    }
}

/// Whatever the buffer is too small for: as many bytes as are said to be needed suffice.
#[test]
fn what_is_needed_is_said_whole() {
    let value = v1::S { a: 1, b: 2 };
    let write = |bytes: &mut [u8]| {
        let mut writer = StreamWriter::new(bytes);
        writer.put(0, &value)?;
        writer.put(1, &value)?;
        writer.finish()
    };
    let whole = write(&mut [0; 1000]).unwrap();
    let first = STREAM_OVERHEAD + encoded_size(&value);
    for room in 0..whole {
        let needed = if room < first - 8 { first } else { whole };
        assert_eq!(
            write(&mut vec![0; room]),
            Err(Error::StreamRoom { needed, room })
        );
    }
    let mut bytes = vec![0; first];
    let mut writer = StreamWriter::new(&mut bytes);
    assert_eq!(writer.put(0, &value), Ok(()));
    assert_eq!(writer.finish(), Ok(first));
}

#[test]
fn a_damaged_entry_is_named_by_its_type() {
    let good = stream(&v1::S { a: 1, b: 2 });
    let said = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        StreamReader::new(&bytes).unwrap_err().to_string()
    };
    // The last byte of its content, before the padding and the end mark.
    let entry = said(good.len() - 8 - 3);
    assert!(
        entry.starts_with("state stream: `S` (id 0x40, instance 0) has checksum 0x"),
        "{entry}"
    );
    // A fingerprint of the description, which comes first.
    let described = said(32 + 32);
    assert!(
        described.starts_with("state stream: the description of `S` (id 0x40) has checksum 0x"),
        "{described}"
    );
    // A name that is damaged itself does not reach a terminal as it is.
    let name = 32 + 32 + 8 + 3 + 2 + 2;
    assert_eq!(good[name], b'S');
    let mut bytes = good.clone();
    bytes[name] = 0x1b;
    let refused = StreamReader::new(&bytes).unwrap_err().to_string();
    assert!(refused.contains("description of `\\u{1b}`"), "{refused}");

    assert_eq!(
        StreamReader::new(&[]).unwrap_err().to_string(),
        "state stream: 0 bytes are there, fewer than the 40 of one without any entry; it is not restored"
    );
}

/// Written ahead, they make the same stream, in which a value has changed its size and another has joined.
#[test]
fn descriptions_can_be_written_ahead() {
    let first = stream(&v1::S { a: 1, b: 2 });
    let ready = StreamReader::new(&first).unwrap().descriptions();
    assert!(!ready.is_empty());
    let write = |ready: &handover::state::Descriptions, room: usize| {
        let mut bytes = vec![0xee; room];
        let mut writer = StreamWriter::with_descriptions(&mut bytes, ready);
        writer.put(0, &v1::S { a: 1, b: 2 })?;
        writer.put(1, &v1::S { a: 3, b: 4 })?;
        writer.put(
            0,
            &inner::Out::<u8> {
                list: vec![1, 2],
                last: 3,
            },
        )?;
        let used = writer.finish()?;
        bytes.truncate(used);
        Ok::<_, Error>(bytes)
    };
    let none = handover::state::Descriptions::default();
    let usual = write(&none, 4000).unwrap();
    let ahead = write(&ready, 4000).unwrap();
    assert_eq!(
        ahead, usual,
        "the first type's description comes first in both"
    );
    // One that is of no use costs its bytes, and no more.
    let other = StreamReader::new(&usual).unwrap().descriptions();
    let mut bytes = vec![0; 4000];
    let mut writer = StreamWriter::with_descriptions(&mut bytes, &other);
    writer.put(0, &v1::S { a: 5, b: 6 }).unwrap();
    let used = writer.finish().unwrap();
    assert_eq!(used, first.len() + other.len() - ready.len());
    let reader = StreamReader::new(&bytes).unwrap();
    assert_eq!(reader.get(0), Ok(v1::S { a: 5, b: 6 }));
    assert_eq!(reader.entries().count(), 1);
    // Without room it is the error that it always is.
    for room in 0..usual.len() {
        assert!(matches!(write(&ready, room), Err(Error::StreamRoom { .. })));
    }
}

mod v1 {
    use super::*;
    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 0x40)]
    pub struct S {
        pub a: u32,
        pub b: u8,
    }
}

/// A field added in the middle, for kernels from version 1 on in both directions.
mod v2 {
    use super::*;
    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 0x40, version = 2, min_version = 1, readable_by = 1)]
    pub struct S {
        pub a: u32,
        #[kstate(since = 2, default = String::from("none"))]
        pub name: String,
        pub b: u8,
    }
}

/// One deprecated, one more added.
mod v3 {
    use super::*;
    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 0x40, version = 3, min_version = 1)]
    pub struct S {
        #[kstate(deprecated = 3, default)]
        pub a: u32,
        #[kstate(since = 2, default = String::from("none"))]
        pub name: String,
        pub b: u8,
        #[kstate(since = 3, default = vec![1; 2])]
        pub more: Vec<u16>,
    }
}

/// The bump forgotten.
mod broken {
    use super::*;
    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 0x40)]
    pub struct S {
        pub a: u32,
        pub b: u16,
    }
}

#[test]
fn upgrades() {
    let s1 = stream(&v1::S { a: 1, b: 2 });
    let s2 = stream(&v2::S {
        a: 3,
        name: "x".into(),
        b: 4,
    });
    let s3 = stream(&v3::S {
        a: 5,
        name: "y".into(),
        b: 6,
        more: vec![9],
    });
    assert_eq!(
        get(&s1),
        Ok(v2::S {
            a: 1,
            name: "none".into(),
            b: 2
        })
    );
    assert_eq!(
        get(&s1),
        Ok(v3::S {
            a: 1,
            name: "none".into(),
            b: 2,
            more: vec![1, 1]
        })
    );
    assert_eq!(
        get(&s2),
        Ok(v3::S {
            a: 3,
            name: "x".into(),
            b: 4,
            more: vec![1, 1]
        })
    );
    // Deprecated: not written any more.
    assert_eq!(
        get(&s3),
        Ok(v3::S {
            a: 0,
            name: "y".into(),
            b: 6,
            more: vec![9]
        })
    );
}

#[test]
fn downgrades() {
    let s2 = stream(&v2::S {
        a: 3,
        name: "x".into(),
        b: 4,
    });
    let s3 = stream(&v3::S {
        a: 5,
        name: "y".into(),
        b: 6,
        more: vec![9],
    });
    assert_eq!(get(&s2), Ok(v1::S { a: 3, b: 4 }));
    let refused = get::<v2::S>(&s3).unwrap_err();
    assert_eq!(
        refused,
        Error::StateTooNew {
            name: "S",
            stream: 3,
            readable_by: 3,
            known: 2,
            field: Name::new("more"),
        }
    );
    assert_eq!(
        refused.to_string(),
        "state `S`: the stream has version 3, readable from version 3 on; this kernel knows version 2; they part at \
         field `more`; it is not restored"
    );
}

#[test]
fn a_forgotten_bump_is_refused_by_name() {
    let s1 = stream(&v1::S { a: 1, b: 2 });
    let refused = get::<broken::S>(&s1).unwrap_err();
    let (stream_has, known) = (v1::S::DESC.fingerprint, broken::S::DESC.fingerprint);
    let prints = format!("(fingerprint {stream_has:#x} in the stream, {known:#x} in this kernel)");
    let layout = Error::StateLayout {
        name: "S",
        version: 1,
        written: 1,
        writes: 1,
        stream: stream_has,
        known,
        at: Parting::Type {
            known: &broken::S::DESC.fields()[1],
            stream: Name::new("u8"),
        },
    };
    assert_eq!(refused, layout);
    assert_eq!(
        refused.to_string(),
        format!(
            "state `S`: both kernels call it version 1, but its fields differ, first at field `b`, which is u16 here and was \
             written as u8 {prints}: the layout changed without a version bump; it is not restored"
        )
    );
    // Where an older kernel would leave fields out: it is the newer one that has changed what they share.
    let s2 = stream(&v2::S {
        a: 3,
        name: "x".into(),
        b: 4,
    });
    let refused = get::<broken::S>(&s2).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "state `S`: the stream has version 2 and says that version 1 can read it, but what it has for that is not version 1 \
             as this kernel knows it, first at field `b`, which is u16 here and was written as u8 {prints}: the newer kernel's \
             struct changed without `since` or `deprecated`; it is not restored"
        )
    );
}

/// The first is a kernel's state, the second another's, of which it says that it reads the first's version: the sentence of the
/// refusal, without the fingerprints.
macro_rules! refusal {
    ([$($first:tt)*] = $value:expr, [$($second:tt)*]) => {{
        mod first {
            use super::*;
            $($first)*
        }
        mod second {
            use super::*;
            $($second)*
        }
        use first::*;
        let bytes = stream(&$value);
        let refused = get::<second::Of>(&bytes).unwrap_err().to_string();
        let (before, print) = refused.split_once(" (fingerprint ").unwrap_or((&refused, ""));
        match print.split_once("in this kernel)") {
            Some((_, after)) => format!("{before}{after}"),
            None => refused,
        }
    }};
}

#[test]
fn fields_that_changed_without_a_version_are_named_or_their_order_is() {
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub a: u32, pub b: u8, pub c: u8 }] = Of { a: 1, b: 2, c: 3 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { a: u32, c: u8, b: u8 }]
    );
    assert_eq!(
        refused,
        "state `Of`: both kernels call it version 1, but its fields stand in another order, from field `c` on: the layout changed \
         without a version bump; it is not restored"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub a: u32 }] = Of { a: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { a: u32, b: Vec<u8> }]
    );
    assert_eq!(
        refused,
        "state `Of`: both kernels call it version 1, but its fields differ, first at field `b`, which the stream does not have: \
         the layout changed without a version bump; it is not restored"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub a: u32, pub b: bool }] = Of { a: 1, b: true },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { b: bool }]
    );
    assert!(
        refused.contains("its fields differ, first at field `a`, which only the stream has: "),
        "{refused}"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub enum Of { No, Yes { a: u8 } }] = Of::Yes { a: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub enum Of { No, Yes { a: u16 } }]
    );
    assert!(
        refused.contains("first at variant `Yes`: the layout"),
        "{refused}"
    );
}

/// The version was raised, and what changed was not marked.
#[test]
fn a_bump_without_since_and_deprecated_says_what_to_mark() {
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub count: u32 }] = Of { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 2, min_version = 1)] pub struct Of { count: u64 }]
    );
    assert_eq!(
        refused,
        "state `Of`: the stream has version 1, and this kernel, which knows version 2, describes version 1 otherwise, first at \
         field `count`, which is u64 here and was written as u32: leave `count` as u32, with `deprecated = 2`, and add a field \
         of the new type, with `since = 2`; it is not restored"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub count: u32 }] = Of { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 2, min_version = 1)] pub struct Of { count: u32, note: String }]
    );
    assert!(
        refused.ends_with("first at field `note`, which the stream does not have: mark `note` with `since = 2`; it is not restored"),
        "{refused}"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub count: u32, pub note: String }] = Of { count: 1, note: String::new() },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 2, min_version = 1)] pub struct Of { count: u32 }]
    );
    assert!(
        refused.ends_with("first at field `note`, which only the stream has: keep `note`, with `deprecated = 2`; it is not restored"),
        "{refused}"
    );
    // Which of the later versions changed it is not known.
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub count: u32 }] = Of { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 3, min_version = 1)] pub struct Of { count: u32, note: String }]
    );
    assert!(
        refused.ends_with(
            "mark `note` with `since = N`, N being the version that changed it; it is not restored"
        ),
        "{refused}"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { pub a: u32, pub b: u32 }] = Of { a: 1, b: 2 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 2, min_version = 1)] pub struct Of { b: u32, a: u32 }]
    );
    assert!(
        refused.ends_with("describes version 1 otherwise, from field `b` on: fields stay in their order; it is not restored"),
        "{refused}"
    );
}

#[test]
fn another_type_under_an_id_is_told_from_one_that_changed() {
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Boots { pub count: u32 }] = Boots { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { name: String }]
    );
    assert_eq!(
        refused,
        "state `Of`: its id 0x41 belongs to another type in the stream, `Boots`: give each its own id; it is not restored"
    );
    // Whatever versions they have.
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41, version = 4)] pub struct Boots { pub count: u32 }] = Boots { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { name: String }]
    );
    assert!(
        refused.contains("another type in the stream, `Boots`"),
        "{refused}"
    );
    let refused = refusal!(
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Boots { pub count: u32 }] = Boots { count: 1 },
        [#[derive(KState, Debug)] #[allow(dead_code)] #[kstate(id = 0x41)] pub struct Of { count: u32 }]
    );
    assert_eq!(
        refused,
        "state `Of`: its id 0x41 belongs to `Boots` in the stream, which has the same fields: a struct that is renamed is another \
         type, so call it `Boots` as before; it is not restored"
    );
}

#[test]
fn too_old_is_refused() {
    #[derive(KState, Debug)]
    #[kstate(id = 0x40, version = 3, min_version = 2)]
    #[allow(dead_code)]
    struct S {
        a: u32,
    }
    let refused = get::<S>(&stream(&v1::S { a: 1, b: 2 })).unwrap_err();
    assert_eq!(
        refused,
        Error::StateTooOld {
            name: "S",
            stream: 1,
            min: 2,
            known: 3,
            field: Name::new("b"),
        }
    );
    assert_eq!(
        refused.to_string(),
        "state `S`: the stream has version 1; this kernel knows version 3 and reads from version 2 on; they part at field \
         `b`; it is not restored"
    );

    // Where only a field was added, without a word on what it is in older streams.
    mod added {
        use super::*;
        #[derive(KState, Debug)]
        #[kstate(id = 0x40, version = 2)]
        #[allow(dead_code)]
        pub struct S {
            pub a: u32,
            pub b: u8,
            #[kstate(since = 2)]
            pub c: u64,
        }
    }
    let refused = get::<added::S>(&stream(&v1::S { a: 1, b: 2 })).unwrap_err();
    assert!(
        refused.to_string().contains("they part at field `c`"),
        "{refused}"
    );
}

/// A deprecated field that older kernels still find, with its default.
#[test]
fn what_is_deprecated_can_be_kept_for_older_kernels() {
    mod next {
        use super::*;
        #[derive(KState, Debug, PartialEq)]
        #[kstate(id = 0x40, version = 2, min_version = 1, readable_by = 1)]
        pub struct S {
            #[kstate(deprecated = 2, for_older, default = 77)]
            pub a: u32,
            pub b: u8,
            #[kstate(since = 2, default = 5)]
            pub c: u16,
        }
    }
    /// Older kernels are forgotten.
    mod last {
        use super::*;
        #[derive(KState, Debug, PartialEq)]
        #[kstate(id = 0x40, version = 3, min_version = 1)]
        pub struct S {
            #[kstate(deprecated = 3, default = 77)]
            pub a: u32,
            pub b: u8,
            #[kstate(since = 2, default = 5)]
            pub c: u16,
        }
    }
    let first = stream(&v1::S { a: 1, b: 2 });
    let new: next::S = get(&first).unwrap();
    assert_eq!(new, next::S { a: 1, b: 2, c: 5 });
    let second = stream(&next::S { c: 9, ..new });
    assert_eq!(get(&second), Ok(v1::S { a: 77, b: 2 }));
    assert_eq!(get(&second), Ok(next::S { a: 77, b: 2, c: 9 }));
    assert_eq!(get(&second), Ok(last::S { a: 77, b: 2, c: 9 }));
    assert_eq!(get(&first), Ok(last::S { a: 1, b: 2, c: 5 }));
    let text = handover::dump::dump(&second).unwrap();
    assert!(text.contains("a: u32 = 77"), "{text}");
}

/// A described value inside another has a history of its own.
mod inner {
    use super::*;
    pub mod old {
        use super::*;
        #[derive(KState, Debug, PartialEq)]
        pub struct In {
            pub x: u8,
        }
    }
    pub mod new {
        use super::*;
        #[derive(KState, Debug, PartialEq)]
        #[kstate(nested, version = 2, min_version = 1)]
        pub struct In {
            pub x: u8,
            #[kstate(since = 2, default = 42)]
            pub y: u8,
        }
    }
    pub mod broken {
        use super::*;
        #[derive(KState, Debug, PartialEq)]
        pub struct In {
            pub x: i8,
        }
    }
    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 0x50)]
    pub struct Out<T> {
        pub list: Vec<T>,
        pub last: u8,
    }
}

/// A fingerprint as it stands inside another value.
fn folded(desc: &Desc) -> u64 {
    desc.fingerprint >> 32 ^ desc.fingerprint & 0xffff_ffff
}

#[test]
fn nested_values_have_their_own_versions() {
    use inner::*;
    let old = Out {
        list: vec![old::In { x: 1 }, old::In { x: 2 }],
        last: 3,
    };
    let new = Out {
        list: vec![new::In { x: 1, y: 42 }, new::In { x: 2, y: 42 }],
        last: 3,
    };
    let bytes = stream(&old);
    assert_eq!(
        get::<Out<new::In>>(&bytes),
        Ok(Out {
            list: new.list,
            last: 3
        })
    );
    assert_eq!(
        get::<Out<broken::In>>(&bytes),
        Err(Error::StateLayout {
            name: "In",
            version: 1,
            written: 1,
            writes: 1,
            stream: folded(&old::In::DESC),
            known: folded(&broken::In::DESC),
            at: Parting::Type {
                known: &broken::In::DESC.fields()[0],
                stream: Name::new("u8"),
            },
        })
    );
    let bytes = stream(&Out {
        list: vec![new::In { x: 1, y: 1 }],
        last: 3,
    });
    assert_eq!(
        get::<Out<old::In>>(&bytes),
        Err(Error::StateTooNew {
            name: "In",
            stream: 2,
            readable_by: 2,
            known: 1,
            field: Name::new("y"),
        })
    );
}

/// As `Raw`, but what a hostile kernel would write: same description, other bytes.
mod hostile {
    use super::*;

    /// Content written as bytes, under another type's description.
    pub struct Raw<T>(pub Vec<u8>, pub std::marker::PhantomData<T>);

    impl<T: KState> KState for Raw<T> {
        const DESC: Desc = T::DESC;
        const TYPE: TypeDesc = T::TYPE;
        const MIN_SIZE: usize = 0;
        fn save(&self, enc: &mut handover::state::Encoder<'_>) -> Result<(), Error> {
            enc.bytes(&self.0)
        }
        fn restore(dec: &mut handover::state::Decoder<'_>, _: u32) -> Result<Self, Error> {
            let left = dec.left();
            Ok(Raw(dec.bytes(left)?.to_vec(), std::marker::PhantomData))
        }
    }

    /// Restores `T` from this content, under a good checksum and description.
    pub fn get_from<T: KState>(content: &[u8]) -> Result<T, Error> {
        get(&stream(&Raw::<T>(
            content.to_vec(),
            std::marker::PhantomData,
        )))
    }
}

#[derive(KState, Debug, PartialEq)]
#[kstate(id = 0x60)]
struct One<T> {
    value: T,
}

#[test]
fn values_that_cannot_be_are_refused() {
    use hostile::get_from;
    fn fault<T: KState + std::fmt::Debug>(content: &[u8]) -> ValueFault {
        match get_from::<One<T>>(&[b"E", content].concat()).unwrap_err() {
            Error::StateValue { place, why } => {
                assert_eq!(
                    place,
                    Place {
                        of: "One",
                        field: "value"
                    }
                );
                why
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        fault::<u32>(&[1, 2, 3]),
        ValueFault::Cut { needed: 4, left: 3 }
    );
    assert_eq!(fault::<bool>(&[2]), ValueFault::Bool(2));
    assert_eq!(fault::<Option<u8>>(&[3, 1]), ValueFault::Bool(3));
    assert_eq!(fault::<String>(&[1, 0, 0, 0, 0xff]), ValueFault::Text);
    assert_eq!(fault::<String>(&[2, 0, 0, 0, b'x']), ValueFault::Length(2));
    assert_eq!(fault::<Vec<u64>>(&[0xff; 20]), ValueFault::Length(u32::MAX));
    assert_eq!(
        fault::<Vec<u64>>(&[[2, 0, 0, 0].as_slice(), &[0; 15]].concat()),
        ValueFault::Length(2)
    );
    assert_eq!(
        fault::<PageRef>(&0x1001u64.to_ne_bytes()),
        ValueFault::Page(0x1001)
    );
    assert_eq!(
        fault::<PageRef>(&0x1013u64.to_ne_bytes()),
        ValueFault::Page(0x1013)
    );
    assert_eq!(
        fault::<PageRef>(&0x1800u64.to_ne_bytes()),
        ValueFault::Page(0x1800)
    );
    assert_eq!(
        fault::<PageRef>(&(1u64 << 52).to_ne_bytes()),
        ValueFault::Page(1 << 52)
    );
    assert_eq!(
        get_from::<One<u8>>(&[b'E', 1, 2, 3]),
        Err(Error::StateLeftOver {
            name: "One",
            bytes: 2
        })
    );
    // A tag that no variant has: the head is that of the type.
    let mut enum_bytes = stream(&One {
        value: Clock::Local,
    });
    let content = StreamReader::new(&enum_bytes)
        .unwrap()
        .entries()
        .next()
        .unwrap()
        .data
        .to_vec();
    let mut bad = content.clone();
    bad[9] = 1;
    assert_eq!(
        get_from::<One<Clock>>(&bad),
        Err(Error::StateValue {
            place: Place {
                of: "Clock",
                field: ""
            },
            why: ValueFault::Tag(1)
        })
    );
    enum_bytes.clear();
    let said = get_from::<One<bool>>(&[b'E', 9]).unwrap_err().to_string();
    assert_eq!(
        said,
        "state: field `value` of `One` is 9, where only 0 or 1 can be; it is not restored"
    );
}

#[test]
fn a_page_that_cannot_be_is_not_written() {
    let mut bytes = [0; 200];
    let bad = One {
        value: PageRef {
            pa: 0x2001,
            order: 0,
        },
    };
    let refused = StreamWriter::new(&mut bytes).put(0, &bad);
    assert_eq!(refused, Err(Error::BlockUnaligned { block: bad.value }));
}

#[derive(KState, Debug)]
#[kstate(id = 0x70)]
#[allow(dead_code)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[test]
fn a_chain_without_end_is_refused() {
    let mut chain = Chain { next: None };
    for _ in 0..31 {
        chain = Chain {
            next: Some(Box::new(chain)),
        };
    }
    let bytes = stream(&chain);
    get::<Chain>(&bytes).unwrap();
    // One more is not written, so it is put in front: end of subsections, the head of the next, and `Some`.
    let good = StreamReader::new(&bytes).unwrap();
    let content = good.entries().next().unwrap().data;
    let link = content.len() / 32;
    let longer = [&content[..link], content].concat();
    let refused = hostile::get_from::<Chain>(&longer).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::StateValue {
                why: ValueFault::Depth,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn any_single_flip_in_a_stream_is_refused() {
    let good = stream(&everything());
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = get::<Everything>(&bytes)
            .expect_err("a flip was accepted")
            .to_string();
        assert!(refused.ends_with("not restored"), "{refused}");
    }
}

#[test]
fn any_cut_is_refused() {
    let good = stream(&everything());
    for len in 0..good.len() {
        assert!(StreamReader::new(&good[..len]).is_err(), "{len}");
    }
    // What follows is not looked at.
    let longer = [good.as_slice(), &[0xff; 50]].concat();
    assert_eq!(get(&longer), Ok(everything()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = get::<Everything>(&bytes);
    }

    /// Damage under a checksum that is right again, as a hostile kernel would write it.
    #[test]
    fn any_content_is_read_or_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let good = stream(&everything());
        let mut content = StreamReader::new(&good).unwrap().entries().next().unwrap().data.to_vec();
        for (at, byte) in damage {
            let at = at.index(content.len());
            content[at] = byte;
        }
        if let Some(cut) = cut {
            content.truncate(cut.index(content.len()));
        }
        // What is accepted is a value of the type: it crosses again as it is.
        if let Ok(value) = hostile::get_from::<Everything>(&content) {
            prop_assert_eq!(get::<Everything>(&stream(&value)), Ok(value));
        }
    }

    #[test]
    fn random_content_is_read_or_refused(mut content in prop::collection::vec(any::<u8>(), 1..300), mark in any::<bool>()) {
        if mark {
            content[0] = b'E';
        }
        let _ = hostile::get_from::<Everything>(&content);
        let _ = hostile::get_from::<Chain>(&content);
        let _ = hostile::get_from::<One<Vec<[u64; 100]>>>(&content);
        let _ = hostile::get_from::<One<Vec<Option<[u64; 100]>>>>(&content);
    }

    #[test]
    fn values_cross_unchanged(
        a in any::<u32>(), b in any::<u8>(), name in ".*", list in prop::collection::vec(any::<(i64, bool)>(), 0..50),
    ) {
        let s = v2::S { a, name, b };
        let bytes = stream(&s);
        prop_assert_eq!(get::<v2::S>(&bytes), Ok(s));
        let ints: Vec<_> = list.iter().map(|(i, some)| some.then_some(Wrapped(*i, 1))).collect();
        let one = One { value: ints };
        prop_assert_eq!(get(&stream(&one)), Ok(one));
    }
}

/// Holds itself, with nothing between but the box.
#[derive(KState, Debug, PartialEq)]
#[kstate(id = 0x4f)]
enum Expr {
    Num(u64),
    Neg(Box<Expr>),
    Sum([Box<Expr>; 2]),
    Named(BTreeMap<u8, Expr>),
}

#[test]
fn a_type_may_hold_itself() {
    let value = Expr::Sum([
        Box::new(Expr::Neg(Box::new(Expr::Num(7)))),
        Box::new(Expr::Named(BTreeMap::from([(1, Expr::Num(8))]))),
    ]);
    let bytes = stream(&value);
    assert_eq!(get(&bytes), Ok(value));
    let text = handover::dump::dump(&bytes).unwrap();
    assert!(text.contains("Neg") && text.contains("= 8\n"), "{text}");

    let nested = |depth| (1..depth).fold(Expr::Num(1), |inner, _| Expr::Neg(Box::new(inner)));
    assert_eq!(get(&stream(&nested(MAX_DEPTH))), Ok(nested(MAX_DEPTH)));
    // What nobody would read is not written.
    let mut bytes = vec![0; 2000];
    let refused = StreamWriter::new(&mut bytes)
        .put(0, &nested(MAX_DEPTH + 1))
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "state `Expr`: more than 32 described values stand inside each other; the entry is not written"
    );
}
