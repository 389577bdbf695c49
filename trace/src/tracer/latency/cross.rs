//! The tracer of latencies as it crosses a kexec.

use super::super::hwlat::HwlatState;
use super::{Longest, Measured, Place, PlaceName, TaskName, Tracer};
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::tracer::SavedOption;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// The latency tracer as it crosses a kexec.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested, version = 2, min_version = 1, readable_by = 1)]
pub struct LatencyState {
    /// `current_tracer`; empty for `nop`.
    pub tracer: String,
    /// `tracing_thresh`, in ns.
    pub thresh_ns: u64,
    /// `tracing_max_latency`, in ns.
    pub max_ns: u64,
    /// The option `latency-format`, as it is without the tracer.
    pub latency_format: bool,
    /// The option `overwrite`, as it is without the tracer.
    pub overwrite: bool,
    /// The latency that is kept: one, or none.
    pub longest: Vec<SavedLatency>,
    /// What is chosen for the tracer `hwlat`.
    #[kstate(since = 2, default)]
    pub hwlat: HwlatState,
}

/// A latency as it crosses a kexec; its trace is the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct SavedLatency {
    /// Its length in ns.
    pub ns: u64,
    /// Its begin, in units of the clock.
    pub start: u64,
    /// The CPU.
    pub cpu: u32,
    /// The task.
    pub pid: i32,
    /// Its name.
    pub task: String,
    /// Its priority, in Linux's numbers.
    pub prio: i32,
    /// Where it began, by name; empty where that is not known.
    pub from: String,
    /// Where it ended.
    pub to: String,
}

impl LatencyState {
    /// Whether there is such a tracer.
    pub(in crate::tracer) fn measures(&self) -> bool {
        !self.tracer.is_empty()
    }
}

impl<P: Platform> Tracer<P> {
    pub(in crate::tracer) fn save_latency(&self) -> LatencyState {
        let options = self.latencies.options.lock();
        let (latency_format, overwrite) = match self.measured().keeps_max() {
            true => *options,
            false => self.options_of_nop(),
        };
        drop(options);
        let name = |place: &Place| {
            let mut name = String::new();
            // Writing to a String does not fail.
            let _ = place.write(&self.platform, &mut name);
            name
        };
        LatencyState {
            tracer: match self.measured() {
                Measured::Nothing => String::new(),
                measured => measured.name().into(),
            },
            thresh_ns: self.latency_thresh_ns(),
            max_ns: self.max_latency_ns(),
            latency_format,
            overwrite,
            longest: (self.longest().into_iter())
                .map(|longest| SavedLatency {
                    ns: longest.ns,
                    start: longest.start,
                    cpu: longest.cpu,
                    pid: longest.pid,
                    task: longest.task.as_str().into(),
                    prio: longest.prio,
                    from: longest
                        .between
                        .as_ref()
                        .map_or_else(String::new, |b| name(&b.0)),
                    to: longest
                        .between
                        .as_ref()
                        .map_or_else(String::new, |b| name(&b.1)),
                })
                .collect(),
            hwlat: self.hwlat(),
        }
    }

    /// Goes on with what an earlier life measured, and with the options as they were meanwhile.
    pub(in crate::tracer) fn restore_latency(
        &self,
        saved: LatencyState,
        options: &[SavedOption],
        troubles: &mut Vec<String>,
    ) {
        self.set_latency_thresh_ns(saved.thresh_ns);
        self.set_max_latency_ns(saved.max_ns);
        self.restore_hwlat(saved.hwlat);
        let measured = match saved.tracer.as_str() {
            "" => return,
            name => Measured::parse(name).filter(|one| *one != Measured::Nothing),
        };
        let back = |why: &str, troubles: &mut Vec<String>| {
            self.top
                .set_option(TraceOption::LatencyFormat, saved.latency_format);
            self.top.set_option(TraceOption::Overwrite, saved.overwrite);
            troubles.push(format!(
                "the tracer {:.64} ends, and nop goes on: {why}",
                saved.tracer
            ));
        };
        let Some(measured) = measured else {
            return back("it is not known here", troubles);
        };
        if !measured.keeps_max() {
            return self.start_measuring(measured);
        }
        if let Err(why) = self.top.keep_max() {
            return back(&format!("{why}"), troubles);
        }
        *self.latencies.options.lock() = (saved.latency_format, saved.overwrite);
        for saved in options {
            if let Some(option) = TraceOption::parse(&saved.name) {
                self.top.set_option(option, saved.on);
            }
        }
        let cut = |name: &str| Place::Named(PlaceName::new(name));
        let longest = saved.longest.first().map(|longest| {
            let mut task = TaskName::default();
            // A longer one is cut.
            let _ = core::fmt::Write::write_str(&mut task, &longest.task);
            Longest {
                ns: longest.ns,
                start: longest.start,
                cpu: longest.cpu,
                pid: longest.pid,
                task,
                prio: longest.prio,
                between: (!longest.from.is_empty()).then(|| (cut(&longest.from), cut(&longest.to))),
            }
        });
        self.platform
            .no_irq(|| *self.latencies.longest.lock() = longest);
        self.start_measuring(measured);
    }
}
