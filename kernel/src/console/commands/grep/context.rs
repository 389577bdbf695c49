//! The lines around those that are asked for, as GNU grep's `-A`, `-B` and `-C` show them.

use super::super::super::shell::CmdError;
use super::super::args::Args;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

/// Most bytes of lines that are kept because a line that is asked for may follow.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Which lines stand near one that was asked for.
pub(super) struct Context {
    /// How many before one, and after one.
    before: usize,
    after: usize,
    /// The last lines, none of which was printed, with their numbers.
    kept: VecDeque<(u64, Vec<u8>)>,
    kept_bytes: usize,
    /// Lines right before `kept` that there was no room for.
    forgotten: usize,
    /// Lines that are still to be printed after the last one that was asked for.
    due: usize,
    /// The last line of this input that was printed; 0 for none.
    last: u64,
    /// Something was printed, of whichever input.
    printed: bool,
}

/// What comes before a line that was asked for.
pub(super) struct Before {
    /// There is a gap to what was printed before.
    pub(super) separated: bool,
    /// Lines that should be here and were too long to keep.
    pub(super) forgotten: usize,
    /// The lines, with their numbers.
    pub(super) lines: VecDeque<(u64, Vec<u8>)>,
}

impl Context {
    /// What the options ask for; `None` if nothing.
    pub(super) fn wanted(args: &Args<'_>) -> Result<Option<Self>, CmdError> {
        let number = |letters: &[char]| {
            let mut given = args.options.iter().rev();
            let found = given.find(|(letter, _)| letters.contains(letter));
            found.map(|(_, text)| length(text)).transpose()
        };
        let both = number(&['C', '#'])?;
        let (before, after) = (number(&['B'])?.or(both), number(&['A'])?.or(both));
        if before.or(after).is_none() {
            return Ok(None);
        }
        Ok(Some(Context {
            before: before.unwrap_or(0),
            after: after.unwrap_or(0),
            kept: VecDeque::new(),
            kept_bytes: 0,
            forgotten: 0,
            due: 0,
            last: 0,
            printed: false,
        }))
    }

    /// Another input begins.
    pub(super) fn begin(&mut self) {
        self.forget();
        self.due = 0;
        self.last = 0;
    }

    fn forget(&mut self) -> VecDeque<(u64, Vec<u8>)> {
        self.kept_bytes = 0;
        self.forgotten = 0;
        core::mem::take(&mut self.kept)
    }

    /// The line `number` is asked for: what comes before it.
    pub(super) fn selected(&mut self, number: u64) -> Before {
        let forgotten = self.forgotten;
        let lines = self.forget();
        let first = number - (lines.len() + forgotten) as u64;
        let follows = self.last != 0 && first == self.last + 1;
        let separated = self.printed && !follows;
        self.printed = true;
        self.last = number;
        self.due = self.after;
        Before {
            separated,
            forgotten,
            lines,
        }
    }

    /// The line `number` is not. Whether it is to be printed as one that follows; if not, it is kept.
    pub(super) fn rejected(&mut self, number: u64, line: &[u8]) -> bool {
        if self.due > 0 {
            self.due -= 1;
            self.last = number;
            return true;
        }
        if self.before == 0 {
            return false;
        }
        self.kept.push_back((number, line.to_vec()));
        self.kept_bytes += line.len();
        // No more than were asked for, and of those the newest for which there is room.
        while self.kept.len() + self.forgotten > self.before {
            match self.forgotten {
                0 => self.drop_oldest(),
                _ => self.forgotten -= 1,
            }
        }
        while self.kept_bytes > MAX_KEPT_BYTES {
            self.drop_oldest();
            self.forgotten += 1;
        }
        false
    }

    fn drop_oldest(&mut self) {
        if let Some((_, line)) = self.kept.pop_front() {
            self.kept_bytes -= line.len();
        }
    }
}

/// A number of lines; one that no machine could hold is as good as all lines.
fn length(text: &str) -> Result<usize, CmdError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        let why = format!("{text}: this is no number of lines");
        return Err(CmdError::usage(why));
    }
    Ok(text.parse().unwrap_or(usize::MAX))
}
