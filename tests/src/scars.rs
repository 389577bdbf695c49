//! `cargo run -p tests --bin scars [-- [ROUNDS [SEED]]]` (300, 1): damages the region of machines of 1 and 4
//! CPUs, BIOS and UEFI, so many times in all, and resets them each time; prints a table of what the next life found. Status 1 if
//! anything was wrong.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use tests::damaging::Random;
use tests::scarring::{self, Kind, Outcome, Scarred};

/// Rounds of one machine: then another one records something else.
const BOUT: u64 = 12;

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = env::args().skip(1).map(|word| word.parse()).collect();
    let (rounds, seed) = match numbers.as_deref() {
        Ok([]) => (300, 1),
        Ok([rounds]) => (*rounds, 1),
        Ok([rounds, seed]) => (*rounds, *seed),
        _ => {
            eprintln!("usage: scars [ROUNDS [SEED]]");
            return ExitCode::from(2);
        }
    };
    let mut random = Random::new(seed);
    let mut table: BTreeMap<String, Outcome> = BTreeMap::new();
    let mut done = 0;
    let mut bout = 0;
    while done < rounds {
        // UEFI takes longer to start: each third one.
        let (uefi, cpus) = (bout % 3 == 2, if bout % 2 == 0 { 4 } else { 1 });
        let setup = match uefi {
            true => scarring::setup(cpus).uefi(),
            false => scarring::setup(cpus),
        };
        let firmware = if uefi { "UEFI" } else { "BIOS" };
        let before = bout % 4;
        let mut scarred = Scarred::new(&setup, cpus, before, &mut random);
        for _ in 0..BOUT.min(rounds - done) {
            // Each kind in turn, and sometimes another one with it.
            let kind = Kind::ALL[done as usize % Kind::ALL.len()];
            let mut kinds = vec![kind];
            if kind != Kind::None && random.below(3) == 0 {
                kinds.push(Kind::ALL[1 + random.below(Kind::ALL.len() as u64 - 1) as usize]);
            }
            let outcome = scarred.round(&kinds, &mut random);
            done += 1;
            let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
            eprintln!(
                "{done} of {rounds}: {firmware}, {cpus} CPUs, {before} lives before: {}: {outcome}",
                names.join(" and ")
            );
            for why in &outcome.wrong {
                eprintln!("  {why}");
            }
            let row = match kinds.len() {
                1 => kind.to_string(),
                _ => format!("{kind}, and another"),
            };
            table.entry(row).or_default().add(outcome);
        }
        scarred.poweroff();
        bout += 1;
    }
    println!(
        "| damaged | rounds | pages kept | cut | loose | dropped and named | untold | regions gone | wrong |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut all = Outcome::default();
    for (row, outcome) in table {
        println!("| {row} | {outcome} |");
        all.add(outcome);
    }
    println!("| all | {all} |");
    if all.wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
