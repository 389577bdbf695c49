//! An example of a subsystem: the number of starts, and a note. `docs/hand-over-your-state.md` explains it.

use crate::handing::{Received, Subsystem};
use crate::memory::IrqMutex;
use alloc::string::String;
use handover::state::{Desc, KState, StreamWriter, encoded_size};

#[derive(Clone, Default, KState)]
#[kstate(id = 0x13, version = 1)]
pub struct Boots {
    pub count: u32,
    pub note: String,
}
pub static BOOTS: IrqMutex<Boots> = IrqMutex::new(Boots {
    count: 0,
    note: String::new(),
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
}

pub fn init(received: &Received) {
    let boots: Boots = received.restore("demo").unwrap_or_default();
    let count = boots.count.saturating_add(1);
    *BOOTS.lock() = Boots { count, ..boots };
}
