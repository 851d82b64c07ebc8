//! The changes of a mounted tree: the [`Tree`] makes them, and watchers and followers are told.
//!
//! Each method has its namesake in the tree, where its meaning and its errors are described. In addition,
//! [`StoreError::NotMade`] is the error where content is needed that its source has not made yet.

use std::ops::Range;

use super::lazy_files::LazyFiles;
use super::observed::Observed;
use super::wakeups::Wakeups;
use super::{Locked, State};
use crate::store::{
    AllocateMode, Attr, Ino, Kind, Limits, Name, NewInode, RenameMode, SetAttr, StoreError,
    Timestamp, Tree, Unlinked,
};

type Result<T> = std::result::Result<T, StoreError>;

/// What a change concerns.
pub(super) struct Parts<'l> {
    pub tree: &'l mut Tree,
    pub lazy: &'l mut LazyFiles,
    pub observed: Option<&'l mut Observed>,
    pub wakeups: &'l mut Wakeups,
}

impl Locked<'_> {
    pub(super) fn parts(&mut self) -> Parts<'_> {
        let State {
            tree,
            lazy,
            observed,
            ..
        } = &mut *self.state;
        Parts {
            tree,
            lazy,
            observed: observed.as_deref_mut(),
            wakeups: &mut self.wakeups,
        }
    }

    pub fn create(
        &mut self,
        parent: Ino,
        name: Name,
        new: NewInode,
        now: Timestamp,
    ) -> Result<Attr> {
        let Parts {
            tree,
            observed,
            wakeups,
            ..
        } = self.parts();
        let Some(observed) = observed else {
            return tree.create(parent, name, new, now);
        };
        let attr = tree.create(parent, name.clone(), new, now)?;
        let entry = (parent, name.as_bytes());
        observed.named(tree, attr.ino, entry, attr.kind, wakeups);
        Ok(attr)
    }

    /// Of a file that its source has not made yet, the size and blocks that this returns are not the real ones; the
    /// kernel only asks for it when they are known or announced.
    pub fn link(&mut self, ino: Ino, parent: Ino, name: Name, now: Timestamp) -> Result<Attr> {
        let Parts {
            tree,
            observed,
            wakeups,
            ..
        } = self.parts();
        let Some(observed) = observed else {
            return tree.link(ino, parent, name, now);
        };
        let attr = tree.link(ino, parent, name.clone(), now)?;
        observed.named(tree, ino, (parent, name.as_bytes()), attr.kind, wakeups);
        Ok(attr)
    }

    /// Frees the inode as well when no reference to it is left.
    pub fn unlink(&mut self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        let unlinked = self.state.tree.unlink(parent, name, now)?;
        self.name_lost(unlinked, (parent, name));
        Ok(())
    }

    pub fn rmdir(&mut self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        let unlinked = self.state.tree.rmdir(parent, name, now)?;
        self.name_lost(unlinked, (parent, name));
        Ok(())
    }

    fn name_lost(&mut self, unlinked: Unlinked, entry: (Ino, &[u8])) {
        let Parts {
            tree,
            observed,
            wakeups,
            ..
        } = self.parts();
        if let Some(observed) = observed {
            observed.unnamed(tree, unlinked.ino, entry, unlinked.orphaned, wakeups);
        }
        self.dispose(unlinked);
    }

    pub fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, Name),
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<()> {
        if self.state.observed.is_none() {
            let replaced = self.state.tree.rename(from, to, mode, now)?;
            replaced.into_iter().for_each(|it| self.dispose(it));
            return Ok(());
        }
        let moved = self.state.tree.lookup(from.0, from.1);
        let there = self.state.tree.lookup(to.0, to.1.as_bytes()).ok();
        let replaced = self.state.tree.rename(from, to.clone(), mode, now)?;
        let moved = moved?;
        // Two names of one inode stay as they are; see rename(2).
        if there == Some(moved) {
            return Ok(());
        }
        let to = (to.0, to.1.as_bytes());
        let Parts {
            tree,
            observed,
            wakeups,
            ..
        } = self.parts();
        if let Some(observed) = observed {
            observed.count_rename(tree, from, to, (there.is_some(), mode));
            let mut tell_moved = |ino, from, to| {
                if let Ok(attr) = tree.attr(ino) {
                    observed.renamed(tree, (ino, attr.kind), from, to, wakeups);
                }
            };
            tell_moved(moved, from, to);
            if let (RenameMode::Exchange, Some(there)) = (mode, there) {
                tell_moved(there, to, from);
            }
            if let Some(Unlinked { ino, orphaned }) = replaced {
                observed.names.lost(tree, ino, to, orphaned);
            }
            if let RenameMode::Whiteout { .. } = mode
                && let Ok(whiteout) = tree.lookup(from.0, from.1)
            {
                observed.named(tree, whiteout, from, Kind::CharDevice, wakeups);
            }
        }
        replaced.into_iter().for_each(|it| self.dispose(it));
        Ok(())
    }

    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], now: Timestamp) -> Result<usize> {
        let Parts {
            tree,
            lazy,
            observed,
            wakeups,
        } = self.parts();
        lazy.check(ino)?;
        let written = tree.write(ino, offset, data, now)?;
        if let Some(observed) = observed
            && written > 0
        {
            observed.written(tree, ino, offset..offset + written as u64, wakeups);
        }
        Ok(written)
    }

    pub fn allocate(
        &mut self,
        ino: Ino,
        range: Range<u64>,
        mode: AllocateMode,
        now: Timestamp,
    ) -> Result<()> {
        let Parts {
            tree,
            lazy,
            observed,
            wakeups,
        } = self.parts();
        lazy.check(ino)?;
        let Some(observed) = observed else {
            return tree.allocate(ino, range, mode, now);
        };
        let before = tree.attr(ino)?.size;
        tree.allocate(ino, range.clone(), mode, now)?;
        let after = tree.attr(ino)?.size;
        if after != before {
            observed.resized(tree, ino, after, wakeups);
        }
        let changed = range.start..range.end.min(before);
        let keeps_bytes = matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize);
        if !keeps_bytes && !changed.is_empty() {
            observed.written(tree, ino, changed, wakeups);
        }
        Ok(())
    }

    pub fn copy_range(
        &mut self,
        from: (Ino, u64),
        to: (Ino, u64),
        len: u64,
        now: Timestamp,
    ) -> Result<u64> {
        let Parts {
            tree,
            lazy,
            observed,
            wakeups,
        } = self.parts();
        lazy.check(from.0)?;
        lazy.check(to.0)?;
        let copied = tree.copy_range(from, to, len, now)?;
        if let Some(observed) = observed
            && copied > 0
        {
            observed.written(tree, to.0, to.1..to.1 + copied, wakeups);
        }
        Ok(copied)
    }

    pub fn set_attr(&mut self, ino: Ino, change: &SetAttr, now: Timestamp) -> Result<Attr> {
        let Parts {
            tree,
            lazy,
            observed,
            wakeups,
        } = self.parts();
        if change.size.is_some() {
            lazy.check(ino)?;
        }
        let attr = match (change.size, observed) {
            (Some(size), Some(observed)) => {
                let before = tree.attr(ino)?.size;
                let attr = tree.set_attr(ino, change, now)?;
                if before != size {
                    observed.resized(tree, ino, size, wakeups);
                }
                attr
            }
            _ => tree.set_attr(ino, change, now)?,
        };
        match lazy.check(ino) {
            Ok(()) => Ok(attr),
            Err(_) => self.attr(ino),
        }
    }

    pub fn set_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
        now: Timestamp,
    ) -> Result<()> {
        let tree = &mut self.state.tree;
        tree.set_xattr(ino, name, value, create, replace, now)
    }

    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        self.state.tree.remove_xattr(ino, name, now)
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.state.tree.set_limits(limits);
    }
}
