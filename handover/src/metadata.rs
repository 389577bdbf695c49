//! `kexec-metadata`: which kernel came before, and how many kexecs there have been.
//!
//! Source: `include/linux/kho/abi/kexec_metadata.h` of Linux: `struct { u32 version; char previous_release[65]; u32
//! kexec_count; } __packed`, native-endian. It is the blob of the subsystem [`NAME`].

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::Error;

/// Name of the subsystem.
pub const NAME: &str = "kexec-metadata";
/// The version that this library writes and reads.
pub const VERSION: u32 = 1;
/// Length of an encoded metadata blob in bytes.
pub const SIZE: usize = 73;
/// Longest release name in bytes; one more byte is its NUL (`__NEW_UTS_LEN`).
pub const RELEASE_MAX: usize = 64;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C, packed)]
struct Raw {
    version: u32,
    previous_release: [u8; RELEASE_MAX + 1],
    kexec_count: u32,
}

const _: () = assert!(size_of::<Raw>() == SIZE);

/// Which kernel came before, and how many kexecs there have been since the cold start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KexecMetadata {
    /// Version of this structure.
    pub version: u32,
    /// Number of kexecs since the cold start; the generation of the receiving kernel.
    pub kexec_count: u32,
    release: [u8; RELEASE_MAX + 1],
}

impl KexecMetadata {
    /// Metadata as the kernel called `release` writes it for a successor that is the `kexec_count`th.
    ///
    /// # Errors
    ///
    /// [`Error::MetadataRelease`] where the name is longer than [`RELEASE_MAX`] bytes or holds a NUL.
    pub fn new(release: &str, kexec_count: u32) -> Result<Self, Error> {
        if release.len() > RELEASE_MAX || release.contains('\0') {
            return Err(Error::MetadataRelease);
        }
        let mut bytes = [0; RELEASE_MAX + 1];
        bytes[..release.len()].copy_from_slice(release.as_bytes());
        Ok(KexecMetadata {
            version: VERSION,
            kexec_count,
            release: bytes,
        })
    }

    /// Name of the kernel that was left.
    pub fn previous_release(&self) -> &str {
        let end = self.release.iter().position(|&b| b == 0).unwrap_or(0);
        // Both gates, `new` and `decode`, let only UTF-8 with a NUL behind it pass.
        core::str::from_utf8(&self.release[..end]).unwrap_or("")
    }

    /// The blob.
    pub fn encode(&self) -> [u8; SIZE] {
        let raw = Raw {
            version: self.version,
            previous_release: self.release,
            kexec_count: self.kexec_count,
        };
        zerocopy::transmute!(raw)
    }

    /// Reads a blob; bytes after the structure are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::MetadataSize`], [`Error::MetadataVersion`], [`Error::MetadataRelease`].
    pub fn decode(blob: &[u8]) -> Result<Self, Error> {
        let Ok((raw, _)) = Raw::read_from_prefix(blob) else {
            return Err(Error::MetadataSize { size: blob.len() });
        };
        if raw.version != VERSION {
            return Err(Error::MetadataVersion {
                version: raw.version,
            });
        }
        let release = raw.previous_release;
        let end = release.iter().position(|&b| b == 0);
        match end.map(|end| core::str::from_utf8(&release[..end])) {
            Some(Ok(name)) => KexecMetadata::new(name, raw.kexec_count),
            _ => Err(Error::MetadataRelease),
        }
    }
}

impl fmt::Debug for KexecMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KexecMetadata")
            .field("version", &self.version)
            .field("previous_release", &self.previous_release())
            .field("kexec_count", &self.kexec_count)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_unchanged() {
        let m = KexecMetadata::new("baton 0.1.0", 7).unwrap();
        let back = KexecMetadata::decode(&m.encode()).unwrap();
        assert_eq!(back, m);
        assert_eq!(back.previous_release(), "baton 0.1.0");
        assert_eq!(m.encode()[..4], 1u32.to_ne_bytes());
        assert_eq!(m.encode()[69..], 7u32.to_ne_bytes());
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let good = KexecMetadata::new(&"x".repeat(64), 1).unwrap().encode();
        assert_eq!(
            KexecMetadata::decode(&good[..72]),
            Err(Error::MetadataSize { size: 72 })
        );
        let mut newer = good;
        newer[0] = 2;
        assert_eq!(
            KexecMetadata::decode(&newer),
            Err(Error::MetadataVersion { version: 2 })
        );
        let mut endless = good;
        endless[68] = b'x';
        assert_eq!(KexecMetadata::decode(&endless), Err(Error::MetadataRelease));
        let mut no_text = good;
        no_text[5] = 0xff;
        assert_eq!(KexecMetadata::decode(&no_text), Err(Error::MetadataRelease));
        assert_eq!(
            KexecMetadata::new(&"x".repeat(65), 1),
            Err(Error::MetadataRelease)
        );
    }
}
