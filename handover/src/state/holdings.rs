//! The memory that the states of a stream call their own, found by the descriptions that travel with them: no type has to be
//! known, and nothing is allocated for each page.

use super::codec::{Decoder, MAX_DEPTH};
use super::desc::section_key;
use super::stream::{Entry, StreamReader};
use super::table::{Table, TableBody, TableField, TableType};
use crate::error::{Error, Name, ValueFault};
use crate::page::PageRef;
use crate::preserved::{Holding, NotPreserved, Preserved};
use crate::range::PhysRange;

impl StreamReader<'_> {
    /// Calls `f` with all memory that an entry calls its own: what stands in its fields with `#[kstate(pages)]`.
    ///
    /// # Errors
    ///
    /// [`Error::StateValue`] where the entry or its description cannot be read, [`Error::EntryDescription`] where that is of
    /// another type. What was found before that, `f` has got.
    pub fn for_each_holding(
        &self,
        entry: &Entry<'_>,
        f: &mut dyn FnMut(Holding),
    ) -> Result<(), Error> {
        let table = self.table(entry)?;
        walk(&table, entry, f)
    }

    /// Checks that all is preserved that the entries whose ids are `known` call their own. One that cannot be read by its
    /// description is left to who gets it.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check_holdings(
        &self,
        preserved: &dyn Preserved,
        known: impl Fn(u32) -> bool,
    ) -> Result<(), NotPreserved> {
        for entry in self.entries().filter(|entry| known(entry.id)) {
            let Ok(table) = self.table(&entry) else {
                continue;
            };
            let mut lost = None;
            let _ = walk(&table, &entry, &mut |holding| {
                if lost.is_none() && !holding.is_preserved(preserved) {
                    lost = Some(holding);
                }
            });
            if let Some(holding) = lost {
                return Err(NotPreserved {
                    name: Name::new(table.root_type().map_or("?", |described| described.name)),
                    id: entry.id,
                    instance: entry.instance,
                    holding,
                });
            }
        }
        Ok(())
    }
}

fn walk(table: &Table<'_>, entry: &Entry<'_>, f: &mut dyn FnMut(Holding)) -> Result<(), Error> {
    if !table.has_pages() {
        return Ok(());
    }
    let mut walk = Walk {
        table,
        dec: Decoder::new(entry.data),
        f,
        // As in `dump`: a hostile description could have millions of values that take no byte.
        budget: entry.data.len().saturating_mul(4).saturating_add(1000),
    };
    // An entry's own head is that of the entry.
    match &table.root {
        TableType::Described(number) => walk.described(*number, 0),
        other => walk.value(other, false, 0),
    }
}

struct Walk<'t, 'a, 'f> {
    table: &'t Table<'a>,
    dec: Decoder<'t>,
    f: &'f mut dyn FnMut(Holding),
    /// Values that may come yet.
    budget: usize,
}

impl Walk<'_, '_, '_> {
    fn fields(&mut self, fields: &[TableField<'_>], depth: u32) -> Result<(), Error> {
        for field in fields {
            self.head(&field.ty)?;
            self.value(&field.ty, field.pages, depth + 1)?;
        }
        Ok(())
    }

    /// What precedes a described type, or a list of it: version and fingerprint, which `get` holds against its own.
    fn head(&mut self, ty: &TableType) -> Result<(), Error> {
        match ty {
            TableType::Array(inner, _) | TableType::List(inner) | TableType::Optional(inner) => {
                self.head(inner)
            }
            TableType::Described(_) => self.dec.bytes(8).map(drop),
            _ => Ok(()),
        }
    }

    fn described(&mut self, number: u16, depth: u32) -> Result<(), Error> {
        let table = self.table;
        let Some(described) = table.described(number) else {
            return Err(self.dec.fault(ValueFault::Range(u64::from(number))));
        };
        match &described.body {
            TableBody::Struct { fields, sections } => {
                while let Some(section) = self.dec.section()? {
                    let known = sections.iter().find(|s| section_key(s.name) == section.key);
                    match known {
                        Some(field) => self.fields(core::slice::from_ref(field), depth)?,
                        None => self.dec.skip_section(section)?,
                    }
                }
                self.fields(fields, depth)
            }
            TableBody::Enum(variants) => {
                let tag = self.dec.u32()?;
                match variants.iter().find(|v| v.tag == tag) {
                    Some(variant) => self.fields(&variant.fields, depth),
                    None => Err(self.dec.fault(ValueFault::Tag(tag))),
                }
            }
        }
    }

    /// A value; `owned`: it stands in a field whose memory is handed over.
    fn value(&mut self, ty: &TableType, owned: bool, depth: u32) -> Result<(), Error> {
        // As deep as a value may be, and a list in each.
        if depth > 2 * MAX_DEPTH {
            return Err(self.dec.fault(ValueFault::Depth));
        }
        self.budget = self
            .budget
            .checked_sub(1)
            .ok_or(self.dec.fault(ValueFault::Length(u32::MAX)))?;
        match ty {
            TableType::Page if owned => {
                let raw = self.dec.u64()?;
                let block = PageRef::new(raw & !0xff, raw as u8)
                    .map_err(|_| self.dec.fault(ValueFault::Page(raw)))?;
                (self.f)(Holding::Block(block));
                Ok(())
            }
            TableType::Memory if owned => {
                let (start, end) = (self.dec.u64()?, self.dec.u64()?);
                let range = PhysRange { start, end };
                if range.check_forward().is_err() {
                    return Err(self.dec.fault(ValueFault::Memory { start, end }));
                }
                if !range.is_empty() {
                    (self.f)(Holding::Range(range));
                }
                Ok(())
            }
            TableType::Text => {
                let len = self.dec.count(1)?;
                self.dec.bytes(len).map(drop)
            }
            TableType::Optional(inner) => match self.dec.array()? {
                [0] => Ok(()),
                [1] => self.value(inner, owned, depth + 1),
                [other] => Err(self.dec.fault(ValueFault::Bool(other))),
            },
            TableType::Array(inner, len) => self.list(inner, *len as usize, owned, depth),
            TableType::List(inner) => {
                let count = self.dec.count(1)?;
                self.list(inner, count, owned, depth)
            }
            TableType::Map(key, value) => {
                let count = self.dec.count(1)?;
                self.head(key)?;
                self.head(value)?;
                for _ in 0..count {
                    self.value(key, owned, depth + 1)?;
                    self.value(value, owned, depth + 1)?;
                }
                Ok(())
            }
            TableType::Described(number) => self.described(*number, depth + 1),
            other => self.dec.bytes(size_of(other).unwrap_or(0)).map(drop),
        }
    }

    fn list(
        &mut self,
        inner: &TableType,
        count: usize,
        owned: bool,
        depth: u32,
    ) -> Result<(), Error> {
        let of_interest = owned && matches!(inner, TableType::Page | TableType::Memory);
        if let Some(size) = size_of(inner).filter(|_| !of_interest) {
            return self.dec.bytes(size.saturating_mul(count)).map(drop);
        }
        (0..count).try_for_each(|_| self.value(inner, owned, depth + 1))
    }
}

/// Bytes of a value, where all take the same.
fn size_of(ty: &TableType) -> Option<usize> {
    match ty {
        TableType::Bool => Some(1),
        TableType::Unsigned(bits) | TableType::Signed(bits) => Some(usize::from(*bits / 8)),
        TableType::Page | TableType::Offset => Some(8),
        TableType::Memory => Some(16),
        _ => None,
    }
}
