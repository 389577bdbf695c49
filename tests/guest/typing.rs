//! The console under a person's hands.

use tests::{Guest, Setup};

const UP: &str = "\x1b[A";
const LEFT: &str = "\x1b[D";
const RIGHT: &str = "\x1b[C";
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[F";
const DELETE: &str = "\x1b[3~";
const BACKSPACE: &str = "\x7f";
const CTRL_A: &str = "\x01";
const CTRL_C: &str = "\x03";
const CTRL_E: &str = "\x05";
const CTRL_K: &str = "\x0b";
const CTRL_U: &str = "\x15";
const CTRL_W: &str = "\x17";
const TAB: &str = "\t";

/// Types keys and the enter key, and returns what the command printed.
fn typed(guest: &mut Guest, keys: &[&str]) -> String {
    guest.send(format!("{}\r", keys.concat()));
    let text = guest.expect_prompt().replace("\r\n", "\n");
    text.split_once('\n')
        .map_or(String::new(), |(_, output)| output.to_owned())
}

#[test]
fn editing_history_and_completion() {
    let mut guest = Setup::new().boot();
    for (keys, output) in [
        (&["cho hello", CTRL_A, "e"][..], "hello"),
        (&["cho hello", HOME, "e", END, "!"], "hello!"),
        (&["echo abXc", LEFT, LEFT, DELETE], "abc"),
        (&["echo abX", BACKSPACE, "c"], "abc"),
        (&["echo abc", LEFT, LEFT, RIGHT, "-"], "ab-c"),
        (&["echo one two three", CTRL_W, CTRL_W, "2"], "one 2"),
        (&["nonsense", CTRL_U, "echo clean"], "clean"),
        (
            &["echo keep DROP", LEFT, LEFT, LEFT, LEFT, CTRL_K, "it"],
            "keep it",
        ),
        (&["o x", CTRL_A, "ech", CTRL_E, "y"], "xy"),
        (&[UP], "xy"),
        (&["echo last"], "last"),
        (&[UP, UP], "xy"),
        (&["ech", TAB, " completed"], "completed"),
        (&["cat /boot/cmdl", TAB], ""),
        (&["cat /sys/kernel/tra", TAB, "tracing_o", TAB], "1"),
    ] {
        let got = typed(&mut guest, keys);
        if got.trim() != output {
            guest.fail(&format!("{keys:?} printed {got:?} and not {output:?}"));
        }
    }
    // Ctrl-c drops the line.
    guest.send(format!("echo dropped{CTRL_C}"));
    let output = guest.expect_prompt();
    assert!(!output.contains("\ndropped"), "{output:?}");
    // Several candidates: they are listed, and the line goes on behind a new prompt.
    guest.send(format!("s{TAB}{TAB}"));
    assert!(
        guest.expect_prompt().contains("seq"),
        "the candidates are listed"
    );
    assert_eq!(typed(&mut guest, &["eq 3"]), "1\n2\n3\n");
    guest.poweroff();
}

#[test]
fn nonsense_is_answered_in_one_line() {
    let mut guest = Setup::new().boot();
    for line in [
        "frobnicate",
        "cat /no/such/file",
        "cat /",
        "ls /no/such/folder",
        "| cat",
        "echo x |",
        "echo x >",
        "echo 'unclosed",
        "echo x > /boot/kernel",
        "echo x > /no/such/file",
        "kexec",
        "kexec --frobnicate",
        "head -n many /boot/README",
        "hexdump /no/such/file",
        "fault nothing",
    ] {
        let output = guest.run(line);
        if guest.status() == 0 {
            guest.fail(&format!("`{line}` has status 0"));
        }
        if output.trim().is_empty() {
            guest.fail(&format!("`{line}` says nothing"));
        }
    }
    assert_eq!(guest.run("").trim(), "");
    assert_eq!(guest.ok("echo fine").trim(), "fine");
    guest.poweroff();
}

#[test]
fn a_line_of_5000_characters_and_binary_garbage() {
    let mut guest = Setup::new().boot();
    let long = "x".repeat(4995);
    let output = typed(&mut guest, &["echo ", &long]);
    let taken = output.trim() == long;
    // Taken as a whole, or refused with a word.
    if guest.status() == 0 && !taken {
        guest.fail("a line of 5000 characters was cut without a word");
    }
    assert_eq!(guest.ok("echo fine").trim(), "fine");

    // Every byte, in an order that is no text and the same each time. No enter key: what would run is
    // anybody's guess (`poweroff`, say).
    let mut state: u32 = 1;
    let garbage: Vec<u8> = (0..4000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    guest.send(&garbage);
    guest.send(format!("{CTRL_C}{CTRL_C}"));
    guest.send("echo after-the-garbage\r");
    guest.expect("\nafter-the-garbage");
    guest.expect_prompt();
    assert_eq!(guest.ok("echo fine").trim(), "fine");
    guest.poweroff();
}

#[test]
fn a_pasted_page_loses_no_byte() {
    const LINES: usize = 300;
    let mut guest = Setup::new().boot();
    let text = |n: usize| {
        format!(
            "line {n:04} {}",
            "The quick brown fox jumps over it. ".repeat(2).trim()
        )
    };
    let page: String = (0..LINES)
        .map(|n| format!("echo \"{}\"\r", text(n)))
        .collect();
    guest.send(page);
    for n in 0..LINES {
        let output = guest.expect_prompt();
        let printed = tests::lines(&output).last().unwrap_or_default().to_owned();
        if printed != text(n) {
            guest.fail(&format!(
                "line {n} of the pasted page came out as {printed:?}"
            ));
        }
    }
    guest.poweroff();
}

/// A terminal that marks what is pasted (the runner asks it to) can paste tabs.
#[test]
fn a_pasted_tab_is_kept() {
    let mut guest = Setup::new().boot();
    let output = typed(&mut guest, &["\x1b[200~echo 'a\tb' | hexdump\x1b[201~"]);
    assert!(output.contains("61 09 62 0a"), "{output}");
    // And a typed one completes, as before.
    let output = typed(&mut guest, &["ech", TAB, "done"]);
    assert_eq!(output.trim(), "done");
    guest.poweroff();
}

/// A line's end is CR LF, once, whoever prints it: the editor after the enter key, a command, a message.
#[test]
fn a_line_ends_in_one_carriage_return() {
    let mut guest = Setup::new().boot();
    guest.send("echo one\r");
    let mut raw = guest.expect_prompt();
    guest.send("nothing-of-the-kind\r");
    raw += &guest.expect_prompt();
    guest.send(CTRL_C);
    raw += &guest.expect_prompt();
    assert!(raw.contains("\r\none\r\n"), "{raw:?}");
    assert!(!raw.contains("\r\r"), "{raw:?}");
    let lone = raw.replace("\r\n", "");
    assert!(!lone.contains('\n'), "{raw:?}");
    guest.poweroff();
}
