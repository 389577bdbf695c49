//! Descriptions of what crosses, and their fingerprints. Everything here is computed at compile time.

use core::fmt;

use super::KState;

/// Most versions that a stream may be readable by at once: `version - readable_by` stays below this.
pub const MAX_SPAN: u32 = 64;

/// The type of a described value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeDesc {
    /// `bool`: one byte, 0 or 1.
    Bool,
    /// An unsigned integer of so many bits, native-endian. (`usize` crosses as 64 bits.)
    Unsigned(u8),
    /// A signed integer of so many bits, native-endian. (`isize` crosses as 64 bits.)
    Signed(u8),
    /// Text: u32 length in bytes, then UTF-8.
    Text,
    /// A block of pages: u64, its physical address with its order in the low bits.
    Page,
    /// So many values, one after another.
    Array(&'static TypeDesc, usize),
    /// u32 count, then the values.
    List(&'static TypeDesc),
    /// A byte, 0 or 1, then the value if 1.
    Optional(&'static TypeDesc),
    /// A physical address as its distance from a base that each kernel has its own of: u64.
    Offset,
    /// A range of physical memory: u64 first byte, u64 byte after the last.
    Memory,
    /// u32 count, the heads of key and value, then key and value of each element, the keys ascending.
    Map(&'static TypeDesc, &'static TypeDesc),
    /// A struct or enum with a description of its own: u32 version and u32 fingerprint (folded), then its content.
    Described(DescRef),
}

impl TypeDesc {
    /// Whether a [`PageRef`](crate::page::PageRef) can be found in the value without going into another description.
    pub const fn holds_pages(&self) -> bool {
        match self {
            TypeDesc::Page | TypeDesc::Memory => true,
            TypeDesc::Map(key, value) => key.holds_pages() || value.holds_pages(),
            TypeDesc::Array(inner, _) | TypeDesc::List(inner) | TypeDesc::Optional(inner) => {
                inner.holds_pages()
            }
            _ => false,
        }
    }

    const fn hash(&self, h: Fnv) -> Fnv {
        match self {
            TypeDesc::Bool => h.byte(1),
            TypeDesc::Unsigned(bits) => h.byte(2).byte(*bits),
            TypeDesc::Signed(bits) => h.byte(3).byte(*bits),
            TypeDesc::Text => h.byte(4),
            TypeDesc::Page => h.byte(5),
            TypeDesc::Array(inner, len) => inner.hash(h.byte(6).number(*len as u64)),
            TypeDesc::List(inner) => inner.hash(h.byte(7)),
            TypeDesc::Optional(inner) => inner.hash(h.byte(8)),
            TypeDesc::Described(desc) => h.byte(9).text(desc.name),
            TypeDesc::Offset => h.byte(10),
            TypeDesc::Memory => h.byte(11),
            TypeDesc::Map(key, value) => value.hash(key.hash(h.byte(12))),
        }
    }
}

/// As a field of that type is written in Rust: `Vec<PageRef>`.
impl fmt::Display for TypeDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypeDesc::Bool => f.write_str("bool"),
            TypeDesc::Unsigned(bits) => write!(f, "u{bits}"),
            TypeDesc::Signed(bits) => write!(f, "i{bits}"),
            TypeDesc::Text => f.write_str("String"),
            TypeDesc::Page => f.write_str("PageRef"),
            TypeDesc::Array(inner, len) => write!(f, "[{inner}; {len}]"),
            TypeDesc::List(inner) => write!(f, "Vec<{inner}>"),
            TypeDesc::Optional(inner) => write!(f, "Option<{inner}>"),
            TypeDesc::Described(desc) => f.write_str(desc.name),
            TypeDesc::Offset => f.write_str("Offset"),
            TypeDesc::Memory => f.write_str("PhysRange"),
            TypeDesc::Map(key, value) => write!(f, "BTreeMap<{key}, {value}>"),
        }
    }
}

/// A type's description, looked up when it is asked for: a type may hold itself (in a `Vec`, a `BTreeMap` or a `Box`, up to
/// [`MAX_DEPTH`](super::MAX_DEPTH) values inside each other), so that its description cannot hold itself as a value.
#[derive(Clone, Copy)]
pub struct DescRef {
    /// Name of the struct or enum.
    pub name: &'static str,
    find: fn() -> (&'static Desc, &'static str),
}

fn find<T: KState>() -> (&'static Desc, &'static str) {
    (const { &T::DESC }, core::any::type_name::<T>())
}

impl DescRef {
    /// The description of `T`, which is called `name`.
    pub const fn of<T: KState>(name: &'static str) -> Self {
        DescRef {
            name,
            find: find::<T>,
        }
    }

    /// The description.
    pub fn desc(&self) -> &'static Desc {
        (self.find)().0
    }

    /// The type's name with its path and parameters, which tells `Pair<u8>` from `Pair<u16>`.
    pub fn full_name(&self) -> &'static str {
        (self.find)().1
    }
}

/// The same type.
impl PartialEq for DescRef {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.full_name() == other.full_name()
    }
}

