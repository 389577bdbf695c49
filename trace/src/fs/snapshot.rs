//! `snapshot`: the buffers as they were when they were set aside.
//!
//! Linux's `tracing_snapshot_write` and `print_snapshot_help` (`kernel/trace/trace.c`).

use super::parse::number;
use super::refusal::Refusal;
use crate::errno::Errno;
use crate::platform::Platform;
use crate::text;
use crate::tracer::{Instance, NOP, Tracer};
use core::fmt::{self, Write};

const HELP_ALL: &str = "\
# Snapshot commands:
# echo 0 > snapshot : Clears and frees snapshot buffer
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer.
# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')
";

const HELP_CPU: &str = "\
# Snapshot commands:
# echo 0 > snapshot : Invalid for per_cpu snapshot file.
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer for this cpu.
# echo 2 > snapshot : Clears this cpu's snapshot buffer (but does not allocate)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')
";

/// The snapshot as `trace` would show it; where it is empty, how it is used.
pub(super) fn print<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    cpu: Option<usize>,
    out: &mut dyn Write,
) -> fmt::Result {
    let chosen = match cpu {
        Some(cpu) => cpu..cpu + 1,
        None => 0..instance.nr_cpus(),
    };
    let mut buffers = chosen.filter_map(|cpu| instance.snapshot_buffer(cpu));
    if buffers.any(|buffer| !buffer.is_empty()) {
        return text::write_snapshot(tracer, instance, cpu, out);
    }
    let state = match instance.snapshot_allocated() {
        true => "allocated",
        false => "freed",
    };
    write!(
        out,
        "# tracer: {NOP}\n#\n#\n# * Snapshot is {state} *\n#\n{}",
        match cpu {
            None => HELP_ALL,
            Some(_) => HELP_CPU,
        }
    )
}

/// 0 frees, 1 takes a snapshot, any other number clears it.
pub(super) fn write<P: Platform>(
    instance: &Instance<P>,
    cpu: Option<usize>,
    data: &[u8],
) -> Result<(), Refusal> {
    match (number(data)?, cpu) {
        (0, None) => Ok(instance.free_snapshot()?),
        (0, Some(_)) => Err(Errno::EINVAL.into()),
        (1, cpu) => Ok(instance.take_snapshot(cpu)?),
        (_, cpu) => Ok(instance.clear_snapshot(cpu)?),
    }
}
