//! One tree as one mount sees it.
//!
//! The kernel holds inodes by number ("nodeids") and tells how often through lookups and forgets;
//! processes hold files open; a file lives on while either does, also without a name. A [`View`] keeps
//! those references beside the tree, so that the tree itself knows neither kernel nor handles, and can be
//! forked, staged and collected without a mount.
//!
//! Every change of a mounted tree passes through [`Locked`], whether the kernel or our own API makes it. So this is where
//! changes become [`Event`]s, and where a request for a file that its source has not made is told to wait.
//!
//! Nodeids are the inode numbers of the tree: both are never used twice, and `st_ino` is then the
//! number that the tree's owner sees too.

mod changes;
mod event;
mod follow;
mod lazy_files;
mod names;
mod observed;
mod queue;
mod ranges;
#[cfg(test)]
pub(crate) mod tests;
mod touched;
mod wakeups;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::store::{Ino, Resource, Tree, TreePath, Unlinked};
use crate::sync::{AtomicBool, Mutex, MutexGuard};
use changes::Parts;
pub use event::Event;
pub use follow::{FollowId, Followed};
use lazy_files::LazyFiles;
pub use lazy_files::{Demand, Waiter};
use observed::Observed;
pub use observed::{Handle, Opener};
pub use queue::Queue;
pub use touched::Touched;
pub use wakeups::Waker;
use wakeups::Wakeups;

/// A tree, and who refers to its inodes.
///
/// One lock guards the whole: an operation takes well under the five microseconds that its request costs,
/// and finer locks were not faster. No system call or notification happens under it; wakers are called when it is
/// released.
#[derive(Debug)]
pub struct View {
    /// Lock order: first this one, then a watcher's [`Queue`]; nothing else is taken under either.
    state: Mutex<State>,
    /// Whether there ever was a file that is made on demand. Where not, requests need not look for one.
    may_have_lazy_files: AtomicBool,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    references: References,
    /// Files that lost a page; see [`View::lost_files`].
    lost: BTreeSet<Ino>,
    /// An entry that is not listed.
    hidden: Option<Ino>,
    /// The limit that the kernel was last refused for.
    refused: Option<Resource>,
    /// Files that our own API gave another size while there were references to them.
    resized: HashSet<Ino>,
    lazy: LazyFiles,
    /// What is kept of opens, names and watchers where opens are seen. Nothing where they are not, and a
    /// change then costs no more than to find that.
    observed: Option<Box<Observed>>,
}

/// How often each inode is referred to from outside the tree.
///
/// The kernel's lookup count and the handles of our own API are alike in what they mean: the inode must
/// outlive its last name. They are kept as one number, and there is one rule that frees.
#[derive(Debug, Default)]
struct References {
    counts: HashMap<Ino, u64>,
}

impl References {
    fn take(&mut self, ino: Ino) {
        *self.counts.entry(ino).or_default() += 1;
    }

    /// Gives back `count` references; true when none is left.
    fn give_back(&mut self, ino: Ino, count: u64) -> bool {
        let Some(held) = self.counts.get_mut(&ino) else {
            return true;
        };
        *held = held.saturating_sub(count);
        let none_left = *held == 0;
        if none_left {
            self.counts.remove(&ino);
        }
        none_left
    }

    fn any(&self, ino: Ino) -> bool {
        self.counts.contains_key(&ino)
    }
}

impl View {
    /// A view of `tree`, without references.
    pub fn new(tree: Tree) -> Self {
        Self {
            state: Mutex::new(State {
                tree,
                references: References::default(),
                lost: BTreeSet::new(),
                hidden: None,
                refused: None,
                resized: HashSet::new(),
                lazy: LazyFiles::default(),
                observed: None,
            }),
            may_have_lazy_files: AtomicBool::new(false),
        }
    }

