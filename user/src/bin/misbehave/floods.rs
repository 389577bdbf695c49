//! Asking for more than there is, and children of all kinds.

use super::CHILD;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use trace::errno::Errno;
use user::abi::*;
use user::{Args, Error, files, println, sys};

/// Each child does the same, until the kernel says no; then all wait for their children. Prints nothing but the first one's
/// refusal: hundreds of lines help nobody.
///
/// Who was refused leaves its place to a child of somebody who was not yet: as many are born as die, and it would end by chance only,
/// after minutes as a rule on a slow machine. So children that come after a time make none.
pub fn fork_bomb(args: Args) -> i32 {
    /// In nanoseconds.
    const TIME: u64 = 5_000_000_000;
    let first = args.get(2).is_none();
    let end = match args.get(3).and_then(|text| text.parse().ok()) {
        Some(end) => end,
        None => sys::now_nanos() + TIME,
    };
    let given = format!("{end}");
    let mut children = 0;
    // The first one goes on: children that have ended keep their places until it waits for them.
    let refused = loop {
        if !first && sys::now_nanos() >= end {
            break None;
        }
        match sys::spawn(
            "/boot/bin/misbehave",
            &["misbehave", "fork-bomb", CHILD, &given],
        ) {
            Ok(_) => children += 1,
            Err(error) => break Some(error),
        }
    };
    while sys::wait(-1).is_ok() {}
    if let Some(refused) = refused.filter(|_| first) {
        println!("after {children} children of this one: {refused}");
    }
    0
}

/// Children that sleep, as many as there can be; then it sleeps itself.
pub fn crowd(args: Args) -> i32 {
    /// In nanoseconds.
    const HOUR: u64 = 3_600_000_000_000;
    if args.get(2).is_none() {
        while sys::spawn("/boot/bin/misbehave", &["misbehave", "crowd", CHILD]).is_ok() {}
    }
    loop {
        // Whoever wakes it does so to end it.
        let _ = sys::sleep_nanos(HOUR);
    }
}

pub fn map_flood() -> i32 {
    let mut maps = 0;
    loop {
        match sys::mmap_anonymous(4096, PROT_READ) {
            Ok(_) => maps += 1,
            Err(error) => {
                println!("after {maps} mappings: {error}");
                return 0;
            }
        }
    }
}

/// Touches memory until the kernel has no more for it.
pub fn eat_memory() -> i32 {
    let mut bytes = 64 << 20;
    loop {
        match sys::mmap_anonymous(bytes, PROT_READ | PROT_WRITE) {
            Ok(at) => {
                for page in 0..bytes / 4096 {
                    // SAFETY: mapped just now; the kernel may end the process here.
                    unsafe { at.add(page * 4096).write_volatile(1) };
                }
            }
            Err(_) if bytes > 4096 => bytes /= 2,
            Err(error) => {
                println!("all memory eaten: {error}");
                return 0;
            }
        }
    }
}

