//! Copies files, or its input, to its output.
#![no_std]
#![no_main]

use user::abi::O_RDONLY;
use user::{Args, Error, eprintln, sys};

user::program!(main);

fn copy(from: i32) -> Result<(), Error> {
    let mut piece = [0; 4096];
    loop {
        match sys::read(from, &mut piece)? {
            0 => return Ok(()),
            len => sys::write_all(1, &piece[..len])?,
        }
    }
}

fn main(args: Args) -> i32 {
    if args.len() < 2 {
        return match copy(0) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("cat: {error}");
                1
            }
        };
    }
    let mut status = 0;
    for path in args.rest() {
        let done = sys::open(path, O_RDONLY).and_then(|fd| {
            let copied = copy(fd);
            sys::close(fd)?;
            copied
        });
        if let Err(error) = done {
            eprintln!("cat: {path}: {error}");
            status = 1;
        }
    }
    status
}
