//! What each CPU has of its own: GDT, TSS with separate stacks for the faults that must not use the running one. And which
//! CPUs there are.

use super::percpu;
use crate::boot::stacks::{self, Stack};
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

pub use super::percpu::index;

/// The most CPUs that this kernel has room for.
pub const MAX_CPUS: usize = 8;

/// Slots of the interrupt stack table.
pub const DOUBLE_FAULT_IST: u8 = 1;
pub const NMI_IST: u8 = 2;
pub const MACHINE_CHECK_IST: u8 = 3;

/// Segment selectors. The order is what SYSCALL and SYSRET need (Intel SDM vol. 2, "SYSRET": SS is the base of IA32_STAR and
/// 8, CS the base and 16; AMD APM vol. 2, 6.1.1).
pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
pub const USER_DATA: u16 = 0x18 | 3;
pub const USER_CODE: u16 = 0x20 | 3;

/// The tables of one CPU. They stay where they are for the kernel's life: the CPU reads them by address.
struct Tables {
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
}

struct Own(UnsafeCell<Tables>);

// SAFETY: each CPU touches its own element only, with interrupts off or in its first steps.
unsafe impl Sync for Own {}

static TABLES: [Own; MAX_CPUS] = [const {
    Own(UnsafeCell::new(Tables {
        tss: TaskStateSegment::new(),
        gdt: GlobalDescriptorTable::new(),
    }))
}; MAX_CPUS];

/// A bit for each CPU that runs and answers.
static ONLINE: AtomicU32 = AtomicU32::new(0);
/// How many CPUs this life wants to run.
static WANTED: AtomicUsize = AtomicUsize::new(1);

/// How many CPUs this life has: those that firmware has, up to [`MAX_CPUS`] and `maxcpus=`. Their numbers are below that,
/// whether they are online or not.
pub fn count() -> usize {
    WANTED.load(Relaxed)
}

/// Sets [`count`]. Once, before anybody asks.
pub fn set_count(cpus: usize) {
    WANTED.store(cpus.clamp(1, MAX_CPUS), Relaxed);
}

/// The CPUs that run and answer, a bit each.
pub fn online_mask() -> u32 {
    ONLINE.load(Acquire)
}

/// How many CPUs run.
pub fn online() -> usize {
    online_mask().count_ones() as usize
}

/// Whether this CPU runs.
pub fn is_online(cpu: usize) -> bool {
    cpu < MAX_CPUS && online_mask() >> cpu & 1 != 0
}

/// The running CPU answers from now on.
pub fn set_online() {
    ONLINE.fetch_or(1 << index(), AcqRel);
}

/// The running CPU (or one that answers no more) does not.
pub fn set_offline(cpu: usize) {
    ONLINE.fetch_and(!(1 << cpu), AcqRel);
}

/// Loads the running CPU's GDT, TSS and the IDT. Its stacks are mapped, and [`percpu::load`] has been called.
pub fn init() {
    let cpu = index();
    // SAFETY: this CPU's own tables, which nobody looks at yet; they are a static, and only `set_kernel_stack` writes to
    // them again.
    let tables: &'static mut Tables = unsafe { &mut *TABLES[cpu].0.get() };
    for (slot, stack) in [
        (DOUBLE_FAULT_IST, Stack::DoubleFault),
        (NMI_IST, Stack::Nmi),
        (MACHINE_CHECK_IST, Stack::MachineCheck),
    ] {
        tables.tss.interrupt_stack_table[slot as usize - 1] =
            VirtAddr::new(stacks::top(cpu, stack));
    }
    let gdt = &mut tables.gdt;
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let user_data = gdt.append(Descriptor::user_data_segment());
    let user_code = gdt.append(Descriptor::user_code_segment());
    // SAFETY: the TSS is in a static and stays there.
    let task = gdt.append(unsafe { Descriptor::tss_segment_unchecked(&raw const tables.tss) });
    assert_eq!(
        (code.0, data.0, user_data.0, user_code.0),
        (KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE)
    );
    // SAFETY: the table is in a static, and complete; the selectors are its, for ring 0. GS is left alone: its base is
    // the per-CPU area's.
    unsafe {
        gdt.load_unsafe();
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(task);
        // Read-only pages are read-only for ring 0 too.
        Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT));
    }
    super::traps::load(code.0);
    crate::user::init_cpu();
}

/// Sets the stack on which the running CPU comes in from user mode: for interrupts in its TSS, for system calls in its area.
/// With interrupts off.
pub fn set_kernel_stack(top: u64) {
    let cpu = index();
    // SAFETY: this CPU's own TSS, in place; the CPU reads the word only when it comes in from user mode. The TSS is packed.
    unsafe {
        let tss = &raw mut (*TABLES[cpu].0.get()).tss;
        (&raw mut (*tss).privilege_stack_table[0]).write_unaligned(VirtAddr::new(top));
    }
    percpu::this().kernel_stack_top.store(top, Relaxed);
}
