//! Types that cannot cross, and what to write instead.

use syn::Type;

/// What to write instead of a type that no kernel can make sense of in another life.
pub fn cannot_cross(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Reference(_) => Some(
            "a borrow cannot cross a kexec: own the value (String, Vec, Box), or hand over its pages (PageRef)",
        ),
        Type::Ptr(_) => Some(
            "a pointer means nothing to the next kernel: write Box<T> to hand over what it points to, PageRef for pages, or \
             keep a u64 with #[kstate(offset_from = BASE)]",
        ),
        Type::BareFn(_) => Some(
            "the next kernel has its functions elsewhere: hand over an enum that says which one, or write \
             #[kstate(skip, default = EXPR)]",
        ),
        Type::Tuple(tuple) if tuple.elems.is_empty() => {
            Some("nothing is in it that could cross: write #[kstate(skip, default = ())]")
        }
        Type::Tuple(_) => {
            Some("a tuple has no names for its parts: write a struct with #[derive(KState)]")
        }
        Type::Slice(_) => Some("a slice has no length of its own: write Vec<T> or [T; N]"),
        Type::Path(path) => {
            let last = path.path.segments.last()?.ident.to_string();
            Some(match last.as_str() {
                "f32" | "f64" => {
                    "floating point is not described: hand over its bits as an integer (#[kstate(with = MODULE)])"
                }
                "char" => "write u32 with #[kstate(with = MODULE)], or String",
                "isize" => "its size differs between machines: write i64",
                "str" => "write String",
                "HashMap" => "its order differs from life to life: write BTreeMap",
                "HashSet" => "its order differs from life to life: write Vec",
                "Rc" | "Arc" | "RefCell" | "Cell" | "Mutex" | "RwLock" | "Once" => {
                    "what is shared or locked now is not so in the next life: hand over a copy of its value \
                     (#[kstate(with = MODULE)]), or write #[kstate(skip, default = EXPR)]"
                }
                "Instant" => {
                    "its clock starts anew: hand over a u64 in units that the next kernel knows, too"
                }
                name if name.starts_with("Atomic") => {
                    "hand over what it holds: #[kstate(with = MODULE)] whose `save` loads it"
                }
                _ => return None,
            })
        }
        _ => None,
    }
}