impl Eq for DescRef {}

impl fmt::Debug for DescRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.full_name())
    }
}

/// A field of a struct or of an enum's variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDesc {
    /// Its name; a number in a tuple struct.
    pub name: &'static str,
    /// Its type.
    pub ty: TypeDesc,
    /// First version that has it.
    pub since: u32,
    /// First version that has it no more; 0 while it is in use.
    pub deprecated: u32,
    /// Whether the pages named in it are handed over with it.
    pub pages: bool,
    /// Whether it is a subsection: in the stream where it has a value, and skipped by a kernel that does not know it. It
    /// counts for no version and no fingerprint.
    pub section: bool,
}

impl FieldDesc {
    /// Whether a stream of this version holds the field.
    pub const fn is_in(&self, version: u32) -> bool {
        self.since <= version && (self.deprecated == 0 || version < self.deprecated)
    }
}

/// A variant of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantDesc {
    /// Its name.
    pub name: &'static str,
    /// What stands for it in the stream.
    pub tag: u32,
    /// First version that has it.
    pub since: u32,
    /// What it holds.
    pub fields: &'static [FieldDesc],
}

/// What a description describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A value without versions: an integer, a list, and so on.
    Value,
    /// A struct; its fields in the order of the stream, which is by `since`, then as declared.
    Struct(&'static [FieldDesc]),
    /// An enum: u32 tag, then the variant's fields.
    Enum(&'static [VariantDesc]),
}

/// The description of a type that crosses; [`derive(KState)`](handover_derive::KState) writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desc {
    /// State id, unique in the kernel; 0 for a type that crosses only as a part of others.
    pub id: u32,
    /// Name of the struct or enum.
    pub name: &'static str,
    /// The version that is written.
    pub version: u32,
    /// The oldest version that is read.
    pub min_version: u32,
    /// The oldest version of the description whose kernels can read what is written now, by leaving out the fields that
    /// they do not know.
    pub readable_by: u32,
    /// Fields or variants.
    pub body: Body,
    /// Fingerprint of `version`.
    pub fingerprint: u64,
}

impl Desc {
    /// The description of a value without versions.
    pub const fn value(name: &'static str) -> Self {
        Desc {
            id: 0,
            name,
            version: 0,
            min_version: 0,
            readable_by: 0,
            body: Body::Value,
            fingerprint: 0,
        }
    }

    /// The same with its fingerprint computed.
    pub const fn sealed(mut self) -> Self {
        self.fingerprint = self.fingerprint_at(self.version);
        self
    }

    /// Fields of a struct; none for anything else.
    pub const fn fields(&self) -> &'static [FieldDesc] {
        match self.body {
            Body::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// The fingerprint of the layout that the type had, or has, in `version`: a 64-bit FNV-1a over its name, the version,
    /// and name and type of each field that a stream of that version holds (for an enum: name, tag and fields of each
    /// variant). A described type inside counts by its name: it carries version and fingerprint of its own.
    pub const fn fingerprint_at(&self, version: u32) -> u64 {
        let mut h = Fnv::NEW.text(self.name).number(version as u64);
        match self.body {
            Body::Value => {}
            Body::Struct(fields) => h = hash_fields(h.byte(1), fields, version),
            Body::Enum(variants) => {
                h = h.byte(2);
                let mut i = 0;
                while i < variants.len() {
                    let v = &variants[i];
                    if v.since <= version {
                        h = h.text(v.name).number(v.tag as u64);
                        h = hash_fields(h, v.fields, version);
                    }
                    i += 1;
                }
            }
        }
        h.0
    }
}

const fn hash_fields(mut h: Fnv, fields: &[FieldDesc], version: u32) -> Fnv {
    let mut i = 0;
    while i < fields.len() {
        let field = &fields[i];
        if field.is_in(version) && !field.section {
            h = field.ty.hash(h.text(field.name));
        }
        i += 1;
    }
    h.byte(0xff)
}

/// Whether no two of the descriptions have the same state id. For a `const` assertion over all of a kernel's states.
pub const fn ids_unique(descs: &[Desc]) -> bool {
    let mut i = 0;
    while i < descs.len() {
        let mut j = 0;
        while j < i {
            if descs[i].id == descs[j].id {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

/// What stands for a subsection in the stream: the FNV-1a of its name, folded to 32 bits.
pub const fn section_key(name: &str) -> u32 {
    let hash = Fnv::NEW.text(name).0;
    (hash >> 32) as u32 ^ hash as u32
}

/// FNV-1a, 64 bits.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const NEW: Fnv = Fnv(0xcbf2_9ce4_8422_2325);

    const fn byte(self, byte: u8) -> Fnv {
        Fnv((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    const fn number(mut self, n: u64) -> Fnv {
        let bytes = n.to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }

    /// The text and its length, so that two texts in a row cannot be split another way.
    const fn text(mut self, text: &str) -> Fnv {
        let bytes = text.as_bytes();
        self = self.number(bytes.len() as u64);
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }
}
