//! How much of scratch is used, and whether it is enough: what its size should be is said by what starts really took.

use core::fmt;

use super::LARGE_PAGE;

/// From this percentage of scratch on, a warning is due: the next kernel may be a little larger.
pub const WARN_PERCENT: u64 = 85;

/// What scratch has, what it holds, and what a crossing needs of it. All in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All regions together.
    pub size: u64,
    /// In use now: the running kernel, if it came by kexec, its early pages, and a loaded image.
    pub used: u64,
    /// The most that was in use at once in this life.
    pub peak: u64,
    /// What a crossing needs: two kernels and what belongs to them, and the early pages of one, as far as this one knows.
    pub needed: u64,
}

impl Usage {
    /// The larger of what was used and what is needed.
    fn wanted(&self) -> u64 {
        self.peak.max(self.needed)
    }

    /// Bytes that are missing; 0 where scratch is large enough.
    pub const fn missing(&self) -> u64 {
        let wanted = if self.peak > self.needed {
            self.peak
        } else {
            self.needed
        };
        wanted.saturating_sub(self.size)
    }

    /// Whether it is fuller than [`WARN_PERCENT`], or would be after a crossing.
    pub fn is_nearly_full(&self) -> bool {
        u128::from(self.wanted()) * 100 >= u128::from(self.size) * u128::from(WARN_PERCENT)
    }

    /// A size for `kho_scratch=` with which this is less than [`WARN_PERCENT`]: whole large pages.
    pub fn advised(&self) -> u64 {
        let wanted = self.wanted().saturating_add(1);
        let size = u128::from(wanted) * 100 / u128::from(WARN_PERCENT) + 1;
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        size.checked_next_multiple_of(LARGE_PAGE)
            .unwrap_or(u64::MAX / LARGE_PAGE * LARGE_PAGE)
    }
}

/// `16384 KiB, 1500 KiB in use, at most 5012 KiB, 6200 KiB needed by a crossing`; and what is wrong with it, where
/// something is.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        write!(
            f,
            "{} KiB, {} KiB in use, at most {} KiB, {} KiB needed by a crossing",
            self.size / 1024,
            kib(self.used),
            kib(self.peak),
            kib(self.needed)
        )?;
        match (self.missing(), self.is_nearly_full()) {
            (0, false) => Ok(()),
            (0, true) => write!(
                f,
                "; nearly full: kho_scratch={}M would leave room",
                self.advised() >> 20
            ),
            (missing, _) => write!(
                f,
                "; {} KiB too few: kho_scratch={}M would do",
                kib(missing),
                self.advised() >> 20
            ),
        }
    }
}
