//! Values that name places in memory: ranges, and addresses that cross as offsets.

use core::ops::Range;

use super::{Decoder, Desc, Encoder, KState, TypeDesc};
use crate::error::{Error, PageFault, Place, ValueFault};
use crate::page::{Blocks, PageRef};
use crate::range::PhysRange;

/// Physical addresses have 52 bits.
const PHYS_END: u64 = 1 << 52;

/// Reserved memory: the range crosses, and with `#[kstate(pages)]` the pages that it touches are handed over.
impl KState for PhysRange {
    const DESC: Desc = Desc::value("PhysRange");
    const TYPE: TypeDesc = TypeDesc::Memory;
    const MIN_SIZE: usize = 16;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        // The successor would refuse it.
        self.check_forward()?;
        enc.u64(self.start)?;
        enc.u64(self.end)
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        let (start, end) = (dec.u64()?, dec.u64()?);
        match start <= end && end <= PHYS_END {
            true => Ok(PhysRange { start, end }),
            false => Err(dec.fault(ValueFault::Memory { start, end })),
        }
    }

    fn pages(&self, owned: bool, f: &mut dyn FnMut(PageRef)) {
        if owned && !self.is_empty() {
            Blocks::of(self.page_align_outwards()).for_each(f);
        }
    }
}

/// What an address is stored as an offset into: the addresses from `start` on, `len` of them. Each kernel says where it
/// is in its own life: `#[kstate(offset_from = EXPR)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    start: u64,
    len: u64,
}

/// All addresses from this one on.
impl From<u64> for Base {
    fn from(start: u64) -> Self {
        let len = u64::MAX - start;
        Base { start, len }
    }
}

/// All addresses from this one on.
impl From<usize> for Base {
    fn from(start: usize) -> Self {
        Base::from(start as u64)
    }
}

impl From<Range<u64>> for Base {
    fn from(range: Range<u64>) -> Self {
        let len = range.end.saturating_sub(range.start);
        Base {
            start: range.start,
            len,
        }
    }
}

impl From<Range<usize>> for Base {
    fn from(range: Range<usize>) -> Self {
        Base::from(range.start as u64..range.end as u64)
    }
}

impl From<PhysRange> for Base {
    fn from(range: PhysRange) -> Self {
        Base::from(range.start..range.end)
    }
}

/// An address that can be stored as an offset.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored as an offset",
    note = "`offset_from` is for an address of type u64 or usize"
)]
pub trait Address: Copy {
    /// The address as a number.
    fn get(self) -> u64;
    /// The address with this number, if it is one.
    fn new(address: u64) -> Option<Self>;
}

impl Address for u64 {
    fn get(self) -> u64 {
        self
    }

    fn new(address: u64) -> Option<Self> {
        Some(address)
    }
}

impl Address for usize {
    fn get(self) -> u64 {
        self as u64
    }

    fn new(address: u64) -> Option<Self> {
        address.try_into().ok()
    }
}

/// An address on its way, as its distance from its [`Base`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(pub u64);

impl Offset {
    /// From an address of this kernel.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutside`].
    pub fn from_address(
        address: impl Address,
        base: impl Into<Base>,
        of: &'static str,
        field: &'static str,
    ) -> Result<Self, Error> {
        let (base, address) = (base.into(), address.get());
        match address.checked_sub(base.start) {
            Some(offset) if offset < base.len => Ok(Offset(offset)),
            _ => Err(Error::OffsetOutside {
                place: Place { of, field },
                address,
                base: PhysRange {
                    start: base.start,
                    end: base.start.saturating_add(base.len),
                },
            }),
        }
    }

    /// To an address of this kernel.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where it leads out of the base.
    pub fn to_address<A: Address>(
        self,
        base: impl Into<Base>,
        dec: &Decoder<'_>,
    ) -> Result<A, Error> {
        let base = base.into();
        (self.0 < base.len)
            .then(|| base.start.checked_add(self.0))
            .flatten()
            .and_then(A::new)
            .ok_or(dec.fault(ValueFault::Offset(self.0)))
    }
}

impl KState for Offset {
    const DESC: Desc = Desc::value("Offset");
    const TYPE: TypeDesc = TypeDesc::Offset;
    const MIN_SIZE: usize = 8;

    fn save(&self, enc: &mut Encoder<'_>) -> Result<(), Error> {
        enc.u64(self.0)
    }

    fn restore(dec: &mut Decoder<'_>, _version: u32) -> Result<Self, Error> {
        dec.u64().map(Offset)
    }
}

/// Checks the pages that a restored value calls its own, before anybody touches them: each in RAM, preserved as that
/// block (`preserved` says so, as by [`PreservedMap::block_at`](crate::radix::PreservedMap::block_at)), and none twice.
///
/// # Errors
///
/// [`Error::StatePage`] with the first that cannot be; [`Error::NoHeap`].
pub fn check_pages<T: KState>(
    value: &T,
    ram: &[PhysRange],
    mut preserved: impl FnMut(PageRef) -> bool,
) -> Result<(), Error> {
    let mut pages = alloc::vec::Vec::new();
    let mut full = false;
    super::for_each_page(value, |page| {
        full |= pages.try_reserve(1).is_err();
        if !full {
            pages.push(page);
        }
    });
    if full {
        return Err(Error::NoHeap {
            what: "the list of a state's pages",
        });
    }
    let mut ram = ram.to_vec();
    crate::range::normalize(&mut ram);
    let refused = |page, why| Error::StatePage {
        name: T::DESC.name,
        page,
        why,
    };
    pages.sort_unstable_by_key(|page| page.pa);
    let mut end = 0;
    for &page in &pages {
        let range = page.range();
        if !ram.iter().any(|r| r.contains_range(&range)) {
            return Err(refused(page, PageFault::NotRam));
        }
        if page.pa < end {
            return Err(refused(page, PageFault::Twice));
        }
        end = range.end;
        if !preserved(page) {
            return Err(refused(page, PageFault::NotPreserved));
        }
    }
    Ok(())
}
