//! What is kept where opens and closes are seen: what is open, names, watchers and followers.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::event::Event;
use super::follow::Followers;
use super::names::Names;
use super::queue::Queue;
use super::touched::{Touched, TouchedLog};
use super::wakeups::{Waker, Wakeups};
use super::{Locked, State};
use crate::store::{Ino, Kind, RenameMode, StoreError, Tree, TreePath};

/// One opening of a file: a number that is never used twice in a mount, and never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// Who opened a file: the id of a thread, as this process sees it, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A process of the mount, through the kernel, which also tells when it closes.
    Process(u32),
    /// Our own program, past the kernel.
    Own(u32),
}

/// Opens and closes are not seen in this view: [`View::observe`](super::View::observe) was not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("opens and closes are not seen in this mount")]
pub struct NotObserved;

#[derive(Debug, Default)]
pub(super) struct Observed {
    pub names: Names,
    open: HashMap<Handle, Open>,
    last_handle: u64,
    /// How many openings can write, for each file that ever had one that could.
    writers: HashMap<Ino, u32>,
    watchers: Vec<Watcher>,
    pub followers: Followers,
    /// The mount is being taken down, and no process uses it any more.
    unused: bool,
    /// Which files were touched, from when that was first asked for.
    log: Option<TouchedLog>,
    pub ended: bool,
}

#[derive(Debug)]
struct Open {
    ino: Ino,
    by: Opener,
    writable: bool,
}

impl Opener {
    fn id(self) -> u32 {
        match self {
            Self::Process(id) | Self::Own(id) => id,
        }
    }
}

#[derive(Debug)]
struct Watcher {
    below: TreePath,
    queue: Arc<Queue>,
}

impl Observed {
    /// Tells watchers about a file, if there are any.
    fn tell(
        &mut self,
        tree: &Tree,
        ino: Ino,
        wakeups: &mut Wakeups,
        event: impl FnOnce(Arc<TreePath>) -> Event,
    ) {
        if !self.watchers.is_empty() {
            let path = self.names.path(tree, ino);
            self.send(ino, &event(path), wakeups);
        }
    }

    /// Counts something, where that is wanted.
    fn count(&mut self, count: impl FnOnce(&mut TouchedLog, &mut Names)) {
        if let Some(log) = &mut self.log {
            count(log, &mut self.names);
        }
    }

    /// Counts that a file's content was changed.
    fn count_written(&mut self, tree: &Tree, ino: Ino) {
        self.count(|log, names| log.written(ino, || names.path(tree, ino)));
    }

    fn send(&self, ino: Ino, event: &Event, wakeups: &mut Wakeups) {
        for watcher in &self.watchers {
            if event.concerns(&watcher.below) {
                watcher.queue.push(ino, event, wakeups);
            }
        }
    }

    pub fn written(&mut self, tree: &Tree, ino: Ino, range: Range<u64>, wakeups: &mut Wakeups) {
        self.followers.rewritten(ino, range.clone(), wakeups);
        self.count_written(tree, ino);
        self.tell(tree, ino, wakeups, |path| Event::Written { path, range });
    }

    pub fn resized(&mut self, tree: &Tree, ino: Ino, size: u64, wakeups: &mut Wakeups) {
        self.followers.rewritten(ino, size..u64::MAX, wakeups);
        self.count_written(tree, ino);
        self.tell(tree, ino, wakeups, |path| Event::Truncated { path, size });
    }

    /// A name appeared: the first of an inode, or another one.
    pub fn named(
        &mut self,
        tree: &Tree,
        ino: Ino,
        (parent, name): (Ino, &[u8]),
        kind: Kind,
        wakeups: &mut Wakeups,
    ) {
        // The kernel knows a hard link's inode by the old name, and opens it without asking again.
        if !self.names.knows(ino) {
            self.names.note(ino, parent, name);
        }
        self.followers.names_changed(wakeups);
        self.count(|log, names| log.named(ino, names.below(tree, parent, name)));
        if !self.watchers.is_empty() {
            let path = self.names.below(tree, parent, name);
            self.send(ino, &Event::Created { path, kind }, wakeups);
        }
    }

