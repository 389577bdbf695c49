//! What files take: words, numbers, switches, lists of numbers.
//!
//! Linux's `kstrtoul_from_user` (`lib/kstrtox.c`), `strstrip` (`lib/string_helpers.c`) and `trace_get_user`
//! (`kernel/trace/trace.c`). As there, what is taken as a C string ends at a NUL.

use crate::errno::Errno;

/// Bytes of a number that are looked at: those of `kstrtoul_from_user`'s buffer. What follows is not.
const NUMBER_BYTES: usize = 66;
/// The longest word of a list, in bytes: Linux's `EVENT_BUF_SIZE` and `PID_BUF_SIZE`.
const LIST_WORD_BYTES: usize = 127;
/// A page: the most that `filter` and `trigger` take is a byte less.
const PAGE_BYTES: usize = 4096;

/// C's `isspace`.
fn is_space(b: u8) -> bool {
    b.is_ascii_whitespace() || b == 0x0b
}

/// Up to the NUL, if there is one.
fn c_string(data: &[u8]) -> &[u8] {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    &data[..end]
}

/// The bytes without white space around them.
pub(super) fn strip(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|b| !is_space(*b));
    let start = start.unwrap_or(text.len());
    let end = text.iter().rposition(|b| !is_space(*b));
    &text[start..end.map_or(start, |last| last + 1)]
}

fn text(bytes: &[u8]) -> Result<&str, Errno> {
    core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)
}

/// The text without white space around it.
pub(super) fn word(data: &[u8]) -> Result<&str, Errno> {
    text(strip(c_string(data)))
}

/// What is written to `filter` and `trigger`: less than a page.
pub(super) fn command(data: &[u8]) -> Result<&str, Errno> {
    if data.len() >= PAGE_BYTES {
        return Err(Errno::EINVAL);
    }
    text(c_string(data))
}

/// Digits of a base from 2 to 16.
fn digits(text: &[u8], base: u32) -> Result<u64, Errno> {
    if text.is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut number = Some(0u64);
    for b in text {
        let digit = (*b as char).to_digit(base).ok_or(Errno::EINVAL)?;
        number = number
            .and_then(|number| number.checked_mul(base.into()))
            .and_then(|number| number.checked_add(digit.into()));
    }
    // What is no number is told before what is too large.
    number.ok_or(Errno::ERANGE)
}

/// A number, as Linux's `kstrtoul` with base 10: a sign `+` may stand before it, and one newline behind; no other white space.
pub(super) fn number(data: &[u8]) -> Result<u64, Errno> {
    let text = c_string(&data[..data.len().min(NUMBER_BYTES)]);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    digits(text.strip_prefix(b"+").unwrap_or(text), 10)
}

/// A number as `kstrtoul` reads it with base 0: `0x` for base 16, `0` for base 8.
pub(super) fn any_number(text: &[u8]) -> Result<u64, Errno> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    match text {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            digits(rest, 16)
        }
        [b'0', ..] => digits(text, 8),
        _ => digits(text, 10),
    }
}

