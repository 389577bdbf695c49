//! `/tmp`: a small tree of files that people make at the console. It does not cross a kexec.
//!
//! Content lies in pieces of [`CHUNK_BYTES`], so that a large file needs no large allocation and growing
//! one copies nothing. All of it counts against one limit, whole chunks and names alike.

use super::vfs::{DirEntry, FileSystem, FsError, MAX_NAME_BYTES, Sink, Stat, WriteMode};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use trace::errno::Errno;

/// Content is stored in pieces of this size.
pub const CHUNK_BYTES: usize = 4096;
/// What a file or directory costs by itself, towards the limit: its name and its bookkeeping.
pub const NODE_BYTES: usize = 512;
/// Deepest nesting of directories.
pub const MAX_DEPTH: usize = 32;
/// The limit that `/tmp` has by default: room for two kernel images.
pub const DEFAULT_LIMIT_BYTES: usize = 32 << 20;

/// A writable tree in memory. It is not `Sync`: where there is more than one task, each takes a lock around it.
pub struct TmpFs {
    tree: RefCell<Tree>,
}

struct Tree {
    root: BTreeMap<String, Node>,
    used: usize,
    limit: usize,
}

enum Node {
    Dir(BTreeMap<String, Node>),
    File(Content),
}

/// Every chunk but the last is full.
#[derive(Default)]
struct Content {
    chunks: Vec<Vec<u8>>,
    size: usize,
}

impl Content {
    /// What the file costs towards the limit, beside [`NODE_BYTES`].
    fn cost(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
    }

    /// Appends all of `data` or nothing. `room` is what the limit leaves.
    fn append(&mut self, data: &[u8], room: usize) -> Result<(), Errno> {
        let free_in_last = self.cost() - self.size;
        let more = data.len().saturating_sub(free_in_last);
        let chunks = more.div_ceil(CHUNK_BYTES);
        if chunks.saturating_mul(CHUNK_BYTES) > room {
            return Err(Errno::ENOSPC);
        }
        let before = self.chunks.len();
        if let Err(errno) = self.grow(chunks) {
            self.chunks.truncate(before);
            return Err(errno);
        }
        let mut rest = data;
        while !rest.is_empty() {
            let chunk = &mut self.chunks[self.size / CHUNK_BYTES];
            let (piece, tail) = rest.split_at(rest.len().min(CHUNK_BYTES - chunk.len()));
            chunk.extend_from_slice(piece);
            self.size += piece.len();
            rest = tail;
        }
        Ok(())
    }

    fn grow(&mut self, chunks: usize) -> Result<(), Errno> {
        self.chunks.try_reserve(chunks).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..chunks {
            let mut chunk = Vec::new();
            chunk
                .try_reserve_exact(CHUNK_BYTES)
                .map_err(|_| Errno::ENOMEM)?;
            self.chunks.push(chunk);
        }
        Ok(())
    }
}

impl Tree {
    fn node(&self, path: &str) -> Result<Found<'_>, Errno> {
        let mut dir = &self.root;
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            match dir.get(part).ok_or(Errno::ENOENT)? {
                Node::Dir(inner) => dir = inner,
                Node::File(_) if parts.peek().is_some() => return Err(Errno::ENOTDIR),
                Node::File(content) => return Ok(Found::File(content)),
            }
        }
        Ok(Found::Dir(dir))
    }

    /// The directory that `path` lies in, and the name there. `EBUSY` for the root itself.
    fn parent_mut<'t, 'p>(
        &'t mut self,
        path: &'p str,
    ) -> Result<(&'t mut BTreeMap<String, Node>, &'p str), Errno> {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            return Err(Errno::EBUSY);
        }
        let mut dir = &mut self.root;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            match dir.get_mut(part).ok_or(Errno::ENOENT)? {
                Node::Dir(inner) => dir = inner,
                Node::File(_) => return Err(Errno::ENOTDIR),
            }
        }
        Ok((dir, name))
    }

    /// Puts a new node where nothing is.
    fn insert(&mut self, path: &str, node: Node) -> Result<(), Errno> {
        if path.split('/').count() > MAX_DEPTH {
            return Err(Errno::ENAMETOOLONG);
        }
        let full = self.used + NODE_BYTES > self.limit;
        let (dir, name) = self.parent_mut(path)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(Errno::ENAMETOOLONG);
        }
        if full {
            return Err(Errno::ENOSPC);
        }
        dir.insert(name.to_string(), node);
        self.used += NODE_BYTES;
        Ok(())
    }
}

