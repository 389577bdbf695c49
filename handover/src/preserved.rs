//! Whether the memory that somebody calls his own is preserved: it is his in the next life only then.

use core::fmt;

use crate::error::Name;
use crate::mem::Memory;
use crate::page::PageRef;
use crate::radix::PreservedMap;
use crate::range::PhysRange;

/// Who can tell what is preserved: a [`PreservedMap`], or what stands before one that is locked.
pub trait Preserved {
    /// See [`PreservedMap::block_at`].
    fn block_at(&self, pa: u64) -> Option<PageRef>;

    /// See [`PreservedMap::first_gap`].
    fn first_gap(&self, range: &PhysRange) -> Option<u64>;

    /// Calls `f` with each piece of `range` that is preserved, in no certain order. Its time is that of the preserved blocks, however
    /// large the range is.
    fn for_each_part(&self, range: &PhysRange, f: &mut dyn FnMut(PhysRange));
}

impl<M: Memory> Preserved for PreservedMap<M> {
    fn block_at(&self, pa: u64) -> Option<PageRef> {
        PreservedMap::block_at(self, pa)
    }

    fn first_gap(&self, range: &PhysRange) -> Option<u64> {
        PreservedMap::first_gap(self, range)
    }

    fn for_each_part(&self, range: &PhysRange, f: &mut dyn FnMut(PhysRange)) {
        self.for_each_range(|preserved| {
            if let Some(part) = preserved.intersect(range) {
                f(part);
            }
        });
    }
}

/// Nothing is preserved: for subsystems without pages.
impl Preserved for () {
    fn block_at(&self, _pa: u64) -> Option<PageRef> {
        None
    }

    fn first_gap(&self, range: &PhysRange) -> Option<u64> {
        (!range.is_empty()).then_some(range.start)
    }

    fn for_each_part(&self, _range: &PhysRange, _f: &mut dyn FnMut(PhysRange)) {}
}

/// What a state calls its own, in a field with `#[kstate(pages)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A block.
    Block(PageRef),
    /// A piece of memory.
    Range(PhysRange),
}

impl Holding {
    /// The whole pages of it: see [`PhysRange::page_align_outwards`] for one that ends in the last page of all.
    pub fn range(&self) -> PhysRange {
        match self {
            Holding::Block(block) => block.range(),
            Holding::Range(range) => range.page_align_outwards(),
        }
    }

    /// Whether it is preserved: a block as that block, a range in blocks of whatever order.
    pub fn is_preserved(&self, preserved: &dyn Preserved) -> bool {
        match self {
            Holding::Block(block) => preserved.block_at(block.pa) == Some(*block),
            Holding::Range(range) => preserved.first_gap(range).is_none(),
        }
    }
}

/// A state calls memory its own that is not preserved, or not as the block that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPreserved {
    /// The state's type, as the stream describes it.
    pub name: Name,
    /// State id.
    pub id: u32,
    /// Instance.
    pub instance: u32,
    /// The first such memory.
    pub holding: Holding,
}

impl fmt::Display for NotPreserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotPreserved {
            name, id, instance, ..
        } = self;
        write!(f, "state `{name}` (id {id:#x}, instance {instance}) calls ")?;
        match self.holding {
            Holding::Block(block) => write!(
                f,
                "the block {block} its own, which is not preserved as that block"
            )?,
            Holding::Range(range) => write!(
                f,
                "the memory {range} its own, which is not preserved whole"
            )?,
        }
        f.write_str(": it may be anybody's")
    }
}

impl core::error::Error for NotPreserved {}

/// A claim of memory that is not preserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimRefused {
    /// What was claimed, with what was claimed beside it.
    pub range: PhysRange,
    /// The first page of it that is not preserved.
    pub pa: u64,
}

impl fmt::Display for ClaimRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClaimRefused { range, pa } = self;
        write!(
            f,
            "its claim of {range} is refused: the page at {pa:#x} is not preserved, and may be anybody's"
        )
    }
}

impl core::error::Error for ClaimRefused {}
