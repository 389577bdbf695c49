//! `cargo run -p tests --bin damage -- [FLIPS [CUTS [SEED [BLOB]]]]`: damaged kexecs by the thousand, and a table of what came of
//! them. Without arguments 1,000 flips and 200 cuts. With BLOB all of them of this subsystem's blob.

use std::process::ExitCode;

use tests::damaging::{cuts, flips, of_blob, run};

fn main() -> ExitCode {
    let mut numbers = Vec::new();
    let mut blob = None;
    for (index, argument) in std::env::args().skip(1).enumerate() {
        if index == 3 {
            blob = Some(argument);
            continue;
        }
        match argument.parse::<u64>() {
            Ok(number) => numbers.push(number),
            Err(_) => {
                eprintln!("damage: {argument:?} is no number; FLIPS, CUTS and SEED are");
                return ExitCode::from(2);
            }
        }
    }
    let number = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    let seed = number(2, 1);
    let (some, others) = (number(0, 1000) as usize, number(1, 200) as usize);
    let all = match &blob {
        None => {
            let mut all = flips(some, seed);
            all.extend(cuts(others, seed));
            all
        }
        Some(name) => match of_blob(name, some, others, seed) {
            Some(all) => all,
            None => {
                eprintln!("damage: nothing is handed over under the name {name:?}");
                return ExitCode::from(2);
            }
        },
    };
    let table = run(&all, |n, place, result| {
        eprintln!("{n} of {}: {place}: {result}", all.len());
    });
    println!("{table}");
    ExitCode::SUCCESS
}
