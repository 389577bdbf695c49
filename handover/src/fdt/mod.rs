//! The root FDT: the directory of what is handed over.
//!
//! ```text
//! / {
//!     compatible = "kho-v4", "baton,handover-v1";
//!     baton,tree-crc32 = <u32>;            # of the whole blob, with these four bytes as zero
//!     preserved-memory-map = <u64>;        # root page of the radix tree
//!     baton,map-digest-2 = <u64>;          # PreservedMap::digest; 0 = not given
//!     SUBSYSTEM {                          # one per subsystem
//!         preserved-data = <u64>;          # physical address of its blob
//!         blob-size = <u64>;               # bytes
//!         baton,crc32 = <u32>;             # of the blob
//!     };
//!     chosen { bootargs = "..."; };
//! };
//! ```
//!
//! Source: `include/linux/kho/abi/kexec_handover.h` of Linux; what Baton adds stands under `baton,`. As there, numbers
//! are native-endian (the FDT's own structure is big-endian, as always). Unknown properties are skipped, so that a
//! later kernel may add some.
//!
//! Writing is `vm-fdt`'s, reading `fdt-rs`'s. The latter trusts its input, so [`parse`] shows it nothing that the
//! `walk` submodule has not found to be well-formed first. [`set_subsystem`], [`set_map_digest`] and [`reseal`] change a blob in place and
//! do not allocate: they are the last thing before the jump.

mod walk;

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crc32fast::Hasher;
use fdt_rs::base::{DevTree, DevTreeProp, item::DevTreeItem};
use fdt_rs::prelude::{FallibleIterator, PropReader};
use vm_fdt::FdtWriter;

use crate::error::{Error, FdtError, Name};
use walk::{Item, Walk};

/// Largest blob in bytes, on both sides. Each subsystem takes about 100 bytes, so this is room for 64 and a long command
/// line.
pub const MAX_SIZE: usize = 64 << 10;
/// Most subsystems in one tree.
pub const MAX_SUBSYSTEMS: usize = 64;
/// The ABI of Linux that the tree follows.
pub const KHO_COMPATIBLE: &str = "kho-v4";
/// What Baton adds to it.
pub const BATON_COMPATIBLE: &str = "baton,handover-v1";

const COMPATIBLE: &str = "compatible";
const TREE_CRC: &str = "baton,tree-crc32";
const MEMORY_MAP: &str = "preserved-memory-map";
// The number goes up with the way in which the digest is computed: whoever knows another one takes the map without.
const MAP_DIGEST: &str = "baton,map-digest-2";
const DATA: &str = "preserved-data";
const SIZE: &str = "blob-size";
const CRC: &str = "baton,crc32";
const CHOSEN: &str = "chosen";
const BOOTARGS: &str = "bootargs";

/// What the root FDT says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// Physical address of the root page of the preserved-memory map.
    pub map_root: u64,
    /// Who hands something over; names are unique.
    pub subsystems: Vec<Subsystem>,
    /// The command line of the kernel that starts.
    pub bootargs: String,
}

impl Root {
    /// The subsystem called `name`.
    pub fn subsystem(&self, name: &str) -> Option<&Subsystem> {
        self.subsystems.iter().find(|s| s.name == name)
    }
}

/// A subsystem's entry: where its blob lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsystem {
    /// Node name: a letter, then letters, digits and `,._+-`, at most [`Name::MAX`] bytes.
    pub name: String,
    /// Physical address of the blob.
    pub data: u64,
    /// Its size in bytes. 0 with a checksum of 0 is an entry that was announced and never filled.
    pub size: u64,
    /// CRC-32 (IEEE) of the blob.
    pub crc32: u32,
}

/// Builds the blob, sealed.
///
/// # Errors
///
/// [`FdtError::BadName`] for a subsystem's name that no node can have, [`FdtError::NodeTwice`], [`FdtError::TooMany`],
/// [`FdtError::Bootargs`] for a command line with a NUL, [`FdtError::TooLarge`].
pub fn build(root: &Root) -> Result<Vec<u8>, Error> {
    if root.subsystems.len() > MAX_SUBSYSTEMS {
        return Err(Error::Fdt(FdtError::TooMany {
            limit: MAX_SUBSYSTEMS,
        }));
    }
    for (i, s) in root.subsystems.iter().enumerate() {
        let name = Name::new(&s.name);
        if !is_subsystem_name(&s.name) {
            return Err(Error::Fdt(FdtError::BadName { name }));
        }
        if root.subsystems[..i]
            .iter()
            .any(|other| other.name == s.name)
        {
            return Err(Error::Fdt(FdtError::NodeTwice { name }));
        }
    }
    if root.bootargs.contains('\0') {
        return Err(Error::Fdt(FdtError::Bootargs));
    }
    if root.bootargs.len() > MAX_SIZE {
        return Err(Error::Fdt(FdtError::TooLarge {
            size: root.bootargs.len(),
            limit: MAX_SIZE,
        }));
    }
    let mut blob = write(root).map_err(|_| Error::Fdt(FdtError::Write))?;
    if blob.len() > MAX_SIZE {
        return Err(Error::Fdt(FdtError::TooLarge {
            size: blob.len(),
            limit: MAX_SIZE,
        }));
    }
    reseal(&mut blob)?;
    Ok(blob)
}