/// Takes what `MemAvailable` of `/proc/meminfo` says that there is, all but some for page tables; then there is to be no more.
pub fn available() -> i32 {
    /// Tables (one page of 512, and a few), and what else may come up, in KiB.
    const SLACK: usize = 2048;
    let told = || -> Option<usize> {
        let text = files::read_text("/proc/meminfo").ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let take = |kib: usize| {
        sys::mmap_anonymous(kib << 10, PROT_READ | PROT_WRITE).map(|at| {
            for page in 0..kib / 4 {
                // SAFETY: mapped just now; where the kernel has promised too much, it ends the process.
                unsafe { at.add(page * 4096).write_volatile(1) };
            }
        })
    };
    let Some(before) = told() else {
        println!("/proc/meminfo has no MemAvailable");
        return 1;
    };
    let tables = before / 512;
    let taken = take((before - tables).saturating_sub(SLACK));
    let after = told();
    let more = take(2 * SLACK);
    match (taken, after, more) {
        (Ok(()), Some(0..=SLACK), Err(error)) if error.errno() == Some(Errno::ENOMEM) => {
            println!("good");
            0
        }
        other => {
            println!("{before} KiB, then {other:?}");
            1
        }
    }
}

pub fn file_flood() -> i32 {
    let mut files = 0;
    loop {
        match sys::open("/proc/version", O_RDONLY) {
            Ok(_) => files += 1,
            Err(error) => {
                println!("after {files} files: {error}");
                return 0;
            }
        }
    }
}

/// Takes all memory but what the kernel keeps for itself, and then has the kernel hold more: files of `/tmp`, and their bytes.
pub fn tmp_flood() -> i32 {
    const PIECE: usize = 1 << 20;
    const SPARE: usize = 64 << 10;
    // Room for all names, while there is some.
    let mut name = String::with_capacity(256);
    let first = match sys::open("/tmp/flood", O_WRONLY | O_CREAT) {
        Ok(fd) => fd,
        Err(error) => {
            println!("/tmp/flood: {error}");
            return 1;
        }
    };
    let make = |name: &mut String, number: u32| {
        name.clear();
        let _ = write!(name, "/tmp/flood-{number:0200}");
        sys::open(name, O_WRONLY | O_CREAT).and_then(sys::close)
    };
    // The code of what comes is there from here on, and room for that of the report.
    let _ = make(&mut name, 0).and_then(|()| sys::write(first, &[1; 4096]));
    let spare = sys::mmap_anonymous(SPARE, PROT_READ | PROT_WRITE);
    if let Ok(at) = spare {
        for page in 0..SPARE / 4096 {
            // SAFETY: mapped just now.
            unsafe { at.add(page * 4096).write_volatile(1) };
        }
    }
    // Half of what it is given is touched, so that each page comes.
    while let Ok(at) = sys::mmap_anonymous(2 * PIECE, PROT_READ | PROT_WRITE) {
        for page in 0..PIECE / 4096 {
            // SAFETY: mapped just now.
            unsafe { at.add(page * 4096).write_volatile(1) };
        }
    }
    let mut number = 1;
    let no_file = loop {
        match make(&mut name, number) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
    };
    let no_byte = loop {
        if let Err(error) = sys::write(first, &[1; 4096]) {
            break error;
        }
    };
    if let Ok(at) = spare {
        // SAFETY: nobody uses it.
        let _ = unsafe { sys::munmap(at, SPARE) };
    }
    println!("no file more: {no_file}; no byte more: {no_byte}");
    0
}

/// Makes as many files in `/tmp` as the first argument says; where there is a second one, a byte is written into each, and when all are
/// there they are emptied again: the kernel's heap has a hole for each.
pub fn tmp_files(args: Args) -> i32 {
    let count = args.get(2).and_then(|count| count.parse::<u32>().ok());
    let written = args.get(3).is_some();
    let open = |number| sys::open(&format!("/tmp/file-{number}"), O_WRONLY | O_CREAT | O_TRUNC);
    let make = |number| {
        let file = open(number)?;
        if written {
            sys::write(file, &[1])?;
        }
        sys::close(file)
    };
    let numbers = 0..count.unwrap_or(1);
    let made = numbers.clone().try_for_each(make);
    let emptied = made.and_then(|()| match written {
        true => numbers
            .clone()
            .try_for_each(|number| sys::close(open(number)?)),
        false => Ok(()),
    });
    match emptied {
        Ok(()) => 0,
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

/// Closes its output, which a child's end shows, and goes on for good: in the foreground, until ctrl-c.
pub fn close_output() -> i32 {
    println!(
        "from here on without an output, until ctrl-c ends it; a child's end shows that it goes on"
    );
    for fd in [1, 2] {
        let _ = sys::close(fd);
    }
    let _ = sys::spawn("/boot/bin/misbehave", &["misbehave", "undefined"]);
    loop {
        sys::sched_yield();
    }
}

/// Two children read the same input: one waits for keys, the other one for that. It can be killed there all the same.
pub fn share_input(args: Args) -> i32 {
    if args.get(2).is_some() {
        return i32::from(sys::read(0, &mut [0; 8]).is_ok());
    }
    let reader = || -> Result<i32, Error> {
        let child = sys::spawn("/boot/bin/misbehave", &["misbehave", "share-input", CHILD])?;
        // Until it sleeps, in whatever way.
        let asleep = |text: &str| text.contains("State:\tS") || text.contains("State:\tD");
        while !asleep(&files::read_text(&format!("/proc/{child}/status"))?) {
            sys::sched_yield();
        }
        Ok(child)
    };
    let killed = |child| {
        sys::kill(child, signal::KILL)?;
        sys::wait(child)
    };
    let both = reader().and_then(|first| {
        let second = reader()?;
        Ok([killed(second)?, killed(first)?].map(|(_, status)| status))
    });
    println!("{both:?}");
    i32::from(both != Ok([signalled(signal::KILL); 2]))
}

/// Starts as many children as the first argument says, one after the other, each of which exits with a status of its own.
pub fn spawn_many(args: Args) -> i32 {
    let count = args
        .get(2)
        .and_then(|count| count.parse::<u32>().ok())
        .unwrap_or(1);
    for _ in 0..count {
        let ended = sys::spawn("/boot/bin/misbehave", &["misbehave", "exit-7"])
            .and_then(|child| Ok((child, sys::wait(child)?)));
        match ended {
            Ok((child, (pid, status))) if child == pid && status == exited(7) => {}
            other => {
                println!("{other:?}");
                return 1;
            }
        }
    }
    println!("{count} children, all with their own status");
    0
}

/// Leaves a child behind.
pub fn orphan() -> i32 {
    match sys::spawn("/boot/bin/spin", &["spin", "1"]) {
        Ok(pid) => {
            println!("child {pid} stays");
            0
        }
        Err(error) => {
            println!("{error}");
            1
        }
    }
}
