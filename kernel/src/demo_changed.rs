//! `demo_state` as the kernel's variants have it (features `next` and `broken`): the same subsystem under the same id, with
//! another state.

use crate::memory::IrqMutex;
use alloc::string::String;
use handover::Error;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem};

/// The version after that of `demo_state`, for kernels of both in both directions.
#[cfg(feature = "next")]
#[derive(Clone, KState)]
#[kstate(id = 0x13, version = 2, min_version = 1, readable_by = 1)]
pub struct Boots {
    pub count: u32,
    pub note: String,
    /// Nobody counts them any more.
    #[kstate(deprecated = 2, for_older, default = 0)]
    pub notes: u32,
    /// Lives in a row that counted this.
    #[kstate(since = 2, default = 0)]
    pub streak: u32,
    /// Who wrote the note.
    #[kstate(subsection)]
    pub author: Option<String>,
}

/// What a person does who forgets the version: `count` was a u32.
#[cfg(feature = "broken")]
#[derive(Clone, KState)]
#[kstate(id = 0x13, version = 1)]
pub struct Boots {
    pub count: u64,
    pub note: String,
    pub notes: u32,
}

pub static BOOTS: IrqMutex<Boots> = IrqMutex::new(Boots {
    count: 1,
    note: String::new(),
    notes: 0,
    #[cfg(feature = "next")]
    streak: 1,
    #[cfg(feature = "next")]
    author: None,
});
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        "demo"
    }
    fn states(&self) -> &'static [Desc] {
        &[Boots::DESC]
    }
    fn size(&self) -> usize {
        encoded_size(&*BOOTS.lock())
    }
    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &*BOOTS.lock())
    }
    fn prepare(&self, from: &StreamReader) -> Result<Prepared<'_>, Refusal> {
        let mut boots: Boots = from.get(0)?;
        boots.count = boots.count.saturating_add(1);
        #[cfg(feature = "next")]
        {
            boots.streak = boots.streak.saturating_add(1);
        }
        Ok(Prepared::new(|_| *BOOTS.lock() = boots))
    }
}