/// `0` or `1`.
pub(super) fn switch(data: &[u8]) -> Result<bool, Errno> {
    match number(data)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// The words of a list, between white space or NULs.
///
/// # Errors
///
/// `EINVAL` in the place of a word that is too long.
pub(super) fn words(data: &[u8]) -> impl Iterator<Item = Result<&[u8], Errno>> {
    data.split(|b| is_space(*b) || *b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| match word.len() {
            0..=LIST_WORD_BYTES => Ok(word),
            _ => Err(Errno::EINVAL),
        })
}

/// A set of CPUs less than `nr_cpus` as hexadecimal digits, in groups of at most 8 between commas: Linux's `bitmap_parse`
/// (`lib/bitmap-str.c`). Answers with the CPUs, ascending.
///
/// # Errors
///
/// `EINVAL` for what is none, `EOVERFLOW` for a group of more than 32 bits and for a CPU that there is not.
pub(super) fn cpus(data: &[u8], nr_cpus: usize) -> Result<alloc::vec::Vec<usize>, Errno> {
    let mut text = c_string(data);
    while let Some((last, rest)) = text.split_last().filter(|(b, _)| is_space(**b)) {
        let _ = last;
        text = rest;
    }
    if text.is_empty() {
        return Err(Errno::EINVAL);
    }
    let mut cpus = alloc::vec::Vec::new();
    for (group, chunk) in text.rsplit(|b| *b == b',').enumerate() {
        // White space may stand before a group.
        let start = chunk.iter().position(|b| !is_space(*b)).unwrap_or(0);
        let chunk = &chunk[start..];
        let bits = digits(chunk, 16).map_err(|e| match e {
            Errno::ERANGE => Errno::EOVERFLOW,
            e => e,
        })?;
        if bits > u64::from(u32::MAX) || chunk.len() > 8 {
            return Err(Errno::EOVERFLOW);
        }
        for bit in (0..32).filter(|bit| bits >> bit & 1 != 0) {
            let cpu = group * 32 + bit;
            if cpu >= nr_cpus {
                return Err(Errno::EOVERFLOW);
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::{Errno, any_number, cpus, number, words};
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn numbers() {
        for (text, is) in [
            (&b"0"[..], Ok(0)),
            (b"7\n", Ok(7)),
            (b"+7", Ok(7)),
            (b"007", Ok(7)),
            (b"7\0x", Ok(7)),
            (b"18446744073709551615", Ok(u64::MAX)),
            (b"18446744073709551616", Err(Errno::ERANGE)),
            (b"99999999999999999999x", Err(Errno::EINVAL)),
            (b"", Err(Errno::EINVAL)),
            (b"\n", Err(Errno::EINVAL)),
            (b"+", Err(Errno::EINVAL)),
            (b"7\n\n", Err(Errno::EINVAL)),
            (b" 7", Err(Errno::EINVAL)),
            (b"7 ", Err(Errno::EINVAL)),
            (b"-1", Err(Errno::EINVAL)),
            (b"0x7", Err(Errno::EINVAL)),
            (b"\xff", Err(Errno::EINVAL)),
        ] {
            assert_eq!(number(text), is, "{text:?}");
        }
        // What does not fit the buffer is not seen.
        assert_eq!(number(&[b'0'; 67]), Ok(0));
        assert_eq!(number(&[[b'0'; 66].as_slice(), b"x"].concat()), Ok(0));
        for (text, is) in [
            (&b"0"[..], Ok(0)),
            (b"0x1F", Ok(31)),
            (b"017", Ok(15)),
            (b"08", Err(Errno::EINVAL)),
            (b"0x", Err(Errno::EINVAL)),
            (b"12", Ok(12)),
        ] {
            assert_eq!(any_number(text), is, "{text:?}");
        }
    }

    #[test]
    fn lists() {
        let found: Vec<_> = words(b" a\tbc\n\0d ").collect();
        assert_eq!(found, [Ok(&b"a"[..]), Ok(b"bc"), Ok(b"d")]);
        let long = [b'x'; 128];
        assert_eq!(words(&long[..127]).next(), Some(Ok(&long[..127])));
        assert_eq!(words(&long).next(), Some(Err(Errno::EINVAL)));
    }

    #[test]
    fn masks() {
        for (text, is) in [
            (&b"0"[..], Ok(vec![])),
            (b"5\n", Ok(vec![0, 2])),
            (b"1,00000001", Ok(vec![0, 32])),
            (b"00000000,5", Ok(vec![0, 2])),
            (b"", Err(Errno::EINVAL)),
            (b"\n", Err(Errno::EINVAL)),
            (b"g", Err(Errno::EINVAL)),
            (b"1,,1", Err(Errno::EINVAL)),
            (b"1 1", Err(Errno::EINVAL)),
            (b"-1", Err(Errno::EINVAL)),
            (b"123456789", Err(Errno::EOVERFLOW)),
            (b"100000000000000000", Err(Errno::EOVERFLOW)),
            (b"40", Err(Errno::EOVERFLOW)),
        ] {
            let nr_cpus = if text.contains(&b',') { 40 } else { 6 };
            assert_eq!(cpus(text, nr_cpus), is, "{text:?}");
        }
    }
}
