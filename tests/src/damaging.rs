//! Real handovers with one bit wrong, or with an end cut off, hop after hop: each has to be refused with a reason, or to do no
//! harm. `tests/guest/damage.rs` does some of it in each run, `cargo run -p tests --bin damage` all of it.
//!
//! What a machine knows is set up, a damaged kexec is done, and everything is looked at again. A kernel that took the
//! handover over has every value as it was, or says by name what it has not; one that refused it says why, and has none.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Guest, Setup};

const KHO: &str = "/sys/kernel/debug/kho";
const TRACING: &str = "/sys/kernel/tracing";
/// Every subsystem with a blob.
const BLOBS: [&str; 8] = [
    "kexec-metadata",
    "machine",
    "ramtrace",
    "initrd",
    "console",
    "demo",
    "kho_test",
    "trace",
];

/// Stands in what is said of memory that has changed since it was sealed.
const BROKEN_SEAL: &str = "but was sealed with";

/// SplitMix64: the same in every run.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number for a command of the guest, which counts on from the start where there are fewer bits or bytes.
    fn number(&mut self) -> u64 {
        self.next() >> 33
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One kind of damage, as the guest's `out/damage` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The whole command.
    Command(String),
    /// One bit of a preserved page of this owner's, which is looked up first: a number for the page, and the bit.
    Page(&'static str, u64, u64),
}

impl Damage {
    /// What is damaged: the row of the table.
    fn place(&self) -> String {
        match self {
            Damage::Page(owner, ..) => format!("a page of {owner}"),
            Damage::Command(command) => match *command.split(' ').collect::<Vec<_>>() {
                [how, _] => format!("{how}: the FDT"),
                ["node", ..] => "flip: the preserved map".to_owned(),
                [how, "params", _] => format!("{how}: the boot parameters"),
                [how, name, ..] => format!("{how}: the blob of {name}"),
                [] => unreachable!("splitting gives at least one piece"),
                [_] => command.clone(),
            },
        }
    }
}

/// So many random flips of a bit.
pub fn flips(count: usize, seed: u64) -> Vec<Damage> {
    let mut random = Random(seed);
    let command = |text: String| Damage::Command(text);
    (0..count)
        .map(|_| {
            let kind = random.below(100);
            let n = random.number();
            match kind {
                0..18 => command(format!("flip {n}")),
                18..73 => {
                    let name = BLOBS[random.below(BLOBS.len() as u64) as usize];
                    command(format!("flip {name} {n}"))
                }
                73..85 => command(format!("node {} {n}", random.number())),
                85..88 => command(format!("flip params {n}")),
                88..93 => Damage::Page("trace", random.number(), n),
                93..98 => Damage::Page("kho_test", random.number(), n),
                _ => Damage::Page("initrd", random.number(), n),
            }
        })
        .collect()
}

/// So many random cuts.
pub fn cuts(count: usize, seed: u64) -> Vec<Damage> {
    let mut random = Random(!seed);
    (0..count)
        .map(|_| {
            let kind = random.below(100);
            let n = random.number();
            Damage::Command(match kind {
                // The FDT takes 828 bytes, and this number is not counted on from its start.
                0..30 => format!("cut {}", n % 800),
                30..95 => {
                    let name = BLOBS[random.below(BLOBS.len() as u64) as usize];
                    format!("cut {name} {n}")
                }
                _ => format!("cut params {n}"),
            })
        })
        .collect()
}

/// So many random flips, and then so many cuts, of one blob; `None` if there is none of this name.
pub fn of_blob(name: &str, flips: usize, cuts: usize, seed: u64) -> Option<Vec<Damage>> {
    let name = BLOBS.into_iter().find(|blob| *blob == name)?;
    let mut random = Random(seed);
    let ways = [("flip", flips), ("cut", cuts)];
    let damages = ways.into_iter().flat_map(|(how, count)| {
        let numbers: Vec<u64> = (0..count).map(|_| random.number()).collect();
        let command = move |n| Damage::Command(format!("{how} {name} {n}"));
        numbers.into_iter().map(command)
    });
    Some(damages.collect())
}

/// What came of all the damage: how often each place was damaged, with what result.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(String, String), usize>,
    /// Resets that were asked for, since scratch was used up or a file damaged.
    resets: usize,
    /// The most damaged kexecs without a reset.
    stood: usize,
}

