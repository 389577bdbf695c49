//! Much scattered memory, preserved on purpose: for people who test handovers, as Linux's `lib/test_kho.c` is for them.
//!
//! `/sys/kernel/debug/kho/test` takes pages all over the memory, fills each with what follows from its address, and preserves
//! them as one list; every later kernel takes the list over and leaves it where it is, and reading the file checks every page.
//! The pages that make up the list never change once it is written, so they are sealed, and the successor checks the seals
//! before it follows a single address in them.

use crate::memory::{self, IrqMutex, Phys};
use crate::{boot, task};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use handover::error::Error;
use handover::mem::Memory;
use handover::page::PageRef;
use handover::page_list::PageList;
use handover::range::PhysRange;
use handover::seal::Seals;
use handover::state::{Desc, KState, StreamReader, StreamWriter, encoded_size};
use handover::subsystem::{Prepared, Refusal, Subsystem};
use kernel::layout::{DIRECT_MAP, PAGE};
use kernel::scattered::{self, Request};

/// Pages that stay free in any case: for the heap, and for what is described at a kexec.
const LEAST_FREE: u64 = 256;
/// The same once the heap has grown by what reading the list takes.
const LEAST_FREE_BESIDE_HEAP: u64 = 192;
/// Damaged pages that are named one by one.
const NAMED: usize = 8;

/// What crosses: the head of the list, what its pages hold, and the seals of the list itself.
#[derive(Clone, Debug, Default, KState)]
#[kstate(id = 0x18, version = 1)]
struct Preserved {
    first: u64,
    total_pages: u32,
    flags: u16,
    order: u16,
    seed: u64,
    /// As [`Seals::encode`] writes them.
    seals: Vec<u8>,
}

impl Preserved {
    fn list(&self) -> PageList {
        PageList {
            first: self.first,
            total_pages: self.total_pages,
            flags: self.flags,
            order: self.order,
        }
    }
}

/// The list there is; without pages: none.
static PRESERVED: IrqMutex<Option<Arc<Preserved>>> = IrqMutex::new(None);

/// Held by whoever makes the list, takes it back or follows it, which takes seconds where there is much of it.
static WORK: task::Mutex<()> = task::Mutex::new(());

fn preserved() -> Option<Arc<Preserved>> {
    PRESERVED.lock().clone()
}

/// The name under which it crosses.
const SUBSYSTEM: &str = "kho_test";

/// Its part of a handover. Its pages are preserved since they were asked for.
pub struct State;

impl Subsystem for State {
    fn name(&self) -> &'static str {
        SUBSYSTEM
    }

    fn states(&self) -> &'static [Desc] {
        &[Preserved::DESC]
    }

    /// A task that stands still in the middle of its work goes on only where there is no kexec.
    fn freeze(&self) -> Result<(), String> {
        match WORK.try_lock() {
            Some(_) => Ok(()),
            None => Err("its memory is being preserved, checked or given back".into()),
        }
    }

    fn size(&self) -> usize {
        encoded_size(&*preserved().unwrap_or_default())
    }

    fn describe(&self, out: &mut StreamWriter) -> Result<(), Error> {
        out.put(0, &*preserved().unwrap_or_default())
    }

    /// They stand in the list, and so in pages of its own.
    fn for_each_unlisted(&self, f: &mut dyn FnMut(PhysRange)) -> Result<(), String> {
        pages()?.iter().for_each(|page| f(page.range()));
        Ok(())
    }

    /// The predecessor's list is taken over where it is.
    fn prepare(&self, from: &StreamReader<'_>) -> Result<Prepared<'_>, Refusal> {
        let state: Preserved = from.get(0)?;
        let (mut pages, chunks) = match state.total_pages {
            0 => Default::default(),
            _ => take_over(&state).map_err(Refusal::Rejected)?,
        };
        // By address, neighbours are one claim.
        pages.sort_unstable();
        Ok(Prepared::new(move |takeover| {
            for page in pages.iter().chain(&chunks) {
                takeover.claim(page.range());
            }
            if !pages.is_empty() {
                *PRESERVED.lock() = Some(Arc::new(state));
            }
        }))
    }
}

