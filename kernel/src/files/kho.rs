//! `/sys/kernel/debug/kho` and `/sys/kernel/kho`: what was handed over, what will be, and damage on purpose.

use crate::boot;
use crate::demo_state::BOOTS;
use crate::handing::report;
use crate::{handing, kho_test, memory};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use handover::dump;
use handover::metadata::{self, KexecMetadata};
use handover::page::PageRef;
use handover::range::{self, PhysRange};
use handover::state::StreamReader;
use kernel::console::genfs::GenFile;
use kernel::console::vfs::{FsError, Sink, Stop, print};
use kernel::params::Extent;
use trace::errno::Errno;

/// Blobs by name; `None` for one of which no copy was kept.
type Blobs = Cow<'static, [(String, Option<Vec<u8>>)]>;

/// The tree, but for `in/sub_fdts` and `out/sub_fdts`, whose names follow from what is handed over.
pub const FILES: &[GenFile] = &[
    GenFile::read_only("in/fdt", incoming),
    GenFile::read_only("in/state", |out| show_state(incoming_blobs(), out)),
    GenFile::read_only("in/metadata", |out| show_metadata(incoming_blobs(), out)),
    GenFile::read_only("in/report", |out| Ok(out.write(report::text().as_bytes())?)),
    GenFile::read_only("in/preserved", came_preserved),
    GenFile::read_only("in/scratch_phys", |out| {
        each_inherited(out, |range| range.start)
    }),
    GenFile::read_only("in/scratch_len", |out| each_inherited(out, PhysRange::len)),
    GenFile::read_only("out/fdt", outgoing),
    GenFile::read_only("out/state", |out| {
        let blobs = outgoing_blobs()?;
        say_if_off(out)?;
        show_state(Ok(blobs), out)
    }),
    GenFile::read_only("out/metadata", |out| {
        let blobs = outgoing_blobs()?;
        say_if_off(out)?;
        show_metadata(Ok(blobs), out)
    }),
    GenFile::read_only("out/preserved", preserved),
    GenFile {
        path: "demo",
        read: Some(show_demo),
        write: Some(set_note),
    },
    GenFile {
        path: "test",
        read: Some(show_test),
        write: Some(run_test),
    },
    GenFile::read_only("out/scratch_phys", scratch_phys),
    GenFile::read_only("out/scratch_len", scratch_len),
    GenFile::read_only("out/scratch_use", scratch_use),
    GenFile {
        path: "out/damage",
        read: Some(show_damage),
        write: Some(set_damage),
    },
];

/// `/sys/kernel/kho`: the switch.
pub const SWITCH: &[GenFile] = &[GenFile {
    path: "active",
    read: Some(show_active),
    write: Some(set_active),
}];

fn show_active(out: &mut dyn Sink) -> Result<(), FsError> {
    let active = u8::from(handing::switch::active());
    Ok(print(out, format_args!("{active}\n"))?)
}

fn set_active(bytes: &[u8]) -> Result<(), FsError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let on = core::str::from_utf8(bytes)
        .ok()
        .and_then(kernel::cmdline::parse_switch);
    let on = on.ok_or(FsError::new(
        Errno::EINVAL,
        "write 1 (a kexec hands over) or 0 (an ordinary kexec, over which nothing crosses)",
    ))?;
    handing::switch::set(on);
    Ok(())
}

fn incoming(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(out.write(incoming_fdt()?)?)
}

fn incoming_fdt() -> Result<&'static [u8], FsError> {
    match handing::incoming_fdt() {
        Some(fdt) => Ok(fdt),
        None => Err(FsError::new(
            Errno::ENODEV,
            match handing::outcome() {
                handing::Outcome::Refused(_) => "what was handed over to this kernel was refused",
                _ => "nothing was handed over to this kernel",
            },
        )),
    }
}

fn outgoing(out: &mut dyn Sink) -> Result<(), FsError> {
    let fdt = handing::rehearse().map_err(|why| FsError::new(Errno::EBUSY, why))?;
    Ok(out.write(&fdt)?)
}

/// The first line of what would be handed over, where none of it would be.
fn say_if_off(out: &mut dyn Sink) -> Result<(), FsError> {
    if handing::switch::active() {
        return Ok(());
    }
    Ok(out.write(
        b"# 0 in /sys/kernel/kho/active: the next kexec is an ordinary one, and nothing of this would cross\n",
    )?)
}

/// What was handed over; why there is nothing, if there is nothing.
fn incoming_blobs() -> Result<Blobs, FsError> {
    incoming_fdt()?;
    Ok(Cow::Borrowed(report::incoming_blobs()))
}

