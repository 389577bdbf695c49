//! An example of a subsystem: the number of starts, a note, and how often one was written. `docs/hand-over-your-state.md` explains it.

use crate::memory::IrqMutex;
use alloc::string::String;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem};

#[derive(Clone, KState)]
#[kstate(id = 0x13, version = 1)]
pub struct Boots {
    pub count: u32,
    pub note: String,
    pub notes: u32,
}
pub static BOOTS: IrqMutex<Boots> = IrqMutex::new(Boots {
    count: 1,
    note: String::new(),
    notes: 0,
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
    fn describe(&self, out: &mut StreamWriter) -> Result<(), handover::Error> {
        out.put(0, &*BOOTS.lock())
    }
    fn prepare(&self, from: &StreamReader) -> Result<Prepared<'_>, Refusal> {
        let mut boots: Boots = from.get(0)?;
        boots.count = boots.count.saturating_add(1);
        Ok(Prepared::new(|_| *BOOTS.lock() = boots))
    }
}
