//! Paths in the tree that carry the proof that they stay in it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use super::name::{NAME_MAX, Name};
use crate::text::Shown;

/// Longest path, in bytes: `PATH_MAX` of Linux without its closing NUL.
pub const PATH_MAX: usize = 4095;

/// A validated path below the root of a tree: relative, without `..`, possibly the root itself.
///
/// Any bytes but NUL are allowed, whether UTF-8 or not. `./`, doubled and trailing slashes are
/// taken off, so that equal paths are equal values.
///
/// A path shares all names above its last with the paths of its directories: cloning and [`join`](Self::join) copy no
/// names, and the paths of a tree take memory for its names, however deep it is.
///
/// # Examples
///
/// ```
/// use notapipe::store::{PathError, TreePath};
///
/// let path: TreePath = "./build//game.gb".parse()?;
/// assert_eq!(path.to_string(), "build/game.gb");
/// assert_eq!(path.parent().unwrap().to_string(), "build");
/// assert_eq!("../game.gb".parse::<TreePath>(), Err(PathError::Climbs));
/// # Ok::<(), PathError>(())
/// ```
///
/// Put together and taken apart:
///
/// ```
/// use notapipe::store::{Name, TreePath};
///
/// let build = TreePath::root().join(Name::new(b"build")?);
/// let rom = build.join(Name::new(b"game.gb")?);
/// assert_eq!(rom, rom.names().into_iter().cloned().collect());
/// assert!(rom.starts_with(&build) && !rom.is_root());
/// assert_eq!(rom.file_name().unwrap().as_bytes(), b"game.gb");
/// assert_eq!(rom.ancestors().collect::<Vec<_>>(), [build.clone()]);
/// assert_eq!((rom.depth(), rom.ancestor(1)), (2, &build));
/// assert_eq!(rom.byte_len(), "build/game.gb".len());
/// assert_eq!((rom.to_bytes(), rom.to_path_buf()), (b"build/game.gb".to_vec(), "build/game.gb".into()));
/// # Ok::<(), notapipe::store::StoreError>(())
/// ```
#[derive(Clone, Default)]
pub struct TreePath(Option<Arc<Link>>);

/// The last name of a path, and the path above it.
struct Link {
    name: Name,
    above: TreePath,
    /// A directory further up, how far depending on the depth alone: by these, any directory above is reached in a
    /// number of steps that grows with the logarithm of the depth (Myers, "An applicative random-access stack", 1983).
    skip: TreePath,
    depth: usize,
    /// Bytes of all names, with the slashes between them.
    bytes: usize,
    /// Of all names, with a key of this process: paths with equal hashes are equal, but for one of 2^64 pairs, which a
    /// tool cannot choose.
    hash: u64,
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Drop for Link {
    /// Without recursion: directories may be nested deeper than a stack allows.
    fn drop(&mut self) {
        // Never the last reference: the links above, which are still there, lead to it as well.
        self.skip.0 = None;
        let mut above = self.above.0.take();
        while let Some(mut link) = above.and_then(Arc::into_inner) {
            above = link.above.0.take();
        }
    }
}

/// Why bytes are not a [`TreePath`].
///
/// The message names the problem only; the caller puts the path in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// No bytes at all.
    #[error("it is empty")]
    Empty,
    /// It begins with a slash.
    #[error("it is absolute")]
    Absolute,
    /// It holds a `..`, even where that would not leave the root.
    #[error("it climbs with `..`")]
    Climbs,
    /// It holds a NUL byte.
    #[error("it holds a NUL byte")]
    Nul,
    /// A component is longer than [`NAME_MAX`].
    #[error("a part of it is longer than {NAME_MAX} bytes")]
    NameTooLong,
    /// It is longer than [`PATH_MAX`].
    #[error("it is longer than {PATH_MAX} bytes")]
    TooLong,
}

impl TreePath {
    /// The root of the tree.
    pub const fn root() -> Self {
        Self(None)
    }