fn write(root: &Root) -> Result<Vec<u8>, vm_fdt::Error> {
    let mut fdt = FdtWriter::new()?;
    let top = fdt.begin_node("")?;
    let compatible = [KHO_COMPATIBLE, BATON_COMPATIBLE].map(String::from);
    fdt.property_string_list(COMPATIBLE, compatible.into())?;
    fdt.property(TREE_CRC, &[0; 4])?;
    fdt.property(MEMORY_MAP, &root.map_root.to_ne_bytes())?;
    fdt.property(MAP_DIGEST, &[0; 8])?;
    for s in &root.subsystems {
        let node = fdt.begin_node(&s.name)?;
        fdt.property(DATA, &s.data.to_ne_bytes())?;
        fdt.property(SIZE, &s.size.to_ne_bytes())?;
        fdt.property(CRC, &s.crc32.to_ne_bytes())?;
        fdt.end_node(node)?;
    }
    let chosen = fdt.begin_node(CHOSEN)?;
    fdt.property_string(BOOTARGS, &root.bootargs)?;
    fdt.end_node(chosen)?;
    fdt.end_node(top)?;
    fdt.finish()
}

/// Whether a subsystem can be called so: see [`Subsystem::name`].
pub(crate) fn is_subsystem_name(name: &str) -> bool {
    name != CHOSEN && is_node_name(name)
}

fn is_node_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b",._+-".contains(&b))
        && name.len() <= Name::MAX
}

/// `totalsize` of the blob that begins with these bytes (a whole blob, or at least its 40-byte header); at most
/// [`MAX_SIZE`].
///
/// # Errors
///
/// [`FdtError::Short`], [`FdtError::Magic`], [`FdtError::TooLarge`].
pub fn total_size(header: &[u8]) -> Result<usize, Error> {
    walk::total_size(header)
}

/// Reads a blob that a predecessor left. Nothing in it is believed before its form and its checksum have been found
/// good. Bytes after its `totalsize` are not looked at.
///
/// # Errors
///
/// One of [`Error`]'s `Fdt...` variants, each with a sentence of its own.
pub fn parse(blob: &[u8]) -> Result<Root, Error> {
    let blob = &blob[..total_size(blob)?.min(blob.len())];
    check_seal(blob)?;

    // fdt-rs reads u32s by reference, so the blob must be aligned. The copy also pins it: what is read below is what was
    // checked.
    let words = aligned_copy(blob)?;
    let bytes = zerocopy::IntoBytes::as_bytes(words.as_slice());
    // SAFETY: the slice is aligned for u32 and exactly `totalsize` long; `Walk` has found header and structure block
    // well-formed throughout (in `check_seal`).
    let tree =
        unsafe { DevTree::new(&bytes[..blob.len()]) }.map_err(|_| Error::Fdt(FdtError::Reader))?;
    read(&tree)
}

fn aligned_copy(blob: &[u8]) -> Result<Vec<u32>, Error> {
    let mut words: Vec<u32> = Vec::new();
    let count = blob.len().div_ceil(4);
    words.try_reserve_exact(count).map_err(|_| Error::NoHeap {
        what: "a copy of the FDT",
    })?;
    words.resize(count, 0);
    zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice())[..blob.len()].copy_from_slice(blob);
    Ok(words)
}

/// Which node of the tree is being read.
enum Node {
    Root,
    Chosen,
    /// A subsystem whose properties are being gathered.
    Subsystem(Gathered),
}

#[derive(Default)]
struct Gathered {
    name: String,
    data: Option<u64>,
    size: Option<u64>,
    crc32: Option<u32>,
}

impl Gathered {
    fn finish(self) -> Result<Subsystem, Error> {
        let node = Name::new(&self.name);
        let missing = |prop| Error::Fdt(FdtError::Missing { node, prop });
        Ok(Subsystem {
            data: self.data.ok_or(missing(DATA))?,
            size: self.size.ok_or(missing(SIZE))?,
            crc32: self.crc32.ok_or(missing(CRC))?,
            name: self.name,
        })
    }
}

