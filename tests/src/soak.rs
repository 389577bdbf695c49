//! `cargo run -p tests --bin soak [-- [CPUS [SECONDS [KEXECS]]]]` (4, 60, 3): all events on, and a reader that follows each CPU's buffer,
//! in each life for so long under a load that they keep up with, and for so long under one that they do not, over so many kexecs. Each
//! event is decoded; times, switches, handlers and losses are checked, within each life and from one to the next. Status 1 if anything
//! was wrong.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use tests::readers::{self, Read};
use tests::{Guest, Setup, lines};

const TRACING: &str = "/sys/kernel/tracing";

fn main() -> ExitCode {
    let numbers: Result<Vec<u32>, _> = env::args().skip(1).map(|word| word.parse()).collect();
    let (cpus, seconds, kexecs) = match numbers.as_deref() {
        Ok([]) => (4, 60, 3),
        Ok([cpus]) => (*cpus, 60, 3),
        Ok([cpus, seconds]) => (*cpus, *seconds, 3),
        Ok([cpus, seconds, kexecs]) => (*cpus, *seconds, *kexecs),
        _ => {
            eprintln!("usage: soak [CPUS [SECONDS [KEXECS]]]");
            return ExitCode::from(2);
        }
    };
    let mut guest = Setup::new().smp(cpus).boot();
    guest.ok(&format!("echo 1 > {TRACING}/events/enable"));
    // What was recorded before all were on has holes.
    guest.ok(&format!("echo > {TRACING}/trace"));
    println!("{cpus} CPUs, {seconds} s in each life, {kexecs} kexecs, all events on");
    println!("| life | CPU | events read | lost | switches | handlers | wrong |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut lives, mut all) = (Vec::new(), 0);
    for life in 0..=kexecs {
        if life > 0 {
            // Under load, and with what nobody has read in the buffers.
            guest.kexec_to(life);
        }
        let few = stress(&mut guest, &format!("--cpu {cpus} --fault 1"));
        let read = readers::follow(&mut guest, cpus, seconds);
        lives.push(row(&format!("{life}, some load"), read));
        guest.ok(&format!("kill {few}"));
        all = stress(
            &mut guest,
            &format!("--cpu {cpus} --switch {cpus} --alloc 2 --fault 1 --syscall 2"),
        );
        let read = readers::follow(&mut guest, cpus, seconds);
        lives.push(row(&format!("{life}, full load"), read));
    }
    guest.ok(&format!("kill {all}"));
    guest.ok(&format!("echo 0 > {TRACING}/tracing_on"));
    lives.push(row("the rest", readers::drain(&mut guest, cpus)));
    let mut good = true;
    for cpu in 0..cpus {
        let reads: Vec<&Read> = lives.iter().filter_map(|life| life.get(&cpu)).collect();
        let mut wrong = readers::together(&reads);
        wrong.extend(readers::against_stats(&mut guest, cpu, &reads));
        if reads.len() != lives.len() {
            wrong.push("a reader has told nothing".into());
        }
        let read: u64 = reads.iter().map(|read| read.shown).sum();
        let lost: u64 = reads.iter().map(|read| read.lost).sum();
        println!(
            "cpu {cpu}: {read} events read, {lost} lost, as stats says: {}",
            if wrong.is_empty() { "good" } else { "WRONG" }
        );
        for why in &wrong {
            println!("  {why}");
        }
        good &= wrong.is_empty();
    }
    guest.poweroff();
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Work, until the kexec or a `kill` of this task ends it.
fn stress(guest: &mut Guest, what: &str) -> u64 {
    let text = guest.ok(&format!("stress {what} --time 100000 &"));
    // What the one before has done may be told in between.
    let pid = lines(&text).find_map(|line| line.strip_prefix('[')?.split_once(']')?.0.parse().ok());
    pid.unwrap_or_else(|| guest.fail("stress names no task"))
}

fn row(life: &str, reads: BTreeMap<u32, Read>) -> BTreeMap<u32, Read> {
    for (cpu, read) in &reads {
        println!(
            "| {life} | {cpu} | {} | {} | {} | {} | {} |",
            read.shown,
            read.lost,
            read.switches,
            read.handlers,
            read.wrong.len()
        );
    }
    reads
}
