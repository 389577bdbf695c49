//! The stacks: each with unmapped pages below it, so that an overflow faults instead of eating its neighbour.

use super::paging::{MapError, Rights};
use crate::{memory, task};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use kernel::layout::{PAGE, STACK_STRIDE, STACKS};

/// The stacks of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    Main = 0,
    DoubleFault = 1,
    Nmi = 2,
    MachineCheck = 3,
}

pub const ALL: [Stack; 4] = [
    Stack::Main,
    Stack::DoubleFault,
    Stack::Nmi,
    Stack::MachineCheck,
];

/// Stacks a CPU has room for.
const PER_CPU: u64 = 8;

/// How many CPUs have their stacks.
static READY: AtomicUsize = AtomicUsize::new(1);

/// Size of a CPU's stack in bytes. CPU 0 starts the kernel on its main stack; the others are idle on theirs.
pub fn size(cpu: usize, stack: Stack) -> u64 {
    match (stack, cpu) {
        (Stack::Main, 0) => 128 * 1024,
        (Stack::Main, _) => 64 * 1024,
        _ => 16 * 1024,
    }
}

/// Maps the stacks of the next CPU, which has none yet, in memory of the frame allocator.
///
/// # Errors
/// [`MapError`]; that CPU cannot run then. What has been mapped stays.
pub fn add(cpu: usize) -> Result<(), MapError> {
    for stack in ALL {
        let bottom = top(cpu, stack) - size(cpu, stack);
        for at in (0..size(cpu, stack)).step_by(PAGE as usize) {
            let page = memory::table_page().ok_or(MapError::NoMemory)?;
            memory::map_pages(bottom + at, page, PAGE, Rights::ReadWrite)?;
        }
    }
    READY.fetch_max(cpu + 1, Relaxed);
    Ok(())
}

/// The address just above a stack, where it starts.
pub fn top(cpu: usize, stack: Stack) -> u64 {
    STACKS + (cpu as u64 * PER_CPU + stack as u64 + 1) * STACK_STRIDE
}

/// Whether `len` bytes at `address` lie inside one of the stacks, of a CPU or of a task: only there a backtrace may read.
pub fn holds(address: u64, len: u64) -> bool {
    task::holds(address, len) || is_cpus(address, len)
}

fn is_cpus(address: u64, len: u64) -> bool {
    address.checked_add(len).is_some_and(|end| {
        each().any(|(cpu, stack)| {
            address >= top(cpu, stack) - size(cpu, stack) && end <= top(cpu, stack)
        })
    })
}

/// The stack below which `address` lies in the guard, if it does.
pub fn guard_of(address: u64) -> Option<Stack> {
    each()
        .find(|(cpu, stack)| {
            let bottom = top(*cpu, *stack) - size(*cpu, *stack);
            address < bottom && address >= top(*cpu, *stack) - STACK_STRIDE
        })
        .map(|(_, stack)| stack)
}

/// Whether `address` lies in the guard below a stack, of a CPU or of a task.
pub fn is_guard(address: u64) -> bool {
    guard_of(address).is_some() || task::guard_of(address)
}

/// All stacks that there are: those of CPU 0, and of each other CPU once it has them.
pub fn each() -> impl Iterator<Item = (usize, Stack)> {
    (0..READY.load(Relaxed)).flat_map(|cpu| ALL.into_iter().map(move |stack| (cpu, stack)))
}

const _: () = assert!(STACK_STRIDE > 128 * 1024 + PAGE);
