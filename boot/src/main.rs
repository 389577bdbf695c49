//! `boot`: builds the kernel, makes a disk image, and starts it with the console here.

use std::ffi::OsString;
use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use boot::kernel::Built;
use boot::machine::Console;
use boot::{Ended, Firmware, Image, Initrd, Machine, console, kernel};
use clap::Parser;

/// Starts Baton under QEMU, with its serial console on the standard input and output.
#[derive(Parser)]
#[command(
    version,
    about,
    override_usage = "run-qemu.sh [OPTIONS] [-- QEMU-ARGS]"
)]
struct Options {
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=255))]
    smp: u32,

    /// Memory in MiB (48 or more)
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(48..=1024 * 1024))]
    mem: u32,

    /// Start through UEFI firmware instead of a BIOS
    #[arg(long)]
    uefi: bool,

    /// The kernel's command line
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    append: String,

    /// Put a file of the host into the initrd, as /boot/NAME
    #[arg(long, value_name = "HOST[:NAME]")]
    file: Vec<String>,

    /// Count instructions: each takes one virtual nanosecond
    #[arg(long)]
    icount: bool,

    /// A kernel image to start instead of the one that is built here (without user programs)
    #[arg(long, value_name = "ELF")]
    kernel: Option<PathBuf>,

    /// Build the kernel and the image, but start nothing
    #[arg(long)]
    build_only: bool,

    /// Print QEMU's command
    #[arg(short, long)]
    verbose: bool,

    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU-ARGS")]
    qemu: Vec<OsString>,
}

/// Exit status for options that are wrong.
const STATUS_USAGE: u8 = 2;
/// Exit status after the guest panicked.
const STATUS_PANIC: u8 = 3;
/// Exit status when something failed on the host.
const STATUS_FAILED: u8 = 1;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            // One sentence says what is wrong; clap's usage lines would bury it.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!(
                "boot: {} (--help lists the options)",
                line.trim_start_matches("error: ")
            );
            return ExitCode::from(STATUS_USAGE);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match run(&options) {
        Ok(Ended::PoweredOff) => ExitCode::SUCCESS,
        Ok(Ended::Panicked) => {
            eprintln!("boot: the kernel panicked (status {STATUS_PANIC})");
            ExitCode::from(STATUS_PANIC)
        }
        Ok(Ended::Other(status)) => {
            match status {
                Some(status) => eprintln!("boot: QEMU ended with status {status}"),
                None => eprintln!("boot: QEMU was ended by a signal"),
            }
            ExitCode::from(STATUS_FAILED)
        }
        Err(error) => {
            eprintln!("boot: {error:#}");
            let usage = error.is::<WrongOption>();
            ExitCode::from(if usage { STATUS_USAGE } else { STATUS_FAILED })
        }
    }
}

/// Marks an error as one of what the person typed.
#[derive(Debug)]
struct WrongOption(&'static str);

impl std::fmt::Display for WrongOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrong value for {}", self.0)
    }
}

fn run(options: &Options) -> Result<Ended> {
    let built = match &options.kernel {
        Some(kernel) => Built::only(kernel),
        None => kernel::build(&boot::workspace())?,
    };
    let initrd = Initrd::new(&built, &options.append);
    let mut initrd = if options.kernel.is_some() {
        initrd.context(WrongOption("--kernel"))?
    } else {
        initrd?
    };
    for argument in &options.file {
        add_file(&mut initrd, argument).context(WrongOption("--file"))?;
    }
    let firmware = if options.uefi {
        Firmware::Uefi
    } else {
        Firmware::Bios
    };
    let image = Image::create(&built.kernel, &initrd, firmware)?;
    if options.build_only {
        return Ok(Ended::PoweredOff);
    }

    let machine = Machine {
        cpus: options.smp,
        memory_mib: options.mem,
        icount: options.icount,
        monitor: None,
        extra: options.qemu.clone(),
    };
    let terminal = std::io::stdin().is_terminal();
    let running = machine.start(
        &image,
        if terminal {
            Console::Terminal
        } else {
            Console::Pipes
        },
    )?;
    if options.verbose {
        eprintln!("boot: {}", running.command());
    }
    if terminal {
        eprintln!("boot: to leave, type poweroff; or ctrl-] and then x, which ends QEMU at once");
        console::attach_terminal(running)
    } else {
        console::feed_script(running)
    }
}

fn add_file(initrd: &mut Initrd, argument: &str) -> Result<()> {
    let (host, name) = host_and_name(argument)?;
    let content = fs::read(&host).with_context(|| format!("{} cannot be read", host.display()))?;
    initrd.add(&name, content)
}

/// Splits `HOST[:NAME]`; without a name the file keeps its own.
fn host_and_name(argument: &str) -> Result<(PathBuf, String)> {
    if let Some((host, name)) = argument.rsplit_once(':')
        && !name.contains('/')
    {
        return Ok((PathBuf::from(host), name.to_owned()));
    }
    let host = PathBuf::from(argument);
    let name = host
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| anyhow!("--file {argument} names no file"))?
        .to_owned();
    Ok((host, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn a_file_may_be_given_another_name() {
        let split = |argument| host_and_name(argument).unwrap();
        assert_eq!(
            split("a/b.elf"),
            (PathBuf::from("a/b.elf"), "b.elf".to_owned())
        );
        assert_eq!(
            split("a/b.elf:bad"),
            (PathBuf::from("a/b.elf"), "bad".to_owned())
        );
        assert!(host_and_name("..").is_err());
    }
}
