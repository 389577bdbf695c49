//! The files under `events/`, and `set_event`: which events are recorded.

use crate::errno::Errno;
use crate::event::EventDesc;
use crate::platform::Platform;
use crate::tracer::{Instance, Tracer};
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The events of `system`, or all.
fn events_of<'t, P: Platform>(
    tracer: &'t Tracer<P>,
    system: Option<&'t str>,
) -> impl Iterator<Item = &'static EventDesc> + 't {
    let events = tracer.events().iter().copied();
    events.filter(move |event| system.is_none_or(|system| event.system == system))
}

/// The names of the chosen events, one a line.
pub(super) fn list<P: Platform>(
    tracer: &Tracer<P>,
    mut chosen: impl FnMut(&EventDesc) -> bool,
    out: &mut dyn Write,
) -> fmt::Result {
    events_of(tracer, None)
        .filter(|event| chosen(event))
        .try_for_each(|event| writeln!(out, "{}:{}", event.system, event.name))
}

/// `0`, `1`, or `X` where the events differ.
pub(super) fn print_enable<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    system: Option<&str>,
    out: &mut dyn Write,
) -> fmt::Result {
    let mut on = events_of(tracer, system).map(|event| instance.event_enabled(event));
    let first = on.next();
    out.write_str(match first {
        Some(first) if on.any(|other| other != first) => "X\n",
        Some(true) => "1\n",
        Some(false) => "0\n",
        None => "?\n",
    })
}

/// Switches all events of `system`, or all there are.
pub(super) fn enable<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    system: Option<&str>,
    on: bool,
) {
    for event in events_of(tracer, system) {
        instance.set_event_enabled(event, on);
    }
}

/// A word of `set_event`, as Linux's `ftrace_set_clr_event` reads it: which events it means, and whether it switches them on.
#[derive(Clone, Copy, Debug)]
struct Word<'w> {
    on: bool,
    /// Either of system and name, where no colon says which.
    either: Option<&'w str>,
    system: Option<&'w str>,
    name: Option<&'w str>,
}

impl<'w> Word<'w> {
    fn parse(word: &'w str) -> Self {
        let (on, word) = match word.strip_prefix('!') {
            Some(word) => (false, word),
            None => (true, word),
        };
        let given = |part: &'w str| (!part.is_empty() && part != "*").then_some(part);
        match word.split_once(':') {
            Some((system, name)) => Word {
                on,
                either: None,
                system: given(system),
                name: given(name),
            },
            None => Word {
                on,
                either: if word == "*" { None } else { Some(word) },
                system: None,
                name: None,
            },
        }
    }

    fn means(&self, event: &EventDesc) -> bool {
        self.either
            .is_none_or(|word| word == event.system || word == event.name)
            && self.system.is_none_or(|system| system == event.system)
            && self.name.is_none_or(|name| name == event.name)
    }
}

/// Switches events as `data` says, each word after the other; first all off if the file was truncated.
pub(super) fn set<P: Platform>(
    tracer: &Tracer<P>,
    instance: &Instance<P>,
    data: &[u8],
    truncate: bool,
) -> Result<(), Errno> {
    let mut words = Vec::new();
    for word in super::parse::words(data) {
        let word = core::str::from_utf8(word?).map_err(|_| Errno::EINVAL)?;
        let word = Word::parse(word);
        if !tracer.events().iter().any(|event| word.means(event)) {
            return Err(Errno::EINVAL);
        }
        words.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        words.push(word);
    }
    if truncate {
        enable(tracer, instance, None, false);
    }
    for word in words {
        for event in events_of(tracer, None).filter(|event| word.means(event)) {
            instance.set_event_enabled(event, word.on);
        }
    }
    Ok(())
}
