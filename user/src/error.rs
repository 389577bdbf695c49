//! What a system call fails with.

use core::fmt;
use trace::errno::Errno;

/// An error number of the kernel's, Linux's by value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(pub i32);

impl Error {
    /// Its name, where it is one of those that the kernel gives.
    pub fn errno(self) -> Option<Errno> {
        Errno::from_number(self.0)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error(errno.number())
    }
}

/// `Bad address (EFAULT)`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Some(errno) => write!(f, "{errno}"),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// `EFAULT`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            Some(errno) => write!(f, "{errno:?}"),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl core::error::Error for Error {}
