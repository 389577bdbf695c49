//! What the attributes' reader refuses, and the words in which it does.

use super::*;

fn refusal(source: &str) -> String {
    let input: DeriveInput = syn::parse_str(source).unwrap();
    match Described::read(&input) {
        Ok(_) => panic!("accepted: {source}"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn refusals_say_what_to_write() {
    for (source, said) in [
        ("#[kstate(id = 0)] struct S;", "write a number from 1 on"),
        (
            "#[kstate(id = \"x\")] struct S;",
            "a plain number belongs here, as in `version = 2`",
        ),
        ("#[kstate(id)] struct S;", "a plain number belongs here"),
        ("#[kstate(id = 99999999999)] struct S;", "at most 32 bits"),
        ("#[kstate(id = 1, id = 2)] struct S;", "leave one out"),
        (
            "#[kstate(id = 1, nested)] struct S;",
            "write one of the two",
        ),
        ("#[kstate(nested = 1)] struct S;", "stands alone"),
        ("#[kstate(version = 0)] struct S;", "versions begin at 1"),
        (
            "#[kstate(vresion = 2)] struct S;",
            "it knows id, nested, version, min_version, readable_by",
        ),
        (
            "#[kstate(readable_by = 1)] enum E { A }",
            "it knows id, nested, version, min_version",
        ),
        (
            "#[kstate(version = 2, min_version = 3)] struct S;",
            "write at most 2",
        ),
        (
            "#[kstate(version = 2, readable_by = 3)] struct S;",
            "does not fit version = 2",
        ),
        (
            "#[kstate(version = 100, readable_by = 1)] struct S;",
            "at least 37",
        ),
        ("struct S<'a> { a: &'a u8 }", "own the value"),
        ("union U { a: u8 }", "write an enum"),
        ("enum E {}", "no value that could cross"),
        (
            "struct S { #[kstate(since = 2)] a: u8 }",
            "write version = 2 on the struct",
        ),
        (
            "#[kstate(version = 2, min_version = 1)] struct S { #[kstate(since = 2)] a: u8 }",
            "write #[kstate(since = 2, default = EXPR)]",
        ),
        (
            "struct S { #[kstate(since = 0)] a: u8 }",
            "versions begin at 1",
        ),
        (
            "#[kstate(version = 3)] struct S { #[kstate(since = 2, deprecated = 2, default)] a: u8 }",
            "can be deprecated from 3 on",
        ),
        (
            "struct S { #[kstate(deprecated = 2, default)] a: u8 }",
            "write version = 2 on the struct",
        ),
        (
            "#[kstate(version = 2)] struct S { #[kstate(deprecated = 2)] a: u8 }",
            "write #[kstate(deprecated = 2, default = EXPR)]",
        ),
        (
            "#[kstate(version = 2, readable_by = 1)] struct S { #[kstate(deprecated = 2, default)] a: u8 }",
            "write readable_by = 2 on the struct, or `for_older` here",
        ),
        (
            "struct S { #[kstate(for_older)] a: u8 }",
            "leave out `for_older`, or write `deprecated`",
        ),
        ("struct S { #[kstate(skip)] a: u8 }", "skip, default = EXPR"),
        (
            "struct S { #[kstate(skip, default, pages)] a: u8 }",
            "leave this out",
        ),
        (
            "struct S { #[kstate(page)] a: u8 }",
            "it knows since, default, deprecated, for_older, pages, skip, subsection, with, offset_from",
        ),
        ("struct S { a: *mut u8 }", "write Box<T>"),
        ("struct S { a: &'static str }", "own the value"),
        ("struct S { a: fn() }", "an enum that says which one"),
        ("struct S { a: (u8, u8) }", "write a struct"),
        ("struct S { a: () }", "skip, default = ()"),
        ("struct S { a: f64 }", "hand over its bits"),
        (
            "struct S { #[kstate(with = \"nope\")] a: u64 }",
            "as in `with = counter`; in it are `type Wire`",
        ),
        (
            "struct S { #[kstate(with)] a: u64 }",
            "a module's path belongs here",
        ),
        (
            "struct S { #[kstate(default = 3)] a: u8 }",
            "no default is ever used: leave it out",
        ),
        (
            "struct S { #[kstate(subsection, default)] a: Option<u8> }",
            "leave out all but `subsection`",
        ),
        (
            "#[kstate(version = 2)] struct S { #[kstate(subsection, since = 2)] a: Option<u8> }",
            "whatever the version",
        ),
        (
            "enum E { A { #[kstate(subsection)] a: Option<u8> } }",
            "put its fields into a struct",
        ),
        (
            "struct S { #[kstate(with = m, offset_from = 1)] a: u64 }",
            "crosses in one form",
        ),
        (
            "struct S { #[kstate(skip, default, with = m)] a: u64 }",
            "crosses in no form",
        ),
        (
            "struct S { #[kstate(default = 1, default)] a: u8 }",
            "leave one out",
        ),
        (
            "enum E { #[kstate(since = 2)] A }",
            "write version = 2 on the enum",
        ),
        ("enum E { A = 1, B = 1 }", "tag 1 is that of `A` already"),
        ("enum E { A = 1 + 1 }", "write #[kstate(tag = N)]"),
        ("enum E { #[kstate(default)] A }", "it knows since, tag"),
        (
            "#[kstate(version = 2)] enum E { A { #[kstate(since = 2)] a: u8 } }",
            "write a new variant",
        ),
    ] {
        let refused = refusal(source);
        assert!(refused.contains(said), "{source}: {refused}");
    }
}

#[test]
fn tags_go_on_from_the_one_before() {
    let source = "enum E { A, B = 5, C, #[kstate(tag = 2)] D = 1 + 1, F }";
    let Body::Enum(variants) = Described::read(&syn::parse_str(source).unwrap())
        .unwrap_or_else(|e| panic!("{e}"))
        .body
    else {
        panic!("not an enum");
    };
    let tags: Vec<u32> = variants.iter().map(|v| v.tag).collect();
    assert_eq!(tags, [0, 5, 6, 2, 3]);
}

#[test]
fn a_type_is_suspected_by_its_name_until_its_path_begins_here() {
    for (ty, by_name) in [
        ("Cell<u8>", Some("Shared")),
        ("core::cell::Cell<u8>", Some("Shared")),
        ("std::sync::Arc<u8>", Some("Shared")),
        ("HashMap<u8, u8>", Some("Map")),
        ("HashSet<u8>", Some("Set")),
        ("Instant", Some("Clock")),
        ("AtomicU64", Some("Atomic")),
        ("IrqMutex<u8>", Some("Shared")),
        ("spin::Mutex<u8>", Some("Shared")),
        ("IrqSpinLock<u8>", Some("Shared")),
        ("lock_api::RwLock<R, u8>", Some("Shared")),
        ("OnceLock<u8>", Some("Shared")),
        ("DoorLock", None),
        ("self::Cell", None),
        ("crate::clock::Instant", None),
        ("AtomicClock", None),
        ("u64", None),
    ] {
        let read: Type = syn::parse_str(ty).unwrap();
        assert_eq!(crate::instead::suspected(&read), by_name, "{ty}");
    }
}

/// What is asked for the trait of its name is used by that alone: as a `KState` it would be found fault with once more.
#[test]
fn a_suspected_type_is_found_fault_with_once() {
    let read = syn::parse_str("struct S { lock: IrqMutex<u8> }").unwrap();
    let described = Described::read(&read).unwrap_or_else(|e| panic!("{e}"));
    let code = crate::expand::implementation(&described).to_string();
    let asked = "< IrqMutex < u8 > as :: handover :: state :: derived :: by_name :: Shared >";
    for call in [
        "save (& self . lock , enc)",
        "restore (dec , head)",
        "pages (& self . lock , false , f)",
    ] {
        assert!(
            code.contains(&format!("{asked} :: {call}")),
            "{call}: {code}"
        );
    }
    assert_eq!(code.matches("& self . lock").count(), 2, "{code}");
    assert!(
        !code.contains("< IrqMutex < u8 > as :: handover :: state :: KState >"),
        "{code}"
    );
}
