//! Which files were touched since a moment: for telling what a step of a job did, without a word for each of its
//! wakeups.

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

/// The book from which [`Touched`] is made: no larger than the number of files.
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
    fn renamed(&mut self, from: &Arc<TreePath>, to: &Arc<TreePath>, was_there: bool) {
        if was_there {
            self.vanish(Arc::clone(to));
        }
        self.move_below(from, to);
        self.vanish(Arc::clone(from));
        self.appear(Arc::clone(to));
    }

    /// The same by somebody else: what this one made or wrote there is now found elsewhere.
    fn renamed_by_others(&mut self, from: &Arc<TreePath>, to: &Arc<TreePath>) {
        self.move_below(from, to);
        let its = self.changes.get(from).copied();
        if let Some(change) = its.filter(|change| *change != NameChange::Deleted) {
            self.changes.remove(from);
            let there = self.changes.insert(Arc::clone(to), change);
            if there == Some(NameChange::Deleted) {
                self.changes.insert(Arc::clone(to), NameChange::Replaced);
            }
        }
    }

    /// Two names have changed places.
    fn exchanged(&mut self, one: &Arc<TreePath>, other: &Arc<TreePath>) {
        for path in [one, other] {
            self.changes
                .entry(Arc::clone(path))
                .or_insert(NameChange::Replaced);
        }
    }

    fn finish(self) -> Touched {
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

/// A book for each of several parties.
#[derive(Debug)]
pub(super) struct TouchedLogs {
    each: Vec<TouchedLog>,
    /// Who opened a file for writing, in case that its pages are written back by nobody in particular. Kept for several
    /// parties only.
    writers: HashMap<Ino, BTreeSet<usize>>,
}

impl TouchedLogs {
    pub fn new(parties: usize) -> Self {
        Self {
            each: std::iter::repeat_with(TouchedLog::default)
                .take(parties)
                .collect(),
            writers: HashMap::new(),
        }
    }

    /// That of a party, or of all when it is not known.
    pub fn of(&mut self, party: Option<usize>) -> impl Iterator<Item = &mut TouchedLog> {
        let its = move |index: &usize| party.is_none_or(|party| party == *index);
        let each = self.each.iter_mut().enumerate();
        each.filter_map(move |(index, log)| its(&index).then_some(log))
    }

    /// The same for a change of a file's content: when the party is not known, it is one that opened the file.
    pub fn of_writer(
        &mut self,
        party: Option<usize>,
        ino: Ino,
    ) -> impl Iterator<Item = &mut TouchedLog> {
        let Self { each, writers } = self;
        let known = party.map(|party| BTreeSet::from([party]));
        let known = known.or_else(|| writers.get(&ino).cloned());
        let its = move |index: &usize| known.as_ref().is_none_or(|known| known.contains(index));
        let each = each.iter_mut().enumerate();
        each.filter_map(move |(index, log)| its(&index).then_some(log))
    }

    pub fn note_writer(&mut self, party: Option<usize>, ino: Ino) {
        if let Some(party) = party {
            self.writers.entry(ino).or_default().insert(party);
        }
    }

    pub fn renamed(
        &mut self,
        party: Option<usize>,
        from: &Arc<TreePath>,
        to: &Arc<TreePath>,
        was_there: bool,
    ) {
        for (index, log) in self.each.iter_mut().enumerate() {
            match party {
                Some(party) if party != index => log.renamed_by_others(from, to),
                _ => log.renamed(from, to, was_there),
            }
        }
    }

    pub fn exchanged(&mut self, party: Option<usize>, one: &Arc<TreePath>, other: &Arc<TreePath>) {
        self.of(party).for_each(|log| log.exchanged(one, other));
    }

    /// What each of them touched.
    pub fn finish(self) -> Vec<Touched> {
        self.each.into_iter().map(TouchedLog::finish).collect()
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

    #[test]
    fn what_one_made_and_another_renamed_is_both_theirs() {
        let mut logs = TouchedLogs::new(3);
        for log in logs.of(Some(0)) {
            log.named(A, path("t"));
            log.written(A, || path("t"));
        }
        logs.renamed(Some(1), &path("t"), &path("new"), false);
        let [one, other, third] = logs.finish().try_into().unwrap();
        assert_eq!(words(&one.created), ["new"]);
        assert_eq!(words(&one.written), [""; 0]);
        assert_eq!(words(&other.created), ["new"]);
        assert_eq!(words(&other.deleted), ["t"]);
        assert_eq!(third, Touched::default());
    }

    #[test]
    fn pages_that_nobody_writes_back_are_those_of_who_opened_the_file() {
        let mut logs = TouchedLogs::new(3);
        logs.note_writer(Some(1), A);
        for ino in [A, B] {
            let name = if ino == A { "a" } else { "b" };
            for log in logs.of_writer(None, ino) {
                log.written(ino, || path(name));
            }
        }
        let written: Vec<_> = logs.finish().iter().map(|it| words(&it.written)).collect();
        assert_eq!(written, [vec!["b"], vec!["a", "b"], vec!["b"]]);
    }
}
