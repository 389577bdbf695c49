//! The options of an instance: what `options/*` and `trace_options` show.
//!
//! Names, order and defaults are those of `TRACE_FLAGS` in Linux's `kernel/trace/trace.h`, as far as there is something here that
//! they would change.

/// An option of an instance; each is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TraceOption {
    /// Events are shown by their fields, not by their print format.
    Fields,
    /// Where buffers have lost events, `trace` tells with which line a CPU's buffer begins.
    Annotate,
    /// Lines begin with task, CPU, flags and time.
    ContextInfo,
    /// Lines as the latency tracers have them: with times since the buffer was cleared, and marks for long gaps.
    LatencyFormat,
    /// The names of tasks are taken down when they record.
    RecordCmd,
    /// The newest events survive in a full buffer; off: the oldest do.
    Overwrite,
    /// Lines have the column of flags.
    IrqInfo,
    /// `trace_marker` and `trace_marker_raw` take something.
    Markers,
    /// Nothing is recorded while `trace` is printed.
    PauseOnTrace,
    /// After each event stands who called.
    Stacktrace,
    /// The buffers live in the region that outlives a reset. Of the ramtrace series; Linux has no such option. Not to be set by
    /// [`Instance::set_option`](crate::Instance::set_option), but by [`Tracer::set_persistent`](crate::Tracer::set_persistent).
    Persist,
}

impl TraceOption {
    /// All, in Linux's order.
    pub const ALL: [TraceOption; 11] = [
        TraceOption::Fields,
        TraceOption::Annotate,
        TraceOption::ContextInfo,
        TraceOption::LatencyFormat,
        TraceOption::RecordCmd,
        TraceOption::Overwrite,
        TraceOption::IrqInfo,
        TraceOption::Markers,
        TraceOption::PauseOnTrace,
        TraceOption::Stacktrace,
        TraceOption::Persist,
    ];

    /// The options of a new instance, as bits: all but `fields`, `latency-format`, `pause-on-trace`, `stacktrace`, `persist`.
    pub const DEFAULT: u32 = {
        let mut bits = 0;
        let mut i = 0;
        while i < Self::ALL.len() {
            if !matches!(
                Self::ALL[i],
                TraceOption::Fields
                    | TraceOption::LatencyFormat
                    | TraceOption::PauseOnTrace
                    | TraceOption::Stacktrace
                    | TraceOption::Persist
            ) {
                bits |= Self::ALL[i].bit();
            }
            i += 1;
        }
        bits
    };

    /// Its bit among an instance's options.
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// Linux's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            TraceOption::Fields => "fields",
            TraceOption::Annotate => "annotate",
            TraceOption::ContextInfo => "context-info",
            TraceOption::LatencyFormat => "latency-format",
            TraceOption::RecordCmd => "record-cmd",
            TraceOption::Overwrite => "overwrite",
            TraceOption::IrqInfo => "irq-info",
            TraceOption::Markers => "markers",
            TraceOption::PauseOnTrace => "pause-on-trace",
            TraceOption::Stacktrace => "stacktrace",
            TraceOption::Persist => "persist",
        }
    }

    /// The option of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|option| option.name() == name)
    }
}
