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
    /// what is no directory and was changed, as its ctime tells, under all of its names. In order of the paths.
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
        let mut paths = Paths::new(self);
        let mut in_place: HashMap<Ino, u32> = HashMap::new();
        for ino in self.inodes.differences(&before.inodes) {
            // What is gone is not told; what was not there has a new name, which its directory tells.
            let (Ok(now), Ok(then)) = (self.inodes.get(ino), before.inodes.get(ino)) else {
                continue;
            };
            match (&now.body, &then.body) {
                (Body::Directory(now), Body::Directory(then)) => {
                    let Some(path) = paths.of(ino) else {
                        continue;
                    };
                    for (name, target) in now.changed_since(then, &self.hasher) {
                        self.add_all((path.join(name.clone()), target.ino), &mut found);
                    }
                }
                (Body::Directory(_), _) => {}
                _ if now.changes != then.changes && now.nlink > 0 => {
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
}

/// Where directories stand. Each that holds one of them is looked through once.
struct Paths<'t> {
    tree: &'t Tree,
    known: HashMap<Ino, TreePath>,
    names: HashMap<Ino, Name>,
}

impl<'t> Paths<'t> {
    fn new(tree: &'t Tree) -> Self {
        Self {
            tree,
            known: HashMap::from([(Ino::ROOT, TreePath::root())]),
            names: HashMap::new(),
        }
    }

    /// The path of a directory; none for one that was removed.
    fn of(&mut self, directory: Ino) -> Option<TreePath> {
        let mut below = Vec::new();
        let mut at = directory;
        let mut path = loop {
            if let Some(path) = self.known.get(&at) {
                break path.clone();
            }
            let parent = self.tree.parent(at).ok()?;
            below.push((at, self.name(at, parent)?));
            at = parent;
        };
        for (ino, name) in below.into_iter().rev() {
            path = path.join(name);
            self.known.insert(ino, path.clone());
        }
        Some(path)
    }

    fn name(&mut self, directory: Ino, parent: Ino) -> Option<Name> {
        if !self.names.contains_key(&directory) {
            let entries = self.tree.entries(parent, Cookie::default()).ok()?;
            let directories = entries.filter(|entry| entry.kind == Kind::Directory);
            let names = directories.map(|entry| (entry.ino, entry.name.clone()));
            self.names.extend(names);
        }
        self.names.get(&directory).cloned()
    }
}
