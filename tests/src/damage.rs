//! `cargo run -p tests --bin damage -- [FLIPS [CUTS [SEED]]]`: damaged kexecs by the thousand, and a table of what came of
//! them. Without arguments 1,000 flips and 200 cuts.

use std::process::ExitCode;

use tests::damaging::{cuts, flips, run};

fn main() -> ExitCode {
    let mut numbers = Vec::new();
    for argument in std::env::args().skip(1) {
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
    let mut all = flips(number(0, 1000) as usize, seed);
    all.extend(cuts(number(1, 200) as usize, seed));
    let table = run(&all, |n, place, result| {
        eprintln!("{n} of {}: {place}: {result}", all.len());
    });
    println!("{table}");
    ExitCode::SUCCESS
}