    /// The tree and its references, for one operation.
    pub fn lock(&self) -> Locked<'_> {
        Locked {
            state: self.state.lock(),
            wakeups: Wakeups::default(),
            may_have_lazy_files: &self.may_have_lazy_files,
        }
    }

    /// The tree as it is now, sharing every byte with it. Takes no time that depends on the tree, unless
    /// files in it are still to be made: those are left out.
    pub fn snapshot(&self) -> Tree {
        let state = self.state.lock();
        let mut fork = state.tree.fork();
        state.lazy.take_out_of(&mut fork);
        fork
    }

    /// The files of which a page written through a shared mapping could not be kept, because the byte
    /// limit was reached when the kernel wrote it back.
    ///
    /// No file system in user space can tell this to the process that wrote: its `munmap` and `exit` have
    /// no result. So the owner of the mount must ask.
    pub fn lost_files(&self) -> Vec<TreePath> {
        let state = self.state.lock();
        let mut paths: Vec<_> = state
            .lost
            .iter()
            .filter_map(|&ino| names::search(&state.tree, ino))
            .collect();
        paths.sort();
        paths
    }

    /// The limit that a process last ran into, if any did.
    pub fn limit_met(&self) -> Option<Resource> {
        self.state.lock().refused
    }

    /// Whether there may be a file that is still to be made. Takes no lock.
    pub fn may_have_lazy_files(&self) -> bool {
        self.may_have_lazy_files.load(Ordering::Acquire)
    }

    /// The files whose source failed, and how.
    pub fn failed_sources(&self) -> Vec<(TreePath, Arc<io::Error>)> {
        self.state.lock().lazy.failed().to_vec()
    }

    /// From now on opens and closes are told to this view, and it tells events.
    pub fn observe(&self) {
        self.state.lock().observed.get_or_insert_default();
    }

    /// The mount is gone: watchers and followers come to their end, and waiters for sources are resumed.
    pub fn end(&self) {
        let mut view = self.lock();
        view.cancel_sources();
        let closed = view.state.observed.as_ref();
        let closed = closed.map_or(Vec::new(), |it| it.closed_by_the_end());
        closed.into_iter().for_each(|handle| view.close(handle));
        let Parts {
            observed, wakeups, ..
        } = view.parts();
        if let Some(observed) = observed {
            observed.end(wakeups);
        }
    }
}

/// The tree and its references, locked. Derefs to the [`Tree`], for reading.
#[derive(Debug)]
pub struct Locked<'v> {
    // The order of the fields counts: the lock is released first, then the wakeups are made.
    state: MutexGuard<'v, State>,
    wakeups: Wakeups,
    may_have_lazy_files: &'v AtomicBool,
}

impl Locked<'_> {
    /// Takes a reference to `ino`: its inode then outlives its last name.
    pub fn take_reference(&mut self, ino: Ino) {
        self.state.references.take(ino);
    }

    /// Takes a reference to `ino`, which was found by this name.
    pub fn take_reference_by(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        self.state.references.take(ino);
        if let Some(observed) = &mut self.state.observed {
            observed.names.note(ino, parent, name);
        }
    }

    /// Gives back `count` references, and frees the inode if they were the last and no name is left.
    pub fn give_back_references(&mut self, ino: Ino, count: u64) {
        if self.state.references.give_back(ino, count) {
            self.state.resized.remove(&ino);
            self.free(ino);
        }
    }

    /// Frees an inode that just lost its last name, unless there are references to it.
    fn dispose(&mut self, unlinked: Unlinked) {
        if !unlinked.orphaned {
            return;
        }
        if !self.state.references.any(unlinked.ino) {
            self.free(unlinked.ino);
        }
    }

    /// Frees an inode to which there are no references, if no name is left either.
    fn free(&mut self, ino: Ino) {
        let Parts {
            tree,
            lazy,
            observed,
            wakeups,
        } = self.parts();
        tree.free(ino);
        if !lazy.is_empty() && tree.attr(ino).is_err() {
            lazy.forget(ino, wakeups);
        }
        if let Some(observed) = observed {
            observed.forget(ino, tree);
        }
    }

    /// Notes that the size of `ino` changed past the kernel.
    pub fn note_resized(&mut self, ino: Ino) {
        // A later lookup brings the size with the rest.
        if self.state.references.any(ino) {
            self.state.resized.insert(ino);
        }
    }

    /// Whether the kernel may have another size of `ino` in mind.
    pub fn was_resized(&self, ino: Ino) -> bool {
        self.state.resized.contains(&ino)
    }

    /// Notes that a page of `ino` that was written through a mapping could not be kept.
    pub fn note_lost_page(&mut self, ino: Ino) {
        self.state.lost.insert(ino);
    }

    /// Leaves `ino` out of the listing of its directory.
    pub fn hide(&mut self, ino: Ino) {
        self.state.hidden = Some(ino);
    }

    /// Whether `ino` is left out of listings.
    pub fn is_hidden(&self, ino: Ino) -> bool {
        self.state.hidden == Some(ino)
    }

    /// Notes that a process was refused because of a limit.
    pub fn note_limit_met(&mut self, resource: Resource) {
        self.state.refused = Some(resource);
    }
}

impl Deref for Locked<'_> {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.state.tree
    }
}