    /// Checks `bytes` and takes them apart. `.` is the root.
    ///
    /// # Errors
    ///
    /// [`PathError`], which says what is wrong with them.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        match bytes {
            b"" => return Err(PathError::Empty),
            [b'/', ..] => return Err(PathError::Absolute),
            _ if bytes.contains(&0) => return Err(PathError::Nul),
            _ => {}
        }
        let mut path = Self::root();
        let mut length = 0;
        for part in bytes.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::Climbs),
                // NUL, slash and dots are dealt with: only the length can be wrong.
                _ => path = path.join(Name::new(part).map_err(|_| PathError::NameTooLong)?),
            }
            length += part.len() + 1;
            // One separator fewer than components.
            if length > PATH_MAX + 1 {
                return Err(PathError::TooLong);
            }
        }
        Ok(path)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// How many components it has; 0 for the root.
    pub fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |link| link.depth)
    }

    /// How many bytes [`to_bytes`](Self::to_bytes) gives, without putting them together: more than [`PATH_MAX`] for what
    /// no program can reach by one path.
    pub fn byte_len(&self) -> usize {
        self.0.as_ref().map_or(1, |link| link.bytes)
    }

    /// The components from the root down, as [`Tree::resolve`](super::Tree::resolve) takes them.
    pub fn names(&self) -> Vec<&Name> {
        let mut names = Vec::with_capacity(self.depth());
        let mut at = self;
        while let Some(link) = &at.0 {
            names.push(&link.name);
            at = &link.above;
        }
        names.reverse();
        names
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&Name> {
        self.0.as_ref().map(|link| &link.name)
    }

    /// The directory that holds it; none for the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.as_ref().map(|link| link.above.clone())
    }

    /// All directories above it, from the topmost down, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        (1..self.depth()).map(|depth| self.ancestor(depth).clone())
    }

    /// The directory above it that has so many components; itself where it has no more.
    pub fn ancestor(&self, depth: usize) -> &Self {
        let mut at = self;
        while let Some(link) = at.0.as_ref().filter(|link| link.depth > depth) {
            let far = link.skip.depth() >= depth;
            at = if far { &link.skip } else { &link.above };
        }
        at
    }

    /// The path of an entry of this directory.
    ///
    /// Not checked against [`PATH_MAX`]: a tree may be deeper than one path can say.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let skip = match &self.0 {
            Some(link) if self.depth() + link.skip.skip().depth() == 2 * link.skip.depth() => {
                link.skip.skip()
            }
            _ => self,
        };
        let hash = HASHER.hash_one((self.hash(), name.as_bytes()));
        Self(Some(Arc::new(Link {
            skip: skip.clone(),
            depth: self.depth() + 1,
            bytes: name.as_bytes().len()
                + if self.is_root() {
                    0
                } else {
                    self.byte_len() + 1
                },
            hash,
            name,
            above: self.clone(),
        })))
    }

    /// Whether it is `above` or lies below it.
    pub fn starts_with(&self, above: &Self) -> bool {
        self.ancestor(above.depth()) == above
    }

    fn skip(&self) -> &Self {
        self.0.as_ref().map_or(self, |link| &link.skip)
    }

    fn hash(&self) -> u64 {
        self.0.as_ref().map_or(0, |link| link.hash)
    }

    /// The bytes, separated by single slashes; `.` for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Text::default();
        text.set(self);
        text.bytes
    }

    /// This path for the operating system; `.` for the root.
    pub fn to_path_buf(&self) -> PathBuf {
        OsString::from_vec(self.to_bytes()).into()
    }
}

/// The bytes of one path after another. Those of a walk cost what differs, not what they have in common.
#[derive(Default)]
pub(crate) struct Text {
    path: TreePath,
    bytes: Vec<u8>,
}

impl Text {
    /// The bytes of this path, as [`TreePath::to_bytes`] gives them.
    pub(crate) fn set(&mut self, path: &TreePath) -> &[u8] {
        let mut new = Vec::new();
        let mut at = path;
        while let Some(link) =
            at.0.as_ref()
                .filter(|link| self.path.ancestor(link.depth) != at)
        {
            new.push(&link.name);
            at = &link.above;
        }
        self.bytes
            .truncate(if at.is_root() { 0 } else { at.byte_len() });
        for name in new.into_iter().rev() {
            if !self.bytes.is_empty() {
                self.bytes.push(b'/');
            }
            self.bytes.extend_from_slice(name.as_bytes());
        }
        if self.bytes.is_empty() {
            self.bytes.push(b'.');
        }
        self.path = path.clone();
        &self.bytes
    }
}

