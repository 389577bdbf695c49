//! Disk images, made by the `bootloader` crate.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
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

/// The largest initrd that bootloader 0.11.15 was seen to load through a BIOS is 29.5 MB; with 30.1 MB it hangs without a word.
const BIOS_INITRD_MOST: usize = 28 << 20;

/// The boot loader hangs on a file that is no kernel.
fn check_kernel(kernel: &Path) -> Result<()> {
    let mut head = Vec::new();
    fs::File::open(kernel)
        .and_then(|file| file.take(20).read_to_end(&mut head))
        .with_context(|| format!("{} cannot be read", kernel.display()))?;
    // ELF's magic, 64 bits, little-endian; e_machine 62 is x86-64.
    if !head.starts_with(b"\x7fELF\x02\x01") || head.get(18..20) != Some(&[62, 0]) {
        bail!("{} is no ELF file for x86-64", kernel.display());
    }
    Ok(())
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
        check_kernel(kernel)?;
        let bytes = initrd.to_bytes()?;
        if firmware == Firmware::Bios && bytes.len() > BIOS_INITRD_MOST {
            bail!(
                "an initrd of {} KiB is more than the boot loader loads through a BIOS ({} KiB); --uefi loads it",
                bytes.len().div_ceil(1024),
                BIOS_INITRD_MOST / 1024
            );
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Built;

    #[test]
    fn what_the_boot_loader_would_hang_on_is_refused() {
        let folder = TempDir::new().unwrap();
        let kernel = folder.path().join("kernel");
        let refused = |initrd: &Initrd| {
            let error = Image::create(&kernel, initrd, Firmware::Bios).err();
            error.expect("it is refused").to_string()
        };

        fs::write(&kernel, "root:x:0:0\n").unwrap();
        let mut initrd = Initrd::new(&Built::only(&kernel), "").unwrap();
        assert!(refused(&initrd).contains("no ELF file for x86-64"));
        // An ELF file for 64-bit ARM.
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0".to_vec();
        fs::write(&kernel, &elf).unwrap();
        assert!(refused(&initrd).contains("no ELF file for x86-64"));

        elf[18] = 62;
        fs::write(&kernel, &elf).unwrap();
        initrd.add("big", vec![0; BIOS_INITRD_MOST]).unwrap();
        assert!(refused(&initrd).contains("--uefi loads it"));
    }
}
