//! The kernel's command line: words `name` or `name=value`, split at white space, as Linux has it.

/// A command line. A name that stands twice counts with its last value, as in Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmdLine<'a>(pub &'a str);

/// The names that the kernel understands, for the message about the ones it does not.
pub const KNOWN: &[&str] = &[
    "kho",
    "kho_scratch",
    "loglevel",
    "maxcpus",
    "nosmp",
    "panic",
    "ramtrace.mem_address",
    "ramtrace.mem_size",
    "trace_buf_size",
    "trace_clock",
    "trace_event",
    "trace_instance",
    "trace_options",
];

impl<'a> CmdLine<'a> {
    /// All words as (name, value).
    pub fn words(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.0
            .split_ascii_whitespace()
            .map(|word| match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            })
    }

    /// The value of `name`, or `None` where it does not stand there or has none.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.words().filter(|(n, _)| *n == name).last()?.1
    }

    /// The names that are not among [`KNOWN`].
    pub fn unknown(&self) -> impl Iterator<Item = &'a str> {
        self.words()
            .map(|(name, _)| name)
            .filter(|name| !KNOWN.contains(name))
    }

    /// Names with values that count for nothing (the default does instead), and what should stand there: of those names
    /// whose readers cannot say so themselves.
    pub fn wrong(&self) -> impl Iterator<Item = (&'a str, &'a str, &'static str)> {
        self.words().filter_map(|(name, value)| {
            let value = value.unwrap_or_default();
            let (good, wanted) = match name {
                "loglevel" => (value.parse::<u8>().is_ok(), "a number from 0 to 255"),
                "maxcpus" => (value.parse::<usize>().is_ok(), "a number of CPUs"),
                "panic" => (value.parse::<i64>().is_ok(), "a number of seconds"),
                "trace_buf_size" => (
                    parse_size(value).is_some_and(|bytes| bytes > 0),
                    "a size as 64K or 2M",
                ),
                "ramtrace.mem_address" => (
                    parse_address(value).is_some(),
                    "an address as 0x8000000 or 128M",
                ),
                "ramtrace.mem_size" => {
                    (parse_size(value).is_some(), "a size as 16M, or 0 for none,")
                }
                _ => (true, ""),
            };
            (!good).then_some((name, value, wanted))
        })
    }
}

/// `on`, `off`, and the other ways in which Linux's switches may be written.
pub fn parse_switch(text: &str) -> Option<bool> {
    match text.trim() {
        "on" | "1" | "y" | "Y" | "yes" => Some(true),
        "off" | "0" | "n" | "N" | "no" => Some(false),
        _ => None,
    }
}

/// A size in bytes: a decimal number with an optional `K`, `M` or `G`. `None` for anything else, or beyond `u64`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

/// An address: a hexadecimal number behind `0x`, or what [`parse_size`] reads.
pub fn parse_address(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => parse_size(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values() {
        assert_eq!(
            ["on", "1\n", "off", "0", "", "maybe"].map(parse_switch),
            [Some(true), Some(true), Some(false), Some(false), None, None]
        );
        let line = CmdLine(" a=1  b kho_scratch=16M a=2=3\n");
        assert_eq!(line.value("a"), Some("2=3"));
        assert_eq!(line.value("b"), None);
        assert_eq!(line.value("kho_scratch"), Some("16M"));
        assert_eq!(line.unknown().collect::<Vec<_>>(), ["a", "b", "a"]);
    }

    #[test]
    fn wrong_values_are_told() {
        let line = CmdLine(
            "loglevel=x panic=-1 trace_buf_size=0 kho_scratch=y loglevel=7 panic ramtrace.mem_size=0 ramtrace.mem_address=1x",
        );
        let wrong: Vec<_> = line.wrong().map(|(name, value, _)| (name, value)).collect();
        let expected = [
            ("loglevel", "x"),
            ("trace_buf_size", "0"),
            ("panic", ""),
            ("ramtrace.mem_address", "1x"),
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("4096", Some(4096)),
            ("16M", Some(16 << 20)),
            ("1g", Some(1 << 30)),
            ("", None),
            ("M", None),
            ("1x", None),
            ("-1", None),
            ("99999999999999G", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
            assert_eq!(parse_address(text), want, "{text}");
        }
        assert_eq!(parse_address("0x80_0000"), None);
        assert_eq!(parse_address("0x800000"), Some(8 << 20));
    }
}
