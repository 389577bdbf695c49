//! Work for the kernel, for `stress` and for tests: page faults or system calls, as many as there is time for.
#![no_std]
#![no_main]

use user::abi::{PAGE_BYTES, PROT_READ, PROT_WRITE};
use user::{Args, Error, eprintln, println, sys};

user::program!(main);

/// Pages that one round of `fault` maps, touches and unmaps.
const PAGES: usize = 64;

fn fault() -> Result<u64, Error> {
    let bytes = PAGES * PAGE_BYTES as usize;
    let at = sys::mmap_anonymous(bytes, PROT_READ | PROT_WRITE)?;
    for page in 0..PAGES {
        // SAFETY: mapped just now, for this alone. Volatile: the access is what it is about.
        unsafe { at.add(page * PAGE_BYTES as usize).write_volatile(1) };
    }
    // SAFETY: nobody has kept an address in it.
    unsafe { sys::munmap(at, bytes)? };
    Ok(PAGES as u64)
}

fn syscall() -> Result<u64, Error> {
    for _ in 0..1000 {
        sys::getpid();
    }
    Ok(1000)
}

fn main(args: Args) -> i32 {
    let work = match args.get(1) {
        Some("fault") => fault,
        Some("syscall") => syscall,
        _ => {
            eprintln!("load: fault or syscall, and for how many seconds (for good, without)");
            return 2;
        }
    };
    let until = match args.get(2).map(str::parse::<u64>) {
        None => u64::MAX,
        Some(Ok(seconds)) => sys::now_nanos().saturating_add(seconds.saturating_mul(1_000_000_000)),
        Some(Err(_)) => {
            eprintln!("load: a number of seconds is wanted");
            return 2;
        }
    };
    let mut done = 0u64;
    while until == u64::MAX || sys::now_nanos() < until {
        match work() {
            Ok(more) => done += more,
            Err(error) => {
                eprintln!("load: {error}");
                return 1;
            }
        }
    }
    println!("load: {done}");
    0
}
