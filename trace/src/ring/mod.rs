//! The per-CPU ring buffer: the design of Linux's (`Documentation/trace/ring-buffer-design.rst`), in Rust.
//!
//! # How it works
//!
//! A buffer is a ring of sub-buffers (pages), linked by index, and one *reader page* outside of the ring. One CPU writes;
//! on it, writers nest: a task's write may be interrupted at any instruction by a soft interrupt's, that by an
//! interrupt's, that by an NMI's, and each of these is complete before the one below goes on (**N**). Any CPU may read.
//!
//! ```text
//!             reader page                  H: the link to the head page carries a flag, HEAD
//!                                          head page: the oldest in the ring
//!   +-> page --H-> page ---> page --+      commit page: the last one with committed events
//!   |   (tail,     (head)           |      tail page: where the next event goes
//!   +--- commit) <--- page <--------+
//! ```
//!
//! - **Reserving** adds the event's size to the tail page's `write`. The addition is what nested writers cannot split, so
//!   each gets bytes of its own. Who finds that it ran over the page's end moves the tail to the next page and starts
//!   over.
//! - **Overwriting.** When the tail comes to the head page, its events are lost: the writer turns the flag in the link
//!   from HEAD to UPDATE, sets HEAD in the next link, then takes UPDATE away. As long as UPDATE stands, no reader swaps.
//! - **Committing.** `writers` has a bit for each write under way. Only who ends as the last of them, the outermost, moves the
//!   commit page and the pages' commit words up to what is written: an event becomes visible when everything that it
//!   interrupted has been committed too.
//! - **Consuming** takes the head page out of the ring and puts the (read and emptied) reader page in its place, by
//!   one compare-and-exchange on the link with its HEAD flag: it fails when a writer has moved the head meanwhile. The link
//!   carries the version of the head (see `link`), so that it fails too when the head has gone all the way around since
//!   the reader looked, and so that the losses counted up to then are those before the page that was taken.
//!
//! # What a reader gets
//!
//! Events one by one ([`CpuBuffer::consume`]), whole pages ([`CpuBuffer::read_page`], for `trace_pipe_raw`), or a look at all
//! that is there without taking it ([`CpuBuffer::iter`]). A raw page is a copy in Linux's format: of the rest of a page that was
//! read in part, or of the committed part of one that is still written to, with a time stamp that its first delta counts from.
//! Losses come right before the first event behind them: as [`Missed`](crate::page::Missed) with the event, or in the raw page's
//! commit word, bit 31, with their number after the data (bit 30) where 8 bytes are free there. A full buffer that does not
//! overwrite loses nothing of what it holds; what it refuses is counted in `dropped_events`, and, unlike in Linux, told in its place
//! too: before the first event that was written when there was room again (I11). So are events that were refused because interrupts had
//! filled the ring (`commit_overrun`).
//!
//! # What changes the ring
//!
//! Resizing, clearing, another sub-buffer order (`reshape`), exchanging the contents with a snapshot's (`swap`), giving the
//! pages back (`retire`): all take the reader lock, shut the buffer to new writes, wait until none is under way, and then
//! have the ring to themselves for some hundred instructions. Writes that come meanwhile are refused and counted; a nested write
//! that came to one that was just about to be refused may have left its commit to it, so the commit is made up for first. The pages
//! never move; a snapshot exchanges two rings with their counters, so that its cost does not depend on their size. Where nobody may
//! wait (within interrupts), [`CpuBuffer::try_swap`] does it at once or not at all. A ring that a reader in another address space has
//! mapped (`map`) is not changed but by clearing it.
//!
//! # Time
//!
//! An event holds the time since the event before it. A nested writer cannot know whether the event that it interrupted
//! has its stamp already, so two stamps are kept: `before_stamp`, written before the reservation, and `write_stamp`, written
//! after it. If they are equal, no write was interrupted between the two, and the difference to `write_stamp` is good.
//! If not, the event gets an absolute stamp. An event that was itself interrupted before its reservation takes the time
//! again, and the delta 0 if in doubt: the time of the event before it. So the decoded time never goes back. (Equal stamps can
//! also be a coincidence, where a clock stands still while a write is interrupted twice: then times after it come out
//! late by as much, until the next page.) The reservation of an event that was interrupted may tell a later time than readers get.
//!
//! # What it costs
//!
//! `cargo bench -p trace`, Intel Xeon (virtual machine of two CPUs, shared), best of 400 rounds, in ns and instructions an event;
//! the floor is `rdtsc` and plain stores of the stamp and the payload to a flat array.
//!
//! | | floor | ring | ring / floor | bbqueue | rtrb |
//! | --- | --- | --- | --- | --- | --- |
//! | 0 bytes | 9.5, 19 | 9.6, 88 | 1.01 | 9.6, 63 | 9.5, 28 |
//! | 16 bytes | 9.5, 21 | 10.0, 108 | 1.06 | 9.6, 65 | 9.5, 33 |
//! | 64 bytes | 9.5, 27 | 11.9, 130 | 1.25 | 9.7, 71 | 9.5, 45 |
//! | nested, 16 bytes | 9.5, 21 | 10.7, 115 | 1.13 | | |
//! | consuming read, 16 bytes | 9.5, 21 | 15.4, 277 | 1.62 | | |
//! | event of two u64 | 9.5, 21 | 17.1, 250 | 1.81 | | |
//! | event, disabled | 9.5, 21 | 0.55, 9 | 0.06 | | |
//!
//! LTTng-UST 2.13 takes 82 ns for 16 bytes there. Two CPUs, each with a buffer of its own, record 1.98 times as many events a
//! second as one.
//!
//! On another machine (model 167, `rdtsc` 7.4 ns) the 16 bytes took 11.3 ns, 1.47 times the floor: there, the stores of the
//! floor and its `rdtsc` overlap more. Before [`LocalU64`] had no locks and the usual way was inlined, it was 50.8. Without the
//! platform's promise that a writer stays on its CPU ([`Locality`](crate::platform::Locality)), a write of 16 bytes takes two locked
//! instructions, 16 ns more. What is left beyond the floor is the number of instructions, of which the payload's stores are one
//! for each 4 bytes, so that a reader may load each word while it is overwritten.
//!
//! # How it is tested
//!
//! `tests/model.rs` runs writers against readers, overwriting, resizes and snapshots under a model checker; `tests/nesting.rs` tries every
//! interrupt at every step of a write ([`Platform::may_interrupt`]); `tests/property.rs` compares millions of operations with a queue. Each
//! has its bound written down. `scripts/mutations.sh` breaks what these rest on, one thing at a time (`tests/mutations`), and tells
//! whether a test finds it.
//!
//! # Invariants
//!
//! - **I1** Bytes of a page below its commit word do not change until the page is recycled (made the tail again).
//! - **I2** A page's `seq` grows by one from each page to the one written after it, and is set before anything else of
//!   the page when it is recycled; a page that the reader gives back empty has none. A copy of a page is whole if `seq` was
//!   the same before and after.
//! - **I3** The commit page is never recycled, nor passed by the tail: a writer that would is refused (`commit_overrun`).
//! - **I4** The reader never swaps out a page beyond the commit page.
//! - **I5** The ring's shape (which pages, in which order) changes only under the reader lock; the set of its pages only
//!   while no write is under way and none can start (`disabled`).
//! - **I6** `committed = in the buffer + overrun + read`.
//! - **I7** `seq` of the head page is `base + pages_lost + pages_read`.
//! - **I8** Numbers (`seq`, indices) of one ring mean nothing in another: whoever keeps some from one hold of the reader lock to
//!   the next keeps `epoch` too, and gives up when it has changed.
//! - **I9** Of two reader locks, the one of the buffer at the lower address is taken first; no other lock under one.
//! - **I10** The version in the link to the head page is the number of times that the head was moved. `pages_lost` reaches it
//!   when all moves are done and counted (UPDATE taken away, `overrun` added to), so the reader swaps only when both are equal.
//!   Of writers who interrupt each other in one move, the first sets HEAD; a link that has the new version already has had it.
//! - **I11** Where an event was refused because the ring was full, the tail page is full to its end, so that the next event to be
//!   written begins a page. A page's `turned_away` is the buffer's count of these events when the page was begun: the difference from one page
//!   to the next is how many are missing between them.

