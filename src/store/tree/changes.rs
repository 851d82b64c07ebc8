//! What differs from an earlier fork.

use std::collections::{BTreeMap, HashMap};

use super::Tree;
use crate::store::directory::Cookie;
use crate::store::inode::{Body, Ino, Kind};
use crate::store::name::Name;
use crate::store::path::TreePath;

impl Tree {
    /// All that is new in this tree or changed, and where; `before` is a fork of it, taken earlier.
    ///
    /// New are names that led nowhere before or elsewhere, a new directory with all that is in it; changed is
    /// what is no directory and has another ctime, which no tool can set back, under all of its names. In
    /// order of the paths.
    ///
    /// Forks share what neither changed, and that is not looked at: the cost is that of the changes. Only the
    /// names of files that were changed in place have to be searched for among all names, since an inode does
    /// not know its own.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let before = tree.fork();
    /// let new = NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
    /// let file = tree.create(Ino::ROOT, Name::new(b"new")?, new, now)?.ino;
    /// let changed = tree.changed_since(&before);
    /// assert_eq!((changed[0].0.to_string().as_str(), changed[0].1), ("new", file));
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn changed_since(&self, before: &Self) -> Vec<(TreePath, Ino)> {
        let mut found = BTreeMap::new();
        let mut paths = HashMap::from([(Ino::ROOT, TreePath::root())]);
        let mut in_place: HashMap<Ino, u32> = HashMap::new();
        for ino in self.inodes.differences(&before.inodes) {
            // What is gone is not told; what was not there has a new name, which its directory tells.
            let (Ok(now), Ok(then)) = (self.inodes.get(ino), before.inodes.get(ino)) else {
                continue;
            };
            match (&now.body, &then.body) {
                (Body::Directory(now), Body::Directory(then)) => {
                    let Some(path) = self.path_of(ino, &mut paths) else {
                        continue;
                    };
                    for (name, target) in now.changed_since(then, &self.hasher) {
                        self.add_all((path.join(name.clone()), target.ino), &mut found);
                    }
                }
                (Body::Directory(_), _) => {}
                _ if now.ctime != then.ctime && now.nlink > 0 => {
                    in_place.insert(ino, now.nlink);
                }
                _ => {}
            }
        }
        self.find_names(in_place, &mut found);
        found.into_iter().collect()
    }

    /// Something with all that is in it.
    fn add_all(&self, top: (TreePath, Ino), found: &mut BTreeMap<TreePath, Ino>) {
        let mut pending = vec![top];
        while let Some((path, ino)) = pending.pop() {
            if let Ok(entries) = self.entries(ino, Cookie::default()) {
                pending.extend(entries.map(|entry| (path.join(entry.name.clone()), entry.ino)));
            }
            found.insert(path, ino);
        }
    }

    /// Adds these inodes under all of their names, of which each has so many.
    fn find_names(&self, mut sought: HashMap<Ino, u32>, found: &mut BTreeMap<TreePath, Ino>) {
        let mut pending = vec![(TreePath::root(), Ino::ROOT)];
        while let Some((path, directory)) = pending.pop().filter(|_| !sought.is_empty()) {
            for entry in self
                .entries(directory, Cookie::default())
                .into_iter()
                .flatten()
            {
                if entry.kind == Kind::Directory {
                    pending.push((path.join(entry.name.clone()), entry.ino));
                } else if let Some(names) = sought.get_mut(&entry.ino) {
                    *names -= 1;
                    if *names == 0 {
                        sought.remove(&entry.ino);
                    }
                    found.insert(path.join(entry.name.clone()), entry.ino);
                }
            }
        }
    }

    /// Where a directory stands; none for one that was removed.
    fn path_of(&self, ino: Ino, known: &mut HashMap<Ino, TreePath>) -> Option<TreePath> {
        let mut names: Vec<Name> = Vec::new();
        let mut at = ino;
        let mut path = loop {
            if let Some(path) = known.get(&at) {
                break path.clone();
            }
            let parent = self.parent(at).ok()?;
            let mut entries = self.entries(parent, Cookie::default()).ok()?;
            let entry = entries.find(|entry| entry.ino == at)?;
            names.push(entry.name.clone());
            at = parent;
        };
        for name in names.into_iter().rev() {
            path = path.join(name);
        }
        known.insert(ino, path.clone());
        Some(path)
    }
}