fn outgoing_blobs() -> Result<Blobs, FsError> {
    let blobs = handing::rehearse_blobs().map_err(|why| FsError::new(Errno::EBUSY, why))?;
    let kept = blobs.into_iter().map(|(name, blob)| (name, Some(blob)));
    Ok(Cow::Owned(kept.collect()))
}

/// The names in `in/sub_fdts`: those that the predecessor handed something over under, also of subsystems that this kernel
/// does not have.
pub fn incoming_names() -> Vec<String> {
    let blobs = report::incoming_blobs();
    blobs.iter().map(|(name, _)| name.clone()).collect()
}

/// A blob in `in/sub_fdts`.
pub fn show_incoming(name: &str, out: &mut dyn Sink) -> Result<(), FsError> {
    show_blob(&incoming_blobs()?, name, out)
}

/// The names in `out/sub_fdts`: those that this kernel hands something over under.
pub fn outgoing_names() -> Vec<String> {
    handing::names().map(String::from).collect()
}

/// A blob in `out/sub_fdts`.
pub fn show_outgoing(name: &str, out: &mut dyn Sink) -> Result<(), FsError> {
    show_blob(&outgoing_blobs()?, name, out)
}

fn show_blob(blobs: &Blobs, name: &str, out: &mut dyn Sink) -> Result<(), FsError> {
    match blobs.iter().find(|(n, _)| n == name) {
        Some((_, Some(blob))) => Ok(out.write(blob)?),
        Some((_, None)) => Err(FsError::new(
            Errno::EFBIG,
            "it was too long for a copy to be kept when its subsystem had read it",
        )),
        None => Err(Errno::ENOENT.into()),
    }
}

/// Each stream as text, by the description that travels in it.
fn show_state(blobs: Result<Blobs, FsError>, out: &mut dyn Sink) -> Result<(), FsError> {
    for (name, blob) in blobs?.iter().filter(|(name, _)| name != metadata::NAME) {
        print(out, format_args!("# {name}\n"))?;
        let Some(blob) = blob else {
            print(out, format_args!("(too long for a copy to be kept)\n"))?;
            continue;
        };
        match StreamReader::new(blob) {
            Ok(stream) => {
                let mut lines = Lines::new(out);
                // What went wrong is kept by `lines`.
                let _ = dump::write_stream(&stream, &mut lines);
                lines.stopped?;
            }
            Err(error) => print(out, format_args!("({error})\n"))?,
        }
    }
    Ok(())
}

/// Passes text on line by line: a state that lists many pages is a long text.
struct Lines<'o> {
    out: &'o mut dyn Sink,
    line: String,
    stopped: Result<(), Stop>,
}

impl<'o> Lines<'o> {
    fn new(out: &'o mut dyn Sink) -> Self {
        Lines {
            out,
            line: String::new(),
            stopped: Ok(()),
        }
    }
}

impl fmt::Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.line.push_str(text);
        if text.ends_with('\n') {
            self.stopped = self.out.write(self.line.as_bytes());
            self.line.clear();
        }
        self.stopped.map_err(|_| fmt::Error)
    }
}

fn show_metadata(blobs: Result<Blobs, FsError>, out: &mut dyn Sink) -> Result<(), FsError> {
    let blobs = blobs?;
    let blob = blobs.iter().find(|(name, _)| name == metadata::NAME);
    let blob = blob.and_then(|(_, blob)| blob.as_deref());
    let metadata = KexecMetadata::decode(blob.unwrap_or_default())
        .map_err(|error| FsError::new(Errno::ENOENT, alloc::format!("{error}")))?;
    let (release, count) = (metadata.previous_release(), metadata.kexec_count);
    Ok(print(
        out,
        format_args!("previous release: {release}\nkexec count: {count}\n"),
    )?)
}

/// Ranges that are preserved now, with their owners, as the states of those say it, and the owners' totals. Others': what is ready
/// for a kexec.
fn preserved(out: &mut dyn Sink) -> Result<(), FsError> {
    // The blobs of this rehearsal are given back before it is listed what is preserved.
    let owners = handing::holdings().map_err(|why| FsError::new(Errno::EBUSY, why))?;
    say_if_off(out)?;
    let owners = owners.into_iter().filter(|(_, owned)| !owned.is_empty());
    let no_memory = |_| {
        FsError::new(
            Errno::ENOMEM,
            "there is no memory for a list of all that is preserved",
        )
    };
    let each_block = |f: &mut dyn FnMut(PageRef)| {
        let _ = memory::with_preserved(|map| {
            map.for_each_block(f);
            Ok(())
        });
    };
    let mut count = 0;
    each_block(&mut |_| count += 1);
    let mut left = Vec::new();
    left.try_reserve_exact(count).map_err(no_memory)?;
    // What is preserved between the two looks may be missing.
    each_block(&mut |block| {
        if left.len() < count {
            left.push(block.range());
        }
    });
    range::normalize(&mut left);
    for (owner, owned) in owners {
        let others = range::without(&left, &owned);
        let mut list = Vec::new();
        list.try_reserve_exact(others.clone().count())
            .map_err(no_memory)?;
        list.extend(others);
        show_owner(out, owner, range::without(&left, &list))?;
        left = list;
    }
    show_owner(out, "others", left.iter().copied())
}

