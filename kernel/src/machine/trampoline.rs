//! The way of a CPU from its start in real mode to the kernel's tables, through a few pages below 1 MiB.
//!
//! | page | what |
//! | --- | --- |
//! | 0 | the code, its GDT, and what it loads into which register |
//! | 1 | a top page table: the kernel's upper half, and page 0 of this where its physical address says |
//! | 2 to 4 | the tables for that one page |
//!
//! The kernel's own top table may lie above 4 GiB, where a CPU in protected mode cannot be told to look for it.
//!
//! While CPUs are started page 0 has a writable name (the kernel's) and an executable one (in tables that only a starting CPU
//! has loaded). It is emptied and loses both when that is over.

use crate::boot::paging::{MapError, upper_half};
use crate::memory;
use core::sync::atomic::{Ordering::SeqCst, fence};
use kernel::layout::PAGE;
use kernel::params::Extent;
use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, EferFlags};

/// Pages that it takes.
pub const PAGES: u64 = 5;

// Copied to page 0, and run there. rbx is its physical address all the way. Intel SDM vol. 3, 9.8.5, "Initializing IA-32e
// Mode", has the order.
core::arch::global_asm!(
    r#"
    .section .rodata.ap_start, "a"
    .balign 16
    .global ap_start
ap_start:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movzwl %ax, %ebx
    shll $4, %ebx
    lgdtl ap_gdt_pointer - ap_start
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *(ap_far32 - ap_start)
    .code32
ap_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl (ap_cr4 - ap_start)(%ebx), %eax
    movl %eax, %cr4
    movl (ap_cr3 - ap_start)(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    movl (ap_efer - ap_start)(%ebx), %eax
    wrmsr
    movl (ap_cr0 - ap_start)(%ebx), %eax
    movl %eax, %cr0
    ljmpl *(ap_far64 - ap_start)(%ebx)
    .code64
ap_long:
    movl %ebx, %ebx
    movq (ap_stack - ap_start)(%rbx), %rsp
    movq (ap_argument - ap_start)(%rbx), %rdi
    movq (ap_root - ap_start)(%rbx), %rsi
    movq (ap_entry - ap_start)(%rbx), %rax
    jmpq *%rax
    .balign 8
    // Flat segments, marked as accessed already: their page is read-only by now.
ap_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
ap_gdt_pointer:
    .word ap_gdt_pointer - ap_gdt - 1
    .long ap_gdt - ap_start
    .balign 8
ap_far32:
    .long ap_protected - ap_start
    .word 8
    .balign 8
ap_far64:
    .long ap_long - ap_start
    .word 0x18
    .balign 8
    .global ap_cr0
ap_cr0:      .quad 0
ap_cr3:      .quad 0
ap_cr4:      .quad 0
ap_efer:     .quad 0
ap_root:     .quad 0
ap_entry:    .quad 0
ap_stack:    .quad 0
ap_argument: .quad 0
ap_end:
    .text
"#,
    options(att_syntax)
);

unsafe extern "C" {
    static ap_start: u8;
    static ap_gdt_pointer: u8;
    static ap_far32: u8;
    static ap_far64: u8;
    static ap_cr0: u8;
    static ap_end: u8;
}

/// The words from `ap_cr0` on.
const CR0: usize = 0;
const CR3: usize = 1;
const CR4: usize = 2;
const EFER: usize = 3;
const ROOT: usize = 4;
const ENTRY: usize = 5;
const STACK: usize = 6;
const ARGUMENT: usize = 7;

/// Where something of the code lies in its page.
macro_rules! place_of {
    ($symbol:ident) => {
        (&raw const $symbol as usize) - (&raw const ap_start as usize)
    };
}

/// The pages, ready for use. Dropping it empties and unmaps them.
pub struct Trampoline {
    /// Physical address, and where the pages are mapped.
    at: u64,
    virt: u64,
}

impl Trampoline {
    /// Puts code and tables into `low`, pages below 1 MiB that nobody else uses. CPUs that go that way come out in `entry`,
    /// which gets an argument in rdi and the kernel's page tables (for CR3) in rsi, with the control registers of this CPU.
    ///
    /// # Errors
    /// [`MapError::NoMemory`] if there is none to map the pages.
    pub fn new(low: Extent, entry: u64) -> Result<Trampoline, MapError> {
        let at = low.addr;
        let trampoline = Trampoline {
            at,
            virt: memory::map_low(at, PAGES * PAGE)?,
        };
        let code = &raw const ap_start;
        // SAFETY: the code's bytes, in the image; page 0 of the trampoline, which is this value's.
        unsafe {
            let page = trampoline.virt as *mut u8;
            core::ptr::write_bytes(page, 0, (PAGES * PAGE) as usize);
            core::ptr::copy_nonoverlapping(code, page, place_of!(ap_end));
        }
        // The base of the GDT, and the targets of the far jumps, are addresses.
        for place in [
            place_of!(ap_gdt_pointer) + 2,
            place_of!(ap_far32),
            place_of!(ap_far64),
        ] {
            let word = (trampoline.virt as usize + place) as *mut u32;
            // SAFETY: a word of the copied code; not aligned, perhaps.
            unsafe { word.write_unaligned(word.read_unaligned() + at as u32) };
        }
        trampoline.build_tables();
        let root = Cr3::read().0.start_address().as_u64();
        trampoline.set(CR0, Cr0::read_raw());
        trampoline.set(CR3, at + PAGE);
        trampoline.set(CR4, Cr4::read_raw());
        // It becomes active by itself, and must not be written.
        let efer = Efer::read() - EferFlags::LONG_MODE_ACTIVE;
        trampoline.set(EFER, efer.bits());
        trampoline.set(ROOT, root);
        trampoline.set(ENTRY, entry);
        Ok(trampoline)
    }

    /// The number of the page in which a CPU starts.
    pub fn page(&self) -> u8 {
        (self.at / PAGE) as u8
    }

    /// Says where the next CPU goes: the top of its stack, and its argument.
    pub fn aim(&self, stack: u64, argument: u64) {
        self.set(STACK, stack);
        self.set(ARGUMENT, argument);
        fence(SeqCst);
    }

    fn set(&self, word: usize, value: u64) {
        let at = self.virt as usize + place_of!(ap_cr0) + word * 8;
        // SAFETY: one of the words at the end of the code, aligned; a CPU that starts reads it.
        unsafe { (at as *mut u64).write_volatile(value) };
    }

    /// Entry `index` of the table in page `page`.
    fn set_entry(&self, page: u64, index: u64, value: u64) {
        let at = self.virt + page * PAGE + index * 8;
        // SAFETY: one of the trampoline's pages.
        unsafe { (at as *mut u64).write_volatile(value) };
    }

    fn build_tables(&self) {
        // Bits 0 and 1: present, writable (Intel SDM vol. 3, table 4-15 and on).
        const TABLE: u64 = 3;
        let root = Cr3::read().0.start_address().as_u64();
        // SAFETY: the top table in force; its upper half does not change any more.
        for (index, entry) in (256..).zip(unsafe { upper_half(root) }) {
            self.set_entry(1, index, entry);
        }
        self.set_entry(1, 0, (self.at + 2 * PAGE) | TABLE);
        self.set_entry(2, 0, (self.at + 3 * PAGE) | TABLE);
        self.set_entry(3, 0, (self.at + 4 * PAGE) | TABLE);
        // Present, read-only, executable.
        self.set_entry(4, self.at / PAGE, self.at | 1);
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        // SAFETY: as in `new`; no CPU is on its way any more.
        unsafe { core::ptr::write_bytes(self.virt as *mut u8, 0, (PAGES * PAGE) as usize) };
        // SAFETY: this value's own window, which nobody uses after it.
        unsafe { memory::unmap_pages(self.virt, PAGES) };
    }
}
