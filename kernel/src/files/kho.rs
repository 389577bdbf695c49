//! `/sys/kernel/debug/kho` and `/sys/kernel/kho`: what was handed over, what will be, and damage on purpose.

use crate::{handing, memory};
use handover::range::PhysRange;
use kernel::console::genfs::GenFile;
use kernel::console::vfs::{FsError, Sink, print};
use trace::errno::Errno;

/// The tree.
pub const FILES: &[GenFile] = &[
    GenFile::read_only("in/fdt", incoming),
    GenFile::read_only("out/fdt", outgoing),
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
    match handing::incoming_fdt() {
        Some(fdt) => Ok(out.write(fdt)?),
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

fn each_scratch(out: &mut dyn Sink, value: fn(&PhysRange) -> u64) -> Result<(), FsError> {
    for range in memory::with_scratch(|pool| pool.regions().to_vec()) {
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
    handing::damage::want(text).ok_or_else(|| {
        FsError::new(
            Errno::EINVAL,
            "no such damage; `cat` the file to see what there is",
        )
    })
}
