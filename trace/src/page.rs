//! Linux's sub-buffer page format, byte for byte.
//!
//! Source: `kernel/trace/ring_buffer.c` and `include/linux/ring_buffer.h` of Linux; the same is described to user
//! space by `events/header_page` and `events/header_event`.
//!
//! ```text
//! page:   u64 time_stamp | u64 commit | data ...           (native endian)
//! commit: bits 0..20 bytes of data; bit 31 events were missed before this page;
//!         bit 30 the number of missed events is stored as a u64 right after the data
//! event:  u32 { type_len: 5 (low bits), time_delta: 27 } | array[] of u32
//!         type_len 1..=28  data of type_len * 4 bytes
//!         type_len 0       data; array[0] = bytes of data + 4, data from array[1] on
//!         type_len 29      padding; time_delta 0: the rest of the page, else array[0] + 4 bytes are skipped
//!         type_len 30      time extend: the delta is time_delta + (array[0] << 27)
//!         type_len 31      time stamp: the absolute time (59 bits) is time_delta + (array[0] << 27)
//! ```
//!
//! Times are in units of the buffer's clock. A delta counts from the event before, the first one from the page's
//! `time_stamp`. What is decoded here may be anything: a decoder stops at the first event that cannot be, and says where.

use crate::sync::{AtomicU32, Ordering};
use core::fmt;

/// Bytes of the page header: `time_stamp` and `commit`.
pub const HEADER_SIZE: usize = 16;
/// Bytes of an event's header word.
pub const EVENT_HEADER_SIZE: usize = 4;
/// The bits of `commit` that count bytes.
pub const COMMIT_MASK: u64 = 0xf_ffff;
/// Bit of `commit`: events were missed before this page.
pub const MISSED_EVENTS: u64 = 1 << 31;
/// Bit of `commit`: the number of missed events stands after the data.
pub const MISSED_STORED: u64 = 1 << 30;
/// Bytes of the stored number of missed events.
pub const MISSED_SIZE: usize = 8;

/// Largest `type_len` of a data event with its length in the header.
pub const TYPE_LEN_MAX: u32 = 28;
/// `type_len` of padding.
pub const TYPE_PADDING: u32 = 29;
/// `type_len` of a time extend.
pub const TYPE_TIME_EXTEND: u32 = 30;
/// `type_len` of an absolute time stamp.
pub const TYPE_TIME_STAMP: u32 = 31;

/// Bits of an event's time delta.
pub const DELTA_BITS: u32 = 27;
/// One more than the largest delta of an event without a time extend.
pub const DELTA_LIMIT: u64 = 1 << DELTA_BITS;
/// Bytes of a time extend or time stamp event.
pub const TIME_EVENT_SIZE: usize = 8;
/// Bits of an absolute time stamp that the page holds; the upper ones are those of the time before it.
pub const ABSOLUTE_BITS: u32 = 59;
const ABSOLUTE_MASK: u64 = (1 << ABSOLUTE_BITS) - 1;

/// Bytes of the largest payload whose length fits the header.
pub const MAX_SMALL_DATA: usize = 4 * TYPE_LEN_MAX as usize;
/// Bytes of the smallest event.
pub const MIN_EVENT_SIZE: usize = 8;

/// Bytes of event data in a sub-buffer of `page_size` bytes.
pub const fn data_size(page_size: usize) -> usize {
    page_size - HEADER_SIZE
}

/// Bytes of the largest payload that a sub-buffer of `page_size` bytes can hold.
pub const fn max_payload(page_size: usize) -> usize {
    data_size(page_size) - 2 * EVENT_HEADER_SIZE
}

/// Bytes that a payload of `len` bytes takes in the page, header included.
///
/// An empty payload takes one word, since `type_len` 0 means something else.
pub const fn event_size(len: usize) -> usize {
    let len = if len == 0 { 1 } else { len };
    let array0 = if len > MAX_SMALL_DATA { 4 } else { 0 };
    (EVENT_HEADER_SIZE + array0 + len + 3) & !3
}

/// An event's header word.
pub const fn event_header(type_len: u32, delta: u64) -> u32 {
    type_len | (((delta & (DELTA_LIMIT - 1)) as u32) << 5)
}

/// The header of a data event of `size` bytes as of [`event_size`]: its first word, and `array[0]` where it has one.
pub const fn data_header(size: usize, delta: u64) -> (u32, Option<u32>) {
    let length = size - EVENT_HEADER_SIZE;
    if length > MAX_SMALL_DATA {
        (event_header(0, delta), Some(length as u32))
    } else {
        (event_header((length / 4) as u32, delta), None)
    }
}

/// The two words of a time extend by `delta`.
pub const fn time_extend(delta: u64) -> [u32; 2] {
    [
        event_header(TYPE_TIME_EXTEND, delta),
        (delta >> DELTA_BITS) as u32,
    ]
}

/// The two words of an absolute time stamp; bits 59 and up of `ts` are cut off.
pub const fn time_stamp(ts: u64) -> [u32; 2] {
    let ts = ts & ABSOLUTE_MASK;
    [event_header(TYPE_TIME_STAMP, ts), (ts >> DELTA_BITS) as u32]
}

