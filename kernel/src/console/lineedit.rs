//! Editing one line over a serial terminal: bytes in, a line and what the terminal needs to show it out.
//!
//! The terminal's width is not known and not asked for; it has [`COLUMNS`] at least. A line that fits is edited
//! in place. A line typed past that width is simply echoed, and the terminal wraps it; once the cursor has to go back
//! into such a line, a window of it is shown on a fresh row, with `<` and `>` where it goes on, and that row is
//! edited in place. So a key costs a bounded number of bytes however long the line is, and typing at the end costs one.
//!
//! What the terminal shows is kept in [`Shown`]; every change goes through one function that compares it with
//! what should be there and sends the difference. Cursor movement over ASCII counts columns; over anything else the text is
//! sent again from the row's start, which needs no table of character widths.

use super::complete::Completion;
use super::history::History;
use super::keys::{Key, Keys};
use super::parse::MAX_LINE_BYTES;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a person types after. Scripts rely on it standing at the start of a line.
pub use crate::protocol::PROMPT;
/// Columns that every terminal has. The last one stays empty: a character there leaves the cursor in doubt.
pub const COLUMNS: usize = 80;
/// What a tab in the line looks like. One byte for one byte, so that offsets stay; a real one would jump.
const TAB_SHOWN: &str = " ";
/// Columns for text, in the row of the prompt.
const TEXT_COLUMNS: usize = COLUMNS - 1 - PROMPT.len();
/// Most candidates that the tab key lists.
const MAX_LISTED: usize = 400;
/// Longest line of such a list where the candidates are long.
const LIST_COLUMNS: usize = COLUMNS - 1;

const BELL: &[u8] = b"\x07";

/// What a byte led to, for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing but editing.
    None,
    /// The line was typed to its end, but characters of it did not fit: running what is left could do something else than
    /// was meant. The line is dropped, a newline is printed. Call [`LineEditor::start`].
    TooLong,
    /// A line is complete; the cursor stands at the start of the next row. Call [`LineEditor::start`] after running it.
    Line(String),
    /// Ctrl-c: the line is dropped, `^C` and a newline are printed. Call [`LineEditor::start`].
    Interrupt,
    /// Ctrl-d on an empty line; nothing is printed. Call [`LineEditor::start`] at the start of a row.
    Eof,
}

/// Where the bytes for the terminal go.
pub type Out<'o> = dyn FnMut(&[u8]) + 'o;
/// Completes the line up to the cursor.
pub type Completer<'c> = dyn FnMut(&str) -> Completion + 'c;

/// The editor. It holds the line being typed, and nothing of the ones before: those are the caller's [`History`].
#[derive(Debug, Default)]
pub struct LineEditor {
    line: String,
    /// Byte offset in `line`, on a character boundary.
    cursor: usize,
    shown: Shown,
    keys: Keys,
    /// The last text that was killed, for ctrl-y.
    killed: String,
    /// Where in the history the line comes from, and the line that was being typed before going there.
    recalled: Option<(usize, String)>,
    /// The key before was a tab that could not complete any further.
    tabbed: bool,
    /// The byte before was a CR: an LF belongs to it.
    after_cr: bool,
    /// Characters were refused since the line last got shorter.
    overflowed: bool,
    /// What comes is pasted, as the terminal says: a tab in it is text.
    pasting: bool,
}

/// What the terminal shows in the row of the cursor, after the prompt.
#[derive(Debug, Default)]
struct Shown {
    text: String,
    /// Byte offset in `text` at which the cursor stands.
    cursor: usize,
    /// `text` is longer than a row: the terminal has wrapped it, and the cursor is at its end.
    wrapped: bool,
    /// Where in the line the window starts, if one is shown.
    window: Option<usize>,
}

