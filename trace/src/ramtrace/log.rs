//! A life's log: lines of text in pages of its own, used in turn.
//!
//! | bytes of a page | content |
//! | --- | --- |
//! | 0..8, 8..16 | the page's number in the log (the same twice), with a check; counts up from 1 with each page that is begun; 0: none |
//! | 16.. | records; zeroes after the last one |
//!
//! A record is a word and its text, filled up with zeroes to whole words: bits 0..16 bytes of text, bit 16: the line goes on
//! in the next record, bit 17: always set, bits 32..64 CRC-32 of the page's number, the record's place, the word's lower half, and the
//! text. The text is stored before the word, so that a record is there with its last store. When no room is left, the oldest page is
//! begun anew: number away, zeroes, number. A record that was damaged costs itself only: the next good one is looked for, and none can be
//! mistaken for one, since number and place are in its checksum.

use super::life::Life;
use super::mark::{Kind, LIFE_MASK, check};
use super::region::Region;
use super::store::{WORD, fill_zero, get_bytes, put, put_bytes};
use crate::sync::spin_loop;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering;
use handover::mem::{Memory, PAGE_SIZE};

/// Fewest pages of a log: when one is begun anew, the others are kept.
pub const MIN_LOG_PAGES: usize = 2;
/// Most pages of a log: 512 KiB.
pub const MAX_LOG_PAGES: usize = 128;

const PAGE: usize = PAGE_SIZE as usize;
/// Bytes before the first record.
const HEAD: usize = 16;
/// Most bytes of text in a record: a longer line is several. Less than that is wasted at a page's end.
const MAX_TEXT: usize = 512;
/// Bit of a record's word.
const GOES_ON: u32 = 1 << 16;
/// Bit of a record's word.
const RECORD: u32 = 1 << 17;
/// How often a lock is tried: much longer than who has it on another CPU needs.
const TRIES: u32 = 10_000;

/// Where the running life's log is written.
#[derive(Default)]
pub(super) struct Log {
    /// Data pages in the order in which they are used; none: no log.
    pages: Vec<u32>,
    /// The number of the page that is written to; 0: none yet.
    number: u64,
    /// Where in it the next record comes.
    at: usize,
    /// So many of the lines that were left out it tells of.
    told: u64,
}

/// Makes the pieces of a line that goes on records.
struct Pieces<'a, M: Memory>(&'a Region<M>, &'a mut Log);

impl<M: Memory> Write for Pieces<'_, M> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0.append(self.1, piece, true);
        Ok(())
    }
}

impl Log {
    /// An empty one, in pages that are zero.
    pub fn new(pages: Vec<u32>) -> Self {
        Log {
            pages,
            ..Log::default()
        }
    }

    /// The data page with the number `number`.
    fn page(&self, number: u64) -> Option<u64> {
        let at = number.checked_sub(1)? % self.pages.len().max(1) as u64;
        self.pages.get(at as usize).map(|&page| page.into())
    }
}

/// A page's number with its check.
fn head(number: u64) -> u64 {
    let number = number & ((1 << 48) - 1);
    number | check(number, number) << 48
}

/// The number of a page: by either of its first words.
fn number_of(page: &[u8]) -> Option<u64> {
    (0..HEAD).step_by(WORD).find_map(|at| {
        let word = word(page, at);
        let number = word & ((1 << 48) - 1);
        (number != 0 && head(number) == word).then_some(number)
    })
}

fn word(page: &[u8], at: usize) -> u64 {
    let mut bytes = [0; WORD];
    if let Some(found) = page.get(at..at + WORD) {
        bytes.copy_from_slice(found);
    }
    u64::from_ne_bytes(bytes)
}

/// Bytes of a record with so much text.
const fn size(text: usize) -> usize {
    WORD + text.next_multiple_of(WORD)
}

fn checksum(number: u64, at: usize, low: u32, text: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_ne_bytes());
    crc.update(&(at as u32).to_ne_bytes());
    crc.update(&low.to_ne_bytes());
    crc.update(text);
    crc.finalize()
}

/// The bytes of a record at `at`, if its word is one that can be.
fn form(page: &[u8], at: usize) -> Option<(u32, usize)> {
    let low = word(page, at) as u32;
    let len = (low & 0xffff) as usize;
    let good = low & !(0xffff | GOES_ON) == RECORD && len <= MAX_TEXT && at + size(len) <= PAGE;
    good.then_some((low, len))
}

/// The record at `at`: its text, and whether the line goes on.
fn record(page: &[u8], number: u64, at: usize) -> Option<(&str, bool)> {
    let (low, len) = form(page, at)?;
    let text = page.get(at + WORD..at + WORD + len)?;
    if (word(page, at) >> 32) as u32 != checksum(number, at, low, text) {
        return None;
    }
    Some((core::str::from_utf8(text).ok()?, low & GOES_ON != 0))
}

/// Walks the good records of a page. Gives how many were damaged, and where the last one ends.
fn walk(page: &[u8], number: u64, mut each: impl FnMut(&str, bool)) -> (u64, usize) {
    let (mut damaged, mut end, mut at) = (0, HEAD, HEAD);
    while at < PAGE {
        match record(page, number, at) {
            Some((text, goes_on)) => {
                damaged += between(page, end, Some(at));
                each(text, goes_on);
                end = at + size(text.len());
                at = end;
            }
            None => at += WORD,
        }
    }
    (damaged + between(page, end, None), end)
}

