//! What is known of a data page beside its content: 32 bytes, of four words that are each written at once.
//!
//! | word | content |
//! | --- | --- |
//! | 0 | [`Owner`] with a check of its own; 0: nobody's |
//! | 1 | `seq`, the page's number among those of its buffer: grows by one from each page to the one written after it |
//! | 2 | how many events a full buffer had refused when the page was begun (of an adopted buffer: since then) |
//! | 3 | [`Seal`] |

use super::store::put;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use handover::mem::{PAGE_SHIFT, PAGE_SIZE};

/// Bytes of a mark.
pub const SIZE: usize = size_of::<Mark>();

/// What a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A sub-buffer, or the first page of one.
    Events = 1,
    /// A further page of a sub-buffer.
    Rest = 2,
    /// Of the life itself: its state.
    State = 3,
    /// Of the life itself: its log.
    Log = 4,
}

/// Who owns a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The life's number, of which the low 24 bits are kept.
    pub life: u64,
    /// The buffer's number in that life: 0 the top instance's, else the instance's slot.
    pub buffer: u8,
    /// Its CPU.
    pub cpu: u8,
    /// log2 of the pages of the sub-buffer.
    pub order: u8,
    /// What for.
    pub kind: Kind,
}

/// The bits of a life's number that a mark keeps.
pub const LIFE_MASK: u64 = 0xff_ffff;

impl Owner {
    /// As the mark of data page `index` has it.
    pub fn encode(&self, index: u64) -> u64 {
        let word = (self.life & LIFE_MASK)
            | u64::from(self.buffer) << 24
            | u64::from(self.cpu) << 32
            | u64::from(self.order & 0xf) << 40
            | (self.kind as u64) << 44;
        word | check(word, index) << 48
    }

    /// Reads it; `None` for nobody's, and for one that was changed, or belongs to another page.
    pub fn decode(word: u64, index: u64) -> Option<Self> {
        let low = word & ((1 << 48) - 1);
        if low == 0 || word >> 48 != check(low, index) {
            return None;
        }
        let kind = match low >> 44 {
            1 => Kind::Events,
            2 => Kind::Rest,
            3 => Kind::State,
            4 => Kind::Log,
            _ => return None,
        };
        Some(Owner {
            life: low & LIFE_MASK,
            buffer: (low >> 24) as u8,
            cpu: (low >> 32) as u8,
            order: (low >> 40) as u8 & 0xf,
            kind,
        })
    }
}

/// 16 bits that tell whether a word was changed.
pub(super) fn check(word: u64, index: u64) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&word.to_ne_bytes());
    hasher.update(&index.to_ne_bytes());
    let crc = hasher.finalize();
    u64::from(crc ^ crc >> 16) & 0xffff
}

/// What of an event page is under a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// CRC-32 of the first three words of the mark, the page's time stamp, and the first `len` bytes of its data.
    pub crc: u32,
    /// Bytes of data that the checksum covers, a multiple of 4; 0: not sealed yet.
    pub len: usize,
    /// Nothing is written to the page any more: `len` is all that it holds. With a `len` of 0: see [`renumbers`](Self::renumbers).
    pub full: bool,
    /// The low 16 bits of the page's `seq`: so that who seals finds that the page was begun anew meanwhile.
    pub number: u16,
}

impl Seal {
    /// Of a page that is not sealed.
    pub const fn none(seq: u64) -> Self {
        Seal {
            crc: 0,
            len: 0,
            full: false,
            number: seq as u16,
        }
    }

    /// As the mark has it.
    pub const fn encode(self) -> u64 {
        (self.crc as u64)
            | ((self.len / 4) as u64 & 0x7fff) << 32
            | (self.full as u64) << 47
            | (self.number as u64) << 48
    }

    /// Whether the page is getting another number ([`Mark::renumber`]): that in the mark is the old one or the new one, and the page is
    /// one that is not sealed.
    pub const fn renumbers(self) -> bool {
        self.len == 0 && self.full
    }

    /// Reads it.
    pub const fn decode(word: u64) -> Self {
        Seal {
            crc: word as u32,
            len: (word >> 32) as usize % 0x8000 * 4,
            full: word >> 47 & 1 != 0,
            number: (word >> 48) as u16,
        }
    }
}

/// A data page's mark.
#[derive(Debug)]
#[repr(C)]
pub struct Mark {
    owner: AtomicU64,
    seq: AtomicU64,
    refused: AtomicU64,
    seal: AtomicU64,
}

