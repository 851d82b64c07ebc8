//! Why an archive was refused.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::codec;
use crate::collect::CollectError;
use crate::progress::Stopped;
use crate::stage::{Source, StageError};
use crate::store::{PathError, StoreError, TreePath};
use crate::text::quoted;

/// Why an archive could not be read or written.
///
/// # Examples
///
/// ```
/// use notapipe::archive::{ArchiveError, Format, Pack, Unpack};
/// use notapipe::stage::{Owner, Stage};
/// use notapipe::store::{Limits, Timestamp, Tree, TreePath};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
///
/// let owner = Owner { uid: 0, gid: 0 };
/// let refused = Unpack::new(&mut tree, owner, now).read(&b"ceci n'est pas une archive"[..]);
/// assert!(matches!(refused, Err(ArchiveError::Unknown { .. })));
///
/// // The reader of a pipe may go before its end: no reason for a message.
/// let (reader, writer) = std::io::pipe()?;
/// drop(reader);
/// assert!(Pack::new(&tree, Format::Tar).write(writer).unwrap_err().is_broken_pipe());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The archive itself cannot be opened or read.
    #[error("cannot read {}", ArchiveName(archive))]
    Read {
        /// The archive.
        archive: Source,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Neither a tar nor a zip.
    #[error(
        "{} is no archive: neither tar (plain, gzip, zstd or xz) nor zip",
        ArchiveName(archive)
    )]
    Unknown {
        /// What was given.
        archive: Source,
    },
    /// It ends too early, or contradicts itself.
    #[error("{} is damaged: {problem}", ArchiveName(archive))]
    Damaged {
        /// The archive.
        archive: Source,
        /// What is wrong.
        problem: String,
    },
    /// To be read, it needs more memory than half of what the tree may hold.
    #[error(
        "{} cannot be unpacked with half of the limit as memory: it was packed with a large window, as zstd --long=31 does",
        ArchiveName(archive)
    )]
    Window {
        /// The archive.
        archive: Source,
    },
    /// A member that is not let in.
    #[error(
        "{}: the member {member} is refused: {problem}",
        ArchiveName(archive),
        member = quoted(member)
    )]
    Member {
        /// The archive.
        archive: Source,
        /// Its name as the archive has it; bytes that are not UTF-8 are replaced.
        member: String,
        /// What is wrong with it.
        problem: MemberProblem,
    },
    /// A member could not be read or has no room, or something is in its way.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// What is to be packed is not in the tree.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A part of the tree could not be read.
    #[error("cannot pack {path:?}")]
    Store {
        /// What was to be packed.
        path: TreePath,
        /// Why the tree refused.
        #[source]
        error: StoreError,
    },
    /// The archive could not be written.
    #[error("cannot write {path:?} into the archive")]
    Write {
        /// The member that was being written; the root at the archive's end.
        path: TreePath,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The listener asked to stop.
    #[error("the archive was interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Whether the reader of a pipe has gone, which ends a pipeline quietly.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write { error, .. } if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<Stopped> for ArchiveError {
    fn from(Stopped: Stopped) -> Self {
        Self::Interrupted
    }
}

/// What is wrong with a member; of an [`ArchiveError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberProblem {
    /// Its name leads out of the tree, or cannot be one.
    #[error("as a path, {0}")]
    Name(#[from] PathError),
    /// A device node.
    #[error("it is a device node")]
    Device,
    /// A hard link to something that is no file of the archive before it.
    #[error("it is a hard link to {}, which is no file that came before it", quoted(.0))]
    LinkTarget(String),
    /// A hard link to a name that leads out of the tree.
    #[error("it is a hard link to {}, and as a path, {}", quoted(.0), .1)]
    LinkName(String, PathError),
    /// A symlink that points nowhere.
    #[error("it is a symlink with no target, or one longer than 4095 bytes")]
    SymlinkTarget,
    /// It can only be read with a password.
    #[error("it is encrypted")]
    Encrypted,
    /// A kind or a compression that is not known here.
    #[error("it is {0}, which is not supported")]
    Unsupported(String),
}

/// An archive in a message.
pub(super) struct ArchiveName<'s>(pub(super) &'s Source);

impl fmt::Display for ArchiveName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Source::Host(path) => quoted(path).fmt(f),
            Source::Caller => f.write_str("the archive"),
        }
    }
}

/// The archive that is read; makes the errors that name it.
#[derive(Clone, Debug)]
pub(super) struct ArchiveSource(pub(super) Source);

impl ArchiveSource {
    pub(super) fn host(path: PathBuf) -> Self {
        Self(Source::Host(path))
    }

    pub(super) fn damaged(&self, problem: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged {
            archive: self.0.clone(),
            problem: problem.into(),
        }
    }

    pub(super) fn unread(&self, error: io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it is cut off"),
            _ if codec::is_short_of_memory(&error) => ArchiveError::Window {
                archive: self.0.clone(),
            },
            // What decoders say; the system's own errors have a number.
            _ if error.raw_os_error().is_none() => self.damaged(error.to_string()),
            _ => ArchiveError::Read {
                archive: self.0.clone(),
                error,
            },
        }
    }

    pub(super) fn member(&self, name: &[u8], problem: MemberProblem) -> ArchiveError {
        ArchiveError::Member {
            archive: self.0.clone(),
            member: String::from_utf8_lossy(name).into_owned(),
            problem,
        }
    }

    /// A member's name as a path that stays in the tree.
    pub(super) fn path(&self, name: &[u8]) -> Result<TreePath, ArchiveError> {
        TreePath::parse(name).map_err(|error| self.member(name, error.into()))
    }
}
