//! Attributes, extended attributes and symlinks' targets.

use std::sync::Arc;

use super::{MODE_BITS, Tree};
use crate::store::content::Data;
use crate::store::error::StoreError;
use crate::store::inode::{Attr, Body, Ino, SetAttr, Timestamp};
use crate::store::xattr::Xattrs;

impl Tree {
    /// Attributes.
    ///
    /// # Errors
    ///
    /// `NotFound` for an inode that was freed.
    pub fn attr(&self, ino: Ino) -> Result<Attr, StoreError> {
        Ok(self.inodes.get(ino)?.attr(ino))
    }

    /// Changes attributes, all or none.
    ///
    /// A size sets `mtime` and frees what is allocated past it, also when it is the same size, as
    /// tmpfs does. Set-id bits go only where the caller asks for it by `mode`.
    ///
    /// # Errors
    ///
    /// `NotFound`; for a size `IsDirectory`, `InvalidArgument` (neither file nor directory) and
    /// `TooLarge`, and `NoSpace` when a shared part cannot be copied for want of memory;
    /// `NotSupported` for a symlink's mode.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Kind, Limits, Name, NewInode, NewKind, SetAttr, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// let new = NewInode { kind: NewKind::Symlink(b"to".into()), mode: 0o777, uid: 0, gid: 0 };
    /// let link = tree.create(Ino::ROOT, Name::new(b"link")?, new, now)?.ino;
    /// tree.set_attr(link, &SetAttr { uid: Some(1000), ..SetAttr::default() }, now)?;
    /// let attr = tree.attr(link)?;
    /// assert_eq!((attr.kind, attr.uid, attr.size), (Kind::Symlink, 1000, 2));
    /// assert_eq!(&*tree.read_link(link)?, b"to");
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn set_attr(
        &mut self,
        ino: Ino,
        change: &SetAttr,
        now: Timestamp,
    ) -> Result<Attr, StoreError> {
        let inode = self.inodes.get(ino)?;
        if *change == SetAttr::default() {
            return Ok(inode.attr(ino));
        }
        if change.mode.is_some() && matches!(inode.body, Body::Symlink(_)) {
            return Err(StoreError::NotSupported);
        }
        let inode = self.inodes.get_mut(ino)?;
        if let Some(size) = change.size {
            inode.content_mut()?.resize(size, &mut self.quota)?;
            inode.mtime = now;
        }
        inode.mode = change.mode.map_or(inode.mode, |mode| mode & MODE_BITS);
        inode.uid = change.uid.unwrap_or(inode.uid);
        inode.gid = change.gid.unwrap_or(inode.gid);
        inode.atime = change.atime.unwrap_or(inode.atime);
        inode.mtime = change.mtime.unwrap_or(inode.mtime);
        inode.changed(change.ctime.unwrap_or(now));
        Ok(inode.attr(ino))
    }

    /// A symlink's target.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidArgument` for anything else, as readlink(2).
    pub fn read_link(&self, ino: Ino) -> Result<Data, StoreError> {
        match &self.inodes.get(ino)?.body {
            Body::Symlink(target) => Ok(Data::from(target.clone())),
            _ => Err(StoreError::InvalidArgument),
        }
    }

    /// An extended attribute's value.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NoAttribute`.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<&Arc<[u8]>, StoreError> {
        self.inodes
            .get(ino)?
            .xattrs
            .as_ref()
            .ok_or(StoreError::NoAttribute)?
            .get(name)
    }

    /// The names of all extended attributes, in order.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn xattr_names(&self, ino: Ino) -> Result<impl Iterator<Item = &[u8]>, StoreError> {
        Ok(self
            .inodes
            .get(ino)?
            .xattrs
            .iter()
            .flat_map(|xattrs| xattrs.names()))
    }

    /// Sets an extended attribute. `create`: it must not exist; `replace`: it must.
    ///
    /// An inode's attributes are charged together, rounded up to pages. See setxattr(2).
    ///
    /// # Errors
    ///
    /// `NotFound`; `Exists` (`create`); `NoAttribute` (`replace`); `InvalidArgument` for an empty
    /// name; `AttributeTooLarge`; `NoSpace` over the limit, and when the inode's names together
    /// would be longer than listxattr(2) can tell, 64 KiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::store::{Ino, Limits, StoreError, Timestamp, Tree};
    ///
    /// let now = Timestamp::now();
    /// let mut tree = Tree::new(Limits { bytes: 1 << 20, inodes: 100 }, 0o755, 0, 0, now);
    ///
    /// tree.set_xattr(Ino::ROOT, b"user.origin", b"here", true, false, now)?;
    /// assert_eq!(&**tree.xattr(Ino::ROOT, b"user.origin")?, b"here");
    /// assert_eq!(tree.xattr_names(Ino::ROOT)?.count(), 1);
    /// tree.remove_xattr(Ino::ROOT, b"user.origin", now)?;
    /// assert_eq!(tree.xattr(Ino::ROOT, b"user.origin"), Err(StoreError::NoAttribute));
    /// # Ok::<(), notapipe::store::StoreError>(())
    /// ```
    pub fn set_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let exists = self.xattr(ino, name);
        match exists {
            Ok(_) if create => return Err(StoreError::Exists),
            Err(StoreError::NotFound) => return Err(StoreError::NotFound),
            Err(error) if replace => return Err(error),
            _ => {}
        }
        self.change_xattrs(ino, now, |xattrs| xattrs.set(name, value))
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NoAttribute`.
    pub fn remove_xattr(
        &mut self,
        ino: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.change_xattrs(ino, now, |xattrs| xattrs.remove(name))
    }

    /// Changes the attributes of an inode and what they are charged, or neither.
    fn change_xattrs(
        &mut self,
        ino: Ino,
        now: Timestamp,
        change: impl FnOnce(&mut Xattrs) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Changed in a copy, since the limit may refuse it: attributes are few, and values shared.
        let current = self.inodes.get(ino)?.xattrs.as_deref();
        let mut changed = current.cloned().unwrap_or_default();
        let (before, after) = (changed.pages(), {
            change(&mut changed)?;
            changed.pages()
        });
        self.quota.take_pages(after.saturating_sub(before))?;
        self.quota.give_pages(before.saturating_sub(after));
        let inode = self.inodes.get_mut(ino)?;
        inode.xattrs = (!changed.is_empty()).then(|| Arc::new(changed));
        inode.changed(now);
        Ok(())
    }
}