mod adopt;
mod commit;
mod gate;
mod home;
mod iter;
mod link;
mod map;
mod meta_page;
mod raw;
mod read;
mod relocate;
mod reserve;
mod reshape;
mod retire;
#[cfg(not(feature = "loom"))]
mod seal;
mod stats;
mod subbuf;
mod swap;
mod tail;
mod write;

pub use adopt::Plan;
pub(crate) use adopt::read_page;
pub(crate) use home::{Home, lodging};
pub use iter::{CpuIter, Entry};
pub(crate) use raw::put_missed;
pub(crate) use read::NO_SEQ;
pub(crate) use reshape::room_in_region;
pub use reshape::{Adopted, Gap, Shape};
pub use stats::Stats;
pub(crate) use subbuf::{Room, SubBuf};
pub use write::Reservation;

use crate::error::TraceError;
use crate::local::LocalU64;
use crate::page;
use crate::platform::Platform;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use link::Link;

/// The bits of `write` and `entries` that count; above them stands how often the page was recycled, or a write ran over its end: who
/// exchanges the whole finds out.
const COUNT_MASK: u64 = 0xf_ffff;
const RECYCLED_ONE: u64 = COUNT_MASK + 1;

/// The bits of `writers` that say in which contexts a write is under way: one of each [`Level`], and bit 0 to spare.
const CONTEXTS: u64 = 0x1f;
/// One more write ever begun.
const BEGUN_ONE: u64 = 0x100;

