//! Builds the kernel, its variants and the user programs for the bare machine.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The target the kernel is compiled for.
pub const TARGET: &str = "x86_64-unknown-none";

/// The kernel's file.
const BATON: &str = "baton";
/// What cargo builds for it, and for the user programs.
const KERNEL: &[&str] = &["-p", "kernel", "--bin", BATON];
const USER: &[&str] = &["-p", "user", "--bins"];

/// The arguments, after `cargo build`, that compile for [`TARGET`]; packages and features follow.
///
/// The bare target has no prebuilt `core` in the toolchains used here, so it is compiled along.
const ARGUMENTS: &[&str] = &[
    "--release",
    "--target",
    TARGET,
    "-Zbuild-std=core,alloc,compiler_builtins",
    "-Zbuild-std-features=compiler-builtins-mem",
];

/// Kernels of the same sources that describe some of their state differently: what a handover from one version to
/// another is tried out with. Feature of the package `kernel`, and name in the initrd.
pub const VARIANTS: [(&str, &str); 2] = [("next", "kernel-next"), ("broken", "kernel-broken")];

/// What a build made: ELF files.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel that is started.
    pub kernel: PathBuf,
    /// Other kernels for the initrd, by their names there.
    pub others: Vec<(&'static str, PathBuf)>,
    /// The user programs, by name.
    pub programs: Vec<(String, PathBuf)>,
}

impl Built {
    /// One kernel, and nothing else.
    pub fn only(kernel: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.into(),
            others: Vec::new(),
            programs: Vec::new(),
        }
    }
}

/// Builds the kernel in `workspace`, its [`VARIANTS`], and the user programs.
///
/// Cargo's messages go to the standard error stream. The build has a target folder of its own inside the
/// host's, so that neither waits for the other's lock. All share it: what they depend on is compiled once.
pub fn build(workspace: &Path) -> Result<Built> {
    let target_dir = target_dir(workspace).join("kernel");
    fs::create_dir_all(&target_dir)
        .with_context(|| format!("{} cannot be made", target_dir.display()))?;
    // Cargo gives all kernels the same place, so that who builds at the same time would take one for another.
    let lock = target_dir.join("build.lock");
    let lock = fs::File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("{} cannot be locked", lock.display()))?;
    let mut others = Vec::new();
    for (feature, name) in VARIANTS {
        let features = format!("machine,{feature}");
        run_cargo(workspace, &target_dir, KERNEL, &features)?;
        others.push((name, keep(&target_dir, BATON, feature)?));
    }
    let all = [KERNEL, USER].concat();
    run_cargo(workspace, &target_dir, &all, "kernel/machine,user/ring3")?;
    let programs = program_names(workspace)?.into_iter();
    let built = Built {
        kernel: keep(&target_dir, BATON, "plain")?,
        others,
        programs: programs
            .map(|name| Ok((name.clone(), keep(&target_dir, &name, "plain")?)))
            .collect::<Result<_>>()?,
    };
    drop(lock);
    Ok(built)
}

/// Puts a file that was built where no other build overwrites it, and where at any time all of it is there.
fn keep(target_dir: &Path, name: &str, build: &str) -> Result<PathBuf> {
    let built = elf(target_dir, name)?;
    let folder = target_dir.join("built").join(build);
    let (new, kept) = (folder.join(format!("{name}.new")), folder.join(name));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(&built, &new))
        .and_then(|_| fs::rename(&new, &kept))
        .with_context(|| format!("{} could not be copied", built.display()))?;
    Ok(kept)
}

/// Has cargo build these with these features.
fn run_cargo(workspace: &Path, target_dir: &Path, what: &[&str], features: &str) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .current_dir(workspace)
        .arg("build")
        .args(what)
        .args(["--features", features])
        .args(ARGUMENTS)
        .arg("--target-dir")
        .arg(target_dir)
        // -Zbuild-std is an unstable flag, and Debian's compiler a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    // What an outer `cargo run` or `cargo clippy` set for host crates must not reach the kernel.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(name);
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("{} could not be started", cargo.to_string_lossy()))?;
    if let Some(messages) = child.stderr.take() {
        show_messages(BufReader::new(messages), &mut io::stderr())
            .context("cargo's messages could not be passed on")?;
    }
    let status = child.wait().context("cargo could not be waited for")?;
    if !status.success() {
        bail!("the kernel does not build (see above)");
    }
    Ok(())
}

/// Passes on what cargo says, but for the line with which it ends well: so a build in which nothing is to be done says nothing, and one that takes
/// its time says what it is at.
fn show_messages(from: impl BufRead, to: &mut impl Write) -> io::Result<()> {
    for line in from.split(b'\n') {
        let mut line = line?;
        let has = |text: &[u8]| line.windows(text.len()).any(|part| part == text);
        if !(has(b"Finished") && has(b"` profile [")) {
            line.push(b'\n');
            to.write_all(&line)?;
        }
    }
    Ok(())
}

/// An ELF file that was built; the next build with other features overwrites it.
fn elf(target_dir: &Path, name: &str) -> Result<PathBuf> {
    let elf = elf_path(target_dir, name);
    if !elf.is_file() {
        bail!("cargo built it all, but {} is not there", elf.display());
    }
    Ok(elf)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_says_what_it_is_at_and_nothing_if_there_is_nothing_to_do() {
        let mut shown = Vec::new();
        let said = "   Compiling kernel v0.1.0 (/baton/kernel)\n3 |     Finished,\n    Finished `release` profile [optimized] target(s) in 9.87s\n";
        show_messages(said.as_bytes(), &mut shown).unwrap();
        let colored =
            "\x1b[1m\x1b[92m    Finished\x1b[0m `release` profile [optimized] target(s) in 0.05s\n";
        show_messages(colored.as_bytes(), &mut shown).unwrap();
        let expected = "   Compiling kernel v0.1.0 (/baton/kernel)\n3 |     Finished,\n";
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }
}
