//! Types that cannot cross, and what to write instead.

use syn::{Path, Type};

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

/// Of a type that is known by its name. The macro sees no more than that, so one's own type of the same name is told by its
/// path: `self::Cell` is left to the compiler, which knows whether it crosses.
fn named(path: &Path) -> Option<String> {
    let first = path.segments.first()?.ident.to_string();
    if matches!(first.as_str(), "self" | "Self" | "crate" | "super") {
        return None;
    }
    let last = path.segments.last()?.ident.to_string();
    if path.segments.len() == 1
        && let Some(instead) = primitive(&last)
    {
        return Some(instead.to_owned());
    }
    let instead = match last.as_str() {
        "HashMap" => "its order differs from life to life: write BTreeMap",
        "HashSet" => "its order differs from life to life: write Vec",
        "Rc" | "Arc" | "RefCell" | "Cell" | "Mutex" | "RwLock" | "Once" => {
            "what is shared or locked now is not so in the next life: hand over a copy of its value \
             (#[kstate(with = MODULE)]), or write #[kstate(skip, default = EXPR)]"
        }
        "Instant" => {
            "its clock starts anew: hand over a u64 in units that the next kernel knows, too"
        }
        name if is_atomic(name) => {
            "hand over what it holds: #[kstate(with = MODULE)] whose `save` loads it"
        }
        _ => return None,
    };
    Some(format!(
        "{instead}; if it is a type of your own, write its path from self, super or crate on (self::{last})"
    ))
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
