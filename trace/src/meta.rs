//! The meta-page of a mapped ring: what its first page tells whoever has mapped it, and the two calls.
//!
//! Source: `include/uapi/linux/trace_mmap.h` and `Documentation/trace/ring-buffer-map.rst` of Linux. A mapping is
//!
//! ```text
//! page 0              the meta-page, [`Meta`] at its beginning, zeroes behind it
//! ..                  zeroes, up to the size of a sub-buffer
//! meta_page_size      the sub-buffer with id 0, then 1, 2, ... nr_subbufs - 1, each of subbuf_size bytes
//! ```
//!
//! and is read so: [`GET_READER`] makes the kernel choose the oldest sub-buffer as the reader page, count all events in it as read, and
//! refresh the meta-page; `reader.id` says which sub-buffer it is, `reader.read` up to where it may be read. Nobody writes to
//! that part of it until the next call.

use crate::sync::fixed::{AtomicU64, Ordering};

/// `TRACE_MMAP_IOCTL_GET_READER`, Linux's `_IO('R', 0x20)`: takes a new reader page, or what has come to the one that there is.
pub const GET_READER: u32 = 0x5220;

/// `_IO('R', 0x21)`: refreshes the meta-page and takes nothing. Baton's own: the call stood in an earlier version of the series that
/// brought the mapping to Linux, and did not come with it.
pub const REFRESH_META: u32 = 0x5221;

/// Bytes of `struct trace_buffer_meta`.
pub const META_LEN: usize = 8 * WORDS;

/// 64-bit words of `struct trace_buffer_meta`.
const WORDS: usize = 10;

/// `lost_events` where events were lost and nobody knows how many: pages of an earlier life were found damaged.
pub const LOST_UNKNOWN: u64 = u64::MAX;

/// `struct trace_buffer_meta`. Counts are of events since the buffer was last cleared, unless they say otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Bytes before the first sub-buffer in the mapping.
    pub meta_page_size: u32,
    /// [`META_LEN`].
    pub meta_struct_len: u32,
    /// Bytes of a sub-buffer, its header included.
    pub subbuf_size: u32,
    /// Sub-buffers, the reader page included.
    pub nr_subbufs: u32,
    /// The reader page.
    pub reader: MetaReader,
    /// 0.
    pub flags: u64,
    /// Committed.
    pub entries: u64,
    /// Lost: overwritten, or found damaged.
    pub overrun: u64,
    /// Read, by whichever reader.
    pub read: u64,
    /// Sub-buffers that were overwritten.
    pub pages_lost: u64,
    /// Sub-buffers that the writer has gone to.
    pub pages_touched: u64,
}

/// The reader page, as the meta-page tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaReader {
    /// Events lost right before the first one of the reader page; [`LOST_UNKNOWN`] for an unknown number. Stays until there is
    /// another reader page.
    pub lost_events: u64,
    /// Its number.
    pub id: u32,
    /// Bytes of its data (header not counted) that count as read.
    pub read: u32,
}

impl Meta {
    /// Events in the buffer that nobody has read.
    pub fn unread(&self) -> u64 {
        let gone = self.overrun.saturating_add(self.read);
        self.entries.saturating_sub(gone)
    }

    /// As it stands in memory.
    pub fn to_words(&self) -> [u64; WORDS] {
        let reader = &self.reader;
        [
            pair(self.meta_page_size, self.meta_struct_len),
            pair(self.subbuf_size, self.nr_subbufs),
            reader.lost_events,
            pair(reader.id, reader.read),
            self.flags,
            self.entries,
            self.overrun,
            self.read,
            self.pages_lost,
            self.pages_touched,
        ]
    }

    /// What [`to_words`](Self::to_words) gives, read back.
    pub fn from_words(words: &[u64; WORDS]) -> Self {
        let [
            sizes,
            subbufs,
            lost_events,
            place,
            flags,
            entries,
            overrun,
            read,
            pages_lost,
            pages_touched,
        ] = *words;
        let (meta_page_size, meta_struct_len) = halves(sizes);
        let (subbuf_size, nr_subbufs) = halves(subbufs);
        let (id, reader_read) = halves(place);
        Meta {
            meta_page_size,
            meta_struct_len,
            subbuf_size,
            nr_subbufs,
            reader: MetaReader {
                lost_events,
                id,
                read: reader_read,
            },
            flags,
            entries,
            overrun,
            read,
            pages_lost,
            pages_touched,
        }
    }

    /// Reads a meta-page where it lies; `None` where `page` is too short for one. What another thread refreshes meanwhile may be seen in
    /// part.
    pub fn load(page: &[AtomicU64]) -> Option<Self> {
        let words = page.first_chunk::<WORDS>()?;
        let words = core::array::from_fn(|i| words[i].load(Ordering::Relaxed));
        Some(Self::from_words(&words))
    }

    /// Writes it to a meta-page; what does not fit is left out.
    pub(crate) fn store(&self, page: &[AtomicU64]) {
        for (place, word) in page.iter().zip(self.to_words()) {
            place.store(word, Ordering::Relaxed);
        }
    }
}

/// Two fields that stand in memory one after the other.
fn pair(first: u32, second: u32) -> u64 {
    let [a, b, c, d] = first.to_ne_bytes();
    let [e, f, g, h] = second.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of the fields in Linux's struct.
    #[test]
    fn fields_stand_where_linux_has_them() {
        let meta = Meta {
            meta_page_size: 1,
            meta_struct_len: 2,
            subbuf_size: 3,
            nr_subbufs: 4,
            reader: MetaReader {
                lost_events: 5,
                id: 6,
                read: 7,
            },
            flags: 8,
            entries: 9,
            overrun: 10,
            read: 11,
            pages_lost: 12,
            pages_touched: 13,
        };
        let words = meta.to_words();
        let mut bytes = [0u8; META_LEN];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let small = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let large = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!([0, 4, 8, 12].map(small), [1, 2, 3, 4]);
        assert_eq!((large(16), small(24), small(28)), (5, 6, 7));
        let rest = [32, 40, 48, 56, 64, 72].map(large);
        assert_eq!(rest, [8, 9, 10, 11, 12, 13]);
        assert_eq!(META_LEN, 80);
        assert_eq!(Meta::from_words(&words), meta);
    }

    #[test]
    fn a_meta_page_is_read_where_it_lies() {
        let page: [AtomicU64; 12] = core::array::from_fn(|_| AtomicU64::new(0));
        let meta = Meta {
            nr_subbufs: 3,
            entries: 10,
            overrun: 4,
            read: 5,
            ..Meta::default()
        };
        meta.store(&page);
        assert_eq!(Meta::load(&page), Some(meta));
        assert_eq!(meta.unread(), 1);
        assert_eq!(Meta::load(&page[..9]), None);
    }
}
