//! From a command to the list of triggers that it makes.

use super::{Action, MAX_COMMAND, Subject, Target, Trigger, TriggerList, UNLIMITED};
use crate::errno::Errno;
use crate::event::complaint::Complaint;
use crate::event::filter::Filter;
use crate::event::hist::{self, Hist, Order};
use crate::sync::AtomicU64;
use alloc::format;
use alloc::string::String;

/// A command, and the event that it is for.
#[derive(Clone, Copy)]
struct Given<'a> {
    subject: &'a Subject<'a>,
    text: &'a str,
}

impl Given<'_> {
    /// What is wrong with its part `part`. Linux logs nothing of what is not a filter's or a histogram's.
    fn wrong(&self, part: &str, text: &'static str) -> Complaint {
        let location = format!("trigger:{}:{}", self.subject.system, self.subject.name);
        Complaint::at(Errno::EINVAL, location, self.text, part, text)
    }
}

fn blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

pub(super) fn command(
    list: &TriggerList,
    subject: &Subject<'_>,
    text: &str,
) -> Result<TriggerList, Complaint> {
    let text = text.trim();
    let given = Given { subject, text };
    if text.len() > MAX_COMMAND {
        // The log does not take what is no command.
        return Err(Complaint::quiet(Errno::EINVAL));
    }
    let (word, rest) = match text.find(|c| c == ':' || blank(c)) {
        Some(at) => (&text[..at], text[at + 1..].trim_start()),
        None => text.split_at(text.len()),
    };
    let (remove, name) = match word.strip_prefix('!') {
        Some(name) => (true, name),
        None => (false, word),
    };
    let action = match name {
        "traceon" => Action::TraceOn,
        "traceoff" => Action::TraceOff,
        "snapshot" => Action::Snapshot,
        "stacktrace" => Action::StackTrace,
        "enable_event" => return event(list, given, (Action::Event, true), remove, rest),
        "disable_event" => return event(list, given, (Action::Event, false), remove, rest),
        "enable_hist" => return event(list, given, (Action::Hists, true), remove, rest),
        "disable_hist" => return event(list, given, (Action::Hists, false), remove, rest),
        "hist" => return histogram(list, given, remove, rest),
        _ => return Err(given.wrong(name, "Unknown trigger")),
    };
    if remove {
        return Ok(list.only(|t| !t.action.clashes(&action)));
    }
    if text[word.len()..].starts_with(':')
        && !rest.is_empty()
        && !rest.starts_with(|c: char| c.is_ascii_digit())
        && !rest.starts_with("if")
    {
        return Err(given.wrong(rest, "Invalid count"));
    }
    let (count, filter) = match rest.starts_with(|c: char| c.is_ascii_digit()) {
        true => rest.split_once(blank).unwrap_or((rest, "")),
        false => ("", rest),
    };
    let count = match count.split(':').next() {
        None | Some("") => UNLIMITED,
        Some(digits) => number(given, digits)?,
    };
    add(list, given, action, count, filter, String::from(name))
}

/// A count as `kstrtoul` reads it with base 0.
fn number(given: Given<'_>, text: &str) -> Result<u64, Complaint> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let invalid = || given.wrong(text, "Invalid count");
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(invalid());
    }
    u64::from_str_radix(digits, radix).map_err(|_| invalid())
}

fn add(
    list: &TriggerList,
    given: Given<'_>,
    action: Action,
    count: u64,
    filter: &str,
    mut command: String,
) -> Result<TriggerList, Complaint> {
    let filter = parse_filter(given, filter)?;
    if list.triggers.iter().any(|t| t.action.clashes(&action)) {
        return Err(Complaint::quiet(Errno::EEXIST));
    }
    if let Some(filter) = &filter {
        command.push_str(" if ");
        command.push_str(filter.text());
    }
    list.with(Trigger {
        action,
        count: AtomicU64::new(count),
        filter,
        command,
    })
}

/// `if EXPRESSION`, or nothing.
fn parse_filter(given: Given<'_>, text: &str) -> Result<Option<Filter>, Complaint> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let expression = text
        .strip_prefix("if")
        .filter(|rest| rest.starts_with(blank))
        .ok_or_else(|| given.wrong(text, "Expected 'if FILTER'"))?;
    Ok(Some(Filter::parse(given.subject.fields, expression)?))
}

