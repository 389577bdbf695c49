//! Declared state (KSTATE): structs that describe themselves, and streams of them.
//!
//! [`derive(KState)`](handover_derive::KState) turns a struct's declaration into its description, and into saving and
//! restoring; [`StreamWriter`] puts values into a stream, [`StreamReader`] gets them out of one that is not trusted.
//!
//! A stream, all numbers native-endian:
//!
//! ```text
//! header    magic "BTNSTATE", u32 format, u32 entries, u64 total bytes, u32 crc32 (of the header), u32 0
//! entry     u32 id, u32 instance, u32 version, u32 readable_by, u64 size, u32 crc32, u32 0,
//!           u64 fingerprint for each version from readable_by to version,
//!           content (size bytes), zeroes up to a multiple of 8
//! ...
//! end mark  "STATEEND"
//! ```
//!
//! The content of a struct is its subsections that have a value, an end mark ('E'), and the fields that the version has,
//! by `since` and then as declared, without padding; [`TypeDesc`] says how each type is written. A subsection is an 'S',
//! the u32 [`section_key`] of its name, the u32 size of what follows, and the value. The content of an enum is the u32 tag
//! of the variant and its fields. A described value inside another (or a list of them) is preceded by its own version
//! and fingerprint, so that it has its own history.
//!
//! Before the first entry of an id stands one with id 0, whose instance is that id and whose content is the description
//! of its type: [`dump`](crate::dump) makes a stream readable with it, and a refusal names the field at which two
//! kernels part. The format of the description is at the head of `state/table.rs`. It is written without a heap, too, or ahead of
//! time ([`Descriptions`]): then all of them stand before the first entry.
//!
//! The format's number is [`STREAM_FORMAT`]. It was 1 before there were descriptions and subsections; no released kernel
//! wrote that, so it is refused ([`Error::StreamFormat`]), not read.
//!
//! # Which declaration stands for which kind of KSTATE's
//!
//! | kind | declaration |
//! | --- | --- |
//! | base value | `bool`, `u8` to `u128`, `i8` to `i128`, `usize`, `isize`, `String` |
//! | nested struct, enum with data | a type with `#[derive(KState)]`, generic too |
//! | pointer, followed | `Box<T>`, `Option<Box<T>>` |
//! | array; array of pointers with a count | `[T; N]`, `Vec<T>`; `Vec<Box<T>>` |
//! | map | `BTreeMap<K, V>` |
//! | address stored as an offset | `#[kstate(offset_from = BASE)]` |
//! | pages | `#[kstate(pages)]` on `PageRef` and what holds them |
//! | reserved memory | `PhysRange`, with `#[kstate(pages)]` to hand its pages over |
//! | custom save and restore | `#[kstate(with = MODULE)]` |
//! | deprecated field | `#[kstate(deprecated = N, default)]` |
//! | optional subsection | `#[kstate(subsection)]` on an `Option` |
//! | end mark | written after a struct's subsections, and after the last entry |
//!
//! # Outcomes
//!
//! What becomes of an entry that is got:
//!
//! | in the stream | outcome |
//! | --- | --- |
//! | the version that this kernel writes, same fingerprint | restored |
//! | older, from `min_version` on, fingerprint as this kernel describes that version | restored; younger fields get their `default` |
//! | older than `min_version` | refused: [`Error::StateTooOld`] |
//! | newer, and `readable_by` is not above this kernel's version, fingerprint of that version the same | restored; what is younger is left out |
//! | newer otherwise | refused: [`Error::StateTooNew`] |
//! | any of these with another fingerprint | refused: [`Error::StateLayout`], which says where the two descriptions part |
//! | of a struct of another name under the id, so another type | refused: [`Error::StateOther`] |
//! | subsection that is not there | restored as `None` |
//! | subsection that this kernel does not know | skipped |
//! | missing; twice | refused: [`Error::EntryMissing`]; [`Error::EntryTwice`] |
//! | of another type than the description under its id | restored, if it is what is asked for; a dump does not read it: [`Error::EntryDescription`] |
//! | an id that nobody gets | left alone; [`StreamReader::entries`] lists it |
//! | one that is damaged | the whole stream is refused: [`Error::EntryCrc`] |
//!
//! What cannot work is refused when it is compiled, with a sentence that says what to write instead:
//!
//! ```compile_fail
//! # use handover::state::{KState, StreamWriter};
//! #[derive(KState)] // an entry needs `#[kstate(id = ...)]`
//! struct NoId(u8);
//! StreamWriter::new(&mut []).put(0, &NoId(1)).unwrap();
//! ```
//!
//! ```compile_fail
//! # use handover::state::KState;
//! #[derive(KState)]
//! struct Pointer(*const u8); // `*const u8` cannot cross a kexec: it has no `KState`
//! ```
//!
//! ```compile_fail
//! # use handover::state::KState;
//! #[derive(KState)]
//! #[kstate(id = 1, version = 2, min_version = 1)]
//! struct NoDefault {
//!     #[kstate(since = 2)] // write #[kstate(since = 2, default = EXPR)]
//!     new: u8,
//! }
//! ```
//!
//! ```compile_fail
//! # use handover::state::KState;
//! #[derive(KState)]
//! struct NotOptional {
//!     #[kstate(subsection)] // a subsection may be absent, so its field is an `Option`: write `Option<u8>`
//!     extra: u8,
//! }
//! ```
//!
//! ```compile_fail
//! # use handover::state::KState;
//! #[derive(KState)]
//! struct NoNames {
//!     pair: (u8, u8), // a tuple has no names for its parts: write a struct with #[derive(KState)]
//! }
//! ```
//!
//! ```compile_fail,E0277
//! # use handover::state::KState;
//! # use core::cell::Cell;
//! #[derive(KState)]
//! struct Local {
//!     // hand over a copy of its value (#[kstate(with = MODULE)]); a type of your own of that name crosses with `#[derive(KState)]`
//!     count: Cell<u32>,
//! }
//! ```
//!
//! ```compile_fail,E0277
//! # use handover::state::KState;
//! mod nothing {}
//! #[derive(KState)]
//! struct Somebodys {
//!     #[kstate(with = nothing)] // the module that `with` names has no `pub type Wire`, which says what the field crosses as
//!     count: core::cell::Cell<u32>,
//! }
//! ```
//!
//! ```compile_fail,E0277
//! # use handover::state::KState;
//! mod one_way {
//!     pub type Wire = u32;
//!     pub fn save(count: &core::cell::Cell<u32>) -> Wire {
//!         count.get()
//!     }
//! }
//! #[derive(KState)]
//! struct Somebodys {
//!     #[kstate(with = one_way)] // ... has no `pub fn restore(wire: Wire) -> Result<core::cell::Cell<u32>, &'static str>`
//!     count: core::cell::Cell<u32>,
//! }
//! ```
//!
//! ```compile_fail
//! # use handover::state::{KState, for_each_page};
//! #[derive(KState)]
//! struct NoPages(#[kstate(pages)] u64); // `pages` is for a PageRef, or a list ... of them
//! for_each_page(&NoPages(1), |_| ());
//! ```

