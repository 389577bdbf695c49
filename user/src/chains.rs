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
    /// Who was left by the first switch, if nothing is missing before it.
    pub first: Option<i64>,
    /// Who runs, if a switch has told.
    pub running: Option<i64>,
    /// The handlers that were entered and not left: event (without `_entry`), and what it tells of itself.
    entered: Vec<(String, i64)>,
    /// Events were missing.
    missing: bool,
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
        self.missing = true;
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
        if format.name == "sched_switch" {
            let (Some(from), Some(to)) = (number("prev_pid"), number("next_pid")) else {
                return Err("a switch without the tasks' numbers".into());
            };
            if self.switches == 0 && !self.missing {
                self.first = Some(from);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn format(name: &str, fields: &[&str]) -> Format {
        let mut text = format!("name: {name}\nID: 1\n");
        for (i, field) in fields.iter().enumerate() {
            text += &format!(
                "field:int {field};\toffset:{};\tsize:4;\tsigned:1;\n",
                4 * i
            );
        }
        Format::parse(&text).unwrap()
    }

    /// What `chains` says to an event with these values.
    fn say(chains: &mut Chains, name: &str, values: &[(&str, i32)]) -> Result<(), String> {
        let fields: Vec<&str> = values.iter().map(|(field, _)| *field).collect();
        let words: Vec<AtomicU32> = values
            .iter()
            .map(|(_, value)| AtomicU32::new(*value as u32))
            .collect();
        chains.event(&format(name, &fields), Record::new(&words))
    }

    #[test]
    fn who_is_switched_to_is_switched_from_next() {
        let mut chains = Chains::new();
        let mut switch = |from, to| {
            say(
                &mut chains,
                "sched_switch",
                &[("prev_pid", from), ("next_pid", to)],
            )
        };
        assert_eq!(switch(3, 0), Ok(()));
        assert_eq!(switch(0, 7), Ok(()));
        let why = switch(3, 0).unwrap_err();
        assert_eq!(why, "task 3 is switched from, but 7 was switched to");
        assert_eq!(switch(0, 3), Ok(()));
        chains.gap();
        let switch = [("prev_pid", 9), ("next_pid", 0)];
        assert_eq!(say(&mut chains, "sched_switch", &switch), Ok(()));
        assert_eq!(chains.switches, 5);
        // Who the next reader should see first, and whom this one saw first.
        assert_eq!((chains.first, chains.running), (Some(3), Some(0)));
        assert!(say(&mut chains, "sched_switch", &[("prev_pid", 9)]).is_err());
        let mut late = Chains::new();
        late.gap();
        assert_eq!(say(&mut late, "sched_switch", &switch), Ok(()));
        assert_eq!((late.first, late.running), (None, Some(0)));
    }

    #[test]
    fn the_last_handler_that_was_entered_is_left_first() {
        let mut chains = Chains::new();
        // It was entered before we came.
        assert_eq!(say(&mut chains, "softirq_exit", &[("vec", 1)]), Ok(()));
        for (name, field) in [("irq_handler", "irq"), ("local_timer", "vector")] {
            assert_eq!(
                say(&mut chains, &format!("{name}_entry"), &[(field, 4)]),
                Ok(())
            );
        }
        let why = say(&mut chains, "irq_handler_exit", &[("irq", 4)]).unwrap_err();
        assert_eq!(why, "irq_handler 4 is left within local_timer 4");
        chains.gap();
        assert_eq!(say(&mut chains, "irq_handler_entry", &[("irq", 4)]), Ok(()));
        assert!(say(&mut chains, "irq_handler_exit", &[("irq", 5)]).is_err());
        // What is no handler is none.
        assert_eq!(
            say(&mut chains, "sched_process_exit", &[("pid", 5)]),
            Ok(())
        );
        assert_eq!(say(&mut chains, "sys_exit", &[("id", 5)]), Ok(()));
        assert_eq!(chains.handlers, 0);
    }
}
