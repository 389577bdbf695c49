//! The names of the tasks that events are of.

use crate::ring::TRACING;
use crate::{Error, files};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// The names that `saved_cmdlines` has told so far.
#[derive(Debug, Default)]
pub struct Names {
    known: BTreeMap<i32, String>,
    /// It was asked since [`Names::ask_again`].
    asked: bool,
}

impl Names {
    /// Those that there are now.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read() -> Result<Self, Error> {
        let mut names = Names::default();
        names.ask()?;
        Ok(names)
    }

    fn ask(&mut self) -> Result<(), Error> {
        self.asked = true;
        self.take(&files::read_text(&format!("{TRACING}/saved_cmdlines"))?);
        Ok(())
    }

    /// Takes lines of a number and a name. A name that is there no more stays: an event may be older than whoever has its place now.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            if let Some((pid, name)) = line.split_once(' ')
                && let Ok(pid) = pid.parse()
            {
                self.known.insert(pid, name.into());
            }
        }
    }

    /// The next task that is not known is asked for: once, since many may never be.
    pub fn ask_again(&mut self) {
        self.asked = false;
    }

    /// The name of a task, as the kernel's `trace` shows it.
    pub fn of(&mut self, pid: i32) -> &str {
        if pid == 0 {
            return "<idle>";
        }
        if !self.asked && !self.known.contains_key(&pid) {
            // What cannot be read tells nothing.
            let _ = self.ask();
        }
        self.known.get(&pid).map_or("<...>", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_file_are_names() {
        let mut names = Names {
            asked: true,
            ..Names::default()
        };
        names.take("1 console\n17 a b\nx y\n\n");
        assert_eq!(
            [0, 1, 17, 18].map(|pid| String::from(names.of(pid))),
            ["<idle>", "console", "a b", "<...>"]
        );
        names.take("17 c\n18 d\n");
        assert_eq!(
            [1, 17, 18].map(|pid| String::from(names.of(pid))),
            ["console", "c", "d"]
        );
    }
}
