//! Buffers without pages: not needed yet, or not any more.
//!
//! The buffer itself stays in place, so that a writer who has found it a moment ago touches nothing that was freed: it finds the
//! buffer shut, and its event is refused. Readers find it empty.

use super::{CpuBuffer, reshape};
use crate::error::TraceError;
use crate::platform::Platform;

impl<P: Platform> CpuBuffer<P> {
    /// A buffer that has no pages yet: see [`revive`](Self::revive).
    pub fn retired(platform: P) -> Self {
        Self::from_parts(platform, reshape::no_ring(0))
    }

    /// Whether it has no pages.
    pub fn is_retired(&self) -> bool {
        self.pages() == 0
    }

    /// Stops the buffer and gives its pages back. Its events are gone, its counters zero; nothing is recorded in it any
    /// more, until [`revive`](Self::revive). Does nothing to a retired one.
    ///
    /// # Errors
    ///
    /// [`TraceError::Busy`] if a write does not end, [`TraceError::Mapped`]; then nothing has changed.
    pub fn retire(&self) -> Result<(), TraceError> {
        let old = self.exclusive(|reader, ring| {
            reader.not_mapped()?;
            if !ring.pages.is_empty() {
                // Stays until it is revived.
                self.shut();
            }
            self.forget(reader, 0);
            self.next_epoch();
            Ok(core::mem::replace(ring, reshape::no_ring(0)))
        })?;
        reshape::free_ring(&self.platform, old);
        Ok(())
    }

    /// Gives a retired buffer `pages` sub-buffers of `1 << order` pages each, as [`new`](Self::new); it is empty then, and
    /// records.
    ///
    /// # Errors
    ///
    /// [`TraceError::NoMemory`], [`TraceError::Order`], [`TraceError::Busy`] if it has pages; then nothing has changed.
    pub fn revive(&self, pages: usize, order: u8) -> Result<(), TraceError> {
        let mut new = reshape::new_ring(&self.platform, pages, order, None)?;
        let result = self.exclusive(|reader, ring| {
            if !ring.pages.is_empty() {
                return Err(TraceError::Busy);
            }
            core::mem::swap(ring, &mut new);
            self.forget(reader, 0);
            self.next_epoch();
            self.open();
            Ok(())
        });
        reshape::free_ring(&self.platform, new);
        result
    }
}
