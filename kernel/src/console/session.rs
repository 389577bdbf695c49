//! The editor and the shell together: bytes from the serial line in, everything a person sees out.

use super::complete;
use super::lineedit::{Event, LineEditor};
use super::parse::MAX_LINE_BYTES;
use super::shell::{Env, Shell};

/// What ctrl-d on an empty line answers.
const EOF_HINT: &[u8] = b"\r\n(ctrl-d ends nothing here: `poweroff` turns the machine off, `help` lists the commands)\r\n";

/// A person at the console.
///
/// ```text
/// let mut session = Session::new(Shell::new(mounts, SETS, &ENV), &ENV);
/// session.start();
/// loop { session.feed(uart.read()); }
/// ```
pub struct Session<'a> {
    /// Runs the lines.
    pub shell: Shell<'a>,
    editor: LineEditor,
    env: &'a dyn Env,
}

impl<'a> Session<'a> {
    /// A session that has printed nothing yet.
    pub fn new(shell: Shell<'a>, env: &'a dyn Env) -> Self {
        Self {
            shell,
            editor: LineEditor::new(),
            env,
        }
    }

    /// Prints the first prompt.
    pub fn start(&mut self) {
        self.prompt();
    }

    /// Takes one byte from the serial line. Where it ends a line, the line runs before this returns, and a new prompt stands
    /// there; bytes typed meanwhile stay with the caller.
    ///
    /// Gives the line's status where one ran.
    pub fn feed(&mut self, byte: u8) -> Option<i32> {
        let (shell, env) = (&self.shell, self.env);
        let event = self.editor.feed(
            byte,
            &shell.history,
            &mut |line| complete::complete(shell, line),
            &mut |bytes| env.print(bytes),
        );
        let mut status = None;
        match event {
            Event::None => return None,
            Event::Line(line) => {
                self.shell.set_at_line_start();
                self.shell.history.push(&line);
                env.on_typed(&line);
                status = Some(self.shell.run(&line));
            }
            Event::TooLong => {
                self.shell.set_at_line_start();
                status = Some(self.shell.refuse(format_args!(
                    "a line of more than {MAX_LINE_BYTES} bytes was typed; it was not run"
                )));
            }
            Event::Interrupt => {
                self.shell.set_at_line_start();
                self.shell.interrupt();
            }
            Event::Eof => {
                self.env.print(EOF_HINT);
                self.shell.set_at_line_start();
            }
        }
        self.prompt();
        status
    }

    /// Takes the line being typed off the screen, for a message of the kernel that is to be printed now.
    pub fn hide(&mut self) {
        let env = self.env;
        self.editor.hide(&mut |bytes| env.print(bytes));
    }

    /// Puts the line being typed back, after [`Session::hide`] and a message that ended in a newline.
    pub fn show(&mut self) {
        let env = self.env;
        self.editor.show(&mut |bytes| env.print(bytes));
    }

    /// The prompt, always at the start of a line.
    fn prompt(&mut self) {
        if !self.shell.at_line_start() {
            self.env.print(b"\r\n");
            self.shell.set_at_line_start();
        }
        let env = self.env;
        self.editor.start(&mut |bytes| env.print(bytes));
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