/// Checks the list, and nothing of what its pages hold: that would take long. Its blocks, and the pages of the list itself.
fn take_over(state: &Preserved) -> Result<(Vec<PageRef>, Vec<PageRef>), String> {
    let seals = Seals::decode(&state.seals).map_err(|e| e.to_string())?;
    let (pages, chunks) = memory::with_preserved(|map| {
        for seal in seals.iter() {
            // SAFETY: nobody writes to what a predecessor left before it has been taken over.
            unsafe { seal.verify(map) }?;
        }
        state.list().blocks_and_chunks(map)
    })?;
    let sealed = seals.iter().map(|seal| seal.range);
    if !sealed.eq(chunks.iter().map(PageRef::range)) {
        return Err("the seals of the list are not those of its pages".into());
    }
    Ok((pages, chunks))
}

/// Preserves what is asked for.
///
/// # Errors
/// A sentence; nothing has changed then.
pub fn preserve(text: &str) -> Result<(), String> {
    let request = Request::parse(text)?;
    let _work = WORK.lock();
    if preserved().is_some() {
        return Err("there is preserved test memory already; `release` gives it back".into());
    }
    // Nearly all of memory may be asked for.
    task::give_back_stacks();
    let scratch: u64 = memory::with_scratch(|pool| pool.regions().iter().map(|r| r.len()).sum());
    let ram: u64 = memory::ram().iter().map(|r| r.len()).sum();
    // What the boot loader has is nobody's as long as the first kernel runs, but for the initrd, which is preserved there.
    let info = boot::info();
    let boot: u64 = info.boot_owned.iter().map(|r| r.len()).sum();
    let boot = boot.saturating_sub(info.initrd.size);
    let ordinary = ram.saturating_sub(scratch + boot) / PAGE;
    let wanted = request.blocks(ordinary, memory::preserved_pages());
    if wanted == 0 {
        return Err("so much is preserved already".into());
    }
    let to_draw = |least| {
        request
            .to_draw_from(wanted, memory::free_pages(), least)
            .map_err(|(wanted, had)| {
                format!(
                    "{} KiB are to be drawn from, and {} KiB are free for that",
                    wanted.saturating_mul(PAGE / 1024),
                    had * (PAGE / 1024)
                )
            })
    };
    let draw = |blocks: &mut Vec<u64>| {
        to_draw(LEAST_FREE)?;
        grow_heap_to_read(wanted as usize)?;
        let count = to_draw(LEAST_FREE_BESIDE_HEAP)?;
        // This may make the heap grow as well, and so is done before.
        blocks
            .try_reserve_exact(count as usize)
            .map_err(|_| "there is no memory for a list of the pages")?;
        while (blocks.len() as u64) < count && memory::free_pages() > LEAST_FREE_BESIDE_HEAP {
            let Some(pa) = Phys.alloc_pages(u32::from(request.order)) else {
                break;
            };
            blocks.push(pa);
        }
        Ok(())
    };
    let mut blocks = Vec::new();
    let drawn: Result<(), String> = draw(&mut blocks);
    let kept = match drawn {
        Ok(()) => request.choose(&mut blocks, wanted as usize),
        Err(_) => 0,
    };
    if kept as u64 != wanted {
        free(&blocks, request.order);
        drawn?;
        return Err(format!(
            "only {kept} of {wanted} such blocks can be had now"
        ));
    }
    free(&blocks[kept..], request.order);
    let blocks = &blocks[..kept];
    for block in blocks {
        for pa in pages_of(*block, request.order) {
            scattered::fill(page_at(pa), pa, request.seed);
        }
    }
    let list = list(blocks, &request).inspect_err(|_| free(blocks, request.order))?;
    *PRESERVED.lock() = Some(Arc::new(list));
    Ok(())
}

/// To read a list, at its release or to check it, takes heap, and when nearly all memory is gone there is none to be had: so
/// the heap grows before. It keeps what it has grown by.
fn grow_heap_to_read(blocks: usize) -> Result<(), String> {
    let [mut one, mut other] = [Vec::<u8>::new(), Vec::new()];
    let [first, second] = PageList::heap_to_read(blocks);
    one.try_reserve_exact(first)
        .and_then(|()| other.try_reserve_exact(second))
        .map_err(|_| "there is no memory for reading a list of the pages".into())
}

