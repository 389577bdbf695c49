//! Which version of a type two kernels have in common; and where its two descriptions part, for the sentence that refuses a
//! stream.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::desc::{Body, Desc, FieldDesc, TypeDesc};
use super::stream::Entry;
use super::table::{Described, Table, TableBody, Types};
use crate::error::{Error, Name, Parting};

/// Says of a value that was refused what the two kernels describe differently, from the table that came with the stream.
pub(super) fn explain(
    mut error: Error,
    desc: &Desc,
    root: &TypeDesc,
    table: Option<Table<'_>>,
) -> Error {
    let (Error::StateLayout { name, .. }
    | Error::StateTooNew { name, .. }
    | Error::StateTooOld { name, .. }) = error
    else {
        return error;
    };
    let (Ok(types), Some(table)) = (Types::of(root, name), table) else {
        return error;
    };
    let another = |written: &&Described<'_>| name == desc.name && written.name != name;
    if let Some(written) = table.root_type().filter(another) {
        let sides = Sides::of(desc, written, written.version, &table);
        return Error::StateOther {
            name,
            id: desc.id,
            stream: Name::new(written.name),
            renamed: sides.is_some_and(|sides| sides.part_at() == Parting::Unknown),
        };
    }
    let ours = types.iter().find(|ours| ours.name == name);
    let theirs = table.types.iter().find(|theirs| theirs.name == name);
    let Some((ours, theirs)) = ours.map(|ours| ours.desc()).zip(theirs) else {
        return error;
    };
    let part_in = |version| {
        let sides = Sides::of(ours, theirs, version, &table);
        sides.map_or(Parting::Unknown, |sides| sides.part_at())
    };
    match &mut error {
        Error::StateLayout { version, at, .. } => *at = part_in(*version),
        // What is too old to be read lacks what came since.
        Error::StateTooOld { field, .. } => *field = part_in(ours.version).name(),
        Error::StateTooNew { field, .. } => *field = part_in(theirs.version).name(),
        _ => {}
    }
    error
}

/// A field or variant, as the two sides are held against each other.
struct Part<'a> {
    name: &'a str,
    /// Its type, or its tag and fields, as text.
    form: String,
    /// Of this kernel's: the field.
    field: Option<&'static FieldDesc>,
}

/// What this kernel has in a version, and what the stream's description has.
struct Sides<'a> {
    ours: Vec<Part<'static>>,
    theirs: Vec<Part<'a>>,
    /// The stream describes a later version: what is only in it may have come since.
    later: bool,
    /// They are variants of enums.
    variants: bool,
}

impl<'a> Sides<'a> {
    /// `None` where one is a struct and the other is not.
    fn of(ours: &Desc, written: &Described<'a>, version: u32, table: &Table<'a>) -> Option<Self> {
        let (ours, theirs) = match (ours.body, &written.body) {
            (Body::Struct(ours), TableBody::Struct { fields, .. }) => {
                let ours = ours.iter().filter(|f| !f.section && f.is_in(version));
                let ours = ours.map(|f| Part {
                    name: f.name,
                    form: f.ty.to_string(),
                    field: Some(f),
                });
                let theirs = fields.iter().map(|f| Part {
                    name: f.name,
                    form: table.shown(&f.ty).to_string(),
                    field: None,
                });
                (ours.collect(), theirs.collect())
            }
            (Body::Enum(ours), TableBody::Enum(variants)) => {
                let ours = ours.iter().filter(|v| v.since <= version);
                let ours = ours.map(|v| Part {
                    name: v.name,
                    form: (v.fields.iter()).fold(v.tag.to_string(), |form, f| {
                        format!("{form}, {}: {}", f.name, f.ty)
                    }),
                    field: None,
                });
                let theirs = variants.iter().map(|v| Part {
                    name: v.name,
                    form: (v.fields.iter()).fold(v.tag.to_string(), |form, f| {
                        format!("{form}, {}: {}", f.name, table.shown(&f.ty))
                    }),
                    field: None,
                });
                (ours.collect(), theirs.collect())
            }
            _ => return None,
        };
        Some(Sides {
            ours,
            theirs,
            later: written.version > version,
            variants: matches!(written.body, TableBody::Enum(_)),
        })
    }

    /// What differs first, in the stream's order.
    fn part_at(&self) -> Parting {
        let here = |name| self.ours.iter().find(|ours| ours.name == name);
        let there = |name| self.theirs.iter().any(|theirs| theirs.name == name);
        let changed = self
            .theirs
            .iter()
            .find_map(|theirs| match here(theirs.name) {
                None if self.later => None,
                None => Some(Parting::OnlyStream(Name::new(theirs.name))),
                Some(ours) if ours.form == theirs.form => None,
                Some(ours) => Some(match ours.field {
                    Some(known) => Parting::Type {
                        known,
                        stream: Name::new(&theirs.form),
                    },
                    None => Parting::Variant(Name::new(theirs.name)),
                }),
            });
        let missing = || {
            let ours = self.ours.iter().find(|ours| !there(ours.name))?;
            Some(Parting::OnlyHere(ours.name))
        };
        let moved = || {
            let ours = self.ours.iter().filter(|ours| there(ours.name));
            let theirs = self.theirs.iter().filter(|t| here(t.name).is_some());
            let (ours, _) = ours.zip(theirs).find(|(o, t)| o.name != t.name)?;
            Some(Parting::Order(Name::new(ours.name)))
        };
        let found = match self.later {
            // What the later version lacks may be written for older kernels all the same, with its default.
            true => changed.or_else(moved).or_else(missing),
            false => changed.or_else(missing).or_else(moved),
        };
        match found.unwrap_or_default() {
            Parting::Unknown => Parting::Unknown,
            found if self.variants => Parting::Variant(found.name()),
            found => found,
        }
    }
}

/// The version in which a kernel with this description reads the entry: the entry's own, or, where that is newer, the
/// kernel's own if the entry offers it.
pub(super) fn reading_version(desc: &Desc, entry: &Entry<'_>) -> Result<u32, Error> {
    let name = desc.name;
    if entry.version < desc.min_version {
        return Err(Error::StateTooOld {
            name,
            stream: entry.version,
            min: desc.min_version,
            known: desc.version,
            field: Name::new(""),
        });
    }
    let version = entry.version.min(desc.version);
    let known = desc.fingerprint_at(version);
    match entry.fingerprint(version) {
        Some(fingerprint) if fingerprint == known => Ok(version),
        Some(fingerprint) => Err(Error::StateLayout {
            name,
            version,
            written: entry.version,
            writes: desc.version,
            stream: fingerprint,
            known,
            at: Parting::Unknown,
        }),
        None => Err(Error::StateTooNew {
            name,
            stream: entry.version,
            readable_by: entry.readable_by,
            known: desc.version,
            field: Name::new(""),
        }),
    }
}
