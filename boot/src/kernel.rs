//! Builds the kernel for the bare machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The target the kernel is compiled for.
pub const TARGET: &str = "x86_64-unknown-none";

/// The arguments, after `cargo build`, that compile the kernel for [`TARGET`]; features follow.
///
/// The bare target has no prebuilt `core` in the toolchains used here, so it is compiled along.
const ARGUMENTS: &[&str] = &[
    "-p",
    "kernel",
    "--bin",
    "baton",
    "--release",
    "--target",
    TARGET,
    "-Zbuild-std=core,alloc,compiler_builtins",
    "-Zbuild-std-features=compiler-builtins-mem",
];

/// Kernels of the same sources that describe some of their state differently: what a handover from one version to
/// another is tried out with. Feature of the package `kernel`, and name in the initrd.
pub const VARIANTS: [(&str, &str); 2] = [("next", "kernel-next"), ("broken", "kernel-broken")];

/// Kernels as ELF files.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// The kernel that is started.
    pub kernel: PathBuf,
    /// Others for the initrd, by their names there.
    pub others: Vec<(&'static str, PathBuf)>,
}

impl Kernels {
    /// One kernel, and no other.
    pub fn only(kernel: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            others: Vec::new(),
        }
    }
}

/// Builds the kernel in `workspace`, and its [`VARIANTS`].
///
/// Cargo's messages go to the standard error stream. The build has a target folder of its own inside the
/// host's, so that neither waits for the other's lock. The variants share it: what they depend on is compiled once.
pub fn build(workspace: &Path) -> Result<Kernels> {
    let target_dir = target_dir(workspace).join("kernel");
    let mut others = Vec::new();
    for (feature, name) in VARIANTS {
        let built = build_one(workspace, &target_dir, &format!("machine,{feature}"))?;
        // Cargo gives all of them the same place.
        let kept = built.with_file_name(format!("baton-{feature}"));
        fs::copy(&built, &kept)
            .with_context(|| format!("{} could not be copied", built.display()))?;
        others.push((name, kept));
    }
    let kernel = build_one(workspace, &target_dir, "machine")?;
    Ok(Kernels { kernel, others })
}

/// Builds the kernel with these features, and returns the path of its ELF file, which the next build overwrites.
fn build_one(workspace: &Path, target_dir: &Path, features: &str) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .current_dir(workspace)
        .arg("build")
        .args(ARGUMENTS)
        .args(["--features", features])
        .arg("--target-dir")
        .arg(target_dir)
        // -Zbuild-std is an unstable flag, and Debian's compiler a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // What an outer `cargo run` or `cargo clippy` set for host crates must not reach the kernel.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(name);
    }
    if is_built(target_dir) {
        command.arg("--quiet");
    }
    let status = command
        .status()
        .with_context(|| format!("{} could not be started", cargo.to_string_lossy()))?;
    if !status.success() {
        bail!("the kernel does not build (see above)");
    }
    let elf = elf_path(target_dir);
    if !elf.is_file() {
        bail!("cargo built the kernel, but {} is not there", elf.display());
    }
    Ok(elf)
}

/// The host's target folder.
pub fn target_dir(workspace: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace.join(dir),
        None => workspace.join("target"),
    }
}

fn elf_path(target_dir: &Path) -> PathBuf {
    target_dir.join(TARGET).join("release").join("baton")
}

/// Was the kernel built before? Then the next build is short and needs no progress lines.
fn is_built(target_dir: &Path) -> bool {
    elf_path(target_dir).is_file()
}
