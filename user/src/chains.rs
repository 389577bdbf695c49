//! What the events of one CPU have to do with one another: who is switched to is who is switched from next, and what is
//! entered is left, the last one first.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use trace::mapped::Record;
use trace::mapped::format::Format;

/// Handlers that may be within one another, at most: more are a mistake of their own.
const MAX_DEPTH: usize = 64;

/// Follows the events of a CPU.
#[derive(Default)]
pub struct Chains {
    /// Who runs, if a switch has told.
    running: Option<i64>,
    /// The handlers that were entered and not left: event (without `_entry`), and what it tells of itself.
    entered: Vec<(String, i64)>,
    /// Where what is being looked at began, handlers may be left that nobody saw entered.
    begun_within: bool,
    /// Switches that were looked at.
    pub switches: u64,
    /// Handlers that were entered and left.
    pub handlers: u64,
}

impl Chains {
    /// Of a CPU of which nothing is known.
    pub fn new() -> Self {
        Chains {
            begun_within: true,
            ..Chains::default()
        }
    }

    /// Events are missing here: nothing is known any more.
    pub fn gap(&mut self) {
        self.running = None;
        self.entered.clear();
        self.begun_within = true;
    }

    /// The next event.
    ///
    /// # Errors
    /// A sentence on what does not fit what was before.
    pub fn event(&mut self, format: &Format, record: Record<'_>) -> Result<(), String> {
        let number = |name: &str| format.field(name).and_then(|field| field.number(record));
        if format.name == "kexec_phase" {
            // Another life of the kernel, or the way there: other tasks.
            self.gap();
            return Ok(());
        }
        if format.name == "sched_switch" {
            let (Some(from), Some(to)) = (number("prev_pid"), number("next_pid")) else {
                return Err("a switch without the tasks' numbers".into());
            };
            self.switches += 1;
            return match self.running.replace(to) {
                Some(running) if running != from => Err(format!(
                    "task {from} is switched from, but {running} was switched to"
                )),
                _ => Ok(()),
            };
        }
        // What is no handler's has none of these: a call of a user program, which may be left on another CPU; the exit of a task.
        let Some(own) = ["irq", "vector", "vec", "timer"]
            .into_iter()
            .find_map(number)
        else {
            return Ok(());
        };
        if let Some(handler) = format.name.strip_suffix("_entry") {
            if self.entered.len() == MAX_DEPTH {
                return Err(format!("{MAX_DEPTH} handlers are within one another"));
            }
            self.entered.push((handler.into(), own));
        } else if let Some(handler) = format.name.strip_suffix("_exit") {
            let left = (handler, own);
            match self.entered.pop() {
                Some((entered, at)) if (entered.as_str(), at) == left => self.handlers += 1,
                Some((entered, at)) => {
                    return Err(format!(
                        "{handler} {} is left within {entered} {at}",
                        left.1
                    ));
                }
                None if self.begun_within => {}
                None => return Err(format!("{handler} {} is left, and was not entered", left.1)),
            }
        }
        Ok(())
    }
}