fn read(tree: &DevTree<'_>) -> Result<Root, Error> {
    let mut root = Root::default();
    let (mut compatible, mut map_root, mut bootargs) = (None, None, None);
    let mut node = Node::Root;
    let mut items = tree.items();
    // The first item is the root node itself.
    items.next().map_err(|_| Error::Fdt(FdtError::Reader))?;
    while let Some(item) = items.next().map_err(|_| Error::Fdt(FdtError::Reader))? {
        match (item, &mut node) {
            (DevTreeItem::Node(next), _) => {
                let name = next.name().map_err(|_| Error::Fdt(FdtError::Reader))?;
                let next = match name {
                    CHOSEN => Node::Chosen,
                    _ => Node::Subsystem(Gathered {
                        name: name.into(),
                        ..Gathered::default()
                    }),
                };
                close(core::mem::replace(&mut node, next), &mut root)?;
            }
            (DevTreeItem::Prop(p), Node::Root) => match prop_name(&p)? {
                COMPATIBLE => compatible = Some(p.raw().to_vec()),
                MEMORY_MAP => set(&mut map_root, &p, "/", MEMORY_MAP, u64::from_ne_bytes)?,
                _ => {}
            },
            (DevTreeItem::Prop(p), Node::Chosen) => {
                if prop_name(&p)? == BOOTARGS {
                    // A string property is one NUL-terminated string and nothing else.
                    let text = p
                        .raw()
                        .strip_suffix(&[0])
                        .ok_or(Error::Fdt(FdtError::Bootargs))?;
                    let text =
                        core::str::from_utf8(text).map_err(|_| Error::Fdt(FdtError::Bootargs))?;
                    if text.contains('\0') {
                        return Err(Error::Fdt(FdtError::Bootargs));
                    }
                    bootargs = Some(String::from(text));
                }
            }
            (DevTreeItem::Prop(p), Node::Subsystem(s)) => match prop_name(&p)? {
                DATA => set(&mut s.data, &p, &s.name, DATA, u64::from_ne_bytes)?,
                SIZE => set(&mut s.size, &p, &s.name, SIZE, u64::from_ne_bytes)?,
                CRC => set(&mut s.crc32, &p, &s.name, CRC, u32::from_ne_bytes)?,
                _ => {}
            },
        }
    }
    close(node, &mut root)?;

    let compatible = compatible.unwrap_or_default();
    for wanted in [KHO_COMPATIBLE, BATON_COMPATIBLE] {
        if !compatible
            .split(|&b| b == 0)
            .any(|s| s == wanted.as_bytes())
        {
            return Err(Error::Fdt(FdtError::Compatible { wanted }));
        }
    }
    root.map_root = map_root.ok_or(Error::Fdt(FdtError::Missing {
        node: Name::new("/"),
        prop: MEMORY_MAP,
    }))?;
    root.bootargs = bootargs.unwrap_or_default();
    Ok(root)
}

fn prop_name<'dt>(p: &DevTreeProp<'_, 'dt>) -> Result<&'dt str, Error> {
    p.name().map_err(|_| Error::Fdt(FdtError::Reader))
}

/// A number, whose property must have exactly its size. (`Walk` has refused a property that stands there twice.)
fn set<T, const N: usize>(
    slot: &mut Option<T>,
    p: &DevTreeProp<'_, '_>,
    node: &str,
    prop: &'static str,
    from: fn([u8; N]) -> T,
) -> Result<(), Error> {
    let bytes = p.raw().try_into().map_err(|_| {
        Error::Fdt(FdtError::PropSize {
            node: Name::new(node),
            prop,
            size: p.raw().len(),
            wanted: N,
        })
    })?;
    *slot = Some(from(bytes));
    Ok(())
}

/// Ends a node: a subsystem joins the root's list.
fn close(node: Node, root: &mut Root) -> Result<(), Error> {
    let Node::Subsystem(gathered) = node else {
        return Ok(());
    };
    if root.subsystems.len() == MAX_SUBSYSTEMS {
        return Err(Error::Fdt(FdtError::TooMany {
            limit: MAX_SUBSYSTEMS,
        }));
    }
    let name = Name::new(&gathered.name);
    if root.subsystem(&gathered.name).is_some() {
        return Err(Error::Fdt(FdtError::NodeTwice { name }));
    }
    root.subsystems.push(gathered.finish()?);
    Ok(())
}

