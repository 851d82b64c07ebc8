//! What happened to a file.

use std::ops::Range;
use std::sync::Arc;

use crate::store::{Kind, TreePath};

/// Something that happened in a mounted tree, whether a process did it or our own API; see [`Watch`](crate::Watch).
///
/// Paths are those of the moment when it happened. A file that lost its last name while it is open keeps
/// the last path that it had. A file of several names is told by one of them, as a rule the one by which it was
/// last looked up: the kernel does not say through which of them it is used.
///
/// `by` is who opened the file: the id of the thread that called open(2), as this process sees it. That is
/// the process' id for one of a single thread. It is 0 for a process whose id cannot be seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A name appeared: of a new file, directory or symlink, or a hard link.
    Created {
        /// The name.
        path: Arc<TreePath>,
        /// What it names.
        kind: Kind,
    },
    /// A name is gone.
    Removed {
        /// The name that it was.
        path: Arc<TreePath>,
    },
    /// A name is another now; whatever had the new name before lost it. An exchange of two names is told
    /// as two of these.
    Renamed {
        /// The name before.
        from: Arc<TreePath>,
        /// The name now.
        to: Arc<TreePath>,
    },
    /// A file was opened.
    Opened {
        /// The file.
        path: Arc<TreePath>,
        /// By which thread.
        by: u32,
        /// Whether it can be written through this opening.
        writable: bool,
    },
    /// What was opened was closed, by all who shared it.
    Closed {
        /// The file.
        path: Arc<TreePath>,
        /// The thread that had opened it.
        by: u32,
        /// Whether it could be written through this opening.
        writable: bool,
    },
    /// Bytes were written, or zeroed, or became a hole (fallocate(2)).
    ///
    /// What is written through a shared mapping is told when the kernel writes it back: at msync(2), when
    /// the mapping goes, or after some time.
    Written {
        /// The file.
        path: Arc<TreePath>,
        /// Which bytes. Adjacent writes are told as one while they wait to be taken.
        range: Range<u64>,
    },
    /// The size was set, by truncate(2), by opening with `O_TRUNC`, or by fallocate(2).
    Truncated {
        /// The file.
        path: Arc<TreePath>,
        /// The size now.
        size: u64,
    },
    /// At this point events were not kept, because too many waited to be taken.
    Lost {
        /// How many.
        count: u64,
    },
}

impl Event {
    /// The file, or the name, that this is about; of a renaming the new name. None for [`Event::Lost`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Profile, Scratch};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    /// let mut events = scratch.watch(".")?;
    /// scratch.run(["mkdir", "-p", "build/de"])?;
    /// let path = events.next().and_then(|event| Some(event.path()?.to_string()));
    /// assert_eq!(path.as_deref(), Some("build"));
    /// scratch.unmount()
    /// # }
    /// ```
    pub fn path(&self) -> Option<&TreePath> {
        self.shared_path().map(|path| &**path)
    }

    pub(super) fn shared_path(&self) -> Option<&Arc<TreePath>> {
        match self {
            Self::Created { path, .. }
            | Self::Removed { path }
            | Self::Renamed { to: path, .. }
            | Self::Opened { path, .. }
            | Self::Closed { path, .. }
            | Self::Written { path, .. }
            | Self::Truncated { path, .. } => Some(path),
            Self::Lost { .. } => None,
        }
    }

    /// Whether this is about `watched`, something below it, or its own renaming with a directory above it.
    pub(super) fn concerns(&self, watched: &TreePath) -> bool {
        match self {
            Self::Renamed { from, to } => [from, to]
                .into_iter()
                .any(|path| path.starts_with(watched) || watched.starts_with(path)),
            _ => self.path().is_none_or(|path| path.starts_with(watched)),
        }
    }
}
