//! The values that cross as they are: integers, texts, lists, pages.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Decoder, Desc, Encoder, KState, TypeDesc};
use crate::error::{Error, ValueFault};
use crate::page::PageRef;

macro_rules! integers {
    ($($ty:ident: $kind:ident($bits:literal)),* $(,)?) => { $(
        impl KState for $ty {
            const DESC: Desc = Desc::value(stringify!($ty));
            const TYPE: TypeDesc = TypeDesc::$kind($bits);
            const MIN_SIZE: usize = size_of::<$ty>();

            fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
                enc.bytes(&self.to_ne_bytes())
            }

            fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
                dec.array().map($ty::from_ne_bytes)
            }
        }
    )* };
}

integers! {
    u8: Unsigned(8), u16: Unsigned(16), u32: Unsigned(32), u64: Unsigned(64), u128: Unsigned(128),
    i8: Signed(8), i16: Signed(16), i32: Signed(32), i64: Signed(64), i128: Signed(128),
}

/// Crosses as a u64.
impl KState for usize {
    const DESC: Desc = Desc::value("usize");
    const TYPE: TypeDesc = TypeDesc::Unsigned(64);
    const MIN_SIZE: usize = 8;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.u64(*self as u64)
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let n = dec.u64()?;
        usize::try_from(n).map_err(|_| dec.fault(ValueFault::Range(n)))
    }
}

/// Crosses as an i64.
impl KState for isize {
    const DESC: Desc = Desc::value("isize");
    const TYPE: TypeDesc = TypeDesc::Signed(64);
    const MIN_SIZE: usize = 8;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.u64(*self as i64 as u64)
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let n = dec.u64()?;
        isize::try_from(n as i64).map_err(|_| dec.fault(ValueFault::Range(n)))
    }
}

impl KState for bool {
    const DESC: Desc = Desc::value("bool");
    const TYPE: TypeDesc = TypeDesc::Bool;
    const MIN_SIZE: usize = 1;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.bytes(&[u8::from(*self)])
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        match dec.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(dec.fault(ValueFault::Bool(other))),
        }
    }
}

/// The bits of a stored page that hold its order; a page's address has them free.
const ORDER_BITS: u64 = 0xff;

impl KState for PageRef {
    const DESC: Desc = Desc::value("PageRef");
    const TYPE: TypeDesc = TypeDesc::Page;
    const MIN_SIZE: usize = 8;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        // An order in bits that the address uses would be read as another block.
        self.check()?;
        enc.u64(self.pa | u64::from(self.order))
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let raw = dec.u64()?;
        let order = (raw & ORDER_BITS) as u8;
        PageRef::new(raw & !ORDER_BITS, order).map_err(|_| dec.fault(ValueFault::Page(raw)))
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        if owned {
            f(*self);
        }
    }
}

impl KState for String {
    const DESC: Desc = Desc::value("String");
    const TYPE: TypeDesc = TypeDesc::Text;
    const MIN_SIZE: usize = 4;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.count(self.len())?;
        enc.bytes(self.as_bytes())
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let len = dec.count(1)?;
        let bytes = dec.bytes(len)?;
        let text = core::str::from_utf8(bytes).map_err(|_| dec.fault(ValueFault::Text))?;
        let mut owned = String::new();
        owned
            .try_reserve_exact(len)
            .map_err(|_| dec.fault(ValueFault::NoHeap))?;
        owned.push_str(text);
        Ok(owned)
    }
}

/// Takes `count` elements. Memory grows with what has really been read, so that a count alone takes none.
fn restore_list<T: KState>(
    dec: &mut Decoder<'_>,
    version: u32,
    count: usize,
) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    let fits = dec.left() / size_of::<T>().max(1);
    let no_heap = dec.fault(ValueFault::NoHeap);
    list.try_reserve_exact(count.min(fits))
        .map_err(|_| no_heap)?;
    for _ in 0..count {
        let value = T::restore(dec, version)?;
        list.try_reserve(1).map_err(|_| no_heap)?;
        list.push(value);
    }
    Ok(list)
}

impl<T: KState> KState for Vec<T> {
    const DESC: Desc = Desc::value("Vec");
    const TYPE: TypeDesc = TypeDesc::List(&T::TYPE);
    const MIN_SIZE: usize = 4;
    const HEAD_SIZE: usize = T::HEAD_SIZE;

    fn save_head(enc: &mut Encoder<'_>) -> Result<(), Error> {
        T::save_head(enc)
    }

