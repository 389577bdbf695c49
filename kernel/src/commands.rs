//! The commands that need the machine. The others are in the library.

mod bench;
mod fault;
mod hold;
mod run;
mod stress;
mod tasks;

use crate::machine::{self, clock};
use crate::{boot, files, handing, kexec, memory, power, report, task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use kernel::console::commands;
use kernel::console::commands::args::nanos;
use kernel::console::shell::{CmdError, Command, CommandSets, Complete, Ctx};
use kernel::console::vfs::{FsError, Sink, Stop, print};

/// The largest file that `kexec -l` reads when it is not in the initrd.
const MAX_IMAGE: usize = 64 << 20;

/// All commands of the console.
pub static SETS: CommandSets = &[&commands::ALL, MACHINE];

static MACHINE: &[Command] = &[
    Command::new(
        "bench-switch",
        "bench-switch [SECONDS]",
        "measure what the sched events cost",
        bench::HELP,
        bench::switch,
    )
    .completing(Complete::Nothing),
    Command::new("dmesg", "dmesg", "show the kernel log", "", dmesg),
    Command::new(
        "fault",
        "fault [--task] read|write|exec|ud|div|gp|stack|int3",
        "make the kernel fault on purpose",
        fault::HELP,
        fault::run,
    )
    .completing(Complete::Nothing),
    Command::new(
        "free",
        "free [-k]",
        "show what memory is used for, in KiB",
        "",
        free,
    )
    .completing(Complete::Nothing),
    Command::new(
        "hold-interrupts",
        "hold-interrupts MICROSECONDS",
        "keep interrupts off on this CPU",
        hold::HELP,
        hold::run,
    )
    .completing(Complete::Nothing),
    Command::new(
        "kexec",
        "kexec -l [FILE] [--append ARGS] | -e | -u | -s",
        "load another kernel, and go there",
        "-l loads and checks a kernel ahead of time (default: /boot/kernel), with the\n\
         command line ARGS (default: this kernel's); -e goes there and hands over;\n\
         -u unloads; -s shows what is loaded.",
        run_kexec,
    ),
    Command::new("kill", "kill PID...", "ask tasks to end", "", tasks::kill)
        .completing(Complete::Nothing),
    Command::new(
        "panic",
        "panic [--cpu N] [MESSAGE]",
        "stop the kernel with a report",
        "--cpu N: on that CPU, while this one waits for it with interrupts off.",
        panic,
    )
    .completing(Complete::Nothing),
    Command::new("poweroff", "poweroff", "turn the machine off", "", poweroff)
        .completing(Complete::Nothing),
    Command::new("ps", "ps [-a]", "list the tasks", tasks::PS_HELP, tasks::ps)
        .completing(Complete::Nothing),
    Command::new(
        "reboot",
        "reboot [--triple-fault]",
        "reset the machine: a cold start follows",
        "--triple-fault: as the CPU does it by itself when an exception can not be\n\
         delivered, nor that of this; the other CPUs are not stopped before.",
        reboot,
    )
    .completing(Complete::Nothing),
    Command::new(
        "run",
        "run NAME [ARG...] [&]",
        "run a program",
        run::HELP,
        run::run,
    )
    .in_background(),
    Command::new("sleep", "sleep SECONDS", "wait", "", sleep).completing(Complete::Nothing),
    Command::new(
        "stress",
        "stress [--cpu N] [--switch N] [--fault N] [--alloc N] [--syscall N] [--time S] [&]",
        "load the machine with tasks",
        stress::HELP,
        stress::run,
    )
    .completing(Complete::Nothing)
    .in_background(),
    Command::new(
        "top",
        "top [-n COUNT]",
        "show which tasks use the CPUs",
        tasks::TOP_HELP,
        tasks::top,
    )
    .completing(Complete::Nothing),
    Command::new(
        "uptime",
        "uptime",
        "show how long the machine and this life have run",
        "",
        uptime,
    )
    .completing(Complete::Nothing),
];

fn no_arguments(args: &[&str]) -> Result<(), CmdError> {
    match args.first() {
        None => Ok(()),
        Some(arg) => Err(CmdError::usage(format!("{arg}: it takes no arguments"))),
    }
}

fn dmesg(_: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    no_arguments(args)?;
    for piece in report::log_copy().chunks(4096) {
        out.write(piece)?;
    }
    Ok(())
}

fn free(_: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    if !matches!(args, [] | ["-k"]) {
        return Err(CmdError::usage(format!("{}: unknown option", args[0])));
    }
    let total: u64 = memory::ram().iter().map(|r| r.end - r.start).sum::<u64>() / 1024;
    let free = memory::free_pages() * 4;
    let (scratch, scratch_free) = memory::with_scratch(|pool| {
        let all: u64 = pool.regions().iter().map(|r| r.end - r.start).sum();
        (all / 1024, pool.free_bytes().0 / 1024)
    });
    let preserved = memory::preserved_pages() * 4;
    let (heap_used, heap) = memory::heap_use();
    print(
        out,
        format_args!("{:<10} {:>10} {:>10} {:>10}\n", "", "total", "used", "free"),
    )?;
    for (name, all, rest) in [
        ("memory", total - scratch.min(total), free),
        ("scratch", scratch, scratch_free),
        ("heap", heap as u64 / 1024, (heap - heap_used) as u64 / 1024),
    ] {
        print(
            out,
            format_args!(
                "{name:<10} {all:>10} {:>10} {rest:>10}\n",
                all.saturating_sub(rest)
            ),
        )?;
    }
    print(out, format_args!("{:<10} {preserved:>10}\n", "preserved"))?;
    let left_alone = memory::left_alone() / 1024;
    if left_alone > 0 {
        print(out, format_args!("{:<10} {left_alone:>10}\n", "left alone"))?;
    }
    Ok(())
}

fn uptime(_: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    no_arguments(args)?;
    let now = clock::nanos();
    let since = |tsc| now.saturating_sub(clock::nanos_at(tsc));
    let life = since(boot::info().entry_tsc);
    let seconds = |ns: u64| format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000);
    Ok(print(
        out,
        format_args!(
            "up {} since the cold start, generation {} for {}\n",
            seconds(since(machine::found().cold_start_tsc)),
            handing::generation(),
            seconds(life)
        ),
    )?)
}