mod ahead;
mod codec;
mod desc;
mod holdings;
mod parting;
mod places;
mod stream;
pub(crate) mod table;
mod values;

pub use ahead::Descriptions;
pub use codec::{Decoder, Encoder, MAX_DEPTH, Section};
pub use desc::{
    Body, Desc, DescRef, FieldDesc, MAX_SPAN, TypeDesc, VariantDesc, ids_unique, section_key,
};
pub use handover_derive::KState;
pub use places::{Address, Base, Offset, check_pages};
pub use stream::{Entries, Entry, STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
pub use table::MAX_TYPES;

use crate::error::Error;
use crate::page::PageRef;

/// Version of the stream's format.
pub const STREAM_FORMAT: u32 = 2;

/// A value that can cross a kexec.
///
/// [`derive(KState)`](handover_derive::KState) implements it; by hand it is written only for a value that needs its own
/// form. Implementations save exactly what they restore, and saving does not allocate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot cross a kexec: it has no `KState`",
    label = "not described",
    note = "bool, integers, String, PageRef, PhysRange, and arrays, Vec, BTreeMap, Option and Box of what can cross do so as they are",
    note = "write `#[derive(KState)]` above your own type; turn pointers into page references or offsets, and tuples into structs",
    note = "a type of somebody else's crosses as one that can: `#[kstate(with = MODULE)]`; what need not cross: `#[kstate(skip, default = EXPR)]`"
)]
pub trait KState: Sized {
    /// What it is, for entries and people.
    const DESC: Desc;
    /// What it is as a field of something else.
    const TYPE: TypeDesc;
    /// Fewest bytes that a value takes, in any version that is read. Counts are held against it before anything is
    /// allocated.
    const MIN_SIZE: usize;
    /// Bytes that [`save_head`](KState::save_head) writes.
    const HEAD_SIZE: usize = 0;

