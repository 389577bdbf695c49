//! Copying from and to user memory: the only code of the kernel that touches it.
//!
//! A pointer from a process is a number until [`UserSlice::new`] has seen that the range lies in the user half. The bytes
//! behind it may still be missing: the copy routine then faults, the page comes in where its area allows it, and otherwise
//! the fault handler goes on at the routine's recovery address, which [`recovery`] finds in the exception table. SMAP, where
//! the CPU has it, makes every other access to user memory a fault.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::ring3::abi::{USER_END, USER_START};
use trace::errno::Errno;

/// A range of user addresses that a process named. Whether there is memory shows when it is copied.
#[derive(Clone, Copy, Debug)]
pub struct UserSlice {
    addr: u64,
    len: u64,
}

impl UserSlice {
    /// The range of `len` bytes at `addr`.
    ///
    /// # Errors
    /// `EFAULT` where it is not wholly in the user half. A range of no bytes is always good.
    pub fn new(addr: u64, len: u64) -> Result<UserSlice, Errno> {
        let end = addr.checked_add(len).ok_or(Errno::EFAULT)?;
        if len > 0 && (addr < USER_START || end > USER_END) {
            return Err(Errno::EFAULT);
        }
        Ok(UserSlice { addr, len })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes from `at` on, as many as `to` has, into the kernel.
    ///
    /// # Errors
    /// `EFAULT` where the range or the memory behind it ends before; `to` is partly filled then.
    pub fn copy_in(&self, at: usize, to: &mut [u8]) -> Result<(), Errno> {
        let from = self.checked(at, to.len())?;
        // SAFETY: `to` is the kernel's own; the source is a user range, at which `copy` recovers from every fault.
        match unsafe { copy(to.as_mut_ptr() as u64, from, to.len()) } {
            0 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    /// Copies `from` to the process, to `at` bytes from the start.
    ///
    /// # Errors
    /// `EFAULT` where the range or the writable memory behind it ends before; some of it may have been written then.
    pub fn copy_out(&self, at: usize, from: &[u8]) -> Result<(), Errno> {
        let to = self.checked(at, from.len())?;
        // SAFETY: the destination is a user range, at which `copy` recovers from every fault; the kernel's memory is only read.
        match unsafe { copy(to, from.as_ptr() as u64, from.len()) } {
            0 => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }

    fn checked(&self, at: usize, len: usize) -> Result<u64, Errno> {
        let end = (at as u64).checked_add(len as u64).ok_or(Errno::EFAULT)?;
        if end > self.len {
            return Err(Errno::EFAULT);
        }
        Ok(self.addr + at as u64)
    }
}

/// A value that a process may give as bytes: every pattern of bits is one.
///
/// # Safety
/// `repr(C)` without padding, and any bytes are a valid value.
pub unsafe trait Plain: Copy + Default {}

// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: an integer.
unsafe impl Plain for i32 {}
// SAFETY: two integers of 8 bytes.
unsafe impl Plain for kernel::ring3::abi::TimeSpec {}
// SAFETY: two integers of 8 bytes.
unsafe impl Plain for kernel::ring3::abi::Text {}

/// Reads a value of the process's.
///
/// # Errors
/// `EFAULT`.
pub fn read_user<T: Plain>(addr: u64) -> Result<T, Errno> {
    let mut value = T::default();
    // SAFETY: the value's own bytes, any of which make a valid value, says `Plain`.
    let bytes =
        unsafe { core::slice::from_raw_parts_mut((&raw mut value).cast::<u8>(), size_of::<T>()) };
    UserSlice::new(addr, size_of::<T>() as u64)?.copy_in(0, bytes)?;
    Ok(value)
}

/// Writes a value to the process.
///
/// # Errors
/// `EFAULT`.
pub fn write_user<T: Plain>(addr: u64, value: &T) -> Result<(), Errno> {
    // SAFETY: the value's own bytes, all of them initialised, since `Plain` has no padding.
    let bytes =
        unsafe { core::slice::from_raw_parts((&raw const *value).cast::<u8>(), size_of::<T>()) };
    UserSlice::new(addr, size_of::<T>() as u64)?.copy_out(0, bytes)
}

/// Whether the CPU has SMAP, and with it `stac` and `clac`, which are undefined elsewhere. All CPUs of a machine agree.
static SMAP: AtomicBool = AtomicBool::new(false);

/// SMAP is on: user memory is opened for each copy only.
pub fn set_smap() {
    SMAP.store(true, Relaxed);
}

/// Closes user memory to whatever this CPU does next: on entry by an interrupt, which may have come in the middle of a copy.
/// The interrupted code's own flag comes back with its RFLAGS.
#[inline]
pub fn close() {
    if SMAP.load(Relaxed) {
        // SAFETY: clears RFLAGS.AC, which SMAP alone uses in ring 0; the CPU has SMAP.
        unsafe { core::arch::asm!("clac", options(nomem, nostack)) };
    }
}

// rdi = to, rsi = from, rdx = bytes; rax = bytes that were not copied. The exception table has pairs of an address that may
// fault and the one to go on at.
core::arch::global_asm!(
    ".section .text.user_copy, \"ax\"",
    ".global user_copy",
    "user_copy:",
    "mov rcx, rdx",
    "2: rep movsb",
    "3: mov rax, rcx",
    "ret",
    ".section .ex_table, \"a\"",
    ".balign 8",
    ".quad 2b, 3b",
    ".text",
);

unsafe extern "C" {
    fn user_copy(to: u64, from: u64, len: usize) -> usize;
    static __ex_table_start: [u64; 2];
    static __ex_table_end: [u64; 2];
}

/// Copies between the kernel and a process; returns how many bytes it could not.
///
/// # Safety
/// The kernel's end is memory that the caller may use so; the other is in the user half.
unsafe fn copy(to: u64, from: u64, len: usize) -> usize {
    let smap = SMAP.load(Relaxed);
    // SAFETY: the caller's promise; the exception table has the one instruction that may fault. `stac` sets RFLAGS.AC only
    // where SMAP defines it.
    unsafe {
        if smap {
            core::arch::asm!("stac", options(nostack));
        }
        let left = user_copy(to, from, len);
        if smap {
            core::arch::asm!("clac", options(nostack));
        }
        left
    }
}

/// Where the kernel goes on after a fault at `rip`, if it may fault there.
pub fn recovery(rip: u64) -> Option<u64> {
    let (start, end) = (&raw const __ex_table_start, &raw const __ex_table_end);
    // SAFETY: kernel.ld puts the table's pairs, and nothing else, between the two symbols.
    let table = unsafe {
        core::slice::from_raw_parts(
            start,
            (end as usize - start as usize) / size_of::<[u64; 2]>(),
        )
    };
    table
        .iter()
        .find(|[fault, _]| *fault == rip)
        .map(|[_, recovery]| *recovery)
}
