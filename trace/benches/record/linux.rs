//! Linux's own buffers, where this host has them.

use crate::{Cost, ROUNDS, USUAL, cost, lttng, payload, row};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// The rows; one that cannot be measured says why.
pub fn rows(floor: Cost) {
    match lttng::cost() {
        Ok(cost) => row("LTTng-UST, 16 bytes", cost, floor),
        Err(why) => println!("{:<48} left out: {why}", "LTTng-UST"),
    }
    match marker() {
        Ok(cost) => row("Linux trace_marker_raw less /dev/null", cost, floor),
        Err(why) => println!("{:<48} left out: {why}", "Linux trace_marker_raw"),
    }
}

/// A write of an event to the kernel's ring buffer, less the same write to where nothing is done with it.
fn marker() -> Result<Cost, String> {
    let path = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .map(|dir| Path::new(dir).join("trace_marker_raw"))
        .into_iter()
        .find(|path| path.exists())
        .ok_or("this host has no tracefs")?;
    let marker = open(&path)?;
    let null = open(Path::new("/dev/null"))?;
    let (marker, null) = (writes(marker)?, writes(null)?);
    Ok(Cost {
        ns: marker.ns - null.ns,
        // Those of the kernel are not seen by single steps.
        instructions: None,
    })
}

fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().write(true).open(path);
    file.map_err(|error| format!("{}: {error}", path.display()))
}

fn writes(mut file: File) -> Result<Cost, String> {
    const { assert!(ROUNDS > 0 && USUAL >= 4) };
    // The first four bytes are the event's number, of the user's own choice.
    let bytes = payload::<USUAL>();
    file.write_all(&bytes).map_err(|error| error.to_string())?;
    Ok(cost(
        |n| {
            for _ in 0..n {
                let _ = file.write_all(&bytes);
            }
        },
        || {},
    ))
}