    /// Writes what precedes a value, or a list of them, inside another: version and fingerprint of a described type.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    fn save_head(enc: &mut Encoder<'_>) -> Result<(), Error> {
        let _ = enc;
        Ok(())
    }

    /// Reads that; gives the version for [`restore`](KState::restore).
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::head`].
    fn restore_head(dec: &mut Decoder<'_>) -> Result<u32, Error> {
        let _ = dec;
        Ok(0)
    }

    /// Writes the value. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`Error::StreamRoom`].
    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error>;

    /// Reads a value of this version. Nothing that is read is trusted.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] and those of [`Decoder::head`].
    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error>;

    /// Calls `f` with each page that is handed over with the value: those in fields marked `#[kstate(pages)]`, here and
    /// in described values inside. `owned` says that the field which holds this value is marked.
    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        let _ = (owned, f);
    }
}

/// Calls `f` with each page that is handed over with a value, to preserve it or to claim it.
pub fn for_each_page<T: KState>(value: &T, mut f: impl FnMut(PageRef)) {
    value.pages(false, &mut f);
}

/// What the derive macro's code needs of this crate.
#[doc(hidden)]
pub mod derived {
    use super::codec::HEAD_SIZE;
    pub use core::default::Default;
    pub use core::option::Option::{None, Some};
    pub use core::result::Result::{self, Err, Ok};

    pub use super::desc::section_key;
    use super::{Decoder, Encoder, KState};
    use crate::error::Error;
    use crate::page::PageRef;