/// The bits of `turned_away` that count; above them stands how often a page was begun, so that an exchange of the whole fails if one
/// was. That number has more bits than a ring has pages, and they cannot all be begun within one write (I3).
const TURNED_AWAY_MASK: u64 = BEGUN_PAGE_ONE - 1;
const BEGUN_PAGE_ONE: u64 = 1 << 40;
const _: () = assert!((link::MAX_COUNT as u64) < u64::MAX / BEGUN_PAGE_ONE);

/// How many events were refused between two values of `turned_away`.
pub(crate) fn missing(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & TURNED_AWAY_MASK
}

/// The smallest number of pages in the ring (beside the reader page).
pub const MIN_PAGES: usize = 2;

/// The largest order of a sub-buffer: 64 KiB.
pub const MAX_ORDER: u8 = 4;

/// How often a bounded wait looks again before it gives up.
const WAIT_LIMIT: u32 = 50_000_000;

/// What a page of the buffer is, beside its memory: 64 bytes.
struct BufPage {
    /// A [`Link`] to the next page. The index changes under the reader lock only.
    next: AtomicU64,
    /// Index of the page before. Written and read under the reader lock only.
    prev: AtomicUsize,
    /// Bytes reserved ([`COUNT_MASK`]); may stand above the page's size for a moment.
    write: LocalU64,
    /// Events reserved and not discarded ([`COUNT_MASK`]).
    entries: LocalU64,
    /// See I2.
    seq: AtomicU64,
    /// See I11.
    turned_away: LocalU64,
    buf: SubBuf,
}

impl BufPage {
    fn new(buf: SubBuf) -> Self {
        BufPage {
            next: AtomicU64::new(0),
            prev: AtomicUsize::new(0),
            write: LocalU64::new(0),
            entries: LocalU64::new(0),
            seq: AtomicU64::new(0),
            turned_away: LocalU64::new(0),
            buf,
        }
    }

    fn link(&self) -> Link {
        Link(self.next.load(Ordering::Acquire))
    }

    #[inline(always)]
    fn written(&self) -> usize {
        (self.write.get() & COUNT_MASK) as usize
    }

    fn entry_count(&self) -> u64 {
        self.entries.get() & COUNT_MASK
    }
}

/// The ring's shape. See I5 for who may touch what.
struct Ring {
    /// None at all in a retired buffer, else at least [`MIN_PAGES`] and the reader page.
    pages: Box<[BufPage]>,
    /// log2 of the pages of a sub-buffer.
    order: u8,
    /// Event data in a sub-buffer.
    room: Room,
    /// Where the pages are.
    home: Home,
    /// Index of the page that the next event goes to.
    tail: AtomicUsize,
    /// Index of the commit page.
    commit: AtomicUsize,
    /// Index of the page that the reader has taken, or is about to take. A writer that finds the commit page here must
    /// not let the head move, for what is written beyond the commit page stands after it in the ring.
    taking: AtomicUsize,
}

impl Ring {
    fn next(&self, index: usize) -> usize {
        self.pages[index].link().index()
    }

