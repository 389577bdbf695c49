//! What ACPI says: CPUs, I/O APICs, the serial port's interrupt, and how to turn the power off.

use super::{Found, FoundCpu, apic, clock};
use crate::memory;
use acpi::sdt::fadt::Fadt;
use acpi::sdt::madt::{Madt, MadtEntry, Polarity, TriggerMode, parse_mps_inti_flags};
use acpi::{AcpiTables, Handler, PciAddress, PhysicalMapping};
use alloc::vec;
use core::ptr::NonNull;
use x86_64::instructions::port::Port;

/// The ISA interrupt of COM1.
const COM1_IRQ: u8 = 4;

/// Reads the MADT. Where firmware has no tables, the values are those of every PC.
pub fn discover(rsdp: u64) -> Found {
    let mut found = Found {
        tsc_hz: 0,
        apic_timer_hz: 0,
        cpus: 1,
        io_apic: 0xfec0_0000,
        io_apic_base: 0,
        uart_gsi: COM1_IRQ as u32,
        uart_level: false,
        uart_low: false,
        cold_start_tsc: 0,
        each: vec![FoundCpu {
            apic_id: apic::id(),
            tsc_offset: None,
        }],
    };
    let Some(tables) = tables(rsdp) else {
        return found;
    };
    let Some(madt) = tables.find_table::<Madt>() else {
        crate::warning!(
            "acpi: no MADT; assuming one CPU and an I/O APIC at {:#x}",
            found.io_apic
        );
        return found;
    };
    // An id may stand in entries of both kinds; the CPU that runs is number 0, wherever it stands.
    let mut add = |apic_id: u32, flags: u32| {
        if flags & 1 != 0 && !found.each.iter().any(|cpu| cpu.apic_id == apic_id) {
            found.each.push(FoundCpu {
                apic_id,
                tsc_offset: None,
            });
        }
    };
    let mut io_apics = arrayvec::ArrayVec::<(u64, u32), 16>::new();
    for entry in madt.get().entries() {
        match entry {
            // Bit 0: enabled (ACPI 6.5, table 5.21).
            MadtEntry::LocalApic(cpu) => add(u32::from(cpu.apic_id), cpu.flags),
            MadtEntry::LocalX2Apic(cpu) => add(cpu.x2apic_id, cpu.flags),
            MadtEntry::IoApic(io) => {
                let _ =
                    io_apics.try_push((io.io_apic_address as u64, io.global_system_interrupt_base));
            }
            MadtEntry::InterruptSourceOverride(entry) if entry.irq == COM1_IRQ => {
                found.uart_gsi = entry.global_system_interrupt;
                if let Ok((polarity, mode)) = parse_mps_inti_flags(entry.flags) {
                    found.uart_low = polarity == Polarity::ActiveLow;
                    found.uart_level = mode == TriggerMode::Level;
                }
            }
            _ => {}
        }
    }
    found.cpus = found.each.len() as u32;
    if let Some((address, base)) = io_apics
        .iter()
        .filter(|(_, base)| *base <= found.uart_gsi)
        .max_by_key(|(_, base)| *base)
    {
        (found.io_apic, found.io_apic_base) = (*address, *base);
    }
    found
}

fn tables(rsdp: u64) -> Option<AcpiTables<Access>> {
    if rsdp == 0 {
        crate::warning!("acpi: the boot loader found no RSDP");
        return None;
    }
    // SAFETY: the address comes from firmware by way of the boot loader, and the crate checks the signature there.
    match unsafe { AcpiTables::from_rsdp(Access, rsdp as usize) } {
        Ok(tables) => Some(tables),
        Err(error) => {
            crate::warning!("acpi: the tables cannot be read: {error:?}");
            None
        }
    }
}

/// How this machine is turned off: PM1a and PM1b control ports and the sleep types of S5.
#[derive(Clone, Copy, Debug)]
pub struct PowerOff {
    pub pm1a: u16,
    pub pm1b: Option<u16>,
    pub types: (u8, u8),
}

/// Finds out how to turn the machine off. `Err` says why it cannot be done.
pub fn power_off(rsdp: u64) -> Result<PowerOff, &'static str> {
    let tables = tables(rsdp).ok_or("firmware has no ACPI tables")?;
    let fadt = tables.find_table::<Fadt>().ok_or("firmware has no FADT")?;
    let dsdt = tables.dsdt().map_err(|_| "firmware has no DSDT")?;
    let port = |address: u32| u16::try_from(address).ok().filter(|p| *p != 0);
    // SAFETY: the table's address and length come from firmware; the bytes are only looked at.
    let aml = unsafe { Access.map_physical_region::<u8>(dsdt.phys_address, dsdt.length as usize) };
    // SAFETY: as above; the window stays mapped.
    let bytes =
        unsafe { core::slice::from_raw_parts(aml.virtual_start.as_ptr(), dsdt.length as usize) };
    Ok(PowerOff {
        pm1a: port(fadt.pm1a_control_block).ok_or("the FADT names no PM1a control port")?,
        pm1b: port(fadt.pm1b_control_block),
        types: s5_types(bytes).ok_or("the DSDT has no _S5_ package")?,
    })
}