    /// A name is gone.
    pub fn unnamed(
        &mut self,
        tree: &Tree,
        ino: Ino,
        entry: (Ino, &[u8]),
        orphaned: bool,
        wakeups: &mut Wakeups,
    ) {
        self.count(|log, names| log.unnamed(ino, names.below(tree, entry.0, entry.1), orphaned));
        if !self.watchers.is_empty() {
            let path = self.names.below(tree, entry.0, entry.1);
            self.send(ino, &Event::Removed { path }, wakeups);
        }
        self.names.lost(tree, ino, entry, orphaned);
    }

    /// A name is another now.
    pub fn renamed(
        &mut self,
        tree: &Tree,
        (ino, kind): (Ino, Kind),
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        wakeups: &mut Wakeups,
    ) {
        self.names.note(ino, to.0, to.1);
        if kind == Kind::Directory {
            self.names.directory_moved();
        }
        self.followers.names_changed(wakeups);
        if !self.watchers.is_empty() {
            let from = self.names.below(tree, from.0, from.1);
            let to = self.names.path(tree, ino);
            self.send(ino, &Event::Renamed { from, to }, wakeups);
        }
    }

    fn opened(&mut self, tree: &Tree, open: Open, wakeups: &mut Wakeups) -> Handle {
        let Open { ino, by, writable } = open;
        if writable {
            *self.writers.entry(ino).or_default() += 1;
            self.followers.names_changed(wakeups);
        } else {
            self.count(|log, names| log.read(ino, || names.path(tree, ino)));
        }
        self.last_handle += 1;
        let handle = Handle(self.last_handle);
        self.open.insert(handle, open);
        let by = by.id();
        self.tell(tree, ino, wakeups, |path| Event::Opened {
            path,
            by,
            writable,
        });
        handle
    }

    fn closed(&mut self, tree: &Tree, handle: Handle, wakeups: &mut Wakeups) {
        let Some(Open { ino, by, writable }) = self.open.remove(&handle) else {
            return;
        };
        if writable {
            if let Some(writers) = self.writers.get_mut(&ino) {
                *writers = writers.saturating_sub(1);
            }
            self.followers.changed(ino, wakeups);
        }
        let by = by.id();
        self.tell(tree, ino, wakeups, |path| Event::Closed {
            path,
            by,
            writable,
        });
    }

    /// Counts the moving of a name, before anything else is told of it.
    pub fn count_rename(
        &mut self,
        tree: &Tree,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        (was_there, mode): (bool, RenameMode),
    ) {
        self.count(|log, names| {
            let from = names.below(tree, from.0, from.1);
            let to = names.below(tree, to.0, to.1);
            match mode {
                RenameMode::Exchange => log.exchanged(&from, &to),
                _ => log.renamed(&from, &to, was_there),
            }
        });
    }

    /// How many openings can write, if one ever could.
    pub fn writers(&self, ino: Ino) -> Option<u32> {
        self.writers.get(&ino).copied()
    }

    /// Our own API wrote the file without opening it, and is done.
    fn wrote(&mut self, ino: Ino, wakeups: &mut Wakeups) {
        self.writers.entry(ino).or_default();
        self.followers.names_changed(wakeups);
    }

    /// This inode is not referred to any more; it may still have names.
    pub fn forget(&mut self, ino: Ino, tree: &Tree) {
        self.names.forget(ino);
        if tree.attr(ino).is_err() {
            self.writers.remove(&ino);
        }
    }

