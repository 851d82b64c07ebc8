//! What can go wrong inside the tree, as meanings.
//!
//! The store knows no errnos: `fuse/errno.rs` translates for the kernel, `thiserror` for people.

use super::quota::Resource;

/// Why the tree refused an operation.
///
/// # Examples
///
/// ```
/// use notapipe::store::{Ino, Limits, StoreError, Timestamp, Tree};
///
/// let tree = Tree::new(Limits { bytes: 0, inodes: 1 }, 0o755, 0, 0, Timestamp::now());
/// assert_eq!(tree.lookup(Ino::ROOT, b"a"), Err(StoreError::NotFound));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No entry of that name, or no such inode any more.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("it exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Something other than a directory was needed.
    #[error("it is a directory")]
    IsDirectory,
    /// The directory still has entries.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The byte or inode limit of this tree is reached.
    #[error("the limit on {0} is reached")]
    NoSpace(Resource),
    /// A component is longer than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// A component is empty, `.`, `..`, or holds a slash or a NUL byte.
    #[error("not a valid file name")]
    InvalidName,
    /// An argument makes no sense for this operation, such as moving a directory into itself.
    #[error("invalid argument")]
    InvalidArgument,
    /// A file may not reach past the largest offset, 2^63 - 1.
    #[error("the file would be too large")]
    TooLarge,
    /// The inode has as many hard links as it can count.
    #[error("too many links")]
    TooManyLinks,
    /// No data, or no hole, at or after this offset.
    #[error("no data at this offset")]
    NoData,
    /// No extended attribute of that name.
    #[error("no such attribute")]
    NoAttribute,
    /// An extended attribute is longer than 64 KiB, or its name longer than 255 bytes.
    #[error("the attribute is too large")]
    AttributeTooLarge,
    /// The operation is never allowed on this kind of inode, such as a hard link to a directory.
    #[error("not permitted")]
    NotPermitted,
    /// The operation is not supported on this kind of inode.
    #[error("not supported")]
    NotSupported,
    /// The content comes from a [`Source`](super::Source) that failed, or was not asked for it yet.
    #[error("its content could not be made")]
    NotMade,
}
