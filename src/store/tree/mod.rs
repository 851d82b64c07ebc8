//! The tree: inodes and names, nodes shared between forks and copied on write.

mod attributes;
mod changes;
mod data;
mod names;
mod rename;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use data::AllocateMode;
pub use names::Unlinked;
pub use rename::RenameMode;
use table::Table;

use super::directory::Directory;
use super::inode::{Body, Ino, Inode, Timestamp};
use super::quota::{Limits, Peak, Quota, Usage};

/// The permission, set-id and sticky bits.
const MODE_BITS: u32 = 0o7777;

/// A tree of files in RAM.
///
/// It takes no locks and asks for no time: callers lock it, and pass `now`. Whether a process *may*
/// do something is for the layers above; whether it *can* be done is decided here.
///
/// An inode without a name stays until [`free`](Self::free) is called, so that an open file outlives its
/// last name.
///
/// ```
/// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree};
///
/// let now = Timestamp::now();
/// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
/// let new = NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
/// let file = tree.create(Ino::ROOT, Name::new(b"pipe")?, new, now)?.ino;
/// tree.write(file, 0, b"ceci n'est pas une pipe", now)?;
///
/// let fork = tree.fork();
/// tree.write(file, 0, b"CECI", now)?;
/// assert_eq!(&*tree.read(file, 0, 100)?, b"CECI n'est pas une pipe");
/// assert_eq!(&*fork.read(file, 0, 100)?, b"ceci n'est pas une pipe");
/// # Ok::<(), notapipe::store::StoreError>(())
/// ```
pub struct Tree {
    inodes: Table,
    /// Shared by all forks, so that a number means one inode in all of them.
    next_ino: Arc<AtomicU64>,
    quota: Quota,
    /// For names; one for all forks, since they share directories. Keyed, so that no tool can
    /// choose names that collide.
    hasher: RandomState,
    /// Inodes that have no name left and were not freed yet.
    orphans: BTreeSet<Ino>,
}

impl Tree {
    /// An empty tree whose root is a directory of this owner and mode.
    ///
    /// The root stands even when `limits` allow no inode.
    pub fn new(limits: Limits, root_mode: u32, uid: u32, gid: u32, now: Timestamp) -> Self {
        let body = Body::Directory(Box::new(Directory::new(Ino::ROOT)));
        let mut inodes = Table::default();
        inodes.insert(
            Ino::ROOT,
            Inode::new(body, root_mode & MODE_BITS, (uid, gid), now),
        );
        Self {
            inodes,
            next_ino: Arc::new(AtomicU64::new(Ino::ROOT.0 + 1)),
            quota: Quota::new(limits),
            hasher: RandomState::new(),
            orphans: BTreeSet::new(),
        }
    }

    /// A tree of its own that shares every byte until one of the two writes. O(1) apart from orphans,
    /// which the fork does not take along. The limits are the same until changed.
    pub fn fork(&self) -> Self {
        let mut fork = Self {
            inodes: self.inodes.clone(),
            next_ino: Arc::clone(&self.next_ino),
            quota: self.quota.clone(),
            hasher: self.hasher.clone(),
            orphans: self.orphans.clone(),
        };
        for ino in &self.orphans {
            fork.free(*ino);
        }
        fork
    }

    /// What is used, and the limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, StoreError, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 8192, inodes: 100 }, 0o755, 0, 0, now);
    /// let new = NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
    /// let file = tree.create(Ino::ROOT, Name::new(b"a")?, new, now)?.ino;
    /// assert_eq!(tree.write(file, 0, &[1; 10_000], now)?, 8192);
    /// assert_eq!((tree.usage().bytes, tree.usage().inodes), (8192, 2));
    ///
    /// tree.set_limits(Limits { bytes: 0, ..tree.usage().limits });
    /// assert!(matches!(tree.write(file, 8192, b"more", now), Err(StoreError::NoSpace(_))));
    /// assert_eq!(tree.peak().bytes, 8192);
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn usage(&self) -> Usage {
        self.quota.usage()
    }

    /// The most that was used at once.
    pub fn peak(&self) -> Peak {
        self.quota.peak()
    }

    /// New limits; may lie below what is used, and then only refuse growth.
    pub fn set_limits(&mut self, limits: Limits) {
        self.quota.limits = limits;
    }

    /// The inodes that have no name left and were not freed yet.
    pub fn orphans(&self) -> impl Iterator<Item = Ino> {
        self.orphans.iter().copied()
    }

    /// Frees an orphan and what it holds; no-op for an inode that has a name or is gone.
    pub fn free(&mut self, ino: Ino) {
        if self.orphans.remove(&ino)
            && let Some(inode) = self.inodes.remove(ino)
        {
            self.quota.give_pages(inode.charged_pages());
            self.quota.give_inode();
        }
    }

    fn new_ino(&self) -> Ino {
        Ino(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn a_tree_may_be_shared_between_threads() {
        fn shareable<T: Send + Sync + 'static>() {}
        shareable::<Tree>();
        shareable::<crate::store::Data>();
    }
}