impl Mark {
    /// The owner's word: see [`Owner::decode`].
    pub fn owner(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Says whose the page is: `word` of [`Owner::encode`]. It has to be an empty page.
    pub fn give(&self, word: u64) {
        // Release stores, which the compiler leaves in this order.
        put(&self.seal, Seal::none(0).encode());
        put(&self.seq, 0);
        put(&self.refused, 0);
        put(&self.owner, word);
    }

    /// It is nobody's any more. It has to be an empty page.
    pub fn take(&self) {
        put(&self.owner, 0);
    }

    /// The page's number.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// What was refused before it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The seal.
    pub fn seal(&self) -> Seal {
        Seal::decode(self.seal.load(Ordering::Relaxed))
    }

    /// The page is about to be emptied, and `seq` will be its number: before its commit word goes to 0.
    #[inline]
    pub fn unseal(&self, seq: u64) {
        put(&self.seal, Seal::none(seq).encode());
        // What follows must not come before it.
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }

    /// The page is empty, and is begun as number `seq`: after its commit word has gone to 0, before anything is committed. May be
    /// called again with the same, by a writer that was interrupted.
    #[inline]
    pub fn begin(&self, seq: u64, refused: u64) {
        self.refused.store(refused, Ordering::Release);
        self.seq.store(seq, Ordering::Release);
    }

    /// Gives a page that nobody writes to or seals another number. It keeps what it holds, and is not sealed any more.
    pub fn renumber(&self, seq: u64) {
        let none = Seal::none(seq);
        put(&self.seal, Seal { full: true, ..none }.encode());
        put(&self.seq, seq);
        put(&self.seal, none.encode());
    }

    /// Seals it, if it is still as `before` says. False if it was begun anew meanwhile.
    pub fn set_seal(&self, before: Seal, seal: Seal) -> bool {
        let (before, seal) = (before.encode(), seal.encode());
        let done = self
            .seal
            .compare_exchange(before, seal, Ordering::AcqRel, Ordering::Relaxed);
        done.is_ok()
    }

    /// The checksum of a page whose data begin with `words`, going on from `(crc, len)`, which covers the first `len` bytes.
    pub fn checksum(
        &self,
        time_stamp: u64,
        words: &[AtomicU32],
        from: Option<(u32, usize)>,
    ) -> u32 {
        let (mut hasher, done) = match from {
            Some((crc, len)) => (crc32fast::Hasher::new_with_initial(crc), len / 4),
            None => {
                let mut hasher = crc32fast::Hasher::new();
                for word in [self.owner(), self.seq(), self.refused(), time_stamp] {
                    hasher.update(&word.to_ne_bytes());
                }
                (hasher, 0)
            }
        };
        let mut bytes = [0; 256];
        for part in words.get(done..).unwrap_or(&[]).chunks(bytes.len() / 4) {
            for (word, bytes) in part.iter().zip(bytes.chunks_exact_mut(4)) {
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            hasher.update(&bytes[..part.len() * 4]);
        }
        hasher.finalize()
    }
}

/// The marks of a region, by their pages' addresses.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    table: NonNull<Mark>,
    data: u64,
    count: u64,
}

// SAFETY: marks are atomics, which may be reached from everywhere.
unsafe impl Send for Marks {}
// SAFETY: as above.
unsafe impl Sync for Marks {}

impl Marks {
    /// The `count` marks at `table` of the data pages from physical address `data` on.
    ///
    /// # Safety
    ///
    /// `table` is aligned to 8, and that many marks are there for as long as the program runs, accessed by nobody but through
    /// [`Mark`].
    pub unsafe fn new(table: NonNull<u8>, data: u64, count: u64) -> Self {
        Marks {
            table: table.cast(),
            data,
            count,
        }
    }

    /// That of data page `index`.
    #[inline]
    pub fn at(&self, index: u64) -> Option<&'static Mark> {
        // SAFETY: `index` is below `count`, so that the mark is in the table, which stays (`new`).
        (index < self.count).then(|| unsafe { self.table.add(index as usize).as_ref() })
    }

    /// The index of the data page at physical address `pa`.
    #[inline]
    pub fn index(&self, pa: u64) -> Option<u64> {
        let index = pa.checked_sub(self.data)? >> PAGE_SHIFT;
        (index < self.count).then_some(index)
    }

    /// That of the data page at `pa`.
    #[inline]
    pub fn of(&self, pa: u64) -> Option<&'static Mark> {
        self.at(self.index(pa)?)
    }

    /// The physical address of data page `index`.
    pub fn address(&self, index: u64) -> u64 {
        self.data + index * PAGE_SIZE
    }

    /// Number of data pages.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_as_it_was_written_and_no_changed_bit_passes() {
        let owner = Owner {
            life: 0x12_3456,
            buffer: 7,
            cpu: 63,
            order: 4,
            kind: Kind::Rest,
        };
        let word = owner.encode(1234);
        assert_eq!(Owner::decode(word, 1234), Some(owner));
        assert_eq!(Owner::decode(word, 1235), None);
        assert_eq!(Owner::decode(0, 0), None);
        for bit in 0..64 {
            assert_eq!(Owner::decode(word ^ 1 << bit, 1234), None, "bit {bit}");
        }
    }

    #[test]
    fn a_seal_reads_as_it_was_written() {
        for len in [0, 4, 4080, 65520] {
            for full in [false, true] {
                let seal = Seal {
                    crc: 0xdead_beef,
                    len,
                    full,
                    number: 0xfffe,
                };
                assert_eq!(Seal::decode(seal.encode()), seal);
            }
        }
    }

    #[test]
    fn a_checksum_goes_on_from_where_it_ended() {
        let mark = Mark {
            owner: AtomicU64::new(1),
            seq: AtomicU64::new(2),
            refused: AtomicU64::new(3),
            seal: AtomicU64::new(0),
        };
        let words: std::vec::Vec<AtomicU32> = (0..1020).map(AtomicU32::new).collect();
        let whole = mark.checksum(4, &words, None);
        for len in [4, 256, 1000, 4080] {
            let part = mark.checksum(4, &words[..len / 4], None);
            assert_eq!(mark.checksum(4, &words, Some((part, len))), whole);
        }
        mark.seq.store(1, Ordering::Relaxed);
        assert_ne!(mark.checksum(4, &words, None), whole);
    }
}
