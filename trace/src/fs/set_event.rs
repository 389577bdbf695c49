//! The words that `set_event` takes: Linux's `ftrace_set_clr_event`.

use crate::errno::Errno;
use crate::event::EventDesc;

/// Which events a word means, and whether it switches them on.
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
pub(super) fn write(events: &[&EventDesc], data: &[u8], truncate: bool) -> Result<(), Errno> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    let words = || text.split_ascii_whitespace().map(Word::parse);
    if !words().all(|word| events.iter().any(|event| word.means(event))) {
        return Err(Errno::EINVAL);
    }
    if truncate {
        for event in events {
            event.set_enabled(false);
        }
    }
    for word in words() {
        for event in events.iter().filter(|event| word.means(event)) {
            event.set_enabled(word.on);
        }
    }
    Ok(())
}
