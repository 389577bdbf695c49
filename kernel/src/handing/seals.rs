//! Sealed memory that came over, checked when there is time: a few pages at each look of the idle console, the rest when
//! somebody wants to know. Nothing of it is done in the blackout.

use crate::memory::{self, IrqMutex};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use handover::error::Error;
use handover::range::PhysRange;
use handover::seal::PageSeals;

/// Pages that are checked between two looks for a key: some 100 us.
const STEP_PAGES: usize = 4;

/// One owner's seals.
struct Check {
    owner: &'static str,
    seals: PageSeals,
    /// The next page.
    next: usize,
    broken: Vec<(PhysRange, Error)>,
}

impl Check {
    fn is_done(&self) -> bool {
        self.next >= self.seals.len()
    }

    fn step(&mut self) {
        let Some(seal) = self.seals.page(self.next) else {
            return;
        };
        self.next += 1;
        let checked = memory::with_preserved(|map| {
            // SAFETY: the owner has sealed what it does not write to.
            Ok(unsafe { seal.verify(map) })
        });
        if let Ok(Err(error)) = checked {
            crate::warning!("handover: {}: {error}", self.owner);
            self.broken.push((seal.range, error));
        }
    }
}

static CHECKS: IrqMutex<Vec<Check>> = IrqMutex::new(Vec::new());

/// Has an owner's seals checked in the idle time to come.
pub fn check_later(owner: &'static str, seals: PageSeals) {
    CHECKS.lock().push(Check {
        owner,
        seals,
        next: 0,
        broken: Vec::new(),
    });
}

/// Checks a few pages; whether there were any left.
pub fn idle_step() -> bool {
    let mut checks = CHECKS.lock();
    let Some(check) = checks.iter_mut().find(|check| !check.is_done()) else {
        return false;
    };
    for _ in 0..STEP_PAGES {
        check.step();
    }
    true
}

/// The first damaged page in a range of physical memory, once all seals have been checked.
pub fn damage_in(range: &PhysRange) -> Option<PhysRange> {
    while idle_step() {}
    let checks = CHECKS.lock();
    let mut broken = checks.iter().flat_map(|check| &check.broken);
    broken
        .find(|(page, _)| page.overlaps(range))
        .map(|(page, _)| *page)
}

/// What became of each owner's seals, all of which are checked for this: lines of the report.
pub fn text() -> String {
    while idle_step() {}
    let mut text = String::new();
    for check in CHECKS.lock().iter() {
        text += &format!(
            "seals: {}: {} of {} sealed pages are as they were\n",
            check.owner,
            check.seals.len() - check.broken.len(),
            check.seals.len(),
        );
        for (_, error) in &check.broken {
            text += &format!("seals: {}: {error}\n", check.owner);
        }
    }
    text
}
