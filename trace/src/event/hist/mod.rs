//! Histograms: `hist:keys=...` triggers, which count an event's records by the values of its fields.
//!
//! ```text
//! hist:keys=FIELD[.MODIFIER][,...][:vals=FIELD[.hex][,...]][:sort=FIELD[.descending][,FIELD]][:size=N][:name=NAME]
//!     [:nohitcount][:pause|:continue|:clear] [if FILTER]
//! ```
//!
//! Modifiers of a key: `.hex`, `.log2`, `.buckets=N`, `.sym` and `.sym-offset` (an address as a function's name); `.execname` for `common_pid`; `.usecs` for `common_timestamp`. A key is a
//! field of the event, a common one, `common_cpu` or `common_timestamp`. At most 3 keys, 3 values, 2 sort fields.
//!
//! Source of grammar, sentences and layout: Linux's `trace_events_hist.c`. Where Baton differs: string keys are compared and
//! shown by their first [`TEXT_BYTES`] bytes (Linux: 256); histograms share their counts by name within an instance (Linux:
//! over all); there are no variables, expressions, actions or stack traces.
//!
//! A kexec takes the counts along. Their description has its final size before the last records are counted, so it has room
//! for [`SPARE_ENTRIES`] keys that come after it, of every kind (text too is kept at a fixed width); the records of still later
//! ones count as dropped. An entry whose hitcount is 0 is such a spare one. The next life's table takes new keys at once.

mod map;
mod parse;
mod show;

pub(crate) use parse::Order;
pub(crate) use parse::{complain, parse};

use super::filter::Recorder;
use super::printed::int_at;
use crate::sync::{AtomicBool, Ordering};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use handover::KState;
use map::{Entry, Map};

/// Bytes of a string key that count.
pub const TEXT_BYTES: usize = 64;
const TEXT_WORDS: usize = TEXT_BYTES / 8;
/// Keys that may come between the description for a kexec and the jump.
pub const SPARE_ENTRIES: usize = 64;
/// Words of the longest key: three strings.
const MAX_WORDS: usize = 3 * TEXT_WORDS;
/// Bytes of a task's name as it is kept for `.execname`.
const COMM_BYTES: usize = 16;
const COMM_WORDS: usize = COMM_BYTES / 8;

/// What a histogram counts by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    name: String,
    source: Source,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Int {
        offset: usize,
        size: usize,
        signed: bool,
    },
    Chars {
        offset: usize,
        size: usize,
    },
    Str {
        offset: usize,
    },
    Rest {
        offset: usize,
    },
    Cpu,
    Timestamp,
}

/// A modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Hex,
    Log2,
    Buckets(u64),
    Execname,
    Usecs,
    /// The function's name.
    Sym,
    /// With the place in it.
    SymOffset,
}

/// Writes an address in some way.
type WriteName<'n> = &'n dyn Fn(u64, &mut dyn core::fmt::Write) -> core::fmt::Result;

/// How addresses are shown.
#[derive(Clone, Copy)]
pub struct Names<'n> {
    /// By `.sym`: as [`Platform::function`](crate::platform::Platform::function).
    pub function: WriteName<'n>,
    /// By `.sym-offset`, with the place in the function: as [`Platform::place`](crate::platform::Platform::place).
    pub place: WriteName<'n>,
}

/// What a histogram sums up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Val {
    name: String,
    offset: usize,
    size: usize,
    signed: bool,
    hex: bool,
}

/// By what the entries are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sort {
    by: By,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Hitcount,
    Val(usize),
    Key(usize),
}

/// What a histogram is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    name: Option<String>,
    keys: Vec<Key>,
    vals: Vec<Val>,
    sort: Vec<Sort>,
    bits: u32,
    no_hitcount: bool,
}

/// What a histogram has counted. Those of one name have it in common.
#[derive(Debug)]
pub(crate) struct Counts {
    map: Map,
    paused: AtomicBool,
}

/// A histogram.
#[derive(Debug)]
pub struct Hist {
    spec: Spec,
    counts: Arc<Counts>,
}

/// A histogram's content as it crosses a kexec.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct HistState {
    /// Whether it is paused.
    pub paused: bool,
    /// Records counted.
    pub hits: u64,
    /// Records that found no place.
    pub dropped: u64,
    /// Words of an entry's key.
    pub key_words: u32,
    /// Words beside it: a task's name.
    pub note_words: u32,
    /// Sums of an entry.
    pub sum_words: u32,
    /// The entries, one after the other: key, notes, sums. Of a spare one the first sum, the hitcount, is 0.
    pub words: Vec<u64>,
}

