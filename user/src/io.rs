//! Printing.

use crate::sys;
use core::fmt::{self, Write};

/// Bytes that are gathered before they are written: a line in one piece, mostly.
const BUFFER_BYTES: usize = 512;

/// Formats to a file. Ends with [`Printer::finish`].
pub struct Printer {
    fd: i32,
    buffer: [u8; BUFFER_BYTES],
    used: usize,
    failed: Option<crate::Error>,
}

impl Printer {
    /// Text goes to the file `fd`.
    pub fn new(fd: i32) -> Self {
        Printer {
            fd,
            buffer: [0; BUFFER_BYTES],
            used: 0,
            failed: None,
        }
    }

    fn flush(&mut self) -> fmt::Result {
        let used = core::mem::take(&mut self.used);
        match sys::write_all(self.fd, &self.buffer[..used]) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.failed = Some(error);
                Err(fmt::Error)
            }
        }
    }

    /// Writes what is left; the first error, if there was one.
    pub fn finish(mut self) -> Result<(), crate::Error> {
        if self.failed.is_none() {
            // The error is kept.
            let _ = self.flush();
        }
        self.failed.map_or(Ok(()), Err)
    }
}

impl Write for Printer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.used == BUFFER_BYTES {
                self.flush()?;
            }
            let len = rest.len().min(BUFFER_BYTES - self.used);
            self.buffer[self.used..self.used + len].copy_from_slice(&rest[..len]);
            self.used += len;
            rest = &rest[len..];
        }
        Ok(())
    }
}

/// Formats to a file descriptor; what `print!` and the others do. A program whose reader has gone is ended by the kernel, so
/// that an error here means that the file was closed: nobody can be told.
pub fn print_to(fd: i32, text: fmt::Arguments<'_>) {
    let mut printer = Printer::new(fd);
    let _ = printer.write_fmt(text);
    let _ = printer.finish();
}

/// Prints to the standard output.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::io::print_to(1, format_args!($($arg)*)) };
}

/// Prints a line to the standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::io::print_to(1, format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints a line to the standard error output.
#[macro_export]
macro_rules! eprintln {
    ($($arg:tt)*) => { $crate::io::print_to(2, format_args!("{}\n", format_args!($($arg)*))) };
}