impl Table {
    /// Number of damaged kexecs.
    pub fn total(&self) -> usize {
        self.rows.values().sum()
    }

    /// Number of those of which the result has this in its text.
    pub fn count(&self, result: &str) -> usize {
        let rows = self.rows.iter().filter(|((_, r), _)| r.contains(result));
        rows.map(|(_, n)| n).sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| damaged | result | times |\n| --- | --- | --- |")?;
        for ((place, result), times) in &self.rows {
            writeln!(f, "| {place} | {result} | {times} |")?;
        }
        writeln!(
            f,
            "\n{} damaged kexecs; {} resets; at most {} of them between two resets",
            self.total(),
            self.resets,
            self.stood
        )
    }
}

/// The first clause of a sentence of the guest's, without its time, and with the numbers left out, so that equal reasons are
/// one row.
fn without_numbers(sentence: &str) -> String {
    let timed = sentence
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "));
    let sentence = timed.map_or(sentence, |(_, rest)| rest);
    let clause = sentence.split(';').next().unwrap_or_default();
    let words = clause.split(' ').map(|word| {
        let plain = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match plain.starts_with("0x") || plain.parse::<u64>().is_ok() {
            true => word.replace(plain, "N"),
            false => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The machine: memory enough that many kernels in a row can refuse a handover, each of which leaves less to the next.
pub fn setup() -> Setup {
    Setup::new().mem(4096).append("kho_scratch=1900M")
}

/// A machine with known values.
struct Known {
    guest: Guest,
    generation: u64,
    /// Starts, as the example subsystem counts them.
    boots: u64,
    /// What [`look`] shows.
    values: String,
    stood: usize,
}

/// Shows every value that is known, on one line to type.
fn look() -> String {
    format!(
        "cat {KHO}/demo {KHO}/test {TRACING}/set_event {TRACING}/buffer_size_kb {TRACING}/trace_clock {TRACING}/tracing_on; \
         grep -c initrd /proc/cmdline; grep 'tracing_mark_write: [0-9]' {TRACING}/trace"
    )
}

impl Known {
    /// Sets all values, whatever they were; the guest comes back where it has no memory for them any more.
    fn try_set(mut guest: Guest, generation: u64) -> Result<Self, Box<Guest>> {
        guest.run(&format!("echo release > {KHO}/test"));
        let said = guest.run(&format!(
            "echo 128 > {TRACING}/buffer_size_kb && echo baton:kexec_phase > {TRACING}/set_event && \
             echo > {TRACING}/trace && echo known > {KHO}/demo && echo preserve 1M seed=3 > {KHO}/test"
        ));
        if said.contains("KiB are free for that") {
            return Err(Box::new(guest));
        }
        if !said.is_empty() {
            guest.fail("the values could not be set");
        }
        guest.ok(&format!("seq 1 20 > {TRACING}/trace_marker"));
        let values = guest.run(&look());
        if !values.contains("intact: 256") || !values.contains("tracing_mark_write: 20\n") {
            guest.fail("the values could not be set");
        }
        let (boots, values) = part(&mut guest, &values);
        Ok(Known {
            guest,
            generation,
            boots,
            values,
            stood: 0,
        })
    }

    /// Sets the values of a machine that has all of its memory.
    fn set(guest: Guest, generation: u64) -> Self {
        match Self::try_set(guest, generation) {
            Ok(known) => known,
            Err(mut guest) => guest.fail("there is no memory for the values"),
        }
    }

    fn reset(mut guest: Guest) -> Self {
        let output = guest.run("reboot");
        if !output.contains("generation 0 (cold)") {
            guest.fail("no cold start after a reboot");
        }
        Self::set(guest, 0)
    }
}

/// Parts the number of starts, which changes, from the rest of what is shown.
fn part(guest: &mut Guest, values: &str) -> (u64, String) {
    match values
        .strip_prefix("boots: ")
        .and_then(|rest| rest.split_once('\n'))
    {
        Some((boots, rest)) => match boots.trim().parse() {
            Ok(boots) => (boots, rest.to_owned()),
            Err(_) => guest.fail("the number of starts is no number"),
        },
        None => guest.fail("the example subsystem is not there"),
    }
}

/// Does all of the damage, each to a kexec of its own. `told` gets the number and the result of each.
///
/// # Panics
/// With the transcript, at the first that is neither refused nor without harm, and at a panic or a hang.
pub fn run(damages: &[Damage], mut told: impl FnMut(usize, &str, &str)) -> Table {
    let mut table = Table::default();
    let mut known = Known::set(setup().boot(), 0);
    for (index, damage) in damages.iter().enumerate() {
        let (result, next) = one(known, damage, &mut table);
        known = next;
        told(index + 1, &damage.place(), &result);
        *table.rows.entry((damage.place(), result)).or_default() += 1;
        known.stood += 1;
        table.stood = table.stood.max(known.stood);
    }
    known.guest.poweroff();
    table
}

/// One damaged kexec: its result, and a machine that is good for the next one.
fn one(mut known: Known, damage: &Damage, table: &mut Table) -> (String, Known) {
    loop {
        let command = match damage {
            Damage::Command(command) => command.clone(),
            Damage::Page(owner, page, bit) => page_command(&mut known.guest, owner, *page, *bit),
        };
        let output = known.guest.run(&format!(
            "echo {command} > {KHO}/out/damage && kexec -l && kexec -e"
        ));
        if output.contains(&format!("generation {} (kexec)", known.generation + 1)) {
            return taken_over(known, damage, &command, table);
        }
        if output.contains("generation 0 (cold)") {
            return refused(known, &output, table);
        }
        // Nothing happened: it is refused to load a kernel where nothing is left of scratch.
        if !output.contains("nothing was loaded") || known.stood == 0 {
            known
                .guest
                .fail("a damaged kexec ended in neither of the two ways");
        }
        table.resets += 1;
        known = Known::reset(known.guest);
    }
}

/// The command for a bit of some page of an owner's.
fn page_command(guest: &mut Guest, owner: &str, page: u64, bit: u64) -> String {
    let text = guest.ok(&format!("grep '^.0x.*{owner}' {KHO}/out/preserved"));
    let mut ranges = Vec::new();
    for line in text.lines() {
        let numbers: Option<Vec<u64>> = line
            .trim_start_matches('[')
            .split(')')
            .next()
            .map(|range| range.split(", "))
            .and_then(|numbers| {
                let hex = |n: &str| u64::from_str_radix(n.trim_start_matches("0x"), 16).ok();
                numbers.map(hex).collect()
            });
        match numbers.as_deref() {
            Some([start, end]) => ranges.push((*start, *end)),
            _ => guest.fail(&format!("{line:?} is no range of memory")),
        }
    }
    let pages: u64 = ranges.iter().map(|(start, end)| (end - start) / 4096).sum();
    if pages == 0 {
        guest.fail(&format!("{owner} has no preserved pages"));
    }
    let mut rest = page % pages;
    for (start, end) in ranges {
        let pages = (end - start) / 4096;
        if rest < pages {
            return format!("page {:#x} {bit}", start + rest * 4096);
        }
        rest -= pages;
    }
    unreachable!("the number is below that of all pages")
}

/// The next kernel took the handover over: every value is as it was, or said to be lost.
fn taken_over(
    mut known: Known,
    damage: &Damage,
    command: &str,
    table: &mut Table,
) -> (String, Known) {
    let guest = &mut known.guest;
    if matches!(damage, Damage::Page("initrd", ..)) {
        // Said when the console is idle, which must not be in the middle of a command.
        guest.expect(BROKEN_SEAL);
    }
    let shown = guest.run(&look());
    let (boots, values) = part(guest, &shown);
    let history = guest.run("history | tail -n 3");
    let report = guest.run(&format!("cat {KHO}/in/report"));
    let as_it_was = boots == known.boots + 1
        && values == known.values
        && history.contains(&format!("echo {command} >"));
    let is_lost = |line: &str| {
        let (name, outcome) = line.split_once(": ").unwrap_or((line, ""));
        BLOBS.contains(&name) && !outcome.starts_with("restored")
    };
    let said: Vec<&str> = report
        .lines()
        .filter(|line| is_lost(line) || line.starts_with("trouble: ") || is_broken_seal(line))
        .collect();
    if as_it_was && said.is_empty() {
        known.generation += 1;
        known.boots = boots;
        return ("harmless: every value as it was".to_owned(), known);
    }
    let result = match damage {
        // The content of a page that nobody sealed.
        Damage::Page("trace", ..) => {
            // All that stands before the first line of the trace; each field of that line may read otherwise.
            let others = |line: &&str| !line.contains("tracing_mark_write");
            let count = known.values.lines().take_while(others).count();
            let same = values
                .lines()
                .take(count)
                .eq(known.values.lines().take(count));
            if !same {
                guest.fail("a bit of a trace page changed more than the trace");
            }
            match said.first() {
                Some(line) => format!("told: {}", without_numbers(line)),
                None => "an event of an unsealed page reads otherwise".to_owned(),
            }
        }
        Damage::Page("kho_test", ..) if said.is_empty() => {
            if !values.contains("damaged: 1\ndamaged page: ") {
                guest.fail("the damaged page of the test memory was not found");
            }
            "told: the damaged page is named".to_owned()
        }
        // Somebody says what is lost; whoever says nothing has everything.
        _ => {
            let Some(first) = said.first() else {
                guest.fail("a value has changed, and nobody says so")
            };
            let lost = |name: &str| {
                let of_words = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
                let mut words = said.iter().flat_map(|line| line.split(of_words));
                words.any(|word| word == name)
            };
            let demo =
                values.lines().next() == known.values.lines().next() && boots == known.boots + 1;
            let markers = |text: &str| text.matches("tracing_mark_write").count();
            let test = |text: &str| text.contains("intact: 256");
            for (name, kept) in [
                ("demo", demo || lost("demo") && boots == 1),
                (
                    "trace",
                    markers(&values) == markers(&known.values)
                        || lost("trace") && markers(&values) == 0,
                ),
                (
                    "kho_test",
                    test(&values) || lost("kho_test") && values.contains("pages: 0\n"),
                ),
                (
                    "console",
                    history.contains(&format!("echo {command} >")) || lost("console"),
                ),
            ] {
                if !kept {
                    guest.fail(&format!("{name} has another value, and nobody says so"));
                }
            }
            format!("told: {}", without_numbers(first))
        }
    };
    // A damaged file is not loaded.
    if matches!(damage, Damage::Page("initrd", ..)) {
        let said = guest.run("kexec -l");
        if !said.contains("has changed since it was sealed") && !said.contains("is loaded") {
            guest.fail("a kernel from a damaged initrd was neither loaded nor refused by name");
        }
        table.resets += 1;
        return (result, Known::reset(known.guest));
    }
    let mut next = Known::set(known.guest, known.generation + 1);
    next.stood = known.stood;
    (result, next)
}

fn is_broken_seal(line: &str) -> bool {
    line.starts_with("seals: ") && line.contains(BROKEN_SEAL)
}

/// The next kernel refused the handover, and has nothing of it.
fn refused(mut known: Known, output: &str, table: &mut Table) -> (String, Known) {
    let reasons: Vec<&str> = crate::lines(output)
        .filter(|line| line.contains("this kernel starts cold") || line.contains("so it is reset"))
        .collect();
    let [reason] = reasons[..] else {
        known
            .guest
            .fail("one line should say why a handover is refused");
    };
    let result = format!("refused: {}", without_numbers(reason));
    let shown = known.guest.run(&look());
    let (boots, values) = part(&mut known.guest, &shown);
    if boots != 1 || !values.contains("pages: 0\n") || values.contains("tracing_mark_write") {
        known
            .guest
            .fail("a kernel that refused a handover has values of it");
    }
    let stood = known.stood;
    let next = match Known::try_set(known.guest, 0) {
        // A reset of the machine gives scratch back.
        Ok(next) if reason.contains("so it is reset") => next,
        Ok(next) => Known { stood, ..next },
        // The kernels that refused have left less and less of scratch.
        Err(guest) if stood > 0 => {
            table.resets += 1;
            Known::reset(*guest)
        }
        Err(mut guest) => guest.fail("there is no memory for the values"),
    };
    (result, next)
}
