//! The console task: bytes from the serial port to the session, and what of the console crosses a kexec.

use crate::handing::{self, Outcome, generation, outcome};
use crate::machine::uart;
use crate::memory::IrqMutex;
use crate::task::{self, Interrupted, Mutex, Options, WaitQueue};
use crate::{boot, commands, events, files};
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use handover::error::Error;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem};
use kernel::console::history::History;
use kernel::console::session::Session;
use kernel::console::shell::{Env, Shell};
use kernel::sched::prio;

/// What crosses: the lines typed so far, and bytes that came and were not read yet.
#[derive(Clone, Debug, Default, KState)]
#[kstate(id = 0x12, version = 1)]
struct Crossing {
    history: Vec<String>,
    input: Vec<u8>,
}

/// The session's history, for whoever asks what would cross: the session itself is its task's alone.
static HISTORY: IrqMutex<History> = IrqMutex::new(History::new());

/// Bytes that the serial port had when the console was frozen.
static INPUT_LEFT: IrqMutex<Vec<u8>> = IrqMutex::new(Vec::new());

fn crossing() -> Crossing {
    Crossing {
        history: HISTORY.lock().export(),
        input: INPUT_LEFT.lock().clone(),
    }
}

/// The name under which it crosses.
const SUBSYSTEM: &str = "console";

/// The console's part of a handover.
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[Crossing::DESC]
    }

    /// The serial port's line is the machine's to know.
    fn after(&self) -> &'static [&'static str] {
        &[crate::machine::SUBSYSTEM]
    }

    /// From here on bytes wait in the device.
    fn freeze(&self) -> Result<(), String> {
        *INPUT_LEFT.lock() = uart::quiet(crate::machine::found());
        Ok(())
    }

    fn thaw(&self) {
        uart::start_interrupts(crate::machine::found());
    }

    fn size(&self) -> usize {
        encoded_size(&crossing())
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &crossing())
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let crossing: Crossing = from.get(0)?;
        Ok(Prepared::new(move |_| {
            uart::put_back(&crossing.input);
            HISTORY.lock().import(crossing.history);
        }))
    }
}

/// Makes the serial port speak, as the first thing of a life that a person can see.
pub fn early_init() {
    uart::early_init(boot::info().origin == boot::Origin::Cold);
}

struct Machine;

impl Env for Machine {
    fn print(&self, bytes: &[u8]) {
        print(bytes);
    }

    fn interrupted(&self) -> bool {
        uart::INTERRUPTED.load(Relaxed)
    }

    fn on_typed(&self, line: &str) {
        HISTORY.lock().push(line);
    }

    fn on_command(&self, line: &str) {
        #[cfg(feature = "next")]
        events::console_command(line.len() as u32, line);
        #[cfg(not(feature = "next"))]
        events::console_command(line);
    }
}

static MACHINE: Machine = Machine;

/// Held while a task prints.
static PRINTING: Mutex<()> = Mutex::new(());

/// Prints for a task, which may sleep: all of it in one piece, with nothing of other tasks' in between. (What the kernel itself reports
/// does not wait.)
pub fn print(bytes: &[u8]) {
    // Who is frozen may hold the lock.
    let _whole = (!task::is_frozen()).then(|| PRINTING.lock());
    uart::write(bytes);
}

/// The line that each life prints before its first prompt.
fn banner() {
    let how = match outcome() {
        Outcome::Cold => "cold".into(),
        Outcome::Restored(release) => alloc::format!("kexec) from {release} (handover restored"),
        Outcome::NotHandedOver(by) => {
            alloc::format!("cold) after a kexec without a handover ({by}")
        }
        Outcome::Refused(_) => "cold) after a refused handover (see above".into(),
    };
    let line = alloc::format!(
        "baton {} generation {} ({how})\n",
        crate::VERSION,
        generation()
    );
    uart::write(line.as_bytes());
    crate::info!("{}", line.trim_end());
}

/// Bytes of its stack: commands may go deep.
const STACK: u64 = 160 * 1024;

/// Waits for input.
static INPUT: WaitQueue = WaitQueue::new();

/// Makes the console task.
pub fn start() {
    let options = Options {
        prio: prio::CONSOLE,
        stack: STACK,
        essential: true,
        pid: Some(task::CONSOLE_PID),
        ..Options::default()
    };
    if let Err(why) = task::spawn_with("console", options, || run()) {
        panic!("the console task cannot be made: {why}");
    }
}

/// Whether this is the console task.
pub fn is_console(pid: i32) -> bool {
    pid == task::CONSOLE_PID
}

/// Whether ctrl-c was typed for what runs on the console.
pub fn interrupted() -> bool {
    uart::INTERRUPTED.load(Relaxed)
}

/// Input has come: called by the serial port's interrupt, outside of its lock.
pub fn input_came() {
    INPUT.wake_all();
    if interrupted()
        && let Some(task) = task::find(task::CONSOLE_PID)
    {
        task::interrupt(&task);
    }
}

/// Sleeps until there is input, or `also` holds, which [`wake_readers`] makes known.
///
/// # Errors
/// [`Interrupted`]: ctrl-c, or the task is to end.
pub fn wait_for_input(mut also: impl FnMut() -> bool) -> Result<(), Interrupted> {
    INPUT
        .wait_interruptible(None, || uart::has_input() || also())
        .map(drop)
}

/// Those who wait for input look at what else they wait for.
pub fn wake_readers() {
    INPUT.wake_all();
}

/// Sleeps until `condition` holds, which is about input, or the tick `until` has come; whether it holds.
///
/// # Errors
/// [`Interrupted`]: ctrl-c, or the task is to end.
pub fn wait_for_input_until(
    until: u64,
    condition: impl FnMut() -> bool,
) -> Result<bool, Interrupted> {
    INPUT.wait_interruptible(Some(until), condition)
}

/// Serves the console, for good.
fn run() -> ! {
    let mut session = Session::new(
        Shell::new(files::mounts(), commands::SETS, &MACHINE),
        &MACHINE,
    );
    session.shell.history.import(HISTORY.lock().export());
    banner();
    if matches!(outcome(), Outcome::Restored(_)) {
        events::kexec_phase(generation(), "go_on");
    }
    session.start();
    loop {
        match uart::take_byte() {
            Some(byte) => {
                // Ctrl-c ends a command only while one runs; at the prompt it is the editor's.
                uart::BUSY.store(byte == b'\r' || byte == b'\n', Relaxed);
                session.feed(byte);
                uart::BUSY.store(false, Relaxed);
                // It was for the line that ran. Not forgotten when a command begins: by then the line end has been echoed, and
                // who has seen that may have typed one for this command.
                uart::INTERRUPTED.store(false, Relaxed);
            }
            None if handing::seals::idle_step() => {}
            // Nobody interrupts it at the prompt; it is a sleep all the same, and not one that counts as blocked.
            None => {
                let _ = INPUT.wait_interruptible(None, uart::has_input);
            }
        }
    }
}
