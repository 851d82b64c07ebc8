//! Moving names.

use super::names::new_inode;
use super::{Tree, Unlinked};
use crate::store::directory::Target;
use crate::store::error::StoreError;
use crate::store::inode::{Ino, Kind, NewInode, NewKind, Timestamp};
use crate::store::name::Name;

/// What [`Tree::rename`] does when the new name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it, as `rename(2)`.
    Replace,
    /// Refuse with [`StoreError::Exists`], as `RENAME_NOREPLACE`.
    NoReplace,
    /// Exchange the two, which both must exist, as `RENAME_EXCHANGE`.
    Exchange,
    /// Leave a whiteout under the old name, as `RENAME_WHITEOUT`: a character device of number 0 that hides what an
    /// overlay's lower layer has there.
    Whiteout {
        /// Who owns the whiteout.
        owner: (u32, u32),
        /// Whether the new name may be taken, as with `Replace`.
        replace: bool,
    },
}

/// A name in a directory, and what it leads to.
#[derive(Clone, Copy)]
struct EntryAt<'n> {
    dir: Ino,
    name: &'n [u8],
    target: Target,
}

impl Tree {
    /// Moves a name; tells what inode it replaced.
    ///
    /// Nothing happens when both names lead to the same inode. A replaced name keeps its place in
    /// the directory, and so do two that are exchanged. See rename(2); the order in which errors are
    /// found is that of `do_renameat2` in Linux' fs/namei.c.
    ///
    /// # Errors
    ///
    /// `NotFound` (with `Exchange` also for the new name), `Exists` (with `NoReplace`),
    /// `InvalidArgument` when a directory would move below itself, `NotEmpty`, `IsDirectory`,
    /// `NotDirectory`, `TooManyLinks`; with `Whiteout`, `NoSpace`.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, RenameMode, StoreError, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = || NewInode { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0 };
    /// let a = tree.create(Ino::ROOT, Name::new(b"a")?, new(), now)?.ino;
    /// let b = tree.create(Ino::ROOT, Name::new(b"b")?, new(), now)?.ino;
    /// let (from, to) = ((Ino::ROOT, &b"a"[..]), (Ino::ROOT, Name::new(b"b")?));
    /// assert_eq!(tree.rename(from, to.clone(), RenameMode::NoReplace, now), Err(StoreError::Exists));
    /// assert_eq!(tree.rename(from, to, RenameMode::Replace, now)?.unwrap().ino, b);
    /// assert_eq!(tree.lookup(Ino::ROOT, b"b")?, a);
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, Name),
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<Unlinked>, StoreError> {
        let (to_dir, to_name) = to;
        self.live_directory(from.0)?;
        self.live_directory(to_dir)?;
        let from = EntryAt {
            dir: from.0,
            name: from.1,
            target: self.target(from.0, from.1)?,
        };
        let replaced = match self.target(to_dir, to_name.as_bytes()) {
            Err(StoreError::NotFound) => None,
            found => Some(found?),
        };
        match (mode, replaced) {
            (RenameMode::NoReplace | RenameMode::Whiteout { replace: false, .. }, Some(_)) => {
                return Err(StoreError::Exists);
            }
            (RenameMode::Exchange, None) => return Err(StoreError::NotFound),
            _ => {}
        }
        self.check_ancestors(from, to_dir, replaced, mode)?;
        let Some(replaced) = replaced else {
            self.check_room_for_links(to_dir, from.target.kind)?;
            self.charge_whiteout(mode)?;
            self.move_name(from, to_dir, to_name, now)?;
            self.leave_whiteout(from, mode, now)?;
            return Ok(None);
        };
        if replaced.ino == from.target.ino {
            return Ok(None);
        }
        let to = EntryAt {
            dir: to_dir,
            name: to_name.as_bytes(),
            target: replaced,
        };
        if mode == RenameMode::Exchange {
            self.exchange(from, to, now)?;
            return Ok(None);
        }
        self.check_replaceable(from.target, replaced)?;
        self.charge_whiteout(mode)?;
        let replaced = self.replace(from, to, now)?;
        self.leave_whiteout(from, mode, now)?;
        Ok(Some(replaced))
    }

    /// Before anything is changed: a whiteout takes an inode.
    fn charge_whiteout(&mut self, mode: RenameMode) -> Result<(), StoreError> {
        match mode {
            RenameMode::Whiteout { .. } => self.quota.take_inode(),
            _ => Ok(()),
        }
    }

    fn leave_whiteout(
        &mut self,
        from: EntryAt<'_>,
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let RenameMode::Whiteout { owner, .. } = mode else {
            return Ok(());
        };
        let (ino, name) = (self.new_ino(), Name::new(from.name)?);
        let new = NewInode {
            kind: NewKind::CharDevice(0),
            mode: 0,
            uid: owner.0,
            gid: owner.1,
        };
        let whiteout = new_inode(new, from.dir, self.inodes.get(from.dir)?, now)?;
        self.add_name(from.dir, name, whiteout.target(ino), now)?;
        self.inodes.insert(ino, whiteout);
        Ok(())
    }

    /// Refuses what would cut a directory off the tree.
    fn check_ancestors(
        &self,
        from: EntryAt<'_>,
        to_dir: Ino,
        replaced: Option<Target>,
        mode: RenameMode,
    ) -> Result<(), StoreError> {
        if from.dir == to_dir {
            return Ok(());
        }
        if self.is_within(to_dir, from.target)? {
            return Err(StoreError::InvalidArgument);
        }
        match replaced {
            Some(replaced) if self.is_within(from.dir, replaced)? => Err(match mode {
                RenameMode::Exchange => StoreError::InvalidArgument,
                _ => StoreError::NotEmpty,
            }),
            _ => Ok(()),
        }
    }

    /// Whether a directory is `ancestor`, or somewhere below it.
    fn is_within(&self, dir: Ino, ancestor: Target) -> Result<bool, StoreError> {
        if ancestor.kind != Kind::Directory {
            return Ok(false);
        }
        let mut at = dir;
        while at != ancestor.ino {
            if at == Ino::ROOT {
                return Ok(false);
            }
            at = self.inodes.get(at)?.directory()?.parent;
        }
        Ok(true)
    }

    fn check_replaceable(&self, from: Target, replaced: Target) -> Result<(), StoreError> {
        match (
            from.kind == Kind::Directory,
            replaced.kind == Kind::Directory,
        ) {
            (true, false) => Err(StoreError::NotDirectory),
            (false, true) => Err(StoreError::IsDirectory),
            (true, true) if !self.inodes.get(replaced.ino)?.directory()?.is_empty() => {
                Err(StoreError::NotEmpty)
            }
            _ => Ok(()),
        }
    }

    /// To a name that is free.
    fn move_name(
        &mut self,
        from: EntryAt<'_>,
        to_dir: Ino,
        to_name: Name,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.remove_name(from.dir, from.name, from.target, now)?;
        self.add_name(to_dir, to_name, from.target, now)?;
        self.moved(from.target, to_dir, now)
    }

    /// To a name that is taken, whose inode loses it.
    fn replace(
        &mut self,
        from: EntryAt<'_>,
        to: EntryAt<'_>,
        now: Timestamp,
    ) -> Result<Unlinked, StoreError> {
        self.remove_name(from.dir, from.name, from.target, now)?;
        // A directory only replaces a directory: the number of sub-directories stays.
        self.redirect(to, from.target, now)?;
        self.moved(from.target, to.dir, now)?;
        self.lose_name(to.target, now)
    }

    fn exchange(
        &mut self,
        a: EntryAt<'_>,
        b: EntryAt<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.redirect(a, b.target, now)?;
        self.redirect(b, a.target, now)?;
        self.moved(a.target, b.dir, now)?;
        self.moved(b.target, a.dir, now)
    }

    /// Lets a name lead to another inode.
    fn redirect(
        &mut self,
        entry: EntryAt<'_>,
        target: Target,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inode = self.inodes.get_mut(entry.dir)?;
        inode
            .directory_mut()?
            .redirect(&self.hasher, entry.name, target);
        inode.nlink += u32::from(target.kind == Kind::Directory);
        inode.nlink -= u32::from(entry.target.kind == Kind::Directory);
        inode.modified(now);
        Ok(())
    }

    /// Tells an inode that it stands in `dir` now.
    fn moved(&mut self, target: Target, dir: Ino, now: Timestamp) -> Result<(), StoreError> {
        let inode = self.inodes.get_mut(target.ino)?;
        inode.changed(now);
        if target.kind == Kind::Directory {
            inode.directory_mut()?.parent = dir;
        }
        Ok(())
    }
}
