//! Files whose content a source makes on the first use.
//!
//! In the tree they stand as empty files, or as holes of their announced size. A request for the content of one is
//! kept as a [`Waiter`] until it is made. No thread waits or makes a file while it holds the lock.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::changes::Parts;
use super::wakeups::Wakeups;
use super::{Locked, State, names};
use crate::store::{
    Attr, Cookie, Data, Ino, Kind, Name, Resource, SetAttr, Source, StoreError, Timestamp, Tree,
    TreePath,
};

/// What is to be resumed when a file is made, or cannot be.
pub struct Waiter(Box<dyn FnOnce() + Send>);

impl Waiter {
    /// Wakeups `resume` when the wait is over.
    pub fn new(resume: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(resume))
    }

    /// Ends the wait.
    pub fn resume(self) {
        (self.0)();
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiter")
    }
}

/// What becomes of a request for a file's content.
#[derive(Debug)]
#[must_use]
pub enum Demand {
    /// There is nothing to wait for.
    Ready(Waiter),
    /// It is being made; the waiter is kept.
    Waiting,
    /// The caller has to make it, with [`Locked::fill`] and [`Locked::made`]; the waiter is kept.
    Make(Source),
}

#[derive(Debug, Default)]
pub(super) struct LazyFiles {
    files: HashMap<Ino, File>,
    failed: Vec<(TreePath, Arc<io::Error>)>,
    /// Sources are not asked any more.
    cancelled: bool,
}

#[derive(Debug)]
struct File {
    size: Option<u64>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Untouched(Source),
    Making(Vec<Waiter>),
    Failed,
}