    fn restore_head(dec: &mut Decoder<'_>) -> Result<u32, Error> {
        T::restore_head(dec)
    }

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        const {
            assert!(
                T::MIN_SIZE > 0,
                "a Vec of values that take no bytes cannot cross"
            )
        };
        enc.count(self.len())?;
        self.iter().try_for_each(|value| value.save(enc))
    }

    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error> {
        let count = dec.count(T::MIN_SIZE)?;
        restore_list(dec, version, count)
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        self.iter().for_each(|value| value.pages(owned, f));
    }
}

impl<T: KState, const N: usize> KState for [T; N] {
    const DESC: Desc = Desc::value("array");
    const TYPE: TypeDesc = TypeDesc::Array(&T::TYPE, N);
    const MIN_SIZE: usize = T::MIN_SIZE * N;
    const HEAD_SIZE: usize = T::HEAD_SIZE;

    fn save_head(enc: &mut Encoder<'_>) -> Result<(), Error> {
        T::save_head(enc)
    }

    fn restore_head(dec: &mut Decoder<'_>) -> Result<u32, Error> {
        T::restore_head(dec)
    }

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        self.iter().try_for_each(|value| value.save(enc))
    }

    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error> {
        let list = restore_list(dec, version, N)?;
        // The list has exactly N elements.
        list.try_into().map_err(|_| dec.fault(ValueFault::NoHeap))
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        self.iter().for_each(|value| value.pages(owned, f));
    }
}

impl<T: KState> KState for Option<T> {
    const DESC: Desc = Desc::value("Option");
    const TYPE: TypeDesc = TypeDesc::Optional(&T::TYPE);
    const MIN_SIZE: usize = 1;
    const HEAD_SIZE: usize = T::HEAD_SIZE;

    fn save_head(enc: &mut Encoder<'_>) -> Result<(), Error> {
        T::save_head(enc)
    }

    fn restore_head(dec: &mut Decoder<'_>) -> Result<u32, Error> {
        T::restore_head(dec)
    }

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        self.is_some().save(enc)?;
        self.iter().try_for_each(|value| value.save(enc))
    }

    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error> {
        match bool::restore(dec, 0)? {
            true => T::restore(dec, version).map(Some),
            false => Ok(None),
        }
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        self.iter().for_each(|value| value.pages(owned, f));
    }
}

/// A pointer is followed: what it points to crosses.
impl<T: KState> KState for Box<T> {
    const DESC: Desc = Desc::value("Box");
    const TYPE: TypeDesc = T::TYPE;
    /// Not that of `T`, which may hold this box: its own size would hang on itself.
    const MIN_SIZE: usize = 1;
    const HEAD_SIZE: usize = T::HEAD_SIZE;

    fn save_head(enc: &mut Encoder<'_>) -> Result<(), Error> {
        T::save_head(enc)
    }

    fn restore_head(dec: &mut Decoder<'_>) -> Result<u32, Error> {
        T::restore_head(dec)
    }

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        const {
            assert!(
                T::MIN_SIZE > 0,
                "a Box of a value that takes no bytes cannot cross"
            )
        };
        T::save(self, enc)
    }

    fn restore(dec: &mut Decoder<'_>, version: u32) -> Result<Self, Error> {
        T::restore(dec, version).map(Box::new)
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        T::pages(self, owned, f);
    }
}

/// Key and value have their own heads, so those stand behind the count. A map that is nested in a list has them in each.
impl<K: KState + Ord, V: KState> KState for BTreeMap<K, V> {
    const DESC: Desc = Desc::value("BTreeMap");
    const TYPE: TypeDesc = TypeDesc::Map(&K::TYPE, &V::TYPE);
    const MIN_SIZE: usize = 4 + K::HEAD_SIZE + V::HEAD_SIZE;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        const {
            assert!(
                K::MIN_SIZE + V::MIN_SIZE > 0,
                "a BTreeMap of keys and values that take no bytes cannot cross"
            )
        };
        enc.count(self.len())?;
        K::save_head(enc)?;
        V::save_head(enc)?;
        self.iter().try_for_each(|(key, value)| {
            key.save(enc)?;
            value.save(enc)
        })
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let count = dec.count(K::MIN_SIZE + V::MIN_SIZE)?;
        let (key_version, value_version) = (K::restore_head(dec)?, V::restore_head(dec)?);
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let key = K::restore(dec, key_version)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(dec.fault(ValueFault::KeyOrder));
            }
            let value = V::restore(dec, value_version)?;
            map.insert(key, value);
        }
        Ok(map)
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        for (key, value) in self {
            key.pages(owned, f);
            value.pages(owned, f);
        }
    }
}
