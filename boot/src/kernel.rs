//! Builds the kernel and the user programs for the bare machine, in one run of cargo.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The target the kernel is compiled for.
pub const TARGET: &str = "x86_64-unknown-none";

/// The arguments, after `cargo build` or `cargo clippy`, that compile kernel and programs for [`TARGET`].
///
/// The bare target has no prebuilt `core` in the toolchains used here, so it is compiled along.
pub const ARGUMENTS: &[&str] = &[
    "-p",
    "kernel",
    "-p",
    "user",
    "--bins",
    "--features",
    "kernel/machine,user/ring3",
    "--release",
    "--target",
    TARGET,
    "-Zbuild-std=core,alloc,compiler_builtins",
    "-Zbuild-std-features=compiler-builtins-mem",
];

/// What a build made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The user programs: names and ELF files, by name.
    pub programs: Vec<(String, PathBuf)>,
}

/// Builds the kernel and the programs in `workspace`.
///
/// Cargo's messages go to the standard error stream. The build has a target folder of its own inside the
/// host's, so that neither waits for the other's lock.
pub fn build(workspace: &Path) -> Result<Built> {
    let target_dir = target_dir(workspace).join("kernel");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .current_dir(workspace)
        .arg("build")
        .args(ARGUMENTS)
        .arg("--target-dir")
        .arg(&target_dir)
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
    if is_built(&target_dir) {
        command.arg("--quiet");
    }
    let status = command
        .status()
        .with_context(|| format!("{} could not be started", cargo.to_string_lossy()))?;
    if !status.success() {
        bail!("the kernel does not build (see above)");
    }
    let built = Built {
        kernel: elf_path(&target_dir, "baton"),
        programs: program_names(workspace)?
            .into_iter()
            .map(|name| (name.clone(), elf_path(&target_dir, &name)))
            .collect(),
    };
    let programs = built.programs.iter().map(|(_, path)| path);
    for elf in programs.chain([&built.kernel]) {
        if !elf.is_file() {
            bail!("cargo built it all, but {} is not there", elf.display());
        }
    }
    Ok(built)
}

/// The names of the user programs: each is a file in `user/src/bin`.
fn program_names(workspace: &Path) -> Result<Vec<String>> {
    let folder = workspace.join("user/src/bin");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The host's target folder.
pub fn target_dir(workspace: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace.join(dir),
        None => workspace.join("target"),
    }
}

fn elf_path(target_dir: &Path, name: &str) -> PathBuf {
    target_dir.join(TARGET).join("release").join(name)
}

/// Was the kernel built before? Then the next build is short and needs no progress lines.
fn is_built(target_dir: &Path) -> bool {
    elf_path(target_dir, "baton").is_file()
}
