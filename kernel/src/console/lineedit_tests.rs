use super::super::complete::Candidate;
use super::*;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

/// A small terminal: enough of a VT100 to check what a person sees. Every character takes one cell.
struct Terminal {
    width: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    /// A character was put in the last column: the next one goes to the next row.
    wrap_pending: bool,
    bells: usize,
    pending: Vec<u8>,
    bytes: usize,
}

impl Terminal {
    fn new(width: usize) -> Self {
        Self {
            width,
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            wrap_pending: false,
            bells: 0,
            pending: Vec::new(),
            bytes: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.pending.extend_from_slice(bytes);
        let text =
            String::from_utf8(core::mem::take(&mut self.pending)).expect("whole characters only");
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.go_to(self.row, 0),
                '\n' => {
                    self.go_to(self.row + 1, self.column);
                }
                '\x08' => self.go_to(self.row, self.column.saturating_sub(1)),
                '\x07' => self.bells += 1,
                '\x1b' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut number = String::new();
                    let last = loop {
                        match chars.next().expect("a whole control sequence") {
                            c @ ('0'..='9' | ';') => number.push(c),
                            c => break c,
                        }
                    };
                    let n = number.parse().unwrap_or(1);
                    match last {
                        'C' => self.go_to(self.row, (self.column + n).min(self.width - 1)),
                        'D' => self.go_to(self.row, self.column.saturating_sub(n)),
                        'K' => self.rows[self.row].truncate(self.column),
                        'H' => self.go_to(0, 0),
                        'J' => self.rows = vec![Vec::new()],
                        other => panic!("unknown control sequence {other}"),
                    }
                }
                c => {
                    assert!(!c.is_control(), "{c:?}");
                    if self.wrap_pending {
                        self.go_to(self.row + 1, 0);
                    }
                    let (row, column) = (self.row, self.column);
                    let cells = &mut self.rows[row];
                    cells.resize(cells.len().max(column + 1), ' ');
                    cells[column] = c;
                    if column + 1 == self.width {
                        self.wrap_pending = true;
                    } else {
                        self.column += 1;
                    }
                }
            }
        }
    }

    fn go_to(&mut self, row: usize, column: usize) {
        self.wrap_pending = false;
        self.row = row;
        self.column = column;
        while self.rows.len() <= row {
            self.rows.push(Vec::new());
        }
    }

    fn row_text(&self, row: usize) -> String {
        self.rows[row].iter().collect()
    }

    fn cursor_row(&self) -> String {
        self.row_text(self.row)
    }
}

struct Bench {
    editor: LineEditor,
    history: History,
    terminal: Terminal,
    words: Vec<&'static str>,
    events: Vec<Event>,
}

impl Bench {
    fn new(width: usize) -> Self {
        let mut bench = Self {
            editor: LineEditor::new(),
            history: History::new(),
            terminal: Terminal::new(width),
            words: vec![],
            events: vec![],
        };
        let terminal = &mut bench.terminal;
        bench.editor.start(&mut |bytes| terminal.write(bytes));
        bench
    }

    fn feed(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            let (terminal, words) = (&mut self.terminal, &self.words);
            let event = self.editor.feed(
                *byte,
                &self.history,
                &mut |line| words_completion(words, line),
                &mut |bytes| terminal.write(bytes),
            );
            if event == Event::None {
                continue;
            }
            if event == Event::Eof {
                self.terminal.write(b"\r\n");
            }
            if let Event::Line(line) = &event {
                self.history.push(line);
            }
            self.events.push(event);
            assert_eq!(self.terminal.column, 0, "the prompt starts a row");
            let terminal = &mut self.terminal;
            self.editor.start(&mut |bytes| terminal.write(bytes));
        }
        self
    }

    /// The line and the cursor as a `|` in it.
    fn state(&self) -> String {
        let (before, after) = self.editor.line().split_at(self.editor.cursor());
        format!("{before}|{after}")
    }

    /// What the terminal shows is the line, or a window of it around the cursor.
    fn check(&self) {
        let line = &self.editor.line().replace('\t', " ");
        let cursor = self.editor.cursor();
        let (before, after) = line.split_at(cursor);
        let shown = &self.editor.shown;
        if shown.wrapped {
            // From the row where it began, over all rows to the cursor at the end.
            assert_eq!(cursor, line.len());
            let text: String = PROMPT.chars().chain(line.chars()).collect();
            let cells = text.chars().count();
            let rows = cells.div_ceil(self.terminal.width);
            let from = self.terminal.row + 1 - rows;
            let seen: String = (from..=self.terminal.row)
                .map(|r| self.terminal.row_text(r))
                .collect();
            assert_eq!(seen, text);
            return;
        }
        let row = self.terminal.cursor_row();
        let seen = row.strip_prefix(PROMPT).expect("the prompt is there");
        let at = self.terminal.column - PROMPT.len();
        let (seen_before, seen_after): (String, String) = (
            seen.chars().take(at).collect(),
            seen.chars().skip(at).collect(),
        );
        if shown.window.is_none() {
            assert_eq!((seen_before.as_str(), seen_after.as_str()), (before, after));
            return;
        }
        assert!(columns(line) > TEXT_COLUMNS);
        match seen_before.strip_prefix('<') {
            Some(rest) if shown.window != Some(0) => {
                assert!(before.ends_with(rest) && before.len() > rest.len())
            }
            _ => assert_eq!(seen_before, before),
        }
        match seen_after.strip_suffix('>') {
            Some(rest) if seen_after != after => assert!(after.starts_with(rest)),
            _ => assert_eq!(seen_after, after),
        }
    }
}

