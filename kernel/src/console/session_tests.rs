use super::super::commands;
use super::super::genfs::RomFs;
use super::super::shell::CommandSets;
use super::super::shell::tests::TestEnv;
use super::super::tmpfs::TmpFs;
use super::super::vfs::Mounts;
use super::*;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

static SETS: CommandSets = &[&commands::ALL];

/// What a person sees who types these bytes, and the last line's status.
fn typed(bytes: &[u8]) -> (String, Option<i32>) {
    let (seen, status, _) = edited(bytes);
    (seen, status)
}

/// The same, and the line that is being typed at the end.
fn edited(bytes: &[u8]) -> (String, Option<i32>, String) {
    let env = TestEnv::default();
    let tmp = TmpFs::new(1 << 16);
    let rom = RomFs::new(vec![
        ("kernel".into(), b"ELF".as_slice()),
        ("keys/a b".into(), b"secret\n".as_slice()),
        ("keys/it's".into(), b"quoted\n".as_slice()),
    ]);
    let mut mounts = Mounts::new();
    mounts.mount("/tmp", &tmp).unwrap();
    mounts.mount("/boot", &rom).unwrap();
    mounts.mount("/sys/kernel/tracing", &tmp).unwrap();
    let mut session = Session::new(Shell::new(mounts, SETS, &env), &env);
    session.start();
    let mut status = None;
    for byte in bytes {
        status = session.feed(*byte).or(status);
    }
    (env.take(), status, session.editor.line().into())
}

#[test]
fn a_pasted_page_runs_line_by_line() {
    let (seen, status) = typed(b"echo a\r\nfalse\r\nstatus\r\n\r\n");
    assert_eq!(
        seen,
        "baton# echo a\r\na\nbaton# false\r\nbaton# status\r\n1\nbaton# \r\nbaton# "
    );
    assert_eq!(status, Some(0));
}

#[test]
fn the_prompt_stands_at_the_start_of_a_line() {
    assert_eq!(typed(b"echo -n x\r").0, "baton# echo -n x\r\nx\r\nbaton# ");
    assert_eq!(typed(b"abc\x03").0, "baton# abc^C\r\nbaton# ");
    // The end of a script's line is no key.
    assert_eq!(typed(b"echo x\n\x1c").0, "baton# echo x\r\nx\nbaton# ");
    let (seen, _) = typed(b"\x04");
    assert!(seen.starts_with("baton# \r\n(ctrl-d") && seen.ends_with(")\r\nbaton# "));
}

#[test]
fn commands_and_paths_complete() {
    for (keys, line) in [
        ("hist\t", "history "),
        ("cat /bo\t", "cat /boot/"),
        ("cat /bo\tk\t", "cat /boot/ke"),
        ("cat /bo\tker\t", "cat /boot/kernel "),
        ("cat /boot/keys/a\t", "cat /boot/keys/a\\ b "),
        ("cat /boot/keys/i\t", "cat /boot/keys/it\\'s "),
        ("cat '/boot/keys/a\t", "cat '/boot/keys/a b' "),
        ("cat '/boot/keys/i\t", "cat '/boot/keys/it'\\''s' "),
        ("cat \"/boot/keys/i\t", "cat \"/boot/keys/it's\" "),
        ("cat '/boot/ke\tr\t", "cat '/boot/kernel' "),
        ("echo x >/s\t\t\t", "echo x >/sys/kernel/tracing/"),
        ("echo x | he\tx\t", "echo x | hexdump "),
        ("help he\tl\t", "help help "),
        ("status /bo\t", "status /bo"),
        ("nonsense /bo\t", "nonsense /bo"),
        ("cd /boot\r\x01cat ker\t", "cat kernel "),
        ("cat /boot/../bo\t", "cat /boot/../boot/"),
        ("cat /none/x\t", "cat /none/x"),
        ("echo # /bo\t", "echo # /bo"),
    ] {
        assert_eq!(edited(keys.as_bytes()).2, line, "for {keys:?}");
    }
}

#[test]
fn what_is_completed_can_be_run() {
    let (seen, status) = typed(b"cat /boot/keys/a\t\rcat '/boot/keys/i\t\r");
    assert!(
        seen.contains("\nsecret\n") && seen.contains("\nquoted\n"),
        "{seen}"
    );
    assert_eq!(status, Some(0));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        typed(&bytes);
    }
}

#[test]
fn a_line_that_does_not_fit_is_not_run_in_part() {
    let line = |n: usize| [b"echo ".as_slice(), &vec![b'q'; n], b" > /tmp/x\r"].concat();
    let (seen, status) = typed(&line(MAX_LINE_BYTES));
    assert!(seen.contains("it was not run"), "{seen}");
    assert_eq!(status, Some(2));
    // Who takes characters back until it fits, has it run.
    let shortened = [
        b"echo ".as_slice(),
        &vec![b'q'; MAX_LINE_BYTES],
        b"\x15echo short\r",
    ];
    let (seen, status) = typed(&shortened.concat());
    assert!(seen.contains("\nshort\n"), "{seen}");
    assert_eq!(status, Some(0));
    // The longest line that fits.
    assert_eq!(typed(&line(MAX_LINE_BYTES - 14)).1, Some(0));
}

#[test]
fn ctrl_c_at_the_prompt_has_the_status_of_an_interrupted_line() {
    let (seen, _) = typed(b"ec\x03status\r");
    assert!(seen.contains("\n130\n"), "{seen}");
}
