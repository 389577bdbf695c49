//! Filters: the grammar, the answers to wrong ones, and each against an evaluator that could not be plainer.

use proptest::prelude::*;
use trace::event::filter::{Filter, FilterErrorKind, MAX_TEXT, PRINT_FIELDS, Recorder};
use trace::event::{Common, EventDesc, Kind};

mod events {
    #[allow(dead_code)]
    pub fn tracer() -> Option<&'static trace::Tracer<trace::testing::TestPlatform>> {
        None
    }

    trace::define_events! {
        tracer = crate::events::tracer;

        /// One field of each kind.
        event test:all(a: u8, b: i8, c: u16, d: i32, e: u64, f: i64, name: [char; 8], path: str, list: [u32; 2]) {
            print("%d %d", a, b)
        }
    }
}

const DESC: &EventDesc = &events::all::DESC;

/// A record's values.
#[derive(Clone, Debug)]
struct Values {
    a: u8,
    b: i8,
    c: u16,
    d: i32,
    e: u64,
    f: i64,
    name: String,
    path: String,
}

impl Values {
    fn record(&self) -> Vec<u8> {
        let mut bytes = vec![0; DESC.size];
        bytes[..8].copy_from_slice(
            &Common {
                id: 19,
                flags: 1,
                preempt_count: 2,
                pid: 42,
            }
            .encode(),
        );
        let at = |name: &str| {
            let field = DESC.fields.iter().find(|f| f.proto.name == name).unwrap();
            field.offset
        };
        let mut put = |name: &str, value: &[u8]| {
            bytes[at(name)..at(name) + value.len()].copy_from_slice(value);
        };
        put("a", &self.a.to_ne_bytes());
        put("b", &self.b.to_ne_bytes());
        put("c", &self.c.to_ne_bytes());
        put("d", &self.d.to_ne_bytes());
        put("e", &self.e.to_ne_bytes());
        put("f", &self.f.to_ne_bytes());
        put("name", self.name.as_bytes());
        let place = DESC.size as u32 | ((self.path.len() as u32 + 1) << 16);
        put("path", &place.to_ne_bytes());
        bytes.extend_from_slice(self.path.as_bytes());
        bytes.push(0);
        bytes
    }

    fn number(&self, field: &str) -> i128 {
        match field {
            "a" => self.a.into(),
            "b" => self.b.into(),
            "c" => self.c.into(),
            "d" => self.d.into(),
            "e" => self.e.into(),
            "f" => self.f.into(),
            "common_pid" => 42,
            _ => 3,
        }
    }
}

fn some() -> Values {
    Values {
        a: 200,
        b: -3,
        c: 0x1234,
        d: -70000,
        e: 1 << 63,
        f: -1,
        name: "uart".into(),
        path: "/dev/ttyS0".into(),
    }
}