/// Ranges that came over preserved, with what became of them, and totals; marked `(anew)`, those of who was not restored, some of
/// which it may have preserved in this life.
fn came_preserved(out: &mut dyn Sink) -> Result<(), FsError> {
    incoming_fdt()?;
    report::incoming_ranges()
        .iter()
        .try_for_each(|(what, ranges)| show_owner(out, what, ranges.iter().copied()))
}

fn show_owner(
    out: &mut dyn Sink,
    owner: &str,
    ranges: impl Iterator<Item = PhysRange>,
) -> Result<(), FsError> {
    let mut bytes = 0;
    for range in ranges {
        print(out, format_args!("{range} {owner}\n"))?;
        bytes += range.len();
    }
    Ok(print(
        out,
        format_args!("total {} KiB {owner}\n", bytes / 1024),
    )?)
}

/// What `demo_state` hands over.
fn show_demo(out: &mut dyn Sink) -> Result<(), FsError> {
    let boots = BOOTS.lock().clone();
    let (count, note) = (&boots.count, &boots.note);
    print(out, format_args!("boots: {count}\nnote: {note}\n"))?;
    #[cfg(not(feature = "next"))]
    print(out, format_args!("notes: {}\n", boots.notes))?;
    #[cfg(feature = "next")]
    print(
        out,
        format_args!(
            "streak: {}\nauthor: {}\n",
            boots.streak,
            boots.author.as_deref().unwrap_or("unknown")
        ),
    )?;
    Ok(())
}

fn set_note(bytes: &[u8]) -> Result<(), FsError> {
    let note = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let note = String::from(note.trim_end());
    #[cfg(feature = "next")]
    crate::events::demo_note(note.len() as u32, &note);
    let mut boots = BOOTS.lock();
    boots.note = note;
    boots.notes = boots.notes.saturating_add(1);
    #[cfg(feature = "next")]
    {
        boots.author = Some("console".into());
    }
    Ok(())
}

/// Every page of the test memory is checked for this.
fn show_test(out: &mut dyn Sink) -> Result<(), FsError> {
    let text = kho_test::check().map_err(|why| FsError::new(Errno::EIO, why))?;
    Ok(out.write(text.as_bytes())?)
}

fn run_test(bytes: &[u8]) -> Result<(), FsError> {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let text = text.trim();
    let done = match text.split_once(' ').unwrap_or((text, "")) {
        ("", "") => Ok(()),
        ("preserve", request) => kho_test::preserve(request),
        ("release", "") => kho_test::release(),
        _ => Err("write `preserve AMOUNT [every-other] [order=N] [seed=N]` or `release`".into()),
    };
    done.map_err(|why| FsError::new(Errno::EINVAL, why))
}

fn each_scratch(out: &mut dyn Sink, value: fn(&PhysRange) -> u64) -> Result<(), FsError> {
    for range in memory::with_scratch(|pool| pool.regions().to_vec()) {
        print(out, format_args!("{:#x}\n", value(&range)))?;
    }
    Ok(())
}

/// Scratch as the predecessor handed it on: with a handover, what this life keeps as well.
fn each_inherited(out: &mut dyn Sink, value: fn(&PhysRange) -> u64) -> Result<(), FsError> {
    incoming_fdt()?;
    for range in boot::info().scratch.iter().filter_map(Extent::range) {
        print(out, format_args!("{:#x}\n", value(&range)))?;
    }
    Ok(())
}

fn scratch_phys(out: &mut dyn Sink) -> Result<(), FsError> {
    each_scratch(out, |range| range.start)
}

fn scratch_len(out: &mut dyn Sink) -> Result<(), FsError> {
    each_scratch(out, |range| range.end - range.start)
}

fn scratch_use(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(out, format_args!("{}\n", memory::scratch_usage()))?)
}

fn show_damage(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(
        out,
        format_args!("{}{}\n", handing::damage::USAGE, handing::damage::wanted()),
    )?)
}

fn set_damage(bytes: &[u8]) -> Result<(), FsError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    handing::damage::want(text).map_err(|why| FsError::new(Errno::EINVAL, why))
}
