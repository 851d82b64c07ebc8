//! Out of the tree: bytes, listings, and files of the host.
//!
//! Everything here reads the tree directly, never through a mount. [`read`] and [`list`] serve
//! programs; a [`Delivery`] puts outputs into files of the host, whole or not at all.
//!
//! A symlink is followed when it is named by the caller, and then only within the tree: its target
//! is looked up here, never on the host. Symlinks inside a collected directory stay symlinks.
//!
//! # Examples
//!
//! ```
//! use notapipe::collect;
//! use notapipe::stage::{Owner, Stage};
//! use notapipe::store::{Limits, Timestamp, Tree, TreePath};
//!
//! let now = Timestamp::now();
//! let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
//! let before = tree.fork();
//! let rom = TreePath::parse("build/A.gb")?;
//! Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&rom, "rom")?;
//!
//! let build = TreePath::parse("build")?;
//! let paths = |found: Vec<collect::Found>| -> Vec<TreePath> {
//!     found.into_iter().map(|it| it.path).collect()
//! };
//! assert_eq!(paths(collect::list(&tree, &TreePath::root())?), [build.clone()]);
//! assert_eq!(paths(collect::walk(&tree, &TreePath::root())?), [build.clone(), rom.clone()]);
//! assert_eq!(paths(collect::made(&before, &tree)), [rom.clone()]);
//! assert_eq!(paths(collect::changed(&before, &tree)), [build, rom.clone()]);
//!
//! assert_eq!(collect::find(&tree, &rom)?.size, 3);
//! let mut copy = Vec::new();
//! assert_eq!(collect::copy(&tree, &rom, &mut copy)?, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod atomic_directory;
mod atomic_file;
mod attributes;
mod deliver;
mod destination;
mod host;
mod interruptible_writer;
mod journal;
mod missing;
mod plan;
mod stream;
mod wanted;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bytes::Bytes;

pub use atomic_directory::AtomicDirectory;
pub use atomic_file::{AtomicFile, OpenAtomicFile};
pub use deliver::{Delivered, Delivery, Destination, Prepared};
pub use interruptible_writer::InterruptibleWriter;
pub use journal::Unrestored;
pub use missing::{Missing, MissingOutputs, NoMatch};
pub use wanted::{Glob, GlobError, Wanted, select};

use crate::progress::Stopped;
use crate::stage::kind_name;
use crate::store::{Attr, Cookie, Ino, Kind, Name, StoreError, Tree, TreePath};
use crate::text::quoted;

/// As many symlinks as the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// Bytes that are read from the tree at once.
const BLOCK_BYTES: usize = 1 << 20;