/// The whole time of an absolute stamp of 59 bits that follows an event at `before`.
const fn widen(abs: u64, before: u64) -> u64 {
    let ts = abs | (before & !ABSOLUTE_MASK);
    // The stamp is never earlier than what stands before it: a smaller one has overflowed its 59 bits, but only a
    // large step back tells an overflow from the nanosecond that a discarded event may have added.
    if ts < before {
        if before - ts > 1 << (ABSOLUTE_BITS - 1) {
            ts.saturating_add(1 << ABSOLUTE_BITS)
        } else {
            before
        }
    } else {
        ts
    }
}

/// A page's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Time of the page's first event, in units of the clock.
    pub time_stamp: u64,
    /// Bytes of data.
    pub commit: usize,
    /// Events missed before this page.
    pub missed: Missed,
}

/// Events that were lost before some point of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// None were lost.
    #[default]
    None,
    /// Some were lost; how many is not known.
    Unknown,
    /// This many were lost.
    Count(u64),
}

impl Missed {
    /// Both losses together.
    pub fn plus(self, other: Missed) -> Missed {
        match (self, other) {
            (Missed::None, x) | (x, Missed::None) => x,
            (Missed::Count(a), Missed::Count(b)) => Missed::Count(a.saturating_add(b)),
            _ => Missed::Unknown,
        }
    }
}

/// Why a page, or an event in it, cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// Offset of the bad event in the page's data in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub reason: BadReason,
}

/// See [`BadPage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadReason {
    /// The page is shorter than its header.
    NoHeader,
    /// `commit` counts more bytes than the page has, or has unknown bits set, or is no multiple of 4.
    Commit(u64),
    /// The event runs over the committed end.
    Overrun,
    /// The length in `array[0]` cannot be.
    Length(u32),
    /// Time would overflow 64 bits.
    Time,
}

impl fmt::Display for BadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.offset;
        match self.reason {
            BadReason::NoHeader => write!(f, "the page has no room for its header"),
            BadReason::Commit(c) => write!(f, "the page header counts {c:#x} bytes of data"),
            BadReason::Overrun => write!(f, "the event at {at} runs over the end of the data"),
            BadReason::Length(n) => write!(f, "the event at {at} gives its length as {n}"),
            BadReason::Time => write!(f, "the event at {at} is later than time can be"),
        }
    }
}

impl core::error::Error for BadPage {}

/// The committed bytes of a page without its header, read by words: offsets are multiples of 4.
pub(crate) trait Data {
    /// How many there are.
    fn bytes(&self) -> usize;

    /// The word at `at`; `None` where it is not wholly there.
    fn word(&self, at: usize) -> Option<u32>;
}

impl Data for [u8] {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn word(&self, at: usize) -> Option<u32> {
        word(self, at)
    }
}

/// The page itself, whose words nobody writes to any more.
impl Data for [AtomicU32] {
    #[inline(always)]
    fn bytes(&self) -> usize {
        4 * self.len()
    }

    #[inline(always)]
    fn word(&self, at: usize) -> Option<u32> {
        self.get(at / 4).map(|word| word.load(Ordering::Relaxed))
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn double_word(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// Decodes the header of a page (all of its bytes, header included).
pub fn header(page: &[u8]) -> Result<Header, BadPage> {
    let bad = |reason| BadPage { offset: 0, reason };
    let (Some(time_stamp), Some(raw)) = (double_word(page, 0), double_word(page, 8)) else {
        return Err(bad(BadReason::NoHeader));
    };
    let commit = (raw & COMMIT_MASK) as usize;
    let room = page.len() - HEADER_SIZE;
    if raw & !(COMMIT_MASK | MISSED_EVENTS | MISSED_STORED) != 0
        || commit > room
        || !commit.is_multiple_of(4)
    {
        return Err(bad(BadReason::Commit(raw)));
    }
    let missed = match (raw & MISSED_EVENTS != 0, raw & MISSED_STORED != 0) {
        (false, false) => Missed::None,
        (true, false) => Missed::Unknown,
        (true, true) => match double_word(page, HEADER_SIZE + commit) {
            Some(n) => Missed::Count(n),
            None => return Err(bad(BadReason::Commit(raw))),
        },
        (false, true) => return Err(bad(BadReason::Commit(raw))),
    };
    Ok(Header {
        time_stamp,
        commit,
        missed,
    })
}

/// A data event within a page's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its time, in units of the clock.
    pub ts: u64,
    /// Offset of its header word in the data, in bytes.
    pub offset: usize,
    /// Offset of its payload in the data, in bytes.
    pub payload: usize,
    /// Bytes of its payload, rounded up to words when it was written.
    pub len: usize,
}

/// A position in a page's data: walks its events without ever trusting them.
///
/// Each step moves forward by at least one word, so that a walk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Offset of the next event in the data, in bytes.
    pub offset: usize,
    /// Time of the event before, or the page's.
    pub ts: u64,
}

impl Cursor {
    /// The start of a page with this `time_stamp`.
    pub const fn new(time_stamp: u64) -> Self {
        Cursor {
            offset: 0,
            ts: time_stamp,
        }
    }

