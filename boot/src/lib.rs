//! Builds the kernel, puts it on a disk image, and runs it under QEMU.
//!
//! The way of a run: [`kernel::build`] -> [`initrd::Initrd`] -> [`image::Image`] -> [`machine::Machine`]
//! -> [`machine::Running`], whose console a person ([`console::attach_terminal`]), a script
//! ([`console::feed_script`]) or a test drives.

pub mod console;
pub mod image;
pub mod initrd;
pub mod kernel;
pub mod machine;
#[path = "../../kernel/src/protocol.rs"]
pub mod protocol;

pub use image::{Firmware, Image};
pub use initrd::Initrd;
pub use machine::{Ended, Machine, Running};

use std::path::PathBuf;

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}
