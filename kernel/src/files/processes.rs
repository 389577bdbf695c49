//! What `/proc/<pid>` has of user processes. Nothing for kernel threads, as in Linux.

use crate::task::Task;
use crate::user::process;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use kernel::ring3::areas::Backing;

/// A task's parent: for kernel threads, who made it; the console, where that has ended.
pub fn parent(task: &Task) -> i32 {
    process::find(task.pid).map_or_else(|| task.parent(), |process| process.parent())
}

/// The arguments, each with a zero byte behind it.
pub fn cmdline(pid: i32) -> String {
    let mut text = String::new();
    if let Some(process) = process::find(pid) {
        for arg in process.args() {
            text.push_str(&String::from_utf8_lossy(arg));
            text.push('\0');
        }
    }
    text
}

/// The areas, in Linux's layout: range, rights, private or shared, offset, device, inode, name.
pub fn maps(pid: i32) -> String {
    let mut text = String::new();
    let Some(process) = process::find(pid) else {
        return text;
    };
    // Not formatted under the space's lock.
    let areas = process.with_space(|space| space.areas().cloned().collect::<Vec<_>>());
    for area in areas.unwrap_or_default() {
        let (kind, offset, name) = match &area.backing {
            Backing::Zero => ('p', 0, area.name),
            Backing::File { at, part, .. } => {
                let offset = (part.start as u64).saturating_sub(at - area.start);
                ('p', offset, process.path())
            }
            Backing::Shared(object) => ('s', object.offset(), object.name()),
        };
        let line = format!(
            "{:08x}-{:08x} {}{kind} {offset:08x} 00:00 0",
            area.start, area.end, area.rights
        );
        // Linux pads so that names stand in one column. Writing to a String cannot fail.
        let _ = match name {
            "" => writeln!(text, "{line} "),
            name => writeln!(text, "{line:<73}{name}"),
        };
    }
    text
}

/// The part of `status` that is about memory and files.
pub fn status(pid: i32) -> String {
    let Some(process) = process::find(pid) else {
        return String::new();
    };
    let (faults, calls) = process.counts();
    let open = process.with_files(|files| files.iter().flatten().count());
    match process.with_space(|space| space.sizes_kib()) {
        Some((size, resident, tables)) => format!(
            "FDSize:\t{open}\nPageFaults:\t{faults}\nSystemCalls:\t{calls}\nVmSize:\t{size:8} kB\nVmRSS:\t{resident:8} kB\nVmPTE:\t{tables:8} kB\n"
        ),
        None => String::new(),
    }
}
