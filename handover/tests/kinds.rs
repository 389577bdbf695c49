//! The field kinds beyond plain values: maps, offsets, reserved memory, custom forms, subsections; and the text of a dump.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use handover::dump::dump;
use handover::error::{PageFault, ValueFault};
use handover::state::{
    Decoder, Desc, Encoder, KState, STREAM_OVERHEAD, StreamReader, StreamWriter, TypeDesc,
    check_pages, encoded_size, for_each_page,
};
use handover::{Error, PageRef, PhysRange};

fn stream<T: KState>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0xee; STREAM_OVERHEAD + encoded_size(value)];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(0, value).unwrap();
    assert_eq!(writer.finish(), Ok(bytes.len()));
    bytes
}

fn get<T: KState>(bytes: &[u8]) -> Result<T, Error> {
    StreamReader::new(bytes)?.get(0)
}

/// Content as it is, under the description of `T`.
struct Raw<T>(Vec<u8>, std::marker::PhantomData<T>);

impl<T: KState> KState for Raw<T> {
    const DESC: Desc = T::DESC;
    const TYPE: TypeDesc = T::TYPE;
    const MIN_SIZE: usize = 0;
    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.bytes(&self.0)
    }
    fn restore(_: &mut Decoder<'_>, _: u32) -> Result<Self, Error> {
        unreachable!("only written")
    }
}

