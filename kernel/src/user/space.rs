//! Address spaces on this machine: where their memory comes from, and which CPU has which in force.

use crate::boot::paging::upper_half;
use crate::events;
use crate::machine::ipi::Flush;
use crate::machine::{cpu, ipi};
use crate::memory::{self, Gfp, Phys};
use crate::task;
use core::ptr::NonNull;
use core::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use handover::mem::Memory;
use kernel::layout::PAGE;
use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Memory for processes: the kernel's, less what the kernel keeps for itself.
#[derive(Clone, Copy, Debug)]
pub struct UserPages;

/// Pages that processes never get: the same as `memory::reserve_pages` keeps at a start, but a fixed number. The kernel's heap,
/// its stacks and the console go on with them.
fn reserve() -> u64 {
    static RESERVE: Once<u64> = Once::new();
    *RESERVE.call_once(memory::reserve_pages)
}

/// Pages that processes have, their page tables among them.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Pages that processes have, their page tables among them.
pub fn taken_pages() -> u64 {
    TAKEN.load(Relaxed)
}

/// Where processes may take fewer pages than this, the kernel keeps no memory but what it uses.
const SHORT: u64 = 1024;

/// Pages that processes may still take. Where they are few, those come to them that the kernel kept for tasks to come: for tasks, since
/// CPUs may have to be asked.
pub fn available_pages() -> u64 {
    let available = available();
    match available < SHORT && task::give_back_stacks() {
        true => self::available(),
        false => available,
    }
}

/// Of what is free now.
fn available() -> u64 {
    memory::free_pages().saturating_sub(reserve())
}

/// Pages that processes could have: those that are free and those that the kernel would give back, less what it keeps for itself.
pub fn obtainable_pages() -> u64 {
    (memory::free_pages() + task::kept_stack_pages()).saturating_sub(reserve())
}

/// Whether memory is short.
pub fn is_short() -> bool {
    available() < SHORT
}

fn alloc(order: u32, gfp: Gfp) -> Option<u64> {
    if available_pages() < 1 << order {
        return None;
    }
    let page = memory::alloc(order, gfp)?;
    TAKEN.fetch_add(1 << order, Relaxed);
    Some(page)
}

// SAFETY: the kernel's own memory, of which it gives out less.
unsafe impl Memory for UserPages {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        Phys.ptr(pa, len)
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        alloc(order, Gfp::USER)
    }

    fn alloc_zeroed_pages(&self, order: u32) -> Option<u64> {
        alloc(order, Gfp::USER.zeroed())
    }

    unsafe fn free_pages(&self, pa: u64, order: u32) {
        TAKEN.fetch_sub(1 << order, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { Phys.free_pages(pa, order) };
    }
}

/// Physical address of the kernel's own top table, which has an empty user half.
static KERNEL_ROOT: Once<u64> = Once::new();
/// What each CPU has in CR3 of processes; 0: the kernel's own, or not known to be anything else.
static LOADED: [AtomicU64; cpu::MAX_CPUS] = [const { AtomicU64::new(0) }; cpu::MAX_CPUS];

/// Notes the tables in force as the kernel's own. Before there is a process. No top-level entry of their kernel half changes
/// from here on: each address space has a copy.
pub fn init() {
    KERNEL_ROOT.call_once(|| Cr3::read().0.start_address().as_u64());
    reserve();
}

fn kernel_root() -> u64 {
    *KERNEL_ROOT.get().expect("user::space::init has run")
}

/// The top-level entries 256 to 511 of the kernel's tables.
pub fn kernel_half() -> [u64; 256] {
    // SAFETY: a top table, which stays; its upper half does not change any more.
    unsafe { upper_half(kernel_root()) }
}

/// # Safety
/// Interrupts are off; `root` is a top table with the kernel's upper half that stays until another one is loaded here.
unsafe fn load(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: the caller's promise; the running code is in the kernel's half.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// The kernel's own tables in force on this CPU, for who changes or leaves the lower half.
pub fn load_kernel_tables() {
    memory::without_interrupts(|| {
        // SAFETY: interrupts are off; the kernel's tables are never freed.
        unsafe { load(kernel_root()) };
        LOADED[cpu::index()].store(0, SeqCst);
    });
}

/// Linux's reason in `tlb_flush`; it has no number of pages then.
const FLUSH_ON_TASK_SWITCH: i32 = 0;

/// Which address space a process's task runs in: what the scheduler puts in force.
pub struct InForce {
    /// Its top table; 0: the kernel's own, since the process has none any more.
    root: AtomicU64,
    /// The CPU on which it ran last, or none.
    last: AtomicUsize,
}

impl InForce {
    /// The space with this top table.
    pub fn new(root: u64) -> Self {
        InForce {
            root: AtomicU64::new(root),
            last: AtomicUsize::new(usize::MAX),
        }
    }

    /// Puts it in force on this CPU, interrupts off. A process that comes from another CPU finds none of this one's old
    /// translations: it may have unmapped something meanwhile, and told only the CPU that it was on.
    pub fn activate(&self) {
        let here = cpu::index();
        let root = self.root.load(SeqCst);
        let moved = self.last.swap(here, SeqCst) != here;
        if root == 0 {
            load_kernel_tables();
        } else if moved || LOADED[here].load(SeqCst) != root {
            // Noted first: who frees the tables asks all CPUs that have a note.
            LOADED[here].store(root, SeqCst);
            // SAFETY: interrupts are off; the process's space lives as long as `root` is not 0, and its end waits for CPUs
            // that have it in force (`leave`).
            unsafe { load(root) };
            // No page is global, and there are no PCIDs.
            events::tlb_flush(FLUSH_ON_TASK_SWITCH, 0);
        }
    }

    /// The space is about to be freed: nobody has it in force afterwards, or will. Called by the process's own task, or when that
    /// is gone.
    pub fn leave(&self) {
        let root = self.root.swap(0, SeqCst);
        if root == 0 {
            return;
        }
        // A kernel thread runs on whatever tables were in force before it.
        let cpus = (0..cpu::MAX_CPUS)
            .filter(|cpu| LOADED[*cpu].load(SeqCst) == root)
            .fold(0, |mask, cpu| mask | 1 << cpu);
        ipi::call(cpus, &|| {
            if LOADED[cpu::index()].load(SeqCst) == root {
                load_kernel_tables();
            }
        });
    }
}

/// The running process's translations of some pages are out of date. No other CPU matters: the process runs here alone, and
/// the next CPU that it runs on loads its tables anew.
pub fn flush_here(start: u64, bytes: u64) {
    // Should the process be moved in the middle, its tables are loaded anew there.
    Flush::Pages(start, bytes / PAGE).forget_own();
}