    /// A field that is a subsection.
    #[diagnostic::on_unimplemented(
        message = "a subsection may be absent, so its field is an `Option`: write `Option<{Self}>`",
        label = "not an `Option`"
    )]
    pub trait Subsection: Sized {
        /// What crosses.
        type Inner: KState;
        /// The value, if there is one.
        fn value(&self) -> Option<&Self::Inner>;
    }

    impl<T: KState> Subsection for Option<T> {
        type Inner = T;
        fn value(&self) -> Option<&T> {
            self.as_ref()
        }
    }

    /// Carries the `Wire` of a module that `with` names.
    pub trait CrossesAs {
        /// What crosses.
        type Wire: KState;
    }

    /// What is found where the module that `with` names does not have it: a sentence that says what to write.
    pub mod missing {
        /// Is of no type.
        #[diagnostic::on_unimplemented(
            message = "the module that `with` names has no `pub type Wire`, which says what the field crosses as",
            label = "has no `pub type Wire`",
            note = "write in it `pub type Wire = TYPE;`, with a type that can cross, as u64 for an AtomicU64",
            note = "beside it belong `pub fn save(field: &FIELD) -> Wire` and `pub fn restore(wire: Wire) -> Result<FIELD, &'static str>`"
        )]
        pub trait HasWire {
            /// What crosses.
            type Wire: super::KState;
        }

        /// What crosses, if there were a module that says it.
        pub type Wire<Module = ()> = <Module as HasWire>::Wire;

        /// Is of no type.
        #[diagnostic::on_unimplemented(
            message = "the module that `with` names has no `pub fn save(field: &{Self}) -> Wire`",
            label = "has no `pub fn save`",
            note = "write in it a function that makes of the field what crosses: `pub fn save(field: &{Self}) -> Wire {{ ... }}`"
        )]
        pub trait HasSave {
            /// What crosses.
            fn save<Wire>(&self) -> Wire;
        }

        /// Makes of a field what crosses, if there were a module that says how.
        pub fn save<Field: HasSave, Wire>(field: &Field) -> Wire {
            field.save()
        }

        /// Is of no type.
        #[diagnostic::on_unimplemented(
            message = "the module that `with` names has no `pub fn restore(wire: Wire) -> Result<{Self}, &'static str>`",
            label = "has no `pub fn restore`",
            note = "write in it a function that makes the field anew, or says why it cannot: `pub fn restore(wire: Wire) -> \
                    Result<{Self}, &'static str> {{ ... }}`"
        )]
        pub trait HasRestore: Sized {
            /// The field anew.
            fn restore<Wire>(wire: Wire) -> Result<Self, &'static str>;
        }

        /// Makes a field anew of what crossed, if there were a module that says how.
        pub fn restore<Field: HasRestore, Wire>(wire: Wire) -> Result<Field, &'static str> {
            Field::restore(wire)
        }
    }

    /// Types with the names of such as cannot cross. The derive gives one's own of that name the trait; any other is told what to
    /// write instead of it.
    pub mod by_name {
        use super::{Decoder, Encoder, Error, KState, PageRef};

        macro_rules! by_name {
            ($($what:literal, $name:ident: $instead:literal;)*) => { $(
                #[doc = $what]
                #[diagnostic::on_unimplemented(
                    message = "`{Self}` cannot cross a kexec",
                    label = $instead,
                    note = "a type of your own of that name crosses with `#[derive(KState)]` above it; where it is `KState` without \
                            the derive, or another name of a type, write its path from self, super or crate on, as in `self::Cell`"
                )]
                pub trait $name: Sized {
                    /// What crosses: itself.
                    type Itself: KState;
                    /// As that of `KState`.
                    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error>;
                    /// As that of `KState`.
                    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error>;
                    /// As that of `KState`.
                    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef));
                }
            )* };
        }

        by_name! {
            "`HashMap`.", Map: "its order differs from life to life: write BTreeMap";
            "`HashSet`.", Set: "its order differs from life to life: write Vec";
            "What is shared or locked.", Shared: "what is shared or locked now is not so in the next life: hand over a copy of its \
                value (#[kstate(with = MODULE)]), or write #[kstate(skip, default = EXPR)]";
            "`Instant`.", Clock: "its clock starts anew: hand over a u64 in units that the next kernel knows, too";
            "`AtomicU64` and the like.", Atomic: "hand over what it holds: #[kstate(with = MODULE)] whose `save` loads it";
        }
    }

    /// Writes a subsection.
    pub fn save_section<S: Subsection>(
        name: &str,
        field: &S,
        enc: &mut Encoder<'_>,
    ) -> Result<(), Error> {
        enc.section(section_key(name), field.value())
    }

    /// Bytes of a described type's head.
    pub const HEAD: usize = HEAD_SIZE;

    /// The smallest of an enum's variants.
    pub const fn smallest(sizes: &[usize]) -> usize {
        let mut least = usize::MAX;
        let mut i = 0;
        while i < sizes.len() {
            if sizes[i] < least {
                least = sizes[i];
            }
            i += 1;
        }
        if sizes.is_empty() { 0 } else { least }
    }
}