fn event(
    list: &TriggerList,
    given: Given<'_>,
    (make, on): (fn(Target) -> Action, bool),
    remove: bool,
    rest: &str,
) -> Result<TriggerList, Complaint> {
    let (param, filter) = rest.split_once(blank).unwrap_or((rest, ""));
    let mut parts = param.splitn(3, ':');
    let (Some(system), Some(name)) = (parts.next(), parts.next()) else {
        return Err(given.wrong(param, "Expected SYSTEM:EVENT"));
    };
    let index = (given.subject.find)(system, name);
    let index = index.ok_or_else(|| given.wrong(param, "Event not found"))?;
    let action = make(Target {
        on,
        system: system.into(),
        name: name.into(),
        index,
    });
    if remove {
        return Ok(list.only(|t| !t.action.clashes(&action)));
    }
    let count = match parts.next() {
        None => UNLIMITED,
        Some(digits) if !digits.is_empty() => number(given, digits)?,
        Some(digits) => return Err(given.wrong(digits, "Invalid count")),
    };
    let command = format!("{}:{system}:{name}", action.switch());
    add(list, given, action, count, filter, command)
}

/// Splits `keys=... if EXPRESSION` before the `if`.
fn split_filter(text: &str) -> (&str, &str) {
    let at = text
        .match_indices("if")
        .map(|(at, _)| at)
        .find(|at| text[..*at].ends_with(blank) && text[*at + 2..].starts_with(blank));
    match at {
        Some(at) => (text[..at].trim(), &text[at..]),
        None => (text.trim(), ""),
    }
}

fn histogram(
    list: &TriggerList,
    given: Given<'_>,
    remove: bool,
    rest: &str,
) -> Result<TriggerList, Complaint> {
    let subject = given.subject;
    let event = (subject.system, subject.name);
    let command = given.text;
    let (attributes, filter) = split_filter(rest);
    if attributes.is_empty() {
        let text = "Missing keys";
        return Err(hist::complain(Errno::EINVAL, event, command, rest, text));
    }
    let command = command.strip_prefix('!').unwrap_or(command);
    let wanted = hist::parse(event, subject.fields, command, attributes)?;
    let filter = parse_filter(given, filter)?;
    let text = filter.as_ref().map(Filter::text);
    let here = list.triggers.iter().find(|t| match &t.action {
        // What is taken away is named by what it counts alone.
        Action::Hist(hist) => hist.spec().same(&wanted.spec) && (remove || t.filter_text() == text),
        _ => false,
    });
    if remove {
        return Ok(match here {
            Some(here) => list.only(|t| !core::ptr::eq(t, &**here)),
            None => list.clone(),
        });
    }
    let wrong = |errno, text| hist::complain(errno, event, command, "", text);
    let no_memory = || Complaint::quiet(Errno::ENOMEM);
    if let Some(here) = here {
        let Action::Hist(hist) = &here.action else {
            return Err(Complaint::quiet(Errno::EINVAL));
        };
        match wanted.order {
            Order::Add => return Err(wrong(Errno::EEXIST, "Hist trigger already exists")),
            Order::Pause => hist.set_paused(true),
            Order::Continue => hist.set_paused(false),
            Order::Clear => {
                // A writer may be counting: it gets a new table with the new list, and the old one goes with the old list.
                let fresh = Hist::new(hist.spec().clone(), hist.paused()).ok_or_else(no_memory)?;
                let trigger = Trigger {
                    action: Action::Hist(fresh),
                    count: AtomicU64::new(UNLIMITED),
                    filter: here.filter.clone(),
                    command: here.command.clone(),
                };
                let mut new = list.clone();
                for t in &mut new.triggers {
                    if core::ptr::eq(&**t, &**here) {
                        *t = alloc::sync::Arc::new(trigger);
                        break;
                    }
                }
                return Ok(new);
            }
        }
        return Ok(list.clone());
    }
    let paused = match wanted.order {
        Order::Add => false,
        Order::Pause => true,
        Order::Continue | Order::Clear => {
            let text = "Can't clear or continue a nonexistent hist trigger";
            return Err(wrong(Errno::ENOENT, text));
        }
    };
    let hist = Hist::new(wanted.spec, paused).ok_or_else(no_memory)?;
    let mut canonical = format!("hist:{attributes}");
    if let Some(text) = text {
        canonical.push_str(" if ");
        canonical.push_str(text);
    }
    list.with(Trigger {
        action: Action::Hist(hist),
        count: AtomicU64::new(UNLIMITED),
        filter,
        command: canonical,
    })
}
