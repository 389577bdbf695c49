//! Into user mode and out of it.
//!
//! `syscall` leaves the user's stack pointer in RSP and everything else to us: the entry swaps GS, takes the task's kernel
//! stack, and builds the same [`Frame`] there that an interrupt builds, so that a process's registers always stand in one
//! form at the top of its kernel stack. `sysret` is taken back only where it is sound (see the entry's end); else `iretq`.

use super::process::{self, Process};
use super::{copy, syscall};
use crate::machine::cpu::{KERNEL_CODE, USER_CODE, USER_DATA};
use crate::machine::percpu::{KERNEL_STACK_TOP, USER_RSP};
use crate::machine::traps::{Frame, pop_registers, push_registers};
use crate::{latency, task};
use core::mem::offset_of;
use kernel::ring3::abi::USER_END;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags, LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

/// The number in a [`Frame`] that a system call made; no interrupt has it.
pub const SYSCALL: u64 = 256;

// What `syscall` does: RCX = return address, R11 = RFLAGS, RFLAGS &= !SFMASK (interrupts are off), CS and SS from STAR
// (Intel SDM vol. 2, "SYSCALL"). The stack is still the user's, and is not used.
//
// What `sysret` needs: RCX canonical, since it faults in ring 0 on Intel's CPUs otherwise, on the user's stack pointer
// already. An address below USER_END is; anything else goes by `iretq`, which faults in ring 0 on the kernel's stack, and
// which cannot happen either, since no page at USER_END or above is ever mapped for a process.
core::arch::global_asm!(
    ".section .text.syscall_entry, \"ax\"",
    ".balign 16",
    ".global syscall_entry",
    "syscall_entry:",
    "swapgs",
    "mov gs:[{user_rsp}], rsp",
    "mov rsp, gs:[{stack_top}]",
    "push {user_data}",
    "push qword ptr gs:[{user_rsp}]",
    "push r11",
    "push {user_code}",
    "push rcx",
    "push 0",
    "push {syscall}",
    push_registers!(),
    "mov rdi, rsp",
    // The end of a backtrace.
    "xor ebp, ebp",
    "call {handle}",
    "cli",
    "mov rax, {user_end}",
    "cmp [rsp + {rip}], rax",
    "jae trap_return",
    pop_registers!(),
    // Behind the registers: vector, error, rip, cs, rflags, rsp.
    "mov rcx, [rsp + 16]",
    "mov r11, [rsp + 32]",
    "mov rsp, [rsp + 40]",
    "swapgs",
    "sysretq",
    ".text",
    user_rsp = const USER_RSP,
    stack_top = const KERNEL_STACK_TOP,
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    syscall = const SYSCALL,
    user_end = const USER_END,
    rip = const offset_of!(Frame, rip),
    handle = sym handle,
);

unsafe extern "C" {
    fn syscall_entry();
    fn trap_return() -> !;
}

extern "C" fn handle(frame: &mut Frame) {
    syscall::handle(frame);
    interrupts::disable();
    return_to_user();
}

/// The last thing before user mode, interrupts off: a process that is to end does so here, where it holds nothing.
pub fn return_to_user() {
    let ends = task::current()
        .and_then(|task| task.process().map(|process| process.ends()))
        .unwrap_or(false);
    if ends {
        latency::enable_interrupts();
        task::exit();
    }
}

/// What the task of a new process does: it enters user mode. Interrupts are on.
pub fn start() {
    let Some((rip, rsp)) = process::with_current(Process::begin) else {
        return;
    };
    interrupts::disable();
    return_to_user();
    let frame = Frame {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rdi: 0,
        rsi: 0,
        rbp: 0,
        rdx: 0,
        rcx: 0,
        rbx: 0,
        rax: 0,
        vector: 0,
        error: 0,
        rip,
        cs: USER_CODE.into(),
        rflags: RFlags::INTERRUPT_FLAG.bits() | 2,
        rsp,
        ss: USER_DATA.into(),
    };
    // SAFETY: a frame of user mode, on this task's own stack: the return pops it, and the stack starts at its top again
    // when the process comes back in. Nothing on the stack needs dropping.
    unsafe {
        core::arch::asm!(
            "mov rsp, {}",
            "jmp {}",
            in(reg) &raw const frame,
            sym trap_return,
            options(noreturn)
        );
    }
}

/// The MSR with the selectors of `syscall` and `sysret`.
const IA32_STAR: u32 = 0xc000_0081;

/// Sets the running CPU up for user mode. Each CPU does it once, behind `cpu::init`.
///
/// - System calls: entry, selectors, and the flags that are cleared on entry: interrupts, direction, single step, alignment
///   check (which SMAP reads as "user memory is open"), nested task, I/O privilege.
/// - SMEP, SMAP and UMIP where the CPU has them.
/// - x87, MMX and SSE fault: the kernel does not switch their state. `wrgsbase` and its like do too: the trap stubs know whose
///   GS base it is by its sign, so no process may choose one.
pub fn init_cpu() {
    // CPUID leaf 7: EBX bit 7 is SMEP, bit 20 SMAP; ECX bit 2 is UMIP (Intel SDM vol. 2, "CPUID").
    let most = core::arch::x86_64::__cpuid(0).eax;
    let (ebx, ecx) = if most >= 7 {
        let leaf = core::arch::x86_64::__cpuid_count(7, 0);
        (leaf.ebx, leaf.ecx)
    } else {
        (0, 0)
    };
    let mut wanted = Cr4Flags::empty();
    wanted.set(
        Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        ebx & 1 << 7 != 0,
    );
    wanted.set(
        Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        ebx & 1 << 20 != 0,
    );
    wanted.set(
        Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        ecx & 1 << 2 != 0,
    );
    let unwanted = Cr4Flags::FSGSBASE
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::OSXSAVE
        | Cr4Flags::PERFORMANCE_MONITOR_COUNTER;
    // STAR: the kernel's code selector, behind which its data lies, in bits 32 to 47; in 48 to 63 the one 8 below the user's
    // data, behind which its code lies. SYSRET adds 8 and 16, and the privilege level.
    let star = u64::from(KERNEL_CODE) << 32 | u64::from((USER_DATA & !3) - 8) << 48;
    // SAFETY: the selectors are those of this CPU's GDT, and the entry is the one above. The flags of CR4 that are set exist on
    // this CPU; those that are cleared are used by no kernel code, which is built without floating point.
    unsafe {
        Cr4::update(|flags| {
            flags.remove(unwanted);
            flags.insert(wanted);
        });
        Cr0::update(|flags| {
            flags.insert(Cr0Flags::EMULATE_COPROCESSOR);
            flags.remove(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
        });
        Msr::new(IA32_STAR).write(star);
        LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
        SFMask::write(
            RFlags::INTERRUPT_FLAG
                | RFlags::DIRECTION_FLAG
                | RFlags::TRAP_FLAG
                | RFlags::ALIGNMENT_CHECK
                | RFlags::NESTED_TASK
                | RFlags::IOPL_LOW
                | RFlags::IOPL_HIGH,
        );
        Efer::update(|flags| flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
    }
    if wanted.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION) {
        copy::set_smap();
    }
}