    #[inline(always)]
    fn max_payload(&self) -> usize {
        self.room.bytes() - 2 * page::EVENT_HEADER_SIZE
    }
}

/// The reader's side, under its lock.
struct Reader {
    /// Index of the reader page.
    page: usize,
    /// Bytes of the reader page's data that have been consumed.
    read: usize,
    /// Time of the last consumed event of the reader page.
    stamp: u64,
    /// Time of the last consumed event, of whatever page.
    newest: u64,
    /// Events consumed.
    read_events: u64,
    /// Events consumed of the reader page.
    page_read_events: u64,
    /// Pages swapped out.
    pages_read: u64,
    /// See I7.
    base: u64,
    /// Where the head page was last seen.
    head_hint: usize,
    /// `overrun` when the reader page was swapped out.
    last_overrun: u64,
    /// `turned_away` of the reader page: what was refused up to there was told, or stands in `lost`.
    last_turned_away: u64,
    /// All pages with numbers below this one are sealed (see `seal`).
    sealed: u64,
    /// Events of consumed pages that could not be read, for memory was overwritten. They count as overrun, but that counter
    /// is the writer's.
    spoilt: u64,
    /// Losses to report with the next consumed event.
    lost: page::Missed,
    /// Losses that are no overrun of the ring: before the page with this `seq`, this many. Ascending by `seq`.
    gaps: Vec<(u64, page::Missed)>,
    /// What there is while the ring is mapped (see `map`).
    mapping: Option<map::Mapping>,
}

impl Reader {
    /// Of a ring with page 0 as its reader page, of number `seq`, and page 1 as its head.
    fn fresh(seq: u64) -> Self {
        Reader {
            page: 0,
            read: 0,
            stamp: 0,
            newest: 0,
            read_events: 0,
            page_read_events: 0,
            pages_read: 0,
            base: seq + 1,
            head_hint: 1,
            last_overrun: 0,
            last_turned_away: 0,
            sealed: seq,
            spoilt: 0,
            lost: page::Missed::None,
            gaps: Vec::new(),
            mapping: None,
        }
    }
}

/// The context that a write runs in; a later one may interrupt an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// A task.
    Task = 4,
    /// A soft interrupt.
    SoftIrq = 3,
    /// A hardware interrupt.
    Irq = 2,
    /// A non-maskable interrupt.
    Nmi = 1,
}

/// Why an event was not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// The payload is larger than a sub-buffer can hold.
    TooLarge {
        /// Bytes asked for.
        len: usize,
        /// Bytes that can be had.
        max: usize,
    },
    /// A write of the same context is under way already (and one more of the kind that interrupts it).
    Recursion,
    /// The buffer is being resized, cleared or exchanged, or is retired.
    Disabled,
    /// The ring is full: of events that are not committed yet, or of old ones that may not be overwritten.
    Full,
}

impl core::fmt::Display for ReserveError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ReserveError::TooLarge { len, max } => {
                write!(
                    f,
                    "an event of {len} bytes does not fit a sub-buffer, which holds {max}"
                )
            }
            ReserveError::Recursion => f.write_str("the event would recurse into its own context"),
            ReserveError::Disabled => f.write_str("the buffer is being changed, or retired"),
            ReserveError::Full => {
                f.write_str("the ring is full of events that cannot be overwritten")
            }
        }
    }
}

impl core::error::Error for ReserveError {}

/// The ring buffer of one CPU. See the module's documentation.
pub struct CpuBuffer<P: Platform> {
    platform: P,
    /// See I5: shared by writers and by holders of the reader lock, exclusive to a holder of both the lock and a `Quiet`.
    ring: UnsafeCell<Ring>,
    /// Not zero: no write may start.
    disabled: AtomicU32,
    /// The newest survive; otherwise a full buffer refuses new events.
    overwrite: AtomicBool,
    /// Grows whenever the ring is exchanged for another one (I8). Written under the reader lock only.
    epoch: AtomicU32,

    /// The contexts that are writing ([`CONTEXTS`]), and above that the writes ever begun ([`BEGUN_ONE`]), so that an exchange
    /// of the whole word fails if a write has come and gone. Against `disabled` it is ordered as
    /// [`Locality`](crate::platform::Locality) says, so that one side always sees the other.
    writers: LocalU64,
    /// Never earlier than `write_stamp`, outside of a write.
    before_stamp: LocalU64,
    write_stamp: LocalU64,

