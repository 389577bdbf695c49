//! Disk images, made by the `bootloader` crate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bootloader::{BootConfig, DiskImageBuilder};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::initrd::Initrd;

/// The firmware a disk image is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// A PC's BIOS (QEMU's SeaBIOS).
    Bios,
    /// UEFI (OVMF).
    Uefi,
}

/// A bootable disk image in a folder of its own, which goes when this value does.
pub struct Image {
    folder: TempDir,
    firmware: Firmware,
    initrd_bytes: u64,
    kernel_bytes: u64,
}

impl Image {
    /// Puts `kernel` and `initrd` on a new disk image.
    pub fn create(kernel: &Path, initrd: &Initrd, firmware: Firmware) -> Result<Self> {
        let folder =
            TempDir::with_prefix("baton-").context("no folder for the disk image could be made")?;
        let ramdisk = folder.path().join("initrd");
        let bytes = initrd.to_bytes()?;
        fs::write(&ramdisk, &bytes)
            .with_context(|| format!("{} cannot be written", ramdisk.display()))?;

        // The console is the kernel's: the bootloader says nothing, neither on the serial port nor on
        // the screen.
        let mut config = BootConfig::default();
        config.serial_logging = false;
        config.frame_buffer_logging = false;

        let mut builder = DiskImageBuilder::new(kernel.to_path_buf());
        builder.set_ramdisk(ramdisk).set_boot_config(&config);
        let disk = folder.path().join("disk.img");
        match firmware {
            Firmware::Bios => builder.create_bios_image(&disk),
            Firmware::Uefi => builder.create_uefi_image(&disk),
        }
        .with_context(|| format!("the disk image {} could not be made", disk.display()))?;
        let kernel_bytes = fs::metadata(kernel)?.len();
        Ok(Self {
            folder,
            firmware,
            initrd_bytes: bytes.len() as u64,
            kernel_bytes,
        })
    }

    /// The disk, a raw image.
    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    /// The firmware that can start it.
    pub fn firmware(&self) -> Firmware {
        self.firmware
    }

    /// Size of the initrd in bytes.
    pub fn initrd_bytes(&self) -> u64 {
        self.initrd_bytes
    }

    /// Size of the kernel's ELF file in bytes.
    pub fn kernel_bytes(&self) -> u64 {
        self.kernel_bytes
    }
}