impl LineEditor {
    /// An editor with an empty line, that has printed nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line being typed.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The cursor's byte offset in the line.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Prints the prompt of a new, empty line. The terminal's cursor must be at the start of an empty row.
    pub fn start(&mut self, out: &mut Out<'_>) {
        self.line.clear();
        self.cursor = 0;
        self.recalled = None;
        self.tabbed = false;
        self.overflowed = false;
        self.show(out);
    }

    /// Prints the prompt and the line being typed, at the start of an empty row.
    pub fn show(&mut self, out: &mut Out<'_>) {
        self.shown = Shown::default();
        out(PROMPT.as_bytes());
        self.update(out);
    }

    /// Takes the line being typed off the screen; the cursor is at the start of an empty row after it.
    pub fn hide(&mut self, out: &mut Out<'_>) {
        // A wrapped line cannot be taken back without knowing the width.
        out(if self.shown.wrapped {
            b"\r\n"
        } else {
            b"\r\x1b[K"
        });
        self.shown = Shown::default();
    }

    /// Takes one byte. `history` is what up and down go through; `complete` answers the tab key.
    pub fn feed(
        &mut self,
        byte: u8,
        history: &History,
        complete: &mut Completer<'_>,
        out: &mut Out<'_>,
    ) -> Event {
        let after_cr = core::mem::take(&mut self.after_cr);
        if byte == b'\n' && after_cr {
            return Event::None;
        }
        let Some(key) = self.keys.key(byte, &mut || out(BELL)) else {
            return Event::None;
        };
        let tabbed = core::mem::replace(&mut self.tabbed, false);
        match key {
            Key::Char(c) => self.insert(c, out),
            Key::Enter => {
                self.after_cr = byte == b'\r';
                return self.enter(out);
            }
            Key::Interrupt => {
                self.cursor = self.line.len();
                self.update(out);
                out(b"^C\r\n");
                self.line.clear();
                self.cursor = 0;
                self.shown = Shown::default();
                return Event::Interrupt;
            }
            Key::DeleteOrEof if self.line.is_empty() => return Event::Eof,
            Key::PasteStart => self.pasting = true,
            Key::PasteEnd => self.pasting = false,
            Key::Tab if self.pasting => self.insert('\t', out),
            Key::Tab => self.tab(tabbed, complete, out),
            Key::Clear => {
                out(b"\x1b[H\x1b[2J");
                self.show(out);
            }
            _ => {
                self.edit(key, history, out);
                self.update(out);
            }
        }
        Event::None
    }

    /// Keys that change the line or the cursor only.
    fn edit(&mut self, key: Key, history: &History, out: &mut Out<'_>) {
        let (line, cursor) = (self.line.as_str(), self.cursor);
        match key {
            Key::Left => self.cursor = before(line, cursor),
            Key::Right => self.cursor = after(line, cursor),
            Key::WordLeft => self.cursor = word_start(line, cursor),
            Key::WordRight => self.cursor = word_end(line, cursor),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = line.len(),
            Key::Backspace => self.remove(before(line, cursor), cursor),
            Key::Delete | Key::DeleteOrEof => self.remove(cursor, after(line, cursor)),
            Key::KillToEnd => self.kill(cursor, line.len()),
            Key::KillToStart => self.kill(0, cursor),
            Key::KillWordBack => self.kill(word_start(line, cursor), cursor),
            Key::KillBlankWordBack => self.kill(blank_word_start(line, cursor), cursor),
            Key::KillWord => self.kill(cursor, word_end(line, cursor)),
            Key::Yank => {
                let killed = core::mem::take(&mut self.killed);
                if !self.insert_text(&killed) {
                    out(BELL);
                }
                self.killed = killed;
            }
            Key::Up => self.recall(history, true, out),
            Key::Down => self.recall(history, false, out),
            // The others are handled where they end a line or print by themselves.
            _ => {}
        }
    }

    fn remove(&mut self, from: usize, to: usize) {
        self.line.drain(from..to);
        // Who shortens the line has heard the bell.
        self.overflowed &= from == to;
        self.cursor = from;
    }

