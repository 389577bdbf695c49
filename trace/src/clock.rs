//! The clocks that stamp events.

use handover::KState;

/// A clock of `trace_clock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
#[repr(u8)]
pub enum ClockId {
    /// Nanoseconds, cheap, of this CPU.
    #[default]
    Local = 0,
    /// Nanoseconds that never go back, whichever CPU asks: slower, for all CPUs share a word.
    Global = 1,
    /// Counts events, over all CPUs.
    Counter = 2,
    /// Nanoseconds since the machine's start. Nothing adjusts the clock here, so that it is `local`.
    Mono = 3,
    /// As `mono`, and counting while the machine sleeps.
    Boot = 4,
    /// Raw cycles of the time stamp counter.
    X86Tsc = 5,
}

impl ClockId {
    /// All clocks, in the order of `trace_clock`.
    pub const ALL: [ClockId; 6] = [
        ClockId::Local,
        ClockId::Global,
        ClockId::Counter,
        ClockId::Mono,
        ClockId::Boot,
        ClockId::X86Tsc,
    ];

    /// Linux's name for it.
    pub fn name(self) -> &'static str {
        match self {
            ClockId::Local => "local",
            ClockId::Global => "global",
            ClockId::Counter => "counter",
            ClockId::Mono => "mono",
            ClockId::Boot => "boot",
            ClockId::X86Tsc => "x86-tsc",
        }
    }

    /// The clock of this name.
    pub fn parse(name: &str) -> Option<ClockId> {
        Self::ALL.into_iter().find(|clock| clock.name() == name)
    }

    /// Whether it counts nanoseconds; else its stamps are printed raw.
    pub fn in_ns(self) -> bool {
        !matches!(self, ClockId::Counter | ClockId::X86Tsc)
    }
}