fn matches(text: &str, values: &Values) -> bool {
    let filter = Filter::parse(DESC.fields, text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let recorder = Recorder {
        cpu: 3,
        comm: "shell",
        ts: 0,
    };
    filter.matches(&values.record(), &recorder)
}

#[test]
fn terms() {
    for (text, want) in [
        ("a == 200", true),
        ("a==0xc8", true),
        ("a == 0310", true),
        ("a != 200", false),
        ("b < 0", true),
        ("b == -3", true),
        ("b > -4 && b < -2", true),
        ("c & 0x1000", true),
        ("c & 1", false),
        ("d <= -70000", true),
        ("d >= -69999", false),
        ("e == 9223372036854775808", true),
        ("e > 1", true),
        ("f < 0", true),
        ("f == -1", true),
        ("name == \"uart\"", true),
        ("name == 'uar'", false),
        ("name != 'uar'", true),
        ("name ~ 'u*t'", true),
        ("name ~ '*ar*'", true),
        ("name ~ '!u*'", false),
        ("path ~ \"/dev/tty[ST]?\"", true),
        ("path == '/dev/ttyS0'", true),
        ("common_pid == 42", true),
        (
            "common_type == 19 && common_flags == 1 && common_preempt_count == 2",
            true,
        ),
        ("CPU == 3", true),
        ("cpu < 3", false),
        ("COMM == 'shell'", true),
        ("comm ~ 'sh*'", true),
        ("!(a == 200)", false),
        ("!!a == 200", true),
        ("!a == 200 || b == -3", true),
        ("!(a == 1 || b == 1) && (c == 0x1234)", true),
        ("a == 1 && b == 1 || c == 0x1234", true),
        ("a == 1 && (b == 1 || c == 0x1234)", false),
        ("((((a == 200))))", true),
        ("name=='&& || ()' || a==200", true),
    ] {
        assert_eq!(matches(text, &some()), want, "{text}");
    }
}

#[test]
fn wrong_ones_as_linux_says() {
    use FilterErrorKind::*;
    for (text, kind, position) in [
        ("", NoFilter, 0),
        ("()", MissingField, 1),
        ("nothing == 1", FieldNotFound, 8),
        ("a = 1", InvalidOp, 3),
        ("a", InvalidOp, 2),
        ("a == ", InvalidValue, 5),
        ("(a == 1", TooManyOpen, 0),
        ("a == 1)", TooManyClose, 6),
        ("name == \"x", MissingQuote, 8),
        ("a == b", InvalidValue, 6),
        ("name == 1", ExpectString, 9),
        ("a == '1'", ExpectDigit, 6),
        ("a ~ 1", IllegalFieldOp, 5),
        ("name < 'x'", IllegalFieldOp, 8),
        ("list == 1", IllegalFieldOp, 9),
        ("a == 0xg", IllegalIntval, 5 + 1),
        ("a == -1", IllegalIntval, 5 + 1),
        ("f == 9223372036854775808", IllegalIntval, 5 + 1),
        ("a == 000000000000000000000001", OperandTooLong, 30),
        ("a == 1 b == 2", TooManyPreds, 7),
        ("a == 1 & b == 2", TooManyPreds, 7),
        ("a == 1 &&", MissingField, 9),
        ("a == 1 ||", MissingField, 9),
        ("a == 1 && !", MissingField, 11),
        ("a == 1 && ()", MissingField, 11),
        ("&&", MissingField, 0),
        ("|| a == 1", MissingField, 0),
        ("== 1", MissingField, 0),
        ("$a == 1", MissingField, 0),
        ("(", TooManyOpen, 0),
        ("!", NoFilter, 1),
        ("a ==", InvalidValue, 5),
        ("a == 1 && && b == 2", MissingField, 10),
    ] {
        let e = Filter::parse(DESC.fields, text).unwrap_err();
        assert_eq!((e.kind, e.position), (kind, position), "{text}");
        let mut shown = String::new();
        e.write_file(&mut shown).unwrap();
        let at = position.min(text.trim().len());
        let caret = format!("{}\n{:at$}^\nparse_error: ", text.trim(), "");
        assert!(shown.starts_with(&caret), "{shown}");
    }
    let long = format!("name == '{}'", "x".repeat(256));
    let e = Filter::parse(DESC.fields, &long).unwrap_err();
    assert_eq!(e.kind, OperandTooLong);
}

#[test]
fn the_caret_line() {
    let e = Filter::parse(DESC.fields, "  (a == 1) && nothing == 1\n").unwrap_err();
    let mut shown = String::new();
    e.write_file(&mut shown).unwrap();
    assert_eq!(
        shown,
        "(a == 1) && nothing == 1\n                    ^\nparse_error: Field not found\n"
    );
}

#[test]
fn a_marker_has_fields_too() {
    let filter = Filter::parse(&PRINT_FIELDS, "buf ~ '*needle*'").unwrap();
    let mut record = vec![0; 16];
    record.extend_from_slice(b"hay needle hay\n\0");
    assert!(filter.matches(&record, &Recorder::default()));
    assert!(!filter.matches(&record[..20], &Recorder::default()));
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = "(".repeat(100_000) + "a == 1" + &")".repeat(100_000);
    let e = Filter::parse(DESC.fields, &deep).unwrap_err();
    assert_eq!(e.kind, FilterErrorKind::Malformed);
    let n = (MAX_TEXT - 8) / 2;
    let deep = "(".repeat(n) + "a == 200" + &")".repeat(n);
    assert!(matches(&deep, &some()));
    assert!(!matches(&("!".repeat(4001) + "a == 200"), &some()));
    let wide = vec!["a==200"; 500].join("&&");
    assert!(matches(&wide, &some()));
}

/// An expression as a tree.
#[derive(Clone, Debug)]
enum Tree {
    Number(&'static str, &'static str, i128),
    Text(&'static str, bool, String),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn holds(&self, values: &Values) -> bool {
        match self {
            Tree::Number(field, op, operand) => {
                let value = values.number(field);
                match *op {
                    "==" => value == *operand,
                    "!=" => value != *operand,
                    "<" => value < *operand,
                    "<=" => value <= *operand,
                    ">" => value > *operand,
                    ">=" => value >= *operand,
                    _ => value & *operand != 0,
                }
            }
            Tree::Text(field, equal, operand) => {
                let value = match *field {
                    "name" => &values.name,
                    _ => &values.path,
                };
                (value == operand) == *equal
            }
            Tree::Not(of) => !of.holds(values),
            Tree::And(left, right) => left.holds(values) & right.holds(values),
            Tree::Or(left, right) => left.holds(values) | right.holds(values),
        }
    }

    /// As text; in parentheses only where they are needed, if `spare`.
    fn write(&self, spare: bool, out: &mut String) {
        let part = |tree: &Tree, out: &mut String, bare: bool| {
            if bare && spare {
                tree.write(spare, out);
            } else {
                out.push('(');
                tree.write(spare, out);
                out.push_str(" )");
            }
        };
        let is_or = |tree: &Tree| matches!(tree, Tree::Or(..));
        let joined = |tree: &Tree| matches!(tree, Tree::Or(..) | Tree::And(..));
        match self {
            Tree::Number(field, op, operand) => *out += &format!("{field} {op}{operand}"),
            Tree::Text(field, true, operand) => *out += &format!("{field}=='{operand}'"),
            Tree::Text(field, false, operand) => *out += &format!("{field} != \"{operand}\""),
            Tree::Not(of) => {
                out.push('!');
                part(of, out, !joined(of));
            }
            Tree::And(left, right) => {
                part(left, out, !is_or(left));
                out.push_str("&& ");
                part(right, out, !is_or(right));
            }
            Tree::Or(left, right) => {
                part(left, out, true);
                out.push_str(" ||");
                part(right, out, true);
            }
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let small = -3i128..4;
    let op = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">=", "&"]);
    let number = (
        prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "common_pid", "CPU"]),
        op,
        small,
    )
        .prop_map(|(field, op, operand)| {
            let signed = matches!(field, "b" | "d" | "f" | "common_pid" | "CPU");
            // Linux has no `&` for CPU.
            let op = if field == "CPU" && op == "&" {
                "=="
            } else {
                op
            };
            Tree::Number(field, op, if signed { operand } else { operand.abs() })
        });
    let text = (
        prop::sample::select(vec!["name", "path"]),
        any::<bool>(),
        "[ab]{0,2}",
    )
        .prop_map(|(field, equal, operand)| Tree::Text(field, equal, operand));
    prop_oneof![3 => number, 1 => text].prop_recursive(6, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Tree::Not(of.into())),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| Tree::And(l.into(), r.into())),
            (inner.clone(), inner).prop_map(|(l, r)| Tree::Or(l.into(), r.into())),
        ]
    })
}

