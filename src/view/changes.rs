//! The changes of a mounted tree: as the [`Tree`](crate::store::Tree) makes them, and told to whoever wants to know.
//!
//! Each has its namesake in the tree, where its meaning and its errors are described; on top comes
//! [`StoreError::NotMade`] where content is needed that is still to be made.

use std::ops::Range;

use super::{Locked, State};
use crate::store::{
    AllocateMode, Attr, Ino, Kind, Limits, Name, NewInode, RenameMode, SetAttr, StoreError,
    Timestamp, Unlinked,
};

type Result<T> = std::result::Result<T, StoreError>;

impl Locked<'_> {
    /// Makes an inode and its name.
    ///
    /// # Errors
    ///
    /// As [`Tree::create`](crate::store::Tree::create).
    pub fn create(
        &mut self,
        parent: Ino,
        name: Name,
        new: NewInode,
        now: Timestamp,
    ) -> Result<Attr> {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        let Some(observed) = observed else {
            return tree.create(parent, name, new, now);
        };
        let attr = tree.create(parent, name.clone(), new, now)?;
        observed.named(
            tree,
            attr.ino,
            (parent, name.as_bytes()),
            attr.kind,
            wakeups,
        );
        Ok(attr)
    }

    /// Gives an inode another name. Of a file that is still to be made, the size and blocks that this returns are
    /// not the real ones; the kernel only asks for it when they are known or announced.
    ///
    /// # Errors
    ///
    /// As [`Tree::link`](crate::store::Tree::link).
    pub fn link(&mut self, ino: Ino, parent: Ino, name: Name, now: Timestamp) -> Result<Attr> {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        if let Some(observed) = observed {
            let attr = tree.link(ino, parent, name.clone(), now)?;
            observed.named(tree, ino, (parent, name.as_bytes()), attr.kind, wakeups);
            Ok(attr)
        } else {
            tree.link(ino, parent, name, now)
        }
    }

    /// Removes a name of anything but a directory, and the inode if nobody refers to it.
    ///
    /// # Errors
    ///
    /// As [`Tree::unlink`](crate::store::Tree::unlink).
    pub fn unlink(&mut self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        let unlinked = self.state.tree.unlink(parent, name, now)?;
        self.name_lost(unlinked, (parent, name));
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As [`Tree::rmdir`](crate::store::Tree::rmdir).
    pub fn rmdir(&mut self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        let unlinked = self.state.tree.rmdir(parent, name, now)?;
        self.name_lost(unlinked, (parent, name));
        Ok(())
    }

    fn name_lost(&mut self, unlinked: Unlinked, place: (Ino, &[u8])) {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        if let Some(observed) = observed {
            observed.unnamed(tree, unlinked.ino, place, unlinked.orphaned, wakeups);
        }
        self.dispose(unlinked);
    }

    /// Moves a name.
    ///
    /// # Errors
    ///
    /// As [`Tree::rename`](crate::store::Tree::rename).
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
        if there != Some(moved) {
            let to = (to.0, to.1.as_bytes());
            let State { tree, observed, .. } = &mut *self.state;
            if let Some(observed) = observed {
                observed.count_rename(tree, from, to, (there.is_some(), mode));
            }
            self.name_moved(moved, from, to);
            if let (RenameMode::Exchange, Some(there)) = (mode, there) {
                self.name_moved(there, to, from);
            }
            if let Some(replaced) = replaced {
                self.name_replaced(replaced, to);
            }
            if matches!(mode, RenameMode::Whiteout { .. }) {
                self.whiteout_left(from);
            }
        }
        Ok(())
    }

    fn whiteout_left(&mut self, place: (Ino, &[u8])) {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        if let Some(observed) = observed
            && let Ok(ino) = tree.lookup(place.0, place.1)
        {
            observed.named(tree, ino, place, Kind::CharDevice, wakeups);
        }
    }

    fn name_moved(&mut self, ino: Ino, from: (Ino, &[u8]), to: (Ino, &[u8])) {
        let Self { state, wakeups, .. } = self;
        let State { tree, observed, .. } = &mut **state;
        if let Some(observed) = observed
            && let Ok(attr) = tree.attr(ino)
        {
            observed.renamed(tree, (ino, attr.kind), from, to, wakeups);
        }
    }

    fn name_replaced(&mut self, unlinked: Unlinked, place: (Ino, &[u8])) {
        let State { tree, observed, .. } = &mut *self.state;
        if let Some(observed) = observed {
            let names = &mut observed.names;
            names.lost(tree, unlinked.ino, place, unlinked.orphaned);
        }
        self.dispose(unlinked);
    }

    /// Writes; returns how many bytes fit.
    ///
    /// # Errors
    ///
    /// As [`Tree::write`](crate::store::Tree::write).
    pub fn write(&mut self, ino: Ino, offset: u64, data: &[u8], now: Timestamp) -> Result<usize> {
        let Self { state, wakeups, .. } = self;
        let State {
            tree,
            observed,
            lazy,
            ..
        } = &mut **state;
        lazy.check(ino)?;
        let written = tree.write(ino, offset, data, now)?;
        if let Some(observed) = observed
            && written > 0
        {
            observed.written(tree, ino, offset..offset + written as u64, wakeups);
        }
        Ok(written)
    }

    /// Allocates, zeros or frees a range.
    ///
    /// # Errors
    ///
    /// As [`Tree::allocate`](crate::store::Tree::allocate).
    pub fn allocate(
        &mut self,
        ino: Ino,
        range: Range<u64>,
        mode: AllocateMode,
        now: Timestamp,
    ) -> Result<()> {
        let Self { state, wakeups, .. } = self;
        let State {
            tree,
            observed,
            lazy,
            ..
        } = &mut **state;
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

    /// Copies within the tree; returns bytes copied.
    ///
    /// # Errors
    ///
    /// As [`Tree::copy_range`](crate::store::Tree::copy_range).
    pub fn copy_range(
        &mut self,
        from: (Ino, u64),
        to: (Ino, u64),
        len: u64,
        now: Timestamp,
    ) -> Result<u64> {
        let Self { state, wakeups, .. } = self;
        let State {
            tree,
            observed,
            lazy,
            ..
        } = &mut **state;
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

    /// Changes attributes.
    ///
    /// # Errors
    ///
    /// As [`Tree::set_attr`](crate::store::Tree::set_attr).
    pub fn set_attr(&mut self, ino: Ino, change: &SetAttr, now: Timestamp) -> Result<Attr> {
        let Self { state, wakeups, .. } = self;
        let State {
            tree,
            observed,
            lazy,
            ..
        } = &mut **state;
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

    /// Sets an extended attribute.
    ///
    /// # Errors
    ///
    /// As [`Tree::set_xattr`](crate::store::Tree::set_xattr).
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

    /// Removes an extended attribute.
    ///
    /// # Errors
    ///
    /// As [`Tree::remove_xattr`](crate::store::Tree::remove_xattr).
    pub fn remove_xattr(&mut self, ino: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        self.state.tree.remove_xattr(ino, name, now)
    }

    /// New limits.
    pub fn set_limits(&mut self, limits: Limits) {
        self.state.tree.set_limits(limits);
    }
}
