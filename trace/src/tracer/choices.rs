//! What a person chooses for an instance beside its buffers: options, and when a reader wakes up.

use super::Instance;
use crate::options::TraceOption;
use crate::platform::Platform;
use crate::sync::{AtomicU8, AtomicU32, Ordering};

/// The `buffer_percent` of a new instance, as in Linux.
pub const DEFAULT_PERCENT: u8 = 50;

/// See the methods of [`Instance`].
pub(super) struct Choices {
    /// Bits of [`TraceOption`].
    options: AtomicU32,
    percent: AtomicU8,
}

impl Choices {
    pub(super) fn new(options: u32, percent: u8) -> Self {
        Choices {
            options: AtomicU32::new(options),
            percent: AtomicU8::new(percent.min(100)),
        }
    }
}

impl Default for Choices {
    fn default() -> Self {
        Choices::new(TraceOption::DEFAULT, DEFAULT_PERCENT)
    }
}

impl<P: Platform> Instance<P> {
    /// Whether `option` is on.
    pub fn option(&self, option: TraceOption) -> bool {
        self.choices.options.load(Ordering::Relaxed) & option.bit() != 0
    }

    /// Switches `option` on or off.
    pub fn set_option(&self, option: TraceOption, on: bool) {
        if on {
            self.choices
                .options
                .fetch_or(option.bit(), Ordering::Relaxed);
        } else {
            self.choices
                .options
                .fetch_and(!option.bit(), Ordering::Relaxed);
        }
        match option {
            TraceOption::Overwrite => self.apply_overwrite(),
            TraceOption::Stacktrace => self.refresh_masks(),
            _ => {}
        }
        self.region_changed();
    }

    /// All options that are on, as bits of [`TraceOption::bit`].
    pub fn options(&self) -> u32 {
        self.choices.options.load(Ordering::Relaxed)
    }

    pub(super) fn apply_overwrite(&self) {
        let on = self.option(TraceOption::Overwrite);
        for cpu in &self.cpus {
            cpu.buffer.set_overwrite(on);
            cpu.snapshot.set_overwrite(on);
        }
    }

    /// How much of a buffer, in percent, has to be filled before a reader of whole pages that waits is woken up.
    pub fn buffer_percent(&self) -> u8 {
        self.choices.percent.load(Ordering::Relaxed)
    }

    /// Chooses it; more than 100 is taken as 100.
    pub fn set_buffer_percent(&self, percent: u8) {
        self.choices
            .percent
            .store(percent.min(100), Ordering::Relaxed);
    }
}