fn words_completion(words: &[&'static str], line: &str) -> Completion {
    let start = line.rfind(' ').map_or(0, |at| at + 1);
    let candidates = words.iter().filter(|w| w.starts_with(&line[start..]));
    Completion {
        start,
        candidates: candidates
            .map(|w| Candidate {
                text: w.to_string(),
                label: w.to_string(),
                end: if w.ends_with('d') { "/" } else { " " },
            })
            .collect(),
    }
}

#[test]
fn keys_edit_the_line() {
    for (keys, expected) in [
        ("abc", "abc|"),
        ("abc\x1b[D\x1b[DX", "aX|bc"),
        ("abc\x1bOD\x1bODX", "aX|bc"),
        ("abc\x02\x02\x06X", "abX|c"),
        ("abc\x1b[D\x1b[C\x1b[C!", "abc!|"),
        ("abc\x01X\x05Y", "XabcY|"),
        ("abc\x1b[HX\x1b[FY", "XabcY|"),
        ("abc\x1bOHX\x1bOFY", "XabcY|"),
        ("abc\x1b[1~X\x1b[4~Y", "XabcY|"),
        ("abc\x1b[7~X\x1b[8~Y", "XabcY|"),
        ("abc\x7f\x08", "a|"),
        ("\x7f\x08abc", "abc|"),
        ("abc\x1b[H\x1b[3~", "|bc"),
        ("abc\x01\x04\x04", "|c"),
        ("abc\x1b[3~\x04", "abc|"),
        ("one two\x1b[D\x1b[D\x0b", "one t|"),
        ("one two\x1b[D\x1b[D\x15", "|wo"),
        ("one two-three\x17", "one |"),
        ("one two  \x17", "one |"),
        ("one two-three\x1b\x7f", "one two-|"),
        ("one two\x17\x19\x19", "one twotwo|"),
        ("one two\x01\x0b\x19", "one two|"),
        ("one two three\x1bb\x1bbX", "one X|two three"),
        ("one two three\x01\x1bf\x1bfX", "one twoX| three"),
        ("one two\x1b[1;5DX\x1b[1;5CY", "one XtwoY|"),
        ("one two\x01\x1bd", "| two"),
        ("héllo→\x1b[D\x1b[D\x7f", "hél|o→"),
        ("日本\x02語", "日語|本"),
        // What is not a key is left out, and does not take what follows with it.
        ("a\x1b[5~b\x1b[2~c\x1b[15~d\x1b[[Ae\x1bOPf", "abcdef|"),
        ("a\x1b[200~b c\x1b[201~d", "ab cd|"),
        (
            "a\x00\x07\x0f\x11\x12\x13\x14\x16\x18\x1a\x1c\x1d\x1e\x1fb",
            "ab|",
        ),
        ("a\x1bxb", "ab|"),
        ("a\x1b\x1b[Db", "b|a"),
        // An unfinished sequence, and then a control byte.
        ("a\x1b[12\x01b", "b|a"),
        ("a\x1bO\x7fb", "b|"),
        ("a\x1b[1111111111111111111111bcd", "a111111bcd|"),
    ] {
        let mut bench = Bench::new(80);
        bench.feed(keys.as_bytes());
        assert_eq!(bench.state(), expected, "for {keys:?}");
        bench.check();
        assert!(bench.events.is_empty());
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_with_a_bell() {
    let mut bench = Bench::new(80);
    bench.feed(b"a\xff\x80b\xc3(c\xe2\x82d\xc2\x9be\xf0\x9f\x98\x80\xed\xa0\x80f");
    assert_eq!(bench.state(), "ab(cde😀f|");
    assert!(bench.terminal.bells >= 5);
    bench.check();
    // ctrl-c inside a character.
    bench.feed(b"\xe2\x82\x03");
    assert_eq!(bench.events, [Event::Interrupt]);
}

#[test]
fn line_ends_count_once() {
    let mut bench = Bench::new(80);
    bench.feed(b"a\rb\nc\r\nd\r\r\ne\n\n\n\rf");
    let lines: Vec<String> = bench
        .events
        .iter()
        .map(|event| match event {
            Event::Line(line) => line.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines, ["a", "b", "c", "d", "", "e", "", "", ""]);
    assert_eq!(bench.state(), "f|");
}

#[test]
fn ctrl_c_and_ctrl_d() {
    let mut bench = Bench::new(80);
    bench.feed(b"abc\x02\x02\x03");
    assert_eq!(bench.events, [Event::Interrupt]);
    assert_eq!(bench.terminal.row_text(0), "baton# abc^C");
    assert_eq!(bench.terminal.cursor_row(), "baton# ");
    bench.feed(b"\x04");
    assert_eq!(bench.events[1], Event::Eof);
    assert_eq!(bench.state(), "|");
}

#[test]
fn history_goes_up_and_back() {
    let mut bench = Bench::new(80);
    bench.feed(b"one\rtwo\rtwo\rthree\r");
    for (keys, expected) in [
        ("dra", "dra|"),
        ("\x1b[A", "three|"),
        ("\x10", "two|"),
        ("\x1bOA", "one|"),
        ("\x1b[A", "one|"),
        ("X\x1b[B", "two|"),
        ("\x0e\x0e", "dra|"),
        ("\x1b[B", "dra|"),
        ("ft", "draft|"),
    ] {
        bench.feed(keys.as_bytes());
        assert_eq!(bench.state(), expected, "after {keys:?}");
        bench.check();
    }
    assert_eq!(bench.terminal.bells, 2);
    bench.feed(b"\x10\x10\r");
    assert_eq!(bench.events.last(), Some(&Event::Line("two".into())));
    bench.feed(b"\x10");
    assert_eq!(bench.state(), "two|");
}

#[test]
fn tab_completes_extends_and_lists() {
    let mut bench = Bench::new(80);
    bench.words = vec!["hexdump", "head", "help", "tail", "cmd"];
    bench.feed(b"ta\t");
    assert_eq!(bench.state(), "tail |");
    bench.feed(b"c\t");
    assert_eq!(bench.state(), "tail cmd/|");
    bench.feed(b"\x15h\t");
    assert_eq!(bench.state(), "he|");
    bench.feed(b"\t");
    assert_eq!((bench.state().as_str(), bench.terminal.bells), ("he|", 1));
    bench.feed(b"\t");
    assert_eq!(bench.terminal.row_text(1), "hexdump  head     help");
    assert_eq!(bench.terminal.cursor_row(), "baton# he");
    bench.feed(b"l\t");
    assert_eq!(bench.state(), "help |");
    bench.feed(b"zz\t");
    assert_eq!(bench.state(), "help zz|");
    // In the middle of a line, where the blank stands already.
    bench.feed(b"\x15ta x\x02\x02\t");
    assert_eq!(bench.state(), "tail| x");
    bench.check();
    // A key between two tabs starts over.
    bench.feed(b"\x05\x15he\tx\x7f\t");
    assert_eq!(bench.terminal.cursor_row(), "baton# he");
    bench.check();
}

#[test]
fn a_pasted_tab_is_text() {
    let mut bench = Bench::new(80);
    bench.words = vec!["tail"];
    bench.feed(b"\x1b[200~ta\tb\nta\t\x1b[201~");
    assert_eq!(bench.events, [Event::Line("ta\tb".into())]);
    assert_eq!(bench.state(), "ta\t|");
    bench.check();
    bench.feed(b"\x1b[D\x1b[Dx");
    assert_eq!(bench.state(), "tx|a\t");
    bench.check();
    bench.feed(b"\x05\x15ta\t");
    assert_eq!(bench.state(), "tail |");
}

#[test]
fn a_long_list_is_cut() {
    let mut bench = Bench::new(80);
    let words: Vec<String> = (0..MAX_LISTED + 50).map(|i| format!("w{i:04}")).collect();
    bench.words = words.iter().map(|w| &*w.clone().leak()).collect();
    bench.feed(b"w\t\t\t");
    let text: Vec<String> = (0..bench.terminal.rows.len())
        .map(|r| bench.terminal.row_text(r))
        .collect();
    assert!(text.iter().any(|row| row == "..."));
    assert!(text.iter().all(|row| row.chars().count() <= LIST_COLUMNS));
    bench.check();
}

#[test]
fn a_line_of_5000_characters_is_typed_edited_and_run() {
    for width in [80, 132, 1000] {
        let text: String = (0..5000)
            .map(|i| char::from(b'a' + (i % 26) as u8))
            .collect();
        let mut bench = Bench::new(width);
        let before = bench.terminal.bytes;
        bench.feed(text.as_bytes());
        assert_eq!(
            bench.terminal.bytes - before,
            5000,
            "typing at the end is echoed, nothing more"
        );
        bench.check();
        // Into the middle: a window on a new row, and few bytes for each key.
        let before = bench.terminal.bytes;
        for keys in [
            "\x02", "\x02", "X", "\x7f", "\x01", "Y", "\x1bf", "\x05", "Z", "\x1bb",
        ] {
            bench.feed(keys.as_bytes());
            bench.check();
        }
        assert!(bench.terminal.bytes - before < 10 * 300);
        let typed = bench.editor.line().to_string();
        assert_eq!(typed, format!("Y{text}Z"));
        bench.feed(b"\r");
        assert_eq!(bench.events, [Event::Line(typed.clone())]);
        // It comes back whole from the history, and goes again.
        bench.feed(b"\x10");
        assert_eq!(bench.editor.line(), typed);
        bench.check();
        bench.feed(b"\x15ok");
        assert_eq!(bench.terminal.cursor_row(), "baton# ok");
        bench.check();
    }
}

#[test]
fn what_is_too_long_is_refused_with_a_bell() {
    let mut bench = Bench::new(80);
    bench.feed("x".repeat(MAX_LINE_BYTES).as_bytes());
    assert_eq!(bench.terminal.bells, 0);
    bench.feed("y→".as_bytes());
    assert_eq!(bench.terminal.bells, 2);
    assert_eq!(bench.editor.line().len(), MAX_LINE_BYTES);
    bench.feed(b"\x7f");
    bench.feed("→".as_bytes());
    assert_eq!(bench.terminal.bells, 3);
    // Cut all, put it in once, and not a second time.
    bench.feed(b"\x15\x19\x19");
    assert_eq!(bench.terminal.bells, 4);
    assert_eq!(bench.editor.line().len(), MAX_LINE_BYTES - 1);
    bench.check();
}

#[test]
fn hidden_and_shown_again() {
    let mut bench = Bench::new(80);
    bench.feed(b"echo hello\x02\x02");
    let terminal = &mut bench.terminal;
    bench.editor.hide(&mut |b| terminal.write(b));
    assert_eq!(terminal.cursor_row(), "");
    terminal.write(b"[1.0] a message\r\n");
    bench.editor.show(&mut |b| terminal.write(b));
    assert_eq!(bench.terminal.row_text(0), "[1.0] a message");
    assert_eq!(bench.terminal.cursor_row(), "baton# echo hello");
    bench.check();
    bench.feed(b"X\x0c");
    assert_eq!(
        (bench.terminal.row, bench.terminal.cursor_row().as_str()),
        (0, "baton# echo helXlo")
    );
    bench.check();
}

#[test]
fn names_in_columns() {
    assert_eq!(in_columns(&[], 79), Vec::<String>::new());
    assert_eq!(
        in_columns(&["a", "b", "c", "d", "e"], 6),
        ["a  d", "b  e", "c"]
    );
    assert_eq!(in_columns(&["long-name", "b"], 5), ["long-name", "b"]);
    assert_eq!(common_prefix(["abc", "abd", "ab"].into_iter()), "ab");
    assert_eq!(common_prefix(["é", "è"].into_iter()), "");
}

/// Keys as a person (and a cat on the keyboard) types them.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let special: Vec<&'static str> = vec![
        "\x1b[A",
        "\x1b[B",
        "\x1b[C",
        "\x1b[D",
        "\x1bOC",
        "\x1b[H",
        "\x1b[F",
        "\x1b[3~",
        "\x7f",
        "\x01",
        "\x02",
        "\x04",
        "\x05",
        "\x06",
        "\x0b",
        "\x0e",
        "\x10",
        "\x15",
        "\x17",
        "\x19",
        "\x1bb",
        "\x1bf",
        "\x1bd",
        "\t",
        "\r",
        "\x0c",
        "\x03",
        "\x1b[1;5C",
        "\x1b[200~",
        "\x1b[201~",
    ];
    prop_oneof![
        8 => "[a-z0-9 _/é→-]{1,12}".prop_map(String::into_bytes),
        2 => "[a-z ]{30,100}".prop_map(String::into_bytes),
        10 => proptest::sample::select(special).prop_map(|s| s.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_screen_shows_the_line(
        keys in proptest::collection::vec(key(), 1..60),
        width in prop_oneof![Just(80usize), Just(81), Just(100), Just(132), Just(200)],
    ) {
        let mut bench = Bench::new(width);
        bench.words = vec!["alpha", "alps", "beta", "cd", "quite-a-long-word-to-complete-here"];
        for keys in keys {
            bench.feed(&keys);
            bench.check();
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bench = Bench::new(80);
        bench.words = vec!["alpha", "alps"];
        bench.feed(&bytes);
        bench.check();
    }
}