enum Found<'t> {
    Dir(&'t BTreeMap<String, Node>),
    File(&'t Content),
}

fn stat_of(node: &Node) -> Stat {
    match node {
        Node::Dir(_) => Stat::dir(true),
        Node::File(content) => Stat::file(content.size as u64, true, true),
    }
}

impl TmpFs {
    /// An empty tree that may use `limit_bytes` of the heap.
    pub const fn new(limit_bytes: usize) -> Self {
        Self {
            tree: RefCell::new(Tree {
                root: BTreeMap::new(),
                used: 0,
                limit: limit_bytes,
            }),
        }
    }

    /// (bytes that count towards the limit, the limit).
    pub fn usage(&self) -> (usize, usize) {
        let tree = self.tree.borrow();
        (tree.used, tree.limit)
    }

    /// Copies what the file has from `at` on, as much as `piece` takes and as lies in one chunk; how many bytes, and how large
    /// the file is.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EISDIR`.
    pub fn read_at(
        &self,
        path: &str,
        at: usize,
        piece: &mut [u8],
    ) -> Result<(usize, usize), Errno> {
        match self.tree.borrow().node(path)? {
            Found::Dir(_) => Err(Errno::EISDIR),
            Found::File(content) => {
                let chunk = content.chunks.get(at / CHUNK_BYTES);
                let rest = chunk.and_then(|chunk| chunk.get(at % CHUNK_BYTES..));
                let rest = rest.unwrap_or_default();
                let len = rest.len().min(piece.len());
                piece[..len].copy_from_slice(&rest[..len]);
                Ok((len, content.size))
            }
        }
    }

    /// Takes away a file's content.
    fn truncate(tree: &mut Tree, path: &str) -> Result<(), FsError> {
        let (dir, name) = tree.parent_mut(path)?;
        match dir.get_mut(name) {
            Some(Node::File(content)) => {
                let freed = content.cost();
                *content = Content::default();
                tree.used -= freed;
                Ok(())
            }
            Some(Node::Dir(_)) => Err(Errno::EISDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }
}

/// Reads by [`TmpFs::read_at`] what the file held when reading began. Between two pieces nothing of the tree is borrowed: the sink
/// may write to it, or remove this very file, with which the reading ends.
pub fn read_in_pieces(
    path: &str,
    out: &mut dyn Sink,
    read_at: impl Fn(&str, usize, &mut [u8]) -> Result<(usize, usize), Errno>,
) -> Result<(), FsError> {
    let mut piece = [0; CHUNK_BYTES];
    let (mut len, size) = read_at(path, 0, &mut piece)?;
    let mut at = 0;
    while len > 0 {
        out.write(&piece[..len])?;
        at += len;
        let left = (size - at).min(piece.len());
        len = read_at(path, at, &mut piece[..left]).map_or(0, |(len, _)| len);
    }
    Ok(())
}

impl FileSystem for TmpFs {
    fn list(&self, path: &str) -> Result<Vec<DirEntry>, Errno> {
        match self.tree.borrow().node(path)? {
            Found::File(_) => Err(Errno::ENOTDIR),
            Found::Dir(dir) => Ok(dir
                .iter()
                .map(|(name, node)| DirEntry {
                    name: name.clone(),
                    stat: stat_of(node),
                })
                .collect()),
        }
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        Ok(match self.tree.borrow().node(path)? {
            Found::Dir(_) => Stat::dir(true),
            Found::File(content) => Stat::file(content.size as u64, true, true),
        })
    }

    /// Reads what the file held when reading began: `cat x >> x` ends.
    fn read(&self, path: &str, out: &mut dyn Sink) -> Result<(), FsError> {
        read_in_pieces(path, out, |path, at, piece| self.read_at(path, at, piece))
    }

    fn open(&self, path: &str, mode: WriteMode) -> Result<(), FsError> {
        let mut tree = self.tree.borrow_mut();
        match tree.node(path) {
            Ok(Found::Dir(_)) => Err(Errno::EISDIR.into()),
            Ok(Found::File(_)) if mode == WriteMode::Append => Ok(()),
            Ok(Found::File(_)) => Self::truncate(&mut tree, path),
            Err(Errno::ENOENT) => Ok(tree.insert(path, Node::File(Content::default()))?),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Appends in either mode: [`FileSystem::open`] has truncated already. `ENOSPC` leaves the file as it was.
    fn write(&self, path: &str, data: &[u8], _mode: WriteMode) -> Result<(), FsError> {
        let mut tree = self.tree.borrow_mut();
        let room = tree.limit - tree.used;
        let (dir, name) = tree.parent_mut(path)?;
        match dir.get_mut(name) {
            Some(Node::File(content)) => {
                let before = content.cost();
                content.append(data, room)?;
                let grown = content.cost() - before;
                tree.used += grown;
                Ok(())
            }
            Some(Node::Dir(_)) => Err(Errno::EISDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn remove(&self, path: &str) -> Result<(), FsError> {
        let mut tree = self.tree.borrow_mut();
        let (dir, name) = tree.parent_mut(path)?;
        let freed = match dir.get(name).ok_or(Errno::ENOENT)? {
            Node::Dir(inner) if !inner.is_empty() => return Err(Errno::ENOTEMPTY.into()),
            Node::Dir(_) => 0,
            Node::File(content) => content.cost(),
        };
        dir.remove(name);
        tree.used -= freed + NODE_BYTES;
        Ok(())
    }

    fn mkdir(&self, path: &str) -> Result<(), FsError> {
        let mut tree = self.tree.borrow_mut();
        match tree.node(path) {
            Ok(_) => Err(Errno::EEXIST.into()),
            Err(Errno::ENOENT) => Ok(tree.insert(path, Node::Dir(BTreeMap::new()))?),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::vfs::VecSink;
    use super::*;
    use alloc::vec;

    fn read(fs: &TmpFs, path: &str) -> Result<Vec<u8>, FsError> {
        let mut sink = VecSink::new(1 << 20);
        fs.read(path, &mut sink)?;
        Ok(sink.into_bytes().unwrap())
    }

    #[test]
    fn files_are_made_grown_truncated_and_removed() {
        let fs = TmpFs::new(1 << 20);
        fs.open("x", WriteMode::Truncate).unwrap();
        let long: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        for piece in long.chunks(777) {
            fs.write("x", piece, WriteMode::Append).unwrap();
        }
        assert_eq!(read(&fs, "x").unwrap(), long);
        assert_eq!(fs.stat("x").unwrap().size, 10_000);
        assert_eq!(fs.usage().0, 3 * CHUNK_BYTES + NODE_BYTES);
        fs.open("x", WriteMode::Append).unwrap();
        assert_eq!(fs.stat("x").unwrap().size, 10_000);
        fs.open("x", WriteMode::Truncate).unwrap();
        assert_eq!(read(&fs, "x").unwrap(), b"");
        fs.remove("x").unwrap();
        assert_eq!(fs.usage().0, 0);
        assert_eq!(fs.stat("x"), Err(Errno::ENOENT));
    }

    #[test]
    fn the_limit_is_kept_and_a_refused_write_changes_nothing() {
        let fs = TmpFs::new(3 * CHUNK_BYTES + NODE_BYTES);
        fs.open("x", WriteMode::Truncate).unwrap();
        fs.write("x", &[1; 5000], WriteMode::Append).unwrap();
        let before = fs.usage();
        assert_eq!(
            fs.write("x", &[2; 3 * CHUNK_BYTES], WriteMode::Append),
            Err(Errno::ENOSPC.into())
        );
        assert_eq!(fs.usage(), before);
        assert_eq!(read(&fs, "x").unwrap(), [1; 5000]);
        fs.write("x", &vec![3; 3 * CHUNK_BYTES - 5000], WriteMode::Append)
            .unwrap();
        assert_eq!(fs.usage().0, fs.usage().1);
        assert_eq!(fs.open("y", WriteMode::Truncate), Err(Errno::ENOSPC.into()));
        assert_eq!(fs.stat("y"), Err(Errno::ENOENT));
    }

    #[test]
    fn directories() {
        let fs = TmpFs::new(1 << 20);
        fs.mkdir("d").unwrap();
        fs.mkdir("d/e").unwrap();
        fs.open("d/e/f", WriteMode::Truncate).unwrap();
        assert_eq!(fs.mkdir("d"), Err(Errno::EEXIST.into()));
        assert_eq!(fs.mkdir(""), Err(Errno::EEXIST.into()));
        assert_eq!(fs.mkdir("nope/e"), Err(Errno::ENOENT.into()));
        assert_eq!(fs.mkdir("d/e/f/g"), Err(Errno::ENOTDIR.into()));
        assert_eq!(fs.open("d", WriteMode::Append), Err(Errno::EISDIR.into()));
        assert_eq!(
            fs.write("d", b"x", WriteMode::Append),
            Err(Errno::EISDIR.into())
        );
        assert_eq!(fs.remove("d"), Err(Errno::ENOTEMPTY.into()));
        assert_eq!(fs.remove(""), Err(Errno::EBUSY.into()));
        assert_eq!(fs.list("d/e/f"), Err(Errno::ENOTDIR));
        fs.remove("d/e/f").unwrap();
        fs.remove("d/e").unwrap();
        fs.remove("d").unwrap();
        assert_eq!(fs.usage().0, 0);
        assert_eq!(
            fs.open(&"n".repeat(MAX_NAME_BYTES + 1), WriteMode::Append),
            Err(Errno::ENAMETOOLONG.into())
        );
        let deep = ["d"; MAX_DEPTH + 1].join("/");
        for (at, _) in deep.match_indices('/') {
            fs.mkdir(&deep[..at]).unwrap();
        }
        assert_eq!(fs.mkdir(&deep), Err(Errno::ENAMETOOLONG.into()));
    }

    /// A file that is appended to while it is read: the reader sees what was there at the start.
    #[test]
    fn reading_into_itself_ends() {
        struct Back<'a>(&'a TmpFs);
        impl Sink for Back<'_> {
            fn write(&mut self, bytes: &[u8]) -> Result<(), super::super::vfs::Stop> {
                self.0.write("x", bytes, WriteMode::Append).unwrap();
                Ok(())
            }
        }
        let fs = TmpFs::new(1 << 20);
        fs.open("x", WriteMode::Truncate).unwrap();
        fs.write("x", &[5; 9000], WriteMode::Append).unwrap();
        fs.read("x", &mut Back(&fs)).unwrap();
        assert_eq!(fs.stat("x").unwrap().size, 18_000);
    }
}