/// Preserves the blocks as a list, and seals it. All, or nothing where it fails.
fn list(blocks: &[u64], request: &Request) -> Result<Preserved, String> {
    let (list, seals) = memory::with_preserved(|map| {
        let list = PageList::preserve(map, blocks, request.order, 0)?;
        let sealed = list.chunks(map).and_then(|chunks| {
            let mut seals = Seals::new();
            for chunk in chunks {
                // SAFETY: the list is written, and changes no more.
                unsafe { seals.seal(map, chunk.range()) }?;
            }
            let mut bytes = alloc::vec![0; seals.encoded_size()];
            seals.encode(&mut bytes)?;
            Ok(bytes)
        });
        match sealed {
            Ok(seals) => Ok((list, seals)),
            Err(error) => {
                // The blocks are the caller's again.
                list.withdraw(map, blocks);
                Err(error)
            }
        }
    })?;
    Ok(Preserved {
        first: list.first,
        total_pages: list.total_pages,
        flags: list.flags,
        order: list.order,
        seed: request.seed,
        seals,
    })
}

/// Takes all of it back, and frees it.
///
/// # Errors
/// A sentence; nothing has changed then.
pub fn release() -> Result<(), String> {
    let _work = WORK.lock();
    let state = preserved().ok_or("there is no preserved test memory")?;
    let blocks = memory::with_preserved(|map| state.list().restore(map))?;
    for block in blocks {
        // SAFETY: this module's alone, and not preserved any more.
        unsafe { Phys.free_pages(block.pa, u32::from(block.order)) };
    }
    *PRESERVED.lock() = None;
    Ok(())
}

/// Checks every page; what there is, and what is wrong with it, as lines.
///
/// # Errors
/// A sentence, where the list cannot be read any more.
pub fn check() -> Result<String, String> {
    let _work = WORK.lock();
    let Some(state) = preserved() else {
        return Ok("pages: 0\n".into());
    };
    let (blocks, chunks) = memory::with_preserved(|map| state.list().blocks_and_chunks(map))?;
    let mut damaged = Vec::new();
    let (mut intact, mut others) = (0u64, 0u64);
    for pa in blocks.iter().flat_map(|b| pages_of(b.pa, b.order)) {
        if scattered::is_intact(page_at(pa), pa, state.seed) {
            intact += 1;
        } else if damaged.len() < NAMED {
            damaged.push(pa);
        } else {
            others += 1;
        }
    }
    let mut text = format!(
        "pages: {}\nblocks: {} of order {}\nlist: {} pages, sealed\nseed: {}\nintact: {intact}\ndamaged: {}\n",
        state.total_pages,
        blocks.len(),
        state.order,
        chunks.len(),
        state.seed,
        damaged.len() as u64 + others,
    );
    for pa in damaged {
        text += &format!("damaged page: {pa:#x}\n");
    }
    Ok(text)
}

/// The pages that are preserved for a test, by address; those of the list among them.
///
/// # Errors
/// [`Error::NoHeap`] and the others of a list that cannot be read, as a sentence.
fn pages() -> Result<Vec<PageRef>, String> {
    let _work = WORK.lock();
    let Some(state) = preserved() else {
        return Ok(Vec::new());
    };
    let mut pages = memory::with_preserved(|map| {
        let (mut pages, chunks) = state.list().blocks_and_chunks(map)?;
        pages
            .try_reserve_exact(chunks.len())
            .map_err(|_| Error::NoHeap {
                what: "a list of pages",
            })?;
        pages.extend(chunks);
        Ok(pages)
    })?;
    pages.sort_unstable();
    Ok(pages)
}

fn pages_of(block: u64, order: u8) -> impl Iterator<Item = u64> {
    (0..1 << order).map(move |n: u64| block + n * PAGE)
}

/// The words of a page of this module's.
fn page_at(pa: u64) -> &'static mut [u64] {
    // SAFETY: called for pages only that were allocated here, or that a checked list says are preserved for this module;
    // `WORK` is held, so nobody else has a reference; the direct map covers them, and pages are aligned.
    unsafe { core::slice::from_raw_parts_mut((DIRECT_MAP + pa) as *mut u64, PAGE as usize / 8) }
}

fn free(blocks: &[u64], order: u8) {
    for pa in blocks {
        // SAFETY: allocated for this module, and used by nobody.
        unsafe { Phys.free_pages(*pa, u32::from(order)) };
    }
}
