//! Changing a mounted tree past the kernel, and what the kernel must then be told.

use std::collections::BTreeSet;

use super::file::Flags;
use crate::fuse::Notifier;
use crate::store::{
    Cookie, Ino, Kind, Name, NewInode, NewKind, PAGE_SIZE, RenameMode, Resource, SetAttr, Source,
    StoreError, Timestamp, TreePath,
};
use crate::view::{Handle, Locked, Opener};

type Result<T> = std::result::Result<T, StoreError>;

/// Something that the kernel may have cached and that is no longer so.
#[derive(Debug)]
pub(super) enum StaleCache {
    /// What a name means.
    Entry(Ino, Name),
    /// An inode's attributes and pages.
    Inode(Ino),
}

impl StaleCache {
    pub fn tell(&self, notifier: &Notifier) {
        let told = match self {
            Self::Entry(parent, name) => notifier.entry_changed(*parent, name),
            Self::Inode(ino) => notifier.inode_changed(*ino),
        };
        // It fails when the mount is gone, and then nothing is cached any more.
        if let Err(error) = told {
            log::debug!("the kernel could not be told of {self:?}: {error}");
        }
    }
}

/// One change to the tree: under the lock, with a note of everything that becomes stale.
#[derive(Debug)]
pub(super) struct Edit<'v> {
    view: Locked<'v>,
    owner: (u32, u32),
    now: Timestamp,
    stale: Vec<StaleCache>,
    /// Directories with other names in them. The kernel would tell a cached listing of them by another time, and two
    /// changes within a tick of the clock have the same.
    listings: BTreeSet<Ino>,
}

impl<'v> Edit<'v> {
    pub fn new(view: Locked<'v>, owner: (u32, u32)) -> Self {
        Self {
            view,
            owner,
            now: Timestamp::now(),
            stale: Vec::new(),
            listings: BTreeSet::new(),
        }
    }

    /// Lets go of the lock and tells what became stale, also after a failure.
    pub fn finish(self) -> Vec<StaleCache> {
        let mut stale = self.stale;
        stale.extend(self.listings.into_iter().map(StaleCache::Inode));
        stale
    }

    /// The file of this name, made empty with the directories above it if it is not there.
    pub fn file_at(&mut self, path: &TreePath) -> Result<Ino> {
        let (above, name) = split(path)?;
        let parent = self.make_directories(&above)?;
        match self.view.lookup(parent, name.as_bytes()) {
            Err(StoreError::NotFound) => self.create(parent, name, NewKind::File, 0o644),
            // What a source was to make is not needed any more.
            Ok(ino) if self.view.has_source(ino) => {
                self.remove_one(parent, name, ino)?;
                self.create(parent, name, NewKind::File, 0o644)
            }
            Ok(ino) => {
                self.view.note_name(ino, parent, name.as_bytes());
                Ok(ino)
            }
            Err(error) => Err(error),
        }
    }

    /// A file that a source makes when it is needed, instead of what has this name.
    pub fn place_source(&mut self, path: &TreePath, source: Source) -> Result<()> {
        let (above, name) = split(path)?;
        let parent = self.make_directories(&above)?;
        match self.view.lookup(parent, name.as_bytes()) {
            Err(StoreError::NotFound) => {}
            Ok(ino) => match self.view.attr_unmade(ino)?.kind {
                Kind::Directory => return Err(StoreError::IsDirectory),
                _ => self.remove_one(parent, name, ino)?,
            },
            Err(error) => return Err(error),
        }
        let ino = self.create(parent, name, NewKind::File, 0o644)?;
        self.view.set_source(ino, source, self.now)
    }