/// How many records were from `from` to the good one at `to`, or to the end of the page: by their lengths, or one if those are no good.
fn between(page: &[u8], from: usize, to: Option<usize>) -> u64 {
    let (mut at, mut count) = (from, 0);
    while Some(at) != to {
        match form(page, at) {
            Some((_, len)) => {
                at += size(len);
                count += 1;
            }
            None if to.is_some() => return 1,
            // The end of what was written, or garbage.
            None => return count + u64::from(at < PAGE && word(page, at) != 0),
        }
        if to.is_some_and(|to| at > to) {
            return 1;
        }
    }
    count
}

impl<M: Memory> Region<M> {
    /// Adds a line to the running life's log, if it has one. The oldest lines make room.
    ///
    /// May be called in any context, also in a panic: it allocates nothing, and where somebody holds the log's lock for longer than a
    /// line takes (a writer that this CPU has interrupted), the line is left out, and counted: the next one stands behind
    /// one that says how many. Whoever wants none left out logs with interrupts off.
    pub fn log(&self, line: &str) {
        let mut tries = 0;
        let mut log = loop {
            if let Some(log) = self.log.try_lock() {
                break log;
            }
            if tries == TRIES {
                self.not_logged.fetch_add(1, Ordering::Relaxed);
                return;
            }
            tries += 1;
            spin_loop();
        };
        let left_out = self.not_logged() - log.told;
        if left_out > 0 {
            // Never fails.
            let _ = write!(Pieces(self, &mut log), "# {left_out} lines are left");
            self.append(&mut log, " out here", false);
            log.told += left_out;
        }
        let mut rest = line.strip_suffix('\n').unwrap_or(line);
        loop {
            let (text, more) = rest.split_at(rest.floor_char_boundary(MAX_TEXT));
            self.append(&mut log, text, !more.is_empty());
            if more.is_empty() {
                return;
            }
            rest = more;
        }
    }

    /// Lines that [`log`](Self::log) has left out since the region was opened.
    pub fn not_logged(&self) -> u64 {
        self.not_logged.load(Ordering::Relaxed)
    }

    fn append(&self, log: &mut Log, text: &str, goes_on: bool) {
        if log.number == 0 || log.at + size(text.len()) > PAGE {
            let next = log.number + 1;
            let Some(page) = log.page(next) else {
                return;
            };
            let words = self.data(page);
            put(&words[0], 0);
            put(&words[1], 0);
            fill_zero(words);
            put(&words[0], head(next));
            put(&words[1], head(next));
            (log.number, log.at) = (next, HEAD);
        }
        let Some(page) = log.page(log.number) else {
            return;
        };
        let low = RECORD | text.len() as u32 | if goes_on { GOES_ON } else { 0 };
        let crc = checksum(log.number, log.at, low, text.as_bytes());
        let words = &self.data(page)[log.at / WORD..];
        put_bytes(&words[1..], text.as_bytes());
        put(&words[0], u64::from(low) | u64::from(crc) << 32);
        log.at += size(text.len());
    }

    /// The pages of a log that have a number, by it, and how many have none that they should have.
    fn log_pages(&self, pages: &[u32]) -> (Vec<(u64, u64)>, u64) {
        let (mut numbered, mut damaged) = (Vec::new(), 0);
        let mut head = [0; HEAD];
        for &index in pages.iter().take(MAX_LOG_PAGES) {
            if u64::from(index) >= self.geometry.data_pages {
                damaged += 1;
                continue;
            }
            get_bytes(self.data(index.into()), &mut head);
            match number_of(&head) {
                Some(number) => numbered.push((number, u64::from(index))),
                None => damaged += u64::from(head != [0; HEAD]),
            }
        }
        numbered.sort_unstable();
        (numbered, damaged)
    }

    /// The log of a life: the text of its whole good records in order, a line each, and how many were damaged. (A page whose number
    /// was damaged counts as one.)
    pub fn read_log(&self, life: &Life) -> (String, u64) {
        let (pages, mut damaged) = self.log_pages(&life.log);
        let mut text = String::new();
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(PAGE).is_err() || text.try_reserve(pages.len() * PAGE).is_err() {
            return (text, damaged);
        }
        bytes.resize(PAGE, 0);
        for (number, index) in pages {
            get_bytes(self.data(index), &mut bytes);
            let (bad, _) = walk(&bytes, number, |part, goes_on| {
                text.push_str(part);
                if !goes_on {
                    text.push('\n');
                }
            });
            damaged += bad;
        }
        (text, damaged)
    }

    /// The log of a life that goes on: behind its last record, or in the next page where that is not certain. Whoever else's pages its
    /// metadata name are not written to; then there is no log.
    pub(super) fn resume_log(&self, life: &Life) -> Log {
        let mut log = Log::default();
        let mine = |&page: &u32| {
            self.owner(page.into()).is_some_and(|owner| {
                owner.kind == Kind::Log && owner.life == life.number & LIFE_MASK
            })
        };
        let once = |(at, page): (usize, &u32)| !life.log[..at].contains(page);
        let good = life.log.iter().all(mine) && life.log.iter().enumerate().all(once);
        if !good || life.log.len() > MAX_LOG_PAGES {
            return log;
        }
        log.pages.clone_from(&life.log);
        let (numbered, _) = self.log_pages(&log.pages);
        let Some(&(number, index)) = numbered.last() else {
            return log;
        };
        log.number = number;
        log.at = PAGE;
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(PAGE).is_err() {
            return log;
        }
        bytes.resize(PAGE, 0);
        get_bytes(self.data(index), &mut bytes);
        let (damaged, end) = walk(&bytes, number, |_, _| {});
        let clean = bytes
            .get(end..)
            .is_some_and(|rest| rest.iter().all(|&byte| byte == 0));
        if damaged == 0 && clean && log.page(number) == Some(index) {
            log.at = end;
        }
        log
    }
}
