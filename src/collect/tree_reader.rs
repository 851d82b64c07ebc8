//! Reading a tree: what a path leads to, what a directory holds, and the bytes of files.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;

use super::CollectError;
use crate::store::{Attr, Cookie, Ino, Kind, Name, StoreError, Tree, TreePath};

/// The most symlinks in one path, which is the kernel's limit.
pub(super) const LINKS_MAX: usize = 40;

/// Bytes that are read from the tree at once.
const BLOCK_BYTES: u64 = 1 << 20;

/// Something in a tree, and where; as [`collect`](crate::collect) finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path from the root.
    pub path: TreePath,
    /// Its attributes.
    pub attr: Attr,
}

/// A file's bytes, shared with the tree where they lie in one piece there.
///
/// # Errors
///
/// [`CollectError::Store`] with [`StoreError::NotFound`], [`CollectError::Kind`] for what is no
/// file, [`CollectError::Symlink`].
///
/// # Examples
///
/// ```
/// use notapipe::collect;
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let path = TreePath::parse("A.map")?;
/// Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&path, b"ROM0: 42 bytes")?;
/// assert_eq!(&collect::read(&tree, &path)?[..], b"ROM0: 42 bytes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(tree: &Tree, path: &TreePath) -> Result<Bytes, CollectError> {
    let attr = find_file(tree, path)?;
    let refused = CollectError::store(path);
    let length = usize::try_from(attr.size).map_err(|_| refused(StoreError::TooLarge))?;
    tree.read(attr.ino, 0, length)
        .map(Bytes::from)
        .map_err(refused)
}

/// Writes a file's bytes to `writer`, holes as zeros; returns how many.
///
/// # Errors
///
/// Those of [`read`], and [`CollectError::Writer`].
pub fn copy(
    tree: &Tree,
    path: &TreePath,
    writer: &mut (impl Write + ?Sized),
) -> Result<u64, CollectError> {
    let attr = find_file(tree, path)?;
    let refused = CollectError::store(path);
    each_block(tree, attr.ino, 0..attr.size, refused, |_, block| {
        writer
            .write_all(block)
            .map_err(|error| CollectError::Writer {
                name: path.clone(),
                error,
            })
    })?;
    Ok(attr.size)
}

fn find_file(tree: &Tree, path: &TreePath) -> Result<Attr, CollectError> {
    match find(tree, path)? {
        attr if attr.kind == Kind::File => Ok(attr),
        Attr { kind, .. } => Err(CollectError::Kind {
            name: path.clone(),
            kind,
        }),
    }
}

/// Gives `take` the bytes of a file in a range, a block at a time with its offset. `refused` makes the error of a tree
/// that has no such bytes.
pub(crate) fn each_block<E>(
    tree: &Tree,
    ino: Ino,
    range: Range<u64>,
    refused: impl Fn(StoreError) -> E,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset = range.start;
    while offset < range.end {
        let length = BLOCK_BYTES.min(range.end - offset) as usize;
        let block = tree.read(ino, offset, length).map_err(&refused)?;
        if block.is_empty() {
            return Err(refused(StoreError::NoData));
        }
        take(offset, &block)?;
        offset += block.len() as u64;
    }
    Ok(())
}

/// The ranges of a file that hold data, in rising order: all of it but its holes.
pub(crate) fn data_ranges<'t>(
    tree: &'t Tree,
    attr: &Attr,
) -> impl Iterator<Item = Result<Range<u64>, StoreError>> + 't {
    let (ino, size) = (attr.ino, attr.size);
    let mut offset = 0;
    std::iter::from_fn(move || {
        let start = match tree.seek_data(ino, offset) {
            _ if offset >= size => return None,
            Err(StoreError::NoData) => return None,
            Err(error) => {
                offset = size;
                return Some(Err(error));
            }
            Ok(start) => start,
        };
        let hole = tree.seek_hole(ino, start);
        offset = *hole.as_ref().unwrap_or(&size);
        Some(hole.map(|hole| start..hole))
    })
}

/// The entries of a directory, in byte order of their names.
///
/// # Errors
///
/// [`CollectError::Store`], with [`StoreError::NotDirectory`] for anything else.
pub fn list(tree: &Tree, directory: &TreePath) -> Result<Vec<Found>, CollectError> {
    let attr = find(tree, directory)?;
    entries(tree, attr.ino, directory)
}

