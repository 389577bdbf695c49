//! Keeps a CPU busy, in ring 3 alone: for good, or for a number of seconds.
#![no_std]
#![no_main]

use user::{Args, eprintln, sys};

user::program!(main);

fn main(args: Args) -> i32 {
    let until = match args.get(1).map(str::parse::<u64>) {
        None => u64::MAX,
        Some(Ok(seconds)) => sys::now_nanos().saturating_add(seconds.saturating_mul(1_000_000_000)),
        Some(Err(_)) => {
            eprintln!("spin: a number of seconds is wanted");
            return 2;
        }
    };
    loop {
        for _ in 0..1_000_000 {
            core::hint::spin_loop();
        }
        if until != u64::MAX && sys::now_nanos() >= until {
            return 0;
        }
    }
}
