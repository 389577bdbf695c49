//! Reads the text of `trace`: Linux's layout, with separator lines between generations.
//!
//! ```text
//!           <idle>-0       [000] d..1.    12.345678: tracing_mark_write: line 17
//! #### generation 1 (kexec) starts here ####
//! ```

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which generation's part of the text it stands in.
    pub generation: u32,
    /// Index of the CPU.
    pub cpu: u32,
    /// Microseconds.
    pub micros: u64,
    /// The event's name.
    pub event: String,
    /// What the event's print format made.
    pub text: String,
}

/// The entries of a trace's text, in its order. Lines that begin with `#` are its header.
///
/// # Panics
/// With the line, where one is in another form.
pub fn parse(text: &str) -> Vec<Entry> {
    let mut generation = 0;
    let mut entries = Vec::new();
    for line in crate::lines(text) {
        if let Some(rest) = line.strip_prefix("#### generation ") {
            let number = rest.split(' ').next().and_then(|word| word.parse().ok());
            generation = number.unwrap_or_else(|| panic!("no generation in {line:?}"));
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            let is_note = line.contains("[LOST ") || line.starts_with("CPU:");
            if !is_note {
                let entry = entry(generation, line);
                entries.push(entry.unwrap_or_else(|| panic!("no line of a trace: {line:?}")));
            }
        }
    }
    entries
}

fn entry(generation: u32, line: &str) -> Option<Entry> {
    // The task's name may hold anything: start at the CPU, the first "[ddd]".
    let open = line.match_indices('[').map(|(at, _)| at).find(|&at| {
        let rest = &line[at + 1..];
        rest.find(']')
            .is_some_and(|end| end >= 3 && rest[..end].bytes().all(|b| b.is_ascii_digit()))
    })?;
    let (cpu, rest) = line[open + 1..].split_once(']')?;
    let mut words = rest.trim_start().splitn(2, ' ');
    let _flags = words.next()?;
    let (time, rest) = words.next()?.trim_start().split_once(": ")?;
    let (seconds, fraction) = time.split_once('.')?;
    if fraction.len() != 6 {
        return None;
    }
    let micros = seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?;
    let (event, text) = rest.split_once(':').unwrap_or((rest, ""));
    Some(Entry {
        generation,
        cpu: cpu.parse().ok()?,
        micros,
        event: event.to_owned(),
        text: text.strip_prefix(' ').unwrap_or(text).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_with_two_generations() {
        let text = "\
# tracer: nop
#
            init-1       [000] .....    12.345678: tracing_mark_write: line [017]: x
          <idle>-0       [001] d.h1.    12.345679: irq_handler_exit: irq=4 ret=handled
#### generation 1 (kexec) starts here ####
         console-1       [000] d....    13.000000: kexec_phase: phase=check
";
        let entries = parse(text);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].text, "line [017]: x");
        assert_eq!(entries[0].event, "tracing_mark_write");
        assert_eq!(
            (entries[1].cpu, entries[1].micros, entries[1].generation),
            (1, 12_345_679, 0)
        );
        assert_eq!((entries[2].generation, entries[2].micros), (1, 13_000_000));
    }

    #[test]
    #[should_panic(expected = "no line of a trace")]
    fn other_lines_are_told() {
        parse("something else\n");
    }
}