fn values() -> impl Strategy<Value = Values> {
    (
        0u8..4,
        -3i8..4,
        0u16..4,
        -3i32..4,
        0u64..4,
        -3i64..4,
        "[ab]{0,2}",
        "[ab]{0,2}",
    )
        .prop_map(|(a, b, c, d, e, f, name, path)| Values {
            a,
            b,
            c,
            d,
            e,
            f,
            name,
            path,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn as_the_plain_evaluator(tree in tree(), values in values(), spare: bool) {
        let mut text = String::new();
        tree.write(spare, &mut text);
        prop_assert_eq!(matches(&text, &values), tree.holds(&values), "{}", text);
    }

    #[test]
    fn no_text_panics(
        text in prop_oneof![
            ".{0,60}",
            "([ab]|name|path|list|common_pid|CPU|COMM|nope|==|!=|<|<=|>|>=|&|~|&&|\\|\\||!|\\(|\\)|'a'|\"|'|\\*| |0x1f|-1|09){0,20}",
        ],
        cut in 0usize..80,
    ) {
        match Filter::parse(DESC.fields, &text) {
            // Records that are too short are no reason to panic either.
            Ok(filter) => {
                let record = some().record();
                filter.matches(&record[..cut.min(record.len())], &Recorder::default());
            }
            Err(e) => {
                let mut shown = String::new();
                e.write_file(&mut shown).unwrap();
                prop_assert!(shown.starts_with(&e.text));
            }
        }
    }
}

#[test]
fn kinds_are_all_there() {
    let kinds = |want: fn(&Kind) -> bool| DESC.fields.iter().any(|f| want(&f.proto.kind));
    assert!(kinds(|k| matches!(k, Kind::Chars)) && kinds(|k| matches!(k, Kind::Str)));
}
