//! Taking a buffer over that another life has described. Nothing in the description or in the pages is trusted.

use super::home::{self, Home};
use super::link::MAX_COUNT;
use super::read::NO_SEQ;
use super::reshape::{Adopted, Shape, relink, reserved};
use super::subbuf::{self, Room, SubBuf};
use super::{BufPage, CpuBuffer, MIN_PAGES, Ring, TURNED_AWAY_MASK};
use crate::error::TraceError;
use crate::page::{self, Cursor, HEADER_SIZE, Missed};
use crate::platform::Platform;
use crate::sync::{AtomicUsize, Ordering};
use alloc::vec::Vec;

/// What a page was found to hold.
#[derive(Clone, Copy)]
struct Content {
    commit: usize,
    sum: page::Summary,
}

/// A buffer that can be adopted: all has been looked at, nothing has been changed yet.
pub struct Plan<P: Platform> {
    platform: P,
    order: u8,
    /// Reader page, pages with events in order, empty pages. Their `write` and `entries` are set.
    pages: Vec<BufPage>,
    used: usize,
    shape: Shape,
    /// Time at the end of the newest page.
    stamp: u64,
    oldest: Option<u64>,
    newest: Option<u64>,
    reader: Cursor,
    /// Time of the last event consumed of the reader page.
    reader_newest: u64,
    reader_events: u64,
    gaps: Vec<(u64, Missed)>,
    /// What was lost before the reader page and not told yet.
    untold: Missed,
    /// What a full ring refused after the last page.
    turned_away: u64,
    found: Adopted,
    home: Home,
}

