//! `hwlat_detector/mode`. Linux: `hwlat_mode_write`, `s_mode_show` (`kernel/trace/trace_hwlat.c`).

use super::parse::word;
use crate::errno::Errno;
use crate::platform::Platform;
use crate::tracer::{HwlatMode, Tracer};
use core::fmt::{self, Write};

/// Bytes of a mode that are looked at.
const MAX_MODE: usize = 64;

pub(super) fn print_mode<P: Platform>(tracer: &Tracer<P>, out: &mut dyn Write) -> fmt::Result {
    let now = tracer.hwlat_mode();
    for (i, mode) in HwlatMode::ALL.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        let name = mode.name();
        match mode == now {
            true => write!(out, "{space}[{name}]")?,
            false => write!(out, "{space}{name}")?,
        }
    }
    out.write_char('\n')
}

pub(super) fn set_mode<P: Platform>(tracer: &Tracer<P>, data: &[u8]) -> Result<(), Errno> {
    let name = word(&data[..data.len().min(MAX_MODE)])?;
    tracer.set_hwlat_mode(HwlatMode::parse(name).ok_or(Errno::EINVAL)?);
    Ok(())
}
