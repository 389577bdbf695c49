//! What each CPU has of its own: GDT, TSS with separate stacks for the faults that must not use the running one.

use crate::boot::stacks::{self, Stack};
use crate::memory::IrqMutex;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// The most CPUs that this kernel has room for. One of them runs so far.
pub const MAX_CPUS: usize = 1;

/// Slots of the interrupt stack table.
pub const DOUBLE_FAULT_IST: u8 = 1;
pub const NMI_IST: u8 = 2;
pub const MACHINE_CHECK_IST: u8 = 3;

/// The tables of one CPU. They stay where they are for the kernel's life: the CPU reads them by address.
struct Tables {
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
}

static TABLES: [IrqMutex<Tables>; MAX_CPUS] = [const {
    IrqMutex::new(Tables {
        tss: TaskStateSegment::new(),
        gdt: GlobalDescriptorTable::new(),
    })
}; MAX_CPUS];

/// Which CPU this is: its index in all per-CPU arrays.
#[inline]
pub fn index() -> usize {
    0
}

/// Loads this CPU's GDT, TSS and the IDT.
pub fn init() {
    let cpu = index();
    let mut tables = TABLES[cpu].lock();
    for (slot, stack) in [
        (DOUBLE_FAULT_IST, Stack::DoubleFault),
        (NMI_IST, Stack::Nmi),
        (MACHINE_CHECK_IST, Stack::MachineCheck),
    ] {
        tables.tss.interrupt_stack_table[slot as usize - 1] =
            VirtAddr::new(stacks::top(cpu, stack));
    }
    // SAFETY: the tables are in a static and not moved or changed again; the lock only keeps two CPUs from setting the
    // same ones up.
    let (tss, gdt): (
        &'static TaskStateSegment,
        &'static mut GlobalDescriptorTable,
    ) = unsafe {
        let tables: *mut Tables = &raw mut *tables;
        (&(*tables).tss, &mut (*tables).gdt)
    };
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded, for ring 0.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(task);
        // Read-only pages are read-only for ring 0 too.
        Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT));
    }
    super::traps::load(code.0);
}
