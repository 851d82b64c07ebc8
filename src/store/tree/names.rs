//! Names: looking up, making, linking and removing them.

use bytes::Bytes;

use super::{MODE_BITS, Tree};
use crate::store::content::Content;
use crate::store::directory::{Cookie, Directory, Entry, Target};
use crate::store::error::StoreError;
use crate::store::inode::{Attr, Body, Ino, Inode, Kind, NewInode, NewKind, Timestamp};
use crate::store::name::Name;

/// Most links of an inode.
const LINK_MAX: u32 = i32::MAX as u32;
/// Longest target of a symlink: `PATH_MAX` without its NUL.
const TARGET_MAX: usize = 4095;
const SYMLINK_MODE: u32 = 0o777;
const SET_GROUP_ID: u32 = 0o2000;

/// An inode that lost a name.
///
/// See [`Tree::unlink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// The inode.
    pub ino: Ino,
    /// No name is left: the caller must [`free`](Tree::free) it once it is not used any more.
    pub orphaned: bool,
}

impl Tree {
    /// The inode that a directory's entry names. `name` may be any bytes.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotDirectory`.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Ino, StoreError> {
        self.target(parent, name).map(|target| target.ino)
    }

    /// The inode at a path below the root: components, symlinks not followed. Empty is the root.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotDirectory`.
    pub fn resolve<'n>(&self, path: impl IntoIterator<Item = &'n Name>) -> Result<Ino, StoreError> {
        path.into_iter()
            .try_fold(Ino::ROOT, |dir, name| self.lookup(dir, name.as_bytes()))
    }

    /// The directory that holds a directory (the root for the root): its `..`.
    ///
    /// # Errors
    ///
    /// `NotDirectory`; `NotFound` also for a directory that was removed.
    pub fn parent(&self, dir: Ino) -> Result<Ino, StoreError> {
        Ok(self.live_directory(dir)?.parent)
    }

    /// The entries of a directory after a position, in order of their cookies, without `.` and `..`.
    ///
    /// Reading a directory of n entries costs O(n) in all, also in pieces.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotDirectory`.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Cookie, Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree, TreePath};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = |kind| NewInode { kind, mode: 0o755, uid: 0, gid: 0 };
    /// let dir = tree.create(Ino::ROOT, Name::new(b"dir")?, new(NewKind::Directory), now)?.ino;
    /// let file = tree.create(dir, Name::new(b"file")?, new(NewKind::File), now)?.ino;
    ///
    /// let entry = tree.entries(dir, Cookie::default())?.next().unwrap();
    /// assert_eq!((entry.name.as_bytes(), entry.ino), (&b"file"[..], file));
    /// assert_eq!(tree.entries(dir, entry.cookie)?.count(), 0);
    /// assert_eq!(tree.lookup(dir, b"file")?, file);
    /// assert_eq!(tree.resolve(TreePath::parse("dir/file").unwrap().names())?, file);
    /// assert_eq!(tree.parent(dir)?, Ino::ROOT);
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn entries(
        &self,
        dir: Ino,
        after: Cookie,
    ) -> Result<impl Iterator<Item = Entry<'_>>, StoreError> {
        Ok(self.inodes.get(dir)?.directory()?.entries(after))
    }

    /// Makes an inode with one name.
    ///
    /// Below a set-group-id directory it gets that directory's group, a directory the bit as well
    /// (inode(7)). A symlink's mode is always 0777.
    ///
    /// # Errors
    ///
    /// `Exists`, `NotDirectory`, `NoSpace`; `NotFound` when the parent was removed; for a symlink's
    /// target `InvalidArgument` (empty or with a NUL byte) or `NameTooLong` (over 4095 bytes);
    /// `TooManyLinks` for a directory.
    pub fn create(
        &mut self,
        parent: Ino,
        name: Name,
        new: NewInode,
        now: Timestamp,
    ) -> Result<Attr, StoreError> {
        if self
            .live_directory(parent)?
            .get(&self.hasher, name.as_bytes())
            .is_some()
        {
            return Err(StoreError::Exists);
        }
        let inode = new_inode(new, parent, self.inodes.get(parent)?, now)?;
        self.check_room_for_links(parent, inode.body.kind())?;
        self.quota.take_inode()?;
        if let Err(error) = self.quota.take_pages(inode.charged_pages()) {
            self.quota.give_inode();
            return Err(error);
        }
        let ino = self.new_ino();
        let attr = inode.attr(ino);
        self.add_name(parent, name, inode.target(ino), now)?;
        self.inodes.insert(ino, inode);
        Ok(attr)
    }

    /// Gives an inode another name; not a directory.
    ///
    /// The name is charged as one inode, as on tmpfs.
    ///
    /// # Errors
    ///
    /// `NotPermitted` for a directory, `Exists`, `NotDirectory`, `TooManyLinks`, `NoSpace`;
    /// `NotFound` also for an inode whose last name is gone, and in a directory that was removed.
    pub fn link(
        &mut self,
        ino: Ino,
        parent: Ino,
        name: Name,
        now: Timestamp,
    ) -> Result<Attr, StoreError> {
        let inode = self.inodes.get(ino)?;
        let target = inode.target(ino);
        if target.kind == Kind::Directory {
            return Err(StoreError::NotPermitted);
        }
        if inode.nlink == 0 {
            return Err(StoreError::NotFound);
        }
        if self
            .live_directory(parent)?
            .get(&self.hasher, name.as_bytes())
            .is_some()
        {
            return Err(StoreError::Exists);
        }
        if inode.nlink >= LINK_MAX {
            return Err(StoreError::TooManyLinks);
        }
        self.quota.take_inode()?;
        self.add_name(parent, name, target, now)?;
        let inode = self.inodes.get_mut(ino)?;
        inode.nlink += 1;
        inode.changed(now);
        Ok(inode.attr(ino))
    }

    /// Removes a name of anything but a directory.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotDirectory` (the parent), `IsDirectory`.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, StoreError, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = |kind| NewInode { kind, mode: 0o755, uid: 0, gid: 0 };
    /// let file = tree.create(Ino::ROOT, Name::new(b"a")?, new(NewKind::File), now)?.ino;
    /// tree.link(file, Ino::ROOT, Name::new(b"b")?, now)?;
    /// assert!(!tree.unlink(Ino::ROOT, b"a", now)?.orphaned);
    /// assert!(tree.unlink(Ino::ROOT, b"b", now)?.orphaned);
    ///
    /// // A process that has it open goes on; then it is freed.
    /// tree.write(file, 0, b"still there", now)?;
    /// assert_eq!(tree.orphans().collect::<Vec<_>>(), [file]);
    /// tree.free(file);
    /// assert_eq!(tree.attr(file), Err(StoreError::NotFound));
    ///
    /// tree.create(Ino::ROOT, Name::new(b"dir")?, new(NewKind::Directory), now)?;
    /// assert!(tree.rmdir(Ino::ROOT, b"dir", now)?.orphaned);
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn unlink(
        &mut self,
        parent: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Unlinked, StoreError> {
        let target = self.target(parent, name)?;
        if target.kind == Kind::Directory {
            return Err(StoreError::IsDirectory);
        }
        self.remove_name(parent, name, target, now)?;
        self.lose_name(target, now)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotDirectory`, `NotEmpty`.
    pub fn rmdir(
        &mut self,
        parent: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Unlinked, StoreError> {
        let target = self.target(parent, name)?;
        if !self.inodes.get(target.ino)?.directory()?.is_empty() {
            return Err(StoreError::NotEmpty);
        }
        self.remove_name(parent, name, target, now)?;
        self.lose_name(target, now)
    }

    /// What a directory's entry leads to.
    pub(super) fn target(&self, parent: Ino, name: &[u8]) -> Result<Target, StoreError> {
        let directory = self.inodes.get(parent)?.directory()?;
        directory
            .get(&self.hasher, name)
            .ok_or(StoreError::NotFound)
    }

    /// A directory that was not removed.
    pub(super) fn live_directory(&self, ino: Ino) -> Result<&Directory, StoreError> {
        let inode = self.inodes.get(ino)?;
        let directory = inode.directory()?;
        if inode.nlink == 0 {
            Err(StoreError::NotFound)
        } else {
            Ok(directory)
        }
    }

    /// Whether a directory can hold another sub-directory, if it is to get one.
    pub(super) fn check_room_for_links(&self, parent: Ino, kind: Kind) -> Result<(), StoreError> {
        let full = kind == Kind::Directory && self.inodes.get(parent)?.nlink >= LINK_MAX;
        if full {
            Err(StoreError::TooManyLinks)
        } else {
            Ok(())
        }
    }

    /// Puts a name that is free into a directory.
    pub(super) fn add_name(
        &mut self,
        parent: Ino,
        name: Name,
        target: Target,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inode = self.inodes.get_mut(parent)?;
        inode.directory_mut()?.add(&self.hasher, name, target);
        inode.nlink += u32::from(target.kind == Kind::Directory);
        inode.modified(now);
        Ok(())
    }

    /// Takes a name out of a directory; its inode is for the caller.
    pub(super) fn remove_name(
        &mut self,
        parent: Ino,
        name: &[u8],
        target: Target,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let inode = self.inodes.get_mut(parent)?;
        inode.directory_mut()?.remove(&self.hasher, name);
        inode.nlink -= u32::from(target.kind == Kind::Directory);
        inode.modified(now);
        Ok(())
    }

    /// Counts a name less; without any the inode is an orphan. A directory only ever has one.
    pub(super) fn lose_name(
        &mut self,
        target: Target,
        now: Timestamp,
    ) -> Result<Unlinked, StoreError> {
        let inode = self.inodes.get_mut(target.ino)?;
        inode.nlink = if target.kind == Kind::Directory {
            0
        } else {
            inode.nlink - 1
        };
        inode.changed(now);
        let orphaned = inode.nlink == 0;
        if orphaned {
            self.orphans.insert(target.ino);
        } else {
            self.quota.give_inode(); // the one that the hard link was charged as
        }
        Ok(Unlinked {
            ino: target.ino,
            orphaned,
        })
    }
}

/// An inode to be made in a directory, not charged yet.
pub(super) fn new_inode(
    new: NewInode,
    parent: Ino,
    dir: &Inode,
    now: Timestamp,
) -> Result<Inode, StoreError> {
    let mut mode = new.mode & MODE_BITS;
    let inherits = dir.mode & SET_GROUP_ID != 0;
    let gid = if inherits { dir.gid } else { new.gid };
    let body = match new.kind {
        NewKind::File => Body::File(Content::default()),
        NewKind::Directory => {
            mode |= if inherits { SET_GROUP_ID } else { 0 };
            Body::Directory(Box::new(Directory::new(parent)))
        }
        NewKind::Symlink(target) => {
            mode = SYMLINK_MODE;
            Body::Symlink(checked_target(target)?)
        }
        NewKind::Fifo => Body::Fifo,
        NewKind::Socket => Body::Socket,
        NewKind::CharDevice(number) => Body::CharDevice(number),
        NewKind::BlockDevice(number) => Body::BlockDevice(number),
    };
    Ok(Inode::new(body, mode, (new.uid, gid), now))
}

fn checked_target(target: Vec<u8>) -> Result<Bytes, StoreError> {
    if target.is_empty() || target.contains(&0) {
        return Err(StoreError::InvalidArgument);
    }
    if target.len() > TARGET_MAX {
        return Err(StoreError::NameTooLong);
    }
    Ok(Bytes::from(target.into_boxed_slice()))
}
