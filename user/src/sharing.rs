//! Whether a reader of a mapped ring is the only one: what the meta-page counts as read is what it was shown then.

use trace::meta::Meta;

/// What has become of a buffer since the turn before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody else has read.
    Alone,
    /// Others have taken events, or are shown the same ones: what was shown has holes.
    Shared,
    /// It was cleared.
    Cleared,
}

/// Follows the counters of a buffer.
#[derive(Debug)]
pub struct Sharing {
    /// What counted as read when nothing had been shown.
    begin: u64,
    /// As they were at the turn before.
    read: u64,
    entries: u64,
    /// How many more count as read than were shown.
    more: i64,
}

impl Sharing {
    /// Of a reader that begins where the buffer is.
    pub fn new(meta: &Meta) -> Self {
        Sharing {
            begin: meta.read,
            read: meta.read,
            entries: meta.entries,
            more: 0,
        }
    }

    /// Events that count as read since the reader began, or since the buffer was cleared.
    pub fn counted(&self) -> u64 {
        self.read.wrapping_sub(self.begin)
    }

    /// At the end of a turn: `shown` events were shown in all.
    pub fn turn(&mut self, meta: &Meta, shown: u64) -> Turn {
        let cleared = meta.read < self.read || meta.entries < self.entries;
        (self.read, self.entries) = (meta.read, meta.entries);
        if cleared {
            self.forgive(shown);
            return Turn::Cleared;
        }
        let more = self.counted().wrapping_sub(shown) as i64;
        match core::mem::replace(&mut self.more, more) == more {
            true => Turn::Alone,
            false => Turn::Shared,
        }
    }

    /// What was counted and not shown up to now is nobody else's doing.
    pub fn forgive(&mut self, shown: u64) {
        self.begin = self.read.wrapping_sub(shown);
        self.more = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(entries: u64, read: u64) -> Meta {
        Meta {
            entries,
            read,
            ..Meta::default()
        }
    }

    #[test]
    fn who_reads_alone_is_shown_all_that_counts_as_read() {
        let mut sharing = Sharing::new(&meta(10, 4));
        assert_eq!(sharing.turn(&meta(10, 4), 0), Turn::Alone);
        assert_eq!(sharing.turn(&meta(12, 9), 5), Turn::Alone);
        // Others take three: that is told once, and what comes after fits again.
        assert_eq!(sharing.turn(&meta(20, 14), 7), Turn::Shared);
        assert_eq!(sharing.turn(&meta(20, 16), 9), Turn::Alone);
        assert_eq!(sharing.counted(), 12);
        // Another reader was shown the same ones before.
        assert_eq!(sharing.turn(&meta(20, 16), 10), Turn::Shared);
        assert_eq!(sharing.turn(&meta(20, 18), 12), Turn::Alone);
    }

    #[test]
    fn what_is_cleared_begins_anew() {
        let mut sharing = Sharing::new(&meta(10, 4));
        assert_eq!(sharing.turn(&meta(10, 10), 6), Turn::Alone);
        assert_eq!(sharing.turn(&meta(3, 2), 8), Turn::Cleared);
        assert_eq!(sharing.turn(&meta(3, 3), 9), Turn::Alone);
        // It has as many again, but fewer are read.
        assert_eq!(sharing.turn(&meta(3, 0), 9), Turn::Cleared);
        // A page that could not be read counts as read.
        assert_eq!(sharing.turn(&meta(8, 8), 12), Turn::Shared);
        sharing.forgive(12);
        assert_eq!(sharing.turn(&meta(9, 9), 13), Turn::Alone);
    }
}
