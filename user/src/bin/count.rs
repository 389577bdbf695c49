//! `count [FROM [TO]]`: counts, each number first into the trace (`trace_marker`) and then onto the console: whatever ends the machine, the last
//! number on the console is in the trace.
#![no_std]
#![no_main]

use core::fmt::Write;
use user::abi::O_WRONLY;
use user::io::Printer;
use user::{Args, eprintln, println, sys};

user::program!(main);

const MARKER: &str = "/sys/kernel/tracing/trace_marker";

fn main(args: Args) -> i32 {
    let number = |at: usize, or: u64| args.get(at).map_or(Some(or), |word| word.parse().ok());
    let (Some(from), Some(to)) = (number(1, 1), number(2, u64::MAX)) else {
        eprintln!("usage: count [FROM [TO]]");
        return 2;
    };
    let counted = sys::open(MARKER, O_WRONLY).and_then(|marker| {
        for n in from..=to {
            let mut text = Printer::new(marker);
            // The error is kept for `finish`.
            let _ = write!(text, "count {n}");
            text.finish()?;
            println!("counted {n}");
        }
        Ok(())
    });
    match counted {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("count: {MARKER}: {error}");
            1
        }
    }
}
