//! Which files were touched since a moment: for telling what a step of a job did, without an event for each request.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::store::{Ino, Moved, TreePath};

/// The files that were touched between two moments, each list sorted; see
/// [`Scratch::take_touched`](crate::Scratch::take_touched).
///
/// Paths are those at the end, or the last ones of files that are gone. What was made and is gone again is in none of
/// the lists. A directory that was renamed is one name that is gone and one that is new, whatever lies below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Opened for reading alone. Programs that were executed from the mount are among them; what was only looked at
    /// (stat(2), readdir(3), readlink(2)), or opened for both and not written, is not.
    pub read: Vec<Arc<TreePath>>,
    /// There before, and its content written, cut or replaced, also by a rename over it.
    pub written: Vec<Arc<TreePath>>,
    /// Names that are new: of files, directories, symlinks and others.
    pub created: Vec<Arc<TreePath>>,
    /// Names that are gone.
    pub deleted: Vec<Arc<TreePath>>,
}

impl Touched {
    /// Takes out a directory with all that is in it.
    pub(crate) fn leave_out(&mut self, directory: &TreePath) {
        let Self {
            read,
            written,
            created,
            deleted,
        } = self;
        for list in [read, written, created, deleted] {
            list.retain(|path| !path.starts_with(directory));
        }
    }
}

/// What has become of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameChange {
    Created,
    Deleted,
    /// Deleted, and there again.
    Replaced,
}

/// What [`Touched`] is made from: no larger than the number of files.
#[derive(Debug, Default)]
pub(super) struct TouchedLog {
    read: HashMap<Ino, Arc<TreePath>>,
    written: HashMap<Ino, Arc<TreePath>>,
    changes: HashMap<Arc<TreePath>, NameChange>,
    /// Inodes that got their name since the beginning.
    new: HashSet<Ino>,
}

impl TouchedLog {
    pub fn read(&mut self, ino: Ino, path: impl FnOnce() -> Arc<TreePath>) {
        self.read.entry(ino).or_insert_with(path);
    }

    pub fn written(&mut self, ino: Ino, path: impl FnOnce() -> Arc<TreePath>) {
        self.written.entry(ino).or_insert_with(path);
    }

    /// A name appeared.
    pub fn named(&mut self, ino: Ino, path: Arc<TreePath>) {
        self.new.insert(ino);
        self.appear(path);
    }

    /// A name is gone; the last one of an orphan.
    pub fn unnamed(&mut self, ino: Ino, path: Arc<TreePath>, orphaned: bool) {
        if orphaned {
            self.written.remove(&ino);
            if self.new.remove(&ino) {
                self.read.remove(&ino);
            }
        }
        self.vanish(path);
    }

    /// A name is another now, which may have been there.
    pub fn renamed(&mut self, from: &Arc<TreePath>, to: &Arc<TreePath>, was_there: bool) {
        if was_there {
            self.vanish(Arc::clone(to));
        }
        self.move_below(from, to);
        self.vanish(Arc::clone(from));
        self.appear(Arc::clone(to));
    }

    /// Two names have changed places.
    pub fn exchanged(&mut self, one: &Arc<TreePath>, other: &Arc<TreePath>) {
        for path in [one, other] {
            self.changes
                .entry(Arc::clone(path))
                .or_insert(NameChange::Replaced);
        }
    }

    pub fn finish(self) -> Touched {
        let with = |change: NameChange| {
            let names = self.changes.iter().filter(move |(_, its)| **its == change);
            names.map(|(path, _)| Arc::clone(path))
        };
        let is_new = |path: &Arc<TreePath>| self.changes.get(path) == Some(&NameChange::Created);
        let written = self.written.values().filter(|path| !is_new(path));
        Touched {
            read: sorted(self.read.values().cloned()),
            written: sorted(written.cloned().chain(with(NameChange::Replaced))),
            created: sorted(with(NameChange::Created)),
            deleted: sorted(with(NameChange::Deleted)),
        }
    }

