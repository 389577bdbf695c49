//! A `trace-reader --check` on each CPU: what they find, and whether it is all right.

use std::collections::BTreeMap;

use crate::{Guest, lines, stats};

/// What a reader has told of a CPU at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Events that were read; each was decoded, and its time was not before that of the one before.
    pub shown: u64,
    /// Events that it was told were lost.
    pub lost: u64,
    /// Switches that chained.
    pub switches: u64,
    /// Handlers that were entered and left.
    pub handlers: u64,
    /// Who was left by the first switch, if nothing is missing before it.
    pub first: Option<u64>,
    /// Who runs after the last event, if that is known.
    pub running: Option<u64>,
    /// Its complaints.
    pub wrong: Vec<String>,
}

/// What readers have printed, by CPU. Lines of others may stand between.
pub fn parse(text: &str) -> BTreeMap<u32, Read> {
    let mut all: BTreeMap<u32, Read> = BTreeMap::new();
    for line in lines(text) {
        if let Some((_, what)) = line.split_once("trace-reader: ") {
            let cpu = crate::number_after(what, "cpu ").unwrap_or_default() as u32;
            all.entry(cpu).or_default().wrong.push(what.to_owned());
            continue;
        }
        let Some((cpu, what)) = line
            .split_once("# cpu ")
            .and_then(|(_, rest)| rest.split_once(": "))
        else {
            continue;
        };
        let Ok(cpu) = cpu.parse() else {
            continue;
        };
        let read = all.entry(cpu).or_default();
        let words: Vec<&str> = what.split([' ', ',']).filter(|w| !w.is_empty()).collect();
        match words[..] {
            [shown, "events", "shown", lost, "lost"] => {
                read.shown = shown.parse().unwrap_or_default();
                read.lost = lost.parse().unwrap_or_default();
            }
            [
                switches,
                "switches",
                "from",
                first,
                "to",
                running,
                handlers,
                "handlers",
                "looked",
                "at",
            ] => {
                read.switches = switches.parse().unwrap_or_default();
                read.handlers = handlers.parse().unwrap_or_default();
                read.first = first.parse().ok();
                read.running = running.parse().ok();
            }
            _ => {}
        }
    }
    all
}

/// Lets a reader follow each CPU for so many seconds, all at once.
pub fn follow(guest: &mut Guest, cpus: u32, seconds: u32) -> BTreeMap<u32, Read> {
    let mut text = String::new();
    // They write to the console when they want, so that no status can be asked for meanwhile.
    for cpu in 0..cpus {
        text += &guest.run(&format!(
            "run trace-reader {cpu} --time {seconds} --quiet --check &"
        ));
    }
    for _ in 0..cpus {
        text += &guest.expect(" handlers looked at");
    }
    guest.send("\r");
    text += &guest.expect_prompt();
    parse(&text)
}

/// Reads what is there on each CPU, one after the other.
pub fn drain(guest: &mut Guest, cpus: u32) -> BTreeMap<u32, Read> {
    let text: String = (0..cpus)
        .map(|cpu| guest.run(&format!("run trace-reader {cpu} --quiet --check")))
        .collect();
    parse(&text)
}

/// The reads of one CPU, one after the other: from an empty buffer on, over the lives of the kernel, to an empty buffer. Complaints.
pub fn together(reads: &[&Read]) -> Vec<String> {
    let mut wrong: Vec<String> = reads.iter().flat_map(|read| read.wrong.clone()).collect();
    for pair in reads.windows(2) {
        if let (Some(running), Some(first)) = (pair[0].running, pair[1].first)
            && running != first
        {
            wrong.push(format!(
                "task {running} ran at the end of a read, and the next one begins with a switch from {first}"
            ));
        }
    }
    wrong
}

/// What `stats` says of a CPU whose buffer was read to its end, against what its readers have shown and were told is lost: complaints.
pub fn against_stats(guest: &mut Guest, cpu: u32, reads: &[&Read]) -> Vec<String> {
    let text = guest.ok(&format!("cat /sys/kernel/tracing/per_cpu/cpu{cpu}/stats"));
    let stats = stats(&text);
    let sum = |what: fn(&Read) -> u64| reads.iter().map(|read| what(read)).sum::<u64>();
    [
        ("entries", 0),
        ("read events", sum(|read| read.shown)),
        ("overrun", sum(|read| read.lost)),
        ("commit overrun", 0),
        ("dropped events", 0),
    ]
    .into_iter()
    .filter(|(name, seen)| stats.get(*name) != Some(seen))
    .map(|(name, seen)| {
        format!("{name} should be {seen} by what the readers told, and stats says:\n{text}")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_print_is_understood() {
        let text = "[7] # cpu 1: 20 events shown, 3 lost\r\ntrace-reader: cpu 0: event 4 at 9: bad\r\n\
            # cpu 1: 5 switches from - to 0, 6 handlers looked at\r\n# cpu 1: 5 sub-buffers of 4096 bytes\r\n";
        let all = parse(text);
        assert_eq!(all[&0].wrong, ["cpu 0: event 4 at 9: bad"]);
        let one = Read {
            shown: 20,
            lost: 3,
            switches: 5,
            handlers: 6,
            running: Some(0),
            ..Read::default()
        };
        assert_eq!(all[&1], one);
        let next = Read {
            first: Some(3),
            ..Read::default()
        };
        assert_eq!(together(&[&one, &next]).len(), 1);
        assert_eq!(together(&[&next, &one]).len(), 0);
    }
}