/// Sets size and checksum of a subsystem's blob in a blob of [`build`], and seals it again. Does not allocate; nothing
/// is changed where it fails.
///
/// # Errors
///
/// [`FdtError::NoNode`] where there is no such subsystem, [`FdtError::Missing`]; and those of a blob that is not
/// well-formed.
pub fn set_subsystem(blob: &mut [u8], name: &str, size: u64, crc32: u32) -> Result<(), Error> {
    let mut walk = Walk::new(blob)?;
    let (mut depth, mut inside, mut seen) = (0, false, false);
    let (mut size_at, mut crc_at) = (None, None);
    while let Some(item) = walk.next()? {
        match item {
            Item::Begin { name: node } => {
                depth += 1;
                inside = depth == 2 && node == name;
                seen |= inside;
            }
            Item::End => {
                depth -= 1;
                inside = false;
            }
            Item::Prop { name, value } if inside => match name {
                SIZE if value.len() == 8 => size_at = Some(value),
                CRC if value.len() == 4 => crc_at = Some(value),
                _ => {}
            },
            Item::Prop { .. } => {}
        }
    }
    let node = Name::new(name);
    if !seen {
        return Err(Error::Fdt(FdtError::NoNode { name: node }));
    }
    let missing = |prop| Error::Fdt(FdtError::Missing { node, prop });
    let size_at = size_at.ok_or(missing(SIZE))?;
    let crc_at = crc_at.ok_or(missing(CRC))?;
    let seal_at = find_seal(blob)?;
    blob[size_at].copy_from_slice(&size.to_ne_bytes());
    blob[crc_at].copy_from_slice(&crc32.to_ne_bytes());
    seal(blob, seal_at)
}

/// Sets the preserved map's digest ([`PreservedMap::digest`](crate::radix::PreservedMap::digest)), and seals the blob
/// again. Does not allocate; nothing is changed where it fails. Nothing may be preserved or unpreserved after it.
///
/// # Errors
///
/// [`FdtError::Missing`] and [`FdtError::PropSize`] where the blob has no place for it; and those of a blob that is not
/// well-formed.
pub fn set_map_digest(blob: &mut [u8], digest: u64) -> Result<(), Error> {
    let at = find_in_root(blob, MAP_DIGEST, 8)?;
    let seal_at = find_seal(blob)?;
    blob[at].copy_from_slice(&digest.to_ne_bytes());
    seal(blob, seal_at)
}

/// The preserved map's digest; `None` where the predecessor gave none. For a blob that [`parse`] accepts.
///
/// # Errors
///
/// Those of a blob that is not well-formed.
pub fn map_digest(blob: &[u8]) -> Result<Option<u64>, Error> {
    let at = match find_in_root(blob, MAP_DIGEST, 8) {
        Err(Error::Fdt(FdtError::Missing { .. })) => return Ok(None),
        at => at?,
    };
    let digest = blob[at].try_into().map_or(0, u64::from_ne_bytes);
    Ok((digest != 0).then_some(digest))
}

/// Computes the checksum over the whole blob anew. Does not allocate.
///
/// # Errors
///
/// [`FdtError::Missing`] where it has no place for one; and those of a blob that is not well-formed.
pub fn reseal(blob: &mut [u8]) -> Result<(), Error> {
    let at = find_seal(blob)?;
    seal(blob, at)
}

fn seal(blob: &mut [u8], at: Range<usize>) -> Result<(), Error> {
    let total = total_size(blob)?;
    let crc = tree_crc(&blob[..total], &at);
    blob[at].copy_from_slice(&crc.to_ne_bytes());
    Ok(())
}

/// Where the root's checksum stands.
fn find_seal(blob: &[u8]) -> Result<Range<usize>, Error> {
    find_in_root(blob, TREE_CRC, 4)
}

/// Where a property of the root stands that has this size. Walks the whole blob, so that one that is not well-formed is
/// refused.
fn find_in_root(blob: &[u8], prop: &'static str, wanted: usize) -> Result<Range<usize>, Error> {
    let mut walk = Walk::new(blob)?;
    let mut depth = 0;
    let mut found = None;
    while let Some(item) = walk.next()? {
        match item {
            Item::Begin { .. } => depth += 1,
            Item::End => depth -= 1,
            Item::Prop { name, value } if depth == 1 && name == prop => found = Some(value),
            Item::Prop { .. } => {}
        }
    }
    let node = Name::new("/");
    let at = found.ok_or(Error::Fdt(FdtError::Missing { node, prop }))?;
    match at.len() == wanted {
        true => Ok(at),
        false => Err(Error::Fdt(FdtError::PropSize {
            node,
            prop,
            size: at.len(),
            wanted,
        })),
    }
}

fn check_seal(blob: &[u8]) -> Result<(), Error> {
    let at = find_seal(blob)?;
    let computed = tree_crc(blob, &at);
    match blob[at].try_into().map(u32::from_ne_bytes) {
        Ok(stored) if stored == computed => Ok(()),
        Ok(stored) => Err(Error::Fdt(FdtError::Crc { stored, computed })),
        Err(_) => Err(Error::Fdt(FdtError::Reader)),
    }
}

/// CRC-32 of the blob with the bytes at `seal` as zero.
fn tree_crc(blob: &[u8], seal: &Range<usize>) -> u32 {
    let mut crc = Hasher::new();
    crc.update(&blob[..seal.start]);
    crc.update(&[0; 4]);
    crc.update(&blob[seal.end..]);
    crc.finalize()
}
