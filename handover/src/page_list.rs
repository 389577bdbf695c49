//! Lists of scattered pages: memory that is in a row for its user only (a `vmalloc` area), preserved block by block.
//!
//! Source: `struct kho_vmalloc` and `struct kho_vmalloc_chunk` of Linux's `include/linux/kho/abi/kexec_handover.h`. The
//! head, 16 bytes, goes into the subsystem's own blob; it leads to a chain of chunks, each a preserved page:
//!
//! ```text
//! head                                  chunk (a page)
//!  0  u64 first: address of a chunk      0  u64 next: address of a chunk, 0 = the last
//!  8  u32 total_pages                    8  u64 addresses of blocks, in the user's order;
//! 12  u16 flags                             up to 511, ended by 0 where there are fewer
//! 14  u16 order: of each block
//! ```
//!
//! All numbers are native-endian. `total_pages` counts pages, not blocks.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Error, ListFault};
use crate::mem::Memory;
use crate::page::{MAX_ORDER, PageRef};
use crate::radix::{Node, PreservedMap, SLOTS};

/// The area was made by `vmalloc` itself (`KHO_VMALLOC_ALLOC`).
pub const ALLOC: u16 = 1;
/// It may be mapped with large pages (`KHO_VMALLOC_HUGE_VMAP`).
pub const HUGE_VMAP: u16 = 2;
/// Bytes of the head.
pub const HEAD_SIZE: usize = 16;
/// Blocks that a chunk names at most.
pub const PER_CHUNK: usize = SLOTS - 1;

/// The head of a list: `struct kho_vmalloc`. Not to be believed before [`restore`](PageList::restore) has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageList {
    /// Physical address of the first chunk; 0 for an empty list.
    pub first: u64,
    /// Number of pages in all blocks.
    pub total_pages: u32,
    /// [`ALLOC`], [`HUGE_VMAP`].
    pub flags: u16,
    /// Order of each block.
    pub order: u16,
}

const _: () = assert!(size_of::<PageList>() == HEAD_SIZE);

impl PageList {
    /// Preserves the blocks of one order at these addresses, and writes the chunks that list them, in this order: all, or
    /// nothing where it fails.
    ///
    /// # Errors
    ///
    /// [`Error::ListHead`] for flags that are not known, or too many pages; those of [`PreservedMap::preserve`] (also for
    /// a block that stands twice) and of [`PreservedMap::alloc_preserved`].
    pub fn preserve<M: Memory>(
        map: &mut PreservedMap<M>,
        blocks: &[u64],
        order: u8,
        flags: u16,
    ) -> Result<PageList, Error> {
        PageRef { pa: 0, order }.check()?;
        let total_pages =
            u32::try_from((blocks.len() as u64) << order).map_err(|_| Error::ListHead {
                why: ListFault::TooMany,
            })?;
        let mut list = PageList {
            first: 0,
            total_pages,
            flags,
            order: u16::from(order),
        };
        list.check()?;
        let mut chunks = Vec::new();
        let wanted = blocks.len().div_ceil(PER_CHUNK);
        chunks.try_reserve_exact(wanted).map_err(|_| NO_HEAP)?;
        map.preserve_each(blocks.iter().map(|&pa| PageRef { pa, order }))?;
        let result = list.write(map, blocks, &mut chunks);
        if result.is_err() {
            for &pa in blocks {
                // Preserved just now; there is nothing that could refuse.
                let _ = map.unpreserve(PageRef { pa, order });
            }
            free_chunks(map, &chunks);
        }
        result.map(|()| list)
    }

    /// Takes a list back: all blocks and chunks leave the map, the chunks are freed, and the blocks, in the order in which
    /// they were listed, are the caller's. All, or nothing where it fails. It is the way back for a successor, and for a
    /// kernel that changed its mind.
    ///
    /// # Errors
    ///
    /// [`Error::ListHead`], [`Error::ListChunk`], [`Error::ListCount`], [`Error::ListTwice`]; for a block that is not
    /// preserved as the list says (so also the second time) those of [`PreservedMap::restore`]; [`Error::NoHeap`].
    pub fn restore<M: Memory>(&self, map: &mut PreservedMap<M>) -> Result<Vec<PageRef>, Error> {
        let (blocks, chunks) = self.read(map)?;
        for block in &blocks {
            map.restore(*block)?;
        }
        free_chunks(map, &chunks);
        Ok(blocks)
    }

