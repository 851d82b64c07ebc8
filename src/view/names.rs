//! By which name an inode was last reached.
//!
//! The tree leads from names to inodes. Events need the way back, and in a mount nearly every inode is
//! reached by a name just before something happens to it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::{Cookie, Ino, Kind, Name, Tree, TreePath};

/// The last known name of each inode that is referred to.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Ino, Known>,
    /// Counts directories that moved: paths kept from before may be wrong.
    moves: u64,
    root: Arc<TreePath>,
}

#[derive(Debug)]
struct Known {
    last: LastName,
    /// The path, and the moves when it was put together.
    path: Option<(u64, Arc<TreePath>)>,
}

#[derive(Debug)]
enum LastName {
    In(Ino, Name),
    /// The last name is gone; this was the path.
    Gone(Arc<TreePath>),
}

impl Names {
    /// Notes that `ino` was reached by this name.
    pub fn note(&mut self, ino: Ino, parent: Ino, name: &[u8]) {
        let same = |known: &Known| matches!(&known.last, LastName::In(dir, its) if *dir == parent && its.as_bytes() == name);
        if self.known.get(&ino).is_some_and(same) {
            return;
        }
        // What was found under a name has a valid one.
        if let Ok(name) = Name::new(name) {
            let last = LastName::In(parent, name);
            self.known.insert(ino, Known { last, path: None });
        }
    }

    /// Whether a name of `ino` is known.
    pub fn knows(&self, ino: Ino) -> bool {
        let known = self.known.get(&ino);
        known.is_some_and(|known| matches!(known.last, LastName::In(..)))
    }

    /// Notes that a directory has another path now, and all below it.
    pub fn directory_moved(&mut self) {
        self.moves += 1;
    }

    /// Notes that `ino` has lost this name, which was its last if it is `orphaned`.
    pub fn lost(&mut self, tree: &Tree, ino: Ino, (parent, name): (Ino, &[u8]), orphaned: bool) {
        if orphaned {
            let last = LastName::Gone(self.below(tree, parent, name));
            self.known.insert(ino, Known { last, path: None });
        } else {
            self.known.remove(&ino);
        }
    }

    /// Forgets an inode that is not referred to any more.
    pub fn forget(&mut self, ino: Ino) {
        self.known.remove(&ino);
    }

    /// The path of a name in a directory.
    pub fn below(&mut self, tree: &Tree, parent: Ino, name: &[u8]) -> Arc<TreePath> {
        let dir = self.path(tree, parent);
        Arc::new(match Name::new(name) {
            Ok(name) => dir.join(name),
            Err(_) => (*dir).clone(),
        })
    }

    /// The path of an inode; without a name, the last one that it had.
    pub fn path(&mut self, tree: &Tree, ino: Ino) -> Arc<TreePath> {
        // Upwards without recursion: directories may be nested deeper than a stack allows.
        let mut below = Vec::new();
        let mut at = ino;
        let mut path = loop {
            if let Some(path) = self.kept(at) {
                break path;
            }
            let Some((parent, name)) = self.last_name(tree, at) else {
                // Not reached by any name, and not found by one: it has none any more.
                break Arc::clone(&self.root);
            };
            below.push((at, name));
            at = parent;
        };
        for (ino, name) in below.into_iter().rev() {
            path = Arc::new(path.join(name));
            if let Some(known) = self.known.get_mut(&ino) {
                known.path = Some((self.moves, Arc::clone(&path)));
            }
        }
        path
    }

    fn kept(&self, ino: Ino) -> Option<Arc<TreePath>> {
        if ino == Ino::ROOT {
            return Some(Arc::clone(&self.root));
        }
        let known = self.known.get(&ino)?;
        match (&known.last, &known.path) {
            (LastName::Gone(path), _) => Some(Arc::clone(path)),
            (_, Some((moves, path))) if *moves == self.moves => Some(Arc::clone(path)),
            _ => None,
        }
    }

    fn last_name(&mut self, tree: &Tree, ino: Ino) -> Option<(Ino, Name)> {
        if let Some(Known {
            last: LastName::In(parent, name),
            ..
        }) = self.known.get(&ino)
        {
            return Some((*parent, name.clone()));
        }
        let (parent, name) = find(tree, ino)?;
        self.note(ino, parent, name.as_bytes());
        Some((parent, name))
    }
}

/// A name of an inode that was not reached by a name. Slow; seldom needed.
fn find(tree: &Tree, ino: Ino) -> Option<(Ino, Name)> {
    if tree.attr(ino).ok()?.kind == Kind::Directory {
        let parent = tree.parent(ino).ok()?;
        let mut entries = tree.entries(parent, Cookie::default()).ok()?;
        let entry = entries.find(|entry| entry.ino == ino)?;
        return Some((parent, entry.name.clone()));
    }
    let path = search(tree, ino)?;
    let (above, name) = path.parent().zip(path.file_name())?;
    Some((tree.resolve(&above).ok()?, name.clone()))
}

/// A path of an inode, found by walking the whole tree.
pub(super) fn search(tree: &Tree, wanted: Ino) -> Option<TreePath> {
    let mut directories = vec![(Ino::ROOT, TreePath::root())];
    while let Some((dir, path)) = directories.pop() {
        for entry in tree.entries(dir, Cookie::default()).ok()? {
            if entry.ino == wanted {
                return Some(path.join(entry.name.clone()));
            }
            if entry.kind == Kind::Directory {
                directories.push((entry.ino, path.join(entry.name.clone())));
            }
        }
    }
    None
}