/// Paths below one directory as they stand below another. They share their names, as the given ones do.
pub(crate) struct Moved {
    from: TreePath,
    /// The directory itself, and those that were met on the way to a path.
    known: HashMap<TreePath, TreePath>,
}

impl Moved {
    pub(crate) fn new(from: TreePath, to: TreePath) -> Self {
        let known = HashMap::from([(from.clone(), to)]);
        Self { from, known }
    }

    /// The new path; none for one that lies elsewhere.
    pub(crate) fn path(&mut self, path: &TreePath) -> Option<TreePath> {
        if !path.starts_with(&self.from) {
            return None;
        }
        let mut at = path;
        let mut new = Vec::new();
        let mut moved = loop {
            match (self.known.get(at), &at.0) {
                (Some(known), _) => break known.clone(),
                (None, Some(link)) => {
                    new.push((at, &link.name));
                    at = &link.above;
                }
                (None, None) => return None,
            }
        };
        for (at, name) in new.into_iter().rev() {
            moved = moved.join(name.clone());
            self.known.insert(at.clone(), moved.clone());
        }
        Some(moved)
    }
}

impl PartialEq for TreePath {
    fn eq(&self, other: &Self) -> bool {
        self.depth() == other.depth() && self.hash() == other.hash()
    }
}

impl Eq for TreePath {}

impl Hash for TreePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash());
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    /// By their names, one after another: a directory stands right before what it holds.
    fn cmp(&self, other: &Self) -> Ordering {
        let depth = self.depth().min(other.depth());
        let (mut one, mut another) = (self.ancestor(depth), other.ancestor(depth));
        if one == another {
            return self.depth().cmp(&other.depth());
        }
        // Up to the two names that part them: the same number of steps on both sides, as their depth is the same.
        while let (Some(a), Some(b)) = (&one.0, &another.0) {
            if a.above == b.above {
                return a.name.cmp(&b.name);
            }
            (one, another) = match a.skip == b.skip {
                true => (&a.above, &b.above),
                false => (&a.skip, &b.skip),
            };
        }
        Ordering::Equal
    }
}

impl FromStr for TreePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

impl TryFrom<&str> for TreePath {
    type Error = PathError;

    fn try_from(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

impl TryFrom<&OsStr> for TreePath {
    type Error = PathError;

    fn try_from(path: &OsStr) -> Result<Self, PathError> {
        Self::parse(path.as_bytes())
    }
}

impl TryFrom<&Path> for TreePath {
    type Error = PathError;

    fn try_from(path: &Path) -> Result<Self, PathError> {
        Self::parse(path.as_os_str().as_bytes())
    }
}

impl FromIterator<Name> for TreePath {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        let root = Self::root();
        names.into_iter().fold(root, |path, name| path.join(name))
    }
}

impl<'a> IntoIterator for &'a TreePath {
    type Item = &'a Name;
    type IntoIter = std::vec::IntoIter<&'a Name>;

    fn into_iter(self) -> Self::IntoIter {
        self.names().into_iter()
    }
}

impl fmt::Display for TreePath {
    /// Readable in one line, of whatever length: what [`shown`](crate::text::shown) escapes is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown::of_bytes(&self.to_bytes(), false)
            .at_most(usize::MAX)
            .fmt(f)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown::of_bytes(&self.to_bytes(), true).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normalises() {
        for (given, expected) in [
            ("a", "a"),
            ("./a", "a"),
            ("a/", "a"),
            ("a//b/./c/", "a/b/c"),
            (".", "."),
            ("././", "."),
            ("...", "..."),
            ("a..b/..c", "a..b/..c"),
            (" ", " "),
        ] {
            assert_eq!(
                TreePath::parse(given).unwrap().to_bytes(),
                expected.as_bytes(),
                "{given:?}"
            );
        }
    }