    /// Takes a list back that [`preserve`](PageList::preserve) has made of these blocks in this life: the way back for a
    /// caller whose next step failed. Nothing of it needs the heap, so that it cannot fail for want of it.
    pub fn withdraw<M: Memory>(&self, map: &mut PreservedMap<M>, blocks: &[u64]) {
        let mut at = self.first;
        while let Some(chunk) = Node::at(map.memory(), at).filter(|_| at != 0) {
            let next = chunk.get(0);
            // SAFETY: as in `free_chunks`. A page that has left the map is refused, so that a chain in a circle ends.
            if unsafe { map.free_preserved(PageRef { pa: at, order: 0 }) }.is_err() {
                break;
            }
            at = next;
        }
        let order = self.order as u8;
        for &pa in blocks {
            // Preserved by the list; there is nothing that could refuse.
            let _ = map.unpreserve(PageRef { pa, order });
        }
    }

    /// Bytes of the large pieces of heap that reading a list of so many blocks takes, which it has at the same time.
    pub fn heap_to_read(blocks: usize) -> [usize; 2] {
        let chunks = blocks / PER_CHUNK + 1;
        [
            blocks * size_of::<PageRef>(),
            (blocks + chunks) * size_of::<u64>(),
        ]
    }

    /// The pages of the chain itself, in its order. The blocks are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::ListHead`], [`Error::ListChunk`]; [`Error::NoHeap`].
    pub fn chunks<M: Memory>(&self, map: &PreservedMap<M>) -> Result<Vec<PageRef>, Error> {
        let mut chunks = Vec::new();
        self.walk(map, |pa, _| {
            chunks.try_reserve(1).map_err(|_| NO_HEAP)?;
            chunks.push(PageRef { pa, order: 0 });
            Ok(())
        })?;
        Ok(chunks)
    }

    /// The blocks of a list, in their order, without taking anything: each was found to be preserved as the list says.
    ///
    /// # Errors
    ///
    /// Those of [`restore`](PageList::restore).
    pub fn blocks<M: Memory>(&self, map: &PreservedMap<M>) -> Result<Vec<PageRef>, Error> {
        Ok(self.read(map)?.0)
    }

    /// As [`blocks`](PageList::blocks), and beside them the pages of the chain itself, in its order: a successor that leaves
    /// the list where it is keeps both, and who seals the chain seals the list.
    ///
    /// # Errors
    ///
    /// Those of [`restore`](PageList::restore).
    pub fn blocks_and_chunks<M: Memory>(
        &self,
        map: &PreservedMap<M>,
    ) -> Result<(Vec<PageRef>, Vec<PageRef>), Error> {
        let (blocks, chunks) = self.read(map)?;
        let mut pages = Vec::new();
        pages.try_reserve_exact(chunks.len()).map_err(|_| NO_HEAP)?;
        pages.extend(chunks.into_iter().map(|pa| PageRef { pa, order: 0 }));
        Ok((blocks, pages))
    }

    /// What can be said against the head by itself.
    fn check(&self) -> Result<(), Error> {
        let fault = |why| Err(Error::ListHead { why });
        if self.flags & !(ALLOC | HUGE_VMAP) != 0 {
            return fault(ListFault::Flags(self.flags));
        }
        let divides = |order| self.total_pages & ((1_u32 << order) - 1) == 0;
        if self.order > u16::from(MAX_ORDER) || !divides(self.order) {
            return fault(ListFault::Order(self.order));
        }
        Ok(())
    }

    /// Number of blocks.
    fn len(&self) -> usize {
        (self.total_pages >> self.order) as usize
    }

    fn write<M: Memory>(
        &mut self,
        map: &mut PreservedMap<M>,
        blocks: &[u64],
        chunks: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let mut before: Option<Node> = None;
        for part in blocks.chunks(PER_CHUNK) {
            let pa = map.alloc_preserved(0)?.pa;
            chunks.push(pa);
            let chunk = Node::at(map.memory(), pa).ok_or(Error::NoPages { order: 0 })?;
            chunk.clear();
            for (index, &block) in part.iter().enumerate() {
                chunk.set(index + 1, block);
            }
            match before.replace(chunk) {
                Some(before) => before.set(0, pa),
                None => self.first = pa,
            }
        }
        Ok(())
    }

