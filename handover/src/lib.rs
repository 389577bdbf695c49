//! What crosses a kexec, and how it is checked.
//!
//! A kernel that is about to be replaced keeps here what its successor shall have; the successor, which trusts nothing,
//! checks it here. The crate touches no hardware: physical memory comes in through [`mem::Memory`], so all of it runs
//! on the host as well.
//!
//! | piece | what it is |
//! | --- | --- |
//! | [`fdt`] | the directory: an FDT that names the preserved map, each subsystem's blob, and the command line |
//! | [`radix`] | the preserved-memory map: which pages stay as they are, in KHO's radix tree, handed over in place |
//! | [`page_list`] | lists of scattered pages (`kho_vmalloc`), preserved and taken back as a whole |
//! | [`scratch`] | the regions that never hold anything preserved, in which the next kernel starts |
//! | [`state`] | declared state: `#[derive(KState)]`, versions, fingerprints, streams of checksummed entries |
//! | [`dump`] | a state stream as readable text, without the structs that wrote it |
//! | [`subsystem`] | who hands state over, in which order it is restored, all of it or nothing, and the report |
//! | [`metadata`] | `kexec-metadata`: the kernel before, and the number of kexecs |
//! | [`check`] | the receiving side's whole check: FDT, scratch, map and blobs, each by itself and against the others |
//! | [`claims`] | claim or discard: who took what, and what is named and given back |
//! | [`seal`] | checksums of preserved memory, by range, for those who want them |
//! | [`range`], [`page`] | ranges of physical memory and blocks of pages, the values that all of it is made of |
//! | [`error`] | why something was refused, in one sentence |
//! | `sim` | simulated physical memory for tests (feature `sim`, needs std) |
//!
//! The order of a crossing, with the calls of this crate:
//!
//! ```text
//! old kernel, running   PreservedMap::preserve           as memory is given out that shall stay
//!             describe  StreamWriter::put                into a blob in preserved memory
//!                       fdt::build                       likewise
//!             last      StreamWriter, fdt::set_subsystem, fdt::set_map_digest, interrupts off: none allocates
//! new kernel  check     scratch::decode, check::verify   refuses with a sentence, or takes the map over
//!             start     PreservedMap::for_each_block, for_each_node   what the page allocator keeps off
//!             restore   StreamReader::get                each state wholly, or not at all
//! ```
//!
//! # A struct that crosses
//!
//! ```
//! use handover::state::{KState, STREAM_OVERHEAD, StreamReader, StreamWriter, encoded_size};
//! use handover::{Error, PageRef};
//!
//! #[derive(KState, Debug, PartialEq)]
//! #[kstate(id = 0x21, version = 2, min_version = 1)]
//! struct Recorder {
//!     recording: bool,
//!     #[kstate(since = 2, default = String::from("local"))]
//!     clock: String,
//!     #[kstate(pages)] // handed over with it: `state::for_each_page` finds them
//!     buffers: Vec<PageRef>,
//! }
//!
//! let old = Recorder {
//!     recording: true,
//!     clock: String::from("mono"),
//!     buffers: vec![PageRef::new(0x20_0000, 9)?],
//! };
//!
//! // The old kernel.
//! let mut blob = vec![0; STREAM_OVERHEAD + encoded_size(&old)];
//! let mut stream = StreamWriter::new(&mut blob);
//! stream.put(0, &old)?;
//! let used = stream.finish()?;
//!
//! // The new one.
//! let stream = StreamReader::new(&blob[..used])?;
//! let new: Recorder = stream.get(0)?;
//! assert_eq!(new, old);
//!
//! // A damaged stream is refused, with a sentence.
//! blob[used - 20] ^= 1;
//! let refused = StreamReader::new(&blob).unwrap_err();
//! assert!(refused.to_string().starts_with("state stream: `Recorder` (id 0x21, instance 0) has checksum"));
//! # Ok::<(), Error>(())
//! ```
#![no_std]

extern crate alloc;
// The derive macro writes `::handover::...`; that must hold inside this crate too.
extern crate self as handover;
#[cfg(any(test, feature = "sim"))]
extern crate std;

pub mod check;
pub mod claims;
pub mod dump;
pub mod error;
pub mod fdt;
pub mod mem;
pub mod metadata;
pub mod page;
pub mod page_list;
pub mod preserved;
pub mod radix;
pub mod range;
pub mod scratch;
pub mod seal;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod state;
pub mod subsystem;

pub use error::Error;
pub use page::PageRef;
pub use range::PhysRange;
pub use state::KState;

/// The examples of the guide, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/hand-over-your-state.md")]
mod guide {}
