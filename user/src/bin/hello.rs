//! Says hello, and who it is: the first program to try.
#![no_std]
#![no_main]

use user::{Args, println, sys};

user::program!(main);

fn main(args: Args) -> i32 {
    let whom = args.get(1).unwrap_or("world");
    println!("hello, {whom}, from process {}", sys::getpid());
    0
}
