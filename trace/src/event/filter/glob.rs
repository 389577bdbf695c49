//! Strings with wildcards.

use alloc::vec::Vec;

/// What a string is compared with.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    /// This very string.
    Exact(Vec<u8>),
    /// A pattern with wildcards.
    Glob {
        pattern: Vec<u8>,
        /// The pattern began with `!`.
        not: bool,
    },
}

impl Pattern {
    /// What stands after `~`.
    pub(super) fn glob(text: &str) -> Pattern {
        let (not, text) = match text.strip_prefix('!') {
            Some(text) => (true, text),
            None => (false, text),
        };
        Pattern::Glob {
            pattern: text.into(),
            not,
        }
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Pattern::Exact(exact) => exact == text,
            Pattern::Glob { pattern, not } => glob(pattern, text) != *not,
        }
    }
}

/// Whether `pattern` describes the whole of `text`: `*` any bytes, `?` one, `[ac-e]` one of these, `[!ac-e]` one of the
/// others, `\` takes the next byte as it is. A `[` without its end stands for itself.
///
/// Goes back only to the last `*`: a later one can take over whatever an earlier one could have taken.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on if it does not match: after the last `*`, and the byte that it takes next.
    let mut back: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            back = Some((p, t));
            continue;
        }
        let Some(&byte) = text.get(t) else {
            return p == pattern.len();
        };
        if let Some(next) = one(pattern, p, byte) {
            p = next;
            t += 1;
            continue;
        }
        let Some((after, taken)) = back else {
            return false;
        };
        p = after;
        t = taken + 1;
        back = Some((after, t));
    }
}

/// Where the pattern goes on if its element at `p` takes `byte`.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => Some(p + 1),
        b'[' => match class(pattern, p + 1, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(p + 1),
        },
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Whether the class whose first byte is at `p` has `byte`, and where it ends; `None` if it does not end.
fn class(pattern: &[u8], mut p: usize, byte: u8) -> Option<(bool, usize)> {
    let inverted = pattern.get(p) == Some(&b'!');
    if inverted {
        p += 1;
    }
    let mut found = false;
    let start = p;
    loop {
        let low = *pattern.get(p)?;
        // A `]` in the first place is one of the bytes.
        if low == b']' && p > start {
            return Some((found != inverted, p + 1));
        }
        p += 1;
        let mut high = low;
        if pattern.get(p) == Some(&b'-') && pattern.get(p + 1).is_some_and(|b| *b != b']') {
            high = pattern[p + 1];
            p += 2;
        }
        found |= (low..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("*b*", "abc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[bx]c", "abc", true),
            ("a[!bx]c", "abc", false),
            ("a[a-c]c", "abc", true),
            ("a[]]c", "a]c", true),
            ("a[", "a[", true),
            ("a[b", "ab", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*aab", "aaaaab", true),
            ("[-a]", "-", true),
            ("[a-]", "-", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }
}