impl<P: Platform> Plan<P> {
    /// Looks at the buffer that `shape` of CPU `cpu` describes, and at every event in its pages, trusting nothing of it.
    /// `now` is the time on the buffer's clock: no event can be later. That no page is named twice is for the caller to
    /// see to, for all CPUs.
    ///
    /// # Errors
    ///
    /// Those `State...` of [`TraceError`] for a shape that cannot be, [`TraceError::NoMemory`].
    pub fn new(platform: P, cpu: u32, shape: Shape, now: u64) -> Result<Self, TraceError> {
        let order = shape.reader.order;
        let count = shape.ring.len();
        if !(MIN_PAGES..MAX_COUNT).contains(&count) {
            return Err(TraceError::StatePages { cpu, pages: count });
        }
        let number = |what, value| TraceError::StateNumber { cpu, what, value };
        if shape.used as usize > count {
            return Err(number("pages in use", u64::from(shape.used)));
        }
        let known = shape
            .overrun
            .checked_add(shape.read_events)
            .and_then(|gone| shape.committed.checked_sub(gone));
        let Some(expected) = known else {
            return Err(number("events written", shape.committed));
        };
        if shape.last_overrun > shape.overrun {
            return Err(number("overrun before the reader page", shape.last_overrun));
        }
        // Far below 2^64, so that counting on cannot overflow.
        for (what, value) in [
            ("events written", shape.committed),
            ("commit overrun", shape.commit_overrun),
            ("dropped events", shape.dropped),
            ("pages read", shape.pages_read),
            ("pages lost", shape.pages_lost),
            ("pages touched", shape.pages_touched),
        ] {
            if value > u64::MAX / 4 {
                return Err(number(what, value));
            }
        }
        let mut scratch = reserved::<u8>(subbuf::bytes(order.min(4)))?;
        let mut kept = reserved::<BufPage>(count + 1)?;
        let mut contents = reserved::<Option<Content>>(count + 1)?;
        for (index, page) in core::iter::once(&shape.reader)
            .chain(&shape.ring)
            .enumerate()
        {
            let wrong = TraceError::StatePage {
                pa: page.pa,
                order: page.order,
            };
            // 64 KiB is the largest sub-buffer.
            if page.order != order || order > 4 {
                return Err(wrong);
            }
            let buf = SubBuf::at(&platform, *page).ok_or(wrong)?;
            contents.push(if index <= shape.used as usize {
                look(&buf, order, &mut scratch, now)
            } else {
                None
            });
            kept.push(BufPage::new(buf));
        }
        let pages = core::iter::once(&shape.reader).chain(&shape.ring).copied();
        let home = home::found(&platform, cpu, pages, shape.used as usize).map_err(|page| {
            TraceError::StatePage {
                pa: page.pa,
                order: page.order,
            }
        })?;
        drop_out_of_order(&mut contents[..=shape.used as usize]);

        // The consumed part of the reader page has to end between two events.
        let mut reader = Cursor::new(0);
        let mut reader_newest = 0;
        let mut reader_events = 0;
        if let Some(content) = contents[0] {
            let data = read_page(&kept[0].buf, order, &mut scratch);
            let data = &data[HEADER_SIZE..HEADER_SIZE + content.commit];
            reader = Cursor::new(kept[0].buf.time_stamp().load(Ordering::Relaxed));
            while reader.offset < shape.reader_read as usize {
                match reader.next(data) {
                    Ok(Some(event)) => {
                        reader_newest = event.ts;
                        reader_events += 1;
                    }
                    _ => break,
                }
            }
            if reader.offset != shape.reader_read as usize {
                return Err(number(
                    "bytes read of the reader page",
                    u64::from(shape.reader_read),
                ));
            }
        }

        let mut found = Adopted::default();
        let mut in_pages = 0;
        for content in contents.iter().flatten() {
            in_pages += content.sum.events;
        }
        found.events = in_pages - reader_events;
        found.lost_events = expected.saturating_sub(found.events);
        found.late_events = found.events.saturating_sub(expected);

        // Pages with events first, damaged ones behind them as empty pages; a gap where they stood.
        let holes = contents[..=shape.used as usize]
            .iter()
            .filter(|content| content.is_none())
            .count();
        found.damaged_pages = holes as u64;
        let mut gaps = reserved(holes + count + 2)?;
        let mut pages = reserved::<BufPage>(count + 1)?;
        let mut empty = reserved::<BufPage>(count)?;
        let mut hole = false;
        // What is told to be missing, by position: up to that of the page that will be begun next.
        let mut told = reserved::<Missed>(shape.used as usize + 2)?;
        told.resize(shape.used as usize + 2, Missed::None);
        for gap in &shape.gaps {
            if let Some(told) = told.get_mut(gap.position as usize) {
                *told = told.plus(missed(gap.lost));
            }
        }
        let mut untold = told[0];
        let cost = match (holes, found.lost_events) {
            (1, lost) => Missed::Count(lost),
            _ => Missed::Unknown,
        };
        let mut lost = Missed::None;
        let mut used = 0;
        let mut stamp = 0;
        let mut oldest = None;
        let mut newest = None;
        for (position, page) in kept.into_iter().enumerate() {
            let content = contents[position];
            if let Some(content) = content {
                page.write.set(content.commit as u64);
                page.entries.set(content.sum.events);
                stamp = stamp.max(content.sum.last_ts);
                if content.sum.events > 0 {
                    oldest = oldest.or(Some(content.sum.first_ts));
                    newest = Some(content.sum.last_event_ts);
                }
            }
            if position == 0 {
                hole = content.is_none();
                pages.push(page);
                continue;
            }
            // What is missing before a damaged page is missing before the next one.
            if position <= shape.used as usize {
                lost = lost.plus(told[position]);
            }
            if content.is_some() {
                used += 1;
                if hole {
                    gaps.push((used as u64, cost));
                }
                if lost != Missed::None {
                    gaps.push((used as u64, core::mem::take(&mut lost)));
                }
                hole = false;
                pages.push(page);
            } else {
                hole |= position <= shape.used as usize;
                empty.push(page);
            }
        }
        pages.append(&mut empty);
        // Where the last pages are damaged, or no page is begun yet, that stands before the page that will be begun next: the last good
        // one is full. But where none is good, the next event goes to the reader page.
        let next = used as u64 + 1;
        if hole && used == 0 && contents[0].is_none() {
            untold = untold.plus(cost);
        } else if hole {
            gaps.push((next, cost));
        }
        let turned_away = match lost.plus(told[shape.used as usize + 1]) {
            Missed::Count(n) if n > TURNED_AWAY_MASK => return Err(number("events refused", n)),
            Missed::Count(n) => n,
            Missed::None => 0,
            Missed::Unknown => {
                gaps.push((next, Missed::Unknown));
                0
            }
        };
        Ok(Plan {
            platform,
            order,
            pages,
            used,
            shape,
            stamp,
            oldest,
            newest,
            reader,
            reader_newest,
            reader_events,
            gaps,
            untold,
            turned_away,
            found,
            home,
        })
    }

    /// What was found.
    pub fn found(&self) -> Adopted {
        self.found
    }

    /// Time of the newest event; `None` if there are none.
    pub fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Time of the oldest event, consumed ones of the reader page included; `None` if there are none.
    pub fn oldest(&self) -> Option<u64> {
        self.oldest
    }