    /// What is closed although the kernel did not come to say so: with the mount goes its word of the last closes.
    pub fn closed_by_the_end(&self) -> Vec<Handle> {
        let by_process = |open: &Open| matches!(open.by, Opener::Process(_));
        let mut handles: Vec<_> = match self.unused {
            true => self
                .open
                .iter()
                .filter(|(_, open)| by_process(open))
                .collect(),
            // A process that still had it open was cut off.
            false => Vec::new(),
        };
        handles.sort_by_key(|(handle, _)| handle.0);
        handles.into_iter().map(|(handle, _)| *handle).collect()
    }

    pub fn end(&mut self, wakeups: &mut Wakeups) {
        self.ended = true;
        self.watchers.drain(..).for_each(|it| it.queue.end(wakeups));
        self.followers.wake_all(wakeups);
    }
}

impl Locked<'_> {
    /// Notes that a file was opened, and refers to it as long as it is open.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when there is no such inode; [`StoreError::NotSupported`] where opens are
    /// not seen.
    pub fn open(&mut self, ino: Ino, by: Opener, writable: bool) -> Result<Handle, StoreError> {
        self.state.tree.attr(ino)?;
        let Self { state, wakeups, .. } = self;
        let State {
            tree,
            references,
            observed,
            ..
        } = &mut **state;
        let observed = observed.as_mut().ok_or(StoreError::NotSupported)?;
        references.take(ino);
        Ok(observed.opened(tree, Open { ino, by, writable }, wakeups))
    }

    /// Notes that what was opened is closed. No-op for what is closed already.
    pub fn close(&mut self, handle: Handle) {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        let Some(observed) = observed else {
            return;
        };
        let ino = observed.open.get(&handle).map(|open| open.ino);
        observed.closed(tree, handle, wakeups);
        if let Some(ino) = ino {
            self.give_back_references(ino, 1);
        }
    }

    /// Says whether the mount is about to be taken down with no process in it. What processes had open then counts as
    /// closed when the mount is gone, whether the kernel came to say so or not.
    pub fn set_unused(&mut self, unused: bool) {
        if let Some(observed) = &mut self.state.observed {
            observed.unused = unused;
        }
    }

    /// Whether opens and closes are seen.
    pub fn is_observed(&self) -> bool {
        self.state.observed.is_some()
    }

    /// Notes by which name an inode without references was reached, so that events can tell it.
    pub fn note_name(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        if let Some(observed) = &mut self.state.observed {
            observed.names.note(ino, parent, name);
        }
    }

    /// Notes that the file's content was written without opening it, and is complete.
    pub fn note_written(&mut self, ino: Ino) {
        let Self { state, wakeups, .. } = self;
        if let Some(observed) = &mut state.observed {
            observed.wrote(ino, wakeups);
        }
    }

    /// Which files were touched since the last call; the first one begins to count.
    ///
    /// # Errors
    ///
    /// [`NotObserved`].
    pub fn take_touched(&mut self) -> Result<Touched, NotObserved> {
        let observed = self.state.observed.as_mut().ok_or(NotObserved)?;
        let log = observed.log.replace(TouchedLog::default());
        Ok(log.map(TouchedLog::finish).unwrap_or_default())
    }

    /// From now on, tells what happens at or below a path. `waker` is called when there is something to
    /// take after there was nothing, and at the end.
    ///
    /// # Errors
    ///
    /// [`NotObserved`].
    pub fn watch(&mut self, below: TreePath, waker: Waker) -> Result<Arc<Queue>, NotObserved> {
        let Self { state, wakeups, .. } = self;
        let observed = state.observed.as_mut().ok_or(NotObserved)?;
        let queue = Queue::new(waker);
        if observed.ended {
            queue.end(wakeups);
        } else {
            let queue = Arc::clone(&queue);
            observed.watchers.push(Watcher { below, queue });
        }
        Ok(queue)
    }

    /// Tells it no more.
    pub fn unwatch(&mut self, queue: &Arc<Queue>) {
        if let Some(observed) = &mut self.state.observed {
            observed
                .watchers
                .retain(|watcher| !Arc::ptr_eq(&watcher.queue, queue));
        }
    }
}
