use super::super::commands;
use super::super::genfs::{GenFile, GenFs};
use super::super::tmpfs::TmpFs;
use super::super::vfs::{DirEntry, FileSystem, Stat};
use super::*;
use core::cell::RefCell;
use proptest::prelude::*;
use trace::errno::Errno;

/// A machine that remembers what was printed, and whose person types ctrl-c after so many polls.
#[derive(Default)]
pub struct TestEnv {
    pub printed: RefCell<Vec<u8>>,
    pub lines: RefCell<Vec<String>>,
    polls_left: Cell<Option<u32>>,
}

impl TestEnv {
    pub fn take(&self) -> String {
        String::from_utf8_lossy(&self.printed.take()).into_owned()
    }
}

impl Env for TestEnv {
    fn print(&self, bytes: &[u8]) {
        self.printed.borrow_mut().extend_from_slice(bytes);
    }

    fn interrupted(&self) -> bool {
        match self.polls_left.get() {
            None => false,
            Some(0) => true,
            Some(n) => {
                self.polls_left.set(Some(n - 1));
                false
            }
        }
    }

    fn on_command(&self, line: &str) {
        self.lines.borrow_mut().push(line.to_string());
    }
}

/// Remembers each write, as a control file sees it.
#[derive(Default)]
struct Marker {
    writes: RefCell<Vec<(String, WriteMode)>>,
    /// Lines that were taken out of `queue`.
    taken: Cell<usize>,
}

impl FileSystem for Marker {
    fn list(&self, _path: &str) -> Result<Vec<DirEntry>, Errno> {
        Ok(Vec::new())
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        Ok(match path {
            "" => Stat::dir(false),
            "marker" | "picky" | "pipe" | "queue" => Stat::file(0, true, true),
            "locked" => Stat::file(0, true, false),
            _ => return Err(Errno::ENOENT),
        })
    }

    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        if path == "pipe" {
            out.write(b"one\n")?;
            out.write(b"two\n")?;
            // Nothing more comes, as from a quiet `trace_pipe`.
            loop {
                out.poll()?;
            }
        }
        if path == "queue" {
            // As `trace_pipe`: what is read is used up.
            loop {
                out.poll()?;
                self.taken.set(self.taken.get() + 1);
                out.write(format!("event {}\n", self.taken.get()).as_bytes())?;
            }
        }
        // Ends only when the reader has had enough.
        loop {
            out.write(b"y\n")?;
        }
    }

    fn write(&self, path: &str, data: &[u8], mode: WriteMode) -> Result<(), FsError> {
        if path == "picky" && data != b"1\n" {
            return Err(FsError::new(Errno::EINVAL, "only a 1 is taken here"));
        }
        let text = String::from_utf8_lossy(data).into_owned();
        self.writes.borrow_mut().push((text, mode));
        Ok(())
    }
}

static ROM: [GenFile; 4] = [
    GenFile::read_only("ten", |out| {
        // In pieces that are no lines.
        let text = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\n";
        text.as_bytes()
            .chunks(7)
            .try_for_each(|piece| out.write(piece))?;
        Ok(())
    }),
    GenFile::read_only("open", |out| Ok(out.write(b"no newline")?)),
    GenFile::read_only("broken", |out| {
        out.write(b"some\n")?;
        Err(Errno::EIO.into())
    }),
    GenFile::write_only("ctl", |_| Ok(())),
];

static MORE: [Command; 3] = [
    Command::new("job", "job", "says where it runs", "", |ctx, _, out| {
        let place = if ctx.background { "back" } else { "fore" };
        Ok(out.write(format!("{place}ground\n").as_bytes())?)
    })
    .in_background(),
    Command::new(
        "fail",
        "fail",
        "fails after some output",
        "",
        |_, _, out| {
            out.write(b"partial\n")?;
            Err(CmdError::failed("disk: on fire"))
        },
    ),
    Command::new("spin", "spin", "writes until stopped", "", |_, _, out| {
        loop {
            out.write(b"x\n")?;
        }
    }),
];

static SETS: CommandSets = &[&commands::ALL, &MORE];