    fn kill(&mut self, from: usize, to: usize) {
        if from < to {
            self.killed.clear();
            self.killed.push_str(&self.line[from..to]);
            self.remove(from, to);
        }
    }

    /// Inserts at the cursor; false where the line would become too long.
    fn insert_text(&mut self, text: &str) -> bool {
        if self.line.len() + text.len() > MAX_LINE_BYTES {
            return false;
        }
        self.line.insert_str(self.cursor, text);
        self.cursor += text.len();
        true
    }

    fn insert(&mut self, c: char, out: &mut Out<'_>) {
        let mut utf8 = [0; 4];
        let text = c.encode_utf8(&mut utf8);
        let at_end = self.cursor == self.line.len();
        if !self.insert_text(text) {
            self.overflowed = true;
            out(BELL);
            return;
        }
        if at_end && self.shown.window.is_none() {
            // Typing at the end: echo, and let the terminal wrap.
            let text = if c == '\t' { TAB_SHOWN } else { text };
            self.shown.text.push_str(text);
            self.shown.cursor = self.shown.text.len();
            self.shown.wrapped = self.shown.wrapped || columns(&self.shown.text) > TEXT_COLUMNS;
            out(text.as_bytes());
        } else {
            self.update(out);
        }
    }

    fn enter(&mut self, out: &mut Out<'_>) -> Event {
        out(b"\r\n");
        self.cursor = 0;
        self.shown = Shown::default();
        self.recalled = None;
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.overflowed) {
            return Event::TooLong;
        }
        Event::Line(line)
    }

    /// Up (`older`) and down.
    fn recall(&mut self, history: &History, older: bool, out: &mut Out<'_>) {
        let index = self
            .recalled
            .as_ref()
            .map_or(history.len(), |(index, _)| *index);
        let target = if older {
            index.checked_sub(1)
        } else {
            // Down from the line being typed leads nowhere.
            self.recalled.as_ref().map(|_| index + 1)
        };
        let Some(target) = target else {
            out(BELL);
            return;
        };
        match history.get(target) {
            Some(line) => {
                let current = core::mem::replace(&mut self.line, String::from(line));
                match &mut self.recalled {
                    Some((index, _)) => *index = target,
                    None => self.recalled = Some((target, current)),
                }
            }
            None => {
                if let Some((_, typed)) = self.recalled.take() {
                    self.line = typed;
                }
            }
        }
        self.cursor = self.line.len();
    }

    fn tab(&mut self, again: bool, complete: &mut Completer<'_>, out: &mut Out<'_>) {
        let mut found = complete(&self.line[..self.cursor]);
        let candidates = &found.candidates;
        let Some(first) = candidates.first() else {
            out(BELL);
            return;
        };
        let replacement = if candidates.len() == 1 {
            let mut text = first.text.clone();
            // What would follow stands there already.
            if !self.line[self.cursor..].starts_with(first.end) {
                text.push_str(first.end);
            }
            text
        } else {
            let prefix = common_prefix(candidates.iter().map(|c| c.text.as_str()));
            // Not half of an escaped character.
            let backslashes = prefix.len() - prefix.trim_end_matches('\\').len();
            String::from(&prefix[..prefix.len() - backslashes % 2])
        };
        let start = found.start.min(self.cursor);
        let typed = &self.line[start..self.cursor];
        if replacement != typed {
            if self.line.len() - typed.len() + replacement.len() > MAX_LINE_BYTES {
                out(BELL);
                return;
            }
            self.line.replace_range(start..self.cursor, &replacement);
            self.cursor = start + replacement.len();
            self.update(out);
            return;
        }
        if found.candidates.len() == 1 {
            return;
        }
        if !again {
            out(BELL);
            self.tabbed = true;
            return;
        }
        // Listed below the line, which is then shown again.
        let cursor = core::mem::replace(&mut self.cursor, self.line.len());
        self.update(out);
        self.cursor = cursor;
        out(b"\r\n");
        found.candidates.truncate(MAX_LISTED + 1);
        let labels: Vec<&str> = found.candidates.iter().map(|c| c.label.as_str()).collect();
        let listed = &labels[..labels.len().min(MAX_LISTED)];
        for row in in_columns(listed, LIST_COLUMNS) {
            out(row.as_bytes());
            out(b"\r\n");
        }
        if labels.len() > MAX_LISTED {
            out(b"...\r\n");
        }
        self.show(out);
    }

    /// Makes the terminal show the line and the cursor.
    fn update(&mut self, out: &mut Out<'_>) {
        let line = self.line.replace('\t', TAB_SHOWN);
        let fits = columns(&line) <= TEXT_COLUMNS;
        if self.shown.wrapped {
            // Something was added at the end (a completion, a yank), or nothing changed: the terminal goes on wrapping.
            if self.cursor == line.len()
                && let Some(added) = line.strip_prefix(self.shown.text.as_str())
            {
                out(added.as_bytes());
                self.shown.text.push_str(added);
                self.shown.cursor = self.shown.text.len();
                return;
            }
            // The rows above cannot be reached without knowing the width: go on below them.
            out(b"\r\n");
            out(PROMPT.as_bytes());
            self.shown = Shown::default();
        }
        if fits {
            self.shown.window = None;
            self.shown.change(&line, self.cursor, out);
        } else {
            let start = self.shown.window.unwrap_or(0);
            let window = Window::around(&line, self.cursor, start);
            self.shown.window = Some(window.start);
            self.shown.change(&window.text, window.cursor, out);
        }
    }
}

