//! A running guest, driven over its console.

use std::collections::HashMap;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use boot::kernel::Built;
use boot::machine::{self, Console};
use boot::{Ended, Firmware, Image, Initrd, Machine, Running, kernel, protocol};
use memchr::memmem;
use tempfile::TempDir;

/// After this long without the thing that is waited for, a guest counts as hung.
///
/// Not a measure of anything: a slow host only has to set `BATON_TEST_GUARD` (seconds) higher.
pub fn guard() -> Duration {
    let seconds = env::var("BATON_TEST_GUARD")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(180))
}

/// CPUs of the host that guests run on now. A guest's own CPUs mostly wait for one another, so two of them count as one.
static BUSY: Mutex<usize> = Mutex::new(0);
static FEWER_BUSY: Condvar = Condvar::new();

/// A guest's share of the host's CPUs, until it is dropped.
struct Share(usize);

impl Share {
    /// Waits until there is room beside the guests that run: more of them would only wait for one another.
    fn take(guest_cpus: u32) -> Self {
        let all = thread::available_parallelism().map_or(1, usize::from);
        let wanted = (guest_cpus as usize).div_ceil(2).clamp(1, all);
        let busy = BUSY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = FEWER_BUSY
            .wait_while(busy, |busy| *busy + wanted > all)
            .unwrap_or_else(PoisonError::into_inner);
        *busy += wanted;
        Self(wanted)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        *BUSY.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FEWER_BUSY.notify_all();
    }
}

/// What to boot, and how.
#[derive(Clone, Debug)]
pub struct Setup {
    machine: Machine,
    firmware: Firmware,
    append: String,
    files: Vec<(String, Vec<u8>)>,
    variants: bool,
    memory_file: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// What `./run-qemu.sh` boots without options, but for the other kernels in the initrd: what a BIOS reads takes most of the time of a
    /// start.
    pub fn new() -> Self {
        Self {
            machine: Machine::default(),
            firmware: Firmware::Bios,
            append: String::new(),
            files: Vec::new(),
            variants: false,
            memory_file: false,
        }
    }

    /// With the other kernels in the initrd.
    pub fn variants(mut self) -> Self {
        self.variants = true;
        self
    }

    /// Boots through UEFI firmware.
    pub fn uefi(mut self) -> Self {
        self.firmware = Firmware::Uefi;
        self
    }

    /// Number of CPUs.
    pub fn smp(mut self, cpus: u32) -> Self {
        self.machine.cpus = cpus;
        self
    }

    /// Memory in MiB.
    pub fn mem(mut self, mib: u32) -> Self {
        self.machine.memory_mib = mib;
        self
    }

    /// Counts instructions: one takes one virtual nanosecond.
    pub fn icount(mut self) -> Self {
        self.machine.icount = true;
        self
    }

    /// The machine's memory is a file, which [`Guest::memory`] opens.
    pub fn memory_file(mut self) -> Self {
        self.memory_file = true;
        self
    }

    /// The kernel's command line.
    pub fn append(mut self, text: &str) -> Self {
        text.clone_into(&mut self.append);
        self
    }

    /// Puts a file into the initrd, as `/boot/NAME`.
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Starts the machine; the guest has printed nothing yet.
    ///
    /// The kernel is built once per test program, before the first start.
    pub fn start(&self) -> Guest {
        self.try_start()
            .unwrap_or_else(|error| panic!("the guest could not be started: {error:#}"))
    }

    /// Starts the machine and waits for its first prompt.
    pub fn boot(&self) -> Guest {
        let mut guest = self.start();
        guest.first_output = guest.expect_prompt();
        guest
    }

    fn try_start(&self) -> Result<Guest> {
        let built = built();
        let share = Share::take(self.machine.cpus);
        let mut files = built.clone();
        if !self.variants {
            files.others.clear();
        }
        let mut initrd = Initrd::new(&files, &self.append)?;
        for (name, content) in &self.files {
            initrd.add(name, content.clone())?;
        }
        let image = Image::create(&built.kernel, &initrd, self.firmware)?;
        let folder = TempDir::with_prefix("baton-test-")?;
        let mut machine = self.machine.clone();
        let monitor = folder.path().join("monitor");
        machine.monitor = Some(monitor.clone());
        let memory = folder.path().join("memory");
        if self.memory_file {
            let path = machine::escaped(&memory)?;
            machine.extra.extend([
                "-object".into(),
                format!(
                    "memory-backend-file,id=ram,size={}M,mem-path={path},share=on",
                    machine.memory_mib
                )
                .into(),
                "-machine".into(),
                "memory-backend=ram".into(),
            ]);
        }
        let mut running = machine.start(&image, Console::Pipes)?;

        let mut from_guest = running.take_output().expect("the console has pipes");
        let mut to_guest = running.take_input().expect("the console has pipes");
        let (output_in, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from_guest.read(&mut buffer) {
                if output_in.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        // Writing blocks while the guest's serial port is full; a hang guard must not wait for that.
        let (input, input_out) = channel::<Vec<u8>>();
        thread::spawn(move || {
            for bytes in input_out {
                if to_guest.write_all(&bytes).is_err() {
                    break;
                }
            }
        });
        Ok(Guest {
            running,
            input,
            output,
            transcript: Vec::new(),
            read_up_to: 0,
            ended: None,
            first_output: String::new(),
            started: Instant::now(),
            image,
            monitor,
            memory,
            _folder: folder,
            _share: share,
        })
    }
}

/// Kernels and programs, built at the first call; a single kernel where `BATON_TEST_KERNEL` names one.
///
/// # Panics
/// Where they do not build: at every call, but it is tried only once.
fn built() -> &'static Built {
    static BUILT: OnceLock<Result<Built, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match env::var_os("BATON_TEST_KERNEL") {
        Some(path) => Ok(Built::only(path)),
        None => kernel::build(&boot::workspace()).map_err(|error| format!("{error:#}")),
    });
    match built {
        Ok(built) => built,
        Err(why) => panic!("there is no kernel to test: {why}"),
    }
}

