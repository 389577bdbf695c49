//! Ring 3 without the machine: what user programs and the kernel agree on, how a program's file is read, and an address
//! space as areas and page tables. The binary's `user` module puts it in force.
//!
//! An address space's way: [`program::Program::parse`] reads the ELF file, [`space::Space`] holds [`areas::Areas`] (what may
//! be where) over [`tables::UserTables`] (what is there already); a page fault turns the one into the other.

pub mod abi;
pub mod areas;
pub mod program;
pub mod space;
pub mod stack;
pub mod tables;
