//! The map of virtual memory, the same in every life.
//!
//! | from                    | what                                              | rights |
//! | ----------------------- | ------------------------------------------------- | ------ |
//! | control page's own      | the page that a kexec jumps through (VA = PA)     | r-x    |
//! | `0xffff_8000_0000_0000` | direct map of all RAM ([`DIRECT_MAP`])            | rw-, kernel text and constants r-- |
//! | `0xffff_c000_0000_0000` | the CPUs' stacks, a guard page under each ([`STACKS`]) | rw- |
//! | `0xffff_c040_0000_0000` | the tasks' kernel stacks, the same way ([`TASK_STACKS`]) | rw- |
//! | `0xffff_d000_0000_0000` | heap ([`HEAP`])                                   | rw-    |
//! | `0xffff_e000_0000_0000` | device registers and firmware tables ([`WINDOW`]) | rw-, uncached where it is a device |
//! | `0xffff_ffff_8000_0000` | the kernel image ([`IMAGE`])                      | by segment: r--, r-x, rw- |
//!
//! Nothing is ever writable and executable at once, by any of its names; except the control page, from the jump until the
//! new kernel has its own tables.

/// Where physical address 0 appears in the direct map.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Where the stacks are.
pub const STACKS: u64 = 0xffff_c000_0000_0000;
/// Distance between two stacks, in bytes: the stack itself and the unmapped pages under it.
pub const STACK_STRIDE: u64 = 0x10_0000;
/// Where the kernel stacks of tasks are: in the same top-level entry of the page tables as the CPUs' stacks.
pub const TASK_STACKS: u64 = 0xffff_c040_0000_0000;
/// Distance between the stacks of two tasks, in bytes, with the unmapped pages under each.
pub const TASK_STACK_STRIDE: u64 = 0x4_0000;
/// Where the heap starts.
pub const HEAP: u64 = 0xffff_d000_0000_0000;
/// The most that the heap may take of virtual memory, in bytes.
pub const HEAP_MAX: u64 = 1 << 30;
/// Where device registers and firmware tables are mapped.
pub const WINDOW: u64 = 0xffff_e000_0000_0000;
/// Where a kernel image may lie: the top 2 GiB, which the `kernel` code model needs.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// The end of the area for kernel images: 1 GiB of it.
pub const IMAGE_END: u64 = 0xffff_ffff_c000_0000;
/// The kernel's areas. Each has its top-level entries in the page tables from the start, so that all address spaces, which have
/// copies of them, see the same kernel; none but the direct map grows beyond one.
pub const AREAS: [u64; 5] = [DIRECT_MAP, STACKS, HEAP, WINDOW, IMAGE];
/// Size of a page in bytes.
pub const PAGE: u64 = 4096;

/// `value` rounded up to the next multiple of `align` (a power of two).
pub const fn align_up(value: u64, align: u64) -> u64 {
    (value + align - 1) & !(align - 1)
}