/// The kernel's ELF file. `BATON_TEST_KERNEL` names another one to test.
///
/// # Panics
/// Where the kernel does not build.
pub fn kernel_elf() -> PathBuf {
    built().kernel.clone()
}

/// A guest. Dropping it ends QEMU.
pub struct Guest {
    // In the order in which they go: QEMU first, its share of the host last.
    running: Running,
    input: Sender<Vec<u8>>,
    output: Receiver<Vec<u8>>,
    transcript: Vec<u8>,
    read_up_to: usize,
    ended: Option<Ended>,
    first_output: String,
    started: Instant,
    image: Image,
    monitor: PathBuf,
    memory: PathBuf,
    _folder: TempDir,
    _share: Share,
}

impl Guest {
    /// What the guest printed before its first prompt.
    pub fn first_output(&self) -> &str {
        &self.first_output
    }

    /// When QEMU was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The disk image that it booted from.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The machine's memory: below the hole under 4 GiB (on a machine of up to 2 GiB, all of it) the file's offsets are physical addresses.
    pub fn memory(&mut self) -> File {
        match OpenOptions::new().read(true).write(true).open(&self.memory) {
            Ok(file) => file,
            Err(error) => self.fail(&format!("the machine's memory is no file: {error}")),
        }
    }

    /// Types bytes, as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if self.input.send(bytes.as_ref().to_vec()).is_err() {
            self.fail("nothing can be typed any more");
        }
    }

    /// Waits for `text` after everything that was waited for before, and returns what stands in between,
    /// `text` included.
    pub fn expect(&mut self, text: &str) -> String {
        self.wait_until(&format!("{text:?}"), text, |_| true)
    }

    /// Waits for a prompt at the start of a line, and returns what stands before it.
    pub fn expect_prompt(&mut self) -> String {
        let text = self.wait_until("a prompt", protocol::PROMPT, |before| {
            matches!(before.last(), None | Some(b'\n'))
        });
        text.strip_suffix(protocol::PROMPT)
            .unwrap_or(&text)
            .to_owned()
    }

    /// Passes over all that a machine which is stopped has printed: what is waited for comes after it.
    pub fn pass_over(&mut self) {
        // QEMU has written it; it is on its way through a pipe and a thread.
        while self.read_more(Instant::now() + Duration::from_millis(200)) {}
        self.read_up_to = self.transcript.len();
    }

    /// Types a command and returns what it printed, without the typed line and with plain line ends.
    pub fn run(&mut self, command: &str) -> String {
        self.send(format!("{command}\r"));
        let text = self.expect_prompt().replace("\r\n", "\n");
        // The echo is the first line; a message of the kernel can have come before it.
        let echo_at = text.find(command).unwrap_or(0);
        match text[echo_at..].split_once('\n') {
            Some((_, output)) => output.to_owned(),
            None => String::new(),
        }
    }

    /// Runs a command that has to succeed (status 0), and returns what it printed.
    pub fn ok(&mut self, command: &str) -> String {
        let output = self.run(command);
        let status = self.status();
        if status != 0 {
            self.fail(&format!("`{command}` has status {status} and not 0"));
        }
        output
    }

    /// Runs a command that has to fail with a reason: some status but 0, and one line of text.
    pub fn refused(&mut self, command: &str) -> String {
        let output = self.run(command);
        if self.status() == 0 {
            self.fail(&format!("`{command}` has status 0, and should have failed"));
        }
        let text = output.trim();
        if text.is_empty() || text.lines().count() != 1 {
            self.fail(&format!("`{command}` should say in one line what is wrong"));
        }
        text.to_owned()
    }

    /// The last command's status.
    pub fn status(&mut self) -> i32 {
        let text = self.run("status");
        match text.trim().parse() {
            Ok(status) => status,
            Err(_) => self.fail(&format!("`status` printed {text:?}, which is no number")),
        }
    }

    /// Loads the default kernel and goes; returns what the new one printed up to its prompt.
    pub fn kexec(&mut self) -> String {
        self.ok("kexec -l");
        self.run("kexec -e")
    }

    /// The same, and checks the banner: generation `n`, reached by kexec.
    pub fn kexec_to(&mut self, n: u32) -> String {
        let output = self.kexec();
        if !output.contains(&format!("generation {n} (kexec)")) {
            self.fail(&format!("generation {n} (kexec) was to come up"));
        }
        output
    }

    /// Waits for QEMU's end, which has to be this one.
    pub fn expect_end(&mut self, expected: Ended) -> String {
        let deadline = Instant::now() + guard();
        while self.read_more(deadline) {}
        let text = self.fresh_text(self.transcript.len());
        match self.ended {
            Some(ended) if ended == expected => text,
            Some(ended) => self.fail(&format!(
                "the machine ended ({ended:?}), expected was {expected:?}"
            )),
            None => self.fail(&format!(
                "the machine runs on, expected was its end ({expected:?})"
            )),
        }
    }

    /// Switches the machine off by its own command.
    pub fn poweroff(mut self) {
        self.send("poweroff\r");
        self.expect_end(Ended::PoweredOff);
    }

    /// Loads a kernel of `/boot` and goes; generation `n` has to come up with the handover accepted. Returns what it printed up
    /// to its prompt.
    pub fn kexec_into(&mut self, file: &str, n: u32) -> String {
        self.ok(&format!("kexec -l /boot/{file}"));
        let output = self.run("kexec -e");
        if !output.contains(&format!("generation {n} (kexec)")) {
            self.fail(&format!("generation {n} (kexec) of {file} was to come up"));
        }
        output
    }

    /// Runs a command of QEMU's monitor and returns its output.
    pub fn monitor(&mut self, command: &str) -> String {
        match ask_monitor(&self.monitor, command) {
            Ok(text) => text,
            Err(error) => self.fail(&format!("the monitor did not answer: {error}")),
        }
    }

    /// Everything the guest has printed.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.transcript).into_owned()
    }

    /// Ends the test, with the transcript.
    pub fn fail(&mut self, why: &str) -> ! {
        // What is on its way may hold the reason.
        while self.read_more(Instant::now() + Duration::from_millis(200)) {}
        // A machine that hangs can still be asked where.
        let mut machine = String::new();
        if self.ended.is_none() {
            for command in ["info registers", "info lapic", "info pic"] {
                if let Ok(answer) = ask_monitor(&self.monitor, command) {
                    machine.push_str(&format!("---- {command}\n{answer}"));
                }
            }
        }
        let transcript = self.transcript();
        let ended = match self.ended {
            None => String::new(),
            Some(ended) => format!(" (the machine has ended: {ended:?})"),
        };
        panic!(
            "{why}{ended}\n---- {}\n{machine}---- the console so far:\n{transcript}\n---- end of the console",
            self.running.command()
        );
    }

    /// Waits for `text` where `fits` what stands before it, up to what was waited for last.
    fn wait_until(&mut self, what: &str, text: &str, fits: impl Fn(&[u8]) -> bool) -> String {
        let deadline = Instant::now() + guard();
        let text = text.as_bytes();
        // What was looked at is not looked at again, but for a beginning of the text at its end.
        let mut looked = 0;
        loop {
            let fresh = &self.transcript[self.read_up_to..];
            let found = memmem::find_iter(&fresh[looked..], text)
                .map(|at| looked + at)
                .find(|at| fits(&fresh[..*at]));
            if let Some(at) = found {
                return self.fresh_text(self.read_up_to + at + text.len());
            }
            looked = (fresh.len() + 1).saturating_sub(text.len()).max(looked);
            if !self.read_more(deadline) {
                let why = match self.ended {
                    None => format!("waited {} s for {what} in vain", guard().as_secs()),
                    Some(Ended::Panicked) => format!("the guest panicked before {what}"),
                    Some(_) => format!("the machine ended before {what}"),
                };
                self.fail(&why);
            }
        }
    }

    fn fresh_text(&mut self, up_to: usize) -> String {
        let text = String::from_utf8_lossy(&self.transcript[self.read_up_to..up_to]).into_owned();
        self.read_up_to = up_to;
        text
    }

    /// Takes more output in; false at the deadline and after QEMU's end.
    fn read_more(&mut self, deadline: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        match self
            .output
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(bytes) => {
                self.transcript.extend(bytes);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = Some(self.running.wait().unwrap_or(Ended::Other(None)));
                false
            }
        }
    }
}

/// One command on a connection of its own: QEMU's monitor prompts, echoes, answers, prompts.
fn ask_monitor(path: &Path, command: &str) -> std::io::Result<String> {
    const MONITOR_PROMPT: &str = "(qemu) ";
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(guard()))?;
    let read_to_prompt = |stream: &mut UnixStream| -> std::io::Result<String> {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(MONITOR_PROMPT.as_bytes()) {
            stream.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read_to_prompt(&mut stream)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let answer = read_to_prompt(&mut stream)?;
    let answer = answer.strip_suffix(MONITOR_PROMPT).unwrap_or(&answer);
    // The first line is the echo, drawn anew for each character.
    Ok(answer
        .split_once('\n')
        .map_or("", |(_, rest)| rest)
        .replace('\r', ""))
}

/// Counters of a `per_cpu/cpuN/stats` file, by name.
pub fn stats(text: &str) -> HashMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}