impl Source {
    fn is_text(self) -> bool {
        matches!(
            self,
            Source::Chars { .. } | Source::Str { .. } | Source::Rest { .. }
        )
    }

    fn words(self) -> usize {
        if self.is_text() { TEXT_WORDS } else { 1 }
    }

    /// The same kind of field, wherever it stands.
    fn is_like(self, other: Source) -> bool {
        match (self, other) {
            (
                Source::Int { size, signed, .. },
                Source::Int {
                    size: n, signed: s, ..
                },
            ) => (size, signed) == (n, s),
            (Source::Chars { size, .. }, Source::Chars { size: n, .. }) => size == n,
            (a, b) => core::mem::discriminant(&a) == core::mem::discriminant(&b),
        }
    }

    /// The number; `None` if the record is too short.
    fn number(self, record: &[u8], recorder: &Recorder<'_>) -> Option<u64> {
        match self {
            Source::Int {
                offset,
                size,
                signed,
            } => int_at(record, offset, size, signed),
            Source::Cpu => Some(recorder.cpu.into()),
            Source::Timestamp => Some(recorder.ts),
            _ => None,
        }
    }

    fn text(self, record: &[u8]) -> Option<&[u8]> {
        let bytes = match self {
            Source::Chars { offset, size } => record.get(offset..offset.checked_add(size)?)?,
            Source::Str { offset } => {
                let place = int_at(record, offset, 4, false)?;
                let (at, len) = ((place & 0xffff) as usize, (place >> 16) as usize);
                record.get(at..at + len)?
            }
            Source::Rest { offset } => record.get(offset..)?,
            _ => return None,
        };
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(&bytes[..end])
    }
}

