//! Whole files: the kernel's are short, and are read and written in one go.

use crate::abi::{O_RDONLY, O_TRUNC, O_WRONLY};
use crate::{Error, sys};
use alloc::string::String;
use alloc::vec::Vec;
use trace::errno::Errno;

/// Bytes that a file is read in.
const PIECE: usize = 4096;

/// The text of a file.
///
/// # Errors
/// Those of `open` and `read`; `EINVAL` for what is no text, `ENOMEM`.
pub fn read_text(path: &str) -> Result<String, Error> {
    let fd = sys::open(path, O_RDONLY)?;
    let mut bytes = Vec::new();
    let read = loop {
        let used = bytes.len();
        if bytes.try_reserve(PIECE).is_err() {
            break Err(Errno::ENOMEM.into());
        }
        bytes.resize(used + PIECE, 0);
        match sys::read(fd, &mut bytes[used..]) {
            Ok(0) => {
                bytes.truncate(used);
                break Ok(());
            }
            Ok(n) => bytes.truncate(used + n),
            Err(e) => break Err(e),
        }
    };
    sys::close(fd)?;
    read?;
    String::from_utf8(bytes).map_err(|_| Errno::EINVAL.into())
}

/// Writes `text` to a file, as a shell's `echo > path` does.
///
/// # Errors
/// Those of `open`, `write` and `close`.
pub fn write_text(path: &str, text: &str) -> Result<(), Error> {
    let fd = sys::open(path, O_WRONLY | O_TRUNC)?;
    let written = sys::write_all(fd, text.as_bytes());
    let closed = sys::close(fd);
    written.and(closed)
}