impl Shown {
    /// Sends the difference between what is shown and `text` with the cursor at `cursor`; both fit in the row.
    fn change(&mut self, text: &str, cursor: usize, out: &mut Out<'_>) {
        let common = common_prefix([self.text.as_str(), text].into_iter()).len();
        if common < self.text.len() || common < text.len() {
            self.move_to(common, out);
            out(&text.as_bytes()[common..]);
            // More was shown than is there now, or its width is unknown.
            let shrinks = !self.text[common..].is_ascii()
                || !text[common..].is_ascii()
                || self.text.len() > text.len();
            if shrinks {
                out(b"\x1b[K");
            }
            self.text.clear();
            self.text.push_str(text);
            self.cursor = text.len();
        }
        self.move_to(cursor, out);
    }

    /// Moves the terminal's cursor within what is shown.
    fn move_to(&mut self, target: usize, out: &mut Out<'_>) {
        if target == self.cursor {
            return;
        }
        let (low, high) = (target.min(self.cursor), target.max(self.cursor));
        let distance = high - low;
        if !self.text[low..high].is_ascii() {
            // Widths unknown: from the first column.
            out(format!("\r\x1b[{}C", PROMPT.len()).as_bytes());
            out(&self.text.as_bytes()[..target]);
        } else if target < self.cursor {
            out(if distance == 1 {
                b"\x08".to_vec()
            } else {
                format!("\x1b[{distance}D").into_bytes()
            }
            .as_slice());
        } else {
            // Sending a character again moves over it, in fewer bytes where it is one.
            out(if distance <= 3 {
                self.text.as_bytes()[low..high].to_vec()
            } else {
                format!("\x1b[{distance}C").into_bytes()
            }
            .as_slice());
        }
        self.cursor = target;
    }
}

/// The part of a long line that is shown.
struct Window {
    start: usize,
    text: String,
    /// Byte offset in `text`.
    cursor: usize,
}