impl LazyFiles {
    /// The files whose source failed.
    pub fn failed(&self) -> &[(TreePath, Arc<io::Error>)] {
        &self.failed
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The inode is freed: its content cannot be asked for any more.
    pub fn forget(&mut self, ino: Ino, wakeups: &mut Wakeups) {
        if let Some(File {
            stage: Stage::Making(waiters),
            ..
        }) = self.files.remove(&ino)
        {
            wakeups.resume(waiters);
        }
    }

    /// Whether the content can be used.
    pub fn check(&self, ino: Ino) -> Result<(), StoreError> {
        if self.files.is_empty() || !self.files.contains_key(&ino) {
            Ok(())
        } else {
            Err(StoreError::NotMade)
        }
    }

    /// Removes from a fork what is not made, as if it had never been there.
    pub fn take_out_of(&self, tree: &mut Tree) {
        if self.files.is_empty() {
            return;
        }
        let now = Timestamp::now();
        for (parent, name) in names_of(tree, &self.files.keys().copied().collect()) {
            if let Ok(unlinked) = tree.unlink(parent, name.as_bytes(), now)
                && unlinked.orphaned
            {
                tree.free(unlinked.ino);
            }
        }
    }
}

/// Every name of these inodes.
fn names_of(tree: &Tree, wanted: &HashSet<Ino>) -> Vec<(Ino, Name)> {
    let mut found = Vec::new();
    let mut directories = vec![Ino::ROOT];
    while let Some(dir) = directories.pop() {
        let Ok(entries) = tree.entries(dir, Cookie::default()) else {
            continue;
        };
        for entry in entries {
            if wanted.contains(&entry.ino) {
                found.push((dir, entry.name.clone()));
            }
            if entry.kind == Kind::Directory {
                directories.push(entry.ino);
            }
        }
    }
    found
}

impl Locked<'_> {
    /// Has `source` make the content of an empty file when it is first asked for.
    ///
    /// # Errors
    ///
    /// What the tree refuses to the announced size.
    pub fn set_source(
        &mut self,
        ino: Ino,
        source: Source,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let size = source.known_size();
        let announced = SetAttr {
            size,
            ..SetAttr::default()
        };
        self.state.tree.set_attr(ino, &announced, now)?;
        let stage = match self.state.lazy.cancelled {
            false => Stage::Untouched(source),
            true => Stage::Failed,
        };
        self.state.lazy.files.insert(ino, File { size, stage });
        self.may_have_lazy_files.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether the content comes from a source, and is not made yet or cannot be.
    pub fn has_source(&self, ino: Ino) -> bool {
        self.state.lazy.check(ino).is_err()
    }

    /// Whether a request for the content must wait.
    pub fn is_pending(&self, ino: Ino) -> bool {
        let file = self.state.lazy.files.get(&ino);
        file.is_some_and(|file| !matches!(file.stage, Stage::Failed))
    }

    /// Whether a request for the attributes must wait, since not even the size is known.
    pub fn is_size_pending(&self, ino: Ino) -> bool {
        let file = self.state.lazy.files.get(&ino);
        file.is_some_and(|file| file.size.is_none() && !matches!(file.stage, Stage::Failed))
    }

    /// Asks for the content of a file.
    pub fn demand(&mut self, ino: Ino, waiter: Waiter) -> Demand {
        let Some(file) = self.state.lazy.files.get_mut(&ino) else {
            return Demand::Ready(waiter);
        };
        match &mut file.stage {
            Stage::Failed => Demand::Ready(waiter),
            Stage::Making(waiters) => {
                waiters.push(waiter);
                Demand::Waiting
            }
            stage @ Stage::Untouched(_) => {
                match std::mem::replace(stage, Stage::Making(vec![waiter])) {
                    Stage::Untouched(source) => Demand::Make(source),
                    _ => Demand::Waiting,
                }
            }
        }
    }

    /// Adds to the content of a file that is being made.
    ///
    /// # Errors
    ///
    /// When it is over the limit, or the file is not wanted any more.
    pub fn fill(&mut self, ino: Ino, offset: u64, block: &[u8]) -> io::Result<()> {
        let State {
            tree,
            lazy,
            refused,
            ..
        } = &mut *self.state;
        let file = lazy.files.get(&ino);
        if !file.is_some_and(|file| matches!(file.stage, Stage::Making(_))) {
            return Err(io::Error::other("the file is not wanted any more"));
        }
        // The kernel may have the times of an announced file already.
        let written = tree
            .attr(ino)
            .and_then(|attr| tree.write(ino, offset, block, attr.mtime));
        match written {
            Ok(written) if written == block.len() => Ok(()),
            Ok(_) | Err(StoreError::NoSpace(_)) => {
                *refused = Some(Resource::Bytes);
                let error = StoreError::NoSpace(Resource::Bytes);
                Err(io::Error::new(io::ErrorKind::StorageFull, error))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Notes that a file is made, or cannot be, and resumes its waiters.
    pub fn made(&mut self, ino: Ino, result: io::Result<()>) {
        let Parts {
            tree,
            lazy,
            wakeups,
            ..
        } = self.parts();
        let Some(file) = lazy.files.get_mut(&ino) else {
            return;
        };
        let Stage::Making(waiters) = std::mem::replace(&mut file.stage, Stage::Failed) else {
            return;
        };
        match result {
            Ok(()) => drop(lazy.files.remove(&ino)),
            Err(error) => {
                let path = names::search(tree, ino).unwrap_or_default();
                let failed = (path, Arc::new(error));
                lazy.failed.push(failed);
                empty(tree, ino, file.size);
            }
        }
        wakeups.resume(waiters);
    }

    /// Makes nothing any more, and resumes all waiters: the files cannot be read.
    pub fn cancel_sources(&mut self) {
        let Parts { lazy, wakeups, .. } = self.parts();
        lazy.cancelled = true;
        for file in lazy.files.values_mut() {
            if let Stage::Making(waiters) = std::mem::replace(&mut file.stage, Stage::Failed) {
                wakeups.resume(waiters);
            }
        }
    }

    /// What made the source of this file fail, if it did.
    pub fn source_error(&self, ino: Ino) -> Option<Arc<io::Error>> {
        let path = names::search(&self.state.tree, ino)?;
        let failed = self.state.lazy.failed.iter();
        let mut of_this = failed.filter(|(its, _)| *its == path);
        of_this.next().map(|(_, error)| Arc::clone(error))
    }

    /// As [`Tree::attr`]; [`StoreError::NotMade`] for a file of which not even the size is known.
    pub fn attr(&self, ino: Ino) -> Result<Attr, StoreError> {
        let attr = self.state.tree.attr(ino)?;
        match self.state.lazy.files.get(&ino) {
            None => Ok(attr),
            Some(File { size: None, .. }) => Err(StoreError::NotMade),
            // A file without blocks would be taken for one great hole.
            Some(File {
                size: Some(size), ..
            }) => Ok(Attr {
                blocks: size.div_ceil(512),
                ..attr
            }),
        }
    }

    /// As [`Tree::attr`]; the size of a file that its source has not made is not the real one.
    pub fn attr_unmade(&self, ino: Ino) -> Result<Attr, StoreError> {
        self.state.tree.attr(ino)
    }

    /// As [`Tree::read`]; [`StoreError::NotMade`] for a file whose source has not made it.
    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Data, StoreError> {
        self.state.lazy.check(ino)?;
        self.state.tree.read(ino, offset, len)
    }

    /// As [`Tree::seek_data`]; [`StoreError::NotMade`] for a file whose source has not made it.
    pub fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64, StoreError> {
        self.state.lazy.check(ino)?;
        self.state.tree.seek_data(ino, offset)
    }

    /// As [`Tree::seek_hole`]; [`StoreError::NotMade`] for a file whose source has not made it.
    pub fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64, StoreError> {
        self.state.lazy.check(ino)?;
        self.state.tree.seek_hole(ino, offset)
    }
}

/// Takes back what was made of a file before it failed.
fn empty(tree: &mut Tree, ino: Ino, size: Option<u64>) {
    for size in [Some(0), size].into_iter().flatten() {
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        // Shrinking and holes need no room.
        let _ = tree.set_attr(ino, &change, Timestamp::now());
    }
}