/// All that is below a directory, each directory before what it holds, in byte order of names.
///
/// # Errors
///
/// Those of [`list`].
pub fn walk(tree: &Tree, directory: &TreePath) -> Result<Vec<Found>, CollectError> {
    let mut found = Vec::new();
    let mut pending = list(tree, directory)?;
    pending.reverse();
    while let Some(next) = pending.pop() {
        if next.attr.kind == Kind::Directory {
            let below = entries(tree, next.attr.ino, &next.path)?;
            pending.extend(below.into_iter().rev());
        }
        found.push(next);
    }
    Ok(found)
}

/// What `after` holds that `before` did not, or not with this content: all but directories.
///
/// `before` is a fork of `after`'s tree, taken earlier.
pub fn made(before: &Tree, after: &Tree) -> Vec<Found> {
    let mut found = changed(before, after);
    found.retain(|now| now.attr.kind != Kind::Directory);
    found
}

/// What `after` holds that `before` did not, new directories included, and the files whose content or
/// attributes are not the same; each directory before what it holds, in byte order of names.
///
/// A file that was moved is new under its new name. What is gone is not told. See [`Tree::changed_since`] for
/// what it costs.
///
/// `before` is a fork of `after`'s tree, taken earlier.
pub fn changed(before: &Tree, after: &Tree) -> Vec<Found> {
    let changed = after.changed_since(before).into_iter();
    let found = |(path, ino)| {
        let attr = after.attr(ino).ok()?;
        Some(Found { path, attr })
    };
    changed.filter_map(found).collect()
}

/// The attributes of what a path leads to, following symlinks within the tree.
///
/// # Errors
///
/// [`CollectError::Store`] with [`StoreError::NotFound`] or [`StoreError::NotDirectory`];
/// [`CollectError::Symlink`].
pub fn find(tree: &Tree, path: &TreePath) -> Result<Attr, CollectError> {
    let refused = CollectError::store(path);
    let mut above = vec![Ino::ROOT];
    let mut ahead: VecDeque<Vec<u8>> = path
        .names()
        .into_iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let mut followed: Option<Vec<u8>> = None;
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        // Once a symlink was followed, a dead end is the symlink's.
        let dead_end = |error: StoreError, link: &Option<Vec<u8>>| match link {
            Some(target) => CollectError::Symlink {
                name: path.clone(),
                target: OsString::from_vec(target.clone()).into(),
            },
            None => refused(error),
        };
        let here = *above.last().unwrap_or(&Ino::ROOT);
        match &part[..] {
            b"" | b"." => continue,
            b".." if above.len() > 1 => {
                above.pop();
                continue;
            }
            // Only a symlink can say this.
            b".." => return Err(dead_end(StoreError::NotFound, &followed)),
            _ => {}
        }
        let ino = tree
            .lookup(here, &part)
            .map_err(|error| dead_end(error, &followed))?;
        if tree.attr(ino).map_err(&refused)?.kind != Kind::Symlink {
            above.push(ino);
            continue;
        }
        let target = tree.read_link(ino).map_err(&refused)?.to_vec();
        links += 1;
        let outside = target.first() == Some(&b'/') || links > LINKS_MAX;
        followed = Some(target.clone());
        if outside {
            return Err(dead_end(StoreError::NotFound, &followed));
        }
        for part in target.split(|&byte| byte == b'/').rev() {
            ahead.push_front(part.to_vec());
        }
    }
    tree.attr(*above.last().unwrap_or(&Ino::ROOT))
        .map_err(refused)
}

/// The entries of a directory by its inode, in byte order of their names.
pub(super) fn entries(
    tree: &Tree,
    directory: Ino,
    path: &TreePath,
) -> Result<Vec<Found>, CollectError> {
    let refused = CollectError::store(path);
    let entries = tree.entries(directory, Cookie::default());
    let entries = entries.map_err(&refused)?;
    let mut names: Vec<(&Name, Ino)> = entries.map(|entry| (entry.name, entry.ino)).collect();
    names.sort_unstable();
    let found = |(name, ino): (&Name, Ino)| {
        Ok(Found {
            path: path.join(name.clone()),
            attr: tree.attr(ino).map_err(&refused)?,
        })
    };
    names.into_iter().map(found).collect()
}