    /// Opens a file for our own API, and refers to it.
    pub fn open(
        &mut self,
        path: &TreePath,
        flags: Flags,
        by: u32,
    ) -> Result<(Ino, Option<Handle>)> {
        let ino = self.find_or_create(path, flags)?;
        match self.view.attr_unmade(ino)?.kind {
            Kind::File => {}
            Kind::Directory => return Err(StoreError::IsDirectory),
            _ => return Err(StoreError::NotSupported),
        }
        if flags.truncate && flags.writes() {
            self.stale.push(StaleCache::Inode(ino));
            self.resize(ino, 0)?;
        }
        if self.view.is_observed() {
            return Ok((
                ino,
                Some(self.view.open(ino, Opener::Own(by), flags.writes())?),
            ));
        }
        self.view.take_reference(ino);
        Ok((ino, None))
    }

    /// The file of this name, made if it is not there.
    pub fn file_to_append(&mut self, path: &TreePath) -> Result<Ino> {
        let flags = Flags {
            create: true,
            ..Flags::default()
        };
        self.find_or_create(path, flags)
    }

    fn find_or_create(&mut self, path: &TreePath, flags: Flags) -> Result<Ino> {
        let (above, name) = split(path)?;
        let creates = flags.create || flags.create_new;
        let parent = match creates {
            true => self.make_directories(&above)?,
            false => self.view.resolve(&above)?,
        };
        match self.view.lookup(parent, name.as_bytes()) {
            Ok(_) if flags.create_new => Err(StoreError::Exists),
            Err(StoreError::NotFound) if creates => self.create(parent, name, NewKind::File, 0o644),
            found => {
                let ino = found?;
                self.view.note_name(ino, parent, name.as_bytes());
                Ok(ino)
            }
        }
    }

    fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.view.note_resized(ino);
        self.view.set_attr(ino, &change, self.now).map(drop)
    }

    /// The directory of these names, made with those above it.
    pub fn make_directories(&mut self, path: &TreePath) -> Result<Ino> {
        let mut dir = Ino::ROOT;
        for name in path.names() {
            dir = match self.view.lookup(dir, name.as_bytes()) {
                Err(StoreError::NotFound) => self.create(dir, name, NewKind::Directory, 0o755)?,
                found => found?,
            };
        }
        match self.view.attr_unmade(dir)?.kind {
            Kind::Directory => Ok(dir),
            _ => Err(StoreError::NotDirectory),
        }
    }

    /// A directory in which all users may write, and that is not listed.
    pub fn hidden_directory(&mut self, path: &TreePath) -> Result<()> {
        let ino = self.make_directories(path)?;
        let change = SetAttr {
            mode: Some(0o1777),
            ..SetAttr::default()
        };
        self.view.set_attr(ino, &change, self.now)?;
        self.view.hide(ino);
        Ok(())
    }

    fn create(&mut self, parent: Ino, name: &Name, kind: NewKind, mode: u32) -> Result<Ino> {
        let (uid, gid) = self.owner;
        let attr = self.view.create(
            parent,
            name.clone(),
            NewInode {
                kind,
                mode,
                uid,
                gid,
            },
            self.now,
        )?;
        self.stale.push(StaleCache::Entry(parent, name.clone()));
        self.listings.insert(parent);
        Ok(attr.ino)
    }

    /// Replaces a file's content; at the limit, nothing has changed.
    pub fn replace_content(&mut self, ino: Ino, bytes: &[u8]) -> Result<()> {
        let attr = self.view.attr(ino)?;
        match attr.kind {
            Kind::File => {}
            Kind::Directory => return Err(StoreError::IsDirectory),
            _ => return Err(StoreError::NotSupported),
        }
        let usage = self.view.usage();
        let needed = (bytes.len() as u64).next_multiple_of(PAGE_SIZE);
        if usage.bytes.saturating_sub(attr.blocks * 512) + needed > usage.limits.bytes {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.stale.push(StaleCache::Inode(ino));
        self.resize(ino, 0)?;
        match self.view.write(ino, 0, bytes, self.now)? {
            written if written == bytes.len() => {
                self.view.note_written(ino);
                Ok(())
            }
            _ => Err(StoreError::NoSpace(Resource::Bytes)),
        }
    }

    /// Adds to a file's content; at the limit, nothing has changed.
    pub fn append(&mut self, ino: Ino, bytes: &[u8]) -> Result<()> {
        let attr = self.view.attr(ino)?;
        match attr.kind {
            Kind::File => {}
            Kind::Directory => return Err(StoreError::IsDirectory),
            _ => return Err(StoreError::NotSupported),
        }
        self.stale.push(StaleCache::Inode(ino));
        self.view.note_resized(ino);
        let written = self.view.write(ino, attr.size, bytes, self.now)?;
        if written < bytes.len() {
            self.resize(ino, attr.size)?;
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.view.note_written(ino);
        Ok(())
    }

    /// Moves a name, and replaces what has the new one.
    pub fn rename(&mut self, from: &TreePath, to: &TreePath) -> Result<()> {
        let (from_above, from_name) = split(from)?;
        let (to_above, to_name) = split(to)?;
        let from_dir = self.view.resolve(&from_above)?;
        let moved = self.view.lookup(from_dir, from_name.as_bytes())?;
        let to_dir = self.make_directories(&to_above)?;
        let replaced = self.view.lookup(to_dir, to_name.as_bytes()).ok();
        self.view.rename(
            (from_dir, from_name.as_bytes()),
            (to_dir, to_name.clone()),
            RenameMode::Replace,
            self.now,
        )?;
        let inodes = [Some(moved), replaced];
        self.stale
            .push(StaleCache::Entry(from_dir, from_name.clone()));
        self.stale.push(StaleCache::Entry(to_dir, to_name.clone()));
        self.stale
            .extend(inodes.into_iter().flatten().map(StaleCache::Inode));
        self.listings.extend([from_dir, to_dir]);
        Ok(())
    }

    /// Changes permission bits.
    pub fn set_mode(&mut self, path: &TreePath, mode: u32) -> Result<()> {
        let ino = self.view.resolve(path.names())?;
        let change = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.view.set_attr(ino, &change, self.now)?;
        self.stale.push(StaleCache::Inode(ino));
        Ok(())
    }

    /// Makes a symlink.
    pub fn symlink(&mut self, path: &TreePath, target: Vec<u8>) -> Result<()> {
        let (above, name) = split(path)?;
        let parent = self.make_directories(&above)?;
        self.create(parent, name, NewKind::Symlink(target), 0o777)
            .map(drop)
    }

    /// Removes a file, or a directory with everything below it.
    pub fn remove(&mut self, path: &TreePath) -> Result<()> {
        let (above, name) = split(path)?;
        let parent = self.view.resolve(&above)?;
        // Deepest first: a directory is met a second time when all below it are gone.
        let mut left = vec![(parent, name.clone())];
        while let Some((parent, name)) = left.pop() {
            let ino = self.view.lookup(parent, name.as_bytes())?;
            let below = self.names_below(ino)?;
            if below.is_empty() {
                self.remove_one(parent, &name, ino)?;
            } else {
                left.push((parent, name));
                left.extend(below.into_iter().map(|name| (ino, name)));
            }
        }
        Ok(())
    }

    fn names_below(&self, ino: Ino) -> Result<Vec<Name>> {
        if self.view.attr_unmade(ino)?.kind != Kind::Directory {
            return Ok(Vec::new());
        }
        Ok(self
            .view
            .entries(ino, Cookie::default())?
            .map(|entry| entry.name.clone())
            .collect())
    }

    fn remove_one(&mut self, parent: Ino, name: &Name, ino: Ino) -> Result<()> {
        match self.view.attr_unmade(ino)?.kind {
            Kind::Directory => self.view.rmdir(parent, name.as_bytes(), self.now)?,
            _ => self.view.unlink(parent, name.as_bytes(), self.now)?,
        }
        self.stale.push(StaleCache::Entry(parent, name.clone()));
        self.stale.push(StaleCache::Inode(ino));
        self.listings.insert(parent);
        Ok(())
    }
}

/// The directory above, and the last name, which the root has not.
fn split(path: &TreePath) -> Result<(TreePath, &Name)> {
    let above = path.parent().zip(path.file_name());
    above.ok_or(StoreError::InvalidArgument)
}
