//! Interrupts and exceptions: the stubs, the IDT, and who handles which vector.

use super::apic::{self, ERROR_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR, UART_VECTOR};
use super::{cpu, uart};
use crate::{events, report};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

/// What the stub and the CPU pushed. Intel SDM vol. 3, "Stack Usage with Privilege Level Change" in 64-bit mode.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

// One stub of 16 bytes a vector: a zero where the CPU pushes no error code, the vector, and on to the common part. The
// CPU aligns the stack to 16 bytes before it pushes, and Frame is 22 words long, so that the call finds it aligned.
core::arch::global_asm!(
    ".section .text.trap_stubs, \"ax\"",
    ".balign 16",
    ".global trap_stubs",
    "trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    // Vectors with an error code: 8, 10 to 14, 17, 21, 29, 30 (Intel SDM vol. 3, table 6-1; AMD's 29 and 30).
    ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    ".byte 0x68", // push imm32
    ".long vector",
    "jmp trap_common",
    ".set vector, vector + 1",
    ".endr",
    "trap_common:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rbp",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rdi, rsp",
    "cld",
    "call {trap}",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rbp",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "add rsp, 16",
    "iretq",
    ".text",
    trap = sym trap,
);

unsafe extern "C" {
    /// 256 stubs of 16 bytes each.
    static trap_stubs: [u8; 256 * 16];
}

/// A gate of the IDT. Intel SDM vol. 3, "64-Bit IDT Gate Descriptors".
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    zero: u32,
}

static IDT: Once<[Gate; 256]> = Once::new();

/// Loads the IDT on this CPU, making it first where this is the first one.
pub fn load(code_selector: u16) {
    let idt = IDT.call_once(|| {
        core::array::from_fn(|vector| {
            let stub = &raw const trap_stubs as u64 + vector as u64 * 16;
            Gate {
                offset_low: stub as u16,
                selector: code_selector,
                ist: match vector {
                    2 => cpu::NMI_IST,
                    8 => cpu::DOUBLE_FAULT_IST,
                    18 => cpu::MACHINE_CHECK_IST,
                    _ => 0,
                },
                // Present, ring 0, interrupt gate: interrupts stay off in the handler.
                kind: 0x8e,
                offset_middle: (stub >> 16) as u16,
                offset_high: (stub >> 32) as u32,
                zero: 0,
            }
        })
    });
    let pointer = DescriptorTablePointer {
        limit: (size_of_val(idt) - 1) as u16,
        base: VirtAddr::new(idt.as_ptr() as u64),
    };
    // SAFETY: every one of the 256 gates leads to a stub, and the table is never freed.
    unsafe { lidt(&pointer) };
}

/// Depth of hard interrupts and NMIs on each CPU, for the flags of trace events.
static HARDIRQ: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(0) }; cpu::MAX_CPUS];
static NMI: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(0) }; cpu::MAX_CPUS];

/// Whether this CPU is in a hard interrupt's handler.
pub fn in_hardirq() -> bool {
    HARDIRQ[cpu::index()].load(Relaxed) > 0
}

/// Whether this CPU is in an NMI's handler.
pub fn in_nmi() -> bool {
    NMI[cpu::index()].load(Relaxed) > 0
}

/// Interrupts counted by vector, for `/proc/interrupts`.
static COUNTS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// How often a vector has been taken in this life.
pub fn count(vector: u8) -> u64 {
    COUNTS[vector as usize].load(Relaxed)
}

extern "C" fn trap(frame: &mut Frame) {
    let vector = frame.vector as u8;
    COUNTS[vector as usize].fetch_add(1, Relaxed);
    match vector {
        2 => {
            NMI[cpu::index()].fetch_add(1, Relaxed);
            // It may have come inside any lock, so it is only counted (`/proc/interrupts`).
            NMI[cpu::index()].fetch_sub(1, Relaxed);
        }
        0..32 => report::fault(frame),
        _ => {
            HARDIRQ[cpu::index()].fetch_add(1, Relaxed);
            interrupt(vector);
            HARDIRQ[cpu::index()].fetch_sub(1, Relaxed);
        }
    }
}

fn interrupt(vector: u8) {
    match vector {
        TIMER_VECTOR => {
            events::local_timer_entry(vector as i32);
            uart::tick();
            apic::end_of_interrupt();
            events::local_timer_exit(vector as i32);
        }
        UART_VECTOR => {
            let irq = super::found().uart_gsi as i32;
            events::irq_handler_entry(irq, "uart");
            let handled = uart::interrupt();
            apic::end_of_interrupt();
            events::irq_handler_exit(irq, handled as i32);
        }
        // A spurious interrupt is not in service, so it is not ended (Intel SDM vol. 3, "Spurious Interrupt").
        SPURIOUS_VECTOR => {}
        ERROR_VECTOR => apic::end_of_interrupt(),
        _ => {
            crate::warning!("interrupt: vector {vector:#x} came, and nobody asked for it");
            apic::end_of_interrupt();
        }
    }
}
