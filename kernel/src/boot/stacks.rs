//! The stacks: each with unmapped pages below it, so that an overflow faults instead of eating its neighbour.

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

impl Stack {
    /// Size in bytes.
    pub fn size(self) -> u64 {
        match self {
            Stack::Main => 128 * 1024,
            _ => 16 * 1024,
        }
    }
}

/// The address just above a stack, where it starts.
pub fn top(cpu: usize, stack: Stack) -> u64 {
    STACKS + (cpu as u64 * PER_CPU + stack as u64 + 1) * STACK_STRIDE
}

/// Whether `len` bytes at `address` lie inside one of the stacks: only there a backtrace may read.
pub fn holds(address: u64, len: u64) -> bool {
    address.checked_add(len).is_some_and(|end| {
        each()
            .any(|(cpu, stack)| address >= top(cpu, stack) - stack.size() && end <= top(cpu, stack))
    })
}

/// The stack below which `address` lies in the guard, if it does.
pub fn guard_of(address: u64) -> Option<Stack> {
    each()
        .find(|(cpu, stack)| {
            let bottom = top(*cpu, *stack) - stack.size();
            address < bottom && address >= top(*cpu, *stack) - STACK_STRIDE
        })
        .map(|(_, stack)| stack)
}

/// All stacks.
pub fn each() -> impl Iterator<Item = (usize, Stack)> {
    (0..crate::machine::cpu::MAX_CPUS)
        .flat_map(|cpu| ALL.into_iter().map(move |stack| (cpu, stack)))
}

const _: () = assert!(STACK_STRIDE > 128 * 1024 + PAGE);