/// Why something could not be collected.
///
/// # Examples
///
/// ```
/// use notapipe::collect::{self, CollectError};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
///
/// let name = TreePath::parse("A.gb")?;
/// assert!(matches!(collect::read(&tree, &name), Err(CollectError::Store { .. })));
///
/// // Whoever reads a pipe may go before its end: no reason for a message.
/// Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now).bytes(&name, "rom")?;
/// let (reader, mut writer) = std::io::pipe()?;
/// drop(reader);
/// assert!(collect::copy(&tree, &name, &mut writer).unwrap_err().is_broken_pipe());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// Outputs that are not in the tree.
    #[error(transparent)]
    Missing(#[from] MissingOutputs),
    /// A pattern that nothing in the tree matches.
    #[error(transparent)]
    NoMatch(#[from] Box<NoMatch>),
    /// The name leads to something that has no content to collect.
    #[error("cannot collect {name:?}: it is {}", kind_name(*kind))]
    Kind {
        /// What was asked for.
        name: TreePath,
        /// What it is.
        kind: Kind,
    },
    /// The name leads through a symlink that points out of the tree, to nothing, or in a circle.
    #[error(
        "cannot collect {name:?}: its symlink to {target} leads out of the mount or to nothing",
        target = quoted(target)
    )]
    Symlink {
        /// What was asked for.
        name: TreePath,
        /// Where the last symlink points.
        target: PathBuf,
    },
    /// The tree refused.
    #[error("cannot collect {name:?}")]
    Store {
        /// What was asked for.
        name: TreePath,
        /// Why.
        #[source]
        error: StoreError,
    },
    /// Two outputs would go to one file, or one into the other.
    #[error(
        "outputs {first:?} and {second:?} would both go to {destination}",
        destination = quoted(destination)
    )]
    Twice {
        /// An output.
        first: TreePath,
        /// Another one.
        second: TreePath,
        /// The place that both want.
        destination: PathBuf,
    },
    /// The host refused.
    #[error(
        "cannot deliver {name:?} to {destination}: {problem}",
        destination = quoted(destination)
    )]
    Destination {
        /// The output.
        name: TreePath,
        /// Where it was to go.
        destination: PathBuf,
        /// What was being done.
        problem: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// A writer of the caller's failed, perhaps because its reader has gone.
    #[error("cannot write out {name:?}")]
    Writer {
        /// The output.
        name: TreePath,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// After a failure, some of what had been replaced could not be put back.
    #[error("could not put back {}", journal::UnrestoredList(left))]
    NotPutBack {
        /// What is left, and where its old content is.
        left: Vec<Unrestored>,
        /// What failed in the first place.
        #[source]
        cause: Box<CollectError>,
    },
    /// The listener of [`Delivery::listen`] asked to stop.
    #[error("delivering was interrupted")]
    Interrupted,
}

impl CollectError {
    /// Whether the reader of a pipe has gone, which ends a pipeline quietly.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Writer { error, .. } if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Stopped> for CollectError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}

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
    let attr = find(tree, path)?;
    if attr.kind != Kind::File {
        return Err(CollectError::Kind {
            name: path.clone(),
            kind: attr.kind,
        });
    }
    let length = usize::try_from(attr.size).map_err(|_| CollectError::Store {
        name: path.clone(),
        error: StoreError::TooLarge,
    })?;
    tree.read(attr.ino, 0, length)
        .map(Bytes::from)
        .map_err(|error| CollectError::Store {
            name: path.clone(),
            error,
        })
}

/// Writes a file's bytes to `writer`, holes as zeros; returns how many.
///
/// # Errors
///
/// As [`read`], and [`CollectError::Writer`].
pub fn copy(
    tree: &Tree,
    path: &TreePath,
    writer: &mut (impl Write + ?Sized),
) -> Result<u64, CollectError> {
    let attr = find(tree, path)?;
    if attr.kind != Kind::File {
        return Err(CollectError::Kind {
            name: path.clone(),
            kind: attr.kind,
        });
    }
    let mut offset = 0;
    while offset < attr.size {
        let piece =
            tree.read(attr.ino, offset, BLOCK_BYTES)
                .map_err(|error| CollectError::Store {
                    name: path.clone(),
                    error,
                })?;
        if piece.is_empty() {
            break;
        }
        let unwritten = |error| CollectError::Writer {
            name: path.clone(),
            error,
        };
        writer.write_all(&piece).map_err(unwritten)?;
        offset += piece.len() as u64;
    }
    Ok(offset)
}

/// The entries of a directory, in byte order of their names.
///
/// # Errors
///
/// [`CollectError::Store`], with [`StoreError::NotDirectory`] for anything else.
pub fn list(tree: &Tree, directory: &TreePath) -> Result<Vec<Found>, CollectError> {
    let attr = find(tree, directory)?;
    entries(tree, attr.ino, directory).map_err(|error| CollectError::Store {
        name: directory.clone(),
        error,
    })
}

/// All that is below a directory, each directory before what it holds, in byte order of names.
///
/// # Errors
///
/// As [`list`].
pub fn walk(tree: &Tree, directory: &TreePath) -> Result<Vec<Found>, CollectError> {
    let mut found = Vec::new();
    let mut pending = list(tree, directory)?;
    pending.reverse();
    while let Some(next) = pending.pop() {
        if next.attr.kind == Kind::Directory {
            let below =
                entries(tree, next.attr.ino, &next.path).map_err(|error| CollectError::Store {
                    name: next.path.clone(),
                    error,
                })?;
            pending.extend(below.into_iter().rev());
        }
        found.push(next);
    }
    Ok(found)
}

/// What `after` holds that `before` did not, or not with this content: all but directories.
///
/// `before` is a fork of the same tree, taken earlier.
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
/// `before` is a fork of the same tree, taken earlier.
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
    let refused = |error| CollectError::Store {
        name: path.clone(),
        error,
    };
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
        if tree.attr(ino).map_err(refused)?.kind != Kind::Symlink {
            above.push(ino);
            continue;
        }
        let target = tree.read_link(ino).map_err(refused)?.to_vec();
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

fn entries(tree: &Tree, directory: Ino, path: &TreePath) -> Result<Vec<Found>, StoreError> {
    let mut names: Vec<(&Name, Ino)> = tree
        .entries(directory, Cookie::default())?
        .map(|entry| (entry.name, entry.ino))
        .collect();
    names.sort_unstable();
    names
        .into_iter()
        .map(|(name, ino)| {
            Ok(Found {
                path: path.join(name.clone()),
                attr: tree.attr(ino)?,
            })
        })
        .collect()
}
