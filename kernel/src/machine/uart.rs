//! The serial console's device: COM1. Bytes come in by interrupt into a ring that is never overrun: when it is full the
//! interrupt is switched off, and the device's own flow control holds the sender. Bytes go out polled, a FIFO at a time,
//! so that a message gets out from any context.

use super::{Found, apic};
use crate::memory::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::protocol::CONSOLE_PORT;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};

/// Room for bytes that came and were not asked for yet.
pub const INPUT_ROOM: usize = 64 * 1024;

struct Serial {
    port: Option<Uart16550<PioBackend>>,
    input: Vec<u8>,
    /// Where the oldest byte of `input` is; all before it has been taken.
    taken: usize,
    stopped: bool,
    overruns: u64,
}

static SERIAL: IrqMutex<Serial> = IrqMutex::new(Serial {
    port: None,
    input: Vec::new(),
    taken: 0,
    stopped: false,
    overruns: 0,
});

/// Set by ctrl-c while a command runs; the shell looks at it and clears it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// Whether a command runs: only then ctrl-c is taken out of the input at once.
pub static BUSY: AtomicBool = AtomicBool::new(false);

/// Finds the port. `fresh` programs it; otherwise the predecessor did, and what is in its FIFO must not be lost.
pub fn early_init(fresh: bool) {
    // SAFETY: COM1's registers are at these ports on every PC, and this module alone uses them.
    let port = unsafe { Uart16550::new_port(CONSOLE_PORT) };
    let mut port = match port {
        Ok(port) => port,
        Err(_) => return,
    };
    if fresh {
        let config = Config {
            baud_rate: BaudRate::Baud115200,
            ..Config::DEFAULT
        };
        // No port there: the kernel runs on without a console rather than not at all.
        if port.init(config).is_err() {
            return;
        }
    } else if !port.check_present() {
        return;
    }
    SERIAL.lock().port = Some(port);
}

/// Routes and enables the receive interrupt. Bytes of type-ahead that crossed a kexec come first.
pub fn start_interrupts(found: &Found) {
    let routed = apic::route_uart(found);
    let mut serial = SERIAL.lock();
    serial.input.reserve_exact(INPUT_ROOM);
    if let Some(port) = serial.port.as_mut().filter(|_| routed) {
        port.enable_interrupts(IER::DATA_READY);
    }
    // What arrived while nobody listened would raise no edge any more.
    serial.receive();
    drop(serial);
    if !routed {
        POLLED.store(true, Relaxed);
        crate::warning!("uart: no I/O APIC line for it; input is polled at each timer tick");
    }
}

/// Whether the port has no interrupt, and is looked at by the timer.
static POLLED: AtomicBool = AtomicBool::new(false);

/// Called at each timer tick: serves a port without an interrupt.
pub fn tick() {
    if POLLED.load(Relaxed) {
        SERIAL.lock().receive();
    }
}

/// Handles the receive interrupt; whether there was anything.
pub fn interrupt() -> bool {
    SERIAL.lock().receive()
}

impl Serial {
    fn receive(&mut self) -> bool {
        let mut any = false;
        while let Some(port) = &mut self.port {
            if self.input.len() == INPUT_ROOM {
                if self.taken == 0 {
                    port.disable_interrupts(IER::DATA_READY);
                    self.stopped = true;
                    break;
                }
                self.input.drain(..self.taken);
                self.taken = 0;
            }
            let Ok(byte) = port.try_receive_byte() else {
                break;
            };
            any = true;
            if byte == 3 && BUSY.load(Relaxed) {
                INTERRUPTED.store(true, Relaxed);
                continue;
            }
            if self.input.len() < self.input.capacity() {
                self.input.push(byte);
            } else {
                self.overruns += 1;
            }
        }
        any
    }
}

/// The next byte of input, if there is one.
pub fn take_byte() -> Option<u8> {
    let mut serial = SERIAL.lock();
    if serial.taken == serial.input.len() {
        serial.input.clear();
        serial.taken = 0;
        if serial.stopped {
            serial.stopped = false;
            if let Some(port) = &mut serial.port {
                port.enable_interrupts(IER::DATA_READY);
            }
            serial.receive();
        }
    }
    let byte = serial.input.get(serial.taken).copied();
    serial.taken += usize::from(byte.is_some());
    byte
}

/// Whether input waits.
pub fn has_input() -> bool {
    let serial = SERIAL.lock();
    serial.taken < serial.input.len() || serial.stopped
}

/// Stops listening before a jump; what has come and was not asked for yet is what crosses.
pub fn quiet(found: &Found) -> Vec<u8> {
    apic::mask_uart(found);
    let mut serial = SERIAL.lock();
    if let Some(port) = &mut serial.port {
        port.disable_interrupts(IER::DATA_READY);
    }
    serial.input[serial.taken..].to_vec()
}

/// Puts a predecessor's unread input before everything else.
pub fn put_back(bytes: &[u8]) {
    let mut serial = SERIAL.lock();
    serial.input.reserve_exact(INPUT_ROOM);
    let room = INPUT_ROOM - serial.input.len();
    serial.input.splice(0..0, bytes.iter().copied().take(room));
}

/// Whether there is a port that has been found.
pub fn present() -> bool {
    SERIAL.lock().port.is_some()
}

/// Sends bytes, `\n` as CR LF.
pub fn write(bytes: &[u8]) {
    for (n, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if n > 0 {
            send(b"\r\n");
        }
        send(line);
    }
}

/// Sends bytes as they are. The lock is held for a FIFO's worth at a time, so that interrupts get in between.
pub fn send(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut serial = SERIAL.lock();
        let Some(port) = &mut serial.port else {
            return;
        };
        let sent = port.send_bytes(rest);
        rest = &rest[sent..];
        drop(serial);
        if sent == 0 {
            core::hint::spin_loop();
        }
    }
}

/// Breaks the lock for a last message. For a panic only: whoever held it never goes on.
///
/// # Safety
/// No other code runs on any CPU from here on.
pub unsafe fn break_lock() {
    // SAFETY: the caller's promise.
    unsafe { SERIAL.force_unlock() };
}