/// Runs the lines; what they printed, and the status of the last one.
fn run_with(env: &TestEnv, marker: &Marker, lines: &[&str]) -> (String, i32) {
    let tmp = TmpFs::new(64 * 1024);
    let rom = GenFs::new(&ROM);
    let mut mounts = Mounts::new();
    mounts.mount("/tmp", &tmp).unwrap();
    mounts.mount("/rom", &rom).unwrap();
    mounts.mount("/dev", marker).unwrap();
    let mut shell = Shell::new(mounts, SETS, env);
    let mut status = 0;
    for line in lines {
        shell.history.push(line);
        status = shell.run(line);
    }
    (env.take(), status)
}

fn run(lines: &[&str]) -> (String, i32) {
    run_with(&TestEnv::default(), &Marker::default(), lines)
}

#[test]
fn lines_and_what_they_print() {
    for (line, printed, status) in [
        ("", "", 0),
        ("echo hello", "hello\n", 0),
        ("job", "foreground\n", 0),
        ("job & job", "background\nforeground\n", 0),
        ("echo a && job &", "a\nbackground\n", 0),
        ("echo a &", "echo: it cannot run in the background\n", 2),
        (
            "job > /tmp/f &",
            "job: it runs in the background without pipes and redirects only\n",
            2,
        ),
        (
            "cat /rom/ten | job &",
            "job: it runs in the background without pipes and redirects only\n",
            2,
        ),
        ("echo", "\n", 0),
        ("echo -n a b", "a b", 0),
        ("echo -e 'a\\tb\\x41\\0101\\\\\\cno'", "a\tbAA\\", 0),
        ("echo -x --help -n", "-x --help -n\n", 0),
        ("cat /rom/ten | head -n 2", "one\ntwo\n", 0),
        ("cat /rom/ten | head -3 | tail -n 1", "three\n", 0),
        ("head -c 5 /rom/ten", "one\nt", 0),
        ("head -n 0 /rom/ten", "", 0),
        ("tail -2 /rom/ten", "nine\nten\n", 0),
        ("tail -n +9 /rom/ten", "nine\nten\n", 0),
        ("tail -c 4 /rom/ten", "ten\n", 0),
        ("tail -c +47 /rom/ten", "en\n", 0),
        ("tail -n 0 /rom/ten", "", 0),
        ("tail -n 1 /rom/open", "no newline", 0),
        (
            "head -n1 /rom/ten /rom/open",
            "==> /rom/ten <==\none\n\n==> /rom/open <==\nno newline",
            0,
        ),
        ("cat /rom/ten | wc -l", "10\n", 0),
        ("wc /rom/ten", "     10      10      49 /rom/ten\n", 0),
        (
            "wc -w /rom/ten /rom/open",
            "10 /rom/ten\n2 /rom/open\n12 total\n",
            0,
        ),
        ("cat /rom/ten | grep o | wc -l", "3\n", 0),
        ("grep -n ^t /rom/ten", "2:two\n3:three\n10:ten\n", 0),
        ("grep -vc e /rom/ten", "3\n", 0),
        ("grep -i TEN /rom/ten /rom/open", "/rom/ten:ten\n", 0),
        ("grep -o 'e*n$' /rom/ten", "en\nen\n", 0),
        ("grep 'no new' /rom/open", "no newline\n", 0),
        ("grep nothing /rom/ten", "", 1),
        (
            "grep -n -A 1 ^t /rom/ten",
            "2:two\n3:three\n4-four\n--\n10:ten\n",
            0,
        ),
        (
            "grep -B 1 ne /rom/ten /rom/open",
            "/rom/ten:one\n--\n/rom/ten-eight\n/rom/ten:nine\n--\n/rom/open:no newline\n",
            0,
        ),
        ("grep -q -A 1 two /rom/ten && echo yes", "yes\n", 0),
        ("grep -q two /rom/ten && echo yes", "yes\n", 0),
        ("grep nothing /rom/ten | wc -l", "0\n", 0),
        ("cat /rom/ten | grep -E '^(one|ten)$'", "one\nten\n", 0),
        (
            "cat -",
            "cat: nothing to read: name a file, or put it behind a `|`; usage: cat [FILE...]\n",
            2,
        ),
        (
            "grep x",
            "grep: nothing to read: name a file, or put it behind a `|`; usage: grep [-v] [-i] [-c] [-n] [-o] [-q] [-w] [-x] [-A NUM] [-B NUM] [-C NUM] [-E | -F] PATTERN [FILE...]\n",
            2,
        ),
        (
            "echo mid | cat /rom/open - /rom/open",
            "no newlinemid\nno newline",
            0,
        ),
        ("echo gone | cat /rom/open", "no newline", 0),
        ("echo gone | echo kept", "kept\n", 0),
        ("seq 3", "1\n2\n3\n", 0),
        ("seq 10 -5 -5", "10\n5\n0\n-5\n", 0),
        ("seq -w 9 11", "09\n10\n11\n", 0),
        ("seq -f 'n%03gx' 2", "n001x\nn002x\n", 0),
        ("seq 5 1", "", 0),
        (
            "seq 9223372036854775806 9223372036854775807",
            "9223372036854775806\n9223372036854775807\n",
            0,
        ),
        (
            "seq 1 0 2",
            "seq: a step of 0 leads nowhere; usage: seq [-w] [-f FORMAT] [FIRST [STEP]] LAST\n",
            2,
        ),
        ("true; status", "0\n", 0),
        ("false; status", "1\n", 0),
        ("false; echo $?; echo $?", "1\n0\n", 0),
        ("false && echo no || echo yes", "yes\n", 0),
        ("true || echo no; echo always", "always\n", 0),
        (
            "nonsense -x",
            "nonsense: unknown command; `help` lists those there are\n",
            127,
        ),
        (
            "echo a | nonsense",
            "nonsense: unknown command; `help` lists those there are\n",
            127,
        ),
        ("echo 'open", "baton: the ' at column 6 has no partner\n", 2),
        (
            "head -n x /rom/ten",
            "head: x: not a number; usage: head [-n LINES | -LINES | -c BYTES] [FILE...]\n",
            2,
        ),
        (
            "cat -Z /rom/ten",
            "cat: -Z: no such option; usage: cat [FILE...]\n",
            2,
        ),
        (
            "cat /none /rom/open",
            "cat: /none: No such file or directory (ENOENT)\nno newline",
            1,
        ),
        ("cat /rom", "cat: /rom: Is a directory (EISDIR)\n", 1),
        (
            "cat /rom/ctl",
            "cat: /rom/ctl: Permission denied (EACCES)\n",
            1,
        ),
        (
            "cat /rom/broken",
            "some\ncat: /rom/broken: Input/output error (EIO)\n",
            1,
        ),
        (
            "cat /rom/open /none",
            "no newline\ncat: /none: No such file or directory (ENOENT)\n",
            1,
        ),
        // As pipefail: what failed with a message counts, wherever it stands.
        (
            "cat /none | wc -l",
            "cat: /none: No such file or directory (ENOENT)\n0\n",
            1,
        ),
        ("fail | cat", "partial\nfail: disk: on fire\n", 1),
        // Stopped at its first write, as by SIGPIPE, it never came to fail.
        ("fail | grep -q partial", "", 0),
        ("spin | head -n 2 | cat", "x\nx\n", 0),
        ("cat /dev/marker | head -n 1", "y\n", 0),
        ("head -n 1 /dev/marker /dev/marker | grep -c y", "2\n", 0),
        ("head -n 2 /dev/pipe", "one\ntwo\n", 0),
        ("cat /dev/pipe | cat | head -n 2 | cat", "one\ntwo\n", 0),
        ("spin | true", "", 0),
        ("spin | false", "", 1),
        ("pwd; cd /rom; pwd; cat open", "/\n/rom\nno newline", 0),
        ("cd /tmp; cd ..; cd ./rom/../rom; pwd", "/rom\n", 0),
        (
            "cd /none",
            "cd: /none: No such file or directory (ENOENT)\n",
            1,
        ),
        (
            "cd /rom/ten",
            "cd: /rom/ten: Not a directory (ENOTDIR)\n",
            1,
        ),
        ("ls /", "dev  rom  tmp\n", 0),
        ("ls / | cat", "dev\nrom\ntmp\n", 0),
        (
            "ls /none",
            "ls: /none: No such file or directory (ENOENT)\n",
            1,
        ),
        (
            "wc --help",
            "usage: wc [-l] [-w] [-c] [FILE...]\ncount lines, words and bytes\n-l  lines\n-w  words\n-c  bytes\nWithout FILE, or for a FILE `-`, it reads the command before the `|`.\n",
            0,
        ),
        ("help nothing", "help: nothing: no such command\n", 1),
        (
            "echo -n x; nonsense",
            "x\nnonsense: unknown command; `help` lists those there are\n",
            127,
        ),
    ] {
        assert_eq!(run(&[line]), (printed.to_string(), status), "for {line:?}");
    }
}

