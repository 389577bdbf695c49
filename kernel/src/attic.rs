//! A subsystem that only the variant `kernel-next` has: pages that stay where they are, and a number in the first of them
//! that each life adds to. To a kernel without it they are pages that nobody claims.

use crate::memory::{self, IrqMutex};
use alloc::format;
use alloc::vec::Vec;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem, Takeover};
use handover::{Error, PageRef};
use kernel::layout::{DIRECT_MAP, PAGE};

/// Pages, each a block of its own.
const PAGES: usize = 24;

#[derive(Clone, Default, KState)]
#[kstate(id = 0x14, version = 1)]
struct Attic {
    #[kstate(pages)]
    pages: Vec<PageRef>,
}

static ATTIC: IrqMutex<Attic> = IrqMutex::new(Attic { pages: Vec::new() });

/// The attic's part of a handover.
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        "attic"
    }

    fn states(&self) -> &'static [Desc] {
        &[Attic::DESC]
    }

    fn size(&self) -> usize {
        encoded_size(&*ATTIC.lock())
    }

    fn describe(&self, out: &mut StreamWriter<'_>) -> Result<(), Error> {
        out.put(0, &*ATTIC.lock())
    }

    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        // That they are preserved has been checked: `pages` says that they are its own.
        let attic: Attic = from.get(0)?;
        if attic.pages.is_empty() {
            return Err(Refusal::Rejected("it has no page".into()));
        }
        Ok(Prepared::new(|takeover| move_in(attic, takeover)))
    }

    fn anew(&self, takeover: &mut Takeover<'_>) {
        let mut attic = Attic::default();
        for _ in 0..PAGES {
            match memory::with_preserved(|map| map.alloc_preserved(0)) {
                Ok(page) => attic.pages.push(page),
                Err(why) => {
                    takeover.trouble(format!("it has {} pages only: {why}", attic.pages.len()));
                    break;
                }
            }
        }
        if let Some(first) = attic.pages.first() {
            // SAFETY: the page has just been allocated, and the direct map covers it.
            unsafe { core::ptr::write_bytes((DIRECT_MAP + first.pa) as *mut u8, 0, PAGE as usize) };
            move_in(attic, takeover);
        }
    }
}

/// One life more in these pages, of which there is one at least.
fn move_in(attic: Attic, takeover: &mut Takeover<'_>) {
    for page in &attic.pages {
        takeover.claim(page.range());
    }
    let number = (DIRECT_MAP + attic.pages[0].pa) as *mut u64;
    // SAFETY: the page is the attic's alone, preserved since it was allocated, and the direct map covers it.
    let lives = unsafe {
        let lives = number.read().saturating_add(1);
        number.write(lives);
        lives
    };
    takeover.remark(format!(
        "{lives} lives have been in these {} pages",
        attic.pages.len()
    ));
    *ATTIC.lock() = attic;
}
