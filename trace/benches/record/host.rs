//! The host as a platform: simulated memory, the real time stamp counter.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};
use handover::mem::Memory;
use handover::range::PhysRange;
use handover::sim::SimMemory;
use trace::ramtrace::{Beginning, Region};
use trace::{Context, Locality, Platform};

/// See the module.
#[derive(Clone, Copy)]
pub struct Host(SimMemory, Option<&'static Region<Host>>);

impl Host {
    /// A machine with 4 MiB of RAM.
    pub fn new() -> Self {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
        Host(SimMemory::new(&[PhysRange::new(1 << 20, 5 << 20)]), None)
    }

    /// The same, with a region that outlives a reset.
    pub fn with_region() -> Self {
        let range = PhysRange::new(3 << 20, 5 << 20);
        let host = Self::new();
        host.0.reserve(range);
        // SAFETY: the memory is new, and its allocator keeps off the range from here on.
        unsafe { Region::format(&host, range, 1) }.expect("2 MiB of RAM");
        // SAFETY: as above; the only one that is opened.
        let region = unsafe { Region::open(host, range) }.expect("it was made just now");
        let life = Beginning {
            release: "bench",
            build: 0,
            boot_id: [0; 16],
            cpus: 1,
            clock: "local",
            tracer: "nop",
        };
        region.begin_life(&life, 0).expect("it is empty");
        Host(host.0, Some(Box::leak(Box::new(region))))
    }
}

impl Host {
    /// The page at the physical address `pa`, as a process would have it mapped.
    pub fn words(&self, pa: u64) -> &'static [AtomicU32] {
        let base = self.0.ptr(pa, 4096).expect("RAM").cast::<AtomicU32>();
        // SAFETY: simulated memory stays, its pages begin at a page's boundary, and are accessed by atomics only.
        unsafe { core::slice::from_raw_parts(base.as_ptr(), 1024) }
    }

    /// As `words`, of 8 bytes each: for a meta-page.
    pub fn long_words(&self, pa: u64) -> &'static [AtomicU64] {
        let base = self.0.ptr(pa, 4096).expect("RAM").cast::<AtomicU64>();
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(base.as_ptr(), 512) }
    }
}

/// Linux's own way to do a memory barrier on all of a program's CPUs.
fn membarrier(command: libc::c_int) {
    // SAFETY: the call touches no memory of ours.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    assert_eq!(done, 0, "membarrier {command}");
}

/// The clock of all rows.
#[inline(always)]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and no user program here has it forbidden.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_nanos() as u64
    }
}

// SAFETY: all is passed on to `SimMemory`, which keeps the contract.
unsafe impl Memory for Host {
    fn ptr(&self, pa: u64, len: usize) -> Option<NonNull<u8>> {
        self.0.ptr(pa, len)
    }

    fn alloc_pages(&self, order: u32) -> Option<u64> {
        self.0.alloc_pages(order)
    }

    unsafe fn free_pages(&self, pa: u64, order: u32) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.free_pages(pa, order) }
    }
}

impl Platform for Host {
    // SAFETY: each buffer of the benchmark is written to by one thread, `barrier_all` is one.
    const LOCALITY: Locality = unsafe { Locality::pinned() };

    fn barrier_all(&self) {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    }

    #[inline(always)]
    fn cpu(&self) -> usize {
        0
    }

    #[inline(always)]
    fn cycles(&self) -> u64 {
        rdtsc()
    }

    fn cycles_to_nanos(&self, cycles: u64) -> u64 {
        cycles
    }

    #[inline(always)]
    fn context(&self) -> Context {
        Context::default()
    }

    fn ramtrace(&self) -> Option<&'static Region<Self>> {
        self.1
    }

    fn comm(&self, _: i32, out: &mut dyn fmt::Write) {
        let _ = out.write_str("bench");
    }
}
