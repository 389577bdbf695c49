//! The input and output that `run` gives to a program: a pipe to the console task, which knows where the output goes, and the
//! console's keys.

use super::copy::UserSlice;
use super::file::{File, lock};
use super::process::{OpenFile, with_current};
use crate::machine::uart;
use crate::memory::IrqMutex;
use crate::task::{Interrupted, Mutex, WaitQueue};
use crate::terminal;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use kernel::protocol::END_OF_INPUT;
use kernel::ring3::abi::{PIPE_BUF, signal};
use trace::errno::Errno;

/// Bytes that a pipe holds; its room is made once.
const PIPE_BYTES: usize = 16 * 1024;

/// A pipe from processes to the console task.
pub struct Pipe {
    bytes: IrqMutex<Vec<u8>>,
    /// Open writing ends.
    writers: AtomicUsize,
    /// Nobody reads any more.
    broken: AtomicBool,
    readable: WaitQueue,
    writable: WaitQueue,
}

/// The end of a pipe that processes have.
struct WriteEnd(Arc<Pipe>);

impl Pipe {
    /// A pipe, and the file that writes to it.
    pub fn new() -> (Arc<Pipe>, Arc<dyn File>) {
        let pipe = Arc::new(Pipe {
            bytes: IrqMutex::new(Vec::with_capacity(PIPE_BYTES)),
            writers: AtomicUsize::new(1),
            broken: AtomicBool::new(false),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
        });
        let end = Arc::new(WriteEnd(pipe.clone()));
        (pipe, end)
    }

    /// Whether there is something to read, or never will be again.
    fn ready(&self) -> bool {
        !self.bytes.lock().is_empty() || self.writers.load(SeqCst) == 0
    }

    /// Sleeps until there is something to read, or `also` holds, or ctrl-c is typed.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn wait(&self, mut also: impl FnMut() -> bool) -> Result<(), Interrupted> {
        self.readable
            .wait_interruptible(None, || self.ready() || also())
            .map(drop)
    }

    /// Wakes the reader, so that it looks at what else it waits for.
    pub fn wake_reader(&self) {
        self.readable.wake_all();
    }

    /// What is in the pipe, moved to `to`. False: nothing, and nothing will come.
    pub fn take(&self, to: &mut Vec<u8>) -> bool {
        to.clear();
        // The writers first: what they wrote before they went is seen.
        let open = self.writers.load(SeqCst) > 0;
        {
            let mut bytes = self.bytes.lock();
            to.extend_from_slice(&bytes);
            bytes.clear();
        }
        self.writable.wake_all();
        open || !to.is_empty()
    }

    /// Nobody reads any more: who writes is ended.
    pub fn close(&self) {
        self.broken.store(true, SeqCst);
        self.writable.wake_all();
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, SeqCst);
        self.0.readable.wake_all();
    }
}

impl File for WriteEnd {
    fn write(&self, from: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        let pipe = &self.0;
        let mut done = 0;
        while done < from.len() {
            let mut piece = [0; PIPE_BUF];
            let len = (from.len() - done).min(PIPE_BUF);
            from.copy_in(done, &mut piece[..len])?;
            loop {
                if pipe.broken.load(SeqCst) {
                    with_current(|process| process.set_signal(signal::PIPE));
                    return Err(Errno::EPIPE);
                }
                let put = {
                    let mut bytes = pipe.bytes.lock();
                    let fits = bytes.len() + len <= PIPE_BYTES;
                    if fits {
                        bytes.extend_from_slice(&piece[..len]);
                    }
                    fits
                };
                if put {
                    break;
                }
                if nonblock {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EAGAIN)
                    };
                }
                let room =
                    || pipe.bytes.lock().len() + len <= PIPE_BYTES || pipe.broken.load(SeqCst);
                if pipe.writable.wait_interruptible(None, room).is_err() {
                    return if done > 0 {
                        Ok(done)
                    } else {
                        Err(Errno::EINTR)
                    };
                }
            }
            done += len;
            pipe.readable.wake_all();
        }
        Ok(done)
    }
}

/// The console's output, for what runs in the background.
struct ConsoleOutput;

impl File for ConsoleOutput {
    fn write(&self, from: UserSlice, _nonblock: bool) -> Result<usize, Errno> {
        let mut piece = [0; PIPE_BUF];
        let len = from.len().min(PIPE_BUF);
        from.copy_in(0, &mut piece[..len])?;
        terminal::print(&piece[..len]);
        Ok(len)
    }
}

/// An input that has ended, for what runs in the background.
struct NoInput;

impl File for NoInput {
    fn read(&self, _to: UserSlice, _nonblock: bool) -> Result<usize, Errno> {
        Ok(0)
    }
}

/// The console's keys, for a program in the foreground: a line at a time, with an echo, as a terminal gives them.
pub struct Keys {
    /// The program that they are for runs in the foreground.
    open: AtomicBool,
    line: Mutex<Vec<u8>>,
}

/// The longest line.
const LINE_BYTES: usize = 4096;
/// The end of the input.
pub const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

impl Keys {
    /// The keys, from now on.
    pub fn new() -> Arc<Keys> {
        Arc::new(Keys {
            open: AtomicBool::new(true),
            line: Mutex::new(Vec::new()),
        })
    }

    /// They are somebody else's again.
    pub fn close(&self) {
        self.open.store(false, SeqCst);
        terminal::wake_readers();
    }

    /// Reads a line into `line`; false: its end was typed, or it is somebody else's.
    fn read_line(&self, line: &mut Vec<u8>) -> Result<bool, Errno> {
        loop {
            if !self.open.load(SeqCst) {
                return Ok(false);
            }
            match uart::take_byte() {
                None => terminal::wait_for_input(|| !self.open.load(SeqCst))
                    .map_err(|Interrupted| Errno::EINTR)?,
                Some(b'\r' | b'\n') => {
                    uart::write(b"\n");
                    line.push(b'\n');
                    return Ok(true);
                }
                Some(CTRL_D | END_OF_INPUT) => return Ok(!line.is_empty()),
                Some(BACKSPACE | DELETE) => {
                    if line.pop().is_some() {
                        uart::send(b"\x08 \x08");
                    }
                }
                Some(byte) if line.len() < LINE_BYTES => {
                    line.push(byte);
                    uart::send(&[byte]);
                }
                Some(_) => {}
            }
        }
    }
}

impl File for Keys {
    fn read(&self, to: UserSlice, nonblock: bool) -> Result<usize, Errno> {
        let mut line = lock(&self.line, nonblock)?;
        if line.is_empty() {
            if nonblock {
                return Err(Errno::EAGAIN);
            }
            if !self.read_line(&mut line)? {
                return Ok(0);
            }
        }
        let len = to.len().min(line.len());
        to.copy_out(0, &line[..len])?;
        line.drain(..len);
        Ok(len)
    }
}

fn file(file: Arc<dyn File>, read: bool) -> Option<OpenFile> {
    Some(OpenFile {
        file,
        read,
        write: !read,
        nonblock: false,
    })
}

/// Files 0, 1 and 2 of a program in the foreground.
pub fn foreground(keys: Arc<Keys>, output: Arc<dyn File>) -> Vec<Option<OpenFile>> {
    Vec::from([
        file(keys, true),
        file(output.clone(), false),
        file(output, false),
    ])
}

/// Files 0, 1 and 2 of a program in the background.
pub fn background() -> Vec<Option<OpenFile>> {
    let output: Arc<dyn File> = Arc::new(ConsoleOutput);
    Vec::from([
        file(Arc::new(NoInput), true),
        file(output.clone(), false),
        file(output, false),
    ])
}