fn fault<T: KState + std::fmt::Debug>(content: &[u8]) -> ValueFault {
    match get::<T>(&stream(&Raw::<T>(
        content.to_vec(),
        std::marker::PhantomData,
    ))) {
        Err(Error::StateValue { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

fn content(bytes: &[u8]) -> Vec<u8> {
    let reader = StreamReader::new(bytes).unwrap();
    reader.entries().next().unwrap().data.to_vec()
}

mod counter {
    use super::*;
    pub type Wire = u64;
    pub fn save(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
    pub fn restore(count: u64) -> Result<AtomicU64, &'static str> {
        match count {
            0..1000 => Ok(AtomicU64::new(count)),
            _ => Err("counts higher than anybody can"),
        }
    }
}

#[derive(KState, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Name(String),
    Number(u8),
}

#[derive(KState, Debug, PartialEq)]
struct Leaf {
    x: i16,
}

#[derive(KState, Debug, PartialEq)]
#[kstate(id = 0x80)]
struct Map {
    map: BTreeMap<Key, Leaf>,
    plain: Vec<BTreeMap<u8, Option<Box<Leaf>>>>,
}

#[test]
fn maps_cross() {
    let leaf = |x| Leaf { x };
    let value = Map {
        map: [
            (Key::Number(1), leaf(-1)),
            (Key::Name("b".into()), leaf(2)),
            (Key::Name("a".into()), leaf(3)),
        ]
        .into(),
        plain: vec![
            BTreeMap::new(),
            [(1, None), (9, Some(Box::new(leaf(5))))].into(),
        ],
    };
    assert_eq!(get(&stream(&value)), Ok(value));
}

#[derive(KState, Debug)]
#[kstate(id = 0x81)]
#[allow(dead_code)]
struct Ascending(BTreeMap<u8, u8>);

#[test]
fn keys_that_do_not_ascend_are_refused() {
    for keys in [[1, 1], [2, 1]] {
        let content = [b'E', 2, 0, 0, 0, keys[0], 7, keys[1], 7];
        assert_eq!(fault::<Ascending>(&content), ValueFault::KeyOrder);
    }
    assert_eq!(
        fault::<Ascending>(&[b'E', 2, 0, 0, 0, 1, 7, 2]),
        ValueFault::Length(2)
    );
}

thread_local! {
    static BASE: std::cell::Cell<u64> = const { std::cell::Cell::new(0x1000) };
}

fn image() -> std::ops::Range<u64> {
    BASE.get()..BASE.get() + 0x100
}

#[derive(KState, Debug, PartialEq)]
#[kstate(id = 0x82)]
struct Places {
    #[kstate(offset_from = image())]
    function: u64,
    #[kstate(offset_from = BASE.get())]
    anywhere: usize,
    #[kstate(pages)]
    reserved: PhysRange,
}

#[test]
fn an_offset_survives_another_load_address() {
    let old = Places {
        function: 0x1010,
        anywhere: 0x9000,
        reserved: PhysRange::new(0x1800, 0x4000),
    };
    let bytes = stream(&old);
    BASE.set(0x20_0000);
    let new = Places {
        function: 0x20_0010,
        anywhere: 0x20_8000,
        reserved: PhysRange::new(0x1800, 0x4000),
    };
    assert_eq!(get(&bytes), Ok(new));
    // What lies outside its base is not written, and not believed.
    let mut room = [0; 500];
    let refused = StreamWriter::new(&mut room).put(0, &old).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "state: field `function` of `Places` is address 0x1010, outside of [0x200000, 0x200100); the entry is not written"
    );
    let mut bad = content(&bytes);
    bad[1..9].copy_from_slice(&0x100u64.to_ne_bytes());
    assert_eq!(fault::<Places>(&bad), ValueFault::Offset(0x100));
    bad[1..9].copy_from_slice(&0u64.to_ne_bytes());
    bad[9..17].copy_from_slice(&u64::MAX.to_ne_bytes());
    assert_eq!(fault::<Places>(&bad), ValueFault::Offset(u64::MAX));
}

#[test]
fn reserved_memory_is_handed_over() {
    let value = Places {
        function: 0x1000,
        anywhere: 0x1000,
        reserved: PhysRange::new(0x1800, 0x4000),
    };
    let mut pages = vec![];
    for_each_page(&value, |p| pages.push((p.pa, p.order)));
    assert_eq!(pages, [(0x1000, 0), (0x2000, 1)]);
    let mut bad = content(&stream(&value));
    bad[17..25].copy_from_slice(&0x5000u64.to_ne_bytes());
    assert_eq!(
        fault::<Places>(&bad),
        ValueFault::Memory {
            start: 0x5000,
            end: 0x4000
        }
    );
    // Nor is it written.
    let range = PhysRange::new(0x5000, 0x4000);
    let backward = Places {
        reserved: range,
        ..value
    };
    let put = StreamWriter::new(&mut [0; 1000]).put(0, &backward);
    assert_eq!(put, Err(Error::RangeBackward { range }));
}

#[test]
fn pages_are_checked_before_anybody_touches_them() {
    let mut value = Places {
        function: 0x1000,
        anywhere: 0x1000,
        reserved: PhysRange::new(0x1000, 0x4000),
    };
    let ram = [PhysRange::new(0, 0x2000), PhysRange::new(0x2000, 0x4000)];
    check_pages(&value, &ram, |_| true).unwrap();
    let why = |result: Result<(), Error>| match result {
        Err(Error::StatePage { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let preserved = why(check_pages(&value, &ram, |p| p.pa != 0x2000));
    assert_eq!(preserved, PageFault::NotPreserved);
    value.reserved.end = 0x5000;
    let refused = check_pages(&value, &ram, |_| true);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "state `Places`: its page 0x4000 (order 0) is not in RAM; it is not restored"
    );

    #[derive(KState)]
    #[kstate(id = 0x83)]
    struct Two(#[kstate(pages)] [PageRef; 2]);
    let two = Two([
        PageRef {
            pa: 0x2000,
            order: 1,
        },
        PageRef {
            pa: 0x3000,
            order: 0,
        },
    ]);
    assert_eq!(why(check_pages(&two, &ram, |_| true)), PageFault::Twice);
}

#[derive(KState, Debug)]
#[kstate(id = 0x84)]
struct Custom {
    #[kstate(with = counter)]
    count: AtomicU64,
    after: u8,
}

#[test]
fn a_custom_form_crosses() {
    let old = Custom {
        count: AtomicU64::new(12),
        after: 1,
    };
    let bytes = stream(&old);
    let new: Custom = get(&bytes).unwrap();
    assert_eq!((new.count.into_inner(), new.after), (12, 1));
    old.count.store(1000, Ordering::Relaxed);
    assert_eq!(
        get::<Custom>(&stream(&old)).unwrap_err().to_string(),
        "state: field `count` of `Custom` counts higher than anybody can; it is not restored"
    );
}

mod plain {
    use super::*;
    #[derive(KState, Clone, Debug, PartialEq)]
    #[kstate(nested)]
    pub struct Inner {
        pub a: u8,
    }
    #[derive(KState, Clone, Debug, PartialEq)]
    #[kstate(id = 0x85)]
    pub struct Outer {
        pub inner: Vec<Inner>,
        pub last: u16,
    }
}

/// The same version and layout, with subsections.
mod extended {
    use super::*;
    #[derive(KState, Clone, Debug, PartialEq)]
    #[kstate(nested)]
    pub struct Inner {
        pub a: u8,
        #[kstate(subsection)]
        pub note: Option<String>,
    }
    #[derive(KState, Clone, Debug, PartialEq)]
    #[kstate(nested)]
    pub struct Extra {
        #[kstate(pages)]
        pub page: PageRef,
    }
    #[derive(KState, Clone, Debug, PartialEq)]
    #[kstate(id = 0x85)]
    pub struct Outer {
        pub inner: Vec<Inner>,
        #[kstate(subsection)]
        pub extra: Option<Box<Extra>>,
        #[kstate(subsection, pages)]
        pub more: Option<Vec<PageRef>>,
        pub last: u16,
    }
}

fn with_sections() -> extended::Outer {
    let page = PageRef {
        pa: 0x7000,
        order: 0,
    };
    extended::Outer {
        inner: vec![
            extended::Inner {
                a: 1,
                note: Some("x".into()),
            },
            extended::Inner { a: 2, note: None },
        ],
        extra: Some(Box::new(extended::Extra { page })),
        more: Some(vec![page; 2]),
        last: 3,
    }
}

#[test]
fn subsections_are_skipped_by_who_does_not_know_them() {
    let new = with_sections();
    let old = plain::Outer {
        inner: vec![plain::Inner { a: 1 }, plain::Inner { a: 2 }],
        last: 3,
    };
    let mut pages = 0;
    for_each_page(&new, |_| pages += 1);
    assert_eq!(pages, 3);
    assert_eq!(get(&stream(&new)), Ok(new.clone()));
    assert_eq!(get(&stream(&new)), Ok(old.clone()));
    let without = extended::Outer {
        inner: old
            .inner
            .iter()
            .map(|i| extended::Inner { a: i.a, note: None })
            .collect(),
        extra: None,
        more: None,
        last: 3,
    };
    assert_eq!(get(&stream(&old)), Ok(without));
}

#[test]
fn damaged_subsections_are_refused() {
    use extended::Inner;
    #[derive(KState, Debug)]
    #[kstate(id = 0x86)]
    #[allow(dead_code)]
    struct One {
        #[kstate(subsection)]
        note: Option<u8>,
    }
    let good = content(&stream(&One { note: Some(7) }));
    assert_eq!(good.len(), 1 + 4 + 4 + 1 + 1);
    let twice = [&good[..10], &good].concat();
    assert_eq!(fault::<One>(&twice), ValueFault::SectionTwice);
    let mut longer = good.clone();
    longer[5] = 2;
    longer.insert(9, 0);
    assert_eq!(fault::<One>(&longer), ValueFault::LeftOver(1));
    let mut size = good.clone();
    size[5..9].fill(0xff);
    assert_eq!(fault::<One>(&size), ValueFault::Length(u32::MAX));
    assert_eq!(fault::<One>(b"x"), ValueFault::Mark(b'x'));
    assert_eq!(fault::<One>(b""), ValueFault::Cut { needed: 1, left: 0 });
    let _ = Inner { a: 0, note: None };
}

#[derive(KState, Debug)]
#[kstate(id = 0x87, version = 2, min_version = 1)]
struct Gone {
    #[kstate(deprecated = 2, default)]
    old: u8,
    chain: Option<Box<Link>>,
    word: i32,
    wide: u128,
    bytes: [u8; 18],
}

#[derive(KState, Debug)]
struct Link {
    next: Option<Box<Link>>,
}

#[test]
fn a_dump_needs_no_struct() {
    let gone = Gone {
        old: 1,
        chain: Some(Box::new(Link {
            next: Some(Box::new(Link { next: None })),
        })),
        word: -5,
        wide: u128::MAX,
        bytes: [7; 18],
    };
    assert_eq!(gone.old, 1);
    let mut bytes = vec![0; 4000];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(3, &gone).unwrap();
    writer.put(0, &with_sections()).unwrap();
    writer.put(1, &with_sections()).unwrap();
    let maps = Map {
        map: [(Key::Name("a\u{7}".into()), Leaf { x: -1 })].into(),
        plain: vec![],
    };
    writer.put(0, &maps).unwrap();
    let used = writer.finish().unwrap();
    let text = dump(&bytes[..used]).unwrap();
    let outer = "\
Outer (id 0x85, instance 0), version 1, readable from version 1 on, 88 bytes
  extra: subsection Extra = Extra (version 1)
    page: PageRef, handed over = 0x7000 (order 0)
  more: subsection Vec<PageRef> = [0x7000 (order 0), 0x7000 (order 0)]
  inner: Vec<Inner> = 2 elements
    [0] = Inner (version 1)
      note: subsection String = \"x\"
      a: u8 = 1
    [1] = Inner (version 1)
      a: u8 = 2
  last: u16 = 3
";
    let wanted = format!(
        "\
Gone (id 0x87, instance 3), version 2, readable from version 2 on, 68 bytes
  chain: Option<Link> = Some Link (version 1)
    next: Option<Link> = Some Link (version 1)
      next: Option<Link> = None
  word: i32 = -5
  wide: u128 = 340282366920938463463374607431768211455
  bytes: [u8; 18] = [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7]
{outer}{}Map (id 0x80, instance 0), version 1, readable from version 1 on, 38 bytes
  map: BTreeMap<Key, Leaf> = 1 elements
    Name
      0: String = \"a\\u{{7}}\"
    => Leaf (version 1)
      x: i16 = -1
  plain: Vec<BTreeMap<u8, Option<Leaf>>> = 0 elements
",
        outer.replace("instance 0", "instance 1")
    );
    assert_eq!(text, wanted);
}

#[test]
fn a_dump_of_damage_says_where() {
    let text = dump(&stream(&Raw::<Map>(
        vec![b'E', 1, 0, 0, 0, 9],
        std::marker::PhantomData,
    )))
    .unwrap();
    assert!(text.contains("not readable from here on"), "{text}");
    let good = stream(&with_sections());
    assert!(dump(&good[..good.len() - 1]).is_err());
}

/// A table costs what it says, once for each type, however many values there are.
#[test]
fn a_table_is_small() {
    let one = encoded_size(&with_sections());
    let mut bytes = vec![0; 4000];
    let mut writer = StreamWriter::new(&mut bytes);
    for instance in 0..4 {
        writer.put(instance, &with_sections()).unwrap();
    }
    let used = writer.finish().unwrap();
    let table = (4 * one + STREAM_OVERHEAD - used) / 3;
    assert!(table <= 200, "{table} bytes for three types of six fields");
}

mod same_id {
    use handover::state::KState;

    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 5)]
    pub struct Alpha {
        pub a: u8,
    }

    #[derive(KState, Debug, PartialEq)]
    #[kstate(id = 5)]
    pub struct Beta {
        pub a: u8,
        pub b: u8,
    }
}

const ALPHA: same_id::Alpha = same_id::Alpha { a: 1 };
const BETA: same_id::Beta = same_id::Beta { a: 2, b: 3 };

#[test]
fn two_types_under_one_id_are_refused() {
    let mut bytes = [0; 1000];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(0, &ALPHA).unwrap();
    for instance in [0, 1] {
        let refused = writer.put(instance, &BETA).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "state `Beta`: its id 0x5 is that of another type in the stream, `Alpha`: give each its own id; the entry is not \
             written"
        );
    }
    writer.put(1, &ALPHA).unwrap();
    let used = writer.finish().unwrap();
    let good = StreamReader::new(&bytes[..used]).unwrap();
    assert_eq!(good.entries().count(), 2);
    assert_eq!(good.get(1), Ok(ALPHA));

    // Also where only the description of the other is there, written ahead.
    let mut bytes = [0; 1000];
    let mut writer = StreamWriter::with_descriptions(&mut bytes, &good.descriptions());
    assert!(matches!(
        writer.put(0, &BETA),
        Err(Error::IdTaken {
            name: "Beta",
            id: 5,
            ..
        })
    ));
    assert_eq!(writer.put(0, &ALPHA), Ok(()));
}

/// Says that it is a `Beta`, in a table that describes an `Alpha`.
struct Mixed;

impl KState for Mixed {
    const DESC: Desc = same_id::Beta::DESC;
    const TYPE: TypeDesc = same_id::Alpha::TYPE;
    const MIN_SIZE: usize = 0;
    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        BETA.save(enc)
    }
    fn restore(_: &mut Decoder<'_>, _: u32) -> Result<Self, Error> {
        unreachable!("only written")
    }
}

#[test]
fn an_entry_is_not_read_by_the_description_of_another_type() {
    // The entry of a Beta behind that of an Alpha, in one stream with right checksums.
    let (alpha, beta) = (stream(&ALPHA), stream(&BETA));
    const END: usize = 8;
    let entry = (32 + 8 + content(&beta).len()).next_multiple_of(8);
    let mut spliced = alpha[..alpha.len() - END].to_vec();
    let at = spliced.len();
    spliced.extend_from_slice(&beta[beta.len() - END - entry..]);
    let total = spliced.len() as u64;
    spliced[12..16].copy_from_slice(&3u32.to_ne_bytes());
    spliced[16..24].copy_from_slice(&total.to_ne_bytes());
    spliced[24..28].fill(0);
    let crc32 = crc32fast::hash(&spliced[..32]);
    spliced[24..28].copy_from_slice(&crc32.to_ne_bytes());
    assert_eq!(spliced[at..at + 4], 5u32.to_ne_bytes());

    let refused = "(id 0x5, instance 0), version 1, readable from version 1 on, 3 bytes\n  \
                   (not readable: state stream: entry 0x5.0 has not the version and fingerprint of the type that is described \
                   under its id, so it is another type's; it is not read by that description)\n";
    let text = dump(&spliced).unwrap();
    assert!(
        text.starts_with("Alpha (id 0x5") && text.contains("  a: u8 = 1\n"),
        "{text}"
    );
    assert!(text.ends_with(&format!("? {refused}")), "{text}");
    // So where only the table is another's.
    assert_eq!(dump(&stream(&Mixed)).unwrap(), format!("? {refused}"));
}

/// Types of one's own that are called as those of std which cannot cross.
#[derive(KState, Debug, Clone, PartialEq)]
struct Cell {
    charge: isize,
}

#[derive(KState, Debug, Clone, PartialEq)]
struct AtomicClock(u64);

#[derive(KState, Debug, Clone, PartialEq)]
#[kstate(id = 0x5a)]
struct Namesakes {
    bare: Cell,
    cell: self::Cell,
    other: crate::Cell,
    clock: AtomicClock,
    #[kstate(offset_from = 0x1000)]
    far: u64,
    #[kstate(offset_from = (1 << 20)..0x9000_0000)]
    near: u64,
    #[kstate(offset_from = 4096usize)]
    word: usize,
}

#[test]
fn own_types_may_be_called_as_those_of_std_and_bases_may_be_plain_numbers() {
    let value = Namesakes {
        bare: Cell { charge: 7 },
        cell: Cell { charge: -3 },
        other: Cell { charge: isize::MAX },
        clock: AtomicClock(5),
        far: 0x1234,
        near: 0x8000_0000,
        word: 0x2000,
    };
    let bytes = stream(&value);
    assert_eq!(get(&bytes), Ok(value.clone()));
    let text = dump(&bytes).unwrap();
    for line in [
        "charge: i64 = 7\n",
        "charge: i64 = -3\n",
        "far: Offset = base + 0x234\n",
        "near: Offset = base + 0x7ff00000\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let beyond = Namesakes {
        near: 0x9000_0000,
        ..value
    };
    let put = StreamWriter::new(&mut [0; 2000]).put(0, &beyond);
    assert!(matches!(put, Err(Error::OffsetOutside { .. })));
}

/// The `derive` and a field come out of the macro, the rest from where it is called.
macro_rules! counted {
    ($(#[$attr:meta])* struct $name:ident { $($field:ident: $ty:ty),* }) => {
        #[derive(KState, Debug, PartialEq)]
        $(#[$attr])*
        struct $name {
            count: u32,
            $($field: $ty,)*
            #[kstate(subsection)]
            note: Option<String>,
        }
    };
    (tokens [$($tokens:tt)*]) => {
        #[derive(KState, Debug, PartialEq)]
        $($tokens)*
    };
}

counted! {
    #[kstate(id = 0x71)]
    struct Counted { of: Vec<u8>, cell: Cell }
}
counted! { tokens [#[kstate(id = 0x72)] struct Passed { of: Vec<u8>, cell: Cell }] }

#[test]
fn a_struct_made_by_a_macro_crosses() {
    let counted = Counted {
        count: 1,
        of: vec![2],
        cell: Cell { charge: 3 },
        note: Some("four".into()),
    };
    let passed = Passed {
        of: vec![5],
        cell: Cell { charge: 6 },
    };
    let size = STREAM_OVERHEAD + encoded_size(&counted) + encoded_size(&passed);
    let mut bytes = vec![0; size];
    let mut writer = StreamWriter::new(&mut bytes);
    writer.put(0, &counted).unwrap();
    writer.put(0, &passed).unwrap();
    assert_eq!(writer.finish(), Ok(size));
    let reader = StreamReader::new(&bytes).unwrap();
    assert_eq!(reader.get(0), Ok(counted));
    assert_eq!(reader.get(0), Ok(passed));
}
