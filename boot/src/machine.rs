//! The machine: QEMU, as a typed command and a child process that never outlives its owner.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::image::{Firmware, Image};
use crate::protocol;

/// The number of the character that leads QEMU's own commands on a terminal: ctrl-].
///
/// QEMU's default, ctrl-a, belongs to the guest: it moves to the start of the line.
const TERMINAL_ESCAPE: &str = "0x1d";

/// Where the console's bytes come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The terminal that this process has as its standard input and output.
    Terminal,
    /// Pipes, held by [`Running`].
    Pipes,
}

/// A machine to start, and what it has.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Count instructions: one guest instruction takes one virtual nanosecond.
    pub icount: bool,
    /// Where QEMU's monitor listens, as a Unix socket.
    pub monitor: Option<PathBuf>,
    /// More arguments for QEMU, as they are.
    pub extra: Vec<OsString>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            cpus: 2,
            memory_mib: 256,
            icount: false,
            monitor: None,
            extra: Vec::new(),
        }
    }
}

impl Machine {
    /// Starts the machine with the image's disk.
    ///
    /// The thread that calls this must live as long as the machine: when it ends, the kernel ends QEMU
    /// too (on Linux), so that a killed runner leaves nothing behind.
    pub fn start(&self, image: &Image, console: Console) -> Result<Running> {
        let (mut command, firmware_files) = self.command(image, console)?;
        let line = command_line(&command);
        match console {
            Console::Terminal => command.stdin(Stdio::inherit()).stdout(Stdio::inherit()),
            Console::Pipes => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
        };
        if console == Console::Pipes {
            // A ctrl-c at the terminal is for the runner, which then ends QEMU in its own way.
            command.process_group(0);
        }
        end_with_parent(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("QEMU could not be started: {line}"))?;
        Ok(Running {
            child,
            command: line,
            _firmware_files: firmware_files,
        })
    }

    fn command(&self, image: &Image, console: Console) -> Result<(Command, Option<TempDir>)> {
        let mut command = Command::new(qemu());
        command.args(["-nodefaults", "-no-user-config", "-machine", "q35"]);
        // All that software emulation offers; 5-level paging stays off, whatever the firmware would do.
        command.args(["-accel", "tcg", "-cpu", "max,-la57"]);
        command.arg("-smp").arg(self.cpus.to_string());
        command.arg("-m").arg(format!("{}M", self.memory_mib));
        command.args(["-display", "none", "-vga", "std"]);
        if self.icount {
            command.args(["-icount", "shift=0"]);
        }
        command.arg("-device").arg(format!(
            "isa-debug-exit,iobase={:#x},iosize=0x04",
            protocol::EXIT_PORT
        ));
        let files = match image.firmware() {
            Firmware::Bios => None,
            Firmware::Uefi => Some(add_ovmf(&mut command)?),
        };
        command.arg("-drive").arg(format!(
            "format=raw,snapshot=on,file={}",
            escaped(&image.disk())?
        ));
        match console {
            Console::Terminal => {
                // `mon:` hands ctrl-c to the guest and keeps QEMU's monitor behind the escape character.
                command.args(["-serial", "mon:stdio", "-echr", TERMINAL_ESCAPE]);
            }
            Console::Pipes => {
                command.args([
                    "-chardev",
                    "stdio,id=console,signal=off",
                    "-serial",
                    "chardev:console",
                ]);
            }
        }
        if let Some(socket) = &self.monitor {
            command.arg("-monitor");
            command.arg(format!("unix:{},server=on,wait=off", escaped(socket)?));
        }
        command.args(&self.extra);
        Ok((command, files))
    }
}

/// QEMU's program.
fn qemu() -> OsString {
    env::var_os("BATON_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into())
}

/// A path as it stands in a QEMU option, where a comma separates and two are one.
pub fn escaped(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| anyhow!("the path {} is not UTF-8", path.display()))?;
    Ok(text.replace(',', ",,"))
}

/// The places of OVMF's code and of the variables that go with it, on Debian, Fedora, Arch and openSUSE.
const OVMF: &[(&str, &str)] = &[
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2-ovmf/x64/OVMF_CODE.fd",
        "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd",
    ),
    (
        "/usr/share/qemu/ovmf-x86_64-code.bin",
        "/usr/share/qemu/ovmf-x86_64-vars.bin",
    ),
];

