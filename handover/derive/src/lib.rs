//! `#[derive(KState)]` for the crate `handover`.
//!
//! Two steps, one file each: `attrs` reads the attributes and refuses what contradicts itself, each time saying what
//! to write instead (`instead` knows that for types); `expand` writes the implementation.

mod attrs;
mod expand;
mod instead;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Describes a struct or enum, so that its values can cross a kexec: implements `handover::state::KState`.
///
/// On the struct or enum, `#[kstate(...)]`:
///
/// | | |
/// | --- | --- |
/// | `id = 0x21` | state id, unique in the kernel, not 0: values can be entries of a stream. Without it they cross only inside others (`nested` says so aloud) |
/// | `version = 2` | the version that is written; 1 where absent |
/// | `min_version = 1` | the oldest version that is read; `version` where absent |
/// | `readable_by = 1` | (structs) the oldest version whose kernels may read what is written now, leaving out fields that they do not know; `version` where absent |
///
/// On a field:
///
/// | | |
/// | --- | --- |
/// | `since = 2` | first version that has it; 1 where absent |
/// | `default = EXPR`, `default` | its value where the stream does not have it; without `EXPR`, `Default::default()` |
/// | `deprecated = 3` | first version that does not have it any more: it is read from older streams, and not written |
/// | `deprecated = 3, for_older` | from version 3 on it means nothing, and its default is written in its place, so that kernels before 3 can read the stream (`readable_by`); the default is not to allocate |
/// | `pages` | the pages named in it (`PageRef`, or lists of them) are handed over with the value |
/// | `subsection` | of an `Option`: in the stream where it is `Some`, and skipped by a kernel that does not know it; added and taken away without a new version |
/// | `offset_from = EXPR` | of an address (u64, usize): it crosses as its distance from this base, which each kernel has its own of: a u64 or usize, or a range of them, which also says how far (`0x1000..0x9000`) |
/// | `with = MODULE` | it crosses as `MODULE::Wire`, made by `MODULE::save(&field) -> Wire`, and read by `MODULE::restore(Wire) -> Result<Field, &'static str>` |
/// | `skip` | it does not cross; its `default` is restored |
///
/// On a variant: `since = 2`; `tag = 7`, what stands for it in the stream (else its discriminant, else one more than the
/// variant before).
///
/// Versions go up by one whenever fields, their types or their order change. A change without that is found by the
/// fingerprint, and the entry is refused.
#[proc_macro_derive(KState, attributes(kstate))]
pub fn derive_kstate(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    attrs::Described::read(&input)
        .map(|described| expand::implementation(&described))
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
