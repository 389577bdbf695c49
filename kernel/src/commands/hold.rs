//! `hold-interrupts`: a latency on purpose, for `irqsoff` to find.

use crate::machine::clock;
use crate::memory::without_interrupts;
use alloc::format;
use core::hint::spin_loop;
use kernel::console::shell::{CmdError, Ctx};
use kernel::console::vfs::Sink;

/// A CPU that does not answer for longer is given up by some (machine::ipi).
const MOST_US: u64 = 500_000;

/// What `help hold-interrupts` prints.
pub const HELP: &str = "\
The tracer irqsoff, if it is chosen, finds them off for at least so long. At most\n\
500000 microseconds.";

/// The command.
pub fn run(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    let [micros] = args else {
        return Err(CmdError::usage("for how many microseconds?"));
    };
    let micros = micros.parse().ok().filter(|us| (1..=MOST_US).contains(us));
    let Some(micros) = micros else {
        return Err(CmdError::usage(format!(
            "not a number of microseconds from 1 to {MOST_US}"
        )));
    };
    hold(micros * 1000);
    Ok(())
}

#[inline(never)]
fn hold(ns: u64) {
    without_interrupts(|| {
        let now = || clock::nanos_at(clock::tsc());
        let start = now();
        while now() - start < ns {
            spin_loop();
        }
    });
}
