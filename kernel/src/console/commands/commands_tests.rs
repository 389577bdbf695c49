//! The commands against the tools of the host, where it has them: same input, same bytes.

use super::super::genfs::RomFs;
use super::super::shell::tests::TestEnv;
use super::super::shell::{CommandSets, Shell};
use super::super::vfs::Mounts;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use std::io::Write as _;
use std::process::{Command, Stdio};

static SETS: CommandSets = &[&super::ALL];

/// What `line` prints, with `input` as the file `/in`.
fn ours(line: &str, input: &[u8]) -> Vec<u8> {
    let env = TestEnv::default();
    let rom = RomFs::new(vec![("in".into(), input)]);
    let mut mounts = Mounts::new();
    mounts.mount("/", &rom).unwrap();
    Shell::new(mounts, SETS, &env).run(line);
    env.printed.take()
}

/// What a program of the host prints; `None` where it is not there.
fn theirs(program: &str, args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.ok()?;
    // Fails where the program stops reading early, as `head` does.
    let _ = child.stdin.take()?.write_all(input);
    Some(child.wait_with_output().ok()?.stdout)
}

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = (0..70).map(|n| vec![0; n]).collect();
    inputs.extend((0..40).map(|n| (0..=255u8).cycle().skip(n * 7).take(n * 13).collect()));
    inputs.push([vec![b'a'; 100], vec![b'b'; 20], vec![b'a'; 64]].concat());
    inputs.push((0..5000u32).map(|n| (n / 600) as u8).collect());
    let text = "the quick\n\n  brown fox\tjumps\nover + the (lazy) dog\nTHE END\n";
    inputs.push(text.into());
    inputs.push(text.trim_end().into());
    inputs.push(text.repeat(200).into());
    inputs
}

#[test]
fn hexdump_is_that_of_util_linux() {
    let mut compared = 0;
    for input in inputs() {
        for args in [
            &["-C"][..],
            &["-C", "-v"],
            &["-C", "-n", "37"],
            &["-C", "-n", "32"],
        ] {
            let Some(expected) = theirs("hexdump", args, &input) else {
                continue;
            };
            let line = format!("hexdump {} /in", args.join(" "));
            let got = ours(&line, &input);
            assert_eq!(
                String::from_utf8(got),
                String::from_utf8(expected),
                "{line} of {input:?}"
            );
            compared += 1;
        }
    }
    std::eprintln!("{compared} dumps compared");
}

/// The same without the tool: recorded from util-linux 2.38.1.
#[test]
fn hexdump_as_recorded() {
    for (input, expected) in [
        (&b""[..], ""),
        (
            b"a",
            "00000000  61                                                |a|\n00000001\n",
        ),
        (
            b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00     |...............|\n0000000f\n",
        ),
        (
            &[0; 40],
            "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n\
             00000020  00 00 00 00 00 00 00 00                           |........|\n00000028\n",
        ),
        (
            &[b'a'; 32],
            "00000000  61 61 61 61 61 61 61 61  61 61 61 61 61 61 61 61  |aaaaaaaaaaaaaaaa|\n*\n00000020\n",
        ),
    ] {
        assert_eq!(
            String::from_utf8_lossy(&ours("hexdump -C /in", input)),
            expected
        );
    }
    let skipped = ours("hexdump -s 3 -n 5 /in", b"abcdefghijklmn");
    assert_eq!(
        String::from_utf8_lossy(&skipped),
        "00000003  64 65 66 67 68                                    |defgh|\n00000008\n"
    );
}

#[test]
fn text_commands_are_those_of_the_host() {
    for input in inputs() {
        for (program, args) in [
            ("head", &["-n", "3"][..]),
            ("head", &["-c", "11"]),
            ("tail", &["-n", "3"]),
            ("tail", &["-n", "1"]),
            ("tail", &["-c", "11"]),
            ("tail", &["-n", "+3"]),
            ("tail", &["-c", "+3"]),
            ("wc", &["-l"]),
            ("wc", &["-w"]),
            ("wc", &["-c"]),
            ("wc", &[]),
            ("grep", &["-n", "o"]),
            ("grep", &["-c", "the"]),
            ("grep", &["-ic", "the"]),
            ("grep", &["-v", "e"]),
            ("grep", &["-o", "[a-z]*o"]),
            ("grep", &["-w", "the"]),
            ("grep", &["-n", "(lazy) d.g$"]),
            ("grep", &["-E", "(quick|END)$"]),
            ("grep", &["-x", "THE END"]),
            ("grep", &["+ the"]),
            ("grep", &["-A", "2", "quick"]),
            ("grep", &["-n", "-A1", "lazy"]),
            ("grep", &["-nB", "2", "over"]),
            ("grep", &["-n", "-C", "1", "fox"]),
            ("grep", &["-1", "-n", "END"]),
            ("grep", &["-n", "-A", "0", "the"]),
            ("grep", &["-n", "-B", "0", "the"]),
            ("grep", &["-nv", "-A", "1", "e"]),
            ("grep", &["-C", "1", "-A", "0", "-n", "over"]),
            ("grep", &["-A", "99999999999999999999", "fox"]),
            ("grep", &["-c", "-C", "1", "the"]),
            ("grep", &["-on", "-A", "1", "[a-z]*o"]),
        ] {
            // What grep says of binary input differs from version to version.
            if program == "grep"
                && !input
                    .iter()
                    .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
            {
                continue;
            }
            // Bytes of UTF-8 make words here, but not in the locale C.
            if program == "wc" && matches!(args, [] | ["-w"]) && !input.is_ascii() {
                continue;
            }
            let Some(expected) = theirs(program, args, &input) else {
                continue;
            };
            let quoted: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
            // Behind a pipe, as the host's tool reads its standard input.
            let line = format!("cat /in | {program} {}", quoted.join(" "));
            assert_eq!(
                String::from_utf8_lossy(&ours(&line, &input)),
                String::from_utf8_lossy(&expected),
                "{line} of {} bytes",
                input.len()
            );
        }
    }
}

#[test]
fn seq_is_that_of_the_host() {
    for args in [
        &["5"][..],
        &["3", "7"],
        &["10", "-3", "-10"],
        &["-w", "8", "11"],
        &["-w", "-5", "10"],
        &["-f", "a%05gb%%", "3"],
        &["-f", "%+4.0f", "-2", "2"],
        &["7", "3"],
    ] {
        let Some(expected) = theirs("seq", args, b"") else {
            continue;
        };
        let line = format!("seq {}", args.join(" "));
        assert_eq!(
            String::from_utf8_lossy(&ours(&line, b"")),
            String::from_utf8_lossy(&expected),
            "{line}"
        );
    }
}