    /// Calls `f` with each chunk of the chain, and its address, as far as the chain can be followed.
    fn walk<M: Memory>(
        &self,
        map: &PreservedMap<M>,
        mut f: impl FnMut(u64, Node) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check()?;
        // Linux begins a new chunk when one is full, so that the last may be empty.
        let most = self.len() / PER_CHUNK + 1;
        let preserved = map.preserved_pages().try_into().unwrap_or(usize::MAX);
        let mut met = 0;
        let mut at = self.first;
        while at != 0 {
            let fault = |why| Error::ListChunk { chunk: at, why };
            if met == most {
                return Err(fault(ListFault::TooLong));
            }
            let chunk = Node::at(map.memory(), at).ok_or(fault(ListFault::NotAPage))?;
            if map.block_at(at) != Some(PageRef { pa: at, order: 0 }) {
                return Err(fault(ListFault::NotPreserved));
            }
            // The head's number is no bound for a chain in a circle: it may be anything.
            if met == preserved {
                return Err(fault(ListFault::NotSoMany));
            }
            f(at, chunk)?;
            met += 1;
            at = chunk.get(0);
        }
        Ok(())
    }

    /// Reads the chain, and doubts all of it. Changes nothing.
    fn read<M: Memory>(&self, map: &PreservedMap<M>) -> Result<(Vec<PageRef>, Vec<u64>), Error> {
        self.check()?;
        let (mut blocks, mut chunks) = (Vec::new(), Vec::new());
        // The head may say anything, but no list is longer than what is preserved.
        let most = map.preserved_pages().try_into().unwrap_or(usize::MAX);
        let most = self.len().min(most);
        blocks.try_reserve_exact(most).map_err(|_| NO_HEAP)?;
        chunks
            .try_reserve_exact(most / PER_CHUNK + 1)
            .map_err(|_| NO_HEAP)?;
        self.walk(map, |at, chunk| {
            let named = (1..SLOTS).map(|i| chunk.get(i)).take_while(|&pa| pa != 0);
            let named = named.map(|pa| PageRef {
                pa,
                order: self.order as u8,
            });
            // There is room, but for a chain that names more than the head says.
            blocks
                .try_reserve(named.clone().count())
                .map_err(|_| NO_HEAP)?;
            blocks.extend(named);
            chunks.try_reserve(1).map_err(|_| NO_HEAP)?;
            chunks.push(at);
            // Nor is there a bound for what the chunks of a circle name.
            let named = ((blocks.len() as u64) << self.order) + chunks.len() as u64;
            if named > map.preserved_pages() {
                let why = ListFault::NotSoMany;
                return Err(Error::ListChunk { chunk: at, why });
            }
            Ok(())
        })?;
        if blocks.len() != self.len() {
            return Err(Error::ListCount {
                said: self.total_pages,
                found: (blocks.len() as u64) << self.order,
            });
        }
        for block in &blocks {
            map.is_preserved_as(*block)?;
        }
        let mut all: Vec<u64> = Vec::new();
        all.try_reserve_exact(blocks.len() + chunks.len())
            .map_err(|_| NO_HEAP)?;
        all.extend(blocks.iter().map(|b| b.pa).chain(chunks.iter().copied()));
        all.sort_unstable();
        match all.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => Err(Error::ListTwice {
                block: PageRef {
                    pa: two[0],
                    order: self.order as u8,
                },
            }),
            None => Ok((blocks, chunks)),
        }
    }
}

const NO_HEAP: Error = Error::NoHeap {
    what: "a list of pages",
};

/// Frees chunks, which nobody but their list knows of.
fn free_chunks<M: Memory>(map: &mut PreservedMap<M>, chunks: &[u64]) {
    for &pa in chunks {
        // SAFETY: a page that was allocated for this list, and is found nowhere else in it. Where it is not preserved, it is
        // not freed.
        let _ = unsafe { map.free_preserved(PageRef { pa, order: 0 }) };
    }
}