#[test]
fn files_in_tmp() {
    for (lines, printed, status) in [
        (&["echo hello > /tmp/x", "cat /tmp/x"][..], "hello\n", 0),
        (
            &["echo a > /tmp/x; echo b >> /tmp/x; cat /tmp/x"],
            "a\nb\n",
            0,
        ),
        (
            &["echo a > /tmp/x", "echo b > /tmp/x", "cat /tmp/x"],
            "b\n",
            0,
        ),
        (
            &["echo a > /tmp/x", "> /tmp/x", "wc -c /tmp/x"],
            "0 /tmp/x\n",
            0,
        ),
        (
            &["echo a > /tmp/x", "true > /tmp/x", "wc -c /tmp/x"],
            "0 /tmp/x\n",
            0,
        ),
        (
            &["echo a > /tmp/x", ">> /tmp/x", "wc -c /tmp/x"],
            "2 /tmp/x\n",
            0,
        ),
        (
            &["echo a > /tmp/x", "cat /tmp/x >> /tmp/x", "cat /tmp/x"],
            "a\na\n",
            0,
        ),
        (
            &["echo a > /tmp/x", "cat /tmp/x > /tmp/x", "wc -c /tmp/x"],
            "0 /tmp/x\n",
            0,
        ),
        (
            &["echo a > /tmp/x > /tmp/y", "wc -c /tmp/x /tmp/y"],
            "0 /tmp/x\n2 /tmp/y\n2 total\n",
            0,
        ),
        (&["echo a > /tmp/x | cat", "cat /tmp/x"], "a\n", 0),
        (
            &["cat /rom/ten | tail -n 2 > /tmp/x | wc -l", "cat /tmp/x"],
            "0\nnine\nten\n",
            0,
        ),
        (&["cd /tmp; echo a > x; ls; cat ./x"], "x\na\n", 0),
        (
            &[
                "mkdir /tmp/d",
                "echo a > /tmp/d/f",
                "ls /tmp/d",
                "rm /tmp/d/f",
                "rm -r /tmp/d",
                "ls /tmp",
            ],
            "f\n",
            0,
        ),
        (
            &["mkdir /tmp/d/e"],
            "mkdir: /tmp/d/e: No such file or directory (ENOENT)\n",
            1,
        ),
        (&["mkdir -p /tmp/d/e /tmp/d", "ls /tmp/d"], "e\n", 0),
        (
            &["mkdir -p /tmp/d/e; echo a > /tmp/d/f; rm -r /tmp/d; ls /tmp"],
            "",
            0,
        ),
        (
            &[
                "mkdir /tmp/d /tmp/e; echo a > /tmp/e/f",
                "rmdir /tmp/d /tmp/e /tmp/e/f /tmp /tmp/none",
                "ls /tmp",
            ],
            "rmdir: /tmp/e: Directory not empty (ENOTEMPTY)\n\
             rmdir: /tmp/e/f: Not a directory (ENOTDIR)\n\
             rmdir: /tmp: Device or resource busy (EBUSY)\n\
             rmdir: /tmp/none: No such file or directory (ENOENT)\n\
             e\n",
            0,
        ),
        (
            &["mkdir /tmp/d", "rm /tmp/d"],
            "rm: /tmp/d: Is a directory (EISDIR)\n",
            1,
        ),
        (
            &["rm /tmp/none"],
            "rm: /tmp/none: No such file or directory (ENOENT)\n",
            1,
        ),
        (&["rm -f /tmp/none"], "", 0),
        (
            &["rm -rf /", "ls /"],
            "rm: /: Device or resource busy (EBUSY)\ndev  rom  tmp\n",
            0,
        ),
        (
            &["rm -r /rom", "ls /rom"],
            "rm: /rom: Device or resource busy (EBUSY)\nbroken  ctl     open    ten\n",
            0,
        ),
        (
            &["rm /rom/ten"],
            "rm: /rom/ten: Operation not permitted (EPERM)\n",
            1,
        ),
        (
            &["echo x > /rom/ten"],
            "baton: /rom/ten: Permission denied (EACCES)\n",
            1,
        ),
        (
            &["echo x > /rom"],
            "baton: /rom: Is a directory (EISDIR)\n",
            1,
        ),
        (
            &["echo x > /none/x"],
            "baton: /none/x: No such file or directory (ENOENT)\n",
            1,
        ),
        (
            &["> /none"],
            "baton: /none: No such file or directory (ENOENT)\n",
            1,
        ),
        (
            &["cd /tmp; seq 100000 > big", "tail -n 1 big | wc -l"],
            "seq: big: No space left on device (ENOSPC)\n1\n",
            0,
        ),
        (
            &["cd /tmp; mkdir 'a b'; ls -l | cat", "ls -l | wc -l"],
            "drwxr-xr-x        0 a b\n1\n",
            0,
        ),
        (
            &["echo abc > /tmp/x; ls -l /tmp/x"],
            "-rw-r--r--        4 /tmp/x\n",
            0,
        ),
    ] {
        assert_eq!(run(lines), (printed.to_string(), status), "for {lines:?}");
    }
}