/// Puts text into words, NUL-padded; its last byte stays NUL.
fn pack(text: &[u8], words: &mut [u64]) {
    let text = &text[..text.len().min(words.len() * 8 - 1)];
    for (word, bytes) in words.iter_mut().zip(text.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
}

fn unpack(words: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

impl Form {
    fn of(self, value: u64) -> u64 {
        match self {
            Form::Log2 if value <= 1 => 0,
            // The power of two that is not less.
            Form::Log2 => u64::from(64 - (value - 1).leading_zeros()),
            Form::Buckets(each) => value - value % each.max(1),
            Form::Usecs => value / 1000,
            _ => value,
        }
    }
}

impl Spec {
    fn key_words(&self) -> usize {
        self.keys.iter().map(|key| key.source.words()).sum()
    }

    fn needs_comm(&self) -> bool {
        self.keys.iter().any(|key| key.form == Form::Execname)
    }

    fn note_words(&self) -> usize {
        if self.needs_comm() { COMM_WORDS } else { 0 }
    }

    /// Whether the other counts the same: what may not be there twice, and what `!hist:...` takes away.
    pub(crate) fn same(&self, other: &Spec) -> bool {
        self.name == other.name
            && self.keys == other.keys
            && self.vals == other.vals
            && self.sort == other.sort
            && self.no_hitcount == other.no_hitcount
    }

    /// Its name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the other, of whichever event, counts by the same fields: as Linux's `hist_trigger_match` compares two of one
    /// name.
    pub(crate) fn is_like(&self, other: &Spec) -> bool {
        let keys = self.keys.iter().zip(&other.keys);
        let vals = self.vals.iter().zip(&other.vals);
        self.keys.len() == other.keys.len()
            && self.vals.len() == other.vals.len()
            && self.sort == other.sort
            && { keys }
                .all(|(a, b)| a.name == b.name && a.form == b.form && a.source.is_like(b.source))
            && { vals }.all(|(a, b)| {
                (&a.name, a.size, a.signed, a.hex) == (&b.name, b.size, b.signed, b.hex)
            })
    }
}

impl Hist {
    /// An empty one; `None` if there is no memory for it.
    pub(crate) fn new(spec: Spec, paused: bool) -> Option<Hist> {
        let sums = 1 + spec.vals.len();
        let map = Map::new(spec.bits, spec.key_words(), spec.note_words(), sums)?;
        let paused = AtomicBool::new(paused);
        let counts = Arc::new(Counts { map, paused });
        Some(Hist { spec, counts })
    }

    /// The same that counts into `counts`, which are those of one that [is like](Spec::is_like) it.
    pub(crate) fn sharing(&self, counts: Arc<Counts>) -> Hist {
        Hist {
            spec: self.spec.clone(),
            counts,
        }
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    fn map(&self) -> &Map {
        &self.counts.map
    }

    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Whether it counts nothing now.
    pub fn paused(&self) -> bool {
        self.counts.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.counts.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether [`Recorder::comm`] is looked at.
    pub fn needs_comm(&self) -> bool {
        self.spec.needs_comm()
    }

    /// Counts a record. Lock-free, without allocation, in every context; a record too short for a key is not counted.
    pub fn record(&self, record: &[u8], recorder: &Recorder<'_>) {
        if !self.paused() {
            let _ = self.count(record, recorder);
        }
    }

    fn count(&self, record: &[u8], recorder: &Recorder<'_>) -> Option<()> {
        let mut words = [0u64; MAX_WORDS];
        let mut at = 0;
        for key in &self.spec.keys {
            let n = key.source.words();
            let place = words.get_mut(at..at + n)?;
            if key.source.is_text() {
                pack(key.source.text(record)?, place);
            } else {
                place[0] = key.form.of(key.source.number(record, recorder)?);
            }
            at += n;
        }
        let mut notes = [0; COMM_WORDS];
        if self.needs_comm() {
            pack(recorder.comm.as_bytes(), &mut notes);
        }
        let mut sums = [1u64; 4];
        for (val, sum) in self.spec.vals.iter().zip(&mut sums[1..]) {
            *sum = int_at(record, val.offset, val.size, val.signed)?;
        }
        let notes = &notes[..self.spec.note_words()];
        self.map()
            .add(&words[..at], notes, &sums[..1 + self.spec.vals.len()]);
        Some(())
    }

    /// The content as it crosses a kexec, with room for [`SPARE_ENTRIES`] keys more where the table has it too.
    pub fn save(&self) -> HistState {
        let (mut entries, hits, dropped) = self.map().snapshot();
        // One that was put in but not counted yet is found by `refresh`.
        entries.retain(|e| e.sums.first().is_some_and(|hits| *hits != 0));
        let free = self.map().capacity().saturating_sub(entries.len());
        let spare = free.min(SPARE_ENTRIES) * self.entry_words();
        HistState {
            paused: self.paused(),
            hits,
            dropped,
            key_words: self.spec.key_words() as u32,
            note_words: self.spec.note_words() as u32,
            sum_words: 1 + self.spec.vals.len() as u32,
            words: entries
                .into_iter()
                .flat_map(|e| e.key.into_iter().chain(e.notes).chain(e.sums))
                .chain(core::iter::repeat_n(0, spare))
                .collect(),
        }
    }

    fn entry_words(&self) -> usize {
        self.spec.key_words() + self.spec.note_words() + 1 + self.spec.vals.len()
    }

    /// Brings `state`, one of [`save`](Self::save), up to date, without allocating and without changing its size. New keys
    /// take its spare entries; what was counted under keys beyond these counts as dropped. One call at a time.
    pub fn refresh(&self, state: &mut HistState) {
        let counted = self.map().refresh(&mut state.words);
        let (hits, dropped) = self.map().totals();
        state.paused = self.paused();
        state.hits = counted;
        state.dropped = dropped.wrapping_add(hits.wrapping_sub(counted));
    }

    /// Takes over what an earlier life counted, into one that has counted nothing; false if that has another shape, or does
    /// not fit: then what fits is there.
    pub fn restore(&self, state: &HistState) -> bool {
        self.set_paused(state.paused);
        let (key, notes) = (self.spec.key_words(), self.spec.note_words());
        let sums = 1 + self.spec.vals.len();
        let each = key + notes + sums;
        let fits = (state.key_words as usize, state.note_words as usize) == (key, notes)
            && state.sum_words as usize == sums
            && state.words.len().is_multiple_of(each);
        let entries: Vec<Entry> = if fits { &state.words[..] } else { &[] }
            .chunks_exact(each)
            .filter(|words| words[key + notes] != 0)
            .map(|words| Entry {
                key: words[..key].into(),
                notes: words[key..key + notes].into(),
                sums: words[key + notes..].into(),
            })
            .collect();
        self.map().restore(&entries, state.hits, state.dropped) && fits
    }
}
