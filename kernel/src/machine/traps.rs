//! Interrupts and exceptions: the stubs, the IDT, and who handles which vector.

use super::apic::{
    self, CALL_VECTOR, ERROR_VECTOR, RESCHEDULE_VECTOR, SPURIOUS_VECTOR, STOP_VECTOR, TIMER_VECTOR,
    UART_VECTOR,
};
use super::{cpu, ipi, percpu, uart};
use crate::task::stat;
use crate::{events, latency, report, user};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::rflags::RFlags;
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

/// Assembly that pushes the registers of a [`Frame`], behind `vector`.
macro_rules! push_registers {
    () => {
        concat!(
            "push rax\n",
            "push rbx\n",
            "push rcx\n",
            "push rdx\n",
            "push rbp\n",
            "push rsi\n",
            "push rdi\n",
            "push r8\n",
            "push r9\n",
            "push r10\n",
            "push r11\n",
            "push r12\n",
            "push r13\n",
            "push r14\n",
            "push r15",
        )
    };
}
pub(crate) use push_registers;

/// Assembly that pops them again, up to `vector`.
macro_rules! pop_registers {
    () => {
        concat!(
            "pop r15\n",
            "pop r14\n",
            "pop r13\n",
            "pop r12\n",
            "pop r11\n",
            "pop r10\n",
            "pop r9\n",
            "pop r8\n",
            "pop rdi\n",
            "pop rsi\n",
            "pop rbp\n",
            "pop rdx\n",
            "pop rcx\n",
            "pop rbx\n",
            "pop rax",
        )
    };
}
pub(crate) use pop_registers;

// One stub of 16 bytes a vector: a zero where the CPU pushes no error code, the vector, and on to a common part. The
// CPU aligns the stack to 16 bytes before it pushes, and Frame is 22 words long, so that the call finds it aligned.
//
// GS is the kernel's while the kernel runs (machine::percpu). Whoever comes from ring 3 brings the user's, and swaps. An
// exception that can come at any instruction of the kernel, also before an entry has swapped or after an exit has, cannot
// go by the ring: it looks at the base, which is the kernel's where it is in the upper half (a user's never is). Those are
// the debug exception, NMI, double fault and machine check.
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
    ".if (vector == 1) || (vector == 2) || (vector == 8) || (vector == 18)",
    "jmp trap_anywhere",
    ".else",
    "jmp trap_common",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    "trap_common:",
    push_registers!(),
    "mov rdi, rsp",
    "cld",
    "test byte ptr [rsp + {cs}], 3",
    "jz 2f",
    "swapgs",
    // A backtrace ends here: where a program's RBP leads is its own choice.
    "xor ebp, ebp",
    "2:",
    "call {trap}",
    // Also the way into user mode for the first time: rsp is a Frame.
    ".global trap_return",
    "trap_return:",
    "cli",
    "test byte ptr [rsp + {cs}], 3",
    "jz 3f",
    "swapgs",
    "3:",
    pop_registers!(),
    // Vector and error code.
    "add rsp, 16",
    "iretq",
    "trap_anywhere:",
    push_registers!(),
    "mov rdi, rsp",
    "cld",
    "test byte ptr [rsp + {cs}], 3",
    "jz 4f",
    // As above.
    "xor ebp, ebp",
    "4:",
    "xor ebx, ebx",
    "mov ecx, {gs_base}",
    "rdmsr",
    "test edx, edx",
    "js 5f",
    "swapgs",
    "mov ebx, 1",
    "5:",
    "call {trap}",
    "test ebx, ebx",
    "jz 6f",
    "swapgs",
    "6:",
    pop_registers!(),
    // Vector and error code.
    "add rsp, 16",
    "iretq",
    ".text",
    trap = sym trap,
    cs = const core::mem::offset_of!(Frame, cs),
    gs_base = const IA32_GS_BASE,
);

/// The vector of NMIs.
pub const NMI: u8 = 2;
const BREAKPOINT: usize = 3;
const OVERFLOW: usize = 4;
const DOUBLE_FAULT: u8 = 8;
const MACHINE_CHECK: u8 = 18;

/// The MSR with the base of GS.
const IA32_GS_BASE: u32 = 0xc000_0101;

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
                // Present, interrupt gate: interrupts stay off in the handler.
                kind: match vector {
                    // From any ring, as in Linux: `int3` and `into` are for programs, too.
                    BREAKPOINT | OVERFLOW => 0xee,
                    _ => 0x8e,
                },
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

/// Interrupts counted by CPU and vector, for `/proc/interrupts`.
static COUNTS: [[AtomicU64; 256]; cpu::MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; 256] }; cpu::MAX_CPUS];

/// How often a CPU has taken a vector in this life.
pub fn count(cpu: usize, vector: u8) -> u64 {
    COUNTS[cpu][vector as usize].load(Relaxed)
}

extern "C" fn trap(frame: &mut Frame) {
    // It may have come in the middle of a copy from or to a process.
    user::copy::close();
    let vector = frame.vector as u8;
    // Those that are no part of what the CPU does are not measured.
    let measured = frame.rflags & RFlags::INTERRUPT_FLAG.bits() != 0
        && !matches!(vector, NMI | DOUBLE_FAULT | MACHINE_CHECK);
    if measured {
        latency::irqs_off();
    }
    let count = &COUNTS[cpu::index()][vector as usize];
    // Its own CPU alone changes it, with interrupts off.
    count.store(count.load(Relaxed) + 1, Relaxed);
    match vector {
        NMI => {
            percpu::add_preempt_count::<{ percpu::NMI_OFFSET }>();
            // It may have come inside any lock.
            ipi::on_nmi();
            percpu::sub_preempt_count::<{ percpu::NMI_OFFSET }>();
        }
        0..32 => {
            if !user::exception(frame) {
                report::fault(frame);
            }
        }
        _ => {
            stat::interrupt_time();
            percpu::add_preempt_count::<{ percpu::HARDIRQ_OFFSET }>();
            interrupt(vector, frame.cs & 3 != 0);
            stat::interrupt_time();
            percpu::sub_preempt_count::<{ percpu::HARDIRQ_OFFSET }>();
            crate::task::on_interrupt_exit(frame);
        }
    }
    if frame.cs & 3 != 0 && vector != NMI {
        user::return_to_user();
    }
    if measured {
        latency::irqs_on();
    }
}

fn interrupt(vector: u8, from_user: bool) {
    match vector {
        TIMER_VECTOR => {
            events::local_timer_entry(vector as i32);
            if cpu::index() == 0 {
                uart::tick();
            }
            crate::task::tick(from_user);
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
        RESCHEDULE_VECTOR => {
            events::reschedule_entry(vector as i32);
            ipi::on_reschedule();
            apic::end_of_interrupt();
            events::reschedule_exit(vector as i32);
        }
        CALL_VECTOR => {
            events::call_function_entry(vector as i32);
            ipi::on_call();
            apic::end_of_interrupt();
            events::call_function_exit(vector as i32);
        }
        STOP_VECTOR => {
            apic::end_of_interrupt();
            ipi::on_stop();
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