impl Window {
    /// The window around the cursor, at `start` if the cursor is inside that.
    fn around(line: &str, cursor: usize, start: usize) -> Self {
        let start = start.min(line.len());
        if line.is_char_boundary(start)
            && let Some(window) = Self::at(line, cursor, start)
        {
            return window;
        }
        // The cursor comes to stand in the middle, so that the next keys stay inside.
        let mut start = cursor;
        let mut width = 0;
        for (at, c) in line[..cursor].char_indices().rev() {
            width += width_at_most(c);
            if width > TEXT_COLUMNS / 2 {
                break;
            }
            start = at;
        }
        // One character fits in half a row, so this window has the cursor in it.
        Self::at(line, cursor, start).unwrap_or(Self {
            start,
            text: String::new(),
            cursor: 0,
        })
    }

    /// The window from `start` on; `None` where the cursor is not properly inside.
    fn at(line: &str, cursor: usize, start: usize) -> Option<Self> {
        let mut text = String::new();
        let mut width = 0;
        if start > 0 {
            text.push('<');
            width += 1;
        }
        if cursor < start {
            return None;
        }
        let mut shown_cursor = None;
        let mut end = line.len();
        for (at, c) in line[start..].char_indices() {
            let at = start + at;
            // One column is kept for `>`.
            if width + width_at_most(c) > TEXT_COLUMNS - 1 {
                end = at;
                break;
            }
            if at == cursor {
                shown_cursor = Some(text.len());
            }
            text.push(c);
            width += width_at_most(c);
        }
        if end < line.len() {
            text.push('>');
        } else if cursor == line.len() {
            shown_cursor = Some(text.len());
        }
        Some(Self {
            start,
            text,
            cursor: shown_cursor?,
        })
    }
}

/// Columns that a character takes at most.
fn width_at_most(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

fn columns(text: &str) -> usize {
    text.chars().map(width_at_most).sum()
}

fn before(line: &str, at: usize) -> usize {
    line[..at].char_indices().next_back().map_or(0, |(i, _)| i)
}

fn after(line: &str, at: usize) -> usize {
    line[at..].chars().next().map_or(at, |c| at + c.len_utf8())
}

/// Start of the word of letters and digits before `at`.
fn word_start(line: &str, at: usize) -> usize {
    let trimmed = line[..at].trim_end_matches(|c: char| !c.is_alphanumeric());
    trimmed.trim_end_matches(char::is_alphanumeric).len()
}

/// End of the word of letters and digits after `at`.
fn word_end(line: &str, at: usize) -> usize {
    let rest = line[at..].trim_start_matches(|c: char| !c.is_alphanumeric());
    line.len() - rest.trim_start_matches(char::is_alphanumeric).len()
}

/// Start of the word between blanks before `at`.
fn blank_word_start(line: &str, at: usize) -> usize {
    let trimmed = line[..at].trim_end_matches(' ');
    trimmed.trim_end_matches(|c| c != ' ').len()
}

/// What all of them start with.
pub(super) fn common_prefix<'t>(mut texts: impl Iterator<Item = &'t str>) -> &'t str {
    let Some(first) = texts.next() else {
        return "";
    };
    let mut length = first.len();
    for text in texts {
        let same = first[..length]
            .char_indices()
            .zip(text.chars())
            .find(|((_, a), b)| a != b);
        length = match same {
            Some(((at, _), _)) => at,
            None => length.min(text.len()),
        };
    }
    &first[..length]
}

/// Rows of names, down the columns as `ls` does it.
pub(super) fn in_columns(names: &[&str], width: usize) -> Vec<String> {
    let widest = names.iter().map(|n| n.chars().count()).max().unwrap_or(0) + 2;
    let per_row = (width / widest).max(1);
    let rows = names.len().div_ceil(per_row);
    (0..rows)
        .map(|row| {
            let mut text = String::new();
            for name in names.iter().skip(row).step_by(rows) {
                let pad = widest - name.chars().count();
                text.push_str(name);
                text.extend(core::iter::repeat_n(' ', pad));
            }
            text.truncate(text.trim_end().len());
            text
        })
        .collect()
}

#[cfg(test)]
#[path = "lineedit_tests.rs"]
mod tests;