/// Adds OVMF: the code as it is, the variables as a copy of this run's own.
fn add_ovmf(command: &mut Command) -> Result<TempDir> {
    let found = match (
        env::var_os("BATON_OVMF_CODE"),
        env::var_os("BATON_OVMF_VARS"),
    ) {
        (Some(code), Some(vars)) => Some((PathBuf::from(code), PathBuf::from(vars))),
        _ => OVMF
            .iter()
            .map(|(code, vars)| (PathBuf::from(code), PathBuf::from(vars)))
            .find(|(code, vars)| code.is_file() && vars.is_file()),
    };
    let Some((code, vars)) = found else {
        bail!(
            "no UEFI firmware (OVMF) was found; install it (Debian: apt-get install ovmf), or name its \
             files in BATON_OVMF_CODE and BATON_OVMF_VARS"
        );
    };
    let folder = TempDir::with_prefix("baton-ovmf-")?;
    let own_vars = folder.path().join("vars.fd");
    fs::copy(&vars, &own_vars).with_context(|| format!("{} cannot be copied", vars.display()))?;
    let pflash = |rest: &str, path: &Path| -> Result<String> {
        Ok(format!(
            "if=pflash,format=raw,{rest}file={}",
            escaped(path)?
        ))
    };
    command
        .arg("-drive")
        .arg(pflash("unit=0,readonly=on,", &code)?);
    command.arg("-drive").arg(pflash("unit=1,", &own_vars)?);
    Ok(folder)
}

/// Lets the kernel end the child when the thread that started it ends, however it does.
fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
        let parent = Pid::from_raw(std::process::id().cast_signed());
        let tie = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the signal was asked for.
            if getppid() != parent {
                return Err(std::io::Error::other("the runner has ended"));
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes two system calls and allocates only on the
        // failing path, in a process whose parent is gone.
        unsafe { command.pre_exec(tie) };
    }
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest switched the machine off, or a person left QEMU.
    PoweredOff,
    /// The guest panicked and said so at the debug exit port.
    Panicked,
    /// QEMU ended with another status; none when a signal ended it.
    Other(Option<i32>),
}

impl Ended {
    /// What QEMU's exit status says.
    pub fn from_status(status: ExitStatus) -> Self {
        const PANICKED: i32 = (protocol::EXIT_PANIC as i32) << 1 | 1;
        match status.code() {
            Some(0) => Self::PoweredOff,
            Some(PANICKED) => Self::Panicked,
            other => Self::Other(other),
        }
    }
}

/// A running machine. Dropping it ends QEMU.
pub struct Running {
    child: Child,
    command: String,
    _firmware_files: Option<TempDir>,
}

impl Running {
    /// QEMU's command, as a person would type it.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipe into the console, once; none with [`Console::Terminal`].
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The pipe out of the console, once; none with [`Console::Terminal`].
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// QEMU's own messages, where they were asked for.
    pub fn take_messages(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits until QEMU has ended.
    pub fn wait(&mut self) -> Result<Ended> {
        Ok(Ended::from_status(self.child.wait()?))
    }

    /// How QEMU ended, if it has.
    pub fn try_wait(&mut self) -> Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(Ended::from_status))
    }

    /// Ends QEMU now.
    pub fn kill(&mut self) {
        // Both fail only when it has ended and was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command as a shell would take it.
fn command_line(command: &Command) -> String {
    let quote = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let mut words = vec![quote(command.get_program())];
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_exit_status_tells_how_it_ended() {
        let ended = |raw: i32| Ended::from_status(ExitStatus::from_raw(raw));
        assert_eq!(ended(0), Ended::PoweredOff);
        assert_eq!(ended(3 << 8), Ended::Panicked);
        assert_eq!(ended(1 << 8), Ended::Other(Some(1)));
        assert_eq!(ended(9), Ended::Other(None));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("qemu");
        command.args(["-smp", "2", "a b", "it's", ""]);
        assert_eq!(command_line(&command), r"qemu -smp 2 'a b' 'it'\''s' ''");
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escaped(Path::new("/a,b")).unwrap(), "/a,,b");
    }
}
