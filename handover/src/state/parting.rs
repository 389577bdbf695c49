//! Which version of a type two kernels have in common; and where its two descriptions part, for the sentence that refuses a
//! stream.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::desc::{Body, Desc, FieldDesc, TypeDesc};
use super::stream::Entry;
use super::table::{Described, Table, TableBody, TableField, TableVariant, Types};
use crate::error::{Error, Name};

/// Names the field at which two descriptions part, from the table that came with the stream.
pub(super) fn explain(mut error: Error, root: &TypeDesc, table: Option<Table<'_>>) -> Error {
    let (Error::StateLayout { name, field, .. }
    | Error::StateTooNew { name, field, .. }
    | Error::StateTooOld { name, field, .. }) = &mut error
    else {
        return error;
    };
    let (Ok(ours), Some(theirs)) = (Types::of(root, name), table) else {
        return error;
    };
    let ours = ours.iter().find(|desc| desc.name == *name);
    let parting = ours.zip(theirs.types.iter().find(|d| d.name == *name));
    if let Some(found) = parting.and_then(|(ours, d)| parts_at(ours.desc(), d, &theirs)) {
        *field = found;
    }
    error
}

/// The first field or variant of theirs that ours has not, or has in another form; else the first of ours that theirs
/// has not.
fn parts_at(ours: &Desc, theirs: &Described<'_>, table: &Table<'_>) -> Option<Name> {
    let same = |field: &FieldDesc, other: &TableField<'_>| {
        field.name == other.name && field.ty.to_string() == table.shown(&other.ty).to_string()
    };
    // What is too old to be read lacks what came since.
    let in_version = match theirs.version < ours.min_version {
        true => ours.version,
        false => theirs.version,
    };
    let (ours, theirs): (Vec<_>, Vec<_>) = match (&ours.body, &theirs.body) {
        (Body::Struct(ours), TableBody::Struct { fields, .. }) => {
            let ours: Vec<_> = ours.iter().filter(|f| !f.section).collect();
            let missing = |f: &TableField<'_>| !ours.iter().any(|o| same(o, f));
            if let Some(field) = fields.iter().find(|f| missing(f)) {
                return Some(Name::new(field.name));
            }
            (
                ours.iter()
                    .filter(|f| f.is_in(in_version))
                    .map(|f| f.name)
                    .collect(),
                fields.iter().map(|f| f.name).collect(),
            )
        }
        (Body::Enum(ours), TableBody::Enum(variants)) => {
            let missing = |v: &TableVariant<'_>| {
                !ours.iter().any(|o| {
                    o.name == v.name
                        && o.tag == v.tag
                        && o.fields.len() == v.fields.len()
                        && o.fields.iter().zip(&v.fields).all(|(o, f)| same(o, f))
                })
            };
            if let Some(variant) = variants.iter().find(|v| missing(v)) {
                return Some(Name::new(variant.name));
            }
            (
                ours.iter().map(|v| v.name).collect(),
                variants.iter().map(|v| v.name).collect(),
            )
        }
        _ => return None,
    };
    ours.iter()
        .find(|name| !theirs.contains(name))
        .map(|name| Name::new(name))
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
            stream: fingerprint,
            known,
            field: Name::new(""),
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
