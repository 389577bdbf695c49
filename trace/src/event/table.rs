//! Which number means which event, now and in the records of earlier lives.

use super::format::View;
use super::{EventDesc, Kind};
use crate::error::TraceError;
use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// The first number of an event that is not one of ftrace's own.
pub const FIRST_ID: u16 = 19;
/// The most events that saved state may name.
const MAX_EVENTS: usize = 8192;

/// An event as it crosses a kexec: enough to find it again by name, or to print its records without knowing it.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedEvent {
    /// Its number in the records.
    pub id: u16,
    /// Its group.
    pub system: String,
    /// Its name.
    pub name: String,
    /// See [`EventDesc::fingerprint`].
    pub fingerprint: u64,
    /// Whether it is recorded.
    pub enabled: bool,
    /// Its own fields.
    pub fields: Vec<SavedField>,
    /// What follows `print fmt: ` in its format file.
    pub print: String,
}

/// A field of a [`SavedEvent`].
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedField {
    /// Its name.
    pub name: String,
    /// Its type as C writes it.
    pub c_type: String,
    /// Number of elements of an array.
    pub count: Option<u32>,
    /// Offset in the record in bytes.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
    /// Whether it is signed.
    pub signed: bool,
    /// 0 integer, 1 array of integers, 2 characters, 3 `__data_loc` string, 4 + log2(n) `__data_loc` array of integers of n
    /// bytes.
    pub kind: u8,
}

impl SavedField {
    pub(super) fn view(&self) -> View<'_> {
        let count = self.count.map(|n| n as usize);
        let size = self.size as usize;
        View {
            name: &self.name,
            c_type: &self.c_type,
            count,
            offset: self.offset as usize,
            size,
            signed: self.signed,
            kind: match self.kind {
                1 => Kind::Array((size / count.unwrap_or(1).max(1)).max(1)),
                2 => Kind::Chars,
                3 => Kind::Str,
                4..=7 => Kind::Dynamic(1 << (self.kind - 4)),
                _ => Kind::Int,
            },
        }
    }
}

/// What a number stands for.
#[derive(Debug)]
pub(crate) enum Known {
    /// An event of this kernel.
    Declared(&'static EventDesc),
    /// One of an earlier kernel that this one does not have in the same form.
    Foreign(SavedEvent),
}

/// All events, by ascending number.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Vec<(u16, Known)>,
    declared: &'static [&'static EventDesc],
}

