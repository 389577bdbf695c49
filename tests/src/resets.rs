//! `cargo run -p tests --bin resets [-- [ROUNDS [STOPS [SEED]]]]` (50, 300, 1): resets machines of 1 and 4 CPUs, BIOS and UEFI, under load, so many
//! times in each way, and so many times at random moments; prints a table of what the next life found. Status 1 if anything was wrong.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use tests::damaging::Random;
use tests::resetting::{self, Reset};

fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = env::args().skip(1).map(|word| word.parse()).collect();
    let (rounds, stops, seed) = match numbers.as_deref() {
        Ok([]) => (50, 300, 1),
        Ok([rounds]) => (*rounds, 0, 1),
        Ok([rounds, stops]) => (*rounds, *stops, 1),
        Ok([rounds, stops, seed]) => (*rounds, *stops, *seed),
        _ => {
            eprintln!("usage: resets [ROUNDS [STOPS [SEED]]]");
            return ExitCode::from(2);
        }
    };
    let mut random = Random::new(seed);
    let mut good = true;
    println!("| firmware | CPUs | reset | times | events found | numbers found | wrong |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for uefi in [false, true] {
        for cpus in [1, 4] {
            for how in Reset::ALL {
                // A fourth of the stops on each machine.
                let times = match how {
                    Reset::Stopped => stops / 4,
                    _ => rounds,
                };
                if times == 0 {
                    continue;
                }
                let setup = match uefi {
                    true => resetting::setup(cpus).uefi(),
                    false => resetting::setup(cpus),
                };
                let mut guest = setup.boot();
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
                let firmware = if uefi { "UEFI" } else { "BIOS" };
                println!(
                    "| {firmware} | {cpus} | {how} | {times} | {events} | {numbers} | {} |",
                    wrong.len()
                );
                for why in wrong.iter().take(20) {
                    println!("  {why}");
                }
                good &= wrong.is_empty();
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
