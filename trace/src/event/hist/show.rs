//! A histogram as text: the `hist` file, and the line of the `trigger` file.

use super::{By, Form, Hist, Key, Names, Sort, Source, Spec, unpack};
use crate::event::write_bytes;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt::{self, Write};

use super::map::Entry;

impl Key {
    fn write_name(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str(&self.name)?;
        match self.form {
            Form::Plain => Ok(()),
            Form::Hex => out.write_str(".hex"),
            Form::Log2 => out.write_str(".log2"),
            Form::Buckets(each) => write!(out, ".buckets={each}"),
            Form::Execname => out.write_str(".execname"),
            Form::Usecs => out.write_str(".usecs"),
            Form::Sym => out.write_str(".sym"),
            Form::SymOffset => out.write_str(".sym-offset"),
        }
    }

    fn write_value(
        &self,
        words: &[u64],
        notes: &[u64],
        names: Names<'_>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let name = &self.name;
        if self.source.is_text() {
            let text = unpack(words);
            write!(out, "{name}: ")?;
            write_bytes(out, &text)?;
            let fill = 50usize.saturating_sub(text.len());
            return write!(out, "{:fill$}", "");
        }
        let value = words.first().copied().unwrap_or(0);
        match self.form {
            Form::Hex => write!(out, "{name}: {value:x}"),
            Form::Log2 => write!(out, "{name}: ~ 2^{value:<2}"),
            Form::Buckets(each) => {
                let last = value.wrapping_add(each.max(1) - 1);
                write!(out, "{name}: ~ {value}-{last}")
            }
            Form::Execname => {
                let comm = unpack(notes);
                write!(out, "{name}: ")?;
                write_bytes(out, &comm)?;
                let fill = 16usize.saturating_sub(comm.len());
                write!(out, "{:fill$}[{value:10}]", "")
            }
            Form::Sym | Form::SymOffset => {
                let (write_name, fill) = match self.form {
                    Form::Sym => (names.function, 45),
                    _ => (names.place, 55),
                };
                let mut symbol = String::new();
                write_name(value, &mut symbol)?;
                write!(out, "{name}: [{value:x}] {symbol:<fill$}")
            }
            Form::Plain | Form::Usecs => write!(out, "{name}: {value:10}"),
        }
    }
}

impl Spec {
    fn write_sort(&self, sort: &Sort, out: &mut dyn Write) -> fmt::Result {
        match sort.by {
            By::Hitcount => out.write_str("hitcount")?,
            By::Val(i) => match self.vals.get(i) {
                Some(val) => val.write_name(out)?,
                None => return Err(fmt::Error),
            },
            By::Key(i) => match self.keys.get(i) {
                Some(key) => key.write_name(out)?,
                None => return Err(fmt::Error),
            },
        }
        if sort.descending {
            out.write_str(".descending")?;
        }
        Ok(())
    }

    /// Writes `hist:keys=...:size=N`, without the filter.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("hist:")?;
        if let Some(name) = &self.name {
            write!(out, "{name}:")?;
        }
        out.write_str("keys=")?;
        for (i, key) in self.keys.iter().enumerate() {
            out.write_str(if i > 0 { "," } else { "" })?;
            key.write_name(out)?;
        }
        out.write_str(":vals=")?;
        let mut first = self.no_hitcount;
        if !self.no_hitcount {
            out.write_str("hitcount")?;
        }
        for val in &self.vals {
            out.write_str(if first { "" } else { "," })?;
            first = false;
            val.write_name(out)?;
        }
        out.write_str(":sort=")?;
        for (i, sort) in self.sort.iter().enumerate() {
            out.write_str(if i > 0 { "," } else { "" })?;
            self.write_sort(sort, out)?;
        }
        write!(out, ":size={}", 1u64 << self.bits)?;
        if self.no_hitcount {
            out.write_str(":nohitcount")?;
        }
        Ok(())
    }

    /// The words of the key number `i`.
    fn key_of<'e>(&self, i: usize, entry: &'e Entry) -> &'e [u64] {
        let at: usize = self.keys[..i].iter().map(|key| key.source.words()).sum();
        entry
            .key
            .get(at..at + self.keys[i].source.words())
            .unwrap_or(&[])
    }

    fn compare(&self, sort: &Sort, a: &Entry, b: &Entry) -> Ordering {
        let order = match sort.by {
            By::Hitcount => a.sums.first().cmp(&b.sums.first()),
            By::Val(i) => a.sums.get(1 + i).cmp(&b.sums.get(1 + i)),
            By::Key(i) => {
                let (x, y) = (self.key_of(i, a), self.key_of(i, b));
                match self.keys[i].source {
                    source if source.is_text() => unpack(x).cmp(&unpack(y)),
                    Source::Int { signed: true, .. } => {
                        let number = |w: &[u64]| w.first().map(|w| *w as i64);
                        number(x).cmp(&number(y))
                    }
                    _ => x.first().cmp(&y.first()),
                }
            }
        };
        if sort.descending {
            order.reverse()
        } else {
            order
        }
    }
}

impl super::Val {
    fn write_name(&self, out: &mut dyn Write) -> fmt::Result {
        let hex = if self.hex { ".hex" } else { "" };
        write!(out, "{}{hex}", self.name)
    }
}

impl Hist {
    fn sorted(&self) -> (Vec<Entry>, u64, u64) {
        let (mut entries, hits, drops) = self.map().snapshot();
        entries.sort_by(|a, b| {
            self.spec
                .sort
                .iter()
                .map(|sort| self.spec.compare(sort, a, b))
                .find(|order| order.is_ne())
                // Those that are equal by what was asked for: by key, so that two looks show the same.
                .unwrap_or_else(|| a.key.cmp(&b.key))
        });
        (entries, hits, drops)
    }

    /// Writes the line of the `trigger` file: the histogram, its filter, and whether it counts.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write_trigger(&self, filter: Option<&str>, out: &mut dyn Write) -> fmt::Result {
        self.spec.write(out)?;
        if let Some(filter) = filter {
            write!(out, " if {filter}")?;
        }
        out.write_str(if self.paused() {
            " [paused]\n"
        } else {
            " [active]\n"
        })
    }

    /// Writes what the `hist` file shows of it; `names` those of functions.
    ///
    /// # Errors
    ///
    /// That of `out`.
    pub fn write(
        &self,
        filter: Option<&str>,
        names: Names<'_>,
        out: &mut dyn Write,
    ) -> fmt::Result {
        out.write_str("# event histogram\n#\n# trigger info: ")?;
        self.write_trigger(filter, out)?;
        out.write_str("#\n\n")?;
        let (entries, hits, drops) = self.sorted();
        for entry in &entries {
            out.write_str("{ ")?;
            for (i, key) in self.spec.keys.iter().enumerate() {
                out.write_str(if i > 0 { ", " } else { "" })?;
                key.write_value(self.spec.key_of(i, entry), &entry.notes, names, out)?;
            }
            out.write_str(" }")?;
            let mut sums = entry.sums.iter();
            let hitcount = sums.next().copied().unwrap_or(0);
            if !self.spec.no_hitcount {
                write!(out, " hitcount: {hitcount:10}")?;
            }
            for (val, sum) in self.spec.vals.iter().zip(sums) {
                let name = &val.name;
                if val.hex {
                    write!(out, "  {name}: {sum:10x}")?;
                } else {
                    write!(out, "  {name}: {sum:10}")?;
                }
            }
            out.write_char('\n')?;
        }
        let n = entries.len();
        write!(
            out,
            "\nTotals:\n    Hits: {hits}\n    Entries: {n}\n    Dropped: {drops}\n"
        )
    }
}
