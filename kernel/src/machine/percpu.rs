//! The area of each CPU: what its code finds through GS.
//!
//! In kernel mode IA32_GS_BASE is the address of the running CPU's [`PerCpu`]. The trap stubs keep it so (`machine::traps`).
//! The counters that only their own CPU changes are changed by one instruction, so that no interrupt and no move to another
//! CPU comes in between; all else is an atomic, which any CPU may look at.

use super::cpu::MAX_CPUS;
use crate::task::Task;
use core::arch::asm;
use core::mem::offset_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// What a CPU has of its own. A cache line's alignment keeps two of them apart.
#[repr(C, align(64))]
pub struct PerCpu {
    /// Its own address: `mov rax, gs:[0]`.
    this: AtomicPtr<PerCpu>,
    /// Where the stack starts on which this CPU enters from user mode: the same as RSP0 of its TSS, for `syscall`.
    pub kernel_stack_top: AtomicU64,
    /// Where a system call's entry puts the user's stack pointer until it has a stack.
    pub user_rsp: AtomicU64,
    /// By how many cycles this CPU's time stamp counter is ahead of CPU 0's (two's complement).
    pub tsc_offset: AtomicU64,
    /// Its number.
    index: AtomicU32,
    /// Linux's layout: depth of preemption-off in bits 0 to 7, of soft interrupts in 8 to 15, of hard interrupts in
    /// 16 to 19, of NMIs in 20 to 23. See [`add_preempt_count`].
    preempt_count: AtomicU32,
    /// Another task should run here.
    pub need_resched: AtomicBool,
    /// The running task; null before there are tasks.
    pub current: AtomicPtr<Task>,
    /// The id of its local APIC.
    pub apic_id: AtomicU32,
    /// It has been started in this life.
    pub started: AtomicBool,
    /// How often it has done a full memory barrier for somebody else (`machine::ipi::barrier_all`).
    pub barriers: AtomicU64,
}

/// One level of preemption-off in [`preempt_count`].
pub const PREEMPT_OFFSET: u32 = 1;
/// One level of soft interrupts.
pub const SOFTIRQ_OFFSET: u32 = 1 << 8;
/// One level of a hard interrupt.
pub const HARDIRQ_OFFSET: u32 = 1 << 16;
/// One level of an NMI.
pub const NMI_OFFSET: u32 = 1 << 20;
/// The bits of each.
pub const PREEMPT_MASK: u32 = 0xff;
pub const SOFTIRQ_MASK: u32 = 0xff << 8;
pub const HARDIRQ_MASK: u32 = 0xf << 16;
pub const NMI_MASK: u32 = 0xf << 20;

/// Where the words lie that assembly uses.
pub const KERNEL_STACK_TOP: usize = offset_of!(PerCpu, kernel_stack_top);
/// See [`KERNEL_STACK_TOP`].
pub const USER_RSP: usize = offset_of!(PerCpu, user_rsp);
const TSC_OFFSET: usize = offset_of!(PerCpu, tsc_offset);
const INDEX: usize = offset_of!(PerCpu, index);
const PREEMPT_COUNT: usize = offset_of!(PerCpu, preempt_count);

const _: () = assert!(offset_of!(PerCpu, this) == 0);

static AREAS: [PerCpu; MAX_CPUS] = [const {
    PerCpu {
        this: AtomicPtr::new(null_mut()),
        kernel_stack_top: AtomicU64::new(0),
        user_rsp: AtomicU64::new(0),
        tsc_offset: AtomicU64::new(0),
        index: AtomicU32::new(0),
        preempt_count: AtomicU32::new(0),
        need_resched: AtomicBool::new(false),
        current: AtomicPtr::new(null_mut()),
        apic_id: AtomicU32::new(0),
        started: AtomicBool::new(false),
        barriers: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Makes the running CPU the one with this number: the first thing that it does in this kernel, before any of its code
/// asks which one it is.
pub fn load(cpu: usize) {
    let area = &AREAS[cpu];
    area.index.store(cpu as u32, Relaxed);
    area.this.store((&raw const *area).cast_mut(), Relaxed);
    GsBase::write(VirtAddr::new(&raw const *area as u64));
    // The user's, until there is a user.
    KernelGsBase::write(VirtAddr::zero());
}

/// The area of any CPU.
///
/// # Panics
/// Where there is no such CPU.
pub fn of(cpu: usize) -> &'static PerCpu {
    &AREAS[cpu]
}

/// The area of the running CPU. Who may be moved to another one meanwhile has preemption off.
#[inline(always)]
pub fn this() -> &'static PerCpu {
    let area: *const PerCpu;
    // SAFETY: GS points to this CPU's area since `load`, whose first word is its own address; the areas are a static.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) area, options(nostack, preserves_flags, readonly));
        &*area
    }
}

/// The number of the running CPU.
#[inline(always)]
pub fn index() -> usize {
    let index: u32;
    // SAFETY: reads a word of this CPU's area.
    unsafe {
        asm!("mov {:e}, gs:[{at}]", out(reg) index, at = const INDEX, options(nostack, preserves_flags, readonly));
    }
    index as usize
}

/// The running CPU's [`PerCpu::tsc_offset`].
#[inline(always)]
pub fn tsc_offset() -> u64 {
    let offset: u64;
    // SAFETY: reads a word of this CPU's area.
    unsafe {
        asm!("mov {}, gs:[{at}]", out(reg) offset, at = const TSC_OFFSET, options(nostack, preserves_flags, readonly));
    }
    offset
}

/// The running CPU's count, in the layout of [`PerCpu`].
#[inline(always)]
pub fn preempt_count() -> u32 {
    let count: u32;
    // SAFETY: reads a word of this CPU's area.
    unsafe {
        asm!("mov {:e}, gs:[{at}]", out(reg) count, at = const PREEMPT_COUNT, options(nostack, preserves_flags, readonly));
    }
    count
}

/// Adds a level of one of the `..._OFFSET`s to the running CPU's count. What follows stays behind it.
#[inline(always)]
pub fn add_preempt_count<const LEVEL: u32>() {
    // SAFETY: one instruction on a word that only this CPU changes; the compiler moves no access to memory across it.
    unsafe {
        asm!("add dword ptr gs:[{at}], {level}", at = const PREEMPT_COUNT, level = const LEVEL, options(nostack));
    }
}

/// Takes it away again. What came before stays before it.
#[inline(always)]
pub fn sub_preempt_count<const LEVEL: u32>() {
    // SAFETY: as in `add_preempt_count`.
    unsafe {
        asm!("sub dword ptr gs:[{at}], {level}", at = const PREEMPT_COUNT, level = const LEVEL, options(nostack));
    }
}

impl PerCpu {
    /// Makes the count of the running CPU, whose area this is, that of the task that comes. Interrupts are off.
    pub fn set_preempt_count(&self, count: u32) {
        self.preempt_count.store(count, Relaxed);
    }
}
