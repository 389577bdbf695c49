//! Reading a command's options, as `getopt` does: `-n 5`, `-n5`, `-vn 5`, `--`, options after operands.

use super::super::shell::CmdError;
use alloc::format;
use alloc::vec::Vec;

/// What was typed after a command's name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    /// In the order typed: the letter, and the value of one that has a value (otherwise empty).
    /// A `-5` is the option `#` with the value `5`.
    pub options: Vec<(char, &'a str)>,
    /// All else. A lone `-` is one.
    pub operands: Vec<&'a str>,
}

impl<'a> Args<'a> {
    /// Takes `args` apart. `flags` are the letters without a value, `valued` those with one; with a `#` in `valued`,
    /// `-5` is accepted.
    pub fn read(args: &[&'a str], flags: &str, valued: &str) -> Result<Self, CmdError> {
        let mut read = Self::default();
        let mut rest = args.iter();
        while let Some(&arg) = rest.next() {
            if arg == "--" {
                read.operands.extend(rest);
                break;
            }
            let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
                read.operands.push(arg);
                continue;
            };
            if valued.contains('#') && letters.bytes().all(|b| b.is_ascii_digit()) {
                read.options.push(('#', letters));
                continue;
            }
            for (at, letter) in letters.char_indices() {
                if letter != '#' && valued.contains(letter) {
                    let attached = &letters[at + letter.len_utf8()..];
                    let value = match attached {
                        "" => *rest.next().ok_or_else(|| {
                            CmdError::usage(format!("-{letter}: it needs a value"))
                        })?,
                        attached => attached,
                    };
                    read.options.push((letter, value));
                    break;
                }
                if !flags.contains(letter) {
                    return Err(CmdError::usage(format!("{arg}: no such option")));
                }
                read.options.push((letter, ""));
            }
        }
        Ok(read)
    }

    /// The flag was given.
    pub fn has(&self, flag: char) -> bool {
        self.options.iter().any(|(letter, _)| *letter == flag)
    }

    /// Where the number of operands is wrong, a sentence.
    pub fn operands_at_most(&self, most: usize) -> Result<(), CmdError> {
        match self.operands.get(most) {
            Some(extra) => Err(CmdError::usage(format!("{extra}: one argument too many"))),
            None => Ok(()),
        }
    }
}

/// A count, with `K`, `M` or `G` (powers of 1024) behind it.
pub fn count(text: &str) -> Result<u64, CmdError> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1u64),
    };
    // `parse` would take a plus sign.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CmdError::usage(format!("{text}: not a number")));
    }
    let count = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    count.ok_or_else(|| CmdError::usage(format!("{text}: the number is too large")))
}

/// Seconds as people type them, digits with or without a fraction, in ns (what is below one is cut off); `None` for anything else, and for
/// more than 1000000000.
pub fn nanos(text: &str) -> Option<u64> {
    const MOST: u64 = 1_000_000_000;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole: u64 = match whole {
        "" => 0,
        whole => whole.parse().ok()?,
    };
    let places = fraction.bytes().chain(core::iter::repeat(b'0')).take(9);
    let below = places.fold(0, |ns, digit| ns * 10 + u64::from(digit - b'0'));
    let ns = whole.checked_mul(1_000_000_000)?.checked_add(below)?;
    (ns <= MOST * 1_000_000_000).then_some(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_operands() {
        let read =
            Args::read(&["-vn", "5", "x", "-n7", "-", "-12", "--", "-v"], "v", "n#").unwrap();
        assert_eq!(
            read.options,
            [('v', ""), ('n', "5"), ('n', "7"), ('#', "12")]
        );
        assert_eq!(read.operands, ["x", "-", "-v"]);
        for bad in [["-x"], ["-n"], ["-é"], ["--all"]] {
            assert!(matches!(
                Args::read(&bad, "v", "n"),
                Err(CmdError::Usage(_))
            ));
        }
    }

    #[test]
    fn times() {
        for (text, ns) in [
            ("0", 0),
            ("2", 2_000_000_000),
            ("0.5", 500_000_000),
            (".25", 250_000_000),
            ("3.", 3_000_000_000),
            ("0.0000000019", 1),
            ("1000000000", 1_000_000_000_000_000_000),
        ] {
            assert_eq!(nanos(text), Some(ns), "{text}");
        }
        for bad in [
            "",
            ".",
            "1e3",
            "nan",
            "inf",
            "+1",
            "-1",
            "1.2.3",
            "1 ",
            "0x1",
            "1000000001",
            "1000000000.000000001",
            "99999999999999999999",
        ] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("3K"), Ok(3072));
        assert_eq!(count("2M"), Ok(2 << 20));
        for bad in [
            "",
            "K",
            "-1",
            "+1",
            "x",
            "1.5",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert!(count(bad).is_err(), "{bad}");
        }
    }
}
