//! ramtrace: trace pages in RAM that outlives a reset.
//!
//! A *region* is a range of RAM that no allocator of any life gets. What a life writes there is found by the next cold start, however
//! the life ended: its trace pages, the formats that explain them, its log. The shape is that of Karuppiah's ramtrace series
//! (lkml, 2020: a metadata page, a bitmap of pages for each CPU, data pages that any CPU may own), with what a region needs in
//! which several lives lie, and in which every bit may have been changed.
//!
//! # Layout
//!
//! All numbers are native-endian; a page is 4096 bytes; data pages are counted from 0.
//!
//! ```text
//! page 0        superblock ([`Superblock`]): where the region is, how large, how it is divided
//! then          [`SLOTS`] slots, one for a life: 2 metadata pages (A, B: the same, written one after the other),
//!               then (cpus + 1) bitmaps of `bitmap_pages` pages each, a bit for each data page:
//!               what each CPU owns, and last what the life itself owns (log, state)
//! then          a mark ([`mark`]) of 32 bytes for each data page
//! then          data pages
//! last page     the superblock again
//! ```
//!
//! # Who is believed
//!
//! A page belongs to a life if its mark says so under the mark's own check; the bitmaps are for whoever allocates, and tell of damage
//! where they differ. The sealed part of an event page has a checksum in its mark, which also covers the mark; what was written
//! since it was last sealed is walked, event by event, and no more can be said of it.
//!
//! A page whose mark is damaged is nobody's; that a bitmap says otherwise is [told](Region::unmarked) as long as the life is kept. It is the
//! last to be given to somebody else.
//! A life whose metadata are damaged in both copies is known by the number that they have beside all else, else by its marks, and is kept
//! like any other ([`Region::old_numbers`]); of several lives with the same number one is believed.
//!
//! # Order of stores
//!
//! A reset may come after each store; what is there then must read right. x86 makes stores visible in program order, and the compiler is
//! kept from changing it by release stores.
//!
//! | what | order |
//! | --- | --- |
//! | a page is allocated | it is zeroed (commit 0: it is nothing, whoever it belongs to), its mark, its bit; of a block the first page last |
//! | a page is freed | its seal, commit 0, its bit, its mark; of a block the first page first |
//! | an old life's page is taken | it is counted in A and B, then freed as above, then allocated |
//! | a page is begun anew by its writer | its seal, commit 0, its number (`seq`) and what was refused before it, then events, then commit words |
//! | a page gets another number (adopted after damage) | its seal, which says so; its number; its seal: none |
//! | metadata | A whole, B whole; each has a checksum and a count of updates: the newer good one is read |
//! | state (formats, names) | into pages of its own, then the metadata that name them, then the old ones are freed |
//! | a life begins | A, B and bitmaps of its slot are cleared; metadata without a log; pages for the log; metadata that name them |
//! | a line is logged | its text, then the word that makes it a record |
//! | a page of the log is used again | its number away (twice), zeroes, its new number (twice) |
//! | a buffer is erased | metadata that have it as erased; its pages are freed; with the last one as below |
//! | a life is erased | its event pages are freed; metadata without state and log; their pages are freed; the slot is cleared |
//!
//! So a bit is never set without its mark, but by damage. Pages for a state or a log that no metadata name yet, or any more, and those of a
//! buffer that was erased are given back when the region is opened; there, too, a bit that is missing is set, and a bad copy of metadata
//! or of the superblock written anew.
//!
//! A region of another version of the layout ([`RegionError::Version`]) is found all the same ([`Sighting`]), so that it can be left alone.
//!
//! A region is private to this kernel: what it holds is exported as text and as raw pages, see [`old`].

mod alloc;
mod layout;
mod life;
mod log;
pub mod mark;
mod meta;
// The model checker's atomics are no plain words, which this reads.
#[cfg(not(feature = "loom"))]
pub mod old;
mod region;
mod store;

pub use alloc::MAX_ORDER;
pub use layout::{
    ALIGN, Geometry, MAX_CPUS, MIN_SIZE, RegionError, SLOTS, Sighting, Superblock, probe,
};
pub use life::{Buffer, Life};
pub use log::{MAX_LOG_PAGES, MIN_LOG_PAGES};
pub use region::{Beginning, MAX_STATE_PAGES, NO_CPU, Region};
#[cfg(any(test, feature = "sim"))]
pub use store::at_each_store;
