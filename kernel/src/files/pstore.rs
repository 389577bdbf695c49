//! `/sys/fs/pstore`: what earlier lives left in the ramtrace region. Each record is a file, as in Linux; removing it erases what it shows.
//!
//! | name | content |
//! | --- | --- |
//! | `trace-ramtrace-N` | the trace of the top instance's buffer, or if that was not in the region, of the first instance's that was |
//! | `trace-ramtrace-N.INSTANCE` | that of another instance |
//! | the same with `.raw` | its pages; one record with the text |
//! | `dmesg-ramtrace-N` | the kernel's log |
//!
//! An instance whose name would make it look like pages is shown with an underscore more ([`kernel::pstore`]).
//!
//! N counts how many lives ago it was, from 0. A record keeps it until the next cold start, whichever others are removed.

use crate::memory::Phys;
use crate::ramtrace;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use kernel::console::vfs::{
    DirEntry, FileSystem, FmtSink, FsError, Sink, Stat, Stop, WriteMode, print,
};
use kernel::pstore::{log_name, raw_name, trace_name};
use trace::errno::Errno;
use trace::ramtrace::old::{OldError, OldLife, write_raw, write_text};
use trace::ramtrace::{Buffer, Life, Region, RegionError};

/// The mounted tree.
pub static PSTORE: Pstore = Pstore;

/// See [`PSTORE`].
pub struct Pstore;

/// What a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A buffer, by its number.
    Text(u8),
    /// The same.
    Raw(u8),
    Log,
}

struct Record {
    name: String,
    /// The number of the life.
    life: u64,
    content: Content,
}

/// The buffers that a life has left, and the names of their records. Those of a life that says nothing of itself any more have to be looked
/// for, and of them the top instance's alone has the short name.
fn buffers(region: &Region<Phys>, number: u64, ago: u64, life: Option<&Life>) -> Vec<(u8, String)> {
    let Some(life) = life else {
        let found = OldLife::read(region, number).map(|old| old.buffers);
        let found = found.unwrap_or_default().into_iter();
        let named = found.map(|buffer| match buffer.number {
            0 => (0, trace_name(ago, None)),
            number => (number, trace_name(ago, Some(&format!("buffer-{number}")))),
        });
        return named.collect();
    };
    // Also those that were erased: the others keep their names.
    let mut all: Vec<_> = life.buffers.iter().collect();
    all.sort_unstable_by_key(|buffer| (buffer.number, buffer.is_erased()));
    let there = |(_, buffer): &(usize, &Buffer)| !buffer.is_erased();
    let named = all.into_iter().enumerate().filter(there);
    named
        .map(|(n, buffer)| {
            let instance = (n != 0).then_some(buffer.name.as_str());
            (buffer.number, trace_name(ago, instance))
        })
        .collect()
}

/// All records, the newest life's first; no two of one name.
fn records(region: &Region<Phys>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let lives = region.old_lives();
    for number in region.old_numbers() {
        let Some(ago) = region.life().checked_sub(number + 1) else {
            continue;
        };
        let life = lives.iter().find(|life| life.number == number);
        let mut add = |name: String, content| {
            if records.iter().all(|record| record.name != name) {
                records.push(Record {
                    name,
                    life: number,
                    content,
                });
            }
        };
        for (buffer, name) in buffers(region, number, ago, life) {
            add(raw_name(&name), Content::Raw(buffer));
            add(name, Content::Text(buffer));
        }
        if life.is_some_and(|life| !life.log.is_empty()) {
            add(log_name(ago), Content::Log);
        }
    }
    records
}

fn find(path: &str) -> Result<(&'static Region<Phys>, Record), Errno> {
    let region = ramtrace::region().ok_or(Errno::ENOENT)?;
    let mut records = records(region).into_iter();
    let found = records.find(|record| record.name == path);
    found.map(|record| (region, record)).ok_or(Errno::ENOENT)
}

fn refusal(error: OldError) -> FsError {
    match error {
        OldError::NoMemory => FsError::new(Errno::ENOMEM, format!("{error}")),
        _ => FsError::new(Errno::ENOENT, format!("{error}")),
    }
}

fn show_log(region: &Region<Phys>, number: u64, out: &mut dyn Sink) -> Result<(), FsError> {
    // A copy: nobody waits for a reader.
    let read = region.with_old(|| {
        let lives = region.old_lives();
        let life = lives.into_iter().find(|life| life.number == number)?;
        Some(region.read_log(&life))
    });
    let (text, damaged) = read.ok_or(Errno::ENOENT)?;
    for piece in text.as_bytes().chunks(4096) {
        out.write(piece)?;
    }
    if damaged > 0 {
        print(
            out,
            format_args!("# {damaged} damaged records of this log are left out\n"),
        )?;
    }
    Ok(())
}

impl FileSystem for Pstore {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        if !path.is_empty() {
            return Err(find(path).map_or(Errno::ENOENT, |_| Errno::ENOTDIR));
        }
        let records = ramtrace::region().map(records).unwrap_or_default();
        let entry = |record: Record| DirEntry {
            name: record.name,
            stat: Stat::file(0, true, false),
        };
        Ok(records.into_iter().map(entry).collect())
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        match path {
            // Names can be removed in it.
            "" => Ok(Stat::dir(true)),
            _ => find(path).map(|_| Stat::file(0, true, false)),
        }
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        if path.is_empty() {
            return Err(Errno::EISDIR.into());
        }
        let (region, record) = find(path)?;
        match record.content {
            Content::Log => show_log(region, record.life, out),
            Content::Text(buffer) => {
                let mut text = FmtSink::new(out);
                let written = write_text(region, record.life, buffer, &mut text);
                // Why it takes no more is the sink's to say.
                text.finish()?;
                written.map_err(refusal)
            }
            Content::Raw(buffer) => {
                let mut stop: Option<Stop> = None;
                let written = write_raw(region, record.life, buffer, &mut |page| {
                    out.write(page).map_err(|why| {
                        stop = Some(why);
                        OldError::Output
                    })
                });
                match stop {
                    Some(stop) => Err(stop.into()),
                    None => written.map_err(refusal),
                }
            }
        }
    }

    fn write(&self, path: &str, _: &[u8], _: WriteMode) -> Result<(), FsError> {
        find(path)?;
        Err(Errno::EACCES.into())
    }

    fn remove(&self, path: &str) -> Result<(), FsError> {
        let (region, record) = find(path)?;
        let erased = match record.content {
            Content::Log => region.erase_log(record.life),
            Content::Text(buffer) | Content::Raw(buffer) => {
                region.erase_buffer(record.life, buffer)
            }
        };
        erased.map_err(|error| match error {
            RegionError::Busy => FsError::new(
                Errno::EBUSY,
                "somebody reads what earlier lives left; try again when that is done",
            ),
            RegionError::NoLife(_) => Errno::ENOENT.into(),
            error => FsError::new(Errno::EIO, format!("{error}")),
        })
    }
}
