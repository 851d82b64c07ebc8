//! What is to be collected, said before it is there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::{CollectError, Found, changed, entries, find, missing};
use crate::store::{Kind, PathError, StoreError, Text, Tree, TreePath};
use crate::text::{quoted, shown};

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
    /// The same, if it is there.
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
            Self::Matching(glob) => Some(glob.base.clone()),
            Self::Changed => None,
        }
    }

    /// What of a path is left when it is put below another directory.
    pub(super) fn base(&self) -> TreePath {
        match self {
            Self::Matching(glob) => glob.base.clone(),
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
            Self::Matching(glob) => glob.find(tree, before),
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

/// A pattern for paths below the root of a tree.
///
/// `?` is one character and `*` any number of them, neither of them a `/`; `**` as a whole component is any
/// number of directories; `[a-z]` and `[!a-z]` are sets, `{gb,sym}` alternatives, and `\` takes the meaning
/// from what follows. A dot at the beginning of a name is a character like others.
///
/// # Examples
///
/// ```
/// use notapipe::collect::{Glob, GlobError};
/// use notapipe::store::TreePath;
///
/// let roms = Glob::new("./build/**/*.{gb,sym}")?;
/// assert_eq!(roms.as_str(), "build/**/*.{gb,sym}");
/// assert_eq!(roms.base().to_string(), "build");
/// assert!(roms.matches(&TreePath::parse("build/de/game.gb")?));
/// assert!(!roms.matches(&TreePath::parse("build/game.o")?));
///
/// assert!(matches!(Glob::new("../*.gb"), Err(GlobError::Path(_))));
/// assert!(matches!(Glob::new("["), Err(GlobError::Syntax(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Glob {
    text: String,
    matcher: GlobMatcher,
    /// The components before the first with a special character.
    base: TreePath,
}

/// Why a pattern is none; see [`Glob`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// As a path it could match nothing below the root.
    #[error("as a path, {0}")]
    Path(#[from] PathError),
    /// A bracket or brace that is not closed, or the like.
    #[error("{0}")]
    Syntax(String),
}

const SPECIAL: &[char] = &['*', '?', '[', ']', '{', '}', '\\'];

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`GlobError`].
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        // Refuses what climbs; drops what says nothing, such as `./`.
        let path = TreePath::parse(pattern)?;
        let text = String::from_utf8_lossy(&path.to_bytes()).into_owned();
        let literal = path
            .names()
            .into_iter()
            .take_while(|name| !String::from_utf8_lossy(name.as_bytes()).contains(SPECIAL));
        let mut base: TreePath = literal.cloned().collect();
        if base.depth() == path.depth() {
            base = path.parent().unwrap_or_else(TreePath::root);
        }
        let matcher = builder(&text)
            .build()
            .map_err(|error| GlobError::Syntax(error.kind().to_string()))?
            .compile_matcher();
        Ok(Self {
            text,
            matcher,
            base,
        })
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The directory below which everything stands that can match.
    pub fn base(&self) -> &TreePath {
        &self.base
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &TreePath) -> bool {
        self.matches_text(&path.to_bytes())
    }

    fn matches_text(&self, path: &[u8]) -> bool {
        self.matcher.is_match(as_path(path))
    }

    fn find(&self, tree: &Tree, before: &Tree) -> Result<Vec<Found>, CollectError> {
        let mut found = Vec::new();
        match matching(tree, &self.base, |path| self.matches_text(path), &mut found) {
            // No such directory is no match.
            Err(error) if !error.is_absence() => return Err(error),
            _ => {}
        }
        if found.is_empty() {
            return Err(missing::no_match(self, tree, before).into());
        }
        Ok(found)
    }

    /// Whether it would match if upper and lower case were the same, and whether its last component
    /// matches in any directory.
    pub(super) fn nearly(&self) -> impl Fn(&[u8]) -> Option<usize> {
        let last = self.text.rsplit('/').next().unwrap_or_default();
        let compiled = [self.text.clone(), format!("**/{last}")].map(|text| {
            let mut builder = builder(&text);
            let built = builder.case_insensitive(true).build();
            built.ok().map(|glob| glob.compile_matcher())
        });
        move |path| {
            let matches = |glob: &GlobMatcher| glob.is_match(as_path(path));
            compiled
                .iter()
                .position(|glob| glob.as_ref().is_some_and(matches))
        }
    }
}

fn builder(text: &str) -> GlobBuilder<'_> {
    let mut builder = GlobBuilder::new(text);
    builder.literal_separator(true).backslash_escape(true);
    builder
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What matches below a directory. One that matches itself is not looked into: it is collected whole.
fn matching(
    tree: &Tree,
    base: &TreePath,
    matches: impl Fn(&[u8]) -> bool,
    found: &mut Vec<Found>,
) -> Result<(), CollectError> {
    let mut pending = vec![Found {
        path: base.clone(),
        attr: find(tree, base)?,
    }];
    let mut text = Text::default();
    while let Some(next) = pending.pop() {
        if next.path != *base && matches(text.set(&next.path)) {
            found.push(next);
        } else if next.attr.kind == Kind::Directory {
            let below = entries(tree, next.attr.ino, &next.path);
            let below = below.map_err(|error| CollectError::Store {
                name: next.path.clone(),
                error,
            })?;
            pending.extend(below.into_iter().rev());
        }
    }
    Ok(())
}

impl CollectError {
    /// Whether it says that there is nothing of that name.
    pub(super) fn is_absence(&self) -> bool {
        // A file where a directory was expected, such as `out` for `out/A.gb`, is absence too.
        matches!(
            self,
            Self::Store {
                error: StoreError::NotFound | StoreError::NotDirectory,
                ..
            }
        )
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(&self.text).fmt(f)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.text).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, matches) in [
            ("*.gb", "a.gb", true),
            ("*.gb", "sub/a.gb", false),
            ("**/*.gb", "a.gb", true),
            ("**/*.gb", "a/b/c.gb", true),
            ("build/*", "build/.hidden", true),
            ("build/**", "build/a/b", true),
            ("build/**", "build", false),
            ("./build//a?.gb", "build/a1.gb", true),
            ("build/a?.gb", "build/a/.gb", false),
            ("*.{gb,sym}", "x.sym", true),
            ("[!a]*", "b", true),
            ("[!a]*", "ab", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
        ] {
            let glob = Glob::new(pattern).unwrap();
            let path = TreePath::parse(path).unwrap();
            assert_eq!(glob.matches(&path), matches, "{pattern} {path}");
        }
        let bytes = TreePath::parse(b"a\xff.gb").unwrap();
        assert!(Glob::new("*.gb").unwrap().matches(&bytes));
    }

    #[test]
    fn bases() {
        for (pattern, base) in [
            ("*.gb", "."),
            ("build/*.gb", "build"),
            ("a/b/**/c/*", "a/b"),
            ("a/b", "a"),
            ("a", "."),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().base().to_string(), base);
        }
    }
}