fn run_kexec(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    match args {
        ["-l", rest @ ..] => load(ctx, rest, out),
        ["-e"] => match kexec::execute() {
            Ok(never) => match never {},
            Err(error) => Err(CmdError::failed(error.to_string())),
        },
        ["-u"] => kexec::unload().map_err(|error| CmdError::failed(error.to_string())),
        ["-s"] => match kexec::loaded() {
            Some(loaded) => Ok(print(out, format_args!("{}\n", kexec::describe(&loaded)))?),
            None => Err(CmdError::failed(
                kexec::KexecError::NothingLoaded.to_string(),
            )),
        },
        ["-p", ..] => Err(CmdError::failed(
            "-p: this kernel has no crash kernels yet".to_string(),
        )),
        [] => Err(CmdError::usage("nothing to do")),
        [option, rest @ ..] => {
            let what = if matches!(*option, "-e" | "-u" | "-s") {
                rest[0]
            } else {
                option
            };
            Err(CmdError::usage(format!("{what}: not expected here")))
        }
    }
}

fn load(ctx: &mut Ctx<'_>, args: &[&str], out: &mut dyn Sink) -> Result<(), CmdError> {
    let (mut file, mut append) = (None, None);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match (*arg, arg.strip_prefix("--append=")) {
            (_, Some(text)) => append = Some(text.to_string()),
            ("--append", _) => match rest.next() {
                Some(text) => append = Some(text.to_string()),
                None => return Err(CmdError::usage("--append: the arguments are missing")),
            },
            ("--reuse-cmdline", _) => append = None,
            (option, _) if option.starts_with('-') => {
                return Err(CmdError::usage(format!("{option}: unknown option")));
            }
            (name, _) if file.is_none() => file = Some(name),
            (name, _) => return Err(CmdError::usage(format!("{name}: one kernel is enough"))),
        }
    }
    let typed = file.unwrap_or("/boot/kernel");
    let path = ctx.path(typed).map_err(|e| CmdError::file(typed, e))?;
    let cmdline: String = append.unwrap_or_else(|| boot::cmdline().0.trim().to_string());
    let copy: Vec<u8>;
    let bytes = match path.strip_prefix("/boot/").and_then(files::boot_file) {
        Some(bytes) => bytes,
        None => {
            copy = read_image(ctx, typed).map_err(|e| CmdError::file(typed, e))?;
            &copy
        }
    };
    let loaded =
        kexec::load(typed, bytes, &cmdline).map_err(|e| CmdError::failed(e.to_string()))?;
    Ok(print(out, format_args!("{}\n", kexec::describe(&loaded)))?)
}

/// Reads a kernel image that is not in the initrd. Of a file that is no ELF file only the start is read: that is enough to
/// refuse it, and it may be long.
fn read_image(ctx: &Ctx<'_>, typed: &str) -> Result<Vec<u8>, FsError> {
    struct Start(Vec<u8>);
    impl Sink for Start {
        fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
            self.0.extend(bytes.iter().take(64 - self.0.len()));
            if self.0.len() < 64 {
                Ok(())
            } else {
                Err(Stop::Enough)
            }
        }
    }
    let mut start = Start(Vec::new());
    match ctx.read(typed, &mut start) {
        Ok(()) | Err(FsError::Stopped(Stop::Enough)) => {}
        Err(error) => return Err(error),
    }
    if start.0.starts_with(&elf::abi::ELFMAGIC) {
        ctx.read_all(typed, MAX_IMAGE)
    } else {
        Ok(start.0)
    }
}

fn panic(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    let (cpu, words) = match args {
        ["--cpu", number, rest @ ..] => {
            let cpu = number.parse().ok().filter(|n| machine::cpu::is_online(*n));
            let wrong = || CmdError::usage(format!("{number}: no CPU of that number runs"));
            (cpu.ok_or_else(wrong)?, rest)
        }
        _ => (machine::cpu::index(), args),
    };
    let message = match words {
        [] => "asked for on the console".to_string(),
        _ => words.join(" "),
    };
    memory::without_interrupts(|| machine::ipi::call(1 << cpu, &|| panic!("{message}")));
    Ok(())
}

fn poweroff(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    no_arguments(args)?;
    Err(CmdError::failed(power::off(boot::info().rsdp)))
}

fn reboot(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    match args {
        [] => power::reset(),
        ["--triple-fault"] => power::triple_fault(),
        [what, ..] => Err(CmdError::usage(format!("{what}: not expected here"))),
    }
}

fn sleep(_: &mut Ctx<'_>, args: &[&str], _: &mut dyn Sink) -> Result<(), CmdError> {
    let wrong = || CmdError::usage("one number of seconds, such as 2 or 0.5");
    let [seconds] = args else {
        return Err(wrong());
    };
    task::sleep_interruptible(nanos(seconds).ok_or_else(wrong)?)
        .map_err(|_| CmdError::Stopped(Stop::Interrupted))
}