#[test]
fn each_write_of_a_command_is_one_write_of_the_file() {
    use WriteMode::{Append, Truncate};
    type Writes = &'static [(&'static str, WriteMode)];
    for (line, writes) in [
        (
            "echo a b > /dev/marker",
            &[("a b\n", Truncate)][..] as Writes,
        ),
        ("echo a >> /dev/marker", &[("a\n", Append)]),
        (
            "seq 3 > /dev/marker",
            &[("1\n", Truncate), ("2\n", Append), ("3\n", Append)],
        ),
        (
            "seq 2 | cat >> /dev/marker",
            &[("1\n", Append), ("2\n", Append)],
        ),
        ("> /dev/marker", &[("", Truncate)]),
        ("true > /dev/marker", &[("", Truncate)]),
        ("echo -n > /dev/marker", &[("", Truncate)]),
        (">> /dev/marker", &[]),
        ("nonsense > /dev/marker", &[]),
        ("head -n x /rom/ten > /dev/marker", &[]),
        ("echo a > /dev/marker > /dev/locked", &[]),
    ] {
        let marker = Marker::default();
        run_with(&TestEnv::default(), &marker, &[line]);
        let seen = marker.writes.borrow();
        let seen: Vec<_> = seen
            .iter()
            .map(|(text, mode)| (text.as_str(), *mode))
            .collect();
        assert_eq!(seen, writes, "for {line:?}");
    }
    let (printed, status) = run(&["echo 2 > /dev/picky"]);
    assert_eq!(
        printed,
        "echo: /dev/picky: only a 1 is taken here (EINVAL)\n"
    );
    assert_eq!(status, 1);
    // Nothing was written before the failure stopped the source.
    assert_eq!(run(&["spin > /dev/picky"]).1, 1);
}

