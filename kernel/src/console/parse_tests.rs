use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

/// `a b|c > f ; d` in a form that can be compared: words in brackets.
fn shape(line: &str) -> String {
    let parsed = match parse(line) {
        Ok(parsed) => parsed,
        Err(error) => return format!("error: {error}"),
    };
    let mut text = String::new();
    for (index, (when, pipeline)) in parsed.pipelines.iter().enumerate() {
        text.push_str(match when {
            When::Always if index == 0 => "",
            When::Always => " ; ",
            When::IfGood => " && ",
            When::IfBad => " || ",
        });
        for (index, stage) in pipeline.stages.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { " | " });
            for word in &stage.words {
                text.push_str(&format!("[{}]", word.expand(7)));
            }
            for redirect in &stage.redirects {
                let operator = if redirect.append { ">>" } else { ">" };
                text.push_str(&format!("{operator}[{}]", redirect.path.expand(7)));
            }
        }
        text.push_str(if pipeline.background { "&" } else { "" });
    }
    text
}

#[test]
fn lines() {
    for (line, expected) in [
        ("", ""),
        ("   \t ", ""),
        ("# a comment", ""),
        ("ls", "[ls]"),
        ("  ls   -l  /proc ", "[ls][-l][/proc]"),
        ("echo a#b # c", "[echo][a#b]"),
        ("echo '#' \\# \"#\"", "[echo][#][#][#]"),
        ("echo 'a  b' \"c  d\" e\\ f", "[echo][a  b][c  d][e f]"),
        ("echo a'b'\"c\"d", "[echo][abcd]"),
        ("echo '' \"\"", "[echo][][]"),
        (r#"echo "a\"b\\c\nd\$e""#, r#"[echo][a"b\c\nd$e]"#),
        (r"echo 'a\b'", r"[echo][a\b]"),
        (r"echo a\b\\", r"[echo][ab\]"),
        (
            "echo $? \"$?\" '$?' \\$? $x $",
            "[echo][7][7][$?][$?][$x][$]",
        ),
        ("echo x$?y", "[echo][x7y]"),
        ("a|b | c", "[a] | [b] | [c]"),
        ("a>f", "[a]>[f]"),
        ("a >> f b", "[a][b]>>[f]"),
        ("a > f | b >>g", "[a]>[f] | [b]>>[g]"),
        ("> f", ">[f]"),
        (">f>>g a", "[a]>[f]>>[g]"),
        ("a 1> f", "[a]>[f]"),
        ("a 1 > f", "[a][1]>[f]"),
        ("a x1>f", "[a][x1]>[f]"),
        ("a '1'>f", "[a][1]>[f]"),
        ("a; b;c;", "[a] ; [b] ; [c]"),
        ("a && b || c", "[a] && [b] || [c]"),
        ("a &", "[a]&"),
        ("a & b&c && d &", "[a]& ; [b]& ; [c] && [d]&"),
        ("a | b && c > d; e", "[a] | [b] && [c]>[d] ; [e]"),
        (
            "echo sched:* ~ {a} (b) !c",
            "[echo][sched:*][~][{a}][(b)][!c]",
        ),
        ("echo é '→'", "[echo][é][→]"),
        ("a\r\n", "[a]"),
        ("echo 'a;b|c>d&e'", "[echo][a;b|c>d&e]"),
        // What is wrong, and where.
        ("echo 'abc", "error: the ' at column 6 has no partner"),
        ("echo \"abc", "error: the \" at column 6 has no partner"),
        ("echo \"abc\\", "error: the \" at column 6 has no partner"),
        ("echo \\", "error: nothing follows the \\ at column 6"),
        ("echo >", "error: no file name after > at column 6"),
        ("echo >> | cat", "error: no file name after >> at column 6"),
        ("echo > > f", "error: no file name after > at column 6"),
        ("echo > # f", "error: no file name after > at column 6"),
        ("| a", "error: no command before | at column 1"),
        ("a | | b", "error: no command before | at column 5"),
        ("a |", "error: no command after | at column 3"),
        ("a | # b", "error: no command after | at column 3"),
        ("a | ; b", "error: no command before ; at column 5"),
        (";", "error: no command before ; at column 1"),
        ("a ;; b", "error: no command before ; at column 4"),
        ("a &&", "error: no command after && at column 3"),
        ("|| a", "error: no command before || at column 1"),
        ("é |", "error: no command after | at column 3"),
        (
            "a < f",
            "error: < at column 3 is not supported: give the file's name as an argument, or `cat FILE |`",
        ),
        ("&", "error: no command before & at column 1"),
        ("a; & b", "error: no command before & at column 4"),
        (
            "a 2> f",
            "error: N> at column 3 is not supported: only standard output can be redirected",
        ),
        (
            "a >& f",
            "error: >& at column 3 is not supported: messages always go to the console",
        ),
        (
            "a |& b",
            "error: |& at column 3 is not supported: only standard output goes through a pipe",
        ),
    ] {
        assert_eq!(shape(line), expected, "for {line:?}");
    }
}

#[test]
fn limits_are_answered_with_a_sentence() {
    let too_many = |line: String| parse(&line).unwrap_err().to_string();
    assert_eq!(
        too_many("x".repeat(MAX_LINE_BYTES + 1)),
        "more than 8192 bytes in a line"
    );
    assert!(parse(&"x".repeat(MAX_LINE_BYTES)).is_ok());
    assert!(parse(&"a ".repeat(MAX_WORDS)).is_ok());
    assert_eq!(
        too_many(format!("a{}", "|a".repeat(MAX_STAGES))),
        "more than 16 commands in a pipeline"
    );
    assert_eq!(
        too_many("a;".repeat(MAX_PIPELINES + 1)),
        "more than 256 pipelines in a line"
    );
    assert_eq!(
        too_many(">a".repeat(MAX_REDIRECTS + 1)),
        "more than 16 redirects of one command"
    );
}

#[test]
fn the_end_of_an_unfinished_line() {
    // (line, start, word, quote, command, what)
    for (line, start, word, quote, command, what) in [
        ("", 0, "", None, "", "command"),
        ("he", 0, "he", None, "", "command"),
        ("cat ", 4, "", None, "cat", "path"),
        ("cat /pr", 4, "/pr", None, "cat", "path"),
        ("cat a b", 6, "b", None, "cat", "path"),
        ("cat a | gr", 8, "gr", None, "", "command"),
        ("a;b", 2, "b", None, "", "command"),
        ("a && b", 5, "b", None, "", "command"),
        ("echo x > /t", 9, "/t", None, "echo", "redirect"),
        ("echo x >/t", 8, "/t", None, "echo", "redirect"),
        ("echo x>/t", 7, "/t", None, "echo", "redirect"),
        ("> f ca", 4, "ca", None, "", "command"),
        ("> f cat x", 8, "x", None, "cat", "path"),
        ("cat 'a b", 4, "a b", Some('\''), "cat", "path"),
        ("cat \"a b\\\"", 4, "a b\"", Some('"'), "cat", "path"),
        ("cat a\\ b", 4, "a b", None, "cat", "path"),
        ("cat # x", 4, "", None, "cat", "comment"),
    ] {
        let u = unfinished(line);
        assert_eq!(
            (u.start, u.word.as_str(), u.quote, u.command.as_str()),
            (start, word, quote, command),
            "for {line:?}"
        );
        let is = if u.is_comment {
            "comment"
        } else if u.is_redirect {
            "redirect"
        } else if u.is_command {
            "command"
        } else {
            "path"
        };
        assert_eq!(is, what, "for {line:?}");
    }
}

proptest! {
    #[test]
    fn any_line_is_answered(line in "[ -~é\t\n]{0,60}") {
        if let Ok(parsed) = parse(&line) {
            for (_, pipeline) in parsed.pipelines {
                prop_assert!(!pipeline.stages.is_empty());
                for stage in pipeline.stages {
                    prop_assert!(!stage.words.is_empty() || !stage.redirects.is_empty());
                }
            }
        }
        let u = unfinished(&line);
        prop_assert!(u.start <= line.len() && line.is_char_boundary(u.start));
    }

    #[test]
    fn what_is_escaped_comes_back(text in "\\PC{1,20}", quote in prop_oneof![Just(None), Just(Some('\'')), Just(Some('"'))]) {
        // A lone tab or other blank is not among what file names hold here.
        let escaped = escape(&text, quote);
        let line = match quote {
            Some(q) => format!("cat {q}{escaped}{q}"),
            None => format!("cat {escaped}"),
        };
        let parsed = parse(&line).unwrap();
        let words: Vec<String> = parsed.pipelines[0].1.stages[0].words.iter().map(|w| w.expand(0)).collect();
        prop_assert_eq!(words, vec!["cat".to_string(), text.clone()]);
        let open = match quote {
            Some(q) => format!("cat {q}{escaped}"),
            None => line.clone(),
        };
        prop_assert_eq!(unfinished(&open).word, text);
    }
}
