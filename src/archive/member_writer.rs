//! What the writer of each format does with a member.

use std::io;
use std::ops::Range;

use crate::store::{Attr, TreePath};

/// Writes members in a format.
pub(super) trait MemberWriter {
    /// Whether a further name of a file can be written as a [`link`](Self::link).
    fn has_links(&self) -> bool;
    /// Whether a file can be written without its holes, by [`sparse`](Self::sparse).
    fn has_holes(&self) -> bool;
    fn directory(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()>;
    fn symlink(&mut self, path: &TreePath, target: &[u8], attr: &Attr) -> io::Result<()>;
    fn link(&mut self, path: &TreePath, first: &TreePath, attr: &Attr) -> io::Result<()>;
    /// The header of a file; all of its bytes follow.
    fn file(&mut self, path: &TreePath, attr: &Attr) -> io::Result<()>;
    /// The header of a file of which only these ranges follow.
    fn sparse(&mut self, path: &TreePath, data: &[Range<u64>], attr: &Attr) -> io::Result<()>;
    /// Bytes of the file whose header came last.
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The end of a file of which `length` bytes were written.
    fn end(&mut self, length: u64) -> io::Result<()>;
}
