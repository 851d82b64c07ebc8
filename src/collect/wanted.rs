//! What is to be collected, said before it is there.

use std::collections::BTreeMap;

use super::tree_reader::{Found, changed, entries, find};
use super::{CollectError, missing};
use crate::glob::Glob;
use crate::store::{Kind, Text, Tree, TreePath};

/// What to collect from a tree at its end.
///
/// # Examples
///
/// ```
/// use notapipe::collect::{Glob, Wanted, select};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let before = tree.fork();
/// let mut stage = Stage::new(&mut tree, Owner { uid: 0, gid: 0 }, now);
/// stage.bytes(&TreePath::parse("build/game.gb")?, "rom")?;
/// stage.bytes(&TreePath::parse("build/game.o")?, "object")?;
/// drop(stage);
///
/// let roms = Wanted::Matching(Glob::new("build/*.gb")?);
/// assert_eq!(roms.name(), None, "it says only what it must be like");
/// let found = select(&tree, &before, &[roms])?;
/// assert_eq!(found[0].path.to_string(), "build/game.gb");
/// assert_eq!(found.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This file, or this directory with all that is in it. It must be there.
    Named(TreePath),
    /// This file or directory, if it is there.
    Optional(TreePath),
    /// All that matches: at least one file, symlink or directory.
    Matching(Glob),
    /// All that is new or changed since the tools began; see [`changed`].
    Changed,
}

impl From<TreePath> for Wanted {
    fn from(name: TreePath) -> Self {
        Self::Named(name)
    }
}

impl From<&TreePath> for Wanted {
    fn from(name: &TreePath) -> Self {
        Self::Named(name.clone())
    }
}

impl Wanted {
    /// The one path that is wanted; none for those that say only what it must be like.
    pub fn name(&self) -> Option<&TreePath> {
        match self {
            Self::Named(name) | Self::Optional(name) => Some(name),
            Self::Matching(_) | Self::Changed => None,
        }
    }

    /// The directories that must stand before a tool can make it.
    pub(crate) fn above(&self) -> Option<TreePath> {
        match self {
            Self::Named(name) | Self::Optional(name) => name.parent(),
            Self::Matching(glob) => Some(glob.base().clone()),
            Self::Changed => None,
        }
    }

    /// What of a path is left when it is put below another directory.
    pub(super) fn base(&self) -> TreePath {
        match self {
            Self::Matching(glob) => glob.base().clone(),
            _ => TreePath::root(),
        }
    }

    /// What there is of it. Paths of [`Named`](Self::Named) and [`Optional`](Self::Optional) lead through
    /// symlinks; what matches or changed is a symlink where it is one.
    pub(super) fn find(&self, tree: &Tree, before: &Tree) -> Result<Vec<Found>, CollectError> {
        match self {
            Self::Named(path) => Ok(vec![collectable(tree, path)?]),
            Self::Optional(path) => match collectable(tree, path) {
                Err(error) if error.is_absence() => Ok(Vec::new()),
                found => Ok(vec![found?]),
            },
            Self::Matching(glob) => match matching(tree, glob) {
                // A base that is not there is no match.
                Err(error) if !error.is_absence() => Err(error),
                Ok(found) if !found.is_empty() => Ok(found),
                _ => Err(missing::no_match(glob, tree, before).into()),
            },
            Self::Changed => Ok(topmost(changed(before, tree))),
        }
    }
}

/// All that is wanted and there, in byte order of the paths, each once. A directory stands for all that is
/// in it.
///
/// `before` is a fork of `tree` from before the tools ran.
///
/// # Errors
///
/// [`CollectError::Missing`] and [`CollectError::NoMatch`]; [`CollectError::Kind`] for a name of a FIFO, socket or
/// device; others of [`CollectError`].
///
/// See [`Wanted`] for an example.
pub fn select(tree: &Tree, before: &Tree, wanted: &[Wanted]) -> Result<Vec<Found>, CollectError> {
    missing::MissingOutputs::check(tree, before, named(wanted))?;
    let mut all: BTreeMap<TreePath, Found> = BTreeMap::new();
    for wanted in wanted {
        for found in wanted.find(tree, before)? {
            // A name leads through a symlink where a pattern does not: the name is the clearer word.
            if wanted.name().is_some() || !all.contains_key(&found.path) {
                all.insert(found.path.clone(), found);
            }
        }
    }
    Ok(topmost(all.into_values().collect()))
}

/// What a name leads to: of a FIFO, socket or device nothing could be delivered.
fn collectable(tree: &Tree, path: &TreePath) -> Result<Found, CollectError> {
    let (path, attr) = (path.clone(), find(tree, path)?);
    match attr.kind {
        Kind::File | Kind::Directory => Ok(Found { path, attr }),
        kind => Err(CollectError::Kind { name: path, kind }),
    }
}

/// Without what lies in directories that are there themselves. Takes them in order of the paths.
fn topmost(mut found: Vec<Found>) -> Vec<Found> {
    let mut above: Option<TreePath> = None;
    found.retain(|next| {
        let inside = above.as_ref().is_some_and(|it| next.path.starts_with(it));
        if !inside && next.attr.kind == Kind::Directory {
            above = Some(next.path.clone());
        }
        !inside
    });
    found
}

/// The names that must be there.
pub(super) fn named<'w>(
    wanted: impl IntoIterator<Item = &'w Wanted>,
) -> impl Iterator<Item = &'w TreePath> {
    wanted.into_iter().filter_map(|wanted| match wanted {
        Wanted::Named(name) => Some(name),
        _ => None,
    })
}

/// What matches a pattern. A directory that matches is not looked into: it is collected whole.
fn matching(tree: &Tree, glob: &Glob) -> Result<Vec<Found>, CollectError> {
    let mut found = Vec::new();
    let mut pending = vec![Found {
        path: glob.base().clone(),
        attr: find(tree, glob.base())?,
    }];
    let mut text = Text::default();
    while let Some(next) = pending.pop() {
        if next.path != *glob.base() && glob.matches_text(text.set(&next.path)) {
            found.push(next);
        } else if next.attr.kind == Kind::Directory {
            let below = entries(tree, next.attr.ino, &next.path)?;
            pending.extend(below.into_iter().rev());
        }
    }
    Ok(found)
}