    /// Goes to the next data event of `data`, the committed bytes of a page without its header.
    ///
    /// `Ok(None)` at the end. After an error the cursor stands at the bad event, and will answer the same again.
    pub fn next(&mut self, data: &[u8]) -> Result<Option<Event>, BadPage> {
        self.next_in(data)
    }

    /// As [`next`](Self::next), for data of whatever form.
    pub(crate) fn next_in<D: Data + ?Sized>(&mut self, data: &D) -> Result<Option<Event>, BadPage> {
        loop {
            let at = self.offset;
            if at >= data.bytes() {
                return Ok(None);
            }
            let bad = |reason| BadPage { offset: at, reason };
            let head = data.word(at).ok_or(bad(BadReason::Overrun))?;
            let array0 = || data.word(at + 4).ok_or(bad(BadReason::Overrun));
            let type_len = head & 0x1f;
            let delta = u64::from(head >> 5);
            let after = |ts: u64, delta| ts.checked_add(delta).ok_or(bad(BadReason::Time));
            match type_len {
                TYPE_PADDING if delta == 0 => {
                    self.offset = data.bytes();
                    return Ok(None);
                }
                TYPE_PADDING => {
                    let len = array0()?;
                    let end = end_of(data, at, 4 + len as usize).ok_or(bad(BadReason::Overrun))?;
                    if len < 4 || !len.is_multiple_of(4) {
                        return Err(bad(BadReason::Length(len)));
                    }
                    self.ts = after(self.ts, delta)?;
                    self.offset = end;
                }
                TYPE_TIME_EXTEND => {
                    let long = delta + (u64::from(array0()?) << DELTA_BITS);
                    self.ts = after(self.ts, long)?;
                    self.offset = at + TIME_EVENT_SIZE;
                }
                TYPE_TIME_STAMP => {
                    let abs = delta + (u64::from(array0()?) << DELTA_BITS);
                    self.ts = widen(abs, self.ts);
                    self.offset = at + TIME_EVENT_SIZE;
                }
                _ => {
                    let (payload, len) = if type_len == 0 {
                        let len = array0()?;
                        if len < 4 || !len.is_multiple_of(4) {
                            return Err(bad(BadReason::Length(len)));
                        }
                        (at + 8, len as usize - 4)
                    } else {
                        (at + 4, 4 * type_len as usize)
                    };
                    let end = end_of(data, payload, len).ok_or(bad(BadReason::Overrun))?;
                    self.ts = after(self.ts, delta)?;
                    self.offset = end;
                    return Ok(Some(Event {
                        ts: self.ts,
                        offset: at,
                        payload,
                        len,
                    }));
                }
            }
        }
    }
}

fn end_of<D: Data + ?Sized>(data: &D, start: usize, len: usize) -> Option<usize> {
    start.checked_add(len).filter(|end| *end <= data.bytes())
}

/// What a walk over a whole page found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Data events.
    pub events: u64,
    /// Time of the first data event.
    pub first_ts: u64,
    /// Time of the last data event.
    pub last_event_ts: u64,
    /// Time at the end of the page: padding after the last event may have added to it.
    pub last_ts: u64,
}

/// Walks all events of `page` (header included).
pub fn check(page: &[u8]) -> Result<Summary, BadPage> {
    let header = header(page)?;
    let data = &page[HEADER_SIZE..HEADER_SIZE + header.commit];
    let mut cursor = Cursor::new(header.time_stamp);
    let mut sum = Summary {
        first_ts: header.time_stamp,
        ..Summary::default()
    };
    while let Some(event) = cursor.next(data)? {
        if sum.events == 0 {
            sum.first_ts = event.ts;
        }
        sum.last_event_ts = event.ts;
        sum.events += 1;
    }
    sum.last_ts = cursor.ts;
    Ok(sum)
}

/// The text of `events/header_page` for sub-buffers of `page_size` bytes, as Linux 6.2 and later print it on x86-64
/// (where `char` is unsigned).
pub fn write_header_page(page_size: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(
        out,
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;"
    )?;
    writeln!(
        out,
        "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;"
    )?;
    writeln!(
        out,
        "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;"
    )?;
    writeln!(
        out,
        "\tfield: char data;\toffset:{HEADER_SIZE};\tsize:{};\tsigned:0;",
        data_size(page_size)
    )
}

/// The text of `events/header_event`, as Linux prints it.
pub fn write_header_event(out: &mut dyn fmt::Write) -> fmt::Result {
    out.write_str("# compressed entry header\n")?;
    out.write_str("\ttype_len    :    5 bits\n")?;
    out.write_str("\ttime_delta  :   27 bits\n")?;
    out.write_str("\tarray       :   32 bits\n\n")?;
    writeln!(out, "\tpadding     : type == {TYPE_PADDING}")?;
    writeln!(out, "\ttime_extend : type == {TYPE_TIME_EXTEND}")?;
    writeln!(out, "\ttime_stamp : type == {TYPE_TIME_STAMP}")?;
    writeln!(out, "\tdata max type_len  == {TYPE_LEN_MAX}")
}