    #[test]
    fn refuses() {
        let long_name = [b'n'; 256];
        let long_path = [&b"n/"[..]; 2049].concat();
        for (given, expected) in [
            (&b""[..], PathError::Empty),
            (b"/", PathError::Absolute),
            (b"/a", PathError::Absolute),
            (b"..", PathError::Climbs),
            (b"a/..", PathError::Climbs),
            (b"a/../b", PathError::Climbs),
            (b"./../b", PathError::Climbs),
            (b"a\0b", PathError::Nul),
            (&long_name, PathError::NameTooLong),
            (&long_path, PathError::TooLong),
        ] {
            assert_eq!(
                TreePath::parse(given),
                Err(expected),
                "{}",
                given.escape_ascii()
            );
        }
    }

    #[test]
    fn the_longest_path_and_name_pass() {
        assert_eq!(TreePath::parse([b'n'; 255]).unwrap().names().len(), 1);
        let path = [&b"n/"[..]; 2048].concat();
        assert_eq!(TreePath::parse(&path).unwrap().to_bytes().len(), PATH_MAX);
    }

    #[test]
    fn any_bytes_come_back_and_are_shown_in_one_line() {
        let path = TreePath::parse(b"a b/\xff\n\xc3\xa9\"").unwrap();
        assert_eq!(path.to_bytes(), b"a b/\xff\n\xc3\xa9\"");
        assert_eq!(path.to_string(), "a b/\\xff\\né\"");
        assert_eq!(format!("{path:?}"), "\"a b/\\xff\\né\\\"\"");
    }

    #[test]
    fn relations() {
        let path = TreePath::parse("a/b/c").unwrap();
        let above: Vec<_> = path.ancestors().map(|p| p.to_string()).collect();
        assert_eq!(above, ["a", "a/b"]);
        assert!(path.starts_with(&TreePath::parse("a/b").unwrap()));
        assert!(
            !TreePath::parse("ab")
                .unwrap()
                .starts_with(&TreePath::parse("a").unwrap())
        );
        assert_eq!(TreePath::root().parent(), None);
        assert_eq!(
            TreePath::parse("a").unwrap().parent(),
            Some(TreePath::root())
        );
    }

    #[test]
    fn a_path_of_a_hundred_thousand_names_is_made_compared_and_dropped() {
        let name = Name::new(b"d").unwrap();
        let mut all = vec![TreePath::root()];
        for depth in 0..100_000 {
            all.push(all[depth].join(name.clone()));
        }
        for (depth, path) in all.iter().enumerate().step_by(997) {
            assert_eq!(all[99_999].ancestor(depth), path);
            assert!(all[100_000].starts_with(path));
            assert!(*path <= all[99_999]);
        }
        let sorted = all
            .iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>();
        assert!(sorted.iter().eq(&all));
    }

    proptest! {
        #[test]
        fn order_and_relations_are_those_of_the_names(
            one in prop::collection::vec(0..2_u8, 0..12),
            other in prop::collection::vec(0..2_u8, 0..12),
        ) {
            let path = |parts: &[u8]| -> TreePath {
                parts.iter().map(|part| Name::new(&[b'a' + part]).unwrap()).collect()
            };
            let (a, b) = (path(&one), path(&other));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            prop_assert_eq!(a == b, one == other);
            prop_assert_eq!(a.starts_with(&b), one.starts_with(&other));
            let text: Vec<_> = one.iter().map(|part| ["a", "b"][usize::from(*part)]).collect();
            let mut shared = Text::default();
            shared.set(&b);
            prop_assert_eq!(shared.set(&a), a.to_bytes());
            prop_assert_eq!(a.byte_len(), a.to_bytes().len());
            prop_assert!(a.is_root() || a.to_string() == text.join("/"));
            let moved = one.strip_prefix(&other[..]).map(|rest| path(&[&[3][..], rest].concat()));
            prop_assert_eq!(Moved::new(b, path(&[3])).path(&a), moved);
        }
    }
}
