//! Why subsystems cannot be registered together.

use core::fmt;

use crate::error::Name;

/// What is wrong with a set of subsystems: a mistake of who wrote the kernel. None of them is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// A subsystem has a name that no node of the FDT can have.
    NoName {
        /// The name.
        name: &'static str,
    },
    /// A subsystem has the name of what tells the successor the release and the number of kexecs.
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// Two subsystems have the same name.
    NameTwice {
        /// The name.
        name: &'static str,
    },
    /// Two states have the same id.
    IdTwice {
        /// The id.
        id: u32,
        /// One of them.
        a: &'static str,
        /// The other.
        b: &'static str,
    },
    /// A subsystem names one that there is not.
    DependsOnNobody {
        /// The subsystem.
        name: &'static str,
        /// What it asks for.
        on: &'static str,
    },
    /// Subsystems wait for each other in a circle.
    Cycle {
        /// One of them.
        name: &'static str,
    },
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::NoName { name } => write!(
                f,
                "no subsystem can be called `{name}`: a name is a letter, then letters, digits or `,._+-`, at most {} bytes, \
                 and not `chosen`; none is registered",
                Name::MAX
            ),
            DirectoryError::NameTaken { name } => write!(
                f,
                "a subsystem is called `{name}`, under which the release and the number of kexecs cross; none is registered: \
                 give it another name"
            ),
            DirectoryError::NameTwice { name } => write!(
                f,
                "two subsystems are called `{name}`; neither can be told from the other, and none is registered"
            ),
            DirectoryError::IdTwice { id, a, b } => write!(
                f,
                "states `{a}` and `{b}` both have id {id:#x}; none is registered: give one of them another id"
            ),
            DirectoryError::DependsOnNobody { name, on } => write!(
                f,
                "subsystem `{name}` is to be restored after `{on}`, but there is no such subsystem; none is registered"
            ),
            DirectoryError::Cycle { name } => write!(
                f,
                "subsystem `{name}` is to be restored after itself, by way of others; none is registered"
            ),
        }
    }
}

impl core::error::Error for DirectoryError {}
