//! The links of the ring: where the next page is, whether that is the head page, and the version of the head.
//!
//! ```text
//! bits 0..2 flags | bits 2..24 index of the next page | bits 24..64 version
//! ```
//!
//! The version is the number of pages overwritten when the link was last touched, cut to 40 bits. It makes each place of the
//! head a value of its own (I10): a compare-and-exchange cannot mistake a link for what it was a lap ago, and whoever moves the
//! head and was interrupted can tell that it has been done.

/// Flag in a link: it leads to the head page.
pub(super) const HEAD: u64 = 1;
/// Flag in a link: it leads to the page that was the head page, and a writer is moving the head on.
pub(super) const UPDATE: u64 = 2;

const FLAGS: u64 = 3;
const INDEX_BITS: u32 = 22;
const VERSION_SHIFT: u32 = 2 + INDEX_BITS;

/// The largest number of pages of a ring, its reader page too.
pub(super) const MAX_COUNT: usize = 1 << INDEX_BITS;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(pub(super) u64);

impl Link {
    /// To page `index`, with `flags`, at a time when `pages_lost` pages had been overwritten.
    pub(super) fn new(index: usize, flags: u64, pages_lost: u64) -> Self {
        Link(pages_lost << VERSION_SHIFT | (index as u64) << 2 | flags)
    }

    /// The page that it leads to.
    #[inline(always)]
    pub(super) fn index(self) -> usize {
        (self.0 >> 2) as usize & (MAX_COUNT - 1)
    }

    /// [`HEAD`], [`UPDATE`] or 0.
    pub(super) fn flags(self) -> u64 {
        self.0 & FLAGS
    }

    /// The same with these flags.
    pub(super) fn with(self, flags: u64) -> Self {
        Link(self.0 & !FLAGS | flags)
    }

    /// To the same page, one version after `before`.
    pub(super) fn after(self, before: Link) -> Self {
        let version = (before.0 >> VERSION_SHIFT).wrapping_add(1);
        Link::new(self.index(), self.flags(), version)
    }

    /// Whether both have the same version.
    pub(super) fn same_version(self, other: Link) -> bool {
        self.0 >> VERSION_SHIFT == other.0 >> VERSION_SHIFT
    }

    /// Whether it leads to the head page, and no page was overwritten since but the `pages_lost` that are counted.
    pub(super) fn is_steady(self, pages_lost: u64) -> bool {
        self == Link::new(self.index(), HEAD, pages_lost)
    }
}
