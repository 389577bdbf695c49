//! The initrd: a plain ustar archive, byte for byte the same for the same files.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::kernel::Built;

const README: &str = "\
These files came with the kernel, as its initrd:

  kernel         the kernel's own image, which `kexec -l` loads
  kernel-next    a kernel that describes some of its state in a later version: `kexec -l /boot/kernel-next`
  kernel-broken  a kernel that changed a layout, and forgot to say so: its part of a handover is refused
  cmdline        the command line of the first start
  bin/           programs, which `run NAME` starts

The two other kernels are there where this kernel was built with them. They have no symbols, so their backtraces are numbers.
";

/// Longest name of a file in the initrd, in bytes: the name field of a ustar header.
const NAME_MAX: usize = 100;

/// The files of an initrd, in the order in which they were added.
pub struct Initrd {
    files: Vec<(String, Vec<u8>)>,
}

impl Initrd {
    /// The initrd every image has: `kernel`, and the others by their names, `cmdline`, `README`, and programs in `bin/`.
    pub fn new(built: &Built, cmdline: &str) -> Result<Self> {
        let mut initrd = Self { files: Vec::new() };
        let kernel = ("kernel", &built.kernel);
        let others = built.others.iter().map(|(name, path)| (*name, path));
        for (name, path) in [kernel].into_iter().chain(others) {
            let image = fs::read(path)
                .with_context(|| format!("the kernel {} cannot be read", path.display()))?;
            initrd.add(name, image)?;
        }
        initrd.add("cmdline", cmdline.as_bytes().to_vec())?;
        initrd.add("README", README.as_bytes().to_vec())?;
        for (name, path) in &built.programs {
            let content = fs::read(path)
                .with_context(|| format!("the program {} cannot be read", path.display()))?;
            initrd.add(&format!("bin/{name}"), content)?;
        }
        Ok(initrd)
    }

    /// Adds a file. Its name has no leading slash; folders in it need no entry of their own.
    pub fn add(&mut self, name: &str, content: Vec<u8>) -> Result<()> {
        let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
        if name.len() > NAME_MAX || name.split('/').any(bad_part) {
            bail!(
                "{name:?} cannot be a file's name in the initrd: a relative path of at most {NAME_MAX} bytes is needed"
            );
        }
        if self.files.iter().any(|(other, _)| other == name) {
            bail!("the initrd has a file {name} already");
        }
        self.files.push((name.to_owned(), content));
        Ok(())
    }

    /// The archive.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o444);
            header.set_mtime(0);
            archive
                .append_data(&mut header, name, content.as_slice())
                .with_context(|| format!("{name} does not fit into the initrd"))?;
        }
        Ok(archive.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Initrd {
        let mut initrd = Initrd { files: Vec::new() };
        initrd.add("kernel", vec![1, 2, 3]).unwrap();
        initrd.add("bad/text", b"hello".to_vec()).unwrap();
        initrd
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        assert_eq!(sample().to_bytes().unwrap(), sample().to_bytes().unwrap());
    }

    #[test]
    fn it_is_a_ustar_archive() {
        let bytes = sample().to_bytes().unwrap();
        assert_eq!(&bytes[257..262], b"ustar");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["kernel", "bad/text"]);
    }

    #[test]
    fn names_that_no_reader_could_find_are_refused() {
        let mut initrd = sample();
        for name in ["", "/kernel", "a//b", "../x", "./x", "kernel"] {
            assert!(initrd.add(name, Vec::new()).is_err(), "{name:?} was taken");
        }
        assert!(initrd.add(&"n".repeat(NAME_MAX + 1), Vec::new()).is_err());
    }
}