    committed: LocalU64,
    overrun: LocalU64,
    commit_overrun: LocalU64,
    dropped: LocalU64,
    /// Events refused because the ring was full ([`TURNED_AWAY_MASK`]), since the buffer was last cleared or adopted; `dropped` or
    /// `commit_overrun` counts them too. See I11.
    turned_away: LocalU64,
    /// Events refused because the buffer was shut, since ever: counted outside of any write, so that nobody may set it.
    refused: LocalU64,
    /// How many of `refused` were added to `dropped`, or cleared. Written with the ring to oneself.
    refused_told: AtomicU64,
    pages_lost: LocalU64,
    pages_touched: LocalU64,

    reader: Mutex<Reader>,
}

// SAFETY: `ring` is the only part that is not Sync by itself; I5 says who may access it and how: its atomics are shared,
// and a `&mut` to it exists only within `with_ring_mut`, while the reader lock is held and writers are kept out.
unsafe impl<P: Platform> Sync for CpuBuffer<P> {}
// SAFETY: nothing in it is bound to a thread.
unsafe impl<P: Platform> Send for CpuBuffer<P> {}

impl<P: Platform> CpuBuffer<P> {
    /// A buffer with `pages` sub-buffers in the ring (at least [`MIN_PAGES`]) and a reader page, each of
    /// `1 << order` pages.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Order`]; then nothing stays allocated.
    pub fn new(platform: P, pages: usize, order: u8) -> Result<Self, TraceError> {
        let ring = reshape::new_ring(&platform, pages, order, None)?;
        Ok(Self::from_parts(platform, ring))
    }

    fn from_parts(platform: P, ring: Ring) -> Self {
        CpuBuffer {
            platform,
            disabled: AtomicU32::new(u32::from(ring.pages.is_empty())),
            ring: UnsafeCell::new(ring),
            overwrite: AtomicBool::new(true),
            epoch: AtomicU32::new(0),
            writers: LocalU64::new(0),
            before_stamp: LocalU64::new(0),
            write_stamp: LocalU64::new(0),
            committed: LocalU64::new(0),
            overrun: LocalU64::new(0),
            commit_overrun: LocalU64::new(0),
            dropped: LocalU64::new(0),
            turned_away: LocalU64::new(0),
            refused: LocalU64::new(0),
            refused_told: AtomicU64::new(0),
            pages_lost: LocalU64::new(0),
            pages_touched: LocalU64::new(0),
            reader: Mutex::new(Reader::fresh(0)),
        }
    }

    /// log2 of the pages of a sub-buffer.
    pub fn order(&self) -> u8 {
        self.locked(|_, ring| ring.order)
    }

    /// Bytes of a sub-buffer.
    pub fn page_size(&self) -> usize {
        subbuf::bytes(self.order())
    }

    /// Bytes of the largest payload.
    pub fn max_payload(&self) -> usize {
        self.locked(|_, ring| ring.max_payload())
    }

    /// Whether the newest survive when the buffer is full, see [`set_overwrite`](Self::set_overwrite).
    pub fn overwrite(&self) -> bool {
        self.overwrite.load(Ordering::Relaxed)
    }

    /// Chooses between overwriting the oldest events (the default) and refusing new ones when the buffer is full.
    pub fn set_overwrite(&self, on: bool) {
        self.overwrite.store(on, Ordering::Relaxed);
    }

    /// Sub-buffers in the ring, the reader page not counted; 0 of a retired buffer.
    pub fn pages(&self) -> usize {
        self.locked(|_, ring| ring.pages.len().saturating_sub(1))
    }
}

impl<P: Platform> Drop for CpuBuffer<P> {
    fn drop(&mut self) {
        let mapping = self.locked(|reader, _| reader.mapping.take());
        if let Some(mapping) = mapping {
            mapping.free(&self.platform);
        }
        let ring = core::mem::replace(self.ring.get_mut(), reshape::no_ring(0));
        reshape::free_ring(&self.platform, ring);
    }
}

impl<P: Platform> core::fmt::Debug for CpuBuffer<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CpuBuffer")
            .field("order", &self.order())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
