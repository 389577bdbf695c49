//! What an earlier life left: its event pages, looked at with trust in nothing, and shown.
//!
//! Nothing of the region is written to. Whoever reads an old life does it within [`Region::with_old`](super::Region::with_old), so that
//! no page of it is taken meanwhile; [`write_text`] and [`write_raw`] do.
//!
//! # Which pages are kept
//!
//! | page | what becomes of it |
//! | --- | --- |
//! | commit word 0, not sealed | empty: it is nothing, and not counted |
//! | sealed; checksum, number and commit word agree, all events can be walked | kept, exactly as it was written |
//! | so, but what was written after it was sealed cannot be walked, or goes back in time | kept up to the seal ([`OldPage::cut`]) |
//! | not sealed, but all else as above | kept; no more can be said of it |
//! | not sealed, its seal with the number of the page that would be written next, or with none | it was about to be emptied, by its writer or a reader: nothing |
//! | any other that is the life's by its mark, or by a bitmap where its mark is damaged | dropped, for a [`DropReason`] |
//!
//! # What is missing
//!
//! The pages of a CPU have numbers without holes, but for what readers and the writer do at the old end: consumed pages are given
//! back from the oldest on, and the one that the reader has taken out of the ring stays while those behind it are overwritten. So a
//! hole right behind the oldest page is no damage, though events are missing there; any other is, and counts as
//! [missing](OldCpu::missing) unless a dropped page explains it.

mod raw;
mod scan;
mod text;

use super::life::Life;
use super::region::{NO_CPU, Region};
use crate::error::TraceError;
use crate::page::{BadPage, Missed};
use crate::platform::Platform;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use handover::mem::Memory;
use handover::page::PageRef;
use scan::{Scan, Scanned};

/// A life that is over.
#[derive(Clone, Debug)]
pub struct OldLife {
    /// What it says of itself; of one whose metadata are damaged, its number alone.
    pub life: Life,
    /// Whether its metadata could be read.
    pub metadata_good: bool,
    /// Its buffers, by ascending number.
    pub buffers: Vec<OldBuffer>,
    /// Dropped pages of which it is not known to which buffer they belong, for their marks are damaged.
    pub strays: Vec<Dropped>,
}

/// A buffer of it.
#[derive(Clone, Debug)]
pub struct OldBuffer {
    /// Its number in the marks: 0 the top instance's.
    pub number: u8,
    /// The instance's name; empty for the top one, and where it is not known.
    pub name: String,
    /// The CPUs of which anything was found, in order.
    pub cpus: Vec<OldCpu>,
}

/// What one CPU recorded in a buffer.
#[derive(Clone, Debug)]
pub struct OldCpu {
    /// The CPU.
    pub cpu: u8,
    /// The pages that are kept, the oldest first.
    pub pages: Vec<OldPage>,
    /// The others.
    pub dropped: Vec<Dropped>,
    /// Pages of which nothing was found, though there are some written before and after them.
    pub missing: u64,
}

/// A page that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldPage {
    /// Where it lies.
    pub page: PageRef,
    /// Its index among the region's data pages.
    pub index: u64,
    /// Its number.
    pub seq: u64,
    /// What a full buffer had refused before it.
    pub refused: u64,
    /// Bytes of data that are kept.
    pub commit: usize,
    /// Bytes of these that a good checksum covers.
    pub sealed: usize,
    /// Nothing was to be written to it any more.
    pub full: bool,
    /// Events that are kept.
    pub events: u64,
    /// Events lost right before it; what is lost before the oldest page is not told.
    pub lost: Missed,
    /// Why what was written to it after it was sealed is not kept.
    pub cut: Option<DropReason>,
}

/// A page that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its index among the region's data pages.
    pub index: u64,
    /// The CPU that owns it.
    pub cpu: u8,
    /// Why.
    pub why: DropReason,
    /// Its number, where that can be believed.
    seq: Option<u64>,
}

