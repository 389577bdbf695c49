//! `/proc`: what the kernel knows of itself and the machine.

use super::cpus;
use crate::machine::apic::HZ;
use crate::machine::{self, clock, cpu};
use crate::memory;
use crate::user::space;
use crate::{boot, handing, task};
use alloc::format;
use alloc::vec::Vec;
use kernel::console::genfs::GenFile;
use kernel::console::vfs::{FsError, Sink, print};
use kernel::params::Kind;

/// The tree.
pub const FILES: &[GenFile] = &[
    GenFile::read_only("buddyinfo", buddyinfo),
    GenFile::read_only("cmdline", cmdline),
    GenFile::read_only("cpuinfo", cpus::cpuinfo),
    GenFile::read_only("interrupts", cpus::interrupts),
    GenFile::read_only("iomem", iomem),
    GenFile::read_only("meminfo", meminfo),
    GenFile::read_only("stat", stat),
    GenFile::read_only("uptime", uptime),
    GenFile::read_only("version", version),
];

/// Free blocks by order, in Linux's layout.
fn buddyinfo(out: &mut dyn Sink) -> Result<(), FsError> {
    print(out, format_args!("Node 0, zone   Normal "))?;
    for blocks in memory::free_blocks() {
        print(out, format_args!("{blocks:6} "))?;
    }
    Ok(print(out, format_args!("\n"))?)
}

fn cmdline(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(
        out,
        format_args!("{}\n", boot::cmdline().0.trim_end()),
    )?)
}

/// The memory map, with the scratch regions inside RAM, in Linux's layout.
fn iomem(out: &mut dyn Sink) -> Result<(), FsError> {
    let scratch = memory::with_scratch(|pool| pool.regions().to_vec());
    for region in memory::regions() {
        let (start, end) = (region.extent.addr, region.extent.addr + region.extent.size);
        let name = match region.kind() {
            Kind::Ram => "System RAM",
            Kind::Persistent => "ramtrace",
            Kind::LeftAlone => "System RAM (left alone: handover refused)",
            Kind::Reserved => "Reserved",
        };
        print(out, format_args!("{start:08x}-{:08x} : {name}\n", end - 1))?;
        for inner in scratch.iter().filter(|s| s.start >= start && s.end <= end) {
            print(
                out,
                format_args!(
                    "  {:08x}-{:08x} : kho scratch\n",
                    inner.start,
                    inner.end - 1
                ),
            )?;
        }
    }
    Ok(())
}

fn meminfo(out: &mut dyn Sink) -> Result<(), FsError> {
    let total: u64 = memory::ram().iter().map(|r| r.end - r.start).sum();
    let scratch: u64 =
        memory::with_scratch(|pool| pool.regions().iter().map(|r| r.end - r.start).sum());
    let (used, heap) = memory::heap_use();
    for (name, kib) in [
        ("MemTotal:", total / 1024),
        ("MemFree:", memory::free_pages() * 4),
        ("MemAvailable:", space::obtainable_pages() * 4),
        ("KhoScratch:", scratch / 1024),
        ("KhoPreserved:", memory::preserved_pages() * 4),
        ("HeapTotal:", heap as u64 / 1024),
        ("HeapUsed:", used as u64 / 1024),
        ("KernelStack:", task::stat::stack_pages() * 4),
        ("UserPages:", space::taken_pages() * 4),
    ] {
        print(out, format_args!("{name:<15}{kib:>9} kB\n"))?;
    }
    Ok(())
}

/// What the CPUs spend their time on, in hundredths of a second, and counts of the whole machine, in Linux's layout. What
/// Linux has beside and this kernel has not (nice, iowait, steal, guests) is 0.
fn stat(out: &mut dyn Sink) -> Result<(), FsError> {
    use task::stat;
    let cpus: Vec<stat::Ticks> = (0..cpu::count()).map(stat::ticks).collect();
    let sum = |part: fn(&stat::Ticks) -> u64| cpus.iter().map(part).sum();
    let all = stat::Ticks {
        user: sum(|t| t.user),
        system: sum(|t| t.system),
        idle: sum(|t| t.idle),
        irq: sum(|t| t.irq),
        softirq: sum(|t| t.softirq),
    };
    let mut line = |name: &str, t: &stat::Ticks| {
        print(
            out,
            format_args!(
                "{name} {} 0 {} {} 0 {} {} 0 0 0\n",
                t.user, t.system, t.idle, t.irq, t.softirq
            ),
        )
    };
    line("cpu ", &all)?;
    for (cpu, ticks) in cpus.iter().enumerate() {
        line(&format!("cpu{cpu}"), ticks)?;
    }
    print(
        out,
        format_args!(
            "ctxt {}\nprocesses {}\nprocs_running {}\nprocs_blocked {}\n",
            stat::switches(),
            stat::tasks_made(),
            stat::runnable(),
            stat::blocked()
        ),
    )?;
    let softirqs = stat::softirqs();
    print(
        out,
        format_args!("softirq {}", softirqs.iter().sum::<u64>()),
    )?;
    for runs in softirqs {
        print(out, format_args!(" {runs}"))?;
    }
    Ok(print(out, format_args!("\n"))?)
}

/// Seconds since the cold start, over all lives and without the firmware's time before it; and how long the CPUs together have been idle
/// in this life, as `stat` has it.
fn uptime(out: &mut dyn Sink) -> Result<(), FsError> {
    let begin = clock::nanos_at(machine::found().cold_start_tsc);
    let up = clock::nanos().saturating_sub(begin) / 10_000_000;
    let idle: u64 = (0..cpu::count())
        .map(|cpu| task::stat::ticks(cpu).idle)
        .sum();
    let seconds = |hundredths: u64| (hundredths / 100, hundredths % 100);
    let ((a, b), (c, d)) = (seconds(up), seconds(idle * 100 / HZ));
    Ok(print(out, format_args!("{a}.{b:02} {c}.{d:02}\n"))?)
}

fn version(out: &mut dyn Sink) -> Result<(), FsError> {
    Ok(print(
        out,
        format_args!(
            "Baton version {} generation {}\n",
            crate::VERSION,
            handing::generation()
        ),
    )?)
}
