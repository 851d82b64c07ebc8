//! Paths in the tree that carry the proof that they stay in it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::name::{NAME_MAX, Name};
use crate::text::Shown;

/// Longest path, in bytes: `PATH_MAX` of Linux without its closing NUL.
pub const PATH_MAX: usize = 4095;

/// A validated path below the root of a tree: relative, without `..`, possibly the root itself.
///
/// Any bytes but NUL are allowed, whether UTF-8 or not. `./`, doubled and trailing slashes are
/// taken off, so that equal paths are equal values.
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
/// assert_eq!(rom, TreePath::from_names(rom.names().to_vec()));
/// assert!(rom.starts_with(&build) && !rom.is_root());
/// assert_eq!(rom.file_name().unwrap().as_bytes(), b"game.gb");
/// assert_eq!(rom.ancestors().collect::<Vec<_>>(), [build]);
/// assert_eq!((rom.to_bytes(), rom.to_path_buf()), (b"build/game.gb".to_vec(), "build/game.gb".into()));
/// # Ok::<(), notapipe::store::StoreError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreePath(Vec<Name>);

/// Why bytes are not a [`TreePath`].
///
/// The message names the problem only; whoever holds the path puts it in front.
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
        Self(Vec::new())
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
        let mut names = Vec::new();
        let mut length = 0;
        for part in bytes.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::Climbs),
                // NUL, slash and dots are dealt with: only the length can be wrong.
                _ => names.push(Name::new(part).map_err(|_| PathError::NameTooLong)?),
            }
            length += part.len() + 1;
        }
        // One separator fewer than components.
        if length > PATH_MAX + 1 {
            Err(PathError::TooLong)
        } else {
            Ok(Self(names))
        }
    }

    /// The path of these components.
    ///
    /// Not checked against [`PATH_MAX`]: a tree may be deeper than one path can say.
    pub fn from_names(names: impl IntoIterator<Item = Name>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the root down, as [`Tree::resolve`](super::Tree::resolve) takes them.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// The last component; none for the root.
    pub fn file_name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// The directory that holds it; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    /// All directories above it, from the topmost down, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        (1..self.0.len()).map(|depth| Self(self.0[..depth].to_vec()))
    }

    /// The path of an entry of this directory.
    ///
    /// Not checked against [`PATH_MAX`]: a tree may be deeper than one path can say.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = Vec::with_capacity(self.0.len() + 1);
        names.extend_from_slice(&self.0);
        names.push(name);
        Self(names)
    }

    /// Whether it is `above` or lies below it.
    pub fn starts_with(&self, above: &Self) -> bool {
        self.0.starts_with(&above.0)
    }

    /// The bytes, separated by single slashes; `.` for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_root() {
            return b".".to_vec();
        }
        self.0
            .iter()
            .map(Name::as_bytes)
            .collect::<Vec<_>>()
            .join(&b'/')
    }

    /// The same as a path for the operating system; `.` for the root.
    pub fn to_path_buf(&self) -> PathBuf {
        OsString::from_vec(self.to_bytes()).into()
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
        Self(names.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a TreePath {
    type Item = &'a Name;
    type IntoIter = std::slice::Iter<'a, Name>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
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
}