/// Why a page is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// A bitmap says that the life owns it, and its mark does not say whose it is.
    Mark,
    /// It begins a sub-buffer that cannot be, or to which further pages do not belong.
    Block,
    /// It is not what was sealed.
    Checksum,
    /// Its header cannot be.
    Header(BadPage),
    /// Its header tells of lost events, which that of a copy for readers does.
    Flags,
    /// It holds less than was sealed, or more than all.
    Seal {
        /// Bytes of data by its header.
        commit: usize,
        /// Bytes of data by its seal.
        sealed: usize,
    },
    /// Its events cannot be walked.
    Walk(BadPage),
    /// Its events are later than time can be.
    Late,
    /// Its number cannot be.
    Number,
    /// Another page has its number.
    Twice(u64),
    /// Its events are out of the order of time.
    Order,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropReason::Mark => f.write_str("its mark is damaged"),
            DropReason::Block => f.write_str("the marks of its sub-buffer do not agree"),
            DropReason::Checksum => f.write_str("its checksum is wrong"),
            DropReason::Header(bad) | DropReason::Walk(bad) => bad.fmt(f),
            DropReason::Flags => f.write_str("its header tells of lost events"),
            DropReason::Seal { commit, sealed } => write!(
                f,
                "its header counts {commit} bytes of data, and its seal {sealed}"
            ),
            DropReason::Late => f.write_str("its events are later than time can be"),
            DropReason::Number => f.write_str("its number cannot be"),
            DropReason::Twice(seq) => write!(f, "another page has its number, {seq}"),
            DropReason::Order => f.write_str("its events are out of the order of time"),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dropped {
            index, cpu, why, ..
        } = self;
        write!(f, "page {index} (CPU {cpu}): {why}; dropped")
    }
}

/// Why an old life cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OldError {
    /// There is not enough memory for it.
    NoMemory,
    /// Nothing is left of a life of this number, or it is the running one.
    NoLife(u64),
    /// It has no buffer of this number.
    NoBuffer(u8),
    /// Whoever the text is for does not take it.
    Output,
}

impl fmt::Display for OldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OldError::NoMemory => {
                f.write_str("there is not enough memory to read what an old life left")
            }
            OldError::NoLife(life) => write!(f, "nothing is left of a life {life}"),
            OldError::NoBuffer(buffer) => write!(f, "that life has no buffer {buffer}"),
            OldError::Output => f.write_str("the text of an old life could not be written"),
        }
    }
}

impl core::error::Error for OldError {}

impl From<fmt::Error> for OldError {
    fn from(_: fmt::Error) -> Self {
        OldError::Output
    }
}

impl From<alloc::collections::TryReserveError> for OldError {
    fn from(_: alloc::collections::TryReserveError) -> Self {
        OldError::NoMemory
    }
}

/// The only one that says something about this machine; all others are about the state, which is left out then.
impl From<TraceError> for OldError {
    fn from(_: TraceError) -> Self {
        OldError::NoMemory
    }
}

