//! `cargo run -p tests --bin resets [-- [ROUNDS [STOPS [SEED [STARTS]]]] [BIOS|UEFI[,CPUS[,RESET]]]]` (50, 300, 1, 60): resets machines of 1 and 4 CPUs, BIOS
//! and UEFI, under load, so many times in each way, and so many times at random moments; then so many times once or twice more while they
//! start. Prints a table of what the next life found. Status 1 if anything was wrong. With `UEFI,4` at the end only that machine, a fourth
//! of the stops and of the starts; with `UEFI,4,panic` only this row of it.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use tests::Setup;
use tests::damaging::Random;
use tests::resetting::{self, Reset};
use tests::scarring::{self, Outcome, Scarred};

/// A machine: firmware, and number of CPUs.
type Machine = (&'static str, u32);

const MACHINES: [Machine; 4] = [("BIOS", 1), ("BIOS", 4), ("UEFI", 1), ("UEFI", 4)];

fn usage() -> ExitCode {
    eprintln!(
        "usage: resets [ROUNDS [STOPS [SEED [STARTS]]]] [BIOS|UEFI[,1|4[,RESET]]]; a RESET is one of:"
    );
    for how in Reset::ALL {
        eprintln!("  {how}");
    }
    ExitCode::from(2)
}

fn on(setup: Setup, firmware: &str) -> Setup {
    match firmware {
        "UEFI" => setup.uefi(),
        _ => setup,
    }
}

fn main() -> ExitCode {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let only = words.pop_if(|word| word.parse::<u64>().is_err());
    // A row's name, or the beginning of it.
    let wanted = |row: &str| {
        let only = only.as_deref().unwrap_or_default();
        only.is_empty() || row == only || row.starts_with(&format!("{only},"))
    };
    let rows = MACHINES.into_iter().flat_map(|machine| {
        let (firmware, cpus) = machine;
        Reset::ALL.map(|how| (machine, how, format!("{firmware},{cpus},{how}")))
    });
    let rows: Vec<_> = rows.filter(|(_, _, name)| wanted(name)).collect();
    let is_there = |(firmware, cpus): &Machine| wanted(&format!("{firmware},{cpus}"));
    let machines: Vec<Machine> = MACHINES.into_iter().filter(is_there).collect();
    let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse()).collect();
    let (rounds, stops, seed, starts) = match numbers.as_deref() {
        Ok([]) => (50, 300, 1, 60),
        Ok([rounds]) => (*rounds, 0, 1, 0),
        Ok([rounds, stops]) => (*rounds, *stops, 1, 0),
        Ok([rounds, stops, seed]) => (*rounds, *stops, *seed, 0),
        Ok([rounds, stops, seed, starts]) => (*rounds, *stops, *seed, *starts),
        _ => return usage(),
    };
    if rows.is_empty() {
        return usage();
    }
    let mut random = Random::new(seed);
    let mut good = true;
    println!("| firmware | CPUs | reset | times | events found | numbers found | wrong |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for ((firmware, cpus), how, _) in rows {
        // A fourth of the stops on each machine.
        let times = match how {
            Reset::Stopped => stops / 4,
            _ => rounds,
        };
        if times == 0 {
            continue;
        }
        let mut guest = on(resetting::setup(cpus), firmware).boot();
        let (mut events, mut numbers, mut wrong) = (0, 0, Vec::new());
        for _ in 0..times {
            let counted = 1 + random.below(40) as u32;
            let wait = Duration::from_micros(random.below(200_000));
            let last = resetting::reset(&mut guest, cpus, how, counted, wait);
            let left = resetting::look(&mut guest, last);
            events += left.events;
            numbers += left.numbers.len();
            wrong.extend(left.wrong);
        }
        println!(
            "| {firmware} | {cpus} | {how} | {times} | {events} | {numbers} | {} |",
            wrong.len()
        );
        for why in wrong.iter().take(20) {
            println!("  {why}");
        }
        good &= wrong.is_empty();
    }
    if starts > 0 && !machines.is_empty() {
        good &= broken_starts(starts, &machines, &mut random);
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Starts that a reset breaks off, a fourth of them on each machine. False if anything was wrong.
fn broken_starts(times: u64, machines: &[Machine], random: &mut Random) -> bool {
    let mut good = true;
    println!("\n| firmware | CPUs | starts broken off | pages found | wrong |");
    println!("| --- | --- | --- | --- | --- |");
    for &(firmware, cpus) in machines {
        let setup = on(scarring::setup(cpus), firmware);
        // With those that are broken off no more than are kept.
        let mut scarred = Scarred::new(&setup, cpus, random.below(2), random);
        let (mut all, mut broken) = (Outcome::default(), 0);
        for _ in 0..times.div_ceil(4) {
            let in_a_row = match scarred.lives() {
                1 => 1 + random.below(2),
                _ => 1,
            };
            broken += in_a_row;
            all.add(scarred.broken_starts(in_a_row, random));
        }
        scarred.poweroff();
        println!(
            "| {firmware} | {cpus} | {broken} | {} | {} |",
            all.kept,
            all.wrong.len()
        );
        for why in all.wrong.iter().take(20) {
            println!("  {why}");
        }
        good &= all.wrong.is_empty();
    }
    good
}
