//! What the tab key offers: commands where a command stands, paths elsewhere.

use super::parse::{self, Unfinished};
use super::shell::{Complete, Shell};
use super::vfs::{self, Kind};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What could stand at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Byte offset in the line from which a candidate replaces what stands before the cursor.
    pub start: usize,
    /// Sorted.
    pub candidates: Vec<Candidate>,
}

/// One thing that could stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What replaces the word, quoted as far as needed.
    pub text: String,
    /// What is shown in a list of several.
    pub label: String,
    /// What follows when it is the only one: closing quote and space, or the slash of a directory.
    pub end: &'static str,
}

/// Completes the word that ends where `line` ends (the cursor).
pub fn complete(shell: &Shell<'_>, line: &str) -> Completion {
    let unfinished = parse::unfinished(line);
    let kind = if unfinished.is_comment {
        Complete::Nothing
    } else if unfinished.is_redirect {
        Complete::Paths
    } else if unfinished.is_command {
        Complete::Commands
    } else {
        let mut all = shell.commands().iter().flat_map(|set| set.iter());
        match all.find(|command| command.name == unfinished.command) {
            Some(command) => command.complete,
            None => Complete::Nothing,
        }
    };
    let mut candidates = match kind {
        Complete::Nothing => Vec::new(),
        Complete::Commands => commands(shell, &unfinished),
        Complete::Paths => paths(shell, &unfinished),
    };
    candidates.sort_by(|a, b| a.label.cmp(&b.label));
    candidates.dedup();
    Completion {
        start: unfinished.start,
        candidates,
    }
}

fn end(quote: Option<char>) -> &'static str {
    match quote {
        Some('\'') => "' ",
        Some(_) => "\" ",
        None => " ",
    }
}

fn quoted(text: &str, quote: Option<char>) -> String {
    let escaped = parse::escape(text, quote);
    match quote {
        Some(quote) => format!("{quote}{escaped}"),
        None => escaped,
    }
}

fn commands(shell: &Shell<'_>, unfinished: &Unfinished) -> Vec<Candidate> {
    let all = shell.commands().iter().flat_map(|set| set.iter());
    all.filter(|command| command.name.starts_with(&unfinished.word))
        .map(|command| Candidate {
            text: quoted(command.name, unfinished.quote),
            label: command.name.to_string(),
            end: end(unfinished.quote),
        })
        .collect()
}

fn paths(shell: &Shell<'_>, unfinished: &Unfinished) -> Vec<Candidate> {
    let (typed_dir, prefix) = match unfinished.word.rfind('/') {
        Some(slash) => unfinished.word.split_at(slash + 1),
        None => ("", unfinished.word.as_str()),
    };
    let dir = if typed_dir.is_empty() { "." } else { typed_dir };
    let entries = vfs::normalize(shell.cwd(), dir)
        .map_err(vfs::FsError::from)
        .and_then(|dir| shell.mounts().list(&dir));
    let entries = entries.unwrap_or_default();
    entries
        .into_iter()
        .filter(|entry| entry.name.starts_with(prefix))
        // As in every shell, hidden names are offered only to who asks for them.
        .filter(|entry| !entry.name.starts_with('.') || prefix.starts_with('.'))
        .map(|entry| {
            let is_dir = entry.stat.kind == Kind::Dir;
            Candidate {
                text: quoted(&format!("{typed_dir}{}", entry.name), unfinished.quote),
                label: format!("{}{}", entry.name, if is_dir { "/" } else { "" }),
                end: if is_dir { "/" } else { end(unfinished.quote) },
            }
        })
        .collect()
}