impl OldLife {
    /// Looks at all that life `number` left, of which the region has the pages, if not more
    /// ([`Region::old_numbers`]).
    ///
    /// # Errors
    ///
    /// [`OldError::NoLife`], [`OldError::NoMemory`].
    pub fn read<M: Memory>(region: &Region<M>, number: u64) -> Result<OldLife, OldError> {
        region.with_old(|| {
            if number == region.life() || !region.old_numbers().contains(&number) {
                return Err(OldError::NoLife(number));
            }
            let life = region
                .old_lives()
                .into_iter()
                .find(|life| life.number == number);
            let metadata_good = life.is_some();
            let life = life.unwrap_or(Life {
                number,
                ..Life::default()
            });
            // By ascending index.
            let mut unmarked = region.unmarked(number);
            unmarked.retain(|(_, cpu)| *cpu != NO_CPU);
            let scan = Scan {
                mem: region.memory(),
                marks: region.marks(),
                cpus: region.cpus(),
                life: number,
                bitmaps: &|index| {
                    let at = unmarked.binary_search_by_key(&index, |(index, _)| *index);
                    at.ok().map(|at| unmarked[at].1)
                },
            };
            let Scanned { cpus, strays } = scan.run()?;
            let mut buffers: Vec<OldBuffer> = Vec::new();
            for buffer in life.buffers.iter().filter(|buffer| !buffer.is_erased()) {
                buffers.try_reserve(1)?;
                buffers.push(OldBuffer {
                    number: buffer.number,
                    name: buffer.name.clone(),
                    cpus: Vec::new(),
                });
            }
            buffers.sort_by_key(|buffer| buffer.number);
            buffers.dedup_by_key(|buffer| buffer.number);
            for (number, cpu) in cpus {
                let at = buffers.binary_search_by_key(&number, |buffer| buffer.number);
                let at = match at {
                    Ok(at) => at,
                    Err(at) => {
                        buffers.try_reserve(1)?;
                        let name = String::new();
                        let cpus = Vec::new();
                        buffers.insert(at, OldBuffer { number, name, cpus });
                        at
                    }
                };
                buffers[at].cpus.try_reserve(1)?;
                buffers[at].cpus.push(cpu);
            }
            Ok(OldLife {
                life,
                metadata_good,
                buffers,
                strays,
            })
        })
    }

    /// The buffer of this number.
    pub fn buffer(&self, number: u8) -> Option<&OldBuffer> {
        self.buffers.iter().find(|buffer| buffer.number == number)
    }
}

impl OldBuffer {
    /// The pages that are kept, by CPU and number: as [`write_raw`] writes them.
    pub fn pages(&self) -> impl Iterator<Item = &OldPage> {
        self.cpus.iter().flat_map(|cpu| &cpu.pages)
    }

    /// Whether nothing was found of it, not even damage.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }
}

/// Writes a buffer of an old life in the layout of `trace`, all CPUs merged by time. Lines that begin with `#` stand before it: which life,
/// kernel, clock, tracer and CPUs, how many pages are kept, missing and dropped, each dropped one with its reason, and
/// how many a later life has taken. The events are shown by the formats that the life kept; where these are lost, those that have no
/// number of Linux's own are shown by their bytes.
///
/// # Errors
///
/// [`OldError::NoLife`], [`OldError::NoBuffer`], [`OldError::NoMemory`]; [`OldError::Output`] as soon as `out` has an error.
pub fn write_text<P: Platform>(
    region: &Region<P>,
    life: u64,
    buffer: u8,
    out: &mut dyn fmt::Write,
) -> Result<(), OldError> {
    region.with_old(|| {
        let old = OldLife::read(region, life)?;
        let state = match old.metadata_good {
            true => region.read_state(&old.life),
            false => None,
        };
        text::write(region.memory(), &old, buffer, state.as_deref(), out)
    })
}

/// Gives `out` the pages of a buffer of an old life that are kept, one after the other, by CPU and number: as many of each CPU as the head
/// of the text says. A page is a whole sub-buffer in Linux's format, as `trace_pipe_raw` gives it: what was lost before it
/// stands in its header, and zeroes behind its data.
///
/// # Errors
///
/// [`OldError::NoLife`], [`OldError::NoBuffer`], [`OldError::NoMemory`], and those of `out`, at once.
pub fn write_raw<M: Memory>(
    region: &Region<M>,
    life: u64,
    buffer: u8,
    out: &mut dyn FnMut(&[u8]) -> Result<(), OldError>,
) -> Result<(), OldError> {
    region.with_old(|| {
        let old = OldLife::read(region, life)?;
        let buffer = old.buffer(buffer).ok_or(OldError::NoBuffer(buffer))?;
        let mut copy = Vec::new();
        for page in buffer.pages() {
            page.copy(region.memory(), &mut copy)?;
            out(&copy)?;
        }
        Ok(())
    })
}