#[test]
fn ctrl_c_ends_the_whole_line() {
    for line in [
        "spin; echo no",
        "spin > /tmp/x; echo no",
        "spin | cat | grep z; echo no",
        "spin | wc -l || echo no",
        "cat /dev/marker; echo no",
        "cat /dev/pipe; echo no",
        "cat /dev/pipe | grep none > /tmp/x; echo no",
        "head -n 1000000 /dev/marker /dev/marker > /dev/marker; echo no",
    ] {
        let env = TestEnv::default();
        env.polls_left.set(Some(50));
        let (printed, status) = run_with(&env, &Marker::default(), &[line]);
        assert_eq!(status, STATUS_INTERRUPTED, "for {line:?}");
        assert!(
            printed.ends_with("^C\n") && !printed.contains("no"),
            "for {line:?}: {printed}"
        );
    }
}

/// Ctrl-c may come between any two steps: what was used up for the reader before it has reached them.
#[test]
fn ctrl_c_costs_no_event() {
    for line in [
        "cat /dev/queue",
        "cat /dev/queue | cat",
        "cat /dev/queue | grep event | cat",
        "grep event /dev/queue | grep -v nothing",
        "cat /dev/queue > /dev/marker",
        "cat /dev/queue | grep event > /dev/marker",
    ] {
        for polls in 0..40 {
            let env = TestEnv::default();
            env.polls_left.set(Some(polls));
            let marker = Marker::default();
            let (printed, status) = run_with(&env, &marker, &[line]);
            assert_eq!(status, STATUS_INTERRUPTED, "{line:?}");
            let written = marker.writes.take().into_iter().map(|(text, _)| text);
            let all = written.collect::<String>() + printed.trim_end_matches("^C\n");
            let wanted: String = (1..=marker.taken.get())
                .map(|n| format!("event {n}\n"))
                .collect();
            assert_eq!(all, wanted, "{line:?} after {polls} polls");
        }
    }
}

