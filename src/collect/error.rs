//! Why something could not be collected or delivered.

use std::io;
use std::path::PathBuf;

use super::journal::{Unrestored, UnrestoredList};
use super::missing::{MissingOutputs, NoMatch};
use crate::progress::Stopped;
use crate::stage::kind_name;
use crate::store::{Kind, StoreError, TreePath};
use crate::text::quoted;

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
/// // The reader of a pipe may go before its end: no reason for a message.
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
    #[error("could not put back {}", UnrestoredList(left))]
    NotPutBack {
        /// What is left, and where its old content is.
        left: Vec<Unrestored>,
        /// What failed in the first place.
        #[source]
        cause: Box<CollectError>,
    },
    /// The listener of [`Delivery::listen`](super::Delivery::listen) asked to stop.
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

impl CollectError {
    /// Makes the error of a tree that refused `name`.
    pub(super) fn store(name: &TreePath) -> impl Fn(StoreError) -> Self + '_ {
        |error| Self::Store {
            name: name.clone(),
            error,
        }
    }

    /// Whether it says that the tree has nothing of that name.
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
