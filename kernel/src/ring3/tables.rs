//! The user half of a set of page tables: 4 KiB pages, four levels (Intel SDM vol. 3, "4-Level Paging").
//!
//! The kernel half of the top table is a copy of the kernel's own: its top-level entries are all present from the kernel's
//! start and never change, so that every address space sees the same kernel. This type never touches them.
//!
//! Tables and the pages that are the process's own come from a [`Memory`], and go back to it when this value is dropped.
//! TLBs are the caller's: nothing here runs on these tables.

use super::abi::{PAGE_BYTES, USER_END};
use super::areas::Rights;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use handover::mem::Memory;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// One of the bits that are left to software: the page is the process's own, and is freed with it.
const OWNED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Entries of a table.
const ENTRIES: u64 = 512;

/// There was no page for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// What is mapped at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Physical address of the page.
    pub page: u64,
    /// Whether it is the process's own.
    pub owned: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A set of page tables whose user half this value owns.
pub struct UserTables<M: Memory> {
    memory: M,
    root: u64,
    /// Pages that the tables take, the top one among them.
    tables: u64,
    /// Pages of the process's own that are mapped.
    owned: u64,
}

impl<M: Memory> UserTables<M> {
    /// An empty user half under the top-level entries 256 to 511 of the kernel's.
    pub fn new(memory: M, kernel_half: &[u64; 256]) -> Result<Self, NoMemory> {
        let root = memory.alloc_zeroed_pages(0).ok_or(NoMemory)?;
        let tables = UserTables {
            memory,
            root,
            tables: 1,
            owned: 0,
        };
        let (_, kernel) = tables.table(root).split_at(kernel_half.len());
        for (entry, kernel_entry) in kernel.iter().zip(kernel_half) {
            entry.store(*kernel_entry, Release);
        }
        Ok(tables)
    }

    /// Physical address of the top table, for CR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Pages that the tables themselves take.
    pub fn table_pages(&self) -> u64 {
        self.tables
    }

    /// Pages of the process's own that are mapped.
    pub fn owned_pages(&self) -> u64 {
        self.owned
    }

    /// A table's entries, for reading and writing in one access each: the CPU reads them at any time.
    fn table(&self, table: u64) -> &[AtomicU64; ENTRIES as usize] {
        let place = self
            .memory
            .ptr(table, PAGE_BYTES as usize)
            .expect("a table is a page that this memory gave out");
        // SAFETY: the page is a table of ours, reachable as long as the memory is; page-aligned, and any bits are an entry.
        unsafe { place.cast().as_ref() }
    }

    fn get(&self, table: u64, index: u64) -> u64 {
        self.table(table)[(index % ENTRIES) as usize].load(Acquire)
    }

    fn set(&self, table: u64, index: u64, value: u64) {
        // Release: a table or page is seen filled by whoever sees it mapped.
        self.table(table)[(index % ENTRIES) as usize].store(value, Release);
    }

    /// The bottom table that covers `addr`, if there is one.
    fn bottom(&self, addr: u64) -> Option<u64> {
        let mut table = self.root;
        for shift in [39, 30, 21] {
            let entry = self.get(table, addr >> shift);
            if entry & PRESENT == 0 {
                return None;
            }
            table = entry & ADDRESS;
        }
        Some(table)
    }

    fn make_bottom(&mut self, addr: u64) -> Result<u64, NoMemory> {
        let mut table = self.root;
        for shift in [39, 30, 21] {
            let entry = self.get(table, addr >> shift);
            table = if entry & PRESENT != 0 {
                entry & ADDRESS
            } else {
                let new = self.memory.alloc_zeroed_pages(0).ok_or(NoMemory)?;
                self.tables += 1;
                self.set(table, addr >> shift, new | PRESENT | WRITABLE | USER);
                new
            };
        }
        Ok(table)
    }

    /// What is mapped at an address.
    pub fn lookup(&self, addr: u64) -> Option<Mapped> {
        if addr >= USER_END {
            return None;
        }
        let entry = self.get(self.bottom(addr)?, addr >> 12);
        (entry & PRESENT != 0).then_some(Mapped {
            page: entry & ADDRESS,
            owned: entry & OWNED != 0,
            writable: entry & WRITABLE != 0,
            executable: entry & NO_EXECUTE == 0,
        })
    }

    /// Maps a page at an address of the user half at which nothing is mapped. With `owned` the page becomes this value's.
    ///
    /// # Errors
    /// [`NoMemory`]; the page stays the caller's then.
    ///
    /// # Panics
    /// Where the address is not in the user half or something is mapped there: that is the caller's mistake, and going on
    /// would lose a page.
    pub fn map(
        &mut self,
        addr: u64,
        page: u64,
        rights: Rights,
        owned: bool,
    ) -> Result<(), NoMemory> {
        assert!(addr < USER_END && addr.is_multiple_of(PAGE_BYTES));
        let table = self.make_bottom(addr)?;
        let old = self.get(table, addr >> 12);
        assert!(old & PRESENT == 0, "{addr:#x} is mapped already");
        let mut entry = page | PRESENT | USER;
        if rights.write {
            entry |= WRITABLE;
        }
        if !rights.execute {
            entry |= NO_EXECUTE;
        }
        if owned {
            entry |= OWNED;
            self.owned += 1;
        }
        self.set(table, addr >> 12, entry);
        Ok(())
    }

    /// Unmaps the page at an address. Where it was `owned`, it is the caller's now, who frees it once no TLB has it.
    pub fn unmap(&mut self, addr: u64) -> Option<Mapped> {
        let mapped = self.lookup(addr)?;
        let table = self.bottom(addr)?;
        self.set(table, addr >> 12, 0);
        self.owned -= u64::from(mapped.owned);
        Some(mapped)
    }

    /// The first address at or behind `addr` whose bottom table exists: what lies before has nothing mapped. For walks over
    /// large areas of which little is there.
    pub fn skip_holes(&self, addr: u64) -> u64 {
        let mut addr = addr;
        'walk: while addr < USER_END {
            let mut table = self.root;
            for shift in [39, 30, 21] {
                let entry = self.get(table, addr >> shift);
                if entry & PRESENT == 0 {
                    addr = ((addr >> shift) + 1) << shift;
                    continue 'walk;
                }
                table = entry & ADDRESS;
            }
            return addr;
        }
        USER_END
    }

    fn free_below(&self, table: u64, level: u32) {
        let entries = if level == 4 { ENTRIES / 2 } else { ENTRIES };
        for entry in &self.table(table)[..entries as usize] {
            let entry = entry.load(Acquire);
            if entry & PRESENT == 0 {
                continue;
            }
            let page = entry & ADDRESS;
            if level > 1 {
                self.free_below(page, level - 1);
            } else if entry & OWNED == 0 {
                continue;
            }
            // SAFETY: a table of ours, or a page of the process's own; the whole set goes away, and no CPU runs on it, which
            // is what the owner of this value sees to.
            unsafe { self.memory.free_pages(page, 0) };
        }
    }
}

impl<M: Memory> Drop for UserTables<M> {
    /// No CPU has these tables in force any more: the owner has seen to that.
    fn drop(&mut self) {
        self.free_below(self.root, 4);
        // SAFETY: as for the tables below it.
        unsafe { self.memory.free_pages(self.root, 0) };
    }
}