#[test]
fn the_machine_hears_of_each_line_and_history_is_listed() {
    let env = TestEnv::default();
    run_with(
        &env,
        &Marker::default(),
        &["echo a; echo b", "", "# c", "'", "nope"],
    );
    assert_eq!(*env.lines.borrow(), ["echo a; echo b", "'", "nope"]);
    let (printed, _) = run(&["true", "false", "history"]);
    assert_eq!(printed, "    1  true\n    2  false\n    3  history\n");
}

#[test]
fn a_blank_line_keeps_the_status() {
    assert_eq!(run(&["false", "", "  # x", "status"]).0, "1\n");
    assert_eq!(
        run(&["'", "status"]).0,
        "baton: the ' at column 1 has no partner\n2\n"
    );
}

#[test]
fn tail_says_what_it_could_not_keep() {
    let (printed, status) = run(&["seq -f '%0200g' 6000 | tail -n 6000 | wc -c"]);
    assert_eq!(status, 1);
    assert!(
        printed.starts_with("tail: only the last 1048576 bytes are kept"),
        "{printed}"
    );
    assert!(printed.ends_with("\n1048576\n"));
    assert_eq!(
        run(&["seq 200000 | tail -n 2"]),
        ("199999\n200000\n".into(), 0)
    );
}

#[test]
fn grep_takes_long_and_binary_lines() {
    let (printed, _) = run(&["echo -e 'a\\0b' | grep a"]);
    assert_eq!(printed, "grep: (standard input): binary file matches\n");
    assert_eq!(run(&["seq -f '%0200g ' 1 1000 | grep -c 7"]).0, "271\n");
    let (printed, _) = run(&["echo -e 'a\\0b\nc' | grep -B 1 c"]);
    assert_eq!(printed, "grep: (standard input): binary file matches\n");
    // What is kept of the lines before has an end, and that is told.
    let (printed, status) = run(&["seq -f '%0200g' 6000 | grep -B 6000 6000$ | head -n 1"]);
    assert_eq!(status, 0);
    assert_eq!(
        printed,
        "grep: 757 lines before are not kept: they are too long\n"
    );
    let (printed, _) = run(&["echo a | grep -A x a"]);
    assert!(
        printed.starts_with("grep: x: this is no number of lines"),
        "{printed}"
    );
}

#[test]
fn help_lists_all() {
    let (printed, _) = run(&["help"]);
    for command in SETS.iter().flat_map(|set| set.iter()) {
        assert!(
            printed.contains(&format!("\n{} ", command.name)) || printed.starts_with(command.name)
        );
        let (help, status) = run(&[&format!("help {}", command.name)]);
        assert!(help.starts_with(&format!("usage: {}", command.name)) && status == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is typed: an answer, a status, no panic.
    #[test]
    fn any_line_is_answered(
        words in proptest::collection::vec(
            prop_oneof![
                4 => proptest::sample::select(
                    "cat head tail wc grep echo ls hexdump seq cd rm mkdir help status history true false fail | | > >> ; && || -n -c -v -l - 3 0 -1 + /rom/ten /tmp/x /tmp/d /dev .. -E ( [ * a\\ ' \" $? # 100".split(' ').map(String::from).collect::<Vec<_>>()
                ),
                1 => "\\PC{0,8}",
            ],
            0..12,
        )
    ) {
        let line = words.join(" ");
        let env = TestEnv::default();
        // Some of these never end by themselves.
        env.polls_left.set(Some(2000));
        let (_, status) = run_with(&env, &Marker::default(), &[&line]);
        prop_assert!([0, 1, 2, 127, 130].contains(&status));
    }
}