impl Table {
    /// A table of the declared events alone, numbered in their order.
    pub(crate) fn new(declared: &'static [&'static EventDesc]) -> Result<Self, TraceError> {
        Self::adopt(declared, Vec::new()).map(|(table, _)| table)
    }

    /// A table that keeps the numbers of `saved`. Nothing outside of it is changed yet: see [`Table::apply`]. Also returns
    /// which declared events are to be enabled.
    pub(crate) fn adopt(
        declared: &'static [&'static EventDesc],
        mut saved: Vec<SavedEvent>,
    ) -> Result<(Self, Vec<bool>), TraceError> {
        for (i, a) in declared.iter().enumerate() {
            if declared[..i]
                .iter()
                .any(|b| a.system == b.system && a.name == b.name)
            {
                return Err(TraceError::EventTwice {
                    system: a.system,
                    name: a.name,
                });
            }
        }
        if saved.len() > MAX_EVENTS || declared.len() > MAX_EVENTS {
            return Err(TraceError::TooManyEvents);
        }
        saved.sort_by_key(|event| event.id);
        for (i, event) in saved.iter().enumerate() {
            if event.id < FIRST_ID || (i > 0 && saved[i - 1].id == event.id) {
                return Err(TraceError::StateEvent(event.id));
            }
        }
        let mut enabled = alloc::vec![false; declared.len()];
        let mut placed = alloc::vec![false; declared.len()];
        let mut entries = Vec::new();
        for event in saved {
            let here = declared
                .iter()
                .position(|d| d.system == event.system && d.name == event.name);
            match here {
                Some(i) if declared[i].fingerprint == event.fingerprint && !placed[i] => {
                    placed[i] = true;
                    enabled[i] |= event.enabled;
                    entries.push((event.id, Known::Declared(declared[i])));
                }
                here => {
                    // A changed layout does not switch the event off; its old records keep their own description. What an
                    // older life had already left behind was marked as off there.
                    if let Some(i) = here {
                        enabled[i] |= event.enabled;
                    }
                    entries.push((event.id, Known::Foreign(event)));
                }
            }
        }
        let mut id = FIRST_ID;
        for (i, desc) in declared.iter().enumerate() {
            if placed[i] {
                continue;
            }
            while entries.iter().any(|(taken, _)| *taken == id) {
                id = id.checked_add(1).ok_or(TraceError::TooManyEvents)?;
            }
            entries.push((id, Known::Declared(desc)));
        }
        entries.sort_by_key(|(id, _)| *id);
        Ok((Table { entries, declared }, enabled))
    }

    /// Puts the numbers into the descriptions.
    pub(crate) fn apply(&self) {
        for (id, known) in &self.entries {
            if let Known::Declared(desc) = known {
                desc.set_id(*id);
            }
        }
        for (index, desc) in self.declared.iter().enumerate() {
            // At most MAX_EVENTS.
            desc.set_index(index as u16);
        }
    }

    pub(crate) fn get(&self, id: u16) -> Option<&Known> {
        let i = self.entries.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.entries[i].1)
    }

    pub(crate) fn declared(&self) -> &'static [&'static EventDesc] {
        self.declared
    }

    /// The events of earlier lives that this kernel does not declare, or declares otherwise, by their numbers.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = &SavedEvent> {
        self.entries.iter().filter_map(|(_, known)| match known {
            Known::Foreign(event) => Some(event),
            Known::Declared(_) => None,
        })
    }

    /// The table as it crosses.
    pub(crate) fn save(&self) -> Vec<SavedEvent> {
        self.entries
            .iter()
            .map(|(id, known)| match known {
                Known::Declared(desc) => save(*id, desc),
                Known::Foreign(event) => SavedEvent {
                    enabled: false,
                    ..event.clone()
                },
            })
            .collect()
    }

    /// Brings what can have changed since [`Table::save`] up to date.
    pub(crate) fn refresh(&self, saved: &mut [SavedEvent]) -> Result<(), TraceError> {
        if saved.len() != self.entries.len() {
            return Err(TraceError::StateShape);
        }
        for (event, (id, known)) in saved.iter_mut().zip(&self.entries) {
            if event.id != *id {
                return Err(TraceError::StateShape);
            }
            if let Known::Declared(desc) = known {
                event.enabled = desc.enabled_in(0);
            }
        }
        Ok(())
    }
}

fn save(id: u16, desc: &EventDesc) -> SavedEvent {
    let mut print = String::new();
    // Writing to a String does not fail.
    let _ = super::write_print_format(desc, &mut print);
    SavedEvent {
        id,
        system: desc.system.into(),
        name: desc.name.into(),
        fingerprint: desc.fingerprint,
        enabled: desc.enabled_in(0),
        fields: desc
            .fields
            .iter()
            .map(|f| SavedField {
                name: f.proto.name.into(),
                c_type: f.proto.c_type.into(),
                count: f.proto.count.map(|n| n as u32),
                offset: f.offset as u32,
                size: f.proto.size as u32,
                signed: f.proto.signed,
                kind: match f.proto.kind {
                    Kind::Int => 0,
                    Kind::Array(_) => 1,
                    Kind::Chars | Kind::Rest => 2,
                    Kind::Str => 3,
                    Kind::Dynamic(each) => 4 + each.trailing_zeros() as u8,
                },
            })
            .collect(),
        print,
    }
}
