//! The serial console's device: COM1. Bytes come in by interrupt into a queue ([`kernel::input`]). They go out polled, a FIFO
//! at a time, so that a message gets out from any context.

use super::{Found, apic};
use crate::memory::IrqMutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernel::input::{Input, Receiver};
use kernel::protocol::CONSOLE_PORT;
use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::IER;
use uart_16550::{BaudRate, Config, Uart16550};

/// Room for bytes that came and were not asked for yet.
pub const INPUT_ROOM: usize = 64 * 1024;

struct Serial {
    port: Option<Port>,
    input: Input,
}

struct Port(Uart16550<PioBackend>);

impl Receiver for Port {
    fn receive(&mut self) -> Option<u8> {
        self.0.try_receive_byte().ok()
    }

    fn listen(&mut self, on: bool) {
        if on && !POLLED.load(Relaxed) {
            self.0.enable_interrupts(IER::DATA_READY);
        } else {
            self.0.disable_interrupts(IER::DATA_READY);
        }
    }
}

static SERIAL: IrqMutex<Serial> = IrqMutex::new(Serial {
    port: None,
    input: Input::new(INPUT_ROOM),
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
    SERIAL.lock().port = Some(Port(port));
}

/// Routes and enables the receive interrupt. Bytes of type-ahead that crossed a kexec come first.
pub fn start_interrupts(found: &Found) {
    let routed = apic::route_uart(found);
    POLLED.store(!routed, Relaxed);
    {
        let serial = &mut *SERIAL.lock();
        if let Some(port) = &mut serial.port {
            serial.input.open(port, keep);
        }
    }
    if !routed {
        crate::warning!("uart: no I/O APIC line for it; input is polled at each timer tick");
    }
}

/// Ctrl-c while a command runs is for the command, not for the line after it.
fn keep(byte: u8) -> bool {
    let interrupts = byte == 3 && BUSY.load(Relaxed);
    if interrupts {
        INTERRUPTED.store(true, Relaxed);
    }
    !interrupts
}

/// Whether the port has no interrupt, and is looked at by the timer.
static POLLED: AtomicBool = AtomicBool::new(false);

/// Whether [`tick`] has to be called.
pub fn is_polled() -> bool {
    POLLED.load(Relaxed)
}

/// Called at each timer tick: serves a port without an interrupt.
pub fn tick() {
    if POLLED.load(Relaxed) && SERIAL.lock().receive() {
        crate::terminal::input_came();
    }
}

/// Handles the receive interrupt; whether there was anything.
pub fn interrupt() -> bool {
    let any = {
        let Serial { port, input } = &mut *SERIAL.lock();
        port.as_mut()
            .is_some_and(|port| input.interrupted(port, keep))
    };
    if any {
        crate::terminal::input_came();
    }
    any
}

impl Serial {
    fn receive(&mut self) -> bool {
        match &mut self.port {
            Some(port) => self.input.receive(port, keep),
            None => false,
        }
    }
}

/// The next byte of input, if there is one.
pub fn take_byte() -> Option<u8> {
    let serial = &mut *SERIAL.lock();
    serial.input.take(serial.port.as_mut(), keep)
}

/// Whether input waits.
pub fn has_input() -> bool {
    SERIAL.lock().input.waits()
}

/// Stops listening before a jump; what has come and was not asked for yet is what crosses. All that comes later stays in
/// the device: an interrupt that is on its way already takes nothing.
pub fn quiet(found: &Found) -> Vec<u8> {
    apic::mask_uart(found);
    let serial = &mut *SERIAL.lock();
    serial.input.cut(serial.port.as_mut()).to_vec()
}

/// Puts a predecessor's unread input before everything else.
pub fn put_back(bytes: &[u8]) {
    SERIAL.lock().input.put_back(bytes);
}

/// Whether there is a port that has been found.
pub fn present() -> bool {
    SERIAL.lock().port.is_some()
}

/// Sends bytes, `\n` as CR LF; a CR LF stays one.
pub fn write(bytes: &[u8]) {
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                send(text.strip_suffix(b"\r").unwrap_or(text));
                send(b"\r\n");
            }
            None => send(line),
        }
    }
}

/// Sends bytes as they are. The lock is held for a FIFO's worth at a time, so that interrupts get in between.
pub fn send(bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut serial = SERIAL.lock();
        let Some(Port(port)) = &mut serial.port else {
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
