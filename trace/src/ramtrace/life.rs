//! What a life says of itself in its metadata pages.

use alloc::string::String;
use alloc::vec::Vec;
use handover::KState;

/// One life's metadata: an entry of a state stream ([`handover::state`]), so that later kernels can read what earlier ones wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(id = 0x7261_6d01, version = 1)]
pub struct Life {
    /// Counts up from 1; unique in the region.
    pub number: u64,
    /// Drawn anew at each cold start, in the form of a UUID.
    pub boot_id: String,
    /// The kernel's release.
    pub release: String,
    /// [`Platform::build`](crate::Platform::build) of it.
    pub build: u64,
    /// How many kexecs it had seen when this was written.
    pub generation: u32,
    /// CPUs that it had.
    pub cpus: u32,
    /// The clock of the top instance.
    pub clock: String,
    /// The tracer of the top instance.
    pub tracer: String,
    /// Its buffers in the region.
    pub buffers: Vec<Buffer>,
    /// Where the log is: data pages in order; none where there is no log.
    pub log: Vec<u32>,
    /// Where the state is (a stream with a [`TracerState`](crate::TracerState) that has no buffers): data pages in order.
    pub state: Vec<u32>,
    /// Bytes of the state, and their CRC-32.
    pub state_len: u32,
    /// See `state_len`.
    pub state_crc: u32,
    /// Event pages that a later life has taken, the oldest first, since the region was full.
    pub taken_pages: u64,
    /// Lives before this one that were erased to make room for it, or have lost their last event page to it.
    pub erased_lives: u32,
}

/// A buffer of a life.
#[derive(Clone, Debug, Default, PartialEq, Eq, KState)]
#[kstate(nested)]
pub struct Buffer {
    /// Its number in the marks: the instance's slot, 0 for the top one.
    pub number: u8,
    /// The instance's name; empty for the top one.
    pub name: String,
    /// Pages that each CPU has, by ascending CPU; none of a buffer that was erased, or taken to its last page: its
    /// pages are nobody's, or about to be.
    pub pages: Vec<u32>,
}

impl Buffer {
    /// Whether nothing is left of it: it stands there so that the others keep their places.
    pub fn is_erased(&self) -> bool {
        self.pages.is_empty()
    }
}