/// The first two numbers of `Name (_S5, Package { a, b, ... })`. The package is constant data by specification (ACPI 6.5,
/// 7.4.2), so that it is found in the bytes of the AML (20.2) and needs no interpreter.
fn s5_types(aml: &[u8]) -> Option<(u8, u8)> {
    const NAME_OP: u8 = 0x08;
    const PACKAGE_OP: u8 = 0x12;
    let at = aml.windows(4).enumerate().find_map(|(at, w)| {
        let named =
            at >= 1 && aml[at - 1] == NAME_OP || at >= 2 && aml[at - 2..at] == [NAME_OP, b'\\'];
        (w == b"_S5_" && named && aml.get(at + 4) == Some(&PACKAGE_OP)).then_some(at + 5)
    })?;
    // PkgLength: the two top bits say how many bytes follow its first.
    let elements = at + 1 + (aml.get(at)? >> 6) as usize + 1;
    let (a, next) = small_integer(aml, elements)?;
    let (b, _) = small_integer(aml, next)?;
    Some((a, b))
}

/// An integer constant of AML that fits a byte: ZeroOp, OneOp, or BytePrefix and a byte.
fn small_integer(aml: &[u8], at: usize) -> Option<(u8, usize)> {
    match *aml.get(at)? {
        value @ (0 | 1) => Some((value, at + 1)),
        0x0a => Some((*aml.get(at + 1)?, at + 2)),
        _ => None,
    }
}

/// The accesses of one width that the crate's trait wants: memory, ports, PCI configuration space.
macro_rules! access {
    ($read:ident $write:ident $read_io:ident $write_io:ident $read_pci:ident $write_pci:ident $int:ty) => {
        fn $read(&self, address: usize) -> $int {
            // SAFETY: a register that ACPI names, mapped for this access.
            unsafe { (memory::map_device(address as u64, 8) as *const $int).read_volatile() }
        }
        fn $write(&self, address: usize, value: $int) {
            // SAFETY: as above.
            unsafe { (memory::map_device(address as u64, 8) as *mut $int).write_volatile(value) }
        }
        fn $read_io(&self, port: u16) -> $int {
            // SAFETY: a port that ACPI names.
            unsafe { Port::new(port).read() }
        }
        fn $write_io(&self, port: u16, value: $int) {
            // SAFETY: as above.
            unsafe { Port::new(port).write(value) }
        }
        fn $read_pci(&self, address: PciAddress, offset: u16) -> $int {
            // SAFETY: the configuration space of a device that ACPI names.
            unsafe { Port::new(select_pci(address, offset)).read() }
        }
        fn $write_pci(&self, address: PciAddress, offset: u16, value: $int) {
            // SAFETY: as above.
            unsafe { Port::new(select_pci(address, offset)).write(value) }
        }
    };
}

/// The crate's door to the machine.
#[derive(Clone, Copy)]
struct Access;

impl Handler for Access {
    unsafe fn map_physical_region<T>(
        &self,
        physical_address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let virt = memory::map_firmware(physical_address as u64, size as u64);
        PhysicalMapping {
            physical_start: physical_address,
            virtual_start: NonNull::new(virt as *mut T).expect("the window is not at 0"),
            region_length: size,
            mapped_length: size,
            handler: *self,
        }
    }

    // Tables are mapped once and stay: a few pages.
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}

    access! { read_u8 write_u8 read_io_u8 write_io_u8 read_pci_u8 write_pci_u8 u8 }
    access! { read_u16 write_u16 read_io_u16 write_io_u16 read_pci_u16 write_pci_u16 u16 }
    access! { read_u32 write_u32 read_io_u32 write_io_u32 read_pci_u32 write_pci_u32 u32 }

    fn read_u64(&self, address: usize) -> u64 {
        // SAFETY: see `access!`.
        unsafe { (memory::map_device(address as u64, 8) as *const u64).read_volatile() }
    }

    fn write_u64(&self, address: usize, value: u64) {
        // SAFETY: see `access!`.
        unsafe { (memory::map_device(address as u64, 8) as *mut u64).write_volatile(value) }
    }

    fn nanos_since_boot(&self) -> u64 {
        clock::nanos()
    }

    fn stall(&self, microseconds: u64) {
        let end = clock::nanos() + microseconds * 1000;
        while clock::nanos() < end {
            core::hint::spin_loop();
        }
    }

    fn sleep(&self, milliseconds: u64) {
        self.stall(milliseconds * 1000);
    }
}

/// Selects a register for the PCI configuration ports (PCI Local Bus Specification 3.0, 3.2.2.3.2); where its data is.
fn select_pci(address: PciAddress, offset: u16) -> u16 {
    let register = 1 << 31
        | (address.bus() as u32) << 16
        | (address.device() as u32) << 11
        | (address.function() as u32) << 8
        | offset as u32 & 0xfc;
    // SAFETY: selecting a register changes nothing; this kernel has no other user of these ports.
    unsafe { Port::<u32>::new(0xcf8).write(register) };
    0xcfc + (offset & 3)
}
