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
        /// Each of which waits for the next, and the last for the first.
        circle: Circle,
    },
}

/// Names of subsystems in a circle: the first few, where there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circle {
    names: [&'static str; Circle::MAX],
    len: usize,
}

impl Circle {
    /// Most that are named.
    pub const MAX: usize = 6;

    /// Of all the names.
    pub(super) fn new(circle: impl Iterator<Item = &'static str>) -> Self {
        let mut names = [""; Circle::MAX];
        let mut len = 0;
        for name in circle {
            if let Some(place) = names.get_mut(len) {
                *place = name;
            }
            len += 1;
        }
        Circle { names, len }
    }

    /// The names.
    pub fn names(&self) -> &[&'static str] {
        &self.names[..self.len.min(Circle::MAX)]
    }
}

/// What is to be restored after what.
impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let [first, rest @ ..] = names else {
            return Ok(());
        };
        write!(f, "subsystem `{first}` is to be restored after")?;
        for next in rest {
            write!(f, " `{next}`, that after")?;
        }
        match (rest, names.len() < self.len) {
            (_, true) => write!(f, " others, and those after `{first}`"),
            ([], false) => f.write_str(" itself"),
            (_, false) => write!(f, " `{first}`"),
        }
    }
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
            DirectoryError::Cycle { circle } => write!(f, "{circle}; none is registered"),
        }
    }
}

impl core::error::Error for DirectoryError {}
