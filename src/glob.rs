//! Patterns for paths of a tree.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use crate::store::{PathError, TreePath};
use crate::text::{quoted, shown};

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
    /// It is a path that leads nowhere below the root.
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

    /// Whether the text of a path matches.
    pub(crate) fn matches_text(&self, path: &[u8]) -> bool {
        self.matcher.is_match(as_path(path))
    }

    /// Whether it would match if upper and lower case were the same, and whether its last component
    /// matches in any directory.
    pub(crate) fn nearly(&self) -> impl Fn(&[u8]) -> Option<usize> {
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
