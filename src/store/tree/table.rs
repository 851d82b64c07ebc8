//! The inode table.

use std::sync::Arc;

use crate::store::error::StoreError;
use crate::store::inode::{Ino, Inode};
use crate::store::trie::Trie;

/// All inodes by number. Cloning it shares them; a change copies the inode and the way to it.
#[derive(Clone, Default)]
pub(super) struct Table(Trie<Arc<Inode>>);

impl Table {
    pub fn get(&self, ino: Ino) -> Result<&Inode, StoreError> {
        self.0
            .get(ino.0)
            .map(|inode| &**inode)
            .ok_or(StoreError::NotFound)
    }

    pub fn get_mut(&mut self, ino: Ino) -> Result<&mut Inode, StoreError> {
        self.0
            .get_mut(ino.0)
            .map(Arc::make_mut)
            .ok_or(StoreError::NotFound)
    }

    /// The numbers of the inodes that the two do not share.
    pub fn differences(&self, other: &Self) -> impl Iterator<Item = Ino> {
        self.0
            .differences(&other.0, Arc::ptr_eq)
            .into_iter()
            .map(Ino)
    }

    pub fn insert(&mut self, ino: Ino, inode: Inode) {
        self.0.insert(ino.0, Arc::new(inode));
    }

    pub fn remove(&mut self, ino: Ino) -> Option<Arc<Inode>> {
        self.0.remove(ino.0)
    }
}
