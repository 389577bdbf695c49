//! What files take: words, numbers, switches.

use crate::errno::Errno;

/// The text without white space around it.
pub(super) fn word(data: &[u8]) -> Result<&str, Errno> {
    Ok(core::str::from_utf8(data)
        .map_err(|_| Errno::EINVAL)?
        .trim())
}

/// A number, as Linux's `kstrtoul` with base 10: a sign `+` may stand before it, nothing but white space around it.
pub(super) fn number(data: &[u8]) -> Result<u64, Errno> {
    let text = word(data)?;
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Errno::EINVAL);
    }
    digits.parse().map_err(|_| Errno::ERANGE)
}

/// `0` or `1`.
pub(super) fn switch(data: &[u8]) -> Result<bool, Errno> {
    match number(data)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}
