//! Types that cannot cross, and what to write instead.

use syn::{Ident, Path, Type};

/// What to write instead of a type that no kernel can make sense of in another life.
pub fn cannot_cross(ty: &Type) -> Option<String> {
    let instead = match ty {
        Type::Reference(_) => {
            "a borrow cannot cross a kexec: own the value (String, Vec, Box), or hand over its pages (PageRef)"
        }
        Type::Ptr(_) => {
            "a pointer means nothing to the next kernel: write Box<T> to hand over what it points to, PageRef for pages, or \
             keep a u64 with #[kstate(offset_from = BASE)]"
        }
        Type::BareFn(_) => {
            "the next kernel has its functions elsewhere: hand over an enum that says which one, or write \
             #[kstate(skip, default = EXPR)]"
        }
        Type::Tuple(tuple) if tuple.elems.is_empty() => {
            "nothing is in it that could cross: write #[kstate(skip, default = ())]"
        }
        Type::Tuple(_) => {
            "a tuple has no names for its parts: write a struct with #[derive(KState)]"
        }
        Type::Slice(_) => "a slice has no length of its own: write Vec<T> or [T; N]",
        Type::Path(path) => return named(&path.path),
        _ => return None,
    };
    Some(instead.to_owned())
}

/// Of a type of the language itself that is known by its name.
fn named(path: &Path) -> Option<String> {
    let only = path.get_ident()?.to_string();
    primitive(&only).map(str::to_owned)
}

/// The trait in `handover::state::derived::by_name` that a type of this name is asked for. Whether it is std's, which cannot cross, or
/// one's own, which the derive has given that trait, is not to be seen here; the compiler knows. A path from self, super or crate on
/// is not std's.
pub fn suspected(ty: &Type) -> Option<&'static str> {
    let Type::Path(path) = ty else { return None };
    let first = path.path.segments.first()?.ident.to_string();
    if matches!(first.as_str(), "self" | "Self" | "crate" | "super") {
        return None;
    }
    suspected_name(&path.path.segments.last()?.ident)
}

/// The same of a name.
pub fn suspected_name(name: &Ident) -> Option<&'static str> {
    Some(match name.to_string().as_str() {
        "HashMap" => "Map",
        "HashSet" => "Set",
        "Rc" | "Arc" | "RefCell" | "Cell" | "UnsafeCell" | "OnceCell" | "LazyCell" | "Once"
        | "OnceLock" | "LazyLock" => "Shared",
        // Every kernel has its own of these.
        name if name.ends_with("Mutex") || name.ends_with("RwLock") || is_spinlock(name) => {
            "Shared"
        }
        "Instant" => "Clock",
        name if is_atomic(name) => "Atomic",
        _ => return None,
    })
}

fn is_spinlock(name: &str) -> bool {
    name.ends_with("SpinLock") || name.ends_with("Spinlock")
}

fn primitive(name: &str) -> Option<&'static str> {
    Some(match name {
        "f32" | "f64" => {
            "floating point is not described: hand over its bits as an integer (#[kstate(with = MODULE)])"
        }
        "char" => "write u32 with #[kstate(with = MODULE)], or String",
        "str" => "write String",
        _ => return None,
    })
}

fn is_atomic(name: &str) -> bool {
    name.strip_prefix("Atomic").is_some_and(|of| {
        matches!(
            of,
            "Bool"
                | "Ptr"
                | "Isize"
                | "Usize"
                | "I8"
                | "I16"
                | "I32"
                | "I64"
                | "I128"
                | "U8"
                | "U16"
                | "U32"
                | "U64"
                | "U128"
        )
    })
}