    fn appear(&mut self, path: Arc<TreePath>) {
        let change = self.changes.entry(path).or_insert(NameChange::Created);
        if *change == NameChange::Deleted {
            *change = NameChange::Replaced;
        }
    }

    fn vanish(&mut self, path: Arc<TreePath>) {
        if self.changes.get(&path) == Some(&NameChange::Created) {
            self.changes.remove(&path);
        } else {
            self.changes.insert(path, NameChange::Deleted);
        }
    }

    /// Whatever stood at `from` or below it stands at `to` now.
    fn move_below(&mut self, from: &TreePath, to: &TreePath) {
        let mut places = Moved::new(from.clone(), to.clone());
        let mut moved = |path: &TreePath| places.path(path).map(Arc::new);
        for path in self.read.values_mut().chain(self.written.values_mut()) {
            if let Some(new) = moved(path) {
                *path = new;
            }
        }
        let below: Vec<_> = self
            .changes
            .keys()
            .filter(|path| ***path != *from && path.starts_with(from))
            .cloned()
            .collect();
        for path in below {
            if let (Some(change), Some(new)) = (self.changes.remove(&path), moved(&path)) {
                self.changes.insert(new, change);
            }
        }
    }
}

fn sorted(paths: impl Iterator<Item = Arc<TreePath>>) -> Vec<Arc<TreePath>> {
    paths.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ino = Ino(2);
    const B: Ino = Ino(3);

    fn path(text: &str) -> Arc<TreePath> {
        Arc::new(TreePath::parse(text).unwrap())
    }

    fn words(paths: &[Arc<TreePath>]) -> Vec<String> {
        paths.iter().map(|path| path.to_string()).collect()
    }

    /// Read, written, created, deleted.
    fn told(log: TouchedLog) -> [Vec<String>; 4] {
        let touched = log.finish();
        [
            words(&touched.read),
            words(&touched.written),
            words(&touched.created),
            words(&touched.deleted),
        ]
    }

    fn expect(log: TouchedLog, lists: [&[&str]; 4]) {
        assert_eq!(told(log), lists.map(|list| list.to_vec()));
    }

    #[test]
    fn a_temporary_file_is_not_told() {
        let mut log = TouchedLog::default();
        log.named(A, path("t"));
        log.written(A, || path("t"));
        log.read(A, || path("t"));
        log.unnamed(A, path("t"), true);
        expect(log, [&[], &[], &[], &[]]);
    }

    #[test]
    fn a_file_that_is_written_beside_and_renamed_over_is_written() {
        let mut log = TouchedLog::default();
        log.named(A, path("t"));
        log.written(A, || path("t"));
        log.renamed(&path("t"), &path("old"), true);
        expect(log, [&[], &["old"], &[], &[]]);

        let mut log = TouchedLog::default();
        log.named(A, path("t"));
        log.written(A, || path("t"));
        log.renamed(&path("t"), &path("new"), false);
        expect(log, [&[], &[], &["new"], &[]]);
    }

    #[test]
    fn a_name_that_comes_back_is_written() {
        let mut log = TouchedLog::default();
        log.unnamed(A, path("a"), true);
        log.named(B, path("a"));
        expect(log, [&[], &["a"], &[], &[]]);
    }

    #[test]
    fn what_lies_below_a_renamed_directory_moves_with_it() {
        let mut log = TouchedLog::default();
        log.named(A, path("d/new"));
        log.read(B, || path("d/e/old"));
        log.renamed(&path("d"), &path("f"), false);
        expect(log, [&["f/e/old"], &[], &["f", "f/new"], &["d"]]);
    }

    #[test]
    fn exchanged_names_are_written() {
        let mut log = TouchedLog::default();
        log.exchanged(&path("a"), &path("b"));
        expect(log, [&[], &["a", "b"], &[], &[]]);
    }
}
