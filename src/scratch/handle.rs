//! What other threads may do with a scratch directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Scratch;
use crate::fuse::RequestCounts;
use crate::mount::{MountError, MountPoint};
use crate::progress::ByteCount;
use crate::store::{Limits, PAGE_SIZE, Resource, Tree, TreePath, Usage};
use crate::view::View;

/// Looks at a scratch directory and changes its limits, from any thread.
///
/// It does not keep the directory mounted. What it tells after the end is how it was.
///
/// # Examples
///
/// ```
/// use notapipe::Scratch;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let scratch = Scratch::new()?;
/// let handle = scratch.handle();
/// scratch.write("word", "ceci")?;
/// assert_eq!(handle.path(), scratch.path());
/// assert_eq!(handle.current_path(), scratch.path());
/// assert_eq!(handle.lost_files(), []);
/// assert_eq!(handle.usage().bytes, 4096);
/// assert_eq!(handle.resize(Some(1 << 20), None).unwrap().limits.bytes, 1 << 20);
/// assert_eq!(handle.resize(Some(0), None).unwrap_err().used, 4096);
/// scratch.unmount()?;
/// assert_eq!(handle.snapshot().usage().inodes, 2);
/// println!("{} requests", handle.requests().total());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    view: Arc<View>,
    requests: Arc<RequestCounts>,
    path: PathBuf,
    place: Arc<MountPoint>,
}

/// New limits that lie below what is used already; see [`Handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}", Wanted(*resource, *wanted), Used(*resource, *used))]
#[non_exhaustive]
pub struct ResizeError {
    /// Which limit.
    pub resource: Resource,
    /// What was asked for.
    pub wanted: u64,
    /// What is used, which is the least that it can be.
    pub used: u64,
}

impl Handle {
    pub(super) fn new(scratch: &Scratch) -> Self {
        Self {
            view: Arc::clone(&scratch.view),
            requests: Arc::clone(&scratch.requests),
            path: scratch.path().to_owned(),
            place: Arc::clone(scratch.place()),
        }
    }

    /// Where it was mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is mounted now, which is elsewhere when a directory above has been renamed.
    pub fn current_path(&self) -> PathBuf {
        self.place.current_path()
    }

    /// What it holds, and its limits.
    pub fn usage(&self) -> Usage {
        self.view.lock().usage()
    }

    /// Files that lost bytes which were written through a memory mapping; see [`Remains`](super::Remains). Such a loss
    /// is known when the kernel has written the page back, as by msync(2), munmap(2) or syncfs(2).
    pub fn lost_files(&self) -> Vec<TreePath> {
        self.view.lost_files()
    }

    /// How many requests the kernel sent, by kind.
    pub fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    /// The tree as it is now; shares every byte.
    ///
    /// What a process has written through a memory mapping, and the kernel has not written back, is not in it:
    /// syncfs(2) on the mount has it written back.
    pub fn snapshot(&self) -> Tree {
        self.view.snapshot()
    }

    /// Sets the limits, bytes rounded down to pages; `None` leaves one as it is. Takes effect with the next request.
    ///
    /// # Errors
    ///
    /// [`ResizeError`] when one would lie below what is used; then none has changed.
    pub fn resize(&self, bytes: Option<u64>, inodes: Option<u64>) -> Result<Usage, ResizeError> {
        let mut view = self.view.lock();
        let usage = view.usage();
        let bytes_now = bytes.map_or(usage.limits.bytes, |bytes| bytes / PAGE_SIZE * PAGE_SIZE);
        // Inodes that followed the size go on to follow it.
        let inodes_now = match usage.limits == Limits::of_bytes(usage.limits.bytes) {
            true => Limits::of_bytes(bytes_now).inodes.max(usage.inodes),
            false => usage.limits.inodes,
        };
        let limits = Limits {
            bytes: bytes_now,
            inodes: inodes.unwrap_or(inodes_now),
        };
        let refuse = |resource, wanted, used| ResizeError {
            resource,
            wanted,
            used,
        };
        if bytes.is_some() && limits.bytes < usage.bytes {
            return Err(refuse(Resource::Bytes, limits.bytes, usage.bytes));
        }
        if inodes.is_some() && limits.inodes < usage.inodes {
            return Err(refuse(Resource::Inodes, limits.inodes, usage.inodes));
        }
        view.set_limits(limits);
        Ok(view.usage())
    }

    /// The device number of the mount, as mountinfo has it: no two live mounts share one.
    #[cfg_attr(not(feature = "control"), expect(dead_code))]
    pub(crate) fn device(&self) -> String {
        self.place.connection().device()
    }

    /// Unmounts a public one, and ends [`Scratch::wait`]; `lazy` detaches it although it is in use, and does not.
    #[cfg_attr(not(feature = "control"), expect(dead_code))]
    pub(crate) fn unmount(&self, lazy: bool) -> Result<(), MountError> {
        self.place.leave(lazy)
    }
}

struct Wanted(Resource, u64);

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Resource::Bytes => write!(f, "a limit of {} is too small:", ByteCount(self.1)),
            Resource::Inodes => write!(f, "a limit of {} inodes is too small:", self.1),
        }
    }
}

struct Used(Resource, u64);

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Resource::Bytes => write!(f, "{} ({} bytes) are used", ByteCount(self.1), self.1),
            Resource::Inodes => write!(f, "{} are used", self.1),
        }
    }
}
