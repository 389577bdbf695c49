//! `cargo run -p tests --bin boots [-- TIMES]`: boots with 1, 2, 4 and 8 CPUs, TIMES each (20), and counts in how many all
//! CPUs were up at the prompt. Status 1 if it was not in all of them.

use std::env;
use std::panic::catch_unwind;
use std::process::ExitCode;

use tests::Setup;

fn main() -> ExitCode {
    let times: u32 = match env::args().nth(1).map(|word| word.parse()) {
        None => 20,
        Some(Ok(times)) => times,
        Some(Err(_)) => {
            eprintln!("boots: a number of boots is wanted");
            return ExitCode::from(2);
        }
    };
    tests::kernel_elf();
    let mut all = true;
    for cpus in [1, 2, 4, 8] {
        // A boot that fails has told why, with the whole console.
        let good = (0..times)
            .filter(|_| catch_unwind(|| boots(cpus)).is_ok_and(|all_up| all_up))
            .count();
        println!("--smp {cpus}: {good} of {times} boots reached the prompt with all CPUs up");
        all &= good == times as usize;
    }
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether a guest with so many CPUs has all of them up at its first prompt.
fn boots(cpus: u32) -> bool {
    let mut guest = Setup::new().smp(cpus).boot();
    let online = guest.ok("cat /sys/devices/system/cpu/online");
    let expected = match cpus {
        1 => "0".to_owned(),
        _ => format!("0-{}", cpus - 1),
    };
    let all_up = online.trim() == expected;
    if !all_up {
        eprintln!(
            "--smp {cpus}: online are {}\n{}",
            online.trim(),
            guest.ok("dmesg")
        );
    }
    guest.poweroff();
    all_up
}
