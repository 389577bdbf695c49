//! The names of the tasks that have recorded: `saved_cmdlines`.
//!
//! A place for each of so many numbers of tasks ([`SIZE`], until `saved_cmdlines_size` says otherwise), chosen by the remainder of
//! the number: a task whose place is taken by another one takes it over, as in Linux. Writers never wait: who finds a place being written leaves it, and comes again with its next event.

use crate::sync::{AtomicU64, Ordering};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use handover::KState;

/// Places in a new table: Linux's `SAVED_CMDLINES_DEFAULT`.
pub const SIZE: usize = 128;
/// The most places: Linux's `PID_MAX_DEFAULT`.
pub const MAX_SIZE: usize = 32768;

/// A task's name: at most 15 bytes, as Linux keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskName {
    bytes: [u8; 15],
    len: usize,
}

impl TaskName {
    /// The text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("<...>")
    }

    fn words(&self) -> [u64; 2] {
        let mut all = [0; 16];
        all[..self.len].copy_from_slice(&self.bytes[..self.len]);
        [0, 8].map(|at| u64::from_ne_bytes(core::array::from_fn(|i| all[at + i])))
    }

    fn from_words(words: [u64; 2]) -> Self {
        let mut bytes = [0; 15];
        for (to, from) in bytes
            .iter_mut()
            .zip(words.iter().flat_map(|word| word.to_ne_bytes()))
        {
            *to = from;
        }
        let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        TaskName { bytes, len }
    }
}

impl Write for TaskName {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            let end = self.len + c.len_utf8();
            if c == '\0' || end > self.bytes.len() {
                break;
            }
            c.encode_utf8(&mut self.bytes[self.len..end]);
            self.len = end;
        }
        Ok(())
    }
}

/// A task's name as it crosses a kexec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedName {
    /// The task's number; -1 for an empty place.
    pub pid: i32,
    /// Its name, filled up with NULs: the first 8 bytes.
    pub first: u64,
    /// And the last ones.
    pub last: u64,
}

#[derive(Default)]
struct Slot {
    /// 0: never used. Odd: being written. Each writing adds 2.
    turn: AtomicU64,
    pid: AtomicU64,
    words: [AtomicU64; 2],
}

pub(super) struct Cmdlines(Box<[Slot]>);

impl Cmdlines {
    /// A table of `size` places, at least one; `None` if there is no memory for it.
    pub(super) fn new(size: usize) -> Option<Self> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(size.max(1)).ok()?;
        slots.extend((0..size.max(1)).map(|_| Slot::default()));
        Some(Cmdlines(slots.into_boxed_slice()))
    }

    /// Its places.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    fn slot(&self, pid: i32) -> &Slot {
        &self.0[pid as u32 as usize % self.0.len()]
    }

    /// Takes down the name of `pid`; says whether it is there now.
    pub(super) fn put(&self, pid: i32, name: &TaskName) -> bool {
        let slot = self.slot(pid);
        let turn = slot.turn.load(Ordering::Relaxed);
        if turn & 1 != 0
            || slot
                .turn
                .compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        slot.pid.store(u64::from(pid as u32), Ordering::Release);
        for (to, word) in slot.words.iter().zip(name.words()) {
            to.store(word, Ordering::Release);
        }
        slot.turn.store(turn + 2, Ordering::Release);
        true
    }

    fn read(slot: &Slot) -> Option<(i32, TaskName)> {
        let turn = slot.turn.load(Ordering::Acquire);
        if turn == 0 || turn & 1 != 0 {
            return None;
        }
        let pid = slot.pid.load(Ordering::Acquire) as u32 as i32;
        let words = [0, 1].map(|i: usize| slot.words[i].load(Ordering::Acquire));
        (slot.turn.load(Ordering::Acquire) == turn).then(|| (pid, TaskName::from_words(words)))
    }

    /// The name of `pid`; `None` if it is not there, or is being written.
    pub(super) fn get(&self, pid: i32) -> Option<TaskName> {
        Self::read(self.slot(pid))
            .filter(|(found, _)| *found == pid)
            .map(|(_, name)| name)
    }

    /// All that are there.
    pub(super) fn all(&self) -> impl Iterator<Item = (i32, TaskName)> + '_ {
        self.0.iter().filter_map(Self::read)
    }

    /// A number that changes, as good as always, with what is there.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a, over words.
        self.all().fold(0xcbf2_9ce4_8422_2325, |sum, (pid, name)| {
            let [first, last] = name.words();
            [pid as u64, first, last]
                .into_iter()
                .fold(sum, |sum, word| (sum ^ word).wrapping_mul(0x100_0000_01b3))
        })
    }

    /// As they cross; always as many as there are places.
    pub(super) fn save(&self) -> Vec<SavedName> {
        let mut saved = alloc::vec![SavedName::default(); self.0.len()];
        self.refresh(&mut saved);
        saved
    }

    /// Brings `saved`, one of [`save`](Self::save), up to date.
    pub(super) fn refresh(&self, saved: &mut [SavedName]) {
        for (to, slot) in saved.iter_mut().zip(&self.0) {
            *to = match Self::read(slot) {
                Some((pid, name)) => {
                    let [first, last] = name.words();
                    SavedName { pid, first, last }
                }
                None => SavedName {
                    pid: -1,
                    ..SavedName::default()
                },
            };
        }
    }

    /// What an earlier life took down. Nothing is believed of it but that it is a number and at most 15 bytes.
    pub(super) fn restore(&self, saved: &[SavedName]) {
        for name in saved.iter().filter(|name| name.pid >= 0) {
            self.put(name.pid, &TaskName::from_words([name.first, name.last]));
        }
    }
}