    /// Takes the pages over. No new event will be stamped earlier than `floor`, in units of the buffer's clock. Cannot fail.
    pub fn adopt(self, floor: u64) -> CpuBuffer<P> {
        let Plan {
            pages, used, shape, ..
        } = self;
        let ring = Ring {
            pages: pages.into_boxed_slice(),
            order: self.order,
            room: Room::of(self.order),
            home: self.home,
            tail: AtomicUsize::new(0),
            commit: AtomicUsize::new(0),
            taking: AtomicUsize::new(0),
        };
        // Pages lost behind the reader page are seen as missing numbers by who only looks (I2); one does.
        let hole = u64::from(used > 0 && shape.overrun > shape.last_overrun);
        let (first, head) = numbers(&ring, used, hole);
        // First, so that no number of theirs is another page's, too.
        for page in ring.pages.iter().filter(|page| page.written() == 0) {
            ring.unseal(page, NO_SEQ);
            page.buf.clear();
        }
        for (index, page) in ring.pages.iter().enumerate().take(used + 1) {
            let seq = match index {
                0 => first,
                _ => head.wrapping_add(index as u64 - 1),
            };
            page.seq.store(seq, Ordering::Relaxed);
            // In this order, no page gets a number that another one still has. What was refused before it is told by the gaps here, and
            // stays in its mark.
            if let Some(mark) = ring.mark(page)
                && (mark.seq() != seq || mark.seal().number != seq as u16)
            {
                mark.renumber(seq);
            }
        }
        relink(&ring, used, shape.pages_lost);
        let buffer = CpuBuffer::from_parts(self.platform, ring);
        let lost = self.found.lost_events;
        buffer
            .committed
            .set(shape.committed + self.found.late_events);
        buffer.overrun.set(shape.overrun + lost);
        buffer.commit_overrun.set(shape.commit_overrun);
        buffer.dropped.set(shape.dropped);
        buffer.turned_away.set(self.turned_away);
        buffer.pages_lost.set(shape.pages_lost);
        buffer.pages_touched.set(shape.pages_touched);
        buffer.set_floor(self.stamp.max(floor));
        buffer.set_overwrite(shape.overwrite);
        {
            let mut reader = buffer.reader.lock();
            reader.read = self.reader.offset;
            reader.stamp = self.reader.ts;
            // Not the cursor's time, to which padding may have added a unit.
            reader.newest = self.reader_newest;
            reader.read_events = shape.read_events;
            reader.page_read_events = self.reader_events;
            reader.pages_read = shape.pages_read;
            // (I7)
            reader.base = head
                .wrapping_sub(shape.pages_lost)
                .wrapping_sub(shape.pages_read);
            // What damage has cost is told by the gaps.
            reader.last_overrun = shape.last_overrun + lost;
            reader.gaps = self.gaps;
            // They are told by position: 1 is the head page.
            for (seq, _) in &mut reader.gaps {
                *seq = head.wrapping_add(*seq - 1);
            }
            reader.sealed = first;
            reader.lost = self.untold;
        }
        buffer
    }
}

/// The numbers of the reader page and of the head page, between which numbers are missing if `hole` is 1. In the region the pages keep theirs:
/// so they are in order whenever a reset comes, and their seals stay good.
fn numbers(ring: &Ring, used: usize, hole: u64) -> (u64, u64) {
    let seq_of = |index: usize| ring.mark(&ring.pages[index]).map(|mark| mark.seq());
    let next = |first: u64| first.wrapping_add(1 + hole);
    match (seq_of(0), seq_of(1)) {
        (Some(first), Some(head)) if used > 0 && first < head => match hole {
            0 => (first, next(first)),
            _ => (first, head.max(next(first))),
        },
        (_, Some(head)) if used > 0 => (
            head.saturating_sub(1 + hole),
            next(head.saturating_sub(1 + hole)),
        ),
        (Some(first), _) => (first, next(first)),
        _ => (0, next(0)),
    }
}

/// As [`Gap`](super::Gap) encodes it.
fn missed(lost: u64) -> Missed {
    match lost {
        0 => Missed::None,
        u64::MAX => Missed::Unknown,
        n => Missed::Count(n),
    }
}

/// A copy of the whole page in `scratch`.
pub(crate) fn read_page<'a>(buf: &SubBuf, order: u8, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.resize(subbuf::bytes(order), 0);
    let stamp = buf.time_stamp().load(Ordering::Relaxed);
    let commit = buf.commit_word().load(Ordering::Acquire);
    scratch[..8].copy_from_slice(&stamp.to_ne_bytes());
    scratch[8..16].copy_from_slice(&commit.to_ne_bytes());
    let (_, data) = scratch.split_at_mut(HEADER_SIZE);
    buf.copy_data(Room::of(order), data.len(), data);
    scratch
}

/// What the page holds; `None` if it is no such page.
fn look(buf: &SubBuf, order: u8, scratch: &mut Vec<u8>, now: u64) -> Option<Content> {
    let bytes = read_page(buf, order, scratch);
    let header = page::header(bytes).ok()?;
    // Pages inside a buffer carry no flags; they are for readers' copies.
    if header.missed != Missed::None {
        return None;
    }
    let sum = page::check(bytes).ok()?;
    // A padding's nanosecond may stand after the last event.
    if sum.last_ts > now.saturating_add(header.commit as u64) {
        return None;
    }
    Some(Content {
        commit: header.commit,
        sum,
    })
}

/// Takes out pages that do not follow in time: of two that are in the wrong order, the earlier one if the later one fits
/// what stands before both. A page's events may read late by a unit for each discarded event before them, which takes eight
/// bytes at least; the next page has a stamp of its own, and knows nothing of that.
fn drop_out_of_order(contents: &mut [Option<Content>]) {
    let mut before = 0;
    let mut last: Option<usize> = None;
    let mut before_last = 0;
    for index in 0..contents.len() {
        let Some(content) = contents[index] else {
            continue;
        };
        if content.sum.events == 0 {
            continue;
        }
        if content.sum.first_ts >= before {
            before_last = before;
        } else if content.sum.first_ts >= before_last
            && let Some(last) = last
        {
            contents[last] = None;
        } else {
            contents[index] = None;
            continue;
        }
        let late = content.commit / 8;
        before = content.sum.last_event_ts.saturating_sub(late as u64);
        last = Some(index);
    }
}
